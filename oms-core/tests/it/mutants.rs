//! Journals with one flaw each: every one must fall to a named case of the suite.

use async_trait::async_trait;
use futures::FutureExt;
use jiff::Timestamp;
use oms_core::journal::{
    Append, Envelope, Event, Head, HistoryId, Journal, JournalError, JournalExt, MemoryJournal,
    READ_MAX, Snapshot,
};
use oms_core::testkit::journal::CASES;
use std::panic::AssertUnwindSafe;

/// What a mutant does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    None,
    IgnoresExpected,
    TakesAheadAppends,
    ChecksThenWrites,
    HalfApplies,
    AnswersVersionsUnordered,
    MergesOneHistoryNamedTwice,
    DropsLoneConditions,
    IgnoresConditions,
    BumpsConditions,
    BeginsConditions,
    ChecksConditionsApart,
    CutsLargeBodies,
    TakesTooManyEvents,
    RepeatsPositions,
    ShowsLowerPositionsLater,
    ReadsFromInclusive,
    IgnoresLimit,
    IgnoresBytes,
    ReadsAllUnsorted,
    WaitsForNothing,
    WaitAnswersTheArgument,
    ListUnsorted,
    ListMixesKinds,
    ListIgnoresAfter,
    KeepsFirstSnapshot,
    TakesSnapshotsAhead,
    DeletesAtAnyVersion,
    DeleteKeepsEvents,
    LosesNanoseconds,
    LosesCorrelation,
    LowersActors,
    RoundsNumbers,
    ShowsNothing,
}

#[derive(Debug)]
struct Mutant {
    inner: MemoryJournal,
    flaw: Flaw,
}

impl Mutant {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    async fn version(&self, history: &HistoryId) -> Result<u64, JournalError> {
        Ok(self.inner.read_whole(history).await?.len() as u64)
    }

    async fn append_on_wrong_conditions(
        &self,
        mut appends: Vec<Append>,
    ) -> Result<Vec<u64>, JournalError> {
        let has_events = appends.iter().any(|append| !append.events.is_empty());
        let mut is_met = has_events;
        let conditions = appends.iter_mut().filter(|append| append.events.is_empty());
        for condition in conditions.filter(|_| has_events) {
            let actual = self.version(&condition.history).await?;
            match self.flaw {
                Flaw::IgnoresConditions => condition.expected = actual,
                Flaw::BeginsConditions if condition.expected == actual => {
                    let event = Envelope::new("touched", 1, Timestamp::UNIX_EPOCH, "me", &"");
                    condition.events.push(event?);
                }
                Flaw::ChecksConditionsApart => is_met &= condition.expected == actual,
                _ => {}
            }
        }
        if self.has(Flaw::ChecksConditionsApart) && is_met {
            // Others come in between the check and the write.
            tokio::task::yield_now().await;
            for condition in appends.iter_mut().filter(|append| append.events.is_empty()) {
                condition.expected = self.version(&condition.history).await?;
            }
        }
        let is_bumped =
            |append: &Append| self.has(Flaw::BumpsConditions) && append.events.is_empty();
        let bumps: Vec<u64> = appends.iter().map(|append| u64::from(is_bumped(append))).collect();
        let versions = self.inner.append(appends).await?;
        Ok(versions.into_iter().zip(bumps).map(|(version, bump)| version + bump).collect())
    }

    /// How the flaw changes what is written.
    fn spoil_writes(&self, append: &mut Append) {
        for envelope in &mut append.events {
            match self.flaw {
                Flaw::LosesNanoseconds => {
                    let microseconds = envelope.time.as_microsecond();
                    envelope.time = Timestamp::from_microsecond(microseconds).expect("in range");
                }
                Flaw::LosesCorrelation => envelope.correlation = None,
                Flaw::LowersActors => envelope.actor = envelope.actor.to_lowercase(),
                Flaw::RoundsNumbers => round(&mut envelope.body),
                Flaw::CutsLargeBodies => {
                    if let serde_json::Value::String(text) = &mut envelope.body {
                        text.truncate(1000);
                    }
                }
                _ => {}
            }
        }
    }

    /// How the flaw changes what is read.
    fn spoil_reads(&self, mut events: Vec<Event>) -> Vec<Event> {
        match self.flaw {
            Flaw::RepeatsPositions => {
                events.iter_mut().for_each(|event| event.position = event.version);
            }
            // A page in which one event is missing that a later page shows.
            Flaw::ShowsLowerPositionsLater if events.len() > 2 => {
                events.remove(0);
            }
            Flaw::ShowsNothing => events.clear(),
            Flaw::ReadsAllUnsorted => events.sort_by_key(|event| event.history.clone()),
            _ => {}
        }
        events
    }
}

