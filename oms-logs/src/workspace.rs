//! The front door of the log repository.

use crate::Error;
use crate::ingest::columnar::RowBatch;
use crate::ingest::rule::RuleStore;
use crate::ingest::wal::Syncer;
use crate::repository::folder::Identity;
use crate::repository::maintain::{Keep, MaintenanceSettings, TableSettings};
use crate::repository::memory::Memory;
use crate::repository::share::Share;
use crate::repository::snapshot::TableSnapshot;
use crate::repository::table::Table;
use crate::repository::tables::Tables;
use crate::schema::TableSchema;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::runtime_env::RuntimeEnv;
use jiff::SignedDuration;
use oms_core::disk::DiskLock;
use oms_core::record::{Batch, RecordType, SinkError};
use oms_core::task::blocking;
use oms_core::{Clock, Disk, Entropy, ErrorKind, RecordSink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

mod aside;

mod builder;

mod custom;

mod flush;

mod load;

mod stream;

mod write;

pub use crate::repository::table::TableFlush;
pub use builder::WorkspaceBuilder;
pub use load::{LoadFailure, LoadFile, LoadOptions, LoadReport, RefusedRow};

/// The most tables of one workspace.
pub const TABLES_MAX: usize = 5_000;

/// How often the background task looks whether a flush is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When a sender that finds the workspace full tries again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;

/// How a workspace runs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The workspace's id (`TenantId`). Unset: the one in the folder, or a new one.
    pub workspace_id: Option<Uuid>,
    /// Bytes of rows that may wait for a flush. Past it, writers are told to come back. A batch that
    /// is larger is taken when nothing else waits.
    ///
    /// At its peak the workspace uses more: each batch on its way into the log has a copy, and a flush
    /// holds up to 96 MiB of the rows of one table united, the same rows sorted, and their files. So
    /// at most about 250 MiB come to what may wait, unless one batch is larger than that by itself.
    pub memory_bytes_max: u64,
    /// Bytes of waiting rows that start a flush.
    pub flush_bytes: u64,
    /// Age of the oldest waiting row that starts a flush.
    pub flush_age: SignedDuration,
    /// Bytes of one segment of the write-ahead log. A log that is written to much takes as much more
    /// as two segments, for files that are there before they are needed, as long as the workspace is
    /// open.
    pub segment_bytes_max: u64,
    /// Plan and retention of tables that have none of their own, see
    /// [`Workspace::set_table_settings`].
    pub table_settings: TableSettings,
    /// How often it is looked what other writers of a [shared](WorkspaceBuilder::shared) store did,
    /// 100 milliseconds to an hour: their rows are seen so much later than they were flushed. Each
    /// time costs five requests and one a table. Zero leaves it to calls of [`Workspace::refresh`],
    /// which have to come: others wait for this process where they purge, or own maintenance.
    pub refresh_every: SignedDuration,
    /// How long a [diskless](WorkspaceBuilder::diskless) workspace gathers what goes into one object of
    /// its log, 1 millisecond to 10 seconds. An acknowledgement waits for so long at most, and for the
    /// request that creates the object; a workspace that is written to all the time makes a request
    /// an interval.
    pub log_interval: SignedDuration,
    /// How tables are compacted and vacuumed.
    pub maintenance: MaintenanceSettings,
}

impl Default for Settings {
    /// 256 MiB in memory, a flush at 64 MiB or 30 seconds, segments of 64 MiB, 30 days of
    /// retention, a look at what others did every 5 seconds, an object of a diskless log every 250
    /// milliseconds.
    fn default() -> Self {
        Self {
            workspace_id: None,
            memory_bytes_max: 256 << 20,
            flush_bytes: 64 << 20,
            flush_age: SignedDuration::from_secs(30),
            segment_bytes_max: 64 << 20,
            table_settings: TableSettings::default(),
            refresh_every: SignedDuration::from_secs(5),
            log_interval: SignedDuration::from_millis(250),
            maintenance: MaintenanceSettings::default(),
        }
    }
}

