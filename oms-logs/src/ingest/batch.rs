//! Records as Arrow batches.
//!
//! A batch holds only the columns that one of its records has a value for, so that a wide table
//! costs little here; [`align`] adds the others where a batch is read or stored.

use crate::Error;
use crate::ingest::admit::{Rows, ticks};
use crate::ingest::column::ColumnBuffer;
use crate::ingest::columnar::repeated;
use crate::schema::{
    COMPUTER, Column, ColumnType, TENANT_ID, TIME_GENERATED, TIME_RECEIVED, TYPE, TableSchema,
};
use arrow::array::{
    Array, ArrayRef, MutableArrayData, RecordBatch, RecordBatchOptions, StringBuilder,
    TimestampMicrosecondArray, make_array, new_null_array,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use jiff::Timestamp;
use oms_core::record::{Record, Value};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// What the workspace adds to each record.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    /// The workspace's id.
    pub(crate) tenant_id: String,
    /// When the workspace took the batch.
    pub(crate) received: Timestamp,
}

/// Microseconds since 1970, finer digits cut off.
pub(crate) fn microseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond().div_euclid(1_000)).unwrap_or(i64::MAX)
}

/// Makes a batch of records that [`fit`](crate::ingest::admit::fit) the schema.
pub(crate) fn build(
    schema: &TableSchema,
    rows: &Rows,
    stamp: &Stamp,
) -> Result<RecordBatch, Error> {
    let records = &rows.records;
    let names: BTreeSet<&str> =
        records.iter().flat_map(|(_, record)| record.fields.keys().map(String::as_str)).collect();
    let (mut fields, mut arrays) = (Vec::<Arc<Field>>::new(), Vec::<ArrayRef>::new());
    for (column, field) in schema.columns().iter().zip(schema.arrow().fields()) {
        let array = match column.name.as_str() {
            TENANT_ID => texts(records, |_, out| out.push_str(&stamp.tenant_id)),
            TYPE => texts(records, |_, out| out.push_str(schema.name().as_str())),
            COMPUTER => texts(records, |record, out| out.push_str(&record.computer)),
            TIME_GENERATED => times(records.iter().map(|(_, r)| Some(microseconds(r.time)))),
            TIME_RECEIVED => {
                let received = microseconds(stamp.received);
                times(records.iter().map(|_| Some(received)))
            }
            name if names.contains(name) => values(column, records)?,
            _ => continue,
        };
        fields.push(Arc::clone(field));
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(Error::arrow("build"))
}

/// Rows of one table with the columns that the workspace adds to each.
pub(crate) fn stamped(
    rows: &RecordBatch,
    schema: &TableSchema,
    stamp: &Stamp,
) -> Result<RecordBatch, Error> {
    let count = rows.num_rows();
    let (mut fields, mut arrays) = (Vec::<Arc<Field>>::new(), Vec::<ArrayRef>::new());
    for (column, field) in schema.columns().iter().zip(schema.arrow().fields()) {
        let array = match column.name.as_str() {
            TENANT_ID => repeated(&stamp.tenant_id, count),
            TYPE => repeated(schema.name().as_str(), count),
            TIME_RECEIVED => times(std::iter::repeat_n(Some(microseconds(stamp.received)), count)),
            name => match rows.column_by_name(name) {
                Some(array) => Arc::clone(array),
                None => continue,
            },
        };
        fields.push(Arc::clone(field));
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(Error::arrow("stamp"))
}

fn texts(records: &[(usize, Record)], write: impl Fn(&Record, &mut String)) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(records.len(), records.len() * 16);
    let mut text = String::new();
    for (_, record) in records {
        text.clear();
        write(record, &mut text);
        builder.append_value(&text);
    }
    Arc::new(builder.finish())
}

fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(values).with_timezone("UTC"))
}

/// One column of values. A value that does not fit becomes null; admission lets none through.
fn values(column: &Column, records: &[(usize, Record)]) -> Result<ArrayRef, Error> {
    let name = column.name.as_str();
    let (rows, bytes) = (records.len(), records.len() * 16);
    let mut buffer = ColumnBuffer::with_capacity(column.column_type, rows, bytes);
    for (_, record) in records {
        match record.fields.get(name) {
            Some(value) => buffer.push(value),
            None => buffer.push_null(),
        }
    }
    buffer.finish().map_err(Error::arrow("build"))
}

