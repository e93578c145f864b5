//! One file at a time, through rotation.

use super::SourceError;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How many bytes at the beginning of a file tell it from another file with its inode number.
const HEAD_BYTES_MAX: u64 = 256;

/// The most names in a folder that are looked at to find a rotated file.
const SIBLINGS_MAX: usize = 10_000;

/// Where following begins when there is no position yet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StartAt {
    /// With what the file holds already.
    #[default]
    Beginning,
    /// With what is written from now on.
    End,
}

/// A place in a file, found again after the file was renamed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FilePosition {
    /// The number of the device that the file is on.
    pub device: u64,
    /// The number of the file on its device; the file system gives it to another file later.
    pub inode: u64,
    /// How many bytes were consumed.
    pub offset: u64,
    /// How many bytes at the beginning `head_crc` is over.
    pub head_bytes: u64,
    /// CRC-32C of the beginning, to tell this file from the next one with its inode number.
    pub head_crc: u32,
}

/// Bytes from the position on.
#[derive(Debug, Default)]
pub(in crate::source) struct Chunk {
    /// The bytes. They are read again unless they are consumed.
    pub(in crate::source) bytes: Vec<u8>,
    /// Whether the file goes on behind the bytes.
    pub(in crate::source) more: bool,
    /// Whether the file is a rotated one that does not grow any more and ends with the bytes.
    pub(in crate::source) last: bool,
    /// Whether the file of the last position is gone, so that its end may be missing.
    pub(in crate::source) gap: bool,
}

/// Follows a path through the files that have its name one after the other.
#[derive(Debug)]
pub(in crate::source) struct Follower {
    path: PathBuf,
    start: StartAt,
    position: Option<FilePosition>,
    /// The file of the position. Held open, it can be read to its end after it was removed.
    file: Option<File>,
    /// The length that a rotated file had at the last read.
    rotated_bytes: Option<u64>,
    /// Whether the last read showed that the file is rotated, still and read to its end.
    finished: bool,
}

impl Follower {
    /// Follows the file at `path`, which need not exist yet.
    pub(in crate::source) fn new(path: impl Into<PathBuf>, start: StartAt) -> Self {
        let path = path.into();
        Self { path, start, position: None, file: None, rotated_bytes: None, finished: false }
    }

    /// The path.
    pub(in crate::source) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next read begins; nothing before the first read.
    pub(in crate::source) fn position(&self) -> Option<&FilePosition> {
        self.position.as_ref()
    }

    /// Goes to a position.
    pub(in crate::source) fn resume(&mut self, position: Option<FilePosition>) {
        self.position = position;
        self.rotated_bytes = None;
        self.finished = false;
    }

    /// Reads up to `limit` bytes from the position on, without moving it.
    ///
    /// # Errors
    /// [`SourceError::Io`], [`SourceError::Unsupported`] for a path that is not a regular file.
    pub(in crate::source) fn read(&mut self, limit: usize) -> Result<Chunk, SourceError> {
        self.finished = false;
        let gap = self.locate()?;
        let (Some(position), Some(file)) = (&mut self.position, &self.file) else {
            return Ok(Chunk { gap, ..Chunk::default() });
        };
        let len = file.metadata().map_err(SourceError::io("measure", &self.path))?.len();
        if position.head_bytes < len.min(HEAD_BYTES_MAX) {
            (position.head_bytes, position.head_crc) = fingerprint(file, len, &self.path)?;
        }
        let left = len.saturating_sub(position.offset);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(limit);
        let mut bytes = vec![0; count];
        let read = read_at(file, position.offset, &mut bytes, &self.path)?;
        bytes.truncate(read);
        let more = position.offset + (read as u64) < len;

        let mut last = false;
        if !more && !self.is_live()? {
            last = self.rotated_bytes == Some(len);
            self.rotated_bytes = Some(len);
        }
        self.finished = last;
        Ok(Chunk { bytes, more, last, gap })
    }

    /// Moves the position behind `count` bytes of the last read.
    pub(in crate::source) fn consume(&mut self, count: usize) {
        if let Some(position) = &mut self.position {
            position.offset += count as u64;
        }
    }

