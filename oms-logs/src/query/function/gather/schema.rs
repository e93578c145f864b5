//! `buildschema`: the kinds of values at each place.

use super::Gatherer;
use crate::query::dynamic::{Value, View};
use datafusion::common::Result;
use std::collections::{BTreeMap, BTreeSet};

/// The name of the items of an array among the members of a bag.
const ITEMS: &str = "`indexer`";

/// The most places of a schema; beyond them, members of new names are passed over.
const PLACES_MAX: usize = 100_000;

/// What is at one place.
#[derive(Debug, Default)]
struct Kinds {
    scalars: BTreeSet<String>,
    /// Members of bags, and the items of arrays under [`ITEMS`].
    parts: Option<BTreeMap<String, Self>>,
}

impl Kinds {
    fn add(&mut self, value: View<'_>, places: &mut usize) {
        match value {
            View::Null => {}
            View::Array(items) => {
                let parts = self.parts.get_or_insert_default();
                for item in items.iter() {
                    Self::part(parts, ITEMS, item, places);
                }
                // An empty array is an array all the same.
                if parts.is_empty() {
                    parts.insert(ITEMS.to_owned(), Self::default());
                }
            }
            View::Bag(members) => {
                let parts = self.parts.get_or_insert_default();
                members.iter().for_each(|(key, value)| Self::part(parts, key, value, places));
            }
            View::Real(_) => drop(self.scalars.insert("double".to_owned())),
            scalar => drop(self.scalars.insert(scalar.type_name().to_owned())),
        }
    }

    fn part(parts: &mut BTreeMap<String, Self>, key: &str, value: &[u8], places: &mut usize) {
        if let Some(part) = Self::at(parts, key, places) {
            part.add(View::of(value), places);
        }
    }

    /// The part of a name, or `None` if it is new and there are too many places.
    fn at<'p>(
        parts: &'p mut BTreeMap<String, Self>,
        key: &str,
        places: &mut usize,
    ) -> Option<&'p mut Self> {
        if !parts.contains_key(key) {
            if *places >= PLACES_MAX {
                return None;
            }
            *places += 1;
        }
        Some(parts.entry(key.to_owned()).or_default())
    }

    fn merge(&mut self, other: Self, places: &mut usize) {
        self.scalars.extend(other.scalars);
        let Some(others) = other.parts else { return };
        let parts = self.parts.get_or_insert_default();
        for (key, kinds) in others {
            if let Some(part) = Self::at(parts, &key, places) {
                part.merge(kinds, places);
            }
        }
    }

    /// One kind alone, several as an array.
    fn schema(&self) -> Value {
        let container = self.parts.as_ref().map(|parts| {
            let parts = parts.iter().map(|(key, kinds)| (key.clone(), kinds.schema()));
            Value::Bag(parts.collect())
        });
        let scalars = self.scalars.iter().map(|name| Value::Text(name.clone()));
        let mut all: Vec<Value> = scalars.chain(container).collect();
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => only,
            (Some(last), false) => {
                all.push(last);
                Value::Array(all)
            }
            (None, _) => Value::Null,
        }
    }

    /// As an array of the names of scalars and, if there are parts, a bag of them.
    fn to_state(&self) -> Value {
        let scalars = self.scalars.iter().map(|name| Value::Text(name.clone())).collect();
        let parts = self.parts.as_ref().map(|parts| {
            let parts = parts.iter().map(|(key, kinds)| (key.clone(), kinds.to_state()));
            Value::Bag(parts.collect())
        });
        Value::Array([Value::Array(scalars)].into_iter().chain(parts).collect())
    }

    fn of_state(state: View<'_>) -> Self {
        let Some(both) = state.as_array() else { return Self::default() };
        let at = |at| both.get(at).map(View::of);
        let scalars = at(0).and_then(View::as_array).map(|names| {
            let names = names.iter().filter_map(|name| match View::of(name) {
                View::Text(name) => Some(name.to_owned()),
                _ => None,
            });
            names.collect()
        });
        let parts = at(1).and_then(View::as_bag).map(|members| {
            let members = members.iter();
            members.map(|(key, part)| (key.to_owned(), Self::of_state(View::of(part)))).collect()
        });
        Self { scalars: scalars.unwrap_or_default(), parts }
    }
}

/// The kinds of the values of a group.
#[derive(Debug, Default)]
pub(super) struct Schema {
    kinds: Kinds,
    places: usize,
}

impl Gatherer for Schema {
    fn add(&mut self, value: Option<&[u8]>, _second: Option<&[u8]>) -> Result<()> {
        self.kinds.add(value.map_or(View::Null, View::of), &mut self.places);
        Ok(())
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        self.kinds.merge(Kinds::of_state(View::of(state)), &mut self.places);
        Ok(())
    }

    fn state(&mut self) -> Vec<u8> {
        self.kinds.to_state().to_bytes().unwrap_or_default()
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        Ok(self.kinds.schema().to_bytes().unwrap_or_default())
    }

    fn size(&self) -> usize {
        self.places * size_of::<(String, Kinds)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_schemas_have_no_more_places_than_one() {
        let mut merged = Schema::default();
        for number in 0..3 {
            let members = (0..PLACES_MAX / 2)
                .map(|at| (format!("{number}-{at}"), Value::Array(vec![Value::Long(1)])));
            let bag = Value::Bag(members.collect()).to_bytes();
            let mut part = Schema::default();
            part.add(bag.as_deref(), None).expect("a value");
            merged.merge(&part.state()).expect("a state");
        }
        assert_eq!(merged.places, PLACES_MAX);
        let schema = merged.finish().expect("a schema");
        let all = View::of(&schema).as_bag().expect("a bag");
        let inner = all.iter().filter_map(|(_, kinds)| View::of(kinds).as_bag());
        assert_eq!(all.len() + inner.map(|items| items.len()).sum::<usize>(), PLACES_MAX);
    }
}
