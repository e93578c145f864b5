//! Claim: the journal's durable appends share their syncs.
//!
//! Durable appends a second on SQLite with 1, 16 and 256 concurrent writers, beside the same row
//! put by one `INSERT` in a transaction of its own, with the same settings, on the same disk, in
//! the same run. The peer's writers take turns, since SQLite lets one write at a time.

use oms_core::Clock;
use oms_core::SystemClock;
use oms_core::journal::{Envelope, HistoryId, JournalExt, SqliteJournal};
use rusqlite::Connection;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long each figure is measured.
const MEASURED: Duration = Duration::from_secs(5);

/// What is appended: about what a job's event holds.
const BODY: &str = "a runbook was queued for the worker group of the second data centre, by hand";

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{:>8} {:>16} {:>16} {:>8}", "writers", "journal, 1/s", "bare INSERT, 1/s", "ratio");
    for writers in [1, 16, 256] {
        let ours = runtime.block_on(journal(writers))?;
        let peer = bare_insert(writers)?;
        println!("{writers:>8} {ours:>16.0} {peer:>16.0} {:>8.2}", ours / peer);
    }
    Ok(())
}

async fn journal(writers: usize) -> Result<f64, Box<dyn Error>> {
    let folder = tempfile::tempdir_in(".")?;
    let journal = Arc::new(SqliteJournal::open(folder.path().join("journal.sqlite"))?);
    let begin = SystemClock.monotonic();
    let tasks: Vec<_> = (0..writers).map(|writer| {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move {
            let history = HistoryId::new("job", &writer.to_string()).expect("a name");
            let mut version = 0;
            while SystemClock.monotonic() - begin < MEASURED {
                let now = SystemClock.now();
                let event = Envelope::new("queued", 1, now, "bench", &BODY).expect("a body");
                version =
                    journal.append_to(&history, version, vec![event]).await.expect("appended");
            }
            version
        })
    })
    .collect();
    let mut appended = 0;
    for task in tasks {
        appended += task.await?;
    }
    Ok(appended as f64 / (SystemClock.monotonic() - begin).as_secs_f64())
}

fn bare_insert(writers: usize) -> Result<f64, Box<dyn Error>> {
    let folder = tempfile::tempdir_in(".")?;
    let path = folder.path().join("bare.sqlite");
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(&path)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.busy_timeout(Duration::from_secs(60))?;
        Ok(connection)
    };
    open()?.execute_batch(
        "CREATE TABLE events (position INTEGER PRIMARY KEY, history TEXT, version INTEGER,
         kind TEXT, time TEXT, actor TEXT, body TEXT, UNIQUE (history, version))",
    )?;
    let begin = SystemClock.monotonic();
    // One connection behind a lock is kinder to SQLite than one for each writer: nobody sleeps
    // in its busy handler.
    let connection = Arc::new(Mutex::new(open()?));
    let threads: Vec<_> = (0..writers)
        .map(|writer| {
            let connection = Arc::clone(&connection);
            std::thread::spawn(move || {
                let mut version = 0u64;
                while SystemClock.monotonic() - begin < MEASURED {
                    let connection = connection.lock().expect("not poisoned");
                    let mut insert = connection
                        .prepare_cached(
                            "INSERT INTO events (history, version, kind, time, actor, body)
                             VALUES (?1, ?2, 'queued', ?3, 'bench', ?4)",
                        )
                        .expect("prepared");
                    let row = (writer as i64, version as i64, SystemClock.now().to_string(), BODY);
                    insert.execute(row).expect("inserted");
                    version += 1;
                }
                version
            })
        })
        .collect();
    let mut inserted = 0;
    for thread in threads {
        inserted += thread.join().expect("no panic");
    }
    Ok(inserted as f64 / (SystemClock.monotonic() - begin).as_secs_f64())
}
