//! A file of an older format becomes one of today's.

use super::failure;
use super::file::{FORMAT, SCHEMA, check_tables};
use crate::journal::JournalError;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

/// What format 1 has, as [`check_tables`] asks for it.
const FORMAT_1_CHECKS: [&str; 3] = [
    "SELECT id, kind, key, version FROM history LIMIT 0",
    "SELECT position, history, version, kind, format, time, actor, correlation, body, checksum
     FROM event LIMIT 0",
    "SELECT history, version, format, body, checksum FROM snapshot LIMIT 0",
];

/// The rows of format 1 that a chain cannot be made of, in words.
const FORMAT_1_CONTRADICTIONS: [&str; 2] = [
    "SELECT 'history ' || kind || '/' || key || ' says ' || version || ' events and holds ' ||
         (SELECT count(*) FROM event WHERE history = history.id) || ', the last of them ' ||
         (SELECT coalesce(max(event.version), 0) FROM event WHERE history = history.id)
     FROM history
     WHERE version <> (SELECT count(*) FROM event WHERE history = history.id)
        OR version <> (SELECT coalesce(max(event.version), 0) FROM event WHERE history = history.id)
     LIMIT 1",
    "SELECT 'the event at position ' || position || ' is of no history'
     FROM event WHERE history NOT IN (SELECT id FROM history) LIMIT 1",
];

const SET_ASIDE: &str = "
ALTER TABLE snapshot RENAME TO snapshot_1;
ALTER TABLE event RENAME TO event_1;
ALTER TABLE history RENAME TO history_1;
";

/// Through format 1's index of (history, version), which format 2 does without.
const CARRY_OVER: &str = "
INSERT INTO history (id, kind, key, version, last)
    SELECT history_1.id, history_1.kind, history_1.key, history_1.version, event_1.position
    FROM history_1 LEFT JOIN event_1
        ON event_1.history = history_1.id AND event_1.version = history_1.version;
INSERT INTO event (position, history, version, back, skip,
        kind, format, time, actor, correlation, body, checksum)
    SELECT event_1.position, event_1.history, event_1.version,
        coalesce(back.position, 0), coalesce(skip.position, 0),
        event_1.kind, event_1.format, event_1.time, event_1.actor, event_1.correlation,
        event_1.body, event_1.checksum
    FROM event_1
    LEFT JOIN event_1 AS back
        ON back.history = event_1.history AND back.version = event_1.version - 1
    LEFT JOIN event_1 AS skip
        ON skip.history = event_1.history
        AND skip.version = (event_1.version & (event_1.version - 1))
    ORDER BY event_1.position;
INSERT INTO snapshot (history, version, format, body, checksum)
    SELECT history, version, format, body, checksum FROM snapshot_1;
UPDATE sequence SET last =
    (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event_1');
DROP TABLE snapshot_1;
DROP TABLE event_1;
DROP TABLE history_1;
";

/// Brings a file of format 1 to format 2, in one transaction.
///
/// # Errors
/// [`JournalError::Corrupt`] if its rows contradict each other: then, as after every error, the file
/// stays as it is.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), JournalError> {
    check_tables(connection, &FORMAT_1_CHECKS)?;
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| failure(&error))?;
    for query in FORMAT_1_CONTRADICTIONS {
        let found = transaction.query_row(query, [], |row| row.get(0)).optional();
        if let Some(reason) = found.map_err(|error| failure(&error))? {
            return Err(JournalError::Corrupt { reason });
        }
    }
    carry_over(transaction).map_err(|error| failure(&error))?;
    tracing::info!(from = 1, to = FORMAT, "journal migrated");
    Ok(())
}

