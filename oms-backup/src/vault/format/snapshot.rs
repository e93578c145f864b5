//! Snapshot files: one recovery point each.

use super::{BlobId, FormatError, SnapshotId, to_json};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A file under `snapshots/`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the backup began.
    pub time: Timestamp,
    /// The recovery point whose unchanged files were not read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotId>,
    /// The root folder.
    pub tree: BlobId,
    /// The folders and files backed up, as absolute paths.
    pub paths: Vec<String>,
    /// The computer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Who ran the backup.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The user id of who ran it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The group id of who ran it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// What was left out on request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    /// Marks for people and programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The recovery point that this one was rewritten from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<SnapshotId>,
    /// The program that wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// What the backup did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

/// What a backup did, kept in its snapshot.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// When it began.
    pub backup_start: Timestamp,
    /// When it ended.
    pub backup_end: Timestamp,
    /// Files that the parent does not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files taken over from the parent without reading.
    pub files_unmodified: u64,
    /// Folders that the parent does not have.
    pub dirs_new: u64,
    /// Folders that differ from the parent's.
    pub dirs_changed: u64,
    /// Folders equal to the parent's.
    pub dirs_unmodified: u64,
    /// Data blobs added to the vault.
    pub data_blobs: u64,
    /// Tree blobs added to the vault.
    pub tree_blobs: u64,
    /// Plaintext bytes added to the vault.
    pub data_added: u64,
    /// Bytes added to the vault, compressed and sealed.
    pub data_added_packed: u64,
    /// Files backed up, unmodified ones included.
    pub total_files_processed: u64,
    /// Their bytes.
    pub total_bytes_processed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Snapshot {
    /// The JSON text.
    ///
    /// # Errors
    /// [`FormatError::Json`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        to_json("snapshot", self)
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`FormatError::Json`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        serde_json::from_slice(bytes).map_err(FormatError::json("snapshot"))
    }
}
