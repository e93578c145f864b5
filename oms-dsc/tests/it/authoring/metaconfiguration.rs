//! Sources of metaconfigurations.

use super::{check_wrong, compile, options, schemas};
use oms_core::entropy::SeededEntropy;
use oms_dsc::authoring::Source;
use oms_dsc::configuration::CheckOptions;
use oms_dsc::configuration::credential::Recipient;
use oms_dsc::mof;
use std::sync::Arc;

const LCM: &str = "
configuration: Lcm
parameters: {key: {type: secureString, defaultValue: secret-key}}
nodes: {web-1: {}, web-2: {minutes: 60}}
settings:
  RefreshMode: Pull
  ConfigurationMode: ApplyAndAutoCorrect
  RefreshFrequencyMins: \"[if(contains(node(), 'minutes'), node('minutes'), 30)]\"
  ConfigurationModeFrequencyMins: 15
  RebootNodeIfNeeded: true
  ActionAfterReboot: ContinueConfiguration
  AllowModuleOverwrite: true
  StatusRetentionTimeInDays: 7
  DebugMode: [None]
resources:
- type: ConfigurationRepositoryWeb
  name: pull
  properties:
    ServerURL: https://pull.example/PSDSCPullServer.svc
    RegistrationKey: \"[parameters('key')]\"
    ConfigurationNames: [\"[concat('Web.', nodeName())]\", Base]
- type: ReportServerWeb
  name: pull
  properties: {ServerURL: https://pull.example/PSDSCPullServer.svc}
- type: PartialConfiguration
  name: Base
  properties: {Description: what all have, ConfigurationSource: '[ConfigurationRepositoryWeb]pull', RefreshMode: Pull}
";

#[test]
fn metaconfigurations() {
    let source = Source::read("lcm.yaml", LCM.as_bytes()).expect("right");
    let compiled = source.compile(&schemas(), &options()).expect("right");
    assert!(compiled[1].is_metaconfiguration && compiled[1].node == "web-2");
    let text = &compiled[1].text;
    for part in [
        "RefreshFrequencyMins = 60;",
        "ConfigurationDownloadManagers = {$MSFT_WebDownloadManager1ref};",
        "ReportManagers = {$MSFT_WebReportManager1ref};",
        "PartialConfigurations = {$MSFT_PartialConfiguration1ref};",
        "ConfigurationNames = {\"Web.web-2\", \"Base\"};",
        "RegistrationKey = \"secret-key\";",
        "ConfigurationSource = {\"[ConfigurationRepositoryWeb]pull\"};",
        "MinimumCompatibleVersion = \"2.0.0\";",
    ] {
        assert!(
            text.contains(part) || text.contains(&part.replace(['{', '}'], "")),
            "{part}\n{text}"
        );
    }
    let document = mof::parse(text.as_bytes()).into_result().expect("MOF");
    let options = CheckOptions { refuses_unknown_classes: true };
    assert_eq!(schemas().check(&document, options), []);
    // Our own node reads it too.
    let read = oms_dsc::Metaconfiguration::parse("web-1", compiled[0].text.as_bytes());
    let read = read.expect("a metaconfiguration");
    assert_eq!(read.configuration_names, ["Web.web-1", "Base"]);
    assert!(read.reports && read.reboot_node_if_needed);
}

/// As a test of a user's own wants it: the seed makes the bytes.
#[test]
fn passwords_of_metaconfigurations_are_encrypted_by_the_given_entropy() {
    let text = "
configuration: Lcm
settings: {}
resources:
- type: ConfigurationRepositoryShare
  name: share
  properties: {SourcePath: \\\\server\\share, Credential: {userName: u, password: p}}
";
    let compile = |seed| {
        let pem = include_bytes!("../../fixtures/certificates/node.pem");
        let mut options = options();
        options.entropy = Arc::new(SeededEntropy::new(seed));
        let recipient = Recipient::from_pem(pem).expect("a certificate");
        options.recipients.insert("*".to_owned(), recipient);
        let source = Source::read("lcm.yaml", text.as_bytes()).expect("right");
        source.compile(&schemas(), &options).expect("right")[0].text.clone()
    };
    assert!(compile(1).contains("BEGIN CMS"));
    assert_eq!(compile(1), compile(1));
    assert_ne!(compile(1), compile(2));
}

#[test]
fn metaconfigurations_that_cannot_be_are_told() {
    check_wrong(
        "configuration: Lcm
settings:
  RefreshMode: Pull
  RefreshFrequencyMins: 5
  ConfigurationMode: Sometimes
  RebootNodeIfNeded: true
  PartialConfigurations: []
resources:
- type: ConfigurationRepositoryWeb
  name: a
  properties: {RegistrationKey: k}
- type: PartialConfiguration
  name: p
  dependsOn: '[PartialConfiguration]q'
  properties: {ConfigurationSource: ['[ConfigurationRepositoryWeb]b']}
- type: PartialConfiguration
  name: p
- {type: nxFile, name: f}
",
        "4:25: `RefreshFrequencyMins` is 30 to 44640 minutes, not 5
5:22: `ConfigurationMode` is one of `ApplyOnly`, `ApplyAndMonitor`, `ApplyAndAutoCorrect`, `MonitorOnly`, not `Sometimes`
6:3: `MSFT_DSCMetaConfiguration` has no property `RebootNodeIfNeded`; did you mean `RebootNodeIfNeeded`?
7:3: `PartialConfigurations` are given as resources
9:3: the required property `ServerURL` of `MSFT_WebDownloadManager` is missing
14:14: nothing has the id `[PartialConfiguration]q` that is referred to; did you mean `[partialconfiguration]p`?
15:37: nothing has the id `[ConfigurationRepositoryWeb]b` that is referred to; did you mean `[configurationrepositoryweb]a`?
16:3: `[PartialConfiguration]p` is declared twice
18:3: `nxFile` is no part of a metaconfiguration",
    );
    // A partial configuration depends on others, which is told in one place; nothing else does.
    check_wrong(
        "configuration: Lcm
settings: {}
resources:
- type: ConfigurationRepositoryWeb
  name: a
  dependsOn: '[PartialConfiguration]p'
  properties: {ServerURL: 'https://pull.example', ResourceId: x}
- type: PartialConfiguration
  name: p
  properties: {DependsOn: '[PartialConfiguration]r'}
- type: PartialConfiguration
  name: q
  dependsOn: '[PartialConfiguration]p'
  properties: {dependsOn: '[PartialConfiguration]p'}
",
        "6:14: `MSFT_WebDownloadManager` has no property `DependsOn`
7:51: `ResourceID` is made of `type` and `name`
10:27: nothing has the id `[PartialConfiguration]r` that is referred to; did you mean `[partialconfiguration]p`?
13:14: `DependsOn` was given at 14:16 already",
    );
    let right = "configuration: Lcm
settings: {}
resources:
- {type: PartialConfiguration, name: p}
- {type: PartialConfiguration, name: q, properties: {DependsOn: '[PartialConfiguration]p'}}
";
    assert!(compile(right, &options()).is_ok());
    check_wrong(
        "configuration: Lcm\nsettings: {RefreshMode: Pull}\nresources: []",
        "2:12: the node pulls, and there is no repository to pull from",
    );
}
