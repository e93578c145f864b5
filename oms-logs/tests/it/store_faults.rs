//! Delta commits through an object store that fails.

use crate::{batch, numbers, open, quiet};
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use oms_core::EntropyExt as _;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::fault::{Faults, Faulty};
use oms_core::testkit::seeds::Seeds;
use oms_logs::Workspace;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

async fn open_through(folder: &Path, faults: &Arc<Faults>) -> Result<Workspace, oms_logs::Error> {
    let faults = Arc::clone(faults);
    let layer = move |store| -> Arc<dyn ObjectStore> { Arc::new(Faulty::new(store, faults)) };
    quiet(folder).store_layer(layer).build().await
}

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
                let (lost, failed) = run(seed).await;
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

/// Answers how many commits were made without an answer, and how many flushes failed.
async fn run(seed: u64) -> (u64, u64) {
    let chance = SeededEntropy::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let faults = Arc::new(Faults::new(seed));
    let (mut lost, mut failed) = (0, 0);
    let mut acknowledged = BTreeSet::new();
    let mut sequence = 0;
    for _ in 0..3 {
        set(&faults);
        // A table whose log cannot be read is an error; nothing is taken for an empty table.
        let workspace = match open_through(folder.path(), &faults).await {
            Ok(workspace) => workspace,
            Err(_) => {
                faults.calm();
                open_through(folder.path(), &faults).await.expect("a workspace")
            }
        };
        audit(seed, &workspace, &acknowledged).await;
        for _ in 0..10 {
            set(&faults);
            sequence += 1;
            let numbers = sequence * 10..sequence * 10 + 3;
            // A table that is not open yet may fail to open; the sender sends again.
            while workspace.write(batch("a", sequence, numbers.clone())).await.is_err() {
                faults.calm();
            }
            acknowledged.extend(numbers);
            set(&faults);
            let before = commits(folder.path());
            let flushed = workspace.flush().await;
            failed += u64::from(flushed.is_err());
            lost += u64::from(flushed.is_err() && commits(folder.path()) > before);
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
    let workspace = open(folder.path()).await;
    workspace.flush().await.expect("flushed");
    drop(workspace);
    std::fs::remove_dir_all(folder.path().join("wal")).expect("no log");
    audit(seed, &open(folder.path()).await, &acknowledged).await;
    (lost, failed)
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

/// An object store that answers a create with an error and does it only when the same object is
/// created again, just before that: a request that its sender gave up and that lands all the same.
#[derive(Debug)]
struct Landing {
    inner: Arc<dyn ObjectStore>,
    /// How many creates are still held back.
    left: Mutex<u32>,
    held: Mutex<Option<(ObjectPath, PutPayload)>>,
}

impl std::fmt::Display for Landing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "landing {}", self.inner)
    }
}

impl Landing {
    fn hold_back(&self, creates: u32) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = creates;
    }

    fn is_held_back(&self) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let is_held_back = *left > 0;
        *left = left.saturating_sub(1);
        is_held_back
    }

    fn take_held(&self, location: &ObjectPath) -> Option<PutPayload> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.take_if(|(path, _)| path == location).map(|(_, payload)| payload)
    }
}

#[async_trait]
impl ObjectStore for Landing {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        if matches!(opts.mode, PutMode::Create) {
            if self.is_held_back() {
                let held = Some((location.clone(), payload));
                *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
                return Err(object_store::Error::Generic {
                    store: "Landing",
                    source: "no answer in time".into(),
                });
            }
            if let Some(payload) = self.take_held(location) {
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
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> object_store::Result<ListResult> {
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
    let mut landing = None;
    let layer = |inner| -> Arc<dyn ObjectStore> {
        let store = Landing { inner, left: Mutex::new(0), held: Mutex::new(None) };
        Arc::clone(landing.insert(Arc::new(store))) as _
    };
    let workspace = quiet(folder.path()).store_layer(layer).build().await.expect("a workspace");
    let landing = landing.expect("it was made");
    for sequence in 1..=3 {
        workspace.write(batch("a", sequence, [sequence - 1])).await.expect("written");
        landing.hold_back(1);
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
