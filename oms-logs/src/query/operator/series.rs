//! `make-series`: aggregates along an axis as arrays.

use super::effort::Effort;
use super::values::{Groups, value_of};
use crate::query::bind::{BindResult, Binder, Failed, Items, Scope, column_name};
use crate::query::bound::{Column, Comparison, Expr, ExprKind, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{DynamicBuilder, Value};
use crate::query::function::aggregate::constant_real;
use crate::query::function::{self, Args, cast, operator};
use crate::query::limits::{SERIES_TOTAL_MAX, SERIES_VALUES_MAX, exceeded};
use crate::query::plan::{self, TableFunction};
use crate::query::syntax::Span;
use crate::query::syntax::ast::MakeSeries;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt64Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

/// About how many bytes a value of a series takes.
const VALUE_BYTES: usize = 16;

impl Binder<'_> {
    /// A row for each key, with an array for each aggregate and one for the axis.
    pub(crate) fn make_series(
        &mut self,
        input: Arc<Relation>,
        series: &MakeSeries,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let axis = self.expr(&series.axis.expr, &mut Scope::rows(&input.columns))?;
        let axis = if axis.kql_type == KqlType::Int { cast(axis, KqlType::Long) } else { axis };
        let bins = self.bins(&axis, series, span)?;
        let input = self.within_bins(input, &axis, &bins, span)?;
        let mut names = Items::default();
        let mut keys = Items::default();
        for (at, key) in series.keys.iter().enumerate() {
            let bound = self.expr(&key.expr, &mut Scope::rows(&input.columns))?;
            let implied = match &key.name {
                Some(name) => Some(name.text.clone()),
                None => column_name(&key.expr),
            };
            names.add_implied(implied, "Column", Expr::null(bound.kql_type, span));
            keys.replace(&format!("$key{at}"), bound);
        }
        let key_count = keys.items.len();
        let bin = function::call(
            "series_bin",
            series_bin,
            vec![axis, bins.step.clone(), bins.base.clone()],
            KqlType::Long,
            span,
        );
        keys.replace("$bin", bin);
        let (values, defaults) = self.series_values(&input, series, &mut names)?;
        let grouped = self.series_groups(input, keys, values, span)?;
        let implied = match &series.axis.name {
            Some(name) => Some(name.text.clone()),
            None => column_name(&series.axis.expr),
        };
        names.add_implied(implied, "Column", Expr::null(KqlType::Dynamic, span));
        let types: Vec<KqlType> = grouped.columns.iter().map(|column| column.kql_type).collect();
        let columns = names.columns().into_iter().enumerate().map(|(at, column)| {
            let kql_type = if at < key_count { column.kql_type } else { KqlType::Dynamic };
            Column::new(column.name, kql_type)
        });
        let columns = columns.collect();
        let defaults = defaults.iter().map(|default| self.constant(default));
        let defaults = defaults.collect::<BindResult<Vec<_>>>()?;
        let function = Series {
            keys: key_count,
            types,
            defaults,
            axis: bins.axis,
            base: self.constant(&bins.base)?,
            step: self.constant(&bins.step)?,
            starts: bins.from.is_some(),
            end: bins.end,
            nonempty: series.nonempty && key_count == 0,
        };
        let kind = RelationKind::Table {
            inputs: vec![grouped],
            function: Arc::new(function),
            serialized: false,
        };
        self.relation(kind, columns, span)
    }

    /// Where bins begin, how wide they are, and how many there are.
    fn bins(&mut self, axis: &Expr, series: &MakeSeries, span: Span) -> BindResult<Bins> {
        use KqlType as T;
        let constant = |binder: &mut Self, expr: &Option<crate::query::syntax::ast::Expr>| {
            expr.as_ref().map(|expr| binder.expr(expr, &mut Scope::constants())).transpose()
        };
        let from = constant(self, &series.from)?;
        let to = constant(self, &series.to)?;
        let step = self.expr(&series.step, &mut Scope::constants())?;
        let step_type = match axis.kql_type {
            T::DateTime | T::TimeSpan => T::TimeSpan,
            T::Long => T::Long,
            T::Real => T::Real,
            other => {
                let message = format!("`make-series` has no axis of {other}");
                return Err(self.report(Problem::semantic(axis.span, message)));
            }
        };
        // A real step widens the axis.
        let kql_type = axis.kql_type;
        let step = self.fitting(step, step_type, "step")?;
        let from = from.map(|from| self.fitting(from, kql_type, "from")).transpose()?;
        let to = to.map(|to| self.fitting(to, kql_type, "to")).transpose()?;
        let number = |expr: &Expr| match plan::evaluate(expr) {
            Ok(ScalarValue::Int64(Some(value))) => Some(Number::Long(value)),
            Ok(value) => {
                let value = Expr::constant(value, T::Real, span);
                constant_real(&value).map(Number::Real)
            }
            Err(_) => None,
        };
        let Some(width) = number(&step).filter(|width| width.is_positive()) else {
            let message = "the step of `make-series` is not greater than zero";
            return Err(self.report(Problem::semantic(span, message)));
        };
        let zero = match kql_type {
            T::Real => Expr::constant(ScalarValue::Float64(Some(0.0)), T::Real, span),
            _ => Expr { kql_type, ..Expr::long(0, span) },
        };
        let base = match from.as_ref() {
            Some(from) if series.in_range => {
                let first = number(from).and_then(|from| from.floor_to(width));
                match first {
                    Some(Number::Long(first)) => Expr { kql_type, ..Expr::long(first, span) },
                    Some(Number::Real(first)) => {
                        Expr::constant(ScalarValue::Float64(Some(first)), T::Real, span)
                    }
                    None => return Err(Failed),
                }
            }
            Some(from) => from.clone(),
            None => zero,
        };
        let end = match (number(&base), to.as_ref().map(number)) {
            (Some(base), Some(Some(to))) => Some(base.bins_up_to(to, width, series.in_range)),
            (None, _) | (_, Some(None)) => {
                let message = "the bounds of `make-series` are not null";
                return Err(self.report(Problem::semantic(span, message)));
            }
            (Some(_), None) => None,
        };
        if from.is_some() && end.is_some_and(|end| end > SERIES_VALUES_MAX) {
            let message = format!(
                "`make-series` makes too many values in one series. \
                 series_values_max=`{SERIES_VALUES_MAX}`"
            );
            return Err(self.report(Problem::semantic(span, message)));
        }
        let from = from.map(|_| base.clone());
        let inclusive = series.in_range;
        Ok(Bins { axis: kql_type, from, to, inclusive, base, step, end })
    }

    /// The rows within the bounds.
    fn within_bins(
        &mut self,
        input: Arc<Relation>,
        axis: &Expr,
        bins: &Bins,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let null = Expr::new(ExprKind::IsNull(Box::new(axis.clone())), KqlType::Bool, span);
        let mut sides = vec![crate::query::bind::not(null)];
        let mut side = |binder: &mut Self, comparison, bound: &Option<Expr>| {
            let Some(bound) = bound else { return Ok(()) };
            let made = operator::compare(comparison, axis.clone(), bound.clone(), span);
            sides.push(binder.checked(made)?);
            Ok(())
        };
        let below = if bins.inclusive { Comparison::LessOrEqual } else { Comparison::Less };
        side(self, Comparison::GreaterOrEqual, &bins.from)?;
        side(self, below, &bins.to)?;
        let predicate = Expr::new(ExprKind::And(sides), KqlType::Bool, span);
        self.filtered(input, predicate, span)
    }

    /// The aggregates, each with what stands for bins without rows.
    #[expect(clippy::type_complexity, reason = "two lists and what they come from")]
    fn series_values(
        &mut self,
        input: &Relation,
        series: &MakeSeries,
        names: &mut Items,
    ) -> BindResult<((Vec<Expr>, Vec<(String, crate::query::bound::Aggregate)>), Vec<Expr>)> {
        let mut scope = Scope::groups(&input.columns, Vec::new());
        let (mut values, mut defaults) = (Vec::new(), Vec::new());
        for (aggregate, default) in &series.aggregates {
            let value = self.expr(&aggregate.expr, &mut scope)?;
            let default = match default {
                Some(default) => {
                    let bound = self.expr(default, &mut Scope::constants())?;
                    self.converted(bound, value.kql_type)?
                }
                None => zero_of(value.kql_type, aggregate.expr.span),
            };
            let implied = match &aggregate.name {
                Some(name) => Some(name.text.clone()),
                None => column_name(&aggregate.expr),
            };
            names.add_implied(implied, "Column", Expr::null(KqlType::Dynamic, value.span));
            values.push(value);
            defaults.push(default);
        }
        Ok(((values, scope.into_aggregates()), defaults))
    }

    fn series_groups(
        &mut self,
        input: Arc<Relation>,
        keys: Items,
        (values, aggregates): (Vec<Expr>, Vec<(String, crate::query::bound::Aggregate)>),
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut made = keys.columns();
        let mut items = Items::of_columns(&made, span);
        made.extend(aggregates.iter().map(|(name, made)| Column::new(name, made.kql_type)));
        let kind = RelationKind::Aggregate { input, keys: keys.items, aggregates };
        let grouped = self.relation(kind, made, span)?;
        for (at, value) in values.into_iter().enumerate() {
            items.replace(&format!("$value{at}"), value);
        }
        self.projected(grouped, items, span)
    }
}

