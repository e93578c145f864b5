//! Reads JSON text into the form of values in memory, with no tree in between.
//!
//! The parts of an array or a bag are written at once; where they end is kept aside until all are
//! there, and then put before them. What is only passed over is checked as if it were read, so that
//! a text is JSON or is not, whatever is wanted of it (RFC 8259).

use super::DEPTH_MAX;
use super::binary::{View, Writer, close_array, close_bag, open};
use crate::json_scan::{self, Number};
use std::borrow::Cow;

/// Writes the value of JSON text, or answers `false` and writes nothing if the text is not JSON.
pub(crate) fn parse(text: &str, out: &mut Vec<u8>) -> bool {
    let (start, mut reader) = (out.len(), Reader::new(text));
    let read = reader.value(out, 0).and_then(|()| reader.finish());
    if read.is_none() {
        out.truncate(start);
    }
    read.is_some()
}

/// Writes the member of a bag, or answers `false` and writes nothing if the text is no JSON of a bag
/// with such a member.
pub(crate) fn member(text: &str, key: &str, out: &mut Vec<u8>) -> bool {
    let (start, mut found) = (out.len(), false);
    let mut reader = Reader::new(text);
    let read = reader.members(1, |reader, name| {
        if name != key {
            return reader.skip(1);
        }
        // Of members with one key the last counts.
        found = true;
        out.truncate(start);
        reader.value(out, 1)
    });
    let found = found && read.and_then(|()| reader.finish()).is_some();
    if !found {
        out.truncate(start);
    }
    found
}

/// Writes the item of an array, of an index that counts from the end if it is negative; or answers
/// `false` and writes nothing if the text is no JSON of an array with such an item.
pub(crate) fn item(text: &str, index: i64, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let Ok(wanted) = usize::try_from(index) else {
        let mut whole = Vec::new();
        let found = parse(text, &mut whole)
            .then(|| View::of(&whole).as_array().and_then(|items| items.at(index)))
            .flatten();
        found.into_iter().for_each(|item| Writer::new(out).raw(item));
        return found.is_some();
    };
    let (mut at, mut reader) = (0, Reader::new(text));
    let read = reader.items(1, |reader| {
        let item = if at == wanted { reader.value(out, 1) } else { reader.skip(1) };
        at += 1;
        item
    });
    let found = at > wanted && read.and_then(|()| reader.finish()).is_some();
    if !found {
        out.truncate(start);
    }
    found
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    /// Where the parts of the containers end that are being written.
    ends: Vec<u32>,
}

impl<'t> Reader<'t> {
    const fn new(text: &'t str) -> Self {
        Self { text, at: 0, ends: Vec::new() }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over a byte if it is the next one.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Whether nothing follows.
    fn finish(&mut self) -> Option<()> {
        self.space();
        (self.at == self.text.len()).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let rest = self.text.as_bytes().get(self.at..)?;
        rest.starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    /// Writes the next value, which is within so many containers.
    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.space();
        match self.peek()? {
            b'"' => Writer::new(out).text(&self.string()?),
            b'{' => {
                let (start, ends) = (open(out), self.ends.len());
                self.members(depth + 1, |reader, key| {
                    out.extend_from_slice(key.as_bytes());
                    reader.end(out.len() - start);
                    reader.value(out, depth + 1)?;
                    reader.end(out.len() - start);
                    Some(())
                })?;
                close_bag(out, start, self.ends.get(ends..)?);
                self.ends.truncate(ends);
            }
            b'[' => {
                let (start, ends) = (open(out), self.ends.len());
                self.items(depth + 1, |reader| {
                    reader.value(out, depth + 1)?;
                    reader.end(out.len() - start);
                    Some(())
                })?;
                close_array(out, start, self.ends.get(ends..)?);
                self.ends.truncate(ends);
            }
            b't' => self.word("true").map(|()| Writer::new(out).bool(true))?,
            b'f' => self.word("false").map(|()| Writer::new(out).bool(false))?,
            b'n' => self.word("null").map(|()| Writer::new(out).null())?,
            _ => match self.number()? {
                Number::Whole(value) => Writer::new(out).long(value),
                Number::Real(value) => Writer::new(out).real(value),
            },
        }
        Some(())
    }

    /// Passes over the next value, which is within so many containers.
    fn skip(&mut self, depth: usize) -> Option<()> {
        self.space();
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.members(depth + 1, |reader, _| reader.skip(depth + 1)),
            b'[' => self.items(depth + 1, |reader| reader.skip(depth + 1)),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.skip_number(),
        }
    }

    fn end(&mut self, at: usize) {
        self.ends.push(u32::try_from(at).unwrap_or(u32::MAX));
    }

