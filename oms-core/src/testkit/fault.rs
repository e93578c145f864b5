//! A seam that fails.
//!
//! [`Faulty`] wraps a [`Journal`], a [`Disk`], a [`RecordSink`](crate::RecordSink) or (feature
//! `testkit-object-store`) an object store:
//!
//! | fault | journal, sink | disk | object store |
//! |---|---|---|---|
//! | before the effect | the call fails | the call fails | the call fails |
//! | after the effect (the answer is lost) | appended | written, renamed, synced | put, removed |
//! | torn | an append is whole | a part of a write | part of a body, of a listing, of the parts |
//! | late (others overtake it) | yes | its calls block | yes |
//! | latency, on a simulated clock | yes | yes | yes |
//!
//! Reordering of what a disk was not asked to sync is
//! [`SimDisk::crash`](super::disk::SimDisk::crash).

use crate::clock::ManualClock;
use crate::disk::{Disk, DiskError, DiskFile, DiskLock, OpenMode};
use crate::entropy::{EntropyExt, SeededEntropy};
use crate::journal::{Append, Event, Head, HistoryId, Journal, JournalError, Snapshot};
use async_trait::async_trait;
use std::collections::HashMap;
#[cfg(feature = "testkit-object-store")]
use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// How many turns of the other tasks a late call lets pass at most.
pub const LATE_TURNS_MAX: u64 = 32;

/// One kind of fault: how often, and how often so far.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "testkit-object-store"),
    expect(dead_code, reason = "only faults of object stores have names")
)]
pub(super) struct Rate {
    name: &'static str,
    per_mille: AtomicU16,
    count: AtomicU64,
}

impl Rate {
    const fn new(name: &'static str) -> Self {
        Self { name, per_mille: AtomicU16::new(0), count: AtomicU64::new(0) }
    }

