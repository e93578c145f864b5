//! Secure parameters: nowhere in the clear, and in no message.

use super::{compile, options, schemas};
use oms_dsc::authoring::{CompileOptions, NodeConfiguration, ResourceBuilder, Source};
use oms_dsc::configuration::PropertyValue;
use oms_dsc::configuration::credential::Recipient;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A document around secure parameters: text `pw`, digits `pin`, an object `account`.
fn document(more: &str) -> String {
    format!(
        "configuration: T
parameters:
  pw: {{type: secureString}}
  pin: {{type: secureString}}
  account: {{type: secureObject}}
{more}"
    )
}

const SECRETS: [&str; 3] = ["s3cr3t{Zq", "90817263", "sesame77"];

fn given() -> CompileOptions {
    let mut options = options();
    let account = json!({"userName": "u", "password": 90_817_263, "key": SECRETS[2]});
    for (name, value) in
        [("pw", json!(SECRETS[0])), ("pin", json!(SECRETS[1])), ("account", account)]
    {
        options.parameters.insert(name.to_owned(), value);
    }
    options
}

/// With a certificate, for which passwords are encrypted.
fn certified() -> CompileOptions {
    let pem = include_bytes!("../../fixtures/certificates/node.pem");
    let mut options = given();
    options.recipients.insert("*".to_owned(), Recipient::from_pem(pem).expect("a certificate"));
    options
}

/// What is told of a document, in which no secret may be.
fn told(text: &str, options: &CompileOptions) -> String {
    let told = compile(text, options).expect_err(text);
    for secret in SECRETS {
        assert!(!told.contains(secret), "{text}\n{told}");
    }
    told.trim_end().to_owned()
}

