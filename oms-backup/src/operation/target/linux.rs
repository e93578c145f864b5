//! The target on Linux.

use super::{CopyOption, Made, Ownership, Placed, is_temporary_name};
use crate::item::source::open_attributes;
use crate::vault::format::{Node, NodeKind, NodeName, mode_to_unix};
use rustix::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, Stat, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open folder and its path below the target, for messages and for opening it again.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    fd: Arc<OwnedFd>,
    pub(crate) path: PathBuf,
}

/// How old a link or pipe with a temporary name is before it counts as left, in seconds.
const LEFTOVER_SECONDS_MIN: i64 = 2;

const FOLDER_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The mode of a folder that was made and has not got its own yet: for its owner alone, and with a bit
/// that means nothing there and that nobody gives such a folder, by which a restore that goes on knows it.
/// The folder above may hand down less to the owner, until that is made good.
const UNFINISHED: u32 = 0o1700;

/// What the owner of a folder may do in it.
const OWNERS: u32 = 0o700;

/// Labels that the kernel itself puts on files as they are made. They lessen rights and give none.
const LABELS: [&str; 2] = ["security.selinux", "security.SMACK64"];

/// Lists of who else may do what, which the target's folders hand down to what is made in them.
const ACCESS_LISTS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// Opens the target itself, making it if need be. `own` is the folder whose metadata it gets if a
/// restore made it, this one or one that was interrupted, which the answer tells.
pub(crate) fn open_root(path: &Path, own: Option<&Node>) -> io::Result<(Folder, bool)> {
    let mut is_made = false;
    if own.is_some() && !path.exists() {
        make_folders(path.parent().unwrap_or(Path::new("")))?;
        is_made = match rustix::fs::mkdir(path, Mode::from_raw_mode(UNFINISHED)) {
            Err(Errno::EXIST) => false,
            made => made.map(|()| true)?,
        };
    }
    make_folders(path)?;
    let flags = FOLDER_FLAGS.difference(OFlags::NOFOLLOW);
    if let Some(node) = own {
        is_made |= is_unfinished(&rustix::fs::stat(path)?, node);
    }
    let fd = match is_made {
        true => open_wide(CWD, path.as_os_str(), flags)?,
        false => rustix::fs::open(path, flags, Mode::empty())?,
    };
    Ok((Folder { fd: Arc::new(fd), path: PathBuf::new() }, is_made))
}

