//! The frames that a log holds and the messages that a channel carries.
//!
//! All numbers are little-endian. A frame is a header of 32 bytes and a body:
//!
//! ```text
//!  0     1       2       4         8        16          24         32
//!  kind  content disk    length    epoch    sequence    argument   body
//!  u8    u8      u16 = 0 u32       u64      u64         u64        `length` bytes, or none if
//!                                                                  the content is zeros
//! ```
//!
//! A message is a header of 16 bytes and a payload whose CRC32C (with the header's first 12 bytes)
//! the header carries:
//!
//! ```text
//!  0       4        5     6          8        12      16
//!  "OMSR"  version  kind  reserved   length   CRC32C  payload
//! ```

use super::Stamp;
use crate::error::{Error, Result};
use crate::recovery_point::{Consistency, PointId, RecoveryPoint};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The largest data of one frame, in bytes; a larger write becomes several.
pub const WRITE_BYTES_MAX: usize = 8 << 20;

/// The largest payload of one message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// The unit of checksums and copies, in bytes; the last block of a disk may be shorter.
pub const COPY_BLOCK_BYTES: u64 = 64 << 10;

/// The most blocks that one copy message covers or one request asks checksums of.
pub const COPY_BLOCKS_MAX: u64 = 16;

/// The longest text of a refusal, in bytes.
pub const REFUSAL_BYTES_MAX: usize = 1024;

const FRAME_HEADER_BYTES: usize = 32;
const MESSAGE_HEADER_BYTES: usize = 16;
const MAGIC: [u8; 4] = *b"OMSR";
const VERSION: u8 = 1;

/// What an extent holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Content<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// This many zeros.
    Zeros(u32),
}

impl Content<'_> {
    /// How many bytes of the disk.
    #[must_use]
    pub const fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(count) => *count as u64,
        }
    }
}

/// How the blocks of a copy are chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CopyKind {
    /// Every block, into an empty replica.
    Initial,
    /// Blocks whose checksums differ, into the log of a replica that holds data.
    Resync,
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change<'a> {
    /// A write to the disk.
    Write {
        /// First byte.
        offset: u64,
        /// What was written.
        content: Content<'a>,
    },
    /// A recovery point: the disk as of here.
    Point {
        /// Its identity.
        id: PointId,
        /// When it was taken, by the primary's clock, to the microsecond.
        time: Timestamp,
        /// What it promises.
        consistency: Consistency,
    },
    /// A copy of the disk begins; writes from here on are in the log.
    CopyBegin(CopyKind),
    /// The copy that began last is complete; every prefix from here on is whole.
    CopyEnd,
    /// A block copied, as of some moment after the copy began. Its stamp is the copy's beginning.
    CopyBlock {
        /// First byte.
        offset: u64,
        /// The block.
        content: Content<'a>,
    },
    /// All blocks before this one are copied. Its stamp is the copy's beginning.
    CopyProgress {
        /// The next block to copy.
        next_block: u64,
    },
}

impl Change<'_> {
    /// Whether the frame takes a number of its own in the sequence.
    #[must_use]
    pub const fn is_sequenced(&self) -> bool {
        !matches!(self, Self::CopyBlock { .. } | Self::CopyProgress { .. })
    }
}

/// One numbered change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame<'a> {
    /// Its place in the order of all changes.
    pub stamp: Stamp,
    /// What changed.
    pub change: Change<'a>,
}

impl Frame<'_> {
    /// Appends the frame's bytes; answers where its data begins, counted from the frame's first
    /// byte.
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        let mut point = [0; 17];
        let (kind, argument, content) = match self.change {
            Change::Write { offset, content } => (1, offset, content),
            Change::Point { id, time, consistency } => {
                point[..16].copy_from_slice(id.0.as_bytes());
                point[16] = consistency.code();
                (2, time.as_microsecond() as u64, Content::Bytes(&point[..]))
            }
            Change::CopyBegin(CopyKind::Initial) => (3, 0, Content::Bytes(&[])),
            Change::CopyBegin(CopyKind::Resync) => (3, 1, Content::Bytes(&[])),
            Change::CopyEnd => (4, 0, Content::Bytes(&[])),
            Change::CopyBlock { offset, content } => (5, offset, content),
            Change::CopyProgress { next_block } => (6, next_block, Content::Bytes(&[])),
        };
        let is_zeros = u8::from(matches!(content, Content::Zeros(_)));
        out.extend([kind, is_zeros, 0, 0]);
        out.extend((content.length() as u32).to_le_bytes());
        out.extend(self.stamp.epoch.to_le_bytes());
        out.extend(self.stamp.sequence.to_le_bytes());
        out.extend(argument.to_le_bytes());
        if let Content::Bytes(bytes) = content {
            out.extend(bytes);
        }
        FRAME_HEADER_BYTES
    }
}

