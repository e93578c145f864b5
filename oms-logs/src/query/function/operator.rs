//! Arithmetic and comparison: which types meet, and what comes out.

use super::arguments::Args;
use super::conversion::convert;
use super::kernel::{KernelFn, call};
use super::{cast, common_type, decimal};
use crate::query::bound::{Arithmetic, Comparison, Expr, ExprKind};
use crate::query::diagnostic::Problem;
use crate::query::syntax::Span;
use crate::query::syntax::ast::BinaryOperator;
use crate::query::time;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::{Result as DfResult, exec_err};
use std::cmp::Ordering;

/// Binds `+ - * / %`.
pub(crate) fn arithmetic(
    operator: BinaryOperator,
    left: Expr,
    right: Expr,
    span: Span,
) -> Result<Expr, Problem> {
    use BinaryOperator as O;
    use KqlType as T;
    let numbers = left.kql_type.is_number() && right.kql_type.is_number();
    if numbers {
        return Ok(of_numbers(operator, left, right, span));
    }
    if common_type([left.kql_type, right.kql_type]) == Some(T::Decimal) {
        return Ok(decimal::arithmetic(operator, left, right, span));
    }
    let kernel = |name, kernel: KernelFn, arguments, kql_type| {
        Ok(call(name, kernel, arguments, kql_type, span))
    };
    match (operator, left.kql_type, right.kql_type) {
        (_, T::Dynamic, T::Dynamic) => Ok(super::dynamic::arithmetic(operator, left, right, span)),
        // A dynamic value is taken for one of the other's type.
        (_, T::Dynamic, other) if let Some(of) = counted_as(other) => {
            arithmetic(operator, convert(left, of)?, right, span)
        }
        (_, other, T::Dynamic) if let Some(of) = counted_as(other) => {
            arithmetic(operator, left, convert(right, of)?, span)
        }
        (O::Add, T::DateTime, T::TimeSpan) => {
            kernel("datetime_plus", datetime_plus, vec![left, right], T::DateTime)
        }
        (O::Add, T::TimeSpan, T::DateTime) => {
            kernel("datetime_plus", datetime_plus, vec![right, left], T::DateTime)
        }
        (O::Subtract, T::DateTime, T::TimeSpan) => {
            kernel("datetime_minus", datetime_minus, vec![left, right], T::DateTime)
        }
        (O::Subtract, T::DateTime, T::DateTime)
        | (O::Add | O::Subtract, T::TimeSpan, T::TimeSpan) => {
            let arithmetic =
                if operator == O::Add { Arithmetic::Add } else { Arithmetic::Subtract };
            Ok(native(arithmetic, left, right, T::TimeSpan, span))
        }
        (O::Multiply, T::TimeSpan, T::Int | T::Long) => {
            Ok(native(Arithmetic::Multiply, left, cast(right, T::Long), T::TimeSpan, span))
        }
        (O::Multiply, T::Int | T::Long, T::TimeSpan) => {
            Ok(native(Arithmetic::Multiply, cast(left, T::Long), right, T::TimeSpan, span))
        }
        (O::Multiply, T::TimeSpan, T::Real) => {
            kernel("timespan_times", timespan_times, vec![left, right], T::TimeSpan)
        }
        (O::Multiply, T::Real, T::TimeSpan) => {
            kernel("timespan_times", timespan_times, vec![right, left], T::TimeSpan)
        }
        (O::Divide, T::TimeSpan, T::Int | T::Long) => {
            kernel("long_divide", long_divide, vec![left, cast(right, T::Long)], T::TimeSpan)
        }
        (O::Divide, T::TimeSpan, T::Real) => {
            kernel("timespan_divide", timespan_divide, vec![left, right], T::TimeSpan)
        }
        (O::Divide, T::TimeSpan, T::TimeSpan) => {
            let (left, right) = (cast(left, T::Real), cast(right, T::Real));
            Ok(native(Arithmetic::Divide, left, right, T::Real, span))
        }
        (O::Modulo, T::TimeSpan | T::DateTime, T::TimeSpan) => {
            kernel("long_modulo", long_modulo, vec![left, right], T::TimeSpan)
        }
        (_, left, right) => {
            let message = format!("`{}` is not defined for {left} and {right}", operator.symbol());
            Err(Problem::semantic(span, message))
        }
    }
}

