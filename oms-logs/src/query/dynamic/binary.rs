//! The form of one dynamic value in memory.
//!
//! ```text
//! null, false, true   tag
//! long, real          tag, 8 bytes        datetime, timespan: ticks in 8 bytes
//! guid                tag, 16 bytes
//! string, decimal     tag, UTF-8
//! array               tag, count, end of each item, items
//! bag                 tag, count, end of each key and of its value, keys and values in turn
//! ```
//! Counts and ends are 4 bytes, little endian; ends are counted from the end of their table. Values
//! have no length of their own: what contains them knows where they end.

use super::{Value, number};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const LONG: u8 = 3;
const REAL: u8 = 4;
const TEXT: u8 = 5;
const DATETIME: u8 = 6;
const TIMESPAN: u8 = 7;
const GUID: u8 = 8;
const DECIMAL: u8 = 9;
const ARRAY: u8 = 10;
const BAG: u8 = 11;

/// The bytes of a null.
pub(super) const NULL_BYTES: &[u8] = &[NULL];

/// The bytes of a count or of an end.
const WIDTH: usize = 4;

/// A value, read in place. Bytes that are no value read as null.
#[derive(Clone, Copy, Debug)]
pub(crate) enum View<'a> {
    Null,
    Bool(bool),
    Long(i64),
    Real(f64),
    Text(&'a str),
    DateTime(i64),
    TimeSpan(i64),
    Guid(Uuid),
    Decimal(&'a str),
    Array(Items<'a>),
    Bag(Members<'a>),
}

fn eight(bytes: &[u8]) -> Option<[u8; 8]> {
    bytes.try_into().ok()
}

impl<'a> View<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self::read(bytes).unwrap_or(Self::Null)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        Some(match *tag {
            FALSE => Self::Bool(false),
            TRUE => Self::Bool(true),
            LONG => Self::Long(i64::from_le_bytes(eight(rest)?)),
            REAL => Self::Real(f64::from_le_bytes(eight(rest)?)),
            TEXT => Self::Text(std::str::from_utf8(rest).ok()?),
            DATETIME => Self::DateTime(i64::from_le_bytes(eight(rest)?)),
            TIMESPAN => Self::TimeSpan(i64::from_le_bytes(eight(rest)?)),
            GUID => Self::Guid(Uuid::from_slice(rest).ok()?),
            DECIMAL => Self::Decimal(std::str::from_utf8(rest).ok()?),
            ARRAY => Self::Array(Items(Table::read(rest, 1)?)),
            BAG => Self::Bag(Members(Table::read(rest, 2)?)),
            _ => Self::Null,
        })
    }

    /// The items of an array.
    pub(crate) const fn as_array(self) -> Option<Items<'a>> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The members of a bag.
    pub(crate) const fn as_bag(self) -> Option<Members<'a>> {
        match self {
            Self::Bag(members) => Some(members),
            _ => None,
        }
    }

    /// A number, whichever kind.
    #[expect(clippy::cast_precision_loss, reason = "a real has 53 bits")]
    pub(crate) fn as_number(self) -> Option<f64> {
        match self {
            Self::Long(value) => Some(value as f64),
            Self::Real(value) => Some(value),
            Self::Decimal(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// The name that `gettype` gives.
    pub(crate) const fn type_name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Long(_) => "long",
            Self::Real(_) => "real",
            Self::Text(_) => "string",
            Self::DateTime(_) => "datetime",
            Self::TimeSpan(_) => "timespan",
            Self::Guid(_) => "guid",
            Self::Decimal(_) => "decimal",
            Self::Array(_) => "array",
            Self::Bag(_) => "dictionary",
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Long(_) | Self::Real(_) | Self::Decimal(_) => 2,
            Self::DateTime(_) => 3,
            Self::TimeSpan(_) => 4,
            Self::Guid(_) => 5,
            Self::Text(_) => 6,
            Self::Array(_) => 7,
            Self::Bag(_) => 8,
        }
    }

    /// A total order of all values: by kind, then by value. Numbers of all kinds are one kind, in
    /// which NaN is last and equals itself.
    pub(crate) fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(&b),
            (Self::DateTime(a), Self::DateTime(b)) | (Self::TimeSpan(a), Self::TimeSpan(b)) => {
                a.cmp(&b)
            }
            (Self::Guid(a), Self::Guid(b)) => a.cmp(&b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Array(a), Self::Array(b)) => {
                let each = a.iter().zip(b.iter()).map(|(a, b)| View::of(a).order(View::of(b)));
                first_difference(each).then(a.len().cmp(&b.len()))
            }
            (Self::Bag(a), Self::Bag(b)) => a.order(b),
            _ => number::order(self, other).unwrap_or_else(|| self.rank().cmp(&other.rank())),
        }
    }

    /// Whether both are the same value; a whole number equals a real of the same value, and the order
    /// of a bag's members does not count.
    pub(crate) fn equals(self, other: Self) -> bool {
        self.order(other) == Ordering::Equal
    }
}