/// The frames in `payload`, each with the position of its data; it ends after the first error.
pub fn frames(payload: &[u8]) -> impl Iterator<Item = Result<(Frame<'_>, usize)>> {
    let mut input = Input { what: "frame", bytes: payload, at: 0 };
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over || input.at == input.bytes.len() {
            return None;
        }
        let item = decode_frame(&mut input);
        is_over = item.is_err();
        Some(item)
    })
}

fn decode_frame<'a>(input: &mut Input<'a>) -> Result<(Frame<'a>, usize)> {
    let start = input.at;
    let (kind, content) = (input.u8()?, input.u8()?);
    if input.u16()? != 0 {
        return Err(input.refuse_at(start + 2, "names a disk other than the machine's first"));
    }
    let length = input.u32()?;
    let stamp = input.stamp()?;
    let argument = input.u64()?;
    let limit = WRITE_BYTES_MAX.max(COPY_BLOCK_BYTES as usize);
    if length as usize > limit {
        return Err(input.refuse_at(start + 4, "data is longer than a frame may be"));
    }
    let at = input.at;
    let content = match content {
        0 => Content::Bytes(input.take(length as usize)?),
        1 => Content::Zeros(length),
        _ => return Err(input.refuse_at(start + 1, "unknown content")),
    };
    let is_bare = content == Content::Bytes(&[]);
    let change = match kind {
        1 | 5 if argument.checked_add(u64::from(length)).is_none() => {
            return Err(input.refuse_at(start + 24, "extent ends past the largest offset"));
        }
        1 => Change::Write { offset: argument, content },
        5 => Change::CopyBlock { offset: argument, content },
        2 => decode_point(input, start, argument, content)?,
        3 if is_bare && argument == 0 => Change::CopyBegin(CopyKind::Initial),
        3 if is_bare && argument == 1 => Change::CopyBegin(CopyKind::Resync),
        4 if is_bare && argument == 0 => Change::CopyEnd,
        6 if is_bare => Change::CopyProgress { next_block: argument },
        _ => return Err(input.refuse_at(start, "unknown kind of frame")),
    };
    Ok((Frame { stamp, change }, at))
}

fn decode_point<'a>(
    input: &Input<'_>,
    start: usize,
    argument: u64,
    content: Content<'_>,
) -> Result<Change<'a>> {
    let Content::Bytes(body) = content else {
        return Err(input.refuse_at(start + 1, "a recovery point of zeros"));
    };
    let (Some(id), Some(code), 17) = (body.first_chunk::<16>(), body.get(16), body.len()) else {
        return Err(input.refuse_at(start + 4, "a recovery point not of 17 bytes"));
    };
    let consistency = Consistency::from_code(*code)
        .ok_or_else(|| input.refuse_at(start + FRAME_HEADER_BYTES + 16, "unknown consistency"))?;
    let time = Timestamp::from_microsecond(argument as i64)
        .map_err(|_out_of_range| input.refuse_at(start + 24, "time out of range"))?;
    Ok(Change::Point { id: PointId(Uuid::from_bytes(*id)), time, consistency })
}

/// Where a copy stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CopyStatus {
    /// The frame it began with.
    pub begin: Stamp,
    /// All blocks before this one are durable at the replica.
    pub next_block: u64,
}

/// What a replica holds durably.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplicaStatus {
    /// Its epoch; lower ones are refused.
    pub epoch: u64,
    /// Every numbered frame up to here.
    pub last: Stamp,
    /// Whether the disk as of `last` is a whole prefix.
    pub is_whole: bool,
    /// The copy under way, if any.
    pub copy: Option<CopyStatus>,
    /// The challenge of the last greeting, 0 if there was none.
    pub challenge: u64,
}

