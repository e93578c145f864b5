//! All that is within a distance of a shape.
//!
//! The border is drawn around each shape as a closed curve to its right, with arcs in the place of
//! corners; what the curve winds around is inside, also where it crosses itself.

use super::overlay::Layers;
use super::shape::{Polygon, Region};
use super::sphere::{ORIGIN, Point, sign};
use std::f64::consts::{FRAC_PI_2, PI};

/// The most points of all curves; past it the arguments count as invalid.
const POINTS_MAX: usize = 1 << 20;

/// What is buffered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shapes<'a> {
    Point(Point),
    Paths(&'a [Vec<Point>]),
    Region(&'a [Polygon]),
}

/// The curve so far.
#[derive(Debug)]
struct Curve {
    /// In radians, as is all below.
    radius: f64,
    /// The angle between the points of an arc around a corner.
    corner_step: f64,
    /// The greatest length of an edge whose offset is one edge too.
    edge_step: f64,
    points: Vec<Point>,
    total: usize,
}

/// The polygons of all places within a radius of the shapes, from which their border is away by no
/// more than the tolerance. Both are in radians. `None` where the result would be the whole sphere
/// or too large.
pub(crate) fn buffer(shapes: Shapes<'_>, radius: f64, tolerance: f64) -> Option<Region> {
    let tolerance = tolerance.min(radius * 0.999_999);
    if radius + tolerance >= PI {
        return None;
    }
    let mut curve = Curve {
        radius,
        corner_step: longest_step(radius, tolerance),
        edge_step: if FRAC_PI_2 - radius > tolerance {
            longest_step(FRAC_PI_2 - radius, tolerance)
        } else {
            f64::INFINITY
        },
        points: Vec::new(),
        total: 0,
    };
    let (rings, sum) = match shapes {
        Shapes::Point(point) => (vec![curve.around_point(point)], point),
        Shapes::Paths(paths) => {
            let sum = sum(paths.iter().flatten());
            (paths.iter().map(|path| curve.around_path(path)).collect::<Option<_>>()?, sum)
        }
        Shapes::Region(region) => {
            let rings: Vec<_> = region.iter().flat_map(Polygon::oriented).collect();
            let sum = sum(rings.iter().flatten());
            (rings.iter().map(|ring| curve.around_ring(ring)).collect::<Option<_>>()?, sum)
        }
    };
    // Far from everything nothing is inside.
    let reference = (-sum.normalized() + ORIGIN * 1e-3).normalized();
    Layers { rings, reference: (reference, 0) }.at_least(1)
}

fn sum<'a>(points: impl Iterator<Item = &'a Point>) -> Point {
    points.fold(Point { x: 0.0, y: 0.0, z: 0.0 }, |sum, point| sum + *point)
}

/// The angle between points of a circle for which its chords stay within the tolerance.
fn longest_step(radius: f64, tolerance: f64) -> f64 {
    let inner = radius - tolerance;
    let third = 2.0 * PI / 3.0 + 1e-15;
    if radius < FRAC_PI_2 {
        third.min(2.0 * (inner.tan() / radius.tan()).acos())
    } else if inner > FRAC_PI_2 {
        third.min(2.0 * (radius.tan() / inner.tan()).acos())
    } else {
        third
    }
}

impl Curve {
    /// The direction to the right of an edge.
    fn right(from: Point, to: Point) -> Point {
        -from.left_axis(to)
    }

    fn put(&mut self, from: Point, direction: Point) -> Option<()> {
        self.points.push(from.along(direction, self.radius));
        self.count()
    }

    fn count(&mut self) -> Option<()> {
        self.total += 1;
        (self.total <= POINTS_MAX).then_some(())
    }

    fn take(&mut self) -> Vec<Point> {
        let mut points = std::mem::take(&mut self.points);
        points.dedup();
        while points.len() > 1 && points.first() == points.last() {
            points.pop();
        }
        points
    }

    fn around_point(&mut self, point: Point) -> Vec<Point> {
        let count = (2.0 * PI / self.corner_step).ceil().max(3.0);
        let start = point.perpendicular();
        let side = point.cross(start).normalized();
        for at in 0..count as usize {
            let angle = 2.0 * PI * at as f64 / count;
            let direction = start * angle.cos() + side * angle.sin();
            self.points.push(point.along(direction, self.radius));
        }
        self.take()
    }

    /// Down the right side and back up the other, with round ends.
    fn around_path(&mut self, path: &[Point]) -> Option<Vec<Point>> {
        let (Some((first, rest)), Some((last, before))) = (path.split_first(), path.split_last())
        else {
            return None;
        };
        let (second, next_to_last) = (rest.first()?, before.last()?);
        let axis = Self::right(*first, *second);
        self.corner(*first, -axis, axis)?;
        for three in path.windows(3) {
            self.edge_and_corner(three[0], three[1], three[2])?;
        }
        self.edge(*next_to_last, *last)?;
        let axis = Self::right(*next_to_last, *last);
        self.corner(*last, axis, -axis)?;
        for three in path.windows(3).rev() {
            self.edge_and_corner(three[2], three[1], three[0])?;
        }
        self.edge(*second, *first)?;
        Some(self.take())
    }

