//! Records and the way into the log repository.

use crate::ErrorKind;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::str::FromStr;
use uuid::Uuid;

use crate::id::ParseIdError;

/// One typed value of a record, in the types of the Kusto query language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Value {
    /// `bool`
    Bool(bool),
    /// `int`, 32 bits
    Int(i32),
    /// `long`, 64 bits
    Long(i64),
    /// `real`, a double
    Real(f64),
    /// `string`
    String(String),
    /// `datetime`
    DateTime(Timestamp),
    /// `timespan`
    TimeSpan(SignedDuration),
    /// `guid`
    Guid(Uuid),
    /// `dynamic`: any JSON value
    Dynamic(serde_json::Value),
}

macro_rules! value_from {
    ($($variant:ident($type:ty)),+) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        })+
    };
}
value_from!(
    Bool(bool),
    Int(i32),
    Long(i64),
    Real(f64),
    String(String),
    DateTime(Timestamp),
    TimeSpan(SignedDuration),
    Guid(Uuid),
    Dynamic(serde_json::Value)
);

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

/// The name of a record type, which is also its table's name: a letter or underscore, then
/// letters, digits and underscores, at most 63 characters (custom tables end in `_CL`).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecordType(String);

impl RecordType {
    /// The longest name, in characters.
    pub const LENGTH_MAX: usize = 63;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RecordType {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refuse = |reason| Err(ParseIdError::new("record type", text, reason));
        if text.is_empty() {
            return refuse("empty");
        }
        if text.len() > Self::LENGTH_MAX {
            return refuse("longer than 63 characters");
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return refuse("starts with a digit");
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return refuse("has a character other than letters, digits and underscore");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for RecordType {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<RecordType> for String {
    fn from(record_type: RecordType) -> Self {
        record_type.0
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing that happened on one computer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What kind of thing: `Perf`, `Syslog`, `AzureDiagnostics`.
    pub record_type: RecordType,
    /// When it happened (`TimeGenerated`).
    pub time: Timestamp,
    /// Where it happened (`Computer`).
    pub computer: String,
    /// Every further column. A column without a value is left out.
    pub fields: BTreeMap<String, Value>,
}

impl Record {
    /// A record without further columns.
    #[must_use]
    pub fn new(record_type: RecordType, time: Timestamp, computer: impl Into<String>) -> Self {
        Self { record_type, time, computer: computer.into(), fields: BTreeMap::new() }
    }

    /// The record with one more column.
    #[must_use]
    pub fn with(mut self, column: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.insert(column.into(), value.into());
        self
    }
}

/// Records of one producer, in the order it made them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Who sends, the same after a restart: 1 to 200 characters.
    pub producer: String,
    /// The producer's count of batches, from 1 and without gaps. A batch that was written already
    /// is accepted and not written again.
    pub sequence: u64,
    /// The records. An empty batch is accepted.
    pub records: Vec<Record>,
}

/// Why a sink did not take a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The whole batch was refused; nothing of it was written.
    #[error("batch refused. producer=`{producer}`, sequence=`{sequence}`, reason=`{reason}`")]
    Refused {
        /// The batch's producer.
        producer: String,
        /// The batch's sequence.
        sequence: u64,
        /// What is wrong, and with which record.
        reason: String,
    },
    /// The sink has too much unwritten work; send the same batch again later.
    #[error("log repository is busy. retry_after_ms=`{retry_after_ms}`")]
    Busy {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The sink cannot write now; send the same batch again later.
    #[error("log repository is unavailable. reason=`{reason}`")]
    Unavailable {
        /// What failed.
        reason: String,
    },
}

impl SinkError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::Invalid,
            Self::Busy { retry_after_ms } => ErrorKind::LimitExceeded {
                retry_after: Some(SignedDuration::from_millis(
                    i64::try_from(*retry_after_ms).unwrap_or(i64::MAX),
                )),
            },
            Self::Unavailable { .. } => ErrorKind::Unavailable,
        }
    }
}

/// The way into the log repository.
#[async_trait]
pub trait RecordSink: Debug + Send + Sync {
    /// Writes a batch. `Ok` means durable; a repeat of a (producer, sequence) that was written is
    /// `Ok` and adds nothing.
    ///
    /// # Errors
    /// [`SinkError`]; after one the caller may send the same batch again.
    async fn write(&self, batch: Batch) -> Result<(), SinkError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_types_are_names() {
        assert!("Perf".parse::<RecordType>().is_ok());
        assert!("My_Table_CL".parse::<RecordType>().is_ok());
        for bad in ["", "1a", "a b", "a/b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<RecordType>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<RecordType>("\"../etc\"").is_err());
    }

    #[test]
    fn records_survive_json() {
        let record = Record::new("Perf".parse().expect("a name"), Timestamp::UNIX_EPOCH, "pc")
            .with("CounterValue", 1.5)
            .with("InstanceName", "eth0")
            .with("Tags", serde_json::json!({"a": [1, null]}));
        let text = serde_json::to_string(&record).expect("to JSON");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("from JSON"), record);
    }
}
