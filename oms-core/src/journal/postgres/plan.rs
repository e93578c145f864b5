//! What a group of requests does, decided before anything is written. It knows no server.

use crate::journal::queue::{Answer, Work};
use crate::journal::row::{AppendRows, EventRow, SnapshotRow};
use crate::journal::{HistoryId, JournalError};
use std::collections::BTreeMap;

/// A history as it is stored, or as the group leaves it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    /// Its number in the tables; none before its first event.
    pub(super) id: Option<u64>,
    /// How many events it holds.
    pub(super) version: u64,
}

/// One event in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<'a> {
    pub(super) position: u64,
    pub(super) history: u64,
    pub(super) event: &'a EventRow,
}

/// The rows that a group changes, while requests are added one after the other.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The last position given out.
    pub(super) head: u64,
    /// The last number given to a history.
    pub(super) histories: u64,
    stored: BTreeMap<HistoryId, Entry>,
    /// Histories that get events, as they become.
    pub(super) changed: BTreeMap<&'a HistoryId, Entry>,
    pub(super) events: Vec<Placed<'a>>,
    /// The last snapshot of each history, by its number.
    pub(super) snapshots: BTreeMap<u64, &'a SnapshotRow>,
    /// The history to delete.
    pub(super) deleted: Option<u64>,
}

impl<'a> Plan<'a> {
    /// Nothing yet, over what is stored of every history that the group names.
    pub(super) const fn new(head: u64, histories: u64, stored: BTreeMap<HistoryId, Entry>) -> Self {
        Self {
            head,
            histories,
            stored,
            changed: BTreeMap::new(),
            events: Vec::new(),
            snapshots: BTreeMap::new(),
            deleted: None,
        }
    }

    /// Whether nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.snapshots.is_empty() && self.deleted.is_none()
    }

    /// Adds a request, or answers why it comes to nothing. A deletion is the only request of its
    /// group.
    pub(super) fn add(&mut self, work: &'a Work) -> Answer {
        match work {
            Work::Append(appends) => self.append(appends),
            Work::Snapshot(history, snapshot) => self.save_snapshot(history, snapshot),
            Work::Delete(history, expected) => self.delete(history, *expected),
        }
    }

    fn entry(&self, history: &HistoryId) -> Entry {
        let changed = self.changed.get(history).or_else(|| self.stored.get(history));
        changed.copied().unwrap_or_default()
    }

    fn check(&self, history: &HistoryId, expected: u64) -> Result<Entry, JournalError> {
        let entry = self.entry(history);
        if entry.version == expected {
            return Ok(entry);
        }
        Err(conflict(history, expected, entry.version))
    }

    /// All appends or none. One without events is a condition: it leaves its history as it is.
    fn append(&mut self, appends: &'a [AppendRows]) -> Answer {
        for append in appends {
            self.check(&append.history, append.expected)?;
        }
        let mut versions = Vec::with_capacity(appends.len());
        for append in appends {
            let entry = self.entry(&append.history);
            let version = entry.version + append.events.len() as u64;
            versions.push(version);
            if append.events.is_empty() {
                continue;
            }
            let id = entry.id.unwrap_or_else(|| {
                self.histories += 1;
                self.histories
            });
            self.changed.insert(&append.history, Entry { id: Some(id), version });
            for event in &append.events {
                self.head += 1;
                self.events.push(Placed { position: self.head, history: id, event });
            }
        }
        Ok(versions)
    }

    fn save_snapshot(&mut self, history: &'a HistoryId, snapshot: &'a SnapshotRow) -> Answer {
        match self.entry(history) {
            Entry { id: Some(id), version } if version >= snapshot.version => {
                self.snapshots.insert(id, snapshot);
                Ok(Vec::new())
            }
            Entry { version, .. } => Err(conflict(history, snapshot.version, version)),
        }
    }

    fn delete(&mut self, history: &HistoryId, expected: u64) -> Answer {
        self.deleted = self.check(history, expected)?.id;
        Ok(Vec::new())
    }
}

