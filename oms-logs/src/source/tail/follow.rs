//! One file at a time, through rotation.

use super::{SourceError, system};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// How many bytes at the beginning of a file tell it from another file with its inode number.
const HEAD_BYTES_MAX: u64 = 256;

/// The most rotated files of one log.
const SIBLINGS_MAX: usize = 10_000;

/// How often a folder is looked at until two looks in a row agree.
const LOOKS_MAX: usize = 8;

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
    /// Whether there was no file when one was looked for: all of the first one is new.
    was_missing: bool,
}

impl Follower {
    /// Follows the file at `path`, which need not exist yet.
    pub(in crate::source) fn new(path: impl Into<PathBuf>, start: StartAt) -> Self {
        let path = path.into();
        Self {
            path,
            start,
            position: None,
            file: None,
            rotated_bytes: None,
            finished: false,
            was_missing: false,
        }
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
    /// [`SourceError::Io`], [`SourceError::Unsupported`] for a path that is not a regular file, and
    /// where the system does not number its files.
    pub(in crate::source) fn read(&mut self, limit: usize) -> Result<Chunk, SourceError> {
        system::check(&self.path)?;
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
        let Some(next) = self.successor(position, &meta)? else { return Ok(false) };
        self.begin(next.file, &next.meta, 0)?;
        if next.is_settled {
            self.rotated_bytes = Some(next.meta.len());
        }
        Ok(true)
    }

    /// Stands at `offset` of a file.
    fn begin(&mut self, file: File, meta: &Metadata, offset: u64) -> Result<(), SourceError> {
        let (head_bytes, head_crc) = fingerprint(&file, meta.len(), &self.path)?;
        let (device, inode) = system::identity(meta);
        self.position = Some(FilePosition { device, inode, offset, head_bytes, head_crc });
        self.file = Some(file);
        self.rotated_bytes = None;
        self.finished = false;
        Ok(())
    }

    /// Opens the file that the position is in; answers whether it is gone and another was begun.
    fn locate(&mut self) -> Result<bool, SourceError> {
        let Some(position) = self.position.clone() else {
            match open(&self.path)? {
                Some((file, meta)) => {
                    let is_old = self.start == StartAt::End && !self.was_missing;
                    self.begin(file, &meta, if is_old { meta.len() } else { 0 })?;
                }
                None => self.was_missing = true,
            }
            return Ok(false);
        };
        if let Some(file) = &self.file
            && self.continues(file, &position)?
        {
            return Ok(false);
        }
        self.file = None;
        // In the middle of a rotation nothing is known; the next read looks again.
        let Some(family) = self.family()? else { return Ok(false) };
        for member in family.iter().filter(|member| member.is_of(&position)) {
            let Some((file, meta)) = member.open()? else { return Ok(false) };
            if self.holds(&file, &meta, &position)? {
                self.file = Some(file);
                return Ok(false);
            }
        }
        if let Some((file, meta)) = self.copy_of(&family, &position)? {
            self.begin(file, &meta, position.offset)?;
            return Ok(false);
        }
        let live = open(&self.path)?;
        let Some((file, meta)) = live else { return Ok(false) };
        let found = system::identity(&meta);
        if !family.iter().any(|member| (member.device, member.inode) == found) {
            return Ok(false);
        }
        self.begin(file, &meta, 0)?;
        // What a truncation cut off cannot be told from nothing; a file that is gone is a gap.
        Ok(found != (position.device, position.inode))
    }

    /// Whether a file is the one of the position, and still holds what was consumed.
    fn continues(&self, file: &File, position: &FilePosition) -> Result<bool, SourceError> {
        let meta = file.metadata().map_err(SourceError::io("measure", &self.path))?;
        Ok(system::identity(&meta) == (position.device, position.inode)
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
    fn copy_of(
        &self,
        family: &[Member],
        position: &FilePosition,
    ) -> Result<Option<(File, Metadata)>, SourceError> {
        // Without a beginning to compare, every file would be the copy.
        if position.head_bytes == 0 {
            return Ok(None);
        }
        let rotated = family.iter().filter(|member| !self.is_at(member));
        for member in rotated.filter(|member| member.bytes > position.offset) {
            if let Some((file, meta)) = member.open()?
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
            Ok(meta) => Ok(system::identity(&meta) == (position.device, position.inode)),
            // Between a rename and the creation of the new file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(SourceError::io("measure", &self.path)(error)),
        }
    }

    /// The oldest file that is newer than the finished one; none if that cannot be told now.
    fn successor(
        &self,
        done: &FilePosition,
        done_meta: &Metadata,
    ) -> Result<Option<Successor>, SourceError> {
        let Some(family) = self.family()? else { return Ok(None) };
        let next = match family.iter().rposition(|member| member.is_of(done)) {
            Some(index) => Some(index + 1),
            // The finished file has no name any more, so only the times of last writing can tell.
            None => {
                let done = system::changed(done_meta);
                let is_live = |index: &usize| family.get(*index).is_some_and(|it| self.is_at(it));
                let newer = family.iter().position(|member| member.changed > done);
                newer.or_else(|| family.len().checked_sub(1).filter(is_live))
            }
        };
        let Some(index) = next else { return Ok(None) };
        let found = family.get(index).map(Member::open).transpose()?.flatten();
        // Whoever had the newest rotated file open may write to it still, to no older one.
        let rotated = family.iter().filter(|member| !self.is_at(member)).count();
        let is_settled = index + 1 < rotated;
        Ok(found.map(|(file, meta)| Successor { file, meta, is_settled }))
    }

    /// Whether a file has the path itself.
    fn is_at(&self, member: &Member) -> bool {
        member.path == self.path
    }

    /// The rotated files, oldest first, and then the one that has the path, as they were together
    /// at one moment. A rotation renames them one after the other, and who looks meanwhile sees one
    /// twice or not at all; so they are looked at until two looks agree, and there are none if they
    /// never do.
    fn family(&self) -> Result<Option<Vec<Member>>, SourceError> {
        let mut before = self.look()?;
        for _ in 0..LOOKS_MAX {
            let now = self.look()?;
            let is_same = |(one, other): (&Member, &Member)| {
                one.path == other.path && (one.device, one.inode) == (other.device, other.inode)
            };
            if now.len() == before.len() && now.iter().zip(&before).all(is_same) {
                return Ok(Some(now));
            }
            before = now;
        }
        Ok(None)
    }

    fn look(&self) -> Result<Vec<Member>, SourceError> {
        let mut members = self.siblings()?;
        match std::fs::metadata(&self.path) {
            Ok(meta) if meta.is_file() => members.push(Member::new(self.path.clone(), &meta)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(SourceError::io("measure", &self.path)(error)),
        }
        Ok(members)
    }

    /// The rotated files of this path that can be read, oldest first: its name with a number
    /// (`syslog.1`) or a date (`syslog-20261124`) behind it.
    fn siblings(&self) -> Result<Vec<Member>, SourceError> {
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
        for entry in entries {
            let entry = entry.map_err(SourceError::io("list", folder))?;
            let file_name = entry.file_name();
            let suffix = file_name.to_str().and_then(|file| file.strip_prefix(name));
            if let Some(age) = suffix.and_then(Age::parse)
                && let Ok(meta) = std::fs::metadata(entry.path())
                && meta.is_file()
            {
                if found.len() == SIBLINGS_MAX {
                    // Leaving some out could lose what is in them.
                    let what =
                        "a log with more than 10,000 rotated files beside it; move some away";
                    return Err(SourceError::Unsupported { what, path: self.path.clone() });
                }
                found.push((age, Member::new(entry.path(), &meta)));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found.into_iter().map(|(_, member)| member).collect())
    }
}

/// The file that followed another.
struct Successor {
    file: File,
    meta: Metadata,
    /// Whether nothing is written to it any more.
    is_settled: bool,
}

/// A file that has the path, or had it.
#[derive(Debug)]
struct Member {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// When it was last written to, in seconds and nanoseconds.
    changed: (i64, i64),
    /// How long it was.
    bytes: u64,
}

impl Member {
    fn new(path: PathBuf, meta: &Metadata) -> Self {
        let (device, inode) = system::identity(meta);
        Self { path, device, inode, changed: system::changed(meta), bytes: meta.len() }
    }

    fn is_of(&self, position: &FilePosition) -> bool {
        (self.device, self.inode) == (position.device, position.inode)
    }

    /// Opens it; none if its path has gone to another file.
    fn open(&self) -> Result<Option<(File, Metadata)>, SourceError> {
        let found = open(&self.path)?;
        Ok(found.filter(|(_, meta)| system::identity(meta) == (self.device, self.inode)))
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
        match system::read_at(file, &mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SourceError::io("read", path)(error)),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    const ROTATIONS: u32 = 60;

    fn append(path: &Path, text: &str) {
        let mut file = File::options().append(true).create(true).open(path).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
    }

    /// Writes a number a line and rotates after each, one rename after the other.
    fn rotate(folder: &Path) {
        let name = |n: u32| match n {
            0 => folder.join("log"),
            n => folder.join(format!("log.{n}")),
        };
        for turn in 0..ROTATIONS {
            append(&name(0), &format!("{turn}\n"));
            for n in (0..=turn).rev() {
                std::fs::rename(name(n), name(n + 1)).expect("renamed");
            }
        }
        append(&name(0), "end\n");
    }

    /// Reads what there is with a follower that knows nothing but the position, as after a start.
    fn round(folder: &Path, position: &mut Option<FilePosition>, got: &mut String) {
        let mut follower = Follower::new(folder.join("log"), StartAt::Beginning);
        follower.resume(position.clone());
        // Twice without growth, then on to the next file.
        for _ in 0..4 {
            let chunk = follower.read(1 << 16).expect("read");
            assert!(!chunk.gap, "no file was removed");
            got.push_str(std::str::from_utf8(&chunk.bytes).expect("text"));
            follower.consume(chunk.bytes.len());
            follower.advance().expect("advanced");
        }
        *position = follower.position().cloned();
    }

    #[test]
    fn a_rotation_that_is_under_way_hides_no_file() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            append(&folder.path().join("log"), "");
            let (mut position, mut got) = (None, String::new());
            round(folder.path(), &mut position, &mut got);
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    rotate(folder.path());
                    is_over.store(true, Relaxed);
                });
                while !is_over.load(Relaxed) {
                    round(folder.path(), &mut position, &mut got);
                }
            });
            for _ in 0..=ROTATIONS {
                round(folder.path(), &mut position, &mut got);
            }
            let want: String = (0..ROTATIONS).map(|turn| format!("{turn}\n")).collect();
            assert_eq!(got, want + "end\n");
        }
    }
}
