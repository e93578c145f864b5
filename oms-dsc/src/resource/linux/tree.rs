//! Places in the tree of files, reached from open directories only.

use crate::Error;
use jiff::Timestamp;
use oms_core::task::blocking;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid,
    chownat, fchmod, fchown, fsync, futimens, mkdirat, openat, openat2, readlinkat, renameat,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// How deep a directory may be that is walked or removed.
pub(super) const DEPTH_MAX: usize = 128;

/// How many symbolic links in a row are followed.
const LINKS_MAX: usize = 32;

/// The largest file of the system's own that is read, such as `/etc/passwd`, in bytes.
const SYSTEM_FILE_BYTES_MAX: u64 = 64 << 20;

/// Where paths may lead.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// The folder as it was given, and as it is without symbolic links; none means everywhere.
    folder: Option<(PathBuf, PathBuf)>,
}

/// A resource that knows nothing but where its paths may lead, and the two ways of making one.
macro_rules! rooted {
    (
        $(#[$about:meta])*
        pub struct $name:ident;
        $(#[$everywhere:meta])*
        everywhere;
        $(#[$within:meta])*
        within;
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        pub struct $name {
            root: $crate::resource::linux::tree::Root,
        }

        impl $name {
            $(#[$everywhere])*
            #[must_use]
            pub fn unrestricted() -> Self {
                Self { root: $crate::resource::linux::tree::Root::everywhere() }
            }

            $(#[$within])*
            ///
            /// # Errors
            /// [`Error::Io`](crate::Error::Io) if there is no such folder.
            pub fn within(
                root: impl Into<::std::path::PathBuf>,
            ) -> ::std::result::Result<Self, $crate::Error> {
                Ok(Self { root: $crate::resource::linux::tree::Root::only(root.into())? })
            }
        }
    };
}

pub(super) use rooted;

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

    /// Looks or changes below the root, on a thread where that may take its time.
    pub(super) async fn with<D: Send + 'static, T: Send + 'static>(
        &self,
        desired: D,
        work: fn(&Self, &D) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let root = self.clone();
        blocking(move || work(&root, &desired)).await
    }

    /// Whether every path is allowed.
    pub(super) const fn is_everywhere(&self) -> bool {
        self.folder.is_none()
    }

    /// A path of the system below the root: `/etc/passwd` of a system that is kept in a folder.
    pub(super) fn system(&self, path: &str) -> PathBuf {
        match &self.folder {
            Some((folder, _)) => folder.join(path.trim_start_matches('/')),
            None => PathBuf::from(path),
        }
    }

    /// The contents of a file of the system; none if it is not there.
    pub(super) fn read_system(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(place) = self.place(&self.system(path), false)? else { return Ok(None) };
        match place.found()? {
            None => Ok(None),
            Some(_) => place.read(SYSTEM_FILE_BYTES_MAX).map(Some),
        }
    }

    /// The place that a path leads to over symbolic links, with what is there; none if nothing is.
    pub(super) fn follow(&self, path: &Path) -> Result<Option<(Place, Found)>, Error> {
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            let Some(place) = self.place(&path, false)? else { return Ok(None) };
            let Some(found) = place.found()? else { return Ok(None) };
            if found.file_type != FileType::Symlink {
                return Ok(Some((place, found)));
            }
            let target = place.link_target()?;
            path.pop();
            for part in target.components() {
                match part {
                    Component::RootDir | Component::Prefix(_) => path = PathBuf::from("/"),
                    Component::CurDir => {}
                    Component::ParentDir => drop(path.pop()),
                    Component::Normal(name) => path.push(name),
                }
            }
        }
        Err(failed("follow links of", &path)(Errno::LOOP))
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
            return Ok(Some(Place { path: path.to_owned(), folder: Arc::new(base), name }));
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
            Ok(folder) => Ok(Some(Place { path: path.to_owned(), folder: Arc::new(folder), name })),
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
    /// Ids of user and group.
    pub(super) owner: (u32, u32),
    /// When the contents changed, and when anything did: seconds and nanoseconds.
    pub(super) modified_at: (i64, i64),
    pub(super) changed_at: (i64, i64),
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

/// How a file is to be beside its contents.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Attributes {
    /// Permission bits; those of the file that is replaced, or 0644, without it.
    pub(super) mode: Option<u32>,
    /// Ids of user and group; those of the file that is replaced, or of this process, without.
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
    /// When the contents changed: seconds and nanoseconds.
    pub(super) modified_at: Option<(i64, i64)>,
}

/// A name in an open folder.
#[derive(Clone, Debug)]
pub(super) struct Place {
    path: PathBuf,
    folder: Arc<OwnedFd>,
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
                modified_at: (stat.st_mtime, stat.st_mtime_nsec as i64),
                changed_at: (stat.st_ctime, stat.st_ctime_nsec as i64),
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

    /// Puts a file with these contents here in one step. It is durable when this returns, and nobody
    /// sees it before it has its owner and mode.
    pub(super) fn write(
        &self,
        contents: &[u8],
        attributes: Attributes,
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
        let own = rustix::fs::fstat(&file).map_err(fail("look at"))?;
        let kept = replaced.map_or((own.st_uid, own.st_gid), |found| found.owner);
        let owner = (attributes.user.unwrap_or(kept.0), attributes.group.unwrap_or(kept.1));
        if (own.st_uid, own.st_gid) != owner {
            let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            fchown(&file, Some(uid), Some(gid)).map_err(fail("change owner of"))?;
        }
        let kept = replaced.map_or(0o644, |found| found.mode);
        let mode = Mode::from_raw_mode(attributes.mode.unwrap_or(kept));
        fchmod(&file, mode).map_err(fail("change mode of"))?;
        if let Some(at) = attributes.modified_at {
            set_times(&file, at).map_err(fail("change time of"))?;
        }
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

    /// Takes what is at another place of the same folder, in one step.
    pub(super) fn take_over(&self, other: &Self) -> Result<(), Error> {
        renameat(&other.folder, &other.name, &self.folder, &self.name)
            .map_err(failed("move into place", &self.path))?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> Result<(), Error> {
        fsync(&self.folder).map_err(failed("sync folder of", &self.path))
    }

    pub(super) fn make_directory(&self) -> Result<(), Error> {
        match mkdirat(&*self.folder, &self.name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.sync_folder(),
            Err(errno) => Err(failed("make directory", &self.path)(errno)),
        }
    }

    /// Gives what is here, which is no link, its owner, mode and time.
    pub(super) fn set_attributes(&self, attributes: Attributes) -> Result<(), Error> {
        self.set_owner(attributes)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fail = |operation| failed(operation, &self.path);
        let file = openat(&self.folder, &self.name, flags, Mode::empty()).map_err(fail("open"))?;
        // After the owner, whose change takes away some bits.
        if let Some(mode) = attributes.mode {
            fchmod(&file, Mode::from_raw_mode(mode)).map_err(fail("change mode of"))?;
        }
        if let Some(at) = attributes.modified_at {
            set_times(&file, at).map_err(fail("change time of"))?;
        }
        fsync(&file).map_err(fail("sync"))
    }

    /// Gives what is here, also a link, its owner.
    pub(super) fn set_owner(&self, attributes: Attributes) -> Result<(), Error> {
        let Attributes { user, group, .. } = attributes;
        if user.is_none() && group.is_none() {
            return Ok(());
        }
        let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        chownat(&self.folder, &self.name, user, group, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("change owner of", &self.path))?;
        self.sync_folder()
    }

    /// Opens what is here, which is no link.
    pub(super) fn open(&self, flags: OFlags, mode: Mode) -> Result<OwnedFd, Error> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.folder, &self.name, flags, mode).map_err(failed("open", &self.path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names in the directory that is here, in order, with what they are.
    pub(super) fn children(&self) -> Result<Vec<(Self, FileType)>, Error> {
        let inside = Arc::new(self.open_directory()?);
        let mut names = names_in(&inside).map_err(failed("list", &self.path))?;
        names.sort_by(|one, other| one.0.cmp(&other.0));
        let child = |(name, file_type): (OsString, FileType)| {
            let path = self.path.join(&name);
            (Self { path, folder: Arc::clone(&inside), name }, file_type)
        };
        Ok(names.into_iter().map(child).collect())
    }

    /// The place of a name in the directory that is here.
    pub(super) fn child(&self, name: &OsStr) -> Result<Self, Error> {
        let folder = Arc::new(self.open_directory()?);
        Ok(Self { path: self.path.join(name), folder, name: name.to_owned() })
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
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

fn set_times(file: impl AsFd, (tv_sec, tv_nsec): (i64, i64)) -> rustix::io::Result<()> {
    let at = Timespec { tv_sec, tv_nsec: tv_nsec as _ };
    futimens(file, &Timestamps { last_access: at, last_modification: at })
}

/// Names the failed operation and the path.
pub(super) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> Error {
    let path = path.to_owned();
    move |errno| Error::Io { operation, path, source: errno.into() }
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
    if depth == DEPTH_MAX {
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
