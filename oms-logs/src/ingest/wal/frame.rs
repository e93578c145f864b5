//! The bytes of a segment.
//!
//! ```text
//!  segment = frame(header) group*
//!  frame   = magic[4]  length u32  checksum u32  payload[length]
//!  header  = format u32  salt u32  first u64  previous_end u64  producers u32 { producer }*
//!          | format u32  salt u32  first u64  previous_end u64
//!  producer= name  runs u16 { first u64  last u64 }*
//!  group   = magic[4]  length u32  first u64  index checksum u32  head checksum u32
//!            body[length] = index  { entry }*
//!  index   = entries u32 { length u32  checksum u32 }*
//!  entry   = producer name  sequence u64  sections u16 { table name  length u32  Arrow IPC }*
//!  name    = length u16  UTF-8
//! ```
//!
//! Numbers are little-endian, checksums are CRC32C. That of a group's head starts from the segment's
//! salt, covers the index by its checksum, and so every entry by its own: bytes that a sender put
//! into a record can never pass for a group, since no sender knows the salt. An entry with its
//! checksum is made by whoever writes it; what is left for the one thread that writes the log is to
//! put entries together. A head can be checked without the body, so that looking for one takes the
//! time of looking at each byte once.

use crate::ingest::producer::Producers;
use bytes::{Buf, Bytes};

/// Version of the format of a header that has producers.
pub(super) const FORMAT: u32 = 2;

/// That of a header without them: those of the headers and groups before it are all that there are.
const FORMAT_FOLLOWING: u32 = 3;

/// Starts a segment.
pub(super) const HEADER_MAGIC: [u8; 4] = *b"OMSw";

/// Starts a group.
pub(super) const GROUP_MAGIC: [u8; 4] = *b"OMSg";

/// Bytes before a header's payload.
const FRAME_HEAD_BYTES: usize = 12;

/// Bytes before a group's body.
const GROUP_HEAD_BYTES: usize = 24;

/// The longest body of a group, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 256 << 20;

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

/// An [`Entry`] as it stands in a group.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// Who sent it.
    pub(crate) producer: String,
    /// The producer's count.
    pub(crate) sequence: u64,
    bytes: Vec<u8>,
    checksum: u32,
}

impl Encoded {
    /// Whatever bytes, as an entry.
    #[cfg(feature = "testkit")]
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let checksum = crc32c::crc32c(&bytes);
        Self { producer: String::new(), sequence: 0, bytes, checksum }
    }

    /// Bytes in the log.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Makes an [`Encoded`], each section written where it stands.
#[derive(Debug)]
pub(crate) struct EntryWriter {
    producer: String,
    sequence: u64,
    bytes: Vec<u8>,
    sections_at: usize,
    sections: u16,
}

impl EntryWriter {
    /// An entry without sections. `capacity` is about how many bytes those will have.
    pub(crate) fn new(producer: String, sequence: u64, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + producer.len() + 64);
        put_name(&mut bytes, &producer);
        bytes.extend_from_slice(&sequence.to_le_bytes());
        let sections_at = bytes.len();
        bytes.extend_from_slice(&0_u16.to_le_bytes());
        Self { producer, sequence, bytes, sections_at, sections: 0 }
    }

    /// Adds a section, which `write` appends.
    pub(crate) fn section<E>(
        &mut self,
        table: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        put_name(&mut self.bytes, table);
        let length_at = self.bytes.len();
        self.bytes.extend_from_slice(&0_u32.to_le_bytes());
        write(&mut self.bytes)?;
        let length = length_of(self.bytes.len() - length_at - size_of::<u32>());
        patch(&mut self.bytes, length_at, &length.to_le_bytes());
        self.sections += 1;
        patch(&mut self.bytes, self.sections_at, &self.sections.to_le_bytes());
        Ok(())
    }

    pub(crate) fn finish(self) -> Encoded {
        let Self { producer, sequence, bytes, .. } = self;
        let checksum = crc32c::crc32c(&bytes);
        Encoded { producer, sequence, bytes, checksum }
    }
}

