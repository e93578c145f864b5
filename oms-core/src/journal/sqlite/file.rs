//! The journal's file: its lock and its connections.

use super::creation::ensure;
use super::failure;
use super::migration::migrate;
use crate::disk::{Disk, DiskError, DiskLock, LocalDisk};
use crate::journal::JournalError;
use rusqlite::{Connection, OpenFlags};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Marks a SQLite file as a journal: the letters `OMSJ`.
pub(super) const APPLICATION_ID: i32 = 0x4f4d_534a;

/// The format this version writes, and the newest it reads.
///
/// - 1: an index of events by (history, version), and positions by `AUTOINCREMENT`.
/// - 2: the events of a history are a chain, see [`super::chain`].
pub(super) const FORMAT: u32 = 2;

/// The longest wait for a foreign process that holds SQLite's own lock.
const BUSY_SECONDS_MAX: u64 = 5;

/// Up to this size a file is wholly checked when it is opened. Damage in a larger one is found
/// when the damaged part is read.
const CHECK_BYTES_MAX: u64 = 64 << 20;

/// After this much, the write-ahead log is cut back at the next checkpoint.
const LOG_BYTES_MAX: u64 = 64 << 20;

pub(super) const SCHEMA: &str = "
CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    last INTEGER NOT NULL, -- the position of event number `version`
    UNIQUE (kind, key)
) STRICT;
CREATE TABLE event (
    position INTEGER PRIMARY KEY,
    history INTEGER NOT NULL,
    version INTEGER NOT NULL,
    back INTEGER NOT NULL, -- the position of event number `version - 1` of this history, or 0
    skip INTEGER NOT NULL, -- the position of its event number `version & (version - 1)`, or 0
    kind TEXT NOT NULL,
    format INTEGER NOT NULL,
    time TEXT NOT NULL,
    actor TEXT NOT NULL,
    correlation TEXT,
    body TEXT NOT NULL,
    checksum BLOB NOT NULL
) STRICT;
CREATE TABLE sequence (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL -- the last position given out when a history was last deleted
) STRICT;
INSERT INTO sequence VALUES (1, 0);
CREATE TABLE snapshot (
    history INTEGER PRIMARY KEY REFERENCES history (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    format INTEGER NOT NULL,
    body TEXT NOT NULL,
    checksum BLOB NOT NULL
) STRICT;
";

/// How much of the file the writer keeps in memory: the ends of some thousand histories.
const CACHE_KIB: i64 = 16 * 1024;

/// After how many pages of the log they are brought into the file. A page that is written again and
/// again in between, as the ends of histories are, is brought over once.
const CHECKPOINT_PAGES: i64 = 4_096;

/// One query for each table and every column, to see at open that they are there.
const SCHEMA_CHECKS: [&str; 4] = [
    "SELECT id, kind, key, version, last FROM history LIMIT 0",
    "SELECT position, history, version, back, skip, kind, format, time, actor, correlation, body,
         checksum
     FROM event LIMIT 0",
    "SELECT last FROM sequence LIMIT 0",
    "SELECT history, version, format, body, checksum FROM snapshot LIMIT 0",
];

/// A journal's file while this process owns it.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    /// The operating system lets go of it when the process ends, however it ends.
    _lock: DiskLock,
}

impl JournalFile {
    /// Locks the file at `path`, and creates it if there is none.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let path = resolve(path)?;
        let (directory, name) = (directory_of(&path), name_of(&path)?);
        let disk = LocalDisk::new(directory).map_err(disk_failure)?;
        let lock = lock(&disk, &beside(name, ".lock"))?;
        ensure(&disk, directory, name)?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the one connection that writes, and checks that the file is a journal. One of an older
    /// format is brought to this one.
    pub(super) fn connect_writer(&self) -> Result<Connection, JournalError> {
        let mut connection = self.connect_writer_unchecked().map_err(|error| failure(&error))?;
        let format = check_header(&connection)?;
        prepare_writer(&connection)?;
        check_length(&connection, &self.path)?;
        check_pages(&connection, &self.path)?;
        if format < FORMAT {
            migrate(&mut connection)?;
        }
        check_tables(&connection, &SCHEMA_CHECKS)?;
        Ok(connection)
    }

    fn connect_writer_unchecked(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(Duration::from_secs(BUSY_SECONDS_MAX))?;
        Ok(connection)
    }
}

/// Opens a connection that only reads; there is a writer's already.
pub(super) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(BUSY_SECONDS_MAX))?;
    Ok(connection)
}

