//! The pull server: nodes register, ask what to do, fetch, and report.
//!
//! ```text
//!  PUT Nodes ──────► registration, its key ──► journal (dsc-node, dsc-registration-key)
//!  GetDscAction ───► target: rules, roll-outs: what it gets ◄── library ◄── publish
//!  Configuration, ─► content by checksum                        │
//!  Module                                                       └── journal (dsc-configuration,
//!  SendReport ─────► report store (synced) ──► journal (dsc-node)          dsc-module)
//!                                          └─► roll-outs: which rings passed, or stopped
//! ```

mod assignment;

mod builder;

mod clone;

mod compilation;

mod content;

mod dependency;

mod difference;

mod expression;

mod name;

mod node;

mod registration;

mod registration_key;

mod registry;

mod rollout;

mod rotation;

mod sighting;

mod signature;

mod rule;

mod state;

mod target;

pub use builder::{PullServerBuilder, PullServerSettings};
#[cfg(feature = "http")]
pub(crate) use compilation::CONDITION;
pub use compilation::{
    ATTEMPTS_MAX, COMPILATION_HISTORY, COMPILATION_PARAMETERS_BYTES_MAX, COMPILATIONS_MAX,
    COMPILATIONS_PENDING_MAX, COMPILED_MAX, CompilationEvent, CompilationId, CompilationJob,
    CompilationMessage, CompilationMessageKind, CompilationState, CompilationTransition,
    ConfigurationSource, NewCompilation, SOURCE_HISTORY, SOURCE_TAGS_MAX, SOURCE_TEXT_BYTES_MAX,
    SOURCES_MAX, SourceAbout, SourceEvent,
};
pub use content::{
    CONFIGURATION_BYTES_MAX, CONFIGURATION_HISTORY, ConfigurationEvent, MODULE_HISTORY,
    PublishedConfiguration, PublishedModule,
};
pub use difference::ConfigurationDifference;
pub use expression::{NODE_EXPRESSION_BYTES_MAX, NodeExpression};
pub use name::{CompilationName, RingName, RuleName, TagName};
pub use node::{NODE_HISTORY, NODES_MAX, Node, NodeEvent};
pub use registration::{CONFIGURATION_NAMES_MAX, REGISTRATION_BYTES_MAX};
pub use registration_key::{
    AccountKeyName, AccountKeys, ConfigurationPattern, KEY_DESCRIPTION_BYTES_MAX,
    NewRegistrationKey, REGISTRATION_KEY_BYTES_MAX, REGISTRATION_KEY_BYTES_MIN,
    REGISTRATION_KEY_HISTORY, REGISTRATION_KEYS_MAX, RegistrationKey, RegistrationKeyEvent,
    RegistrationKeyId, RegistrationKeyState, RegistrationKeyTransition, RevokeOptions,
    RevokeReport, SCOPE_PATTERNS_MAX,
};
pub use rollout::{
    FailureReason, RINGS_MAX, ROLLOUT_HISTORY, ROLLOUT_PLAN_BYTES_MAX, ROLLOUTS_MAX, Ring,
    RingStatus, RolloutEvent, RolloutFailure, RolloutPlan, RolloutState, RolloutStatus,
    RolloutTransition,
};
pub use rule::{
    Assignment, AssignmentRule, AssignmentSource, RULE_HISTORY, RULES_MAX, RuleEvent,
    TAG_VALUE_BYTES_MAX, TAGS_MAX,
};
pub use sighting::{CloneSign, CloneSuspicion};
pub use signature::{SIGNATURE_HISTORY, SignatureUsed};
pub use state::{NodeState, NodeTransition};

use crate::Error;
use crate::configuration::Configuration;
use crate::module::{self, ModuleVersion};
use crate::protocol::{
    AgentId, Checksum, ConfigurationName, DscAction, JobId, Operation, Reply, Request,
    StatusReport, decode, strict, v1,
};
use crate::report::{self, ReportStore, ReportSummary};
use bytes::Bytes;
use compilation::Compilations;
use content::Library;
use jiff::SignedDuration;
use oms_core::clock::Stopwatch;
use oms_core::task::blocking;
use oms_core::{Clock, Entropy, EntropyExt, ErrorKind};
use registration::Registrar;
use registry::Nodes;
use rollout::Rollouts;
use rule::Rules;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tracing::Instrument as _;
use tracing::field::Empty;

