//! What every [`Journal`] must do: one function a requirement, and a macro that runs them all.
//!
//! Each function takes a journal that nobody used before, and panics where the journal falls
//! short. They need a Tokio runtime of several threads, because some race.

#![expect(clippy::expect_used, clippy::panic, reason = "a test suite fails by panicking")]

mod condition;

pub use condition::{
    a_condition_alone_is_refused, a_condition_changes_nothing, a_condition_holds_until_the_write,
    a_failed_condition_writes_nothing, of_writers_that_exclude_each_other_one_wins,
};

use crate::id::CorrelationId;
use crate::journal::{
    APPEND_EVENTS_MAX, Append, BODY_BYTES_MAX, Envelope, Event, Head, HistoryId, Journal,
    JournalError, JournalExt, NAME_BYTES_MAX, READ_BYTES_MAX, READ_MAX, Snapshot,
};
use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// The longest one step of the suite may take, in seconds: it turns a hang into a failure.
const STEP_SECONDS_MAX: u64 = 60;

/// One requirement: its name and the function that checks it.
pub type Case = (&'static str, for<'a> fn(&'a dyn Journal) -> BoxFuture<'a, ()>);

/// A journal and what it needs while it is used, such as its directory, which goes after it.
#[derive(Debug)]
pub struct Kept<J, G> {
    journal: J,
    _guard: G,
}

impl<J, G> Kept<J, G> {
    /// Keeps `guard` as long as `journal`.
    pub const fn new(journal: J, guard: G) -> Self {
        Self { journal, _guard: guard }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<J: Journal, G: std::fmt::Debug + Send + Sync> Journal for Kept<J, G> {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<u64>, JournalError> {
        self.journal.append(appends).await
    }

    async fn read(
        &self,
        history: &HistoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        self.journal.read(history, after, limit).await
    }

    async fn read_all(&self, after: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.journal.read_all(after, limit).await
    }

    async fn wait(&self, after: u64) -> Result<u64, JournalError> {
        self.journal.wait(after).await
    }

    async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, JournalError> {
        self.journal.list(kind, after, limit).await
    }

    async fn save_snapshot(
        &self,
        history: &HistoryId,
        snapshot: Snapshot,
    ) -> Result<(), JournalError> {
        self.journal.save_snapshot(history, snapshot).await
    }

    async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError> {
        self.journal.snapshot(history).await
    }

    async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
        self.journal.delete(history, expected).await
    }
}

/// A new history is empty, takes its first append at version zero and shows it.
pub async fn append_then_read(journal: &dyn Journal) {
    let history = job("1");
    assert_eq!(journal.read(&history, 0, 10).await.expect("read"), []);
    assert_eq!(append(journal, &history, 0, &["a"]).await, 1);
    let events = journal.read(&history, 0, 10).await.expect("read");
    let [event] = events.as_slice() else { panic!("one event, not {events:?}") };
    assert_eq!((event.version, &event.history), (1, &history));
    assert!(event.position > 0, "positions begin at 1");
    assert_eq!(event.envelope, envelope("a"));
}

/// Versions count the events of one history, without gaps, whatever happens to others.
pub async fn versions_count_the_events(journal: &dyn Journal) {
    assert_eq!(append(journal, &job("1"), 0, &["a", "b"]).await, 2);
    assert_eq!(append(journal, &job("2"), 0, &["x"]).await, 1);
    assert_eq!(append(journal, &job("1"), 2, &["c"]).await, 3);
    let events = journal.read_whole(&job("1")).await.expect("read");
    assert_eq!(events.iter().map(|event| event.version).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(bodies(&events), ["a", "b", "c"]);
    assert_rising(&events);
}

/// An append at another version than the history's is refused, names both, and writes nothing.
pub async fn stale_append_conflicts(journal: &dyn Journal) {
    let history = job("1");
    append(journal, &history, 0, &["a", "b"]).await;
    for wrong in [0, 1, 3, u64::MAX] {
        match journal.append_to(&history, wrong, vec![envelope("late")]).await {
            Err(JournalError::Conflict { history: named, expected, actual: 2 })
                if named == history && expected == wrong => {}
            other => panic!("expected a conflict at {wrong}, got {other:?}"),
        }
    }
    match journal.append_to(&job("none"), 1, vec![envelope("early")]).await {
        Err(JournalError::Conflict { expected: 1, actual: 0, .. }) => {}
        other => panic!("expected a conflict, got {other:?}"),
    }
    assert_eq!(bodies(&everything(journal).await), ["a", "b"]);
}

/// Of many writers that read the same version, exactly one wins, and its event is the one kept.
pub async fn one_of_many_writers_wins(journal: &dyn Journal) {
    for version in 0..20 {
        let attempt = |writer| async move {
            let event = envelope(&format!("{version}-{writer}"));
            journal.append_to(&job("1"), version, vec![event]).await
        };
        // Threads meet anywhere; tasks on one thread meet at every await.
        let outcomes = if version % 2 == 0 {
            race(8, attempt)
        } else {
            futures::future::join_all((0..8).map(attempt)).await
        };
        let mut winners = Vec::new();
        for (writer, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(new) => {
                    assert_eq!(new, version + 1);
                    winners.push(writer);
                }
                Err(JournalError::Conflict { .. }) => {}
                Err(error) => panic!("writer {writer}: {error}"),
            }
        }
        let [winner] = winners.as_slice() else { panic!("one winner, not {winners:?}") };
        let events = journal.read(&job("1"), version, 10).await.expect("read");
        assert_eq!(bodies(&events), [format!("{version}-{winner}")]);
    }
}

/// Writers that retry after a conflict all get their events in, each once.
pub async fn retries_lose_and_repeat_nothing(journal: &dyn Journal) {
    race(4, |writer| async move {
        for n in 0..10 {
            append_with_retry(journal, &job("shared"), &format!("{writer}-{n}")).await;
        }
    });
    let events = journal.read_whole(&job("shared")).await.expect("read");
    let mut found = bodies(&events);
    for writer in 0..4 {
        let prefix = format!("{writer}-");
        let own: Vec<_> = found.iter().filter(|body| body.starts_with(&prefix)).collect();
        let expected: Vec<_> = (0..10).map(|n| format!("{writer}-{n}")).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 40);
}

/// One append writes to several histories and answers their versions in the order given.
pub async fn several_histories_at_once(journal: &dyn Journal) {
    append(journal, &job("2"), 0, &["x"]).await;
    let appends = vec![
        part(&job("3"), 0, &["c", "d"]),
        part(&job("2"), 1, &["y"]),
        part(&HistoryId::new("node", "3").expect("a name"), 0, &["n"]),
    ];
    assert_eq!(journal.append(appends).await.expect("append"), [2, 2, 1]);
    let events = everything(journal).await;
    assert_eq!(bodies(&events), ["x", "c", "d", "y", "n"], "positions follow the order given");
}

/// A conflict in one of several histories leaves all of them as they were.
pub async fn several_histories_or_none(journal: &dyn Journal) {
    append(journal, &job("2"), 0, &["x"]).await;
    let appends = vec![
        part(&job("1"), 0, &["a"]),
        part(&job("2"), 0, &["late"]),
        part(&job("3"), 5, &["later"]),
    ];
    match journal.append(appends).await {
        Err(JournalError::Conflict { history, expected: 0, actual: 1 }) if history == job("2") => {}
        other => panic!("expected the first conflict, in job/2, got {other:?}"),
    }
    assert_eq!(journal.read_whole(&job("1")).await.expect("read"), []);
    assert_eq!(bodies(&everything(journal).await), ["x"]);
    assert_eq!(keys(&journal.list_whole("job").await.expect("list")), ["2"]);
    assert_eq!(append(journal, &job("1"), 0, &["a"]).await, 1, "it can still begin");
}

/// Conflicts among appends that wait together do not disturb those that fit.
pub async fn neighbours_do_not_disturb(journal: &dyn Journal) {
    append(journal, &job("shared"), 0, &["first"]).await;
    let outcomes = race(12, |writer| async move {
        let own = job(&format!("own-{writer}"));
        let shared_at = if writer % 2 == 0 { None } else { Some(0) };
        let mut appends = vec![part(&own, 0, &["own"])];
        appends.extend(shared_at.map(|at| part(&job("shared"), at, &["late"])));
        journal.append(appends).await
    });
    for (writer, outcome) in outcomes.iter().enumerate() {
        let own = journal.read_whole(&job(&format!("own-{writer}"))).await.expect("read");
        match outcome {
            Ok(versions) => {
                assert_eq!((writer % 2, versions.as_slice()), (0, &[1][..]));
                assert_eq!(bodies(&own), ["own"]);
            }
            Err(JournalError::Conflict { expected: 0, actual: 1, .. }) => {
                assert_eq!((writer % 2, own), (1, Vec::new()));
            }
            Err(error) => panic!("writer {writer}: {error}"),
        }
    }
    assert_eq!(bodies(&journal.read_whole(&job("shared")).await.expect("read")), ["first"]);
}

/// One append cannot name a history twice.
pub async fn a_history_named_twice_is_refused(journal: &dyn Journal) {
    let appends = vec![part(&job("1"), 0, &["a"]), part(&job("1"), 1, &["b"])];
    match journal.append(appends).await {
        Err(JournalError::Id(_)) => {}
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert_eq!(everything(journal).await, []);
}

/// What is larger than a limit is refused and writes nothing; what just fits is taken.
pub async fn limits_are_kept(journal: &dyn Journal) {
    let history = job("1");
    let full = vec![envelope(""); APPEND_EVENTS_MAX];
    let mut over = full.clone();
    over.push(envelope(""));
    assert_too_large(journal, over).await;
    // Two quotation marks belong to the text.
    let body = |bytes: usize| Envelope { body: "x".repeat(bytes - 2).into(), ..envelope("") };
    assert_too_large(journal, vec![body(BODY_BYTES_MAX + 1)]).await;
    let kind = |bytes: usize| Envelope { kind: "k".repeat(bytes), ..envelope("") };
    assert_too_large(journal, vec![kind(NAME_BYTES_MAX + 1)]).await;
    let actor = |bytes: usize| Envelope { actor: "a".repeat(bytes), ..envelope("") };
    assert_too_large(journal, vec![actor(NAME_BYTES_MAX + 1)]).await;
    assert_eq!(everything(journal).await, []);

    let fits = vec![body(BODY_BYTES_MAX), kind(NAME_BYTES_MAX), actor(NAME_BYTES_MAX)];
    assert_eq!(journal.append_to(&history, 0, fits.clone()).await.expect("it fits"), 3);
    let events = journal.read_whole(&history).await.expect("read");
    assert!(events.into_iter().map(|event| event.envelope).eq(fits), "as it was written");
    let count = APPEND_EVENTS_MAX as u64;
    assert_eq!(journal.append_to(&job("2"), 0, full.clone()).await.expect("it fits"), count);

    let events = Append { history: job("3"), expected: 0, events: full };
    match journal.append(vec![events, Append::condition(job("4"), 0)]).await {
        Err(JournalError::TooLarge { actual, limit: APPEND_EVENTS_MAX, .. }) => {
            assert_eq!(actual, APPEND_EVENTS_MAX + 1, "a condition counts as one");
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// One read or list answers at most [`READ_MAX`], and none if asked for none.
pub async fn one_answer_is_bounded(journal: &dyn Journal) {
    let history = job("1");
    let full = vec![envelope(""); APPEND_EVENTS_MAX];
    journal.append_to(&history, 0, full).await.expect("append");
    let version = append(journal, &history, APPEND_EVENTS_MAX as u64, &["last"]).await;
    let one = journal.read(&history, 0, usize::MAX).await.expect("read");
    assert_eq!(one.len(), READ_MAX);
    assert_eq!(journal.read_all(0, usize::MAX).await.expect("read").len(), READ_MAX);
    assert_eq!(journal.read_whole(&history).await.expect("read").len() as u64, version);
    assert_eq!(everything(journal).await.len() as u64, version);
    assert_eq!(journal.read(&history, 0, 0).await.expect("read"), []);
    assert_eq!(journal.read_all(0, 0).await.expect("read"), []);
    assert_eq!(journal.list("job", None, 0).await.expect("list"), []);
}

/// One read answers at most [`READ_BYTES_MAX`] of bodies, and never stops at an event.
pub async fn one_answer_is_bounded_in_bytes(journal: &dyn Journal) {
    // As long as JSON text as a body may be: two quotation marks belong to it.
    let large = Envelope { body: "x".repeat(BODY_BYTES_MAX - 2).into(), ..envelope("") };
    let history = job("1");
    for version in [0, 8, 16] {
        let part = vec![large.clone(); 8];
        journal.append_to(&history, version, part).await.expect("append");
    }
    append(journal, &job("2"), 0, &["small"]).await;
    let most = READ_BYTES_MAX / BODY_BYTES_MAX;
    let page = journal.read(&history, 0, usize::MAX).await.expect("read");
    assert_eq!(page.len(), most, "as many as the limit in bytes admits");
    let page = journal.read_all(0, usize::MAX).await.expect("read");
    assert_eq!(page.len(), most, "as many as the limit in bytes admits");
    let whole = journal.read_whole(&history).await.expect("read");
    assert_eq!(whole.len(), 24, "pages that end early are not the end");
    assert!(whole.iter().all(|event| event.envelope == large));
    assert_eq!(everything(journal).await.len(), 25);
}

/// A history is read from after a version, oldest first, in pages.
pub async fn read_pages(journal: &dyn Journal) {
    let history = job("1");
    append(journal, &history, 0, &["a", "b", "c"]).await;
    append(journal, &job("2"), 0, &["x"]).await;
    append(journal, &history, 3, &["d", "e"]).await;
    for (after, limit, expected) in [
        (0, 2, &["a", "b"][..]),
        (2, 2, &["c", "d"]),
        (4, 2, &["e"]),
        (5, 2, &[]),
        (u64::MAX, 2, &[]),
        (1, 100, &["b", "c", "d", "e"]),
    ] {
        let page = journal.read(&history, after, limit).await.expect("read");
        assert_eq!(bodies(&page), expected, "after {after}, at most {limit}");
    }
}

/// The global log holds every event in the order of its positions, and is read in pages.
pub async fn read_all_pages_in_order(journal: &dyn Journal) {
    append(journal, &job("2"), 0, &["a", "b"]).await;
    append(journal, &HistoryId::new("node", "1").expect("a name"), 0, &["c"]).await;
    append(journal, &job("1"), 0, &["d"]).await;
    append(journal, &job("2"), 2, &["e"]).await;
    let all = everything(journal).await;
    assert_eq!(bodies(&all), ["a", "b", "c", "d", "e"]);
    assert_rising(&all);
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map_or(0, |event: &Event| event.position);
        let page = journal.read_all(after, 2).await.expect("read");
        assert!(page.len() <= 2, "at most two");
        if page.is_empty() {
            break;
        }
        paged.extend(page);
        assert!(paged.len() <= all.len(), "each event once: {paged:?}");
    }
    assert_eq!(paged, all);
    assert_eq!(journal.read_all(u64::MAX, 2).await.expect("read"), []);
    let own = journal.read_whole(&job("2")).await.expect("read");
    assert!(own.iter().all(|event| all.contains(event)), "both reads show the same events");
}

/// Whoever reads while others append never finds a lower position later: what it read page by
/// page is what the log holds in the end.
pub async fn positions_become_visible_in_order(journal: &dyn Journal) {
    const WRITERS: usize = 4;
    let writing = AtomicUsize::new(WRITERS);
    let writing = &writing;
    let seen = race(WRITERS + 2, |actor| async move {
        if actor >= WRITERS {
            return follow(journal, "end").await;
        }
        for n in 0..25 {
            let (own, body) = (job(&format!("{actor}")), format!("{actor}-{n}"));
            append(journal, &own, n, &[&body]).await;
            if n % 5 == 0 {
                append_with_retry(journal, &job("shared"), &body).await;
            }
        }
        if writing.fetch_sub(1, Ordering::SeqCst) == 1 {
            append(journal, &job("end"), 0, &["end"]).await;
        }
        Vec::new()
    });
    let all = everything(journal).await;
    assert_eq!(all.len(), WRITERS * 30 + 1);
    for reader in &seen[WRITERS..] {
        let positions = |events: &[Event]| events.iter().map(|e| e.position).collect::<Vec<_>>();
        assert_eq!(positions(reader), positions(&all));
    }
}

/// `wait` answers at once where there is more, and else when there is.
pub async fn wait_wakes_and_answers(journal: &dyn Journal) {
    let mut first = journal.wait(0);
    assert!(futures::poll!(&mut first).is_pending(), "there is nothing to answer");
    append(journal, &job("1"), 0, &["a", "b"]).await;
    let last = everything(journal).await.last().map_or(0, |event| event.position);
    let reached = within(first).await.expect("wait");
    assert!((1..=last).contains(&reached), "{reached} is a position, at most {last}");
    assert_eq!(within(journal.wait(0)).await.expect("wait"), last);
    assert_eq!(within(journal.wait(last - 1)).await.expect("wait"), last);

    let mut second = journal.wait(last);
    assert!(futures::poll!(&mut second).is_pending(), "nothing is after the last");
    append(journal, &job("2"), 0, &["c"]).await;
    let reached = within(second).await.expect("wait");
    let found = journal.read_all(last, 10).await.expect("read");
    assert_eq!(bodies(&found), ["c"], "what wait tells of can be read");
    assert_eq!(reached, found[0].position);
}

/// `list` gives the histories of one kind in the order of their keys' bytes, in pages.
pub async fn list_is_sorted_and_pages(journal: &dyn Journal) {
    let sorted = ["A", "B/c", "a", "a b", "a-1", "aa", "b", "z", "ä", "日本"];
    for key in ["b", "日本", "a-1", "z", "A", "ä", "aa", "a", "B/c", "a b"] {
        append(journal, &job(key), 0, &["x"]).await;
        append(journal, &HistoryId::new("job-2", key).expect("a name"), 0, &["y"]).await;
    }
    append(journal, &job("a"), 1, &["x", "x"]).await;
    let heads = journal.list("job", None, 100).await.expect("list");
    assert_eq!(keys(&heads), sorted);
    assert!(heads.iter().all(|head| head.history.kind() == "job"));
    let versions: Vec<_> = heads.iter().map(|head| head.version).collect();
    assert_eq!(versions, [1, 1, 3, 1, 1, 1, 1, 1, 1, 1]);
    let mut paged: Vec<Head> = Vec::new();
    for _ in 0..sorted.len() {
        let after = paged.last().map(|head| head.history.key().to_owned());
        let page = journal.list("job", after.as_deref(), 3).await.expect("list");
        assert!(page.len() <= 3, "at most three");
        paged.extend(page);
    }
    assert_eq!(paged, heads);
    assert_eq!(keys(&journal.list("job", Some("a!"), 2).await.expect("list")), ["a-1", "aa"]);
    assert_eq!(journal.list("none", None, 10).await.expect("list"), []);
}

/// The snapshot saved last is the one kept, and events are read as before.
pub async fn snapshot_is_kept_and_replaced(journal: &dyn Journal) {
    let history = job("1");
    append(journal, &history, 0, &["a", "b", "c"]).await;
    append(journal, &job("2"), 0, &["x"]).await;
    assert_eq!(journal.snapshot(&history).await.expect("snapshot"), None);
    assert_eq!(journal.snapshot(&job("none")).await.expect("snapshot"), None);
    for (version, format) in [(2, 1), (3, 2), (3, 3), (1, u16::MAX)] {
        let body = json!({ "state": [version, "ü", null], "at": 0.1 });
        let snapshot = Snapshot { version, format, body };
        journal.save_snapshot(&history, snapshot.clone()).await.expect("save");
        assert_eq!(journal.snapshot(&history).await.expect("snapshot"), Some(snapshot));
    }
    assert_eq!(journal.snapshot(&job("2")).await.expect("snapshot"), None);
    assert_eq!(bodies(&journal.read_whole(&history).await.expect("read")), ["a", "b", "c"]);
    assert_eq!(append(journal, &history, 3, &["d"]).await, 4);
    assert!(journal.snapshot(&history).await.expect("snapshot").is_some(), "appends leave it");
}

/// A snapshot of more events than there are is refused and leaves the earlier one.
pub async fn snapshot_ahead_conflicts(journal: &dyn Journal) {
    let history = job("1");
    append(journal, &history, 0, &["a"]).await;
    let snapshot = |version| Snapshot { version, format: 1, body: json!(version) };
    journal.save_snapshot(&history, snapshot(1)).await.expect("save");
    match journal.save_snapshot(&history, snapshot(2)).await {
        Err(JournalError::Conflict { expected: 2, actual: 1, .. }) => {}
        other => panic!("expected a conflict, got {other:?}"),
    }
    for version in [0, 1] {
        match journal.save_snapshot(&job("none"), snapshot(version)).await {
            Err(JournalError::Conflict { actual: 0, .. }) => {}
            other => panic!("expected a conflict, got {other:?}"),
        }
    }
    assert_eq!(journal.snapshot(&history).await.expect("snapshot"), Some(snapshot(1)));
    assert_eq!(journal.snapshot(&job("none")).await.expect("snapshot"), None);
    assert_eq!(keys(&journal.list_whole("job").await.expect("list")), ["1"]);
}

/// Only who knows how many events a history holds can delete it.
pub async fn delete_needs_the_version(journal: &dyn Journal) {
    let history = job("1");
    append(journal, &history, 0, &["a", "b"]).await;
    for wrong in [0, 1, 3] {
        match journal.delete(&history, wrong).await {
            Err(JournalError::Conflict { expected, actual: 2, .. }) if expected == wrong => {}
            other => panic!("expected a conflict at {wrong}, got {other:?}"),
        }
    }
    match journal.delete(&job("none"), 1).await {
        Err(JournalError::Conflict { expected: 1, actual: 0, .. }) => {}
        other => panic!("expected a conflict, got {other:?}"),
    }
    journal.delete(&job("none"), 0).await.expect("there is nothing to delete");
    assert_eq!(bodies(&journal.read_whole(&history).await.expect("read")), ["a", "b"]);
}

/// A deleted history is gone with its snapshot, can begin anew, and gives no position back.
pub async fn delete_forgets_and_reuses_no_position(journal: &dyn Journal) {
    let history = job("1");
    append(journal, &job("2"), 0, &["x"]).await;
    append(journal, &history, 0, &["a", "b"]).await;
    let snapshot = Snapshot { version: 2, format: 1, body: json!("old") };
    journal.save_snapshot(&history, snapshot).await.expect("save");
    let last = everything(journal).await.last().map_or(0, |event| event.position);

    journal.delete(&history, 2).await.expect("delete");
    assert_eq!(journal.read_whole(&history).await.expect("read"), []);
    assert_eq!(journal.snapshot(&history).await.expect("snapshot"), None);
    assert_eq!(bodies(&everything(journal).await), ["x"]);
    assert_eq!(keys(&journal.list_whole("job").await.expect("list")), ["2"]);

    assert_eq!(append(journal, &history, 0, &["new"]).await, 1);
    let events = journal.read_whole(&history).await.expect("read");
    assert_eq!((bodies(&events), events[0].version), (vec!["new".to_owned()], 1));
    assert!(events[0].position > last, "{} was given out before", events[0].position);
    assert_eq!(journal.snapshot(&history).await.expect("snapshot"), None);
    assert_eq!(journal.read_all(last, 10).await.expect("read"), events);
}

/// Every part of an envelope comes back as it was written.
pub async fn envelopes_come_back_exactly(journal: &dyn Journal) {
    let envelopes = odd_envelopes();
    let history = HistoryId::new("odd-1", "ключ/日本 'quoted' \"%_\\").expect("a name");
    let version = journal.append_to(&history, 0, envelopes.clone()).await.expect("append");
    assert_eq!(version, envelopes.len() as u64);
    let events = journal.read_whole(&history).await.expect("read");
    for (event, envelope) in events.iter().zip(&envelopes) {
        assert_eq!(event.history, history);
        assert_eq!(&event.envelope, envelope);
    }
    assert_eq!(events.len(), envelopes.len());
    assert_eq!(everything(journal).await, events);
}

fn odd_envelopes() -> Vec<Envelope> {
    let nanosecond = SignedDuration::from_nanos(1);
    let times = [
        Timestamp::MIN,
        Timestamp::MAX,
        Timestamp::UNIX_EPOCH,
        Timestamp::UNIX_EPOCH - nanosecond,
        Timestamp::UNIX_EPOCH + nanosecond,
        Timestamp::new(1_700_000_000, 123_456_789).expect("a time"),
    ];
    let values = [
        json!(null),
        json!(""),
        json!("a\"b\\c\n\t\u{0}\u{7f}é日本🦀\u{2028}"),
        json!({ "": { "nested": [[], {}, [null, true, false]] }, "ключ": "значение" }),
        json!([0, -1, i64::MIN, i64::MAX, u64::MAX]),
        json!([0.0, 0.1, -2.5, 1e-7, 1e21, f64::MAX, f64::MIN_POSITIVE, 5e-324]),
    ];
    let correlations = [None, Some(CorrelationId(Uuid::from_u128(u128::MAX / 3)))];
    let mut envelopes = Vec::new();
    for (n, (time, body)) in times.into_iter().zip(values).enumerate() {
        envelopes.push(Envelope {
            kind: if n == 0 { String::new() } else { format!("kind {n} ü'\"") },
            format: if n == 0 { u16::MAX } else { n as u16 },
            time,
            actor: if n == 1 { String::new() } else { "DOMAIN\\Jürgen\n<j@example.org>".into() },
            correlation: correlations[n % 2],
            body,
        });
    }
    envelopes
}

/// A history of the suite's usual kind.
fn job(key: &str) -> HistoryId {
    HistoryId::new("job", key).expect("a name")
}

/// An event of which only the body matters.
fn envelope(body: &str) -> Envelope {
    Envelope::new("noted", 1, Timestamp::UNIX_EPOCH, "suite", &body).expect("text is JSON")
}

fn part(history: &HistoryId, expected: u64, bodies: &[&str]) -> Append {
    let events = bodies.iter().map(|body| envelope(body)).collect();
    Append { history: history.clone(), expected, events }
}

async fn append(journal: &dyn Journal, history: &HistoryId, expected: u64, bodies: &[&str]) -> u64 {
    let versions = journal.append(vec![part(history, expected, bodies)]).await;
    let versions = versions.unwrap_or_else(|error| panic!("append to {history}: {error}"));
    let [version] = versions.as_slice() else { panic!("one version, not {versions:?}") };
    *version
}

async fn append_with_retry(journal: &dyn Journal, history: &HistoryId, body: &str) {
    let mut expected = 0;
    loop {
        match journal.append_to(history, expected, vec![envelope(body)]).await {
            Ok(_) => return,
            Err(JournalError::Conflict { actual, .. }) => {
                assert!(actual > expected, "{actual} is not after {expected}");
                expected = actual;
            }
            Err(error) => panic!("append to {history}: {error}"),
        }
    }
}

async fn assert_too_large(journal: &dyn Journal, events: Vec<Envelope>) {
    match journal.append_to(&job("1"), 0, events).await {
        Err(JournalError::TooLarge { actual, limit, .. }) => assert!(actual > limit),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Reads pages of the global log, waiting for more, until an event's body is `last`.
async fn follow(journal: &dyn Journal, last: &str) -> Vec<Event> {
    let mut seen: Vec<Event> = Vec::new();
    loop {
        let after = seen.last().map_or(0, |event| event.position);
        let page = journal.read_all(after, 7).await.expect("read");
        if page.is_empty() {
            within(journal.wait(after)).await.expect("wait");
            continue;
        }
        seen.extend(page);
        assert_rising(&seen);
        if seen.iter().any(|event| event.envelope.body == last) {
            return seen;
        }
    }
}

async fn everything(journal: &dyn Journal) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.position);
        let page = journal.read_all(after, READ_MAX).await.expect("read");
        if page.is_empty() {
            return events;
        }
        events.extend(page);
        assert_rising(&events);
    }
}

fn assert_rising(events: &[Event]) {
    for pair in events.windows(2) {
        assert!(pair[0].position < pair[1].position, "positions rise: {pair:?}");
    }
}

fn bodies(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.envelope.decode().expect("a text")).collect()
}

fn keys(heads: &[Head]) -> Vec<&str> {
    heads.iter().map(|head| head.history.key()).collect()
}

/// Runs `count` actors, each on a thread of its own and all from one moment, and collects what
/// they found.
fn race<T: Send, F: Future<Output = T>>(count: usize, actor: impl Fn(usize) -> F + Sync) -> Vec<T> {
    let runtime = tokio::runtime::Handle::current();
    let start = std::sync::Barrier::new(count);
    let (runtime, actor, start) = (&runtime, &actor, &start);
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let run = move |n| {
                start.wait();
                runtime.block_on(actor(n))
            };
            let threads: Vec<_> = (0..count).map(|n| scope.spawn(move || run(n))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, T>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        })
    })
}

