//! The graph operators: rows as nodes and edges.
//!
//! ```text
//! make-graph ──► nodes, edges ──┬── graph-mark-components ──► a column of the nodes
//!                               ├── graph-to-table ─────────► the nodes or edges as rows
//!                               └── graph-match ──► conditions and values of single elements
//!                                     as columns ──► paths (`paths`) ──► where, project
//! ```

mod components;

mod elements;

mod paths;

use crate::query::bind::{BindResult, Binder, Items, Scope, Stage, of_part};
use crate::query::bound::{Column, Expr, JoinKind, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::function::common_type;
use crate::query::operator::per_part::PerPart;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{
    self, EdgeCount, GraphMatch, GraphOutput, GraphToTable, MakeGraph, Operator, OperatorKind,
};
use crate::query::types::KqlType;
use elements::Elements;
use std::sync::Arc;

/// The column of a node's key, and of the keys where an edge starts and ends. In a graph that is many
/// graphs, a key holds which of them it is of.
const KEY: &str = "$key";
const SOURCE: &str = "$source";
const TARGET: &str = "$target";
/// The nodes' column of which of the graphs they are in.
const PARTITION: &str = "$\u{1}partition";
/// Their id then, of which the key is made. (Neither is a name that data bring.)
const ID: &str = "$\u{1}id";
/// What no table shows of a graph.
const HIDDEN: [&str; 5] = [KEY, SOURCE, TARGET, PARTITION, ID];

/// A graph while its operators are bound.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// The nodes' columns, and [`KEY`]; [`PARTITION`] if the graph is many graphs.
    nodes: Arc<Relation>,
    /// The edges' columns, and [`SOURCE`] and [`TARGET`].
    edges: Arc<Relation>,
}

/// What the nodes of a graph are known by.
struct Keys {
    /// The common type of the ids in all tables.
    id_type: KqlType,
    /// Whether the graph is many graphs.
    is_parted: bool,
    span: Span,
}

impl Keys {
    fn key(&self) -> Column {
        Column::new(KEY, if self.is_parted { KqlType::String } else { self.id_type })
    }

    /// The columns of a node that is known by the edges alone.
    fn columns(&self) -> Vec<Column> {
        let mut columns = vec![self.key()];
        if self.is_parted {
            columns.push(Column::new(PARTITION, KqlType::String));
            columns.push(Column::new(ID, self.id_type));
        }
        columns
    }
}

