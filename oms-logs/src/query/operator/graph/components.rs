//! `graph-mark-components`: which nodes hang together.

use super::paths::{graph_numbers, node_numbers};
use crate::query::plan::TableFunction;
use async_trait::async_trait;
use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Components {
    pub(super) key: usize,
    /// The nodes' column of which graph they are in; components are counted in each.
    pub(super) partition: Option<usize>,
    pub(super) source: usize,
    pub(super) target: usize,
    /// Whether there must be a way along the edges, both there and back.
    pub(super) strong: bool,
}

#[async_trait]
impl TableFunction for Components {
    fn name(&self) -> &'static str {
        "graph_components"
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
        let edges: Vec<(usize, usize)> = sources
            .into_iter()
            .zip(targets)
            .filter_map(|(source, target)| Some((source?, target?)))
            .collect();
        let marks = if self.strong {
            strong(nodes.num_rows(), &edges)
        } else {
            weak(nodes.num_rows(), &edges)
        };
        let mut columns = nodes.columns().to_vec();
        let graphs = graph_numbers(nodes, self.partition)?;
        columns.push(Arc::new(Int64Array::from(numbered(&marks, &graphs))));
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}

/// The marks as numbers in the order in which they come first in the node's graph. All are of one graph
/// where `graphs` is empty.
fn numbered(marks: &[usize], graphs: &[usize]) -> Vec<i64> {
    let mut numbers: HashMap<usize, i64> = HashMap::new();
    let mut counts: HashMap<usize, i64> = HashMap::new();
    let numbered = marks.iter().enumerate().map(|(node, mark)| {
        *numbers.entry(*mark).or_insert_with(|| {
            let count = counts.entry(graphs.get(node).copied().unwrap_or(0)).or_default();
            *count += 1;
            *count - 1
        })
    });
    numbered.collect()
}

/// A node of each node's component, whichever way edges go.
fn weak(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut above: Vec<usize> = (0..nodes).collect();
    fn root(above: &mut [usize], mut node: usize) -> usize {
        while above[node] != node {
            above[node] = above[above[node]];
            node = above[node];
        }
        node
    }
    for (source, target) in edges {
        let (a, b) = (root(&mut above, *source), root(&mut above, *target));
        above[a.max(b)] = a.min(b);
    }
    (0..nodes).map(|node| root(&mut above, node)).collect()
}

/// A node of each node's component, in which every node reaches every other.
fn strong(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let (mut forth, mut back) = (vec![Vec::new(); nodes], vec![Vec::new(); nodes]);
    for (source, target) in edges {
        forth[*source].push(*target);
        back[*target].push(*source);
    }
    // The nodes in the order in which a search along the edges leaves them.
    let (mut seen, mut left) = (vec![false; nodes], Vec::with_capacity(nodes));
    for start in 0..nodes {
        let mut stack = vec![(start, 0)];
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        while let Some((node, next)) = stack.pop() {
            match forth[node].get(next) {
                Some(target) => {
                    stack.push((node, next + 1));
                    if !std::mem::replace(&mut seen[*target], true) {
                        stack.push((*target, 0));
                    }
                }
                None => left.push(node),
            }
        }
    }
    let mut marks: Vec<Option<usize>> = vec![None; nodes];
    for start in left.into_iter().rev() {
        let mut stack = vec![start];
        while let Some(node) = stack.pop() {
            if marks[node].is_none() {
                marks[node] = Some(start);
                stack.extend(&back[node]);
            }
        }
    }
    marks.into_iter().enumerate().map(|(node, mark)| mark.unwrap_or(node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components() {
        let edges = [(0, 1), (1, 2), (2, 0), (2, 3), (4, 5)];
        assert_eq!(numbered(&weak(6, &edges), &[]), [0, 0, 0, 0, 1, 1]);
        assert_eq!(numbered(&weak(6, &edges), &[7, 7, 7, 7, 9, 9]), [0; 6]);
        assert_eq!(numbered(&strong(6, &edges), &[]), [0, 0, 0, 1, 2, 3]);
        assert_eq!(numbered(&weak(0, &[]), &[]), Vec::<i64>::new());
    }
}
