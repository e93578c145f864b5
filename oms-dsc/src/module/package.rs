//! What is in a package, read without trusting any of it.
//!
//! A zip archive says everything twice, and programs differ in which they believe. Here both have to
//! agree, so that what was checked is what any node unpacks.

use super::MODULE_BYTES_MAX;
use crate::Error;
use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::collections::HashSet;

/// The most entries of a package.
pub const ENTRIES_MAX: usize = 20_000;

/// The most bytes that a package's files have together, unpacked.
pub const INFLATED_BYTES_MAX: u64 = 512 << 20;

/// The longest path of an entry, in bytes.
const PATH_BYTES_MAX: usize = 1_024;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const END_OF_DIRECTORY: u32 = 0x0605_4b50;
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;

/// What a field of 32 bits holds when the real value is elsewhere (Zip64).
const ELSEWHERE: u32 = u32::MAX;

/// A package whose every entry was checked.
#[derive(Clone, Debug)]
pub struct Package<'a> {
    bytes: &'a [u8],
    entries: Vec<PackageEntry>,
}

/// A file or folder of a package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PackageEntry {
    /// Its path: parts between slashes, none of them empty, `.` or `..`. A folder's ends without one.
    pub path: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// The bytes of its content, unpacked.
    pub len: u64,
    start: usize,
    stored: usize,
    method: Method,
    checksum: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Method {
    Stored,
    Deflated,
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::Invalid { what: "module package", reason: reason.into() }
}

impl<'a> Package<'a> {
    /// Reads a package and unpacks every file of it once, keeping nothing.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::Unsupported`] for Zip64, encryption, links and methods other than
    /// stored and deflated; [`Error::Invalid`] for a path that leaves the package's folder, an entry
    /// that is there twice, or anything that contradicts itself. Each names the entry.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > MODULE_BYTES_MAX {
            let (actual, limit) = (bytes.len(), MODULE_BYTES_MAX);
            return Err(Error::TooLarge { what: "module", actual, limit });
        }
        let package = Self { bytes, entries: directory(bytes)? };
        check_paths(&package.entries)?;
        // Entries that share their bytes would be unpacked again and again.
        let stored = package.entries.iter().fold(0, |sum: usize, it| sum.saturating_add(it.stored));
        if stored > bytes.len() {
            return Err(invalid("its entries have more bytes than it has"));
        }
        let mut total = 0_u64;
        for entry in &package.entries {
            total = total.saturating_add(entry.len);
            if total > INFLATED_BYTES_MAX {
                let limit = usize::try_from(INFLATED_BYTES_MAX).unwrap_or(usize::MAX);
                let actual = usize::try_from(total).unwrap_or(usize::MAX);
                return Err(Error::TooLarge { what: "unpacked module", actual, limit });
            }
            package.unpack(entry, |_| {})?;
        }
        Ok(package)
    }

    /// Every file and folder, in the order of the archive.
    #[must_use]
    pub fn entries(&self) -> &[PackageEntry] {
        &self.entries
    }

    /// The content of one of its files.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the entry is of another package.
    pub fn content(&self, entry: &PackageEntry) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        self.unpack(entry, |part| content.extend_from_slice(part))?;
        Ok(content)
    }

    /// Unpacks an entry and checks it against what is said of it. No more is unpacked than was said.
    fn unpack(&self, entry: &PackageEntry, mut take: impl FnMut(&[u8])) -> Result<(), Error> {
        let damaged = |reason: &str| invalid(format!("`{}`: {reason}", entry.path));
        let end = entry.start.saturating_add(entry.stored);
        let stored = self.bytes.get(entry.start..end);
        let stored = stored.ok_or_else(|| damaged("its content lies outside of the archive"))?;
        let mut crc = Crc::new();
        match entry.method {
            Method::Stored => {
                if stored.len() as u64 != entry.len {
                    return Err(damaged("two sizes of it differ"));
                }
                crc.update(stored);
                take(stored);
            }
            Method::Deflated => {
                let len = inflate(stored, entry.len, |part| {
                    crc.update(part);
                    take(part);
                });
                if len != Some(entry.len) {
                    return Err(damaged("it does not unpack to what is said of it"));
                }
            }
        }
        if crc.sum() != entry.checksum {
            return Err(damaged("its content has another checksum"));
        }
        Ok(())
    }
}

