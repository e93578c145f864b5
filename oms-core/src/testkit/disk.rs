//! A disk in memory that forgets what was not synced, and the suite of every [`Disk`].

mod change;

mod claim;

mod names;

pub use claim::{
    a_large_read_is_whole, a_lock_has_one_holder, rename_new_replaces_nothing,
    what_is_synced_survives,
};

use crate::disk::{Disk, DiskError, DiskFile, DiskLock, OpenMode, check_relative};
use crate::entropy::Entropy;
use change::Change;
use names::NameTable;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that a device writes in one piece; a torn write ends between two of them.
pub const SECTOR_BYTES: usize = 512;

/// A disk in memory. Clones share it, as handles on one machine's disk do.
///
/// It keeps two images: what programs see, and what would be left after a power failure.
/// [`SimDisk::crash`] makes the second the first, after letting chance decide for each unsynced
/// write whether it reached the device, wholly or in part, and for each folder how many of its
/// unsynced name changes did, in the order in which they were made. Different folders have nothing
/// to do with each other: a file that was renamed from one to another can be left under both names
/// (never under none), until the folder that it came from is synced.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, Contents>,
    next_file: u64,
    names: NameTable,
    folders: BTreeSet<PathBuf>,
    /// How many operations from now on fail, and how.
    failing: Option<(u64, io::ErrorKind)>,
    /// After how many operations every further one fails, and how.
    broken: Option<(u64, io::ErrorKind)>,
    /// At which sync, after how many of its kind, that begins.
    breaks_at: Option<(Forgotten, u64)>,
    /// Whether it begins at the sync of a write that can be torn.
    breaks_at_large: bool,
    /// Whether power failures tear what can be torn and lose no write.
    tears: bool,
    /// Counts changes of files, so that their order is known across files.
    next_change: u64,
    capacity: Option<u64>,
    locks: BTreeSet<PathBuf>,
    /// Counts crashes, so that handles from before one stay dead.
    life: u64,
    /// Syncs that the program under test is made to forget.
    forgotten: Option<Forgotten>,
    watch: Option<Watch>,
    losses: Losses,
}

super::tally::tally! {
    /// What power failures did to a disk.
    Losses {
        /// How often power failed.
        power_failures,
        /// Unsynced changes of files that reached the device all the same.
        kept,
        /// Those that did not.
        lost,
        /// Those of which a part did.
        torn,
        /// Those that did where one made before them, of any file, did not.
        reordered,
        /// Unsynced names, and removals of names, that were lost.
        names,
    }
}

/// What a test does in the middle of a program's work.
struct Watch(Box<dyn FnMut(&Path) -> bool + Send>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// A bug to plant: a kind of sync that a program asks for and that does not happen, as if it had
/// forgotten to ask. A simulation that passes all the same proves nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Forgotten {
    /// Syncs of written bytes.
    Files,
    /// Syncs of names in folders.
    Folders,
}

#[derive(Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// What was not synced, with its number.
    pending: Vec<(u64, Change)>,
}

impl SimDisk {
    /// Power fails: every open handle is dead, and what was not synced is lost, kept or torn as
    /// chance decides.
    pub fn crash(&self, entropy: &dyn Entropy) {
        self.kill();
        let mut state = self.state();
        let mut losses = Losses { power_failures: 1, ..Losses::default() };
        losses.names = state.names.crash(entropy);
        let tears = state.tears;
        let (mut first_lost, mut survived) = (u64::MAX, Vec::new());
        for contents in state.files.values_mut() {
            let mut image = std::mem::take(&mut contents.durable);
            for (number, change) in std::mem::take(&mut contents.pending) {
                let bytes = change.len();
                let survivors = match tears {
                    true => change.torn(entropy),
                    false => change.survivors(entropy),
                };
                survivors.iter().for_each(|survivor| survivor.apply(&mut image));
                if survivors.is_empty() {
                    losses.lost += 1;
                    first_lost = first_lost.min(number);
                    continue;
                }
                let is_whole = survivors.iter().map(Change::len).sum::<usize>() == bytes;
                losses.kept += u64::from(is_whole);
                losses.torn += u64::from(!is_whole);
                survived.push(number);
            }
            contents.bytes.clone_from(&image);
            contents.durable = image;
        }
        let reordered = survived.into_iter().filter(|number| *number > first_lost).count();
        losses.reordered = reordered as u64;
        state.losses += losses;
        let alive: BTreeSet<u64> = state.names.seen().values().copied().collect();
        state.files.retain(|file, _| alive.contains(file));
    }

