//! Backup, restore and verification: options, then a plan, then a report.
//!
//! A plan changes nothing; it can be printed and tested. Running it does the work and answers a
//! report. Every run takes a [`Control`], through which another thread watches and cancels it.

mod backup;
mod restore;
mod target;
mod verify;

pub use crate::item::source::exclude_file_patterns;
pub use backup::{BackupOptions, BackupPlan, BackupReport, Parent};
pub use restore::{CopyOption, RestoreOptions, RestorePlan, RestoreReport, RestoreWarning};
pub use verify::{Finding, VerifyOptions, VerifyPlan, VerifyReport};

use crate::error::Error;
use oms_core::ErrorKind;
use oms_core::clock::Stopwatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tracing::field::Empty;

/// The most warnings or findings a report lists; more are only counted.
pub const REPORT_ENTRIES_MAX: usize = 10_000;

/// Watches and cancels one run. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Control {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    is_cancelled: AtomicBool,
    files: AtomicU64,
    bytes: AtomicU64,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Files done.
    pub files: u64,
    /// Bytes of content done.
    pub bytes: u64,
}

impl Control {
    /// Asks the run to end with [`Error::Cancelled`] soon.
    pub fn cancel(&self) {
        self.inner.is_cancelled.store(true, Ordering::Release);
    }

    /// Whether it was asked to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner.is_cancelled.load(Ordering::Acquire)
    }

    /// How far the run is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            files: self.inner.files.load(Ordering::Relaxed),
            bytes: self.inner.bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn add_file(&self) {
        self.inner.files.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.inner.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Runs a whole operation in its span and counts it.
fn observed<T>(
    operation: &'static str,
    run: impl FnOnce() -> Result<T, Error>,
    control: &Control,
) -> Result<T, Error> {
    let span = tracing::info_span!(
        "backup_operation",
        operation,
        point = Empty,
        files = Empty,
        bytes = Empty,
        outcome = Empty
    );
    let watch = Stopwatch::start();
    let result = span.in_scope(run);
    let outcome = ErrorKind::outcome(&result, Error::kind);
    let Progress { files, bytes } = control.progress();
    span.record("files", files);
    span.record("bytes", bytes);
    span.record("outcome", outcome);
    metrics::histogram!(
        "oms_backup_operation_seconds", "operation" => operation, "outcome" => outcome
    )
    .record(watch.seconds());
    metrics::counter!("oms_backup_bytes_total", "operation" => operation).increment(bytes);
    result
}

/// A list that keeps the first [`REPORT_ENTRIES_MAX`] and counts all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entries<T> {
    /// The first of them.
    pub listed: Vec<T>,
    /// How many there were.
    pub total: u64,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { listed: Vec::new(), total: 0 }
    }
}

impl<T> Entries<T> {
    /// Whether there was none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.total == 0
    }

    pub(crate) fn push(&mut self, entry: T) {
        self.total += 1;
        if self.listed.len() < REPORT_ENTRIES_MAX {
            self.listed.push(entry);
        }
    }
}