/// The type as which a dynamic value is taken beside a value that one can count with.
fn counted_as(other: KqlType) -> Option<KqlType> {
    match other {
        KqlType::Int => Some(KqlType::Long),
        KqlType::Long
        | KqlType::Real
        | KqlType::Decimal
        | KqlType::DateTime
        | KqlType::TimeSpan => Some(other),
        _ => None,
    }
}

const fn operands(left: Box<Expr>, right: Box<Expr>, arithmetic: Arithmetic) -> ExprKind {
    ExprKind::Arithmetic(arithmetic, left, right)
}

pub(crate) fn native(
    arithmetic: Arithmetic,
    left: Expr,
    right: Expr,
    kql_type: KqlType,
    span: Span,
) -> Expr {
    Expr::new(operands(Box::new(left), Box::new(right), arithmetic), kql_type, span)
}

/// Two ints make a long, which wraps; a real makes a real.
fn of_numbers(operator: BinaryOperator, left: Expr, right: Expr, span: Span) -> Expr {
    let real = left.kql_type == KqlType::Real || right.kql_type == KqlType::Real;
    let kql_type = if real { KqlType::Real } else { KqlType::Long };
    let (left, right) = (cast(left, kql_type), cast(right, kql_type));
    let arithmetic = match operator {
        BinaryOperator::Subtract => Arithmetic::Subtract,
        BinaryOperator::Multiply => Arithmetic::Multiply,
        BinaryOperator::Divide if real => Arithmetic::Divide,
        BinaryOperator::Divide => {
            return call("long_divide", long_divide, vec![left, right], kql_type, span);
        }
        BinaryOperator::Modulo if real => {
            return call("real_modulo", real_modulo, vec![left, right], kql_type, span);
        }
        BinaryOperator::Modulo => {
            return call("long_modulo", long_modulo, vec![left, right], kql_type, span);
        }
        _ => Arithmetic::Add,
    };
    native(arithmetic, left, right, kql_type, span)
}

/// Binds `-x`.
pub(crate) fn negate(value: Expr, span: Span) -> Result<Expr, Problem> {
    match value.kql_type {
        KqlType::Real => {
            let minus = Expr::constant(
                datafusion::scalar::ScalarValue::Float64(Some(-1.0)),
                KqlType::Real,
                span,
            );
            Ok(native(Arithmetic::Multiply, value, minus, KqlType::Real, span))
        }
        KqlType::Int | KqlType::Long => {
            let value = cast(value, KqlType::Long);
            Ok(native(Arithmetic::Subtract, Expr::long(0, span), value, KqlType::Long, span))
        }
        KqlType::TimeSpan => {
            let minus = Expr::long(-1, span);
            Ok(native(Arithmetic::Multiply, value, minus, KqlType::TimeSpan, span))
        }
        KqlType::Decimal => Ok(decimal::negate(value, span)),
        KqlType::Dynamic => {
            let zero = super::to_dynamic(Expr::long(0, span));
            Ok(super::dynamic::arithmetic(BinaryOperator::Subtract, zero, value, span))
        }
        other => Err(Problem::semantic(span, format!("`-` is not defined for {other}"))),
    }
}

/// Binds a comparison; the operands are brought to one type.
pub(crate) fn compare(
    comparison: Comparison,
    left: Expr,
    right: Expr,
    span: Span,
) -> Result<Expr, Problem> {
    let same = |left: Expr, right: Expr| {
        let kind = ExprKind::Compare(comparison, Box::new(left), Box::new(right));
        Expr::new(kind, KqlType::Bool, span)
    };
    let (a, b) = (left.kql_type, right.kql_type);
    if a == KqlType::Dynamic || b == KqlType::Dynamic {
        return super::dynamic::compared(comparison, left, right, span);
    }
    if let Some(kql_type) = common_type([a, b]) {
        return Ok(same(cast(left, kql_type), cast(right, kql_type)));
    }
    // Next to a number, true is 1.
    if (a == KqlType::Bool && b.is_number()) || (b == KqlType::Bool && a.is_number()) {
        let number = |side: Expr| match side.kql_type {
            KqlType::Bool => convert(side, KqlType::Long),
            _ => Ok(side),
        };
        return compare(comparison, number(left)?, number(right)?, span);
    }
    if matches!((a, b), (KqlType::Guid, KqlType::String) | (KqlType::String, KqlType::Guid)) {
        return Ok(same(super::to_text(left), super::to_text(right)));
    }
    Err(Problem::semantic(span, format!("{a} and {b} cannot be compared")))
}

