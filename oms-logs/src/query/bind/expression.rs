//! Expressions: names, types, constants folded.

use super::{BindResult, Binder, Failed, LetValue};
use crate::query::bound::{Aggregate, Column, Comparison, Expr, ExprKind, Relation};
use crate::query::diagnostic::Problem;
use crate::query::dynamic::View;
use crate::query::function::{self, Call, Parameter, aggregate, coerce, common_type, operator};
use crate::query::operator::window::{self, WindowCall};
use crate::query::plan;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, BinaryOperator, ListOperator, Literal};
use crate::query::types::KqlType;
use datafusion::scalar::ScalarValue;

/// What the names of an expression can stand for.
#[derive(Debug)]
pub(crate) struct Scope<'s> {
    columns: &'s [Column],
    groups: Groups,
    windows: Windows,
}

/// Whether window functions have a place, and those that were found.
#[derive(Debug)]
enum Windows {
    Closed,
    /// The rows have no order to go by.
    Unordered,
    Open(Vec<WindowCall>),
}

#[derive(Debug)]
enum Groups {
    /// Rows: aggregates have no place.
    Rows,
    /// Groups: aggregates are collected, and other names of columns have no place.
    Outer(Vec<(String, Aggregate)>),
}

impl<'s> Scope<'s> {
    /// No columns.
    pub(crate) const fn constants() -> Self {
        Self { columns: &[], groups: Groups::Rows, windows: Windows::Closed }
    }

    /// The columns of each row.
    pub(crate) const fn rows(columns: &'s [Column]) -> Self {
        Self { columns, groups: Groups::Rows, windows: Windows::Closed }
    }

    /// The columns of each row of a table, and window functions if the table has an order.
    pub(crate) fn table(table: &'s Relation) -> Self {
        let windows =
            if table.is_serialized() { Windows::Open(Vec::new()) } else { Windows::Unordered };
        Self { columns: &table.columns, groups: Groups::Rows, windows }
    }

    /// The calls of window functions that were found.
    pub(crate) fn into_windows(self) -> Vec<WindowCall> {
        match self.windows {
            Windows::Open(calls) => calls,
            Windows::Closed | Windows::Unordered => Vec::new(),
        }
    }

    /// The columns that names stand for.
    pub(crate) const fn columns(&self) -> &'s [Column] {
        self.columns
    }

    /// Aggregates over the columns of each group's rows; `first` are there already.
    pub(crate) const fn groups(columns: &'s [Column], first: Vec<(String, Aggregate)>) -> Self {
        Self { columns, groups: Groups::Outer(first), windows: Windows::Closed }
    }

    /// The aggregates that were collected.
    pub(crate) fn into_aggregates(self) -> Vec<(String, Aggregate)> {
        match self.groups {
            Groups::Outer(aggregates) => aggregates,
            Groups::Rows => Vec::new(),
        }
    }

    pub(crate) fn aggregate_count(&self) -> usize {
        match &self.groups {
            Groups::Outer(aggregates) => aggregates.len(),
            Groups::Rows => 0,
        }
    }

    pub(crate) fn add_aggregates(&mut self, more: Vec<(String, Aggregate)>) {
        if let Groups::Outer(aggregates) = &mut self.groups {
            aggregates.extend(more);
        }
    }
}

