//! The disk that production writes to, and its log of what the other site has not got.

pub(crate) mod merge;

mod state;

use self::state::{Mode, Tracker};
use super::mark::{Mark, Role};
use super::transfer::{COPY_BLOCK_BYTES, Change, CopyKind, WRITE_BYTES_MAX};
use super::{DivergenceReason, Site, SiteStores, Stamp};
use crate::error::{Error, Result};
use crate::machine::disk::{BlockDevice, check_range};
use crate::recovery_point::RecoveryPoint;
use jiff::Timestamp;
use oms_core::disk::Disk;
use oms_core::{Clock, Entropy};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// How many bytes of writes may wait for a flush before the device flushes by itself.
pub const PENDING_BYTES_MAX: usize = 4 << 20;

/// The most flushes whose time is remembered for the recovery point objective.
pub const COMMIT_TIMES_MAX: usize = 4096;

/// A bit of the dirty bitmap stands for this many bytes.
pub const DIRTY_BLOCK_BYTES: u64 = 1 << 20;

/// What a tracked device is opened with.
#[derive(Clone, Debug)]
pub struct TrackerOptions {
    /// Which item.
    pub item: Uuid,
    /// How large the outgoing log may be, in bytes.
    pub outgoing_log_bytes_max: u64,
    /// At which size a log begins a new file, in bytes.
    pub segment_bytes: u64,
    /// Where the times of flushes come from.
    pub clock: Arc<dyn Clock>,
    /// Where the identities of log files come from.
    pub entropy: Arc<dyn Entropy>,
    /// What tells whether something else writes to the image; none if nothing does.
    pub stores: Option<Arc<dyn SiteStores>>,
}

/// Production's disk. Clones of the `Arc` it is in are handles on one device.
///
/// ```text
///            write_at              flush (or 4 MiB pending)
///  guest ───────────► pending ──1──► outgoing log, synced ──2──► image
///    ▲                   │                    │
///    └── read_at ◄───────┴── image            └──3──► replica; acknowledged segments are removed
///                                                     after the image is synced
/// ```
///
/// Every write gets the next [`Stamp`] when it is taken. A flush syncs the log before the image
/// sees the writes, so the image never holds a write that the log does not: after a power loss the
/// log is replayed and the disk is an exact prefix of the writes taken, at least up to the last
/// flush. If the log cannot grow, the device first makes durable that it has
/// [diverged](Role::Diverged), and from then on only remembers in a bitmap which blocks were
/// written.
#[derive(Debug)]
pub struct TrackedDevice {
    disk_bytes: u64,
    options: TrackerOptions,
    /// Bytes that the replica says it holds of a copy; for those who watch.
    copied: AtomicU64,
    state: Mutex<Tracker>,
}

/// A copy of the disk that is under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CopyPlan {
    /// The frame it began with.
    pub begin: Stamp,
    /// How blocks are chosen.
    pub kind: CopyKind,
    /// How many blocks the disk has.
    pub block_count: u64,
}

/// What the sender needs to know of a tracked device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TrackerStatus {
    /// The epoch it writes under.
    pub epoch: u64,
    /// The sequence of the first frame in the outgoing log, if there is one.
    pub first: Option<u64>,
    /// The sequence of the last durable frame.
    pub durable: u64,
    /// The copy under way.
    pub copy: Option<CopyPlan>,
    /// Whether writes are tracked at all.
    pub is_tracking: bool,
    /// Why writes go past the log, if they do.
    pub divergence: Option<DivergenceReason>,
}

/// How far replication is behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backlog {
    /// When the oldest flush that the replica has not acknowledged was made; none if it has all.
    pub oldest: Option<Timestamp>,
    /// Bytes in the outgoing log.
    pub bytes: u64,
}

