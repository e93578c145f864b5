//! What is published: configurations and modules by name, their bytes by checksum.

use crate::Error;
use crate::content::ContentStore;
use crate::module::ModuleVersion;
use crate::protocol::{Checksum, ConfigurationName};
use oms_core::Clock;
use oms_core::journal::{
    Append, Event, Head, HistoryId, Journal, JournalError, JournalEvent, JournalExt, READ_MAX,
};
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

/// The kind of a configuration's history; its key is the name in lower case.
pub const CONFIGURATION_HISTORY: &str = "dsc-configuration";

/// The kind of a module's history; its key is name and version in lower case.
pub const MODULE_HISTORY: &str = "dsc-module";

/// The largest configuration, in bytes.
pub const CONFIGURATION_BYTES_MAX: usize = 16 << 20;

/// How often publishing is tried again when another process published first.
const ATTEMPTS_MAX: usize = 8;

/// A published configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedConfiguration {
    /// Its name.
    pub name: ConfigurationName,
    /// Which bytes.
    pub checksum: Checksum,
    /// How many.
    pub bytes: u64,
}

oms_core::journal_event!(PublishedConfiguration, format 1, whole, {
    Self { .. } => "dsc-configuration-published",
});

/// A published module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedModule {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: ModuleVersion,
    /// Which bytes.
    pub checksum: Checksum,
    /// How many.
    pub bytes: u64,
}

oms_core::journal_event!(PublishedModule, format 1, whole, {
    Self { .. } => "dsc-module-published",
});

/// Everything that is published.
#[derive(Debug)]
pub(super) struct Library {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    pub(super) content: ContentStore,
    configurations: Shelf<String, PublishedConfiguration>,
    modules: Shelf<(String, ModuleVersion), PublishedModule>,
}

/// The newest of each name, with how many events its history had then.
type Shelf<K, T> = RwLock<BTreeMap<K, (u64, T)>>;

/// Puts a thing in its place, unless a newer one is there.
fn put<K: Ord, T>(shelf: &Shelf<K, T>, key: K, version: u64, thing: T) {
    let mut all = shelf.write().unwrap_or_else(PoisonError::into_inner);
    match all.entry(key) {
        Entry::Occupied(known) if known.get().0 > version => {}
        Entry::Occupied(mut known) => drop(known.insert((version, thing))),
        Entry::Vacant(place) => drop(place.insert((version, thing))),
    }
}

fn all<K: Ord, T: Clone>(shelf: &Shelf<K, T>) -> Vec<T> {
    let all = shelf.read().unwrap_or_else(PoisonError::into_inner);
    all.values().map(|(_, thing)| thing.clone()).collect()
}

fn module_key(module: &PublishedModule) -> (String, ModuleVersion) {
    (module.name.to_lowercase(), module.version.clone())
}

impl Library {
    pub(super) async fn open(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        content: ContentStore,
    ) -> Result<Self, Error> {
        let (configurations, modules) = (Shelf::default(), Shelf::default());
        let library = Self { journal, clock, content, configurations, modules };
        library.refresh().await?;
        Ok(library)
    }

    /// Reads what another server published. Of each name only the newest event is read.
    pub(super) async fn refresh(&self) -> Result<(), Error> {
        let known = self.known(&self.configurations, |published| published.name.key());
        for (version, event) in self.newest(CONFIGURATION_HISTORY, known).await? {
            let published = PublishedConfiguration::open(&event.envelope)?;
            put(&self.configurations, published.name.key(), version, published);
        }
        let known = self.known(&self.modules, |published| {
            format!("{}/{}", published.name.to_lowercase(), published.version)
        });
        for (version, event) in self.newest(MODULE_HISTORY, known).await? {
            let published = PublishedModule::open(&event.envelope)?;
            put(&self.modules, module_key(&published), version, published);
        }
        Ok(())
    }

    /// Reads what was published of one configuration, perhaps by another server.
    pub(super) async fn refresh_configuration(
        &self,
        name: &ConfigurationName,
    ) -> Result<(), Error> {
        let history = HistoryId::new(CONFIGURATION_HISTORY, &name.key())?;
        let known = |shelf: &Shelf<String, PublishedConfiguration>| {
            let all = shelf.read().unwrap_or_else(PoisonError::into_inner);
            all.get(history.key()).map_or(0, |(version, _)| *version)
        };
        let mut after = known(&self.configurations);
        loop {
            let events = self.journal.read(&history, after, READ_MAX).await?;
            let Some(newest) = events.last() else { return Ok(()) };
            let published = PublishedConfiguration::open(&newest.envelope)?;
            after = newest.version;
            put(&self.configurations, published.name.key(), after, published);
        }
    }

