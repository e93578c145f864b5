//! Dynamic values as JSON text.

use super::binary::View;
use crate::json_scan::plain_end;
use crate::query::time;
use std::fmt::{self, Write as _};

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
        View::Text(text) => quote(text, out),
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
                // Writing to a string cannot fail.
                let _ = quote(key, out);
                out.push(':');
                text(View::of(value), out);
            }
            out.write_str(if members.len() == 0 { "{}" } else { "}" })
        }
    };
}

/// Writes a JSON string.
pub(super) fn quote(text: &str, out: &mut impl fmt::Write) -> fmt::Result {
    out.write_char('"')?;
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at(plain_end(rest.as_bytes(), 0));
        out.write_str(plain)?;
        let mut characters = special.chars();
        match characters.next() {
            Some('\u{8}') => out.write_str("\\b")?,
            Some('\u{c}') => out.write_str("\\f")?,
            Some('\n') => out.write_str("\\n")?,
            Some('\r') => out.write_str("\\r")?,
            Some('\t') => out.write_str("\\t")?,
            Some(other @ ('"' | '\\')) => {
                out.write_char('\\')?;
                out.write_char(other)?;
            }
            Some(other) => write!(out, "\\u{:04x}", u32::from(other))?,
            None => return out.write_char('"'),
        }
        rest = characters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::parse;
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
    fn strings_are_written_as_json() {
        for text in ["", "plain", "\"\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}é\u{1f600}", "a\"b"] {
            let mut found = String::new();
            quote(text, &mut found).expect("a string takes all");
            assert_eq!(found, serde_json::Value::from(text).to_string());
        }
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