    fn set(&self, per_mille: u16) {
        self.per_mille.store(per_mille, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// How often a seam fails, changed while it is in use. It never fails until it is told to.
#[derive(Debug)]
pub struct Faults {
    draws: SeededEntropy,
    pub(super) before: Rate,
    pub(super) after: Rate,
    pub(super) torn: Rate,
    late: Rate,
    naming: Naming,
    turn: AtomicU64,
    latency: Mutex<Option<(Arc<ManualClock>, Duration)>>,
}

/// What the faults of an object store depend on.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "testkit-object-store"),
    expect(dead_code, reason = "nothing else asks by name")
)]
enum Naming {
    /// The order of its calls.
    InOrder,
    /// What is done to which object in which turn.
    ByName { seed: u64 },
    /// That, and how many such calls the turn had before.
    ByCall { seed: u64, calls: Mutex<Calls> },
}

/// The calls of faults by call.
#[derive(Debug, Default)]
struct Calls {
    counts: HashMap<String, u64>,
    trace: Vec<String>,
}

super::tally::tally! {
    /// How many faults of each kind there were.
    FaultCounts {
        /// Calls that failed without any effect.
        before,
        /// Calls that took effect and whose answer was lost.
        after,
        /// Calls that took effect in part.
        torn,
        /// Calls that others overtook.
        late,
    }
}

impl Faults {
    /// Repeatable faults.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            draws: SeededEntropy::new(seed),
            before: Rate::new("before"),
            after: Rate::new("after"),
            torn: Rate::new("torn"),
            late: Rate::new("late"),
            naming: Naming::InOrder,
            turn: AtomicU64::new(0),
            latency: Mutex::new(None),
        }
    }

    /// Faults of an object store that depend on what is done to which object and on the turn, and not
    /// on the order of the calls: so they are repeatable for a caller that reads several objects at
    /// once. Within one turn the same call always ends the same way. Late calls are drawn in order.
    #[must_use]
    pub fn by_name(seed: u64) -> Self {
        Self { naming: Naming::ByName { seed }, ..Self::new(seed) }
    }

    /// Faults of an object store that depend on what is done to which object, on how many such calls
    /// the turn had before, and on the turn: so they are repeatable for a caller whose threads and
    /// tasks reach different objects in an order of the operating system's, and a call that is made
    /// again may end otherwise. Late calls are drawn so too; latency is not.
    #[must_use]
    pub fn by_call(seed: u64) -> Self {
        let calls = Mutex::default();
        Self { naming: Naming::ByCall { seed, calls }, ..Self::new(seed) }
    }

    /// Begins another turn of faults by name or by call.
    pub fn next_turn(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
        if let Naming::ByCall { calls, .. } = &self.naming {
            calls.lock().unwrap_or_else(PoisonError::into_inner).counts.clear();
        }
    }

    /// Every fault by call so far, in the order of turns: which turn, which kind, what was done to
    /// which object. The same seed and the same program have the same.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        let Naming::ByCall { calls, .. } = &self.naming else { return Vec::new() };
        let mut trace = calls.lock().unwrap_or_else(PoisonError::into_inner).trace.clone();
        trace.sort_unstable();
        trace
    }

    /// How many of a thousand calls fail without any effect.
    pub fn set_before(&self, per_mille: u16) {
        self.before.set(per_mille);
    }

    /// How many of a thousand calls take effect and then fail: the answer is lost.
    pub fn set_after(&self, per_mille: u16) {
        self.after.set(per_mille);
    }

    /// How many of a thousand calls that can take effect in part do so, and fail.
    pub fn set_torn(&self, per_mille: u16) {
        self.torn.set(per_mille);
    }

    /// How many of a thousand asynchronous calls are held back, before or after their effect, so
    /// that others overtake them.
    pub fn set_late(&self, per_mille: u16) {
        self.late.set(per_mille);
    }

    /// Lets every call take up to `max` of a simulated clock's time; zero by default.
    pub fn set_latency(&self, clock: Arc<ManualClock>, max: Duration) {
        *self.latency.lock().unwrap_or_else(PoisonError::into_inner) = Some((clock, max));
    }

    /// No more faults, and no more latency.
    pub fn calm(&self) {
        for rate in [&self.before, &self.after, &self.torn, &self.late] {
            rate.set(0);
        }
        *self.latency.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How many faults there were that the caller saw as a failure.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.before.count() + self.after.count() + self.torn.count()
    }

    /// How many faults of each kind there were.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        let (before, after) = (self.before.count(), self.after.count());
        FaultCounts { before, after, torn: self.torn.count(), late: self.late.count() }
    }

    /// Whether a fault happens now. A kind that is off draws nothing, so that turning one on does
    /// not change the runs without it.
    pub(super) fn strikes(&self, rate: &Rate) -> bool {
        let per_mille = rate.per_mille.load(Ordering::Relaxed);
        let strikes = per_mille > 0 && self.draws.below(1000) < u64::from(per_mille);
        rate.count.fetch_add(u64::from(strikes), Ordering::Relaxed);
        strikes
    }

    /// Whether a fault happens to this call, which has a name of its own.
    #[cfg(feature = "testkit-object-store")]
    pub(super) fn strikes_at(&self, rate: &Rate, operation: &str, name: &dyn Display) -> bool {
        let per_mille = rate.per_mille.load(Ordering::Relaxed);
        let strikes =
            per_mille > 0 && self.draw(rate, operation, name, 1000) < u64::from(per_mille);
        rate.count.fetch_add(u64::from(strikes), Ordering::Relaxed);
        if let (true, Naming::ByCall { calls, .. }) = (strikes, &self.naming) {
            let turn = self.turn.load(Ordering::Relaxed);
            let line = format!("{turn:06} {} {operation} {name}", rate.name);
            calls.lock().unwrap_or_else(PoisonError::into_inner).trace.push(line);
        }
        strikes
    }

    /// A number in `0..end` for this call.
    #[cfg(feature = "testkit-object-store")]
    pub(super) fn draw(&self, rate: &Rate, operation: &str, name: &dyn Display, end: u64) -> u64 {
        let turn = self.turn.load(Ordering::Relaxed);
        let call = format!("{} {operation} {name} {end}", rate.name);
        let what = match &self.naming {
            Naming::InOrder => return self.draws.below(end),
            Naming::ByName { seed } => format!("{seed} {turn} {call}"),
            Naming::ByCall { seed, calls } => {
                let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
                let count = calls.counts.entry(call.clone()).or_default();
                *count += 1;
                format!("{seed} {turn} {call} {count}")
            }
        };
        // FNV-1a, which is the same everywhere.
        let sum = what.bytes().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        SeededEntropy::new(sum).below(end)
    }

    /// A number in `0..end`.
    fn below(&self, end: u64) -> u64 {
        self.draws.below(end)
    }

    /// Lets simulated time pass, if a call takes any.
    pub(super) fn pass_time(&self) {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((clock, max)) = latency {
            let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX - 1);
            clock.advance(Duration::from_nanos(self.draws.below(nanos + 1)));
        }
    }

    /// Lets time and, if the call is late, other tasks pass.
    pub(super) async fn linger(&self) {
        self.pass_time();
        if self.strikes(&self.late) {
            Self::let_pass(1 + self.draws.below(LATE_TURNS_MAX)).await;
        }
    }

    /// The same for a call that has a name of its own.
    #[cfg(feature = "testkit-object-store")]
    pub(super) async fn linger_at(&self, operation: &str, name: &(dyn Display + Sync)) {
        if !matches!(self.naming, Naming::ByCall { .. }) {
            return self.linger().await;
        }
        self.pass_time();
        if self.strikes_at(&self.late, operation, name) {
            Self::let_pass(1 + self.draw(&self.late, operation, name, LATE_TURNS_MAX)).await;
        }
    }

    /// Lets so many turns of other tasks pass.
    async fn let_pass(mut turns: u64) {
        poll_fn(|context| {
            if turns == 0 {
                return Poll::Ready(());
            }
            turns -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn journal(&self, rate: &Rate, when: &str) -> Result<(), JournalError> {
        if self.strikes(rate) {
            return Err(JournalError::Unavailable {
                reason: format!("injected {when} the effect"),
            });
        }
        Ok(())
    }

    fn disk(&self, rate: &Rate, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        self.pass_time();
        if self.strikes(rate) {
            let source = io::Error::other("injected");
            return Err(DiskError { operation, path: path.to_owned(), source });
        }
        Ok(())
    }
}

/// Wraps a seam with [`Faults`].
#[derive(Debug)]
pub struct Faulty<T> {
    pub(super) inner: T,
    pub(super) faults: Arc<Faults>,
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
        self.faults.linger().await;
        self.faults.journal(&self.faults.before, "before")?;
        let versions = self.inner.append(appends).await?;
        self.faults.linger().await;
        self.faults.journal(&self.faults.after, "after")?;
        Ok(versions)
    }

    async fn read(
        &self,
        history: &HistoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        self.faults.linger().await;
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.read(history, after, limit).await
    }

    async fn read_all(&self, after: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.faults.linger().await;
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.read_all(after, limit).await
    }

    async fn wait(&self, after: u64) -> Result<u64, JournalError> {
        self.faults.linger().await;
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.wait(after).await
    }

    async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, JournalError> {
        self.faults.linger().await;
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.list(kind, after, limit).await
    }

    async fn save_snapshot(
        &self,
        history: &HistoryId,
        snapshot: Snapshot,
    ) -> Result<(), JournalError> {
        self.faults.linger().await;
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.save_snapshot(history, snapshot).await?;
        self.faults.linger().await;
        self.faults.journal(&self.faults.after, "after")
    }

    async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError> {
        self.faults.linger().await;
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.snapshot(history).await
    }

    async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
        self.faults.linger().await;
        self.faults.journal(&self.faults.before, "before")?;
        self.inner.delete(history, expected).await?;
        self.faults.linger().await;
        self.faults.journal(&self.faults.after, "after")
    }
}

