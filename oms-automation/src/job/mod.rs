//! Jobs: one run of a runbook each.

pub mod engine;
mod queue;
mod state;

pub use queue::{Admission, Queue, Reservation};
pub use state::{JobEvent, JobState};

use crate::Error;
use crate::runbook::{Argument, ContentId, LogSwitches, RunbookId, RunbookKind, RunbookName};
use crate::settings::AccountName;
use crate::stream::StreamSummary;
use crate::worker::{Applied, WorkerRunId};
use jiff::Timestamp;
use oms_core::id::{ActionId, ParseIdError};
use oms_core::journal::{Event, HistoryId, Journal, JournalExt as _};
use oms_core::lifecycle::Lifecycle;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The kind of the histories of jobs.
pub const JOB_HISTORY: &str = "automation-job";

/// The most bytes of a job's name.
pub const JOB_NAME_BYTES_MAX: usize = 512;

/// The most bytes of the text that says why a job failed.
pub const EXCEPTION_BYTES_MAX: usize = 8 << 10;

oms_core::uuid_id! {
    /// One run of a runbook.
    JobId, "job id"
}

impl JobId {
    /// The id of the job of that name. The name is the key that makes a start idempotent, so the
    /// id follows from it and needs no table: a UUID of version 8 over SHA-256. See RFC 9562, 5.8.
    #[must_use]
    pub fn of(account: &AccountName, name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"oms-automation job\0");
        hash.update(account.as_str().as_bytes());
        hash.update(b"\0");
        hash.update(name.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

impl From<JobId> for ActionId {
    fn from(job: JobId) -> Self {
        Self(job.0)
    }
}

impl From<ActionId> for JobId {
    fn from(action: ActionId) -> Self {
        Self(action.0)
    }
}

/// What every event of a job repeats, so that one event alone makes a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobLabel {
    /// Whose job.
    pub account: AccountName,
    /// Of which runbook.
    pub runbook: RunbookName,
    /// Who started it.
    pub started_by: String,
}

/// What a job runs: fixed when it is started, whatever becomes of the runbook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobTask {
    /// The runbook.
    pub runbook_id: RunbookId,
    /// Its published version.
    pub runbook_version: u64,
    /// Its language.
    pub kind: RunbookKind,
    /// Its text.
    pub content: ContentId,
    /// The program's arguments, in order.
    pub arguments: Vec<Argument>,
    /// Which of its streams are kept.
    pub logs: LogSwitches,
}

/// What a job's history holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body")]
#[non_exhaustive]
pub enum JobRecorded {
    /// It was started and waits.
    #[serde(rename = "job-queued")]
    Queued {
        /// Whose.
        label: JobLabel,
        /// Its name, which the caller chose.
        name: String,
        /// What it runs.
        task: JobTask,
    },
    /// A worker took it.
    #[serde(rename = "job-activating")]
    Activating {
        /// Whose.
        label: JobLabel,
        /// Which run of the worker.
        worker: WorkerRunId,
    },
    /// Its process is about to be started: from here on it may have had effects.
    #[serde(rename = "job-running")]
    Running {
        /// Whose.
        label: JobLabel,
        /// Which run of the worker.
        worker: WorkerRunId,
        /// What it is kept away from, and how.
        isolation: Applied,
    },
    /// It was asked to end.
    #[serde(rename = "job-stopping")]
    Stopping {
        /// Whose.
        label: JobLabel,
        /// Who asked, or which limit.
        reason: String,
    },
    /// It ended well.
    #[serde(rename = "job-completed")]
    Completed {
        /// Whose.
        label: JobLabel,
        /// What is in its streams, all of it durable.
        streams: StreamSummary,
    },
    /// It ended badly, or could not run.
    #[serde(rename = "job-failed")]
    Failed {
        /// Whose.
        label: JobLabel,
        /// Why.
        exception: String,
        /// The process's exit code, if it had one.
        exit_code: Option<i32>,
        /// What is in its streams, if it had any.
        streams: Option<StreamSummary>,
    },
    /// It was ended.
    #[serde(rename = "job-stopped")]
    Stopped {
        /// Whose.
        label: JobLabel,
        /// Who asked, or which limit.
        reason: String,
        /// What is in its streams, if it had any.
        streams: Option<StreamSummary>,
    },
}

