//! `partition`: a pipeline over the rows of each key by themselves.

use crate::query::bind::{BindResult, Binder, Scope};
use crate::query::bound::{Column, ExprKind, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::limits::PARTITIONS_MAX;
use crate::query::plan::{self, TableFunction};
use crate::query::syntax::Span;
use crate::query::syntax::ast::Partition;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, UInt64Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::collections::HashMap;
use std::sync::Arc;

impl Binder<'_> {
    /// The rows that the operators make of each key's rows, one key after the other.
    pub(crate) fn partition(
        &mut self,
        input: Arc<Relation>,
        partition: &Partition,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let key = self.expr(&partition.key, &mut Scope::rows(&input.columns))?;
        let at = match &key.kind {
            ExprKind::Column(name) => input.columns.iter().position(|of| of.name == *name),
            _ => None,
        };
        let Some(at) = at.filter(|_| key.kql_type != KqlType::Dynamic) else {
            let message = "`partition` goes by a column that is not dynamic";
            return Err(self.report(Problem::semantic(partition.key.span, message)));
        };
        let of_input = input.columns.clone();
        let given = self.relation(RelationKind::Given, of_input.clone(), span)?;
        let others = std::mem::take(&mut self.others);
        let body = self.operators(given, &partition.operators);
        self.others = others;
        let body = body?;
        let columns = body.columns.clone();
        let kind = RelationKind::Table {
            inputs: vec![input],
            function: Arc::new(PerKey { key: at, columns: of_input, body }),
            serialized: false,
        };
        self.relation(kind, columns, span)
    }
}

/// Runs a plan over the rows of each key.
#[derive(Debug)]
struct PerKey {
    key: usize,
    /// The input's columns.
    columns: Vec<Column>,
    body: Arc<Relation>,
}

#[async_trait]
impl TableFunction for PerKey {
    fn name(&self) -> &'static str {
        "partition"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("partition takes a table") };
        let session = plan::session(context.runtime_env(), self.body.needs_order());
        let of_input = Arc::new(plan::computed_schema(&self.columns));
        let mut made = Vec::new();
        for rows in parts(input, self.key)? {
            let part = take_record_batch(input, &UInt64Array::from(rows))?;
            let part = RecordBatch::try_new(Arc::clone(&of_input), part.columns().to_vec())?;
            let logical = plan::plan_computed(&self.body, Some(&part))?;
            let frame = session.execute_logical_plan(logical).await?;
            for batch in frame.collect().await? {
                if batch.num_rows() > 0 {
                    made.push(RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())?);
                }
            }
        }
        Ok(made)
    }
}

/// The rows of each key, in the order in which the keys come first.
fn parts(input: &RecordBatch, key: usize) -> Result<Vec<Vec<u64>>> {
    let column = input.column(key);
    let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
    let keys = converter.convert_columns(std::slice::from_ref(column))?;
    let mut places: HashMap<OwnedRow, usize> = HashMap::new();
    let mut parts: Vec<Vec<u64>> = Vec::new();
    for row in 0..input.num_rows() {
        let place = *places.entry(keys.row(row).owned()).or_insert(parts.len());
        if place >= PARTITIONS_MAX {
            return exec_err!("partition makes more than {PARTITIONS_MAX} parts");
        }
        match parts.get_mut(place) {
            Some(part) => part.push(row as u64),
            None => parts.push(vec![row as u64]),
        }
    }
    Ok(parts)
}
