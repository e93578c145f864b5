//! Rows that are past their total retention.

use super::commit::Change;
use super::observe::{Sums, observed};
use crate::repository::commit::SETTINGS_MARK;
use crate::repository::encode::DAY_MICROSECONDS;
use crate::repository::share::Epoch;
use crate::repository::snapshot::DataFile;
use crate::repository::table::Table;
use crate::schema::{DAY_COLUMN, TIME_RECEIVED};
use crate::workspace::Inner;
use crate::{Error, Workspace};
use deltalake_core::protocol::DeltaOperation;
use jiff::Timestamp;
use jiff::civil::Date;
use oms_core::record::RecordType;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What retention would remove, and removes by [`RetentionPlan::apply`].
#[derive(Clone, Debug)]
pub struct RetentionPlan {
    /// The tables that have such rows, by name.
    pub tables: Vec<TableRetention>,
    /// When retention ran last, if the clock went on by more than
    /// [`clock_jump_max`](super::MaintenanceSettings::clock_jump_max) since: then the plan is
    /// refused, unless it is told to trust the clock.
    pub clock_jumped_from: Option<Timestamp>,
    /// When it was made for.
    pub now: Timestamp,
    inner: Weak<Inner>,
}

/// What of one table is past its total retention.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableRetention {
    /// The table.
    pub table: RecordType,
    /// The oldest day that stays.
    pub first_day: Date,
    /// The days that go, in order.
    pub days: Vec<ExpiredDay>,
}

/// One day that goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExpiredDay {
    /// The UTC day of `TimeGenerated`.
    pub day: Date,
    /// Its data files.
    pub files: usize,
    /// Their rows, as far as their statistics tell.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What retention removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RetentionReport {
    /// Every table that lost rows, by name.
    pub tables: Vec<TableRemoval>,
}

/// What was removed from one table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableRemoval {
    /// The table.
    pub table: RecordType,
    /// Data files.
    pub files: usize,
    /// Their rows, as far as their statistics tell.
    pub rows: u64,
    /// Their bytes, which are free after a later vacuum.
    pub bytes: u64,
    /// The version of the Delta table now.
    pub delta_version: u64,
}

impl RetentionPlan {
    /// Rows that go, as far as the files' statistics tell.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().flat_map(|table| &table.days).map(|day| day.rows).sum()
    }

    /// The plan for an operator who has seen that the clock is right.
    #[must_use]
    pub fn trusting_the_clock(mut self) -> Self {
        self.clock_jumped_from = None;
        self
    }

    /// Removes what the plan says, a Delta commit a table. What a longer retention keeps since, and
    /// rows that are not flushed, stay. The files are on disk until a later vacuum.
    ///
    /// # Errors
    /// [`Error::ClockJump`]; [`Error::Delta`], the first one, after trying every table: a new plan
    /// goes on; [`Error::MaintainedElsewhere`], [`Error::Store`]; [`Error::Closed`].
    pub async fn apply(self) -> Result<RetentionReport, Error> {
        let sums = |report: &RetentionReport| Sums {
            rows: report.tables.iter().map(|table| table.rows).sum(),
            files: report.tables.iter().map(|table| table.files).sum(),
        };
        observed("retention", self.run(), sums).await
    }

    async fn run(self) -> Result<RetentionReport, Error> {
        if let Some(last) = self.clock_jumped_from {
            return Err(Error::ClockJump { now: self.now, last });
        }
        let inner = self.inner.upgrade().ok_or(Error::Closed)?;
        let mut progress = inner.keep.working.lock().await;
        // Also where there is nothing to remove: who does not own maintenance has not done it.
        inner.epoch().await?;
        let report = inner.remove_expired(&self).await?;
        progress.retained = Some(self.now);
        progress.doubted = None;
        inner.keep.save(*progress).await?;
        Ok(report)
    }
}

impl Workspace {
    /// Plans what retention removes if the time is `now`: whole days of `TimeGenerated` that are
    /// past the total retention of their table.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn plan_retention(&self, now: Timestamp) -> Result<RetentionPlan, Error> {
        self.inner()?.plan_retention(now).await
    }
}

impl Inner {
    pub(super) async fn plan_retention(
        self: &Arc<Self>,
        now: Timestamp,
    ) -> Result<RetentionPlan, Error> {
        let progress = *self.keep.working.lock().await;
        let newest = self.newest_received();
        let jump_max = self.settings.maintenance.clock_jump_max;
        let doubt = progress.doubt(newest, now, jump_max);
        let mut tables = Vec::new();
        for (name, table) in self.tables.all() {
            let first_day = self.first_day(&name, now);
            let mut days: BTreeMap<i64, ExpiredDay> = BTreeMap::new();
            for file in table.view().files.iter() {
                let Some(number) = file.day.filter(|day| *day < first_day) else { continue };
                let empty = ExpiredDay { day: date(number), files: 0, rows: 0, bytes: 0 };
                let day = days.entry(number).or_insert(empty);
                day.files += 1;
                day.rows += file.stats.num_records.unwrap_or(0);
                day.bytes += file.size;
            }
            let days: Vec<_> = days.into_values().collect();
            if !days.is_empty() {
                tables.push(TableRetention { table: name, first_day: date(first_day), days });
            }
        }
        let clock_jumped_from = doubt.map(|_since| progress.last(newest, now));
        Ok(RetentionPlan { tables, clock_jumped_from, now, inner: Arc::downgrade(self) })
    }

