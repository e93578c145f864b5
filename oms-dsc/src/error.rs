//! Why an operation of this crate failed.

use crate::mof::Diagnostic;
use oms_core::ErrorKind;
use oms_core::disk::DiskError;
use oms_core::id::ParseIdError;
use oms_core::journal::JournalError;
use oms_core::secret::KeyError;
use oms_core::task::TaskError;
use std::path::PathBuf;

/// Why an operation of this crate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A document cannot be read or used; the diagnostics say where.
    #[error("document is not valid. document=`{document}`, problems=`{}`", shown(.diagnostics))]
    Document {
        /// Its name: a file or a configuration.
        document: String,
        /// At least one, in order.
        diagnostics: Vec<Diagnostic>,
    },
    /// The named thing is not there.
    #[error("no such {what}. name=`{name}`")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        name: String,
    },
    /// The name is taken.
    #[error("{what} is there already. name=`{name}`")]
    AlreadyExists {
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        name: String,
    },
    /// Right input, at a time at which the thing cannot do it.
    #[error("{what} cannot do this now. name=`{name}`, reason=`{reason}`")]
    IllegalState {
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        name: String,
        /// What stands in the way.
        reason: &'static str,
    },
    /// Input that is not of the form it must have.
    #[error("{what} is not valid. reason=`{reason}`")]
    Invalid {
        /// Which input.
        what: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// A name that is not one of its kind.
    #[error(transparent)]
    Name(#[from] ParseIdError),
    /// Right input that this version cannot serve.
    #[error("{what} is not supported. name=`{name}`")]
    Unsupported {
        /// What kind of thing: `resource class`, `operation`.
        what: &'static str,
        /// Which one.
        name: String,
    },
    /// The caller's signature is missing or wrong.
    #[error("caller is not authenticated. reason=`{reason}`")]
    Unauthenticated {
        /// What is missing or wrong, without the credential.
        reason: &'static str,
    },
    /// Input that the pull server of Windows refuses, and this one in strict mode.
    #[error("refused as a Windows server does. status=`{status}`, reason=`{reason}`")]
    AsWindows {
        /// The HTTP status that it answers.
        status: u16,
        /// What it does not take.
        reason: &'static str,
    },
    /// A node has given a new certificate and has not presented it yet.
    #[error("certificate rotation is in progress. node=`{node}`")]
    RotationInProgress {
        /// Its handle.
        node: String,
    },
    /// A path that the node is not allowed to touch: it leads out of the root, or through an absolute
    /// link, which is not followed wherever it leads.
    #[error("path is outside of the allowed root, or behind an absolute link. path=`{}`, root=`{}`", path.display(), root.display())]
    OutsideRoot {
        /// The path that was asked for.
        path: PathBuf,
        /// The only folder that may be changed.
        root: PathBuf,
    },
    /// More than this may hold or carry.
    #[error("too large. what=`{what}`, actual=`{actual}`, limit=`{limit}`")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        actual: usize,
        /// How large it may be.
        limit: usize,
    },
    /// A table that is full for now.
    #[error("limit reached. what=`{what}`, limit=`{limit}`")]
    LimitExceeded {
        /// What is full.
        what: &'static str,
        /// How much it holds.
        limit: usize,
    },
    /// Received or stored bytes do not match their checksum or format.
    #[error("bytes are damaged. what=`{what}`, reason=`{reason}`")]
    Corrupt {
        /// Which bytes.
        what: String,
        /// What does not match.
        reason: String,
    },
    /// The pull server answered with something other than success.
    #[error("pull server refused. operation=`{operation}`, status=`{status}`, message=`{message}`")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
        /// What the server said, at most 500 characters.
        message: String,
    },
    /// The pull server could not be reached or did not answer.
    #[error("pull server is not reachable. operation=`{operation}`, reason=`{reason}`")]
    Unreachable {
        /// What was asked.
        operation: &'static str,
        /// What failed.
        reason: String,
    },
    /// A file of the computer that a resource describes could not be read or changed.
    #[error("{operation} failed. path=`{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A program that a resource runs failed; the next run tries again.
    #[error("program failed. program=`{program}`, reason=`{reason}`")]
    Program {
        /// Which program or script.
        program: String,
        /// How it ended, and what it said last.
        reason: String,
    },
    /// Our own files could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The key ring did not seal or open a registration key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The journal could not be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A defect in this software.
    #[error("internal error. reason=`{reason}`")]
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
            Self::Document { .. } | Self::Invalid { .. } | Self::Name(_) => ErrorKind::Invalid,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::IllegalState { .. } => ErrorKind::PreconditionFailed,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Unauthenticated { .. } => ErrorKind::Unauthenticated,
            Self::AsWindows { status: 401, .. } => ErrorKind::Unauthenticated,
            Self::AsWindows { status: 500, .. } => ErrorKind::Internal,
            Self::AsWindows { .. } => ErrorKind::Invalid,
            Self::RotationInProgress { .. } => ErrorKind::Conflict,
            Self::OutsideRoot { .. } => ErrorKind::Denied,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::LimitExceeded { .. } => ErrorKind::LimitExceeded { retry_after: None },
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Refused { status, .. } => match status {
                401 => ErrorKind::Unauthenticated,
                403 => ErrorKind::Denied,
                404 => ErrorKind::NotFound,
                413 => ErrorKind::TooLarge,
                429 => ErrorKind::LimitExceeded { retry_after: None },
                501 => ErrorKind::Unsupported,
                500..=599 => ErrorKind::Unavailable,
                _ => ErrorKind::Invalid,
            },
            Self::Unreachable { .. } | Self::Program { .. } => ErrorKind::Unavailable,
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::Disk(error) => error.kind(),
            Self::Key(error) => error.kind(),
            Self::Journal(error) => error.kind(),
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }
}

/// The first problems, in one line.
fn shown(diagnostics: &[Diagnostic]) -> String {
    const SHOWN_MAX: usize = 3;
    let mut text: Vec<String> =
        diagnostics.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    if diagnostics.len() > SHOWN_MAX {
        text.push(format!("and {} more", diagnostics.len() - SHOWN_MAX));
    }
    text.join("; ")
}
