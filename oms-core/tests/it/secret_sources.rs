//! No source of the workspace prints, logs or serializes a field that is secret by its name and is not
//! kept so by its type.
//!
//! It looks at the fields of types that derive `Debug` or `Serialize`, at what a handwritten `Debug`,
//! `Display` or `Serialize` reaches, and at what is given to the macros of `tracing`.

mod scan;

use self::scan::shown_secrets;
use crate::sources::Workspace;

/// What is shown all the same, and why.
const ALLOWED: [(&str, &str); 12] = [
    ("AdminFile.client_secret", "the text of the file that tells its owner the credentials"),
    ("AdminFile.workspace_key", "likewise"),
    ("AdminFile.dsc_registration_key", "likewise"),
    ("AdminFile.automation_key", "likewise"),
    ("CertificateInformation.public_key", "public, as it says"),
    ("ListQuery.token", "where a list goes on, which gives no access"),
    ("RequestHeaders.authorization", "a signature over one request and its time, never the key"),
    ("HistoryId.key", "the name of a history, not a secret"),
    ("Operation.key", "what a row of the table `Operation` is about"),
    ("AdditionalData.key", "what the value is called"),
    ("Entry.key", "what the value of a mapping is called"),
    ("Desired.key", "the public key that may log in"),
];

/// A made-up snippet, and what is found in it.
fn check(snippet: &str, expected: &[&str]) {
    assert_eq!(shown_secrets(snippet), expected, "{snippet}");
}

#[test]
fn derived_fields_are_seen() {
    for word in scan::SECRET_WORDS {
        let planted =
            format!("#[derive(Clone, Debug)]\npub struct Login {{\n    pub {word}: String,\n}}");
        check(&planted, &[&format!("Login.{word}")]);
        check(&planted.replace("String", "Secret"), &[]);
        check(&planted.replace("Clone, Debug", "Clone"), &[]);
    }
    check(
        "#[derive(Serialize)] enum Call { Log { user: u8, api_key: Option<String> }, Go }",
        &["Call.api_key"],
    );
    check("#[derive(Debug)] struct A<'a, T: Into<u8>> { token: &'a str, t: T }", &["A.token"]);
    check("#[derive(Debug)] struct A<F: Fn(u8) -> u8> where F: Fn(u8) { key: String }", &["A.key"]);
    check("#[derive(Debug)] struct A { tokens: Vec<Vec<u8>>, names: Vec<String> }", &["A.tokens"]);
    check("#[derive(Debug)] struct A { token_bytes_max: usize, password: Sealed }", &[]);
    check("#[derive(Debug)] struct A; struct B { token: String }", &[]);
}

#[test]
fn derives_over_several_lines_and_attributes_are_seen() {
    let text = "#[derive(\n    Clone,\n    Debug,\n)]\n#[serde(rename_all = \"camelCase\")]\n/// Doc: \
                with `struct B {`.\npub(crate) struct A {\n    #[serde(default)]\n    pub(super) \
                password:\n        Option<String>,\n}";
    check(text, &["A.password"]);
    check("#[cfg_attr(test, derive(Debug))] struct A { secret: [u8; 32] }", &["A.secret"]);
}

#[test]
fn tuples_are_known_by_the_name_of_their_type() {
    check("#[derive(Debug)] struct Password(String);", &["Password.0"]);
    check("#[derive(Debug)] pub struct AccessToken<'a>(pub &'a str, u8);", &["AccessToken.0"]);
    check("#[derive(Debug)] enum Proof { Token(String), Name(String) }", &["Proof.Token"]);
    check("#[derive(Debug)] struct Name(String); struct Password(String);", &[]);
    check("#[derive(Debug)] struct Password(Secret);", &[]);
}

#[test]
fn a_field_that_is_called_key_is_seen() {
    check("#[derive(Debug)] struct A { key: Vec<u8> }", &["A.key"]);
    check("#[derive(Debug)] struct Key([u8; 32]);", &["Key.0"]);
    check("#[derive(Debug)] struct A { keyboard: String, monkey: String, key: HistoryId }", &[]);
}

