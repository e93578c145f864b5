//! The names of columns that a query does not name.

use crate::query::bound::{Column, Expr};
use crate::query::diagnostic::Problem;
use crate::query::function::{self, Naming, aggregate};
use crate::query::syntax::ast::{self, ExprKind, Literal};
use std::collections::HashSet;

/// The name of an expression's column, if the expression implies one.
pub(crate) fn column_name(expr: &ast::Expr) -> Option<String> {
    match &expr.kind {
        ExprKind::Name(name) => Some(name.clone()),
        ExprKind::Member(value, name) => Some(joined(value, &name.text)),
        ExprKind::Index(value, index) => match &index.kind {
            ExprKind::Literal(Literal::String(text)) => Some(joined(value, text)),
            ExprKind::Literal(Literal::Long(Some(number))) => {
                Some(joined(value, &number.to_string()))
            }
            _ => None,
        },
        ExprKind::Call { name, arguments } => {
            let first = arguments.first().map(|argument| &argument.expr);
            if aggregate::NAMES.contains(&name.text.as_str()) {
                let rest: Vec<_> = arguments.iter().skip(1).map(|a| &a.expr).collect();
                return aggregate_name(&name.text, first, &rest);
            }
            match function::find(&name.text)?.naming {
                Naming::Default => None,
                Naming::FirstArgument => column_name(first?),
                Naming::NameAndFirstArgument => {
                    column_name(first?).map(|first| format!("{}_{first}", name.text))
                }
                Naming::PrefixAndFirstArgument(prefix) => {
                    column_name(first?).map(|first| format!("{prefix}_{first}"))
                }
            }
        }
        _ => None,
    }
}

fn joined(value: &ast::Expr, part: &str) -> String {
    match column_name(value) {
        Some(value) => format!("{value}_{part}"),
        None => part.to_owned(),
    }
}

fn aggregate_name(name: &str, first: Option<&ast::Expr>, rest: &[&ast::Expr]) -> Option<String> {
    let argument = first.and_then(column_name).unwrap_or_default();
    match name {
        // The condition does not name the column.
        "countif" => Some("countif_".to_owned()),
        "take_any" | "take_anyif" => {
            Some(first.and_then(column_name).unwrap_or_else(|| unnamed_argument("any", 0)))
        }
        "binary_all_and" | "binary_all_or" | "binary_all_xor" => first.and_then(column_name),
        "argmax" => Some(format!("max_{argument}")),
        "argmin" => Some(format!("min_{argument}")),
        "percentile" | "percentiles" | "percentilew" | "percentilesw" => {
            let percent = rest.last().map(|percent| literal_text(percent)).unwrap_or_default();
            Some(percentile_name(&argument, &percent))
        }
        "make_list" | "make_list_if" | "make_list_with_nulls" | "makelist" => {
            Some(format!("list_{argument}"))
        }
        "make_set" | "make_set_if" | "makeset" => Some(format!("set_{argument}")),
        "make_bag" | "make_bag_if" => Some(format!("bag_{argument}")),
        "make_dictionary" => Some(format!("dictionary_{argument}")),
        "buildschema" => Some(format!("schema_{argument}")),
        "percentiles_array" => Some(format!("percentiles_{argument}")),
        "percentilesw_array" => Some(format!("percentile_{argument}")),
        "merge_tdigest" | "tdigest_merge" => Some(format!("merge_tdigests_{argument}")),
        "covariance" | "covariancep" | "covarianceif" | "covariancepif" => {
            let second = rest.first().and_then(|second| column_name(second)).unwrap_or_default();
            Some(format!("{name}_{argument}_{second}"))
        }
        _ => Some(format!("{name}_{argument}")),
    }
}

/// What an aggregate of several columns calls one that its argument does not name.
pub(crate) fn unnamed_argument(prefix: &str, place: usize) -> String {
    format!("{prefix}_arg{place}")
}

/// `percentile_x_99_9`
pub(crate) fn percentile_name(argument: &str, percent: &str) -> String {
    format!("percentile_{argument}_{}", percent.replace('.', "_"))
}

/// A number as it stands in a column's name.
pub(crate) fn literal_text(expr: &ast::Expr) -> String {
    match &expr.kind {
        ExprKind::Literal(Literal::Real(Some(value))) => value.to_string(),
        ExprKind::Literal(Literal::Long(Some(value))) => value.to_string(),
        ExprKind::Literal(Literal::Int(Some(value))) => value.to_string(),
        _ => String::new(),
    }
}

/// Whether a name fits a pattern in which `*` stands for any text.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Columns in the making, with unique names.
#[derive(Debug, Default)]
pub(crate) struct Items {
    pub(crate) items: Vec<(String, Expr)>,
    names: HashSet<String>,
}

impl Items {
    /// Items that start with columns of the input as they are.
    pub(crate) fn of_columns(columns: &[Column], span: crate::query::syntax::Span) -> Self {
        let mut items = Self::default();
        for column in columns {
            let expr = Expr::column(column.name.clone(), column.kql_type, span);
            items.push(column.name.clone(), expr);
        }
        items
    }

    fn push(&mut self, name: String, expr: Expr) {
        self.names.insert(name.clone());
        self.items.push((name, expr));
    }

    /// Adds a column of a name that the query gives.
    pub(crate) fn add_named(&mut self, name: &ast::Name, expr: Expr) -> Result<(), Problem> {
        if self.names.contains(&name.text) {
            let message = format!("there is a column `{}` already", name.text);
            return Err(Problem::semantic(name.span, message));
        }
        self.push(name.text.clone(), expr);
        Ok(())
    }

    /// Adds a column of an implied name, with the first free number after it if it is taken.
    pub(crate) fn add_implied(&mut self, name: Option<String>, default: &str, expr: Expr) {
        let name = match name {
            Some(name) if !name.is_empty() => self.free(&name),
            _ => self.numbered(default, 1),
        };
        self.push(name, expr);
    }

    /// Puts a column in the place of one of the same name, or adds it.
    pub(crate) fn replace(&mut self, name: &str, expr: Expr) {
        match self.items.iter_mut().find(|(existing, _)| existing == name) {
            Some((_, existing)) => *existing = expr,
            None => self.push(name.to_owned(), expr),
        }
    }

    /// The name itself, or with the first free number after it.
    pub(crate) fn free(&self, name: &str) -> String {
        if self.names.contains(name) { self.numbered(name, 1) } else { name.to_owned() }
    }

    /// The first free number, from `first`, after the name.
    pub(crate) fn numbered(&self, name: &str, first: usize) -> String {
        (first..)
            .map(|number| format!("{name}{number}"))
            .find(|name| !self.names.contains(name))
            .unwrap_or_default()
    }

    /// The columns that the items make.
    pub(crate) fn columns(&self) -> Vec<Column> {
        self.items.iter().map(|(name, expr)| Column::new(name, expr.kql_type)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expect) in [
            ("*", "anything", true),
            ("Perf*", "Perf", true),
            ("Perf*", "Syslog", false),
            ("*_CL", "My_CL", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("plain", "plain", true),
            ("plain", "plainer", false),
        ] {
            assert_eq!(matches(pattern, name), expect, "{pattern} {name}");
        }
    }
}
