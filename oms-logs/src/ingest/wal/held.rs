//! Rows of tables that cannot take them, so that the log does not grow by what others write meanwhile.
//!
//! ```text
//!  wal/held/Perf.held = { group }*   one for each batch of the table's rows that was acknowledged and is
//!                                    in no file, with its log sequence
//! ```
//!
//! It is written before the segments go that had them, and removed once the table has them. Until then
//! both may be there, and a batch is known by its log sequence.

use super::QUARANTINE;
use super::frame::{Encoded, Entry, group_at, put_group};
use crate::Error;
use crate::workspace::LogDamage;
use bytes::Bytes;
use oms_core::disk::{Disk, DiskError, DiskExt as _, OpenMode};
use std::io;
use std::path::{Path, PathBuf};

const FOLDER: &str = "wal/held";

/// A batch with its log sequence.
pub(crate) type HeldEntry = (u64, Entry);

/// Where something is wrong, and what.
type Wrong = (u64, String);

/// Groups of these files are of no segment.
const SALT: u32 = 0;

fn path_of(table: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{table}.held"))
}

/// Makes durable the batches of a table, each with its log sequence, in place of what is there. Blocks.
///
/// # Errors
/// [`Error::Disk`]: what was there before is there.
pub(crate) fn put_held(
    disk: &dyn Disk,
    table: &str,
    batches: &[(u64, Encoded)],
) -> Result<(), Error> {
    disk.create_dir_all(Path::new(FOLDER))?;
    let (path, mut bytes, mut group) = (path_of(table), Vec::new(), Vec::new());
    for (lsn, batch) in batches {
        put_group(&mut group, SALT, *lsn, [batch].into_iter());
        bytes.extend_from_slice(&group);
    }
    let temporary = path.with_extension("tmp");
    let file = disk.open(&temporary, OpenMode::OpenOrCreate)?;
    file.set_len(0)?;
    file.write_at(0, &bytes)?;
    file.sync()?;
    disk.rename(&temporary, &path)?;
    disk.sync_dir(Path::new(FOLDER))?;
    Ok(())
}

/// Removes what is held for a table, which has it. Blocks.
///
/// # Errors
/// [`Error::Disk`].
pub(crate) fn remove_held(disk: &dyn Disk, table: &str) -> Result<(), Error> {
    let unless_gone = |done: Result<(), DiskError>| match done {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    };
    // A process that was killed may have removed it, and not for good.
    unless_gone(disk.remove(&path_of(table)))?;
    Ok(unless_gone(disk.sync_dir(Path::new(FOLDER)))?)
}

/// What is held: each batch with its log sequence, and what of it cannot be read. Blocks.
///
/// # Errors
/// [`Error::Disk`]; [`Error::Corrupt`] unless damage is to be put aside.
pub(crate) fn read_held(
    disk: &dyn Disk,
    quarantine: bool,
) -> Result<(Vec<HeldEntry>, Vec<LogDamage>), Error> {
    let (mut held, mut damages) = (Vec::new(), Vec::new());
    let names = match disk.list(Path::new(FOLDER)) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    for name in names {
        let path = Path::new(FOLDER).join(&name);
        if !name.ends_with(".held") {
            // It never got its name.
            disk.remove(&path)?;
            continue;
        }
        disk.settle(&path)?;
        let file = disk.open(&path, OpenMode::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        let (entries, wrong) = groups(&bytes.into());
        held.extend(entries);
        let Some((offset, reason)) = wrong else { continue };
        let path_text = path.display().to_string();
        if !quarantine {
            return Err(Error::Corrupt { path: path_text, offset, reason });
        }
        let moved_to = Path::new(QUARANTINE).join(&name);
        disk.create_dir_all(Path::new(QUARANTINE))?;
        disk.rename(&path, &moved_to)?;
        disk.sync_dir(Path::new(QUARANTINE))?;
        disk.sync_dir(Path::new(FOLDER))?;
        let moved_to = moved_to.display().to_string();
        let batches_missing = None;
        damages.push(LogDamage { path: path_text, offset, reason, batches_missing, moved_to });
    }
    Ok((held, damages))
}

/// The groups of a file, and where and why they end early.
fn groups(bytes: &Bytes) -> (Vec<HeldEntry>, Option<Wrong>) {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let (group, next) = match group_at(bytes, at, SALT) {
            Ok(Some(group)) => group,
            Ok(None) => {
                return (found, Some((at as u64, "a group's checksum does not match".to_owned())));
            }
            Err(reason) => return (found, Some((at as u64, reason))),
        };
        for (entry, lsn) in group.entries.into_iter().zip(group.first..) {
            found.push((lsn, entry));
        }
        at = next;
    }
    (found, None)
}

