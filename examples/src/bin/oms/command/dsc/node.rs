//! `oms dsc apply|test|get|pull`: this machine's own state.

use super::{read, secret, shown};
use crate::command::{Output, Place, absolute};
use crate::data::{DataDir, OpenError, read_secret};
use crate::serve;
use anyhow::{Context, Result, bail};
use clap::Args;
use oms_core::{Clock, Secret, SystemClock};
use oms_dsc::configuration::Configuration;
use oms_dsc::configuration::credential::RecipientKey;
use oms_dsc::node::{
    ConfigurationMode, HttpOptions, HttpTransport, Lcm, Metaconfiguration, ResourceOutcome,
    ResourceStatus, RunKind, RunReport, Timetable,
};
use oms_dsc::resource::{Difference, Registry};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A document about this machine.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Document {
    /// The document.
    file: PathBuf,
    /// Refuse every path outside of this folder; users, groups and packages are those below it.
    #[arg(long)]
    within: Option<PathBuf>,
    #[command(flatten)]
    certificate: Certificate,
}

/// The certificate that passwords for this machine are encrypted for.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Certificate {
    /// This machine's certificate in PEM, to open the passwords that were encrypted for it.
    #[arg(long, requires = "certificate_key")]
    certificate: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, requires = "certificate")]
    certificate_key: Option<PathBuf>,
}

impl Certificate {
    fn absolute(&mut self) -> Result<()> {
        absolute(&mut self.certificate)?;
        absolute(&mut self.certificate_key)
    }

    /// The resources of this machine, or of the one below a folder, which get passwords in the clear if
    /// there is a key.
    fn resources(&self, within: Option<&Path>) -> Result<Registry> {
        let resources = Registry::standard(within)?;
        let (Some(certificate), Some(key)) = (&self.certificate, &self.certificate_key) else {
            return Ok(resources);
        };
        let key = RecipientKey::from_pem(&read(certificate)?, &read_secret(key)?);
        let key = key.with_context(|| format!("certificate {}", certificate.display()))?;
        Ok(resources.with_recipient_key(Arc::new(key)))
    }
}

/// What to do about a document.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(super) document: Document,
    /// Tell what would be changed, and change nothing.
    #[arg(long)]
    what_if: bool,
}

/// How this machine is to pull.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Pull {
    /// The server's address, ending in /PSDSCPullServer.svc.
    #[arg(long, required_unless_present = "metaconfiguration")]
    server: Option<String>,
    /// The registration key; better in a file.
    #[arg(long, value_parser = secret)]
    #[serde(skip)]
    registration_key: Option<Secret>,
    /// A file that holds the registration key.
    #[arg(
        long,
        required_unless_present_any = ["registration_key", "metaconfiguration"],
        conflicts_with = "registration_key"
    )]
    registration_key_file: Option<PathBuf>,
    /// The configuration to register for; several of them make the state together.
    #[arg(long, required_unless_present = "metaconfiguration")]
    configuration: Vec<String>,
    /// A metaconfiguration document that says the rest; flags are worth more.
    #[arg(long)]
    metaconfiguration: Option<PathBuf>,
    /// What is done about the state: MonitorOnly, ApplyOnly, ApplyAndMonitor (the default) or
    /// ApplyAndAutoCorrect, which also corrects what changes later.
    #[arg(long, value_parser = mode)]
    mode: Option<ConfigurationMode>,
    /// How often the server is asked, in minutes, with --watch [default: 30].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    refresh_minutes: Option<u32>,
    /// How often the state is checked, in minutes, with --watch [default: 15].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    check_minutes: Option<u32>,
    /// Restart this machine when a resource asks for it.
    #[arg(long)]
    reboot_if_needed: bool,
    /// Go on until asked to end: ask the server and check the state whenever that is due.
    #[arg(long, conflicts_with = "what_if")]
    watch: bool,
    /// Tell what the server's configuration would change, and change nothing. The machine has to be
    /// registered.
    #[arg(long)]
    what_if: bool,
    /// Certificates in PEM of the authorities that vouch for the server, in place of the public
    /// ones.
    #[arg(long)]
    server_ca: Option<PathBuf>,
    /// The folder that keeps this node's identity and state [default: node, in the data directory].
    #[arg(long)]
    state: Option<PathBuf>,
    #[command(flatten)]
    certificate: Certificate,
}

