//! Tokens to a tree: statements, pipelines, recovery. Expressions are in `expression`, operators in
//! `operator`.

use super::Span;
use super::ast::{Expr, ExprKind, Name, Pipeline, Query, Source};
use super::token::{Token, TokenKind, tokenize};
use crate::query::diagnostic::Problem;
use crate::query::limits::{DIAGNOSTICS_MAX, NESTING_DEPTH_MAX, PIPELINE_OPERATORS_MAX};

/// What parsing found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Parse {
    /// The tree, if there is a query at all. It lacks what could not be read.
    pub query: Option<Query>,
    /// Everything that is wrong; the tree is whole if it is empty.
    pub problems: Vec<Problem>,
}

/// Parses query text. The caller bounds its size.
#[must_use]
pub fn parse(text: &str) -> Parse {
    let (tokens, problems) = tokenize(text);
    let mut parser = Parser { tokens, at: 0, problems, depth: 0, groups: 0, in_search: false };
    let query = parser.query();
    Parse { query, problems: parser.problems }
}

/// A part could not be read; the problem is recorded.
#[derive(Debug)]
pub(super) struct Failed;

pub(super) type Parsed<T> = Result<T, Failed>;

pub(super) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    pub(super) problems: Vec<Problem>,
    pub(super) depth: usize,
    /// How many parentheses, calls, items and signs are open.
    groups: usize,
    /// Whether `column:term` is a condition here, as it is in `search` and `find`.
    pub(super) in_search: bool,
}

/// A level of the tree is printed within at most two parentheses, each of which is read as a pipeline
/// or an expression and then as an expression.
const GROUPS_MAX: usize = 4 * (NESTING_DEPTH_MAX + 1);

/// Names that start a pipeline by themselves.
const SOURCES: [&str; 7] = ["print", "range", "datatable", "union", "search", "find", "evaluate"];
/// Sources of the language that this version does not run.
const SOURCES_UNSUPPORTED: [&str; 1] = ["externaldata"];

impl Parser {
    pub(super) fn peek_at(&self, ahead: usize) -> &TokenKind {
        self.tokens.get(self.at + ahead).map_or(&TokenKind::End, |token| &token.kind)
    }

    pub(super) fn peek(&self) -> &TokenKind {
        self.peek_at(0)
    }

    /// Where the token `ahead` of the next one stands.
    pub(super) fn span_at(&self, ahead: usize) -> Span {
        let last = self.tokens.last().map(|token| token.span).unwrap_or_default();
        self.tokens.get(self.at + ahead).map_or(last, |token| token.span)
    }

    pub(super) fn span(&self) -> Span {
        self.span_at(0)
    }

    /// Where the token before the next one stands.
    pub(super) fn previous(&self) -> Span {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        before.map(|token| token.span).unwrap_or_default()
    }

