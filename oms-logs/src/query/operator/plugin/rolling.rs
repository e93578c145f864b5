//! `rolling_percentile`: a percentile over the last bins.

use super::{Arguments, columns_from, groups};
use crate::query::bind::{BindResult, Binder, Items};
use crate::query::bound::{Column, Expr, Relation};
use crate::query::diagnostic::Problem;
use crate::query::function::aggregate::constant_real;
use crate::query::function::cast;
use crate::query::plan::TableFunction;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{SortOptions, sort_to_indices, take};
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Binder<'_> {
    /// `rolling_percentile(value, percent, index, bin, bins, dimensions…)`
    pub(super) fn rolling_percentile(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let (plugin, span) = (arguments.plugin, arguments.span());
        let value = self.plugin_column(&input, arguments.next(), plugin)?;
        let percent = self.plugin_constant(arguments.next(), plugin)?;
        let index = self.plugin_column(&input, arguments.next(), plugin)?;
        let width = self.plugin_constant(arguments.next(), plugin)?;
        let bins = self.plugin_constant(arguments.next(), plugin)?;
        let (Some(percent), Some(width), Some(bins)) =
            (constant_real(&percent), width.as_long(), bins.as_long())
        else {
            let message = "plugin `rolling_percentile` takes constants here";
            return Err(self.report(Problem::semantic(span, message)));
        };
        let fits = matches!(index.kql_type, KqlType::DateTime | KqlType::Int | KqlType::Long)
            && value.kql_type.is_number()
            && (0.0..=100.0).contains(&percent);
        if width <= 0 || bins <= 0 || !fits {
            let message = "plugin `rolling_percentile` takes a number, a percentile, a column of \
                           datetime or long, and positive sizes";
            return Err(self.report(Problem::semantic(span, message)));
        }
        let index_type = match index.kql_type {
            KqlType::Int => KqlType::Long,
            other => other,
        };
        let mut items = Items::default();
        let mut columns = vec![Column::new(&index.name, index_type)];
        let of_index = Expr::column(&index.name, index.kql_type, span);
        items.replace(
            "$index",
            if index.kql_type == KqlType::Int { cast(of_index, KqlType::Long) } else { of_index },
        );
        items.replace("$value", Expr::column(&value.name, value.kql_type, span));
        for dimension in arguments.positional() {
            let column = self.plugin_column(&input, Some(dimension), plugin)?;
            items.replace(&column.name, Expr::column(&column.name, column.kql_type, span));
            columns.push(column);
        }
        let name = format!("rolling_{bins}_percentile_{}_{percent}", value.name);
        columns.push(Column::new(name.replace('.', "_"), value.kql_type));
        let input = self.projected(input, items, span)?;
        let function = RollingPercentile { percent, width, bins };
        self.table_function(vec![input], Arc::new(function), columns, false, span)
    }
}

#[derive(Debug)]
struct RollingPercentile {
    percent: f64,
    width: i64,
    bins: i64,
}

#[async_trait]
impl TableFunction for RollingPercentile {
    fn name(&self) -> &'static str {
        "rolling_percentile"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        _context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("it takes a table") };
        let Some(index) = input.column(0).as_primitive_opt::<Int64Type>() else {
            return exec_err!("rolling_percentile takes an index");
        };
        let dimensions = columns_from(input, 2);
        let (numbers, _) = groups(dimensions, input.num_rows())?;
        // By group and bin: the rows, in order of their values.
        let options = SortOptions { descending: false, nulls_first: true };
        let sorted = sort_to_indices(input.column(1), Some(options), None)?;
        let mut bins: BTreeMap<(usize, i64), Vec<u32>> = BTreeMap::new();
        for row in sorted.values() {
            let at = *row as usize;
            if index.is_null(at) || input.column(1).is_null(at) {
                continue;
            }
            let bin = index.value(at).div_euclid(self.width);
            bins.entry((numbers.get(at).copied().unwrap_or(0), bin)).or_default().push(*row);
        }
        let place: Vec<usize> = {
            let mut place = vec![0; input.num_rows()];
            for (order, row) in sorted.values().iter().enumerate() {
                if let Some(slot) = place.get_mut(*row as usize) {
                    *slot = order;
                }
            }
            place
        };
        let (mut starts, mut chosen, mut of) = (Vec::new(), Vec::new(), Vec::new());
        for ((group, bin), own) in &bins {
            let first = bin.saturating_sub(self.bins - 1);
            let window = bins.range((*group, first)..=(*group, *bin));
            let mut rows: Vec<u32> = window.flat_map(|(_, rows)| rows.iter().copied()).collect();
            rows.sort_by_key(|row| place.get(*row as usize).copied());
            #[expect(clippy::cast_precision_loss, reason = "a count of rows in memory")]
            #[expect(clippy::cast_possible_truncation, reason = "below the count of rows")]
            #[expect(clippy::cast_sign_loss, reason = "not negative")]
            let rank = (self.percent / 100.0 * rows.len() as f64).ceil() as usize;
            if let Some(row) = rows.get(rank.saturating_sub(1).min(rows.len().saturating_sub(1))) {
                starts.push(bin.saturating_mul(self.width));
                chosen.push(u64::from(*row));
                of.push(own.first().map_or(0, |row| u64::from(*row)));
            }
        }
        let (chosen, of) = (UInt64Array::from(chosen), UInt64Array::from(of));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(starts))];
        for dimension in dimensions {
            columns.push(take(dimension, &of, None)?);
        }
        columns.push(take(input.column(1), &chosen, None)?);
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}
