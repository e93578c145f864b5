//! The files of a vault: where each lies, written once and durable before anyone is told.
//!
//! Every file but `config` is named by the SHA-256 of its bytes, so that whoever holds a copy can
//! check it without a key. A file is written under `oms/tmp/`, synced, renamed to its name, and
//! the folder is synced: a crash leaves the whole file or none.

use super::format::{
    INDEX_BYTES_MAX, IndexId, KeyId, LockId, PackId, SMALL_FILE_BYTES_MAX, SnapshotId,
};
use crate::error::Error;
use jiff::SignedDuration;
use oms_core::disk::{Disk, DiskError, DiskFile, OpenMode};
use oms_core::{Clock, Entropy, EntropyExt as _};
use sha2::{Digest, Sha256};
use std::fmt::{Debug, Display};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// The most bytes a pack file may have: what its 32-bit offsets reach, within reason.
pub(crate) const PACK_BYTES_MAX: usize = 1 << 30;

/// How old a file under `oms/tmp/` must be before it counts as left over by a crash.
const LEFTOVER_AGE_MIN: SignedDuration = SignedDuration::from_hours(24);

/// What an interrupted creation leaves in a vault's folder, and what a new file system has.
const ROOT_NAMES: [&str; 8] =
    ["config", "keys", "index", "snapshots", "locks", "data", "oms", "lost+found"];

const TMP_FOLDER: &str = "oms/tmp";

/// An id that names a file of one folder.
pub(crate) trait FileId: Copy + Debug + Display + FromStr + Ord + Sized {
    /// The folder.
    const FOLDER: &'static str;
    /// The most bytes such a file may have.
    const BYTES_MAX: usize;
    /// The id that the SHA-256 of a file's bytes makes.
    fn of_hash(hash: [u8; 32]) -> Self;
    /// The file's path in the vault.
    fn path(self) -> PathBuf {
        Path::new(Self::FOLDER).join(self.to_string())
    }
}

macro_rules! file_id {
    ($id:ident, $folder:literal, $limit:expr) => {
        impl FileId for $id {
            const FOLDER: &'static str = $folder;
            const BYTES_MAX: usize = $limit;
            fn of_hash(hash: [u8; 32]) -> Self {
                Self::from_bytes(hash)
            }
        }
    };
}
file_id!(KeyId, "keys", SMALL_FILE_BYTES_MAX);
file_id!(IndexId, "index", INDEX_BYTES_MAX);
file_id!(SnapshotId, "snapshots", SMALL_FILE_BYTES_MAX);
file_id!(LockId, "locks", SMALL_FILE_BYTES_MAX);

impl FileId for PackId {
    const FOLDER: &'static str = "data";
    const BYTES_MAX: usize = PACK_BYTES_MAX;

    fn of_hash(hash: [u8; 32]) -> Self {
        Self::from_bytes(hash)
    }

    /// Packs lie in 256 folders, by the first two digits of their names.
    fn path(self) -> PathBuf {
        let name = self.to_string();
        Path::new(Self::FOLDER).join(&name[..2]).join(&name)
    }
}