    /// Goes past the next token; the end stays where it is.
    pub(super) fn bump(&mut self) -> Token {
        let end = Token { kind: TokenKind::End, span: self.span() };
        let token = self.tokens.get(self.at).cloned().unwrap_or(end);
        if self.at < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    pub(super) fn is_punct(&self, text: &str) -> bool {
        matches!(self.peek(), TokenKind::Punct(found) if *found == text)
    }

    pub(super) fn is_punct_at(&self, ahead: usize, text: &str) -> bool {
        matches!(self.peek_at(ahead), TokenKind::Punct(found) if *found == text)
    }

    pub(super) fn is_name(&self, text: &str) -> bool {
        matches!(self.peek(), TokenKind::Name(found) if found == text)
    }

    pub(super) fn take_punct(&mut self, text: &str) -> bool {
        let found = self.is_punct(text);
        if found {
            self.bump();
        }
        found
    }

    pub(super) fn take_name(&mut self, text: &str) -> bool {
        let found = self.is_name(text);
        if found {
            self.bump();
        }
        found
    }

    pub(super) fn problem(&mut self, problem: Problem) -> Failed {
        if self.problems.len() < DIAGNOSTICS_MAX {
            self.problems.push(problem);
        }
        Failed
    }

    pub(super) fn expected(&mut self, what: &str) -> Failed {
        let message = format!("expected {what}, found {}", self.peek().describe());
        let span = self.span();
        self.problem(Problem::syntax(span, message))
    }

    pub(super) fn expect_punct(&mut self, text: &str) -> Parsed<Span> {
        if self.is_punct(text) {
            Ok(self.bump().span)
        } else {
            Err(self.expected(&format!("`{text}`")))
        }
    }

    pub(super) fn expect_keyword(&mut self, text: &str) -> Parsed<()> {
        if self.take_name(text) { Ok(()) } else { Err(self.expected(&format!("`{text}`"))) }
    }

    /// A name, plain or as `['text']`.
    pub(super) fn expect_name(&mut self, what: &str) -> Parsed<Name> {
        if let TokenKind::Name(text) = self.peek() {
            let text = text.clone();
            return Ok(Name { text, span: self.bump().span });
        }
        if let Some(name) = self.bracketed_name() {
            return Ok(name);
        }
        Err(self.expected(what))
    }

    /// `['text']`, if that is next.
    pub(super) fn bracketed_name(&mut self) -> Option<Name> {
        if self.is_punct("[")
            && self.is_punct_at(2, "]")
            && let TokenKind::Text(text) = self.peek_at(1)
        {
            let text = text.clone();
            let span = self.span().to(self.span_at(2));
            (0..3).for_each(|_| drop(self.bump()));
            return Some(Name { text, span });
        }
        None
    }

    /// Reads one level deeper, within the bound.
    pub(super) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= NESTING_DEPTH_MAX {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Reads an expression's part. What the tree has of it is bounded by [`Self::expr`]; how often that
    /// lies in parentheses is, too, by more than the printer ever puts around it.
    pub(super) fn grouped<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.groups >= GROUPS_MAX {
            return Err(self.too_deep());
        }
        self.groups += 1;
        let result = read(self);
        self.groups -= 1;
        result
    }

    pub(super) fn too_deep(&mut self) -> Failed {
        let message = format!("nested deeper than {NESTING_DEPTH_MAX} levels");
        let span = self.span();
        // Nothing after it can be placed, and each open level would add a problem of its own.
        self.at = self.tokens.len();
        self.problem(Problem::syntax(span, message))
    }

    /// An expression of the tree, within the bound on depth.
    pub(super) fn expr(&mut self, kind: ExprKind, span: Span) -> Parsed<Expr> {
        let expr = Expr::new(kind, span);
        if expr.depth > NESTING_DEPTH_MAX { Err(self.too_deep()) } else { Ok(expr) }
    }

    /// Skips to one of the marks outside of brackets that open after here.
    pub(super) fn skip_to(&mut self, marks: &[&str]) {
        let mut open = 0_usize;
        loop {
            match self.peek() {
                TokenKind::End => return,
                TokenKind::Punct(text) => {
                    if open == 0 && (marks.contains(text) || matches!(*text, ")" | "]" | "}")) {
                        return;
                    }
                    match *text {
                        "(" | "[" | "{" => open += 1,
                        ")" | "]" | "}" => open -= 1,
                        _ => {}
                    }
                }
                _ => {}
            }
            self.bump();
        }
    }

    /// A pipeline if one starts here, else an expression, which a `|` after it makes a source.
    pub(super) fn expression_or_pipeline(&mut self) -> Parsed<Expr> {
        self.grouped(Self::expression_or_pipeline_here)
    }

    fn expression_or_pipeline_here(&mut self) -> Parsed<Expr> {
        let start = self.span();
        let source = match self.nested(Self::source)? {
            Some(source) => source,
            None => {
                let expr = self.expression()?;
                if !self.is_punct("|") {
                    return Ok(expr);
                }
                Source::Table(Box::new(expr))
            }
        };
        let operators = self.nested(|parser| Ok(parser.operators()))?;
        let span = start.to(self.previous());
        let pipeline = Pipeline { source, operators };
        self.expr(ExprKind::Pipeline(Box::new(pipeline)), span)
    }

    fn source(&mut self) -> Parsed<Option<Source>> {
        let TokenKind::Name(word) = self.peek().clone() else { return Ok(None) };
        // `range` is also a function, and `union` can be a column: what follows decides.
        let call = self.is_punct_at(1, "(");
        let word = word.as_str();
        if SOURCES_UNSUPPORTED.contains(&word) && !self.is_punct_at(1, "|") {
            let ends =
                matches!(self.peek_at(1), TokenKind::End | TokenKind::Punct(";" | ")" | ","));
            if !ends {
                let problem = Problem::unsupported(self.span(), word);
                return Err(self.problem(problem));
            }
        }
        if !SOURCES.contains(&word) || (call && matches!(word, "range" | "evaluate")) {
            return Ok(None);
        }
        if matches!(self.peek_at(1), TokenKind::End | TokenKind::Punct("|" | "=" | ";")) {
            return Ok(None);
        }
        self.bump();
        match word {
            "print" => self.named_expressions().map(Source::Print).map(Some),
            "range" => self.range().map(Some),
            "datatable" => self.datatable().map(Some),
            "search" => self.search().map(Source::Search).map(Some),
            "find" => self.find().map(Source::Find).map(Some),
            "evaluate" => self.evaluate().map(Source::Evaluate).map(Some),
            _ => self.union().map(Source::Union).map(Some),
        }
    }

    fn range(&mut self) -> Parsed<Source> {
        let name = self.expect_name("a column name after `range`")?;
        self.expect_keyword("from")?;
        let first = Box::new(self.expression()?);
        self.expect_keyword("to")?;
        let last = Box::new(self.expression()?);
        self.expect_keyword("step")?;
        let step = Box::new(self.expression()?);
        Ok(Source::Range { name, first, last, step })
    }

    fn datatable(&mut self) -> Parsed<Source> {
        self.expect_punct("(")?;
        let mut columns = Vec::new();
        while !self.is_punct(")") {
            let name = self.expect_name("a column name")?;
            self.expect_punct(":")?;
            columns.push((name, self.expect_name("a type")?));
            if !self.take_punct(",") {
                break;
            }
        }
        self.expect_punct(")")?;
        let start = self.expect_punct("[")?;
        let mut values = Vec::new();
        while !self.is_punct("]") {
            values.push(self.expression()?);
            if !self.take_punct(",") {
                break;
            }
        }
        let span = start.to(self.expect_punct("]")?);
        Ok(Source::DataTable { columns, values, span })
    }

    /// Every `| operator …`. One that cannot be read is left out, and reading goes on after it.
    pub(super) fn operators(&mut self) -> Vec<super::ast::Operator> {
        let mut operators = Vec::new();
        while self.take_punct("|") {
            match self.operator() {
                Ok(operator) => operators.push(operator),
                Err(Failed) => self.skip_to(&["|", ";"]),
            }
            if operators.len() > PIPELINE_OPERATORS_MAX {
                let message = format!("more than {PIPELINE_OPERATORS_MAX} operators");
                let span = self.span();
                self.problem(Problem::syntax(span, message));
                self.skip_to(&[";"]);
            }
        }
        operators
    }
}
