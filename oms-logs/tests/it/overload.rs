//! Writers that are faster than flushes.

use crate::{batch, numbers, open, quiet, up_to};
use jiff::SignedDuration;
use oms_logs::{Error, Settings};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Auditor: what waits is never more than is allowed, each write is either done or told to come
/// back, and everything that was done is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_under_sustained_overload() {
    const LIMIT: u64 = 150_000;
    const WRITERS: u64 = 4;
    const BATCHES: u64 = 40;
    const ROWS: u64 = 20;
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        memory_bytes_max: LIMIT,
        flush_bytes: LIMIT / 3,
        flush_age: SignedDuration::from_hours(10_000),
        ..Settings::default()
    };
    let workspace = quiet(folder.path()).settings(settings).build().await.expect("a workspace");
    let (workspace, busy) = (Arc::new(workspace), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (workspace, busy) = (Arc::clone(&workspace), Arc::clone(&busy));
            tokio::spawn(async move {
                for sequence in 0..BATCHES {
                    let first = (writer * BATCHES + sequence) * ROWS;
                    let batch = || batch(&format!("w{writer}"), sequence + 1, first..first + ROWS);
                    loop {
                        let used = workspace.waiting_bytes().expect("open");
                        assert!(used <= LIMIT, "{used}");
                        match workspace.write(batch()).await {
                            Ok(()) => break,
                            Err(Error::Busy { used, limit }) => {
                                assert!(used <= limit && limit == LIMIT, "{used} {limit}");
                                busy.fetch_add(1, Ordering::Relaxed);
                                tokio::task::yield_now().await;
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    assert!(busy.load(Ordering::Relaxed) > 10, "the writers were not too fast");
    assert_eq!(numbers(&workspace).await, up_to(WRITERS * BATCHES * ROWS));
    workspace.flush().await.expect("flushed");
    assert_eq!(workspace.waiting_bytes().expect("open"), 0);
    assert_eq!(numbers(&workspace).await, up_to(WRITERS * BATCHES * ROWS));
}

/// What waits is encoded a part at a time, and committed at once.
#[tokio::test]
async fn a_large_flush_is_several_files_of_a_day_and_one_commit() {
    const BATCHES: u64 = 40;
    const ROWS: u64 = 50;
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let long = "x".repeat(60_000);
    for number in 0..BATCHES {
        let mut batch = batch("a", number + 1, number * ROWS..(number + 1) * ROWS);
        for record in &mut batch.records {
            record.fields.insert("InstanceName".to_owned(), long.as_str().into());
        }
        workspace.write(batch).await.expect("written");
    }
    let flushed = workspace.flush().await.expect("flushed");
    let [perf] = flushed.tables.as_slice() else { panic!("{flushed:?}") };
    assert_eq!((perf.rows, perf.files, perf.delta_version), (BATCHES * ROWS, 2, 0));
    assert_eq!(numbers(&workspace).await, up_to(BATCHES * ROWS));
    drop(workspace);
    assert_eq!(numbers(&open(folder.path()).await).await, up_to(BATCHES * ROWS));
}
