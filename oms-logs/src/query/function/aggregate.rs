//! Aggregates: their names, their arguments, and what they make of groups without values.

use super::{Parameter, cast, coerce};
use crate::query::bound::{
    Aggregate, AggregateFunction as F, Arithmetic, Comparison, Expr, ExprKind,
};
use crate::query::diagnostic::Problem;
use crate::query::syntax::Span;
use crate::query::types::KqlType;
use datafusion::scalar::ScalarValue;

/// The aggregates of this version. The names that end in `if` take a condition last.
pub(crate) const NAMES: [&str; 26] = [
    "any",
    "arg_max",
    "arg_min",
    "avg",
    "avgif",
    "count",
    "count_distinct",
    "countif",
    "dcount",
    "dcountif",
    "max",
    "maxif",
    "min",
    "minif",
    "percentile",
    "percentiles",
    "stdev",
    "stdevif",
    "stdevp",
    "sum",
    "sumif",
    "take_any",
    "take_anyif",
    "variance",
    "varianceif",
    "variancep",
];

/// Aggregates of the language that this version does not run.
pub(crate) const UNSUPPORTED: [&str; 32] = [
    "anyif",
    "argmax",
    "argmin",
    "binary_all_and",
    "binary_all_or",
    "binary_all_xor",
    "buildschema",
    "count_distinctif",
    "covariance",
    "covarianceif",
    "covariancep",
    "covariancepif",
    "hll",
    "hll_if",
    "hll_merge",
    "make_bag",
    "make_bag_if",
    "make_dictionary",
    "make_list",
    "make_list_if",
    "make_list_with_nulls",
    "make_set",
    "make_set_if",
    "makelist",
    "makeset",
    "percentiles_array",
    "percentilesw",
    "percentilew",
    "stdevpif",
    "tdigest",
    "tdigest_merge",
    "variancepif",
];

/// What a call of an aggregate becomes: columns of the group, computed from raw aggregates.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The raw aggregates, named by the caller's counter.
    pub(crate) aggregates: Vec<(String, Aggregate)>,
    /// The value, in terms of the raw aggregates.
    pub(crate) value: Expr,
}

/// Makes the raw aggregates of one call.
pub(crate) struct Maker<'a> {
    pub(crate) name: &'a str,
    pub(crate) span: Span,
    /// How many raw aggregates there are already.
    pub(crate) first: usize,
    pub(crate) aggregates: Vec<(String, Aggregate)>,
}

