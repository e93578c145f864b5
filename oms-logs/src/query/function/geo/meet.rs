//! What lines and polygons have in common, and the union of lines.

use super::arrange::{Arrangement, Piece, arrange, chains};
use super::edges::{self, Edge, bounded, near_pairs};
use super::overlay::{Layers, flattened};
use super::shape::{Path, Polygon, Region, contains};
use super::sphere::{Meeting, Point, meeting};
use std::collections::{HashMap, HashSet};

/// What shapes have in common, by its dimension.
#[derive(Debug, Default)]
pub(crate) struct Common {
    pub(crate) points: Vec<Point>,
    pub(crate) paths: Vec<Path>,
    pub(crate) region: Region,
}

/// The edges of both operands in pieces.
#[derive(Debug)]
struct Both {
    edges: Vec<Edge>,
    /// How many edges are of the first operand.
    split: usize,
    arranged: Arrangement,
}

impl Both {
    fn new(first: Vec<Edge>, second: Vec<Edge>) -> Option<Self> {
        let split = first.len();
        let mut edges = first;
        edges.extend(second);
        let arranged = arrange(&edges)?;
        Some(Self { edges, split, arranged })
    }

    fn is_first(&self, piece: &Piece) -> bool {
        piece.edge < self.split
    }

    /// The pieces of the second operand, whichever way they run.
    fn second_ends(&self) -> HashSet<(usize, usize)> {
        let second = self.arranged.pieces.iter().filter(|piece| !self.is_first(piece));
        second.map(ends).collect()
    }

    /// The vertices of both operands that are not on the given pieces.
    fn other_vertices(&self, pieces: &[Piece]) -> Vec<usize> {
        let on = |wanted: bool| -> HashSet<usize> {
            let pieces = self.arranged.pieces.iter().filter(|piece| self.is_first(piece) == wanted);
            pieces.flat_map(|piece| [piece.from, piece.to]).collect()
        };
        let (mut both, second) = (on(true), on(false));
        both.retain(|vertex| second.contains(vertex));
        for piece in pieces {
            both.remove(&piece.from);
            both.remove(&piece.to);
        }
        let mut both: Vec<usize> = both.into_iter().collect();
        both.sort_unstable();
        both
    }

    fn points(&self, vertices: Vec<usize>) -> Vec<Point> {
        vertices.into_iter().map(|vertex| self.arranged.vertices[vertex]).collect()
    }

    fn paths(&self, pieces: &[Piece]) -> Vec<Path> {
        chains(pieces).into_iter().map(|chain| self.points(chain)).collect()
    }
}

/// The same for the same point.
fn key(point: Point) -> [u64; 3] {
    [point.x, point.y, point.z].map(f64::to_bits)
}

/// Where a piece runs, whichever way.
fn ends(piece: &Piece) -> (usize, usize) {
    (piece.from.min(piece.to), piece.from.max(piece.to))
}

fn path_edges(paths: &[Path]) -> Vec<Edge> {
    paths.iter().flat_map(|path| edges::path(path)).collect()
}

fn region_edges(region: &[Polygon]) -> Vec<Edge> {
    region.iter().flat_map(Polygon::edges).collect()
}

/// What two sets of lines have in common: places and pieces, the latter as in the first one.
pub(crate) fn lines(first: &[Path], second: &[Path]) -> Option<Common> {
    let both = Both::new(path_edges(first), path_edges(second))?;
    let others = both.second_ends();
    let mut seen = HashSet::new();
    let pieces = both.arranged.pieces.iter().filter(|piece| {
        both.is_first(piece) && others.contains(&ends(piece)) && seen.insert(ends(piece))
    });
    let pieces: Vec<Piece> = pieces.copied().collect();
    let points = both.points(both.other_vertices(&pieces));
    Some(Common { points, paths: both.paths(&pieces), region: Vec::new() })
}