/// What stands for a bin without rows if the query does not say.
fn zero_of(kql_type: KqlType, span: Span) -> Expr {
    let value = match kql_type {
        KqlType::Int => ScalarValue::Int32(Some(0)),
        KqlType::Long | KqlType::TimeSpan => ScalarValue::Int64(Some(0)),
        KqlType::Real => ScalarValue::Float64(Some(0.0)),
        KqlType::Decimal => ScalarValue::Utf8View(Some("0".to_owned())),
        _ => return Expr::null(kql_type, span),
    };
    Expr::constant(value, kql_type, span)
}

/// The number of the bin of each value.
fn series_bin(args: &Args<'_>) -> Result<ArrayRef> {
    if args.kql_type(0)? == KqlType::Real {
        let (axis, step, base) = (args.real(0)?, args.real(1)?, args.real(2)?);
        return Ok(args.make_long(|row| {
            let bin = ((axis.get(row)? - base.get(row)?) / step.get(row)?).floor();
            #[expect(clippy::cast_possible_truncation, reason = "the bound is checked before")]
            (bin.abs() < 9e15).then_some(bin as i64)
        }));
    }
    let (axis, step, base) = (args.long(0)?, args.long(1)?, args.long(2)?);
    Ok(args.make_long(|row| {
        axis.get(row)?.checked_sub(base.get(row)?)?.checked_div_euclid(step.get(row)?)
    }))
}