/// The most reports that one request lists.
pub const REPORTS_LISTED_MAX: usize = 500;

/// A pull server.
#[derive(Debug)]
pub struct PullServer {
    nodes: Nodes,
    rules: Rules,
    rollouts: Rollouts,
    library: Library,
    compilations: Compilations,
    registrar: Registrar,
    reports: Arc<ReportStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: PullServerSettings,
    /// Whose turn it is to compare documents.
    comparing: Arc<Semaphore>,
}

/// What [`PullServer::maintain`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MaintenanceReport {
    /// Nodes that became unresponsive.
    pub nodes_silent: usize,
    /// Nodes that were taken out because they go with a revoked key.
    pub nodes_removed: usize,
    /// Used signatures that were forgotten, long after they were good.
    pub signatures_dropped: usize,
    /// Files of old reports that were dropped.
    pub report_files_dropped: usize,
    /// Compilation jobs that waited, or that a server had left, and have ended now.
    pub compilations_ended: usize,
}

impl PullServer {
    /// Begins a server that keeps its state in `directory`.
    #[must_use]
    pub fn builder(directory: impl Into<PathBuf>) -> PullServerBuilder {
        PullServerBuilder::new(directory.into())
    }

    /// Publishes a configuration document: nodes of that configuration fetch it when they ask
    /// next. It is durable when this returns. [`PullServer::begin_rollout`] gives it to some first.
    ///
    /// # Errors
    /// [`Error::Document`] with every diagnostic, [`Error::TooLarge`], [`Error::Name`],
    /// [`Error::IllegalState`] while a roll-out of the configuration runs or is stopped,
    /// [`Error::Disk`], [`Error::Journal`].
    pub async fn publish(
        &self,
        name: &str,
        document: &[u8],
    ) -> Result<PublishedConfiguration, Error> {
        let published = self.keep_document(name, document).await?;
        let _with_others = self.rollouts.publishing.read().await;
        self.check_no_rollout([&published.name]).await?;
        self.library.publish(published.clone(), "local").await?;
        Ok(published)
    }

