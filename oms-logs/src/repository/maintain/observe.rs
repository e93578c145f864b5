//! Spans and counts of maintenance.

use crate::Error;
use oms_core::ErrorKind;
use oms_core::clock::Stopwatch;
use tracing::Instrument as _;
use tracing::field::Empty;

/// The rows and data files that some work removed, deleted or put together.
pub(super) struct Sums {
    pub(super) rows: u64,
    pub(super) files: usize,
}

/// Does one piece of maintenance in its span and counts it.
pub(super) async fn observed<T>(
    operation: &'static str,
    work: impl Future<Output = Result<T, Error>>,
    sums: impl FnOnce(&T) -> Sums,
) -> Result<T, Error> {
    let span =
        tracing::info_span!("maintenance", operation, rows = Empty, files = Empty, outcome = Empty);
    let watch = Stopwatch::start();
    let done = work.instrument(span.clone()).await;
    let outcome = ErrorKind::outcome(&done, Error::kind);
    if let Ok(done) = &done {
        let Sums { rows, files } = sums(done);
        span.record("rows", rows);
        span.record("files", files);
    }
    span.record("outcome", outcome);
    metrics::histogram!(
        "oms_logs_maintenance_seconds", "operation" => operation, "outcome" => outcome
    )
    .record(watch.seconds());
    done
}
