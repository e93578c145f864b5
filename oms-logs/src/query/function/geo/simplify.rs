//! Fewer points for the same shape, and more for one drawn on a flat map.

use super::shape::{Path, Region, Ring};
use super::sphere::Point;
use std::collections::HashMap;
use std::f64::consts::{FRAC_PI_2, PI};

/// The path without points that are within the tolerance, in radians, of another one or of a
/// straight way past them. Empty if it is no longer than that.
pub(crate) fn simplified_path(path: &[Point], tolerance: f64) -> Path {
    let path = straightened(path, tolerance);
    if path.len() < 2 { Vec::new() } else { path }
}

/// The region with simplified rings, without those that vanish. `None` if it is too large.
pub(crate) fn simplified_region(region: &Region, tolerance: f64) -> Option<Region> {
    let simplified = |ring: Vec<Point>| {
        let mut closed = ring;
        closed.extend(closed.first().copied());
        let mut ring = straightened(&closed, tolerance);
        ring.pop();
        ring
    };
    let rings = region.iter().flat_map(super::shape::Polygon::oriented).map(simplified);
    // What crosses itself has collapsed.
    let whole = |ring: &Vec<Point>| {
        let closed = ring.iter().chain(ring.first()).copied().collect();
        ring.len() >= 3 && Ring::of_closed(closed).is_some()
    };
    super::overlay::polygons(rings.filter(whole).collect())
}

/// The points that stay. Those that are too near to an earlier one join it; then each way goes on
/// straight for as long as it passes all points on it closely enough.
fn straightened(points: &[Point], tolerance: f64) -> Vec<Point> {
    let is_closed = points.len() > 1 && points.first() == points.last();
    let sites = sites(points, tolerance, is_closed);
    let mut kept: Vec<Point> = Vec::new();
    let mut at = 0;
    while let Some((start, point)) = sites.get(at).copied() {
        kept.push(point);
        let mut cone = Cone::at(point, tolerance);
        let mut next = at + 1;
        let mut passed = start + 1;
        while let Some((index, _)) = sites.get(next).copied() {
            points[passed..index].iter().for_each(|between| cone.pass(*between));
            let Some((_, beyond)) = sites.get(next + 1).copied() else { break };
            cone.pass(points[index]);
            passed = index + 1;
            if beyond == point || !cone.allows(beyond) {
                break;
            }
            next += 1;
        }
        at = next;
    }
    kept
}

/// The points that are far enough from each other, with their indexes; a closed path ends where it
/// begins.
fn sites(points: &[Point], tolerance: f64, is_closed: bool) -> Vec<(usize, Point)> {
    let chord = 2.0 * (tolerance / 2.0).sin();
    if chord <= 0.0 {
        return points.iter().copied().enumerate().collect();
    }
    let cell = |p: Point| [p.x, p.y, p.z].map(|value| (value / chord).floor() as i64);
    let mut cells: HashMap<[i64; 3], Vec<Point>> = HashMap::new();
    let mut sites = Vec::new();
    // The end counts before what comes between.
    let open = points.len() - usize::from(is_closed);
    let last = if is_closed { None } else { points.len().checked_sub(1) };
    let order = [0].into_iter().chain(last.filter(|last| *last > 0)).chain(1..open);
    for at in order.take_while(|at| *at < open) {
        let Some(point) = points.get(at).copied() else { break };
        let [x, y, z] = cell(point);
        let near = (0..27).any(|step| {
            let [i, j, k] = [step % 3 - 1, step / 3 % 3 - 1, step / 9 - 1];
            let others = cells.get(&[x + i, y + j, z + k]).into_iter().flatten();
            others.into_iter().any(|other| (*other - point).length() < chord)
        });
        if !near {
            cells.entry([x, y, z]).or_default().push(point);
            sites.push((at, point));
        }
    }
    sites.sort_by_key(|(at, _)| *at);
    if is_closed {
        sites.extend(points.first().map(|first| (points.len() - 1, *first)));
    }
    sites
}

/// The directions from a place in which a straight way passes all points closely enough.
#[derive(Debug)]
struct Cone {
    apex: Point,
    east: Point,
    north: Point,
    tolerance: f64,
    /// The middle direction and how far it may turn to either side; `None` while any will do.
    directions: Option<(f64, f64)>,
}

impl Cone {
    fn at(apex: Point, tolerance: f64) -> Self {
        let east = apex.perpendicular();
        Self { apex, east, north: apex.cross(east), tolerance, directions: None }
    }

    fn direction(&self, to: Point) -> f64 {
        let way = to - self.apex;
        way.dot(self.north).atan2(way.dot(self.east))
    }

    /// Requires that the way passes a point closely enough.
    fn pass(&mut self, point: Point) {
        let distance = self.apex.angle(point);
        if distance <= self.tolerance {
            return;
        }
        let (middle, reach) =
            (self.direction(point), (self.tolerance.sin() / distance.sin()).clamp(0.0, 1.0).asin());
        self.directions = Some(match self.directions {
            None => (middle, reach),
            Some((old, width)) => {
                let turn = difference(middle, old);
                let low = (-width).max(turn - reach);
                let high = width.min(turn + reach);
                (old + f64::midpoint(low, high), (high - low) / 2.0)
            }
        });
    }