    /// The members of a bag, whose values `each` reads or passes over.
    fn members(
        &mut self,
        depth: usize,
        mut each: impl FnMut(&mut Self, Cow<'t, str>) -> Option<()>,
    ) -> Option<()> {
        self.container(b'{', b'}', depth, |reader| {
            reader.space();
            let key = reader.string()?;
            reader.space();
            if !reader.take(b':') {
                return None;
            }
            each(reader, key)
        })
    }

    /// The items of an array, which `each` reads or passes over.
    fn items(&mut self, depth: usize, each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.container(b'[', b']', depth, each)
    }

    fn container(
        &mut self,
        first: u8,
        last: u8,
        depth: usize,
        mut each: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.space();
        if depth > DEPTH_MAX || !self.take(first) {
            return None;
        }
        self.space();
        if self.take(last) {
            return Some(());
        }
        loop {
            each(self)?;
            self.space();
            if self.take(last) {
                return Some(());
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    /// A string's text.
    fn string(&mut self) -> Option<Cow<'t, str>> {
        if !self.take(b'"') {
            return None;
        }
        let plain = self.plain()?;
        if self.take(b'"') {
            return Some(Cow::Borrowed(plain));
        }
        let mut text = plain.to_owned();
        loop {
            text.push(self.escaped()?);
            text.push_str(self.plain()?);
            if self.take(b'"') {
                return Some(Cow::Owned(text));
            }
        }
    }

    /// The text up to the end of the string, or up to what does not stand for itself in it.
    fn plain(&mut self) -> Option<&'t str> {
        let start = self.at;
        self.at = json_scan::plain_end(self.text.as_bytes(), start);
        self.text.get(start..self.at)
    }

    /// The character that an escape stands for.
    fn escaped(&mut self) -> Option<char> {
        if !self.take(b'\\') {
            return None;
        }
        let kind = self.peek()?;
        self.at += 1;
        if kind != b'u' {
            return json_scan::escaped(kind);
        }
        let unit = self.code_unit()?;
        if !(0xd800..0xdc00).contains(&unit) {
            return char::from_u32(unit);
        }
        self.word("\\u")?;
        let low = self.code_unit()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        char::from_u32(0x10000 + ((unit - 0xd800) << 10) + low)
    }

    /// Four hexadecimal digits.
    fn code_unit(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, digit| Some(16 * unit + char::from(*digit).to_digit(16)?))
    }

    fn digits(&mut self) -> Option<usize> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(self.at - start)
    }

    fn number(&mut self) -> Option<Number> {
        if let Some((number, end)) = json_scan::number(self.text, self.at) {
            self.at = end;
            return Some(number);
        }
        let (text, is_whole) = self.number_text()?;
        // Minus zero is a real, and so are whole numbers past the longs.
        if is_whole
            && text != "-0"
            && let Ok(value) = text.parse()
        {
            return Some(Number::Whole(value));
        }
        finite(text).map(Number::Real)
    }

    /// Passes over a number.
    fn skip_number(&mut self) -> Option<()> {
        // With so few digits and no exponent it is no real that is too large.
        const DIGITS_SURE: usize = 300;
        let (text, _) = self.number_text()?;
        let is_sure = text.len() < DIGITS_SURE && !text.contains(['e', 'E']);
        if is_sure { Some(()) } else { finite(text).map(drop) }
    }

    /// A number's text, and whether it has neither a fraction nor an exponent.
    fn number_text(&mut self) -> Option<(&'t str, bool)> {
        let start = self.at;
        self.take(b'-');
        let leads_with_zero = self.peek() == Some(b'0');
        if self.digits()? > 1 && leads_with_zero {
            return None;
        }
        let mut is_whole = true;
        if self.take(b'.') {
            is_whole = false;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            is_whole = false;
            self.at += 1;
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        Some((self.text.get(start..self.at)?, is_whole))
    }
}

/// The value of a number's text if a real can hold it.
fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::super::{Value, json_text};
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value as Json;

    fn read(text: &str) -> Option<Value> {
        let mut bytes = vec![7];
        let is_json = parse(text, &mut bytes);
        assert_eq!(bytes.first(), Some(&7));
        assert!(is_json || bytes.len() == 1, "{text}");
        is_json.then(|| Value::from(View::of(&bytes[1..])))
    }

