//! One server's way to the journal that both share: it may carry a planted bug, and the server may end on it.

use async_trait::async_trait;
use oms_core::journal::{
    Append, Event, Head, HistoryId, Journal, JournalError, MemoryJournal, Snapshot,
};
use oms_dsc::pull_server::{NODE_HISTORY, REGISTRATION_KEY_HISTORY, SIGNATURE_HISTORY};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

/// What a server does wrong, or what its journal, disk or clock does to it: each is to be found by the auditor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flaw {
    /// A server does not hear of what the other one wrote about nodes that it knows.
    HearsNothing,
    /// A server does not keep which signatures were used.
    ForgetsSignatures,
    /// A certificate's rotation is acknowledged and not kept.
    LosesRotations,
    /// A node that is taken out stays one.
    LosesRemovals,
    /// That a node called is not kept.
    LosesCalls,
    /// How a run ended is kept twice.
    DoublesReports,
    /// A server does not hear that a registration key was revoked, and does not ask.
    TrustsRevokedKeys,
    /// Reports are acknowledged before they are durable.
    ForgetsSyncs,
    /// A server's clock is off by more than is allowed.
    ClockIsWrong,
}

impl Flaw {
    /// Each, and how the auditor tells of it.
    pub(super) const ALL: [(Self, &'static str); 9] = [
        (Self::HearsNothing, "while it was"),
        (Self::ForgetsSignatures, "a replay was accepted"),
        (Self::LosesRotations, "while it was"),
        (Self::LosesRemovals, "it is done, and not so"),
        (Self::LosesCalls, "while it was"),
        (Self::DoublesReports, "the end of a run is told twice"),
        (Self::TrustsRevokedKeys, "a revoked key registers"),
        (Self::ForgetsSyncs, "an acknowledged report is gone"),
        (Self::ClockIsWrong, "while it was"),
    ];

    /// The events that are acknowledged and not kept.
    const fn loses(self) -> Option<&'static str> {
        match self {
            Self::LosesRotations => Some("dsc-node-certificate-rotated"),
            Self::LosesRemovals => Some("dsc-node-removed"),
            Self::LosesCalls => Some("dsc-node-heard"),
            _ => None,
        }
    }

    /// The kind of histories of which nothing is heard beyond their beginning.
    const fn is_deaf_to(self) -> Option<&'static str> {
        match self {
            Self::HearsNothing => Some(NODE_HISTORY),
            Self::TrustsRevokedKeys => Some(REGISTRATION_KEY_HISTORY),
            _ => None,
        }
    }
}

/// When a server ends, or halts: at which of its next steps to the journal and back.
#[derive(Debug, Default)]
pub(super) struct Fuse(Mutex<Burning>);

#[derive(Clone, Copy, Debug, Default)]
enum Burning {
    #[default]
    Out,
    Steps(u64),
    Burnt,
}

impl Fuse {
    fn set(&self, to: Burning) -> Burning {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), to)
    }

    /// Lights it: it burns for so many steps.
    pub(super) fn light(&self, steps: u64) {
        self.set(Burning::Steps(steps));
    }

    /// Puts it out, and answers whether it was burnt.
    pub(super) fn put_out(&self) -> bool {
        matches!(self.set(Burning::Out), Burning::Burnt)
    }

    /// A step, which does not end while the fuse is burnt.
    async fn step(&self) {
        let burning = match self.set(Burning::Out) {
            Burning::Steps(0) => Burning::Burnt,
            Burning::Steps(left) => Burning::Steps(left - 1),
            other => other,
        };
        self.set(burning);
        poll_fn(|_| match self.is_burnt() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
    }

    fn is_burnt(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Burning::Burnt)
    }

    /// What work comes to, unless the server ends before: then it stays where it is.
    pub(super) async fn before_it_burns<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.is_burnt() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// One server's way to the journal.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) inner: Arc<MemoryJournal>,
    pub(super) flaw: Option<Flaw>,
    pub(super) fuse: Arc<Fuse>,
}

impl Way {
    /// What arrives of appends; none if they are lost.
    fn arriving(&self, mut appends: Vec<Append>) -> Option<Vec<Append>> {
        let has = |append: &Append, kind: &str| append.events.iter().any(|it| it.kind == kind);
        let lost = self.flaw.and_then(Flaw::loses);
        if lost.is_some_and(|kind| appends.iter().any(|append| has(append, kind))) {
            return None;
        }
        match self.flaw {
            Some(Flaw::ForgetsSignatures) => {
                appends.retain(|append| append.history.kind() != SIGNATURE_HISTORY);
            }
            Some(Flaw::TrustsRevokedKeys) => appends.retain(|append| !append.events.is_empty()),
            Some(Flaw::DoublesReports) => {
                for append in appends.iter_mut().filter(|it| has(it, "dsc-node-reported")) {
                    append.events = [&*append.events, &*append.events].concat();
                }
            }
            _ => {}
        }
        Some(appends)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Journal for Way {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<u64>, JournalError> {
        self.fuse.step().await;
        let versions = appends.iter().map(|append| append.expected + 1).collect();
        let Some(appends) = self.arriving(appends) else { return Ok(versions) };
        let versions = self.inner.append(appends).await;
        self.fuse.step().await;
        versions
    }

    async fn read(
        &self,
        history: &HistoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        self.fuse.step().await;
        if after > 0 && self.flaw.and_then(Flaw::is_deaf_to) == Some(history.kind()) {
            return Ok(Vec::new());
        }
        self.inner.read(history, after, limit).await
    }

    async fn read_all(&self, after: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.fuse.step().await;
        self.inner.read_all(after, limit).await
    }

    async fn wait(&self, after: u64) -> Result<u64, JournalError> {
        self.inner.wait(after).await
    }

    async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, JournalError> {
        self.fuse.step().await;
        self.inner.list(kind, after, limit).await
    }

    async fn save_snapshot(
        &self,
        history: &HistoryId,
        snapshot: Snapshot,
    ) -> Result<(), JournalError> {
        self.fuse.step().await;
        self.inner.save_snapshot(history, snapshot).await
    }

    async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError> {
        self.fuse.step().await;
        self.inner.snapshot(history).await
    }

    async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
        self.fuse.step().await;
        let deleted = self.inner.delete(history, expected).await;
        self.fuse.step().await;
        deleted
    }
}
