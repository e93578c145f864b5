//! `search` and `find`: terms in any column of any table.

use super::combine::union_columns;
use crate::query::bind::{BindResult, Binder, Items, Scope, not};
use crate::query::bound::{Column, Expr, ExprKind, Relation};
use crate::query::diagnostic::Problem;
use crate::query::function::to_text;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{
    self, BinaryOperator, Find, FindColumn, Literal, Name, Search, TextOperator,
};
use crate::query::types::KqlType;
use std::sync::Arc;

/// The column of what `find` packs, until the query's own are chosen.
const REST: &str = "$rest";

impl Binder<'_> {
    /// The rows that hold what is looked for, with the name of their table first.
    pub(crate) fn search(
        &mut self,
        first: Option<Arc<Relation>>,
        search: &Search,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let case = match search.kind.as_ref().map(|kind| kind.text.as_str()) {
            None | Some("default" | "case_insensitive") => false,
            Some("case_sensitive") => true,
            Some(other) => {
                let at = search.kind.as_ref().map_or(span, |kind| kind.span);
                let message = format!("`{other}` is not a kind of search");
                let kinds = ["case_insensitive", "case_sensitive", "default"];
                return Err(self.report(Problem::semantic(at, message).near(other, kinds)));
            }
        };
        let has_source = |first: &Relation| first.columns.iter().any(|of| of.name == "$table");
        let input = match first {
            Some(first) if has_source(&first) => first,
            first => self.all_tables(first, &search.tables, "$table", "search_arg", span)?,
        };
        let columns = without(&input.columns, "$table");
        let predicate = self.search_condition(&search.predicate, &columns, case)?;
        self.filtered(input, predicate, span)
    }

    /// The rows of the tables, or of all there are, with the name of their table first.
    fn all_tables(
        &mut self,
        first: Option<Arc<Relation>>,
        tables: &[ast::Expr],
        source: &str,
        prefix: &str,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let all = [ast::Expr::new(ast::ExprKind::Star("*".to_owned()), span)];
        let tables = if tables.is_empty() && first.is_none() { &all } else { tables };
        let found = self.tables_of(first, tables, false, prefix)?;
        let source = Name { text: source.to_owned(), span };
        self.union_of(found, false, Some(&source), span)
    }

    /// A condition in which a text by itself is a term that any column may have.
    fn search_condition(
        &mut self,
        expr: &ast::Expr,
        columns: &[Column],
        case: bool,
    ) -> BindResult<Expr> {
        let span = expr.span;
        match &expr.kind {
            ast::ExprKind::And(parts) => {
                let parts = self.search_conditions(parts, columns, case)?;
                Ok(Expr::new(ExprKind::And(parts), KqlType::Bool, span))
            }
            ast::ExprKind::Or(parts) => {
                let parts = self.search_conditions(parts, columns, case)?;
                Ok(Expr::new(ExprKind::Or(parts), KqlType::Bool, span))
            }
            ast::ExprKind::Call { name, arguments } if name.text == "not" => {
                match arguments.as_slice() {
                    [argument] => self.search_condition(&argument.expr, columns, case).map(not),
                    _ => self.condition(expr, &mut Scope::rows(columns)),
                }
            }
            ast::ExprKind::Literal(Literal::String(text)) => {
                let (operator, text) = term(text, case);
                self.in_any_column(operator, &Expr::text(text, span), span, columns)
            }
            ast::ExprKind::Star(_) => Ok(Expr::bool(true, span)),
            ast::ExprKind::Binary { operator, left, right } => {
                self.search_binary(expr, *operator, left, right, columns, case)
            }
            _ => self.condition(expr, &mut Scope::rows(columns)),
        }
    }

    fn search_conditions(
        &mut self,
        parts: &[ast::Expr],
        columns: &[Column],
        case: bool,
    ) -> BindResult<Vec<Expr>> {
        let bound: Vec<_> =
            parts.iter().map(|part| self.search_condition(part, columns, case)).collect();
        bound.into_iter().collect()
    }

    /// `column:term`, in which `*` stands for any text, or any other operation.
    fn search_binary(
        &mut self,
        expr: &ast::Expr,
        operator: BinaryOperator,
        left: &ast::Expr,
        right: &ast::Expr,
        columns: &[Column],
        case: bool,
    ) -> BindResult<Expr> {
        let has = BinaryOperator::Text { operator: TextOperator::Has, negated: false };
        let ast::ExprKind::Literal(Literal::String(text)) = &right.kind else {
            return self.condition(expr, &mut Scope::rows(columns));
        };
        if operator != has || !(text.contains('*') || case) {
            return self.condition(expr, &mut Scope::rows(columns));
        }
        let (operator, text) = term(text, case);
        let text = Expr::text(text, right.span);
        if matches!(left.kind, ast::ExprKind::Star(_)) {
            return self.in_any_column(operator, &text, expr.span, columns);
        }
        let left = self.expr(left, &mut Scope::rows(columns))?;
        self.binary_of(operator, left, text, expr.span)
    }

    /// `* operator value`: whether it holds for one of the columns; of a negated operator, for all.
    pub(crate) fn any_column(
        &mut self,
        operator: BinaryOperator,
        value: &ast::Expr,
        span: Span,
        scope: &mut Scope<'_>,
    ) -> BindResult<Expr> {
        let columns = scope.columns();
        let value = self.expr(value, scope)?;
        let BinaryOperator::Text { operator: text, negated: true } = operator else {
            return self.in_any_column(operator, &value, span, columns);
        };
        let operator = BinaryOperator::Text { operator: text, negated: false };
        let found = self.in_any_column(operator, &value, span, columns)?;
        Ok(Expr::new(ExprKind::Not(Box::new(found)), KqlType::Bool, span))
    }

    fn in_any_column(
        &mut self,
        operator: BinaryOperator,
        value: &Expr,
        span: Span,
        columns: &[Column],
    ) -> BindResult<Expr> {
        let text = matches!(operator, BinaryOperator::Text { .. });
        let mut found = Vec::new();
        for column in columns {
            let comparable = column.kql_type == value.kql_type
                || (column.kql_type.is_number() && value.kql_type.is_number());
            let operand = Expr::column(&column.name, column.kql_type, span);
            if text {
                found.push(self.binary_of(operator, to_text(operand), value.clone(), span)?);
            } else if comparable {
                found.push(self.binary_of(operator, operand, value.clone(), span)?);
            }
        }
        if found.is_empty() {
            return Ok(Expr::bool(false, span));
        }
        Ok(Expr::new(ExprKind::Or(found), KqlType::Bool, span))
    }

    /// The rows of several tables that hold what is looked for; what the tables do not have in
    /// common is packed into one column.
    pub(crate) fn find(&mut self, find: &Find, span: Span) -> BindResult<Arc<Relation>> {
        let source = find.source_column.as_ref().map_or("source_", |name| name.text.as_str());
        let all = [ast::Expr::new(ast::ExprKind::Star("*".to_owned()), span)];
        let tables = if find.tables.is_empty() { all.as_slice() } else { &find.tables };
        let tables = self.tables_of(None, tables, false, "find_arg")?;
        let found = self.rows_found(tables, &find.predicate, span)?;
        let shown = shown_columns(&found, find);
        let is_shown = |column: &Column| match &find.project {
            Some(_) => shown.iter().any(|shown| shown.name == column.name),
            None => shown.contains(column),
        };
        let packs = match &find.project {
            Some(project) => project.iter().any(|column| matches!(column, FindColumn::Pack)),
            None => found.iter().any(|(_, table)| table.columns.iter().any(|of| !is_shown(of))),
        };
        let mut packed = Vec::new();
        for (name, table) in found {
            let mut items = Items::of_columns(&table.columns, span);
            self.find_typed(&table, find, &mut items, span)?;
            if packs {
                let rest: Vec<&Column> = table.columns.iter().filter(|of| !is_shown(of)).collect();
                let rest = self.packed(&rest, span)?;
                items.replace(REST, rest);
            }
            packed.push((name, self.projected(table, items, span)?));
        }
        let made = union_columns(&packed, false);
        let name = Name { text: source.to_owned(), span };
        let rows = self.union_of(packed, false, Some(&name), span)?;
        let mut items = Items::default();
        items.replace(source, Expr::column(source, KqlType::String, span));
        match &find.project {
            Some(project) => {
                let columns = without(&rows.columns, source);
                self.find_project(&columns, &made, project, &mut items, span)?;
            }
            None => {
                for (column, _) in made.iter().filter(|(_, from)| shown.contains(from)) {
                    items.replace(&column.name, Expr::column(&column.name, column.kql_type, span));
                }
            }
        }
        if packs {
            items.replace("pack_", Expr::column(REST, KqlType::Dynamic, span));
        }
        self.projected(rows, items, span)
    }

    /// The rows of each table for which the condition holds. A column that only other tables have
    /// is null; a table that has none of those that the condition names is left out.
    fn rows_found(
        &mut self,
        tables: Vec<(String, Arc<Relation>)>,
        predicate: &ast::Expr,
        span: Span,
    ) -> BindResult<Vec<(String, Arc<Relation>)>> {
        let mut named = Vec::new();
        names_in(predicate, &mut named);
        let all = tables.iter().flat_map(|(_, table)| &table.columns);
        let used: Vec<Column> =
            all.filter(|column| named.contains(&column.name)).cloned().collect();
        let (mut found, mut problems) = (Vec::new(), None);
        for (name, table) in tables {
            let has = |name: &str| table.columns.iter().any(|of| of.name == name);
            if !used.is_empty() && !used.iter().any(|column| has(&column.name)) {
                continue;
            }
            let mut items = Items::of_columns(&table.columns, span);
            for column in used.iter().filter(|column| !has(&column.name)) {
                items.replace(&column.name, Expr::null(column.kql_type, span));
            }
            let columns = table.columns.clone();
            let wide = self.projected(table, items, span)?;
            // What is no condition for the type that one table has can be one for another's.
            let bound = self.attempt(|binder| {
                let condition = binder.search_condition(predicate, &wide.columns, false)?;
                binder.filtered(Arc::clone(&wide), condition, span)
            })?;
            match bound {
                Ok(rows) => {
                    let rows = self.projected(rows, Items::of_columns(&columns, span), span)?;
                    found.push((name, rows));
                }
                Err(wrong) => problems = problems.or(Some(wrong)),
            }
        }
        match problems {
            Some(problems) if found.is_empty() => Err(self.report_all(problems)),
            _ => Ok(found),
        }
    }

    /// The columns of a table that `project` names, in the types that it gives them.
    fn find_typed(
        &mut self,
        table: &Relation,
        find: &Find,
        items: &mut Items,
        span: Span,
    ) -> BindResult<()> {
        for wanted in find.project.iter().flatten() {
            let FindColumn::Column { name, kql_type: Some(kql_type) } = wanted else { continue };
            if let Some(column) = table.columns.iter().find(|of| of.name == name.text) {
                let wanted = self.kql_type(kql_type)?;
                let value = Expr::column(&column.name, column.kql_type, span);
                let value = self.converted(value, wanted)?;
                items.replace(&column.name, value);
            }
        }
        Ok(())
    }

    fn find_project(
        &mut self,
        columns: &[Column],
        made: &[(Column, Column)],
        project: &[FindColumn],
        items: &mut Items,
        span: Span,
    ) -> BindResult<()> {
        for wanted in project {
            let FindColumn::Column { name, kql_type } = wanted else { continue };
            let there = columns.iter().find(|column| column.name == name.text);
            let types = made.iter().filter(|(_, from)| from.name == name.text).count();
            if types > 1 {
                let message = format!("`{}` has several types; `project` says which", name.text);
                return Err(self.report(Problem::semantic(name.span, message)));
            }
            let value = match (there, kql_type) {
                (Some(column), None) => Expr::column(&column.name, column.kql_type, span),
                (Some(column), Some(kql_type)) => {
                    let wanted = self.kql_type(kql_type)?;
                    let value = Expr::column(&column.name, column.kql_type, span);
                    self.converted(value, wanted)?
                }
                (None, Some(kql_type)) => Expr::null(self.kql_type(kql_type)?, span),
                (None, None) => Expr::null(KqlType::String, span),
            };
            self.checked(items.add_named(name, value))?;
        }
        Ok(())
    }

    /// The columns in one bag.
    pub(crate) fn packed(&mut self, columns: &[&Column], span: Span) -> BindResult<Expr> {
        let arguments = columns.iter().flat_map(|column| {
            [
                Expr::text(column.name.as_str(), span),
                Expr::column(&column.name, column.kql_type, span),
            ]
        });
        self.call_built_in("bag_pack", arguments.collect())
    }
}

