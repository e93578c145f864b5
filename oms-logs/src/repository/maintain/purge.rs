//! Rows that someone wants gone.

use super::commit::Change;
use super::observe::{Sums, observed};
use super::operation::Operation;
use super::rewrite::{DayWriter, read_in_order};
use super::vacuum::Ages;
use crate::query::{Condition, QueryOptions, TableSource};
use crate::repository::snapshot::{DataFile, TableSnapshot};
use crate::repository::table::Table;
use crate::schema::TableSchema;
use crate::workspace::Inner;
use crate::{Error, Workspace};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat, filter_record_batch, not};
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use deltalake_core::kernel::Add;
use deltalake_core::protocol::DeltaOperation;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use oms_core::record::RecordType;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Purges that are tried when other writers take the files.
const ATTEMPTS_MAX: u32 = 5;

/// The longest that it may take to find the rows of one file.
const FILE_SECONDS_MAX: u64 = 3_600;

/// What a purge would remove, and removes by [`PurgePlan::apply`].
#[derive(Clone, Debug)]
pub struct PurgePlan {
    /// The table.
    pub table: RecordType,
    /// Rows that the condition takes.
    pub rows: u64,
    /// Data files that hold them, and are written again without them.
    pub files: usize,
    /// Bytes of those files.
    pub bytes: u64,
    /// What `now()` and `ago()` of the condition go by.
    pub now: Timestamp,
    condition: Condition,
    inner: Weak<Inner>,
}

/// What a purge did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PurgeReport {
    /// The table.
    pub table: RecordType,
    /// Rows that are gone.
    pub rows: u64,
    /// Data files that were written again without them.
    pub files: usize,
    /// Bytes that were deleted from disk.
    pub deleted_bytes: u64,
    /// The version of the Delta table now.
    pub delta_version: Option<u64>,
}

impl Workspace {
    /// Plans to remove the rows of a table that a condition of the query language takes, such as
    /// `Computer == 'x' and TimeGenerated < ago(30d)`, past the interactive retention too. Flushes
    /// first, so that they are counted wherever they are; what other writers did not flush is not
    /// counted, and purged all the same.
    ///
    /// # Errors
    /// [`Error::Select`] tells what is wrong with the condition, by place; [`Error::Unsupported`] if
    /// there is no such table; those of [`Workspace::flush`].
    pub async fn plan_purge(
        &self,
        table: &RecordType,
        condition: &str,
    ) -> Result<PurgePlan, Error> {
        self.inner()?.plan_purge(table, condition).await
    }
}

impl PurgePlan {
    /// Removes the rows that the condition takes and that were acknowledged before this call, in one
    /// Delta commit, and then deletes at once every file that the table does not need any more: a
    /// query that began before fails rather than see them, and no older version of the table can be
    /// read. An `Operation` row tells that it was done, without the condition.
    ///
    /// What outlives the rows: smallest and largest values of columns in the Delta log, until it is
    /// cleaned up 30 days later, and copies that were made of the table.
    ///
    /// # Errors
    /// Those of [`Workspace::flush`]; [`Error::Select`], [`Error::Delta`], [`Error::File`]: the rows
    /// are there or gone, and purging again completes it, deleting what is left on disk.
    /// [`Error::MaintainedElsewhere`] and [`Error::WritersBehind`], where several processes share the
    /// store: nothing was purged.
    pub async fn apply(self) -> Result<PurgeReport, Error> {
        let sums = |report: &PurgeReport| Sums { rows: report.rows, files: report.files };
        observed("purge", self.run(), sums).await
    }

    async fn run(self) -> Result<PurgeReport, Error> {
        let inner = self.inner.upgrade().ok_or(Error::Closed)?;
        let _one_at_a_time = inner.keep.working.lock().await;
        let table = inner.existing(&self.table)?;
        inner.epoch().await?;
        inner.flush_everywhere(&self.table).await?;
        let mut attempt = 1;
        let (rows, files) = loop {
            // What the others flushed is in its view then.
            inner.tend(&table).await?;
            if let Some(done) = inner.purge(&table, &self).await? {
                break done;
            }
            attempt += 1;
            if attempt > ATTEMPTS_MAX {
                let what = "a purge while another writer changes the same files".to_owned();
                return Err(Error::Unsupported { table: self.table.to_string(), what });
            }
        };
        let deleted = inner.vacuum_table(&table, inner.clock.now(), Ages::PURGE).await?;
        inner
            .tell(&[Operation {
                category: "Purge",
                status: "Succeeded",
                key: self.table.to_string(),
                detail: format!("{rows} rows of {} were purged from {files} files", self.table),
            }])
            .await?;
        Ok(PurgeReport {
            table: self.table,
            rows,
            files,
            deleted_bytes: deleted.map_or(0, |deleted| deleted.bytes),
            delta_version: table.view().delta_version,
        })
    }
}

