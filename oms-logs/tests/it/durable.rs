//! What is acknowledged is there: at once, after a restart, after a flush, and once.

use crate::{batch, numbers, open, quiet, up_to};
use oms_core::ErrorKind;
use oms_core::record::{RecordSink, SinkError};
use oms_logs::{Error, Settings};
use uuid::Uuid;

#[tokio::test]
async fn records_are_visible_at_once_and_after_a_restart_without_a_flush() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    workspace.write(batch("a", 1, 0..10)).await.expect("written");
    assert_eq!(numbers(&workspace).await, up_to(10));
    drop(workspace);
    let workspace = open(folder.path()).await;
    assert_eq!(numbers(&workspace).await, up_to(10));
}

#[tokio::test]
async fn records_are_there_once_across_flushes_and_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut written = 0;
    for round in 1..=4 {
        let workspace = open(folder.path()).await;
        assert_eq!(numbers(&workspace).await, up_to(written));
        workspace.write(batch("a", round * 2 - 1, written..written + 5)).await.expect("written");
        let flushed = workspace.flush().await.expect("flushed");
        assert_eq!(flushed.rows(), 5 + if round == 1 { 0 } else { 3 });
        workspace.write(batch("a", round * 2, written + 5..written + 8)).await.expect("written");
        written += 8;
        assert_eq!(numbers(&workspace).await, up_to(written));
        drop(workspace);
    }
    let workspace = open(folder.path()).await;
    assert_eq!(numbers(&workspace).await, up_to(written));
    let closed = workspace.close().await.expect("closed");
    assert_eq!(closed.rows(), 3);
    let segments = std::fs::read_dir(folder.path().join("wal")).expect("the log").count();
    assert_eq!(segments, 1, "flushed segments are removed");
}

#[tokio::test]
async fn repeats_are_harmless_also_after_a_restart_and_out_of_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    for sequence in [1, 3, 1, 2, 2, 3] {
        let first = (sequence - 1) * 2;
        workspace.write(batch("a", sequence, first..first + 2)).await.expect("written");
    }
    assert_eq!(numbers(&workspace).await, up_to(6));
    workspace.flush().await.expect("flushed");
    drop(workspace);
    for _ in 0..2 {
        let workspace = open(folder.path()).await;
        for sequence in 1..=3 {
            workspace.write(batch("a", sequence, 100..110)).await.expect("a repeat");
        }
        assert_eq!(numbers(&workspace).await, up_to(6));
        workspace.close().await.expect("closed");
    }
}

#[tokio::test]
async fn many_writers_are_all_written_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = std::sync::Arc::new(open(folder.path()).await);
    let writers: Vec<_> = (0..20_u64)
        .map(|writer| {
            let workspace = std::sync::Arc::clone(&workspace);
            tokio::spawn(async move {
                for sequence in 1..=10 {
                    let first = writer * 100 + sequence * 10;
                    let batch = || batch(&format!("w{writer}"), sequence, first..first + 10);
                    // The same batch twice at the same time, as an impatient agent sends it.
                    let both = tokio::join!(workspace.write(batch()), workspace.write(batch()));
                    both.0.and(both.1).expect("written");
                }
            })
        })
        .collect();
    for at in 0..3 {
        let flushed = workspace.flush().await.expect("flushed");
        assert!(flushed.tables.len() <= 1, "{at}");
        assert_no_repeat(&numbers(&workspace).await);
    }
    for writer in writers {
        writer.await.expect("a writer");
    }
    let seen = numbers(&workspace).await;
    assert_no_repeat(&seen);
    assert_eq!(seen.len(), 2_000);
}

fn assert_no_repeat(numbers: &[u64]) {
    assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]), "a row is there twice");
}

#[tokio::test]
async fn a_provider_keeps_its_view_while_a_flush_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    workspace.write(batch("a", 1, 0..5)).await.expect("written");
    let before = workspace.table_snapshot("Perf").expect("a table");
    workspace.flush().await.expect("flushed");
    workspace.write(batch("a", 2, 5..9)).await.expect("written");
    let after = workspace.table_snapshot("Perf").expect("a table");
    assert_eq!((before.delta_version(), after.delta_version()), (None, Some(0)));
    let count = async |snapshot| {
        let context = datafusion::prelude::SessionContext::new();
        let frame = context.read_table(std::sync::Arc::new(snapshot)).expect("a frame");
        frame.count().await.expect("a count")
    };
    assert_eq!(count(before).await, 5);
    assert_eq!(count(after).await, 9);
}

#[tokio::test]
async fn one_process_has_a_folder_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let error = quiet(folder.path()).build().await.expect_err("locked");
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    workspace.close().await.expect("closed");
    open(folder.path()).await;
}

#[tokio::test]
async fn a_folder_keeps_its_workspace_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let id = Uuid::from_u128(5);
    let settings = |id| Settings { workspace_id: Some(id), ..Settings::default() };
    let workspace = quiet(folder.path()).settings(settings(id)).build().await.expect("new");
    assert_eq!(workspace.id().expect("open"), id);
    workspace.close().await.expect("closed");
    let other = quiet(folder.path()).settings(settings(Uuid::from_u128(6))).build().await;
    let error = other.expect_err("another workspace");
    assert!(matches!(error, Error::OtherWorkspace { .. }), "{error}");
    assert_eq!(open(folder.path()).await.id().expect("open"), id);
}

#[tokio::test]
async fn a_closed_workspace_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    workspace.close().await.expect("closed");
    let sink: &dyn RecordSink = &workspace;
    let error = sink.write(batch("a", 1, 0..1)).await.expect_err("closed");
    assert!(matches!(error, SinkError::Unavailable { .. }), "{error}");
    assert!(workspace.tables().is_empty());
}
