//! Shapes as dynamic values in the form of GeoJSON, and as well-known text.
//!
//! See [RFC 7946] section 3.1.
//!
//! [RFC 7946]: https://www.rfc-editor.org/rfc/rfc7946

use super::meet::Common;
use super::shape::{self, Path, Polygon, Region};
use super::sphere::Point;
use crate::query::dynamic::{View, Writer};

/// Longitude and latitude in degrees.
pub(crate) type Place = [f64; 2];

/// The most levels of collections within collections.
const DEPTH_MAX: usize = 16;

/// A shape in degrees, unchecked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Geometry {
    Point(Place),
    MultiPoint(Vec<Place>),
    Line(Vec<Place>),
    MultiLine(Vec<Vec<Place>>),
    Polygon(Vec<Vec<Place>>),
    MultiPolygon(Vec<Vec<Vec<Place>>>),
    Collection(Vec<Self>),
}

/// The items of an array, if each is what `read` reads.
fn all<T>(view: View<'_>, read: impl Fn(View<'_>) -> Option<T>) -> Option<Vec<T>> {
    view.as_array()?.iter().map(|item| read(View::of(item))).collect()
}

fn place(view: View<'_>) -> Option<Place> {
    let numbers = all(view, |number| number.as_number())?;
    match numbers[..] {
        [longitude, latitude, ..] => Some([longitude, latitude]),
        _ => None,
    }
}

fn places(view: View<'_>) -> Option<Vec<Place>> {
    all(view, place)
}

impl Geometry {
    /// The shape of a line or polygon, or of several; `None` for anything else.
    pub(crate) fn read(view: View<'_>) -> Option<Self> {
        let members = view.as_bag()?;
        let View::Text(kind) = View::of(members.get("type")?) else { return None };
        let coordinates = View::of(members.get("coordinates")?);
        match kind {
            "LineString" => places(coordinates).map(Self::Line),
            "MultiLineString" => all(coordinates, places).map(Self::MultiLine),
            "Polygon" => all(coordinates, places).map(Self::Polygon),
            "MultiPolygon" => all(coordinates, |rings| all(rings, places)).map(Self::MultiPolygon),
            _ => None,
        }
    }

    /// The lines of a line or of several in degrees, unchecked.
    pub(crate) fn into_lines(self) -> Option<Vec<Vec<Place>>> {
        match self {
            Self::Line(line) => Some(vec![line]),
            Self::MultiLine(lines) => Some(lines),
            _ => None,
        }
    }

