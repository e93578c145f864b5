//! The durable journal: one SQLite file.
//!
//! ```text
//!  append, save_snapshot, delete                     read, read_all, list, snapshot
//!        │ checked, encoded                                    │
//!        ▼                                                     ▼
//!  bounded queue ──► writer thread: one transaction      a few connections that read,
//!                    over all that wait, COMMIT, sync    on blocking threads
//!                          │
//!                          ├──► the last position ──► wait
//!                          └──► answers
//! ```

mod file;

mod creation;

mod migration;

mod chain;

mod transaction;

mod writer;

mod reader;

use self::file::JournalFile;
use self::reader::Readers;
use self::writer::Writer;
use super::queue::{Queue, gone};
use super::{Append, Event, Head, HistoryId, Journal, JournalError, Snapshot};
use async_trait::async_trait;
use rusqlite::ErrorCode;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// A [`Journal`] in one file, with SQLite built in.
///
/// An answered append is in the file and synced; appends that wait at the same time share one
/// sync. One process at a time has a journal open: a lock on `FILE.lock` keeps others out. Reads
/// run on the calling Tokio runtime's blocking threads. Dropping the journal finishes the writes
/// it has accepted.
///
/// A call that is dropped before its answer may still take effect.
///
/// ```
/// use oms_core::journal::{Envelope, HistoryId, JournalExt, SqliteJournal};
/// use oms_core::{Clock, SystemClock};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("journal.sqlite");
/// let history = HistoryId::new("job", "42")?;
/// let event = Envelope::new("job-queued", 1, SystemClock.now(), "local", &"hello.py")?;
///
/// let journal = SqliteJournal::open(&path)?;
/// journal.append_to(&history, 0, vec![event]).await?;
/// drop(journal);
///
/// let journal = SqliteJournal::open(&path)?;
/// assert_eq!(journal.read_whole(&history).await?[0].envelope.kind, "job-queued");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SqliteJournal {
    /// Taken out to be dropped, which ends the writer.
    queue: Option<Queue>,
    writer: Option<JoinHandle<()>>,
    readers: Arc<Readers>,
    /// Last, so that the lock outlives every use of the file.
    file: JournalFile,
}

impl fmt::Debug for SqliteJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteJournal").field("path", &self.file.path()).finish_non_exhaustive()
    }
}

impl SqliteJournal {
    /// Opens the journal at `path`, or begins one if there is no such file. Its directory must
    /// exist. This call blocks.
    ///
    /// It checks a file of up to 64 MiB wholly, and of a larger one the header and the tables. One
    /// that an older version wrote is brought to this version's format, all of it or, after an
    /// error, nothing; that takes free space as large as the file, and twice that while it lasts.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] if the file is no journal or is damaged, [`JournalError::Newer`]
    /// if a newer version wrote it, [`JournalError::Full`] if there is no space to begin it or to bring it
    /// to this format, and
    /// [`JournalError::Unavailable`] if another process has it open (the reason names the lock
    /// file) or it cannot be reached.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        let file = JournalFile::open(path.as_ref())?;
        let connection = file.connect_writer()?;
        Self::start(file, connection)
    }

    fn start(file: JournalFile, connection: rusqlite::Connection) -> Result<Self, JournalError> {
        let (writer, head) = Writer::new(connection).map_err(|error| failure(&error))?;
        let (queue, requests) = Queue::new(head);
        let thread = thread::Builder::new().name("journal-writer".to_owned());
        let writer = thread.spawn(move || writer.run(requests)).map_err(|error| {
            JournalError::Unavailable { reason: format!("cannot start its writer: {error}") }
        })?;
        let readers = Arc::new(Readers::new(file.path()));
        Ok(Self { queue: Some(queue), writer: Some(writer), readers, file })
    }

    fn queue(&self) -> Result<&Queue, JournalError> {
        self.queue.as_ref().ok_or_else(gone)
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        // The connection closed last folds the write-ahead log into the file: the writer's.
        self.readers.close();
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer panicked");
        }
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<u64>, JournalError> {
        self.queue()?.append(appends).await
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
        self.queue()?.wait(after).await
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
        self.queue()?.save_snapshot(history, &snapshot).await
    }

    async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError> {
        self.readers.snapshot(history).await
    }

    async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
        self.queue()?.delete(history, expected).await
    }
}

