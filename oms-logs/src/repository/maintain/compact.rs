//! Few large files in place of many small ones.

use super::commit::Change;
use super::observe::{Sums, observed};
use super::retention::{date, day_of};
use super::rewrite::{DayWriter, read_sorted};
use super::{MaintenanceSettings, TIER_BYTES};
use crate::repository::snapshot::DataFile;
use crate::repository::table::Table;
use crate::workspace::Inner;
use crate::{Error, Workspace};
use deltalake_core::protocol::DeltaOperation;
use futures::TryStreamExt as _;
use jiff::civil::Date;
use oms_core::record::RecordType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most files that are put together at a time: each is open for reading.
pub(super) const FILES_MAX: usize = 32;

/// What a compaction looks at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CompactOptions {
    /// Only this table.
    pub table: Option<RecordType>,
    /// Puts together what there is, however few files of the running day.
    pub is_forced: bool,
}

/// What a compaction did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CompactReport {
    /// Each group of files that became others.
    pub done: Vec<TableCompaction>,
}

impl CompactReport {
    /// Files that are not in their tables any more.
    #[must_use]
    pub fn files_before(&self) -> usize {
        self.done.iter().map(|done| done.files_before).sum()
    }
}

/// One group of files of a day, put together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableCompaction {
    /// The table.
    pub table: RecordType,
    /// The UTC day of its rows.
    pub day: Date,
    /// Files that were removed from the table.
    pub files_before: usize,
    /// Files in their place.
    pub files: usize,
    /// Their rows.
    pub rows: u64,
    /// Bytes of the files before.
    pub bytes_before: u64,
    /// Bytes of the files in their place.
    pub bytes: u64,
}

impl Workspace {
    /// Puts small files of a day together, a Delta commit a group: no row of the table changes, and
    /// queries go from the old files to the new ones in one step. The old files are on disk until a
    /// later vacuum.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Delta`]: the first one, after trying every table; what was not put
    /// together stays as it is. [`Error::MaintainedElsewhere`], [`Error::Store`]; [`Error::Closed`].
    pub async fn compact(&self, options: &CompactOptions) -> Result<CompactReport, Error> {
        self.inner()?.compact(options).await
    }
}

impl Inner {
    pub(super) async fn compact(&self, options: &CompactOptions) -> Result<CompactReport, Error> {
        let sums = |report: &CompactReport| Sums {
            rows: report.done.iter().map(|done| done.rows).sum(),
            files: report.files_before(),
        };
        observed("compaction", self.compact_all(options), sums).await
    }