/// The parts of lines in polygons and on their borders.
pub(crate) fn lines_with_region(paths: &[Path], region: &[Polygon]) -> Option<Common> {
    let both = Both::new(path_edges(paths), region_edges(region))?;
    bounded(both.arranged.pieces.len(), both.edges.len())?;
    let border = both.second_ends();
    let mut seen = HashSet::new();
    let inside = |piece: &Piece| {
        let [from, to] = [piece.from, piece.to].map(|vertex| both.arranged.vertices[vertex]);
        border.contains(&ends(piece)) || contains(region, (from + to).normalized())
    };
    let pieces = both
        .arranged
        .pieces
        .iter()
        .filter(|piece| both.is_first(piece) && seen.insert(ends(piece)) && inside(piece));
    let pieces: Vec<Piece> = pieces.copied().collect();
    let points = both.points(both.other_vertices(&pieces));
    Some(Common { points, paths: both.paths(&pieces), region: Vec::new() })
}

/// The parts that two regions have in common, with the edges and places where they only touch.
pub(crate) fn regions(first: Region, second: Region) -> Option<Common> {
    let (first, second) = (flattened(first)?, flattened(second)?);
    let oriented = |region: &Region| -> Vec<Edge> {
        let rings = region.iter().flat_map(Polygon::oriented);
        rings.flat_map(|ring| edges::ring(&ring).collect::<Vec<_>>()).collect()
    };
    let both = Both::new(oriented(&first), oriented(&second))?;
    let layers = Layers::of_polygons(first.iter().chain(&second));
    let region = layers.borders(&both.edges, &both.arranged, 2)?;
    // Edges on which one lies left and the other right are all that is common there.
    let pieces = &both.arranged.pieces;
    let backs: HashSet<(usize, usize)> = pieces
        .iter()
        .filter(|piece| !both.is_first(piece))
        .map(|piece| (piece.to, piece.from))
        .collect();
    let touching = |piece: &&Piece| both.is_first(piece) && backs.contains(&(piece.from, piece.to));
    let pieces: Vec<Piece> = pieces.iter().filter(touching).copied().collect();
    let mut points = both.points(both.other_vertices(&pieces));
    let corners = region.iter().flat_map(Polygon::rings).flat_map(|ring| ring.points());
    let corners: HashSet<[u64; 3]> = corners.map(|corner| key(*corner)).collect();
    points.retain(|point| !corners.contains(&key(*point)));
    Some(Common { points, paths: both.paths(&pieces), region })
}

/// Whether two sets of edges meet anywhere.
fn edges_meet(first: &[Edge], second: &[Edge]) -> bool {
    const TOUCH: f64 = 1e-14;
    let split = first.len();
    let edges: Vec<Edge> = first.iter().chain(second).copied().collect();
    let apart = near_pairs(&edges, |a, b| {
        if (a < split) == (b < split) {
            return true;
        }
        let (first, second) = (&edges[a], &edges[b]);
        let touches =
            |point: Point, edge: &Edge| point.angle_to_edge(edge.start, edge.end) <= TOUCH;
        meeting(first.start, first.end, second.start, second.end) == Meeting::Apart
            && !touches(first.start, second)
            && !touches(first.end, second)
            && !touches(second.start, first)
            && !touches(second.end, first)
    });
    !apart
}

/// Whether lines have a place in common.
pub(crate) fn lines_meet(first: &[Path], second: &[Path]) -> bool {
    edges_meet(&path_edges(first), &path_edges(second))
}

/// Whether a line has a place in a polygon or on its border.
pub(crate) fn lines_meet_region(paths: &[Path], region: &[Polygon]) -> bool {
    paths.iter().filter_map(|path| path.first()).any(|point| contains(region, *point))
        || edges_meet(&path_edges(paths), &region_edges(region))
}

/// Whether regions have a place in common.
pub(crate) fn regions_meet(first: &[Polygon], second: &[Polygon]) -> bool {
    let holds = |region: &[Polygon], other: &[Polygon]| {
        let corners = other.iter().filter_map(|polygon| polygon.shell.points().first());
        corners.into_iter().any(|corner| contains(region, *corner))
    };
    holds(first, second)
        || holds(second, first)
        || edges_meet(&region_edges(first), &region_edges(second))
}

