//! Rows as Parquet files, one a day, sorted by time.

use crate::Error;
use crate::ingest::batch::align;
use crate::ingest::billing::billed;
use crate::repository::integrity::{MARK_KEY, SumsBuilder};
use crate::repository::snapshot::FileStats;
use crate::repository::terms::{PLACE_KEY, TermsBuilder};
use crate::schema::{ITEM_ID, TIME_GENERATED, TableSchema};
use arrow::array::{Array as _, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{sort_to_indices, take_record_batch};
use arrow::datatypes::{
    DataType, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use bytes::Bytes;
use jiff::Timestamp;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

/// Rows of one row group.
const ROW_GROUP_ROWS: usize = 256 * 1024;

/// How many values of a column are looked at.
const SAMPLE_VALUES: usize = 4_096;

pub(crate) const DAY_MICROSECONDS: i64 = 86_400_000_000;

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
    let rows = billed(rows.clone(), schema.arrow())?;
    let rows = by_time(align(&rows, schema.arrow())?)?;
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

fn write_parquet(rows: &RecordBatch) -> Result<Bytes, ParquetError> {
    let mut encoder = FileEncoder::start(rows)?;
    encoder.write(rows)?;
    encoder.finish()
}

/// Writes rows of one day into a file as they come, in the order of their time.
pub(crate) struct FileEncoder {
    writer: ArrowWriter<Vec<u8>>,
    terms: TermsBuilder,
    sums: SumsBuilder,
}

impl std::fmt::Debug for FileEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileEncoder").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl FileEncoder {
    /// `first` rows, or all of them, show what the columns are like.
    pub(crate) fn start(first: &RecordBatch) -> Result<Self, ParquetError> {
        let columns = first.schema_ref().fields().iter().zip(first.columns());
        let unlike: Vec<(&str, &DataType)> = columns
            .filter(|(_, array)| !repeats(array))
            .map(|(field, _)| (field.name().as_str(), field.data_type()))
            .collect();
        let properties = properties(first.schema_ref(), &unlike)?;
        let writer = ArrowWriter::try_new(Vec::new(), first.schema(), Some(properties))?;
        // Of text that repeats, few terms are rare enough to leave a block out.
        let texts = unlike
            .iter()
            .filter(|(name, data_type)| **data_type == DataType::Utf8 && *name != ITEM_ID);
        let terms = TermsBuilder::new(texts.map(|(name, _)| (*name).to_owned()));
        Ok(Self { writer, terms, sums: SumsBuilder::default() })
    }

    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.writer.write(rows)?;
        self.terms.push(rows);
        Ok(())
    }

    /// About how long the file is if it ends here.
    pub(crate) fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Takes away what is encoded: the next piece of the file.
    pub(crate) fn take(&mut self) -> Bytes {
        let piece = std::mem::take(self.writer.inner_mut());
        self.sums.add(&piece);
        piece.into()
    }

    /// Ends the file; answers its last piece.
    pub(crate) fn finish(mut self) -> Result<Bytes, ParquetError> {
        self.writer.flush()?;
        let data_end = self.writer.bytes_written() as u64;
        if let Some(index) = self.terms.finish() {
            let place = format!("{data_end}:{}", index.len());
            self.writer.write_all(&index)?;
            self.writer.append_key_value_metadata(KeyValue::new(PLACE_KEY.to_owned(), place));
        }
        let sums_at = self.writer.bytes_written() as u64;
        let (sums, mark) = SumsBuilder::places(data_end, sums_at);
        self.writer.write_all(&sums)?;
        self.writer.append_key_value_metadata(KeyValue::new(MARK_KEY.to_owned(), mark));
        let mut rest = self.writer.into_inner()?;
        self.sums.seal(&mut rest, data_end, sums_at).map_err(ParquetError::General)?;
        Ok(rest.into())
    }
}

/// `unlike` names the columns whose values repeat little.
fn properties(
    schema: &Schema,
    unlike: &[(&str, &DataType)],
) -> Result<WriterProperties, ParquetError> {
    let level = ZstdLevel::try_new(1)?;
    let time = schema.index_of(TIME_GENERATED).ok();
    let sorting = time
        .and_then(|at| i32::try_from(at).ok())
        .map(|column_idx| vec![SortingColumn { column_idx, descending: false, nulls_first: true }]);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_sorting_columns(sorting)
        .set_created_by(format!("oms-logs {}", env!("CARGO_PKG_VERSION")));
    for (name, data_type) in unlike {
        let path = ColumnPath::from(*name);
        properties = properties.set_column_dictionary_enabled(path.clone(), false);
        if is_whole_number(data_type) {
            properties = properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        } else if *name == ITEM_ID {
            // Those of one batch are alike but for their ends.
            properties = properties.set_column_encoding(path, Encoding::DELTA_BYTE_ARRAY);
        }
    }
    Ok(properties.build())
}

