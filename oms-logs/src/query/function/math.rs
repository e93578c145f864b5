//! Numbers: rounding, bins, powers, angles.

use super::arguments::Args;
use super::kernel::call as kernel_call;
use super::{Call, Function, Naming, Parameter, cast, coerce, kernel, operator, special};
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::syntax::ast::BinaryOperator;
use crate::query::time;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;
use datafusion::scalar::ScalarValue;

const REAL: &[Parameter] = &[Parameter::Real];
const REALS: &[Parameter] = &[Parameter::Real, Parameter::Real];
const FIRST: Naming = Naming::FirstArgument;
const PLAIN: Naming = Naming::Default;

/// A function of one real, whose column has the name of that.
const fn real(name: &'static str, run: super::KernelFn) -> Function {
    kernel(name, FIRST, REAL, KqlType::Real, run)
}

/// A function of one real, whose column has none.
const fn unnamed(name: &'static str, run: super::KernelFn) -> Function {
    kernel(name, PLAIN, REAL, KqlType::Real, run)
}

pub(super) const FUNCTIONS: &[Function] = &[
    special("bin", FIRST, bin),
    special("floor", FIRST, bin),
    special("bin_at", FIRST, bin_at),
    // The binder knows the sizes that a query sets, and binds it as one of the two above.
    special("bin_auto", FIRST, |call, _| Err(call.problem("`bin_auto` has no place here"))),
    special("abs", FIRST, abs),
    kernel("round", FIRST, &[Parameter::Real, Parameter::Long], KqlType::Real, round).optional(1),
    kernel("ceiling", FIRST, REAL, KqlType::Real, |a| each_real(a, f64::ceil)),
    kernel("pow", FIRST, REALS, KqlType::Real, |a| each_pair(a, f64::powf)),
    kernel("atan2", FIRST, REALS, KqlType::Real, |a| each_pair(a, f64::atan2)),
    kernel("sign", PLAIN, REAL, KqlType::Real, |a| {
        each_real(a, |x| if x == 0.0 { 0.0 } else { x.signum() })
    }),
    special("pi", PLAIN, |call, arguments| {
        call.arity(arguments.len(), 0, 0)?;
        let pi = ScalarValue::Float64(Some(std::f64::consts::PI));
        Ok(Expr::constant(pi, KqlType::Real, call.span))
    }),
    real("sqrt", |a| each_real(a, f64::sqrt)),
    real("exp", |a| each_real(a, f64::exp)),
    real("exp2", |a| each_real(a, f64::exp2)),
    real("exp10", |a| each_real(a, |x| 10_f64.powf(x))),
    real("log", |a| logarithm(a, f64::ln)),
    real("log2", |a| logarithm(a, f64::log2)),
    real("log10", |a| logarithm(a, f64::log10)),
    real("sin", |a| each_real(a, f64::sin)),
    real("cos", |a| each_real(a, f64::cos)),
    real("tan", |a| each_real(a, f64::tan)),
    unnamed("cot", |a| each_real(a, |x| x.tan().recip())),
    real("asin", |a| each_real(a, f64::asin)),
    real("acos", |a| each_real(a, f64::acos)),
    real("atan", |a| each_real(a, f64::atan)),
    unnamed("degrees", |a| each_real(a, f64::to_degrees)),
    unnamed("radians", |a| each_real(a, f64::to_radians)),
    kernel("isnan", PLAIN, REAL, KqlType::Bool, |a| test_real(a, f64::is_nan)),
    kernel("isinf", PLAIN, REAL, KqlType::Bool, |a| test_real(a, f64::is_infinite)),
    kernel("isfinite", PLAIN, REAL, KqlType::Bool, |a| test_real(a, f64::is_finite)),
    special("around", PLAIN, around),
];

fn each_real(args: &Args<'_>, f: impl Fn(f64) -> f64) -> DfResult<ArrayRef> {
    let value = args.real(0)?;
    Ok(args.make_real(|row| value.get(row).map(&f)))
}

