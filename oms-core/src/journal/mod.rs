//! Durable, append-only event histories, in one global order.
//!
//! A *history* is the life of one thing: one job, one node, one protected item. Its events are
//! appended at an expected version (compare-and-swap), so of two writers that read the same state
//! one wins and the other reads again. Every event also has a *position* in the one global log,
//! from which projections read and wait for more.

mod ext;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod queue;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod row;
#[cfg(feature = "sqlite")]
mod sqlite;
mod typed;

pub use ext::{JournalExt, Replayed};
pub use memory::MemoryJournal;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresJournal, PostgresSettings};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteJournal;
pub use typed::{BodyShape, JournalEvent};

use crate::ErrorKind;
use crate::id::{CorrelationId, ParseIdError};
use crate::lease::LEASE_KIND;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::{self, Debug};
use std::io;
use std::str::FromStr;

/// The most events and conditions one append may carry, over all its histories; the guard of
/// one lease is not counted.
pub const APPEND_EVENTS_MAX: usize = 10_000;

/// The most events or heads one read returns.
pub const READ_MAX: usize = 10_000;

/// The largest sum of the bodies that one read returns, in bytes of JSON text.
///
/// A page may so end before its limit; only an empty one tells that there is no more. No single
/// body reaches this size, so every page of a read that finds something holds an event.
pub const READ_BYTES_MAX: usize = 16 << 20;

/// The largest body of one event, in bytes of JSON text.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest kind or actor of one event, in bytes.
pub const NAME_BYTES_MAX: usize = 1 << 10;

/// The largest sum of the bodies of one append, in bytes of JSON text.
pub const APPEND_BYTES_MAX: usize = 16 << 20;

/// The largest body of a snapshot, in bytes of JSON text.
pub const SNAPSHOT_BYTES_MAX: usize = 16 << 20;

/// Which history: a kind (`job`, `dsc-node`) and a key within it.
///
/// A kind is 1 to 64 of `a-z 0-9 -`; a key is 1 to 512 bytes without control characters.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HistoryId {
    kind: String,
    key: String,
}

impl HistoryId {
    /// A history of `kind` named `key`.
    ///
    /// # Errors
    /// [`JournalError::Id`] if either is not of the form above.
    pub fn new(kind: &str, key: &str) -> Result<Self, JournalError> {
        let kind_fits = (1..=64).contains(&kind.len())
            && kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !kind_fits {
            return Err(ParseIdError::new("history kind", kind, "not 1 to 64 of a-z 0-9 -").into());
        }
        if !(1..=512).contains(&key.len()) {
            return Err(ParseIdError::new("history key", key, "not 1 to 512 bytes").into());
        }
        if key.chars().any(char::is_control) {
            return Err(ParseIdError::new("history key", key, "has a control character").into());
        }
        Ok(Self { kind: kind.to_owned(), key: key.to_owned() })
    }

    /// What kind of thing.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Which one of its kind.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A history of another kind whose key is this one's and more. The caller keeps the forms
    /// above.
    pub(crate) fn beside(&self, kind: &str, suffix: &str) -> Self {
        Self { kind: kind.to_owned(), key: format!("{}{suffix}", self.key) }
    }
}

impl fmt::Display for HistoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.key)
    }
}

impl FromStr for HistoryId {
    type Err = JournalError;

    /// Reads what `Display` prints; the first slash ends the kind.
    fn from_str(text: &str) -> Result<Self, JournalError> {
        let (kind, key) = text
            .split_once('/')
            .ok_or_else(|| ParseIdError::new("history id", text, "no slash after the kind"))?;
        Self::new(kind, key)
    }
}

/// One event without its place: what the writer says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// What happened: `job-queued`.
    pub kind: String,
    /// Version of the body's format, from 1. Every released version stays readable.
    pub format: u16,
    /// When it happened, by the writer's clock.
    pub time: Timestamp,
    /// Who caused it: a principal's name, or the service itself.
    pub actor: String,
    /// The request it belongs to.
    pub correlation: Option<CorrelationId>,
    /// The event itself, as JSON.
    pub body: serde_json::Value,
}

