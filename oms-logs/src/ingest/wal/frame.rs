//! The bytes of a segment.
//!
//! ```text
//!  segment = frame(header) frame(group)*
//!  frame   = magic[4]  length u32  checksum u32  payload[length]
//!  header  = format u32  salt u32  first u64  previous_end u64  producers u32 { producer }*
//!  producer= name  runs u16 { first u64  last u64 }*
//!  group   = first u64  entries u32 { entry }*
//!  entry   = producer name  sequence u64  sections u16 { table name  length u32  Arrow IPC }*
//!  name    = length u16  UTF-8
//! ```
//!
//! Numbers are little-endian. The checksum is CRC32C of length and payload, started from the
//! segment's salt (0 for the header itself): bytes that a sender put into a record can never pass
//! for a frame, since no sender knows the salt.

use crate::ingest::producer::Producers;
use bytes::{Buf, Bytes};

/// Version of the format.
pub(super) const FORMAT: u32 = 1;

/// Starts a segment.
pub(super) const HEADER_MAGIC: [u8; 4] = *b"OMSw";

/// Starts a group.
pub(super) const GROUP_MAGIC: [u8; 4] = *b"OMSg";

/// Bytes before the payload.
pub(super) const FRAME_HEAD_BYTES: usize = 12;

/// The longest payload, in bytes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// The rows of one table in one batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Section {
    /// The table.
    pub(crate) table: String,
    /// An Arrow IPC stream.
    pub(crate) ipc: Bytes,
}

/// One producer's batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    /// Who sent it.
    pub(crate) producer: String,
    /// The producer's count.
    pub(crate) sequence: u64,
    /// Its rows by table; none for an empty batch.
    pub(crate) sections: Vec<Section>,
}

impl Entry {
    /// Bytes in the log.
    pub(crate) fn len(&self) -> usize {
        let sections: usize =
            self.sections.iter().map(|section| 6 + section.table.len() + section.ipc.len()).sum();
        12 + self.producer.len() + sections
    }
}

/// Entries that were written by one write and one sync.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Group {
    /// The log sequence of the first entry; the others follow.
    pub(crate) first: u64,
    /// At least one.
    pub(crate) entries: Vec<Entry>,
}

/// What a segment starts with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Header {
    /// Starts the checksum of each group.
    pub(super) salt: u32,
    /// The log sequence of the first entry that the segment can hold.
    pub(super) first: u64,
    /// How many bytes of the segment before this one count. What it has behind them was never
    /// acknowledged.
    pub(super) previous_end: u64,
    /// Every batch written before this segment.
    pub(super) producers: Producers,
}

/// What stands at a place in a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Frame<'a> {
    /// A whole frame with the right checksum; `end` is where the next one starts.
    Whole { payload: &'a [u8], end: usize },
    /// No frame, or a part of one.
    Broken,
}

/// Reads the frame at `at`.
pub(super) fn frame_at(bytes: &[u8], at: usize, magic: [u8; 4], salt: u32) -> Frame<'_> {
    let Some(mut head) = bytes.get(at..at.saturating_add(FRAME_HEAD_BYTES)) else {
        return Frame::Broken;
    };
    if !head.starts_with(&magic) {
        return Frame::Broken;
    }
    head.advance(magic.len());
    let (length, checksum) = (head.get_u32_le(), head.get_u32_le());
    let start = at + FRAME_HEAD_BYTES;
    let end = start.saturating_add(length as usize);
    match bytes.get(start..end) {
        Some(payload) if checksum == checksum_of(salt, payload) => Frame::Whole { payload, end },
        _ => Frame::Broken,
    }
}

/// Wraps a payload. The caller keeps it below [`PAYLOAD_BYTES_MAX`].
pub(super) fn frame(magic: [u8; 4], salt: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&length_of(payload).to_le_bytes());
    bytes.extend_from_slice(&checksum_of(salt, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn length_of(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).unwrap_or(u32::MAX)
}

fn checksum_of(salt: u32, payload: &[u8]) -> u32 {
    let seed = crc32c::crc32c_append(salt, &length_of(payload).to_le_bytes());
    crc32c::crc32c_append(seed, payload)
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.previous_end.to_le_bytes());
        let producers = self.producers.iter();
        out.extend_from_slice(&(producers.len() as u32).to_le_bytes());
        for (name, runs) in producers {
            put_name(&mut out, name);
            out.extend_from_slice(&(runs.len() as u16).to_le_bytes());
            for (first, last) in runs {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&last.to_le_bytes());
            }
        }
        out
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, String> {
        let from = &mut bytes;
        let format = take_u32(from)?;
        if format != FORMAT {
            return Err(format!("format {format} is not known, only {FORMAT}"));
        }
        let (salt, first, previous_end) = (take_u32(from)?, take_u64(from)?, take_u64(from)?);
        let mut producers = Producers::default();
        for _ in 0..take_u32(from)? {
            let name = take_name(from)?;
            let mut runs = Vec::new();
            for _ in 0..take_u16(from)? {
                runs.push((take_u64(from)?, take_u64(from)?));
            }
            if !producers.restore(name, runs) {
                return Err("producers are not sorted runs".to_owned());
            }
        }
        finish(from)?;
        Ok(Self { salt, first, previous_end, producers })
    }
}