/// Whether the value lies between the bounds, which count as between.
pub(crate) fn between(value: Expr, low: Expr, high: Expr, span: Span) -> Result<Expr, Problem> {
    // `between (start .. 1d)` takes a length after a start.
    let high = match (low.kql_type, high.kql_type) {
        (KqlType::DateTime, KqlType::TimeSpan) => {
            arithmetic(BinaryOperator::Add, low.clone(), high, span)?
        }
        _ => high,
    };
    let bounds = common_type([low.kql_type, high.kql_type]);
    let value = match bounds.and_then(counted_as).filter(|_| value.kql_type == KqlType::Dynamic) {
        Some(of) => convert(value, of)?,
        None => value,
    };
    let types = [value.kql_type, low.kql_type, high.kql_type];
    let Some(kql_type) = common_type(types).filter(|kql_type| {
        kql_type.is_number()
            || matches!(kql_type, KqlType::DateTime | KqlType::TimeSpan | KqlType::Decimal)
    }) else {
        let [value, low, high] = types;
        let message = format!("`between` is not defined for {value} and ({low} .. {high})");
        return Err(Problem::semantic(span, message));
    };
    let (value, low, high) = (cast(value, kql_type), cast(low, kql_type), cast(high, kql_type));
    // Two comparisons can prune stored data, but only a column is cheap to read twice.
    if matches!(value.kind, ExprKind::Column(_)) {
        let least = compare(Comparison::GreaterOrEqual, value.clone(), low, span)?;
        let most = compare(Comparison::LessOrEqual, value, high, span)?;
        return Ok(Expr::new(ExprKind::And(vec![least, most]), KqlType::Bool, span));
    }
    Ok(call("between", is_between, vec![value, low, high], KqlType::Bool, span))
}

fn is_between(args: &Args<'_>) -> DfResult<ArrayRef> {
    if args.kql_type(0)? == KqlType::Real {
        let (value, low, high) = (args.real(0)?, args.real(1)?, args.real(2)?);
        return Ok(
            args.make_bool(|row| Some((low.get(row)?..=high.get(row)?).contains(&value.get(row)?)))
        );
    }
    if args.kql_type(0)? == KqlType::Decimal {
        let read = |at| decimal::Decimals::read(args, at);
        let (value, low, high) = (read(0)?, read(1)?, read(2)?);
        return Ok(
            args.make_bool(|row| Some((low.get(row)?..=high.get(row)?).contains(&value.get(row)?)))
        );
    }
    let (value, low, high) = (args.long(0)?, args.long(1)?, args.long(2)?);
    Ok(args.make_bool(|row| Some((low.get(row)?..=high.get(row)?).contains(&value.get(row)?))))
}

fn datetime_plus(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (at, by) = (args.long(0)?, args.long(1)?);
    Ok(args.make_long(|row| at.get(row)?.checked_add(by.get(row)?).and_then(time::in_range)))
}

fn datetime_minus(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (at, by) = (args.long(0)?, args.long(1)?);
    Ok(args.make_long(|row| at.get(row)?.checked_sub(by.get(row)?).and_then(time::in_range)))
}

#[expect(clippy::cast_precision_loss, reason = "a real factor has 53 bits")]
fn timespan_times(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (ticks, by) = (args.long(0)?, args.real(1)?);
    Ok(args.make_long(|row| time::real_to_ticks(ticks.get(row)? as f64 * by.get(row)?)))
}

#[expect(clippy::cast_precision_loss, reason = "a real divisor has 53 bits")]
fn timespan_divide(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (ticks, by) = (args.long(0)?, args.real(1)?);
    Ok(args.make_long(|row| time::real_to_ticks(ticks.get(row)? as f64 / by.get(row)?)))
}

