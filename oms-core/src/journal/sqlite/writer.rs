//! The one thread that writes, many requests to a transaction.

use super::failure;
use super::reader::unstored;
use crate::clock::Stopwatch;
use crate::journal::queue::{Answer, GROUP_MAX, Request, Work};
use crate::journal::row::{AppendRows, EventRow, SnapshotRow, stored};
use crate::journal::{HistoryId, JournalError};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use tokio::sync::{mpsc, watch};

/// Of how many histories the row and version are remembered.
const KNOWN_MAX: usize = 8_192;

/// The rows of histories that were written lately, and how many events each holds: what the open
/// transaction, or the file between two, would answer.
#[derive(Debug, Default)]
struct Known {
    rows: HashMap<HistoryId, (i64, u64)>,
    /// SQLite's count of what others committed to the file.
    data_version: i64,
}

/// Owns the connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    known: Known,
    /// The last position that is durable.
    head: watch::Sender<u64>,
}

/// Why a whole transaction came to nothing.
#[derive(Debug)]
enum Broken {
    /// Before its commit: nothing was written.
    Before(rusqlite::Error),
    /// In its commit: unless the disk was full, it may have been written.
    Commit(rusqlite::Error),
}

impl Broken {
    fn error(&self) -> &rusqlite::Error {
        match self {
            Self::Before(error) | Self::Commit(error) => error,
        }
    }

    /// Whether nothing was written and one request may be at fault, so that each is worth a try
    /// alone. What ails the whole file (it is locked, its disk fails) ails each of them.
    fn may_spare_some(&self) -> bool {
        match self {
            Self::Before(error) => {
                matches!(failure(error), JournalError::Full | JournalError::Corrupt { .. })
            }
            Self::Commit(error) => matches!(failure(error), JournalError::Full),
        }
    }
}

/// What one request did within a transaction.
#[derive(Debug)]
struct Applied {
    versions: Vec<u64>,
    last_position: Option<u64>,
}

impl Writer {
    /// A writer over `connection`, and the last position that the file ever gave out.
    pub(super) fn new(connection: Connection) -> rusqlite::Result<(Self, watch::Receiver<u64>)> {
        let query = "SELECT seq FROM sqlite_sequence WHERE name = 'event'";
        let last = connection.query_row(query, [], |row| unstored(row, 0)).optional()?.unwrap_or(0);
        let (head, last) = watch::channel(last);
        Ok((Self { connection, known: Known::default(), head }, last))
    }

