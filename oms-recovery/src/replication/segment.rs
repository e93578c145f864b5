//! An append-only log of frames in files of bounded size.
//!
//! A segment is a header of 32 bytes (`OMSRLOG1`, a random identity, the final length of the segment
//! before it, CRC32C) and batches. A batch is a header of 80 bytes and encoded frames:
//!
//! ```text
//!  0      4       8                  24      32      40           56          72        76      80
//!  magic  length  segment identity   offset  synced  first stamp  last stamp  payload   header  frames
//!  u32    u32     16 bytes           u64     u64     2 x u64      2 x u64     CRC32C    CRC32C
//! ```
//!
//! `offset` is the batch's own place in the file and `synced` how much of the file had been synced
//! when it was written. So a batch that does not match its checksum is a torn tail, which is cut,
//! unless a later batch tells that it had been durable: then it is damage, which is named and never
//! cut. After each sync an empty batch says so for the last one too.

use super::Stamp;
use crate::error::{Error, Result};
use oms_core::Entropy;
use oms_core::disk::{Disk, DiskExt as _, DiskFile, OpenMode};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// The largest payload of one batch, in bytes.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// The most segments one log may have.
pub const SEGMENTS_MAX: usize = 1 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"OMSRLOG1";
const SEGMENT_HEADER_BYTES: u64 = 32;
const BATCH_MAGIC: [u8; 4] = *b"OMSB";
const BATCH_HEADER_BYTES: usize = 80;

/// Frames that were appended together.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// Stamp of the first frame.
    pub first: Stamp,
    /// Stamp of the last frame.
    pub last: Stamp,
    /// Number of the segment.
    pub number: u64,
    /// Where the frames begin in the segment's file.
    pub at: u64,
    /// How many bytes of frames.
    pub length: usize,
    crc: u32,
}

#[derive(Clone, Debug)]
struct Segment {
    number: u64,
    identity: [u8; 16],
    file: Arc<dyn DiskFile>,
    length: u64,
    synced: u64,
    /// The highest stamp of its batches.
    last: Option<Stamp>,
}

/// A log in one folder. One writer at a time.
#[derive(Debug)]
pub struct SegmentLog {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    segment_bytes: u64,
    identities: IdentitySource,
    segments: VecDeque<Segment>,
    batches: VecDeque<Batch>,
    /// The number of the next segment if there is none.
    next_number: u64,
    is_poisoned: bool,
}

/// Draws segment identities: one seed from the entropy, then a counter.
#[derive(Clone, Copy, Debug)]
struct IdentitySource {
    seed: [u8; 8],
    count: u64,
}

impl IdentitySource {
    fn draw(&mut self) -> [u8; 16] {
        self.count += 1;
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&self.seed);
        identity[8..].copy_from_slice(&self.count.to_le_bytes());
        identity
    }
}

