//! What the writer does to the file between `BEGIN` and `COMMIT`.

use super::chain::{Chain, Fault, HistoryRow, Spine};
use super::reader::unstored;
use crate::journal::queue::{Answer, Work};
use crate::journal::row::{AppendRows, EventRow, SnapshotRow, stored};
use crate::journal::{HistoryId, JournalError};
use rusqlite::{CachedStatement, Connection, params};
use std::collections::HashMap;

/// Of how many histories the end is remembered.
const KNOWN_MAX: usize = 8_192;

/// The end of a history: all that an append to it has to know.
#[derive(Debug)]
struct End {
    id: i64,
    version: u64,
    spine: Spine,
}

/// What was written lately: what the open transaction, or the file between two, would answer.
#[derive(Debug, Default)]
pub(super) struct Known {
    ends: HashMap<HistoryId, End>,
    /// The last position given out.
    last: Option<u64>,
    /// SQLite's count of what others committed to the file.
    data_version: i64,
}

impl Known {
    /// Forgets what a transaction that came to nothing may have said.
    pub(super) fn forget(&mut self) {
        self.ends.clear();
        self.last = None;
    }
}

/// The last position that the file ever gave out. That of an event may be lower: a history that is
/// deleted leaves the number.
pub(super) fn last_position(connection: &Connection) -> rusqlite::Result<u64> {
    let query = "SELECT max(last, coalesce((SELECT max(position) FROM event), 0)) FROM sequence";
    connection.prepare_cached(query)?.query_row([], |row| unstored(row, 0))
}

/// The work of one transaction.
pub(super) struct Transaction<'c> {
    connection: &'c Connection,
    known: &'c mut Known,
    last: u64,
    // What every append asks for, looked up once.
    insert: CachedStatement<'c>,
    advance: CachedStatement<'c>,
}

