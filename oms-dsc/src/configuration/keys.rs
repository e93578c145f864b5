//! Resources that are one by their key.
//!
//! Two that want different things would undo each other on every run. Those that want the same are let
//! be, as Windows does since version 5 of its service.

use super::value::{Embedded, PropertyValue};
use crate::mof::{Diagnostic, Position};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::Arc;

/// What every resource may have besides what it wants.
pub(super) const COMMON: [&str; 6] =
    ["ResourceID", "DependsOn", "SourceInfo", "ModuleName", "ModuleVersion", "ConfigurationName"];

/// A resource with what tells it from others.
pub(super) struct Keyed<'a> {
    id: &'a str,
    position: Position,
    /// The names of its keys, and their values as they are compared behind what has these keys.
    names: Vec<&'a str>,
    place: (String, Vec<String>),
    /// What else it wants, by name in lower case, with the name as written.
    wants: BTreeMap<String, (&'a str, &'a PropertyValue)>,
}

impl<'a> Keyed<'a> {
    /// A resource of a class, or a family of classes, that has these keys; none if it does not say
    /// them all.
    pub(super) fn new(
        family: &str,
        names: Vec<&'a str>,
        (id, position): (&'a str, Position),
        properties: &'a BTreeMap<String, PropertyValue>,
    ) -> Option<Self> {
        let is_common = |name: &str| COMMON.iter().any(|common| common.eq_ignore_ascii_case(name));
        let mut wants: BTreeMap<String, (&str, &PropertyValue)> = properties
            .iter()
            .filter(|(name, value)| **value != PropertyValue::Null && !is_common(name))
            .map(|(name, value)| (name.to_lowercase(), (name.as_str(), value)))
            .collect();
        let values: Option<Vec<String>> = names
            .iter()
            .map(|name| wants.remove(&name.to_lowercase()).and_then(|(_, value)| key_text(value)))
            .collect();
        let values = values.filter(|values| !values.is_empty())?;
        Some(Self { id, position, names, place: (family.to_lowercase(), values), wants })
    }

    /// The first property in which another resource of the same key differs.
    fn difference(&self, other: &Self, comparison: &mut Comparison<'a>) -> Option<&'a str> {
        let (mut ours, mut theirs) = (self.wants.iter(), other.wants.iter());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return None,
                (Some((key, (name, value))), Some((their_key, (their_name, their_value)))) => {
                    if key != their_key {
                        return Some(if key < their_key { name } else { their_name });
                    }
                    if !comparison.is_same(value, their_value) {
                        return Some(name);
                    }
                }
                (Some((_, (name, _))), None) | (None, Some((_, (name, _)))) => return Some(name),
            }
        }
    }
}

/// Tells of each resource that wants something else than an earlier one of its key.
pub(super) fn conflicts<'a>(resources: impl IntoIterator<Item = Keyed<'a>>) -> Vec<Diagnostic> {
    let mut first: HashMap<(String, Vec<String>), Keyed<'a>> = HashMap::new();
    let (mut comparison, mut diagnostics) = (Comparison::default(), Vec::new());
    for resource in resources {
        let other = match first.entry(resource.place.clone()) {
            Entry::Vacant(place) => {
                place.insert(resource);
                continue;
            }
            Entry::Occupied(other) => other,
        };
        let other = other.get();
        if let Some(property) = resource.difference(other, &mut comparison) {
            let (id, names) = (resource.id, resource.names.join(", "));
            let message = format!(
                "`{id}` and `{}` at {} have the same {names} and differ in `{property}`",
                other.id, other.position
            );
            diagnostics.push(Diagnostic { position: resource.position, message });
        }
    }
    diagnostics
}

/// What keys are compared by: without regard to case, as Windows does, but for paths of Linux. None of
/// what is no key's value.
fn key_text(value: &PropertyValue) -> Option<String> {
    match value {
        PropertyValue::Text(text) if text.starts_with('/') => {
            Some(text.trim_end_matches('/').to_owned())
        }
        // A path that begins with a drive has either separator.
        PropertyValue::Text(text) if text.get(1..2) == Some(":") => {
            Some(text.trim_end_matches(['/', '\\']).to_lowercase())
        }
        PropertyValue::Text(text) => Some(text.trim_end_matches('\\').to_lowercase()),
        PropertyValue::Boolean(flag) => Some(flag.to_string()),
        PropertyValue::Integer(number) => Some(number.to_string()),
        PropertyValue::Real(number) => Some(number.to_string()),
        PropertyValue::Null
        | PropertyValue::Secret(_)
        | PropertyValue::Array(_)
        | PropertyValue::Instance(_) => None,
    }
}

/// Compares values that live as long as it does. Instances that two values share, or that were compared
/// before, are not compared again: a small document may refer to one very often.
#[derive(Default)]
pub(super) struct Comparison<'a> {
    /// Whether pairs of instances are the same, by address: what is borrowed for `'a` stays where it is.
    known: HashMap<(*const Embedded, *const Embedded), bool>,
    /// How much was compared.
    work: usize,
    compared: PhantomData<&'a Embedded>,
}

impl<'a> Comparison<'a> {
    /// The most pairs of instances that are remembered; beyond, two are told to differ.
    const PAIRS_MAX: usize = 1_000_000;

    /// The most values that are compared, where a text counts as one more for each so many bytes; beyond,
    /// two are told to differ. Two documents of the largest size come to less.
    const WORK_MAX: usize = 50_000_000;
    const TEXT_BYTES: usize = 64;

    pub(super) fn is_same(&mut self, one: &'a PropertyValue, other: &'a PropertyValue) -> bool {
        self.work += 1;
        match (one, other) {
            _ if self.work > Self::WORK_MAX => false,
            (PropertyValue::Array(ours), PropertyValue::Array(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().zip(theirs).all(|(one, other)| self.is_same(one, other))
            }
            (PropertyValue::Instance(ours), PropertyValue::Instance(theirs)) => {
                let pair = (Arc::as_ptr(ours), Arc::as_ptr(theirs));
                if Arc::ptr_eq(ours, theirs) {
                    return true;
                }
                if let Some(known) = self.known.get(&pair) {
                    return *known;
                }
                let is_same = self.known.len() < Self::PAIRS_MAX && self.is_alike(ours, theirs);
                self.known.insert(pair, is_same);
                is_same
            }
            (PropertyValue::Text(one), PropertyValue::Text(other)) => {
                self.work += one.len().min(other.len()) / Self::TEXT_BYTES;
                one == other
            }
            (one, other) => one == other,
        }
    }

    fn is_alike(&mut self, ours: &'a Embedded, theirs: &'a Embedded) -> bool {
        ours.class.eq_ignore_ascii_case(&theirs.class)
            && ours.properties.len() == theirs.properties.len()
            && ours.properties.iter().zip(&theirs.properties).all(
                |((name, value), (their_name, their_value))| {
                    name == their_name && self.is_same(value, their_value)
                },
            )
    }
}
