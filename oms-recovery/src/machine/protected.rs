//! A protected item that is open: its disk, its replica, and what can be done with them.

use super::disk::{BlockDevice as _, FileDevice, OverlayDevice};
use super::{ItemEvent, ReplicationProtectedItem};
use crate::error::{Error, Result};
use crate::failover::commit::settle;
use crate::recovery_point::{Consistency, PointId, Quiescer, RecoveryLog, RecoveryPoint};
use crate::replication::channel::{blocking, run_in_process};
use crate::replication::health::Health;
use crate::replication::mark::{Mark, MarkFile, Role};
use crate::replication::primary::Outcome;
use crate::replication::replica::Replica;
use crate::replication::state::ActiveLocation;
use crate::replication::tracker::TrackerOptions;
use crate::replication::transfer::CopyKind;
use crate::replication::{ProtectionState, Site, Stamp, TestFailoverState, TrackedDevice};
use crate::vault::Shared;
use oms_core::disk::Disk;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What one call of [`ProtectedItem::replicate`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplicationReport {
    /// Bytes of writes sent.
    pub frame_bytes: u64,
    /// Bytes of copied blocks sent.
    pub copy_bytes: u64,
    /// Messages sent.
    pub messages: u64,
    /// The last write that the replica holds durably.
    pub acknowledged: Stamp,
}

/// Where an item stands.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemStatus {
    /// The item as its history tells it.
    pub item: ReplicationProtectedItem,
    /// Which site runs production.
    pub active_location: ActiveLocation,
    /// What can be done now, as the management API spells it.
    pub allowed_operations: Vec<&'static str>,
    /// How well it is replicated.
    pub health: Health,
}

/// A protected item that is open. One operation runs at a time; reads and writes of the
/// [`device`](Self::device) go on meanwhile.
#[derive(Debug)]
pub struct ProtectedItem {
    pub(crate) shared: Arc<Shared>,
    pub(crate) runtime: tokio::sync::Mutex<Runtime>,
    device: Mutex<Arc<TrackedDevice>>,
    is_closed: AtomicBool,
}

/// What is open of an item.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) item: ReplicationProtectedItem,
    /// Production's disk.
    pub(crate) device: Arc<TrackedDevice>,
    /// The other side, unless production runs on its log.
    pub(crate) replica: Option<Arc<Mutex<Replica>>>,
    /// Under production since a failover that is not committed.
    pub(crate) overlay: Option<Uncommitted>,
    /// The disk of a test failover.
    pub(crate) test: Option<Arc<OverlayDevice>>,
    /// Makes applications stand still for application-consistent points.
    pub(crate) quiescer: Option<Arc<dyn Quiescer>>,
}

/// What lies under production's disk since a failover that is not committed.
#[derive(Debug)]
pub(crate) struct Uncommitted {
    pub(crate) log: RecoveryLog,
    pub(crate) overlay: Arc<OverlayDevice>,
}

impl ProtectedItem {
    /// Opens an item and completes or undoes what was interrupted.
    pub(crate) async fn open(
        shared: Arc<Shared>,
        mut item: ReplicationProtectedItem,
    ) -> Result<Self> {
        use ProtectionState as S;
        if item.state == S::Enabling {
            let (opening, request) = (Arc::clone(&shared), item.clone());
            let made = blocking(move || make_sites(&opening, &request)).await;
            if let Err(error) = made {
                let reason = error.to_string();
                shared.append(&mut item, ItemEvent::EnableFailed { reason }).await?;
                return Err(error);
            }
            shared.append(&mut item, ItemEvent::TrackingStarted).await?;
        }
        let interrupted = match item.state {
            S::PlannedFailoverInProgress
            | S::FailbackInProgress
            | S::UnplannedFailoverInProgress => {
                let reason = "interrupted by a restart".to_owned();
                Some(ItemEvent::FailoverFailed { reason })
            }
            _ => None,
        };
        if let Some(event) = interrupted {
            shared.append(&mut item, event).await?;
        }
        let opening = Arc::clone(&shared);
        let mut runtime = blocking(move || open_runtime(&opening, item)).await?;
        if runtime.item.test == TestFailoverState::MarkedForDeletion {
            let event = ItemEvent::TestFailoverCleanedUp { is_success: runtime.test.is_some() };
            crate::failover::test::remove(&shared, &mut runtime).await?;
            shared.append(&mut runtime.item, event).await?;
        }
        let device = Mutex::new(Arc::clone(&runtime.device));
        let runtime = tokio::sync::Mutex::new(runtime);
        Ok(Self { shared, runtime, device, is_closed: AtomicBool::new(false) })
    }

