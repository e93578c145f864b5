//! Senders that sign with the key of a workspace.
//!
//! `Authorization: SharedKey {workspace}:{signature}`, where the signature is the base64 of
//! HMAC-SHA256, keyed with the bytes whose base64 is the workspace's key, over method, length and type
//! of the body, `x-ms-date` and the resource, a line each. So it says who sends, and not what.
//!
//! See "HTTP Data Collector API", Authorization (`azure-monitor/logs/data-collector-api`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, header};
use jiff::{SignedDuration, Timestamp};
use oms_core::auth::{AuthError, Credentials, Principal, PrincipalKind};
use oms_core::http::Authenticator;
use oms_core::{Clock, Secret};
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;

/// The scheme of the `Authorization` header.
pub const SCHEME: &str = "SharedKey";

/// The header with the time of a request.
pub const DATE_HEADER: &str = "x-ms-date";

/// How far `x-ms-date` may be from the clock: what somebody saw of a request is good for so long.
pub const DATE_WINDOW: SignedDuration = SignedDuration::from_mins(15);

/// What is wrong with a workspace id that is none; the protocol has a code of its own for it.
pub(super) const NO_WORKSPACE: &str = "the workspace id is not a GUID";

/// Recognises senders by the keys of their workspaces: principals of the kind
/// [`PrincipalKind::SharedKey`], named by the workspace's id. Each current key of one is good.
pub struct SharedKeys {
    credentials: Arc<Credentials>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for SharedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKeys").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

impl SharedKeys {
    /// Keys that `credentials` keep, in the base64 in which senders have them.
    #[must_use]
    pub const fn new(credentials: Arc<Credentials>, clock: Arc<dyn Clock>) -> Self {
        Self { credentials, clock }
    }
}

impl Authenticator for SharedKeys {
    fn authenticate(&self, parts: &http::request::Parts) -> Result<Principal, AuthError> {
        let refuse = |reason| AuthError::Unauthenticated { reason };
        let given = text(&parts.headers, header::AUTHORIZATION.as_str())
            .ok_or_else(|| refuse("no authorization header"))?;
        let (workspace, signature) = given
            .trim()
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
            .and_then(|(_, credential)| credential.trim().split_once(':'))
            .ok_or_else(|| refuse("authorization is not `SharedKey workspace:signature`"))?;
        uuid::Uuid::try_parse(workspace).map_err(|_not_an_id| refuse(NO_WORKSPACE))?;
        let signature =
            STANDARD.decode(signature).map_err(|_not_base64| refuse("signature is not base64"))?;
        let date =
            text(&parts.headers, DATE_HEADER).ok_or_else(|| refuse("no x-ms-date header"))?;
        let of = |name: header::HeaderName| text(&parts.headers, name.as_str()).unwrap_or_default();
        let (length, kind) = (of(header::CONTENT_LENGTH), of(header::CONTENT_TYPE));
        let message = string_to_sign(parts.method.as_str(), length, kind, date);
        let principal = Principal::new(PrincipalKind::SharedKey, workspace.to_ascii_lowercase());
        // Every key is tried, so that the time taken does not say which one fits.
        let mut is_good = false;
        for key in self.credentials.keys(&principal) {
            let mac = mac(&key, &message);
            is_good |= mac.is_some_and(|mac| mac.verify_slice(&signature).is_ok());
        }
        if !is_good {
            return Err(refuse("signature does not match"));
        }
        let date = instant(date).ok_or_else(|| refuse("x-ms-date is not a date"))?;
        if self.clock.now().duration_since(date).abs() > DATE_WINDOW {
            return Err(refuse("x-ms-date is more than 15 minutes from the server's clock"));
        }
        Ok(principal)
    }
}

/// The signature of a request, in base64; none if the key is not base64.
#[must_use]
pub fn signature(
    key: &Secret,
    content_length: usize,
    content_type: &str,
    x_ms_date: &str,
) -> Option<String> {
    let length = content_length.to_string();
    let message = string_to_sign("POST", &length, content_type, x_ms_date);
    mac(key, &message).map(|mac| STANDARD.encode(mac.finalize().into_bytes()))
}

/// What is signed. The resource is the same whatever the path looks like.
fn string_to_sign(method: &str, length: &str, kind: &str, date: &str) -> String {
    format!("{method}\n{length}\n{kind}\n{DATE_HEADER}:{date}\n{}", super::data_collector::PATH)
}

fn mac(key: &Secret, message: &str) -> Option<Hmac<Sha256>> {
    let key = Secret::new(STANDARD.decode(key.expose()).ok()?);
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).ok()?;
    mac.update(message.as_bytes());
    Some(mac)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A time as RFC 1123 or ISO 8601 writes it.
fn instant(text: &str) -> Option<Timestamp> {
    let ticks = crate::query::time::parse_datetime(text)?;
    Timestamp::from_microsecond(crate::query::time::micros_of_ticks(ticks).0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test of `azure-data-collector` has the key, the length, the date and what comes of them.
    #[test]
    fn a_published_clients_signature_is_computed() {
        let key = Secret::from("c2hhcmVkX2tleQ==");
        let date = "Sat, 01 Jan 2000 01:01:01 GMT";
        let signed = signature(&key, 1, "application/json", date).expect("the key is base64");
        assert_eq!(signed, "p9rltWgAbXzQtX8iV4P1E95fvA3n7imvysp16fPUXKE=");
        assert_eq!(instant(date), "2000-01-01T01:01:01Z".parse().ok());
        assert!(signature(&Secret::from("no base64!"), 1, "application/json", date).is_none());
    }
}
