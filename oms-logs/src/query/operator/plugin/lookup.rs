//! What the lookup plugins share: a table as their first argument, and rows of the input beside the
//! rows of the table that they match.

use super::Arguments;
use crate::query::bind::{BindResult, Binder, Items};
use crate::query::bound::{Column, Expr, Relation};
use crate::query::diagnostic::Problem;
use crate::query::limits::{OPERATOR_ROWS_MAX, exceeded};
use crate::query::operator::effort::Effort;
use crate::query::operator::values::take_or_empty;
use crate::query::syntax::Span;
use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::common::Result;
use std::sync::Arc;

impl Binder<'_> {
    /// The table that a lookup plugin begins with.
    pub(super) fn lookup_table(
        &mut self,
        arguments: &mut Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        match arguments.next() {
            Some(table) => self.table(table),
            None => {
                let message = format!("plugin `{}` takes a table", arguments.plugin.text);
                Err(self.report(Problem::semantic(arguments.span(), message)))
            }
        }
    }
}

/// Where a column of a relation is, which has it.
pub(super) fn place(relation: &Relation, name: &str) -> usize {
    relation.columns.iter().position(|column| column.name == name).unwrap_or(0)
}

/// Columns side by side, those of a name that is taken with another.
pub(super) fn side_by_side<'a>(
    columns: impl Iterator<Item = &'a Column>,
    span: Span,
) -> Vec<Column> {
    let mut names = Items::default();
    for column in columns {
        let null = Expr::null(column.kql_type, span);
        names.add_implied(Some(column.name.clone()), "Column", null);
    }
    names.columns()
}

/// Rows of the input, each with one of the table or with none.
#[derive(Debug)]
pub(super) struct Matches {
    /// Whether a row that nothing matches stays.
    pub(super) unmatched: bool,
    of_input: Vec<u64>,
    of_table: Vec<Option<u64>>,
    effort: Effort,
}

impl Matches {
    pub(super) const fn new(unmatched: bool, effort: Effort) -> Self {
        Self { unmatched, of_input: Vec::new(), of_table: Vec::new(), effort }
    }

    /// Adds what one row of the input matches.
    pub(super) fn add(&mut self, row: usize, found: impl Iterator<Item = u64>) -> Result<()> {
        let before = self.of_input.len();
        for place in found {
            self.effort.keep(size_of::<u64>() + size_of::<Option<u64>>())?;
            self.of_input.push(row as u64);
            self.of_table.push(Some(place));
            if self.of_input.len() > OPERATOR_ROWS_MAX {
                let limit = "operator_rows_max";
                return exceeded("a lookup makes too many rows", limit, OPERATOR_ROWS_MAX);
            }
        }
        if self.unmatched && self.of_input.len() == before {
            self.of_input.push(row as u64);
            self.of_table.push(None);
        }
        Ok(())
    }

    /// Gives other tasks a turn after many rows.
    pub(super) async fn step(&mut self) {
        self.effort.step().await;
    }

    /// The columns of the input and of the table, one row for each match.
    pub(super) fn columns(
        self,
        input: &RecordBatch,
        table: &RecordBatch,
    ) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        let (of_input, of_table) = (self.of_input.into(), self.of_table.into());
        Ok((rows(input, &of_input)?, rows(table, &of_table)?))
    }
}

fn rows(batch: &RecordBatch, places: &UInt64Array) -> Result<Vec<ArrayRef>> {
    let of = batch.schema();
    let columns = batch.columns().iter().zip(of.fields());
    columns.map(|(column, field)| take_or_empty(column, places, field.is_nullable())).collect()
}