/// The union of lines: what is there twice counts once, and lines that continue each other are one.
pub(crate) fn union_of_lines(paths: &[Path]) -> Vec<Path> {
    let mut vertices: Vec<Point> = Vec::new();
    let mut known: HashMap<[u64; 3], usize> = HashMap::new();
    let mut vertex = |point: Point| {
        *known.entry(key(point)).or_insert_with(|| {
            vertices.push(point);
            vertices.len() - 1
        })
    };
    let mut seen = HashSet::new();
    let mut pieces = Vec::new();
    for (edge, both) in path_edges(paths).iter().enumerate() {
        let piece = Piece { from: vertex(both.start), to: vertex(both.end), edge };
        if seen.insert(ends(&piece)) {
            pieces.push(piece);
        }
    }
    let of_chain = |chain: Vec<usize>| chain.into_iter().map(|at| vertices[at]).collect();
    chains(&pieces).into_iter().map(of_chain).collect()
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::{points, polygon};
    use super::*;

    fn line(degrees: &[[f64; 2]]) -> Vec<Path> {
        vec![points(degrees)]
    }

    fn square(x: f64, y: f64) -> Region {
        let ring: &[[f64; 2]] = &[[x, y], [x + 2.0, y], [x + 2.0, y + 2.0], [x, y + 2.0], [x, y]];
        vec![polygon(&[ring]).unwrap()]
    }

    fn counts(common: Option<Common>) -> (usize, usize, usize) {
        let common = common.unwrap();
        (common.points.len(), common.paths.len(), common.region.len())
    }

    #[test]
    fn lines_meet_in_places_and_pieces() {
        let flat = line(&[[0.0, 0.0], [4.0, 0.0]]);
        let zigzag = line(&[[1.0, -1.0], [1.0, 1.0], [3.0, 1.0], [3.0, -1.0]]);
        assert_eq!(counts(lines(&flat, &zigzag)), (2, 0, 0));
        assert_eq!(counts(lines(&flat, &flat)), (0, 1, 0));
        let above = line(&[[0.0, 1.0], [4.0, 2.0]]);
        assert_eq!(counts(lines(&flat, &above)), (0, 0, 0));
        assert!(lines_meet(&flat, &zigzag) && !lines_meet(&flat, &above));
    }

    #[test]
    fn a_line_is_cut_at_a_border() {
        let through = line(&[[-1.0, 1.0], [3.0, 1.0]]);
        let common = lines_with_region(&through, &square(0.0, 0.0)).unwrap();
        let [x, _] = common.paths[0][0].degrees();
        assert!(x.abs() < 1e-12 && common.paths.len() == 1 && common.points.is_empty());
        let beside = line(&[[2.0, 2.0], [3.0, 3.0]]);
        assert_eq!(counts(lines_with_region(&beside, &square(0.0, 0.0))), (1, 0, 0));
        let within = line(&[[0.5, 0.5], [1.0, 1.0]]);
        assert_eq!(counts(lines_with_region(&within, &square(0.0, 0.0))), (0, 1, 0));
        assert!(lines_meet_region(&within, &square(0.0, 0.0)));
        assert!(!lines_meet_region(&within, &square(5.0, 0.0)));
    }

    #[test]
    fn regions_overlap_touch_or_are_apart() {
        let home = square(0.0, 0.0);
        assert_eq!(counts(regions(home.clone(), square(1.0, 1.0))), (0, 0, 1));
        assert_eq!(counts(regions(home.clone(), square(2.0, 2.0))), (1, 0, 0));
        assert_eq!(counts(regions(home.clone(), square(2.0, 0.0))), (0, 1, 0));
        assert_eq!(counts(regions(home.clone(), square(5.0, 0.0))), (0, 0, 0));
        assert!(regions_meet(&home, &square(1.0, 1.0)) && regions_meet(&home, &square(2.0, 2.0)));
        assert!(!regions_meet(&home, &square(5.0, 0.0)));
    }

    #[test]
    fn lines_that_continue_each_other_become_one() {
        let lines = [
            points(&[[0.0, 0.0], [1.0, 1.0], [2.0, 1.0]]),
            points(&[[1.0, 1.0], [2.0, 1.0], [3.0, 0.0]]),
            points(&[[1.0, 1.0], [2.0, 1.0]]),
            points(&[[9.0, 9.0], [8.0, 8.0]]),
        ];
        let union = union_of_lines(&lines);
        assert_eq!(union.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2]);
    }
}
