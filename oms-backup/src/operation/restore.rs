//! Restore: bring a recovery point, or a part of it, into a folder.
//!
//! ```text
//!  walk of trees ──► folders made ──► files ──queue──► workers: blobs verified and written
//!                                 └─► links, pipes, devices     under a temporary name, metadata,
//!                                                               then the real name
//!  afterwards: further names of hard-linked files, then metadata of folders from the inside out
//! ```

use super::target::{
    Folder, Made, Ownership, Placed, finish_file, join, open_root, ownership, temporary_name,
    write_all_at,
};
use super::{Control, Entries, observed};
use crate::error::{Error, with_causes};
use crate::recovery_point::RecoveryPoint;
use crate::vault::format::{BlobId, BlobKind, Node, NodeKind, NodeName, Tree};
use crate::vault::{BlobReader, Catalog, Core, LockGuard, Open, Vault};
use oms_core::ErrorKind;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

pub use super::target::CopyOption;

/// How many files wait for each worker.
const WAITING_FILES_PER_WORKER_MAX: usize = 8;

/// How many folders are kept open on the way down; those above are opened again on the way back.
const OPEN_FOLDERS_MAX: usize = 128;

/// How deep folders may lie in each other.
const DEPTH_MAX: usize = 4096;

/// How many names of hard-linked files are remembered; further ones become files of their own.
const HARD_LINKS_MAX: usize = 1_000_000;

/// What to restore, and where to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestoreOptions {
    /// The recovery point: `latest`, an id, or its first digits.
    pub point: String,
    /// Only this file or folder of it. A folder's content goes into the target itself; without a
    /// path everything goes below the target under its full path.
    pub path: Option<PathBuf>,
    /// The folder to restore to; made if need be. If it is made for the content of a folder it gets that
    /// folder's metadata at the end, also of a run that goes on with an interrupted one, and is its owner's
    /// alone until then. One that somebody else made keeps its own.
    pub target: PathBuf,
    /// What happens where something is already.
    pub copy: CopyOption,
    /// Whether blocks of zeros become holes.
    pub is_sparse: bool,
    /// The threads that write files, 1 to 64.
    pub workers: usize,
}

impl RestoreOptions {
    /// The newest recovery point, wholly, into `target`.
    #[must_use]
    pub fn latest(target: impl Into<PathBuf>) -> Self {
        Self {
            point: "latest".to_owned(),
            path: None,
            target: target.into(),
            copy: CopyOption::default(),
            is_sparse: true,
            workers: 2,
        }
    }
}

/// A restore that can be run.
#[derive(Debug)]
pub struct RestorePlan {
    core: Arc<Core>,
    options: RestoreOptions,
    point: RecoveryPoint,
    top: Top,
    counts: Counts,
}

/// What is restored.
#[derive(Debug)]
enum Top {
    /// The content of a folder, which had this node unless it is the root.
    Folder { tree: BlobId, node: Option<Box<Node>> },
    /// One thing that is no folder.
    Single(Box<Node>),
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    files: u64,
    folders: u64,
    others: u64,
    bytes: u64,
}

/// What a restore did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestoreReport {
    /// The recovery point.
    pub point: RecoveryPoint,
    /// Files written, names of hard-linked files included.
    pub files: u64,
    /// Folders made or merged.
    pub folders: u64,
    /// Links, pipes, sockets and devices made.
    pub others: u64,
    /// Bytes of content written or left as holes.
    pub bytes: u64,
    /// What was there already and was kept.
    pub skipped: u64,
    /// Files that were there already with the right content, which was verified.
    pub kept: u64,
    /// Unfinished files of interrupted restores that were removed.
    pub leftovers: u64,
    /// What is not restored, and why.
    pub failures: Entries<RestoreWarning>,
    /// What is restored without some of its metadata.
    pub warnings: Entries<RestoreWarning>,
}

impl RestoreReport {
    fn nothing_of(point: RecoveryPoint) -> Self {
        Self {
            point,
            files: 0,
            folders: 0,
            others: 0,
            bytes: 0,
            skipped: 0,
            kept: 0,
            leftovers: 0,
            failures: Entries::default(),
            warnings: Entries::default(),
        }
    }
}

