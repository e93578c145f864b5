//! Partial configurations: several documents that make one state.

use super::engine::Documents;
use super::metaconfiguration::PartialConfiguration;
use super::state::ConfigurationSet;
use super::work::Part;
use crate::Error;
use crate::configuration::Configuration;
use std::sync::Arc;

/// The documents of a set, each behind those that its partial configuration depends on. What the
/// metaconfiguration does not name comes first, in the order of the names. One that depends on what is
/// not in the set says so, and is not done.
///
/// # Errors
/// [`Error::Invalid`] if one has a resource that is another's alone (`ExclusiveResources`).
pub(super) fn parts(
    partials: &[PartialConfiguration],
    set: &ConfigurationSet,
    documents: &Documents,
) -> Result<Vec<Part>, Error> {
    let described = |name: &str| {
        let is_it = |partial: &&PartialConfiguration| partial.name.eq_ignore_ascii_case(name);
        partials.iter().position(|partial| is_it(&partial))
    };
    let mut found: Vec<(Option<usize>, &str, &Arc<Configuration>)> = Vec::new();
    for (name, checksum) in set {
        let Some(configuration) = documents.get(checksum) else { continue };
        found.push((described(name.as_str()), name.as_str(), configuration));
    }
    let ranks = ranks(partials);
    found.sort_by_key(|(partial, ..)| partial.map(|index| ranks.get(index).copied()));
    let place = |on: &str| found.iter().position(|(_, name, _)| name.eq_ignore_ascii_case(on));
    let mut parts = Vec::with_capacity(found.len());
    for (partial, name, configuration) in &found {
        refuse_exclusive(partials, *partial, name, configuration)?;
        let (mut depends_on, mut missing) = (Vec::new(), None);
        for on in partial.iter().flat_map(|index| &partials[*index].depends_on) {
            match place(on) {
                Some(place) => depends_on.push(place),
                None => missing = missing.or(Some(on.clone())),
            }
        }
        let configuration = Arc::clone(configuration);
        parts.push(Part { name: (*name).to_owned(), configuration, depends_on, missing });
    }
    Ok(parts)
}

/// The place of each partial configuration in an order in which all come behind those that they
/// depend on. [`super::Metaconfiguration::parse`] refuses a cycle; in one that was built by hand,
/// those of the cycle stay in the order in which they are listed.
fn ranks(partials: &[PartialConfiguration]) -> Vec<usize> {
    let mut ranks = vec![usize::MAX; partials.len()];
    let rank_of = |name: &str, ranks: &[usize]| {
        let index = partials.iter().position(|partial| partial.name.eq_ignore_ascii_case(name));
        index.map(|index| ranks[index])
    };
    let mut next = 0;
    while next < partials.len() {
        let waiting = (0..partials.len()).filter(|index| ranks[*index] == usize::MAX);
        let is_ready = |index: &usize| {
            let mut on = partials[*index].depends_on.iter();
            on.all(|name| rank_of(name, &ranks) != Some(usize::MAX))
        };
        let first = waiting.clone().next();
        let Some(index) = waiting.clone().find(is_ready).or(first) else { break };
        ranks[index] = next;
        next += 1;
    }
    ranks
}

fn refuse_exclusive(
    partials: &[PartialConfiguration],
    own: Option<usize>,
    name: &str,
    configuration: &Configuration,
) -> Result<(), Error> {
    for (index, other) in partials.iter().enumerate() {
        if own == Some(index) {
            continue;
        }
        let exclusive = |type_name: &str, module: Option<&str>| {
            other.exclusive_resources.iter().any(|listed| matches(listed, type_name, module))
        };
        let foreign = configuration
            .resources
            .iter()
            .find(|resource| exclusive(resource.type_name(), resource.module_name.as_deref()));
        if let Some(resource) = foreign {
            let reason = format!(
                "`{name}` has {}, and resources of that type are for `{}` alone",
                resource.resource_id, other.name
            );
            return Err(Error::Invalid { what: "set of configurations", reason });
        }
    }
    Ok(())
}

/// Whether a resource is of a type listed as `TYPE`, `MODULE\TYPE` or `MODULE\*`.
fn matches(listed: &str, type_name: &str, module: Option<&str>) -> bool {
    match listed.split_once('\\') {
        None => listed.eq_ignore_ascii_case(type_name),
        Some((of, listed)) => {
            module.is_some_and(|module| module.eq_ignore_ascii_case(of))
                && (listed == "*" || listed.eq_ignore_ascii_case(type_name))
        }
    }
}
