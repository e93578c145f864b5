//! The node's reading of a server's answers: whatever comes back, a run ends with a report or an
//! error, and the node reads its own state again afterwards.
#![no_main]

use async_trait::async_trait;
use libfuzzer_sys::fuzz_target;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::journal::{Journal, MemoryJournal};
use oms_core::testkit::disk::SimDisk;
use oms_dsc::node::{LcmBuilder, Transport};
use oms_dsc::protocol::{Checksum, Reply, Request};
use oms_dsc::{Error, Lcm, Metaconfiguration};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

#[derive(Debug)]
struct Scripted(Mutex<VecDeque<(u8, Vec<u8>)>>);

#[async_trait]
impl Transport for Scripted {
    async fn exchange(&self, request: &Request) -> Result<Reply, Error> {
        let next = self.0.lock().expect("not poisoned").pop_front();
        let Some((kind, body)) = next else {
            let operation = request.operation.name();
            return Err(Error::Unreachable { operation, reason: "the script is over".into() });
        };
        let status = [200, 204, 404, 500, 401, 302][usize::from(kind & 7) % 6];
        let checksum = match kind >> 3 & 3 {
            0 => None,
            1 => Some(String::from_utf8_lossy(&body).into_owned()),
            _ => Some(Checksum::of(&body).to_string()),
        };
        let mut headers: Vec<_> = checksum.map(|sum| ("Checksum", sum)).into_iter().collect();
        headers.push(("ChecksumAlgorithm", "SHA-256".to_owned()));
        Ok(Reply { status, headers, body: body.into() })
    }
}

fn node(journal: &Arc<dyn Journal>, disk: &SimDisk, script: Scripted) -> LcmBuilder {
    let mut settings = Metaconfiguration::new("https://pull.example", "a key".into());
    settings.configuration_names = vec!["a".to_owned()];
    settings.node_name = "node".to_owned();
    Lcm::builder("", settings)
        .journal(Arc::clone(journal))
        .disk(Arc::new(disk.clone()))
        .transport(Arc::new(script))
        .clock(Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)))
        .entropy(Arc::new(SeededEntropy::new(1)))
}

async fn run(data: &[u8]) {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let disk = SimDisk::default();
    let script = fuzz::pieces(data).take(12).map(|(kind, body)| (kind, body.to_vec())).collect();
    let mut lcm = node(&journal, &disk, Scripted(Mutex::new(script))).build().await.expect("new");
    for _ in 0..2 {
        let _ = lcm.run().await;
    }
    let record = lcm.record().await.expect("a record");
    drop(lcm);
    let again = node(&journal, &disk, Scripted(Mutex::default())).build().await;
    let again = again.expect("its own state reads back").record().await.expect("a record");
    assert_eq!(format!("{again:?}"), format!("{record:?}"));
}

fuzz_target!(|data: &[u8]| fuzz::block_on(run(data)));