oms_core::journal_event!(JobRecorded, format 1, content, {
    Self::Queued { .. } => "job-queued",
    Self::Activating { .. } => "job-activating",
    Self::Running { .. } => "job-running",
    Self::Stopping { .. } => "job-stopping",
    Self::Completed { .. } => "job-completed",
    Self::Failed { .. } => "job-failed",
    Self::Stopped { .. } => "job-stopped",
});

impl JobRecorded {
    /// The step in the state table; none for the event that begins the history.
    #[must_use]
    pub const fn transition(&self) -> Option<JobEvent> {
        match self {
            Self::Queued { .. } => None,
            Self::Activating { .. } => Some(JobEvent::Activate),
            Self::Running { .. } => Some(JobEvent::Start),
            Self::Stopping { .. } => Some(JobEvent::BeginStop),
            Self::Completed { .. } => Some(JobEvent::Complete),
            Self::Failed { .. } => Some(JobEvent::Fail),
            Self::Stopped { .. } => Some(JobEvent::Stop),
        }
    }

    /// Whose job, and of which runbook.
    #[must_use]
    pub const fn label(&self) -> &JobLabel {
        match self {
            Self::Queued { label, .. }
            | Self::Activating { label, .. }
            | Self::Running { label, .. }
            | Self::Stopping { label, .. }
            | Self::Completed { label, .. }
            | Self::Failed { label, .. }
            | Self::Stopped { label, .. } => label,
        }
    }
}

/// A job as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its name, which the caller chose.
    pub name: String,
    /// Whose, and of which runbook.
    pub label: JobLabel,
    /// What it runs.
    pub task: JobTask,
    /// Where it stands; `status` in Azure's words.
    pub state: JobState,
    /// When it was started.
    pub creation_time: Timestamp,
    /// When its process was.
    pub start_time: Option<Timestamp>,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// When its state last changed.
    pub last_status_modified_time: Timestamp,
    /// Why it failed.
    pub exception: Option<String>,
    /// Its process's exit code, if it failed with one.
    pub exit_code: Option<i32>,
    /// Why it was stopped.
    pub stop_reason: Option<String>,
    /// What its process was kept away from.
    pub isolation: Option<Applied>,
    /// What is in its streams; known when it ended.
    pub streams: Option<StreamSummary>,
    /// How many events its history has.
    pub(crate) version: u64,
}

impl Job {
    /// Folds a history; none if it is empty.
    pub(crate) async fn read(
        journal: &dyn Journal,
        history: &HistoryId,
        id: JobId,
    ) -> Result<Option<Self>, Error> {
        let fold = |job: &mut Option<Self>, recorded: JobRecorded, event: &Event| {
            let time = event.envelope.time;
            let illegal = |reason: String| event.corrupt(&reason);
            match (&mut *job, recorded) {
                (None, JobRecorded::Queued { label, name, task }) => {
                    *job = Some(Self::queued(id, time, label, name, task));
                }
                (Some(job), recorded) => job.apply(time, recorded).map_err(illegal)?,
                (None, _) => return Err(illegal("does not begin with job-queued".into()).into()),
            }
            if let Some(job) = job {
                job.version = event.version;
            }
            Ok::<(), Error>(())
        };
        Ok(journal.replay(history, None, fold).await?.state)
    }

    fn queued(id: JobId, time: Timestamp, label: JobLabel, name: String, task: JobTask) -> Self {
        Self {
            id,
            name,
            label,
            task,
            state: JobState::New,
            creation_time: time,
            start_time: None,
            end_time: None,
            last_status_modified_time: time,
            exception: None,
            exit_code: None,
            stop_reason: None,
            isolation: None,
            streams: None,
            version: 0,
        }
    }