/// Truncates towards zero; division by zero is null.
fn long_divide(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (left, right) = (args.long(0)?, args.long(1)?);
    Ok(args.make_long(|row| match (left.get(row)?, right.get(row)?) {
        (_, 0) => None,
        (left, right) => Some(left.wrapping_div(right)),
    }))
}

/// Never negative; modulo zero is null.
fn long_modulo(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (left, right) = (args.long(0)?, args.long(1)?);
    Ok(args.make_long(|row| match (left.get(row)?, right.get(row)?) {
        (_, 0) => None,
        (left, right) => Some(left.wrapping_rem_euclid(right)),
    }))
}

fn real_modulo(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (left, right) = (args.real(0)?, args.real(1)?);
    Ok(args.make_real(|row| Some(left.get(row)?.rem_euclid(right.get(row)?))))
}

/// The comparison as a kernel: equality of two nulls is null, and of a null and a value false;
/// other comparisons with null are null.
pub(crate) fn comparison_kernel(comparison: Comparison) -> (&'static str, KernelFn) {
    match comparison {
        Comparison::Equal => {
            ("equal", |args| compared(args, Some(false), |o| o == Ordering::Equal))
        }
        Comparison::NotEqual => {
            ("not_equal", |args| compared(args, Some(true), |o| o != Ordering::Equal))
        }
        Comparison::Less => ("less", |args| compared(args, None, |o| o == Ordering::Less)),
        Comparison::LessOrEqual => {
            ("less_or_equal", |args| compared(args, None, |o| o != Ordering::Greater))
        }
        Comparison::Greater => ("greater", |args| compared(args, None, |o| o == Ordering::Greater)),
        Comparison::GreaterOrEqual => {
            ("greater_or_equal", |args| compared(args, None, |o| o != Ordering::Less))
        }
    }
}

fn compared(
    args: &Args<'_>,
    one_null: Option<bool>,
    accept: impl Fn(Ordering) -> bool,
) -> DfResult<ArrayRef> {
    fn decide<T>(
        left: Option<T>,
        right: Option<T>,
        one_null: Option<bool>,
        compare: impl Fn(&T, &T) -> Option<Ordering>,
        accept: impl Fn(Ordering) -> bool,
    ) -> Option<bool> {
        match (left, right) {
            // A number that is not a number equals nothing.
            (Some(l), Some(r)) => Some(compare(&l, &r).map_or(one_null == Some(true), accept)),
            (None, None) => None,
            _ => one_null,
        }
    }
    Ok(match args.kql_type(0)? {
        KqlType::Bool => {
            let (l, r) = (args.bool(0)?, args.bool(1)?);
            args.make_bool(|row| {
                decide(l.get(row), r.get(row), one_null, |l, r| Some(l.cmp(r)), &accept)
            })
        }
        KqlType::Real => {
            let (l, r) = (args.real(0)?, args.real(1)?);
            args.make_bool(|row| {
                decide(l.get(row), r.get(row), one_null, |l, r| l.partial_cmp(r), &accept)
            })
        }
        KqlType::Int | KqlType::Long | KqlType::DateTime | KqlType::TimeSpan => {
            let (l, r) = (args.long(0)?, args.long(1)?);
            args.make_bool(|row| {
                decide(l.get(row), r.get(row), one_null, |l, r| Some(l.cmp(r)), &accept)
            })
        }
        KqlType::Decimal => {
            let (l, r) = (args.text(0)?, args.text(1)?);
            args.make_bool(|row| {
                let left = (!l.is_null(row)).then(|| l.get(row));
                let right = (!r.is_null(row)).then(|| r.get(row));
                decide(left, right, one_null, |l, r| decimal::order(l, r), &accept)
            })
        }
        KqlType::Dynamic => return exec_err!("dynamic values have a comparison of their own"),
        KqlType::String | KqlType::Guid => {
            let string = args.kql_type(0)? == KqlType::String;
            let (l, r) = (args.text(0)?, args.text(1)?);
            args.make_bool(|row| {
                let left = (string || !l.is_null(row)).then(|| l.get(row));
                let right = (string || !r.is_null(row)).then(|| r.get(row));
                decide(left, right, one_null, |l, r| Some(l.cmp(r)), &accept)
            })
        }
    })
}
