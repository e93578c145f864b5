//! Functions of polygons.

use super::super::arguments::Args;
use super::super::{Function, Naming, Parameter as P, kernel};
use super::buffer::{Shapes as Buffered, buffer};
use super::cells::{s2_level, write_list};
use super::geojson::{Geometry, Place, region, region_of};
use super::lines::{coarseness, fineness};
use super::points::{Points, reach};
use super::s2::Cell;
use super::shape::{Polygon, Region, contains};
use super::{
    METERS_DEFAULT, Optional, OptionalLong, Shapes, cover, h3, make_shapes, measure, meet, meters,
    optional_bool, overlay, radians, simplify,
};
use crate::query::dynamic::View;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;

const PLAIN: Naming = Naming::Default;
const POLYGON: &[P] = &[P::Dynamic];
const TWO: &[P] = &[P::Dynamic, P::Dynamic];
const POINT_AND_POLYGON: &[P] = &[P::Real, P::Real, P::Dynamic];
const POLYGON_AND_TOLERANCE: &[P] = &[P::Dynamic, P::Real];
const BUFFER: &[P] = &[P::Dynamic, P::Real, P::Real];
const DENSIFY: &[P] = &[P::Dynamic, P::Real, P::Bool];
const TO_CELLS: &[P] = &[P::Dynamic, P::Long, P::Real];

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("geo_point_in_polygon", PLAIN, POINT_AND_POLYGON, KqlType::Bool, holds),
    kernel("geo_distance_point_to_polygon", PLAIN, POINT_AND_POLYGON, KqlType::Real, distance),
    kernel("geo_closest_point_on_polygon", PLAIN, POINT_AND_POLYGON, KqlType::Dynamic, closest),
    kernel("geo_polygon_area", PLAIN, POLYGON, KqlType::Real, |args| {
        let polygon = Shapes::new(args, 0, flat_region)?;
        Ok(args.make_real(|row| {
            polygon.with(row, |polygon| Some(meters(meters(measure::area(polygon)))))
        }))
    }),
    kernel("geo_polygon_perimeter", PLAIN, POLYGON, KqlType::Real, |args| {
        let polygon = Shapes::new(args, 0, flat_region)?;
        Ok(args.make_real(|row| {
            polygon.with(row, |polygon| Some(meters(measure::perimeter(polygon))))
        }))
    }),
    kernel("geo_polygon_centroid", PLAIN, POLYGON, KqlType::Dynamic, |args| {
        let polygon = Shapes::new(args, 0, flat_region)?;
        make_shapes(args, |row| {
            polygon.with(row, |polygon| measure::centroid(polygon).map(Geometry::of_point))
        })
    }),
    kernel("geo_polygon_buffer", PLAIN, BUFFER, KqlType::Dynamic, polygon_buffer).optional(2),
    kernel("geo_polygon_simplify", PLAIN, POLYGON_AND_TOLERANCE, KqlType::Dynamic, |args| {
        simplified(args, flat_region)
    })
    .optional(1),
    kernel("geo_simplify_polygons_array", PLAIN, POLYGON_AND_TOLERANCE, KqlType::Dynamic, |args| {
        simplified(args, union_of_all)
    })
    .optional(1),
    kernel("geo_union_polygons_array", PLAIN, POLYGON, KqlType::Dynamic, |args| {
        let polygons = Shapes::new(args, 0, union_of_all)?;
        make_shapes(args, |row| polygons.with(row, |region| Geometry::of_region(region)))
    }),
    kernel("geo_polygon_densify", PLAIN, DENSIFY, KqlType::Dynamic, densified).optional(1),
    kernel("geo_polygon_to_s2cells", PLAIN, TO_CELLS, KqlType::Dynamic, to_s2).optional(1),
    kernel("geo_polygon_to_h3cells", PLAIN, TO_CELLS, KqlType::Dynamic, to_h3).optional(1),
    kernel("geo_intersects_2polygons", PLAIN, TWO, KqlType::Bool, |args| {
        let (first, second) = (Shapes::new(args, 0, region)?, Shapes::new(args, 1, region)?);
        Ok(args.make_bool(|row| {
            first.with(row, |a| second.with(row, |b| Some(meet::regions_meet(a, b))))
        }))
    }),
    kernel("geo_intersection_2polygons", PLAIN, TWO, KqlType::Dynamic, |args| {
        let (first, second) = (Shapes::new(args, 0, region)?, Shapes::new(args, 1, region)?);
        make_shapes(args, |row| {
            let both = |a: &Region| second.with(row, |b| meet::regions(a.clone(), b.clone()));
            first.with(row, both).as_ref().map(Geometry::of_common)
        })
    }),
];

