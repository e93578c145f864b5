//! Reading a log after a restart.

use super::frame::{Entry, Group, GroupHead, GroupPlace, Header, group_at, header_of};
use super::{Closed, FOLDER, Wal, quarantine_name, segment_name, segment_path};
use crate::Error;
use crate::ingest::producer::{Producers, Verdict};
use crate::workspace::LogDamage;
use bytes::Bytes;
use oms_core::Entropy;
use oms_core::disk::{Disk, DiskExt as _, OpenMode};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The highest index of a segment, and the highest log sequence that one begins with: no log gets
/// that far, and so there is always a next one.
pub(super) const INDEX_MAX: u64 = u64::MAX / 2;

/// How a log is opened.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) segment_bytes_max: u64,
    /// How long a file has to be to be used again.
    pub(crate) spare_bytes_min: u64,
    /// New entries get log sequences after it and after everything in the log.
    pub(crate) floor: u64,
    /// Goes on where there is damage.
    pub(crate) quarantine: bool,
}

/// Opens the log, handing every entry that it holds to `replay`, and starts a new segment. Answers
/// what damage there is, too: none unless [`Open::quarantine`] is set.
///
/// # Errors
/// [`Error::Corrupt`] names the segment and the offset of damage that a crash cannot explain;
/// [`Error::Disk`]; what `replay` answers.
pub(crate) fn open(
    open: Open,
    replay: impl FnMut(u64, Entry) -> Result<(), Error>,
) -> Result<(Wal, Vec<LogDamage>), Error> {
    let Open { disk, entropy, segment_bytes_max, spare_bytes_min, floor, quarantine } = open;
    disk.create_dir_all(Path::new(FOLDER))?;
    let indices = segments(disk.as_ref())?;
    let mut reading = Reading::new(replay, quarantine, FOLDER, false);
    let (mut closed, mut previous_end) = (VecDeque::new(), 0);
    let read = indices.iter().map(|&index| (index, Segment::read(disk.as_ref(), index)));
    reading.segments(read, |segment| {
        let SegmentRead { index, last, taken, is_damaged, is_last } = segment;
        if let Some((taken, length)) = taken.filter(|_| is_last && !is_damaged) {
            let path = segment_path(index);
            if taken < length {
                disk.open(&path, OpenMode::Write)?.set_len(taken as u64)?;
            }
            // The next header will say that it ends here, and a process that was killed may have
            // written what it did not sync.
            disk.settle(&path)?;
        }
        previous_end = taken.map_or(0, |(taken, _)| taken as u64);
        closed.push_back(Closed { index, last, file_len: previous_end, is_damaged });
        Ok(())
    })?;
    let mut wal = Wal {
        disk,
        entropy,
        producers: Arc::new(Mutex::new(reading.producers.unwrap_or_default())),
        segment_bytes_max,
        spare_bytes_min,
        closed,
        active: None,
        spares: Vec::new(),
        buffer: Vec::new(),
        next_index: indices.last().map_or(1, |last| last + 1),
        previous_end,
        next: reading.next.max(floor.saturating_add(1)),
    };
    wal.rotate()?;
    Ok((wal, reading.damages.found))
}

/// The numbers of the segments, in order. Segments that never got their name, and those that were
/// kept to be used again, are removed.
fn segments(disk: &dyn Disk) -> Result<Vec<u64>, Error> {
    let mut indices = Vec::new();
    for name in disk.list(Path::new(FOLDER))? {
        if name.ends_with(".tmp") || name.ends_with(".spare") {
            disk.remove(&Path::new(FOLDER).join(&name))?;
        } else if let Some(index) = name.strip_suffix(".wal").and_then(|stem| stem.parse().ok()) {
            if index > INDEX_MAX {
                let path = segment_name(FOLDER, index);
                return Err(corrupt(path, 0, "no log has so many segments"));
            }
            indices.push(index);
        }
    }
    indices.sort_unstable();
    Ok(indices)
}

/// Damage that was found.
struct Damages {
    may_go_on: bool,
    /// Where the segments are.
    folder: String,
    found: Vec<LogDamage>,
    /// The log sequence from which on entries are missing, as long as it is not known to which.
    open_since: Option<u64>,
}

impl Damages {
    /// Takes note of damage, or fails with it.
    fn note(&mut self, index: u64, error: Error, next: u64) -> Result<(), Error> {
        let Error::Corrupt { path, offset, reason } = error else { return Err(error) };
        if !self.may_go_on {
            return Err(Error::Corrupt { path, offset, reason });
        }
        let moved_to = quarantine_name(&self.folder, index);
        self.found.push(LogDamage { path, offset, reason, moved_to, batches_missing: None });
        self.open_since.get_or_insert(next);
        Ok(())
    }