    /// Goes from a rotated file that was consumed to its end to the file that followed it; answers
    /// whether there is one.
    ///
    /// # Errors
    /// [`SourceError::Io`].
    pub(in crate::source) fn advance(&mut self) -> Result<bool, SourceError> {
        let (Some(position), Some(file), true) = (&self.position, &self.file, self.finished) else {
            return Ok(false);
        };
        let meta = file.metadata().map_err(SourceError::io("measure", &self.path))?;
        if position.offset < meta.len() {
            return Ok(false);
        }
        let next = match self.successor(position, &meta)? {
            Some(path) => path,
            None => self.path.clone(),
        };
        match open(&next)? {
            Some((file, meta)) => self.begin(file, &meta, 0)?,
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Stands at `offset` of a file.
    fn begin(&mut self, file: File, meta: &Metadata, offset: u64) -> Result<(), SourceError> {
        let (head_bytes, head_crc) = fingerprint(&file, meta.len(), &self.path)?;
        self.position = Some(FilePosition {
            device: meta.dev(),
            inode: meta.ino(),
            offset,
            head_bytes,
            head_crc,
        });
        self.file = Some(file);
        self.rotated_bytes = None;
        self.finished = false;
        Ok(())
    }

    /// Opens the file that the position is in; answers whether it is gone and another was begun.
    fn locate(&mut self) -> Result<bool, SourceError> {
        let Some(position) = self.position.clone() else {
            if let Some((file, meta)) = open(&self.path)? {
                let offset = if self.start == StartAt::End { meta.len() } else { 0 };
                self.begin(file, &meta, offset)?;
            }
            return Ok(false);
        };
        if let Some(file) = &self.file
            && self.continues(file, &position)?
        {
            return Ok(false);
        }
        self.file = None;
        for path in std::iter::once(self.path.clone()).chain(self.siblings()?) {
            if let Some((file, _)) = open(&path)?
                && self.continues(&file, &position)?
            {
                self.file = Some(file);
                return Ok(false);
            }
        }
        let truncated = open(&self.path)?
            .is_some_and(|(_, meta)| (meta.dev(), meta.ino()) == (position.device, position.inode));
        if let Some((file, meta)) = self.copy_of(&position)? {
            self.begin(file, &meta, position.offset)?;
            return Ok(false);
        }
        match open(&self.path)? {
            Some((file, meta)) => self.begin(file, &meta, 0)?,
            None => return Ok(false),
        }
        // What a truncation cut off cannot be told from nothing; a file that is gone is a gap.
        Ok(!truncated)
    }

    /// Whether a file is the one of the position, and still holds what was consumed.
    fn continues(&self, file: &File, position: &FilePosition) -> Result<bool, SourceError> {
        let meta = file.metadata().map_err(SourceError::io("measure", &self.path))?;
        Ok((meta.dev(), meta.ino()) == (position.device, position.inode)
            && self.holds(file, &meta, position)?)
    }

    fn holds(
        &self,
        file: &File,
        meta: &Metadata,
        position: &FilePosition,
    ) -> Result<bool, SourceError> {
        if meta.len() < position.offset {
            return Ok(false);
        }
        let head = fingerprint(file, position.head_bytes, &self.path)?;
        Ok(head == (position.head_bytes, position.head_crc))
    }

    /// A rotated copy with the same beginning and more bytes than were consumed.
    fn copy_of(&self, position: &FilePosition) -> Result<Option<(File, Metadata)>, SourceError> {
        // Without a beginning to compare, every file would be the copy.
        if position.head_bytes == 0 {
            return Ok(None);
        }
        for path in self.siblings()? {
            if let Some((file, meta)) = open(&path)?
                && meta.len() > position.offset
                && self.holds(&file, &meta, position)?
            {
                return Ok(Some((file, meta)));
            }
        }
        Ok(None)
    }

    /// Whether the file of the position still has the path's name.
    fn is_live(&self) -> Result<bool, SourceError> {
        let Some(position) = &self.position else { return Ok(true) };
        match std::fs::metadata(&self.path) {
            Ok(meta) => Ok((meta.dev(), meta.ino()) == (position.device, position.inode)),
            // Between a rename and the creation of the new file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(SourceError::io("measure", &self.path)(error)),
        }
    }

    /// The oldest rotated file that is newer than the finished one.
    fn successor(
        &self,
        done: &FilePosition,
        done_meta: &Metadata,
    ) -> Result<Option<PathBuf>, SourceError> {
        let siblings = self.siblings()?;
        let is_done = |path: &PathBuf| {
            std::fs::metadata(path)
                .is_ok_and(|meta| (meta.dev(), meta.ino()) == (done.device, done.inode))
        };
        if let Some(index) = siblings.iter().position(is_done) {
            return Ok(siblings.into_iter().nth(index + 1));
        }
        // The finished file has no name any more, so only the times of last writing can tell.
        let changed = |meta: &Metadata| (meta.mtime(), meta.mtime_nsec());
        Ok(siblings.into_iter().find(|path| {
            std::fs::metadata(path).is_ok_and(|meta| changed(&meta) > changed(done_meta))
        }))
    }

    /// The rotated files of this path that can be read, oldest first: its name with a number
    /// (`syslog.1`) or a date (`syslog-20261124`) behind it.
    fn siblings(&self) -> Result<Vec<PathBuf>, SourceError> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let Some(name) = self.path.file_name().and_then(|name| name.to_str()) else {
            return Ok(Vec::new());
        };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(SourceError::io("list", folder)(error)),
        };
        let mut found = Vec::new();
        for entry in entries.take(SIBLINGS_MAX) {
            let entry = entry.map_err(SourceError::io("list", folder))?;
            let file_name = entry.file_name();
            let suffix = file_name.to_str().and_then(|file| file.strip_prefix(name));
            if let Some(age) = suffix.and_then(Age::parse)
                && std::fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file())
            {
                found.push((age, entry.path()));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }
}

/// What a rotated file's suffix says about its age; older is less.
#[derive(Debug, Eq, PartialEq)]
enum Age {
    Date(String),
    Number(u32),
}

impl Age {
    /// The longest number; longer digits are a date.
    const NUMBER_DIGITS_MAX: usize = 4;

