//! Points, edges and angles on the unit sphere.
//!
//! Predicates are exact: of three points it is always known on which side of the edge between two
//! of them the third lies, and points in line are parted as if each were moved by a little.

use std::ops::{Add, Mul, Neg, Sub};

/// The mean radius of the Earth in meters.
pub(crate) const EARTH_RADIUS_METERS: f64 = 6_371_010.0;

/// A vector; of length one where it stands for a place.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) z: f64,
}

/// A point that lies in no special direction, so that nothing else is likely to meet it.
pub(crate) const ORIGIN: Point =
    Point { x: -0.009_999_466_435_025_02, y: 0.002_592_454_260_932_412, z: 0.999_946_643_502_502 };

const ZERO: Point = Point { x: 0.0, y: 0.0, z: 0.0 };

impl Add for Point {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { x: self.x + other.x, y: self.y + other.y, z: self.z + other.z }
    }
}

impl Sub for Point {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { x: self.x - other.x, y: self.y - other.y, z: self.z - other.z }
    }
}

impl Mul<f64> for Point {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self { x: self.x * factor, y: self.y * factor, z: self.z * factor }
    }
}

impl Neg for Point {
    type Output = Self;

    fn neg(self) -> Self {
        Self { x: -self.x, y: -self.y, z: -self.z }
    }
}

impl Point {
    /// The place at a longitude and a latitude in degrees; `None` outside their bounds.
    pub(crate) fn of_degrees(longitude: f64, latitude: f64) -> Option<Self> {
        let valid = longitude.abs() <= 180.0 && latitude.abs() <= 90.0;
        valid.then(|| {
            let (longitude, latitude) = (longitude.to_radians(), latitude.to_radians());
            let (sin, cos) = latitude.sin_cos();
            Self { x: longitude.cos() * cos, y: longitude.sin() * cos, z: sin }
        })
    }

    /// Longitude and latitude in degrees.
    pub(crate) fn degrees(self) -> [f64; 2] {
        let latitude = self.z.atan2((self.x * self.x + self.y * self.y).sqrt());
        [self.y.atan2(self.x).to_degrees(), latitude.to_degrees()]
    }

    pub(crate) fn dot(self, other: Self) -> f64 {
        self.x * other.x + self.y * other.y + self.z * other.z
    }

    pub(crate) fn cross(self, other: Self) -> Self {
        Self {
            x: self.y * other.z - self.z * other.y,
            y: self.z * other.x - self.x * other.z,
            z: self.x * other.y - self.y * other.x,
        }
    }

    pub(crate) fn length(self) -> f64 {
        self.dot(self).sqrt()
    }

    /// The vector of length one in the same direction; zero has none and stays.
    pub(crate) fn normalized(self) -> Self {
        let length = self.length();
        if length > 0.0 { self * length.recip() } else { self }
    }

    /// The angle between two places in radians.
    pub(crate) fn angle(self, other: Self) -> f64 {
        self.stable_cross(other).length().atan2(self.dot(other))
    }

    /// Twice the cross product, which keeps its digits where the points are near.
    fn stable_cross_twice(self, other: Self) -> Self {
        (other + self).cross(other - self)
    }

    /// The cross product, with all digits where the points are near or opposite.
    pub(crate) fn stable_cross(self, other: Self) -> Self {
        self.stable_cross_twice(other) * 0.5
    }

    /// The direction at a right angle to the edge, on its left side.
    pub(crate) fn left_axis(self, other: Self) -> Self {
        let axis = self.stable_cross(other);
        if axis == ZERO { self.perpendicular() } else { axis.normalized() }
    }

    /// Some direction at a right angle, always the same for a place.
    pub(crate) fn perpendicular(self) -> Self {
        let mut other = Self { x: 0.012, y: 0.0053, z: 0.00457 };
        let (x, y, z) = (self.x.abs(), self.y.abs(), self.z.abs());
        // The component before the largest one.
        if x > y && x > z {
            other.z = 1.0;
        } else if y > z {
            other.x = 1.0;
        } else {
            other.y = 1.0;
        }
        self.cross(other).normalized()
    }

    /// The place at a distance in radians from here in a direction at a right angle to here.
    pub(crate) fn along(self, direction: Self, radians: f64) -> Self {
        let (sin, cos) = radians.sin_cos();
        (self * cos + direction * sin).normalized()
    }

    /// The place at a distance in radians from here on the way to another place.
    pub(crate) fn toward(self, other: Self, radians: f64) -> Self {
        let direction = self.left_axis(other).cross(self).normalized();
        self.along(direction, radians)
    }

    /// The place at a fraction of the edge.
    pub(crate) fn interpolate(self, other: Self, fraction: f64) -> Self {
        if fraction <= 0.0 {
            return self;
        }
        if fraction >= 1.0 {
            return other;
        }
        self.toward(other, fraction * self.angle(other))
    }