/// The one name of the file, so that every name of it leads to one lock.
fn resolve(path: &Path) -> Result<PathBuf, JournalError> {
    match fs::canonicalize(path) {
        Ok(path) => return Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_failure("resolve", path, &error)),
    }
    let name = name_of(path)?;
    let directory = directory_of(path);
    let directory = fs::canonicalize(directory)
        .map_err(|error| io_failure("find directory", directory, &error))?;
    Ok(directory.join(name))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn name_of(path: &Path) -> Result<&Path, JournalError> {
    let reason = || format!("{} does not name a file", path.display());
    let name = path.file_name().map(Path::new);
    name.ok_or_else(|| JournalError::Unavailable { reason: reason() })
}

/// SQLite's own companions of a file are named the same way.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn lock(disk: &dyn Disk, name: &Path) -> Result<DiskLock, JournalError> {
    disk.lock(name).map_err(|error| match error.is_locked() {
        true => JournalError::Unavailable {
            reason: format!(
                "it is open elsewhere, whose owner holds lock file {}",
                error.path.display()
            ),
        },
        false => disk_failure(error),
    })
}

/// Answers the file's format.
fn check_header(connection: &Connection) -> Result<u32, JournalError> {
    let number = |name| {
        let found = connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        found.map_err(|error| failure(&error))
    };
    let id = number("application_id")?;
    if id != APPLICATION_ID {
        let reason = format!("not a journal: its application id is {id:#010x}");
        return Err(JournalError::Corrupt { reason });
    }
    let format = number("user_version")?;
    match u32::try_from(format) {
        Ok(found @ 1..=FORMAT) => Ok(found),
        Ok(found) if found > FORMAT => Err(JournalError::Newer { found, known: FORMAT }),
        _ => Err(JournalError::Corrupt { reason: format!("no such format: {format}") }),
    }
}

fn prepare_writer(connection: &Connection) -> Result<(), JournalError> {
    let set = || {
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update_and_check(
            None,
            "wal_autocheckpoint",
            CHECKPOINT_PAGES,
            |_row| Ok(()),
        )?;
        connection.pragma_update_and_check(
            None,
            "journal_size_limit",
            LOG_BYTES_MAX.cast_signed(),
            |_row| Ok(()),
        )?;
        Ok(mode)
    };
    let mode: String = set().map_err(|error: rusqlite::Error| failure(&error))?;
    if mode != "wal" {
        let reason = format!("its file system has no shared memory: mode is `{mode}`, not `wal`");
        return Err(JournalError::Unavailable { reason });
    }
    Ok(())
}

pub(super) fn check_tables(connection: &Connection, queries: &[&str]) -> Result<(), JournalError> {
    for query in queries {
        connection
            .prepare(query)
            .map_err(|error| JournalError::Corrupt { reason: error.to_string() })?;
    }
    Ok(())
}

/// Folds the write-ahead log into the file, after which every page is in it. SQLite itself takes
/// the missing end of a last page for zeros.
fn check_length(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    match fold_log(connection) {
        Ok(true) => {}
        // Someone else reads the file, or there is no space to grow it: the log stays and is
        // read with the file.
        Ok(false) | Err(JournalError::Full) => return Ok(()),
        Err(error) => return Err(error),
    }
    let number = |name| {
        let found = connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        found.map_err(|error| failure(&error))
    };
    let expected = number("page_count")? * number("page_size")?;
    let actual = length(path)?;
    if actual < expected.cast_unsigned() {
        let reason = format!("it ends at byte {actual} of {expected}");
        return Err(JournalError::Corrupt { reason });
    }
    Ok(())
}

/// Answers whether all of the log is in the file now.
fn fold_log(connection: &Connection) -> Result<bool, JournalError> {
    let query = "PRAGMA wal_checkpoint(TRUNCATE)";
    let is_held = connection.query_row(query, [], |row| row.get::<_, bool>(0));
    is_held.map(|is_held| !is_held).map_err(|error| failure(&error))
}

fn check_pages(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    if length(path)? > CHECK_BYTES_MAX {
        return Ok(());
    }
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match verdict.map_err(|error| failure(&error))?.as_str() {
        "ok" => Ok(()),
        damage => Err(JournalError::Corrupt { reason: damage.to_owned() }),
    }
}

fn length(path: &Path) -> Result<u64, JournalError> {
    let metadata = fs::metadata(path).map_err(|error| io_failure("look at", path, &error))?;
    Ok(metadata.len())
}

fn io_failure(verb: &str, path: &Path, error: &io::Error) -> JournalError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JournalError::Full,
        _ => JournalError::Unavailable {
            reason: format!("cannot {verb} {}: {error}", path.display()),
        },
    }
}

/// What a failure of the disk means to the caller.
pub(super) fn disk_failure(error: DiskError) -> JournalError {
    let DiskError { operation, path, source } = error;
    io_failure(operation, &path, &source)
}
