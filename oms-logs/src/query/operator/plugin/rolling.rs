//! `rolling_percentile`: a percentile over the last bins.

use super::{Arguments, columns_from};
use crate::query::bind::{BindResult, Binder, Items};
use crate::query::bound::{Column, Expr, Relation};
use crate::query::diagnostic::Problem;
use crate::query::function::aggregate::constant_real;
use crate::query::function::cast;
use crate::query::operator::effort::Effort;
use crate::query::operator::values::Groups;
use crate::query::plan::TableFunction;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{SortOptions, sort_to_indices, take};
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::collections::{BTreeMap, VecDeque};
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
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("it takes a table") };
        let Some(index) = input.column(0).as_primitive_opt::<Int64Type>() else {
            return exec_err!("rolling_percentile takes an index");
        };
        let dimensions = columns_from(input, 2);
        let groups = Groups::of(dimensions, input.num_rows())?;
        // By group and bin: the rows, by their places in the order of values.
        let options = SortOptions { descending: false, nulls_first: true };
        let sorted = sort_to_indices(input.column(1), Some(options), None)?;
        let mut bins: BTreeMap<(usize, i64), Vec<usize>> = BTreeMap::new();
        for (place, row) in sorted.values().iter().enumerate() {
            let at = *row as usize;
            if index.is_null(at) || input.column(1).is_null(at) {
                continue;
            }
            let bin = index.value(at).div_euclid(self.width);
            let group = groups.numbers.get(at).copied().unwrap_or(0);
            bins.entry((group, bin)).or_default().push(place);
        }
        let row = |place: usize| sorted.values().get(place).map_or(0, |row| u64::from(*row));
        let (mut starts, mut chosen, mut of) = (Vec::new(), Vec::new(), Vec::new());
        let mut effort = Effort::new(self.name(), context);
        let mut inside = Places::new(input.num_rows());
        let mut window: VecDeque<((usize, i64), &Vec<usize>)> = VecDeque::new();
        for ((group, bin), own) in &bins {
            let first = (*group, bin.saturating_sub(self.bins - 1));
            while let Some((_, left)) = window.pop_front_if(|(at, _)| *at < first) {
                for place in left {
                    inside.remove(*place);
                    effort.step().await;
                }
            }
            for place in own {
                inside.add(*place);
                effort.step().await;
            }
            window.push_back(((*group, *bin), own));
            #[expect(clippy::cast_precision_loss, reason = "a count of rows in memory")]
            #[expect(clippy::cast_possible_truncation, reason = "below the count of rows")]
            #[expect(clippy::cast_sign_loss, reason = "not negative")]
            let rank = (self.percent / 100.0 * inside.len as f64).ceil() as usize;
            let place = inside.nth(rank.clamp(1, inside.len.max(1)));
            starts.push(bin.saturating_mul(self.width));
            chosen.push(row(place));
            of.push(own.first().map_or(0, |place| row(*place)));
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

/// A set of numbers below a bound, whose nth member is found in logarithmic time: a Fenwick tree.
struct Places {
    /// At each number from 1 on: the members in as many places up to it as its lowest bit says.
    counts: Vec<usize>,
    len: usize,
}

impl Places {
    fn new(bound: usize) -> Self {
        Self { counts: vec![0; bound + 1], len: 0 }
    }

    fn add(&mut self, place: usize) {
        self.len += 1;
        self.change(place, |count| *count += 1);
    }

    /// Removes a member.
    fn remove(&mut self, place: usize) {
        self.len -= 1;
        self.change(place, |count| *count -= 1);
    }

    fn change(&mut self, place: usize, change: impl Fn(&mut usize)) {
        let mut at = place + 1;
        while let Some(count) = self.counts.get_mut(at) {
            change(count);
            at += at & at.wrapping_neg();
        }
    }

    /// The nth member in order, from 1.
    fn nth(&self, n: usize) -> usize {
        let (mut before, mut left) = (0, n);
        let mut width = self.counts.len().next_power_of_two();
        while width > 0 {
            if let Some(count) = self.counts.get(before + width).filter(|count| **count < left) {
                before += width;
                left -= count;
            }
            width /= 2;
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_rank() {
        for bound in [1, 2, 7, 8, 100] {
            let mut places = Places::new(bound);
            let mut members = std::collections::BTreeSet::new();
            for step in 0..3 * bound {
                let place = step * 37 % bound;
                if members.remove(&place) {
                    places.remove(place);
                } else {
                    members.insert(place);
                    places.add(place);
                }
                let found: Vec<usize> = (1..=members.len()).map(|n| places.nth(n)).collect();
                assert!(found.iter().eq(&members), "{found:?} {members:?}");
            }
        }
    }
}
