//! The operators with a syntax of their own: `parse`, `scan`, `search`, `make-series` and such.

use super::ast::{
    ColumnOrder, Evaluate, Expr, ExprKind, Facet, Find, FindColumn, Fork, Join, MakeSeries, Name,
    NamedExpr, Operator, OperatorKind, Parse, ParseKv, ParsePart, Partition, Reduce, Scan,
    ScanStep, Search, TopHitters, TopNested,
};
use super::parser::{Parsed, Parser};
use super::token::TokenKind;
use crate::query::limits::NESTING_DEPTH_MAX;

impl Parser {
    /// An operator of this file, after its name.
    pub(super) fn tabular(&mut self, name: &Name) -> Option<Parsed<OperatorKind>> {
        Some(match name.text.as_str() {
            "parse" => self.parse_operator(false),
            "parse-where" => self.parse_operator(true),
            "parse-kv" => self.parse_kv(),
            "make-series" => self.make_series(),
            "scan" => self.scan(),
            "partition" => self.partition(),
            "serialize" => self.serialize(),
            "top-nested" => self.top_nested(),
            "top-hitters" => self.top_hitters(),
            "sample" => self.expression().map(OperatorKind::Sample),
            "sample-distinct" => self.sample_distinct(),
            "reduce" => self.reduce(),
            "lookup" => self.lookup(),
            "search" => self.search().map(OperatorKind::Search),
            "getschema" => Ok(OperatorKind::GetSchema),
            "consume" => self.skip_options().map(|()| OperatorKind::Consume),
            "as" => {
                self.skip_options().and_then(|()| self.expect_name("a name").map(OperatorKind::As))
            }
            "invoke" => self.expression().map(OperatorKind::Invoke),
            "project-reorder" => self.project_reorder(),
            "project-by-names" => self.project_by_names(),
            "fork" => self.fork(),
            "facet" => self.facet(),
            "evaluate" => self.evaluate().map(OperatorKind::Evaluate),
            "make-graph" => self.make_graph(),
            "graph-match" => self.graph_match(false),
            "graph-shortest-paths" => self.graph_match(true),
            "graph-to-table" => self.graph_to_table(),
            "graph-mark-components" => self.graph_mark_components(),
            _ => return None,
        })
    }

    /// Whether `word =` is next.
    pub(super) fn is_option(&self, word: &str) -> bool {
        self.is_name(word) && self.is_punct_at(1, "=")
    }

    /// Goes past `word =`, if that is next.
    pub(super) fn take_option(&mut self, word: &str) -> bool {
        let found = self.is_option(word);
        if found {
            self.bump();
            self.bump();
        }
        found
    }

    /// Hints and `name = value` options that never change an answer.
    fn skip_options(&mut self) -> Parsed<()> {
        loop {
            self.skip_hints()?;
            if !(matches!(self.peek(), TokenKind::Name(_)) && self.is_punct_at(1, "=")) {
                return Ok(());
            }
            (0..3).for_each(|_| drop(self.bump()));
        }
    }

    /// `(operators)`, the first of which has no `|` before it.
    pub(super) fn sub_pipeline(&mut self) -> Parsed<Vec<Operator>> {
        self.nested(|parser| {
            parser.expect_punct("(")?;
            let mut operators = vec![parser.operator()?];
            operators.extend(parser.operators());
            parser.expect_punct(")")?;
            Ok(operators)
        })
    }

    fn parse_operator(&mut self, only_matches: bool) -> Parsed<OperatorKind> {
        let (mut kind, mut flags) = (None, None);
        loop {
            self.skip_hints()?;
            if self.take_option("kind") {
                kind = Some(self.expect_name("a kind of `parse`")?);
            } else if self.take_option("flags") {
                flags = Some(self.expect_name("flags")?);
            } else {
                break;
            }
        }
        let text = self.expression()?;
        self.expect_keyword("with")?;
        let mut parts = Vec::new();
        loop {
            match self.peek().clone() {
                TokenKind::Punct("*") => {
                    self.bump();
                    parts.push(ParsePart::Star);
                }
                TokenKind::Text(text) => {
                    self.bump();
                    parts.push(ParsePart::Text(text));
                }
                TokenKind::Name(_) | TokenKind::Punct("[") => {
                    let name = self.expect_name("a column name")?;
                    let kql_type =
                        if self.take_punct(":") { Some(self.expect_name("a type")?) } else { None };
                    parts.push(ParsePart::Column { name, kql_type });
                }
                _ => break,
            }
        }
        if parts.is_empty() {
            return Err(self.expected("`*`, a string or a column name"));
        }
        Ok(OperatorKind::Parse(Parse { only_matches, kind, flags, text, parts }))
    }

