//! What other writers did since.

use super::drawn;
use crate::workspace::{Inner, whole};
use crate::{Error, Workspace};
use futures::TryStreamExt as _;
use oms_core::record::RecordType;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How many tables are looked at together.
const TABLES_AT_ONCE: usize = 8;

/// How often the background task looks whether it is time.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often it is looked whether the other writers have flushed.
const ANSWERS_EVERY: Duration = Duration::from_millis(100);

impl Workspace {
    /// Reads what other writers committed to the tables since. Where a store is
    /// [shared](crate::workspace::WorkspaceBuilder::shared), the background task does so every
    /// [`Settings::refresh_every`](crate::Settings::refresh_every), and flushes if another process
    /// waits for that.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::Store`], those of a flush, and [`Error::WriterForgotten`]: queries
    /// go on with what is known. [`Error::Closed`].
    pub async fn refresh(&self) -> Result<(), Error> {
        self.inner()?.refresh().await
    }
}

impl Inner {
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        if let Some(share) = &self.share {
            share.check_known().await?;
            share.duty.keep().await?;
            self.keep.settings.refresh().await?;
            self.rules.refresh().await?;
            self.tables.discover().await?;
        }
        let tables = futures::stream::iter(self.tables.all().into_iter().map(Ok));
        tables
            .try_for_each_concurrent(TABLES_AT_ONCE, |(_, table)| async move {
                match table.refresh(|bytes| self.memory.release(bytes)).await {
                    // Queries of it say so; the other tables are no worse for it.
                    Err(Error::Damaged(_)) => Ok(()),
                    refreshed => refreshed,
                }
            })
            .await?;
        self.save_heads().await;
        if let Some(share) = &self.share {
            for id in share.unanswered().await? {
                self.flush_for_good().await?;
                share.answer(&id).await?;
            }
        }
        Ok(())
    }

    /// Brings every row into the tables, and takes what the log holds of them from the disk.
    pub(crate) async fn flush_for_good(&self) -> Result<(), Error> {
        // What a failed flush leaves in memory and in the log would come back. A segment that is used
        // again has old bytes behind its end, so the one that was in use is cleared as well.
        let mut damaged = None;
        for _ in 0..2 {
            match self.flush_and_clear().await {
                Err(Error::Damaged(damage)) => damaged = Some(damage),
                flushed => flushed?,
            }
        }
        damaged.map_or(Ok(()), |damage| Err(Error::Damaged(damage)))
    }

    /// Waits until every row is in the tables that any writer has acknowledged.
    ///
    /// # Errors
    /// [`Error::WritersBehind`] names who did not flush; [`Error::Store`]; those of a flush.
    pub(crate) async fn flush_everywhere(&self, table: &RecordType) -> Result<(), Error> {
        let Some(share) = &self.share else {
            return Self::but_for_others(self.flush_for_good().await, table);
        };
        let id = drawn(self.entropy.as_ref());
        share.ask(&id).await?;
        let flushed = Self::but_for_others(self.flush_for_good().await, table);
        let wait = self.settings.maintenance.writers_wait.unsigned_abs();
        let looks = wait.as_millis() / ANSWERS_EVERY.as_millis();
        let silent = async {
            flushed?;
            for _ in 0..looks {
                if share.silent(&id).await?.is_empty() {
                    break;
                }
                tokio::time::sleep(ANSWERS_EVERY).await;
            }
            share.silent(&id).await
        };
        let silent = silent.await;
        if let Err(error) = share.end(&id).await {
            tracing::warn!(error = %whole(&error), "a request to flush stays for a day");
        }
        let silent = silent?;
        if !silent.is_empty() {
            return Err(Error::WritersBehind { table: table.to_string(), writers: silent });
        }
        Ok(())
    }
}

/// Looks for news as long as the workspace is there.
pub(crate) async fn run(inner: Weak<Inner>) {
    let mut due = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        look(&inner, &mut due).await;
    }
}

async fn look(inner: &Arc<Inner>, due: &mut Option<Duration>) {
    let every = inner.settings.refresh_every.unsigned_abs();
    let now = inner.clock.monotonic();
    if now < *due.get_or_insert(now + every) {
        return;
    }
    if let Err(error) = inner.refresh().await {
        tracing::warn!(error = %whole(&error), "what other writers did is not known, it is tried again");
    }
    *due = Some(inner.clock.monotonic() + every);
}
