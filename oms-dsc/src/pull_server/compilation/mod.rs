//! Configurations that are compiled on the server: source documents, and the jobs that make node
//! configurations of them.
//!
//! ```text
//!  put_source ──► content by checksum ──► journal (dsc-source)
//!                        │
//!  begin_compilation ────┴─► journal (dsc-compilation-job): New ─► Running ─► Completed, Failed
//!                                                                     │           │
//!                                              authoring::Source ◄────┘           └─ in one append with
//!                                                                                    dsc-configuration
//! ```

mod job;

mod message;

mod run;

mod source;

mod state;

pub use job::{
    COMPILATION_HISTORY, COMPILATIONS_MAX, COMPILATIONS_PENDING_MAX, CompilationEvent,
    CompilationId, CompilationJob,
};
pub use message::{CompilationMessage, CompilationMessageKind};
pub use run::{ATTEMPTS_MAX, COMPILED_MAX};
pub use source::{
    ConfigurationSource, SOURCE_HISTORY, SOURCE_TAGS_MAX, SOURCE_TEXT_BYTES_MAX, SOURCES_MAX,
    SourceAbout, SourceEvent,
};
pub use state::{CompilationState, CompilationTransition};

use super::registration_key::KeyRingPlace;
use super::{CompilationName, PublishedConfiguration, PullServer};
use crate::Error;
use crate::authoring::{SOURCE_BYTES_MAX, Source};
use crate::configuration::Schemas;
use crate::protocol::ConfigurationName;
use bytes::Bytes;
use jiff::Timestamp;
use job::Jobs;
use oms_core::journal::{HistoryId, Journal, JournalError};
use oms_core::resource::{ETag, Preconditions};
use oms_core::task::blocking;
use oms_core::{Clock, Entropy, EntropyExt, Secret};
use source::Sources;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use tokio::sync::Mutex;
use uuid::Uuid;

/// The most bytes of the names and values of one job's parameters.
pub const COMPILATION_PARAMETERS_BYTES_MAX: usize = 256 << 10;

/// The longest name of a configuration whose source is kept: a node's name comes behind it.
const NAME_BYTES_MAX: usize = 128;

/// Why a source was not changed: what is asked of its version is not so.
pub(crate) const CONDITION: &str = "If-Match or If-None-Match does not hold";

/// A compilation job to begin.
#[derive(Clone, Debug)]
pub struct NewCompilation {
    /// Its name.
    pub name: CompilationName,
    /// The configuration whose source is compiled, as it is now.
    pub configuration: ConfigurationName,
    /// Values of its parameters, each as text: JSON, but that a string may go without its quotes. Those of
    /// secure ones are kept sealed.
    pub parameters: BTreeMap<String, String>,
    /// Whether a node configuration that is published already gets a further build, `Config.Node[2]`, and
    /// stays as it is.
    pub adds_build: bool,
}

/// Sources and jobs of one server.
#[derive(Debug)]
pub(super) struct Compilations {
    sources: Sources,
    jobs: Jobs,
    /// Who this server is to the others that share its journal.
    server: Uuid,
    opened: Timestamp,
    /// Whose turn it is to compile.
    turn: Mutex<()>,
    /// Whose turn it is to make room for a job.
    beginning: Mutex<()>,
    /// The schemas that sources are compiled against, read when the first job is.
    schemas: Arc<OnceLock<Schemas>>,
}

impl Compilations {
    pub(super) async fn open(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
        place: Arc<KeyRingPlace>,
    ) -> Result<Self, Error> {
        let sources = Sources::open(Arc::clone(&journal), Arc::clone(&clock)).await?;
        let (server, opened) = (entropy.uuid(), clock.now());
        let jobs = Jobs::open(journal, clock, place).await?;
        let (turn, beginning, schemas) = (Mutex::default(), Mutex::default(), Arc::default());
        Ok(Self { sources, jobs, server, opened, turn, beginning, schemas })
    }

    /// Reads what another server did.
    pub(super) async fn refresh(&self) -> Result<(), Error> {
        self.sources.refresh().await?;
        self.jobs.refresh().await
    }
}

