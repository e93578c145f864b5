//! `autocluster`, `basket` and `diffpatterns`: what many rows have in common.
//!
//! What Microsoft's engine makes of samples of the rows is made of all of them here, so that the same
//! rows give the same patterns.

use super::Arguments;
use super::mining::{COLUMNS_MAX, Pattern, Rows, share};
use crate::query::bind::{BindResult, Binder, Items};
use crate::query::bound::{Column, Expr, Relation};
use crate::query::diagnostic::Problem;
use crate::query::function::aggregate::constant_real;
use crate::query::function::cast;
use crate::query::operator::effort::Effort;
use crate::query::operator::values::{Groups, take_or_empty};
use crate::query::plan::TableFunction;
use crate::query::syntax::ast;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, Scalar,
    UInt64Array,
};
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Float64Type, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

/// What a row takes while rows are told apart, beside its values.
const ROW_BYTES: usize = 64;
/// Stands for an argument's default.
const DEFAULT: &str = "~";

#[derive(Clone, Debug)]
enum Kind {
    Clusters { size_weight: f64, seeds: usize },
    Basket { threshold: f64, dimensions: usize },
    Differences { threshold: f64, dimensions: usize },
}

impl Kind {
    const fn columns(&self) -> &'static [(&'static str, KqlType)] {
        match self {
            Self::Clusters { .. } | Self::Basket { .. } => &[
                ("SegmentId", KqlType::Long),
                ("Count", KqlType::Long),
                ("Percent", KqlType::Real),
            ],
            Self::Differences { .. } => &[
                ("SegmentId", KqlType::Long),
                ("CountA", KqlType::Long),
                ("CountB", KqlType::Long),
                ("PercentA", KqlType::Real),
                ("PercentB", KqlType::Real),
                ("PercentDiffAB", KqlType::Real),
            ],
        }
    }
}

