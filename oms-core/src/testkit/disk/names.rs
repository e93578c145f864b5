//! The names on a simulated disk: what programs see of them, and what a power failure leaves.

use crate::entropy::{Entropy, EntropyExt};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which file a path names.
pub(super) type Names = BTreeMap<PathBuf, u64>;

/// Two images of the names, and the changes that lead from the second to the first.
///
/// What a file system owes its users is less than what most of them do: changes of one folder reach
/// the device in their order, changes of different folders in any. A rename from one folder to
/// another is a change of both, of which the old name never goes before the new one is there; so
/// no file is lost, but a power failure can leave it under both names.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    seen: Names,
    durable: Names,
    pending: Vec<NameChange>,
    next_change: u64,
}

/// A change of the entries of one folder, which happens as a whole or not at all.
#[derive(Debug)]
struct NameChange {
    number: u64,
    folder: PathBuf,
    cleared: Option<PathBuf>,
    set: Option<(PathBuf, u64)>,
    /// The change of another folder that has to be durable before this one.
    after: Option<u64>,
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        if let Some(path) = &self.cleared {
            names.remove(path);
        }
        if let Some((path, file)) = &self.set {
            names.insert(path.clone(), *file);
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

impl NameTable {
    /// What programs see.
    pub(super) fn seen(&self) -> &Names {
        &self.seen
    }

    pub(super) fn create(&mut self, path: PathBuf, file: u64) {
        self.change(folder_of(&path), None, Some((path, file)), None);
    }

    pub(super) fn remove(&mut self, path: PathBuf) {
        self.change(folder_of(&path), Some(path), None, None);
    }

    /// Renames what is there. Nothing happens if nothing is, nor if both are names of one file, as
    /// POSIX has it: the old name stays.
    pub(super) fn rename(&mut self, from: PathBuf, to: PathBuf) {
        let Some(file) = self.seen.get(&from).copied() else { return };
        if self.seen.get(&to) == Some(&file) {
            return;
        }
        let (old, new) = (folder_of(&from), folder_of(&to));
        if old == new {
            self.change(new, Some(from), Some((to, file)), None);
        } else {
            let named = self.change(new, None, Some((to, file)), None);
            self.change(old, Some(from), None, Some(named));
        }
    }

    fn change(
        &mut self,
        folder: PathBuf,
        cleared: Option<PathBuf>,
        set: Option<(PathBuf, u64)>,
        after: Option<u64>,
    ) -> u64 {
        let number = self.next_change;
        self.next_change += 1;
        let change = NameChange { number, folder, cleared, set, after };
        change.apply(&mut self.seen);
        self.pending.push(change);
        number
    }

    /// Makes the changes of one folder durable, and of other folders only what they come after.
    pub(super) fn sync(&mut self, folder: &Path) {
        let last = self.pending.iter().rfind(|change| change.folder == folder);
        let reached = last.map(|change| change.number).into_iter().collect();
        self.make_durable(reached);
    }

    /// Power fails: of each folder's changes that were not synced, a first part is kept. Answers how
    /// many are lost.
    pub(super) fn crash(&mut self, entropy: &dyn Entropy) -> u64 {
        let mut by_folder: BTreeMap<&Path, Vec<u64>> = BTreeMap::new();
        for change in &self.pending {
            by_folder.entry(&change.folder).or_default().push(change.number);
        }
        let mut reached = BTreeSet::new();
        for changes in by_folder.into_values() {
            let kept = entropy.below(changes.len() as u64 + 1) as usize;
            reached.extend(kept.checked_sub(1).and_then(|last| changes.get(last)));
        }
        self.make_durable(reached);
        let lost = self.pending.len() as u64;
        self.pending.clear();
        self.seen.clone_from(&self.durable);
        lost
    }

    /// Applies these changes, and what has to be durable before each.
    fn make_durable(&mut self, mut reached: BTreeSet<u64>) {
        let mut folders: BTreeSet<&Path> = BTreeSet::new();
        for change in self.pending.iter().rev() {
            if reached.contains(&change.number) || folders.contains(&*change.folder) {
                reached.insert(change.number);
                folders.insert(&change.folder);
                reached.extend(change.after);
            }
        }
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let is_reached = reached.contains(&change.number);
            if is_reached {
                change.apply(durable);
            }
            !is_reached
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    /// Every state of the names that crashes leave, in a few hundred of them.
    fn left_after(steps: impl Fn(&mut NameTable)) -> BTreeSet<Vec<String>> {
        let crashed = (0..300).map(|seed| {
            let mut names = NameTable::default();
            steps(&mut names);
            names.crash(&SeededEntropy::new(seed));
            let shown =
                names.seen().iter().map(|(path, file)| format!("{}={file}", path.display()));
            shown.collect()
        });
        crashed.collect()
    }

    fn states(expected: &[&[&str]]) -> BTreeSet<Vec<String>> {
        let owned = |state: &&[&str]| state.iter().map(|name| (*name).to_owned()).collect();
        expected.iter().map(owned).collect()
    }

    #[test]
    fn one_folder_keeps_its_order_and_another_has_its_own() {
        let left = left_after(|names| {
            names.create("a/1".into(), 1);
            names.create("b/2".into(), 2);
            names.create("a/3".into(), 3);
        });
        let expected: [&[&str]; 6] = [
            &[],
            &["a/1=1"],
            &["a/1=1", "a/3=3"],
            &["b/2=2"],
            &["a/1=1", "b/2=2"],
            &["a/1=1", "a/3=3", "b/2=2"],
        ];
        assert_eq!(left, states(&expected));
    }

    #[test]
    fn a_sync_is_of_one_folder() {
        let left = left_after(|names| {
            names.create("a/1".into(), 1);
            names.create("b/2".into(), 2);
            names.create("c".into(), 3);
            names.remove("a/1".into());
            names.create("a/4".into(), 4);
            names.sync(Path::new("a"));
        });
        let expected: [&[&str]; 4] =
            [&["a/4=4"], &["a/4=4", "b/2=2"], &["a/4=4", "c=3"], &["a/4=4", "b/2=2", "c=3"]];
        assert_eq!(left, states(&expected));
    }

    #[test]
    fn a_rename_within_a_folder_is_one_change() {
        let left = left_after(|names| {
            names.create("a".into(), 1);
            names.create("b".into(), 2);
            names.sync(Path::new(""));
            names.rename("a".into(), "b".into());
            names.rename("b".into(), "b".into());
        });
        assert_eq!(left, states(&[&["a=1", "b=2"], &["b=1"]]));
    }

    #[test]
    fn a_rename_between_folders_loses_no_file() {
        let prepared = |names: &mut NameTable| {
            names.create("a/1".into(), 1);
            names.sync(Path::new("a"));
            names.rename("a/1".into(), "b/1".into());
        };
        let (old, both, new): (&[&str], &[&str], &[&str]) =
            (&["a/1=1"], &["a/1=1", "b/1=1"], &["b/1=1"]);
        assert_eq!(left_after(prepared), states(&[old, both, new]));
        let synced = |folder: &'static str| {
            left_after(move |names| {
                prepared(names);
                names.sync(Path::new(folder));
            })
        };
        assert_eq!(synced("b"), states(&[both, new]), "the new name stays");
        assert_eq!(synced("a"), states(&[new]), "the old name is gone, so the new one is there");
    }

    #[test]
    fn two_names_of_one_file_are_not_renamed() {
        let mut names = NameTable::default();
        names.create("a/1".into(), 1);
        names.create("b/1".into(), 1);
        names.rename("a/1".into(), "b/1".into());
        assert_eq!(names.seen().len(), 2);
    }
}