/// The tables that a condition may look into.
#[derive(Debug)]
struct Others(Arc<Inner>);

impl TableSource for Others {
    fn table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        let snapshot = self.0.interactive_snapshot(&name.parse().ok()?)?;
        Some(Arc::new(snapshot))
    }

    fn table_names(&self) -> Vec<String> {
        self.0.tables.names()
    }
}

impl Inner {
    /// A table as ordinary queries see it; a standard one without rows too.
    pub(crate) fn interactive_snapshot(&self, name: &RecordType) -> Option<TableSnapshot> {
        let whole = self.total_snapshot(name)?;
        let days = self.keep.settings.of(name).interactive_retention_days;
        let first_day = super::day_of(self.clock.now()) - i64::from(days);
        // The only failure is a batch that does not have its own columns.
        whole.since(first_day).ok()
    }

    /// A table with the rows past its interactive retention.
    pub(crate) fn total_snapshot(&self, name: &RecordType) -> Option<TableSnapshot> {
        match self.tables.find(name) {
            Some(table) => Some(table.snapshot()),
            None => TableSchema::standard(name).map(TableSnapshot::empty),
        }
    }

    pub(super) fn existing(&self, name: &RecordType) -> Result<Arc<Table>, Error> {
        let what = || "a table that is not there".to_owned();
        let table = self.tables.find(name);
        table.ok_or_else(|| Error::Unsupported { table: name.to_string(), what: what() })
    }

    async fn plan_purge(
        self: &Arc<Self>,
        name: &RecordType,
        text: &str,
    ) -> Result<PurgePlan, Error> {
        let condition = Condition::parse(text).map_err(Error::select(name))?;
        if self.share.is_some() {
            self.refresh().await?;
        }
        let table = self.existing(name)?;
        table.check()?;
        Self::but_for_others(self.flush().await, name)?;
        let mut plan = PurgePlan {
            table: name.clone(),
            rows: 0,
            files: 0,
            bytes: 0,
            now: self.clock.now(),
            condition,
            inner: Arc::downgrade(self),
        };
        for (file, rows) in self.affected(&table, &plan).await? {
            plan.rows += rows;
            plan.files += 1;
            plan.bytes += file.size;
        }
        Ok(plan)
    }

    fn options(&self, plan: &PurgePlan) -> QueryOptions {
        let mut options = QueryOptions::new(Arc::clone(&self.clock));
        options.now = plan.now;
        options.timeout = Duration::from_secs(FILE_SECONDS_MAX);
        options.entropy = Arc::clone(&self.entropy);
        options
    }

    /// The files that hold rows of a purge, and how many.
    async fn affected(
        self: &Arc<Self>,
        table: &Table,
        plan: &PurgePlan,
    ) -> Result<Vec<(DataFile, u64)>, Error> {
        let (view, options, others) = (table.view(), self.options(plan), Others(Arc::clone(self)));
        let mut found = Vec::new();
        let schema = &view.schema;
        // A condition that means nothing is refused also if there is no file.
        let none: Arc<dyn TableProvider> =
            Arc::new(TableSnapshot::of_files(Arc::clone(schema), &[]));
        let checked = plan.condition.count(none, &others, &options).await;
        checked.map_err(Error::select(&table.name))?;
        for file in view.files.iter() {
            let rows: Arc<dyn TableProvider> =
                Arc::new(TableSnapshot::of_files(Arc::clone(schema), std::slice::from_ref(file)));
            let count = plan.condition.count(rows, &others, &options).await;
            let count = count.map_err(Error::select(&table.name))?;
            if count > 0 {
                found.push((file.clone(), count));
            }
        }
        Ok(found)
    }