    /// The rings of a polygon or of several in degrees, unchecked.
    pub(crate) fn into_polygons(self) -> Option<Vec<Vec<Vec<Place>>>> {
        match self {
            Self::Polygon(rings) => Some(vec![rings]),
            Self::MultiPolygon(polygons) => Some(polygons),
            _ => None,
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Point(_) => "Point",
            Self::MultiPoint(_) => "MultiPoint",
            Self::Line(_) => "LineString",
            Self::MultiLine(_) => "MultiLineString",
            Self::Polygon(_) => "Polygon",
            Self::MultiPolygon(_) => "MultiPolygon",
            Self::Collection(_) => "GeometryCollection",
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.bag(|parts| {
            parts.member("type", |writer| writer.text(self.kind()));
            match self {
                Self::Point(at) => parts.member("coordinates", |w| write_place(w, at)),
                Self::MultiPoint(places) | Self::Line(places) => {
                    parts.member("coordinates", |w| write_all(w, places, write_place));
                }
                Self::MultiLine(lines) | Self::Polygon(lines) => {
                    parts.member("coordinates", |w| {
                        write_all(w, lines, |w, line| write_places(w, line))
                    });
                }
                Self::MultiPolygon(polygons) => parts.member("coordinates", |w| {
                    write_all(w, polygons, |w, rings| {
                        write_all(w, rings, |w, ring| write_places(w, ring))
                    });
                }),
                Self::Collection(shapes) => parts.member("geometries", |w| {
                    write_all(w, shapes, |w, shape| shape.write(w));
                }),
            }
        });
    }

    pub(crate) fn of_point(point: Point) -> Self {
        Self::Point(point.degrees())
    }

    /// One line, or several; `None` for none.
    pub(crate) fn of_paths(paths: &[Path]) -> Option<Self> {
        let mut lines: Vec<_> = paths.iter().map(|path| degrees(path)).collect();
        match lines.len() {
            0 => None,
            1 => lines.pop().map(Self::Line),
            _ => Some(Self::MultiLine(lines)),
        }
    }

    /// One polygon, or several; `None` for none.
    pub(crate) fn of_region(region: &[Polygon]) -> Option<Self> {
        let rings = |polygon: &Polygon| -> Vec<Vec<Place>> {
            let closed = |mut ring: Vec<Point>| {
                ring.extend(ring.first().copied());
                degrees(&ring)
            };
            polygon.oriented().into_iter().map(closed).collect()
        };
        let mut polygons: Vec<_> = region.iter().map(rings).collect();
        match polygons.len() {
            0 => None,
            1 => polygons.pop().map(Self::Polygon),
            _ => Some(Self::MultiPolygon(polygons)),
        }
    }

    /// All that shapes have in common: an empty collection for nothing.
    pub(crate) fn of_common(common: &Common) -> Self {
        let mut points = degrees(&common.points);
        let points = match points.len() {
            0 => None,
            1 => points.pop().map(Self::Point),
            _ => Some(Self::MultiPoint(points)),
        };
        let parts = [points, Self::of_paths(&common.paths), Self::of_region(&common.region)];
        let mut parts: Vec<Self> = parts.into_iter().flatten().collect();
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => Self::Collection(parts.into_iter().chain(last).collect()),
        }
    }
}

fn degrees(points: &[Point]) -> Vec<Place> {
    points.iter().map(|point| point.degrees()).collect()
}

fn write_place(writer: &mut Writer<'_>, place: &Place) {
    writer.array(|parts| place.iter().for_each(|value| parts.item(|writer| writer.real(*value))));
}

fn write_places(writer: &mut Writer<'_>, places: &[Place]) {
    write_all(writer, places, write_place);
}

fn write_all<T>(writer: &mut Writer<'_>, items: &[T], write: impl Fn(&mut Writer<'_>, &T)) {
    writer.array(|parts| items.iter().for_each(|item| parts.item(|writer| write(writer, item))));
}

/// The points of degrees that are all valid.
fn points(places: &[Place]) -> Option<Vec<Point>> {
    places.iter().map(|[longitude, latitude]| Point::of_degrees(*longitude, *latitude)).collect()
}

/// Lines in degrees as paths, if all are valid.
pub(crate) fn paths_of(lines: &[Vec<Place>]) -> Option<Vec<Path>> {
    let paths: Vec<Path> =
        lines.iter().map(|line| shape::path(points(line)?)).collect::<Option<_>>()?;
    (!paths.is_empty()).then_some(paths)
}

/// Polygons in degrees as a region, if all are valid.
pub(crate) fn region_of(polygons: &[Vec<Vec<Place>>]) -> Option<Region> {
    let polygon = |rings: &Vec<Vec<Place>>| {
        let rings = rings.iter().map(|ring| points(ring)).collect::<Option<Vec<_>>>()?;
        Polygon::of_closed(rings)
    };
    let region: Region = polygons.iter().map(polygon).collect::<Option<_>>()?;
    (!region.is_empty()).then_some(region)
}

/// The paths of a valid line, or of several.
pub(crate) fn paths(view: View<'_>) -> Option<Vec<Path>> {
    paths_of(&Geometry::read(view)?.into_lines()?)
}

/// The region of a valid polygon, or of several.
pub(crate) fn region(view: View<'_>) -> Option<Region> {
    region_of(&Geometry::read(view)?.into_polygons()?)
}

