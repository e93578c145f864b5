//! The end of a protection: always possible, and with a word on what it could not remove.

use super::protected::{ProtectedItem, Runtime, illegal, told};
use super::site::{is_there, open_last, remove_replica, remove_replication, tidy};
use super::{ItemEvent, ReplicationProtectedItem};
use crate::error::{Error, Result};
use crate::replication::mark::{MarkFile, Role};
use crate::replication::state::ActiveLocation;
use crate::replication::{Site, TrackedDevice};
use crate::vault::Shared;
use oms_core::disk::{Disk, OpenMode};
use oms_core::task::blocking;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// What the end of a protection came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DisableReport {
    /// Where production's disk is from now on, if that can be told.
    pub disk: Option<String>,
    /// What could not be removed, each with the reason. It is nobody's any more:
    /// [`plan_discard`](crate::RecoveryVault::plan_discard) removes it once it can be reached, which is to be
    /// before the disk is protected again.
    pub left: Vec<String>,
    /// What stays since production's disk could not be opened, each with the reason: flushed writes may
    /// be there and nowhere else. A new protection that would clear it is refused.
    /// [`RecoveryVault::plan_merge`] brings it to the image, [`RecoveryVault::plan_discard`] does without.
    ///
    /// [`RecoveryVault::plan_merge`]: crate::RecoveryVault::plan_merge
    /// [`RecoveryVault::plan_discard`]: crate::RecoveryVault::plan_discard
    pub kept: Vec<String>,
}

/// Production as it is found when its protection ends.
#[derive(Debug)]
struct Production {
    location: ActiveLocation,
    is_uncommitted: bool,
    /// Its disk, or why it cannot be opened.
    device: Result<Arc<TrackedDevice>>,
}

impl ProtectedItem {
    /// Ends protection, whatever has become of the replica. Production goes on where it is; the log, the
    /// recovery points, a test failover and a replica at the recovery site are removed as far as they
    /// can be reached. What production had flushed is brought to its image first, also to one that has
    /// grown, and is durable there before the end is journalled; where that cannot be done, the files that
    /// hold it stay.
    ///
    /// While a failover is not committed, production's disk lies on the recovery points, so it has to be
    /// committed first; only if that disk cannot be opened any more is protection ended without, and then
    /// all files of both sites stay.
    ///
    /// Where the journal failed, it may have taken the end all the same: the next call of this on the same
    /// item finds out and answers the report, once. Another process finds what is still at the sites by
    /// [`ended_protections`](crate::RecoveryVault::ended_protections).
    ///
    /// # Errors
    /// [`Error::IllegalState`]; [`Error::Journal`].
    pub async fn disable_protection(&self) -> Result<DisableReport> {
        self.operation("disable_protection", |item| async move {
            // Every caller's future would have room for it.
            Box::pin(item.disable()).await
        })
        .await
    }

    async fn disable(&self) -> Result<DisableReport> {
        let mut runtime = self.begin().await?;
        if let Some(report) = runtime.ended.take() {
            return Ok(report);
        }
        runtime.item.check(&ItemEvent::Disabled)?;
        let production = self.find_production(&mut runtime).await;
        if production.is_uncommitted && production.device.is_ok() {
            return Err(illegal(&runtime.item, "disabling the protection before a commit"));
        }
        self.append(&mut runtime, ItemEvent::Disabled).await?;
        self.complete_disable(&mut runtime, production).await
    }

    /// Ends a protection whose end the journal took without telling; `ended` is the item as it is then.
    pub(crate) async fn hear_end(
        &self,
        runtime: &mut Runtime,
        ended: ReplicationProtectedItem,
    ) -> Result<()> {
        let production = self.find_production(runtime).await;
        (runtime.item, runtime.unheard) = (ended, Vec::new());
        runtime.ended = Some(self.complete_disable(runtime, production).await?);
        Ok(())
    }

    /// Finds production's disk for the end of its protection. To be called before the state tells of it.
    async fn find_production(&self, runtime: &mut Runtime) -> Production {
        let state = runtime.item.state;
        let (location, is_uncommitted) = (state.active_location(), state.is_uncommitted());
        if is_uncommitted {
            let device = self.need_device(runtime).await;
            return Production { location, is_uncommitted, device };
        }
        let mut device = self.need_through(runtime).await;
        if runtime.active.as_ref().is_some_and(|active| active.device.is_broken()) {
            // What its image missed is in the log, and is brought over when the site is opened.
            if let Some(former) = runtime.active.take() {
                former.device.retire(runtime.item.epoch);
            }
            self.let_go(runtime);
            device = self.need_through(runtime).await;
        }
        // One that is open goes on, whatever its flush came to.
        if device.is_err() && runtime.active.is_none() {
            let (shared, item) = (Arc::clone(&self.shared), runtime.item.clone());
            let opened = blocking(move || open_last(&shared, &item)).await;
            device = opened.map(|active| active.device);
        }
        Production { location, is_uncommitted, device }
    }

    /// Production's disk, which brings every flush to its image from now on: once the state tells of the
    /// end, nobody replays its log after a power loss.
    async fn need_through(&self, runtime: &mut Runtime) -> Result<Arc<TrackedDevice>> {
        let device = self.need_device(runtime).await?;
        blocking(move || device.write_through().map(|()| device)).await
    }

