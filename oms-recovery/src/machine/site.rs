//! Making and opening the two sites of an item.

use super::ReplicationProtectedItem;
use super::disk::{BlockDevice as _, FileDevice, OverlayDevice};
use crate::error::{Error, Result};
use crate::recovery_point::RecoveryLog;
use crate::replication::image::check_length;
use crate::replication::mark::{Mark, MarkFile, Role};
use crate::replication::replica::Replica;
use crate::replication::tracker::TrackerOptions;
use crate::replication::transfer::CopyKind;
use crate::replication::{ProtectionState, Site, Stamp, TrackedDevice};
use crate::vault::Shared;
use oms_core::disk::{Disk, DiskError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Refuses a disk that its site's mark says is protected.
fn check_untaken(site: &Site, mark: Option<Mark>) -> Result<()> {
    if mark.is_none_or(|mark| matches!(mark.role, Role::Active | Role::Fenced)) {
        return Ok(());
    }
    let path = |name: &Path| Path::new(&site.location).join(name);
    let (image, folder) = (path(&site.image), path(&site.folder));
    let (image, folder) = (image.display(), folder.display());
    let name = format!("{image}, by another vault, or left by one that ended: {folder}");
    Err(Error::AlreadyExists { what: "protection of this disk", name })
}

/// Refuses a disk that is protected, and a folder beside it in which anything is but what a protection
/// that is over may have left there.
pub(crate) fn check_primary(store: &dyn Disk, site: &Site) -> Result<()> {
    let mark = peek(store, site)?;
    check_untaken(site, mark)?;
    if mark.is_some_and(|mark| mark.role == Role::Fenced) {
        check_kept(store, site)?;
    }
    check_folder(store, site, mark.is_some())
}

/// Refuses the disk of a former primary whose log is still there: it may hold what the image lacks,
/// and what begins anew here would clear it.
fn check_kept(store: &dyn Disk, site: &Site) -> Result<()> {
    for folder in [site.outgoing(), site.log(), site.overlay()] {
        if names(store, &folder)?.is_some_and(|names| !names.is_empty()) {
            let path = |name: &Path| Path::new(&site.location).join(name).display().to_string();
            let (image, kept) = (path(&site.image), path(&folder));
            let name =
                format!("{kept}, which {image} may lack: merge them into it, or discard them");
            return Err(Error::AlreadyExists { what: "writes of a protection that ended", name });
        }
    }
    Ok(())
}

/// Refuses a folder for replication in which anything is but an old mark.
pub(crate) fn check_recovery(store: &dyn Disk, site: &Site) -> Result<()> {
    peek(store, site)?;
    check_folder(store, site, false)
}

fn peek(store: &dyn Disk, site: &Site) -> Result<Option<Mark>> {
    MarkFile::peek(store, &site.mark()).map_err(|error| match error {
        Error::Corrupt { .. } => foreign(site, &site.mark()),
        error => error,
    })
}

/// Whatever is there would go with the protection.
fn check_folder(store: &dyn Disk, site: &Site, is_old: bool) -> Result<()> {
    for name in names(store, &site.folder)?.unwrap_or_default() {
        let path = site.folder.join(name);
        // A file of a folder's name cannot be listed.
        let is_empty =
            |path: &Path| names(store, path).is_ok_and(|names| names == Some(Vec::new()));
        let is_folder = site.folders().contains(&path);
        let is_left = is_old && (is_folder || path == site.image_note());
        if path != site.mark() && !is_left && !(is_folder && is_empty(&path)) {
            return Err(foreign(site, &path));
        }
    }
    Ok(())
}

fn foreign(site: &Site, path: &Path) -> Error {
    let value = Path::new(&site.location).join(path).display().to_string();
    let reason = "is in the way: replication wants this folder for itself";
    Error::Invalid { what: "replication folder", value, reason }
}

/// Makes both sites ready and begins to track. Repeated after a crash.
pub(crate) fn make_sites(shared: &Shared, item: &ReplicationProtectedItem) -> Result<()> {
    let store = shared.stores.open(&item.primary.location)?;
    store.create_dir_all(&item.primary.folder)?;
    let mut mark = MarkFile::open(&*store, &item.primary.mark())?;
    check_untaken(&item.primary, mark.mark().filter(|mark| mark.item != item.id.0))?;
    make_replica(shared, item, &item.recovery)?;
    let (stamp, floor) = (Stamp::default(), Stamp::default());
    let (id, epoch) = (item.id.0, item.epoch);
    mark.set(Mark { item: id, role: Role::Active, epoch, stamp, floor })?;
    drop(mark);
    let image = Arc::new(FileDevice::open(&*store, &item.primary.image)?);
    let device = TrackedDevice::open(image, &store, &item.primary, options(shared, item))?;
    device.begin_copy(CopyKind::Initial, item.epoch).map(drop)
}

/// Makes a site an empty replica: its image stays what it is, its log begins anew.
pub(crate) fn make_replica(
    shared: &Shared,
    item: &ReplicationProtectedItem,
    site: &Site,
) -> Result<()> {
    let store = shared.stores.open(&site.location)?;
    store.create_dir_all(&site.folder)?;
    let mut mark = MarkFile::open(&*store, &site.mark())?;
    let (stamp, floor) = (Stamp::default(), Stamp::default());
    let (id, epoch) = (item.id.0, item.epoch);
    remove_folder(&*store, &site.log())?;
    mark.set(Mark { item: id, role: Role::EmptyReplica, epoch, stamp, floor })?;
    remove_folder(&*store, &site.outgoing())?;
    FileDevice::open_or_create(&*store, &site.image, item.machine.disk_bytes).map(drop)
}

/// Removes what [`make_sites`] made before it failed, as far as that can be done.
pub(crate) fn unmake_sites(shared: &Shared, item: &ReplicationProtectedItem) {
    for (site, is_replica) in [(&item.recovery, true), (&item.primary, false)] {
        if let Err(error) = unmake_site(shared, item, site, is_replica) {
            let (location, folder) = (&site.location, site.folder.display());
            tracing::warn!(%error, %location, %folder, "left by a protection that could not begin");
        }
    }
}

fn unmake_site(
    shared: &Shared,
    item: &ReplicationProtectedItem,
    site: &Site,
    is_replica: bool,
) -> Result<()> {
    let store = shared.stores.open(&site.location)?;
    match MarkFile::peek(&*store, &site.mark())? {
        Some(mark) if mark.item == item.id.0 => {
            if is_replica {
                remove_file(&*store, &site.image)?;
            }
            remove_replication(shared, &*store, site)
        }
        Some(_) => Ok(()),
        None => {
            remove_file(&*store, &site.mark())?;
            tidy(shared, site);
            Ok(())
        }
    }
}

/// Removes what replication made at a site, what says whose it is at last.
pub(crate) fn remove_replication(shared: &Shared, store: &dyn Disk, site: &Site) -> Result<()> {
    for folder in site.folders() {
        if names(store, &folder)?.is_some() {
            remove_folder(store, &folder)?;
        }
    }
    remove_file(store, &site.image_note())?;
    remove_file(store, &site.lock())?;
    remove_file(store, &site.mark())?;
    tidy(shared, site);
    Ok(())
}

/// Removes a replica, and its image unless that was there before; the mark, which says that it is a replica,
/// goes after the image.
pub(crate) fn remove_replica(
    shared: &Shared,
    store: &dyn Disk,
    site: &Site,
    has_own_image: bool,
) -> Result<()> {
    if has_own_image {
        remove_file(store, &site.image)?;
    }
    remove_replication(shared, store, site)
}

/// Removes replication's folders at a site that hold nothing.
pub(crate) fn tidy(shared: &Shared, site: &Site) {
    let folders = site.folders().into_iter().chain([site.folder.clone()]);
    folders.for_each(|folder| shared.stores.remove_empty(&site.location, &folder));
}

/// What is in a folder; none if there is no such folder.
pub(crate) fn names(store: &dyn Disk, folder: &Path) -> Result<Option<Vec<String>>> {
    is_there(store.list(folder))
}

/// Removes a file that may not be there.
pub(crate) fn remove_file(store: &dyn Disk, path: &Path) -> Result<()> {
    if is_there(store.remove(path))?.is_some() {
        store.sync_dir(path.parent().unwrap_or(Path::new("")))?;
    }
    Ok(())
}

/// What an operation found; none if it is not there.
pub(crate) fn is_there<T>(found: std::result::Result<T, DiskError>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes the files of a folder that may not be there, in order of their names.
pub(crate) fn remove_folder(store: &dyn Disk, folder: &Path) -> Result<()> {
    store.create_dir_all(folder)?;
    for name in store.list(folder)? {
        store.remove(&folder.join(name))?;
    }
    Ok(store.sync_dir(folder)?)
}

pub(crate) fn options(shared: &Shared, item: &ReplicationProtectedItem) -> TrackerOptions {
    TrackerOptions {
        item: item.id.0,
        outgoing_log_bytes_max: item.policy.outgoing_log_bytes_max,
        segment_bytes: shared.settings.segment_bytes,
        clock: Arc::clone(&shared.clock),
        entropy: Arc::clone(&shared.entropy),
        stores: Some(Arc::clone(&shared.stores)),
    }
}

/// Production's disk, and what lies under it since a failover that is not committed.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) device: Arc<TrackedDevice>,
    pub(crate) uncommitted: Option<Uncommitted>,
}

/// What lies under production's disk since a failover that is not committed.
#[derive(Debug)]
pub(crate) struct Uncommitted {
    pub(crate) log: RecoveryLog,
    pub(crate) overlay: Arc<OverlayDevice>,
}

/// Opens the site that runs production as the state and its mark say; a commit that was
/// interrupted is completed.
pub(crate) fn open_active(shared: &Shared, item: &ReplicationProtectedItem) -> Result<Active> {
    open_active_of(shared, item, |site, found| check_length(site, found, item.machine.disk_bytes))
}

/// As [`open_active`], and brings what the log has also to an image that has grown: for the end of a
/// protection.
pub(crate) fn open_last(shared: &Shared, item: &ReplicationProtectedItem) -> Result<Active> {
    open_active_of(shared, item, |site, found| {
        check_length(site, found.min(item.machine.disk_bytes), item.machine.disk_bytes)
    })
}

fn open_active_of(
    shared: &Shared,
    item: &ReplicationProtectedItem,
    check: impl FnOnce(&Site, u64) -> Result<()>,
) -> Result<Active> {
    let site = item.active_site();
    let store = shared.stores.open(&site.location)?;
    if item.state.is_uncommitted() {
        return open_uncommitted(shared, item, &store);
    }
    if MarkFile::open(&*store, &site.mark())?.expect(item.id.0)?.role == Role::FailedOver {
        settle(shared, site, &open_uncommitted(shared, item, &store)?)?;
    }
    let image = Arc::new(FileDevice::open(&*store, &site.image)?);
    check(site, image.len())?;
    let device = TrackedDevice::open(image, &store, site, options(shared, item))?;
    Ok(Active { device: Arc::new(device), uncommitted: None })
}

/// Opens the site that does not run production; one that did until now becomes an empty replica.
pub(crate) fn open_replica(
    shared: &Shared,
    item: &ReplicationProtectedItem,
) -> Result<Arc<Mutex<Replica>>> {
    let site = item.passive_site();
    let store = shared.stores.open(&site.location)?;
    let role = MarkFile::open(&*store, &site.mark())?.expect(item.id.0)?.role;
    if !matches!(role, Role::Replica | Role::EmptyReplica) {
        use ProtectionState as S;
        let is_reversing = matches!(
            item.state,
            S::Reprotecting | S::ReverseResyncRequired | S::InitialReplication
        );
        if !is_reversing {
            let reason = format!("site of the replica says that it is {role:?}");
            return Err(Error::Internal { reason });
        }
        make_replica(shared, item, site)?;
    }
    let mut log = open_log(shared, item, site, &store)?;
    log.raise_epoch(item.epoch)?;
    Ok(Arc::new(Mutex::new(Replica::new(item.id.0, log))))
}

fn open_log(
    shared: &Shared,
    item: &ReplicationProtectedItem,
    site: &Site,
    store: &Arc<dyn Disk>,
) -> Result<RecoveryLog> {
    let base = FileDevice::open(&**store, &site.image)?;
    check_length(site, base.len(), item.machine.disk_bytes)?;
    let (segment_bytes, entropy) = (shared.settings.segment_bytes, &*shared.entropy);
    RecoveryLog::open(Arc::new(base), store, site, item.id.0, segment_bytes, entropy)
}

/// Makes the site that runs production one that failed over to the item's point, and opens it.
/// Repeated after a crash.
fn open_uncommitted(
    shared: &Shared,
    item: &ReplicationProtectedItem,
    store: &Arc<dyn Disk>,
) -> Result<Active> {
    let site = item.active_site();
    let mut log = open_log(shared, item, site, store)?;
    let mark = MarkFile::open(&**store, &site.mark())?.expect(item.id.0)?;
    let stamp = match item.point {
        Some(point) => point.stamp,
        // Committed already: the mark remembers the point.
        None => mark.stamp,
    };
    let is_done = mark.role == Role::FailedOver && mark.stamp == stamp && mark.epoch == item.epoch;
    if !is_done && item.point.is_some() {
        remove_folder(&**store, &site.overlay())?;
        log.fail_over(stamp, item.epoch)?;
        fence_passive(shared, item);
    }
    let view = Arc::new(log.view(stamp)?);
    let (segment_bytes, entropy) = (shared.settings.segment_bytes, &*shared.entropy);
    let (disk, folder) = (Arc::clone(store), site.overlay());
    let overlay = Arc::new(OverlayDevice::open(view, disk, folder, segment_bytes, entropy)?);
    let image = Arc::clone(&overlay);
    let device = TrackedDevice::open(image, store, site, options(shared, item))?;
    Ok(Active { device: Arc::new(device), uncommitted: Some(Uncommitted { log, overlay }) })
}

/// Merges what production runs on into the image; the mark of the site decides when it is done.
/// Repeated after a crash.
pub(crate) fn settle(shared: &Shared, site: &Site, active: &Active) -> Result<()> {
    let Some(Uncommitted { log, overlay }) = &active.uncommitted else {
        return Err(Error::Internal { reason: "commit without an overlay".to_owned() });
    };
    active.device.replace_image(|| {
        let base = Arc::clone(log.base());
        log.settle(overlay.stamp())?;
        overlay.settle(&*base)?;
        base.flush()?;
        Ok(base)
    })?;
    let store = shared.stores.open(&site.location)?;
    remove_folder(&*store, &site.log())?;
    remove_folder(&*store, &site.overlay())
}

/// Merges the disk that a failover which was not committed left into its image, when its protection has
/// ended. Repeated after a crash.
pub(crate) fn settle_last(
    shared: &Shared,
    item: &ReplicationProtectedItem,
    site: &Site,
    store: &Arc<dyn Disk>,
) -> Result<()> {
    if site != item.active_site() {
        let reason = format!("{} runs no production", site.image_path());
        return Err(Error::Internal { reason });
    }
    settle(shared, site, &open_uncommitted(shared, item, store)?)
}

/// Tells the former primary's site that production has moved. It may be lost, so failing to is no
/// failure: its epoch is refused all the same.
fn fence_passive(shared: &Shared, item: &ReplicationProtectedItem) {
    let site = item.passive_site();
    let fenced = shared.stores.open(&site.location).and_then(|store| {
        let mut mark = MarkFile::open(&*store, &site.mark())?;
        let last = mark.expect(item.id.0)?;
        if !last.role.has_log() {
            // Its image has had what is in there, and newer writes since.
            remove_folder(&*store, &site.outgoing())?;
        }
        mark.set(Mark { role: Role::Fenced, epoch: item.epoch, ..last })
    });
    if let Err(error) = fenced {
        tracing::warn!(%error, site = %site.location, "former primary could not be fenced");
    }
}