/// One thing that is not restored, or not wholly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestoreWarning {
    /// Its path below the target.
    pub path: PathBuf,
    /// What went wrong.
    pub reason: String,
}

impl fmt::Display for RestoreWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl RestorePlan {
    pub(crate) fn new(vault: &Vault<Open>, options: &RestoreOptions) -> Result<Self, Error> {
        if !(1..=64).contains(&options.workers) {
            let (what, value) = ("workers", options.workers.to_string());
            return Err(Error::Invalid { what, value, reason: "not 1 to 64" });
        }
        let core = Arc::clone(vault.core());
        let _lock = lock_to_read(&core)?;
        let point = vault.point(&options.point)?;
        let reader = BlobReader::new(&core, &Arc::new(Catalog::load(&core)?));
        let top = find(&reader, &point, options.path.as_deref())?;
        let mut plan =
            Self { core, options: options.clone(), point, top, counts: Counts::default() };
        plan.survey(&reader)?;
        Ok(plan)
    }

    /// The recovery point that will be restored.
    #[must_use]
    pub const fn point(&self) -> &RecoveryPoint {
        &self.point
    }

    /// How many files will be written.
    #[must_use]
    pub const fn files(&self) -> u64 {
        self.counts.files
    }

    /// How many folders will be made or merged.
    #[must_use]
    pub const fn folders(&self) -> u64 {
        self.counts.folders
    }

    /// How many bytes of content there are.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.counts.bytes
    }

    /// Counts, and looks for what is in the way. Trees that cannot be read are left to the run,
    /// which restores the rest.
    fn survey(&mut self, reader: &BlobReader) -> Result<(), Error> {
        let must_be_free = self.options.copy == CopyOption::FailOnConflict;
        let target = self.options.target.clone();
        let mut waiting: Vec<(BlobId, PathBuf)> = Vec::new();
        match &self.top {
            Top::Folder { tree, .. } => waiting.push((*tree, target)),
            Top::Single(node) => {
                let path = join(&target, &node.name);
                let node = node.clone();
                self.count(&node, &path, must_be_free)?;
            }
        }
        while let Some((tree, folder)) = waiting.pop() {
            let Ok(tree) = reader.read_tree(tree) else { continue };
            for node in &tree.nodes {
                let path = join(&folder, &node.name);
                self.count(node, &path, must_be_free)?;
                waiting.extend(node.subtree.map(|subtree| (subtree, path)));
            }
        }
        Ok(())
    }

    fn count(&mut self, node: &Node, path: &Path, must_be_free: bool) -> Result<(), Error> {
        match node.kind {
            NodeKind::Dir => self.counts.folders += 1,
            NodeKind::File => self.counts.files += 1,
            _ => self.counts.others += 1,
        }
        self.counts.bytes += node.size;
        if must_be_free
            && let Ok(found) = std::fs::symlink_metadata(path)
            && !(node.kind == NodeKind::Dir && found.is_dir())
        {
            return Err(Error::Conflict { path: path.to_owned() });
        }
        Ok(())
    }

    /// Restores. What cannot be restored is reported and the rest goes on.
    ///
    /// # Errors
    /// [`Error::Target`] if the target cannot be used or is full, [`Error::Locked`],
    /// [`Error::Cancelled`], [`Error::Disk`].
    pub fn run(self, control: &Control) -> Result<RestoreReport, Error> {
        observed("restore", || self.run_unobserved(control), control)
    }

    fn run_unobserved(self, control: &Control) -> Result<RestoreReport, Error> {
        tracing::Span::current().record("point", tracing::field::display(self.point.id));
        let target = self.options.target.clone();
        let lock = lock_to_read(&self.core)?;
        let reader = Arc::new(BlobReader::new(&self.core, &Arc::new(Catalog::load(&self.core)?)));
        let unusable = |source| Error::Target { path: target.clone(), source };
        let own = match &self.top {
            Top::Folder { node, .. } => node.as_deref(),
            Top::Single(_) => None,
        };
        let (root, is_made) = open_root(&target, own).map_err(unusable)?;
        let shared = Shared {
            core: Arc::clone(&self.core),
            reader,
            copy: self.options.copy,
            is_sparse: self.options.is_sparse,
            ownership: ownership(),
            control: control.clone(),
            report: Mutex::new(RestoreReport::nothing_of(self.point)),
            fatal: Mutex::new(None),
        };
        let mut walk = Walk {
            shared: &shared,
            lock: lock.as_ref(),
            root: root.clone(),
            frames: Vec::new(),
            full_folders: Vec::new(),
            hard_links: HashMap::new(),
            later: Vec::new(),
        };
        let workers = self.options.workers;
        let (files, queue) = sync_channel(workers * WAITING_FILES_PER_WORKER_MAX);
        let queue = Mutex::new(queue);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| shared.write_files(&queue));
            }
            // Moved, so that the workers see its end.
            let files = files;
            match self.top {
                Top::Folder { tree, node } => {
                    walk.folders(tree, &files);
                    walk.full_folders
                        .extend(node.filter(|_| is_made).map(|n| (root.path.clone(), *n)));
                }
                Top::Single(node) => {
                    shared.remove_leftovers(&root, std::slice::from_ref(&node));
                    walk.entry(&root, *node, &files);
                }
            }
        });
        walk.finish();
        // Acknowledged files survive a power failure.
        root.sync_file_system().map_err(unusable)?;
        shared.into_report(&target)
    }
}

