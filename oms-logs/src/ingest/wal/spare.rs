//! Segments whose bytes are there before they are needed.
//!
//! A sync of bytes that are written over others does not have to wait for the file system's
//! journal, as one does that makes a file longer: on a busy disk that is tens of times shorter.
//! Where flushes are regular, segments that are not needed any more are written over; until then,
//! and where they are late, a thread of its own writes zeros.

use super::FOLDER;
use oms_core::disk::{Disk, DiskError, OpenMode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// The most segments that are kept to be used again.
pub(super) const SPARES_MAX: usize = 2;

/// From how many bytes on a segment shows that there is much to write.
pub(super) const PREPARE_BYTES_MIN: u64 = 1 << 20;

/// Zeros that are written and synced at a time, so that the log never waits for many.
const STEP_BYTES: usize = 1 << 20;

/// A file that becomes a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    /// Its length in bytes.
    pub(super) len: u64,
}

/// Makes spare files, one at a time. Dropping it ends and removes the one that is being made.
#[derive(Debug)]
pub(super) struct Preparer {
    disk: Arc<dyn Disk>,
    len: u64,
    made: u64,
    running: Option<Running>,
    /// What was refused once, as by a full disk, is not tried again.
    has_failed: bool,
}

#[derive(Debug)]
struct Running {
    thread: JoinHandle<Result<Option<Spare>, DiskError>>,
    is_stopped: Arc<AtomicBool>,
    path: PathBuf,
}

impl Preparer {
    /// Of files of `len` bytes.
    pub(super) fn new(disk: Arc<dyn Disk>, len: u64) -> Self {
        Self { disk, len, made: 0, running: None, has_failed: false }
    }

    /// Begins a file, unless one is being made.
    pub(super) fn begin(&mut self) {
        if self.running.is_some() || self.has_failed {
            return;
        }
        self.made += 1;
        let path = Path::new(FOLDER).join(format!("prepared-{}.tmp", self.made));
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (disk, len) = (Arc::clone(&self.disk), self.len);
        let work = (path.clone(), Arc::clone(&is_stopped));
        let thread = std::thread::Builder::new()
            .name("oms-logs-spare".to_owned())
            .spawn(move || prepare(disk.as_ref(), work.0, len, &work.1));
        match thread {
            Ok(thread) => self.running = Some(Running { thread, is_stopped, path }),
            Err(error) => {
                tracing::warn!(%error, "no thread to prepare a segment of the log");
                self.has_failed = true;
            }
        }
    }

    /// The file that was begun, once it is made.
    pub(super) fn made(&mut self) -> Option<Spare> {
        let running = self.running.take_if(|running| running.thread.is_finished())?;
        match running.thread.join() {
            Ok(Ok(made)) => return made,
            Ok(Err(error)) => tracing::warn!(%error, "no segment of the log is prepared"),
            Err(_) => tracing::error!("a segment of the log was prepared with a panic"),
        }
        let _ = self.disk.remove(&running.path);
        self.has_failed = true;
        None
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.is_stopped.store(true, Ordering::Relaxed);
        let _ = running.thread.join();
        // Opening the log would remove it, too.
        let _ = self.disk.remove(&running.path);
    }
}

/// Writes zeros; none if it was stopped.
fn prepare(
    disk: &dyn Disk,
    path: PathBuf,
    len: u64,
    is_stopped: &AtomicBool,
) -> Result<Option<Spare>, DiskError> {
    let file = disk.open(&path, OpenMode::OpenOrCreate)?;
    file.set_len(0)?;
    let zeros = vec![0; STEP_BYTES];
    for at in (0..len).step_by(STEP_BYTES) {
        if is_stopped.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let count = usize::try_from(len - at).unwrap_or(STEP_BYTES).min(STEP_BYTES);
        file.write_at(at, zeros.get(..count).unwrap_or(&zeros))?;
        file.sync()?;
    }
    Ok(Some(Spare { path, len }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::wal::{Append, EntryWriter, Open, Syncer, open};
    use oms_core::entropy::SeededEntropy;
    use oms_core::testkit::disk::SimDisk;

    const SEGMENT_BYTES: u64 = 4 << 20;

    fn opening(disk: &SimDisk) -> Open {
        Open {
            disk: Arc::new(disk.clone()),
            entropy: Arc::new(SeededEntropy::new(1)),
            segment_bytes_max: SEGMENT_BYTES,
            spare_bytes_min: SEGMENT_BYTES / 2,
            floor: 0,
            quarantine: false,
        }
    }

    async fn append(syncer: &Syncer, sequence: u64) -> Result<(), crate::Error> {
        let mut entry = EntryWriter::new("a".to_owned(), sequence, 0);
        entry.section("Perf", |out: &mut Vec<u8>| {
            out.resize(out.len() + 100_000, sequence as u8);
            Ok::<(), crate::Error>(())
        })?;
        syncer.append(Append { entry: entry.finish(), publish: Box::new(|_| ()) }).await
    }

    fn lengths(disk: &SimDisk, ending: &str) -> Vec<u64> {
        let names = disk.contents().into_iter();
        let kind = names.filter(|(path, _)| path.to_string_lossy().ends_with(ending));
        kind.map(|(_, bytes)| bytes.len() as u64).collect()
    }

    #[tokio::test]
    async fn a_busy_log_goes_on_in_segments_that_are_there_before() {
        let disk = SimDisk::default();
        let (wal, _) = open(opening(&disk), |_, _| Ok(())).expect("a new log");
        let syncer = Syncer::start(wal).expect("a thread");
        let mut sequence = 0;
        let is_prepared = |disk: &SimDisk| lengths(disk, ".wal").contains(&SEGMENT_BYTES);
        while !is_prepared(&disk) {
            sequence += 1;
            append(&syncer, sequence).await.expect("written");
            assert!(sequence < 2_000, "no segment is prepared");
        }
        // What is flushed is written over.
        for _ in 0..2 {
            let through = syncer.rotate().await.expect("rotated");
            syncer.remove_through(through).await.expect("removed");
            sequence += 1;
            append(&syncer, sequence).await.expect("written");
        }
        assert!(is_prepared(&disk), "{:?}", lengths(&disk, ".wal"));
        drop(syncer);
        assert_eq!((lengths(&disk, ".tmp").len(), lengths(&disk, ".spare").len()), (0, 0));
        disk.crash(&SeededEntropy::new(2));
        let mut held = Vec::new();
        let read = |lsn, _entry| {
            held.push(lsn);
            Ok(())
        };
        open(opening(&disk), read).expect("no damage");
        assert_eq!(held.last(), Some(&sequence));
    }

    #[test]
    fn a_disk_without_room_prepares_nothing_and_keeps_nothing() {
        let disk = SimDisk::default();
        disk.create_dir_all(Path::new(FOLDER)).expect("a folder");
        disk.set_capacity(Some(SEGMENT_BYTES / 2));
        let mut preparer = Preparer::new(Arc::new(disk.clone()), SEGMENT_BYTES);
        preparer.begin();
        while preparer.running.is_some() {
            assert_eq!(preparer.made(), None);
            std::thread::yield_now();
        }
        preparer.begin();
        assert!(preparer.running.is_none(), "it is not tried again");
        assert!(disk.contents().is_empty());
    }
}