/// Makes a folder that is not there, and those above it.
fn make_folders(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    make_folders(path.parent().unwrap_or(Path::new("")))?;
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o777)) {
        Ok(()) => open_wide(CWD, path.as_os_str(), FOLDER_FLAGS).map(drop),
        // Another process made it.
        Err(Errno::EXIST) if path.is_dir() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder in which its owner may do everything from now on: what is above a folder may hand down
/// less to its owner as it is made.
fn open_wide(above: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    // A folder that lets nobody read it can be opened in no other way.
    let fd = rustix::fs::openat(above, name, flags | OFlags::PATH, Mode::empty())?;
    let mode = rustix::fs::fstat(&fd)?.st_mode & 0o7777;
    if mode & OWNERS != OWNERS {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        // Somebody else's folder may be open to this user in another way; what it is not open to
        // fails by name.
        let _ = rustix::fs::chmod(path, Mode::from_raw_mode(mode | OWNERS));
    }
    Ok(rustix::fs::openat(&fd, ".", flags, Mode::empty())?)
}

/// Whether a restore made a folder for that node and did not come to its end.
fn is_unfinished(folder: &Stat, node: &Node) -> bool {
    let is_owned = folder.st_uid == node.uid || folder.st_uid == this_user();
    is_owned && folder.st_mode & 0o1777 & !OWNERS == UNFINISHED & !OWNERS
}

fn this_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The path of a name in a folder.
pub(crate) fn join(folder: &Path, name: &NodeName) -> PathBuf {
    folder.join(name.as_os_str())
}

/// Whether this process may give files away.
pub(crate) fn ownership() -> Ownership {
    Ownership { is_restored: rustix::process::geteuid().is_root() }
}

pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

impl Folder {
    /// Makes everything on the folder's file system durable.
    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&*self.fd)?)
    }

    /// Opens a folder in this one.
    pub(crate) fn open(&self, name: &NodeName) -> io::Result<Self> {
        let fd = rustix::fs::openat(&*self.fd, name.as_os_str(), FOLDER_FLAGS, Mode::empty())?;
        Ok(Self { fd: Arc::new(fd), path: self.path.join(name.as_os_str()) })
    }

    /// Opens a folder in this one so that it can be filled: its owner may do everything in it until it
    /// gets its own mode.
    pub(crate) fn open_to_fill(&self, name: &NodeName) -> io::Result<Self> {
        let fd = open_wide(self.fd.as_fd(), name.as_os_str(), FOLDER_FLAGS)?;
        Ok(Self { fd: Arc::new(fd), path: self.path.join(name.as_os_str()) })
    }

    /// Opens a folder below this one, one name after the other.
    pub(crate) fn open_below(&self, path: &Path) -> io::Result<Self> {
        let mut folder = self.clone();
        for name in path {
            let fd = rustix::fs::openat(&*folder.fd, name, FOLDER_FLAGS, Mode::empty())?;
            folder = Self { fd: Arc::new(fd), path: folder.path.join(name) };
        }
        Ok(folder)
    }

    /// Whether anything has that name here.
    pub(crate) fn has(&self, name: &NodeName) -> io::Result<bool> {
        Ok(self.look(name)?.is_some())
    }

    /// What has that name here, if anything.
    fn look(&self, name: &NodeName) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&*self.fd, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a folder that only its owner can enter, once it is [open to be filled](Self::open_to_fill);
    /// its own mode follows when it is full. Answers who made it.
    pub(crate) fn make(&self, node: &Node, copy: CopyOption) -> io::Result<Made> {
        let name = &node.name;
        match self.look(name)? {
            None => {}
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let is_unfinished = is_unfinished(&stat, node);
                return Ok(if is_unfinished { Made::Unfinished } else { Made::Before });
            }
            Some(_) if copy == CopyOption::Overwrite => {
                rustix::fs::unlinkat(&*self.fd, name.as_os_str(), AtFlags::empty())?;
            }
            Some(_) => return Err(io::Error::other("something else is in the place of a folder")),
        }
        rustix::fs::mkdirat(&*self.fd, name.as_os_str(), Mode::from_raw_mode(UNFINISHED))?;
        Ok(Made::Now)
    }

    /// Gives what was made as `temporary` its name. Nothing is left under `temporary`.
    pub(crate) fn place(
        &self,
        temporary: &str,
        name: &NodeName,
        copy: CopyOption,
    ) -> io::Result<Placed> {
        let name = name.as_os_str();
        let placed = if copy == CopyOption::Overwrite {
            rustix::fs::renameat(&*self.fd, temporary, &*self.fd, name)
        } else {
            match rustix::fs::renameat_with(
                &*self.fd,
                temporary,
                &*self.fd,
                name,
                RenameFlags::NOREPLACE,
            ) {
                // Some file systems cannot; a link refuses an existing name, too.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    rustix::fs::linkat(&*self.fd, temporary, &*self.fd, name, AtFlags::empty())
                        .and_then(|()| rustix::fs::unlinkat(&*self.fd, temporary, AtFlags::empty()))
                }
                renamed => renamed,
            }
        };
        match placed {
            Ok(()) => Ok(Placed::Placed),
            Err(Errno::EXIST) if copy == CopyOption::Skip => {
                self.discard(temporary);
                Ok(Placed::KeptExisting)
            }
            Err(error) => {
                self.discard(temporary);
                Err(error.into())
            }
        }
    }

    /// Removes an unfinished file; it is named so that a person knows what it is if this fails.
    pub(crate) fn discard(&self, temporary: &str) {
        let _ = rustix::fs::unlinkat(&*self.fd, temporary, AtFlags::empty());
    }

    /// Makes an empty file for writing. While it is open another restore takes it for no leftover.
    pub(crate) fn create_file(&self, temporary: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&*self.fd, temporary, flags | OFlags::CLOEXEC, mode)?;
        // Where a file system has no locks there is nothing to be told by them.
        let _ = rustix::fs::flock(&fd, FlockOperation::LockExclusive);
        let stat = rustix::fs::fstat(&fd)?;
        if stat.st_nlink == 0 {
            return Err(io::Error::other("another restore into this folder has just begun"));
        }
        // The folder may hand down less; what cannot be opened cannot be seen to be locked.
        if Mode::from_raw_mode(stat.st_mode) & mode != mode {
            rustix::fs::fchmod(&fd, mode)?;
        }
        Ok(fd.into())
    }

    /// Opens a regular file that has a node's name and no other one, to be looked at. None if there is
    /// no such file, it may not be read, or somebody has or had rights in it that the node does not give:
    /// taking them away does not reach those who have it open.
    pub(crate) fn open_existing(&self, node: &Node, ownership: Ownership) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*self.fd, node.name.as_os_str(), flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&fd).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_owned =
            stat.st_uid == this_user() || (ownership.is_restored && stat.st_uid == node.uid);
        let group = if ownership.is_restored { node.gid } else { self.group_of_new().ok()? };
        let mode = mode_to_unix(node.mode);
        // What the node gives its group it gives no other one.
        let given = if stat.st_gid == group { mode } else { mode & !0o020 };
        let is_closed = stat.st_mode & 0o022 & !given == 0;
        let is_kept = is_file && stat.st_nlink == 1 && is_owned && is_closed;
        (is_kept && has_no_other_attributes(fd.as_fd(), node)).then(|| fd.into())
    }

    /// The group of a file that this process makes here.
    fn group_of_new(&self) -> io::Result<u32> {
        const SET_GROUP: u32 = 0o2000;
        let stat = rustix::fs::fstat(&*self.fd)?;
        let is_handed_down = stat.st_mode & SET_GROUP != 0;
        Ok(if is_handed_down { stat.st_gid } else { rustix::process::getegid().as_raw() })
    }

    /// Removes what restores left here that did not come to their end, but nothing that `is_kept` says
    /// is a file of the recovery point. Answers how many there were.
    pub(crate) fn remove_leftovers(
        &self,
        now: jiff::Timestamp,
        is_kept: impl Fn(&[u8]) -> bool,
    ) -> io::Result<u64> {
        let mut removed = 0;
        for entry in rustix::fs::Dir::read_from(&*self.fd)? {
            let entry = entry?;
            let name = entry.file_name();
            if !is_temporary_name(name.to_bytes()) || is_kept(name.to_bytes()) {
                continue;
            }
            let Ok(Some(left)) = self.left(name, now) else { continue };
            match rustix::fs::unlinkat(&*self.fd, name, AtFlags::empty()) {
                Ok(()) => removed += 1,
                // It has its own name by now, or another removed it.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            drop(left);
        }
        Ok(removed)
    }

    /// A file with a temporary name, if nobody works on it any more.
    fn left(&self, name: &CStr, now: jiff::Timestamp) -> rustix::io::Result<Option<Left>> {
        let stat = rustix::fs::statat(&*self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && stat.st_nlink == 1 {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            if let Ok(fd) = rustix::fs::openat(&*self.fd, name, flags, Mode::empty()) {
                let locked = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
                return Ok(locked.is_ok().then_some(Left { _lock: Some(fd) }));
            }
        }
        // Links and pipes have their temporary name for a moment only, and nothing that locks them.
        let is_old = now.as_second() - stat.st_ctime > LEFTOVER_SECONDS_MIN;
        Ok(is_old.then_some(Left { _lock: None }))
    }

    /// Makes a link, pipe, socket or device file.
    pub(crate) fn create_special(&self, temporary: &str, node: &Node) -> io::Result<()> {
        let kind = match node.kind {
            NodeKind::Symlink => {
                rustix::fs::symlinkat(node.link_target_bytes(), &*self.fd, temporary)?;
                return Ok(());
            }
            NodeKind::Fifo => FileType::Fifo,
            NodeKind::Socket => FileType::Socket,
            NodeKind::Dev => FileType::BlockDevice,
            NodeKind::CharDev => FileType::CharacterDevice,
            NodeKind::File | NodeKind::Dir | NodeKind::Unknown => {
                let reason = "its kind is not known to this version";
                return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
            }
        };
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(&*self.fd, temporary, kind, mode, node.device)?;
        Ok(())
    }

    /// Makes a second name for a file below `root`.
    pub(crate) fn link_from(
        &self,
        from: &Self,
        name: &NodeName,
        temporary: &str,
    ) -> io::Result<()> {
        let name = name.as_os_str();
        rustix::fs::linkat(&*from.fd, name, &*self.fd, temporary, AtFlags::empty())?;
        Ok(())
    }

    /// Puts metadata on the folder itself. Answers what could not be done.
    pub(crate) fn finish(&self, node: &Node, ownership: Ownership) -> Vec<String> {
        finish_open(self.fd.as_fd(), node, ownership)
    }

    /// Puts owner, attributes, mode and times on something that is not open, without following
    /// it. Answers what could not be done.
    pub(crate) fn finish_special(
        &self,
        temporary: &str,
        node: &Node,
        ownership: Ownership,
    ) -> Vec<String> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&*self.fd, temporary, flags, Mode::empty()) {
            Err(error) => vec![format!("metadata: {error}")],
            Ok(fd) => {
                let mut failed = Vec::new();
                // A path descriptor takes no changes itself; the process's own folder of
                // descriptors leads to what it holds, whatever has its name by now.
                let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
                let is_link = node.kind == NodeKind::Symlink;
                if ownership.is_restored {
                    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
                    let owned = rustix::fs::chownat(
                        &fd,
                        "",
                        Some(uid),
                        Some(gid),
                        AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW,
                    );
                    note(&mut failed, "owner", owned);
                }
                for attribute in &node.extended_attributes {
                    let (name, value) = (attribute.name.as_str(), attribute.value.as_slice());
                    // Through `/proc` a link would be followed; by its name it is not.
                    let by_name =
                        format!("/proc/self/fd/{}/{temporary}", self.fd.as_fd().as_raw_fd());
                    let set = rustix::fs::lsetxattr(by_name, name, value, XattrFlags::empty());
                    note(&mut failed, &format!("attribute {name}"), set);
                }
                if !is_link {
                    remove_access_lists(
                        &mut failed,
                        node,
                        |name| rustix::fs::getxattr(&path, name, &mut [0; 0][..]),
                        |name| rustix::fs::removexattr(&path, name),
                    );
                    let mode = Mode::from_raw_mode(mode_to_unix(node.mode));
                    note(&mut failed, "mode", rustix::fs::chmod(path, mode));
                }
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                let timed = rustix::fs::utimensat(&*self.fd, temporary, &timestamps(node), flags);
                note(&mut failed, "times", timed);
                failed
            }
        }
    }
}