fn first_difference(mut each: impl Iterator<Item = Ordering>) -> Ordering {
    each.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Whether arrays and bags are nested in more than some levels.
pub(super) fn is_deeper(bytes: &[u8], levels: usize) -> bool {
    // Each container has a tag, a count and an end beside its parts, so that few values have to be
    // looked into.
    const CONTAINER_BYTES_MIN: usize = 1 + 2 * WIDTH;
    if bytes.len() < levels * CONTAINER_BYTES_MIN || !matches!(bytes, [ARRAY | BAG, ..]) {
        return false;
    }
    let Some(levels) = levels.checked_sub(1) else { return true };
    match View::of(bytes) {
        View::Array(items) => items.iter().any(|item| is_deeper(item, levels)),
        View::Bag(members) => members.iter().any(|(_, value)| is_deeper(value, levels)),
        _ => false,
    }
}

/// Where the parts of an array or a bag end.
#[derive(Clone, Copy, Debug)]
struct Table<'a> {
    count: usize,
    ends: &'a [u8],
    parts: &'a [u8],
}

impl<'a> Table<'a> {
    fn read(bytes: &'a [u8], per_part: usize) -> Option<Self> {
        let (count, rest) = bytes.split_at_checked(WIDTH)?;
        let count = usize::try_from(u32::from_le_bytes(count.try_into().ok()?)).ok()?;
        let width = count.checked_mul(per_part)?.checked_mul(WIDTH)?;
        let (ends, parts) = rest.split_at_checked(width)?;
        Some(Self { count, ends, parts })
    }

    /// Where the part before the `at`th end stops.
    fn end(&self, at: usize) -> usize {
        let bytes = self.ends.get(at * WIDTH..(at + 1) * WIDTH);
        let bytes: [u8; WIDTH] = bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(0)
    }

    fn part(&self, at: usize) -> &'a [u8] {
        let start = if at == 0 { 0 } else { self.end(at - 1) };
        self.parts.get(start..self.end(at)).unwrap_or_default()
    }
}

/// The items of an array.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Items<'a>(Table<'a>);

impl<'a> Items<'a> {
    pub(crate) const fn len(&self) -> usize {
        self.0.count
    }

    /// The bytes of an item.
    pub(crate) fn get(&self, at: usize) -> Option<&'a [u8]> {
        (at < self.0.count).then(|| self.0.part(at))
    }

    /// The bytes of the item of an index that counts from the end if it is negative.
    pub(crate) fn at(&self, index: i64) -> Option<&'a [u8]> {
        let length = i64::try_from(self.0.count).ok()?;
        let index = if index < 0 { index.checked_add(length)? } else { index };
        self.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator {
        (0..self.0.count).map(move |at| self.0.part(at))
    }
}

/// The members of a bag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Members<'a>(Table<'a>);

