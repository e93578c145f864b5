//! What can be backed up, and how it is read.

mod accounts;
mod files;
mod metadata;

pub(crate) use accounts::Accounts;
pub(crate) use files::{FileSource, Step};
pub(crate) use metadata::{FileState, same_moment};

use std::fmt;
use std::path::PathBuf;

/// Something about the source that the reader of a report should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceWarning {
    /// The file or folder.
    pub path: PathBuf,
    /// What kind of thing happened to it.
    pub kind: SourceWarningKind,
    /// What the operating system said, or which part it concerns.
    pub reason: String,
}

impl fmt::Display for SourceWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            SourceWarningKind::Unreadable => "not backed up",
            SourceWarningKind::FolderUnreadable => "backed up without its content",
            SourceWarningKind::Changed => "changed while it was read",
            SourceWarningKind::Metadata => "backed up without some of its metadata",
        };
        write!(f, "{}: {what}: {}", self.path.display(), self.reason)
    }
}

/// What kind of thing happened to a file or folder.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SourceWarningKind {
    /// It could not be read and is not in the recovery point.
    Unreadable,
    /// The folder is in the recovery point, but nothing that is in it.
    FolderUnreadable,
    /// It was written to while it was read: its content may be of no single moment.
    Changed,
    /// Its content is in the recovery point, but an extended attribute is not.
    Metadata,
}
