//! Choices and tests for absence.

use super::arguments::Args;
use super::kernel::{self, KernelFn};
use super::{
    Call, Function, Naming, Parameter, cast, coerce, common_type, decimal, special, to_dynamic,
    to_text,
};
use crate::query::bound::{Comparison, Expr, ExprKind};
use crate::query::decimal::Decimal;
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{DynamicBuilder, View};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;
use std::cmp::Ordering;

/// The most values that a function chooses from.
const ARGUMENTS_MAX: usize = 64;

pub(super) const FUNCTIONS: &[Function] = &[
    special("iff", Naming::Default, case),
    special("iif", Naming::Default, case),
    special("case", Naming::Default, case),
    special("coalesce", Naming::Default, coalesce),
    special("not", Naming::Default, not),
    special("isnull", Naming::Default, |call, arguments| is_null(call, arguments, false)),
    special("isnotnull", Naming::Default, |call, arguments| is_null(call, arguments, true)),
    special("notnull", Naming::Default, |call, arguments| is_null(call, arguments, true)),
    special("isempty", Naming::Default, |call, arguments| is_empty(call, arguments, false)),
    special("isnotempty", Naming::Default, |call, arguments| is_empty(call, arguments, true)),
    special("notempty", Naming::Default, |call, arguments| is_empty(call, arguments, true)),
    special("min_of", Naming::Default, |call, arguments| extreme(call, arguments, true)),
    special("max_of", Naming::Default, |call, arguments| extreme(call, arguments, false)),
];

/// The values in their common type.
fn unify(call: &Call<'_>, values: Vec<Expr>) -> Result<Vec<Expr>, Problem> {
    // Next to a dynamic value, each is one.
    if values.iter().any(|value| value.kql_type == KqlType::Dynamic) {
        return Ok(values.into_iter().map(to_dynamic).collect());
    }
    let Some(kql_type) = common_type(values.iter().map(|value| value.kql_type)) else {
        let types: Vec<_> = values.iter().map(|value| value.kql_type.name()).collect();
        let types = types.join(", ");
        return Err(call.problem(format!("`{}` takes values of one type, not {types}", call.name)));
    };
    Ok(values.into_iter().map(|value| cast(value, kql_type)).collect())
}

/// `case(when, then, …, otherwise)`; a condition that is null does not hold.
fn case(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    let most = if call.name == "case" { usize::MAX } else { 3 };
    call.arity(arguments.len(), 3, most)?;
    if arguments.len().is_multiple_of(2) {
        return Err(call.problem("`case` takes pairs of a condition and a value, then one value"));
    }
    let (mut whens, mut thens) = (Vec::new(), Vec::new());
    let last = arguments.len() - 1;
    for (at, argument) in arguments.into_iter().enumerate() {
        if at % 2 == 0 && at < last {
            whens.push(coerce(argument, Parameter::Bool, call.name)?);
        } else {
            thens.push(argument);
        }
    }
    let mut thens = unify(call, thens)?;
    let otherwise = thens.pop().ok_or_else(|| call.problem("`case` takes values"))?;
    let kql_type = otherwise.kql_type;
    let branches = whens.into_iter().zip(thens).collect();
    let kind = ExprKind::Case { branches, otherwise: Box::new(otherwise) };
    Ok(Expr::new(kind, kql_type, call.span))
}

/// The first value that is not null, or not empty among strings.
fn coalesce(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, ARGUMENTS_MAX)?;
    choose(call, "coalesce", arguments, pick_first)
}

/// A kernel that takes one of its values.
fn choose(
    call: &Call<'_>,
    name: &'static str,
    arguments: Vec<Expr>,
    kernel: KernelFn,
) -> Result<Expr, Problem> {
    let values = unify(call, arguments)?;
    let kql_type = values.first().map_or(KqlType::String, |value| value.kql_type);
    Ok(kernel::call(name, kernel, values, kql_type, call.span))
}

fn pick_first(args: &Args<'_>) -> DfResult<ArrayRef> {
    pick(args, |_| false)
}

fn pick_least(args: &Args<'_>) -> DfResult<ArrayRef> {
    pick(args, |order| order == Ordering::Less)
}

fn pick_greatest(args: &Args<'_>) -> DfResult<ArrayRef> {
    pick(args, |order| order == Ordering::Greater)
}

