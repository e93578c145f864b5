//! The write-ahead log: where a batch is when it is acknowledged.
//!
//! One log serves all tables. It is a row of numbered segment files; each entry has the next log
//! sequence (`lsn`), which is also the version of the Delta transaction that later carries it.
//!
//! ```text
//!  writers ──► queue ──► syncer thread: write one group, sync once ──► publish ──► acknowledge
//!
//!  000000000007.wal  header ▪ group group group          closed: removed once every table that it
//!  000000000008.wal  header ▪ group gr                   active: a torn tail is cut on recovery
//! ```
//!
//! Why it recovers exactly what was acknowledged:
//! - A group is one write and one sync, and the next group waits for the sync. So at most one group
//!   is ever incomplete, and it is the last thing in its segment. A broken group with a whole one
//!   behind it is damage, and is reported by segment and offset.
//! - After a failed write or sync the segment is given up. The next one says in its header how much
//!   of it counts, so that a group which failed stays failed although its bytes may be there.
//! - A segment gets its name after its header is synced, so a segment with a broken header is
//!   damage too.
//! - Each header holds every batch that was written before it, so that removing old segments
//!   forgets no producer.

mod frame;
mod recover;
mod syncer;

#[cfg(test)]
mod simulation;

pub(crate) use frame::{Entry, Section};
pub(crate) use recover::open;
pub(crate) use syncer::{Append, Syncer};

use crate::Error;
use crate::ingest::producer::Producers;
use frame::{GROUP_MAGIC, Group, HEADER_MAGIC, Header, PAYLOAD_BYTES_MAX};
use oms_core::disk::{Disk, DiskError, DiskFile, OpenMode};
use oms_core::{Entropy, EntropyExt};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A frame of a header or a group, for the fuzz targets.
#[cfg(feature = "testkit")]
pub(crate) fn frame_of(is_header: bool, salt: u32, payload: &[u8]) -> Vec<u8> {
    frame::frame(if is_header { HEADER_MAGIC } else { GROUP_MAGIC }, salt, payload)
}

/// Where the segments are, on the log's disk.
const FOLDER: &str = "wal";

/// Why a batch is not in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalError {
    /// The disk refused. The segment in use is given up and the next batch starts a new one.
    #[error("log cannot be written")]
    Disk(#[from] DiskError),
    /// The entries together are longer than a group can be.
    #[error("batch is too long for the log. bytes=`{bytes}`, limit_bytes=`{PAYLOAD_BYTES_MAX}`")]
    TooLong { bytes: usize },
}

impl From<WalError> for Error {
    fn from(error: WalError) -> Self {
        match error {
            WalError::Disk(error) => Self::Disk(error),
            WalError::TooLong { .. } => Self::Internal { what: error.to_string() },
        }
    }
}

/// A segment that is not written to any more.
#[derive(Debug)]
struct Closed {
    index: u64,
    /// The log sequence of its last entry, or of the entry before it if it has none.
    last: u64,
}

/// The segment that is written to.
#[derive(Debug)]
struct Active {
    index: u64,
    file: Box<dyn DiskFile>,
    salt: u32,
    /// Bytes that were synced.
    len: u64,
    has_groups: bool,
}

/// The log, open for writing. Its calls block.
#[derive(Debug)]
pub(crate) struct Wal {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    producers: Arc<Mutex<Producers>>,
    segment_bytes_max: u64,
    closed: VecDeque<Closed>,
    active: Option<Active>,
    /// The index of the next segment.
    next_index: u64,
    /// How much of the last closed segment counts.
    previous_end: u64,
    /// The log sequence of the next entry.
    next: u64,
}

impl Wal {
    /// The log sequence of the last entry.
    pub(crate) fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Which batches were written, shared with whoever wants to know before writing.
    pub(crate) fn producers(&self) -> Arc<Mutex<Producers>> {
        Arc::clone(&self.producers)
    }

    /// Writes a group and syncs it; answers the log sequence of its first entry.
    ///
    /// # Errors
    /// [`WalError`]; then no entry is in the log.
    pub(crate) fn append<'a>(
        &mut self,
        entries: impl ExactSizeIterator<Item = &'a Entry>,
    ) -> Result<u64, WalError> {
        let count = entries.len() as u64;
        let payload = Group::encode(self.next, entries);
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(WalError::TooLong { bytes: payload.len() });
        }
        let is_full = |active: &Active| {
            active.has_groups && active.len + payload.len() as u64 > self.segment_bytes_max
        };
        if self.active.as_ref().is_some_and(is_full) {
            self.close_active();
        }
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.start_segment()?,
        };
        let bytes = frame::frame(GROUP_MAGIC, active.salt, &payload);
        let written = active.file.write_at(active.len, &bytes).and_then(|()| active.file.sync());
        if let Err(error) = written {
            // Cutting now is a courtesy to whoever looks at the file: the next header decides.
            let _ = active.file.set_len(active.len);
            self.give_up(&active);
            return Err(error.into());
        }
        active.len += bytes.len() as u64;
        active.has_groups = true;
        self.active = Some(active);
        let first = self.next;
        self.next += count;
        Ok(first)
    }

    /// Starts a new segment, so that the ones before it can be removed; answers the last log
    /// sequence before it.
    ///
    /// # Errors
    /// [`WalError::Disk`]; the log goes on with the next call.
    pub(crate) fn rotate(&mut self) -> Result<u64, WalError> {
        if self.active.as_ref().is_some_and(|active| active.has_groups) {
            self.close_active();
        }
        if self.active.is_none() {
            self.active = Some(self.start_segment()?);
        }
        Ok(self.last())
    }

    /// Removes the closed segments that hold nothing after `through`, oldest first.
    ///
    /// # Errors
    /// [`WalError::Disk`]; what is left is removed by a later call.
    pub(crate) fn remove_through(&mut self, through: u64) -> Result<(), WalError> {
        while let Some(oldest) = self.closed.front().filter(|oldest| oldest.last <= through) {
            if self.active.is_none() && self.closed.len() == 1 {
                break; // The next header has to find it.
            }
            self.disk.remove(&segment_path(oldest.index))?;
            // Each removal is synced before the next, so a gap in the numbers is always damage.
            self.disk.sync_dir(Path::new(FOLDER))?;
            self.closed.pop_front();
        }
        Ok(())
    }

    fn close_active(&mut self) {
        if let Some(active) = self.active.take() {
            self.give_up(&active);
        }
    }

    fn give_up(&mut self, active: &Active) {
        self.previous_end = active.len;
        self.closed.push_back(Closed { index: active.index, last: self.last() });
    }

    /// Writes the header under a temporary name, syncs it, and gives it its name.
    fn start_segment(&mut self) -> Result<Active, WalError> {
        let header = Header {
            salt: self.entropy.number() as u32,
            first: self.next,
            previous_end: self.previous_end,
            producers: self.producers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        let bytes = frame::frame(HEADER_MAGIC, 0, &header.encode());
        let index = self.next_index;
        let (temporary, path) = (temporary_path(index), segment_path(index));
        let file = self.disk.open(&temporary, OpenMode::OpenOrCreate)?;
        file.set_len(0)?;
        file.write_at(0, &bytes)?;
        file.sync()?;
        drop(file);
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir(Path::new(FOLDER))?;
        let file = self.disk.open(&path, OpenMode::Write)?;
        self.next_index += 1;
        Ok(Active { index, file, salt: header.salt, len: bytes.len() as u64, has_groups: false })
    }
}

fn segment_path(index: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("{index:012}.wal"))
}

fn temporary_path(index: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("{index:012}.tmp"))
}
