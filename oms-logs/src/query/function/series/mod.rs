//! Functions of series: arrays of numbers at equal distances.

mod columns;

mod element;

mod fill;

mod filter;

mod item;

mod process;

mod season;

mod statistics;

use super::Function;

/// The functions of all families.
pub(super) fn functions() -> impl Iterator<Item = &'static Function> {
    [columns::FUNCTIONS, element::FUNCTIONS, fill::FUNCTIONS, process::FUNCTIONS]
        .into_iter()
        .flatten()
}