    /// The program ends and the machine goes on, as after `kill -9`: every open handle is dead and
    /// every lock free, and what was written is there to read, without being durable.
    pub fn kill(&self) {
        let mut state = self.state();
        state.life += 1;
        state.failing = None;
        state.broken = None;
        state.breaks_at = None;
        state.breaks_at_large = false;
        state.watch = None;
        state.locks.clear();
    }

    /// Makes the next `operations` calls fail without effect.
    pub fn fail_next(&self, operations: u64, kind: io::ErrorKind) {
        self.state().failing = Some((operations, kind));
    }

    /// Lets `operations` calls through and makes every later one fail, until a crash: with every
    /// number from 0 on, each point of a program is one at which it stops.
    pub fn fail_after(&self, operations: u64, kind: io::ErrorKind) {
        self.state().broken = Some((operations, kind));
    }

    /// Lets everything through but the next sync of a kind after so many of them, and makes that and
    /// everything later fail, until a crash: a program that stops where something is not durable.
    pub fn fail_from_sync(&self, kind: Forgotten, syncs: u64) {
        self.state().breaks_at = Some((kind, syncs));
    }

    /// Lets everything through but the next sync of a file with an unsynced write of more than one
    /// sector, and makes that and everything later fail, until a crash: a program that stops where a
    /// write can be torn.
    pub fn fail_from_large_sync(&self) {
        self.state().breaks_at_large = true;
    }

    /// Whether, from now on, power failures tear every unsynced write of more than one sector and lose
    /// no write as a whole, in place of what chance decides: for a program that is to live with torn
    /// writes, and for one that would be found out by nothing else.
    pub fn tear_writes(&self, tears: bool) {
        self.state().tears = tears;
    }