/// One value of each row: a later one replaces an earlier one that is null or, compared with it,
/// `better`. Empty strings count as null.
fn pick(args: &Args<'_>, better: impl Fn(Ordering) -> bool) -> DfResult<ArrayRef> {
    fn best<T>(
        values: impl Iterator<Item = Option<T>>,
        compare: impl Fn(&T, &T) -> Ordering,
        better: impl Fn(Ordering) -> bool,
    ) -> Option<T> {
        values
            .flatten()
            .reduce(|best, next| if better(compare(&next, &best)) { next } else { best })
    }
    let each = 0..args.len();
    Ok(match args.kql_type(0)? {
        KqlType::Bool => {
            let values: Vec<_> = each.map(|at| args.bool(at)).collect::<DfResult<_>>()?;
            args.make_bool(|row| best(values.iter().map(|v| v.get(row)), bool::cmp, &better))
        }
        KqlType::Real => {
            let values: Vec<_> = each.map(|at| args.real(at)).collect::<DfResult<_>>()?;
            args.make_real(|row| best(values.iter().map(|v| v.get(row)), f64::total_cmp, &better))
        }
        KqlType::Int => {
            let values: Vec<_> = each.map(|at| args.long(at)).collect::<DfResult<_>>()?;
            args.make_int(|row| {
                let value = best(values.iter().map(|v| v.get(row)), i64::cmp, &better);
                value.and_then(|value| i32::try_from(value).ok())
            })
        }
        KqlType::Long | KqlType::DateTime | KqlType::TimeSpan => {
            let values: Vec<_> = each.map(|at| args.long(at)).collect::<DfResult<_>>()?;
            args.make_long(|row| best(values.iter().map(|v| v.get(row)), i64::cmp, &better))
        }
        KqlType::Decimal => {
            let values: Vec<_> =
                each.map(|at| decimal::Decimals::read(args, at)).collect::<DfResult<_>>()?;
            decimal::make(args, |row| {
                best(values.iter().map(|v| v.get(row)), Decimal::cmp, &better)
            })
        }
        KqlType::Dynamic => {
            let values: Vec<_> = each.map(|at| args.dynamic(at)).collect::<DfResult<_>>()?;
            let mut builder = DynamicBuilder::with_capacity(args.rows);
            for row in 0..args.rows {
                let present = values.iter().map(|value| value.bytes(row));
                let order = |a: &&[u8], b: &&[u8]| View::of(a).order(View::of(b));
                builder.append_bytes(best(present, order, &better))?;
            }
            builder.finish()
        }
        KqlType::String | KqlType::Guid => {
            let string = args.kql_type(0)? == KqlType::String;
            let values: Vec<_> = each.map(|at| args.text(at)).collect::<DfResult<_>>()?;
            args.make_text(|row| {
                let present = values.iter().map(|v| Some(v.get(row)).filter(|t| !t.is_empty()));
                best(present, |a, b| a.cmp(b), &better).or(if string { Some("") } else { None })
            })
        }
    })
}

fn not(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    let argument = coerce(only(call, arguments)?, Parameter::Bool, call.name)?;
    Ok(Expr::new(ExprKind::Not(Box::new(argument)), KqlType::Bool, call.span))
}

fn only(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, 1)?;
    arguments.into_iter().next().ok_or_else(|| call.problem("one argument is missing"))
}

/// Whether the value is null, or empty if it is a string; or the opposite.
fn is_absent(value: Expr, negated: bool) -> Expr {
    let span = value.span;
    if value.kql_type == KqlType::String {
        let comparison = if negated { Comparison::NotEqual } else { Comparison::Equal };
        let empty = Box::new(Expr::text("", span));
        let kind = ExprKind::Compare(comparison, Box::new(value), empty);
        return Expr::new(kind, KqlType::Bool, span);
    }
    let test = Expr::new(ExprKind::IsNull(Box::new(value)), KqlType::Bool, span);
    if negated { Expr::new(ExprKind::Not(Box::new(test)), KqlType::Bool, span) } else { test }
}

fn is_null(call: &Call<'_>, arguments: Vec<Expr>, negated: bool) -> Result<Expr, Problem> {
    let value = only(call, arguments)?;
    // A string is never null.
    if value.kql_type == KqlType::String {
        return Ok(Expr::bool(negated, call.span));
    }
    Ok(is_absent(value, negated))
}

fn is_empty(call: &Call<'_>, arguments: Vec<Expr>, negated: bool) -> Result<Expr, Problem> {
    let value = only(call, arguments)?;
    let value = if value.kql_type == KqlType::Dynamic { to_text(value) } else { value };
    Ok(is_absent(value, negated))
}

/// The least or greatest of the values; nulls are passed over.
fn extreme(call: &Call<'_>, arguments: Vec<Expr>, least: bool) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, ARGUMENTS_MAX)?;
    if arguments.iter().any(|argument| argument.kql_type == KqlType::Dynamic) {
        return Err(Problem::unsupported(call.span, format!("{} of dynamic values", call.name)));
    }
    if least {
        choose(call, "min_of", arguments, pick_least)
    } else {
        choose(call, "max_of", arguments, pick_greatest)
    }
}