/// Whether a column's values repeat so much that a dictionary of them is worth its place. Where they
/// do not, making one only to give it up takes a good part of the time, and times are smaller as
/// differences.
fn repeats(array: &ArrayRef) -> bool {
    let step = (array.len() / SAMPLE_VALUES).max(1);
    let places = (0..array.len()).step_by(step).filter(|row| array.is_valid(*row));
    let (mut values, mut sampled) = (HashSet::new(), 0_usize);
    let mut add = |hash: u64| {
        sampled += 1;
        values.insert(hash);
    };
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            places.for_each(|row| add(hasher.hash_one(array.value(row))));
        }
        DataType::Int32 => {
            let array = array.as_primitive::<Int32Type>();
            places.for_each(|row| add(hasher.hash_one(array.value(row))));
        }
        DataType::Int64 => {
            let array = array.as_primitive::<Int64Type>();
            places.for_each(|row| add(hasher.hash_one(array.value(row))));
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let array = array.as_primitive::<TimestampMicrosecondType>();
            places.for_each(|row| add(hasher.hash_one(array.value(row))));
        }
        _ => return true,
    }
    values.len() * 2 <= sampled || values.len() <= 1
}

fn is_whole_number(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int32 | DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::COMPUTER;
    use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use std::sync::Arc;

    #[test]
    fn values_come_back_and_only_those_that_repeat_are_in_dictionaries() {
        const ROWS: usize = 10_000;
        let schema = TableSchema::initial(&"Odd_CL".parse().expect("a name"));
        let column =
            |name: &str, column_type| crate::schema::Column { name: name.to_owned(), column_type };
        let schema = schema.with_columns([
            column("Number", crate::schema::ColumnType::Long),
            column("Text", crate::schema::ColumnType::String),
        ]);
        // Odd places first, so that the rows have to be sorted.
        let order: Vec<usize> =
            (0..ROWS).filter(|n| n % 2 == 1).chain((0..ROWS).filter(|n| n % 2 == 0)).collect();
        let times = order.iter().map(|n| *n as i64 * 1_000_003);
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let numbers = order.iter().map(|n| (n % 7 > 0).then(|| *n as i64 * 77_777 % 1_000_003));
        let texts = order.iter().map(|n| (n % 5 > 0).then(|| format!("request {n} took long")));
        let rows = RecordBatch::try_from_iter_with_nullable([
            (TIME_GENERATED, Arc::new(times) as ArrayRef, true),
            (COMPUTER, Arc::new(StringArray::from(vec!["pc"; ROWS])), true),
            ("Number", Arc::new(Int64Array::from_iter(numbers)), true),
            ("Text", Arc::new(StringArray::from_iter(texts)), true),
        ])
        .expect("rows");
        let files = encode(&schema, &rows).expect("encoded");
        let [file] = files.as_slice() else { panic!("one day") };
        assert_eq!(file.day, "1970-01-01");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).expect("a file");
        let footer = Arc::clone(reader.metadata());
        let has_dictionary = |name: &str| {
            let columns = footer.row_group(0).columns().iter();
            let found = columns.clone().find(|column| column.column_path().string() == name);
            found.expect("the column").dictionary_page_offset().is_some()
        };
        assert!(has_dictionary(COMPUTER));
        assert!(!has_dictionary(TIME_GENERATED) && !has_dictionary("Number"));
        assert!(!has_dictionary("Text"));
        let read = reader.build().expect("a reader").collect::<Result<Vec<_>, _>>().expect("rows");
        let read = arrow::compute::concat_batches(&read[0].schema(), &read).expect("one batch");
        let mut sorted: Vec<usize> = order.clone();
        sorted.sort_unstable();
        for (row, n) in sorted.into_iter().enumerate() {
            let number = read.column_by_name("Number").expect("it").as_primitive::<Int64Type>();
            assert_eq!(number.is_valid(row), n % 7 > 0);
            let text = read.column_by_name("Text").expect("it").as_string::<i32>();
            let expected = format!("request {n} took long");
            assert_eq!(
                text.is_valid(row).then(|| text.value(row)),
                (n % 5 > 0).then_some(&*expected)
            );
            if n % 7 > 0 {
                assert_eq!(number.value(row), n as i64 * 77_777 % 1_000_003);
            }
        }
        assert!(
            footer
                .file_metadata()
                .key_value_metadata()
                .is_some_and(|pairs| { pairs.iter().any(|pair| pair.key == PLACE_KEY) })
        );
    }
}
