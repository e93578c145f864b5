//! Several journals on one schema, as several processes have: positions become visible in order,
//! of two writers one wins, and who waits is woken.

use super::*;
use oms_core::journal::{Append, JournalError, JournalExt, Snapshot};
use std::task::Poll;

/// A transaction that has taken its position and not committed keeps every later position from
/// becoming visible, in whatever process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_holds_later_positions_back() {
    let place = Place::new();
    let (first, second) = (place.open().await, place.open().await);
    first.append_to(&job("a"), 0, vec![envelope("1")]).await.expect("append");
    let found = first.read_all(0, 10).await.expect("read");
    let copy = "INSERT INTO event SELECT 2, history, 2, kind, format, time, actor, correlation,
        body, checksum FROM event";

    for is_committed in [false, true] {
        let beside = place.beside().await;
        beside.batch_execute("BEGIN; SELECT head FROM log FOR UPDATE").await.expect("lock");
        beside.batch_execute(copy).await.expect("insert");
        beside.batch_execute("UPDATE log SET head = 2").await.expect("update");
        let text = if is_committed { "after the commit" } else { "after the rollback" };
        let own = job(text);
        let mut append = first.append_to(&own, 0, vec![envelope(text)]);
        // The other one's position is taken: this one has to wait, however often it is looked at.
        for _ in 0..50 {
            assert!(matches!(futures::poll!(&mut append), Poll::Pending), "it did not wait");
            assert_eq!(second.read_all(1, 10).await.expect("read"), [], "nothing is visible yet");
        }
        let end = if is_committed { "COMMIT" } else { "ROLLBACK" };
        beside.batch_execute(end).await.expect("end");
        within(append).await.expect("append");
        if !is_committed {
            let page = second.read_all(0, 10).await.expect("read");
            assert_eq!(page[0], found[0]);
            assert_eq!((page[1].position, page.len()), (2, 2), "its position was given back");
            second.delete(&own, 1).await.expect("delete");
            let beside = place.beside().await;
            beside.batch_execute("UPDATE log SET head = 1").await.expect("begin again");
        }
    }
    let beside = place.beside().await;
    let rows = beside.query("SELECT position FROM event ORDER BY position", &[]).await;
    let positions: Vec<i64> = rows.expect("rows").iter().map(|row| row.get(0)).collect();
    assert_eq!(positions, [1, 2, 3], "the later one has the higher position");
}

/// Writers of several journals, and readers that poll all the time: no reader misses a position.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_reader_misses_a_position_of_overlapping_writers() {
    const WRITERS: usize = 6;
    const EVENTS: usize = 60;
    let place = Place::new();
    let writer = async |name: usize| {
        let journal = place.open().await;
        for n in 0..EVENTS as u64 {
            // Two histories at once, so that transactions are not all of one size.
            let part = |kind: &str, count: u64| Append {
                history: history(kind, name),
                expected: n * count,
                events: vec![envelope(format!("{name}-{n}")); count as usize],
            };
            journal.append(vec![part("one", 1), part("two", 2)]).await.expect("append");
        }
    };
    let reader = async || {
        let journal = place.open().await;
        let seen = poll_all(&journal, WRITERS * EVENTS * 3).await;
        assert_nothing_was_missed(&journal, &seen).await;
    };
    let writers = futures::future::join_all((0..WRITERS).map(writer));
    let readers = futures::future::join_all((0..2).map(|_| reader()));
    within(futures::future::join(writers, readers)).await;
}

/// Of writers in several journals that read the same version, one wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_writers_of_several_journals_one_wins() {
    let place = Place::new();
    let journals = futures::future::join_all((0..4).map(|_| place.open())).await;
    for version in 0..15 {
        let attempts = journals.iter().enumerate().map(|(writer, journal)| async move {
            journal.append_to(&job("1"), version, vec![envelope(writer)]).await
        });
        let outcomes = futures::future::join_all(attempts).await;
        let mut winners = Vec::new();
        for (writer, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(new) => {
                    assert_eq!(new, version + 1);
                    winners.push(writer.to_string());
                }
                Err(JournalError::Conflict { expected, actual, .. }) => {
                    assert_eq!((expected, actual), (version, version + 1));
                }
                Err(error) => panic!("writer {writer}: {error}"),
            }
        }
        let events = journals[0].read(&job("1"), version, 10).await.expect("read");
        assert_eq!(bodies(&events), winners, "one winner, and its event is there");
    }
}

