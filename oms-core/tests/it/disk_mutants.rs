//! Disks with one flaw each: every one must fall to a named case of the suite.

use oms_core::disk::{Disk, DiskError, DiskFile, DiskLock, OpenMode};
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::{CASES, SimDisk, what_is_synced_survives};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path};

/// The case that needs a crash.
const SURVIVES: &str = "what_is_synced_survives";

/// What a mutant does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    None,
    ReadsShort,
    WritesAtTheEnd,
    CreateNewTakesAnything,
    ReadersMayWrite,
    RenameReplacesNothing,
    ListsUnsorted,
    LeavesItsFolder,
    RenameNewReplaces,
    RenameNewLeavesTheOldName,
    RenameNewChecksFirst,
    LocksNothing,
    LocksForever,
    LockCutsItsFile,
    ForgetsToSyncFolders,
    ForgetsToSyncFiles,
}

#[derive(Clone, Debug)]
struct Mutant {
    inner: SimDisk,
    flaw: Flaw,
}

impl Mutant {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn has_name(&self, path: &Path) -> bool {
        self.inner.open(path, OpenMode::Read).is_ok() || self.inner.list(path).is_ok()
    }
}

impl Disk for Mutant {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn DiskFile>, DiskError> {
        let inside: std::path::PathBuf =
            path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let path = if self.has(Flaw::LeavesItsFolder) { &inside } else { path };
        let mode = match (self.flaw, mode) {
            (Flaw::CreateNewTakesAnything, OpenMode::CreateNew) => OpenMode::OpenOrCreate,
            (Flaw::ReadersMayWrite, OpenMode::Read) => OpenMode::Write,
            (_, mode) => mode,
        };
        let inner = self.inner.open(path, mode)?;
        Ok(Box::new(MutantFile { inner, flaw: self.flaw }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        if self.has(Flaw::RenameReplacesNothing) {
            return self.inner.rename_new(from, to);
        }
        self.inner.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        match self.flaw {
            Flaw::RenameNewReplaces => self.inner.rename(from, to),
            Flaw::RenameNewLeavesTheOldName => {
                self.inner.rename_new(from, to)?;
                self.inner.open(from, OpenMode::OpenOrCreate).map(|_file| ())
            }
            Flaw::RenameNewChecksFirst if !self.has_name(to) => {
                // Others come in between the check and the change.
                std::thread::sleep(std::time::Duration::from_millis(20));
                self.inner.rename(from, to)
            }
            _ => self.inner.rename_new(from, to),
        }
    }

    fn lock(&self, path: &Path) -> Result<DiskLock, DiskError> {
        match self.flaw {
            Flaw::LocksNothing => {
                self.inner.open(path, OpenMode::OpenOrCreate).map(|_file| DiskLock::new(()))
            }
            Flaw::LocksForever => {
                std::mem::forget(self.inner.lock(path)?);
                Ok(DiskLock::new(()))
            }
            Flaw::LockCutsItsFile => {
                let lock = self.inner.lock(path)?;
                self.inner.open(path, OpenMode::Write)?.set_len(0)?;
                Ok(lock)
            }
            _ => self.inner.lock(path),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.inner.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.inner.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        let mut names = self.inner.list(path)?;
        if self.has(Flaw::ListsUnsorted) {
            names.reverse();
        }
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        if self.has(Flaw::ForgetsToSyncFolders) {
            return Ok(());
        }
        self.inner.sync_dir(path)
    }
}

#[derive(Debug)]
struct MutantFile {
    inner: Box<dyn DiskFile>,
    flaw: Flaw,
}

impl DiskFile for MutantFile {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        let count =
            if self.flaw == Flaw::ReadsShort { bytes.len().min(1 << 20) } else { bytes.len() };
        self.inner.read_at(offset, &mut bytes[..count])
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let end = self.inner.len()?;
        let offset = if self.flaw == Flaw::WritesAtTheEnd { end } else { offset };
        self.inner.write_at(offset, bytes)
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.inner.set_len(len)
    }

    fn sync(&self) -> Result<(), DiskError> {
        if self.flaw == Flaw::ForgetsToSyncFiles {
            return Ok(());
        }
        self.inner.sync()
    }
}

/// Whether `flaw` fails the case called `name`.
fn is_caught(flaw: Flaw, name: &str) -> bool {
    let disk = Mutant { inner: SimDisk::default(), flaw };
    let run = || {
        if name == SURVIVES {
            what_is_synced_survives(&disk, &|seed| disk.inner.crash(&SeededEntropy::new(seed)));
        } else {
            let (_, case) = CASES.iter().find(|(case, _)| *case == name).expect("such a case");
            case(&disk);
        }
    };
    catch_unwind(AssertUnwindSafe(run)).is_err()
}

#[test]
fn a_sound_disk_passes_every_case() {
    for name in CASES.iter().map(|(name, _)| *name).chain([SURVIVES]) {
        assert!(!is_caught(Flaw::None, name), "{name}");
    }
}

#[test]
fn every_flaw_is_caught_by_the_case_that_names_it() {
    let expected = [
        (Flaw::ReadsShort, "a_large_read_is_whole"),
        (Flaw::WritesAtTheEnd, "reads_what_was_written"),
        (Flaw::CreateNewTakesAnything, "modes_are_kept"),
        (Flaw::ReadersMayWrite, "modes_are_kept"),
        (Flaw::RenameReplacesNothing, "names_are_kept"),
        (Flaw::ListsUnsorted, "names_are_kept"),
        (Flaw::LeavesItsFolder, "paths_stay_inside"),
        (Flaw::RenameNewReplaces, "rename_new_replaces_nothing"),
        (Flaw::RenameNewLeavesTheOldName, "rename_new_replaces_nothing"),
        (Flaw::RenameNewChecksFirst, "rename_new_replaces_nothing"),
        (Flaw::LocksNothing, "a_lock_has_one_holder"),
        (Flaw::LocksForever, "a_lock_has_one_holder"),
        (Flaw::LockCutsItsFile, "a_lock_has_one_holder"),
        (Flaw::ForgetsToSyncFolders, SURVIVES),
        (Flaw::ForgetsToSyncFiles, SURVIVES),
    ];
    for (flaw, case) in expected {
        assert!(is_caught(flaw, case), "{flaw:?} got past {case}");
    }
    for (name, _) in CASES {
        assert!(expected.iter().any(|(_, case)| case == name), "{name} catches no flaw");
    }
}
