//! Sinks, actions and key providers with one flaw each: every one must fall to a named case.

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use oms_core::action::{Action, ActionError, ActionOutcome};
use oms_core::entropy::SeededEntropy;
use oms_core::id::ActionId;
use oms_core::record::{Batch, RecordSink, SinkError, Value};
use oms_core::secret::{FileKeyProvider, KeyError, KeyProvider, Secret};
use oms_core::testkit::action::{self, Call, TestedAction};
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::key;
use oms_core::testkit::sink::{self, MemorySink, ReadableSink};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SinkFlaw {
    None,
    LosesTheLastRecord,
    WritesRepeats,
    RemembersOnlyTheLastSequence,
    MixesProducers,
    RefusesEmptyBatches,
    ChecksThenWrites,
    KeepsPartsOfRefusedBatches,
}

#[derive(Debug)]
struct FlawedSink {
    inner: MemorySink,
    flaw: SinkFlaw,
    written: Mutex<BTreeMap<String, Vec<u64>>>,
    lives: AtomicUsize,
}

impl FlawedSink {
    fn new(flaw: SinkFlaw) -> Self {
        let (written, lives) = (Mutex::default(), AtomicUsize::new(0));
        Self { inner: MemorySink::default(), flaw, written, lives }
    }

    /// Writes whatever the sequence is.
    async fn force(&self, mut batch: Batch) -> Result<(), SinkError> {
        batch.producer = format!("life {}", self.lives.fetch_add(1, Ordering::Relaxed));
        self.inner.write(batch).await
    }

    fn written(&self, batch: &Batch) -> Vec<u64> {
        let written = self.written.lock().expect("not poisoned");
        written.get(&batch.producer).cloned().unwrap_or_default()
    }

    fn note(&self, batch: &Batch) {
        let mut written = self.written.lock().expect("not poisoned");
        written.entry(batch.producer.clone()).or_default().push(batch.sequence);
    }
}

#[async_trait]
impl RecordSink for FlawedSink {
    async fn write(&self, mut batch: Batch) -> Result<(), SinkError> {
        match self.flaw {
            SinkFlaw::None => {}
            SinkFlaw::LosesTheLastRecord => drop(batch.records.pop()),
            SinkFlaw::WritesRepeats => return self.force(batch).await,
            SinkFlaw::RemembersOnlyTheLastSequence => {
                if self.written(&batch).last() == Some(&batch.sequence) {
                    return Ok(());
                }
                self.note(&batch);
                return self.force(batch).await;
            }
            SinkFlaw::MixesProducers => batch.producer = batch.producer.trim().to_lowercase(),
            SinkFlaw::RefusesEmptyBatches if batch.records.is_empty() => {
                let Batch { producer, sequence, .. } = batch;
                return Err(SinkError::Refused { producer, sequence, reason: "empty".to_owned() });
            }
            SinkFlaw::RefusesEmptyBatches => {}
            SinkFlaw::ChecksThenWrites => {
                if self.written(&batch).contains(&batch.sequence) {
                    return Ok(());
                }
                tokio::task::yield_now().await;
                self.note(&batch);
                return self.force(batch).await;
            }
            SinkFlaw::KeepsPartsOfRefusedBatches => {
                let is_good = |value: Option<&Value>| matches!(value, Some(Value::Real(_)));
                let count = batch.records.len();
                let (producer, sequence) = (batch.producer.clone(), batch.sequence);
                batch.records.retain(|record| is_good(record.fields.get("CounterValue")));
                let is_refused = batch.records.len() < count;
                self.inner.write(batch).await?;
                if is_refused {
                    let reason = "a text for a number".to_owned();
                    return Err(SinkError::Refused { producer, sequence, reason });
                }
                return Ok(());
            }
        }
        self.inner.write(batch).await
    }
}

impl ReadableSink for FlawedSink {
    fn numbers(&self) -> BoxFuture<'_, Vec<u64>> {
        self.inner.numbers()
    }
}

async fn is_sink_caught(flaw: SinkFlaw, name: &str) -> bool {
    let (_, case) = sink::CASES.iter().find(|(case, _)| *case == name).expect("such a case");
    let sink = FlawedSink::new(flaw);
    AssertUnwindSafe(case(&sink)).catch_unwind().await.is_err()
}

