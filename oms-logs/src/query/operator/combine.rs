//! `union`: rows of several tables.

use crate::query::bind::{BindResult, Binder, Failed, Items};
use crate::query::bound::{Column, Expr, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, Union};
use crate::query::types::KqlType;
use std::sync::Arc;

impl Binder<'_> {
    /// Columns are matched by name and type. The outer kind keeps all and fills with nulls; columns
    /// of one name and several types get the type after their name. The inner kind keeps those that
    /// all tables have.
    pub(crate) fn union(
        &mut self,
        first: Option<Arc<Relation>>,
        union: &Union,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let inner = match union.kind.as_ref().map(|kind| kind.text.as_str()) {
            None | Some("outer") => false,
            Some("inner") => true,
            Some(other) => {
                let message = format!("`{other}` is not a kind of union");
                let problem = Problem::semantic(span, message).near(other, ["inner", "outer"]);
                return Err(self.report(problem));
            }
        };
        let prefix = "union_arg";
        let tables = self.tables_of(first, &union.tables, union.fuzzy, prefix)?;
        let source = union.source_column.as_ref();
        self.union_of(tables, inner, source, span)
    }

    /// The rows of several tables, each of a name.
    pub(crate) fn union_of(
        &mut self,
        tables: Vec<(String, Arc<Relation>)>,
        inner: bool,
        source: Option<&ast::Name>,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let made = union_columns(&tables, inner);
        if let Some(name) = source
            && made.iter().any(|(column, _)| column.name == name.text)
        {
            let message = format!("there is a column `{}` already", name.text);
            return Err(self.report(Problem::semantic(name.span, message)));
        }
        let mut inputs = Vec::new();
        for (name, table) in tables {
            let mut items = Items::default();
            if let Some(column) = source {
                self.checked(items.add_named(column, Expr::text(name, span)))?;
            }
            for (column, from) in &made {
                let expr = if table.columns.contains(from) {
                    Expr::column(from.name.clone(), from.kql_type, span)
                } else {
                    Expr::null(from.kql_type, span)
                };
                items.replace(&column.name, expr);
            }
            inputs.push(self.projected(table, items, span)?);
        }
        let source = source.map(|name| Column::new(&name.text, KqlType::String));
        let columns =
            source.into_iter().chain(made.into_iter().map(|(column, _)| column)).collect();
        self.relation(RelationKind::Union(inputs), columns, span)
    }

    /// Each table with the name that `withsource` shows.
    pub(crate) fn tables_of(
        &mut self,
        first: Option<Arc<Relation>>,
        tables: &[ast::Expr],
        fuzzy: bool,
        prefix: &str,
    ) -> BindResult<Vec<(String, Arc<Relation>)>> {
        let mut found: Vec<(String, Arc<Relation>)> = Vec::new();
        if let Some(first) = first {
            found.push((source_name(&first, prefix, 0), first));
        }
        let mut failed = false;
        for table in tables {
            if let ast::ExprKind::Star(pattern) = &table.kind {
                let names = self.tables_like(pattern);
                if names.is_empty() && !fuzzy {
                    let message = format!("no table fits `{pattern}`");
                    self.report(Problem::semantic(table.span, message));
                    failed = true;
                }
                for name in names {
                    match self.named_table(&name, table.span) {
                        Ok(relation) => found.push((name, relation)),
                        Err(Failed) => failed = true,
                    }
                }
                continue;
            }
            let missing = self.missing_tables;
            match self.attempt(|binder| binder.table(table))? {
                Ok(relation) => {
                    let name = match &table.kind {
                        ast::ExprKind::Name(name) if self.is_view(name) => name.clone(),
                        _ => source_name(&relation, prefix, found.len()),
                    };
                    found.push((name, relation));
                }
                // A table that is not there may be left out, whatever is asked of its rows.
                Err(problems) if fuzzy && self.missing_tables - missing == problems.len() => {}
                Err(problems) => {
                    self.report_all(problems);
                    failed = true;
                }
            }
        }
        if found.is_empty() && !failed {
            let span = tables.first().map(|table| table.span).unwrap_or_default();
            self.report(Problem::semantic(span, "none of the tables is there"));
            failed = true;
        }
        if failed { Err(Failed) } else { Ok(found) }
    }
}

/// The table that a chain of operators reads, or a name by place.
fn source_name(relation: &Relation, prefix: &str, at: usize) -> String {
    match &relation.kind {
        RelationKind::Scan { table, .. } => table.clone(),
        RelationKind::Named { name, .. } => name.clone(),
        RelationKind::Serialized(input)
        | RelationKind::Filter { input, .. }
        | RelationKind::Sort { input, .. }
        | RelationKind::Limit { input, .. } => source_name(input, prefix, at),
        _ => format!("{prefix}{at}"),
    }
}

/// The columns of a union and the columns that they come from.
pub(super) fn union_columns(
    tables: &[(String, Arc<Relation>)],
    inner: bool,
) -> Vec<(Column, Column)> {
    let mut all: Vec<Column> = Vec::new();
    for column in tables.iter().flat_map(|(_, table)| &table.columns) {
        if !all.contains(column) {
            all.push(column.clone());
        }
    }
    if inner {
        all.retain(|column| tables.iter().all(|(_, table)| table.columns.contains(column)));
    }
    let several = |name: &str| all.iter().filter(|column| column.name == name).count() > 1;
    // A column that has such a name by itself keeps it.
    let mut names = Items::default();
    for plain in all.iter().filter(|column| !several(&column.name)) {
        let value = Expr::null(plain.kql_type, Span::default());
        names.add_implied(Some(plain.name.clone()), "Column", value);
    }
    let made = all.iter().map(|from| {
        let name = if several(&from.name) {
            let name = names.free(&format!("{}_{}", from.name, from.kql_type));
            names.replace(&name, Expr::null(from.kql_type, Span::default()));
            name
        } else {
            from.name.clone()
        };
        Column::new(name, from.kql_type)
    });
    made.collect::<Vec<Column>>().into_iter().zip(all.iter().cloned()).collect()
}