fn each_pair(args: &Args<'_>, f: impl Fn(f64, f64) -> f64) -> DfResult<ArrayRef> {
    let (a, b) = (args.real(0)?, args.real(1)?);
    Ok(args.make_real(|row| Some(f(a.get(row)?, b.get(row)?))))
}

fn test_real(args: &Args<'_>, f: impl Fn(f64) -> bool) -> DfResult<ArrayRef> {
    let value = args.real(0)?;
    Ok(args.make_bool(|row| value.get(row).map(&f)))
}

/// Null for negative numbers.
fn logarithm(args: &Args<'_>, f: impl Fn(f64) -> f64) -> DfResult<ArrayRef> {
    let value = args.real(0)?;
    Ok(args.make_real(|row| value.get(row).filter(|x| x.is_nan() || *x >= 0.0).map(&f)))
}

fn abs(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, 1)?;
    let value = only(call, arguments)?;
    match value.kql_type {
        KqlType::Real => Ok(kernel_call(
            "abs_real",
            |args| each_real(args, f64::abs),
            vec![value],
            KqlType::Real,
            call.span,
        )),
        KqlType::Int | KqlType::Long | KqlType::TimeSpan => {
            let kql_type =
                if value.kql_type == KqlType::TimeSpan { KqlType::TimeSpan } else { KqlType::Long };
            let value = if kql_type == KqlType::Long { cast(value, kql_type) } else { value };
            Ok(kernel_call("abs_long", abs_long, vec![value], kql_type, call.span))
        }
        KqlType::Decimal => Ok(super::decimal::absolute(value, call.span)),
        other => Err(call.problem(format!("`abs` takes a number, not {other}"))),
    }
}

fn only(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    arguments.into_iter().next().ok_or_else(|| call.problem("one argument is missing"))
}

fn abs_long(args: &Args<'_>) -> DfResult<ArrayRef> {
    let value = args.long(0)?;
    Ok(args.make_long(|row| value.get(row).map(i64::wrapping_abs)))
}

/// Half goes away from zero. A negative precision rounds before the decimal point.
fn round(args: &Args<'_>) -> DfResult<ArrayRef> {
    let value = args.real(0)?;
    let digits = if args.len() > 1 { Some(args.long(1)?) } else { None };
    Ok(args.make_real(|row| {
        let digits = match &digits {
            Some(digits) => digits.get(row)?,
            None => 0,
        };
        let x = value.get(row)?;
        let digits = i32::try_from(digits.clamp(-308, 308)).unwrap_or(0);
        let factor = 10_f64.powi(digits.abs());
        let rounded =
            if digits < 0 { (x / factor).round() * factor } else { (x * factor).round() / factor };
        Some(if rounded.is_finite() { rounded } else { x })
    }))
}

/// `bin(value, size)`: the greatest multiple of the size that is not above the value. Datetimes are
/// counted from the year 1. A size that is not positive makes null.
fn bin(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, 2)?;
    let [value, size] =
        <[Expr; 2]>::try_from(arguments).map_err(|_| call.problem("two arguments"))?;
    let types = (value.kql_type, size.kql_type);
    let (value, size, kql_type) = match types {
        (KqlType::DateTime, KqlType::TimeSpan) | (KqlType::TimeSpan, KqlType::TimeSpan) => {
            (value, size, types.0)
        }
        // A plain number next to a timespan counts ticks, as it does for the engine.
        (KqlType::DateTime | KqlType::TimeSpan, KqlType::Int | KqlType::Long) => {
            (value, cast(size, KqlType::Long), types.0)
        }
        (a, b) if a.is_number() && b.is_number() => {
            let real = a == KqlType::Real || b == KqlType::Real;
            if real {
                let arguments = vec![cast(value, KqlType::Real), cast(size, KqlType::Real)];
                return Ok(kernel_call("bin_real", bin_real, arguments, KqlType::Real, call.span));
            }
            let ints = a == KqlType::Int && b == KqlType::Int;
            let (value, size) = (cast(value, KqlType::Long), cast(size, KqlType::Long));
            let bin =
                kernel_call("bin_long", bin_long, vec![value, size], KqlType::Long, call.span);
            return Ok(if ints { cast(bin, KqlType::Int) } else { bin });
        }
        (a, b) if super::common_type([a, b]) == Some(KqlType::Decimal) => {
            let (value, size) = (cast(value, KqlType::Decimal), cast(size, KqlType::Decimal));
            let rest =
                operator::arithmetic(BinaryOperator::Modulo, value.clone(), size, call.span)?;
            return operator::arithmetic(BinaryOperator::Subtract, value, rest, call.span);
        }
        (a, b) => {
            return Err(call.problem(format!("`{}` is not defined for {a} and {b}", call.name)));
        }
    };
    Ok(kernel_call("bin_long", bin_long, vec![value, size], kql_type, call.span))
}