/// Unpacks at most `most` bytes and one more; none if it is no such stream, or goes on behind its end.
fn inflate(stored: &[u8], most: u64, mut take: impl FnMut(&[u8])) -> Option<u64> {
    let mut state = Decompress::new(false);
    let mut part = vec![0; 64 << 10];
    loop {
        let (read, made) = (state.total_in(), state.total_out());
        let input = stored.get(usize::try_from(read).ok()?..)?;
        let status = state.decompress(input, &mut part, FlushDecompress::None).ok()?;
        let count = usize::try_from(state.total_out() - made).ok()?;
        take(part.get(..count)?);
        if state.total_out() > most {
            return None;
        }
        match status {
            Status::StreamEnd if state.total_in() == stored.len() as u64 => {
                return Some(state.total_out());
            }
            Status::StreamEnd => return None,
            _ if state.total_in() == read && count == 0 => return None,
            _ => {}
        }
    }
}

/// Numbers of an archive, which are little-endian.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u16(&self, at: usize) -> Result<u16, Error> {
        let bytes = self.0.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map(|bytes| u16::from_le_bytes(*bytes)).ok_or_else(|| invalid("it is cut off"))
    }

    fn u32(&self, at: usize) -> Result<u32, Error> {
        let bytes = self.0.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or_else(|| invalid("it is cut off"))
    }

    fn len(&self, at: usize) -> Result<usize, Error> {
        let value = self.u32(at)?;
        if value == ELSEWHERE {
            return Err(Error::Unsupported { what: "archive", name: "Zip64".to_owned() });
        }
        Ok(value as usize)
    }

    fn bytes(&self, at: usize, len: usize) -> Result<&[u8], Error> {
        self.0.get(at..at.saturating_add(len)).ok_or_else(|| invalid("it is cut off"))
    }
}

/// The entries of the central directory, each of which agrees with its local header.
fn directory(bytes: &[u8]) -> Result<Vec<PackageEntry>, Error> {
    let fields = Fields(bytes);
    let end = end_of_directory(bytes)?;
    let count = usize::from(fields.u16(end + 10)?);
    if fields.u16(end + 4)? != 0 || usize::from(fields.u16(end + 8)?) != count {
        return Err(Error::Unsupported { what: "archive", name: "several volumes".to_owned() });
    }
    if count > ENTRIES_MAX {
        return Err(Error::TooLarge {
            what: "entries of a module",
            actual: count,
            limit: ENTRIES_MAX,
        });
    }
    let mut at = fields.len(end + 16)?;
    // Some programs find it by where it begins, and others by how long it is.
    if at.checked_add(fields.len(end + 12)?) != Some(end) {
        return Err(invalid("its directory has another size than it says"));
    }
    let mut entries = Vec::new();
    for _ in 0..count {
        if at >= end || fields.u32(at)? != CENTRAL_HEADER {
            return Err(invalid("its directory has fewer entries than it says"));
        }
        let (name, extra, comment) =
            (fields.u16(at + 28)?, fields.u16(at + 30)?, fields.u16(at + 32)?);
        entries.push(entry(&fields, at, usize::from(name))?);
        at += CENTRAL_BYTES + usize::from(name) + usize::from(extra) + usize::from(comment);
    }
    // What lies between would be read by some programs and not by others.
    if at != end {
        return Err(invalid("there is something between its directory and its end"));
    }
    Ok(entries)
}

/// The end of the archive, which a comment may follow.
fn end_of_directory(bytes: &[u8]) -> Result<usize, Error> {
    let fields = Fields(bytes);
    let none = || invalid("it is not a zip archive");
    let last = bytes.len().checked_sub(END_BYTES).ok_or_else(none)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let is_end = |at: &usize| {
        let comment = fields.u16(at + 20).map(usize::from);
        fields.u32(*at).ok() == Some(END_OF_DIRECTORY)
            && comment.is_ok_and(|comment| at + END_BYTES + comment == bytes.len())
    };
    (first..=last).rev().find(is_end).ok_or_else(none)
}

