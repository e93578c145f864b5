//! What a local configuration manager does in one run, as decisions without I/O.
//!
//! ```text
//!  Start ─► register? ─► what to do? ─► fetch all that changed ─► store ─► apply  ─┐
//!              │ no answer   │ no answer      │ anything wrong             pending  ├─► report
//!              └─────────────┴────────────────┴──► check what there is ─────────────┘
//! ```
//!
//! Every answer of the outside comes in as an [`Input`]; [`Engine::step`] says what to do next.
//! A set of configurations is taken over as a whole: as long as one of them is missing or wrong,
//! the node keeps what it has.

use super::ConfigurationMode;
use super::metaconfiguration::Metaconfiguration;
use super::report::{end_report, start_report};
use super::state::{ConfigurationSet, LcmEvent, LcmRecord, LcmState};
use super::timetable::RunKind;
use super::work::{Mode, Part, Performed, ResourceOutcome, ResourceStatus, Task, Work};
use super::{ActionAfterReboot, partial};
use crate::Error;
use crate::configuration::Configuration;
use crate::protocol::{
    AgentId, AgentInformation, CHECKSUM_ALGORITHM, CertificateInformation, Checksum, ClientStatus,
    ConfigurationName, DscAction, GetDscActionRequest, GetDscActionResponse, JobId, Operation,
    RegisterDscAgentRequest, RegistrationInformation, RegistrationMessageType, Reply, Request,
    RequestHeaders, StatusReport, auth, decode,
};
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// The most configurations that a server may give one node.
pub const CONFIGURATIONS_MAX: usize = 64;

/// How often in a row the computer is restarted for one set of configurations
/// (`RebootNodeIfNeeded`): one that asks for a restart each time would never come to an end.
pub const REBOOTS_MAX: u32 = 8;

/// The documents that a node holds, read and checked.
pub(super) type Documents = BTreeMap<Checksum, Arc<Configuration>>;

/// What the outside tells.
#[derive(Debug)]
pub(super) enum Input {
    /// A run begins, in this start of the computer.
    Start { job_id: JobId, kind: RunKind, boot_id: String },
    /// What became of the request asked last.
    Answer(Result<Reply, Error>),
    /// What became of the task given last.
    Done(Result<Performed, Error>),
}

