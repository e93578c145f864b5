//! How a local configuration manager is to behave.

use crate::Error;
use crate::mof::{self, Diagnostic, Document, Instance, Position, ValueKind};
use jiff::SignedDuration;
use oms_core::Secret;
use serde::{Deserialize, Serialize};

/// What a node does about the configuration it has (`ConfigurationMode`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ConfigurationMode {
    /// It applies a new configuration once, and does not look again.
    ApplyOnly,
    /// It applies a new one, and reports later differences.
    #[default]
    ApplyAndMonitor,
    /// It applies a new one, and corrects later differences.
    ApplyAndAutoCorrect,
    /// It never changes anything, and reports differences.
    MonitorOnly,
}

impl ConfigurationMode {
    /// Its spelling in metaconfigurations and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApplyOnly => "ApplyOnly",
            Self::ApplyAndMonitor => "ApplyAndMonitor",
            Self::ApplyAndAutoCorrect => "ApplyAndAutoCorrect",
            Self::MonitorOnly => "MonitorOnly",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all =
            [Self::ApplyOnly, Self::ApplyAndMonitor, Self::ApplyAndAutoCorrect, Self::MonitorOnly];
        all.into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(text))
    }
}

/// How a local configuration manager is to behave (`MSFT_DSCMetaConfiguration`).
#[derive(Clone, Debug)]
pub struct Metaconfiguration {
    /// The pull server's address, such as `https://pull.example/PSDSCPullServer.svc`.
    pub server_url: String,
    /// The key that it registers with.
    pub registration_key: Secret,
    /// The configurations it registers for; none leaves the choice to the server.
    pub configuration_names: Vec<String>,
    /// What it does about the configuration it has.
    pub configuration_mode: ConfigurationMode,
    /// How often it asks the server (`RefreshFrequencyMins`), in minutes, at least 30.
    pub refresh_frequency_minutes: u32,
    /// How often it checks what it has (`ConfigurationModeFrequencyMins`), in minutes, at least
    /// 15.
    pub configuration_mode_frequency_minutes: u32,
    /// Whether it also talks to a server in clear text that is not on this computer
    /// (`AllowUnsecureConnection`).
    pub allow_unsecure_connection: bool,
    /// Whether it sends reports.
    pub reports: bool,
    /// The name it reports for this computer.
    pub node_name: String,
}

impl Metaconfiguration {
    /// A node of one server, with the defaults of the protocol's clients: it monitors, asks every
    /// 30 minutes, checks every 15, and reports.
    #[must_use]
    pub fn new(server_url: impl Into<String>, registration_key: Secret) -> Self {
        Self {
            server_url: server_url.into(),
            registration_key,
            configuration_names: Vec::new(),
            configuration_mode: ConfigurationMode::default(),
            refresh_frequency_minutes: 30,
            configuration_mode_frequency_minutes: 15,
            allow_unsecure_connection: false,
            reports: true,
            node_name: host_name(),
        }
    }

    /// How long to wait from one run to the next: a run both asks the server and checks, so the
    /// shorter of the two intervals counts.
    #[must_use]
    pub fn run_interval(&self) -> SignedDuration {
        let minutes = self.refresh_frequency_minutes.min(self.configuration_mode_frequency_minutes);
        SignedDuration::from_mins(minutes.into())
    }

    /// Reads a metaconfiguration document (`meta.mof`). One pull server is read; settings that
    /// this version does not have are refused by name unless they say nothing.
    ///
    /// # Errors
    /// [`Error::Document`] with every diagnostic.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let refused = |diagnostics| Error::Document { document: name.to_owned(), diagnostics };
        let document = mof::parse(bytes).into_result().map_err(refused)?;
        let mut reader = Reader::default();
        let read = reader.read(&document);
        match read {
            Some(read) if reader.diagnostics.is_empty() => Ok(read),
            _ => Err(refused(reader.diagnostics)),
        }
    }
}

/// The name of this computer.
#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The name of this computer.
#[cfg(not(unix))]
fn host_name() -> String {
    "localhost".to_owned()
}

const DOWNLOAD_CLASSES: [&str; 2] = ["MSFT_WebDownloadManager", "OMI_ConfigurationRepositoryWeb"];
const REPORT_CLASSES: [&str; 2] = ["MSFT_WebReportManager", "OMI_ReportServerWeb"];
const IGNORED_CLASSES: [&str; 3] =
    ["OMI_ConfigurationDocument", "MSFT_WebResourceManager", "OMI_ResourceModuleManager"];

