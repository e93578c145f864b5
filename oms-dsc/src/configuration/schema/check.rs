//! A document against the schemas of its classes.

use super::super::credential::CREDENTIAL_CLASS;
use super::super::keys::{self, Keyed};
use super::super::value::Resolver;
use super::{CheckOptions, PropertySchema, PropertyType, ResourceClass, Schemas};
use super::{is_secret_name, meant};
use crate::mof::{self, Diagnostic, Document, Instance, Position, Value, ValueKind};
use std::collections::{HashMap, HashSet};

/// What every resource may have, whatever its class extends.
const BASE_RESOURCE: &str = "OMI_BaseResource";

/// What is told to a configuration manager of itself: it has an id too, and is no resource.
const BASE_OF_SETTINGS: &str = "OMI_MetaConfigurationResource";

pub(super) struct Check<'a> {
    schemas: &'a Schemas,
    options: CheckOptions,
    named: HashMap<String, &'a Instance>,
    /// Aliased instances that were checked: each once, however often it is referred to.
    seen: HashSet<String>,
    /// Where values are that are not shown.
    hidden: HashSet<Position>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Check<'a> {
    pub(super) fn new(
        schemas: &'a Schemas,
        document: &'a Document,
        options: CheckOptions,
        hidden: HashSet<Position>,
    ) -> Self {
        let named = document.instances().filter_map(|instance| {
            instance.alias.as_ref().map(|alias| (alias.to_ascii_lowercase(), instance))
        });
        let named = named.collect();
        let seen = HashSet::new();
        Self { schemas, options, named, seen, hidden, diagnostics: Vec::new() }
    }

    fn report(&mut self, position: Position, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic { position, message: message.into() });
    }

    pub(super) fn run(mut self, document: &'a Document) -> Vec<Diagnostic> {
        for instance in document.instances() {
            if let Some(alias) = &instance.alias
                && !self.seen.insert(alias.to_ascii_lowercase())
            {
                continue;
            }
            self.instance(instance);
        }
        self.keys(document);
        self.diagnostics.sort_by_key(|diagnostic| diagnostic.position);
        self.diagnostics.truncate(mof::DIAGNOSTICS_MAX);
        self.diagnostics
    }

    /// The class and its properties; nothing if they are not known, which is reported where it is
    /// wrong.
    fn class(
        &mut self,
        instance: &Instance,
    ) -> Option<(&'a ResourceClass, Vec<&'a PropertySchema>)> {
        let schemas = self.schemas;
        let Some(class) = schemas.class(&instance.class) else {
            if self.options.refuses_unknown_classes {
                let known = schemas.classes().map(|class| class.name.as_str());
                let name = &instance.class;
                let message = match self.hidden.contains(&instance.position) {
                    true => "there is no schema of the class".to_owned(),
                    false => {
                        format!("there is no schema of the class `{name}`{}", meant(name, known))
                    }
                };
                self.report(instance.position, message);
            }
            return None;
        };
        match schemas.properties(class) {
            Ok(mut properties) => {
                // Schema files of older modules do not say what they extend.
                if instance.property("ResourceID").is_some()
                    && let Some(base) = schemas.class(BASE_RESOURCE)
                    && !schemas.is_a(class, BASE_RESOURCE)
                    && !schemas.is_a(class, BASE_OF_SETTINGS)
                {
                    properties.extend(&base.properties);
                }
                Some((class, properties))
            }
            Err(ancestor) => {
                let name = &class.name;
                let message =
                    format!("the class `{name}` extends `{ancestor}`, of which there is no schema");
                self.report(instance.position, message);
                None
            }
        }
    }

    fn instance(&mut self, instance: &'a Instance) {
        let Some((class, schema)) = self.class(instance) else {
            // What lies in it may have a known class.
            for property in &instance.properties {
                self.within(&property.value);
            }
            return;
        };
        for property in &instance.properties {
            let found = schema.iter().find(|known| known.name.eq_ignore_ascii_case(&property.name));
            let Some(found) = found else {
                let (name, class) = (&property.name, &class.name);
                let known = schema.iter().map(|known| known.name.as_str());
                let message = match self.hidden.contains(&property.value.position) {
                    true => format!("`{class}` has no property of that name"),
                    false => format!("`{class}` has no property `{name}`{}", meant(name, known)),
                };
                self.report(property.position, message);
                self.within(&property.value);
                continue;
            };
            if found.is_read_only && property.value.kind != ValueKind::Null {
                let name = &found.name;
                let message = format!("`{name}` can be read only, and is no wish");
                self.report(property.position, message);
            }
            self.value(found, &property.value);
        }
        for needed in schema.iter().filter(|known| known.is_key || known.is_required) {
            let given = instance.property(&needed.name).map(|property| &property.value.kind);
            if given.is_none_or(|kind| *kind == ValueKind::Null) {
                let what = if needed.is_key { "the key" } else { "the required property" };
                let (name, class) = (&needed.name, &class.name);
                let message = format!("{what} `{name}` of `{class}` is missing");
                self.report(instance.position, message);
            }
        }
    }

    /// Instances within a value whose own type is not known.
    fn within(&mut self, value: &'a Value) {
        match &value.kind {
            ValueKind::Instance(instance) => self.instance(instance),
            ValueKind::Array(values) => values.iter().for_each(|value| self.within(value)),
            _ => {}
        }
    }

    fn value(&mut self, schema: &PropertySchema, value: &'a Value) {
        match (&value.kind, schema.is_array) {
            (ValueKind::Null, _) => {}
            (ValueKind::Array(values), true) => {
                values.iter().for_each(|value| self.element(schema, value));
            }
            (ValueKind::Array(_), false) => {
                let (name, wanted) = (&schema.name, schema.value_type.describe());
                self.report(value.position, format!("`{name}` is an array, not {wanted}"));
                self.within(value);
            }
            // One element without braces is an array of it, as compilers write it.
            (_, _) => self.element(schema, value),
        }
    }

    fn element(&mut self, schema: &PropertySchema, value: &'a Value) {
        let is_right = match (&schema.value_type, &value.kind) {
            (_, ValueKind::Null)
            | (PropertyType::Boolean, ValueKind::Boolean(_))
            | (PropertyType::Real, ValueKind::Real(_) | ValueKind::Integer(_))
            | (PropertyType::Char, ValueKind::Char(_))
            | (PropertyType::Text, ValueKind::Text(_) | ValueKind::Char(_)) => true,
            (PropertyType::Unsigned(bits), ValueKind::Integer(number)) => {
                *number >= 0 && *number <= i128::from(u64::MAX >> (64 - bits))
            }
            (PropertyType::Signed(bits), ValueKind::Integer(number)) => {
                let most = i128::from(i64::MAX >> (64 - bits));
                (-most - 1..=most).contains(number)
            }
            (PropertyType::Char, ValueKind::Integer(number)) => (0..=0xffff).contains(number),
            (PropertyType::DateTime, ValueKind::Text(text)) => is_datetime(text),
            (PropertyType::Instance(_) | PropertyType::Object, ValueKind::Instance(instance)) => {
                self.instance(instance);
                return self.embedded(schema, instance, value.position);
            }
            (PropertyType::Instance(_) | PropertyType::Object, ValueKind::Alias(alias)) => {
                // One that names nothing is a diagnostic of the parser.
                if let Some(instance) = self.named.get(&alias.to_ascii_lowercase()).copied() {
                    self.embedded(schema, instance, value.position);
                }
                return;
            }
            _ => false,
        };
        if !is_right {
            let (name, wanted) = (&schema.name, schema.value_type.describe());
            let found = match &value.kind {
                ValueKind::Integer(number) if !self.hides(schema, value) => number.to_string(),
                ValueKind::Text(_) if schema.value_type == PropertyType::DateTime => {
                    "another string".to_owned()
                }
                _ => value.describe().to_owned(),
            };
            self.report(value.position, format!("`{name}` is {wanted}, not {found}"));
            self.within(value);
            return;
        }
        self.listed(schema, value);
    }

    /// Whether a value is not shown: it is a secret, or a password in the place of its credential.
    fn hides(&self, schema: &PropertySchema, value: &Value) -> bool {
        let is_credential = matches!(&schema.value_type, PropertyType::Instance(class)
            if class.eq_ignore_ascii_case(CREDENTIAL_CLASS));
        is_credential || is_secret_name(&schema.name) || self.hidden.contains(&value.position)
    }

    /// A value that the property's list of values does not have.
    fn listed(&mut self, schema: &PropertySchema, value: &Value) {
        let found = match &value.kind {
            ValueKind::Text(text) => text.clone(),
            ValueKind::Integer(number) => number.to_string(),
            _ => return,
        };
        let values = &schema.values;
        // `..` stands for a range that the list leaves open.
        let is_listed = |known: &String| known.contains("..") || known.eq_ignore_ascii_case(&found);
        if values.is_empty() || values.iter().any(is_listed) {
            return;
        }
        let mut message = format!("`{}` is one of `{}`", schema.name, values.join("`, `"));
        if !self.hides(schema, value) {
            let shown: String = found.chars().take(40).collect();
            message += &format!(", not `{shown}`");
        }
        self.report(value.position, message);
    }

    fn embedded(&mut self, schema: &PropertySchema, found: &Instance, position: Position) {
        let PropertyType::Instance(wanted) = &schema.value_type else { return };
        let schemas = self.schemas;
        let is_right = found.class.eq_ignore_ascii_case(wanted)
            || schemas.class(&found.class).is_none_or(|class| schemas.is_a(class, wanted));
        if !is_right {
            let (name, found) = (&schema.name, &found.class);
            let message = format!("`{name}` is an instance of `{wanted}`, not of `{found}`");
            self.report(position, message);
        }
    }

    fn keys(&mut self, document: &'a Document) {
        let schemas = self.schemas;
        let mut resolver = Resolver::new(document);
        let keyed: Vec<_> = document
            .instances()
            .filter_map(|instance| {
                let id = instance.text("ResourceID")?;
                let class = schemas.class(&instance.class)?;
                let known = schemas.properties(class).ok()?.into_iter();
                let keys: Vec<&str> =
                    known.filter(|known| known.is_key).map(|key| key.name.as_str()).collect();
                let properties = (!keys.is_empty()).then(|| resolver.properties(instance))?;
                Some((class, keys, (id, instance.position), properties))
            })
            .collect();
        let keyed = keyed.iter().filter_map(|(class, keys, place, properties)| {
            Keyed::new(&class.name, keys.clone(), *place, properties)
        });
        self.diagnostics.extend(keys::conflicts(keyed));
    }
}

/// `yyyymmddhhmmss.mmmmmmsutc`, or an interval `ddddddddhhmmss.mmmmmm:000`; digits may be asterisks.
/// See DSP0004, 5.2.4. Compilers also write the forms of RFC 3339.
fn is_datetime(text: &str) -> bool {
    let is_digits = |part: &[u8]| part.iter().all(|b| b.is_ascii_digit() || *b == b'*');
    if let [first @ .., sign, a, b, c] = text.as_bytes()
        && let [before @ .., b'.', f1, f2, f3, f4, f5, f6] = first
        && before.len() == 14
    {
        return matches!(sign, b'+' | b'-' | b':')
            && is_digits(before)
            && is_digits(&[*a, *b, *c, *f1, *f2, *f3, *f4, *f5, *f6]);
    }
    text.parse::<jiff::Timestamp>().is_ok() || text.parse::<jiff::civil::DateTime>().is_ok()
}