#[test]
fn a_secret_stays_one_wherever_it_goes() {
    let file = |contents: &str| {
        format!(
            "resources:\n- {{type: nxFile, name: f, properties: {{DestinationPath: /f, Contents: \"[{contents}]\"}}}}\n"
        )
    };
    for (more, expect) in [
        // Through the default of a parameter that is not secure itself, and on to another.
        (
            format!(
                "  url: {{type: string, defaultValue: \"[concat('pg://', parameters('pw'))]\"}}
  all: {{type: array, defaultValue: [x, \"[parameters('url')]\"]}}
{}",
                file("string(parameters('all'))")
            ),
            "9:71: `Contents` would hold the secure parameter `all` in the clear",
        ),
        (
            format!("variables: {{v: \"[parameters('pw')]\"}}\n{}", file("'x'")),
            "6:13: the variable `v` would hold the secure parameter `pw`",
        ),
        (
            format!("nodes: {{n: {{v: \"[parameters('pw')]\"}}}}\n{}", file("'x'")),
            "6:13: the value `v` of the node would hold the secure parameter `pw`",
        ),
        // In the id of every resource of a composite, which everybody reads.
        (
            "composites:
  Site:
    resources: [{type: nxFile, name: f, properties: {DestinationPath: /f}}]
resources:
- {type: Site, name: \"[parameters('pw')]\"}
"
            .to_owned(),
            "10:22: `name` would hold the secure parameter `pw`",
        ),
        (
            "resources:
- type: nxFile
  name: f
  dependsOn: [\"[concat('[nxFile]', parameters('pw'))]\"]
  properties: {DestinationPath: /f}
"
            .to_owned(),
            "9:15: `dependsOn` would hold the secure parameter `pw`",
        ),
        // Through a default of a composite's own.
        (
            "composites:
  Site:
    parameters:
      key: {type: secureString}
      line: {type: string, defaultValue: \"[concat('key=', parameters('key'))]\"}
    resources:
    - {type: nxFile, name: f, properties: {DestinationPath: /f, Contents: \"[parameters('line')]\"}}
resources:
- {type: Site, name: s, properties: {key: \"[parameters('pw')]\"}}
"
            .to_owned(),
            "12:75: `Contents` would hold the secure parameter `line` in the clear",
        ),
        // A credential's password is encrypted; what stands in its place is not.
        (
            "resources:
- type: User
  name: u
  properties: {UserName: u, Password: \"[parameters('pw')]\"}
"
            .to_owned(),
            "9:39: `Password` is an instance of `MSFT_Credential`, not a string
9:39: `Password` would hold the secure parameter `pw` in the clear",
        ),
    ] {
        assert_eq!(told(&document(&more), &given()), expect, "{more}");
    }
}

/// Two parts of a configuration that both want the account, with a certificate and without.
#[test]
fn equal_credentials_of_one_account_are_the_same_wish() {
    let user = |name: &str, password: &str| {
        let properties = json!({
            "UserName": "svc", "Password": {"userName": "svc", "password": password},
        });
        json!({"type": "User", "name": name, "properties": properties})
    };
    let source = |other: &str| {
        json!({"configuration": "T", "resources": [user("a", "p"), user("b", other)]}).to_string()
    };
    let mut options = CompileOptions { leaves_passwords_clear: true, ..options() };
    for _ in ["clear", "encrypted"] {
        assert_eq!(compile(&source("p"), &options).expect("one wish")[0].1.resources.len(), 2);
        let told = compile(&source("q"), &options).expect_err("two wishes");
        assert!(told.contains("have the same UserName and differ in `Password`"), "{told}");
        let pem = include_bytes!("../../fixtures/certificates/node.pem");
        let recipient = Recipient::from_pem(pem).expect("a certificate");
        options.recipients.insert("*".to_owned(), recipient);
    }
}

/// A document of one credential, with a parameter more and a composite whose parameters are `cred`, an
/// object, and `name`, a string.
fn credential(password: &str) -> String {
    document(&format!(
        "  login: {{type: secureObject}}
  pair: {{type: object, defaultValue: {{userName: svc, password: \"[parameters('pw')]\"}}}}
  open: {{type: object, defaultValue: {{userName: \"[parameters('pw')]\", password: x}}}}
composites:
  Account:
    parameters: {{cred: {{type: object}}, name: {{type: string, defaultValue: u}}}}
    resources:
    - {{type: User, name: v, properties: {{UserName: v, Password: \"[parameters('cred')]\"}}}}
    - {{type: User, name: w, properties: {{UserName: w, Password: {{userName: \"[parameters('name')]\", password: x}}}}}}
resources:
- {{type: User, name: u, properties: {{UserName: u, Password: {password}}}}}
"
    ))
}

/// Only the password of a credential is encrypted.
#[test]
fn no_user_name_is_a_secret() {
    let mut options = certified();
    let login = json!({"userName": "svc", "password": SECRETS[0]});
    options.parameters.insert("login".to_owned(), login);
    for refused in [
        "{userName: \"[parameters('pw')]\", password: x}",
        "{USERNAME: \"[concat('a', parameters('pw'))]\", password: \"[parameters('pin')]\"}",
        "[{userName: \"[parameters('pw')]\", password: x}]",
        "\"[createObject('userName', parameters('pw'), 'password', 'x')]\"",
        "\"[parameters('open')]\"",
        // A secret of a secure object is one in another place, too.
        "{userName: \"[parameters('login').password]\", password: x}",
        "{userName: \"[string(parameters('login'))]\", password: x}",
        "\"[createObject('userName', parameters('login').password, 'password', 'x')]\"",
    ] {
        let told = told(&credential(refused), &options);
        assert!(told.contains("would hold the secure parameter `"), "{refused}: {told}");
        assert!(told.lines().all(|line| line.starts_with("16:")), "{refused}: {told}");
    }
    let account = "resources:\n- {type: Account, name: a, properties: ";
    for (more, expect) in [
        ("{cred: {userName: \"[parameters('pw')]\", password: x}}}\n", "13:"),
        ("{cred: {userName: u, password: x}, name: \"[parameters('pw')]\"}}\n", "14:"),
    ] {
        let text = credential("{userName: u, password: x}");
        let told = told(
            &text.replace(
                "resources:\n- {type: User, name: u",
                &format!("{account}{more}- {{type: User, name: u"),
            ),
            &options,
        );
        assert!(told.starts_with(expect) && told.ends_with("in the clear"), "{told}");
    }
    let text = credential("\"[parameters('login')]\"");
    for right in [
        text.clone(),
        credential("{userName: svc, password: \"[parameters('pw')]\"}"),
        credential("\"[parameters('pair')]\""),
        credential("{userName: \"[parameters('login').userName]\", password: \"[parameters('login').password]\"}"),
        text.replace(
            "resources:\n- {type: User, name: u",
            &format!("{account}{{cred: {{userName: svc, password: \"[parameters('pw')]\"}}, name: \"[parameters('login').userName]\"}}}}\n- {{type: User, name: u"),
        ),
    ] {
        let source = Source::read("s.yaml", right.as_bytes()).expect("it reads");
        let compiled = source.compile(&schemas(), &options).expect(&right);
        let text = &compiled[0].text;
        assert!(text.contains("UserName = \"svc\"") && text.contains("BEGIN CMS"), "{text}");
        assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{text}");
    }
}

/// A class that extends a credential's is not looked for when passwords are encrypted.
#[test]
fn a_credential_of_another_class_is_none() {
    let class = "class My_Credential : MSFT_Credential { };";
    let schemas = schemas().with("my.mof", class.as_bytes()).expect("a class");
    let text = credential("{$class: My_Credential, userName: u, password: \"[parameters('pw')]\"}");
    let mut options = certified();
    options.parameters.insert("login".to_owned(), json!({}));
    let source = Source::read("s.yaml", text.as_bytes()).expect("it reads");
    let told = source.compile(&schemas, &options).expect_err("it is not encrypted").to_string();
    assert!(told.contains("`Password` would hold the secure parameter `pw`"), "{told}");
}

/// Passwords that are written where they are needed, with a slip.
#[test]
fn no_message_shows_a_literal_password() {
    let user = |property: &str| {
        format!(
            "configuration: T\nresources:\n- {{type: User, name: u, properties: {{UserName: u, {property}}}}}\n"
        )
    };
    let parameter = |declared: &str| {
        format!("configuration: T\nparameters: {{p: {declared}}}\nresources: []\n")
    };
    for text in [
        user("Password: {userName: u, password: 90817263}"),
        user("Password: 90817263"),
        user("PsDscRunAsCredential: 90817263"),
        user("Password: {userName: u, password: '[sesame77]'}"),
        user("Password: {userName: u, password: '[sesame77()]'}"),
        user("Password: {userName: u, password: \"['sesame77]\"}"),
        user("PsDscRunAsCredential: {userName: u, Password: \"['a' 90817263]\"}"),
        user("Password: '[sesame77]'"),
        parameter("{type: secureString, defaultValue: '[sesame77]'}"),
        parameter("{type: secureString, defaultValue: '[sesame77()]'}"),
        parameter("{type: secureObject, defaultValue: {key: '[sesame77]'}}"),
        "configuration: T
settings: {RefreshMode: Pull}
resources:
- type: ConfigurationRepositoryWeb
  name: r
  properties: {ServerURL: 'https://localhost', RegistrationKey: 90817263}
"
        .to_owned(),
    ] {
        told(&text, &options());
    }
    let text = parameter("{type: secureString, defaultValue: '[sesame77]'}");
    let expect = "2:52: the text is no expression; a text that begins with `[` is written `[[`";
    assert_eq!(told(&text, &options()), expect);
    // Elsewhere the text is what helps.
    let shown = compile(&user("FullName: '[sesame77]'"), &options()).expect_err("no expression");
    assert!(shown.contains("`sesame77` is no function without `(`"), "{shown}");
}

#[test]
fn what_only_asks_for_a_secret_blames_nothing_else() {
    let text = document(
        "resources:
- type: nxFile
  name: f
  condition: \"[not(empty(parameters('pw')))]\"
  properties: {DestinationPath: /f, Contents: plain}
- type: nxFile
  name: g
  condition: \"[empty(parameters('pw'))]\"
  properties: {DestinationPath: /g}
",
    );
    let compiled = compile(&text, &given()).expect("right");
    let [resource] = &compiled[0].1.resources[..] else { panic!("{compiled:?}") };
    assert_eq!(resource.property("Contents"), Some(&PropertyValue::Text("plain".into())));
    // An expression that fails behind a secret leaves what comes next alone.
    let text = document(
        "resources:
- type: nxFile
  name: f
  properties: {DestinationPath: \"[concat(parameters('pw'), 1)]\", Contents: plain}
",
    );
    let told = told(&text, &given());
    assert_eq!(
        told,
        "7:3: the key `DestinationPath` of `MSFT_nxFileResource` is missing
9:33: `concat` takes a string, not a number"
    );
}

#[test]
fn no_message_shows_a_secret() {
    let contents = |expression: &str| {
        document(&format!(
            "resources:\n- {{type: nxFile, name: f, properties: {{DestinationPath: /f, Contents: \"[{expression}]\"}}}}\n"
        ))
    };
    for (expression, expect) in [
        ("int(parameters('pw'))", "`int` cannot read its text"),
        (
            "mul(int(parameters('pin')), 9223372036854775807)",
            "`mul` of its arguments is no integer",
        ),
        ("range(0, sub(0, int(parameters('pin'))))", "`range` makes no such numbers"),
        ("format(parameters('pw'))", "`format` has a brace without its other"),
        ("format(concat('{', parameters('pin'), '}'))", "`format` has no value of that number"),
        ("json(parameters('pw'))", "`json` cannot read its text"),
        ("base64ToString(parameters('pw'))", "`base64ToString` cannot read its text"),
        ("createObject('a', 1)[parameters('pw')]", "there is no such member"),
        ("createArray(1)[int(parameters('pin'))]", "there is no such member"),
        ("parameters(parameters('pw'))", "there is no parameter of that name"),
        ("variables(parameters('pw'))", "there is no variable of that name"),
        ("node(parameters('pw'))", "there is no value of the node of that name"),
    ] {
        assert_eq!(
            told(&contents(expression), &given()),
            format!("7:71: {expect}"),
            "{expression}"
        );
    }
    // Nor does the schemas' own, however the value is wrong; also if it may stay in the clear.
    for clear in [false, true] {
        let options = CompileOptions { leaves_passwords_clear: clear, ..given() };
        for (properties, expect) in [
            ("Ensure: \"[parameters('pw')]\"", "`Ensure` is one of `Present`, `Absent`"),
            ("FullName: \"[int(parameters('pin'))]\"", "`FullName` is a string, not an integer"),
            ("Password: \"[parameters('account')]\"", "`Password` is a string, not an integer"),
            (
                "Password: \"[createObject(parameters('pw'), 1)]\"",
                "`MSFT_Credential` has no property of that name",
            ),
            (
                "Password: {$class: \"[parameters('pw')]\", userName: u, password: p}",
                "there is no schema of the class\n",
            ),
        ] {
            let text = document(&format!(
                "resources:\n- {{type: User, name: u, properties: {{UserName: u, {properties}}}}}\n"
            ));
            let told = format!("{}\n", told(&text, &options));
            assert!(told.contains(expect), "{told}");
        }
        let text = document(
            "settings: {RefreshFrequencyMins: \"[int(parameters('pin'))]\"}
resources:
- type: PartialConfiguration
  name: p
  properties: {ConfigurationSource: [\"[parameters('pw')]\"]}
",
        );
        let told = told(&text, &options);
        assert!(told.contains("6:34: `RefreshFrequencyMins` is 30 to 44640 minutes"), "{told}");
        assert!(told.contains("10:37: nothing has the id that is referred to"), "{told}");
    }
}

#[test]
fn a_secret_among_others_is_told_as_none_of_them() {
    let text = "configuration: T
parameters: {pw: {type: secureString, allowedValues: [90817263x, sesame77], defaultValue: 's3cr3t{Zq'}}
resources: []
";
    let expect = "2:91: the parameter `pw` is none of its `allowedValues`";
    assert_eq!(told(text, &options()), expect);
}

/// As a log or a failed assertion of a user's own program has it.
#[test]
fn what_is_printed_for_debugging_has_no_secrets() {
    let text = document("  old: {type: secureString, defaultValue: sesame77}\nresources: []\n");
    let source = Source::read("s.yaml", text.as_bytes()).expect("right");
    let text = document(
        "resources:
- {type: User, name: u, properties: {UserName: u, Password: {userName: u, password: \"[parameters('pw')]\"}}}
",
    );
    let options = CompileOptions { leaves_passwords_clear: true, ..given() };
    let compiled = Source::read("s.yaml", text.as_bytes()).expect("right");
    let compiled = compiled.compile(&schemas(), &options).expect("right");
    assert!(compiled[0].text.contains(SECRETS[0]));
    let builder = ResourceBuilder::new("User", "u").property("Password", SECRETS[0]);
    let shown = format!("{source:?} {options:?} {compiled:?} {builder:?}");
    for part in ["s.yaml", "\"account\"", "\"pw\"", "\"T.localhost\"", "\"Password\""] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(SECRETS.iter().all(|secret| !shown.contains(secret)), "{shown}");
}

/// Expressions of a few functions in each other, which all see secrets.
fn any_expression() -> impl Strategy<Value = String> {
    const FUNCTIONS: [&str; 16] = [
        "concat",
        "int",
        "string",
        "json",
        "format",
        "first",
        "length",
        "range",
        "split",
        "join",
        "createArray",
        "createObject",
        "node",
        "parameters",
        "mul",
        "if",
    ];
    const LEAVES: [&str; 7] = [
        "parameters('pw')",
        "parameters('pin')",
        "parameters('account')",
        "parameters('account').password",
        "'pw'",
        "true",
        "3",
    ];
    let leaf = prop::sample::select(&LEAVES[..]).prop_map(str::to_owned);
    leaf.prop_recursive(4, 12, 3, |inner| {
        let arguments = prop::collection::vec(inner, 0..4);
        (prop::sample::select(&FUNCTIONS[..]), arguments)
            .prop_map(|(name, arguments)| format!("{name}({})", arguments.join(", ")))
    })
}

proptest! {
    /// The property that the tables above have examples of: neither a document nor a message has a
    /// secret in it.
    #[test]
    fn no_expression_lets_a_secret_out(
        expression in any_expression(),
        place in prop::sample::select(&["FullName", "Ensure", "Disabled", "Password"][..]),
        member in prop::option::of(prop::sample::select(&["userName", "password"][..])),
        leaves_passwords_clear in any::<bool>(),
        is_certified in any::<bool>(),
    ) {
        let mut value = json!(format!("[{expression}]"));
        if let Some(member) = member {
            let mut object = json!({"userName": "u", "password": "p"});
            object[member] = value;
            value = object;
        }
        let properties = json!({"UserName": "u", place: value});
        let source = json!({
            "configuration": "T",
            "parameters": {
                "pw": {"type": "secureString"},
                "pin": {"type": "secureString"},
                "account": {"type": "secureObject"},
            },
            "resources": [{"type": "User", "name": "u", "properties": properties}],
        });
        let source = Source::read("s.json", Value::to_string(&source).as_bytes()).expect("right");
        let given = if is_certified { certified() } else { given() };
        let options = CompileOptions { leaves_passwords_clear, ..given };
        let shown = match source.compile(&schemas(), &options) {
            // Asked for, and in the document alone.
            Ok(compiled) if leaves_passwords_clear && !is_certified => format!("{compiled:?}"),
            Ok(compiled) => compiled.into_iter().map(|NodeConfiguration { text, .. }| text).collect(),
            Err(error) => format!("{error} {error:?}"),
        };
        for secret in SECRETS {
            prop_assert!(!shown.contains(secret), "{expression}: {shown}");
        }
    }
}
