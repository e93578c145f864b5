//! Edges cut where they meet, so that the pieces share their ends and nothing else.

use super::edges::{Edge, bounded, near_pairs};
use super::sphere::{Meeting, Point, crossing_point, meeting};
use std::collections::HashMap;

/// Places nearer than this, in radians, are one: less than a millionth of a meter.
const SAME: f64 = 1e-14;

/// The most pieces of one operation; past it the operands count as invalid.
const PIECES_MAX: usize = 1 << 20;

/// A part of an edge between two vertices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Piece {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// The index of the edge that it is a part of.
    pub(crate) edge: usize,
}

/// Edges in pieces.
#[derive(Debug)]
pub(crate) struct Arrangement {
    pub(crate) vertices: Vec<Point>,
    /// In the order of the edges, and along each.
    pub(crate) pieces: Vec<Piece>,
}

/// The vertices so far, found by their place.
#[derive(Debug, Default)]
struct Vertices {
    points: Vec<Point>,
    cells: HashMap<[i64; 3], Vec<usize>>,
}

impl Vertices {
    /// The vertex at the place, or a new one.
    fn at(&mut self, point: Point) -> usize {
        // A cell is wider than SAME, so what is near is in this cell or in one beside it.
        let cell = |x: f64| (x * 1e12).floor() as i64;
        let home = [cell(point.x), cell(point.y), cell(point.z)];
        let near = |x: f64| [cell(x - SAME), cell(x + SAME)];
        for x in near(point.x) {
            for y in near(point.y) {
                for z in near(point.z) {
                    let found = self.cells.get(&[x, y, z]).into_iter().flatten();
                    for at in found {
                        if (self.points[*at] - point).length() <= SAME {
                            return *at;
                        }
                    }
                }
            }
        }
        self.points.push(point);
        self.cells.entry(home).or_default().push(self.points.len() - 1);
        self.points.len() - 1
    }
}

/// Cuts the edges where they cross and where one holds the end of another. `None` if there are too
/// many.
pub(crate) fn arrange(edges: &[Edge]) -> Option<Arrangement> {
    let mut vertices = Vertices::default();
    let mut cuts: Vec<Vec<usize>> = Vec::with_capacity(edges.len());
    for edge in edges {
        cuts.push(vec![vertices.at(edge.start), vertices.at(edge.end)]);
    }
    let mut count = edges.len();
    let is_bounded = near_pairs(edges, |a, b| {
        if bounded(cuts[a].len(), cuts[b].len()).is_none() {
            return false;
        }
        let (first, second) = (&edges[a], &edges[b]);
        for (on, edge, of, other) in [(a, first, b, second), (b, second, a, first)] {
            for (end, vertex) in [(other.start, cuts[of][0]), (other.end, cuts[of][1])] {
                if !cuts[on].contains(&vertex) && end.angle_to_edge(edge.start, edge.end) <= SAME {
                    cuts[on].push(vertex);
                    count += 1;
                }
            }
        }
        let (u, v, p, q) = (first.start, first.end, second.start, second.end);
        let share = cuts[a].iter().filter(|vertex| cuts[b].contains(vertex)).count();
        // Two that share a vertex cross nowhere else.
        if share == 0 && meeting(u, v, p, q) == Meeting::Crossing {
            let vertex = vertices.at(crossing_point(u, v, p, q));
            for on in [a, b] {
                if !cuts[on].contains(&vertex) {
                    cuts[on].push(vertex);
                    count += 1;
                }
            }
        }
        count <= PIECES_MAX
    });
    if !is_bounded {
        return None;
    }
    let mut pieces = Vec::with_capacity(count);
    for (edge, (ends, mut cuts)) in edges.iter().zip(cuts).enumerate() {
        let place = |vertex: usize| {
            let offset = vertices.points[vertex] - ends.start;
            offset.dot(offset)
        };
        let last = cuts[1];
        cuts.sort_by(|a, b| place(*a).total_cmp(&place(*b)));
        // What lies on the end is the end.
        cuts.retain(|cut| *cut != last);
        cuts.push(last);
        for pair in cuts.windows(2) {
            if pair[0] != pair[1] {
                pieces.push(Piece { from: pair[0], to: pair[1], edge });
            }
        }
    }
    Some(Arrangement { vertices: vertices.points, pieces })
}

/// Chains of pieces, each as long as possible, which end where more or fewer than two meet.
pub(crate) fn chains(pieces: &[Piece]) -> Vec<Vec<usize>> {
    let mut outgoing: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut incoming: HashMap<usize, usize> = HashMap::new();
    for (at, piece) in pieces.iter().enumerate() {
        outgoing.entry(piece.from).or_default().push(at);
        *incoming.entry(piece.to).or_default() += 1;
    }
    let passes = |vertex: usize| {
        incoming.get(&vertex) == Some(&1) && outgoing.get(&vertex).is_some_and(|all| all.len() == 1)
    };
    let mut used = vec![false; pieces.len()];
    let mut chains = Vec::new();
    // Closed chains come last, since they have no end to start from.
    let starts = (0..pieces.len()).filter(|at| !passes(pieces[*at].from));
    for start in starts.chain(0..pieces.len()) {
        if used[start] {
            continue;
        }
        let mut chain = vec![pieces[start].from];
        let mut next = Some(start);
        while let Some(at) = next.filter(|at| !used[*at]) {
            used[at] = true;
            let to = pieces[at].to;
            chain.push(to);
            next = if passes(to) {
                outgoing.get(&to).and_then(|all| all.first().copied())
            } else {
                None
            };
        }
        chains.push(chain);
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::super::edges;
    use super::super::shape::tests::points;
    use super::*;

    #[test]
    fn crossing_edges_are_cut_in_four() {
        let cross = [points(&[[-1.0, 0.0], [1.0, 0.0]]), points(&[[0.0, -1.0], [0.0, 1.0]])];
        let edges: Vec<Edge> = cross.iter().flat_map(|path| edges::path(path)).collect();
        let arranged = arrange(&edges).unwrap();
        assert_eq!((arranged.vertices.len(), arranged.pieces.len()), (5, 4));
        assert_eq!(chains(&arranged.pieces).len(), 4);
    }

    #[test]
    fn edges_in_line_share_their_common_piece() {
        let both = [points(&[[0.0, 0.0], [2.0, 0.0]]), points(&[[1.0, 0.0], [3.0, 0.0]])];
        let edges: Vec<Edge> = both.iter().flat_map(|path| edges::path(path)).collect();
        let arranged = arrange(&edges).unwrap();
        let ends: Vec<_> = arranged.pieces.iter().map(|piece| (piece.from, piece.to)).collect();
        assert_eq!(ends, [(0, 2), (2, 1), (2, 1), (1, 3)]);
    }

    #[test]
    fn a_chain_ends_where_others_meet_it() {
        let piece = |from, to| Piece { from, to, edge: 0 };
        let pieces = [piece(0, 1), piece(1, 2), piece(2, 3), piece(4, 2), piece(7, 8), piece(8, 7)];
        assert_eq!(chains(&pieces), [vec![0, 1, 2], vec![2, 3], vec![4, 2], vec![7, 8, 7]]);
    }
}