/// A shared lock; none if the vault cannot be written, such as on a read-only medium, where
/// nobody can delete either.
pub(crate) fn lock_to_read(core: &Arc<Core>) -> Result<Option<LockGuard>, Error> {
    match LockGuard::acquire(core, false) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == ErrorKind::Denied => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds a file or folder of a recovery point.
fn find(reader: &BlobReader, point: &RecoveryPoint, path: Option<&Path>) -> Result<Top, Error> {
    let (mut tree, mut node) = (point.snapshot.tree, None);
    let Some(path) = path else { return Ok(Top::Folder { tree, node }) };
    let not_found = || Error::PathNotFound { path: path.display().to_string() };
    let mut names = path
        .components()
        .filter_map(|component| match component {
            std::path::Component::Normal(name) => Some(name),
            _ => None,
        })
        .peekable();
    while let Some(name) = names.next() {
        let folder = reader.read_tree(tree)?;
        let found = folder.find(name.as_encoded_bytes()).ok_or_else(not_found)?;
        match found.subtree {
            Some(subtree) => tree = subtree,
            None if names.peek().is_none() => return Ok(Top::Single(Box::new(found.clone()))),
            None => return Err(not_found()),
        }
        node = Some(Box::new(found.clone()));
    }
    Ok(Top::Folder { tree, node })
}

/// One file to write.
struct Job {
    folder: Folder,
    node: Node,
}

/// What walk and workers share.
struct Shared {
    core: Arc<Core>,
    reader: Arc<BlobReader>,
    copy: CopyOption,
    is_sparse: bool,
    ownership: Ownership,
    control: Control,
    report: Mutex<RestoreReport>,
    fatal: Mutex<Option<io::Error>>,
}

impl Shared {
    fn report(&self, change: impl FnOnce(&mut RestoreReport)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn failed(&self, path: PathBuf, reason: String) {
        self.report(|report| report.failures.push(RestoreWarning { path, reason }));
    }

    /// A full target fails every further file alike, so it ends the restore.
    fn failed_io(&self, path: PathBuf, error: io::Error) {
        self.failed(path, error.to_string());
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            *self.fatal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }

    fn must_stop(&self) -> bool {
        self.control.is_cancelled()
            || self.fatal.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn into_report(self, target: &Path) -> Result<RestoreReport, Error> {
        if let Some(source) = self.fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(Error::Target { path: target.to_owned(), source });
        }
        self.control.check()?;
        Ok(self.report.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// A worker. After the end was asked for it goes on taking, so that nobody waits at a full
    /// queue.
    fn write_files(&self, queue: &Mutex<Receiver<Job>>) {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { folder, node }) = job else { return };
            if !self.must_stop() {
                self.file(&folder, &node);
            }
        }
    }

    fn file(&self, folder: &Folder, node: &Node) {
        let path = join(&folder.path, &node.name);
        if self.copy == CopyOption::Skip && matches!(folder.has(&node.name), Ok(true)) {
            return self.report(|report| report.skipped += 1);
        }
        if self.copy == CopyOption::Overwrite
            && let Some(metadata) = self.keep(folder, node)
        {
            self.control.add_file();
            return self.report(|report| {
                report.kept += 1;
                for reason in metadata {
                    report.warnings.push(RestoreWarning { path: path.clone(), reason });
                }
            });
        }
        let temporary = temporary_name(&*self.core.store.entropy);
        match self.write_file(folder, node, &temporary) {
            // It stays open until it has its name, as nobody's leftover.
            Ok((_file, bytes, metadata)) => {
                let placed = folder.place(&temporary, &node.name, self.copy);
                self.placed(path, placed, &metadata, |report| {
                    report.files += 1;
                    report.bytes += bytes;
                });
                self.control.add_file();
            }
            Err(Unwritten::Target(error)) => {
                folder.discard(&temporary);
                self.failed_io(path, error);
            }
            Err(Unwritten::Vault(error)) => {
                folder.discard(&temporary);
                self.failed(path, with_causes(&error));
            }
        }
    }

    fn placed(
        &self,
        path: PathBuf,
        placed: io::Result<Placed>,
        metadata: &[String],
        count: impl FnOnce(&mut RestoreReport),
    ) {
        match placed {
            Err(error) => self.failed_io(path, error),
            Ok(Placed::KeptExisting) => self.report(|report| report.skipped += 1),
            Ok(Placed::Placed) => self.report(|report| {
                count(report);
                for reason in metadata {
                    let (path, reason) = (path.clone(), reason.clone());
                    report.warnings.push(RestoreWarning { path, reason });
                }
            }),
        }
    }

    /// Keeps a file that is there with the right content, and gives it its metadata; answers what of
    /// that could not be set. None if it is to be written.
    fn keep(&self, folder: &Folder, node: &Node) -> Option<Vec<String>> {
        let mut file = folder.open_existing(node, self.ownership)?;
        if file.metadata().ok()?.len() != node.size {
            return None;
        }
        let mut rest = node.size;
        for id in node.content.iter().flatten() {
            if self.control.is_cancelled() {
                return None;
            }
            let length = self.reader.catalog().plain_length(BlobKind::Data, *id)?;
            rest = rest.checked_sub(u64::from(length))?;
            let mut bytes = vec![0; length as usize];
            file.read_exact(&mut bytes).ok()?;
            if BlobId::of(&bytes) != *id {
                return None;
            }
            self.control.add_bytes(u64::from(length));
        }
        (rest == 0).then(|| finish_file(&file, node, self.ownership))
    }

    /// Removes what interrupted restores left in a folder. What cannot be removed stays in nobody's way.
    fn remove_leftovers(&self, folder: &Folder, nodes: &[impl std::borrow::Borrow<Node>]) {
        let is_kept = |name: &[u8]| nodes.iter().any(|it| it.borrow().name.as_bytes() == name);
        match folder.remove_leftovers(self.core.store.clock.now(), is_kept) {
            Ok(0) => {}
            Ok(count) => self.report(|report| report.leftovers += count),
            Err(error) => {
                let path = folder.path.display();
                tracing::warn!(%error, %path, "leftovers of a restore cannot be removed");
            }
        }
    }

    /// Writes content, then metadata; answers the file, how much, and what metadata could not be set.
    fn write_file(
        &self,
        folder: &Folder,
        node: &Node,
        temporary: &str,
    ) -> Result<(File, u64, Vec<String>), Unwritten> {
        let file = folder.create_file(temporary).map_err(Unwritten::Target)?;
        let mut offset = 0u64;
        for id in node.content.iter().flatten() {
            if self.control.is_cancelled() {
                return Err(Unwritten::Vault(Error::Cancelled));
            }
            let bytes = self.reader.read(BlobKind::Data, *id).map_err(Unwritten::Vault)?;
            // A new file reads as zeros wherever it was not written.
            if !(self.is_sparse && is_zero(&bytes)) {
                write_all_at(&file, &bytes, offset).map_err(Unwritten::Target)?;
            }
            offset += bytes.len() as u64;
            self.control.add_bytes(bytes.len() as u64);
        }
        file.set_len(offset).map_err(Unwritten::Target)?;
        let mut failed = finish_file(&file, node, self.ownership);
        if offset != node.size {
            failed.push(format!("content has {offset} bytes, its folder says {}", node.size));
        }
        Ok((file, offset, failed))
    }
}

/// Why a file could not be written.
enum Unwritten {
    Target(io::Error),
    Vault(Error),
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| *word == [0; 16]) && rest.iter().all(|byte| *byte == 0)
}

/// A folder on the way.
struct Frame {
    node: Option<Node>,
    name_path: PathBuf,
    folder: Option<Folder>,
    nodes: std::vec::IntoIter<Node>,
    made: Made,
}

/// Names one inode: device and number.
type InodeKey = (u64, u64);

/// The walk over trees, in one thread.
struct Walk<'a> {
    shared: &'a Shared,
    lock: Option<&'a LockGuard>,
    root: Folder,
    frames: Vec<Frame>,
    /// Folders whose metadata is set at the end, from the inside out.
    full_folders: Vec<(PathBuf, Node)>,
    hard_links: HashMap<InodeKey, (PathBuf, NodeName)>,
    later: Vec<(InodeKey, PathBuf, Node)>,
}

