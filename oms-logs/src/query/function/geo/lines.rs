//! Functions of lines.

use super::super::arguments::Args;
use super::super::{Function, Naming, Parameter as P, kernel};
use super::buffer::{Shapes as Buffered, buffer};
use super::cells::{s2_level, write_list};
use super::geojson::{Geometry, Place, paths, paths_of, region};
use super::points::{Points, reach, spheroid_meters};
use super::s2::Cell;
use super::shape::Path;
use super::sphere::Point;
use super::{
    METERS_DEFAULT, Optional, OptionalLong, Shapes, cover, edges, make_shapes, measure, meet,
    meters, optional_bool, radians, simplify,
};
use crate::query::dynamic::View;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;

const PLAIN: Naming = Naming::Default;
const LINE: &[P] = &[P::Dynamic];
const TWO: &[P] = &[P::Dynamic, P::Dynamic];
const POINT_AND_LINE: &[P] = &[P::Real, P::Real, P::Dynamic];
const LINE_AND_TOLERANCE: &[P] = &[P::Dynamic, P::Real];
const BUFFER: &[P] = &[P::Dynamic, P::Real, P::Real];
const DENSIFY: &[P] = &[P::Dynamic, P::Real, P::Bool];
const TO_CELLS: &[P] = &[P::Dynamic, P::Long, P::Real];

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("geo_distance_point_to_line", PLAIN, POINT_AND_LINE, KqlType::Real, distance),
    kernel("geo_closest_point_on_line", PLAIN, POINT_AND_LINE, KqlType::Dynamic, closest),
    kernel("geo_line_length", PLAIN, LINE, KqlType::Real, length),
    kernel("geo_line_centroid", PLAIN, LINE, KqlType::Dynamic, centroid),
    kernel("geo_line_interpolate_point", PLAIN, LINE_AND_TOLERANCE, KqlType::Dynamic, interpolate),
    kernel(
        "geo_line_locate_point",
        PLAIN,
        &[P::Dynamic, P::Real, P::Real, P::Bool],
        KqlType::Real,
        locate,
    )
    .optional(3),
    kernel("geo_line_buffer", PLAIN, BUFFER, KqlType::Dynamic, line_buffer).optional(2),
    kernel("geo_line_simplify", PLAIN, LINE_AND_TOLERANCE, KqlType::Dynamic, simplified)
        .optional(1),
    kernel("geo_line_densify", PLAIN, DENSIFY, KqlType::Dynamic, densified).optional(1),
    kernel("geo_line_to_s2cells", PLAIN, TO_CELLS, KqlType::Dynamic, to_cells).optional(1),
    kernel("geo_intersects_2lines", PLAIN, TWO, KqlType::Bool, |args| {
        let (first, second) = (Shapes::new(args, 0, paths)?, Shapes::new(args, 1, paths)?);
        Ok(args.make_bool(|row| {
            first.with(row, |a| second.with(row, |b| Some(meet::lines_meet(a, b))))
        }))
    }),
    kernel("geo_intersects_line_with_polygon", PLAIN, TWO, KqlType::Bool, |args| {
        let (line, polygon) = (Shapes::new(args, 0, paths)?, Shapes::new(args, 1, region)?);
        Ok(args.make_bool(|row| {
            line.with(row, |a| polygon.with(row, |b| Some(meet::lines_meet_region(a, b))))
        }))
    }),
    kernel("geo_intersection_2lines", PLAIN, TWO, KqlType::Dynamic, |args| {
        let (first, second) = (Shapes::new(args, 0, paths)?, Shapes::new(args, 1, paths)?);
        make_shapes(args, |row| {
            let common = first.with(row, |a| second.with(row, |b| meet::lines(a, b)));
            common.as_ref().map(Geometry::of_common)
        })
    }),
    kernel("geo_intersection_line_with_polygon", PLAIN, TWO, KqlType::Dynamic, |args| {
        let (line, polygon) = (Shapes::new(args, 0, paths)?, Shapes::new(args, 1, region)?);
        make_shapes(args, |row| {
            let common = line.with(row, |a| polygon.with(row, |b| meet::lines_with_region(a, b)));
            common.as_ref().map(Geometry::of_common)
        })
    }),
    kernel("geo_union_lines_array", PLAIN, LINE, KqlType::Dynamic, |args| {
        let lines = args.dynamic(0)?;
        make_shapes(args, |row| {
            Geometry::of_paths(&meet::union_of_lines(&all_paths(lines.get(row))?))
        })
    }),
];

fn slices(paths: &[Path]) -> impl Iterator<Item = &[Point]> {
    paths.iter().map(Vec::as_slice)
}

