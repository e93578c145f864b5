//! Files and folders: a walk in the order in which a repository stores them.
//!
//! ```text
//!  /home/a, /etc/hosts  ─►  Enter /etc  Entry hosts  Leave  Enter /home  Enter a  …  Leave  Leave
//! ```
//! Folders above the given paths appear with their own metadata and nothing else in them.

use super::{
    FileState, OwnVault, Selection, SourceEntry, SourceTree, SourceWarning, SourceWarningKind, Step,
};
use crate::error::Error;
use crate::vault::format::{Node, NodeKind};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// How deep folders may lie in each other.
const DEPTH_MAX: usize = 4096;

/// The file that marks a cache, and how it begins.
const CACHE_TAG: &str = "CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// A walk over files and folders.
#[derive(Debug)]
pub(crate) struct FileSource {
    tree: Arc<dyn SourceTree>,
    roots: Vec<PathBuf>,
    selection: Selection,
    frames: Vec<Frame>,
    pending: Vec<Step>,
    /// Whether anything of the given paths came, and not only the folders above them.
    has_any: bool,
}

/// What of a folder is left to walk.
#[derive(Debug)]
struct Frame {
    path: PathBuf,
    device: Option<u64>,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    /// All that is in the folder, in reverse order.
    Names(Vec<OsString>),
    /// Only what leads to the given paths.
    Chosen(std::collections::btree_map::IntoIter<OsString, Chosen>),
}

/// The given paths as a tree.
#[derive(Debug, Default)]
struct Chosen {
    is_whole: bool,
    inside: BTreeMap<OsString, Self>,
}

impl FileSource {
    /// A walk over `paths` of a tree, made absolute, and a warning for each that cannot be looked at.
    /// Paths inside another one of them add nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none; [`Error::Source`] if none can be looked at.
    pub(crate) fn new(
        tree: Arc<dyn SourceTree>,
        paths: &[PathBuf],
        selection: Selection,
    ) -> Result<(Self, Vec<SourceWarning>), Error> {
        let (mut roots, mut missing) = (Vec::new(), Vec::new());
        for path in paths {
            let absolute = absolute(path)?;
            // The root has no node of its own.
            let found =
                absolute.file_name().map_or(Ok(()), |_| tree.look_at(&absolute, false).map(drop));
            match found {
                Ok(()) => roots.push(absolute),
                Err(source) => missing.push((absolute, source)),
            }
        }
        if roots.is_empty() {
            let (what, value) = ("backup source", String::new());
            return Err(match missing.into_iter().next() {
                Some((path, source)) => Error::Source { path, source },
                None => Error::Invalid { what, value, reason: "no path is given" },
            });
        }
        let missing = missing.into_iter().map(|(path, source)| {
            let kind = match source.kind() {
                io::ErrorKind::NotFound => SourceWarningKind::Missing,
                _ => SourceWarningKind::Unreadable,
            };
            SourceWarning { path, kind, reason: source.to_string() }
        });
        roots.sort();
        roots.dedup();
        let chosen = choose(&roots);
        let path = PathBuf::from("/");
        let chosen_all = chosen.is_whole;
        let rest = if chosen_all {
            let names = list(&*tree, &path);
            Rest::Names(names.map_err(|source| Error::Source { path: path.clone(), source })?)
        } else {
            Rest::Chosen(chosen.inside.into_iter())
        };
        let frames = vec![Frame { path, device: None, rest }];
        let (missing, has_any) = (missing.collect(), chosen_all);
        Ok((Self { tree, roots, selection, frames, pending: Vec::new(), has_any }, missing))
    }

    /// Whether anything of the given paths has come yet, and not only the folders above them.
    pub(crate) const fn has_any(&self) -> bool {
        self.has_any
    }

