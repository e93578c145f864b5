//! Services: `Service` of Windows and `nxService`, by whatever controls them here.

use super::command::{Program, find};
use super::property::Properties;
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

const CLASSES: [&str; 3] = ["MSFT_ServiceResource", "MSFT_nxServiceResource", "MSFT_nxService"];

const KNOWN: [&str; 6] = ["Name", "Ensure", "Controller", "Enabled", "State", "StartupType"];

/// How a service is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServiceState {
    /// Whether it runs, or is about to.
    pub is_running: bool,
    /// Whether it starts with the system.
    pub is_enabled: bool,
}

/// What controls the services of a system.
#[async_trait]
pub trait ServiceController: Debug + Send + Sync {
    /// Its name, as `Controller` spells it: `systemd`.
    fn name(&self) -> &str;

    /// How a service is; none if there is none of that name.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it does not run, or what kept it from looking.
    async fn state(&self, service: &str) -> Result<Option<ServiceState>, Error>;

    /// Starts or stops a service, and waits until it has.
    ///
    /// # Errors
    /// What kept it from doing so.
    async fn set_running(&self, service: &str, is_running: bool) -> Result<(), Error>;

    /// Says whether a service starts with the system.
    ///
    /// # Errors
    /// What kept it from doing so.
    async fn set_enabled(&self, service: &str, is_enabled: bool) -> Result<(), Error>;
}

/// Services of this system.
#[derive(Clone, Debug)]
pub struct ServiceResource {
    controller: Arc<dyn ServiceController>,
}

impl ServiceResource {
    /// Services that this controller controls.
    #[must_use]
    pub fn new(controller: Arc<dyn ServiceController>) -> Self {
        Self { controller }
    }

    async fn differences(&self, desired: &Desired) -> Result<Vec<Difference>, Error> {
        let found = self.found(desired).await?;
        let mut differences = Vec::new();
        let running = |on: bool| if on { "Running" } else { "Stopped" };
        if let Some(wanted) = desired.running.filter(|wanted| *wanted != found.is_running) {
            let (found, wanted) = (running(found.is_running), running(wanted));
            differences.push(Difference::new("State", found, wanted));
        }
        if let Some(wanted) = desired.enabled.filter(|wanted| *wanted != found.is_enabled) {
            let (found, wanted) = (found.is_enabled.to_string(), wanted.to_string());
            differences.push(Difference::new("Enabled", found, wanted));
        }
        Ok(differences)
    }

    async fn found(&self, desired: &Desired) -> Result<ServiceState, Error> {
        if let Some(controller) = &desired.controller
            && !controller.eq_ignore_ascii_case(self.controller.name())
        {
            return Err(Error::Unsupported { what: "Controller", name: controller.clone() });
        }
        let not_found = || Error::NotFound { what: "service", name: desired.name.clone() };
        self.controller.state(&desired.name).await?.ok_or_else(not_found)
    }
}

#[async_trait]
impl Resource for ServiceResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        let desired = Desired::of(instance)?;
        let found = self.found(&desired).await?;
        Ok(BTreeMap::from([
            ("Name".to_owned(), json!(desired.name)),
            ("Controller".to_owned(), json!(self.controller.name())),
            ("State".to_owned(), json!(if found.is_running { "Running" } else { "Stopped" })),
            ("Enabled".to_owned(), json!(found.is_enabled)),
        ]))
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.differences(&Desired::of(instance)?).await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        let desired = Desired::of(instance)?;
        let found = self.found(&desired).await?;
        if let Some(wanted) = desired.enabled.filter(|wanted| *wanted != found.is_enabled) {
            self.controller.set_enabled(&desired.name, wanted).await?;
        }
        if let Some(wanted) = desired.running.filter(|wanted| *wanted != found.is_running) {
            self.controller.set_running(&desired.name, wanted).await?;
        }
        Ok(SetReport::default())
    }
}

/// What should be.
#[derive(Clone, Debug)]
struct Desired {
    name: String,
    controller: Option<String>,
    running: Option<bool>,
    enabled: Option<bool>,
}

