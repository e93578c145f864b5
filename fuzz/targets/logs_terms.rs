//! The index of a data file's terms: any bytes, and any behind a right checksum, are an index or none,
//! and one that is may have at most the rows that it says.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    if let Some(rows) = oms_logs::fuzz::terms(rest, kind % 4 == 0) {
        // Each block of 8,192 rows is at least one byte.
        assert!(rows <= rest.len() * 8_192);
    }
});
