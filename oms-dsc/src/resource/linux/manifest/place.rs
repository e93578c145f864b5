//! Places that nobody else can change: what lies there says what this node runs.
//!
//! A path is walked from the root, each step from the open folder before it, so that what was looked at is
//! what is read. Every folder on the way has to belong to root or to this process' user, and nobody else may
//! write in it. A folder with the sticky bit, such as `/tmp`, may lie above: whose is in it stays as it is.

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

/// How many symbolic links on one way are followed.
const LINKS_MAX: usize = 40;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is done about symbolic links.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Links {
    /// They are refused by name.
    Refused,
    /// They are followed if nobody else can change them: the system's own programs have such.
    Followed,
}

/// A folder that only root and this process' user can change.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    open: OwnedFd,
}

impl Folder {
    /// Opens a folder; none if it is not there.
    ///
    /// # Errors
    /// Says which step of the way is a link, or can be changed by others.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, String> {
        let Some(found) = walk(path, Links::Refused)? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = match openat(&found, ".", flags, Mode::empty()) {
            Ok(open) => open,
            Err(Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(failed("open", path, errno)),
        };
        // In one with the sticky bit others can put files, also under a name that is looked for.
        let stat = fstat(&open).map_err(|errno| failed("look at", path, errno))?;
        match stat.st_mode & 0o022 {
            0 => Ok(Some(Self { path: path.to_owned(), open })),
            _ => Err(changeable(path)),
        }
    }

    /// The names in it, in order.
    pub(super) fn names(&self) -> Result<Vec<OsString>, String> {
        let names = super::super::tree::names_in(&self.open);
        let names = names.map_err(|errno| failed("list", &self.path, errno))?;
        let mut names: Vec<OsString> = names.into_iter().map(|(name, _)| name).collect();
        names.sort();
        Ok(names)
    }

    /// The contents of a file in it, of at most `limit` bytes.
    ///
    /// # Errors
    /// Says why it is not read: it is a link or no file, others can change it, or it is too large.
    pub(super) fn read(&self, name: &OsStr, limit: u64) -> Result<Vec<u8>, String> {
        let path = self.path.join(name);
        // A pipe that nobody writes to would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.open, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP => link(&path),
            errno => failed("open", &path, errno),
        })?;
        let stat = fstat(&file).map_err(|errno| failed("look at", &path, errno))?;
        check(&stat, &path)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let mut bytes = Vec::new();
        if is_file {
            let read = File::from(file).take(limit + 1).read_to_end(&mut bytes);
            read.map_err(|error| format!("read of {} failed: {error}", path.display()))?;
        }
        match is_file && bytes.len() as u64 <= limit {
            true => Ok(bytes),
            false => Err(format!("{} is no file of at most {limit} bytes", path.display())),
        }
    }
}

/// Whether a file is at a path, which nobody else can change.
///
/// # Errors
/// Says which step of the way is a link that is refused, or can be changed by others.
pub(super) fn has_file(path: &Path, links: Links) -> Result<bool, String> {
    let Some(found) = walk(path, links)? else { return Ok(false) };
    let stat = fstat(&found).map_err(|errno| failed("look at", path, errno))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

/// Walks an absolute path to its end; none if something on the way is not there.
fn walk(path: &Path, links: Links) -> Result<Option<OwnedFd>, String> {
    let fail = |operation, errno| failed(operation, path, errno);
    let root = open("/", LOOK | OFlags::DIRECTORY, Mode::empty());
    let root = root.map_err(|errno| fail("open", errno))?;
    check(&fstat(&root).map_err(|errno| fail("look at", errno))?, Path::new("/"))?;
    // The folders that the way has come through, for `..`.
    let mut way = vec![(root, PathBuf::from("/"))];
    let mut steps = steps_of(path);
    let mut links_seen = 0;
    while let Some(step) = steps.pop_front() {
        if step == ".." {
            if way.len() > 1 {
                way.pop();
            }
            continue;
        }
        let Some((folder, above)) = way.last() else { break };
        let here = above.join(&step);
        let next = match openat(folder, &step, LOOK, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(failed("open", &here, errno)),
        };
        let stat = fstat(&next).map_err(|errno| failed("look at", &here, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            check(&stat, &here)?;
            way.push((next, here));
            continue;
        }
        links_seen += 1;
        if links == Links::Refused || links_seen > LINKS_MAX {
            return Err(link(&here));
        }
        if !is_own(&stat) {
            return Err(changeable(&here));
        }
        let target = readlinkat(&next, "", Vec::new());
        let target = target.map_err(|errno| failed("read link", &here, errno))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            way.truncate(1);
        }
        let mut longer = steps_of(&target);
        longer.append(&mut steps);
        steps = longer;
    }
    Ok(way.pop().map(|(found, _)| found))
}

fn steps_of(path: &Path) -> VecDeque<OsString> {
    let step = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(step).collect()
}

/// Refuses what somebody else than root and this process' user can change.
fn check(stat: &Stat, path: &Path) -> Result<(), String> {
    let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let is_sticky = is_folder && stat.st_mode & 0o1000 != 0;
    match is_own(stat) && (stat.st_mode & 0o022 == 0 || is_sticky) {
        true => Ok(()),
        false => Err(changeable(path)),
    }
}

fn is_own(stat: &Stat) -> bool {
    [0, rustix::process::geteuid().as_raw()].contains(&stat.st_uid)
}

fn changeable(path: &Path) -> String {
    format!("others can write {}, which says what this node runs", path.display())
}

fn link(path: &Path) -> String {
    format!("{} is a symbolic link, which is not followed to what this node runs", path.display())
}

fn failed(operation: &str, path: &Path, errno: Errno) -> String {
    format!("{operation} of {} failed: {errno}", path.display())
}
