//! Events and snapshots as the rows that every database keeps, with a checksum each.

use super::{Append, Envelope, Event, HistoryId, JournalError, Snapshot};
use crate::id::CorrelationId;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Enough of a SHA-256 to notice damage; it is no protection against a forger.
pub(super) type Checksum = [u8; 8];

/// One event, ready to be written.
#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) version: u64,
    pub(super) kind: String,
    pub(super) format: u16,
    pub(super) time: String,
    pub(super) actor: String,
    pub(super) correlation: Option<String>,
    pub(super) body: String,
    pub(super) checksum: Checksum,
}

/// An append, ready to be written.
#[derive(Debug)]
pub(super) struct AppendRows {
    pub(super) history: HistoryId,
    pub(super) expected: u64,
    pub(super) events: Vec<EventRow>,
}

/// A snapshot, ready to be written.
#[derive(Debug)]
pub(super) struct SnapshotRow {
    pub(super) version: u64,
    pub(super) format: u16,
    pub(super) body: String,
    pub(super) checksum: Checksum,
}

impl AppendRows {
    pub(super) fn encode(append: Append) -> Result<Self, JournalError> {
        let Append { history, expected, events } = append;
        let encode = |(version, envelope)| EventRow::encode(&history, version, envelope);
        let versions = (0..events.len() as u64).map(|n| expected.saturating_add(n + 1));
        let events = versions.zip(events).map(encode).collect::<Result<_, _>>()?;
        Ok(Self { history, expected, events })
    }
}

impl EventRow {
    fn encode(history: &HistoryId, version: u64, envelope: Envelope) -> Result<Self, JournalError> {
        let Envelope { kind, format, time, actor, correlation, body } = envelope;
        let mut row = Self {
            version,
            body: json_text(&kind, &body)?,
            kind,
            format,
            // Text, because it keeps nanoseconds over all years and a person can read it.
            time: time.to_string(),
            actor,
            correlation: correlation.map(|correlation| correlation.to_string()),
            checksum: Checksum::default(),
        };
        row.checksum = row.sum(history);
        Ok(row)
    }

    fn sum(&self, history: &HistoryId) -> Checksum {
        checksum(&[
            history.kind(),
            history.key(),
            &self.version.to_string(),
            &self.kind,
            &self.format.to_string(),
            &self.time,
            &self.actor,
            self.correlation.as_deref().unwrap_or_default(),
            &self.body,
        ])
    }

    /// The event that the row at `position` holds, if it is undamaged.
    pub(super) fn decode(
        self,
        position: u64,
        history_kind: &str,
        history_key: &str,
    ) -> Result<Event, JournalError> {
        let damaged = |what: &str| JournalError::Corrupt {
            reason: format!("{what} of the event at position {position} does not fit"),
        };
        let history =
            HistoryId::new(history_kind, history_key).map_err(|_not_one| damaged("history"))?;
        if self.sum(&history) != self.checksum {
            return Err(damaged("checksum"));
        }
        let time: Timestamp = self.time.parse().map_err(|_no_time| damaged("time"))?;
        let correlation: Option<CorrelationId> = self
            .correlation
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|_| damaged("correlation"))?;
        let body = serde_json::from_str(&self.body).map_err(|_no_json| damaged("body"))?;
        let Self { version, kind, format, actor, .. } = self;
        let envelope = Envelope { kind, format, time, actor, correlation, body };
        Ok(Event { position, history, version, envelope })
    }
}

impl SnapshotRow {
    pub(super) fn encode(history: &HistoryId, snapshot: &Snapshot) -> Result<Self, JournalError> {
        let mut row = Self {
            version: snapshot.version,
            format: snapshot.format,
            body: json_text("snapshot", &snapshot.body)?,
            checksum: Checksum::default(),
        };
        row.checksum = row.sum(history);
        Ok(row)
    }

    /// The snapshot that the row holds, if it is undamaged.
    pub(super) fn decode(self, history: &HistoryId) -> Result<Snapshot, JournalError> {
        let damaged = |what: &str| JournalError::Corrupt {
            reason: format!("{what} of the snapshot of {history} does not fit"),
        };
        if self.sum(history) != self.checksum {
            return Err(damaged("checksum"));
        }
        let body = serde_json::from_str(&self.body).map_err(|_no_json| damaged("body"))?;
        Ok(Snapshot { version: self.version, format: self.format, body })
    }

    fn sum(&self, history: &HistoryId) -> Checksum {
        let (version, format) = (self.version.to_string(), self.format.to_string());
        checksum(&[history.kind(), history.key(), &version, &format, &self.body])
    }
}

/// A number as a database can hold it. Past its range lies no version and no position, so nothing is
/// confused by the cut.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn json_text(kind: &str, body: &serde_json::Value) -> Result<String, JournalError> {
    serde_json::to_string(body)
        .map_err(|source| JournalError::Body { kind: kind.to_owned(), source })
}

/// Every field goes in with its length, so that no text can move from one into the next.
fn checksum(fields: &[&str]) -> Checksum {
    let mut hash = Sha256::new();
    for field in fields {
        hash.update((field.len() as u64).to_le_bytes());
        hash.update(field.as_bytes());
    }
    let digest = hash.finalize();
    let mut sum = Checksum::default();
    for (to, from) in sum.iter_mut().zip(digest) {
        *to = from;
    }
    sum
}
