//! Backup: read a source, store what is new, commit a recovery point.

use super::{Control, Entries, observed};
use crate::error::Error;
use crate::item::source::{
    Excludes, FileSource, FileState, OwnVault, Selection, SourceTree, SourceWarning,
    SourceWarningKind, Step, same_moment,
};
use crate::recovery_point::RecoveryPoint;
use crate::vault::chunk::{CHUNK_BYTES_MAX, Chunker};
use crate::vault::format::{
    BlobId, BlobKind, Node, NodeKind, SMALL_FILE_BYTES_MAX, Snapshot, SnapshotId, Summary, Tree,
};
use crate::vault::{
    Added, BlobReader, BlobWriter, CONFIG, Catalog, Core, FileId as _, LockGuard, Open, Vault,
    WriteSettings,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of a file is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// How many hard-linked files are remembered, so that further names are not read again.
const HARD_LINKS_MAX: usize = 1_000_000;

/// The most entries one folder may have; its list is one blob.
const FOLDER_ENTRIES_MAX: usize = 1_000_000;

/// The most places that are told at which the vault itself was left out.
const OWN_VAULTS_MAX: usize = 100;

/// A file whose change time is this close before its backup may have been written again within
/// one tick of its file system's clock, unseen: it is read again.
const CLOCK_TICK_MAX: SignedDuration = SignedDuration::from_secs(2);

/// Which earlier recovery point is taken to see which files have not changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Parent {
    /// The newest one of this computer with the same paths.
    #[default]
    Newest,
    /// None: every file is read.
    None,
    /// This one.
    Point(SnapshotId),
}

/// What to back up, and how.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BackupOptions {
    /// Files and folders. Symbolic links are stored as such, never followed.
    pub paths: Vec<PathBuf>,
    /// Marks for the recovery point, without commas.
    pub tags: Vec<String>,
    /// Which earlier recovery point to compare with.
    pub parent: Parent,
    /// Whether folders on other file systems stay empty.
    pub one_file_system: bool,
    /// Patterns of what is left out, as restic's `--exclude` has them: `*.tmp`, `/var/cache`,
    /// `**/target`, and `!keep.tmp` to take one back.
    pub excludes: Vec<String>,
    /// Whether folders with a `CACHEDIR.TAG` are left out but for that file.
    pub exclude_caches: bool,
    /// Whether the vault itself is backed up, too, where it lies in what is.
    pub include_own_vault: bool,
    /// How to store.
    pub write: WriteSettings,
}

/// A backup that can be run.
#[derive(Debug)]
pub struct BackupPlan {
    core: Arc<Core>,
    options: BackupOptions,
    paths: Vec<PathBuf>,
    missing: Vec<SourceWarning>,
    parent: Option<RecoveryPoint>,
}

/// What a backup did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackupReport {
    /// The new recovery point.
    pub point: SnapshotId,
    /// What it was compared with.
    pub parent: Option<SnapshotId>,
    /// Counts.
    pub summary: Summary,
    /// What is not in the recovery point, or not as it should be.
    pub warnings: Entries<SourceWarning>,
    /// Whether something that was to be backed up is not in the recovery point, or not with all of its
    /// metadata. What only changed while it was read is there.
    pub is_partial: bool,
    /// How many files and folders the options leave out, without what is in those folders.
    pub excluded: u64,
    /// Where the vault itself was left out, by each path that leads to it. A copy of it is backed up, with
    /// a warning.
    pub own_vaults: Vec<PathBuf>,
}

impl BackupPlan {
    pub(crate) fn new(vault: &Vault<Open>, options: &BackupOptions) -> Result<Self, Error> {
        options.write.check()?;
        for tag in &options.tags {
            if tag.is_empty() || tag.contains(',') || tag.chars().any(char::is_control) {
                let reason = "empty, or has a comma or control character";
                return Err(Error::Invalid { what: "tag", value: tag.clone(), reason });
            }
        }
        // Patterns are understood before anything is done.
        Excludes::parse(&options.excludes)?;
        let tree = vault.core().source_tree();
        let (source, missing) = FileSource::new(tree, &options.paths, Selection::default())?;
        let paths = source.roots().to_vec();
        let parent = match &options.parent {
            Parent::None => None,
            Parent::Point(id) => Some(vault.point(&id.to_string())?),
            Parent::Newest => {
                let hostname = &vault.core().holder.hostname;
                // As sets: their order as text is not theirs as paths, nor that of other programs.
                let names: BTreeSet<String> = names(&paths).into_iter().collect();
                // As when those that are missing were there.
                let mut whole = names.clone();
                whole.extend(missing.iter().map(|it| it.path.to_string_lossy().into_owned()));
                let mut points = vault.points()?;
                points.retain(|p| {
                    let recorded: BTreeSet<String> = p.snapshot.paths.iter().cloned().collect();
                    let is_same = recorded == names || recorded == whole;
                    p.snapshot.hostname == *hostname && is_same
                });
                points.pop()
            }
        };
        let (core, options) = (Arc::clone(vault.core()), options.clone());
        Ok(Self { core, options, paths, missing, parent })
    }

