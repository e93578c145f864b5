//! A protected item that is open: its disk, its replica, and what can be done with them.

use super::disable::DisableReport;
use super::disk::OverlayDevice;
use super::site::{Active, make_sites, open_active, open_replica, unmake_sites};
use super::{ItemEvent, ItemId, ReplicationProtectedItem};
use crate::error::{Error, Result};
use crate::recovery_point::{Consistency, PointId, Quiescer, RecoveryPoint};
use crate::replication::health::{Health, ProtectionHealth};
use crate::replication::primary::Outcome;
use crate::replication::replica::Replica;
use crate::replication::state::ActiveLocation;
use crate::replication::transfer::CopyKind;
use crate::replication::{
    DivergenceReason, ProtectionState, Stamp, TestFailoverState, TrackedDevice,
};
use crate::vault::{Shared, whole};
use oms_core::ErrorKind;
use oms_core::clock::Stopwatch;
use oms_core::journal::Envelope;
use oms_core::task::blocking;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tracing::Instrument as _;
use tracing::field::Empty;

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
    /// What keeps it from being replicated now, in plain words: a site that cannot be opened, an image
    /// of another length.
    pub problems: Vec<String>,
}

/// A protected item that is open. One operation runs at a time; reads and writes of the
/// [`device`](Self::device) go on meanwhile.
///
/// An operation that was begun goes on to its end, also if its caller stops waiting for it; the next
/// one comes after it.
#[derive(Debug)]
pub struct ProtectedItem {
    /// Itself, for operations that outlive their callers.
    this: Weak<Self>,
    id: ItemId,
    /// The machine's name.
    name: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) runtime: tokio::sync::Mutex<Runtime>,
    device: Mutex<Option<Arc<TrackedDevice>>>,
    is_closed: AtomicBool,
}

/// What is open of an item.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) item: ReplicationProtectedItem,
    /// The site that runs production; none while it cannot be opened.
    pub(crate) active: Option<Active>,
    /// The other site; none while it cannot be opened, or holds no replica.
    pub(crate) replica: Option<Arc<Mutex<Replica>>>,
    /// The disk of a test failover.
    pub(crate) test: Option<Arc<OverlayDevice>>,
    /// Makes applications stand still for application-consistent points.
    pub(crate) quiescer: Option<Arc<dyn Quiescer>>,
    /// Events that were sent to the journal without an answer.
    pub(crate) unheard: Vec<Envelope>,
    /// What the end came to, if its caller was not told: the journal took it without an answer.
    pub(crate) ended: Option<DisableReport>,
}

impl Runtime {
    /// Opens what can be opened: production must not wait for the other site, nor a failover for
    /// the site that is lost. What is missing is tried again when it is needed.
    fn open(shared: &Shared, item: ReplicationProtectedItem) -> Self {
        let name = &item.machine.name;
        let missing = |error: &Error| {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, cause, name, "site of a protected item cannot be opened");
        };
        let active = open_active(shared, &item).inspect_err(missing).ok();
        let replica = match item.state.has_replica() {
            true => open_replica(shared, &item).inspect_err(missing).ok(),
            false => None,
        };
        let (test, quiescer, unheard, ended) = (None, None, Vec::new(), None);
        let mut runtime = Self { item, active, replica, test, quiescer, unheard, ended };
        if runtime.item.test != TestFailoverState::None {
            let test = crate::failover::test::open(shared, &runtime, false);
            // A drill that cannot be shown any more can still be cleaned up.
            runtime.test = test.inspect_err(|error| tracing::warn!(%error, "test failover")).ok();
        }
        runtime
    }
}

/// What keeps the two sites of an item from being used.
#[derive(Debug, Default)]
struct Problems {
    disk: Option<String>,
    replica: Option<String>,
}

