//! Paths of a graph that fit chains of nodes and edges.

use super::elements::ListKind;
use crate::query::dynamic::{DynamicBuilder, Value};
use crate::query::limits::{OPERATOR_ROWS_MAX, exceeded};
use crate::query::operator::effort::Effort;
use crate::query::operator::values::{take_or_empty, value_of};
use crate::query::plan::TableFunction;
use crate::query::syntax::ast::GraphDirection;
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array,
};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::collections::HashMap;
use std::sync::Arc;

/// The most edges that one edge of variable length stands for.
pub(super) const LENGTH_MAX: u64 = 100;
/// The most steps of a search: the nodes and edges that it looks at.
const STEPS_MAX: usize = 200_000_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cycles {
    /// No node twice.
    None,
    /// No edge twice.
    UniqueEdges,
    All,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) element: usize,
    /// The columns of the nodes that must hold.
    pub(super) checks: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) edge: usize,
    pub(super) checks: Vec<usize>,
    pub(super) direction: GraphDirection,
    pub(super) least: u64,
    pub(super) most: u64,
    pub(super) next: Node,
}

#[derive(Debug)]
pub(super) struct Chain {
    pub(super) first: Node,
    pub(super) steps: Vec<Step>,
}

/// A column of the matches.
#[derive(Debug)]
pub(super) enum Output {
    Node { element: usize, column: usize },
    Edge { element: usize, column: usize },
    List { kind: ListKind, element: usize, of_nodes: bool, column: usize, kql_type: KqlType },
}

#[derive(Debug)]
pub(super) struct Paths {
    pub(super) key: usize,
    /// The nodes' column of which graph they are in: a match is in one.
    pub(super) partition: Option<usize>,
    pub(super) source: usize,
    pub(super) target: usize,
    pub(super) patterns: Vec<Chain>,
    pub(super) node_count: usize,
    pub(super) edge_count: usize,
    pub(super) cycles: Cycles,
    /// Only the shortest paths between two nodes: all of them, or one.
    pub(super) shortest: Option<bool>,
    pub(super) outputs: Vec<Output>,
}

/// Where an edge goes from a node.
#[derive(Clone, Copy)]
struct Hop {
    edge: usize,
    node: usize,
    /// Whether it goes along the edge.
    along: bool,
}

/// The nodes and edges of one match.
#[derive(Clone)]
struct Match {
    nodes: Vec<Option<usize>>,
    edges: Vec<Vec<usize>>,
    /// The nodes between the edges of each element.
    between: Vec<Vec<usize>>,
}

impl Match {
    /// How much memory a copy of it takes.
    fn bytes(&self) -> usize {
        let lists = self.edges.iter().chain(&self.between);
        let lists = lists.map(|list| size_of::<Vec<usize>>() + size_of_val(list.as_slice()));
        size_of::<Self>() + size_of_val(self.nodes.as_slice()) + lists.sum::<usize>()
    }
}

/// The nodes at both ends of the edges.
pub(super) fn node_numbers(
    nodes: &ArrayRef,
    ends: [&ArrayRef; 2],
) -> Result<[Vec<Option<usize>>; 2]> {
    let converter = RowConverter::new(vec![SortField::new(nodes.data_type().clone())])?;
    let keys = converter.convert_columns(std::slice::from_ref(nodes))?;
    let mut places: HashMap<OwnedRow, usize> = HashMap::new();
    for row in 0..nodes.len() {
        places.entry(keys.row(row).owned()).or_insert(row);
    }
    let numbers = |end: &ArrayRef| -> Result<Vec<Option<usize>>> {
        let rows = converter.convert_columns(std::slice::from_ref(end))?;
        Ok(rows.iter().map(|row| places.get(&row.owned()).copied()).collect())
    };
    Ok([numbers(ends[0])?, numbers(ends[1])?])
}

