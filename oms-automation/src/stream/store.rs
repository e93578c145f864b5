//! A job's records on disk: one append-only file a job.
//!
//! ```text
//!  file   = "OMSSTRM1" frame*
//!  frame  = length u32 LE, CRC-32C of the payload u32 LE, payload
//!  payload = a StreamRecord as JSON
//! ```
//! The file is synced before the job's end is recorded, so the streams of an ended job are whole.
//! Of a job whose worker died, what was not synced may be missing: the file ends at the first frame
//! that is not whole.

use super::{StreamLimits, StreamRecord, StreamSummary, StreamType};
use crate::Error;
use crate::job::JobId;
use jiff::Timestamp;
use oms_core::Disk;
use oms_core::disk::{DiskFile, OpenMode};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"OMSSTRM1";
const HEAD_BYTES: usize = 8;

/// The largest payload of a frame, in bytes: a record of 1 MiB of text whose every byte JSON
/// spells in six, and its other fields.
const PAYLOAD_BYTES_MAX: usize = (6 << 20) + 1024;

/// How much is written before it is synced, in bytes, so that the sync at the end is short.
const UNSYNCED_BYTES_MAX: u64 = 1 << 20;

/// How much is read at a time, in bytes.
const READ_BYTES: usize = 256 << 10;

/// One line to be recorded.
#[derive(Clone, Debug)]
pub struct StreamEntry {
    /// When it arrived.
    pub time: Timestamp,
    /// Which stream.
    pub stream_type: StreamType,
    /// Its text.
    pub text: String,
    /// How many bytes were cut from its end, because it was longer than a record may be.
    pub cut_bytes: u64,
}

/// The streams of every job of an account.
#[derive(Clone, Debug)]
pub struct StreamStore {
    disk: Arc<dyn Disk>,
    limits: StreamLimits,
}

impl StreamStore {
    const FOLDER: &str = "streams";

