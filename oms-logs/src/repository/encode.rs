//! Rows as Parquet files, one a day, sorted by time.

use crate::Error;
use crate::ingest::batch::align;
use crate::repository::snapshot::FileStats;
use crate::schema::{TIME_GENERATED, TableSchema};
use arrow::array::{Array as _, AsArray, RecordBatch};
use arrow::compute::{sort_to_indices, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use jiff::Timestamp;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;

/// Rows of one row group.
const ROW_GROUP_ROWS: usize = 256 * 1024;

const DAY_MICROSECONDS: i64 = 86_400_000_000;

/// The rows of one day as a Parquet file.
#[derive(Debug)]
pub(crate) struct EncodedFile {
    /// `2026-11-23`
    pub(crate) day: String,
    pub(crate) bytes: Bytes,
    /// Delta file statistics, as JSON.
    pub(crate) stats: String,
}

/// Gives rows the table's columns, sorts them by time and writes one file a day. It takes long: not
/// for a thread that others wait for.
///
/// # Errors
/// [`Error::File`], [`Error::Arrow`].
pub(crate) fn encode(schema: &TableSchema, rows: &RecordBatch) -> Result<Vec<EncodedFile>, Error> {
    let name = schema.name();
    let rows = by_time(align(rows, schema.arrow())?)?;
    by_day(&rows)?
        .into_iter()
        .map(|(day, rows)| {
            let bytes = write_parquet(&rows).map_err(Error::file(name))?;
            Ok(EncodedFile { day, bytes, stats: FileStats::of(&rows).to_json() })
        })
        .collect()
}

/// The rows in the order of time. Those that came in it are not copied.
fn by_time(rows: RecordBatch) -> Result<RecordBatch, Error> {
    let Some(times) = rows.column_by_name(TIME_GENERATED) else {
        return Err(Error::Internal { what: format!("rows have no {TIME_GENERATED}") });
    };
    let is_sorted = times
        .as_primitive_opt::<TimestampMicrosecondType>()
        .is_some_and(|times| times.null_count() == 0 && times.values().is_sorted());
    if is_sorted {
        return Ok(rows);
    }
    let order = sort_to_indices(times, None, None).map_err(Error::arrow("sort"))?;
    take_record_batch(&rows, &order).map_err(Error::arrow("sort"))
}

/// Cuts rows that are sorted by time into days.
fn by_day(rows: &RecordBatch) -> Result<Vec<(String, RecordBatch)>, Error> {
    let Some(times) = rows
        .column_by_name(TIME_GENERATED)
        .and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>())
    else {
        return Err(Error::Internal { what: format!("{TIME_GENERATED} is not a time") });
    };
    let times = times.values();
    let (mut days, mut from) = (Vec::new(), 0);
    while let Some(&first) = times.get(from) {
        let day = first.div_euclid(DAY_MICROSECONDS);
        let count = times[from..].partition_point(|time| time.div_euclid(DAY_MICROSECONDS) <= day);
        days.push((date(first)?, rows.slice(from, count)));
        from += count;
    }
    Ok(days)
}

/// The UTC day of a time in microseconds, as Delta writes partition values.
fn date(microseconds: i64) -> Result<String, Error> {
    let time = Timestamp::from_microsecond(microseconds).map_err(|error| Error::Internal {
        what: format!("a row has a time that admission refuses: {error}"),
    })?;
    Ok(jiff::tz::Offset::UTC.to_datetime(time).date().to_string())
}

fn write_parquet(rows: &RecordBatch) -> Result<Bytes, parquet::errors::ParquetError> {
    let level = ZstdLevel::try_new(1)?;
    let time = rows.schema_ref().index_of(TIME_GENERATED).ok();
    let sorting = time
        .and_then(|at| i32::try_from(at).ok())
        .map(|column_idx| vec![SortingColumn { column_idx, descending: false, nulls_first: true }]);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_sorting_columns(sorting)
        .set_created_by(format!("oms-logs {}", env!("CARGO_PKG_VERSION")))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties))?;
    writer.write(rows)?;
    Ok(writer.into_inner()?.into())
}
