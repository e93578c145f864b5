//! Where the key-encryption key is.

use super::Secret;
use super::ring::{KEY_BYTES, KeyError, open_bytes, seal_bytes};
use crate::disk::{Disk, DiskExt as _, OpenMode};
use crate::entropy::Entropy;
use std::fmt::{self, Debug};
use std::path::Path;
use std::sync::Arc;

/// The file that holds the key, below the disk's folder.
pub(super) const FILE: &str = "kek";

/// The name of the file while it is being written.
const FILE_NEW: &str = "kek.new";

/// Wraps account keys with a key-encryption key that it never gives out.
pub trait KeyProvider: Debug + Send + Sync {
    /// Encrypts a key; `context` says whose it is and comes back at [`KeyProvider::unwrap_key`].
    ///
    /// # Errors
    /// [`KeyError`].
    fn wrap_key(&self, key: &Secret, context: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Decrypts what [`KeyProvider::wrap_key`] answered.
    ///
    /// # Errors
    /// [`KeyError::Refused`] if the key, the context or the bytes are others.
    fn unwrap_key(&self, wrapped: &[u8], context: &[u8]) -> Result<Secret, KeyError>;
}

/// The default: a key in a file of its own, which only its owner can read. Keep a copy of it
/// elsewhere: without it nothing that was sealed opens again.
pub struct FileKeyProvider {
    key: Secret,
    entropy: Arc<dyn Entropy>,
}

impl Debug for FileKeyProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKeyProvider").finish_non_exhaustive()
    }
}

impl FileKeyProvider {
    /// Draws the key of a new folder and writes it durably. A [`LocalDisk`](crate::LocalDisk)
    /// gives the file mode 0600.
    ///
    /// # Errors
    /// [`KeyError::Exists`] if there is a key: it is never replaced.
    pub fn create(disk: &dyn Disk, entropy: Arc<dyn Entropy>) -> Result<Self, KeyError> {
        if disk.list(Path::new(""))?.iter().any(|name| name == FILE) {
            return Err(KeyError::Exists);
        }
        let mut bytes = vec![0; KEY_BYTES];
        entropy.fill(&mut bytes);
        let key = Secret::new(bytes);
        let file = disk.open(Path::new(FILE_NEW), OpenMode::OpenOrCreate)?;
        file.set_len(0)?;
        file.write_at(0, key.expose())?;
        file.sync()?;
        disk.rename(Path::new(FILE_NEW), Path::new(FILE))?;
        disk.sync_dir(Path::new(""))?;
        Ok(Self { key, entropy })
    }

    /// Reads the key of a folder.
    ///
    /// # Errors
    /// [`KeyError::Missing`] if there is none: a key beside existing data is never drawn anew.
    pub fn open(disk: &dyn Disk, entropy: Arc<dyn Entropy>) -> Result<Self, KeyError> {
        if !disk.list(Path::new(""))?.iter().any(|name| name == FILE) {
            return Err(KeyError::Missing);
        }
        // What is sealed with a key must not outlive it.
        disk.settle(Path::new(FILE))?;
        let file = disk.open(Path::new(FILE), OpenMode::Read)?;
        let length = file.len()?;
        if length != KEY_BYTES as u64 {
            return Err(KeyError::Length { found: length, expected: KEY_BYTES });
        }
        let mut bytes = vec![0; KEY_BYTES];
        file.read_at(0, &mut bytes)?;
        Ok(Self { key: Secret::new(bytes), entropy })
    }
}

impl KeyProvider for FileKeyProvider {
    fn wrap_key(&self, key: &Secret, context: &[u8]) -> Result<Vec<u8>, KeyError> {
        seal_bytes(&self.key, key.expose(), context, &*self.entropy)
    }

    fn unwrap_key(&self, wrapped: &[u8], context: &[u8]) -> Result<Secret, KeyError> {
        open_bytes(&self.key, wrapped, context)
    }
}
