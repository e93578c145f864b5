//! The way between the sites: it loses, doubles and reorders, as a seed says, and may be cut.

use async_trait::async_trait;
use oms_core::EntropyExt as _;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::sim::Mishaps;
use oms_recovery::Error;
use oms_recovery::machine::disk::BlockDevice as _;
use oms_recovery::replication::TrackedDevice;
use oms_recovery::replication::channel::Link;
use oms_recovery::replication::primary::{Outcome, PrimaryEnd, SentCounts};
use oms_recovery::replication::replica::Replica;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// How often the sender begins again after silence before it gives up.
const TICKS_MAX: u32 = 60;

/// How many messages under way another can overtake.
const OVERTAKEN_MAX: u64 = 4;

#[derive(Debug)]
pub(super) struct SimLink {
    draws: SeededEntropy,
    /// How many of a thousand messages are lost, and how many arrive twice.
    per_mille: AtomicU64,
    is_cut: AtomicBool,
    mishaps: Mutex<Mishaps>,
}

#[derive(Debug)]
enum Way {
    There(Vec<u8>),
    Back(Vec<u8>),
}

impl SimLink {
    pub(super) fn new(seed: u64, per_mille: u64) -> Self {
        Self {
            draws: SeededEntropy::new(seed),
            per_mille: AtomicU64::new(per_mille),
            is_cut: AtomicBool::new(false),
            mishaps: Mutex::default(),
        }
    }

    pub(super) fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }

    pub(super) fn calm(&self) {
        self.cut(false);
        self.per_mille.store(0, Ordering::Relaxed);
    }

    /// How often what went wrong on the way.
    pub(super) fn mishaps(&self) -> Mishaps {
        *self.mishaps.lock().expect("not poisoned")
    }

    fn strikes(&self) -> bool {
        self.draws.below(1_000) < self.per_mille.load(Ordering::Relaxed)
    }

    fn send(&self, under_way: &mut Vec<Way>, message: impl Fn() -> Way) {
        let mut mishaps = self.mishaps.lock().expect("not poisoned");
        if self.is_cut.load(Ordering::Relaxed) {
            mishaps.cut += 1;
            return;
        }
        if self.strikes() {
            mishaps.lost += 1;
            return;
        }
        under_way.push(message());
        if self.strikes() {
            mishaps.doubled += 1;
            under_way.push(message());
        }
    }
}

#[async_trait]
impl Link for SimLink {
    /// One message after the other, so that a seed does the same each time.
    async fn replicate(
        &self,
        item: Uuid,
        device: Arc<TrackedDevice>,
        replica: Arc<Mutex<Replica>>,
    ) -> Result<(Outcome, SentCounts), Error> {
        let mut end = PrimaryEnd::new(item, Arc::clone(&device));
        device.flush()?;
        let through = device.status().durable;
        let (mut under_way, mut ticks) = (Vec::new(), 0);
        loop {
            for message in end.poll()? {
                self.send(&mut under_way, || Way::There(message.clone()));
            }
            if let Some(outcome) = end.outcome(through) {
                return Ok((outcome, end.counts()));
            }
            if under_way.is_empty() {
                ticks += 1;
                if ticks > TICKS_MAX {
                    return Err(Error::ChannelClosed);
                }
                end.tick();
                continue;
            }
            let next = self.draws.below(OVERTAKEN_MAX.min(under_way.len() as u64));
            self.mishaps.lock().expect("not poisoned").overtaken += u64::from(next > 0);
            match under_way.remove(next as usize) {
                Way::There(message) => {
                    let answer = replica.lock().expect("not poisoned").handle(&message);
                    if let Some(answer) = answer {
                        self.send(&mut under_way, || Way::Back(answer.clone()));
                    }
                }
                Way::Back(message) => end.receive(&message)?,
            }
        }
    }
}