fn mode(text: &str) -> Result<ConfigurationMode, String> {
    ConfigurationMode::parse(text).ok_or_else(|| {
        let all = ConfigurationMode::ALL.map(ConfigurationMode::as_str);
        format!("it is one of {}", all.join(", "))
    })
}

impl Document {
    pub(super) fn absolute(&mut self) -> Result<()> {
        absolute([&mut self.file])?;
        absolute(&mut self.within)?;
        self.certificate.absolute()
    }

    fn configuration(&self) -> Result<Arc<Configuration>> {
        let name = self.file.display().to_string();
        Ok(Arc::new(Configuration::parse(&name, &read(&self.file)?).map_err(shown)?))
    }

    fn resources(&self) -> Result<Registry> {
        self.certificate.resources(self.within.as_deref())
    }

    pub(super) async fn test(&self) -> Result<Output> {
        let (configuration, resources) = (self.configuration()?, self.resources()?);
        Ok(told(&oms_dsc::node::test(configuration, &resources, &SystemClock).await, false))
    }

    pub(super) async fn get(&self) -> Result<Output> {
        let found = oms_dsc::node::get(&*self.configuration()?, &self.resources()?).await?;
        let mut text = String::new();
        for (id, properties) in &found {
            text.push_str(&format!("{id}\n"));
            for (name, value) in properties {
                text.push_str(&format!("  {name} = {value}\n"));
            }
        }
        let json = json!(found.into_iter().collect::<std::collections::BTreeMap<_, _>>());
        Ok(Output::new(text, json))
    }
}

impl Apply {
    pub(super) async fn run(&self) -> Result<Output> {
        let (configuration, resources) =
            (self.document.configuration()?, self.document.resources()?);
        if self.what_if {
            let found = oms_dsc::node::test(configuration, &resources, &SystemClock).await;
            return Ok(told(&found, true));
        }
        Ok(told(&oms_dsc::node::apply(configuration, &resources, &SystemClock).await, false))
    }
}

/// What became of resources. A preview is a success if each could be looked at.
fn told(statuses: &[ResourceStatus], is_preview: bool) -> Output {
    let (mut text, mut rows) = (String::new(), Vec::new());
    for status in statuses {
        let outcome = match (is_preview, status.outcome) {
            (true, ResourceOutcome::Different) => "would be changed".to_owned(),
            (_, outcome) => format!("{outcome:?}"),
        };
        text.push_str(&format!("{}: {outcome}\n", status.resource_id));
        for difference in &status.differences {
            show_difference(&mut text, difference, status.outcome);
        }
        if let Some(error) = &status.error {
            text.push_str(&format!("  error: {error}\n"));
        }
        let differences: Vec<String> = status.differences.iter().map(ToString::to_string).collect();
        let change = |d: &Difference| {
            json!({
                "property": d.property, "before": d.found, "desired": d.desired, "diff": d.diff,
            })
        };
        rows.push(json!({
            "resource_id": status.resource_id, "outcome": format!("{:?}", status.outcome),
            "in_desired_state": status.is_in_desired_state(), "differences": differences,
            "changes": status.differences.iter().map(change).collect::<Vec<Value>>(),
            "error": status.error,
        }));
    }
    let is_compliant = statuses.iter().all(ResourceStatus::is_in_desired_state);
    let needs_reboot = statuses.iter().any(|s| s.outcome == ResourceOutcome::RebootPending);
    let has_failed = statuses.iter().any(|s| s.outcome == ResourceOutcome::Failed);
    let verdict = match (is_preview, is_compliant, needs_reboot) {
        (_, true, _) => "this machine is in the desired state\n",
        (true, false, _) => "nothing was changed\n",
        (false, false, true) => "this machine has to restart; then apply the document again\n",
        (false, false, false) => "this machine is not in the desired state\n",
    };
    text.push_str(verdict);
    let json = json!({
        "is_compliant": is_compliant, "reboot_requested": needs_reboot, "resources": rows,
    });
    let output = Output::new(text, json);
    if is_compliant || is_preview && !has_failed { output } else { output.failed() }
}

