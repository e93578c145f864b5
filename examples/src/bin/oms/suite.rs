//! The services of one data directory, put together.
//!
//! ```text
//!  DIR/journal.db     the one journal of every service, unless it is in PostgreSQL
//!  DIR/keys/          the key ring, which opens what the journal holds sealed
//!  DIR/logs/          the workspace: write-ahead log and Delta tables
//!  DIR/agent/         this machine's agent: its id, and what it has not handed over
//!  DIR/automation/    runbooks, job streams
//!  DIR/dsc/           configurations, reports
//!  DIR/recovery/      the recovery vault: metadata only
//! ```

use crate::admin::Admin;
use crate::audit::Auditor;
use crate::config::Config;
use crate::data::DataDir;
use crate::identity::Identity;
use crate::journals::Journals;
use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use oms_automation::worker::IsolationSettings;
use oms_automation::{AutomationAccount, AutomationSettings};
use oms_core::auth::{Authorizer, Grant, Grants};
use oms_core::http::Surface;
use oms_core::journal::Event;
use oms_core::projection::Projection;
use oms_core::record::Record;
use oms_core::secret::KeyRing;
use oms_core::{Clock, Journal, RecordSink, Secret, SystemClock, SystemEntropy};
use oms_dsc::pull_server::{PullServer, PullServerSettings};
use oms_logs::Workspace;
use oms_logs::query::{QueryReport, TimeInterval};
use oms_logs::source::heartbeat::{Heartbeat, HostFiles};
use oms_logs::source::perf::Perf;
use oms_logs::source::syslog::SyslogFile;
use oms_logs::source::tail::StartAt;
use oms_logs::source::{Agent, CollectReport};
use oms_recovery::RecoveryVault;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

/// One of the five services.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Service {
    /// Log Analytics.
    Logs,
    /// Automation.
    Automation,
    /// Desired State Configuration.
    Dsc,
    /// Backup: the records of its jobs; vaults are opened by command.
    Backup,
    /// Site Recovery.
    Recovery,
}

impl Service {
    pub(crate) const ALL: [Self; 5] =
        [Self::Logs, Self::Automation, Self::Dsc, Self::Backup, Self::Recovery];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Automation => "automation",
            Self::Dsc => "dsc",
            Self::Backup => "backup",
            Self::Recovery => "recovery",
        }
    }
}

/// What to open.
#[derive(Debug)]
pub(crate) struct Wanted {
    services: Vec<Service>,
    /// The key that DSC nodes register with, in place of that of `admin.json`.
    pub(crate) registration_key: Option<Secret>,
    /// Limits, and where things are.
    config: Config,
}

impl Wanted {
    /// These services; all of them if none is named.
    pub(crate) fn new(services: &[Service], config: &Config) -> Self {
        let mut services =
            if services.is_empty() { Service::ALL.to_vec() } else { services.to_vec() };
        services.sort_unstable();
        services.dedup();
        Self { services, registration_key: None, config: config.clone() }
    }
}

/// Log files that this machine's agent follows, where they exist.
const SYSTEM_LOGS: [&str; 2] = ["/var/log/syslog", "/var/log/messages"];

/// The services that run on one data directory.
pub(crate) struct Suite {
    data: DataDir,
    /// Where bulk data is, if not in the data directory; held for its lock.
    _store: Option<DataDir>,
    services: Vec<Service>,
    /// What backup's containers write to.
    backup: Option<Arc<dyn Journal>>,
    journals: Arc<Mutex<Journals>>,
    identity: Identity,
    /// Whether other processes may write to the journal.
    is_shared: bool,
    logs: Option<Arc<Workspace>>,
    agent: Option<Mutex<Agent>>,
    automation: Option<Arc<AutomationAccount>>,
    search_path: Vec<PathBuf>,
    dsc: Option<Arc<PullServer>>,
    recovery: Option<Arc<RecoveryVault>>,
    projections: Mutex<Vec<Projection>>,
    auditor: Auditor,
    computer: String,
}

