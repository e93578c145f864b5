//! A repository whose tables are in an object store.

use crate::repeated::{self, Store, Trace};
use crate::{batch, numbers, numbers_of, quiet, start, up_to};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use oms_core::EntropyExt as _;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::fault::Faults;
use oms_core::testkit::seeds::Seeds;
use oms_logs::query::QueryOptions;
use oms_logs::repository::maintain::CompactOptions;
use oms_logs::url::Url;
use oms_logs::workspace::WorkspaceBuilder;
use oms_logs::{Error, Settings, Workspace};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

fn url(text: &str) -> Url {
    text.parse().expect("a URL")
}

fn in_store(folder: &Path, store: &Arc<InMemory>) -> WorkspaceBuilder {
    let store: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(store);
    quiet(folder).object_store(store, url("s3://bucket/logs"))
}

async fn paths(store: &InMemory) -> Vec<String> {
    let objects: Vec<_> = store.list(None).try_collect().await.expect("listed");
    objects.into_iter().map(|object| object.location.to_string()).collect()
}

#[tokio::test]
async fn tables_live_in_an_object_store_and_are_found_there_again() {
    let (folder, store) = (tempfile::tempdir().expect("a folder"), Arc::new(InMemory::new()));
    let workspace = in_store(folder.path(), &store).build().await.expect("a workspace");
    for sequence in 1..=9 {
        let first = (sequence - 1) * 10;
        workspace.write(batch("a", sequence, first..first + 10)).await.expect("written");
        workspace.flush().await.expect("flushed");
    }
    workspace.write(batch("a", 10, 90..100)).await.expect("written");
    assert_eq!(numbers(&workspace).await, up_to(100), "flushed and fresh");
    assert_eq!(workspace.tables()[0].location, "s3://bucket/logs/Perf/");
    let before = paths(&store).await;
    let is_data = |path: &&String| path.ends_with(".parquet");
    assert_eq!(before.iter().filter(is_data).count(), 9, "{before:?}");
    assert!(before.iter().all(|path| path.starts_with("logs/")), "{before:?}");
    let local = std::fs::read_dir(folder.path().join("tables")).expect("a folder").count();
    assert_eq!(local, 0, "nothing of the tables is on this machine");
    workspace.close().await.expect("closed");

    let workspace = in_store(folder.path(), &store).build().await.expect("the same again");
    assert_eq!(numbers(&workspace).await, up_to(100));
    let options = QueryOptions::new(Arc::new(ManualClock::new(start())));
    let query = "Perf | where Computer == 'web-3' | summarize count()";
    let answer = workspace.query(query, &options).await.expect("answered");
    assert_eq!(answer.rows(), [[serde_json::json!(10)]]);
    let forced = CompactOptions { is_forced: true, ..CompactOptions::default() };
    assert_eq!(workspace.compact(&forced).await.expect("compacted").files_before(), 10);
    assert_eq!(numbers(&workspace).await, up_to(100), "compacted");
    // A session of the program's own, which was not told of the store.
    let provider = workspace.table_provider("Perf").expect("a table");
    let frame = SessionContext::new().read_table(provider).expect("a frame");
    assert_eq!(numbers_of(&frame.collect().await.expect("rows")), up_to(100));
}

