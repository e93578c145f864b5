//! `pivot`, `narrow`, `preview`, `rows_near`.

use super::Arguments;
use crate::query::bind::{BindResult, Binder, Failed, Items, Scope};
use crate::query::bound::{
    Aggregate, Column, Comparison, Expr, ExprKind, OrderKey, Relation, RelationKind,
};
use crate::query::diagnostic::Problem;
use crate::query::function::{operator, to_text};
use crate::query::limits::{OPERATOR_ROWS_MAX, PIVOT_COLUMNS_MAX, exceeded};
use crate::query::plan::TableFunction;
use crate::query::syntax::Span;
use crate::query::syntax::ast;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Builder, RecordBatch, StringViewBuilder, UInt64Array,
};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::sync::Arc;

impl Binder<'_> {
    /// `pivot(column, aggregate, keys…)`: a column for each value of the column.
    pub(super) fn pivot(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let (plugin, span) = (arguments.plugin, arguments.span());
        let of = self.plugin_column(&input, arguments.next(), plugin)?;
        let aggregate = arguments.next();
        let mut used = vec![of.name.clone()];
        if let Some(aggregate) = aggregate {
            columns_in(aggregate, &mut used);
        }
        let mut keys: Vec<Column> = Vec::new();
        let named = arguments.positional();
        if named.is_empty() {
            keys.extend(input.columns.iter().filter(|key| !used.contains(&key.name)).cloned());
        }
        for key in named {
            keys.push(self.plugin_column(&input, Some(key), plugin)?);
        }
        let values = self.pivot_values(&input, &of, span)?;
        let mut items = Items::of_columns(&keys, span);
        let mut raw: Vec<(String, Aggregate)> = Vec::new();
        for value in values {
            let column = Expr::column(&of.name, of.kql_type, span);
            let is_value = operator::compare(
                Comparison::Equal,
                to_text(column),
                Expr::text(&value, span),
                span,
            );
            let is_value = self.checked(is_value)?;
            let mut scope = Scope::groups(&input.columns, raw);
            let from = scope.aggregate_count();
            let made = match aggregate {
                Some(aggregate) => self.expr(aggregate, &mut scope)?,
                None => {
                    let count = count_call(span);
                    self.expr(&count, &mut scope)?
                }
            };
            raw = scope.into_aggregates();
            for (_, aggregate) in raw.iter_mut().skip(from) {
                aggregate.filter = Some(match aggregate.filter.take() {
                    Some(filter) => {
                        let both = ExprKind::And(vec![filter, is_value.clone()]);
                        Expr::new(both, KqlType::Bool, span)
                    }
                    None => is_value.clone(),
                });
            }
            items.add_implied(Some(value), "Column", made);
        }
        if keys.is_empty() && raw.is_empty() {
            // No rows have no values to make columns of, nor keys.
            return self.relation(RelationKind::Rows(Vec::new()), Vec::new(), span);
        }
        let bound_keys = Items::of_columns(&keys, span);
        let mut made = bound_keys.columns();
        made.extend(raw.iter().map(|(name, made)| Column::new(name, made.kql_type)));
        let kind = RelationKind::Aggregate { input, keys: bound_keys.items, aggregates: raw };
        let grouped = self.relation(kind, made, span)?;
        self.projected(grouped, items, span)
    }

    /// The values of a column as text, in order.
    fn pivot_values(
        &mut self,
        input: &Arc<Relation>,
        of: &Column,
        span: Span,
    ) -> BindResult<Vec<String>> {
        let text = Column::new("value", KqlType::String);
        let key = to_text(Expr::column(&of.name, of.kql_type, span));
        let kind = RelationKind::Aggregate {
            input: Arc::clone(input),
            keys: vec![(text.name.clone(), key)],
            aggregates: Vec::new(),
        };
        let distinct = self.relation(kind, vec![text.clone()], span)?;
        let key = OrderKey {
            expr: Expr::column(&text.name, KqlType::String, span),
            ascending: true,
            nulls_first: true,
        };
        let limit = Some(PIVOT_COLUMNS_MAX + 1);
        let kind = RelationKind::Sort { input: distinct, keys: vec![key], limit };
        let sorted = self.relation(kind, vec![text], span)?;
        let rows = self.rows_of(&sorted, span)?;
        if rows.num_rows() > PIVOT_COLUMNS_MAX {
            let message =
                format!("`pivot` makes too many columns. pivot_columns_max=`{PIVOT_COLUMNS_MAX}`");
            return Err(self.report(Problem::semantic(span, message)));
        }
        let Some(values) = rows.column(0).as_string_view_opt() else { return Err(Failed) };
        Ok(values.iter().map(|value| value.unwrap_or_default().to_owned()).collect())
    }

    /// A row for each cell.
    pub(super) fn narrow(&mut self, input: Arc<Relation>, span: Span) -> BindResult<Arc<Relation>> {
        let mut items = Items::default();
        for column in &input.columns {
            let value = Expr::column(&column.name, column.kql_type, span);
            items.replace(&column.name, to_text(value));
        }
        let names = input.columns.iter().map(|column| column.name.clone()).collect();
        let texts = self.projected(input, items, span)?;
        let columns = vec![
            Column::new("Row", KqlType::Long),
            Column::new("Column", KqlType::String),
            Column::new("Value", KqlType::String),
        ];
        self.table_function(vec![texts], Arc::new(Narrow { names }), columns, false, span)
    }

    /// The first rows as one table, and all of them after it.
    pub(super) fn preview(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let span = arguments.span();
        let Some(count) = arguments.next() else {
            let message = "plugin `preview` takes a count of rows";
            return Err(self.report(Problem::semantic(span, message)));
        };
        let first = self.take(Arc::clone(&input), count, span)?;
        let all = self.count(input, span)?;
        self.others.push(("PrimaryResult".to_owned(), Arc::clone(&first)));
        self.others.push(("Count".to_owned(), all));
        Ok(first)
    }

    /// The rows near those for which a condition holds.
    pub(super) fn rows_near(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
    ) -> BindResult<Arc<Relation>> {
        let span = arguments.span();
        if !input.is_serialized() {
            let message = "`rows_near` needs rows in an order; sort or serialize them first";
            return Err(self.report(Problem::semantic(span, message)));
        }
        let (Some(condition), Some(before)) = (arguments.next(), arguments.next()) else {
            let message = "plugin `rows_near` takes a condition and a count of rows";
            return Err(self.report(Problem::semantic(span, message)));
        };
        let condition = self.condition(condition, &mut Scope::rows(&input.columns))?;
        let before = self.row_count(before)?;
        let after = match arguments.next() {
            Some(after) => self.row_count(after)?,
            None => before,
        };
        let columns = input.columns.clone();
        let mut items = Items::of_columns(&columns, span);
        items.replace("$near", condition);
        let marked = self.projected(input, items, span)?;
        let function = RowsNear { before, after };
        self.table_function(vec![marked], Arc::new(function), columns, true, span)
    }
}

