//! A drill: a copy-on-write disk over a recovery point, while replication goes on.

use crate::error::{Error, Result};
use crate::machine::disk::{BlockDevice, OverlayDevice, export_raw};
use crate::machine::protected::{ProtectedItem, Runtime, count_failover, lock};
use crate::machine::site::remove_folder;
use crate::machine::{ChosenPoint, ItemEvent};
use crate::recovery_point::PointChoice;
use crate::replication::TestFailoverState;
use crate::vault::Shared;
use oms_core::task::blocking;
use std::path::Path;
use std::sync::Arc;

/// A running test failover. Dropping it changes nothing; clean it up through its item.
#[derive(Clone, Debug)]
pub struct TestFailover {
    /// The prefix of writes it shows.
    pub point: ChosenPoint,
    overlay: Arc<OverlayDevice>,
}

impl TestFailover {
    /// Its disk, for a machine on an isolated network. What is written to it stays in the drill.
    #[must_use]
    pub fn device(&self) -> Arc<dyn BlockDevice> {
        Arc::clone(&self.overlay) as Arc<dyn BlockDevice>
    }

    /// Writes its disk to a new raw image; answers its length in bytes.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Disk`].
    pub async fn export_raw(&self, path: &Path) -> Result<u64> {
        let (device, path) = (self.device(), path.to_owned());
        blocking(move || export_raw(&*device, &path)).await
    }
}

impl ProtectedItem {
    /// Begins a drill on a recovery point. Replication goes on, and the point is kept until the
    /// drill is cleaned up.
    ///
    /// # Errors
    /// [`Error::IllegalState`]; [`Error::NotFound`] for the point; [`Error::Corrupt`] if the log is
    /// damaged, in which case the drill is cleaned up as failed.
    pub async fn test_failover(&self, choice: PointChoice) -> Result<TestFailover> {
        self.operation("test_failover", move |item| async move { item.begin_test(choice).await })
            .await
    }

    async fn begin_test(&self, choice: PointChoice) -> Result<TestFailover> {
        let mut runtime = self.begin().await?;
        let replica = self.need_replica(&mut runtime, "test failover").await?;
        let (stamp, point) = lock(&replica).log().choose(choice)?;
        let point = ChosenPoint::new(stamp, point);
        let event = ItemEvent::TestFailoverStarted { point };
        self.append(&mut runtime, event).await?;
        let opened = self.open_test(&mut runtime).await;
        count_failover("test", &opened);
        match opened {
            Ok(overlay) => Ok(TestFailover { point, overlay }),
            Err(error) => {
                let comments = error.to_string();
                self.end_test(&mut runtime, comments, false).await?;
                Err(error)
            }
        }
    }

    /// The running drill, also after a restart.
    pub async fn running_test_failover(&self) -> Option<TestFailover> {
        let runtime = self.runtime.lock().await;
        if runtime.item.test == TestFailoverState::MarkedForDeletion {
            return None;
        }
        let (overlay, point) = (runtime.test.clone()?, runtime.item.test_point?);
        Some(TestFailover { point, overlay })
    }

    /// Ends the drill and removes its disk. Only now it counts as done.
    ///
    /// # Errors
    /// [`Error::IllegalState`]; [`Error::Disk`], and then this is to be called again.
    pub async fn cleanup_test_failover(&self, comments: &str) -> Result<()> {
        let comments = comments.to_owned();
        self.operation("cleanup_test_failover", |item| async move {
            let mut runtime = item.begin().await?;
            let is_success = runtime.test.is_some();
            item.end_test(&mut runtime, comments, is_success).await
        })
        .await
    }

    async fn end_test(
        &self,
        runtime: &mut Runtime,
        comments: String,
        is_success: bool,
    ) -> Result<()> {
        // What was begun and could not be completed goes on.
        if runtime.item.test != TestFailoverState::MarkedForDeletion {
            let event = ItemEvent::TestFailoverCleanupStarted { comments };
            self.append(runtime, event).await?;
        }
        remove(&self.shared, runtime).await?;
        let event = ItemEvent::TestFailoverCleanedUp { is_success };
        self.append(runtime, event).await
    }

    /// Opens the disk of a drill that was just begun.
    pub(crate) async fn open_test(&self, runtime: &mut Runtime) -> Result<Arc<OverlayDevice>> {
        self.need_replica(runtime, "test failover").await?;
        let (shared, facts) = (Arc::clone(&self.shared), Facts::of(runtime)?);
        let overlay = blocking(move || facts.open(&shared, true)).await?;
        runtime.test = Some(Arc::clone(&overlay));
        Ok(overlay)
    }
}

/// Opens the drill's disk; a fresh one is emptied first.
pub(crate) fn open(
    shared: &Shared,
    runtime: &Runtime,
    is_fresh: bool,
) -> Result<Arc<OverlayDevice>> {
    Facts::of(runtime)?.open(shared, is_fresh)
}

/// Removes the drill's disk.
pub(crate) async fn remove(shared: &Arc<Shared>, runtime: &mut Runtime) -> Result<()> {
    let (shared, site) = (Arc::clone(shared), runtime.item.passive_site().clone());
    blocking(move || {
        let store = shared.stores.open(&site.location)?;
        remove_folder(&*store, &site.test())
    })
    .await?;
    runtime.test = None;
    Ok(())
}

/// What opening the drill's disk needs.
struct Facts {
    site: crate::replication::Site,
    replica: Arc<std::sync::Mutex<crate::replication::replica::Replica>>,
    point: ChosenPoint,
}

impl Facts {
    fn of(runtime: &Runtime) -> Result<Self> {
        let (Some(replica), Some(point)) = (runtime.replica.clone(), runtime.item.test_point)
        else {
            let reason = "test failover without a replica or a point".to_owned();
            return Err(Error::Internal { reason });
        };
        Ok(Self { site: runtime.item.passive_site().clone(), replica, point })
    }

    fn open(&self, shared: &Shared, is_fresh: bool) -> Result<Arc<OverlayDevice>> {
        let store = shared.stores.open(&self.site.location)?;
        if is_fresh {
            remove_folder(&*store, &self.site.test())?;
        }
        let view = Arc::new(lock(&self.replica).log().view(self.point.stamp)?);
        let (segment_bytes, entropy) = (shared.settings.segment_bytes, &*shared.entropy);
        let folder = self.site.test();
        Ok(Arc::new(OverlayDevice::open(view, store, folder, segment_bytes, entropy)?))
    }
}
