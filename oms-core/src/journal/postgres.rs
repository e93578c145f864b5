//! The shared journal: a schema of a PostgreSQL database, for several processes at once.
//!
//! ```text
//!  append, save_snapshot, delete                     read, read_all, list, snapshot
//!        │ checked, encoded                                    │
//!        ▼                                                     ▼
//!  bounded queue ──► writer task: one transaction        a few connections that read
//!                    over all that wait, COMMIT
//!                          │ NOTIFY                      listener task: LISTEN, and a look
//!                          ├──► answers                  every few seconds
//!                          ▼                                   │
//!                    the last position ◄───────────────────────┘ ──► wait
//! ```
//!
//! # Order
//! Every transaction that writes begins by locking the one row of `log`, which holds the last
//! position given out, and keeps that lock until it has committed. So positions are given out in
//! the order in which they become visible, over all processes: whoever has read a position never
//! finds a lower one later. A sequence would not do: a transaction that took a low number can
//! commit after one that took a higher. An advisory lock would do, but its keys are shared with
//! whatever else uses the database, and it says nothing of the last position; the row does both,
//! rolls back with its transaction, is dumped and restored with the tables, and is the only lock
//! that is taken, so there is no order of locks to get wrong. Versions are read after the lock was
//! given, by a statement with a view of its own, so they cannot change before the commit.
//!
//! The price is one commit at a time over all processes. Each process therefore puts all appends
//! that wait into one transaction, with two exchanges with the server whatever their number.

mod listener;

mod plan;

mod reader;

mod schema;

mod server;

mod session;

mod text;

mod tls;

mod writer;

use self::reader::Readers;
use self::server::Server;
use self::writer::Writer;
use super::queue::Queue;
use super::{Append, Event, Head, HistoryId, Journal, JournalError, Snapshot};
use async_trait::async_trait;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Row;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::FromSql;

/// How a [`PostgresJournal`] lies in its database.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct PostgresSettings {
    /// The schema that holds its tables, so that it lives beside others: 1 to 40 of `a-z 0-9 _`,
    /// beginning with a letter and not with `pg_`. It is made if it is not there. Journals of
    /// different schemas have nothing in common.
    pub schema: String,
}

impl Default for PostgresSettings {
    /// The schema `oms`.
    fn default() -> Self {
        Self { schema: "oms".to_owned() }
    }
}

/// A [`Journal`] in a PostgreSQL database, which several processes can use at once.
///
/// An answered append is committed and synced by the server (and by its synchronous standbys, if
/// it has such); a server that runs with `fsync = off` is refused. Appends that wait at the same
/// time share one transaction. A `wait` is woken by NOTIFY, and by a look every few seconds where
/// that fails; it lasts through an outage of the server.
///
/// A lost connection is made again by the next call. A call whose connection was lost while it
/// took effect fails with [`JournalError::Unavailable`]; one that had not begun to is repeated
/// once by itself. What a failed append did is unknown then, and its expected versions make a
/// repeat safe: a [`JournalError::Conflict`] tells the caller to read again.
///
/// It runs tasks on the runtime of its caller, which needs I/O and time, and holds up to six
/// connections of the server. A connection pooler in transaction mode between them passes on no
/// notification, so that `wait` is woken only by its look every few seconds.
///
/// Tested with PostgreSQL 15.
///
/// ```no_run
/// use oms_core::journal::{Envelope, HistoryId, JournalExt, PostgresJournal, PostgresSettings};
/// use oms_core::{Clock, SystemClock};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let url = "postgresql://oms@127.0.0.1/suite";
/// let journal = PostgresJournal::connect(url, &PostgresSettings::default()).await?;
/// let history = HistoryId::new("job", "42")?;
/// let event = Envelope::new("job-queued", 1, SystemClock.now(), "local", &"hello.py")?;
/// assert_eq!(journal.append_to(&history, 0, vec![event]).await?, 1);
/// # Ok(())
/// # }
/// ```
pub struct PostgresJournal {
    queue: Queue,
    writer: JoinHandle<()>,
    /// Ends with the journal.
    _listener: AbortOnDrop,
    readers: Readers,
    server: Arc<Server>,
}

/// A task that nobody waits for.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for PostgresJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresJournal").field("server", &self.server).finish_non_exhaustive()
    }
}

impl PostgresJournal {
    /// Opens the journal in the database of `url` (`postgresql://user:password@host/database`, or
    /// `host=/run/postgresql dbname=…`), and makes its tables if they are not there.
    ///
    /// The server is on this machine: a Unix socket, a loopback address or `localhost`. Any other
    /// needs [`connect_tls`](Self::connect_tls).
    ///
    /// # Errors
    /// [`JournalError::Setup`] if the URL, the schema's name, the rights or the server's settings
    /// are not fit, [`JournalError::Newer`] if a newer version made the tables,
    /// [`JournalError::Corrupt`] if they are not the journal's, and [`JournalError::Unavailable`]
    /// if the server cannot be reached.
    pub async fn connect(url: &str, settings: &PostgresSettings) -> Result<Self, JournalError> {
        Self::open(Server::new(url, settings, None)?).await
    }

    /// The same through TLS, without which no connection is made to another machine. `tls` brings
    /// the roots of trust and the cryptography; the certificate has to be for the URL's host.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub async fn connect_tls(
        url: &str,
        settings: &PostgresSettings,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, JournalError> {
        Self::open(Server::new(url, settings, Some(tls))?).await
    }