    fn parse_kv(&mut self) -> Parsed<OperatorKind> {
        let text = self.expression()?;
        self.expect_keyword("as")?;
        let keys = self.typed_names()?;
        let options = if self.take_name("with") { self.options_in_brackets()? } else { Vec::new() };
        Ok(OperatorKind::ParseKv(ParseKv { text, keys, options }))
    }

    /// `(name = value, …)`
    fn options_in_brackets(&mut self) -> Parsed<Vec<(Name, Expr)>> {
        self.expect_punct("(")?;
        let options = self.options()?;
        self.expect_punct(")")?;
        Ok(options)
    }

    /// `name = value, …`
    fn options(&mut self) -> Parsed<Vec<(Name, Expr)>> {
        let mut options = Vec::new();
        while matches!(self.peek(), TokenKind::Name(_)) && self.is_punct_at(1, "=") {
            let name = self.expect_name("an option")?;
            self.bump();
            options.push((name, self.expression()?));
            if !self.take_punct(",") {
                break;
            }
        }
        Ok(options)
    }

    fn make_series(&mut self) -> Parsed<OperatorKind> {
        let mut nonempty = false;
        loop {
            self.skip_hints()?;
            if !self.take_option("kind") {
                break;
            }
            self.expect_keyword("nonempty")?;
            nonempty = true;
        }
        let mut aggregates = Vec::new();
        loop {
            let aggregate = self.named_expression()?;
            let default = if self.take_option("default") { Some(self.expression()?) } else { None };
            aggregates.push((aggregate, default));
            if !self.take_punct(",") {
                break;
            }
        }
        self.expect_keyword("on")?;
        let axis = self.axis()?;
        let (mut from, mut to) = (None, None);
        let in_range = self.take_name("in");
        let step = if in_range {
            self.expect_keyword("range")?;
            self.expect_punct("(")?;
            from = Some(self.expression()?);
            self.expect_punct(",")?;
            to = Some(self.expression()?);
            self.expect_punct(",")?;
            let step = self.expression()?;
            self.expect_punct(")")?;
            step
        } else {
            if self.take_name("from") {
                from = Some(self.expression()?);
            }
            if self.take_name("to") {
                to = Some(self.expression()?);
            }
            self.expect_keyword("step")?;
            self.expression()?
        };
        let keys = if self.take_name("by") { self.named_expressions()? } else { Vec::new() };
        let series = MakeSeries { nonempty, aggregates, axis, from, to, step, in_range, keys };
        Ok(OperatorKind::MakeSeries(series))
    }

    /// The axis stops before `in`, which would otherwise be an operator.
    fn axis(&mut self) -> Parsed<NamedExpr> {
        let plain = matches!(self.peek(), TokenKind::Name(_))
            && matches!(self.peek_at(1), TokenKind::Name(word) if word == "in");
        if !plain {
            return self.named_expression();
        }
        let name = self.expect_name("a column name")?;
        let expr = self.expr(ExprKind::Name(name.text), name.span)?;
        Ok(NamedExpr { name: None, expr })
    }

    fn scan(&mut self) -> Parsed<OperatorKind> {
        let mut scan =
            Scan { match_id: None, declared: Vec::new(), partition: Vec::new(), steps: Vec::new() };
        loop {
            self.skip_hints()?;
            if self.take_option("with_match_id") {
                scan.match_id = Some(self.expect_name("a column name")?);
            } else if self.take_name("partition") {
                self.expect_keyword("by")?;
                scan.partition = self.named_expressions()?;
            } else if self.take_name("declare") {
                self.expect_punct("(")?;
                while !self.is_punct(")") {
                    let column = self.typed_name()?;
                    let default =
                        if self.take_punct("=") { Some(self.expression()?) } else { None };
                    scan.declared.push((column, default));
                    if !self.take_punct(",") {
                        break;
                    }
                }
                self.expect_punct(")")?;
            } else {
                break;
            }
        }
        self.expect_keyword("with")?;
        self.expect_punct("(")?;
        while self.take_name("step") {
            scan.steps.push(self.scan_step()?);
            while self.take_punct(";") {}
        }
        self.expect_punct(")")?;
        Ok(OperatorKind::Scan(scan))
    }

    fn scan_step(&mut self) -> Parsed<ScanStep> {
        let name = self.expect_name("a step's name")?;
        let output = if self.take_option("output") {
            Some(self.expect_name("`all`, `last` or `none`")?)
        } else {
            None
        };
        self.expect_punct(":")?;
        let condition = self.expression()?;
        let mut assignments = Vec::new();
        if self.take_punct("=>") {
            loop {
                let column = self.expect_name("a column name")?;
                self.expect_punct("=")?;
                assignments.push((column, self.expression()?));
                if !self.take_punct(",") {
                    break;
                }
            }
        }
        Ok(ScanStep { name, output, condition, assignments })
    }

