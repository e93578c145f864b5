//! Files that no version of a table within reach needs any more.

use super::observe::{Sums, observed};
use crate::repository::commit::{Committer, VACUUM_MARK};
use crate::repository::share::{Epoch, drawn};
use crate::repository::table::Table;
use crate::schema::DAY_COLUMN;
use crate::workspace::Inner;
use crate::{Error, Workspace};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use object_store::ObjectStoreExt as _;
use object_store::path::Path as ObjectPath;
use oms_core::disk::DiskError;
use oms_core::record::RecordType;
use oms_core::task::blocking;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// How old a file has to be that no commit names, before even a purge takes it for a leftover.
const LEFTOVER_AGE: SignedDuration = SignedDuration::from_hours(1);

/// What a vacuum deleted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VacuumReport {
    /// Every table that lost files, by name.
    pub tables: Vec<VacuumTable>,
}

/// What a vacuum deleted of one table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VacuumTable {
    /// The table.
    pub table: RecordType,
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl VacuumReport {
    /// Bytes that are free again.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }
}

impl Workspace {
    /// Deletes data files that were removed from their table at least
    /// [`removed_files_kept`](super::MaintenanceSettings::removed_files_kept) ago, and files as old
    /// as that which no table ever had, as a process leaves them that is killed while it writes.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::File`]: the first one, after trying every table;
    /// [`Error::MaintainedElsewhere`], [`Error::Store`]; [`Error::Closed`].
    pub async fn vacuum(&self) -> Result<VacuumReport, Error> {
        self.inner()?.vacuum().await
    }
}

impl Inner {
    pub(super) async fn vacuum(&self) -> Result<VacuumReport, Error> {
        // Rows were gone before.
        let sums = |report: &VacuumReport| Sums {
            rows: 0,
            files: report.tables.iter().map(|table| table.files).sum(),
        };
        observed("vacuum", self.vacuum_all(), sums).await
    }

    async fn vacuum_all(&self) -> Result<VacuumReport, Error> {
        let mut progress = self.keep.working.lock().await;
        let now = self.clock.now();
        let kept = self.settings.maintenance.removed_files_kept;
        let mut report = VacuumReport::default();
        let mut failed = None;
        self.epoch().await?;
        for (_, table) in self.tables.all() {
            let ages = Ages { removed: kept, leftover: kept };
            match self.vacuum_table(&table, now, ages).await {
                Ok(vacuumed) => report.tables.extend(vacuumed),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(share) = &self.share {
            share.clear_requests(now).await?;
        }
        progress.vacuumed = Some(now);
        self.keep.save(*progress).await?;
        Ok(report)
    }

    pub(super) async fn vacuum_table(
        &self,
        table: &Table,
        now: Timestamp,
        ages: Ages,
    ) -> Result<Option<VacuumTable>, Error> {
        let epoch = self.tend(table).await?;
        let fence = epoch.map(|epoch| (epoch, drawn(self.entropy.as_ref())));
        table.vacuum(now, ages, fence).await
    }
}

/// How old files have to be before they are deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    /// Since they were removed from the table.
    removed: SignedDuration,
    /// Since they were written, if the table never had them.
    leftover: SignedDuration,
}

impl Ages {
    /// What is removed goes at once.
    pub(super) const PURGE: Self = Self { removed: SignedDuration::ZERO, leftover: LEFTOVER_AGE };
}

impl Table {
    /// Deletes what the table does not need. Holds the committer, so that no commit of this process
    /// is under way whose files stand on disk already. Those of others are stopped by `fence`, an
    /// ownership and a value that the table never had for [`VACUUM_MARK`].
    async fn vacuum(
        &self,
        now: Timestamp,
        ages: Ages,
        fence: Option<(Epoch, String)>,
    ) -> Result<Option<VacuumTable>, Error> {
        let mut committer = self.committer.lock().await;
        committer.settle().await?;
        if fence.is_some() && committer.version().is_none() {
            // Its first commit may be under way.
            return Ok(None);
        }
        // A store of objects has none without a name.
        if let Some(folder) = self.home().folder() {
            let before = before(now, ages.leftover);
            blocking(move || sweep(&folder, before)).await?;
        }
        let mut found = committer.dispensable(now, ages, &self.view_files()).await?;
        if let Some((epoch, value)) = fence
            && !found.is_empty()
        {
            let check = |committer: &Committer| committer.check_epoch(Some(&epoch));
            committer.set_mark(VACUUM_MARK, &value, check).await?;
            // What was committed before that is in the table, and what was not never will be.
            let live: BTreeSet<_> = committer.files()?.into_iter().map(|file| file.path).collect();
            found.retain(|(path, _)| !live.contains(path));
        }
        if found.is_empty() {
            return Ok(None);
        }
        let bytes = found.iter().map(|(_, size)| size).sum();
        let files = found.len();
        let store = committer.log_store.root_object_store(None);
        for (path, _) in found {
            match store.delete(&path).await {
                // It went in an earlier try.
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(Error::file(&self.name)(error)),
            }
        }
        tracing::info!(table = %self.name, files, bytes, "vacuumed");
        Ok(Some(VacuumTable { table: self.name.clone(), files, bytes }))
    }

