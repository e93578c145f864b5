//! A seam that fails.

use crate::disk::{Disk, DiskError, DiskFile, DiskLock, OpenMode};
use crate::entropy::{EntropyExt, SeededEntropy};
use crate::journal::{Append, Event, Head, HistoryId, Journal, JournalError, Snapshot};
use async_trait::async_trait;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

/// How often a seam fails, changed while it is in use. It never fails until it is told to.
#[derive(Debug)]
pub struct Faults {
    draws: SeededEntropy,
    before: AtomicU16,
    after: AtomicU16,
    count: AtomicU64,
}

impl Faults {
    /// Repeatable faults.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            draws: SeededEntropy::new(seed),
            before: AtomicU16::new(0),
            after: AtomicU16::new(0),
            count: AtomicU64::new(0),
        }
    }

    /// How many of a thousand calls fail without any effect.
    pub fn set_before(&self, per_mille: u16) {
        self.before.store(per_mille, Ordering::Relaxed);
    }

    /// How many of a thousand calls take effect and then fail: the answer is lost.
    pub fn set_after(&self, per_mille: u16) {
        self.after.store(per_mille, Ordering::Relaxed);
    }

    /// How many faults there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn strikes(&self, per_mille: &AtomicU16) -> bool {
        let strikes = self.draws.below(1000) < u64::from(per_mille.load(Ordering::Relaxed));
        self.count.fetch_add(u64::from(strikes), Ordering::Relaxed);
        strikes
    }

    fn journal(&self, per_mille: &AtomicU16, when: &str) -> Result<(), JournalError> {
        if self.strikes(per_mille) {
            return Err(JournalError::Unavailable {
                reason: format!("injected {when} the effect"),
            });
        }
        Ok(())
    }

    fn disk(
        &self,
        per_mille: &AtomicU16,
        operation: &'static str,
        path: &Path,
    ) -> Result<(), DiskError> {
        if self.strikes(per_mille) {
            let source = io::Error::other("injected");
            return Err(DiskError { operation, path: path.to_owned(), source });
        }
        Ok(())
    }
}

/// Wraps a [`Journal`] or a [`Disk`] with [`Faults`].
#[derive(Debug)]
pub struct Faulty<T> {
    inner: T,
    faults: Arc<Faults>,
}

impl<T> Faulty<T> {
    /// The same seam with faults.
    #[must_use]
    pub const fn new(inner: T, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }

    /// The seam without faults.
    #[must_use]
    pub const fn inner(&self) -> &T {
        &self.inner
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<T: Journal> Journal for Faulty<T> {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<u64>, JournalError> {
        self.faults.journal(&self.faults.before, "before")?;
        let versions = self.inner.append(appends).await?;
        self.faults.journal(&self.faults.after, "after")?;
        Ok(versions)
    }

    async fn read(
        &self,
        history: &HistoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.read(history, after, limit).await
    }

    async fn read_all(&self, after: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.read_all(after, limit).await
    }

    async fn wait(&self, after: u64) -> Result<u64, JournalError> {
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.wait(after).await
    }

    async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, JournalError> {
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.list(kind, after, limit).await
    }

    async fn save_snapshot(
        &self,
        history: &HistoryId,
        snapshot: Snapshot,
    ) -> Result<(), JournalError> {
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.save_snapshot(history, snapshot).await?;
        self.faults.journal(&self.faults.after, "after")
    }

    async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError> {
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.snapshot(history).await
    }

    async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.delete(history, expected).await?;
        self.faults.journal(&self.faults.after, "after")
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Disk> Disk for Faulty<T> {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn DiskFile>, DiskError> {
        self.faults.disk(&self.faults.before, "open", path)?;
        let inner = self.inner.open(path, mode)?;
        let (faults, path) = (Arc::clone(&self.faults), path.to_owned());
        Ok(Box::new(FaultyFile { inner, faults, path }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.faults.disk(&self.faults.before, "rename", from)?;
        self.inner.rename(from, to)?;
        self.faults.disk(&self.faults.after, "rename", from)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.faults.disk(&self.faults.before, "rename", from)?;
        self.inner.rename_new(from, to)?;
        self.faults.disk(&self.faults.after, "rename", from)
    }

    fn lock(&self, path: &Path) -> Result<DiskLock, DiskError> {
        self.faults.disk(&self.faults.before, "lock", path)?;
        self.inner.lock(path)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.faults.disk(&self.faults.before, "remove", path)?;
        self.inner.remove(path)?;
        self.faults.disk(&self.faults.after, "remove", path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.faults.disk(&self.faults.before, "create folder", path)?;
        self.inner.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        self.faults.disk(&self.faults.before, "list", path)?;
        self.inner.list(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.faults.disk(&self.faults.before, "sync folder", path)?;
        self.inner.sync_dir(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn DiskFile>,
    faults: Arc<Faults>,
    path: std::path::PathBuf,
}

#[deny(clippy::missing_trait_methods)]
impl DiskFile for FaultyFile {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        self.faults.disk(&self.faults.before, "read", &self.path)?;
        self.inner.read_at(offset, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.faults.disk(&self.faults.before, "write", &self.path)?;
        self.inner.write_at(offset, bytes)?;
        self.faults.disk(&self.faults.after, "write", &self.path)
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.inner.len()
    }

    fn is_empty(&self) -> Result<bool, DiskError> {
        self.inner.is_empty()
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.faults.disk(&self.faults.before, "set length", &self.path)?;
        self.inner.set_len(len)
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.faults.disk(&self.faults.before, "sync", &self.path)?;
        self.inner.sync()?;
        self.faults.disk(&self.faults.after, "sync", &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Envelope, JournalExt, MemoryJournal};
    use jiff::Timestamp;

    /// A wrapper that is told to do no harm is the seam itself.
    mod journal {
        use super::*;

        crate::journal_conformance!(|| async {
            Faulty::new(MemoryJournal::default(), Arc::new(Faults::new(1)))
        });
    }

    mod disk {
        use super::*;
        use crate::testkit::disk::SimDisk;

        crate::disk_conformance!(|| {
            ((), Faulty::new(SimDisk::default(), Arc::new(Faults::new(1))))
        });

        #[test]
        fn what_is_synced_survives() {
            let disk = Faulty::new(SimDisk::default(), Arc::new(Faults::new(1)));
            let crash = |seed| disk.inner().crash(&SeededEntropy::new(seed));
            crate::testkit::disk::what_is_synced_survives(&disk, &crash);
        }
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_event_and_a_refusal_does_not() {
        let faults = Arc::new(Faults::new(1));
        let journal = Faulty::new(MemoryJournal::default(), Arc::clone(&faults));
        let history = HistoryId::new("job", "1").expect("a name");
        let event =
            || vec![Envelope::new("queued", 1, Timestamp::UNIX_EPOCH, "me", &()).expect("a body")];
        faults.set_before(1000);
        assert!(journal.append_to(&history, 0, event()).await.is_err());
        faults.set_before(0);
        assert_eq!(journal.read_whole(&history).await.expect("read").len(), 0);
        faults.set_after(1000);
        assert!(journal.append_to(&history, 0, event()).await.is_err());
        assert_eq!(journal.inner().read_whole(&history).await.expect("read").len(), 1);
        assert_eq!(faults.count(), 2);
    }
}
