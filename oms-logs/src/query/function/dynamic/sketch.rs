//! Functions of a row over sketches: distinct counts and percentiles.

use super::super::arguments::Args;
use super::super::gather::{Hll, TDigest};
use super::super::kernel::{KernelFn, call};
use super::super::{Call, Function, Naming, Parameter, coerce, kernel, of_dynamic, special};
use super::build::dynamics;
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::dynamic::View;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;

const NAMING: Naming = Naming::NameAndFirstArgument;
const SKETCH: &[Parameter] = &[Parameter::Dynamic];
const SKETCH_AND_VALUE: &[Parameter] = &[Parameter::Dynamic, Parameter::AsDynamic];

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("dcount_hll", NAMING, SKETCH, KqlType::Long, dcount_hll),
    kernel("hll_merge", NAMING, SKETCH, KqlType::Dynamic, hll_merge).repeated(),
    kernel("hll_isvalid", NAMING, SKETCH, KqlType::Bool, hll_is_valid),
    kernel("tdigest_merge", NAMING, SKETCH, KqlType::Dynamic, tdigest_merge).repeated(),
    kernel("merge_tdigest", NAMING, SKETCH, KqlType::Dynamic, tdigest_merge).repeated(),
    kernel("tdigest_isvalid", NAMING, SKETCH, KqlType::Bool, tdigest_is_valid),
    kernel("rank_tdigest", Naming::Default, SKETCH_AND_VALUE, KqlType::Real, |args| {
        rank(args, false)
    }),
    kernel("percentrank_tdigest", Naming::Default, SKETCH_AND_VALUE, KqlType::Real, |args| {
        rank(args, true)
    }),
    special("percentile_tdigest", NAMING, percentile_tdigest),
    special(
        "percentiles_array_tdigest",
        Naming::PrefixAndFirstArgument("percentile_tdigest"),
        percentiles_array_tdigest,
    ),
];

fn dcount_hll(args: &Args<'_>) -> DfResult<ArrayRef> {
    let sketch = args.dynamic(0)?;
    Ok(args.make_long(|row| Hll::of_value(sketch.get(row)).map(|sketch| sketch.count())))
}

fn hll_is_valid(args: &Args<'_>) -> DfResult<ArrayRef> {
    let sketch = args.dynamic(0)?;
    Ok(args.make_bool(|row| Some(Hll::of_value(sketch.get(row)).is_some())))
}

fn hll_merge(args: &Args<'_>) -> DfResult<ArrayRef> {
    let sketches = dynamics(args, 0)?;
    args.make_dynamic(|row, writer| {
        let all = sketches.iter().filter_map(|sketch| Hll::of_value(sketch.get(row)));
        let merged = all.reduce(|mut all, more| {
            all.merge_with(more);
            all
        });
        match merged {
            Some(merged) => merged.write(writer),
            None => writer.null(),
        }
    })
}

fn tdigest_is_valid(args: &Args<'_>) -> DfResult<ArrayRef> {
    let digest = args.dynamic(0)?;
    Ok(args.make_bool(|row| Some(TDigest::of_value(digest.get(row)).is_some())))
}

fn tdigest_merge(args: &Args<'_>) -> DfResult<ArrayRef> {
    let digests = dynamics(args, 0)?;
    args.make_dynamic(|row, writer| {
        let mut merged = TDigest::default();
        for digest in digests.iter().filter_map(|digest| TDigest::of_value(digest.get(row))) {
            merged.merge_with(&digest);
        }
        merged.write(writer);
    })
}

/// How many values are at most one, or which percentage of all.
#[expect(clippy::cast_precision_loss, reason = "a digest holds reals")]
fn rank(args: &Args<'_>, percent: bool) -> DfResult<ArrayRef> {
    let (digest, value) = (args.dynamic(0)?, args.dynamic(1)?);
    Ok(args.make_real(|row| {
        let mut digest = TDigest::of_value(digest.get(row))?;
        let value = match value.get(row) {
            View::DateTime(ticks) | View::TimeSpan(ticks) => ticks as f64,
            other => other.as_number()?,
        };
        let rank = digest.rank(value);
        Some(if percent { 100.0 * rank / digest.count() } else { rank })
    }))
}

/// `percentile_tdigest(digest, percent[, typeof(type)])`
fn percentile_tdigest(call: &Call<'_>, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, 3)?;
    let wanted = match arguments.len() {
        3 => {
            let wanted = arguments.pop().as_ref().and_then(named_type);
            wanted.ok_or_else(|| call.problem("`percentile_tdigest` takes a type third"))?
        }
        _ => KqlType::Dynamic,
    };
    one_percentile(call, arguments, wanted)
}

