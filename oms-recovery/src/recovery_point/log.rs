//! What a replica keeps: a base image and the ordered log of changes over it.

use super::view::{self, PointView};
use super::{PointChoice, PointId, RecoveryPoint};
use crate::error::{Error, Result};
use crate::machine::disk::{BlockDevice, COPY_STEP_BYTES};
use crate::machine::extent_map::{Extent, ExtentMap, Source};
use crate::recovery_point::Consistency;
use crate::replication::mark::{Mark, MarkFile, Role};
use crate::replication::segment::SegmentLog;
use crate::replication::transfer::{
    COPY_BLOCK_BYTES, Change, Content, CopyKind, CopyStatus, Frame, frames, point_of,
};
use crate::replication::{Site, Stamp};
use oms_core::Entropy;
use oms_core::disk::Disk;
use std::sync::Arc;
use uuid::Uuid;

/// A copy that fills this replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CopyState {
    /// The frame it began with.
    pub begin: Stamp,
    /// How blocks are chosen.
    pub kind: CopyKind,
    /// All blocks before this one are durable.
    pub durable_block: u64,
    /// All blocks before this one were received.
    pub received_block: u64,
}

/// A base image and the log over it.
///
/// ```text
///  base ── everything up to the floor (at least)
///  log  ── floor … point … point … CopyBegin ~~~ CopyEnd … point … last
///                                  └─ no prefix in here is whole ─┘
/// ```
///
/// The disk as of a prefix is the base with every logged change of that prefix over it. Blocks
/// copied by a resynchronization go to the log too, so a half-done one harms nothing: earlier
/// prefixes do not see it.
#[derive(Debug)]
pub struct RecoveryLog {
    item: Uuid,
    base: Arc<dyn BlockDevice>,
    mark: MarkFile,
    log: SegmentLog,
    epoch: u64,
    floor: Stamp,
    last: Stamp,
    /// Ranges of stamps, both ends included, that are whole prefixes.
    whole: Vec<(Stamp, Stamp)>,
    is_whole: bool,
    points: Vec<RecoveryPoint>,
    copy: Option<CopyState>,
}

impl RecoveryLog {
    /// Opens a replica's base and log, or those of a failover that is not committed.
    ///
    /// # Errors
    /// [`Error::Disk`]; [`Error::Corrupt`] names the damage.
    pub fn open(
        base: Arc<dyn BlockDevice>,
        disk: &Arc<dyn Disk>,
        site: &Site,
        item: Uuid,
        segment_bytes: u64,
        entropy: &dyn Entropy,
    ) -> Result<Self> {
        let mark = MarkFile::open(&**disk, &site.mark())?;
        let Mark { role, epoch, floor, .. } = mark.expect(item)?;
        if !matches!(role, Role::Replica | Role::EmptyReplica | Role::FailedOver) {
            let reason = format!("site holds no replica but is {role:?}");
            return Err(Error::Internal { reason });
        }
        let is_whole = role != Role::EmptyReplica;
        let log = SegmentLog::open(Arc::clone(disk), site.log(), segment_bytes, entropy)?;
        let mut opened = Self {
            item,
            base,
            mark,
            log,
            epoch,
            floor,
            last: floor,
            whole: if is_whole { vec![(floor, floor)] } else { Vec::new() },
            is_whole,
            points: Vec::new(),
            copy: None,
        };
        let batches: Vec<_> = opened.log.batches().copied().collect();
        for batch in batches {
            let payload = opened.log.read(&batch)?;
            for frame in frames(&payload) {
                opened.absorb(&frame?.0);
            }
        }
        opened.cut_to_floor();
        Ok(opened)
    }

    /// The epoch below which nothing is taken.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The last frame held.
    #[must_use]
    pub const fn last(&self) -> Stamp {
        self.last
    }

    /// Whether the disk as of [`last`](Self::last) is a whole prefix.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The last whole prefix, if there is one.
    #[must_use]
    pub fn latest_whole(&self) -> Option<Stamp> {
        self.whole.last().map(|(_, end)| *end)
    }

    /// The copy under way.
    #[must_use]
    pub const fn copy(&self) -> Option<&CopyState> {
        self.copy.as_ref()
    }

    /// The recovery points kept, oldest first.
    #[must_use]
    pub fn points(&self) -> &[RecoveryPoint] {
        &self.points
    }

    /// Bytes in the log.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// The image under the log.
    #[must_use]
    pub const fn base(&self) -> &Arc<dyn BlockDevice> {
        &self.base
    }

    pub(crate) const fn segments(&self) -> &SegmentLog {
        &self.log
    }

