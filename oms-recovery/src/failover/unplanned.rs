//! A failover when the source may be lost.

use super::SourceOperations;
use crate::error::{Error, Result};
use crate::machine::protected::{ProtectedItem, Runtime, count_failover, lock};
use crate::machine::{ChosenPoint, ItemEvent};
use crate::recovery_point::PointChoice;
use crate::replication::primary::Outcome;
use oms_core::task::blocking;
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
        self.operation("unplanned_failover", move |item| async move {
            let mut runtime = item.begin().await?;
            let event = ItemEvent::UnplannedFailoverStarted { choice, source_operations };
            item.append(&mut runtime, event).await?;
            let moved = item.move_without_source(&mut runtime, choice, source_operations).await;
            count_failover("unplanned", &moved);
            moved
        })
        .await
    }

    async fn move_without_source(
        &self,
        runtime: &mut Runtime,
        choice: PointChoice,
        source_operations: SourceOperations,
    ) -> Result<ChosenPoint> {
        if source_operations == SourceOperations::Required
            && let Err(error) = self.send_last(runtime).await
        {
            tracing::warn!(%error, "source could not be drained, failing over without");
        }
        let replica = self.need_replica(runtime, "unplanned failover").await;
        let chosen = replica.and_then(|replica| lock(&replica).log().choose(choice));
        match chosen {
            Ok((stamp, point)) => {
                let point = ChosenPoint::new(stamp, point);
                self.activate(runtime, point).await?;
                Ok(point)
            }
            Err(error) => {
                self.resume(runtime);
                let reason = error.to_string();
                let event = ItemEvent::FailoverFailed { reason };
                self.append(runtime, event).await?;
                Err(error)
            }
        }
    }

    /// Tries to get the source's last writes.
    async fn send_last(&self, runtime: &mut Runtime) -> Result<()> {
        let replica = self.need_replica(runtime, "unplanned failover").await?;
        let device = self.need_device(runtime).await?;
        let source = Arc::clone(&device);
        blocking(move || source.quiesce()).await?;
        let id = runtime.item.id.0;
        match self.shared.link.replicate(id, device, replica).await?.0 {
            Outcome::Drained => Ok(()),
            outcome => {
                Err(Error::ReplicaRefused { reason: format!("{outcome:?}"), is_full: false })
            }
        }
    }
}
