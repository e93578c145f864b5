//! The creation of a journal's file.
//!
//! A new file is built in memory and written by the [`Disk`], so that a test can let power fail at each
//! of its steps. From then on SQLite reads and writes the file by itself.

use super::failure;
use super::file::{APPLICATION_ID, FORMAT, SCHEMA, beside, disk_failure};
use crate::ErrorKind;
use crate::disk::{Disk, DiskError, DiskExt, OpenMode};
use crate::journal::JournalError;
use rusqlite::{Connection, MAIN_DB};
use std::path::Path;

/// Creates the file if there is none, in the folder of the disk, which is called `folder`. One that is
/// there is made durable: whoever made it may have been killed before its name was synced.
pub(super) fn ensure(disk: &dyn Disk, folder: &Path, name: &Path) -> Result<(), JournalError> {
    match length(disk, name).map_err(disk_failure)? {
        None => create(disk, folder, name),
        Some(0) => {
            let reason = format!("{} is empty", folder.join(name).display());
            Err(JournalError::Corrupt { reason })
        }
        Some(_) => disk.settle(name).map_err(disk_failure),
    }
}

/// Makes the file under another name, so that under its own there is a whole one or none.
fn create(disk: &dyn Disk, folder: &Path, name: &Path) -> Result<(), JournalError> {
    let orphan = beside(name, "-wal");
    if length(disk, &orphan).map_err(disk_failure)?.is_some() {
        // SQLite would replay it into the new file.
        let orphan = folder.join(orphan);
        let reason = format!("{} is there without its journal", orphan.display());
        return Err(JournalError::Corrupt { reason });
    }
    let bytes = empty_journal().map_err(|error| failure(&error))?;
    publish(disk, name, &bytes).map_err(disk_failure)
}

fn publish(disk: &dyn Disk, name: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let draft = beside(name, ".new");
    // Earlier versions had SQLite write the draft, with a companion that it would play back.
    for leftover in [&draft, &beside(&draft, "-journal")] {
        match disk.remove(leftover) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let file = disk.open(&draft, OpenMode::CreateNew)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename_new(&draft, name)?;
    disk.sync_dir(Path::new(""))
}

/// The length of a file, if it is there.
fn length(disk: &dyn Disk, name: &Path) -> Result<Option<u64>, DiskError> {
    match disk.open(name, OpenMode::Read) {
        Ok(file) => file.len().map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes of a journal without events.
fn empty_journal() -> rusqlite::Result<Vec<u8>> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(SCHEMA)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", FORMAT)?;
    Ok(connection.serialize(MAIN_DB)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::SqliteJournal;
    use crate::testkit::crash::{crash_at_every_operation, kill_at_every_operation};
    use crate::testkit::disk::SimDisk;
    use crate::testkit::fault::{Faults, Faulty};
    use std::sync::Arc;

    const NAME: &str = "journal.db";

    /// What a process does that opens the journal.
    fn open(disk: &dyn Disk) -> Result<(), JournalError> {
        ensure(disk, Path::new("data"), Path::new(NAME))
    }

    /// SQLite takes what is on the disk for a journal, whole and without events.
    fn assert_is_journal(disk: &SimDisk) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        let bytes = disk.contents().remove(Path::new(NAME)).expect("a file of that name");
        std::fs::write(&path, &bytes).expect("written");
        drop(SqliteJournal::open(&path).expect("a journal"));
        let connection = Connection::open(&path).expect("opened");
        let check = |query: &str| {
            connection.query_row(query, [], |row| row.get::<_, String>(0)).expect("an answer")
        };
        assert_eq!(check("PRAGMA integrity_check"), "ok");
        assert_eq!(check("SELECT count(*) || '' FROM event"), "0");
    }

    /// A draft of an earlier process, and what SQLite left beside one.
    fn leave_drafts(disk: &SimDisk) {
        for name in ["journal.db.new", "journal.db.new-journal"] {
            let file = disk.open(Path::new(name), OpenMode::CreateNew).expect("created");
            file.write_at(0, b"half of a journal").expect("written");
            file.sync().expect("synced");
        }
        disk.sync_dir(Path::new("")).expect("synced");
    }

    /// Whenever power fails, the name stands for a whole journal or for nothing, and for a journal
    /// once the creation is done.
    #[test]
    fn a_journal_is_created_whole_or_not_at_all() {
        for prepare in [|_: &SimDisk| {}, leave_drafts as fn(&SimDisk)] {
            let work = |disk: &SimDisk, (): &()| open(disk).is_ok();
            let audit = |disk: &SimDisk, (), is_done: bool| {
                let is_named = disk.contents().contains_key(Path::new(NAME));
                assert!(is_named || !is_done, "a created journal is gone");
                if is_named {
                    assert_is_journal(disk);
                }
                open(disk).expect("the next process goes on");
                assert_is_journal(disk);
            };
            let operations = crash_at_every_operation(8, prepare, work, audit);
            assert!(operations >= 8, "{operations}");
        }
    }

    /// A journal that a killed process had made is durable before the next one appends to it.
    #[test]
    fn a_journal_that_is_found_is_durable() {
        let work = |disk: &SimDisk, (): &()| open(disk).is_ok();
        kill_at_every_operation(8, leave_drafts, work, |disk, ()| assert_is_journal(disk));
    }

    /// A step that fails, or whose answer is lost, is an error, and the next try goes on.
    #[test]
    fn a_failing_disk_is_an_error_and_no_half_of_a_journal() {
        let (mut failed, mut tries) = (0, 0);
        for seed in 0..60 {
            let faults = Arc::new(Faults::new(seed));
            let disk = Faulty::new(SimDisk::default(), Arc::clone(&faults));
            faults.set_before(100);
            faults.set_after(100);
            faults.set_torn(300);
            while let Err(error) = open(&disk) {
                assert!(error.to_string().contains(NAME) || error.to_string().contains("folder"));
                if disk.inner().contents().contains_key(Path::new(NAME)) {
                    assert_is_journal(disk.inner());
                }
                failed += 1;
                assert!(failed < 10_000, "it never ends");
            }
            tries += 1;
            faults.calm();
            disk.inner().crash(&crate::entropy::SeededEntropy::new(seed));
            assert_is_journal(disk.inner());
        }
        assert!(failed > tries, "{failed} of {tries}");
    }

    #[test]
    fn a_log_without_its_journal_is_named_and_kept() {
        let disk = SimDisk::default();
        let log = Path::new("journal.db-wal");
        disk.open(log, OpenMode::CreateNew).expect("created").write_at(0, b"x").expect("written");
        let error = open(&disk).expect_err("refused");
        assert!(
            matches!(&error, JournalError::Corrupt { reason } if reason.starts_with("data/journal.db-wal is there"))
        );
        assert_eq!(disk.contents().len(), 1);
    }
}