impl Binder<'_> {
    /// Binds an expression; one of constants becomes a constant.
    pub(crate) fn expr(&mut self, expr: &ast::Expr, scope: &mut Scope<'_>) -> BindResult<Expr> {
        self.count_expression(expr.span)?;
        let bound = self.unfolded(expr, scope)?;
        self.fold(bound)
    }

    fn fold(&mut self, expr: Expr) -> BindResult<Expr> {
        if !expr.is_foldable() {
            return Ok(expr);
        }
        match plan::evaluate(&expr) {
            Ok(value) => Ok(Expr::constant(value, expr.kql_type, expr.span)),
            Err(error) => {
                let message = error.strip_backtrace();
                let message = message.split(": ").last().unwrap_or_default().to_owned();
                Err(self.report(Problem::semantic(expr.span, message)))
            }
        }
    }

    /// Binds an expression that must be a bool.
    pub(crate) fn condition(
        &mut self,
        expr: &ast::Expr,
        scope: &mut Scope<'_>,
    ) -> BindResult<Expr> {
        let bound = self.expr(expr, scope)?;
        match bound.kql_type {
            KqlType::Bool => return Ok(bound),
            KqlType::Dynamic => return self.converted(bound, KqlType::Bool),
            _ => {}
        }
        let message = format!("expected a bool, found {}", bound.kql_type);
        Err(self.report(Problem::semantic(expr.span, message)))
    }

    /// Binds all, and fails after the last if one failed.
    pub(crate) fn exprs<'e>(
        &mut self,
        exprs: impl IntoIterator<Item = &'e ast::Expr>,
        scope: &mut Scope<'_>,
    ) -> BindResult<Vec<Expr>> {
        let bound: Vec<_> = exprs.into_iter().map(|expr| self.expr(expr, scope)).collect();
        bound.into_iter().collect()
    }

    fn unfolded(&mut self, expr: &ast::Expr, scope: &mut Scope<'_>) -> BindResult<Expr> {
        let span = expr.span;
        match &expr.kind {
            ast::ExprKind::Literal(literal) => Ok(constant(literal, span)),
            ast::ExprKind::Name(name) => self.name(name, span, scope),
            ast::ExprKind::Call { name, arguments } => self.call(name, arguments, span, scope),
            ast::ExprKind::Negate(inner) => {
                let inner = self.expr(inner, scope)?;
                self.checked(operator::negate(inner, span))
            }
            ast::ExprKind::Binary { operator, left, right } => {
                self.binary(*operator, left, right, span, scope)
            }
            ast::ExprKind::And(parts) => {
                Ok(Expr::new(ExprKind::And(self.conditions(parts, scope)?), KqlType::Bool, span))
            }
            ast::ExprKind::Or(parts) => {
                Ok(Expr::new(ExprKind::Or(self.conditions(parts, scope)?), KqlType::Bool, span))
            }
            ast::ExprKind::List { operator, negated, value, list } => {
                let bound = self.list(*operator, value, list, span, scope)?;
                Ok(if *negated { not(bound) } else { bound })
            }
            ast::ExprKind::Between { negated, value, low, high } => {
                let bound = self.exprs([&**value, &**low, &**high], scope)?;
                let [value, low, high] = <[Expr; 3]>::try_from(bound).map_err(|_| Failed)?;
                let bound = self.checked(operator::between(value, low, high, span))?;
                Ok(if *negated { not(bound) } else { bound })
            }
            ast::ExprKind::Member(base, part) if member_column(base, part, scope).is_some() => {
                match member_column(base, part, scope) {
                    Some(column) => Ok(Expr::column(&column.name, column.kql_type, span)),
                    None => Err(Failed),
                }
            }
            ast::ExprKind::Member(value, name) => {
                let value = self.expr(value, scope)?;
                let key = Expr::text(name.text.as_str(), name.span);
                self.checked(function::dynamic::part(value, key, span))
            }
            ast::ExprKind::Index(value, index) => {
                let both = self.exprs([&**value, &**index], scope)?;
                let [value, index] = <[Expr; 2]>::try_from(both).map_err(|_| Failed)?;
                self.checked(function::dynamic::part(value, index, span))
            }
            ast::ExprKind::Columns(..) => {
                let message = "names for several columns stand only before a column";
                Err(self.report(Problem::semantic(span, message)))
            }
            ast::ExprKind::Star(_) => {
                Err(self.report(Problem::unsupported(span, "* as an operand")))
            }
            ast::ExprKind::Pipeline(_) => {
                Err(self.report(Problem::semantic(span, "expected a value, found a table")))
            }
            ast::ExprKind::Function(_) => {
                Err(self.report(Problem::semantic(span, "expected a value, found a function")))
            }
        }
    }

    fn conditions(&mut self, parts: &[ast::Expr], scope: &mut Scope<'_>) -> BindResult<Vec<Expr>> {
        let bound: Vec<_> = parts.iter().map(|part| self.condition(part, scope)).collect();
        bound.into_iter().collect()
    }

    fn name(&mut self, name: &str, span: Span, scope: &Scope<'_>) -> BindResult<Expr> {
        if let Some(column) = scope.columns.iter().find(|column| column.name == name) {
            if matches!(scope.groups, Groups::Outer(_)) {
                let message = format!("column `{name}` must stand in an aggregate here");
                return Err(self.report(Problem::semantic(span, message)));
            }
            return Ok(Expr::column(name, column.kql_type, span));
        }
        match self.lets.get(name) {
            Some(LetValue::Scalar(value)) => Ok(Expr { span, ..value.clone() }),
            Some(LetValue::Broken) => Err(Failed),
            Some(LetValue::OfRow) => {
                let message = format!(
                    "`{name}` is a value of a row, which a sub-query that is run before cannot use"
                );
                Err(self.report(Problem::semantic(span, message)))
            }
            // A function that takes nothing is called by its name alone too.
            Some(LetValue::Function(_)) => {
                let name = ast::Name { text: name.to_owned(), span };
                self.call_defined(&name, &[], span, &mut Scope::constants())
            }
            Some(LetValue::Graph(_)) => {
                let message = format!("`{name}` is a graph, and a value is needed");
                Err(self.report(Problem::semantic(span, message)))
            }
            Some(LetValue::Table(_)) => {
                let message = format!("`{name}` is a table, and a value is needed");
                Err(self.report(Problem::semantic(span, message)))
            }
            None => {
                let lets: Vec<String> = self.lets.keys().cloned().collect();
                let columns = scope.columns.iter().map(|column| column.name.as_str());
                let known = columns.chain(lets.iter().map(String::as_str));
                let problem = Problem::semantic(span, format!("no column `{name}`"));
                Err(self.report(problem.near(name, known)))
            }
        }
    }

    fn call(
        &mut self,
        name: &ast::Name,
        arguments: &[ast::NamedExpr],
        span: Span,
        scope: &mut Scope<'_>,
    ) -> BindResult<Expr> {
        if self.function(&name.text).is_some() {
            return self.call_defined(name, arguments, span, scope);
        }
        if let Some(named) = arguments.iter().find_map(|argument| argument.name.as_ref()) {
            return Err(self.report(Problem::unsupported(named.span, "a named argument")));
        }
        let exprs = arguments.iter().map(|argument| &argument.expr);
        let text = name.text.as_str();
        let rows = matches!(scope.groups, Groups::Rows);
        if aggregate::NAMES.contains(&text)
            && !aggregate::SEVERAL.contains(&text)
            && !(rows && aggregate::SCALARS_TOO.contains(&text))
        {
            if rows {
                let message = format!("`{text}` is an aggregate; its place is in `summarize`");
                return Err(self.report(Problem::semantic(name.span, message)));
            }
            let arguments = self.exprs(exprs, &mut Scope::rows(scope.columns))?;
            return self.aggregate(text, span, arguments, scope);
        }
        if let Some(bound) = self.intrinsic(name, arguments, span, scope) {
            return bound;
        }
        if let Some(bound) = self.call_of_scope(name, arguments, span, scope) {
            return bound;
        }
        if text == "toscalar" {
            return self.scalar_call(arguments, span);
        }
        if window::NAMES.contains(&text) {
            return self.window(name, exprs, span, scope);
        }
        let Some(function) = function::find(text) else {
            return Err(self.unknown_function(name));
        };
        let arguments = self.exprs(exprs, scope)?;
        self.checked(function.bind(&Call { name: text, span, now: self.now }, arguments))
    }

    /// The value of a function that the query defines.
    fn call_defined(
        &mut self,
        name: &ast::Name,
        arguments: &[ast::NamedExpr],
        span: Span,
        scope: &mut Scope<'_>,
    ) -> BindResult<Expr> {
        match self.call_named(&name.text, arguments, None, scope, span)? {
            LetValue::Scalar(value) => Ok(Expr { span, ..value }),
            LetValue::Table(_) | LetValue::Graph(_) | LetValue::Function(_) => {
                let message = format!("`{}` is a table, and a value is needed", name.text);
                Err(self.report(Problem::semantic(span, message)))
            }
            LetValue::Broken | LetValue::OfRow => Err(Failed),
        }
    }

    fn aggregate(
        &mut self,
        name: &str,
        span: Span,
        arguments: Vec<Expr>,
        scope: &mut Scope<'_>,
    ) -> BindResult<Expr> {
        let first = scope.aggregate_count();
        let maker = aggregate::Maker { name, span, first, aggregates: Vec::new() };
        let bound = self.checked(maker.bind(arguments))?;
        scope.add_aggregates(bound.aggregates);
        Ok(bound.value)
    }

    fn window<'e>(
        &mut self,
        name: &ast::Name,
        arguments: impl IntoIterator<Item = &'e ast::Expr>,
        span: Span,
        scope: &mut Scope<'_>,
    ) -> BindResult<Expr> {
        match scope.windows {
            Windows::Open(_) => {}
            Windows::Closed => {
                let message = format!("`{}` has no place here", name.text);
                return Err(self.report(Problem::semantic(name.span, message)));
            }
            Windows::Unordered => {
                let message =
                    format!("`{}` needs rows in an order; sort or serialize them first", name.text);
                return Err(self.report(Problem::semantic(name.span, message)));
            }
        }
        let arguments = self.exprs(arguments, scope)?;
        let Windows::Open(calls) = &mut scope.windows else { return Err(Failed) };
        let call = WindowCall::bind(&name.text, arguments, calls, span);
        let call = self.checked(call)?;
        let column = Expr::column(&call.column.name, call.column.kql_type, span);
        if let Windows::Open(calls) = &mut scope.windows {
            calls.push(call);
        }
        Ok(column)
    }

    fn unknown_function(&mut self, name: &ast::Name) -> Failed {
        let text = name.text.as_str();
        if aggregate::SEVERAL.contains(&text) {
            let message = format!("`{text}` makes several columns and stands alone in `summarize`");
            return self.report(Problem::semantic(name.span, message));
        }
        if text == "materialize"
            || function::known::NAMES.contains(&text)
            || aggregate::UNSUPPORTED.contains(&text)
        {
            return self.report(Problem::unsupported(name.span, format!("{text}()")));
        }
        let known = function::names().chain(aggregate::NAMES);
        let problem = Problem::semantic(name.span, format!("no function `{text}`"));
        self.report(problem.near(text, known))
    }

    fn binary(
        &mut self,
        operator: BinaryOperator,
        left: &ast::Expr,
        right: &ast::Expr,
        span: Span,
        scope: &mut Scope<'_>,
    ) -> BindResult<Expr> {
        if let ast::ExprKind::Star(_) = &left.kind {
            return self.any_column(operator, right, span, scope);
        }
        let both = self.exprs([left, right], scope)?;
        let [left, right] = <[Expr; 2]>::try_from(both).map_err(|_| Failed)?;
        self.binary_of(operator, left, right, span)
    }

    /// An operation of bound operands.
    pub(crate) fn binary_of(
        &mut self,
        operator: BinaryOperator,
        left: Expr,
        right: Expr,
        span: Span,
    ) -> BindResult<Expr> {
        let comparison = match operator {
            BinaryOperator::Text { operator, negated } => {
                let arguments = self.checked(texts([left, right], operator.symbol()))?;
                if operator == ast::TextOperator::MatchesRegex {
                    self.checked(function::check_pattern(&arguments, 1))?;
                }
                let kernel = function::text_kernel(operator);
                let name = operator.symbol();
                let bound = function::call(name, kernel, arguments, KqlType::Bool, span);
                return Ok(if negated { not(bound) } else { bound });
            }
            BinaryOperator::Equal => Comparison::Equal,
            BinaryOperator::NotEqual => Comparison::NotEqual,
            BinaryOperator::Less => Comparison::Less,
            BinaryOperator::LessOrEqual => Comparison::LessOrEqual,
            BinaryOperator::Greater => Comparison::Greater,
            BinaryOperator::GreaterOrEqual => Comparison::GreaterOrEqual,
            _ => return self.checked(operator::arithmetic(operator, left, right, span)),
        };
        self.checked(operator::compare(comparison, left, right, span))
    }

    fn list(
        &mut self,
        operator: ListOperator,
        value: &ast::Expr,
        list: &[ast::Expr],
        span: Span,
        scope: &mut Scope<'_>,
    ) -> BindResult<Expr> {
        let value = self.expr(value, scope)?;
        let mut items = Vec::new();
        for item in list {
            if self.is_table(item, scope) {
                let relation = self.outside_rows(|binder| binder.table(item))?;
                items.extend(self.values_of(relation, item.span)?);
            } else {
                items.push(self.expr(item, scope)?);
            }
        }
        if operator == ListOperator::In {
            return self.is_in_list(&value, items, span);
        }
        if items.iter().any(|item| item.as_constant().is_none()) {
            return self.checked(in_computed_list(operator, value, items, span));
        }
        let items = self.checked(flatten(items, operator.symbol()))?;
        let mut arguments = vec![value];
        arguments.extend(items);
        let arguments = self.checked(texts(arguments, operator.symbol()))?;
        let kernel = function::list_kernel(operator);
        Ok(function::call(operator.symbol(), kernel, arguments, KqlType::Bool, span))
    }

    /// Calls that depend on what columns there are.
    fn call_of_scope(
        &mut self,
        name: &ast::Name,
        arguments: &[ast::NamedExpr],
        span: Span,
        scope: &mut Scope<'_>,
    ) -> Option<BindResult<Expr>> {
        let exprs: Vec<&ast::Expr> = arguments.iter().map(|argument| &argument.expr).collect();
        match (name.text.as_str(), exprs.as_slice()) {
            ("pack_all", _) => {
                let bound = self.exprs(exprs, &mut Scope::constants());
                Some(bound.and_then(|bound| {
                    self.checked(function::dynamic::pack_all(scope.columns, &bound, span))
                }))
            }
            ("pack_array", [ast::Expr { kind: ast::ExprKind::Star(_), .. }]) => {
                let columns = scope.columns.iter();
                let columns =
                    columns.map(|c| Expr::column(c.name.clone(), c.kql_type, span)).collect();
                let function = function::find("pack_array")?;
                let call = Call { name: "pack_array", span, now: self.now };
                Some(self.checked(function.bind(&call, columns)))
            }
            ("column_ifexists" | "columnifexists", [column, default]) => {
                let column = match self.expr(column, &mut Scope::constants()) {
                    Ok(column) => column,
                    Err(failed) => return Some(Err(failed)),
                };
                let known = column
                    .as_text()
                    .map(|text| scope.columns.iter().find(|column| column.name == text).cloned());
                Some(match known {
                    Some(Some(column)) => self.name(&column.name, span, scope),
                    Some(None) => self.expr(default, scope),
                    None => {
                        let message = "`column_ifexists` takes a column's name as a string";
                        Err(self.report(Problem::semantic(span, message)))
                    }
                })
            }
            _ => None,
        }
    }

    /// The columns of an item of a list of columns: one, or those of a call that makes several.
    pub(crate) fn item(
        &mut self,
        item: &ast::NamedExpr,
        scope: &mut Scope<'_>,
    ) -> BindResult<Vec<Made>> {
        let (names, expr) = match &item.expr.kind {
            ast::ExprKind::Columns(names, call) => (names.clone(), &**call),
            _ => (item.name.iter().cloned().collect(), &item.expr),
        };
        let several = match &expr.kind {
            ast::ExprKind::Call { name, arguments } => function::find(&name.text)
                .filter(|function| function.is_several())
                .map(|function| (function, name, arguments)),
            _ => None,
        };
        let mut names = names.into_iter();
        let Some((function, name, arguments)) = several else {
            let value = self.expr(expr, scope)?;
            // `column_ifexists` is the column that it comes to, with its name.
            let implied = super::column_name(expr).or_else(|| match (&expr.kind, &value.kind) {
                (ast::ExprKind::Call { name: call, .. }, ExprKind::Column(name))
                    if matches!(call.text.as_str(), "column_ifexists" | "columnifexists") =>
                {
                    Some(name.clone())
                }
                _ => None,
            });
            let made = Made { name: names.next(), implied, expr: value };
            return match names.next() {
                None => Ok(vec![made]),
                Some(extra) => Err(self.report(no_column_for(&extra))),
            };
        };
        self.count_expression(expr.span)?;
        let implied: Vec<_> = arguments.iter().map(|a| super::column_name(&a.expr)).collect();
        let bound = self.exprs(arguments.iter().map(|argument| &argument.expr), scope)?;
        let call = Call { name: &name.text, span: expr.span, now: self.now };
        let several = self.checked(function.bind_several(&call, bound, &implied))?;
        let mut columns = Vec::new();
        for (implied, value) in several.columns {
            let implied = Some(implied).filter(|implied| !implied.is_empty());
            columns.push(Made { name: names.next(), implied, expr: self.fold(value)? });
        }
        if item.name.is_some() {
            // A name alone, without parentheses, is for the first column and leaves out the rest.
            columns.truncate(1);
        }
        match names.next() {
            None => Ok(columns),
            Some(extra) => Err(self.report(no_column_for(&extra))),
        }
    }

    /// `value in (items)`, of which some may be computed, and arrays stand for their items.
    fn is_in_list(&mut self, value: &Expr, items: Vec<Expr>, span: Span) -> BindResult<Expr> {
        if value.kql_type == KqlType::Dynamic {
            let mut parts = Vec::new();
            for item in items {
                let list = item.kql_type == KqlType::Dynamic;
                let part = if list {
                    function::dynamic::is_in_array(value.clone(), item, span)
                } else {
                    self.checked(operator::compare(Comparison::Equal, value.clone(), item, span))?
                };
                parts.push(part);
            }
            return Ok(Expr::new(ExprKind::Or(parts), KqlType::Bool, span));
        }
        let (constant, computed): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| item.as_constant().is_some());
        let constant = self.checked(flatten(constant, "in"))?;
        let mut parts = Vec::new();
        if !constant.is_empty() || computed.is_empty() {
            parts.push(self.checked(is_in(value.clone(), constant, span))?);
        }
        for item in computed {
            parts.push(if item.kql_type == KqlType::Dynamic {
                function::dynamic::is_in_array(value.clone(), item, span)
            } else {
                self.checked(operator::compare(Comparison::Equal, value.clone(), item, span))?
            });
        }
        match (parts.pop(), parts.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                parts.push(last);
                Ok(Expr::new(ExprKind::Or(parts), KqlType::Bool, span))
            }
            (None, _) => Ok(Expr::bool(false, span)),
        }
    }

    fn is_table(&self, expr: &ast::Expr, scope: &Scope<'_>) -> bool {
        match &expr.kind {
            ast::ExprKind::Pipeline(_) => true,
            ast::ExprKind::Name(name) => {
                !scope.columns.iter().any(|column| column.name == *name)
                    && match self.lets.get(name) {
                        Some(value) => {
                            matches!(value, LetValue::Table(_) | LetValue::Function(_))
                        }
                        None => self.source.table(name).is_some(),
                    }
            }
            ast::ExprKind::Call { name, .. } => {
                let body = self.function(&name.text).map(|function| &function.body);
                let last = body.and_then(|body| body.statements.last());
                let table = |last: &ast::Statement| match last {
                    ast::Statement::Ask(last) => {
                        matches!(last.kind, ast::ExprKind::Pipeline(_))
                    }
                    _ => false,
                };
                last.is_some_and(table) || matches!(name.text.as_str(), "materialize" | "table")
            }
            _ => false,
        }
    }
}

