//! The data directory: who may use it, and what it holds.

use anyhow::{Context, Result, bail};
use oms_core::disk::{Disk, DiskError, DiskLock, LocalDisk, OpenMode};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The layout of the directory that this version writes.
const FORMAT: u32 = 1;

/// A data directory that this process alone uses until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    _lock: DiskLock,
}

/// Why a directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Another process uses it; if it serves, commands go through its socket.
    #[error("data directory is in use. path=`{}`, process=`{holder}`", path.display())]
    InUse { path: PathBuf, holder: String },
    /// Written by a newer version of this program.
    #[error(
        "data directory has a newer format; use the newer program. path=`{}`, found=`{found}`, \
         newest known=`{FORMAT}`", path.display()
    )]
    Newer { path: PathBuf, found: u32 },
    /// The format file is not one.
    #[error("not a data directory: its format file cannot be read. path=`{}`", path.display())]
    Unknown { path: PathBuf },
    /// The directory has files of somebody else.
    #[error("directory is not empty and not a data directory. path=`{}`", path.display())]
    Foreign { path: PathBuf },
    /// The operating system refuses.
    #[error("data directory cannot be written. path=`{}`", path.display())]
    Unwritable { path: PathBuf, source: std::io::Error },
}

impl DataDir {
    /// Takes a directory, making it if it is missing.
    pub(crate) fn open(root: &Path) -> Result<Self, OpenError> {
        let unwritable = |source| OpenError::Unwritable { path: root.to_owned(), source };
        let is_new = !root.join("format").exists();
        if is_new && root.is_dir() {
            let mut entries = fs::read_dir(root).map_err(unwritable)?;
            // What a process leaves that was killed while it made the directory, and the owner's
            // credentials, laid there for a process that joins others.
            let ours = ["lock", ".format.new", "admin.json", "keys"];
            let is_ours = |name: &std::ffi::OsStr| ours.iter().any(|ours| name == *ours);
            if entries.any(|entry| entry.is_ok_and(|entry| !is_ours(&entry.file_name()))) {
                return Err(OpenError::Foreign { path: root.to_owned() });
            }
        }
        if !is_new {
            // Nothing is written into a newer one, the lock's file neither.
            check_format(root)?;
        }
        make_private(root).map_err(unwritable)?;
        let lock = lock(root)?;
        if is_new {
            write_durably(root, "format", format!("{FORMAT}\n").as_bytes()).map_err(unwritable)?;
        }
        check_format(root)?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A folder in the directory, made if it is missing.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        folder(&self.root, name)
    }

    /// Where a serving process listens for commands.
    pub(crate) fn socket(root: &Path) -> PathBuf {
        root.join("oms.sock")
    }
}

/// A folder in a data directory, made if it is missing.
pub(crate) fn folder(root: &Path, name: &str) -> Result<PathBuf> {
    let path = root.join(name);
    make_private(&path).with_context(|| format!("folder {}", path.display()))?;
    Ok(path)
}

/// Makes a folder for its owner alone: some of what lies below is made by libraries with the
/// process's ordinary permissions.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Takes the directory's lock, and notes in its file which process has it.
fn lock(root: &Path) -> Result<DiskLock, OpenError> {
    let path = Path::new("lock");
    let take = || {
        let disk = LocalDisk::new(root)?;
        let lock = disk.lock(path)?;
        let file = disk.open(path, OpenMode::Write)?;
        file.set_len(0)?;
        file.write_at(0, format!("{}\n", std::process::id()).as_bytes())?;
        Ok(lock)
    };
    take().map_err(|error: DiskError| match error.is_locked() {
        true => {
            let holder = fs::read_to_string(root.join(path)).unwrap_or_default().trim().to_owned();
            OpenError::InUse { path: root.to_owned(), holder }
        }
        false => OpenError::Unwritable { path: root.to_owned(), source: error.source },
    })
}

fn check_format(root: &Path) -> Result<(), OpenError> {
    let text = fs::read_to_string(root.join("format"))
        .map_err(|source| OpenError::Unwritable { path: root.to_owned(), source })?;
    match text.trim().parse::<u32>() {
        Ok(found) if found > FORMAT => Err(OpenError::Newer { path: root.to_owned(), found }),
        Ok(FORMAT) => Ok(()),
        Ok(_) | Err(_) => Err(OpenError::Unknown { path: root.to_owned() }),
    }
}

