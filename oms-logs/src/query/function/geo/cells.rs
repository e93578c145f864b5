//! Functions of grids: geohash, S2 and H3.

use super::super::arguments::Args;
use super::super::{Function, Naming, Parameter as P, kernel};
use super::geohash::{Geohash, LETTERS_MAX};
use super::geojson::Geometry;
use super::points::Points;
use super::s2::{Cell, LEVEL_MAX};
use super::{OptionalLong, h3, make_shapes};
use crate::query::dynamic::Writer;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;

const PLAIN: Naming = Naming::Default;
const PLACE: &[P] = &[P::Real, P::Real, P::Long];
const CELL: &[P] = &[P::Text];
const CELL_AND_LONG: &[P] = &[P::Text, P::Long];

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("geo_point_to_geohash", PLAIN, PLACE, KqlType::String, to_geohash).optional(2),
    kernel("geo_geohash_to_central_point", PLAIN, CELL, KqlType::Dynamic, |args| {
        shapes(args, |text| Some(Geometry::Point(Geohash::parse(text)?.center())))
    }),
    kernel("geo_geohash_to_polygon", PLAIN, CELL, KqlType::Dynamic, |args| {
        shapes(args, |text| Some(Geometry::Polygon(vec![Geohash::parse(text)?.ring()])))
    }),
    kernel("geo_geohash_neighbors", PLAIN, CELL, KqlType::Dynamic, |args| {
        lists(args, |text| {
            Some(Geohash::parse(text)?.neighbors().into_iter().map(Geohash::text).collect())
        })
    }),
    kernel("geo_point_to_s2cell", PLAIN, PLACE, KqlType::String, to_s2).optional(2),
    kernel("geo_s2cell_to_central_point", PLAIN, CELL, KqlType::Dynamic, |args| {
        shapes(args, |text| Some(Geometry::of_point(Cell::of_token(text)?.center())))
    }),
    kernel("geo_s2cell_to_polygon", PLAIN, CELL, KqlType::Dynamic, |args| {
        shapes(args, |text| {
            let corners = Cell::of_token(text)?.corners().map(super::sphere::Point::degrees);
            let ring = corners.into_iter().chain([corners[0]]).collect();
            Some(Geometry::Polygon(vec![ring]))
        })
    }),
    kernel("geo_s2cell_neighbors", PLAIN, CELL, KqlType::Dynamic, |args| {
        lists(args, |text| {
            Some(Cell::of_token(text)?.neighbors().into_iter().map(Cell::token).collect())
        })
    }),
    kernel("geo_point_to_h3cell", PLAIN, PLACE, KqlType::String, to_h3).optional(2),
    kernel("geo_h3cell_to_central_point", PLAIN, CELL, KqlType::Dynamic, |args| {
        shapes(args, |text| Some(Geometry::Point(h3::center(h3::parse(text)?))))
    }),
    kernel("geo_h3cell_to_polygon", PLAIN, CELL, KqlType::Dynamic, |args| {
        shapes(args, |text| Some(Geometry::Polygon(vec![h3::ring(h3::parse(text)?)])))
    }),
    kernel("geo_h3cell_neighbors", PLAIN, CELL, KqlType::Dynamic, |args| {
        lists(args, |text| {
            let neighbors = h3::neighbors(h3::parse(text)?);
            Some(neighbors.iter().map(ToString::to_string).collect())
        })
    }),
    kernel("geo_h3cell_level", PLAIN, CELL, KqlType::Int, |args| {
        let text = args.text(0)?;
        Ok(args.make_int(|row| {
            h3::parse(text.get(row)).map(|cell| i32::from(u8::from(cell.resolution())))
        }))
    }),
    kernel("geo_h3cell_parent", PLAIN, CELL_AND_LONG, KqlType::String, h3_parent).optional(1),
    kernel("geo_h3cell_children", PLAIN, CELL_AND_LONG, KqlType::Dynamic, h3_children).optional(1),
    kernel("geo_h3cell_rings", PLAIN, CELL_AND_LONG, KqlType::Dynamic, h3_rings),
];