/// `count()`
fn count_call(span: Span) -> ast::Expr {
    let name = ast::Name { text: "count".to_owned(), span };
    ast::Expr::new(ast::ExprKind::Call { name, arguments: Vec::new() }, span)
}

/// The names in the arguments of an aggregate.
fn columns_in(expr: &ast::Expr, names: &mut Vec<String>) {
    match &expr.kind {
        ast::ExprKind::Name(name) => names.push(name.clone()),
        ast::ExprKind::Call { arguments, .. } => {
            arguments.iter().for_each(|argument| columns_in(&argument.expr, names));
        }
        ast::ExprKind::Binary { left, right, .. } => {
            columns_in(left, names);
            columns_in(right, names);
        }
        ast::ExprKind::Negate(inner) | ast::ExprKind::Member(inner, _) => columns_in(inner, names),
        _ => {}
    }
}

#[derive(Debug)]
struct Narrow {
    names: Vec<String>,
}

#[async_trait]
impl TableFunction for Narrow {
    fn name(&self) -> &'static str {
        "narrow"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        _context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("narrow takes a table") };
        if input.num_rows().saturating_mul(self.names.len()) > OPERATOR_ROWS_MAX {
            let limit = "operator_rows_max";
            return exceeded("narrow makes too many rows", limit, OPERATOR_ROWS_MAX);
        }
        let mut rows = Int64Builder::new();
        let (mut names, mut values) = (StringViewBuilder::new(), StringViewBuilder::new());
        for row in 0..input.num_rows() {
            for (name, column) in self.names.iter().zip(input.columns()) {
                let Some(text) = column.as_string_view_opt() else {
                    return exec_err!("narrow takes text");
                };
                rows.append_value(i64::try_from(row).unwrap_or(i64::MAX));
                names.append_value(name);
                values.append_value(text.value(row));
            }
        }
        let columns: Vec<ArrayRef> =
            vec![Arc::new(rows.finish()), Arc::new(names.finish()), Arc::new(values.finish())];
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}

/// Rows near those whose last column holds.
#[derive(Debug)]
struct RowsNear {
    before: usize,
    after: usize,
}

#[async_trait]
impl TableFunction for RowsNear {
    fn name(&self) -> &'static str {
        "rows_near"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        _context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("rows_near takes a table") };
        let Some(flags) = input.columns().last().and_then(|flags| flags.as_boolean_opt()) else {
            return exec_err!("rows_near takes a condition");
        };
        let rows = input.num_rows();
        let mut kept: Vec<u64> = Vec::new();
        let mut next = 0;
        for row in (0..rows).filter(|row| !flags.is_null(*row) && flags.value(*row)) {
            let start = row.saturating_sub(self.before).max(next);
            let end = row.saturating_add(self.after).saturating_add(1).min(rows);
            kept.extend((start..end).map(|row| row as u64));
            next = next.max(end);
        }
        let made = take_record_batch(input, &UInt64Array::from(kept))?;
        let width = made.num_columns().saturating_sub(1);
        let columns = made.columns().get(..width).unwrap_or_default().to_vec();
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_near_each_other_are_kept_once() {
        use datafusion::arrow::array::{BooleanArray, Int64Array};
        use datafusion::arrow::datatypes::{DataType, Field, Schema};
        let flags = [false, false, true, true, false, false, false];
        let fields = vec![
            Field::new("x", DataType::Int64, true),
            Field::new("near", DataType::Boolean, true),
        ];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(0..7)),
            Arc::new(BooleanArray::from(flags.to_vec())),
        ];
        let schema = Arc::new(Schema::new(fields));
        let input = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let out = Arc::new(schema.project(&[0]).unwrap());
        let near = RowsNear { before: 1, after: 2 };
        let made = near.run(vec![input], &out, &Arc::default()).await.unwrap();
        assert_eq!(made[0].column(0).as_ref(), &Int64Array::from_iter_values(1..6));
    }
}
