//! Sources in YAML, JSON and Rust: what they compile to, and what is told of those that do not.

use oms_core::entropy::SeededEntropy;
use oms_dsc::authoring::{CompileOptions, ConfigurationBuilder, ResourceBuilder, Source};
use oms_dsc::configuration::credential::Recipient;
use oms_dsc::configuration::{Configuration, PropertyValue, Schemas};
use oms_dsc::protocol::Checksum;
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;

fn schemas() -> Schemas {
    Schemas::standard().expect("right")
}

fn options() -> CompileOptions {
    CompileOptions { entropy: Arc::new(SeededEntropy::new(1)), ..CompileOptions::default() }
}

/// Every node's document of a source, or what is wrong, one a line.
fn compile(text: &str, options: &CompileOptions) -> Result<Vec<(String, Configuration)>, String> {
    let compiled = Source::read("s.yaml", text.as_bytes())
        .and_then(|source| source.compile(&schemas(), options));
    let shown = |error| match error {
        oms_dsc::Error::Document { diagnostics, .. } => {
            diagnostics.iter().map(|told| format!("{told}\n")).collect::<String>()
        }
        other => other.to_string(),
    };
    let parsed = compiled.map_err(shown)?.into_iter().map(|node| {
        assert_eq!(node.checksum, Checksum::of(node.text.as_bytes()));
        let name = node.name.to_string();
        let configuration = Configuration::parse(&name, node.text.as_bytes());
        (name, configuration.expect("what was compiled"))
    });
    Ok(parsed.collect())
}

fn check_wrong(text: &str, expect: &str) {
    assert_eq!(compile(text, &options()).expect_err(text).trim_end(), expect, "{text}");
}

