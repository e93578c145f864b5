//! The end of a protection: always possible, and with a word on what it could not remove.

use super::ItemEvent;
use super::protected::{ProtectedItem, Runtime, illegal, told};
use super::site::{remove_replication, tidy};
use crate::error::{Error, Result};
use crate::replication::mark::{MarkFile, Role};
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
    /// What could not be removed, each with the reason. It is nobody's any more: remove it by hand once
    /// it can be reached, and before the disk is protected again.
    pub left: Vec<String>,
}

impl ProtectedItem {
    /// Ends protection, whatever has become of the replica. Production goes on where it is; the log, the
    /// recovery points, a test failover and a replica at the recovery site are removed as far as they
    /// can be reached.
    ///
    /// While a failover is not committed, production's disk lies on the recovery points, so it has to be
    /// committed first; only if that disk cannot be opened any more is protection ended without, and then
    /// all files stay.
    ///
    /// # Errors
    /// [`Error::IllegalState`]; [`Error::Journal`].
    pub async fn disable_protection(&self) -> Result<DisableReport> {
        self.operation("disable_protection", |item| async move {
            let mut runtime = item.begin().await?;
            if runtime.item.state.is_uncommitted() && item.need_device(&mut runtime).await.is_ok() {
                return Err(illegal(&runtime.item, "disabling the protection before a commit"));
            }
            item.append(&mut runtime, ItemEvent::Disabled).await?;
            item.complete_disable(&mut runtime).await
        })
        .await
    }

    /// Removes what replication needed.
    pub(crate) async fn complete_disable(&self, runtime: &mut Runtime) -> Result<DisableReport> {
        (runtime.replica, runtime.test) = (None, None);
        self.close();
        let shared = Arc::clone(&self.shared);
        let device = runtime.active.as_ref().map(|active| Arc::clone(&active.device));
        // The state is Unprotected now, so where production runs is told by the marks.
        let (primary, recovery) = (runtime.item.primary.clone(), runtime.item.recovery.clone());
        let id = runtime.item.id.0;
        let report = blocking(move || {
            Ok::<_, Error>(end(&shared, device.as_deref(), id, &primary, &recovery))
        })
        .await?;
        for left in &report.left {
            tracing::warn!(left, name = runtime.item.machine.name, "left by an ended protection");
        }
        Ok(report)
    }
}

fn end(
    shared: &Shared,
    device: Option<&TrackedDevice>,
    item: Uuid,
    primary: &Site,
    recovery: &Site,
) -> DisableReport {
    let mut report = DisableReport::default();
    let stopped = match device {
        Some(device) => device.stop_tracking(),
        None => Err(Error::SiteUnavailable { what: "the site that runs production" }),
    };
    for site in [primary, recovery] {
        let path = |name: &Path| Path::new(&site.location).join(name).display().to_string();
        match end_site(shared, item, site, site == recovery, &stopped) {
            Ok(End::Production) => report.disk = Some(path(&site.image)),
            Ok(End::Other) => {}
            Ok(End::Unmarked) => report.left.extend(unmarked(shared, site)),
            Err(error) => {
                let (folder, reason) = (path(&site.folder), told(&error));
                let image = match site == recovery {
                    true => format!(" and the image {}", path(&site.image)),
                    false => String::new(),
                };
                report.left.push(format!("{folder}{image}: {reason}"));
            }
        }
    }
    report
}

/// What was found at a site whose protection ends.
enum End {
    Production,
    Other,
    /// Nothing says that the site is of the item.
    Unmarked,
}

fn end_site(
    shared: &Shared,
    item: Uuid,
    site: &Site,
    is_recovery: bool,
    stopped: &Result<()>,
) -> Result<End> {
    let store = shared.stores.open(&site.location)?;
    let Some(role) = role(&*store, site, item)? else {
        tidy(shared, site);
        return Ok(End::Unmarked);
    };
    match role {
        Role::Replica | Role::EmptyReplica => {
            remove_replication(shared, &*store, site)?;
            if is_recovery {
                store.remove(&site.image)?;
                store.sync_dir(site.image.parent().unwrap_or("".as_ref()))?;
            }
            Ok(End::Other)
        }
        Role::Fenced => remove_replication(shared, &*store, site).map(|()| End::Other),
        // What the image lacks may be in the log beside it, so that goes only with the image whole.
        _ => match stopped {
            Ok(()) => remove_replication(shared, &*store, site).map(|()| End::Production),
            Err(error) => {
                let reason = format!("production's disk was not closed ({})", told(error));
                Err(Error::Broken { reason })
            }
        },
    }
}

/// What a site is to the item; none if nothing there says so.
fn role(store: &dyn Disk, site: &Site, item: Uuid) -> Result<Option<Role>> {
    match store.open(&site.mark(), OpenMode::Read) {
        Ok(_) => {}
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    Ok(Some(MarkFile::open(store, &site.mark())?.expect(item)?.role))
}

/// An image that nothing says is a replica is not removed.
fn unmarked(shared: &Shared, site: &Site) -> Option<String> {
    let store = shared.stores.open(&site.location).ok()?;
    store.open(&site.image, OpenMode::Read).ok()?;
    let path = Path::new(&site.location).join(&site.image);
    Some(format!("{}: nothing beside it says whether it is a replica", path.display()))
}
