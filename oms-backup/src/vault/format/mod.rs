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
pub use key::{KDF_MEMORY_BYTES_MAX, KDF_PASSES_MAX, KdfParameters, KeyFile};
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
