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
//!   is ever incomplete, and none begins behind it. A broken group with the head of a later one
//!   behind it is damage, and is reported by segment and offset.
//! - After a failed write or sync the segment is given up. The next one says in its header how much
//!   of it counts, so that a group which failed stays failed although its bytes may be there.
//! - A segment gets its name after its header is synced, so a segment with a broken header is
//!   damage too.
//! - Each header holds every batch that was written before it, so that removing old segments
//!   forgets no producer.
//! - A file that is there may become the next segment (see [`spare`]): zeros, which are no group, or
//!   a segment that is not needed any more. Its old groups never pass for new ones:
//!   their log sequences are before the new header's, and their heads have another salt.
//!
//! A process without a disk has its log in an object store, where a group is an object: see [`store`].
//!
//! A log with damage is opened only by who says so. Then everything that can be read is taken, what
//! cannot is told, and a damaged segment is moved into a folder of its own, in place of being
//! removed, once the tables hold what was read of it.

mod frame;
mod held;
mod keeper;
mod recover;
mod spare;
mod store;
mod syncer;

#[cfg(test)]
mod simulation;

pub(crate) use frame::{Encoded, Entry, EntryWriter};
pub(crate) use held::{put_held, read_held, remove_held};
pub(crate) use recover::{Open, open};
pub(crate) use store::{LogFolder, Remains, StoreLog, read as read_objects};
pub(crate) use syncer::{Append, Syncer};

use crate::Error;
use crate::ingest::producer::Producers;
use frame::{BODY_BYTES_MAX, Header, body_bytes, header_frame, put_group};
use oms_core::disk::{Disk, DiskError, DiskFile, OpenMode};
use oms_core::{Entropy, EntropyExt};
use spare::{PREPARE_BYTES_MIN, SPARES_MAX, Spare};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A frame of a header, or a group of one entry, for the fuzz targets.
#[cfg(feature = "testkit")]
pub(crate) fn frame_of(is_header: bool, salt: u32, payload: &[u8]) -> Vec<u8> {
    if is_header {
        return header_frame(payload);
    }
    let (first, entry) = payload.split_at_checked(8).unwrap_or((&[], payload));
    let first = first.try_into().map_or(1, u64::from_le_bytes);
    let mut group = Vec::new();
    put_group(&mut group, salt, first, [Encoded::of(entry.to_vec())].iter());
    group
}

/// Where the segments are, on the log's disk.
const FOLDER: &str = "wal";

/// Where damaged segments are moved to.
const QUARANTINE: &str = "wal/quarantine";

/// A buffer of a group that is longer is not kept.
const BUFFER_BYTES_MAX: usize = 16 << 20;

/// Why a batch is not in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalError {
    /// The disk refused. The segment in use is given up and the next batch starts a new one.
    #[error("log cannot be written")]
    Disk(#[from] DiskError),
    /// The entries together are longer than a group can be.
    #[error("batch is too long for the log. bytes=`{bytes}`, limit_bytes=`{BODY_BYTES_MAX}`")]
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
    /// The length of its file, in bytes.
    file_len: u64,
    is_damaged: bool,
}

/// The segment that is written to.
#[derive(Debug)]
struct Active {
    index: u64,
    file: Box<dyn DiskFile>,
    salt: u32,
    /// Bytes that were synced.
    len: u64,
    /// Bytes that the file had before the first of them.
    prepared_len: u64,
    has_groups: bool,
}

