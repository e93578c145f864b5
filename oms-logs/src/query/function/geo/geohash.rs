//! Geohash: the halves of longitude and latitude in turn, five bits to a letter.

const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// The most letters.
pub(crate) const LETTERS_MAX: usize = 18;

/// A cell: the index of its column and row, each of as many bits as stated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Geohash {
    letters: usize,
    column: u64,
    row: u64,
}

impl Geohash {
    const fn bits(letters: usize) -> (u32, u32) {
        let bits = letters as u32 * 5;
        (bits.div_ceil(2), bits / 2)
    }

    /// The cell of a place in degrees.
    pub(crate) fn at(longitude: f64, latitude: f64, letters: usize) -> Option<Self> {
        let valid = longitude.abs() <= 180.0 && latitude.abs() <= 90.0;
        if !valid || !(1..=LETTERS_MAX).contains(&letters) {
            return None;
        }
        let (columns, rows) = Self::bits(letters);
        let index = |fraction: f64, bits: u32| {
            let count = (1_u64 << bits) as f64;
            ((fraction * count).floor() as u64).min((1 << bits) - 1)
        };
        let column = index((longitude + 180.0) / 360.0, columns);
        Some(Self { letters, column, row: index((latitude + 90.0) / 180.0, rows) })
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let letters = text.len();
        if !(1..=LETTERS_MAX).contains(&letters) {
            return None;
        }
        let (mut column, mut row) = (0, 0);
        let mut is_column = true;
        for letter in text.bytes() {
            let letter = letter.to_ascii_lowercase();
            let value = LETTERS.iter().position(|known| *known == letter)?;
            for bit in (0..5).rev() {
                let into = if is_column { &mut column } else { &mut row };
                *into = (*into << 1) | ((value as u64 >> bit) & 1);
                is_column = !is_column;
            }
        }
        Some(Self { letters, column, row })
    }

    pub(crate) fn text(self) -> String {
        let (mut columns, mut rows) = Self::bits(self.letters);
        let mut text = String::with_capacity(self.letters);
        let mut is_column = true;
        for _ in 0..self.letters {
            let mut value = 0;
            for _ in 0..5 {
                let bit = if is_column {
                    columns -= 1;
                    self.column >> columns
                } else {
                    rows -= 1;
                    self.row >> rows
                };
                value = (value << 1) | (bit & 1) as usize;
                is_column = !is_column;
            }
            text.push(char::from(LETTERS[value]));
        }
        text
    }

    /// The least and the greatest longitude and latitude in degrees.
    pub(crate) fn bounds(self) -> ([f64; 2], [f64; 2]) {
        let (columns, rows) = Self::bits(self.letters);
        let at = |index: u64, bits: u32, width: f64| {
            index as f64 * (width / (1_u64 << bits) as f64) - width / 2.0
        };
        (
            [at(self.column, columns, 360.0), at(self.column + 1, columns, 360.0)],
            [at(self.row, rows, 180.0), at(self.row + 1, rows, 180.0)],
        )
    }

    pub(crate) fn center(self) -> [f64; 2] {
        let (x, y) = self.bounds();
        [(x[0] + x[1]) / 2.0, (y[0] + y[1]) / 2.0]
    }

    /// The ring of its corners in degrees, from the lower left one, turning left.
    pub(crate) fn ring(self) -> Vec<[f64; 2]> {
        let (x, y) = self.bounds();
        vec![[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]], [x[0], y[0]]]
    }

    /// The cells around: west, southwest, south, southeast, northeast, east, north, northwest. Past
    /// a pole there are none.
    pub(crate) fn neighbors(self) -> Vec<Self> {
        const STEPS: [(i64, i64); 8] =
            [(-1, 0), (-1, -1), (0, -1), (1, -1), (1, 1), (1, 0), (0, 1), (-1, 1)];
        let (columns, rows) = Self::bits(self.letters);
        let mut found: Vec<Self> = Vec::with_capacity(8);
        for (right, up) in STEPS {
            let row = self.row.checked_add_signed(up).filter(|row| *row < 1 << rows);
            let column = self.column.wrapping_add_signed(right) & ((1 << columns) - 1);
            let neighbor = row.map(|row| Self { column, row, ..self });
            found.extend(neighbor.filter(|cell| *cell != self && !found.contains(cell)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_letters_of_its_cell() {
        let at = |x, y, letters| Geohash::at(x, y, letters).map(Geohash::text);
        assert_eq!(at(-80.195829, 25.802215, 8).as_deref(), Some("dhwfz15h"));
        assert_eq!(at(139.806115, 35.554128, 12).as_deref(), Some("xn76m27ty9g4"));
        assert_eq!(at(180.0, 90.0, 3).as_deref(), Some("zzz"));
        assert_eq!(at(-180.0, -90.0, 18).as_deref(), Some("000000000000000000"));
        assert_eq!(at(200.0, 1.0, 8), None);
        assert_eq!(at(1.0, 1.0, 0), None);
        assert_eq!(at(1.0, 1.0, 19), None);
    }

    #[test]
    fn letters_are_read_back() {
        let cell = Geohash::parse("sunny").unwrap();
        assert_eq!(cell.text(), "sunny");
        assert_eq!(cell.center(), [42.473_144_531_25, 23.708_496_093_75]);
        for text in ["", "a", "1234567890123456789", "ü"] {
            assert_eq!(Geohash::parse(text), None, "{text}");
        }
    }

    #[test]
    fn neighbors_go_around_the_earth_but_not_over_the_poles() {
        let texts = |text| -> Vec<String> {
            Geohash::parse(text).unwrap().neighbors().into_iter().map(Geohash::text).collect()
        };
        assert_eq!(texts("e"), ["d", "6", "7", "k", "u", "s", "g", "f"]);
        assert_eq!(texts("u"), ["g", "e", "s", "t", "v"]);
        assert!(texts("8").contains(&"x".to_owned()));
    }
}
