//! The bits of integers.

use super::arguments::Args;
use super::{Function, Naming, Parameter, kernel};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;

const FIRST: Naming = Naming::FirstArgument;
const ONE: &[Parameter] = &[Parameter::Long];
const TWO: &[Parameter] = &[Parameter::Long, Parameter::Long];

const fn pair(name: &'static str, run: super::KernelFn) -> Function {
    kernel(name, FIRST, TWO, KqlType::Long, run)
}

const fn single(name: &'static str, run: super::KernelFn) -> Function {
    kernel(name, FIRST, ONE, KqlType::Long, run)
}

pub(super) const FUNCTIONS: &[Function] = &[
    pair("binary_and", |args| each_pair(args, |x, y| Some(x & y))),
    pair("binary_or", |args| each_pair(args, |x, y| Some(x | y))),
    pair("binary_xor", |args| each_pair(args, |x, y| Some(x ^ y))),
    pair("binary_shift_left", |args| each_pair(args, |x, by| Some(x << places(by)?))),
    pair("binary_shift_right", |args| each_pair(args, |x, by| Some(x >> places(by)?))),
    single("binary_not", |args| each(args, |x| !x)),
    single("bitset_count_ones", |args| each(args, |x| i64::from(x.count_ones()))),
];

/// How far to shift: nothing if the number is negative.
fn places(by: i64) -> Option<u32> {
    u32::try_from(by.checked_rem(64)?).ok()
}

fn each(args: &Args<'_>, f: impl Fn(i64) -> i64) -> Result<ArrayRef> {
    let value = args.long(0)?;
    Ok(args.make_long(|row| value.get(row).map(&f)))
}

fn each_pair(args: &Args<'_>, f: impl Fn(i64, i64) -> Option<i64>) -> Result<ArrayRef> {
    let (a, b) = (args.long(0)?, args.long(1)?);
    Ok(args.make_long(|row| f(a.get(row)?, b.get(row)?)))
}
