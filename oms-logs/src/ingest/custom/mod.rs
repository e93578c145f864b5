//! Records of custom tables as JSON, into columns that are named by what they hold.
//!
//! ```text
//!  [{"Level": 3, "At": "2026-11-23T10:00:00Z"}, …]
//!      │  null is no value; text beyond 32 KiB is cut, and Operation tells of it
//!      ▼
//!  Level_d, At_t ─► a column of the property that takes the value
//!                    else a new column with the suffix of the value's type
//!                    else AdditionalFields, when the table has its 500 columns
//! ```
//!
//! The suffixes are those of the HTTP Data Collector API: `_s` for text, `_b` for `true` and `false`,
//! `_d` for numbers, `_t` for text that is a date and a time in ISO 8601, and `_g` for text that looks
//! like a guid. Arrays and objects are text.
//!
//! A value goes into the column of its own type if the property has one. Text goes into another column
//! of the property that can hold what it says: `"42"` into `Level_d`, `"true"` into `_b`, a guid into
//! `_s`. Numbers and flags are not converted. Any other value makes a column of its own type, also where
//! the property has others.
//!
//! # Where it differs from the service
//! - Letter case does not tell properties apart: `level` goes into the columns of `Level`. A record
//!   that has both is refused by name.
//! - A sign that a column's name cannot have becomes an underscore (`@timestamp_d` is
//!   `_timestamp_d`); names beyond ASCII are refused.
//! - The name of a column has 45 characters with its suffix.
//! - Text of a property `Computer` is also the record's `Computer`.

mod columns;

mod post;

mod value;

#[cfg(test)]
mod tests;

pub(crate) use post::{Post, Taken};

use bytes::Bytes;
use jiff::SignedDuration;
use oms_core::record::RecordType;

/// The most records of one batch.
pub const RECORDS_MAX: usize = 1_000_000;

/// The most properties of one record.
pub const PROPERTIES_MAX: usize = 10_000;

/// The most bytes of one text; what is longer is cut.
pub const TEXT_BYTES_MAX: usize = 32 << 10;

/// The most places of one batch: its records times the columns that they have together, each of which
/// takes about 8 bytes of memory.
pub const CELLS_MAX: usize = 16_000_000;

/// How old the time of a record may be that a property gives. One that is older has the time of its
/// arrival.
pub const TIME_AGE_MAX: SignedDuration = SignedDuration::from_hours(48);

/// `SourceSystem` of the records.
pub const SOURCE_SYSTEM: &str = "RestAPI";

/// Records of a custom table, as JSON.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a caller fills it in")]
pub struct CustomBatch {
    /// Who sends, the same after a restart: 1 to 200 characters.
    pub producer: String,
    /// The producer's count of batches, from 1 and without gaps. A batch that was written already is
    /// accepted and not written again.
    pub sequence: u64,
    /// The table, whose name ends in `_CL`.
    pub table: RecordType,
    /// An array of objects, or one, as JSON. An empty array is accepted.
    pub records: Bytes,
    /// The property that is `TimeGenerated`, in ISO 8601. A record without it, or with one that is
    /// older than [`TIME_AGE_MAX`], has the time of its arrival.
    pub time_property: Option<String>,
    /// `_ResourceId` of each record.
    pub resource_id: Option<String>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CustomReport {
    /// Records that were written.
    pub records: u64,
    /// What was cut or changed of them, with the count of values.
    pub changes: Vec<(String, u64)>,
    /// Whether the batch had been written before, so that nothing was done.
    pub is_repeat: bool,
}
