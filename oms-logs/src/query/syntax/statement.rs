//! Statements: `let`, `set`, `declare`, `restrict`, and what is asked.

use super::ast::{
    Expr, ExprKind, Function, Let, Parameter, ParameterKind, Pattern, PatternCase, Query,
    Statement, TypedName,
};
use super::parser::{Failed, Parsed, Parser};
use super::token::TokenKind;
use crate::query::diagnostic::Problem;
use crate::query::limits::STATEMENTS_MAX;

impl Parser {
    /// Every statement of the text.
    pub(super) fn query(&mut self) -> Option<Query> {
        let query = self.statements(None);
        let asks = query.statements.iter().any(|made| matches!(made, Statement::Ask(_)));
        if !asks && self.problems.is_empty() {
            self.expected("a query");
        }
        asks.then_some(query)
    }

    /// Statements up to the end of the text, or up to a closing bracket.
    fn statements(&mut self, closing: Option<&'static str>) -> Query {
        let mut statements = Vec::new();
        loop {
            while self.take_punct(";") {}
            let closed = closing.is_some_and(|closing| self.is_punct(closing));
            if closed || *self.peek() == TokenKind::End {
                return Query { statements };
            }
            if statements.len() >= STATEMENTS_MAX {
                let message = format!("more than {STATEMENTS_MAX} statements");
                let span = self.span();
                self.problem(Problem::syntax(span, message));
                self.skip_to(&[]);
                return Query { statements };
            }
            match self.statement() {
                Ok(statement) => statements.push(statement),
                Err(Failed) => self.skip_to(&[";"]),
            }
            let closed = closing.is_some_and(|closing| self.is_punct(closing));
            if !closed && !self.is_punct(";") && *self.peek() != TokenKind::End {
                self.expected("`|`, `;` or the end of the query");
                self.bump();
                self.skip_to(&[";"]);
            }
        }
    }

    fn statement(&mut self) -> Parsed<Statement> {
        let span = self.span();
        if self.is_punct(".") {
            return Err(self.problem(Problem::unsupported(span, "management commands")));
        }
        let TokenKind::Name(word) = self.peek().clone() else {
            return self.expression_or_pipeline().map(Statement::Ask);
        };
        let follows_name = matches!(self.peek_at(1), TokenKind::Name(_));
        match word.as_str() {
            "let" if follows_name || self.is_punct_at(1, "[") => {
                self.bump();
                self.let_statement().map(Statement::Let)
            }
            "set" if follows_name => {
                self.bump();
                let name = self.expect_name("an option")?;
                let value = if self.take_punct("=") { Some(self.expression()?) } else { None };
                Ok(Statement::Set(name, value))
            }
            "declare" if follows_name => {
                self.bump();
                self.declare()
            }
            "restrict" if follows_name => {
                self.bump();
                self.expect_keyword("access")?;
                self.expect_keyword("to")?;
                self.expect_punct("(")?;
                let mut tables = Vec::new();
                while !self.is_punct(")") {
                    tables.push(self.table()?);
                    if !self.take_punct(",") {
                        break;
                    }
                }
                self.expect_punct(")")?;
                Ok(Statement::Restrict(tables))
            }
            "alias" if follows_name => {
                Err(self.problem(Problem::unsupported(span, format!("{word} statement"))))
            }
            _ => self.expression_or_pipeline().map(Statement::Ask),
        }
    }

    fn let_statement(&mut self) -> Parsed<Let> {
        let name = self.expect_name("a name after `let`")?;
        self.expect_punct("=")?;
        let value = if self.at_function() {
            self.nested(Self::function)?
        } else {
            self.expression_or_pipeline()?
        };
        Ok(Let { name, value })
    }

    /// Whether `(parameters) {` or `view (parameters) {` is next.
    fn at_function(&self) -> bool {
        let start = usize::from(self.is_name("view"));
        if !self.is_punct_at(start, "(") {
            return false;
        }
        let mut open = 0_usize;
        for ahead in start.. {
            match self.peek_at(ahead) {
                TokenKind::End => return false,
                TokenKind::Punct("(") => open += 1,
                TokenKind::Punct(")") if open == 1 => return self.is_punct_at(ahead + 1, "{"),
                TokenKind::Punct(")") => open -= 1,
                _ => {}
            }
        }
        false
    }

