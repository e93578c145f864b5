//! `mv-expand`: items of arrays and members of bags as rows.

use crate::query::bind::{BindResult, Binder, Failed, Items, Scope, column_name};
use crate::query::bound::{Column, ExpandOptions, Expansion, Expr, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{Expand, Name};
use crate::query::types::KqlType;
use std::sync::Arc;

/// An expansion, and the columns that a query sees of it.
pub(super) struct Expanded {
    pub(super) relation: Arc<Relation>,
    pub(super) items: Items,
}

impl Binder<'_> {
    /// The input's columns with the expanded ones in their places, others after them, and the index
    /// last.
    pub(crate) fn expand(
        &mut self,
        input: Arc<Relation>,
        expand: &Expand,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let Expanded { relation, items } = self.expanded(input, expand, None, span)?;
        self.projected(relation, items, span)
    }

    pub(super) fn expanded(
        &mut self,
        input: Arc<Relation>,
        expand: &Expand,
        live: Option<String>,
        span: Span,
    ) -> BindResult<Expanded> {
        let mut items = Items::of_columns(&input.columns, span);
        let mut columns = input.columns.clone();
        let mut expansions = Vec::new();
        let mut failed = false;
        for (at, item) in expand.items.iter().enumerate() {
            let Ok((value, kql_type)) = self.expansion(&input, &item.item.expr, item.to.as_ref())
            else {
                failed = true;
                continue;
            };
            let name = format!("$expand{at}");
            let column = Expr::column(name.clone(), kql_type, span);
            match (&item.item.name, column_name(&item.item.expr)) {
                (Some(given), _) => items.replace(&given.text, column),
                (None, Some(implied)) => items.replace(&implied, column),
                (None, None) => items.add_implied(None, "Column", column),
            }
            columns.push(Column::new(&name, kql_type));
            expansions.push(Expansion { name, value, kql_type });
        }
        let limit = match &expand.limit {
            Some(limit) => Some(self.row_count(limit)?),
            None => None,
        };
        if failed {
            return Err(Failed);
        }
        let index = expand.index.as_ref().map(|_| "$index".to_owned());
        if let (Some(given), Some(index)) = (&expand.index, &index) {
            let column = Expr::column(index.clone(), KqlType::Long, span);
            self.checked(items.add_named(given, column))?;
            columns.push(Column::new(index, KqlType::Long));
        }
        columns.extend(live.iter().map(|live| Column::new(live, KqlType::Bool)));
        let members_as_arrays = expand.members_as_arrays;
        let options = ExpandOptions { members_as_arrays, limit, index, live };
        let kind = RelationKind::Expand { input, items: expansions, options };
        Ok(Expanded { relation: self.relation(kind, columns, span)?, items })
    }

    /// What is expanded, and the type of its items.
    fn expansion(
        &mut self,
        input: &Relation,
        expr: &crate::query::syntax::ast::Expr,
        to: Option<&Name>,
    ) -> BindResult<(Expr, KqlType)> {
        let value = self.expr(expr, &mut Scope::rows(&input.columns))?;
        if value.kql_type != KqlType::Dynamic {
            let message =
                format!("only dynamic values are expanded, and this is a {}", value.kql_type);
            return Err(self.report(Problem::semantic(expr.span, message)));
        }
        let Some(to) = to else { return Ok((value, KqlType::Dynamic)) };
        match KqlType::of_name(&to.text) {
            Some(kql_type) => Ok((value, kql_type)),
            None => {
                let message = format!("`{}` is not a type", to.text);
                Err(self.report(Problem::semantic(to.span, message)))
            }
        }
    }
}
