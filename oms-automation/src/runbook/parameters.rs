//! What a runbook takes, and how it is handed over.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The most parameters of one runbook or job.
pub const PARAMETERS_MAX: usize = 50;

/// The most bytes of all parameters of one job, as JSON text.
pub const PARAMETERS_BYTES_MAX: usize = 512 << 10;

/// The most bytes of one value as text: what Linux takes as one program argument
/// (`MAX_ARG_STRLEN`, with its final NUL).
pub const ARGUMENT_BYTES_MAX: usize = (128 << 10) - 1;

/// The most characters of a parameter's name.
pub const NAME_CHARACTERS_MAX: usize = 128;

/// What values a parameter takes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ParameterType {
    /// Any value.
    #[default]
    Any,
    /// A JSON string.
    String,
    /// A JSON number without fraction.
    Integer,
    /// A JSON number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A JSON array.
    Array,
    /// A JSON object.
    Object,
}

impl ParameterType {
    fn accepts(self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

/// One parameter that a runbook declares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ParameterDefinition {
    /// Its name.
    pub name: String,
    /// What values it takes.
    pub parameter_type: ParameterType,
    /// Whether a job cannot be started without it. It then has no default.
    pub is_mandatory: bool,
    /// The value if none is given.
    pub default_value: Option<Value>,
}

/// One value of a job, in its place among the program's arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Argument {
    /// The parameter's name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl Argument {
    /// The value as one program argument: a string as it is, anything else as JSON text.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// A parameter's name and what is wrong with it.
pub(crate) type Refusal = (String, String);

/// Checks what a runbook declares. The order of the definitions is the order of the arguments.
pub(crate) fn check_definitions(definitions: &[ParameterDefinition]) -> Result<(), Refusal> {
    if definitions.len() > PARAMETERS_MAX {
        let reason = format!("{} parameters, limit {PARAMETERS_MAX}", definitions.len());
        return Err((String::new(), reason));
    }
    for (index, definition) in definitions.iter().enumerate() {
        let refuse = |reason: &str| Err((definition.name.clone(), reason.to_owned()));
        if let Err(reason) = check_name(&definition.name) {
            return refuse(reason);
        }
        if definitions[..index].iter().any(|other| same_name(&other.name, &definition.name)) {
            return refuse("declared twice");
        }
        if definition.is_mandatory && definition.default_value.is_some() {
            return refuse("is mandatory and has a default");
        }
        if let Some(value) = &definition.default_value {
            check_value(definition, value)?;
        }
    }
    Ok(())
}

/// Puts the given values into the order of the program's arguments.
///
/// With definitions, that is their order: a default stands in for what is not given, an optional
/// parameter without one is an empty text if a later one is given, and a name that is not declared
/// is refused. Without definitions, as Azure Automation's Python runbooks have none, it is the order
/// of the names, where digits compare as numbers: `[PARAMETER 2]` is before `[PARAMETER 10]`.
pub(crate) fn bind(
    definitions: &[ParameterDefinition],
    mut given: BTreeMap<String, Value>,
) -> Result<Vec<Argument>, Refusal> {
    if given.len() > PARAMETERS_MAX {
        return Err((String::new(), format!("{} parameters, limit {PARAMETERS_MAX}", given.len())));
    }
    let arguments = if definitions.is_empty() {
        let mut arguments: Vec<_> =
            given.into_iter().map(|(name, value)| Argument { name, value }).collect();
        arguments.sort_by(|a, b| natural_order(&a.name, &b.name));
        arguments
    } else {
        let arguments = bind_declared(definitions, &mut given)?;
        if let Some(name) = given.into_keys().next() {
            return Err((name, "the runbook declares no such parameter".to_owned()));
        }
        arguments
    };
    for argument in &arguments {
        check_argument(argument).map_err(|reason| (argument.name.clone(), reason))?;
    }
    Ok(arguments)
}

fn bind_declared(
    definitions: &[ParameterDefinition],
    given: &mut BTreeMap<String, Value>,
) -> Result<Vec<Argument>, Refusal> {
    let mut arguments = Vec::new();
    let mut is_trailing_gap = 0;
    for definition in definitions {
        let name = definition.name.clone();
        let key = given.keys().find(|key| same_name(key, &name)).cloned();
        let value = key.and_then(|key| given.remove(&key)).filter(|value| !value.is_null());
        if let Some(value) = &value {
            check_value(definition, value)?;
        }
        match value.or_else(|| definition.default_value.clone()) {
            Some(value) => {
                is_trailing_gap = 0;
                arguments.push(Argument { name, value });
            }
            None if definition.is_mandatory => {
                return Err((name, "is mandatory and was not given".to_owned()));
            }
            None => {
                is_trailing_gap += 1;
                arguments.push(Argument { name, value: Value::String(String::new()) });
            }
        }
    }
    arguments.truncate(arguments.len() - is_trailing_gap);
    Ok(arguments)
}

/// Azure Automation compares parameter names without regard to case.
fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("has no name");
    }
    if name.chars().count() > NAME_CHARACTERS_MAX {
        return Err("its name is longer than 128 characters");
    }
    if name.chars().any(char::is_control) {
        return Err("its name has a control character");
    }
    Ok(())
}

