//! Who writes to a store, and whether all of them have flushed.

use super::{Share, app_id};
use crate::workspace::{Inner, whole};
use crate::{Error, Workspace};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use uuid::Uuid;

pub(super) const WRITERS: &str = "writers";
pub(super) const LOST: &str = "lost";
const BARRIERS: &str = "barriers";

/// How old a request is that nobody waits for any more.
const BARRIER_AGE: SignedDuration = SignedDuration::from_hours(24);

impl Share {
    /// Tells the others that this process may hold rows which are in no table.
    ///
    /// # Errors
    /// [`Error::WriterForgotten`], [`Error::Store`].
    pub(super) async fn register(&self) -> Result<(), Error> {
        let name = format!("{WRITERS}/{}", self.node());
        self.documents.put(&name, &serde_json::json!({ "node": self.node() })).await?;
        // Afterwards, so that whoever gives it up finds it, or is found.
        self.check_known().await
    }

    /// That nobody gave this process up.
    ///
    /// # Errors
    /// [`Error::WriterForgotten`], [`Error::Store`].
    pub(super) async fn check_known(&self) -> Result<(), Error> {
        let name = format!("{LOST}/{}", self.node());
        match self.documents.read::<serde_json::Value>(&name).await? {
            Some(_) => Err(Error::WriterForgotten { writer: self.node().to_owned() }),
            None => Ok(()),
        }
    }

    /// Tells the others that every row of this process is in the tables.
    ///
    /// # Errors
    /// [`Error::Store`].
    async fn leave(&self) -> Result<(), Error> {
        self.documents.remove(&format!("{WRITERS}/{}", self.node())).await
    }

    /// The writers that may hold rows which are in no table, this one among them.
    async fn writers(&self) -> Result<BTreeSet<String>, Error> {
        self.documents.names(WRITERS).await
    }

    /// Asks every writer to flush.
    pub(crate) async fn ask(&self, id: &str) -> Result<(), Error> {
        let name = format!("{BARRIERS}/{id}/asked");
        self.documents.put(&name, &serde_json::json!({ "by": self.node() })).await
    }

    /// The writers that did not answer yet.
    pub(crate) async fn silent(&self, id: &str) -> Result<Vec<String>, Error> {
        let mut answered = self.documents.names(&format!("{BARRIERS}/{id}")).await?;
        answered.insert(self.node().to_owned());
        // Read after the answers: one that left in between has flushed.
        let writers = self.writers().await?;
        Ok(writers.difference(&answered).cloned().collect())
    }

    /// Takes a request back.
    pub(crate) async fn end(&self, id: &str) -> Result<(), Error> {
        self.documents.remove_folder(&format!("{BARRIERS}/{id}"), None).await
    }

    /// Requests that this process did not answer.
    pub(super) async fn unanswered(&self) -> Result<Vec<String>, Error> {
        let asked = self.documents.folders(BARRIERS).await?;
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.retain(|id| asked.contains(id));
        Ok(asked.difference(&answered).cloned().collect())
    }

    /// Answers that every row is in the tables which was acknowledged before the request was read.
    pub(super) async fn answer(&self, id: &str) -> Result<(), Error> {
        let name = format!("{BARRIERS}/{id}/{}", self.node());
        self.documents.put(&name, &serde_json::json!({})).await?;
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        Ok(())
    }

    /// Removes requests of processes that ended while they waited.
    pub(crate) async fn clear_requests(&self, now: Timestamp) -> Result<(), Error> {
        let before = now.checked_sub(BARRIER_AGE).unwrap_or(Timestamp::MIN).as_millisecond();
        for id in self.documents.folders(BARRIERS).await? {
            self.documents.remove_folder(&format!("{BARRIERS}/{id}"), Some(before)).await?;
        }
        Ok(())
    }
}

impl Inner {
    /// Tells the others that this process goes, after a flush.
    pub(crate) async fn leave(self: &Arc<Self>, is_flushed: bool) {
        let Some(share) = &self.share else { return };
        // What fails here costs others a wait.
        if let Err(error) = share.duty.give_up().await {
            tracing::warn!(error = %whole(&error), "maintenance is taken over later");
        }
        // A write that had begun may have come after the flush.
        let is_empty = Arc::strong_count(self) == 1 && self.memory.used() == 0;
        if is_flushed
            && is_empty
            && let Err(error) = share.leave().await
        {
            tracing::warn!(error = %whole(&error), "this writer stays among those that are asked");
        }
    }
}

impl Workspace {
    /// The folders that write to a store which several of them
    /// [share](crate::workspace::WorkspaceBuilder::shared), by the ids in their `workspace.json`: those
    /// that are open, and those that were killed and may hold rows which are in no table. None
    /// without such a store.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Closed`].
    pub async fn writers(&self) -> Result<Vec<Uuid>, Error> {
        let inner = self.inner()?;
        let Some(share) = &inner.share else { return Ok(Vec::new()) };
        Ok(share.writers().await?.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Gives a writer up whose folder is lost: nothing that it holds comes into the tables any more,
    /// purges do not wait for it, and if its folder is found it is refused. Records that it had
    /// acknowledged and not flushed are lost.
    ///
    /// # Errors
    /// [`Error::Setting`] if it is this process, or nobody; [`Error::Store`], [`Error::Delta`]: call
    /// again; [`Error::Closed`].
    pub async fn forget_writer(&self, writer: Uuid) -> Result<(), Error> {
        let inner = self.inner()?;
        let node = writer.to_string();
        let refuse = |reason: &str| {
            let (of, value) = ("the writers".to_owned(), node.clone());
            Err(Error::Setting { of, setting: "writer", value, reason: reason.to_owned() })
        };
        let Some(share) = &inner.share else { return refuse("the tables have one writer") };
        if share.node() == node {
            return refuse("it is this process");
        }
        let lost = format!("{LOST}/{node}");
        let is_known = share.writers().await?.contains(&node)
            || share.documents.read::<serde_json::Value>(&lost).await?.is_some();
        if !is_known {
            return refuse("there is no such writer");
        }
        share.documents.put(&lost, &serde_json::json!({ "by": share.node() })).await?;
        inner.tables.discover().await?;
        for (_, table) in inner.tables.all() {
            table.bar(&app_id(&node), inner.clock.as_ref()).await?;
        }
        share.documents.remove(&format!("{WRITERS}/{node}")).await
    }
}
