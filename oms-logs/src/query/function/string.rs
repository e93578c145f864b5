//! Text: length, case, parts, search.

use super::arguments::{Args, Column};
use super::budget;
use super::dynamic_text::{self, Dynamic, text_of};
use super::{Function, Naming, Parameter, kernel};
use crate::query::limits::STRING_BYTES_MAX;
use crate::query::types::KqlType;
use datafusion::arrow::array::{ArrayRef, Int64Array, StringViewArray};
use datafusion::common::{DataFusionError, Result};
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::collections::HashMap;

const PLAIN: Naming = Naming::Default;
const TEXT: &[Parameter] = &[Parameter::Text];

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("strlen", Naming::NameAndFirstArgument, TEXT, KqlType::Long, |args| {
        let text = args.text(0)?;
        Ok(args.make_long(|row| i64::try_from(text.get(row).chars().count()).ok()))
    }),
    kernel("string_size", Naming::NameAndFirstArgument, TEXT, KqlType::Long, |args| {
        let text = args.text(0)?;
        Ok(args.make_long(|row| i64::try_from(text.get(row).len()).ok()))
    }),
    kernel("tolower", PLAIN, TEXT, KqlType::String, |args| {
        let text = args.text(0)?;
        Ok(args.make_text(|row| Some(text.get(row).to_lowercase())))
    }),
    kernel("toupper", PLAIN, TEXT, KqlType::String, |args| {
        let text = args.text(0)?;
        Ok(args.make_text(|row| Some(text.get(row).to_uppercase())))
    }),
    kernel("reverse", PLAIN, TEXT, KqlType::String, |args| {
        let text = args.text(0)?;
        Ok(args.make_text(|row| Some(text.get(row).chars().rev().collect::<String>())))
    }),
    kernel("strcat", PLAIN, TEXT, KqlType::String, strcat).repeated(),
    kernel(
        "strcat_delim",
        PLAIN,
        &[Parameter::Text, Parameter::Text, Parameter::Text],
        KqlType::String,
        strcat_delim,
    )
    .repeated(),
    kernel("strcmp", PLAIN, &[Parameter::Text, Parameter::Text], KqlType::Long, strcmp),
    kernel(
        "strrep",
        PLAIN,
        &[Parameter::Text, Parameter::Long, Parameter::Text],
        KqlType::String,
        strrep,
    )
    .optional(2),
    kernel(
        "substring",
        PLAIN,
        &[Parameter::Text, Parameter::Long, Parameter::Long],
        KqlType::String,
        substring,
    )
    .optional(2),
    kernel(
        "replace_string",
        PLAIN,
        &[Parameter::Text, Parameter::Text, Parameter::Text],
        KqlType::String,
        replace_string,
    ),
    kernel(
        "indexof",
        PLAIN,
        &[Parameter::Text, Parameter::Text, Parameter::Long, Parameter::Long, Parameter::Long],
        KqlType::Long,
        indexof,
    )
    .optional(2),
    kernel(
        "translate",
        PLAIN,
        &[Parameter::Text, Parameter::Text, Parameter::Text],
        KqlType::String,
        translate,
    ),
    kernel(
        "replace_strings",
        PLAIN,
        &[Parameter::Text, Parameter::Any, Parameter::Any],
        KqlType::String,
        replace_strings,
    ),
    kernel(
        "split",
        Naming::FirstArgument,
        &[Parameter::Text, Parameter::Text, Parameter::Long],
        KqlType::Dynamic,
        split,
    )
    .optional(2),
    kernel(
        "format_bytes",
        Naming::FirstArgument,
        &[Parameter::Real, Parameter::Long, Parameter::Text],
        KqlType::String,
        format_bytes,
    )
    .optional(1),
];

/// Fails if a string of that length would be longer than a string may be.
pub(super) fn bounded(bytes: usize, function: &str) -> Result<()> {
    if bytes > STRING_BYTES_MAX { Err(string_too_long(function)) } else { Ok(()) }
}

/// The error of a function that makes a string that is too long.
pub(crate) fn string_too_long(function: &str) -> DataFusionError {
    let message = format!("`{function}` makes a string of more than {STRING_BYTES_MAX} bytes");
    DataFusionError::External(Box::new(StringTooLong(message)))
}

/// A function made a string that is longer than a string may be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StringTooLong(pub(crate) String);