/// What one journal deletes, keeps or appends, the other one sees at once.
#[tokio::test]
async fn one_journal_sees_what_the_other_did() {
    let place = Place::new();
    let (one, two) = (place.open().await, place.open().await);
    one.append_to(&job("1"), 0, vec![envelope("a"), envelope("b")]).await.expect("append");
    let snapshot = Snapshot { version: 2, format: 1, body: "state".into() };
    two.save_snapshot(&job("1"), snapshot.clone()).await.expect("save");
    assert_eq!(one.snapshot(&job("1")).await.expect("snapshot"), Some(snapshot));
    assert!(matches!(
        two.delete(&job("1"), 1).await,
        Err(JournalError::Conflict { actual: 2, .. })
    ));
    two.delete(&job("1"), 2).await.expect("delete");
    assert_eq!(one.list_whole("job").await.expect("list"), []);
    assert_eq!(one.append_to(&job("1"), 0, vec![envelope("new")]).await.expect("append"), 1);
    assert_eq!(two.read_all(0, 10).await.expect("read")[0].position, 3);
}

/// A wait in one journal is woken by an append in another, by its notification.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_elsewhere_wakes_a_wait() {
    let place = Place::new();
    let (one, two) = (place.open().await, place.open().await);
    for position in 1..=20 {
        let mut wait = one.wait(position - 1);
        assert!(matches!(futures::poll!(&mut wait), Poll::Pending));
        two.append_to(&job("1"), position - 1, vec![envelope("a")]).await.expect("append");
        assert_eq!(within(wait).await.expect("wait"), position);
    }
    // A journal that is opened later knows where the log is.
    assert_eq!(within(place.open().await.wait(0)).await.expect("wait"), 20);
}

/// Where the notification is lost, a look at the table makes up for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_notification_is_made_up_for() {
    let place = Place::new();
    let (one, two) = (place.open().await, place.open().await);
    two.append_to(&job("1"), 0, vec![envelope("a")]).await.expect("append");
    assert_eq!(within(one.wait(0)).await.expect("wait"), 1);
    // An append without a notification, as a pooler of connections would make it.
    let beside = place.beside().await;
    beside.batch_execute("UPDATE log SET head = 2").await.expect("update");
    assert_eq!(within(one.wait(1)).await.expect("wait"), 2);
}

/// Journals of two schemas have nothing in common.
#[tokio::test]
async fn two_schemas_are_two_journals() {
    let (left, right) = (Place::new(), Place::new());
    let (one, two) = (left.open().await, right.open().await);
    one.append_to(&job("1"), 0, vec![envelope("a")]).await.expect("append");
    assert_eq!(two.read_all(0, 10).await.expect("read"), []);
    assert_eq!(two.append_to(&job("1"), 0, vec![envelope("b")]).await.expect("append"), 1);
}

/// Processes that begin a journal at the same time make it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_that_begin_it_make_it_once() {
    let place = Place::new();
    let journals = futures::future::join_all((0..6).map(|_| place.open())).await;
    for (n, journal) in journals.iter().enumerate() {
        journal.append_to(&job(n), 0, vec![envelope(n)]).await.expect("append");
    }
    assert_eq!(journals[0].read_all(0, 10).await.expect("read").len(), 6);
}

/// Appends that wait together share a transaction, and so their commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_that_wait_together_share_a_commit() {
    let place = Place::new();
    let journal = place.open().await;
    let beside = place.beside().await;
    beside.batch_execute("BEGIN; SELECT head FROM log FOR UPDATE").await.expect("lock");
    let append = async |n: u64| journal.append_to(&job(n), 0, vec![envelope(n)]).await;
    let appends = futures::future::join_all((0..200).map(append));
    let held = async {
        // The first of them waits for the lock; the others wait for the first.
        while waiting(&beside).await == 0 {
            tokio::task::yield_now().await;
        }
        beside.batch_execute("COMMIT").await.expect("let go");
    };
    let (outcomes, ()) = within(futures::future::join(appends, held)).await;
    assert!(outcomes.into_iter().all(|outcome| outcome.is_ok()));
    let query = "SELECT count(DISTINCT xmin::text) FROM event";
    let transactions: i64 = beside.query_one(query, &[]).await.expect("a row").get(0);
    assert!(transactions < 20, "200 appends took {transactions} transactions");
}

/// How many sessions wait for this one.
async fn waiting(client: &Client) -> i64 {
    let query = "SELECT count(*) FROM pg_stat_activity
        WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))";
    client.query_one(query, &[]).await.expect("a row").get(0)
}