/// One table, as [`Workspace::tables`] shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableReport {
    /// Its name, which is also the type of its records.
    pub name: String,
    /// Rows that are there, flushed or not, also those past the interactive retention.
    pub rows: u64,
    /// Bytes of its data files, and about as many as its fresh rows take in memory.
    pub bytes: u64,
    /// The folder of its Delta table, a path or the URL in an object store. It is there after the
    /// first flush.
    pub location: String,
}

/// What a flush did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FlushReport {
    /// Every table that had fresh rows, by name.
    pub tables: Vec<TableFlush>,
}

impl FlushReport {
    /// Rows that went into files.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// A part of the write-ahead log that could not be read. See [`WorkspaceBuilder::quarantine`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LogDamage {
    /// The segment, on the log's disk.
    pub path: String,
    /// Where in the segment, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
    /// Batches that are missing there, some of which may have been flushed before. None if nothing
    /// that can be read follows, so that it is not known.
    pub batches_missing: Option<u64>,
    /// Where the segment is now, on the log's disk.
    pub moved_to: String,
}

/// A Log Analytics workspace: tables of records, durable from the moment a write is acknowledged,
/// visible to queries from the same moment, and kept as Delta tables in `FOLDER/tables/`.
///
/// ```text
///  FOLDER/LOCK             held by the process that has it open
///  FOLDER/workspace.json   the ids of the workspace and of this node
///  FOLDER/tables.json      plans and retention of tables
///  FOLDER/rules.json       data collection rules
///  FOLDER/maintenance.json when retention and vacuum ran
///  FOLDER/heads.json       the newest version of each table that was seen
///  FOLDER/wal/             what is acknowledged and not flushed
///  FOLDER/wal/held/        of that, what tables wait for whose logs are damaged
///  FOLDER/tables/Perf/     a Delta table
/// ```
///
/// Damage at rest is told by name, and stops nothing else: a table whose Delta log is damaged is neither
/// read nor written until it is mended, see [`Workspace::damage`], and a query that comes upon a damaged
/// data file fails, see [`Workspace::check`].
///
/// It needs a Tokio runtime, in which a task flushes by size and age and another one maintains the
/// tables, see [`maintain`](crate::repository::maintain). Dropping it stops them, at the next step of
/// what they are doing, and the folder is free then; [`Workspace::close`] waits for that, and flushes
/// first.
#[derive(Debug)]
pub struct Workspace {
    inner: RwLock<Option<Arc<Inner>>>,
    /// Tasks that stop with it.
    background: Mutex<tokio::task::JoinSet<()>>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    // Dropped first: the log's thread ends before the lock is given up.
    syncer: Syncer,
    _lock: DiskLock,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) settings: Settings,
    identity: Identity,
    pub(crate) tables: Arc<Tables>,
    /// Where the log is.
    log_disk: Option<Arc<dyn Disk>>,
    /// The newest log sequence of the rows that were put aside, by table.
    aside: Mutex<BTreeMap<RecordType, u64>>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) keep: Keep,
    /// What is agreed on with other writers; none if there are none.
    pub(crate) share: Option<Share>,
    pub(crate) rules: RuleStore,
    /// Of what comes over HTTP, through however many surfaces.
    #[cfg(feature = "http")]
    pub(crate) http_numbers: Arc<crate::http::Numbers>,
    log_damage: Vec<LogDamage>,
    flushing: tokio::sync::Mutex<()>,
    /// Turns of batches of custom tables.
    reading: Semaphore,
    flush_due: Arc<Notify>,
    /// When the oldest row that waits for a flush came, by the monotonic clock.
    oldest: Mutex<Option<Duration>>,
    /// What queries share: the footers of the files that they read.
    runtime: Arc<RuntimeEnv>,
}

