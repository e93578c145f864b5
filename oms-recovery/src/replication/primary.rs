//! The primary's side of replication.

use super::tracker::{TrackedDevice, TrackerStatus};
use super::transfer::{
    BlockHash, COPY_BLOCK_BYTES, COPY_BLOCKS_MAX, Change, Content, CopyKind, Frame, Message,
    ReplicaStatus, decode,
};
use super::{DivergenceReason, Stamp};
use crate::error::{Error, Result};
use crate::machine::disk::{BlockDevice as _, is_zero};
use crate::replication::replica::block_hash;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most frame messages that are under way at once.
pub const FRAMES_IN_FLIGHT_MAX: usize = 8;

/// How many bytes of frames one message holds, unless a single batch is larger.
pub const FRAMES_BYTES: usize = 2 << 20;

/// The most blocks of a copy that are under way at once, which is 32 MiB.
pub const COPY_BLOCKS_IN_FLIGHT_MAX: u64 = 512;

/// The most blocks whose checksums are asked for ahead.
pub const CHECKSUM_BLOCKS_AHEAD_MAX: u64 = 8 * COPY_BLOCKS_MAX;

/// What the primary hears.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Input {
    /// The replica's status.
    Status(ReplicaStatus),
    /// Checksums of blocks at the replica.
    Checksums {
        /// The copy they are for.
        begin: Stamp,
        /// First block.
        first_block: u64,
        /// One per block.
        hashes: Vec<BlockHash>,
    },
    /// Some time passed without a sign of the replica: send again what it has not acknowledged.
    Tick,
}

/// What the primary does next.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// Ask for the replica's status.
    Hello {
        /// What the status must repeat.
        challenge: u64,
    },
    /// Send frames after a sequence; tell the engine through [`Primary::sent`] how far they went.
    SendFrames {
        /// The last sequence that was sent.
        after: u64,
    },
    /// Ask for checksums of a range.
    AskChecksums {
        /// First block.
        first_block: u64,
        /// How many blocks.
        block_count: u64,
    },
    /// Send blocks of a range.
    SendCopy {
        /// First block.
        first_block: u64,
        /// How many blocks the range has.
        block_count: u64,
        /// Which blocks to send.
        wanted: Wanted,
        /// Whether the replica shall answer at once.
        is_sync: bool,
    },
    /// The replica holds every frame up to here.
    Acknowledged {
        /// The sequence.
        through: u64,
    },
    /// Every block is at the replica: end the copy.
    FinishCopy,
    /// The log does not join the two any more.
    Diverge(DivergenceReason),
}

/// Which blocks of a range are sent.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Wanted {
    /// All.
    All,
    /// None: the replica has them.
    None,
    /// Those whose checksums differ from these.
    Differing(Vec<BlockHash>),
}

/// Decides what to send to the replica. Holds no data and does no I/O.
///
/// ```text
///  Hello ──► Status ──► frames up to the durable end, 8 messages ahead ──► Status …
///                   └─► (while a copy is under way) blocks, 32 MiB ahead ──► Status …
///                                                      └─ all acknowledged ──► FinishCopy
/// ```
/// Loss, repetition and reordering cost time only: the replica takes what follows without a gap,
/// its status says how far that is, and after a [`Input::Tick`] sending starts there again.
#[derive(Debug)]
pub struct Primary {
    replica: Option<ReplicaStatus>,
    /// What a status must repeat.
    challenge: u64,
    is_greeting: bool,
    told: u64,
    sent: u64,
    in_flight: VecDeque<u64>,
    copy: Option<CopyCursor>,
}

#[derive(Debug)]
struct CopyCursor {
    begin: Stamp,
    acknowledged: u64,
    sent: u64,
    asked: u64,
    answers: VecDeque<(u64, Vec<BlockHash>)>,
    is_finishing: bool,
}

impl Primary {
    /// A sender that has heard nothing yet. `challenge` is drawn at random.
    #[must_use]
    pub const fn new(challenge: u64) -> Self {
        Self {
            replica: None,
            challenge,
            is_greeting: false,
            told: 0,
            sent: 0,
            in_flight: VecDeque::new(),
            copy: None,
        }
    }

