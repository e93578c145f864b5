//! Plans and retention of tables.

use crate::repository::commit::SETTINGS_MARK;
use crate::repository::folder::{read_document, write_document};
use crate::repository::share::{Documents, drawn};
use crate::{Error, Workspace};
use jiff::{SignedDuration, Timestamp};
use object_store::UpdateVersion;
use oms_core::Disk;
use oms_core::record::RecordType;
use oms_core::task::blocking;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The fewest days of interactive retention.
pub const INTERACTIVE_DAYS_MIN: u32 = 4;

/// The most days of interactive retention: two years.
pub const INTERACTIVE_DAYS_MAX: u32 = 730;

/// The days of interactive retention of the plans that have no choice.
pub const INTERACTIVE_DAYS_FIXED: u32 = 30;

/// The most days of total retention: twelve years.
pub const TOTAL_DAYS_MAX: u32 = 4_383;

/// The document in the workspace's folder.
const FILE: &str = "tables.json";

/// What may be done with a table's rows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "callers decide on each")]
pub enum TablePlan {
    /// The whole language, 4 to 730 days of interactive retention.
    #[default]
    Analytics,
    /// 30 days of interactive retention.
    Basic,
    /// 30 days of interactive retention.
    Auxiliary,
}

impl TablePlan {
    /// Every plan.
    pub const ALL: [Self; 3] = [Self::Analytics, Self::Basic, Self::Auxiliary];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Analytics => "Analytics",
            Self::Basic => "Basic",
            Self::Auxiliary => "Auxiliary",
        }
    }
}

impl fmt::Display for TablePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TablePlan {
    type Err = oms_core::id::ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|plan| plan.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let reason = "plans are Analytics, Basic and Auxiliary";
            oms_core::id::ParseIdError::new("table plan", text, reason)
        })
    }
}

/// How long a table's rows are there. A day is a UTC day of `TimeGenerated`; on the day `today` the
/// rows of the day `today - days` are the oldest that are there, so that no row goes before it is
/// that many days old.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableSettings {
    /// What may be done with the rows.
    pub plan: TablePlan,
    /// Days for which queries find a row: 4 to 730 with the Analytics plan, 30 with the others.
    /// Serialized as `retentionInDays`.
    #[serde(rename = "retentionInDays")]
    pub interactive_retention_days: u32,
    /// Days after which a row is removed: as many as the interactive retention to 4,383.
    /// Serialized as `totalRetentionInDays`.
    #[serde(rename = "totalRetentionInDays")]
    pub total_retention_days: u32,
}

impl Default for TableSettings {
    /// The Analytics plan, and 30 days of either retention.
    fn default() -> Self {
        Self {
            plan: TablePlan::Analytics,
            interactive_retention_days: 30,
            total_retention_days: 30,
        }
    }
}

impl TableSettings {
    /// The longest that there is: 730 days for queries, and 4,383 in all.
    #[must_use]
    pub const fn longest() -> Self {
        Self {
            plan: TablePlan::Analytics,
            interactive_retention_days: INTERACTIVE_DAYS_MAX,
            total_retention_days: TOTAL_DAYS_MAX,
        }
    }

    /// Checks every value against the bounds of its plan.
    ///
    /// # Errors
    /// [`Error::Setting`] names the value and its bounds.
    pub fn check(&self, table: &str) -> Result<(), Error> {
        let refuse = |setting, value: u32, reason: String| {
            Err(Error::Setting {
                of: format!("table {table}"),
                setting,
                value: value.to_string(),
                reason,
            })
        };
        let (days, total) = (self.interactive_retention_days, self.total_retention_days);
        let bounds = match self.plan {
            TablePlan::Analytics => INTERACTIVE_DAYS_MIN..=INTERACTIVE_DAYS_MAX,
            TablePlan::Basic | TablePlan::Auxiliary => {
                INTERACTIVE_DAYS_FIXED..=INTERACTIVE_DAYS_FIXED
            }
        };
        if !bounds.contains(&days) {
            let (low, high, plan) = (bounds.start(), bounds.end(), self.plan);
            let reason = match low == high {
                true => format!("the {plan} plan has {low} days"),
                false => format!("the {plan} plan has {low} to {high} days"),
            };
            return refuse("interactive_retention_days", days, reason);
        }
        if !(days..=TOTAL_DAYS_MAX).contains(&total) {
            let reason =
                format!("from the interactive retention of {days} days to {TOTAL_DAYS_MAX}");
            return refuse("total_retention_days", total, reason);
        }
        Ok(())
    }
}