impl ProtectedItem {
    /// Opens an item and completes or undoes what was interrupted.
    pub(crate) async fn open(
        shared: Arc<Shared>,
        mut item: ReplicationProtectedItem,
    ) -> Result<Arc<Self>> {
        use ProtectionState as S;
        if item.state == S::Enabling {
            let (opening, request) = (Arc::clone(&shared), item.clone());
            let made = blocking(move || make_sites(&opening, &request)).await;
            if let Err(error) = made {
                let (undoing, request) = (Arc::clone(&shared), item.clone());
                let undone = blocking(move || {
                    unmake_sites(&undoing, &request);
                    Ok::<_, Error>(())
                });
                undone.await?;
                let reason = told(&error);
                shared.append(&mut item, ItemEvent::EnableFailed { reason }).await?;
                return Err(error);
            }
            shared.append(&mut item, ItemEvent::TrackingStarted).await?;
        }
        if item.state.is_moving() {
            let reason = "interrupted by a restart".to_owned();
            shared.append(&mut item, ItemEvent::FailoverFailed { reason }).await?;
        }
        let opening = Arc::clone(&shared);
        let mut runtime = blocking(move || Ok::<_, Error>(Runtime::open(&opening, item))).await?;
        if runtime.item.test == TestFailoverState::MarkedForDeletion {
            let event = ItemEvent::TestFailoverCleanedUp { is_success: runtime.test.is_some() };
            match crate::failover::test::remove(&shared, &mut runtime).await {
                Ok(()) => shared.append(&mut runtime.item, event).await?,
                // Production does not wait for the site of its replica.
                Err(error) => tracing::warn!(%error, "test failover is cleaned up later"),
            }
        }
        let device = Mutex::new(runtime.active.as_ref().map(|it| Arc::clone(&it.device)));
        let (id, name) = (runtime.item.id, runtime.item.machine.name.clone());
        let runtime = tokio::sync::Mutex::new(runtime);
        let is_closed = AtomicBool::new(false);
        Ok(Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            id,
            name,
            shared,
            runtime,
            device,
            is_closed,
        }))
    }

    /// Does an operation in a task of its own, so that nothing of it stops half-way when its caller
    /// stops waiting.
    pub(crate) async fn whole<T, F>(&self, work: impl FnOnce(Arc<Self>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let gone = || Error::Internal { reason: "an item without an owner".to_owned() };
        whole(work(self.this.upgrade().ok_or_else(gone)?)).await
    }

    /// Does an operation as [`whole`](Self::whole) does, in a span of its own, and measures it to its
    /// end, whoever still waits for it.
    pub(crate) async fn operation<T, F>(
        &self,
        operation: &'static str,
        work: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let span = tracing::info_span!(
            "recovery_operation",
            operation,
            item = %self.id.0,
            machine = %self.name,
            outcome = Empty
        );
        self.whole(|item| {
            let work = work(item);
            async move {
                let watch = Stopwatch::start();
                let done = work.instrument(span.clone()).await;
                let outcome = ErrorKind::outcome(&done, Error::kind);
                span.record("outcome", outcome);
                metrics::histogram!(
                    "oms_recovery_operation_seconds", "operation" => operation, "outcome" => outcome
                )
                .record(watch.seconds());
                done
            }
        })
        .await
    }

    /// Production's disk, wherever it runs. After production has moved, handles from before refuse
    /// writes, and this answers the new one.
    ///
    /// # Errors
    /// [`Error::SiteUnavailable`] while the site that runs production cannot be opened.
    pub fn device(&self) -> Result<Arc<TrackedDevice>> {
        let device = lock(&self.device).clone();
        device.ok_or(Error::SiteUnavailable { what: "the site that runs production" })
    }

    /// Where it stands.
    pub async fn status(&self) -> ItemStatus {
        let looked = self.whole(|item| async move {
            let mut runtime = item.begin().await?;
            Ok(item.look(&mut runtime).await)
        });
        let Problems { disk, replica } = looked.await.unwrap_or_else(|error| {
            // What the journal told last is what can be told.
            tracing::warn!(%error, "what became of the last operation is not known yet");
            Problems::default()
        });
        let runtime = self.runtime.lock().await;
        let item = runtime.item.clone();
        let backlog = runtime.active.as_ref().map(|active| active.device.backlog());
        let now = self.shared.clock.now();
        let mut health = Health::judge(item.state, backlog, &item.policy, now);
        health.level = match health.level {
            _ if disk.is_some() => ProtectionHealth::Critical,
            ProtectionHealth::Normal if replica.is_some() => ProtectionHealth::Warning,
            level => level,
        };
        let problems = disk.into_iter().chain(replica).collect();
        ItemStatus {
            active_location: item.state.active_location(),
            allowed_operations: item.state.allowed_operations(item.test),
            health,
            problems,
            item,
        }
    }

    /// Looks at both sites; answers what keeps them from being used. What something else has written to
    /// production's image is journalled.
    async fn look(&self, runtime: &mut Runtime) -> Problems {
        let mut problems = Problems::default();
        match self.check_log(runtime).await {
            // The state says so.
            Ok(()) | Err(Error::ResyncRequired { .. }) => {}
            Err(error) => problems.disk = Some(format!("production's disk: {}", told(&error))),
        }
        if runtime.item.state.has_replica()
            && let Err(error) = self.need_replica(runtime, "status").await
        {
            let cure = "if it is lost, disable the protection and protect the machine again";
            problems.replica = Some(format!("the replica: {}; {cure}", told(&error)));
        }
        problems
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
        self.whole(|item| async move {
            let mut runtime = item.begin().await?;
            item.replicate_in(&mut runtime).await
        })
        .await
    }

    /// Copies what differs to a replica that has fallen out of step; it ends with a recovery point.
    /// Earlier points stay usable until then.
    ///
    /// # Errors
    /// As [`replicate`](Self::replicate).
    pub async fn repair_replication(&self) -> Result<ReplicationReport> {
        self.operation("repair_replication", |item| async move {
            let mut runtime = item.begin().await?;
            item.append(&mut runtime, ItemEvent::RepairStarted).await?;
            item.replicate_in(&mut runtime).await
        })
        .await
    }

    /// The recovery points kept, oldest first; after a failover until its commit, those that can be
    /// changed to. None while the site that holds them cannot be opened.
    pub async fn recovery_points(&self) -> Vec<RecoveryPoint> {
        let runtime = self.runtime.lock().await;
        let uncommitted = runtime.active.as_ref().and_then(|it| it.uncommitted.as_ref());
        match (&runtime.replica, uncommitted) {
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
        use ProtectionState as S;
        self.operation("take_recovery_point", move |item| async move {
            let mut runtime = item.begin().await?;
            if !matches!(runtime.item.state, S::Protected | S::ReverseProtected) {
                return Err(illegal(&runtime.item, "taking a recovery point"));
            }
            let point = item.mark_point(&mut runtime, consistency).await?;
            item.replicate_in(&mut runtime).await?;
            Ok(point)
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

    /// Production's device, opened now if it could not be before.
    pub(crate) async fn need_device(&self, runtime: &mut Runtime) -> Result<Arc<TrackedDevice>> {
        if let Some(active) = &runtime.active {
            return Ok(Arc::clone(&active.device));
        }
        let (shared, item) = (Arc::clone(&self.shared), runtime.item.clone());
        let active = blocking(move || open_active(&shared, &item)).await?;
        let device = Arc::clone(&active.device);
        runtime.active = Some(active);
        *lock(&self.device) = Some(Arc::clone(&device));
        Ok(device)
    }

    /// The replica, opened now if it could not be before.
    pub(crate) async fn need_replica(
        &self,
        runtime: &mut Runtime,
        operation: &str,
    ) -> Result<Arc<Mutex<Replica>>> {
        if !runtime.item.state.has_replica() {
            return Err(illegal(&runtime.item, operation));
        }
        if let Some(replica) = &runtime.replica {
            return Ok(Arc::clone(replica));
        }
        let (shared, item) = (Arc::clone(&self.shared), runtime.item.clone());
        let replica = blocking(move || open_replica(&shared, &item)).await?;
        runtime.replica = Some(Arc::clone(&replica));
        Ok(replica)
    }

    /// Lets go of both sites; handles on the device that were given out must refuse writes.
    pub(crate) fn let_go(&self, runtime: &mut Runtime) {
        (runtime.active, runtime.replica) = (None, None);
        *lock(&self.device) = None;
    }

    /// Puts a point into the log, with the applications frozen if it asks for that.
    pub(crate) async fn mark_point(
        &self,
        runtime: &mut Runtime,
        consistency: Consistency,
    ) -> Result<RecoveryPoint> {
        let quiescer = match consistency {
            Consistency::CrashConsistent => None,
            Consistency::ApplicationConsistent => {
                let what = "an application-consistent recovery point without a quiescer";
                Some(runtime.quiescer.clone().ok_or(Error::Unsupported { what })?)
            }
        };
        let kind = match consistency {
            Consistency::CrashConsistent => "crash_consistent",
            Consistency::ApplicationConsistent => "application_consistent",
        };
        self.check_log(runtime).await?;
        let id = PointId::draw(&*self.shared.entropy);
        let device = self.need_device(runtime).await?;
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
            metrics::counter!("oms_recovery_points_total", "consistency" => kind).increment(1);
            Ok(point)
        })
        .await
    }

    pub(crate) async fn replicate_in(&self, runtime: &mut Runtime) -> Result<ReplicationReport> {
        if !runtime.item.state.is_replicating() {
            return Err(illegal(&runtime.item, "replication"));
        }
        let name = runtime.item.machine.name.clone();
        let span = tracing::info_span!(
            "replication",
            item = %runtime.item.id.0,
            machine = %name,
            frame_bytes = Empty,
            copy_bytes = Empty,
            outcome = Empty
        );
        let watch = Stopwatch::start();
        let sent = self.send_all(runtime).instrument(span.clone()).await;
        let outcome = ErrorKind::outcome(&sent, Error::kind);
        if let Ok(report) = &sent {
            span.record("frame_bytes", report.frame_bytes);
            span.record("copy_bytes", report.copy_bytes);
        }
        span.record("outcome", outcome);
        metrics::histogram!("oms_recovery_replication_seconds", "outcome" => outcome)
            .record(watch.seconds());
        if let Some(active) = &runtime.active {
            let backlog = active.device.backlog();
            let now = self.shared.clock.now();
            let lag = backlog.oldest.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
            metrics::gauge!("oms_recovery_lag_bytes", "machine" => name.clone())
                .set(backlog.bytes as f64);
            metrics::gauge!("oms_recovery_lag_seconds", "machine" => name).set(lag.max(0.0));
        }
        sent
    }

    async fn send_all(&self, runtime: &mut Runtime) -> Result<ReplicationReport> {
        let mut report = self.send(runtime).await?;
        if is_copying(runtime.item.state) {
            let stamp = report.acknowledged;
            self.append(runtime, ItemEvent::CopyCompleted { stamp }).await?;
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
        let replica = self.need_replica(runtime, "replication").await?;
        let device = self.need_device(runtime).await?;
        let id = runtime.item.id.0;
        let (item, tracked) = (runtime.item.clone(), Arc::clone(&device));
        let peer = Arc::clone(&replica);
        blocking(move || {
            tracked.check_image()?;
            ensure_copy(&item, &tracked, &peer)
        })
        .await?;
        let sender = Arc::clone(&device);
        let (outcome, counts) =
            self.shared.link.replicate(id, sender, Arc::clone(&replica)).await?;
        for (kind, bytes) in [("writes", counts.frame_bytes), ("copy", counts.copy_bytes)] {
            metrics::counter!("oms_recovery_sent_bytes_total", "kind" => kind).increment(bytes);
        }
        match outcome {
            Outcome::Drained => {
                // What something else wrote meanwhile may have been read before or after.
                self.check_log(runtime).await?;
                blocking(move || device.note_image()).await?;
                Ok(ReplicationReport {
                    frame_bytes: counts.frame_bytes,
                    copy_bytes: counts.copy_bytes,
                    messages: counts.messages,
                    acknowledged: lock(&replica).log().last(),
                })
            }
            Outcome::Diverged(reason) => Err(self.diverged(runtime, reason).await?),
            Outcome::Fenced { epoch } => Err(Error::Fenced { epoch }),
            Outcome::Refused { is_full, reason } => Err(Error::ReplicaRefused { reason, is_full }),
        }
    }

    /// Journals that writes went past the log, where the state has room for it; answers the error to
    /// tell.
    async fn diverged(&self, runtime: &mut Runtime, reason: DivergenceReason) -> Result<Error> {
        let event = match runtime.item.state {
            ProtectionState::InitialReplication => {
                ItemEvent::CopyFailed { reason: reason.to_string() }
            }
            _ => ItemEvent::Diverged { reason },
        };
        if runtime.item.check(&event).is_ok() {
            self.append(runtime, event).await?;
        }
        Ok(Error::ResyncRequired { item: runtime.item.machine.name.clone(), reason })
    }

    /// Refuses what needs the log once writes went past it, and journals that they did: production
    /// itself does not stop for it, so this may be the first to notice. So it may be of what something
    /// else wrote to the image.
    pub(crate) async fn check_log(&self, runtime: &mut Runtime) -> Result<()> {
        let device = self.need_device(runtime).await?;
        let divergence = blocking(move || {
            device.check_image()?;
            Ok::<_, Error>(device.status().divergence)
        })
        .await?;
        match divergence {
            Some(reason) => Err(self.diverged(runtime, reason).await?),
            None => Ok(()),
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

/// An error with what lies below it, for people.
pub(crate) fn told(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A lock whose holder may have panicked: what it guards is checked on disk anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a failover that was begun.
pub(crate) fn count_failover<T>(kind: &'static str, result: &Result<T>) {
    let outcome = ErrorKind::outcome(result, Error::kind);
    metrics::counter!("oms_recovery_failovers_total", "kind" => kind, "outcome" => outcome)
        .increment(1);
}

pub(crate) fn illegal(item: &ReplicationProtectedItem, operation: &str) -> Error {
    Error::IllegalState {
        item: item.machine.name.clone(),
        operation: operation.to_owned(),
        state: item.state.description().to_owned(),
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
