//! Durable bytes under our own formats.
//!
//! A [`Disk`] is a folder: under a write-ahead log, a replica, a local vault. Its calls block, so
//! they belong on a thread of their own or in a runtime's blocking pool; a log's syncer is such a
//! thread, and an asynchronous seam would only put a queue in front of it.
//!
//! Nothing is durable until it is synced: written bytes after [`DiskFile::sync`], a created,
//! renamed or removed name after [`Disk::sync_dir`] of its folder. `testkit::SimDisk` loses
//! whatever a program forgot to sync.

use crate::ErrorKind;
use std::fmt::Debug;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Why a disk did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("disk {operation} failed. path=`{}`", path.display())]
pub struct DiskError {
    /// What was tried: `open`, `write`, `sync`.
    pub operation: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::of_io(&self.source)
    }

    /// A lock that another holds.
    #[must_use]
    pub fn locked(path: &Path) -> Self {
        let source = io::Error::new(io::ErrorKind::ResourceBusy, "another holds the lock");
        Self { operation: LOCK, path: path.to_owned(), source }
    }

    /// Whether another holds the lock that was asked for.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.operation == LOCK && self.source.kind() == io::ErrorKind::ResourceBusy
    }
}

/// The operation that [`Disk::lock`] fails in.
const LOCK: &str = "lock";

/// A lock, held until it is dropped.
#[derive(Debug)]
pub struct DiskLock {
    _held: Box<dyn Debug + Send + Sync>,
}

impl DiskLock {
    /// A lock that is let go of when `held` is dropped.
    #[must_use]
    pub fn new(held: impl Debug + Send + Sync + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum OpenMode {
    /// Reads only; the file must exist.
    Read,
    /// Reads and writes; the file must exist.
    Write,
    /// Reads and writes; the file must not exist.
    CreateNew,
    /// Reads and writes; an existing file is kept as it is.
    OpenOrCreate,
}

/// A folder of files. Paths are relative, without `..`.
///
/// An implementation passes `oms_core::testkit::disk` (feature `testkit`).
pub trait Disk: Debug + Send + Sync {
    /// Opens a file. Its folder must exist.
    ///
    /// # Errors
    /// [`DiskError`].
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn DiskFile>, DiskError>;

    /// Names `from` `to`, replacing a file of that name, in one step.
    ///
    /// # Errors
    /// [`DiskError`].
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Names `from` `to`, unless something has that name, in one step.
    ///
    /// # Errors
    /// [`DiskError`]; of kind [`ErrorKind::AlreadyExists`] if `to` is there, and then nothing has
    /// changed.
    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Takes the lock that the file `path` stands for, making an empty file if there is none, and
    /// keeps every other holder out, in this process and in others, until the lock is dropped or
    /// this process ends, however it ends. It does not wait. Reading and writing are not hindered.
    ///
    /// # Errors
    /// [`DiskError`], for which [`DiskError::is_locked`] holds while another has it.
    fn lock(&self, path: &Path) -> Result<DiskLock, DiskError>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`DiskError`].
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes a folder and those above it, and syncs their names.
    ///
    /// # Errors
    /// [`DiskError`].
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// Names of the files and folders in a folder, sorted; `""` is the disk's own folder.
    ///
    /// # Errors
    /// [`DiskError`].
    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// [`DiskError`].
    fn sync_dir(&self, path: &Path) -> Result<(), DiskError>;
}

/// What can be done on every [`Disk`] with its required methods.
pub trait DiskExt: Disk {
    /// Makes a file that is there durable: its bytes and its name. A program that goes by what it
    /// finds does this first: the process that wrote it may have been killed before it was synced,
    /// and what is read then goes with the next power failure, unlike what is built on it.
    ///
    /// # Errors
    /// [`DiskError`].
    fn settle(&self, path: &Path) -> Result<(), DiskError> {
        // Windows syncs only what it may write; elsewhere a file may be one that is only read.
        let mode = if cfg!(windows) { OpenMode::Write } else { OpenMode::Read };
        self.open(path, mode)?.sync()?;
        self.sync_dir(path.parent().unwrap_or(Path::new("")))
    }
}

impl<D: Disk + ?Sized> DiskExt for D {}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads from `offset` until `bytes` is full or the file ends; answers how many bytes.
    ///
    /// # Errors
    /// [`DiskError`].
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError>;

    /// Writes all of `bytes` at `offset`, lengthening the file with zeros if it is shorter.
    ///
    /// # Errors
    /// [`DiskError`]; a part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// The length in bytes.
    ///
    /// # Errors
    /// [`DiskError`].
    fn len(&self) -> Result<u64, DiskError>;