/// As a store with 64-bit floating point for every number would.
fn round(body: &mut serde_json::Value) {
    match body {
        serde_json::Value::Number(number) => {
            if let Some(float) = number.as_f64() {
                *body = float.into();
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(round),
        _ => {}
    }
}

#[async_trait]
impl Journal for Mutant {
    async fn append(&self, mut appends: Vec<Append>) -> Result<Vec<u64>, JournalError> {
        for append in &mut appends {
            self.spoil_writes(append);
            let actual = self.version(&append.history).await?;
            match self.flaw {
                Flaw::IgnoresExpected => append.expected = actual,
                Flaw::TakesAheadAppends => append.expected = append.expected.min(actual),
                Flaw::ChecksThenWrites if append.expected == actual => {
                    // Others come in between the check and the write.
                    tokio::task::yield_now().await;
                    append.expected = self.version(&append.history).await?;
                }
                _ => {}
            }
        }
        match self.flaw {
            Flaw::HalfApplies => {
                let mut versions = Vec::new();
                for append in appends {
                    versions.extend(self.inner.append(vec![append]).await?);
                }
                Ok(versions)
            }
            Flaw::AnswersVersionsUnordered => {
                let mut versions = self.inner.append(appends).await?;
                versions.sort_unstable();
                Ok(versions)
            }
            Flaw::MergesOneHistoryNamedTwice => {
                let mut merged: Vec<Append> = Vec::new();
                for append in appends {
                    match merged.iter_mut().find(|other| other.history == append.history) {
                        Some(other) => other.events.extend(append.events),
                        None => merged.push(append),
                    }
                }
                self.inner.append(merged).await
            }
            Flaw::DropsLoneConditions => {
                if appends.iter().all(|append| append.events.is_empty()) {
                    return Ok(appends.iter().map(|append| append.expected).collect());
                }
                self.inner.append(appends).await
            }
            Flaw::IgnoresConditions
            | Flaw::BumpsConditions
            | Flaw::BeginsConditions
            | Flaw::ChecksConditionsApart => self.append_on_wrong_conditions(appends).await,
            Flaw::TakesTooManyEvents => {
                let mut versions = Vec::new();
                for Append { history, mut expected, mut events } in appends {
                    while events.len() > READ_MAX {
                        let rest = events.split_off(READ_MAX);
                        expected = self.inner.append_to(&history, expected, events).await?;
                        events = rest;
                    }
                    versions.push(self.inner.append_to(&history, expected, events).await?);
                }
                Ok(versions)
            }
            _ => self.inner.append(appends).await,
        }
    }

    async fn read(
        &self,
        history: &HistoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        let after =
            if self.has(Flaw::ReadsFromInclusive) { after.saturating_sub(1) } else { after };
        let limit = if self.has(Flaw::IgnoresLimit) { READ_MAX } else { limit };
        let mut events = self.inner.read(history, after, limit).await?;
        if self.has(Flaw::IgnoresBytes) {
            let mut after = events.last().map_or(after, |event| event.version);
            while events.len() < limit.min(READ_MAX) {
                let more = self.inner.read(history, after, limit - events.len()).await?;
                let Some(last) = more.last() else { break };
                after = last.version;
                events.extend(more);
            }
        }
        Ok(if self.has(Flaw::ShowsNothing) { Vec::new() } else { events })
    }

    async fn read_all(&self, after: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        let limit = if self.has(Flaw::IgnoresLimit) { READ_MAX } else { limit };
        Ok(self.spoil_reads(self.inner.read_all(after, limit).await?))
    }

    async fn wait(&self, after: u64) -> Result<u64, JournalError> {
        match self.flaw {
            Flaw::WaitsForNothing => Ok(after + 1),
            Flaw::WaitAnswersTheArgument => self.inner.wait(after).await.map(|_position| after),
            _ => self.inner.wait(after).await,
        }
    }

    async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, JournalError> {
        let after = if self.has(Flaw::ListIgnoresAfter) { None } else { after };
        let mut heads = self.inner.list(kind, after, limit).await?;
        match self.flaw {
            Flaw::ListUnsorted => heads.sort_by_key(|head| head.history.key().to_lowercase()),
            Flaw::ListMixesKinds => {
                heads.extend(self.inner.list(&format!("{kind}-2"), after, limit).await?);
            }
            _ => {}
        }
        Ok(heads)
    }

    async fn save_snapshot(
        &self,
        history: &HistoryId,
        mut snapshot: Snapshot,
    ) -> Result<(), JournalError> {
        match self.flaw {
            Flaw::KeepsFirstSnapshot if self.inner.snapshot(history).await?.is_some() => {
                return Ok(());
            }
            Flaw::TakesSnapshotsAhead => {
                snapshot.version = snapshot.version.min(self.version(history).await?);
            }
            _ => {}
        }
        self.inner.save_snapshot(history, snapshot).await
    }

    async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError> {
        self.inner.snapshot(history).await
    }

    async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
        match self.flaw {
            Flaw::DeletesAtAnyVersion => {
                let actual = self.version(history).await?;
                self.inner.delete(history, actual).await
            }
            Flaw::DeleteKeepsEvents => {
                let actual = self.version(history).await?;
                if actual == expected {
                    return Ok(());
                }
                self.inner.delete(history, expected).await
            }
            _ => self.inner.delete(history, expected).await,
        }
    }
}

/// Whether `flaw` fails the case called `name`.
async fn is_caught(flaw: Flaw, name: &str) -> bool {
    let (_, case) = CASES.iter().find(|(case, _)| *case == name).expect("there is such a case");
    let mutant = Mutant { inner: MemoryJournal::default(), flaw };
    AssertUnwindSafe(case(&mutant)).catch_unwind().await.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_journal_passes_every_case() {
    for (name, _) in CASES {
        assert!(!is_caught(Flaw::None, name).await, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flaw_is_caught_by_the_case_that_names_it() {
    let expected = [
        (Flaw::IgnoresExpected, "stale_append_conflicts"),
        (Flaw::TakesAheadAppends, "stale_append_conflicts"),
        (Flaw::ChecksThenWrites, "one_of_many_writers_wins"),
        (Flaw::HalfApplies, "several_histories_or_none"),
        (Flaw::HalfApplies, "neighbours_do_not_disturb"),
        (Flaw::AnswersVersionsUnordered, "several_histories_at_once"),
        (Flaw::MergesOneHistoryNamedTwice, "a_history_named_twice_is_refused"),
        (Flaw::DropsLoneConditions, "a_condition_alone_is_refused"),
        (Flaw::IgnoresConditions, "a_failed_condition_writes_nothing"),
        (Flaw::BumpsConditions, "a_condition_changes_nothing"),
        (Flaw::BeginsConditions, "a_condition_changes_nothing"),
        (Flaw::ChecksConditionsApart, "a_condition_holds_until_the_write"),
        (Flaw::ChecksConditionsApart, "of_writers_that_exclude_each_other_one_wins"),
        (Flaw::CutsLargeBodies, "limits_are_kept"),
        (Flaw::TakesTooManyEvents, "limits_are_kept"),
        (Flaw::RepeatsPositions, "read_all_pages_in_order"),
        (Flaw::ShowsLowerPositionsLater, "positions_become_visible_in_order"),
        (Flaw::ReadsFromInclusive, "read_pages"),
        (Flaw::IgnoresLimit, "one_answer_is_bounded"),
        (Flaw::IgnoresLimit, "read_pages"),
        (Flaw::IgnoresBytes, "one_answer_is_bounded_in_bytes"),
        (Flaw::ReadsAllUnsorted, "read_all_pages_in_order"),
        (Flaw::WaitsForNothing, "wait_wakes_and_answers"),
        (Flaw::WaitAnswersTheArgument, "wait_wakes_and_answers"),
        (Flaw::ListUnsorted, "list_is_sorted_and_pages"),
        (Flaw::ListMixesKinds, "list_is_sorted_and_pages"),
        (Flaw::ListIgnoresAfter, "list_is_sorted_and_pages"),
        (Flaw::KeepsFirstSnapshot, "snapshot_is_kept_and_replaced"),
        (Flaw::TakesSnapshotsAhead, "snapshot_ahead_conflicts"),
        (Flaw::DeletesAtAnyVersion, "delete_needs_the_version"),
        (Flaw::DeleteKeepsEvents, "delete_forgets_and_reuses_no_position"),
        (Flaw::LosesNanoseconds, "envelopes_come_back_exactly"),
        (Flaw::LosesCorrelation, "envelopes_come_back_exactly"),
        (Flaw::LowersActors, "envelopes_come_back_exactly"),
        (Flaw::RoundsNumbers, "envelopes_come_back_exactly"),
    ];
    for (flaw, case) in expected {
        assert!(is_caught(flaw, case).await, "{flaw:?} got past {case}");
    }
    let unused = CASES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !expected.iter().any(|(_, case)| case == name));
    // A journal that shows nothing at all falls to each of the others.
    for name in unused {
        assert!(is_caught(Flaw::ShowsNothing, name).await, "{name}");
    }
}