/// Writes a value as the text that its column keeps; `false` if it has none.
pub(crate) fn write_text(column: ColumnType, value: &Value, out: &mut String) -> bool {
    match (column, value) {
        (ColumnType::Dynamic, value) => write_canonical(&json(value), out),
        (ColumnType::String, Value::String(text)) => out.push_str(text),
        (ColumnType::String | ColumnType::Guid, Value::Guid(id)) => {
            let _ = write!(out, "{}", id.as_hyphenated());
        }
        (ColumnType::Guid, Value::String(text)) => match uuid::Uuid::parse_str(text) {
            Ok(id) => {
                let _ = write!(out, "{}", id.as_hyphenated());
            }
            Err(_) => return false,
        },
        (ColumnType::Decimal, Value::Int(number)) => {
            let _ = write!(out, "{number}");
        }
        (ColumnType::Decimal, Value::Long(number)) => {
            let _ = write!(out, "{number}");
        }
        (ColumnType::Decimal, Value::String(text)) => out.push_str(text),
        _ => return false,
    }
    true
}

/// A value as JSON. Numbers that JSON does not have (not a number, infinity) become text.
pub(crate) fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::Long(number) => (*number).into(),
        Value::Real(number) if number.is_nan() => "NaN".into(),
        Value::Real(number) if number.is_infinite() => {
            if *number > 0.0 { "Infinity" } else { "-Infinity" }.into()
        }
        Value::Real(number) => (*number).into(),
        Value::String(text) => text.as_str().into(),
        Value::DateTime(time) => format!("{time:.6}").into(),
        Value::TimeSpan(span) => timespan(ticks(span.as_nanos()).unwrap_or(i64::MAX)).into(),
        Value::Guid(id) => id.as_hyphenated().to_string().into(),
        Value::Dynamic(json) => json.clone(),
        _ => serde_json::Value::Null,
    }
}

/// `[-][d.]hh:mm:ss[.fffffff]`
fn timespan(ticks: i64) -> String {
    const SECOND: u64 = 10_000_000;
    let sign = if ticks < 0 { "-" } else { "" };
    let (seconds, fraction) = (ticks.unsigned_abs() / SECOND, ticks.unsigned_abs() % SECOND);
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    let days = if days == 0 { String::new() } else { format!("{days}.") };
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:07}") };
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("{sign}{days}{hours:02}:{minutes:02}:{:02}{fraction}", seconds % 60)
}

