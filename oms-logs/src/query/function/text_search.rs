//! Looking for one constant in a column of text.
//!
//! ```text
//!  offsets   0        9           21        30
//!  values    disk full segfault at  no fault          one run over all values: the next place of the
//!                      ▲                              operand's rarest byte, in either case; then
//!                                                     the whole operand there, then the row it is in
//! ```
//!
//! A row costs nothing where that byte is not. What letter case does beyond ASCII is not looked at
//! here: a row with other characters is lowered and tested by itself, by the caller's test.

use super::string::overlapping;
use datafusion::arrow::array::{Array, BooleanArray, BooleanBufferBuilder, StringArray};
use memchr::memchr2_iter;

/// Where an operand has to stand: no term continues over the ends that are looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// Looks at what is before it.
    pub(super) start: bool,
    /// Looks at what is behind it.
    pub(super) end: bool,
}

impl Place {
    /// `contains`
    pub(super) const ANYWHERE: Self = Self { start: false, end: false };
    /// `has`
    pub(super) const TERM: Self = Self { start: true, end: true };
    /// `hasprefix`
    pub(super) const PREFIX: Self = Self { start: true, end: false };
    /// `hassuffix`
    pub(super) const SUFFIX: Self = Self { start: false, end: true };

    /// Whether the operand stands in the text so; an empty one stands everywhere.
    pub(super) fn has(self, text: &str, operand: &str) -> bool {
        operand.is_empty() || overlapping(text, operand).any(|at| self.is_met(text, at, operand))
    }

    /// Whether an operand that stands at a place in the text stands there so.
    fn is_met(self, text: &str, at: usize, operand: &str) -> bool {
        let in_term = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let before = || text.get(..at).and_then(|text| text.chars().next_back());
        let after = || text.get(at + operand.len()..).and_then(|text| text.chars().next());
        let goes_on_before = self.start && in_term(operand.chars().next()) && in_term(before());
        let goes_on_after = self.end && in_term(operand.chars().next_back()) && in_term(after());
        !(goes_on_before || goes_on_after)
    }
}

/// The longest operand that is compared at each place of its rarest byte, in bytes: the steps that a
/// text takes are at most so many times its length.
const NEEDLE_BYTES_MAX: usize = 64;

/// What is looked for: text that is neither empty nor long, and ASCII if letter case does not count.
#[derive(Debug)]
pub(super) struct Needle<'a> {
    operand: &'a str,
    any_case: bool,
    place: Place,
    /// The place of its rarest byte.
    rare_at: usize,
    rare: u8,
}

impl<'a> Needle<'a> {
    /// None for another operand than such a one.
    pub(super) fn new(operand: &'a str, any_case: bool, place: Place) -> Option<Self> {
        if operand.len() > NEEDLE_BYTES_MAX || any_case && !operand.is_ascii() {
            return None;
        }
        let bytes = operand.bytes().enumerate();
        let (rare_at, rare) = bytes.min_by_key(|(_, byte)| commonness(*byte, any_case))?;
        Some(Self { operand, any_case, place, rare_at, rare })
    }

    /// Which rows it stands in; null text is empty. `test` answers for a row with characters beyond
    /// ASCII, if letter case does not count.
    pub(super) fn find(&self, texts: &StringArray, test: impl Fn(&str) -> bool) -> BooleanArray {
        let rows = texts.len();
        let mut found = BooleanBufferBuilder::new(rows);
        found.append_n(rows, false);
        let offsets = texts.value_offsets();
        let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
            return BooleanArray::new(found.finish(), None);
        };
        let (first, last) = (first as usize, last as usize);
        let values = texts.value_data().get(first..last).unwrap_or_default();
        let end_of = |row: usize| offsets.get(row + 1).map_or(0, |end| *end as usize - first);
        let begin_of = |row: usize| offsets.get(row).map_or(0, |begin| *begin as usize - first);
        let (mut row, mut done) = (0, 0);
        let mut look_at = |at: usize| {
            if at < done {
                return; // The row is found already.
            }
            // Rows lie close together where the byte is common, and far apart where it is rare.
            if at >= end_of(row) {
                row += 1;
                if at >= end_of(row) {
                    row = offsets.partition_point(|begin| (*begin as usize) - first <= at) - 1;
                }
            }
            let Some(begin) = at.checked_sub(self.rare_at) else { return };
            if begin >= begin_of(row) && self.stands_at(texts.value(row), begin - begin_of(row)) {
                found.set_bit(row, true);
                done = end_of(row);
            }
        };
        self.rare_places(values).for_each(&mut look_at);
        if self.any_case && !values.is_ascii() {
            for (row, text) in texts.iter().enumerate() {
                if let Some(text) = text.filter(|text| !text.is_ascii()) {
                    found.set_bit(row, test(text));
                }
            }
        }
        if let Some(nulls) = texts.nulls().filter(|nulls| nulls.null_count() > 0) {
            // What stands in the values for a null is no text.
            (0..rows).filter(|row| nulls.is_null(*row)).for_each(|row| found.set_bit(row, false));
        }
        BooleanArray::new(found.finish(), None)
    }

    /// Whether it stands in a text; `test` as in [`Self::find`].
    pub(super) fn is_in(&self, text: &str, test: impl Fn(&str) -> bool) -> bool {
        if self.any_case && !text.is_ascii() {
            return test(text);
        }
        let mut places = self.rare_places(text.as_bytes());
        places.any(|at| at.checked_sub(self.rare_at).is_some_and(|at| self.stands_at(text, at)))
    }

    /// Where its rarest byte stands.
    fn rare_places<'t>(&self, text: &'t [u8]) -> impl Iterator<Item = usize> + 't {
        let folds = self.any_case && self.rare.is_ascii_alphabetic();
        let other = if folds { self.rare ^ b' ' } else { self.rare };
        memchr2_iter(self.rare, other, text)
    }

    fn stands_at(&self, text: &str, at: usize) -> bool {
        let operand = self.operand.as_bytes();
        let Some(there) = text.as_bytes().get(at..at + operand.len()) else { return false };
        let is_equal =
            if self.any_case { there.eq_ignore_ascii_case(operand) } else { there == operand };
        is_equal && self.place.is_met(text, at, self.operand)
    }
}