impl<'a> Members<'a> {
    pub(crate) const fn len(&self) -> usize {
        self.0.count
    }

    /// The key and the bytes of the value of a member.
    fn member(&self, at: usize) -> (&'a [u8], &'a [u8]) {
        (self.0.part(2 * at), self.0.part(2 * at + 1))
    }

    /// The bytes of a key's value.
    pub(crate) fn get(&self, key: &str) -> Option<&'a [u8]> {
        let mut start = 0;
        for at in 0..self.0.count {
            let (key_end, value_end) = (self.0.end(2 * at), self.0.end(2 * at + 1));
            if key_end.wrapping_sub(start) == key.len()
                && self.0.parts.get(start..key_end) == Some(key.as_bytes())
            {
                return self.0.parts.get(key_end..value_end);
            }
            start = value_end;
        }
        None
    }

    pub(crate) fn iter(self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> {
        (0..self.0.count).map(move |at| {
            let (key, value) = self.member(at);
            (std::str::from_utf8(key).unwrap_or_default(), value)
        })
    }

    fn order(self, other: Self) -> Ordering {
        let sorted = |members: Self| {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            members
        };
        let (a, b) = (sorted(self), sorted(other));
        let each = a
            .iter()
            .zip(&b)
            .map(|((ka, va), (kb, vb))| ka.cmp(kb).then_with(|| View::of(va).order(View::of(vb))));
        first_difference(each).then(a.len().cmp(&b.len()))
    }
}

/// Writes values at the end of a buffer.
#[derive(Debug)]
pub(crate) struct Writer<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> Writer<'b> {
    pub(crate) const fn new(out: &'b mut Vec<u8>) -> Self {
        Self { out }
    }

    fn fixed(&mut self, tag: u8, bytes: &[u8]) {
        self.out.push(tag);
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn null(&mut self) {
        self.out.push(NULL);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.out.push(if value { TRUE } else { FALSE });
    }

    pub(crate) fn long(&mut self, value: i64) {
        self.fixed(LONG, &value.to_le_bytes());
    }

    pub(crate) fn real(&mut self, value: f64) {
        self.fixed(REAL, &value.to_le_bytes());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.fixed(TEXT, text.as_bytes());
    }

    pub(crate) fn datetime(&mut self, ticks: i64) {
        self.fixed(DATETIME, &ticks.to_le_bytes());
    }

    pub(crate) fn timespan(&mut self, ticks: i64) {
        self.fixed(TIMESPAN, &ticks.to_le_bytes());
    }

    pub(crate) fn guid(&mut self, value: Uuid) {
        self.fixed(GUID, value.as_bytes());
    }

    pub(crate) fn decimal(&mut self, digits: &str) {
        self.fixed(DECIMAL, digits.as_bytes());
    }

    /// A value that is in this form already.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(if bytes.is_empty() { NULL_BYTES } else { bytes });
    }

    /// An array, whose items `fill` writes by calling [`Parts::item`] for each.
    pub(crate) fn array(&mut self, fill: impl FnOnce(&mut Parts)) {
        let mut parts = Parts::default();
        fill(&mut parts);
        self.parts(ARRAY, parts.ends.len(), &parts);
    }

    /// A bag, whose members `fill` writes by calling [`Parts::member`] for each.
    pub(crate) fn bag(&mut self, fill: impl FnOnce(&mut Parts)) {
        let mut parts = Parts::default();
        fill(&mut parts);
        self.parts(BAG, parts.ends.len() / 2, &parts);
    }

    /// An array of parts.
    pub(crate) fn array_of(&mut self, parts: &Parts) {
        self.parts(ARRAY, parts.ends.len(), parts);
    }

    /// A bag of parts.
    pub(crate) fn bag_of(&mut self, parts: &Parts) {
        self.parts(BAG, parts.ends.len() / 2, parts);
    }

    fn parts(&mut self, tag: u8, count: usize, parts: &Parts) {
        self.out.reserve(1 + WIDTH * (1 + parts.ends.len()) + parts.bytes.len());
        self.out.push(tag);
        self.out.extend_from_slice(&u32::try_from(count).unwrap_or(0).to_le_bytes());
        for end in &parts.ends {
            self.out.extend_from_slice(&end.to_le_bytes());
        }
        self.out.extend_from_slice(&parts.bytes);
    }

    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(value) => self.bool(*value),
            Value::Long(value) => self.long(*value),
            Value::Real(value) => self.real(*value),
            Value::Text(text) => self.text(text),
            Value::DateTime(ticks) => self.datetime(*ticks),
            Value::TimeSpan(ticks) => self.timespan(*ticks),
            Value::Guid(value) => self.guid(*value),
            Value::Decimal(digits) => self.decimal(digits),
            Value::Array(items) => self.array(|parts| {
                items.iter().for_each(|item| parts.item(|writer| writer.value(item)));
            }),
            Value::Bag(members) => self.bag(|parts| {
                for (key, value) in members {
                    parts.member(key, |writer| writer.value(value));
                }
            }),
        }
    }
}

