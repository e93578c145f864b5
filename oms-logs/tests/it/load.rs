//! Limits, and flushes that nobody asked for.

use crate::{batch, numbers, quiet, up_to};
use jiff::SignedDuration;
use oms_core::record::{RecordSink, SinkError};
use oms_logs::{Error, Settings};

fn settings() -> Settings {
    Settings {
        flush_age: SignedDuration::from_hours(10_000),
        flush_bytes: u64::MAX,
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_full_memory_tells_senders_to_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings { memory_bytes_max: 20_000, ..settings() };
    let workspace = quiet(folder.path()).settings(settings).build().await.expect("a workspace");
    let mut written = 0;
    let error = loop {
        match workspace.write(batch("a", written + 1, [written])).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1_000, "memory is not bounded");
    };
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    let sink: &dyn RecordSink = &workspace;
    let error = sink.write(batch("a", written + 1, [written])).await.expect_err("busy");
    assert!(matches!(error, SinkError::Busy { .. }), "{error}");
    assert_eq!(numbers(&workspace).await, up_to(written));
    workspace.flush().await.expect("flushed");
    workspace.write(batch("a", written + 1, [written])).await.expect("there is room again");
    assert_eq!(numbers(&workspace).await, up_to(written + 1));
}

#[tokio::test]
async fn size_starts_a_flush() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings { flush_bytes: 10_000, ..settings() };
    let workspace = quiet(folder.path()).settings(settings).build().await.expect("a workspace");
    let mut sequence = 0;
    // The background task is woken by the write that passes the size.
    while workspace.table_snapshot("Perf").expect("there").delta_version().is_none() {
        sequence += 1;
        let sent = workspace.write(batch("a", sequence, [sequence])).await;
        assert!(sent.is_ok());
        tokio::task::yield_now().await;
        assert!(sequence < 100_000, "no flush came");
    }
}
