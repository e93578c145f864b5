//! `format_datetime` and `format_timespan`.

use super::arguments::Args;
use super::{Function, Naming, Parameter, kernel};
use crate::query::time::{self, TICKS_PER_DAY, TICKS_PER_HOUR, TICKS_PER_MINUTE, TICKS_PER_SECOND};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;
use std::fmt::Write;

pub(super) const FUNCTIONS: &[Function] = &[
    kernel(
        "format_datetime",
        Naming::FirstArgument,
        &[Parameter::DateTime, Parameter::Text],
        KqlType::String,
        |args| format(args, datetime_field),
    ),
    kernel(
        "format_timespan",
        Naming::FirstArgument,
        &[Parameter::TimeSpan, Parameter::Text],
        KqlType::String,
        |args| format(args, timespan_field),
    ),
];

/// Writes one run of a letter; `false` if the letter is not a field.
type Field = fn(&mut String, i64, char, usize) -> bool;

fn format(args: &Args<'_>, field: Field) -> Result<ArrayRef> {
    let (ticks, pattern) = (args.long(0)?, args.text(1)?);
    Ok(args.make_text(|row| {
        Some(ticks.get(row).map(|ticks| apply(ticks, pattern.get(row), field)).unwrap_or_default())
    }))
}

/// Runs of a field's letter are replaced; other characters stay.
fn apply(ticks: i64, pattern: &str, field: Field) -> String {
    // Only a timespan can be negative.
    let mut text = String::from(if ticks < 0 { "-" } else { "" });
    let mut characters = pattern.chars().peekable();
    while let Some(letter) = characters.next() {
        let mut width = 1;
        while characters.next_if_eq(&letter).is_some() {
            width += 1;
        }
        if !field(&mut text, ticks, letter, width) {
            text.extend(std::iter::repeat_n(letter, width));
        }
    }
    text
}

/// The widest field, in digits.
const WIDTH_MAX: usize = 8;

fn padded(text: &mut String, value: i64, width: usize) {
    let _ = write!(text, "{value:0width$}", width = width.min(WIDTH_MAX));
}

/// A field of at most two digits; a longer run of its letter is several fields.
fn pairs(text: &mut String, value: i64, width: usize) {
    (0..width / 2).for_each(|_| padded(text, value, 2));
    if width % 2 == 1 {
        padded(text, value, 1);
    }
}

fn fraction(text: &mut String, ticks: i64, letter: char, width: usize) {
    let digits = format!("{:07}", ticks.rem_euclid(TICKS_PER_SECOND));
    let digits = digits.get(..width.min(7)).unwrap_or(&digits);
    // The capital letter leaves trailing zeros out.
    text.push_str(if letter == 'F' { digits.trim_end_matches('0') } else { digits });
}

fn datetime_field(text: &mut String, ticks: i64, letter: char, width: usize) -> bool {
    let date = time::date_of(ticks);
    let hour = ticks.rem_euclid(TICKS_PER_DAY) / TICKS_PER_HOUR;
    match letter {
        'y' if width <= 2 => padded(text, date.year % 100, width),
        'y' => padded(text, date.year, width),
        'M' => pairs(text, date.month, width),
        'd' => pairs(text, date.day, width),
        'H' => pairs(text, hour, width),
        'h' => pairs(text, (hour + 11) % 12 + 1, width),
        'm' => pairs(text, ticks / TICKS_PER_MINUTE % 60, width),
        's' => pairs(text, ticks / TICKS_PER_SECOND % 60, width),
        'f' | 'F' => fraction(text, ticks, letter, width),
        't' => text.push_str(if hour < 12 { "AM" } else { "PM" }),
        _ => return false,
    }
    true
}

fn timespan_field(text: &mut String, ticks: i64, letter: char, width: usize) -> bool {
    let ticks = ticks.saturating_abs();
    match letter {
        'd' => padded(text, ticks / TICKS_PER_DAY, width),
        'H' | 'h' => pairs(text, ticks / TICKS_PER_HOUR % 24, width),
        'm' => pairs(text, ticks / TICKS_PER_MINUTE % 60, width),
        's' => pairs(text, ticks / TICKS_PER_SECOND % 60, width),
        'f' | 'F' => fraction(text, ticks, letter, width),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let at = |text| time::parse_datetime(text).expect("a datetime");
        let check = |text, pattern, expect: &str| {
            assert_eq!(apply(at(text), pattern, datetime_field), expect, "{pattern}");
        };
        check("2007-03-09 05:04:03.5", "yyyy-MM-dd HH:mm:ss.fff", "2007-03-09 05:04:03.500");
        check("2007-03-09 17:04:03", "h:m tt", "5:4 PM");
        check("2007-03-09 00:30:00", "hh:mm tt", "12:30 AM");
        check("2020-06-15 13:45:09", "s.FFFFFFF", "9.");
        let span = time::parse_timespan("1.02:03:04.5").expect("a timespan");
        assert_eq!(apply(span, "d.hh:mm:ss [ff]", timespan_field), "1.02:03:04 [50]");
    }
}