/// Something that nobody works on any more. Its lock, if it has one, is held until it has no name: who
/// has just made it and waits for the lock sees that it is gone.
#[derive(Debug)]
struct Left {
    _lock: Option<OwnedFd>,
}

/// Whether a file has no attribute that the node does not give it, such as a list of who may write.
fn has_no_other_attributes(fd: BorrowedFd<'_>, node: &Node) -> bool {
    let Ok((attributes, unread)) = open_attributes(fd) else { return false };
    unread.is_empty()
        && attributes
            .iter()
            .all(|it| LABELS.contains(&it.name.as_str()) || node.extended_attributes.contains(it))
}

/// Puts metadata on an open file. Answers what could not be done.
pub(crate) fn finish_file(file: &File, node: &Node, ownership: Ownership) -> Vec<String> {
    finish_open(file.as_fd(), node, ownership)
}

/// Puts owner, attributes, times and mode on an open file or folder: changing the owner clears
/// set-id bits and capabilities, and a mode opens the access list that is there to those whom it
/// lists. The mode comes last, which changes no time: what has it is finished.
/// Answers what could not be done.
fn finish_open(fd: BorrowedFd<'_>, node: &Node, ownership: Ownership) -> Vec<String> {
    let mut failed = Vec::new();
    if ownership.is_restored {
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        note(&mut failed, "owner", rustix::fs::fchown(fd, Some(uid), Some(gid)));
    }
    for attribute in &node.extended_attributes {
        let (name, value) = (attribute.name.as_str(), attribute.value.as_slice());
        let set = rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty());
        note(&mut failed, &format!("attribute {name}"), set);
    }
    remove_access_lists(
        &mut failed,
        node,
        |name| rustix::fs::fgetxattr(fd, name, &mut [0; 0][..]),
        |name| rustix::fs::fremovexattr(fd, name),
    );
    note(&mut failed, "times", rustix::fs::futimens(fd, &timestamps(node)));
    let mode = Mode::from_raw_mode(mode_to_unix(node.mode));
    note(&mut failed, "mode", rustix::fs::fchmod(fd, mode));
    failed
}

