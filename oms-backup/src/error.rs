//! Why an operation of this crate failed.

use crate::vault::format::{FormatError, SnapshotId};
use jiff::Timestamp;
use oms_core::ErrorKind;
use oms_core::disk::DiskError;
use oms_core::journal::JournalError;
use oms_core::task::TaskError;
use std::io;
use std::path::PathBuf;

/// Why a backup, a restore, a check or a step of them failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is a vault already where one was to be made.
    #[error("a vault is there already")]
    VaultExists,
    /// There is no vault: no `config` file.
    #[error("no vault is there: it has no `config` file")]
    VaultNotFound,
    /// No key file opens with this passphrase.
    #[error("wrong passphrase: it opens none of the vault's keys. keys=`{keys}`")]
    WrongPassphrase {
        /// How many key files were tried.
        keys: usize,
    },
    /// The passphrase is empty.
    #[error("passphrase is empty")]
    EmptyPassphrase,
    /// Stored bytes are not what was stored; restore the file from a copy.
    #[error("vault file is damaged. path=`{path}`, reason=`{reason}`")]
    Corrupt {
        /// The file in the vault.
        path: String,
        /// What does not fit.
        reason: String,
    },
    /// A blob that is needed is in no index; the vault is incomplete.
    #[error("blob is missing from the vault. kind=`{kind}`, id=`{id}`")]
    BlobMissing {
        /// `data` or `tree`.
        kind: String,
        /// The blob.
        id: String,
    },
    /// Another program works on the vault alone, such as `restic prune`; try again later.
    #[error("vault is locked. holder=`{holder}`, since=`{since}`")]
    Locked {
        /// User, computer and process.
        holder: String,
        /// When the lock was made or refreshed.
        since: Timestamp,
    },
    /// This program's lock was removed or is older than others honour, so that others may have
    /// deleted what was written meanwhile; run the operation again.
    #[error("lock was lost during the operation. lock=`{lock}`")]
    LockLost {
        /// The lock file.
        lock: String,
    },
    /// The vault's storage is full; what was there before is unharmed.
    #[error("no space left in the vault. path=`{}`", path.display())]
    Full {
        /// What could not be written.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The vault's storage failed.
    #[error("vault storage failed")]
    Disk(#[source] DiskError),
    /// The journal failed.
    #[error("journal failed")]
    Journal(#[from] JournalError),
    /// No recovery point of that id.
    #[error("no such recovery point. id=`{id}`")]
    PointNotFound {
        /// What was asked for.
        id: String,
    },
    /// The id is short and fits several recovery points.
    #[error("recovery point id is ambiguous. id=`{id}`, first=`{first}`, second=`{second}`")]
    PointAmbiguous {
        /// What was asked for.
        id: String,
        /// One that fits.
        first: SnapshotId,
        /// Another.
        second: SnapshotId,
    },
    /// The recovery point has no such file or folder.
    #[error("no such path in the recovery point. path=`{path}`")]
    PathNotFound {
        /// What was asked for.
        path: String,
    },
    /// No such protected item, job or policy.
    #[error("no such {what}. id=`{id}`")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// Which one.
        id: String,
    },
    /// An argument is wrong.
    #[error("{what} is not valid. value=`{value}`, reason=`{reason}`")]
    Invalid {
        /// Which argument.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The thing is not in a state that allows this.
    #[error("{what} does not allow this now. id=`{id}`, reason=`{reason}`")]
    State {
        /// The kind of thing.
        what: &'static str,
        /// Which one.
        id: String,
        /// The event and the state.
        reason: String,
    },
    /// A file or folder to back up cannot be read at all.
    #[error("source cannot be read. path=`{}`", path.display())]
    Source {
        /// The path given.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The folder to restore to cannot be used.
    #[error("restore target cannot be used. path=`{}`", path.display())]
    Target {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Something is where a file is to be restored, and the options say to fail.
    #[error("restore target exists already. path=`{}`", path.display())]
    Conflict {
        /// The first of them.
        path: PathBuf,
    },
    /// More than this version takes.
    #[error("{what} is too large. actual=`{actual}`, limit=`{limit}`")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large.
        actual: u64,
        /// How large it may be.
        limit: u64,
    },
    /// This version cannot do it.
    #[error("not supported: {what}")]
    Unsupported {
        /// What.
        what: String,
    },
    /// The caller cancelled it. Nothing that was there before has changed.
    #[error("cancelled")]
    Cancelled,
    /// A defect in this software.
    #[error("internal defect. reason=`{reason}`")]
    Internal {
        /// What should not have happened.
        reason: String,
    },
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        Self::Internal { reason: error.to_string() }
    }
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::VaultExists | Self::Conflict { .. } => ErrorKind::AlreadyExists,
            Self::VaultNotFound
            | Self::PointNotFound { .. }
            | Self::PathNotFound { .. }
            | Self::NotFound { .. } => ErrorKind::NotFound,
            Self::WrongPassphrase { .. } => ErrorKind::Unauthenticated,
            Self::EmptyPassphrase | Self::PointAmbiguous { .. } | Self::Invalid { .. } => {
                ErrorKind::Invalid
            }
            Self::Corrupt { .. } | Self::BlobMissing { .. } => ErrorKind::Corrupt,
            Self::Locked { .. } | Self::LockLost { .. } => ErrorKind::Conflict,
            Self::Full { .. } => ErrorKind::LimitExceeded { retry_after: None },
            Self::Disk(error) => error.kind(),
            Self::Journal(error) => error.kind(),
            Self::State { .. } => ErrorKind::PreconditionFailed,
            Self::Source { source, .. } | Self::Target { source, .. } => ErrorKind::of_io(source),
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// Names the vault file that does not fit the format.
    pub(crate) fn format(path: impl Into<String>) -> impl FnOnce(FormatError) -> Self {
        let path = path.into();
        move |error| match error {
            FormatError::TooLarge { what, actual, limit } => Self::TooLarge { what, actual, limit },
            other => Self::Corrupt { path, reason: other.to_string() },
        }
    }

    /// A damaged vault file.
    pub(crate) fn corrupt(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), reason: reason.into() }
    }
}

impl From<DiskError> for Error {
    fn from(error: DiskError) -> Self {
        use io::ErrorKind as Io;
        match error.source.kind() {
            Io::StorageFull | Io::QuotaExceeded => {
                Self::Full { path: error.path, source: error.source }
            }
            _ => Self::Disk(error),
        }
    }
}

/// The error and its causes, for a journal or a report.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