impl TrackedDevice {
    /// Opens production's disk at a site and replays its outgoing log onto the image.
    ///
    /// # Errors
    /// [`Error::Disk`]; [`Error::Corrupt`]; [`Error::Fenced`] if production has moved away.
    pub fn open(
        image: Arc<dyn BlockDevice>,
        disk: &Arc<dyn Disk>,
        site: &Site,
        options: TrackerOptions,
    ) -> Result<Self> {
        let (mut tracker, mark) = Tracker::load(image, disk, site, &options)?;
        let Mark { role, epoch, stamp, .. } = mark;
        let kind = match role {
            Role::CopyingInitial => Some(CopyKind::Initial),
            Role::CopyingResync => Some(CopyKind::Resync),
            _ => None,
        };
        match role {
            Role::Active | Role::FailedOver => tracker.log.clear()?,
            Role::Logging | Role::CopyingInitial | Role::CopyingResync => {
                let has_changed = tracker.has_image_changed()?;
                tracker.recover(stamp, kind)?;
                match has_changed {
                    true => tracker.diverge(DivergenceReason::ImageChanged, &options)?,
                    false => tracker.know_image(),
                }
            }
            Role::Diverged => {
                // Which blocks were written was in memory only: all of them may differ.
                tracker.log.clear()?;
                tracker.mode = Mode::Diverged(DivergenceReason::OutgoingLogFull);
            }
            Role::Fenced => return Err(Error::Fenced { epoch }),
            Role::Replica | Role::EmptyReplica => {
                let reason = "the site holds a replica, not production".to_owned();
                return Err(Error::Internal { reason });
            }
        }
        let (disk_bytes, copied) = (tracker.image.len(), AtomicU64::new(0));
        Ok(Self { disk_bytes, options, copied, state: Mutex::new(tracker) })
    }

    /// Begins to track writes and to copy the disk. Tracking is on before the copy begins.
    ///
    /// # Errors
    /// [`Error::Disk`]; the device is as it was, or has diverged.
    pub fn begin_copy(&self, kind: CopyKind, epoch: u64) -> Result<Stamp> {
        let mut tracker = self.lock();
        tracker.check_open()?;
        tracker.commit(&self.options)?;
        tracker.begin_copy(kind, epoch, &self.options)
    }

    /// Ends the copy under way: every prefix from here on is whole.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Fenced`].
    pub(crate) fn finish_copy(&self) -> Result<()> {
        let mut tracker = self.lock();
        if tracker.copy.is_none() {
            return Ok(());
        }
        tracker.take_frame(Change::CopyEnd)?;
        tracker.commit(&self.options)?;
        tracker.copy = None;
        tracker.dirty = None;
        tracker.say(&self.options, Role::Logging)
    }

    /// Puts a recovery point after the writes taken so far; durable in the log when it returns,
    /// unless the device has [diverged](TrackerStatus::divergence). The point's own stamp is not
    /// looked at.
    ///
    /// # Errors
    /// [`Error::Disk`]; [`Error::Fenced`]; [`Error::Internal`] if nothing is logged.
    pub fn mark_point(&self, point: RecoveryPoint) -> Result<Stamp> {
        let mut tracker = self.lock();
        if !matches!(tracker.mode, Mode::Logging) {
            let reason = "recovery point of a device that does not log".to_owned();
            return Err(Error::Internal { reason });
        }
        let RecoveryPoint { id, time, consistency, .. } = point;
        let stamp = tracker.take_frame(Change::Point { id, time, consistency })?;
        tracker.commit(&self.options)?;
        Ok(stamp)
    }

    /// What the sender needs to know.
    #[must_use]
    pub fn status(&self) -> TrackerStatus {
        let tracker = self.lock();
        TrackerStatus {
            epoch: tracker.epoch,
            first: tracker.log.batches().next().map(|batch| batch.first.sequence),
            durable: tracker.durable,
            copy: tracker.copy,
            is_tracking: !matches!(tracker.mode, Mode::Idle),
            divergence: match tracker.mode {
                Mode::Diverged(reason) => Some(reason),
                Mode::Idle | Mode::Logging => None,
            },
        }
    }

    /// A number that no other sender uses.
    pub(crate) fn draw_challenge(&self) -> u64 {
        oms_core::EntropyExt::number(&*self.options.entropy)
    }

