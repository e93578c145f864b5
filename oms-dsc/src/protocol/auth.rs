//! The signature of a registration. See \[MS-DSCPM\] 2.2.2.4.
//!
//! Only `RegisterDscAgent` is signed, with a registration key that server and node share. What is
//! signed is the body as it came, never JSON that was read and written again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use oms_core::Secret;
use sha2::{Digest, Sha256};

use crate::Error;

/// The scheme of the `Authorization` header.
pub const SCHEME: &str = "Shared";

/// The signature: base64 of HMAC-SHA256, keyed with the text of the registration key, over
/// base64 of SHA-256 of the body, a line feed, and the value of `x-ms-date`.
#[must_use]
pub fn signature(key: &Secret, x_ms_date: &str, body: &[u8]) -> String {
    STANDARD.encode(mac(key, x_ms_date, &digest(body)).finalize().into_bytes())
}

/// The `Authorization` header for a signature.
#[must_use]
pub fn authorization(key: &Secret, x_ms_date: &str, body: &[u8]) -> String {
    format!("{SCHEME} {}", signature(key, x_ms_date, body))
}

/// An instant as `x-ms-date` writes it: UTC with seven digits of a second.
#[must_use]
pub fn x_ms_date(now: Timestamp) -> String {
    format!("{now:.7}")
}

/// What of a body is signed.
fn digest(body: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(body))
}

#[expect(clippy::unwrap_used, reason = "HMAC takes a key of any length")]
fn mac(key: &Secret, x_ms_date: &str, digest: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).unwrap();
    mac.update(digest.as_bytes());
    mac.update(b"\n");
    mac.update(x_ms_date.as_bytes());
    mac
}

/// What a good signature was made with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signed {
    /// The instant in `x-ms-date`.
    pub date: Timestamp,
    /// The signature, in base64: the same twice is a replay.
    pub signature: String,
    /// Which of the keys made it, counted from 0.
    pub key: usize,
}