fn carry_over(transaction: Transaction<'_>) -> rusqlite::Result<()> {
    for statements in [SET_ASIDE, SCHEMA, CARRY_OVER] {
        transaction.execute_batch(statements)?;
    }
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::super::file::JournalFile;
    use super::*;
    use std::fs;

    const FIXTURE: &str = include_str!("../../../tests/fixtures/journal-v1.sql");

    /// A file as it is made has the tables and the columns of one that was migrated.
    #[test]
    fn a_migrated_file_has_the_schema_of_a_new_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let schema = |name: &str, begin: &dyn Fn(&std::path::Path)| {
            let path = directory.path().join(name);
            begin(&path);
            let file = JournalFile::open(&path).expect("open");
            let connection = file.connect_writer().expect("connect");
            let query = "SELECT type, name, tbl_name, sql FROM sqlite_schema
                 WHERE name <> 'sqlite_sequence' ORDER BY name";
            let mut statement = connection.prepare(query).expect("a query");
            let text = |row: &rusqlite::Row<'_>, column| row.get::<_, Option<String>>(column);
            let rows = statement.query_map([], |row| {
                Ok([text(row, 0)?, text(row, 1)?, text(row, 2)?, text(row, 3)?])
            });
            rows.expect("rows").collect::<Result<Vec<_>, _>>().expect("text")
        };
        let new = schema("new.sqlite", &|_path| {});
        let migrated = schema("old.sqlite", &|path| {
            Connection::open(path).expect("open").execute_batch(FIXTURE).expect("load");
        });
        assert_eq!(new, migrated);
        assert_eq!(new.len(), 5, "four tables and one index: {new:?}");
    }

    #[test]
    fn rows_that_contradict_each_other_are_named_and_left_as_they_are() {
        let directory = tempfile::tempdir().expect("a directory");
        for (damage, named) in [
            ("DELETE FROM event WHERE position = 2", "history job/42 says 3 events and holds 2"),
            ("DELETE FROM event WHERE position = 4", "the last of them 2"),
            ("UPDATE event SET version = 9 WHERE position = 4", "the last of them 9"),
            ("UPDATE history SET version = 2 WHERE id = 2", "history job/ключ/1 says 2"),
            ("DELETE FROM history WHERE id = 2", "the event at position 3 is of no history"),
            ("DROP TABLE snapshot", "snapshot"),
            ("ALTER TABLE event DROP COLUMN body", "body"),
        ] {
            let path = directory.path().join("journal.sqlite");
            let old = Connection::open(&path).expect("open");
            old.execute_batch(FIXTURE).expect("load");
            old.execute_batch(damage).expect("damage");
            let before = dump(&old);
            old.close().expect("close");
            let file = JournalFile::open(&path).expect("open");
            match file.connect_writer() {
                Err(JournalError::Corrupt { reason }) => {
                    assert!(reason.contains(named), "{damage}: {reason}");
                }
                other => panic!("{damage}: expected a damaged journal, got {other:?}"),
            }
            assert_eq!(dump(&Connection::open(&path).expect("open")), before, "{damage}");
            fs::remove_file(&path).expect("remove");
        }
    }

    #[test]
    fn a_disk_too_full_to_migrate_leaves_the_file_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal.sqlite");
        let mut old = Connection::open(&path).expect("open");
        old.execute_batch(FIXTURE).expect("load");
        let before = dump(&old);
        let pages: i64 =
            old.pragma_query_value(None, "page_count", |row| row.get(0)).expect("a number");
        let mut refused = 0;
        loop {
            let limit = pages + refused;
            old.pragma_update_and_check(None, "max_page_count", limit, |_row| Ok(())).expect("set");
            let Err(error) = migrate(&mut old) else { break };
            assert!(matches!(error, JournalError::Full), "{error}");
            assert_eq!(dump(&old), before);
            refused += 1;
        }
        assert!((4..10).contains(&refused), "each new table needs a page, and no more: {refused}");
    }

    /// The format, and every row of every table of format 1.
    fn dump(connection: &Connection) -> Vec<String> {
        let format: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .expect("a number");
        let mut lines = vec![format.to_string()];
        for table in ["sqlite_schema", "history", "event", "snapshot", "sqlite_sequence"] {
            let Ok(mut statement) = connection.prepare(&format!("SELECT * FROM {table}")) else {
                lines.push(format!("no {table}"));
                continue;
            };
            let count = statement.column_count();
            let mut rows = statement.query([]).expect("rows");
            while let Some(row) = rows.next().expect("a row") {
                let values = (0..count).map(|column| format!("{:?}", row.get_ref(column)));
                lines.push(format!("{table}: {}", values.collect::<Vec<_>>().join(", ")));
            }
        }
        lines
    }
}