    async fn open(server: Server) -> Result<Self, JournalError> {
        let server = Arc::new(server);
        let (writer, head) = Writer::connect(Arc::clone(&server)).await?;
        let (told, head) = watch::channel(head);
        let told = Arc::new(told);
        let (queue, requests) = Queue::new(head);
        let listener = tokio::spawn(listener::run(Arc::clone(&server), Arc::clone(&told)));
        let writer = tokio::spawn(writer.run(requests, told));
        let readers = Readers::new(Arc::clone(&server));
        let listener = AbortOnDrop(listener);
        Ok(Self { queue, writer, _listener: listener, readers, server })
    }

    /// Finishes the writes that were accepted, and closes the connection that writes. Without it,
    /// a journal that is dropped finishes them in the background, as long as its runtime runs.
    pub async fn close(self) {
        drop(self.queue);
        if self.writer.await.is_err() {
            tracing::error!("the journal's writer panicked");
        }
    }
}

#[async_trait]
impl Journal for PostgresJournal {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<u64>, JournalError> {
        self.queue.append(appends).await
    }

    async fn read(
        &self,
        history: &HistoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        self.readers.read(history, after, limit).await
    }

    async fn read_all(&self, after: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.readers.read_all(after, limit).await
    }

    async fn wait(&self, after: u64) -> Result<u64, JournalError> {
        self.queue.wait(after).await
    }

    async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, JournalError> {
        self.readers.list(kind, after, limit).await
    }

    async fn save_snapshot(
        &self,
        history: &HistoryId,
        snapshot: Snapshot,
    ) -> Result<(), JournalError> {
        self.queue.save_snapshot(history, &snapshot).await
    }

    async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError> {
        self.readers.snapshot(history).await
    }

    async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
        self.queue.delete(history, expected).await
    }
}

/// What a failure of the server, or of the way to it, means to the caller.
fn failure(error: &tokio_postgres::Error) -> JournalError {
    let reason = describe(error);
    match error.as_db_error() {
        // A server that ends the session may have done what it was asked.
        Some(said) if said.parsed_severity() == Some(Severity::Error) => {
            of_state(said.code(), reason)
        }
        Some(said) => match of_state(said.code(), reason) {
            refused @ JournalError::Setup { .. } => refused,
            JournalError::Corrupt { reason } => JournalError::Unavailable { reason },
            JournalError::Full => JournalError::Unavailable { reason: describe(error) },
            other => other,
        },
        None => JournalError::Unavailable { reason },
    }
}

/// What an error's code means. See "PostgreSQL Error Codes", appendix A of its manual.
fn of_state(state: &SqlState, reason: String) -> JournalError {
    const SETUP: [&SqlState; 4] = [
        &SqlState::INSUFFICIENT_PRIVILEGE,
        &SqlState::INVALID_CATALOG_NAME,
        &SqlState::INVALID_PASSWORD,
        &SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
    ];
    const CORRUPT: [&SqlState; 7] = [
        &SqlState::DATA_CORRUPTED,
        &SqlState::INDEX_CORRUPTED,
        // Tables that were checked when the journal was opened are gone or others.
        &SqlState::UNDEFINED_TABLE,
        &SqlState::UNDEFINED_COLUMN,
        &SqlState::INVALID_SCHEMA_NAME,
        &SqlState::DATATYPE_MISMATCH,
        &SqlState::UNDEFINED_FUNCTION,
    ];
    // No input breaks a constraint, or is no value of its column, unless the rows contradict each
    // other.
    let is_contradiction = state.code().starts_with("23") || state.code().starts_with("22");
    if *state == SqlState::DISK_FULL {
        JournalError::Full
    } else if SETUP.contains(&state) {
        JournalError::Setup { reason }
    } else if is_contradiction || CORRUPT.contains(&state) {
        JournalError::Corrupt { reason }
    } else {
        JournalError::Unavailable { reason }
    }
}

/// The error with its causes; none of them holds the password.
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{}: {} ({})", said.severity(), said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Reads a column; one of another type is damage.
fn column<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, JournalError> {
    row.try_get(index).map_err(|error| JournalError::Corrupt { reason: describe(&error) })
}

/// Reads a number that cannot be negative.
fn number(row: &Row, index: usize) -> Result<u64, JournalError> {
    let number: i64 = column(row, index)?;
    u64::try_from(number).map_err(|_negative| JournalError::Corrupt {
        reason: format!("a number that cannot be negative is. number=`{number}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_their_state() {
        let kind = |code: &str| of_state(&SqlState::from_code(code), "r".to_owned());
        assert!(matches!(kind("53100"), JournalError::Full));
        for code in ["28P01", "28000", "3D000", "42501"] {
            assert!(matches!(kind(code), JournalError::Setup { .. }), "{code}");
        }
        for code in ["XX001", "XX002", "42P01", "42703", "3F000", "23505", "23502", "22P02"] {
            assert!(matches!(kind(code), JournalError::Corrupt { .. }), "{code}");
        }
        for code in ["57P01", "57P03", "53300", "53200", "55P03", "25006", "58030", "08006"] {
            assert!(matches!(kind(code), JournalError::Unavailable { .. }), "{code}");
        }
    }
}
