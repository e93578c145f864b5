//! Envelopes of Azure Resource Manager.

use super::{Call, Response, respond};
use crate::ErrorKind;
use crate::resource::{Preconditions, ResourceError};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

/// The most details of one error.
const DETAILS_MAX: usize = 100;

/// An error as Azure Resource Manager's clients read it:
/// `{"error": {"code", "message", "target", "details": […]}}`.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmError {
    kind: ErrorKind,
    status: Option<StatusCode>,
    code: Box<str>,
    message: Box<str>,
    target: Option<Box<str>>,
    details: Vec<Self>,
}

impl ArmError {
    /// An error with the status of its kind.
    #[must_use]
    pub fn new(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into().into_boxed_str(), message.into().into_boxed_str());
        Self { kind, status: None, code, message, target: None, details: Vec::new() }
    }

    /// The same error with a status that its protocol asks for.
    #[must_use]
    pub const fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// The same error about a part of the input.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into().into_boxed_str());
        self
    }

    /// The same error with one of what led to it. Beyond 100 they are left out.
    #[must_use]
    pub fn detail(mut self, detail: Self) -> Self {
        if self.details.len() < DETAILS_MAX {
            self.details.push(detail);
        }
        self
    }

    /// The inner object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut error = Map::new();
        error.insert("code".to_owned(), (&*self.code).into());
        error.insert("message".to_owned(), (&*self.message).into());
        if let Some(target) = &self.target {
            error.insert("target".to_owned(), (&**target).into());
        }
        if !self.details.is_empty() {
            let details = self.details.iter().map(Self::to_value).collect();
            error.insert("details".to_owned(), Value::Array(details));
        }
        Value::Object(error)
    }

    /// The response, with `Retry-After` where the kind knows it.
    #[must_use]
    pub fn response(&self) -> Response {
        let status = self.status.unwrap_or_else(|| respond::status_of(self.kind));
        let envelope = serde_json::json!({"error": self.to_value()});
        let mut response = respond::json(status, &envelope);
        // Some clients decide by this header alone.
        if let Ok(code) = HeaderValue::from_str(&self.code) {
            response.headers_mut().insert("x-ms-error-code", code);
        }
        if let ErrorKind::LimitExceeded { retry_after: Some(wait) } = self.kind {
            let seconds = wait.as_secs().max(1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<&ResourceError> for ArmError {
    fn from(error: &ResourceError) -> Self {
        Self::new(error.kind(), error.code(), error.to_string())
    }
}

/// `If-Match` and `If-None-Match` of a request.
#[must_use]
pub fn preconditions(call: &Call) -> Preconditions {
    let header = |name: header::HeaderName| call.header(name.as_str()).map(str::to_owned);
    Preconditions {
        if_match: header(header::IF_MATCH),
        if_none_match: header(header::IF_NONE_MATCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::respond::list;
    use jiff::SignedDuration;

    async fn read(response: Response) -> (StatusCode, Value) {
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    #[tokio::test]
    async fn an_error_names_its_target_and_details() {
        let inner = ArmError::new(ErrorKind::Invalid, "Inner", "why").target("b");
        let error = ArmError::new(ErrorKind::Conflict, "Outer", "what").target("a").detail(inner);
        let response = error.response();
        assert_eq!(response.headers()["x-ms-error-code"], "Outer");
        let expect = serde_json::json!({"error": {
            "code": "Outer", "message": "what", "target": "a",
            "details": [{"code": "Inner", "message": "why", "target": "b"}],
        }});
        assert_eq!(read(response).await, (StatusCode::CONFLICT, expect));
        let wait = ErrorKind::LimitExceeded { retry_after: Some(SignedDuration::from_secs(7)) };
        let slow = ArmError::new(wait, "Slow", "down").response();
        assert_eq!(
            (slow.status(), &slow.headers()["retry-after"]),
            (StatusCode::TOO_MANY_REQUESTS, &HeaderValue::from(7))
        );
        let teapot = ArmError::new(ErrorKind::Invalid, "T", "t").status(StatusCode::IM_A_TEAPOT);
        assert_eq!(teapot.response().status(), StatusCode::IM_A_TEAPOT);
    }

    #[tokio::test]
    async fn every_kind_has_a_status_of_a_refusal() {
        use ErrorKind as Kind;
        for (kind, status) in [
            (Kind::NotFound, 404),
            (Kind::AlreadyExists, 409),
            (Kind::Conflict, 409),
            (Kind::PreconditionFailed, 412),
            (Kind::Invalid, 400),
            (Kind::Unsupported, 501),
            (Kind::Unauthenticated, 401),
            (Kind::Denied, 403),
            (Kind::LimitExceeded { retry_after: None }, 429),
            (Kind::TooLarge, 413),
            (Kind::Timeout, 504),
            (Kind::Cancelled, 503),
            (Kind::Unavailable, 503),
            (Kind::Corrupt, 500),
            (Kind::Internal, 500),
        ] {
            assert_eq!(ArmError::new(kind, "C", "m").response().status(), status, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_list_has_a_link_only_where_there_is_more() {
        let (_, body) = read(list(&[1, 2], None)).await;
        assert_eq!(body, serde_json::json!({"value": [1, 2]}));
        let (status, body) = read(list(&[0; 0], Some("https://next"))).await;
        assert_eq!(body, serde_json::json!({"value": [], "nextLink": "https://next"}));
        assert_eq!(status, StatusCode::OK);
    }
}