#[cfg(test)]
mod tests {
    use super::super::EntryWriter;
    use super::*;
    use oms_core::testkit::crash::{crash_at_every_operation, kill_at_every_operation};
    use oms_core::testkit::disk::SimDisk;

    const TABLE: &str = "Perf";

    fn batches(last: u64) -> Vec<(u64, Encoded)> {
        let batch = |lsn| {
            let mut entry = EntryWriter::new(String::new(), lsn, 0);
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(&[lsn as u8; 700]);
                Ok::<(), std::convert::Infallible>(())
            };
            let Ok(()) = entry.section(TABLE, write);
            (lsn, entry.finish())
        };
        (1..=last).map(batch).collect()
    }

    fn held(disk: &SimDisk) -> Vec<u64> {
        let (held, damages) = read_held(disk, false).expect("readable");
        assert!(damages.is_empty(), "{damages:?}");
        for (lsn, entry) in &held {
            assert_eq!(entry.sections[0].ipc[..], [*lsn as u8; 700]);
        }
        held.into_iter().map(|(lsn, _)| lsn).collect()
    }

    /// Auditor: what is held after a power failure is what was held before, or what was to be held,
    /// whole; and once it was answered, the latter.
    #[test]
    fn power_may_fail_at_any_operation_while_rows_are_put_aside_and_removed() {
        let prepare = |disk: &SimDisk| {
            disk.create_dir_all(Path::new("wal")).expect("the log's folder");
            put_held(disk, TABLE, &batches(3)).expect("held");
        };
        let work = |disk: &SimDisk, &(): &()| put_held(disk, TABLE, &batches(5)).is_ok();
        let audit = |disk: &SimDisk, (): (), is_done: bool| match held(disk).as_slice() {
            [1, 2, 3, 4, 5] => {}
            [1, 2, 3] if !is_done => {}
            other => panic!("{other:?}"),
        };
        assert!(crash_at_every_operation(20, prepare, work, audit) >= 5);
        kill_at_every_operation(20, prepare, work, |disk, ()| audit(disk, (), true));

        let work = |disk: &SimDisk, &(): &()| remove_held(disk, TABLE).is_ok();
        let audit = |disk: &SimDisk, (): (), is_done: bool| match held(disk).as_slice() {
            [] => {}
            [1, 2, 3] if !is_done => {}
            other => panic!("{other:?}"),
        };
        assert!(crash_at_every_operation(20, prepare, work, audit) >= 2);
        kill_at_every_operation(20, prepare, work, |disk, ()| audit(disk, (), true));
    }

    #[test]
    fn a_flipped_bit_is_told_by_its_place_and_what_is_before_it_is_read() {
        let disk = SimDisk::default();
        put_held(&disk, TABLE, &batches(3)).expect("held");
        let length = disk.contents()[&path_of(TABLE)].len();
        for at in (0..length).step_by(7) {
            disk.flip_bit(&path_of(TABLE), at, 3);
            let error = read_held(&disk, false).expect_err("damaged");
            let Error::Corrupt { path, offset, .. } = error else { panic!("{error}") };
            assert!(path.ends_with("Perf.held") && offset as usize <= at, "{path} {offset}");
            let copy = disk.clone();
            let (held, damages) = read_held(&copy, true).expect("put aside");
            assert_eq!((held.len(), damages.len()), (at * 3 / length, 1), "byte {at}");
            copy.rename(Path::new(&damages[0].moved_to), &path_of(TABLE)).expect("back");
            disk.flip_bit(&path_of(TABLE), at, 3);
        }
    }
}
