//! The functions of expressions.

use super::scope::Scope;
use super::tree::describe;
use crate::configuration::meant;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};
use std::cmp::Ordering;

/// The largest text or list that a function makes, in bytes or elements.
const RESULT_MAX: usize = 1 << 20;

/// Functions of DSC version 3 that say something only on the node, while it applies.
const ON_THE_NODE: [&str; 7] =
    ["reference", "envvar", "secret", "systemRoot", "path", "context", "stdout"];

const NAMES: [&str; 47] = [
    "add",
    "and",
    "array",
    "base64",
    "base64ToString",
    "bool",
    "coalesce",
    "concat",
    "contains",
    "createArray",
    "createObject",
    "div",
    "empty",
    "endsWith",
    "equals",
    "false",
    "first",
    "format",
    "greater",
    "greaterOrEquals",
    "if",
    "indexOf",
    "int",
    "join",
    "json",
    "last",
    "length",
    "less",
    "lessOrEquals",
    "max",
    "min",
    "mod",
    "mul",
    "node",
    "nodeName",
    "not",
    "null",
    "or",
    "parameters",
    "replace",
    "resourceId",
    "split",
    "startsWith",
    "string",
    "sub",
    "true",
    "variables",
];

const MORE_NAMES: [&str; 5] = ["toLower", "toUpper", "trim", "union", "range"];

/// Calls a function by its name, which is compared without regard to case.
pub(super) fn call(name: &str, arguments: &[Value], scope: &Scope) -> Result<Value, String> {
    let known = NAMES.iter().chain(&MORE_NAMES);
    let Some(found) = known.clone().find(|known| known.eq_ignore_ascii_case(name)) else {
        if ON_THE_NODE.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(format!(
                "`{name}` is known on the node only, and this document is compiled before"
            ));
        }
        if scope.is_source_hidden() {
            return Err("there is no function of that name".to_owned());
        }
        let meant = meant(name, known.copied());
        return Err(format!("there is no function `{name}`{meant}"));
    };
    let call = Call { name: found, arguments, is_secret: scope.is_secret() };
    let value = match *found {
        "parameters" | "variables" | "node" | "nodeName" => call.scope(scope)?,
        "and" | "or" | "not" | "equals" | "less" | "lessOrEquals" | "greater"
        | "greaterOrEquals" | "bool" | "true" | "false" => call.logic()?,
        "add" | "sub" | "mul" | "div" | "mod" | "min" | "max" | "int" => call.arithmetic()?,
        "array" | "createArray" | "createObject" | "first" | "last" | "length" | "empty"
        | "contains" | "union" | "range" | "coalesce" | "null" | "indexOf" => call.collection()?,
        _ => call.text()?,
    };
    let size = match &value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    if size > RESULT_MAX {
        return Err(format!("`{found}` makes more than {RESULT_MAX} bytes or elements"));
    }
    Ok(value)
}

struct Call<'a> {
    name: &'a str,
    arguments: &'a [Value],
    /// Whether a secure parameter may be in the arguments.
    is_secret: bool,
}

impl<'a> Call<'a> {
    /// What is wrong: `open` shows values, `closed` shows none of them.
    fn told(&self, open: String, closed: &str) -> String {
        if self.is_secret { format!("`{}` {closed}", self.name) } else { open }
    }