/// Writes JSON with the keys of each object in order and without spaces, so that equal values
/// are equal texts.
pub(super) fn write_canonical(json: &serde_json::Value, out: &mut String) {
    use serde_json::Value as Json;
    match json {
        Json::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (at, (key, item)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", Json::from(key.as_str()));
                write_canonical(item, out);
            }
            out.push('}');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}

/// The batch with exactly the columns of `schema`, in that order; columns that it does not have
/// are null.
pub(crate) fn align(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Error> {
    let mut arrays = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        arrays.push(match batch.column_by_name(field.name()) {
            Some(array) if array.data_type() == field.data_type() => Arc::clone(array),
            Some(array) => cast(array, field.data_type()).map_err(Error::arrow("align"))?,
            None => new_null_array(field.data_type(), batch.num_rows()),
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .map_err(Error::arrow("align"))
}

/// One batch of all rows, with the columns that any of the batches has.
pub(crate) fn unite<'a>(
    batches: impl Iterator<Item = &'a RecordBatch> + Clone,
) -> Result<RecordBatch, Error> {
    let mut fields: Vec<Arc<Field>> = Vec::new();
    for batch in batches.clone() {
        for field in batch.schema_ref().fields() {
            if !fields.iter().any(|known| known.name() == field.name()) {
                fields.push(Arc::clone(field));
            }
        }
    }
    let schema = Arc::new(Schema::new(fields));
    let aligned = batches.map(|batch| align(batch, &schema)).collect::<Result<Vec<_>, _>>()?;
    concat_batches(&schema, &aligned).map_err(Error::arrow("unite"))
}

/// The column without memory that it shares with other rows or columns, if that is much: what
/// waits is counted by what it holds.
pub(crate) fn compact(array: ArrayRef) -> ArrayRef {
    /// What an array has beside its values.
    const BESIDE: usize = 1_024;
    let data = array.to_data();
    let Ok(needed) = data.get_slice_memory_size() else { return array };
    if array.get_buffer_memory_size() <= needed.saturating_mul(2).saturating_add(BESIDE) {
        return array;
    }
    let mut copy = MutableArrayData::new(vec![&data], false, data.len());
    match copy.try_extend(0, 0, data.len()) {
        Ok(()) => make_array(copy.freeze()),
        Err(_) => array,
    }
}

/// How a batch is written into the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Encoding {
    /// As it is in memory: the shortest way.
    Plain,
    /// A third of the bytes, for many times the work.
    Lz4,
}

/// Appends the batch as an Arrow IPC stream.
pub(crate) fn encode(
    batch: &RecordBatch,
    encoding: Encoding,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let compression = (encoding == Encoding::Lz4).then_some(CompressionType::LZ4_FRAME);
    let options = IpcWriteOptions::default()
        .try_with_compression(compression)
        .map_err(Error::arrow("encode"))?;
    let mut writer = StreamWriter::try_new_with_options(out, batch.schema_ref(), options)
        .map_err(Error::arrow("encode"))?;
    writer.write(batch).map_err(Error::arrow("encode"))?;
    writer.finish().map_err(Error::arrow("encode"))
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8]) -> Result<RecordBatch, Error> {
    let mut reader = StreamReader::try_new(bytes, None).map_err(Error::arrow("decode"))?;
    match reader.next() {
        Some(batch) => {
            let batch = batch.map_err(Error::arrow("decode"))?;
            // What is not compressed comes as parts of one buffer.
            let columns = batch.columns().iter().map(|column| compact(Arc::clone(column)));
            let rows = Some(batch.num_rows());
            let options = RecordBatchOptions::new().with_row_count(rows);
            let (schema, columns) = (batch.schema(), columns.collect());
            RecordBatch::try_new_with_options(schema, columns, &options)
                .map_err(Error::arrow("decode"))
        }
        None => Ok(RecordBatch::new_empty(reader.schema())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::admit;
    use arrow::array::{AsArray, Int64Array, types::TimestampMicrosecondType};
    use jiff::SignedDuration;
    use oms_core::record::Batch;
    use proptest::prelude::*;
    use serde_json::json;

    fn survived(batch: &RecordBatch) -> RecordBatch {
        let read = [Encoding::Plain, Encoding::Lz4].map(|encoding| {
            let mut bytes = Vec::new();
            encode(batch, encoding, &mut bytes).expect("encoded");
            decode(&bytes).expect("decoded")
        });
        assert_eq!(read[0], read[1]);
        let [read, _] = read;
        read
    }

    #[test]
    fn what_is_read_from_the_log_takes_about_as_much_memory_as_what_was_written() {
        let mut bytes = Vec::new();
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50_000));
        let columns = (0..20).map(|at| (format!("c{at}"), Arc::clone(&numbers)));
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        encode(&batch, Encoding::Plain, &mut bytes).expect("encoded");
        let read = decode(&bytes).expect("decoded");
        let (read, written) = (read.get_array_memory_size(), batch.get_array_memory_size());
        assert!(read < 2 * written, "{read} {written}");
    }

    fn batch_of(record: Record) -> RecordBatch {
        let table = record.record_type.clone();
        let batch = Batch { producer: "p".into(), sequence: 1, records: vec![record] };
        let mut tables = admit::by_table(batch).expect("sorted");
        let rows = tables.get_mut(&table).expect("the table");
        let schema = TableSchema::initial(&table);
        let schema = admit::fit(&schema, rows).expect("fits").unwrap_or(schema);
        let stamp = Stamp { tenant_id: "t".into(), received: Timestamp::UNIX_EPOCH };
        build(&schema, rows, &stamp).expect("a batch")
    }

    fn text(batch: &RecordBatch, column: &str) -> String {
        batch.column_by_name(column).expect(column).as_string::<i32>().value(0).to_owned()
    }

    fn record() -> Record {
        Record::new("My_CL".parse().expect("a name"), Timestamp::UNIX_EPOCH, "pc")
    }

    #[test]
    fn values_are_kept_in_the_documented_form() {
        let id = "6F9619FF-8B86-D011-B42D-00CF4FC964FF";
        let batch = batch_of(
            record()
                .with("Bag", json!({"b": [1, {"z": null, "a": "ä\""}], "a": 0.5}))
                .with("Id", uuid::Uuid::parse_str(id).expect("an id"))
                .with("Span", SignedDuration::new(1, 250)),
        );
        assert_eq!(text(&batch, "Bag"), r#"{"a":0.5,"b":[1,{"a":"ä\"","z":null}]}"#);
        assert_eq!(text(&batch, "Id"), id.to_ascii_lowercase());
        let span = batch.column_by_name("Span").expect("the column");
        let span = span.as_primitive::<arrow::datatypes::Int64Type>().value(0);
        assert_eq!(span, 10_000_002);
        assert_eq!((text(&batch, "TenantId"), text(&batch, "Type")), ("t".into(), "My_CL".into()));
    }

    #[test]
    fn finer_digits_are_cut_off_also_before_1970() {
        let mut early = record();
        early.time = "1969-12-31T23:59:59.999999999Z".parse().expect("a time");
        let batch = batch_of(early);
        let times = batch.column_by_name(TIME_GENERATED).expect("the column");
        assert_eq!(times.as_primitive::<TimestampMicrosecondType>().value(0), -1);
    }

    #[test]
    fn only_columns_with_a_value_are_built() {
        let batch =
            batch_of(Record::new("Alert".parse().expect("a name"), Timestamp::UNIX_EPOCH, "pc"));
        assert_eq!(batch.num_columns(), 5);
        let full = TableSchema::initial(&"Alert".parse().expect("a name"));
        let aligned = align(&batch, full.arrow()).expect("aligned");
        assert_eq!(aligned.num_columns(), full.columns().len());
    }

    #[test]
    fn batches_survive_the_log() {
        let batch = batch_of(record().with("A", 1.5).with("B", "two"));
        assert_eq!(survived(&batch), batch);
        assert!(decode(b"").is_err());
    }

    #[test]
    fn batches_of_different_columns_unite() {
        let (a, b) = (batch_of(record().with("A", 1.5)), batch_of(record().with("B", "two")));
        let both = unite([&a, &b].into_iter()).expect("united");
        assert_eq!((both.num_rows(), both.num_columns()), (2, 7));
        assert_eq!(both.column_by_name("A").expect("A").null_count(), 1);
    }

    #[test]
    fn timespans_have_the_text_of_the_language() {
        assert_eq!(timespan(0), "00:00:00");
        assert_eq!(timespan(-864_010_000_001), "-1.00:00:01.0000001");
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            any::<u128>().prop_map(|bits| uuid::Uuid::from_u128(bits).into()),
            (any::<i64>(), -999_999_999..=999_999_999_i32)
                .prop_map(|(seconds, nanoseconds)| SignedDuration::new(seconds / 2, nanoseconds))
                .prop_map(Value::from),
            (Timestamp::MIN.as_second()..Timestamp::MAX.as_second())
                .prop_map(|second| Timestamp::from_second(second).expect("in range").into()),
            Just(json!({"a": [1, null, {"b": "\u{0}"}]}).into()),
        ]
    }

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let name = prop::sample::select(vec!["Perf", "My_CL", "AzureDiagnostics", "Syslog"]);
        let column = prop_oneof!["[A-Da-d]", "[A-D]_CF", "[a-d]_[sdgbt]", "Computer|Type|é"];
        let fields = prop::collection::btree_map(column, values(), 0..4);
        let record = (name, any::<i64>(), "[a-z]{0,4}", fields).prop_map(
            |(name, time, computer, fields)| {
                let time = Timestamp::from_microsecond(time / 64).unwrap_or_default();
                Record { fields, ..Record::new(name.parse().expect("a name"), time, computer) }
            },
        );
        prop::collection::vec(record, 0..6)
    }

    proptest! {
        #[test]
        fn any_records_are_refused_or_survive_the_log(records in records()) {
            let count = records.len();
            let batch = Batch { producer: "p".into(), sequence: 1, records };
            let Ok(tables) = admit::by_table(batch) else { return Ok(()) };
            let stamp = Stamp { tenant_id: "t".into(), received: Timestamp::UNIX_EPOCH };
            let mut found = 0;
            for (table, mut rows) in tables {
                let schema = TableSchema::initial(&table);
                let Ok(grown) = admit::fit(&schema, &mut rows) else { return Ok(()) };
                let batch = build(&grown.unwrap_or(schema), &rows, &stamp).expect("rows that fit");
                prop_assert_eq!(&survived(&batch), &batch);
                found += batch.num_rows();
            }
            prop_assert_eq!(found, count);
        }
    }
}
