//! The operators of a pipeline.

use super::ast::{
    Expand, ExpandItem, Expr, ExprKind, Join, Literal, Name, NamedExpr, Operator, OperatorKind,
    SortKey, Union,
};
use super::parser::{Failed, Parsed, Parser};
use super::token::TokenKind;
use crate::query::diagnostic::Problem;

/// How many rows the old form of `mv-expand` makes of one.
const OLD_EXPAND_ROWS: i64 = 128;

/// Operators that this version runs.
const OPERATORS: &[&str] = &[
    "where",
    "filter",
    "project",
    "project-away",
    "project-keep",
    "project-rename",
    "extend",
    "summarize",
    "sort",
    "order",
    "take",
    "limit",
    "top",
    "count",
    "distinct",
    "join",
    "union",
    "render",
    "print",
    "mv-expand",
    "mvexpand",
    "mv-apply",
    "mvapply",
    "as",
    "consume",
    "evaluate",
    "facet",
    "find",
    "fork",
    "getschema",
    "graph-match",
    "graph-shortest-paths",
    "graph-to-table",
    "graph-mark-components",
    "invoke",
    "lookup",
    "make-graph",
    "make-series",
    "parse",
    "parse-kv",
    "parse-where",
    "partition",
    "project-by-names",
    "project-reorder",
    "reduce",
    "sample",
    "sample-distinct",
    "scan",
    "search",
    "serialize",
    "top-hitters",
    "top-nested",
];

/// Operators of the language that this version does not run.
const UNSUPPORTED: &[&str] =
    &["macro-expand", "assert-schema", "execute-and-cache", "project-smart"];

impl Parser {
    /// One operator, after its `|`.
    pub(super) fn operator(&mut self) -> Parsed<Operator> {
        let name = self.operator_name()?;
        if let Some(kind) = self.tabular(&name) {
            return Ok(Operator { kind: kind?, span: name.span });
        }
        let Name { text, span } = name;
        let kind = match text.as_str() {
            "where" | "filter" => OperatorKind::Where(self.expression()?),
            "project" => OperatorKind::Project(self.named_expressions()?),
            "project-away" => OperatorKind::ProjectAway(self.column_patterns()?),
            "project-keep" => OperatorKind::ProjectKeep(self.column_patterns()?),
            "project-rename" => OperatorKind::ProjectRename(self.renames()?),
            "extend" => OperatorKind::Extend(self.named_expressions()?),
            "summarize" => self.summarize()?,
            "sort" | "order" => {
                self.expect_keyword("by")?;
                OperatorKind::Sort(self.sort_keys()?)
            }
            "take" | "limit" => OperatorKind::Take(self.expression()?),
            "top" => {
                let count = self.expression()?;
                self.expect_keyword("by")?;
                OperatorKind::Top { count, keys: self.sort_keys()? }
            }
            "count" => {
                // `count as name`: the name is that of the table.
                if self.take_name("as") {
                    self.expect_name("a name")?;
                }
                OperatorKind::Count
            }
            "distinct" => {
                self.skip_hints()?;
                OperatorKind::Distinct(self.named_expressions()?)
            }
            "join" => OperatorKind::Join(self.join()?),
            "union" => OperatorKind::Union(self.union()?),
            "render" => self.render()?,
            "mv-expand" => OperatorKind::Expand(self.expand()?),
            "mvexpand" => {
                let mut expand = self.expand()?;
                if expand.limit.is_none() {
                    let rows = ExprKind::Literal(Literal::Long(Some(OLD_EXPAND_ROWS)));
                    expand.limit = Some(self.expr(rows, span)?);
                }
                OperatorKind::Expand(expand)
            }
            "mv-apply" | "mvapply" => self.apply()?,
            name if UNSUPPORTED.contains(&name) => {
                return Err(self.problem(Problem::unsupported(span, name)));
            }
            name => {
                let message = format!("`{name}` is not an operator");
                let known = OPERATORS.iter().chain(UNSUPPORTED).copied();
                return Err(self.problem(Problem::syntax(span, message).near(name, known)));
            }
        };
        Ok(Operator { kind, span })
    }

    /// The operator's name; only known names can have a hyphen.
    pub(super) fn operator_name(&mut self) -> Parsed<Name> {
        let TokenKind::Name(first) = self.peek().clone() else {
            return Err(self.expected("an operator"));
        };
        let (mut name, mut span) = (first, self.bump().span);
        while self.is_punct("-")
            && self.span().start == span.end
            && self.span_at(1).start == self.span().end
            && let TokenKind::Name(part) = self.peek_at(1)
        {
            let longer = format!("{name}-{part}");
            let known = OPERATORS.iter().chain(UNSUPPORTED).any(|known| known.starts_with(&longer));
            if !known && self.is_punct_at(2, "(") {
                break;
            }
            name = longer;
            self.bump();
            span = span.to(self.bump().span);
        }
        Ok(Name { text: name, span })
    }

