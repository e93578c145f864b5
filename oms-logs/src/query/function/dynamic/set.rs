//! Arrays as sets.

use super::super::arguments::Args;
use super::super::{Function, Naming, Parameter, kernel};
use super::build::dynamics;
use crate::query::dynamic::View;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

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
        // Equal values of several forms must have one hash.
        match View::of(self.0) {
            View::Array(items) => {
                (7_u8, items.len()).hash(state);
                items.iter().for_each(|item| Element(item).hash(state));
            }
            View::Bag(members) => {
                // The order of members does not count.
                let hash = |(key, value)| {
                    let mut state = DefaultHasher::new();
                    (key, Element(value)).hash(&mut state);
                    state.finish()
                };
                let sum = members.iter().map(hash).fold(0, u64::wrapping_add);
                (8_u8, members.len(), sum).hash(state);
            }
            number @ (View::Long(_) | View::Real(_) | View::Decimal(_)) => {
                let nearest = number.as_number().filter(|number| !number.is_nan());
                // Zero has one sign then.
                (2_u8, (nearest.unwrap_or(f64::NAN) + 0.0).to_bits()).hash(state);
            }
            _ => self.0.hash(state),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::dynamic::Value;

    #[test]
    fn equal_elements_have_one_hash() {
        let hash = |bytes: &[u8]| {
            let mut state = DefaultHasher::new();
            Element(bytes).hash(&mut state);
            state.finish()
        };
        let bag = |keys: [&str; 2]| {
            Value::Bag(keys.map(|key| (key.to_owned(), Value::Text(key.to_owned()))).into())
        };
        let decimal = |digits: &str| Value::Decimal(digits.to_owned());
        for (a, b) in [
            (Value::Real(-0.0), Value::Long(0)),
            (Value::Real(f64::NAN), Value::Real(-f64::NAN)),
            (Value::Real(0.1), decimal("0.1")),
            (Value::Long(i64::MAX), decimal("9223372036854775807")),
            (bag(["a", "b"]), bag(["b", "a"])),
            (Value::Array(vec![Value::Long(1)]), Value::Array(vec![Value::Real(1.0)])),
        ] {
            let (a, b) = (a.to_bytes().expect("a value"), b.to_bytes().expect("a value"));
            assert!(Element(&a) == Element(&b) && hash(&a) == hash(&b), "{a:?} {b:?}");
        }
    }
}
