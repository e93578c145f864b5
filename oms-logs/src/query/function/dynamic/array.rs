//! Functions over arrays: lengths, parts, sums.

use super::super::arguments::Args;
use super::super::{Function, Naming, Parameter, kernel};
use super::build::dynamics;
use super::set::Element;
use crate::query::dynamic::{Items, View, Writer};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;

const NAMING: Naming = Naming::Default;
const ARRAY: &[Parameter] = &[Parameter::Dynamic];
const ARRAY_AND_COUNT: &[Parameter] = &[Parameter::Dynamic, Parameter::Long];
const ARRAY_COUNT_VALUE: &[Parameter] =
    &[Parameter::Dynamic, Parameter::Long, Parameter::AsDynamic];

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("array_length", NAMING, ARRAY, KqlType::Long, array_length),
    kernel("arraylength", NAMING, ARRAY, KqlType::Long, array_length),
    kernel("array_concat", NAMING, ARRAY, KqlType::Dynamic, array_concat).repeated(),
    kernel("array_sum", NAMING, ARRAY, KqlType::Real, array_sum),
    kernel("array_reverse", NAMING, ARRAY, KqlType::Dynamic, array_reverse),
    kernel(
        "array_slice",
        NAMING,
        &[Parameter::Dynamic, Parameter::Long, Parameter::Long],
        KqlType::Dynamic,
        array_slice,
    ),
    kernel(
        "array_split",
        NAMING,
        &[Parameter::Dynamic, Parameter::AsDynamic],
        KqlType::Dynamic,
        array_split,
    ),
    kernel("array_rotate_left", NAMING, ARRAY_AND_COUNT, KqlType::Dynamic, |args| rotate(args, 1)),
    kernel("array_rotate_right", NAMING, ARRAY_AND_COUNT, KqlType::Dynamic, |args| {
        rotate(args, -1)
    }),
    kernel("array_shift_left", NAMING, ARRAY_COUNT_VALUE, KqlType::Dynamic, |args| shift(args, 1))
        .optional(2),
    kernel("array_shift_right", NAMING, ARRAY_COUNT_VALUE, KqlType::Dynamic, |args| {
        shift(args, -1)
    })
    .optional(2),
    kernel(
        "array_index_of",
        NAMING,
        &[
            Parameter::Dynamic,
            Parameter::AsDynamic,
            Parameter::Long,
            Parameter::Long,
            Parameter::Long,
        ],
        KqlType::Long,
        array_index_of,
    )
    .optional(2),
    kernel("array_iff", NAMING, CHOICE, KqlType::Dynamic, array_iff),
    kernel("array_iif", NAMING, CHOICE, KqlType::Dynamic, array_iff),
];

const CHOICE: &[Parameter] = &[Parameter::Dynamic, Parameter::AsDynamic, Parameter::AsDynamic];

/// A length as an index.
pub(super) fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Writes an array of items of another one.
fn write_items<'v>(writer: &mut Writer<'_>, items: impl Iterator<Item = &'v [u8]>) {
    writer.array(|parts| items.for_each(|item| parts.item(|writer| writer.raw(item))));
}

/// The items from one place up to another.
fn between<'v>(items: Items<'v>, from: i64, to: i64) -> impl Iterator<Item = &'v [u8]> {
    (from.max(0)..to.min(signed(items.len()))).filter_map(move |at| items.at(at))
}

fn array_length(args: &Args<'_>) -> Result<ArrayRef> {
    let array = args.dynamic(0)?;
    Ok(args.make_long(|row| array.get(row).as_array().map(|items| signed(items.len()))))
}

/// The items of all arrays; what is no array adds nothing.
fn array_concat(args: &Args<'_>) -> Result<ArrayRef> {
    let arrays = dynamics(args, 0)?;
    args.make_dynamic(|row, writer| {
        let all: Vec<_> = arrays.iter().filter_map(|array| array.get(row).as_array()).collect();
        if all.is_empty() {
            return writer.null();
        }
        write_items(writer, all.into_iter().flat_map(Items::iter));
    })
}

/// The sum of the numbers, nulls passed over; null if there is none, or an item that is no number.
fn array_sum(args: &Args<'_>) -> Result<ArrayRef> {
    let array = args.dynamic(0)?;
    Ok(args.make_real(|row| {
        let mut sum = None;
        for item in array.get(row).as_array()?.iter() {
            sum = match View::of(item) {
                View::Null => sum,
                View::Bool(value) => Some(sum.unwrap_or(0.0) + f64::from(u8::from(value))),
                other => Some(sum.unwrap_or(0.0) + other.as_number()?),
            };
        }
        sum
    }))
}

fn array_reverse(args: &Args<'_>) -> Result<ArrayRef> {
    let array = args.dynamic(0)?;
    args.make_dynamic(|row, writer| match array.get(row) {
        View::Array(items) => write_items(writer, items.iter().rev()),
        _ => writer.null(),
    })
}

/// From one index to another, which is included; negative ones count from the end.
fn array_slice(args: &Args<'_>) -> Result<ArrayRef> {
    let (array, start, end) = (args.dynamic(0)?, args.long(1)?, args.long(2)?);
    args.make_dynamic(|row, writer| match (array.get(row), start.get(row), end.get(row)) {
        (View::Array(items), Some(start), Some(end)) => {
            let length = signed(items.len());
            let place = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
            let (start, end) = (place(start), place(end));
            write_items(writer, between(items, start, end.saturating_add(1)));
        }
        _ => writer.null(),
    })
}