    fn count<const N: usize>(&self) -> Result<&'a [Value; N], String> {
        self.arguments.try_into().map_err(|_other| {
            let (name, found) = (self.name, self.arguments.len());
            format!("`{name}` takes {N} arguments, not {found}")
        })
    }

    fn wrong<T>(&self, wanted: &str, found: &Value) -> Result<T, String> {
        Err(format!("`{}` takes {wanted}, not {}", self.name, describe(found)))
    }

    fn string(&self, value: &'a Value) -> Result<&'a str, String> {
        match value {
            Value::String(text) => Ok(text),
            other => self.wrong("a string", other),
        }
    }

    fn integer(&self, value: &Value) -> Result<i64, String> {
        match value.as_i64() {
            Some(number) => Ok(number),
            None => self.wrong("an integer", value),
        }
    }

    fn flag(&self, value: &Value) -> Result<bool, String> {
        match value {
            Value::Bool(flag) => Ok(*flag),
            other => self.wrong("a boolean", other),
        }
    }

    fn list(&self, value: &'a Value) -> Result<&'a [Value], String> {
        match value {
            Value::Array(values) => Ok(values),
            other => self.wrong("a list", other),
        }
    }

    fn scope(&self, scope: &Scope) -> Result<Value, String> {
        if self.name == "nodeName" {
            let [] = self.count()?;
            return Ok(scope.node.as_str().into());
        }
        if self.name == "node" && self.arguments.is_empty() {
            return scope.read_node();
        }
        let [name] = self.count()?;
        scope.read(self.name, self.string(name)?)
    }

    fn logic(&self) -> Result<Value, String> {
        Ok(match self.name {
            "true" | "false" => {
                let [] = self.count()?;
                self.name == "true"
            }
            "not" => {
                let [value] = self.count()?;
                !self.flag(value)?
            }
            "and" | "or" => {
                let flags: Vec<bool> = self
                    .arguments
                    .iter()
                    .map(|value| self.flag(value))
                    .collect::<Result<_, _>>()?;
                if self.name == "and" { flags.iter().all(|f| *f) } else { flags.iter().any(|f| *f) }
            }
            "equals" => {
                let [one, other] = self.count()?;
                one == other
            }
            "bool" => {
                let [value] = self.count()?;
                match value {
                    Value::Bool(flag) => *flag,
                    Value::String(text) if text.eq_ignore_ascii_case("true") => true,
                    Value::String(text) if text.eq_ignore_ascii_case("false") => false,
                    Value::Number(number) => number.as_f64() != Some(0.0),
                    other => return self.wrong("a boolean, a number, `true` or `false`", other),
                }
            }
            _ => {
                let [one, other] = self.count()?;
                let order = match (one, other) {
                    (Value::String(one), Value::String(other)) => one.cmp(other),
                    (one, other) => self.integer(one)?.cmp(&self.integer(other)?),
                };
                match self.name {
                    "less" => order == Ordering::Less,
                    "lessOrEquals" => order != Ordering::Greater,
                    "greater" => order == Ordering::Greater,
                    _ => order != Ordering::Less,
                }
            }
        }
        .into())
    }

    fn arithmetic(&self) -> Result<Value, String> {
        if matches!(self.name, "min" | "max") {
            let numbers = match self.arguments {
                [Value::Array(values)] => values,
                arguments => arguments,
            };
            let numbers: Vec<i64> =
                numbers.iter().map(|value| self.integer(value)).collect::<Result<_, _>>()?;
            let chosen =
                if self.name == "min" { numbers.iter().min() } else { numbers.iter().max() };
            let chosen = chosen.ok_or_else(|| format!("`{}` of nothing", self.name))?;
            return Ok((*chosen).into());
        }
        if self.name == "int" {
            let [value] = self.count()?;
            return match value {
                Value::Number(number) if number.is_i64() => Ok(value.clone()),
                Value::String(text) => text.trim().parse::<i64>().map(Value::from).map_err(|_| {
                    self.told(format!("`int` cannot read `{text}`"), "cannot read its text")
                }),
                other => self.wrong("an integer or its text", other),
            };
        }
        let [one, other] = self.count()?;
        let (one, other) = (self.integer(one)?, self.integer(other)?);
        let number = match self.name {
            "add" => one.checked_add(other),
            "sub" => one.checked_sub(other),
            "mul" => one.checked_mul(other),
            "div" => one.checked_div(other),
            _ => one.checked_rem(other),
        };
        let name = self.name;
        number.map(Value::from).ok_or_else(|| {
            let open = format!("`{name}` of {one} and {other} is no integer");
            self.told(open, "of its arguments is no integer")
        })
    }

    fn collection(&self) -> Result<Value, String> {
        Ok(match self.name {
            "null" => {
                let [] = self.count()?;
                Value::Null
            }
            "createArray" => self.arguments.to_vec().into(),
            "coalesce" => {
                self.arguments.iter().find(|value| !value.is_null()).cloned().unwrap_or_default()
            }
            "createObject" => {
                let mut map = Map::new();
                for pair in self.arguments.chunks(2) {
                    let [key, value] = pair else {
                        return Err("`createObject` takes keys and values in turn".to_owned());
                    };
                    map.insert(self.string(key)?.to_owned(), value.clone());
                }
                map.into()
            }
            "array" => {
                let [value] = self.count()?;
                if value.is_array() { value.clone() } else { vec![value.clone()].into() }
            }
            "range" => {
                let [start, count] = self.count()?;
                let (start, count) = (self.integer(start)?, self.integer(count)?);
                if !(0..=RESULT_MAX as i64).contains(&count) || start.checked_add(count).is_none() {
                    let open = format!("`range` makes no {count} numbers from {start}");
                    return Err(self.told(open, "makes no such numbers"));
                }
                (start..start + count).collect()
            }
            "first" | "last" | "length" | "empty" => {
                let [of] = self.count()?;
                self.ends(of)?
            }
            "union" => self.union()?,
            "indexOf" => {
                let [of, wanted] = self.count()?;
                let index = match of {
                    Value::Array(values) => values.iter().position(|value| value == wanted),
                    text => {
                        let (text, wanted) = (self.string(text)?, self.string(wanted)?);
                        // In characters, as `length` counts.
                        text.find(wanted).map(|at| text[..at].chars().count())
                    }
                };
                index.map_or(Number::from(-1), Number::from).into()
            }
            _ => {
                let [of, wanted] = self.count()?;
                match of {
                    Value::Array(values) => values.contains(wanted),
                    Value::Object(map) => map.contains_key(self.string(wanted)?),
                    text => self.string(text)?.contains(self.string(wanted)?),
                }
                .into()
            }
        })
    }

    fn ends(&self, of: &Value) -> Result<Value, String> {
        let nothing = || Err(format!("`{}` of nothing", self.name));
        let len = match of {
            Value::String(text) => text.chars().count(),
            Value::Array(values) => values.len(),
            Value::Object(map) => map.len(),
            other => return self.wrong("a string, a list or an object", other),
        };
        match (self.name, of) {
            ("length", _) => Ok(len.into()),
            ("empty", _) => Ok((len == 0).into()),
            ("first", Value::Array(values)) => values.first().cloned().map_or_else(nothing, Ok),
            ("last", Value::Array(values)) => values.last().cloned().map_or_else(nothing, Ok),
            (name, Value::String(text)) => {
                let mut chars = text.chars();
                let chosen = if name == "first" { chars.next() } else { chars.next_back() };
                chosen.map_or_else(nothing, |c| Ok(c.to_string().into()))
            }
            (_, other) => self.wrong("a string or a list", other),
        }
    }

    fn union(&self) -> Result<Value, String> {
        if self.arguments.iter().all(Value::is_object) {
            let maps = self.arguments.iter().filter_map(Value::as_object);
            let entries = maps.flatten().map(|(key, value)| (key.clone(), value.clone()));
            return Ok(entries.collect());
        }
        let mut values: Vec<Value> = Vec::new();
        for list in self.arguments {
            values.extend(self.list(list)?.iter().cloned());
        }
        // What was there keeps its place.
        let mut seen = std::collections::HashSet::new();
        values.retain(|value| seen.insert(value.to_string()));
        Ok(values.into())
    }

    fn text(&self) -> Result<Value, String> {
        Ok(match self.name {
            "concat" if self.arguments.iter().any(Value::is_array) => {
                let mut values = Vec::new();
                for list in self.arguments {
                    values.extend(self.list(list)?.iter().cloned());
                }
                values.into()
            }
            "concat" => {
                let parts: Vec<&str> = self
                    .arguments
                    .iter()
                    .map(|value| self.string(value))
                    .collect::<Result<_, _>>()?;
                parts.concat().into()
            }
            "string" => {
                let [value] = self.count()?;
                shown(value).into()
            }
            "toLower" | "toUpper" | "trim" | "base64" | "base64ToString" | "json" => {
                let [text] = self.count()?;
                self.changed(self.string(text)?)?
            }
            "startsWith" | "endsWith" => {
                let [text, part] = self.count()?;
                let (text, part) = (self.string(text)?, self.string(part)?);
                let starts = self.name == "startsWith";
                if starts { text.starts_with(part) } else { text.ends_with(part) }.into()
            }
            "replace" => {
                let [text, old, new] = self.count()?;
                let (text, old, new) = (self.string(text)?, self.string(old)?, self.string(new)?);
                let grown = text.len().saturating_add(text.matches(old).count() * new.len());
                if grown > RESULT_MAX {
                    return Err(format!("`replace` makes more than {RESULT_MAX} bytes"));
                }
                text.replace(old, new).into()
            }
            "split" => {
                let [text, by] = self.count()?;
                self.string(text)?.split(self.string(by)?).collect()
            }
            "join" => {
                let [list, by] = self.count()?;
                let parts: Vec<String> = self.list(list)?.iter().map(shown).collect();
                let by = self.string(by)?;
                let between = by.len().saturating_mul(parts.len().saturating_sub(1));
                let grown = parts.iter().map(String::len).sum::<usize>().saturating_add(between);
                if grown > RESULT_MAX {
                    return Err(format!("`join` makes more than {RESULT_MAX} bytes"));
                }
                parts.join(by).into()
            }
            "resourceId" => {
                let [kind, name] = self.count()?;
                let (kind, name) = (self.string(kind)?, self.string(name)?);
                let kind = kind.rsplit_once('/').map_or(kind, |(_, short)| short);
                format!("[{kind}]{name}").into()
            }
            _ => self.format()?.into(),
        })
    }

    fn changed(&self, text: &str) -> Result<Value, String> {
        Ok(match self.name {
            "toLower" => text.to_lowercase().into(),
            "toUpper" => text.to_uppercase().into(),
            "trim" => text.trim().into(),
            "base64" => STANDARD.encode(text).into(),
            "json" => serde_json::from_str(text).map_err(|error| self.unread(&error))?,
            _ => {
                let bytes = STANDARD.decode(text).map_err(|error| self.unread(&error))?;
                String::from_utf8(bytes).map_err(|error| self.unread(&error))?.into()
            }
        })
    }

    fn unread(&self, error: &dyn std::error::Error) -> String {
        self.told(format!("`{}`: {error}", self.name), "cannot read its text")
    }

    /// `format('{0} of {1}', …)`; doubled braces are braces.
    fn format(&self) -> Result<String, String> {
        let [pattern, values @ ..] = self.arguments else {
            return Err("`format` takes a pattern and values".to_owned());
        };
        let pattern = self.string(pattern)?;
        let (mut text, mut rest) = (String::new(), pattern);
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if after.starts_with(brace) {
                text.push_str(brace);
                rest = &after[1..];
                continue;
            }
            let (index, after) =
                after.split_once('}').filter(|_| brace == "{").ok_or_else(|| {
                    let open = format!("a brace of `{pattern}` has no other");
                    self.told(open, "has a brace without its other")
                })?;
            let value = index.trim().parse::<usize>().ok().and_then(|index| values.get(index));
            let value = value.ok_or_else(|| {
                self.told(format!("`format` has no value `{index}`"), "has no value of that number")
            })?;
            text.push_str(&shown(value));
            if text.len() > RESULT_MAX {
                return Err(format!("`format` makes more than {RESULT_MAX} bytes"));
            }
            rest = after;
        }
        text.push_str(rest);
        Ok(text)
    }
}

/// A value as text: a string as it is, anything else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
