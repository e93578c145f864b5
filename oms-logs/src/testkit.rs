//! Records to test with, and the suite of every record sink that can be read back.

#![expect(clippy::expect_used, reason = "a test suite fails by panicking")]

use jiff::{SignedDuration, Timestamp};
use oms_core::RecordSink;
use oms_core::record::{Batch, Record, RecordType};
use std::future::Future;

/// A performance counter of `web-…`, one second after the one before it; `number` tells it apart
/// from all others by its `CounterValue`.
///
/// # Panics
/// If `number` seconds after 2026-11-23 have no timestamp.
#[must_use]
pub fn perf(number: u64) -> Record {
    let table: RecordType = "Perf".parse().expect("a valid name");
    let start: Timestamp = "2026-11-23T00:00:00Z".parse().expect("a valid time");
    let after = SignedDuration::from_secs(i64::try_from(number).expect("a small number"));
    Record::new(table, start + after, format!("web-{}", number % 10))
        .with("ObjectName", "Processor")
        .with("CounterName", "% Processor Time")
        .with("CounterValue", number as f64)
}

/// A batch of [`perf`] records, one for each number.
#[must_use]
pub fn perf_batch(producer: &str, sequence: u64, numbers: impl IntoIterator<Item = u64>) -> Batch {
    let records = numbers.into_iter().map(perf).collect();
    Batch { producer: producer.to_owned(), sequence, records }
}

/// The suite: `rows` answers how many `Perf` rows the sink holds. The sink is new.
///
/// # Panics
/// If the sink does not keep the contract of [`RecordSink`].
pub async fn record_sink<F: Future<Output = u64>>(sink: &dyn RecordSink, rows: impl Fn() -> F) {
    sink.write(perf_batch("a", 1, 0..3)).await.expect("a batch is taken");
    assert_eq!(rows().await, 3, "what is acknowledged is there");
    sink.write(perf_batch("a", 1, 0..3)).await.expect("a repeat is taken");
    assert_eq!(rows().await, 3, "a repeat adds nothing");
    sink.write(perf_batch("b", 1, 3..4)).await.expect("another producer has its own count");
    sink.write(perf_batch("a", 2, [])).await.expect("an empty batch is taken");
    sink.write(perf_batch("a", 3, 4..5)).await.expect("the next batch is taken");
    assert_eq!(rows().await, 5);
    let mut wrong = perf_batch("a", 4, 5..7);
    if let Some(record) = wrong.records.last_mut() {
        record.fields.insert("CounterValue".to_owned(), "high".into());
    }
    let refused = sink.write(wrong).await.expect_err("a wrong type is refused");
    assert!(refused.to_string().contains("CounterValue"), "{refused}");
    assert_eq!(rows().await, 5, "nothing of a refused batch is there");
    sink.write(perf_batch("a", 4, 5..7)).await.expect("the mended batch is taken");
    assert_eq!(rows().await, 7);
}
