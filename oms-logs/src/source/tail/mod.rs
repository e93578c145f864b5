//! Lines of a growing file, each exactly once.

mod follow;
mod system;

pub(in crate::source) use follow::Follower;
pub use follow::{FilePosition, StartAt};

use super::{FIELD_BYTES_MAX, Notes, SourceError, cut_to_field};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The most lines that one collection takes from a file.
pub const LINES_PER_COLLECT_MAX: usize = 5_000;

/// The most bytes that one collection reads from a file and its rotated predecessors.
pub const BYTES_PER_COLLECT_MAX: usize = 4 * 1024 * 1024;

/// The most rotated files that one collection goes through.
const FILES_PER_COLLECT_MAX: usize = 64;

/// One line, without its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// The text, at most [`FIELD_BYTES_MAX`] bytes. It is never empty.
    pub text: String,
    /// Whether the line was not UTF-8; each bad sequence became U+FFFD.
    pub lossy: bool,
    /// Whether the line was longer.
    pub truncated: bool,
}

/// The lines of one collection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lines {
    /// The lines, oldest first. Empty lines are not among them.
    pub lines: Vec<Line>,
    /// Whether a limit ended the collection.
    pub more: bool,
    /// What was changed or lost.
    pub notes: Notes,
}

/// Where a [`LineTail`] stands.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct LinePosition {
    /// The file and the offset; nothing before the first collection.
    pub file: Option<FilePosition>,
    /// Whether the offset is within a line that is too long, of which the beginning was given.
    #[serde(default)]
    pub skipping: bool,
}

/// Follows a file that a program appends lines to, through rotation and restarts.
///
/// - A line is given once its end is written. An unfinished last line waits.
/// - After a rename, the rest of the old file is read before the new one; the old file is left once
///   it has not grown between two collections, because a program keeps writing to it until it is
///   told to reopen.
/// - After a copy and truncation, the rest is read from the copy, if it is not compressed yet.
/// - Lines beyond [`FIELD_BYTES_MAX`] are cut, and bytes that are not UTF-8 replaced; both are
///   counted.
#[derive(Debug)]
pub struct LineTail {
    follower: Follower,
    skipping: bool,
}

impl LineTail {
    /// Follows the file at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, start: StartAt) -> Self {
        Self { follower: Follower::new(path, start), skipping: false }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.follower.path()
    }

    /// Where the next collection begins.
    #[must_use]
    pub fn position(&self) -> LinePosition {
        LinePosition { file: self.follower.position().cloned(), skipping: self.skipping }
    }

    /// Goes to a position.
    pub fn resume(&mut self, position: LinePosition) {
        self.follower.resume(position.file);
        self.skipping = position.skipping;
    }

    /// Gives the lines that were finished since the last call, at most
    /// [`LINES_PER_COLLECT_MAX`] and about [`BYTES_PER_COLLECT_MAX`] bytes of them.
    ///
    /// # Errors
    /// [`SourceError::Io`] if the file is there and cannot be read; [`SourceError::Unsupported`] if
    /// it is not a regular file. The position is then where it was.
    pub fn collect(&mut self) -> Result<Lines, SourceError> {
        let before = self.position();
        let collected = self.collect_files();
        if collected.is_err() {
            self.resume(before);
        }
        collected
    }

    fn collect_files(&mut self) -> Result<Lines, SourceError> {
        let mut out = Lines::default();
        let mut left = BYTES_PER_COLLECT_MAX;
        for _ in 0..FILES_PER_COLLECT_MAX {
            let chunk = self.follower.read(left)?;
            out.notes.gaps += u64::from(chunk.gap);
            let used = self.split(&chunk.bytes, chunk.last, &mut out);
            self.follower.consume(used);
            left = left.saturating_sub(chunk.bytes.len());
            if chunk.more || left <= FIELD_BYTES_MAX || out.lines.len() >= LINES_PER_COLLECT_MAX {
                out.more = true;
                return Ok(out);
            }
            if !self.follower.advance()? {
                return Ok(out);
            }
            self.skipping = false;
        }
        out.more = true;
        Ok(out)
    }

    /// Splits off finished lines; answers how many bytes they and what was skipped took.
    fn split(&mut self, bytes: &[u8], last: bool, out: &mut Lines) -> usize {
        let mut at = 0;
        while at < bytes.len() && out.lines.len() < LINES_PER_COLLECT_MAX {
            let rest = &bytes[at..];
            let end = rest.iter().position(|&byte| byte == b'\n');
            if self.skipping {
                at += end.map_or(rest.len(), |end| end + 1);
                self.skipping = end.is_none();
                continue;
            }
            // A program that keeps its offset through a truncation leaves a hole of zeros in front
            // of its next line.
            if rest[0] == 0 {
                at += rest.iter().position(|&byte| byte != 0).unwrap_or(rest.len());
                continue;
            }
            match end {
                Some(end) => {
                    push(&rest[..end], out);
                    at += end + 1;
                }
                None if rest.len() > FIELD_BYTES_MAX || last => {
                    push(rest, out);
                    at = bytes.len();
                    self.skipping = !last;
                }
                None => break,
            }
        }
        at
    }
}

/// Adds a line unless it is empty.
fn push(line: &[u8], out: &mut Lines) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut truncated = line.len() > FIELD_BYTES_MAX;
    let kept = &line[..line.len().min(FIELD_BYTES_MAX)];
    let (mut text, lossy) = match std::str::from_utf8(kept) {
        Ok(text) => (text.to_owned(), false),
        // The cut went through a character, which is no fault of the line.
        Err(error) if truncated && error.error_len().is_none() => {
            (String::from_utf8_lossy(&kept[..error.valid_up_to()]).into_owned(), false)
        }
        Err(_) => (String::from_utf8_lossy(kept).into_owned(), true),
    };
    truncated |= cut_to_field(&mut text);
    if text.trim_matches(['\0', ' ', '\t']).is_empty() {
        return;
    }
    out.notes.lossy += u64::from(lossy);
    out.notes.truncated += u64::from(truncated);
    out.lines.push(Line { text, lossy, truncated });
}