/// The most jobs that are asked to stop at once.
const JOBS_PAGE: usize = 1_000;

impl Suite {
    /// Opens the wanted services.
    pub(crate) async fn open(data: DataDir, admin: &Admin, wanted: Wanted) -> Result<Self> {
        wanted.config.check()?;
        let opened = Journals::open(data.root(), &wanted.config, &computer()).await;
        let journals = Arc::new(Mutex::new(opened.context("the journal")?));
        let opened = Self::open_services(data, admin, wanted, Arc::clone(&journals)).await;
        if opened.is_err() {
            // Another process need not wait until the leases end by themselves.
            journals.lock().await.release().await;
        }
        opened
    }

    async fn open_services(
        data: DataDir,
        admin: &Admin,
        wanted: Wanted,
        shared: Arc<Mutex<Journals>>,
    ) -> Result<Self> {
        let Wanted { services, registration_key, config } = wanted;
        let store = config.store_folder()?.map(|path| DataDir::open(&path)).transpose()?;
        let bulk = store.as_ref().unwrap_or(&data);
        let has = |service| services.contains(&service);
        let computer = computer();
        let mut journals = shared.lock().await;
        let keys = data.folder("keys")?;
        let identity = Identity::open(keys, journals.whole(), admin, &services).await;
        let identity = identity.context("clients and resources")?;

        let logs = when(has(Service::Logs), Box::pin(open_logs(bulk, admin, &config))).await;
        let logs = logs.context("the log repository")?;
        // Its data are not in the journal; how far its projections have come is.
        let told = when(has(Service::Logs), journals.of(Service::Logs)).await?;
        let agent = logs.as_ref().map(|logs| open_agent(&data, logs)).transpose()?.map(Mutex::new);
        let protected = vec![data.root().to_owned(), bulk.root().to_owned()];
        let settings = automation_settings(protected, admin, &config);
        let search_path = settings.search_path.clone();
        let automation = when(has(Service::Automation), async {
            let journal = journals.of(Service::Automation).await?;
            open_automation(bulk, settings, journal).await.context("automation")
        });
        let automation = automation.await?;
        let dsc = when(has(Service::Dsc), async {
            let key = registration_key.unwrap_or_else(|| admin.dsc_registration_key.clone());
            let journal = journals.of(Service::Dsc).await?;
            let ring = Arc::clone(identity.key_ring());
            open_dsc(bulk, (key, ring), journal, &config).await.context("the pull server")
        });
        let dsc = dsc.await?;
        let recovery = when(has(Service::Recovery), async {
            let journal = journals.of(Service::Recovery).await?;
            open_recovery(bulk, admin, journal).context("the recovery vault")
        });
        let recovery = recovery.await?;
        let backup = when(has(Service::Backup), journals.of(Service::Backup)).await?;
        let is_shared = journals.is_shared();
        drop(journals);
        let mut suite = Self {
            data,
            _store: store,
            services,
            backup,
            is_shared,
            journals: shared,
            identity,
            logs,
            agent,
            automation,
            search_path,
            dsc,
            recovery,
            projections: Mutex::default(),
            auditor: Auditor::new(&computer),
            computer,
        };
        suite.projections = Mutex::new(suite.projections(told.as_ref()));
        Ok(suite)
    }

    /// Each service's journal events as records, if there is a log repository to send them to.
    fn projections(&self, journal: Option<&Arc<dyn Journal>>) -> Vec<Projection> {
        let (Some(logs), Some(journal)) = (&self.logs, journal) else { return Vec::new() };
        type Records = Result<Vec<Record>, oms_core::projection::MappingError>;
        let new = |name: &str, mapping: fn(&Event, &str) -> Records| {
            let computer = self.computer.clone();
            let mapping = Arc::new(move |event: &Event| mapping(event, &computer));
            projection(journal, logs, name, mapping)
        };
        let computer = self.computer.clone();
        let mapping = Arc::new(move |event: &Event| oms_backup::records(event, &computer));
        let mut projections = vec![projection(journal, logs, "oms-backup", mapping)];
        if let Some(account) = &self.automation {
            let (account, computer) = (Arc::clone(account), self.computer.clone());
            let mapping = Arc::new(move |event: &Event| account.records(event, &computer));
            projections.push(projection(journal, logs, "oms-automation", mapping));
        } else if self.is_shared {
            // Without the jobs' words, which are where they run.
            projections.push(new("oms-automation", oms_automation::records));
        }
        // What other processes write to the journal is told here too.
        if self.dsc.is_some() || self.is_shared {
            projections.push(new("oms-dsc", oms_dsc::records));
        }
        if self.recovery.is_some() || self.is_shared {
            projections.push(new("oms-recovery", oms_recovery::records));
        }
        projections
    }