/// Removes the access lists that the node does not have. `length` answers only for one that is there.
fn remove_access_lists(
    failed: &mut Vec<String>,
    node: &Node,
    length: impl Fn(&str) -> rustix::io::Result<usize>,
    remove: impl Fn(&str) -> rustix::io::Result<()>,
) {
    for name in ACCESS_LISTS {
        let is_given = node.extended_attributes.iter().any(|it| it.name == name);
        if !is_given && length(name).is_ok() {
            note(failed, &format!("attribute {name}"), remove(name));
        }
    }
}

fn note(failed: &mut Vec<String>, what: &str, result: rustix::io::Result<()>) {
    if let Err(error) = result {
        failed.push(format!("{what}: {error}"));
    }
}

fn timestamps(node: &Node) -> Timestamps {
    let convert = |time: jiff::Timestamp| {
        let nanoseconds = time.as_nanosecond();
        // Before 1970 the seconds round down and the nanoseconds stay positive.
        Timespec {
            tv_sec: nanoseconds.div_euclid(1_000_000_000) as i64,
            tv_nsec: nanoseconds.rem_euclid(1_000_000_000) as _,
        }
    };
    Timestamps { last_access: convert(node.atime), last_modification: convert(node.mtime) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Whoever owns a file could change it after it was kept. There are files of others also where
    /// nobody can give one away: the system's.
    #[test]
    fn an_ordinary_user_keeps_no_file_of_another() {
        let work = || {
            if rustix::process::geteuid().is_root() {
                set_thread_groups(&[]).expect("no groups");
                let (user, group) = (Uid::from_raw(12_345), Gid::from_raw(12_345));
                set_thread_res_gid(group, group, group).expect("a group");
                set_thread_res_uid(user, user, user).expect("a user");
            }
            let is_theirs = |entry: &std::fs::DirEntry| {
                let Ok(stat) = entry.path().symlink_metadata() else { return false };
                let is_plain = stat.is_file() && stat.nlink() == 1 && stat.mode() & 0o022 == 0;
                is_plain && stat.uid() != this_user() && File::open(entry.path()).is_ok()
            };
            let mut system = std::fs::read_dir("/etc").expect("the system's files").flatten();
            let theirs = system.find(is_theirs).expect("a file of another user in /etc");
            let name = theirs.file_name().into_string().expect("a name");
            let stat = theirs.metadata().expect("metadata");
            let node = serde_json::json!({
                "name": name, "type": "file", "mode": stat.mode() & 0o777, "uid": stat.uid(),
                "gid": stat.gid(), "size": stat.len(),
            });
            let node: Node = serde_json::from_value(node).expect("a node");
            let own = tempfile::tempdir().expect("a folder");
            let file = own.path().join(&name);
            std::fs::copy(theirs.path(), &file).expect("a copy");
            let mode = std::fs::Permissions::from_mode(stat.mode() & 0o777);
            std::fs::set_permissions(&file, mode).expect("a mode");
            let is_kept = |folder: &Path| {
                let (root, _) = open_root(folder, None).expect("it opens");
                root.open_existing(&node, Ownership { is_restored: false }).is_some()
            };
            assert_eq!((is_kept(own.path()), is_kept(Path::new("/etc"))), (true, false), "{name}");
        };
        std::thread::scope(|scope| scope.spawn(work).join()).expect("the user's thread");
    }

    /// Another restore removes leftovers while this one makes files.
    #[test]
    fn a_file_that_was_made_has_its_name_until_it_is_placed() {
        const FILES: u32 = 20_000;
        let folder = tempfile::tempdir().expect("a folder");
        let (root, _) = open_root(folder.path(), None).expect("it opens");
        let name = NodeName::new(b"file").expect("a name");
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Acquire) {
                    root.remove_leftovers(jiff::Timestamp::UNIX_EPOCH, |_| false).expect("listed");
                }
            });
            let mut made = 0;
            let mut lost = None;
            for number in 0..FILES {
                let temporary = format!(".oms-restore-{number:016x}");
                // The other one may have it first, which is told.
                let Ok(_file) = root.create_file(&temporary) else { continue };
                made += 1;
                if let Err(error) = root.place(&temporary, &name, CopyOption::Overwrite) {
                    lost = Some((number, error));
                    break;
                }
            }
            is_done.store(true, Ordering::Release);
            assert!(lost.is_none() && made > FILES / 2, "{lost:?}, {made} made");
        });
    }
}
