//! Lists, sets and bags.

use super::Gatherer;
use crate::query::dynamic::{BYTES_MAX, Items, Parts, View, Writer, too_long};
use datafusion::common::Result;
use std::collections::HashSet;

fn bounded(parts: &Parts) -> Result<()> {
    if parts.len() > BYTES_MAX { Err(too_long()) } else { Ok(()) }
}

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out));
    out
}

/// The items of an array, or one value alone.
fn each<'v>(value: &'v [u8], mut take: impl FnMut(&'v [u8]) -> Result<()>) -> Result<()> {
    match View::of(value) {
        View::Array(items) => items.iter().try_for_each(take),
        _ => take(value),
    }
}

/// Values in their order. Items of arrays are values of the list.
#[derive(Debug)]
pub(super) struct List {
    nulls: bool,
    items_max: usize,
    parts: Parts,
    /// The place of each item, where a second argument gives it.
    places: Vec<i64>,
}

impl List {
    pub(super) fn new(nulls: bool, items_max: usize) -> Self {
        Self { nulls, items_max, parts: Parts::default(), places: Vec::new() }
    }

    fn push(&mut self, item: &[u8], place: Option<i64>) -> Result<()> {
        // With places, which items are the first is known at the end only.
        if place.is_none() && self.parts.count() >= self.items_max {
            return Ok(());
        }
        self.places.extend(place);
        self.parts.item(|writer| writer.raw(item));
        bounded(&self.parts)
    }

    /// The items by their places.
    fn sorted(&self) -> Vec<u8> {
        let all = written(|writer| writer.array_of(&self.parts));
        let Some(items) = View::of(&all).as_array() else { return all };
        let mut order: Vec<(i64, usize)> = self.places.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let first = order.into_iter().take(self.items_max);
        written(|writer| {
            writer.array(|parts| {
                for (_, at) in first {
                    parts.item(|writer| writer.raw(items.get(at).unwrap_or_default()));
                }
            });
        })
    }
}

impl Gatherer for List {
    fn add(&mut self, value: Option<&[u8]>, second: Option<&[u8]>) -> Result<()> {
        let place = match second.map(View::of) {
            Some(View::Long(place)) => Some(place),
            _ => None,
        };
        match value {
            None if self.nulls => self.push(&[], place),
            None => Ok(()),
            Some(value) if self.nulls => self.push(value, place),
            Some(value) => each(value, |item| self.push(item, place)),
        }
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let Some(both) = View::of(state).as_array() else { return Ok(()) };
        let items = |at| both.get(at).map(View::of).and_then(View::as_array);
        let Some(values) = items(0) else { return Ok(()) };
        let places: Option<Items<'_>> = items(1).filter(|places| places.len() == values.len());
        for (at, value) in values.iter().enumerate() {
            let place = match places.and_then(|places| places.get(at)).map(View::of) {
                Some(View::Long(place)) => Some(place),
                _ => None,
            };
            self.push(value, place)?;
        }
        Ok(())
    }

    fn state(&mut self) -> Vec<u8> {
        let places = std::mem::take(&mut self.places);
        let values = std::mem::take(&mut self.parts);
        written(|writer| {
            writer.array(|parts| {
                parts.item(|writer| writer.array_of(&values));
                parts.item(|writer| {
                    writer.array(|parts| {
                        places.iter().for_each(|place| parts.item(|writer| writer.long(*place)));
                    });
                });
            });
        })
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        if self.places.len() == self.parts.count() && !self.places.is_empty() {
            return Ok(self.sorted());
        }
        Ok(written(|writer| writer.array_of(&self.parts)))
    }

    fn size(&self) -> usize {
        self.parts.size() + self.places.capacity() * size_of::<i64>()
    }
}

/// Each value once, in the order of first appearance. Items of arrays are values of the set.
#[derive(Debug)]
pub(super) struct Set {
    items_max: usize,
    known: HashSet<Box<[u8]>>,
    parts: Parts,
}

impl Set {
    pub(super) fn new(items_max: usize) -> Self {
        Self { items_max, known: HashSet::new(), parts: Parts::default() }
    }

    fn push(&mut self, item: &[u8]) -> Result<()> {
        if self.parts.count() >= self.items_max
            || matches!(View::of(item), View::Null)
            || self.known.contains(item)
        {
            return Ok(());
        }
        self.known.insert(item.into());
        self.parts.item(|writer| writer.raw(item));
        bounded(&self.parts)
    }
}

impl Gatherer for Set {
    fn add(&mut self, value: Option<&[u8]>, _second: Option<&[u8]>) -> Result<()> {
        value.map_or(Ok(()), |value| each(value, |item| self.push(item)))
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        each(state, |item| self.push(item))
    }

    fn state(&mut self) -> Vec<u8> {
        written(|writer| writer.array_of(&self.parts))
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        Ok(self.state())
    }

    fn size(&self) -> usize {
        self.parts.size() + self.parts.len() + self.known.capacity() * size_of::<Box<[u8]>>()
    }
}

/// The members of bags.
#[derive(Debug)]
pub(super) struct Bag {
    members_max: usize,
    known: HashSet<String>,
    parts: Parts,
}

impl Bag {
    pub(super) fn new(members_max: usize) -> Self {
        Self { members_max, known: HashSet::new(), parts: Parts::default() }
    }
}

impl Gatherer for Bag {
    fn add(&mut self, value: Option<&[u8]>, _second: Option<&[u8]>) -> Result<()> {
        value.map_or(Ok(()), |value| self.merge(value))
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let Some(members) = View::of(state).as_bag() else { return Ok(()) };
        for (key, value) in members.iter() {
            if self.known.len() < self.members_max && !self.known.contains(key) {
                self.known.insert(key.to_owned());
                self.parts.member(key, |writer| writer.raw(value));
            }
        }
        bounded(&self.parts)
    }

    fn state(&mut self) -> Vec<u8> {
        written(|writer| writer.bag_of(&self.parts))
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        Ok(self.state())
    }

    fn size(&self) -> usize {
        self.parts.size() + self.parts.len() + self.known.capacity() * size_of::<String>()
    }
}