async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(STEP_SECONDS_MAX), step).await.expect("the step ends")
}

/// Hands the list of cases to a macro, so that it is written once.
#[doc(hidden)]
#[macro_export]
macro_rules! journal_cases {
    ($then:ident $(, $argument:tt)*) => {
        $crate::$then! { @each [$($argument)*]
            append_then_read
            versions_count_the_events
            stale_append_conflicts
            one_of_many_writers_wins
            retries_lose_and_repeat_nothing
            several_histories_at_once
            several_histories_or_none
            neighbours_do_not_disturb
            a_history_named_twice_is_refused
            a_condition_alone_is_refused
            a_condition_changes_nothing
            a_failed_condition_writes_nothing
            a_condition_holds_until_the_write
            of_writers_that_exclude_each_other_one_wins
            limits_are_kept
            one_answer_is_bounded
            one_answer_is_bounded_in_bytes
            read_pages
            read_all_pages_in_order
            positions_become_visible_in_order
            wait_wakes_and_answers
            list_is_sorted_and_pages
            snapshot_is_kept_and_replaced
            snapshot_ahead_conflicts
            delete_needs_the_version
            delete_forgets_and_reuses_no_position
            envelopes_come_back_exactly
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! journal_case_table {
    (@each [] $($case:ident)+) => {
        &[$((stringify!($case), |journal| Box::pin($crate::testkit::journal::$case(journal)))),+]
    };
}

/// Every requirement, in the order of the list.
pub const CASES: &[Case] = crate::journal_cases!(journal_case_table);

/// Runs every requirement as a test of its own, each on a journal fresh from the factory: an
/// asynchronous closure that gives an owned one.
///
/// ```
/// # use oms_core::journal::MemoryJournal;
/// # #[cfg(test)]
/// oms_core::journal_conformance!(|| async { MemoryJournal::default() });
/// ```
#[macro_export]
macro_rules! journal_conformance {
    (@each [($make:expr)] $($case:ident)+) => {
        mod conformance {
            #[allow(unused_imports, reason = "the factory may need no imports")]
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::testkit::journal::$case(&($make)().await).await;
            })+
        }
    };
    ($make:expr) => {
        $crate::journal_cases! { journal_conformance, ($make) }
    };
}
