//! How full volumes are.

use std::fmt::Debug;
use std::io;
use std::path::Path;

/// The room on a volume.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// The size of a block in bytes.
    pub block_bytes: u64,
    /// How many blocks there are.
    pub blocks: u64,
    /// How many are free.
    pub blocks_free: u64,
    /// How many are free for users without privileges.
    pub blocks_available: u64,
    /// How many files there can be; 0 where there is no such limit.
    pub files: u64,
    /// How many more there can be.
    pub files_free: u64,
}

/// Asks how full volumes are.
pub trait Volumes: Debug + Send {
    /// The room on the volume that is mounted at `mount`.
    ///
    /// # Errors
    /// What the operating system says.
    fn usage(&self, mount: &Path) -> io::Result<Usage>;
}

/// Asks the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatVfs;

#[cfg(unix)]
impl Volumes for StatVfs {
    fn usage(&self, mount: &Path) -> io::Result<Usage> {
        let stat = rustix::fs::statvfs(mount)?;
        Ok(Usage {
            block_bytes: stat.f_frsize,
            blocks: stat.f_blocks,
            blocks_free: stat.f_bfree,
            blocks_available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
        })
    }
}

#[cfg(not(unix))]
impl Volumes for StatVfs {
    fn usage(&self, _mount: &Path) -> io::Result<Usage> {
        let reason = "the room on volumes is read on Unix only in this version";
        Err(io::Error::new(io::ErrorKind::Unsupported, reason))
    }
}