impl Workspace {
    /// A workspace in `folder`, with the defaults of [`Settings`].
    #[must_use]
    pub fn builder(folder: impl Into<PathBuf>) -> WorkspaceBuilder {
        WorkspaceBuilder::new(folder.into())
    }

    pub(crate) fn inner(&self) -> Result<Arc<Inner>, Error> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.clone().ok_or(Error::Closed)
    }

    fn background(&self) -> MutexGuard<'_, tokio::task::JoinSet<()>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The workspace's id, which every row carries as `TenantId`.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn id(&self) -> Result<Uuid, Error> {
        Ok(self.inner()?.identity.workspace_id)
    }

    /// Bytes of rows that wait for a flush, of the [`Settings::memory_bytes_max`] that may.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn waiting_bytes(&self) -> Result<u64, Error> {
        Ok(self.inner()?.memory.used())
    }

    /// What of the write-ahead log could not be read when the workspace was opened, in order.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn log_damage(&self) -> Result<Vec<LogDamage>, Error> {
        Ok(self.inner()?.log_damage.clone())
    }

    /// The highest sequence of a producer that was written, 0 if none was: a producer that keeps no
    /// count of its own goes on from here.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn last_sequence(&self, producer: &str) -> Result<u64, Error> {
        Ok(self.inner()?.last_sequence(producer))
    }

    /// Writes a batch: `Ok` means that it survives a power failure and that queries see it. A
    /// batch of the same producer and sequence is written once.
    ///
    /// A batch goes into the log whole or not at all. Its rows of different tables become visible
    /// one table after the other.
    ///
    /// # Errors
    /// [`Error::Record`] and [`Error::Batch`] refuse the whole batch; after [`Error::Busy`],
    /// [`Error::Disk`] and [`Error::Store`] the same batch can be sent again, and after
    /// [`Error::WriterReplaced`] to the process that has the place now. [`Error::Damaged`] names a table
    /// that takes nothing until it is mended.
    pub async fn write(&self, batch: Batch) -> Result<(), Error> {
        self.inner()?.write(batch).await
    }

    /// Writes rows of one table that are Arrow columns already: as [`Workspace::write`] in every
    /// other respect, and several times as fast. [`ingest::columnar`](crate::ingest::columnar) has
    /// the types that a column may have.
    ///
    /// ```
    /// use oms_logs::arrow::array::{RecordBatch, StringArray, TimestampSecondArray};
    /// use oms_logs::{RowBatch, Workspace};
    /// use std::sync::Arc;
    ///
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let temporary = tempfile::tempdir().unwrap();
    /// # let folder = temporary.path();
    /// let workspace = Workspace::builder(folder).build().await?;
    /// let rows = RecordBatch::try_from_iter([
    ///     ("TimeGenerated", Arc::new(TimestampSecondArray::from(vec![1_795_428_000])) as _),
    ///     ("Computer", Arc::new(StringArray::from(vec!["web-1"])) as _),
    ///     ("SyslogMessage", Arc::new(StringArray::from(vec!["link is up"])) as _),
    /// ])?;
    /// let batch =
    ///     RowBatch { producer: "agent-1".into(), sequence: 1, table: "Syslog".parse()?, rows };
    /// workspace.write_rows(batch).await?;
    /// assert_eq!(workspace.tables()[0].rows, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Workspace::write`]; the place in [`Error::Record`] is the row's.
    pub async fn write_rows(&self, batch: RowBatch) -> Result<(), Error> {
        self.inner()?.write_rows(batch).await
    }

    /// Brings every row that was acknowledged before this call into the Delta tables.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Delta`], [`Error::Disk`]: the first one, after trying every
    /// table. Nothing is lost; the next flush goes on. [`Error::Damaged`] if every table was flushed
    /// but some whose logs are damaged: their rows stay durable here until they are mended.
    pub async fn flush(&self) -> Result<FlushReport, Error> {
        self.inner()?.flush().await
    }

    /// The tables that have or had rows, by name; none once the workspace is closed.
    #[must_use]
    pub fn tables(&self) -> Vec<TableReport> {
        let Ok(inner) = self.inner() else { return Vec::new() };
        let tables = inner.tables.all();
        let report = |(name, table): (RecordType, Arc<Table>)| {
            let view = table.view();
            TableReport {
                name: name.to_string(),
                rows: view.rows(),
                bytes: view.bytes(),
                location: table.home().location(),
            }
        };
        tables.into_iter().map(report).filter(|table| table.rows > 0).collect()
    }

    /// The names of the tables that have rows, or may have some: of a damaged one it is not known.
    #[must_use]
    pub fn table_names(&self) -> Vec<String> {
        let Ok(inner) = self.inner() else { return Vec::new() };
        inner.tables.names()
    }

    /// The columns that a table has, or starts with if it has no rows yet.
    #[must_use]
    pub fn table_schema(&self, name: &RecordType) -> TableSchema {
        let table = self.inner().ok().and_then(|inner| inner.tables.find(name));
        table.map_or_else(
            || TableSchema::initial(name),
            |table| TableSchema::clone(&table.view().schema),
        )
    }

    /// A table as it is now: what is acknowledged is there, as far as its interactive retention goes.
    /// A standard table without rows is there too; none for other names.
    #[must_use]
    pub fn table_snapshot(&self, name: &str) -> Option<TableSnapshot> {
        self.inner().ok()?.interactive_snapshot(&name.parse().ok()?)
    }

    /// A table as [`Workspace::table_snapshot`] gives it, with the rows that are past its
    /// interactive retention and not yet removed.
    #[must_use]
    pub fn table_snapshot_total(&self, name: &str) -> Option<TableSnapshot> {
        self.inner().ok()?.total_snapshot(&name.parse().ok()?)
    }

    /// What queries share; none once the workspace is closed.
    pub(crate) fn runtime(&self) -> Option<Arc<RuntimeEnv>> {
        self.inner().ok().map(|inner| Arc::clone(&inner.runtime))
    }

    /// [`Workspace::table_snapshot`] for DataFusion.
    #[must_use]
    pub fn table_provider(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        let snapshot = self.table_snapshot(name)?;
        Some(Arc::new(snapshot))
    }

    /// Flushes, stops, and gives the folder up. Writes that come later are refused.
    ///
    /// # Errors
    /// Those of [`Workspace::flush`]: the workspace is closed all the same, and what was not flushed
    /// is in the log.
    pub async fn close(&self) -> Result<FlushReport, Error> {
        let taken = self.inner.write().unwrap_or_else(PoisonError::into_inner).take();
        let inner = taken.ok_or(Error::Closed)?;
        let mut background = std::mem::take(&mut *self.background());
        background.shutdown().await;
        if inner.settings.maintenance.is_automatic
            && let Err(error) = inner.tell_refused().await
        {
            tracing::warn!(error = %whole(&error), "refused input is not told");
        }
        let flushed = inner.flush().await;
        inner.leave(flushed.is_ok()).await;
        // The last owner waits for the log's thread, which blocks.
        blocking(move || {
            drop(inner);
            Ok::<(), Error>(())
        })
        .await?;
        flushed
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        self.background().abort_all();
    }
}

