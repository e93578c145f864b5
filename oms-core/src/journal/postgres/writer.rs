//! The one task of a process that writes, many requests to a transaction.

use super::listener::{self, advance};
use super::schema;
use super::server::Server;
use super::session::{Broken, Session};
use crate::journal::queue::{Answer, GROUP_MAX, Request, Work, count};
use crate::journal::{HistoryId, JournalError};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The sum of the bodies after which a transaction takes no further request, in bytes.
const GROUP_BYTES_MAX: usize = 32 << 20;

/// How often one group is tried, where nothing was written and the connection was lost.
const TRIES_MAX: usize = 2;

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(appends) => {
                appends.iter().flat_map(|append| &append.events).map(|row| row.body.len()).sum()
            }
            Self::Snapshot(_, snapshot) => snapshot.body.len(),
            Self::Delete(..) => 0,
        }
    }

    pub(super) fn histories(&self) -> Vec<&HistoryId> {
        match self {
            Self::Append(appends) => appends.iter().map(|append| &append.history).collect(),
            Self::Snapshot(history, _) | Self::Delete(history, _) => vec![history],
        }
    }
}

/// Owns the connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    server: Arc<Server>,
    session: Option<Session>,
}

impl Writer {
    /// Opens the journal; answers the last position given out too.
    pub(super) async fn connect(server: Arc<Server>) -> Result<(Self, u64), JournalError> {
        let client = server.connect().await?;
        schema::open(&client, &server.schema).await?;
        let head = listener::look(&server, &client).await?;
        let session = Session::prepare(client, &server).await?;
        Ok((Self { server, session: Some(session) }, head))
    }

    /// Serves requests until every sender is gone and the queue is empty.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        head: Arc<watch::Sender<u64>>,
    ) {
        let mut waiting = Vec::new();
        while requests.recv_many(&mut waiting, GROUP_MAX).await > 0 {
            while !waiting.is_empty() {
                let rest = waiting.split_off(group_length(&waiting));
                let (works, replies): (Vec<_>, Vec<_>) =
                    waiting.into_iter().map(|request| (request.work, request.reply)).unzip();
                let answers = self.answers(&works, &head).await;
                count(works.iter().zip(&answers));
                for ((work, reply), answer) in works.into_iter().zip(replies).zip(answers) {
                    // Whoever no longer waits gets none.
                    let _ = reply.send((work, answer));
                }
                waiting = rest;
            }
        }
    }

    /// Commits a group. Where that fails for one of them, each is tried alone, so that the others
    /// stand.
    async fn answers(&mut self, group: &[Work], head: &watch::Sender<u64>) -> Vec<Answer> {
        let error = match self.commit(group, head).await {
            Ok(answers) => return answers,
            Err(broken) if group.len() > 1 && broken.may_spare_some() => {
                let mut answers = Vec::with_capacity(group.len());
                for alone in group.chunks(1) {
                    match self.commit(alone, head).await {
                        Ok(answer) => answers.extend(answer),
                        Err(broken) => answers.push(Err(broken.error)),
                    }
                }
                return answers;
            }
            Err(broken) => broken.error,
        };
        tracing::warn!(%error, requests = group.len(), "journal write");
        group.iter().map(|_| Err(again(&error))).collect()
    }

    /// One transaction over all requests, on a new connection if the old one is lost. Answers,
    /// conflicts among them, hold only once it is committed: a conflict may be with a neighbour.
    async fn commit(
        &mut self,
        group: &[Work],
        head: &watch::Sender<u64>,
    ) -> Result<Vec<Answer>, Broken> {
        let mut tries = 1;
        loop {
            let session = match self.session.take() {
                Some(session) if !session.is_closed() => session,
                _ => self.reconnect().await?,
            };
            match session.transact(group).await {
                Ok((answers, position)) => {
                    self.session = Some(session);
                    advance(head, position);
                    return Ok(answers);
                }
                Err(broken) => {
                    if !broken.is_lost && session.roll_back().await {
                        self.session = Some(session);
                    }
                    if !(broken.is_lost && broken.is_before_commit && tries < TRIES_MAX) {
                        return Err(broken);
                    }
                    tries += 1;
                }
            }
        }
    }

    async fn reconnect(&self) -> Result<Session, Broken> {
        let session = async {
            let client = self.server.connect().await?;
            Session::prepare(client, &self.server).await
        };
        let failed = |error| Broken { error, is_before_commit: true, is_lost: false };
        session.await.map_err(failed)
    }
}

/// How many of the requests go into the next transaction: a deletion alone, else all up to it, as
/// long as they are not too large together.
fn group_length(waiting: &[Request]) -> usize {
    let mut bytes = 0;
    let length = waiting.iter().take_while(|request| {
        let has_room = bytes < GROUP_BYTES_MAX;
        bytes += request.work.bytes();
        has_room && !matches!(request.work, Work::Delete(..))
    });
    length.count().max(1)
}

/// The same error for another of those it struck.
fn again(error: &JournalError) -> JournalError {
    match error {
        JournalError::Full => JournalError::Full,
        JournalError::Newer { found, known } => {
            JournalError::Newer { found: *found, known: *known }
        }
        JournalError::Corrupt { reason } => JournalError::Corrupt { reason: reason.clone() },
        JournalError::Setup { reason } => JournalError::Setup { reason: reason.clone() },
        JournalError::Unavailable { reason } => {
            JournalError::Unavailable { reason: reason.clone() }
        }
        other => JournalError::Unavailable { reason: other.to_string() },
    }
}
