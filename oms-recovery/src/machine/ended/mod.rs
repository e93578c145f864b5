//! Protections that have ended, and what is still at their sites: the end could not reach it, or kept
//! it since writes may be there and nowhere else.
//!
//! ```text
//!  end ──► what stays ──┬─ merge ───► fence the site ─► log onto the image ─┐
//!                       └─ discard ─────────────────────────────────────────┴─► files removed, the mark last
//! ```
//!
//! A site's mark says whose it is until nothing else is left, so each step is repeated after a crash.

pub mod release;

pub mod state;

pub use release::ReleasePlan;
pub use state::ReleaseState;

use super::ReplicationProtectedItem;
use super::disable::DisableReport;
use super::disk::{BlockDevice as _, FileDevice};
use super::protected::told;
use super::site::names;
use crate::error::{Error, Result};
use crate::replication::Site;
use crate::replication::image::ImageWatch;
use crate::replication::mark::{Mark, MarkFile, Role};
use crate::replication::state::ActiveLocation;
pub use crate::replication::tracker::merge::{KnownImage, LogContent};
use crate::vault::Shared;
use jiff::Timestamp;
use oms_core::disk::{Disk, OpenMode};
use oms_core::journal::JournalExt as _;
use oms_core::task::blocking;
use std::path::Path;
use std::sync::Arc;

/// What a site is to a protection that has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RemainsKind {
    /// Production's disk, with a log of which its image may lack writes.
    Production,
    /// The disk that was production's before a failover, with a log of which its image may lack writes.
    /// What it has that the other site has not was lost by the failover, and is no part of what
    /// production went on with.
    FormerPrimary,
    /// Production's disk since a failover that was not committed: image, log and overlay are one disk.
    OneDisk,
    /// A replica that nobody needs.
    Replica,
}

/// What is still at a site of a protection that has ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remains {
    /// Which of the two sites.
    pub location: ActiveLocation,
    /// What it is.
    pub kind: RemainsKind,
    /// Where the image is.
    pub image: String,
    /// Where replication's files are.
    pub folder: String,
    /// Bytes of the logs in that folder.
    pub log_bytes: u64,
    /// What is known of the image; none if it cannot be told, or means nothing.
    pub known_image: Option<KnownImage>,
    /// Where its release stands.
    pub state: ReleaseState,
}

/// A protection that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedProtection {
    /// The item as it was before its end.
    pub item: ReplicationProtectedItem,
    /// When it ended.
    pub ended: Timestamp,
    /// What is still at its sites, the primary first.
    pub remains: Vec<Remains>,
    /// What of its sites cannot be looked at, each with the reason.
    pub problems: Vec<String>,
}

impl EndedProtection {
    /// What [`disable_protection`] would answer now, also to those who did not hear its answer.
    ///
    /// [`disable_protection`]: crate::ProtectedItem::disable_protection
    #[must_use]
    pub fn report(&self) -> DisableReport {
        let site = self.item.active_site();
        let mut report =
            DisableReport { disk: Some(site.image_path()), ..DisableReport::default() };
        report.left.extend(self.problems.iter().cloned());
        for Remains { kind, image, folder, known_image, .. } in &self.remains {
            let is_whole = *known_image == Some(KnownImage::Whole);
            match kind {
                RemainsKind::OneDisk => {
                    report.disk = None;
                    let kept = format!("{folder} and the image {image}, which are one disk");
                    report.kept.push(kept);
                }
                RemainsKind::Production | RemainsKind::FormerPrimary if !is_whole => {
                    report.kept.push(format!("{folder}, which may hold writes that {image} lacks"));
                }
                RemainsKind::Replica if self.item.recovery.image_path() == *image => {
                    report.left.push(format!("{folder} and the image {image}"));
                }
                _ => report.left.push(folder.clone()),
            }
        }
        report
    }
}

impl ReplicationProtectedItem {
    /// One of its sites.
    #[must_use]
    pub const fn site(&self, location: ActiveLocation) -> &Site {
        match location {
            ActiveLocation::Primary => &self.primary,
            ActiveLocation::Recovery => &self.recovery,
        }
    }
}

/// Both sites of an item.
const SITES: [ActiveLocation; 2] = [ActiveLocation::Primary, ActiveLocation::Recovery];