/// The polygons of a shape without overlaps.
fn flat_region(view: View<'_>) -> Option<Region> {
    overlay::flattened(region(view)?)
}

/// The union of an array of shapes that are all valid.
fn union_of_all(view: View<'_>) -> Option<Region> {
    let items = view.as_array()?.iter().map(|item| region(View::of(item)));
    overlay::union(items.collect::<Option<_>>()?)
}

fn holds(args: &Args<'_>) -> Result<ArrayRef> {
    let (point, polygon) = (Points::new(args, 0)?, Shapes::new(args, 2, region)?);
    Ok(args.make_bool(|row| {
        let point = point.get(row)?;
        polygon.with(row, |polygon| Some(contains(polygon, point)))
    }))
}

fn distance(args: &Args<'_>) -> Result<ArrayRef> {
    let (point, polygon) = (Points::new(args, 0)?, Shapes::new(args, 2, region)?);
    Ok(args.make_real(|row| {
        let point = point.get(row)?;
        polygon.with(row, |polygon| {
            let at = measure::closest_in_polygons(point, polygon)?;
            Some(meters(point.angle(at)))
        })
    }))
}

fn closest(args: &Args<'_>) -> Result<ArrayRef> {
    let (point, polygon) = (Points::new(args, 0)?, Shapes::new(args, 2, region)?);
    make_shapes(args, |row| {
        let point = point.get(row)?;
        polygon.with(row, |polygon| {
            measure::closest_in_polygons(point, polygon).map(Geometry::of_point)
        })
    })
}

fn polygon_buffer(args: &Args<'_>) -> Result<ArrayRef> {
    let (polygon, radius) = (Shapes::new(args, 0, region)?, args.real(1)?);
    let tolerance = Optional::new(args, 2, METERS_DEFAULT)?;
    make_shapes(args, |row| {
        let (radius, tolerance) = reach(radius.get(row), tolerance.get(row))?;
        polygon.with(row, |polygon| {
            Geometry::of_region(&buffer(Buffered::Region(polygon), radius, tolerance)?)
        })
    })
}

fn simplified(args: &Args<'_>, read: fn(View<'_>) -> Option<Region>) -> Result<ArrayRef> {
    let polygon = Shapes::new(args, 0, read)?;
    let tolerance = Optional::new(args, 1, METERS_DEFAULT)?;
    make_shapes(args, |row| {
        let tolerance = coarseness(tolerance.get(row))?;
        polygon.with(row, |polygon| {
            Geometry::of_region(&simplify::simplified_region(polygon, tolerance)?)
        })
    })
}

/// Polygons in degrees, of which all are valid, with each ring turned like its checked form.
fn places(view: View<'_>) -> Option<Vec<Vec<Vec<Place>>>> {
    let mut polygons = Geometry::read(view)?.into_polygons()?;
    let region = region_of(&polygons)?;
    for (rings, polygon) in polygons.iter_mut().zip(&region) {
        for (at, (ring, checked)) in rings.iter_mut().zip(polygon.rings()).enumerate() {
            let first =
                ring.first().copied().and_then(|[x, y]| super::sphere::Point::of_degrees(x, y));
            let was_turned = checked.points().first().copied() != first;
            // Holes turn right.
            if was_turned != (at > 0) {
                // The ring starts with what was last before its closing point.
                ring.pop();
                ring.reverse();
                ring.extend(ring.first().copied());
            }
        }
    }
    Some(polygons)
}

fn densified(args: &Args<'_>) -> Result<ArrayRef> {
    let polygon = Shapes::new(args, 0, places)?;
    let tolerance = Optional::new(args, 1, METERS_DEFAULT)?;
    let shortest = optional_bool(args, 2)?;
    make_shapes(args, |row| {
        let (tolerance, shortest) = (fineness(tolerance.get(row))?, shortest(row)?);
        polygon.with(row, |polygons| {
            let dense = |rings: &Vec<Vec<Place>>| -> Option<Vec<Vec<Place>>> {
                let rings = rings.iter();
                rings.map(|ring| simplify::densified(ring, tolerance, shortest)).collect()
            };
            let mut dense: Vec<_> = polygons.iter().map(dense).collect::<Option<_>>()?;
            if dense.len() == 1 {
                dense.pop().map(Geometry::Polygon)
            } else {
                Some(Geometry::MultiPolygon(dense))
            }
        })
    })
}

