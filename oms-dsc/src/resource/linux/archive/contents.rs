//! What an archive holds, of whichever format, read without trusting it.

use super::tar::Tar;
use crate::Error;
use crate::module::{INFLATED_BYTES_MAX, MODULE_BYTES_MAX, Package, PackageEntry};
use crate::resource::linux::command::unnamed;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;

/// The most bytes of an unpacked tar archive: those of its files, their headers and what fills them up.
const TAR_BYTES_MAX: u64 = INFLATED_BYTES_MAX + (64 << 20);

/// The largest window of Zstandard, as the power of two of its bytes: what its own program takes.
const WINDOW_LOG_MAX: u32 = 27;

/// An archive whose every entry was checked.
#[derive(Debug)]
pub(in crate::resource::linux) struct Archive<'a> {
    entries: Vec<Entry>,
    source: Source<'a>,
}

#[derive(Debug)]
enum Source<'a> {
    Zip(Package<'a>),
    Tar(Bytes<'a>),
}

/// A file or folder of an archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::resource::linux) struct Entry {
    /// Its path: parts between slashes, none of them empty, `.` or `..`.
    pub(in crate::resource::linux) path: String,
    pub(in crate::resource::linux) is_folder: bool,
    /// The bytes of its content.
    pub(super) len: u64,
    /// The permission bits of a file, if the archive's format has such.
    pub(super) mode: Option<u32>,
    place: Place,
}

/// Where the content of an entry is.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    Zip(PackageEntry),
    /// Behind so many bytes of the archive.
    Tar(u64),
}

impl<'a> Archive<'a> {
    /// Reads an archive of at most [`MODULE_BYTES_MAX`] bytes; `shown` is what it is called.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other formats, and for links, devices and the like, by name;
    /// [`Error::TooLarge`]; [`Error::Invalid`] for paths that leave its folder, and for what contradicts
    /// itself.
    pub(in crate::resource::linux) fn read(
        bytes: &'a [u8],
        shown: &dyn Fn() -> String,
    ) -> Result<Self, Error> {
        let unsupported = |what| Err(Error::Unsupported { what, name: shown() });
        match bytes {
            [b'P', b'K', ..] => Ok(Self::zip(Package::read(bytes)?)),
            [0x1f, 0x8b, ..] => {
                let unpacked = unpacked(MultiGzDecoder::new(bytes), "gzip", shown)?;
                Self::tar(Bytes::File(unpacked))
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let failed = |error: io::Error| damaged("zstd", shown, &error);
                let mut stream = zstd::Decoder::with_buffer(bytes).map_err(failed)?;
                stream.window_log_max(WINDOW_LOG_MAX).map_err(failed)?;
                Self::tar(Bytes::File(unpacked(stream, "zstd", shown)?))
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("archive compressed by xz"),
            [b'B', b'Z', b'h', ..] => unsupported("archive compressed by bzip2"),
            [b'7', b'z', 0xbc, 0xaf, ..] => unsupported("archive of 7-Zip"),
            _ if Tar::is_one(bytes) => Self::tar(Bytes::Memory(bytes)),
            _ => unsupported("archive that is neither zip nor tar"),
        }
    }

    fn zip(package: Package<'a>) -> Self {
        let entry = |entry: &PackageEntry| Entry {
            path: entry.path.clone(),
            is_folder: entry.is_folder,
            len: entry.len,
            mode: None,
            place: Place::Zip(entry.clone()),
        };
        let entries = package.entries().iter().map(entry).collect();
        Self { entries, source: Source::Zip(package) }
    }

    fn tar(bytes: Bytes<'a>) -> Result<Self, Error> {
        let entry = |found: super::tar::TarEntry| Entry {
            path: found.path,
            is_folder: found.is_folder,
            len: found.len,
            mode: (!found.is_folder).then_some(found.mode),
            place: Place::Tar(found.start),
        };
        let tar = Tar::read(&bytes)?;
        let entries = tar.entries.into_iter().map(entry).collect();
        Ok(Self { entries, source: Source::Tar(bytes) })
    }

    /// Every file and folder, in the order of the archive.
    pub(in crate::resource::linux) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The content of one of its files.
    pub(in crate::resource::linux) fn content(&self, entry: &Entry) -> Result<Vec<u8>, Error> {
        match (&self.source, &entry.place) {
            (Source::Zip(package), Place::Zip(found)) => package.content(found),
            (Source::Tar(bytes), Place::Tar(start)) => bytes.read(*start, entry.len),
            (Source::Zip(_), Place::Tar(_)) | (Source::Tar(_), Place::Zip(_)) => {
                let reason = format!("`{}` is of another archive", entry.path);
                Err(Error::Internal { reason })
            }
        }
    }
}

/// The bytes of a tar archive: as they were read, or unpacked to a file without a name.
#[derive(Debug)]
pub(super) enum Bytes<'a> {
    Memory(&'a [u8]),
    File(File),
}

impl Bytes<'_> {
    /// So many bytes from a place on; fewer where the archive ends.
    pub(super) fn read_at(&self, start: u64, bytes: &mut [u8]) -> Result<usize, Error> {
        let mut read = 0;
        while read < bytes.len() {
            let more = match self {
                Self::Memory(whole) => {
                    let start = usize::try_from(start).unwrap_or(usize::MAX).saturating_add(read);
                    let mut rest = whole.get(start..).unwrap_or_default();
                    rest.read(&mut bytes[read..])
                }
                Self::File(file) => file.read_at(&mut bytes[read..], start + read as u64),
            };
            match more {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let path = "an unpacked archive".into();
                    return Err(Error::Io { operation: "read", path, source });
                }
            }
        }
        Ok(read)
    }

    fn read(&self, start: u64, len: u64) -> Result<Vec<u8>, Error> {
        let too_large = |_| Error::TooLarge {
            what: "file of an archive",
            actual: usize::MAX,
            limit: MODULE_BYTES_MAX,
        };
        let mut bytes = vec![0; usize::try_from(len).map_err(too_large)?];
        let read = self.read_at(start, &mut bytes)?;
        match read == bytes.len() {
            true => Ok(bytes),
            false => Err(super::tar::invalid("it is cut off")),
        }
    }
}

/// Unpacks a stream to a file without a name, as far as it may be.
fn unpacked(stream: impl Read, format: &str, shown: &dyn Fn() -> String) -> Result<File, Error> {
    let failed = |source| Error::Io { operation: "unpack", path: shown().into(), source };
    let mut file = unnamed("archive").map_err(failed)?;
    let mut stream = stream.take(TAR_BYTES_MAX + 1);
    let (mut part, mut total) = (vec![0; 64 << 10], 0);
    loop {
        let read = match stream.read(&mut part) {
            Ok(0) => return Ok(file),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(format, shown, &error)),
        };
        total += read as u64;
        if total > TAR_BYTES_MAX {
            let limit = usize::try_from(TAR_BYTES_MAX).unwrap_or(usize::MAX);
            let actual = usize::try_from(total).unwrap_or(usize::MAX);
            return Err(Error::TooLarge { what: "unpacked archive", actual, limit });
        }
        file.write_all(&part[..read]).map_err(failed)?;
    }
}

fn damaged(format: &str, shown: &dyn Fn() -> String, error: &io::Error) -> Error {
    Error::Corrupt { what: shown(), reason: format!("it does not unpack as {format}: {error}") }
}
