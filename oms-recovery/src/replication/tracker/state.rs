//! What a tracked device knows, and how a write gets into its log and its image.

use super::{COMMIT_TIMES_MAX, CopyPlan, DIRTY_BLOCK_BYTES, TrackerOptions};
use crate::error::{Error, Result};
use crate::machine::disk::BlockDevice;
use crate::replication::image::{ImageWatch, write_image};
use crate::replication::mark::{Mark, MarkFile, Role};
use crate::replication::segment::SegmentLog;
use crate::replication::transfer::{COPY_BLOCK_BYTES, Change, Content, CopyKind, Frame, frames};
use crate::replication::{DivergenceReason, Site, Stamp};
use jiff::Timestamp;
use oms_core::disk::Disk;
use std::collections::VecDeque;
use std::sync::Arc;

/// Where writes go.
#[derive(Debug)]
pub(super) enum Mode {
    /// No replication: writes go to the image.
    Idle,
    /// Writes go to the log, then to the image.
    Logging,
    /// Writes go to the image and the bitmap.
    Diverged(DivergenceReason),
}

/// A write that is in no log yet.
#[derive(Debug)]
pub(super) struct PendingWrite {
    pub(super) offset: u64,
    /// Where its bytes are in the pending frames.
    pub(super) data: std::ops::Range<usize>,
}

/// A device's files at its site, and what is in none of them.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) image: Arc<dyn BlockDevice>,
    pub(super) watch: Option<ImageWatch>,
    pub(super) mark: MarkFile,
    pub(super) log: SegmentLog,
    pub(super) mode: Mode,
    pub(super) epoch: u64,
    /// Sequence of the last frame taken.
    pub(super) taken: u64,
    /// Sequence of the last frame that is durable in the log.
    pub(super) durable: u64,
    /// Sequence of the last frame that the replica acknowledged.
    pub(super) acknowledged: u64,
    pub(super) pending: Vec<u8>,
    pub(super) pending_writes: Vec<PendingWrite>,
    pending_first: u64,
    pub(super) commit_times: VecDeque<(u64, Timestamp)>,
    pub(super) copy: Option<CopyPlan>,
    /// Blocks written since the divergence; none stands for all.
    pub(super) dirty: Option<Vec<bool>>,
    /// What the replica must hold for the bitmap to be complete.
    pub(super) dirty_since: u64,
    pub(super) is_quiesced: bool,
    pub(super) is_through: bool,
    pub(super) fenced: Option<u64>,
    pub(super) broken: Option<String>,
}

impl Tracker {
    /// Opens the files of a site; its log is as it was found. Answers what the site says that it is, too.
    pub(super) fn load(
        image: Arc<dyn BlockDevice>,
        disk: &Arc<dyn Disk>,
        site: &Site,
        options: &TrackerOptions,
    ) -> Result<(Self, Mark)> {
        disk.create_dir_all(&site.folder)?;
        let file = MarkFile::open(&**disk, &site.mark())?;
        let mark = file.expect(options.item)?;
        let (folder, entropy) = (site.outgoing(), &*options.entropy);
        let log = SegmentLog::open(Arc::clone(disk), folder, options.segment_bytes, entropy)?;
        let watch = options
            .stores
            .clone()
            .map(|stores| ImageWatch::open(stores, Arc::clone(disk), site.clone(), options.item));
        let tracker = Self {
            image,
            watch: watch.transpose()?,
            mark: file,
            log,
            mode: Mode::Idle,
            epoch: mark.epoch,
            taken: mark.stamp.sequence,
            durable: mark.stamp.sequence,
            acknowledged: 0,
            pending: Vec::new(),
            pending_writes: Vec::new(),
            pending_first: 0,
            commit_times: VecDeque::new(),
            copy: None,
            dirty: None,
            dirty_since: 0,
            is_quiesced: false,
            is_through: false,
            fenced: None,
            broken: None,
        };
        Ok((tracker, mark))
    }

