//! Places in the tree of files, reached from open directories only.

mod temporary;

use crate::Error;
use jiff::Timestamp;
use oms_core::task::blocking;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    chownat, fchmod, fchown, fstat, fsync, futimens, mkdirat, openat, openat2, readlinkat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use temporary::Temporary;

/// The mode of a directory that is no copy of another.
pub(super) const NEW_DIRECTORY: u32 = 0o755;

/// How deep a directory may be that is walked or removed.
pub(super) const DEPTH_MAX: usize = 128;

/// How many symbolic links in a row are followed.
const LINKS_MAX: usize = 32;

/// How often a walk is tried while others rename files.
const WALKS_MAX: usize = 1_000;

/// How many directories may lie above a place that is compared with them.
const HOLDERS_MAX: usize = 4_096;

/// The largest file of the system's own that is read, such as `/etc/passwd`, in bytes.
const SYSTEM_FILE_BYTES_MAX: u64 = 64 << 20;

/// Where paths may lead.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// None means everywhere.
    folder: Option<Folder>,
}

/// The only folder where paths lead.
#[derive(Clone, Debug)]
struct Folder {
    /// As it was given, and without symbolic links.
    given: PathBuf,
    resolved: PathBuf,
    /// One that stays the same, whatever its path leads to by now.
    open: Option<Arc<OwnedFd>>,
}

