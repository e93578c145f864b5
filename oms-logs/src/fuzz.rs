//! Parsers without a public name of their own, for the fuzz targets. No part of the interface.

use crate::Error;
use crate::ingest::rows::{RowFormat, RowTarget, compare};
use crate::ingest::{admit, batch, wal};
use crate::schema::TableSchema;
use arrow::array::RecordBatch;
use jiff::Timestamp;
use oms_core::entropy::SeededEntropy;
use oms_core::record::Batch;
use oms_core::testkit::disk::SimDisk;
use std::sync::Arc;

/// Opens the write-ahead log of a disk; answers each entry's log sequence, producer and count.
///
/// # Errors
/// Those of opening it.
pub fn open_wal(disk: &SimDisk) -> Result<Vec<(u64, String, u64)>, Error> {
    const SEGMENT_BYTES_MAX: u64 = 1 << 20;
    let mut entries = Vec::new();
    let (disk, entropy) = (Arc::new(disk.clone()), Arc::new(SeededEntropy::new(1)));
    let open = wal::Open {
        disk,
        entropy,
        segment_bytes_max: SEGMENT_BYTES_MAX,
        spare_bytes_min: SEGMENT_BYTES_MAX,
        floor: 0,
        quarantine: false,
    };
    wal::open(open, |sequence, entry| {
        entries.push((sequence, entry.producer, entry.sequence));
        Ok(())
    })?;
    Ok(entries)
}

/// A frame of the write-ahead log: of a header, or a group of one entry that follows a log sequence.
#[must_use]
pub fn wal_frame(is_header: bool, salt: u32, payload: &[u8]) -> Vec<u8> {
    wal::frame_of(is_header, salt, payload)
}

/// The index of a data file's terms, as it is or behind a checksum that is right; the count of rows
/// that may have some term, if it is an index.
#[must_use]
pub fn terms(bytes: &[u8], is_raw: bool) -> Option<usize> {
    crate::repository::terms::read_any(bytes, is_raw)
}

/// The rows of a batch by table, in tables that are new.
///
/// # Errors
/// Those of admission.
pub fn admit(batch: Batch) -> Result<Vec<RecordBatch>, Error> {
    let stamp = batch::Stamp { tenant_id: "fuzz".to_owned(), received: Timestamp::UNIX_EPOCH };
    let mut tables = Vec::new();
    for (name, mut rows) in admit::by_table(batch)? {
        let schema = TableSchema::initial(&name);
        let schema = admit::fit(&schema, &mut rows)?.unwrap_or(schema);
        tables.push(batch::build(&schema, &rows, &stamp)?);
    }
    Ok(tables)
}

/// How rows are read otherwise as columns, at most `max` at a time, than as records, if they are.
#[must_use]
pub fn difference(
    format: RowFormat,
    text: &[u8],
    target: &RowTarget,
    max: usize,
) -> Option<String> {
    const BUFFER_BYTES: usize = 64;
    compare::difference(format, text, target, max, BUFFER_BYTES)
}

/// Rows as the write-ahead log holds them.
///
/// # Errors
/// Those of Arrow.
pub fn encode_rows(rows: &RecordBatch) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    batch::encode(rows, batch::Encoding::Lz4, &mut bytes)?;
    Ok(bytes)
}

/// Reads what [`encode_rows`] wrote.
///
/// # Errors
/// Those of Arrow.
pub fn decode_rows(bytes: &[u8]) -> Result<RecordBatch, Error> {
    batch::decode(bytes)
}