impl Desired {
    fn of(instance: &ResourceInstance) -> Result<Self, Error> {
        let read = Properties::new(instance, "Service resource", &KNOWN)?;
        let name = read.needed("Name")?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "@._:-\\".contains(c);
        if name.starts_with('-') || !name.chars().all(is_name) {
            return Err(read.invalid("Name", &format!("`{name}` is not the name of a service")));
        }
        if read.ensure()? == super::property::Ensure::Absent {
            return Err(read.unsupported("Ensure `Absent`"));
        }
        let is_windows = instance.class.eq_ignore_ascii_case("MSFT_ServiceResource");
        let running = match read.word("State")?.as_deref() {
            Some("running") => Some(true),
            Some("stopped") => Some(false),
            Some("ignore") => None,
            // A service of Windows that is only named is to run.
            None => is_windows.then_some(true),
            Some(other) => return Err(read.invalid("State", other)),
        };
        let startup = match read.word("StartupType")?.as_deref() {
            None => None,
            Some("automatic") => Some(true),
            Some("manual") => Some(false),
            // Nobody may start such a one at all, which is another state than not starting it.
            Some(other) => return Err(read.unsupported(&format!("StartupType `{other}`"))),
        };
        let enabled = read.flag("Enabled")?.or(startup);
        let controller = read.filled("Controller")?.map(str::to_owned);
        Ok(Self { name: name.to_owned(), controller, running, enabled })
    }
}

/// systemd, over `systemctl`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Systemd;

/// It is there while systemd runs the system.
const RUNS: &str = "/run/systemd/system";

impl Systemd {
    fn program(self, arguments: &[&str]) -> Result<Program, Error> {
        let name = || "systemd: it does not run this system".to_owned();
        let unsupported = || Error::Unsupported { what: "Controller", name: name() };
        if !Path::new(RUNS).is_dir() {
            return Err(unsupported());
        }
        let path = find(&["systemctl"]).ok_or_else(unsupported)?;
        Ok(Program::new(path, arguments.iter().copied()))
    }
}

#[async_trait]
impl ServiceController for Systemd {
    fn name(&self) -> &str {
        "systemd"
    }

    async fn state(&self, service: &str) -> Result<Option<ServiceState>, Error> {
        let properties = "--property=LoadState,ActiveState,UnitFileState";
        let ran = self.program(&["show", properties, "--", &unit(service)])?.run_well().await?;
        Ok(parse_state(&String::from_utf8_lossy(&ran.output)))
    }

    async fn set_running(&self, service: &str, is_running: bool) -> Result<(), Error> {
        let verb = if is_running { "start" } else { "stop" };
        self.program(&[verb, "--", &unit(service)])?.run_well().await.map(|_| ())
    }

    async fn set_enabled(&self, service: &str, is_enabled: bool) -> Result<(), Error> {
        let verb = if is_enabled { "enable" } else { "disable" };
        self.program(&[verb, "--", &unit(service)])?.run_well().await.map(|_| ())
    }
}

/// The unit of a service: `ssh.service`, or what is named with its kind.
fn unit(service: &str) -> String {
    const KINDS: [&str; 5] = [".service", ".socket", ".timer", ".target", ".mount"];
    match KINDS.iter().any(|kind| service.ends_with(kind)) {
        true => service.to_owned(),
        false => format!("{service}.service"),
    }
}

/// Reads what `systemctl show` prints.
fn parse_state(text: &str) -> Option<ServiceState> {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value.trim())
    };
    if value("LoadState") == Some("not-found") {
        return None;
    }
    let is_running = matches!(value("ActiveState"), Some("active" | "activating" | "reloading"));
    let is_enabled =
        matches!(value("UnitFileState"), Some("enabled" | "enabled-runtime" | "alias"));
    Some(ServiceState { is_running, is_enabled })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_prints_is_read() {
        let check = |text: &str, expect: Option<(bool, bool)>| {
            let found = parse_state(text).map(|state| (state.is_running, state.is_enabled));
            assert_eq!(found, expect, "{text:?}");
        };
        check("LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n", Some((true, true)));
        check(
            "LoadState=loaded\nActiveState=failed\nUnitFileState=disabled\n",
            Some((false, false)),
        );
        check(
            "LoadState=loaded\nActiveState=inactive\nUnitFileState=static\n",
            Some((false, false)),
        );
        check("LoadState=not-found\nActiveState=inactive\nUnitFileState=\n", None);
        assert_eq!((unit("ssh"), unit("apt.timer")), ("ssh.service".into(), "apt.timer".into()));
    }
}
