//! JSON rows like the ones before them, straight into columns.
//!
//! Rows of one program have the same keys in the same order: the key that follows one is guessed to be
//! the key that followed it last, and its bytes are compared. Whatever is not as expected (an unknown
//! key, a rare escape, a value of another type) leaves the row to the reader of records,
//! which alone decides what a row means and why it is refused.

use super::gathered::Gathered;
use super::nested;
use crate::ingest::admit::{EXACT, FIELD_BYTES_MAX, OWN_COLUMNS};
use crate::ingest::column::ColumnBuffer;
use crate::json_scan::{self as scan, Number};
use crate::query::time::{Date, micros_of_ticks, ticks_of_date};
use crate::schema::{COMPUTER, ColumnType, TIME_GENERATED, TYPE};
use std::collections::HashMap;

// A field of a row is shorter than the row, so that none is refused for its length.
const _: () = assert!(super::ROW_BYTES_MAX <= FIELD_BYTES_MAX);

const MICROS_PER_SECOND: i64 = 1_000_000;

/// What was seen of the keys, and of the last time.
#[derive(Debug, Default)]
pub(super) struct Regular {
    keys: Vec<Key>,
    by_name: HashMap<Box<str>, usize>,
    /// The key that the last row began with.
    first: usize,
    day: Day,
}

#[derive(Debug)]
struct Key {
    /// `"Name":`
    lead: Box<[u8]>,
    slot: Slot,
    /// The key that followed it last.
    next: usize,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    /// A place in the schema.
    Column(usize),
    /// The column that holds the table's name.
    Type,
}

/// The day of the last time, for most rows are of the same one.
#[derive(Debug)]
struct Day {
    text: [u8; 10],
    /// Its begin in microseconds since 1970.
    micros: i64,
}

impl Default for Day {
    fn default() -> Self {
        Self { text: *b"1970-01-01", micros: 0 }
    }
}