    /// How many events are known of the history of each key.
    fn known<K: Ord, T>(&self, shelf: &Shelf<K, T>, key: fn(&T) -> String) -> HashMap<String, u64> {
        let all = shelf.read().unwrap_or_else(PoisonError::into_inner);
        all.values().map(|(version, thing)| (key(thing), *version)).collect()
    }

    /// The last event of each history of a kind that has more than are known.
    async fn newest(
        &self,
        kind: &str,
        known: HashMap<String, u64>,
    ) -> Result<Vec<(u64, Event)>, Error> {
        let mut events = Vec::new();
        for Head { history, version } in self.journal.list_whole(kind).await? {
            if known.get(history.key()) == Some(&version) {
                continue;
            }
            let newest = self.journal.read(&history, version - 1, 1).await?;
            events.extend(newest.into_iter().map(|event| (event.version, event)));
        }
        Ok(events)
    }

    /// Makes a configuration the newest of its name. Its bytes are durable already.
    pub(super) async fn publish(
        &self,
        published: PublishedConfiguration,
        actor: &str,
    ) -> Result<(), Error> {
        if self.configuration(&published.name).as_ref() == Some(&published) {
            return Ok(());
        }
        self.publish_with(published, actor, None).await.map(|_version| ())
    }

    /// The same, whatever is there, in one append with that to another history; answers that history's
    /// new version, if there is one.
    ///
    /// # Errors
    /// [`Error::Journal`] with the conflict, if it is the other history's.
    pub(super) async fn publish_with(
        &self,
        published: PublishedConfiguration,
        actor: &str,
        other: Option<Append>,
    ) -> Result<Option<u64>, Error> {
        let key = published.name.key();
        let history = HistoryId::new(CONFIGURATION_HISTORY, &key)?;
        let versions = self.append(history, actor, &published, other).await?;
        let version = versions.first().copied().unwrap_or_default();
        put(&self.configurations, key, version, published);
        Ok(versions.get(1).copied())
    }

    pub(super) async fn publish_module(
        &self,
        published: PublishedModule,
        actor: &str,
    ) -> Result<(), Error> {
        let (name, version) = module_key(&published);
        let history = HistoryId::new(MODULE_HISTORY, &format!("{name}/{version}"))?;
        let versions = self.append(history, actor, &published, None).await?;
        let key = (name, version);
        put(&self.modules, key, versions.first().copied().unwrap_or_default(), published);
        Ok(())
    }

    /// Answers the new versions of the history, and of the other one.
    async fn append(
        &self,
        history: HistoryId,
        actor: &str,
        published: &(impl JournalEvent + Sync),
        other: Option<Append>,
    ) -> Result<Vec<u64>, Error> {
        let envelope = published.seal(self.clock.now(), actor)?;
        let mut expected = 0;
        for _ in 0..ATTEMPTS_MAX {
            let events = vec![envelope.clone()];
            let append = Append { history: history.clone(), expected, events };
            let appends = [append].into_iter().chain(other.clone()).collect();
            match self.journal.append(appends).await {
                Ok(versions) => return Ok(versions),
                // What is published last counts, whoever published before.
                Err(JournalError::Conflict { history: met, actual, .. }) if met == history => {
                    expected = actual;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Internal { reason: format!("{history} changes too fast") })
    }

    pub(super) fn configuration(&self, name: &ConfigurationName) -> Option<PublishedConfiguration> {
        let all = self.configurations.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&name.key()).map(|(_, published)| published.clone())
    }

    pub(super) fn configurations(&self) -> Vec<PublishedConfiguration> {
        all(&self.configurations)
    }

    /// The module of that version, or its newest without one.
    pub(super) fn module(
        &self,
        name: &str,
        version: Option<&ModuleVersion>,
    ) -> Option<PublishedModule> {
        let all = self.modules.read().unwrap_or_else(PoisonError::into_inner);
        let name = name.to_lowercase();
        match version {
            Some(version) => all.get(&(name, version.clone())),
            None => all.values().rfind(|(_, module)| module.name.to_lowercase() == name),
        }
        .map(|(_, module)| module.clone())
    }

    pub(super) fn modules(&self) -> Vec<PublishedModule> {
        all(&self.modules)
    }
}
