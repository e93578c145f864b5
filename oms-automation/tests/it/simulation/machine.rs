//! The disk of the machine that the worker runs on: texts of runbooks, and streams of jobs.

use oms_automation::job::JobId;
use oms_automation::runbook::{ContentId, ContentStore};
use oms_automation::stream::{
    StreamEntry, StreamLimits, StreamStore, StreamSummary, StreamType, StreamWriter,
};
use oms_core::Entropy;
use oms_core::testkit::disk::{Forgotten, Losses, SimDisk};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Machine {
    disk: SimDisk,
    /// Streams that are being written by this life of the worker.
    writers: BTreeMap<JobId, StreamWriter>,
    /// What each process said that was taken, in order.
    said: BTreeMap<JobId, Vec<String>>,
}

impl Machine {
    /// A new disk, on which a kind of sync may be forgotten.
    pub(super) fn new(forgotten: Option<Forgotten>) -> Self {
        let disk = SimDisk::default();
        forgotten.into_iter().for_each(|forgotten| disk.forget(forgotten));
        Self { disk, ..Self::default() }
    }

    fn contents(&self) -> Result<ContentStore, oms_automation::Error> {
        ContentStore::open(Arc::new(self.disk.clone()))
    }

    fn streams(&self) -> Result<StreamStore, oms_automation::Error> {
        StreamStore::open(Arc::new(self.disk.clone()), StreamLimits::default())
    }

    /// Keeps a runbook's text; none if the disk fails.
    pub(super) fn publish(&self, text: &str) -> Option<ContentId> {
        self.contents().and_then(|contents| contents.put(text.as_bytes())).ok()
    }

    /// Reads a text back; none if the disk fails, or has lost it.
    pub(super) fn text(&self, id: &ContentId) -> Option<Vec<u8>> {
        self.contents().and_then(|contents| contents.get(id)).ok()
    }

    /// Begins a job's streams, as before its process is started. False if the disk fails.
    pub(super) fn begin(&mut self, job: JobId) -> bool {
        let begun = self.streams().and_then(|streams| streams.begin(job));
        let is_begun = begun.is_ok();
        self.writers.extend(begun.ok().map(|writer| (job, writer)));
        self.said.entry(job).or_default();
        is_begun
    }

    /// Keeps a line; the streams of a job whose line could not be kept are given up.
    pub(super) fn say(&mut self, job: JobId, time: jiff::Timestamp, text: String) -> bool {
        let Some(writer) = self.writers.get_mut(&job) else { return false };
        let said = self.said.entry(job).or_default();
        // Also one that fails can be there in the end, whole.
        said.push(text.clone());
        let stream_type = StreamType::of_line(&text);
        let entry = StreamEntry { time, stream_type, text, cut_bytes: 0 };
        let is_kept = writer.append(vec![entry]).is_ok();
        if !is_kept {
            self.writers.remove(&job);
        }
        is_kept
    }

    /// Makes a job's streams durable; none if they were given up, or the disk fails.
    pub(super) fn finish(&mut self, job: JobId) -> Option<StreamSummary> {
        self.writers.remove(&job)?.finish().ok()
    }

    /// Makes durable what a former life of the worker left of a job's streams.
    pub(super) fn recover(&self, job: JobId) -> Option<StreamSummary> {
        self.streams().and_then(|streams| streams.recover(job)).ok().flatten()
    }

    /// The next operations of the disk fail.
    pub(super) fn fail(&self, operations: u64) {
        self.disk.fail_next(operations, io::ErrorKind::Other);
    }

    /// Its power fails at a sync to come.
    pub(super) fn fail_from_sync(&self, kind: Forgotten, syncs: u64) {
        self.disk.fail_from_sync(kind, syncs);
    }

    /// Whether its power has failed.
    pub(super) fn is_broken(&self) -> bool {
        self.disk.is_broken()
    }

    /// The worker dies, and the machine goes on.
    pub(super) fn kill(&mut self) {
        self.writers.clear();
        self.disk.kill();
    }

    /// The machine dies: what was not synced is lost, kept or torn.
    pub(super) fn lose_power(&mut self, entropy: &dyn Entropy) {
        self.writers.clear();
        self.disk.crash(entropy);
    }

    /// What power failures did to its disk.
    pub(super) fn losses(&self) -> Losses {
        self.disk.losses()
    }

    /// The streams of a job that ended are what its end tells, and what its process said: all of it
    /// if it completed, or else a beginning.
    pub(super) fn audit(&self, seed: u64, job: JobId, told: StreamSummary, is_completed: bool) {
        let streams = self.streams().and_then(|streams| streams.read(job, 0, usize::MAX, |_| true));
        let records = streams.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let texts: Vec<&str> = records.iter().map(|record| record.text.as_str()).collect();
        let bytes: u64 = texts.iter().map(|text| text.len() as u64).sum();
        let found = (texts.len() as u64, bytes);
        assert_eq!(found, (told.records, told.bytes), "seed {seed}: streams of the job {job}");
        let said = &self.said[&job];
        assert!(texts.iter().eq(said.iter().take(texts.len())), "seed {seed}: {texts:?}");
        let is_whole = texts.len() == said.len();
        assert!(is_whole || !is_completed, "seed {seed}: completed, and lines are missing");
    }
}
