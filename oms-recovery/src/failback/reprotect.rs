//! Reversing the replication.

use crate::error::Result;
use crate::machine::ItemEvent;
use crate::machine::protected::{ProtectedItem, ReplicationReport};

impl ProtectedItem {
    /// Protects production where it runs now, with the other site as its replica. Blocks are
    /// compared by checksums and those that differ are sent, so what both sites have in common is
    /// not. The other site's disk stays as it is until the copy is complete: blocks received are
    /// kept in its log.
    ///
    /// # Errors
    /// [`crate::Error::IllegalState`]; [`crate::Error::Disk`] if the other site is away, and those
    /// of [`replicate`](Self::replicate): call that to go on.
    pub async fn reprotect(&self) -> Result<ReplicationReport> {
        self.operation("reprotect", |item| async move {
            let mut runtime = item.begin().await?;
            item.append(&mut runtime, ItemEvent::ReverseReplicationStarted).await?;
            // The device goes on; only the replica is new, and opening it makes it.
            item.replicate_in(&mut runtime).await
        })
        .await
    }
}