    /// Serves requests until every sender is gone and the queue is empty.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::new();
        while requests.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            self.serve(&mut group);
        }
    }

    fn serve(&mut self, group: &mut Vec<Request>) {
        let answers = self.answers(group);
        for (request, answer) in group.drain(..).zip(answers) {
            request.work.count(&answer);
            // Whoever no longer waits gets none.
            let _ = request.reply.send(answer);
        }
    }

    /// Commits a group. Where that fails for one of them, each is tried alone, so that the others
    /// stand.
    fn answers(&mut self, group: &[Request]) -> Vec<Answer> {
        match self.commit(group) {
            Ok(answers) => answers,
            Err(broken) if group.len() > 1 && broken.may_spare_some() => {
                group.chunks(1).flat_map(|alone| self.answers(alone)).collect()
            }
            Err(broken) => {
                tracing::warn!(error = %broken.error(), requests = group.len(), "journal write");
                group.iter().map(|_| Err(failure(broken.error()))).collect()
            }
        }
    }

    /// One transaction over all requests. Each is checked before it writes anything, so that one
    /// that is refused leaves nothing to undo. Answers, conflicts among them, hold only once it is
    /// committed: a conflict may be with a neighbour.
    fn commit(&mut self, group: &[Request]) -> Result<Vec<Answer>, Broken> {
        let outcome = self.transact(group);
        if outcome.is_err() {
            self.known.rows.clear();
            if !self.connection.is_autocommit() {
                // Should this fail too, the next BEGIN says so to those who wait for it.
                let _ = self.connection.execute_batch("ROLLBACK");
            }
        }
        let (answers, last_position) = outcome?;
        if let Some(position) = last_position {
            self.head.send_replace(position);
        }
        Ok(answers)
    }

    fn transact(&mut self, group: &[Request]) -> Result<(Vec<Answer>, Option<u64>), Broken> {
        let mut answers = Vec::with_capacity(group.len());
        let mut last_position = None;
        self.execute("BEGIN IMMEDIATE").map_err(Broken::Before)?;
        self.forget_if_foreign().map_err(Broken::Before)?;
        for request in group {
            let applied = self.apply(&request.work).map_err(Broken::Before)?;
            answers.push(applied.map(|applied| {
                last_position = applied.last_position.or(last_position);
                applied.versions
            }));
        }
        let watch = Stopwatch::start();
        self.execute("COMMIT").map_err(Broken::Commit)?;
        metrics::histogram!("oms_journal_commit_seconds").record(watch.seconds());
        Ok((answers, last_position))
    }

    fn apply(&mut self, work: &Work) -> rusqlite::Result<Result<Applied, JournalError>> {
        match work {
            Work::Append(appends) => self.append(appends),
            Work::Snapshot(history, snapshot) => self.save_snapshot(history, snapshot),
            Work::Delete(history, expected) => self.delete(history, *expected),
        }
    }

    fn append(
        &mut self,
        appends: &[AppendRows],
    ) -> rusqlite::Result<Result<Applied, JournalError>> {
        let mut ids = Vec::with_capacity(appends.len());
        for append in appends {
            let found = self.find(&append.history)?;
            let actual = found.map_or(0, |(_, version)| version);
            if actual != append.expected {
                return Ok(Err(conflict(&append.history, append.expected, actual)));
            }
            ids.push(found.map(|(id, _)| id));
        }
        let mut versions = Vec::with_capacity(appends.len());
        for (append, id) in appends.iter().zip(ids) {
            let version = append.expected + append.events.len() as u64;
            versions.push(version);
            if append.events.is_empty() {
                continue;
            }
            let id = self.advance(&append.history, id, version)?;
            for event in &append.events {
                self.insert(id, event)?;
            }
        }
        // The event inserted last has the highest position, and there is one: not all appends of
        // a request are conditions.
        let last_position = u64::try_from(self.connection.last_insert_rowid()).ok();
        Ok(Ok(Applied { versions, last_position }))
    }

    fn save_snapshot(
        &mut self,
        history: &HistoryId,
        snapshot: &SnapshotRow,
    ) -> rusqlite::Result<Result<Applied, JournalError>> {
        let (id, actual) = self.find(history)?.unwrap_or_default();
        if actual == 0 || actual < snapshot.version {
            return Ok(Err(conflict(history, snapshot.version, actual)));
        }
        let SnapshotRow { version, format, body, checksum } = snapshot;
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO snapshot (history, version, format, body, checksum)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![id, stored(*version), format, body, checksum])?;
        Ok(Ok(Applied { versions: Vec::new(), last_position: None }))
    }

    fn delete(
        &mut self,
        history: &HistoryId,
        expected: u64,
    ) -> rusqlite::Result<Result<Applied, JournalError>> {
        let (id, actual) = self.find(history)?.unwrap_or_default();
        if actual != expected {
            return Ok(Err(conflict(history, expected, actual)));
        }
        self.known.rows.remove(history);
        // Its events and its snapshot refer to it and go with it.
        self.connection.prepare_cached("DELETE FROM history WHERE id = ?1")?.execute([id])?;
        Ok(Ok(Applied { versions: Vec::new(), last_position: None }))
    }

    /// Another process may have written to the file, though it should not: what is remembered is
    /// then of no use.
    fn forget_if_foreign(&mut self) -> rusqlite::Result<()> {
        let mut query = self.connection.prepare_cached("PRAGMA data_version")?;
        let found: i64 = query.query_row([], |row| row.get(0))?;
        if found != self.known.data_version || self.known.rows.len() > KNOWN_MAX {
            self.known.rows.clear();
            self.known.data_version = found;
        }
        Ok(())
    }

    /// The history's row and how many events it holds.
    fn find(&mut self, history: &HistoryId) -> rusqlite::Result<Option<(i64, u64)>> {
        if let Some(row) = self.known.rows.get(history) {
            return Ok(Some(*row));
        }
        let found = self
            .connection
            .prepare_cached("SELECT id, version FROM history WHERE kind = ?1 AND key = ?2")?
            .query_row([history.kind(), history.key()], |row| Ok((row.get(0)?, unstored(row, 1)?)))
            .optional()?;
        if let Some(row) = found {
            self.known.rows.insert(history.clone(), row);
        }
        Ok(found)
    }

    fn advance(
        &mut self,
        history: &HistoryId,
        id: Option<i64>,
        version: u64,
    ) -> rusqlite::Result<i64> {
        let Some(id) = id else {
            self.connection
                .prepare_cached("INSERT INTO history (kind, key, version) VALUES (?1, ?2, ?3)")?
                .execute(params![history.kind(), history.key(), stored(version)])?;
            let id = self.connection.last_insert_rowid();
            self.known.rows.insert(history.clone(), (id, version));
            return Ok(id);
        };
        self.connection
            .prepare_cached("UPDATE history SET version = ?2 WHERE id = ?1")?
            .execute(params![id, stored(version)])?;
        if let Some(row) = self.known.rows.get_mut(history) {
            row.1 = version;
        }
        Ok(id)
    }

    fn insert(&self, history: i64, event: &EventRow) -> rusqlite::Result<()> {
        let EventRow { version, kind, format, time, actor, correlation, body, checksum } = event;
        self.connection
            .prepare_cached(
                "INSERT INTO event
                     (history, version, kind, format, time, actor, correlation, body, checksum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                history,
                stored(*version),
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

    fn execute(&self, statement: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(statement)?.execute([]).map(|_rows| ())
    }
}

fn conflict(history: &HistoryId, expected: u64, actual: u64) -> JournalError {
    JournalError::Conflict { history: history.clone(), expected, actual }
}

#[cfg(test)]
mod tests {
    use super::super::file::JournalFile;
    use super::*;
    use crate::journal::{Append, Envelope};
    use jiff::Timestamp;
    use tempfile::TempDir;
    use tokio::sync::oneshot;

    fn writer(prepare: impl FnOnce(&Connection)) -> (Writer, watch::Receiver<u64>, TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = JournalFile::open(&directory.path().join("journal.sqlite")).expect("open");
        let connection = file.connect_writer().expect("connect");
        prepare(&connection);
        let (writer, head) = Writer::new(connection).expect("a writer");
        (writer, head, directory)
    }

    /// A request for one event of `kind` whose body has `bytes` bytes.
    fn request(key: &str, expected: u64, kind: &str, bytes: usize) -> Request {
        let body = "x".repeat(bytes);
        let event = Envelope::new(kind, 1, Timestamp::UNIX_EPOCH, "test", &body).expect("JSON");
        let history = HistoryId::new("job", key).expect("a name");
        let append = Append { history, expected, events: vec![event] };
        let rows = AppendRows::encode(append).expect("rows");
        Request { work: Work::Append(vec![rows]), reply: oneshot::channel().0 }
    }

    fn summary(answers: Vec<Answer>) -> Vec<String> {
        let one = |answer: Answer| match answer {
            Ok(versions) => format!("{versions:?}"),
            Err(JournalError::Conflict { actual, .. }) => format!("conflict at {actual}"),
            Err(error) => format!("{:?}", error.kind()),
        };
        answers.into_iter().map(one).collect()
    }

    fn keys(writer: &Writer) -> Vec<String> {
        let query = "SELECT history.key FROM event JOIN history ON history.id = event.history
                     ORDER BY position";
        let mut statement = writer.connection.prepare(query).expect("a query");
        let keys = statement.query_map([], |row| row.get(0)).expect("rows");
        keys.map(|key| key.expect("a key")).collect()
    }

    #[test]
    fn a_conflict_in_a_group_undoes_only_itself() {
        let (mut writer, head, _directory) = writer(|_| {});
        let group = [
            request("a", 0, "k", 1),
            request("a", 0, "k", 1),
            request("b", 3, "k", 1),
            request("a", 1, "k", 1),
            request("b", 0, "k", 1),
        ];
        let answers = summary(writer.answers(&group));
        assert_eq!(answers, ["[1]", "conflict at 1", "conflict at 0", "[2]", "[1]"]);
        assert_eq!(keys(&writer), ["a", "a", "b"]);
        assert_eq!(*head.borrow(), 3);
    }

    #[test]
    fn what_does_not_fit_on_the_disk_leaves_its_neighbours_standing() {
        let (mut writer, head, _directory) = writer(|connection| {
            connection
                .pragma_update_and_check(None, "max_page_count", 40, |_row| Ok(()))
                .expect("set");
        });
        let group = [
            request("a", 0, "k", 10),
            request("large", 0, "k", 500_000),
            request("b", 0, "k", 10),
            request("b", 0, "k", 10),
        ];
        let answers = summary(writer.answers(&group));
        let full = "LimitExceeded { retry_after: None }";
        assert_eq!(answers, ["[1]", full, "[1]", "conflict at 1"]);
        assert_eq!(keys(&writer), ["a", "b"]);
        assert_eq!(*head.borrow(), 2);
    }

    /// A reference that is checked only at the end makes a commit fail.
    #[test]
    fn a_failed_commit_acknowledges_nothing_and_the_writer_goes_on() {
        let (mut writer, head, _directory) = writer(|connection| {
            let poison = "
                CREATE TABLE parent (id INTEGER PRIMARY KEY);
                CREATE TABLE child (
                    parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED
                );
                CREATE TRIGGER poison AFTER INSERT ON event WHEN new.kind = 'poison'
                    BEGIN INSERT INTO child VALUES (1); END;";
            connection.execute_batch(poison).expect("create");
        });
        assert_eq!(summary(writer.answers(&[request("a", 0, "k", 1)])), ["[1]"]);
        let group = [
            request("a", 1, "k", 1),
            request("a", 1, "late", 1),
            request("b", 0, "poison", 1),
            request("c", 0, "k", 1),
        ];
        assert_eq!(summary(writer.answers(&group)), ["Corrupt"; 4]);
        assert_eq!((keys(&writer), *head.borrow()), (vec!["a".to_owned()], 1));
        assert_eq!(summary(writer.answers(&[request("a", 1, "k", 1)])), ["[2]"]);
        assert_eq!(*head.borrow(), 2);
    }

    #[test]
    fn what_another_process_wrote_is_not_overlooked() {
        let (mut writer, _head, directory) = writer(|_| {});
        assert_eq!(summary(writer.answers(&[request("a", 0, "k", 1)])), ["[1]"]);
        let other = Connection::open(directory.path().join("journal.sqlite")).expect("opens");
        other.execute_batch("UPDATE history SET version = 5").expect("writes");
        assert_eq!(summary(writer.answers(&[request("a", 1, "k", 1)])), ["conflict at 5"]);
        assert_eq!(summary(writer.answers(&[request("a", 5, "k", 1)])), ["[6]"]);
    }

    #[test]
    fn a_history_that_was_deleted_begins_anew_also_in_one_group() {
        let (mut writer, _head, _directory) = writer(|_| {});
        let delete = |expected| {
            let history = HistoryId::new("job", "a").expect("a name");
            Request { work: Work::Delete(history, expected), reply: oneshot::channel().0 }
        };
        let group =
            [request("a", 0, "k", 1), delete(1), request("a", 1, "k", 1), request("a", 0, "k", 1)];
        assert_eq!(summary(writer.answers(&group)), ["[1]", "[]", "conflict at 0", "[1]"]);
        assert_eq!(summary(writer.answers(&[delete(1), request("a", 0, "k", 1)])), ["[]", "[1]"]);
    }
}