impl PullServer {
    /// Keeps a source document of a configuration, in place of the one before, and answers whether there
    /// was none. It is durable when this returns; nothing is compiled.
    ///
    /// # Errors
    /// [`Error::Document`] with every diagnostic; [`Error::Invalid`] if it says that it is of another
    /// configuration; [`Error::Unsupported`] for a script of PowerShell; [`Error::IllegalState`] if a
    /// condition does not hold; [`Error::TooLarge`], [`Error::LimitExceeded`], [`Error::Disk`],
    /// [`Error::Journal`].
    pub async fn put_source(
        &self,
        name: &ConfigurationName,
        text: &[u8],
        about: &SourceAbout,
        conditions: &Preconditions,
        actor: &str,
    ) -> Result<(ConfigurationSource, bool), Error> {
        check_source_name(name)?;
        if text.len() > SOURCE_BYTES_MAX {
            let (actual, limit) = (text.len(), SOURCE_BYTES_MAX);
            return Err(Error::TooLarge { what: "configuration", actual, limit });
        }
        let (label, text) = (name.clone(), Bytes::copy_from_slice(text));
        let (content, bytes) = (self.library.content.clone(), text.len() as u64);
        let checksum = blocking(move || {
            check_source(&label, &text)?;
            content.put(&text)
        })
        .await?;
        let decide = |before: Option<&ConfigurationSource>| {
            check_conditions(before, conditions)?;
            let is_same =
                before.is_some_and(|before| before.checksum == checksum && before.about == *about);
            // The spelling of whoever put it first stays.
            let name = before.map_or(name, |before| &before.name).clone();
            let about = about.clone();
            Ok((!is_same).then_some(SourceEvent::Put { name, checksum, bytes, about }))
        };
        let (kept, is_new) = self.compilations.sources.change(name, actor, decide).await?;
        let kept = kept.ok_or_else(|| source::not_found(name))?;
        Ok((Arc::unwrap_or_clone(kept), is_new))
    }

    /// Changes what is said of a source document, and not its text.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IllegalState`] if a condition does not hold, [`Error::TooLarge`],
    /// [`Error::Journal`].
    pub async fn describe_source(
        &self,
        name: &ConfigurationName,
        about: &SourceAbout,
        conditions: &Preconditions,
        actor: &str,
    ) -> Result<ConfigurationSource, Error> {
        let decide = |before: Option<&ConfigurationSource>| {
            let before = before.ok_or_else(|| source::not_found(name))?;
            check_conditions(Some(before), conditions)?;
            let ConfigurationSource { name, checksum, bytes, .. } = before.clone();
            let about = about.clone();
            let is_new = before.about != about;
            Ok(is_new.then_some(SourceEvent::Put { name, checksum, bytes, about }))
        };
        let (kept, _is_new) = self.compilations.sources.change(name, actor, decide).await?;
        kept.map(Arc::unwrap_or_clone).ok_or_else(|| source::not_found(name))
    }

    /// Takes a source document away. What was compiled of it stays published.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IllegalState`] if a condition does not hold, [`Error::Journal`].
    pub async fn remove_source(
        &self,
        name: &ConfigurationName,
        conditions: &Preconditions,
        actor: &str,
    ) -> Result<(), Error> {
        let decide = |before: Option<&ConfigurationSource>| {
            let before = before.ok_or_else(|| source::not_found(name))?;
            check_conditions(Some(before), conditions)?;
            Ok(Some(SourceEvent::Removed))
        };
        self.compilations.sources.change(name, actor, decide).await.map(drop)
    }