/// A column in the making.
#[derive(Debug)]
pub(crate) struct Made {
    /// The name that the query gives.
    pub(crate) name: Option<ast::Name>,
    /// The name that its expression implies.
    pub(crate) implied: Option<String>,
    pub(crate) expr: Expr,
}

fn no_column_for(name: &ast::Name) -> Problem {
    Problem::semantic(name.span, format!("there is no column for the name `{}`", name.text))
}

/// The column that `base.part` stands for where `base` is a step of a scan or a part of a graph.
fn member_column<'s>(base: &ast::Expr, part: &ast::Name, scope: &Scope<'s>) -> Option<&'s Column> {
    let ast::ExprKind::Name(base) = &base.kind else { return None };
    let name = of_part(base, &part.text);
    scope.columns.iter().find(|column| column.name == name)
}

/// The column of a scope for the column of a step of a scan or of a part of a graph.
pub(crate) fn of_part(part: &str, column: &str) -> String {
    format!("$of.{part}.{column}")
}

pub(crate) fn not(expr: Expr) -> Expr {
    let span = expr.span;
    Expr::new(ExprKind::Not(Box::new(expr)), KqlType::Bool, span)
}

fn texts(operands: impl IntoIterator<Item = Expr>, operator: &str) -> Result<Vec<Expr>, Problem> {
    operands.into_iter().map(|operand| coerce(operand, Parameter::Text, operator)).collect()
}

