//! Encrypted passwords on their node: opened with the certificate's key, for the resource alone.

use crate::support::World;
use async_trait::async_trait;
use oms_core::entropy::SeededEntropy;
use oms_core::{Secret, SystemClock};
use oms_dsc::Error;
use oms_dsc::configuration::credential::{CMS_BEGIN, MESSAGE_BYTES_MAX, Recipient, RecipientKey};
use oms_dsc::configuration::{Configuration, PropertyValue, ResourceInstance};
use oms_dsc::node::{self, ResourceOutcome};
use oms_dsc::resource::{Difference, Registry, Resource, SetReport};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const CERTIFICATE: &[u8] = include_bytes!("../fixtures/certificates/recipient.pem");
const OTHER_CERTIFICATE: &[u8] = include_bytes!("../fixtures/certificates/node.pem");
const KEY: &str = include_str!("../fixtures/certificates/recipient.key.pem");

/// What `openssl cms -encrypt` made of [`CLEAR`], by algorithm or option.
const AES_128: &str = include_str!("../fixtures/cms/openssl-aes-128-cbc.pem");
const AES_192: &str = include_str!("../fixtures/cms/openssl-aes-192-cbc.pem");
const AES_256: &str = include_str!("../fixtures/cms/openssl-aes-256-cbc.pem");
const BY_KEY_IDENTIFIER: &str = include_str!("../fixtures/cms/openssl-keyid.pem");
const TWO_RECIPIENTS: &str = include_str!("../fixtures/cms/openssl-two-recipients.pem");
const ANOTHER_RECIPIENT: &str = include_str!("../fixtures/cms/openssl-other.pem");
const TRIPLE_DES: &str = include_str!("../fixtures/cms/openssl-des-ede3-cbc.pem");
const OAEP: &str = include_str!("../fixtures/cms/openssl-oaep.pem");
const STREAM: &str = include_str!("../fixtures/cms/openssl-stream.pem");

const CLEAR: &str = "pässwörd \"\\ of openssl";

fn key() -> RecipientKey {
    RecipientKey::from_pem(CERTIFICATE, &Secret::from(KEY)).expect("a certificate and its key")
}

#[test]
fn what_openssl_encrypted_is_opened() {
    let key = key();
    for message in [AES_128, AES_192, AES_256, BY_KEY_IDENTIFIER, TWO_RECIPIENTS] {
        assert_eq!(key.decrypt(message).expect(message), Secret::from(CLEAR));
    }
    // Whoever wraps lines otherwise, or not at all, means the same.
    let body: String = AES_256.lines().filter(|line| !line.starts_with('-')).collect();
    let in_one_line = format!("{CMS_BEGIN}{body}-----END CMS-----");
    let of_windows = AES_256.replace('\n', "\r\n");
    for message in [in_one_line, of_windows] {
        assert_eq!(key.decrypt(&message).expect("it opens"), Secret::from(CLEAR));
    }
}

