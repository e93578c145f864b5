//! What tells a record apart from all others: the column `_ItemId`.
//!
//! It is where the record stands in the write-ahead log, written as a guid: the node and the table,
//! the log sequence, and the place in its batch. So it costs nothing to keep while the record is in
//! the log and in memory, stays the same for ever, and of one batch differs in its last digits alone,
//! of which a data file keeps little more than the difference.
//!
//! ```text
//!  nnnnnnnn-nnnn-ssss-ssss-ssssiiiiiiii
//!  node, table   log sequence  place
//! ```

use crate::Error;
use crate::schema::ITEM_ID;
use arrow::array::{Array as _, ArrayRef, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{Field, Schema};
use oms_core::{Entropy, EntropyExt as _};
use std::fmt::Write as _;
use std::hash::Hasher as _;
use std::sync::Arc;
use twox_hash::XxHash64;

/// Bits of the part that stands for node and table.
const PLACE_BITS: u32 = 48;

/// Bits of the log sequence.
const LSN_BITS: u32 = 48;

/// The records of one batch, and where in the log it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Origin {
    /// See [`place`].
    pub(crate) place: u64,
    pub(crate) lsn: u64,
    pub(crate) rows: usize,
}

/// What stands for a table of a node.
pub(crate) fn place(node: &str, table: &str) -> u64 {
    let mut hash = XxHash64::with_seed(0);
    hash.write(node.as_bytes());
    hash.write_u8(0);
    hash.write(table.as_bytes());
    hash.finish() >> (u64::BITS - PLACE_BITS)
}

/// How the ids of the records of a table of a node begin.
pub(crate) fn id_prefix(place: u64) -> String {
    let place = format!("{place:012x}");
    let (head, tail) = place.split_at(8);
    format!("{head}-{tail}-")
}

impl Origin {
    /// Of records that do not pass the log: a number that no log comes to, drawn for them.
    pub(crate) fn drawn(place: u64, entropy: &dyn Entropy, rows: usize) -> Self {
        let beyond_logs = 1 << (LSN_BITS - 1);
        Self { place, lsn: entropy.number() % beyond_logs + beyond_logs, rows }
    }
}

/// Records with their ids as a further column.
///
/// # Errors
/// [`Error::Arrow`].
pub(crate) fn with_ids(rows: &RecordBatch, origins: &[Origin]) -> Result<RecordBatch, Error> {
    let ids: ArrayRef = Arc::new(item_ids(origins));
    let field = Field::new(ITEM_ID, ids.data_type().clone(), true);
    let fields = rows.schema_ref().fields().iter().cloned();
    let fields: Vec<_> = fields.chain([Arc::new(field)]).collect();
    let arrays = rows.columns().iter().cloned().chain([ids]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(Error::arrow("identify"))
}

/// The ids of the records of some batches, in their order.
fn item_ids(origins: &[Origin]) -> StringArray {
    let rows = origins.iter().map(|origin| origin.rows).sum();
    let mut ids = StringBuilder::with_capacity(rows, rows * 36);
    let mut text = String::with_capacity(36);
    for origin in origins {
        let (place, lsn) = (format!("{:012x}", origin.place), format!("{:012x}", origin.lsn));
        text.clear();
        for (part, ends) in [(&place, [8, 12]), (&lsn, [4, 8])] {
            let mut from = 0;
            for end in ends {
                text.push_str(part.get(from..end).unwrap_or_default());
                text.push('-');
                from = end;
            }
        }
        text.push_str(lsn.get(8..).unwrap_or_default());
        let fixed = text.len();
        for row in 0..origin.rows {
            text.truncate(fixed);
            let _ = write!(text, "{row:08x}");
            ids.append_value(&text);
        }
    }
    ids.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_guids_that_differ_by_place_sequence_and_row() {
        let origins = [
            Origin { place: 0xa1b2_c3d4_e5f6, lsn: 0x1_0000_0002, rows: 2 },
            Origin { place: 0xa1b2_c3d4_e5f6, lsn: 0x1_0000_0003, rows: 1 },
        ];
        let ids: Vec<_> = item_ids(&origins).iter().flatten().map(str::to_owned).collect();
        assert_eq!(
            ids,
            [
                "a1b2c3d4-e5f6-0001-0000-000200000000",
                "a1b2c3d4-e5f6-0001-0000-000200000001",
                "a1b2c3d4-e5f6-0001-0000-000300000000",
            ]
        );
        assert!(ids.iter().all(|id| uuid::Uuid::parse_str(id).is_ok()));
        assert!(ids.iter().all(|id| id.starts_with(&id_prefix(0xa1b2_c3d4_e5f6))));
        assert_ne!(place("a", "Perf"), place("b", "Perf"));
        assert_ne!(place("a", "bc"), place("ab", "c"));
        assert!(place("a", "Perf") < 1 << PLACE_BITS);
    }
}
