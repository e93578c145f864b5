//! Passwords of documents: refused, encrypted, or left as they are by name.

use oms_core::Secret;
use oms_core::entropy::SeededEntropy;
use oms_dsc::configuration::Configuration;
use oms_dsc::configuration::credential::{
    CMS_BEGIN, Passwords, Recipient, clear_passwords, is_encrypted, protect,
};
use oms_dsc::mof;

const CERTIFICATE: &[u8] = include_bytes!("../fixtures/certificates/node.pem");
const DOCUMENT: &str = r#"
instance of MSFT_Credential as $c { UserName = "u"; Password = "hunter2"; };
instance of MSFT_UserResource { ResourceID = "[User]u"; UserName = "u"; Password = $c;
  Other = { instance of MSFT_Credential { UserName = "v"; Password = "hunter3"; } }; };
instance of OMI_ConfigurationDocument { Version = "2.0.0"; ContentType = "NotEncrypted"; };"#;

fn document() -> mof::Document {
    mof::parse(DOCUMENT.as_bytes()).into_result().expect("it parses")
}

#[test]
fn a_password_in_the_clear_is_refused_with_its_place() {
    let mut document = document();
    assert_eq!(clear_passwords(&document), 2);
    let refused = protect(&mut document, Passwords::Refuse, &SeededEntropy::new(1));
    let shown: Vec<String> =
        refused.expect_err("in the clear").iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "2:64: the password is in the clear; give the node's certificate to encrypt it for",
            "4:70: the password is in the clear; give the node's certificate to encrypt it for",
        ]
    );
}

#[test]
fn passwords_are_encrypted_wherever_they_lie() {
    let recipient = Recipient::from_pem(CERTIFICATE).expect("a certificate");
    let mut sealed = document();
    let entropy = SeededEntropy::new(1);
    protect(&mut sealed, Passwords::Encrypt(&recipient), &entropy).expect("encrypted");
    let text = sealed.to_string();
    assert!(!text.contains("hunter"), "{text}");
    assert_eq!(clear_passwords(&sealed), 0);
    let configuration = Configuration::parse("sealed", text.as_bytes()).expect("a configuration");
    let about = &configuration.document;
    assert_eq!(about.content_type.as_deref(), Some("PasswordEncrypted"));
    assert_eq!(about.certificate_id.as_deref(), Some(recipient.thumbprint()));
    // What is encrypted stays as it is, also for another node's certificate.
    let again = sealed.clone();
    protect(&mut sealed, Passwords::Encrypt(&recipient), &entropy).expect("nothing to do");
    assert_eq!(sealed, again);
    protect(&mut sealed, Passwords::Refuse, &entropy).expect("none is in the clear");
    // Two messages of one text differ.
    let one = recipient.encrypt(&Secret::from("x"), &entropy).expect("encrypted");
    let other = recipient.encrypt(&Secret::from("x"), &entropy).expect("encrypted");
    assert!(one != other && is_encrypted(&one) && one.starts_with(CMS_BEGIN));
    assert!(one.lines().all(|line| line.len() <= 64) && one.ends_with("-----END CMS-----"));
}

#[test]
fn passwords_are_left_in_the_clear_by_name_only() {
    let mut left = document();
    protect(&mut left, Passwords::LeaveClear, &SeededEntropy::new(1)).expect("as they are");
    assert_eq!(clear_passwords(&left), 2);
    let none = "instance of OMI_ConfigurationDocument { Version = \"2.0.0\"; };";
    let mut none = mof::parse(none.as_bytes()).document;
    protect(&mut none, Passwords::Refuse, &SeededEntropy::new(1)).expect("there is none");
    assert!(!none.to_string().contains("ContentType"));
}

#[test]
fn what_is_no_certificate_of_an_rsa_key_is_refused() {
    let elliptic = include_bytes!("../fixtures/certificates/elliptic.pem");
    let error = Recipient::from_pem(elliptic).expect_err("another key");
    assert_eq!(error.to_string(), "certificate is not valid. reason=`its key is not RSA`");
    assert!(Recipient::from_pem(b"text").is_err());
    let thumbprint = Recipient::from_pem(CERTIFICATE).expect("a certificate").thumbprint().len();
    assert_eq!(thumbprint, 40);
}

/// A file of a certificate and those that vouch for it.
#[test]
fn the_first_certificate_of_several_is_the_nodes() {
    let elliptic = include_bytes!("../fixtures/certificates/elliptic.pem");
    let alone = Recipient::from_pem(CERTIFICATE).expect("a certificate");
    let chain = [CERTIFICATE, elliptic].concat();
    assert_eq!(Recipient::from_pem(&chain).expect("its first").thumbprint(), alone.thumbprint());
    assert!(Recipient::from_pem(&[&elliptic[..], CERTIFICATE].concat()).is_err(), "no RSA");
    assert!(Recipient::from_pem(b"").is_err());
}
