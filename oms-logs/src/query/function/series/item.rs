//! Series as numbers.

use crate::query::dynamic::{ITEMS_MAX, View, Writer};

/// One element of a series: a number, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Item {
    None,
    Long(i64),
    Real(f64),
}

impl Item {
    /// Ticks count as whole numbers; anything else that is no number is none.
    pub(super) fn of(view: View<'_>) -> Self {
        match view {
            View::Long(value) | View::DateTime(value) | View::TimeSpan(value) => Self::Long(value),
            View::Real(value) => Self::Real(value),
            View::Decimal(digits) => digits.parse().map_or(Self::None, Self::Real),
            _ => Self::None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a real has 53 bits")]
    pub(super) const fn real(self) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Long(value) => Some(value as f64),
            Self::Real(value) => Some(value),
        }
    }

    pub(super) fn write(self, writer: &mut Writer<'_>) {
        match self {
            Self::None => writer.null(),
            Self::Long(value) => writer.long(value),
            Self::Real(value) => writer.real(value),
        }
    }
}

/// The elements of an array. `None` also for one that is longer than functions make them.
pub(super) fn items(view: View<'_>) -> Option<Vec<Item>> {
    let items = view.as_array().filter(|items| items.len() <= ITEMS_MAX)?;
    Some(items.iter().map(|item| Item::of(View::of(item))).collect())
}

/// The elements of an array as reals.
pub(super) fn reals(view: View<'_>) -> Option<Vec<Option<f64>>> {
    Some(items(view)?.into_iter().map(Item::real).collect())
}

/// The elements of an array of which all are finite numbers.
pub(super) fn finite(view: View<'_>) -> Option<Vec<f64>> {
    let values = reals(view)?.into_iter();
    values.map(|value| value.filter(|value| value.is_finite())).collect()
}

pub(super) fn write_items(writer: &mut Writer<'_>, items: &[Item]) {
    writer.array(|parts| items.iter().for_each(|item| parts.item(|writer| item.write(writer))));
}

pub(super) fn write_reals(writer: &mut Writer<'_>, values: &[f64]) {
    writer.array(|parts| values.iter().for_each(|value| parts.item(|writer| writer.real(*value))));
}
