//! Lengths, areas, middles and distances.

use super::shape::{Polygon, contains};
use super::sphere::Point;
use std::f64::consts::TAU;

/// The length in radians.
pub(crate) fn path_length(path: &[Point]) -> f64 {
    path.windows(2).map(|pair| pair[0].angle(pair[1])).sum()
}

/// The middle of all the edges, each as heavy as it is long.
pub(crate) fn path_centroid<'a>(paths: impl IntoIterator<Item = &'a [Point]>) -> Option<Point> {
    let edges = paths.into_iter().flat_map(|path| path.windows(2));
    let sum = edges
        .map(|pair| {
            let (sum, difference) = (pair[0] + pair[1], pair[0] - pair[1]);
            sum * (difference.length() / sum.length())
        })
        .reduce(|a, b| a + b)?;
    (sum.length() > 0.0).then(|| sum.normalized())
}

/// The middle of what is inside of polygons that do not overlap.
pub(crate) fn centroid(polygons: &[Polygon]) -> Option<Point> {
    // The integral of places over an area is half of the integral of the axes along its border.
    let edges = polygons.iter().flat_map(Polygon::oriented).flat_map(|ring| {
        let next: Vec<Point> = ring.iter().cycle().skip(1).take(ring.len()).copied().collect();
        ring.into_iter().zip(next)
    });
    let sum = edges.map(|(a, b)| a.left_axis(b) * a.angle(b)).reduce(|a, b| a + b)?;
    (sum.length() > 0.0).then(|| sum.normalized())
}

/// The area in steradians of polygons that do not overlap.
pub(crate) fn area(polygons: &[Polygon]) -> f64 {
    let of = |polygon: &Polygon| {
        polygon.shell.area() - polygon.holes.iter().map(super::shape::Ring::area).sum::<f64>()
    };
    polygons.iter().map(of).sum()
}

/// The length of all borders in radians.
pub(crate) fn perimeter(polygons: &[Polygon]) -> f64 {
    polygons.iter().flat_map(Polygon::rings).map(super::shape::Ring::length).sum()
}

/// The place of paths that is nearest to a point, with the index of its path and of its edge.
pub(crate) fn closest_on_paths<'a>(
    point: Point,
    paths: impl IntoIterator<Item = &'a [Point]>,
) -> Option<(Point, usize, usize)> {
    let edges = paths
        .into_iter()
        .enumerate()
        .flat_map(|(path, points)| points.windows(2).enumerate().map(move |edge| (path, edge)));
    let near = edges.map(|(path, (edge, pair))| {
        let at = point.closest_on_edge(pair[0], pair[1]);
        ((point - at).dot(point - at), (at, path, edge))
    });
    near.reduce(|a, b| if b.0 < a.0 { b } else { a }).map(|(_, place)| place)
}

/// The place of the polygons that is nearest to a point: the point itself if one holds it.
pub(crate) fn closest_in_polygons(point: Point, polygons: &[Polygon]) -> Option<Point> {
    if contains(polygons, point) {
        return Some(point);
    }
    let edges = polygons.iter().flat_map(Polygon::edges);
    let near = edges.map(|edge| {
        let at = point.closest_on_edge(edge.start, edge.end);
        ((point - at).dot(point - at), at)
    });
    near.reduce(|a, b| if b.0 < a.0 { b } else { a }).map(|(_, at)| at)
}

/// The place at a fraction of a path's length.
pub(crate) fn interpolate(path: &[Point], fraction: f64) -> Option<Point> {
    let mut left = path_length(path) * fraction;
    for pair in path.windows(2) {
        let length = pair[0].angle(pair[1]);
        if left < length {
            return Some(pair[0].interpolate(pair[1], left / length));
        }
        left -= length;
    }
    path.last().copied()
}

/// The fraction of a path's length at which it is nearest to a point. The measure of an edge is
/// the caller's.
pub(crate) fn locate(path: &[Point], point: Point, measure: impl Fn(Point, Point) -> f64) -> f64 {
    let Some((at, _, edge)) = closest_on_paths(point, [path]) else { return 0.0 };
    let length =
        |points: &[Point]| -> f64 { points.windows(2).map(|pair| measure(pair[0], pair[1])).sum() };
    let total = length(path);
    let before = length(&path[..=edge]) + measure(path[edge], at);
    if total > 0.0 { (before / total).clamp(0.0, 1.0) } else { 0.0 }
}

/// The direction from one place to another in radians, clockwise from north; `None` if there is no
/// single one.
pub(crate) fn azimuth(from: Point, to: Point) -> Option<f64> {
    if from == to || (from + to).length() < 1e-15 {
        return None;
    }
    let east = Point { x: -from.y, y: from.x, z: 0.0 };
    // At a pole, north is where the direction of the longitude zero is taken to be.
    let east = if east.length() > 0.0 { east } else { Point { x: 0.0, y: 1.0, z: 0.0 } };
    let north = from.cross(east);
    let way = to - from;
    let angle = way.dot(east).atan2(way.dot(north));
    Some(if angle < 0.0 { angle + TAU } else { angle })
}

/// The angle at `b`, clockwise from the way to `a` to the way to `c`.
pub(crate) fn angle(a: Point, b: Point, c: Point) -> Option<f64> {
    azimuth(a, b)?;
    let angle = azimuth(b, c)? - azimuth(b, a)?;
    Some(if angle < 0.0 { angle + TAU } else { angle })
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::{points, polygon};
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn a_square_around_zero_has_its_middle_there() {
        let square =
            polygon(&[&[[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]]]);
        let square = [square.unwrap()];
        let [x, y] = centroid(&square).unwrap().degrees();
        assert!(close(x, 0.0) && close(y, 0.0));
        let side = 2.0_f64.to_radians();
        assert!((area(&square) / (side * side) - 1.0).abs() < 1e-3);
        assert!((perimeter(&square) / (4.0 * side) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn places_along_a_path_are_found_again() {
        let path = points(&[[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]]);
        let at = interpolate(&path, 0.75).unwrap();
        let [x, y] = at.degrees();
        assert!(close(x, 10.0) && close(y, 5.0));
        assert!(close(locate(&path, at, Point::angle), 0.75));
        assert_eq!(interpolate(&path, 1.0), path.last().copied());
        let [x, y] = path_centroid([&path[..2]]).unwrap().degrees();
        assert!(close(x, 5.0) && close(y, 0.0));
    }

    #[test]
    fn azimuths_turn_clockwise_from_north() {
        let from = |x, y| azimuth(points(&[[0.0, 0.0]])[0], points(&[[x, y]])[0]).unwrap();
        assert!(close(from(0.0, 5.0).to_degrees(), 0.0));
        assert!(close(from(5.0, 0.0).to_degrees(), 90.0));
        assert!(close(from(0.0, -5.0).to_degrees(), 180.0));
        assert!(close(from(-5.0, 0.0).to_degrees(), 270.0));
        let p = points(&[[5.0, 10.0], [10.0, -40.0]]);
        assert!(close(azimuth(p[0], p[1]).unwrap(), 3.054_599_397_964_49));
        assert_eq!(azimuth(p[0], p[0]), None);
        assert_eq!(azimuth(p[0], -p[0]), None);
    }

    #[test]
    fn an_angle_is_between_the_two_ways() {
        let p = points(&[[0.0, 10.0], [0.0, 5.0], [3.0, -10.0]]);
        assert!(close(angle(p[0], p[1], p[2]).unwrap(), 2.944_938_434_068_82));
        assert_eq!(angle(p[0], p[0], p[2]), None);
    }
}
