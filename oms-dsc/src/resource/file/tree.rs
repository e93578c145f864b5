//! Places in the tree of files, reached from open directories only.

use super::failed;
use crate::Error;
use jiff::Timestamp;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, fsync,
    mkdirat, openat, openat2, readlinkat, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How deep a directory may be that is removed.
const REMOVE_DEPTH_MAX: usize = 128;

/// Where paths may lead.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// The folder as it was given, and as it is without symbolic links; none means everywhere.
    folder: Option<(PathBuf, PathBuf)>,
}

impl Root {
    pub(super) const fn everywhere() -> Self {
        Self { folder: None }
    }

    pub(super) fn only(folder: PathBuf) -> Result<Self, Error> {
        let resolved = std::fs::canonicalize(&folder).map_err(|source| Error::Io {
            operation: "resolve root",
            path: folder.clone(),
            source,
        })?;
        Ok(Self { folder: Some((folder, resolved)) })
    }

    /// Refuses a path that is not below the root.
    pub(super) fn check(&self, path: &Path) -> Result<(), Error> {
        self.split(path).map(|_| ())
    }

    /// The folder to walk from, and the way from there.
    fn split<'a>(&'a self, path: &'a Path) -> Result<(&'a Path, &'a Path), Error> {
        let Some((given, resolved)) = &self.folder else {
            let way = path.strip_prefix("/").unwrap_or(path);
            return Ok((Path::new("/"), way));
        };
        let way = path.strip_prefix(given).or_else(|_| path.strip_prefix(resolved)).ok();
        match way.filter(|way| way.file_name().is_some()) {
            Some(way) => Ok((resolved, way)),
            None => Err(self.outside(path)),
        }
    }

    fn outside(&self, path: &Path) -> Error {
        let root = self.folder.as_ref().map(|(given, _)| given.clone()).unwrap_or_default();
        Error::OutsideRoot { path: path.to_owned(), root }
    }

    /// The place of a path; none if its folder is not there and is not to be made.
    pub(super) fn place(&self, path: &Path, makes_folders: bool) -> Result<Option<Place>, Error> {
        let (base, way) = self.split(path)?;
        let folder_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let base = openat(CWD, base, folder_flags, Mode::empty()).map_err(failed("open", base))?;
        let name = way.file_name().ok_or_else(|| self.outside(path))?.to_owned();
        let parent = way.parent().filter(|parent| !parent.as_os_str().is_empty());
        let Some(parent) = parent else {
            return Ok(Some(Place { path: path.to_owned(), folder: base, name }));
        };
        let mut resolve = ResolveFlags::NO_MAGICLINKS;
        if self.folder.is_some() {
            resolve |= ResolveFlags::BENEATH;
        }
        let open = || openat2(&base, parent, folder_flags, Mode::empty(), resolve);
        let folder = match open() {
            Err(Errno::NOENT) if makes_folders => {
                self.make_folders(&base, parent, resolve, path)?;
                open()
            }
            opened => opened,
        };
        match folder {
            Ok(folder) => Ok(Some(Place { path: path.to_owned(), folder, name })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::XDEV) => Err(self.outside(path)),
            Err(errno) => Err(failed("open folder of", path)(errno)),
        }
    }

    /// Makes the folders on the way that are missing, each durable.
    fn make_folders(
        &self,
        base: &OwnedFd,
        way: &Path,
        resolve: ResolveFlags,
        path: &Path,
    ) -> Result<(), Error> {
        let folder_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut done = PathBuf::new();
        for part in way.components() {
            let above: &Path = if done.as_os_str().is_empty() { Path::new(".") } else { &done };
            let above = match openat2(base, above, folder_flags, Mode::empty(), resolve) {
                Ok(above) => above,
                Err(Errno::XDEV) => return Err(self.outside(path)),
                Err(errno) => return Err(failed("open folder of", path)(errno)),
            };
            match mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) => fsync(&above).map_err(failed("sync folder of", path))?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed("make folder of", path)(errno)),
            }
            done.push(part);
        }
        Ok(())
    }
}

/// What is at a place.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) file_type: FileType,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) bytes: u64,
    pub(super) modified: Option<Timestamp>,
    owner: (u32, u32),
}

impl Found {
    pub(super) const fn kind_name(&self) -> &'static str {
        match self.file_type {
            FileType::RegularFile => "file",
            FileType::Directory => "directory",
            FileType::Symlink => "link",
            _ => "something else",
        }
    }
}

/// A name in an open folder.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    folder: OwnedFd,
    name: OsString,
}