    /// Opens the store, making its folder.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn open(disk: Arc<dyn Disk>, limits: StreamLimits) -> Result<Self, Error> {
        disk.create_dir_all(Path::new(Self::FOLDER))?;
        Ok(Self { disk, limits })
    }

    /// Begins a job's streams.
    ///
    /// # Errors
    /// [`Error::Disk`]; also if they were begun before, since a job runs once.
    pub fn begin(&self, job: JobId) -> Result<StreamWriter, Error> {
        let file = self.disk.open(&Self::path(job), OpenMode::CreateNew)?;
        file.write_at(0, MAGIC)?;
        file.sync()?;
        self.disk.sync_dir(Path::new(Self::FOLDER))?;
        Ok(StreamWriter {
            file,
            limits: self.limits,
            offset: MAGIC.len() as u64,
            synced: MAGIC.len() as u64,
            summary: StreamSummary::default(),
            is_full: false,
        })
    }

    /// Records after sequence `after`, oldest first, at most `limit` and those that pass `filter`;
    /// none if the job never ran.
    ///
    /// # Errors
    /// [`Error::Disk`] or [`Error::Corrupt`].
    pub fn read(
        &self,
        job: JobId,
        after: u64,
        limit: usize,
        filter: impl Fn(StreamType) -> bool,
    ) -> Result<Vec<StreamRecord>, Error> {
        let mut records = Vec::new();
        let Some(mut reader) = self.reader(job)? else { return Ok(records) };
        while records.len() < limit {
            let Some(record) = reader.next()? else { break };
            if record.sequence > after && filter(record.stream_type) {
                records.push(record);
            }
        }
        Ok(records)
    }

    /// Makes the streams of a job whose worker died durable as far as they are whole; none if it
    /// had none.
    ///
    /// # Errors
    /// [`Error::Disk`] or [`Error::Corrupt`].
    pub fn recover(&self, job: JobId) -> Result<Option<StreamSummary>, Error> {
        let path = Self::path(job);
        let file = match self.disk.open(&path, OpenMode::Write) {
            Ok(file) => file,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut summary = StreamSummary::default();
        let Some(mut reader) = Reader::new(file, path)? else {
            return Ok(Some(summary));
        };
        while let Some(record) = reader.next()? {
            summary.records += 1;
            summary.bytes += record.text.len() as u64;
        }
        reader.file.set_len(reader.offset)?;
        reader.file.sync()?;
        self.disk.sync_dir(Path::new(Self::FOLDER))?;
        Ok(Some(summary))
    }

    fn reader(&self, job: JobId) -> Result<Option<Reader>, Error> {
        let path = Self::path(job);
        match self.disk.open(&path, OpenMode::Read) {
            Ok(file) => Reader::new(file, path),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn path(job: JobId) -> PathBuf {
        Path::new(Self::FOLDER).join(format!("{job}.stream"))
    }
}

/// Appends one job's records.
#[derive(Debug)]
pub struct StreamWriter {
    file: Box<dyn DiskFile>,
    limits: StreamLimits,
    offset: u64,
    synced: u64,
    summary: StreamSummary,
    is_full: bool,
}

impl StreamWriter {
    /// Appends entries in order, discarding those past the limits. They are not durable before
    /// [`finish`](Self::finish).
    ///
    /// # Errors
    /// [`Error::Disk`]; [`Error::TooLarge`] for a text of more than 1 MiB. What follows is not to be
    /// appended then.
    pub fn append(&mut self, entries: Vec<StreamEntry>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        for entry in entries {
            self.summary.discarded_bytes += entry.cut_bytes;
            let length = entry.text.len() as u64;
            let is_over = self.summary.records >= self.limits.records_max
                || self.summary.bytes + length > self.limits.bytes_max;
            if self.is_full || is_over {
                self.summary.discarded_records += 1;
                self.summary.discarded_bytes += length;
                if !self.is_full {
                    self.is_full = true;
                    let text = "WARNING: the limit of this job's streams is reached; what follows is \
                                discarded";
                    let stream_type = StreamType::Warning;
                    let text = text.to_owned();
                    self.frame(
                        &mut bytes,
                        StreamEntry { stream_type, text, cut_bytes: 0, ..entry },
                    )?;
                }
                continue;
            }
            self.frame(&mut bytes, entry)?;
        }
        if !bytes.is_empty() {
            self.file.write_at(self.offset, &bytes)?;
            self.offset += bytes.len() as u64;
        }
        if self.offset - self.synced >= UNSYNCED_BYTES_MAX {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes everything durable; says what there is.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn finish(mut self) -> Result<StreamSummary, Error> {
        self.sync()?;
        Ok(self.summary)
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.file.sync()?;
        self.synced = self.offset;
        Ok(())
    }

    fn frame(&mut self, bytes: &mut Vec<u8>, entry: StreamEntry) -> Result<(), Error> {
        let StreamEntry { time, stream_type, text, cut_bytes } = entry;
        self.summary.records += 1;
        self.summary.bytes += text.len() as u64;
        let sequence = self.summary.records;
        let record = StreamRecord { sequence, time, stream_type, text, cut_bytes };
        let payload = serde_json::to_vec(&record).map_err(|source| {
            oms_core::journal::JournalError::Body { kind: "stream-record".to_owned(), source }
        })?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            let what = "stream record in bytes of JSON";
            return Err(Error::TooLarge { what, actual: payload.len(), limit: PAYLOAD_BYTES_MAX });
        }
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
        bytes.extend_from_slice(&payload);
        Ok(())
    }
}

/// Reads frames until the first that is not whole.
#[derive(Debug)]
struct Reader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Where the next frame begins.
    offset: u64,
    buffer: Vec<u8>,
    /// The file's offset of the buffer's first byte.
    buffered_from: u64,
}

impl Reader {
    /// None for a file whose beginning is not whole; an error for one that is something else.
    fn new(file: Box<dyn DiskFile>, path: PathBuf) -> Result<Option<Self>, Error> {
        let mut magic = [0; MAGIC.len()];
        let count = file.read_at(0, &mut magic)?;
        if count < magic.len() || magic == [0; MAGIC.len()] {
            return Ok(None);
        }
        if &magic != MAGIC {
            let reason = "does not begin with OMSSTRM1".to_owned();
            return Err(Error::Corrupt { path, reason });
        }
        let offset = magic.len() as u64;
        Ok(Some(Self { file, path, offset, buffer: Vec::new(), buffered_from: offset }))
    }

    fn next(&mut self) -> Result<Option<StreamRecord>, Error> {
        let Some(head) = self.bytes(self.offset, HEAD_BYTES)? else { return Ok(None) };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let sum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        // A region that never reached the disk reads as zeros, and the checksum of nothing is zero.
        if length == 0 || length > PAYLOAD_BYTES_MAX {
            return Ok(None);
        }
        let begin = self.offset + HEAD_BYTES as u64;
        let Some(payload) = self.bytes(begin, length)? else { return Ok(None) };
        if crc32c::crc32c(payload) != sum {
            return Ok(None);
        }
        let record = serde_json::from_slice(payload);
        let record = record.map_err(|error| Error::Corrupt {
            path: self.path.clone(),
            reason: format!("frame at byte {}: {error}", self.offset),
        })?;
        self.offset = begin + length as u64;
        Ok(Some(record))
    }

    /// Bytes of the file, or none if it ends before.
    fn bytes(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, Error> {
        let skip = |from: u64| usize::try_from(at - from).unwrap_or(usize::MAX);
        let is_held = |start: usize, held: usize| start.saturating_add(length) <= held;
        let mut start = skip(self.buffered_from);
        if !is_held(start, self.buffer.len()) {
            self.buffer.resize(length.max(READ_BYTES), 0);
            let count = self.file.read_at(at, &mut self.buffer)?;
            self.buffer.truncate(count);
            self.buffered_from = at;
            start = 0;
        }
        Ok(is_held(start, self.buffer.len()).then(|| &self.buffer[start..start + length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::{EntropyExt, SeededEntropy};
    use oms_core::testkit::disk::SimDisk;
    use proptest::prelude::*;

    fn entry(text: &str) -> StreamEntry {
        let stream_type = StreamType::of_line(text);
        StreamEntry {
            time: Timestamp::UNIX_EPOCH,
            stream_type,
            text: text.to_owned(),
            cut_bytes: 0,
        }
    }

    fn open(disk: &SimDisk, limits: StreamLimits) -> StreamStore {
        StreamStore::open(Arc::new(disk.clone()), limits).expect("open")
    }

    fn texts(store: &StreamStore, job: JobId) -> Vec<String> {
        let records = store.read(job, 0, usize::MAX, |_| true).expect("readable");
        let sequences: Vec<u64> = records.iter().map(|record| record.sequence).collect();
        assert_eq!(sequences, (1..=records.len() as u64).collect::<Vec<_>>(), "dense from 1");
        records.into_iter().map(|record| record.text).collect()
    }

    #[test]
    fn finished_streams_survive_power_loss_and_unfinished_ones_are_a_prefix() {
        for seed in 0..200 {
            let entropy = SeededEntropy::new(seed);
            let disk = SimDisk::default();
            let store = open(&disk, StreamLimits::default());
            let (whole, torn) = (JobId::draw(&entropy), JobId::draw(&entropy));
            let mut writer = store.begin(whole).expect("begin");
            writer.append(vec![entry("a"), entry("WARNING: b")]).expect("append");
            assert_eq!(writer.finish().expect("finish").records, 2);
            let mut writer = store.begin(torn).expect("begin");
            let written: Vec<String> =
                (0..entropy.below(40)).map(|n| format!("line {n} {seed}")).collect();
            for line in &written {
                writer.append(vec![entry(line)]).expect("append");
            }
            drop(writer);
            disk.crash(&entropy);
            let store = open(&disk, StreamLimits::default());
            assert_eq!(texts(&store, whole), ["a", "WARNING: b"], "seed {seed}");
            let summary = store.recover(torn).expect("recover").expect("was begun");
            let kept = texts(&store, torn);
            assert!(written.starts_with(&kept), "seed {seed}: {kept:?}");
            assert_eq!(summary.records, kept.len() as u64, "seed {seed}");
            disk.crash(&entropy);
            assert_eq!(texts(&store, torn), kept, "seed {seed}: recovered is durable");
        }
    }

    #[test]
    fn a_flood_is_cut_off_with_a_warning() {
        let disk = SimDisk::default();
        let limits = StreamLimits { records_max: 3, bytes_max: 10, ..StreamLimits::default() };
        let store = open(&disk, limits);
        let job = JobId::draw(&SeededEntropy::new(1));
        let mut writer = store.begin(job).expect("begin");
        for text in ["1234", "5678", "toolong", "x", "y"] {
            writer.append(vec![entry(text)]).expect("append");
        }
        let summary = writer.finish().expect("finish");
        assert_eq!((summary.discarded_records, summary.discarded_bytes), (3, 9));
        let texts = texts(&store, job);
        assert_eq!(texts.len(), 3);
        assert!(texts[2].starts_with("WARNING: the limit"), "{texts:?}");
        assert_eq!(store.read(job, 1, 9, |t| t == StreamType::Output).expect("read").len(), 1);
    }

    #[test]
    fn a_job_has_one_beginning_and_a_foreign_file_is_refused() {
        let disk = SimDisk::default();
        let store = open(&disk, StreamLimits::default());
        let job = JobId::draw(&SeededEntropy::new(1));
        assert!(store.read(job, 0, 9, |_| true).expect("none").is_empty());
        assert_eq!(store.recover(job).expect("none"), None);
        store.begin(job).expect("begin");
        assert!(store.begin(job).is_err());
        disk.flip_bit(&StreamStore::path(job), 0, 1);
        let error = store.read(job, 0, 9, |_| true).expect_err("another magic");
        assert_eq!(error.kind(), oms_core::ErrorKind::Corrupt);
    }

    proptest! {
        /// Whatever the bytes, reading ends, and gives a prefix of what was written.
        #[test]
        fn damaged_files_never_panic(
            lines in prop::collection::vec("[a-z\u{1F600}\"\\\\]{0,20}", 0..8),
            at in 0_usize..400,
            bit in 0_u8..8,
        ) {
            let disk = SimDisk::default();
            let store = open(&disk, StreamLimits::default());
            let job = JobId::draw(&SeededEntropy::new(1));
            let mut writer = store.begin(job).expect("begin");
            writer.append(lines.iter().map(|line| entry(line)).collect()).expect("append");
            let end = writer.offset as usize;
            writer.finish().expect("finish");
            prop_assert_eq!(&texts(&store, job), &lines);
            disk.flip_bit(&StreamStore::path(job), at % end, bit);
            if let Ok(records) = store.read(job, 0, usize::MAX, |_| true) {
                let kept: Vec<String> = records.into_iter().map(|record| record.text).collect();
                prop_assert!(lines.starts_with(&kept));
            }
        }
    }
}
