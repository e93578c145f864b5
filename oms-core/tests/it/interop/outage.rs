//! Connections that are lost: what is told, and that the next call goes on.

use super::*;
use oms_core::ErrorKind;
use oms_core::journal::{JournalError, JournalExt};
use std::task::Poll;

/// Ends every session of the journals of `place`, as a restart or a broken network does.
async fn cut(place: &Place, beside: &Client) {
    let query = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE application_name = $1";
    beside.execute(query, &[&place.schema]).await.expect("terminate");
}

/// A place whose journals can be told from others on the server.
fn named_place() -> Place {
    let mut place = Place::new();
    let join = if place.url.contains('?') { '&' } else { '?' };
    place.url = format!("{}{join}application_name={}", place.url, place.schema);
    place
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_were_lost_are_made_again_unseen() {
    let place = named_place();
    let journal = place.open().await;
    let beside = connect(&url()).await;
    for version in 0..5 {
        let appended = journal.append_to(&job("1"), version, vec![envelope("a")]).await;
        assert_eq!(appended.expect("append"), version + 1);
        assert_eq!(journal.read_all(0, 100).await.expect("read").len() as u64, version + 1);
        assert_eq!(journal.list_whole("job").await.expect("list")[0].version, version + 1);
        cut(&place, &beside).await;
    }
}

/// An append whose connection is lost before it wrote is repeated: what is cut here waits for the
/// lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_had_not_begun_is_repeated() {
    let place = named_place();
    let journal = place.open().await;
    let beside = connect(&url()).await;
    let lock = format!("BEGIN; SELECT head FROM {}.log FOR UPDATE", place.schema);
    beside.batch_execute(&lock).await.expect("lock");
    let history = job("1");
    let mut append = journal.append_to(&history, 0, vec![envelope("a")]);
    assert!(matches!(futures::poll!(&mut append), Poll::Pending));
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))";
    while beside.query_one(waits, &[]).await.expect("a row").get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    let other = connect(&url()).await;
    cut(&place, &other).await;
    beside.batch_execute("COMMIT").await.expect("let go");
    assert_eq!(within(append).await.expect("append"), 1);
    assert_eq!(journal.read_whole(&job("1")).await.expect("read").len(), 1);
}

/// A wait lasts through the loss of every connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_outlasts_its_connection() {
    let place = named_place();
    let journal = place.open().await;
    let other = place.open().await;
    let beside = connect(&url()).await;
    for position in 1..=3 {
        let mut wait = journal.wait(position - 1);
        assert!(matches!(futures::poll!(&mut wait), Poll::Pending));
        cut(&place, &beside).await;
        other.append_to(&job("1"), position - 1, vec![envelope("a")]).await.expect("append");
        assert_eq!(within(wait).await.expect("wait"), position);
    }
}

/// Whoever holds the lock for ever makes writers fail, not hang: the lock has a time limit, and
/// so has an idle transaction of a journal's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_not_given_makes_it_unavailable() {
    let place = Place::new();
    let journal = place.open().await;
    let beside = place.beside().await;
    beside.batch_execute("BEGIN; SELECT head FROM log FOR UPDATE").await.expect("lock");
    let error = within(journal.append_to(&job("1"), 0, vec![envelope("a")]))
        .await
        .expect_err("the lock is held");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("55P03"), "{error}");
    assert_eq!(journal.read_all(0, 10).await.expect("reads go on"), []);
    beside.batch_execute("COMMIT").await.expect("let go");
    assert_eq!(journal.append_to(&job("1"), 0, vec![envelope("a")]).await.expect("append"), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let settings = PostgresSettings::default();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = unused.local_addr().expect("an address").port();
    drop(unused);
    let url = format!("postgresql://oms@127.0.0.1:{port}/postgres");
    match PostgresJournal::connect(&url, &settings).await {
        Err(error @ JournalError::Unavailable { .. }) => {
            assert!(error.kind().is_retryable(), "{error}");
        }
        other => panic!("expected no server, got {other:?}"),
    }
}

/// What was accepted is written although the journal is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_the_journal_finishes_what_it_accepted() {
    let place = Place::new();
    let journal = place.open().await;
    let history = job("1");
    for n in 0..20 {
        let mut append = journal.append_to(&history, n, vec![envelope(n)]);
        // One poll puts it into the queue.
        let _ = futures::poll!(&mut append);
    }
    within(journal.close()).await;
    let events = place.open().await.read_whole(&job("1")).await.expect("read");
    assert_eq!(bodies(&events), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}