    /// Writes the files again without the rows, and commits. Answers rows and files; none if another
    /// writer took one of the files meanwhile.
    async fn purge(
        self: &Arc<Self>,
        table: &Table,
        plan: &PurgePlan,
    ) -> Result<Option<(u64, usize)>, Error> {
        let affected = self.affected(table, plan).await?;
        if affected.is_empty() {
            return Ok(Some((0, 0)));
        }
        let rows = affected.iter().map(|(_, rows)| rows).sum();
        let (mut added, files) = (Vec::new(), affected.len());
        for (file, rows) in &affected {
            added.extend(self.without(table, plan, file, *rows).await?);
        }
        let epoch = self.epoch().await?;
        let change = Change {
            removed: affected.into_iter().map(|(file, _)| file.path).collect(),
            added,
            changes_rows: true,
            // The condition may name what is not to be kept.
            operation: DeltaOperation::Delete { predicate: None },
            epoch,
            settings: None,
        };
        let now = self.clock.now();
        let made = table.change(&change, now, |bytes| self.memory.release(bytes)).await?;
        Ok(made.then_some((rows, files)))
    }

    /// Writes one file again without the rows that a purge takes, of which it has `rows`.
    async fn without(
        self: &Arc<Self>,
        table: &Table,
        plan: &PurgePlan,
        file: &DataFile,
        rows: u64,
    ) -> Result<Vec<Add>, Error> {
        let Some(day) = file.day else {
            let what = format!("a purge of file {}, which is of no day", file.path);
            return Err(Error::Unsupported { table: table.name.to_string(), what });
        };
        let failed = |error: DataFusionError| Error::file(&table.name)(error);
        let view = table.view();
        let schema = Arc::clone(view.schema.arrow());
        let provider =
            TableSnapshot::of_files(Arc::clone(&view.schema), std::slice::from_ref(file));
        let (others, options) = (Others(Arc::clone(self)), self.options(plan));
        let mask = plan.condition.mask(Arc::new(provider), &others, &options).await;
        let mut mask = Mask::new(mask.map_err(Error::select(&table.name))?);
        let mut read = read_in_order(&schema, file, &self.keep.spill).map_err(failed)?;
        let target = self.settings.maintenance.compaction_bytes;
        let writer = DayWriter::new(table, day, target, self.clock.now()).await;
        let mut writer = writer.ordered_as(file);
        let (mut before, differ) = (0, |what: &str| Error::Internal {
            what: format!("purge of {} read {what} rows of a file", table.name),
        });
        while let Some(batch) = read.try_next().await.map_err(failed)? {
            before += batch.num_rows() as u64;
            let taken = mask.next(batch.num_rows()).await.map_err(failed)?;
            let taken = taken.ok_or_else(|| differ("more"))?;
            let kept = kept(&batch, &taken).map_err(Error::arrow("purge"))?;
            writer.write(&kept, self.entropy.as_ref()).await?;
        }
        let (mut added, after) = writer.finish().await?;
        if !mask.is_over().await.map_err(failed)? || before - after != rows {
            return Err(differ("other"));
        }
        for add in &mut added {
            add.data_change = true;
        }
        Ok(added)
    }
}

fn kept(rows: &RecordBatch, taken: &BooleanArray) -> Result<RecordBatch, arrow::error::ArrowError> {
    filter_record_batch(rows, &not(taken)?)
}

/// Whether each row is taken, in pieces of any size.
struct Mask {
    batches: SendableRecordBatchStream,
    /// What came and was not given out.
    left: Vec<BooleanArray>,
}

impl Mask {
    const fn new(batches: SendableRecordBatchStream) -> Self {
        Self { batches, left: Vec::new() }
    }

    /// The next `count`; none if there are fewer.
    async fn next(&mut self, count: usize) -> Result<Option<BooleanArray>, DataFusionError> {
        let held = |left: &[BooleanArray]| left.iter().map(BooleanArray::len).sum::<usize>();
        while held(&self.left) < count {
            let Some(batch) = self.batches.try_next().await? else { return Ok(None) };
            self.left.push(batch.column(0).as_boolean().clone());
        }
        let parts: Vec<&dyn arrow::array::Array> = self.left.iter().map(|part| part as _).collect();
        let all = concat(&parts)?.as_boolean().clone();
        self.left = vec![all.slice(count, all.len() - count)];
        Ok(Some(all.slice(0, count)))
    }

    /// Whether everything was given out.
    async fn is_over(&mut self) -> Result<bool, DataFusionError> {
        while let Some(batch) = self.batches.try_next().await? {
            self.left.push(batch.column(0).as_boolean().clone());
        }
        Ok(self.left.iter().all(BooleanArray::is_empty))
    }
}
