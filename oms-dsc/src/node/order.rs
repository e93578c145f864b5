//! The order in which resources are done.

use crate::configuration::Configuration;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Indexes of the configuration's resources, each after all that it depends on; among those that
/// may come next, the one that stands first in the document.
#[must_use]
pub fn order(configuration: &Configuration) -> Vec<usize> {
    let resources = &configuration.resources;
    let mut waiting: Vec<usize> = resources.iter().map(|r| r.dependencies.len()).collect();
    let mut dependents = vec![Vec::new(); resources.len()];
    for (index, resource) in resources.iter().enumerate() {
        for dependency in &resource.dependencies {
            dependents[*dependency].push(index);
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..resources.len()).filter(|index| waiting[*index] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(resources.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for dependent in &dependents[index] {
            waiting[*dependent] -= 1;
            if waiting[*dependent] == 0 {
                ready.push(Reverse(*dependent));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A document whose resource `i` depends on those given for it.
    fn configuration(dependencies: &[Vec<usize>]) -> Configuration {
        let mut text =
            String::from("instance of OMI_ConfigurationDocument { Version = \"2.0.0\"; };");
        for (index, on) in dependencies.iter().enumerate() {
            let on: Vec<String> = on.iter().map(|on| format!("\"[T]{on}\"")).collect();
            text += &format!(
                "instance of T {{ ResourceID = \"[T]{index}\"; DependsOn = {{{}}}; }};",
                on.join(",")
            );
        }
        Configuration::parse("test", text.as_bytes()).expect("a valid document")
    }

    #[test]
    fn the_document_decides_where_dependencies_do_not() {
        let check = |dependencies: &[Vec<usize>], expect: &[usize]| {
            assert_eq!(order(&configuration(dependencies)), expect);
        };
        check(&[vec![], vec![], vec![]], &[0, 1, 2]);
        check(&[vec![2], vec![], vec![]], &[1, 2, 0]);
        check(&[vec![1, 2], vec![2], vec![], vec![]], &[2, 1, 0, 3]);
    }

    proptest! {
        #[test]
        fn every_resource_comes_once_and_after_its_dependencies(
            // A dependency on a resource with a smaller number cannot close a cycle.
            raw in proptest::collection::vec(proptest::collection::vec(any::<usize>(), 0..4), 1..30),
        ) {
            let dependencies: Vec<Vec<usize>> = raw
                .into_iter()
                .enumerate()
                .map(|(i, on)| if i == 0 { vec![] } else { on.into_iter().map(|o| o % i).collect() })
                .collect();
            let order = order(&configuration(&dependencies));
            prop_assert_eq!(order.len(), dependencies.len());
            let place = |index| order.iter().position(|o| *o == index).expect("each is there");
            for (index, on) in dependencies.iter().enumerate() {
                prop_assert!(on.iter().all(|on| place(*on) < place(index)));
            }
        }
    }
}