/// What `project` chooses, or else the columns that the condition names and those of all tables.
fn shown_columns(found: &[(String, Arc<Relation>)], find: &Find) -> Vec<Column> {
    if let Some(project) = &find.project {
        let chosen = project.iter().filter_map(|column| match column {
            FindColumn::Column { name, .. } => Some(Column::new(&name.text, KqlType::Dynamic)),
            FindColumn::Pack => None,
        });
        return chosen.collect();
    }
    let mut named = Vec::new();
    names_in(&find.predicate, &mut named);
    let mut shown: Vec<Column> = Vec::new();
    for column in found.iter().flat_map(|(_, table)| &table.columns) {
        let in_all = found.iter().all(|(_, table)| table.columns.contains(column));
        if (in_all || named.contains(&column.name)) && !shown.contains(column) {
            shown.push(column.clone());
        }
    }
    shown
}

fn without(columns: &[Column], name: &str) -> Vec<Column> {
    columns.iter().filter(|column| column.name != name).cloned().collect()
}

/// Which operator finds a term, in which `*` stands for any text.
fn term(text: &str, case: bool) -> (BinaryOperator, String) {
    use TextOperator as T;
    let inner = text.trim_matches('*');
    let (before, after) = (text.starts_with('*'), text.ends_with('*'));
    let (operator, text) = if inner.contains('*') {
        let parts: Vec<String> = text.split('*').map(quoted).collect();
        let flags = if case { "" } else { "(?i)" };
        let edge = |open: bool| if open { "" } else { r"\b" };
        let pattern = format!("{flags}{}{}{}", edge(before), parts.join(".*"), edge(after));
        (T::MatchesRegex, pattern)
    } else {
        let operator = match (before, after, case) {
            (true, true, false) => T::Contains,
            (true, true, true) => T::ContainsCase,
            (false, true, false) => T::HasPrefix,
            (false, true, true) => T::HasPrefixCase,
            (true, false, false) => T::HasSuffix,
            (true, false, true) => T::HasSuffixCase,
            (false, false, false) => T::Has,
            (false, false, true) => T::HasCase,
        };
        (operator, inner.to_owned())
    };
    (BinaryOperator::Text { operator, negated: false }, text)
}