    /// The given paths that are not there or cannot be looked at; the others are backed up.
    #[must_use]
    pub fn missing(&self) -> &[SourceWarning] {
        &self.missing
    }

    /// The absolute paths that will be backed up.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The recovery point that tells which files have not changed.
    #[must_use]
    pub const fn parent(&self) -> Option<&RecoveryPoint> {
        self.parent.as_ref()
    }

    /// Makes the backup. `Ok` means that the recovery point is durable.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::LockLost`], [`Error::Full`], [`Error::Disk`],
    /// [`Error::Cancelled`], [`Error::Source`] if none of the paths could be read. After an error
    /// there is no new recovery point, and earlier ones are whole.
    pub fn run(self, control: &Control) -> Result<BackupReport, Error> {
        observed("backup", || self.run_unobserved(control), control)
    }

    fn run_unobserved(self, control: &Control) -> Result<BackupReport, Error> {
        let core = Arc::clone(&self.core);
        let start = core.store.clock.now();
        core.store.remove_leftovers()?;
        let lock = Arc::new(LockGuard::acquire(&core, false)?);
        let catalog = Arc::new(Catalog::load(&core)?);
        let writer = BlobWriter::start(&core, &lock, &catalog, self.options.write)?;
        let tree = core.source_tree();
        let mut archiver = Archiver {
            core: &core,
            tree: Arc::clone(&tree),
            lock: &lock,
            control,
            reader: BlobReader::new(&core, &catalog),
            writer,
            frames: Vec::new(),
            hard_links: HashMap::new(),
            trusted_before: self.parent.as_ref().map(|p| p.snapshot.time - CLOCK_TICK_MAX),
            buffer: vec![0; READ_BYTES],
            summary: Summary::default(),
            told: Told::default(),
        };
        self.missing.iter().for_each(|missing| archiver.told.warn(missing.clone()));
        let parent_tree = self.parent.as_ref().map(|parent| parent.snapshot.tree);
        archiver.push_frame(None, parent_tree);
        let (mut source, gone) = FileSource::new(tree, &self.paths, self.selection(&lock)?)?;
        gone.into_iter().for_each(|gone| archiver.told.warn(gone));
        while let Some(step) = source.next() {
            control.check()?;
            archiver.take(step)?;
        }
        let (tree, added, mut summary, told) = archiver.finish(&self.paths, source.has_any())?;
        summary.backup_start = start;
        summary.backup_end = core.store.clock.now();
        summary.data_blobs = added.data_blobs;
        summary.tree_blobs = added.tree_blobs;
        summary.data_added = added.plain_bytes;
        summary.data_added_packed = added.stored_bytes;
        let snapshot = self.snapshot(start, tree, summary);
        // From here on the recovery point would name blobs that another program may have deleted
        // if it saw no lock.
        lock.confirm()?;
        control.check()?;
        let path = SnapshotId::FOLDER;
        let json = snapshot.to_bytes().map_err(Error::format(path))?;
        let point = core.store.write::<SnapshotId>(&core.seal_file(&json)?)?;
        tracing::Span::current().record("point", tracing::field::display(point));
        metrics::counter!("oms_backup_stored_bytes_total").increment(added.stored_bytes);
        tracing::info!(%point, files = summary.total_files_processed, "recovery point committed");
        let parent = self.parent.map(|parent| parent.id);
        let Told { warnings, is_partial, excluded, own_vaults } = told;
        Ok(BackupReport { point, parent, summary, warnings, is_partial, excluded, own_vaults })
    }

    fn selection(&self, lock: &Arc<LockGuard>) -> Result<Selection, Error> {
        let BackupOptions { one_file_system, exclude_caches, include_own_vault, .. } = self.options;
        let own_vault = match include_own_vault {
            true => None,
            false => Some(OwnVault {
                config: self.core.store.read_path(Path::new(CONFIG), SMALL_FILE_BYTES_MAX)?,
                lock: Arc::clone(lock),
            }),
        };
        let excludes = Excludes::parse(&self.options.excludes)?;
        Ok(Selection { one_file_system, excludes, exclude_caches, own_vault })
    }

