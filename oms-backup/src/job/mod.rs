//! Jobs: one run of a backup or a restore each, journaled.

mod engine;
mod records;
mod state;

pub use engine::{Change, Effect, Input, JobEngine, QUEUED_JOBS_MAX, RUNNING_JOBS_MAX};
pub(crate) use engine::{no_item, no_job};
pub use records::records;
pub use state::{JobEventKind, JobState};

use crate::error::{Error, with_causes};
use crate::item::ItemId;
use crate::operation::{BackupReport, RestoreReport};
use crate::vault::format::SnapshotId;
use jiff::Timestamp;
use oms_core::Lifecycle as _;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The kind of a job's history in the journal.
pub const JOB_HISTORY: &str = "backup-job";

/// The most warnings that a job's event lists; more are only counted.
pub const JOB_WARNINGS_MAX: usize = 100;

/// The longest reason or warning in a job's event, in characters.
pub const JOB_TEXT_MAX: usize = 1_000;

oms_core::uuid_id! {
    /// One run of a backup or a restore.
    JobId, "backup job id"
}

/// What a job does.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobOperation {
    /// Backs up an item.
    Backup {
        /// The item.
        item: ItemId,
        /// Its name at that time.
        name: String,
    },
    /// Restores a recovery point.
    Restore {
        /// The recovery point.
        point: SnapshotId,
        /// When it was made.
        point_time: Timestamp,
        /// Only this file or folder of it.
        path: Option<PathBuf>,
        /// The folder restored to.
        target: PathBuf,
        /// `FailOnConflict`, `Skip` or `Overwrite`.
        copy: String,
    },
}

impl JobOperation {
    /// The name that Azure Backup gives it (`JobOperation`).
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Backup { .. } => "Backup",
            Self::Restore { .. } => "Restore",
        }
    }

    /// The item it backs up.
    #[must_use]
    pub const fn item(&self) -> Option<ItemId> {
        match self {
            Self::Backup { item, .. } => Some(*item),
            Self::Restore { .. } => None,
        }
    }
}

/// What a job did.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobOutcome {
    /// The recovery point made or restored.
    pub point: Option<SnapshotId>,
    /// Files backed up or restored.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes added to the vault, or read from it.
    pub transferred_bytes: u64,
    /// How many warnings there are.
    pub warnings: u64,
    /// The first of them.
    pub first_warnings: Vec<String>,
}

impl JobOutcome {
    /// What a backup did.
    #[must_use]
    pub fn of_backup(report: &BackupReport) -> Self {
        let listed = report.warnings.listed.iter().map(ToString::to_string);
        Self {
            point: Some(report.point),
            files: report.summary.total_files_processed,
            bytes: report.summary.total_bytes_processed,
            transferred_bytes: report.summary.data_added_packed,
            warnings: report.warnings.total,
            first_warnings: shorten(listed),
        }
    }

    /// What a restore did. Files that could not be restored count as warnings.
    #[must_use]
    pub fn of_restore(report: &RestoreReport) -> Self {
        let both = report.failures.listed.iter().chain(&report.warnings.listed);
        Self {
            point: Some(report.point.id),
            files: report.files,
            bytes: report.bytes,
            transferred_bytes: report.bytes,
            warnings: report.failures.total + report.warnings.total,
            first_warnings: shorten(both.map(ToString::to_string)),
        }
    }
}

fn shorten(warnings: impl Iterator<Item = String>) -> Vec<String> {
    warnings.take(JOB_WARNINGS_MAX).map(|text| text.chars().take(JOB_TEXT_MAX).collect()).collect()
}

/// How a job ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobEnd {
    /// It did what could be done.
    Done(JobOutcome),
    /// It could not do it.
    Failed {
        /// A word for programs: `Corrupt`, `LimitExceeded`, `Interrupted`.
        code: String,
        /// Why, for people.
        reason: String,
    },
    /// It was asked to end.
    Cancelled,
}