fn to_s2(args: &Args<'_>) -> Result<ArrayRef> {
    let (polygon, level) = (Shapes::new(args, 0, region)?, OptionalLong::new(args, 1, None)?);
    let radius = Optional::new(args, 2, 0.0)?;
    args.make_dynamic(|row, writer| {
        let cells = || {
            let level = s2_level(&level, row)?;
            let radius = radius.get(row).filter(|radius| *radius >= 0.0)?;
            polygon.with(row, |polygon| {
                let edges: Vec<_> = polygon.iter().flat_map(Polygon::edges).collect();
                cover::covering(&edges, |at| contains(polygon, at), radians(radius), level)
            })
        };
        write_list(writer, cells().map(|cells| cells.into_iter().map(Cell::token).collect()));
    })
}

/// The ring with longitudes that go on past 180, so that each edge takes the nearer way.
fn unwrapped(ring: &[Place]) -> Vec<Place> {
    let mut before: Option<f64> = None;
    let place = |[longitude, latitude]: &Place| {
        let from = before.unwrap_or(*longitude);
        let longitude = from + (longitude - from + 180.0).rem_euclid(360.0) - 180.0;
        before = Some(longitude);
        [longitude, *latitude]
    };
    ring.iter().map(place).collect()
}

/// Whether a place is within a ring whose edges are straight on a flat map of degrees.
fn is_in_ring([x, y]: Place, ring: &[Place]) -> bool {
    [x - 360.0, x, x + 360.0].into_iter().any(|x| {
        let crosses = |pair: &&[Place]| {
            let (a, b) = (pair[0], pair[1]);
            (a[1] > y) != (b[1] > y) && x < (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0]
        };
        ring.windows(2).filter(crosses).count() % 2 == 1
    })
}

/// Whether a place is within the shell of a polygon and in none of its holes.
fn is_inside(place: Place, polygons: &[Vec<Vec<Place>>]) -> bool {
    let holds = |rings: &Vec<Vec<Place>>| {
        let mut rings = rings.iter();
        rings.next().is_some_and(|shell| is_in_ring(place, shell))
            && !rings.any(|hole| is_in_ring(place, hole))
    };
    polygons.iter().any(holds)
}

fn to_h3(args: &Args<'_>) -> Result<ArrayRef> {
    const LEVEL_DEFAULT: i64 = 6;
    let polygon = Shapes::new(args, 0, places)?;
    let level = OptionalLong::new(args, 1, Some(LEVEL_DEFAULT))?;
    let radius = Optional::new(args, 2, 0.0)?;
    args.make_dynamic(|row, writer| {
        let cells = || {
            let level = h3::resolution(level.get(row)??)?;
            let radius = radius.get(row).filter(|radius| *radius >= 0.0)?;
            polygon.with(row, |polygons| {
                let wider = if radius > 0.0 {
                    let (radius, tolerance) = reach(Some(radius), Some(METERS_DEFAULT))?;
                    let region = region_of(polygons)?;
                    let region = buffer(Buffered::Region(&region), radius, tolerance)?;
                    Geometry::of_region(&region)?.into_polygons()?
                } else {
                    polygons.clone()
                };
                let flat: Vec<Vec<Vec<Place>>> = wider
                    .iter()
                    .map(|rings| rings.iter().map(|ring| unwrapped(ring)).collect())
                    .collect();
                let rings = flat.iter().flatten();
                let edges: Vec<[Place; 2]> =
                    rings.flat_map(|ring| ring.windows(2).map(|pair| [pair[0], pair[1]])).collect();
                h3::polygon_cells(&edges, |at| is_inside(at, &flat), level)
            })
        };
        let texts = |cells: Vec<h3o::CellIndex>| cells.iter().map(ToString::to_string).collect();
        write_list(writer, cells().map(texts));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_rings_go_around_what_is_inside() {
        let ring = vec![[179.0, 0.0], [-179.0, 0.0], [-179.0, 2.0], [179.0, 2.0], [179.0, 0.0]];
        let hole = vec![[-179.8, 0.5], [-179.2, 0.5], [-179.5, 0.9], [-179.8, 0.5]];
        let edges = [vec![unwrapped(&ring), unwrapped(&hole)]];
        assert!(is_inside([179.5, 1.0], &edges) && is_inside([-179.5, 1.0], &edges));
        assert!(!is_inside([178.5, 1.0], &edges) && !is_inside([0.0, 1.0], &edges));
        assert!(!is_inside([180.0, 3.0], &edges) && !is_inside([-179.5, 0.6], &edges));
    }
}