#[deny(clippy::missing_trait_methods)]
impl<T: Disk> Disk for Faulty<T> {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn DiskFile>, DiskError> {
        self.faults.disk(&self.faults.before, "open", path)?;
        let inner = self.inner.open(path, mode)?;
        self.faults.disk(&self.faults.after, "open", path)?;
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
        self.inner.create_dir_all(path)?;
        self.faults.disk(&self.faults.after, "create folder", path)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        self.faults.disk(&self.faults.before, "list", path)?;
        self.inner.list(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.faults.disk(&self.faults.before, "sync folder", path)?;
        self.inner.sync_dir(path)?;
        self.faults.disk(&self.faults.after, "sync folder", path)
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
        if self.faults.strikes(&self.faults.torn) {
            let kept = usize::try_from(self.faults.below(bytes.len() as u64 + 1)).unwrap_or(0);
            self.inner.write_at(offset, &bytes[..kept])?;
            let source = io::Error::other("injected: torn");
            return Err(DiskError { operation: "write", path: self.path.clone(), source });
        }
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
        self.inner.set_len(len)?;
        self.faults.disk(&self.faults.after, "set length", &self.path)
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

    #[test]
    fn a_torn_write_leaves_its_beginning_and_says_so() {
        use crate::testkit::disk::SimDisk;
        let faults = Arc::new(Faults::new(2));
        let disk = Faulty::new(SimDisk::default(), Arc::clone(&faults));
        let path = Path::new("f");
        let file = disk.open(path, OpenMode::CreateNew).expect("created");
        faults.set_torn(1000);
        let mut lengths = std::collections::BTreeSet::new();
        for _ in 0..50 {
            file.set_len(0).expect("cut");
            file.write_at(0, b"0123456789").expect_err("torn");
            let kept = disk.inner().contents()[path].clone();
            assert!(b"0123456789".starts_with(&kept), "{kept:?}");
            lengths.insert(kept.len());
        }
        assert!(lengths.len() > 5, "{lengths:?}");
        assert_eq!(faults.counts(), FaultCounts { torn: 50, ..FaultCounts::default() });
    }

    #[test]
    fn a_lost_answer_of_a_disk_leaves_what_was_done() {
        use crate::testkit::disk::SimDisk;
        let faults = Arc::new(Faults::new(3));
        let disk = Faulty::new(SimDisk::default(), Arc::clone(&faults));
        faults.set_after(1000);
        disk.create_dir_all(Path::new("d")).expect_err("its answer is lost");
        disk.open(Path::new("d/f"), OpenMode::CreateNew).expect_err("its answer is lost");
        disk.rename(Path::new("d/f"), Path::new("d/g")).expect_err("its answer is lost");
        disk.sync_dir(Path::new("d")).expect_err("its answer is lost");
        disk.inner().crash(&SeededEntropy::new(1));
        assert!(disk.inner().contents().contains_key(Path::new("d/g")), "it was synced");
        disk.remove(Path::new("d/g")).expect_err("its answer is lost");
        assert!(disk.inner().contents().is_empty());
        assert_eq!(faults.counts(), FaultCounts { after: 5, ..FaultCounts::default() });
    }

    /// Appends that are held back are overtaken: they take effect in another order.
    #[tokio::test]
    async fn late_appends_are_overtaken_and_latency_passes_on_the_clock() {
        let faults = Arc::new(Faults::new(4));
        let journal = Faulty::new(MemoryJournal::default(), Arc::clone(&faults));
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        faults.set_late(500);
        faults.set_latency(Arc::clone(&clock), Duration::from_secs(1));
        let journal = &journal;
        let append = |number: u32| async move {
            let history = HistoryId::new("job", &number.to_string()).expect("a name");
            let event = Envelope::new("queued", 1, Timestamp::UNIX_EPOCH, "me", &number);
            journal.append_to(&history, 0, vec![event.expect("a body")]).await.expect("taken");
        };
        futures::future::join_all((0..20).map(append)).await;
        faults.calm();
        let events = journal.read_all(0, 100).await.expect("read");
        let order: Vec<u64> = events.iter().filter_map(|it| it.envelope.body.as_u64()).collect();
        assert!(order.len() == 20 && !order.is_sorted(), "{order:?}");
        assert_eq!(faults.count(), 0);
        assert!(faults.counts().late > 5, "{:?}", faults.counts());
        let passed = crate::Clock::monotonic(&*clock);
        assert!(passed > Duration::from_secs(5), "{passed:?}");
    }
}