impl JobEnd {
    /// The end that an error makes.
    #[must_use]
    pub fn of_error(error: &Error) -> Self {
        if matches!(error, Error::Cancelled) {
            return Self::Cancelled;
        }
        let kind = format!("{:?}", error.kind());
        let code = kind.split([' ', '{']).next().unwrap_or_default().to_owned();
        Self::Failed { code, reason: with_causes(error).chars().take(JOB_TEXT_MAX).collect() }
    }

    /// The end of a job whose program ended first.
    #[must_use]
    pub fn interrupted() -> Self {
        let reason = "the program ended before the job did; run it again".to_owned();
        Self::Failed { code: "Interrupted".to_owned(), reason }
    }

    const fn event(&self) -> JobEventKind {
        match self {
            Self::Done(JobOutcome { warnings: 0, .. }) => JobEventKind::Complete,
            Self::Done(_) => JobEventKind::CompleteWithWarnings,
            Self::Failed { .. } => JobEventKind::Fail,
            Self::Cancelled => JobEventKind::EndCancelled,
        }
    }
}

/// What happened to a job, as it is kept in the journal.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobEvent {
    /// It was accepted.
    Queued {
        /// What it does.
        operation: JobOperation,
    },
    /// A thread took it up.
    Started,
    /// Someone asked it to end. A job that had not begun has ended with this.
    CancelRequested,
    /// It ended.
    Ended {
        /// How.
        end: JobEnd,
        /// The state that follows, for whoever reads this event alone.
        state: JobState,
        /// What it did, likewise.
        operation: JobOperation,
        /// When it was accepted, likewise.
        queued: Timestamp,
    },
}

oms_core::journal_event!(JobEvent, format 1, whole, {
    Self::Queued { .. } => "backup-job-queued",
    Self::Started => "backup-job-started",
    Self::CancelRequested => "backup-job-cancel-requested",
    Self::Ended { .. } => "backup-job-ended",
});

/// One run of a backup or a restore.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub operation: JobOperation,
    /// Where it stands.
    pub state: JobState,
    /// When it was accepted.
    pub queued: Timestamp,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it ended. A job cancelled before it began has none.
    pub end: Option<JobEnd>,
    /// How many events it has.
    pub(crate) version: u64,
}

impl Job {
    /// The job after its first event.
    pub(crate) const fn queued(id: JobId, operation: JobOperation, queued: Timestamp) -> Self {
        let state = JobState::Queued;
        Self { id, operation, state, queued, started: None, ended: None, end: None, version: 1 }
    }

    /// Takes in one further event.
    pub(crate) fn apply(&mut self, event: &JobEvent, time: Timestamp) -> Result<(), Error> {
        match event {
            JobEvent::Queued { .. } => {
                let (what, id) = ("backup job", self.id.to_string());
                return Err(Error::State { what, id, reason: "is queued already".to_owned() });
            }
            JobEvent::Started => {
                self.state = self.next(JobEventKind::Start)?;
                self.started = Some(time);
            }
            JobEvent::CancelRequested => {
                self.state = self.next(JobEventKind::Cancel)?;
                self.ended = self.state.is_final().then_some(time);
            }
            JobEvent::Ended { end, .. } => {
                self.state = self.next(end.event())?;
                self.ended = Some(time);
                self.end = Some(end.clone());
            }
        }
        self.version += 1;
        Ok(())
    }

    /// The state after an event of this kind.
    pub(crate) fn next(&self, event: JobEventKind) -> Result<JobState, Error> {
        self.state.next(event).map_err(|illegal| Error::State {
            what: "backup job",
            id: self.id.to_string(),
            reason: illegal.state.description().to_owned(),
        })
    }

    /// What it did, once it has.
    #[must_use]
    pub const fn outcome(&self) -> Option<&JobOutcome> {
        match &self.end {
            Some(JobEnd::Done(outcome)) => Some(outcome),
            _ => None,
        }
    }
}
