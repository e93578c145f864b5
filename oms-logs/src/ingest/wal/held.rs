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
use oms_core::disk::{Disk, DiskExt as _, OpenMode};
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
    match disk.remove(&path_of(table)) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => Ok(removed.and_then(|()| disk.sync_dir(Path::new(FOLDER)))?),
    }
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
