//! Refusals of the token endpoint, in the form of Microsoft's identity platform.

use crate::http::{Call, Response, respond};
use http::StatusCode;
use jiff::Timestamp;

/// Why no token is given. See RFC 6749, 5.2, and "Microsoft Entra authentication and authorization
/// error codes".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    status: StatusCode,
    error: &'static str,
    /// The number after `AADSTS`.
    pub(super) code: u32,
    why: &'static str,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $error:literal, $code:literal, $why:literal;)*) => {
        impl Refusal {
            $($(#[$doc])* pub(super) const $name: Self = Self {
                status: StatusCode::$status, error: $error, code: $code, why: $why,
            };)*
        }
    };
}

refusals! {
    NOT_A_FORM = BAD_REQUEST, "invalid_request", 900_144, "the body is no form of text";
    NO_GRANT_TYPE = BAD_REQUEST, "invalid_request", 900_144, "the form has no grant_type";
    GRANT_TYPE = BAD_REQUEST, "unsupported_grant_type", 70_003,
        "only the grant type client_credentials is supported";
    ASSERTION = UNAUTHORIZED, "invalid_client", 700_023,
        "a client assertion is not supported; give the client_secret";
    NO_CLIENT = BAD_REQUEST, "invalid_request", 900_144, "the form has no client_id";
    NO_SECRET = UNAUTHORIZED, "invalid_client", 7_000_218, "the form has no client_secret";
    UNKNOWN_CLIENT = BAD_REQUEST, "unauthorized_client", 700_016,
        "no client of this id is known in this tenant";
    WRONG_SECRET = UNAUTHORIZED, "invalid_client", 7_000_215, "the client secret is wrong";
    EXPIRED_SECRET = UNAUTHORIZED, "invalid_client", 7_000_222, "the client secret has expired";
    SCOPE = BAD_REQUEST, "invalid_scope", 70_011,
        "the scope is not one resource and /.default";
    RESOURCE = BAD_REQUEST, "invalid_resource", 500_011,
        "the resource of the scope is not served here";
    TENANT = BAD_REQUEST, "invalid_tenant", 90_002, "the tenant is not this one";
    NO_KEY = SERVICE_UNAVAILABLE, "temporarily_unavailable", 90_033,
        "there is no key to sign with now";
}

impl Refusal {
    /// The response, found again by the identifiers of the request.
    pub(super) fn response(self, call: &Call, now: Timestamp) -> Response {
        let request = call.ids().map_or(uuid::Uuid::nil(), |ids| ids.request);
        // Clients of the identity platform name their call so.
        let given = call.header("client-request-id").and_then(|text| text.parse().ok());
        let correlation: uuid::Uuid = given.unwrap_or(request);
        let stamp = now.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let Self { status, error, code, why } = self;
        let description = format!(
            "AADSTS{code}: {why}. Trace ID: {request} Correlation ID: {correlation} \
             Timestamp: {stamp}"
        );
        respond::json(
            status,
            &serde_json::json!({
                "error": error,
                "error_description": description,
                "error_codes": [code],
                "timestamp": stamp,
                "trace_id": request,
                "correlation_id": correlation,
            }),
        )
    }
}
