//! The replica's side of replication.

use super::transfer::{
    BlockHash, COPY_BLOCK_BYTES, COPY_BLOCKS_MAX, Change, CopyKind, Message, ReplicaStatus, decode,
    frames,
};
use super::{ReplicationPolicy, Stamp};
use crate::error::{Error, Result};
use crate::machine::disk::BlockDevice;
use crate::recovery_point::{PointView, RecoveryLog, prune};
use jiff::Timestamp;
use oms_core::ErrorKind;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// After how many copied bytes the replica makes them durable by itself.
pub const COPY_SYNC_BYTES: u64 = 16 << 20;

/// What a replica knows when a message arrives.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaFacts {
    /// Which item it is of.
    pub item: Uuid,
    /// The length of its disk.
    pub disk_bytes: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The last frame it holds.
    pub last: Stamp,
    /// Whether it ever held a whole disk.
    pub has_points: bool,
    /// The copy under way: its beginning and the next block to receive.
    pub copy: Option<(Stamp, u64)>,
}

/// What a replica does about a message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Decision<'a> {
    /// Answer with the status.
    Answer,
    /// Make copied blocks durable, then answer with the status.
    SyncAndAnswer,
    /// Append these frames durably, then answer with the status.
    Append {
        /// Stamp of the first.
        first: Stamp,
        /// Stamp of the last.
        last: Stamp,
        /// The frames.
        frames: &'a [u8],
    },
    /// Take copied blocks.
    Copy {
        /// The frames.
        frames: &'a [u8],
        /// The block after the range.
        next_block: u64,
        /// Whether to make them durable now.
        is_sync: bool,
    },
    /// Answer with checksums.
    Hash {
        /// The copy's beginning.
        begin: Stamp,
        /// First block.
        first_block: u64,
        /// How many blocks.
        block_count: u64,
    },
    /// Refuse a former primary.
    StaleEpoch,
    /// Refuse something else.
    Refuse(&'static str),
}

/// Decides about one message; changes nothing.
///
/// Only the part of the frames that follows what the replica holds without a gap is taken, so the
/// replica's log is a prefix of the primary's writes whatever the network does.
///
/// # Errors
/// [`Error::Decode`] for frames that are not.
pub fn decide<'a>(facts: &ReplicaFacts, message: &Message<'a>) -> Result<Decision<'a>> {
    let epoch = match message {
        Message::Hello { item, epoch, disk_bytes, .. } => {
            if *item != facts.item {
                return Ok(Decision::Refuse("not a replica of this item"));
            }
            if *disk_bytes != facts.disk_bytes {
                return Ok(Decision::Refuse("disks differ in length"));
            }
            *epoch
        }
        Message::Frames { epoch, .. }
        | Message::Copy { epoch, .. }
        | Message::ChecksumsWanted { epoch, .. } => *epoch,
        _ => return Ok(Decision::Refuse("not a message for a replica")),
    };
    if epoch < facts.epoch {
        return Ok(Decision::StaleEpoch);
    }
    if epoch > facts.epoch {
        return Ok(Decision::Refuse("epoch is not known here yet"));
    }
    Ok(match *message {
        Message::Frames { frames, .. } => take_frames(facts, frames)?,
        Message::Copy { begin, first_block, block_count, is_sync, frames, .. } => {
            let is_current = facts.copy.is_some_and(|(current, _)| current == begin);
            let next = facts.copy.map_or(0, |(_, next)| next);
            let end = first_block.saturating_add(block_count);
            if !is_current || first_block > next {
                Decision::Answer
            } else if first_block < next {
                // A repetition: the primary may have missed an answer.
                Decision::SyncAndAnswer
            } else {
                check_copy(facts, begin, frames)?;
                Decision::Copy { frames, next_block: end, is_sync }
            }
        }
        Message::ChecksumsWanted { begin, first_block, block_count, .. } => {
            let is_current = facts.copy.is_some_and(|(current, _)| current == begin);
            let disk_blocks = facts.disk_bytes.div_ceil(COPY_BLOCK_BYTES);
            let is_inside = first_block.saturating_add(block_count) <= disk_blocks;
            match is_current && is_inside && (1..=COPY_BLOCKS_MAX).contains(&block_count) {
                true => Decision::Hash { begin, first_block, block_count },
                false => Decision::Answer,
            }
        }
        _ => Decision::Answer,
    })
}

