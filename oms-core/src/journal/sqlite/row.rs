//! Events and snapshots as rows, with a checksum each.

use super::failure;
use crate::id::CorrelationId;
use crate::journal::{Append, Envelope, Event, HistoryId, JournalError, Snapshot};
use jiff::Timestamp;
use rusqlite::{Row, RowIndex};
use sha2::{Digest, Sha256};

/// Enough of a SHA-256 to notice damage; it is no protection against a forger.
type Checksum = [u8; 8];

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

    fn read(row: &Row<'_>) -> rusqlite::Result<(u64, String, String, Self)> {
        let event = Self {
            version: unstored(row, "version")?,
            kind: row.get("kind")?,
            format: row.get("format")?,
            time: row.get("time")?,
            actor: row.get("actor")?,
            correlation: row.get("correlation")?,
            body: row.get("body")?,
            checksum: row.get("checksum")?,
        };
        Ok((unstored(row, "position")?, row.get("history_kind")?, row.get("history_key")?, event))
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

    fn sum(&self, history: &HistoryId) -> Checksum {
        let (version, format) = (self.version.to_string(), self.format.to_string());
        checksum(&[history.kind(), history.key(), &version, &format, &self.body])
    }
}

/// The columns that [`event`] reads, from `event` and its `history`.
pub(super) const EVENT_COLUMNS: &str = "event.position, history.kind AS history_kind, \
     history.key AS history_key, event.version, event.kind, event.format, event.time, \
     event.actor, event.correlation, event.body, event.checksum";

/// Reads an event back and checks it.
pub(super) fn event(row: &Row<'_>) -> Result<Event, JournalError> {
    let (position, history_kind, history_key, row) =
        EventRow::read(row).map_err(|error| failure(&error))?;
    let damaged = |what: &str| JournalError::Corrupt {
        reason: format!("{what} of the event at position {position} does not fit"),
    };
    let history =
        HistoryId::new(&history_kind, &history_key).map_err(|_not_one| damaged("history"))?;
    if row.sum(&history) != row.checksum {
        return Err(damaged("checksum"));
    }
    let time: Timestamp = row.time.parse().map_err(|_no_time| damaged("time"))?;
    let correlation: Option<CorrelationId> = row
        .correlation
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|_| damaged("correlation"))?;
    let body = serde_json::from_str(&row.body).map_err(|_no_json| damaged("body"))?;
    let (kind, format, actor) = (row.kind, row.format, row.actor);
    let envelope = Envelope { kind, format, time, actor, correlation, body };
    Ok(Event { position, history, version: row.version, envelope })
}

/// Reads the columns version, format, body and checksum back and checks them.
pub(super) fn snapshot(history: &HistoryId, row: &Row<'_>) -> Result<Snapshot, JournalError> {
    let read = || {
        let (version, format) = (unstored(row, "version")?, row.get("format")?);
        Ok(SnapshotRow { version, format, body: row.get("body")?, checksum: row.get("checksum")? })
    };
    let row = read().map_err(|error: rusqlite::Error| failure(&error))?;
    let damaged = |what: &str| JournalError::Corrupt {
        reason: format!("{what} of the snapshot of {history} does not fit"),
    };
    if row.sum(history) != row.checksum {
        return Err(damaged("checksum"));
    }
    let body = serde_json::from_str(&row.body).map_err(|_no_json| damaged("body"))?;
    Ok(Snapshot { version: row.version, format: row.format, body })
}

/// A number as SQLite can hold it. Past its range lies no version and no position, so nothing is
/// confused by the cut.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads what [`stored`] made.
pub(super) fn unstored(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_negative| rusqlite::Error::IntegralValueOutOfRange(0, number))
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