    /// Production's disk, wherever it runs. After production has moved, handles from before refuse
    /// writes, and this answers the new one.
    #[must_use]
    pub fn device(&self) -> Arc<TrackedDevice> {
        Arc::clone(&self.device.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where it stands.
    pub async fn status(&self) -> ItemStatus {
        let runtime = self.runtime.lock().await;
        let item = runtime.item.clone();
        let (backlog, now) = (runtime.device.backlog(), self.shared.clock.now());
        ItemStatus {
            active_location: item.state.active_location(),
            allowed_operations: item.state.allowed_operations(item.test),
            health: Health::judge(item.state, backlog, &item.policy, now),
            item,
        }
    }

    /// Registers what makes the machine's applications stand still.
    pub async fn set_quiescer(&self, quiescer: Arc<dyn Quiescer>) {
        self.runtime.lock().await.quiescer = Some(quiescer);
    }

    /// Sends to the replica until it holds every write taken before this call; first copies the
    /// disk if that is due, which ends with the first recovery point.
    ///
    /// # Errors
    /// [`Error::ResyncRequired`]; [`Error::ReplicaRefused`]; [`Error::Fenced`];
    /// [`Error::IllegalState`] if nothing is replicated now.
    pub async fn replicate(&self) -> Result<ReplicationReport> {
        let mut runtime = self.runtime.lock().await;
        self.replicate_in(&mut runtime).await
    }

    /// Copies what differs to a replica that has fallen out of step; it ends with a recovery point.
    /// Earlier points stay usable until then.
    ///
    /// # Errors
    /// As [`replicate`](Self::replicate).
    pub async fn repair_replication(&self) -> Result<ReplicationReport> {
        let mut runtime = self.runtime.lock().await;
        self.shared.append(&mut runtime.item, ItemEvent::RepairStarted).await?;
        self.replicate_in(&mut runtime).await
    }

    /// The recovery points kept, oldest first; none while production runs on one of them.
    pub async fn recovery_points(&self) -> Vec<RecoveryPoint> {
        let runtime = self.runtime.lock().await;
        match (&runtime.replica, &runtime.overlay) {
            (Some(replica), _) => lock(replica).log().points().to_vec(),
            (None, Some(uncommitted)) => uncommitted.log.points().to_vec(),
            (None, None) => Vec::new(),
        }
    }

    /// Takes a recovery point after the writes taken so far, and replicates it.
    ///
    /// # Errors
    /// [`Error::IllegalState`]; [`Error::Unsupported`] for an application-consistent point without
    /// a quiescer; [`Error::Quiesce`]; those of [`replicate`](Self::replicate).
    pub async fn take_recovery_point(&self, consistency: Consistency) -> Result<RecoveryPoint> {
        let mut runtime = self.runtime.lock().await;
        use ProtectionState as S;
        if !matches!(runtime.item.state, S::Protected | S::ReverseProtected) {
            return Err(illegal(&runtime.item, "take-recovery-point"));
        }
        let point = self.mark_point(&runtime, consistency).await?;
        self.replicate_in(&mut runtime).await?;
        Ok(point)
    }

    /// Ends protection. Production goes on where it is; the log, the recovery points and a replica
    /// at the recovery site are removed.
    ///
    /// # Errors
    /// [`Error::IllegalState`]; [`Error::Disk`].
    pub async fn disable_protection(&self) -> Result<()> {
        let mut runtime = self.runtime.lock().await;
        self.shared.append(&mut runtime.item, ItemEvent::Disabled).await?;
        runtime.replica = None;
        self.close();
        let (shared, device) = (Arc::clone(&self.shared), Arc::clone(&runtime.device));
        // The state is Unprotected now, so where production runs is told by the mark.
        let (primary, recovery) = (runtime.item.primary.clone(), runtime.item.recovery.clone());
        let id = runtime.item.id.0;
        blocking(move || {
            device.stop_tracking()?;
            let store = shared.stores.open(&recovery.location)?;
            let mark = MarkFile::open(&*store, &recovery.mark())?.expect(id)?;
            let is_replica_here = matches!(mark.role, Role::Replica | Role::EmptyReplica);
            let passive = if is_replica_here { &recovery } else { &primary };
            let store = shared.stores.open(&passive.location)?;
            remove_folder(&*store, &passive.log())?;
            if is_replica_here {
                store.remove(&recovery.image)?;
                store.sync_dir(recovery.image.parent().unwrap_or("".as_ref()))?;
            }
            Ok(())
        })
        .await
    }

    /// Whether the item must be opened again.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Lets the vault open the item again when it is asked for.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Undoes [`close`](Self::close).
    pub(crate) fn open_again(&self) {
        self.is_closed.store(false, Ordering::Release);
    }

    /// Puts what was opened in place, and hands out its device.
    pub(crate) fn replace_runtime(&self, runtime: &mut Runtime, mut opened: Runtime) {
        opened.quiescer = runtime.quiescer.take();
        *runtime = opened;
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&runtime.device);
    }

    /// Puts a point into the log, with the applications frozen if it asks for that.
    pub(crate) async fn mark_point(
        &self,
        runtime: &Runtime,
        consistency: Consistency,
    ) -> Result<RecoveryPoint> {
        let quiescer = match consistency {
            Consistency::CrashConsistent => None,
            Consistency::ApplicationConsistent => {
                let what = "an application-consistent recovery point without a quiescer";
                Some(runtime.quiescer.clone().ok_or(Error::Unsupported { what })?)
            }
        };
        let id = PointId::draw(&*self.shared.entropy);
        let device = Arc::clone(&runtime.device);
        let clock = Arc::clone(&self.shared.clock);
        blocking(move || {
            let frozen = quiescer.as_ref().map_or(Ok(()), |quiescer| quiescer.freeze());
            let now = clock.now();
            let time = jiff::Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
            let mut point = RecoveryPoint { id, time, consistency, stamp: Stamp::default() };
            let marked = frozen.and_then(|()| device.mark_point(point));
            let thawed = quiescer.as_ref().map_or(Ok(()), |quiescer| quiescer.thaw());
            point.stamp = marked?;
            thawed?;
            Ok(point)
        })
        .await
    }

    pub(crate) async fn replicate_in(&self, runtime: &mut Runtime) -> Result<ReplicationReport> {
        if !runtime.item.state.is_replicating() {
            return Err(illegal(&runtime.item, "replicate"));
        }
        let mut report = self.send(runtime).await?;
        if is_copying(runtime.item.state) {
            let stamp = report.acknowledged;
            self.shared.append(&mut runtime.item, ItemEvent::CopyCompleted { stamp }).await?;
            self.mark_point(runtime, Consistency::CrashConsistent).await?;
            let rest = self.send(runtime).await?;
            report.frame_bytes += rest.frame_bytes;
            report.messages += rest.messages;
            report.acknowledged = rest.acknowledged;
        }
        self.prune(runtime).await?;
        Ok(report)
    }

    /// Sends until the replica holds everything; journals what went wrong.
    async fn send(&self, runtime: &mut Runtime) -> Result<ReplicationReport> {
        let Some(replica) = runtime.replica.clone() else {
            return Err(illegal(&runtime.item, "replicate"));
        };
        let id = runtime.item.id.0;
        let (item, device) = (runtime.item.clone(), Arc::clone(&runtime.device));
        let peer = Arc::clone(&replica);
        blocking(move || ensure_copy(&item, &device, &peer)).await?;
        let device = Arc::clone(&runtime.device);
        let (outcome, counts) = run_in_process(id, device, Arc::clone(&replica)).await?;
        match outcome {
            Outcome::Drained => Ok(ReplicationReport {
                frame_bytes: counts.frame_bytes,
                copy_bytes: counts.copy_bytes,
                messages: counts.messages,
                acknowledged: lock(&replica).log().last(),
            }),
            Outcome::Diverged(reason) => {
                let event = match runtime.item.state {
                    ProtectionState::InitialReplication => {
                        ItemEvent::CopyFailed { reason: format!("{reason:?}") }
                    }
                    _ => ItemEvent::Diverged { reason },
                };
                if runtime.item.check(&event).is_ok() {
                    self.shared.append(&mut runtime.item, event).await?;
                }
                let item = runtime.item.machine.name.clone();
                Err(Error::ResyncRequired { item, reason })
            }
            Outcome::Fenced { epoch } => Err(Error::Fenced { epoch }),
            Outcome::Refused { is_full, reason } => Err(Error::ReplicaRefused { reason, is_full }),
        }
    }

    /// Merges recovery points that the policy does not keep.
    async fn prune(&self, runtime: &Runtime) -> Result<()> {
        let Some(replica) = runtime.replica.clone() else { return Ok(()) };
        let policy = runtime.item.policy.clone();
        let pinned = runtime.item.test_point.map(|point| point.stamp);
        let now = self.shared.clock.now();
        blocking(move || lock(&replica).prune(&policy, now, pinned)).await
    }
}

/// A lock whose holder may have panicked: what it guards is checked on disk anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn illegal(item: &ReplicationProtectedItem, operation: &str) -> Error {
    Error::IllegalState {
        item: item.machine.name.clone(),
        operation: operation.to_owned(),
        state: format!("{:?}", item.state),
    }
}