fn shapes(args: &Args<'_>, of: impl Fn(&str) -> Option<Geometry>) -> Result<ArrayRef> {
    let text = args.text(0)?;
    make_shapes(args, |row| of(text.get(row)))
}

fn lists(args: &Args<'_>, of: impl Fn(&str) -> Option<Vec<String>>) -> Result<ArrayRef> {
    let text = args.text(0)?;
    args.make_dynamic(|row, writer| write_list(writer, of(text.get(row))))
}

/// An array of texts, or null.
pub(super) fn write_list(writer: &mut Writer<'_>, texts: Option<Vec<String>>) {
    match texts {
        Some(texts) => writer.array(|parts| {
            texts.iter().for_each(|text| parts.item(|writer| writer.text(text)));
        }),
        None => writer.null(),
    }
}

fn to_geohash(args: &Args<'_>) -> Result<ArrayRef> {
    const DEFAULT: i64 = 5;
    let (point, letters) = (Points::new(args, 0)?, OptionalLong::new(args, 2, Some(DEFAULT))?);
    Ok(args.make_text(|row| {
        let [longitude, latitude] = point.degrees(row)?;
        let letters = usize::try_from(letters.get(row)??).ok().filter(|all| *all <= LETTERS_MAX)?;
        Geohash::at(longitude, latitude, letters).map(Geohash::text)
    }))
}

/// The level of S2 cells, 11 by default.
pub(super) fn s2_level(level: &OptionalLong, row: usize) -> Option<u8> {
    let level = level.get(row)?.unwrap_or(11);
    u8::try_from(level).ok().filter(|level| *level <= LEVEL_MAX)
}

fn to_s2(args: &Args<'_>) -> Result<ArrayRef> {
    let (point, level) = (Points::new(args, 0)?, OptionalLong::new(args, 2, None)?);
    Ok(args.make_text(|row| Some(Cell::at(point.get(row)?, s2_level(&level, row)?).token())))
}

fn to_h3(args: &Args<'_>) -> Result<ArrayRef> {
    const DEFAULT: i64 = 6;
    let (point, level) = (Points::new(args, 0)?, OptionalLong::new(args, 2, Some(DEFAULT))?);
    Ok(args.make_text(|row| {
        let [longitude, latitude] = point.degrees(row)?;
        let resolution = h3::resolution(level.get(row)??)?;
        h3::at(longitude, latitude, resolution).map(|cell| cell.to_string())
    }))
}

fn h3_parent(args: &Args<'_>) -> Result<ArrayRef> {
    let (text, level) = (args.text(0)?, OptionalLong::new(args, 1, None)?);
    Ok(args.make_text(|row| {
        let to = match level.get(row)? {
            Some(level) => Some(h3::resolution(level)?),
            None => None,
        };
        h3::parent(h3::parse(text.get(row))?, to).map(|cell| cell.to_string())
    }))
}

fn h3_children(args: &Args<'_>) -> Result<ArrayRef> {
    let (text, level) = (args.text(0)?, OptionalLong::new(args, 1, None)?);
    args.make_dynamic(|row, writer| {
        let children = || -> Option<Vec<String>> {
            let to = match level.get(row)? {
                Some(level) => Some(h3::resolution(level)?),
                None => None,
            };
            let children = h3::children(h3::parse(text.get(row))?, to)?;
            Some(children.iter().map(ToString::to_string).collect())
        };
        write_list(writer, children());
    })
}

fn h3_rings(args: &Args<'_>) -> Result<ArrayRef> {
    let (text, distance) = (args.text(0)?, args.long(1)?);
    args.make_dynamic(|row, writer| {
        let rings = || {
            let distance = u32::try_from(distance.get(row)?).ok();
            let distance = distance.filter(|distance| *distance <= h3::RINGS_MAX)?;
            Some(h3::rings(h3::parse(text.get(row))?, distance))
        };
        let Some(rings) = rings() else { return writer.null() };
        writer.array(|parts| {
            for ring in &rings {
                let texts = ring.iter().map(ToString::to_string).collect();
                parts.item(|writer| write_list(writer, Some(texts)));
            }
        });
    })
}