impl SegmentLog {
    /// Opens the log in `folder`, making the folder if it is missing; checks every batch and cuts
    /// a torn tail. A new segment begins where one has `segment_bytes`.
    ///
    /// # Errors
    /// [`Error::Disk`]; [`Error::Corrupt`] for damage before the tail.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        segment_bytes: u64,
        entropy: &dyn Entropy,
    ) -> Result<Self> {
        let mut seed = [0; 8];
        entropy.fill(&mut seed);
        disk.create_dir_all(&folder)?;
        let mut log = Self {
            disk,
            folder,
            segment_bytes,
            identities: IdentitySource { seed, count: 0 },
            segments: VecDeque::new(),
            batches: VecDeque::new(),
            next_number: 1,
            is_poisoned: false,
        };
        log.load()?;
        Ok(log)
    }

    /// Bytes of all its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Its batches, oldest first.
    pub fn batches(&self) -> impl DoubleEndedIterator<Item = &Batch> {
        self.batches.iter()
    }

    /// Its batches that end after a sequence, of a log whose frames are in order.
    pub(crate) fn batches_after(&self, sequence: u64) -> impl Iterator<Item = &Batch> {
        self.batches.range(self.batches.partition_point(|it| it.last.sequence <= sequence)..)
    }

    /// The last batch that ends at or before a sequence, of a log whose frames are in order.
    pub(crate) fn batch_through(&self, sequence: u64) -> Option<&Batch> {
        let after = self.batches.partition_point(|batch| batch.last.sequence <= sequence);
        self.batches.get(after.checked_sub(1)?)
    }

    /// The stamp of its last frame.
    #[must_use]
    pub fn last(&self) -> Option<Stamp> {
        self.batches.iter().map(|batch| batch.last).max()
    }

    /// Reads the frames of a batch and checks them.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Disk`].
    pub fn read(&self, batch: &Batch) -> Result<Vec<u8>> {
        let mut payload = vec![0; batch.length];
        let done = self.read_bytes(batch.number, batch.at, &mut payload)?;
        if done != batch.length || crc32c::crc32c(&payload) != batch.crc {
            return Err(self.corrupt(batch.number, batch.at, "batch does not match its checksum"));
        }
        Ok(payload)
    }

    /// Reads bytes of a segment, as an extent map names them.
    ///
    /// # Errors
    /// [`Error::Disk`]; [`Error::Internal`] for a segment that was removed.
    pub fn read_bytes(&self, number: u64, at: u64, bytes: &mut [u8]) -> Result<usize> {
        Ok(self.file(number)?.read_at(at, bytes)?)
    }

    /// An open segment file.
    ///
    /// # Errors
    /// [`Error::Internal`] for a segment that was removed.
    pub fn file(&self, number: u64) -> Result<&Arc<dyn DiskFile>> {
        let first = self.segments.front().map_or(0, |segment| segment.number);
        let index = usize::try_from(number.wrapping_sub(first)).unwrap_or(usize::MAX);
        self.segments.get(index).map(|segment| &segment.file).ok_or_else(|| Error::Internal {
            reason: format!("segment {number} of the log is not open"),
        })
    }

    /// The numbers of its segments with their files.
    pub fn files(&self) -> impl Iterator<Item = (u64, Arc<dyn DiskFile>)> + '_ {
        self.segments.iter().map(|segment| (segment.number, Arc::clone(&segment.file)))
    }

    /// Appends frames; durable after the next [`sync`](Self::sync). Answers the segment's number
    /// and where in its file the frames begin.
    ///
    /// # Errors
    /// [`Error::Disk`]; nothing was appended.
    pub fn append(&mut self, first: Stamp, last: Stamp, frames: &[u8]) -> Result<(u64, u64)> {
        if frames.len() > BATCH_BYTES_MAX {
            let reason = format!("batch of {} bytes", frames.len());
            return Err(Error::Internal { reason });
        }
        self.check_usable()?;
        if self.segments.back().is_none_or(|segment| segment.length >= self.segment_bytes) {
            self.sync()?;
            self.begin_segment()?;
        }
        let Some(segment) = self.segments.back_mut() else {
            return Err(Error::Internal { reason: "no segment to append to".to_owned() });
        };
        let crc = crc32c::crc32c(frames);
        let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES + frames.len());
        bytes.extend(batch_header(segment, first, last, frames.len() as u32, crc));
        bytes.extend(frames);
        segment.file.write_at(segment.length, &bytes)?;
        let at = segment.length + BATCH_HEADER_BYTES as u64;
        segment.length += bytes.len() as u64;
        segment.last = segment.last.max(Some(last));
        let number = segment.number;
        self.batches.push_back(Batch { first, last, number, at, length: frames.len(), crc });
        Ok((number, at))
    }

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// [`Error::Disk`]; the log must be opened again before its next use.
    pub fn sync(&mut self) -> Result<()> {
        self.check_usable()?;
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        if segment.synced == segment.length {
            return Ok(());
        }
        if let Err(error) = segment.file.sync() {
            self.is_poisoned = true;
            return Err(error.into());
        }
        segment.synced = segment.length;
        let seal = batch_header(segment, Stamp::default(), Stamp::default(), 0, 0);
        if let Err(error) = segment.file.write_at(segment.length, &seal) {
            // It only helps to tell damage from a torn tail; what was synced stays synced.
            tracing::debug!(%error, "no room to seal a log segment");
        }
        Ok(())
    }

    /// Removes the oldest segments whose frames all have stamps up to `through`; the last segment
    /// stays.
    ///
    /// # Errors
    /// [`Error::Disk`]; some may have been removed.
    pub fn remove_through(&mut self, through: Stamp) -> Result<()> {
        let mut is_changed = false;
        while self.segments.len() > 1
            && self.segments.front().is_some_and(|segment| segment.last <= Some(through))
        {
            self.remove_front()?;
            is_changed = true;
        }
        if is_changed {
            self.disk.sync_dir(&self.folder)?;
        }
        Ok(())
    }

    /// Whether [`remove_through`](Self::remove_through) would remove anything.
    #[must_use]
    pub fn has_removable(&self, through: Stamp) -> bool {
        self.segments.len() > 1
            && self.segments.front().is_some_and(|segment| segment.last <= Some(through))
    }

    /// Removes every segment, oldest first, also of a log whose sync failed.
    ///
    /// # Errors
    /// [`Error::Disk`]; the oldest may have been removed.
    pub fn clear(&mut self) -> Result<()> {
        while !self.segments.is_empty() {
            self.remove_front()?;
        }
        self.disk.sync_dir(&self.folder)?;
        self.is_poisoned = false;
        Ok(())
    }

    fn remove_front(&mut self) -> Result<()> {
        let Some(segment) = self.segments.front() else { return Ok(()) };
        let number = segment.number;
        self.next_number = number + 1;
        self.disk.remove(&self.folder.join(segment_name(number)))?;
        self.segments.pop_front();
        while self.batches.front().is_some_and(|batch| batch.number == number) {
            self.batches.pop_front();
        }
        Ok(())
    }

    fn check_usable(&self) -> Result<()> {
        if self.is_poisoned {
            let reason = format!("sync of log `{}` failed before", self.folder.display());
            return Err(Error::Broken { reason });
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<()> {
        if self.segments.len() >= SEGMENTS_MAX {
            return Err(Error::Unsupported { what: "a log of more than 1048576 segments" });
        }
        let number = self.segments.back().map_or(self.next_number, |last| last.number + 1);
        let path = self.folder.join(segment_name(number));
        // A file of that name is what a failed attempt left behind; it holds nothing.
        let file: Arc<dyn DiskFile> = Arc::from(self.disk.open(&path, OpenMode::OpenOrCreate)?);
        file.set_len(0)?;
        let identity = self.identities.draw();
        let mut header = [0; SEGMENT_HEADER_BYTES as usize];
        header[..8].copy_from_slice(&SEGMENT_MAGIC);
        header[8..24].copy_from_slice(&identity);
        let before = self.segments.back().map_or(0, |segment| segment.length as u32);
        header[24..28].copy_from_slice(&before.to_le_bytes());
        let crc = crc32c::crc32c(&header[..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
        file.write_at(0, &header)?;
        file.sync()?;
        self.disk.sync_dir(&self.folder)?;
        let (length, last) = (SEGMENT_HEADER_BYTES, None);
        self.segments.push_back(Segment { number, identity, file, length, synced: length, last });
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        let mut numbers = Vec::new();
        for name in self.disk.list(&self.folder)? {
            let number =
                name.strip_suffix(".log").and_then(|hex| u64::from_str_radix(hex, 16).ok());
            // No log gets that far, and so there is always a next number.
            let number = number.filter(|number| *number < u64::MAX / 2);
            numbers.push(number.ok_or_else(|| Error::Corrupt {
                path: self.folder.join(&name).display().to_string(),
                offset: 0,
                reason: "not a file of this log",
            })?);
        }
        numbers.sort_unstable();
        for (index, number) in numbers.iter().enumerate() {
            let expected = numbers[0] + index as u64;
            if *number != expected {
                return Err(self.corrupt(expected, 0, "segment is missing"));
            }
            self.load_segment(*number, index + 1 == numbers.len())?;
        }
        // Every segment but the last was durable before the next began. What is read counts as
        // synced from here on, and the process that wrote it may have been killed before it was.
        if let Some(last) = self.segments.back() {
            self.disk.settle(&self.folder.join(segment_name(last.number)))?;
        }
        Ok(())
    }

    fn load_segment(&mut self, number: u64, is_last: bool) -> Result<()> {
        let path = self.folder.join(segment_name(number));
        let file: Arc<dyn DiskFile> = Arc::from(self.disk.open(&path, OpenMode::Write)?);
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
        let done = file.read_at(0, &mut bytes)?;
        bytes.truncate(done);
        let Some((identity, length_before)) = segment_identity(&bytes) else {
            // The header is synced before the first batch is written.
            if is_last && bytes.len() as u64 <= SEGMENT_HEADER_BYTES {
                self.disk.remove(&path)?;
                self.disk.sync_dir(&self.folder)?;
                return Ok(());
            }
            return Err(self.corrupt(number, 0, "segment header does not match its checksum"));
        };
        // Every segment but the last was synced to its end before the next began.
        if let Some(before) = self.segments.back().filter(|it| it.length != length_before) {
            let reason = "batch does not match its checksum";
            return Err(self.corrupt(before.number, before.length, reason));
        }
        let mut at = SEGMENT_HEADER_BYTES as usize;
        let mut last = None;
        while let Some(header) = BatchHeader::read(&bytes, at, &identity) {
            let begin = at + BATCH_HEADER_BYTES;
            let Some(payload) = bytes.get(begin..begin + header.length) else { break };
            if header.length == 0 || crc32c::crc32c(payload) != header.crc {
                break;
            }
            let BatchHeader { first, last: batch_last, length, crc, .. } = header;
            last = last.max(Some(batch_last));
            let at_bytes = begin as u64;
            let batch = Batch { first, last: batch_last, number, at: at_bytes, length, crc };
            self.batches.push_back(batch);
            at = begin + length;
        }
        self.check_tail(number, &bytes, at, &identity)?;
        let length = at as u64;
        if is_last && bytes.len() > at {
            file.set_len(length)?;
            file.sync()?;
        }
        self.segments.push_back(Segment { number, identity, file, length, synced: length, last });
        Ok(())
    }

    /// Refuses to cut what follows `at` if it had been durable.
    fn check_tail(&self, number: u64, bytes: &[u8], at: usize, identity: &[u8; 16]) -> Result<()> {
        let mut search = at;
        while let Some(found) = find(&bytes[search..], &BATCH_MAGIC) {
            let later = BatchHeader::read(bytes, search + found, identity);
            if later.is_some_and(|header| header.synced > at as u64) {
                return Err(self.corrupt(number, at as u64, "batch does not match its checksum"));
            }
            search += found + 1;
        }
        Ok(())
    }

    fn corrupt(&self, number: u64, offset: u64, reason: &'static str) -> Error {
        let path = self.folder.join(segment_name(number)).display().to_string();
        Error::Corrupt { path, offset, reason }
    }
}

fn segment_name(number: u64) -> String {
    format!("{number:016x}.log")
}

/// The identity in a segment's header, and the length of the segment before it.
fn segment_identity(bytes: &[u8]) -> Option<([u8; 16], u64)> {
    let header = bytes.get(..SEGMENT_HEADER_BYTES as usize)?;
    let crc = u32::from_le_bytes(*header[28..].first_chunk()?);
    if header[..8] != SEGMENT_MAGIC || crc32c::crc32c(&header[..28]) != crc {
        return None;
    }
    let before = u32::from_le_bytes(*header[24..].first_chunk()?);
    Some((*header[8..].first_chunk()?, u64::from(before)))
}

fn batch_header(
    segment: &Segment,
    first: Stamp,
    last: Stamp,
    length: u32,
    crc: u32,
) -> [u8; BATCH_HEADER_BYTES] {
    let mut header = [0; BATCH_HEADER_BYTES];
    header[..4].copy_from_slice(&BATCH_MAGIC);
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..24].copy_from_slice(&segment.identity);
    let numbers =
        [segment.length, segment.synced, first.epoch, first.sequence, last.epoch, last.sequence];
    for (slot, number) in header[24..72].chunks_exact_mut(8).zip(numbers) {
        slot.copy_from_slice(&number.to_le_bytes());
    }
    header[72..76].copy_from_slice(&crc.to_le_bytes());
    let own = crc32c::crc32c(&header[..76]);
    header[76..].copy_from_slice(&own.to_le_bytes());
    header
}

struct BatchHeader {
    length: usize,
    synced: u64,
    first: Stamp,
    last: Stamp,
    crc: u32,
}

impl BatchHeader {
    /// The header at `at`, if there is a good one that says it belongs there.
    fn read(bytes: &[u8], at: usize, identity: &[u8; 16]) -> Option<Self> {
        let header = bytes.get(at..)?.first_chunk::<BATCH_HEADER_BYTES>()?;
        let word = |from: usize| header[from..].first_chunk().copied().map(u32::from_le_bytes);
        let long = |from: usize| header[from..].first_chunk().copied().map(u64::from_le_bytes);
        let is_good = header[..4] == BATCH_MAGIC
            && header[8..24] == *identity
            && long(24)? == at as u64
            && word(76)? == crc32c::crc32c(&header[..76]);
        let stamp = |from: usize| Some(Stamp { epoch: long(from)?, sequence: long(from + 8)? });
        is_good.then_some(Self {
            length: word(4)? as usize,
            synced: long(32)?,
            first: stamp(40)?,
            last: stamp(56)?,
            crc: word(72)?,
        })
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::LocalDisk;
    use oms_core::entropy::SeededEntropy;
    use oms_core::testkit::crash::kill_at_every_operation;
    use oms_core::testkit::disk::SimDisk;

    fn open(folder: &tempfile::TempDir) -> Result<SegmentLog> {
        let disk = Arc::new(LocalDisk::new(folder.path()).expect("a folder"));
        SegmentLog::open(disk, "log".into(), 300, &SeededEntropy::new(1))
    }

    fn stamp(sequence: u64) -> Stamp {
        Stamp { epoch: 1, sequence }
    }

    fn filled(folder: &tempfile::TempDir) -> SegmentLog {
        let mut log = open(folder).expect("open");
        for sequence in 1..=9 {
            log.append(stamp(sequence), stamp(sequence), &[sequence as u8; 50]).expect("append");
            log.sync().expect("sync");
        }
        log
    }

    #[test]
    fn what_was_appended_is_read_after_a_restart_over_several_segments() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(filled(&folder).segments.len() > 1);
        let log = open(&folder).expect("open");
        let read: Vec<_> = log.batches().map(|batch| log.read(batch).expect("good")[0]).collect();
        assert_eq!(read, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(log.last(), Some(stamp(9)));
    }

    /// Auditor: what a sync was answered for is there after a power failure, also where the process
    /// that wrote it was killed before its own sync.
    #[test]
    fn what_a_killed_process_wrote_is_synced_before_it_counts() {
        let folder = PathBuf::from("log");
        let open = |disk: &SimDisk, seed| {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            SegmentLog::open(disk, folder.clone(), 600, &SeededEntropy::new(seed))
        };
        let work = |disk: &SimDisk, (): &()| {
            let append = || -> Result<()> {
                let mut log = open(disk, 1)?;
                let held = log.batches().map(|batch| batch.last.sequence).max().unwrap_or(0);
                for sequence in held + 1..=4 {
                    let stamp = Stamp { epoch: 1, sequence };
                    log.append(stamp, stamp, &[sequence as u8; 300])?;
                }
                log.sync()
            };
            append().is_ok()
        };
        let audit = |disk: &SimDisk, ()| {
            let log = open(disk, 2).expect("opens");
            assert_eq!(log.batches().count(), 4);
        };
        kill_at_every_operation(12, |_disk| (), work, audit);
    }

    #[test]
    fn a_torn_tail_is_cut_and_the_log_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = filled(&folder);
        log.append(stamp(10), stamp(10), &[10; 50]).expect("append, not synced");
        let batch = *log.batches().last().expect("ten");
        log.file(batch.number).expect("open").write_at(batch.at + 20, &[0; 30]).expect("tear");
        drop(log);
        let mut log = open(&folder).expect("open");
        assert_eq!(log.last(), Some(stamp(9)));
        log.append(stamp(10), stamp(10), &[11; 50]).expect("append");
        log.sync().expect("sync");
        assert_eq!(open(&folder).expect("open").last(), Some(stamp(10)));
    }

    #[test]
    fn a_changed_bit_in_what_was_synced_is_named_and_never_cut() {
        for wanted in 1..=9 {
            let folder = tempfile::tempdir().expect("a folder");
            let log = filled(&folder);
            let batch = *log.batches().nth(wanted - 1).expect("nine");
            let file = log.file(batch.number).expect("open");
            file.write_at(batch.at + 7, &[wanted as u8 ^ 0x10]).expect("flip");
            assert!(matches!(log.read(&batch), Err(Error::Corrupt { .. })));
            drop(log);
            let error = open(&folder).expect_err("damage");
            assert!(matches!(error, Error::Corrupt { .. }), "{wanted}: {error}");
            let place = format!("{:016x}.log`, offset=`{}`", batch.number, batch.at - 80);
            assert!(error.to_string().contains(&place), "{error}");
        }
    }

    #[test]
    fn a_missing_segment_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(filled(&folder));
        std::fs::remove_file(folder.path().join("log/0000000000000002.log")).expect("remove");
        let error = open(&folder).expect_err("a hole").to_string();
        assert!(error.contains("0000000000000002.log"), "{error}");
    }

    #[test]
    fn names_that_no_log_gives_are_refused() {
        for name in ["ffffffffffffffff.log", "8000000000000000.log", "x.log", "0.log"] {
            let folder = tempfile::tempdir().expect("a folder");
            drop(filled(&folder));
            let log = folder.path().join("log");
            std::fs::write(log.join("0000000000000000.log"), b"").expect("write");
            std::fs::write(log.join(name), b"").expect("write");
            assert!(open(&folder).is_err(), "{name}");
        }
    }

    #[test]
    fn old_segments_go_and_numbers_go_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = filled(&folder);
        log.remove_through(stamp(5)).expect("remove");
        let firsts: Vec<_> = log.batches().map(|batch| batch.first.sequence).collect();
        assert!(firsts[0] > 1 && firsts[0] <= 6, "{firsts:?}");
        log.clear().expect("clear");
        assert_eq!(log.bytes(), 0);
        log.append(stamp(10), stamp(10), b"x").expect("append");
        log.sync().expect("sync");
        drop(log);
        assert_eq!(open(&folder).expect("open").last(), Some(stamp(10)));
    }

    proptest::proptest! {
        /// Whatever a segment's file holds, it is read or refused.
        #[test]
        fn any_bytes_open_or_are_refused(junk: Vec<u8>, at in 0..700_usize) {
            let folder = tempfile::tempdir().expect("a folder");
            drop(filled(&folder));
            let path = folder.path().join("log/0000000000000001.log");
            let mut bytes = std::fs::read(&path).expect("read");
            bytes.truncate(at);
            bytes.extend(junk);
            std::fs::write(&path, bytes).expect("write");
            if let Ok(log) = open(&folder) {
                for batch in log.batches() {
                    log.read(batch).expect("what was taken is good");
                }
            }
        }
    }
}