/// The log, open for writing. Its calls block.
#[derive(Debug)]
pub(crate) struct Wal {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    producers: Arc<Mutex<Producers>>,
    segment_bytes_max: u64,
    spare_bytes_min: u64,
    closed: VecDeque<Closed>,
    active: Option<Active>,
    /// Files that become the next segments.
    spares: Vec<Spare>,
    /// Where a group is put together.
    buffer: Vec<u8>,
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
        entries: impl ExactSizeIterator<Item = &'a Encoded> + Clone,
    ) -> Result<u64, WalError> {
        let count = entries.len() as u64;
        let bytes = body_bytes(entries.clone());
        if bytes > BODY_BYTES_MAX {
            return Err(WalError::TooLong { bytes });
        }
        let is_full = |active: &Active| {
            active.has_groups && active.len + bytes as u64 > self.segment_bytes_max
        };
        if self.active.as_ref().is_some_and(is_full) {
            self.close_active();
        }
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.start_segment()?,
        };
        put_group(&mut self.buffer, active.salt, self.next, entries);
        let written = active.file.write_at(active.len, &self.buffer);
        if let Err(error) = written.and_then(|()| active.file.sync()) {
            // Cutting now is a courtesy to whoever looks at the file: the next header decides.
            let _ = active.file.set_len(active.len);
            active.prepared_len = 0;
            self.give_up(&active);
            if error.source.kind() == io::ErrorKind::StorageFull {
                self.remove_spares();
            }
            return Err(error.into());
        }
        active.len += self.buffer.len() as u64;
        active.has_groups = true;
        self.active = Some(active);
        if self.buffer.capacity() > BUFFER_BYTES_MAX {
            self.buffer = Vec::new();
        }
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

    /// Whether the log would write to a spare file if there was one, now or soon.
    fn wants_spare(&self) -> bool {
        let would_use = |active: &Active| {
            let is_longer = active.len > active.prepared_len;
            active.len >= PREPARE_BYTES_MIN
                && (is_longer || active.len > self.segment_bytes_max / 2)
        };
        let can_use = (2 * PREPARE_BYTES_MIN).max(self.spare_bytes_min) <= self.segment_bytes_max;
        can_use && self.spares.is_empty() && self.active.as_ref().is_some_and(would_use)
    }

    /// Takes a spare file, and goes on in it if the segment in use is growing.
    fn add_spare(&mut self, spare: Spare) {
        self.spares.push(spare);
        let is_growing = |active: &Active| active.has_groups && active.len > active.prepared_len;
        if self.active.as_ref().is_some_and(is_growing) {
            self.close_active();
        }
    }

    /// Removes the closed segments that hold nothing after `through`, oldest first. A few are kept
    /// to be used again; damaged ones are moved aside.
    ///
    /// # Errors
    /// [`WalError::Disk`]; what is left is removed by a later call.
    pub(crate) fn remove_through(&mut self, through: u64) -> Result<(), WalError> {
        while let Some(oldest) = self.closed.front().filter(|oldest| oldest.last <= through) {
            if self.active.is_none() && self.closed.len() == 1 {
                break; // The next header has to find it.
            }
            let (index, path) = (oldest.index, segment_path(oldest.index));
            let spare = Spare { path: spare_path(index), len: oldest.file_len };
            let is_spare = self.spares.len() < SPARES_MAX
                && spare.len >= self.spare_bytes_min
                && !oldest.is_damaged;
            let gone = if oldest.is_damaged {
                self.disk.create_dir_all(Path::new(QUARANTINE))?;
                // Not every file system renames between folders in one step: after a power failure
                // the file may have both names, and then renaming it would do nothing.
                match self.disk.remove(&quarantine_path(index)) {
                    Err(error) if error.source.kind() != io::ErrorKind::NotFound => {
                        return Err(error.into());
                    }
                    _ => {}
                }
                let gone = self.disk.rename(&path, &quarantine_path(index));
                self.disk.sync_dir(Path::new(QUARANTINE))?;
                gone
            } else if is_spare {
                self.disk.rename(&path, &spare.path)
            } else {
                self.disk.remove(&path)
            };
            match gone {
                // An earlier call did it and failed after that.
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
                gone => gone?,
            }
            // Each removal is synced before the next, so a gap in the numbers is always damage.
            self.disk.sync_dir(Path::new(FOLDER))?;
            if is_spare {
                self.spares.push(spare);
            }
            self.closed.pop_front();
        }
        Ok(())
    }

    /// Removes the files that are kept to become segments: where the disk is full, others need the
    /// room more.
    pub(crate) fn remove_spares(&mut self) {
        for spare in self.spares.drain(..) {
            // What is left is removed when the log is opened.
            let _ = self.disk.remove(&spare.path);
        }
    }

    fn close_active(&mut self) {
        if let Some(active) = self.active.take() {
            self.give_up(&active);
        }
    }

    fn give_up(&mut self, active: &Active) {
        self.previous_end = active.len;
        let (index, last) = (active.index, self.last());
        let file_len = active.len.max(active.prepared_len);
        self.closed.push_back(Closed { index, last, file_len, is_damaged: false });
    }

    /// Writes the header under another name, syncs it, and gives the file its name.
    fn start_segment(&mut self) -> Result<Active, WalError> {
        let header = Header {
            salt: self.entropy.number() as u32,
            first: self.next,
            previous_end: self.previous_end,
            producers: Some(self.producers.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        };
        let bytes = header_frame(&header.encode());
        let path = segment_path(self.next_index);
        let fresh = || Spare { path: temporary_path(self.next_index), len: 0 };
        let start = self.spares.pop().unwrap_or_else(fresh);
        if let Err(error) = self.name_segment(&start, &path, &bytes) {
            // The next attempt starts with another file, and opening removes what is left.
            let _ = self.disk.remove(&start.path);
            return Err(error.into());
        }
        let file = self.disk.open(&path, OpenMode::Write)?;
        let index = self.next_index;
        self.next_index += 1;
        Ok(Active {
            index,
            file,
            salt: header.salt,
            len: bytes.len() as u64,
            prepared_len: start.len,
            has_groups: false,
        })
    }

    fn name_segment(&self, start: &Spare, path: &Path, header: &[u8]) -> Result<(), DiskError> {
        let file = self.disk.open(&start.path, OpenMode::OpenOrCreate)?;
        if start.len == 0 {
            file.set_len(0)?;
        }
        file.write_at(0, header)?;
        file.sync()?;
        drop(file);
        self.disk.rename(&start.path, path)?;
        self.disk.sync_dir(Path::new(FOLDER))
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.remove_spares();
    }
}

/// Where a segment of the log in `folder` is.
fn segment_name(folder: &str, index: u64) -> String {
    format!("{folder}/{index:012}.wal")
}

/// Where a damaged one is moved to.
fn quarantine_name(folder: &str, index: u64) -> String {
    format!("{folder}/quarantine/{index:012}.wal")
}

fn segment_path(index: u64) -> PathBuf {
    segment_name(FOLDER, index).into()
}

fn temporary_path(index: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("{index:012}.tmp"))
}

fn spare_path(index: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("{index:012}.spare"))
}

fn quarantine_path(index: u64) -> PathBuf {
    quarantine_name(FOLDER, index).into()
}
