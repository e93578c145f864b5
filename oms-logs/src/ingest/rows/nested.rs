//! Arrays and objects of JSON text as the text that dynamic columns keep: keys in order, no blanks.

use crate::ingest::admit::{DYNAMIC_DEPTH_MAX, FIELD_BYTES_MAX};
use crate::json_scan::{self as scan, Number};
use std::fmt::Write as _;

/// Writes the array or object at `at` as it is kept; answers the place after it. None for what a reader
/// of all JSON has to look at: escapes, keys that stand twice, numbers that [`scan::number`] leaves to
/// it, and what is nested too deep or is too large, which it refuses.
pub(super) fn canonical(text: &str, at: usize, out: &mut String) -> Option<usize> {
    let mut reader = Reader { text, size: 0, members: Vec::new() };
    let end = reader.value(at, DYNAMIC_DEPTH_MAX, out)?;
    (reader.size <= FIELD_BYTES_MAX).then_some(end)
}

/// A member that was written: its key, and where it and what follows it begin.
#[derive(Clone, Copy)]
struct Member<'t> {
    key: &'t str,
    begin: usize,
    end: usize,
}

struct Reader<'t> {
    text: &'t str,
    /// The size that admission counts.
    size: usize,
    /// Those of the objects that are being written, the innermost last.
    members: Vec<Member<'t>>,
}