fn entry(fields: &Fields<'_>, at: usize, name_len: usize) -> Result<PackageEntry, Error> {
    let name = fields.bytes(at + CENTRAL_BYTES, name_len)?;
    let path = path_of(name)?;
    let refuse = |reason: &str| Err(invalid(format!("`{path}`: {reason}")));
    let flags = fields.u16(at + 8)?;
    if flags & 1 != 0 {
        return Err(Error::Unsupported { what: "encrypted entry of a module", name: path });
    }
    let method = match fields.u16(at + 10)? {
        0 => Method::Stored,
        8 => Method::Deflated,
        other => {
            let name = format!("{path}, by method {other}");
            return Err(Error::Unsupported { what: "compressed entry of a module", name });
        }
    };
    // The upper half is a mode, by whichever system it was made: some programs ask no further.
    let kind = (fields.u32(at + 38)? >> 16) & 0o170_000;
    if !matches!(kind, 0 | 0o100_000 | 0o040_000) {
        return Err(Error::Unsupported { what: "link or device in a module", name: path });
    }
    let is_folder = name.ends_with(b"/") || name.ends_with(b"\\") || kind == 0o040_000;
    let (checksum, stored, len) =
        (fields.u32(at + 16)?, fields.len(at + 20)?, fields.len(at + 24)?);
    let local = fields.len(at + 42)?;
    if fields.u32(local)? != LOCAL_HEADER {
        return refuse("it has no header where its directory says");
    }
    let local_name = usize::from(fields.u16(local + 26)?);
    if fields.bytes(local + LOCAL_BYTES, local_name)? != name {
        return refuse("its header has another name than its directory");
    }
    // With this flag sizes and checksum follow the content, and the header has none.
    let is_streamed = flags & 8 != 0;
    let agrees = fields.u16(local + 6)? & 9 == flags & 9
        && fields.u16(local + 8)? == fields.u16(at + 10)?
        && (is_streamed
            || (fields.u32(local + 14)? == checksum
                && fields.len(local + 18)? == stored
                && fields.len(local + 22)? == len));
    if !agrees {
        return refuse("its header and its directory differ");
    }
    if is_folder && len > 0 {
        return refuse("it is a folder and has content");
    }
    let local_extra = usize::from(fields.u16(local + 28)?);
    let extra = usize::from(fields.u16(at + 30)?);
    for (from, len) in
        [(at + CENTRAL_BYTES + name_len, extra), (local + LOCAL_BYTES + local_name, local_extra)]
    {
        if has_another_name(fields.bytes(from, len)?) {
            return refuse("it has a second path");
        }
    }
    let start = local + LOCAL_BYTES + local_name + local_extra;
    Ok(PackageEntry { path, is_folder, len: len as u64, start, stored, method, checksum })
}

/// Whether extra fields give a path, which some programs take in place of the entry's own (Info-ZIP's
/// `0x7075`).
fn has_another_name(mut extra: &[u8]) -> bool {
    const UNICODE_PATH: u16 = 0x7075;
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let [a, b, c, d] = *head;
        if u16::from_le_bytes([a, b]) == UNICODE_PATH {
            return true;
        }
        extra = rest.get(usize::from(u16::from_le_bytes([c, d]))..).unwrap_or_default();
    }
    false
}

/// The path of an entry, if it stays within the folder that a package is unpacked to, on every
/// system.
fn path_of(name: &[u8]) -> Result<String, Error> {
    let shown = String::from_utf8_lossy(name).chars().take(80).collect::<String>();
    let refuse = |reason: &str| Err(invalid(format!("`{}`: {reason}", shown.escape_debug())));
    let Ok(text) = std::str::from_utf8(name) else {
        return refuse("its path is not UTF-8");
    };
    if text.len() > PATH_BYTES_MAX {
        return refuse("its path is too long");
    }
    // Archives of older tools of Windows have the other slash.
    let text = text.replace('\\', "/");
    if text.starts_with('/') || text.contains(':') {
        return refuse("its path is absolute, or names a stream");
    }
    if text.chars().any(char::is_control) {
        return refuse("its path has a control character");
    }
    let path = text.strip_suffix('/').unwrap_or(&text);
    // Windows drops dots and spaces at the end of a name, so that another would be written.
    let is_wrong = |part: &str| part.is_empty() || part.ends_with(['.', ' ']);
    if path.split('/').any(is_wrong) {
        return refuse("its path has a part that is empty, or ends with a dot or a space");
    }
    Ok(path.to_owned())
}

/// No entry is there twice, also where case means nothing, and no file is a folder of others.
fn check_paths(entries: &[PackageEntry]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    let mut files = HashSet::new();
    for entry in entries {
        let key = entry.path.to_lowercase();
        if !entry.is_folder {
            files.insert(key.clone());
        }
        if !seen.insert(key) {
            return Err(invalid(format!("`{}`: it is there twice", entry.path)));
        }
    }
    for entry in entries {
        let key = entry.path.to_lowercase();
        let above = key.match_indices('/').map(|(at, _)| &key[..at]);
        if let Some(file) = above.into_iter().find(|above| files.contains(*above)) {
            return Err(invalid(format!("`{}`: `{file}` is a file", entry.path)));
        }
    }
    Ok(())
}