fn conflict(history: &HistoryId, expected: u64, actual: u64) -> JournalError {
    JournalError::Conflict { history: history.clone(), expected, actual }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Append, Envelope, Snapshot};
    use jiff::Timestamp;
    use serde_json::json;

    fn job(key: &str) -> HistoryId {
        HistoryId::new("job", key).expect("a name")
    }

    fn append(parts: &[(&str, u64, usize)]) -> Work {
        let event = Envelope::new("noted", 1, Timestamp::UNIX_EPOCH, "me", &()).expect("a body");
        let rows = parts.iter().map(|(key, expected, count)| {
            let events = vec![event.clone(); *count];
            AppendRows::encode(Append { history: job(key), expected: *expected, events })
                .expect("rows")
        });
        Work::Append(rows.collect())
    }

    fn snapshot(key: &str, version: u64) -> Work {
        let snapshot = Snapshot { version, format: 1, body: json!(version) };
        Work::Snapshot(job(key), SnapshotRow::encode(&job(key), &snapshot).expect("a row"))
    }

    fn stored() -> BTreeMap<HistoryId, Entry> {
        let entry = |id, version| Entry { id: Some(id), version };
        BTreeMap::from([(job("a"), entry(3, 2)), (job("b"), entry(5, 1))])
    }

    fn summary(answer: Answer) -> String {
        match answer {
            Ok(versions) => format!("{versions:?}"),
            Err(JournalError::Conflict { history, expected, actual }) => {
                format!("{history} {expected} {actual}")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn later_requests_see_what_earlier_ones_leave() {
        let group = [
            append(&[("a", 2, 2), ("new", 0, 1)]),
            append(&[("a", 2, 1)]),
            append(&[("new", 1, 1), ("b", 7, 1)]),
            append(&[("new", 1, 1)]),
            snapshot("new", 2),
            snapshot("new", 3),
            snapshot("none", 0),
        ];
        let mut plan = Plan::new(10, 5, stored());
        let answers: Vec<_> = group.iter().map(|work| summary(plan.add(work))).collect();
        let expected =
            ["[4, 1]", "job/a 2 4", "job/b 7 1", "[2]", "[]", "job/new 3 2", "job/none 0 0"];
        assert_eq!(answers, expected);
        let placed: Vec<_> =
            plan.events.iter().map(|at| (at.position, at.history, at.event.version)).collect();
        assert_eq!(placed, [(11, 3, 3), (12, 3, 4), (13, 6, 1), (14, 6, 2)]);
        assert_eq!((plan.head, plan.histories), (14, 6));
        assert_eq!(plan.changed[&job("a")], Entry { id: Some(3), version: 4 });
        assert_eq!(plan.changed[&job("new")], Entry { id: Some(6), version: 2 });
        assert_eq!(plan.changed.len(), 2);
        assert_eq!(plan.snapshots.keys().collect::<Vec<_>>(), [&6]);
    }

    #[test]
    fn an_append_without_events_is_a_condition() {
        let group = [
            append(&[("a", 2, 0), ("none", 0, 0), ("b", 1, 1)]),
            append(&[("a", 1, 0), ("b", 2, 1)]),
            append(&[("none", 1, 0), ("b", 2, 1)]),
            append(&[("b", 1, 0), ("a", 2, 1)]),
            append(&[("b", 2, 0), ("a", 2, 1)]),
        ];
        let mut plan = Plan::new(0, 5, stored());
        let answers: Vec<_> = group.iter().map(|work| summary(plan.add(work))).collect();
        assert_eq!(answers, ["[2, 0, 2]", "job/a 1 2", "job/none 1 0", "job/b 1 2", "[2, 3]"]);
        assert_eq!(plan.events.len(), 2);
        assert!(!plan.changed.contains_key(&job("none")), "a condition makes no history");
        assert_eq!(plan.histories, 5);
    }

    #[test]
    fn a_deletion_needs_the_version() {
        for (key, expected, answer, deleted) in [
            ("a", 2, "[]", Some(3)),
            ("a", 1, "job/a 1 2", None),
            ("none", 0, "[]", None),
            ("none", 1, "job/none 1 0", None),
        ] {
            let work = Work::Delete(job(key), expected);
            let mut plan = Plan::new(0, 5, stored());
            assert_eq!(summary(plan.add(&work)), answer);
            assert_eq!((plan.deleted, plan.is_empty()), (deleted, deleted.is_none()));
        }
    }
}