    /// Reads `.1`, `-20261124`, `.2026-11-24`.
    fn parse(suffix: &str) -> Option<Self> {
        let rest = suffix.strip_prefix(['.', '-'])?;
        let all = |ok: fn(char) -> bool| !rest.is_empty() && rest.chars().all(ok);
        if all(|c| c.is_ascii_digit()) && rest.len() <= Self::NUMBER_DIGITS_MAX {
            return rest.parse().ok().map(Self::Number);
        }
        all(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | '_' | 'T' | ':'))
            .then(|| Self::Date(rest.to_owned()))
    }
}

impl Ord for Age {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Date(a), Self::Date(b)) => a.cmp(b),
            // The number grows with every rotation.
            (Self::Number(a), Self::Number(b)) => b.cmp(a),
            (Self::Date(_), Self::Number(_)) => Ordering::Less,
            (Self::Number(_), Self::Date(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Age {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Opens a regular file; nothing if there is none.
fn open(path: &Path) -> Result<Option<(File, Metadata)>, SourceError> {
    // Asked by name first, because opening a named pipe would wait for a writer.
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => {
            let what = "following something other than a regular file";
            return Err(SourceError::Unsupported { what, path: path.to_owned() });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SourceError::io("measure", path)(error)),
    }
    match File::open(path) {
        Ok(file) => {
            let meta = file.metadata().map_err(SourceError::io("measure", path))?;
            Ok(Some((file, meta)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SourceError::io("open", path)(error)),
    }
}

/// How many bytes there are of the first `wanted`, and their CRC-32C.
fn fingerprint(file: &File, wanted: u64, path: &Path) -> Result<(u64, u32), SourceError> {
    let mut head = [0; HEAD_BYTES_MAX as usize];
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(head.len());
    let read = read_at(file, 0, &mut head[..wanted], path)?;
    Ok((read as u64, crc32c::crc32c(&head[..read])))
}

/// Fills as much of `bytes` as the file has from `offset` on.
fn read_at(file: &File, offset: u64, bytes: &mut [u8], path: &Path) -> Result<usize, SourceError> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SourceError::io("read", path)(error)),
        }
    }
    Ok(done)
}
