//! Typed events in the journal's envelopes.

use crate::Error;
use jiff::Timestamp;
use oms_core::journal::{Envelope, JournalError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An enum of events, serialized as `{"kind": .., "body": ..}`, whose two parts become the
/// envelope's kind and body.
pub(crate) trait Recorded: Serialize + DeserializeOwned {
    /// Version of the bodies' format.
    const FORMAT: u16;
}

/// Puts an event into an envelope.
pub(crate) fn seal<T: Recorded>(
    event: &T,
    time: Timestamp,
    actor: &str,
) -> Result<Envelope, Error> {
    let body = |source| JournalError::Body { kind: "automation event".to_owned(), source };
    let whole = serde_json::to_value(event).map_err(body)?;
    let kind = whole["kind"].as_str().unwrap_or_default();
    Ok(Envelope::new(kind, T::FORMAT, time, actor, &whole["body"])?)
}

/// Takes an event out of its envelope.
///
/// # Errors
/// [`JournalError::Body`] for a kind or a body that this version does not know.
pub(crate) fn open<T: Recorded>(envelope: &Envelope) -> Result<T, JournalError> {
    let whole: Value = json!({"kind": envelope.kind, "body": envelope.body});
    let kind = || envelope.kind.clone();
    serde_json::from_value(whole).map_err(|source| JournalError::Body { kind: kind(), source })
}