/// What a failure of SQLite means to the caller.
fn failure(error: &rusqlite::Error) -> JournalError {
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::Full,
        // No input breaks a constraint unless the rows contradict each other.
        Some(
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch,
        ) => JournalError::Corrupt { reason },
        Some(_) => JournalError::Unavailable { reason },
        // A value was not of its column's type.
        None => JournalError::Corrupt { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::journal::{Envelope, JournalExt};
    use crate::testkit::journal::Kept;
    use jiff::Timestamp;
    use rusqlite::Connection;
    use std::time::Duration;

    crate::journal_conformance!(|| async {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = SqliteJournal::open(directory.path().join("journal.sqlite")).expect("open");
        Kept::new(journal, directory)
    });

    fn job(key: &str) -> HistoryId {
        HistoryId::new("job", key).expect("a name")
    }

    fn envelope(body: &str) -> Envelope {
        Envelope::new("noted", 1, Timestamp::UNIX_EPOCH, "test", &body).expect("text is JSON")
    }

    /// A journal whose writing connection was changed by `prepare`.
    fn open_with(path: &Path, prepare: impl FnOnce(&Connection)) -> SqliteJournal {
        let file = JournalFile::open(path).expect("open");
        let connection = file.connect_writer().expect("connect");
        prepare(&connection);
        SqliteJournal::start(file, connection).expect("start")
    }

    /// SQLite counts a file that may not grow as a full disk.
    #[tokio::test]
    async fn a_full_disk_loses_nothing_and_deleting_makes_room() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal.sqlite");
        let journal = open_with(&path, |connection| {
            connection
                .pragma_update_and_check(None, "max_page_count", 60, |_row| Ok(()))
                .expect("set");
        });
        let body = "x".repeat(1000);
        journal.append_to(&job("old"), 0, vec![envelope(&body); 20]).await.expect("append");
        let mut count = 0;
        let error = loop {
            match journal.append_to(&job("new"), count, vec![envelope(&body)]).await {
                Ok(version) => count = version,
                Err(error) => break error,
            }
            assert!(count < 1000, "it is never full");
        };
        assert!(matches!(error, JournalError::Full), "{error}");
        assert_eq!(error.kind(), ErrorKind::LimitExceeded { retry_after: None });
        let large = envelope(&"x".repeat(200_000));
        let pair = |history: &HistoryId, expected, event: &Envelope| Append {
            history: history.clone(),
            expected,
            events: vec![event.clone()],
        };
        let both =
            vec![pair(&job("new"), count, &envelope("small")), pair(&job("third"), 0, &large)];
        assert!(matches!(journal.append(both).await, Err(JournalError::Full)));
        assert_eq!(journal.read_whole(&job("new")).await.expect("read").len() as u64, count);
        assert_eq!(journal.wait(0).await.expect("wait"), 20 + count);

        journal.delete(&job("old"), 20).await.expect("deleting works on a full disk");
        let version = journal.append_to(&job("new"), count, vec![envelope(&body)]).await;
        assert_eq!(version.expect("there is room"), count + 1);
        drop(journal);
        let journal = SqliteJournal::open(&path).expect("open");
        assert_eq!(journal.read_whole(&job("new")).await.expect("read").len() as u64, count + 1);
        assert_eq!(journal.read_whole(&job("old")).await.expect("read"), []);
    }

    #[tokio::test]
    async fn a_foreign_lock_makes_it_unavailable_and_no_more() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal.sqlite");
        let journal = open_with(&path, |connection| {
            connection.busy_timeout(Duration::ZERO).expect("set");
        });
        journal.append_to(&job("1"), 0, vec![envelope("a")]).await.expect("append");
        let foreign = Connection::open(&path).expect("open");
        foreign.execute_batch("BEGIN IMMEDIATE").expect("lock");
        let error = journal
            .append_to(&job("1"), 1, vec![envelope("b")])
            .await
            .expect_err("someone else holds it");
        assert!(matches!(error, JournalError::Unavailable { .. }), "{error}");
        assert_eq!(journal.read_whole(&job("1")).await.expect("reads go on").len(), 1);
        foreign.execute_batch("ROLLBACK").expect("unlock");
        let version = journal.append_to(&job("1"), 1, vec![envelope("b")]).await;
        assert_eq!(version.expect("it goes on"), 2);
    }

    /// `synchronous=FULL` (2) is what makes an acknowledgement durable in write-ahead mode.
    #[test]
    fn the_writer_syncs_every_commit() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = JournalFile::open(&directory.path().join("journal.sqlite")).expect("open");
        let connection = file.connect_writer().expect("connect");
        let number = |name| {
            connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).expect("a pragma")
        };
        assert_eq!((number("synchronous"), number("foreign_keys")), (2, 1));
        let mode = connection.pragma_query_value(None, "journal_mode", |row| row.get(0));
        assert_eq!(mode, Ok("wal".to_owned()));
    }
}
