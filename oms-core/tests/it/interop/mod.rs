//! The journal in PostgreSQL, on the server that `OMS_INTEROP_POSTGRES` names.

mod cluster;

mod conformance;

mod crash;

mod damage;

mod order;

mod outage;

mod processes;

mod tls;

use jiff::Timestamp;
use oms_core::journal::{Envelope, Event, HistoryId, Journal, PostgresJournal, PostgresSettings};
use oms_core::{EntropyExt, SystemEntropy};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

/// The longest one step of a test may take: it turns a hang into a failure.
const STEP_TIME_MAX: Duration = Duration::from_secs(300);

fn url() -> String {
    std::env::var("OMS_INTEROP_POSTGRES").expect("OMS_INTEROP_POSTGRES names a PostgreSQL server")
}

/// A schema of its own, which goes with it.
#[derive(Debug)]
struct Place {
    url: String,
    schema: String,
}

impl Place {
    fn new() -> Self {
        Self::on(&url())
    }

    fn on(url: &str) -> Self {
        let schema = format!("oms_test_{:016x}", SystemEntropy.number());
        Self { url: url.to_owned(), schema }
    }

    fn settings(&self) -> PostgresSettings {
        PostgresSettings { schema: self.schema.clone() }
    }

    /// A journal of its own connections, as another process would have.
    async fn open(&self) -> PostgresJournal {
        PostgresJournal::connect(&self.url, &self.settings()).await.expect("open")
    }

    /// A connection beside the journal's, which uses its tables by their plain names.
    async fn beside(&self) -> Client {
        let client = connect(&self.url).await;
        client.batch_execute(&format!("SET search_path = {}", self.schema)).await.expect("set");
        client
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (url, query) =
            (self.url.clone(), format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema));
        // A runtime of its own, for this one may be at its end. A server that is gone already
        // took the schema with it.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
                    let driver = tokio::spawn(connection);
                    let _ = client.batch_execute(&query).await;
                    drop(client);
                    let _ = driver.await;
                }
            });
        });
        let _ = dropped.join();
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}

#[expect(clippy::needless_pass_by_value, reason = "a text or a number, whichever is at hand")]
fn history(kind: &str, key: impl ToString) -> HistoryId {
    HistoryId::new(kind, &key.to_string()).expect("a name")
}

fn job(key: impl ToString) -> HistoryId {
    history("job", key)
}

#[expect(clippy::needless_pass_by_value, reason = "a text or a number, whichever is at hand")]
fn envelope(body: impl ToString) -> Envelope {
    Envelope::new("noted", 1, Timestamp::UNIX_EPOCH, "test", &body.to_string()).expect("a body")
}

fn bodies(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.envelope.decode().expect("a text")).collect()
}

async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP_TIME_MAX, step).await.expect("the step ends")
}

/// Reads the log from its beginning, page by page while it grows, until it has `count` events:
/// each page is all that there is, and no later one holds a lower position.
async fn poll_all(journal: &dyn Journal, count: usize) -> Vec<Event> {
    let mut seen: Vec<Event> = Vec::new();
    while seen.len() < count {
        let last = seen.last().map_or(0, |event| event.position);
        let page = journal.read_all(last, 50).await.expect("read");
        seen.extend(page);
        tokio::task::yield_now().await;
    }
    seen
}

/// What was seen while the log grew is what it holds in the end.
async fn assert_nothing_was_missed(journal: &dyn Journal, seen: &[Event]) {
    let mut all: Vec<Event> = Vec::new();
    loop {
        let last = all.last().map_or(0, |event| event.position);
        let page = journal.read_all(last, 1000).await.expect("read");
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    assert!(all.windows(2).all(|pair| pair[0].position < pair[1].position));
    let positions = |events: &[Event]| events.iter().map(|at| at.position).collect::<Vec<_>>();
    assert_eq!(positions(seen), positions(&all));
}