    /// Refuses to go on if a roll-out decides which version of one of them nodes get.
    async fn check_no_rollout<'a>(
        &self,
        names: impl IntoIterator<Item = &'a ConfigurationName>,
    ) -> Result<(), Error> {
        let names: Vec<ConfigurationName> = names.into_iter().cloned().collect();
        self.catch_up_with_rollouts(&names).await?;
        match names.iter().find(|name| self.rollouts.is_active(name)) {
            Some(name) => {
                let (name, reason) = (name.to_string(), "a roll-out of it has not ended");
                Err(Error::IllegalState { what: "configuration", name, reason })
            }
            None => Ok(()),
        }
    }

    /// Checks a document and keeps its bytes, which are durable when this returns.
    async fn keep_document(
        &self,
        name: &str,
        document: &[u8],
    ) -> Result<PublishedConfiguration, Error> {
        let name: ConfigurationName = name.parse()?;
        if document.len() > CONFIGURATION_BYTES_MAX {
            let (actual, limit) = (document.len(), CONFIGURATION_BYTES_MAX);
            return Err(Error::TooLarge { what: "configuration", actual, limit });
        }
        let (label, bytes) = (name.to_string(), Bytes::copy_from_slice(document));
        let (content, len) = (self.library.content.clone(), document.len() as u64);
        let checksum = blocking(move || {
            Configuration::parse(&label, &bytes)?;
            content.put(&bytes)
        })
        .await?;
        Ok(PublishedConfiguration { name, checksum, bytes: len })
    }

    /// Publishes a module package. It is durable when this returns.
    ///
    /// # Errors
    /// Those of [`module::check_package`], [`Error::Disk`], [`Error::Journal`].
    pub async fn publish_module(
        &self,
        name: &str,
        version: ModuleVersion,
        package: &[u8],
    ) -> Result<PublishedModule, Error> {
        let (content, bytes) = (self.library.content.clone(), Bytes::copy_from_slice(package));
        let module = name.to_owned();
        let checksum = blocking(move || {
            module::check_package(&module, &bytes)?;
            content.put(&bytes)
        })
        .await?;
        let bytes = package.len() as u64;
        let published = PublishedModule { name: name.to_owned(), version, checksum, bytes };
        self.library.publish_module(published.clone(), "local").await?;
        Ok(published)
    }

    /// Gives a node configurations, in place of what rules give it and of what it registered for; an
    /// empty list gives those back.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Name`], [`Error::TooLarge`], [`Error::Journal`].
    pub async fn assign(&self, agent_id: AgentId, names: &[&str]) -> Result<Node, Error> {
        if names.len() > CONFIGURATION_NAMES_MAX {
            let (actual, limit) = (names.len(), CONFIGURATION_NAMES_MAX);
            return Err(Error::TooLarge { what: "configuration names", actual, limit });
        }
        let names = names.iter().map(|name| name.parse()).collect::<Result<Vec<_>, _>>()?;
        let decide = |node: &Node| {
            check_registered(node)?;
            Ok(Some(NodeEvent::Assigned { configuration_names: names.clone() }))
        };
        self.nodes.change(agent_id, "local", decide).await
    }

    /// Takes a node out. It may register again.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`].
    pub async fn remove_node(&self, agent_id: AgentId) -> Result<(), Error> {
        let decide = |node: &Node| {
            check_registered(node)?;
            Ok(Some(NodeEvent::Removed))
        };
        self.nodes.change(agent_id, "local", decide).await?;
        self.nodes.forget(agent_id);
        Ok(())
    }

    /// Every registered node, in order of identity.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn nodes(&self) -> Result<Vec<Node>, Error> {
        self.nodes.list().await
    }

    /// One registered node.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`].
    pub async fn node(&self, agent_id: AgentId) -> Result<Node, Error> {
        self.nodes.registered(agent_id).await
    }

    /// Every published configuration, in order of name.
    #[must_use]
    pub fn configurations(&self) -> Vec<PublishedConfiguration> {
        self.library.configurations()
    }

    /// Every published module, in order of name and version.
    #[must_use]
    pub fn modules(&self) -> Vec<PublishedModule> {
        self.library.modules()
    }

    /// The bytes of published content.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Disk`].
    pub async fn content(&self, checksum: Checksum) -> Result<Vec<u8>, Error> {
        let content = self.library.content.clone();
        blocking(move || content.get(checksum)).await
    }

    /// The newest reports of a node, newest first, at most [`REPORTS_LISTED_MAX`].
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Corrupt`].
    pub async fn reports(&self, agent_id: AgentId) -> Result<Vec<StatusReport>, Error> {
        let reports = Arc::clone(&self.reports);
        blocking(move || {
            let newest = reports.jobs(agent_id).into_iter().rev().take(REPORTS_LISTED_MAX);
            let merged = newest.map(|job_id| merged(&reports, agent_id, job_id));
            merged.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// One report of a node.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Disk`], [`Error::Corrupt`].
    pub async fn report(&self, agent_id: AgentId, job_id: JobId) -> Result<StatusReport, Error> {
        let reports = Arc::clone(&self.reports);
        let found = blocking(move || merged(&reports, agent_id, job_id)).await?;
        found.ok_or_else(|| Error::NotFound { what: "report", name: job_id.to_string() })
    }

    /// Marks nodes that fell silent, takes out those that go with a revoked key, opens rings of roll-outs,
    /// counts nodes that are overdue in them, drops old reports, and goes on with compilation jobs that wait;
    /// to be called every minute or few.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Journal`], [`Error::Key`]; what was done before stays done.
    pub async fn maintain(&self) -> Result<MaintenanceReport, Error> {
        let now = self.clock.now();
        let limit = self.silence_limit();
        let is_silent = |node: &Node| {
            let heard = node.last_heard.filter(|_| node.state != NodeState::Unresponsive)?;
            (node.is_registered() && self.nodes.silence(node) > limit).then_some(heard)
        };
        let mut done = MaintenanceReport::default();
        self.registrar.keys.refresh().await?;
        done.nodes_removed = self.remove_nodes_of_revoked_keys().await?;
        let (journal, window) = (&*self.nodes.journal, self.registrar.window);
        done.signatures_dropped = signature::drop_old(journal, now, window).await?;
        let nodes = self.nodes.list().await?;
        self.rollouts_elapsed(&nodes).await?;
        for node in nodes {
            if is_silent(&node).is_none() {
                continue;
            }
            let decide = |node: &Node| {
                Ok(is_silent(node).map(|last_heard| NodeEvent::FellSilent { last_heard }))
            };
            let changed = self.nodes.change(node.agent_id, "local", decide).await?;
            done.nodes_silent += usize::from(changed.state == NodeState::Unresponsive);
        }
        let age = SignedDuration::from_hours(24 * i64::from(self.settings.report_retention_days));
        let (reports, oldest) = (Arc::clone(&self.reports), now.saturating_sub(age));
        let oldest = oldest.map_err(|error| Error::Internal { reason: error.to_string() })?;
        done.report_files_dropped = blocking(move || reports.prune(oldest)).await?;
        done.compilations_ended = self.resume_compilations().await?;
        Ok(done)
    }

    /// Reads what another server on the same journal published, and what it did with rules and roll-outs.
    /// Servers that share a fleet call it every few seconds. Nodes need none: their histories are read
    /// with each request.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn refresh(&self) -> Result<(), Error> {
        self.rules.refresh().await?;
        self.refresh_rollouts().await?;
        self.compilations.refresh().await?;
        self.library.refresh().await
    }

    /// Answers one request of the protocol; every refusal is a reply too.
    pub async fn answer(&self, request: Request) -> Reply {
        let request_id = self.entropy.uuid();
        let operation = request.operation.name();
        let watch = Stopwatch::start();
        // Neither path nor headers: an AgentId is a bearer secret.
        let span = tracing::info_span!("dsc_request", %request_id, operation, status = Empty);
        let reply = match self.dispatch(&request).instrument(span.clone()).await {
            Ok(reply) if self.asks_for_rotation(&request).await => reply.asks_for_rotation(),
            Ok(reply) => reply,
            Err(error) => {
                let reply = refuse(&error);
                let (status, error) = (reply.status, unnamed(&request, &error));
                if status >= 500 {
                    tracing::error!(%request_id, operation, status, error, "request failed");
                } else {
                    tracing::info!(%request_id, operation, status, error, "request refused");
                }
                reply
            }
        };
        span.record("status", reply.status);
        let status = reply.status.to_string();
        metrics::counter!(
            "oms_dsc_requests_total", "operation" => operation, "status" => status
        )
        .increment(1);
        metrics::histogram!("oms_dsc_request_seconds", "operation" => operation)
            .record(watch.seconds());
        reply.identified(request_id)
    }

    /// Refuses a request whose path cannot be read: only a node is told what is wrong with it.
    #[cfg(feature = "http")]
    pub(crate) async fn refuse_path(
        &self,
        agent_id: Option<&str>,
        presented: Option<&str>,
        has_401: bool,
        error: Error,
    ) -> Reply {
        let checked = match agent_id.map(str::parse) {
            Some(Ok(agent_id)) => self.authenticate(agent_id, presented, false).await.map(drop),
            Some(Err(_bad)) if has_401 => Err(Error::Unauthenticated { reason: UNKNOWN_AGENT }),
            Some(Err(_)) | None => Ok(()),
        };
        refuse(&checked.err().unwrap_or(error))
    }

    /// The node that a request comes from: whoever knows its AgentId and, if TLS presented the
    /// node's certificate when it registered, holds that certificate.
    async fn authenticate(
        &self,
        agent_id: AgentId,
        presented: Option<&str>,
        is_heard: bool,
    ) -> Result<Node, Error> {
        let node = self.recognise(agent_id, presented, is_heard).await;
        node.map_err(|error| match error {
            // Also one that was taken out meanwhile.
            Error::NotFound { .. } => Error::Unauthenticated { reason: UNKNOWN_AGENT },
            error => error,
        })
    }

    async fn recognise(
        &self,
        agent_id: AgentId,
        presented: Option<&str>,
        is_heard: bool,
    ) -> Result<Node, Error> {
        let node = self.nodes.calling(agent_id, presented, is_heard).await?;
        let node = self.note_presented(node, presented).await?;
        let limit = self.silence_limit();
        let node = match is_heard && node.should_keep_call(self.clock.now(), limit) {
            true => self.keep_call(agent_id, limit).await?,
            false => node,
        };
        // Meanwhile another server may have voided the certificate, or taken the node out.
        check_registered(&node)?;
        node.check_vouched_for(presented)?;
        Ok(node)
    }

    async fn keep_call(&self, agent_id: AgentId, limit: SignedDuration) -> Result<Node, Error> {
        let decide = |node: &Node| {
            check_registered(node)?;
            let is_due = node.should_keep_call(self.clock.now(), limit);
            Ok(is_due.then_some(NodeEvent::Heard))
        };
        self.nodes.change(agent_id, &format!("agent:{agent_id}"), decide).await
    }

    /// What time it is, by the server's clock.
    #[cfg(feature = "http")]
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// How long a node may be silent.
    fn silence_limit(&self) -> SignedDuration {
        SignedDuration::from_mins(self.settings.unresponsive_after_minutes.into())
    }

    async fn dispatch(&self, request: &Request) -> Result<Reply, Error> {
        let presented = request.headers.certificate_thumbprint.as_deref();
        match &request.operation {
            Operation::RegisterDscAgent { agent_id } => {
                let now = self.clock.now();
                let node = self.registrar.register(&self.nodes, *agent_id, request, now).await?;
                self.note_clone(node).await?;
                Ok(Reply::no_content())
            }
            Operation::GetDscAction { agent_id } => self.dsc_action(*agent_id, request).await,
            Operation::GetConfiguration { agent_id, configuration_name } => {
                let header = request.headers.configuration_name.as_deref();
                let name = Some(configuration_name.as_str()).filter(|name| !name.is_empty());
                let node = self.authenticate(*agent_id, presented, true).await?;
                self.configuration(&node, name.or(header)).await
            }
            Operation::GetModule { module_name, module_version } => {
                let agent_id = request.headers.agent_id.as_deref();
                let reason = "no AgentId header";
                let agent_id = agent_id.ok_or(Error::Unauthenticated { reason })?.parse();
                let reason = UNKNOWN_AGENT;
                let agent_id = agent_id.map_err(|_bad| Error::Unauthenticated { reason })?;
                self.authenticate(agent_id, presented, true).await?;
                self.module(module_name, module_version).await
            }
            Operation::SendReport { agent_id } => {
                self.authenticate(*agent_id, presented, true).await?;
                let (job_id, finished) = self.keep_report(*agent_id, &request.body).await?;
                metrics::counter!("oms_dsc_reports_total").increment(1);
                if let Some(summary) = finished {
                    self.note_report(*agent_id, job_id, &request.body, summary).await?;
                }
                Ok(Reply::odata_text(&request.base, "SavedReport"))
            }
            Operation::GetReports { agent_id, job_id } => {
                self.authenticate(*agent_id, presented, false).await?;
                self.list_reports(*agent_id, *job_id, request).await
            }
            Operation::CertificateRotation { agent_id } => {
                let checked = self.authenticate(*agent_id, presented, true).await;
                checked.map_err(|error| match error {
                    // This operation has no 401.
                    Error::Unauthenticated { .. } => registry::not_found(*agent_id),
                    error => error,
                })?;
                self.rotate(*agent_id, presented, request).await?;
                Ok(Reply::created())
            }
            Operation::GetResourceState { agent_id } => {
                self.resource_state(*agent_id, request).await
            }
            Operation::V1(operation) => self.version_1(operation, request).await,
        }
    }

    async fn module(&self, name: &str, version: &str) -> Result<Reply, Error> {
        let wanted: Option<ModuleVersion> =
            if version.is_empty() { None } else { Some(version.parse()?) };
        let not_found = || Error::NotFound { what: "module", name: format!("{name} {version}") };
        let published = self.library.module(name, wanted.as_ref()).ok_or_else(not_found)?;
        let bytes = self.content(published.checksum).await?;
        Ok(Reply::content(bytes, published.checksum).returns_content())
    }

    /// Stores a message durably; answers the run's summary if it has ended.
    async fn keep_report(
        &self,
        agent_id: AgentId,
        body: &Bytes,
    ) -> Result<(JobId, Option<ReportSummary>), Error> {
        let (reports, body, now) = (Arc::clone(&self.reports), body.clone(), self.clock.now());
        let is_strict = self.settings.is_strict;
        blocking(move || {
            if is_strict {
                strict::report(&report::decoded(&body)?)?;
            }
            let job_id = report::read(&body)?.job()?;
            reports.append(agent_id, job_id, now, &body)?;
            let merged = merged(&reports, agent_id, job_id)?;
            Ok((job_id, merged.as_ref().and_then(ReportSummary::of)))
        })
        .await
    }

    /// Notes in the journal how a run ended, once for each message that says so.
    async fn note_report(
        &self,
        agent_id: AgentId,
        job_id: JobId,
        body: &[u8],
        summary: ReportSummary,
    ) -> Result<(), Error> {
        let (message, summary) = (Checksum::of(body), Arc::new(summary));
        let decide = |node: &Node| {
            check_registered(node)?;
            let summary = Arc::clone(&summary);
            let event = NodeEvent::Reported { summary, message };
            Ok((!node.has_reported(job_id, message)).then_some(event))
        };
        let actor = format!("agent:{agent_id}");
        let node = self.nodes.change(agent_id, &actor, decide).await?;
        self.note_clone(node).await?;
        // Also of a message that was noted before: the server may have ended between the two.
        self.rollout_reported(agent_id, &summary).await
    }

    async fn list_reports(
        &self,
        agent_id: AgentId,
        job_id: Option<JobId>,
        request: &Request,
    ) -> Result<Reply, Error> {
        #[derive(Serialize)]
        struct List {
            value: Vec<StatusReport>,
        }
        match job_id {
            Some(job_id) => {
                let report = self.report(agent_id, job_id).await?;
                Ok(Reply::odata(&request.base, "MSFT.StatusReport", report))
            }
            None => {
                let value = self.reports(agent_id).await?;
                Ok(Reply::odata(&request.base, "Collection(MSFT.StatusReport)", List { value }))
            }
        }
    }

    async fn version_1(
        &self,
        operation: &v1::Operation,
        request: &Request,
    ) -> Result<Reply, Error> {
        let id = operation.configuration_id().to_string().to_uppercase();
        let name: ConfigurationName = id.parse()?;
        let published = self.library.configuration(&name);
        let published = published.ok_or_else(|| unknown_configuration_id(&id))?;
        if !self.settings.serves_version_1 {
            let name = "MS-DSCPM version 1".to_owned();
            return Err(Error::Unsupported { what: "protocol", name });
        }
        let agent_id = AgentId(operation.configuration_id());
        match operation {
            v1::Operation::GetAction { .. } => {
                let asked: v1::GetActionRequest = decode("GetAction request", &request.body)?;
                let has = asked.checksum.unwrap_or_default().trim().parse::<Checksum>();
                let action = match has == Ok(published.checksum) {
                    true => DscAction::Ok,
                    false => DscAction::GetConfiguration,
                };
                Ok(Reply::odata_text(&request.base, &format!("{action:?}")))
            }
            v1::Operation::GetConfiguration { .. } => {
                let bytes = self.content(published.checksum).await?;
                Ok(Reply::content(bytes, published.checksum).returns_content())
            }
            v1::Operation::GetModule { module_name, module_version, .. } => {
                self.module(module_name, module_version).await
            }
            v1::Operation::SendStatusReport { .. } => {
                self.keep_report(agent_id, &request.body).await?;
                Ok(Reply::odata_text(&request.base, "SavedReport"))
            }
            v1::Operation::GetStatusReports { job_id, .. } => {
                self.list_reports(agent_id, *job_id, request).await
            }
        }
    }
}