    /// The place of the edge from `a` to `b` that is nearest to here.
    pub(crate) fn closest_on_edge(self, a: Self, b: Self) -> Self {
        let axis = a.stable_cross(b);
        if axis != ZERO {
            let axis = axis.normalized();
            let foot = self - axis * self.dot(axis);
            let between = axis.cross(a).dot(foot) > 0.0 && b.cross(axis).dot(foot) > 0.0;
            // With the pole of the edge, every place of it is equally near.
            if between && foot != ZERO {
                return foot.normalized();
            }
        }
        let (to_a, to_b) = ((self - a).length(), (self - b).length());
        if to_a <= to_b { a } else { b }
    }

    /// The angle to the edge in radians.
    pub(crate) fn angle_to_edge(self, a: Self, b: Self) -> f64 {
        self.angle(self.closest_on_edge(a, b))
    }

    const fn array(self) -> [f64; 3] {
        [self.x, self.y, self.z]
    }

    const fn coordinates(self) -> robust::Coord3D<f64> {
        robust::Coord3D { x: self.x, y: self.y, z: self.z }
    }
}

/// 1 if `c` is on the left of the edge from `a` to `b`, -1 if it is on the right, and 0 only if two
/// of the points are the same.
pub(crate) fn sign(a: Point, b: Point, c: Point) -> i8 {
    // The error of the plain product is below this.
    const CERTAIN: f64 = 4e-15;
    let product = a.cross(b).dot(c);
    if product > CERTAIN {
        return 1;
    }
    if product < -CERTAIN {
        return -1;
    }
    if a == b || b == c || c == a {
        return 0;
    }
    let exact =
        robust::orient3d(a.coordinates(), b.coordinates(), c.coordinates(), ZERO.coordinates());
    match sign_of(exact) {
        0 => perturbed_sign(a, b, c),
        sign => sign,
    }
}

fn sign_of(value: f64) -> i8 {
    match value.partial_cmp(&0.0) {
        Some(std::cmp::Ordering::Greater) => 1,
        Some(std::cmp::Ordering::Less) => -1,
        _ => 0,
    }
}

/// The sign for points on one great circle: as if each coordinate were moved by an amount that is
/// infinitely smaller than the one before, the smallest point first (Edelsbrunner and Muecke).
fn perturbed_sign(a: Point, b: Point, c: Point) -> i8 {
    let mut points = [a, b, c];
    let mut swapped = 1;
    for (i, j) in [(0, 1), (1, 2), (0, 1)] {
        if points[i] > points[j] {
            points.swap(i, j);
            swapped = -swapped;
        }
    }
    let [a, b, c] = points.map(Point::array);
    let minor = |u: [f64; 3], v: [f64; 3], i: usize, j: usize| {
        let of = |p: [f64; 3]| robust::Coord { x: p[i], y: p[j] };
        sign_of(robust::orient2d(of(u), of(v), robust::Coord { x: 0.0, y: 0.0 }))
    };
    let terms = [
        minor(b, c, 0, 1),
        minor(b, c, 2, 0),
        minor(b, c, 1, 2),
        minor(c, a, 0, 1),
        sign_of(c[0]),
        -sign_of(c[1]),
        minor(c, a, 2, 0),
        sign_of(c[2]),
        minor(c, a, 1, 2),
        minor(a, b, 0, 1),
        -sign_of(b[0]),
        sign_of(b[1]),
        sign_of(a[0]),
    ];
    swapped * terms.into_iter().find(|term| *term != 0).unwrap_or(1)
}

/// Whether the directions from `o` to `a`, `b` and `c` come in this order when turning left.
fn is_ordered(a: Point, b: Point, c: Point, o: Point) -> bool {
    let turns = [sign(b, o, a) >= 0, sign(c, o, b) >= 0, sign(a, o, c) > 0];
    turns.into_iter().filter(|turn| *turn).count() >= 2
}

/// Whether the corner from `a` over `b` to `c` holds its own vertex: of corners that share a vertex
/// and fill its surroundings, exactly one does.
pub(crate) fn holds_vertex(a: Point, b: Point, c: Point) -> bool {
    !is_ordered(b.perpendicular(), c, a, b)
}

/// How two edges meet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Meeting {
    Apart,
    /// They share a vertex.
    Vertex,
    /// They cross between their vertices.
    Crossing,
}

/// How the edges from `a` to `b` and from `c` to `d` meet.
pub(crate) fn meeting(a: Point, b: Point, c: Point, d: Point) -> Meeting {
    if a == c || a == d || b == c || b == d {
        return Meeting::Vertex;
    }
    let turn = sign(a, c, b);
    let crossing =
        turn == sign(b, d, a) && a != b && c != d && sign(c, b, d) == turn && sign(d, a, c) == turn;
    if crossing { Meeting::Crossing } else { Meeting::Apart }
}