    pub(super) fn check_readable(&self) -> Result<()> {
        match &self.broken {
            Some(reason) => Err(Error::Broken { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn check_unfenced(&self) -> Result<()> {
        self.check_readable()?;
        match self.fenced {
            Some(epoch) => Err(Error::Fenced { epoch }),
            None => Ok(()),
        }
    }

    pub(super) fn check_open(&self) -> Result<()> {
        self.check_unfenced()?;
        if self.is_quiesced {
            return Err(Error::Quiesced);
        }
        Ok(())
    }

    pub(super) fn has_image_changed(&mut self) -> Result<bool> {
        let disk_bytes = self.image.len();
        self.watch.as_mut().map_or(Ok(false), |watch| watch.look(disk_bytes))
    }

    /// Takes the image as it is after a replay for the device's own, and notes it. A device that cannot
    /// tell that to whoever opens the site next goes on: that one replays the log again.
    pub(super) fn know_image(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        watch.adopt();
        if let Err(error) = watch.note() {
            tracing::warn!(%error, "disk image is not noted, what else writes to it goes unnoticed");
        }
    }

    /// Replays the log onto the image, unless it has every write of it, and takes up where the log ends.
    pub(super) fn recover(&mut self, since: Stamp, copying: Option<CopyKind>) -> Result<()> {
        self.mode = Mode::Logging;
        let is_noted = self.watch.as_ref().is_some_and(ImageWatch::is_noted);
        let mut is_copying = copying.is_some();
        for batch in self.log.batches() {
            for frame in frames(&self.log.read(batch)?) {
                let (frame, _) = frame?;
                match frame.change {
                    Change::Write { offset, content: Content::Bytes(bytes) } if !is_noted => {
                        write_image(&mut self.watch, &*self.image, offset, bytes)?;
                    }
                    Change::CopyBegin(_) => is_copying = true,
                    Change::CopyEnd => is_copying = false,
                    _ => {}
                }
            }
        }
        self.image.flush()?;
        let last = self.log.last().unwrap_or(since).max(since);
        (self.taken, self.durable) = (last.sequence, last.sequence);
        self.epoch = self.epoch.max(last.epoch);
        let block_count = self.image.len().div_ceil(COPY_BLOCK_BYTES);
        self.copy =
            copying.filter(|_| is_copying).map(|kind| CopyPlan { begin: since, kind, block_count });
        Ok(())
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        match &mut self.mode {
            Mode::Idle => self.image.write_at(offset, bytes),
            Mode::Diverged(_) => {
                set_dirty(self.dirty.as_mut(), offset, bytes.len() as u64);
                write_image(&mut self.watch, &*self.image, offset, bytes)
            }
            Mode::Logging => {
                self.take_frame(Change::Write { offset, content: Content::Bytes(bytes) })?;
                let data = self.pending.len() - bytes.len()..self.pending.len();
                self.pending_writes.push(PendingWrite { offset, data });
                Ok(())
            }
        }
    }

    pub(super) fn take_frame(&mut self, change: Change<'_>) -> Result<Stamp> {
        self.check_unfenced()?;
        if self.pending.is_empty() {
            self.pending_first = self.taken + 1;
        }
        self.taken += 1;
        let stamp = Stamp { epoch: self.epoch, sequence: self.taken };
        Frame { stamp, change }.encode(&mut self.pending);
        Ok(stamp)
    }

    /// Makes what is pending durable in the log, then writes it to the image.
    pub(super) fn commit(&mut self, options: &TrackerOptions) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.watch.as_mut().is_some_and(ImageWatch::is_changed) {
            return self.diverge(DivergenceReason::ImageChanged, options);
        }
        let is_over = self.log.bytes() + self.pending.len() as u64 > options.outgoing_log_bytes_max;
        if is_over {
            return self.diverge(DivergenceReason::OutgoingLogFull, options);
        }
        if let Some(watch) = self.watch.as_mut().filter(|_| !self.pending_writes.is_empty()) {
            watch.blot()?;
        }
        let first = Stamp { epoch: self.epoch, sequence: self.pending_first };
        let last = Stamp { epoch: self.epoch, sequence: self.taken };
        let logged = self.log.append(first, last, &self.pending).and_then(|_| self.log.sync());
        if let Err(error) = logged {
            tracing::warn!(%error, "outgoing log cannot be written, resynchronization required");
            return self.diverge(DivergenceReason::OutgoingLogFailed, options);
        }
        self.durable = self.taken;
        if self.commit_times.len() == COMMIT_TIMES_MAX {
            // The oldest time is the one that counts; of the rest the newest gives way.
            self.commit_times.pop_back();
        }
        self.commit_times.push_back((self.durable, options.clock.now()));
        self.apply_pending()
    }

    /// Makes what is pending durable in the image too.
    pub(super) fn commit_through(&mut self, options: &TrackerOptions) -> Result<()> {
        self.commit(options)?;
        self.image.flush()
    }

    /// Writes what is pending to the image.
    fn apply_pending(&mut self) -> Result<()> {
        for write in &self.pending_writes {
            let bytes = &self.pending[write.data.clone()];
            if let Err(error) = write_image(&mut self.watch, &*self.image, write.offset, bytes) {
                // What the log holds and the image lacks is replayed when it is opened again.
                self.broken = Some(error.to_string());
                return Err(error);
            }
        }
        self.pending.clear();
        self.pending_writes.clear();
        Ok(())
    }

    /// Goes on without the log. That is durable before the first write that is in no log.
    pub(super) fn diverge(
        &mut self,
        reason: DivergenceReason,
        options: &TrackerOptions,
    ) -> Result<()> {
        // Whoever opens a diverged site does not replay its log, so what the log holds durably has
        // to be in the image first.
        self.image.flush()?;
        self.say(options, Role::Diverged)?;
        self.mode = Mode::Diverged(reason);
        let is_log_trusted = matches!(
            reason,
            DivergenceReason::OutgoingLogFull | DivergenceReason::OutgoingLogFailed
        );
        // A copy under way covers blocks, and a replica lacks writes, that the log does not know.
        let is_copying = self.copy.take().is_some();
        self.dirty =
            (is_log_trusted && !is_copying).then(|| self.unacknowledged_blocks()).flatten();
        self.dirty_since = self.acknowledged;
        self.apply_pending()?;
        self.commit_times.clear();
        self.image.flush()?;
        self.log.clear()
    }

    /// The blocks of every write that the replica may lack; none if the log cannot tell.
    fn unacknowledged_blocks(&self) -> Option<Vec<bool>> {
        let mut dirty = Some(vec![false; self.image.len().div_ceil(DIRTY_BLOCK_BYTES) as usize]);
        for batch in self.log.batches_after(self.acknowledged) {
            let payload = self.log.read(batch).ok()?;
            for frame in frames(&payload) {
                if let Change::Write { offset, content } = frame.ok()?.0.change {
                    set_dirty(dirty.as_mut(), offset, content.length());
                }
            }
        }
        for write in &self.pending_writes {
            set_dirty(dirty.as_mut(), write.offset, write.data.len() as u64);
        }
        dirty
    }

    pub(super) fn begin_copy(
        &mut self,
        kind: CopyKind,
        epoch: u64,
        options: &TrackerOptions,
    ) -> Result<Stamp> {
        // What something else has written is in no bitmap.
        let has_changed = self.has_image_changed()?;
        if !matches!(self.mode, Mode::Diverged(_)) || has_changed {
            self.dirty = None;
        }
        let epoch = epoch.max(self.epoch);
        self.image.flush()?;
        // Until the new log is there, a crash must not find the old one taken for complete.
        self.epoch = epoch;
        self.say(options, Role::Diverged)?;
        if !matches!(self.mode, Mode::Diverged(_)) {
            self.mode = Mode::Diverged(DivergenceReason::OutgoingLogFailed);
        }
        if let Some(watch) = &mut self.watch {
            watch.restart()?;
        }
        self.log.clear()?;
        let begin = Stamp { epoch, sequence: self.taken + 1 };
        let mut payload = Vec::new();
        Frame { stamp: begin, change: Change::CopyBegin(kind) }.encode(&mut payload);
        self.log.append(begin, begin, &payload)?;
        self.log.sync()?;
        let role = match kind {
            CopyKind::Initial => Role::CopyingInitial,
            CopyKind::Resync => Role::CopyingResync,
        };
        (self.taken, self.durable) = (begin.sequence, begin.sequence);
        self.say(options, role)?;
        self.mode = Mode::Logging;
        let block_count = self.image.len().div_ceil(COPY_BLOCK_BYTES);
        self.copy = Some(CopyPlan { begin, kind, block_count });
        self.commit_times.push_back((begin.sequence, options.clock.now()));
        Ok(begin)
    }

    pub(super) fn say(&mut self, options: &TrackerOptions, role: Role) -> Result<()> {
        let stamp = Stamp { epoch: self.epoch, sequence: self.taken };
        let (item, epoch, floor) = (options.item, self.epoch, Stamp::default());
        self.mark.set(Mark { item, role, epoch, stamp, floor })
    }
}

fn set_dirty(dirty: Option<&mut Vec<bool>>, offset: u64, length: u64) {
    let (Some(dirty), true) = (dirty, length > 0) else { return };
    let (first, last) = (offset / DIRTY_BLOCK_BYTES, (offset + length - 1) / DIRTY_BLOCK_BYTES);
    dirty[first as usize..=last as usize].fill(true);
}