    /// The prefix that a choice stands for, with its recovery point if there is one exactly there.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub fn choose(&self, choice: PointChoice) -> Result<(Stamp, Option<RecoveryPoint>)> {
        let newest = |wanted: Option<Consistency>| {
            let fits = |point: &&RecoveryPoint| wanted.is_none_or(|it| it == point.consistency);
            self.points.iter().rev().find(fits).copied()
        };
        let point = match choice {
            PointChoice::Latest => {
                let stamp = self.latest_whole().ok_or_else(|| not_found("any"))?;
                return Ok((stamp, self.points.iter().find(|it| it.stamp == stamp).copied()));
            }
            PointChoice::LatestProcessed => newest(None),
            PointChoice::LatestApplicationConsistent => {
                newest(Some(Consistency::ApplicationConsistent))
            }
            PointChoice::LatestCrashConsistent => newest(Some(Consistency::CrashConsistent)),
            PointChoice::Point(id) => Some(self.point(id)?),
        };
        let point = point.ok_or_else(|| not_found(&format!("{choice:?}")))?;
        Ok((point.stamp, Some(point)))
    }

    /// A recovery point by its identity.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn point(&self, id: PointId) -> Result<RecoveryPoint> {
        let found = self.points.iter().find(|point| point.id == id).copied();
        found.ok_or_else(|| not_found(&id.to_string()))
    }

    /// The disk as of a whole prefix. Reads and checks the whole log.
    ///
    /// # Errors
    /// [`Error::NoSuchPrefix`]; [`Error::Corrupt`].
    pub fn view(&self, stamp: Stamp) -> Result<PointView> {
        let is_whole = self.whole.iter().any(|(from, to)| (*from..=*to).contains(&stamp));
        if !is_whole {
            return Err(Error::NoSuchPrefix { stamp });
        }
        PointView::new(self, stamp)
    }

    /// Everything before the copy under way: what its checksums are of. Blocks that match them are
    /// not sent, so what they are of is durable first: an initial copy that was given up may have
    /// left blocks in the base that were never synced.
    ///
    /// # Errors
    /// [`Error::Disk`]; [`Error::Corrupt`].
    pub(crate) fn view_below_copy(&self, begin: Stamp) -> Result<PointView> {
        self.base.flush()?;
        let sequence = begin.sequence.saturating_sub(1);
        PointView::new(self, Stamp { sequence, ..begin })
    }

    /// Takes numbered frames that follow [`last`](Self::last); durable when it returns.
    ///
    /// # Errors
    /// [`Error::Disk`]; nothing was taken.
    pub(crate) fn append(&mut self, first: Stamp, last: Stamp, payload: &[u8]) -> Result<()> {
        let is_initial = frames(payload)
            .next()
            .is_some_and(|it| matches!(it, Ok((frame, _)) if frame.change == Change::CopyBegin(CopyKind::Initial)));
        if is_initial {
            // Blocks go below the log, so nothing of an earlier attempt may lie above them.
            self.log.clear()?;
        }
        self.log.append(first, last, payload)?;
        self.log.sync()?;
        for frame in frames(payload) {
            self.absorb(&frame?.0);
        }
        Ok(())
    }

    /// Takes blocks of the copy under way; durable after [`sync_copy`](Self::sync_copy).
    ///
    /// # Errors
    /// [`Error::Disk`]; blocks may have been written, which is harmless.
    pub(crate) fn append_copy(&mut self, payload: &[u8], next_block: u64) -> Result<()> {
        let Some(copy) = &mut self.copy else {
            return Err(Error::Internal { reason: "no copy is under way".to_owned() });
        };
        match copy.kind {
            CopyKind::Initial => {
                for frame in frames(payload) {
                    if let Change::CopyBlock { offset, content } = frame?.0.change {
                        write_content(&*self.base, offset, content)?;
                    }
                }
            }
            CopyKind::Resync => {
                let mut batch = payload.to_vec();
                progress(copy.begin, next_block, &mut batch);
                self.log.append(copy.begin, copy.begin, &batch)?;
            }
        }
        copy.received_block = next_block;
        Ok(())
    }

    /// Makes every block received durable.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub(crate) fn sync_copy(&mut self) -> Result<()> {
        let Some(copy) = &mut self.copy else { return Ok(()) };
        if copy.durable_block == copy.received_block {
            return Ok(());
        }
        if copy.kind == CopyKind::Initial {
            self.base.flush()?;
            let mut batch = Vec::new();
            progress(copy.begin, copy.received_block, &mut batch);
            self.log.append(copy.begin, copy.begin, &batch)?;
        }
        self.log.sync()?;
        copy.durable_block = copy.received_block;
        Ok(())
    }

    /// Refuses everything below an epoch from now on; durable when it returns.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub(crate) fn raise_epoch(&mut self, epoch: u64) -> Result<()> {
        if epoch > self.epoch {
            let role = self.role();
            self.say(role, epoch, self.floor)?;
            self.epoch = epoch;
        }
        Ok(())
    }

    /// Makes the site that of a failover to `stamp`, not committed; durable when it returns.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub(crate) fn fail_over(&mut self, stamp: Stamp, epoch: u64) -> Result<()> {
        self.say(Role::FailedOver, epoch, stamp)?;
        self.epoch = epoch;
        Ok(())
    }

    /// Merges everything up to a whole prefix into the base. Points before it are gone first.
    ///
    /// # Errors
    /// [`Error::NoSuchPrefix`]; [`Error::Disk`], and doing it again completes it.
    pub(crate) fn merge(&mut self, floor: Stamp) -> Result<()> {
        let is_whole = self.whole.iter().any(|(from, to)| (*from..=*to).contains(&floor));
        if !is_whole {
            return Err(Error::NoSuchPrefix { stamp: floor });
        }
        self.floor = floor;
        self.say(Role::Replica, self.epoch, floor)?;
        self.cut_to_floor();
        write_extents(&view::extents(&self.log, Some(floor))?, &self.log, &*self.base)?;
        self.base.flush()?;
        self.log.remove_through(floor)
    }

    /// Writes the disk as of a prefix into the base, for good.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Corrupt`], and doing it again completes it.
    pub(crate) fn settle(&self, stamp: Stamp) -> Result<()> {
        write_extents(&view::extents(&self.log, Some(stamp))?, &self.log, &*self.base)
    }

    /// Forgets prefixes that the base is past.
    fn cut_to_floor(&mut self) {
        let floor = self.floor;
        self.points.retain(|point| point.stamp >= floor);
        self.whole.retain(|(_, to)| *to >= floor);
        for (from, _) in &mut self.whole {
            *from = floor.max(*from);
        }
    }

    const fn role(&self) -> Role {
        if self.whole.is_empty() { Role::EmptyReplica } else { Role::Replica }
    }

    fn say(&mut self, role: Role, epoch: u64, stamp: Stamp) -> Result<()> {
        self.mark.set(Mark { item: self.item, role, epoch, stamp, floor: self.floor })
    }

    /// Takes a frame that the log holds into account.
    fn absorb(&mut self, frame: &Frame<'_>) {
        let stamp = frame.stamp;
        match frame.change {
            Change::CopyBegin(kind) => {
                self.is_whole = false;
                let (durable_block, received_block) = (0, 0);
                self.copy = Some(CopyState { begin: stamp, kind, durable_block, received_block });
            }
            Change::CopyEnd => {
                self.is_whole = true;
                self.copy = None;
                self.whole.push((stamp, stamp));
            }
            Change::CopyProgress { next_block } => {
                if let Some(copy) = self.copy.as_mut().filter(|copy| copy.begin == stamp) {
                    (copy.durable_block, copy.received_block) = (next_block, next_block);
                }
            }
            Change::Point { .. } if self.is_whole && stamp >= self.floor => {
                self.points.extend(point_of(frame));
            }
            Change::Point { .. } | Change::Write { .. } | Change::CopyBlock { .. } => {}
        }
        if frame.change.is_sequenced() {
            self.last = self.last.max(stamp);
            if let Some((_, to)) = self.whole.last_mut().filter(|_| self.is_whole) {
                *to = (*to).max(stamp);
            }
        }
    }

    /// Where the copy stands, for the primary.
    #[must_use]
    pub fn copy_status(&self) -> Option<CopyStatus> {
        let copy = self.copy?;
        Some(CopyStatus { begin: copy.begin, next_block: copy.durable_block })
    }
}

