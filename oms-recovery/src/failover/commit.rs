//! Keeping a failover for good.

use crate::error::{Error, Result};
use crate::machine::ItemEvent;
use crate::machine::protected::{ProtectedItem, Runtime, remove_folder};
use crate::replication::channel::blocking;
use crate::vault::Shared;
use std::sync::Arc;

impl ProtectedItem {
    /// Keeps the failover: every recovery point is deleted, and the machine's disk becomes the
    /// image itself. The machine runs on; its reads and writes wait while the log is merged.
    ///
    /// # Errors
    /// [`Error::IllegalState`]; [`Error::Disk`], in which case opening the item again completes
    /// it.
    pub async fn commit(&self) -> Result<()> {
        let mut runtime = self.runtime.lock().await;
        self.shared.append(&mut runtime.item, ItemEvent::Committed).await?;
        let shared = Arc::clone(&self.shared);
        let parts = Parts::take(&mut runtime)?;
        let settled = blocking(move || parts.settle(&shared)).await;
        if settled.is_err() {
            self.close();
        }
        settled
    }
}

/// Merges what production runs on into the image; the mark of the site decides when it is done.
/// Repeated after a crash.
pub(crate) fn settle(shared: &Shared, runtime: &mut Runtime) -> Result<()> {
    Parts::take(runtime)?.settle(shared)
}

struct Parts {
    device: Arc<crate::replication::TrackedDevice>,
    uncommitted: crate::machine::protected::Uncommitted,
    site: crate::replication::Site,
    stamp: crate::replication::Stamp,
}

impl Parts {
    fn take(runtime: &mut Runtime) -> Result<Self> {
        let Some(uncommitted) = runtime.overlay.take() else {
            let reason = "commit without an overlay".to_owned();
            return Err(Error::Internal { reason });
        };
        Ok(Self {
            device: Arc::clone(&runtime.device),
            stamp: uncommitted.overlay.stamp(),
            uncommitted,
            site: runtime.item.active_site().clone(),
        })
    }

    fn settle(&self, shared: &Shared) -> Result<()> {
        let (log, overlay) = (&self.uncommitted.log, &self.uncommitted.overlay);
        self.device.replace_image(|_| {
            let base = Arc::clone(log.base());
            log.settle(self.stamp)?;
            overlay.settle(&*base)?;
            base.flush()?;
            Ok(base)
        })?;
        let store = shared.stores.open(&self.site.location)?;
        remove_folder(&*store, &self.site.log())?;
        remove_folder(&*store, &self.site.overlay())
    }
}
