//! Passwords between us and the `openssl` program, in both directions.

use oms_core::{Secret, SystemEntropy};
use oms_dsc::configuration::credential::{Recipient, RecipientKey};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What is told in secret: nothing, something, something that needs quotes, something long.
fn texts() -> [String; 4] {
    ["".into(), "hunter2".into(), "pässwörd \"\\\n".into(), "long ".repeat(1_000)]
}

/// Runs the program in a folder; answers what it printed.
fn openssl(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    let output = output.expect("the program openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A folder with a new `key`, and its `certificate` of a subject that is not ASCII.
struct Made {
    folder: TempDir,
}

impl Made {
    fn new(bits: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = format!("rsa:{bits}");
        let new = ["req", "-x509", "-newkey", &key, "-nodes", "-days", "2"];
        let files = ["-keyout", "key", "-out", "certificate"];
        let subject = ["-utf8", "-subj", "/O=Ünïcode, Inc./CN=node"];
        openssl(folder.path(), &[&new[..], &files, &subject].concat());
        Self { folder }
    }

    fn run(&self, arguments: &[&str]) -> String {
        String::from_utf8(openssl(self.folder.path(), arguments)).expect("text")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("it is there")
    }
}

/// `openssl cms -decrypt`, as it comes, reads what was encrypted.
#[test]
fn openssl_reads_an_encrypted_password() {
    for bits in [2048, 4096] {
        let made = Made::new(bits);
        let recipient = Recipient::from_pem(&made.read("certificate")).expect("a certificate");
        let fingerprint = ["x509", "-in", "certificate", "-noout", "-fingerprint", "-sha1"];
        let fingerprint = made.run(&fingerprint).replace(':', "");
        assert!(fingerprint.contains(recipient.thumbprint()), "{fingerprint}");
        for text in texts() {
            let sealed = recipient.encrypt(&Secret::from(&*text), &SystemEntropy);
            fs::write(made.path("message"), sealed.expect("encrypted")).expect("written");
            let decrypt = ["cms", "-decrypt", "-inform", "PEM", "-in", "message"];
            let keys = ["-inkey", "key", "-recip", "certificate"];
            assert_eq!(made.run(&[&decrypt[..], &keys].concat()), text);
        }
    }
}

/// A message of `openssl cms -encrypt` for a new certificate.
#[test]
fn openssl_encrypts_for_a_node() {
    let made = Made::new(3072);
    let key = Secret::new(made.read("key"));
    let opener = RecipientKey::from_pem(&made.read("certificate"), &key);
    let opener = opener.expect("a certificate and its key");
    for text in texts() {
        fs::write(made.path("clear"), &text).expect("written");
        for options in [&["-aes256"][..], &["-aes128", "-keyid"]] {
            let encrypt = ["cms", "-encrypt", "-binary", "-outform", "PEM", "-in", "clear"];
            let message = made.run(&[&encrypt[..], options, &["certificate"]].concat());
            assert_eq!(opener.decrypt(&message).expect("it opens"), Secret::from(&*text));
        }
    }
}