/// The number of the graph that each node is in; none where all are in one.
pub(super) fn graph_numbers(nodes: &RecordBatch, partition: Option<usize>) -> Result<Vec<usize>> {
    let Some(partition) = partition else { return Ok(Vec::new()) };
    let column = nodes.column(partition);
    let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(column))?;
    let mut numbers: HashMap<OwnedRow, usize> = HashMap::new();
    let numbered = rows.iter().map(|row| {
        let next = numbers.len();
        *numbers.entry(row.owned()).or_insert(next)
    });
    Ok(numbered.collect())
}

/// What is taken back when the search leaves a place.
#[derive(Clone, Copy)]
enum Undo {
    Nothing,
    /// The node of an element, which becomes what it was.
    Node(usize, Option<usize>),
    /// The last edge of an element, and whether a node between edges came with it.
    Edge(usize, bool),
}

/// Where the search goes on.
#[derive(Clone, Copy)]
enum Place {
    /// At the nodes that a chain may start from, of which those before `next` are done: all nodes, or
    /// those of a graph.
    Start { chain: usize, graph: Option<usize>, next: usize, end: usize },
    /// At a node, after so many edges of a step.
    Walk { chain: usize, at: usize, node: usize, length: u64, ended: bool, next: usize },
}

/// A depth-first search. It keeps its own stack, so that it can pause after each step.
struct Search<'a> {
    paths: &'a Paths,
    nodes: &'a RecordBatch,
    edges: &'a RecordBatch,
    hops: Vec<Vec<Hop>>,
    /// The graph of each node, and the nodes of each graph; none where all are in one.
    graphs: Vec<usize>,
    members: Vec<Vec<usize>>,
    stack: Vec<(Place, Undo)>,
    found: Match,
    matches: Vec<Match>,
}

