//! Columns of custom tables that are named by what they hold: a property's name, and a suffix for the
//! type of its value.
//!
//! ```text
//!  JSON value                                    type       suffix
//!  text of a date and a time, 2026-11-23T10:00Z  datetime   _t
//!  text that looks like a guid, dashes or not    guid       _g
//!  other text, an array, an object               string     _s
//!  true, false                                   bool       _b
//!  a number                                      real       _d
//! ```
//!
//! See "HTTP Data Collector API", Record type and properties
//! (`azure-monitor/logs/data-collector-api`).

use super::{COLUMN_NAME_BYTES_MAX, ColumnType};
use crate::query::time::{micros_of_ticks, parse_datetime};
use std::borrow::Cow;
use uuid::Uuid;

/// The types that a value can be taken for, and what they add to a name.
pub(crate) const SUFFIXES: [(ColumnType, &str); 5] = [
    (ColumnType::String, "_s"),
    (ColumnType::Bool, "_b"),
    (ColumnType::Real, "_d"),
    (ColumnType::DateTime, "_t"),
    (ColumnType::Guid, "_g"),
];

/// Bytes of every suffix.
const SUFFIX_BYTES: usize = 2;

/// Names of properties that are refused, in lower case.
const RESERVED: [&str; 3] = ["tenant", "timegenerated", "rawdata"];

/// Where among [`SUFFIXES`] a text belongs.
pub(crate) fn kind_of_text(text: &str) -> usize {
    match text {
        _ if guid(text).is_some() => 4,
        _ if datetime(text).is_some() => 3,
        _ => 0,
    }
}

/// A guid of 32 hexadecimal digits, with the four dashes or without any.
pub(crate) fn guid(text: &str) -> Option<Uuid> {
    matches!(text.len(), 32 | 36).then(|| Uuid::parse_str(text).ok()).flatten()
}

/// The microseconds since 1970 of a date and a time in ISO 8601; without an offset they are UTC.
pub(crate) fn datetime(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let has_form = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12].into_iter().all(is_digit)
        && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':')]
            .into_iter()
            .all(|(at, byte)| bytes.get(at) == Some(&byte))
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
    let ticks = has_form.then(|| parse_datetime(text)).flatten()?;
    Some(micros_of_ticks(ticks).0)
}

/// What a property's name is in a column's: letters, digits and underscores, of which each stands for
/// another sign of ASCII or before a digit at the beginning.
///
/// # Errors
/// Why the property cannot be a column.
pub(crate) fn base_of(property: &str) -> Result<Cow<'_, str>, String> {
    if property.is_empty() {
        return Err("the property has no name".to_owned());
    }
    if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(property)) {
        return Err("the name is reserved".to_owned());
    }
    if !property.is_ascii() || property.contains(|c: char| c.is_ascii_control()) {
        return Err("the name has a character beyond those of ASCII text".to_owned());
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts_with_digit = property.starts_with(|c: char| c.is_ascii_digit());
    let base = if property.chars().all(is_word) && !starts_with_digit {
        Cow::Borrowed(property)
    } else {
        let words = property.chars().map(|c| if is_word(c) { c } else { '_' });
        Cow::Owned(starts_with_digit.then_some('_').into_iter().chain(words).collect())
    };
    if base.len() + SUFFIX_BYTES > COLUMN_NAME_BYTES_MAX {
        return Err(format!(
            "column name is longer than {COLUMN_NAME_BYTES_MAX} bytes, of which the type's suffix \
             takes {SUFFIX_BYTES}"
        ));
    }
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn suffix_of(text: &str, suffix: &str) {
        assert_eq!(SUFFIXES[kind_of_text(text)].1, suffix, "{text}");
    }

    #[test]
    fn text_is_taken_for_what_it_looks_like() {
        for text in
            ["", "42", "true", "2026-11-23", "10:00:00", "a", "6f9619ff8b86d011b42d00cf4fc964f"]
        {
            suffix_of(text, "_s");
        }
        for text in [
            "2019-09-12T20:00:00.625Z",
            "2019-09-12T20:00:00Z",
            "2019-09-12T20:00:00",
            "2019-09-12T20:00:00.1234567+02:00",
            "2020-07-21T10:00:00+0000",
            "2020-07-21T10:00-07:00",
        ] {
            suffix_of(text, "_t");
        }
        for text in [
            "2019-09-12 20:00:00Z",
            "2019-13-12T20:00:00Z",
            "2019-09-12T20:00:00Z ",
            "2019-09-12T20",
            "2019-09-12T25:00:00Z",
            "99999-09-12T20:00:00Z",
        ] {
            suffix_of(text, "_s");
        }
        // Both forms of the service's documentation.
        for text in ["8145d822-13a7-44ad-859c-36f31a84f6dd", "8145d82213a744ad859c36f31a84f6dd"] {
            suffix_of(text, "_g");
            let id = guid(text).expect("a guid").as_hyphenated().to_string();
            assert_eq!(id, "8145d822-13a7-44ad-859c-36f31a84f6dd");
        }
        suffix_of("9909ED01-A74C-4874-8ABF-D2678E3AE23D", "_g");
        suffix_of("{9909ED01-A74C-4874-8ABF-D2678E3AE23D}", "_s");
        assert_eq!(datetime("1970-01-01T01:00:00.000002+01:00"), Some(2));
    }

    #[test]
    fn names_of_properties_become_names_of_columns() {
        for (property, base) in [
            ("Level", "Level"),
            ("_x", "_x"),
            ("@timestamp", "_timestamp"),
            ("property 1", "property_1"),
            ("a.b-c", "a_b_c"),
            ("1st", "_1st"),
        ] {
            assert_eq!(base_of(property).expect("a name"), base);
        }
        let longest = "x".repeat(43);
        assert!(base_of(&longest).is_ok());
        for (property, reason) in [
            ("", "no name"),
            ("Tenant", "reserved"),
            ("TimeGenerated", "reserved"),
            ("RAWDATA", "reserved"),
            ("größe", "beyond those of ASCII"),
            ("a\nb", "beyond those of ASCII"),
            (&"x".repeat(44), "longer than 45"),
        ] {
            let refused = base_of(property).expect_err(property);
            assert!(refused.contains(reason), "{property}: {refused}");
        }
    }
}