impl Shared {
    /// The protections of a machine that have ended, oldest first, each as it was before its end.
    async fn ended(&self, name: &str) -> Result<Vec<(ReplicationProtectedItem, Timestamp)>> {
        let events = self.journal.read_whole(&Self::history(name)?).await?;
        if events.is_empty() {
            return Err(Error::NotFound { what: "protection", name: name.to_owned() });
        }
        ReplicationProtectedItem::ended(&events)
    }

    /// The ended protections of a machine, with what is at their sites.
    pub(crate) async fn ended_protections(
        self: &Arc<Self>,
        name: &str,
    ) -> Result<Vec<EndedProtection>> {
        let mut protections = Vec::new();
        for (item, ended) in self.ended(name).await? {
            let (mut remains, mut problems) = (Vec::new(), Vec::new());
            for location in SITES {
                match self.find(&item, location).await {
                    Ok(found) => remains.extend(found),
                    Err(error @ Error::Journal(_)) => return Err(error),
                    Err(error) => {
                        let site = item.site(location);
                        problems.push(format!("{}: {}", site.folder_path(), told(&error)));
                    }
                }
            }
            protections.push(EndedProtection { item, ended, remains, problems });
        }
        Ok(protections)
    }

    /// What is at a site of an item whose protection has ended, if anything.
    async fn find(
        self: &Arc<Self>,
        item: &ReplicationProtectedItem,
        location: ActiveLocation,
    ) -> Result<Option<Remains>> {
        let (shared, looked) = (Arc::clone(self), item.clone());
        let found = blocking(move || look(&shared, &looked, location)).await?;
        let Some(mut remains) = found else { return Ok(None) };
        let history = state::history(item.id, location)?;
        remains.state = state::read(&*self.journal, &history).await?.state;
        Ok(Some(remains))
    }
}

/// Looks at a site; changes nothing there.
fn look(
    shared: &Shared,
    item: &ReplicationProtectedItem,
    location: ActiveLocation,
) -> Result<Option<Remains>> {
    let site = item.site(location);
    if !shared.stores.exists(&site.location) {
        return Ok(None);
    }
    let store = shared.stores.open(&site.location)?;
    let mark = MarkFile::peek(&*store, &site.mark())?;
    let Some(mark) = mark.filter(|mark| mark.item == item.id.0) else { return Ok(None) };
    let kind = kind(item, location, mark.role);
    let known_image = match kind {
        RemainsKind::Production | RemainsKind::FormerPrimary => {
            Some(known_image(shared, item, site, &store, mark)?)
        }
        RemainsKind::OneDisk | RemainsKind::Replica => None,
    };
    Ok(Some(Remains {
        location,
        kind,
        image: site.image_path(),
        folder: site.folder_path(),
        log_bytes: log_bytes(&*store, site)?,
        known_image,
        state: ReleaseState::default(),
    }))
}

fn kind(item: &ReplicationProtectedItem, location: ActiveLocation, role: Role) -> RemainsKind {
    let is_active = item.state.active_location() == location;
    match role {
        Role::FailedOver => RemainsKind::OneDisk,
        // Production had just been moved there.
        Role::Replica | Role::EmptyReplica if is_active && item.state.is_uncommitted() => {
            RemainsKind::OneDisk
        }
        Role::Replica | Role::EmptyReplica => RemainsKind::Replica,
        _ if is_active => RemainsKind::Production,
        _ => RemainsKind::FormerPrimary,
    }
}

fn known_image(
    shared: &Shared,
    item: &ReplicationProtectedItem,
    site: &Site,
    store: &Arc<dyn Disk>,
    mark: Mark,
) -> Result<KnownImage> {
    let image = FileDevice::open(&**store, &site.image)?;
    let (stores, disk) = (Arc::clone(&shared.stores), Arc::clone(store));
    let mut watch = ImageWatch::open(stores, disk, site.clone(), item.id.0)?;
    KnownImage::of(mark.role, &mut watch, image.len())
}

fn log_bytes(store: &dyn Disk, site: &Site) -> Result<u64> {
    let mut bytes = 0;
    for folder in site.folders() {
        for name in names(store, &folder)?.unwrap_or_default() {
            bytes += store.open(&folder.join(name), OpenMode::Read)?.len()?;
        }
    }
    Ok(bytes)
}

impl Site {
    /// The image, for people.
    pub(crate) fn image_path(&self) -> String {
        Path::new(&self.location).join(&self.image).display().to_string()
    }

    /// Replication's folder, for people.
    pub(crate) fn folder_path(&self) -> String {
        Path::new(&self.location).join(&self.folder).display().to_string()
    }
}
