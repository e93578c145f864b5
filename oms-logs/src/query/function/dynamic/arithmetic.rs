//! Arithmetic of two dynamic values: of two whole numbers a whole number, of other numbers a real, and
//! null of anything else.

use super::super::arguments::Args;
use super::super::kernel::{KernelFn, call};
use crate::query::bound::Expr;
use crate::query::dynamic::View;
use crate::query::syntax::Span;
use crate::query::syntax::ast::BinaryOperator;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;

/// Binds `+ - * / %` of two dynamic values.
pub(crate) fn arithmetic(operator: BinaryOperator, left: Expr, right: Expr, span: Span) -> Expr {
    let (name, kernel): (_, KernelFn) = match operator {
        BinaryOperator::Subtract => ("dynamic_minus", minus),
        BinaryOperator::Multiply => ("dynamic_times", times),
        BinaryOperator::Divide => ("dynamic_divide", divide),
        BinaryOperator::Modulo => ("dynamic_modulo", modulo),
        _ => ("dynamic_plus", plus),
    };
    call(name, kernel, vec![left, right], KqlType::Dynamic, span)
}

fn plus(args: &Args<'_>) -> DfResult<ArrayRef> {
    of_numbers(args, |a, b| Some(a.wrapping_add(b)), |a, b| a + b)
}

fn minus(args: &Args<'_>) -> DfResult<ArrayRef> {
    of_numbers(args, |a, b| Some(a.wrapping_sub(b)), |a, b| a - b)
}

fn times(args: &Args<'_>) -> DfResult<ArrayRef> {
    of_numbers(args, |a, b| Some(a.wrapping_mul(b)), |a, b| a * b)
}

fn divide(args: &Args<'_>) -> DfResult<ArrayRef> {
    of_numbers(args, |a, b| (b != 0).then(|| a.wrapping_div(b)), |a, b| a / b)
}

fn modulo(args: &Args<'_>) -> DfResult<ArrayRef> {
    of_numbers(args, |a, b| (b != 0).then(|| a.wrapping_rem_euclid(b)), f64::rem_euclid)
}

fn of_numbers(
    args: &Args<'_>,
    whole: impl Fn(i64, i64) -> Option<i64>,
    real: impl Fn(f64, f64) -> f64,
) -> DfResult<ArrayRef> {
    let (left, right) = (args.dynamic(0)?, args.dynamic(1)?);
    args.make_dynamic(|row, writer| match (left.get(row), right.get(row)) {
        (View::Long(left), View::Long(right)) => match whole(left, right) {
            Some(value) => writer.long(value),
            None => writer.null(),
        },
        (left, right) => match (left.as_number(), right.as_number()) {
            (Some(left), Some(right)) => writer.real(real(left, right)),
            _ => writer.null(),
        },
    })
}
