//! What every [`Journal`] can do by its required methods.

use super::{
    Append, Envelope, Event, Head, HistoryId, Journal, JournalError, JournalEvent, READ_MAX,
};
use async_trait::async_trait;
use jiff::Timestamp;

/// A history's state: the fold of its events.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Replayed<S> {
    /// Which history.
    pub history: HistoryId,
    /// What its events come to.
    pub state: S,
    /// How many events those are: what the next append expects.
    pub version: u64,
}

/// Conveniences on every [`Journal`].
#[async_trait]
pub trait JournalExt: Journal {
    /// Appends to one history and answers its new version.
    ///
    /// # Errors
    /// Those of [`Journal::append`].
    async fn append_to(
        &self,
        history: &HistoryId,
        expected: u64,
        events: Vec<Envelope>,
    ) -> Result<u64, JournalError> {
        let appends = vec![Append { history: history.clone(), expected, events }];
        let versions = self.append(appends).await?;
        versions.first().copied().ok_or_else(|| JournalError::Unavailable {
            reason: "the adapter answered no version".to_owned(),
        })
    }

    /// Appends one event of a service to one history and answers its new version.
    ///
    /// # Errors
    /// Those of [`JournalEvent::seal`] and of [`Journal::append`].
    async fn append_event<E>(
        &self,
        history: &HistoryId,
        expected: u64,
        event: &E,
        time: Timestamp,
        actor: &str,
    ) -> Result<u64, JournalError>
    where
        E: JournalEvent + Sync,
    {
        self.append_to(history, expected, vec![event.seal(time, actor)?]).await
    }

    /// Folds one history into a state; a history without events leaves it `initial`, at version 0.
    /// `apply` takes each event in turn, together with its place. What is read is a page at a time, so
    /// that a long history is never in memory as a whole.
    ///
    /// ```
    /// use oms_core::journal::{HistoryId, JournalError, JournalExt, MemoryJournal};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// enum Counted {
    ///     Added(u64),
    /// }
    /// oms_core::journal_event!(Counted, format 1, whole, { Self::Added(_) => "added" });
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (journal, history) = (MemoryJournal::default(), HistoryId::new("counter", "1")?);
    /// let now = "2026-01-01T00:00:00Z".parse().unwrap();
    /// journal.append_event(&history, 0, &Counted::Added(2), now, "local").await?;
    /// journal.append_event(&history, 1, &Counted::Added(3), now, "local").await?;
    /// let sum = journal.replay(&history, 0, |sum, Counted::Added(more), _event| {
    ///     *sum += more;
    ///     Ok::<(), JournalError>(())
    /// });
    /// let sum = sum.await?;
    /// assert_eq!((sum.state, sum.version), (5, 2));
    /// # Ok::<(), JournalError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`Journal::read`] and of [`JournalEvent::open`], and the first that `apply` answers.
    async fn replay<E, S, X, F>(
        &self,
        history: &HistoryId,
        initial: S,
        mut apply: F,
    ) -> Result<Replayed<S>, X>
    where
        E: JournalEvent,
        S: Send,
        X: From<JournalError>,
        F: FnMut(&mut S, E, &Event) -> Result<(), X> + Send,
    {
        let mut replayed = Replayed { history: history.clone(), state: initial, version: 0 };
        loop {
            let page = self.read(history, replayed.version, READ_MAX).await?;
            let Some(last) = page.last() else { return Ok(replayed) };
            replayed.version = last.version;
            for event in &page {
                apply(&mut replayed.state, E::open(&event.envelope)?, event)?;
            }
        }
    }

    /// Folds every history of one kind, each from `initial`, in the order of their keys.
    ///
    /// # Errors
    /// Those of [`Journal::list`] and of [`JournalExt::replay`].
    async fn replay_kind<E, S, X, F>(
        &self,
        kind: &str,
        initial: S,
        mut apply: F,
    ) -> Result<Vec<Replayed<S>>, X>
    where
        E: JournalEvent,
        S: Clone + Send + Sync,
        X: From<JournalError> + Send,
        F: FnMut(&mut S, E, &Event) -> Result<(), X> + Send,
    {
        let mut all = Vec::new();
        for head in self.list_whole(kind).await? {
            let replayed = self.replay(&head.history, initial.clone(), &mut apply).await?;
            // It may have been deleted since it was listed.
            all.extend((replayed.version > 0).then_some(replayed));
        }
        Ok(all)
    }

    /// Every event of one history, oldest first.
    ///
    /// # Errors
    /// Those of [`Journal::read`].
    async fn read_whole(&self, history: &HistoryId) -> Result<Vec<Event>, JournalError> {
        let mut events = Vec::new();
        loop {
            let after = events.last().map_or(0, |event: &Event| event.version);
            let page = self.read(history, after, READ_MAX).await?;
            if page.is_empty() {
                return Ok(events);
            }
            events.extend(page);
        }
    }

    /// The events of every history of one kind that come after those that are known: `known`
    /// answers how many of a history's events are. In order within each history; histories in order
    /// of their keys. Of histories that did not change only the heads are read.
    ///
    /// # Errors
    /// Those of [`Journal::list`] and [`Journal::read`].
    async fn read_new<F>(&self, kind: &str, known: F) -> Result<Vec<Event>, JournalError>
    where
        F: Fn(&HistoryId) -> u64 + Send,
    {
        let mut events = Vec::new();
        for Head { history, version } in self.list_whole(kind).await? {
            let mut after = known(&history);
            while after < version {
                let page = self.read(&history, after, READ_MAX).await?;
                // Deleted since it was listed.
                let Some(last) = page.last() else { break };
                after = last.version;
                events.extend(page);
            }
        }
        Ok(events)
    }

