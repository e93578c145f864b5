//! Geospatial functions.
//!
//! The Earth is a sphere, as it is for the engine, and edges are the shortest ways on it; the
//! distance between two points can be that on the WGS-84 spheroid instead. Shapes come and go as
//! GeoJSON. An argument that is not valid makes null.
//!
//! ```text
//! geojson ── shape ──┬── measure, meet, simplify
//!                    ├── buffer ── overlay ── arrange ── edges ── sphere
//!                    └── cover ── s2          h3, geohash
//! ```

mod arrange;

mod buffer;

mod cells;

mod cover;

mod edges;

mod geohash;

mod geojson;

mod h3;

mod lines;

mod lookup;

mod measure;

mod meet;

mod overlay;

mod points;

mod polygons;

mod s2;

mod shape;

mod simplify;

mod sphere;

use super::Function;
use super::arguments::{Args, Column};
use crate::query::dynamic::{Dynamics, View};
use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;
use geojson::Geometry;
use sphere::EARTH_RADIUS_METERS;

pub(crate) use lookup::{LineLookup, PolygonLookup};

/// The functions of all families.
pub(super) fn functions() -> impl Iterator<Item = &'static Function> {
    [cells::FUNCTIONS, lines::FUNCTIONS, points::FUNCTIONS, polygons::FUNCTIONS]
        .into_iter()
        .flatten()
}

const METERS_DEFAULT: f64 = 10.0;

fn radians(meters: f64) -> f64 {
    meters / EARTH_RADIUS_METERS
}

fn meters(radians: f64) -> f64 {
    radians * EARTH_RADIUS_METERS
}

/// A shape read from each row, or once if it is the same for all.
#[derive(Debug)]
struct Shapes<T> {
    values: Dynamics,
    read: fn(View<'_>) -> Option<T>,
    /// The only shape, if it is valid, where there is one for all rows.
    single: Option<Option<T>>,
}

impl<T> Shapes<T> {
    fn new(args: &Args<'_>, at: usize, read: fn(View<'_>) -> Option<T>) -> Result<Self> {
        let values = args.dynamic(at)?;
        let is_single = matches!(args.values.get(at), Some(ColumnarValue::Scalar(_)));
        let single = is_single.then(|| read(values.get(0)));
        Ok(Self { values, read, single })
    }

    /// What `f` makes of a row's shape, if that is valid.
    fn with<R>(&self, row: usize, f: impl FnOnce(&T) -> Option<R>) -> Option<R> {
        match &self.single {
            Some(shape) => f(shape.as_ref()?),
            None => f(&(self.read)(self.values.get(row))?),
        }
    }
}

/// A dynamic column of shapes, null for `None`.
fn make_shapes(
    args: &Args<'_>,
    mut each: impl FnMut(usize) -> Option<Geometry>,
) -> Result<ArrayRef> {
    args.make_dynamic(|row, writer| match each(row) {
        Some(shape) => shape.write(writer),
        None => writer.null(),
    })
}

/// An optional real argument: its default where it is not given, and `None` where it is null.
#[derive(Debug)]
struct Optional {
    given: Option<Column<Float64Array>>,
    default: f64,
}

impl Optional {
    fn new(args: &Args<'_>, at: usize, default: f64) -> Result<Self> {
        let given = if at < args.len() { Some(args.real(at)?) } else { None };
        Ok(Self { given, default })
    }

    fn get(&self, row: usize) -> Option<f64> {
        match &self.given {
            Some(given) => given.get(row),
            None => Some(self.default),
        }
    }
}

/// An optional integer argument, likewise.
#[derive(Debug)]
struct OptionalLong {
    given: Option<Column<Int64Array>>,
    default: Option<i64>,
}

impl OptionalLong {
    fn new(args: &Args<'_>, at: usize, default: Option<i64>) -> Result<Self> {
        let given = if at < args.len() { Some(args.long(at)?) } else { None };
        Ok(Self { given, default })
    }

    /// `Some(None)` if it is neither given nor has a default.
    fn get(&self, row: usize) -> Option<Option<i64>> {
        match &self.given {
            Some(given) => given.get(row).map(Some),
            None => Some(self.default),
        }
    }
}

/// An optional bool argument, false where it is not given.
fn optional_bool(args: &Args<'_>, at: usize) -> Result<impl Fn(usize) -> Option<bool>> {
    let given = if at < args.len() { Some(args.bool(at)?) } else { None };
    Ok(move |row| match &given {
        Some(given) => given.get(row),
        None => Some(false),
    })
}