struct Bins {
    axis: KqlType,
    from: Option<Expr>,
    to: Option<Expr>,
    inclusive: bool,
    base: Expr,
    step: Expr,
    /// The number of the bin after the last one, if there is a bound.
    end: Option<usize>,
}

#[derive(Clone, Copy)]
enum Number {
    Long(i64),
    Real(f64),
}

#[expect(clippy::cast_precision_loss, reason = "bins are counted, and their count is bounded")]
#[expect(clippy::cast_possible_truncation, reason = "the count is bounded")]
#[expect(clippy::cast_sign_loss, reason = "the count is not negative")]
impl Number {
    fn is_positive(self) -> bool {
        match self {
            Self::Long(value) => value > 0,
            Self::Real(value) => value > 0.0 && value.is_finite(),
        }
    }

    const fn real(self) -> f64 {
        match self {
            Self::Long(value) => value as f64,
            Self::Real(value) => value,
        }
    }

    fn floor_to(self, width: Self) -> Option<Self> {
        match (self, width) {
            (Self::Long(value), Self::Long(width)) => {
                value.checked_sub(value.checked_rem_euclid(width)?).map(Self::Long)
            }
            (value, width) => {
                Some(Self::Real((value.real() / width.real()).floor() * width.real()))
            }
        }
    }

    fn bins_up_to(self, to: Self, width: Self, inclusive: bool) -> usize {
        if let (Self::Long(base), Self::Long(to), Self::Long(width)) = (self, to, width) {
            let length = i128::from(to) - i128::from(base);
            let width = i128::from(width);
            let bins = if inclusive {
                length.div_euclid(width) + 1
            } else {
                (length + width - 1).div_euclid(width)
            };
            return usize::try_from(bins.max(0)).unwrap_or(usize::MAX);
        }
        let bins = (to.real() - self.real()) / width.real();
        let bins = if inclusive { bins.floor() + 1.0 } else { bins.ceil() };
        if bins.is_nan() || bins < 0.0 { 0 } else { bins as usize }
    }
}

/// Puts the values of bins into arrays.
#[derive(Debug)]
struct Series {
    keys: usize,
    /// Of the input's columns: keys, the number of the bin, values.
    types: Vec<KqlType>,
    defaults: Vec<ScalarValue>,
    axis: KqlType,
    base: ScalarValue,
    step: ScalarValue,
    /// Whether every series begins with the first bin.
    starts: bool,
    end: Option<usize>,
    nonempty: bool,
}

