//! What a site knows about itself, in one small file that is rewritten in place.
//!
//! Two slots of 512 bytes take turns, so that a write torn by a power loss leaves the other slot,
//! and so that a full disk does not keep a site from saying that it was fenced or has diverged.

use super::Stamp;
use crate::error::{Error, Result};
use oms_core::disk::{Disk, DiskExt as _, DiskFile, OpenMode};
use std::io;
use std::path::Path;
use uuid::Uuid;

const SLOT_BYTES: usize = 512;
const RECORD_BYTES: usize = 84;
const MAGIC: [u8; 8] = *b"OMSRMRK1";

/// What a site is to an item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// Production runs here and nothing is replicated.
    Active,
    /// Production runs here and writes go to the outgoing log.
    Logging,
    /// As `Logging`, while a copy that began at the mark's stamp fills an empty replica.
    CopyingInitial,
    /// As `Logging`, while a copy that began at the mark's stamp repairs a replica.
    CopyingResync,
    /// Production runs here and writes since the mark's stamp are in no log.
    Diverged,
    /// The replica.
    Replica,
    /// The replica, and it never held a whole disk of this replication.
    EmptyReplica,
    /// Production runs here on an overlay over the point of the mark's stamp, not committed.
    FailedOver,
    /// Production has moved away.
    Fenced,
}

impl Role {
    const ALL: [Self; 9] = [
        Self::Active,
        Self::Logging,
        Self::CopyingInitial,
        Self::CopyingResync,
        Self::Diverged,
        Self::Replica,
        Self::EmptyReplica,
        Self::FailedOver,
        Self::Fenced,
    ];
}

/// One statement of a site.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark {
    /// Which item.
    pub item: Uuid,
    /// What the site is.
    pub role: Role,
    /// The epoch it knows of; lower ones are refused.
    pub epoch: u64,
    /// Meaning by role.
    pub stamp: Stamp,
    /// The oldest prefix that a replica's log can still show.
    pub floor: Stamp,
}

/// The file.
#[derive(Debug)]
pub struct MarkFile {
    file: Box<dyn DiskFile>,
    path: String,
    count: u64,
    mark: Option<Mark>,
}

impl MarkFile {
    /// What a file says, if anything; makes and changes nothing.
    ///
    /// # Errors
    /// [`Error::Disk`]; [`Error::Corrupt`] if it is no mark.
    pub fn peek(disk: &dyn Disk, path: &Path) -> Result<Option<Mark>> {
        match disk.open(path, OpenMode::Read) {
            Ok(file) => Ok(read(&*file, path)?.map(|(_, mark)| mark)),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the file, or makes one that says nothing yet.
    ///
    /// # Errors
    /// [`Error::Disk`]; [`Error::Corrupt`] if both slots are damaged, or it is no mark.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = disk.open(path, OpenMode::OpenOrCreate)?;
        let name = path.display().to_string();
        let Some((count, mark)) = read(&*file, path)? else {
            // Both slots get their place on the disk now.
            file.write_at(0, &[0; 2 * SLOT_BYTES])?;
            file.sync()?;
            disk.sync_dir(path.parent().unwrap_or(Path::new("")))?;
            return Ok(Self { file, path: name, count: 0, mark: None });
        };
        // Everything goes by what it says, so it may say nothing else after a power failure.
        disk.settle(path)?;
        Ok(Self { file, path: name, count, mark: Some(mark) })
    }

    /// What it says, if anything.
    #[must_use]
    pub const fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// What it says.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it says nothing, or is of another item.
    pub fn expect(&self, item: Uuid) -> Result<Mark> {
        let reason = match self.mark {
            Some(mark) if mark.item == item => return Ok(mark),
            Some(_) => "belongs to another item",
            None => "says nothing yet",
        };
        Err(Error::Corrupt { path: self.path.clone(), offset: 0, reason })
    }

    /// Says something else; durable when it returns.
    ///
    /// # Errors
    /// [`Error::Disk`]; it says either what it said before or the new.
    pub fn set(&mut self, mark: Mark) -> Result<()> {
        if self.mark == Some(mark) {
            return Ok(());
        }
        let count = self.count.wrapping_add(1);
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&MAGIC);
        record[8..16].copy_from_slice(&count.to_le_bytes());
        record[16..32].copy_from_slice(mark.item.as_bytes());
        let code = Role::ALL.iter().position(|role| *role == mark.role).unwrap_or_default() as u64;
        let Mark { epoch, stamp, floor, .. } = mark;
        let stamps = [stamp.epoch, stamp.sequence, floor.epoch, floor.sequence];
        for (slot, number) in
            record[32..80].chunks_exact_mut(8).zip([code, epoch].into_iter().chain(stamps))
        {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&record[..80]);
        record[80..].copy_from_slice(&crc.to_le_bytes());
        self.file.write_at((count % 2) * SLOT_BYTES as u64, &record)?;
        self.file.sync()?;
        self.count = count;
        self.mark = Some(mark);
        Ok(())
    }
}