    /// Every source document that is kept, in order of name.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn sources(&self) -> Result<Vec<ConfigurationSource>, Error> {
        self.compilations.sources.refresh().await?;
        Ok(self.compilations.sources.all().into_iter().map(Arc::unwrap_or_clone).collect())
    }

    /// The source document of one configuration.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`].
    pub async fn source(&self, name: &ConfigurationName) -> Result<ConfigurationSource, Error> {
        self.compilations.sources.find(name).await.map(Arc::unwrap_or_clone)
    }

    /// Begins a compilation job of a configuration's source as it is now. The job is durable when this
    /// returns; [`PullServer::run_compilation`] compiles, and [`PullServer::maintain`] whatever waits.
    ///
    /// # Errors
    /// [`Error::NotFound`] without a source; [`Error::AlreadyExists`] for a name that is taken;
    /// [`Error::Invalid`] for a parameter that is not declared or a value that is not of its type;
    /// [`Error::TooLarge`]; [`Error::LimitExceeded`] beyond [`COMPILATIONS_PENDING_MAX`]; [`Error::Disk`],
    /// [`Error::Key`], [`Error::Journal`].
    pub async fn begin_compilation(
        &self,
        new: NewCompilation,
        actor: &str,
    ) -> Result<CompilationJob, Error> {
        let NewCompilation { name, configuration, parameters, adds_build } = new;
        let actual = parameters.iter().map(|(name, value)| name.len() + value.len()).sum();
        if actual > COMPILATION_PARAMETERS_BYTES_MAX {
            let limit = COMPILATION_PARAMETERS_BYTES_MAX;
            return Err(Error::TooLarge { what: "parameters of a job", actual, limit });
        }
        let kept = self.compilations.sources.find(&configuration).await?;
        let (content, checksum, label) =
            (self.library.content.clone(), kept.checksum, kept.name.clone());
        let given = parameters.clone();
        let secure = blocking(move || {
            let source = Source::read(label.as_str(), &content.get(checksum)?)?;
            run::typed(&source, &given)?;
            let secure = source.parameters().filter(|(_, of)| of.is_secure());
            Ok::<Vec<String>, Error>(secure.map(|(name, _)| name.to_owned()).collect())
        })
        .await?;
        let id = name.as_str().parse();
        let id = id.unwrap_or_else(|_no_uuid| CompilationId::draw(&*self.entropy));
        let (mut parameters, mut sealed) = (parameters, BTreeMap::new());
        for parameter in secure {
            let Some(value) = parameters.remove(&parameter) else { continue };
            let ring = self.compilations.jobs.place.ring(false).await?;
            let value = ring.seal(&Secret::from(value.as_str()), &identity(id, &parameter))?;
            sealed.insert(parameter, value);
        }
        let (configuration, source) = (kept.name.clone(), kept.checksum);
        let created =
            CompilationEvent::Created { id, configuration, source, parameters, sealed, adds_build };
        let _turn = self.compilations.beginning.lock().await;
        self.compilations.jobs.refresh().await?;
        self.compilations.jobs.make_room().await?;
        match self.compilations.jobs.append(&name, 0, &created, actor).await {
            Ok(job) => Ok(Arc::unwrap_or_clone(job)),
            Err(Error::Journal(JournalError::Conflict { .. })) => {
                Err(Error::AlreadyExists { what: "compilation job", name: name.to_string() })
            }
            Err(error) => Err(error),
        }
    }

    /// Every compilation job that is kept, newest first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn compilations(&self) -> Result<Vec<CompilationJob>, Error> {
        self.compilations.jobs.refresh().await?;
        Ok(self.compilations.jobs.all().into_iter().map(Arc::unwrap_or_clone).collect())
    }

    /// One compilation job.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`].
    pub async fn compilation(&self, name: &CompilationName) -> Result<CompilationJob, Error> {
        self.compilations.jobs.find(name).await.map(Arc::unwrap_or_clone)
    }

    /// One compilation job by its identifier.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`].
    pub async fn compilation_by_id(&self, id: CompilationId) -> Result<CompilationJob, Error> {
        let found = self.compilations().await?.into_iter().find(|job| job.id == id);
        found.ok_or_else(|| job::not_found(&id.to_string()))
    }

    /// What a job said; nothing before it has ended.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Disk`].
    pub async fn compilation_messages(
        &self,
        job: &CompilationJob,
    ) -> Result<Vec<CompilationMessage>, Error> {
        let Some(messages) = job.messages else { return Ok(Vec::new()) };
        let text = self.content(messages).await?;
        serde_json::from_slice(&text).map_err(|error| Error::Corrupt {
            what: messages.to_string(),
            reason: error.to_string(),
        })
    }

    /// Publishes a document under a name, or under that of its next build if `adds_build`.
    ///
    /// # Errors
    /// Those of [`PullServer::publish`].
    pub async fn publish_build(
        &self,
        name: &str,
        document: &[u8],
        adds_build: bool,
    ) -> Result<PublishedConfiguration, Error> {
        if !adds_build {
            return self.publish(name, document).await;
        }
        self.library.refresh().await?;
        let taken = self.library.configurations().iter().map(|held| held.name.key()).collect();
        let name = run::next_build(&name.parse()?, &taken)?;
        self.publish(name.as_str(), document).await
    }

    /// Takes a published configuration away: nodes that should have it keep what they run, and are told
    /// to ask again.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::IllegalState`] while a roll-out of it runs or is stopped;
    /// [`Error::Journal`].
    pub async fn unpublish(&self, name: &ConfigurationName, actor: &str) -> Result<(), Error> {
        let _with_others = self.rollouts.publishing.read().await;
        self.check_no_rollout([name]).await?;
        self.library.remove(name, actor).await
    }

    /// When a published configuration was published first and last; none if it is not.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn published_times(
        &self,
        name: &ConfigurationName,
    ) -> Result<Option<(Timestamp, Timestamp)>, Error> {
        self.library.times(name).await
    }
}

