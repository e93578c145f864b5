//! A YAML or JSON document as a tree whose parts know their places.

use crate::mof::{Diagnostic, Position};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Options, Spanned};
use std::fmt;

/// The largest source document, in bytes.
pub const SOURCE_BYTES_MAX: usize = 8 << 20;

/// How deep lists and objects of a source document may lie in each other: the reader's stack is as deep.
const DEPTH_MAX: usize = 40;

/// A part of the document and its place.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) kind: Kind,
    pub(super) position: Position,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Null, booleans, numbers and strings.
    Scalar(Value),
    List(Vec<Tree>),
    /// In the order of the text, each key once.
    Map(Vec<Entry>),
}

/// A key of a map and what it leads to.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) position: Position,
    pub(super) value: Tree,
}

impl Tree {
    /// Reads a document: YAML, of which JSON is a part.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Diagnostic> {
        if bytes.len() > SOURCE_BYTES_MAX {
            let message = format!(
                "the document has {} bytes, and at most {SOURCE_BYTES_MAX} are read",
                bytes.len()
            );
            return Err(Diagnostic { position: Position { line: 1, column: 1 }, message });
        }
        from_yaml::<Spanned<Raw>>(bytes, DEPTH_MAX).map(placed)
    }

    /// What it is, for messages.
    pub(super) fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(value) => describe(value),
            Kind::List(_) => "a list",
            Kind::Map(_) => "an object",
        }
    }

    /// The same without places.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Self::value).collect(),
            Kind::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.value())).collect()
            }
        }
    }

    /// The entries of a map; none of anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// What a value is, for messages.
pub(super) fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A part as the reader gives it.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

/// Reads YAML, of which JSON is a part; what is wrong is told with its place.
pub(crate) fn from_yaml<T: DeserializeOwned>(
    bytes: &[u8],
    depth_max: usize,
) -> Result<T, Diagnostic> {
    // Anchors that lead to each other would make a large tree of a small document: the reader's
    // budget refuses them.
    let options: Options = serde_saphyr::options! {
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_depth: depth_max },
    };
    serde_saphyr::from_slice_with_options(bytes, options).map_err(|error| {
        let position = error.location().map_or(Position { line: 1, column: 1 }, at);
        // Its first line; what follows is a picture of the place.
        let message = error.without_snippet().to_string();
        let message = message.lines().next().unwrap_or_default();
        // The diagnostic says the place itself.
        let message = message.split(" at line ").next().unwrap_or_default();
        Diagnostic { position, message: message.to_owned() }
    })
}

fn at(location: serde_saphyr::Location) -> Position {
    let number = |number: u64| u32::try_from(number.max(1)).unwrap_or(u32::MAX);
    Position { line: number(location.line()), column: number(location.column()) }
}

fn placed(raw: Spanned<Raw>) -> Tree {
    let position = at(raw.referenced);
    let kind = match raw.value {
        Raw::Scalar(value) => Kind::Scalar(value),
        Raw::List(items) => Kind::List(items.into_iter().map(placed).collect()),
        Raw::Map(entries) => Kind::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    position: at(key.referenced),
                    key: key.value,
                    value: placed(value),
                })
                .collect(),
        ),
    };
    Tree { kind, position }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
        let number = serde_json::Number::from_f64(value);
        let number = number.ok_or_else(|| E::custom("a number is not finite"))?;
        Ok(Raw::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_know_their_places() {
        let text = "a: 1\nb:\n  - x\n  - {c: true, d: null}\n";
        let tree = Tree::read(text.as_bytes()).expect("YAML");
        assert_eq!(tree.value().to_string(), r#"{"a":1,"b":["x",{"c":true,"d":null}]}"#);
        let Kind::Map(entries) = &tree.kind else { panic!("{tree:?}") };
        assert_eq!(entries[1].position.to_string(), "2:1");
        let Kind::List(items) = &entries[1].value.kind else { panic!("{tree:?}") };
        assert_eq!(items[0].position.to_string(), "3:5");
        let json = Tree::read(br#"{"a": [1.5, "yes", "x"]}"#).expect("JSON");
        assert_eq!(json.value().to_string(), r#"{"a":[1.5,"yes","x"]}"#);
    }

    #[test]
    fn what_is_no_document_is_told_with_its_place() {
        for (text, place) in [("a: [1\n", "1:4"), ("a: 1\na: 2\n", "2:1")] {
            let told = Tree::read(text.as_bytes()).expect_err(text);
            assert_eq!(told.position.to_string(), place, "{told}");
        }
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let below = level - 1;
            let many = format!("*a{below},").repeat(10);
            laughs += &format!("a{level}: &a{level} [{many}]\n");
        }
        assert!(Tree::read(laughs.as_bytes()).is_err());
    }
}
