//! Running compilation jobs.
//!
//! ```text
//!  New ─► Started ─► source, parameters ─► compile ─► contents, durable ─┬─► Completed and every node
//!          ▲                                  │                          │   configuration, in one append
//!          │ the server ended, or             └── what is wrong ─────────┴─► Failed, and nothing else
//!          │ could not reach its disk
//!          └──────── taken up again, at most ATTEMPTS_MAX times
//! ```
//!
//! An end at any point leaves a job that goes on or fails by name, and never some of its node
//! configurations published without the others.

use super::job::{CompilationEvent, CompilationJob};
use super::message::{CompilationMessage, CompilationMessageKind, reason};
use super::{CompilationState, identity};
use crate::Error;
use crate::authoring::{CompileOptions, NodeConfiguration, Source};
use crate::configuration::Schemas;
use crate::protocol::ConfigurationName;
use crate::pull_server::{
    COMPILATION_HISTORY, CompilationName, PublishedConfiguration, PullServer,
};
use jiff::SignedDuration;
use oms_core::journal::{Append, HistoryId, JournalError, JournalEvent as _};
use oms_core::task::blocking;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most node configurations of one compilation job: they are published by one append.
pub const COMPILED_MAX: usize = 9_999;

/// How often a job is begun: a server that it ends takes it up no further time.
pub const ATTEMPTS_MAX: u32 = 5;

/// For how long a job is left to the other server that began with it.
const TURN_MAX: SignedDuration = SignedDuration::from_mins(10);

/// How often publishing is tried again when others published meanwhile.
const PUBLISH_ATTEMPTS_MAX: usize = 8;

/// Who compiles: the server itself.
const ACTOR: &str = "local";

impl PullServer {
    /// Compiles a job and publishes its node configurations, unless it has ended or another server is at
    /// it. Jobs wait for each other.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Disk`], [`Error::Journal`] and [`Error::Key`] if the server cannot do
    /// its own part: then the job goes on later. What is wrong with the job itself is no error here, but
    /// its end.
    pub async fn run_compilation(&self, name: &CompilationName) -> Result<CompilationJob, Error> {
        let _turn = self.compilations.turn.lock().await;
        let job = self.compilations.jobs.find(name).await?;
        if job.state.is_ended() || self.is_at_another(&job) {
            return Ok(Arc::unwrap_or_clone(job));
        }
        let server = self.compilations.server;
        let started = CompilationEvent::Started { server };
        let job = match self.append_to_job(&job, &started).await? {
            Ok(job) => job,
            // Another server was first.
            Err(job) => return Ok(Arc::unwrap_or_clone(job)),
        };
        let outcome = match job.attempts > ATTEMPTS_MAX {
            true => {
                let reason = "servers that compiled it ended, again and again".to_owned();
                Err(Error::Invalid { what: "compilation job", reason })
            }
            false => self.compile_and_publish(&job).await,
        };
        match outcome {
            Ok(job) => Ok(job),
            Err(error) if is_for_later(&error) => Err(error),
            Err(error) => self.fail_compilation(&job, &error).await,
        }
    }