    /// Collects this machine's counters and logs once, and sends the services' own records.
    pub(crate) async fn collect(&self) -> Result<Option<CollectReport>> {
        let report = match &self.agent {
            Some(agent) => Some(agent.lock().await.collect_once().await.context("the agent")?),
            None => None,
        };
        self.send_records().await?;
        Ok(report)
    }

    /// Reads what other processes changed of clients, roles and resources.
    pub(crate) async fn refresh(&self) -> Result<()> {
        match self.is_shared {
            true => self.identity.refresh().await.context("clients and resources"),
            false => Ok(()),
        }
    }

    /// Does what is due of nodes, roll-outs and reports of the pull server.
    pub(crate) async fn maintain(&self) -> Result<()> {
        match &self.dsc {
            Some(server) => server.maintain().await.map(drop).context("the pull server"),
            None => Ok(()),
        }
    }

    /// Sends the services' own records; answers how many.
    pub(crate) async fn send_records(&self) -> Result<usize> {
        let mut sent = 0;
        for projection in self.projections.lock().await.iter() {
            sent += projection
                .catch_up()
                .await
                .with_context(|| format!("records of {}", projection.name()))?;
        }
        Ok(sent)
    }

    /// Asks the log repository; each query is a record of it.
    pub(crate) async fn ask(&self, kql: &str) -> Result<QueryReport> {
        self.auditor.ask(self.logs()?, kql, None).await
    }

    /// The same over a part of the time.
    pub(crate) async fn ask_within(
        &self,
        kql: &str,
        interval: Option<&TimeInterval>,
    ) -> Result<QueryReport> {
        self.auditor.ask(self.logs()?, kql, interval).await
    }

    /// What is served on the one address.
    pub(crate) fn surfaces(&self) -> Result<Vec<Surface>> {
        let mut dsc = Vec::new();
        if let Some(server) = &self.dsc {
            dsc.push(oms_dsc::http::surface(Arc::clone(server)));
            dsc.push(self.identity.configurations(server)?);
        }
        let logs = self.logs.iter().flat_map(|logs| {
            let (streams, tables) = (self.identity.senders(), self.identity.signers());
            [
                oms_logs::http::surface(Arc::clone(logs), streams),
                oms_logs::http::data_collector::surface(Arc::clone(logs), tables),
            ]
        });
        Ok(dsc.into_iter().chain(logs).chain(self.identity.surfaces()).collect())
    }

    /// Who may do what, beside what `grants` say.
    pub(crate) fn authorizer(&self, mut grants: Vec<Grant>) -> Result<Arc<dyn Authorizer>> {
        grants.push(self.identity.grant()?);
        Ok(self.identity.authorizer(Grants::new(grants)))
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.services.iter().map(|service| service.name()).collect()
    }

    #[cfg(test)]
    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn root(&self) -> &Path {
        self.data.root()
    }

    pub(crate) fn computer(&self) -> &str {
        &self.computer
    }

    /// What backup's containers write to.
    pub(crate) fn backup(&self) -> Result<&Arc<dyn Journal>> {
        self.backup.as_ref().ok_or_else(|| not_running(Service::Backup))
    }

    /// Answers when another process may have taken a service over.
    pub(crate) async fn lost(&self) -> anyhow::Error {
        self.journals.lock().await.lost().await
    }

