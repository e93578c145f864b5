//! An object store that several processes write to, and what they agree on there.
//!
//! Each of them has a folder of its own with its own write-ahead log, and commits to the tables under
//! an application id of its own: what it acknowledged is in the tables once, whatever the others do.
//!
//! ```text
//!  folder 1: write-ahead log ──flush──┐            ┌── refresh ──► queries of folder 2 see it
//!  folder 2: write-ahead log ──flush──┼─► Delta ───┤
//!  folder 3: write-ahead log ──flush──┘   tables   └── one of them owns maintenance
//!
//!  STORE/workspace.json          the workspace, and that it is shared
//!  STORE/Perf/                   a Delta table
//!  STORE/.oms/tables.json        plans and retention of tables
//!  STORE/.oms/rules.json         data collection rules
//!  STORE/.oms/writers/NODE       a process that may hold rows which are in no table yet
//!  STORE/.oms/slots/NAME         which process without a disk has a place among the writers
//!  STORE/.oms/log/NODE/          its write-ahead log
//!  STORE/.oms/lost/NODE          one that was given up
//!  STORE/.oms/owner/             who owns maintenance
//!  STORE/.oms/barriers/ID/       a request that all writers flush, and who did
//!  STORE/.oms/conditions/NODE    an object that a process which opens tries the store with
//! ```
//!
//! # Which stores
//! The objects in `.oms/` are created and replaced on conditions (`If-None-Match`, `If-Match`), so that of
//! two processes that are first one is. S3, Azure Blob Storage and Google Cloud Storage keep them; a
//! process tries it when it opens, and [`Error::Setting`] names a store that does not know or ignores
//! them.
//!
//! # Without a disk
//! A process may have its write-ahead log in the store, too: see
//! [`WorkspaceBuilder::diskless`](crate::workspace::WorkspaceBuilder::diskless). What it acknowledged
//! is then lost with no machine. It has a place by name; whoever takes the place brings into the tables
//! what the one before acknowledged and had not flushed, and the one before, if it still runs, cannot
//! acknowledge anything more: its writes fail by [`Error::WriterReplaced`]. No clock takes part in that.
//! An acknowledgement takes up to [`Settings::log_interval`] and a request to the store.
//!
//! # What others see when
//! A process sees its own rows when they are acknowledged, and those of the others when they flushed
//! them and it looked: every [`Settings::refresh_every`](crate::Settings::refresh_every), by one
//! request a table where nothing is new.
//!
//! # Columns
//! Two processes may give a table a column of one name at the same time. If they agree on its type
//! there is one; otherwise the one that flushes first decides. The other one's rows are acknowledged
//! by then: a value that goes into the column without loss does, and any other goes to
//! `AdditionalFields` under the column's name, in the table and in what queries of that process see.
//! From then on both refuse or convert alike. A table has 500 columns whoever adds them: what comes
//! too late is in `AdditionalFields` likewise. Files that are being loaded are not converted; the load
//! ends by [`Error::Superseded`], what it had reported stays, and the rest can be loaded again.
//!
//! # Maintenance
//! One process owns it: compaction, retention, vacuum and purge. The others refuse by
//! [`Error::MaintainedElsewhere`] and leave theirs in the background alone. Who has an object store
//! needs nothing else for this: the ownership is an object there, whose name has the *epoch* and which
//! exactly one can create. An owner that closes gives it up; of one that shows no life for
//! [`owner_term`](super::maintain::MaintenanceSettings::owner_term) another takes it over.
//!
//! What an owner does that was paused and wakes does no harm, and no clock takes part in that:
//! - Before an owner changes a table, the table's properties have its epoch. A Delta commit that was
//!   begun before such a change is refused, and a former owner finds the higher epoch.
//! - A change that removes files lands right after the version that it was made from, or is made
//!   again from what the table is then.
//! - Retention that was begun by settings which someone changed since is given up: a change of
//!   settings is in the table's properties before it is acknowledged.
//! - Before a vacuum deletes files that no commit names, the table's properties change: whoever has
//!   written such files and not committed them writes them again. So those that it found are nobody's
//!   for ever, whenever it deletes them. Files that were removed from a table are kept for
//!   [`removed_files_kept`](super::maintain::MaintenanceSettings::removed_files_kept), by the clocks of
//!   the owners: those have to agree better than that.
//!
//! # Purges
//! Rows that are to be purged may wait in another process. A purge asks all writers to flush, and
//! waits for them; if one does not answer it fails by [`Error::WritersBehind`], which names it, and
//! nothing is purged. A writer is asked from when it opens until it is closed after a flush: also while
//! it is killed and its folder holds rows. [`Workspace::forget_writer`](crate::Workspace::forget_writer)
//! gives up one that is lost, after which nothing of it comes into the tables any more. Queries of
//! other processes that began before the purge, or before those looked for news, fail by a missing
//! file; none finds what was purged after that.
//!
//! # What each process has for itself
//! - The sequences of producers: a sender that goes to another process with a batch that was not
//!   acknowledged may have written it twice.
//! - Limits, and when its clock was believed.
//! - `Usage` rows: each process tells of its own.

