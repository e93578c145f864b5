//! Reads, each on a connection of its own, beside the writer.

use super::chain::{Chain, Fault, HistoryRow};
use super::failure;
use super::file::connect_reader;
use crate::journal::row::{EventRow, SnapshotRow, stored};
use crate::journal::{Event, Head, HistoryId, JournalError, PageBytes, READ_MAX, Snapshot};
use rusqlite::{Connection, Params, Row, RowIndex};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// The most reads, and so connections, at one time; more wait for their turn.
const READERS_MAX: usize = 4;

/// Connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            turns: Arc::new(Semaphore::new(READERS_MAX)),
            idle: Mutex::default(),
        }
    }

    /// Closes what is idle; a read under way closes its own.
    pub(super) fn close(&self) {
        self.turns.close();
        self.lock().clear();
    }

    pub(super) async fn read(
        self: &Arc<Self>,
        history: &HistoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        let history = history.clone();
        self.run(move |connection| {
            // All statements see the file as of one moment.
            let moment = connection.unchecked_transaction().map_err(|error| failure(&error))?;
            let positions =
                positions(&moment, &history, after, limit).map_err(|fault| fault.error())?;
            events_at(&moment, &positions)
        })
        .await
    }

    pub(super) async fn read_all(
        self: &Arc<Self>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        let query = event_query("event.position > ?1 ORDER BY event.position LIMIT ?2");
        self.run(move |connection| {
            let mut page = PageBytes::default();
            rows_while(connection, &query, (stored(after), count(limit)), |row| {
                let found = event(row).map_err(|error| failure(&error))?;
                found.read(&mut page)
            })
        })
        .await
    }

    pub(super) async fn list(
        self: &Arc<Self>,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, JournalError> {
        // No key is empty, so every key comes after the empty text.
        let (kind, after) = (kind.to_owned(), after.unwrap_or_default().to_owned());
        self.run(move |connection| {
            let query = "SELECT kind, key, version FROM history
                 WHERE kind = ?1 AND key > ?2 ORDER BY key LIMIT ?3";
            rows(connection, query, (&kind, &after, count(limit)), head)
        })
        .await
    }

    pub(super) async fn snapshot(
        self: &Arc<Self>,
        history: &HistoryId,
    ) -> Result<Option<Snapshot>, JournalError> {
        let history = history.clone();
        self.run(move |connection| {
            let query = "SELECT snapshot.version, format, body, checksum
                 FROM history CROSS JOIN snapshot ON snapshot.history = history.id
                 WHERE history.kind = ?1 AND history.key = ?2";
            let values = (history.kind(), history.key());
            let found = rows(connection, query, values, |row| snapshot(&history, row))?;
            Ok(found.into_iter().next())
        })
        .await
    }

    /// Runs a query on a blocking thread. Its connection is used again unless the query failed.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let unavailable =
            |error: &dyn std::error::Error| JournalError::Unavailable { reason: error.to_string() };
        let turns = Arc::clone(&self.turns);
        let turn = turns.acquire_owned().await.map_err(|closed| unavailable(&closed))?;
        let readers = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            // Given back here, because the read goes on even if its caller leaves.
            let _turn = turn;
            let idle = readers.lock().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => connect_reader(&readers.path).map_err(|error| failure(&error))?,
            };
            let found = query(&connection)?;
            if !readers.turns.is_closed() {
                readers.lock().push(connection);
            }
            Ok(found)
        });
        task.await.map_err(|stopped| unavailable(&stopped))?
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rows<T>(
    connection: &Connection,
    query: &str,
    values: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, JournalError>,
) -> Result<Vec<T>, JournalError> {
    rows_while(connection, query, values, |row| read(row).map(Some))
}

/// Rows until `read` takes no more.
fn rows_while<T>(
    connection: &Connection,
    query: &str,
    values: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<Option<T>, JournalError>,
) -> Result<Vec<T>, JournalError> {
    let mut statement = connection.prepare_cached(query).map_err(|error| failure(&error))?;
    let mut rows = statement.query(values).map_err(|error| failure(&error))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(|error| failure(&error))? {
        let Some(value) = read(row)? else { break };
        found.push(value);
    }
    Ok(found)
}