impl Binder<'_> {
    /// `autocluster(size weight, weights, seeds, wildcards…)`, `basket(threshold, weights, dimensions,
    /// wildcards…)`, `diffpatterns(column, a, b, weights, threshold, dimensions, wildcards…)`
    pub(super) fn common_patterns(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let (plugin, span) = (arguments.plugin, arguments.span());
        let mut split = None;
        if plugin.text == "diffpatterns" {
            let column = self.plugin_column(&input, arguments.next(), plugin)?;
            let mut sets = vec![Expr::column(&column.name, column.kql_type, span)];
            for _ in 0..2 {
                let value = self.plugin_constant(arguments.next(), plugin)?;
                // Text is what `tostring` makes of the column.
                let is_text = value.kql_type == KqlType::String;
                sets.push(if is_text { value } else { self.converted(value, column.kql_type)? });
            }
            split = Some((column, sets));
        }
        let mut size = None;
        if split.is_none() {
            size = self.pattern_number(arguments.next(), plugin)?;
        }
        let weight = self.pattern_weight(&input, arguments.next(), plugin)?;
        if split.is_some() {
            size = self.pattern_number(arguments.next(), plugin)?;
        }
        let count = self.pattern_number(arguments.next(), plugin)?;
        let kind = self.pattern_kind(plugin, size, count)?;
        let wildcards = self.pattern_wildcards(arguments, plugin)?;
        let (mut items, mut own) = (Items::default(), Vec::new());
        // By their places: the rows may have columns of any name.
        if let Some(weight) = &weight {
            let of = Expr::column(&weight.name, weight.kql_type, span);
            items.replace("weight", cast(of, KqlType::Real));
        }
        for (at, of) in split.iter().flat_map(|(_, sets)| sets).enumerate() {
            let of = self.call_built_in("tostring", vec![of.clone()])?;
            items.replace(&format!("set{at}"), of);
        }
        let mut columns: Vec<Column> =
            kind.columns().iter().map(|(name, of)| Column::new(*name, *of)).collect();
        let of_plugin = [weight.as_ref(), split.as_ref().map(|(column, _)| column)];
        for column in &input.columns {
            if of_plugin.iter().flatten().any(|of| of.name == column.name) {
                continue;
            }
            let of = Expr::column(&column.name, column.kql_type, span);
            items.replace(&own.len().to_string(), of);
            let mut made = column.clone();
            while columns.iter().any(|there| there.name == made.name) {
                made.name.push('1');
            }
            columns.push(made);
            own.push(wildcards.iter().find(|(of, _)| *of == column.kql_type).cloned());
        }
        if own.len() > COLUMNS_MAX {
            let wanted = format!("at most {COLUMNS_MAX} columns");
            return Err(self.pattern_problem(plugin, &wanted));
        }
        let wildcards = own.into_iter().map(|of| of.map(|(_, value)| value)).collect();
        let function = Patterns { kind, has_weights: weight.is_some(), wildcards };
        let input = self.projected(input, items, span)?;
        self.table_function(vec![input], Arc::new(function), columns, false, span)
    }

    fn pattern_problem(&mut self, plugin: &ast::Name, wanted: &str) -> crate::query::bind::Failed {
        let message = format!("plugin `{}` takes {wanted}", plugin.text);
        self.report(Problem::semantic(plugin.span, message))
    }

    /// A number that may be left out.
    fn pattern_number(
        &mut self,
        argument: Option<&ast::Expr>,
        plugin: &ast::Name,
    ) -> BindResult<Option<f64>> {
        if argument.is_none() {
            return Ok(None);
        }
        let value = self.plugin_constant(argument, plugin)?;
        if value.as_text() == Some(DEFAULT) {
            return Ok(None);
        }
        match constant_real(&value) {
            Some(number) => Ok(Some(number)),
            None => Err(self.pattern_problem(plugin, "a constant number or '~' here")),
        }
    }

    fn pattern_weight(
        &mut self,
        input: &Relation,
        argument: Option<&ast::Expr>,
        plugin: &ast::Name,
    ) -> BindResult<Option<Column>> {
        match argument {
            None => Ok(None),
            Some(expr) if matches!(expr.kind, ast::ExprKind::Name(_)) => {
                let column = self.plugin_column(input, argument, plugin)?;
                if column.kql_type.is_number() {
                    return Ok(Some(column));
                }
                Err(self.pattern_problem(plugin, "weights that are numbers"))
            }
            Some(_) => match self.plugin_constant(argument, plugin)?.as_text() {
                Some(DEFAULT) => Ok(None),
                _ => Err(self.pattern_problem(plugin, "a column of weights or '~' here")),
            },
        }
    }

    fn pattern_kind(
        &mut self,
        plugin: &ast::Name,
        size: Option<f64>,
        count: Option<f64>,
    ) -> BindResult<Kind> {
        let whole = |count: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "in bounds"
            )]
            (count.fract() == 0.0 && (1.0..=1_000.0).contains(&count)).then_some(count as usize)
        };
        let Some(count) = count.map_or(Some(None), |count| whole(count).map(Some)) else {
            return Err(self.pattern_problem(plugin, "a count from 1 to 1000"));
        };
        if plugin.text == "autocluster" {
            let size_weight = size.unwrap_or(0.5);
            if !(size_weight > 0.0 && size_weight < 1.0) {
                return Err(self.pattern_problem(plugin, "a weight of sizes between 0 and 1"));
            }
            return Ok(Kind::Clusters { size_weight, seeds: count.unwrap_or(25) });
        }
        let threshold = size.unwrap_or(0.05);
        if !(0.015..=1.0).contains(&threshold) {
            return Err(self.pattern_problem(plugin, "a threshold from 0.015 to 1"));
        }
        Ok(if plugin.text == "basket" {
            Kind::Basket { threshold, dimensions: count.unwrap_or(5) }
        } else {
            Kind::Differences { threshold, dimensions: count.unwrap_or(usize::MAX) }
        })
    }

    /// What stands in a column that a pattern says nothing of, by type.
    fn pattern_wildcards(
        &mut self,
        mut arguments: Arguments<'_>,
        plugin: &ast::Name,
    ) -> BindResult<Vec<(KqlType, ScalarValue)>> {
        let mut wildcards: Vec<(KqlType, ScalarValue)> = Vec::new();
        while let Some(argument) = arguments.next() {
            let value = self.plugin_constant(Some(argument), plugin)?;
            if value.as_text() == Some(DEFAULT) {
                continue;
            }
            match value.as_constant() {
                Some(of) if wildcards.iter().all(|(known, _)| *known != value.kql_type) => {
                    wildcards.push((value.kql_type, of.clone()));
                }
                _ => return Err(self.pattern_problem(plugin, "one constant for each type")),
            }
        }
        Ok(wildcards)
    }
}