    /// Entries go on with this log sequence.
    fn go_on_with(&mut self, first: u64) {
        if let Some(since) = self.open_since.take()
            && let Some(last) = self.found.last_mut()
        {
            last.batches_missing = Some(first.saturating_sub(since));
        }
    }
}

/// What came of reading one segment.
pub(super) struct SegmentRead {
    pub(super) index: u64,
    /// The log sequence of the last entry so far.
    last: u64,
    /// How many of how many bytes count; none if its header cannot be read.
    taken: Option<(usize, usize)>,
    pub(super) is_damaged: bool,
    is_last: bool,
}

/// What was read so far.
pub(super) struct Reading<R> {
    replay: R,
    /// Whether a segment is there whole or not at all, as an object is.
    is_whole: bool,
    pub(super) producers: Option<Producers>,
    /// The log sequence of the next entry.
    pub(super) next: u64,
    damages: Damages,
}

/// The segment after one, and what its header says if that can be read.
type After<'a> = Option<(u64, Option<&'a Segment>)>;

impl<R: FnMut(u64, Entry) -> Result<(), Error>> Reading<R> {
    pub(super) fn new(replay: R, may_go_on: bool, folder: &str, is_whole: bool) -> Self {
        let folder = folder.to_owned();
        let damages = Damages { may_go_on, folder, found: Vec::new(), open_since: None };
        Self { replay, is_whole, producers: None, next: 1, damages }
    }

    /// What damage was found.
    pub(super) fn into_damage(self) -> Vec<LogDamage> {
        self.damages.found
    }

    /// Reads segments in their order, and tells `each` what came of every one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for damage, unless it is to be put aside; those of `each` and of the replay.
    pub(super) fn segments(
        &mut self,
        segments: impl Iterator<Item = (u64, Result<Segment, Error>)>,
        mut each: impl FnMut(SegmentRead) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut segments = segments.peekable();
        let mut before = None;
        while let Some((index, current)) = segments.next() {
            let after = segments.peek();
            let after = after.map(|(index, segment)| (*index, segment.as_ref().ok()));
            let is_gap = before.is_some_and(|before| before + 1 != index);
            before = Some(index);
            let (taken, is_damaged) = self.segment(index, is_gap, current, after)?;
            let (last, is_last) = (self.next - 1, after.is_none());
            each(SegmentRead { index, last, taken, is_damaged, is_last })?;
        }
        Ok(())
    }

    /// Reads a segment. Answers how many of how many bytes count, none if its header cannot be
    /// read, and whether it is damaged.
    fn segment(
        &mut self,
        index: u64,
        is_gap: bool,
        segment: Result<Segment, Error>,
        after: After<'_>,
    ) -> Result<(Option<(usize, usize)>, bool), Error> {
        let segment = match segment {
            Ok(segment) => segment,
            Err(error) => {
                self.damages.note(index, error, self.next)?;
                return Ok((None, true));
            }
        };
        let mut is_damaged = false;
        if self.producers.is_none() {
            if segment.header.producers.is_none() {
                let error = segment.corrupt(0, "no segment before it knows the producers");
                self.damages.note(index, error, self.next)?;
                is_damaged = true;
            }
            self.producers = segment.header.producers.clone();
        }
        if is_gap {
            let error = segment.corrupt(0, "the segment before it is missing");
            self.damages.note(index, error, self.next)?;
            is_damaged = true;
        }
        if segment.header.first < self.next {
            let error = segment.corrupt(0, "log sequences overlap with the segment before");
            self.damages.note(index, error, self.next)?;
            return Ok((Some((segment.start, segment.bytes.len())), true));
        }
        // A header knows every batch before it, also those that cannot be read any more.
        if self.damages.open_since.is_some() {
            self.remember(segment.header.producers.as_ref());
        }
        self.damages.go_on_with(segment.header.first);
        self.next = segment.header.first;
        let end = match after {
            Some((_, Some(after))) => End::At(after.header.previous_end),
            _ if self.is_whole => End::At(segment.bytes.len() as u64),
            // What the one after it says is lost, or there is none.
            _ => End::Open,
        };
        let found = self.damages.found.len();
        let taken = self.groups(&segment, end)?;
        is_damaged |= self.damages.found.len() > found;
        Ok((Some((taken, segment.bytes.len())), is_damaged))
    }

    fn remember(&mut self, header: Option<&Producers>) {
        let producers = self.producers.get_or_insert_default();
        for (producer, runs) in header.into_iter().flat_map(Producers::iter) {
            for &(first, last) in runs {
                producers.insert_run(producer, first, last);
            }
        }
    }