/// The shape that well-known text stands for.
pub(crate) fn of_text(text: &str) -> Option<Geometry> {
    let mut reader = Reader { rest: text };
    let shape = reader.shape(0)?;
    reader.rest.trim_start().is_empty().then_some(shape)
}

/// Reads well-known text from the front.
#[derive(Debug)]
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn word(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest.trim_start();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        word
    }

    fn eat(&mut self, symbol: char) -> bool {
        match self.rest.trim_start().strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A list in parentheses.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        if !self.eat('(') {
            return None;
        }
        let mut items = vec![item(self)?];
        while self.eat(',') {
            items.push(item(self)?);
        }
        self.eat(')').then_some(items)
    }

    fn number(&mut self) -> Option<f64> {
        let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
        self.word(is_part).parse().ok().filter(|value: &f64| value.is_finite())
    }

    fn place(&mut self) -> Option<Place> {
        Some([self.number()?, self.number()?])
    }

    /// A place of several, which can have parentheses of its own.
    fn member_place(&mut self) -> Option<Place> {
        if self.eat('(') {
            let place = self.place()?;
            return self.eat(')').then_some(place);
        }
        self.place()
    }

    fn places(&mut self) -> Option<Vec<Place>> {
        self.list(Self::place)
    }

    fn many_places(&mut self) -> Option<Vec<Vec<Place>>> {
        self.list(Self::places)
    }

    fn shape(&mut self, depth: usize) -> Option<Geometry> {
        if depth > DEPTH_MAX {
            return None;
        }
        let kind = self.word(|c| c.is_ascii_alphabetic()).to_ascii_uppercase();
        Some(match kind.as_str() {
            "POINT" => match self.places()?[..] {
                [at] => Geometry::Point(at),
                _ => return None,
            },
            "LINESTRING" => Geometry::Line(self.places()?),
            "POLYGON" => Geometry::Polygon(self.many_places()?),
            "MULTIPOINT" => Geometry::MultiPoint(self.list(Self::member_place)?),
            "MULTILINESTRING" => Geometry::MultiLine(self.many_places()?),
            "MULTIPOLYGON" => Geometry::MultiPolygon(self.list(Self::many_places)?),
            "GEOMETRYCOLLECTION" => {
                Geometry::Collection(self.list(|reader| reader.shape(depth + 1))?)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_text_is_read() {
        assert_eq!(of_text("POINT (1 2)"), Some(Geometry::Point([1.0, 2.0])));
        let line = vec![[1.0, 2.0], [-3.5, 4e0]];
        assert_eq!(of_text(" linestring(1 2,-3.5 4e0) "), Some(Geometry::Line(line.clone())));
        assert_eq!(of_text("MULTIPOINT ((1 2), -3.5 4)"), Some(Geometry::MultiPoint(line)));
        let ring = vec![[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 0.0]];
        let polygon = Geometry::Polygon(vec![ring.clone()]);
        assert_eq!(of_text("POLYGON ((0 0, 2 0, 2 2, 0 0))"), Some(polygon.clone()));
        let both = Geometry::Collection(vec![polygon, Geometry::Point([1.0, 1.0])]);
        let text = "GEOMETRYCOLLECTION (POLYGON ((0 0, 2 0, 2 2, 0 0)), POINT (1 1))";
        assert_eq!(of_text(text), Some(both));
        let several = Geometry::MultiPolygon(vec![vec![ring]]);
        assert_eq!(of_text("MULTIPOLYGON (((0 0, 2 0, 2 2, 0 0)))"), Some(several));
    }

    #[test]
    fn other_text_is_no_shape() {
        for text in ["", "LINESTRING", "POINT (1)", "POINT (1 2) x", "POINT (1 2", "CIRCLE (1 2)"] {
            assert_eq!(of_text(text), None, "{text}");
        }
        assert_eq!(of_text(&"GEOMETRYCOLLECTION (".repeat(10_000)), None);
    }
}
