use super::{
    Append, Event, Head, HistoryId, Journal, JournalError, PageBytes, READ_MAX, Snapshot,
    check_append, check_snapshot, json_bytes,
};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A [`Journal`] that forgets when dropped.
#[derive(Debug)]
pub struct MemoryJournal {
    state: Mutex<State>,
    head: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    log: BTreeMap<u64, Event>,
    histories: BTreeMap<HistoryId, History>,
    last_position: u64,
}

#[derive(Debug, Default)]
struct History {
    positions: Vec<u64>,
    snapshot: Option<Snapshot>,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self { state: Mutex::default(), head: watch::Sender::new(0) }
    }
}

impl MemoryJournal {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn version(&self, history: &HistoryId) -> u64 {
        self.histories.get(history).map_or(0, |h| h.positions.len() as u64)
    }

    fn check_version(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
        let actual = self.version(history);
        if actual == expected {
            return Ok(());
        }
        Err(JournalError::Conflict { history: history.clone(), expected, actual })
    }

    fn push(&mut self, append: Append) -> u64 {
        let Append { history, expected, events } = append;
        if events.is_empty() {
            return expected;
        }
        let entry = self.histories.entry(history.clone()).or_default();
        for envelope in events {
            self.last_position += 1;
            entry.positions.push(self.last_position);
            let version = entry.positions.len() as u64;
            let event =
                Event { position: self.last_position, history: history.clone(), version, envelope };
            self.log.insert(self.last_position, event);
        }
        entry.positions.len() as u64
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<u64>, JournalError> {
        check_append(&appends)?;
        let mut state = self.lock();
        for append in &appends {
            state.check_version(&append.history, append.expected)?;
        }
        let versions = appends.into_iter().map(|append| state.push(append)).collect();
        self.head.send_replace(state.last_position);
        Ok(versions)
    }

    async fn read(
        &self,
        history: &HistoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        let state = self.lock();
        let Some(entry) = state.histories.get(history) else { return Ok(Vec::new()) };
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        let positions = entry.positions.iter().skip(after).take(limit.min(READ_MAX));
        page(positions.filter_map(|position| state.log.get(position)))
    }

    async fn read_all(&self, after: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        let state = self.lock();
        let range = state.log.range((Bound::Excluded(after), Bound::Unbounded));
        page(range.take(limit.min(READ_MAX)).map(|(_, event)| event))
    }

    async fn wait(&self, after: u64) -> Result<u64, JournalError> {
        let mut head = self.head.subscribe();
        let reached = head.wait_for(|position| *position > after).await;
        reached
            .map(|position| *position)
            .map_err(|closed| JournalError::Unavailable { reason: closed.to_string() })
    }

    async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, JournalError> {
        let state = self.lock();
        let of_kind = state.histories.iter().filter(|(history, entry)| {
            history.kind() == kind
                && after.is_none_or(|after| history.key() > after)
                && !entry.positions.is_empty()
        });
        let heads = of_kind.take(limit.min(READ_MAX)).map(|(history, entry)| Head {
            history: history.clone(),
            version: entry.positions.len() as u64,
        });
        Ok(heads.collect())
    }

    async fn save_snapshot(
        &self,
        history: &HistoryId,
        snapshot: Snapshot,
    ) -> Result<(), JournalError> {
        check_snapshot(&snapshot)?;
        let mut state = self.lock();
        let actual = state.version(history);
        match state.histories.get_mut(history) {
            Some(entry) if snapshot.version <= actual => {
                entry.snapshot = Some(snapshot);
                Ok(())
            }
            _ => Err(JournalError::Conflict {
                history: history.clone(),
                expected: snapshot.version,
                actual,
            }),
        }
    }

    async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError> {
        Ok(self.lock().histories.get(history).and_then(|entry| entry.snapshot.clone()))
    }

    async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
        let mut state = self.lock();
        state.check_version(history, expected)?;
        if let Some(entry) = state.histories.remove(history) {
            for position in entry.positions {
                state.log.remove(&position);
            }
        }
        Ok(())
    }
}

/// As many of the events as one read returns.
fn page<'a>(events: impl Iterator<Item = &'a Event>) -> Result<Vec<Event>, JournalError> {
    let (mut page, mut bytes) = (Vec::new(), PageBytes::default());
    for event in events {
        if !bytes.admit(json_bytes(&event.envelope.kind, &event.envelope.body)?) {
            break;
        }
        page.push(event.clone());
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::journal_conformance!(|| async { MemoryJournal::default() });
}