/// Begins an array or a bag whose parts follow; answers where they begin.
pub(super) fn open(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 1 + WIDTH]);
    out.len()
}

/// Ends an array of which the parts begin at `start`, and each ends so far after that.
pub(super) fn close_array(out: &mut Vec<u8>, start: usize, ends: &[u32]) {
    close(out, start, ARRAY, ends.len(), ends);
}

/// Ends a bag of which the parts begin at `start`, and each ends so far after that: keys and values
/// in turn. Of members with one key the last counts, in the place of the first.
pub(super) fn close_bag(out: &mut Vec<u8>, start: usize, ends: &[u32]) {
    let parts = out.get(start..).unwrap_or_default();
    if has_twins(parts, ends) {
        let mut kept: Vec<(&[u8], &[u8])> = Vec::new();
        let mut places: HashMap<&[u8], usize> = HashMap::new();
        for (key, value) in members_of(parts, ends) {
            let place = *places.entry(key).or_insert(kept.len());
            match kept.get_mut(place) {
                Some((_, known)) => *known = value,
                None => kept.push((key, value)),
            }
        }
        let (mut bytes, mut ends) = (Vec::with_capacity(parts.len()), Vec::new());
        for part in kept.iter().flat_map(|(key, value)| [*key, *value]) {
            bytes.extend_from_slice(part);
            ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        out.truncate(start);
        out.extend_from_slice(&bytes);
        return close(out, start, BAG, ends.len() / 2, &ends);
    }
    close(out, start, BAG, ends.len() / 2, ends);
}

/// Puts the table of ends before the parts.
fn close(out: &mut Vec<u8>, start: usize, tag: u8, count: usize, ends: &[u32]) {
    let (length, table) = (out.len(), WIDTH * ends.len());
    out.resize(length + table, 0);
    out.copy_within(start..length, start + table);
    let head = start - (1 + WIDTH);
    let count = u32::try_from(count).unwrap_or(0).to_le_bytes();
    let head = std::iter::once(tag).chain(count).zip(out.iter_mut().skip(head));
    head.for_each(|(byte, place)| *place = byte);
    let places = out.get_mut(start..start + table).unwrap_or_default();
    for (end, place) in ends.iter().zip(places.chunks_exact_mut(WIDTH)) {
        place.copy_from_slice(&end.to_le_bytes());
    }
}

/// The keys and values of a bag's parts.
fn members_of<'p>(
    parts: &'p [u8],
    ends: &'p [u32],
) -> impl Iterator<Item = (&'p [u8], &'p [u8])> + Clone {
    let place = |end: u32| usize::try_from(end).unwrap_or(usize::MAX);
    let mut start = 0;
    ends.chunks_exact(2).map(move |pair| {
        let (key, value) = match *pair {
            [key, value] => (place(key), place(value)),
            _ => (start, start),
        };
        let of = |range| parts.get(range).unwrap_or_default();
        let member = (of(start..key), of(key..value));
        start = value;
        member
    })
}