    /// Reads the groups of a segment; answers how many bytes of it count.
    fn groups(&mut self, segment: &Segment, end: End) -> Result<usize, Error> {
        let mut at = segment.start;
        loop {
            match end {
                End::At(end) if at as u64 == end => return Ok(at),
                End::At(end) if at as u64 > end => {
                    let error = segment.corrupt(at, "a group reaches over the segment's end");
                    self.damages.note(segment.index, error, self.next)?;
                    return Ok(at);
                }
                End::Open if at == segment.bytes.len() => return Ok(at),
                End::At(_) | End::Open => {}
            }
            let (group, next_at) = match segment.group(at) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    let later = segment.later_group(at, self.next);
                    if end == End::Open && later.is_none() {
                        return Ok(at);
                    }
                    let error = segment.corrupt(at, "a group's checksum does not match");
                    self.damages.note(segment.index, error, self.next)?;
                    let Some(later) = later else { return Ok(end.or(at)) };
                    at = later.at;
                    self.damages.go_on_with(later.first);
                    self.next = later.first;
                    continue;
                }
                Err(reason) => {
                    self.damages.note(segment.index, segment.corrupt(at, reason), self.next)?;
                    let later = segment.later_group(at, self.next);
                    let Some(later) = later else { return Ok(end.or(at)) };
                    at = later.at;
                    self.damages.go_on_with(later.first);
                    self.next = later.first;
                    continue;
                }
            };
            self.group(segment, at, group)?;
            at = next_at;
        }
    }

    fn group(&mut self, segment: &Segment, at: usize, group: Group) -> Result<(), Error> {
        if group.first != self.next {
            let (found, next) = (group.first, self.next);
            let reason = format!("log sequence {found} stands where {next} belongs");
            self.damages.note(segment.index, segment.corrupt(at, reason), next)?;
            if found < next {
                return Ok(());
            }
            self.damages.go_on_with(found);
            self.next = found;
        }
        for entry in group.entries {
            let producers = self.producers.get_or_insert_default();
            // A group that failed without a segment after it can be there, and its batch again
            // in no later one: whoever sent it got an error and the sequence is free.
            if producers.verdict(&entry.producer, entry.sequence) == Verdict::Repeat {
                let error = segment.corrupt(at, "a batch stands in the log twice");
                self.damages.note(segment.index, error, self.next)?;
                self.damages.go_on_with(self.next);
            } else {
                producers.insert(&entry.producer, entry.sequence);
                (self.replay)(self.next, entry)?;
            }
            self.next += 1;
        }
        Ok(())
    }
}

/// Where a segment's groups end.
#[derive(Clone, Copy, Eq, PartialEq)]
enum End {
    /// As the next header says.
    At(u64),
    /// Where the last group does.
    Open,
}

impl End {
    fn or(self, at: usize) -> usize {
        match self {
            Self::At(end) => usize::try_from(end).unwrap_or(at),
            Self::Open => at,
        }
    }
}

/// A segment in memory.
pub(super) struct Segment {
    index: u64,
    path: String,
    header: Header,
    /// Where its first group starts.
    start: usize,
    bytes: Bytes,
}

impl Segment {
    fn read(disk: &dyn Disk, index: u64) -> Result<Self, Error> {
        let file = disk.open(&segment_path(index), OpenMode::Read)?;
        let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Self::of(FOLDER, index, bytes.into())
    }

    /// # Errors
    /// [`Error::Corrupt`] if it has no header.
    pub(super) fn of(folder: &str, index: u64, bytes: Bytes) -> Result<Self, Error> {
        let path = segment_name(folder, index);
        let Some((payload, start)) = header_of(&bytes) else {
            return Err(corrupt(path, 0, "the header's checksum does not match"));
        };
        let header = match Header::decode(payload) {
            Ok(header) if header.first <= INDEX_MAX => header,
            Ok(_) => return Err(corrupt(path, 0, "no log has so many entries")),
            Err(reason) => return Err(corrupt(path, 0, reason)),
        };
        Ok(Self { index, path, header, start, bytes })
    }

    /// The group at `at`. One with log sequences before the segment's is of an earlier use, and
    /// does not count.
    fn group(&self, at: usize) -> Result<Option<(Group, usize)>, String> {
        let is_own = |(group, _): &(Group, usize)| group.first >= self.header.first;
        Ok(group_at(&self.bytes, at, self.header.salt)?.filter(is_own))
    }

    /// The first group after `at` that has log sequences after `next`. A crash leaves none behind
    /// a broken group, and what the segment holds of an earlier use has lower ones.
    fn later_group(&self, at: usize, next: u64) -> Option<GroupPlace> {
        let later = |found: &GroupPlace| found.first > next && found.first <= INDEX_MAX;
        GroupHead::places(&self.bytes, at + 1, self.header.salt).find(later)
    }

    fn corrupt(&self, at: usize, reason: impl Into<String>) -> Error {
        corrupt(self.path.clone(), at, reason)
    }
}

pub(super) fn corrupt(path: String, at: usize, reason: impl Into<String>) -> Error {
    Error::Corrupt { path, offset: at as u64, reason: reason.into() }
}