/// How common a byte is in the text of logs, roughly.
fn commonness(byte: u8, any_case: bool) -> u8 {
    let letter = |byte: u8| {
        let order = b"qjzxvwkygbpfhmucdlnrsoiate";
        order.iter().position(|letter| *letter == byte).map_or(0, |at| at as u8)
    };
    match byte {
        b' ' => 255,
        b'e' | b't' | b'a' | b'i' | b'o' => 200 + letter(byte),
        b'a'..=b'z' => 60 + 4 * letter(byte),
        b'A'..=b'Z' if any_case => 60 + 4 * letter(byte.to_ascii_lowercase()),
        b'A'..=b'Z' => 40 + letter(byte.to_ascii_lowercase()),
        b'0'..=b'2' => 150,
        b'3'..=b'9' => 130,
        b'.' | b'-' | b'/' | b':' | b'=' | b',' | b'"' | b'_' => 140,
        0x80.. => 70,
        _ => 30,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lowered(text: &str) -> String {
        text.to_lowercase()
    }

    const PLACES: [Place; 4] = [Place::ANYWHERE, Place::TERM, Place::PREFIX, Place::SUFFIX];

    proptest! {
        #[test]
        fn rows_are_those_that_are_found_one_by_one(
            texts in prop::collection::vec(prop::option::of("[abAB .éKı1]{0,12}"), 0..20),
            operand in "[abAB .1é]{1,3}",
            any_case: bool,
            place in prop::sample::select(PLACES.to_vec()),
            from in 0_usize..3,
        ) {
            let operand = if any_case { lowered(&operand) } else { operand };
            let test = |text: &str| {
                let text = if any_case { lowered(text) } else { text.to_owned() };
                place.has(&text, &operand)
            };
            let array = StringArray::from(texts.clone());
            let from = from.min(texts.len());
            let array = array.slice(from, texts.len() - from);
            let Some(needle) = Needle::new(&operand, any_case, place) else {
                prop_assert!(any_case && !operand.is_ascii());
                return Ok(());
            };
            let expected: Vec<bool> =
                texts[from..].iter().map(|text| text.as_deref().is_some_and(test)).collect();
            let found = needle.find(&array, test);
            prop_assert_eq!(found.values().iter().collect::<Vec<_>>(), expected.clone());
            let one_by_one: Vec<bool> = texts[from..]
                .iter()
                .map(|text| needle.is_in(text.as_deref().unwrap_or_default(), test))
                .collect();
            prop_assert_eq!(one_by_one, expected);
        }
    }

    #[test]
    fn a_long_operand_is_left_to_a_search_that_is_linear() {
        let long = "b".repeat(NEEDLE_BYTES_MAX + 1);
        assert!(Needle::new(&long, true, Place::ANYWHERE).is_none());
        // Each place has the operand, and none is at the end of a term.
        let text = "b".repeat(1 << 20);
        let needle = Needle::new("bb", true, Place::TERM).expect("a needle");
        assert!(!needle.is_in(&text, |_| true));
        let array = StringArray::from(vec![text]);
        assert_eq!(needle.find(&array, |_| true), BooleanArray::from(vec![false]));
    }

    #[test]
    fn the_text_of_a_null_is_not_looked_at() {
        let nulls = Some(vec![true, false].into());
        let offsets = arrow::buffer::OffsetBuffer::new(vec![0, 1, 2].into());
        let array = StringArray::new(offsets, b"aa".to_vec().into(), nulls);
        let needle = Needle::new("a", true, Place::ANYWHERE).expect("a needle");
        assert_eq!(needle.find(&array, |_| true), BooleanArray::from(vec![true, false]));
    }
}
