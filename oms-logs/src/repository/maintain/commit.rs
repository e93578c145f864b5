//! Commits that take files out of a table, and put others in their place.

use crate::Error;
use crate::repository::commit::{COMMIT_ATTEMPTS_MAX, Committer, is_conflict};
use crate::repository::table::Table;
use deltalake_core::kernel::transaction::CommitProperties;
use deltalake_core::kernel::{Action, Add, Remove};
use deltalake_core::protocol::DeltaOperation;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use object_store::path::Path as ObjectPath;
use std::collections::{BTreeMap, BTreeSet};

/// What one commit changes.
#[derive(Debug)]
pub(super) struct Change {
    /// From the root of the file system.
    pub(super) removed: BTreeSet<ObjectPath>,
    pub(super) added: Vec<Add>,
    /// Whether the rows of the table are other ones after it.
    pub(super) changes_rows: bool,
    pub(super) operation: DeltaOperation,
}

impl Committer {
    /// Reads the table again if the outcome of an earlier commit is not known.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        if self.is_in_doubt { self.reload().await } else { Ok(()) }
    }

    /// Makes a change in one commit. Answers whether it was made: not if a file that it removes is
    /// gone, because another writer took it.
    ///
    /// # Errors
    /// [`Error::Delta`]: it was made or not, and calling again with the same change tells.
    pub(super) async fn change(&mut self, change: &Change, now: Timestamp) -> Result<bool, Error> {
        for attempt in 1.. {
            self.settle().await?;
            let Some(removes) = self.removes(change, now) else { return Ok(self.has(change)) };
            let added = change.added.iter().cloned().map(Action::Add);
            let actions = removes.into_iter().map(Action::Remove).chain(added).collect();
            let (operation, properties) = (change.operation.clone(), CommitProperties::default());
            match self.commit_actions(actions, operation, properties).await {
                Ok(()) => break,
                Err(error) if attempt == COMMIT_ATTEMPTS_MAX || !is_conflict(&error) => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        Ok(true)
    }

    /// The actions that remove files; none if one of them is not there.
    fn removes(&self, change: &Change, now: Timestamp) -> Option<Vec<Remove>> {
        let state = self.state.as_ref()?;
        let views = state.log_data();
        let mut found = BTreeMap::new();
        for view in views.iter() {
            let path = self.whole_path(&view.object_store_path());
            if change.removed.contains(&path) {
                let mut remove = view.remove_action(change.changes_rows);
                remove.deletion_timestamp = Some(now.as_millisecond());
                found.insert(path, remove);
            }
        }
        (found.len() == change.removed.len()).then(|| found.into_values().collect())
    }

    /// Whether the table has every file that a change adds.
    fn has(&self, change: &Change) -> bool {
        let Some(state) = &self.state else { return false };
        let views = state.log_data();
        let is_there = |add: &Add| views.iter().any(|view| view.path() == add.path);
        !change.added.is_empty() && change.added.iter().all(is_there)
    }

    fn whole_path(&self, path: &ObjectPath) -> ObjectPath {
        self.root.parts().chain(path.parts()).collect()
    }

    /// Files that were removed from the table and when, in milliseconds since 1970.
    pub(super) async fn tombstones(&self) -> Result<BTreeMap<ObjectPath, i64>, Error> {
        let Some(state) = &self.state else { return Ok(BTreeMap::new()) };
        let mut found = BTreeMap::new();
        let mut tombstones = state.all_tombstones(self.log_store.as_ref());
        while let Some(tombstone) =
            tombstones.try_next().await.map_err(Error::delta(&self.table))?
        {
            let text = tombstone.path();
            let path = ObjectPath::parse(&text).unwrap_or_else(|_| ObjectPath::from(text.as_ref()));
            let when = tombstone.deletion_timestamp().unwrap_or(0);
            found.insert(self.whole_path(&path), when);
        }
        Ok(found)
    }
}

impl Table {
    /// Makes a change and publishes the files after it in one step. Answers whether it was made.
    pub(super) async fn change(
        &self,
        change: &Change,
        now: Timestamp,
        released: impl Fn(u64),
    ) -> Result<bool, Error> {
        let mut committer = self.committer.lock().await;
        let made = committer.change(change, now).await?;
        released(self.publish_files(&committer, None)?);
        Ok(made)
    }
}
