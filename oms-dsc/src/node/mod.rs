//! The node: a local configuration manager that pulls, applies, checks and reports.
//!
//! [`Lcm`] keeps its events in a journal, and documents and unsent reports on disk; after a crash
//! at any point the next [`Lcm::run`] goes on from what is durable. [`apply`], [`test`](test()) and
//! [`get`] work on one document without a server and without a trace.

mod client;

mod engine;

mod host;

mod metaconfiguration;

mod order;

mod outbox;

mod partial;

mod report;

mod state;

mod timetable;

mod wait;

mod work;

pub use client::Transport;
#[cfg(feature = "client")]
pub use client::{HttpOptions, HttpTransport, RESPONSE_BYTES_MAX};
pub use engine::{CONFIGURATIONS_MAX, REBOOTS_MAX, RunReport};
pub use host::{Host, SystemHost};
pub use metaconfiguration::{
    ActionAfterReboot, ConfigurationMode, Metaconfiguration, PartialConfiguration,
};
pub use order::order;
pub use outbox::REPORTS_WAITING_MAX;
pub use state::{ConfigurationSet, LcmEvent, LcmRecord, LcmState, LcmTransition};
pub use timetable::{RunKind, Timetable};
pub use wait::WaitForResource;
pub use work::{ResourceOutcome, ResourceStatus};

use crate::Error;
use crate::configuration::Configuration;
use crate::content::ContentStore;
use crate::protocol::{AgentId, Checksum, JobId, Operation, Request, StatusReport};
use crate::resource::Registry;
use engine::{Documents, Effect, Engine, Input, accept};
use oms_core::clock::Stopwatch;
use oms_core::journal::{HistoryId, Journal, JournalExt, SqliteJournal};
use oms_core::task::blocking;
use oms_core::{Clock, Disk, Entropy, LocalDisk, SystemClock, SystemEntropy};
use outbox::Outbox;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::Instrument as _;
use tracing::field::Empty;
use work::{Mode, Work};

/// The kind of a local configuration manager's history; its key is `local`.
pub const LCM_HISTORY: &str = "dsc-lcm";

/// The most reports that one run sends, so that a node that was cut off does not flood its
/// server when it comes back.
pub const REPORTS_SENT_PER_RUN_MAX: usize = 50;

/// Collects what an [`Lcm`] is made of.
#[derive(Debug)]
pub struct LcmBuilder {
    directory: PathBuf,
    settings: Metaconfiguration,
    disk: Option<Arc<dyn Disk>>,
    journal: Option<Arc<dyn Journal>>,
    transport: Option<Arc<dyn Transport>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    host: Arc<dyn Host>,
    resources: Registry,
}

impl LcmBuilder {
    /// Where events go; `lcm.db` in the node's folder without it.
    #[must_use]
    pub fn journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Where documents and unsent reports go, in place of the node's folder.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = Some(disk);
        self
    }

    /// How the server is reached; over HTTP (feature `client`) without it.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Where the time comes from; the system's without it.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where ids come from; the system's generator without it.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// The computer it runs on; this one without it.
    #[must_use]
    pub fn host(mut self, host: Arc<dyn Host>) -> Self {
        self.host = host;
        self
    }

    /// The resources it can test and set, beside waiting for other nodes ([`WaitForResource`]), which it
    /// can by itself; none without it, so that nothing on this computer
    /// changes unless it was said what may.
    #[must_use]
    pub fn resources(mut self, resources: Registry) -> Self {
        self.resources = resources;
        self
    }

    /// Opens the local configuration manager and reads what it knew.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Journal`], or [`Error::Invalid`] for the server's address, or for a
    /// certificate of the settings (`CertificateID`) whose key the resources do not have.
    pub async fn build(self) -> Result<Lcm, Error> {
        check_certificate(&self.settings, &self.resources)?;
        let transport = match self.transport {
            Some(transport) => transport,
            None => default_transport(&self.settings)?,
        };
        let (directory, disk, entropy) = (self.directory, self.disk, Arc::clone(&self.entropy));
        let journal = self.journal;
        let (journal, content, outbox) = blocking(move || {
            let disk: Arc<dyn Disk> = match disk {
                Some(disk) => disk,
                None => Arc::new(LocalDisk::new(&directory)?),
            };
            let journal: Arc<dyn Journal> = match journal {
                Some(journal) => journal,
                None => {
                    let directory = LocalDisk::new(&directory)?;
                    Arc::new(SqliteJournal::open(directory.root().join("lcm.db"))?)
                }
            };
            let content = ContentStore::open(Arc::clone(&disk), "configurations", entropy)?;
            Ok::<_, Error>((journal, content, Outbox::open(disk)?))
        })
        .await?;
        let mut lcm = Lcm {
            settings: self.settings,
            journal,
            transport,
            clock: self.clock,
            entropy: self.entropy,
            host: self.host,
            resources: self.resources,
            content,
            outbox: Arc::new(Mutex::new(outbox)),
            record: None,
        };
        lcm.load().await?;
        Ok(lcm)
    }
}

