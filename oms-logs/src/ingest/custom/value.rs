//! One value of a record, and what columns make of it.

use crate::ingest::admit::{EXACT, fits};
use crate::ingest::column::ColumnBuffer;
use crate::schema::ColumnType;
use crate::schema::infer::{datetime, guid, kind_of_text};
use jiff::Timestamp;
use oms_core::record::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A value that is not null.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given<'t> {
    Bool(bool),
    Number {
        real: f64,
        /// If it is a whole number of 64 bits.
        whole: Option<i64>,
        /// Whether `real` has all of its digits, as far as it is whole.
        is_exact: bool,
    },
    /// With its place among the suffixes.
    Text(Cow<'t, str>, usize),
}

impl<'t> Given<'t> {
    /// What stands in the JSON; none for null. Text is cut to `text_bytes_max`; answers too whether it
    /// was.
    pub(super) fn read(
        raw: &'t RawValue,
        text_bytes_max: usize,
    ) -> Result<Option<(Self, bool)>, String> {
        let text = raw.get();
        let given = match text.as_bytes().first() {
            Some(b'n') => return Ok(None),
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => {
                let text = match unescaped(text) {
                    Some(plain) => Cow::Borrowed(plain),
                    None => serde_json::from_str::<String>(text)
                        .map(Cow::Owned)
                        .map_err(|error| format!("is no text: {error}"))?,
                };
                return Ok(Some(Self::text(text, text_bytes_max)));
            }
            // A table keeps an array or an object as its text.
            Some(b'[' | b'{') => {
                let (nested, is_cut) = cut(Cow::Borrowed(text), text_bytes_max);
                return Ok(Some((Self::Text(nested, 0), is_cut)));
            }
            _ => match number(text) {
                Some(number) => number,
                // It has no place among the reals, so it stays what was written.
                None => return Ok(Some(Self::text(Cow::Borrowed(text), text_bytes_max))),
            },
        };
        Ok(Some((given, false)))
    }

    fn text(text: Cow<'t, str>, text_bytes_max: usize) -> (Self, bool) {
        let (text, is_cut) = cut(text, text_bytes_max);
        let kind = kind_of_text(&text);
        (Self::Text(text, kind), is_cut)
    }

    /// The place of its type among the suffixes.
    pub(super) const fn kind(&self) -> usize {
        match self {
            Self::Bool(_) => 1,
            Self::Number { .. } => 2,
            Self::Text(_, kind) => *kind,
        }
    }

    /// Adds the value to a column if it holds what the value says; `false` if it does not.
    pub(super) fn push(&self, column: &mut ColumnBuffer) -> bool {
        let column_type = column.column_type();
        let value = match (self, column_type) {
            (Self::Text(text, _), ColumnType::String) => {
                column.push_text(text);
                return true;
            }
            (Self::Number { real, .. }, ColumnType::Real) => {
                column.push_real(*real);
                return true;
            }
            (Self::Bool(flag), _) => Value::Bool(*flag),
            (Self::Number { whole: Some(whole), .. }, _) => Value::Long(*whole),
            (Self::Number { real, .. }, _) => Value::Real(*real),
            (Self::Text(text, _), column_type) => match of_text(text, column_type) {
                Some(value) => value,
                None => return false,
            },
        };
        let does_fit = fits(column_type, &value).is_ok();
        if does_fit {
            column.push(&value);
        }
        does_fit
    }

    /// The value as JSON, as the column that it has no place for would hold it.
    pub(super) fn json(&self) -> serde_json::Value {
        match self {
            Self::Bool(flag) => (*flag).into(),
            Self::Number { whole: Some(whole), is_exact: true, .. } => (*whole).into(),
            Self::Number { real, .. } => (*real).into(),
            Self::Text(text, _) => match guid(text) {
                Some(id) => id.as_hyphenated().to_string().into(),
                None => (&**text).into(),
            },
        }
    }
}

/// What a text says to a column that is not of text.
fn of_text(text: &str, column: ColumnType) -> Option<Value> {
    match column {
        ColumnType::Bool if text.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
        ColumnType::Bool if text.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
        ColumnType::Real | ColumnType::Int | ColumnType::Long => match number_of_text(text)? {
            Given::Number { whole: Some(whole), .. } => Some(Value::Long(whole)),
            Given::Number { real, .. } => Some(Value::Real(real)),
            _ => None,
        },
        ColumnType::DateTime => {
            Timestamp::from_microsecond(datetime(text)?).ok().map(Value::DateTime)
        }
        ColumnType::Guid => guid(text).map(Value::Guid),
        ColumnType::Decimal | ColumnType::Dynamic => Some(text.into()),
        _ => None,
    }
}

/// A number that a text is, whole ones to the last digit.
fn number_of_text(text: &str) -> Option<Given<'static>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit()).then_some(())?;
    let number = number(text)?;
    matches!(number, Given::Number { is_exact: true, .. }).then_some(number)
}

/// A number that a real has a place for.
fn number(text: &str) -> Option<Given<'static>> {
    let real = text.parse::<f64>().ok().filter(|real| real.is_finite())?;
    let is_whole = !text.contains(['.', 'e', 'E']);
    let whole = is_whole.then(|| text.parse::<i64>().ok()).flatten();
    let is_exact = !is_whole || whole.is_some_and(|whole| (-EXACT..=EXACT).contains(&whole));
    Some(Given::Number { real, whole, is_exact })
}

/// The text between the quotes if it stands there as it is.
fn unescaped(quoted: &str) -> Option<&str> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    memchr::memchr(b'\\', inner.as_bytes()).is_none().then_some(inner)
}

/// The text, or as much of it as is taken, and whether it was longer.
fn cut(text: Cow<'_, str>, bytes_max: usize) -> (Cow<'_, str>, bool) {
    if text.len() <= bytes_max {
        return (text, false);
    }
    let end = text.floor_char_boundary(bytes_max);
    let cut = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(..end).unwrap_or_default()),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    };
    (cut, true)
}