impl Walk<'_> {
    fn folders(&mut self, tree: BlobId, files: &SyncSender<Job>) {
        let root = self.root.clone();
        self.enter(None, root, tree, Made::Before);
        while let Some(at) = self.frames.len().checked_sub(1) {
            if self.shared.must_stop() {
                return;
            }
            if let Some(lock) = self.lock {
                // Reading verifies everything, so a lost lock is no reason to stop.
                let _ = lock.refresh();
            }
            let Some(node) = self.frames.get_mut(at).and_then(|frame| frame.nodes.next()) else {
                self.leave();
                continue;
            };
            match self.folder(at) {
                Ok(folder) => self.node(&folder, node, files),
                Err(error) => {
                    let path = self.frames.get(at).map(|f| join(&f.name_path, &node.name));
                    self.shared.failed_io(path.unwrap_or_default(), error);
                }
            }
        }
    }

    fn node(&mut self, folder: &Folder, node: Node, files: &SyncSender<Job>) {
        let Some(subtree) = node.subtree.filter(|_| node.kind == NodeKind::Dir) else {
            return self.entry(folder, node, files);
        };
        let path = join(&folder.path, &node.name);
        if self.frames.len() >= DEPTH_MAX {
            return self.shared.failed(path, format!("folders lie deeper than {DEPTH_MAX}"));
        }
        let copy = self.shared.copy;
        let opened = folder.make(&node, copy).and_then(|made| {
            let is_kept = made == Made::Before && copy != CopyOption::Overwrite;
            let open = if is_kept { Folder::open } else { Folder::open_to_fill };
            Ok((made, open(folder, &node.name)?))
        });
        match opened {
            Ok((made, inside)) => {
                self.shared.report(|report| report.folders += 1);
                self.enter(Some(node), inside, subtree, made);
            }
            Err(error) => self.shared.failed_io(path, error),
        }
    }

    fn enter(&mut self, node: Option<Node>, folder: Folder, tree: BlobId, made: Made) {
        let nodes = match self.shared.reader.read_tree(tree) {
            Ok(Tree { nodes }) => nodes,
            Err(error) => {
                self.shared.failed(folder.path.clone(), with_causes(&error));
                Vec::new()
            }
        };
        if made != Made::Now {
            self.shared.remove_leftovers(&folder, &nodes);
        }
        let name_path = folder.path.clone();
        let frame = Frame { node, name_path, folder: Some(folder), nodes: nodes.into_iter(), made };
        self.frames.push(frame);
        if let Some(above) = self.frames.len().checked_sub(OPEN_FOLDERS_MAX)
            && let Some(frame) = self.frames.get_mut(above)
        {
            frame.folder = None;
        }
    }

    /// The open folder of a frame, opened again if it was closed on the way down.
    fn folder(&mut self, at: usize) -> io::Result<Folder> {
        let Some(frame) = self.frames.get_mut(at) else {
            return Err(io::Error::other("no such frame"));
        };
        if let Some(folder) = &frame.folder {
            return Ok(folder.clone());
        }
        let folder = self.root.open_below(&frame.name_path)?;
        frame.folder = Some(folder.clone());
        Ok(folder)
    }

    fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        // A folder that was there before keeps its metadata unless it is to be overwritten.
        let is_ours = frame.made != Made::Before || self.shared.copy == CopyOption::Overwrite;
        if let Some(node) = frame.node.filter(|_| is_ours) {
            // The folder is not kept open: there may be more folders than descriptors.
            self.full_folders.push((frame.name_path, node));
        }
    }

    /// Something that is no folder.
    fn entry(&mut self, folder: &Folder, node: Node, files: &SyncSender<Job>) {
        if node.kind != NodeKind::File {
            return self.special(folder, &node);
        }
        if node.links > 1 {
            let key = (node.device_id, node.inode);
            if self.hard_links.contains_key(&key) && self.later.len() < HARD_LINKS_MAX {
                self.later.push((key, folder.path.clone(), node));
                return;
            }
            if self.hard_links.len() < HARD_LINKS_MAX {
                self.hard_links.insert(key, (folder.path.clone(), node.name.clone()));
            }
        }
        // Workers end only after this sender.
        let _ = files.send(Job { folder: folder.clone(), node });
    }

    fn special(&self, folder: &Folder, node: &Node) {
        let shared = self.shared;
        let path = join(&folder.path, &node.name);
        if shared.copy == CopyOption::Skip && matches!(folder.has(&node.name), Ok(true)) {
            return shared.report(|report| report.skipped += 1);
        }
        let temporary = temporary_name(&*shared.core.store.entropy);
        if let Err(error) = folder.create_special(&temporary, node) {
            return shared.failed_io(path, error);
        }
        let metadata = folder.finish_special(&temporary, node, shared.ownership);
        let placed = folder.place(&temporary, &node.name, shared.copy);
        shared.placed(path, placed, &metadata, |report| report.others += 1);
    }

    /// When every file is written: further names, then metadata of folders. After an interruption
    /// folders stay as their owner can go on in them, and nobody else; the next restore knows them.
    fn finish(&mut self) {
        for (key, folder, node) in std::mem::take(&mut self.later) {
            if self.shared.must_stop() {
                return;
            }
            let path = join(&folder, &node.name);
            if let Err(error) = self.link(key, &folder, &node) {
                self.shared.failed_io(path, error);
            }
        }
        for (path, node) in std::mem::take(&mut self.full_folders) {
            if self.shared.must_stop() {
                return;
            }
            match self.root.open_below(&path) {
                Ok(open) => {
                    for reason in open.finish(&node, self.shared.ownership) {
                        let path = path.clone();
                        self.shared.report(|report| {
                            report.warnings.push(RestoreWarning { path, reason });
                        });
                    }
                }
                Err(error) => self.shared.failed_io(path, error),
            }
        }
    }

    /// Gives a file one more name; if its first name was not restored, writes it anew.
    fn link(&self, key: InodeKey, folder: &Path, node: &Node) -> io::Result<()> {
        let folder = self.root.open_below(folder)?;
        let temporary = temporary_name(&*self.shared.core.store.entropy);
        let linked = match self.hard_links.get(&key) {
            Some((first, name)) => self
                .root
                .open_below(first)
                .and_then(|first| folder.link_from(&first, name, &temporary)),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        if linked.is_err() {
            self.shared.file(&folder, node);
            return Ok(());
        }
        let path = join(&folder.path, &node.name);
        let placed = folder.place(&temporary, &node.name, self.shared.copy);
        // Between two names of one inode a rename does nothing and leaves both.
        folder.discard(&temporary);
        self.shared.placed(path, placed, &[], |report| report.files += 1);
        Ok(())
    }
}
