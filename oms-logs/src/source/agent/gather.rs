//! Collection from the data sources into the spool. All of it blocks.

use super::spool::{Positions, Spool, Stored};
use super::{SourceFailure, operation};
use crate::source::{DataSource, FIELD_BYTES_MAX, Moment, Notes, SourceError, weigh};
use oms_core::Record;
use oms_core::disk::DiskLock;
use std::collections::BTreeMap;

/// A batch is closed once it has so many records.
const BATCH_RECORDS_TARGET: usize = 5_000;

/// A batch is closed once it weighs so many bytes.
const BATCH_BYTES_TARGET: usize = 4 * 1024 * 1024;

/// The data sources, and what is durable of them.
#[derive(Debug)]
pub(super) struct Gatherer {
    sources: Vec<Slot>,
    spool: Spool,
    /// The positions behind the last batch that was stored.
    positions: Positions,
    /// The sequence of that batch.
    sequence: u64,
    /// Sequences and sizes of batches that the outbox may not have been told of: the answer to a
    /// collection is lost when its caller gives up waiting.
    untold: Vec<(u64, u64)>,
    /// Keeps other agents out of the state while it is open. It is here because a
    /// collection that nobody waits for any more ends after its agent.
    _lock: DiskLock,
}

#[derive(Debug)]
struct Slot {
    source: Box<dyn DataSource>,
    /// Whether it is asked with the next collection of this round.
    due: bool,
    /// The error that was recorded last, so that a lasting one is recorded once.
    failing: Option<String>,
}

/// What one collection gave.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) records: usize,
    pub(super) more: bool,
    pub(super) notes: Notes,
    pub(super) failures: Vec<SourceFailure>,
}

impl Gatherer {
    /// Takes the data sources to where they stopped.
    pub(super) fn new(
        sources: Vec<Box<dyn DataSource>>,
        spool: Spool,
        positions: Positions,
        sequence: u64,
        lock: DiskLock,
    ) -> Result<Self, SourceError> {
        let slot = |source| Slot { source, due: true, failing: None };
        let sources = sources.into_iter().map(slot).collect();
        let mut gatherer =
            Self { sources, spool, positions, sequence, untold: Vec::new(), _lock: lock };
        for slot in &mut gatherer.sources {
            let position = gatherer.positions.get(slot.source.name());
            slot.source.resume(position)?;
        }
        Ok(gatherer)
    }

    pub(super) fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Makes every data source due again.
    pub(super) fn begin_round(&mut self) {
        for slot in &mut self.sources {
            slot.due = true;
        }
    }

    /// The sequences and sizes of the batches that were stored, from `next` on.
    pub(super) fn stored_since(&mut self, next: u64) -> Vec<(u64, u64)> {
        self.untold.retain(|(sequence, _)| *sequence >= next);
        self.untold.clone()
    }

    /// Asks the due data sources until a batch is full, and stores what they gave as the next batch.
    /// On an error they are back where they were.
    pub(super) fn collect(&mut self, at: &Moment<'_>) -> Result<Gathered, SourceError> {
        let result = self.ask(at).and_then(|asked| self.store(asked));
        if result.is_err() {
            for slot in &mut self.sources {
                slot.source.resume(self.positions.get(slot.source.name()))?;
            }
        }
        result
    }

    fn ask(&mut self, at: &Moment<'_>) -> Result<Asked, SourceError> {
        let mut asked = Asked { positions: self.positions.clone(), ..Asked::default() };
        let mut bytes = 0;
        for slot in self.sources.iter_mut().filter(|slot| slot.due) {
            let name = slot.source.name().to_owned();
            let before = asked.records.len();
            let mut failing = None;
            match slot.source.collect(at) {
                Ok(collected) => {
                    slot.due = collected.more;
                    asked.gathered.notes.add(collected.notes);
                    asked.records.extend(collected.records);
                    if let Some(position) = slot.source.position() {
                        asked.positions.insert(name.clone(), position);
                    }
                    for what in losses(&collected.notes) {
                        let detail = format!("data source `{name}`: {what}");
                        asked.records.push(operation(at, "Warning", detail)?);
                    }
                }
                Err(error) => {
                    slot.due = false;
                    // What it cannot give now it gives later, from where it stood.
                    slot.source.resume(self.positions.get(&name))?;
                    let text = error.chain();
                    if slot.failing.as_ref() != Some(&text) {
                        let detail = format!("data source `{name}` failed: {text}");
                        asked.records.push(operation(at, "Error", detail)?);
                    }
                    let kind = error.kind();
                    failing = Some(text.clone());
                    asked.gathered.failures.push(SourceFailure {
                        source: name.clone(),
                        kind,
                        error: text,
                    });
                }
            }
            if failing.is_none() && slot.failing.is_some() {
                let detail = format!("data source `{name}` works again");
                asked.records.push(operation(at, "Succeeded", detail)?);
            }
            asked.failing.insert(name, failing);
            bytes += asked.records[before..].iter().map(weigh).sum::<usize>();
            if asked.records.len() >= BATCH_RECORDS_TARGET || bytes >= BATCH_BYTES_TARGET {
                break;
            }
        }
        asked.gathered.records = asked.records.len();
        asked.gathered.more = self.sources.iter().any(|slot| slot.due);
        Ok(asked)
    }

    fn store(&mut self, asked: Asked) -> Result<Gathered, SourceError> {
        let Asked { records, positions, failing, gathered } = asked;
        if !records.is_empty() || positions != self.positions {
            let sequence = self.sequence + 1;
            let stored = Stored { sequence, records, positions };
            let bytes = self.spool.put(&stored)?;
            self.positions = stored.positions;
            self.sequence = sequence;
            self.untold.push((sequence, bytes));
        }
        for slot in &mut self.sources {
            if let Some(failing) = failing.get(slot.source.name()) {
                slot.failing.clone_from(failing);
            }
        }
        Ok(gathered)
    }
}

/// What was lost of what a data source read, in words.
fn losses(notes: &Notes) -> impl Iterator<Item = String> {
    let Notes { lossy, truncated, gaps, unparsed: _whole } = *notes;
    let cut = (truncated > 0)
        .then(|| format!("{truncated} texts longer than {FIELD_BYTES_MAX} bytes were cut"));
    let lossy = (lossy > 0)
        .then(|| format!("{lossy} texts were not UTF-8, and what was not of them was replaced"));
    let gaps = (gaps > 0).then(|| {
        "a file was removed before it was read to its end, so some of it may be missing".to_owned()
    });
    [cut, lossy, gaps].into_iter().flatten()
}

/// What was collected and is not stored yet.
#[derive(Debug, Default)]
struct Asked {
    records: Vec<Record>,
    positions: Positions,
    failing: BTreeMap<String, Option<String>>,
    gathered: Gathered,
}
