//! Functions that the query itself defines, its parameters, and what it may read.

use super::names::matches as name_matches;
use super::{BindResult, Binder, Failed, LetValue, Lets, Scope};
use crate::query::bound::{Expr, Relation};
use crate::query::diagnostic::Problem;
use crate::query::function;
use crate::query::limits::CALL_DEPTH_MAX;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, ParameterKind, Statement};
use crate::query::syntax::parse;
use crate::query::types::KqlType;
use std::sync::Arc;

/// A function and the names that it sees.
#[derive(Clone, Debug)]
pub(super) struct Closure {
    function: ast::Function,
    lets: Lets,
    allowed: Option<Vec<String>>,
    /// Whether a name that it sees is a value of a row, or a function that sees one.
    pub(super) sees_row: bool,
    is_without_row: bool,
}

impl Closure {
    pub(super) fn takes_nothing(&self) -> bool {
        self.function.parameters.is_empty()
    }

    /// The function where there is no row: what it sees of one is taken away when it is called.
    pub(super) fn without_row(&self) -> Self {
        Self { is_without_row: true, ..self.clone() }
    }
}

impl Binder<'_> {
    /// A statement that has no answer.
    pub(super) fn statement(&mut self, statement: &Statement) -> BindResult<()> {
        match statement {
            Statement::Let(made) => {
                let value = self.let_value(&made.value);
                let failed = value.is_err();
                let value = value.unwrap_or(LetValue::Broken);
                self.lets.insert(made.name.text.clone(), value);
                if failed { Err(Failed) } else { Ok(()) }
            }
            Statement::Set(name, value) => self.set(name, value.as_ref()),
            Statement::Parameters(parameters) => self.declare_parameters(parameters),
            Statement::Pattern(pattern) => {
                self.patterns.insert(pattern.name.text.clone(), Arc::new(pattern.clone()));
                Ok(())
            }
            Statement::Restrict(tables) => self.restrict(tables),
            Statement::Ask(_) => Ok(()),
        }
    }

    /// Options of how to run change no answer, but those of the current time and of `bin_auto`.
    fn set(&mut self, name: &ast::Name, value: Option<&ast::Expr>) -> BindResult<()> {
        let option = name.text.as_str();
        let (
            Some(value),
            "query_now" | "query_datetimescope_to" | "query_bin_auto_size" | "query_bin_auto_at",
        ) = (value, option)
        else {
            return Ok(());
        };
        let bound = self.expr(value, &mut Scope::constants())?;
        match option {
            "query_bin_auto_size" => self.bin_size = Some(bound),
            "query_bin_auto_at" => self.bin_at = Some(bound),
            _ => self.set_time(name, value, &bound)?,
        }
        Ok(())
    }

    fn set_time(&mut self, name: &ast::Name, value: &ast::Expr, bound: &Expr) -> BindResult<()> {
        if name.text == "query_now" {
            match (bound.kql_type, bound.as_long()) {
                (KqlType::DateTime, Some(ticks)) => self.now = ticks,
                _ => {
                    let message = "`query_now` takes a datetime";
                    return Err(self.report(Problem::semantic(value.span, message)));
                }
            }
        }
        Ok(())
    }

    /// The parameters of the whole query, whose values come with it.
    fn declare_parameters(&mut self, parameters: &[ast::Parameter]) -> BindResult<()> {
        for parameter in parameters {
            let name = &parameter.name;
            let ParameterKind::Scalar { kql_type, default } = &parameter.kind else {
                let what = "a table as a parameter of the query";
                return Err(self.report(Problem::unsupported(name.span, what)));
            };
            let wanted = self.kql_type(kql_type)?;
            let value = match (self.parameters.get(&name.text), default) {
                (Some(text), _) => self.given_parameter(name, wanted, &text.clone())?,
                (None, Some(default)) => self.expr(default, &mut Scope::constants())?,
                (None, None) => {
                    let message = format!("parameter `{}` has no value", name.text);
                    return Err(self.report(Problem::semantic(name.span, message)));
                }
            };
            let value = self.fitting(value, wanted, &name.text)?;
            self.lets.insert(name.text.clone(), LetValue::Scalar(value));
        }
        Ok(())
    }

    /// The value of a parameter: a literal of the language or, for strings, the text itself.
    fn given_parameter(
        &mut self,
        name: &ast::Name,
        wanted: KqlType,
        text: &str,
    ) -> BindResult<Expr> {
        let literal = parse(&format!("print {text}"));
        let made = literal.query.filter(|_| literal.problems.is_empty()).and_then(|query| {
            match query.statements.into_iter().next() {
                Some(Statement::Ask(ast::Expr {
                    kind: ast::ExprKind::Pipeline(pipeline), ..
                })) => match pipeline.source {
                    ast::Source::Print(items) => items.into_iter().next(),
                    _ => None,
                },
                _ => None,
            }
        });
        let made = made.map(|item| item.expr);
        match made {
            Some(ast::Expr { kind: ast::ExprKind::Literal(literal), .. }) => {
                Ok(super::expression::constant(&literal, name.span))
            }
            _ if wanted == KqlType::String => Ok(Expr::text(text, name.span)),
            _ => {
                let message = format!("parameter `{}` is not a literal", name.text);
                Err(self.report(Problem::semantic(name.span, message)))
            }
        }
    }

    /// Only these tables can be read from here on.
    fn restrict(&mut self, tables: &[ast::Expr]) -> BindResult<()> {
        let mut names = Vec::new();
        for table in tables {
            match &table.kind {
                ast::ExprKind::Name(name) | ast::ExprKind::Star(name) => names.push(name.clone()),
                _ => {
                    let what = "restrict access to what is not a name";
                    return Err(self.report(Problem::unsupported(table.span, what)));
                }
            }
        }
        let fits = |name: &str| names.iter().any(|pattern| name_matches(pattern, name));
        self.lets.retain(|name, value| match value {
            LetValue::Table(_) | LetValue::Graph(_) | LetValue::Function(_) => fits(name),
            LetValue::Scalar(_) | LetValue::OfRow | LetValue::Broken => true,
        });
        self.allowed = Some(names);
        Ok(())
    }

    /// Whether a stored table may be read.
    pub(super) fn may_read(&self, name: &str) -> bool {
        match &self.allowed {
            None => true,
            Some(allowed) => allowed.iter().any(|pattern| name_matches(pattern, name)),
        }
    }

    /// The names of the functions that stand for tables.
    pub(super) fn views(&self) -> Vec<String> {
        let views = self.lets.iter().filter(|(_, value)| match value {
            LetValue::Function(closure) => closure.function.view,
            _ => false,
        });
        views.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a name is that of a function that stands for a table.
    pub(crate) fn is_view(&self, name: &str) -> bool {
        self.function(name).is_some_and(|function| function.view)
    }

    pub(super) fn closure(&self, function: &ast::Function) -> LetValue {
        LetValue::Function(Arc::new(Closure {
            function: function.clone(),
            sees_row: self.lets.values().any(LetValue::is_of_row),
            is_without_row: false,
            lets: self.lets.clone(),
            allowed: self.allowed.clone(),
        }))
    }

    /// The function of a name.
    pub(super) fn function(&self, name: &str) -> Option<&ast::Function> {
        match self.lets.get(name) {
            Some(LetValue::Function(closure)) => Some(&closure.function),
            _ => None,
        }
    }

    /// Calls the function of a name; `first` takes the place of its first argument.
    pub(super) fn call_named(
        &mut self,
        name: &str,
        arguments: &[ast::NamedExpr],
        first: Option<Arc<Relation>>,
        scope: &mut Scope<'_>,
        span: Span,
    ) -> BindResult<LetValue> {
        let Some(LetValue::Function(closure)) = self.lets.get(name) else { return Err(Failed) };
        let closure = Arc::clone(closure);
        if self.callers.len() >= CALL_DEPTH_MAX {
            let message = format!("functions call each other deeper than {CALL_DEPTH_MAX} levels");
            return Err(self.report(Problem::semantic(span, message)));
        }
        let given = self.arguments(name, &closure.function, arguments, first, scope, span)?;
        let mut inner = closure.lets.clone();
        if closure.is_without_row {
            inner.values_mut().for_each(LetValue::leave_row);
        }
        inner.extend(given);
        let outer = std::mem::replace(&mut self.lets, inner);
        let allowed = std::mem::replace(&mut self.allowed, closure.allowed.clone());
        self.callers.push(outer);
        let value = self.body(&closure.function.body, span);
        self.lets = self.callers.pop().unwrap_or_default();
        self.allowed = allowed;
        value
    }

    /// What the last statement comes to.
    fn body(&mut self, body: &ast::Query, span: Span) -> BindResult<LetValue> {
        let Some((Statement::Ask(last), before)) = body.statements.split_last() else {
            let message = "the function's last statement is not an expression";
            return Err(self.report(Problem::semantic(span, message)));
        };
        for statement in before {
            if let Statement::Ask(asked) = statement {
                let message = "only the last statement of a function can be an expression";
                return Err(self.report(Problem::semantic(asked.span, message)));
            }
            self.statement(statement)?;
        }
        self.let_value(last)
    }

    /// The function's parameters with the call's values.
    fn arguments(
        &mut self,
        name: &str,
        function: &ast::Function,
        arguments: &[ast::NamedExpr],
        first: Option<Arc<Relation>>,
        scope: &mut Scope<'_>,
        span: Span,
    ) -> BindResult<Vec<(String, LetValue)>> {
        let mut given = Vec::new();
        let mut first = first;
        let named = |parameter: &ast::Name| {
            arguments.iter().find(|argument| {
                argument.name.as_ref().is_some_and(|name| name.text == parameter.text)
            })
        };
        let unknown = arguments.iter().filter_map(|argument| argument.name.as_ref()).find(|name| {
            !function.parameters.iter().any(|parameter| parameter.name.text == name.text)
        });
        if let Some(unknown) = unknown {
            let message = format!("`{name}` has no parameter `{}`", unknown.text);
            return Err(self.report(Problem::semantic(unknown.span, message)));
        }
        let mut positional = arguments.iter().filter(|argument| argument.name.is_none());
        for parameter in &function.parameters {
            let text = parameter.name.text.clone();
            if let Some(relation) = first.take() {
                let ParameterKind::Table { columns, .. } = &parameter.kind else {
                    let message = format!("the first parameter of `{name}` is not a table");
                    return Err(self.report(Problem::semantic(span, message)));
                };
                self.has_columns(&relation, columns, name, span)?;
                given.push((text, LetValue::Table(relation)));
                continue;
            }
            let argument = named(&parameter.name).or_else(|| positional.next());
            let value = match (&parameter.kind, argument) {
                (ParameterKind::Table { columns, .. }, Some(argument)) => {
                    let relation = self.table(&argument.expr)?;
                    self.has_columns(&relation, columns, name, argument.expr.span)?;
                    LetValue::Table(relation)
                }
                (ParameterKind::Scalar { kql_type, .. }, Some(argument)) => {
                    let wanted = self.kql_type(kql_type)?;
                    let value = self.expr(&argument.expr, scope)?;
                    LetValue::Scalar(self.fitting(value, wanted, &text)?)
                }
                (ParameterKind::Scalar { kql_type, default: Some(default) }, None) => {
                    let wanted = self.kql_type(kql_type)?;
                    let value = self.expr(default, &mut Scope::constants())?;
                    LetValue::Scalar(self.fitting(value, wanted, &text)?)
                }
                (_, None) => {
                    let message = format!("`{name}` needs its argument `{text}`");
                    return Err(self.report(Problem::semantic(span, message)));
                }
            };
            given.push((text, value));
        }
        if positional.next().is_some() || first.is_some() {
            let message = format!("`{name}` takes {} arguments", function.parameters.len());
            return Err(self.report(Problem::semantic(span, message)));
        }
        Ok(given)
    }

    fn has_columns(
        &mut self,
        relation: &Relation,
        columns: &[ast::TypedName],
        function: &str,
        span: Span,
    ) -> BindResult<()> {
        for column in columns {
            let wanted = self.kql_type(&column.kql_type)?;
            let name = &column.name.text;
            let fits = relation.columns.iter().any(|of| of.name == *name && of.kql_type == wanted);
            if !fits {
                let message =
                    format!("`{function}` takes a table with a column `{name}`: {wanted}");
                return Err(self.report(Problem::semantic(span, message)));
            }
        }
        Ok(())
    }

    /// The type of a name.
    pub(crate) fn kql_type(&mut self, name: &ast::Name) -> BindResult<KqlType> {
        match KqlType::of_name(&name.text) {
            Some(kql_type) => Ok(kql_type),
            None => {
                let message = format!("`{}` is not a type", name.text);
                let types = [
                    "bool", "datetime", "decimal", "dynamic", "guid", "int", "long", "real",
                    "string", "timespan",
                ];
                let problem = Problem::semantic(name.span, message).near(&name.text, types);
                Err(self.report(problem))
            }
        }
    }

    /// A value in the type that is declared for it.
    pub(crate) fn fitting(&mut self, value: Expr, wanted: KqlType, name: &str) -> BindResult<Expr> {
        let given = value.kql_type;
        if given == wanted {
            return Ok(value);
        }
        let span = value.span;
        if given == KqlType::Dynamic || wanted == KqlType::Dynamic {
            return self.converted(value, wanted);
        }
        let null = value.as_constant().is_some_and(datafusion::scalar::ScalarValue::is_null);
        if null && given != KqlType::String {
            return Ok(Expr::null(wanted, span));
        }
        let both_numbers = given.is_number() && wanted.is_number();
        if both_numbers || (given.is_number() && wanted == KqlType::Decimal) {
            return self.converted(value, wanted);
        }
        let message = format!("`{name}` is a {wanted}, not a {given}");
        Err(self.report(Problem::semantic(span, message)))
    }

    /// A value by the function that converts to a type.
    pub(crate) fn converted(&mut self, value: Expr, wanted: KqlType) -> BindResult<Expr> {
        if value.kql_type == wanted {
            return Ok(value);
        }
        if value.kql_type.is_number() && wanted.is_number() {
            return Ok(function::cast(value, wanted));
        }
        let name = match wanted {
            KqlType::Bool => "tobool",
            KqlType::DateTime => "todatetime",
            KqlType::Decimal => "todecimal",
            KqlType::Dynamic => "todynamic",
            KqlType::Guid => "toguid",
            KqlType::Int => "toint",
            KqlType::Long => "tolong",
            KqlType::Real => "toreal",
            KqlType::String => "tostring",
            KqlType::TimeSpan => "totimespan",
        };
        self.call_built_in(name, vec![value])
    }

    /// Calls a function of the language.
    pub(crate) fn call_built_in(&mut self, name: &str, arguments: Vec<Expr>) -> BindResult<Expr> {
        let span = arguments.first().map(|argument| argument.span).unwrap_or_default();
        match function::find(name) {
            Some(found) => {
                let call = function::Call { name, span, now: self.now };
                self.checked(found.bind(&call, arguments))
            }
            None => Err(self.report(Problem::unsupported(span, format!("{name}()")))),
        }
    }

    /// `T | invoke function(…)`
    pub(crate) fn invoke(
        &mut self,
        input: Arc<Relation>,
        call: &ast::Expr,
    ) -> BindResult<Arc<Relation>> {
        let ast::ExprKind::Call { name, arguments } = &call.kind else {
            let message = "`invoke` takes the call of a function";
            return Err(self.report(Problem::semantic(call.span, message)));
        };
        if self.function(&name.text).is_none() {
            let message = format!("no function `{}` in this query", name.text);
            return Err(self.report(Problem::semantic(name.span, message)));
        }
        let mut scope = Scope::constants();
        let value = self.call_named(&name.text, arguments, Some(input), &mut scope, call.span)?;
        match value {
            LetValue::Table(relation) => Ok(relation),
            _ => {
                let message = format!("`{}` does not answer with a table", name.text);
                Err(self.report(Problem::semantic(name.span, message)))
            }
        }
    }

    /// The query that a pattern has for its arguments: `pattern("a").path`.
    pub(super) fn pattern_table(&mut self, expr: &ast::Expr) -> BindResult<Arc<Relation>> {
        let (call, path) = match &expr.kind {
            ast::ExprKind::Member(call, path) => (&**call, Some(path.text.clone())),
            _ => (expr, None),
        };
        let ast::ExprKind::Call { name, arguments } = &call.kind else {
            return Err(self.report(Problem::semantic(expr.span, "expected a table here")));
        };
        let Some(pattern) = self.patterns.get(&name.text).cloned() else {
            return Err(self.report(Problem::unsupported(name.span, format!("{}()", name.text))));
        };
        let exprs = arguments.iter().map(|argument| &argument.expr);
        let given = self.exprs(exprs, &mut Scope::constants())?;
        for case in &pattern.cases {
            let wanted = self.exprs(&case.arguments, &mut Scope::constants())?;
            let wanted_path = match &case.path {
                Some(path) => {
                    let bound = self.expr(path, &mut Scope::constants())?;
                    bound.as_text().map(str::to_owned)
                }
                None => None,
            };
            let same = given.len() == wanted.len()
                && given.iter().zip(&wanted).all(|(a, b)| a.as_constant() == b.as_constant());
            if same && path == wanted_path {
                let names = pattern.parameters.iter().map(|parameter| parameter.name.text.clone());
                let values = given.into_iter().map(LetValue::Scalar);
                let outer = self.lets.clone();
                self.lets.extend(names.zip(values));
                let value = self.body(&case.body, expr.span);
                self.lets = outer;
                return match value? {
                    LetValue::Table(relation) => Ok(relation),
                    _ => Err(Failed),
                };
            }
        }
        let message = format!("pattern `{}` has no case for these arguments", name.text);
        Err(self.report(Problem::semantic(expr.span, message)))
    }
}