impl<'t> Reader<'t> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn blanks(&self, at: usize) -> usize {
        scan::blanks(self.text.as_bytes(), at)
    }

    fn value(&mut self, at: usize, depth: usize, out: &mut String) -> Option<usize> {
        let word = match self.byte(at)? {
            b'{' => return self.object(at, depth.checked_sub(1)?, out),
            b'[' => return self.array(at, depth.checked_sub(1)?, out),
            b'"' => {
                let (text, end) = self.plain(at)?;
                self.size += text.len() + 2;
                out.push_str(self.text.get(at..end)?);
                return Some(end);
            }
            b't' => "true",
            b'f' => "false",
            b'n' => "null",
            _ => {
                let (number, end) = scan::number(self.text, at)?;
                self.size += 20;
                match number {
                    // As it stands: there is one way to write it.
                    Number::Whole(_) => out.push_str(self.text.get(at..end)?),
                    Number::Real(real) => {
                        write!(out, "{}", serde_json::Number::from_f64(real)?).ok()?;
                    }
                }
                return Some(end);
            }
        };
        self.size += 5;
        out.push_str(word);
        self.text.get(at..)?.starts_with(word).then_some(at + word.len())
    }

    /// A string without escapes, and the place after it.
    fn plain(&self, at: usize) -> Option<(&'t str, usize)> {
        if self.byte(at) != Some(b'"') {
            return None;
        }
        let end = scan::plain_end(self.text.as_bytes(), at + 1);
        let text = self.text.get(at + 1..end)?;
        (self.byte(end) == Some(b'"')).then_some((text, end + 1))
    }

    fn array(&mut self, at: usize, depth: usize, out: &mut String) -> Option<usize> {
        self.size += 2;
        let mut at = self.blanks(at + 1);
        if self.byte(at) == Some(b']') {
            out.push_str("[]");
            return Some(at + 1);
        }
        let mut before = '[';
        loop {
            out.push(before);
            self.size += 1;
            at = self.value(at, depth, out)?;
            at = self.blanks(at);
            match self.byte(at)? {
                b',' => before = ',',
                b']' => break,
                _ => return None,
            }
            at = self.blanks(at + 1);
        }
        out.push(']');
        Some(at + 1)
    }

    fn object(&mut self, at: usize, depth: usize, out: &mut String) -> Option<usize> {
        self.size += 2;
        let (begin, first) = (out.len(), self.members.len());
        let mut at = self.blanks(at + 1);
        if self.byte(at) == Some(b'}') {
            out.push_str("{}");
            return Some(at + 1);
        }
        let mut before = '{';
        loop {
            out.push(before);
            let member = out.len();
            let (key, end) = self.plain(at)?;
            out.push_str(self.text.get(at..end)?);
            self.size += key.len() + 4;
            at = self.blanks(end);
            if self.byte(at) != Some(b':') {
                return None;
            }
            out.push(':');
            at = self.blanks(at + 1);
            at = self.value(at, depth, out)?;
            self.members.push(Member { key, begin: member, end: out.len() });
            at = self.blanks(at);
            match self.byte(at)? {
                b',' => before = ',',
                b'}' => break,
                _ => return None,
            }
            at = self.blanks(at + 1);
        }
        out.push('}');
        self.in_order(begin, first, out)?;
        Some(at + 1)
    }

    /// Puts the members of the object that was written at `begin` in the order of their keys.
    fn in_order(&mut self, begin: usize, first: usize, out: &mut String) -> Option<()> {
        let members = self.members.get_mut(first..)?;
        if !members.is_sorted_by(|one, next| one.key < next.key) {
            members.sort_unstable_by_key(|member| member.key);
            if !members.is_sorted_by(|one, next| one.key < next.key) {
                return None;
            }
            let written = out.split_off(begin);
            let mut before = '{';
            for member in members {
                out.push(before);
                out.push_str(written.get(member.begin - begin..member.end - begin)?);
                before = ',';
            }
            out.push('}');
        }
        self.members.truncate(first);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::admit::json_size;
    use crate::ingest::batch::write_canonical;
    use proptest::prelude::*;
    use serde_json::Value as Json;

    /// What a reader of all JSON makes of it.
    fn expected(text: &str) -> Option<String> {
        let json: Json = serde_json::from_str(text).ok()?;
        json_size(&json, DYNAMIC_DEPTH_MAX).filter(|size| *size <= FIELD_BYTES_MAX)?;
        let mut out = String::new();
        write_canonical(&json, &mut out);
        Some(out)
    }

    /// What is read is right; answers whether it was.
    fn check(text: &str) -> bool {
        let (given, mut out) = (format!("..{text},"), String::from("before"));
        match canonical(&given, 2, &mut out) {
            Some(end) if end == text.len() + 2 => {
                assert_eq!(out.strip_prefix("before"), expected(text).as_deref(), "{text}");
                true
            }
            _ => false,
        }
    }

    #[test]
    fn nested_values_are_as_they_are_kept() {
        for text in [
            "{}",
            "[ ]",
            "[1,-2 , 3.50,1e3,true,false,null,\"x\"]",
            "{\"b\": 1, \"a\": {\"d\" : [], \"c\": 0.1}}",
            "{\"a\":1,\"b\":[{\"z\":1,\"y\":2}],\"\u{e4}\":\"\u{1F600}\"}",
            "[[[[{\"b\":{\"b\":1,\"a\":2},\"a\":1}]]]]",
        ] {
            assert!(check(text), "{text}");
        }
        for text in [
            "{\"a\":1,\"a\":2}",
            "{\"b\":1,\"a\":2,\"b\":3}",
            "{\"a\\n\":1}",
            "[\"\\u0041\"]",
            "[-0]",
            "[01]",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "[1e400]",
            "[99999999999999999999]",
            "[nul]",
            "{a:1}",
            "[",
            "{",
            "[1\n]",
        ] {
            assert!(!check(text), "{text}");
        }
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check(&nested(DYNAMIC_DEPTH_MAX)));
        assert!(!check(&nested(DYNAMIC_DEPTH_MAX + 1)));
        // Numbers count as many bytes, however short they are.
        let many = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
        let most = (FIELD_BYTES_MAX - 2) / 21;
        assert!(check(&many(most)));
        assert!(!check(&many(most + 1)));
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<f64>().prop_map(Json::from),
            "\\PC{0,6}".prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 48, 12, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Json::from),
                prop::collection::hash_map("[a-c\u{e4}]{0,3}", inner, 0..8)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_another_reader_keeps(value in json(), reversed: bool) {
            let text = match (&value, reversed) {
                (Json::Object(members), true) => {
                    let members = members.iter().rev();
                    let members = members.map(|(key, value)| format!("\"{key}\" : {value}"));
                    format!("{{{}}}", members.collect::<Vec<_>>().join(" ,\t"))
                }
                _ => value.to_string(),
            };
            let is_plain = !text.contains('\\') && !text.contains("-0,") && !text.contains("-0]");
            let was_read = check(&text);
            if let (Json::Array(_) | Json::Object(_), true) = (&value, is_plain) {
                prop_assert!(was_read, "{}", text);
            }
        }
    }
}