    /// Whether the way to a point is one of those.
    fn allows(&self, point: Point) -> bool {
        self.apex.angle(point) < FRAC_PI_2
            && self.directions.is_none_or(|(middle, width)| {
                difference(self.direction(point), middle).abs() <= width
            })
    }
}

/// By how much one direction is left of another, between minus and plus half a turn.
fn difference(a: f64, b: f64) -> f64 {
    (a - b + PI).rem_euclid(2.0 * PI) - PI
}

/// The most points of a denser line.
const POINTS_MAX: usize = 1 << 20;

/// A path in degrees whose edges are straight on a flat map of degrees, with points added so that
/// the shortest ways between them are within the tolerance in radians. `None` if there would be too
/// many. If `shortest` is false, no edge crosses the antimeridian.
pub(crate) fn densified(
    path: &[[f64; 2]],
    tolerance: f64,
    shortest: bool,
) -> Option<Vec<[f64; 2]>> {
    let mut dense = Vec::new();
    let mut from = *path.first()?;
    dense.push(place(from).degrees());
    for to in &path[1..] {
        let mut to = *to;
        if shortest {
            // The nearer of the two ways around the Earth.
            to[0] = from[0] + (to[0] - from[0] + 180.0).rem_euclid(360.0) - 180.0;
        }
        extend(from, to, tolerance, &mut dense)?;
        from = to;
    }
    Some(dense)
}

/// The place on the sphere of degrees that may be past 180.
fn place(degrees: [f64; 2]) -> Point {
    let [longitude, latitude] = degrees.map(f64::to_radians);
    Point {
        x: longitude.cos() * latitude.cos(),
        y: longitude.sin() * latitude.cos(),
        z: latitude.sin(),
    }
}

fn extend(from: [f64; 2], to: [f64; 2], tolerance: f64, dense: &mut Vec<[f64; 2]>) -> Option<()> {
    const DEPTH_MAX: usize = 40;
    // Two places along the edge are tried, where the greatest distance is not much greater.
    const FRACTION: f64 = 0.312_156_910_822_483_1;
    const SCALE: f64 = 0.838_299_925_698_885_1;
    let between =
        |a: [f64; 2], b: [f64; 2], t: f64| [0, 1].map(|axis| a[axis] + (b[axis] - a[axis]) * t);
    let mut open = vec![(from, to, 0)];
    while let Some((from, to, depth)) = open.pop() {
        let (start, end) = (place(from), place(to));
        let is_near = start.dot(end) >= -1e-14
            && [FRACTION, 1.0 - FRACTION].into_iter().all(|t| {
                start.interpolate(end, t).angle(place(between(from, to, t))) <= SCALE * tolerance
            });
        if is_near || depth == DEPTH_MAX {
            dense.push(end.degrees());
            if dense.len() > POINTS_MAX {
                return None;
            }
        } else {
            let middle = between(from, to, 0.5);
            open.push((middle, to, depth + 1));
            open.push((from, middle, depth + 1));
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::{points, polygon};
    use super::super::sphere::EARTH_RADIUS_METERS;
    use super::*;

    const TEN_METERS: f64 = 10.0 / EARTH_RADIUS_METERS;

    #[test]
    fn a_nearly_straight_path_becomes_straight() {
        let wiggle = points(&[
            [0.0, 0.0],
            [0.001, 0.000_05],
            [0.002, -0.000_05],
            [0.003, 0.0],
            [0.003, 1.0],
        ]);
        let simplified = simplified_path(&wiggle, TEN_METERS);
        assert_eq!(simplified, [wiggle[0], wiggle[3], wiggle[4]]);
        assert_eq!(simplified_path(&wiggle, 0.0), wiggle);
        assert!(simplified_path(&points(&[[1.1, 1.1], [1.2, 1.2]]), 0.02).is_empty());
    }

    #[test]
    fn a_ring_keeps_its_corners_or_vanishes() {
        let bumpy = polygon(&[&[
            [0.0, 0.0],
            [0.5, 0.000_01],
            [1.0, 0.0],
            [1.0, 1.0],
            [1.000_01, 1.000_01],
            [0.0, 1.0],
            [0.0, 0.0],
        ]]);
        let bumpy = vec![bumpy.unwrap()];
        assert_eq!(simplified_region(&bumpy, TEN_METERS).unwrap()[0].point_count(), 4);
        assert!(simplified_region(&bumpy, 0.5).unwrap().is_empty());
    }

    #[test]
    fn edges_are_halved_until_they_are_near() {
        let count = |path: &[[f64; 2]]| densified(path, TEN_METERS, false).unwrap().len() - 1;
        assert_eq!(count(&[[50.0, 50.0], [51.0, 51.0]]), 8);
        assert_eq!(count(&[[10.0, 10.0], [11.0, 10.0]]), 4);
        assert_eq!(count(&[[11.0, 10.0], [11.0, 11.0]]), 1);
        let dense = densified(&[[179.0, 60.0], [-179.0, 60.0]], TEN_METERS, true).unwrap();
        assert!(dense.iter().all(|[x, _]| x.abs() >= 179.0 - 1e-9));
        assert!(count(&[[179.0, 60.0], [-179.0, 60.0]]) > 1000);
    }
}
