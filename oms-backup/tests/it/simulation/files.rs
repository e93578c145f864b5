//! The files of the client, in memory. What a machine's own file system says of files, their numbers
//! and times, is in what a backup stores, and would be another each time that a seed is run.

use crate::common::{Entry, describe};
use jiff::Timestamp;
use oms_backup::item::source::{FileState, SourceEntry, SourceFile, SourceTree};
use oms_backup::vault::format::{Node, NodeKind, NodeName, mode_from_unix};
use oms_core::Clock;
use oms_core::clock::ManualClock;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Cursor, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

#[derive(Debug)]
pub(super) struct Files {
    clock: Arc<ManualClock>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    things: BTreeMap<PathBuf, Thing>,
    last_inode: u64,
}

#[derive(Clone, Debug)]
struct Thing {
    /// None for a folder.
    content: Option<Vec<u8>>,
    changed: Timestamp,
    inode: u64,
}

impl Thing {
    fn state(&self) -> FileState {
        let size = self.content.as_ref().map_or(0, Vec::len) as u64;
        FileState { device: 1, inode: self.inode, size, mtime: self.changed, ctime: self.changed }
    }

    const fn mode(&self) -> u32 {
        if self.content.is_some() { FILE_MODE } else { FOLDER_MODE }
    }
}

impl Held {
    fn put(&mut self, path: &Path, content: Option<Vec<u8>>, changed: Timestamp) {
        let inode = self.things.get(path).map_or(self.last_inode + 1, |thing| thing.inode);
        self.last_inode = self.last_inode.max(inode);
        self.things.insert(path.to_owned(), Thing { content, changed, inode });
    }
}

impl Files {
    pub(super) fn new(clock: Arc<ManualClock>) -> Self {
        Self { clock, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("not poisoned")
    }

    pub(super) fn write(&self, path: &Path, content: Vec<u8>) {
        let (mut held, now) = (self.held(), self.clock.now());
        let folders: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
        for folder in folders.iter().rev().filter(|folder| folder.file_name().is_some()) {
            if !held.things.contains_key(folder) {
                held.put(folder, None, now);
            }
        }
        held.put(path, Some(content), now);
    }

    pub(super) fn remove(&self, path: &Path) {
        self.held().things.remove(path);
    }

    /// What a restore of a folder has to bring back: the same files on this machine, described.
    pub(super) fn describe(&self, root: &Path) -> BTreeMap<PathBuf, Entry> {
        let copy = tempfile::tempdir().expect("a folder");
        let held = self.held();
        let below = |path: &Path| path.strip_prefix(root).ok().map(|path| copy.path().join(path));
        let things = held.things.iter().filter_map(|(path, thing)| Some((below(path)?, thing)));
        let things: Vec<(PathBuf, &Thing)> = things.collect();
        for (path, thing) in &things {
            match &thing.content {
                Some(content) => std::fs::write(path, content).expect("written"),
                None => std::fs::create_dir_all(path).expect("a folder"),
            }
        }
        // A folder's time comes after those of what is in it.
        for (path, thing) in things.iter().rev() {
            let mode = std::fs::Permissions::from_mode(thing.mode());
            std::fs::set_permissions(path, mode).expect("a mode");
            let (seconds, nanos) = (thing.changed.as_second(), thing.changed.subsec_nanosecond());
            let time = filetime::FileTime::from_unix_time(seconds, nanos.unsigned_abs());
            filetime::set_file_mtime(path, time).expect("a time");
        }
        describe(copy.path())
    }
}

impl SourceTree for Files {
    fn look_at(&self, path: &Path, _follows: bool) -> io::Result<SourceEntry> {
        let held = self.held();
        let thing = held.things.get(path).ok_or(io::ErrorKind::NotFound)?;
        let name = NodeName::new(path.file_name().unwrap_or_default().as_bytes());
        let kind = if thing.content.is_some() { NodeKind::File } else { NodeKind::Dir };
        let mut node = Node::new(name.expect("a name"), kind);
        let state = thing.state();
        node.mode = mode_from_unix(kind, thing.mode());
        (node.mtime, node.atime, node.ctime) = (state.mtime, state.mtime, state.ctime);
        node.uid = rustix::process::geteuid().as_raw();
        node.gid = rustix::process::getegid().as_raw();
        node.inode = state.inode;
        if kind == NodeKind::File {
            (node.size, node.links) = (state.size, 1);
        }
        Ok(SourceEntry { node, state, missing: Vec::new() })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let held = self.held();
        let within = held.things.keys().filter(|path| path.parent() == Some(folder));
        Ok(within.filter_map(|path| path.file_name()).map(ToOwned::to_owned).collect())
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn SourceFile>> {
        let thing = self.held().things.get(file).cloned().ok_or(io::ErrorKind::NotFound)?;
        let state = thing.state();
        let content = Cursor::new(thing.content.ok_or(io::ErrorKind::IsADirectory)?);
        Ok(Box::new(Opened { content, state }))
    }
}

#[derive(Debug)]
struct Opened {
    content: Cursor<Vec<u8>>,
    state: FileState,
}

impl Read for Opened {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.content.read(bytes)
    }
}

impl SourceFile for Opened {
    fn state(&self) -> io::Result<FileState> {
        Ok(self.state)
    }
}