#[async_trait]
impl RecordSink for Workspace {
    async fn write(&self, batch: Batch) -> Result<(), SinkError> {
        let (producer, sequence) = (batch.producer.clone(), batch.sequence);
        Self::write(self, batch).await.map_err(|error| match error.kind() {
            ErrorKind::Invalid => {
                SinkError::Refused { producer, sequence, reason: error.to_string() }
            }
            ErrorKind::LimitExceeded { .. } if matches!(error, Error::Busy { .. }) => {
                SinkError::Busy { retry_after_ms: RETRY_AFTER_MS }
            }
            _ => SinkError::Unavailable { reason: whole(&error) },
        })
    }
}

/// An error with its sources.
pub(crate) fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Inner {
    /// The highest sequence of a producer that was written, 0 if none was.
    pub(crate) fn last_sequence(&self, producer: &str) -> u64 {
        self.syncer.last_sequence(producer)
    }

    fn is_flush_due(&self) -> bool {
        let oldest = *self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        let age = oldest.map(|oldest| self.clock.monotonic().saturating_sub(oldest));
        let age_max = self.settings.flush_age.unsigned_abs();
        self.memory.used() >= self.settings.flush_bytes || age.is_some_and(|age| age >= age_max)
    }
}

fn count_records(outcome: &'static str, records: u64) {
    metrics::counter!("oms_logs_records_total", "outcome" => outcome).increment(records);
}

