//! Delta commits through an object store that fails.

use crate::{batch, numbers, open, quiet};
use object_store::ObjectStore;
use oms_core::EntropyExt as _;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::fault::{Faults, Faulty};
use oms_core::testkit::seeds::Seeds;
use oms_logs::Workspace;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
