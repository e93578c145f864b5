//! The operators that look into text.
//!
//! A *term* is a run of letters and digits. `has` finds its operand where no term continues over
//! either end of it.

use super::arguments::Args;
use super::budget;
use super::dynamic_text::Items;
use super::kernel::KernelFn;
use super::text_search::{Needle, Place};
use super::{Function, Naming, Parameter};
use crate::query::syntax::ast::{ListOperator, TextOperator};
use crate::query::types::KqlType;
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::{cast, regexp_is_match, regexp_is_match_scalar};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

pub(super) const FUNCTIONS: &[Function] = &[super::kernel(
    "has_any_index",
    Naming::Default,
    &[Parameter::Text, Parameter::Any],
    KqlType::Long,
    any_index,
)];

/// The place of the first item that stands in the text as a term, or -1.
fn any_index(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let items = Items::read(args, 1)?;
    Ok(args.make_long(|row| {
        let text = lower(text.get(row));
        let at = items.at(row).iter().position(|item| has(&text, &lower(item), true, true));
        at.map_or(Some(-1), |at| i64::try_from(at).ok())
    }))
}

/// The kernel of an operator: (text, operand) to bool, never null.
pub(crate) fn kernel(operator: TextOperator) -> KernelFn {
    match operator {
        TextOperator::EqualAnyCase => |args| at_edge(args, Edge::Both),
        TextOperator::Contains => |args| search(args, true, Place::ANYWHERE),
        TextOperator::ContainsCase => |args| search(args, false, Place::ANYWHERE),
        TextOperator::StartsWith => |args| at_edge(args, Edge::Start),
        TextOperator::StartsWithCase => |args| as_is(args, |text, op| text.starts_with(op)),
        TextOperator::EndsWith => |args| at_edge(args, Edge::End),
        TextOperator::EndsWithCase => |args| as_is(args, |text, op| text.ends_with(op)),
        TextOperator::Has => |args| search(args, true, Place::TERM),
        TextOperator::HasCase => |args| search(args, false, Place::TERM),
        TextOperator::HasPrefix => |args| search(args, true, Place::PREFIX),
        TextOperator::HasPrefixCase => |args| search(args, false, Place::PREFIX),
        TextOperator::HasSuffix => |args| search(args, true, Place::SUFFIX),
        TextOperator::HasSuffixCase => |args| search(args, false, Place::SUFFIX),
        TextOperator::MatchesRegex => matches_regex,
    }
}

/// The kernel of an operator with a list of constants after the text.
pub(crate) fn list_kernel(operator: ListOperator) -> KernelFn {
    match operator {
        ListOperator::In | ListOperator::InAnyCase => in_any_case,
        ListOperator::HasAny => |args| {
            has_items(args, |text, items| items.iter().any(|item| has(text, item, true, true)))
        },
        ListOperator::HasAll => |args| {
            has_items(args, |text, items| items.iter().all(|item| has(text, item, true, true)))
        },
    }
}

/// The kernel of an operator with a list of which some items are not constants; dynamic arrays
/// stand for their items.
pub(crate) fn computed_list_kernel(operator: ListOperator) -> KernelFn {
    match operator {
        ListOperator::In | ListOperator::InAnyCase => |args| {
            has_computed(args, true, |text, items| items.iter().any(|item| text == lower(item)))
        },
        ListOperator::HasAny => |args| {
            has_computed(args, false, |text, items| {
                items.iter().any(|item| has(text, &lower(item), true, true))
            })
        },
        ListOperator::HasAll => |args| {
            has_computed(args, false, |text, items| {
                items.iter().all(|item| has(text, &lower(item), true, true))
            })
        },
    }
}

/// `whole` says that an item is the whole text or not in it, which takes no looking through.
fn has_computed(
    args: &Args<'_>,
    whole: bool,
    test: impl Fn(&str, &[String]) -> bool,
) -> Result<ArrayRef> {
    let (text, items) = (args.text(0)?, Items::read(args, 1)?);
    Ok(args.make_bool(|row| {
        let (text, items) = (text.get(row), items.at(row));
        budget::scans(if whole { "" } else { text }, items.len())?;
        Some(test(&lower(text), &items))
    }))
}

fn as_is(args: &Args<'_>, test: impl Fn(&str, &str) -> bool) -> Result<ArrayRef> {
    let (text, operand) = (args.text(0)?, args.text(1)?);
    Ok(args.make_bool(|row| Some(test(text.get(row), operand.get(row)))))
}

fn any_case(args: &Args<'_>, test: impl Fn(&str, &str) -> bool) -> Result<ArrayRef> {
    let (text, operand) = (args.text(0)?, args.text(1)?);
    Ok(args.make_bool(|row| Some(test(&lower(text.get(row)), &lower(operand.get(row))))))
}

/// Where in a text an operand stands that is not looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Edge {
    Start,
    End,
    Both,
}

impl Edge {
    /// Whether an operand stands there in a text of the same case.
    fn has(self, text: &str, operand: &str) -> bool {
        match self {
            Self::Start => text.starts_with(operand),
            Self::End => text.ends_with(operand),
            Self::Both => text == operand,
        }
    }

    /// The same in any case, for an operand in lower case. Where the bytes that it would stand on are
    /// ASCII they tell by themselves, and the text is not lowered.
    fn has_any_case(self, text: &str, operand: &str) -> bool {
        let bytes = text.as_bytes();
        let there = match self {
            Self::Start => bytes.get(..operand.len()),
            Self::End => bytes.len().checked_sub(operand.len()).and_then(|at| bytes.get(at..)),
            Self::Both => Some(bytes),
        };
        match there {
            Some(there) if there.is_ascii() => there.eq_ignore_ascii_case(operand.as_bytes()),
            None if bytes.is_ascii() => false,
            _ => self.has(&lower(text), operand),
        }
    }
}

