//! Connected sources and the data sources they collect from.
//!
//! A connected source is a computer with an [`Agent`] on it. The agent asks its data
//! sources what happened since it asked last, and sends the answers to a
//! [`RecordSink`](oms_core::RecordSink), the log repository:
//!
//! ```text
//!  /proc, statvfs ──► perf ────────┐ records,                spool (durable) ──► RecordSink
//!  /etc/os-release ─► heartbeat ───┤ positions                  ▲    │ write        │
//!  /var/log/syslog ─► syslog ──────┼──────────► agent ──────────┘    │              │ Ok: durable
//!  journal export ──► journald ────┤  DataSource                     ▼              │
//!  any log file ────► custom_log ──┘                            acknowledged ◄──────┘
//! ```
//!
//! A data source reads; the agent makes durable. Where a data source stopped reading (its position)
//! is stored in the same file as the records it gave, so a crash at any point neither loses nor
//! doubles a line.

pub mod agent;

pub mod perf;

pub mod heartbeat;

pub mod syslog;

pub mod journald;

pub mod custom_log;

pub mod tail;

mod error;

pub use agent::{Agent, AgentSettings, CollectReport};
pub use error::SourceError;

use jiff::Timestamp;
use oms_core::id::SourceId;
use oms_core::{Record, record::Value};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// The longest text of one field, in bytes. The repository cuts longer ones; the agent cuts them
/// before they travel.
pub const FIELD_BYTES_MAX: usize = 32 * 1024;

/// When and for whom a data source collects.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The wall clock.
    pub now: Timestamp,
    /// A clock that never goes backwards, for rates.
    pub monotonic: Duration,
    /// The computer's name.
    pub computer: &'a str,
    /// The agent's identity.
    pub source: SourceId,
}

/// What a data source found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collected {
    /// What happened, oldest first.
    pub records: Vec<Record>,
    /// Whether a limit ended the collection and there is more to read at once.
    pub more: bool,
    /// What was changed or lost on the way.
    pub notes: Notes,
}

/// How much of what was read is not in the records as it was found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Notes {
    /// Texts that were not UTF-8; each bad sequence became U+FFFD.
    pub lossy: u64,
    /// Texts longer than [`FIELD_BYTES_MAX`], of which the beginning was kept.
    pub truncated: u64,
    /// Lines that have no form we know; each became a record with the line as its text.
    pub unparsed: u64,
    /// Files that vanished before they were read to their end.
    pub gaps: u64,
}

impl Notes {
    /// Adds another count to this one.
    pub fn add(&mut self, other: Self) {
        self.lossy = self.lossy.saturating_add(other.lossy);
        self.truncated = self.truncated.saturating_add(other.truncated);
        self.unparsed = self.unparsed.saturating_add(other.unparsed);
        self.gaps = self.gaps.saturating_add(other.gaps);
    }
}

/// Something an agent collects records from.
///
/// A data source that reads a log keeps a position. [`collect`](Self::collect) moves it in memory
/// only; the agent stores [`position`](Self::position) together with the records, and gives it back
/// with [`resume`](Self::resume) after a restart or when the records could not be stored.
pub trait DataSource: Debug + Send {
    /// The name of this data source within its agent, the same after a restart.
    fn name(&self) -> &str;

    /// Gives what happened since the last collection, bounded.
    ///
    /// # Errors
    /// [`SourceError`]; the position is then where it was.
    fn collect(&mut self, at: &Moment<'_>) -> Result<Collected, SourceError>;

    /// Where the next collection begins; nothing for a data source that samples the present.
    fn position(&self) -> Option<serde_json::Value> {
        None
    }

    /// Goes back to a position that [`position`](Self::position) gave, or to the beginning.
    ///
    /// # Errors
    /// [`SourceError::Corrupt`] for a position that this data source cannot have given.
    fn resume(&mut self, position: Option<&serde_json::Value>) -> Result<(), SourceError> {
        match position {
            None => Ok(()),
            Some(_) => Err(SourceError::Corrupt {
                path: self.name().to_owned(),
                reason: "a position for a data source that has none".to_owned(),
            }),
        }
    }
}

/// A data source that is asked less often than its agent's rounds come.
#[derive(Debug)]
pub struct Every<S> {
    source: S,
    every: Duration,
    asked: Option<Duration>,
}

impl<S: DataSource> Every<S> {
    /// Asks `source` at once, and again when `every` has passed since it last answered.
    #[must_use]
    pub const fn new(source: S, every: Duration) -> Self {
        Self { source, every, asked: None }
    }
}

impl<S: DataSource> DataSource for Every<S> {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn collect(&mut self, at: &Moment<'_>) -> Result<Collected, SourceError> {
        let passed = self.asked.map(|asked| at.monotonic.saturating_sub(asked));
        if passed.is_some_and(|passed| passed < self.every) {
            return Ok(Collected::default());
        }
        let collected = self.source.collect(at)?;
        if !collected.more {
            self.asked = Some(at.monotonic);
        }
        Ok(collected)
    }

    fn position(&self) -> Option<serde_json::Value> {
        self.source.position()
    }

    fn resume(&mut self, position: Option<&serde_json::Value>) -> Result<(), SourceError> {
        // What it gave last may not have been stored.
        self.asked = None;
        self.source.resume(position)
    }
}

/// Reads a position that a data source gave; no position is the beginning.
pub(crate) fn decode_position<T: Default + DeserializeOwned>(
    name: &str,
    position: Option<&serde_json::Value>,
) -> Result<T, SourceError> {
    let Some(position) = position else { return Ok(T::default()) };
    T::deserialize(position)
        .map_err(|error| SourceError::Corrupt { path: name.to_owned(), reason: error.to_string() })
}

/// The value of `SourceSystem` in every record that a Linux agent makes.
pub(crate) const SOURCE_SYSTEM: &str = "Linux";

/// Cuts a text to [`FIELD_BYTES_MAX`] at a character boundary; answers whether it was longer.
pub(crate) fn cut_to_field(text: &mut String) -> bool {
    if text.len() <= FIELD_BYTES_MAX {
        return false;
    }
    let mut end = FIELD_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    true
}

/// About how many bytes a record takes in memory and in the spool.
pub(crate) fn weigh(record: &Record) -> usize {
    let fields: usize = record
        .fields
        .iter()
        .map(|(name, value)| {
            let bytes = match value {
                Value::String(text) => text.len(),
                Value::Dynamic(json) => json.to_string().len(),
                _ => 16,
            };
            name.len() + bytes + 32
        })
        .sum();
    fields + record.computer.len() + record.record_type.as_str().len() + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_cut_between_characters() {
        let mut short = "ä".repeat(10);
        assert!(!cut_to_field(&mut short));
        let mut long = format!("x{}", "ä".repeat(FIELD_BYTES_MAX));
        assert!(cut_to_field(&mut long));
        assert_eq!(long.len(), FIELD_BYTES_MAX - 1, "the last whole character ends one byte short");
    }
}
