//! Transformations: queries over `source` that make of each row one row or none.
//!
//! Such a query becomes a list of steps over columns in computed form. It is bound once and runs
//! over any number of batches, without a session or a plan of DataFusion's.

mod subset;

use super::bind::{self, Bound};
use super::bound::{Column, Relation, RelationKind};
use super::diagnostic::Problem;
use super::plan::{self, Held, RowFunction};
use super::syntax::Span;
use super::syntax::ast;
use super::{QueryError, TableSource, failure_within, parsed, refused, time};
use datafusion::arrow::array::{
    ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions, UInt32Array,
};
use datafusion::arrow::compute::{cast, filter_record_batch, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{Result as DfResult, exec_err};
use datafusion::physical_expr::PhysicalExpr;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the rows of a transformation are called in it.
pub(crate) const SOURCE: &str = "source";

/// The most bytes that the rows of one batch may come to at any step.
pub(crate) const BYTES_MAX: usize = 256 << 20;

/// A query over [`SOURCE`], ready to run.
#[derive(Debug)]
pub(crate) struct Transform {
    text: String,
    query: ast::Query,
    input: Vec<Column>,
    /// Whether it asks what time it is.
    reads_clock: bool,
    bound: Arc<Steps>,
}

/// What is done to a batch, for one `now()`.
#[derive(Debug)]
struct Steps {
    now: Timestamp,
    steps: Vec<Step>,
    columns: Vec<Column>,
}

/// One step; expressions read the columns that the one before made.
#[derive(Debug)]
enum Step {
    /// Keeps the rows for which it is true.
    Keep(Arc<dyn PhysicalExpr>),
    /// Makes these columns.
    Make(SchemaRef, Vec<Arc<dyn PhysicalExpr>>),
    /// Adds the columns that a function makes.
    Add(SchemaRef, Arc<dyn RowFunction>, Vec<Arc<dyn PhysicalExpr>>),
    /// Puts this row in the place of each.
    Replace(RecordBatch),
}

/// A transformation sees no table but its source.
#[derive(Debug)]
struct NoTables;

impl TableSource for NoTables {
    fn table(&self, _name: &str) -> Option<Arc<dyn TableProvider>> {
        None
    }

    fn table_names(&self) -> Vec<String> {
        vec![SOURCE.to_owned()]
    }
}

impl Transform {
    /// Binds a query over rows with these columns.
    ///
    /// # Errors
    /// [`QueryError`] for what is wrong with the text, or not part of the language of
    /// transformations.
    pub(crate) fn compile(
        text: &str,
        input: Vec<Column>,
        now: Timestamp,
    ) -> Result<Self, QueryError> {
        let query = parsed(text)?;
        let checked = subset::check(text, &query);
        if !checked.problems.is_empty() {
            return Err(refused(text, checked.problems));
        }
        let bound = Arc::new(bind_at(text, &query, &input, now)?);
        let reads_clock = checked.reads_clock;
        Ok(Self { text: text.to_owned(), query, input, reads_clock, bound })
    }

    /// The columns that it makes.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.bound.columns
    }

    /// Transforms rows, whose columns are those it was compiled for in computed form.
    ///
    /// # Errors
    /// [`QueryError`] for bounds that were reached; nothing of the batch is answered then.
    pub(crate) fn run(&self, rows: RecordBatch, now: Timestamp) -> Result<RecordBatch, QueryError> {
        let steps = match self.reads_clock && now != self.bound.now {
            true => Arc::new(bind_at(&self.text, &self.query, &self.input, now)?),
            false => Arc::clone(&self.bound),
        };
        let mut rows = rows;
        for step in &steps.steps {
            rows = step.run(&rows).map_err(|error| failure_within(error, BYTES_MAX))?;
            if Held::default().add(&rows) > BYTES_MAX {
                let reason = format!("the rows of a batch become more than {BYTES_MAX} bytes");
                return Err(QueryError::LimitExceeded { reason });
            }
        }
        Ok(rows)
    }
}