#[tokio::test]
async fn every_flaw_of_a_sink_is_caught() {
    for (name, _) in sink::CASES {
        assert!(!is_sink_caught(SinkFlaw::None, name).await, "{name}");
    }
    let expected = [
        (SinkFlaw::LosesTheLastRecord, "what_is_acknowledged_is_there"),
        (SinkFlaw::WritesRepeats, "a_repeat_adds_nothing"),
        (SinkFlaw::RemembersOnlyTheLastSequence, "a_repeat_adds_nothing"),
        (SinkFlaw::MixesProducers, "producers_count_apart"),
        (SinkFlaw::RefusesEmptyBatches, "an_empty_batch_counts"),
        (SinkFlaw::ChecksThenWrites, "repeats_at_once_are_written_once"),
        (SinkFlaw::KeepsPartsOfRefusedBatches, "a_refused_batch_leaves_nothing"),
    ];
    for (flaw, case) in expected {
        assert!(is_sink_caught(flaw, case).await, "{flaw:?} got past {case}");
    }
    for (name, _) in sink::CASES {
        assert!(expected.iter().any(|(_, case)| case == name), "{name} catches nothing");
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ActionFlaw {
    None,
    StartsTwice,
    ChecksThenStarts,
    ForgetsKeys,
    ForgetsOutcomes,
    TellsNoReason,
    NeverCancels,
    CancelsWhatEnded,
    StartsUnknownNames,
    AnswersForUnknownIds,
}

/// Actions in memory that end at once, or wait.
#[derive(Debug)]
struct MemoryAction {
    flaw: ActionFlaw,
    keys: Mutex<BTreeMap<String, ActionId>>,
    outcomes: Mutex<BTreeMap<ActionId, ActionOutcome>>,
    started: AtomicUsize,
}

impl MemoryAction {
    fn new(flaw: ActionFlaw) -> Self {
        let (keys, outcomes) = (Mutex::default(), Mutex::default());
        Self { flaw, keys, outcomes, started: AtomicUsize::new(0) }
    }

    fn find(&self, id: ActionId) -> Result<ActionOutcome, ActionError> {
        let outcomes = self.outcomes.lock().expect("not poisoned");
        match outcomes.get(&id) {
            Some(outcome) => Ok(outcome.clone()),
            None if self.flaw == ActionFlaw::AnswersForUnknownIds => Ok(ActionOutcome::Pending),
            None => Err(ActionError::NotFound { name: id.to_string() }),
        }
    }
}

#[async_trait]
impl Action for MemoryAction {
    async fn start(
        &self,
        key: &str,
        name: &str,
        _parameters: BTreeMap<String, serde_json::Value>,
    ) -> Result<ActionId, ActionError> {
        let reason = match self.flaw {
            ActionFlaw::TellsNoReason => String::new(),
            _ => "as it was told".to_owned(),
        };
        let outcome = match name {
            "good" => ActionOutcome::Succeeded { output: "done".to_owned() },
            "bad" => ActionOutcome::Failed { reason },
            "waits" => ActionOutcome::Pending,
            _ if self.flaw == ActionFlaw::StartsUnknownNames => ActionOutcome::Pending,
            _ => return Err(ActionError::NotFound { name: name.to_owned() }),
        };
        let known = || self.keys.lock().expect("not poisoned").get(key).copied();
        if let Some(id) = known().filter(|_| self.flaw != ActionFlaw::StartsTwice) {
            return Ok(id);
        }
        if self.flaw == ActionFlaw::ChecksThenStarts {
            tokio::task::yield_now().await;
        }
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let id = ActionId(Uuid::from_u128(1 + number as u128));
        self.keys.lock().expect("not poisoned").insert(key.to_owned(), id);
        self.outcomes.lock().expect("not poisoned").insert(id, outcome);
        Ok(id)
    }

    async fn outcome(&self, id: ActionId) -> Result<ActionOutcome, ActionError> {
        self.find(id)
    }

    async fn cancel(&self, id: ActionId) -> Result<(), ActionError> {
        let outcome = self.find(id)?;
        let is_cancelled = match self.flaw {
            ActionFlaw::NeverCancels => false,
            ActionFlaw::CancelsWhatEnded => true,
            _ => outcome == ActionOutcome::Pending,
        };
        if is_cancelled {
            let mut outcomes = self.outcomes.lock().expect("not poisoned");
            outcomes.insert(id, ActionOutcome::Cancelled);
        }
        Ok(())
    }
}

impl TestedAction for MemoryAction {
    fn succeeding(&self) -> Call {
        ("good", BTreeMap::new())
    }

    fn failing(&self) -> Call {
        ("bad", BTreeMap::new())
    }

    fn waiting(&self) -> Call {
        ("waits", BTreeMap::new())
    }

    fn settle(&self, _id: ActionId) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn started(&self) -> BoxFuture<'_, usize> {
        Box::pin(std::future::ready(self.started.load(Ordering::Relaxed)))
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        match self.flaw {
            ActionFlaw::ForgetsKeys => self.keys.lock().expect("not poisoned").clear(),
            ActionFlaw::ForgetsOutcomes => {
                let mut outcomes = self.outcomes.lock().expect("not poisoned");
                outcomes.values_mut().for_each(|outcome| *outcome = ActionOutcome::Pending);
            }
            _ => {}
        }
        Box::pin(std::future::ready(()))
    }
}

async fn is_action_caught(flaw: ActionFlaw, name: &str) -> bool {
    let (_, case) = action::CASES.iter().find(|(case, _)| *case == name).expect("such a case");
    let action = MemoryAction::new(flaw);
    AssertUnwindSafe(case(&action)).catch_unwind().await.is_err()
}

#[tokio::test]
async fn every_flaw_of_an_action_is_caught() {
    for (name, _) in action::CASES {
        assert!(!is_action_caught(ActionFlaw::None, name).await, "{name}");
    }
    let expected = [
        (ActionFlaw::StartsTwice, "a_key_starts_once"),
        (ActionFlaw::ChecksThenStarts, "a_key_starts_once"),
        (ActionFlaw::ForgetsKeys, "a_key_starts_once"),
        (ActionFlaw::ForgetsOutcomes, "an_outcome_is_told_and_stays"),
        (ActionFlaw::TellsNoReason, "an_outcome_is_told_and_stays"),
        (ActionFlaw::NeverCancels, "a_cancelled_action_ends"),
        (ActionFlaw::CancelsWhatEnded, "cancelling_what_ended_changes_nothing"),
        (ActionFlaw::StartsUnknownNames, "the_unknown_is_not_found"),
        (ActionFlaw::AnswersForUnknownIds, "the_unknown_is_not_found"),
    ];
    for (flaw, case) in expected {
        assert!(is_action_caught(flaw, case).await, "{flaw:?} got past {case}");
    }
    for (name, _) in action::CASES {
        assert!(expected.iter().any(|(_, case)| case == name), "{name} catches nothing");
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum KeyFlaw {
    None,
    IgnoresContext,
    WrapsTheSameWay,
    ShowsTheKey,
    TakesLongerBytes,
    HasOneKeyForAll,
    LosesEmptyKeys,
}

#[derive(Debug)]
struct FlawedKey {
    inner: FileKeyProvider,
    flaw: KeyFlaw,
}

impl FlawedKey {
    fn new(flaw: KeyFlaw, seed: u64) -> Self {
        let seed = if flaw == KeyFlaw::HasOneKeyForAll { 1 } else { seed };
        let entropy = Arc::new(SeededEntropy::new(seed));
        let inner = FileKeyProvider::create(&SimDisk::default(), entropy).expect("a key");
        Self { inner, flaw }
    }

    fn context<'a>(&self, context: &'a [u8]) -> &'a [u8] {
        if self.flaw == KeyFlaw::IgnoresContext { b"" } else { context }
    }
}

impl KeyProvider for FlawedKey {
    fn wrap_key(&self, key: &Secret, context: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self.flaw {
            KeyFlaw::WrapsTheSameWay => {
                let fresh = Self::new(KeyFlaw::None, 1);
                fresh.wrap_key(key, context)
            }
            KeyFlaw::ShowsTheKey => {
                let mut wrapped = self.inner.wrap_key(key, context)?;
                wrapped.extend(key.expose());
                Ok(wrapped)
            }
            _ => self.inner.wrap_key(key, self.context(context)),
        }
    }

    fn unwrap_key(&self, wrapped: &[u8], context: &[u8]) -> Result<Secret, KeyError> {
        match self.flaw {
            KeyFlaw::WrapsTheSameWay => Self::new(KeyFlaw::None, 1).unwrap_key(wrapped, context),
            KeyFlaw::ShowsTheKey => {
                let end = wrapped.len().saturating_sub(32);
                self.inner.unwrap_key(&wrapped[..end], context)
            }
            KeyFlaw::TakesLongerBytes => self.inner.unwrap_key(wrapped, context).or_else(|error| {
                let shorter = wrapped.len().checked_sub(1).map(|end| &wrapped[..end]);
                shorter.map_or(Err(error), |bytes| self.inner.unwrap_key(bytes, context))
            }),
            KeyFlaw::LosesEmptyKeys => {
                let key = self.inner.unwrap_key(wrapped, context)?;
                if key.expose().is_empty() { Err(KeyError::Refused) } else { Ok(key) }
            }
            _ => self.inner.unwrap_key(wrapped, self.context(context)),
        }
    }
}

fn is_key_caught(flaw: KeyFlaw, name: &str) -> bool {
    let (_, case) = key::CASES.iter().find(|(case, _)| *case == name).expect("such a case");
    let (first, second) = (FlawedKey::new(flaw, 1), FlawedKey::new(flaw, 2));
    catch_unwind(AssertUnwindSafe(|| case(&first, &second))).is_err()
}

#[test]
fn every_flaw_of_a_key_provider_is_caught() {
    for (name, _) in key::CASES {
        assert!(!is_key_caught(KeyFlaw::None, name), "{name}");
    }
    let expected = [
        (KeyFlaw::LosesEmptyKeys, "what_is_wrapped_unwraps"),
        (KeyFlaw::WrapsTheSameWay, "wrapped_bytes_tell_nothing"),
        (KeyFlaw::ShowsTheKey, "wrapped_bytes_tell_nothing"),
        (KeyFlaw::IgnoresContext, "another_context_is_refused"),
        (KeyFlaw::TakesLongerBytes, "changed_bytes_are_refused"),
        (KeyFlaw::HasOneKeyForAll, "another_key_is_refused"),
    ];
    for (flaw, case) in expected {
        assert!(is_key_caught(flaw, case), "{flaw:?} got past {case}");
    }
    for (name, _) in key::CASES {
        assert!(expected.iter().any(|(_, case)| case == name), "{name} catches nothing");
    }
}