/// The last statement of a file, with its count; none if it says nothing yet.
fn read(file: &dyn DiskFile, path: &Path) -> Result<Option<(u64, Mark)>> {
    let mut bytes = [0; 2 * SLOT_BYTES];
    file.read_at(0, &mut bytes)?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let corrupt = |reason| Error::Corrupt { path: path.display().to_string(), offset: 0, reason };
    let [even, odd] = [0, 1].map(|at| {
        let slot = read_slot(bytes.as_chunks::<SLOT_BYTES>().0.get(at)?)?;
        (slot.0 % 2 == at as u64).then_some(slot)
    });
    match (even, odd) {
        (Some(even), Some(odd)) if odd.0.wrapping_add(1) == even.0 => Ok(Some(even)),
        (Some(even), Some(odd)) if even.0.wrapping_add(1) == odd.0 => Ok(Some(odd)),
        (Some(_), Some(_)) => Err(corrupt("its two slots do not follow each other")),
        (None, None) => Err(corrupt("neither slot matches its checksum")),
        (one, other) => Ok(one.or(other)),
    }
}

fn read_slot(slot: &[u8; SLOT_BYTES]) -> Option<(u64, Mark)> {
    let long = |from: usize| slot[from..].first_chunk().copied().map(u64::from_le_bytes);
    let crc = u32::from_le_bytes(*slot[80..].first_chunk()?);
    if slot[..8] != MAGIC || crc != crc32c::crc32c(&slot[..80]) {
        return None;
    }
    let role = *Role::ALL.get(usize::try_from(long(32)?).ok()?)?;
    let item = Uuid::from_bytes(*slot[16..].first_chunk()?);
    let stamp = Stamp { epoch: long(48)?, sequence: long(56)? };
    let floor = Stamp { epoch: long(64)?, sequence: long(72)? };
    Some((long(8)?, Mark { item, role, epoch: long(40)?, stamp, floor }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::LocalDisk;
    use oms_core::testkit::crash::kill_at_every_operation;
    use oms_core::testkit::disk::SimDisk;

    fn mark(role: Role, epoch: u64) -> Mark {
        let stamp = Stamp { epoch, sequence: 9 };
        let floor = Stamp { epoch, sequence: 8 };
        Mark { item: Uuid::from_u128(1), role, epoch, stamp, floor }
    }

    #[test]
    fn what_is_no_mark_is_refused_and_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = LocalDisk::new(folder.path()).expect("a folder");
        let path = Path::new("mark");
        assert_eq!(MarkFile::peek(&disk, path).expect("nothing is there"), None);
        assert!(!folder.path().join("mark").exists(), "and nothing is made");
        for text in ["a note of somebody's", &"x".repeat(5_000)] {
            std::fs::write(folder.path().join("mark"), text).expect("write");
            assert!(matches!(MarkFile::peek(&disk, path), Err(Error::Corrupt { .. })));
            assert!(matches!(MarkFile::open(&disk, path), Err(Error::Corrupt { .. })));
            assert_eq!(std::fs::read_to_string(folder.path().join("mark")).expect("read"), text);
        }
        // Whoever made it may have been killed before it had its length.
        std::fs::write(folder.path().join("mark"), [0; 7]).expect("write");
        assert_eq!(MarkFile::peek(&disk, path).expect("says nothing"), None);
        let mut file = MarkFile::open(&disk, path).expect("says nothing");
        file.set(mark(Role::Replica, 2)).expect("set");
        assert_eq!(MarkFile::peek(&disk, path).expect("a mark"), Some(mark(Role::Replica, 2)));
    }

    #[test]
    fn the_last_statement_stays_and_a_torn_one_leaves_that_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = LocalDisk::new(folder.path()).expect("a folder");
        let path = Path::new("mark");
        let mut file = MarkFile::open(&disk, path).expect("made");
        assert_eq!(file.mark(), None);
        for (epoch, role) in (1..).zip(Role::ALL) {
            file.set(mark(role, epoch)).expect("set");
            let read = MarkFile::open(&disk, path).expect("open");
            assert_eq!(read.mark(), Some(mark(role, epoch)));
        }
        // The ninth statement is in the second slot.
        let torn = disk.open(path, OpenMode::Write).expect("open");
        torn.write_at(SLOT_BYTES as u64 + 40, &[0xff]).expect("tear");
        let mut read = MarkFile::open(&disk, path).expect("open");
        assert_eq!(read.mark(), Some(mark(Role::FailedOver, 8)));
        assert!(read.expect(Uuid::nil()).is_err());
        read.set(mark(Role::Active, 10)).expect("set");
        torn.write_at(40, &[0xff]).expect("damage");
        torn.write_at(SLOT_BYTES as u64 + 40, &[0xff]).expect("damage");
        assert!(matches!(MarkFile::open(&disk, path), Err(Error::Corrupt { .. })));
    }

    /// Changes a slot's count, and its checksum with it.
    fn recount(bytes: &mut [u8], slot: usize, count: u64) {
        let slot = &mut bytes[slot * SLOT_BYTES..][..RECORD_BYTES];
        slot[8..16].copy_from_slice(&count.to_le_bytes());
        let crc = crc32c::crc32c(&slot[..80]);
        slot[80..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Found by fuzzing: after the largest count, what was set could not be read.
    #[test]
    fn counts_go_around_and_slots_follow_each_other() {
        let (disk, path) = (SimDisk::default(), Path::new("mark"));
        let mut file = MarkFile::open(&disk, path).expect("made");
        file.set(mark(Role::Active, 1)).expect("set");
        file.set(mark(Role::Logging, 2)).expect("set");
        drop(file);
        let good = disk.contents().into_values().next().expect("a file");
        let open = |counts: [u64; 2]| {
            let mut bytes = good.clone();
            counts
                .into_iter()
                .enumerate()
                .for_each(|(slot, count)| recount(&mut bytes, slot, count));
            let raw = disk.open(path, OpenMode::Write).expect("open");
            raw.write_at(0, &bytes).expect("written");
            MarkFile::open(&disk, path)
        };
        let (even, odd) = (mark(Role::Logging, 2), mark(Role::Active, 1));
        assert_eq!(open([2, 1]).expect("opens").mark(), Some(even));
        assert_eq!(open([0, u64::MAX]).expect("opens").mark(), Some(even));
        let mut last = open([u64::MAX - 1, u64::MAX]).expect("opens");
        assert_eq!(last.mark(), Some(odd));
        last.set(mark(Role::Fenced, 3)).expect("set");
        let again = MarkFile::open(&disk, path).expect("opens");
        assert_eq!(again.mark(), Some(mark(Role::Fenced, 3)));
        for counts in [[2, 5], [4, 1], [u64::MAX / 2 + 1, 1]] {
            let refused = open(counts).expect_err("is refused").to_string();
            assert!(refused.contains("do not follow each other"), "{refused}");
        }
        for counts in [[1, 2], [3, 3], [3, 8]] {
            let is_refused = open(counts).map(|file| file.mark());
            assert!(!matches!(is_refused, Ok(Some(it)) if it == even), "{counts:?}");
        }
    }

    /// Auditor: what a mark was read to say is what it says after a power failure, also where a
    /// process was killed while it said it.
    #[test]
    fn what_a_killed_process_said_stays_said() {
        let path = Path::new("mark");
        let work = |disk: &SimDisk, (): &()| {
            let set = || -> Result<()> {
                let mut file = MarkFile::open(disk, path)?;
                for epoch in 1..=3 {
                    if file.mark().is_none_or(|mark| mark.epoch < epoch) {
                        file.set(mark(Role::Active, epoch))?;
                    }
                }
                Ok(())
            };
            set().is_ok()
        };
        let audit = |disk: &SimDisk, ()| {
            let read = MarkFile::open(disk, path).expect("open");
            assert_eq!(read.mark(), Some(mark(Role::Active, 3)));
        };
        kill_at_every_operation(12, |_disk| (), work, audit);
    }

    proptest::proptest! {
        /// Also behind a checksum that is right.
        #[test]
        fn any_bytes_say_something_or_are_refused(
            slots in proptest::collection::vec(proptest::collection::vec(0..=255_u8, 72), 0..3),
            is_checked: bool,
        ) {
            let mut bytes = Vec::new();
            for body in slots {
                let mut slot = [&MAGIC[..], &body].concat();
                slot.extend(crc32c::crc32c(&slot).to_le_bytes());
                slot.resize(SLOT_BYTES, 0);
                if !is_checked {
                    slot[80] ^= 1;
                }
                bytes.extend(slot);
            }
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join("mark"), bytes).expect("write");
            let disk = LocalDisk::new(folder.path()).expect("a folder");
            if let Ok(mut file) = MarkFile::open(&disk, Path::new("mark")) {
                let next = mark(Role::Fenced, 7);
                file.set(next).expect("set");
                let read = MarkFile::open(&disk, Path::new("mark")).expect("open");
                proptest::prop_assert_eq!(read.mark(), Some(next));
            }
        }
    }
}
