//! Aggregates: their names, their arguments, and what they make of groups without values.

use super::gather::{Gather, Hll};
use super::{Parameter, cast, coerce, of_dynamic, to_dynamic};
use crate::query::bound::{
    Aggregate, AggregateFunction as F, Arithmetic, Comparison, Expr, ExprKind,
};
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{ITEMS_MAX, View};
use crate::query::syntax::Span;
use crate::query::syntax::ast::BinaryOperator;
use crate::query::types::KqlType;
use datafusion::scalar::ScalarValue;

/// The aggregates of this version. The names that end in `if` take a condition after their values.
pub(crate) const NAMES: [&str; 61] = [
    "any",
    "anyif",
    "arg_max",
    "arg_min",
    "argmax",
    "argmin",
    "avg",
    "avgif",
    "binary_all_and",
    "binary_all_or",
    "binary_all_xor",
    "buildschema",
    "cnt",
    "count",
    "count_distinct",
    "count_distinctif",
    "countif",
    "covariance",
    "covarianceif",
    "covariancep",
    "covariancepif",
    "dcount",
    "dcountif",
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
    "max",
    "maxif",
    "merge_tdigest",
    "min",
    "minif",
    "percentile",
    "percentiles",
    "percentiles_array",
    "percentilesw",
    "percentilesw_array",
    "percentilew",
    "stdev",
    "stdevif",
    "stdevp",
    "stdevpif",
    "sum",
    "sumif",
    "take_any",
    "take_anyif",
    "tdigest",
    "tdigest_merge",
    "variance",
    "varianceif",
    "variancep",
    "variancepif",
];

/// Aggregates that are not run.
pub(crate) const UNSUPPORTED: [&str; 1] = ["passthrough"];

/// Aggregates that are also functions of a row; outside of groups they are those.
pub(crate) const SCALARS_TOO: [&str; 3] = ["hll_merge", "merge_tdigest", "tdigest_merge"];

/// Aggregates that make several columns.
pub(crate) const SEVERAL: [&str; 6] =
    ["arg_max", "arg_min", "argmax", "argmin", "percentiles", "percentilesw"];

