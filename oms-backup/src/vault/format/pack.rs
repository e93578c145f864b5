//! Pack files: sealed blobs one after the other, then a sealed list of them, then its length.

use super::{BLOB_BYTES_MAX, BlobId, BlobKind, FormatError, SEALED_BLOB_BYTES_MAX};
use crate::vault::crypto::{Forged, MasterKey, SEAL_BYTES};
use oms_core::Entropy;

/// The most bytes the sealed list of blobs may have.
pub const HEADER_BYTES_MAX: usize = 16 << 20;

/// The bytes of an entry of a blob stored as it is, and of one stored compressed.
const PLAIN_ENTRY_BYTES: usize = 37;
const COMPRESSED_ENTRY_BYTES: usize = 41;

/// One blob in a pack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PackEntry {
    /// What it holds.
    pub kind: BlobKind,
    /// Its id.
    pub id: BlobId,
    /// Where its sealed bytes begin in the pack.
    pub offset: u32,
    /// How many sealed bytes.
    pub length: u32,
    /// How many plaintext bytes, if it is compressed.
    pub uncompressed_length: Option<u32>,
}

/// How many bytes of header a blob takes.
#[must_use]
pub const fn entry_bytes(is_compressed: bool) -> usize {
    if is_compressed { COMPRESSED_ENTRY_BYTES } else { PLAIN_ENTRY_BYTES }
}

/// The list at a pack's end.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PackHeader {
    /// The blobs, in the order in which they lie in the pack.
    pub entries: Vec<PackEntry>,
}

impl PackHeader {
    /// The plaintext of the list.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * COMPRESSED_ENTRY_BYTES);
        for entry in &self.entries {
            bytes.push(match (entry.kind, entry.uncompressed_length) {
                (BlobKind::Data, None) => 0,
                (BlobKind::Tree, None) => 1,
                (BlobKind::Data, Some(_)) => 2,
                (BlobKind::Tree, Some(_)) => 3,
            });
            bytes.extend_from_slice(&entry.length.to_le_bytes());
            if let Some(length) = entry.uncompressed_length {
                bytes.extend_from_slice(&length.to_le_bytes());
            }
            bytes.extend_from_slice(entry.id.as_bytes());
        }
        bytes
    }

    /// Reads the plaintext of the list; the offsets follow from the lengths.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] names the entry by its place in the list.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, FormatError> {
        let mut entries = Vec::with_capacity(bytes.len() / COMPRESSED_ENTRY_BYTES);
        let mut offset = 0u32;
        while !bytes.is_empty() {
            let refuse = |reason: &str| {
                FormatError::malformed("pack header", format!("entry {}: {reason}", entries.len()))
            };
            let (entry, rest) = parse_entry(bytes, offset).map_err(refuse)?;
            offset = offset
                .checked_add(entry.length)
                .ok_or_else(|| refuse("the blobs are longer than 4 GiB"))?;
            entries.push(entry);
            bytes = rest;
        }
        Ok(Self { entries })
    }

    /// How many bytes the sealed blobs take together.
    #[must_use]
    pub fn blob_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.length)).sum()
    }

    /// How long a sealed list with these entries is, without its length field.
    #[must_use]
    pub fn sealed_bytes(&self) -> u64 {
        let plain: usize =
            self.entries.iter().map(|entry| entry_bytes(entry.uncompressed_length.is_some())).sum();
        (plain + SEAL_BYTES) as u64
    }

    /// Reads the list at the end of a whole pack.
    ///
    /// # Errors
    /// [`FormatError`] if the lengths do not fit together or the list is forged.
    pub fn read(pack: &[u8], key: &MasterKey) -> Result<Self, FormatError> {
        let (before, sealed) = split_header(pack)?;
        let plain = key.open(sealed).map_err(|Forged| {
            FormatError::malformed("pack header", "its authentication code does not match")
        })?;
        let header = Self::parse(&plain)?;
        if header.blob_bytes() != before.len() as u64 {
            let (listed, actual) = (header.blob_bytes(), before.len());
            let reason = format!("lists {listed} bytes of blobs, the pack has {actual}");
            return Err(FormatError::malformed("pack header", reason));
        }
        Ok(header)
    }
}

fn parse_entry(bytes: &[u8], offset: u32) -> Result<(PackEntry, &[u8]), &'static str> {
    let (kind, is_compressed) = match bytes.first() {
        Some(0) => (BlobKind::Data, false),
        Some(1) => (BlobKind::Tree, false),
        Some(2) => (BlobKind::Data, true),
        Some(3) => (BlobKind::Tree, true),
        _ => return Err("unknown blob type"),
    };
    let (entry, rest) =
        bytes.split_at_checked(entry_bytes(is_compressed)).ok_or("ends in the middle")?;
    let number = |at: usize| {
        entry.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes)
    };
    let length = number(1).ok_or("ends in the middle")?;
    if (length as usize) < SEAL_BYTES {
        return Err("a blob is shorter than its seal");
    }
    let uncompressed_length = if is_compressed { number(5) } else { None };
    let plain = uncompressed_length.unwrap_or(length);
    if length > SEALED_BLOB_BYTES_MAX || plain > BLOB_BYTES_MAX + SEAL_BYTES as u32 {
        return Err("a blob is longer than 256 MiB");
    }
    let id = entry.last_chunk::<32>().ok_or("ends in the middle")?;
    let id = BlobId::from_bytes(*id);
    Ok((PackEntry { kind, id, offset, length, uncompressed_length }, rest))
}