/// One resource's property, of a document without nodes.
fn contents(expression: &str) -> Result<String, String> {
    let text = format!(
        "configuration: T
parameters: {{who: {{type: string, defaultValue: you}}, list: {{type: array, defaultValue: [a, 2]}}}}
variables: {{greeting: \"[concat('hello ', parameters('who'))]\"}}
nodes: {{'*': {{a: {{b: [x, y]}}, port: 80}}, n1: {{port: 81}}}}
resources:
- type: nxFile
  name: f
  properties: {{DestinationPath: /f, Contents: {}}}
",
        json!(expression)
    );
    let compiled = compile(&text, &options()).map_err(|told| told.trim_end().to_owned())?;
    match compiled[0].1.resources[0].property("Contents") {
        Some(PropertyValue::Text(text)) => Ok(text.clone()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn expressions() {
    for (expression, expect) in [
        ("plain", "plain"),
        ("[[no expression]", "[no expression]"),
        ("[incomplete", "[incomplete"),
        ("['it''s']", "it's"),
        ("[variables('greeting')]", "hello you"),
        ("[nodeName()]", "n1"),
        ("[string(node('port'))]", "81"),
        ("[node('a').b[1]]", "y"),
        ("[ toUpper( concat( 'a' , 'b' ) ) ]", "AB"),
        ("[format('{0}-{{{1}}}', 'a', parameters('list'))]", "a-{[\"a\",2]}"),
        ("[join(parameters('list'), ',')]", "a,2"),
        ("[if(equals(node('port'), 81), 'yes', node('none'))]", "yes"),
        ("[if(and(true, not(false), or(false, greater(2, 1))), 'yes', 'no')]", "yes"),
        ("[string(add(mul(3, 4), div(-7, 2)))]", "9"),
        ("[string(max(createArray(1, 5, 2)))]", "5"),
        ("[last(split('a/b/c', '/'))]", "c"),
        ("[replace(trim('  x-y '), '-', '_')]", "x_y"),
        ("[base64ToString(base64('hé'))]", "hé"),
        ("[string(json('{\"a\": [1]}').a)]", "[1]"),
        ("[string(union(createArray('b', 'a'), createArray('a', 'c')))]", "[\"b\",\"a\",\"c\"]"),
        ("[string(createObject('k', null(), 'l', length('äö')))]", "{\"k\":null,\"l\":2}"),
        ("[coalesce(null(), 'x')]", "x"),
        ("[string(indexOf(createArray('a', 'b'), 'b'))]", "1"),
        ("[string(contains('abc', 'bc'))]", "true"),
        ("[resourceId('Module/nxFile', 'x')]", "[nxFile]x"),
        ("[string(int('42'))]", "42"),
        ("[first(range(7, 2))]", "7"),
    ] {
        let found = contents(expression);
        match expression {
            // A number is none of a string property's values.
            "[first(range(7, 2))]" => {
                assert_eq!(found, Err("8:47: `Contents` is a string, not 7".to_owned()));
            }
            _ => assert_eq!(found, Ok(expect.to_owned()), "{expression}"),
        }
    }
}

#[test]
fn expressions_that_cannot_be_are_told_with_their_place() {
    for (expression, expect) in [
        ("[concat('a']", "`)` is missing at the end of the expression"),
        ("[concat('a') 'b']", "the expression ends before `'b'`"),
        ("['a]", "the string is not closed: `'a`"),
        ("[]", "the expression is empty, or ends too early"),
        ("[name]", "`name` is no function without `(`"),
        ("[conact('a')]", "there is no function `conact`; did you mean `concat`?"),
        (
            "[envvar('HOME')]",
            "`envvar` is known on the node only, and this document is compiled before",
        ),
        ("[parameters('whom')]", "there is no parameter `whom`; did you mean `who`?"),
        ("[variables('x')]", "there is no variable `x`"),
        ("[node('prot')]", "there is no value of the node `prot`; did you mean `port`?"),
        ("[concat('a', 1)]", "`concat` takes a string, not a number"),
        ("[not('a')]", "`not` takes a boolean, not a string"),
        ("[toLower('a', 'b')]", "`toLower` takes 1 arguments, not 2"),
        ("[div(1, 0)]", "`div` of 1 and 0 is no integer"),
        ("[mul(9223372036854775807, 2)]", "`mul` of 9223372036854775807 and 2 is no integer"),
        ("[first(createArray())]", "`first` of nothing"),
        ("[node('a').c]", "there is no member \"c\""),
        ("[node('a')[0]]", "an object has no member by a number"),
        ("[format('{1}', 'a')]", "`format` has no value `1`"),
        ("[format('{0', 'a')]", "a brace of `{0` has no other"),
        ("[json('{')]", "`json`: EOF while parsing an object at line 1 column 1"),
    ] {
        assert_eq!(contents(expression), Err(format!("8:47: {expect}")), "{expression}");
    }
    let deep = format!("[{}'a'{}]", "concat(".repeat(40), ")".repeat(40));
    assert_eq!(contents(&deep), Err("8:47: calls lie more than 32 deep".to_owned()));
    // What doubles with every step ends.
    let mut grows = "'aaaaaaaaaaaaaaaa'".to_owned();
    for _ in 0..20 {
        grows = format!("replace({grows}, 'a', 'aaaaaaaaaaaaaaaa')");
    }
    assert!(contents(&format!("[{grows}]")).expect_err("too large").contains("more than 1048576"));
}

const SITES: &str = "
configuration: Web
author: somebody
parameters:
  root: {type: string, defaultValue: /srv, minLength: 2}
composites:
  Site:
    parameters:
      name: {type: string}
      page: {type: string, defaultValue: hello}
    resources:
    - type: nxFile
      name: folder
      properties: {DestinationPath: \"[concat('/srv/', parameters('name'))]\", Type: directory}
    - type: nxFile
      name: page
      dependsOn: '[nxFile]folder'
      properties:
        DestinationPath: \"[concat('/srv/', parameters('name'), '/index.html')]\"
        Contents: \"[concat(parameters('page'), ' from ', nodeName())]\"
nodes:
  '*': {tls: false}
  web-1: {}
  web-2: {tls: true}
resources:
- type: nxFile
  name: root
  properties: {DestinationPath: \"[parameters('root')]\", Type: directory}
- type: Site
  name: shop
  dependsOn: ['[nxFile]root']
  properties: {name: shop, page: buy}
- type: nxFile
  name: certificate
  condition: \"[node('tls')]\"
  properties: {DestinationPath: /etc/tls, Type: directory}
- type: nxService
  name: server
  dependsOn: ['[Site]shop', \"[resourceId('nxFile', 'certificate')]\"]
  properties: {Name: nginx, State: running, Controller: systemd, Enabled: true}
";

#[test]
fn nodes_composites_and_conditions() {
    let compiled = compile(SITES, &options()).expect("right");
    let names: Vec<&str> = compiled.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Web.web-1", "Web.web-2"]);
    let ids = |index: usize| -> Vec<String> {
        let resources = &compiled[index].1.resources;
        resources.iter().map(|resource| resource.resource_id.clone()).collect()
    };
    let shop = ["[nxFile]folder::[Site]shop", "[nxFile]page::[Site]shop"];
    assert_eq!(ids(0), ["[nxFile]root", shop[0], shop[1], "[nxService]server"]);
    assert_eq!(ids(1)[3], "[nxFile]certificate");
    let depends = |index: usize, id: &str| {
        let resources = &compiled[index].1.resources;
        let found = resources.iter().find(|resource| resource.resource_id == id);
        found.expect("it is there").depends_on.clone()
    };
    assert_eq!(depends(0, shop[1]), [shop[0], "[nxFile]root"]);
    // On every resource of the composite; and not on what its condition left out.
    assert_eq!(depends(0, "[nxService]server"), shop);
    assert_eq!(depends(1, "[nxService]server"), [shop[0], shop[1], "[nxFile]certificate"]);
    let page = &compiled[1].1.resources[2];
    assert_eq!(page.property("Contents"), Some(&PropertyValue::Text("buy from web-2".into())));
    assert_eq!(
        (page.module_name.as_deref(), page.module_version.as_deref()),
        (Some("nx"), Some("1.0"))
    );
    assert_eq!(
        page.source_info.as_deref(),
        Some("s.yaml::15:7::nxFile".replace("15:7", "15::7").as_str())
    );
    assert_eq!(compiled[0].1.document.author.as_deref(), Some("somebody"));
    // The same source makes the same bytes.
    let text = || {
        let source = Source::read("s.yaml", SITES.as_bytes()).expect("right");
        source.compile(&schemas(), &options()).expect("right")[1].text.clone()
    };
    assert_eq!(text(), text());
}

#[test]
fn everything_that_is_wrong_is_told_with_its_place_in_the_source() {
    check_wrong(
        "configuration: T
resources:
- type: nxFil
  name: a
- type: nxFile
  name: b
  properties:
    DestinationPath: /b
    Contnets: x
    Force: 'yes'
    Mode: 644
- type: nxFile
  name: c
  dependsOn: '[nxFile]d'
  properties: {Contents: x}
- type: nxFile
  name: C
  properties: {DestinationPath: /b}
",
        "3:3: there is no schema of the resource `nxFil`; did you mean `nxFile`?
9:5: `MSFT_nxFileResource` has no property `Contnets`; did you mean `Contents`?
10:12: `Force` is a boolean, not a string
11:11: `Mode` is a string, not 644
12:3: the key `DestinationPath` of `MSFT_nxFileResource` is missing
14:14: no resource has the id `[nxFile]d` that is depended on
16:3: `[nxFile]C` and `[nxFile]b` at 5:3 have the same DestinationPath and differ in `Contnets`
16:3: the resource id `[nxFile]C` was given at 12:3 already",
    );
}

#[test]
fn sources_that_are_none_are_told() {
    check_wrong("- a", "1:1: the document is a list, not an object");
    check_wrong(
        "configuration: T\nresuorces: []",
        "1:1: there are no `resources`\n2:1: the document has no `resuorces`; did you mean `resources`?",
    );
    check_wrong(
        "configuration: 5\nresources:\n- {type: nxFile, nmae: x}\n- 5\n- {type: Microsoft.DSC/Include, name: x}",
        "1:1: the document has no `configuration`, which is its name
1:16: `configuration` is a number, not a string
3:3: the resource has no `name` that is a string
3:18: the resource has no `nmae`; did you mean `name`?
4:3: the resource is a number, not an object
5:3: a resource of type `Microsoft.DSC/Include` is not supported",
    );
    check_wrong(
        "configuration: T
parameters:
  a: {type: strnig}
  b: {type: int, defaultValue: x}
  c: {type: string, allowedValues: [x, y], defaultValue: z}
resources: []",
        "3:13: the type of the parameter `a` is one of `string`, `secureString`, `int`, `bool`, `array`, `object`, `secureObject`",
    );
    check_wrong(
        "configuration: T
parameters:
  a: {type: string}
  b: {type: int, defaultValue: x}
  c: {type: string, allowedValues: [x, y], defaultValue: z}
  d: {type: int, minValue: 1, maxValue: 3, defaultValue: 4}
  e: {type: string, minLength: 2, defaultValue: x}
resources: []",
        "3:3: the parameter `a` has no value and no default
4:32: the parameter `b` is of type int, not a string
5:58: the parameter `c` is one of \"x\", \"y\"
6:58: the parameter `d` is 1 to 3
7:49: the parameter `e` has a length of at least 2",
    );
    check_wrong(
        "configuration: a/b\nresources: []",
        "1:16: not a valid configuration name. value=`a/b.localhost`, reason=`has a control character, slash, backslash or quote`",
    );
}

#[test]
fn parameters_are_given_from_outside() {
    let mut options = options();
    options.parameters.insert("root".into(), json!("/data"));
    let compiled = compile(SITES, &options).expect("right");
    let path = compiled[0].1.resources[0].property("DestinationPath");
    assert_eq!(path, Some(&PropertyValue::Text("/data".into())));
    options.parameters.insert("rot".into(), json!("/data"));
    let told = compile(SITES, &options).expect_err("not declared");
    assert_eq!(
        told,
        "parameter is not valid. reason=`` `rot` is not declared; did you mean `root`? ``"
            .replace("`` ", "`")
            .replace(" ``", "`")
    );
}

const SECRET: &str = "
configuration: T
parameters: {password: {type: secureString}}
composites:
  Account:
    parameters: {secret: {type: string}, note: {type: string, defaultValue: ''}}
    resources:
    - type: User
      name: u
      properties:
        UserName: u
        FullName: \"[parameters('note')]\"
        Password: {userName: u, password: \"[parameters('secret')]\"}
resources:
- type: Account
  name: a
  properties: {secret: \"[parameters('password')]\"}
";

#[test]
fn secrets_are_encrypted_or_refused() {
    let mut options = options();
    options.parameters.insert("password".into(), json!("hunter2"));
    let told = compile(SECRET, &options).expect_err("no certificate");
    assert_eq!(
        told,
        "13:19: the password is in the clear; give the node's certificate to encrypt it for\n"
    );
    let certificate = include_bytes!("../fixtures/certificates/node.pem");
    let recipient = Recipient::from_pem(certificate).expect("a certificate");
    options.recipients.insert("*".into(), recipient);
    let compiled = compile(SECRET, &options).expect("encrypted");
    let shown = format!("{:?}", compiled[0].1);
    assert!(shown.contains("BEGIN CMS") && !shown.contains("hunter2"), "{shown}");
    assert_eq!(compiled[0].1.document.content_type.as_deref(), Some("PasswordEncrypted"));
    // A secret elsewhere would be read by everybody, and a composite hides it from nobody.
    let elsewhere = SECRET.replace(
        "properties: {secret:",
        "properties: {note: \"[parameters('password')]\", secret:",
    );
    let told = compile(&elsewhere, &options).expect_err("in the clear");
    assert_eq!(told, "12:19: `FullName` would hold the secure parameter `note` in the clear\n");
    options.recipients.clear();
    options.leaves_passwords_clear = true;
    let compiled = compile(&elsewhere, &options).expect("asked for");
    assert_eq!(compiled[0].1.document.content_type.as_deref(), Some("NotEncrypted"));
}

#[test]
fn documents_of_version_3() {
    let text = "
$schema: https://aka.ms/dsc/schemas/v3/bundled/config/document.json
metadata: {owner: me}
parameters: {path: {type: string, defaultValue: /etc/motd}}
resources:
- name: group
  type: Microsoft.DSC/PowerShell
  properties:
    resources:
    - name: motd
      type: nx/nxFile
      properties: {DestinationPath: \"[parameters('path')]\", Contents: hello}
- name: curl
  type: Microsoft.Linux.Apt/Package
  dependsOn: [\"[resourceId('Microsoft.DSC/PowerShell', 'group')]\"]
  properties: {packageName: curl, _exist: true}
";
    let mut options = options();
    let told = compile(text, &options).expect_err("no name");
    assert!(told.contains("`s.yaml` says no name, and none was given"), "{told}");
    options.name = Some("Three".into());
    let compiled = compile(text, &options).expect("right");
    assert_eq!(compiled[0].0, "Three.localhost");
    let [motd, curl] = &compiled[0].1.resources[..] else { panic!("{compiled:?}") };
    assert_eq!(
        (motd.class.as_str(), motd.resource_id.as_str()),
        ("MSFT_nxFileResource", "[nxFile]motd")
    );
    assert_eq!(
        (curl.class.as_str(), curl.resource_id.as_str()),
        ("OMS_CommandResource", "[Package]curl")
    );
    assert_eq!(curl.depends_on, ["[nxFile]motd"]);
    assert_eq!(
        curl.property("Properties"),
        Some(&PropertyValue::Text("{\"_exist\":true,\"packageName\":\"curl\"}".into()))
    );
    assert_eq!(
        curl.property("Type"),
        Some(&PropertyValue::Text("Microsoft.Linux.Apt/Package".into()))
    );
}

#[test]
fn the_builder_says_what_is_wrong() {
    let file =
        ResourceBuilder::new("nxFile", "a").property("DestinationPath", 5).depends_on("[nxFile]b");
    let builder = ConfigurationBuilder::new("T").resource(file).author("me");
    let error = builder.build(&schemas(), &SeededEntropy::new(1)).expect_err("wrong");
    assert_eq!(
        error.to_string(),
        "document is not valid. document=`T`, problems=`1:1: `DestinationPath` is a string, not 5; \
         1:1: no resource has the id `[nxFile]b` that is depended on`"
    );
    // Names with values become pairs.
    let classes = "class T : OMI_BaseResource { [Key] string N; \
                   [EmbeddedInstance(\"MSFT_KeyValuePair\")] string Pairs[]; };";
    let schemas = schemas().with("t.mof", classes.as_bytes()).expect("right");
    let table = ResourceBuilder::new("T", "t")
        .property("n", "x")
        .property("pairs", json!({"a": "b", "c": 1}))
        .module("m", "2.0");
    let built = ConfigurationBuilder::new("T").resource(table);
    let text = built.build(&schemas, &SeededEntropy::new(1)).expect("right").to_string();
    assert!(text.contains("Pairs = {$MSFT_KeyValuePair1ref, $MSFT_KeyValuePair2ref};"), "{text}");
    assert!(
        text.contains("Key = \"c\";\n  Value = \"1\";") && text.contains("ModuleVersion = \"2.0\""),
        "{text}"
    );
}

proptest! {
    #[test]
    fn any_text_is_compiled_or_refused(text in "[a-z0-9:{}\\[\\]'\", \n*&!|>-]{0,200}") {
        if let Ok(source) = Source::read("s", text.as_bytes()) {
            let _ = source.compile(&schemas(), &options());
        }
    }

    #[test]
    fn any_expression_is_evaluated_or_refused(expression in "\\[[a-zA-Z(){}\\[\\]',. 0-9-]{0,60}\\]") {
        let _ = contents(&expression);
    }
}

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
    let document = oms_dsc::mof::parse(text.as_bytes()).into_result().expect("MOF");
    let options = oms_dsc::configuration::CheckOptions { refuses_unknown_classes: true };
    assert_eq!(schemas().check(&document, options), []);
    // Our own node reads it too.
    let read = oms_dsc::Metaconfiguration::parse("web-1", compiled[0].text.as_bytes());
    let read = read.expect("a metaconfiguration");
    assert_eq!(read.configuration_names, ["Web.web-1", "Base"]);
    assert!(read.reports && read.reboot_node_if_needed);
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
    check_wrong(
        "configuration: Lcm\nsettings: {RefreshMode: Pull}\nresources: []",
        "2:12: the node pulls, and there is no repository to pull from",
    );
}