    /// Takes what was heard.
    pub fn receive(&mut self, input: Input) {
        match input {
            Input::Status(status) => self.receive_status(status),
            Input::Checksums { begin, first_block, hashes } => {
                if let Some(copy) = self.copy.as_mut().filter(|copy| copy.begin == begin) {
                    let after = copy
                        .answers
                        .back()
                        .map_or(copy.sent, |(at, hashes)| at + hashes.len() as u64);
                    if first_block == after && first_block < copy.asked {
                        copy.answers.push_back((first_block, hashes));
                    }
                }
            }
            Input::Tick => {
                // A new greeting also finds a replica that came back with less than it had.
                self.is_greeting = false;
                self.challenge = self.challenge.wrapping_add(1);
                self.replica = None;
                self.in_flight.clear();
                self.copy = None;
            }
        }
    }

    fn receive_status(&mut self, status: ReplicaStatus) {
        if status.challenge != self.challenge {
            return;
        }
        let last = status.last.sequence;
        let place = |it: &ReplicaStatus| (it.last, it.copy.map(|copy| copy.next_block));
        match &self.replica {
            None => self.sent = last,
            // Overtaken on its way.
            Some(newer) if place(newer) > place(&status) => return,
            Some(_) => self.sent = self.sent.max(last),
        }
        self.replica = Some(status);
        while self.in_flight.front().is_some_and(|through| *through <= last) {
            self.in_flight.pop_front();
        }
        let Some(reported) = status.copy else { return };
        match self.copy.as_mut().filter(|copy| copy.begin == reported.begin) {
            Some(copy) => copy.acknowledge(reported.next_block),
            None => self.copy = Some(CopyCursor::new(reported.begin, reported.next_block)),
        }
    }

    /// What to do next, if anything; to be asked until there is nothing.
    ///
    /// `is_clean` tells whether a copy may leave out a range of blocks.
    pub fn step(
        &mut self,
        tracker: &TrackerStatus,
        is_clean: impl Fn(u64, u64) -> bool,
    ) -> Option<Effect> {
        if tracker.divergence.is_some() {
            return None;
        }
        let Some(replica) = self.replica else {
            if self.is_greeting {
                return None;
            }
            self.is_greeting = true;
            return Some(Effect::Hello { challenge: self.challenge });
        };
        if let Some(reason) = divergence(tracker, &replica) {
            return Some(Effect::Diverge(reason));
        }
        let held = replica.last.sequence;
        if held > self.told {
            self.told = held;
            return Some(Effect::Acknowledged { through: held });
        }
        if self.sent < tracker.durable && self.in_flight.len() < FRAMES_IN_FLIGHT_MAX {
            return Some(Effect::SendFrames { after: self.sent });
        }
        let plan = tracker.copy?;
        let copy = self.copy.as_mut().filter(|copy| copy.begin == plan.begin)?;
        copy.step(plan.kind, plan.block_count, is_clean)
    }

    /// Frames up to a sequence were sent.
    pub fn sent(&mut self, through: u64) {
        self.sent = through;
        self.in_flight.push_back(through);
    }

    /// Whether the replica holds every frame up to `through` and no copy is under way.
    #[must_use]
    pub fn is_drained(&self, tracker: &TrackerStatus, through: u64) -> bool {
        tracker.copy.is_none() && self.told >= through && self.replica.is_some_and(|it| it.is_whole)
    }

    /// What the replica said last.
    #[must_use]
    pub const fn replica(&self) -> Option<&ReplicaStatus> {
        self.replica.as_ref()
    }
}

impl CopyCursor {
    const fn new(begin: Stamp, next_block: u64) -> Self {
        Self {
            begin,
            acknowledged: next_block,
            sent: next_block,
            asked: next_block,
            answers: VecDeque::new(),
            is_finishing: false,
        }
    }

    fn acknowledge(&mut self, next_block: u64) {
        self.acknowledged = self.acknowledged.max(next_block);
        self.sent = self.sent.max(self.acknowledged);
        self.asked = self.asked.max(self.sent);
        while self.answers.front().is_some_and(|(at, _)| *at < self.sent) {
            self.answers.pop_front();
        }
    }