    /// Plans and applies, unless the clock is in doubt.
    pub(super) async fn retain(self: &Arc<Self>) -> Result<RetentionReport, Error> {
        let now = self.clock.now();
        let plan = self.plan_retention(now).await?;
        {
            let mut progress = self.keep.working.lock().await;
            let jump_max = self.settings.maintenance.clock_jump_max;
            progress.doubted = progress.doubt(self.newest_received(), now, jump_max);
            if progress.doubted.is_some() {
                self.keep.save(*progress).await?;
            }
        }
        plan.apply().await
    }

    /// The oldest day of a table that total retention keeps.
    fn first_day(&self, table: &RecordType, now: Timestamp) -> i64 {
        day_of(now) - i64::from(self.keep.settings.total_days(table, now))
    }

    async fn remove_expired(&self, plan: &RetentionPlan) -> Result<RetentionReport, Error> {
        let mut report = RetentionReport::default();
        let mut failed = None;
        for planned in &plan.tables {
            let Some(table) = self.tables.find(&planned.table) else { continue };
            let by = match self.settled_by(&table).await {
                Err(error @ Error::Damaged(_)) => {
                    failed = failed.or(Some(error));
                    continue;
                }
                by => by?,
            };
            // Settings may have become longer since the plan was made.
            let first_day = self.first_day(&planned.table, plan.now);
            let is_planned = |file: &&DataFile| {
                let day = file.day.filter(|day| *day < first_day).map(date);
                day.is_some_and(|day| planned.days.iter().any(|planned| planned.day == day))
            };
            let view = table.view();
            let expired: Vec<&DataFile> = view.files.iter().filter(is_planned).collect();
            match self.remove_files(&table, &expired, first_day, by).await {
                Ok(removal) => report.tables.extend(removal),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(report), Err)
    }

    /// The ownership by which retention removes files of a table, and which settings it goes by, read
    /// after that.
    async fn settled_by(&self, table: &Table) -> Result<Option<(Epoch, Option<String>)>, Error> {
        let Some(epoch) = self.tend(table).await? else { return Ok(None) };
        let settings = table.mark(SETTINGS_MARK).await;
        self.keep.settings.refresh().await?;
        Ok(Some((epoch, settings)))
    }

    async fn remove_files(
        &self,
        table: &Table,
        files: &[&DataFile],
        first_day: i64,
        by: Option<(Epoch, Option<String>)>,
    ) -> Result<Option<TableRemoval>, Error> {
        if files.is_empty() {
            return Ok(None);
        }
        let (epoch, settings) = by.unzip();
        let predicate = format!("{DAY_COLUMN} < '{}'", date(first_day));
        let change = Change {
            removed: files.iter().map(|file| file.path.clone()).collect(),
            added: Vec::new(),
            changes_rows: true,
            operation: DeltaOperation::Delete { predicate: Some(predicate) },
            epoch,
            settings,
        };
        let made = table.change(&change, self.clock.now(), |bytes| self.memory.release(bytes));
        if !made.await? {
            // Another writer took some of the files, or changed the settings; the next run sees what
            // is left.
            return Ok(None);
        }
        let removal = TableRemoval {
            table: table.name.clone(),
            files: files.len(),
            rows: files.iter().filter_map(|file| file.stats.num_records).sum(),
            bytes: files.iter().map(|file| file.size).sum(),
            delta_version: table.view().delta_version.unwrap_or(0),
        };
        tracing::info!(table = %removal.table, rows = removal.rows, files = removal.files, first_day = %date(first_day), "retention removed rows");
        metrics::counter!("oms_logs_retention_rows_total").increment(removal.rows);
        Ok(Some(removal))
    }

    /// When the newest row of any table came, as far as the files' statistics tell.
    fn newest_received(&self) -> Option<Timestamp> {
        let tables = self.tables.all();
        let views = tables.iter().map(|(_, table)| table.view());
        views
            .flat_map(|view| {
                let newest = |file: &DataFile| file.stats.newest(TIME_RECEIVED);
                view.files.iter().filter_map(newest).max()
            })
            .max()
    }
}

/// The UTC day of a time, in days since 1970.
pub(crate) fn day_of(time: Timestamp) -> i64 {
    time.as_microsecond().div_euclid(DAY_MICROSECONDS)
}

/// A day since 1970 as a date; the first or last one that there is for those outside.
pub(crate) fn date(day: i64) -> Date {
    let time = day.saturating_mul(DAY_MICROSECONDS);
    let time = time.clamp(Timestamp::MIN.as_microsecond(), Timestamp::MAX.as_microsecond());
    let time = Timestamp::from_microsecond(time).unwrap_or_default();
    jiff::tz::Offset::UTC.to_datetime(time).date()
}