    fn snapshot(&self, time: Timestamp, tree: BlobId, summary: Summary) -> Snapshot {
        let holder = &self.core.holder;
        Snapshot {
            time,
            parent: self.parent.as_ref().map(|parent| parent.id),
            tree,
            paths: names(&self.paths),
            hostname: holder.hostname.clone(),
            username: holder.username.clone(),
            uid: holder.uid,
            gid: holder.gid,
            excludes: self.options.excludes.clone(),
            tags: self.options.tags.clone(),
            original: None,
            program_version: concat!("oms-backup ", env!("CARGO_PKG_VERSION")).to_owned(),
            summary: Some(summary),
        }
    }
}

fn names(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

/// A folder being put together.
#[derive(Debug)]
struct Frame {
    /// Its own node; none for the root.
    node: Option<Node>,
    nodes: Vec<Node>,
    parent_id: Option<BlobId>,
    parent: Option<Tree>,
}

/// Turns the steps of a walk into blobs.
struct Archiver<'a> {
    core: &'a Core,
    tree: Arc<dyn SourceTree>,
    lock: &'a LockGuard,
    control: &'a Control,
    reader: BlobReader,
    writer: BlobWriter,
    frames: Vec<Frame>,
    hard_links: HashMap<(u64, u64), (FileState, Vec<BlobId>)>,
    /// Files of the parent with a change time from here on are read again.
    trusted_before: Option<Timestamp>,
    buffer: Vec<u8>,
    summary: Summary,
    told: Told,
}

/// What a report tells of the source.
#[derive(Default)]
struct Told {
    warnings: Entries<SourceWarning>,
    is_partial: bool,
    excluded: u64,
    own_vaults: Vec<PathBuf>,
}

impl Told {
    fn warn(&mut self, warning: SourceWarning) {
        self.is_partial |= warning.kind.is_loss();
        self.warnings.push(warning);
    }
}