impl Maker<'_> {
    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::semantic(self.span, message)
    }

    /// Adds a raw aggregate and answers with its column.
    pub(crate) fn raw(
        &mut self,
        function: F,
        argument: Expr,
        filter: Option<Expr>,
        kql_type: KqlType,
    ) -> Expr {
        let name = format!("$aggregate{}", self.first + self.aggregates.len());
        let aggregate = Aggregate { function, argument, filter, kql_type };
        self.aggregates.push((name.clone(), aggregate));
        Expr::column(name, kql_type, self.span)
    }

    /// `when` is null: `otherwise`.
    fn or_else(&self, value: Expr, otherwise: Expr) -> Expr {
        let kql_type = value.kql_type;
        let null = Expr::new(ExprKind::IsNull(Box::new(value.clone())), KqlType::Bool, self.span);
        let kind = ExprKind::Case { branches: vec![(null, otherwise)], otherwise: Box::new(value) };
        Expr::new(kind, kql_type, self.span)
    }

    /// Binds the call, except of those that make several columns.
    pub(crate) fn bind(mut self, mut arguments: Vec<Expr>) -> Result<Bound, Problem> {
        let base = self.name.strip_suffix("if").unwrap_or(self.name);
        let filter = if base == self.name {
            None
        } else {
            let filter = arguments.pop().ok_or_else(|| self.problem("a condition is missing"))?;
            Some(coerce(filter, Parameter::Bool, self.name)?)
        };
        let expected = match base {
            "count" => 0..=1,
            "percentile" => 2..=2,
            // The accuracy is taken and not used: the count is exact.
            "dcount" => 1..=2,
            _ => 1..=1,
        };
        if !expected.contains(&arguments.len()) {
            let message = format!("`{}` does not take {} arguments", self.name, arguments.len());
            return Err(self.problem(message));
        }
        let mut arguments = arguments.into_iter();
        let argument = arguments.next();
        let value = self.value(base, argument, arguments.next().as_ref(), filter)?;
        Ok(Bound { aggregates: self.aggregates, value })
    }

    fn value(
        &mut self,
        base: &str,
        argument: Option<Expr>,
        second: Option<&Expr>,
        filter: Option<Expr>,
    ) -> Result<Expr, Problem> {
        let Some(argument) = argument else {
            // `count()` and `countif(…)`.
            return Ok(self.raw(F::Rows, Expr::long(1, self.span), filter, KqlType::Long));
        };
        let kql_type = argument.kql_type;
        Ok(match base {
            "count" => self.raw(F::Rows, Expr::long(1, self.span), filter, KqlType::Long),
            "dcount" | "count_distinct" => {
                self.raw(F::DistinctValues, argument, filter, KqlType::Long)
            }
            "sum" => self.sum(argument, filter)?,
            "avg" => self.average(argument, filter)?,
            "min" | "max" => {
                if kql_type == KqlType::Dynamic {
                    let name = format!("{base} of dynamic values");
                    return Err(Problem::unsupported(self.span, name));
                }
                let function = if base == "min" { F::Min } else { F::Max };
                self.raw(function, argument, filter, kql_type)
            }
            "any" | "take_any" => self.raw(F::AnyValue, argument, filter, kql_type),
            "stdev" | "stdevp" | "variance" | "variancep" => self.spread(base, argument, filter)?,
            "percentile" => {
                let percent = second.and_then(constant_real);
                let percent = percent.ok_or_else(|| {
                    self.problem("`percentile` takes a constant from 0 to 100 second")
                })?;
                self.percentile(argument, percent)?
            }
            _ => return Err(Problem::unsupported(self.span, self.name)),
        })
    }

    /// Zero for no values; longs wrap.
    fn sum(&mut self, argument: Expr, filter: Option<Expr>) -> Result<Expr, Problem> {
        let kql_type = match argument.kql_type {
            KqlType::Int | KqlType::Long => KqlType::Long,
            KqlType::Real => KqlType::Real,
            KqlType::TimeSpan => KqlType::TimeSpan,
            KqlType::Decimal | KqlType::Dynamic => {
                let what = format!("{} of {}", self.name, argument.kql_type);
                return Err(Problem::unsupported(self.span, what));
            }
            other => return Err(self.problem(format!("`sum` is not defined for {other}"))),
        };
        let argument = if kql_type == KqlType::Long { cast(argument, kql_type) } else { argument };
        let sum = self.raw(F::Sum, argument, filter, kql_type);
        let zero = if kql_type == KqlType::Real {
            ScalarValue::Float64(Some(0.0))
        } else {
            ScalarValue::Int64(Some(0))
        };
        let zero = Expr::constant(zero, kql_type, self.span);
        Ok(self.or_else(sum, zero))
    }

    /// Not a number for no numbers; null for no timespans.
    fn average(&mut self, argument: Expr, filter: Option<Expr>) -> Result<Expr, Problem> {
        let span = self.span;
        let count = self.raw(F::Values, argument.clone(), filter.clone(), KqlType::Long);
        if argument.kql_type == KqlType::DateTime {
            return Err(Problem::unsupported(span, "avg of datetime"));
        }
        if argument.kql_type == KqlType::TimeSpan {
            let kql_type = argument.kql_type;
            let real = self.raw(F::Sum, cast(argument, KqlType::Real), filter, KqlType::Real);
            let mean = super::operator::native(
                Arithmetic::Divide,
                real,
                cast(count.clone(), KqlType::Real),
                KqlType::Real,
                span,
            );
            let empty =
                super::operator::compare(Comparison::Equal, count, Expr::long(0, span), span)?;
            let kind = ExprKind::Case {
                branches: vec![(empty, Expr::null(kql_type, span))],
                otherwise: Box::new(cast(mean, kql_type)),
            };
            return Ok(Expr::new(kind, kql_type, span));
        }
        let sum = self.sum(argument, filter)?;
        Ok(super::operator::native(
            Arithmetic::Divide,
            cast(sum, KqlType::Real),
            cast(count, KqlType::Real),
            KqlType::Real,
            span,
        ))
    }

    /// Zero for a single value of a sample; not a number for none.
    fn spread(
        &mut self,
        base: &str,
        argument: Expr,
        filter: Option<Expr>,
    ) -> Result<Expr, Problem> {
        let argument = coerce(argument, Parameter::Real, base)?;
        let sample = !base.ends_with('p');
        let function = if base.starts_with("stdev") {
            F::StandardDeviation { sample }
        } else {
            F::Variance { sample }
        };
        let real =
            |value| Expr::constant(ScalarValue::Float64(Some(value)), KqlType::Real, self.span);
        let (zero, none) = (real(0.0), real(f64::NAN));
        let span = self.span;
        let count = self.raw(F::Values, argument.clone(), filter.clone(), KqlType::Long);
        let spread = self.raw(function, argument, filter, KqlType::Real);
        let is = |value| {
            super::operator::compare(
                Comparison::Equal,
                count.clone(),
                Expr::long(value, span),
                span,
            )
        };
        let kind = ExprKind::Case {
            branches: vec![(is(0)?, none), (is(1)?, zero)],
            otherwise: Box::new(spread),
        };
        Ok(Expr::new(kind, KqlType::Real, span))
    }

    /// One value of the nearest rank, of the argument's type.
    pub(crate) fn percentile(&mut self, argument: Expr, percent: f64) -> Result<Expr, Problem> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(self.problem("a percentile lies between 0 and 100"));
        }
        let kql_type = argument.kql_type;
        let argument = match kql_type {
            KqlType::Int => cast(argument, KqlType::Long),
            KqlType::Long | KqlType::Real | KqlType::DateTime | KqlType::TimeSpan => argument,
            other => return Err(self.problem(format!("`percentile` is not defined for {other}"))),
        };
        let kql_type = if kql_type == KqlType::Int { KqlType::Long } else { kql_type };
        Ok(self.raw(F::Percentile(percent), argument, None, kql_type))
    }
}

/// The constant as a real.
pub(crate) fn constant_real(expr: &Expr) -> Option<f64> {
    match expr.as_constant()? {
        ScalarValue::Float64(value) => *value,
        #[expect(clippy::cast_precision_loss, reason = "a percentage is small")]
        ScalarValue::Int64(value) => value.map(|value| value as f64),
        ScalarValue::Int32(value) => value.map(f64::from),
        _ => None,
    }
}