    pub(crate) fn logs(&self) -> Result<&Arc<Workspace>> {
        self.logs.as_ref().ok_or_else(|| not_running(Service::Logs))
    }

    pub(crate) fn automation(&self) -> Result<&Arc<AutomationAccount>> {
        self.automation.as_ref().ok_or_else(|| not_running(Service::Automation))
    }

    /// Whether an interpreter or tool is where the account looks for it.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        self.search_path.iter().any(|folder| folder.join(name).exists())
    }

    pub(crate) fn dsc(&self) -> Result<&Arc<PullServer>> {
        self.dsc.as_ref().ok_or_else(|| not_running(Service::Dsc))
    }

    pub(crate) fn recovery(&self) -> Result<&Arc<RecoveryVault>> {
        self.recovery.as_ref().ok_or_else(|| not_running(Service::Recovery))
    }

    /// Asks every job that has not ended to stop, as a person would.
    pub(crate) async fn ask_jobs_to_stop(&self, reason: &str) -> Result<()> {
        let Some(automation) = &self.automation else { return Ok(()) };
        let mut last = None;
        loop {
            // Their order is none of time, so the one that runs may be the last.
            let jobs = automation.jobs(last, JOBS_PAGE).await?;
            let Some(end) = jobs.last() else { return Ok(()) };
            last = Some(end.id);
            for job in jobs.iter().filter(|job| !job.state.is_final()) {
                match automation.stop_job(job.id, reason).await {
                    // It has ended meanwhile.
                    Ok(_) | Err(oms_automation::Error::JobState { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    /// Ends the jobs that run, so that who waits for them gets an answer.
    pub(crate) async fn stop_jobs(&self) {
        if let Some(automation) = &self.automation {
            automation.shutdown().await;
        }
    }

    /// Ends the services. What they acknowledged is where it belongs.
    pub(crate) async fn close(&self) -> Result<()> {
        let mut sent = self.send_records().await;
        if let Some(automation) = &self.automation {
            automation.shutdown().await;
            // Jobs that were cut off have one more event to tell.
            sent = sent.and(self.send_records().await);
        }
        let closed = match &self.logs {
            Some(logs) => logs.close().await.map(drop).context("the log repository"),
            None => Ok(()),
        };
        self.journals.lock().await.release().await;
        closed.and(sent.map(drop))
    }
}

/// What is opened if it is wanted.
async fn when<T>(is_wanted: bool, opening: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    match is_wanted {
        true => opening.await.map(Some),
        false => Ok(None),
    }
}

fn projection(
    journal: &Arc<dyn Journal>,
    logs: &Arc<Workspace>,
    name: &str,
    mapping: Arc<oms_core::projection::Mapping>,
) -> Projection {
    let sink = Arc::clone(logs) as Arc<dyn RecordSink>;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Projection::new(name, Arc::clone(journal), sink, clock, mapping)
}

/// A setting, if one is given.
fn set<T>(into: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *into = given;
    }
}

fn not_running(service: Service) -> anyhow::Error {
    anyhow!(
        "service does not run in this process. service=`{0}`; `oms serve --services` has to name {0} \
         where the command is to go",
        service.name()
    )
}

fn computer() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

async fn open_logs(data: &DataDir, admin: &Admin, config: &Config) -> Result<Arc<Workspace>> {
    let id = admin.workspace_id.parse().context("workspace_id in admin.json")?;
    let mut settings = oms_logs::Settings { workspace_id: Some(id), ..Default::default() };
    let limits = &config.logs;
    set(&mut settings.memory_bytes_max, limits.memory_bytes_max);
    set(&mut settings.flush_bytes, limits.flush_bytes);
    set(&mut settings.segment_bytes_max, limits.segment_bytes_max);
    let age = limits.flush_age_seconds;
    set(&mut settings.flush_age, age.map(|age| SignedDuration::from_secs(age.into())));
    let every = limits.refresh_seconds;
    set(&mut settings.refresh_every, every.map(|every| SignedDuration::from_secs(every.into())));
    let interval = limits.log_interval_milliseconds;
    let interval = interval.map(|it| SignedDuration::from_millis(it.into()));
    set(&mut settings.log_interval, interval);
    let workspace = Workspace::builder(data.folder("logs")?).settings(settings);
    let mut workspace = workspace.quarantine(limits.quarantine.unwrap_or(false));
    if let Some(store) = limits.object_store()? {
        let (store, url) = store.open()?;
        workspace = workspace.object_store(store, url);
        if limits.shared.unwrap_or(false) {
            workspace = workspace.shared();
        }
        if let Some(slot) = &limits.diskless {
            workspace = workspace.diskless(slot);
        }
    }
    let built = workspace.build().await;
    if let Err(oms_logs::Error::Corrupt { path, .. }) = &built
        && path.starts_with("wal")
    {
        let what = "`oms logs check --quarantine` opens the log beside its damage, and loses what is in it";
        return Ok(Arc::new(built.context(what)?));
    }
    Ok(Arc::new(built?))
}

fn open_agent(data: &DataDir, workspace: &Arc<Workspace>) -> Result<Agent> {
    let sink = Arc::clone(workspace) as Arc<dyn RecordSink>;
    let mut builder = Agent::builder(sink)
        .state_dir(data.folder("agent")?)
        .source(Heartbeat::new(HostFiles::default()))
        .source(Perf::new());
    for path in SYSTEM_LOGS {
        let log = SyslogFile::new(path, StartAt::Beginning, TimeZone::system());
        builder = builder.source(log);
    }
    builder.build().context("the agent")
}

/// Runbooks are kept out of the whole data directory, not only of their account's folder.
fn automation_settings(
    protected: Vec<PathBuf>,
    admin: &Admin,
    config: &Config,
) -> AutomationSettings {
    let mut settings = AutomationSettings {
        account: admin.automation_account.clone(),
        isolation: IsolationSettings { protected, ..Default::default() },
        ..Default::default()
    };
    if !config.search_path.is_empty() {
        settings.search_path.clone_from(&config.search_path);
    }
    set(&mut settings.concurrency, config.automation.concurrency);
    set(&mut settings.open_jobs_max, config.automation.open_jobs_max);
    settings
}

async fn open_automation(
    data: &DataDir,
    settings: AutomationSettings,
    journal: Arc<dyn Journal>,
) -> Result<Arc<AutomationAccount>> {
    let account = AutomationAccount::builder(data.folder("automation")?)
        .journal(journal)
        .settings(settings)
        .build()
        .await?;
    Ok(Arc::new(account))
}

async fn open_dsc(
    data: &DataDir,
    (registration_key, key_ring): (Secret, Arc<KeyRing>),
    journal: Arc<dyn Journal>,
    config: &Config,
) -> Result<Arc<PullServer>> {
    let mut settings = PullServerSettings::default();
    set(&mut settings.unresponsive_after_minutes, config.dsc.unresponsive_after_minutes);
    set(&mut settings.report_retention_days, config.dsc.report_retention_days);
    set(&mut settings.clock_window_seconds, config.dsc.clock_window_seconds);
    set(&mut settings.is_strict, config.dsc.strict);
    let server = PullServer::builder(data.folder("dsc")?)
        .journal(journal)
        .registration_key(registration_key)
        .key_ring(key_ring)
        .settings(settings)
        .build()
        .await?;
    Ok(Arc::new(server))
}

fn open_recovery(
    data: &DataDir,
    admin: &Admin,
    journal: Arc<dyn Journal>,
) -> Result<Arc<RecoveryVault>> {
    let settings =
        oms_recovery::vault::Settings { name: admin.recovery_vault.clone(), ..Default::default() };
    let vault = RecoveryVault::builder(data.folder("recovery")?)
        .journal(journal)
        .entropy(Arc::new(SystemEntropy))
        .settings(settings)
        .build()?;
    Ok(Arc::new(vault))
}
