//! Reading a log after a restart.

use super::frame::{Entry, Frame, GROUP_MAGIC, Group, HEADER_MAGIC, Header, frame_at};
use super::{Closed, FOLDER, Wal, segment_path};
use crate::Error;
use crate::ingest::producer::{Producers, Verdict};
use oms_core::Entropy;
use oms_core::disk::{Disk, OpenMode};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The highest index of a segment, and the highest log sequence that one begins with: no log gets
/// that far, and so there is always a next one.
const INDEX_MAX: u64 = u64::MAX / 2;

/// Opens the log, handing every entry that it holds to `replay`, and starts a new segment.
///
/// New entries get log sequences after `floor` and after everything in the log.
///
/// # Errors
/// [`Error::Corrupt`] names the segment and the offset of damage that a crash cannot explain;
/// [`Error::Disk`]; what `replay` answers.
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    segment_bytes_max: u64,
    floor: u64,
    mut replay: impl FnMut(u64, Entry) -> Result<(), Error>,
) -> Result<Wal, Error> {
    disk.create_dir_all(Path::new(FOLDER))?;
    let indices = segments(disk.as_ref())?;
    let mut producers: Option<Producers> = None;
    let (mut closed, mut next, mut previous_end) = (VecDeque::new(), 1, 0);
    let mut segment =
        indices.first().map(|&index| Segment::read(disk.as_ref(), index)).transpose()?;
    let mut following = indices.iter().skip(1);
    while let Some(current) = segment.take() {
        segment = following.next().map(|&index| Segment::read(disk.as_ref(), index)).transpose()?;
        let producers = producers.get_or_insert_with(|| current.header.producers.clone());
        if current.header.first < next {
            return Err(current.corrupt(0, "log sequences overlap with the segment before"));
        }
        next = current.header.first;
        let end = match &segment {
            Some(after) if after.index != current.index + 1 => {
                return Err(after.corrupt(0, "the segment before it is missing"));
            }
            Some(after) => Some(after.header.previous_end),
            None => None,
        };
        let taken = current.replay(end, &mut next, producers, &mut replay)?;
        if segment.is_none() && taken < current.bytes.len() {
            let file = disk.open(&segment_path(current.index), OpenMode::Write)?;
            file.set_len(taken as u64)?;
            file.sync()?;
        }
        previous_end = taken as u64;
        closed.push_back(Closed { index: current.index, last: next - 1 });
    }
    let mut wal = Wal {
        disk,
        entropy,
        producers: Arc::new(Mutex::new(producers.unwrap_or_default())),
        segment_bytes_max,
        closed,
        active: None,
        next_index: indices.last().map_or(1, |last| last + 1),
        previous_end,
        next: next.max(floor.saturating_add(1)),
    };
    wal.rotate()?;
    Ok(wal)
}

/// The numbers of the segments, in order. Segments that never got their name are removed.
fn segments(disk: &dyn Disk) -> Result<Vec<u64>, Error> {
    let mut indices = Vec::new();
    for name in disk.list(Path::new(FOLDER))? {
        if name.ends_with(".tmp") {
            disk.remove(&Path::new(FOLDER).join(&name))?;
        } else if let Some(index) = name.strip_suffix(".wal").and_then(|stem| stem.parse().ok()) {
            if index > INDEX_MAX {
                return Err(corrupt(index, 0, "no log has so many segments"));
            }
            indices.push(index);
        }
    }
    indices.sort_unstable();
    Ok(indices)
}

/// A segment in memory.
struct Segment {
    index: u64,
    header: Header,
    /// Where its first group starts.
    start: usize,
    bytes: Vec<u8>,
}

impl Segment {
    fn read(disk: &dyn Disk, index: u64) -> Result<Self, Error> {
        let file = disk.open(&segment_path(index), OpenMode::Read)?;
        let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        let Frame::Whole { payload, end } = frame_at(&bytes, 0, HEADER_MAGIC, 0) else {
            return Err(corrupt(index, 0, "the header's checksum does not match"));
        };
        let header = Header::decode(payload).map_err(|reason| corrupt(index, 0, reason))?;
        if header.first > INDEX_MAX {
            return Err(corrupt(index, 0, "no log has so many entries"));
        }
        Ok(Self { index, header, start: end, bytes })
    }

    /// Hands the entries to `replay`; answers how many bytes of the segment count.
    fn replay(
        &self,
        end: Option<u64>,
        next: &mut u64,
        producers: &mut Producers,
        replay: &mut impl FnMut(u64, Entry) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let mut at = self.start;
        loop {
            match end {
                Some(end) if at as u64 == end => return Ok(at),
                Some(end) if at as u64 > end => {
                    return Err(self.corrupt(at, "a group reaches over the segment's end"));
                }
                None if at == self.bytes.len() => return Ok(at),
                Some(_) | None => {}
            }
            let frame = frame_at(&self.bytes, at, GROUP_MAGIC, self.header.salt);
            let Frame::Whole { payload, end: frame_end } = frame else {
                if end.is_none() && self.is_torn_at(at) {
                    return Ok(at);
                }
                return Err(self.corrupt(at, "a group's checksum does not match"));
            };
            let group = Group::decode(payload).map_err(|reason| self.corrupt(at, reason))?;
            if group.first != *next {
                let reason = format!("log sequence {} stands where {next} belongs", group.first);
                return Err(self.corrupt(at, reason));
            }
            for entry in group.entries {
                // A group that failed without a segment after it can be there, and its batch again
                // in no later one: whoever sent it got an error and the sequence is free.
                if producers.verdict(&entry.producer, entry.sequence) == Verdict::Repeat {
                    return Err(self.corrupt(at, "a batch stands in the log twice"));
                }
                producers.insert(&entry.producer, entry.sequence);
                replay(*next, entry)?;
                *next += 1;
            }
            at = frame_end;
        }
    }

    /// Whether a crash explains the broken group at `at`: only the last group can be incomplete, so
    /// no whole one may follow.
    fn is_torn_at(&self, at: usize) -> bool {
        let mut from = at + 1;
        while let Some(rest) = self.bytes.get(from..) {
            let Some(found) = rest.windows(GROUP_MAGIC.len()).position(|four| four == GROUP_MAGIC)
            else {
                return true;
            };
            let frame = frame_at(&self.bytes, from + found, GROUP_MAGIC, self.header.salt);
            if matches!(frame, Frame::Whole { .. }) {
                return false;
            }
            from += found + 1;
        }
        true
    }

    fn corrupt(&self, at: usize, reason: impl Into<String>) -> Error {
        corrupt(self.index, at, reason)
    }
}

fn corrupt(index: u64, at: usize, reason: impl Into<String>) -> Error {
    Error::Corrupt {
        path: segment_path(index).display().to_string(),
        offset: at as u64,
        reason: reason.into(),
    }
}
