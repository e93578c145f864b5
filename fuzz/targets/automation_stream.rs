//! A job's stream file: whatever it holds, it is read or refused, and what recovery keeps of it is
//! what is read before and after.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_automation::job::JobId;
use oms_automation::stream::{StreamLimits, StreamStore};
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    let bytes = if kind % 2 == 0 {
        rest.to_vec()
    } else {
        // Frames whose length and checksum are right, whatever they hold.
        let mut bytes = b"OMSSTRM1".to_vec();
        for (_, payload) in fuzz::pieces(rest) {
            bytes.extend((payload.len() as u32).to_le_bytes());
            bytes.extend(crc32c::crc32c(payload).to_le_bytes());
            bytes.extend(payload);
        }
        bytes
    };
    let job = JobId(uuid::Uuid::nil());
    let disk = fuzz::disk_with(&format!("streams/{job}.stream"), &bytes);
    let store = StreamStore::open(Arc::new(disk), StreamLimits::default()).expect("a store");
    let read = || store.read(job, 0, usize::MAX, |_| true);
    let Ok(before) = read() else { return };
    if let Ok(Some(summary)) = store.recover(job) {
        // A sequence is from 1, so one of 0 is recovered and not read.
        assert!(summary.records >= before.len() as u64);
        assert_eq!(read().expect("what was recovered reads"), before);
    }
});
