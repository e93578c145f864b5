//! Clients that are killed, and servers that are: nothing acknowledged is lost.

use super::cluster::Cluster;
use super::*;
use crate::crash::{self, Said, append, audit, kill_loop, next, write_until_killed};
use async_trait::async_trait;
use oms_core::journal::JournalError;
use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::watch;

/// Which schema the child uses; without it, the child's test has nothing to do.
const SCHEMA_VARIABLE: &str = "OMS_CRASH_SCHEMA";

const KILLS: usize = 200;

/// How often the server is killed.
const RESTARTS: u64 = 24;

const WRITERS: u64 = 4;

#[async_trait]
impl crash::Place for Place {
    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![(SCHEMA_VARIABLE, self.schema.clone())]
    }

    async fn reopen(&self) -> Box<dyn Journal> {
        let journal = self.open().await;
        // The server goes on with what the killed client sent last, and holds the lock with it.
        let beside = self.beside().await;
        beside.batch_execute("SELECT head FROM log FOR UPDATE").await.expect("lock");
        drop(journal);
        Box::new(self.open().await)
    }
}

/// Not a test of its own: the process that the test below kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(schema) = env::var(SCHEMA_VARIABLE) else { return };
    let journal = PostgresJournal::connect(&url(), &PostgresSettings { schema }).await;
    write_until_killed(&journal.expect("open")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_client_loses_nothing_that_was_acknowledged() {
    kill_loop(KILLS, &crash::entropy(), "interop::crash::child", Place::new).await;
}

/// What the writers of one process had acknowledged, and how often one was left in doubt.
#[derive(Debug, Default)]
struct Progress {
    acknowledged: watch::Sender<u64>,
    in_doubt: AtomicU64,
    is_over: AtomicBool,
}

/// Appends until it is over, through every outage; answers what it had acknowledged.
async fn write_through(journal: &PostgresJournal, writer: u64, progress: &Progress) -> Said {
    let mut version = 0;
    while !progress.is_over.load(Ordering::SeqCst) {
        match append(journal, writer, version).await {
            Ok(()) => {
                version += 1;
                progress.acknowledged.send_modify(|count| *count += 1);
            }
            Err(JournalError::Unavailable { .. }) => {
                progress.in_doubt.fetch_add(1, Ordering::SeqCst);
                // Leaves the processors to the server that starts.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // The append that failed took effect: it is acknowledged by this.
            Err(JournalError::Conflict { actual, .. }) => {
                assert_eq!(actual, version + 1, "writer {writer}");
                version += 1;
            }
            Err(error) => panic!("writer {writer}: {error}"),
        }
    }
    Said { submitted: version + 1, acknowledged: version }
}

/// Kills the server again and again at random moments, and starts it.
async fn kill_server(cluster: &Arc<Cluster>, progress: &Progress) {
    let entropy = crash::entropy();
    let mut acknowledged = progress.acknowledged.subscribe();
    let mut interrupted = 0;
    for _ in 0..RESTARTS {
        let moment = *acknowledged.borrow() + 1 + entropy.below(200);
        within(acknowledged.wait_for(|count| *count >= moment)).await.expect("writers write");
        let before = progress.in_doubt.load(Ordering::SeqCst);
        let cluster = Arc::clone(cluster);
        let restarted = tokio::task::spawn_blocking(move || {
            cluster.crash();
            cluster.run();
        });
        restarted.await.expect("it starts again");
        interrupted += u64::from(progress.in_doubt.load(Ordering::SeqCst) > before);
    }
    progress.is_over.store(true, Ordering::SeqCst);
    assert!(interrupted > RESTARTS / 2, "{interrupted} of {RESTARTS} kills met an append");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_killed_server_loses_nothing_that_it_acknowledged() {
    let cluster = Arc::new(Cluster::start(""));
    let settings = PostgresSettings::default();
    let journal = PostgresJournal::connect(&cluster.url(), &settings).await.expect("open");
    let progress = Progress::default();
    let writers = (0..WRITERS).map(|writer| write_through(&journal, writer, &progress));
    let writers = futures::future::join_all(writers);
    let (said, ()) = futures::future::join(writers, kill_server(&cluster, &progress)).await;
    let said: BTreeMap<u64, Said> = (0..).zip(said).collect();
    let counts = audit(&journal, &said).await;
    assert_eq!(counts[&0], next(&journal, 0).await);
    journal.close().await;
    cluster.stop();
}