/// A checksum of one block: SHA-256.
pub type BlockHash = [u8; 32];

/// What one site tells the other.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Message<'a> {
    /// The primary asks for the replica's status.
    Hello {
        /// Which item.
        item: Uuid,
        /// The primary's epoch.
        epoch: u64,
        /// The length of the disk.
        disk_bytes: u64,
        /// A number that every later status repeats, so that delayed ones are told apart.
        challenge: u64,
    },
    /// The primary sends numbered frames, in order.
    Frames {
        /// The primary's epoch.
        epoch: u64,
        /// Encoded frames.
        frames: &'a [u8],
    },
    /// The primary sends the blocks of a range that the replica needs.
    Copy {
        /// The primary's epoch.
        epoch: u64,
        /// The copy's first frame.
        begin: Stamp,
        /// First block of the range.
        first_block: u64,
        /// How many blocks the range has; those not sent are equal already.
        block_count: u64,
        /// Whether the replica shall make it durable and answer now.
        is_sync: bool,
        /// Encoded [`Change::CopyBlock`] frames.
        frames: &'a [u8],
    },
    /// The primary asks for checksums of a range.
    ChecksumsWanted {
        /// The primary's epoch.
        epoch: u64,
        /// The copy's first frame.
        begin: Stamp,
        /// First block of the range.
        first_block: u64,
        /// How many blocks.
        block_count: u64,
    },
    /// The replica answers with its status.
    Status(ReplicaStatus),
    /// The replica answers with checksums.
    Checksums {
        /// The copy's first frame.
        begin: Stamp,
        /// First block of the range.
        first_block: u64,
        /// One per block.
        hashes: Vec<BlockHash>,
    },
    /// The replica refuses: the sender's epoch is over.
    StaleEpoch {
        /// The replica's epoch.
        current: u64,
    },
    /// The replica refuses for another reason.
    Refused {
        /// Whether its disk is full.
        is_full: bool,
        /// Why, in words.
        reason: &'a str,
    },
}

impl Message<'_> {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MESSAGE_HEADER_BYTES + self.size_hint());
        out.extend(MAGIC);
        out.extend([VERSION, 0, 0, 0]);
        out.extend([0; 8]);
        out[5] = self.encode_payload(&mut out);
        let length = (out.len() - MESSAGE_HEADER_BYTES) as u32;
        out[8..12].copy_from_slice(&length.to_le_bytes());
        let crc = message_crc(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    const fn size_hint(&self) -> usize {
        match self {
            Self::Frames { frames, .. } | Self::Copy { frames, .. } => frames.len() + 64,
            Self::Checksums { hashes, .. } => hashes.len() * 32 + 64,
            _ => 64,
        }
    }

    fn encode_payload(&self, out: &mut Vec<u8>) -> u8 {
        let stamp = |out: &mut Vec<u8>, stamp: Stamp| {
            out.extend(stamp.epoch.to_le_bytes());
            out.extend(stamp.sequence.to_le_bytes());
        };
        match self {
            Self::Hello { item, epoch, disk_bytes, challenge } => {
                out.extend(item.as_bytes());
                out.extend(epoch.to_le_bytes());
                out.extend(disk_bytes.to_le_bytes());
                out.extend(challenge.to_le_bytes());
                1
            }
            Self::Frames { epoch, frames } => {
                out.extend(epoch.to_le_bytes());
                out.extend(*frames);
                2
            }
            Self::Copy { epoch, begin, first_block, block_count, is_sync, frames } => {
                out.extend(epoch.to_le_bytes());
                stamp(out, *begin);
                out.extend(first_block.to_le_bytes());
                out.extend(block_count.to_le_bytes());
                out.push(u8::from(*is_sync));
                out.extend(*frames);
                3
            }
            Self::ChecksumsWanted { epoch, begin, first_block, block_count } => {
                out.extend(epoch.to_le_bytes());
                stamp(out, *begin);
                out.extend(first_block.to_le_bytes());
                out.extend(block_count.to_le_bytes());
                4
            }
            Self::Status(status) => {
                out.extend(status.epoch.to_le_bytes());
                out.extend(status.challenge.to_le_bytes());
                stamp(out, status.last);
                out.extend([u8::from(status.is_whole), u8::from(status.copy.is_some())]);
                if let Some(copy) = status.copy {
                    stamp(out, copy.begin);
                    out.extend(copy.next_block.to_le_bytes());
                }
                5
            }
            Self::Checksums { begin, first_block, hashes } => {
                stamp(out, *begin);
                out.extend(first_block.to_le_bytes());
                out.extend(hashes.as_flattened());
                6
            }
            Self::StaleEpoch { current } => {
                out.extend(current.to_le_bytes());
                7
            }
            Self::Refused { is_full, reason } => {
                out.push(u8::from(*is_full));
                out.extend(&reason.as_bytes()[..reason.floor_char_boundary(REFUSAL_BYTES_MAX)]);
                8
            }
        }
    }
}