#[derive(Debug)]
struct Patterns {
    kind: Kind,
    /// Whether the first column is weights. The next three are which set rows are of, and the sets, if
    /// there are two.
    has_weights: bool,
    /// What stands for any value in each column.
    wildcards: Vec<Option<ScalarValue>>,
}

#[async_trait]
impl TableFunction for Patterns {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Clusters { .. } => "autocluster",
            Kind::Basket { .. } => "basket",
            Kind::Differences { .. } => "diffpatterns",
        }
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("it takes a table") };
        let mut effort = Effort::new(self.name(), context);
        let hidden = usize::from(self.has_weights)
            + if matches!(self.kind, Kind::Differences { .. }) { 3 } else { 0 };
        let values = super::columns_from(input, hidden);
        let (rows, firsts) = self.rows(input, values, &mut effort).await?;
        let found = match &self.kind {
            Kind::Clusters { size_weight, seeds } => {
                rows.clusters(*size_weight, *seeds, &mut effort).await?
            }
            Kind::Basket { threshold, dimensions } => {
                rows.basket(*threshold, *dimensions, &mut effort).await?
            }
            Kind::Differences { threshold, dimensions } => {
                rows.differences(*threshold, *dimensions, &mut effort).await?
            }
        };
        let mut columns = self.measures(&found, rows.totals());
        let own = schema.fields().iter().skip(columns.len());
        for (at, (column, field)) in values.iter().zip(own).enumerate() {
            columns.push(self.dimension(at, column, &found, &firsts, field.is_nullable())?);
        }
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}

impl Patterns {
    /// The distinct rows, and the first row of the input that is each.
    async fn rows(
        &self,
        input: &RecordBatch,
        values: &[ArrayRef],
        effort: &mut Effort,
    ) -> Result<(Rows, Vec<u64>)> {
        // A copy of the values as keys, while rows are told apart.
        let taken = input.get_array_memory_size() + input.num_rows() * ROW_BYTES;
        effort.keep(taken)?;
        let groups = Groups::of(values, input.num_rows())?;
        let weights = self.weights(input, &groups, effort).await;
        // What has no weight says nothing.
        let own = groups.firsts.iter().zip(weights).filter(|(_, weights)| *weights != [0.0; 2]);
        let (firsts, weights): (Vec<u64>, Vec<[f64; 2]>) = own.unzip();
        let mut rows =
            Rows { codes: vec![0; firsts.len() * values.len()], columns: values.len(), weights };
        effort.keep(rows.codes.len() * 4 + rows.weights.len() * 24)?;
        let places = UInt64Array::from(firsts.clone());
        for (at, column) in values.iter().enumerate() {
            let distinct = take(column, &places, None)?;
            let codes = Groups::of(&[distinct], places.len())?.numbers;
            let cells = rows.codes.iter_mut().skip(at).step_by(values.len());
            for (cell, code) in cells.zip(codes) {
                *cell = u32::try_from(code).unwrap_or(u32::MAX);
                effort.step().await;
            }
        }
        effort.release(taken);
        Ok((rows, firsts))
    }