impl Regular {
    /// Reads the row that `text` begins with and leaves it begun in the columns; answers how many
    /// bytes its line has, with its break. None if it is not a regular row.
    pub(super) fn row(&mut self, text: &str, into: &mut Gathered) -> Option<usize> {
        let bytes = text.as_bytes();
        let mut at = scan::blanks(bytes, 0);
        if bytes.get(at) != Some(&b'{') {
            return None;
        }
        let mut before = None;
        loop {
            at = scan::blanks(bytes, at + 1);
            let (key, slot, end) = self.key(text, at, before, into)?;
            before = Some(key);
            at = scan::blanks(bytes, end);
            at = match slot {
                Slot::Column(place) => self.value(text, at, place, into)?,
                Slot::Type => type_name(bytes, at, into)?,
            };
            at = scan::blanks(bytes, at);
            match bytes.get(at)? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        at = scan::blanks(bytes, at + 1);
        (bytes.get(at) == Some(&b'\n')).then_some(at + 1)
    }

    /// The key at `at`, what it is for, and the place after its colon.
    fn key(
        &mut self,
        text: &str,
        at: usize,
        before: Option<usize>,
        into: &Gathered,
    ) -> Option<(usize, Slot, usize)> {
        let guess = match before {
            Some(before) => self.keys.get(before)?.next,
            None => self.first,
        };
        let rest = text.as_bytes().get(at..)?;
        if let Some(key) = self.keys.get(guess)
            && rest.starts_with(&key.lead)
        {
            return Some((guess, key.slot, at + key.lead.len()));
        }
        let found = self.find(text, at, into)?;
        match before {
            Some(before) => self.keys.get_mut(before)?.next = found,
            None => self.first = found,
        }
        let key = self.keys.get(found)?;
        Some((found, key.slot, at + key.lead.len()))
    }

    /// The key at `at`, which another one was guessed for.
    fn find(&mut self, text: &str, at: usize, into: &Gathered) -> Option<usize> {
        let bytes = text.as_bytes();
        if bytes.get(at) != Some(&b'"') {
            return None;
        }
        let end = scan::plain_end(bytes, at + 1);
        let lead = bytes.get(at..end + 2).filter(|lead| lead.ends_with(b"\":"))?;
        let name = text.get(at + 1..end)?;
        if let Some(known) = self.by_name.get(name) {
            return Some(*known);
        }
        let slot = match name {
            TYPE => Slot::Type,
            TIME_GENERATED | COMPUTER => Slot::Column(into.target().schema.place(name)?),
            own if OWN_COLUMNS.contains(&own) => return None,
            name => Slot::Column(into.target().schema.place(name)?),
        };
        let key = self.keys.len();
        self.keys.push(Key { lead: lead.into(), slot, next: key });
        self.by_name.insert(name.into(), key);
        Some(key)
    }

    /// Reads the value at `at` into a column; answers the place after it.
    fn value(&mut self, text: &str, at: usize, place: usize, into: &mut Gathered) -> Option<usize> {
        let (rows, has_default) = (into.rows(), into.has_default(place));
        let buffer = into.buffer(place)?;
        // The key stands twice in the row.
        if buffer.len() != rows {
            return None;
        }
        let bytes = text.as_bytes();
        match (bytes.get(at)?, buffer.column_type()) {
            (b'"', ColumnType::String) => {
                let end = scan::string(text, at + 1, buffer.text()?)?;
                buffer.end_text();
                Some(end)
            }
            (b'"', ColumnType::DateTime) => {
                let (micros, end) = self.day.time(text, at + 1)?;
                buffer.push_long(micros);
                Some(end)
            }
            (b'"', ColumnType::Dynamic) => plain_dynamic(text, at, buffer),
            (b'{' | b'[', ColumnType::Dynamic) => {
                let end = nested::canonical(text, at, buffer.text()?)?;
                buffer.end_text();
                Some(end)
            }
            (b'"', ColumnType::Guid) => guid(text, at, buffer),
            (b't' | b'f', ColumnType::Bool) => {
                let flag = bytes.get(at) == Some(&b't');
                let end = literal(bytes, at, if flag { b"true" } else { b"false" })?;
                buffer.push_bool(flag);
                Some(end)
            }
            (b'n', _) if !has_default => {
                let end = literal(bytes, at, b"null")?;
                buffer.push_null();
                Some(end)
            }
            (b'-' | b'0'..=b'9', kind) => {
                let (number, end) = scan::number(text, at)?;
                match (kind, number) {
                    (ColumnType::Int, Number::Whole(whole)) => {
                        buffer.push_int(i32::try_from(whole).ok()?);
                    }
                    (ColumnType::Long, Number::Whole(whole)) => buffer.push_long(whole),
                    (ColumnType::Real, Number::Real(real)) => buffer.push_real(real),
                    (ColumnType::Real, Number::Whole(whole))
                        if (-EXACT..=EXACT).contains(&whole) =>
                    {
                        buffer.push_real(whole as f64);
                    }
                    _ => return None,
                }
                Some(end)
            }
            _ => None,
        }
    }
}

impl Day {
    /// The time `yyyy-MM-ddTHH:mm:ss[.fraction][Z]` whose text begins at `at`, in microseconds since
    /// 1970, and the place after its closing quote.
    fn time(&mut self, text: &str, at: usize) -> Option<(i64, usize)> {
        let bytes = text.as_bytes();
        let head = bytes.get(at..)?.first_chunk::<19>()?;
        let (day, clock) = head.split_first_chunk::<10>()?;
        if *day != self.text {
            self.micros = begin_of_day(day)?;
            self.text = *day;
        }
        let [b'T' | b' ', h0, h1, b':', m0, m1, b':', s0, s1] = *clock else { return None };
        let (hour, minute, second) = (two(h0, h1)?, two(m0, m1)?, two(s0, s1)?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut end = at + head.len();
        let mut fraction = 0;
        if bytes.get(end) == Some(&b'.') {
            let begin = end + 1;
            end = begin;
            while let Some(digit @ b'0'..=b'9') = bytes.get(end) {
                // Finer digits than microseconds are cut off.
                if end - begin < 6 {
                    fraction = fraction * 10 + i64::from(digit - b'0');
                }
                end += 1;
            }
            if end == begin {
                return None;
            }
            for _ in end - begin..6 {
                fraction *= 10;
            }
        }
        end += usize::from(bytes.get(end) == Some(&b'Z'));
        if bytes.get(end) != Some(&b'"') {
            return None;
        }
        let seconds = (hour * 60 + minute) * 60 + second;
        Some((self.micros + seconds * MICROS_PER_SECOND + fraction, end + 1))
    }
}

/// The begin of the day `yyyy-MM-dd`. None past the year 9998, for the last hours of 9999 are beyond
/// what a time holds.
fn begin_of_day(text: &[u8; 10]) -> Option<i64> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *text else { return None };
    let year = two(y0, y1)? * 100 + two(y2, y3)?;
    let date = Date { year, month: two(m0, m1)?, day: two(d0, d1)? };
    let ticks = ticks_of_date(date).filter(|_| year < 9999)?;
    Some(micros_of_ticks(ticks).0)
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes.get(at..)?.starts_with(word).then_some(at + word.len())
}

/// The table's own name, which says nothing new.
fn type_name(bytes: &[u8], at: usize, into: &Gathered) -> Option<usize> {
    let name = into.target().schema.name().as_str();
    let rest = bytes.get(at..)?.strip_prefix(b"\"")?.strip_prefix(name.as_bytes())?;
    rest.starts_with(b"\"").then_some(at + name.len() + 2)
}

/// A string without escapes, which a dynamic column keeps as it stands, quotes included.
fn plain_dynamic(text: &str, at: usize, buffer: &mut ColumnBuffer) -> Option<usize> {
    let end = scan::plain_end(text.as_bytes(), at + 1);
    if text.as_bytes().get(end) != Some(&b'"') {
        return None;
    }
    buffer.push_text(text.get(at..=end)?);
    Some(end + 1)
}

/// A guid that is written as it is kept.
fn guid(text: &str, at: usize, buffer: &mut ColumnBuffer) -> Option<usize> {
    const LENGTH: usize = 36;
    let given = text.get(at + 1..at + 1 + LENGTH)?;
    let is_kept = given.bytes().enumerate().all(|(place, byte)| match place {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    });
    let end = at + 1 + LENGTH;
    if !is_kept || text.as_bytes().get(end) != Some(&b'"') {
        return None;
    }
    buffer.push_text(given);
    Some(end + 1)
}
