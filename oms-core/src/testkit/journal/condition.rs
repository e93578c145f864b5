//! Appends that carry no events: conditions.

#![expect(clippy::expect_used, clippy::panic, reason = "a test suite fails by panicking")]

use super::{append, bodies, envelope, everything, job, keys, part, race};
use crate::journal::{Append, Event, HistoryId, Journal, JournalError, JournalExt};

/// How many rounds a race is run, each on histories of its own.
const ROUNDS: usize = 20;

/// At least one append of a call carries events; a call with no appends does nothing.
pub async fn a_condition_alone_is_refused(journal: &dyn Journal) {
    let conditions = || vec![Append::condition(job("1"), 0), Append::condition(job("2"), 0)];
    for refused in [conditions(), conditions().split_off(1)] {
        match journal.append(refused).await {
            Err(JournalError::Id(_)) => {}
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
    assert_eq!(journal.append(Vec::new()).await.expect("nothing to do"), Vec::<u64>::new());
    let twice = vec![part(&job("1"), 0, &["a"]), Append::condition(job("1"), 1)];
    match journal.append(twice).await {
        Err(JournalError::Id(_)) => {}
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert_eq!(everything(journal).await, []);
    assert_eq!(journal.list_whole("job").await.expect("list"), []);
}

/// A condition that holds answers its history's version and leaves the history as it is, or
/// absent.
pub async fn a_condition_changes_nothing(journal: &dyn Journal) {
    append(journal, &job("1"), 0, &["a", "b"]).await;
    let appends = vec![
        Append::condition(job("1"), 2),
        part(&job("2"), 0, &["x"]),
        Append::condition(job("none"), 0),
    ];
    assert_eq!(journal.append(appends).await.expect("append"), [2, 1, 0]);
    assert_eq!(journal.read_whole(&job("none")).await.expect("read"), []);
    assert_eq!(bodies(&everything(journal).await), ["a", "b", "x"]);
    let heads = journal.list_whole("job").await.expect("list");
    assert_eq!(keys(&heads), ["1", "2"]);
    assert_eq!(heads.iter().map(|head| head.version).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(append(journal, &job("1"), 2, &["c"]).await, 3);
    assert_eq!(append(journal, &job("none"), 0, &["n"]).await, 1, "it can still begin");
    let last = everything(journal).await.last().map_or(0, |event| event.position);
    assert_eq!(journal.wait(0).await.expect("wait"), last, "the last position given out");
}

/// A condition that does not hold is a conflict that names it, and nothing is written.
pub async fn a_failed_condition_writes_nothing(journal: &dyn Journal) {
    append(journal, &job("1"), 0, &["a", "b"]).await;
    for (history, expected, actual) in
        [("1", 0, 2), ("1", 1, 2), ("1", 3, 2), ("1", u64::MAX, 2), ("none", 1, 0)]
    {
        let condition = Append::condition(job(history), expected);
        let write = part(&job("2"), 0, &["x"]);
        for appends in [vec![condition.clone(), write.clone()], vec![write, condition]] {
            match journal.append(appends).await {
                Err(JournalError::Conflict { history: named, expected: at, actual: found })
                    if named == job(history) && at == expected && found == actual => {}
                other => panic!("expected a conflict in {history} at {expected}, got {other:?}"),
            }
        }
    }
    let first_named = vec![
        Append::condition(job("none"), 7),
        part(&job("1"), 0, &["late"]),
        Append::condition(job("1b"), 9),
    ];
    match journal.append(first_named).await {
        Err(JournalError::Conflict { history, expected: 7, .. }) if history == job("none") => {}
        other => panic!("expected the first conflict, got {other:?}"),
    }
    assert_eq!(bodies(&everything(journal).await), ["a", "b"]);
    assert_eq!(keys(&journal.list_whole("job").await.expect("list")), ["1"]);
}

/// What was written on a condition stands before the event that ended the condition, whoever
/// races whom.
pub async fn a_condition_holds_until_the_write(journal: &dyn Journal) {
    for round in 0..ROUNDS {
        let gate = job(&format!("gate-{round}"));
        let gate = &gate;
        let attempt = |writer: usize| async move {
            if writer == 4 {
                let closed = vec![envelope("closed")];
                return journal.append_to(gate, 0, closed).await.map(|_| true);
            }
            let own = part(&job(&format!("{round}-{writer}")), 0, &["open"]);
            match journal.append(vec![own, Append::condition(gate.clone(), 0)]).await {
                Ok(_) => Ok(true),
                Err(JournalError::Conflict { expected: 0, actual: 1, .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        let outcomes = compete(round, 8, attempt).await;
        let own = |key: String| async move {
            let events = journal.read_whole(&job(&key)).await.expect("read");
            events.first().map(|event: &Event| event.position)
        };
        let closed = own(format!("gate-{round}")).await.expect("the gate was closed");
        for (writer, outcome) in outcomes.into_iter().enumerate() {
            let did = outcome.unwrap_or_else(|error| panic!("writer {writer}: {error}"));
            if writer != 4 {
                let position = own(format!("{round}-{writer}")).await;
                assert_eq!(position.is_some(), did, "writer {writer} was told what happened");
                assert!(
                    position.is_none_or(|position| position < closed),
                    "writer {writer} wrote at {position:?}, after the gate closed at {closed}",
                );
            }
        }
    }
}

/// Of writers that each write only if none of the others has, exactly one writes.
pub async fn of_writers_that_exclude_each_other_one_wins(journal: &dyn Journal) {
    for round in 0..ROUNDS {
        let name = |writer: usize| -> HistoryId { job(&format!("{round}-{writer}")) };
        let attempt = |writer: usize| async move {
            let mut appends = vec![part(&name(writer), 0, &["mine"])];
            let others = (0..4).filter(|other| *other != writer);
            appends.extend(others.map(|other| Append::condition(name(other), 0)));
            match journal.append(appends).await {
                Ok(_) => Ok(1),
                Err(JournalError::Conflict { .. }) => Ok(0),
                Err(error) => Err(error),
            }
        };
        let outcomes = compete(round, 4, attempt).await;
        let winners: u64 = outcomes.into_iter().map(|outcome| outcome.expect("no failure")).sum();
        assert_eq!(winners, 1, "round {round}");
    }
}

/// Threads meet anywhere; tasks on one thread meet at every await.
async fn compete<T: Send, F: Future<Output = T>>(
    round: usize,
    count: usize,
    attempt: impl Fn(usize) -> F + Sync,
) -> Vec<T> {
    if round.is_multiple_of(2) {
        race(count, attempt)
    } else {
        futures::future::join_all((0..count).map(attempt)).await
    }
}
