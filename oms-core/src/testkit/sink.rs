//! What every [`RecordSink`] must do, a sink in memory that does it, and a sink that fails.

#![expect(clippy::panic, reason = "a test suite fails by panicking")]

use super::fault::Faulty;
use crate::record::{Batch, Record, RecordSink, RecordType, SinkError, Value};
use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A sink that can be read back.
pub trait ReadableSink: RecordSink {
    /// The `CounterValue` of every `Perf` record that the sink holds, in any order, each as often
    /// as it is there.
    fn numbers(&self) -> BoxFuture<'_, Vec<u64>>;
}

/// One requirement: its name and the function that checks it on a new sink.
pub type Case = (&'static str, for<'a> fn(&'a dyn ReadableSink) -> BoxFuture<'a, ()>);

/// A `Perf` record that `number` tells apart from all others.
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

async fn assert_holds(sink: &dyn ReadableSink, expected: impl IntoIterator<Item = u64>, why: &str) {
    let mut numbers = sink.numbers().await;
    numbers.sort_unstable();
    assert_eq!(numbers, expected.into_iter().collect::<Vec<_>>(), "{why}");
}

/// What is acknowledged is there.
pub async fn what_is_acknowledged_is_there(sink: &dyn ReadableSink) {
    for sequence in 1..=5 {
        let numbers = sequence * 10..sequence * 10 + 3;
        sink.write(perf_batch("a", sequence, numbers)).await.expect("a batch is taken");
        let all = (1..=sequence).flat_map(|it| it * 10..it * 10 + 3);
        assert_holds(sink, all, "every acknowledged record is there").await;
    }
}

/// A batch that was written is accepted again, at once and later, and adds nothing.
pub async fn a_repeat_adds_nothing(sink: &dyn ReadableSink) {
    let first = || perf_batch("a", 1, 0..3);
    for _ in 0..2 {
        sink.write(first()).await.expect("a repeat is taken");
        assert_holds(sink, 0..3, "a repeat adds nothing").await;
    }
    sink.write(perf_batch("a", 2, 3..5)).await.expect("the next batch is taken");
    sink.write(first()).await.expect("a late repeat is taken");
    assert_holds(sink, 0..5, "a late repeat adds nothing").await;
}

/// Each producer has a count of its own.
pub async fn producers_count_apart(sink: &dyn ReadableSink) {
    for (at, producer) in ["a", "b", "A", "a "].into_iter().enumerate() {
        let written = sink.write(perf_batch(producer, 1, [at as u64])).await;
        written.expect("the first batch of another producer");
    }
    assert_holds(sink, 0..4, "no producer's batch passes for another's").await;
}

/// An empty batch is accepted and counts.
pub async fn an_empty_batch_counts(sink: &dyn ReadableSink) {
    sink.write(perf_batch("a", 1, [])).await.expect("an empty batch is taken");
    sink.write(perf_batch("a", 1, [])).await.expect("a repeat of it is taken");
    sink.write(perf_batch("a", 2, [7])).await.expect("the next batch is taken");
    assert_holds(sink, [7], "what follows an empty batch is there").await;
}

/// A batch that is sent many times at once is written once.
pub async fn repeats_at_once_are_written_once(sink: &dyn ReadableSink) {
    let write = |number: u64| async move {
        sink.write(perf_batch("a", 1 + number % 4, [number % 4])).await.expect("taken");
    };
    // The first of each must not come after a later sequence of its producer.
    write(0).await;
    futures::future::join_all((0..8).map(|_| write(0))).await;
    for sequence in 1..4 {
        futures::future::join_all((0..8).map(|_| write(sequence))).await;
    }
    assert_holds(sink, 0..4, "each batch is there once").await;
}

/// Nothing of a refused batch is there, and the mended batch of the same sequence is taken.
pub async fn a_refused_batch_leaves_nothing(sink: &dyn ReadableSink) {
    sink.write(perf_batch("a", 1, 0..2)).await.expect("taken");
    let mut wrong = perf_batch("a", 2, 2..4);
    if let Some(record) = wrong.records.last_mut() {
        record.fields.insert("CounterValue".to_owned(), "high".into());
    }
    match sink.write(wrong).await {
        Err(SinkError::Refused { reason, .. }) => {
            assert!(!reason.is_empty(), "a refusal says why");
            assert_holds(sink, 0..2, "nothing of a refused batch is there").await;
            sink.write(perf_batch("a", 2, 2..4)).await.expect("the mended batch is taken");
            assert_holds(sink, 0..4, "the mended batch is there").await;
        }
        // A sink without types takes it.
        Ok(()) => {}
        Err(error) => panic!("a wrong batch is refused, not {error}"),
    }
}

/// Hands the list of cases to a macro, so that it is written once.
#[doc(hidden)]
#[macro_export]
macro_rules! record_sink_cases {
    ($then:ident $(, $argument:tt)*) => {
        $crate::$then! { @each [$($argument)*]
            what_is_acknowledged_is_there
            a_repeat_adds_nothing
            producers_count_apart
            an_empty_batch_counts
            repeats_at_once_are_written_once
            a_refused_batch_leaves_nothing
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! record_sink_case_table {
    (@each [] $($case:ident)+) => {
        &[$((stringify!($case), |sink| Box::pin($crate::testkit::sink::$case(sink)))),+]
    };
}

/// Every requirement.
pub const CASES: &[Case] = crate::record_sink_cases!(record_sink_case_table);

/// Runs every requirement as a test of its own, each on a new [`ReadableSink`] from the factory, an
/// asynchronous closure.
#[macro_export]
macro_rules! record_sink_conformance {
    (@each [($make:expr)] $($case:ident)+) => {
        mod conformance {
            #[allow(unused_imports, reason = "the factory may need no imports")]
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                $crate::testkit::sink::$case(&($make)().await).await;
            })+
        }
    };
    ($make:expr) => {
        $crate::record_sink_cases! { record_sink_conformance, ($make) }
    };
}

/// A sink that keeps everything in memory, once: the model that others are compared with.
#[derive(Debug, Default)]
pub struct MemorySink {
    state: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    written: BTreeMap<String, BTreeSet<u64>>,
    records: Vec<Record>,
}

impl MemorySink {
    /// Every record, in the order in which they were taken.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RecordSink for MemorySink {
    async fn write(&self, batch: Batch) -> Result<(), SinkError> {
        let mut held = self.lock();
        if held.written.entry(batch.producer).or_default().insert(batch.sequence) {
            held.records.extend(batch.records);
        }
        Ok(())
    }
}

impl ReadableSink for MemorySink {
    fn numbers(&self) -> BoxFuture<'_, Vec<u64>> {
        let number = |record: &Record| match record.fields.get("CounterValue") {
            Some(Value::Real(value)) => Some(*value as u64),
            _ => None,
        };
        let numbers = self.lock().records.iter().filter_map(number).collect();
        Box::pin(std::future::ready(numbers))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: RecordSink> RecordSink for Faulty<T> {
    async fn write(&self, batch: Batch) -> Result<(), SinkError> {
        let injected = |when: &str| SinkError::Unavailable { reason: format!("injected {when}") };
        self.faults.linger().await;
        if self.faults.strikes(&self.faults.before) {
            return Err(injected("before the effect"));
        }
        self.inner.write(batch).await?;
        self.faults.linger().await;
        if self.faults.strikes(&self.faults.after) {
            return Err(injected("after the effect"));
        }
        Ok(())
    }
}

impl<T: ReadableSink> ReadableSink for Faulty<T> {
    fn numbers(&self) -> BoxFuture<'_, Vec<u64>> {
        self.inner.numbers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::fault::Faults;
    use std::sync::Arc;

    mod memory {
        use super::*;
        crate::record_sink_conformance!(|| async { MemorySink::default() });
    }

    mod faulty {
        use super::*;
        crate::record_sink_conformance!(|| async {
            Faulty::new(MemorySink::default(), Arc::new(Faults::new(1)))
        });
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_batch_and_a_refusal_does_not() {
        let faults = Arc::new(Faults::new(1));
        let sink = Faulty::new(MemorySink::default(), Arc::clone(&faults));
        faults.set_before(1000);
        sink.write(perf_batch("a", 1, [1])).await.expect_err("before");
        assert!(sink.inner().records().is_empty());
        faults.set_before(0);
        faults.set_after(1000);
        sink.write(perf_batch("a", 1, [1])).await.expect_err("after");
        sink.write(perf_batch("a", 1, [1])).await.expect_err("after");
        assert_eq!(sink.inner().records().len(), 1);
    }
}