impl Group {
    pub(super) fn encode<'a>(
        first: u64,
        entries: impl ExactSizeIterator<Item = &'a Entry>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        for entry in entries {
            put_name(&mut out, &entry.producer);
            out.extend_from_slice(&entry.sequence.to_le_bytes());
            out.extend_from_slice(&(entry.sections.len() as u16).to_le_bytes());
            for section in &entry.sections {
                put_name(&mut out, &section.table);
                out.extend_from_slice(&length_of(&section.ipc).to_le_bytes());
                out.extend_from_slice(&section.ipc);
            }
        }
        out
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, String> {
        let from = &mut bytes;
        let first = take_u64(from)?;
        let mut entries = Vec::new();
        for _ in 0..take_u32(from)? {
            let producer = take_name(from)?;
            let sequence = take_u64(from)?;
            let mut sections = Vec::new();
            for _ in 0..take_u16(from)? {
                let table = take_name(from)?;
                let length = take_u32(from)? as usize;
                sections.push(Section { table, ipc: Bytes::copy_from_slice(take(from, length)?) });
            }
            entries.push(Entry { producer, sequence, sections });
        }
        finish(from)?;
        Ok(Self { first, entries })
    }
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    // Producers have at most 200 characters (800 bytes), tables 63.
    out.extend_from_slice(&(name.len() as u16).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let Some((taken, rest)) = from.split_at_checked(length) else {
        return Err(format!("{length} bytes are needed and {} are left", from.len()));
    };
    *from = rest;
    Ok(taken)
}

fn take_u16(from: &mut &[u8]) -> Result<u16, String> {
    Ok(take(from, 2)?.get_u16_le())
}

fn take_u32(from: &mut &[u8]) -> Result<u32, String> {
    Ok(take(from, 4)?.get_u32_le())
}

fn take_u64(from: &mut &[u8]) -> Result<u64, String> {
    Ok(take(from, 8)?.get_u64_le())
}

fn take_name(from: &mut &[u8]) -> Result<String, String> {
    let length = usize::from(take_u16(from)?);
    let bytes = take(from, length)?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "a name is not UTF-8".to_owned())
}

fn finish(from: &[u8]) -> Result<(), String> {
    if from.is_empty() { Ok(()) } else { Err(format!("{} bytes are left over", from.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let section = ("[A-Za-z_]{1,63}", prop::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(table, ipc)| Section { table, ipc: ipc.into() });
        let entry = (".{1,20}", any::<u64>(), prop::collection::vec(section, 0..3))
            .prop_map(|(producer, sequence, sections)| Entry { producer, sequence, sections });
        prop::collection::vec(entry, 1..5)
    }

    proptest! {
        #[test]
        fn groups_read_back(first: u64, salt: u32, entries in entries()) {
            let payload = Group::encode(first, entries.iter());
            let bytes = frame(GROUP_MAGIC, salt, &payload);
            let Frame::Whole { payload, end } = frame_at(&bytes, 0, GROUP_MAGIC, salt) else {
                return Err(TestCaseError::fail("the frame is whole"));
            };
            prop_assert_eq!(end, bytes.len());
            prop_assert_eq!(Group::decode(payload), Ok(Group { first, entries }));
        }

        #[test]
        fn a_flipped_bit_breaks_the_frame(salt: u32, entries in entries(), place: prop::sample::Index, bit in 0_u32..8) {
            let payload = Group::encode(1, entries.iter());
            let mut bytes = frame(GROUP_MAGIC, salt, &payload);
            let at = place.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(frame_at(&bytes, 0, GROUP_MAGIC, salt), Frame::Broken);
        }

        #[test]
        fn a_cut_frame_is_broken(salt: u32, entries in entries(), place: prop::sample::Index) {
            let bytes = frame(GROUP_MAGIC, salt, &Group::encode(1, entries.iter()));
            let cut = &bytes[..place.index(bytes.len())];
            prop_assert_eq!(frame_at(cut, 0, GROUP_MAGIC, salt), Frame::Broken);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Group::decode(&bytes);
            let _ = Header::decode(&bytes);
            let _ = frame_at(&bytes, 0, GROUP_MAGIC, 0);
        }

        #[test]
        fn headers_read_back(salt: u32, first: u64, previous_end: u64, written in prop::collection::vec(("[a-z]{1,3}", 1u64..30), 0..40)) {
            let mut producers = Producers::default();
            for (name, sequence) in written {
                producers.insert(&name, sequence);
            }
            let header = Header { salt, first, previous_end, producers };
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn the_wrong_salt_breaks_the_frame() {
        let bytes = frame(GROUP_MAGIC, 7, b"payload");
        assert_eq!(frame_at(&bytes, 0, GROUP_MAGIC, 8), Frame::Broken);
    }
}
