//! Delta commits through an object store that fails.

use crate::bulk::lines;
use crate::repeated::{self, Store, Trace};
use crate::{batch, numbers, open, quiet, start};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use oms_core::EntropyExt as _;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::fault::Faults;
use oms_core::testkit::seeds::Seeds;
use oms_logs::Workspace;
use oms_logs::workspace::{LoadFile, LoadOptions, LoadReport};
use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many commits the Delta log of `Perf` has.
fn commits(folder: &Path) -> usize {
    let log = std::fs::read_dir(folder.join("tables/Perf/_delta_log"));
    let names = log.into_iter().flatten().map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".json")).count()
}

/// Auditor: whatever the object store refuses, tears, delays or does without answering, every query
/// finds each acknowledged record exactly once.
#[tokio::test]
async fn a_failing_object_store_loses_and_repeats_nothing() {
    let (lost_answers, failed_flushes) = (AtomicU64::new(0), AtomicU64::new(0));
    let seeds = Seeds::of("store_faults::a_failing_object_store", 0..6);
    seeds
        .run_async(|seed| {
            let (lost_answers, failed_flushes) = (&lost_answers, &failed_flushes);
            async move {
                let (lost, failed, _trace) = run(seed).await;
                lost_answers.fetch_add(lost, Ordering::Relaxed);
                failed_flushes.fetch_add(failed, Ordering::Relaxed);
            }
        })
        .await;
    if seeds.is_fixed() {
        let (lost, failed) = (lost_answers.into_inner(), failed_flushes.into_inner());
        assert!(lost >= 3 && failed >= 20, "{lost} commits without an answer, {failed} failures");
    }
}

/// A seed does the same again.
#[tokio::test]
async fn a_seed_repeats_its_run() {
    repeated::assert_repeated(0..3, async |seed| run(seed).await.2).await;
}

