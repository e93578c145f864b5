//! How a local configuration manager is to behave.

use crate::Error;
use crate::mof::{self, Diagnostic, Document, Instance, Position, ValueKind};
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

    /// Every mode, in the order of how much it does.
    pub const ALL: [Self; 4] =
        [Self::MonitorOnly, Self::ApplyOnly, Self::ApplyAndMonitor, Self::ApplyAndAutoCorrect];

    /// The mode of that spelling, without regard to case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(text))
    }
}

/// What a node does after a restart that a resource asked for (`ActionAfterReboot`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ActionAfterReboot {
    /// Its first run goes on with the configuration.
    #[default]
    ContinueConfiguration,
    /// Its first run only reports; the next one goes on.
    StopConfiguration,
}

impl ActionAfterReboot {
    /// Its spelling in metaconfigurations and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ContinueConfiguration => "ContinueConfiguration",
            Self::StopConfiguration => "StopConfiguration",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [Self::ContinueConfiguration, Self::StopConfiguration];
        all.into_iter().find(|action| action.as_str().eq_ignore_ascii_case(text))
    }
}

/// One of several configurations that make a node's state together (`MSFT_PartialConfiguration`).
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PartialConfiguration {
    /// The configuration's name: `Base` of `[PartialConfiguration]Base`.
    pub name: String,
    /// `Description`
    pub description: Option<String>,
    /// Names of those that are done before it; if one of them is not done whole, or the node does not
    /// have it, it is skipped.
    pub depends_on: Vec<String>,
    /// Types of resources, as `TYPE`, `MODULE\TYPE` or `MODULE\*`, that no other configuration of
    /// the node may have.
    pub exclusive_resources: Vec<String>,
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
    /// What is said about some of them: their order, and what they have alone. One that is given
    /// here need not be in `configuration_names` when the server chooses.
    pub partial_configurations: Vec<PartialConfiguration>,
    /// What it does about the configuration it has.
    pub configuration_mode: ConfigurationMode,
    /// How often it asks the server (`RefreshFrequencyMins`), in minutes, at least 30.
    pub refresh_frequency_minutes: u32,
    /// How often it checks what it has (`ConfigurationModeFrequencyMins`), in minutes, at least
    /// 15.
    pub configuration_mode_frequency_minutes: u32,
    /// Whether the computer restarts when a resource asks for it (`RebootNodeIfNeeded`). Without it
    /// the node waits until somebody restarts it.
    pub reboot_node_if_needed: bool,
    /// What it does after that.
    pub action_after_reboot: ActionAfterReboot,
    /// The certificate whose private key opens passwords (`CertificateID`), by its SHA-1 thumbprint;
    /// [`Registry::with_recipient_key`](crate::resource::Registry::with_recipient_key) brings the key,
    /// and a node with another, or none, does not start.
    pub certificate_id: Option<String>,
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
            partial_configurations: Vec::new(),
            configuration_mode: ConfigurationMode::default(),
            refresh_frequency_minutes: 30,
            configuration_mode_frequency_minutes: 15,
            reboot_node_if_needed: false,
            action_after_reboot: ActionAfterReboot::default(),
            certificate_id: None,
            allow_unsecure_connection: false,
            reports: true,
            node_name: host_name(),
        }
    }

    /// Reads a metaconfiguration document (`meta.mof`). One pull server is read, which also gets the
    /// reports. Settings that this version does not have are refused by name unless they say nothing:
    /// to nobody, such as an empty text, or to this node. It fetches no modules and keeps no history,
    /// so what is said of those, such as `AllowModuleOverwrite`, holds by itself.
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
const PARTIAL_CLASS: &str = "MSFT_PartialConfiguration";

/// The most partial configurations of a node.
const PARTIALS_MAX: usize = super::CONFIGURATIONS_MAX;

const IGNORED_CLASSES: [&str; 3] =
    ["OMI_ConfigurationDocument", "MSFT_WebResourceManager", "OMI_ResourceModuleManager"];

/// What every instance may say of itself.
const ABOUT: [&str; 5] =
    ["ResourceId", "SourceInfo", "ModuleName", "ModuleVersion", "ConfigurationName"];

