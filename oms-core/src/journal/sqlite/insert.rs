//! Events on their way into the open transaction, many to a statement.

use crate::journal::row::{EventRow, stored};
use rusqlite::{CachedStatement, Connection, ToSql};

/// How many events one statement takes, the most first. A statement costs as much as a row or two: it
/// is reset and stepped, and brings the highest position into its table at its end.
const ROWS: [usize; 3] = [64, 8, 1];

/// The values of one event.
const COLUMNS: usize = 9;

/// Events of the open transaction that are not in it yet, in the order of their positions.
#[derive(Debug, Default)]
pub(super) struct Inserts<'a> {
    waiting: Vec<(i64, &'a EventRow)>,
    last_position: Option<u64>,
}

impl<'a> Inserts<'a> {
    /// Takes the next event of `history`, and inserts a full statement's worth of them.
    pub(super) fn push(
        &mut self,
        connection: &Connection,
        history: i64,
        event: &'a EventRow,
    ) -> rusqlite::Result<()> {
        self.waiting.push((history, event));
        if self.waiting.len() < ROWS[0] { Ok(()) } else { self.flush(connection) }
    }

    /// Inserts all that wait.
    pub(super) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut rest = self.waiting.as_slice();
        if rest.is_empty() {
            return Ok(());
        }
        for rows in ROWS {
            while let Some((chunk, later)) = rest.split_at_checked(rows) {
                insert(connection, chunk)?;
                rest = later;
            }
        }
        self.waiting.clear();
        // The event inserted last has the highest position.
        self.last_position = u64::try_from(connection.last_insert_rowid()).ok();
        Ok(())
    }

    /// The highest position given so far, if there is one.
    pub(super) fn last_position(&self) -> Option<u64> {
        self.last_position
    }
}

fn insert(connection: &Connection, events: &[(i64, &EventRow)]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&text(events.len()))?;
    let places = (1..).step_by(COLUMNS);
    for (first, (history, event)) in places.zip(events) {
        bind(&mut statement, first, *history, event)?;
    }
    statement.raw_execute().map(|_rows| ())
}

fn bind(
    statement: &mut CachedStatement<'_>,
    first: usize,
    history: i64,
    event: &EventRow,
) -> rusqlite::Result<()> {
    let EventRow { version, kind, format, time, actor, correlation, body, checksum } = event;
    let version = stored(*version);
    let values: [&dyn ToSql; COLUMNS] =
        [&history, &version, kind, format, time, actor, correlation, body, checksum];
    for (place, value) in (first..).zip(values) {
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(())
}

/// The statement for so many events.
fn text(events: usize) -> String {
    let values = ["(?, ?, ?, ?, ?, ?, ?, ?, ?)"].repeat(events).join(", ");
    format!(
        "INSERT INTO event
             (history, version, kind, format, time, actor, correlation, body, checksum)
         VALUES {values}"
    )
}
