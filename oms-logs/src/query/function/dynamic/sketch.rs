//! Functions of a row over sketches: distinct counts and percentiles.

use super::super::arguments::Args;
use super::super::gather::{Hll, TDigest};
use super::super::kernel::call;
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
    kernel("rank_tdigest", NAMING, SKETCH_AND_VALUE, KqlType::Real, |args| rank(args, false)),
    kernel("percentrank_tdigest", NAMING, SKETCH_AND_VALUE, KqlType::Real, |args| rank(args, true)),
    special("percentile_tdigest", NAMING, percentile_tdigest),
    kernel(
        "percentiles_array_tdigest",
        NAMING,
        &[Parameter::Dynamic, Parameter::AsDynamic],
        KqlType::Dynamic,
        percentiles_array,
    )
    .repeated(),
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
            let name = arguments.pop();
            let name = name.as_ref().and_then(Expr::as_text).and_then(KqlType::of_name);
            name.ok_or_else(|| call.problem("`percentile_tdigest` takes a type third"))?
        }
        _ => KqlType::Dynamic,
    };
    let parameters = [Parameter::Dynamic, Parameter::Real];
    let arguments = arguments.into_iter().zip(parameters);
    let arguments = arguments.map(|(argument, parameter)| coerce(argument, parameter, call.name));
    let arguments = arguments.collect::<Result<_, _>>()?;
    let is_time = matches!(wanted, KqlType::DateTime | KqlType::TimeSpan);
    let (name, kernel): (_, super::super::KernelFn) = if is_time {
        ("percentile_tdigest_ticks", |args| percentile(args, true))
    } else {
        ("percentile_tdigest", |args| percentile(args, false))
    };
    let value = self::call(name, kernel, arguments, KqlType::Dynamic, call.span);
    Ok(of_dynamic(value, wanted))
}

/// The value at a percentage, as a whole number if it is a count of ticks.
fn percentile(args: &Args<'_>, ticks: bool) -> DfResult<ArrayRef> {
    let (digest, percent) = (args.dynamic(0)?, args.real(1)?);
    args.make_dynamic(|row, writer| {
        let digest = TDigest::of_value(digest.get(row));
        let value = digest.zip(percent.get(row)).and_then(|(mut d, percent)| d.percentile(percent));
        match value {
            #[expect(clippy::cast_possible_truncation, reason = "ticks fit into a long")]
            Some(value) if ticks => writer.long(value.round() as i64),
            Some(value) => writer.real(value),
            None => writer.null(),
        }
    })
}

/// The values at percentages, which are arguments or one array.
fn percentiles_array(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (digest, percents) = (args.dynamic(0)?, dynamics(args, 1)?);
    args.make_dynamic(|row, writer| {
        let Some(mut digest) = TDigest::of_value(digest.get(row)) else { return writer.null() };
        let mut wanted = Vec::new();
        for percent in &percents {
            match percent.get(row) {
                View::Array(items) => wanted.extend(items.iter().map(|i| View::of(i).as_number())),
                other => wanted.push(other.as_number()),
            }
        }
        writer.array(|parts| {
            for percent in wanted {
                parts.item(|writer| match percent.and_then(|percent| digest.percentile(percent)) {
                    Some(value) => writer.real(value),
                    None => writer.null(),
                });
            }
        });
    })
}