/// What is read of a pull server, and of a server for reports.
const SERVER: [&str; 4] =
    ["ServerURL", "RegistrationKey", "ConfigurationNames", "AllowUnsecureConnection"];

/// What is read of a partial configuration, and the modules of which this node fetches none.
const PARTIAL: [&str; 6] = [
    "Description",
    "DependsOn",
    "ExclusiveResources",
    "RefreshMode",
    "ConfigurationSource",
    "ResourceModuleSource",
];

const SETTINGS: [&str; 10] = [
    "ConfigurationMode",
    "RefreshMode",
    "RefreshFrequencyMins",
    "ConfigurationModeFrequencyMins",
    "RebootNodeIfNeeded",
    "ActionAfterReboot",
    "CertificateID",
    "ConfigurationDownloadManagers",
    "ReportManagers",
    "PartialConfigurations",
];

/// Settings about modules and history, neither of which this node has, and what a manager tells of
/// itself in place of being told.
const VACANT: [&str; 11] = [
    "ResourceModuleManagers",
    "AllowModuleOverwrite",
    "MaximumDownloadSizeMB",
    "DisableModuleSignatureValidation",
    "StatusRetentionTimeInDays",
    "LocalConfigurationManagerState",
    "LCMVersion",
    "LCMCompatibleVersions",
    "LCMState",
    "LCMStateDetail",
    "AgentId",
];

/// The instances of a document that say something to the node.
#[derive(Default)]
struct Found<'d> {
    settings: Option<&'d Instance>,
    servers: Vec<&'d Instance>,
    reports: Vec<&'d Instance>,
    partials: Vec<&'d Instance>,
}

