//! Recovery points: states of a source that can be brought back.

use crate::vault::format::{Snapshot, SnapshotId};
use std::fmt;

/// How well the parts of a recovery point fit together.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Consistency {
    /// Each file is as it was when it was read; files were read one after the other
    /// (`FileSystemConsistent` needs a snapshot of the file system, which is not taken).
    File,
}

/// One recovery point.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecoveryPoint {
    /// Its id, which is its snapshot file's name.
    pub id: SnapshotId,
    /// What its snapshot file says: time, computer, paths, tags, counts.
    pub snapshot: Snapshot,
}

impl RecoveryPoint {
    /// The recovery point that a snapshot file describes.
    #[must_use]
    pub const fn new(id: SnapshotId, snapshot: Snapshot) -> Self {
        Self { id, snapshot }
    }

    /// How well its parts fit together.
    #[must_use]
    pub const fn consistency(&self) -> Consistency {
        Consistency::File
    }
}

impl fmt::Display for RecoveryPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot { time, hostname, paths, .. } = &self.snapshot;
        write!(f, "{} {time:.0} {hostname} {}", self.id.short(), paths.join(" "))
    }
}