impl Binder<'_> {
    /// The graph of a table of edges; of many graphs, the rows that their operators make.
    pub(crate) fn graph(
        &mut self,
        edges: Arc<Relation>,
        graph: &MakeGraph,
        span: Span,
    ) -> BindResult<Stage> {
        let made = self.make_graph(edges, graph, span)?;
        let Some((_, operators)) = &graph.partition else { return Ok(Stage::Graph(made)) };
        let mut stage = Stage::Graph(made);
        for (at, operator) in operators.iter().enumerate() {
            stage = match stage {
                Stage::Graph(graph) => self.graph_operator(&graph, operator)?,
                Stage::Rows(rows) => {
                    let rest = operators.get(at..).unwrap_or_default();
                    return self.after_match(rows, rest, operator.span).map(Stage::Rows);
                }
            };
        }
        match stage {
            Stage::Graph(_) => {
                let message = "many graphs are made rows of by the operators of `partitioned-by`";
                Err(self.report(Problem::semantic(span, message)))
            }
            Stage::Rows(rows) => self.after_match(rows, &[], span).map(Stage::Rows),
        }
    }

    /// What further operators make of the rows of each graph that has any; which graph a row is of
    /// is not shown.
    fn after_match(
        &mut self,
        rows: Arc<Relation>,
        operators: &[Operator],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let shown: Vec<Column> =
            rows.columns.iter().filter(|column| column.name != PARTITION).cloned().collect();
        if operators.is_empty() {
            return self.projected(rows, Items::of_columns(&shown, span), span);
        }
        if shown.len() == rows.columns.len() {
            let what = "an operator after graph-to-table within partitioned-by";
            return Err(self.report(Problem::unsupported(span, what)));
        }
        let mut items = Items::of_columns(&shown, span);
        items.replace(PARTITION, Expr::column(PARTITION, KqlType::String, span));
        let rows = self.projected(rows, items, span)?;
        let Some(part) = self.part(&shown, operators, span)? else {
            let what = "a sub-query over a graph's own rows within partitioned-by";
            return Err(self.report(Problem::unsupported(span, what)));
        };
        let (columns, serialized) = (part.body.columns.clone(), part.body.is_serialized());
        let function = PerPart {
            operator: "partitioned-by",
            key: shown.len(),
            given: shown,
            body: part.body,
            most: None,
            carried: None,
        };
        let (inputs, function) = (vec![rows], Arc::new(function));
        self.relation(RelationKind::Table { inputs, function, serialized }, columns, span)
    }

    /// What an operator makes of a graph.
    pub(crate) fn graph_operator(
        &mut self,
        graph: &Graph,
        operator: &Operator,
    ) -> BindResult<Stage> {
        match &operator.kind {
            OperatorKind::GraphMarkComponents(kind, column) => {
                let name = column.as_ref().map_or("ComponentId", |name| name.text.as_str());
                let strong = match kind.as_ref().map(|kind| kind.text.as_str()) {
                    None | Some("weak") => false,
                    Some("strong") => true,
                    Some(other) => {
                        let message = format!("`{other}` is not a kind of component");
                        return Err(self.report(Problem::semantic(operator.span, message)));
                    }
                };
                let nodes = self.marked(graph, name, strong, operator.span)?;
                Ok(Stage::Graph(Graph { nodes, edges: Arc::clone(&graph.edges) }))
            }
            OperatorKind::GraphMatch(wanted) => {
                self.graph_match(graph, wanted, operator.span).map(Stage::Rows)
            }
            OperatorKind::GraphToTable(wanted) => {
                self.graph_to_table(graph, wanted, operator.span).map(Stage::Rows)
            }
            _ => {
                let message = "a graph is followed by `graph-match`, `graph-shortest-paths`, \
                               `graph-mark-components` or `graph-to-table`";
                Err(self.report(Problem::semantic(operator.span, message)))
            }
        }
    }

    fn make_graph(
        &mut self,
        edges: Arc<Relation>,
        graph: &MakeGraph,
        span: Span,
    ) -> BindResult<Graph> {
        let (source, target) =
            (self.column_of(&edges, &graph.source)?, self.column_of(&edges, &graph.target)?);
        let partition = graph.partition.as_ref().map(|(name, _)| name);
        let part_of_edges = partition.map(|name| self.column_of(&edges, name)).transpose()?;
        let mut tables = Vec::new();
        let mut types = vec![source.kql_type, target.kql_type];
        for (table, key) in &graph.nodes {
            let table = self.table(table)?;
            let key = self.column_of(&table, key)?;
            types.push(key.kql_type);
            let part = partition.map(|name| self.column_of(&table, name)).transpose()?;
            tables.push((table, key, part));
        }
        let Some(kql_type) = common_type(types).filter(|of| *of != KqlType::Dynamic) else {
            let message = "the keys of nodes and edges have no common type";
            return Err(self.report(Problem::semantic(span, message)));
        };
        let keys = Keys { id_type: kql_type, is_parted: part_of_edges.is_some(), span };
        let part = part_of_edges.as_ref();
        let mut ends = Vec::new();
        for column in [&source, &target] {
            let mut items = Items::default();
            self.add_keys(&mut items, column, part, &keys)?;
            ends.push(self.projected(Arc::clone(&edges), items, span)?);
        }
        let columns = keys.columns();
        let all = self.relation(RelationKind::Union(ends), columns.clone(), span)?;
        let items = Items::of_columns(&columns, span).items;
        let kind = RelationKind::Aggregate { input: all, keys: items, aggregates: Vec::new() };
        let ends = self.relation(kind, columns, span)?;
        let nodes = self.graph_nodes(ends, tables, graph, &keys)?;
        let mut items = Items::of_columns(&edges.columns, span);
        for (name, column) in [(SOURCE, &source), (TARGET, &target)] {
            let key = self.graph_key(column, part, &keys)?;
            items.replace(name, key);
        }
        let edges = self.projected(edges, items, span)?;
        Ok(Graph { nodes, edges })
    }

    fn column_of(&mut self, table: &Relation, name: &ast::Name) -> BindResult<Column> {
        match table.columns.iter().find(|column| column.name == name.text) {
            Some(column) => Ok(column.clone()),
            None => Err(self.no_column(table, name)),
        }
    }

    /// The key of a node: its id, or a text that begins with the graph's and its length.
    fn graph_key(&mut self, id: &Column, part: Option<&Column>, keys: &Keys) -> BindResult<Expr> {
        let of = |column: &Column| Expr::column(&column.name, column.kql_type, keys.span);
        let id = crate::query::function::cast(of(id), keys.id_type);
        let Some(part) = part else { return Ok(id) };
        let part = self.call_built_in("tostring", vec![of(part)])?;
        let length = self.call_built_in("strlen", vec![part.clone()])?;
        let colon = Expr::text(":", keys.span);
        self.call_built_in("strcat", vec![length, colon, part, id])
    }

    /// The columns of [`Keys::columns`], of the rows of a table.
    fn add_keys(
        &mut self,
        items: &mut Items,
        id: &Column,
        part: Option<&Column>,
        keys: &Keys,
    ) -> BindResult<()> {
        let key = self.graph_key(id, part, keys)?;
        items.replace(KEY, key);
        if let Some(part) = part {
            let of = Expr::column(&part.name, part.kql_type, keys.span);
            let part = self.call_built_in("tostring", vec![of])?;
            items.replace(PARTITION, part);
            let id = Expr::column(&id.name, id.kql_type, keys.span);
            items.replace(ID, crate::query::function::cast(id, keys.id_type));
        }
        Ok(())
    }

    /// The rows of the tables of nodes, and a node for each end of an edge that has none.
    fn graph_nodes(
        &mut self,
        ends: Arc<Relation>,
        tables: Vec<(Arc<Relation>, Column, Option<Column>)>,
        graph: &MakeGraph,
        keys: &Keys,
    ) -> BindResult<Arc<Relation>> {
        let span = keys.span;
        if tables.is_empty() {
            let mut items = Items::of_columns(&keys.columns(), span);
            if let Some(name) = &graph.node_id {
                let id = if keys.is_parted { ID } else { KEY };
                items.replace(&name.text, Expr::column(id, keys.id_type, span));
            }
            return self.projected(ends, items, span);
        }
        let id_column = tables.first().map(|(_, id, _)| id.clone());
        let mut keyed = Vec::new();
        for (table, id, part) in tables {
            let mut items = Items::of_columns(&table.columns, span);
            self.add_keys(&mut items, &id, part.as_ref(), keys)?;
            keyed.push((String::new(), self.projected(table, items, span)?));
        }
        let known = self.union_of(keyed, false, None, span)?;
        let pairs = [(keys.key(), keys.key())];
        let alone = self.joined(ends, Arc::clone(&known), JoinKind::LeftAnti, &pairs, span)?;
        // Of such a node nothing is known but its id.
        let mut items = Items::of_columns(&keys.columns(), span);
        if let Some(named) = id_column {
            let id = Expr::column(if keys.is_parted { ID } else { KEY }, keys.id_type, span);
            let id = self.converted(id, named.kql_type)?;
            items.replace(&named.name, id);
        }
        let alone = self.projected(alone, items, span)?;
        self.union_of(vec![(String::new(), known), (String::new(), alone)], false, None, span)
    }

    /// The nodes with the number of their component.
    fn marked(
        &mut self,
        graph: &Graph,
        name: &str,
        strong: bool,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut columns = graph.nodes.columns.clone();
        if columns.iter().any(|column| column.name == name) {
            let message = format!("there is a column `{name}` already");
            return Err(self.report(Problem::semantic(span, message)));
        }
        columns.push(Column::new(name, KqlType::Long));
        let function = components::Components {
            key: place(&graph.nodes, KEY).unwrap_or(0),
            partition: place(&graph.nodes, PARTITION),
            source: place(&graph.edges, SOURCE).unwrap_or(0),
            target: place(&graph.edges, TARGET).unwrap_or(0),
            strong,
        };
        let inputs = vec![Arc::clone(&graph.nodes), Arc::clone(&graph.edges)];
        let kind = RelationKind::Table { inputs, function: Arc::new(function), serialized: false };
        self.relation(kind, columns, span)
    }

    fn graph_to_table(
        &mut self,
        graph: &Graph,
        wanted: &GraphToTable,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut tables = Vec::new();
        for output in &wanted.outputs {
            let table = self.graph_output(graph, output, span)?;
            let name = output.name.as_ref().map_or(&output.part, |name| name).text.clone();
            self.remember(&name, &table);
            tables.push((name, table));
        }
        match tables.as_slice() {
            [(_, only)] => Ok(Arc::clone(only)),
            [(_, first), ..] => {
                let first = Arc::clone(first);
                self.others.extend(tables);
                Ok(first)
            }
            [] => Err(self.report(Problem::semantic(span, "expected `nodes` or `edges`"))),
        }
    }

    fn graph_output(
        &mut self,
        graph: &Graph,
        output: &GraphOutput,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let (table, known): (_, &[(&str, &str)]) = match output.part.text.as_str() {
            "nodes" => (&graph.nodes, &[("with_node_id", KEY)]),
            "edges" => (&graph.edges, &[("with_source_id", SOURCE), ("with_target_id", TARGET)]),
            other => {
                let message = format!("`{other}` is not a part of a graph");
                let problem = Problem::semantic(output.part.span, message);
                return Err(self.report(problem.near(other, ["edges", "nodes"])));
            }
        };
        let plain: Vec<Column> = table
            .columns
            .iter()
            .filter(|column| !HIDDEN.contains(&column.name.as_str()))
            .cloned()
            .collect();
        let mut items = Items::default();
        for (option, name) in &output.options {
            let Some((_, key)) = known.iter().find(|(known, _)| *known == option.text) else {
                let message = format!("`{}` is not an option here", option.text);
                return Err(self.report(Problem::semantic(option.span, message)));
            };
            let of = table.columns.iter().find(|column| column.name == *key);
            let kql_type = of.map_or(KqlType::Long, |column| column.kql_type);
            let id = self.call_built_in("hash", vec![Expr::column(*key, kql_type, span)])?;
            if plain.iter().any(|column| column.name == name.text) {
                let message = format!("there is a column `{}` already", name.text);
                return Err(self.report(Problem::semantic(name.span, message)));
            }
            self.checked(items.add_named(name, id))?;
        }
        for column in &plain {
            items.replace(&column.name, Expr::column(&column.name, column.kql_type, span));
        }
        self.projected(Arc::clone(table), items, span)
    }

    /// A row for each way to lay the pattern over the graph.
    fn graph_match(
        &mut self,
        graph: &Graph,
        wanted: &GraphMatch,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let wanted = &self.with_counts(wanted)?;
        let graph = self.with_degrees(graph, wanted, span)?;
        let mut elements = Elements::of(wanted);
        let found = elements.check();
        self.checked(found)?;
        let cycles = self.graph_option(wanted, "cycles", &["unique_edges", "none", "all"])?;
        let output = self.graph_option(wanted, "output", &["any", "all"])?;
        let predicate = wanted.predicate.as_ref().map(|predicate| elements.rewritten(predicate));
        let project: Vec<ast::NamedExpr> = wanted
            .project
            .iter()
            .map(|item| ast::NamedExpr {
                name: item.name.clone(),
                expr: elements.rewritten(&item.expr),
            })
            .collect();
        let (nodes, edges) = self.element_columns(&graph, &mut elements)?;
        let (columns, outputs) = elements.outputs(&nodes, &edges);
        let function = paths::Paths {
            key: place(&nodes, KEY).unwrap_or(0),
            partition: place(&nodes, PARTITION),
            source: place(&edges, SOURCE).unwrap_or(0),
            target: place(&edges, TARGET).unwrap_or(0),
            patterns: elements.patterns(&nodes, &edges),
            node_count: elements.nodes.len(),
            edge_count: elements.edges.len(),
            cycles: match cycles.as_str() {
                "none" => paths::Cycles::None,
                "all" => paths::Cycles::All,
                _ => paths::Cycles::UniqueEdges,
            },
            shortest: wanted.shortest.then_some(output == "all"),
            outputs,
        };
        let kind = RelationKind::Table {
            inputs: vec![nodes, edges],
            function: Arc::new(function),
            serialized: false,
        };
        let mut matches = self.relation(kind, columns, span)?;
        if let Some(predicate) = &predicate {
            let bound = self.condition(predicate, &mut Scope::rows(&matches.columns))?;
            matches = self.filtered(matches, bound, span)?;
        }
        // Further operators go by which of many graphs a row is of.
        let of_graph = place(&matches, PARTITION)
            .map(|_| (PARTITION.to_owned(), Expr::column(PARTITION, KqlType::String, span)));
        if project.is_empty() {
            let mut items = Items::default();
            items.items.extend(of_graph);
            for column in &matches.columns {
                let name = elements.plain_name(&column.name);
                if let Some(name) = name {
                    items.replace(&name, Expr::column(&column.name, column.kql_type, span));
                }
            }
            return self.projected(matches, items, span);
        }
        let mut items = self.graph_project(&matches, &wanted.project, &project)?;
        items.items.extend(of_graph);
        self.projected(matches, items, span)
    }

    /// The columns of `project`; one that is `a.b` is called `a_b`.
    fn graph_project(
        &mut self,
        matches: &Relation,
        written: &[ast::NamedExpr],
        rewritten: &[ast::NamedExpr],
    ) -> BindResult<Items> {
        let mut items = Items::default();
        for (written, item) in written.iter().zip(rewritten) {
            let bound = self.expr(&item.expr, &mut Scope::rows(&matches.columns))?;
            match &item.name {
                Some(name) => self.checked(items.add_named(name, bound))?,
                None => {
                    let implied = crate::query::bind::column_name(&written.expr);
                    items.add_implied(implied, "Column", bound);
                }
            }
        }
        Ok(items)
    }

    fn graph_option(
        &mut self,
        wanted: &GraphMatch,
        name: &str,
        known: &[&str],
    ) -> BindResult<String> {
        let given = wanted.options.iter().find(|(option, _)| option.text == name);
        let Some((_, value)) = given else {
            return Ok(known.first().copied().unwrap_or_default().to_owned());
        };
        if known.contains(&value.text.as_str()) {
            return Ok(value.text.clone());
        }
        let message = format!("`{}` is not a value of `{name}`", value.text);
        let problem = Problem::semantic(value.span, message);
        Err(self.report(problem.near(&value.text, known.iter().copied())))
    }

    /// The pattern with numbers in the place of names for them.
    fn with_counts(&mut self, wanted: &GraphMatch) -> BindResult<GraphMatch> {
        let mut wanted = wanted.clone();
        let edges = wanted.patterns.iter_mut().flat_map(|pattern| &mut pattern.edges);
        for count in edges.filter_map(|(edge, _)| edge.length.as_mut()).flat_map(|(a, b)| [a, b]) {
            let EdgeCount::Name(name) = &*count else { continue };
            let (text, span) = (name.text.clone(), name.span);
            let named = ast::Expr::new(ast::ExprKind::Name(text), span);
            let value = self.expr(&named, &mut Scope::constants())?;
            let number = value.as_long().and_then(|number| u64::try_from(number).ok());
            let Some(number) = number.filter(|_| value.kql_type.is_number()) else {
                let message = format!("`{named}` is no count of edges");
                return Err(self.report(Problem::semantic(span, message)));
            };
            *count = EdgeCount::Number(number);
        }
        Ok(wanted)
    }

    /// The graph with the degrees of its nodes, if the query asks for them.
    fn with_degrees(
        &mut self,
        graph: &Graph,
        wanted: &GraphMatch,
        span: Span,
    ) -> BindResult<Graph> {
        let mut graph = graph.clone();
        for (function, end) in [("node_degree_in", TARGET), ("node_degree_out", SOURCE)] {
            if !elements::calls(wanted, function) {
                continue;
            }
            let Some(end) = graph.edges.columns.iter().find(|of| of.name == end).cloned() else {
                continue;
            };
            let key = Column::new(KEY, end.kql_type);
            let name = format!("${function}");
            let edges = Arc::clone(&graph.edges);
            let counted = self.counted(edges, std::slice::from_ref(&end), &name, span)?;
            let columns = graph.nodes.columns.clone();
            let nodes = Arc::clone(&graph.nodes);
            let pairs = [(key, end)];
            let joined = self.joined(nodes, counted, JoinKind::LeftOuter, &pairs, span)?;
            let mut items = Items::of_columns(&columns, span);
            let degree = Expr::column(&name, KqlType::Long, span);
            let degree = self.call_built_in("coalesce", vec![degree, Expr::long(0, span)])?;
            items.replace(&name, degree);
            graph.nodes = self.projected(joined, items, span)?;
        }
        Ok(graph)
    }

    /// The nodes and edges with a column for each condition and value that the query has of them.
    fn element_columns(
        &mut self,
        graph: &Graph,
        elements: &mut Elements,
    ) -> BindResult<(Arc<Relation>, Arc<Relation>)> {
        let mut made = Vec::new();
        for (relation, of_nodes) in [(&graph.nodes, true), (&graph.edges, false)] {
            let span = Span::default();
            let mut items = Items::of_columns(&relation.columns, span);
            for list in elements.lists.iter_mut().filter(|list| list.of_nodes == of_nodes) {
                let scope = &mut Scope::rows(&relation.columns);
                let bound = if let ast::ExprKind::Star(_) = &list.expr.kind {
                    let shown = |column: &&Column| !HIDDEN.contains(&column.name.as_str());
                    let shown: Vec<&Column> = relation.columns.iter().filter(shown).collect();
                    self.packed(&shown, span)?
                } else if list.kind == elements::ListKind::Map {
                    self.expr(&list.expr, scope)?
                } else {
                    self.condition(&list.expr, scope)?
                };
                list.kql_type = bound.kql_type;
                items.replace(&list.column, bound);
            }
            for check in elements.checks.iter().filter(|check| check.of_nodes == of_nodes) {
                let bound = self.condition(&check.expr, &mut Scope::rows(&relation.columns))?;
                items.replace(&check.column, bound);
            }
            made.push(self.projected(Arc::clone(relation), items, span)?);
        }
        match <[Arc<Relation>; 2]>::try_from(made) {
            Ok([nodes, edges]) => Ok((nodes, edges)),
            Err(_) => Err(crate::query::bind::Failed),
        }
    }
}

/// Where a table has a column.
fn place(relation: &Relation, name: &str) -> Option<usize> {
    relation.columns.iter().position(|column| column.name == name)
}

/// The column of the matches for a column of a node or edge.
fn match_column(element: &str, column: &str) -> String {
    of_part(element, column)
}