/// Checks a registration's signature with each of `keys`, of which no two are equal, and its date
/// against `now`.
///
/// # Errors
/// [`Error::Unauthenticated`] names what is missing, late or wrong.
pub fn verify<'a>(
    keys: impl IntoIterator<Item = &'a Secret>,
    authorization: Option<&str>,
    x_ms_date: Option<&str>,
    body: &[u8],
    now: Timestamp,
    window: SignedDuration,
) -> Result<Signed, Error> {
    let refuse = |reason| Error::Unauthenticated { reason };
    let authorization = authorization.ok_or_else(|| refuse("no authorization header"))?;
    let x_ms_date = x_ms_date.ok_or_else(|| refuse("no x-ms-date header"))?;
    let given = authorization
        .trim()
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
        .map(|(_, signature)| signature.trim())
        .ok_or_else(|| refuse("authorization is not `Shared`"))?;
    let bytes = STANDARD.decode(given).map_err(|_not_base64| refuse("signature is not base64"))?;
    let date: Timestamp =
        x_ms_date.trim().parse().map_err(|_not_a_date| refuse("x-ms-date is not a date"))?;
    // Every key is tried, so that the time taken does not say which one fits.
    let (digest, mut fitting) = (digest(body), None);
    for (index, key) in keys.into_iter().enumerate() {
        if mac(key, x_ms_date.trim(), &digest).verify_slice(&bytes).is_ok() {
            fitting = Some(index);
        }
    }
    let key = fitting.ok_or_else(|| refuse("signature does not match"))?;
    if now.duration_since(date).abs() > window {
        return Err(refuse("x-ms-date is too far from the server's clock"));
    }
    Ok(Signed { date, signature: given.to_owned(), key })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A registration that a Windows client sent in 2016, published with its key by the Tug
    /// project.
    const KEY: &str = "f65e1a0c-46b0-424c-a6a5-c3701aef32e5";
    const DATE: &str = "2016-12-21T23:43:48.4718366Z";
    const SIGNATURE: &str = "SM095lQD5iEVzrToxnyuuoDAYfX2zA23YoZsZlZDyFU=";
    const BODY: &str = concat!(
        r#"{"AgentInformation":{"LCMVersion":"2.0","NodeName":"EC2AMAZ-VT1I874","IPAddress":"10.50"#,
        r#".1.9;127.0.0.1;fe80::288e:6e98:1555:55e9%6;::2000:0:0:0;::1;::2000:0:0:0"},"Configurati"#,
        r#"onNames":["ClientConfig2"],"RegistrationInformation":{"CertificateInformation":{"Friend"#,
        r#"lyName":"DSC-OaaS Client Authentication","Issuer":"CN=http://10.50.1.5:8080/PSDSCPullSe"#,
        r#"rver.svc","NotAfter":"2017-12-21T11:40:36.0000000-05:00","NotBefore":"2016-12-21T16:30:"#,
        r#"36.0000000-05:00","Subject":"CN=http://10.50.1.5:8080/PSDSCPullServer.svc","PublicKey":"#,
        r#""U3lzdGVtLlNlY3VyaXR5LkNyeXB0b2dyYXBoeS5YNTA5Q2VydGlmaWNhdGVzLlB1YmxpY0tleQ==","Thumbpr"#,
        r#"int":"AC5849ACDB6DD19FD79B6ACA2D077E71CEE31C4F","Version":3},"RegistrationMessageType":"#,
        r#""ConfigurationRepository"}}"#,
    );

    #[test]
    fn a_real_clients_signature_is_computed_and_accepted() {
        let key = Secret::from(KEY);
        assert_eq!(signature(&key, DATE, BODY.as_bytes()), SIGNATURE);
        let header = format!("Shared {SIGNATURE}");
        let (now, window) = (DATE.parse().expect("a date"), SignedDuration::from_mins(5));
        verify([&key], Some(&header), Some(DATE), BODY.as_bytes(), now, window).expect("accepted");
        // The key is the text, not the UUID that it spells.
        let upper = Secret::from(KEY.to_uppercase().as_str());
        assert_ne!(signature(&upper, DATE, BODY.as_bytes()), SIGNATURE);
    }

    #[test]
    fn dates_have_seven_digits() {
        let now: Timestamp = "2016-12-21T23:43:48.4718366Z".parse().expect("a date");
        assert_eq!(x_ms_date(now), "2016-12-21T23:43:48.4718366Z");
        assert_eq!(x_ms_date(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.0000000Z");
    }

    #[test]
    fn altered_late_and_foreign_signatures_are_refused() {
        let (key, date, body) = (Secret::from(KEY), "2026-01-01T00:00:00.0000000Z", b"{}");
        let now: Timestamp = date.parse().expect("a date");
        let window = SignedDuration::from_mins(5);
        let header = authorization(&key, date, body);
        let check = |keys: &[Secret], header: Option<&str>, date, body: &[u8], now| {
            verify(keys, header, date, body, now, window).map_err(|error| error.to_string())
        };
        let keys = [Secret::from("other"), key];
        let signed = check(&keys, Some(&header), Some(date), body, now).expect("it is good");
        assert_eq!(signed.key, 1, "the second made it");
        assert!(check(&keys, Some(&header), Some(date), body, now + window).is_ok());
        let late = now + window + SignedDuration::from_nanos(1);
        for (header, date, body, now, reason) in [
            (None, Some(date), &body[..], now, "no authorization header"),
            (Some(&*header), None, body, now, "no x-ms-date header"),
            (Some(&*header), Some(date), b"{ }", now, "signature does not match"),
            (Some(&*header), Some("2026-01-01T00:00:01Z"), body, now, "signature does not match"),
            (Some(&*header), Some(date), body, late, "too far from the server's clock"),
            (Some("Basic eA=="), Some(date), body, now, "not `Shared`"),
            (Some("Shared %"), Some(date), body, now, "not base64"),
            (Some("Shared eA=="), Some(date), body, now, "signature does not match"),
        ] {
            let error = check(&keys, header, date, body, now).expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
        assert!(check(&keys[..1], Some(&header), Some(date), body, now).is_err());
    }
}
