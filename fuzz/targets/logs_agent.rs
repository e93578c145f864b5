//! The agent's state and a followed file's position: whatever the files hold, the agent opens or
//! says which is damaged; and from any position a file is read on without an error.
#![no_main]

use async_trait::async_trait;
use libfuzzer_sys::fuzz_target;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::record::{Batch, RecordSink, SinkError};
use oms_core::testkit::disk::SimDisk;
use oms_logs::source::Agent;
use oms_logs::source::tail::{LinePosition, LineTail, StartAt};
use std::sync::Arc;

#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl RecordSink for Nowhere {
    async fn write(&self, _batch: Batch) -> Result<(), SinkError> {
        Ok(())
    }
}

const NAMES: [&str; 5] = [
    "identity",
    "acknowledged",
    "spool/00000000000000000001",
    "spool/00000000000000000002",
    "spool/18446744073709551615",
];

fn state(data: &[u8]) {
    let disk = SimDisk::default();
    for (kind, piece) in fuzz::pieces(data).take(6) {
        let head = format!("oms-agent-1 {:08x}\n", crc32c::crc32c(piece));
        let bytes = [head.as_bytes(), piece].concat();
        let bytes = if kind & 0x80 == 0 { bytes } else { piece.to_vec() };
        fuzz::put(&disk, NAMES[usize::from(kind & 0x7f) % NAMES.len()], &bytes);
    }
    let agent = Agent::builder(Arc::new(Nowhere))
        .state_disk(Arc::new(disk))
        .clock(Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)))
        .entropy(Arc::new(SeededEntropy::new(1)))
        .computer("fuzz")
        .build();
    drop(agent);
}

fn tail(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.expect("a folder");
    let path = folder.path().join("log");
    std::fs::write(&path, data.get(end + 1..).unwrap_or_default()).expect("written");
    let mut tail = LineTail::new(&path, StartAt::Beginning);
    if let Ok(position) = serde_json::from_slice::<LinePosition>(&data[..end]) {
        tail.resume(position);
    }
    for _ in 0..3 {
        let lines = tail.collect().expect("a regular file is read");
        assert!(lines.lines.iter().all(|line| !line.text.is_empty() && !line.text.contains('\n')));
        let position = serde_json::to_vec(&tail.position()).expect("a position has a JSON form");
        tail.resume(serde_json::from_slice(&position).expect("it reads back"));
    }
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    if kind % 2 == 0 { state(rest) } else { tail(rest) }
});
