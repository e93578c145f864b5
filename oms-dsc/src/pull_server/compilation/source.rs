//! Source documents that are kept: what compilation jobs compile.

use super::history_of;
use crate::Error;
use crate::protocol::{Checksum, ConfigurationName};
use jiff::Timestamp;
use oms_core::Clock;
use oms_core::journal::{
    Event, Head, HistoryId, Journal, JournalError, JournalEvent as _, JournalExt, READ_MAX,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Mutex;

/// The kind of a source's history; its key is the configuration's name in lower case.
pub const SOURCE_HISTORY: &str = "dsc-source";

/// The most source documents of one server.
pub const SOURCES_MAX: usize = 10_000;

/// The most tags of one source.
pub const SOURCE_TAGS_MAX: usize = 50;

/// The longest description, location, or tag with its value, in bytes.
pub const SOURCE_TEXT_BYTES_MAX: usize = 1_024;

/// How often a change is tried again when another process changed the same source first.
const ATTEMPTS_MAX: usize = 8;

/// What is said of a source document beside its text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceAbout {
    /// What an operator says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where its account is said to be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Names and values that an operator gave it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Whether jobs are to say more than usual.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub log_verbose: bool,
    /// Whether jobs are to say how far they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub log_progress: bool,
}

impl SourceAbout {
    fn check(&self) -> Result<(), Error> {
        let limit = SOURCE_TEXT_BYTES_MAX;
        let tags = self.tags.iter().map(|(name, value)| name.len() + value.len());
        let texts = [self.description.len(), self.location.len()];
        if let Some(actual) = texts.into_iter().chain(tags).find(|len| *len > limit) {
            return Err(Error::TooLarge { what: "text about a configuration", actual, limit });
        }
        if self.tags.len() > SOURCE_TAGS_MAX {
            let (actual, limit) = (self.tags.len(), SOURCE_TAGS_MAX);
            return Err(Error::TooLarge { what: "tags", actual, limit });
        }
        Ok(())
    }
}

/// What can happen to a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SourceEvent {
    /// It was put, perhaps in place of what it was.
    Put {
        /// The configuration that it is of.
        name: ConfigurationName,
        /// Of its bytes, which are kept by it.
        checksum: Checksum,
        /// How many they are.
        bytes: u64,
        /// What is said of it.
        about: SourceAbout,
    },
    /// It was taken away. What was compiled of it stays published.
    Removed,
}

oms_core::journal_event!(SourceEvent, format 1, whole, {
    Self::Put { .. } => "dsc-source-put",
    Self::Removed => "dsc-source-removed",
});

/// A source document that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigurationSource {
    /// The configuration that it is of.
    pub name: ConfigurationName,
    /// Of its bytes: [`PullServer::content`](super::super::PullServer::content) answers them.
    pub checksum: Checksum,
    /// How many they are.
    pub bytes: u64,
    /// What is said of it.
    pub about: SourceAbout,
    /// When it was put first.
    pub created: Timestamp,
    /// When it was put last.
    pub modified: Timestamp,
    /// How many events its history has: another number is another version.
    pub version: u64,
}

/// A source as its history has it; none after it was taken away.
#[derive(Clone, Debug)]
struct Known {
    version: u64,
    source: Option<Arc<ConfigurationSource>>,
}

/// Every source of one server.
#[derive(Debug)]
pub(super) struct Sources {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    known: RwLock<BTreeMap<String, Known>>,
    changing: Mutex<()>,
}

impl Sources {
    pub(super) async fn open(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let (known, changing) = (RwLock::default(), Mutex::default());
        let sources = Self { journal, clock, known, changing };
        sources.refresh().await?;
        Ok(sources)
    }

    /// Reads what another server changed.
    pub(super) async fn refresh(&self) -> Result<(), Error> {
        let _turn = self.changing.lock().await;
        for Head { history, version } in self.journal.list_whole(SOURCE_HISTORY).await? {
            if self.version(history.key()) < version {
                self.catch_up(&history).await?;
            }
        }
        Ok(())
    }

    /// How many events are known of one.
    fn version(&self, key: &str) -> u64 {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(key).map_or(0, |known| known.version)
    }

    async fn catch_up(&self, history: &HistoryId) -> Result<(), Error> {
        loop {
            let events = self.journal.read(history, self.version(history.key()), READ_MAX).await?;
            if events.is_empty() {
                return Ok(());
            }
            events.iter().try_for_each(|event| self.apply(event))?;
        }
    }

    fn apply(&self, event: &Event) -> Result<(), Error> {
        let (time, version) = (event.envelope.time, event.version);
        let opened = SourceEvent::open(&event.envelope)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let key = event.history.key().to_owned();
        let before = known.get(&key).and_then(|known| known.source.clone());
        let source = match opened {
            SourceEvent::Put { name, checksum, bytes, about } => {
                let created = before.map_or(time, |before| before.created);
                let modified = time;
                Some(Arc::new(ConfigurationSource {
                    name,
                    checksum,
                    bytes,
                    about,
                    created,
                    modified,
                    version,
                }))
            }
            SourceEvent::Removed => None,
        };
        known.insert(key, Known { version, source });
        Ok(())
    }

    fn known(&self, name: &ConfigurationName) -> Option<Arc<ConfigurationSource>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&name.key()).and_then(|known| known.source.clone())
    }

    /// One of them, as the journal has it now.
    pub(super) async fn find(
        &self,
        name: &ConfigurationName,
    ) -> Result<Arc<ConfigurationSource>, Error> {
        let _turn = self.changing.lock().await;
        self.catch_up(&history_of(SOURCE_HISTORY, &name.key())?).await?;
        self.known(name).ok_or_else(|| not_found(name))
    }

    /// Those that are known, in order of name.
    pub(super) fn all(&self) -> Vec<Arc<ConfigurationSource>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().filter_map(|known| known.source.clone()).collect()
    }

    /// Appends what `decide` makes of a source as it is, and answers it and whether it is new.
    pub(super) async fn change(
        &self,
        name: &ConfigurationName,
        actor: &str,
        decide: impl Fn(Option<&ConfigurationSource>) -> Result<Option<SourceEvent>, Error> + Send,
    ) -> Result<(Option<Arc<ConfigurationSource>>, bool), Error> {
        let history = history_of(SOURCE_HISTORY, &name.key())?;
        let _turn = self.changing.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            self.catch_up(&history).await?;
            let before = self.known(name);
            let Some(event) = decide(before.as_deref())? else { return Ok((before, false)) };
            if let SourceEvent::Put { about, .. } = &event {
                about.check()?;
                if before.is_none() && self.all().len() >= SOURCES_MAX {
                    let (what, limit) = ("configurations", SOURCES_MAX);
                    return Err(Error::LimitExceeded { what, limit });
                }
            }
            let envelope = event.seal(self.clock.now(), actor)?;
            let expected = self.version(history.key());
            match self.journal.append_to(&history, expected, vec![envelope]).await {
                Ok(_) => {
                    self.catch_up(&history).await?;
                    return Ok((self.known(name), before.is_none()));
                }
                // Another server was first: read what it did and decide anew.
                Err(JournalError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Internal { reason: format!("{history} changes too fast") })
    }
}

pub(super) fn not_found(name: &ConfigurationName) -> Error {
    Error::NotFound { what: "configuration", name: name.to_string() }
}
