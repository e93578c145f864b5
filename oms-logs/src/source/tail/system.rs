//! How the operating system tells one file from another, whatever their names.

#[cfg(not(unix))]
pub(super) use elsewhere::{changed, check, identity, read_at};
#[cfg(unix)]
pub(super) use unix::{changed, check, identity, read_at};

#[cfg(unix)]
mod unix {
    use crate::source::SourceError;
    use std::fs::{File, Metadata};
    use std::io;
    use std::os::unix::fs::{FileExt, MetadataExt};
    use std::path::Path;

    #[expect(clippy::unnecessary_wraps, reason = "other systems do not number their files")]
    pub(in crate::source::tail) const fn check(_path: &Path) -> Result<(), SourceError> {
        Ok(())
    }

    /// The device's number and the file's on it.
    pub(in crate::source::tail) fn identity(meta: &Metadata) -> (u64, u64) {
        (meta.dev(), meta.ino())
    }

    /// When the file was last written to, in seconds and nanoseconds.
    pub(in crate::source::tail) fn changed(meta: &Metadata) -> (i64, i64) {
        (meta.mtime(), meta.mtime_nsec())
    }

    pub(in crate::source::tail) fn read_at(
        file: &File,
        bytes: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        file.read_at(bytes, offset)
    }
}

/// Without numbers of files a rotated log cannot be told from the new one, so that lines would be lost
/// or taken twice: nothing is followed.
#[cfg(not(unix))]
mod elsewhere {
    use crate::source::SourceError;
    use std::fs::{File, Metadata};
    use std::io;
    use std::path::Path;

    pub(in crate::source::tail) fn check(path: &Path) -> Result<(), SourceError> {
        let what = "following a log file on a system other than Unix";
        Err(SourceError::Unsupported { what, path: path.to_owned() })
    }

    /// Asked by nobody who has passed [`check`].
    pub(in crate::source::tail) fn identity(_meta: &Metadata) -> (u64, u64) {
        (0, 0)
    }

    /// Asked by nobody who has passed [`check`].
    pub(in crate::source::tail) fn changed(_meta: &Metadata) -> (i64, i64) {
        (0, 0)
    }

    pub(in crate::source::tail) fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}
