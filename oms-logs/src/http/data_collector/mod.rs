//! The HTTP Data Collector API: records of a custom table over HTTP, signed with the workspace's key.
//!
//! `POST /api/logs?api-version=2016-04-01` with `Log-Type: App` and an array of records, or one,
//! answers 200 once they are durable in the table `App_CL`, in columns that are named by what they hold:
//! see [`custom`](crate::ingest::custom). All of a post are taken, or none; one that is sent again is
//! there twice, since nothing in it says that it is the same.
//!
//! | header | meaning |
//! |---|---|
//! | `Authorization`, `x-ms-date` | see [`SharedKeys`](super::SharedKeys) |
//! | `Log-Type` | the table's name without `_CL`: letters, digits and underscores, not a digit first, at most [`LOG_TYPE_CHARS_MAX`] |
//! | `time-generated-field` | the property that is `TimeGenerated` |
//! | `x-ms-AzureResourceId` | `_ResourceId` of the records |
//!
//! | status | `Error` | why |
//! |---|---|---|
//! | 400 | `MissingApiVersion`, `InvalidApiVersion` | another version than 2016-04-01 |
//! | 400 | `MissingContentType`, `UnsupportedContentType` | not `application/json` |
//! | 400 | `MissingLogType`, `InvalidLogType` | no table has the name |
//! | 400 | `InvalidDataFormat` | the message names record and property |
//! | 400 | `InvalidCustomerId` | the workspace's id is not a GUID |
//! | 403 | `InvalidAuthorization` | the signature, or its date |
//! | 404 | `RequestTooLarge` | more than [`BODY_BYTES_MAX`] |
//! | 429 | `TooManyRequests` | too much waits; `Retry-After` says when |
//! | 500 | `UnspecifiedError` | a defect |
//! | 503 | `ServiceUnavailable` | the disk, or the workspace is closing |
//!
//! The body is `{"Error": …, "Message": …}`. A caller that nobody knows is refused by its head, and
//! its body is thrown away.

use super::numbers;
use crate::ingest::custom::CustomBatch;
use crate::{Error, Workspace};
use http::{HeaderValue, Method, StatusCode, header};
use oms_core::ErrorKind;
use oms_core::http::respond;
use oms_core::http::{Access, Authenticator, BodyLimits, Call, Refusal, Response, Route, Surface};
use oms_core::record::RecordType;
use std::sync::Arc;

/// The path.
pub const PATH: &str = "/api/logs";

/// The version of the protocol.
pub const API_VERSION: &str = "2016-04-01";

/// The largest body in bytes, inflated or not.
pub const BODY_BYTES_MAX: usize = 30 << 20;

/// The longest `Log-Type`, in characters: a table's name without `_CL`.
pub const LOG_TYPE_CHARS_MAX: usize = RecordType::LENGTH_MAX - TABLE_SUFFIX.len();

/// The longest `x-ms-AzureResourceId`, in bytes.
pub const RESOURCE_ID_BYTES_MAX: usize = 2_048;

/// What the names of custom tables end in.
const TABLE_SUFFIX: &str = "_CL";

/// The surface of a workspace's custom tables. `authenticator` recognises who signs:
/// [`SharedKeys`](super::SharedKeys). Senders need [`INGEST_OPERATION`](super::INGEST_OPERATION) on
/// [`PATH`].
#[must_use]
pub fn surface(workspace: Arc<Workspace>, authenticator: Arc<dyn Authenticator>) -> Surface {
    let handler = move |call: Call| {
        let workspace = Arc::clone(&workspace);
        async move {
            match ingest(&workspace, &call).await {
                Ok(()) => respond::empty(StatusCode::OK),
                Err(failure) => failure.response(),
            }
        }
    };
    let access = Access::Operation { operation: super::INGEST_OPERATION };
    let limits = BodyLimits { sent_bytes_max: BODY_BYTES_MAX, inflated_bytes_max: BODY_BYTES_MAX };
    Surface::new("data-collector")
        .claim(PATH)
        .authenticator(authenticator)
        .refusals(|refusal| Failure::of(refusal).response())
        .route(Route::new(Method::POST, PATH, access, handler).limits(limits))
}