/// Writes over bytes that are there.
fn patch(bytes: &mut [u8], at: usize, with: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + with.len()) {
        place.copy_from_slice(with);
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
    /// Every batch written before this segment; none if it is one of the headers that leave that to
    /// those before them.
    pub(super) producers: Option<Producers>,
}

/// The payload of the header that a segment starts with, and where the first group starts; none
/// if it is broken.
pub(super) fn header_of(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let mut head = bytes.get(..FRAME_HEAD_BYTES).filter(|head| head.starts_with(&HEADER_MAGIC))?;
    head.advance(HEADER_MAGIC.len());
    let (length, checksum) = (head.get_u32_le(), head.get_u32_le());
    let end = FRAME_HEAD_BYTES.saturating_add(length as usize);
    let payload = bytes.get(FRAME_HEAD_BYTES..end)?;
    (checksum == checksum_of(payload)).then_some((payload, end))
}

/// Wraps the payload of a header.
pub(super) fn header_frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
    bytes.extend_from_slice(&HEADER_MAGIC);
    bytes.extend_from_slice(&length_of(payload.len()).to_le_bytes());
    bytes.extend_from_slice(&checksum_of(payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn length_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Of the length, too.
fn checksum_of(payload: &[u8]) -> u32 {
    let seed = crc32c::crc32c(&length_of(payload.len()).to_le_bytes());
    crc32c::crc32c_append(seed, payload)
}

/// What stands before a group's body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct GroupHead {
    /// Of the body, in bytes.
    length: u32,
    /// The log sequence of the first entry.
    pub(super) first: u64,
    index_checksum: u32,
}

impl GroupHead {
    /// The head at `at`, if there is one of a segment with this salt.
    pub(super) fn at(bytes: &[u8], at: usize, salt: u32) -> Option<Self> {
        let head = bytes.get(at..at.checked_add(GROUP_HEAD_BYTES)?)?;
        let (mut from, checksum) = head.split_at_checked(GROUP_HEAD_BYTES - size_of::<u32>())?;
        if !from.starts_with(&GROUP_MAGIC) || head_checksum(salt, from) != read_u32(checksum) {
            return None;
        }
        from.advance(GROUP_MAGIC.len());
        let (length, first) = (from.get_u32_le(), from.get_u64_le());
        Some(Self { length, first, index_checksum: from.get_u32_le() })
    }

    /// The heads from `from` on, in order.
    pub(super) fn places(
        bytes: &[u8],
        from: usize,
        salt: u32,
    ) -> impl Iterator<Item = GroupPlace> + '_ {
        let rest = bytes.get(from..).unwrap_or_default();
        let starts = rest.windows(GROUP_MAGIC.len()).enumerate();
        starts.filter(|(_, four)| *four == GROUP_MAGIC).filter_map(move |(offset, _)| {
            let at = from + offset;
            Self::at(bytes, at, salt).map(|head| GroupPlace { at, first: head.first })
        })
    }

    fn encode(self, salt: u32) -> [u8; GROUP_HEAD_BYTES] {
        let mut head = [0; GROUP_HEAD_BYTES];
        patch(&mut head, 0, &GROUP_MAGIC);
        patch(&mut head, 4, &self.length.to_le_bytes());
        patch(&mut head, 8, &self.first.to_le_bytes());
        patch(&mut head, 16, &self.index_checksum.to_le_bytes());
        let checksum = head_checksum(salt, head.split_at(GROUP_HEAD_BYTES - size_of::<u32>()).0);
        patch(&mut head, 20, &checksum.to_le_bytes());
        head
    }
}

/// Where a group stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupPlace {
    pub(super) at: usize,
    /// The log sequence of its first entry.
    pub(super) first: u64,
}

fn head_checksum(salt: u32, head: &[u8]) -> u32 {
    crc32c::crc32c_append(salt, head)
}