/// Flushes when it is due, as long as the workspace is there.
async fn run(inner: Weak<Inner>, due: Arc<Notify>) {
    loop {
        let _ = tokio::time::timeout(LOOK_EVERY, due.notified()).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.is_flush_due()
            && let Err(error) = inner.flush().await
        {
            tracing::warn!(error = %whole(&error), "flush failed, it is tried again");
            inner.note_waiting();
            drop(inner);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray as _, RecordBatch};
    use arrow::datatypes::Float64Type;
    use datafusion::prelude::SessionContext;
    use futures::future::BoxFuture;
    use oms_core::clock::ManualClock;
    use oms_core::testkit::sink::{ReadableSink, perf_batch};

    /// A workspace and its folder, which goes after it.
    #[derive(Debug)]
    struct Kept {
        workspace: Workspace,
        _folder: tempfile::TempDir,
    }

    #[async_trait]
    impl RecordSink for Kept {
        async fn write(&self, batch: Batch) -> Result<(), SinkError> {
            RecordSink::write(&self.workspace, batch).await
        }
    }

    impl ReadableSink for Kept {
        fn numbers(&self) -> BoxFuture<'_, Vec<u64>> {
            Box::pin(async {
                let table = self.workspace.table_provider("Perf").expect("a standard table");
                let frame = SessionContext::new().read_table(table).expect("a frame");
                let column = |rows: &RecordBatch| {
                    let values = rows.column_by_name("CounterValue").expect("the column");
                    values.as_primitive::<Float64Type>().values().to_vec()
                };
                let rows = frame.collect().await.expect("rows");
                rows.iter().flat_map(column).map(|number| number as u64).collect()
            })
        }
    }

    oms_core::record_sink_conformance!(|| async {
        let folder = tempfile::tempdir().expect("a folder");
        // The suite's rows are of one day, and an ordinary query finds those of the last 30.
        let clock = ManualClock::new("2026-11-24T00:00:00Z".parse().expect("a time"));
        let workspace = Workspace::builder(folder.path()).clock(Arc::new(clock));
        let workspace = workspace.build().await.expect("a workspace");
        Kept { workspace, _folder: folder }
    });

    #[tokio::test]
    async fn a_refusal_names_the_column_and_a_flush_changes_no_row() {
        let folder = tempfile::tempdir().expect("a folder");
        let workspace = Workspace::builder(folder.path()).build().await.expect("a workspace");
        RecordSink::write(&workspace, perf_batch("a", 1, 0..7)).await.expect("taken");
        let mut wrong = perf_batch("a", 2, 7..9);
        wrong.records[1].fields.insert("CounterValue".to_owned(), "high".into());
        let refused = RecordSink::write(&workspace, wrong).await.expect_err("refused");
        assert!(refused.to_string().contains("CounterValue"), "{refused}");
        let rows = || workspace.tables().iter().map(|table| table.rows).sum::<u64>();
        assert_eq!(rows(), 7);
        workspace.flush().await.expect("flushed");
        assert_eq!(rows(), 7);
    }
}