/// The blobs and the sealed header of a whole pack.
fn split_header(pack: &[u8]) -> Result<(&[u8], &[u8]), FormatError> {
    let refuse = |reason: String| Err(FormatError::malformed("pack", reason));
    let Some((before, length)) = pack.split_last_chunk::<4>() else {
        return refuse(format!("has {} bytes, fewer than its length field", pack.len()));
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > HEADER_BYTES_MAX {
        let (actual, limit) = (length as u64, HEADER_BYTES_MAX as u64);
        return Err(FormatError::TooLarge { what: "pack header", actual, limit });
    }
    match before.len().checked_sub(length) {
        Some(at) => Ok(before.split_at(at)),
        None => refuse(format!("its header would have {length} bytes of {}", pack.len())),
    }
}

/// A pack in the making.
#[derive(Debug, Default)]
pub struct PackBuilder {
    bytes: Vec<u8>,
    header: PackHeader,
}

impl PackBuilder {
    /// Adds a sealed blob. Data and tree blobs belong in packs of their own.
    pub fn push(&mut self, kind: BlobKind, id: BlobId, sealed: &[u8], uncompressed: Option<u32>) {
        // Packs are closed near their target size, far below what a length of 32 bits holds.
        let (offset, length) = (self.bytes.len() as u32, sealed.len() as u32);
        self.bytes.extend_from_slice(sealed);
        let uncompressed_length = uncompressed;
        self.header.entries.push(PackEntry { kind, id, offset, length, uncompressed_length });
    }

    /// How many bytes of blobs it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many blobs it holds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.header.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.entries.is_empty()
    }

    /// Closes it: the whole file, and the list of what is in it.
    #[must_use]
    pub fn finish(self, key: &MasterKey, entropy: &dyn Entropy) -> (Vec<u8>, PackHeader) {
        let Self { mut bytes, header } = self;
        let sealed = key.seal(&header.to_bytes(), entropy);
        bytes.reserve_exact(sealed.len() + 4);
        bytes.extend_from_slice(&sealed);
        bytes.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
        (bytes, header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<PackEntry>> {
        let entry = (any::<bool>(), any::<[u8; 32]>(), 32u32..100_000, any::<Option<u16>>());
        proptest::collection::vec(entry, 0..20).prop_map(|parts| {
            let mut offset = 0;
            let entry = |(is_tree, id, length, plain): (bool, [u8; 32], u32, Option<u16>)| {
                let kind = if is_tree { BlobKind::Tree } else { BlobKind::Data };
                let uncompressed_length = plain.map(u32::from);
                let id = BlobId::from_bytes(id);
                let entry = PackEntry { kind, id, offset, length, uncompressed_length };
                offset += length;
                entry
            };
            parts.into_iter().map(entry).collect()
        })
    }

    proptest! {
        #[test]
        fn headers_read_back(entries in entries()) {
            let header = PackHeader { entries };
            let bytes = header.to_bytes();
            prop_assert_eq!(header.sealed_bytes(), (bytes.len() + SEAL_BYTES) as u64);
            prop_assert_eq!(PackHeader::parse(&bytes).expect("valid"), header);
        }

        #[test]
        fn any_bytes_parse_or_are_refused(bytes: Vec<u8>) {
            let _ = PackHeader::parse(&bytes);
        }

        #[test]
        fn any_bytes_with_known_types_parse_or_are_refused(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            for at in (0..bytes.len()).step_by(37) {
                bytes[at] %= 5;
            }
            let _ = PackHeader::parse(&bytes);
        }

        #[test]
        fn any_bytes_are_a_pack_or_are_refused(bytes: Vec<u8>) {
            let key = MasterKey::draw(&SeededEntropy::new(1));
            prop_assert!(PackHeader::read(&bytes, &key).is_err());
        }
    }

    #[test]
    fn an_entry_larger_than_any_blob_is_refused() {
        for (length, fits) in [(SEALED_BLOB_BYTES_MAX, true), (SEALED_BLOB_BYTES_MAX + 1, false)] {
            let (kind, id) = (BlobKind::Data, BlobId::of(b"x"));
            let entry = PackEntry { kind, id, offset: 0, length, uncompressed_length: Some(1) };
            let bytes = PackHeader { entries: vec![entry] }.to_bytes();
            assert_eq!(PackHeader::parse(&bytes).is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn a_built_pack_reads_back_and_a_cut_one_does_not() {
        let entropy = SeededEntropy::new(3);
        let key = MasterKey::draw(&entropy);
        let mut builder = PackBuilder::default();
        for text in ["one", "two"] {
            let sealed = key.seal(text.as_bytes(), &entropy);
            builder.push(BlobKind::Data, BlobId::of(text.as_bytes()), &sealed, None);
        }
        let (pack, header) = builder.finish(&key, &entropy);
        assert_eq!(PackHeader::read(&pack, &key).expect("valid"), header);
        for end in 0..pack.len() {
            assert!(PackHeader::read(&pack[..end], &key).is_err(), "{end}");
        }
    }
}