const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A resource that knows where its paths may lead, and the two ways of making one. Other fields have the
/// same value in both.
macro_rules! rooted {
    (
        $(#[$about:meta])*
        pub struct $name:ident $({ $($field:ident: $type:ty = $value:expr,)+ })?;
        $(#[$everywhere:meta])*
        everywhere;
        $(#[$within:meta])*
        within;
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        pub struct $name {
            root: $crate::resource::linux::tree::Root,
            $($($field: $type,)+)?
        }

        impl $name {
            $(#[$everywhere])*
            #[must_use]
            pub fn unrestricted() -> Self {
                Self {
                    root: $crate::resource::linux::tree::Root::everywhere(),
                    $($($field: $value,)+)?
                }
            }

            $(#[$within])*
            ///
            /// # Errors
            /// [`Error::Io`](crate::Error::Io) if there is no such folder.
            pub fn within(
                root: impl Into<::std::path::PathBuf>,
            ) -> ::std::result::Result<Self, $crate::Error> {
                Ok(Self {
                    root: $crate::resource::linux::tree::Root::only(root.into())?,
                    $($($field: $value,)+)?
                })
            }
        }
    };
}

pub(super) use rooted;

impl Root {
    pub(super) const fn everywhere() -> Self {
        Self { folder: None }
    }

    pub(super) fn only(given: PathBuf) -> Result<Self, Error> {
        let resolved = std::fs::canonicalize(&given).map_err(|source| Error::Io {
            operation: "resolve root",
            path: given.clone(),
            source,
        })?;
        Ok(Self { folder: Some(Folder { given, resolved, open: None }) })
    }

    /// The directory at a path, over symbolic links, as the only one where paths lead; none if it is
    /// not there and is not to be made.
    pub(super) fn below(&self, path: &Path, makes_folders: bool) -> Result<Option<Self>, Error> {
        let place = match self.follow(path)? {
            Some((place, _)) => place,
            None if makes_folders => {
                let missing = || failed("make directory", path)(Errno::NOENT);
                let place = self.place(path, true)?.ok_or_else(missing)?;
                place.make_directory(NEW_DIRECTORY)?;
                place
            }
            None => return Ok(None),
        };
        let open = Some(Arc::new(place.open_directory()?));
        let (given, resolved) = (path.to_owned(), path.to_owned());
        Ok(Some(Self { folder: Some(Folder { given, resolved, open }) }))
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
            Some(folder) => folder.given.join(path.trim_start_matches('/')),
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
            let Some(place) = self.place_or_folder(&path)? else { return Ok(None) };
            let Some(found) = place.found()? else { return Ok(None) };
            if found.file_type != FileType::Symlink {
                return Ok(Some((place, found)));
            }
            // Any `..` of the target stays: where it leads depends on links before it.
            path.pop();
            path.push(place.link_target()?);
        }
        Err(failed("follow links of", &path)(Errno::LOOP))
    }

    /// Refuses a path that is not below the root.
    pub(super) fn check(&self, path: &Path) -> Result<(), Error> {
        self.way(path)?.file_name().map(|_| ()).ok_or_else(|| self.outside(path))
    }

    /// The way of a path from the root.
    fn way<'a>(&self, path: &'a Path) -> Result<&'a Path, Error> {
        let Some(Folder { given, resolved, .. }) = &self.folder else {
            return Ok(path.strip_prefix("/").unwrap_or(path));
        };
        let way = path.strip_prefix(given).or_else(|_| path.strip_prefix(resolved));
        way.map_err(|_| self.outside(path))
    }

    fn outside(&self, path: &Path) -> Error {
        let root = self.folder.as_ref().map(|folder| folder.given.clone()).unwrap_or_default();
        Error::OutsideRoot { path: path.to_owned(), root }
    }

    /// The place of a path; none if its folder is not there and is not to be made.
    pub(super) fn place(&self, path: &Path, makes_folders: bool) -> Result<Option<Place>, Error> {
        let way = self.way(path)?;
        let name = way.file_name().ok_or_else(|| self.outside(path))?.to_owned();
        let parent = way.parent().unwrap_or(way);
        let folder = self.open_folder(parent, makes_folders, path)?;
        Ok(folder.map(|folder| Place { path: path.to_owned(), folder, name }))
    }

    /// The place of a path, which may be that of a folder without a name: of the root, or of `..`.
    fn place_or_folder(&self, path: &Path) -> Result<Option<Place>, Error> {
        let way = self.way(path)?;
        if way.file_name().is_some() {
            return self.place(path, false);
        }
        let folder = self.open_folder(way, false, path)?;
        let name = OsString::from(".");
        Ok(folder.map(|folder| Place { path: path.to_owned(), folder, name }))
    }

    /// The folder that a way from the root leads to, on behalf of `path`.
    fn open_folder(
        &self,
        way: &Path,
        makes_folders: bool,
        path: &Path,
    ) -> Result<Option<Arc<OwnedFd>>, Error> {
        let base = self.open()?;
        if way.as_os_str().is_empty() {
            return Ok(Some(base));
        }
        let mut resolve = ResolveFlags::NO_MAGICLINKS;
        if self.folder.is_some() {
            resolve |= ResolveFlags::BENEATH;
        }
        let open = || walk(&base, way, resolve);
        let folder = match open() {
            Err(Errno::NOENT) if makes_folders => {
                self.make_folders(&base, way, resolve, path)?;
                open()
            }
            opened => opened,
        };
        match folder {
            Ok(folder) => Ok(Some(Arc::new(folder))),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::XDEV) => Err(self.outside(path)),
            Err(errno) => Err(failed("open folder of", path)(errno)),
        }
    }

    fn open(&self) -> Result<Arc<OwnedFd>, Error> {
        let path = match &self.folder {
            Some(Folder { open: Some(open), .. }) => return Ok(Arc::clone(open)),
            Some(folder) => &folder.resolved,
            None => Path::new("/"),
        };
        let open = openat(CWD, path, FOLDER_FLAGS, Mode::empty());
        open.map(Arc::new).map_err(failed("open", path))
    }

    /// The directories in which a path lies or will lie, and itself if it is one.
    pub(super) fn holders(&self, path: &Path) -> Result<Vec<FileId>, Error> {
        let mut nearest = path;
        let place = loop {
            if let Some(place) = self.place(nearest, false)? {
                break place;
            }
            nearest = nearest.parent().ok_or_else(|| self.outside(path))?;
        };
        place.holders()
    }

    /// Makes the folders on the way that are missing, each durable.
    fn make_folders(
        &self,
        base: &OwnedFd,
        way: &Path,
        resolve: ResolveFlags,
        path: &Path,
    ) -> Result<(), Error> {
        let mut done = PathBuf::new();
        for part in way.components() {
            let above: &Path = if done.as_os_str().is_empty() { Path::new(".") } else { &done };
            let above = match walk(base, above, resolve) {
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

/// What tells one file from every other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    const fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, number: stat.st_ino }
    }
}

/// What is at a place.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: FileId,
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
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            id: FileId::of(stat),
            file_type: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: Timestamp::from_second(stat.st_mtime).ok(),
            owner: (stat.st_uid, stat.st_gid),
            modified_at: (stat.st_mtime, stat.st_mtime_nsec as i64),
            changed_at: (stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }

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
            Ok(stat) => Ok(Some(Found::of(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(failed("look at", &self.path)(errno)),
        }
    }

    /// The directories in which this lies, and what is here if it is one.
    fn holders(&self) -> Result<Vec<FileId>, Error> {
        let mut holders = Vec::new();
        // A folder without a name is the open one itself.
        if self.name != "." {
            let own = self.found()?.filter(|found| found.file_type == FileType::Directory);
            holders.extend(own.map(|found| found.id));
        }
        let mut folder = Arc::clone(&self.folder);
        for _ in 0..HOLDERS_MAX {
            let stat = fstat(&folder).map_err(failed("look above", &self.path))?;
            // The top is its own parent.
            if holders.last() == Some(&FileId::of(&stat)) {
                return Ok(holders);
            }
            holders.push(FileId::of(&stat));
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let above = openat(&folder, "..", flags, Mode::empty());
            folder = Arc::new(above.map_err(failed("look above", &self.path))?);
        }
        Err(Error::TooLarge { what: "path, in folders", actual: HOLDERS_MAX, limit: HOLDERS_MAX })
    }

    /// Whether what was found here lies on another file system than the folder.
    pub(super) fn is_mounted(&self, found: &Found) -> Result<bool, Error> {
        let folder = fstat(&self.folder).map_err(failed("look above", &self.path))?;
        Ok(FileId::of(&folder).device != found.id.device)
    }

    /// Whether this goes with what was found elsewhere: that is a directory, and this lies in it or is it.
    pub(super) fn goes_with(&self, found: &Found) -> Result<bool, Error> {
        Ok(found.file_type == FileType::Directory && self.holders()?.contains(&found.id))
    }

    /// The contents of a file of at most `limit` bytes.
    pub(super) fn read(&self, limit: u64) -> Result<Vec<u8>, Error> {
        self.read_found(limit).map(|(_, contents)| contents)
    }

    /// A file of at most `limit` bytes and its contents: both of the one that was opened, whatever gets
    /// its name meanwhile.
    pub(super) fn read_found(&self, limit: u64) -> Result<(Found, Vec<u8>), Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(&self.folder, &self.name, flags, Mode::empty())
            .map_err(failed("open", &self.path))?;
        let found = Found::of(&fstat(&file).map_err(failed("look at", &self.path))?);
        let mut bytes = Vec::new();
        let io = |source| Error::Io { operation: "read", path: self.path.clone(), source };
        File::from(file).take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > limit {
            let (actual, limit) = (bytes.len(), usize::try_from(limit).unwrap_or(usize::MAX));
            return Err(Error::TooLarge { what: "file", actual, limit });
        }
        Ok((found, bytes))
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
        let temporary = Temporary::beside(self)?;
        let mut file = temporary.file();
        let fail = |operation| failed(operation, &self.path);
        let io = |source| Error::Io { operation: "write", path: self.path.clone(), source };
        file.write_all(contents).map_err(io)?;
        let own = fstat(file).map_err(fail("look at"))?;
        let kept = replaced.map_or((own.st_uid, own.st_gid), |found| found.owner);
        let owner = (attributes.user.unwrap_or(kept.0), attributes.group.unwrap_or(kept.1));
        if (own.st_uid, own.st_gid) != owner {
            let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            fchown(file, Some(uid), Some(gid)).map_err(fail("change owner of"))?;
        }
        let kept = replaced.map_or(0o644, |found| found.mode);
        let mode = Mode::from_raw_mode(attributes.mode.unwrap_or(kept));
        fchmod(file, mode).map_err(fail("change mode of"))?;
        if let Some(at) = attributes.modified_at {
            set_times(file, at).map_err(fail("change time of"))?;
        }
        fsync(file).map_err(fail("sync"))?;
        temporary.move_into_place()
    }

    /// Puts a symbolic link here in one step.
    pub(super) fn link_to(&self, target: &Path) -> Result<(), Error> {
        Temporary::beside(self)?.link_into_place(target)
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

    /// Makes a directory of a mode, less what this process takes from all that it makes.
    pub(super) fn make_directory(&self, mode: u32) -> Result<(), Error> {
        match mkdirat(&*self.folder, &self.name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => self.sync_folder(),
            Err(errno) => Err(failed("make directory", &self.path)(errno)),
        }
    }

    /// Gives the file or directory that is here its owner, mode and time.
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

    /// Gives what is here, of whatever type, its owner.
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

    /// Removes a directory unless something is in it, also if that came this moment; whether it did.
    pub(super) fn remove_empty_directory(&self) -> Result<bool, Error> {
        match unlinkat(&self.folder, &self.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => self.sync_folder().map(|()| true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(errno) => Err(failed("remove", &self.path)(errno)),
        }
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

/// Opens the folder that a way leads to.
fn walk(base: &OwnedFd, way: &Path, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let open = || openat2(base, way, FOLDER_FLAGS, Mode::empty(), resolve);
    // Whoever renames anything meanwhile makes the kernel unsure of where a `..` leads.
    let is_sure = |opened: &_| !matches!(opened, Err(Errno::AGAIN));
    (0..WALKS_MAX).map(|_| open()).find(is_sure).unwrap_or(Err(Errno::AGAIN))
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

pub(super) fn names_in(folder: &OwnedFd) -> rustix::io::Result<Vec<(OsString, FileType)>> {
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

/// Checks something while two files get the same name in turn, over and over.
#[cfg(test)]
pub(super) fn while_replaced(path: &Path, files: [&Path; 2], check: impl FnOnce()) {
    use std::sync::mpsc::{TryRecvError, channel};
    let (alive, ended) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let beside = path.with_extension("beside");
            while ended.try_recv() == Err(TryRecvError::Empty) {
                for file in files {
                    std::fs::hard_link(file, &beside).expect("a link");
                    std::fs::rename(&beside, path).expect("renamed");
                }
            }
        });
        // Goes also if the check fails.
        let _alive = alive;
        check();
    });
}
