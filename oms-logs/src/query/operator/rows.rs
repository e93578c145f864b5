//! `where`, `take`, `sort`, `top`, `count`: which rows, and in what order.

use crate::query::bind::{BindResult, Binder, Failed, Items, Scope};
use crate::query::bound::{
    Aggregate, AggregateFunction, Column, Expr, OrderKey, Relation, RelationKind,
};
use crate::query::diagnostic::Problem;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, SortKey};
use crate::query::types::KqlType;
use std::sync::Arc;

impl Binder<'_> {
    pub(crate) fn filter(
        &mut self,
        input: Arc<Relation>,
        predicate: &ast::Expr,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let columns = input.columns.clone();
        let mut scope = Scope::table(&input);
        let predicate = self.condition(predicate, &mut scope)?;
        let calls = scope.into_windows();
        if calls.is_empty() {
            return self.relation(RelationKind::Filter { input, predicate }, columns, span);
        }
        let input = self.with_windows(input, &calls, span)?;
        let all = input.columns.clone();
        let kept = self.relation(RelationKind::Filter { input, predicate }, all, span)?;
        self.projected(kept, Items::of_columns(&columns, span), span)
    }

    /// The rows for which a bound condition holds.
    pub(crate) fn filtered(
        &mut self,
        input: Arc<Relation>,
        predicate: Expr,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let columns = input.columns.clone();
        self.relation(RelationKind::Filter { input, predicate }, columns, span)
    }

    /// A constant count of rows.
    pub(crate) fn row_count(&mut self, count: &ast::Expr) -> BindResult<usize> {
        let bound = self.expr(count, &mut Scope::constants())?;
        match bound.as_long().and_then(|count| usize::try_from(count).ok()) {
            Some(count) if bound.kql_type.is_number() => Ok(count),
            _ => {
                let message = "expected a constant count of rows";
                Err(self.report(Problem::semantic(count.span, message)))
            }
        }
    }

    pub(crate) fn take(
        &mut self,
        input: Arc<Relation>,
        count: &ast::Expr,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let count = self.row_count(count)?;
        let columns = input.columns.clone();
        self.relation(RelationKind::Limit { input, count }, columns, span)
    }

    /// Nulls come first where the order is ascending and last where it is descending, if the query
    /// does not say.
    pub(crate) fn sort(
        &mut self,
        input: Arc<Relation>,
        keys: &[SortKey],
        limit: Option<usize>,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let columns = input.columns.clone();
        let mut bound = Vec::new();
        let mut failed = false;
        for key in keys {
            let Ok(expr) = self.expr(&key.expr, &mut Scope::rows(&columns)) else {
                failed = true;
                continue;
            };
            if expr.kql_type == KqlType::Dynamic {
                self.report(Problem::unsupported(key.expr.span, "sort by a dynamic value"));
                failed = true;
            }
            let nulls_first = key.nulls_first.unwrap_or(key.ascending);
            bound.push(OrderKey { expr, ascending: key.ascending, nulls_first });
        }
        if failed {
            return Err(Failed);
        }
        self.relation(RelationKind::Sort { input, keys: bound, limit }, columns, span)
    }

    pub(crate) fn count(&mut self, input: Arc<Relation>, span: Span) -> BindResult<Arc<Relation>> {
        let aggregate = Aggregate {
            function: AggregateFunction::Rows,
            argument: Expr::long(1, span),
            filter: None,
            kql_type: KqlType::Long,
        };
        let aggregates = vec![("Count".to_owned(), aggregate)];
        let kind = RelationKind::Aggregate { input, keys: Vec::new(), aggregates };
        self.relation(kind, vec![Column::new("Count", KqlType::Long)], span)
    }
}
