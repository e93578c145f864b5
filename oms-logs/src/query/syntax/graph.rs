//! The graph operators.

use super::ast::{
    EdgeCount, GraphDirection, GraphEdge, GraphMatch, GraphOutput, GraphPattern, GraphToTable,
    MakeGraph, Name, OperatorKind,
};
use super::parser::{Parsed, Parser};
use super::token::TokenKind;
use crate::query::limits::GRAPH_EDGES_MAX;

impl Parser {
    pub(super) fn make_graph(&mut self) -> Parsed<OperatorKind> {
        self.skip_hints()?;
        let source = self.expect_name("the column where edges start")?;
        self.expect_punct("-")?;
        self.expect_punct("-")?;
        self.expect_punct(">")?;
        let target = self.expect_name("the column where edges end")?;
        let (nodes, node_id, partition) = (Vec::new(), None, None);
        let mut graph = MakeGraph { source, target, nodes, node_id, partition };
        if self.take_option("with_node_id") {
            graph.node_id = Some(self.expect_name("a column name")?);
        } else if self.take_name("with") {
            loop {
                let nodes = self.table()?;
                self.expect_keyword("on")?;
                graph.nodes.push((nodes, self.expect_name("a column name")?));
                if !self.take_punct(",") {
                    break;
                }
            }
        }
        if self.is_name("partitioned") && self.is_punct_at(1, "-") {
            self.bump();
            self.bump();
            self.expect_keyword("by")?;
            let column = self.expect_name("a column of nodes and edges")?;
            graph.partition = Some((column, self.sub_pipeline()?));
        }
        Ok(OperatorKind::MakeGraph(graph))
    }

    /// `name = name`, as often as it comes.
    fn graph_options(&mut self) -> Parsed<Vec<(Name, Name)>> {
        let mut options = Vec::new();
        while matches!(self.peek(), TokenKind::Name(_)) && self.is_punct_at(1, "=") {
            let name = self.expect_name("an option")?;
            self.bump();
            options.push((name, self.expect_name("the option's value")?));
            self.take_punct(",");
        }
        Ok(options)
    }

    pub(super) fn graph_match(&mut self, shortest: bool) -> Parsed<OperatorKind> {
        self.skip_hints()?;
        let options = self.graph_options()?;
        let mut patterns = vec![self.graph_pattern()?];
        while self.take_punct(",") {
            patterns.push(self.graph_pattern()?);
        }
        let predicate = if self.take_name("where") { Some(self.expression()?) } else { None };
        let project =
            if self.take_name("project") { self.named_expressions()? } else { Vec::new() };
        let found = GraphMatch { shortest, options, patterns, predicate, project };
        Ok(OperatorKind::GraphMatch(found))
    }

    fn graph_node(&mut self) -> Parsed<Option<Name>> {
        self.expect_punct("(")?;
        let name = if self.is_punct(")") { None } else { Some(self.expect_name("a node's name")?) };
        self.expect_punct(")")?;
        Ok(name)
    }

    fn graph_pattern(&mut self) -> Parsed<GraphPattern> {
        let first = self.graph_node()?;
        let mut edges = Vec::new();
        while self.is_punct("-") || self.is_punct("<") {
            let edge = self.graph_edge()?;
            edges.push((edge, self.graph_node()?));
            if edges.len() > GRAPH_EDGES_MAX {
                return Err(self.too_deep());
            }
        }
        Ok(GraphPattern { first, edges })
    }

    /// `-[name*1..3]->`, `<-[name]-`, `-[name]-`, `-->`, `<--`, `--`
    fn graph_edge(&mut self) -> Parsed<GraphEdge> {
        let left = self.take_punct("<");
        self.expect_punct("-")?;
        let (mut name, mut length) = (None, None);
        if self.take_punct("[") {
            if matches!(self.peek(), TokenKind::Name(_)) {
                name = Some(self.expect_name("an edge's name")?);
            }
            if self.take_punct("*") {
                let least = self.edge_count()?;
                self.expect_punct("..")?;
                length = Some((least, self.edge_count()?));
            }
            self.expect_punct("]")?;
        }
        self.expect_punct("-")?;
        let right = self.take_punct(">");
        let direction = match (left, right) {
            (false, true) => GraphDirection::Right,
            (true, false) => GraphDirection::Left,
            (false, false) => GraphDirection::Any,
            (true, true) => return Err(self.expected("an edge in one direction")),
        };
        Ok(GraphEdge { name, direction, length })
    }

    fn edge_count(&mut self) -> Parsed<EdgeCount> {
        match *self.peek() {
            TokenKind::Integer(count) => {
                self.bump();
                Ok(EdgeCount::Number(count))
            }
            TokenKind::Name(_) => self.expect_name("a count of edges").map(EdgeCount::Name),
            _ => Err(self.expected("a count of edges")),
        }
    }

    pub(super) fn graph_to_table(&mut self) -> Parsed<OperatorKind> {
        let mut outputs = Vec::new();
        loop {
            let part = self.expect_name("`nodes` or `edges`")?;
            let name = if self.take_name("as") { Some(self.expect_name("a name")?) } else { None };
            let mut options = Vec::new();
            let named = self.take_name("with");
            if named {
                self.expect_punct("(")?;
            }
            options.extend(self.graph_options()?);
            if named {
                self.expect_punct(")")?;
            }
            outputs.push(GraphOutput { part, name, options });
            if !matches!(self.peek(), TokenKind::Name(_)) && !self.take_punct(",") {
                return Ok(OperatorKind::GraphToTable(GraphToTable { outputs }));
            }
            if outputs.len() > 2 {
                return Err(self.expected("at most one table of nodes and one of edges"));
            }
        }
    }

    pub(super) fn graph_mark_components(&mut self) -> Parsed<OperatorKind> {
        let (mut kind, mut column) = (None, None);
        for (name, value) in self.graph_options()? {
            match name.text.as_str() {
                "kind" => kind = Some(value),
                "with_component_id" => column = Some(value),
                _ => return Err(self.expected("`kind=` or `with_component_id=`")),
            }
        }
        Ok(OperatorKind::GraphMarkComponents(kind, column))
    }
}
