//! Functions of each element of one series or of two.

use super::super::arguments::Args;
use super::super::{Function, Naming, Parameter as P, kernel};
use super::item::{Item, items, write_items};
use crate::query::dynamic::View;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;

const ONE: &[P] = &[P::AsDynamic];
const TWO: &[P] = &[P::AsDynamic, P::AsDynamic];

const fn one(name: &'static str, run: super::super::KernelFn) -> Function {
    kernel(name, Naming::Default, ONE, KqlType::Dynamic, run)
}

const fn two(name: &'static str, run: super::super::KernelFn) -> Function {
    kernel(name, Naming::Default, TWO, KqlType::Dynamic, run)
}

pub(super) const FUNCTIONS: &[Function] = &[
    one("series_abs", |args| {
        each(args, |item| match item {
            Item::Long(value) => Item::Long(value.wrapping_abs()),
            other => real_of(other, f64::abs),
        })
    }),
    one("series_acos", |args| each_real(args, f64::acos)),
    one("series_asin", |args| each_real(args, f64::asin)),
    one("series_atan", |args| each_real(args, f64::atan)),
    one("series_ceiling", |args| each_real(args, f64::ceil)),
    one("series_cos", |args| each_real(args, f64::cos)),
    one("series_exp", |args| each_real(args, f64::exp)),
    one("series_floor", |args| each_real(args, f64::floor)),
    one("series_log", |args| each_real(args, f64::ln)),
    one("series_sign", |args| {
        each(args, |item| match item {
            Item::Long(value) => Item::Long(value.signum()),
            other => real_of(other, |x| if x == 0.0 { 0.0 } else { x.signum() }),
        })
    }),
    one("series_sin", |args| each_real(args, f64::sin)),
    one("series_tan", |args| each_real(args, f64::tan)),
    two("series_add", |args| arithmetic(args, i64::wrapping_add, |a, b| a + b)),
    two("series_subtract", |args| arithmetic(args, i64::wrapping_sub, |a, b| a - b)),
    two("series_multiply", |args| arithmetic(args, i64::wrapping_mul, |a, b| a * b)),
    two("series_divide", |args| each_pair(args, |a, b| real_pair(a, b, |a, b| a / b))),
    two("series_pow", |args| each_pair(args, |a, b| real_pair(a, b, f64::powf))),
    two("series_equals", |args| compare(args, |a, b| a == b)),
    two("series_not_equals", |args| compare(args, |a, b| a != b)),
    two("series_greater", |args| compare(args, |a, b| a > b)),
    two("series_greater_equals", |args| compare(args, |a, b| a >= b)),
    two("series_less", |args| compare(args, |a, b| a < b)),
    two("series_less_equals", |args| compare(args, |a, b| a <= b)),
];

fn real_of(item: Item, f: impl Fn(f64) -> f64) -> Item {
    item.real().map_or(Item::None, |value| Item::Real(f(value)))
}

fn real_pair(a: Item, b: Item, f: impl Fn(f64, f64) -> f64) -> Item {
    match (a.real(), b.real()) {
        (Some(a), Some(b)) => Item::Real(f(a, b)),
        _ => Item::None,
    }
}

fn each(args: &Args<'_>, f: impl Fn(Item) -> Item) -> Result<ArrayRef> {
    let series = args.dynamic(0)?;
    args.make_dynamic(|row, writer| match items(series.get(row)) {
        Some(items) => {
            let made: Vec<Item> = items.into_iter().map(&f).collect();
            write_items(writer, &made);
        }
        None => writer.null(),
    })
}

fn each_real(args: &Args<'_>, f: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    each(args, |item| real_of(item, &f))
}

/// The elements side by side: as many as the longer series has, with none for those that the
/// shorter one lacks. A number stands for a series of it. `None` if neither is a series.
pub(super) fn pairs(first: View<'_>, second: View<'_>) -> Option<Vec<(Item, Item)>> {
    let (a, b) = (items(first), items(second));
    let length = a.iter().chain(&b).map(Vec::len).max()?;
    let at = |series: &Option<Vec<Item>>, view: View<'_>, index: usize| match series {
        Some(items) => items.get(index).copied().unwrap_or(Item::None),
        None => Item::of(view),
    };
    let is_number = |view| Item::of(view) != Item::None;
    let valid = (a.is_some() || is_number(first)) && (b.is_some() || is_number(second));
    valid.then(|| (0..length).map(|i| (at(&a, first, i), at(&b, second, i))).collect())
}

fn each_pair(args: &Args<'_>, f: impl Fn(Item, Item) -> Item) -> Result<ArrayRef> {
    let (first, second) = (args.dynamic(0)?, args.dynamic(1)?);
    args.make_dynamic(|row, writer| match pairs(first.get(row), second.get(row)) {
        Some(pairs) => {
            let made: Vec<Item> = pairs.into_iter().map(|(a, b)| f(a, b)).collect();
            write_items(writer, &made);
        }
        None => writer.null(),
    })
}

/// Whole numbers of whole numbers, and reals otherwise.
fn arithmetic(
    args: &Args<'_>,
    longs: impl Fn(i64, i64) -> i64,
    reals: impl Fn(f64, f64) -> f64,
) -> Result<ArrayRef> {
    each_pair(args, |a, b| match (a, b) {
        (Item::Long(a), Item::Long(b)) => Item::Long(longs(a, b)),
        _ => real_pair(a, b, &reals),
    })
}

fn compare(args: &Args<'_>, holds: impl Fn(f64, f64) -> bool) -> Result<ArrayRef> {
    let (first, second) = (args.dynamic(0)?, args.dynamic(1)?);
    args.make_dynamic(|row, writer| match pairs(first.get(row), second.get(row)) {
        Some(pairs) => writer.array(|parts| {
            for (a, b) in pairs {
                parts.item(|writer| match (a.real(), b.real()) {
                    (Some(a), Some(b)) => writer.bool(holds(a, b)),
                    _ => writer.null(),
                });
            }
        }),
        None => writer.null(),
    })
}