/// The settings of one table as they are kept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    settings: TableSettings,
    /// What a shorter total retention does not remove yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waiting: Option<Waiting>,
}

/// A total retention that was shortened a while ago.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    total_retention_in_days: u32,
    until: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Document {
    format: u32,
    tables: BTreeMap<RecordType, Entry>,
}

impl Document {
    /// Says what is wrong with it.
    fn check(&self) -> Result<(), String> {
        if self.format != 1 {
            return Err(format!("format {} is not known, only 1", self.format));
        }
        for (table, entry) in &self.tables {
            entry.settings.check(table.as_str()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// How often a change of the settings is tried that others share.
const ATTEMPTS_MAX: u32 = 20;

/// The settings of every table. They are kept in a document of the workspace, not in the properties
/// of the Delta tables: a table has settings before it has rows; what removes rows is not for other
/// writers of the table to change, nor for its older versions to bring back; and one rename has
/// happened or not, while the outcome of a Delta commit can stay unknown.
#[derive(Debug)]
pub(crate) struct SettingsStore {
    disk: Arc<dyn Disk>,
    /// Of tables that have none of their own.
    others: TableSettings,
    document: Mutex<Document>,
    /// Held while the document is written.
    writing: tokio::sync::Mutex<()>,
    /// Where it is in place of the folder, if several writers share it.
    shared: OnceLock<Arc<Documents>>,
}

impl SettingsStore {
    /// Reads the settings. Blocks.
    pub(crate) fn open(disk: Arc<dyn Disk>, others: TableSettings) -> Result<Self, Error> {
        others.check("without settings of its own")?;
        let corrupt = |reason: String| Error::Corrupt { path: FILE.to_owned(), offset: 0, reason };
        let document = read_document::<Document>(disk.as_ref(), FILE)?;
        let document = document.unwrap_or(Document { format: 1, tables: BTreeMap::new() });
        document.check().map_err(corrupt)?;
        let (document, writing) = (Mutex::new(document), tokio::sync::Mutex::new(()));
        Ok(Self { disk, others, document, writing, shared: OnceLock::new() })
    }

    /// Keeps the settings where other writers find them, beginning with those of the folder if there
    /// are none yet.
    pub(crate) async fn share(&self, documents: &Arc<Documents>) -> Result<(), Error> {
        let own = self.document();
        documents.put_if(FILE, &own, None).await?;
        drop(self.shared.set(Arc::clone(documents)));
        self.refresh().await
    }

    /// Reads what other writers set.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Corrupt`].
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let Some(documents) = self.shared.get() else { return Ok(()) };
        let _one_at_a_time = self.writing.lock().await;
        let (found, _) = shared(documents).await?;
        *self.document.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }

    fn document(&self) -> Document {
        self.document.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn entry(&self, table: &RecordType) -> Option<Entry> {
        let document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        document.tables.get(table).copied()
    }

    pub(crate) fn of(&self, table: &RecordType) -> TableSettings {
        self.entry(table).map_or(self.others, |entry| entry.settings)
    }

    /// The total retention that counts at `now`: the one before, as long as a shorter one waits.
    pub(crate) fn total_days(&self, table: &RecordType, now: Timestamp) -> u32 {
        let Some(entry) = self.entry(table) else { return self.others.total_retention_days };
        let waiting = entry.waiting.filter(|waiting| now < waiting.until);
        let waiting_days = waiting.map_or(0, |waiting| waiting.total_retention_in_days);
        entry.settings.total_retention_days.max(waiting_days)
    }

    async fn set(
        &self,
        table: &RecordType,
        settings: TableSettings,
        now: Timestamp,
        wait: SignedDuration,
    ) -> Result<(), Error> {
        settings.check(table.as_str())?;
        let _one_at_a_time = self.writing.lock().await;
        if let Some(documents) = self.shared.get() {
            for _ in 0..ATTEMPTS_MAX {
                let (found, version) = shared(documents).await?;
                *self.document.lock().unwrap_or_else(PoisonError::into_inner) = found;
                let next = self.with(table, settings, now, wait);
                if documents.put_if(FILE, &next, Some(version)).await? {
                    *self.document.lock().unwrap_or_else(PoisonError::into_inner) = next;
                    return Ok(());
                }
            }
            let what = "others change the settings all the time".to_owned();
            return Err(Error::Superseded { table: table.to_string(), what });
        }
        let next = self.with(table, settings, now, wait);
        let (disk, document) = (Arc::clone(&self.disk), next.clone());
        blocking(move || write_document(disk.as_ref(), FILE, &document)).await?;
        *self.document.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// The document with other settings of a table.
    fn with(
        &self,
        table: &RecordType,
        settings: TableSettings,
        now: Timestamp,
        wait: SignedDuration,
    ) -> Document {
        let mut next = self.document();
        let days = self.total_days(table, now);
        let until = now.checked_add(wait).unwrap_or(Timestamp::MAX);
        let waiting = (days > settings.total_retention_days && until > now)
            .then_some(Waiting { total_retention_in_days: days, until });
        // What waits already goes when it would have gone: shortening again starts no new wait.
        let known = self.entry(table).and_then(|entry| entry.waiting);
        let waiting = match (waiting, known) {
            (Some(new), Some(known))
                if new.total_retention_in_days == known.total_retention_in_days
                    && now < known.until =>
            {
                Some(known)
            }
            (new, _) => new,
        };
        next.tables.insert(table.clone(), Entry { settings, waiting });
        next
    }
}

/// The settings that several writers share.
async fn shared(documents: &Documents) -> Result<(Document, UpdateVersion), Error> {
    let corrupt = |reason: String| Error::Corrupt { path: FILE.to_owned(), offset: 0, reason };
    let found = documents.read::<Document>(FILE).await?;
    let (document, version) = found.ok_or_else(|| corrupt("it is gone".to_owned()))?;
    document.check().map_err(corrupt)?;
    Ok((document, version))
}

impl Workspace {
    /// A table's plan and retention; the default ones of the workspace if it has none of its own,
    /// also if there is no such table yet.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn table_settings(&self, table: &RecordType) -> Result<TableSettings, Error> {
        Ok(self.inner()?.keep.settings.of(table))
    }

    /// Sets a table's plan and retention, durably; the table need not be there yet.
    ///
    /// Queries follow the interactive retention at once. A total retention that is longer counts at
    /// once, and one that is shorter after
    /// [`shortening_wait`](super::MaintenanceSettings::shortening_wait): until then, setting the
    /// longer one again loses no row.
    ///
    /// # Errors
    /// [`Error::Setting`] names the value that is out of range; [`Error::Disk`]: the settings are
    /// the old ones; [`Error::Store`], [`Error::Delta`]: they are the old or the new ones, and setting
    /// them again completes it; [`Error::Closed`].
    pub async fn set_table_settings(
        &self,
        table: &RecordType,
        settings: TableSettings,
    ) -> Result<(), Error> {
        let inner = self.inner()?;
        let wait = inner.settings.maintenance.shortening_wait;
        inner.keep.settings.set(table, settings, inner.clock.now(), wait).await?;
        if inner.share.is_some() {
            // Before this is acknowledged, so that nothing goes by the old ones that is not gone yet.
            inner.tables.discover().await?;
            if let Some(table) = inner.tables.find(table) {
                table.set_mark(SETTINGS_MARK, &drawn(inner.entropy.as_ref())).await?;
            }
        }
        Ok(())
    }
}