fn check_value(definition: &ParameterDefinition, value: &Value) -> Result<(), Refusal> {
    if definition.parameter_type.accepts(value) {
        return Ok(());
    }
    let reason = format!("the value is not of type {:?}", definition.parameter_type);
    Err((definition.name.clone(), reason))
}

fn check_argument(argument: &Argument) -> Result<(), String> {
    check_name(&argument.name)?;
    let text = argument.text();
    if let Some(at) = text.find('\0') {
        return Err(format!(
            "has a NUL character at byte {at}, which no program argument can hold"
        ));
    }
    if text.len() > ARGUMENT_BYTES_MAX {
        return Err(format!("is {} bytes as text, limit {ARGUMENT_BYTES_MAX}", text.len()));
    }
    Ok(())
}

/// Orders names so that runs of digits compare as numbers.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (x, y) = (leading_part(left), leading_part(right));
        if x.is_empty() || y.is_empty() {
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        }
        let both_numbers = [x, y].iter().all(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        let order = if both_numbers {
            let (m, n) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            m.len().cmp(&n.len()).then_with(|| m.cmp(n))
        } else {
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (&left[x.len()..], &right[y.len()..]);
    }
}

/// The longest beginning that is all digits or has none.
fn leading_part(text: &str) -> &str {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn given(pairs: &[(&str, Value)]) -> BTreeMap<String, Value> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn texts(arguments: &[Argument]) -> Vec<String> {
        arguments.iter().map(Argument::text).collect()
    }

    fn declared(name: &str, is_mandatory: bool, default: Option<Value>) -> ParameterDefinition {
        ParameterDefinition {
            name: name.to_owned(),
            is_mandatory,
            default_value: default,
            ..ParameterDefinition::default()
        }
    }

    #[test]
    fn without_definitions_names_are_in_natural_order() {
        let values = given(&[
            ("[PARAMETER 10]", json!("ten")),
            ("[PARAMETER 2]", json!({"a": [1, null]})),
            ("[PARAMETER 1]", json!("it's \"one\"")),
        ]);
        let arguments = bind(&[], values).expect("fits");
        assert_eq!(texts(&arguments), ["it's \"one\"", "{\"a\":[1,null]}", "ten"]);
    }

    #[test]
    fn definitions_give_order_defaults_and_gaps() {
        let definitions = [
            declared("b", true, None),
            declared("gap", false, None),
            declared("a", false, Some(json!(7))),
        ];
        let arguments = bind(&definitions, given(&[("B", json!(true))])).expect("fits");
        assert_eq!(texts(&arguments), ["true", "", "7"]);
        let definitions = [declared("b", false, None), declared("c", false, None)];
        assert_eq!(texts(&bind(&definitions, given(&[("b", json!("x"))])).expect("fits")), ["x"]);
    }

    #[test]
    fn refusals_name_the_parameter() {
        let definitions = [declared("host", true, None)];
        let refused = |values| bind(&definitions, values).expect_err("refused").0;
        assert_eq!(refused(given(&[])), "host");
        assert_eq!(refused(given(&[("host", json!(1)), ("other", json!(2))])), "other");
        assert_eq!(refused(given(&[("host", json!("a\0b"))])), "host");
        let long = "x".repeat(ARGUMENT_BYTES_MAX + 1);
        assert_eq!(refused(given(&[("host", json!(long))])), "host");
        let typed = [ParameterDefinition {
            name: "count".into(),
            parameter_type: ParameterType::Integer,
            ..ParameterDefinition::default()
        }];
        assert!(bind(&typed, given(&[("count", json!(1.5))])).is_err());
        assert!(bind(&typed, given(&[("count", json!(2))])).is_ok());
        let twice = [declared("a", false, None), declared("A", false, None)];
        assert_eq!(check_definitions(&twice).expect_err("twice").0, "A");
    }

    proptest! {
        #[test]
        fn natural_order_is_total(names in prop::collection::vec("[a0-9]{0,6}", 3)) {
            let order = |a: usize, b: usize| natural_order(&names[a], &names[b]);
            prop_assert_eq!(order(0, 1), order(1, 0).reverse());
            prop_assert_eq!(order(0, 0), Ordering::Equal);
            if order(0, 1) != Ordering::Greater && order(1, 2) != Ordering::Greater {
                prop_assert_ne!(order(0, 2), Ordering::Greater);
            }
        }

        #[test]
        fn binding_never_panics(names in prop::collection::btree_map(".*", ".*", 0..6)) {
            let values = names.into_iter().map(|(k, v)| (k, Value::String(v))).collect();
            let _ = bind(&[], values);
        }
    }
}