    fn partition(&mut self) -> Parsed<OperatorKind> {
        let strategy = self.strategy_hint()?;
        self.expect_keyword("by")?;
        let name = self.expect_name("a column name")?;
        let key = self.expr(ExprKind::Name(name.text), name.span)?;
        if self.is_punct("{") {
            self.bump();
            let table = self.expression_or_pipeline()?;
            self.expect_punct("}")?;
            let table = Some(Box::new(table));
            let operators = Vec::new();
            return Ok(OperatorKind::Partition(Partition { strategy, key, operators, table }));
        }
        let operators = self.sub_pipeline()?;
        Ok(OperatorKind::Partition(Partition { strategy, key, operators, table: None }))
    }

    fn serialize(&mut self) -> Parsed<OperatorKind> {
        self.skip_hints()?;
        let ends = matches!(self.peek(), TokenKind::End | TokenKind::Punct("|" | ";" | ")" | "}"));
        let items = if ends { Vec::new() } else { self.named_expressions()? };
        Ok(OperatorKind::Serialize(items))
    }

    fn top_nested(&mut self) -> Parsed<OperatorKind> {
        let mut levels = Vec::new();
        loop {
            let count = if self.is_name("of") { None } else { Some(self.expression()?) };
            self.expect_keyword("of")?;
            let of = self.named_expression()?;
            let others = if self.take_name("with") {
                self.expect_keyword("others")?;
                self.expect_punct("=")?;
                Some(self.expression()?)
            } else {
                None
            };
            self.expect_keyword("by")?;
            let by = self.named_expression()?;
            let ascending = self.take_name("asc");
            if !ascending {
                self.take_name("desc");
            }
            levels.push(TopNested { count, of, others, by, ascending });
            if levels.len() > NESTING_DEPTH_MAX {
                return Err(self.too_deep());
            }
            if !self.take_punct(",") {
                return Ok(OperatorKind::TopNested(levels));
            }
            let Name { text, .. } = self.operator_name()?;
            if text != "top-nested" {
                return Err(self.expected("`top-nested`"));
            }
        }
    }

    fn top_hitters(&mut self) -> Parsed<OperatorKind> {
        let count = self.expression()?;
        self.expect_keyword("of")?;
        let of = self.named_expression()?;
        let by = if self.take_name("by") { Some(self.named_expression()?) } else { None };
        Ok(OperatorKind::TopHitters(TopHitters { count, of, by }))
    }

    fn sample_distinct(&mut self) -> Parsed<OperatorKind> {
        let count = self.expression()?;
        self.expect_keyword("of")?;
        Ok(OperatorKind::SampleDistinct(count, self.named_expression()?))
    }

    fn reduce(&mut self) -> Parsed<OperatorKind> {
        self.skip_hints()?;
        let kind = if self.take_option("kind") { Some(self.expect_name("a kind")?) } else { None };
        self.expect_keyword("by")?;
        let by = self.expression()?;
        let options = if self.take_name("with") { self.options()? } else { Vec::new() };
        Ok(OperatorKind::Reduce(Reduce { kind, by, options }))
    }

    fn lookup(&mut self) -> Parsed<OperatorKind> {
        let join: Join = self.join()?;
        Ok(OperatorKind::Lookup(join))
    }

    /// A condition in which `column:term` looks for a term.
    fn search_predicate(&mut self) -> Parsed<Expr> {
        let before = std::mem::replace(&mut self.in_search, true);
        let predicate = self.expression();
        self.in_search = before;
        predicate
    }

    /// `in (tables)`, if that is next.
    fn in_tables(&mut self) -> Parsed<Vec<Expr>> {
        let mut tables = Vec::new();
        if self.is_name("in") && self.is_punct_at(1, "(") {
            self.bump();
            self.bump();
            while !self.is_punct(")") {
                tables.push(self.table()?);
                if !self.take_punct(",") {
                    break;
                }
            }
            self.expect_punct(")")?;
        }
        Ok(tables)
    }

    /// After the word `search`.
    pub(super) fn search(&mut self) -> Parsed<Search> {
        let mut kind = None;
        loop {
            self.skip_hints()?;
            if !self.take_option("kind") {
                break;
            }
            kind = Some(self.expect_name("a kind of search")?);
        }
        let tables = self.in_tables()?;
        Ok(Search { kind, tables, predicate: self.search_predicate()? })
    }