/// The lines of an array of shapes that are all valid.
fn all_paths(view: View<'_>) -> Option<Vec<Path>> {
    let items = view.as_array()?.iter().map(|item| paths(View::of(item)));
    Some(items.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The lines without what is there twice.
fn union_of(view: View<'_>) -> Option<Vec<Path>> {
    let paths = paths(view)?;
    Some(if paths.len() > 1 { meet::union_of_lines(&paths) } else { paths })
}

/// The only line of a shape.
fn one_path(view: View<'_>) -> Option<Path> {
    let mut paths = paths(view)?;
    if paths.len() > 1 { None } else { paths.pop() }
}

/// Lines in degrees, of which all are valid.
fn places(view: View<'_>) -> Option<Vec<Vec<Place>>> {
    let lines = Geometry::read(view)?.into_lines()?;
    paths_of(&lines).map(|_| lines)
}

fn distance(args: &Args<'_>) -> Result<ArrayRef> {
    let (point, line) = (Points::new(args, 0)?, Shapes::new(args, 2, paths)?);
    Ok(args.make_real(|row| {
        let point = point.get(row)?;
        line.with(row, |line| {
            let (at, _, _) = measure::closest_on_paths(point, slices(line))?;
            Some(meters(point.angle(at)))
        })
    }))
}

fn closest(args: &Args<'_>) -> Result<ArrayRef> {
    let (point, line) = (Points::new(args, 0)?, Shapes::new(args, 2, paths)?);
    make_shapes(args, |row| {
        let point = point.get(row)?;
        line.with(row, |line| {
            let (at, _, _) = measure::closest_on_paths(point, slices(line))?;
            Some(Geometry::of_point(at))
        })
    })
}

fn length(args: &Args<'_>) -> Result<ArrayRef> {
    let line = Shapes::new(args, 0, union_of)?;
    Ok(args.make_real(|row| {
        line.with(row, |line| Some(meters(slices(line).map(measure::path_length).sum())))
    }))
}

fn centroid(args: &Args<'_>) -> Result<ArrayRef> {
    let line = Shapes::new(args, 0, union_of)?;
    make_shapes(args, |row| {
        line.with(row, |line| measure::path_centroid(slices(line)).map(Geometry::of_point))
    })
}

fn interpolate(args: &Args<'_>) -> Result<ArrayRef> {
    let (line, fraction) = (Shapes::new(args, 0, one_path)?, args.real(1)?);
    make_shapes(args, |row| {
        let fraction = fraction.get(row).filter(|fraction| (0.0..=1.0).contains(fraction))?;
        line.with(row, |line| measure::interpolate(line, fraction).map(Geometry::of_point))
    })
}

fn locate(args: &Args<'_>) -> Result<ArrayRef> {
    let (line, point) = (Shapes::new(args, 0, one_path)?, Points::new(args, 1)?);
    let use_spheroid = optional_bool(args, 3)?;
    Ok(args.make_real(|row| {
        let (point, use_spheroid) = (point.get(row)?, use_spheroid(row)?);
        line.with(row, |line| {
            Some(if use_spheroid {
                measure::locate(line, point, spheroid_meters)
            } else {
                measure::locate(line, point, Point::angle)
            })
        })
    }))
}

fn line_buffer(args: &Args<'_>) -> Result<ArrayRef> {
    let (line, radius) = (Shapes::new(args, 0, paths)?, args.real(1)?);
    let tolerance = Optional::new(args, 2, METERS_DEFAULT)?;
    make_shapes(args, |row| {
        let (radius, tolerance) = reach(radius.get(row), tolerance.get(row))?;
        line.with(row, |line| {
            Geometry::of_region(&buffer(Buffered::Paths(line), radius, tolerance)?)
        })
    })
}

/// The tolerance of a simplification in radians, if it is valid.
pub(super) fn coarseness(meters: Option<f64>) -> Option<f64> {
    const METERS_END: f64 = 7_800_000.0;
    meters.filter(|meters| (0.0..METERS_END).contains(meters)).map(radians)
}

fn simplified(args: &Args<'_>) -> Result<ArrayRef> {
    let line = Shapes::new(args, 0, union_of)?;
    let tolerance = Optional::new(args, 1, METERS_DEFAULT)?;
    make_shapes(args, |row| {
        let tolerance = coarseness(tolerance.get(row))?;
        line.with(row, |line| {
            let paths = slices(line).map(|path| simplify::simplified_path(path, tolerance));
            let paths: Vec<Path> = paths.filter(|path| !path.is_empty()).collect();
            Geometry::of_paths(&paths)
        })
    })
}

/// The tolerance for edges on a flat map in radians, if it is valid.
pub(super) fn fineness(meters: Option<f64>) -> Option<f64> {
    meters.filter(|meters| (0.1..=10_000.0).contains(meters)).map(radians)
}

fn densified(args: &Args<'_>) -> Result<ArrayRef> {
    let line = Shapes::new(args, 0, places)?;
    let tolerance = Optional::new(args, 1, METERS_DEFAULT)?;
    let shortest = optional_bool(args, 2)?;
    make_shapes(args, |row| {
        let (tolerance, shortest) = (fineness(tolerance.get(row))?, shortest(row)?);
        line.with(row, |lines| {
            let dense = lines.iter().map(|line| simplify::densified(line, tolerance, shortest));
            let mut dense: Vec<_> = dense.collect::<Option<_>>()?;
            if dense.len() == 1 {
                dense.pop().map(Geometry::Line)
            } else {
                Some(Geometry::MultiLine(dense))
            }
        })
    })
}

fn to_cells(args: &Args<'_>) -> Result<ArrayRef> {
    let (line, level) = (Shapes::new(args, 0, paths)?, OptionalLong::new(args, 1, None)?);
    let radius = Optional::new(args, 2, 0.0)?;
    args.make_dynamic(|row, writer| {
        let cells = || {
            let level = s2_level(&level, row)?;
            let radius = radius.get(row).filter(|radius| *radius >= 0.0)?;
            line.with(row, |line| {
                let edges: Vec<_> = slices(line).flat_map(edges::path).collect();
                cover::covering(&edges, |_| false, radians(radius), level)
            })
        };
        write_list(writer, cells().map(|cells| cells.into_iter().map(Cell::token).collect()));
    })
}
