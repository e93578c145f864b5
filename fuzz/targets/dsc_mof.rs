//! Managed Object Format: what parses without a diagnostic prints to text that parses to the same
//! tree, and every diagnostic has a place in the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_dsc::mof::{DIAGNOSTICS_MAX, parse};

fuzz_target!(|data: &[u8]| {
    let parsed = parse(data);
    assert!(parsed.diagnostics.len() <= DIAGNOSTICS_MAX);
    assert!(parsed.diagnostics.iter().all(|found| found.position.line >= 1));
    if parsed.diagnostics.is_empty() {
        let text = parsed.document.to_string();
        let again = parse(text.as_bytes()).into_result().expect("what is printed parses");
        assert_eq!(again.without_positions(), parsed.document.without_positions(), "{text}");
    }
});