    /// Removes what replication needed.
    async fn complete_disable(
        &self,
        runtime: &mut Runtime,
        production: Production,
    ) -> Result<DisableReport> {
        (runtime.replica, runtime.test) = (None, None);
        self.close();
        let shared = Arc::clone(&self.shared);
        let (primary, recovery) = (runtime.item.primary.clone(), runtime.item.recovery.clone());
        let id = runtime.item.id.0;
        let report =
            blocking(move || Ok::<_, Error>(end(&shared, production, id, [&primary, &recovery])))
                .await?;
        let name = &runtime.item.machine.name;
        for left in report.left.iter().chain(&report.kept) {
            tracing::warn!(left, name, "left by an ended protection");
        }
        Ok(report)
    }
}

/// Ends the protection at both sites, the primary first.
fn end(shared: &Shared, production: Production, item: Uuid, sites: [&Site; 2]) -> DisableReport {
    let Production { location, is_uncommitted, device } = production;
    // The disk of a failover that is not committed lies on what would be removed.
    let stopped = device.and_then(|device| match is_uncommitted {
        true => Err(Error::Broken { reason: "its failover is not committed".to_owned() }),
        false => device.stop_tracking(),
    });
    let mut report = DisableReport::default();
    for (site, here) in sites.into_iter().zip([ActiveLocation::Primary, ActiveLocation::Recovery]) {
        let path = |name: &Path| Path::new(&site.location).join(name).display().to_string();
        let (image, folder) = (path(&site.image), path(&site.folder));
        let is_production = here == location;
        let ended = end_site(shared, item, site, here, is_uncommitted, stopped.is_ok());
        let is_nowhere = matches!(ended, Ok(End::Unmarked { has_image: false }));
        let is_merged = !is_uncommitted && !matches!(ended, Ok(End::Kept { is_one_disk: true }));
        if is_production && is_merged && !is_nowhere {
            report.disk = Some(image.clone());
        }
        let reason = match (&ended, &stopped) {
            (Err(error), _) | (_, Err(error)) => told(error),
            _ => String::new(),
        };
        match ended {
            Ok(End::Done | End::Unmarked { has_image: false }) => {}
            // It is production's own, whatever became of what was beside it.
            Ok(End::Unmarked { .. }) if is_production => {}
            Ok(End::Unmarked { .. }) => {
                let told = "nothing beside it says whether it is a replica";
                report.left.push(format!("{image}: {told}"));
            }
            Ok(End::Kept { .. }) | Err(_) if !is_merged => {
                let what = match is_production {
                    true => "are one disk",
                    false => "were production's before the failover",
                };
                report.kept.push(format!("{folder} and the image {image}, which {what}: {reason}"));
            }
            Err(_) if !is_production && here == ActiveLocation::Recovery => {
                report.left.push(format!("{folder} and the image {image}: {reason}"));
            }
            Err(_) if !is_production || stopped.is_ok() => {
                report.left.push(format!("{folder}: {reason}"));
            }
            Ok(End::Kept { .. }) | Err(_) => report
                .kept
                .push(format!("{folder}, which may hold writes that {image} lacks: {reason}")),
        }
    }
    report
}

/// What became of a site whose protection ends.
enum End {
    /// Nothing of replication is there any more.
    Done,
    /// What the image lacks may be in the files beside it, which stay.
    Kept {
        /// Whether the image is only the base of a disk that lies in those files.
        is_one_disk: bool,
    },
    /// Nothing says that the site is of the item.
    Unmarked {
        /// Whether there is an image.
        has_image: bool,
    },
}

fn end_site(
    shared: &Shared,
    item: Uuid,
    site: &Site,
    here: ActiveLocation,
    is_uncommitted: bool,
    is_stopped: bool,
) -> Result<End> {
    let store = shared.stores.open(&site.location)?;
    let Some(role) = role(&*store, site, item)? else {
        tidy(shared, site);
        let has_image = is_there(store.open(&site.image, OpenMode::Read))?.is_some();
        return Ok(End::Unmarked { has_image });
    };
    match role {
        // Production was moved, and its disk may still be called a replica; the one it was moved from
        // may hold in its log what neither image has.
        _ if is_uncommitted => return Ok(End::Kept { is_one_disk: role == Role::FailedOver }),
        Role::Replica | Role::EmptyReplica => {
            remove_replica(shared, &*store, site, here == ActiveLocation::Recovery)?;
        }
        Role::Fenced => remove_replication(shared, &*store, site)?,
        _ if is_stopped => remove_replication(shared, &*store, site)?,
        _ => return Ok(End::Kept { is_one_disk: role == Role::FailedOver }),
    }
    Ok(End::Done)
}

/// What a site is to the item; none if nothing there says so.
fn role(store: &dyn Disk, site: &Site, item: Uuid) -> Result<Option<Role>> {
    if is_there(store.open(&site.mark(), OpenMode::Read))?.is_none() {
        return Ok(None);
    }
    Ok(Some(MarkFile::open(store, &site.mark())?.expect(item)?.role))
}
