//! The agent's durable state: who it is, what it has collected, and where it stopped reading.
//!
//! ```text
//!  identity                        source id and time of connection, written once
//!  acknowledged                    last sequence that the sink has, positions behind it
//!  spool/00000000000000000007      a batch and the positions behind it, until acknowledged
//!  refused/00000000000000000003    a batch that the sink refused, for a person to look at
//! ```
//!
//! Each file is written beside its name, synced, renamed and its folder synced, so it is there whole
//! or not at all. Records and positions are in one file: a crash loses both or neither.

use super::SourceError;
use jiff::Timestamp;
use oms_core::Record;
use oms_core::disk::{Disk, DiskError, OpenMode};
use oms_core::id::SourceId;
use oms_core::{Entropy, ErrorKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most refused batches that are kept. With so many the agent stops delivering until a person
/// has looked at them and removed them.
pub(super) const REFUSED_MAX: usize = 100;

/// The longest file of the state, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The highest sequence that can be acknowledged, so that there is always a next one.
const SEQUENCE_MAX: u64 = u64::MAX / 2;

const IDENTITY: &str = "identity";
const ACKNOWLEDGED: &str = "acknowledged";
const SPOOL: &str = "spool";
const REFUSED: &str = "refused";
const UNFINISHED: &str = ".tmp";

/// What every file begins with: its format and version.
const FORMAT: &str = "oms-agent-1";

/// Where each data source stands, by its name.
pub(super) type Positions = BTreeMap<String, serde_json::Value>;

/// Who the agent is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) source: SourceId,
    pub(super) connected: Timestamp,
}

/// A stored batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) records: Vec<Record>,
    pub(super) positions: Positions,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Acknowledged {
    sequence: u64,
    positions: Positions,
}

/// What was found at the start.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) identity: Identity,
    pub(super) acknowledged: u64,
    /// The sizes of the stored batches behind it, in bytes.
    pub(super) pending: Vec<u64>,
    pub(super) positions: Positions,
}

#[derive(Clone, Debug)]
pub(super) struct Spool {
    disk: Arc<dyn Disk>,
}