    /// The absolute paths.
    pub(crate) fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The next step; none at the end.
    pub(crate) fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.pending.pop() {
                return Some(step);
            }
            let frame = self.frames.last_mut()?;
            let device = frame.device;
            let next = match &mut frame.rest {
                Rest::Names(names) => names.pop().map(|name| (name, None)),
                Rest::Chosen(chosen) => chosen.next().map(|(name, inside)| (name, Some(inside))),
            };
            match next {
                Some((name, chosen)) => {
                    let path = frame.path.join(&name);
                    self.visit(path, chosen, device);
                }
                None => {
                    self.frames.pop();
                    // The root of the file system has no node of its own.
                    return if self.frames.is_empty() { None } else { Some(Step::Leave) };
                }
            }
        }
    }

    /// A link that leads to a given path counts as the folder it points to, as the given path
    /// says.
    fn visit(&mut self, path: PathBuf, chosen: Option<Chosen>, device: Option<u64>) {
        let leads_on = chosen.as_ref().is_some_and(|chosen| !chosen.is_whole);
        if !leads_on && self.selection.excludes.leave_out(&path) {
            return self.pending.insert(0, Step::Excluded(1));
        }
        let looked_at = match self.tree.look_at(&path, leads_on) {
            Ok(entry) if entry.node.kind == NodeKind::Unknown => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "unknown type of file"))
            }
            looked_at => looked_at,
        };
        match looked_at {
            Ok(SourceEntry { node, state, missing }) => {
                for reason in missing {
                    self.warn(path.clone(), SourceWarningKind::Metadata, reason);
                }
                if node.kind == NodeKind::Dir {
                    self.enter(path, node, &state, chosen, device);
                } else {
                    self.has_any = true;
                    self.pending.insert(0, Step::Entry { path, node: Box::new(node), state });
                }
            }
            // Removed since its folder was listed: as if the walk had come a moment later.
            Err(error) if error.kind() == io::ErrorKind::NotFound && chosen.is_none() => {}
            Err(error) => self.warn(path, SourceWarningKind::Unreadable, error.to_string()),
        }
    }

    fn enter(
        &mut self,
        path: PathBuf,
        node: Node,
        state: &FileState,
        chosen: Option<Chosen>,
        device: Option<u64>,
    ) {
        let is_elsewhere = device.is_some_and(|device| device != state.device);
        let rest = match chosen {
            Some(chosen) if !chosen.is_whole => Rest::Chosen(chosen.inside.into_iter()),
            // A mount point stays as an empty folder.
            None if self.selection.one_file_system && is_elsewhere => Rest::Names(Vec::new()),
            _ if self.frames.len() >= DEPTH_MAX => {
                let reason = format!("folders lie deeper than {DEPTH_MAX}");
                self.warn(path.clone(), SourceWarningKind::FolderUnreadable, reason);
                Rest::Names(Vec::new())
            }
            _ => match list(&*self.tree, &path) {
                Ok(mut names) => {
                    match self.vault_at(&path, &names) {
                        Some(VaultAt::Itself) => {
                            return self.pending.insert(0, Step::OwnVault(path));
                        }
                        Some(VaultAt::Copy) => {
                            let reason = "it can be left out by an exclude pattern".to_owned();
                            self.warn(path.clone(), SourceWarningKind::VaultCopy, reason);
                        }
                        None => {}
                    }
                    if self.is_cache(&path, &names) {
                        let all = names.len();
                        names.retain(|name| name == CACHE_TAG);
                        self.pending.insert(0, Step::Excluded((all - names.len()) as u64));
                    }
                    Rest::Names(names)
                }
                Err(error) => {
                    let reason = error.to_string();
                    self.warn(path.clone(), SourceWarningKind::FolderUnreadable, reason);
                    Rest::Names(Vec::new())
                }
            },
        };
        let device = matches!(rest, Rest::Names(_)).then_some(state.device);
        self.has_any |= device.is_some();
        self.pending.insert(0, Step::Enter(Box::new(node)));
        self.frames.push(Frame { path, device, rest });
    }

    /// Whether a folder is the vault that is written to, by whatever path, or a copy of it: both have
    /// its configuration, which is no other vault's, and only the one has the lock of this backup.
    fn vault_at(&self, folder: &Path, names: &[OsString]) -> Option<VaultAt> {
        let OwnVault { config, lock } = self.selection.own_vault.as_ref()?;
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        let is_alike = ["config", "keys", "snapshots"].into_iter().all(has)
            && self.begins_with(&folder.join("config"), config);
        let is_there = |lock: &Path| self.tree.look_at(&folder.join(lock), false).is_ok();
        match is_alike {
            false => None,
            true if lock.look_for(is_there) => Some(VaultAt::Itself),
            true => Some(VaultAt::Copy),
        }
    }

    /// Whether a folder says of itself that it is a cache, see <https://bford.info/cachedir/>.
    fn is_cache(&self, folder: &Path, names: &[OsString]) -> bool {
        self.selection.exclude_caches
            && names.iter().any(|name| name == CACHE_TAG)
            && self.begins_with(&folder.join(CACHE_TAG), CACHE_SIGNATURE)
    }

    fn begins_with(&self, file: &Path, wanted: &[u8]) -> bool {
        let mut found = vec![0; wanted.len()];
        let read = self.tree.open(file).and_then(|mut file| file.read_exact(&mut found));
        read.is_ok() && found == wanted
    }

    /// Warnings come out before the step they belong to; `pending` is taken from its end.
    fn warn(&mut self, path: PathBuf, kind: SourceWarningKind, reason: String) {
        self.pending.push(Step::Warning(SourceWarning { path, kind, reason }));
    }
}

