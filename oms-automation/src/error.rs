//! Why an operation of this crate failed.

use crate::job::{JobId, JobState};
use crate::runbook::{RunbookKind, RunbookName, RunbookState};
use oms_core::ErrorKind;
use oms_core::disk::DiskError;
use oms_core::id::ParseIdError;
use oms_core::journal::JournalError;
use oms_core::task::TaskError;
use std::io;
use std::path::{Path, PathBuf};

/// Why an operation of this crate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is outside its bounds.
    #[error("setting refused. name=`{name}`, reason=`{reason}`")]
    Setting {
        /// The field.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Text is not a name or an id.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// Another process has this folder open as its account.
    #[error("account folder is in use by another process. folder=`{}`", folder.display())]
    InUse {
        /// The account's folder.
        folder: PathBuf,
    },
    /// No runbook of that name.
    #[error("no such runbook. runbook=`{runbook}`")]
    RunbookNotFound {
        /// What was asked for.
        runbook: RunbookName,
    },
    /// A runbook of that name is there already.
    #[error("runbook exists already. runbook=`{runbook}`")]
    RunbookExists {
        /// The name.
        runbook: RunbookName,
    },
    /// The name is that of another runbook's job.
    #[error("job exists already, of another runbook. job=`{name}`, runbook=`{runbook}`")]
    JobExists {
        /// The job's name.
        name: String,
        /// Whose job it is.
        runbook: RunbookName,
    },
    /// This version does not run runbooks of that kind.
    #[error("runbook kind is not supported. kind=`{kind}`, supported=`Python3, Bash`")]
    KindUnsupported {
        /// The kind, as Azure Automation spells it.
        kind: String,
    },
    /// The runbook has no published version, so it cannot be started.
    #[error("runbook is not published: {}. runbook=`{runbook}`", state.description())]
    NotPublished {
        /// The runbook.
        runbook: RunbookName,
        /// Where it stands.
        state: RunbookState,
    },
    /// The runbook is in a state that does not allow this.
    #[error("{operation} is not possible now: {}. runbook=`{runbook}`", state.description())]
    RunbookState {
        /// The runbook.
        runbook: RunbookName,
        /// What was tried.
        operation: &'static str,
        /// Where it stands.
        state: RunbookState,
    },
    /// A runbook's text is not what an interpreter can read.
    #[error("runbook content refused. runbook=`{runbook}`, reason=`{reason}`")]
    Content {
        /// The runbook.
        runbook: RunbookName,
        /// What is wrong, and where.
        reason: String,
    },
    /// A parameter's definition or value is wrong.
    #[error("parameter refused. runbook=`{runbook}`, parameter=`{parameter}`, reason=`{reason}`")]
    Parameter {
        /// The runbook.
        runbook: RunbookName,
        /// Which parameter.
        parameter: String,
        /// What is wrong.
        reason: String,
    },
    /// One input is larger than its limit.
    #[error("too large. what=`{what}`, actual=`{actual}`, limit=`{limit}`")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        actual: usize,
        /// How large it may be.
        limit: usize,
    },
    /// No job of that id.
    #[error("no such job. job=`{job}`")]
    JobNotFound {
        /// What was asked for.
        job: JobId,
    },
    /// The job is in a state that does not allow this.
    #[error("{operation} is not possible now: {}. job=`{job}`", state.description())]
    JobState {
        /// The job.
        job: JobId,
        /// What was tried.
        operation: &'static str,
        /// Where it stands.
        state: JobState,
    },
    /// As many jobs are waiting as may.
    #[error("too many jobs are waiting. limit=`{limit}`")]
    QueueFull {
        /// How many may wait.
        limit: usize,
    },
    /// Jobs cannot be isolated as the settings ask, so none is run.
    #[error("jobs cannot be isolated. reason=`{reason}`")]
    IsolationUnavailable {
        /// What is missing, and how to go on.
        reason: String,
    },
    /// A program that jobs of this kind need is not on this computer.
    #[error("{kind} runbooks need `{program}` on this worker; not found in `{search_path}`")]
    ProgramMissing {
        /// The runbook's kind.
        kind: RunbookKind,
        /// The program.
        program: &'static str,
        /// Where it was looked for, separated by colons.
        search_path: String,
    },
    /// Stored bytes are not what was stored.
    #[error("stored bytes are damaged. path=`{}`, reason=`{reason}`", path.display())]
    Corrupt {
        /// Which file, relative to the account's folder.
        path: PathBuf,
        /// What is wrong, and at which byte.
        reason: String,
    },
    /// The account's own disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The operating system refused something around a job's process or folder.
    #[error("{operation} failed. path=`{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Processes of a job are still there after every attempt to end them.
    #[error("processes would not end. job=`{job}`, processes=`{processes:?}`")]
    Unkillable {
        /// The job.
        job: JobId,
        /// Their process ids.
        processes: Vec<i32>,
    },
    /// The account was shut down, or its runtime is gone.
    #[error("account is shut down")]
    ShutDown,
    /// A defect in this software.
    #[error("internal error. reason=`{reason}`")]
    Internal {
        /// What should not have happened.
        reason: String,
    },
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Stopped => Self::ShutDown,
            defect => Self::Internal { reason: defect.to_string() },
        }
    }
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Setting { .. } | Self::Id(_) | Self::Content { .. } | Self::Parameter { .. } => {
                ErrorKind::Invalid
            }
            Self::InUse { .. } => ErrorKind::Conflict,
            Self::RunbookNotFound { .. } | Self::JobNotFound { .. } => ErrorKind::NotFound,
            Self::RunbookExists { .. } | Self::JobExists { .. } => ErrorKind::AlreadyExists,
            Self::KindUnsupported { .. } => ErrorKind::Unsupported,
            Self::NotPublished { .. } | Self::RunbookState { .. } | Self::JobState { .. } => {
                ErrorKind::PreconditionFailed
            }
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::QueueFull { .. } => ErrorKind::LimitExceeded { retry_after: None },
            Self::IsolationUnavailable { .. } | Self::ProgramMissing { .. } => {
                ErrorKind::PreconditionFailed
            }
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Disk(error) => error.kind(),
            Self::Journal(error) => error.kind(),
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::Unkillable { .. } | Self::Internal { .. } => ErrorKind::Internal,
            Self::ShutDown => ErrorKind::Unavailable,
        }
    }

    /// The message with those of its sources, for a job's exception.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// Names the failed operation and the path.
pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { operation, path, source }
}
