//! Unions and intersections of polygons: the parts of the sphere that are inside of enough of them.

use super::arrange::{Arrangement, Piece, arrange};
use super::edges::{self, Edge, bounded};
use super::shape::{Polygon, Region, Ring, signed_area};
use super::sphere::{Meeting, Point, meeting, sign};
use std::collections::HashMap;

/// Rings, of which each adds one to the depth on the left of its edges.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) rings: Vec<Vec<Point>>,
    /// A place that is on no edge, and how deep it is.
    pub(crate) reference: (Point, i64),
}

/// Where there is one piece or several, one side of each, with the part of the sphere to its left.
#[derive(Clone, Copy, Debug)]
struct Half {
    from: usize,
    to: usize,
    /// By how much it is deeper on the left than on the right.
    rise: i64,
    /// The least edge that runs this way.
    edge: Option<usize>,
}

impl Layers {
    /// The polygons' rings, with a reference that is on none of their edges.
    pub(crate) fn of_polygons<'a>(polygons: impl IntoIterator<Item = &'a Polygon>) -> Self {
        let polygons: Vec<&Polygon> = polygons.into_iter().collect();
        let rings = polygons.iter().flat_map(|polygon| polygon.oriented()).collect();
        let reference = super::sphere::ORIGIN;
        let depth = polygons.iter().filter(|polygon| polygon.contains(reference)).count();
        Self { rings, reference: (reference, i64::try_from(depth).unwrap_or(i64::MAX)) }
    }

    /// What is at least so deep. `None` if there are too many edges.
    pub(crate) fn at_least(&self, depth: i64) -> Option<Region> {
        let edges: Vec<Edge> = self.rings.iter().flat_map(|ring| edges::ring(ring)).collect();
        let arranged = arrange(&edges)?;
        self.borders(&edges, &arranged, depth)
    }

    /// The polygons of what is at least so deep, given the edges in pieces.
    pub(crate) fn borders(
        &self,
        edges: &[Edge],
        arranged: &Arrangement,
        least: i64,
    ) -> Option<Region> {
        let halves = halves(&arranged.pieces);
        let around = around(&arranged.vertices, &halves);
        let depths = self.depths(edges, arranged, &halves, &around)?;
        let keep = |at: usize| depths[at] >= least && depths[at ^ 1] < least;
        let kept: Vec<bool> = (0..halves.len()).map(keep).collect();
        polygons(rings(&arranged.vertices, &halves, &around, &kept))
    }

    /// The depth on the left of each half.
    fn depths(
        &self,
        edges: &[Edge],
        arranged: &Arrangement,
        halves: &[Half],
        around: &Around,
    ) -> Option<Vec<i64>> {
        let mut depths: Vec<Option<i64>> = vec![None; halves.len()];
        // Each connected part is placed by its own way to the reference.
        for start in 0..halves.len() {
            if depths[start].is_some() {
                continue;
            }
            bounded(1, edges.len())?;
            let depth = self.depth_beside(edges, arranged, &halves[start]);
            let mut open = vec![(start, depth)];
            while let Some((at, depth)) = open.pop() {
                let mut next = at;
                while depths[next].is_none() {
                    depths[next] = Some(depth);
                    open.push((next ^ 1, depth - halves[next].rise));
                    next = around.next(halves, next, |_| true);
                }
            }
        }
        Some(depths.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// The depth on the left of one half: that of the reference, and what is crossed on the way.
    fn depth_beside(&self, edges: &[Edge], arranged: &Arrangement, half: &Half) -> i64 {
        let [from, to] = [half.from, half.to].map(|vertex| arranged.vertices[vertex]);
        let middle = (from + to).normalized();
        let (reference, mut depth) = self.reference;
        let mut beside = vec![false; edges.len()];
        for piece in &arranged.pieces {
            let ends = (piece.from, piece.to);
            beside[piece.edge] |= ends == (half.from, half.to) || ends == (half.to, half.from);
        }
        let way = Edge::new(middle, reference);
        for (edge, beside) in edges.iter().zip(beside) {
            if !beside
                && way.is_near(edge)
                && meeting(middle, reference, edge.start, edge.end) == Meeting::Crossing
            {
                // On the way from the reference to here.
                depth += i64::from(sign(edge.start, edge.end, middle));
            }
        }
        // That is the depth on the side where the way arrives.
        if sign(from, to, reference) < 0 { depth + half.rise } else { depth }
    }
}

/// Both sides of all that pieces run along, side by side: a half and the one at its index ^ 1.
fn halves(pieces: &[Piece]) -> Vec<Half> {
    let mut found: HashMap<(usize, usize), usize> = HashMap::new();
    let mut halves: Vec<Half> = Vec::new();
    for piece in pieces {
        let (from, to) = (piece.from, piece.to);
        let at = *found.entry((from, to)).or_insert(halves.len());
        if at == halves.len() {
            found.insert((to, from), at + 1);
            halves.push(Half { from, to, rise: 0, edge: None });
            halves.push(Half { from: to, to: from, rise: 0, edge: None });
        }
        halves[at].rise += 1;
        halves[at ^ 1].rise -= 1;
        halves[at].edge = halves[at].edge.or(Some(piece.edge));
    }
    halves
}

/// The halves that leave each vertex, in the order of turning left.
#[derive(Debug)]
struct Around {
    leaving: Vec<Vec<usize>>,
    /// Of each half, where it is among those.
    rank: Vec<usize>,
}

fn around(vertices: &[Point], halves: &[Half]) -> Around {
    let mut leaving: Vec<Vec<usize>> = vec![Vec::new(); vertices.len()];
    for (at, half) in halves.iter().enumerate() {
        leaving[half.from].push(at);
    }
    let mut rank = vec![0; halves.len()];
    for (vertex, leaving) in leaving.iter_mut().enumerate() {
        let center = vertices[vertex];
        let east = center.perpendicular();
        let north = center.cross(east);
        let direction = |half: usize| {
            let way = vertices[halves[half].to] - center;
            way.dot(north).atan2(way.dot(east))
        };
        leaving.sort_by(|a, b| direction(*a).total_cmp(&direction(*b)));
        for (place, half) in leaving.iter().enumerate() {
            rank[*half] = place;
        }
    }
    Around { leaving, rank }
}

impl Around {
    /// The half after another along the left of it: the first to its left of those that are kept,
    /// which may be the way back.
    fn next(&self, halves: &[Half], at: usize, kept: impl Fn(usize) -> bool) -> usize {
        let back = at ^ 1;
        let leaving = &self.leaving[halves[at].to];
        let count = leaving.len();
        let turns = (1..=count).map(|turn| leaving[(self.rank[back] + count - turn) % count]);
        turns.into_iter().find(|half| kept(*half)).unwrap_or(back)
    }
}

/// The closed chains of the kept halves, cut so that none meets a vertex twice. Each starts after
/// its latest edge, which makes the order of points depend on the operands alone.
fn rings(vertices: &[Point], halves: &[Half], around: &Around, kept: &[bool]) -> Vec<Vec<Point>> {
    let mut used = vec![false; halves.len()];
    let mut rings = Vec::new();
    let mut starts: Vec<usize> = (0..halves.len()).filter(|at| kept[*at]).collect();
    starts.sort_by_key(|at| halves[*at].edge);
    for start in starts {
        let mut chain: Vec<usize> = Vec::new();
        // Where in the chain each vertex is left.
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut at = start;
        while !used[at] {
            used[at] = true;
            places.insert(halves[at].from, chain.len());
            chain.push(at);
            if let Some(first) = places.get(&halves[at].to).copied() {
                let ring = chain.split_off(first);
                ring.iter().for_each(|half| {
                    places.remove(&halves[*half].from);
                });
                rings.push(ring);
            }
            at = around.next(halves, at, |half| kept[half] && !used[half]);
            if !kept[at] {
                break;
            }
        }
    }
    let points = |ring: Vec<usize>| {
        let latest = (0..ring.len()).max_by_key(|at| halves[ring[*at]].edge).unwrap_or(0);
        let from = (latest + 1) % ring.len();
        (0..ring.len()).map(|at| vertices[halves[ring[(from + at) % ring.len()]].from]).collect()
    };
    rings.into_iter().filter(|ring| ring.len() >= 3).map(points).collect()
}

/// Rings with their insides on the left as polygons: those that turn right are holes. `None` if
/// there are too many.
pub(crate) fn polygons(rings: Vec<Vec<Point>>) -> Option<Region> {
    let (shells, holes): (Vec<_>, Vec<_>) =
        rings.into_iter().partition(|ring| signed_area(ring) >= 0.0);
    bounded(shells.len(), holes.iter().map(Vec::len).sum())?;
    let shell = |ring| Polygon { shell: Ring::of_points(ring), holes: Vec::new() };
    let mut region: Region = shells.into_iter().map(shell).collect();
    for mut hole in holes {
        hole.reverse();
        let hole = Ring::of_points(hole);
        let inside = hole.points().iter().zip(hole.points().iter().cycle().skip(1));
        let middles: Vec<Point> = inside.map(|(a, b)| (*a + *b).normalized()).collect();
        let owners = region.iter_mut().filter(|polygon| {
            let held = middles.iter().filter(|middle| polygon.shell.contains(**middle)).count();
            2 * held > middles.len()
        });
        let least = owners.min_by(|a, b| a.shell.area().total_cmp(&b.shell.area()));
        match least {
            Some(polygon) => polygon.holes.push(hole),
            None => region.push(Polygon { shell: hole.inverted(), holes: Vec::new() }),
        }
    }
    Some(region)
}

/// The union of two regions, whose own polygons do not overlap.
fn union_of_two(first: &[Polygon], second: &[Polygon]) -> Option<Region> {
    Layers::of_polygons(first.iter().chain(second)).at_least(1)
}

/// The union of regions, the smallest two first. `None` if there are too many edges.
pub(crate) fn union(regions: Vec<Region>) -> Option<Region> {
    let mut queue: Vec<(usize, Region)> = Vec::new();
    let size = |region: &Region| region.iter().map(Polygon::point_count).sum::<usize>();
    let put = |queue: &mut Vec<(usize, Region)>, region: Region| {
        let size = size(&region);
        let at = queue.partition_point(|(other, _)| *other <= size);
        queue.insert(at, (size, region));
    };
    for polygon in regions.into_iter().flatten() {
        put(&mut queue, vec![polygon]);
    }
    while queue.len() > 1 {
        let mut two = queue.drain(..2);
        let (Some((_, first)), Some((_, second))) = (two.next(), two.next()) else { break };
        drop(two);
        let both = union_of_two(&first, &second)?;
        put(&mut queue, both);
    }
    Some(queue.pop().map_or_else(Vec::new, |(_, region)| region))
}

/// The region as polygons that do not overlap.
pub(crate) fn flattened(region: Region) -> Option<Region> {
    if region.len() < 2 { Some(region) } else { union(vec![region]) }
}

#[cfg(test)]
mod tests {
    use super::super::measure::area;
    use super::super::shape::tests::polygon;
    use super::*;

    fn square(x: f64, y: f64, side: f64) -> Region {
        let ring: &[[f64; 2]] =
            &[[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]];
        vec![polygon(&[ring]).unwrap()]
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9 * b.abs().max(1e-9)
    }

    #[test]
    fn the_area_of_a_union_counts_what_is_common_once() {
        let (a, b) = (square(0.0, 0.0, 2.0), square(1.0, 1.0, 2.0));
        let both = union(vec![a.clone(), b.clone()]).unwrap();
        let common = Layers::of_polygons(a.iter().chain(&b)).at_least(2).unwrap();
        assert_eq!((both.len(), common.len()), (1, 1));
        assert_eq!((both[0].point_count(), common[0].point_count()), (8, 4));
        assert!(close(area(&both) + area(&common), area(&a) + area(&b)));
    }

    #[test]
    fn what_is_apart_stays_so_and_what_is_within_goes() {
        let apart = union(vec![square(0.0, 0.0, 1.0), square(5.0, 5.0, 1.0)]).unwrap();
        assert_eq!(apart.len(), 2);
        let within = union(vec![square(0.0, 0.0, 9.0), square(5.0, 5.0, 1.0)]).unwrap();
        assert_eq!((within.len(), within[0].holes.len()), (1, 0));
    }

    #[test]
    fn neighbors_lose_their_common_edge() {
        let both = union(vec![square(0.0, 0.0, 1.0), square(1.0, 0.0, 1.0)]).unwrap();
        assert_eq!((both.len(), both[0].point_count()), (1, 6));
    }

    #[test]
    fn a_ring_of_squares_leaves_a_hole() {
        let mut squares = Vec::new();
        for (x, y) in [(0, 0), (1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2), (2, 2)] {
            squares.push(square(f64::from(x), f64::from(y), 1.0));
        }
        let frame = union(squares.clone()).unwrap();
        assert_eq!((frame.len(), frame[0].holes.len()), (1, 1));
        assert!(close(area(&frame), squares.iter().map(|square| area(square)).sum()));
        let middle = Point::of_degrees(1.5, 1.5).unwrap();
        assert!(!frame[0].contains(middle));
    }

    #[test]
    fn a_hole_is_filled_by_what_is_put_into_it() {
        let outer: &[[f64; 2]] = &[[0.0, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 9.0], [0.0, 0.0]];
        let inner: &[[f64; 2]] = &[[3.0, 3.0], [6.0, 3.0], [6.0, 6.0], [3.0, 6.0], [3.0, 3.0]];
        let frame = vec![polygon(&[outer, inner]).unwrap()];
        let filled = union(vec![frame, square(3.0, 3.0, 3.0)]).unwrap();
        assert_eq!((filled.len(), filled[0].holes.len(), filled[0].point_count()), (1, 0, 4));
    }

    #[test]
    fn areas_add_up_for_polygons_that_share_corners_and_edges() {
        let mut state = 88_172_645_463_325_252_u64;
        let mut draw = |most: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % most) as f64
        };
        let mut random = || {
            let count = 3 + draw(4) as usize;
            let mut ring: Vec<[f64; 2]> = (0..count).map(|_| [draw(6), draw(6)]).collect();
            ring.push(ring[0]);
            polygon(&[&ring]).map(|polygon| vec![polygon])
        };
        let mut tried = 0;
        for _ in 0..2000 {
            let (Some(a), Some(b)) = (random(), random()) else { continue };
            let both = union(vec![a.clone(), b.clone()]).unwrap();
            let common = Layers::of_polygons(a.iter().chain(&b)).at_least(2).unwrap();
            let (apart, together) = (area(&a) + area(&b), area(&both) + area(&common));
            assert!((apart - together).abs() < 1e-12, "{a:?} {b:?}");
            tried += 1;
        }
        assert!(tried > 100, "{tried}");
    }
}
