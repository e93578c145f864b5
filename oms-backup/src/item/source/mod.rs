//! What can be backed up, and how it is read.

#[cfg(unix)]
mod accounts;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod exclude;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod metadata;

pub use exclude::{EXCLUDE_BYTES_MAX, EXCLUDES_MAX, Excludes, exclude_file_patterns};

#[cfg(unix)]
pub(crate) use accounts::Accounts;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{FileSource, LocalTree};
#[cfg(target_os = "linux")]
pub(crate) use files::FileSource;
#[cfg(target_os = "linux")]
pub(crate) use metadata::{LocalTree, open_attributes};

use crate::vault::LockGuard;
use crate::vault::format::{Node, NodeKind};
use jiff::Timestamp;
use std::ffi::OsString;
use std::fmt::{self, Debug};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A tree of files that can be backed up: this computer's own, unless a vault is given another by
/// [`Vault::source_tree`](crate::Vault::source_tree).
///
/// Paths are absolute. Calls block.
pub trait SourceTree: Debug + Send + Sync {
    /// What a path names. A link at its end is followed if `follows` says so.
    ///
    /// # Errors
    /// What the file system says; [`io::ErrorKind::NotFound`] where nothing is.
    fn look_at(&self, path: &Path, follows: bool) -> io::Result<SourceEntry>;

    /// The names in a folder, in any order.
    ///
    /// # Errors
    /// What the file system says.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Opens a regular file for reading. Neither follows a link nor waits at a pipe that took its place
    /// since it was looked at.
    ///
    /// # Errors
    /// What the file system says; an error for anything but a regular file.
    fn open(&self, file: &Path) -> io::Result<Box<dyn SourceFile>>;
}

/// A file that is being read.
pub trait SourceFile: io::Read + Debug {
    /// In which state it is now.
    ///
    /// # Errors
    /// What the file system says.
    fn state(&self) -> io::Result<FileState>;
}

/// What a path names.
#[derive(Clone, Debug)]
pub struct SourceEntry {
    /// Everything about it but its content.
    pub node: Node,
    /// What tells whether its content has changed.
    pub state: FileState,
    /// What of its metadata could not be read, and why.
    pub missing: Vec<String>,
}

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
            SourceWarningKind::Missing => "not there, so not backed up",
            SourceWarningKind::Unreadable => "not backed up",
            SourceWarningKind::FolderUnreadable => "backed up without its content",
            SourceWarningKind::Changed => "changed while it was read",
            SourceWarningKind::Metadata => "backed up without some of its metadata",
            SourceWarningKind::VaultCopy => "a copy of the vault, backed up",
        };
        write!(f, "{}: {what}: {}", self.path.display(), self.reason)
    }
}

/// What kind of thing happened to a file or folder.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SourceWarningKind {
    /// It was to be backed up and is not there.
    Missing,
    /// It could not be read and is not in the recovery point.
    Unreadable,
    /// The folder is in the recovery point, but nothing that is in it.
    FolderUnreadable,
    /// It was written to while it was read: its content may be of no single moment.
    Changed,
    /// Its content is in the recovery point, but an extended attribute is not.
    Metadata,
    /// It is a copy of the vault that is written to, such as one in a snapshot of the file system, and is
    /// backed up like any folder, which may be more than is wanted.
    VaultCopy,
}

impl SourceWarningKind {
    /// Whether something is missing from the recovery point.
    pub(crate) const fn is_loss(self) -> bool {
        !matches!(self, Self::Changed | Self::VaultCopy)
    }
}

/// What of the given paths is walked.
#[derive(Debug, Default)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is read there"))]
pub(crate) struct Selection {
    /// Whether folders on other file systems stay empty.
    pub(crate) one_file_system: bool,
    /// What is left out.
    pub(crate) excludes: Excludes,
    /// Whether caches are left out but for what marks them.
    pub(crate) exclude_caches: bool,
    /// The vault that is left out, if it is.
    pub(crate) own_vault: Option<OwnVault>,
}

/// The vault that is written to.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is read there"))]
pub(crate) struct OwnVault {
    /// Its configuration, which is that of its copies, too, and no other vault's.
    pub(crate) config: Vec<u8>,
    /// The lock of this backup, which no copy has.
    pub(crate) lock: Arc<LockGuard>,
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
    /// So many files and folders are left out of one folder.
    Excluded(u64),
    /// The vault itself, which is left out.
    OwnVault(PathBuf),
}

/// What tells two states of one file apart without reading it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileState {
    /// The device that holds it.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its length, in bytes.
    pub size: u64,
    /// When its content was changed last.
    pub mtime: Timestamp,
    /// When its metadata was changed last.
    pub ctime: Timestamp,
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