#[derive(Default)]
struct Reader {
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn report(&mut self, position: Position, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic { position, message: message.into() });
    }

    fn read(&mut self, document: &Document) -> Option<Metaconfiguration> {
        let Found { settings, servers, reports, partials } = self.sort(document);
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
        let mut read = self.server(server)?;
        for server in &reports {
            self.refuse_unknown(server, &[&SERVER]);
            self.report_server(server, &read);
        }
        read.reports = !reports.is_empty();
        self.settings(settings, &mut read);
        let source = self.text(server, "ResourceId").unwrap_or_default();
        self.partials(&partials, &source, &mut read);
        Some(read)
    }

    /// The document's instances by what they are for. One of an unknown class is reported.
    fn sort<'d>(&mut self, document: &'d Document) -> Found<'d> {
        let is_one_of = |instance: &Instance, classes: &[&str]| {
            classes.iter().any(|class| class.eq_ignore_ascii_case(&instance.class))
        };
        let mut found = Found::default();
        for instance in document.instances() {
            if instance.class.eq_ignore_ascii_case("MSFT_DSCMetaConfiguration") {
                found.settings = Some(instance);
            } else if is_one_of(instance, &DOWNLOAD_CLASSES) {
                found.servers.push(instance);
            } else if is_one_of(instance, &REPORT_CLASSES) {
                found.reports.push(instance);
            } else if is_one_of(instance, &[PARTIAL_CLASS]) {
                found.partials.push(instance);
            } else if !is_one_of(instance, &IGNORED_CLASSES) {
                let message =
                    format!("`{}` is not supported in a metaconfiguration", instance.class);
                self.report(instance.position, message);
            }
        }
        found
    }

    /// A metaconfiguration that says no more than its pull server does.
    fn server(&mut self, server: &Instance) -> Option<Metaconfiguration> {
        let key = self.text(server, "RegistrationKey").unwrap_or_default();
        let Some(url) = self.text(server, "ServerURL") else {
            self.report(server.position, "the server has no ServerURL");
            return None;
        };
        let mut read = Metaconfiguration::new(url, Secret::from(key.as_str()));
        self.refuse_unknown(server, &[&SERVER]);
        read.configuration_names = self.texts(server, "ConfigurationNames");
        read.allow_unsecure_connection =
            self.flag(server, "AllowUnsecureConnection").unwrap_or(false);
        Some(read)
    }

    /// Takes what the node's own settings say.
    fn settings(&mut self, settings: &Instance, read: &mut Metaconfiguration) {
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
        read.reboot_node_if_needed = self.flag(settings, "RebootNodeIfNeeded").unwrap_or(false);
        if let Some(action) = self.text(settings, "ActionAfterReboot") {
            match ActionAfterReboot::parse(&action) {
                Some(action) => read.action_after_reboot = action,
                None => {
                    self.report(settings.position, format!("unknown ActionAfterReboot `{action}`"))
                }
            }
        }
        read.certificate_id = self.text(settings, "CertificateID").filter(|id| !id.is_empty());
        self.refuse_unknown(settings, &[&SETTINGS, &VACANT]);
    }

    /// Refuses what an instance says beside what is known of it.
    fn refuse_unknown(&mut self, instance: &Instance, known: &[&[&str]]) {
        for property in &instance.properties {
            let is_it = |known: &&str| known.eq_ignore_ascii_case(&property.name);
            let is_known = ABOUT.iter().chain(known.iter().copied().flatten()).any(is_it);
            if !is_known && !says_nothing(&property.value.kind) {
                self.report(property.position, format!("{} is not supported", property.name));
            }
        }
    }

    /// Refuses another server for reports than the one that is pulled from.
    fn report_server(&mut self, server: &Instance, read: &Metaconfiguration) {
        let plain = |url: &str| url.trim_end_matches('/').to_ascii_lowercase();
        if let Some(url) = self.text(server, "ServerURL")
            && plain(&url) != plain(&read.server_url)
        {
            let message = format!("reports to another server are not supported: `{url}`");
            self.report(server.position, message);
        }
    }

    /// Reads the partial configurations. Without names of its own the server is asked for theirs.
    fn partials(&mut self, instances: &[&Instance], source: &str, read: &mut Metaconfiguration) {
        if instances.len() > PARTIALS_MAX {
            let message = format!("more than {PARTIALS_MAX} partial configurations");
            return self.report(instances[PARTIALS_MAX].position, message);
        }
        for instance in instances {
            self.refuse_unknown(instance, &[&PARTIAL]);
            if let Some(partial) = self.partial(instance, source, &read.partial_configurations) {
                read.partial_configurations.push(partial);
            }
        }
        let partials = &read.partial_configurations;
        let is_there = |name: &String| partials.iter().any(|p| p.name.eq_ignore_ascii_case(name));
        for (partial, instance) in partials.iter().zip(instances) {
            for name in partial.depends_on.iter().filter(|name| !is_there(name)) {
                let message = format!("no partial configuration `{name}`, on which this depends");
                self.diagnostics.push(Diagnostic { position: instance.position, message });
            }
        }
        if let Some(index) = cycle(partials)
            && let Some(instance) = instances.get(index)
        {
            let message = format!("`{}` depends on itself over others", partials[index].name);
            self.diagnostics.push(Diagnostic { position: instance.position, message });
        }
        if read.configuration_names.is_empty() {
            read.configuration_names = partials.iter().map(|p| p.name.clone()).collect();
        }
    }

    fn partial(
        &mut self,
        instance: &Instance,
        source: &str,
        before: &[PartialConfiguration],
    ) -> Option<PartialConfiguration> {
        let id = self.text(instance, "ResourceId").unwrap_or_default();
        let Some(name) = partial_name(&id).filter(|name| !name.is_empty()) else {
            let message = format!("`{id}` is not the id of a partial configuration");
            self.report(instance.position, message);
            return None;
        };
        if before.iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            self.report(instance.position, format!("a second partial configuration `{name}`"));
        }
        if let Some(mode) = self.text(instance, "RefreshMode")
            && !mode.is_empty()
            && !mode.eq_ignore_ascii_case("Pull")
        {
            let message = format!("RefreshMode `{mode}` of `{name}` is not supported");
            self.report(instance.position, message);
        }
        for from in self.texts(instance, "ConfigurationSource") {
            if !from.eq_ignore_ascii_case(source) {
                let message =
                    format!("`{name}` is to come from `{from}`, and not from the one server");
                self.report(instance.position, message);
            }
        }
        let mut depends_on = Vec::new();
        for id in self.texts(instance, "DependsOn") {
            match partial_name(&id) {
                Some(name) => depends_on.push(name.to_owned()),
                None => {
                    let message = format!("`{id}` is not the id of a partial configuration");
                    self.report(instance.position, message);
                }
            }
        }
        Some(PartialConfiguration {
            name: name.to_owned(),
            description: self.text(instance, "Description"),
            depends_on,
            exclusive_resources: self.texts(instance, "ExclusiveResources"),
        })
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
        if says_nothing(&property.value.kind) {
            return Vec::new();
        }
        let values = match &property.value.kind {
            ValueKind::Array(values) => values.as_slice(),
            // One text is what a list of one is compiled to.
            _ => std::slice::from_ref(&property.value),
        };
        let mut texts = Vec::with_capacity(values.len());
        for value in values {
            match value.as_text() {
                Some(text) => texts.push(text.to_owned()),
                None => self.report(value.position, format!("`{name}` is not an array of strings")),
            }
        }
        texts
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

