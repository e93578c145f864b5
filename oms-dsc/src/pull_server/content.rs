//! What is published: configurations and modules by name, their bytes by checksum.

use crate::Error;
use crate::content::ContentStore;
use crate::module::ModuleVersion;
use crate::protocol::{Checksum, ConfigurationName};
use jiff::Timestamp;
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

/// What can happen to a configuration's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ConfigurationEvent {
    /// A version of it was published.
    Published(PublishedConfiguration),
    /// It was taken away.
    Removed {
        /// Its name.
        removed: ConfigurationName,
    },
}

oms_core::journal_event!(ConfigurationEvent, format 1, whole, {
    Self::Published(_) => "dsc-configuration-published",
    Self::Removed { .. } => "dsc-configuration-removed",
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

/// The newest of each name, none if it was taken away, with how many events its history had then.
type Shelf<K, T> = RwLock<BTreeMap<K, (u64, Option<T>)>>;

/// Puts a thing in its place, unless a newer one is there.
fn put<K: Ord, T>(shelf: &Shelf<K, T>, key: K, version: u64, thing: Option<T>) {
    let mut all = shelf.write().unwrap_or_else(PoisonError::into_inner);
    match all.entry(key) {
        Entry::Occupied(known) if known.get().0 > version => {}
        Entry::Occupied(mut known) => drop(known.insert((version, thing))),
        Entry::Vacant(place) => drop(place.insert((version, thing))),
    }
}

fn all<K: Ord, T: Clone>(shelf: &Shelf<K, T>) -> Vec<T> {
    let all = shelf.read().unwrap_or_else(PoisonError::into_inner);
    all.values().filter_map(|(_, thing)| thing.clone()).collect()
}

fn module_key(module: &PublishedModule) -> (String, ModuleVersion) {
    (module.name.to_lowercase(), module.version.clone())
}

/// The key of a configuration's name after an event, and what is published under it.
fn opened(event: &Event) -> Result<(String, Option<PublishedConfiguration>), Error> {
    Ok(match ConfigurationEvent::open(&event.envelope)? {
        ConfigurationEvent::Published(published) => (published.name.key(), Some(published)),
        ConfigurationEvent::Removed { removed } => (removed.key(), None),
    })
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
        let known = self.known(&self.configurations, String::clone);
        for (version, event) in self.newest(CONFIGURATION_HISTORY, known).await? {
            let (key, published) = opened(&event)?;
            put(&self.configurations, key, version, published);
        }
        let known = self.known(&self.modules, |(name, version)| format!("{name}/{version}"));
        for (version, event) in self.newest(MODULE_HISTORY, known).await? {
            let published = PublishedModule::open(&event.envelope)?;
            put(&self.modules, module_key(&published), version, Some(published));
        }
        Ok(())
    }

    /// Reads what was published of one configuration, perhaps by another server.
    pub(super) async fn refresh_configuration(
        &self,
        name: &ConfigurationName,
    ) -> Result<(), Error> {
        let history = HistoryId::new(CONFIGURATION_HISTORY, &name.key())?;
        let mut after = self.version(name);
        loop {
            let events = self.journal.read(&history, after, READ_MAX).await?;
            let Some(newest) = events.last() else { return Ok(()) };
            let (key, published) = opened(newest)?;
            after = newest.version;
            put(&self.configurations, key, after, published);
        }
    }

    /// How many events are known of a configuration's history.
    fn version(&self, name: &ConfigurationName) -> u64 {
        let all = self.configurations.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&name.key()).map_or(0, |(version, _)| *version)
    }

    /// How many events are known of the history of each key.
    fn known<K: Ord, T>(&self, shelf: &Shelf<K, T>, key: fn(&K) -> String) -> HashMap<String, u64> {
        let all = shelf.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(place, (version, _))| (key(place), *version)).collect()
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
        let event = ConfigurationEvent::Published(published.clone());
        let versions = self.append(history, actor, &event, other).await?;
        let version = versions.first().copied().unwrap_or_default();
        put(&self.configurations, key, version, Some(published));
        Ok(versions.get(1).copied())
    }

    /// Makes each configuration the newest of its name, in one append with that to another history: all
    /// or none. What is the newest already has to stay so. Their bytes are durable already.
    ///
    /// # Errors
    /// [`Error::Journal`] with the conflict, if the other history is not as expected, or one of the names
    /// has changed since the last [`Library::refresh`].
    pub(super) async fn publish_all(
        &self,
        all: &[PublishedConfiguration],
        actor: &str,
        other: Append,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let mut appends = vec![other];
        for published in all {
            let history = HistoryId::new(CONFIGURATION_HISTORY, &published.name.key())?;
            let expected = self.version(&published.name);
            let is_newest = self.configuration(&published.name).as_ref() == Some(published);
            let event = ConfigurationEvent::Published(published.clone());
            let events = match is_newest {
                true => Vec::new(),
                false => vec![event.seal(now, actor)?],
            };
            appends.push(Append { history, expected, events });
        }
        let versions = self.journal.append(appends).await?;
        for (published, version) in all.iter().zip(versions.into_iter().skip(1)) {
            put(&self.configurations, published.name.key(), version, Some(published.clone()));
        }
        Ok(())
    }

    /// Takes a configuration away.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`].
    pub(super) async fn remove(&self, name: &ConfigurationName, actor: &str) -> Result<(), Error> {
        let history = HistoryId::new(CONFIGURATION_HISTORY, &name.key())?;
        let removed = ConfigurationEvent::Removed { removed: name.clone() };
        for _ in 0..ATTEMPTS_MAX {
            self.refresh_configuration(name).await?;
            if self.configuration(name).is_none() {
                return Err(Error::NotFound { what: "node configuration", name: name.to_string() });
            }
            let envelope = removed.seal(self.clock.now(), actor)?;
            match self.journal.append_to(&history, self.version(name), vec![envelope]).await {
                Ok(version) => {
                    put(&self.configurations, name.key(), version, None);
                    return Ok(());
                }
                // Somebody published it meanwhile: that goes, too.
                Err(JournalError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Internal { reason: format!("{history} changes too fast") })
    }

    /// When a configuration was published first since it was taken away, and when last.
    pub(super) async fn times(
        &self,
        name: &ConfigurationName,
    ) -> Result<Option<(Timestamp, Timestamp)>, Error> {
        let history = HistoryId::new(CONFIGURATION_HISTORY, &name.key())?;
        let mut times = None;
        for event in self.journal.read_whole(&history).await? {
            let time = event.envelope.time;
            times = match ConfigurationEvent::open(&event.envelope)? {
                ConfigurationEvent::Published(_) => {
                    Some((times.map_or(time, |(first, _last)| first), time))
                }
                ConfigurationEvent::Removed { .. } => None,
            };
        }
        Ok(times)
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
        let version = versions.first().copied().unwrap_or_default();
        put(&self.modules, key, version, Some(published));
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
        all.get(&name.key()).and_then(|(_, published)| published.clone())
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
            None => all.iter().rfind(|((known, _), _)| *known == name).map(|(_, held)| held),
        }
        .and_then(|(_, module)| module.clone())
    }

    pub(super) fn modules(&self) -> Vec<PublishedModule> {
        all(&self.modules)
    }
}