impl Search<'_> {
    fn holds(batch: &RecordBatch, checks: &[usize], row: usize) -> bool {
        checks.iter().all(|check| {
            let flags = batch.column(*check).as_boolean_opt();
            flags.is_some_and(|flags| !flags.is_null(row) && flags.value(row))
        })
    }

    /// The graph of the nodes that are found.
    fn graph(&self) -> Option<usize> {
        let found = self.found.nodes.iter().flatten().next()?;
        self.graphs.get(*found).copied()
    }

    /// Finds all matches.
    async fn run(&mut self, effort: &mut Effort) -> Result<()> {
        self.start(0, Undo::Nothing, effort)?;
        while self.advance(effort)? {
            if effort.steps() >= STEPS_MAX {
                return exceeded("a pattern takes too many steps to find", "steps_max", STEPS_MAX);
            }
            effort.step().await;
        }
        Ok(())
    }

    /// Begins a chain, given the elements that have their places; after the last one there is a match.
    fn start(&mut self, chain: usize, undo: Undo, effort: &mut Effort) -> Result<()> {
        let Some(first) = self.paths.patterns.get(chain).map(|chain| &chain.first) else {
            if self.matches.len() >= OPERATOR_ROWS_MAX {
                let limit = "operator_rows_max";
                return exceeded("a pattern has too many matches", limit, OPERATOR_ROWS_MAX);
            }
            effort.keep(self.found.bytes())?;
            self.matches.push(self.found.clone());
            self.undo(undo);
            return Ok(());
        };
        let given = self.found.nodes.get(first.element).copied().flatten();
        let (graph, next, end) = match (given, self.graph()) {
            (Some(given), _) => (None, given, given + 1),
            (None, None) => (None, 0, self.nodes.num_rows()),
            (None, Some(graph)) => (Some(graph), 0, self.members.get(graph).map_or(0, Vec::len)),
        };
        self.stack.push((Place::Start { chain, graph, next, end }, undo));
        Ok(())
    }

    /// Goes on from a node by a step of a chain, or by the next chain.
    fn enter(
        &mut self,
        chain: usize,
        at: usize,
        node: usize,
        undo: Undo,
        effort: &mut Effort,
    ) -> Result<()> {
        if self.paths.patterns.get(chain).is_none_or(|chain| chain.steps.len() <= at) {
            return self.start(chain + 1, undo, effort);
        }
        let place = Place::Walk { chain, at, node, length: 0, ended: false, next: 0 };
        self.stack.push((place, undo));
        Ok(())
    }

    /// Looks at one more node or edge. Answers whether there is more to look at.
    fn advance(&mut self, effort: &mut Effort) -> Result<bool> {
        let Some((place, undo)) = self.stack.pop() else { return Ok(false) };
        match place {
            Place::Start { next, end, .. } if next >= end => self.undo(undo),
            Place::Start { chain, graph, next, end } => {
                self.stack.push((Place::Start { chain, graph, next: next + 1, end }, undo));
                let node = match graph {
                    Some(graph) => self.members.get(graph).and_then(|of| of.get(next)).copied(),
                    None => Some(next),
                };
                let first = self.paths.patterns.get(chain).map(|chain| &chain.first);
                if let Some((first, node)) = first.zip(node)
                    && Self::holds(self.nodes, &first.checks, node)
                {
                    let undo = self.place(first.element, node);
                    self.enter(chain, 0, node, undo, effort)?;
                }
            }
            Place::Walk { chain, at, node, length, ended, next } => {
                let paths = self.paths;
                let step = paths.patterns.get(chain).and_then(|chain| chain.steps.get(at));
                let Some(step) = step else { return Ok(true) };
                let hop = self.hops.get(node).and_then(|hops| hops.get(next)).copied();
                if !ended {
                    let place = Place::Walk { chain, at, node, length, ended: true, next };
                    self.stack.push((place, undo));
                    if length >= step.least && self.ends(step, node) {
                        let undo = self.place(step.next.element, node);
                        self.enter(chain, at + 1, node, undo, effort)?;
                    }
                } else if let Some(hop) = hop.filter(|_| length < step.most) {
                    let place = Place::Walk { chain, at, node, length, ended, next: next + 1 };
                    self.stack.push((place, undo));
                    if self.goes(step, hop) {
                        let undo = self.follow(step, hop, (length > 0).then_some(node));
                        let (node, length) = (hop.node, length + 1);
                        let place = Place::Walk { chain, at, node, length, ended: false, next: 0 };
                        self.stack.push((place, undo));
                    }
                } else {
                    self.undo(undo);
                }
            }
        }
        Ok(true)
    }

    /// Whether a step may end at a node.
    fn ends(&self, step: &Step, node: usize) -> bool {
        let given = self.found.nodes.get(step.next.element).copied().flatten();
        given.is_none_or(|given| given == node) && Self::holds(self.nodes, &step.next.checks, node)
    }

    /// Whether a step may go by an edge.
    fn goes(&self, step: &Step, hop: Hop) -> bool {
        let fits = match step.direction {
            GraphDirection::Right => hop.along,
            GraphDirection::Left => !hop.along,
            GraphDirection::Any => true,
        };
        fits && Self::holds(self.edges, &step.checks, hop.edge) && !self.repeats(hop)
    }

    /// Gives an element its node.
    fn place(&mut self, element: usize, node: usize) -> Undo {
        let given = self.found.nodes.get(element).copied().flatten();
        set(&mut self.found.nodes, element, Some(node));
        Undo::Node(element, given)
    }

    /// Goes by an edge, maybe from a node that lies between two of them.
    fn follow(&mut self, step: &Step, hop: Hop, between: Option<usize>) -> Undo {
        if let (Some(node), Some(nodes)) = (between, self.found.between.get_mut(step.edge)) {
            nodes.push(node);
        }
        if let Some(edges) = self.found.edges.get_mut(step.edge) {
            edges.push(hop.edge);
        }
        Undo::Edge(step.edge, between.is_some())
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Node(element, given) => set(&mut self.found.nodes, element, given),
            Undo::Edge(element, between) => {
                if let Some(edges) = self.found.edges.get_mut(element) {
                    edges.pop();
                }
                if let Some(nodes) = self.found.between.get_mut(element).filter(|_| between) {
                    nodes.pop();
                }
            }
        }
    }

    /// Whether a hop makes a cycle that the query does not allow.
    fn repeats(&self, hop: Hop) -> bool {
        let found = &self.found;
        match self.paths.cycles {
            Cycles::All => false,
            Cycles::UniqueEdges => found.edges.iter().any(|edges| edges.contains(&hop.edge)),
            Cycles::None => {
                found.nodes.contains(&Some(hop.node))
                    || found.between.iter().any(|nodes| nodes.contains(&hop.node))
                    || found.edges.iter().any(|edges| edges.contains(&hop.edge))
            }
        }
    }
}

