//! Lines and polygons that were checked.

use super::edges::{self, Edge, near_pairs};
use super::sphere::{
    Meeting, ORIGIN, Point, crosses_or_touches, holds_vertex, meeting, triangle_area,
};
use std::f64::consts::PI;

/// A chain of edges of at least two points.
pub(crate) type Path = Vec<Point>;

/// A closed chain of edges without crossings, with its inside on the left. The last point is not
/// the first one again.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    points: Vec<Point>,
    /// Whether [`ORIGIN`] is inside.
    holds_origin: bool,
    /// The middle of a cap that holds every point, and the square of its chord.
    cap: Option<(Point, f64)>,
}

/// A ring less the insides of others.
#[derive(Clone, Debug)]
pub(crate) struct Polygon {
    pub(crate) shell: Ring,
    pub(crate) holes: Vec<Ring>,
}

/// Polygons, which may overlap.
pub(crate) type Region = Vec<Polygon>;

/// Two neighbors of a path must not be the same place nor opposite ones.
fn is_edge(a: Point, b: Point) -> bool {
    a != b && (a + b).length() > 1e-15
}

/// The path, if it is one.
pub(crate) fn path(points: Vec<Point>) -> Option<Path> {
    let valid = points.len() >= 2 && points.windows(2).all(|pair| is_edge(pair[0], pair[1]));
    valid.then_some(points)
}

impl Ring {
    /// The ring of a closed chain, turned so that the smaller part of the sphere is inside. `None`
    /// if it crosses or touches itself.
    pub(crate) fn of_closed(mut points: Vec<Point>) -> Option<Self> {
        let last = points.pop()?;
        if points.len() < 3 || points.first() != Some(&last) {
            return None;
        }
        let edges: Vec<Edge> = edges::ring(&points).collect();
        if !edges.iter().all(|edge| is_edge(edge.start, edge.end)) {
            return None;
        }
        let count = edges.len();
        let is_simple = near_pairs(&edges, |a, b| {
            let (first, second) = (&edges[a], &edges[b]);
            match meeting(first.start, first.end, second.start, second.end) {
                Meeting::Apart => true,
                Meeting::Crossing => false,
                Meeting::Vertex => {
                    let adjacent = b == a + 1 || (a == 0 && b + 1 == count);
                    // Two that follow each other share one vertex and no more.
                    adjacent
                        && first.start != second.start
                        && first.end != second.end
                        && !(first.start == second.end && first.end == second.start)
                }
            }
        });
        if !is_simple {
            return None;
        }
        if signed_area(&points) < 0.0 {
            points.reverse();
        }
        Some(Self::of_points(points))
    }

    /// The ring with its inside on the left, unchecked.
    pub(crate) fn of_points(points: Vec<Point>) -> Self {
        let mut ring = Self { points, holds_origin: false, cap: None };
        if let [a, b, c, ..] = ring.points[..] {
            ring.holds_origin = holds_vertex(a, b, c) != ring.contains(b);
        }
        ring.cap = ring.small_cap();
        ring
    }

    /// A cap around all that is inside, if the ring is far smaller than half of the sphere.
    fn small_cap(&self) -> Option<(Point, f64)> {
        let sum = self.points.iter().fold(Point { x: 0.0, y: 0.0, z: 0.0 }, |sum, p| sum + *p);
        let middle = sum.normalized();
        let most = self
            .points
            .iter()
            .map(|point| (*point - middle).dot(*point - middle))
            .fold(0.0, f64::max);
        (most < 1.0 && self.area() < PI).then_some((middle, most + 1e-14))
    }

    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    pub(crate) fn edges(&self) -> impl Iterator<Item = Edge> + '_ {
        edges::ring(&self.points)
    }

    /// Whether the place is inside. Of rings that fill the surroundings of a place, one holds it.
    pub(crate) fn contains(&self, point: Point) -> bool {
        if let Some((middle, most)) = self.cap
            && (point - middle).dot(point - middle) > most
        {
            return false;
        }
        let next = self.points.iter().cycle().skip(1);
        let crossings = self
            .points
            .iter()
            .zip(next)
            .filter(|(a, b)| crosses_or_touches(ORIGIN, point, **a, **b))
            .count();
        self.holds_origin != (crossings % 2 == 1)
    }

    /// The area inside in steradians.
    pub(crate) fn area(&self) -> f64 {
        let area = signed_area(&self.points);
        if area < 0.0 { area + 4.0 * PI } else { area }
    }

    /// The length of its edges in radians.
    pub(crate) fn length(&self) -> f64 {
        self.edges().map(|edge| edge.start.angle(edge.end)).sum()
    }

    /// The ring with its outside in.
    pub(crate) fn inverted(&self) -> Self {
        Self::of_points(self.points.iter().rev().copied().collect())
    }
}