    fn value_of(json: &Json) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(value), _) => Value::Long(value),
                (None, value) => Value::Real(value.expect("a number")),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::Array(items.iter().map(value_of).collect()),
            Json::Object(members) => {
                Value::Bag(members.iter().map(|(key, v)| (key.clone(), value_of(v))).collect())
            }
        }
    }

    /// A value in which the order of members is that of their keys.
    fn sorted(value: Value) -> Value {
        match value {
            Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
            Value::Bag(members) => {
                let members = members.into_iter().map(|(key, value)| (key, sorted(value)));
                let mut members: Vec<_> = members.collect();
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                Value::Bag(members)
            }
            other => other,
        }
    }

    fn agree(text: &str) {
        let expect = serde_json::from_str::<Json>(text).ok().map(|json| sorted(value_of(&json)));
        assert_eq!(read(text).map(sorted), expect, "{text}");
    }

    #[test]
    fn what_is_json_is_told_apart() {
        for text in [
            "",
            " ",
            "x",
            "nul",
            "nulll",
            "tru",
            "null",
            " true ",
            "false,",
            "1 2",
            "01",
            "-01",
            "-",
            "-0",
            "0",
            "-0.0",
            "0e0",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1E-3",
            "1e400",
            "-1e400",
            "1e-400",
            "+1",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "0x1",
            "1_0",
            "NaN",
            "Infinity",
            "\"",
            "\"\\",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u+123\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\\n\"",
            "\"\\ud83d\\ud83d\"",
            "\"\\u0000\"",
            "\"\u{1}\"",
            "\"\u{7f}\"",
            "\"é\\u00e9\\/\"",
            "[",
            "[]",
            "[ ]",
            "[,]",
            "[1,]",
            "[1 2]",
            "[1,2",
            "[[],{}]",
            "{",
            "{}",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\" : 1 , \"a\" : [2] }",
            "{\"\\u0061\":1,\"a\":2}",
            "{\"a\":{\"b\":1,\"b\":2},\"c\":0,\"a\":3}",
            "\u{feff}1",
            "1\u{a0}",
            "[1]]",
            "{}}",
            "\"a\" \"b\"",
        ] {
            agree(text);
        }
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(read(&nested(DEPTH_MAX)).is_some());
        assert!(read(&nested(DEPTH_MAX + 1)).is_none());
        assert!(read(&"{\"a\":".repeat(100_000)).is_none());
    }

    #[test]
    fn parts_are_read_out_of_the_text() {
        let part = |text: &str, key: &str| {
            let mut bytes = vec![7];
            let found = member(text, key, &mut bytes);
            assert!(found || bytes == [7]);
            found.then(|| Value::from(View::of(&bytes[1..])))
        };
        let text = r#" {"a":1,"b":{"a":[2]},"\u0063":"x","a":[3,{"d":null}]} "#;
        let last = Value::Array(vec![Value::Long(3), Value::Bag(vec![("d".into(), Value::Null)])]);
        assert_eq!(part(text, "a"), Some(last));
        assert_eq!(part(text, "c"), Some(Value::Text("x".into())));
        assert_eq!(part(text, "d"), None);
        // What follows makes it no JSON.
        for bad in [r#"{"a":1,"b":01}"#, r#"{"a":1}}"#, r#"{"a":1,"b":[}"#, r#"[{"a":1}]"#, "1", ""]
        {
            assert_eq!(part(bad, "a"), None, "{bad}");
        }
        let nth = |text: &str, index: i64| {
            let mut bytes = vec![7];
            let found = item(text, index, &mut bytes);
            assert!(found || bytes == [7]);
            found.then(|| Value::from(View::of(&bytes[1..])))
        };
        let text = "[1, [2, 3], \"x\"]";
        for (index, expect) in [
            (0, Some(Value::Long(1))),
            (1, Some(Value::Array(vec![Value::Long(2), Value::Long(3)]))),
            (-1, Some(Value::Text("x".into()))),
            (-3, Some(Value::Long(1))),
            (3, None),
            (-4, None),
            (i64::MIN, None),
            (i64::MAX, None),
        ] {
            assert_eq!(nth(text, index), expect, "{index}");
        }
        assert_eq!(nth("[1,2", 0), None);
        assert_eq!(nth("{\"a\":1}", 0), None);
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<u64>().prop_map(Json::from),
            (-1e12..1e12).prop_map(Json::from),
            "\\PC{0,6}".prop_map(Json::from),
            "[\"\\\\\u{0}-\u{1f}a]{0,6}".prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 48, 24, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..24).prop_map(Json::from),
                prop::collection::hash_map("[a-c\"é]{0,3}", inner, 0..24)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_are_those_of_another_reader(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("JSON");
            let found = read(&text).expect("JSON");
            prop_assert_eq!(sorted(found.clone()), sorted(value_of(&value)));
            // Each part alone is what it is in the whole, and what is written is read again.
            let mut bytes = Vec::new();
            prop_assert!(parse(&text, &mut bytes));
            let mut written = String::new();
            json_text(View::of(&bytes), &mut written);
            prop_assert_eq!(read(&written), Some(found.clone()));
            if let Value::Bag(members) = &found {
                for (key, expect) in members {
                    let mut part = Vec::new();
                    prop_assert!(member(&text, key, &mut part));
                    prop_assert_eq!(&Value::from(View::of(&part)), expect);
                }
            }
            if let Value::Array(items) = &found {
                for (index, expect) in items.iter().enumerate() {
                    let mut part = Vec::new();
                    prop_assert!(item(&text, i64::try_from(index).expect("few"), &mut part));
                    prop_assert_eq!(&Value::from(View::of(&part)), expect);
                }
            }
        }

        #[test]
        fn damaged_text_is_json_to_both_or_to_none(value in json(), at: prop::sample::Index, with in "[\\[\\]{}:,\"\\\\0-9eE.+\\-tnu ]?") {
            let mut text: Vec<char> = value.to_string().chars().collect();
            let at = at.index(text.len());
            text.splice(at..=at, with.chars());
            let text: String = text.into_iter().collect();
            let is_json = serde_json::from_str::<Json>(&text).is_ok();
            prop_assert_eq!(read(&text).is_some(), is_json, "{}", text);
            let mut part = Vec::new();
            let _ = (member(&text, "a", &mut part), item(&text, 1, &mut part), item(&text, -1, &mut part));
        }
    }
}
