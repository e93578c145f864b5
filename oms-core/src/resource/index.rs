//! Every history in memory, by its path.

use super::change::Node;
use super::{ResourceError, TrackedResource};
use crate::journal::Event;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// By paths in lower case. A resource that is gone stays as a version.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Index {
    nodes: BTreeMap<String, Node>,
    live: usize,
}

impl Index {
    pub(super) fn apply(&mut self, event: &Event) -> Result<(), ResourceError> {
        let mut node = self.nodes.get(event.history.key()).cloned().unwrap_or_default();
        let was_live = node.resource.is_some();
        node.apply(event)?;
        self.live = self.live + usize::from(node.resource.is_some()) - usize::from(was_live);
        self.nodes.insert(event.history.key().to_owned(), node);
        Ok(())
    }

    /// How many resources there are.
    pub(super) const fn live(&self) -> usize {
        self.live
    }

    pub(super) fn node(&self, key: &str) -> Option<&Node> {
        self.nodes.get(key)
    }

    pub(super) fn version(&self, key: &str) -> u64 {
        self.nodes.get(key).map_or(0, |node| node.version)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<TrackedResource>> {
        self.nodes.get(key)?.resource.as_ref()
    }

    /// Resources strictly below a path, after the path `after`, in order of their paths.
    pub(super) fn below<'a>(
        &'a self,
        key: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<TrackedResource>)> + use<'a> {
        let key = key.trim_end_matches('/');
        let start = format!("{key}/");
        // The character after the slash: what lies below begins with a slash and is lower.
        let end = format!("{key}0");
        let start = match after {
            Some(after) if after >= start.as_str() => Bound::Excluded(after.to_owned()),
            _ => Bound::Excluded(start),
        };
        let is_empty = matches!(&start, Bound::Excluded(start) if *start >= end);
        let range = if is_empty { None } else { Some((start, Bound::Excluded(end))) };
        range.into_iter().flat_map(move |range| self.nodes.range::<String, _>(range)).filter_map(
            |(key, node)| node.resource.as_ref().map(|resource| (key.as_str(), resource)),
        )
    }
}