/// Why a post was not taken.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after_seconds: Option<i64>,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_seconds: None }
    }

    fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// What was refused before it got here.
    fn of(refusal: &Refusal) -> Self {
        let message = refusal.message.clone();
        match refusal.status {
            StatusCode::UNAUTHORIZED if message.contains(super::shared_key::NO_WORKSPACE) => {
                Self::bad("InvalidCustomerId", message)
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Self::new(StatusCode::FORBIDDEN, "InvalidAuthorization", message)
            }
            // As the protocol has it.
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(StatusCode::NOT_FOUND, "RequestTooLarge", message)
            }
            _ => Self::bad("InvalidDataFormat", message),
        }
    }

    fn response(&self) -> Response {
        let body = serde_json::json!({"Error": self.code, "Message": self.message});
        let mut response = respond::json(self.status, &body);
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (kind, message) = (error.kind(), crate::workspace::whole(&error));
        match (&error, kind) {
            (Error::Record { .. } | Error::Batch { .. }, _) => {
                Self::bad("InvalidDataFormat", message)
            }
            // There are as many tables as there may be.
            (Error::Unsupported { .. }, _) => Self::bad("InvalidLogType", message),
            (Error::Busy { .. }, ErrorKind::LimitExceeded { retry_after }) => {
                let wait = retry_after.map_or(1, |wait| wait.as_secs().max(1));
                let code = "TooManyRequests";
                let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, code, message);
                Self { retry_after_seconds: Some(wait), ..failure }
            }
            (_, ErrorKind::Internal | ErrorKind::Corrupt) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UnspecifiedError", message)
            }
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message),
        }
    }
}

async fn ingest(workspace: &Workspace, call: &Call) -> Result<(), Failure> {
    let table = table_of(call)?;
    let time_property = header_of(call, "time-generated-field")?;
    let resource_id = header_of(call, "x-ms-AzureResourceId")?;
    if resource_id.as_ref().is_some_and(|id| id.len() > RESOURCE_ID_BYTES_MAX) {
        let message = format!("x-ms-AzureResourceId is longer than {RESOURCE_ID_BYTES_MAX} bytes");
        return Err(Failure::bad("InvalidDataFormat", message));
    }
    let numbers = Arc::clone(&workspace.inner()?.http_numbers);
    let number = numbers.take(workspace).await?;
    let batch = CustomBatch {
        producer: numbers::PRODUCER.to_owned(),
        sequence: number.sequence(),
        table,
        records: call.body.clone(),
        time_property,
        resource_id,
    };
    let sent = workspace.ingest_custom(batch).await;
    number.settle(&sent);
    sent?;
    Ok(())
}

/// The table that a request is for, if its parameters are right.
fn table_of(call: &Call) -> Result<RecordType, Failure> {
    match call.api_version() {
        None | Some("") => {
            return Err(Failure::bad("MissingApiVersion", "the api-version is missing"));
        }
        Some(API_VERSION) => {}
        Some(other) => {
            let message = format!("api-version is not {API_VERSION}. api_version=`{other}`");
            return Err(Failure::bad("InvalidApiVersion", message));
        }
    }
    let Some(kind) = header_of(call, header::CONTENT_TYPE.as_str())? else {
        return Err(Failure::bad("MissingContentType", "the content type is missing"));
    };
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let message = format!("content type is not application/json. content_type=`{essence}`");
        return Err(Failure::bad("UnsupportedContentType", message));
    }
    let Some(log_type) = header_of(call, "Log-Type")? else {
        return Err(Failure::bad("MissingLogType", "the header Log-Type is missing"));
    };
    format!("{log_type}{TABLE_SUFFIX}").parse().map_err(|_not_a_name| {
        let message = format!(
            "Log-Type is not a letter or underscore and then letters, digits and underscores, at most \
             {LOG_TYPE_CHARS_MAX}. log_type=`{log_type}`"
        );
        Failure::bad("InvalidLogType", message)
    })
}

/// A header that says something; senders leave some empty.
fn header_of(call: &Call, name: &str) -> Result<Option<String>, Failure> {
    let Some(value) = call.parts.headers.get(name) else { return Ok(None) };
    let Ok(text) = value.to_str() else {
        let message = format!("the header {name} is not ASCII text");
        return Err(Failure::bad("InvalidDataFormat", message));
    };
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests;
