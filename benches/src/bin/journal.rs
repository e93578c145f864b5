//! Claim: the journal's durable appends share their syncs.
//!
//! Durable appends a second with 1, 16 and 256 concurrent writers, beside the same row put by one
//! `INSERT` in a transaction of its own, with the same settings, on the same engine and disk, in
//! the same run: on SQLite, and on the PostgreSQL server that `OMS_BENCH_POSTGRES` names (its URL).
//! Other counts of writers can be given as arguments.
//!
//! SQLite lets one write at a time, so the peer's writers take turns there. PostgreSQL's peer has
//! a connection for each writer, up to 64: the server's default allows no 256.

use oms_core::Clock;
use oms_core::SystemClock;
use oms_core::journal::{
    Envelope, HistoryId, Journal, JournalExt, PostgresJournal, PostgresSettings, SqliteJournal,
};
use rusqlite::Connection;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_postgres::NoTls;

/// How long each figure is measured.
const MEASURED: Duration = Duration::from_secs(5);

/// What is appended: about what a job's event holds.
const BODY: &str = "a runbook was queued for the worker group of the second data centre, by hand";

/// The most connections of PostgreSQL's peer.
const CONNECTIONS_MAX: usize = 64;

/// The schema of the benchmark's tables, which is dropped before and after.
const SCHEMA: &str = "oms_bench";

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!(
        "{:>10} {:>8} {:>13} {:>17} {:>7}",
        "", "writers", "journal, 1/s", "bare INSERT, 1/s", "ratio"
    );
    let print = |engine, writers, ours: f64, peer: f64| {
        println!("{engine:>10} {writers:>8} {ours:>13.0} {peer:>17.0} {:>7.2}", ours / peer);
    };
    let counts =
        std::env::args().skip(1).map(|count| count.parse()).collect::<Result<Vec<_>, _>>()?;
    let counts = if counts.is_empty() { vec![1, 16, 256] } else { counts };
    for writers in counts.iter().copied() {
        let ours = runtime.block_on(sqlite(writers))?;
        print("SQLite", writers, ours, bare_sqlite(writers)?);
    }
    let Ok(url) = std::env::var("OMS_BENCH_POSTGRES") else {
        println!("PostgreSQL: skipped, for OMS_BENCH_POSTGRES names no server");
        return Ok(());
    };
    for writers in counts {
        let ours = runtime.block_on(postgres(&url, writers))?;
        print("PostgreSQL", writers, ours, runtime.block_on(bare_postgres(&url, writers))?);
    }
    Ok(())
}

async fn sqlite(writers: usize) -> Outcome<f64> {
    let folder = tempfile::tempdir_in(".")?;
    let journal = SqliteJournal::open(folder.path().join("journal.sqlite"))?;
    measure(Arc::new(journal), writers).await
}

async fn postgres(url: &str, writers: usize) -> Outcome<f64> {
    let drop = format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE");
    let client = connect(url).await?;
    client.batch_execute(&drop).await?;
    let settings = PostgresSettings { schema: SCHEMA.to_owned() };
    let journal = PostgresJournal::connect(url, &settings).await?;
    let appended = measure(Arc::new(journal), writers).await?;
    client.batch_execute(&drop).await?;
    Ok(appended)
}

async fn measure(journal: Arc<dyn Journal>, writers: usize) -> Outcome<f64> {
    let begin = SystemClock.monotonic();
    let start = |writer: usize| {
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
    };
    let tasks: Vec<_> = (0..writers).map(start).collect();
    let mut appended = 0;
    for task in tasks {
        appended += task.await?;
    }
    Ok(appended as f64 / (SystemClock.monotonic() - begin).as_secs_f64())
}

fn bare_sqlite(writers: usize) -> Outcome<f64> {
    let folder = tempfile::tempdir_in(".")?;
    let path = folder.path().join("bare.sqlite");
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(&path)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        // As the journal has them: a cache of 16 MiB, and a log that is copied back every 4096 pages.
        connection.pragma_update(None, "cache_size", -16 * 1024)?;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", 4096, |_row| Ok(()))?;
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
    let start = |writer: usize| {
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
    };
    let threads: Vec<_> = (0..writers).map(start).collect();
    let mut inserted = 0;
    for thread in threads {
        inserted += thread.join().expect("no panic");
    }
    Ok(inserted as f64 / (SystemClock.monotonic() - begin).as_secs_f64())
}

async fn bare_postgres(url: &str, writers: usize) -> Outcome<f64> {
    let setup = connect(url).await?;
    setup
        .batch_execute(&format!(
            "DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA};
             CREATE TABLE {SCHEMA}.events (position bigserial PRIMARY KEY, history text,
             version bigint, kind text, time text, actor text, body text,
             UNIQUE (history, version))"
        ))
        .await?;
    let mut clients = Vec::new();
    for _ in 0..writers.min(CONNECTIONS_MAX) {
        clients.push(connect(url).await?);
    }
    let begin = SystemClock.monotonic();
    let start = |(writer, client): (usize, tokio_postgres::Client)| {
        tokio::spawn(async move {
            let insert = client
                .prepare(&format!(
                    "INSERT INTO {SCHEMA}.events (history, version, kind, time, actor, body)
                     VALUES ($1, $2, 'queued', $3, 'bench', $4)"
                ))
                .await
                .expect("prepared");
            let history = writer.to_string();
            let mut version = 0i64;
            while SystemClock.monotonic() - begin < MEASURED {
                let time = SystemClock.now().to_string();
                let row = client.execute(&insert, &[&history, &version, &time, &BODY]).await;
                row.expect("inserted");
                version += 1;
            }
            version
        })
    };
    let tasks: Vec<_> = clients.into_iter().enumerate().map(start).collect();
    let mut inserted = 0;
    for task in tasks {
        inserted += task.await?;
    }
    let rate = inserted as f64 / (SystemClock.monotonic() - begin).as_secs_f64();
    setup.batch_execute(&format!("DROP SCHEMA {SCHEMA} CASCADE")).await?;
    Ok(rate)
}

async fn connect(url: &str) -> Outcome<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