/// Rows in computed form have this schema.
pub(crate) fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(plan::computed_schema(columns))
}

fn bind_at(
    text: &str,
    query: &ast::Query,
    input: &[Column],
    now: Timestamp,
) -> Result<Steps, QueryError> {
    let surroundings = bind::Surroundings {
        source: &NoTables,
        given: Some((SOURCE, input)),
        now: time::ticks_of_timestamp(now),
        timespan: None,
        parameters: &BTreeMap::new(),
        seed: 0,
    };
    let no_sub_queries = || refused(text, vec![Problem::unsupported(Span::default(), "sub-query")]);
    let bound = match bind::bind(query, surroundings, Some(&[])) {
        Ok(Bound::Query(bound)) => bound,
        Ok(Bound::Needs(_)) => return Err(no_sub_queries()),
        Err(problems) => return Err(refused(text, problems)),
    };
    let Some((_, relation)) = bound.tables.first().filter(|_| bound.tables.len() == 1) else {
        return Err(refused(text, vec![Problem::unsupported(Span::default(), "several tables")]));
    };
    let mut steps = Vec::new();
    lower(relation, &mut steps).map_err(|error| failure_within(error, BYTES_MAX))?;
    Ok(Steps { now, steps, columns: relation.columns.clone() })
}

/// The steps that make a relation of the given rows.
fn lower(relation: &Relation, steps: &mut Vec<Step>) -> DfResult<()> {
    match &relation.kind {
        RelationKind::Given => {}
        RelationKind::Rows(rows) if rows.len() == 1 => {
            steps.push(Step::Replace(plan::rows_batch(&relation.columns, rows)?));
        }
        RelationKind::Named { input, .. } => lower(input, steps)?,
        RelationKind::Filter { input, predicate } => {
            lower(input, steps)?;
            steps.push(Step::Keep(plan::physical(predicate, &input.columns)?));
        }
        RelationKind::Project { input, items } => {
            lower(input, steps)?;
            let made = items.iter().map(|(_, expr)| plan::physical(expr, &input.columns));
            let made = made.collect::<DfResult<Vec<_>>>()?;
            steps.push(Step::Make(schema(&relation.columns), made));
        }
        RelationKind::Append { input, function, arguments, .. } if !function.needs_all_rows() => {
            lower(input, steps)?;
            let arguments = arguments.iter().map(|expr| plan::physical(expr, &input.columns));
            let arguments = arguments.collect::<DfResult<Vec<_>>>()?;
            steps.push(Step::Add(schema(&relation.columns), Arc::clone(function), arguments));
        }
        // The check of the language lets none through.
        _ => return exec_err!("an operator of several rows in a transformation"),
    }
    Ok(())
}

impl Step {
    fn run(&self, rows: &RecordBatch) -> DfResult<RecordBatch> {
        let count = rows.num_rows();
        match self {
            Self::Keep(predicate) => {
                let kept = predicate.evaluate(rows)?.into_array(count)?;
                Ok(filter_record_batch(rows, kept.as_boolean())?)
            }
            Self::Make(schema, made) => batch(schema, evaluated(made, rows)?, count),
            Self::Add(schema, function, arguments) => {
                let mut columns = rows.columns().to_vec();
                columns.extend(function.run(&evaluated(arguments, rows)?, count)?);
                batch(schema, columns, count)
            }
            Self::Replace(row) => {
                let first = UInt32Array::from(vec![0; count]);
                Ok(take_record_batch(row, &first)?)
            }
        }
    }
}

fn evaluated(exprs: &[Arc<dyn PhysicalExpr>], rows: &RecordBatch) -> DfResult<Vec<ArrayRef>> {
    let count = rows.num_rows();
    exprs.iter().map(|expr| expr.evaluate(rows)?.into_array(count)).collect()
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, count: usize) -> DfResult<RecordBatch> {
    let columns = columns.into_iter().zip(schema.fields()).map(|(column, field)| {
        match column.data_type() == field.data_type() {
            true => Ok(column),
            false => cast(&column, field.data_type()),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

#[cfg(test)]
mod tests;
