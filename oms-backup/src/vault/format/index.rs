//! Index files: which blob lies where in which pack.

use super::{
    BLOB_BYTES_MAX, BlobId, BlobKind, FormatError, IndexId, PackId, SEALED_BLOB_BYTES_MAX, to_json,
};
use crate::vault::crypto::SEAL_BYTES;
use serde::{Deserialize, Serialize};

/// A file under `index/`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct IndexFile {
    /// Older index files that this one stands in for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<IndexId>,
    /// The packs it covers, each whole.
    pub packs: Vec<IndexedPack>,
}

/// One pack's blobs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct IndexedPack {
    /// The pack.
    pub id: PackId,
    /// What is in it.
    pub blobs: Vec<IndexedBlob>,
}

/// One blob's place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct IndexedBlob {
    /// The blob.
    pub id: BlobId,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: BlobKind,
    /// Where its sealed bytes begin in the pack.
    pub offset: u32,
    /// How many sealed bytes.
    pub length: u32,
    /// How many plaintext bytes, if it is compressed.
    #[serde(default, skip_serializing_if = "is_none_or_zero")]
    pub uncompressed_length: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none_or_zero(length: &Option<u32>) -> bool {
    length.is_none_or(|length| length == 0)
}

impl IndexFile {
    /// The JSON text.
    ///
    /// # Errors
    /// [`FormatError::Json`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        to_json("index", self)
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`FormatError::Json`], or [`FormatError::Malformed`] names the blob whose lengths cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut index: Self = serde_json::from_slice(bytes).map_err(FormatError::json("index"))?;
        for blob in index.packs.iter_mut().flat_map(|pack| &mut pack.blobs) {
            if blob.uncompressed_length == Some(0) {
                blob.uncompressed_length = None;
            }
            let plain = blob.uncompressed_length.unwrap_or(blob.length);
            let fits = blob.length as usize >= SEAL_BYTES
                && blob.length <= SEALED_BLOB_BYTES_MAX
                && plain <= BLOB_BYTES_MAX + SEAL_BYTES as u32
                && blob.offset.checked_add(blob.length).is_some();
            if !fits {
                let reason = format!("impossible place of blob {}", blob.id);
                return Err(FormatError::malformed("index", reason));
            }
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_restic_wrote() {
        // Written by restic 0.14.0.
        let text = r#"{"packs":[{"id":"d6e575933a9edec28f5e28f3ad2e89a23c05b26524b53807e80e2a5f570f7716","blobs":[{"id":"98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4","type":"data","offset":0,"length":44,"uncompressed_length":3}]}]}"#;
        let index = IndexFile::parse(text.as_bytes()).expect("valid");
        assert_eq!(index.packs[0].blobs[0].uncompressed_length, Some(3));
        assert_eq!(String::from_utf8(index.to_bytes().expect("JSON")).expect("UTF-8"), text);
    }

    #[test]
    fn a_place_larger_than_any_blob_is_refused() {
        let id = BlobId::of(b"x");
        for (length, fits) in [(SEALED_BLOB_BYTES_MAX, true), (SEALED_BLOB_BYTES_MAX + 1, false)] {
            let blob = IndexedBlob {
                id,
                kind: BlobKind::Data,
                offset: 0,
                length,
                uncompressed_length: Some(1),
            };
            let pack = IndexedPack { id: PackId::of(b"x"), blobs: vec![blob] };
            let index = IndexFile { supersedes: Vec::new(), packs: vec![pack] };
            let bytes = index.to_bytes().expect("JSON");
            assert_eq!(IndexFile::parse(&bytes).is_ok(), fits, "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes: Vec<u8>) {
            let _ = IndexFile::parse(&bytes);
        }

        #[test]
        fn any_numbers_parse_or_are_refused(offset: u64, length: u64, plain: u64) {
            let id = BlobId::of(b"x");
            let text = format!(
                r#"{{"packs":[{{"id":"{id}","blobs":[{{"id":"{id}","type":"tree","offset":{offset},"length":{length},"uncompressed_length":{plain}}}]}}]}}"#
            );
            let _ = IndexFile::parse(text.as_bytes());
        }
    }
}
