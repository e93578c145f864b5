//! Power failures under a whole workspace.

use crate::{batch, numbers, quiet, up_to};
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::SimDisk;
use oms_core::{EntropyExt as _, ErrorKind};
use oms_logs::Workspace;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

async fn open_on(folder: &Path, disk: &SimDisk) -> Workspace {
    quiet(folder).log_disk(Arc::new(disk.clone())).build().await.expect("a workspace")
}

/// Auditor: whatever the log's disk does and whenever it stops, each acknowledged record is in the
/// table exactly once, and a record whose write failed is there at most once.
#[tokio::test]
async fn acknowledged_records_are_there_once_after_any_crash() {
    for seed in 0..10_u64 {
        let chance = SeededEntropy::new(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let disk = SimDisk::default();
        let (mut acknowledged, mut tried) = (BTreeSet::new(), BTreeSet::new());
        let mut sequence = 1;
        for _ in 0..4 {
            let workspace = open_on(folder.path(), &disk).await;
            audit(seed, &workspace, &acknowledged, &tried).await;
            disk.fail_after(chance.below(60), io::ErrorKind::Other);
            for _ in 0..8 {
                if chance.below(4) == 0 {
                    // It fails where the log cannot be rotated or its segments not be removed.
                    let _ = workspace.flush().await;
                    continue;
                }
                let numbers = sequence * 10..sequence * 10 + 3;
                tried.extend(numbers.clone());
                // A sender repeats a batch until it is taken; here it gives up after three.
                for _ in 0..3 {
                    if workspace.write(batch("a", sequence, numbers.clone())).await.is_ok() {
                        acknowledged.extend(numbers);
                        sequence += 1;
                        break;
                    }
                }
            }
            audit(seed, &workspace, &acknowledged, &tried).await;
            drop(workspace);
            disk.crash(&chance);
        }
        let workspace = open_on(folder.path(), &disk).await;
        audit(seed, &workspace, &acknowledged, &tried).await;
        // The batch that failed last is sent again by the producer's next process.
        workspace
            .write(batch("a", sequence, sequence * 10..sequence * 10 + 3))
            .await
            .expect("room");
        acknowledged.extend(sequence * 10..sequence * 10 + 3);
        tried.extend(sequence * 10..sequence * 10 + 3);
        workspace.flush().await.expect("flushed");
        audit(seed, &workspace, &acknowledged, &tried).await;
    }
}

async fn audit(
    seed: u64,
    workspace: &Workspace,
    acknowledged: &BTreeSet<u64>,
    tried: &BTreeSet<u64>,
) {
    if workspace.tables().is_empty() {
        assert!(acknowledged.is_empty(), "seed {seed}: everything is lost");
        return;
    }
    let seen = numbers(workspace).await;
    let unique: BTreeSet<u64> = seen.iter().copied().collect();
    assert_eq!(unique.len(), seen.len(), "seed {seed}: a record is there twice");
    assert!(acknowledged.is_subset(&unique), "seed {seed}: an acknowledged record is lost");
    assert!(unique.is_subset(tried), "seed {seed}: a record is there that nobody sent");
}

/// The table holds rows whose log segment could not be removed: they are not taken again.
#[tokio::test]
async fn a_crash_between_the_commit_and_the_log_repeats_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SimDisk::default();
    let workspace = open_on(folder.path(), &disk).await;
    workspace.write(batch("a", 1, 0..4)).await.expect("written");
    // The disk stops after more and more operations, until the rotation comes to its end and the
    // commit is made; then the removal of the old segment is what fails.
    let version = || workspace.table_snapshot("Perf").expect("there").delta_version();
    for operations in 0..30 {
        disk.fail_after(operations, io::ErrorKind::Other);
        let error = workspace.flush().await.expect_err("the disk stops");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        if version().is_some() {
            break;
        }
    }
    assert_eq!(version(), Some(0));
    drop(workspace);
    disk.crash(&SeededEntropy::new(1));
    let workspace = open_on(folder.path(), &disk).await;
    assert_eq!(numbers(&workspace).await, [0, 1, 2, 3]);
    assert_eq!(workspace.flush().await.expect("flushed").rows(), 0);
    workspace.write(batch("a", 1, 0..4)).await.expect("a repeat");
    assert_eq!(numbers(&workspace).await, [0, 1, 2, 3]);
}

