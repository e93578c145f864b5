//! Cells of the S2 grid: six faces of a cube, each in squares of 30 levels along a Hilbert curve.

use super::sphere::Point;

/// The level of the smallest cells.
pub(crate) const LEVEL_MAX: u8 = 30;

/// How many of the smallest cells there are along a side of a face.
const SIZE_MAX: i64 = 1 << LEVEL_MAX;

/// A cell: three bits of the face, two for each level, a one, and zeros.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Cell(u64);

/// The part of a face that a cell covers, in the coordinates of its plane from -1 to 1.
#[derive(Clone, Copy, Debug)]
struct Square {
    face: u8,
    u: [f64; 2],
    v: [f64; 2],
}

/// The curve's order of the four parts of a square, by its orientation: bit 0 swaps the axes, and
/// bit 1 turns them. Each part is 2 i + j.
const PARTS: [[u8; 4]; 4] = [[0, 1, 3, 2], [0, 2, 3, 1], [3, 2, 0, 1], [3, 1, 0, 2]];

/// How the orientation changes within each part.
const TURNS: [u8; 4] = [1, 0, 0, 3];

/// The coordinate in the plane of the one on the face, which makes cells alike in size.
fn uv_of_st(s: f64) -> f64 {
    if s >= 0.5 { (4.0 * s * s - 1.0) / 3.0 } else { (1.0 - 4.0 * (1.0 - s) * (1.0 - s)) / 3.0 }
}

fn st_of_uv(u: f64) -> f64 {
    if u >= 0.0 { 0.5 * (1.0 + 3.0 * u).sqrt() } else { 1.0 - 0.5 * (1.0 - 3.0 * u).sqrt() }
}

fn index_of_st(s: f64) -> i64 {
    ((s * SIZE_MAX as f64).floor() as i64).clamp(0, SIZE_MAX - 1)
}

/// The place of a point of the cube's face.
fn of_face(face: u8, u: f64, v: f64) -> Point {
    let (x, y, z) = match face {
        0 => (1.0, u, v),
        1 => (-u, 1.0, v),
        2 => (-u, -v, 1.0),
        3 => (-1.0, -v, -u),
        4 => (v, -1.0, -u),
        _ => (v, u, -1.0),
    };
    Point { x, y, z }
}

/// The point on one face's plane, for a place on that side of the sphere.
fn on_face(face: u8, p: Point) -> Option<(f64, f64)> {
    let (w, u, v) = match face {
        0 => (p.x, p.y, p.z),
        1 => (p.y, -p.x, p.z),
        2 => (p.z, -p.x, -p.y),
        3 => (-p.x, -p.z, -p.y),
        4 => (-p.y, -p.z, p.x),
        _ => (-p.z, p.y, p.x),
    };
    (w > 0.0).then(|| (u / w, v / w))
}

fn face_of(p: Point) -> u8 {
    let (x, y, z) = (p.x.abs(), p.y.abs(), p.z.abs());
    let (axis, value) = if x > y {
        if x > z { (0, p.x) } else { (2, p.z) }
    } else if y > z {
        (1, p.y)
    } else {
        (2, p.z)
    };
    if value < 0.0 { axis + 3 } else { axis }
}

impl Cell {
    /// The cell of a level that holds the place.
    pub(crate) fn at(point: Point, level: u8) -> Self {
        let face = face_of(point);
        let (u, v) = on_face(face, point).unwrap_or_default();
        let (i, j) = (index_of_st(st_of_uv(u)), index_of_st(st_of_uv(v)));
        Self::of_indexes(face, i, j, level)
    }

    /// The cell of a face.
    pub(crate) const fn face_cell(face: u8) -> Self {
        Self(((face as u64) << 61) | (1 << 60))
    }

    fn of_indexes(face: u8, i: i64, j: i64, level: u8) -> Self {
        let mut id = u64::from(face);
        let mut orientation = face & 1;
        for bit in (LEVEL_MAX - level..LEVEL_MAX).rev() {
            let part = (((i >> bit) & 1) << 1 | ((j >> bit) & 1)) as u8;
            let order = &PARTS[usize::from(orientation)];
            let place = order.iter().position(|other| *other == part).unwrap_or_default();
            id = (id << 2) | place as u64;
            orientation ^= TURNS[place];
        }
        Self(((id << 1) | 1) << (2 * (LEVEL_MAX - level)))
    }

    /// The cell of a token: up to 16 hexadecimal digits, without the zeros at the end.
    pub(crate) fn of_token(token: &str) -> Option<Self> {
        if token.is_empty() || token.len() > 16 || !token.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let id = u64::from_str_radix(&format!("{token:0<16}"), 16).ok()?;
        let lowest = id & id.wrapping_neg();
        let valid = (id >> 61) < 6 && lowest & 0x1555_5555_5555_5555 != 0;
        valid.then_some(Self(id))
    }

    pub(crate) fn token(self) -> String {
        format!("{:016x}", self.0).trim_end_matches('0').to_owned()
    }

    pub(crate) const fn level(self) -> u8 {
        LEVEL_MAX - (self.0.trailing_zeros() / 2) as u8
    }

    /// The face, and where on it the cell begins.
    fn indexes(self) -> (u8, i64, i64) {
        let face = (self.0 >> 61) as u8;
        let mut orientation = face & 1;
        let (mut i, mut j) = (0, 0);
        for level in 0..self.level() {
            let place = ((self.0 >> (59 - 2 * level)) & 3) as usize;
            let part = i64::from(PARTS[usize::from(orientation)][place]);
            let bit = LEVEL_MAX - 1 - level;
            i |= (part >> 1) << bit;
            j |= (part & 1) << bit;
            orientation ^= TURNS[place];
        }
        (face, i, j)
    }

