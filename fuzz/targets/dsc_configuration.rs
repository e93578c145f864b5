//! Configurations and metaconfigurations: read or refused, and what is read keeps its rules.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_dsc::Metaconfiguration;
use oms_dsc::configuration::Configuration;
use oms_dsc::node::order;

fuzz_target!(|data: &[u8]| {
    let _ = Metaconfiguration::parse("meta.mof", data);
    let Ok(configuration) = Configuration::parse("fuzz", data) else { return };
    let count = configuration.resources.len();
    for resource in &configuration.resources {
        assert!(resource.dependencies.iter().all(|index| *index < count));
        assert!(resource.resource_id.ends_with(resource.instance_name()));
        let _ = resource.type_name();
    }
    // Every resource comes once, behind those that it depends on.
    let mut place = vec![usize::MAX; count];
    let ordered = order(&configuration);
    assert_eq!(ordered.len(), count);
    for (at, index) in ordered.iter().enumerate() {
        assert_eq!(place[*index], usize::MAX, "a resource comes twice");
        for dependency in &configuration.resources[*index].dependencies {
            assert!(place[*dependency] < at, "a resource comes before what it depends on");
        }
        place[*index] = at;
    }
});
