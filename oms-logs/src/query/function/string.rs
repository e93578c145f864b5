//! Text: length, case, parts, search.

use super::arguments::Args;
use super::{Function, Naming, Parameter, kernel};
use crate::query::limits::STRING_BYTES_MAX;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::{DataFusionError, Result};
use std::cmp::Ordering;

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
        &[Parameter::Text, Parameter::Text, Parameter::Long],
        KqlType::Long,
        indexof,
    )
    .optional(2),
];

/// Fails if a string of that length would be longer than a string may be.
fn bounded(bytes: usize, function: &str) -> Result<()> {
    if bytes > STRING_BYTES_MAX {
        let message = format!("`{function}` makes a string of more than {STRING_BYTES_MAX} bytes");
        return Err(DataFusionError::External(Box::new(StringTooLong(message))));
    }
    Ok(())
}

/// A function made a string that is longer than a string may be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StringTooLong(String);

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
        let (text, from, to) = (text.get(row), from.get(row), to.get(row));
        // An empty operand is found nowhere.
        if from.is_empty() {
            return Ok(Some(text.to_owned()));
        }
        if to.len() > from.len() {
            let found = text.matches(from).count();
            bounded(text.len() + found.saturating_mul(to.len() - from.len()), "replace_string")?;
        }
        Ok(Some(text.replace(from, to)))
    })
}

/// Where the operand starts, in characters from 0; -1 if nowhere, null if it is empty.
fn indexof(args: &Args<'_>) -> Result<ArrayRef> {
    let (text, operand) = (args.text(0)?, args.text(1)?);
    let start = if args.len() > 2 { Some(args.long(2)?) } else { None };
    Ok(args.make_long(|row| {
        let (text, operand) = (text.get(row), operand.get(row));
        if operand.is_empty() {
            return None;
        }
        let skip = match &start {
            Some(start) => usize::try_from(start.get(row)?).unwrap_or(0),
            None => 0,
        };
        let rest = take_characters(text, skip, usize::MAX);
        let found = rest.find(operand).and_then(|at| rest.get(..at));
        found.map_or(Some(-1), |before| i64::try_from(skip + before.chars().count()).ok())
    }))
}
