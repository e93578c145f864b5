//! Responses.

use super::Response;
use crate::ErrorKind;
use axum::body::Body;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// The status of each kind of error, unless a protocol has its own table.
#[must_use]
pub const fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        ErrorKind::LimitExceeded { .. } => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Cancelled | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Corrupt | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A body of one content type.
#[must_use]
pub fn body(status: StatusCode, content_type: &'static str, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Plain text.
#[must_use]
pub fn text(status: StatusCode, text: impl Into<String>) -> Response {
    body(status, "text/plain; charset=utf-8", text.into())
}

/// JSON; a value that has no JSON form answers 500.
#[must_use]
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => body(status, "application/json; charset=utf-8", bytes),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// A status alone.
#[must_use]
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The error envelope of Azure Resource Manager, with `Retry-After` where the kind knows it.
/// See the Microsoft REST API guidelines, 7.10.2.
#[must_use]
pub fn arm_error(kind: ErrorKind, code: &str, message: &str) -> Response {
    let envelope = serde_json::json!({"error": {"code": code, "message": message}});
    let mut response = json(status_of(kind), &envelope);
    if let ErrorKind::LimitExceeded { retry_after: Some(wait) } = kind {
        let seconds = wait.as_secs().max(1);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