fn history_of(kind: &str, key: &str) -> Result<HistoryId, Error> {
    Ok(HistoryId::new(kind, key)?)
}

/// What a value of a secure parameter is sealed for.
fn identity(id: CompilationId, parameter: &str) -> String {
    format!("{COMPILATION_HISTORY}/{id}/{parameter}")
}

fn check_conditions(
    before: Option<&ConfigurationSource>,
    conditions: &Preconditions,
) -> Result<(), Error> {
    let tag = before.map(|before| ETag::of(before.version));
    if conditions.hold(tag.as_ref()) {
        return Ok(());
    }
    let name = before.map(|before| before.name.to_string()).unwrap_or_default();
    Err(Error::IllegalState { what: "configuration", name, reason: CONDITION })
}

fn check_source_name(name: &ConfigurationName) -> Result<(), Error> {
    let actual = name.as_str().len();
    if actual > NAME_BYTES_MAX {
        let limit = NAME_BYTES_MAX;
        return Err(Error::TooLarge { what: "name of a configuration", actual, limit });
    }
    // In `Config.Node` the first dot ends it.
    if name.as_str().contains('.') {
        let reason = format!("`{name}` has a dot, which would end it in `Config.Node`");
        return Err(Error::Invalid { what: "configuration name", reason });
    }
    Ok(())
}

/// Whether a document can be compiled, and is of that configuration.
fn check_source(name: &ConfigurationName, text: &[u8]) -> Result<(), Error> {
    if is_powershell(text) {
        let language = "a script of PowerShell: this server compiles YAML and JSON".to_owned();
        return Err(Error::Unsupported { what: "language of a configuration", name: language });
    }
    let source = Source::read(name.as_str(), text)?;
    if source.is_metaconfiguration() {
        let reason = "it is one of metaconfigurations, which are not published".to_owned();
        return Err(Error::Invalid { what: "configuration", reason });
    }
    match source.configuration() {
        Some(own) if own.to_lowercase() != name.key() => {
            let reason = format!("it says that it is of `{own}`, and is put as `{name}`");
            Err(Error::Invalid { what: "configuration", reason })
        }
        _ => Ok(()),
    }
}

/// Whether a text begins like `Configuration Name {`, behind comments and attributes.
fn is_powershell(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text.get(..4_096).unwrap_or(text));
    let mut words = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut words = words.by_ref().flat_map(str::split_whitespace);
    let is_keyword = words.next().is_some_and(|word| word.eq_ignore_ascii_case("configuration"));
    is_keyword && words.next().is_some_and(|word| !word.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_told_from_documents() {
        for (text, expect) in [
            ("Configuration Web { Node a { } }", true),
            ("# a script\n\nconfiguration Web\n{", true),
            ("configuration: Web\nresources: []", false),
            ("configuration : Web", false),
            ("{\"configuration\": \"Web\"}", false),
            ("", false),
            ("configuration", false),
        ] {
            assert_eq!(is_powershell(text.as_bytes()), expect, "{text}");
        }
    }
}
