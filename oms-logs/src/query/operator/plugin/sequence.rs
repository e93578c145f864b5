//! `sequence_detect`: events that follow one another.

use super::lookup::side_by_side;
use super::{Arguments, columns_from};
use crate::query::bind::{BindResult, Binder, Items, Made, Scope};
use crate::query::bound::{Column, Expr, Relation};
use crate::query::diagnostic::Problem;
use crate::query::function::cast;
use crate::query::limits::{OPERATOR_ROWS_MAX, exceeded};
use crate::query::operator::effort::Effort;
use crate::query::operator::values::Groups;
use crate::query::plan::TableFunction;
use crate::query::syntax::ast;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::sync::Arc;

impl Binder<'_> {
    /// `sequence_detect(timeline, step, span, conditions…, dimensions…)`
    pub(super) fn sequence_detect(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let (plugin, span) = (arguments.plugin, arguments.span());
        let time = self.plugin_column(&input, arguments.next(), plugin)?;
        let time_type = self.timeline_type(&time, plugin)?;
        let step_max = self.plugin_size(arguments.next(), plugin)?;
        let span_max = self.plugin_size(arguments.next(), plugin)?;
        let (mut items, mut steps, mut dimensions) = (Items::default(), Vec::new(), Vec::new());
        let of_time = Expr::column(&time.name, time.kql_type, span);
        let of_time =
            if time.kql_type == KqlType::Int { cast(of_time, time_type) } else { of_time };
        items.replace("$time", of_time);
        for argument in arguments.rest.clone() {
            for Made { name, implied, expr } in
                self.item(argument, &mut Scope::rows(&input.columns))?
            {
                let name = name.map(|name| name.text).or(implied);
                let is_step = expr.kql_type == KqlType::Bool && dimensions.is_empty();
                if is_step {
                    let name = name.unwrap_or_else(|| format!("Expr{}", steps.len() + 1));
                    steps.push(Column::new(format!("{name}_{}", time.name), time_type));
                } else {
                    let name = name.unwrap_or_else(|| format!("Dim{}", dimensions.len() + 1));
                    dimensions.push(Column::new(name, expr.kql_type));
                }
                // Its place is what it is known by.
                items.add_implied(None, "$argument", expr);
            }
        }
        if steps.is_empty() {
            let message = "plugin `sequence_detect` takes conditions, one for each step";
            return Err(self.report(Problem::semantic(span, message)));
        }
        let duration = if time_type == KqlType::DateTime { KqlType::TimeSpan } else { time_type };
        let duration = Column::new("Duration", duration);
        let columns = dimensions.iter().chain(&steps).chain(std::iter::once(&duration));
        let columns = side_by_side(columns, span);
        let input = self.projected(input, items, span)?;
        let function = Sequences { steps: steps.len(), step_max, span_max };
        self.table_function(vec![input], Arc::new(function), columns, false, span)
    }

    /// A constant number or timespan above zero.
    pub(super) fn plugin_size(
        &mut self,
        argument: Option<&ast::Expr>,
        plugin: &ast::Name,
    ) -> BindResult<i64> {
        let size = self.plugin_constant(argument, plugin)?;
        match size.as_long() {
            Some(value) if value > 0 => Ok(value),
            _ => {
                let message = format!("plugin `{}` takes a positive size here", plugin.text);
                Err(self.report(Problem::semantic(size.span, message)))
            }
        }
    }
}

/// Finds every choice of instants, one for each step, that follow one another.
#[derive(Debug)]
struct Sequences {
    steps: usize,
    /// The longest from one step to the next.
    step_max: i64,
    /// The longest from the first step to the last.
    span_max: i64,
}

