//! The one thread that writes, many requests to a transaction.

use super::chain::Fault;
use super::transaction::{Known, Transaction, last_position};
use crate::clock::Stopwatch;
use crate::journal::JournalError;
use crate::journal::queue::{Answer, GROUP_MAX, Request, count};
use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

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
    Before(Fault),
    /// In its commit: unless the disk was full, it may have been written.
    Commit(Fault),
}

impl Broken {
    fn error(&self) -> JournalError {
        match self {
            Self::Before(fault) | Self::Commit(fault) => fault.error(),
        }
    }

    /// Whether nothing was written and one request may be at fault, so that each is worth a try
    /// alone. What ails the whole file (it is locked, its disk fails) ails each of them.
    fn may_spare_some(&self) -> bool {
        let error = self.error();
        match self {
            Self::Before(_) => matches!(error, JournalError::Full | JournalError::Corrupt { .. }),
            Self::Commit(_) => matches!(error, JournalError::Full),
        }
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Before(fault)
    }
}

impl Writer {
    /// A writer over `connection`, and the last position that the file ever gave out.
    pub(super) fn new(connection: Connection) -> rusqlite::Result<(Self, watch::Receiver<u64>)> {
        let (head, last) = watch::channel(last_position(&connection)?);
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
        count(group.iter().map(|request| &request.work).zip(&answers));
        for (Request { work, reply }, answer) in group.drain(..).zip(answers) {
            // Whoever no longer waits gets none.
            let _ = reply.send((work, answer));
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
                group.iter().map(|_| Err(broken.error())).collect()
            }
        }
    }

    /// One transaction over all requests. Each is checked before it writes anything, so that one
    /// that is refused leaves nothing to undo. Answers, conflicts among them, hold only once it is
    /// committed: a conflict may be with a neighbour.
    fn commit(&mut self, group: &[Request]) -> Result<Vec<Answer>, Broken> {
        let outcome = self.transact(group);
        if outcome.is_err() {
            self.known.forget();
            if !self.connection.is_autocommit() {
                // Should this fail too, the next BEGIN says so to those who wait for it.
                let _ = self.connection.execute_batch("ROLLBACK");
            }
        }
        let (answers, last) = outcome?;
        self.head.send_if_modified(|head| std::mem::replace(head, last) != last);
        Ok(answers)
    }

    fn transact(&mut self, group: &[Request]) -> Result<(Vec<Answer>, u64), Broken> {
        let mut answers = Vec::with_capacity(group.len());
        execute(&self.connection, "BEGIN IMMEDIATE")?;
        let mut transaction = Transaction::new(&self.connection, &mut self.known)?;
        for request in group {
            answers.push(transaction.apply(&request.work)?);
        }
        let last = transaction.finish();
        let watch = Stopwatch::start();
        execute(&self.connection, "COMMIT").map_err(Broken::Commit)?;
        metrics::histogram!("oms_journal_commit_seconds").record(watch.seconds());
        Ok((answers, last))
    }
}

fn execute(connection: &Connection, statement: &str) -> Result<(), Fault> {
    connection.prepare_cached(statement)?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::file::JournalFile;
    use super::*;
    use crate::journal::queue::Work;
    use crate::journal::row::AppendRows;
    use crate::journal::{Append, Envelope, HistoryId};
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

    /// Every event holds the positions that it should, by a query that knows of no chain.
    fn assert_sound(connection: &Connection) {
        let query = "
            SELECT count(*) FROM event
            LEFT JOIN event AS back
                ON back.history = event.history AND back.version = event.version - 1
            LEFT JOIN event AS skip
                ON skip.history = event.history AND skip.version = event.version & (event.version - 1)
            WHERE event.back <> coalesce(back.position, 0) OR event.skip <> coalesce(skip.position, 0)
            UNION ALL SELECT count(*) FROM history
            LEFT JOIN event ON event.history = history.id AND event.version = history.version
            WHERE history.last IS NOT event.position";
        let mut statement = connection.prepare(query).expect("a query");
        let wrong = statement.query_map([], |row| row.get::<_, i64>(0)).expect("rows");
        assert_eq!(wrong.collect::<Result<Vec<_>, _>>(), Ok(vec![0, 0]));
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

    /// Nothing that one writer knew of a history, its version, its links, the last position, is in
    /// the way of what another wrote in between.
    #[test]
    fn what_another_process_wrote_is_not_overlooked() {
        let (mut writer, _head, directory) = writer(|_| {});
        // A process that does not ask for the lock.
        let foreign = Connection::open(directory.path().join("journal.sqlite")).expect("opens");
        let (mut foreign, _foreign_head) = Writer::new(foreign).expect("a writer");
        let one = |key: &str, expected| [request(key, expected, "k", 1)];
        assert_eq!(summary(writer.answers(&one("a", 0))), ["[1]"]);
        for version in 1..5 {
            assert_eq!(
                summary(foreign.answers(&one("a", version))),
                [format!("[{}]", version + 1)]
            );
        }
        assert_eq!(summary(writer.answers(&one("a", 1))), ["conflict at 5"]);
        for version in 5..40 {
            let (next, other) = match version % 3 {
                0 => (&mut foreign, &mut writer),
                _ => (&mut writer, &mut foreign),
            };
            assert_eq!(summary(next.answers(&one("a", version))), [format!("[{}]", version + 1)]);
            assert_eq!(
                summary(other.answers(&one("b", version - 5))),
                [format!("[{}]", version - 4)]
            );
        }
        assert_sound(&writer.connection);
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