/// What [`Error::NotFound`] calls the node of version 1; its refusal is a 400 on the wire.
const CONFIGURATION_ID: &str = "configuration id";

/// What a stranger is told.
const UNKNOWN_AGENT: &str = "AgentId is not registered";

/// The refusal of a ConfigurationId under which nothing is published.
pub(crate) fn unknown_configuration_id(id: &str) -> Error {
    Error::NotFound { what: CONFIGURATION_ID, name: id.to_owned() }
}

/// An error's text for the log, without the AgentId or ConfigurationId that the caller showed: each
/// is a bearer secret.
fn unnamed(request: &Request, error: &Error) -> String {
    let shown = request.operation.identity().map(|id| id.to_string());
    let header = request.headers.agent_id.clone().filter(|id| !id.is_empty());
    let mut text = error.to_string();
    for id in shown.into_iter().chain(header) {
        for id in [id.to_lowercase(), id.to_uppercase(), id] {
            text = text.replace(&id, "(its id)");
        }
    }
    text
}

fn check_registered(node: &Node) -> Result<(), Error> {
    if node.is_registered() {
        return Ok(());
    }
    Err(registry::not_found(node.agent_id))
}

/// The messages of one run as one report.
fn merged(
    reports: &ReportStore,
    agent_id: AgentId,
    job_id: JobId,
) -> Result<Option<StatusReport>, Error> {
    let mut whole: Option<StatusReport> = None;
    for message in reports.messages(agent_id, job_id)? {
        let report = report::read(&message.body)?;
        match &mut whole {
            Some(whole) => report::merge(whole, report),
            None => whole = Some(report),
        }
    }
    Ok(whole)
}