/// Where the events of one page are, oldest first.
fn positions(
    connection: &Connection,
    history: &HistoryId,
    after: u64,
    limit: usize,
) -> Result<Vec<u64>, Fault> {
    let Some(row) = HistoryRow::find(connection, history.kind(), history.key())? else {
        return Ok(Vec::new());
    };
    let count = row.version.saturating_sub(after).min(limit.min(READ_MAX) as u64);
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut chain = Chain::new(connection, row)?;
    let last = chain.last()?;
    let mut link = chain.seek(last, after + count)?;
    let mut positions = vec![link.position];
    while link.version > after + 1 {
        link = chain.back(&link)?;
        positions.push(link.position);
    }
    positions.reverse();
    Ok(positions)
}

/// The query for events that [`event`] reads, each with its history. One without a history comes as
/// well, so that it is noticed.
fn event_query(condition: &str) -> String {
    format!(
        "SELECT event.position, history.kind AS history_kind, history.key AS history_key,
             event.version, event.kind, event.format, event.time, event.actor,
             event.correlation, event.body, event.checksum
         FROM event LEFT JOIN history ON history.id = event.history
         WHERE {condition}"
    )
}

fn events_at(connection: &Connection, positions: &[u64]) -> Result<Vec<Event>, JournalError> {
    let query = event_query("event.position = ?1");
    let mut query = connection.prepare_cached(&query).map_err(|error| failure(&error))?;
    let mut page = PageBytes::default();
    let mut events = Vec::with_capacity(positions.len());
    for position in positions {
        let found = query.query_row([stored(*position)], event);
        let Some(event) = found.map_err(|error| failure(&error))?.read(&mut page)? else { break };
        events.push(event);
    }
    Ok(events)
}

/// The row of an event, with its history's name if there is such a history.
struct FoundEvent {
    position: u64,
    history: Option<(String, String)>,
    row: EventRow,
}

impl FoundEvent {
    /// The event, unless its page is full.
    fn read(self, page: &mut PageBytes) -> Result<Option<Event>, JournalError> {
        let Self { position, history, row } = self;
        let Some((kind, key)) = history else {
            let reason = format!("the event at position {position} is of no history");
            return Err(JournalError::Corrupt { reason });
        };
        if !page.admit(row.body.len()) {
            return Ok(None);
        }
        row.decode(position, &kind, &key).map(Some)
    }
}

fn event(row: &Row<'_>) -> rusqlite::Result<FoundEvent> {
    let kind: Option<String> = row.get("history_kind")?;
    let key: Option<String> = row.get("history_key")?;
    let event = EventRow {
        version: unstored(row, "version")?,
        kind: row.get("kind")?,
        format: row.get("format")?,
        time: row.get("time")?,
        actor: row.get("actor")?,
        correlation: row.get("correlation")?,
        body: row.get("body")?,
        checksum: row.get("checksum")?,
    };
    Ok(FoundEvent { position: unstored(row, "position")?, history: kind.zip(key), row: event })
}

/// Reads the columns version, format, body and checksum.
fn snapshot(history: &HistoryId, row: &Row<'_>) -> Result<Snapshot, JournalError> {
    let read = || {
        let (version, format) = (unstored(row, "version")?, row.get("format")?);
        Ok(SnapshotRow { version, format, body: row.get("body")?, checksum: row.get("checksum")? })
    };
    let row = read().map_err(|error: rusqlite::Error| failure(&error))?;
    row.decode(history)
}

/// Reads what [`stored`] made.
pub(super) fn unstored(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_negative| rusqlite::Error::IntegralValueOutOfRange(0, number))
}

fn head(row: &Row<'_>) -> Result<Head, JournalError> {
    let read = || Ok((row.get(0)?, row.get(1)?, unstored(row, 2)?));
    let (kind, key, version): (String, String, u64) =
        read().map_err(|error: rusqlite::Error| failure(&error))?;
    let history = HistoryId::new(&kind, &key)
        .map_err(|error| JournalError::Corrupt { reason: error.to_string() })?;
    Ok(Head { history, version })
}

fn count(limit: usize) -> i64 {
    stored(limit.min(READ_MAX) as u64)
}