    fn step(
        &mut self,
        kind: CopyKind,
        block_count: u64,
        is_clean: impl Fn(u64, u64) -> bool,
    ) -> Option<Effect> {
        if self.acknowledged >= block_count {
            if self.is_finishing {
                return None;
            }
            self.is_finishing = true;
            return Some(Effect::FinishCopy);
        }
        let room = COPY_BLOCKS_IN_FLIGHT_MAX.saturating_sub(self.sent - self.acknowledged);
        let left = block_count - self.sent;
        if let Some((_, hashes)) = self.answers.pop_front() {
            let count = hashes.len() as u64;
            return Some(self.send(count, Wanted::Differing(hashes), block_count));
        }
        if left == 0 || room == 0 {
            return None;
        }
        let step = COPY_BLOCKS_MAX.min(left);
        if kind == CopyKind::Initial {
            return Some(self.send(step.min(room), Wanted::All, block_count));
        }
        if self.asked == self.sent && is_clean(self.sent, step) {
            return Some(self.send(step, Wanted::None, block_count));
        }
        let ahead = self.asked - self.sent;
        let asking = COPY_BLOCKS_MAX.min(block_count - self.asked);
        let may_ask = ahead < CHECKSUM_BLOCKS_AHEAD_MAX.min(room) && asking > 0;
        // A clean range waits until the answers before it are in.
        if !may_ask || (ahead > 0 && is_clean(self.asked, asking)) {
            return None;
        }
        let first_block = self.asked;
        self.asked += asking;
        Some(Effect::AskChecksums { first_block, block_count: asking })
    }

    fn send(&mut self, count: u64, wanted: Wanted, block_count: u64) -> Effect {
        let first_block = self.sent;
        self.sent += count;
        self.asked = self.asked.max(self.sent);
        let in_flight = self.sent - self.acknowledged;
        let is_sync = self.sent == block_count || in_flight >= COPY_BLOCKS_IN_FLIGHT_MAX;
        Effect::SendCopy { first_block, block_count: count, wanted, is_sync }
    }
}

/// Whether the replica can be brought up to date by frames, and if not, why.
fn divergence(tracker: &TrackerStatus, replica: &ReplicaStatus) -> Option<DivergenceReason> {
    let held = replica.last.sequence;
    if held > tracker.durable {
        return Some(DivergenceReason::ReplicaAhead);
    }
    // The frame that begins a copy needs nothing before it.
    let begins_copy = |first| tracker.copy.is_some_and(|plan| plan.begin.sequence == first);
    if tracker.first.is_some_and(|first| held + 1 < first && !begins_copy(first)) {
        return Some(DivergenceReason::ReplicaBehind);
    }
    let is_past_begin = tracker.copy.is_some_and(|plan| held >= plan.begin.sequence);
    let reported = replica.copy.map(|copy| copy.begin);
    if is_past_begin && reported != tracker.copy.map(|plan| plan.begin) {
        return Some(DivergenceReason::CopyUnknown);
    }
    None
}

/// What ended a primary's run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The replica holds all that was asked for.
    Drained,
    /// Writes went past the log.
    Diverged(DivergenceReason),
    /// Production is at the other site.
    Fenced {
        /// The replica's epoch.
        epoch: u64,
    },
    /// The replica refused.
    Refused {
        /// Whether its disk is full.
        is_full: bool,
        /// In its words.
        reason: String,
    },
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SentCounts {
    /// Bytes of frames, repetitions included.
    pub frame_bytes: u64,
    /// Bytes of copied blocks, repetitions included.
    pub copy_bytes: u64,
    /// Messages of any kind.
    pub messages: u64,
}

/// The engine with its device: performs the effects and makes the messages.
#[derive(Debug)]
pub struct PrimaryEnd {
    item: uuid::Uuid,
    engine: Primary,
    device: Arc<TrackedDevice>,
    counts: SentCounts,
    outcome: Option<Outcome>,
}

impl PrimaryEnd {
    /// A sender for a device.
    #[must_use]
    pub fn new(item: uuid::Uuid, device: Arc<TrackedDevice>) -> Self {
        let engine = Primary::new(device.draw_challenge());
        let counts = SentCounts::default();
        Self { item, engine, device, counts, outcome: None }
    }

    /// What was sent so far.
    #[must_use]
    pub const fn counts(&self) -> SentCounts {
        self.counts
    }

    /// What the replica said last, if it has answered.
    #[must_use]
    pub const fn replica(&self) -> Option<&ReplicaStatus> {
        self.engine.replica()
    }

    /// Whether the replica holds every frame up to `through` and no copy is under way, or why it
    /// never will.
    #[must_use]
    pub fn outcome(&self, through: u64) -> Option<Outcome> {
        let tracker = self.device.status();
        match tracker.divergence {
            Some(reason) => Some(Outcome::Diverged(reason)),
            None if self.outcome.is_some() => self.outcome.clone(),
            None => self.engine.is_drained(&tracker, through).then_some(Outcome::Drained),
        }
    }