/// Whether the operand stands at an edge of the text, in any case.
fn at_edge(args: &Args<'_>, edge: Edge) -> Result<ArrayRef> {
    let operand = args.text(1)?;
    if !operand.is_single() {
        return any_case(args, |text, operand| edge.has(text, operand));
    }
    let operand = lower(operand.get(0)).into_owned();
    // Null text is the empty string.
    let test = |text: Option<&str>| Some(edge.has_any_case(text.unwrap_or_default(), &operand));
    if let Some(texts) = args.column(0).and_then(|array| array.as_string_opt::<i32>()) {
        return Ok(Arc::new(texts.iter().map(test).collect::<BooleanArray>()));
    }
    let text = args.text(0)?;
    Ok(args.make_bool(|row| test(Some(text.get(row)))))
}

/// The text in lower case, borrowed if it is that already.
fn lower(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        Cow::Owned(text.to_lowercase())
    } else if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether the operand stands in the text, as one constant or one of each row.
fn search(args: &Args<'_>, folds_case: bool, place: Place) -> Result<ArrayRef> {
    let operand = args.text(1)?;
    if !operand.is_single() {
        let test = |text: &str, operand: &str| place.has(text, operand);
        return if folds_case { any_case(args, test) } else { as_is(args, test) };
    }
    let operand = operand.get(0);
    let operand = if folds_case { lower(operand) } else { Cow::Borrowed(operand) };
    let test = |text: &str| match folds_case {
        true => place.has(&lower(text), &operand),
        false => place.has(text, &operand),
    };
    let Some(needle) = Needle::new(&operand, folds_case, place) else {
        let text = args.text(0)?;
        return Ok(args.make_bool(|row| Some(test(text.get(row)))));
    };
    if let Some(texts) = args.column(0).and_then(|array| array.as_string_opt::<i32>()) {
        return Ok(Arc::new(needle.find(texts, test)));
    }
    let text = args.text(0)?;
    Ok(args.make_bool(|row| Some(needle.is_in(text.get(row), test))))
}

/// Whether the operand stands in the text so that no term continues before its start or after its
/// end. An empty operand stands everywhere.
fn has(text: &str, operand: &str, start: bool, end: bool) -> bool {
    Place { start, end }.has(text, operand)
}

fn matches_regex(args: &Args<'_>) -> Result<ArrayRef> {
    let text = |at: usize| -> Result<ArrayRef> {
        let value = match args.values.get(at) {
            Some(ColumnarValue::Array(array)) => Arc::clone(array),
            Some(ColumnarValue::Scalar(value)) => value.to_array_of_size(args.rows)?,
            None => return datafusion::common::exec_err!("argument {at} is missing"),
        };
        Ok(cast(&value, &DataType::Utf8View)?)
    };
    let array = text(0)?;
    let pattern = args.text(1)?;
    let matched = if pattern.is_single() {
        regexp_is_match_scalar(array.as_string_view(), pattern.get(0), None)?
    } else {
        let patterns = text(1)?;
        let no_flags: Option<&arrow::array::StringViewArray> = None;
        regexp_is_match(array.as_string_view(), patterns.as_string_view(), no_flags)?
    };
    // Null text is the empty string.
    let empty = pattern.is_single()
        && regexp_is_match_scalar(
            &arrow::array::StringArray::from(vec![""]),
            pattern.get(0),
            None,
        )?
        .value(0);
    Ok(Arc::new(matched.iter().map(|found| Some(found.unwrap_or(empty))).collect::<BooleanArray>()))
}

fn in_any_case(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let items = (1..args.len())
        .map(|at| Ok(lower(args.text(at)?.get(0)).into_owned()))
        .collect::<Result<HashSet<_>>>()?;
    Ok(args.make_bool(|row| Some(items.contains(lower(text.get(row)).as_ref()))))
}

fn has_items(args: &Args<'_>, test: impl Fn(&str, &[String]) -> bool) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let items = (1..args.len())
        .map(|at| Ok(lower(args.text(at)?.get(0)).into_owned()))
        .collect::<Result<Vec<_>>>()?;
    Ok(args.make_bool(|row| Some(test(&lower(text.get(row)), &items))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn edges_are_those_of_lowered_text(
            text in "[abKkéÉİıſΣσς\u{212A}]{0,6}",
            operand in "[abkéıßσςi\u{307}]{0,4}",
            edge in prop::sample::select(vec![Edge::Start, Edge::End, Edge::Both]),
        ) {
            let operand = lower(&operand);
            let expected = edge.has(&lower(&text), &operand);
            prop_assert_eq!(edge.has_any_case(&text, &operand), expected);
        }
    }

    #[test]
    fn terms_end_at_what_is_no_letter_or_digit() {
        for (text, operand, expect) in [
            ("error: disk full", "disk", true),
            ("diskfull", "disk", false),
            ("1_2_3", "2", true),
            ("v1.2.3", "1", false),
            ("a-b a", "a", true),
            ("aa a", "a", true),
            ("x.conf", ".conf", true),
            ("", "", true),
            ("aab ab", "ab", true),
            ("café au lait", "café", true),
            ("cafés", "café", false),
        ] {
            assert_eq!(has(text, operand, true, true), expect, "{text} has {operand}");
        }
        assert!(has("prefixed", "prefix", true, false));
        assert!(!has("unprefixed", "prefix", true, false));
        assert!(has("unfixed", "fixed", false, true));
    }
}
