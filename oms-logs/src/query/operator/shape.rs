//! `getschema`, `consume`, `project-reorder`, `project-by-names`: the table's shape.

use crate::query::bind::{BindResult, Binder, Failed, Items, Scope, flatten, name_matches};
use crate::query::bound::{Column, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, ColumnOrder};
use crate::query::types::KqlType;
use datafusion::scalar::ScalarValue;
use std::cmp::Ordering;
use std::sync::Arc;

/// What the engine calls the type inside.
pub(super) const fn data_type(kql_type: KqlType) -> &'static str {
    match kql_type {
        KqlType::Bool => "System.SByte",
        KqlType::DateTime => "System.DateTime",
        KqlType::Decimal => "System.Data.SqlTypes.SqlDecimal",
        KqlType::Dynamic => "System.Object",
        KqlType::Guid => "System.Guid",
        KqlType::Int => "System.Int32",
        KqlType::Long => "System.Int64",
        KqlType::Real => "System.Double",
        KqlType::String => "System.String",
        KqlType::TimeSpan => "System.TimeSpan",
    }
}

impl Binder<'_> {
    /// A row for each column.
    pub(crate) fn get_schema(&mut self, input: &Relation, span: Span) -> BindResult<Arc<Relation>> {
        let columns = vec![
            Column::new("ColumnName", KqlType::String),
            Column::new("ColumnOrdinal", KqlType::Int),
            Column::new("DataType", KqlType::String),
            Column::new("ColumnType", KqlType::String),
        ];
        let text = |text: &str| ScalarValue::Utf8View(Some(text.to_owned()));
        let rows = input.columns.iter().zip(0_i32..).map(|(column, ordinal)| {
            vec![
                text(&column.name),
                ScalarValue::Int32(Some(ordinal)),
                text(data_type(column.kql_type)),
                text(column.kql_type.name()),
            ]
        });
        self.relation(RelationKind::Rows(rows.collect()), columns, span)
    }

    /// No rows.
    pub(crate) fn consume(
        &mut self,
        input: Arc<Relation>,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let columns = input.columns.clone();
        self.relation(RelationKind::Limit { input, count: 0 }, columns, span)
    }

    /// The columns that fit come first, in the order of the patterns.
    pub(crate) fn project_reorder(
        &mut self,
        input: Arc<Relation>,
        orders: &[ColumnOrder],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut ordered: Vec<Column> = Vec::new();
        for ColumnOrder { pattern, order } in orders {
            let fits = |column: &&Column| name_matches(&pattern.text, &column.name);
            let mut found: Vec<Column> = input.columns.iter().filter(fits).cloned().collect();
            if found.is_empty() && !pattern.text.contains('*') {
                return Err(self.no_column(&input, pattern));
            }
            found.retain(|column| !ordered.contains(column));
            let (granny, descending) = match order.as_ref().map(|order| order.text.as_str()) {
                None => (None, false),
                Some("asc") => (Some(false), false),
                Some("desc") => (Some(false), true),
                Some("granny-asc") => (Some(true), false),
                Some("granny-desc") => (Some(true), true),
                Some(other) => {
                    let message = format!("`{other}` is not an order of columns");
                    return Err(self.report(Problem::semantic(pattern.span, message)));
                }
            };
            match granny {
                None => {}
                Some(false) => found.sort_by(|a, b| a.name.cmp(&b.name)),
                Some(true) => found.sort_by(|a, b| by_number(&a.name, &b.name)),
            }
            if descending {
                found.reverse();
            }
            ordered.extend(found);
        }
        let rest = input.columns.iter().filter(|column| !ordered.contains(column));
        let rest: Vec<Column> = rest.cloned().collect();
        ordered.extend(rest);
        self.projected(input, Items::of_columns(&ordered, span), span)
    }

    /// The columns of the given names, in that order; names of no column are passed over.
    pub(crate) fn project_by_names(
        &mut self,
        input: Arc<Relation>,
        names: &[ast::Expr],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut chosen: Vec<Column> = Vec::new();
        for name in names {
            for text in self.column_names(name)? {
                let fits = |column: &&Column| name_matches(&text, &column.name);
                let found: Vec<Column> = input.columns.iter().filter(fits).cloned().collect();
                chosen.extend(
                    found.into_iter().filter(|column| !chosen.contains(column)).collect::<Vec<_>>(),
                );
            }
        }
        if chosen.is_empty() {
            return Err(self.report(Problem::semantic(span, "no column is left")));
        }
        self.projected(input, Items::of_columns(&chosen, span), span)
    }

    /// The names that an argument of `project-by-names` comes to.
    fn column_names(&mut self, expr: &ast::Expr) -> BindResult<Vec<String>> {
        let bound = self.expr(expr, &mut Scope::constants())?;
        let flat = self.checked(flatten(vec![bound], "project-by-names"))?;
        let names: Option<Vec<String>> =
            flat.iter().map(|name| name.as_text().map(str::to_owned)).collect();
        match names {
            Some(names) => Ok(names),
            None => {
                let message = "expected names of columns as strings";
                self.report(Problem::semantic(expr.span, message));
                Err(Failed)
            }
        }
    }
}

/// Numbers within names count by their value: `a5` before `a100`.
fn by_number(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| {
        let mut parts: Vec<(String, Option<u64>)> = Vec::new();
        for c in text.chars() {
            match parts.last_mut() {
                Some((part, _))
                    if part.ends_with(|l: char| l.is_ascii_digit()) == c.is_ascii_digit() =>
                {
                    part.push(c);
                }
                _ => parts.push((c.to_string(), None)),
            }
        }
        for (part, number) in &mut parts {
            *number = part.parse().ok();
        }
        parts
    };
    let (a, b) = (parts(a), parts(b));
    for (x, y) in a.iter().zip(&b) {
        let order = match (x.1, y.1) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.0.cmp(&y.0),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_by_value() {
        let mut names = ["a100", "b1", "a5", "a20x", "a20"];
        names.sort_by(|a, b| by_number(a, b));
        assert_eq!(names, ["a5", "a20", "a20x", "a100", "b1"]);
    }
}