/// The text as a regular expression for itself.
fn quoted(text: &str) -> String {
    text.chars().fold(String::new(), |mut all, c| {
        if !c.is_alphanumeric() && c != '_' && c.is_ascii() {
            all.push('\\');
        }
        all.push(c);
        all
    })
}

/// The names in an expression.
fn names_in(expr: &ast::Expr, names: &mut Vec<String>) {
    match &expr.kind {
        ast::ExprKind::Name(name) => names.push(name.clone()),
        ast::ExprKind::Call { arguments, .. } => {
            arguments.iter().for_each(|argument| names_in(&argument.expr, names));
        }
        ast::ExprKind::Negate(inner) | ast::ExprKind::Member(inner, _) => names_in(inner, names),
        ast::ExprKind::Binary { left, right, .. } | ast::ExprKind::Index(left, right) => {
            names_in(left, names);
            names_in(right, names);
        }
        ast::ExprKind::And(parts) | ast::ExprKind::Or(parts) => {
            parts.iter().for_each(|part| names_in(part, names));
        }
        ast::ExprKind::List { value, list, .. } => {
            names_in(value, names);
            list.iter().for_each(|item| names_in(item, names));
        }
        ast::ExprKind::Between { value, low, high, .. } => {
            [value, low, high].into_iter().for_each(|part| names_in(part, names));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(text: &str, case: bool) -> (String, String) {
        let (operator, text) = term(text, case);
        (operator.symbol(), text)
    }

    #[test]
    fn stars_choose_the_operator() {
        let found = |operator: &str, text: &str| (operator.to_owned(), text.to_owned());
        assert_eq!(symbol("err", false), found("has", "err"));
        assert_eq!(symbol("err*", false), found("hasprefix", "err"));
        assert_eq!(symbol("*err", true), found("hassuffix_cs", "err"));
        assert_eq!(symbol("*e.r*", false), found("contains", "e.r"));
        assert_eq!(symbol("a*b", false), found("matches regex", r"(?i)\ba.*b\b"));
    }
}