/// Drives a future until it was polled so many times; `None` if it was given up before its end.
pub(crate) async fn give_up_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Auditor: wherever a flush is given up, each record is seen once, and the next flush brings each
/// record into the Delta table once.
#[tokio::test]
async fn a_flush_that_is_given_up_anywhere_loses_and_repeats_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SimDisk::default();
    let mut workspace = open_on(folder.path(), &disk).await;
    let (mut count, mut given_up) = (0, 0);
    for polls in 0..200 {
        workspace.write(batch("a", count + 1, [count])).await.expect("written");
        count += 1;
        let flushed = give_up_after(polls, workspace.flush()).await;
        assert_eq!(numbers(&workspace).await, up_to(count), "after {polls} polls");
        if polls % 4 == 0 {
            drop(workspace);
            workspace = open_on(folder.path(), &disk).await;
            assert_eq!(numbers(&workspace).await, up_to(count), "after {polls} polls");
        }
        workspace.flush().await.expect("flushed");
        assert_eq!(numbers(&workspace).await, up_to(count), "after {polls} polls");
        given_up += usize::from(flushed.is_none());
        if flushed.is_some() && given_up > 5 {
            return;
        }
    }
    panic!("a flush never comes to its end");
}

#[tokio::test]
async fn a_table_that_cannot_be_written_stays_visible_and_is_flushed_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open_on(folder.path(), &SimDisk::default()).await;
    workspace.write(batch("a", 1, 0..4)).await.expect("written");
    let blocked = folder.path().join("tables/Perf");
    std::fs::write(&blocked, "in the way").expect("a file where the folder belongs");
    for _ in 0..2 {
        let error = workspace.flush().await.expect_err("no folder");
        assert!(error.to_string().contains("table=`Perf`"), "{error}");
        assert_eq!(numbers(&workspace).await, up_to(4));
    }
    workspace.write(batch("a", 2, 4..6)).await.expect("written");
    std::fs::remove_file(blocked).expect("out of the way");
    assert_eq!(workspace.flush().await.expect("flushed").rows(), 6);
    assert_eq!(numbers(&workspace).await, up_to(6));
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SimDisk::default();
    let workspace = open_on(folder.path(), &disk).await;
    workspace.write(batch("a", 1, 0..4)).await.expect("written");
    let used: usize = disk.contents().values().map(Vec::len).sum();
    disk.set_capacity(Some(used as u64 + 100));
    for _ in 0..3 {
        let sink: &dyn oms_core::RecordSink = &workspace;
        let error = sink.write(batch("a", 2, 4..8)).await.expect_err("full");
        assert!(error.kind().is_retryable(), "{error}");
        assert_ne!(error.kind(), ErrorKind::Invalid);
    }
    assert_eq!(numbers(&workspace).await, [0, 1, 2, 3]);
    disk.set_capacity(None);
    workspace.write(batch("a", 2, 4..8)).await.expect("there is room again");
    drop(workspace);
    disk.crash(&SeededEntropy::new(1));
    let workspace = open_on(folder.path(), &disk).await;
    assert_eq!(numbers(&workspace).await, [0, 1, 2, 3, 4, 5, 6, 7]);
}

/// A new log under old tables counts on from what the tables hold.
#[tokio::test]
async fn a_lost_log_does_not_make_new_records_vanish() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open_on(folder.path(), &SimDisk::default()).await;
    for sequence in 1..=5 {
        workspace.write(batch("a", sequence, [sequence])).await.expect("written");
    }
    workspace.close().await.expect("closed");
    let disk = SimDisk::default();
    let workspace = open_on(folder.path(), &disk).await;
    workspace.write(batch("a", 6, [6])).await.expect("written");
    drop(workspace);
    let workspace = open_on(folder.path(), &disk).await;
    assert_eq!(numbers(&workspace).await, [1, 2, 3, 4, 5, 6]);
}
