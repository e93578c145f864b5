//! What is published: configurations and modules by name, their bytes by checksum.

use crate::Error;
use crate::content::ContentStore;
use crate::module::ModuleVersion;
use crate::protocol::{Checksum, ConfigurationName};
use oms_core::Clock;
use oms_core::journal::{HistoryId, Journal, JournalError, JournalEvent, JournalExt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    configurations: RwLock<BTreeMap<String, PublishedConfiguration>>,
    modules: RwLock<BTreeMap<(String, ModuleVersion), PublishedModule>>,
}

impl Library {
    pub(super) async fn open(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        content: ContentStore,
    ) -> Result<Self, Error> {
        let mut configurations = BTreeMap::new();
        for head in journal.list_whole(CONFIGURATION_HISTORY).await? {
            let newest = journal.read(&head.history, head.version - 1, 1).await?;
            for event in newest {
                let published = PublishedConfiguration::open(&event.envelope)?;
                configurations.insert(published.name.key(), published);
            }
        }
        let mut modules = BTreeMap::new();
        for head in journal.list_whole(MODULE_HISTORY).await? {
            let newest = journal.read(&head.history, head.version - 1, 1).await?;
            for event in newest {
                let published = PublishedModule::open(&event.envelope)?;
                let key = (published.name.to_lowercase(), published.version.clone());
                modules.insert(key, published);
            }
        }
        let (configurations, modules) = (RwLock::new(configurations), RwLock::new(modules));
        Ok(Self { journal, clock, content, configurations, modules })
    }

    /// Makes a configuration the newest of its name. Its bytes are durable already.
    pub(super) async fn publish(
        &self,
        published: PublishedConfiguration,
        actor: &str,
    ) -> Result<(), Error> {
        let key = published.name.key();
        if self.configuration(&published.name).as_ref() == Some(&published) {
            return Ok(());
        }
        self.append(CONFIGURATION_HISTORY, &key, actor, &published).await?;
        let mut all = self.configurations.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(key, published);
        Ok(())
    }

    pub(super) async fn publish_module(
        &self,
        published: PublishedModule,
        actor: &str,
    ) -> Result<(), Error> {
        let name = published.name.to_lowercase();
        let key = format!("{name}/{}", published.version);
        self.append(MODULE_HISTORY, &key, actor, &published).await?;
        let mut all = self.modules.write().unwrap_or_else(PoisonError::into_inner);
        all.insert((name, published.version.clone()), published);
        Ok(())
    }

    async fn append(
        &self,
        history: &str,
        key: &str,
        actor: &str,
        published: &(impl JournalEvent + Sync),
    ) -> Result<(), Error> {
        let history = HistoryId::new(history, key)?;
        let envelope = published.seal(self.clock.now(), actor)?;
        let mut expected = 0;
        for _ in 0..ATTEMPTS_MAX {
            match self.journal.append_to(&history, expected, vec![envelope.clone()]).await {
                Ok(_) => return Ok(()),
                // What is published last counts, whoever published before.
                Err(JournalError::Conflict { actual, .. }) => expected = actual,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Internal { reason: format!("{history} changes too fast") })
    }

    pub(super) fn configuration(&self, name: &ConfigurationName) -> Option<PublishedConfiguration> {
        let all = self.configurations.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&name.key()).cloned()
    }

    pub(super) fn configurations(&self) -> Vec<PublishedConfiguration> {
        let all = self.configurations.read().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
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
            Some(version) => all.get(&(name, version.clone())).cloned(),
            None => all.values().rfind(|module| module.name.to_lowercase() == name).cloned(),
        }
    }

    pub(super) fn modules(&self) -> Vec<PublishedModule> {
        let all = self.modules.read().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }
}
