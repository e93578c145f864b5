//! Arrays as sets.

use super::super::arguments::Args;
use super::super::{Function, Naming, Parameter, kernel};
use super::build::dynamics;
use crate::query::dynamic::View;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

const NAMING: Naming = Naming::Default;
const ARRAY: &[Parameter] = &[Parameter::Dynamic];
const ARRAYS: &[Parameter] = &[Parameter::Dynamic, Parameter::Dynamic];

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("set_union", NAMING, ARRAY, KqlType::Dynamic, set_union).repeated(),
    kernel("set_intersect", NAMING, ARRAY, KqlType::Dynamic, set_intersect).repeated(),
    kernel("set_difference", NAMING, ARRAY, KqlType::Dynamic, set_difference).repeated(),
    kernel("set_equals", NAMING, ARRAYS, KqlType::Bool, set_equals),
    kernel(
        "set_has_element",
        NAMING,
        &[Parameter::Dynamic, Parameter::AsDynamic],
        KqlType::Bool,
        set_has_element,
    ),
    kernel("jaccard_index", NAMING, ARRAYS, KqlType::Real, jaccard_index),
];

/// A value that equals and hashes as the language compares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a>(pub(crate) &'a [u8]);

impl PartialEq for Element<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || View::of(self.0).equals(View::of(other.0))
    }
}

impl Eq for Element<'_> {}

impl Hash for Element<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match View::of(self.0) {
            // Equal values of several forms must have one hash.
            View::Array(items) => (7_u8, items.len()).hash(state),
            View::Bag(members) => (8_u8, members.len()).hash(state),
            other => match other.as_number() {
                Some(number) => (2_u8, number.to_bits()).hash(state),
                None => self.0.hash(state),
            },
        }
    }
}

/// The items of an array, each once, in the order of their first appearance.
fn distinct(array: View<'_>) -> Option<Vec<Element<'_>>> {
    let items = array.as_array()?;
    let mut known = HashSet::new();
    Some(items.iter().map(Element).filter(|item| known.insert(*item)).collect())
}

fn combined(
    args: &Args<'_>,
    combine: impl for<'v> Fn(Vec<Element<'v>>, Vec<Element<'v>>) -> Vec<Element<'v>>,
) -> Result<ArrayRef> {
    let arrays = dynamics(args, 0)?;
    args.make_dynamic(|row, writer| {
        let sets: Option<Vec<_>> = arrays.iter().map(|array| distinct(array.get(row))).collect();
        match sets.and_then(|sets| sets.into_iter().reduce(&combine)) {
            Some(set) => writer.array(|parts| {
                set.iter().for_each(|item| parts.item(|writer| writer.raw(item.0)));
            }),
            None => writer.null(),
        }
    })
}

fn set_union(args: &Args<'_>) -> Result<ArrayRef> {
    combined(args, |mut all, more| {
        let known: HashSet<_> = all.iter().copied().collect();
        all.extend(more.into_iter().filter(|item| !known.contains(item)));
        all
    })
}

fn set_intersect(args: &Args<'_>) -> Result<ArrayRef> {
    combined(args, |mut all, other| {
        let other: HashSet<_> = other.into_iter().collect();
        all.retain(|item| other.contains(item));
        all
    })
}

fn set_difference(args: &Args<'_>) -> Result<ArrayRef> {
    combined(args, |mut all, other| {
        let other: HashSet<_> = other.into_iter().collect();
        all.retain(|item| !other.contains(item));
        all
    })
}

/// How many items both have, and how many each has.
fn shared(a: View<'_>, b: View<'_>) -> Option<(usize, usize, usize)> {
    let (a, b) = (distinct(a)?, distinct(b)?);
    let known: HashSet<_> = a.iter().copied().collect();
    let both = b.iter().filter(|item| known.contains(item)).count();
    Some((both, a.len(), b.len()))
}

fn set_equals(args: &Args<'_>) -> Result<ArrayRef> {
    let (a, b) = (args.dynamic(0)?, args.dynamic(1)?);
    Ok(args
        .make_bool(|row| shared(a.get(row), b.get(row)).map(|(both, a, b)| both == a && both == b)))
}

fn set_has_element(args: &Args<'_>) -> Result<ArrayRef> {
    let (array, value) = (args.dynamic(0)?, args.dynamic(1)?);
    Ok(args.make_bool(|row| {
        let items = array.get(row).as_array()?;
        let value = Element(value.bytes(row)?);
        Some(items.iter().any(|item| Element(item) == value))
    }))
}

#[expect(clippy::cast_precision_loss, reason = "counts of items are small")]
fn jaccard_index(args: &Args<'_>) -> Result<ArrayRef> {
    let (a, b) = (args.dynamic(0)?, args.dynamic(1)?);
    Ok(args.make_real(|row| {
        let (both, a, b) = shared(a.get(row), b.get(row))?;
        Some(both as f64 / (a + b - both) as f64)
    }))
}