/// Whether a value says nothing: it is empty, false, or the word for that.
fn says_nothing(value: &ValueKind) -> bool {
    match value {
        ValueKind::Null | ValueKind::Boolean(false) => true,
        ValueKind::Text(text) => text.is_empty() || text.eq_ignore_ascii_case("None"),
        ValueKind::Array(values) => values.iter().all(|value| says_nothing(&value.kind)),
        _ => false,
    }
}

/// `Base` of `[PartialConfiguration]Base`.
fn partial_name(id: &str) -> Option<&str> {
    let (kind, name) = id.strip_prefix('[')?.split_once(']')?;
    kind.eq_ignore_ascii_case("PartialConfiguration").then_some(name)
}

/// One that depends on itself over others, if there is one: what is left when all that depend on
/// nothing that is left are taken away, again and again.
fn cycle(partials: &[PartialConfiguration]) -> Option<usize> {
    let mut left: Vec<usize> = (0..partials.len()).collect();
    loop {
        let is_left =
            |name: &str| left.iter().any(|index| partials[*index].name.eq_ignore_ascii_case(name));
        let depends = |index: &usize| partials[*index].depends_on.iter().any(|on| is_left(on));
        let next: Vec<usize> = left.iter().copied().filter(depends).collect();
        if next.len() == left.len() {
            return left.first().copied();
        }
        left = next;
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
              ResourceID = "[ReportServerWeb]pull";
              ServerURL = "https://PULL.example/PSDSCPullServer.svc/";
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
        assert!(!read.reboot_node_if_needed);
        let push = text.replace("\"Pull\"", "\"Push\"");
        let error = Metaconfiguration::parse("meta", push.as_bytes()).expect_err("not supported");
        assert!(error.to_string().contains("RefreshMode `Push` is not supported"), "{error}");
    }

    #[test]
    fn what_a_node_does_not_do_is_refused_by_name_unless_it_says_nothing() {
        let check = |server: &str, settings: &str, partial: &str, expect: Option<&str>| {
            let text = format!(
                "instance of MSFT_WebDownloadManager as $s {{ ResourceId = \"[Web]pull\";
                   ServerURL = \"https://x\"; {server} }};
                 instance of MSFT_DSCMetaConfiguration {{ {settings} }};
                 instance of MSFT_PartialConfiguration {{
                   ResourceId = \"[PartialConfiguration]Base\"; {partial} }};"
            );
            let read = Metaconfiguration::parse("meta", text.as_bytes());
            let found = read.err().map(|error| error.to_string());
            match (expect, found) {
                (None, None) => {}
                (Some(expect), Some(found)) if found.contains(expect) => {}
                (expect, found) => panic!("{text}\n{expect:?}\n{found:?}"),
            }
        };
        for name in [
            "SignatureValidationPolicy = \"Configuration\"",
            "EnableSignatureValidation = True",
            "SignatureValidations = {$s}",
            "ConfigurationID = \"e1d9f7f0-0000-0000-0000-000000000000\"",
            "DebugMode = {\"All\"}",
            "RebootNodeIfNeded = True",
        ] {
            let expect = format!("{} is not supported", name.split(' ').next().unwrap_or_default());
            check("", &format!("{name};"), "", Some(&expect));
        }
        check("CertificateID = \"0A1B\";", "", "", Some("CertificateID is not supported"));
        check("ProxyURL = \"http://p\";", "", "", Some("ProxyURL is not supported"));
        let elsewhere = "ConfigurationSource = {\"[Share]s\"};";
        check("", "", elsewhere, Some("`Base` is to come from `[Share]s`, and not from the one"));
        check(
            "",
            "",
            "ConfigurationSource = {\"[web]pull\"}; ResourceModuleSource = {\"x\"};",
            None,
        );
        check(
            "CertificateID = \"\"; ProxyURL = NULL;",
            "SignatureValidationPolicy = \"NONE\"; SignatureValidations = {}; DebugMode = {\"None\"};
             AllowModuleOverwrite = True; StatusRetentionTimeInDays = 10; CertificateID = NULL;
             EnableSignatureValidation = False; LCMVersion = \"2.0\"; AgentId = \"x\";",
            "DependsOn = {}; ConfigurationSource = NULL;",
            None,
        );
        let text = "instance of MSFT_WebDownloadManager { ServerURL = \"https://x\"; };
             instance of MSFT_WebReportManager { ServerURL = \"https://y\"; };
             instance of MSFT_DSCMetaConfiguration { };";
        let error = Metaconfiguration::parse("meta", text.as_bytes()).expect_err("two servers");
        assert!(error.to_string().contains("not supported: `https://y`"), "{error}");
    }

    /// A metaconfiguration of these partial configurations: id, and further properties.
    fn partials(partials: &[(&str, &str)]) -> Result<Metaconfiguration, String> {
        let mut text = "instance of MSFT_WebDownloadManager { ServerURL = \"https://x\"; };
             instance of MSFT_DSCMetaConfiguration { RebootNodeIfNeeded = True;
               ActionAfterReboot = \"stopConfiguration\"; };"
            .to_owned();
        for (id, more) in partials {
            let class = PARTIAL_CLASS;
            text += &format!("instance of {class} {{ ResourceId = \"{id}\"; {more} }};\n");
        }
        Metaconfiguration::parse("meta", text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn partial_configurations_are_read_and_what_is_wrong_is_named() {
        let read = partials(&[
            ("[PartialConfiguration]Web", "DependsOn = {\"[PartialConfiguration]base\"};"),
            (
                "[PartialConfiguration]Base",
                "Description = \"d\"; ExclusiveResources = {\"nx\\\\*\"}; RefreshMode = \"Pull\";",
            ),
        ]);
        let read = read.expect("valid");
        assert_eq!(read.configuration_names, ["Web", "Base"]);
        assert_eq!(read.partial_configurations[0].depends_on, ["base"]);
        assert_eq!(read.partial_configurations[1].exclusive_resources, [r"nx\*"]);
        assert_eq!(read.partial_configurations[1].description.as_deref(), Some("d"));
        assert!(read.reboot_node_if_needed);
        assert_eq!(read.action_after_reboot, ActionAfterReboot::StopConfiguration);

        let (a, b) = ("[PartialConfiguration]A", "[PartialConfiguration]B");
        let on = |name: &str| format!("DependsOn = {{\"[PartialConfiguration]{name}\"}};");
        for (given, problem) in [
            (vec![(a, on("B")), (b, on("A"))], "`A` depends on itself over others"),
            (vec![(a, on("A"))], "`A` depends on itself over others"),
            (vec![(a, on("C"))], "no partial configuration `C`"),
            (vec![(a, String::new()), (a, String::new())], "a second partial configuration `A`"),
            (vec![("A", String::new())], "`A` is not the id of a partial configuration"),
            (vec![(a, "RefreshMode = \"Push\";".to_owned())], "RefreshMode `Push` of `A`"),
            (vec![(a, "DependsOn = {\"[File]x\"};".to_owned())], "`[File]x` is not the id"),
        ] {
            let given: Vec<(&str, &str)> = given.iter().map(|(id, more)| (*id, &**more)).collect();
            let error = partials(&given).expect_err(problem);
            assert!(error.contains(problem), "{error}");
        }
    }
}