/// Whether the edges cross, also in a vertex that they share.
pub(crate) fn crosses_or_touches(a: Point, b: Point, c: Point, d: Point) -> bool {
    match meeting(a, b, c, d) {
        Meeting::Apart => false,
        Meeting::Crossing => true,
        Meeting::Vertex if a == b || c == d => false,
        Meeting::Vertex if a == c => b == d || is_ordered(a.perpendicular(), d, b, a),
        Meeting::Vertex if b == d => is_ordered(b.perpendicular(), c, a, b),
        Meeting::Vertex if a == d => b == c || is_ordered(a.perpendicular(), c, b, a),
        Meeting::Vertex => is_ordered(b.perpendicular(), d, a, b),
    }
}

/// Where two edges that cross do so.
pub(crate) fn crossing_point(a: Point, b: Point, c: Point, d: Point) -> Point {
    let (first, second) = (a.stable_cross(b).normalized(), c.stable_cross(d).normalized());
    let at = first.stable_cross(second);
    if at == ZERO {
        // They lie on one great circle: the end of one that the other holds.
        let on = |p: Point, u: Point, v: Point| p.angle_to_edge(u, v) <= 1e-15;
        return [(a, c, d), (b, c, d), (c, a, b)]
            .into_iter()
            .find(|(p, u, v)| on(*p, *u, *v))
            .map_or(d, |(p, _, _)| p);
    }
    let at = at.normalized();
    if at.dot(a + b + c + d) < 0.0 { -at } else { at }
}

/// The area of the triangle in steradians, negative where its corners turn right.
pub(crate) fn triangle_area(a: Point, b: Point, c: Point) -> f64 {
    let volume = a.dot((b - a).cross(c - a));
    2.0 * volume.atan2(1.0 + a.dot(b) + b.dot(c) + c.dot(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(longitude: f64, latitude: f64) -> Point {
        Point::of_degrees(longitude, latitude).unwrap()
    }

    #[test]
    fn angles_are_those_of_great_circles() {
        assert!((at(0.0, 0.0).angle(at(90.0, 0.0)) - std::f64::consts::FRAC_PI_2).abs() < 1e-15);
        assert!((at(10.0, 80.0).angle(at(-170.0, 80.0)).to_degrees() - 20.0).abs() < 1e-12);
        let near = at(12.0, 34.0).angle(at(12.0, 34.000_000_1)).to_degrees();
        assert!((near - 1e-7).abs() < 1e-13, "{near}");
        assert!(Point::of_degrees(181.0, 0.0).is_none());
        assert!(Point::of_degrees(f64::NAN, 0.0).is_none());
    }

    #[test]
    fn the_sign_is_zero_for_equal_points_only() {
        let (a, b, c) = (at(0.0, 0.0), at(10.0, 0.0), at(20.0, 0.0));
        assert_eq!(sign(a, b, at(5.0, 1e-12)), 1);
        assert_eq!(sign(a, b, at(5.0, -1e-12)), -1);
        assert_eq!(sign(a, b, b), 0);
        // Points in line: a cyclic change keeps the sign, and a swap turns it.
        let in_line = sign(a, b, c);
        assert_ne!(in_line, 0);
        assert_eq!(sign(b, c, a), in_line);
        assert_eq!(sign(b, a, c), -in_line);
    }

    #[test]
    fn edges_meet_between_their_ends() {
        let (a, b) = (at(-10.0, 0.0), at(10.0, 0.0));
        assert_eq!(meeting(a, b, at(0.0, -10.0), at(0.0, 10.0)), Meeting::Crossing);
        assert_eq!(meeting(a, b, at(20.0, -10.0), at(20.0, 10.0)), Meeting::Apart);
        assert_eq!(meeting(a, b, b, at(20.0, 10.0)), Meeting::Vertex);
        let [longitude, latitude] = crossing_point(a, b, at(3.0, -10.0), at(3.0, 10.0)).degrees();
        assert!((longitude - 3.0).abs() < 1e-13 && latitude.abs() < 1e-13);
    }

    #[test]
    fn the_nearest_place_of_an_edge_is_in_it_or_an_end() {
        let (a, b) = (at(0.0, 0.0), at(10.0, 0.0));
        let [longitude, latitude] = at(4.0, 3.0).closest_on_edge(a, b).degrees();
        assert!((longitude - 4.0).abs() < 1e-13 && latitude.abs() < 1e-13);
        assert_eq!(at(-4.0, 3.0).closest_on_edge(a, b), a);
        assert_eq!(at(14.0, 3.0).closest_on_edge(a, b), b);
    }

    #[test]
    fn an_octant_is_an_eighth_of_the_sphere() {
        let area = triangle_area(at(0.0, 0.0), at(90.0, 0.0), at(0.0, 90.0));
        assert!((area - std::f64::consts::FRAC_PI_2).abs() < 1e-15);
    }
}
