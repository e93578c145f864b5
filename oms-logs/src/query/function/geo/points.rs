//! Functions of points: distances, directions, and circles around them.

use super::super::arguments::{Args, Column};
use super::super::{Function, Naming, Parameter as P, kernel};
use super::buffer::{Shapes as Buffered, buffer};
use super::geojson::{self, Geometry};
use super::sphere::Point;
use super::{METERS_DEFAULT, Optional, make_shapes, measure, meters, optional_bool, radians};
use crate::query::types::KqlType;
use datafusion::arrow::array::{ArrayRef, Float64Array};
use datafusion::common::Result;
use geographiclib_rs::{Geodesic, InverseGeodesic};

const PLAIN: Naming = Naming::Default;

pub(super) const FUNCTIONS: &[Function] = &[
    kernel(
        "geo_distance_2points",
        PLAIN,
        &[P::Real, P::Real, P::Real, P::Real, P::Bool],
        KqlType::Real,
        distance,
    )
    .optional(4),
    kernel("geo_azimuth", PLAIN, &[P::Real; 4], KqlType::Real, azimuth),
    kernel("geo_angle", PLAIN, &[P::Real; 6], KqlType::Real, angle),
    kernel("geo_point_in_circle", PLAIN, &[P::Real; 5], KqlType::Bool, in_circle),
    kernel("geo_point_buffer", PLAIN, &[P::Real; 4], KqlType::Dynamic, circle).optional(3),
    kernel("geo_from_wkt", PLAIN, &[P::Text], KqlType::Dynamic, from_text),
];

/// Points whose longitude and latitude are two arguments.
#[derive(Debug)]
pub(super) struct Points {
    longitude: Column<Float64Array>,
    latitude: Column<Float64Array>,
}

impl Points {
    pub(super) fn new(args: &Args<'_>, at: usize) -> Result<Self> {
        Ok(Self { longitude: args.real(at)?, latitude: args.real(at + 1)? })
    }

    pub(super) fn degrees(&self, row: usize) -> Option<[f64; 2]> {
        Some([self.longitude.get(row)?, self.latitude.get(row)?])
    }

    /// The point, if its degrees are within their bounds.
    pub(super) fn get(&self, row: usize) -> Option<Point> {
        let [longitude, latitude] = self.degrees(row)?;
        Point::of_degrees(longitude, latitude)
    }
}

/// The distance of two points in meters on the spheroid.
pub(super) fn spheroid_meters(from: Point, to: Point) -> f64 {
    let ([from_x, from_y], [to_x, to_y]) = (from.degrees(), to.degrees());
    Geodesic::wgs84().inverse(from_y, from_x, to_y, to_x)
}

fn distance(args: &Args<'_>) -> Result<ArrayRef> {
    let (from, to) = (Points::new(args, 0)?, Points::new(args, 2)?);
    let use_spheroid = optional_bool(args, 4)?;
    Ok(args.make_real(|row| {
        let (a, b) = (from.get(row)?, to.get(row)?);
        Some(if use_spheroid(row)? { spheroid_meters(a, b) } else { meters(a.angle(b)) })
    }))
}

fn azimuth(args: &Args<'_>) -> Result<ArrayRef> {
    let (from, to) = (Points::new(args, 0)?, Points::new(args, 2)?);
    Ok(args.make_real(|row| measure::azimuth(from.get(row)?, to.get(row)?)))
}

fn angle(args: &Args<'_>) -> Result<ArrayRef> {
    let (a, b, c) = (Points::new(args, 0)?, Points::new(args, 2)?, Points::new(args, 4)?);
    Ok(args.make_real(|row| measure::angle(a.get(row)?, b.get(row)?, c.get(row)?)))
}

fn in_circle(args: &Args<'_>) -> Result<ArrayRef> {
    let (point, center, radius) = (Points::new(args, 0)?, Points::new(args, 2)?, args.real(4)?);
    Ok(args.make_bool(|row| {
        let (point, center) = (point.get(row)?, center.get(row)?);
        let radius = radius.get(row).filter(|radius| *radius > 0.0)?;
        Some(meters(point.angle(center)) <= radius)
    }))
}

/// A radius and a tolerance in meters as radians, if they are valid.
pub(super) fn reach(radius: Option<f64>, tolerance: Option<f64>) -> Option<(f64, f64)> {
    let (radius, tolerance) = (radius?, tolerance?);
    let valid = radius > 0.0 && radius.is_finite() && tolerance >= radius * 1e-6;
    valid.then(|| (radians(radius), radians(tolerance)))
}

fn circle(args: &Args<'_>) -> Result<ArrayRef> {
    let (point, radius) = (Points::new(args, 0)?, args.real(2)?);
    let tolerance = Optional::new(args, 3, METERS_DEFAULT)?;
    make_shapes(args, |row| {
        let (radius, tolerance) = reach(radius.get(row), tolerance.get(row))?;
        Geometry::of_region(&buffer(Buffered::Point(point.get(row)?), radius, tolerance)?)
    })
}

fn from_text(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.text(0)?;
    make_shapes(args, |row| geojson::of_text(text.get(row)))
}
