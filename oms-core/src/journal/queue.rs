//! The bounded queue in front of a journal's one writer.

use super::row::{AppendRows, SnapshotRow};
use super::{Append, HistoryId, JournalError, Snapshot, check_append, check_snapshot};
use crate::error::ErrorKind;
use std::collections::BTreeMap;
use tokio::sync::{mpsc, oneshot, watch};

/// The most requests that wait for the writer; more wait outside.
pub(super) const QUEUE_MAX: usize = 1024;

/// The most requests that share one transaction.
pub(super) const GROUP_MAX: usize = 1024;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Work {
    Append(Vec<AppendRows>),
    Snapshot(HistoryId, SnapshotRow),
    Delete(HistoryId, u64),
}

/// The new version of each history appended to; none for other work.
pub(super) type Answer = Result<Vec<u64>, JournalError>;

/// Where an answer goes. The work goes back with it: memory is given back soonest by the thread that
/// took it, and the writer has better to do.
pub(super) type Reply = oneshot::Sender<(Work, Answer)>;

/// Work, and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) work: Work,
    pub(super) reply: Reply,
}

/// Counts the appends of a group by what they came to, whether or not their callers still wait.
pub(super) fn count<'a>(outcomes: impl Iterator<Item = (&'a Work, &'a Answer)>) {
    let mut events = 0;
    let mut appends = BTreeMap::<&'static str, u64>::new();
    for (work, answer) in outcomes {
        let Work::Append(rows) = work else { continue };
        *appends.entry(ErrorKind::outcome(answer, JournalError::kind)).or_default() += 1;
        if answer.is_ok() {
            events += rows.iter().map(|append| append.events.len() as u64).sum::<u64>();
        }
    }
    for (outcome, count) in appends {
        metrics::counter!("oms_journal_appends_total", "outcome" => outcome).increment(count);
    }
    if events > 0 {
        metrics::counter!("oms_journal_events_total").increment(events);
    }
}

/// The writer as its callers see it: what they ask of it, and how far it is. The writer ends when
/// this is dropped and the queue is empty.
#[derive(Debug)]
pub(super) struct Queue {
    requests: mpsc::Sender<Request>,
    /// The last position that is durable.
    head: watch::Receiver<u64>,
}

impl Queue {
    /// A queue to a writer that tells its head by `head`, and the end where the writer takes.
    pub(super) fn new(head: watch::Receiver<u64>) -> (Self, mpsc::Receiver<Request>) {
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        (Self { requests, head }, queue)
    }

    pub(super) async fn append(&self, appends: Vec<Append>) -> Result<Vec<u64>, JournalError> {
        check_append(&appends)?;
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        let rows = appends.into_iter().map(AppendRows::encode).collect::<Result<_, _>>()?;
        self.ask(Work::Append(rows)).await
    }

    pub(super) async fn save_snapshot(
        &self,
        history: &HistoryId,
        snapshot: &Snapshot,
    ) -> Result<(), JournalError> {
        check_snapshot(snapshot)?;
        let row = SnapshotRow::encode(history, snapshot)?;
        self.ask(Work::Snapshot(history.clone(), row)).await.map(|_none| ())
    }

    pub(super) async fn delete(
        &self,
        history: &HistoryId,
        expected: u64,
    ) -> Result<(), JournalError> {
        self.ask(Work::Delete(history.clone(), expected)).await.map(|_none| ())
    }

    pub(super) async fn wait(&self, after: u64) -> Result<u64, JournalError> {
        let mut head = self.head.clone();
        let reached = head.wait_for(|position| *position > after).await;
        reached
            .map(|position| *position)
            .map_err(|closed| JournalError::Unavailable { reason: closed.to_string() })
    }

    async fn ask(&self, work: Work) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { work, reply }).await.map_err(|_closed| gone())?;
        let (_done, answer) = answer.await.map_err(|_closed| gone())?;
        answer
    }
}

/// What is answered once the writer has ended.
pub(super) fn gone() -> JournalError {
    JournalError::Unavailable { reason: "its writer has ended".to_owned() }
}