/// Refuses a certificate for passwords that the node was told to have and has not, at once in place of at
/// the first password.
fn check_certificate(settings: &Metaconfiguration, resources: &Registry) -> Result<(), Error> {
    let Some(wanted) = &settings.certificate_id else { return Ok(()) };
    let has = resources.certificate_thumbprint();
    if has.is_some_and(|has| has.eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    let has = has.map_or("none".to_owned(), |has| format!("that of {has}"));
    let reason = format!("CertificateID is {wanted}, and the key for passwords is {has}");
    Err(Error::Invalid { what: "metaconfiguration", reason })
}

#[cfg(feature = "client")]
fn default_transport(settings: &Metaconfiguration) -> Result<Arc<dyn Transport>, Error> {
    let allow_unsecure_connection = settings.allow_unsecure_connection;
    let options = HttpOptions { allow_unsecure_connection, ..HttpOptions::default() };
    Ok(Arc::new(HttpTransport::new(&settings.server_url, &options)?))
}

#[cfg(not(feature = "client"))]
fn default_transport(_settings: &Metaconfiguration) -> Result<Arc<dyn Transport>, Error> {
    Err(Error::Unsupported { what: "transport", name: "HTTP without feature `client`".to_owned() })
}

/// A local configuration manager: the agent of one node.
#[derive(Debug)]
pub struct Lcm {
    settings: Metaconfiguration,
    journal: Arc<dyn Journal>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    host: Arc<dyn Host>,
    resources: Registry,
    content: ContentStore,
    outbox: Arc<Mutex<Outbox>>,
    /// None after a failure of which nobody knows how far it came.
    record: Option<LcmRecord>,
}

impl Lcm {
    /// Begins a local configuration manager that keeps its state in `directory`.
    #[must_use]
    pub fn builder(directory: impl Into<PathBuf>, settings: Metaconfiguration) -> LcmBuilder {
        LcmBuilder {
            directory: directory.into(),
            settings,
            disk: None,
            journal: None,
            transport: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            host: Arc::new(SystemHost),
            resources: Registry::new(),
        }
    }

    /// What it is and has.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn record(&mut self) -> Result<LcmRecord, Error> {
        self.load().await
    }

    /// How many reports wait to be sent.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub async fn reports_waiting(&self) -> Result<usize, Error> {
        let outbox = Arc::clone(&self.outbox);
        blocking(move || Ok(lock(&outbox).waiting()?.len())).await
    }

    async fn load(&mut self) -> Result<LcmRecord, Error> {
        if let Some(record) = &self.record {
            return Ok(record.clone());
        }
        let blank = LcmRecord::default();
        let record = self.journal.replay(&history()?, blank, LcmRecord::replay).await?.state;
        self.record = Some(record.clone());
        Ok(record)
    }

    async fn append(&self, record: &mut LcmRecord, event: &LcmEvent) -> Result<(), Error> {
        let (version, now) = (record.version, self.clock.now());
        record.version = self.journal.append_event(&history()?, version, event, now, "lcm").await?;
        Ok(())
    }

    /// One full run: asks the server, fetches what changed, applies or checks, and reports.
    ///
    /// # Errors
    /// As [`Lcm::run_as`].
    pub async fn run(&mut self) -> Result<RunReport, Error> {
        self.run_as(RunKind::Full).await
    }

    /// One run of some kind; a [`Timetable`] says which is due. A node that has yet to register does
    /// so in each.
    ///
    /// If a resource asks for a restart and the settings allow it, the computer restarts at the end;
    /// the first run after that goes on.
    ///
    /// Dropping the future ends the run in the middle, as a crash does; the next one goes on from
    /// there.
    ///
    /// # Errors
    /// [`Error::Journal`] or [`Error::Disk`] when its own state cannot be kept. A server that
    /// does not answer, a document that is wrong and a resource that fails are in the report.
    pub async fn run_as(&mut self, kind: RunKind) -> Result<RunReport, Error> {
        let span = tracing::info_span!("dsc_session", run = Empty, outcome = Empty);
        let watch = Stopwatch::start();
        let ran = self.run_once(kind).instrument(span.clone()).await;
        let outcome = match &ran {
            Ok(report) => {
                span.record("run", tracing::field::display(report.job_id));
                match (report.is_success, report.is_compliant) {
                    (false, _) => "failed",
                    (true, false) => "not_compliant",
                    (true, true) => "compliant",
                }
            }
            Err(error) => error.kind().name(),
        };
        span.record("outcome", outcome);
        metrics::counter!("oms_dsc_node_runs_total", "outcome" => outcome).increment(1);
        metrics::histogram!("oms_dsc_node_run_seconds").record(watch.seconds());
        ran
    }

    async fn run_once(&mut self, kind: RunKind) -> Result<RunReport, Error> {
        let mut record = self.load().await?;
        self.record = None;
        let agent_id = match record.agent_id {
            Some(agent_id) => agent_id,
            None => {
                let agent_id = AgentId::draw(&*self.entropy);
                let event = LcmEvent::Created { agent_id };
                self.append(&mut record, &event).await?;
                record.apply(&event)?;
                agent_id
            }
        };
        let documents = self.documents(&record).await?;
        let resources = self.resources_of(agent_id);
        let mut budget = REPORTS_SENT_PER_RUN_MAX;
        let mut engine = Engine::new(self.settings.clone(), agent_id, record.clone(), documents);
        let job_id = JobId::draw(&*self.entropy);
        let boot_id = self.boot_id(&record)?;
        let mut inputs = VecDeque::from([Input::Start { job_id, kind, boot_id }]);
        let mut ended: Option<RunReport> = None;
        while let Some(input) = inputs.pop_front() {
            for effect in engine.step(self.clock.now(), input)? {
                match effect {
                    Effect::Keep(bytes) => {
                        let content = self.content.clone();
                        blocking(move || content.put(&bytes)).await?;
                    }
                    Effect::Append(event) => self.append(&mut record, &event).await?,
                    Effect::Report(report) => {
                        self.keep_report(&report).await?;
                        if engine.record.registered.is_some() {
                            self.send_reports(agent_id, &mut budget).await?;
                        }
                    }
                    Effect::Ask(request) => {
                        inputs.push_back(Input::Answer(self.transport.exchange(&request).await));
                    }
                    Effect::Do(task) => {
                        inputs.push_back(Input::Done(task.perform(&resources).await));
                    }
                    Effect::End(report) => ended = Some(*report),
                    Effect::Restart => {
                        if let (Err(error), Some(report)) = (self.host.restart().await, &mut ended)
                        {
                            report.is_success = false;
                            report.errors.push(error.to_string());
                        }
                    }
                }
            }
        }
        self.record = Some(LcmRecord { version: record.version, ..engine.record });
        ended.ok_or_else(|| Error::Internal { reason: "the run did not come to its end".into() })
    }

    /// The resources of this node, with those that ask its server about other nodes.
    fn resources_of(&self, agent_id: AgentId) -> Registry {
        let wait = WaitForResource::new(Arc::clone(&self.transport), agent_id)
            .clock(Arc::clone(&self.clock));
        self.resources.clone().or(Arc::new(wait))
    }

    /// The present start of the computer. Where nothing tells it, a node works as long as no restart
    /// is awaited.
    fn boot_id(&self, record: &LcmRecord) -> Result<String, Error> {
        match self.host.boot_id() {
            Err(Error::Unsupported { .. }) if record.reboot_from.is_none() => Ok(String::new()),
            read => read,
        }
    }

    /// What a full run would find and do, as a report that is not sent. It asks the server for what
    /// is new and tests resources; nothing changes, here or there, so a node that has not registered
    /// is refused.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a node that the server does not know, or as [`Lcm::run_as`].
    pub async fn preview(&mut self) -> Result<RunReport, Error> {
        let server = self.settings.server_url.clone();
        let unknown =
            || Error::NotFound { what: "registration of this node", name: server.clone() };
        let record = self.load().await?;
        let agent_id = record.agent_id.filter(|_| record.registered.is_some());
        let agent_id = agent_id.ok_or_else(unknown)?;
        let documents = self.documents(&record).await?;
        let resources = self.resources_of(agent_id);
        let mut settings = self.settings.clone();
        (settings.configuration_mode, settings.reports) = (ConfigurationMode::MonitorOnly, false);
        let (job_id, kind) = (JobId::draw(&*self.entropy), RunKind::Full);
        let boot_id = self.boot_id(&record)?;
        let mut engine = Engine::new(settings, agent_id, record, documents);
        let mut next = Some(Input::Start { job_id, kind, boot_id });
        while let Some(input) = next.take() {
            for effect in engine.step(self.clock.now(), input)? {
                match effect {
                    Effect::Ask(request) => {
                        if matches!(request.operation, Operation::RegisterDscAgent { .. }) {
                            return Err(unknown());
                        }
                        next = Some(Input::Answer(self.transport.exchange(&request).await));
                    }
                    Effect::Do(task) => {
                        next = Some(Input::Done(task.perform(&resources).await));
                    }
                    Effect::End(report) => return Ok(*report),
                    Effect::Keep(_) | Effect::Append(_) | Effect::Report(_) | Effect::Restart => {}
                }
            }
        }
        Err(Error::Internal { reason: "the preview did not come to its end".into() })
    }

    /// The stored documents of what it has and should have; damaged ones are left out, and so
    /// fetched again.
    async fn documents(&self, record: &LcmRecord) -> Result<Documents, Error> {
        let sets = [Some(&record.current), record.pending.as_ref()];
        let wanted: Vec<(String, Checksum)> = sets
            .into_iter()
            .flatten()
            .flat_map(|set| set.iter().map(|(name, checksum)| (name.to_string(), *checksum)))
            .collect();
        let content = self.content.clone();
        blocking(move || {
            let mut documents = Documents::new();
            for (name, checksum) in wanted {
                let read = content.get(checksum);
                match read.and_then(|bytes| Configuration::parse(&name, &bytes)) {
                    Ok(configuration) => {
                        documents.insert(checksum, Arc::new(configuration));
                    }
                    Err(error) => tracing::warn!(%error, name, "stored document cannot be used"),
                }
            }
            Ok(documents)
        })
        .await
    }

    async fn keep_report(&self, report: &StatusReport) -> Result<(), Error> {
        let body = serde_json::to_vec(report)
            .map_err(|error| Error::Internal { reason: error.to_string() })?;
        let outbox = Arc::clone(&self.outbox);
        blocking(move || lock(&outbox).push(&body)).await
    }

    /// Sends what waits, oldest first, until one is not taken.
    async fn send_reports(&self, agent_id: AgentId, budget: &mut usize) -> Result<(), Error> {
        let outbox = Arc::clone(&self.outbox);
        let waiting = blocking(move || lock(&outbox).waiting()).await?;
        for path in waiting {
            if *budget == 0 {
                return Ok(());
            }
            *budget -= 1;
            let (outbox, read) = (Arc::clone(&self.outbox), path.clone());
            let body = blocking(move || lock(&outbox).read(&read)).await?;
            let request = Request::new(Operation::SendReport { agent_id }, body);
            let answer = self.transport.exchange(&request).await;
            match accept("SendReport", answer) {
                Ok(_) => {}
                // The server will never take this one, and the next may be good.
                Err(error @ Error::Refused { status: 400 | 413, .. }) => {
                    tracing::warn!(%error, "report dropped");
                }
                Err(error) => {
                    tracing::info!(%error, "reports wait for the next run");
                    return Ok(());
                }
            }
            let outbox = Arc::clone(&self.outbox);
            blocking(move || lock(&outbox).remove(&path)).await?;
        }
        Ok(())
    }
}