    /// The weight of each group of rows in the two sets.
    async fn weights(
        &self,
        input: &RecordBatch,
        groups: &Groups,
        effort: &mut Effort,
    ) -> Vec<[f64; 2]> {
        let column = |at: usize| input.columns().get(at);
        let weights = column(0).filter(|_| self.has_weights);
        let weights = weights.and_then(|of| of.as_primitive_opt::<Float64Type>());
        let weight = |row: usize| match weights {
            // What is no weight counts nothing.
            Some(weights) if weights.is_null(row) => 0.0,
            Some(weights) => {
                Some(weights.value(row)).filter(|of| of.is_finite()).map_or(0.0, |of| of.max(0.0))
            }
            None => 1.0,
        };
        let first = usize::from(self.has_weights);
        let text = |at: usize| column(first + at).and_then(|of| of.as_string_view_opt());
        let sets = match (&self.kind, text(0), text(1), text(2)) {
            (Kind::Differences { .. }, Some(of), Some(a), Some(b)) => Some((of, [a, b])),
            _ => None,
        };
        let mut sums = vec![[0.0; 2]; groups.firsts.len()];
        for (row, group) in groups.numbers.iter().enumerate() {
            effort.step().await;
            let set = match &sets {
                Some((of, sets)) => sets.iter().position(|set| set.value(row) == of.value(row)),
                None => Some(0),
            };
            let sum = sums.get_mut(*group).zip(set).and_then(|(sums, set)| sums.get_mut(set));
            if let Some(sum) = sum {
                *sum += weight(row);
            }
        }
        sums
    }

    /// The columns before those of the rows.
    fn measures(&self, found: &[Pattern], totals: [f64; 2]) -> Vec<ArrayRef> {
        #[expect(clippy::cast_possible_truncation, reason = "weights in memory")]
        let count = |set: usize| -> ArrayRef {
            let counts =
                found.iter().map(|of| of.weights.get(set).map_or(0, |of| of.round() as i64));
            Arc::new(counts.collect::<Int64Array>())
        };
        // As many decimals as Microsoft's engine gives.
        let digits = if matches!(self.kind, Kind::Differences { .. }) { 100.0 } else { 10.0 };
        let rounded = |percent: f64| (percent * digits).round() / digits;
        let percent = |of: &dyn Fn(&Pattern) -> f64| -> ArrayRef {
            Arc::new(
                found
                    .iter()
                    .map(|found| Some(rounded(of(found) * 100.0)))
                    .collect::<Float64Array>(),
            )
        };
        let part = |set: usize| move |of: &Pattern| share(of.weights[set], totals[set]);
        let segments: Int64Array = (0..).take(found.len()).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(segments), count(0)];
        match self.kind {
            Kind::Differences { .. } => {
                let difference = |of: &Pattern| (part(0)(of) - part(1)(of)).abs();
                columns.extend([count(1), percent(&part(0)), percent(&part(1))]);
                columns.push(percent(&difference));
            }
            _ => columns.push(percent(&part(0))),
        }
        columns
    }

    /// A column of the rows: the value of each pattern or what stands for any.
    fn dimension(
        &self,
        at: usize,
        column: &ArrayRef,
        found: &[Pattern],
        firsts: &[u64],
        nullable: bool,
    ) -> Result<ArrayRef> {
        let has: Vec<bool> = found.iter().map(|of| of.columns >> at & 1 == 1).collect();
        let rows =
            found.iter().zip(&has).map(|(of, has)| firsts.get(of.row).copied().filter(|_| *has));
        let rows: UInt64Array = rows.collect();
        match self.wildcards.get(at).and_then(Option::as_ref) {
            None => take_or_empty(column, &rows, nullable),
            Some(wildcard) => {
                let wildcard = Scalar::new(wildcard.to_array()?);
                Ok(zip(&BooleanArray::from(has), &take(column, &rows, None)?, &wildcard)?)
            }
        }
    }
}