#[test]
fn what_is_not_opened_says_why() {
    let key = key();
    let cut = AES_256.replacen("\nMIIB", "\n", 1);
    let long = format!("{CMS_BEGIN}{}-----END CMS-----", "A".repeat(MESSAGE_BYTES_MAX));
    let signed = "-----BEGIN CMS-----\nMAsGCSqGSIb3DQEHAg==\n-----END CMS-----";
    for (message, why) in [
        (ANOTHER_RECIPIENT, "it is for another certificate than this node's, 1628190"),
        (TRIPLE_DES, "name=`DES-EDE3-CBC`"),
        (OAEP, "name=`RSAES-OAEP`"),
        (STREAM, "ContentInfo is in pieces, whose length is not told"),
        ("hunter2", "it is not between -----BEGIN CMS----- and"),
        ("-----BEGIN CMS-----\n*\n-----END CMS-----", "it is not Base64"),
        ("-----BEGIN CMS----------END CMS-----", "it ends before ContentInfo"),
        (signed, "that is not enveloped data"),
        (&cut, "in place of ContentInfo"),
        (&long, "too large"),
    ] {
        let error = key.decrypt(message).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
    let elliptic = include_bytes!("../fixtures/certificates/elliptic.pem");
    for (certificate, key, why) in [
        (OTHER_CERTIFICATE, KEY, "it is not that of the certificate"),
        (&elliptic[..], KEY, "its key is not RSA"),
        (CERTIFICATE, "hunter2", "it is not an RSA key of PKCS #8 or PKCS #1 in PEM"),
        (CERTIFICATE, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "it is encrypted itself"),
    ] {
        let error = RecipientKey::from_pem(certificate, &Secret::from(key)).expect_err(why);
        let error = error.to_string();
        assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn what_a_recipient_encrypts_its_key_opens() {
    let recipient = Recipient::from_pem(CERTIFICATE).expect("a certificate");
    let older = include_str!("../fixtures/certificates/recipient.pkcs1.key.pem");
    let older = RecipientKey::from_pem(CERTIFICATE, &Secret::from(older)).expect("PKCS #1");
    assert_eq!(older.thumbprint(), recipient.thumbprint());
    for clear in ["", "hunter2", &"long ".repeat(1_000)] {
        let message = recipient.encrypt(&Secret::from(clear), &SeededEntropy::new(1));
        let message = message.expect("encrypted");
        assert_eq!(older.decrypt(&message).expect("it opens"), Secret::from(clear));
    }
    let shown = format!("{older:?}");
    assert_eq!(shown, format!("RecipientKey {{ thumbprint: {:?}, .. }}", recipient.thumbprint()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing of chance opens, and nothing that is cut.
    #[test]
    fn no_message_that_is_damaged_opens_to_the_password(
        keep in 0.0..1.0_f64, bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        let armoured = |bytes: &[u8]| {
            format!("{CMS_BEGIN}\n{}\n-----END CMS-----", engine.encode(bytes))
        };
        let key = key();
        prop_assert!(key.decrypt(&armoured(&bytes)).is_err());
        let body: String = AES_256.lines().filter(|line| !line.starts_with('-')).collect();
        let whole = engine.decode(body).expect("Base64");
        let cut = (whole.len() as f64 * keep) as usize;
        prop_assert!(key.decrypt(&armoured(&whole[..cut])).is_err());
    }
}

/// A resource that keeps what it is shown.
#[derive(Clone, Debug, Default)]
struct Spy(Arc<Mutex<Vec<ResourceInstance>>>);

impl Spy {
    fn note(&self, instance: &ResourceInstance) {
        self.0.lock().expect("not poisoned").push(instance.clone());
    }

    fn seen(&self) -> Vec<ResourceInstance> {
        self.0.lock().expect("not poisoned").clone()
    }
}

#[async_trait]
impl Resource for Spy {
    fn classes(&self) -> &[&str] {
        &["Test_Spy"]
    }

    async fn get(
        &self,
        instance: &ResourceInstance,
    ) -> Result<BTreeMap<String, serde_json::Value>, Error> {
        self.note(instance);
        Ok(BTreeMap::new())
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.note(instance);
        Ok(vec![Difference::new("Value", "one", "another")])
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.note(instance);
        Ok(SetReport::default())
    }
}

fn document(text: &str) -> Arc<Configuration> {
    let text = format!("{text} instance of OMI_ConfigurationDocument {{ Version = \"2.0.0\"; }};");
    Arc::new(Configuration::parse("test", text.as_bytes()).expect(&text))
}

/// A credential with that password, as `$c`.
fn credential(password: &str) -> String {
    let password = password.trim().replace('\n', "\\n");
    format!("instance of MSFT_Credential as $c {{ UserName = \"u\"; Password = \"{password}\"; }};")
}

fn passwords(value: &PropertyValue, found: &mut Vec<PropertyValue>) {
    match value {
        PropertyValue::Array(values) => values.iter().for_each(|value| passwords(value, found)),
        PropertyValue::Instance(instance) => {
            for (name, value) in &instance.properties {
                match name.as_str() {
                    "Password" => found.push(value.clone()),
                    _ => passwords(value, found),
                }
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn a_resource_gets_the_password_and_nobody_else_does() {
    let spied = document(&format!(
        "{} instance of Test_Spy {{ ResourceID = \"[Spy]x\"; One = $c; Password = \"a text\";
           Two = {{$c, instance of MSFT_KeyValuePair {{ Key = \"k\"; Value = $c; }}}}; }};",
        credential(AES_256)
    ));
    let spy = Spy::default();
    let resources = Registry::new().with(Arc::new(spy.clone()));
    let keyless = node::test(Arc::clone(&spied), &resources, &SystemClock).await.remove(0);
    let error = keyless.error.expect("there is no key");
    let why = "encrypted password is not valid. reason=`this node has no certificate whose key would \
               open it; resource [Spy]x`";
    assert_eq!(error, why);
    assert!(spy.seen().is_empty(), "a resource is not run with what it cannot read");

    let resources = resources.with_recipient_key(Arc::new(key()));
    let statuses = node::apply(Arc::clone(&spied), &resources, &SystemClock).await;
    node::get(&spied, &resources).await.expect("a look");
    let seen = spy.seen();
    assert_eq!(seen.len(), 4, "test, set, test, get");
    for instance in &seen {
        let mut found = Vec::new();
        instance.properties.values().for_each(|value| passwords(value, &mut found));
        assert_eq!(found, vec![PropertyValue::Secret(Secret::from(CLEAR)); 3]);
        assert_eq!(instance.property("Password"), Some(&PropertyValue::Text("a text".into())));
    }
    let told = serde_json::to_string(&statuses).expect("JSON");
    for shown in [format!("{seen:?}"), format!("{statuses:?}"), told, format!("{spied:?}")] {
        assert!(!shown.contains("of openssl"), "{shown}");
    }
}

#[tokio::test]
async fn a_password_in_the_clear_is_a_secret_too_unless_it_should_be_encrypted() {
    let clear = document(&format!(
        "{} instance of Test_Spy {{ ResourceID = \"[Spy]x\"; One = $c; }};",
        credential("hunter2")
    ));
    assert!(!format!("{clear:?}").contains("hunter2"));
    let spy = Spy::default();
    let resources = Registry::new().with(Arc::new(spy.clone()));
    node::test(Arc::clone(&clear), &resources, &SystemClock).await;
    let mut found = Vec::new();
    spy.seen()[0].properties.values().for_each(|value| passwords(value, &mut found));
    assert_eq!(found, [PropertyValue::Secret(Secret::from("hunter2"))]);

    // What Windows wrote before version 5 of its framework: Base64 of RSA alone.
    let mut older = (*clear).clone();
    older.document.content_type = Some("passwordEncrypted".to_owned());
    let status = node::test(Arc::new(older), &resources, &SystemClock).await.remove(0);
    let error = status.error.expect("refused");
    let why = "form of an encrypted password is not supported. name=`one that does not begin with \
               -----BEGIN CMS-----, of [Spy]x`";
    assert_eq!(error, why);
}

/// A small document that would be a tree of a billion instances.
#[tokio::test]
async fn instances_that_are_shared_are_opened_once() {
    let mut text = credential(AES_256);
    for level in 0..30 {
        let below = if level == 0 { "$c".to_owned() } else { format!("$l{}", level - 1) };
        text += &format!(
            "instance of MSFT_KeyValuePair as $l{level} {{ Key = \"k\"; A = {below}; B = {below}; }};"
        );
    }
    let shared = document(&format!(
        "{text} instance of Test_Spy {{ ResourceID = \"[Spy]x\"; One = $l29; }};"
    ));
    let spy = Spy::default();
    let resources = Registry::new().with(Arc::new(spy.clone()));
    let resources = resources.with_recipient_key(Arc::new(key()));
    let status = node::test(shared, &resources, &SystemClock).await.remove(0);
    assert_eq!(status.outcome, ResourceOutcome::Different);
    assert_eq!(spy.seen().len(), 1);
}

#[tokio::test]
async fn a_node_without_the_certificate_of_its_settings_does_not_start() {
    let world = World::new(1);
    let thumbprint = key().thumbprint().to_lowercase();
    let open = async |resources: Registry| {
        let mut settings = world.settings(&["Web"]);
        settings.certificate_id = Some(thumbprint.clone());
        oms_dsc::Lcm::builder("unused", settings)
            .disk(Arc::new(world.node_disk.clone()))
            .journal(Arc::clone(&world.node_journal) as Arc<dyn oms_core::journal::Journal>)
            .transport(Arc::new(world.direct.clone()))
            .resources(resources)
            .build()
            .await
    };
    let error = open(world.cell.registry()).await.expect_err("no key").to_string();
    let why = format!("CertificateID is {thumbprint}, and the key for passwords is none");
    assert!(error.contains(&why), "{error}");
    let registry = world.cell.registry().with_recipient_key(Arc::new(key()));
    open(registry).await.expect("the key of that certificate");
}

/// A user of a document that was encrypted for this node gets a hash of the password, which stays as long
/// as the password does.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_user_gets_a_hash_of_an_encrypted_password() {
    use crate::system::System;
    let recipient = Recipient::from_pem(CERTIFICATE).expect("a certificate");
    let user = |password: &str, class: &str| {
        let message = recipient.encrypt(&Secret::from(password), &oms_core::SystemEntropy);
        document(&format!(
            "{} instance of {class} {{ ResourceID = \"[Thing]x\"; UserName = \"jo\"; Password = $c; }};",
            credential(&message.expect("encrypted"))
        ))
    };
    let mut system = System::with_accounts();
    system.resources = system.resources.clone().with_recipient_key(Arc::new(key()));
    let hash = |system: &System| {
        let shadow = system.read("etc/shadow");
        let line = shadow.lines().find(|line| line.starts_with("jo:")).expect("jo").to_owned();
        line.split(':').nth(1).expect("a hash").to_owned()
    };
    let done = system.converge(&user("hunter2", "MSFT_UserResource")).await;
    let difference = done.differences.iter().find(|found| found.property == "Password");
    let difference = difference.expect("another").to_string();
    assert_eq!(difference, "Password is another password, desired is the given password");
    let first = hash(&system);
    assert!(first.starts_with("$6$rounds=100000$") && first.len() > 110, "{first}");
    // Encrypted again, in another message, it is the same password.
    system.stay(&user("hunter2", "MSFT_nxUserResource")).await;
    system.converge(&user("hunter3", "MSFT_UserResource")).await;
    assert_ne!(hash(&system), first);
    // The hash of a system itself is as good.
    let own = "$6$rounds=1000$ab$NFbzU2DQLl3OZu83FviV.Xe95BlJnKVpTXGpWdG43xDccgNCWBG4KN48j4r6lcjj1x1P\
               MxNzglXZOJteT8I.P.";
    system.write("etc/shadow", &format!("jo:{own}:1:0:99999:7:::\n"));
    system.stay(&user("pässwörd", "MSFT_UserResource")).await;
    system.fail(&user("", "MSFT_UserResource"), "it is empty, so that anybody could log in").await;
    system.fail(&user("a\nb", "MSFT_UserResource"), "which nobody can type").await;
    assert_eq!(hash(&system), own);
}