/// The name without its `if`.
fn base_of(name: &str) -> &str {
    let base = name.strip_suffix("if").unwrap_or(name);
    base.strip_suffix('_').unwrap_or(base)
}

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
        let base = base_of(self.name);
        let filter = if base == self.name {
            None
        } else {
            // An option such as the longest list follows the condition.
            let at = match base {
                "count" => 0,
                "covariance" | "covariancep" => 2,
                _ => 1,
            };
            if arguments.len() <= at {
                return Err(self.problem("a condition is missing"));
            }
            Some(coerce(arguments.remove(at), Parameter::Bool, self.name)?)
        };
        let expected = match base {
            "cnt" => 0..=0,
            "count" => 0..=1,
            "percentile" | "covariance" | "covariancep" => 2..=2,
            // The accuracy is taken and not used: the count is exact.
            "dcount" | "hll" | "tdigest" => 1..=2,
            "make_list" | "makelist" | "make_set" | "makeset" => 1..=2,
            "make_bag" | "make_dictionary" => 1..=2,
            "percentilew" => 3..=3,
            "percentiles_array" => 2..=usize::MAX,
            "percentilesw_array" => 3..=usize::MAX,
            _ => 1..=1,
        };
        if !expected.contains(&arguments.len()) {
            let message = format!("`{}` does not take {} arguments", self.name, arguments.len());
            return Err(self.problem(message));
        }
        let mut arguments = arguments.into_iter();
        let value = match arguments.next() {
            // `count()` and `countif(…)`.
            None => self.raw(F::Rows, Expr::long(1, self.span), filter, KqlType::Long),
            Some(argument) => self.value(base, argument, arguments.collect(), filter)?,
        };
        Ok(Bound { aggregates: self.aggregates, value })
    }

    fn value(
        &mut self,
        base: &str,
        argument: Expr,
        rest: Vec<Expr>,
        filter: Option<Expr>,
    ) -> Result<Expr, Problem> {
        let second = rest.first();
        Ok(match base {
            "count" => self.raw(F::Rows, Expr::long(1, self.span), filter, KqlType::Long),
            "dcount" | "count_distinct" => {
                self.raw(F::DistinctValues, argument, filter, KqlType::Long)
            }
            "sum" => self.sum(argument, filter)?,
            "avg" => self.average(argument, filter)?,
            "min" | "max" => self.extreme(base, argument, filter)?,
            "any" | "take_any" => self.any(argument, filter),
            "stdev" | "stdevp" | "variance" | "variancep" => self.spread(base, argument, filter)?,
            "covariance" | "covariancep" => {
                let other = second.cloned().ok_or_else(|| self.problem("a value is missing"))?;
                self.covariance(base == "covariance", argument, other, filter)?
            }
            "binary_all_and" | "binary_all_or" | "binary_all_xor" => {
                let argument = coerce(argument, Parameter::Long, base)?;
                let function = match base {
                    "binary_all_and" => F::BitsOfAll,
                    "binary_all_or" => F::BitsOfAny,
                    _ => F::BitsOfOdd,
                };
                self.raw(function, argument, filter, KqlType::Long)
            }
            "percentile" => {
                let percent = second.and_then(constant_real);
                let percent = percent.ok_or_else(|| {
                    self.problem("`percentile` takes a constant from 0 to 100 second")
                })?;
                self.percentile(argument, percent)?
            }
            "percentilew" => {
                let (weight, percent) = match rest.as_slice() {
                    [weight, percent] => (weight.clone(), constant_real(percent)),
                    _ => return Err(self.problem("`percentilew` takes a weight and a constant")),
                };
                let percents: Vec<f64> = percent.into_iter().collect();
                let mut values = self.weighted(argument, weight, &percents)?.into_iter();
                values.next().ok_or_else(|| self.problem("a percentage is missing"))?
            }
            "percentiles_array" | "percentilesw_array" => {
                self.percentiles_array(base == "percentilesw_array", argument, rest)?
            }
            _ => self.gathered(base, argument, second, filter)?,
        })
    }

    /// A value that is not null and not empty, if a row has one.
    fn any(&mut self, argument: Expr, filter: Option<Expr>) -> Expr {
        let (kql_type, span) = (argument.kql_type, self.span);
        let not = |expr| Expr::new(ExprKind::Not(Box::new(expr)), KqlType::Bool, span);
        let there = if kql_type == KqlType::String {
            let (value, empty) = (Box::new(argument.clone()), Box::new(Expr::text("", span)));
            Expr::new(ExprKind::Compare(Comparison::NotEqual, value, empty), KqlType::Bool, span)
        } else {
            let null = ExprKind::IsNull(Box::new(argument.clone()));
            not(Expr::new(null, KqlType::Bool, span))
        };
        let filter = match filter {
            Some(filter) => Expr::new(ExprKind::And(vec![filter, there]), KqlType::Bool, span),
            None => there,
        };
        self.raw(F::AnyValue, argument, Some(filter), kql_type)
    }

    /// Zero for no values; longs wrap.
    fn sum(&mut self, argument: Expr, filter: Option<Expr>) -> Result<Expr, Problem> {
        let kql_type = match argument.kql_type {
            KqlType::Int | KqlType::Long => KqlType::Long,
            KqlType::Real => KqlType::Real,
            KqlType::TimeSpan => KqlType::TimeSpan,
            KqlType::Dynamic => {
                return self.sum(of_dynamic(argument, KqlType::Real), filter);
            }
            KqlType::Decimal => {
                let sum = self.gather(Gather::Sum, argument, filter);
                return Ok(of_dynamic(sum, KqlType::Decimal));
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
        if matches!(argument.kql_type, KqlType::DateTime | KqlType::TimeSpan) {
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
        if argument.kql_type == KqlType::Decimal {
            let sum = self.sum(argument, filter)?;
            return super::operator::arithmetic(BinaryOperator::Divide, sum, count, span);
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

    /// Zero for a single value of a sample, and for none.
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
        let span = self.span;
        let zero = Expr::constant(ScalarValue::Float64(Some(0.0)), KqlType::Real, span);
        let count = self.raw(F::Values, argument.clone(), filter.clone(), KqlType::Long);
        let spread = self.raw(function, argument, filter, KqlType::Real);
        self.unless_few(count, zero, spread)
    }

    /// The value, or zero where it is of fewer than two.
    fn unless_few(&self, count: Expr, zero: Expr, value: Expr) -> Result<Expr, Problem> {
        let two = Expr::long(2, self.span);
        let few = super::operator::compare(Comparison::Less, count, two, self.span)?;
        // One value that is not a number spreads as little as one that is.
        let kind = ExprKind::Case { branches: vec![(few, zero)], otherwise: Box::new(value) };
        Ok(Expr::new(kind, KqlType::Real, self.span))
    }

    fn covariance(
        &mut self,
        sample: bool,
        argument: Expr,
        other: Expr,
        filter: Option<Expr>,
    ) -> Result<Expr, Problem> {
        let argument = coerce(argument, Parameter::Real, self.name)?;
        let other = coerce(other, Parameter::Real, self.name)?;
        let zero = Expr::constant(ScalarValue::Float64(Some(0.0)), KqlType::Real, self.span);
        let count = self.raw(F::Values, argument.clone(), filter.clone(), KqlType::Long);
        let function = F::Covariance { sample, other: Box::new(other) };
        let value = self.raw(function, argument, filter, KqlType::Real);
        self.unless_few(count, zero, value)
    }

    /// Not a number if one of the values is none.
    fn extreme(
        &mut self,
        base: &str,
        argument: Expr,
        filter: Option<Expr>,
    ) -> Result<Expr, Problem> {
        let kql_type = argument.kql_type;
        if kql_type == KqlType::Dynamic {
            return Err(Problem::unsupported(self.span, format!("{base} of dynamic values")));
        }
        let function = match (base, kql_type) {
            // Decimals are text, whose order is not theirs.
            (_, KqlType::Decimal) => {
                F::ValueAt { order: Box::new(argument.clone()), greatest: base != "min" }
            }
            ("min", _) => F::Min,
            _ => F::Max,
        };
        if kql_type != KqlType::Real {
            return Ok(self.raw(function, argument, filter, kql_type));
        }
        let span = self.span;
        let is_nan = super::find("isnan").ok_or_else(|| self.problem("`isnan` is missing"))?;
        let call = super::Call { name: "isnan", span, now: 0 };
        let is_nan = is_nan.bind(&call, vec![argument.clone()])?;
        let counted = match &filter {
            Some(filter) => {
                Expr::new(ExprKind::And(vec![filter.clone(), is_nan]), KqlType::Bool, span)
            }
            None => is_nan,
        };
        let nans = self.raw(F::Rows, Expr::long(1, span), Some(counted), KqlType::Long);
        let value = self.raw(function, argument, filter, kql_type);
        let some = super::operator::compare(Comparison::Greater, nans, Expr::long(0, span), span)?;
        let nan = Expr::constant(ScalarValue::Float64(Some(f64::NAN)), kql_type, span);
        let kind = ExprKind::Case { branches: vec![(some, nan)], otherwise: Box::new(value) };
        Ok(Expr::new(kind, kql_type, span))
    }

    fn gather(&mut self, gather: Gather, argument: Expr, filter: Option<Expr>) -> Expr {
        let function = F::Gather { gather, second: None };
        self.raw(function, to_dynamic(argument), filter, KqlType::Dynamic)
    }

    /// Lists, sets, bags, schemas, sketches.
    fn gathered(
        &mut self,
        base: &str,
        argument: Expr,
        second: Option<&Expr>,
        filter: Option<Expr>,
    ) -> Result<Expr, Problem> {
        let most = match (base, second) {
            ("hll" | "tdigest", _) | (_, None) => ITEMS_MAX,
            (_, Some(most)) => {
                let most = most.as_long().and_then(|most| usize::try_from(most).ok());
                let problem = || self.problem(format!("`{}` takes a constant count", self.name));
                most.ok_or_else(problem)?.min(ITEMS_MAX)
            }
        };
        let gather = match base {
            "make_list" | "makelist" => Gather::List { nulls: false, items_max: most },
            "make_list_with_nulls" => Gather::List { nulls: true, items_max: most },
            "make_set" | "makeset" => Gather::Set { items_max: most },
            "make_bag" | "make_dictionary" => Gather::Bag { members_max: most },
            "buildschema" => Gather::Schema,
            "hll" => {
                let accuracy = second.map_or(Some(1), Expr::as_long);
                let precision = accuracy.and_then(Hll::precision_of);
                let problem = || self.problem("the accuracy of `hll` is from 0 to 4");
                Gather::Hll { precision: precision.ok_or_else(problem)? }
            }
            "hll_merge" => Gather::HllMerge,
            "tdigest" => {
                let second = second.cloned().map(|weight| Box::new(to_dynamic(weight)));
                let function = F::Gather { gather: Gather::TDigest, second };
                return Ok(self.raw(function, to_dynamic(argument), filter, KqlType::Dynamic));
            }
            "tdigest_merge" | "merge_tdigest" => Gather::TDigestMerge,
            _ => return Err(Problem::unsupported(self.span, self.name)),
        };
        Ok(self.gather(gather, argument, filter))
    }

    /// Values at percentages, each counted as often as its weight says, in the argument's type.
    pub(crate) fn weighted(
        &mut self,
        argument: Expr,
        weight: Expr,
        percents: &[f64],
    ) -> Result<Vec<Expr>, Problem> {
        if !weight.kql_type.is_number() && weight.kql_type != KqlType::Dynamic {
            return Err(self.problem(format!("a weight is a number, not {}", weight.kql_type)));
        }
        let kql_type = match argument.kql_type {
            KqlType::Int => KqlType::Long,
            other => other,
        };
        let all = self.percentiles_of(argument, Some(weight), percents)?;
        let places = 0..i64::try_from(percents.len()).unwrap_or(0);
        let part = |at| super::dynamic::part(all.clone(), Expr::long(at, self.span), self.span);
        places.map(|at| Ok(of_dynamic(part(at)?, kql_type))).collect()
    }

    fn percentiles_of(
        &mut self,
        argument: Expr,
        weight: Option<Expr>,
        percents: &[f64],
    ) -> Result<Expr, Problem> {
        if percents.is_empty() || percents.iter().any(|p| !(0.0..=100.0).contains(p)) {
            return Err(self.problem("a percentile lies between 0 and 100"));
        }
        let percents = percents.iter().map(|percent| percent.to_bits()).collect();
        let second = weight.map(|weight| Box::new(to_dynamic(weight)));
        let function = F::Gather { gather: Gather::Percentiles { percents }, second };
        Ok(self.raw(function, to_dynamic(argument), None, KqlType::Dynamic))
    }

    fn percentiles_array(
        &mut self,
        weighted: bool,
        argument: Expr,
        rest: Vec<Expr>,
    ) -> Result<Expr, Problem> {
        let mut rest = rest.into_iter();
        let weight = if weighted { rest.next() } else { None };
        let mut percents = Vec::new();
        for percent in rest {
            match (percent.as_constant(), constant_real(&percent)) {
                (_, Some(percent)) => percents.push(percent),
                (Some(ScalarValue::BinaryView(Some(bytes))), _) => match View::of(bytes) {
                    View::Array(items) => {
                        percents.extend(items.iter().filter_map(|i| View::of(i).as_number()));
                    }
                    _ => return Err(self.problem("expected constant percentages")),
                },
                _ => return Err(self.problem("expected constant percentages")),
            }
        }
        self.percentiles_of(argument, weight, &percents)
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
            KqlType::Dynamic => {
                return self.percentile(of_dynamic(argument, KqlType::Real), percent);
            }
            KqlType::Decimal => {
                return self.percentile(super::conversion::real_of_decimal(argument), percent);
            }
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