    /// Column names, in which `*` stands for any text.
    fn column_patterns(&mut self) -> Parsed<Vec<Name>> {
        let mut patterns = vec![self.name_pattern("a column name")?];
        while self.take_punct(",") {
            patterns.push(self.name_pattern("a column name")?);
        }
        Ok(patterns)
    }

    /// A name, in which `*` stands for any text.
    pub(super) fn name_pattern(&mut self, what: &str) -> Parsed<Name> {
        if let Some(name) = self.bracketed_name() {
            return Ok(name);
        }
        let mut pattern = String::new();
        let mut span = self.span();
        loop {
            match self.peek() {
                TokenKind::Name(part) => pattern.push_str(part),
                TokenKind::Punct("*") => pattern.push('*'),
                _ => break,
            }
            span = span.to(self.bump().span);
            if self.span().start != span.end {
                break;
            }
        }
        if pattern.is_empty() { Err(self.expected(what)) } else { Ok(Name { text: pattern, span }) }
    }

    fn renames(&mut self) -> Parsed<Vec<(Name, Name)>> {
        let mut renames = Vec::new();
        loop {
            let new = self.expect_name("a new column name")?;
            self.expect_punct("=")?;
            renames.push((new, self.expect_name("a column name")?));
            if !self.take_punct(",") {
                return Ok(renames);
            }
        }
    }

    fn summarize(&mut self) -> Parsed<OperatorKind> {
        self.skip_hints()?;
        let aggregates: Vec<NamedExpr> =
            if self.is_name("by") { Vec::new() } else { self.named_expressions()? };
        let keys = if self.take_name("by") { self.named_expressions()? } else { Vec::new() };
        Ok(OperatorKind::Summarize { aggregates, keys })
    }

    /// `hint.name = value`: advice about how to run, which changes no answer.
    pub(super) fn skip_hints(&mut self) -> Parsed<()> {
        self.strategy_hint().map(drop)
    }

    /// Hints, of which `hint.strategy` bounds how many parts `partition` makes.
    pub(super) fn strategy_hint(&mut self) -> Parsed<Option<Name>> {
        let mut strategy = None;
        while self.is_name("hint") && self.is_punct_at(1, ".") {
            self.bump();
            self.bump();
            let hint = self.expect_name("a hint")?;
            self.expect_punct("=")?;
            let value = self.bump();
            if let TokenKind::Name(text) = value.kind
                && hint.text == "strategy"
            {
                strategy = Some(Name { text, span: value.span });
            }
        }
        Ok(strategy)
    }

    fn sort_keys(&mut self) -> Parsed<Vec<SortKey>> {
        let mut keys = Vec::new();
        loop {
            let expr = self.expression()?;
            let ascending = self.take_name("asc");
            if !ascending {
                self.take_name("desc");
            }
            let nulls_first = if self.take_name("nulls") {
                let first = self.take_name("first");
                if !first {
                    self.expect_keyword("last")?;
                }
                Some(first)
            } else {
                None
            };
            keys.push(SortKey { expr, ascending, nulls_first });
            if !self.take_punct(",") {
                return Ok(keys);
            }
        }
    }

    pub(super) fn join(&mut self) -> Parsed<Join> {
        let mut kind = None;
        loop {
            self.skip_hints()?;
            if !(self.is_name("kind") && self.is_punct_at(1, "=")) {
                break;
            }
            self.bump();
            self.bump();
            kind = Some(self.expect_name("a kind of join")?);
        }
        let right = Box::new(self.table()?);
        self.expect_keyword("on")?;
        let mut on = vec![self.expression()?];
        while self.take_punct(",") {
            on.push(self.expression()?);
        }
        Ok(Join { kind, right, on })
    }

    /// A table's name, or a pipeline in parentheses.
    pub(super) fn table(&mut self) -> Parsed<Expr> {
        let start = self.span();
        if self.take_punct("(") {
            let mut expr = self.expression_or_pipeline()?;
            expr.span = start.to(self.expect_punct(")")?);
            return Ok(expr);
        }
        let call = matches!(self.peek(), TokenKind::Name(_)) && self.is_punct_at(1, "(");
        if call {
            return self.nested(Self::postfix);
        }
        let name = self.name_pattern("a table")?;
        let kind = if name.text.contains('*') {
            ExprKind::Star(name.text)
        } else {
            ExprKind::Name(name.text)
        };
        self.expr(kind, name.span)
    }