/// One property: what it was, and what it is or should be.
fn show_difference(text: &mut String, difference: &Difference, outcome: ResourceOutcome) {
    let Difference { property, found, desired, .. } = difference;
    match outcome {
        ResourceOutcome::Corrected => {
            text.push_str(&format!("  {property} was {found}, is {desired}\n"));
        }
        _ => text.push_str(&format!("  {difference}\n")),
    }
    for line in difference.diff.iter().flat_map(|diff| diff.lines()) {
        text.push_str(&format!("    {line}\n"));
    }
}

impl Pull {
    pub(super) fn absolute(&mut self) -> Result<()> {
        absolute(&mut self.registration_key_file)?;
        absolute(&mut self.metaconfiguration)?;
        absolute(&mut self.server_ca)?;
        absolute(&mut self.state)?;
        self.certificate.absolute()
    }

    /// The key that it registers with, if not that of the metaconfiguration.
    pub(super) fn registration_key(&self) -> Result<Option<Secret>> {
        match (&self.registration_key, &self.registration_key_file) {
            (Some(key), _) => Ok(Some(key.clone())),
            (None, Some(file)) => read_secret(file).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn settings(&self) -> Result<Metaconfiguration> {
        let key = self.registration_key()?;
        let mut settings = match (&self.metaconfiguration, &self.server) {
            (Some(file), _) => {
                let name = file.display().to_string();
                Metaconfiguration::parse(&name, &read(file)?).map_err(shown)?
            }
            (None, Some(server)) => {
                Metaconfiguration::new(server, key.clone().context("no registration key")?)
            }
            (None, None) => bail!("neither a server nor a metaconfiguration"),
        };
        if let Some(server) = &self.server {
            settings.server_url.clone_from(server);
        }
        if let Some(key) = key {
            settings.registration_key = key;
        }
        if !self.configuration.is_empty() {
            settings.configuration_names.clone_from(&self.configuration);
        }
        settings.configuration_mode = self.mode.unwrap_or(settings.configuration_mode);
        settings.refresh_frequency_minutes =
            self.refresh_minutes.unwrap_or(settings.refresh_frequency_minutes);
        settings.configuration_mode_frequency_minutes =
            self.check_minutes.unwrap_or(settings.configuration_mode_frequency_minutes);
        settings.reboot_node_if_needed |= self.reboot_if_needed;
        Ok(settings)
    }

    /// The folder of the node's state. One in the data directory makes that a data directory; whoever
    /// serves it may go on.
    fn state(&self, data: &Path) -> Result<PathBuf> {
        if let Some(state) = &self.state {
            std::fs::create_dir_all(state)
                .with_context(|| format!("folder {}", state.display()))?;
            return Ok(state.clone());
        }
        match DataDir::open(data) {
            Ok(data) => data.folder("node"),
            Err(OpenError::InUse { .. }) => crate::data::folder(data, "node"),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn run(&self, place: &Place<'_>) -> Result<Output> {
        let settings = self.settings()?;
        // Before anything is made: what is wrong with the certificates should leave nothing behind.
        let options = HttpOptions {
            root_certificates_pem: self.server_ca.as_deref().map(read).transpose()?,
            allow_unsecure_connection: settings.allow_unsecure_connection,
        };
        let transport = Arc::new(HttpTransport::new(&settings.server_url, &options)?);
        let times = Timetable::new(&settings, SystemClock.monotonic());
        let node = Lcm::builder(self.state(place.data)?, settings)
            .resources(self.certificate.resources(None)?)
            .transport(transport);
        let mut node = node.build().await?;
        if self.what_if {
            let report = node.preview().await?;
            return Ok(outcome(&report, RunKind::Full, 0, true));
        }
        if self.watch {
            let json = place.json;
            watch(&mut node, times, |told| say(told, json)).await?;
            return Ok(Output::new("", json!({"ended": "by a signal"})));
        }
        run_once(&mut node, RunKind::Full).await
    }
}

async fn run_once(node: &mut Lcm, kind: RunKind) -> Result<Output> {
    let report = node.run_as(kind).await?;
    Ok(outcome(&report, kind, node.reports_waiting().await?, false))
}

/// Runs whenever that is due until it is asked to end, and tells each run as it ends. One that failed,
/// as when a disk was full, is followed by the next: it may be possible again.
async fn watch(
    node: &mut Lcm,
    mut times: Timetable,
    mut tell: impl FnMut(Result<Output>),
) -> Result<()> {
    let mut signals = serve::Signals::listen()?;
    loop {
        let turn = async {
            let now = SystemClock.monotonic();
            let Some(kind) = times.due(now) else {
                tokio::time::sleep(times.next().saturating_sub(now)).await;
                return None;
            };
            Some(run_once(node, kind).await)
        };
        // A run that is interrupted is one that crashed: the next one goes on from there.
        let told = tokio::select! {
            told = turn => told,
            () = signals.next() => return Ok(()),
        };
        if let Some(told) = told {
            tell(told);
        }
    }
}

/// Prints what became of one run of several.
fn say(told: Result<Output>, json: bool) {
    match told {
        Ok(told) if json => crate::say!("{}", told.json),
        Ok(told) => crate::say!("{}", told.text.trim_end()),
        Err(error) => {
            if json {
                crate::say!("{}", json!({"error": format!("{error:#}")}));
            }
            crate::tell(&format!("{error:#}; the next run tries again"));
        }
    }
}

/// What a run did, in words.
fn what(report: &RunReport, kind: RunKind, is_preview: bool) -> &'static str {
    let is_looked_at = !report.resources.is_empty();
    match (report.is_new, kind) {
        (true, _) if is_preview => "a new configuration was looked at",
        (true, _) if report.is_applied => "a configuration was fetched and applied",
        (true, _) if is_looked_at => "a configuration was fetched and looked at",
        (true, _) => "a configuration was fetched, and not applied yet",
        (false, RunKind::Consistency) => "the configuration was checked",
        (false, _) if report.errors.is_empty() => "the configuration had not changed",
        (false, _) => "no new configuration was taken over",
    }
}

fn outcome(report: &RunReport, kind: RunKind, waiting: usize, is_preview: bool) -> Output {
    let mut output = told(&report.resources, is_preview);
    let what = what(report, kind, is_preview);
    let mut text = format!("run {}: {what}\n", report.job_id);
    // Of what was not looked at nothing is known.
    if !report.resources.is_empty() {
        text.push_str(&output.text);
    }
    for error in &report.errors {
        text.push_str(&format!("error: {error}\n"));
    }
    if waiting > 0 {
        text.push_str(&format!("{waiting} reports wait for the server\n"));
    }
    output.text = text;
    if let Value::Object(json) = &mut output.json {
        json.insert("run".to_owned(), json!(report.job_id.to_string()));
        json.insert("is_new".to_owned(), json!(report.is_new));
        json.insert("is_applied".to_owned(), json!(report.is_applied));
        json.insert("is_compliant".to_owned(), json!(report.is_compliant));
        json.insert("reboot_requested".to_owned(), json!(report.reboot_requested));
        json.insert("errors".to_owned(), json!(report.errors));
        json.insert("reports_waiting".to_owned(), json!(waiting));
    }
    output.is_success = report.is_success && (report.is_compliant || is_preview);
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::Secret;
    use oms_dsc::node::Transport;
    use oms_dsc::protocol::{Reply, Request};
    use std::cell::RefCell;

    /// A server that is not there.
    #[derive(Debug)]
    struct Nobody;

    #[async_trait::async_trait]
    impl Transport for Nobody {
        async fn exchange(&self, request: &Request) -> Result<Reply, oms_dsc::Error> {
            let operation = request.operation.name();
            Err(oms_dsc::Error::Unreachable { operation, reason: "nobody is there".into() })
        }
    }

    /// A node that runs for weeks, on a disk that cannot be written for a while.
    #[tokio::test]
    async fn a_run_that_cannot_keep_its_state_does_not_end_a_watch() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Metaconfiguration::new("http://localhost", Secret::from("key"));
        let times = Timetable::new(&settings, SystemClock.monotonic());
        let node = Lcm::builder(folder.path(), settings).transport(Arc::new(Nobody));
        let mut node = node.build().await.expect("a node");
        let outbox = folder.path().join("outbox");
        std::fs::remove_dir(&outbox).expect("it is empty");
        std::fs::write(&outbox, "in the way").expect("written");

        let told = RefCell::new(Vec::new());
        let watching = watch(&mut node, times, |run| told.borrow_mut().push(run));
        tokio::pin!(watching);
        while told.borrow().is_empty() {
            tokio::select! {
                biased;
                ended = &mut watching => panic!("it ended: {ended:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        let why = told.borrow_mut().remove(0).err().map(|error| format!("{error:#}"));
        assert!(why.as_ref().is_some_and(|why| why.contains("outbox")), "{why:?}");
        tokio::select! {
            biased;
            ended = &mut watching => panic!("it ended: {ended:?}"),
            () = tokio::task::yield_now() => {}
        }
    }

    #[test]
    fn a_run_is_told_by_what_it_did() {
        let report = |is_new: bool, is_applied: bool, errors: &[&str]| RunReport {
            job_id: "0b0f9d1c-0000-4000-8000-000000000000".parse().expect("an id"),
            is_success: errors.is_empty(),
            is_compliant: errors.is_empty(),
            configurations: std::collections::BTreeMap::new(),
            is_new,
            is_applied,
            resources: Vec::new(),
            reboot_requested: false,
            errors: errors.iter().map(|error| (*error).to_owned()).collect(),
            started: jiff::Timestamp::UNIX_EPOCH,
            ended: jiff::Timestamp::UNIX_EPOCH,
        };
        let applied = what(&report(true, true, &[]), RunKind::Full, false);
        assert_eq!(applied, "a configuration was fetched and applied");
        let mut monitored = report(true, false, &[]);
        monitored.resources.push(ResourceStatus {
            resource_id: "[File]x".to_owned(),
            type_name: "File".to_owned(),
            instance_name: "x".to_owned(),
            source_info: None,
            module_name: None,
            module_version: None,
            configuration_name: None,
            outcome: ResourceOutcome::Different,
            differences: Vec::new(),
            remaining: Vec::new(),
            error: None,
            started: jiff::Timestamp::UNIX_EPOCH,
            duration_seconds: 0.0,
        });
        let looked = what(&monitored, RunKind::Full, false);
        assert_eq!(looked, "a configuration was fetched and looked at");
        let held = report(true, false, &["the computer has yet to restart"]);
        let held = what(&held, RunKind::Full, false);
        assert_eq!(held, "a configuration was fetched, and not applied yet");
        let refused = what(&report(false, true, &["two of one id"]), RunKind::Full, false);
        assert_eq!(refused, "no new configuration was taken over");
    }
}
