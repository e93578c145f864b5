//! A journal that only the owner of a duty writes to.

use super::{Lease, LeaseError};
use crate::journal::{Append, Event, Head, HistoryId, Journal, JournalError, Snapshot};
use async_trait::async_trait;
use std::sync::Arc;

/// A [`Journal`] whose every append carries the condition that a [`Lease`] still holds. An engine
/// that was written for one process is given it, and cannot write once another process owns its
/// duty: its appends fail with [`JournalError::Fenced`], and nothing of them is written.
///
/// Reads are those of the journal beneath, the lease's own histories among them. Snapshots are kept
/// only while the owner believes in its lease; they never change what is read. A deletion is made
/// only then, too, and has an expected version but no condition: one that was sent in time and
/// arrives late is not refused, if nothing was appended since.
#[derive(Clone, Debug)]
pub struct Fenced {
    journal: Arc<dyn Journal>,
    lease: Lease,
}

impl Fenced {
    /// Fences `journal`, in which the lease has to be kept too.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, lease: Lease) -> Self {
        Self { journal, lease }
    }

    /// The lease.
    #[must_use]
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    fn believe(&self) -> Result<(), JournalError> {
        self.lease.guard().map(drop).map_err(refusal)
    }
}

fn refusal(error: LeaseError) -> JournalError {
    match error {
        LeaseError::Journal(error) => error,
        error => JournalError::Fenced { reason: error.to_string() },
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Journal for Fenced {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<u64>, JournalError> {
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        self.lease.guarded_append(appends).await.map_err(refusal)
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
        self.believe()?;
        self.journal.save_snapshot(history, snapshot).await
    }

    async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError> {
        self.journal.snapshot(history).await
    }

    async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
        self.believe()?;
        self.journal.delete(history, expected).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Envelope, JournalExt, MemoryJournal};
    use crate::lease::{Duty, LeaseSettings, Leases};
    use crate::{Clock, Entropy, SystemClock, SystemEntropy};

    fn leases(journal: &Arc<dyn Journal>) -> Leases {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        // Longer than any test takes, for nobody renews it.
        let settings = LeaseSettings { term_millis: 3_600_000, ..LeaseSettings::default() };
        Leases::new(Arc::clone(journal), clock, entropy, settings).expect("leases")
    }

    fn duty() -> Duty {
        "engine".parse().expect("a duty")
    }

    async fn fenced() -> (Arc<dyn Journal>, Fenced) {
        fenced_over(Arc::new(MemoryJournal::default())).await
    }

    async fn fenced_over(journal: Arc<dyn Journal>) -> (Arc<dyn Journal>, Fenced) {
        let lease = leases(&journal).acquire(&duty(), "first").await.expect("acquired");
        (Arc::clone(&journal), Fenced::new(journal, lease))
    }

    /// What the suite sees of a fenced journal: all but the one event of its lease, which took the
    /// first position.
    #[derive(Debug)]
    struct WithoutLease(Fenced);

    #[async_trait]
    #[deny(clippy::missing_trait_methods)]
    impl Journal for WithoutLease {
        async fn append(&self, appends: Vec<Append>) -> Result<Vec<u64>, JournalError> {
            self.0.append(appends).await
        }

        async fn read(
            &self,
            history: &HistoryId,
            after: u64,
            limit: usize,
        ) -> Result<Vec<Event>, JournalError> {
            let mut events = self.0.read(history, after, limit).await?;
            events.iter_mut().for_each(|event| event.position -= 1);
            Ok(events)
        }

        async fn read_all(&self, after: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
            let mut events = self.0.read_all(after.saturating_add(1), limit).await?;
            events.iter_mut().for_each(|event| event.position -= 1);
            Ok(events)
        }

        async fn wait(&self, after: u64) -> Result<u64, JournalError> {
            Ok(self.0.wait(after.saturating_add(1)).await? - 1)
        }

        async fn list(
            &self,
            kind: &str,
            after: Option<&str>,
            limit: usize,
        ) -> Result<Vec<Head>, JournalError> {
            self.0.list(kind, after, limit).await
        }

        async fn save_snapshot(
            &self,
            history: &HistoryId,
            snapshot: Snapshot,
        ) -> Result<(), JournalError> {
            self.0.save_snapshot(history, snapshot).await
        }

        async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError> {
            self.0.snapshot(history).await
        }

        async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
            self.0.delete(history, expected).await
        }
    }

    crate::journal_conformance!(|| async { WithoutLease(fenced().await.1) });

    #[cfg(feature = "sqlite")]
    mod sqlite {
        use super::*;
        use crate::journal::SqliteJournal;
        use crate::testkit::journal::Kept;

        crate::journal_conformance!(|| async {
            let folder = tempfile::tempdir().expect("a folder");
            let journal = SqliteJournal::open(folder.path().join("journal.db")).expect("opens");
            Kept::new(WithoutLease(fenced_over(Arc::new(journal)).await.1), folder)
        });
    }

    fn event() -> Envelope {
        Envelope::new("made", 1, SystemClock.now(), "test", &1).expect("an event")
    }

    #[tokio::test]
    async fn whoever_lost_the_duty_writes_nothing() {
        let (journal, first) = fenced().await;
        let history = HistoryId::new("thing", "1").expect("a name");
        assert_eq!(first.append_to(&history, 0, vec![event()]).await.expect("owns it"), 1);
        first.lease().release().await.expect("released");
        let second = leases(&journal).acquire(&duty(), "second").await.expect("acquired");
        let second = Fenced::new(Arc::clone(&journal), second);
        let snapshot = Snapshot { version: 1, format: 1, body: 1.into() };
        for refused in [
            first.append_to(&history, 1, vec![event()]).await.map(drop),
            first.save_snapshot(&history, snapshot.clone()).await,
            first.delete(&history, 1).await,
        ] {
            let error = refused.expect_err("fenced");
            assert!(matches!(error, JournalError::Fenced { .. }), "{error:?}");
            assert!(!error.kind().is_retryable(), "{error:?}");
        }
        assert_eq!(journal.read_whole(&history).await.expect("reads").len(), 1);
        second.save_snapshot(&history, snapshot).await.expect("owns it");
        assert_eq!(second.append_to(&history, 1, vec![event()]).await.expect("owns it"), 2);
        second.delete(&history, 2).await.expect("owns it");
    }

    #[tokio::test]
    async fn an_error_of_the_journal_stays_what_it_is() {
        let (_journal, fenced) = fenced().await;
        let history = HistoryId::new("thing", "1").expect("a name");
        let refused = fenced.append_to(&history, 5, vec![event()]).await;
        assert!(matches!(refused, Err(JournalError::Conflict { expected: 5, actual: 0, .. })));
    }
}