impl Envelope {
    /// Wraps an event.
    ///
    /// # Errors
    /// [`JournalError::Body`] if `body` has no JSON form, such as a map with keys that are not
    /// text.
    pub fn new(
        kind: &str,
        format: u16,
        time: Timestamp,
        actor: &str,
        body: &impl Serialize,
    ) -> Result<Self, JournalError> {
        let body = serde_json::to_value(body)
            .map_err(|source| JournalError::Body { kind: kind.to_owned(), source })?;
        Ok(Self {
            kind: kind.to_owned(),
            format,
            time,
            actor: actor.to_owned(),
            correlation: None,
            body,
        })
    }

    /// The same event as part of a request.
    #[must_use]
    pub fn correlated(mut self, correlation: CorrelationId) -> Self {
        self.correlation = Some(correlation);
        self
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`JournalError::Body`] if it is not of that type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, JournalError> {
        T::deserialize(&self.body)
            .map_err(|source| JournalError::Body { kind: self.kind.clone(), source })
    }
}

/// One event in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its place in the global log, from 1; gaps are possible, reuse is not.
    pub position: u64,
    /// Whose event.
    pub history: HistoryId,
    /// Its place in that history, from 1 and without gaps.
    pub version: u64,
    /// What the writer said.
    pub envelope: Envelope,
}

impl Event {
    /// What its place holds does not make sense there.
    #[must_use]
    pub fn corrupt(&self, reason: &dyn fmt::Display) -> JournalError {
        let reason = format!("{} at version {}: {reason}", self.history, self.version);
        JournalError::Corrupt { reason }
    }
}

/// Events to append to one history, or a condition on it.
///
/// With no events it is a condition: its history must hold exactly `expected` events when the
/// others of the same call are written, and stays as it is.
#[derive(Clone, Debug)]
pub struct Append {
    /// Which history.
    pub history: HistoryId,
    /// How many events it must hold now; 0 if it must not exist.
    pub expected: u64,
    /// What to append; nothing makes it a condition.
    pub events: Vec<Envelope>,
}

impl Append {
    /// The condition that `history` holds exactly `expected` events, 0 if it must not exist.
    #[must_use]
    pub const fn condition(history: HistoryId, expected: u64) -> Self {
        Self { history, expected, events: Vec::new() }
    }
}

/// A history and how many events it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// Which history.
    pub history: HistoryId,
    /// How many events.
    pub version: u64,
}

/// The state after the first `version` events, so that a long history need not be replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// How many events it covers.
    pub version: u64,
    /// Version of the body's format, from 1.
    pub format: u16,
    /// The state, as JSON.
    pub body: serde_json::Value,
}

/// Why a journal did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Someone else appended first; read again and retry.
    #[error("version conflict. history=`{history}`, expected=`{expected}`, actual=`{actual}`")]
    Conflict {
        /// The history written to.
        history: HistoryId,
        /// How many events the caller had read.
        expected: u64,
        /// How many there are.
        actual: u64,
    },
    /// Not a name of a history.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// An event's body is not of the expected form.
    #[error("event body does not fit. kind=`{kind}`")]
    Body {
        /// The event's kind.
        kind: String,
        /// Where it does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// The event is of a kind or a format that the reader does not know: another history's, or a
    /// newer version's.
    #[error("event is not known to this version. kind=`{kind}`, format=`{format}`")]
    UnknownEvent {
        /// The event's kind.
        kind: String,
        /// The format of its body.
        format: u16,
    },
    /// More than one call may carry.
    #[error("too large. what=`{what}`, actual=`{actual}`, limit=`{limit}`")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        actual: usize,
        /// How large it may be.
        limit: usize,
    },
    /// The stored journal was written by a newer version of this software.
    #[error("journal has a newer format. found=`{found}`, newest known=`{known}`")]
    Newer {
        /// The stored format.
        found: u32,
        /// The newest this version reads.
        known: u32,
    },
    /// The file is not a journal, or stored bytes are damaged.
    #[error("journal is damaged. reason=`{reason}`")]
    Corrupt {
        /// What was found, and where.
        reason: String,
    },
    /// The journal cannot be used as it is set up, and a repeat will not help.
    #[error("journal is not set up. reason=`{reason}`")]
    Setup {
        /// What is wrong with the address, the rights or the server's settings.
        reason: String,
    },
    /// This process no longer owns what it wrote for; nothing of the call was written, and no
    /// repeat in this process will be.
    #[error("journal is fenced off. reason=`{reason}`")]
    Fenced {
        /// Which duty, and how it was lost.
        reason: String,
    },
    /// The disk is full; nothing of the call was written.
    #[error("no space left for the journal")]
    Full,
    /// The journal cannot be reached or written now. Whether the call took effect is unknown;
    /// its expected versions make a repeat safe.
    #[error("journal is unavailable. reason=`{reason}`")]
    Unavailable {
        /// What failed.
        reason: String,
    },
}

