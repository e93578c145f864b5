//! Encrypted passwords: whatever stands in a document is opened or refused, alike however its lines are
//! broken, and what is behind the message is not let pass.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use oms_dsc::configuration::credential::{CMS_BEGIN, RecipientKey};
use std::sync::LazyLock;

static KEY: LazyLock<RecipientKey> = LazyLock::new(|| {
    let certificate = include_bytes!("../../oms-dsc/tests/fixtures/certificates/recipient.pem");
    let key = include_str!("../../oms-dsc/tests/fixtures/certificates/recipient.key.pem");
    RecipientKey::from_pem(certificate, &key.into()).expect("a certificate and its key")
});

fn opened(message: &[u8], line_break: &str) -> Result<Vec<u8>, String> {
    let text = STANDARD.encode(message);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    let text = lines.join(line_break);
    let opened = KEY.decrypt(&format!("{CMS_BEGIN}{line_break}{text}{line_break}-----END CMS-----"));
    opened.map(|secret| secret.expose().to_vec()).map_err(|error| error.to_string())
}

fuzz_target!(|data: &[u8]| {
    let found = opened(data, "\n");
    assert_eq!(opened(data, ""), found);
    if found.is_ok() {
        assert!(opened(&[data, b"\0"].concat(), "\r\n").is_err());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = KEY.decrypt(text);
    }
});
