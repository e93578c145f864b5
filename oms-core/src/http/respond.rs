//! Responses.

use super::{ArmError, Response};
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
/// See the Microsoft REST API guidelines, 7.10.2. [`ArmError`] has more of it.
#[must_use]
pub fn arm_error(kind: ErrorKind, code: &str, message: &str) -> Response {
    ArmError::new(kind, code, message).response()
}

/// A page of a list: `{"value": […], "nextLink": "…"}`, the link only where there is more.
#[must_use]
pub fn list(items: &[impl Serialize], next_link: Option<&str>) -> Response {
    let mut envelope = serde_json::Map::new();
    match serde_json::to_value(items) {
        Ok(items) => envelope.insert("value".to_owned(), items),
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    if let Some(link) = next_link {
        envelope.insert("nextLink".to_owned(), link.into());
    }
    json(StatusCode::OK, &envelope)
}

/// The error envelope with a status of its own, for what is refused before any service sees it.
pub(super) fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    ArmError::new(ErrorKind::Invalid, code, message).status(status).response()
}