/// Whether members of a bag have the same key.
fn has_twins(parts: &[u8], ends: &[u32]) -> bool {
    // So few keys are compared with each other.
    const FEW: usize = 16;
    let mut members = members_of(parts, ends);
    if ends.len() <= 2 * FEW {
        while let Some((key, _)) = members.next() {
            if members.clone().any(|(other, _)| other == key) {
                return true;
            }
        }
        return false;
    }
    let mut known = HashSet::with_capacity(ends.len() / 2);
    members.any(|(key, _)| !known.insert(key))
}

/// The parts of an array or a bag in the making. Past the longest value nothing more is taken.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Parts {
    /// How many bytes they are so far.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many items they are.
    pub(crate) const fn count(&self) -> usize {
        self.ends.len()
    }

    /// How much memory they take, in bytes.
    pub(crate) const fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * WIDTH
    }

    fn end(&mut self) {
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// Adds an item of an array.
    pub(crate) fn item(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        write(&mut Writer::new(&mut self.bytes));
        self.end();
    }

    /// Adds a member of a bag. The caller sees to it that no key is there twice.
    pub(crate) fn member(&mut self, key: &str, write: impl FnOnce(&mut Writer<'_>)) {
        self.bytes.extend_from_slice(key.as_bytes());
        self.end();
        write(&mut Writer::new(&mut self.bytes));
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bag(members: &[(&str, Value)]) -> Value {
        Value::Bag(members.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    #[test]
    fn values_survive_their_form_in_memory() {
        let value = bag(&[
            ("b", Value::Array(vec![Value::Long(-1), Value::Real(2.5), Value::Null])),
            ("", Value::Text("ü".to_owned())),
            ("a", bag(&[("at", Value::DateTime(7)), ("for", Value::TimeSpan(-7))])),
            ("d", Value::Decimal("1.50".to_owned())),
            ("g", Value::Guid(Uuid::from_u128(5))),
            ("t", Value::Bool(true)),
        ]);
        let bytes = value.to_bytes().expect("not null");
        assert_eq!(Value::from(View::of(&bytes)), value);
        let members = View::of(&bytes).as_bag().expect("a bag");
        assert_eq!(members.len(), 6);
        let items = members.get("b").map(View::of).and_then(View::as_array).expect("an array");
        assert!(matches!(items.at(-2).map(View::of), Some(View::Real(2.5))));
        assert!(items.at(3).is_none() && items.at(-4).is_none() && items.at(i64::MIN).is_none());
        assert!(members.get("z").is_none());
    }

    #[test]
    fn damaged_bytes_read_as_null() {
        let bytes = Value::Array(vec![Value::Long(1), Value::Text("x".to_owned())]).to_bytes();
        let bytes = bytes.expect("not null");
        for length in 0..bytes.len() {
            let _ = Value::from(View::of(&bytes[..length]));
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 5, 11, 255] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let _ = Value::from(View::of(&damaged));
            }
        }
    }

    #[test]
    fn equality_looks_at_values() {
        let same = |a: &Value, b: &Value| {
            let (a, b) = (a.to_bytes().unwrap_or_default(), b.to_bytes().unwrap_or_default());
            View::of(&a).equals(View::of(&b))
        };
        assert!(same(&Value::Long(1), &Value::Real(1.0)));
        assert!(!same(&Value::Long(1), &Value::Text("1".to_owned())));
        let ab = bag(&[("a", Value::Long(1)), ("b", Value::Null)]);
        let ba = bag(&[("b", Value::Null), ("a", Value::Long(1))]);
        assert!(same(&ab, &ba));
        assert!(!same(&ab, &bag(&[("a", Value::Long(1))])));
    }
}
