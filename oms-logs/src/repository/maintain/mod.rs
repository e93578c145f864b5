//! What keeps tables healthy: plans and retention, compaction, vacuum, purge, accounting.
//!
//! ```text
//!   flush ──► many small files of a day ──compact──► few sorted ones ──retention──► none
//!                      │                                  │                │
//!                      └──────────── removed from the Delta table ─────────┘
//!                                             │ removed_files_kept later
//!                                             ▼
//!                                          vacuum: deleted from disk
//! ```
//!
//! Each of them is one Delta commit that removes files and adds others, after which queries see the
//! new files in one step: a query that began before goes on reading the old ones, which stay on disk
//! for [`MaintenanceSettings::removed_files_kept`]. Killed at any point, the table is the one before
//! or the one after; what was written for a commit that did not come is deleted by a later vacuum.
//!
//! One of these works runs at a time in a workspace, and a flush may commit in between. Where several
//! processes [share](super::share) an object store, one of them owns all of it.

mod commit;

mod check;

mod owner;

mod settings;

mod clock;

mod retention;

mod rewrite;

mod compact;

mod vacuum;

mod purge;

mod observe;

mod operation;

mod refusals;

mod usage;

pub(crate) mod run;

pub use check::{CheckOptions, CheckReport, Finding};
pub use compact::{CompactOptions, CompactReport, TableCompaction};
pub use purge::{PurgePlan, PurgeReport};
pub use retention::{ExpiredDay, RetentionPlan, RetentionReport, TableRemoval, TableRetention};
pub use settings::{
    INTERACTIVE_DAYS_FIXED, INTERACTIVE_DAYS_MAX, INTERACTIVE_DAYS_MIN, TOTAL_DAYS_MAX, TablePlan,
    TableSettings,
};
pub use vacuum::{VacuumReport, VacuumTable};

pub(crate) use retention::day_of;

use crate::Error;
use crate::repository::folder::{read_document, write_document};
use clock::Progress;
use jiff::SignedDuration;
use oms_core::Disk;
use oms_core::task::blocking;
use refusals::Refusals;
use serde::{Deserialize, Serialize};
use settings::SettingsStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The document of when maintenance ran.
const FILE: &str = "maintenance.json";

/// Where sorting puts what memory does not hold, in the workspace's folder.
const SPILL_FOLDER: &str = "spill";

/// Files up to this size are put together whatever the sizes of the others.
const TIER_BYTES: u64 = 1 << 20;

/// How tables are maintained.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MaintenanceSettings {
    /// Whether the background task compacts, removes what retention says, and vacuums. Otherwise
    /// all of it waits for its call.
    pub is_automatic: bool,
    /// How often the background task looks for files to compact.
    pub compaction_every: SignedDuration,
    /// How many small files of the running day are put together, 2 to 32; of a day that is over,
    /// two are enough.
    pub compaction_files_min: usize,
    /// The size of a compacted file in bytes, 64 KiB to 4 GiB. Files of half of it are left alone.
    pub compaction_bytes: u64,
    /// How long a file that was removed from a table stays on disk, for queries and other readers
    /// that began before: 1 hour to 7 days, for which Delta tables remember when it was removed.
    pub removed_files_kept: SignedDuration,
    /// How far the clock may go on between two runs of retention, at least a day. Past it, it is
    /// believed after it went on evenly for a day, and nothing is removed until then.
    pub clock_jump_max: SignedDuration,
    /// How long a total retention that was shortened still counts, 0 to 30 days.
    pub shortening_wait: SignedDuration,
    /// How long the owner of maintenance has to show no life before another writer of a shared store
    /// takes it over, 10 seconds to a day, and at least three times
    /// [`refresh_every`](crate::Settings::refresh_every).
    pub owner_term: SignedDuration,
    /// How long a purge waits until the other writers of a shared store have flushed, up to an hour.
    pub writers_wait: SignedDuration,
}