mod conditions;

mod duty;

mod slot;

mod writers;

pub(crate) mod refresh;

pub(crate) use duty::{Duty, Epoch};
pub(crate) use slot::{Slot, Taken};

use crate::ingest::rule::RuleStore;
use crate::repository::folder::Identity;
use crate::repository::home::Home;
use crate::repository::maintain::Keep;
use crate::{Error, Settings};
use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::SignedDuration;
use object_store::path::Path as ObjectPath;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, UpdateVersion,
};
use oms_core::{Clock, Entropy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// The folder of what is agreed on. No table has such a name.
const FOLDER: &str = ".oms";

/// Bounds of [`Settings::refresh_every`].
const EVERY_MIN: SignedDuration = SignedDuration::from_millis(100);
const EVERY_MAX: SignedDuration = SignedDuration::from_hours(1);

/// What one process knows of the others.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) documents: Arc<Documents>,
    pub(crate) duty: Duty,
    /// Requests that this process answered.
    answered: Mutex<BTreeSet<String>>,
}

impl Share {
    /// Joins the writers of a store, whose [conditions](Documents::check_conditions) were checked.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::WriterForgotten`], [`Error::Store`], [`Error::Corrupt`].
    pub(crate) async fn join(
        documents: Arc<Documents>,
        clock: Arc<dyn Clock>,
        settings: &Settings,
        keep: &Keep,
        rules: &RuleStore,
    ) -> Result<Self, Error> {
        let (every, term) = (settings.refresh_every, settings.maintenance.owner_term);
        let is_in_range = every.is_zero() || (EVERY_MIN..=EVERY_MAX).contains(&every);
        if !is_in_range || every > term / 3 {
            let (of, value) = ("the workspace".to_owned(), format!("{every:#}"));
            let reason = format!("0, or {EVERY_MIN:#} to {EVERY_MAX:#} and a third of owner_term");
            return Err(Error::Setting { of, setting: "refresh_every", value, reason });
        }
        let duty = Duty::new(Arc::clone(&documents), clock, term.unsigned_abs());
        let share = Self { documents, duty, answered: Mutex::default() };
        share.register().await?;
        keep.settings.share(&share.documents).await?;
        rules.share(&share.documents).await?;
        Ok(share)
    }

    /// This process among the writers.
    pub(crate) fn node(&self) -> &str {
        &self.documents.node
    }
}

/// The small objects that the writers of a store share.
#[derive(Debug)]
pub(crate) struct Documents {
    store: Arc<dyn ObjectStore>,
    folder: ObjectPath,
    url: Arc<str>,
    /// This process among the writers.
    node: String,
}

impl Documents {
    /// As a process of this identity sees them.
    ///
    /// # Errors
    /// [`Error::Setting`] if the store's URL has no path.
    pub(crate) fn of(home: &Home, identity: &Identity) -> Result<Self, Error> {
        let folder = home.path()?.join(FOLDER);
        let (store, url) = (Arc::clone(home.store()), home.url().as_str().into());
        Ok(Self { store, folder, url, node: identity.node() })
    }

    fn path(&self, name: &str) -> ObjectPath {
        self.folder.parts().chain(ObjectPath::from(name).parts()).collect()
    }

    fn failed(&self) -> impl Fn(object_store::Error) -> Error + use<> {
        let url = self.url.to_string();
        move |source| Error::Store { url: url.clone(), source }
    }