#[test]
fn handwritten_implementations_are_seen() {
    let written = |what: &str, body: &str| {
        format!(
            "struct A {{ name: String, password: String }}\nimpl {what} for A {{ fn fmt(&self, f: \
             &mut fmt::Formatter<'_>) -> fmt::Result {{ {body} }} }}\nimpl A {{ fn password(&self) \
             -> &str {{ &self.password }} }}"
        )
    };
    for what in ["fmt::Debug", "Debug", "std::fmt::Display", "Serialize", "fmt::LowerHex"] {
        check(&written(what, "f.write_str(&self.password)"), &["A.password"]);
        check(&written(what, "f.write_str(&self.name)"), &[]);
    }
    let debug = |body: &str| written("fmt::Debug", body);
    check(&debug("let Self { password, .. } = self; write!(f, \"{password}\")"), &["A.password"]);
    check(&debug("write!(f, \"{}\", self.password)"), &["A.password"]);
    check(&debug("f.debug_struct(\"A\").field(\"password\", &\"***\").finish()"), &[]);
    check(&debug("f.debug_struct(\"A\").field(\"p\", &self.password).finish()"), &["A.password"]);
    check(&debug("write!(f, \"{}\", self.password.is_empty())"), &[]);
    check("struct Key([u8; 32]); impl Debug for Key { fn f(&self) { self.0 } }", &["Key.0"]);
    check("struct Key([u8; 32]); impl Clone for Key { fn f(&self) { self.0 } }", &[]);
    let elsewhere = "impl fmt::Display for Login { fn f(&self) { f.write_str(&self.token) } }";
    check(elsewhere, &["Login.token"]);
    check("struct A { token: Secret } impl Debug for A { fn f(&self) { self.token } }", &[]);
}

#[test]
fn fields_of_spans_and_events_are_seen() {
    check("fn f() { tracing::info!(password, \"in\"); }", &["info!.password"]);
    check("fn f() { warn!(%token, ?name); }", &["warn!.token"]);
    check("fn f() { tracing::debug!(who = %login.password); }", &["debug!.password"]);
    check("fn f() { error!(\"it is {api_key:?}\"); }", &["error!.api_key"]);
    check("fn f() { error!(\"it is {}\", secret); }", &["error!.secret"]);
    check(
        "let s = tracing::info_span!(\"call\", token = tracing::field::Empty);",
        &["info_span!.token"],
    );
    check("fn f() { warn!(who = %login.token.as_str()); }", &["warn!.token"]);
    check("fn f() { warn!(key = %credential.id); }", &["warn!.key"]);
    check("fn f() { warn!(id = %credential.id); }", &[]);
    check("fn f() { warn!(has_token = token.is_some(), \"no token: {name}\"); }", &[]);
    check("fn f() { warn!(name = %self.credentials.len(), \"password\"); }", &[]);
    check("#[instrument(skip_all, fields(token = %t))] fn f() {}", &["instrument.token"]);
    check("#[tracing::instrument] fn f(name: &str, password: &str) {}", &["instrument.password"]);
    check("#[tracing::instrument(skip_all)] fn f(name: &str, password: &str) {}", &[]);
}

#[test]
fn comments_and_texts_are_no_sources() {
    check("// #[derive(Debug)] struct A { token: String }\n/* struct B { /* key */ } */", &[]);
    check("const T: &str = \"#[derive(Debug)] struct A { token: String }\";", &[]);
    check("const T: &str = r#\"#[derive(Debug)] struct A { token: \"String\" }\"#;", &[]);
    check(
        "fn f<'a>(c: char) { let _ = ['\"', '\\'', 'a']; } #[derive(Debug)] struct A { token: \
           String }",
        &["A.token"],
    );
}

#[test]
fn no_source_shows_a_plain_secret() {
    let workspace = Workspace::read();
    let (mut found, mut allowed, mut kept) = (Vec::new(), Vec::new(), 0);
    for (path, text) in &workspace.files {
        let shown = shown_secrets(text);
        // What it would find if nothing kept its secrets.
        kept += shown_secrets(&text.replace("Secret", "String")).len() - shown.len();
        for shown in shown {
            match ALLOWED.iter().find(|(allowed, _)| *allowed == shown) {
                Some((shown, _)) => allowed.push(*shown),
                None => found.push(format!("{}: {shown}", path.display())),
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(kept >= 8 || !workspace.is_whole, "it would miss nearly everything: {kept}");
    let unused = ALLOWED.iter().filter(|(shown, _)| workspace.is_whole && !allowed.contains(shown));
    let unused: Vec<_> = unused.collect();
    assert!(unused.is_empty(), "every exception is one of something: {unused:?}");
}