fn strcat(args: &Args<'_>) -> Result<ArrayRef> {
    let parts = (0..args.len()).map(|at| args.text(at)).collect::<Result<Vec<_>>>()?;
    args.try_text(|row| {
        bounded(parts.iter().map(|part| part.get(row).len()).sum(), "strcat")?;
        Ok(Some(parts.iter().map(|part| part.get(row)).collect::<String>()))
    })
}

fn strcat_delim(args: &Args<'_>) -> Result<ArrayRef> {
    let delimiter = args.text(0)?;
    let parts = (1..args.len()).map(|at| args.text(at)).collect::<Result<Vec<_>>>()?;
    args.try_text(|row| {
        let parts: Vec<&str> = parts.iter().map(|part| part.get(row)).collect();
        let delimiter = delimiter.get(row);
        let bytes = parts.iter().map(|part| part.len() + delimiter.len()).sum();
        bounded(bytes, "strcat_delim")?;
        Ok(Some(parts.join(delimiter)))
    })
}

fn strcmp(args: &Args<'_>) -> Result<ArrayRef> {
    let (left, right) = (args.text(0)?, args.text(1)?);
    Ok(args.make_long(|row| {
        Some(match left.get(row).cmp(right.get(row)) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        })
    }))
}

fn strrep(args: &Args<'_>) -> Result<ArrayRef> {
    let (text, times) = (args.text(0)?, args.long(1)?);
    let delimiter = if args.len() > 2 { Some(args.text(2)?) } else { None };
    args.try_text(|row| {
        let Some(times) = times.get(row) else { return Ok(None) };
        let (text, times) = (text.get(row), usize::try_from(times).unwrap_or(0));
        let delimiter = delimiter.as_ref().map_or("", |delimiter| delimiter.get(row));
        bounded(times.saturating_mul(text.len() + delimiter.len()), "strrep")?;
        Ok(Some(if text.is_empty() && delimiter.is_empty() {
            String::new()
        } else {
            vec![text; times].join(delimiter)
        }))
    })
}

/// Characters from a start, counted from 0 or, if negative, from the end.
fn substring(args: &Args<'_>) -> Result<ArrayRef> {
    let (text, start) = (args.text(0)?, args.long(1)?);
    let length = if args.len() > 2 { Some(args.long(2)?) } else { None };
    Ok(args.make_text(|row| {
        let text = text.get(row);
        let Some(start) = start.get(row) else { return Some("") };
        let start = if start < 0 {
            let count = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
            count.saturating_add(start)
        } else {
            start
        };
        // Before the start of the text there is nothing to take from.
        let Ok(start) = usize::try_from(start) else { return Some("") };
        let take = match &length {
            Some(length) => usize::try_from(length.get(row).unwrap_or(0)).unwrap_or(0),
            None => usize::MAX,
        };
        Some(take_characters(text, start, take))
    }))
}

fn take_characters(text: &str, skip: usize, take: usize) -> &str {
    let rest = match text.char_indices().nth(skip) {
        Some((at, _)) => text.get(at..).unwrap_or_default(),
        None => "",
    };
    match rest.char_indices().nth(take) {
        Some((end, _)) => rest.get(..end).unwrap_or_default(),
        None => rest,
    }
}

fn replace_string(args: &Args<'_>) -> Result<ArrayRef> {
    let (text, from, to) = (args.text(0)?, args.text(1)?, args.text(2)?);
    args.try_text(|row| {
        replaced(text.get(row), from.get(row), to.get(row), "replace_string").map(Some)
    })
}

/// An empty operand is found nowhere.
fn replaced(text: &str, from: &str, to: &str, function: &str) -> Result<String> {
    if from.is_empty() {
        return Ok(text.to_owned());
    }
    if to.len() > from.len() {
        let found = text.matches(from).count();
        bounded(text.len() + found.saturating_mul(to.len() - from.len()), function)?;
    }
    Ok(text.replace(from, to))
}

/// What one call of `indexof` or `indexof_regex` looks through.
#[derive(Debug)]
pub(super) struct Search<'t> {
    /// The part of the text to look through.
    pub(super) text: &'t str,
    /// Where it starts, in characters.
    pub(super) first: usize,
    /// Which occurrence is wanted, from 0.
    pub(super) nth: usize,
}