    /// Whether there are no bytes.
    ///
    /// # Errors
    /// [`DiskError`].
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Cuts or lengthens with zeros.
    ///
    /// # Errors
    /// [`DiskError`].
    fn set_len(&self, len: u64) -> Result<(), DiskError>;

    /// Makes everything written so far durable, with the length.
    ///
    /// # Errors
    /// [`DiskError`]. After one, what was not synced before may be lost even if a later sync
    /// succeeds: stop using the file.
    fn sync(&self) -> Result<(), DiskError>;
}

/// A folder of the operating system's file system.
///
/// On Unix, what it makes is for its owner alone: files of mode 0600, folders of mode 0700. On Windows
/// it is for whoever the folder above it is for, and a new, renamed or removed name is as durable as
/// the file system makes it by itself: there is no call that syncs a folder.
#[derive(Clone, Debug)]
pub struct LocalDisk {
    root: PathBuf,
}

impl LocalDisk {
    /// Takes a folder, making it and those above it if they are missing.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn new(root: impl Into<PathBuf>) -> Result<Self, DiskError> {
        let root = root.into();
        make_dirs(&root)?;
        Ok(Self { root })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn resolve(&self, operation: &'static str, path: &Path) -> Result<PathBuf, DiskError> {
        check_relative(operation, path)?;
        Ok(self.root.join(path))
    }
}

/// Refuses absolute paths and `..`.
pub(crate) fn check_relative(operation: &'static str, path: &Path) -> Result<(), DiskError> {
    let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if inside {
        return Ok(());
    }
    let source = io::Error::new(io::ErrorKind::InvalidInput, "path leaves the disk's folder");
    Err(DiskError { operation, path: path.to_owned(), source })
}

/// Names the failed operation and the path.
fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError { operation, path, source }
}

/// Makes a folder and those above it; each new name is synced. That of a folder which is there is
/// synced too: a process that was killed may have made it and done no more.
fn make_dirs(path: &Path) -> Result<(), DiskError> {
    if path.is_dir() {
        return match sync_parent(path) {
            // Whoever may not read the folder above has not made this one.
            Err(error) if error.kind() == ErrorKind::Denied => Ok(()),
            synced => synced,
        };
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dirs(parent)?;
    }
    match owner_only::folder().create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(failed("create folder", path)(error)),
    }
    sync_parent(path)
}

fn sync_parent(path: &Path) -> Result<(), DiskError> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Syncs the names of a folder where the system can (not on Windows).
fn sync_folder(path: &Path) -> Result<(), DiskError> {
    if cfg!(unix) {
        std::fs::File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("sync folder", path))?;
    }
    Ok(())
}

impl Disk for LocalDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn DiskFile>, DiskError> {
        let path = self.resolve("open", path)?;
        let mut options = owner_only::file();
        options.read(true).write(mode != OpenMode::Read);
        match mode {
            OpenMode::Read | OpenMode::Write => {}
            OpenMode::CreateNew => {
                options.create_new(true);
            }
            OpenMode::OpenOrCreate => {
                options.create(true).truncate(false);
            }
        }
        let file = options.open(&path).map_err(failed("open", &path))?;
        Ok(Box::new(LocalFile { path, file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let (from, to) = (self.resolve("rename", from)?, self.resolve("rename", to)?);
        std::fs::rename(&from, &to).map_err(failed("rename", &from))
    }

    /// On a file system that cannot do it in one step, a crash in between leaves both names for
    /// the one file.
    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let (from, to) = (self.resolve("rename", from)?, self.resolve("rename", to)?);
        rename_without_replacing(&from, &to).map_err(failed("rename", &from))
    }

    fn lock(&self, path: &Path) -> Result<DiskLock, DiskError> {
        let path = self.resolve(LOCK, path)?;
        let mut options = owner_only::file();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(failed(LOCK, &path))?;
        match file.try_lock() {
            Ok(()) => Ok(DiskLock::new(LocalLock { path, file })),
            Err(std::fs::TryLockError::WouldBlock) => Err(DiskError::locked(&path)),
            Err(std::fs::TryLockError::Error(source)) => Err(failed(LOCK, &path)(source)),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let path = self.resolve("remove", path)?;
        std::fs::remove_file(&path).map_err(failed("remove", &path))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        make_dirs(&self.resolve("create folder", path)?)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        let path = self.resolve("list", path)?;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(failed("list", &path))? {
            let entry = entry.map_err(failed("list", &path))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        sync_folder(&self.resolve("sync folder", path)?)
    }
}

/// One step, where the file system can.
#[cfg(target_os = "linux")]
fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_and_unlink(from, to),
        outcome => outcome.map_err(io::Error::from),
    }
}

#[cfg(not(target_os = "linux"))]
fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    link_and_unlink(from, to)
}