fn take_frames<'a>(facts: &ReplicaFacts, payload: &'a [u8]) -> Result<Decision<'a>> {
    let mut last = facts.last;
    let (mut first, mut from, mut to) = (None, 0, 0);
    let mut at = 0;
    for frame in frames(payload) {
        let (frame, data_at) = frame?;
        let begin = at;
        at = match frame.change {
            Change::Write { content: super::transfer::Content::Bytes(bytes), offset }
                if offset + bytes.len() as u64 <= facts.disk_bytes =>
            {
                data_at + bytes.len()
            }
            Change::Write { content, offset } if offset + content.length() <= facts.disk_bytes => {
                data_at
            }
            Change::Write { .. } => return Ok(Decision::Refuse("write outside of the disk")),
            Change::Point { .. } => data_at + 17,
            Change::CopyBegin(CopyKind::Initial) if facts.has_points => {
                return Ok(Decision::Refuse("initial copy into a replica that holds points"));
            }
            Change::CopyBegin(_) | Change::CopyEnd => data_at,
            _ => return Ok(Decision::Refuse("copied block among numbered frames")),
        };
        if frame.stamp.sequence <= last.sequence {
            continue;
        }
        let is_next = frame.stamp.sequence == last.sequence + 1;
        let is_new_start = matches!(frame.change, Change::CopyBegin(_));
        if !is_next && !is_new_start {
            break;
        }
        if frame.change == Change::CopyBegin(CopyKind::Initial) && first.is_some() {
            break;
        }
        if first.is_none() {
            (first, from) = (Some(frame.stamp), begin);
        }
        (last, to) = (frame.stamp, at);
    }
    Ok(match first {
        Some(first) => Decision::Append { first, last, frames: &payload[from..to] },
        None => Decision::Answer,
    })
}

fn check_copy(facts: &ReplicaFacts, begin: Stamp, payload: &[u8]) -> Result<()> {
    for frame in frames(payload) {
        let refuse = |reason| Error::Decode { what: "copy", position: 0, reason };
        let (frame, _) = frame?;
        let Change::CopyBlock { offset, content } = frame.change else {
            return Err(refuse("holds another kind of frame"));
        };
        if frame.stamp != begin {
            return Err(refuse("holds a block of another copy"));
        }
        if offset + content.length() > facts.disk_bytes {
            return Err(refuse("holds a block outside of the disk"));
        }
    }
    Ok(())
}

/// The replica of one item's disk: takes messages, keeps the log.
#[derive(Debug)]
pub struct Replica {
    item: Uuid,
    log: RecoveryLog,
    /// What the checksums of the copy under way are of.
    below_copy: Option<(Stamp, PointView)>,
    unsynced_copy_bytes: u64,
    challenge: u64,
}

impl Replica {
    /// A replica over its log.
    #[must_use]
    pub const fn new(item: Uuid, log: RecoveryLog) -> Self {
        Self { item, log, below_copy: None, unsynced_copy_bytes: 0, challenge: 0 }
    }

    /// What it keeps.
    #[must_use]
    pub const fn log(&self) -> &RecoveryLog {
        &self.log
    }

    /// Merges recovery points that the policy does not keep into the base; those from `pinned` on
    /// stay in any case.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Corrupt`]; pruning again completes it.
    pub fn prune(
        &mut self,
        policy: &ReplicationPolicy,
        now: Timestamp,
        pinned: Option<Stamp>,
    ) -> Result<()> {
        let Some(latest) = self.log.latest_whole() else { return Ok(()) };
        let (points, log_bytes) = (self.log.points(), self.log.bytes());
        let floor = prune::floor(prune::Kept { points, latest, log_bytes, pinned }, policy, now);
        let has_old_point = points.first().is_some_and(|point| point.stamp < floor);
        if has_old_point || self.log.segments().has_removable(floor) {
            self.log.merge(floor)?;
        }
        Ok(())
    }

