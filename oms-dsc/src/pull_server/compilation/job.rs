//! Compilation jobs in the journal: one history a job, kept in memory as what its events made of it.

use super::history_of;
use super::state::{CompilationState, CompilationTransition};
use crate::Error;
use crate::protocol::{Checksum, ConfigurationName};
use crate::pull_server::CompilationName;
use crate::pull_server::registration_key::KeyRingPlace;
use jiff::Timestamp;
use oms_core::journal::{Event, Head, HistoryId, Journal, JournalEvent as _, JournalExt};
use oms_core::secret::Sealed;
use oms_core::{Clock, Lifecycle as _};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use uuid::Uuid;

/// The kind of a compilation job's history; its key is the job's name.
pub const COMPILATION_HISTORY: &str = "dsc-compilation-job";

/// The most compilation jobs that are kept; beyond, the oldest that have ended make way.
pub const COMPILATIONS_MAX: usize = 1_000;

/// The most compilation jobs that have not ended.
pub const COMPILATIONS_PENDING_MAX: usize = 100;

oms_core::uuid_id! {
    /// The identifier of a compilation job (`jobId`).
    CompilationId, "compilation job id"
}

/// What can happen to a compilation job, with its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CompilationEvent {
    /// It was asked for.
    Created {
        /// Its identifier.
        id: CompilationId,
        /// Of which configuration.
        configuration: ConfigurationName,
        /// Which version of its source.
        source: Checksum,
        /// Values of its parameters as they were given.
        parameters: BTreeMap<String, String>,
        /// Those of secure ones, sealed for the job.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        sealed: BTreeMap<String, Sealed>,
        /// Whether a node configuration that is published already gets a further build, `Config.Node[2]`,
        /// and stays as it is.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        adds_build: bool,
    },
    /// A server began with it, perhaps again.
    Started {
        /// Which, by an identifier that it draws when it starts.
        server: Uuid,
    },
    /// Every node configuration is published, by the same append.
    Completed {
        /// How many they are.
        node_configurations: u64,
        /// What it said, which is content.
        messages: Checksum,
    },
    /// It cannot be compiled or published.
    Failed {
        /// Why, in short.
        reason: String,
        /// What it said, which is content.
        messages: Checksum,
    },
}

oms_core::journal_event!(CompilationEvent, format 1, whole, {
    Self::Created { .. } => "dsc-compilation-created",
    Self::Started { .. } => "dsc-compilation-started",
    Self::Completed { .. } => "dsc-compilation-completed",
    Self::Failed { .. } => "dsc-compilation-failed",
});

impl CompilationEvent {
    const fn transition(&self) -> CompilationTransition {
        match self {
            Self::Created { .. } => CompilationTransition::Create,
            Self::Started { .. } => CompilationTransition::Start,
            Self::Completed { .. } => CompilationTransition::Complete,
            Self::Failed { .. } => CompilationTransition::Fail,
        }
    }
}

/// A compilation job, as its events made it.
#[derive(Clone, Debug, PartialEq)]
pub struct CompilationJob {
    /// Its name.
    pub name: CompilationName,
    /// Its identifier.
    pub id: CompilationId,
    /// Where it stands.
    pub state: CompilationState,
    /// Of which configuration.
    pub configuration: ConfigurationName,
    /// Which version of its source.
    pub source: Checksum,
    /// Values of its parameters as they were given, without those of secure ones.
    pub parameters: BTreeMap<String, String>,
    pub(super) sealed: BTreeMap<String, Sealed>,
    /// Whether a node configuration that is published already gets a further build.
    pub adds_build: bool,
    /// Who asked for it.
    pub started_by: String,
    /// When it was asked for.
    pub created: Timestamp,
    /// When a server began with it last.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How often a server began with it.
    pub attempts: u32,
    pub(super) server: Option<Uuid>,
    /// How many node configurations it published.
    pub node_configurations: u64,
    /// Why it failed.
    pub reason: Option<String>,
    pub(super) messages: Option<Checksum>,
    pub(super) version: u64,
}

impl CompilationJob {
    /// When the last of its events was.
    #[must_use]
    pub fn modified(&self) -> Timestamp {
        self.ended.or(self.started).unwrap_or(self.created)
    }

    /// The names of its secure parameters, whose values are not told.
    pub fn secure_parameters(&self) -> impl Iterator<Item = &str> {
        self.sealed.keys().map(String::as_str)
    }

    /// The job after one more event; `before` is none for the first.
    fn after(before: Option<Self>, event: &Event) -> Result<Self, Error> {
        let opened = CompilationEvent::open(&event.envelope)?;
        let corrupt = |reason: String| Error::Corrupt {
            what: event.history.to_string(),
            reason: format!("event {}: {reason}", event.version),
        };
        let state = before.as_ref().map_or(CompilationState::Absent, |before| before.state);
        let state =
            state.next(opened.transition()).map_err(|illegal| corrupt(illegal.to_string()))?;
        let mut job = match (before, opened) {
            (None, created) => Self::begun(event, created)?,
            (Some(job), event_of_it) => job.with(event.envelope.time, event_of_it),
        };
        (job.state, job.version) = (state, event.version);
        Ok(job)
    }