/// An operator with a list of which some items are not constants.
fn in_computed_list(
    operator: ListOperator,
    value: Expr,
    items: Vec<Expr>,
    span: Span,
) -> Result<Expr, Problem> {
    let text = |operand| coerce(operand, Parameter::Text, operator.symbol());
    let mut arguments = vec![text(value)?];
    for item in items {
        let list = item.kql_type == KqlType::Dynamic;
        arguments.push(if list { item } else { text(item)? });
    }
    let name = match operator {
        ListOperator::In | ListOperator::InAnyCase => "in_computed",
        ListOperator::HasAny => "has_any_computed",
        ListOperator::HasAll => "has_all_computed",
    };
    let kernel = function::computed_list_kernel(operator);
    Ok(function::call(name, kernel, arguments, KqlType::Bool, span))
}

/// Lists in the place of items become their items. All must be constants.
pub(crate) fn flatten(items: Vec<Expr>, operator: &str) -> Result<Vec<Expr>, Problem> {
    let mut flat = Vec::new();
    for item in items {
        let span = item.span;
        let Some(value) = item.as_constant() else {
            return Err(Problem::unsupported(
                span,
                format!("{operator} with a computed list item"),
            ));
        };
        if item.kql_type != KqlType::Dynamic {
            flat.push(item);
            continue;
        }
        let ScalarValue::BinaryView(Some(bytes)) = value else { continue };
        match View::of(bytes) {
            View::Array(items) => {
                flat.extend(items.iter().map(|item| of_view(View::of(item), span)));
            }
            other => flat.push(of_view(other, span)),
        }
    }
    Ok(flat)
}

