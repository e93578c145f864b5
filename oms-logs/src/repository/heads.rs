//! The newest versions of the tables that were seen here, so that a Delta log which lost its end, or all
//! of itself, does not pass for a shorter one.
//!
//! It is written after what it tells of, and may be behind that: then less is found, and nothing wrong.

use crate::Error;
use crate::repository::folder::{read_document, write_document};
use oms_core::Disk;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The document in the workspace's folder.
pub(crate) const FILE: &str = "heads.json";

const FORMAT: u32 = 1;

/// What is known of one table.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Its newest Delta version.
    pub(crate) version: u64,
    /// The newest log sequence that it holds.
    pub(crate) through: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: u32,
    tables: BTreeMap<String, Head>,
    /// CRC32C of the tables as JSON, so that a bit which flipped here accuses no table.
    crc32c: u32,
}

impl Document {
    fn of(tables: &BTreeMap<String, Head>) -> Self {
        Self { format: FORMAT, tables: tables.clone(), crc32c: sum(tables) }
    }
}

fn sum(tables: &BTreeMap<String, Head>) -> u32 {
    crc32c::crc32c(&serde_json::to_vec(tables).unwrap_or_default())
}

/// The heads of all tables.
#[derive(Debug)]
pub(crate) struct Heads {
    disk: Arc<dyn Disk>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tables: BTreeMap<String, Head>,
    is_saved: bool,
}

impl Heads {
    /// Reads them; blocks. What cannot be understood is none, and written anew.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub(crate) fn open(disk: Arc<dyn Disk>) -> Result<Self, Error> {
        let tables = match read_document::<Document>(disk.as_ref(), FILE) {
            Ok(None) => BTreeMap::new(),
            Ok(Some(found)) if found.format == FORMAT && found.crc32c == sum(&found.tables) => {
                found.tables
            }
            Ok(Some(_)) => forgotten("its checksum or its format is another"),
            Err(Error::Corrupt { reason, .. }) => forgotten(&reason),
            Err(error) => return Err(error),
        };
        Ok(Self { disk, known: Mutex::new(Known { tables, is_saved: true }) })
    }

    /// Every table that was seen.
    pub(crate) fn all(&self) -> BTreeMap<String, Head> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).tables.clone()
    }

    pub(crate) fn of(&self, table: &str) -> Option<Head> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).tables.get(table).copied()
    }

    /// Takes what a table is now.
    pub(crate) fn note(&self, table: &str, head: Head) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.tables.get(table).copied().unwrap_or_default();
        let after = Head {
            version: before.version.max(head.version),
            through: before.through.max(head.through),
        };
        if known.tables.insert(table.to_owned(), after) != Some(after) {
            known.is_saved = false;
        }
    }

    /// Makes durable what was noted since; blocks.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub(crate) fn save(&self) -> Result<(), Error> {
        let document = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.is_saved {
                return Ok(());
            }
            known.is_saved = true;
            Document::of(&known.tables)
        };
        let saved = write_document(self.disk.as_ref(), FILE, &document);
        if saved.is_err() {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).is_saved = false;
        }
        saved
    }
}

fn forgotten(reason: &str) -> BTreeMap<String, Head> {
    tracing::error!(
        path = FILE,
        reason,
        "which versions of tables were seen is not known any more"
    );
    BTreeMap::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::testkit::disk::SimDisk;
    use std::path::Path;

    #[test]
    fn heads_are_read_again_and_none_is_believed_that_flipped() {
        let disk = SimDisk::default();
        let open = || Heads::open(Arc::new(disk.clone())).expect("heads");
        let heads = open();
        heads.note("Perf", Head { version: 7, through: 40 });
        heads.note("Perf", Head { version: 5, through: 41 });
        heads.note("Syslog", Head { version: 0, through: 9 });
        heads.save().expect("saved");
        let perf = Some(Head { version: 7, through: 41 });
        assert_eq!(open().of("Perf"), perf);
        assert_eq!(open().all().len(), 2);
        let length = disk.contents()[Path::new(FILE)].len();
        for at in 0..length {
            for bit in 0..8 {
                disk.flip_bit(Path::new(FILE), at, bit);
                let found = open().of("Perf");
                assert!(found.is_none() || found == perf, "byte {at}: {found:?}");
                disk.flip_bit(Path::new(FILE), at, bit);
            }
        }
        assert_eq!(open().of("Perf"), perf);
    }

    /// Auditor: after a power failure the heads are those that were saved last, or those that were
    /// being saved; once it was answered, the latter.
    #[test]
    fn power_may_fail_at_any_operation_while_heads_are_saved() {
        use oms_core::testkit::crash::{crash_at_every_operation, kill_at_every_operation};
        let save = |disk: &SimDisk, version| {
            let heads = Heads::open(Arc::new(disk.clone()))?;
            heads.note("Perf", Head { version, through: version });
            heads.save()
        };
        let prepare = |disk: &SimDisk| save(disk, 3).expect("saved");
        let work = |disk: &SimDisk, &(): &()| save(disk, 4).is_ok();
        let audit = |disk: &SimDisk, (): (), is_done: bool| {
            let heads = Heads::open(Arc::new(disk.clone())).expect("heads");
            let version = heads.of("Perf").map(|head| head.version);
            assert!(version == Some(4) || (!is_done && version == Some(3)), "{version:?}");
        };
        assert!(crash_at_every_operation(20, prepare, work, audit) >= 5);
        kill_at_every_operation(20, prepare, work, |disk, ()| audit(disk, (), true));
    }
}