    /// Takes a message of the replica.
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub fn receive(&mut self, bytes: &[u8]) -> Result<()> {
        match decode(bytes)? {
            Message::Status(status) => {
                self.device.check_bitmap(status.last.sequence);
                if let Some(copy) = status.copy {
                    self.device.note_copied(copy.next_block.saturating_mul(COPY_BLOCK_BYTES));
                }
                self.engine.receive(Input::Status(status));
            }
            Message::Checksums { begin, first_block, hashes } => {
                self.engine.receive(Input::Checksums { begin, first_block, hashes });
            }
            Message::StaleEpoch { current } => {
                self.device.fence(current)?;
                self.outcome = Some(Outcome::Fenced { epoch: current });
            }
            Message::Refused { is_full, reason } => {
                self.outcome = Some(Outcome::Refused { is_full, reason: reason.to_owned() });
            }
            _ => {
                let reason = "not a message for a primary";
                return Err(Error::Decode { what: "message", position: 5, reason });
            }
        }
        Ok(())
    }

    /// Starts again after silence or a refusal.
    pub fn tick(&mut self) {
        if matches!(self.outcome, Some(Outcome::Refused { .. })) {
            self.outcome = None;
        }
        self.engine.receive(Input::Tick);
    }

    /// The messages to send now.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Corrupt`], [`Error::Broken`].
    pub fn poll(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut messages = Vec::new();
        while self.outcome.is_none() {
            let tracker = self.device.status();
            let device = &self.device;
            let effect = self.engine.step(&tracker, |first, count| device.is_clean(first, count));
            let Some(effect) = effect else { break };
            if let Some(message) = self.perform(effect, &tracker)? {
                self.counts.messages += 1;
                messages.push(message);
            }
        }
        Ok(messages)
    }

    fn perform(&mut self, effect: Effect, tracker: &TrackerStatus) -> Result<Option<Vec<u8>>> {
        let epoch = tracker.epoch;
        let begin = tracker.copy.map_or(Stamp::default(), |plan| plan.begin);
        let message = match effect {
            Effect::Hello { challenge } => {
                let (item, disk_bytes) = (self.item, self.device.len());
                Message::Hello { item, epoch, disk_bytes, challenge }.encode()
            }
            Effect::SendFrames { after } => {
                let (frames, through) = self.device.read_frames(after, FRAMES_BYTES)?;
                self.engine.sent(through);
                self.counts.frame_bytes += frames.len() as u64;
                Message::Frames { epoch, frames: &frames }.encode()
            }
            Effect::AskChecksums { first_block, block_count } => {
                Message::ChecksumsWanted { epoch, begin, first_block, block_count }.encode()
            }
            Effect::SendCopy { first_block, block_count, wanted, is_sync } => {
                let frames = self.copy_frames(begin, first_block, block_count, &wanted)?;
                self.counts.copy_bytes += frames.len() as u64;
                let frames = &frames[..];
                Message::Copy { epoch, begin, first_block, block_count, is_sync, frames }.encode()
            }
            Effect::Acknowledged { through } => {
                self.device.acknowledge(through)?;
                return Ok(None);
            }
            Effect::FinishCopy => {
                self.device.finish_copy()?;
                return Ok(None);
            }
            Effect::Diverge(reason) => {
                self.device.diverge(reason)?;
                return Ok(None);
            }
        };
        Ok(Some(message))
    }

    fn copy_frames(
        &self,
        begin: Stamp,
        first_block: u64,
        block_count: u64,
        wanted: &Wanted,
    ) -> Result<Vec<u8>> {
        let mut frames = Vec::new();
        if *wanted == Wanted::None {
            return Ok(frames);
        }
        let disk_bytes = self.device.len();
        let offset = first_block * COPY_BLOCK_BYTES;
        let length = (block_count * COPY_BLOCK_BYTES).min(disk_bytes - offset);
        let mut range = vec![0; length as usize];
        self.device.read_image(offset, &mut range)?;
        for (index, block) in range.chunks(COPY_BLOCK_BYTES as usize).enumerate() {
            if let Wanted::Differing(hashes) = wanted
                && hashes.get(index).is_some_and(|theirs| *theirs == block_hash(block))
            {
                continue;
            }
            let content = match is_zero(block) {
                true => Content::Zeros(block.len() as u32),
                false => Content::Bytes(block),
            };
            let offset = offset + index as u64 * COPY_BLOCK_BYTES;
            Frame { stamp: begin, change: Change::CopyBlock { offset, content } }
                .encode(&mut frames);
        }
        Ok(frames)
    }
}