    /// An object and its version; none if it is not there.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<(T, UpdateVersion)>, Error> {
        self.read_newer(name, None).await
    }

    /// An object and its version; none if it is not there, or is the version `known`.
    pub(crate) async fn read_newer<T: DeserializeOwned>(
        &self,
        name: &str,
        known: Option<&UpdateVersion>,
    ) -> Result<Option<(T, UpdateVersion)>, Error> {
        let path = self.path(name);
        let if_none_match = known.and_then(|known| known.e_tag.clone());
        let options = GetOptions { if_none_match, ..GetOptions::default() };
        let found = match self.store.get_opts(&path, options).await {
            Err(object_store::Error::NotFound { .. } | object_store::Error::NotModified { .. }) => {
                return Ok(None);
            }
            found => found.map_err(self.failed())?,
        };
        let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
        let bytes: Bytes = found.bytes().await.map_err(self.failed())?;
        let document = serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt {
            path: path.to_string(),
            offset: 0,
            reason: error.to_string(),
        })?;
        Ok(Some((document, UpdateVersion { e_tag, version })))
    }

    /// Puts an object in place of whatever is there.
    pub(crate) async fn put(&self, name: &str, document: &impl Serialize) -> Result<(), Error> {
        let put = self.store.put(&self.path(name), text(document)?).await;
        put.map(drop).map_err(self.failed())
    }

    /// Puts an object if there is none, or if it is still the version `old`; answers whether it did.
    pub(crate) async fn put_if(
        &self,
        name: &str,
        document: &impl Serialize,
        old: Option<UpdateVersion>,
    ) -> Result<bool, Error> {
        let mode = old.map_or(PutMode::Create, PutMode::Update);
        match self.store.put_opts(&self.path(name), text(document)?, mode.into()).await {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(false),
            Err(error) => Err(self.failed()(error)),
        }
    }

    /// The names of the objects in a folder, which have no folders.
    async fn names(&self, folder: &str) -> Result<BTreeSet<String>, Error> {
        let listed = self.store.list_with_delimiter(Some(&self.path(folder))).await;
        let listed = listed.map_err(self.failed())?;
        let names = listed.objects.iter().filter_map(|object| object.location.filename());
        Ok(names.map(str::to_owned).collect())
    }

    /// The names of the folders in a folder.
    async fn folders(&self, folder: &str) -> Result<BTreeSet<String>, Error> {
        let listed = self.store.list_with_delimiter(Some(&self.path(folder))).await;
        let listed = listed.map_err(self.failed())?;
        let names = listed.common_prefixes.iter().filter_map(ObjectPath::filename);
        Ok(names.map(str::to_owned).collect())
    }

    /// Removes an object, if it is there.
    async fn remove(&self, name: &str) -> Result<(), Error> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed()(error)),
        }
    }

    /// Removes a folder with what is in it; not, where `before` is given, if an object of it was
    /// written since, in milliseconds since 1970.
    async fn remove_folder(&self, folder: &str, before: Option<i64>) -> Result<(), Error> {
        let objects = self.store.list(Some(&self.path(folder)));
        let objects: Vec<_> = objects.try_collect().await.map_err(self.failed())?;
        let is_new = |object: &object_store::ObjectMeta| {
            before.is_some_and(|before| object.last_modified.timestamp_millis() > before)
        };
        if objects.iter().any(is_new) {
            return Ok(());
        }
        for object in objects {
            match self.store.delete(&object.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed()(error)),
            }
        }
        Ok(())
    }
}

fn text(document: &impl Serialize) -> Result<PutPayload, Error> {
    let text = serde_json::to_vec_pretty(document);
    text.map(PutPayload::from).map_err(|error| Error::Internal { what: error.to_string() })
}

/// How the application ids of Delta transactions begin.
const APP_PREFIX: &str = "oms-logs-";

/// The application id of a writer's Delta transactions.
pub(crate) fn app_id(node: &str) -> String {
    format!("{APP_PREFIX}{node}")
}

/// The writer of an application id.
pub(crate) fn writer_of(app_id: &str) -> &str {
    app_id.strip_prefix(APP_PREFIX).unwrap_or(app_id)
}

/// A stand-in where something has to be drawn.
pub(crate) fn drawn(entropy: &dyn Entropy) -> String {
    use oms_core::EntropyExt as _;
    entropy.uuid().to_string()
}
