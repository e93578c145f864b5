//! Sources of configurations: compiled or refused with places, and what is compiled is MOF that agrees with
//! the schemas, and a configuration unless it is a metaconfiguration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_core::entropy::SeededEntropy;
use oms_dsc::authoring::{CompileOptions, Source};
use oms_dsc::configuration::{CheckOptions, Configuration, Schemas};
use oms_dsc::{Error, mof};
use std::sync::{Arc, OnceLock};

fn schemas() -> &'static Schemas {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    SCHEMAS.get_or_init(|| Schemas::standard().expect("they are right"))
}

fuzz_target!(|data: &[u8]| {
    let options = CompileOptions {
        name: Some("Fuzz".to_owned()),
        leaves_passwords_clear: true,
        entropy: Arc::new(SeededEntropy::new(1)),
        ..CompileOptions::default()
    };
    let compiled = Source::read("fuzz.yaml", data)
        .and_then(|source| source.compile(schemas(), &options));
    match compiled {
        Ok(nodes) => {
            for node in nodes {
                let parsed = mof::parse(node.text.as_bytes()).into_result().expect("it is MOF");
                if !node.is_metaconfiguration {
                    Configuration::from_document(&parsed).expect("it is a configuration");
                }
                assert!(schemas().check(&parsed, CheckOptions::default()).is_empty());
            }
        }
        Err(Error::Document { diagnostics, .. }) => {
            assert!(!diagnostics.is_empty());
            assert!(diagnostics.iter().all(|told| told.position.line >= 1));
        }
        Err(_) => {}
    }
});
