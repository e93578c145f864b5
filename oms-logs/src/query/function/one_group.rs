//! An aggregate over groups as one over all rows.

use datafusion::arrow::array::{Array as _, ArrayRef, BooleanArray};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::scalar::ScalarValue;
use std::fmt::Debug;

/// An aggregate that can be told how many groups there are before any row comes.
pub(super) trait Grouped: GroupsAccumulator + Debug + Sync {
    /// Makes room for so many groups.
    fn grow(&mut self, groups: usize);
}

/// Whether a row counts by a filter; null is no.
pub(super) fn counted(filter: Option<&BooleanArray>) -> impl Fn(usize) -> bool {
    move |row| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

/// The aggregate over all rows.
pub(super) fn of_one_group<G: Grouped + 'static>(groups: G) -> Box<dyn Accumulator> {
    Box::new(OneGroup(groups))
}

#[derive(Debug)]
struct OneGroup<G>(G);

fn groups_of(values: &[ArrayRef]) -> Vec<usize> {
    vec![0; values.first().map_or(0, |values| values.len())]
}

fn first(array: &ArrayRef) -> Result<ScalarValue> {
    if array.is_empty() {
        return internal_err!("an aggregate over all rows has no group");
    }
    ScalarValue::try_from_array(array, 0)
}

impl<G: Grouped> Accumulator for OneGroup<G> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values, &groups_of(values), None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.grow(1);
        first(&self.0.evaluate(EmitTo::All)?)
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.grow(1);
        self.0.state(EmitTo::All)?.iter().map(first).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states, &groups_of(states), 1)
    }
}