#[async_trait]
impl TableFunction for Series {
    fn name(&self) -> &'static str {
        "make_series"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("make-series takes a table") };
        let Some(bins) =
            input.columns().get(self.keys).and_then(|bins| bins.as_primitive_opt::<Int64Type>())
        else {
            return exec_err!("make-series lacks its bins");
        };
        let rows = input.num_rows();
        let groups = Groups::of(input.columns().get(..self.keys).unwrap_or_default(), rows)?;
        // What has no bin, such as a row whose axis is not a number, is in no series.
        let mut groups = groups.rows(|row| !bins.is_null(row));
        groups.retain(|rows| !rows.is_empty());
        if groups.is_empty() && self.nonempty {
            groups.push(Vec::new());
        }
        let mut effort = Effort::new(self.name(), context);
        let mut arrays: Vec<DynamicBuilder> = Vec::new();
        arrays.resize_with(self.defaults.len() + 1, || DynamicBuilder::with_capacity(0));
        let mut firsts = Vec::new();
        for (rows, (first, count)) in self.extents(groups, bins.values())? {
            effort.keep(count.saturating_mul(arrays.len() * VALUE_BYTES))?;
            effort.step().await;
            self.fill(input, &rows, (first, count), bins.values(), &mut arrays)?;
            firsts.push(rows.first().copied().unwrap_or(0));
        }
        let rows = firsts.len();
        let firsts = UInt64Array::from(firsts);
        let keys = input.columns().iter().take(self.keys);
        let mut columns =
            keys.map(|key| Ok(take(key, &firsts, None)?)).collect::<Result<Vec<_>>>()?;
        columns.extend(arrays.into_iter().map(DynamicBuilder::finish));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(vec![RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?])
    }
}

impl Series {
    /// The groups that have bins, with the first bin and how many there are.
    #[expect(clippy::type_complexity, reason = "rows and where their bins are")]
    fn extents(
        &self,
        groups: Vec<Vec<u64>>,
        bins: &[i64],
    ) -> Result<Vec<(Vec<u64>, (i64, usize))>> {
        let mut made = Vec::new();
        let mut total = 0_usize;
        for rows in groups {
            let Some((first, count)) = self.extent(&rows, bins) else { continue };
            if count > SERIES_VALUES_MAX {
                return exceeded(
                    "make-series makes too many values in one series",
                    "series_values_max",
                    SERIES_VALUES_MAX,
                );
            }
            total = total.saturating_add(count.saturating_mul(self.defaults.len() + 1));
            if total > SERIES_TOTAL_MAX {
                return exceeded(
                    "make-series makes too many values in all series",
                    "series_total_max",
                    SERIES_TOTAL_MAX,
                );
            }
            if count > 0 {
                made.push((rows, (first, count)));
            }
        }
        Ok(made)
    }

    /// The first bin and how many there are; an open bound is that of the series.
    fn extent(&self, rows: &[u64], bins: &[i64]) -> Option<(i64, usize)> {
        let numbers = || rows.iter().filter_map(|row| bins.get(place(*row))).copied();
        let first = if self.starts { 0 } else { numbers().min()? };
        let end = match self.end {
            Some(end) => i64::try_from(end).unwrap_or(i64::MAX),
            None => numbers().max()?.saturating_add(1),
        };
        usize::try_from(end.saturating_sub(first)).ok().map(|count| (first, count))
    }

    /// Appends a series to each column.
    fn fill(
        &self,
        input: &RecordBatch,
        rows: &[u64],
        (first, count): (i64, usize),
        bins: &[i64],
        arrays: &mut [DynamicBuilder],
    ) -> Result<()> {
        for (at, (default, array)) in self.defaults.iter().zip(arrays.iter_mut()).enumerate() {
            let column = self.keys + 1 + at;
            let kql_type = self.types.get(column).copied().unwrap_or(KqlType::Real);
            let default = value_of(&default.to_array()?, kql_type, 0);
            let mut values = vec![default; count];
            for row in rows.iter().map(|row| place(*row)) {
                let bin = bins.get(row).map(|bin| bin.saturating_sub(first));
                let bin = bin.and_then(|bin| usize::try_from(bin).ok());
                if let Some(slot) = bin.and_then(|bin| values.get_mut(bin)) {
                    *slot = value_of(input.column(column), kql_type, row);
                }
            }
            array.append(|writer| writer.value(&Value::Array(values)))?;
        }
        let axis = (0_i64..).take(count).map(|bin| self.axis_value(first.saturating_add(bin)));
        let axis = axis.collect::<Result<Vec<_>>>()?;
        match arrays.last_mut() {
            Some(array) => array.append(|writer| writer.value(&Value::Array(axis))),
            None => Ok(()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "bins are counted, and their count is bounded")]
    fn axis_value(&self, bin: i64) -> Result<Value> {
        let value = match (&self.base, &self.step) {
            (ScalarValue::Int64(Some(base)), ScalarValue::Int64(Some(step))) => {
                let value = step.checked_mul(bin).and_then(|by| base.checked_add(by));
                value.map(|value| match self.axis {
                    KqlType::DateTime => Value::DateTime(value),
                    KqlType::TimeSpan => Value::TimeSpan(value),
                    _ => Value::Long(value),
                })
            }
            (ScalarValue::Float64(Some(base)), ScalarValue::Float64(Some(step))) => {
                Some(Value::Real(base + step * bin as f64))
            }
            _ => return exec_err!("make-series has no axis"),
        };
        Ok(value.unwrap_or(Value::Null))
    }
}

/// The place of a row in memory.
fn place(row: u64) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}