/// Answers how many commits were made without an answer, how many flushes failed, and what came to
/// pass.
async fn run(seed: u64) -> (u64, u64, Trace) {
    let chance = SeededEntropy::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let faults = Arc::new(Faults::by_call(seed));
    let store = Store::new(seed, &Arc::new(ManualClock::new(start())));
    let (mut lost, mut failed, mut results) = (0, 0, Vec::new());
    let mut acknowledged = BTreeSet::new();
    let mut sequence = 0;
    for _ in 0..3 {
        set(&faults);
        // A table whose log cannot be read is an error; nothing is taken for an empty table.
        let opened = store.builder(folder.path(), &faults).build().await;
        results.push(format!("opened {}", opened.is_ok()));
        let workspace = match opened {
            Ok(workspace) => workspace,
            Err(_) => {
                faults.calm();
                store.builder(folder.path(), &faults).build().await.expect("a workspace")
            }
        };
        audit(seed, &workspace, &acknowledged).await;
        for _ in 0..10 {
            set(&faults);
            faults.next_turn();
            sequence += 1;
            let numbers = sequence * 10..sequence * 10 + 3;
            // A table that is not open yet may fail to open; the sender sends again.
            while workspace.write(batch("a", sequence, numbers.clone())).await.is_err() {
                faults.calm();
            }
            acknowledged.extend(numbers);
            set(&faults);
            let before = store.commits().await;
            let flushed = workspace.flush().await;
            let commits = store.commits().await;
            failed += u64::from(flushed.is_err());
            lost += u64::from(flushed.is_err() && commits > before);
            results.push(format!("flushed {}, {commits} commits", flushed.is_ok()));
            if chance.below(3) == 0 {
                audit(seed, &workspace, &acknowledged).await;
            }
        }
        if chance.below(2) == 0 {
            faults.calm();
            workspace.flush().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        audit(seed, &workspace, &acknowledged).await;
    }
    // Without faults, and from the Delta tables alone.
    let bare = async || store.bare(folder.path()).build().await.expect("a workspace");
    let workspace = bare().await;
    workspace.flush().await.expect("flushed");
    drop(workspace);
    std::fs::remove_dir_all(folder.path().join("wal")).expect("no log");
    audit(seed, &bare().await, &acknowledged).await;
    (lost, failed, Trace { results, faults: faults.trace() })
}

fn set(faults: &Faults) {
    faults.set_before(60);
    faults.set_after(150);
    faults.set_torn(60);
    faults.set_late(100);
}

async fn audit(seed: u64, workspace: &Workspace, acknowledged: &BTreeSet<u64>) {
    if acknowledged.is_empty() {
        return;
    }
    let seen = numbers(workspace).await;
    let expected: Vec<u64> = acknowledged.iter().copied().collect();
    assert_eq!(seen, expected, "seed {seed}");
}

/// What becomes of a create whose sender gets no answer.
#[derive(Clone, Copy, Debug)]
enum Unanswered {
    /// It is done at once.
    Done,
    /// It is done when the same object is created again, just before that: a request that its
    /// sender gave up and that lands all the same.
    Late,
}

/// An object store that fails where it is told to.
#[derive(Debug)]
struct Directed {
    inner: Arc<dyn ObjectStore>,
    /// What becomes of the next create.
    create: Mutex<Option<Unanswered>>,
    late: Mutex<Option<(ObjectPath, PutPayload)>>,
    /// Which of the next reads fails, from 1; 0 if none does.
    failing_read: AtomicU64,
}

impl std::fmt::Display for Directed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "directed {}", self.inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_answer() -> object_store::Error {
    object_store::Error::Generic { store: "Directed", source: "no answer in time".into() }
}

impl Directed {
    /// A workspace whose Delta tables are behind such a store.
    async fn open(folder: &Path) -> (Workspace, Arc<Self>) {
        let mut directed = None;
        let layer = |inner| -> Arc<dyn ObjectStore> {
            let (create, late, failing_read) = Default::default();
            let store = Self { inner, create, late, failing_read };
            Arc::clone(directed.insert(Arc::new(store))) as _
        };
        let workspace = quiet(folder).store_layer(layer).build().await.expect("a workspace");
        (workspace, directed.expect("it was made"))
    }

    fn leave_unanswered(&self, create: Unanswered) {
        *lock(&self.create) = Some(create);
    }

    /// Fails one of the next reads; answers whether the one that was to fail before has failed.
    fn fail_read(&self, number: u64) -> bool {
        self.failing_read.swap(number, Ordering::Relaxed) == 0
    }

    fn read(&self) -> object_store::Result<()> {
        let next = |left: u64| left.checked_sub(1);
        match self.failing_read.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(1) => Err(no_answer()),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl ObjectStore for Directed {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        if matches!(opts.mode, PutMode::Create) {
            let unanswered = lock(&self.create).take();
            match unanswered {
                Some(Unanswered::Done) => {
                    self.inner.put_opts(location, payload, opts).await?;
                    return Err(no_answer());
                }
                Some(Unanswered::Late) => {
                    *lock(&self.late) = Some((location.clone(), payload));
                    return Err(no_answer());
                }
                None => {}
            }
            let late = lock(&self.late).take_if(|(path, _)| path == location);
            if let Some((_, payload)) = late {
                self.inner.put_opts(location, payload, opts.clone()).await?;
            }
        }
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(
        &self,
        location: &ObjectPath,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.read()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        self.inner.delete_stream(locations)
    }

    fn list(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.read() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> object_store::Result<ListResult> {
        self.read()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// The first version of a table, and later ones.
#[tokio::test]
async fn a_commit_that_lands_after_it_was_given_up_is_not_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (workspace, store) = Directed::open(folder.path()).await;
    for sequence in 1..=3 {
        workspace.write(batch("a", sequence, [sequence - 1])).await.expect("written");
        store.leave_unanswered(Unanswered::Late);
        workspace.flush().await.expect_err("no answer");
        assert_eq!(commits(folder.path()) as u64, sequence - 1, "it is under way");
        let report = workspace.flush().await.expect("flushed");
        assert_eq!(commits(folder.path()) as u64, sequence, "it landed and was not made again");
        assert_eq!(report.rows(), 1);
        assert_eq!(numbers(&workspace).await, crate::up_to(sequence));
    }
    drop(workspace);
    assert_eq!(numbers(&open(folder.path()).await).await, crate::up_to(3));
}

/// A commit without an answer is looked up before its rows are written again; whichever request of
/// the look-up fails, they are not written again without another.
#[tokio::test]
async fn rows_are_not_written_again_when_the_look_up_of_their_commit_fails_too() {
    let mut failed = 0;
    for failing in 1.. {
        let folder = tempfile::tempdir().expect("a folder");
        let (workspace, store) = Directed::open(folder.path()).await;
        workspace.write(batch("a", 1, [0])).await.expect("written");
        workspace.flush().await.expect("flushed");
        workspace.write(batch("a", 2, [1])).await.expect("written");
        store.leave_unanswered(Unanswered::Done);
        workspace.flush().await.expect_err("no answer");
        assert_eq!(commits(folder.path()), 2, "it is done");

        store.fail_read(failing);
        failed += u64::from(workspace.flush().await.is_err());
        if !store.fail_read(0) {
            // The look-up has fewer requests.
            break;
        }
        let report = workspace.flush().await.expect("flushed");
        assert_eq!(
            commits(folder.path()),
            2,
            "request {failing} of the look-up failed: {report:?}"
        );
        assert_eq!(numbers(&workspace).await, crate::up_to(2), "request {failing}");
        drop(workspace);
        assert_eq!(numbers(&open(folder.path()).await).await, crate::up_to(2));
    }
    assert!(failed >= 3, "only {failed} requests of the look-up could fail");
}

async fn load(workspace: &Workspace, rows: std::ops::Range<u64>) -> LoadReport {
    let file = LoadFile::text("rows", Cursor::new(lines(rows)));
    let table = "Perf".parse().expect("a name");
    workspace.load(&table, vec![file], &LoadOptions::default()).await.expect("a report")
}

/// A load finds what became of a flush without an answer: its rows are shown once.
#[tokio::test]
async fn a_load_after_a_flush_without_an_answer_shows_each_row_once() {
    for flush in [Unanswered::Done, Unanswered::Late] {
        let folder = tempfile::tempdir().expect("a folder");
        let (workspace, store) = Directed::open(folder.path()).await;
        // The first version of the table, and later ones.
        for round in 1..=3 {
            let next = round * 5 - 5;
            workspace.write(batch("a", 2 * round - 1, [next])).await.expect("written");
            store.leave_unanswered(flush);
            workspace.flush().await.expect_err("no answer");
            workspace.write(batch("a", 2 * round, [next + 1])).await.expect("written");
            let report = load(&workspace, next + 2..next + 5).await;
            assert!(report.failure.is_none(), "{report:?}");
            assert_eq!(numbers(&workspace).await, crate::up_to(next + 5), "{flush:?} {round}");
            workspace.flush().await.expect("flushed");
            assert_eq!(numbers(&workspace).await, crate::up_to(next + 5), "{flush:?} {round}");
        }
        drop(workspace);
        assert_eq!(numbers(&open(folder.path()).await).await, crate::up_to(15), "{flush:?}");
    }
}

/// Whatever becomes of a commit without an answer, a load makes it once and says so.
#[tokio::test]
async fn a_load_without_an_answer_is_looked_up_and_made_once() {
    for unanswered in [Unanswered::Done, Unanswered::Late] {
        let folder = tempfile::tempdir().expect("a folder");
        let (workspace, store) = Directed::open(folder.path()).await;
        for count in 1..=3 {
            store.leave_unanswered(unanswered);
            let report = load(&workspace, count * 3 - 3..count * 3).await;
            assert!(report.failure.is_none(), "{report:?}");
            assert_eq!((report.accepted, commits(folder.path()) as u64), (3, count));
            assert_eq!(numbers(&workspace).await, crate::up_to(count * 3), "{unanswered:?}");
        }
        drop(workspace);
        assert_eq!(numbers(&open(folder.path()).await).await, crate::up_to(9));
    }
}