/// What to do next, in this order.
#[derive(Debug)]
pub(super) enum Effect {
    /// Make these bytes durable.
    Keep(Bytes),
    /// Note this in the journal.
    Append(LcmEvent),
    /// Keep this report and send it when that is possible.
    Report(Box<StatusReport>),
    /// Send this and bring the answer.
    Ask(Request),
    /// Do this and bring the outcome.
    Do(Task),
    /// The run is over.
    End(Box<RunReport>),
    /// Restart the computer.
    Restart,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RunReport {
    /// The run.
    pub job_id: JobId,
    /// Whether nothing failed. A server that could not be reached is no failure as long as there
    /// is a configuration to check.
    pub is_success: bool,
    /// Whether every resource is in the desired state now.
    pub is_compliant: bool,
    /// The configurations that the run was about.
    pub configurations: ConfigurationSet,
    /// Whether they were fetched in this run. What was fetched and refused is not among them.
    pub is_new: bool,
    /// Whether resources were set where they differed; without it they were looked at only, if at all.
    pub is_applied: bool,
    /// Every resource, in the order in which they were done.
    pub resources: Vec<ResourceStatus>,
    /// Whether the computer has to restart before the rest can be done.
    pub reboot_requested: bool,
    /// What went wrong apart from resources.
    pub errors: Vec<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
}

#[derive(Debug)]
enum Phase {
    Resting,
    /// Messages that are yet to be sent; the first is under way.
    Registering(VecDeque<RegistrationMessageType>),
    Asking {
        /// The names in the request; none if it named none.
        names: Vec<ConfigurationName>,
    },
    Fetching(Fetch),
    Working(Box<Work>),
}

#[derive(Debug)]
struct Fetch {
    /// The first is under way.
    wanted: VecDeque<ConfigurationName>,
    set: ConfigurationSet,
    fetched: Vec<(Bytes, Arc<Configuration>)>,
}

/// The run under way.
#[derive(Debug)]
struct Run {
    job_id: JobId,
    kind: RunKind,
    boot_id: String,
    started: Timestamp,
    /// Whether it was said that the run begins.
    is_announced: bool,
    /// Why nothing is to be set in this run.
    held: Option<&'static str>,
    has_rebooted: bool,
    has_registered: bool,
    has_asked_by_name: bool,
    is_new: bool,
    /// What kept the server from being asked.
    notes: Vec<String>,
    /// What makes the run a failure.
    failures: Vec<String>,
}

impl Run {
    const fn new(started: Timestamp, job_id: JobId, kind: RunKind, boot_id: String) -> Self {
        Self {
            job_id,
            kind,
            boot_id,
            started,
            is_announced: false,
            held: None,
            has_rebooted: false,
            has_registered: false,
            has_asked_by_name: false,
            is_new: false,
            notes: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// What came of it, of a run that applied nothing.
    fn into_report(
        self,
        now: Timestamp,
        configurations: ConfigurationSet,
        resources: Vec<ResourceStatus>,
        reboot_requested: bool,
    ) -> RunReport {
        let has_failed = resources.iter().any(|r| r.outcome == ResourceOutcome::Failed);
        // What a restart is awaited for is yet to be done.
        let is_done = if reboot_requested { !has_failed } else { !resources.iter().any(is_unfit) };
        let is_lost = configurations.is_empty() && !self.notes.is_empty();
        RunReport {
            job_id: self.job_id,
            is_success: is_done && self.failures.is_empty() && !is_lost,
            is_compliant: self.failures.is_empty()
                && self.held.is_none()
                && resources.iter().all(ResourceStatus::is_in_desired_state),
            configurations,
            is_new: self.is_new,
            is_applied: false,
            resources,
            reboot_requested,
            errors: self.failures.into_iter().chain(self.notes).collect(),
            started: self.started,
            ended: now,
        }
    }
}

fn is_unfit(resource: &ResourceStatus) -> bool {
    matches!(resource.outcome, ResourceOutcome::Failed | ResourceOutcome::Skipped)
}

/// Decides. One engine serves one local configuration manager.
#[derive(Debug)]
pub(super) struct Engine {
    settings: Metaconfiguration,
    agent_id: AgentId,
    pub(super) record: LcmRecord,
    documents: Documents,
    phase: Phase,
    run: Option<Run>,
}

impl Engine {
    pub(super) fn new(
        settings: Metaconfiguration,
        agent_id: AgentId,
        record: LcmRecord,
        documents: Documents,
    ) -> Self {
        Self { settings, agent_id, record, documents, phase: Phase::Resting, run: None }
    }

    /// Decides what to do about `input`.
    ///
    /// # Errors
    /// [`Error::Internal`] for an input that nothing was asked for.
    pub(super) fn step(&mut self, now: Timestamp, input: Input) -> Result<Vec<Effect>, Error> {
        let mut effects = Vec::new();
        match (input, std::mem::replace(&mut self.phase, Phase::Resting)) {
            (Input::Start { job_id, kind, boot_id }, Phase::Resting) if self.run.is_none() => {
                self.start(now, Run::new(now, job_id, kind, boot_id), &mut effects)?;
            }
            (Input::Answer(answer), Phase::Registering(left)) => {
                self.registered(now, answer, left, &mut effects)?;
            }
            (Input::Answer(answer), Phase::Asking { names }) => {
                self.told(now, answer, &names, &mut effects)?;
            }
            (Input::Answer(answer), Phase::Fetching(fetch)) => {
                self.fetched(now, answer, fetch, &mut effects)?;
            }
            (Input::Done(outcome), Phase::Working(mut work)) => {
                let was_asked = work.reboot_for.is_some();
                work.done(now, outcome);
                if !was_asked && work.reboot_for.is_some() {
                    // As soon as it is known: a crash later must not forget it.
                    let (job_id, boot_id) = (self.run()?.job_id, self.run()?.boot_id.clone());
                    self.append(LcmEvent::RebootRequested { job_id, boot_id }, &mut effects)?;
                }
                self.work(now, work, &mut effects)?;
            }
            (input, phase) => {
                let reason = format!("{input:?} does not fit {phase:?}");
                return Err(Error::Internal { reason });
            }
        }
        Ok(effects)
    }

    fn append(&mut self, event: LcmEvent, effects: &mut Vec<Effect>) -> Result<(), Error> {
        self.record.apply(&event)?;
        effects.push(Effect::Append(event));
        Ok(())
    }

    fn run(&mut self) -> Result<&mut Run, Error> {
        self.run.as_mut().ok_or_else(|| Error::Internal { reason: "no run is under way".into() })
    }

    fn start(&mut self, now: Timestamp, run: Run, effects: &mut Vec<Effect>) -> Result<(), Error> {
        let kind = run.kind;
        self.run = Some(run);
        if matches!(self.record.state, LcmState::Applying | LcmState::Checking) {
            self.append(LcmEvent::Interrupted, effects)?;
        }
        self.look_for_reboot(effects)?;
        if kind != RunKind::Refresh {
            self.announce(effects)?;
        }
        let names = &self.settings.configuration_names;
        let is_known = self.record.registered.as_ref().is_some_and(|(url, registered)| {
            *url == self.settings.server_url && registered == names
        });
        match (is_known, kind) {
            (false, _) => self.register(now, effects),
            (true, RunKind::Consistency) => self.begin_work(now, effects),
            (true, RunKind::Full | RunKind::Refresh) => self.ask(Vec::new(), effects),
        }
    }

    /// Whether the restart that was asked for has been.
    fn look_for_reboot(&mut self, effects: &mut Vec<Effect>) -> Result<(), Error> {
        let Some(reboot_from) = self.record.reboot_from.clone() else { return Ok(()) };
        let boot_id = self.run()?.boot_id.clone();
        if boot_id == reboot_from {
            self.run()?.held = Some("the computer has yet to restart");
            return Ok(());
        }
        self.append(LcmEvent::Rebooted { boot_id }, effects)?;
        self.run()?.has_rebooted = true;
        if self.settings.action_after_reboot == ActionAfterReboot::StopConfiguration {
            self.run()?.held = Some("the computer has restarted; the next run goes on");
        }
        Ok(())
    }

    /// Says that the run begins, once.
    fn announce(&mut self, effects: &mut Vec<Effect>) -> Result<(), Error> {
        let run = self.run()?;
        if std::mem::replace(&mut run.is_announced, true) {
            return Ok(());
        }
        let (job_id, started) = (run.job_id, run.started);
        if self.settings.reports {
            let report = start_report(&self.settings, job_id, self.operation_type(), started);
            effects.push(Effect::Report(Box::new(report)));
        }
        Ok(())
    }

    /// `Reboot` after a restart that was asked for; `Initial` as long as there is something to apply
    /// for the first time.
    fn operation_type(&self) -> &'static str {
        if self.run.as_ref().is_some_and(|run| run.has_rebooted) {
            return "Reboot";
        }
        match self.record.pending.is_some() || self.record.current.is_empty() {
            true => "Initial",
            false => "Consistency",
        }
    }

    fn register(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> Result<(), Error> {
        self.run()?.has_registered = true;
        let mut left = VecDeque::from([RegistrationMessageType::ConfigurationRepository]);
        if self.settings.reports {
            left.push_back(RegistrationMessageType::ReportServer);
        }
        self.register_next(now, left, effects)
    }

    fn register_next(
        &mut self,
        now: Timestamp,
        left: VecDeque<RegistrationMessageType>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        let Some(message_type) = left.front().copied() else {
            let server_url = self.settings.server_url.clone();
            let configuration_names = self.settings.configuration_names.clone();
            self.append(LcmEvent::Registered { server_url, configuration_names }, effects)?;
            return self.ask(Vec::new(), effects);
        };
        let is_repository = message_type == RegistrationMessageType::ConfigurationRepository;
        let names = Some(self.settings.configuration_names.clone());
        let body = RegisterDscAgentRequest {
            agent_information: AgentInformation {
                lcm_version: "2.0".to_owned(),
                node_name: self.settings.node_name.clone(),
                ip_address: String::new(),
            },
            configuration_names: names.filter(|names| is_repository && !names.is_empty()),
            registration_information: RegistrationInformation {
                certificate_information: CertificateInformation {
                    version: 3,
                    ..CertificateInformation::default()
                },
                registration_message_type: message_type,
            },
        };
        let body = encode(&body)?;
        let date = auth::x_ms_date(now);
        let headers = RequestHeaders {
            authorization: Some(auth::authorization(&self.settings.registration_key, &date, &body)),
            x_ms_date: Some(date),
            ..RequestHeaders::default()
        };
        let operation = Operation::RegisterDscAgent { agent_id: self.agent_id };
        effects.push(Effect::Ask(Request { headers, ..Request::new(operation, body) }));
        self.phase = Phase::Registering(left);
        Ok(())
    }

    fn registered(
        &mut self,
        now: Timestamp,
        answer: Result<Reply, Error>,
        mut left: VecDeque<RegistrationMessageType>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        match accept("RegisterDscAgent", answer) {
            Ok(_) => {
                left.pop_front();
                self.register_next(now, left, effects)
            }
            Err(error) => self.go_on_without(now, &error, effects),
        }
    }

    /// Asks what to do, naming configurations if the server wants that or there are several.
    fn ask(
        &mut self,
        names: Vec<ConfigurationName>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        let mut names = names;
        if names.is_empty() && self.settings.configuration_names.len() > 1 {
            for name in &self.settings.configuration_names {
                names.push(name.parse()?);
            }
        }
        let held = self.held();
        let status = |checksum: Option<&Checksum>, name: Option<String>| ClientStatus {
            checksum: checksum.map(ToString::to_string).unwrap_or_default(),
            configuration_name: name,
            checksum_algorithm: CHECKSUM_ALGORITHM.to_owned(),
        };
        let client_status = if names.is_empty() {
            // With several and no name the server would not know which one this is.
            let only = held.values().next().filter(|_| held.len() == 1);
            vec![status(only, None)]
        } else {
            names.iter().map(|name| status(held.get(name), Some(name.to_string()))).collect()
        };
        let operation = Operation::GetDscAction { agent_id: self.agent_id };
        let body = encode(&GetDscActionRequest { client_status })?;
        effects.push(Effect::Ask(Request::new(operation, body)));
        self.phase = Phase::Asking { names };
        Ok(())
    }

    /// The configurations that it should have and whose documents it can read.
    fn held(&self) -> ConfigurationSet {
        let wanted = self.record.wanted().iter();
        wanted
            .filter(|(_, checksum)| self.documents.contains_key(*checksum))
            .map(|(name, checksum)| (name.clone(), *checksum))
            .collect()
    }

    fn told(
        &mut self,
        now: Timestamp,
        answer: Result<Reply, Error>,
        names: &[ConfigurationName],
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        let decided = accept("GetDscAction", answer)
            .and_then(|reply| decode::<GetDscActionResponse>("GetDscAction response", &reply.body));
        let decided = match decided {
            Ok(decided) => decided,
            Err(Error::Refused { status: 401 | 404, .. }) if !self.run()?.has_registered => {
                self.append(LcmEvent::Unregistered, effects)?;
                return self.register(now, effects);
            }
            Err(error) => return self.go_on_without(now, &error, effects),
        };
        let mut actions = Vec::new();
        for detail in &decided.details {
            match detail.configuration_name.parse::<ConfigurationName>() {
                Ok(name) => actions.push((name, detail.status)),
                Err(error) => return self.go_on_failed(now, &error.into(), effects),
            }
        }
        if actions.len() > CONFIGURATIONS_MAX {
            let (actual, limit) = (actions.len(), CONFIGURATIONS_MAX);
            let error = Error::TooLarge { what: "configurations of a node", actual, limit };
            return self.go_on_failed(now, &error, effects);
        }
        let must_name = |(_, action): &(_, DscAction)| *action == DscAction::UpdateMetaConfig;
        if names.is_empty() && !self.run()?.has_asked_by_name && actions.iter().any(must_name) {
            self.run()?.has_asked_by_name = true;
            return self.ask(actions.into_iter().map(|(name, _)| name).collect(), effects);
        }
        if actions.is_empty() {
            return self.begin_work(now, effects);
        }
        let held = self.held();
        let (mut set, mut wanted) = (ConfigurationSet::new(), VecDeque::new());
        // An `Ok` without a name in the request is about the one that was held, whatever it was
        // called when it was fetched.
        let only = held.values().next().filter(|_| names.is_empty() && held.len() == 1);
        for (name, action) in actions {
            let same = only.filter(|_| action == DscAction::Ok);
            match (action, held.get(&name).or(same)) {
                (DscAction::GetConfiguration, _) => wanted.push_back(name),
                (_, Some(checksum)) => {
                    set.insert(name, *checksum);
                }
                (action, None) => {
                    let reason = format!("the server says {action:?} about `{name}`");
                    let error = Error::Invalid { what: "GetDscAction response", reason };
                    return self.go_on_without(now, &error, effects);
                }
            }
        }
        self.fetch(now, Fetch { wanted, set, fetched: Vec::new() }, effects)
    }

    fn fetch(
        &mut self,
        now: Timestamp,
        fetch: Fetch,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        if let Some(name) = fetch.wanted.front() {
            let configuration_name = name.to_string();
            let operation =
                Operation::GetConfiguration { agent_id: self.agent_id, configuration_name };
            effects.push(Effect::Ask(Request::new(operation, Bytes::new())));
            self.phase = Phase::Fetching(fetch);
            return Ok(());
        }
        let is_new = !fetch.fetched.is_empty();
        for (bytes, configuration) in fetch.fetched {
            self.documents.insert(Checksum::of(&bytes), configuration);
            effects.push(Effect::Keep(bytes));
        }
        if fetch.set != *self.record.wanted() {
            if let Some(id) = self.repeated_id(&fetch.set) {
                let reason = format!("two configurations of this node have the resource `{id}`");
                let error = Error::Invalid { what: "set of configurations", reason };
                return self.go_on_failed(now, &error, effects);
            }
            if let Err(error) = self.parts(&fetch.set) {
                return self.go_on_failed(now, &error, effects);
            }
            self.append(LcmEvent::Received { configurations: fetch.set }, effects)?;
        }
        self.run()?.is_new = is_new;
        self.begin_work(now, effects)
    }

    fn repeated_id(&self, set: &ConfigurationSet) -> Option<String> {
        let mut seen = HashSet::new();
        let configurations = set.values().filter_map(|checksum| self.documents.get(checksum));
        let mut resources = configurations.flat_map(|configuration| &configuration.resources);
        let repeated = resources.find(|resource| !seen.insert(resource.resource_id.to_lowercase()));
        repeated.map(|resource| resource.resource_id.clone())
    }

    fn fetched(
        &mut self,
        now: Timestamp,
        answer: Result<Reply, Error>,
        mut fetch: Fetch,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        let Some(name) = fetch.wanted.pop_front() else {
            return Err(Error::Internal { reason: "nothing was to be fetched".into() });
        };
        let reply = match accept("GetConfiguration", answer) {
            Ok(reply) => reply,
            Err(error) => return self.go_on_without(now, &error, effects),
        };
        match check_document(&name, &reply) {
            Ok((checksum, configuration)) => {
                fetch.set.insert(name, checksum);
                fetch.fetched.push((reply.body, configuration));
                self.fetch(now, fetch, effects)
            }
            Err(error) => self.go_on_failed(now, &error, effects),
        }
    }

    /// The server cannot be asked: what there is can still be checked.
    fn go_on_without(
        &mut self,
        now: Timestamp,
        error: &Error,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        self.run()?.notes.push(error.to_string());
        self.begin_work(now, effects)
    }

    /// What the server gave cannot be used: the run has failed, and what there is stays.
    fn go_on_failed(
        &mut self,
        now: Timestamp,
        error: &Error,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        self.run()?.failures.push(error.to_string());
        self.begin_work(now, effects)
    }

    fn begin_work(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> Result<(), Error> {
        let run = self.run()?;
        let (job_id, kind, is_held) = (run.job_id, run.kind, run.held.is_some());
        let mode = match (self.settings.configuration_mode, &self.record.pending) {
            _ if is_held => return self.end(now, None, effects),
            (_, None) if kind == RunKind::Refresh => return self.end(now, None, effects),
            (ConfigurationMode::ApplyOnly, None) => return self.end(now, None, effects),
            (ConfigurationMode::MonitorOnly, _) | (ConfigurationMode::ApplyAndMonitor, None) => {
                Mode::Test
            }
            _ => Mode::Apply,
        };
        let wanted = self.record.wanted().clone();
        let held = self.held();
        if held.len() < wanted.len() {
            let missing: Vec<String> =
                wanted.keys().filter(|n| !held.contains_key(n)).map(ToString::to_string).collect();
            let reason =
                format!("the stored document is missing or damaged: {}", missing.join(", "));
            self.run()?.failures.push(reason);
            return self.end(now, None, effects);
        }
        if wanted.is_empty() && self.record.pending.is_none() {
            return self.end(now, None, effects);
        }
        let parts = match self.parts(&held) {
            Ok(parts) => parts,
            Err(error) => {
                self.run()?.failures.push(error.to_string());
                return self.end(now, None, effects);
            }
        };
        self.announce(effects)?;
        let event = match self.record.pending {
            Some(_) => LcmEvent::ApplyBegan { job_id },
            None => LcmEvent::CheckBegan { job_id },
        };
        self.append(event, effects)?;
        self.work(now, Box::new(Work::new(mode, parts)), effects)
    }

    /// The documents of a set, in the order of the metaconfiguration's partial configurations.
    fn parts(&self, set: &ConfigurationSet) -> Result<Vec<Part>, Error> {
        partial::parts(&self.settings.partial_configurations, set, &self.documents)
    }

    fn work(
        &mut self,
        now: Timestamp,
        mut work: Box<Work>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        match work.next(now) {
            Some(task) => {
                effects.push(Effect::Do(task));
                self.phase = Phase::Working(work);
                Ok(())
            }
            None => self.end(now, Some(*work), effects),
        }
    }

    fn end(
        &mut self,
        now: Timestamp,
        work: Option<Work>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        let operation_type = self.operation_type();
        let configurations = self.record.wanted().clone();
        let reboot_requested = self.record.reboot_from.is_some();
        let ended = work.as_ref().is_some_and(|work| work.reboot_for.is_none());
        let is_applied = work.as_ref().is_some_and(Work::is_applying);
        let resources = work.map(|work| work.statuses).unwrap_or_default();
        if ended {
            let job_id = self.run()?.job_id;
            let is_success = !resources.iter().any(is_unfit);
            self.append(LcmEvent::Ended { job_id, is_success }, effects)?;
        }
        let restarts = reboot_requested && self.may_restart()?;
        let run = self.run()?;
        run.notes.extend(run.held.map(str::to_owned));
        if !run.notes.is_empty() || !run.failures.is_empty() {
            self.announce(effects)?;
        }
        let Some(run) = self.run.take() else {
            return Err(Error::Internal { reason: "no run is under way".into() });
        };
        let is_announced = run.is_announced;
        let report = RunReport {
            is_applied,
            ..run.into_report(now, configurations, resources, reboot_requested)
        };
        if self.settings.reports && is_announced {
            let version = self.version_of(&report.configurations);
            let sent = end_report(
                &self.settings,
                self.agent_id,
                operation_type,
                self.record.state,
                version,
                &report,
            );
            effects.push(Effect::Report(Box::new(sent)));
        }
        effects.push(Effect::End(Box::new(report)));
        effects.extend(restarts.then_some(Effect::Restart));
        Ok(())
    }

    /// Whether a restart that was asked for is to be: not where restarts in a row change nothing.
    fn may_restart(&mut self) -> Result<bool, Error> {
        if !self.settings.reboot_node_if_needed {
            return Ok(false);
        }
        if self.record.reboots >= REBOOTS_MAX {
            let failure = format!("{REBOOTS_MAX} restarts in a row did not bring it to its end");
            self.run()?.failures.push(failure);
            return Ok(false);
        }
        Ok(true)
    }

    fn version_of(&self, set: &ConfigurationSet) -> Option<String> {
        let first = set.values().find_map(|checksum| self.documents.get(checksum))?;
        Some(first.document.version.clone())
    }
}

fn encode(body: &impl serde::Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| Error::Internal { reason: error.to_string() })
}

/// The reply, if it is a success.
pub(super) fn accept(
    operation: &'static str,
    answer: Result<Reply, Error>,
) -> Result<Reply, Error> {
    const MESSAGE_CHARS_MAX: usize = 500;
    let reply = answer?;
    if reply.is_success() {
        return Ok(reply);
    }
    let text: String =
        String::from_utf8_lossy(&reply.body).chars().take(MESSAGE_CHARS_MAX).collect();
    let json: HashMap<String, serde_json::Value> =
        serde_json::from_slice(&reply.body).unwrap_or_default();
    let message = json.get("odata.error").and_then(|error| error["message"]["value"].as_str());
    let message = message.map_or(text, |text| text.chars().take(MESSAGE_CHARS_MAX).collect());
    Err(Error::Refused { operation, status: reply.status, message })
}

/// Checks a fetched document against its checksum, and reads it.
fn check_document(
    name: &ConfigurationName,
    reply: &Reply,
) -> Result<(Checksum, Arc<Configuration>), Error> {
    let checksum = Checksum::of(&reply.body);
    let corrupt =
        |reason: String| Error::Corrupt { what: format!("configuration `{name}`"), reason };
    let algorithm = reply.header("ChecksumAlgorithm").unwrap_or(CHECKSUM_ALGORITHM);
    if !algorithm.eq_ignore_ascii_case(CHECKSUM_ALGORITHM) {
        let name = algorithm.to_owned();
        return Err(Error::Unsupported { what: "checksum algorithm", name });
    }
    let sent =
        reply.header("Checksum").ok_or_else(|| corrupt("it came without a checksum".into()))?;
    if sent.trim().parse() != Ok(checksum) {
        return Err(corrupt(format!("its checksum is {checksum}, announced was {sent}")));
    }
    let configuration = Configuration::parse(name.as_str(), &reply.body)?;
    Ok((checksum, Arc::new(configuration)))
}
