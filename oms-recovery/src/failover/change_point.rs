//! Another point, as long as the failover is not committed.

use crate::error::Result;
use crate::machine::protected::{ProtectedItem, illegal};
use crate::machine::{ChosenPoint, ItemEvent};
use crate::recovery_point::PointChoice;

impl ProtectedItem {
    /// Starts production again from another recovery point. What it wrote since the failover is
    /// dropped; handles from before refuse writes.
    ///
    /// # Errors
    /// [`crate::Error::IllegalState`]; [`crate::Error::NotFound`].
    pub async fn change_point(&self, choice: PointChoice) -> Result<ChosenPoint> {
        self.operation("change_point", move |item| async move { item.change_to(choice).await })
            .await
    }

    async fn change_to(&self, choice: PointChoice) -> Result<ChosenPoint> {
        let mut runtime = self.begin().await?;
        if !runtime.item.state.is_uncommitted() {
            return Err(illegal(&runtime.item, "change of the recovery point"));
        }
        self.need_device(&mut runtime).await?;
        let uncommitted = runtime.active.as_ref().and_then(|active| active.uncommitted.as_ref());
        let Some(uncommitted) = uncommitted else {
            return Err(illegal(&runtime.item, "change of the recovery point"));
        };
        let (stamp, point) = uncommitted.log.choose(choice)?;
        let (point, epoch) = (ChosenPoint::new(stamp, point), runtime.item.epoch + 1);
        let event = ItemEvent::PointChanged { epoch, point };
        self.move_to(&mut runtime, epoch, event).await?;
        Ok(point)
    }
}