/// Why a file is not in the backup, or why the backup ends.
enum Failure {
    Source(io::Error),
    Fatal(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Source(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

impl Archiver<'_> {
    fn take(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::Enter(node) => {
                let parent = self.parent_of(&node).filter(|parent| parent.kind == NodeKind::Dir);
                let parent_id = parent.and_then(|parent| parent.subtree);
                self.push_frame(Some(*node), parent_id);
                Ok(())
            }
            Step::Leave => self.leave(),
            Step::Entry { path, node, state } => self.entry(path, *node, &state),
            Step::Warning(warning) => {
                self.told.warn(warning);
                Ok(())
            }
            Step::Excluded(count) => {
                self.told.excluded += count;
                Ok(())
            }
            Step::OwnVault(path) => {
                tracing::info!(path = %path.display(), "the vault itself is left out");
                // Enough for a person; each is another path to one vault.
                if self.told.own_vaults.len() < OWN_VAULTS_MAX {
                    self.told.own_vaults.push(path);
                }
                Ok(())
            }
        }
    }

    /// A parent that cannot be read only means that more is read from the source.
    fn push_frame(&mut self, node: Option<Node>, parent_id: Option<BlobId>) {
        let parent = parent_id.and_then(|id| self.reader.read_tree(id).ok());
        self.frames.push(Frame { node, nodes: Vec::new(), parent_id, parent });
    }

    fn parent_of(&self, node: &Node) -> Option<&Node> {
        self.frames.last()?.parent.as_ref()?.find(node.name.as_bytes())
    }

    fn push_node(&mut self, node: Node) -> Result<(), Error> {
        let Some(frame) = self.frames.last_mut() else {
            return Err(Error::Internal { reason: "a node outside of any folder".to_owned() });
        };
        frame.nodes.push(node);
        if frame.nodes.len() > FOLDER_ENTRIES_MAX {
            let (actual, limit) = (frame.nodes.len() as u64, FOLDER_ENTRIES_MAX as u64);
            return Err(Error::TooLarge { what: "number of entries of a folder", actual, limit });
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        let Some(Frame { node: Some(mut node), nodes, parent_id, .. }) = self.frames.pop() else {
            return Err(Error::Internal { reason: "a folder left and never entered".to_owned() });
        };
        let id = self.store_tree(nodes)?;
        node.subtree = Some(id);
        match parent_id {
            None => self.summary.dirs_new += 1,
            Some(parent) if parent == id => self.summary.dirs_unmodified += 1,
            Some(_) => self.summary.dirs_changed += 1,
        }
        self.lock.refresh()?;
        self.push_node(node)
    }

    fn store_tree(&mut self, nodes: Vec<Node>) -> Result<BlobId, Error> {
        let bytes = Tree { nodes }.to_bytes().map_err(Error::format("tree"))?;
        Ok(self.writer.add(BlobKind::Tree, bytes)?.0)
    }

    fn entry(&mut self, path: PathBuf, mut node: Node, state: &FileState) -> Result<(), Error> {
        if node.kind == NodeKind::File {
            match self.file(&path, &mut node, state) {
                Ok(()) => {}
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Source(error)) => {
                    let (kind, reason) = (SourceWarningKind::Unreadable, error.to_string());
                    self.told.warn(SourceWarning { path, kind, reason });
                    return Ok(());
                }
            }
        }
        self.control.add_file();
        self.push_node(node)
    }

    fn file(&mut self, path: &Path, node: &mut Node, state: &FileState) -> Result<(), Failure> {
        let known = self.known_content(node, state);
        match (&known, self.parent_of(node).is_some()) {
            (Some(_), _) => self.summary.files_unmodified += 1,
            (None, true) => self.summary.files_changed += 1,
            (None, false) => self.summary.files_new += 1,
        }
        let key = (state.device, state.inode);
        let linked = self.hard_links.get(&key).filter(|(seen, _)| seen == state);
        let content = match (known, linked) {
            (Some(content), _) => content,
            (None, Some((_, content))) => content.clone(),
            (None, None) => self.read_file(path, node, state)?,
        };
        if node.links > 1 && self.hard_links.len() < HARD_LINKS_MAX {
            self.hard_links.insert(key, (*state, content.clone()));
        }
        node.content = Some(content);
        self.summary.total_files_processed += 1;
        self.summary.total_bytes_processed += node.size;
        Ok(())
    }

    /// The parent's content of a file that has not changed and is still all in the vault.
    fn known_content(&self, node: &Node, state: &FileState) -> Option<Vec<BlobId>> {
        let parent = self.parent_of(node).filter(|parent| same_moment(parent, state))?;
        if self.trusted_before.is_none_or(|before| parent.ctime >= before) {
            return None;
        }
        let content = parent.content.as_ref()?;
        let mut bytes = 0;
        for id in content {
            bytes += u64::from(self.reader.catalog().plain_length(BlobKind::Data, *id)?);
        }
        (bytes == parent.size).then(|| content.clone())
    }

    fn read_file(
        &mut self,
        path: &Path,
        node: &mut Node,
        state: &FileState,
    ) -> Result<Vec<BlobId>, Failure> {
        let mut file = self.tree.open(path)?;
        let before = file.state()?;
        let core = self.core;
        let mut chunker = Chunker::new(&core.gear);
        let (mut content, mut size) = (Vec::new(), 0u64);
        let first = usize::try_from(before.size).unwrap_or(usize::MAX).min(CHUNK_BYTES_MAX / 2);
        let mut chunk = Vec::with_capacity(first);
        loop {
            let count = match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            size += count as u64;
            let mut start = 0;
            while let Some(end) = chunker.feed(&self.buffer[start..count]) {
                chunk.extend_from_slice(&self.buffer[start..start + end]);
                start += end;
                let whole = std::mem::replace(&mut chunk, Vec::with_capacity(first));
                self.store_chunk(whole, &mut content)?;
            }
            chunk.extend_from_slice(&self.buffer[start..count]);
        }
        if !chunk.is_empty() {
            self.store_chunk(chunk, &mut content)?;
        }
        node.size = size;
        if file.state()? != *state || size != state.size {
            let (path, kind) = (path.to_owned(), SourceWarningKind::Changed);
            let reason = format!("{size} bytes were read");
            self.told.warn(SourceWarning { path, kind, reason });
        }
        Ok(content)
    }

    fn store_chunk(&mut self, chunk: Vec<u8>, content: &mut Vec<BlobId>) -> Result<(), Error> {
        self.control.check()?;
        self.control.add_bytes(chunk.len() as u64);
        let (id, is_new) = self.writer.add(BlobKind::Data, chunk)?;
        content.push(id);
        let state = if is_new { "new" } else { "known" };
        metrics::counter!("oms_backup_chunks_total", "state" => state).increment(1);
        self.lock.refresh()
    }

    /// Stores the root folder and everything that is waiting.
    fn finish(
        mut self,
        paths: &[PathBuf],
        has_any: bool,
    ) -> Result<(BlobId, Added, Summary, Told), Error> {
        let Some(Frame { node: None, nodes, .. }) = self.frames.pop() else {
            return Err(Error::Internal { reason: "the walk ended inside a folder".to_owned() });
        };
        if !has_any {
            let path = paths.first().cloned().unwrap_or_default();
            let value = path.display().to_string();
            if self.told.own_vaults.contains(&path) {
                let reason = "is the vault itself";
                return Err(Error::Invalid { what: "backup source", value, reason });
            }
            if self.told.excluded > 0 && !self.told.is_partial {
                let reason = "everything of it is excluded";
                return Err(Error::Invalid { what: "backup source", value, reason });
            }
            let source = io::Error::new(io::ErrorKind::NotFound, "nothing of it could be read");
            return Err(Error::Source { path, source });
        }
        let tree = self.store_tree(nodes)?;
        let added = self.writer.finish()?;
        Ok((tree, added, self.summary, self.told))
    }
}
