//! Sources in YAML, JSON and Rust: what they compile to, and what is told of those that do not.

mod limits;

mod metaconfiguration;

mod secrets;

use oms_core::entropy::SeededEntropy;
use oms_dsc::authoring::{CompileOptions, ConfigurationBuilder, ResourceBuilder, Source};
use oms_dsc::configuration::credential::Recipient;
use oms_dsc::configuration::{CheckOptions, Configuration, PropertyValue, Schemas};
use oms_dsc::mof;
use oms_dsc::protocol::Checksum;
use proptest::prelude::*;
use serde_json::json;
use std::sync::{Arc, OnceLock};

fn schemas() -> Schemas {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    SCHEMAS.get_or_init(|| Schemas::standard().expect("right")).clone()
}

fn options() -> CompileOptions {
    CompileOptions { entropy: Arc::new(SeededEntropy::new(1)), ..CompileOptions::default() }
}

/// Every node's configuration of a source, or what is wrong, one a line.
fn compile(text: &str, options: &CompileOptions) -> Result<Vec<(String, Configuration)>, String> {
    let compiled = Source::read("s.yaml", text.as_bytes())
        .and_then(|source| source.compile(&schemas(), options));
    let shown = |error| match error {
        oms_dsc::Error::Document { diagnostics, .. } => {
            diagnostics.iter().map(|told| format!("{told}\n")).collect::<String>()
        }
        other => other.to_string(),
    };
    let parsed = compiled.map_err(shown)?.into_iter().filter_map(|node| {
        assert_eq!(node.checksum, Checksum::of(node.text.as_bytes()));
        let document = mof::parse(node.text.as_bytes()).into_result().expect("it is MOF");
        assert_eq!(schemas().check(&document, CheckOptions::default()), []);
        if node.is_metaconfiguration {
            return None;
        }
        let configuration = Configuration::from_document(&document);
        Some((node.name.to_string(), configuration.expect("what was compiled")))
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
        // In characters, as `length` counts, and not in bytes.
        ("[string(indexOf('Größe: 3', ':'))]", "5"),
        ("[[main]\nk=[x]", "[main]\nk=[x]"),
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
        ("['a]", "the string is not closed: `'a`; a text that begins with `[` is written `[[`"),
        (
            "[]",
            "the expression is empty, or ends too early; a text that begins with `[` is written `[[`",
        ),
        (
            "[main]\nk=[x]",
            "`main` is no function without `(`; a text that begins with `[` is written `[[`",
        ),
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

/// They are of the composite or document that the group is in, whichever way a name is looked up.
#[test]
fn groups_and_what_is_around_them_know_each_other() {
    let file = |name: &str, on: &str| {
        let on = if on.is_empty() { json!([]) } else { json!([on]) };
        let path = format!("[concat('/', parameters('at'), '/{name}')]");
        json!({"type": "nxFile", "name": name, "dependsOn": on, "properties": {"DestinationPath": path}})
    };
    let group = |members: serde_json::Value| json!({"type": "Microsoft.DSC/Group", "name": "g", "properties": {"resources": members}});
    let site = json!({
        "parameters": {"at": {"type": "string"}},
        "resources": [
            file("folder", ""), group(json!([file("page", "[nxFile]folder")])),
            file("log", "[nxFile]page"), file("last", "[Group]g"),
        ],
    });
    let used = json!({"type": "Site", "name": "s", "properties": {"at": "s"}});
    let source = json!({
        "configuration": "T",
        "parameters": {"at": {"type": "string", "defaultValue": "top"}},
        "composites": {"Site": site},
        "resources": [file("folder", ""), group(json!([used])), file("after", "[Site]s")],
    });
    let compiled = compile(&source.to_string(), &options()).expect("right");
    let depends = |id: &str| {
        let mut resources = compiled[0].1.resources.iter();
        let found = resources.find(|resource| resource.resource_id == id);
        found.expect("it is there").depends_on.clone()
    };
    assert_eq!(depends("[nxFile]page::[Site]s"), ["[nxFile]folder::[Site]s"]);
    assert_eq!(depends("[nxFile]log::[Site]s"), ["[nxFile]page::[Site]s"]);
    assert_eq!(depends("[nxFile]last::[Site]s"), ["[nxFile]page::[Site]s"]);
    let all = ["folder", "page", "log", "last"].map(|name| format!("[nxFile]{name}::[Site]s"));
    assert_eq!(depends("[nxFile]after"), all);
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
        "1:16: not a valid configuration name. value=`a/b`, reason=`has a control character, slash, backslash or quote`",
    );
}

/// Of a whole document, whose output is in a folder of that name.
#[test]
fn a_configuration_has_a_name_of_its_own() {
    for (name, reason) in [("..", "names a folder"), ("''", "not 1 to 255 bytes")] {
        let told = compile(&format!("configuration: {name}\nresources: []"), &options());
        let told = told.expect_err(name);
        assert!(told.starts_with("1:16: ") && told.contains(reason), "{told}");
    }
    let given = CompileOptions { name: Some("..".to_owned()), ..options() };
    let told = compile("configuration: T\nresources: []", &given).expect_err("a folder");
    assert!(told.contains("names a folder"), "{told}");
}

/// Both would be published by one name, and the second in place of the first.
#[test]
fn nodes_differ_by_more_than_their_case() {
    check_wrong(
        "configuration: T\nnodes:\n  web-1: {}\n  web-2: {}\n  WEB-1: {}\nresources: []",
        "5:3: the node `WEB-1` is `web-1` at 3:3 in another case",
    );
}

/// `oms dsc compile --certificate Web-1=web1.pem --certificate all.pem` where the node is `web-1`.
#[test]
fn a_certificate_is_of_a_node_that_is_there() {
    let pem = include_bytes!("../fixtures/certificates/node.pem");
    let recipient = || Recipient::from_pem(pem).expect("a certificate");
    let mut options = options();
    for node in ["*", "web-1", "web-2"] {
        options.recipients.insert(node.to_owned(), recipient());
    }
    assert_eq!(compile(SITES, &options).expect("right").len(), 2);
    options.recipients.insert("Web-1".to_owned(), recipient());
    let told = compile(SITES, &options).expect_err("no such node");
    assert_eq!(
        told,
        "certificate is not valid. reason=`there is no node `Web-1`; did you mean `web-1`?`"
    );
    options.recipients = [("localhost".to_owned(), recipient())].into();
    assert!(compile("configuration: T\nresources: []", &options).is_ok());
}

/// A node's own data, told by what all nodes have and by parameters.
#[test]
fn what_is_said_of_a_node_may_be_an_expression() {
    let text = |more: &str| {
        format!(
            "configuration: T
parameters:
  domain: {{type: string, defaultValue: example.org}}
  tier: {{type: string, defaultValue: \"[node('tier')]\"}}{more}
nodes:
  '*':
    tier: test
    url: \"[concat('http://', node('host'), '/', parameters('tier'))]\"
  web-1: {{host: \"[concat(nodeName(), '.', parameters('domain'))]\", note: '[[plain]'}}
  web-2: {{host: web-2, tier: live}}
variables: {{all: \"[join(createArray(node('url'), node('note')), ' ')]\"}}
resources:
- type: nxFile
  name: f
  properties: {{DestinationPath: /f, Contents: \"[variables('all')]\"}}
"
        )
    };
    let wrong = text("");
    // In the order of the text: those of all nodes come first.
    let told = compile(&wrong, &options()).expect_err("not yet");
    assert!(told.starts_with("8:10: the value `host` of the node is not known yet"), "{told}");
    let right = wrong
        .replace("    url: ", "    note: none\n    url: ")
        .replace("node('host')", "nodeName()");
    let compiled = compile(&right, &options()).expect("right");
    let contents = |index: usize| compiled[index].1.resources[0].property("Contents").cloned();
    assert_eq!(contents(0), Some(PropertyValue::Text("http://web-1/test [plain]".to_owned())));
    assert_eq!(contents(1), Some(PropertyValue::Text("http://web-2/live none".to_owned())));
    // A parameter is known before what is computed of a node.
    let round = right.replace("[node('tier')]", "[node('url')]");
    let told = compile(&round, &options()).expect_err("not yet");
    assert!(told.starts_with("4:38: the value `url` of the node is not known yet"), "{told}");
}

/// As a script of PowerShell has them, or as a document that was read has them.
#[test]
fn what_is_no_property_is_not_given_as_one() {
    for (name, expect) in [
        ("ModuleName", "`ModuleName` is given as `module`"),
        ("moduleversion", "`ModuleVersion` is given as `module`"),
        ("CONFIGURATIONNAME", "`ConfigurationName` is the name of the configuration"),
        ("SourceInfo", "`SourceInfo` is the place in the source"),
        ("DependsOn", "`DependsOn` is given as `dependsOn`"),
        ("ResourceId", "`ResourceID` is made of `type` and `name`"),
    ] {
        check_wrong(
            &format!(
                "configuration: T
resources:
- type: nxFile
  name: f
  dependsOn: '[nxFile]g'
  properties: {{DestinationPath: /f, {name}: nx}}
- {{type: nxFile, name: g, properties: {{DestinationPath: /g}}}}
"
            ),
            &format!("6:37: {expect}"),
        );
        let file = ResourceBuilder::new("nxFile", "f").property("DestinationPath", "/f");
        let builder = ConfigurationBuilder::new("T").resource(file.property(name, "nx"));
        let error = builder.build(&schemas(), &SeededEntropy::new(1)).expect_err("no property");
        assert!(error.to_string().contains(expect), "{error}");
    }
    // What has two spellings of one property has it twice.
    check_wrong(
        "configuration: T
resources:
- type: User
  name: u
  properties:
    UserName: u
    Password: {userName: u, UserName: v, password: p}
",
        "7:15: the property `UserName` was given at 7:15 already",
    );
}

#[test]
fn the_modules_of_resources_of_linux() {
    let text = "configuration: T
resources:
- {type: nxFirewall, name: a, properties: {Name: a}}
- {type: nxComputer, name: b, properties: {Name: b}}
- {type: nxNetworking/nxFirewall, name: c, properties: {Name: c}}
- {type: nx/nxFile, name: d, properties: {DestinationPath: /d}}
";
    let compiled = compile(text, &options()).expect("right");
    let resources = compiled[0].1.resources.iter();
    let modules: Vec<&str> =
        resources.map(|resource| resource.module_name.as_deref().unwrap_or_default()).collect();
    assert_eq!(modules, ["nxNetworking", "nxComputerManagement", "nxNetworking", "nx"]);
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

/// A resource that is right now and then: with properties, and values, from wherever they may be.
fn any_resource() -> impl Strategy<Value = serde_json::Value> {
    const TYPES: [&str; 6] = [
        "nxFile",
        "nx/nxFile",
        "User",
        "Other/Thing",
        "ConfigurationRepositoryWeb",
        "PartialConfiguration",
    ];
    const NAMES: [&str; 16] = [
        "destinationPath",
        "Contents",
        "contents",
        "Ensure",
        "Password",
        "ConfigurationSource",
        "Description",
        "AllowUnsecureConnection",
        "ModuleName",
        "moduleVersion",
        "ConfigurationName",
        "SourceInfo",
        "DependsOn",
        "dependsOn",
        "ResourceID",
        "ResourceId",
    ];
    let value = prop_oneof![
        6 => "[a-z/\\\\\"'\n\u{e9}]{0,6}".prop_map(serde_json::Value::from),
        1 => Just(json!("present")),
        1 => Just(json!("[nxFile]a")),
        1 => Just(json!({"userName": "u", "password": "-----BEGIN CMS-----"})),
        1 => Just(json!(["[nxFile]a"])),
        1 => any::<i64>().prop_map(serde_json::Value::from),
    ];
    let properties = prop::collection::btree_map(prop::sample::select(&NAMES[..]), value, 0..3);
    let name = prop::sample::select(&["a", "b", "A"][..]);
    let depends_on = prop::option::of(prop::sample::select(&["[nxFile]a", "[User]b"][..]));
    (prop::sample::select(&TYPES[..]), name, properties, depends_on).prop_map(
        |(kind, name, mut properties, depends_on)| {
            // What each needs, so that it is right now and then.
            let needed = match kind {
                "nxFile" | "nx/nxFile" => vec![("DestinationPath", json!(format!("/{name}")))],
                "User" => vec![("UserName", json!(name))],
                "ConfigurationRepositoryWeb" => vec![("ServerURL", json!("https://pull.example"))],
                _ => vec![],
            };
            properties.extend(needed);
            let properties: serde_json::Map<String, serde_json::Value> =
                properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let mut resource = json!({"type": kind, "name": name, "properties": properties});
            if let Some(depends_on) = depends_on {
                resource["dependsOn"] = json!(depends_on);
            }
            resource
        },
    )
}

proptest! {
    #[test]
    fn any_text_is_compiled_or_refused(text in "[a-z0-9:{}\\[\\]'\", \n*&!|>-]{0,200}") {
        if let Ok(source) = Source::read("s", text.as_bytes()) {
            let _ = source.compile(&schemas(), &options());
        }
    }

    /// Whatever is compiled is MOF, and a configuration that agrees with the schemas: `compile` sees to
    /// it.
    #[test]
    fn what_is_compiled_is_read_again(
        resources in prop::collection::vec(any_resource(), 1..3),
        settings in prop::option::of(Just(json!({"RefreshMode": "Push"}))),
    ) {
        let mut source = json!({"configuration": "T", "resources": resources});
        if let Some(settings) = settings {
            source["settings"] = settings;
        }
        let _ = compile(&source.to_string(), &options());
    }

    #[test]
    fn any_expression_is_evaluated_or_refused(expression in "\\[[a-zA-Z(){}\\[\\]',. 0-9-]{0,60}\\]") {
        let _ = contents(&expression);
    }
}
