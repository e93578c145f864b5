//! Records as JSON: a batch is refused by its own rules, or its rows are in Arrow batches that read
//! back from the log's form as they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_core::record::Batch;
use oms_logs::fuzz::{admit, decode_rows, encode_rows};

fuzz_target!(|data: &[u8]| {
    let Ok(batch) = serde_json::from_slice::<Batch>(data) else { return };
    let count = batch.records.len();
    let Ok(tables) = admit(batch) else { return };
    assert_eq!(tables.iter().map(|rows| rows.num_rows()).sum::<usize>(), count);
    for rows in &tables {
        let bytes = encode_rows(rows).expect("rows have a form in the log");
        assert_eq!(&decode_rows(&bytes).expect("it reads back"), rows);
    }
});