/// The area on the left in steradians, between minus and plus half of the sphere.
pub(crate) fn signed_area(points: &[Point]) -> f64 {
    let Some((first, rest)) = points.split_first() else { return 0.0 };
    let area: f64 = rest.windows(2).map(|pair| triangle_area(*first, pair[0], pair[1])).sum();
    // A fan that winds around the sphere counts the whole of it more than once. Small areas keep
    // their digits.
    if area.abs() <= 2.0 * PI {
        return area;
    }
    let area = area.rem_euclid(4.0 * PI);
    if area > 2.0 * PI { area - 4.0 * PI } else { area }
}

impl Polygon {
    /// The polygon of a shell and of holes, all closed chains. `None` if a ring is invalid, if two
    /// cross or share an edge, or if a hole is not inside.
    pub(crate) fn of_closed(rings: Vec<Vec<Point>>) -> Option<Self> {
        let mut rings = rings.into_iter().map(Ring::of_closed);
        let shell = rings.next()??;
        let holes = rings.collect::<Option<Vec<_>>>()?;
        let polygon = Self { shell, holes };
        if !polygon.holes.is_empty() && !polygon.is_parted() {
            return None;
        }
        Some(polygon)
    }

    /// Whether no two rings cross or share an edge.
    fn is_parted(&self) -> bool {
        let of_rings = self.rings().enumerate();
        let (owners, edges): (Vec<usize>, Vec<Edge>) = of_rings
            .flat_map(|(ring, points)| points.edges().map(move |edge| (ring, edge)))
            .unzip();
        near_pairs(&edges, |a, b| {
            if owners[a] == owners[b] {
                return true;
            }
            let (first, second) = (&edges[a], &edges[b]);
            let same = [first.start, first.end] == [second.start, second.end]
                || [first.start, first.end] == [second.end, second.start];
            !same && meeting(first.start, first.end, second.start, second.end) != Meeting::Crossing
        })
    }

    /// The shell, then the holes, each with its own inside on the left.
    pub(crate) fn rings(&self) -> impl Iterator<Item = &Ring> + '_ {
        std::iter::once(&self.shell).chain(&self.holes)
    }

    pub(crate) fn contains(&self, point: Point) -> bool {
        self.shell.contains(point) && !self.holes.iter().any(|hole| hole.contains(point))
    }

    /// The chains with the polygon on the left: holes the other way around.
    pub(crate) fn oriented(&self) -> Vec<Vec<Point>> {
        let holes = self.holes.iter().map(|hole| hole.points.iter().rev().copied().collect());
        std::iter::once(self.shell.points.clone()).chain(holes).collect()
    }

    pub(crate) fn edges(&self) -> impl Iterator<Item = Edge> + '_ {
        self.rings().flat_map(Ring::edges)
    }

    pub(crate) fn point_count(&self) -> usize {
        self.rings().map(|ring| ring.points.len()).sum()
    }
}