/// The one table of refusals.
fn refuse(error: &Error) -> Reply {
    if let Error::NotFound { what: CONFIGURATION_ID, name } = error {
        let message = format!("ConfigurationID not found for {name}.");
        return Reply::error(400, "ConfigurationID not found for {0}.", &message);
    }
    let status = match error.kind() {
        // Whatever is wrong with the server's keys, the caller cannot help it.
        _ if matches!(error, Error::Key(_)) => 500,
        ErrorKind::NotFound => 404,
        ErrorKind::Invalid | ErrorKind::AlreadyExists => 400,
        ErrorKind::Unauthenticated => 401,
        ErrorKind::Denied => 403,
        ErrorKind::Conflict | ErrorKind::PreconditionFailed => 409,
        ErrorKind::TooLarge => 413,
        ErrorKind::LimitExceeded { .. } => 429,
        ErrorKind::Unsupported => 501,
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Cancelled => 503,
        _ => 500,
    };
    // What broke inside is in the server's log, under the request id of the reply.
    let message = match status {
        500 | 503 => "the server could not do this now".to_owned(),
        _ => error.to_string(),
    };
    Reply::error(status, "", &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_does_not_name_the_caller() {
        const ID: &str = "91e51a37-b59f-11e5-9c04-14109fd663ae";
        let agent_id: AgentId = ID.parse().expect("an id");
        let error = |name: String| Error::NotFound { what: "node", name };
        let by_path = Request::new(Operation::GetReports { agent_id, job_id: None }, "");
        let (module_name, module_version) = ("nx".to_owned(), String::new());
        let module = Operation::GetModule { module_name, module_version };
        let mut by_header = Request::new(module, "");
        by_header.headers.agent_id = Some("Not-A-Uuid".to_owned());
        for (request, name) in [
            (&by_path, ID.to_owned()),
            (&by_path, ID.to_uppercase()),
            (&by_header, "Not-A-Uuid".into()),
        ] {
            let text = unnamed(request, &error(name.clone()));
            assert!(text.contains("node") && !text.contains(&name), "{text}");
        }
        assert!(unnamed(&by_path, &error("other".to_owned())).contains("other"));
    }
}