impl Place {
    /// What is there; symbolic links are not followed.
    pub(super) fn found(&self) -> Result<Option<Found>, Error> {
        match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Found {
                file_type: FileType::from_raw_mode(stat.st_mode),
                mode: stat.st_mode & 0o7777,
                bytes: u64::try_from(stat.st_size).unwrap_or_default(),
                modified: Timestamp::from_second(stat.st_mtime).ok(),
                owner: (stat.st_uid, stat.st_gid),
            })),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(failed("look at", &self.path)(errno)),
        }
    }

    /// The contents of a file of at most `limit` bytes.
    pub(super) fn read(&self, limit: u64) -> Result<Vec<u8>, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(&self.folder, &self.name, flags, Mode::empty())
            .map_err(failed("open", &self.path))?;
        let mut bytes = Vec::new();
        let io = |source| Error::Io { operation: "read", path: self.path.clone(), source };
        File::from(file).take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > limit {
            let (actual, limit) = (bytes.len(), usize::try_from(limit).unwrap_or(usize::MAX));
            return Err(Error::TooLarge { what: "file", actual, limit });
        }
        Ok(bytes)
    }

    pub(super) fn link_target(&self) -> Result<PathBuf, Error> {
        let target = readlinkat(&self.folder, &self.name, Vec::new())
            .map_err(failed("read link", &self.path))?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    /// Puts a file with these contents here in one step. It is durable when this returns. Without
    /// `mode`, a file that was here lends its mode and owner.
    pub(super) fn write(
        &self,
        contents: &[u8],
        mode: Option<Mode>,
        replaced: Option<&Found>,
    ) -> Result<(), Error> {
        let temporary = self.clear_temporary()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let secret = Mode::from_raw_mode(0o600);
        let fail = |operation| failed(operation, &self.path);
        let file = openat(&self.folder, &temporary, flags | OFlags::CLOEXEC, secret)
            .map_err(fail("create"))?;
        let mut file = File::from(file);
        let io = |source| Error::Io { operation: "write", path: self.path.clone(), source };
        file.write_all(contents).map_err(io)?;
        if let Some(Found { owner: (uid, gid), .. }) = replaced {
            let own = rustix::fs::fstat(&file).map_err(fail("look at"))?;
            if (own.st_uid, own.st_gid) != (*uid, *gid) {
                let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                fchown(&file, Some(uid), Some(gid)).map_err(fail("change owner of"))?;
            }
        }
        let kept = replaced.map_or(0o644, |found| found.mode);
        let mode = mode.unwrap_or_else(|| Mode::from_raw_mode(kept));
        fchmod(&file, mode).map_err(fail("change mode of"))?;
        fsync(&file).map_err(fail("sync"))?;
        self.move_here(&temporary)
    }

    /// Puts a symbolic link here in one step.
    pub(super) fn link_to(&self, target: &Path) -> Result<(), Error> {
        let temporary = self.clear_temporary()?;
        symlinkat(target, &self.folder, &temporary).map_err(failed("create link", &self.path))?;
        self.move_here(&temporary)
    }

    /// A name beside this one, free again after an attempt that was interrupted.
    fn clear_temporary(&self) -> Result<OsString, Error> {
        let sum = crc32c::crc32c(self.name.as_bytes());
        let temporary = OsString::from(format!(".oms-new-{sum:08x}"));
        match unlinkat(&self.folder, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(temporary),
            Err(errno) => Err(failed("clear a place beside", &self.path)(errno)),
        }
    }

    fn move_here(&self, temporary: &OsStr) -> Result<(), Error> {
        renameat(&self.folder, temporary, &self.folder, &self.name)
            .map_err(failed("replace", &self.path))?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> Result<(), Error> {
        fsync(&self.folder).map_err(failed("sync folder of", &self.path))
    }

    pub(super) fn make_directory(&self) -> Result<(), Error> {
        match mkdirat(&self.folder, &self.name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.sync_folder(),
            Err(errno) => Err(failed("make directory", &self.path)(errno)),
        }
    }

    pub(super) fn set_mode(&self, mode: Mode) -> Result<(), Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fail = |operation| failed(operation, &self.path);
        let file = openat(&self.folder, &self.name, flags, Mode::empty()).map_err(fail("open"))?;
        fchmod(&file, mode).map_err(fail("change mode of"))?;
        fsync(&file).map_err(fail("sync"))
    }

    pub(super) fn remove_file(&self) -> Result<(), Error> {
        match unlinkat(&self.folder, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => self.sync_folder(),
            Err(errno) => Err(failed("remove", &self.path)(errno)),
        }
    }

    fn open_directory(&self) -> Result<OwnedFd, Error> {
        open_directory(&self.folder, &self.name).map_err(failed("open", &self.path))
    }

    pub(super) fn is_empty_directory(&self) -> Result<bool, Error> {
        let names = names_in(&self.open_directory()?).map_err(failed("list", &self.path))?;
        Ok(names.is_empty())
    }

    /// Removes a directory with all that is in it. Symbolic links are removed, not followed.
    pub(super) fn remove_directory(&self) -> Result<(), Error> {
        remove_tree(&self.folder, &self.name, 0).map_err(failed("remove", &self.path))?;
        self.sync_folder()
    }
}

fn open_directory(folder: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty())
}

fn names_in(folder: &OwnedFd) -> rustix::io::Result<Vec<(OsString, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let file_type = match entry.file_type() {
            FileType::Unknown => {
                let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        names.push((name.to_owned(), file_type));
    }
    Ok(names)
}

fn remove_tree(folder: &OwnedFd, name: &OsStr, depth: usize) -> rustix::io::Result<()> {
    if depth == REMOVE_DEPTH_MAX {
        return Err(Errno::LOOP);
    }
    let inside = open_directory(folder, name)?;
    for (name, file_type) in names_in(&inside)? {
        if file_type == FileType::Directory {
            remove_tree(&inside, &name, depth + 1)?;
        } else {
            unlinkat(&inside, &name, AtFlags::empty())?;
        }
    }
    unlinkat(folder, name, AtFlags::REMOVEDIR)
}