    /// Whether every operation fails until a crash. A simulated machine whose disk does so has lost
    /// its power.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state().broken.is_some_and(|(left, _)| left == 0)
    }

    /// Calls `watch` at the beginning of every operation, with its path and on its thread, until it
    /// answers that it has seen enough or a crash comes: for something that is to happen in the middle
    /// of a program's work. The disk waits meanwhile, so `watch` must not use it.
    pub fn watch(&self, watch: impl FnMut(&Path) -> bool + Send + 'static) {
        self.state().watch = Some(Watch(Box::new(watch)));
    }

    /// Plants a bug from now on.
    pub fn forget(&self, forgotten: Forgotten) {
        self.state().forgotten = Some(forgotten);
    }

    /// What power failures did to it so far: a simulation that is to say something about lost writes
    /// has lost some.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.state().losses
    }

    /// Refuses writes that would make the sum of all files larger, in bytes, as a full disk does.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Flips one bit of a file, as a failing device does.
    ///
    /// # Panics
    /// If there is no such file or byte: the test is wrong.
    pub fn flip_bit(&self, path: &Path, offset: usize, bit: u8) {
        let mut state = self.state();
        let file = *state.names.seen().get(path).expect("a file to damage");
        let contents = state.files.get_mut(&file).expect("every name has a file");
        contents.bytes[offset] ^= 1 << (bit % 8);
        if let Some(byte) = contents.durable.get_mut(offset) {
            *byte ^= 1 << (bit % 8);
        }
    }

    /// Everything that programs see, by path.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let bytes_of = |file| state.files.get(file).map(|c| c.bytes.clone()).unwrap_or_default();
        state.names.seen().iter().map(|(path, file)| (path.clone(), bytes_of(file))).collect()
    }

    fn change_to(&self, from: &Path, to: &Path, may_replace: bool) -> Result<(), DiskError> {
        check_relative("rename", from)?;
        check_relative("rename", to)?;
        let (from, to) = (clean(from), clean(to));
        let mut state = self.state();
        state.strike("rename", &from)?;
        if !state.names.seen().contains_key(&from) {
            return Err(refuse("rename", &from, io::ErrorKind::NotFound));
        }
        if !to.parent().is_none_or(|folder| state.has_folder(folder)) {
            return Err(refuse("rename", &from, io::ErrorKind::NotFound));
        }
        if !may_replace && (state.names.seen().contains_key(&to) || state.folders.contains(&to)) {
            return Err(refuse("rename", &from, io::ErrorKind::AlreadyExists));
        }
        state.names.rename(from, to);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

fn refuse(operation: &'static str, path: &Path, kind: io::ErrorKind) -> DiskError {
    DiskError { operation, path: path.to_owned(), source: kind.into() }
}

impl State {
    fn strike(&mut self, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        if self.watch.as_mut().is_some_and(|watch| watch.0(path)) {
            self.watch = None;
        }
        match &mut self.broken {
            Some((0, kind)) => return Err(refuse(operation, path, *kind)),
            Some((left, _)) => *left -= 1,
            None => {}
        }
        if let Some((left, kind)) = self.failing {
            self.failing = (left > 1).then(|| (left - 1, kind));
            if left > 0 {
                return Err(refuse(operation, path, kind));
            }
        }
        Ok(())
    }

    fn strike_sync(
        &mut self,
        kind: Forgotten,
        operation: &'static str,
        path: &Path,
    ) -> Result<(), DiskError> {
        match &mut self.breaks_at {
            Some((breaks_at, 0)) if *breaks_at == kind => {
                self.breaks_at = None;
                self.broken = Some((0, io::ErrorKind::Other));
            }
            Some((breaks_at, left)) if *breaks_at == kind => *left -= 1,
            _ => {}
        }
        self.strike(operation, path)
    }

    fn has_folder(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.folders.contains(path)
    }

    fn check_room(&self, path: &Path, grows_by: usize) -> Result<(), DiskError> {
        let used: usize = self.files.values().map(|contents| contents.bytes.len()).sum();
        match self.capacity {
            Some(capacity) if (used + grows_by) as u64 > capacity && grows_by > 0 => {
                Err(refuse("write", path, io::ErrorKind::StorageFull))
            }
            _ => Ok(()),
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn DiskFile>, DiskError> {
        check_relative("open", path)?;
        let path = clean(path);
        let mut state = self.state();
        state.strike("open", &path)?;
        let file = match (state.names.seen().get(&path).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => {
                return Err(refuse("open", &path, io::ErrorKind::AlreadyExists));
            }
            (Some(file), _) => file,
            (None, OpenMode::Read | OpenMode::Write) => {
                return Err(refuse("open", &path, io::ErrorKind::NotFound));
            }
            (None, OpenMode::CreateNew | OpenMode::OpenOrCreate) => {
                if !path.parent().is_none_or(|folder| state.has_folder(folder)) {
                    return Err(refuse("open", &path, io::ErrorKind::NotFound));
                }
                let file = state.next_file;
                state.next_file += 1;
                state.files.insert(file, Contents::default());
                state.names.create(path.clone(), file);
                file
            }
        };
        let (disk, life, can_write) = (self.clone(), state.life, mode != OpenMode::Read);
        drop(state);
        Ok(Box::new(SimFile { disk, path, file, life, can_write }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.change_to(from, to, true)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.change_to(from, to, false)
    }

    fn lock(&self, path: &Path) -> Result<DiskLock, DiskError> {
        self.open(path, OpenMode::OpenOrCreate)?;
        let path = clean(path);
        let mut state = self.state();
        if !state.locks.insert(path.clone()) {
            return Err(DiskError::locked(&path));
        }
        let life = state.life;
        drop(state);
        Ok(DiskLock::new(SimLock { disk: self.clone(), path, life }))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        check_relative("remove", path)?;
        let path = clean(path);
        let mut state = self.state();
        state.strike("remove", &path)?;
        if !state.names.seen().contains_key(&path) {
            return Err(refuse("remove", &path, io::ErrorKind::NotFound));
        }
        state.names.remove(path);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        check_relative("create folder", path)?;
        let path = clean(path);
        let mut state = self.state();
        state.strike("create folder", &path)?;
        let folders = path.ancestors().filter(|folder| !folder.as_os_str().is_empty());
        state.folders.extend(folders.map(Path::to_owned));
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        check_relative("list", path)?;
        let path = clean(path);
        let mut state = self.state();
        state.strike("list", &path)?;
        if !state.has_folder(&path) {
            return Err(refuse("list", &path, io::ErrorKind::NotFound));
        }
        let entries = state.names.seen().keys().chain(state.folders.iter());
        let within = entries.filter(|entry| entry.parent() == Some(&path));
        let names = within.filter_map(|entry| entry.file_name());
        let names: BTreeSet<String> =
            names.map(|name| name.to_string_lossy().into_owned()).collect();
        Ok(names.into_iter().collect())
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        check_relative("sync folder", path)?;
        let path = clean(path);
        let mut state = self.state();
        state.strike_sync(Forgotten::Folders, "sync folder", &path)?;
        if state.forgotten == Some(Forgotten::Folders) {
            return Ok(());
        }
        state.names.sync(&path);
        Ok(())
    }
}

/// The path without `.` components.
fn clean(path: &Path) -> PathBuf {
    path.components().filter(|c| !matches!(c, std::path::Component::CurDir)).collect()
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    file: u64,
    life: u64,
    can_write: bool,
}

impl SimFile {
    fn with<R>(
        &self,
        operation: &'static str,
        action: impl FnOnce(&mut State) -> Result<R, DiskError>,
    ) -> Result<R, DiskError> {
        let mut state = self.disk.state();
        self.check_life(operation, &state)?;
        state.strike(operation, &self.path)?;
        action(&mut state)
    }

    fn check_life(&self, operation: &'static str, state: &State) -> Result<(), DiskError> {
        match state.life == self.life {
            true => Ok(()),
            false => Err(refuse(operation, &self.path, io::ErrorKind::BrokenPipe)),
        }
    }

    fn change(&self, operation: &'static str, change: Change) -> Result<(), DiskError> {
        if !self.can_write {
            return Err(refuse(operation, &self.path, io::ErrorKind::PermissionDenied));
        }
        self.with(operation, |state| {
            let current = state.files.get(&self.file).map_or(0, |contents| contents.bytes.len());
            let end = match &change {
                Change::Write { offset, bytes } => offset + bytes.len(),
                Change::SetLen(len) => *len,
            };
            state.check_room(&self.path, end.saturating_sub(current))?;
            let number = state.next_change;
            state.next_change += 1;
            let contents = state.files.entry(self.file).or_default();
            change.apply(&mut contents.bytes);
            contents.pending.push((number, change));
            Ok(())
        })
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        self.with("read", |state| {
            let Some(contents) = state.files.get(&self.file) else { return Ok(0) };
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(contents.bytes.len());
            let count = bytes.len().min(contents.bytes.len() - start);
            bytes[..count].copy_from_slice(&contents.bytes[start..start + count]);
            Ok(count)
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let offset = usize::try_from(offset)
            .map_err(|_too_far| refuse("write", &self.path, io::ErrorKind::FileTooLarge))?;
        self.change("write", Change::Write { offset, bytes: bytes.to_vec() })
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.with("measure", |state| {
            Ok(state.files.get(&self.file).map_or(0, |contents| contents.bytes.len() as u64))
        })
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        let len = usize::try_from(len)
            .map_err(|_too_far| refuse("set length", &self.path, io::ErrorKind::FileTooLarge))?;
        self.change("set length", Change::SetLen(len))
    }

    fn sync(&self) -> Result<(), DiskError> {
        let mut state = self.disk.state();
        self.check_life("sync", &state)?;
        let mut pending = state.files.get(&self.file).into_iter().flat_map(|file| &file.pending);
        if state.breaks_at_large && pending.any(|(_, change)| change.is_large()) {
            state.breaks_at_large = false;
            state.broken = Some((0, io::ErrorKind::Other));
        }
        state.strike_sync(Forgotten::Files, "sync", &self.path)?;
        if state.forgotten == Some(Forgotten::Files) {
            return Ok(());
        }
        if let Some(contents) = state.files.get_mut(&self.file) {
            for (_number, change) in std::mem::take(&mut contents.pending) {
                change.apply(&mut contents.durable);
            }
        }
        Ok(())
    }
}

fn read_whole(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).expect("open");
    let mut bytes = vec![0; usize::try_from(file.len().expect("len")).expect("fits")];
    assert_eq!(file.read_at(0, &mut bytes).expect("read"), bytes.len());
    bytes
}

/// What is written is read back, past the end reads short, and gaps read as zeros.
pub fn reads_what_was_written(disk: &dyn Disk) {
    let file = disk.open(Path::new("f"), OpenMode::CreateNew).expect("create");
    file.write_at(3, b"abc").expect("write");
    assert_eq!(read_whole(disk, Path::new("f")), b"\0\0\0abc");
    file.set_len(8).expect("lengthen");
    let mut bytes = [1; 10];
    assert_eq!(file.read_at(4, &mut bytes).expect("read"), 4);
    assert_eq!(&bytes[..5], b"bc\0\0\x01");
    file.set_len(4).expect("cut");
    assert_eq!(file.len().expect("len"), 4);
    assert_eq!(file.read_at(100, &mut bytes).expect("read past the end"), 0);
    file.sync().expect("sync");
}

/// Modes refuse what they should, with the operating system's kind.
pub fn modes_are_kept(disk: &dyn Disk) {
    let path = Path::new("f");
    let kind = |mode| disk.open(path, mode).expect_err("refused").source.kind();
    assert_eq!(kind(OpenMode::Read), io::ErrorKind::NotFound);
    assert_eq!(kind(OpenMode::Write), io::ErrorKind::NotFound);
    disk.open(path, OpenMode::OpenOrCreate).expect("create").write_at(0, b"x").expect("write");
    assert_eq!(kind(OpenMode::CreateNew), io::ErrorKind::AlreadyExists);
    disk.open(path, OpenMode::OpenOrCreate).expect("open");
    assert_eq!(read_whole(disk, path), b"x");
    let reader = disk.open(path, OpenMode::Read).expect("open");
    assert!(reader.write_at(0, b"y").is_err(), "a reader cannot write");
}

/// Folders list their entries sorted; rename replaces; a removed name is gone.
pub fn names_are_kept(disk: &dyn Disk) {
    disk.create_dir_all(Path::new("a/b")).expect("folder");
    disk.create_dir_all(Path::new("a/b")).expect("the same folder again");
    for (name, text) in [("a/b/2", "two"), ("a/b/1", "one")] {
        let file = disk.open(Path::new(name), OpenMode::CreateNew).expect("create");
        file.write_at(0, text.as_bytes()).expect("write");
        file.sync().expect("sync");
    }
    assert_eq!(disk.list(Path::new("a/b")).expect("list"), ["1", "2"]);
    assert_eq!(disk.list(Path::new("")).expect("list"), ["a"]);
    disk.rename(Path::new("a/b/1"), Path::new("a/b/2")).expect("rename");
    disk.sync_dir(Path::new("a/b")).expect("sync");
    assert_eq!(disk.list(Path::new("a/b")).expect("list"), ["2"]);
    assert_eq!(read_whole(disk, Path::new("a/b/2")), b"one");
    disk.remove(Path::new("a/b/2")).expect("remove");
    assert!(disk.remove(Path::new("a/b/2")).is_err());
    assert!(disk.rename(Path::new("a/b/2"), Path::new("a/b/3")).is_err());
    assert!(disk.list(Path::new("a/b")).expect("list").is_empty());
    assert!(disk.open(Path::new("no/such/folder"), OpenMode::CreateNew).is_err());
}

/// No path leaves the disk's folder.
pub fn paths_stay_inside(disk: &dyn Disk) {
    for path in ["../f", "/etc/passwd", "a/../../f"] {
        let error = disk.open(Path::new(path), OpenMode::OpenOrCreate).expect_err("refused");
        assert_eq!(error.source.kind(), io::ErrorKind::InvalidInput);
        assert!(disk.rename(Path::new("x"), Path::new(path)).is_err());
        assert!(disk.remove(Path::new(path)).is_err());
        assert!(disk.create_dir_all(Path::new(path)).is_err());
        assert!(disk.list(Path::new(path)).is_err());
    }
}

/// One requirement: its name and the function that checks it on a disk that nobody used before.
pub type Case = (&'static str, fn(&dyn Disk));

/// Every requirement that needs no crash.
pub const CASES: &[Case] = &[
    ("reads_what_was_written", reads_what_was_written),
    ("modes_are_kept", modes_are_kept),
    ("names_are_kept", names_are_kept),
    ("paths_stay_inside", paths_stay_inside),
    ("a_large_read_is_whole", a_large_read_is_whole),
    ("rename_new_replaces_nothing", rename_new_replaces_nothing),
    ("a_lock_has_one_holder", a_lock_has_one_holder),
];

/// Instantiates the whole suite for one implementation, but for [`what_is_synced_survives`], which
/// needs a disk whose power can fail.
#[macro_export]
macro_rules! disk_conformance {
    ($make:expr) => {
        $crate::disk_conformance!(@each $make;
            reads_what_was_written, modes_are_kept, names_are_kept, paths_stay_inside,
            a_large_read_is_whole, rename_new_replaces_nothing, a_lock_has_one_holder);
    };
    (@each $make:expr; $($case:ident),+) => {
        mod conformance {
            #[allow(unused_imports, reason = "the factory may need no imports")]
            use super::*;
            $(#[test]
            fn $case() {
                let (_guard, disk) = ($make)();
                $crate::testkit::disk::$case(&disk);
            })+
        }
    };
}

#[cfg(test)]
mod tests;
