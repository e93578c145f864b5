//! Production returns to the primary site.

use crate::error::Result;
use crate::machine::ChosenPoint;
use crate::machine::protected::{ProtectedItem, count_failover, illegal};
use crate::replication::ProtectionState;

impl ProtectedItem {
    /// Moves production back to the primary site without loss, as a planned failover of the
    /// reversed replication. [`commit`](Self::commit) it, then [`reprotect`](Self::reprotect) to
    /// protect the primary site again.
    ///
    /// # Errors
    /// [`crate::Error::IllegalState`]. On any other error production stays at the recovery site.
    pub async fn failback(&self) -> Result<ChosenPoint> {
        self.operation("failback", |item| async move {
            let mut runtime = item.begin().await?;
            if runtime.item.state != ProtectionState::ReverseProtected {
                return Err(illegal(&runtime.item, "failback"));
            }
            let moved = item.move_production(&mut runtime).await;
            count_failover("failback", &moved);
            moved
        })
        .await
    }
}
