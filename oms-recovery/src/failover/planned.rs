//! A failover that loses nothing: stop the source's writes, drain, start the target.

use crate::error::Result;
use crate::machine::protected::{ProtectedItem, Runtime, count_failover, illegal};
use crate::machine::{ChosenPoint, ItemEvent};
use crate::recovery_point::{Consistency, RecoveryPoint};
use crate::replication::ProtectionState;
use oms_core::task::blocking;

impl ProtectedItem {
    /// Moves production to the recovery site without loss. Shut the machine down first; from here
    /// on its old disk refuses writes, and [`device`](Self::device) answers the new one.
    ///
    /// # Errors
    /// [`crate::Error::IllegalState`]. On any other error production stays where it was and the
    /// source may be started again.
    pub async fn planned_failover(&self) -> Result<ChosenPoint> {
        self.operation("planned_failover", |item| async move {
            let mut runtime = item.begin().await?;
            if runtime.item.state != ProtectionState::Protected {
                return Err(illegal(&runtime.item, "planned failover"));
            }
            let moved = item.move_production(&mut runtime).await;
            count_failover("planned", &moved);
            moved
        })
        .await
    }

    /// The planned failover from the side that runs production to the other.
    pub(crate) async fn move_production(&self, runtime: &mut Runtime) -> Result<ChosenPoint> {
        self.append(runtime, ItemEvent::PlannedFailoverStarted).await?;
        let drained = self.drain(runtime).await;
        let point = match drained {
            Ok(point) => ChosenPoint::new(point.stamp, Some(point)),
            Err(error) => {
                self.resume(runtime);
                let reason = error.to_string();
                let event = ItemEvent::FailoverFailed { reason };
                self.append(runtime, event).await?;
                // While it was being drained the state had no room for it.
                self.check_log(runtime).await?;
                return Err(error);
            }
        };
        self.activate(runtime, point).await?;
        Ok(point)
    }

    /// Stops the source's writes and brings the last of them to the replica, with a point at the
    /// end.
    pub(crate) async fn drain(&self, runtime: &mut Runtime) -> Result<RecoveryPoint> {
        let device = self.need_device(runtime).await?;
        blocking(move || device.quiesce()).await?;
        let point = self.mark_point(runtime, Consistency::CrashConsistent).await?;
        self.replicate_in(runtime).await?;
        Ok(point)
    }

    /// Journals that production has moved, then makes it so. The event decides: if what follows is
    /// interrupted, it is completed when the device is used next.
    pub(crate) async fn activate(&self, runtime: &mut Runtime, point: ChosenPoint) -> Result<()> {
        let epoch = runtime.item.epoch + 1;
        self.move_to(runtime, epoch, ItemEvent::FailoverCompleted { epoch, point }).await
    }

    /// Lets production's disk take writes again, if it is there.
    pub(crate) fn resume(&self, runtime: &Runtime) {
        if let Some(active) = &runtime.active {
            active.device.resume();
        }
    }
}