fn bin_long(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (value, size) = (args.long(0)?, args.long(1)?);
    Ok(args.make_long(|row| {
        let (value, size) = (value.get(row)?, size.get(row)?);
        if size <= 0 { None } else { value.div_euclid(size).checked_mul(size) }
    }))
}

fn bin_real(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (value, size) = (args.real(0)?, args.real(1)?);
    Ok(args.make_real(|row| {
        let (value, size) = (value.get(row)?, size.get(row)?);
        if size > 0.0 { Some((value / size).floor() * size) } else { None }
    }))
}

/// `around(value, center, delta)`: whether the value is at most so far from the center.
fn around(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 3, 3)?;
    let [value, center, delta] =
        <[Expr; 3]>::try_from(arguments).map_err(|_| call.problem("three arguments"))?;
    let bound = |sign| operator::arithmetic(sign, center.clone(), delta.clone(), call.span);
    let (low, high) = (bound(BinaryOperator::Subtract)?, bound(BinaryOperator::Add)?);
    operator::between(value, low, high, call.span)
}

/// `bin_at(value, size, fixed)`: bins of which one starts at the fixed point.
fn bin_at(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 3, 3)?;
    let [value, size, fixed] =
        <[Expr; 3]>::try_from(arguments).map_err(|_| call.problem("three arguments"))?;
    let span = call.span;
    match (value.kql_type, fixed.kql_type) {
        (KqlType::DateTime, KqlType::DateTime) | (KqlType::TimeSpan, KqlType::TimeSpan) => {
            let size = coerce(size, Parameter::TimeSpan, call.name)?;
            let kql_type = value.kql_type;
            Ok(kernel_call("bin_at_long", bin_at_long, vec![value, size, fixed], kql_type, span))
        }
        (a, b) if a.is_number() && b.is_number() => {
            if ![a, b, size.kql_type].contains(&KqlType::Real) {
                let size = coerce(size, Parameter::Long, call.name)?;
                let arguments = vec![cast(value, KqlType::Long), size, cast(fixed, KqlType::Long)];
                return Ok(kernel_call("bin_at_long", bin_at_long, arguments, KqlType::Long, span));
            }
            let size = coerce(size, Parameter::Real, call.name)?;
            let arguments = vec![cast(value, KqlType::Real), size, cast(fixed, KqlType::Real)];
            Ok(kernel_call("bin_at_real", bin_at_real, arguments, KqlType::Real, span))
        }
        (a, b) => Err(call.problem(format!("`bin_at` is not defined for {a} and {b}"))),
    }
}

fn bin_at_long(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (value, size, fixed) = (args.long(0)?, args.long(1)?, args.long(2)?);
    let datetime = args.kql_type(0)? == KqlType::DateTime;
    Ok(args.make_long(|row| {
        let (value, size, fixed) = (value.get(row)?, size.get(row)?, fixed.get(row)?);
        if size <= 0 {
            return None;
        }
        let bin =
            value.checked_sub(fixed)?.div_euclid(size).checked_mul(size)?.checked_add(fixed)?;
        if datetime { time::in_range(bin) } else { Some(bin) }
    }))
}

fn bin_at_real(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (value, size, fixed) = (args.real(0)?, args.real(1)?, args.real(2)?);
    Ok(args.make_real(|row| {
        let (value, size, fixed) = (value.get(row)?, size.get(row)?, fixed.get(row)?);
        if size > 0.0 { Some(((value - fixed) / size).floor() * size + fixed) } else { None }
    }))
}