    /// What it holds durably.
    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            epoch: self.log.epoch(),
            last: self.log.last(),
            is_whole: self.log.is_whole(),
            copy: self.log.copy_status(),
            challenge: self.challenge,
        }
    }

    /// Takes one message and answers it, if it needs an answer. A message that cannot be read is
    /// an answer that says so; what it says durable is.
    #[must_use]
    pub fn handle(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self.try_handle(bytes) {
            Ok(answer) => answer,
            Err(error) => {
                let is_full = matches!(error.kind(), ErrorKind::LimitExceeded { .. });
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let reason = cause.map_or(error.to_string(), |cause| format!("{error}: {cause}"));
                tracing::warn!(%reason, "replica refused a message");
                Some(Message::Refused { is_full, reason: &reason }.encode())
            }
        }
    }

    fn try_handle(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        let message = decode(bytes)?;
        if let Message::Hello { challenge, .. } = message {
            self.challenge = challenge;
        }
        match decide(&self.facts(), &message)? {
            Decision::Answer => {}
            Decision::SyncAndAnswer => self.sync_copy()?,
            Decision::Append { first, last, frames } => self.log.append(first, last, frames)?,
            Decision::Copy { frames, next_block, is_sync } => {
                self.log.append_copy(frames, next_block)?;
                self.unsynced_copy_bytes += frames.len() as u64;
                if !is_sync && self.unsynced_copy_bytes < COPY_SYNC_BYTES {
                    return Ok(None);
                }
                self.sync_copy()?;
            }
            Decision::Hash { begin, first_block, block_count } => {
                let hashes = self.hash(begin, first_block, block_count)?;
                return Ok(Some(Message::Checksums { begin, first_block, hashes }.encode()));
            }
            Decision::StaleEpoch => {
                return Ok(Some(Message::StaleEpoch { current: self.log.epoch() }.encode()));
            }
            Decision::Refuse(reason) => {
                return Ok(Some(Message::Refused { is_full: false, reason }.encode()));
            }
        }
        Ok(Some(Message::Status(self.status()).encode()))
    }

    fn facts(&self) -> ReplicaFacts {
        ReplicaFacts {
            item: self.item,
            disk_bytes: self.log.base().len(),
            epoch: self.log.epoch(),
            last: self.log.last(),
            has_points: self.log.latest_whole().is_some(),
            copy: self.log.copy().map(|copy| (copy.begin, copy.received_block)),
        }
    }

    fn sync_copy(&mut self) -> Result<()> {
        self.log.sync_copy()?;
        self.unsynced_copy_bytes = 0;
        Ok(())
    }

    fn hash(&mut self, begin: Stamp, first_block: u64, block_count: u64) -> Result<Vec<BlockHash>> {
        let below = match self.below_copy.take() {
            Some((of, view)) if of == begin => view,
            _ => self.log.view_below_copy(begin)?,
        };
        let mut hashes = Vec::new();
        for block in first_block..first_block + block_count {
            hashes.push(block_hash(&read_block(&below, block)?));
        }
        self.below_copy = Some((begin, below));
        Ok(hashes)
    }
}

/// Reads one block of a disk; the last may be shorter.
pub(crate) fn read_block(device: &dyn BlockDevice, block: u64) -> Result<Vec<u8>> {
    let offset = block * COPY_BLOCK_BYTES;
    let mut bytes = vec![0; COPY_BLOCK_BYTES.min(device.len().saturating_sub(offset)) as usize];
    device.read_at(offset, &mut bytes)?;
    Ok(bytes)
}

/// The checksum of a block.
pub(crate) fn block_hash(bytes: &[u8]) -> BlockHash {
    Sha256::digest(bytes).into()
}