/// Writes a file of a folder, for its owner alone.
pub(crate) fn write_durably(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let written = LocalDisk::new(folder).and_then(|disk| replace(&disk, name, bytes));
    written.map_err(|error| error.source)
}

/// Writes a file so that a crash leaves the old one or the new one, whole.
pub(crate) fn replace(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
    let temporary = PathBuf::from(format!(".{name}.new"));
    let file = disk.open(&temporary, OpenMode::OpenOrCreate)?;
    file.set_len(0)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(&temporary, Path::new(name))?;
    disk.sync_dir(Path::new(""))
}

/// Reads a secret from a file, without the line break at its end.
pub(crate) fn read_secret(path: &Path) -> Result<oms_core::Secret> {
    let mut bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("no such key file. path=`{}`", path.display())
        }
        Err(error) => {
            return Err(error).with_context(|| format!("key file {}", path.display()));
        }
    };
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.is_empty() {
        bail!("key file is empty. path=`{}`", path.display());
    }
    Ok(oms_core::Secret::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::testkit::crash::crash_at_every_operation;
    use oms_core::testkit::disk::SimDisk;

    #[test]
    fn a_directory_is_taken_by_one_process_and_free_again_afterwards() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("data");
        let first = DataDir::open(&root).expect("free");
        let second = DataDir::open(&root).expect_err("taken");
        assert!(matches!(second, OpenError::InUse { .. }), "{second}");
        assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
        drop(first);
        DataDir::open(&root).expect("free again");
    }

    #[test]
    fn a_directory_is_for_its_owner_alone_also_if_its_making_was_cut_off() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("data");
        fs::create_dir(&root).expect("folder");
        fs::write(root.join(".format.new"), "").expect("write");
        drop(DataDir::open(&root).expect("goes on"));
        fs::remove_dir_all(&root).expect("removed");
        let data = DataDir::open(&root).expect("made");
        data.folder("logs").expect("made");
        #[cfg(unix)]
        for path in [root.clone(), root.join("logs")] {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn a_newer_or_foreign_directory_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let newer = folder.path().join("newer");
        fs::create_dir(&newer).expect("folder");
        fs::write(newer.join("format"), "2\n").expect("write");
        let error = DataDir::open(&newer).expect_err("newer");
        assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error}");
        fs::write(newer.join("format"), "soup\n").expect("write");
        assert!(matches!(DataDir::open(&newer), Err(OpenError::Unknown { .. })));
        let foreign = folder.path().join("foreign");
        fs::create_dir(&foreign).expect("folder");
        fs::write(foreign.join("thesis.txt"), "mine").expect("write");
        assert!(matches!(DataDir::open(&foreign), Err(OpenError::Foreign { .. })));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        fs::write(&file, "not a folder").expect("write");
        let error = DataDir::open(&file.join("data")).expect_err("cannot be made");
        assert!(matches!(error, OpenError::Unwritable { .. }), "{error}");
        assert!(error.to_string().contains("file/data"), "{error}");
    }

    /// Auditor: the file is the old one or the new one, whole; the new one from the answer on.
    #[test]
    fn power_may_fail_at_any_operation_of_a_replacement() {
        let (old, new) = (&[b'o'; 900][..], &[b'n'; 2_000][..]);
        let prepare = |disk: &SimDisk| replace(disk, "file", old).expect("written");
        let work = |disk: &SimDisk, (): &()| replace(disk, "file", new).is_ok();
        let audit = |disk: &SimDisk, (), is_done: bool| {
            let found = disk.contents().remove(Path::new("file")).expect("it is there");
            assert!(found == new || !is_done && found == old, "{} bytes", found.len());
        };
        assert_eq!(crash_at_every_operation(20, prepare, work, audit), 6);
    }

    #[test]
    fn secrets_come_from_files_without_their_line_break() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key");
        fs::write(&path, "s3cret\r\n").expect("write");
        assert_eq!(read_secret(&path).expect("a secret").expose(), b"s3cret");
        fs::write(&path, "\n").expect("write");
        assert!(read_secret(&path).is_err());
    }
}