/// Arrays of the items before, between and after the indices.
fn array_split(args: &Args<'_>) -> Result<ArrayRef> {
    let (array, at) = (args.dynamic(0)?, args.dynamic(1)?);
    args.make_dynamic(|row, writer| {
        let View::Array(items) = array.get(row) else { return writer.null() };
        let length = signed(items.len());
        let place = |view: View<'_>| match view {
            View::Long(index) if index < 0 => Some(index.saturating_add(length).max(0)),
            View::Long(index) => Some(index.min(length)),
            _ => None,
        };
        let places: Option<Vec<i64>> = match at.get(row) {
            View::Array(indices) => indices.iter().map(|index| place(View::of(index))).collect(),
            one => place(one).map(|place| vec![place]),
        };
        let Some(places) = places else { return writer.null() };
        writer.array(|parts| {
            let mut from = 0;
            for to in places.into_iter().chain([length]) {
                let to = to.max(from);
                parts.item(|writer| write_items(writer, between(items, from, to)));
                from = to;
            }
        });
    })
}

/// `direction` is 1 to the left and -1 to the right.
fn rotate(args: &Args<'_>, direction: i64) -> Result<ArrayRef> {
    let (array, count) = (args.dynamic(0)?, args.long(1)?);
    args.make_dynamic(|row, writer| match (array.get(row), count.get(row)) {
        (View::Array(items), Some(count)) => {
            let length = signed(items.len());
            let by = count.checked_rem_euclid(length).unwrap_or(0) * direction;
            let by = by.checked_rem_euclid(length).unwrap_or(0);
            let turned = between(items, by, length).chain(between(items, 0, by));
            write_items(writer, turned);
        }
        _ => writer.null(),
    })
}

/// Like [`rotate`], with a default in the place of what would come round.
fn shift(args: &Args<'_>, direction: i64) -> Result<ArrayRef> {
    let (array, count) = (args.dynamic(0)?, args.long(1)?);
    let default = if args.len() > 2 { Some(args.dynamic(2)?) } else { None };
    args.make_dynamic(|row, writer| match (array.get(row), count.get(row)) {
        (View::Array(items), Some(count)) => {
            let length = signed(items.len());
            let by = count.saturating_mul(direction);
            let default = default.as_ref().and_then(|default| default.bytes(row));
            let shifted = (0..length).map(|at| {
                let from = at.saturating_add(by);
                if (0..length).contains(&from) { items.at(from) } else { default }
            });
            write_items(writer, shifted.map(Option::unwrap_or_default));
        }
        _ => writer.null(),
    })
}

/// `array_index_of(array, value[, start[, length[, occurrence]]])`: -1 if it is not there, null if
/// there is no such length (below -1, which is all that follows) or occurrence.
fn array_index_of(args: &Args<'_>) -> Result<ArrayRef> {
    let (array, value) = (args.dynamic(0)?, args.dynamic(1)?);
    let option = |at| if args.len() > at { args.long(at).map(Some) } else { Ok(None) };
    let (start, length, occurrence) = (option(2)?, option(3)?, option(4)?);
    Ok(args.make_long(|row| {
        let items = array.get(row).as_array()?;
        let value = Element(value.bytes(row).unwrap_or(&[0]));
        let count = signed(items.len());
        let start = start.as_ref().map_or(Some(0), |start| start.get(row))?;
        let start = if start < 0 { start.saturating_add(count).max(0) } else { start };
        let end = match length.as_ref().map_or(Some(-1), |length| length.get(row))? {
            -1 => count,
            length if length < -1 => return None,
            length => start.saturating_add(length).min(count),
        };
        let occurrence = occurrence.as_ref().map_or(Some(1), |number| number.get(row))?;
        let skip = usize::try_from(occurrence.checked_sub(1)?).ok()?;
        let mut found =
            (start..end).filter(|at| items.at(*at).is_some_and(|i| Element(i) == value));
        Some(found.nth(skip).unwrap_or(-1))
    }))
}

/// Whether a condition holds; text, times and nulls are no conditions.
fn holds(condition: View<'_>) -> Option<bool> {
    match condition {
        View::Bool(value) => Some(value),
        View::Null => None,
        other => other.as_number().map(|number| number != 0.0),
    }
}

/// By each condition the item of one array or of the other; a scalar stands for every item.
fn array_iff(args: &Args<'_>) -> Result<ArrayRef> {
    let (conditions, if_true, if_false) = (args.dynamic(0)?, args.dynamic(1)?, args.dynamic(2)?);
    args.make_dynamic(|row, writer| {
        let View::Array(items) = conditions.get(row) else { return writer.null() };
        writer.array(|parts| {
            for (at, condition) in items.iter().enumerate() {
                let chosen = match holds(View::of(condition)) {
                    Some(true) => Some(&if_true),
                    Some(false) => Some(&if_false),
                    None => None,
                };
                let item = chosen.and_then(|chosen| match chosen.get(row) {
                    View::Array(items) => items.get(at),
                    _ => chosen.bytes(row),
                });
                parts.item(|writer| writer.raw(item.unwrap_or_default()));
            }
        });
    })
}