/// What a folder is to the vault that is written to.
enum VaultAt {
    Itself,
    Copy,
}

/// The names in a folder in reverse order of their bytes, so that the next one is at the end.
fn list(tree: &dyn SourceTree, path: &Path) -> io::Result<Vec<OsString>> {
    let mut names = tree.list(path)?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// The path from the root, with `.` and `..` taken out as text.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let whole = std::path::absolute(path)
        .map_err(|source| Error::Source { path: path.to_owned(), source })?;
    let mut clean = PathBuf::from("/");
    for component in whole.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

fn choose(roots: &[PathBuf]) -> Chosen {
    let mut top = Chosen::default();
    for root in roots {
        let mut at = &mut top;
        for component in root.components() {
            if let Component::Normal(name) = component {
                let name = OsString::from_vec(name.as_bytes().to_vec());
                at = at.inside.entry(name).or_default();
            }
        }
        at.is_whole = true;
    }
    top
}

#[cfg(test)]
mod tests {
    use super::super::LocalTree;
    use super::*;

    fn source(paths: &[PathBuf]) -> Result<FileSource, Error> {
        let (source, missing) =
            FileSource::new(Arc::new(LocalTree::load()), paths, Selection::default())?;
        assert!(missing.is_empty(), "{missing:?}");
        Ok(source)
    }

    fn walk(source: &mut FileSource, below: &Path) -> String {
        let depth = below.components().count() - 1;
        let (mut text, mut level) = (String::new(), 0usize);
        while let Some(step) = source.next() {
            match step {
                Step::Enter(node) => {
                    if level >= depth {
                        text += &format!("{}/ ", node.name);
                    }
                    level += 1;
                }
                Step::Leave => {
                    level -= 1;
                    if level >= depth {
                        text += "< ";
                    }
                }
                Step::Entry { node, .. } => text += &format!("{} ", node.name),
                Step::Warning(warning) => text += &format!("!{:?} ", warning.kind),
                Step::Excluded(_) => text += "- ",
                Step::OwnVault(_) => text += "vault ",
            }
        }
        assert_eq!(level, 0);
        text
    }

    #[test]
    fn walks_in_byte_order_and_only_what_was_chosen() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for name in ["b/y", "b/x", "a", "b.c", "other/z"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, name).expect("a file");
        }
        let all = walk(&mut source(&[root.to_owned()]).expect("it"), root);
        assert_eq!(all, "a b/ x y < b.c other/ z < ");
        let chosen = [root.join("b/x"), root.join("other/../a"), root.join("b/./x")];
        let some = walk(&mut source(&chosen).expect("it"), root);
        assert_eq!(some, "a b/ x < ");
        let inside = [root.join("b"), root.join("b/x")];
        let some = walk(&mut source(&inside).expect("it"), root);
        assert_eq!(some, "b/ x y < ");
    }

    #[test]
    fn a_missing_path_is_named() {
        let error = source(&[PathBuf::from("/no/such")]).expect_err("missing");
        assert_eq!(error.to_string(), "source cannot be read. path=`/no/such`");
        assert!(source(&[]).is_err());
    }
}
