//! The restic repository format, version 2: bytes to values and back, without I/O.
//!
//! See the [restic design document](https://restic.readthedocs.io/en/stable/100_references.html).

mod config;
mod id;
mod index;
mod json;
mod key;
mod name;
mod pack;
mod snapshot;
mod tree;

pub use config::Config;
pub use id::{BlobId, IndexId, KeyId, LockId, PackId, RepositoryId, SnapshotId};
pub use index::{IndexFile, IndexedBlob, IndexedPack};
pub use key::{KDF_MEMORY_BYTES_MAX, KDF_PASSES_MAX, KDF_WORK_BYTES_MAX, KdfParameters, KeyFile};
pub use name::{NAME_BYTES_MAX, NodeName};
pub use pack::{HEADER_BYTES_MAX, PackBuilder, PackEntry, PackHeader, entry_bytes};
pub use snapshot::{Snapshot, Summary};
pub use tree::{ExtendedAttribute, Node, NodeKind, Tree, mode_from_unix, mode_to_unix};

pub(crate) use json::{base64_bytes, to_json};

use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the repository format written and read here.
pub const FORMAT_VERSION: u32 = 2;

/// The most bytes one sealed configuration, key, lock or snapshot file may have.
pub const SMALL_FILE_BYTES_MAX: usize = 16 << 20;

/// The most bytes one index file may have, before and after decompression.
pub const INDEX_BYTES_MAX: usize = 512 << 20;

/// The most plaintext bytes one blob may have.
pub const BLOB_BYTES_MAX: u32 = 256 << 20;

/// The most bytes one sealed blob may have: what zstd makes of the largest at worst, and the seal.
pub const SEALED_BLOB_BYTES_MAX: u32 = BLOB_BYTES_MAX + BLOB_BYTES_MAX / 128;

/// What a blob holds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "the format has these two")]
pub enum BlobKind {
    /// A piece of a file.
    Data,
    /// A folder.
    Tree,
}

impl fmt::Display for BlobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Tree => "tree",
        })
    }
}

/// Why bytes are not what the format says they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Not the JSON document expected here.
    #[error("{what} is not valid JSON of its kind. reason=`{source}`")]
    Json {
        /// Which document.
        what: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A rule of the format is broken.
    #[error("{what} is malformed. reason=`{reason}`")]
    Malformed {
        /// Which structure.
        what: &'static str,
        /// Which rule, with the offending value or position.
        reason: String,
    },
    /// More than this reader takes.
    #[error("{what} is too large. actual=`{actual}`, limit=`{limit}`")]
    TooLarge {
        /// Which structure.
        what: &'static str,
        /// How large it is, in bytes.
        actual: u64,
        /// How large it may be, in bytes.
        limit: u64,
    },
}

impl FormatError {
    pub(crate) fn malformed(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed { what, reason: reason.into() }
    }

    pub(crate) fn json(what: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Self::Json { what, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4";

    fn config() -> String {
        format!(r#"{{"version":2,"id":"{ID}","chunker_polynomial":"371ffe3dd69aeb"}}"#)
    }

    fn key() -> String {
        let who = r#""created":"2026-11-24T15:45:26Z","username":"u","hostname":"h""#;
        format!(r#"{{{who},"kdf":"scrypt","N":32768,"r":8,"p":1,"salt":"AAAA","data":"AAAA"}}"#)
    }

    fn snapshot() -> String {
        let time = "2026-11-24T15:45:26.5+01:00";
        format!(
            r#"{{"time":"{time}","parent":"{ID}","tree":"{ID}","paths":["/a"],"uid":1,"tags":["x"],"summary":{{"backup_start":"{time}","backup_end":"{time}","files_new":1}}}}"#
        )
    }

    fn check(bytes: &[u8]) -> Result<[bool; 3], TestCaseError> {
        let config = Config::parse(bytes).ok();
        if let Some(config) = &config {
            let written = config.to_bytes().expect("JSON");
            prop_assert_eq!(&Config::parse(&written).expect("it reads back"), config);
        }
        let key = KeyFile::parse(bytes).ok();
        if let Some(key) = &key {
            let _ = key.parameters();
            let again = KeyFile::parse(&key.to_bytes().expect("JSON")).expect("it reads back");
            prop_assert_eq!((&again.salt, &again.data), (&key.salt, &key.data));
        }
        let snapshot = Snapshot::parse(bytes).ok();
        if let Some(snapshot) = &snapshot {
            let written = snapshot.to_bytes().expect("JSON");
            prop_assert_eq!(&Snapshot::parse(&written).expect("it reads back"), snapshot);
        }
        Ok([config.is_some(), key.is_some(), snapshot.is_some()])
    }

    #[test]
    fn each_document_is_read_as_what_it_is() {
        let read = |text: String| check(text.as_bytes()).expect("it reads back");
        assert_eq!(read(config()), [true, false, false]);
        assert_eq!(read(key()), [false, true, false]);
        assert_eq!(read(snapshot()), [false, false, true]);
    }

    proptest! {
        #[test]
        fn damaged_documents_are_read_or_refused(
            which in 0..3_usize, at: prop::sample::Index, byte: u8, is_cut: bool,
        ) {
            let mut bytes = [config(), key(), snapshot()][which].clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if is_cut {
                bytes.truncate(at);
            }
            check(&bytes)?;
        }
    }
}
