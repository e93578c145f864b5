//! Fresh rows on their way into the tables.

use super::{FlushReport, Inner, whole};
use crate::Error;
use oms_core::ErrorKind;
use oms_core::clock::Stopwatch;
use std::sync::{Arc, PoisonError};
use tracing::Instrument as _;
use tracing::field::Empty;

impl Inner {
    /// Flushes, and removes the files of the log that wait to be used again.
    pub(crate) async fn flush_and_clear(&self) -> Result<(), Error> {
        let flushed = self.flush().await.map(drop);
        if !matches!(flushed, Ok(()) | Err(Error::Damaged(_))) {
            return flushed;
        }
        self.syncer.remove_spares().await?;
        flushed
    }

    pub(crate) async fn flush(&self) -> Result<FlushReport, Error> {
        let _one_at_a_time = self.flushing.lock().await;
        let span = tracing::info_span!("flush", rows = Empty, tables = Empty, outcome = Empty);
        let watch = Stopwatch::start();
        let flushed = self.flush_all().instrument(span.clone()).await;
        let outcome = ErrorKind::outcome(&flushed, Error::kind);
        if let Ok(report) = &flushed {
            span.record("rows", report.rows());
            span.record("tables", report.tables.len());
            metrics::counter!("oms_logs_flush_rows_total").increment(report.rows());
        }
        span.record("outcome", outcome);
        metrics::histogram!("oms_logs_flush_seconds", "outcome" => outcome).record(watch.seconds());
        metrics::gauge!("oms_logs_fresh_bytes").set(self.memory.used() as f64);
        flushed
    }

    /// Makes durable which versions of the tables were seen. If that fails, less damage is found.
    pub(crate) async fn save_heads(&self) {
        if let Err(error) = self.tables.save_heads().await {
            tracing::warn!(error = %whole(&error), "which versions were seen is told later");
        }
    }

    async fn flush_all(&self) -> Result<FlushReport, Error> {
        let through = self.syncer.rotate().await?;
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut report = FlushReport::default();
        let (mut failed, mut damaged, mut whole_again) = (None, None, Vec::new());
        let mut is_log_needed = false;
        for (name, table) in self.tables.all() {
            let memory = Arc::clone(&self.memory);
            let released = move |bytes| memory.release(bytes);
            match table.flush(self.clock.as_ref(), self.entropy.as_ref(), released).await {
                Ok(flushed) => {
                    report.tables.extend(flushed);
                    whole_again.push(name);
                }
                Err(Error::Damaged(damage)) => match self.put_aside(&table).await {
                    Ok(is_aside) => {
                        is_log_needed |= !is_aside;
                        damaged = damaged.or(Some(damage));
                    }
                    Err(error) => failed = failed.or(Some(error)),
                },
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        self.note_waiting();
        self.save_heads().await;
        match failed {
            Some(error) => {
                // It may be the disk that is full.
                self.syncer.remove_spares().await?;
                Err(error)
            }
            None => {
                if !is_log_needed {
                    self.syncer.remove_through(through).await?;
                }
                self.forget_aside(&whole_again).await?;
                damaged.map_or(Ok(report), |damage| Err(Error::Damaged(damage)))
            }
        }
    }
}
