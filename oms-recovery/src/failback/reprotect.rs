//! Reversing the replication.

use crate::error::Result;
use crate::machine::ItemEvent;
use crate::machine::protected::{ProtectedItem, ReplicationReport, make_replica, open_replica};
use crate::replication::channel::blocking;
use std::sync::Arc;

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
        let mut runtime = self.runtime.lock().await;
        self.shared.append(&mut runtime.item, ItemEvent::ReverseReplicationStarted).await?;
        let (shared, item) = (Arc::clone(&self.shared), runtime.item.clone());
        // The device goes on; only the replica is new.
        let replica = blocking(move || {
            let site = item.passive_site().clone();
            make_replica(&shared, &item, &site)?;
            open_replica(&shared, &item)
        })
        .await;
        match replica {
            Ok(replica) => runtime.replica = Some(replica),
            Err(error) => {
                self.close();
                return Err(error);
            }
        }
        self.replicate_in(&mut runtime).await
    }
}
