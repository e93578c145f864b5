//! Paths of a graph that fit chains of nodes and edges.

use super::elements::ListKind;
use crate::query::dynamic::Value;
use crate::query::limits::OPERATOR_ROWS_MAX;
use crate::query::operator::values::{dynamic_column, take_or_empty, value_of};
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
/// The most steps of the search.
const STEPS_MAX: usize = 50_000_000;

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

/// The hops of each node.
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

struct Search<'a> {
    paths: &'a Paths,
    nodes: &'a RecordBatch,
    edges: &'a RecordBatch,
    hops: Vec<Vec<Hop>>,
    matches: Vec<Match>,
    steps: usize,
}

impl Search<'_> {
    fn holds(batch: &RecordBatch, checks: &[usize], row: usize) -> bool {
        checks.iter().all(|check| {
            let flags = batch.column(*check).as_boolean_opt();
            flags.is_some_and(|flags| !flags.is_null(row) && flags.value(row))
        })
    }

    /// Lays the chains from one on, given the elements that have their places.
    fn chain(&mut self, at: usize, found: &mut Match) -> Result<()> {
        let paths = self.paths;
        let Some(chain) = paths.patterns.get(at) else {
            if self.matches.len() >= OPERATOR_ROWS_MAX {
                return exec_err!("the pattern has more than {OPERATOR_ROWS_MAX} matches");
            }
            self.matches.push(found.clone());
            return Ok(());
        };
        let element = chain.first.element;
        let given = found.nodes.get(element).copied().flatten();
        let starts = match given {
            Some(given) => given..given + 1,
            None => 0..self.nodes.num_rows(),
        };
        for node in starts {
            if !Self::holds(self.nodes, &chain.first.checks, node) {
                continue;
            }
            set(&mut found.nodes, element, Some(node));
            self.step(at, 0, node, found)?;
        }
        set(&mut found.nodes, element, given);
        Ok(())
    }

    /// Goes from a node by one step of a chain.
    fn step(&mut self, chain: usize, at: usize, node: usize, found: &mut Match) -> Result<()> {
        let paths = self.paths;
        match paths.patterns.get(chain).and_then(|chain| chain.steps.get(at)) {
            Some(step) => self.walk(chain, at, step, node, 0, found),
            None => self.chain(chain + 1, found),
        }
    }

    /// Goes by one more edge of a step, or on to the next step.
    fn walk(
        &mut self,
        chain: usize,
        at: usize,
        step: &Step,
        node: usize,
        length: u64,
        found: &mut Match,
    ) -> Result<()> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return exec_err!("the pattern takes more than {STEPS_MAX} steps to find");
        }
        if length >= step.least {
            let element = step.next.element;
            let given = found.nodes.get(element).copied().flatten();
            if given.is_none_or(|given| given == node)
                && Self::holds(self.nodes, &step.next.checks, node)
            {
                set(&mut found.nodes, element, Some(node));
                self.step(chain, at + 1, node, found)?;
                set(&mut found.nodes, element, given);
            }
        }
        if length >= step.most {
            return Ok(());
        }
        let hops = self.hops.get(node).cloned().unwrap_or_default();
        for hop in hops {
            let fits = match step.direction {
                GraphDirection::Right => hop.along,
                GraphDirection::Left => !hop.along,
                GraphDirection::Any => true,
            };
            if !fits || !Self::holds(self.edges, &step.checks, hop.edge) || self.repeats(hop, found)
            {
                continue;
            }
            let inner = length > 0;
            if inner && let Some(between) = found.between.get_mut(step.edge) {
                between.push(node);
            }
            if let Some(edges) = found.edges.get_mut(step.edge) {
                edges.push(hop.edge);
            }
            self.walk(chain, at, step, hop.node, length + 1, found)?;
            if let Some(edges) = found.edges.get_mut(step.edge) {
                edges.pop();
            }
            if inner && let Some(between) = found.between.get_mut(step.edge) {
                between.pop();
            }
        }
        Ok(())
    }

    /// Whether a hop makes a cycle that the query does not allow.
    fn repeats(&self, hop: Hop, found: &Match) -> bool {
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
        _context: &Arc<TaskContext>,
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
        let mut search = Search { paths: self, nodes, edges, hops, matches: Vec::new(), steps: 0 };
        let mut empty = Match {
            nodes: vec![None; self.node_count],
            edges: vec![Vec::new(); self.edge_count],
            between: vec![Vec::new(); self.edge_count],
        };
        search.chain(0, &mut empty)?;
        let mut matches = search.matches;
        if let Some(all) = self.shortest {
            matches = self.only_shortest(matches, all);
        }
        let columns = self.outputs.iter().zip(schema.fields()).map(|(output, field)| {
            self.column(output, &matches, nodes, edges, field.is_nullable())
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
                    let values = matches.iter().map(|found| {
                        let items = rows(found).into_iter();
                        Value::Array(items.map(|row| value_of(array, *kql_type, row)).collect())
                    });
                    return dynamic_column(&values.collect::<Vec<_>>());
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
