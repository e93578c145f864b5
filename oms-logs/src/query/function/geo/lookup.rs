//! Finding the shapes that points belong to, for the lookup plugins.

use super::geojson::{paths, region};
use super::measure::{closest_in_polygons, closest_on_paths};
use super::radians;
use super::shape::{Path, Region, contains};
use super::sphere::Point;
use crate::query::dynamic::View;

/// A shape with a circle that holds all places that can match.
#[derive(Debug)]
struct Candidate<T> {
    index: usize,
    shape: T,
    center: Point,
    /// The square of the chord of the circle; 4 is the whole sphere.
    reach: f64,
}

impl<T> Candidate<T> {
    fn new(index: usize, shape: T, points: &[Point], radius: f64) -> Self {
        let sum = points.iter().fold(Point { x: 0.0, y: 0.0, z: 0.0 }, |sum, p| sum + *p);
        let center = sum.normalized();
        let widest = points.iter().map(|point| center.angle(*point)).fold(0.0, f64::max);
        // Edges between points of a circle that is less than half of the sphere stay in it.
        let angle = widest + radius + 1e-12;
        let is_small = sum.length() > 0.0 && widest < 1.0 && angle < 3.0;
        let chord = if is_small { 2.0 * (angle / 2.0).sin() } else { 2.0 };
        Self { index, shape, center, reach: chord * chord }
    }

    fn is_near(&self, point: Point) -> bool {
        let way = point - self.center;
        self.reach >= 4.0 || way.dot(way) <= self.reach
    }
}

/// The polygons of a table, to find those that hold a point or are within a radius of it.
#[derive(Debug)]
pub(crate) struct PolygonLookup {
    candidates: Vec<Candidate<Region>>,
    /// In radians.
    radius: Option<f64>,
}

impl PolygonLookup {
    /// The polygons of a column; rows whose shape is not valid match nothing.
    pub(crate) fn new<'a>(
        shapes: impl IntoIterator<Item = View<'a>>,
        radius_meters: Option<f64>,
    ) -> Self {
        let radius = radius_meters.map(radians);
        let candidates = shapes.into_iter().enumerate().filter_map(|(index, view)| {
            let region = region(view)?;
            let points: Vec<Point> =
                region.iter().flat_map(|polygon| polygon.shell.points().iter().copied()).collect();
            Some(Candidate::new(index, region, &points, radius.unwrap_or_default()))
        });
        Self { candidates: candidates.collect(), radius }
    }

    /// The indexes of the rows that match a place in degrees.
    pub(crate) fn matches(&self, longitude: f64, latitude: f64) -> impl Iterator<Item = usize> {
        let point = Point::of_degrees(longitude, latitude);
        let holds = move |candidate: &&Candidate<Region>| {
            let Some(point) = point.filter(|point| candidate.is_near(*point)) else { return false };
            match self.radius {
                None => contains(&candidate.shape, point),
                Some(radius) => closest_in_polygons(point, &candidate.shape)
                    .is_some_and(|at| at.angle(point) <= radius),
            }
        };
        self.candidates.iter().filter(holds).map(|candidate| candidate.index)
    }
}

/// The lines of a table, to find those within a radius of a point.
#[derive(Debug)]
pub(crate) struct LineLookup {
    candidates: Vec<Candidate<Vec<Path>>>,
    /// In radians.
    radius: f64,
}

impl LineLookup {
    /// The lines of a column; rows whose shape is not valid match nothing.
    pub(crate) fn new<'a>(shapes: impl IntoIterator<Item = View<'a>>, radius_meters: f64) -> Self {
        let radius = radians(radius_meters);
        let candidates = shapes.into_iter().enumerate().filter_map(|(index, view)| {
            let paths = paths(view)?;
            let points: Vec<Point> = paths.iter().flatten().copied().collect();
            Some(Candidate::new(index, paths, &points, radius))
        });
        Self { candidates: candidates.collect(), radius }
    }

    /// The indexes of the rows that match a place in degrees.
    pub(crate) fn matches(&self, longitude: f64, latitude: f64) -> impl Iterator<Item = usize> {
        let point = Point::of_degrees(longitude, latitude);
        let is_near = move |candidate: &&Candidate<Vec<Path>>| {
            let Some(point) = point.filter(|point| candidate.is_near(*point)) else { return false };
            closest_on_paths(point, candidate.shape.iter().map(Vec::as_slice))
                .is_some_and(|(at, _, _)| at.angle(point) <= self.radius)
        };
        self.candidates.iter().filter(is_near).map(|candidate| candidate.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::dynamic::of_text;
    use datafusion::arrow::array::{BinaryViewArray, StringViewArray};

    fn shapes(texts: &[&str]) -> BinaryViewArray {
        of_text(&StringViewArray::from(texts.to_vec())).unwrap()
    }

    fn views(shapes: &BinaryViewArray) -> impl Iterator<Item = View<'_>> {
        shapes.iter().map(|bytes| bytes.map_or(View::Null, View::of))
    }

    #[test]
    fn a_place_finds_the_polygons_that_hold_it_or_are_near() {
        let shapes = shapes(&[
            r#"{"type":"Polygon","coordinates":[[[0,0],[2,0],[2,2],[0,2],[0,0]]]}"#,
            "1",
            r#"{"type":"Polygon","coordinates":[[[1,1],[3,1],[3,3],[1,3],[1,1]]]}"#,
        ]);
        let of = |radius| PolygonLookup::new(views(&shapes), radius);
        let found = |lookup: &PolygonLookup, x, y| lookup.matches(x, y).collect::<Vec<_>>();
        let exact = of(None);
        assert_eq!(found(&exact, 1.5, 1.5), [0, 2]);
        assert_eq!(found(&exact, 0.5, 0.5), [0]);
        assert!(found(&exact, 3.1, 2.0).is_empty());
        assert!(found(&exact, 300.0, 2.0).is_empty());
        assert_eq!(found(&of(Some(20_000.0)), 3.1, 2.0), [2]);
    }

    #[test]
    fn a_place_finds_the_lines_that_are_near() {
        let shapes = shapes(&[
            r#"{"type":"LineString","coordinates":[[0,0],[2,0]]}"#,
            r#"{"type":"LineString","coordinates":[[0,1],[2,1]]}"#,
        ]);
        let lookup = LineLookup::new(views(&shapes), 60_000.0);
        let found = |x, y| lookup.matches(x, y).collect::<Vec<_>>();
        assert_eq!(found(1.0, 0.5), [0, 1]);
        assert_eq!(found(1.0, 0.1), [0]);
        assert!(found(1.0, 2.0).is_empty());
    }
}