    /// After the word `find`.
    pub(super) fn find(&mut self) -> Parsed<Find> {
        let mut source_column = None;
        loop {
            self.skip_hints()?;
            if self.take_option("withsource") || self.take_option("with_source") {
                source_column = Some(self.expect_name("a column name")?);
            } else {
                break;
            }
        }
        let tables = self.in_tables()?;
        self.take_name("where");
        let predicate = self.search_predicate()?;
        let mut project = None;
        if self.is_name("project") && self.is_punct_at(1, "-") {
            let Name { text, .. } = self.operator_name()?;
            if text != "project-smart" {
                return Err(self.expected("`project-smart` or `project`"));
            }
        } else if self.take_name("project") {
            let mut columns = Vec::new();
            loop {
                columns.push(self.find_column()?);
                if !self.take_punct(",") {
                    break;
                }
            }
            project = Some(columns);
        }
        Ok(Find { source_column, tables, predicate, project })
    }

    fn find_column(&mut self) -> Parsed<FindColumn> {
        if (self.is_name("pack") || self.is_name("pack_all")) && self.is_punct_at(1, "(") {
            if self.is_name("pack") {
                self.bump();
                self.bump();
                self.expect_punct("*")?;
            } else {
                self.bump();
                self.bump();
            }
            self.expect_punct(")")?;
            return Ok(FindColumn::Pack);
        }
        let name = self.expect_name("a column name")?;
        let kql_type = if self.take_punct(":") { Some(self.expect_name("a type")?) } else { None };
        Ok(FindColumn::Column { name, kql_type })
    }

    fn project_reorder(&mut self) -> Parsed<OperatorKind> {
        let mut orders = Vec::new();
        loop {
            let pattern = self.name_pattern("a column name")?;
            let order = match self.peek() {
                TokenKind::Name(word) if matches!(word.as_str(), "asc" | "desc") => {
                    Some(self.expect_name("an order")?)
                }
                TokenKind::Name(word) if word == "granny" && self.is_punct_at(1, "-") => {
                    let start = self.bump().span;
                    self.bump();
                    let Name { text, span } = self.expect_name("`asc` or `desc`")?;
                    Some(Name { text: format!("granny-{text}"), span: start.to(span) })
                }
                _ => None,
            };
            orders.push(ColumnOrder { pattern, order });
            if !self.take_punct(",") {
                return Ok(OperatorKind::ProjectReorder(orders));
            }
        }
    }

    fn project_by_names(&mut self) -> Parsed<OperatorKind> {
        let mut names = vec![self.expression()?];
        while self.take_punct(",") {
            names.push(self.expression()?);
        }
        Ok(OperatorKind::ProjectByNames(names))
    }

    fn fork(&mut self) -> Parsed<OperatorKind> {
        let mut forks = Vec::new();
        while self.is_punct("(")
            || (matches!(self.peek(), TokenKind::Name(_)) && self.is_punct_at(1, "="))
        {
            let name = if self.is_punct("(") {
                None
            } else {
                let name = self.expect_name("a name")?;
                self.bump();
                Some(name)
            };
            forks.push(Fork { name, operators: self.sub_pipeline()? });
            self.take_punct(",");
        }
        if forks.is_empty() {
            return Err(self.expected("`(`"));
        }
        Ok(OperatorKind::Fork(forks))
    }

    fn facet(&mut self) -> Parsed<OperatorKind> {
        self.expect_keyword("by")?;
        let mut columns = vec![self.expect_name("a column name")?];
        while self.take_punct(",") {
            columns.push(self.expect_name("a column name")?);
        }
        let operators = if self.take_name("with") { self.sub_pipeline()? } else { Vec::new() };
        Ok(OperatorKind::Facet(Facet { columns, operators }))
    }

    /// After the word `evaluate`.
    pub(super) fn evaluate(&mut self) -> Parsed<Evaluate> {
        self.skip_hints()?;
        let name = self.expect_name("a plugin")?;
        self.expect_punct("(")?;
        let (arguments, _end) = self.arguments()?;
        let schema = if self.take_punct(":") { Some(self.plugin_schema()?) } else { None };
        Ok(Evaluate { name, arguments, schema })
    }

    /// `(*, name: type, …)`
    fn plugin_schema(&mut self) -> Parsed<(bool, Vec<super::ast::TypedName>)> {
        self.expect_punct("(")?;
        let star = self.take_punct("*");
        if star {
            self.take_punct(",");
        }
        let mut columns = Vec::new();
        while !self.is_punct(")") {
            columns.push(self.typed_name()?);
            if !self.take_punct(",") {
                break;
            }
        }
        self.expect_punct(")")?;
        Ok((star, columns))
    }
}