fn read_u32(mut bytes: &[u8]) -> u32 {
    bytes.get_u32_le()
}

/// Writes a group in place of what `out` holds. The caller keeps its body below
/// [`BODY_BYTES_MAX`].
pub(super) fn put_group<'a>(
    out: &mut Vec<u8>,
    salt: u32,
    first: u64,
    entries: impl ExactSizeIterator<Item = &'a Encoded> + Clone,
) {
    out.clear();
    out.resize(GROUP_HEAD_BYTES, 0);
    out.extend_from_slice(&length_of(entries.len()).to_le_bytes());
    for entry in entries.clone() {
        out.extend_from_slice(&length_of(entry.bytes.len()).to_le_bytes());
        out.extend_from_slice(&entry.checksum.to_le_bytes());
    }
    let index_checksum = crc32c::crc32c(out.get(GROUP_HEAD_BYTES..).unwrap_or_default());
    for entry in entries {
        out.extend_from_slice(&entry.bytes);
    }
    let length = length_of(out.len() - GROUP_HEAD_BYTES);
    patch(out, 0, &GroupHead { length, first, index_checksum }.encode(salt));
}

/// Bytes of the body of a group of these entries.
pub(super) fn body_bytes<'a>(entries: impl Iterator<Item = &'a Encoded>) -> usize {
    entries.map(|entry| 8 + entry.bytes.len()).sum::<usize>() + size_of::<u32>()
}

/// The group at `at` and where the next one starts; none if it is broken or none is there.
///
/// # Errors
/// What cannot be understood although its checksums are right.
pub(super) fn group_at(
    bytes: &Bytes,
    at: usize,
    salt: u32,
) -> Result<Option<(Group, usize)>, String> {
    let Some(head) = GroupHead::at(bytes, at, salt) else { return Ok(None) };
    let start = at + GROUP_HEAD_BYTES;
    let end = start.saturating_add(head.length as usize);
    let Some(body) = bytes.get(start..end) else { return Ok(None) };
    let Some(places) = index_of(body, head.index_checksum) else { return Ok(None) };
    let mut entries = Vec::with_capacity(places.len());
    let mut from = start + size_of::<u32>() + places.len() * 8;
    for (length, checksum) in places {
        let to = from.saturating_add(length);
        match bytes.get(from..to) {
            Some(entry) if to <= end && crc32c::crc32c(entry) == checksum => {
                entries.push(bytes.slice(from..to));
            }
            _ => return Ok(None),
        }
        from = to;
    }
    if from != end {
        return Err(format!("{} bytes are left over", end - from));
    }
    let entries = entries.iter().map(Entry::decode).collect::<Result<Vec<_>, _>>()?;
    Ok(Some((Group { first: head.first, entries }, end)))
}

/// Length and checksum of each entry; none if the index does not have its checksum.
fn index_of(body: &[u8], checksum: u32) -> Option<Vec<(usize, u32)>> {
    let count = read_u32(body.get(..size_of::<u32>())?) as usize;
    let index = body.get(..count.checked_mul(8)?.checked_add(size_of::<u32>())?)?;
    if crc32c::crc32c(index) != checksum {
        return None;
    }
    let mut from = index.get(size_of::<u32>()..)?;
    Some((0..count).map(|_| (from.get_u32_le() as usize, from.get_u32_le())).collect())
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let format = if self.producers.is_some() { FORMAT } else { FORMAT_FOLLOWING };
        out.extend_from_slice(&format.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.previous_end.to_le_bytes());
        let Some(producers) = &self.producers else { return out };
        let producers = producers.iter();
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
        if format != FORMAT && format != FORMAT_FOLLOWING {
            let known = format!("only {FORMAT} and {FORMAT_FOLLOWING}");
            return Err(format!("format {format} is not known, {known}"));
        }
        let (salt, first, previous_end) = (take_u32(from)?, take_u64(from)?, take_u64(from)?);
        if format == FORMAT_FOLLOWING {
            finish(from)?;
            return Ok(Self { salt, first, previous_end, producers: None });
        }
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
        Ok(Self { salt, first, previous_end, producers: Some(producers) })
    }
}

