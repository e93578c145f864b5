//! `DependsOn` as edges between resources, free of cycles.

use super::document::ResourceInstance;
use crate::mof::{Diagnostic, Position};
use std::collections::HashMap;

/// A dependency as the document writes it.
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: String,
    pub(super) position: Position,
}

/// Finds the resource of each dependency and checks that none depends on itself over others.
pub(super) fn resolve(
    resources: &mut [ResourceInstance],
    edges: Vec<Edge>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut by_id = HashMap::new();
    for (index, resource) in resources.iter().enumerate() {
        by_id.entry(resource.resource_id.to_lowercase()).or_insert(index);
    }
    let mut places = HashMap::new();
    for Edge { from, to, position } in edges {
        match by_id.get(&to.to_lowercase()) {
            Some(target) => {
                places.insert((from, *target), position);
                if !resources[from].dependencies.contains(target) {
                    resources[from].dependencies.push(*target);
                }
            }
            None => {
                let message = format!("no resource has the id `{to}` that is depended on");
                diagnostics.push(Diagnostic { position, message });
            }
        }
    }
    if let Some(cycle) = find_cycle(resources) {
        let first = cycle.first().copied().unwrap_or_default();
        let second = cycle.get(1).copied().unwrap_or(first);
        let position = places.get(&(first, second)).copied().unwrap_or_default();
        let path: Vec<&str> = cycle
            .iter()
            .chain([&first])
            .map(|index| resources[*index].resource_id.as_str())
            .collect();
        let message = format!("the dependencies form a cycle: {}", path.join(" -> "));
        diagnostics.push(Diagnostic { position, message });
    }
}

/// The resources of one cycle in order of dependency, if there is a cycle. Walks without
/// recursion, so that a long chain cannot exhaust the stack.
fn find_cycle(resources: &[ResourceInstance]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; resources.len()];
    for start in 0..resources.len() {
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        // The resources on the way here, each with the number of its dependencies that were seen.
        let mut path = vec![(start, 0)];
        while let Some((index, seen)) = path.last_mut() {
            let Some(next) = resources[*index].dependencies.get(*seen).copied() else {
                marks[*index] = Mark::Done;
                path.pop();
                continue;
            };
            *seen += 1;
            match marks[next] {
                Mark::Done => {}
                Mark::New => {
                    marks[next] = Mark::Open;
                    path.push((next, 0));
                }
                Mark::Open => {
                    let cycle = path.iter().map(|(index, _)| *index);
                    return Some(cycle.skip_while(|index| *index != next).collect());
                }
            }
        }
    }
    None
}