    fn apply(&mut self, time: Timestamp, event: JobRecorded) -> Result<(), String> {
        let Some(transition) = event.transition() else {
            return Err("job-queued in the middle".to_owned());
        };
        self.state = self.state.next(transition).map_err(|illegal| illegal.to_string())?;
        self.last_status_modified_time = time;
        if self.state.is_final() {
            self.end_time = Some(time);
        }
        match event {
            JobRecorded::Running { isolation, .. } => {
                self.start_time = Some(time);
                self.isolation = Some(isolation);
            }
            JobRecorded::Stopping { reason, .. } => self.stop_reason = Some(reason),
            JobRecorded::Completed { streams, .. } => self.streams = Some(streams),
            JobRecorded::Failed { exception, exit_code, streams, .. } => {
                self.exception = Some(exception);
                self.exit_code = exit_code;
                self.streams = streams;
            }
            JobRecorded::Stopped { reason, streams, .. } => {
                self.stop_reason = Some(reason);
                self.streams = streams;
            }
            JobRecorded::Queued { .. } | JobRecorded::Activating { .. } => {}
        }
        Ok(())
    }
}

/// The history of a job.
pub(crate) fn history(account: &AccountName, job: JobId) -> Result<HistoryId, Error> {
    Ok(HistoryId::new(JOB_HISTORY, &format!("{account}/{job}"))?)
}

/// The job that a history is of, if it is one of this account.
pub(crate) fn job_of(account: &AccountName, history: &HistoryId) -> Option<JobId> {
    if history.kind() != JOB_HISTORY {
        return None;
    }
    history.key().strip_prefix(account.as_str())?.strip_prefix('/')?.parse().ok()
}

/// Checks a job's name.
pub(crate) fn check_name(name: &str) -> Result<(), ParseIdError> {
    let refuse = |reason| Err(ParseIdError::new("job name", name, reason));
    if name.is_empty() {
        return refuse("empty");
    }
    if name.len() > JOB_NAME_BYTES_MAX {
        return refuse("longer than 512 bytes");
    }
    if name.chars().any(char::is_control) {
        return refuse("has a control character");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runbook::RunbookKind;
    use oms_core::entropy::SeededEntropy;
    use oms_core::journal::MemoryJournal;
    use serde_json::json;

    #[test]
    fn a_name_gives_one_id_an_account() {
        let (a, b): (AccountName, AccountName) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(JobId::of(&a, "k"), JobId::of(&a, "k"));
        assert_ne!(JobId::of(&a, "k"), JobId::of(&b, "k"));
        assert_ne!(JobId::of(&a, "k"), JobId::of(&a, "k2"));
        assert_eq!(JobId::of(&a, "k").0.get_version_num(), 8);
    }

    /// Format 1 as first released: these bodies must stay readable.
    #[tokio::test]
    async fn released_events_stay_readable() {
        let label = json!({"account": "ops", "runbook": "Hello", "started_by": "me"});
        let id = "00000000-0000-4000-8000-000000000001";
        let bodies = [
            (
                "job-queued",
                json!({"label": label, "name": "k", "task": {
                "runbook_id": id, "runbook_version": 1, "kind": "Bash",
                "content": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "arguments": [{"name": "a", "value": [1]}],
                "logs": {"verbose": true, "progress": false, "debug": false}}}),
            ),
            ("job-activating", json!({"label": label, "worker": id})),
            (
                "job-running",
                json!({"label": label, "worker": id, "isolation": {
                "landlock_abi": 7, "no_new_privileges": true, "user": null,
                "are_capabilities_dropped": true, "has_own_session": true,
                "limits": null, "tcp": "Allowed", "closed_descriptors": 0}}),
            ),
            ("job-stopping", json!({"label": label, "reason": "asked"})),
            (
                "job-stopped",
                json!({"label": label, "reason": "asked", "streams": {
                "records": 1, "bytes": 2, "discarded_records": 0, "discarded_bytes": 0}}),
            ),
        ];
        let journal_id = JobId::draw(&SeededEntropy::new(1));
        let account: AccountName = "ops".parse().unwrap();
        let (journal, history) = (MemoryJournal::default(), history(&account, journal_id).unwrap());
        for (index, (kind, body)) in bodies.into_iter().enumerate() {
            let time = Timestamp::UNIX_EPOCH;
            let envelope = oms_core::journal::Envelope::new(kind, 1, time, "me", &body).unwrap();
            journal.append_to(&history, index as u64, vec![envelope]).await.expect("appends");
        }
        let job =
            Job::read(&journal, &history, journal_id).await.expect("readable").expect("a job");
        assert_eq!((job.state, job.version), (JobState::Stopped, 5));
        assert_eq!(job.task.kind, RunbookKind::Bash);
        assert_eq!(job.isolation.expect("recorded").landlock_abi, Some(7));
    }
}