impl Entry {
    fn decode(bytes: &Bytes) -> Result<Self, String> {
        let mut rest: &[u8] = bytes;
        let from = &mut rest;
        let producer = take_name(from)?;
        let sequence = take_u64(from)?;
        let mut sections = Vec::new();
        for _ in 0..take_u16(from)? {
            let table = take_name(from)?;
            let length = take_u32(from)? as usize;
            let ipc = bytes.slice_ref(take(from, length)?);
            sections.push(Section { table, ipc });
        }
        finish(from)?;
        Ok(Self { producer, sequence, sections })
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
impl Entry {
    /// As whoever writes it makes it.
    pub(super) fn encoded(&self) -> Encoded {
        let mut writer = EntryWriter::new(self.producer.clone(), self.sequence, 0);
        for section in &self.sections {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(&section.ipc);
                Ok::<(), std::convert::Infallible>(())
            };
            let Ok(()) = writer.section(&section.table, write);
        }
        writer.finish()
    }
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

    fn group(salt: u32, first: u64, entries: &[Entry]) -> Vec<u8> {
        let encoded: Vec<Encoded> = entries.iter().map(Entry::encoded).collect();
        let mut bytes = vec![7; 9];
        put_group(&mut bytes, salt, first, encoded.iter());
        assert_eq!(bytes.len(), GROUP_HEAD_BYTES + body_bytes(encoded.iter()));
        bytes
    }

    fn read(bytes: Vec<u8>, salt: u32) -> Result<Option<(Group, usize)>, String> {
        group_at(&bytes.into(), 0, salt)
    }

    proptest! {
        #[test]
        fn groups_read_back(first: u64, salt: u32, entries in entries()) {
            let bytes = group(salt, first, &entries);
            let end = bytes.len();
            prop_assert_eq!(read(bytes, salt), Ok(Some((Group { first, entries }, end))));
        }

        #[test]
        fn a_flipped_bit_breaks_the_group(salt: u32, entries in entries(), place: prop::sample::Index, bit in 0_u32..8) {
            let mut bytes = group(salt, 1, &entries);
            let at = place.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(read(bytes, salt), Ok(None));
        }

        #[test]
        fn a_cut_group_is_broken(salt: u32, entries in entries(), place: prop::sample::Index) {
            let mut bytes = group(salt, 1, &entries);
            bytes.truncate(place.index(bytes.len()));
            prop_assert_eq!(read(bytes, salt), Ok(None));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0_u32..300) {
            let _ = Entry::decode(&bytes.clone().into());
            let _ = Header::decode(&bytes);
            let _ = header_of(&bytes);
            let index_checksum = crc32c::crc32c(&bytes);
            let mut group = GroupHead { length, first: 1, index_checksum }.encode(0).to_vec();
            group.extend(bytes);
            let _ = read(group, 0);
        }

        #[test]
        fn headers_read_back(salt: u32, first: u64, previous_end: u64, is_full: bool, written in prop::collection::vec(("[a-z]{1,3}", 1u64..30), 0..40)) {
            let mut producers = Producers::default();
            for (name, sequence) in written {
                producers.insert(&name, sequence);
            }
            let producers = is_full.then_some(producers);
            let header = Header { salt, first, previous_end, producers };
            let frame = header_frame(&header.encode());
            let (payload, end) = header_of(&frame).expect("whole");
            prop_assert_eq!(end, frame.len());
            prop_assert_eq!(Header::decode(payload), Ok(header));
        }
    }

    #[test]
    fn the_wrong_salt_breaks_the_group() {
        let entry = Entry { producer: "p".into(), sequence: 1, sections: Vec::new() };
        assert_eq!(read(group(7, 1, &[entry]), 8), Ok(None));
    }
}
