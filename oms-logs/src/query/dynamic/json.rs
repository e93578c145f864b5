//! JSON text to dynamic values and back.

use super::DEPTH_MAX;
use super::binary::{Parts, View, Writer};
use crate::query::time;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt::{self, Write as _};

/// How many keys are looked through one by one before an index is made.
const KEYS_UNINDEXED: usize = 16;

/// Writes the value of JSON text, or answers `false` and writes nothing if the text is not JSON.
pub(crate) fn parse(text: &str, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seed = Seed { writer: &mut Writer::new(out), depth: 0 };
    if seed.deserialize(&mut deserializer).is_ok() && deserializer.end().is_ok() {
        return true;
    }
    out.truncate(start);
    false
}

/// Takes one value of a deserializer into a writer.
struct Seed<'w, 'b> {
    writer: &'w mut Writer<'b>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.writer.null();
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.writer.bool(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.writer.long(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        #[expect(clippy::cast_precision_loss, reason = "past the longs there are only reals")]
        match i64::try_from(value) {
            Ok(value) => self.writer.long(value),
            Err(_) => self.writer.real(value as f64),
        }
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.writer.real(value);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.writer.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let depth = self.depth + 1;
        if depth > DEPTH_MAX {
            return Err(A::Error::custom("nested too deep"));
        }
        let mut parts = Parts::default();
        loop {
            let mut more = Ok(None);
            parts.attempt(|writer| {
                more = items.next_element_seed(Seed { writer, depth });
                matches!(more, Ok(Some(())))
            });
            if more?.is_none() {
                break;
            }
        }
        self.writer.array_of(&parts);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let depth = self.depth + 1;
        if depth > DEPTH_MAX {
            return Err(A::Error::custom("nested too deep"));
        }
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        while let Some(key) = members.next_key::<String>()? {
            let mut bytes = Vec::new();
            members.next_value_seed(Seed { writer: &mut Writer::new(&mut bytes), depth })?;
            // Of members with one key the last counts.
            let known = if found.len() <= KEYS_UNINDEXED {
                found.iter().position(|(known, _)| *known == key)
            } else {
                if index.is_empty() {
                    index =
                        found.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
                }
                index.get(&key).copied()
            };
            match known.and_then(|at| found.get_mut(at)) {
                Some((_, value)) => *value = bytes,
                None => {
                    if !index.is_empty() {
                        index.insert(key.clone(), found.len());
                    }
                    found.push((key, bytes));
                }
            }
        }
        let mut parts = Parts::default();
        found.iter().for_each(|(key, bytes)| parts.member(key, |writer| writer.raw(bytes)));
        self.writer.bag_of(&parts);
        Ok(())
    }
}

/// The value as JSON text without blanks, at the end of `out`. Typed values are strings.
pub(crate) fn text(value: View<'_>, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = match value {
        View::Null => out.write_str("null"),
        View::Bool(value) => write!(out, "{value}"),
        View::Long(value) => write!(out, "{value}"),
        View::Real(value) if value.is_finite() => write!(out, "{value:?}"),
        View::Real(value) if value.is_nan() => out.write_str("\"NaN\""),
        View::Real(value) if value > 0.0 => out.write_str("\"Infinity\""),
        View::Real(_) => out.write_str("\"-Infinity\""),
        View::Text(text) => out.write_str(&quoted(text)),
        View::DateTime(ticks) => write!(out, "\"{}\"", time::format_datetime(ticks, true)),
        View::TimeSpan(ticks) => write!(out, "\"{}\"", time::format_timespan(ticks)),
        View::Guid(value) => write!(out, "\"{value}\""),
        View::Decimal(digits) => write!(out, "\"{digits}\""),
        View::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                out.push(if at == 0 { '[' } else { ',' });
                text(View::of(item), out);
            }
            out.write_str(if items.len() == 0 { "[]" } else { "]" })
        }
        View::Bag(members) => {
            for (at, (key, value)) in members.iter().enumerate() {
                out.push(if at == 0 { '{' } else { ',' });
                out.push_str(&quoted(key));
                out.push(':');
                text(View::of(value), out);
            }
            out.write_str(if members.len() == 0 { "{}" } else { "}" })
        }
    };
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expect: &str) {
        let mut bytes = Vec::new();
        let mut found = String::new();
        if parse(json, &mut bytes) {
            text(View::of(&bytes), &mut found);
        } else {
            found.push_str("not JSON");
        }
        assert_eq!(found, expect, "{json}");
    }

    #[test]
    fn json_survives() {
        check(
            " {\"b\" : [1, 1.0, -2e3, true, null], \"a\": {}} ",
            "{\"b\":[1,1.0,-2000.0,true,null],\"a\":{}}",
        );
        check("\"\\u00e9\\n\"", "\"é\\n\"");
        check("18446744073709551615", "1.8446744073709552e19");
        check("-9223372036854775808", "-9223372036854775808");
        check("{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":3,\"b\":2}");
        for bad in ["", "x", "[1", "1 2", "{\"a\"}", "[\"\t\"]", "'a'"] {
            check(bad, "not JSON");
        }
        check(&"[".repeat(100_000), "not JSON");
    }

    #[test]
    fn of_many_members_with_one_key_the_last_counts() {
        let members: Vec<String> = (0..100).map(|at| format!("\"k{}\":{at}", at % 40)).collect();
        let mut bytes = Vec::new();
        assert!(parse(&format!("{{{}}}", members.join(",")), &mut bytes));
        let bag = View::of(&bytes).as_bag().expect("a bag");
        assert_eq!(bag.len(), 40);
        assert!(matches!(bag.get("k5").map(View::of), Some(View::Long(85))));
    }
}