fn set<T>(slots: &mut [T], at: usize, value: T) {
    if let Some(slot) = slots.get_mut(at) {
        *slot = value;
    }
}

#[async_trait]
impl TableFunction for Paths {
    fn name(&self) -> &'static str {
        "graph_match"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let [nodes, edges] = inputs.as_slice() else { return exec_err!("a graph is two tables") };
        let ends = [edges.column(self.source), edges.column(self.target)];
        let [sources, targets] = node_numbers(nodes.column(self.key), ends)?;
        let mut hops: Vec<Vec<Hop>> = vec![Vec::new(); nodes.num_rows()];
        for (edge, ends) in sources.iter().zip(&targets).enumerate() {
            let (Some(source), Some(target)) = ends else { continue };
            if let Some(hops) = hops.get_mut(*source) {
                hops.push(Hop { edge, node: *target, along: true });
            }
            if let Some(hops) = hops.get_mut(*target) {
                hops.push(Hop { edge, node: *source, along: false });
            }
        }
        let mut effort = Effort::new(self.name(), context);
        let graphs = graph_numbers(nodes, self.partition)?;
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (node, graph) in graphs.iter().enumerate() {
            if members.len() <= *graph {
                members.resize(graph + 1, Vec::new());
            }
            if let Some(members) = members.get_mut(*graph) {
                members.push(node);
            }
        }
        let mut search = Search {
            paths: self,
            nodes,
            edges,
            hops,
            graphs,
            members,
            stack: Vec::new(),
            found: Match {
                nodes: vec![None; self.node_count],
                edges: vec![Vec::new(); self.edge_count],
                between: vec![Vec::new(); self.edge_count],
            },
            matches: Vec::new(),
        };
        search.run(&mut effort).await?;
        let mut matches = search.matches;
        if let Some(all) = self.shortest {
            matches = self.only_shortest(matches, all);
        }
        let columns = self.outputs.iter().zip(schema.fields()).map(|(output, field)| {
            let column = self.column(output, &matches, nodes, edges, field.is_nullable())?;
            if let Output::List { .. } = output {
                effort.keep(column.get_array_memory_size())?;
            }
            Ok(column)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(matches.len()));
        Ok(vec![RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?])
    }
}

impl Paths {
    /// The matches with the fewest edges between their first and last nodes.
    fn only_shortest(&self, matches: Vec<Match>, all: bool) -> Vec<Match> {
        let ends = |found: &Match| {
            let chain = self.patterns.first();
            let first = chain.map(|chain| chain.first.element);
            let last = chain.and_then(|chain| chain.steps.last()).map(|step| step.next.element);
            [first, last].map(|place| place.and_then(|at| found.nodes.get(at).copied().flatten()))
        };
        let length = |found: &Match| found.edges.iter().map(Vec::len).sum::<usize>();
        let mut least: HashMap<[Option<usize>; 2], usize> = HashMap::new();
        for found in &matches {
            let own = length(found);
            let best = least.entry(ends(found)).or_insert(own);
            *best = own.min(*best);
        }
        let mut taken = std::collections::HashSet::new();
        matches
            .into_iter()
            .filter(|found| {
                let ends = ends(found);
                let best = least.get(&ends) == Some(&length(found));
                best && (all || taken.insert(ends))
            })
            .collect()
    }