    /// Every history of one kind.
    ///
    /// # Errors
    /// Those of [`Journal::list`].
    async fn list_whole(&self, kind: &str) -> Result<Vec<Head>, JournalError> {
        let mut heads: Vec<Head> = Vec::new();
        loop {
            let after = heads.last().map(|head| head.history.key().to_owned());
            let page = self.list(kind, after.as_deref(), READ_MAX).await?;
            let is_last = page.len() < READ_MAX;
            heads.extend(page);
            if is_last {
                return Ok(heads);
            }
        }
    }
}

impl<T: Journal + ?Sized> JournalExt for T {}

#[cfg(test)]
mod tests {
    use super::super::MemoryJournal;
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Number(u64);
    crate::journal_event!(Number, format 1, whole, { Self(_) => "number" });

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn job(key: &str) -> HistoryId {
        HistoryId::new("job", key).expect("a name")
    }

    /// Adds up, and counts; refuses one number.
    fn add(
        refused: u64,
    ) -> impl FnMut(&mut (u64, u64), Number, &Event) -> Result<(), JournalError> {
        move |(sum, count), Number(number), event| {
            if number == refused {
                return Err(event.corrupt(&"refused"));
            }
            assert_eq!(number, event.version, "in order");
            (*sum, *count) = (*sum + number, *count + 1);
            Ok(())
        }
    }

    /// A history of several pages comes in order, each event once; the version is that of the next
    /// append; what cannot be opened or applied ends it by name.
    #[tokio::test]
    async fn a_history_is_folded_over_all_its_pages() {
        let (journal, history) = (MemoryJournal::default(), job("1"));
        let none = journal.replay(&history, (0, 0), add(0)).await.expect("reads");
        assert_eq!((none.state, none.version), ((0, 0), 0), "there is no history");
        let page = READ_MAX as u64;
        let seal = |number| Number(number).seal(NOW, "me").expect("a body");
        journal.append_to(&history, 0, (1..=page).map(seal).collect()).await.expect("appends");
        for number in page + 1..=page + 2 {
            let event = Number(number);
            let version = journal.append_event(&history, number - 1, &event, NOW, "me").await;
            assert_eq!(version.expect("appends"), number);
        }
        let count = page + 2;
        let all = journal.replay(&history, (0, 0), add(0)).await.expect("reads");
        let state = (count * (count + 1) / 2, count);
        assert_eq!(all, Replayed { history: history.clone(), state, version: count });

        let refused = journal.replay(&history, (0, 0), add(count)).await.expect_err("is refused");
        let expected = format!("journal is damaged. reason=`job/1 at version {count}: refused`");
        assert_eq!(refused.to_string(), expected);
        let stale = journal.append_event(&history, 1, &Number(0), NOW, "me").await;
        assert!(matches!(stale, Err(JournalError::Conflict { expected: 1, .. })), "{stale:?}");
        let foreign = Envelope::new("other", 1, NOW, "me", &0).expect("JSON");
        journal.append_to(&history, count, vec![foreign]).await.expect("appends");
        let unknown = journal.replay(&history, (0, 0), add(0)).await.expect_err("another's event");
        assert!(matches!(unknown, JournalError::UnknownEvent { .. }), "{unknown}");
    }

    #[tokio::test]
    async fn every_history_of_a_kind_is_folded_by_itself() {
        let journal = MemoryJournal::default();
        for (kind, key, count) in [("job", "b", 2), ("job", "a", 3), ("other", "c", 1)] {
            let history = HistoryId::new(kind, key).expect("a name");
            for version in 0..count {
                let event = Number(version + 1);
                journal.append_event(&history, version, &event, NOW, "me").await.expect("appends");
            }
        }
        let all = journal.replay_kind("job", (0, 0), add(0)).await.expect("reads");
        let a = Replayed { history: job("a"), state: (6, 3), version: 3 };
        let b = Replayed { history: job("b"), state: (3, 2), version: 2 };
        assert_eq!(all, [a, b]);
        let refused = journal.replay_kind("job", (0, 0), add(3)).await.expect_err("is refused");
        assert!(refused.to_string().contains("job/a at version 3"), "{refused}");
    }

    #[tokio::test]
    async fn what_is_new_of_a_kind_is_read_once() {
        let journal = MemoryJournal::default();
        let history = |kind: &str, key: &str| HistoryId::new(kind, key).expect("a name");
        let append = async |history: HistoryId, expected, count| {
            let event = Envelope::new("k", 1, Timestamp::UNIX_EPOCH, "me", &0).expect("JSON");
            journal.append_to(&history, expected, vec![event; count]).await.expect("appends");
        };
        append(history("job", "b"), 0, 2).await;
        append(history("job", "a"), 0, READ_MAX).await;
        append(history("job", "a"), READ_MAX as u64, 1).await;
        append(history("other", "a"), 0, 1).await;
        let mut known = std::collections::HashMap::new();
        let mut look = async || {
            let version = |history: &HistoryId| known.get(history).copied().unwrap_or(0);
            let new = journal.read_new("job", version).await.expect("reads");
            known.extend(new.iter().map(|event| (event.history.clone(), event.version)));
            new.iter().map(|event| (event.history.to_string(), event.version)).collect::<Vec<_>>()
        };
        let first = look().await;
        assert_eq!((first[0].clone(), first.len()), (("job/a".to_owned(), 1), READ_MAX + 3));
        assert_eq!(first[READ_MAX + 1..], [("job/b".to_owned(), 1), ("job/b".to_owned(), 2)]);
        assert_eq!(look().await, []);
        append(history("job", "b"), 2, 1).await;
        journal.delete(&history("job", "a"), READ_MAX as u64 + 1).await.expect("deletes");
        assert_eq!(look().await, [("job/b".to_owned(), 3)]);
    }
}
