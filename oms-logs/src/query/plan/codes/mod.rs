//! Groups by text, read as codes.
//!
//! Text that repeats is stored as numbers into a dictionary. Where a query only groups by such a
//! column, or counts its distinct values, its text need not be made for each row:
//!
//! ```text
//!  Parquet ──► codes and a dictionary ──► GroupByCodesExec ──► groups, text, states ──► final
//!              (a batch of rows)          a number for each      a row for each group    phase
//!                                         distinct text
//! ```
//!
//! [`ReadCodes`] finds those columns in the logical plan and has the table give them as codes.
//! [`GroupByCodes`] puts the operator in the place of DataFusion's first phase. Either is right
//! without the other: where codes are not grouped by, they become text.

mod group;

pub(super) use group::GroupByCodes;

use crate::query::function::{distinct, never_null_argument};
use crate::repository::snapshot::TableSnapshot;
use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::logical_plan::{
    Aggregate, Filter, Projection, TableScan, TableScanBuilder,
};
use datafusion::logical_expr::{Expr, LogicalPlan, SubqueryAlias};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Has tables give columns as codes that are only grouped by or whose distinct values are counted.
#[derive(Debug)]
pub(super) struct ReadCodes;

impl OptimizerRule for ReadCodes {
    fn name(&self) -> &'static str {
        "read_codes"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let Some(input) = coded(&aggregate.input, key_columns(aggregate))? else {
            return Ok(Transformed::no(plan));
        };
        let (keys, made) = (aggregate.group_expr.clone(), aggregate.aggr_expr.clone());
        let aggregate = Aggregate::try_new(Arc::new(input), keys, made)?;
        Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
    }
}

/// Columns that are text keys, or text of which distinct values are counted, and nothing else.
fn key_columns(aggregate: &Aggregate) -> BTreeSet<Column> {
    let keys = aggregate.group_expr.iter().map(|key| (text_key(key), key));
    let made = aggregate.aggr_expr.iter().map(|made| (distinct_text(made), made));
    let (coded, others): (Vec<_>, Vec<_>) = keys.chain(made).partition(|(text, _)| text.is_some());
    let mut columns: BTreeSet<Column> =
        coded.into_iter().filter_map(|(text, _)| text).cloned().collect();
    remove_used(&mut columns, others.into_iter().map(|(_, expr)| expr));
    columns
}

/// The column of whose text an aggregate counts the distinct values, where nothing chooses the rows.
fn distinct_text(made: &Expr) -> Option<&Column> {
    text_key(distinct::counted_values(made)?)
}

/// The column of a key that is its text.
fn text_key(key: &Expr) -> Option<&Column> {
    match key {
        Expr::Alias(alias) => text_key(&alias.expr),
        key => never_null_argument(key)?.try_as_col(),
    }
}

fn remove_used<'e>(columns: &mut BTreeSet<Column>, exprs: impl Iterator<Item = &'e Expr>) {
    for used in exprs.flat_map(Expr::column_refs) {
        columns.remove(used);
    }
}

/// The plan with the table's `columns` as codes, as far as nothing below reads their text; `None` if
/// that changes nothing.
fn coded(plan: &LogicalPlan, mut columns: BTreeSet<Column>) -> Result<Option<LogicalPlan>> {
    if columns.is_empty() {
        return Ok(None);
    }
    match plan {
        LogicalPlan::TableScan(scan) => coded_scan(scan, columns),
        LogicalPlan::Filter(filter) => {
            remove_used(&mut columns, [&filter.predicate].into_iter());
            let Some(input) = coded(&filter.input, columns)? else { return Ok(None) };
            let filter = Filter::try_new(filter.predicate.clone(), Arc::new(input))?;
            Ok(Some(LogicalPlan::Filter(filter)))
        }
        LogicalPlan::Projection(projection) => {
            let below = passed_on(projection, &columns);
            let Some(input) = coded(&projection.input, below)? else { return Ok(None) };
            let projection = Projection::try_new(projection.expr.clone(), Arc::new(input))?;
            Ok(Some(LogicalPlan::Projection(projection)))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            // Its columns are those of its input, in their order, under its own name.
            let (outer, inner) = (alias.schema.columns(), alias.input.schema().columns());
            let pairs = outer.iter().zip(inner);
            let below = pairs.filter(|(outer, _)| columns.contains(outer)).map(|(_, inner)| inner);
            let Some(input) = coded(&alias.input, below.collect())? else { return Ok(None) };
            let alias = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
            Ok(Some(LogicalPlan::SubqueryAlias(alias)))
        }
        _ => Ok(None),
    }
}

/// The columns below a projection that it passes on as `columns`, and has no other use for.
fn passed_on(projection: &Projection, columns: &BTreeSet<Column>) -> BTreeSet<Column> {
    let mut below = BTreeSet::new();
    let mut others = Vec::new();
    for (expr, outer) in projection.expr.iter().zip(projection.schema.columns()) {
        match column_of(expr) {
            Some(column) if columns.contains(&outer) => {
                below.insert(column.clone());
            }
            _ => others.push(expr),
        }
    }
    remove_used(&mut below, others.into_iter());
    below
}

fn column_of(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Alias(alias) => column_of(&alias.expr),
        expr => expr.try_as_col(),
    }
}

fn coded_scan(scan: &TableScan, mut columns: BTreeSet<Column>) -> Result<Option<LogicalPlan>> {
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
    let Some(snapshot) = provider.downcast_ref::<TableSnapshot>() else { return Ok(None) };
    remove_used(&mut columns, scan.filters.iter());
    let names: BTreeSet<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let Some(snapshot) = snapshot.with_codes(&names) else { return Ok(None) };
    let source = provider_as_source(Arc::new(snapshot));
    let coded = TableScanBuilder::new(scan.table_name.clone(), source)
        .with_projection(scan.projection.clone())
        .with_filters(scan.filters.clone())
        .with_fetch(scan.fetch)
        .with_statistics_requests(scan.statistics_requests.clone())
        .build()?;
    Ok(Some(LogicalPlan::TableScan(coded)))
}