fn not_found(name: &str) -> Error {
    Error::NotFound { what: "recovery point", name: name.to_owned() }
}

fn progress(begin: Stamp, next_block: u64, out: &mut Vec<u8>) {
    Frame { stamp: begin, change: Change::CopyProgress { next_block } }.encode(out);
}

fn write_content(base: &dyn BlockDevice, offset: u64, content: Content<'_>) -> Result<()> {
    match content {
        Content::Bytes(bytes) => base.write_at(offset, bytes),
        Content::Zeros(count) => {
            // A hole stays a hole.
            let mut block = vec![0; (count as usize).min(COPY_BLOCK_BYTES as usize)];
            let mut done = 0;
            while done < count as usize {
                let length = block.len().min(count as usize - done);
                let at = offset + done as u64;
                base.read_at(at, &mut block[..length])?;
                if !crate::machine::disk::is_zero(&block[..length]) {
                    block[..length].fill(0);
                    base.write_at(at, &block[..length])?;
                }
                done += length;
            }
            Ok(())
        }
    }
}

/// Writes every extent of a map into a device, in steps of bounded size.
pub(crate) fn write_extents(
    map: &ExtentMap,
    log: &SegmentLog,
    device: &dyn BlockDevice,
) -> Result<()> {
    let mut step = Vec::new();
    for (start, Extent { length, source, .. }) in map.iter() {
        let mut done = 0;
        while done < length {
            let count = COPY_STEP_BYTES.min(length - done) as usize;
            let content = match source {
                Source::Zeros => Content::Zeros(count as u32),
                Source::Segment { number, at } => {
                    step.resize(count, 0);
                    view::SegmentFiles::read_segment(log, number, at + done, &mut step)?;
                    Content::Bytes(&step)
                }
            };
            write_content(device, start + done, content)?;
            done += count as u64;
        }
    }
    Ok(())
}
