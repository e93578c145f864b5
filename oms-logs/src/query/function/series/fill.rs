//! Functions that put values in the place of those that are missing.

use super::super::arguments::Args;
use super::super::{Function, Naming, Parameter as P, kernel};
use super::item::{Item, items, write_items};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;

pub(super) const FUNCTIONS: &[Function] = &[
    kernel(
        "series_fill_backward",
        Naming::FirstArgument,
        &[P::AsDynamic, P::AsDynamic],
        KqlType::Dynamic,
        |args| filled(args, 1, |items, missing, _| backward(items, missing)),
    )
    .optional(1),
    kernel(
        "series_fill_forward",
        Naming::FirstArgument,
        &[P::AsDynamic, P::AsDynamic],
        KqlType::Dynamic,
        |args| filled(args, 1, |items, missing, _| forward(items, missing)),
    )
    .optional(1),
    kernel(
        "series_fill_const",
        Naming::FirstArgument,
        &[P::AsDynamic, P::AsDynamic, P::AsDynamic],
        KqlType::Dynamic,
        constant,
    )
    .optional(1),
    kernel(
        "series_fill_linear",
        Naming::FirstArgument,
        &[P::AsDynamic, P::AsDynamic, P::Bool, P::AsDynamic],
        KqlType::Dynamic,
        straight,
    )
    .optional(1),
];

/// Fills each row's series; the placeholder for what is missing is the argument `at`.
fn filled(
    args: &Args<'_>,
    at: usize,
    fill: impl Fn(&mut Vec<Item>, &dyn Fn(Item) -> bool, usize),
) -> Result<ArrayRef> {
    let series = args.dynamic(0)?;
    let placeholder = if at < args.len() { Some(args.dynamic(at)?) } else { None };
    args.make_dynamic(|row, writer| {
        let Some(mut items) = items(series.get(row)) else { return writer.null() };
        let placeholder = placeholder.as_ref().map_or(Item::None, |p| Item::of(p.get(row)));
        let missing = |item: Item| match (item.real(), placeholder.real()) {
            (None, _) => placeholder == Item::None,
            (Some(item), Some(placeholder)) => item == placeholder,
            (Some(_), None) => false,
        };
        fill(&mut items, &missing, row);
        write_items(writer, &items);
    })
}

fn forward(items: &mut [Item], missing: &dyn Fn(Item) -> bool) {
    let mut last = None;
    for item in items {
        if missing(*item) {
            *item = last.unwrap_or(*item);
        } else {
            last = Some(*item);
        }
    }
}

fn backward(items: &mut [Item], missing: &dyn Fn(Item) -> bool) {
    items.reverse();
    forward(items, missing);
    items.reverse();
}

fn constant(args: &Args<'_>) -> Result<ArrayRef> {
    let value = if args.len() > 1 { Some(args.dynamic(1)?) } else { None };
    filled(args, 2, |items, missing, row| {
        let value = value.as_ref().map_or(Item::Long(0), |value| Item::of(value.get(row)));
        items.iter_mut().filter(|item| missing(**item)).for_each(|item| *item = value);
    })
}

fn straight(args: &Args<'_>) -> Result<ArrayRef> {
    let edges = if args.len() > 2 { Some(args.bool(2)?) } else { None };
    let constant = if args.len() > 3 { Some(args.dynamic(3)?) } else { None };
    filled(args, 1, |items, missing, row| {
        let fill_edges = edges.as_ref().is_none_or(|edges| edges.get(row).unwrap_or(true));
        if items.iter().all(|item| missing(*item)) {
            let value = constant.as_ref().map_or(Item::Real(0.0), |c| Item::of(c.get(row)));
            items.fill(value);
            return;
        }
        between(items, missing);
        if fill_edges {
            forward(items, missing);
            backward(items, missing);
        }
    })
}

/// Fills what is missing between two values with those of the line from one to the other, cut to
/// whole numbers in a series of whole numbers.
fn between(items: &mut [Item], missing: &dyn Fn(Item) -> bool) {
    let whole = items.iter().all(|item| missing(*item) || matches!(item, Item::Long(_)));
    let mut last: Option<(usize, f64)> = None;
    for at in 0..items.len() {
        if missing(items[at]) {
            continue;
        }
        let Some(value) = items[at].real() else { continue };
        if let Some((before, start)) = last {
            let width = (at - before) as f64;
            for (step, item) in items[before + 1..at].iter_mut().enumerate() {
                let on_line = start + (value - start) * (step + 1) as f64 / width;
                *item = if whole { Item::Long(on_line as i64) } else { Item::Real(on_line) };
            }
        }
        last = Some((at, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_none(item: Item) -> bool {
        item == Item::None
    }

    #[test]
    fn gaps_are_filled_along_a_line() {
        let gap = Item::None;
        let mut items =
            vec![gap, Item::Long(111), gap, Item::Long(36), gap, gap, Item::Long(0), gap];
        between(&mut items, &is_none);
        let filled = [111, 73, 36, 24, 12, 0].map(Item::Long);
        assert_eq!(items[1..7], filled);
        assert_eq!((items[0], items[7]), (gap, gap));
        let mut items = vec![Item::Real(1.0), gap, Item::Long(2)];
        between(&mut items, &is_none);
        assert_eq!(items[1], Item::Real(1.5));
    }

    #[test]
    fn gaps_take_the_value_before_or_after() {
        let gap = Item::None;
        let (mut there, mut back) = (vec![gap, Item::Long(1), gap], vec![gap, Item::Long(1), gap]);
        forward(&mut there, &is_none);
        backward(&mut back, &is_none);
        assert_eq!(there, [gap, Item::Long(1), Item::Long(1)]);
        assert_eq!(back, [Item::Long(1), Item::Long(1), gap]);
    }
}