impl<'c> Transaction<'c> {
    /// The work of the transaction that is open on `connection`.
    pub(super) fn new(connection: &'c Connection, known: &'c mut Known) -> Result<Self, Fault> {
        // Another process may have written to the file, though it should not: what is remembered
        // is then of no use.
        let mut query = connection.prepare_cached("PRAGMA data_version")?;
        let data_version: i64 = query.query_row([], |row| row.get(0))?;
        if data_version != known.data_version {
            known.forget();
            known.data_version = data_version;
        }
        if known.ends.len() > KNOWN_MAX {
            known.ends.clear();
        }
        let last = known.last.map_or_else(|| last_position(connection), Ok)?;
        let insert = connection.prepare_cached(
            "INSERT INTO event (position, history, version, back, skip,
                 kind, format, time, actor, correlation, body, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        let advance = connection
            .prepare_cached("UPDATE history SET version = ?2, last = ?3 WHERE id = ?1")?;
        Ok(Self { connection, known, last, insert, advance })
    }

    /// Ends the work, and answers the last position given out.
    pub(super) fn finish(self) -> u64 {
        self.known.last = Some(self.last);
        self.last
    }

    /// Does one request, or refuses it without having written anything.
    pub(super) fn apply(&mut self, work: &Work) -> Result<Answer, Fault> {
        match work {
            Work::Append(appends) => self.append(appends),
            Work::Snapshot(history, snapshot) => self.save_snapshot(history, snapshot),
            Work::Delete(history, expected) => self.delete(history, *expected),
        }
    }

    fn append(&mut self, appends: &[AppendRows]) -> Result<Answer, Fault> {
        for append in appends {
            let actual = self.version(&append.history)?;
            if actual != append.expected {
                return Ok(Err(conflict(&append.history, append.expected, actual)));
            }
        }
        let mut versions = Vec::with_capacity(appends.len());
        for append in appends {
            versions.push(append.expected + append.events.len() as u64);
            if !append.events.is_empty() {
                self.add(append)?;
            }
        }
        Ok(Ok(versions))
    }

    /// Adds events, of which there are some, to the end of their history.
    fn add(&mut self, append: &AppendRows) -> Result<(), Fault> {
        let AppendRows { history, expected, events } = append;
        let count = events.len() as u64;
        let (version, last) = (expected + count, self.last + count);
        let end = if let Some(end) = self.known.ends.get_mut(history) {
            self.advance.execute(params![end.id, stored(version), stored(last)])?;
            end
        } else {
            self.connection
                .prepare_cached(
                    "INSERT INTO history (kind, key, version, last) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![history.kind(), history.key(), stored(version), stored(last)])?;
            let id = self.connection.last_insert_rowid();
            let end = End { id, version, spine: Spine::default() };
            self.known.ends.entry(history.clone()).insert_entry(end).into_mut()
        };
        end.version = version;
        for event in events {
            self.last += 1;
            let links = end.spine.push(event.version, self.last);
            insert(&mut self.insert, self.last, end.id, links, event)?;
        }
        Ok(())
    }

    fn save_snapshot(
        &mut self,
        history: &HistoryId,
        snapshot: &SnapshotRow,
    ) -> Result<Answer, Fault> {
        let actual = self.version(history)?;
        if actual == 0 || actual < snapshot.version {
            return Ok(Err(conflict(history, snapshot.version, actual)));
        }
        let id = self.known.ends.get(history).map(|end| end.id);
        let SnapshotRow { version, format, body, checksum } = snapshot;
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO snapshot (history, version, format, body, checksum)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![id, stored(*version), format, body, checksum])?;
        Ok(Ok(Vec::new()))
    }

    fn delete(&mut self, history: &HistoryId, expected: u64) -> Result<Answer, Fault> {
        let found = HistoryRow::find(self.connection, history.kind(), history.key())?;
        let actual = found.map_or(0, |row| row.version);
        if actual != expected {
            return Ok(Err(conflict(history, expected, actual)));
        }
        let Some(row) = found else { return Ok(Ok(Vec::new())) };
        self.known.ends.remove(history);
        // Its events may be those that tell the last position.
        let kept = self.run("UPDATE sequence SET last = ?1", stored(self.last))?;
        if kept != 1 {
            let reason = format!("table `sequence` has {kept} rows and not one");
            return Err(Fault::Contradiction { reason });
        }
        let mut chain = Chain::new(self.connection, row)?;
        let mut link = chain.last()?;
        loop {
            self.run("DELETE FROM event WHERE position = ?1", stored(link.position))?;
            if link.version <= 1 {
                break;
            }
            link = chain.back(&link)?;
        }
        // Its snapshot refers to it and goes with it.
        self.run("DELETE FROM history WHERE id = ?1", row.id)?;
        Ok(Ok(Vec::new()))
    }

    /// Runs a statement that takes one number, and answers how many rows it changed.
    fn run(&self, statement: &str, number: i64) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(statement)?.execute([number])
    }

    /// How many events a history holds. Its end is known afterwards, if it is there.
    fn version(&mut self, history: &HistoryId) -> Result<u64, Fault> {
        if let Some(end) = self.known.ends.get(history) {
            return Ok(end.version);
        }
        let found = HistoryRow::find(self.connection, history.kind(), history.key())?;
        let Some(row) = found else { return Ok(0) };
        let spine = Spine::load(&mut Chain::new(self.connection, row)?)?;
        let end = End { id: row.id, version: row.version, spine };
        self.known.ends.insert(history.clone(), end);
        Ok(row.version)
    }
}

fn insert(
    statement: &mut CachedStatement<'_>,
    position: u64,
    history: i64,
    (back, skip): (u64, u64),
    event: &EventRow,
) -> rusqlite::Result<()> {
    let EventRow { version, kind, format, time, actor, correlation, body, checksum } = event;
    let (position, version) = (stored(position), stored(*version));
    let (back, skip) = (stored(back), stored(skip));
    statement.execute(params![
        position,
        history,
        version,
        back,
        skip,
        kind,
        format,
        time,
        actor,
        correlation,
        body,
        checksum
    ])?;
    Ok(())
}

fn conflict(history: &HistoryId, expected: u64, actual: u64) -> JournalError {
    JournalError::Conflict { history: history.clone(), expected, actual }
}