impl Default for MaintenanceSettings {
    /// Automatic; looks every 5 minutes for 8 files to put together, up to 256 MiB; removed files
    /// stay 7 days; the clock may go on by 7 days; a shortened retention waits for 30; an owner is gone
    /// after a minute; a purge waits for two.
    fn default() -> Self {
        Self {
            is_automatic: true,
            compaction_every: SignedDuration::from_mins(5),
            compaction_files_min: 8,
            compaction_bytes: 256 << 20,
            removed_files_kept: DAY * 7,
            clock_jump_max: DAY * 7,
            shortening_wait: DAY * 30,
            owner_term: SignedDuration::from_mins(1),
            writers_wait: SignedDuration::from_mins(2),
        }
    }
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

impl MaintenanceSettings {
    /// Checks every value against its bounds.
    ///
    /// # Errors
    /// [`Error::Setting`] names the value and its bounds.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |setting, value: String, reason: &str| {
            let of = "maintenance".to_owned();
            Err(Error::Setting { of, setting, value, reason: reason.to_owned() })
        };
        let files = self.compaction_files_min;
        if !(2..=compact::FILES_MAX).contains(&files) {
            return refuse("compaction_files_min", files.to_string(), "2 to 32 files");
        }
        if !(64 << 10..=4 << 30).contains(&self.compaction_bytes) {
            let value = self.compaction_bytes.to_string();
            return refuse("compaction_bytes", value, "64 KiB to 4 GiB");
        }
        let hour = SignedDuration::from_hours(1);
        let spans = [
            ("compaction_every", self.compaction_every, SignedDuration::from_secs(1), DAY),
            ("removed_files_kept", self.removed_files_kept, hour, DAY * 7),
            ("clock_jump_max", self.clock_jump_max, DAY, DAY * 365),
            ("shortening_wait", self.shortening_wait, SignedDuration::ZERO, DAY * 30),
            ("owner_term", self.owner_term, SignedDuration::from_secs(10), DAY),
            ("writers_wait", self.writers_wait, SignedDuration::ZERO, hour),
        ];
        for (setting, value, low, high) in spans {
            if !(low..=high).contains(&value) {
                return refuse(setting, format!("{value:#}"), &format!("{low:#} to {high:#}"));
            }
        }
        Ok(())
    }
}

/// What maintenance needs beside the tables.
#[derive(Debug)]
pub(crate) struct Keep {
    disk: Arc<dyn Disk>,
    pub(crate) settings: SettingsStore,
    /// Where sorting puts what memory does not hold.
    spill: PathBuf,
    /// Held by the one work that runs.
    working: tokio::sync::Mutex<Progress>,
    /// Held while the workspace writes records of its own, so that their sequences have no gaps.
    telling: tokio::sync::Mutex<()>,
    /// The last hour whose usage this process has seen to.
    told_hour: tokio::sync::Mutex<i64>,
    refusals: Refusals,
}

impl Keep {
    /// Reads what is kept about tables.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::Corrupt`], [`Error::Disk`].
    pub(crate) async fn open(
        root: &Path,
        disk: Arc<dyn Disk>,
        others: TableSettings,
        maintenance: &MaintenanceSettings,
    ) -> Result<Self, Error> {
        maintenance.check()?;
        let spill = root.join(SPILL_FOLDER);
        blocking(move || {
            // What an earlier process left behind is of no use to anyone.
            match std::fs::remove_dir_all(&spill) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %spill.display(), "spilled rows stay on disk");
                }
                _ => {}
            }
            let progress: Option<Progress> = read_document(disk.as_ref(), FILE)?;
            if let Some(format) = progress.map(|progress| progress.format).filter(|it| *it != 1) {
                let (path, reason) = (FILE.to_owned(), format!("format {format} is not known"));
                return Err(Error::Corrupt { path, offset: 0, reason });
            }
            let settings = SettingsStore::open(Arc::clone(&disk), others)?;
            let working = tokio::sync::Mutex::new(progress.unwrap_or_default());
            let (telling, told_hour) = Default::default();
            let refusals = Refusals::default();
            Ok(Self { disk, settings, spill, working, telling, told_hour, refusals })
        })
        .await
    }

    /// Makes durable when maintenance ran.
    async fn save(&self, progress: Progress) -> Result<(), Error> {
        let disk = Arc::clone(&self.disk);
        blocking(move || write_document(disk.as_ref(), FILE, &progress)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_out_of_range_is_refused_by_name() {
        type Change = fn(&mut MaintenanceSettings);
        let changes: [(&str, Change); 10] = [
            ("compaction_files_min", |it| it.compaction_files_min = 1),
            ("compaction_files_min", |it| it.compaction_files_min = 33),
            ("compaction_bytes", |it| it.compaction_bytes = 0),
            ("compaction_bytes", |it| it.compaction_bytes = u64::MAX),
            ("compaction_every", |it| it.compaction_every = SignedDuration::ZERO),
            ("removed_files_kept", |it| it.removed_files_kept = DAY * 8),
            ("clock_jump_max", |it| it.clock_jump_max = SignedDuration::from_hours(23)),
            ("shortening_wait", |it| it.shortening_wait = -DAY),
            ("owner_term", |it| it.owner_term = SignedDuration::from_secs(9)),
            ("writers_wait", |it| it.writers_wait = DAY),
        ];
        MaintenanceSettings::default().check().expect("the defaults are in range");
        for (name, change) in changes {
            let mut settings = MaintenanceSettings::default();
            change(&mut settings);
            let error = settings.check().expect_err(name).to_string();
            assert!(error.contains(&format!("setting=`{name}`")), "{error}");
        }
    }
}