/// A member of a dynamic list as a constant of its own type.
fn of_view(value: View<'_>, span: Span) -> Expr {
    match value {
        View::Bool(value) => Expr::bool(value, span),
        View::Long(value) => Expr::long(value, span),
        View::Real(value) => Expr::constant(ScalarValue::Float64(Some(value)), KqlType::Real, span),
        View::DateTime(ticks) => Expr { kql_type: KqlType::DateTime, ..Expr::long(ticks, span) },
        View::TimeSpan(ticks) => Expr { kql_type: KqlType::TimeSpan, ..Expr::long(ticks, span) },
        other => Expr::text(function::text_of_dynamic(other), span),
    }
}

/// `value in (items)`; items of other types equal nothing, and so do nulls.
fn is_in(value: Expr, items: Vec<Expr>, span: Span) -> Result<Expr, Problem> {
    if value.kql_type == KqlType::Dynamic {
        return Err(Problem::unsupported(span, format!("in for {}", value.kql_type)));
    }
    let mut kept = Vec::new();
    let mut kql_type = value.kql_type;
    for item in &items {
        if let Some(common) = common_type([kql_type, item.kql_type]) {
            kql_type = common;
        } else if kql_type != KqlType::Guid || item.kql_type != KqlType::String {
            let message = format!("{} and {} cannot be compared", value.kql_type, item.kql_type);
            return Err(Problem::semantic(item.span, message));
        }
    }
    let value = function::cast(value, kql_type);
    if kql_type == KqlType::Decimal {
        // One decimal can be written in several ways.
        let equal = |item| operator::compare(Comparison::Equal, value.clone(), item, span);
        let parts = items.into_iter().map(equal).collect::<Result<Vec<_>, _>>()?;
        return Ok(Expr::new(ExprKind::Or(parts), KqlType::Bool, span));
    }
    for item in items {
        let item = if item.kql_type == kql_type || kql_type == KqlType::Guid {
            item
        } else {
            function::cast(item, kql_type)
        };
        let constant = match item.as_constant() {
            Some(constant) => constant.clone(),
            None => plan::evaluate(&item)
                .map_err(|error| Problem::semantic(item.span, error.strip_backtrace()))?,
        };
        if !constant.is_null() {
            kept.push(constant);
        }
    }
    let kind = ExprKind::In { value: Box::new(value), items: kept };
    Ok(Expr::new(kind, KqlType::Bool, span))
}

/// The constant of a literal.
pub(crate) fn constant(literal: &Literal, span: Span) -> Expr {
    let (value, kql_type) = match literal {
        Literal::Bool(value) => (ScalarValue::Boolean(*value), KqlType::Bool),
        Literal::Int(value) => (ScalarValue::Int32(*value), KqlType::Int),
        Literal::Long(value) => (ScalarValue::Int64(*value), KqlType::Long),
        Literal::Real(value) => (ScalarValue::Float64(*value), KqlType::Real),
        Literal::String(text) => return Expr::text(text.as_str(), span),
        Literal::DateTime(ticks) => (ScalarValue::Int64(*ticks), KqlType::DateTime),
        Literal::TimeSpan(ticks) => (ScalarValue::Int64(*ticks), KqlType::TimeSpan),
        Literal::Guid(value) => {
            (ScalarValue::Utf8View(value.map(|guid| guid.to_string())), KqlType::Guid)
        }
        Literal::Decimal(value) => (ScalarValue::Utf8View(value.clone()), KqlType::Decimal),
        Literal::Dynamic(value) => (ScalarValue::BinaryView(value.to_bytes()), KqlType::Dynamic),
    };
    Expr::constant(value, kql_type, span)
}