    fn view_files(&self) -> BTreeSet<ObjectPath> {
        self.view().files.iter().map(|file| file.path.clone()).collect()
    }
}

impl Committer {
    /// Data files on disk that are neither in the table nor in what queries see now, and old
    /// enough.
    async fn dispensable(
        &self,
        now: Timestamp,
        ages: Ages,
        seen: &BTreeSet<ObjectPath>,
    ) -> Result<Vec<(ObjectPath, u64)>, Error> {
        let live: BTreeSet<ObjectPath> = self.files()?.into_iter().map(|file| file.path).collect();
        let removed = self.tombstones().await?;
        let before =
            |age: SignedDuration| now.checked_sub(age).unwrap_or(Timestamp::MIN).as_millisecond();
        let (removed_before, left_before) = (before(ages.removed), before(ages.leftover));
        let store = self.log_store.root_object_store(None);
        let mut objects = store.list(Some(&self.root)).boxed();
        let (mut found, mut live_found) = (Vec::new(), 0);
        while let Some(object) = objects.try_next().await.map_err(Error::file(&self.table))? {
            live_found += usize::from(live.contains(&object.location));
            let is_data = is_data_file(&self.root, &object.location);
            if !is_data || live.contains(&object.location) || seen.contains(&object.location) {
                continue;
            }
            let is_old = match removed.get(&object.location) {
                Some(when) => *when <= removed_before,
                None => object.last_modified.timestamp_millis() <= left_before,
            };
            if is_old {
                found.push((object.location, object.size));
            }
        }
        // Names that differ in any way from those in the log would pass for files of nobody.
        if live_found != live.len() {
            let what = format!("{live_found} of {} data files are on disk", live.len());
            return Err(Error::Unsupported { table: self.table.to_string(), what });
        }
        Ok(found)
    }
}

/// The time that is `age` before `now`, in milliseconds since 1970.
fn before(now: Timestamp, age: SignedDuration) -> i64 {
    now.checked_sub(age).unwrap_or(Timestamp::MIN).as_millisecond()
}

/// Deletes what a process that was killed left without a name in a table's folders; listings pass
/// such files over.
fn sweep(folder: &Path, before: i64) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Disk(DiskError { operation: "sweep", path, source })
    };
    let folders = match std::fs::read_dir(folder) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(folder)(error)),
    };
    for entry in folders {
        let path = entry.map_err(failed(folder))?.path();
        if !path.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&path).map_err(failed(&path))? {
            let entry = entry.map_err(failed(&path))?;
            let name = entry.file_name();
            let is_staged =
                name.to_str().and_then(|name| name.rsplit_once('#')).is_some_and(|(_, number)| {
                    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
                });
            // A file that is gone already needs no sweeping.
            let modified = entry.metadata().and_then(|it| it.modified()).ok();
            let modified = modified.and_then(|time| Timestamp::try_from(time).ok());
            if is_staged && modified.is_some_and(|time| time.as_millisecond() <= before) {
                std::fs::remove_file(entry.path()).map_err(failed(&entry.path()))?;
            }
        }
    }
    Ok(())
}

/// Whether an object is a Parquet file in the folder of a day: what is beside them belongs to the
/// Delta log, or to someone else.
fn is_data_file(root: &ObjectPath, path: &ObjectPath) -> bool {
    let Some(mut parts) = path.prefix_match(root) else { return false };
    let is_day =
        parts.next().is_some_and(|part| part.as_ref().starts_with(&format!("{DAY_COLUMN}=")));
    is_day && path.as_ref().ends_with(".parquet")
}
