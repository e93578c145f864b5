//! Parsers without a public name of their own, for the fuzz targets. No part of the interface.
#![expect(clippy::expect_used, reason = "a target fails by panicking")]

use crate::Error;
use crate::ingest::custom::Post;
use crate::ingest::rows::{RowFormat, RowTarget, compare};
use crate::ingest::{admit, batch, wal};
use crate::schema::{
    ADDITIONAL_FIELDS, COLUMNS_MAX, COMPUTER, Column, ColumnType, TIME_GENERATED, TableSchema,
};
use arrow::array::{Array as _, AsArray as _, RecordBatch};
use jiff::Timestamp;
use oms_core::entropy::SeededEntropy;
use oms_core::record::Batch;
use oms_core::testkit::disk::SimDisk;
use std::sync::{Arc, LazyLock};

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

/// JSON text as a dynamic value: the whole, its member of a key, and its item of an index, each read
/// out of the text by itself and written as JSON again.
#[must_use]
pub fn dynamic_parts(text: &str, key: &str, index: i64) -> [Option<String>; 3] {
    use crate::query::dynamic::{View, json_text, reader};
    let written = |read: &dyn Fn(&mut Vec<u8>) -> bool| {
        let (mut bytes, mut text) = (Vec::new(), String::new());
        read(&mut bytes).then(|| json_text(View::of(&bytes), &mut text)).map(|()| text)
    };
    [
        written(&|bytes| reader::parse(text, bytes)),
        written(&|bytes| reader::member(text, key, bytes)),
        written(&|bytes| reader::item(text, index, bytes)),
    ]
}

/// The last bytes of a data file of so many bytes, as they are or behind a mark whose checksum is right;
/// where its checksums begin, if they are those of a file that has some.
#[must_use]
pub fn integrity(bytes: &[u8], size: u64, is_raw: bool) -> Option<u64> {
    crate::repository::integrity::read_any(bytes, size, is_raw)
}

/// Whether a file of a Delta log, which ends with these bytes, is as it was written, and not any more when
/// this bit of it flips.
#[must_use]
pub fn delta_log(bytes: &[u8], flipped: usize) -> bool {
    crate::repository::integrity::seal_any(bytes, flipped)
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

/// Records of a custom table as JSON, into a table with room or with one column left: how many values
/// there are of each in its row.
///
/// # Errors
/// Why they are not taken.
pub fn custom(records: &[u8], is_nearly_full: bool) -> Result<Vec<usize>, String> {
    static TABLES: LazyLock<[TableSchema; 2]> = LazyLock::new(|| {
        let empty = TableSchema::initial(&"Fuzz_CL".parse().expect("a name"));
        let more = (empty.columns().len()..COLUMNS_MAX - 2)
            .map(|at| Column { name: format!("f{at}_s"), column_type: ColumnType::String });
        let nearly_full = empty.with_columns(more);
        [empty, nearly_full]
    });
    let [empty, nearly_full] = &*TABLES;
    let schema = if is_nearly_full { nearly_full } else { empty };
    let post = Post {
        table: schema.name().clone(),
        records: records.to_vec().into(),
        time_property: Some("t".to_owned()),
        resource_id: None,
    };
    let count = post.count()?;
    let taken = post.read(schema, Timestamp::UNIX_EPOCH).map_err(|error| error.to_string())?;
    let grown = taken.grown.as_ref().unwrap_or(schema);
    assert!(grown.columns().len() <= COLUMNS_MAX);
    let mut values = vec![0; count];
    for (field, array) in taken.rows.schema_ref().fields().iter().zip(taken.rows.columns()) {
        assert_eq!(array.len(), count);
        for (row, values) in values.iter_mut().enumerate().filter(|(row, _)| array.is_valid(*row)) {
            *values += match field.name().as_str() {
                TIME_GENERATED | COMPUTER | "SourceSystem" => 0,
                ADDITIONAL_FIELDS => {
                    let bag = array.as_string::<i32>().value(row);
                    serde_json::from_str::<serde_json::Map<_, _>>(bag).expect("an object").len()
                }
                _ => 1,
            };
        }
    }
    Ok(values)
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
