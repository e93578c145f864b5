//! The Logs Ingestion API: records of a data collection rule's stream over HTTP.
//!
//! `POST /dataCollectionRules/{immutableId}/streams/{stream}?api-version=…` with an array of records,
//! or one, answers 204 once what the rule makes of them is durable. Any api-version is taken.
//!
//! See "Logs Ingestion API in Azure Monitor" (`azure-monitor/logs/logs-ingestion-api-overview`).

pub mod data_collector;

mod numbers;

pub mod shared_key;

pub use shared_key::SharedKeys;

use crate::ingest::rule::StreamBatch;
use crate::{Error, Workspace};
use http::{Method, StatusCode, header};
pub(crate) use numbers::Numbers;
use oms_core::ErrorKind;
use oms_core::http::respond;
use oms_core::http::{Access, ArmError, Authenticator, BodyLimits, Call, Response, Route, Surface};
use serde_json::Value;
use std::sync::Arc;

/// The operation that a sender needs, on the rule.
pub const INGEST_OPERATION: &str = "Microsoft.Insights/Telemetry/Write";

/// The resource that senders ask tokens for.
pub const INGEST_AUDIENCE: &str = "https://monitor.azure.com";

/// The largest body, inflated or not, in bytes. Senders fill posts with 1 MiB of records and do not
/// count what stands between these, which is as much at most: the shortest record has two bytes.
pub const BODY_BYTES_MAX: usize = 2 << 20;

/// The surface of a workspace's data collection rules. `authenticator` takes tokens for
/// [`INGEST_AUDIENCE`].
#[must_use]
pub fn surface(workspace: Arc<Workspace>, authenticator: Arc<dyn Authenticator>) -> Surface {
    let handler = move |call: Call| {
        let workspace = Arc::clone(&workspace);
        async move {
            match ingest(&workspace, &call).await {
                Ok(()) => respond::empty(StatusCode::NO_CONTENT),
                Err(refusal) => *refusal,
            }
        }
    };
    let access = Access::Operation { operation: INGEST_OPERATION };
    let pattern = "/dataCollectionRules/{rule}/streams/{stream}";
    let limits = BodyLimits { sent_bytes_max: BODY_BYTES_MAX, inflated_bytes_max: BODY_BYTES_MAX };
    Surface::new("logs-ingestion")
        .claim("/dataCollectionRules")
        .authenticator(authenticator)
        .route(Route::new(Method::POST, pattern, access, handler).limits(limits))
}

async fn ingest(workspace: &Workspace, call: &Call) -> Result<(), Box<Response>> {
    let refuse = |code: &str, message: &str| {
        Box::new(ArmError::new(ErrorKind::Invalid, code, message).response())
    };
    if call.api_version().is_none_or(str::is_empty) {
        return Err(refuse("MissingApiVersionParameter", "the api-version is missing"));
    }
    let kind = call.header(header::CONTENT_TYPE.as_str()).unwrap_or("application/json");
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let message = format!("content type is not supported. content_type=`{essence}`");
        let error = ArmError::new(ErrorKind::Invalid, "UnsupportedMediaType", message);
        return Err(Box::new(error.status(StatusCode::UNSUPPORTED_MEDIA_TYPE).response()));
    }
    let text = |name: &str| call.path.get(name).unwrap_or_default().to_owned();
    let (rule, stream) = (text("rule"), text("stream"));
    let records = match serde_json::from_slice::<Value>(&call.body) {
        Ok(Value::Array(records)) => Ok(records),
        Ok(record @ Value::Object(_)) => Ok(vec![record]),
        Ok(_) => Err("the body is neither an array of records nor a record".to_owned()),
        Err(error) => Err(format!("the body is not JSON: {error}")),
    };
    let records = records.map_err(|message| {
        let short: String = stream.chars().take(100).collect();
        // A workspace that is closed meanwhile tells of nothing.
        drop(workspace.note_refused(&short, &message, 1));
        refuse("InvalidRequestContent", &message)
    })?;
    let sent = async {
        let numbers = Arc::clone(&workspace.inner()?.http_numbers);
        let number = numbers.take(workspace).await?;
        let (producer, sequence) = (numbers::PRODUCER.to_owned(), number.sequence());
        let batch = StreamBatch { producer, sequence, rule, stream, records };
        let sent = workspace.ingest_stream(batch).await;
        number.settle(&sent);
        sent
    };
    sent.await.map(drop).map_err(|error: Error| Box::new(refusal(&error)))
}

/// The answer to a batch that was not taken.
fn refusal(error: &Error) -> Response {
    let (kind, message) = (error.kind(), crate::workspace::whole(error));
    let code = match error {
        Error::RuleNotFound { .. } => "DataCollectionRuleNotFound",
        Error::StreamNotFound { .. } => "StreamNotFound",
        Error::Transform { .. } => "TransformationFailed",
        Error::Busy { .. } => "TooManyRequests",
        Error::Record { .. } | Error::Batch { .. } => "InvalidRequestContent",
        Error::Rule { .. } => "InvalidDataCollectionRule",
        _ => kind.name(),
    };
    let answer = ArmError::new(kind, code, message);
    match error {
        // The body is not what is too large.
        Error::Transform { .. } if kind == ErrorKind::TooLarge => {
            answer.status(StatusCode::BAD_REQUEST).response()
        }
        _ => answer.response(),
    }
}

#[cfg(test)]
mod tests;
