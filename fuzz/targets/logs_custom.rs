//! Records of custom tables as JSON: the first byte chooses a table with room, or one that is nearly full.
//! They are refused for a reason, or each has a row with every value that is not null.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some((choice, records)) = data.split_first() else { return };
    let taken = match oms_logs::fuzz::custom(records, choice & 1 == 1) {
        Ok(taken) => taken,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    // Numbers beyond a double are text to us and an error to this parser.
    let Ok(given) = serde_json::from_slice::<Value>(records) else { return };
    let given = match given {
        Value::Array(records) => records,
        record => vec![record],
    };
    assert_eq!(given.len(), taken.len());
    for (record, values) in given.iter().zip(taken) {
        let record = record.as_object().expect("others are refused");
        assert!(values >= record.values().filter(|value| !value.is_null()).count());
    }
});
