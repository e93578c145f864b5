//! This computer's files, and what their file systems say about them, as nodes.

use super::{Accounts, FileState, SourceEntry, SourceFile, SourceTree};
use crate::vault::format::{ExtendedAttribute, Node, NodeKind, NodeName, mode_from_unix};
use jiff::Timestamp;
use rustix::fd::BorrowedFd;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{File, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The most bytes the list of a file's attribute names may have; Linux stops at 64 KiB.
const ATTRIBUTE_NAMES_BYTES_MAX: usize = 1 << 20;

/// The most bytes one attribute's value may have; Linux stops at 64 KiB.
const ATTRIBUTE_BYTES_MAX: usize = 1 << 20;

/// The files of this computer.
#[derive(Debug)]
pub(crate) struct LocalTree {
    accounts: Accounts,
}

impl LocalTree {
    /// With the names of users and groups as of now.
    pub(crate) fn load() -> Self {
        Self { accounts: Accounts::load() }
    }
}

impl SourceTree for LocalTree {
    fn look_at(&self, path: &Path, follows: bool) -> io::Result<SourceEntry> {
        let metadata =
            if follows { std::fs::metadata(path)? } else { std::fs::symlink_metadata(path)? };
        let name = path.file_name().unwrap_or_default();
        let name = NodeName::new(name.as_bytes())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let (node, missing) = read_node(path, name, &metadata, &self.accounts)?;
        Ok(SourceEntry { node, state: state(&metadata), missing })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn SourceFile>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut options = std::fs::OpenOptions::new();
        let opened = options.read(true).custom_flags(flags.bits().cast_signed()).open(file)?;
        if !opened.metadata()?.is_file() {
            return Err(io::Error::other("it was replaced by something that is no file"));
        }
        Ok(Box::new(opened))
    }
}

impl SourceFile for File {
    fn state(&self) -> io::Result<FileState> {
        self.metadata().map(|metadata| state(&metadata))
    }
}

fn state(metadata: &Metadata) -> FileState {
    FileState {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        mtime: time(metadata.mtime(), metadata.mtime_nsec()),
        ctime: time(metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// Seconds and nanoseconds as an instant, moved into the years 0 to 9999 that JSON dates have.
fn time(seconds: i64, nanoseconds: i64) -> Timestamp {
    const YEAR_0: i64 = -62_167_219_200;
    const YEAR_9999_END: i64 = 253_402_207_200;
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    Timestamp::new(seconds.clamp(YEAR_0, YEAR_9999_END), nanoseconds).unwrap_or_default()
}

fn kind(file_type: FileType) -> NodeKind {
    if file_type.is_file() {
        NodeKind::File
    } else if file_type.is_dir() {
        NodeKind::Dir
    } else if file_type.is_symlink() {
        NodeKind::Symlink
    } else if file_type.is_block_device() {
        NodeKind::Dev
    } else if file_type.is_char_device() {
        NodeKind::CharDev
    } else if file_type.is_fifo() {
        NodeKind::Fifo
    } else if file_type.is_socket() {
        NodeKind::Socket
    } else {
        NodeKind::Unknown
    }
}

/// Everything about a file but its content; attributes that could not be read are named.
fn read_node(
    path: &Path,
    name: NodeName,
    metadata: &Metadata,
    accounts: &Accounts,
) -> io::Result<(Node, Vec<String>)> {
    let kind = kind(metadata.file_type());
    let mut node = Node::new(name, kind);
    node.mode = mode_from_unix(kind, metadata.mode());
    node.mtime = time(metadata.mtime(), metadata.mtime_nsec());
    node.atime = node.mtime;
    node.ctime = time(metadata.ctime(), metadata.ctime_nsec());
    (node.uid, node.gid) = (metadata.uid(), metadata.gid());
    accounts.user(node.uid).clone_into(&mut node.user);
    accounts.group(node.gid).clone_into(&mut node.group);
    node.inode = metadata.ino();
    if kind != NodeKind::Dir {
        node.links = metadata.nlink();
    }
    if node.links > 1 {
        // Only names of one inode need the device to find each other.
        node.device_id = metadata.dev();
    }
    match kind {
        NodeKind::File => node.size = metadata.size(),
        NodeKind::Dev | NodeKind::CharDev => node.device = metadata.rdev(),
        NodeKind::Symlink => {
            let target = std::fs::read_link(path)?;
            let target = target.as_os_str();
            target.to_string_lossy().into_owned().clone_into(&mut node.link_target);
            if target.to_str().is_none() {
                node.link_target_raw = target.as_bytes().to_vec();
            }
        }
        _ => {}
    }
    let attributes = read_attributes(
        |bytes| rustix::fs::llistxattr(path, bytes),
        |name, bytes| rustix::fs::lgetxattr(path, name, bytes),
    );
    let missing = match attributes {
        Ok((attributes, missing)) => {
            node.extended_attributes = attributes;
            missing
        }
        Err(error) => vec![format!("extended attributes: {error}")],
    };
    Ok((node, missing))
}

/// The extended attributes of an open file, by name, and what could not be read of them.
pub(crate) fn open_attributes(
    fd: BorrowedFd<'_>,
) -> io::Result<(Vec<ExtendedAttribute>, Vec<String>)> {
    read_attributes(
        |bytes| rustix::fs::flistxattr(fd, bytes),
        |name, bytes| rustix::fs::fgetxattr(fd, name, bytes),
    )
}

fn read_attributes(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&str, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<(Vec<ExtendedAttribute>, Vec<String>)> {
    let (mut attributes, mut missing) = (Vec::new(), Vec::new());
    let names = match grow(ATTRIBUTE_NAMES_BYTES_MAX, list) {
        Err(error) if error.raw_os_error() == Some(Errno::NOTSUP.raw_os_error()) => Vec::new(),
        names => names?,
    };
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else {
            missing.push(format!("attribute {}: its name is not UTF-8", name.escape_ascii()));
            continue;
        };
        match grow(ATTRIBUTE_BYTES_MAX, |bytes| get(name, bytes)) {
            Ok(value) => attributes.push(ExtendedAttribute { name: name.to_owned(), value }),
            // Removed since the listing.
            Err(error) if error.raw_os_error() == Some(Errno::NODATA.raw_os_error()) => {}
            Err(error) => missing.push(format!("attribute {name}: {error}")),
        }
    }
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((attributes, missing))
}

/// Calls with a larger buffer until the answer fits.
fn grow(
    limit: usize,
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 256];
    loop {
        match read(&mut bytes) {
            Ok(length) => {
                bytes.truncate(length);
                return Ok(bytes);
            }
            Err(Errno::RANGE) if bytes.len() < limit => bytes.resize(bytes.len() * 4, 0),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_beyond_9999_are_kept_or_clamped() {
        assert_eq!(time(-1, 500_000_000).to_string(), "1969-12-31T23:59:59.5Z");
        assert!(time(i64::MAX, 0).to_string().starts_with("9999-"));
        assert_eq!(time(i64::MIN, 0).to_string(), "0000-01-01T00:00:00Z");
    }
}