/// Reads one message, which must be all of `bytes`.
///
/// # Errors
/// [`Error::Decode`] names the position.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>> {
    let mut input = Input { what: "message", bytes, at: 0 };
    if input.take(4)? != MAGIC {
        return Err(input.refuse_at(0, "does not begin with OMSR"));
    }
    if input.u8()? != VERSION {
        return Err(input.refuse_at(4, "unknown version"));
    }
    let (kind, _reserved, length, crc) = (input.u8()?, input.u16()?, input.u32()?, input.u32()?);
    if length as usize > MESSAGE_BYTES_MAX {
        return Err(input.refuse_at(8, "longer than a message may be"));
    }
    if bytes.len() - input.at != length as usize {
        return Err(input.refuse_at(8, "length differs from what arrived"));
    }
    if crc != message_crc(bytes) {
        return Err(input.refuse_at(12, "checksum does not match"));
    }
    let message = decode_payload(&mut input, kind)?;
    if input.at != bytes.len() {
        return Err(input.refuse_at(input.at, "bytes after the end"));
    }
    Ok(message)
}

fn message_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[MESSAGE_HEADER_BYTES..])
}

fn decode_payload<'a>(input: &mut Input<'a>, kind: u8) -> Result<Message<'a>> {
    Ok(match kind {
        1 => Message::Hello {
            item: input.uuid()?,
            epoch: input.u64()?,
            disk_bytes: input.u64()?,
            challenge: input.u64()?,
        },
        2 => Message::Frames { epoch: input.u64()?, frames: input.rest() },
        3 => Message::Copy {
            epoch: input.u64()?,
            begin: input.stamp()?,
            first_block: input.u64()?,
            block_count: input.u64()?,
            is_sync: input.bool()?,
            frames: input.rest(),
        },
        4 => Message::ChecksumsWanted {
            epoch: input.u64()?,
            begin: input.stamp()?,
            first_block: input.u64()?,
            block_count: input.u64()?,
        },
        5 => {
            let (epoch, challenge) = (input.u64()?, input.u64()?);
            let (last, is_whole) = (input.stamp()?, input.bool()?);
            let copy = match input.bool()? {
                true => Some(CopyStatus { begin: input.stamp()?, next_block: input.u64()? }),
                false => None,
            };
            Message::Status(ReplicaStatus { epoch, last, is_whole, copy, challenge })
        }
        6 => {
            let (begin, first_block) = (input.stamp()?, input.u64()?);
            let (hashes, rest) = input.rest().as_chunks::<32>();
            // Empty answers would not move the copy on, and the primary would keep any number.
            let is_wanted = (1..=COPY_BLOCKS_MAX).contains(&(hashes.len() as u64));
            if !rest.is_empty() || !is_wanted {
                return Err(input.refuse_at(40, "not 1 to 16 checksums of 32 bytes"));
            }
            Message::Checksums { begin, first_block, hashes: hashes.to_vec() }
        }
        7 => Message::StaleEpoch { current: input.u64()? },
        8 => {
            let is_full = input.bool()?;
            let at = input.at;
            if input.bytes.len() - at > REFUSAL_BYTES_MAX {
                return Err(input.refuse_at(at, "reason is longer than 1024 bytes"));
            }
            let reason = std::str::from_utf8(input.rest())
                .map_err(|_not_text| input.refuse_at(at, "reason is not UTF-8"))?;
            Message::Refused { is_full, reason }
        }
        _ => return Err(input.refuse_at(5, "unknown kind of message")),
    })
}

