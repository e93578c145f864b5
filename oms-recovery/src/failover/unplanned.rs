//! A failover when the source may be lost.

use super::SourceOperations;
use crate::error::{Error, Result};
use crate::machine::protected::{ProtectedItem, illegal, lock};
use crate::machine::{ChosenPoint, ItemEvent};
use crate::recovery_point::PointChoice;
use std::sync::Arc;

impl ProtectedItem {
    /// Moves production to the recovery site as of a point. Whatever the source still writes is
    /// refused by the replica; writes after the point are lost.
    ///
    /// A source that cannot be reached goes on taking writes of its own machine until it hears of
    /// the new epoch; stop that machine.
    ///
    /// # Errors
    /// [`Error::IllegalState`]; [`Error::NotFound`] for the point, and the state is then
    /// `UnplannedFailoverFailed` with production where it was.
    pub async fn unplanned_failover(
        &self,
        choice: PointChoice,
        source_operations: SourceOperations,
    ) -> Result<ChosenPoint> {
        let mut runtime = self.runtime.lock().await;
        let event = ItemEvent::UnplannedFailoverStarted { choice, source_operations };
        self.shared.append(&mut runtime.item, event).await?;
        if source_operations == SourceOperations::Required
            && let Err(error) = self.send_last(&runtime).await
        {
            tracing::warn!(%error, "source could not be drained, failing over without");
        }
        let chosen = match &runtime.replica {
            Some(replica) => lock(replica).log().choose(choice),
            None => Err(illegal(&runtime.item, "unplanned-failover")),
        };
        match chosen {
            Ok((stamp, point)) => {
                let point = ChosenPoint::new(stamp, point);
                self.activate(&mut runtime, point).await?;
                Ok(point)
            }
            Err(error) => {
                runtime.device.resume();
                let reason = error.to_string();
                let event = ItemEvent::FailoverFailed { reason };
                self.shared.append(&mut runtime.item, event).await?;
                Err(error)
            }
        }
    }

    /// Tries to get the source's last writes.
    async fn send_last(&self, runtime: &crate::machine::protected::Runtime) -> Result<()> {
        use crate::replication::channel::{blocking, run_in_process};
        use crate::replication::primary::Outcome;
        let Some(replica) = runtime.replica.clone() else { return Err(Error::ChannelClosed) };
        let device = Arc::clone(&runtime.device);
        blocking(move || device.quiesce()).await?;
        let (id, device) = (runtime.item.id.0, Arc::clone(&runtime.device));
        match run_in_process(id, device, replica).await?.0 {
            Outcome::Drained => Ok(()),
            outcome => {
                Err(Error::ReplicaRefused { reason: format!("{outcome:?}"), is_full: false })
            }
        }
    }
}