    /// How far replication is behind.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let tracker = self.lock();
        let oldest = tracker.commit_times.front().map(|(_, time)| *time);
        Backlog { oldest, bytes: tracker.log.bytes() }
    }

    /// How many bytes of the disk the copy under way, or the last one of this process, has brought
    /// to the replica, and how many the disk has.
    #[must_use]
    pub fn copied_bytes(&self) -> (u64, u64) {
        (self.copied.load(Ordering::Relaxed).min(self.disk_bytes), self.disk_bytes)
    }

    /// Notes how far the replica says that the copy is.
    pub(crate) fn note_copied(&self, bytes: u64) {
        self.copied.store(bytes, Ordering::Relaxed);
    }

    /// The place of the last write taken.
    #[must_use]
    pub fn last(&self) -> Stamp {
        let tracker = self.lock();
        Stamp { epoch: tracker.epoch, sequence: tracker.taken }
    }

    /// Encoded frames of whole batches after a sequence, at least one batch and not many more
    /// than `bytes_max` bytes; with the sequence of the last.
    pub(crate) fn read_frames(&self, after: u64, bytes_max: usize) -> Result<(Vec<u8>, u64)> {
        let tracker = self.lock();
        let (mut bytes, mut through) = (Vec::new(), after);
        for batch in tracker.log.batches_after(after) {
            if batch.last.sequence > tracker.durable
                || (!bytes.is_empty() && bytes.len() + batch.length > bytes_max)
            {
                break;
            }
            bytes.extend(tracker.log.read(batch)?);
            through = batch.last.sequence;
        }
        Ok((bytes, through))
    }

    /// Reads the image below, which holds durable writes only.
    pub(crate) fn read_image(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let image = Arc::clone(&self.lock().image);
        image.read_at(offset, bytes)
    }

    /// Forgets the bitmap if the replica holds less than it was begun with.
    pub(crate) fn check_bitmap(&self, replica: u64) {
        let mut tracker = self.lock();
        if replica < tracker.dirty_since {
            tracker.dirty = None;
        }
    }

    /// Whether a copy may leave out these blocks because none of them was written since the
    /// replica was equal.
    pub(crate) fn is_clean(&self, first_block: u64, block_count: u64) -> bool {
        let tracker = self.lock();
        let Some(dirty) = &tracker.dirty else { return false };
        let first = first_block * COPY_BLOCK_BYTES / DIRTY_BLOCK_BYTES;
        let last = ((first_block + block_count) * COPY_BLOCK_BYTES - 1) / DIRTY_BLOCK_BYTES;
        let last = last.min(dirty.len() as u64 - 1);
        !dirty[first as usize..=last as usize].contains(&true)
    }

    /// Remembers what the replica holds, and removes log segments that nobody needs.
    pub(crate) fn acknowledge(&self, through: u64) -> Result<()> {
        let mut tracker = self.lock();
        tracker.acknowledged = tracker.acknowledged.max(through);
        while tracker.commit_times.front().is_some_and(|(sequence, _)| *sequence <= through) {
            tracker.commit_times.pop_front();
        }
        // An image that missed a write has it in the log alone, to be replayed when it is opened.
        if tracker.broken.is_some() {
            return Ok(());
        }
        let acknowledged = tracker.log.batch_through(through.min(tracker.durable));
        let removable = acknowledged.map(|batch| batch.last);
        if let Some(stamp) = removable.filter(|stamp| tracker.log.has_removable(*stamp)) {
            // The log stands in for the image until the image is synced.
            tracker.image.flush()?;
            tracker.log.remove_through(stamp)?;
        }
        Ok(())
    }

    /// Looks whether something else has written to the image, and lets writes go past the log from then
    /// on: that is not in it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an image of another length, or another file; [`Error::Disk`].
    pub fn check_image(&self) -> Result<()> {
        let mut tracker = self.lock();
        if !matches!(tracker.mode, Mode::Logging) || tracker.fenced.is_some() {
            return Ok(());
        }
        match tracker.has_image_changed()? {
            true => tracker.diverge(DivergenceReason::ImageChanged, &self.options),
            false => Ok(()),
        }
    }

    /// Notes the image for whoever opens the site next: it does not replay the log then, and notices what
    /// something else has written meanwhile. To be called when there is a pause in the writes.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn note_image(&self) -> Result<()> {
        let mut tracker = self.lock();
        let tracker = &mut *tracker;
        // An image that missed a write has it in the log alone, to be replayed when it is opened.
        let is_whole = tracker.broken.is_none() && tracker.fenced.is_none();
        match (&mut tracker.watch, &tracker.mode) {
            (Some(watch), Mode::Logging) if is_whole && !watch.is_noted() => {
                tracker.image.flush()?;
                watch.note()
            }
            _ => Ok(()),
        }
    }

    /// Lets writes go past the log from now on.
    pub(crate) fn diverge(&self, reason: DivergenceReason) -> Result<()> {
        let mut tracker = self.lock();
        match tracker.mode {
            Mode::Logging => {
                tracker.check_unfenced()?;
                tracker.diverge(reason, &self.options)
            }
            Mode::Idle | Mode::Diverged(_) => Ok(()),
        }
    }

    /// Refuses writes until [`resume`](Self::resume); what was taken before is durable.
    pub(crate) fn quiesce(&self) -> Result<()> {
        let mut tracker = self.lock();
        tracker.check_open()?;
        tracker.commit(&self.options)?;
        tracker.is_quiesced = true;
        Ok(())
    }

    /// Refuses writes until [`resume`](Self::resume), whether or not those before can be made durable.
    pub(crate) fn suspend(&self) {
        self.lock().is_quiesced = true;
    }

    /// Takes writes again.
    pub(crate) fn resume(&self) {
        self.lock().is_quiesced = false;
    }

    /// Refuses writes through this handle; the site stays what it is. What was not flushed is
    /// dropped.
    pub(crate) fn retire(&self, epoch: u64) {
        let mut tracker = self.lock();
        tracker.fenced = Some(epoch);
        tracker.pending.clear();
        tracker.pending_writes.clear();
    }

    /// Refuses writes for good: production is at the other site.
    ///
    /// # Errors
    /// [`Error::Disk`]; writes are refused by this handle nevertheless.
    pub(crate) fn fence(&self, epoch: u64) -> Result<()> {
        self.retire(epoch);
        let mut tracker = self.lock();
        if !matches!(tracker.mode, Mode::Logging) {
            // Nothing in it is newer than the image, and nobody is to bring it there.
            tracker.log.clear()?;
        }
        let stamp = Stamp { epoch: tracker.epoch, sequence: tracker.taken };
        let (item, floor) = (self.options.item, Stamp::default());
        tracker.mark.set(Mark { item, role: Role::Fenced, epoch, stamp, floor })
    }

    /// Makes durable in the image what is flushed, now and from now on: for when nobody replays the log.
    pub(crate) fn write_through(&self) -> Result<()> {
        let mut tracker = self.lock();
        tracker.check_unfenced()?;
        tracker.is_through = true;
        tracker.commit_through(&self.options)
    }

    /// Whether the image lacks a write that the log has, which it gets when the site is opened again.
    pub(crate) fn is_broken(&self) -> bool {
        self.lock().broken.is_some()
    }

    /// Stops to track; the outgoing log goes.
    pub(crate) fn stop_tracking(&self) -> Result<()> {
        let mut tracker = self.lock();
        tracker.check_open()?;
        tracker.commit_through(&self.options)?;
        tracker.say(&self.options, Role::Active)?;
        tracker.mode = Mode::Idle;
        tracker.copy = None;
        tracker.log.clear()
    }

    /// Puts another image below, with no write in between; the closure makes it.
    pub(crate) fn replace_image(
        &self,
        make: impl FnOnce() -> Result<Arc<dyn BlockDevice>>,
    ) -> Result<()> {
        let mut tracker = self.lock();
        tracker.check_open()?;
        tracker.image.flush()?;
        tracker.image = make()?;
        tracker.say(&self.options, Role::Active)
    }

    fn lock(&self) -> MutexGuard<'_, Tracker> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockDevice for TrackedDevice {
    fn len(&self) -> u64 {
        self.disk_bytes
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        check_range(self.disk_bytes, offset, bytes.len())?;
        let tracker = self.lock();
        tracker.check_readable()?;
        tracker.image.read_at(offset, bytes)?;
        let end = offset + bytes.len() as u64;
        for write in &tracker.pending_writes {
            let write_end = write.offset + write.data.len() as u64;
            let (from, to) = (write.offset.max(offset), write_end.min(end));
            if from < to {
                let data = &tracker.pending[write.data.clone()];
                bytes[(from - offset) as usize..(to - offset) as usize].copy_from_slice(
                    &data[(from - write.offset) as usize..(to - write.offset) as usize],
                );
            }
        }
        Ok(())
    }

    /// Takes a write; one larger than 8 MiB counts as several.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        check_range(self.disk_bytes, offset, bytes.len())?;
        let mut tracker = self.lock();
        tracker.check_open()?;
        metrics::counter!("oms_recovery_writes_total").increment(1);
        metrics::counter!("oms_recovery_write_bytes_total").increment(bytes.len() as u64);
        for (index, chunk) in bytes.chunks(WRITE_BYTES_MAX).enumerate() {
            tracker.write(offset + (index * WRITE_BYTES_MAX) as u64, chunk)?;
            if tracker.pending.len() >= PENDING_BYTES_MAX {
                tracker.commit(&self.options)?;
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let mut tracker = self.lock();
        tracker.check_unfenced()?;
        match tracker.mode {
            Mode::Logging if tracker.is_through => tracker.commit_through(&self.options),
            Mode::Logging => tracker.commit(&self.options),
            Mode::Idle | Mode::Diverged(_) => tracker.image.flush(),
        }
    }
}