fn history() -> Result<HistoryId, Error> {
    Ok(HistoryId::new(LCM_HISTORY, "local")?)
}

fn lock(outbox: &Mutex<Outbox>) -> std::sync::MutexGuard<'_, Outbox> {
    outbox.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tests every resource of a configuration, in order. Nothing changes; this is also the preview
/// of [`apply`].
pub async fn test(
    configuration: Arc<Configuration>,
    resources: &Registry,
    clock: &dyn Clock,
) -> Vec<ResourceStatus> {
    pass(Mode::Test, configuration, resources, clock).await
}

/// Brings every resource of a configuration into its desired state, in order. What depends on a
/// resource that failed is skipped; everything else is done.
pub async fn apply(
    configuration: Arc<Configuration>,
    resources: &Registry,
    clock: &dyn Clock,
) -> Vec<ResourceStatus> {
    pass(Mode::Apply, configuration, resources, clock).await
}

async fn pass(
    mode: Mode,
    configuration: Arc<Configuration>,
    resources: &Registry,
    clock: &dyn Clock,
) -> Vec<ResourceStatus> {
    let mut work = Work::new(mode, vec![configuration.into()]);
    while let Some(task) = work.next(clock.now()) {
        let outcome = task.perform(resources).await;
        work.done(clock.now(), outcome);
    }
    work.statuses
}

/// What is there for every resource of a configuration: its id, and properties by name.
///
/// # Errors
/// The first resource that cannot be looked at, and why.
pub async fn get(
    configuration: &Configuration,
    resources: &Registry,
) -> Result<Vec<(String, BTreeMap<String, serde_json::Value>)>, Error> {
    let mut found = Vec::new();
    for index in order(configuration) {
        let instance = &configuration.resources[index];
        let resource = resources.find(instance)?;
        let opened = resources.opened(instance, &configuration.document)?;
        let properties = resource.get(&opened).await?;
        found.push((instance.resource_id.clone(), properties));
    }
    Ok(found)
}
