//! Values out of text.

use crate::query::time::{TICKS_PER_SECOND, micros_of_ticks, parse_datetime, parse_timespan};
use crate::schema::ColumnType;
use jiff::{SignedDuration, Timestamp};
use oms_core::record::Value;

/// The beginning of a text, for a message.
pub(super) fn short(text: &str) -> String {
    const CHARS: usize = 40;
    let begin: String = text.chars().take(CHARS).collect();
    if begin.len() < text.len() { format!("`{begin}…`") } else { format!("`{begin}`") }
}

/// Why a text is no value of a column.
pub(super) fn misfit(name: &str, column: ColumnType, text: &str) -> String {
    format!("column {name} is {column}, and {} is none", short(text))
}

/// An instant; without an offset it is UTC. Digits below a microsecond are cut off.
pub(super) fn datetime(text: &str) -> Option<Timestamp> {
    let (micros, _) = micros_of_ticks(parse_datetime(text)?);
    Timestamp::from_microsecond(micros).ok()
}

fn timespan(text: &str) -> Option<SignedDuration> {
    let ticks = parse_timespan(text)?;
    let nanos = i32::try_from(ticks % TICKS_PER_SECOND).ok()?.checked_mul(100)?;
    Some(SignedDuration::new(ticks / TICKS_PER_SECOND, nanos))
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// What a column of that type holds for a text; none if it cannot hold it. A string column holds
/// the text as it is; every other one passes over blanks around it.
pub(super) fn value(column: ColumnType, text: &str) -> Option<Value> {
    let trimmed = text.trim();
    match column {
        ColumnType::String => Some(text.into()),
        ColumnType::Bool => truth(trimmed).map(Value::Bool),
        ColumnType::Int => trimmed.parse().ok().map(Value::Int),
        ColumnType::Long => trimmed.parse().ok().map(Value::Long),
        ColumnType::Real => trimmed.parse().ok().map(Value::Real),
        ColumnType::DateTime => datetime(trimmed).map(Value::DateTime),
        ColumnType::TimeSpan => timespan(trimmed).map(Value::TimeSpan),
        ColumnType::Guid => trimmed.parse().ok().map(Value::Guid),
        // The table takes the text of one.
        ColumnType::Decimal => Some(trimmed.into()),
        ColumnType::Dynamic => {
            let json = serde_json::from_str(trimmed);
            Some(Value::Dynamic(json.unwrap_or_else(|_not_json| text.into())))
        }
    }
}

/// The types that a column of text may turn out to have, the narrowest first.
pub(super) const GUESSES: [ColumnType; 5] =
    [ColumnType::Bool, ColumnType::Long, ColumnType::Real, ColumnType::DateTime, ColumnType::Guid];

/// Whether a text looks like a value of a type of which it could be one.
pub(super) fn looks_like(column: ColumnType, text: &str) -> bool {
    let text = text.trim();
    match column {
        // 0 and 1 are more often numbers.
        ColumnType::Bool => truth(text).is_some() && !matches!(text, "0" | "1"),
        // A number with a leading zero is a code, such as 007.
        ColumnType::Long | ColumnType::Real => {
            let digits = text.trim_start_matches(['-', '+']);
            let is_code = digits.len() > 1
                && digits.starts_with('0')
                && digits.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
            let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
            is_number && !is_code && value(column, text).is_some()
        }
        // A whole day or time, not the bare numbers that the language reads as one.
        ColumnType::DateTime => {
            text.len() >= "2026-01-01".len()
                && text.contains(['-', '/'])
                && text.starts_with(|c: char| c.is_ascii_digit())
                && datetime(text).is_some()
        }
        ColumnType::Guid => text.len() == 36 && value(column, text).is_some(),
        _ => false,
    }
}
