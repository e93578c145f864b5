//! Operators over the rows of each part of a table by themselves: what `partition` does, and `mv-apply`
//! and `partitioned-by` where an operator cannot work on all parts at once. Each part is planned by
//! itself, which takes about a millisecond however few rows it has.

use super::effort::Effort;
use super::values::Groups;
use crate::query::bind::{BindResult, Binder};
use crate::query::bound::{Column, Relation, RelationKind};
use crate::query::limits::exceeded;
use crate::query::plan::{self, TableFunction};
use crate::query::syntax::Span;
use crate::query::syntax::ast;
use async_trait::async_trait;
use datafusion::arrow::array::{Array as _, AsArray as _, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{take, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::sync::Arc;

/// Operators that were bound over the rows of a part.
pub(super) struct Part {
    /// What stands for those rows in the tree.
    pub(super) given: Arc<Relation>,
    pub(super) body: Arc<Relation>,
}

impl Binder<'_> {
    /// Binds operators over the rows of one part of a table. There is nothing if one of them needs
    /// values of the part's rows before the rest can be bound.
    pub(super) fn part(
        &mut self,
        columns: &[Column],
        operators: &[ast::Operator],
        span: Span,
    ) -> BindResult<Option<Part>> {
        let given = self.relation(RelationKind::Given, columns.to_vec(), span)?;
        let others = std::mem::take(&mut self.others);
        let outer = std::mem::replace(&mut self.reads_part, false);
        self.parts += 1;
        let body = self.attempt(|binder| binder.operators(Arc::clone(&given), operators));
        self.parts -= 1;
        let reads_part = std::mem::replace(&mut self.reads_part, outer);
        self.others = others;
        if reads_part {
            return Ok(None);
        }
        match body? {
            Ok(body) => Ok(Some(Part { given, body })),
            Err(problems) => Err(self.report_all(problems)),
        }
    }
}

/// What rows bring along that operators do not see.
#[derive(Debug)]
pub(super) struct Along {
    /// The column of whether operators see a row; a part is also made of rows of which they see none.
    pub(super) live: usize,
    /// How many columns follow those of the answer, with the values of the part's first row.
    pub(super) columns: usize,
}

/// Runs a plan over the rows of each part.
#[derive(Debug)]
pub(super) struct PerPart {
    pub(super) operator: &'static str,
    /// The column by which rows are in parts.
    pub(super) key: usize,
    /// The columns that the plan sees, which are the input's first.
    pub(super) given: Vec<Column>,
    pub(super) body: Arc<Relation>,
    /// The most parts that there may be.
    pub(super) most: Option<usize>,
    /// The input's last columns are brought along.
    pub(super) carried: Option<Along>,
}

impl PerPart {
    /// The rows of a part that the plan sees.
    fn seen(&self, input: &RecordBatch, rows: Vec<u64>) -> Result<RecordBatch> {
        let rows = match &self.carried {
            None => rows,
            Some(along) => {
                let live = input.column(along.live).as_boolean();
                let is_live = |row: &u64| {
                    usize::try_from(*row).is_ok_and(|row| live.is_valid(row) && live.value(row))
                };
                rows.into_iter().filter(is_live).collect()
            }
        };
        let part = take_record_batch(input, &UInt64Array::from(rows))?;
        let columns = part.columns().iter().take(self.given.len()).cloned().collect();
        Ok(RecordBatch::try_new(Arc::new(plan::computed_schema(&self.given)), columns)?)
    }

    /// Rows that the plan made, with what the part brings along.
    fn answer(
        &self,
        made: &RecordBatch,
        input: &RecordBatch,
        first: u64,
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let mut columns = made.columns().to_vec();
        if let Some(along) = &self.carried {
            let first = UInt64Array::from(vec![first; made.num_rows()]);
            let from = input.num_columns().saturating_sub(along.columns);
            for column in input.columns().iter().skip(from) {
                columns.push(take(column, &first, None)?);
            }
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

#[async_trait]
impl TableFunction for PerPart {
    fn name(&self) -> &'static str {
        self.operator
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("{} takes a table", self.name()) };
        let session = plan::session(context.runtime_env(), self.body.needs_order());
        let mut made = Vec::new();
        let mut effort = Effort::new(self.name(), context);
        let groups = Groups::of(std::slice::from_ref(input.column(self.key)), input.num_rows())?;
        if let Some(most) = self.most.filter(|most| groups.firsts.len() > *most) {
            let message = format!("{} makes too many parts", self.name());
            return exceeded(&message, "partitions_max", most);
        }
        for (first, rows) in groups.firsts.iter().zip(groups.rows(|_| true)) {
            // Planning takes about a millisecond, in which nobody else has a turn.
            tokio::task::yield_now().await;
            let part = self.seen(input, rows)?;
            let logical = plan::plan_computed(&self.body, Some(&part))?;
            let frame = session.execute_logical_plan(logical).await?;
            for batch in frame.collect().await? {
                if batch.num_rows() > 0 {
                    let batch = self.answer(&batch, input, *first, schema)?;
                    effort.keep_rows(&batch)?;
                    made.push(batch);
                }
            }
        }
        Ok(made)
    }
}
