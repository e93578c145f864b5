//! What can be backed up, and how it is read.

#[cfg(unix)]
mod accounts;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod metadata;

#[cfg(unix)]
pub(crate) use accounts::Accounts;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{FileSource, open_file, state_of};
#[cfg(target_os = "linux")]
pub(crate) use files::{FileSource, open_file};
#[cfg(target_os = "linux")]
pub(crate) use metadata::state_of;

use crate::vault::format::{Node, NodeKind};
use jiff::Timestamp;
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

/// One step of a walk over files and folders.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is read there"))]
pub(crate) enum Step {
    /// A folder; everything until the matching [`Leave`](Self::Leave) is in it.
    Enter(Box<Node>),
    /// The end of a folder.
    Leave,
    /// Something that is no folder.
    Entry { path: PathBuf, node: Box<Node>, state: FileState },
    /// Something is not as it should be.
    Warning(SourceWarning),
}

/// What tells two states of one file apart without reading it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FileState {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) mtime: Timestamp,
    pub(crate) ctime: Timestamp,
}

/// Whether a node of the parent shows the file in this state. The device is left out: it changes
/// when a disk is attached anew.
pub(crate) fn same_moment(node: &Node, state: &FileState) -> bool {
    node.kind == NodeKind::File
        && node.inode == state.inode
        && node.size == state.size
        && node.mtime == state.mtime
        && node.ctime == state.ctime
}