    async fn compact_all(&self, options: &CompactOptions) -> Result<CompactReport, Error> {
        let _one_at_a_time = self.keep.working.lock().await;
        self.epoch().await?;
        let mut report = CompactReport::default();
        let mut failed = None;
        for (name, table) in self.tables.all() {
            if options.table.as_ref().is_some_and(|only| *only != name) {
                continue;
            }
            if let Err(error) = self.compact_table(&table, options.is_forced, &mut report).await {
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(report), Err)
    }

    async fn compact_table(
        &self,
        table: &Table,
        is_forced: bool,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        table.check()?;
        if self.groups_of(table, is_forced).is_empty() {
            return Ok(());
        }
        // The files may be other ones since.
        self.tend(table).await?;
        for (day, group) in self.groups_of(table, is_forced) {
            report.done.extend(self.compact_group(table, day, &group).await?);
        }
        Ok(())
    }

    /// The files of a table that are worth putting together, by day.
    fn groups_of(&self, table: &Table, is_forced: bool) -> Vec<(i64, Vec<DataFile>)> {
        let today = day_of(self.clock.now());
        let mut days: BTreeMap<i64, Vec<DataFile>> = BTreeMap::new();
        for file in table.view().files.iter() {
            if let Some(day) = file.day {
                days.entry(day).or_default().push(file.clone());
            }
        }
        let groups = days.into_iter().flat_map(|(day, files)| {
            let is_over = is_forced || day < today;
            let groups = groups(files, is_over, &self.settings.maintenance);
            groups.into_iter().map(move |group| (day, group))
        });
        groups.collect()
    }

    async fn compact_group(
        &self,
        table: &Table,
        day: i64,
        files: &[DataFile],
    ) -> Result<Option<TableCompaction>, Error> {
        let (now, epoch) = (self.clock.now(), self.epoch().await?);
        // The schema in the Delta log: columns that it does not have yet have no values in files.
        let schema = Arc::clone(table.view().schema.arrow());
        let target = self.settings.maintenance.compaction_bytes;
        let mut writer = DayWriter::new(table, day, target, now).await;
        let failed = |error| Error::file(&table.name)(error);
        let mut rows = read_sorted(&schema, files, &self.keep.spill).map_err(failed)?;
        while let Some(batch) = rows.try_next().await.map_err(failed)? {
            writer.write(&batch, self.entropy.as_ref()).await?;
        }
        let (added, rows) = writer.finish().await?;
        let known: Option<u64> = files.iter().map(|file| file.stats.num_records).sum();
        if known.is_some_and(|known| known != rows) {
            let what = format!("compaction of {} read {rows} of {known:?} rows", table.name);
            return Err(Error::Internal { what });
        }
        let done = TableCompaction {
            table: table.name.clone(),
            day: date(day),
            files_before: files.len(),
            files: added.len(),
            rows,
            bytes_before: files.iter().map(|file| file.size).sum(),
            bytes: added.iter().map(|add| add.size.unsigned_abs()).sum(),
        };
        let change = Change {
            removed: files.iter().map(|file| file.path.clone()).collect(),
            added,
            changes_rows: false,
            operation: DeltaOperation::Optimize {
                predicate: None,
                target_size: i64::try_from(target).unwrap_or(i64::MAX),
            },
            epoch,
            settings: None,
        };
        let made = table.change(&change, now, |bytes| self.memory.release(bytes)).await?;
        if made {
            metrics::counter!("oms_logs_compaction_files_total")
                .increment(done.files_before as u64);
        }
        Ok(made.then_some(done))
    }
}

/// Files of one day that are worth putting together, in groups.
///
/// Files of half the wanted size are left alone. The others go together from the smallest on, as
/// long as the next one is not larger than those before it in sum, so that a row is written a
/// logarithmic number of times. A day that is over gets no more files, so all of its go together.
fn groups(
    mut files: Vec<DataFile>,
    is_over: bool,
    settings: &MaintenanceSettings,
) -> Vec<Vec<DataFile>> {
    files.retain(|file| file.size < settings.compaction_bytes / 2);
    files.sort_by(|a, b| a.size.cmp(&b.size).then_with(|| a.path.cmp(&b.path)));
    let least = if is_over { 2 } else { settings.compaction_files_min };
    let (mut groups, mut group, mut bytes) = (Vec::new(), Vec::<DataFile>::new(), 0_u64);
    for file in files {
        let fits = group.len() < FILES_MAX
            && bytes + file.size <= settings.compaction_bytes
            && (is_over || group.is_empty() || file.size <= bytes.max(TIER_BYTES));
        if !fits {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        bytes += file.size;
        group.push(file);
    }
    groups.push(group);
    groups.retain(|group| group.len() >= least);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::home::Place;
    use crate::repository::snapshot::FileStats;
    use std::path::Path;

    fn sizes(files: &[u64], is_over: bool) -> Vec<Vec<u64>> {
        let settings = MaintenanceSettings { compaction_bytes: 100 << 20, ..Default::default() };
        let home = Place::default().home(Path::new("/")).expect("a place");
        let home = Arc::new(home);
        let file = |(at, size): (usize, &u64)| DataFile {
            home: Arc::clone(&home),
            path: format!("f{at}").into(),
            size: size << 20,
            day: Some(0),
            stats: FileStats::default(),
        };
        let files = files.iter().enumerate().map(file).collect();
        let groups = groups(files, is_over, &settings);
        groups.iter().map(|group| group.iter().map(|file| file.size >> 20).collect()).collect()
    }

    #[test]
    fn small_files_wait_until_they_are_many_enough() {
        assert_eq!(sizes(&[1; 7], false), Vec::<Vec<u64>>::new());
        assert_eq!(sizes(&[1; 8], false), [vec![1; 8]]);
        assert_eq!(sizes(&[1; 7], true), [vec![1; 7]], "the day is over");
        assert_eq!(sizes(&[1], true), Vec::<Vec<u64>>::new(), "one file is one file");
    }

    #[test]
    fn large_files_are_not_written_again_for_small_ones() {
        assert_eq!(sizes(&[60, 1, 1, 1, 1, 1, 1, 1, 1], true), [vec![1; 8]]);
        let mut files = vec![1; 8];
        files.push(40);
        assert_eq!(sizes(&files, false), [vec![1; 8]], "40 is larger than what comes before it");
        files.extend([1; 24]);
        assert_eq!(sizes(&files, false), [vec![1; 32]], "so many are open at a time");
    }

    #[test]
    fn groups_stay_within_the_wanted_size() {
        assert_eq!(sizes(&[40, 40, 40, 40], true), [vec![40, 40], vec![40, 40]]);
    }
}