impl Spool {
    /// Opens the state, making it if the disk is empty.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<(Self, Recovered), SourceError> {
        let spool = Self { disk };
        spool.disk.create_dir_all(Path::new(SPOOL))?;
        spool.disk.create_dir_all(Path::new(REFUSED))?;
        // A name that a killed process gave must not go while what follows from it stays: a batch
        // that is sent, or one that was removed. The bytes were synced before they had the name.
        for folder in ["", SPOOL, REFUSED] {
            spool.disk.sync_dir(Path::new(folder))?;
        }
        let acknowledged: Option<Acknowledged> = spool.read(Path::new(ACKNOWLEDGED))?;
        let names = spool.disk.list(Path::new(SPOOL))?;
        let identity = match spool.read(Path::new(IDENTITY))? {
            Some(identity) => identity,
            None if acknowledged.is_some() || !names.is_empty() => {
                // Under a new identity, what was sent already would be sent again.
                let reason = "missing beside collected records".to_owned();
                return Err(SourceError::Corrupt { path: IDENTITY.to_owned(), reason });
            }
            None => {
                let identity = Identity { source: SourceId::draw(entropy), connected: now };
                spool.write(Path::new(IDENTITY), &identity)?;
                identity
            }
        };
        let Acknowledged { sequence, mut positions } = acknowledged.unwrap_or_default();
        if sequence > SEQUENCE_MAX {
            let reason = format!("sequence {sequence} is one that no agent reaches");
            return Err(SourceError::Corrupt { path: ACKNOWLEDGED.to_owned(), reason });
        }
        let mut pending = Vec::new();
        for name in names {
            let path = Path::new(SPOOL).join(&name);
            let number = name.parse::<u64>().ok();
            if name.ends_with(UNFINISHED) || number.is_some_and(|number| number <= sequence) {
                spool.disk.remove(&path)?;
                continue;
            }
            let expected = sequence + pending.len() as u64 + 1;
            if number != Some(expected) {
                let reason = format!("batch {expected} is missing, or the name is no sequence");
                return Err(SourceError::Corrupt { path: path.display().to_string(), reason });
            }
            let (stored, bytes) = spool.load(expected)?;
            positions = stored.positions;
            pending.push(bytes);
        }
        Ok((spool, Recovered { identity, acknowledged: sequence, pending, positions }))
    }

    /// Stores a batch; answers its size in bytes.
    pub(super) fn put(&self, stored: &Stored) -> Result<u64, SourceError> {
        self.write(&batch_path(SPOOL, stored.sequence), stored)
    }

    /// Reads a stored batch.
    pub(super) fn get(&self, sequence: u64) -> Result<Stored, SourceError> {
        Ok(self.load(sequence)?.0)
    }

    /// Notes that the sink has a batch, and removes it.
    pub(super) fn forget(&self, sequence: u64) -> Result<(), SourceError> {
        let positions = self.get(sequence)?.positions;
        self.write(Path::new(ACKNOWLEDGED), &Acknowledged { sequence, positions })?;
        // A name that comes back after a crash is at or below the sequence that was just stored.
        self.disk.remove(&batch_path(SPOOL, sequence))?;
        Ok(())
    }

    /// Keeps a refused batch aside and stores `notice` in its place.
    pub(super) fn replace(&self, sequence: u64, notice: Record) -> Result<(), SourceError> {
        let refused = self.get(sequence)?;
        let path = batch_path(REFUSED, sequence);
        // After an interruption it is there already, and what is in the spool may be the notice.
        if self.read_bytes(&path)?.is_none() {
            let kept = self.disk.list(Path::new(REFUSED))?.len();
            if kept >= REFUSED_MAX {
                return Err(SourceError::Setting {
                    name: "refused batches",
                    value: kept.to_string(),
                    reason: "too many; look at them and remove them from the agent's state folder",
                });
            }
            self.write(&path, &refused)?;
        }
        self.put(&Stored { records: vec![notice], ..refused })?;
        Ok(())
    }

    fn load(&self, sequence: u64) -> Result<(Stored, u64), SourceError> {
        let path = batch_path(SPOOL, sequence);
        let corrupt = |reason: &str| SourceError::Corrupt {
            path: path.display().to_string(),
            reason: reason.to_owned(),
        };
        let bytes = self.read_bytes(&path)?.ok_or_else(|| corrupt("missing"))?;
        let stored: Stored = decode(&path, &bytes)?;
        if stored.sequence != sequence {
            return Err(corrupt("holds another sequence than its name says"));
        }
        Ok((stored, bytes.len() as u64))
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, SourceError> {
        self.read_bytes(path)?.map(|bytes| decode(path, &bytes)).transpose()
    }

    fn read_bytes(&self, path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
        let file = match self.disk.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let len = file.len()?;
        let corrupt = |reason: &str| SourceError::Corrupt {
            path: path.display().to_string(),
            reason: reason.to_owned(),
        };
        let len = usize::try_from(len.min(FILE_BYTES_MAX + 1))
            .ok()
            .filter(|len| *len as u64 <= FILE_BYTES_MAX)
            .ok_or_else(|| corrupt("longer than 1 GiB"))?;
        let mut bytes = vec![0; len];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    /// Writes a file whole or not at all; answers its size in bytes.
    fn write(&self, path: &Path, value: &impl Serialize) -> Result<u64, SourceError> {
        let bytes = encode(value)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(UNFINISHED);
        let beside = PathBuf::from(beside);
        // A file that could not be synced must not be used again, so each attempt makes its own.
        remove_if_there(self.disk.as_ref(), &beside)?;
        let file = self.disk.open(&beside, OpenMode::CreateNew)?;
        file.write_at(0, &bytes)?;
        file.sync()?;
        drop(file);
        self.disk.rename(&beside, path)?;
        self.disk.sync_dir(path.parent().unwrap_or(Path::new("")))?;
        Ok(bytes.len() as u64)
    }
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    match disk.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The name of a batch has all digits of a sequence, so that names sort like numbers.
fn batch_path(folder: &str, sequence: u64) -> PathBuf {
    Path::new(folder).join(format!("{sequence:020}"))
}

/// One line with the format and the CRC-32C of what follows, then JSON.
fn encode(value: &impl Serialize) -> Result<Vec<u8>, SourceError> {
    let json = serde_json::to_vec(value)
        .map_err(|error| SourceError::Internal { reason: error.to_string() })?;
    let mut bytes = format!("{FORMAT} {:08x}\n", crc32c::crc32c(&json)).into_bytes();
    bytes.extend(json);
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, SourceError> {
    let corrupt =
        |reason: String| SourceError::Corrupt { path: path.display().to_string(), reason };
    let end = bytes.iter().take(FORMAT.len() + 10).position(|&byte| byte == b'\n');
    let (line, json) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => return Err(corrupt("not a file of the agent".to_owned())),
    };
    let expected = format!("{FORMAT} {:08x}", crc32c::crc32c(json));
    if line != expected.as_bytes() {
        let known = line.starts_with(FORMAT.as_bytes());
        let reason = if known { "checksum does not match" } else { "format is not known" };
        return Err(corrupt(reason.to_owned()));
    }
    serde_json::from_slice(json).map_err(|error| corrupt(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::LocalDisk;
    use oms_core::entropy::SeededEntropy;
    use oms_core::testkit::crash::kill_at_every_operation;
    use oms_core::testkit::disk::SimDisk;
    use proptest::prelude::*;

    fn open(disk: &LocalDisk) -> Result<(Spool, Recovered), SourceError> {
        Spool::open(Arc::new(disk.clone()), &SeededEntropy::new(1), Timestamp::UNIX_EPOCH)
    }

    fn stored(sequence: u64) -> Stored {
        let record = Record::new("Perf".parse().expect("a name"), Timestamp::UNIX_EPOCH, "pc")
            .with("CounterValue", 1.5);
        let positions = BTreeMap::from([("log".to_owned(), serde_json::json!(sequence))]);
        Stored { sequence, records: vec![record], positions }
    }

    /// Auditor: after a power failure the agent starts and goes on, also where it went on before
    /// from what a killed agent had left.
    #[test]
    fn what_a_killed_agent_wrote_does_not_go() {
        let open = |disk: &SimDisk, seed| {
            let entropy = SeededEntropy::new(seed);
            Spool::open(Arc::new(disk.clone()), &entropy, Timestamp::UNIX_EPOCH)
        };
        let work = |disk: &SimDisk, (): &()| {
            let go_on = || -> Result<(), SourceError> {
                let (spool, found) = open(disk, 1)?;
                let held = found.acknowledged + found.pending.len() as u64;
                (held + 1..=3).try_for_each(|sequence| spool.put(&stored(sequence)).map(drop))?;
                (found.acknowledged + 1..=2).try_for_each(|sequence| spool.forget(sequence))
            };
            go_on().is_ok()
        };
        let audit = |disk: &SimDisk, ()| {
            let (_, found) = open(disk, 2).expect("opened");
            assert_eq!((found.acknowledged, found.pending.len()), (2, 1));
        };
        let operations = kill_at_every_operation(12, |_disk| (), work, audit);
        assert!(operations > 30, "{operations}");
    }

    #[test]
    fn what_was_stored_is_found_and_what_was_acknowledged_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = LocalDisk::new(folder.path()).expect("a disk");
        let (spool, first) = open(&disk).expect("opened");
        for sequence in 1..=3 {
            spool.put(&stored(sequence)).expect("stored");
        }
        spool.forget(1).expect("forgotten");
        // As after a crash before the removal, and within a write.
        std::fs::write(folder.path().join("spool/00000000000000000001"), "x").expect("written");
        std::fs::write(folder.path().join("spool/00000000000000000004.tmp"), "x").expect("written");
        let (spool, again) = open(&disk).expect("opened");
        assert_eq!(again.identity, first.identity);
        assert_eq!((again.acknowledged, again.pending.len()), (1, 2));
        assert_eq!(again.positions["log"], 3);
        assert_eq!(spool.get(2).expect("read"), stored(2));
    }

    #[test]
    fn state_that_contradicts_itself_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = LocalDisk::new(folder.path()).expect("a disk");
        let (spool, _) = open(&disk).expect("opened");
        for sequence in 1..=3 {
            spool.put(&stored(sequence)).expect("stored");
        }
        let batch = |sequence: u64| folder.path().join(batch_path(SPOOL, sequence));
        let whole = std::fs::read(batch(2)).expect("read");
        let check = |reason: &str| {
            let error = open(&disk).expect_err(reason);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        };
        std::fs::remove_file(batch(2)).expect("removed");
        check("batch 2 is missing");
        std::fs::copy(batch(1), batch(2)).expect("copied");
        check("holds another sequence");
        std::fs::write(batch(2), &whole[..whole.len() - 1]).expect("written");
        check("checksum does not match");
        std::fs::write(batch(2), &whole).expect("written");
        open(&disk).expect("whole again");
        let last = Acknowledged { sequence: u64::MAX, positions: BTreeMap::new() };
        spool.write(Path::new(ACKNOWLEDGED), &last).expect("written");
        check("one that no agent reaches");
        spool.write(Path::new(ACKNOWLEDGED), &Acknowledged::default()).expect("written");
        std::fs::remove_file(folder.path().join(IDENTITY)).expect("removed");
        check("missing beside collected records");
    }

    #[test]
    fn a_refused_batch_is_kept_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = LocalDisk::new(folder.path()).expect("a disk");
        let (spool, _) = open(&disk).expect("opened");
        spool.put(&stored(1)).expect("stored");
        let notice = Record::new("Operation".parse().expect("a name"), Timestamp::UNIX_EPOCH, "pc");
        spool.replace(1, notice.clone()).expect("replaced");
        let now = spool.get(1).expect("read");
        assert_eq!((now.records, now.positions), (vec![notice.clone()], stored(1).positions));
        let kept: Option<Stored> = spool.read(&batch_path(REFUSED, 1)).expect("read");
        assert_eq!(kept, Some(stored(1)));
        spool.replace(1, notice.clone()).expect("replaced again");
        let kept: Option<Stored> = spool.read(&batch_path(REFUSED, 1)).expect("read");
        assert_eq!(kept, Some(stored(1)), "the batch is kept, not the notice");

        for sequence in 2..=REFUSED_MAX as u64 {
            std::fs::write(folder.path().join(batch_path(REFUSED, sequence)), "x")
                .expect("written");
        }
        spool.put(&stored(101)).expect("stored");
        let error = spool.replace(101, notice).expect_err("too many");
        assert!(error.to_string().contains("look at them"), "{error}");
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(decode::<Stored>(Path::new("x"), &bytes).is_err());
        }

        #[test]
        fn one_changed_bit_is_noticed(at in 0_usize..1000, bit in 0_u8..8) {
            let mut bytes = encode(&stored(7)).expect("encoded");
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(decode::<Stored>(Path::new("x"), &bytes).is_err());
        }
    }
}