    /// After the word `union`.
    pub(super) fn union(&mut self) -> Parsed<Union> {
        let (mut kind, mut source_column, mut fuzzy) = (None, None, false);
        loop {
            self.skip_hints()?;
            let TokenKind::Name(word) = self.peek() else { break };
            let word = word.clone();
            if !self.is_punct_at(1, "=") {
                break;
            }
            let span = self.span();
            self.bump();
            self.bump();
            match word.as_str() {
                "kind" => kind = Some(self.expect_name("`inner` or `outer`")?),
                "withsource" | "with_source" => {
                    source_column = Some(self.expect_name("a column name")?);
                }
                "isfuzzy" => {
                    let word = self.expect_name("`true` or `false`")?;
                    fuzzy = word.text == "true";
                }
                _ => return Err(self.problem(Problem::unsupported(span, format!("union {word}=")))),
            }
        }
        let mut tables = vec![self.table()?];
        while self.take_punct(",") {
            tables.push(self.table()?);
        }
        Ok(Union { kind, source_column, fuzzy, tables })
    }

    /// After the word `mv-expand`.
    fn expand(&mut self) -> Parsed<Expand> {
        let mut expand =
            Expand { members_as_arrays: false, index: None, items: Vec::new(), limit: None };
        loop {
            self.skip_hints()?;
            let TokenKind::Name(word) = self.peek().clone() else { break };
            let value = match self.peek_at(2) {
                TokenKind::Name(value) if self.is_punct_at(1, "=") => value.clone(),
                _ => break,
            };
            match (word.as_str(), value.as_str()) {
                ("kind" | "bagexpansion", "bag" | "array") => {
                    expand.members_as_arrays = value == "array";
                }
                ("with_itemindex", _) => {
                    expand.index = Some(Name { text: value, span: self.span_at(2) });
                }
                _ => break,
            }
            (0..3).for_each(|_| drop(self.bump()));
        }
        loop {
            let item = self.named_expression()?;
            let to = if self.take_name("to") { Some(self.type_of()?) } else { None };
            expand.items.push(ExpandItem { item, to });
            if !self.take_punct(",") {
                break;
            }
        }
        if self.take_name("limit") || self.take_name("take") {
            expand.limit = Some(self.expression()?);
        }
        Ok(expand)
    }

    /// `typeof(type)`
    fn type_of(&mut self) -> Parsed<Name> {
        self.expect_keyword("typeof")?;
        self.expect_punct("(")?;
        let name = self.expect_name("a type")?;
        self.expect_punct(")")?;
        Ok(name)
    }

    /// After the word `mv-apply`.
    fn apply(&mut self) -> Parsed<OperatorKind> {
        let expand = self.expand()?;
        if self.is_name("id") {
            let problem = Problem::unsupported(self.span(), "mv-apply with an id");
            return Err(self.problem(problem));
        }
        self.expect_keyword("on")?;
        self.expect_punct("(")?;
        let operators = self.nested(|parser| {
            let mut operators = vec![parser.operator()?];
            operators.extend(parser.operators());
            Ok(operators)
        })?;
        self.expect_punct(")")?;
        Ok(OperatorKind::Apply { expand, operators })
    }

    fn render(&mut self) -> Parsed<OperatorKind> {
        let visualization = self.expect_name("a visualization")?;
        let mut properties = Vec::new();
        if self.take_name("with") {
            self.expect_punct("(")?;
            while !self.is_punct(")") {
                properties.push(self.render_property(true)?);
                if !self.take_punct(",") {
                    break;
                }
            }
            self.expect_punct(")")?;
        } else {
            // The older form has no parentheses and no commas between properties.
            while matches!(self.peek(), TokenKind::Name(_)) && self.is_punct_at(1, "=") {
                properties.push(self.render_property(false)?);
            }
        }
        Ok(OperatorKind::Render { visualization, properties })
    }

    fn render_property(&mut self, in_parentheses: bool) -> Parsed<(Name, String)> {
        let name = self.expect_name("a property")?;
        self.expect_punct("=")?;
        let mut value = self.render_value()?;
        // `series = a, b, title = "x"`: a name before `=` starts the next property.
        while self.is_punct(",")
            && !self.is_punct_at(2, "=")
            && (in_parentheses || matches!(self.peek_at(1), TokenKind::Name(_)))
            && !self.is_punct_at(1, ")")
        {
            self.bump();
            value.push(',');
            value.push_str(&self.render_value()?);
        }
        Ok((name, value))
    }

    fn render_value(&mut self) -> Parsed<String> {
        if let Some(name) = self.bracketed_name() {
            return Ok(name.text);
        }
        let negative = self.take_punct("-");
        let sign = if negative { "-" } else { "" };
        let value = match self.peek().clone() {
            TokenKind::Name(text) | TokenKind::Text(text) => text,
            TokenKind::Integer(value) => format!("{sign}{value}"),
            TokenKind::Real(value) => format!("{sign}{value}"),
            TokenKind::Typed(_, text) => format!("{sign}{text}"),
            TokenKind::TimeSpan(_) | TokenKind::Punct(_) | TokenKind::End => {
                let Failed = self.expected("a property's value");
                return Err(Failed);
            }
        };
        self.bump();
        Ok(value)
    }
}