#[tokio::test]
async fn a_store_belongs_to_one_folder_until_it_is_taken_over() {
    let store = Arc::new(InMemory::new());
    let (lost, next) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    let settings = |id| Settings { workspace_id: Some(id), ..Settings::default() };
    let (id, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let workspace = in_store(lost.path(), &store).settings(settings(id));
    let workspace = workspace.build().await.expect("a workspace");
    workspace.write(batch("a", 1, 0..10)).await.expect("written");
    workspace.close().await.expect("flushed and closed");
    drop(lost);

    let new = || {
        let entropy = Arc::new(SeededEntropy::new(8));
        in_store(next.path(), &store).settings(settings(id)).entropy(entropy)
    };
    let refused = new().build().await.expect_err("another folder's");
    assert!(matches!(refused, Error::OtherFolder { .. }), "{refused}");
    // In whatever order it is said.
    let bucket: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
    let taken = new().take_over().object_store(bucket, url("s3://bucket/logs"));
    let taken = taken.build().await.expect("taken over");
    assert_eq!(numbers(&taken).await, up_to(10));
    taken.write(batch("a", 2, 10..20)).await.expect("written");
    taken.close().await.expect("flushed and closed");
    let again = new().build().await.expect("it is this folder's now");
    assert_eq!(numbers(&again).await, up_to(20));
    again.close().await.expect("closed");

    let foreign = tempfile::tempdir().expect("a third");
    let refused = in_store(foreign.path(), &store).settings(settings(other)).take_over();
    let refused = refused.build().await.expect_err("of another workspace").to_string();
    assert!(refused.contains("s3://bucket/logs/"), "{refused}");
    let owner = ObjectPath::from("logs/workspace.json");
    store.put(&owner, "{".into()).await.expect("put");
    let refused = new().build().await.expect_err("nobody's").to_string();
    assert!(refused.contains("logs/workspace.json"), "{refused}");
}

#[tokio::test]
async fn what_is_no_place_in_an_object_store_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for text in ["file:///tmp/x", "mailto:someone", "memory:/x"] {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let refused = quiet(folder.path()).object_store(store, url(text)).build().await;
        let refused = refused.expect_err(text).to_string();
        assert!(refused.contains(text), "{refused}");
    }
}

/// Auditor: whatever the store refuses or does without answering, and wherever the program is
/// started again, every acknowledged record is in the tables exactly once.
#[tokio::test]
async fn a_failing_store_loses_and_repeats_nothing() {
    let failed = AtomicU64::new(0);
    let seeds = Seeds::of("objects::a_failing_store", 0..6);
    seeds
        .run_async(|seed| {
            let failed = &failed;
            async move {
                failed.fetch_add(run(seed).await.0, Ordering::Relaxed);
            }
        })
        .await;
    assert!(!seeds.is_fixed() || failed.into_inner() > 10, "too easy");
}

/// A seed does the same again.
#[tokio::test]
async fn a_seed_repeats_its_run() {
    repeated::assert_repeated(0..3, async |seed| run(seed).await.1).await;
}

/// Answers how many flushes failed, and what came to pass.
async fn run(seed: u64) -> (u64, Trace) {
    let (chance, faults) = (SeededEntropy::new(seed), Arc::new(Faults::by_call(seed)));
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(seed, &Arc::new(ManualClock::new(start())));
    let mut results = Vec::new();
    let open = async || {
        let mut opened = None;
        for _ in 0..200 {
            opened = store.builder(folder.path(), &faults).build().await.ok();
            faults.next_turn();
            if opened.is_some() {
                break;
            }
        }
        opened.expect("it opens")
    };
    let fail = |per_mille| {
        faults.set_before(per_mille);
        faults.set_after(per_mille);
    };
    fail(100);
    let forced = CompactOptions { is_forced: true, ..CompactOptions::default() };
    let mut workspace = open().await;
    let (mut failed, mut sequence) = (0, 0);
    for _ in 0..40 {
        match chance.below(5) {
            0 => {
                drop(workspace);
                workspace = open().await;
            }
            1 | 2 => {
                let flushed = workspace.flush().await;
                results.push(format!("flushed {}", flushed.is_ok()));
                failed += u64::from(flushed.is_err());
            }
            3 => {
                let compacted = workspace.compact(&forced).await.ok();
                let files = compacted.map(|report| report.files_before());
                results.push(format!("compacted {files:?}"));
            }
            _ => {
                let first = sequence * 5;
                sequence += 1;
                let batch = batch("a", sequence, first..first + 5);
                // A table that is not open yet may fail to open; the sender sends again.
                while workspace.write(batch.clone()).await.is_err() {}
            }
        }
        faults.next_turn();
    }
    fail(0);
    assert_eq!(numbers(&workspace).await, up_to(sequence * 5), "seed {seed}");
    workspace.flush().await.expect("flushed");
    assert_eq!(numbers(&workspace).await, up_to(sequence * 5), "seed {seed}, flushed");
    workspace.close().await.expect("closed");
    let workspace: Workspace = open().await;
    assert_eq!(numbers(&workspace).await, up_to(sequence * 5), "seed {seed}, opened again");
    (failed, Trace { results, faults: faults.trace() })
}
