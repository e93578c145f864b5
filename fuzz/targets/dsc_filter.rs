//! Filters of the management's lists: read or refused, and what is read can be asked.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let is_read = oms_dsc::arm::fuzz::filter(text);
    assert!(is_read || !text.trim().is_empty(), "nothing is a filter");
});
