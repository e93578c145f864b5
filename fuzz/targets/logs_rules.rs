//! Data collection rules as JSON: a rule is taken, or refused with reasons, each of which says what is
//! wrong.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_logs::Error;
use oms_logs::ingest::rule::{PROBLEMS_MAX, check_document};

fuzz_target!(|data: &[u8]| {
    let Ok(document) = serde_json::from_slice(data) else { return };
    match check_document("fuzz", &document) {
        Ok(()) => {}
        Err(Error::Rule { problems, .. }) => {
            assert!(!problems.is_empty() && problems.len() <= PROBLEMS_MAX);
            assert!(problems.iter().all(|problem| !problem.reason.is_empty()));
        }
        Err(other) => panic!("{other}"),
    }
});
