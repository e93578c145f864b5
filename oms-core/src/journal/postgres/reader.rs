//! Reads, each on a connection of its own, beside the writer.

use super::server::Server;
use super::text::unescape;
use super::{column, failure, number};
use crate::journal::row::{EventRow, SnapshotRow, stored};
use crate::journal::{Event, Head, HistoryId, JournalError, READ_BYTES_MAX, READ_MAX, Snapshot};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

/// The most reads, and so connections, at one time; more wait for their turn.
const READERS_MAX: usize = 4;

/// What [`event`] reads, of the rows that `$from` finds in the order of `$order`. The sum of the
/// bodies so far ends the page on the server's side, which knows the length of a body without
/// fetching it; the first body is its own sum.
macro_rules! events {
    ($history:literal, $from:literal, $order:literal) => {
        concat!(
            "SELECT position, history_kind, history_key, version, kind, format, time, actor,
                 correlation, body, checksum
             FROM (SELECT event.*, ",
            $history,
            ", sum(octet_length(event.body))
                 OVER (ORDER BY ",
            $order,
            " ROWS UNBOUNDED PRECEDING) AS bytes FROM ",
            $from,
            " ORDER BY ",
            $order,
            " LIMIT $1) AS page
             WHERE bytes <= $2 OR bytes = octet_length(body)
             ORDER BY position"
        )
    };
}

/// The journal's questions, in the order of [`Question`].
const QUERIES: [&str; 4] = [
    events!(
        "$3::text AS history_kind, $4::text AS history_key",
        "@event AS event WHERE event.version > $5
         AND event.history = (SELECT id FROM @history WHERE kind = $3 AND key = $4)",
        "event.version"
    ),
    // An event without its history is damage, which an inner join would hide.
    events!(
        "history.kind AS history_kind, history.key AS history_key",
        "@event AS event LEFT JOIN @history AS history ON history.id = event.history
         WHERE event.position > $3",
        "event.position"
    ),
    "SELECT kind, key, version FROM @history
     WHERE kind = $1 AND key > $2 ORDER BY key LIMIT $3",
    "SELECT snapshot.version, format, body, checksum
     FROM @history AS history JOIN @snapshot AS snapshot ON snapshot.history = history.id
     WHERE history.kind = $1 AND history.key = $2",
];

#[derive(Clone, Copy, Debug)]
enum Question {
    Read = 0,
    ReadAll = 1,
    List = 2,
    Snapshot = 3,
}

/// A connection that reads.
#[derive(Debug)]
struct Reading {
    client: Client,
    statements: [Option<Statement>; QUERIES.len()],
}

/// Connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    server: Arc<Server>,
    turns: Semaphore,
    idle: Mutex<Vec<Reading>>,
}

impl Readers {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, turns: Semaphore::new(READERS_MAX), idle: Mutex::default() }
    }

    pub(super) async fn read(
        &self,
        history: &HistoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        let (kind, key, from) = (history.kind(), history.key(), stored(after));
        let events = self.events(Question::Read, limit, &[&kind, &key, &from]).await?;
        for (event, version) in events.iter().zip(after.saturating_add(1)..) {
            if event.version != version {
                let reason = format!("{history} lacks its event of version {version}");
                return Err(JournalError::Corrupt { reason });
            }
        }
        Ok(events)
    }

    pub(super) async fn read_all(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        self.events(Question::ReadAll, limit, &[&stored(after)]).await
    }

    async fn events(
        &self,
        question: Question,
        limit: usize,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Event>, JournalError> {
        let (limit, bytes) = (page(limit), READ_BYTES_MAX as i64);
        let mut all: Vec<&(dyn ToSql + Sync)> = vec![&limit, &bytes];
        all.extend(values);
        let rows = self.ask(question, &all).await?;
        // A page can be many megabytes of JSON to read.
        let decode = move || rows.iter().map(event).collect();
        let decoded = tokio::task::spawn_blocking(decode).await;
        decoded.map_err(|stopped| JournalError::Unavailable { reason: stopped.to_string() })?
    }

    pub(super) async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, JournalError> {
        // No kind and no key holds a zero byte, which the server would not take.
        if kind.contains('\0') {
            return Ok(Vec::new());
        }
        // No key is empty, so every key comes after the empty text.
        let after = after.and_then(|after| after.split('\0').next()).unwrap_or_default();
        let rows = self.ask(Question::List, &[&kind, &after, &page(limit)]).await?;
        rows.iter().map(head).collect()
    }

    pub(super) async fn snapshot(
        &self,
        history: &HistoryId,
    ) -> Result<Option<Snapshot>, JournalError> {
        let rows = self.ask(Question::Snapshot, &[&history.kind(), &history.key()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let format: i32 = column(row, 1)?;
        let damaged = |what: &str| JournalError::Corrupt {
            reason: format!("{what} of the snapshot of {history} does not fit"),
        };
        let row = SnapshotRow {
            version: number(row, 0)?,
            format: u16::try_from(format).map_err(|_| damaged("format"))?,
            body: column(row, 2)?,
            checksum: column::<&[u8]>(row, 3)?.try_into().map_err(|_| damaged("checksum"))?,
        };
        row.decode(history).map(Some)
    }

    /// Asks on an idle connection, or on a new one. A question changes nothing, so one whose idle
    /// connection turns out to be lost is asked again on a new one.
    async fn ask(
        &self,
        question: Question,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, JournalError> {
        let closed =
            |error: &dyn std::error::Error| JournalError::Unavailable { reason: error.to_string() };
        let _turn = self.turns.acquire().await.map_err(|error| closed(&error))?;
        loop {
            let idle = self.idle().pop();
            let is_idle = idle.is_some();
            let mut reading = match idle {
                Some(reading) if !reading.client.is_closed() => reading,
                Some(_lost) => continue,
                None => {
                    let client = self.server.connect().await?;
                    Reading { client, statements: Default::default() }
                }
            };
            match reading.ask(&self.server, question, values).await {
                Ok(rows) => {
                    self.idle().push(reading);
                    return Ok(rows);
                }
                // The idle ones come to their end, and then a new one is made.
                Err(error) if is_idle && is_lost(&error, &reading.client) => {}
                Err(error) => {
                    if !is_lost(&error, &reading.client) {
                        self.idle().push(reading);
                    }
                    return Err(failure(&error));
                }
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Reading>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    async fn ask(
        &mut self,
        server: &Server,
        question: Question,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let number = question as usize;
        let statement = match &self.statements[number] {
            Some(statement) => statement.clone(),
            None => {
                let statement = self.client.prepare(&server.schema.query(QUERIES[number])).await?;
                self.statements[number].insert(statement).clone()
            }
        };
        self.client.query(&statement, values).await
    }
}

/// Whether the connection can no longer be used. What the server says last, such as that it is
/// shut down, may come before the connection's end.
pub(super) fn is_lost(error: &tokio_postgres::Error, client: &Client) -> bool {
    use tokio_postgres::error::Severity;
    match error.as_db_error() {
        Some(said) => said.parsed_severity() != Some(Severity::Error) || client.is_closed(),
        None => true,
    }
}

fn event(row: &Row) -> Result<Event, JournalError> {
    let position = number(row, 0)?;
    let damaged = |what: &str| JournalError::Corrupt {
        reason: format!("{what} of the event at position {position} does not fit"),
    };
    let (history_kind, history_key): (Option<&str>, Option<&str>) =
        (column(row, 1)?, column(row, 2)?);
    let (Some(history_kind), Some(history_key)) = (history_kind, history_key) else {
        return Err(damaged("history"));
    };
    let format: i32 = column(row, 5)?;
    let event = EventRow {
        version: number(row, 3)?,
        kind: unescape(column(row, 4)?).ok_or_else(|| damaged("kind"))?,
        format: u16::try_from(format).map_err(|_| damaged("format"))?,
        time: column(row, 6)?,
        actor: unescape(column(row, 7)?).ok_or_else(|| damaged("actor"))?,
        correlation: column(row, 8)?,
        body: column(row, 9)?,
        checksum: column::<&[u8]>(row, 10)?.try_into().map_err(|_| damaged("checksum"))?,
    };
    event.decode(position, history_kind, history_key)
}

fn head(row: &Row) -> Result<Head, JournalError> {
    let history = HistoryId::new(column(row, 0)?, column(row, 1)?)
        .map_err(|error| JournalError::Corrupt { reason: error.to_string() })?;
    Ok(Head { history, version: number(row, 2)? })
}

fn page(limit: usize) -> i64 {
    stored(limit.min(READ_MAX) as u64)
}