    fn begun(event: &Event, opened: CompilationEvent) -> Result<Self, Error> {
        let CompilationEvent::Created { id, configuration, source, parameters, sealed, adds_build } =
            opened
        else {
            let reason = "it does not begin with its creation".to_owned();
            return Err(Error::Corrupt { what: event.history.to_string(), reason });
        };
        Ok(Self {
            name: event.history.key().parse()?,
            id,
            state: CompilationState::New,
            configuration,
            source,
            parameters,
            sealed,
            adds_build,
            started_by: event.envelope.actor.clone(),
            created: event.envelope.time,
            started: None,
            ended: None,
            attempts: 0,
            server: None,
            node_configurations: 0,
            reason: None,
            messages: None,
            version: 0,
        })
    }

    fn with(mut self, time: Timestamp, event: CompilationEvent) -> Self {
        match event {
            // The state table lets no second creation in.
            CompilationEvent::Created { .. } => {}
            CompilationEvent::Started { server } => {
                self.started = Some(time);
                self.server = Some(server);
                self.attempts = self.attempts.saturating_add(1);
            }
            CompilationEvent::Completed { node_configurations, messages } => {
                self.ended = Some(time);
                self.node_configurations = node_configurations;
                self.messages = Some(messages);
            }
            CompilationEvent::Failed { reason, messages } => {
                self.ended = Some(time);
                self.reason = Some(reason);
                self.messages = Some(messages);
            }
        }
        self
    }
}

/// Every compilation job of one server.
#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    /// What sealed values of secure parameters.
    pub(super) place: Arc<KeyRingPlace>,
    known: RwLock<BTreeMap<String, Arc<CompilationJob>>>,
}

impl Jobs {
    pub(super) async fn open(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        place: Arc<KeyRingPlace>,
    ) -> Result<Self, Error> {
        let jobs = Self { journal, clock, place, known: RwLock::default() };
        jobs.refresh().await?;
        if jobs.all().iter().any(|job| !job.sealed.is_empty()) {
            // A key ring that is missing is an error now, and never a new one.
            jobs.place.ring(true).await?;
        }
        Ok(jobs)
    }

    /// Reads what another server did.
    pub(super) async fn refresh(&self) -> Result<(), Error> {
        let heads = self.journal.list_whole(COMPILATION_HISTORY).await?;
        let there: BTreeSet<&str> = heads.iter().map(|head| head.history.key()).collect();
        let known = {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.retain(|key, _| there.contains(key.as_str()));
            known.clone()
        };
        for Head { history, version } in &heads {
            if known.get(history.key()).is_none_or(|job| job.version != *version) {
                self.read(history).await?;
            }
        }
        Ok(())
    }

    /// Reads a job from its beginning: a history that was deleted may have begun anew.
    async fn read(&self, history: &HistoryId) -> Result<Option<Arc<CompilationJob>>, Error> {
        let mut job = None;
        for event in self.journal.read_whole(history).await? {
            job = Some(CompilationJob::after(job, &event)?);
        }
        let job = job.map(Arc::new);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match &job {
            Some(job) => drop(known.insert(history.key().to_owned(), Arc::clone(job))),
            None => drop(known.remove(history.key())),
        }
        Ok(job)
    }

    /// A job as the journal has it now.
    pub(super) async fn find(&self, name: &CompilationName) -> Result<Arc<CompilationJob>, Error> {
        let found = self.read(&history_of(COMPILATION_HISTORY, name.as_str())?).await?;
        found.ok_or_else(|| not_found(name.as_str()))
    }

    /// Those that are known, newest first.
    pub(super) fn all(&self) -> Vec<Arc<CompilationJob>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Arc<CompilationJob>> = known.values().map(Arc::clone).collect();
        all.sort_by(|one, other| (other.created, &one.name).cmp(&(one.created, &other.name)));
        all
    }

    /// Makes room for one more job: the oldest that have ended go.
    pub(super) async fn make_room(&self) -> Result<(), Error> {
        let all = self.all();
        if all.iter().filter(|job| !job.state.is_ended()).count() >= COMPILATIONS_PENDING_MAX {
            let limit = COMPILATIONS_PENDING_MAX;
            return Err(Error::LimitExceeded { what: "compilation jobs that wait", limit });
        }
        let excess = (all.len() + 1).saturating_sub(COMPILATIONS_MAX);
        for job in all.iter().rev().filter(|job| job.state.is_ended()).take(excess) {
            let history = history_of(COMPILATION_HISTORY, job.name.as_str())?;
            match self.journal.delete(&history, job.version).await {
                // Another server was first.
                Ok(()) | Err(oms_core::journal::JournalError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.read(&history).await?;
        }
        Ok(())
    }

    /// Appends to a job as it was read, and answers it as it is then.
    pub(super) async fn append(
        &self,
        name: &CompilationName,
        expected: u64,
        event: &CompilationEvent,
        actor: &str,
    ) -> Result<Arc<CompilationJob>, Error> {
        let history = history_of(COMPILATION_HISTORY, name.as_str())?;
        let envelope = event.seal(self.clock.now(), actor)?;
        self.journal.append_to(&history, expected, vec![envelope]).await?;
        self.find(name).await
    }
}

pub(super) fn not_found(name: &str) -> Error {
    Error::NotFound { what: "compilation job", name: name.to_owned() }
}