impl Sequences {
    /// Every sequence of instants. `steps` has those of each step, in order.
    async fn find(&self, steps: &[Vec<i64>], effort: &mut Effort) -> Result<Vec<Vec<i64>>> {
        let Some((first, rest)) = steps.split_first() else { return Ok(Vec::new()) };
        let mut found: Vec<Vec<i64>> = Vec::new();
        for time in first {
            self.keep(&mut found, vec![*time], effort)?;
        }
        for times in rest {
            let mut longer = Vec::new();
            for sequence in &found {
                let (Some(start), Some(last)) = (sequence.first(), sequence.last()) else {
                    continue;
                };
                let end = last.saturating_add(self.step_max);
                let end = end.min(start.saturating_add(self.span_max));
                let from = times.partition_point(|time| time <= last);
                let next = times.get(from..).unwrap_or_default();
                for time in next.iter().take_while(|time| **time <= end) {
                    let mut sequence = sequence.clone();
                    sequence.push(*time);
                    self.keep(&mut longer, sequence, effort)?;
                    effort.step().await;
                }
                effort.step().await;
            }
            found = longer;
        }
        Ok(found)
    }

    fn keep(
        &self,
        found: &mut Vec<Vec<i64>>,
        sequence: Vec<i64>,
        effort: &mut Effort,
    ) -> Result<()> {
        if found.len() >= OPERATOR_ROWS_MAX {
            let limit = "operator_rows_max";
            return exceeded("there are too many sequences", limit, OPERATOR_ROWS_MAX);
        }
        effort.keep(size_of::<Vec<i64>>() + size_of_val(sequence.as_slice()))?;
        found.push(sequence);
        Ok(())
    }

    /// The instants of each step among rows, each once and in order.
    fn instants(&self, input: &RecordBatch, times: &[i64], rows: &[u64]) -> Vec<Vec<i64>> {
        let conditions = columns_from(input, 1).iter().take(self.steps);
        let steps = conditions.map(|condition| {
            let holds = condition.as_boolean();
            let rows = rows.iter().filter_map(|row| usize::try_from(*row).ok());
            let rows = rows.filter(|row| !holds.is_null(*row) && holds.value(*row));
            let mut instants: Vec<i64> = rows.filter_map(|row| times.get(row).copied()).collect();
            instants.sort_unstable();
            instants.dedup();
            instants
        });
        steps.collect()
    }
}

#[async_trait]
impl TableFunction for Sequences {
    fn name(&self) -> &'static str {
        "sequence_detect"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("it takes a table") };
        let Some(times) = input.column(0).as_primitive_opt::<Int64Type>() else {
            return exec_err!("sequence_detect takes a timeline");
        };
        let mut effort = Effort::new(self.name(), context);
        let dimensions = columns_from(input, 1 + self.steps);
        let groups = Groups::of(dimensions, input.num_rows())?;
        let mut found: Vec<(Vec<i64>, u64)> = Vec::new();
        let of_groups = groups.rows(|row| !times.is_null(row));
        for (rows, first) in of_groups.iter().zip(&groups.firsts) {
            let steps = self.instants(input, times.values(), rows);
            let sequences = self.find(&steps, &mut effort).await?;
            if found.len() + sequences.len() > OPERATOR_ROWS_MAX {
                let limit = "operator_rows_max";
                return exceeded("there are too many sequences", limit, OPERATOR_ROWS_MAX);
            }
            found.extend(sequences.into_iter().map(|sequence| (sequence, *first)));
            effort.step().await;
        }
        found.sort_unstable();
        let rows = UInt64Array::from_iter_values(found.iter().map(|(_, first)| *first));
        let mut columns: Vec<ArrayRef> = Vec::new();
        for dimension in dimensions {
            columns.push(take(dimension, &rows, None)?);
        }
        for step in 0..self.steps {
            let instants = found.iter().map(|(sequence, _)| sequence.get(step).copied());
            columns.push(Arc::new(instants.collect::<Int64Array>()));
        }
        let durations = found
            .iter()
            .map(|(sequence, _)| Some(sequence.last()?.saturating_sub(*sequence.first()?)));
        columns.push(Arc::new(durations.collect::<Int64Array>()));
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}