    fn column(
        &self,
        output: &Output,
        matches: &[Match],
        nodes: &RecordBatch,
        edges: &RecordBatch,
        nullable: bool,
    ) -> Result<ArrayRef> {
        match output {
            Output::Node { element, column } => {
                let rows = matches
                    .iter()
                    .map(|found| found.nodes.get(*element).copied().flatten().map(|at| at as u64));
                take_or_empty(nodes.column(*column), &rows.collect::<UInt64Array>(), nullable)
            }
            Output::Edge { element, column } => {
                let rows = matches.iter().map(|found| {
                    found.edges.get(*element).and_then(|edges| edges.first()).map(|at| *at as u64)
                });
                take_or_empty(edges.column(*column), &rows.collect::<UInt64Array>(), nullable)
            }
            Output::List { kind, element, of_nodes, column, kql_type } => {
                let array = if *of_nodes { nodes.column(*column) } else { edges.column(*column) };
                let rows = |found: &Match| {
                    let lists = if *of_nodes { &found.between } else { &found.edges };
                    lists.get(*element).cloned().unwrap_or_default()
                };
                if *kind == ListKind::Map {
                    let mut lists = DynamicBuilder::with_capacity(matches.len());
                    for found in matches {
                        let items = rows(found).into_iter();
                        let items = items.map(|row| value_of(array, *kql_type, row)).collect();
                        lists.append(|writer| writer.value(&Value::Array(items)))?;
                    }
                    return Ok(lists.finish());
                }
                let Some(flags) = array.as_boolean_opt() else {
                    return exec_err!("a condition on edges is no bool");
                };
                let holds = |row: usize| !flags.is_null(row) && flags.value(row);
                let values = matches.iter().map(|found| {
                    let mut rows = rows(found).into_iter();
                    Some(if *kind == ListKind::All { rows.all(holds) } else { rows.any(holds) })
                });
                Ok(Arc::new(values.collect::<BooleanArray>()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::Int64Array;
    use datafusion::arrow::datatypes::Schema;
    use datafusion::error::DataFusionError;
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use futures::FutureExt as _;

    /// `(a)-[e*1..most]->(b)` over a graph in which every node has an edge to every other.
    fn paths(most: u64) -> (Paths, Vec<RecordBatch>) {
        let node = |element| Node { element, checks: Vec::new() };
        let step = Step {
            edge: 0,
            checks: Vec::new(),
            direction: GraphDirection::Right,
            least: 1,
            most,
            next: node(1),
        };
        let paths = Paths {
            key: 0,
            partition: None,
            source: 0,
            target: 1,
            patterns: vec![Chain { first: node(0), steps: vec![step] }],
            node_count: 2,
            edge_count: 1,
            cycles: Cycles::All,
            shortest: None,
            outputs: Vec::new(),
        };
        let column = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        let pairs =
            || (0..8_i64).flat_map(|a| (0..8).filter(move |b| a != *b).map(move |b| (a, b)));
        let nodes = [("key", column((0..8).collect()))];
        let edges = [
            ("source", column(pairs().map(|pair| pair.0).collect())),
            ("target", column(pairs().map(|pair| pair.1).collect())),
        ];
        let tables = [nodes.to_vec(), edges.to_vec()];
        (paths, tables.into_iter().map(|of| RecordBatch::try_from_iter(of).unwrap()).collect())
    }

    #[tokio::test]
    async fn a_search_gives_turns() {
        let schema = Arc::new(Schema::empty());
        let (few, tables) = paths(1);
        let context = Arc::default();
        let made = few.run(tables, &schema, &context).now_or_never().unwrap().unwrap();
        assert_eq!(made[0].num_rows(), 8 * 7);
        let (many, tables) = paths(4);
        assert!(many.run(tables, &schema, &context).now_or_never().is_none());
    }

    #[tokio::test]
    async fn matches_are_of_the_memory_of_the_query() {
        let (many, tables) = paths(50);
        let pool = Arc::new(GreedyMemoryPool::new(1024 * 1024));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
        let context = Arc::new(TaskContext::default().with_runtime(runtime));
        let failed = many.run(tables, &Arc::new(Schema::empty()), &context).await.unwrap_err();
        assert!(matches!(failed, DataFusionError::ResourcesExhausted(_)), "{failed}");
    }
}
