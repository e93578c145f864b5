//! Commits that take files out of a table, and put others in their place.

use crate::Error;
use crate::repository::commit::{
    CHANGE_ATTEMPTS_MAX, Committer, EPOCH_MARK, SETTINGS_MARK, is_conflict,
};
use crate::repository::share::Epoch;
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
    /// The ownership by which it is made; none where nobody else could.
    pub(super) epoch: Option<Epoch>,
    /// What [`SETTINGS_MARK`] was before the settings were read that it goes by; none if it goes by
    /// none.
    pub(super) settings: Option<Option<String>>,
}

impl Committer {
    /// Makes a change in one commit. Answers whether it was made: not if a file that it removes is
    /// gone, because another writer took it, or if the settings that it goes by are others now.
    ///
    /// # Errors
    /// [`Error::Delta`]: it was made or not, and calling again with the same change tells.
    /// [`Error::MaintainedElsewhere`] if another process owns maintenance since.
    pub(super) async fn change(&mut self, change: &Change, now: Timestamp) -> Result<bool, Error> {
        for attempt in 1.. {
            self.settle().await?;
            let removes = self.removes(change, now);
            if removes.is_none() && self.has(change) {
                break;
            }
            self.check_epoch(change.epoch.as_ref())?;
            let Some(removes) = removes else { return Ok(false) };
            let settings = change.settings.as_ref().map(Option::as_deref);
            if settings.is_some_and(|settings| settings != self.mark(SETTINGS_MARK)) {
                return Ok(false);
            }
            let added = change.added.iter().cloned().map(Action::Add);
            let actions = removes.into_iter().map(Action::Remove).chain(added).collect();
            // Once: the Delta library lets two rewrites of one file pass each other, after which its
            // rows are there twice. Here the files are looked up again after any other commit.
            let once = CommitProperties::default().with_max_retries(0);
            match self.commit_actions(actions, change.operation.clone(), once).await {
                Ok(()) => break,
                Err(error) if attempt == CHANGE_ATTEMPTS_MAX || !is_conflict(&error) => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        Ok(true)
    }

    /// That nobody owned the table's maintenance after this.
    ///
    /// # Errors
    /// [`Error::MaintainedElsewhere`].
    pub(super) fn check_epoch(&self, own: Option<&Epoch>) -> Result<(), Error> {
        let Some(own) = own else { return Ok(()) };
        let stored = self.mark(EPOCH_MARK).and_then(|epoch| epoch.parse::<u64>().ok());
        match stored.is_some_and(|stored| stored > own.number) {
            true => Err(own.is_over()),
            false => Ok(()),
        }
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
        released(self.publish_files(&committer)?);
        Ok(made)
    }
}