/// The arguments `(text, sought, start, length, occurrence)` of a search.
#[derive(Debug)]
pub(super) struct Searches {
    text: Column<StringViewArray>,
    start: Option<Column<Int64Array>>,
    length: Option<Column<Int64Array>>,
    occurrence: Option<Column<Int64Array>>,
    /// Whether a negative start counts from the end; else it is wrong.
    from_end: bool,
}

impl Searches {
    pub(super) fn read(args: &Args<'_>, from_end: bool) -> Result<Self> {
        let optional = |at| if args.len() > at { args.long(at).map(Some) } else { Ok(None) };
        let (start, length, occurrence) = (optional(2)?, optional(3)?, optional(4)?);
        Ok(Self { text: args.text(0)?, start, length, occurrence, from_end })
    }

    /// What a row's search looks through, or `None` if its numbers are wrong. A length of -1 has
    /// no bound.
    pub(super) fn at(&self, row: usize) -> Option<Search<'_>> {
        let of = |column: &Option<Column<Int64Array>>, default| match column {
            Some(column) => column.get(row),
            None => Some(default),
        };
        let text = self.text.get(row);
        let (start, length) = (of(&self.start, 0)?, of(&self.length, -1)?);
        let nth = usize::try_from(of(&self.occurrence, 1)?.checked_sub(1)?).ok()?;
        let first = if start < 0 && self.from_end {
            let count = i64::try_from(text.chars().count()).ok()?;
            usize::try_from(count.saturating_add(start)).unwrap_or(0)
        } else {
            usize::try_from(start).ok()?
        };
        let take = match length {
            -1 => usize::MAX,
            length => usize::try_from(length).ok()?,
        };
        Some(Search { text: take_characters(text, first, take), first, nth })
    }
}

/// Where the operand starts, in characters from 0; -1 if nowhere, null if it is empty.
fn indexof(args: &Args<'_>) -> Result<ArrayRef> {
    let (searches, operand) = (Searches::read(args, true)?, args.text(1)?);
    Ok(args.make_long(|row| {
        let operand = operand.get(row);
        if operand.is_empty() {
            return None;
        }
        let Search { text, first, nth } = searches.at(row)?;
        let found = overlapping(text, operand).nth(nth).and_then(|at| text.get(..at));
        found.map_or(Some(-1), |before| i64::try_from(first + before.chars().count()).ok())
    }))
}

/// Where an operand that is not empty starts in a text, also within an earlier occurrence.
pub(super) fn overlapping(text: &str, operand: &str) -> impl Iterator<Item = usize> {
    let step = operand.chars().next().map_or(1, char::len_utf8);
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + text.get(from..)?.find(operand)?;
        from = at + step;
        Some(at)
    })
}

/// `translate(sought, by, text)`: each sought character becomes the one in its place, or the last
/// one where there are fewer; without any it is left out.
fn translate(args: &Args<'_>) -> Result<ArrayRef> {
    let (sought, by, text) = (args.text(0)?, args.text(1)?, args.text(2)?);
    let constant =
        (sought.is_single() && by.is_single()).then(|| counterparts(sought.get(0), by.get(0)));
    args.try_text(|row| {
        let computed;
        let counterparts = match &constant {
            Some(constant) => constant,
            None => {
                computed = counterparts(sought.get(row), by.get(row));
                &computed
            }
        };
        let text = text.get(row).chars();
        let text = text.filter_map(|c| counterparts.get(&c).copied().unwrap_or(Some(c)));
        let text: String = text.collect();
        bounded(text.len(), "translate")?;
        Ok(Some(text))
    })
}

/// What each sought character becomes, by the first place where it is sought.
fn counterparts(sought: &str, by: &str) -> HashMap<char, Option<char>> {
    let last = by.chars().last();
    let by = by.chars().map(Some).chain(std::iter::repeat(last));
    let mut counterparts = HashMap::new();
    for (sought, by) in sought.chars().zip(by) {
        counterparts.entry(sought).or_insert(by);
    }
    counterparts
}

