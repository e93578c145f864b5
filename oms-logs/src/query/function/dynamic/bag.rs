//! Functions over property bags.

use super::super::arguments::Args;
use super::super::{Function, Naming, Parameter, kernel};
use super::build::dynamics;
use super::path::Path;
use crate::query::dynamic::{Members, Value, View};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;
use std::collections::HashSet;

const NAMING: Naming = Naming::Default;

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("bag_keys", NAMING, &[Parameter::Dynamic], KqlType::Dynamic, bag_keys),
    kernel(
        "bag_has_key",
        NAMING,
        &[Parameter::Dynamic, Parameter::Text],
        KqlType::Bool,
        bag_has_key,
    ),
    kernel("bag_merge", NAMING, &[Parameter::Dynamic], KqlType::Dynamic, bag_merge).repeated(),
    kernel(
        "bag_remove_keys",
        NAMING,
        &[Parameter::Dynamic, Parameter::Dynamic],
        KqlType::Dynamic,
        bag_remove_keys,
    ),
    kernel(
        "bag_set_key",
        NAMING,
        &[Parameter::Dynamic, Parameter::Text, Parameter::AsDynamic],
        KqlType::Dynamic,
        bag_set_key,
    ),
    kernel("bag_zip", NAMING, &[Parameter::Dynamic, Parameter::Dynamic], KqlType::Dynamic, bag_zip),
];

fn bag_keys(args: &Args<'_>) -> Result<ArrayRef> {
    let bag = args.dynamic(0)?;
    args.make_dynamic(|row, writer| match bag.get(row) {
        View::Bag(members) => writer.array(|parts| {
            members.iter().for_each(|(key, _)| parts.item(|writer| writer.text(key)));
        }),
        _ => writer.null(),
    })
}

fn bag_has_key(args: &Args<'_>) -> Result<ArrayRef> {
    let (bag, key) = (args.dynamic(0)?, args.text(1)?);
    Ok(args.make_bool(|row| match bag.get(row) {
        View::Bag(_) => {
            let path = Path::of_key(key.get(row));
            Some(path.is_some_and(|path| bag.bytes(row).and_then(|b| path.find(b)).is_some()))
        }
        _ => None,
    }))
}

/// Members of all bags; of members with one key the first counts.
fn bag_merge(args: &Args<'_>) -> Result<ArrayRef> {
    let bags = dynamics(args, 0)?;
    args.make_dynamic(|row, writer| {
        let found: Vec<Members<'_>> = bags.iter().filter_map(|bag| bag.get(row).as_bag()).collect();
        if found.is_empty() {
            return writer.null();
        }
        let mut known = HashSet::new();
        writer.bag(|parts| {
            for (key, value) in found.into_iter().flat_map(Members::iter) {
                if known.insert(key) {
                    parts.member(key, |writer| writer.raw(value));
                }
            }
        });
    })
}

/// The members of the bag that a way of keys leads to, and the last key.
fn parent<'v, 'n>(
    members: &'v mut Vec<(String, Value)>,
    names: &'n [&'n str],
    make: bool,
) -> Option<(&'v mut Vec<(String, Value)>, &'n str)> {
    let (last, way) = names.split_last()?;
    let mut here = members;
    for name in way {
        let at = match here.iter().position(|(key, _)| key == name) {
            Some(at) => at,
            None if make => {
                here.push(((*name).to_owned(), Value::Bag(Vec::new())));
                here.len() - 1
            }
            None => return None,
        };
        here = match &mut here.get_mut(at)?.1 {
            Value::Bag(members) => members,
            _ => return None,
        };
    }
    Some((here, last))
}

fn bag_remove_keys(args: &Args<'_>) -> Result<ArrayRef> {
    let (bag, keys) = (args.dynamic(0)?, args.dynamic(1)?);
    args.make_dynamic(|row, writer| {
        let (Value::Bag(mut members), View::Array(keys)) =
            (Value::from(bag.get(row)), keys.get(row))
        else {
            return writer.raw(bag.bytes(row).unwrap_or_default());
        };
        let mut here = HashSet::new();
        for key in keys.iter() {
            let View::Text(key) = View::of(key) else { continue };
            let path = Path::of_key(key);
            let names = path.as_ref().and_then(Path::names).unwrap_or_default();
            match (names.as_slice(), parent(&mut members, &names, false)) {
                ([only], _) => drop(here.insert((*only).to_owned())),
                (_, Some((members, last))) => members.retain(|(key, _)| key != last),
                (_, None) => {}
            }
        }
        members.retain(|(key, _)| !here.contains(key));
        writer.value(&Value::Bag(members));
    })
}

fn bag_set_key(args: &Args<'_>) -> Result<ArrayRef> {
    let (bag, key, value) = (args.dynamic(0)?, args.text(1)?, args.dynamic(2)?);
    args.make_dynamic(|row, writer| {
        let Value::Bag(mut members) = Value::from(bag.get(row)) else { return writer.null() };
        let path = Path::of_key(key.get(row));
        let names = path.as_ref().and_then(Path::names).unwrap_or_default();
        match parent(&mut members, &names, true) {
            Some((members, last)) => {
                let value = Value::from(value.get(row));
                match members.iter_mut().find(|(key, _)| key == last) {
                    Some((_, known)) => *known = value,
                    None => members.push((last.to_owned(), value)),
                }
            }
            None => return writer.raw(bag.bytes(row).unwrap_or_default()),
        }
        writer.value(&Value::Bag(members));
    })
}

/// A bag of keys and the values of the same places; a key that is no string is left out.
fn bag_zip(args: &Args<'_>) -> Result<ArrayRef> {
    let (keys, values) = (args.dynamic(0)?, args.dynamic(1)?);
    args.make_dynamic(|row, writer| {
        let View::Array(keys) = keys.get(row) else { return writer.null() };
        // What is no array has no value for any key.
        let values = values.get(row).as_array();
        let mut known = HashSet::new();
        writer.bag(|parts| {
            for (at, key) in keys.iter().enumerate() {
                if let View::Text(key) = View::of(key)
                    && known.insert(key)
                {
                    let value = values.and_then(|values| values.get(at)).unwrap_or_default();
                    parts.member(key, |writer| writer.raw(value));
                }
            }
        });
    })
}