/// The type that `typeof` names.
fn named_type(expr: &Expr) -> Option<KqlType> {
    expr.as_text().and_then(KqlType::of_name)
}

/// A column of the type.
fn one_percentile(call: &Call<'_>, arguments: Vec<Expr>, wanted: KqlType) -> Result<Expr, Problem> {
    let parameters = [Parameter::Dynamic, Parameter::Real];
    let arguments = arguments.into_iter().zip(parameters);
    let arguments = arguments.map(|(argument, parameter)| coerce(argument, parameter, call.name));
    let arguments = arguments.collect::<Result<_, _>>()?;
    let (name, kernel): (_, KernelFn) = match wanted {
        KqlType::DateTime => ("percentile_tdigest_datetime", |a| percentile(a, KqlType::DateTime)),
        KqlType::TimeSpan => ("percentile_tdigest_timespan", |a| percentile(a, KqlType::TimeSpan)),
        KqlType::Dynamic => ("percentile_tdigest", |a| percentile(a, KqlType::Dynamic)),
        _ => ("percentile_tdigest_real", |a| percentile(a, KqlType::Real)),
    };
    let value = self::call(name, kernel, arguments, KqlType::Dynamic, call.span);
    Ok(of_dynamic(value, wanted))
}

/// The value at a percentage.
fn percentile(args: &Args<'_>, wanted: KqlType) -> DfResult<ArrayRef> {
    let (digest, percent) = (args.dynamic(0)?, args.real(1)?);
    args.make_dynamic(|row, writer| {
        let Some((mut digest, percent)) = TDigest::of_value(digest.get(row)).zip(percent.get(row))
        else {
            return writer.null();
        };
        match digest.percentile(percent) {
            Some(value) => digest.write_value(value, wanted, writer),
            None => writer.null(),
        }
    })
}

/// `percentiles_array_tdigest(digest, percent, …[, typeof(type)])`, of which the percentages can be
/// one array. One percentage with a type makes a column of the type, and no array.
fn percentiles_array_tdigest(call: &Call<'_>, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
    let wanted = arguments.last().and_then(named_type);
    if wanted.is_some() {
        arguments.pop();
    }
    call.arity(arguments.len(), 2, usize::MAX)?;
    if let (Some(wanted), [_, percent]) = (wanted, arguments.as_slice())
        && percent.kql_type != KqlType::Dynamic
    {
        return one_percentile(call, arguments, wanted);
    }
    let mut coerced = Vec::new();
    for (at, argument) in arguments.into_iter().enumerate() {
        let parameter = if at == 0 { Parameter::Dynamic } else { Parameter::AsDynamic };
        coerced.push(coerce(argument, parameter, call.name)?);
    }
    let (name, kernel): (_, KernelFn) = match wanted.unwrap_or(KqlType::Dynamic) {
        KqlType::Dynamic => ("percentiles_array_tdigest", |a| array(a, KqlType::Dynamic)),
        KqlType::DateTime => ("percentiles_array_datetime", |a| array(a, KqlType::DateTime)),
        KqlType::TimeSpan => ("percentiles_array_timespan", |a| array(a, KqlType::TimeSpan)),
        KqlType::Int | KqlType::Long => ("percentiles_array_long", |a| array(a, KqlType::Long)),
        KqlType::Real => ("percentiles_array_real", |a| array(a, KqlType::Real)),
        other => return Err(call.problem(format!("a digest has no percentile of {other}"))),
    };
    Ok(self::call(name, kernel, coerced, KqlType::Dynamic, call.span))
}

/// The values at percentages, which are arguments or one array.
fn array(args: &Args<'_>, wanted: KqlType) -> DfResult<ArrayRef> {
    let (digest, percents) = (args.dynamic(0)?, dynamics(args, 1)?);
    args.make_dynamic(|row, writer| {
        let Some(mut digest) = TDigest::of_value(digest.get(row)) else { return writer.null() };
        let mut asked = Vec::new();
        for percent in &percents {
            match percent.get(row) {
                View::Array(items) => asked.extend(items.iter().map(|i| View::of(i).as_number())),
                other => asked.push(other.as_number()),
            }
        }
        writer.array(|parts| {
            for percent in asked {
                parts.item(|writer| match percent.and_then(|percent| digest.percentile(percent)) {
                    Some(value) => digest.write_value(value, wanted, writer),
                    None => writer.null(),
                });
            }
        });
    })
}
