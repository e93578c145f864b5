//! Sub-queries whose rows must be known before the query that holds them can be bound.

use super::{BindResult, Binder, Failed, LetValue};
use crate::query::bound::{Column, Expr, Relation, RelationKind, null_of};
use crate::query::diagnostic::Problem;
use crate::query::limits::{IN_VALUES_MAX, SUB_QUERIES_MAX};
use crate::query::plan;
use crate::query::syntax::Span;
use crate::query::syntax::ast;
use crate::query::types::KqlType;
use datafusion::arrow::array::RecordBatch;
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

impl Binder<'_> {
    /// The rows of a table, in computed form. If they are not known yet, binding begins again when
    /// they are.
    pub(crate) fn rows_of(
        &mut self,
        relation: &Arc<Relation>,
        span: Span,
    ) -> BindResult<RecordBatch> {
        if self.parts > 0 && reads_given(relation) {
            self.reads_part = true;
            return Err(Failed);
        }
        let Some(answers) = self.answers else {
            return Ok(RecordBatch::new_empty(Arc::new(plan::computed_schema(&relation.columns))));
        };
        if let Some(rows) = answers.get(self.answers_used) {
            self.answers_used += 1;
            return Ok(rows.clone());
        }
        if self.answers_used >= SUB_QUERIES_MAX {
            let message = format!("more than {SUB_QUERIES_MAX} sub-queries that run before it");
            return Err(self.report(Problem::semantic(span, message)));
        }
        if self.pending.is_none() {
            self.pending = Some(Arc::clone(relation));
        }
        Err(Failed)
    }

    /// `toscalar(table)`: the first value of its first row.
    pub(super) fn scalar_call(
        &mut self,
        arguments: &[ast::NamedExpr],
        span: Span,
    ) -> BindResult<Expr> {
        let [argument] = arguments else {
            let message = "`toscalar` takes one table";
            return Err(self.report(Problem::semantic(span, message)));
        };
        match self.outside_rows(|binder| binder.let_value(&argument.expr))? {
            LetValue::Table(relation) => self.scalar_of(relation, span),
            // A value by chance is drawn once.
            LetValue::Scalar(value) => {
                let kql_type = value.kql_type;
                Ok(Expr::constant(self.constant(&value)?, kql_type, span))
            }
            LetValue::Graph(_) => {
                let message = "`toscalar` takes a table, not a graph";
                Err(self.report(Problem::semantic(span, message)))
            }
            LetValue::Function(_) | LetValue::OfRow | LetValue::Broken => Err(Failed),
        }
    }

    /// Binds a query that is run by itself: names that stand for values of rows are out of its
    /// reach.
    pub(super) fn outside_rows<T>(
        &mut self,
        bind: impl FnOnce(&mut Self) -> BindResult<T>,
    ) -> BindResult<T> {
        if !self.lets.values().any(LetValue::is_of_row) {
            return bind(self);
        }
        let outer = self.lets.clone();
        self.lets.values_mut().for_each(LetValue::leave_row);
        let made = bind(self);
        self.lets = outer;
        made
    }

    /// The first value of a table's first column.
    pub(super) fn scalar_of(&mut self, relation: Arc<Relation>, span: Span) -> BindResult<Expr> {
        let Some(column) = relation.columns.first().cloned() else { return Err(Failed) };
        let columns = relation.columns.clone();
        let kind = RelationKind::Limit { input: relation, count: 1 };
        let first = self.relation(kind, columns, span)?;
        let rows = self.rows_of(&first, span)?;
        let value = if rows.num_rows() == 0 {
            null_of(column.kql_type)
        } else {
            let value = ScalarValue::try_from_array(rows.column(0), 0);
            self.checked(value.map_err(|error| Problem::semantic(span, error.strip_backtrace())))?
        };
        Ok(Expr::constant(value, column.kql_type, span))
    }

    /// The values of a table's first column, as constants.
    pub(super) fn values_of(
        &mut self,
        relation: Arc<Relation>,
        span: Span,
    ) -> BindResult<Vec<Expr>> {
        let Some(column) = relation.columns.first().cloned() else { return Err(Failed) };
        let columns = relation.columns.clone();
        let kind = RelationKind::Limit { input: relation, count: IN_VALUES_MAX + 1 };
        let limited = self.relation(kind, columns, span)?;
        let rows = self.rows_of(&limited, span)?;
        if rows.num_rows() > IN_VALUES_MAX {
            let message = format!("the sub-query has more than {IN_VALUES_MAX} rows");
            return Err(self.report(Problem::semantic(span, message)));
        }
        self.values_in(&rows, column.kql_type, span)
    }

    /// The values of the first column of rows, as constants.
    pub(crate) fn values_in(
        &mut self,
        rows: &RecordBatch,
        kql_type: KqlType,
        span: Span,
    ) -> BindResult<Vec<Expr>> {
        let values = (0..rows.num_rows()).map(|row| {
            let value = ScalarValue::try_from_array(rows.column(0), row)
                .map_err(|error| Problem::semantic(span, error.strip_backtrace()))?;
            Ok(Expr::constant(value, kql_type, span))
        });
        let values = values.collect::<Result<Vec<_>, _>>();
        self.checked(values)
    }

    /// One row of one value.
    pub(super) fn one_row(&mut self, name: &str, value: &Expr) -> BindResult<Arc<Relation>> {
        let columns = vec![Column::new(name, value.kql_type)];
        let row = vec![self.constant(value)?];
        self.relation(RelationKind::Rows(vec![row]), columns, value.span)
    }
}

/// Whether a relation reads the rows of the part that is being bound.
fn reads_given(relation: &Relation) -> bool {
    matches!(relation.kind, RelationKind::Given)
        || relation.kind.inputs().into_iter().any(|input| reads_given(input))
}