    fn around_ring(&mut self, ring: &[Point]) -> Option<Vec<Point>> {
        let count = ring.len();
        for at in 0..count {
            self.edge_and_corner(ring[at], ring[(at + 1) % count], ring[(at + 2) % count])?;
        }
        Some(self.take())
    }

    fn edge_and_corner(&mut self, a: Point, b: Point, c: Point) -> Option<()> {
        self.edge(a, b)?;
        if sign(a, b, c) >= 0 {
            return self.corner(b, Self::right(a, b), Self::right(b, c));
        }
        // In a corner that turns right the curve goes by the corner itself, so that it winds around
        // the part between the two offsets the other way and leaves it out.
        if self.edge_step.is_finite() {
            self.put(b, Self::right(a, b))?;
        }
        self.points.push(b);
        self.count()
    }

    /// The offset of an edge, without its end.
    fn edge(&mut self, a: Point, b: Point) -> Option<()> {
        if !self.edge_step.is_finite() {
            return Some(());
        }
        let axis = Self::right(a, b);
        let length = a.angle(b);
        let mut at = 0.0;
        while at < length {
            self.put(if at == 0.0 { a } else { a.toward(b, at) }, axis)?;
            at += self.edge_step;
        }
        Some(())
    }

    /// The arc around a corner from one direction to another on its left, without its end unless
    /// no edge follows.
    fn corner(&mut self, corner: Point, start: Point, end: Point) -> Option<()> {
        let side = corner.cross(start).normalized();
        let span = start.angle(end);
        let mut angle = 0.0;
        while angle < span {
            self.put(corner, start * angle.cos() + side * angle.sin())?;
            angle += self.corner_step;
        }
        if self.edge_step.is_finite() { Some(()) } else { self.put(corner, end) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::area;
    use super::super::shape::tests::{points, polygon};
    use super::*;

    const RADIUS: f64 = 0.01;

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a / b - 1.0).abs() < tolerance
    }

    #[test]
    fn a_point_becomes_a_circle() {
        let point = points(&[[20.0, 70.0]])[0];
        let circle = buffer(Shapes::Point(point), RADIUS, RADIUS * 5e-4).unwrap();
        assert_eq!(circle[0].point_count(), 100);
        for at in circle[0].shell.points() {
            assert!((at.angle(point) - RADIUS).abs() < 1e-14);
        }
        assert!(close(area(&circle), PI * RADIUS * RADIUS, 1e-3));
        assert!(buffer(Shapes::Point(point), PI, 0.1).is_none());
    }

    #[test]
    fn a_path_becomes_a_band_with_round_ends() {
        let path = [points(&[[0.0, 0.0], [5.0, 0.0]])];
        let band = buffer(Shapes::Paths(&path), RADIUS, RADIUS * 1e-4).unwrap();
        let length = 5.0_f64.to_radians();
        assert!(close(area(&band), length * 2.0 * RADIUS + PI * RADIUS * RADIUS, 1e-3));
    }

    #[test]
    fn a_path_that_crosses_itself_is_covered_once() {
        let path = [points(&[[0.0, 0.0], [5.0, 0.0], [5.0, 5.0], [2.0, -5.0]])];
        let band = buffer(Shapes::Paths(&path), RADIUS, RADIUS * 1e-2).unwrap();
        assert_eq!((band.len(), band[0].holes.len()), (1, 1));
    }

    #[test]
    fn a_polygon_grows_and_its_holes_shrink() {
        let outer: &[[f64; 2]] = &[[0.0, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 9.0], [0.0, 0.0]];
        let inner: &[[f64; 2]] = &[[3.0, 3.0], [6.0, 3.0], [6.0, 6.0], [3.0, 6.0], [3.0, 3.0]];
        let frame = [polygon(&[outer, inner]).unwrap()];
        let wider = buffer(Shapes::Region(&frame), RADIUS, RADIUS * 1e-2).unwrap();
        assert_eq!((wider.len(), wider[0].holes.len()), (1, 1));
        assert!(wider[0].holes[0].area() < frame[0].holes[0].area());
        let far = buffer(Shapes::Region(&frame), 0.05, 0.0005).unwrap();
        assert_eq!((far.len(), far[0].holes.len()), (1, 0));
    }

    #[test]
    fn a_corner_that_turns_right_keeps_its_distance() {
        let shape: &[[f64; 2]] =
            &[[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [2.0, 1.0], [0.0, 4.0], [0.0, 0.0]];
        let notched = [polygon(&[shape]).unwrap()];
        let wider = buffer(Shapes::Region(&notched), RADIUS, RADIUS * 1e-2).unwrap();
        for at in wider[0].shell.points() {
            let near = super::super::measure::closest_in_polygons(*at, &notched).unwrap();
            assert!((near.angle(*at) - RADIUS).abs() < RADIUS * 0.02);
        }
    }
}