/// A second name cannot replace a first.
fn link_and_unlink(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// A locked file. The operating system lets go of it when the process ends.
#[derive(Debug)]
struct LocalLock {
    path: PathBuf,
    file: std::fs::File,
}

impl Drop for LocalLock {
    /// Closing alone is not enough: a child process that is just being started holds a copy of
    /// the open file, and with it the lock, until it runs its program.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(path = %self.path.display(), %error, "lock not released");
        }
    }
}

#[derive(Debug)]
struct LocalFile {
    path: PathBuf,
    file: std::fs::File,
}

impl DiskFile for LocalFile {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        let mut done = 0;
        while done < bytes.len() {
            match positional::read(&self.file, &mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", &self.path)(error)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        positional::write_all(&self.file, bytes, offset).map_err(failed("write", &self.path))
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.file.metadata().map(|meta| meta.len()).map_err(failed("measure", &self.path))
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.file.set_len(len).map_err(failed("set length", &self.path))
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(failed("sync", &self.path))
    }
}

/// What is made is for its owner alone.
#[cfg(unix)]
pub(crate) mod owner_only {
    use std::fs::{DirBuilder, OpenOptions};
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

    pub(crate) fn folder() -> DirBuilder {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder
    }

    pub(crate) fn file() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.mode(0o600);
        options
    }
}

/// What is made is for whoever the folder above it is for: there are no modes here.
#[cfg(not(unix))]
pub(crate) mod owner_only {
    use std::fs::{DirBuilder, OpenOptions};

    pub(crate) fn folder() -> DirBuilder {
        DirBuilder::new()
    }

    pub(crate) fn file() -> OpenOptions {
        OpenOptions::new()
    }
}

/// Reads and writes at an offset.
#[cfg(unix)]
mod positional {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    pub(super) fn read(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(bytes, offset)
    }

    pub(super) fn write_all(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }
}

/// Reads and writes at an offset.
#[cfg(windows)]
mod positional {
    use std::fs::File;
    use std::io;
    use std::os::windows::fs::FileExt;

    pub(super) fn read(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        file.seek_read(bytes, offset)
    }

    pub(super) fn write_all(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = file.seek_write(bytes, offset)?;
            bytes = &bytes[count..];
            offset += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::disk_conformance!(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = LocalDisk::new(folder.path().join("new/folder")).expect("a disk");
        (folder, disk)
    });

    #[test]
    fn without_the_system_call_a_rename_replaces_nothing_either() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), "one").expect("write");
        std::fs::write(path("b"), "two").expect("write");
        let error = link_and_unlink(&path("a"), &path("b")).expect_err("it is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        link_and_unlink(&path("a"), &path("c")).expect("it is not");
        assert_eq!(std::fs::read(path("b")).expect("read"), b"two");
        assert_eq!(std::fs::read(path("c")).expect("read"), b"one");
        assert!(!path("a").exists());
    }

    /// The kernel answers by an error when it is asked to sync a device or a folder of processes: whoever
    /// says that they are synced has not asked it.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_sync_asks_the_kernel() {
        let refused = |error: DiskError, operation| {
            assert_eq!((error.operation, error.source.raw_os_error()), (operation, Some(22)));
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::os::unix::fs::symlink("/dev/null", folder.path().join("f")).expect("a link");
        let (disk, file) = (LocalDisk::new(folder.path()).expect("a disk"), Path::new("f"));
        for mode in [OpenMode::Read, OpenMode::Write, OpenMode::OpenOrCreate] {
            let opened = disk.open(file, mode).expect("opened");
            refused(opened.sync().expect_err("a device"), "sync");
        }
        refused(disk.settle(file).expect_err("a device"), "sync");
        let processes = LocalDisk { root: "/proc".into() };
        refused(processes.sync_dir(Path::new("self")).expect_err("no disk"), "sync folder");
        // The name of a folder that is there is synced in the one above it.
        let found = processes.create_dir_all(Path::new("self/task"));
        refused(found.expect_err("no disk"), "sync folder");
        refused(LocalDisk::new("/proc/self/task").expect_err("no disk"), "sync folder");
    }

    #[cfg(unix)]
    #[test]
    fn files_and_folders_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = LocalDisk::new(folder.path().join("d")).expect("a disk");
        disk.open(Path::new("f"), OpenMode::CreateNew).expect("a file");
        let mode = |path: &str| {
            let meta = std::fs::metadata(folder.path().join(path)).expect("it is there");
            meta.permissions().mode() & 0o777
        };
        assert_eq!((mode("d"), mode("d/f")), (0o700, 0o600));
    }
}