/// Reads and writes whole files of a vault.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Store {
    /// Refuses a folder in which somebody else's files are: a vault has one of its own.
    pub(crate) fn check_free(&self) -> Result<(), Error> {
        let names = self.names(Path::new(""))?;
        match names.into_iter().find(|name| !ROOT_NAMES.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let reason = "holds other files: a vault wants a new or empty folder";
                Err(Error::Invalid {
                    what: "folder of a vault",
                    value: format!("in it: {name}"),
                    reason,
                })
            }
        }
    }

    /// Makes the folders of a new vault, except those of packs, which are made as needed.
    pub(crate) fn create_folders(&self) -> Result<(), Error> {
        for folder in ["keys", "index", "snapshots", "locks", "data", TMP_FOLDER] {
            self.disk.create_dir_all(Path::new(folder))?;
        }
        Ok(())
    }

    /// Makes the names of the vault's files durable that a new snapshot will rely on. Each file's
    /// bytes were durable before it had its name; the program that gave it may have been killed
    /// before the name was.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        for folder in ["", KeyId::FOLDER, IndexId::FOLDER] {
            self.disk.sync_dir(Path::new(folder))?;
        }
        Ok(())
    }

    /// Writes a file named by its hash. `Ok` means durable.
    pub(crate) fn write<I: FileId>(&self, bytes: &[u8]) -> Result<I, Error> {
        let id = I::of_hash(Sha256::digest(bytes).into());
        self.write_as(&id.path(), bytes)?;
        Ok(id)
    }

    /// Writes a file in one step. `Ok` means durable.
    pub(crate) fn write_as(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let now = self.clock.now().as_second();
        let number = self.entropy.number();
        let temporary = Path::new(TMP_FOLDER).join(format!("{now}-{number:016x}"));
        let written = self.write_and_rename(&temporary, path, bytes);
        if written.is_err() {
            // Whatever is left is cleared away later, so a failure here changes nothing.
            let _ = self.disk.remove(&temporary);
        }
        written
    }

    fn write_and_rename(&self, temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let file = match self.disk.open(temporary, OpenMode::CreateNew) {
            // A vault made by restic has no such folder yet.
            Err(error) if is_not_found(&error) => {
                self.disk.create_dir_all(Path::new(TMP_FOLDER))?;
                self.disk.open(temporary, OpenMode::CreateNew)?
            }
            opened => opened?,
        };
        file.write_at(0, bytes)?;
        file.sync()?;
        drop(file);
        let folder = path.parent().unwrap_or(Path::new(""));
        match self.disk.rename(temporary, path) {
            Err(error) if is_not_found(&error) => {
                self.disk.create_dir_all(folder)?;
                self.disk.rename(temporary, path)?;
            }
            renamed => renamed?,
        }
        self.disk.sync_dir(folder)?;
        Ok(())
    }

    /// Removes what crashes of the past left under `oms/tmp/`.
    pub(crate) fn remove_leftovers(&self) -> Result<(), Error> {
        let limit = self.clock.now().as_second() - LEFTOVER_AGE_MIN.as_secs();
        for name in self.names(Path::new(TMP_FOLDER))? {
            let made = name.split_once('-').and_then(|(seconds, _)| seconds.parse::<i64>().ok());
            if made.is_some_and(|made| made < limit) {
                ignore_not_found(self.disk.remove(&Path::new(TMP_FOLDER).join(name)))?;
            }
        }
        Ok(())
    }

    /// Reads a whole file of at most `limit` bytes.
    pub(crate) fn read_path(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
        let file = self.disk.open(path, OpenMode::Read)?;
        read_whole(&*file, path, limit)
    }

    /// Reads a file and checks that its bytes make its name.
    pub(crate) fn read<I: FileId>(&self, id: I) -> Result<Vec<u8>, Error> {
        let path = id.path();
        let bytes = self.read_path(&path, I::BYTES_MAX)?;
        if I::of_hash(Sha256::digest(&bytes).into()) != id {
            return Err(Error::corrupt(
                path.to_string_lossy(),
                "its SHA-256 does not match its name",
            ));
        }
        Ok(bytes)
    }

    /// The ids in a folder, sorted. Names that are no ids, such as another program's temporary
    /// files, are left out.
    pub(crate) fn list<I: FileId>(&self) -> Result<Vec<I>, Error> {
        let parse = |names: Vec<String>| names.into_iter().filter_map(|name| name.parse().ok());
        let mut ids: Vec<I> = parse(self.names(Path::new(I::FOLDER))?).collect();
        ids.sort();
        Ok(ids)
    }

    /// The packs there are, sorted.
    pub(crate) fn list_packs(&self) -> Result<Vec<PackId>, Error> {
        let mut packs = Vec::new();
        for folder in self.names(Path::new(PackId::FOLDER))? {
            if folder.len() != 2 {
                continue;
            }
            let names = self.names(&Path::new(PackId::FOLDER).join(&folder))?;
            packs.extend(names.iter().filter_map(|name| name.parse::<PackId>().ok()));
        }
        packs.sort_unstable();
        Ok(packs)
    }

    /// Removes a file; one that is gone already is fine.
    pub(crate) fn remove<I: FileId>(&self, id: I) -> Result<(), Error> {
        ignore_not_found(self.disk.remove(&id.path()))?;
        Ok(())
    }

    /// Whether a file is there.
    pub(crate) fn exists(&self, path: &Path) -> Result<bool, Error> {
        match self.disk.open(path, OpenMode::Read) {
            Ok(_) => Ok(true),
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn names(&self, folder: &Path) -> Result<Vec<String>, Error> {
        match self.disk.list(folder) {
            Err(error) if is_not_found(&error) => Ok(Vec::new()),
            names => Ok(names?),
        }
    }
}

/// Reads all of an open file.
pub(crate) fn read_whole(file: &dyn DiskFile, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
    let length = file.len()?;
    let size = usize::try_from(length)
        .ok()
        .filter(|size| *size <= limit)
        .ok_or(Error::TooLarge { what: "vault file", actual: length, limit: limit as u64 })?;
    let mut bytes = vec![0; size];
    if file.read_at(0, &mut bytes)? != size {
        return Err(Error::corrupt(path.to_string_lossy(), "became shorter while it was read"));
    }
    Ok(bytes)
}

pub(crate) fn is_not_found(error: &DiskError) -> bool {
    error.source.kind() == io::ErrorKind::NotFound
}

fn ignore_not_found(result: Result<(), DiskError>) -> Result<(), DiskError> {
    result.or_else(|error| if is_not_found(&error) { Ok(()) } else { Err(error) })
}