const fn is_copying(state: ProtectionState) -> bool {
    use ProtectionState as S;
    matches!(state, S::InitialReplication | S::Resyncing | S::Reprotecting)
}

/// Begins the copy that the state asks for, unless it is under way or done.
fn ensure_copy(
    item: &ReplicationProtectedItem,
    device: &TrackedDevice,
    replica: &Mutex<Replica>,
) -> Result<()> {
    let status = device.status();
    let is_needed = !status.is_tracking || status.divergence.is_some();
    if !is_copying(item.state) || !is_needed {
        return Ok(());
    }
    let is_untouched = lock(replica).log().last() == Stamp::default();
    let kind = match item.state == ProtectionState::InitialReplication
        && !item.has_been_whole
        && is_untouched
    {
        true => CopyKind::Initial,
        false => CopyKind::Resync,
    };
    device.begin_copy(kind, item.epoch).map(drop)
}

/// Makes both sites ready and begins to track. Repeated after a crash.
fn make_sites(shared: &Shared, item: &ReplicationProtectedItem) -> Result<()> {
    make_replica(shared, item, &item.recovery)?;
    let store = shared.stores.open(&item.primary.location)?;
    store.create_dir_all(&item.primary.folder)?;
    let mut mark = MarkFile::open(&*store, &item.primary.mark())?;
    let is_taken = mark.mark().is_some_and(|mark| {
        mark.item != item.id.0 && !matches!(mark.role, Role::Active | Role::Fenced)
    });
    if is_taken {
        let name = format!("{}/{}", item.primary.location, item.primary.image.display());
        return Err(Error::AlreadyExists { what: "protection of this disk", name });
    }
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

/// Removes the files of a folder that may not be there, in order of their names.
pub(crate) fn remove_folder(store: &dyn Disk, folder: &std::path::Path) -> Result<()> {
    store.create_dir_all(folder)?;
    for name in store.list(folder)? {
        store.remove(&folder.join(name))?;
    }
    Ok(store.sync_dir(folder)?)
}

fn options(shared: &Shared, item: &ReplicationProtectedItem) -> TrackerOptions {
    TrackerOptions {
        item: item.id.0,
        outgoing_log_bytes_max: item.policy.outgoing_log_bytes_max,
        segment_bytes: shared.settings.segment_bytes,
        clock: Arc::clone(&shared.clock),
        entropy: Arc::clone(&shared.entropy),
    }
}

/// Opens both sites as the state and the marks say.
pub(crate) fn open_runtime(shared: &Shared, item: ReplicationProtectedItem) -> Result<Runtime> {
    let active = item.active_site().clone();
    let store = shared.stores.open(&active.location)?;
    if item.state.is_uncommitted() {
        return open_uncommitted(shared, item, &store);
    }
    let role = MarkFile::open(&*store, &active.mark())?.expect(item.id.0)?.role;
    if role == Role::FailedOver {
        // The commit was journaled and then interrupted.
        let mut opened = open_uncommitted(shared, item, &store)?;
        settle(shared, &mut opened)?;
        return open_runtime(shared, opened.item);
    }
    let image = Arc::new(FileDevice::open(&*store, &active.image)?);
    let device = TrackedDevice::open(image, &store, &active, options(shared, &item))?;
    let mut runtime = Runtime {
        device: Arc::new(device),
        item,
        replica: None,
        overlay: None,
        test: None,
        quiescer: None,
    };
    let item = &runtime.item;
    use ProtectionState as S;
    if !matches!(
        item.state,
        S::PlannedFailoverCommitted | S::UnplannedFailoverCommitted | S::FailedBack
    ) {
        runtime.replica = Some(open_replica(shared, item)?);
    }
    if item.test != TestFailoverState::None {
        let test = crate::failover::test::open(shared, &runtime, false);
        // A drill that cannot be shown any more can still be cleaned up.
        runtime.test = test.inspect_err(|error| tracing::warn!(%error, "test failover")).ok();
    }
    Ok(runtime)
}

pub(crate) fn open_replica(
    shared: &Shared,
    item: &ReplicationProtectedItem,
) -> Result<Arc<Mutex<Replica>>> {
    let site = item.passive_site();
    let store = shared.stores.open(&site.location)?;
    let role = MarkFile::open(&*store, &site.mark())?.expect(item.id.0)?.role;
    if !matches!(role, Role::Replica | Role::EmptyReplica) {
        // The reversal was journaled and then interrupted.
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
    if base.len() != item.machine.disk_bytes {
        return Err(Error::Invalid {
            what: "replica image",
            value: site.image.display().to_string(),
            reason: "differs from the machine's disk in length",
        });
    }
    let (segment_bytes, entropy) = (shared.settings.segment_bytes, &*shared.entropy);
    RecoveryLog::open(Arc::new(base), store, site, item.id.0, segment_bytes, entropy)
}

/// Makes the site that runs production one that failed over to the item's point, and opens it.
/// Repeated after a crash.
fn open_uncommitted(
    shared: &Shared,
    item: ReplicationProtectedItem,
    store: &Arc<dyn Disk>,
) -> Result<Runtime> {
    let site = item.active_site().clone();
    let mut log = open_log(shared, &item, &site, store)?;
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
        fence_passive(shared, &item);
    }
    let view = Arc::new(log.view(stamp)?);
    let (segment_bytes, entropy) = (shared.settings.segment_bytes, &*shared.entropy);
    let (disk, folder) = (Arc::clone(store), site.overlay());
    let overlay = Arc::new(OverlayDevice::open(view, disk, folder, segment_bytes, entropy)?);
    let image = Arc::clone(&overlay);
    let device = TrackedDevice::open(image, store, &site, options(shared, &item))?;
    Ok(Runtime {
        device: Arc::new(device),
        item,
        replica: None,
        overlay: Some(Uncommitted { log, overlay }),
        test: None,
        quiescer: None,
    })
}

/// Tells the former primary's site that production has moved. It may be lost, so failing to is no
/// failure: its epoch is refused all the same.
fn fence_passive(shared: &Shared, item: &ReplicationProtectedItem) {
    let site = item.passive_site();
    let fenced = shared.stores.open(&site.location).and_then(|store| {
        let mut mark = MarkFile::open(&*store, &site.mark())?;
        let last = mark.expect(item.id.0)?;
        mark.set(Mark { role: Role::Fenced, epoch: item.epoch, ..last })
    });
    if let Err(error) = fenced {
        tracing::warn!(%error, site = %site.location, "former primary could not be fenced");
    }
}