    /// Takes up every job that waits, or that a server left, and answers how many have ended so.
    ///
    /// # Errors
    /// Those of [`PullServer::run_compilation`]; what ended before has ended.
    pub async fn resume_compilations(&self) -> Result<usize, Error> {
        self.compilations.jobs.refresh().await?;
        let mut ended = 0;
        // The oldest first.
        for job in self.compilations.jobs.all().into_iter().rev() {
            if job.state.is_ended() || self.is_at_another(&job) {
                continue;
            }
            match self.run_compilation(&job.name).await {
                Ok(job) => ended += usize::from(job.state.is_ended()),
                // Another server made room.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ended)
    }

    /// Whether another server is at it: one that began before this one started may have ended.
    fn is_at_another(&self, job: &CompilationJob) -> bool {
        let begun = job.started.filter(|_| job.state == CompilationState::Running);
        begun.is_some_and(|begun| {
            job.server != Some(self.compilations.server)
                && begun >= self.compilations.opened
                && self.clock.now().duration_since(begun) < TURN_MAX
        })
    }

    /// Appends to a job. Another server's append that came first is answered as the inner error: the
    /// job as that left it.
    async fn append_to_job(
        &self,
        job: &CompilationJob,
        event: &CompilationEvent,
    ) -> Result<Result<Arc<CompilationJob>, Arc<CompilationJob>>, Error> {
        let jobs = &self.compilations.jobs;
        match jobs.append(&job.name, job.version, event, ACTOR).await {
            Ok(job) => Ok(Ok(job)),
            Err(Error::Journal(JournalError::Conflict { .. })) => {
                jobs.find(&job.name).await.map(Err)
            }
            Err(error) => Err(error),
        }
    }

    async fn fail_compilation(
        &self,
        job: &CompilationJob,
        error: &Error,
    ) -> Result<CompilationJob, Error> {
        let messages = self.keep_messages(CompilationMessage::errors(error)).await?;
        let failed = CompilationEvent::Failed { reason: reason(error), messages };
        let (Ok(job) | Err(job)) = self.append_to_job(job, &failed).await?;
        Ok(Arc::unwrap_or_clone(job))
    }

    async fn keep_messages(
        &self,
        messages: Vec<CompilationMessage>,
    ) -> Result<crate::protocol::Checksum, Error> {
        let content = self.library.content.clone();
        blocking(move || {
            let text = serde_json::to_vec(&messages)
                .map_err(|error| Error::Internal { reason: error.to_string() })?;
            content.put(&text)
        })
        .await
    }

    async fn compile_and_publish(&self, job: &CompilationJob) -> Result<CompilationJob, Error> {
        let parameters = self.parameters_of(job).await?;
        let (content, source) = (self.library.content.clone(), job.source);
        let (name, entropy) = (job.configuration.clone(), Arc::clone(&self.entropy));
        let schemas = Arc::clone(&self.compilations.schemas);
        let compiled = blocking(move || {
            let bytes = content.get(source)?;
            let source = Source::read(name.as_str(), &bytes)?;
            let options = CompileOptions {
                name: Some(name.to_string()),
                parameters: typed(&source, &parameters)?,
                entropy,
                ..CompileOptions::default()
            };
            let schemas = match schemas.get() {
                Some(schemas) => schemas,
                None => {
                    let read = Schemas::standard()?;
                    schemas.get_or_init(|| read)
                }
            };
            let compiled = source.compile(schemas, &options)?;
            check_compiled(&compiled)?;
            for configuration in &compiled {
                content.put(configuration.text.as_bytes())?;
            }
            Ok::<_, Error>(compiled)
        })
        .await?;
        self.publish_compiled(job, &compiled).await
    }

    /// Every value of a job's parameters, as given.
    async fn parameters_of(&self, job: &CompilationJob) -> Result<BTreeMap<String, String>, Error> {
        let mut parameters = job.parameters.clone();
        if job.sealed.is_empty() {
            return Ok(parameters);
        }
        let ring = self.compilations.jobs.place.ring(true).await?;
        for (name, sealed) in &job.sealed {
            let secret = ring.open_sealed(sealed, &identity(job.id, name))?;
            let text = secret.expose_text().map_err(|_bytes| Error::Corrupt {
                what: format!("{COMPILATION_HISTORY}/{}", job.name),
                reason: format!("the value of `{name}` is no text"),
            })?;
            parameters.insert(name.clone(), text.to_owned());
        }
        Ok(parameters)
    }

    /// Publishes everything that was compiled and ends the job, or nothing of it.
    async fn publish_compiled(
        &self,
        job: &CompilationJob,
        compiled: &[NodeConfiguration],
    ) -> Result<CompilationJob, Error> {
        let about = self.source(&job.configuration).await.ok().map(|source| source.about);
        let _with_others = self.rollouts.publishing.read().await;
        for _ in 0..PUBLISH_ATTEMPTS_MAX {
            self.library.refresh().await?;
            let published = self.named(compiled, job.adds_build)?;
            self.check_no_rollout(published.iter().map(|published| &published.name)).await?;
            let mut messages: Vec<_> =
                published.iter().map(CompilationMessage::published).collect();
            if about.as_ref().is_some_and(|about| about.log_progress) {
                let text = format!("{} of {} are compiled", compiled.len(), compiled.len());
                messages.insert(0, CompilationMessage::new(CompilationMessageKind::Progress, text));
            }
            if about.as_ref().is_some_and(|about| about.log_verbose) {
                let text = format!("source has the checksum {}", job.source);
                messages.insert(0, CompilationMessage::new(CompilationMessageKind::Verbose, text));
            }
            let messages = self.keep_messages(messages).await?;
            let node_configurations = published.len() as u64;
            let completed = CompilationEvent::Completed { node_configurations, messages };
            let history = HistoryId::new(COMPILATION_HISTORY, job.name.as_str())?;
            let events = vec![completed.seal(self.clock.now(), ACTOR)?];
            let with = Append { history: history.clone(), expected: job.version, events };
            match self.library.publish_all(&published, ACTOR, with).await {
                Ok(()) => {
                    let ended = self.compilations.jobs.find(&job.name).await?;
                    return Ok(Arc::unwrap_or_clone(ended));
                }
                Err(Error::Journal(JournalError::Conflict { history: met, .. })) => {
                    if met == history {
                        // Another server has taken it up: what it does counts.
                        let other = self.compilations.jobs.find(&job.name).await?;
                        return Ok(Arc::unwrap_or_clone(other));
                    }
                    // Somebody published one of them: look again.
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Internal { reason: "node configurations change too fast".to_owned() })
    }

    /// What is to be published, by the names that it gets.
    fn named(
        &self,
        compiled: &[NodeConfiguration],
        adds_build: bool,
    ) -> Result<Vec<PublishedConfiguration>, Error> {
        let taken: BTreeSet<String> = match adds_build {
            true => self.library.configurations().iter().map(|held| held.name.key()).collect(),
            false => BTreeSet::new(),
        };
        let publish = |configuration: &NodeConfiguration| {
            Ok(PublishedConfiguration {
                name: next_build(&configuration.name, &taken)?,
                checksum: configuration.checksum,
                bytes: configuration.text.len() as u64,
            })
        };
        compiled.iter().map(publish).collect()
    }
}

/// The name of the next build: the name itself, or `Config.Node[2]` and so on if it is taken. See
/// `IncrementNodeConfigurationBuild` of Azure Automation.
pub(super) fn next_build(
    name: &ConfigurationName,
    taken: &BTreeSet<String>,
) -> Result<ConfigurationName, Error> {
    let key = name.key();
    if !taken.contains(&key) {
        return Ok(name.clone());
    }
    let builds = taken.iter().filter_map(|other| {
        other.strip_prefix(&key)?.strip_prefix('[')?.strip_suffix(']')?.parse::<u32>().ok()
    });
    let next = builds.max().unwrap_or(1).max(1).saturating_add(1);
    Ok(format!("{name}[{next}]").parse()?)
}

/// Whether the job's own input has nothing to do with an error, and a repeat may go well.
fn is_for_later(error: &Error) -> bool {
    match error {
        Error::Disk(_) | Error::Journal(_) | Error::Key(_) => true,
        error => error.kind().is_retryable(),
    }
}

fn check_compiled(compiled: &[NodeConfiguration]) -> Result<(), Error> {
    if compiled.len() > COMPILED_MAX {
        let (actual, limit) = (compiled.len(), COMPILED_MAX);
        return Err(Error::TooLarge { what: "node configurations of one job", actual, limit });
    }
    let mut names = BTreeSet::new();
    match compiled.iter().find(|configuration| !names.insert(configuration.name.key())) {
        Some(twice) => {
            let reason = format!("two nodes' are called `{}`", twice.name);
            Err(Error::Invalid { what: "node configurations", reason })
        }
        None => Ok(()),
    }
}

/// Values of parameters by the types that the source declares.
pub(super) fn typed(
    source: &Source,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Value>, Error> {
    let typed = given.iter().map(|(name, text)| {
        let declared = source.parameters().find(|(declared, _)| declared == name);
        let (_, of) = declared.ok_or_else(|| undeclared(source, name))?;
        let value = of.read(text).ok_or_else(|| {
            let reason = format!("the value of `{name}` is no {}", of.as_str());
            Error::Invalid { what: "parameter", reason }
        })?;
        Ok((name.clone(), value))
    });
    typed.collect()
}

fn undeclared(source: &Source, name: &str) -> Error {
    // What PowerShell's clients send beside parameters: a source of ours has its nodes' data itself.
    if name.eq_ignore_ascii_case("ConfigurationData") {
        return Error::Unsupported { what: "compilation parameter", name: name.to_owned() };
    }
    let known = source.parameters().map(|(known, _)| known);
    let reason = format!("`{name}` is not declared{}", crate::configuration::meant(name, known));
    Error::Invalid { what: "parameter", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_numbered_from_two() {
        let check = |taken: &[&str], expect: &str| {
            let taken = taken.iter().map(|name| (*name).to_owned()).collect();
            let name = "Web.A".parse().expect("a name");
            assert_eq!(next_build(&name, &taken).expect("a name").as_str(), expect);
        };
        check(&[], "Web.A");
        check(&["web.a"], "Web.A[2]");
        check(&["web.a", "web.a[2]", "web.a[7]", "web.ab[9]"], "Web.A[8]");
        check(&["web.a", "web.a[x]", "web.a[]"], "Web.A[2]");
    }
}
