//! Keeping a failover for good.

use crate::error::{Error, Result};
use crate::machine::ItemEvent;
use crate::machine::protected::{ProtectedItem, Runtime};
use crate::machine::site::settle;
use oms_core::task::blocking;
use std::sync::Arc;

impl ProtectedItem {
    /// Keeps the failover: every recovery point is deleted, and the machine's disk becomes the
    /// image itself. The machine runs on; its reads and writes wait while the log is merged.
    ///
    /// # Errors
    /// [`Error::IllegalState`]. On [`Error::Disk`] the handles given out before refuse writes; it
    /// is completed when the device is used next.
    pub async fn commit(&self) -> Result<()> {
        self.operation("commit", |item| async move {
            let mut runtime = item.begin().await?;
            runtime.item.check(&ItemEvent::Committed)?;
            item.need_device(&mut runtime).await?;
            item.append(&mut runtime, ItemEvent::Committed).await?;
            item.complete_commit(&mut runtime).await
        })
        .await
    }

    /// Makes the machine's disk the image itself.
    pub(crate) async fn complete_commit(&self, runtime: &mut Runtime) -> Result<()> {
        let Some(active) = runtime.active.take() else {
            // Opening the site completes it.
            return self.need_device(runtime).await.map(drop);
        };
        let (shared, site) = (Arc::clone(&self.shared), runtime.item.active_site().clone());
        let device = Arc::clone(&active.device);
        let (mut active, settled) = blocking(move || {
            let settled = settle(&shared, &site, &active);
            Ok::<_, Error>((active, settled))
        })
        .await?;
        if settled.is_err() {
            device.retire(runtime.item.epoch);
            self.let_go(runtime);
        } else {
            active.uncommitted = None;
            runtime.active = Some(active);
        }
        settled
    }
}