impl JournalError {
    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Id(_) | Self::Body { .. } | Self::Setup { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Newer { .. } | Self::UnknownEvent { .. } => ErrorKind::Unsupported,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Fenced { .. } => ErrorKind::PreconditionFailed,
            Self::Full => ErrorKind::LimitExceeded { retry_after: None },
            Self::Unavailable { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Where histories are kept.
///
/// An implementation passes `oms_core::testkit::journal` (feature `testkit`).
#[async_trait]
pub trait Journal: Debug + Send + Sync {
    /// Appends to several histories, all or none, each only if it holds exactly the expected
    /// number of events. `Ok` means durable, and carries each history's new version in order.
    ///
    /// An [`Append`] with no events is a condition: its history must hold exactly `expected`
    /// events (0: it must not exist), nothing is appended to it, and its unchanged version is
    /// among the answers. No other append comes between the check of a condition and the write.
    /// A call with no appends at all does nothing.
    ///
    /// # Errors
    /// [`JournalError::Conflict`] names the first history that does not match;
    /// [`JournalError::Id`] if all appends are conditions or two name one history;
    /// [`JournalError::TooLarge`] past a limit of this module. On any error but
    /// [`JournalError::Unavailable`] nothing was written.
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<u64>, JournalError>;

    /// Events of one history after its first `after`, oldest first, at most `limit`, [`READ_MAX`]
    /// and [`READ_BYTES_MAX`]; none if there is no such history. Only an empty page is the end.
    async fn read(
        &self,
        history: &HistoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError>;

    /// Events of all histories after position `after`, in order, at most `limit`, [`READ_MAX`]
    /// and [`READ_BYTES_MAX`]. Only an empty page is the end. Whoever has read a position never
    /// finds a lower one later.
    async fn read_all(&self, after: u64, limit: usize) -> Result<Vec<Event>, JournalError>;

    /// Waits until a position after `after` was given out, then answers the last one given out, as
    /// far as this process knows: of what others appended, and of its own whose answer was lost,
    /// it may hear seconds later. Its event may have been deleted since.
    async fn wait(&self, after: u64) -> Result<u64, JournalError>;

    /// Histories of one kind in order of their keys, after key `after`, at most `limit` and
    /// [`READ_MAX`].
    async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, JournalError>;

    /// Keeps a snapshot, in place of an earlier one. It never changes what `read` returns.
    ///
    /// # Errors
    /// [`JournalError::Conflict`] if the history holds no event, or fewer than the snapshot
    /// covers; [`JournalError::TooLarge`] past [`SNAPSHOT_BYTES_MAX`].
    async fn save_snapshot(
        &self,
        history: &HistoryId,
        snapshot: Snapshot,
    ) -> Result<(), JournalError>;

    /// The snapshot kept last, if any.
    async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError>;

    /// Deletes a history with its snapshot if it holds exactly `expected` events. Its positions
    /// are not used again; the history can begin anew at version 0.
    ///
    /// # Errors
    /// [`JournalError::Conflict`] if it holds another number.
    async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError>;
}

/// Checks the limits that every adapter keeps.
pub(crate) fn check_append(appends: &[Append]) -> Result<(), JournalError> {
    // The guard of one lease comes on top, so that an engine has the same limits under one.
    let is_guard =
        |append: &Append| append.events.is_empty() && append.history.kind() == LEASE_KIND;
    let count: usize = appends.iter().map(|append| append.events.len().max(1)).sum();
    let count = count - usize::from(appends.iter().any(is_guard));
    check_size("events of one append", count, APPEND_EVENTS_MAX)?;
    if let Some(first) = appends.first()
        && appends.iter().all(|append| append.events.is_empty())
    {
        return Err(ParseIdError::new("append", &first.history.to_string(), "no event").into());
    }
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    for append in appends {
        if !seen.insert(&append.history) {
            let name = append.history.to_string();
            return Err(ParseIdError::new("append", &name, "names a history twice").into());
        }
        for envelope in &append.events {
            check_size("kind of an event", envelope.kind.len(), NAME_BYTES_MAX)?;
            check_size("actor of an event", envelope.actor.len(), NAME_BYTES_MAX)?;
            let body = json_bytes(&envelope.kind, &envelope.body)?;
            check_size("body of an event", body, BODY_BYTES_MAX)?;
            bytes += body;
        }
    }
    check_size("bodies of one append", bytes, APPEND_BYTES_MAX)
}

/// Checks the limit on a snapshot that every adapter keeps.
pub(crate) fn check_snapshot(snapshot: &Snapshot) -> Result<(), JournalError> {
    let bytes = json_bytes("snapshot", &snapshot.body)?;
    check_size("body of a snapshot", bytes, SNAPSHOT_BYTES_MAX)
}

fn check_size(what: &'static str, actual: usize, limit: usize) -> Result<(), JournalError> {
    if actual > limit {
        return Err(JournalError::TooLarge { what, actual, limit });
    }
    Ok(())
}

/// Counts the bodies of one page.
#[derive(Debug, Default)]
pub(crate) struct PageBytes {
    sum: usize,
}

impl PageBytes {
    /// Whether a body of this many bytes still goes onto the page. The first one always does.
    pub(crate) const fn admit(&mut self, bytes: usize) -> bool {
        let is_first = self.sum == 0;
        self.sum = self.sum.saturating_add(bytes);
        is_first || self.sum <= READ_BYTES_MAX
    }
}

/// How long the JSON text of `body` is, without making it.
fn json_bytes(kind: &str, body: &serde_json::Value) -> Result<usize, JournalError> {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, body)
        .map_err(|source| JournalError::Body { kind: kind.to_owned(), source })?;
    Ok(count.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_ids_parse_and_print() {
        let id = HistoryId::new("dsc-node", "a/b c").expect("a slash in the key is fine");
        assert_eq!(id.to_string().parse::<HistoryId>().expect("round trip"), id);
        for (kind, key) in [("", "k"), ("Job", "k"), ("job", ""), ("job", "a\nb")] {
            assert!(HistoryId::new(kind, key).is_err(), "{kind}/{key}");
        }
        assert!("noslash".parse::<HistoryId>().is_err());
    }

    #[test]
    fn a_body_of_another_type_is_an_error_with_its_kind() {
        let envelope = Envelope::new("job-queued", 1, Timestamp::UNIX_EPOCH, "me", &"text")
            .expect("text is JSON");
        let error = envelope.decode::<u64>().expect_err("text is not a number");
        assert_eq!(error.to_string(), "event body does not fit. kind=`job-queued`");
    }

    #[test]
    fn the_sum_of_the_bodies_of_one_append_is_bounded() {
        let event = Envelope::new("k", 1, Timestamp::UNIX_EPOCH, "me", &"x".repeat(1 << 19))
            .expect("text is JSON");
        let append = |key: &str, count| Append {
            history: HistoryId::new("job", key).expect("a name"),
            expected: 0,
            events: vec![event.clone(); count],
        };
        // Two quotation marks a body tip the sum over.
        assert!(check_append(&[append("a", 20), append("b", 11)]).is_ok());
        match check_append(&[append("a", 20), append("b", 12)]) {
            Err(JournalError::TooLarge { actual, limit: APPEND_BYTES_MAX, .. }) => {
                assert_eq!(actual, APPEND_BYTES_MAX + 2 * 32);
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}