/// A recovery point as its frame says it.
pub(crate) fn point_of(frame: &Frame<'_>) -> Option<RecoveryPoint> {
    match frame.change {
        Change::Point { id, time, consistency } => {
            Some(RecoveryPoint { id, time, consistency, stamp: frame.stamp })
        }
        _ => None,
    }
}

/// Bytes being read, with the position for errors.
struct Input<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    const fn refuse_at(&self, position: usize, reason: &'static str) -> Error {
        Error::Decode { what: self.what, position, reason }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or_else(|| self.refuse_at(self.at, "ends too early"))?;
        self.at += count;
        Ok(taken)
    }

    fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let at = self.at;
        let taken = self.take(N)?.first_chunk::<N>().copied();
        taken.ok_or_else(|| self.refuse_at(at, "ends too early"))
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.refuse_at(self.at - 1, "neither 0 nor 1")),
        }
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    fn stamp(&mut self) -> Result<Stamp> {
        Ok(Stamp { epoch: self.u64()?, sequence: self.u64()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp() -> impl Strategy<Value = Stamp> {
        (any::<u64>(), any::<u64>()).prop_map(|(epoch, sequence)| Stamp { epoch, sequence })
    }

    proptest! {
        #[test]
        fn writes_round_trip(stamp in stamp(), offset in 0..u64::MAX / 2, data: Vec<u8>) {
            let change = Change::Write { offset, content: Content::Bytes(&data) };
            let frame = Frame { stamp, change };
            let mut bytes = vec![];
            let at = frame.encode(&mut bytes);
            frame.encode(&mut bytes);
            let read: Vec<_> = frames(&bytes).collect::<Result<_>>().expect("what was encoded");
            prop_assert_eq!(read[0], (frame, at));
            prop_assert_eq!(read[1].0, frame);
        }

        #[test]
        fn statuses_round_trip(last in stamp(), begin in stamp(), next_block: u64, has_copy: bool) {
            let copy = has_copy.then_some(CopyStatus { begin, next_block });
            let status = ReplicaStatus { epoch: 7, last, is_whole: true, copy, challenge: 3 };
            let message = Message::Status(status);
            let bytes = message.encode();
            prop_assert_eq!(decode(&bytes).expect("what was encoded"), message);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            for _ in frames(&bytes) {}
        }

        /// Past the checksum too, where only a peer with a defect gets.
        #[test]
        fn any_payload_decodes_or_is_refused(kind: u8, payload: Vec<u8>) {
            let mut input = Input { what: "message", bytes: &payload, at: 0 };
            let _ = decode_payload(&mut input, kind);
        }

        #[test]
        fn a_changed_bit_is_noticed(data: Vec<u8>, bit: prop::sample::Index) {
            let mut frames = vec![];
            let change = Change::Write { offset: 5, content: Content::Bytes(&data) };
            Frame { stamp: Stamp::default(), change }.encode(&mut frames);
            let mut bytes = Message::Frames { epoch: 1, frames: &frames }.encode();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn points_round_trip_to_the_microsecond() {
        let time = Timestamp::from_microsecond(1_700_000_000_123_456).expect("in range");
        let change = Change::Point {
            id: PointId(Uuid::from_u128(9)),
            time,
            consistency: Consistency::ApplicationConsistent,
        };
        let frame = Frame { stamp: Stamp { epoch: 1, sequence: 2 }, change };
        let mut bytes = vec![];
        frame.encode(&mut bytes);
        assert_eq!(frames(&bytes).next().expect("one").expect("good").0, frame);
    }

    #[test]
    fn the_end_of_a_copy_has_no_argument() {
        let mut bytes = vec![];
        Frame { stamp: Stamp::default(), change: Change::CopyEnd }.encode(&mut bytes);
        assert!(matches!(frames(&bytes).next(), Some(Ok(_))));
        bytes[24] = 6;
        assert!(matches!(frames(&bytes).next(), Some(Err(_))));
    }
}