    fn square(self) -> Square {
        let (face, i, j) = self.indexes();
        let side = 1_i64 << (LEVEL_MAX - self.level());
        let at = |index: i64| uv_of_st(index as f64 / SIZE_MAX as f64);
        Square { face, u: [at(i), at(i + side)], v: [at(j), at(j + side)] }
    }

    /// The corners, turning left.
    pub(crate) fn corners(self) -> [Point; 4] {
        let Square { face, u, v } = self.square();
        [(u[0], v[0]), (u[1], v[0]), (u[1], v[1]), (u[0], v[1])]
            .map(|(u, v)| of_face(face, u, v).normalized())
    }

    pub(crate) fn center(self) -> Point {
        let (face, i, j) = self.indexes();
        let side = 1_i64 << (LEVEL_MAX - self.level());
        let at = |index: i64| uv_of_st((2 * index + side) as f64 / (2 * SIZE_MAX) as f64);
        of_face(face, at(i), at(j)).normalized()
    }

    /// Whether the place is in the cell or on its border.
    pub(crate) fn contains(self, point: Point) -> bool {
        const BORDER: f64 = 3e-15;
        let Square { face, u, v } = self.square();
        on_face(face, point).is_some_and(|(x, y)| {
            (u[0] - BORDER..=u[1] + BORDER).contains(&x)
                && (v[0] - BORDER..=v[1] + BORDER).contains(&y)
        })
    }

    /// The four cells within, or none in the smallest.
    pub(crate) fn children(self) -> impl Iterator<Item = Self> {
        let lowest = self.0 & self.0.wrapping_neg();
        let count = if lowest > 1 { 4 } else { 0 };
        (0..count).map(move |at: u64| Self(self.0 - lowest + (2 * at + 1) * (lowest / 4)))
    }

    /// A circle around all places of the cell: its middle, and the greatest distance in radians.
    pub(crate) fn circle(self) -> (Point, f64) {
        let center = self.center();
        let radius = self.corners().iter().map(|corner| center.angle(*corner)).fold(0.0, f64::max);
        (center, radius + 1e-14)
    }

    /// The cells of the same level that share a side or a corner: eight, or seven at a corner of
    /// the cube.
    pub(crate) fn neighbors(self) -> Vec<Self> {
        let (face, i, j) = self.indexes();
        let level = self.level();
        let side = 1_i64 << (LEVEL_MAX - level);
        let mut found = Vec::with_capacity(8);
        let mut put = |i: i64, j: i64| {
            let cell = Self::of_indexes_beyond(face, i, j, level);
            if cell != self && !found.contains(&cell) {
                found.push(cell);
            }
        };
        // The engine's order.
        for (right, up) in [(1, 1), (1, 0), (-1, 1), (0, -1), (-1, 0), (1, -1), (0, 1), (-1, -1)] {
            put(i + right * side, j + up * side);
        }
        found
    }

    /// Like [`Self::of_indexes`], also for what lies past the face's border.
    fn of_indexes_beyond(face: u8, i: i64, j: i64, level: u8) -> Self {
        let inside = |index: i64| (0..SIZE_MAX).contains(&index);
        if inside(i) && inside(j) {
            return Self::of_indexes(face, i, j, level);
        }
        // Just past the border, so that the nearest cell of the next face is met.
        let limit = 1.0 + f64::EPSILON;
        let at = |index: i64| {
            let index = index.clamp(-1, SIZE_MAX);
            ((2 * (index - SIZE_MAX / 2) + 1) as f64 / SIZE_MAX as f64).clamp(-limit, limit)
        };
        let point = of_face(face, at(i), at(j));
        let face = face_of(point);
        let (u, v) = on_face(face, point).unwrap_or_default();
        let index = |u: f64| index_of_st(0.5 * (u + 1.0));
        Self::of_indexes(face, index(u), index(v), level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(longitude: f64, latitude: f64, level: u8) -> Cell {
        Cell::at(Point::of_degrees(longitude, latitude).unwrap(), level)
    }

    #[test]
    fn tokens_are_those_of_the_grid() {
        assert_eq!(at(10.1234, 53.0, 8).token(), "47b1d");
        assert_eq!(at(10.6842, 53.0, 8).token(), "47ae3");
        assert_eq!(at(-80.195829, 25.802215, 8).token(), "88d9b");
        for token in ["", "a", "g", "00000000000000000", "ffffffffffffffff"] {
            assert_eq!(Cell::of_token(token), None, "{token}");
        }
    }

    #[test]
    fn a_cell_is_found_again_by_its_center_and_its_token() {
        for face in 0..6 {
            let mut cell = Cell::face_cell(face);
            for level in 0..=LEVEL_MAX {
                assert_eq!(cell.level(), level);
                assert_eq!(Cell::at(cell.center(), level), cell);
                assert_eq!(Cell::of_token(&cell.token()), Some(cell));
                assert!(cell.corners().iter().all(|corner| cell.contains(*corner)));
                cell = cell.children().nth(usize::from(level) % 4).unwrap_or(cell);
            }
            assert_eq!(cell.children().count(), 0);
        }
    }

    #[test]
    fn a_cell_has_eight_neighbors_and_seven_in_a_corner_of_the_cube() {
        let cell = at(10.0, 20.0, 12);
        let neighbors = cell.neighbors();
        assert_eq!(neighbors.len(), 8);
        assert!(neighbors.iter().all(|neighbor| neighbor.neighbors().contains(&cell)));
        let corner = Cell::at(Point { x: 1.0, y: 0.999_999, z: 0.999_999 }, 10);
        assert_eq!(corner.neighbors().len(), 7);
    }
}
