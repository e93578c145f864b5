//! Functions over dynamic values: arrays, bags, sets, JSON.

mod access;

mod arithmetic;

mod array;

mod bag;

mod build;

mod compare;

mod path;

mod reorder;

mod set;

mod sketch;

pub(crate) use access::part;
pub(super) use arithmetic::arithmetic;
pub(crate) use build::pack_all;
pub(super) use compare::compared;
pub(crate) use compare::is_in_array;

use super::Function;

pub(super) const FUNCTIONS: &[&[Function]] = &[
    access::FUNCTIONS,
    array::FUNCTIONS,
    bag::FUNCTIONS,
    build::FUNCTIONS,
    reorder::FUNCTIONS,
    set::FUNCTIONS,
    sketch::FUNCTIONS,
];