/// Whether any polygon holds the place.
pub(crate) fn contains(region: &[Polygon], point: Point) -> bool {
    region.iter().any(|polygon| polygon.contains(point))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn points(degrees: &[[f64; 2]]) -> Vec<Point> {
        degrees.iter().map(|[x, y]| Point::of_degrees(*x, *y).unwrap()).collect()
    }

    pub(crate) fn polygon(rings: &[&[[f64; 2]]]) -> Option<Polygon> {
        Polygon::of_closed(rings.iter().map(|ring| points(ring)).collect())
    }

    const SQUARE: &[[f64; 2]] = &[[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0], [0.0, 0.0]];

    #[test]
    fn a_polygon_holds_what_is_in_its_shell_and_in_no_hole() {
        let hole: &[[f64; 2]] = &[[4.0, 4.0], [6.0, 4.0], [5.0, 6.0], [4.0, 4.0]];
        let polygon = polygon(&[SQUARE, hole]).unwrap();
        let holds = |x, y| polygon.contains(Point::of_degrees(x, y).unwrap());
        assert!(holds(1.0, 1.0) && holds(5.0, 9.0));
        assert!(!holds(5.0, 5.0) && !holds(-1.0, 5.0) && !holds(170.0, -5.0));
    }

    #[test]
    fn a_ring_is_turned_to_its_smaller_side() {
        let turned: Vec<[f64; 2]> = SQUARE.iter().rev().copied().collect();
        let (there, back) = (polygon(&[SQUARE]).unwrap(), polygon(&[&turned]).unwrap());
        assert!((there.shell.area() - back.shell.area()).abs() < 1e-15);
        assert!(back.contains(Point::of_degrees(5.0, 5.0).unwrap()));
    }

    #[test]
    fn neighboring_rings_part_the_places_of_their_common_edge() {
        let left = polygon(&[&[[0.0, 0.0], [5.0, 0.0], [5.0, 5.0], [0.0, 0.0]]]).unwrap();
        let right = polygon(&[&[[5.0, 0.0], [9.0, 0.0], [5.0, 5.0], [5.0, 0.0]]]).unwrap();
        for step in 0..=50 {
            let point = Point::of_degrees(5.0, 5.0 * f64::from(step) / 50.0).unwrap();
            let count = u8::from(left.contains(point)) + u8::from(right.contains(point));
            assert!(step == 0 || step == 50 || count == 1, "step {step}: {count}");
        }
    }

    #[test]
    fn rings_that_touch_themselves_are_invalid() {
        let cases: [&[[f64; 2]]; 5] = [
            &[[0.0, 0.0], [10.0, 10.0], [10.0, 10.0], [0.0, 0.0]],
            &[[0.0, 0.0], [10.0, 10.0], [10.0, 0.0], [0.0, 10.0], [0.0, 0.0]],
            &[[0.0, 0.0], [10.0, 10.0], [0.0, 0.0]],
            &[[0.0, 0.0], [10.0, 10.0], [10.0, 0.0], [0.0, 1.0]],
            &[[0.0, 0.0], [5.0, 0.0], [0.0, 0.0], [5.0, 5.0], [0.0, 0.0]],
        ];
        for case in cases {
            assert!(polygon(&[case]).is_none(), "{case:?}");
        }
        assert!(polygon(&[SQUARE, SQUARE]).is_none());
    }

    #[test]
    fn an_antimeridian_and_a_pole_are_places_like_others() {
        let wide: &[[f64; 2]] =
            &[[170.0, -5.0], [-170.0, -5.0], [-170.0, 5.0], [170.0, 5.0], [170.0, -5.0]];
        let wide = polygon(&[wide]).unwrap();
        assert!(wide.contains(Point::of_degrees(180.0, 0.0).unwrap()));
        assert!(!wide.contains(Point::of_degrees(0.0, 0.0).unwrap()));
        let arctic: &[[f64; 2]] = &[[0.0, 80.0], [120.0, 80.0], [-120.0, 80.0], [0.0, 80.0]];
        let polygon = polygon(&[arctic]).unwrap();
        assert!(polygon.contains(Point::of_degrees(50.0, 90.0).unwrap()));
    }
}
