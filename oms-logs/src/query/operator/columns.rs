//! `project` and its kin, `extend`, `distinct`: which columns.

use crate::query::bind::{BindResult, Binder, Failed, Items, Made, Scope, name_matches};
use crate::query::bound::{Column, Expr, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{ExprKind, Name, NamedExpr};
use std::sync::Arc;

impl Binder<'_> {
    pub(crate) fn projected(
        &mut self,
        input: Arc<Relation>,
        items: Items,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let columns = items.columns();
        self.relation(RelationKind::Project { input, items: items.items }, columns, span)
    }

    /// Only the given columns. A name with an `=` must be new; an implied one gets a number.
    pub(crate) fn project(
        &mut self,
        input: Arc<Relation>,
        items: &[NamedExpr],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut scope = Scope::table(&input);
        let columns = self.items(items, "Column", &mut scope)?;
        let calls = scope.into_windows();
        let input = self.with_windows(input, &calls, span)?;
        self.projected(input, columns, span)
    }

    fn items(
        &mut self,
        items: &[NamedExpr],
        default: &str,
        scope: &mut Scope<'_>,
    ) -> BindResult<Items> {
        let mut columns = Items::default();
        let mut failed = false;
        for item in items {
            let Ok(made) = self.item(item, scope) else {
                failed = true;
                continue;
            };
            for Made { name, implied, expr } in made {
                match &name {
                    Some(name) => failed |= self.checked(columns.add_named(name, expr)).is_err(),
                    None => columns.add_implied(implied, default, expr),
                }
            }
        }
        if failed { Err(Failed) } else { Ok(columns) }
    }

    /// The input's columns and more; a given name that is there already is replaced.
    pub(crate) fn extend(
        &mut self,
        input: Arc<Relation>,
        items: &[NamedExpr],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut columns = Items::of_columns(&input.columns, span);
        let mut failed = false;
        let mut scope = Scope::table(&input);
        for item in items {
            let Ok(made) = self.item(item, &mut scope) else {
                failed = true;
                continue;
            };
            // Where columns are added, those that the list of names leaves out are not made.
            let listed = matches!(item.expr.kind, ExprKind::Columns(..));
            for Made { name, implied, expr } in made {
                match &name {
                    None if listed => {}
                    Some(name) => columns.replace(&name.text, expr),
                    None => columns.add_implied(implied, "Column", expr),
                }
            }
        }
        if failed {
            return Err(Failed);
        }
        let calls = scope.into_windows();
        let input = self.with_windows(input, &calls, span)?;
        self.projected(input, columns, span)
    }

    /// The columns that fit a pattern. A plain name must be there.
    pub(crate) fn patterns(
        &mut self,
        input: &Relation,
        patterns: &[Name],
    ) -> BindResult<Vec<bool>> {
        let mut chosen = vec![false; input.columns.len()];
        let mut failed = false;
        for pattern in patterns {
            let mut found = false;
            for (column, chosen) in input.columns.iter().zip(&mut chosen) {
                let fits = name_matches(&pattern.text, &column.name);
                *chosen |= fits;
                found |= fits;
            }
            if !found && !pattern.text.contains('*') {
                self.no_column(input, pattern);
                failed = true;
            }
        }
        if failed { Err(Failed) } else { Ok(chosen) }
    }

    pub(crate) fn no_column(&mut self, input: &Relation, name: &Name) -> Failed {
        let known = input.columns.iter().map(|column| column.name.as_str());
        let message = format!("no column `{}`", name.text);
        self.report(Problem::semantic(name.span, message).near(&name.text, known))
    }

    fn keep(
        &mut self,
        input: Arc<Relation>,
        keep: impl Fn(bool) -> bool,
        patterns: &[Name],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let chosen = self.patterns(&input, patterns)?;
        let kept: Vec<Column> = input
            .columns
            .iter()
            .zip(chosen)
            .filter(|(_, chosen)| keep(*chosen))
            .map(|(column, _)| column.clone())
            .collect();
        if kept.is_empty() {
            return Err(self.report(Problem::semantic(span, "no column is left")));
        }
        self.projected(input, Items::of_columns(&kept, span), span)
    }

    pub(crate) fn project_away(
        &mut self,
        input: Arc<Relation>,
        patterns: &[Name],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        self.keep(input, |chosen| !chosen, patterns, span)
    }

    pub(crate) fn project_keep(
        &mut self,
        input: Arc<Relation>,
        patterns: &[Name],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        self.keep(input, |chosen| chosen, patterns, span)
    }

    pub(crate) fn project_rename(
        &mut self,
        input: Arc<Relation>,
        renames: &[(Name, Name)],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        for (_, old) in renames {
            if !input.columns.iter().any(|column| column.name == old.text) {
                return Err(self.no_column(&input, old));
            }
        }
        let mut items = Items::default();
        for column in &input.columns {
            let expr = Expr::column(column.name.clone(), column.kql_type, span);
            let renamed = renames.iter().find(|(_, old)| old.text == column.name);
            let unchanged = Name { text: column.name.clone(), span };
            let name = renamed.map_or(&unchanged, |(new, _)| new);
            self.checked(items.add_named(name, expr))?;
        }
        self.projected(input, items, span)
    }

    pub(crate) fn distinct(
        &mut self,
        input: Arc<Relation>,
        items: &[NamedExpr],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let all = matches!(items, [NamedExpr { name: None, expr }] if matches!(&expr.kind, ExprKind::Star(_)));
        let columns = if all {
            Items::of_columns(&input.columns, span)
        } else {
            self.items(items, "Column", &mut Scope::rows(&input.columns))?
        };
        let made = columns.columns();
        let kind = RelationKind::Aggregate { input, keys: columns.items, aggregates: Vec::new() };
        self.relation(kind, made, span)
    }
}