#[derive(Default)]
struct Reader {
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn report(&mut self, position: Position, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic { position, message: message.into() });
    }

    fn read(&mut self, document: &Document) -> Option<Metaconfiguration> {
        let is_one_of = |instance: &Instance, classes: &[&str]| {
            classes.iter().any(|class| class.eq_ignore_ascii_case(&instance.class))
        };
        let (mut settings, mut servers, mut reports) = (None, Vec::new(), false);
        for instance in document.instances() {
            if instance.class.eq_ignore_ascii_case("MSFT_DSCMetaConfiguration") {
                settings = Some(instance);
            } else if is_one_of(instance, &DOWNLOAD_CLASSES) {
                servers.push(instance);
            } else if is_one_of(instance, &REPORT_CLASSES) {
                reports = true;
            } else if !is_one_of(instance, &IGNORED_CLASSES) {
                let message =
                    format!("`{}` is not supported in a metaconfiguration", instance.class);
                self.report(instance.position, message);
            }
        }
        let start = Position { line: 1, column: 1 };
        let Some(settings) = settings else {
            self.report(start, "there is no instance of MSFT_DSCMetaConfiguration");
            return None;
        };
        let [server] = servers[..] else {
            let message = format!("{} pull servers, and exactly one is supported", servers.len());
            self.report(settings.position, message);
            return None;
        };
        let key = self.text(server, "RegistrationKey").unwrap_or_default();
        let Some(url) = self.text(server, "ServerURL") else {
            self.report(server.position, "the server has no ServerURL");
            return None;
        };
        let mut read = Metaconfiguration::new(url, Secret::from(key.as_str()));
        read.reports = reports;
        read.configuration_names = self.texts(server, "ConfigurationNames");
        read.allow_unsecure_connection =
            self.flag(server, "AllowUnsecureConnection").unwrap_or(false);
        if let Some(mode) = self.text(settings, "ConfigurationMode") {
            match ConfigurationMode::parse(&mode) {
                Some(mode) => read.configuration_mode = mode,
                None => {
                    self.report(settings.position, format!("unknown ConfigurationMode `{mode}`"))
                }
            }
        }
        if let Some(mode) = self.text(settings, "RefreshMode")
            && !mode.eq_ignore_ascii_case("Pull")
        {
            self.report(settings.position, format!("RefreshMode `{mode}` is not supported"));
        }
        if let Some(minutes) = self.minutes(settings, "RefreshFrequencyMins", 30) {
            read.refresh_frequency_minutes = minutes;
        }
        if let Some(minutes) = self.minutes(settings, "ConfigurationModeFrequencyMins", 15) {
            read.configuration_mode_frequency_minutes = minutes;
        }
        if self.flag(settings, "RebootNodeIfNeeded") == Some(true) {
            self.report(settings.position, "RebootNodeIfNeeded is not supported");
        }
        for name in ["PartialConfigurations", "Credential"] {
            if let Some(property) = settings.property(name)
                && !matches!(property.value.kind, ValueKind::Null)
            {
                self.report(property.position, format!("{name} is not supported"));
            }
        }
        Some(read)
    }

    fn text(&mut self, instance: &Instance, name: &str) -> Option<String> {
        let value = &instance.property(name)?.value;
        match &value.kind {
            ValueKind::Text(text) => Some(text.clone()),
            ValueKind::Null => None,
            _ => {
                let message = format!("`{name}` is {}, not a string", value.describe());
                self.report(value.position, message);
                None
            }
        }
    }

    fn texts(&mut self, instance: &Instance, name: &str) -> Vec<String> {
        let Some(property) = instance.property(name) else { return Vec::new() };
        let ValueKind::Array(values) = &property.value.kind else {
            self.report(property.value.position, format!("`{name}` is not an array of strings"));
            return Vec::new();
        };
        values.iter().filter_map(|value| value.as_text().map(str::to_owned)).collect()
    }

    fn flag(&mut self, instance: &Instance, name: &str) -> Option<bool> {
        let value = &instance.property(name)?.value;
        match &value.kind {
            ValueKind::Boolean(flag) => Some(*flag),
            ValueKind::Null => None,
            _ => {
                self.report(value.position, format!("`{name}` is not a boolean"));
                None
            }
        }
    }

    fn minutes(&mut self, instance: &Instance, name: &str, least: u32) -> Option<u32> {
        let value = &instance.property(name)?.value;
        let minutes = match value.kind {
            ValueKind::Integer(minutes) => u32::try_from(minutes).ok(),
            _ => None,
        };
        if minutes.is_none_or(|minutes| minutes < least) {
            self.report(value.position, format!("`{name}` is not a number from {least}"));
        }
        minutes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_client_is_read() {
        let text = r#"
            instance of MSFT_WebDownloadManager as $server {
              ResourceID = "[ConfigurationRepositoryWeb]pull";
              ServerURL = "https://pull.example/PSDSCPullServer.svc";
              RegistrationKey = "key"; ConfigurationNames = {"Web"};
            };
            instance of MSFT_WebReportManager as $reports {
              ResourceID = "[ReportServerWeb]pull"; ServerURL = "https://pull.example/x";
            };
            instance of MSFT_DSCMetaConfiguration as $meta {
              ConfigurationMode = "applyandautocorrect"; RefreshMode = "Pull";
              RefreshFrequencyMins = 60; ConfigurationDownloadManagers = {$server};
              ReportManagers = {$reports};
            };
            instance of OMI_ConfigurationDocument { Version = "2.0.0"; };"#;
        let read = Metaconfiguration::parse("meta", text.as_bytes()).expect("valid");
        assert_eq!(read.server_url, "https://pull.example/PSDSCPullServer.svc");
        assert_eq!(read.configuration_names, ["Web"]);
        assert_eq!(read.configuration_mode, ConfigurationMode::ApplyAndAutoCorrect);
        assert_eq!((read.refresh_frequency_minutes, read.reports), (60, true));
        let push = text.replace("\"Pull\"", "\"Push\"");
        let error = Metaconfiguration::parse("meta", push.as_bytes()).expect_err("not supported");
        assert!(error.to_string().contains("RefreshMode `Push` is not supported"), "{error}");
    }
}