/// Replaces each of a list of texts by its counterpart in another. What is replaced already stays,
/// so that an earlier text goes before a later one. Lists of different lengths make null.
fn replace_strings(args: &Args<'_>) -> Result<ArrayRef> {
    let (text, from, to) = (args.text(0)?, Dynamic::read(args, 1)?, Dynamic::read(args, 2)?);
    let list = |column: &Dynamic, row| match column.get(row) {
        Json::Array(items) => items,
        _ => Vec::new(),
    };
    args.try_text(|row| {
        let from: Vec<String> = list(&from, row).iter().map(text_of).collect();
        // What is to become something other than text stays, and nothing else is found in it.
        let to: Vec<String> = list(&to, row)
            .into_iter()
            .zip(from.iter().map(Some).chain(std::iter::repeat(None)))
            .map(|(to, from)| match to {
                Json::String(text) => text,
                _ => from.cloned().unwrap_or_default(),
            })
            .collect();
        if from.len() != to.len() || budget::scans(text.get(row), from.len()).is_none() {
            return Ok(None);
        }
        let mut pieces = vec![Piece::Open(text.get(row))];
        for (from, to) in from.iter().zip(&to).filter(|(from, _)| !from.is_empty()) {
            pieces = pieces.into_iter().flat_map(|piece| piece.replaced(from, to)).collect();
        }
        let texts = || pieces.iter().map(|piece| piece.text());
        bounded(texts().map(str::len).sum(), "replace_strings")?;
        Ok(Some(texts().collect::<String>()))
    })
}

/// A part of a text of which parts are replaced.
#[derive(Clone, Copy, Debug)]
enum Piece<'t> {
    Open(&'t str),
    Done(&'t str),
}

impl<'t> Piece<'t> {
    const fn text(self) -> &'t str {
        match self {
            Self::Open(text) | Self::Done(text) => text,
        }
    }

    fn replaced(self, from: &str, to: &'t str) -> Vec<Self> {
        let Self::Open(text) = self else { return vec![self] };
        let mut pieces = Vec::new();
        for (at, part) in text.split(from).enumerate() {
            if at > 0 {
                pieces.push(Self::Done(to));
            }
            pieces.push(Self::Open(part));
        }
        pieces
    }
}

/// `split(text, delimiter[, index])`: all parts, also for a negative index, or an array of one of
/// them, null if there is none.
fn split(args: &Args<'_>) -> Result<ArrayRef> {
    let (text, delimiter) = (args.text(0)?, args.text(1)?);
    let index = if args.len() > 2 { Some(args.long(2)?) } else { None };
    dynamic_text::make(args, |row| {
        let (text, delimiter) = (text.get(row), delimiter.get(row));
        let mut parts: Box<dyn Iterator<Item = &str>> = if delimiter.is_empty() {
            Box::new(std::iter::once(text))
        } else {
            Box::new(text.split(delimiter))
        };
        let index = match &index {
            Some(index) => usize::try_from(index.get(row)?).ok(),
            None => None,
        };
        match index {
            Some(index) => Some(Json::from(vec![parts.nth(index)?])),
            None => Some(Json::from(parts.collect::<Vec<_>>())),
        }
    })
}

const BYTE_UNITS: [&str; 7] = ["Bytes", "KB", "MB", "GB", "TB", "PB", "EB"];

/// A count of bytes in the largest unit of which there is one, or in a given one.
fn format_bytes(args: &Args<'_>) -> Result<ArrayRef> {
    let size = args.real(0)?;
    let digits = if args.len() > 1 { Some(args.long(1)?) } else { None };
    let unit = if args.len() > 2 { Some(args.text(2)?) } else { None };
    Ok(args.make_text(|row| {
        let size = size.get(row)?;
        let digits = match &digits {
            Some(digits) => usize::try_from(digits.get(row)?).ok()?.min(15),
            None => 0,
        };
        let given = unit.as_ref().map_or("", |unit| unit.get(row));
        let power = if given.is_empty() {
            (1..BYTE_UNITS.len()).take_while(|power| size.abs() >= bytes_in(*power)).count()
        } else {
            BYTE_UNITS.iter().position(|unit| unit.eq_ignore_ascii_case(given))?
        };
        let mut text = format!("{:.digits$}", size / bytes_in(power));
        if text.contains('.') {
            text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        }
        Some(format!("{text} {}", BYTE_UNITS.get(power)?))
    }))
}

fn bytes_in(power: usize) -> f64 {
    (0..power).fold(1.0, |bytes, _| bytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_taken_whole() {
        assert_eq!(take_characters("añb", 1, 1), "ñ");
        assert_eq!(take_characters("añb", 3, 1), "");
        assert_eq!(overlapping("aXaXa", "aXa").collect::<Vec<_>>(), [0, 2]);
        assert_eq!(overlapping("ñññ", "ññ").collect::<Vec<_>>(), [0, 2]);
    }
}