    fn function(&mut self) -> Parsed<Expr> {
        let start = self.span();
        let view = self.take_name("view");
        let parameters = self.parameters()?;
        let body = self.body()?;
        let span = start.to(self.previous());
        self.expr(ExprKind::Function(Box::new(Function { view, parameters, body })), span)
    }

    /// `{ statements }`
    fn body(&mut self) -> Parsed<Query> {
        self.expect_punct("{")?;
        let body = self.statements(Some("}"));
        self.expect_punct("}")?;
        Ok(body)
    }

    /// `(name: type = default, table: (column: type), …)`
    fn parameters(&mut self) -> Parsed<Vec<Parameter>> {
        self.expect_punct("(")?;
        let mut parameters = Vec::new();
        while !self.is_punct(")") {
            let name = self.expect_name("a parameter")?;
            self.expect_punct(":")?;
            let kind = if self.is_punct("(") {
                let open = self.is_punct_at(1, "*") && self.is_punct_at(2, ")");
                if open {
                    (0..3).for_each(|_| drop(self.bump()));
                    ParameterKind::Table { columns: Vec::new(), open }
                } else {
                    ParameterKind::Table { columns: self.typed_names()?, open }
                }
            } else {
                let kql_type = self.expect_name("a type")?;
                let default = if self.take_punct("=") { Some(self.expression()?) } else { None };
                ParameterKind::Scalar { kql_type, default }
            };
            parameters.push(Parameter { name, kind });
            if !self.take_punct(",") {
                break;
            }
        }
        self.expect_punct(")")?;
        Ok(parameters)
    }

    /// `name: type`
    pub(super) fn typed_name(&mut self) -> Parsed<TypedName> {
        let name = self.expect_name("a column name")?;
        self.expect_punct(":")?;
        Ok(TypedName { name, kql_type: self.expect_name("a type")? })
    }

    /// `(name: type, …)`
    pub(super) fn typed_names(&mut self) -> Parsed<Vec<TypedName>> {
        self.expect_punct("(")?;
        let mut names = Vec::new();
        while !self.is_punct(")") {
            names.push(self.typed_name()?);
            if !self.take_punct(",") {
                break;
            }
        }
        self.expect_punct(")")?;
        Ok(names)
    }

    fn declare(&mut self) -> Parsed<Statement> {
        if self.take_name("query_parameters") {
            return self.parameters().map(Statement::Parameters);
        }
        if !self.take_name("pattern") {
            return Err(self.expected("`query_parameters` or `pattern`"));
        }
        let name = self.expect_name("a name")?;
        let mut pattern = Pattern { name, parameters: Vec::new(), path: None, cases: Vec::new() };
        if !self.take_punct("=") {
            return Ok(Statement::Pattern(pattern));
        }
        pattern.parameters = self.typed_names()?;
        if self.take_punct("[") {
            pattern.path = Some(self.typed_name()?);
            self.expect_punct("]")?;
        }
        self.expect_punct("{")?;
        while !self.is_punct("}") {
            pattern.cases.push(self.pattern_case()?);
            while self.take_punct(";") {}
        }
        self.expect_punct("}")?;
        Ok(Statement::Pattern(pattern))
    }

    fn pattern_case(&mut self) -> Parsed<PatternCase> {
        self.expect_punct("(")?;
        let mut arguments = Vec::new();
        while !self.is_punct(")") {
            arguments.push(self.expression()?);
            if !self.take_punct(",") {
                break;
            }
        }
        self.expect_punct(")")?;
        let path = if self.take_punct(".") {
            self.expect_punct("[")?;
            let path = self.expression()?;
            self.expect_punct("]")?;
            Some(path)
        } else {
            None
        };
        self.expect_punct("=")?;
        Ok(PatternCase { arguments, path, body: self.nested(Self::body)? })
    }
}
