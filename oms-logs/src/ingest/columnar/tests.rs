use super::*;
use crate::ingest::admit::{self, FIELD_BYTES_MAX};
use crate::schema::{COLUMNS_MAX, KQL_TYPE_KEY};
use arrow::array::*;
use arrow::datatypes::{DataType, Int32Type};
use jiff::SignedDuration;
use oms_core::record::{Batch, Value};
use proptest::prelude::*;
use serde_json::json;
use std::collections::HashMap;

fn stamp() -> Stamp {
    Stamp { tenant_id: "t".into(), received: Timestamp::UNIX_EPOCH }
}

fn initial(table: &str) -> TableSchema {
    TableSchema::initial(&table.parse().expect("a name"))
}

fn array(values: impl Array + 'static) -> ArrayRef {
    Arc::new(values)
}

/// Rows with a time each.
fn batch(table: &TableSchema, columns: Vec<(&str, ArrayRef)>) -> RowBatch {
    let rows = columns.first().map_or(1, |(_, array)| array.len());
    let times = array(TimestampSecondArray::from_iter_values(0..rows as i64));
    let all = columns.into_iter().map(|(name, array)| (name, array, true));
    let rows = RecordBatch::try_from_iter_with_nullable(
        std::iter::once((TIME_GENERATED, times, true)).chain(all),
    );
    let (producer, table) = ("p".to_owned(), table.name().clone());
    RowBatch { producer, sequence: 1, table, rows: rows.expect("rows") }
}

/// What `write_rows` makes of a batch: the table's batch, and its schema then.
fn take(schema: &TableSchema, batch: &RowBatch) -> Result<(RecordBatch, TableSchema), Error> {
    let columns = Columns::read(batch)?.expect("rows");
    let known = std::cell::RefCell::new(Arc::new(schema.clone()));
    let built = columns.build(
        &stamp(),
        || Arc::clone(&known.borrow()),
        |_, grown| {
            *known.borrow_mut() = grown;
            true
        },
        |rows| {
            let mut known = known.borrow_mut();
            if let Some(grown) = admit::fit(&known, rows)? {
                *known = Arc::new(grown);
            }
            Ok(Arc::clone(&known))
        },
    )?;
    let schema = TableSchema::clone(&known.borrow());
    Ok((built, schema))
}

fn taken(table: &str, columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let schema = initial(table);
    take(&schema, &batch(&schema, columns)).expect("taken").0
}

fn refusal(table: &str, columns: Vec<(&str, ArrayRef)>) -> String {
    let schema = initial(table);
    take(&schema, &batch(&schema, columns)).expect_err("refused").to_string()
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(column).expect(column).as_string::<i32>();
    column.iter().map(|text| text.map(str::to_owned)).collect()
}

fn some<const N: usize>(texts: [&str; N]) -> Vec<Option<String>> {
    texts.into_iter().map(|text| Some(text.to_owned())).collect()
}

#[test]
fn columns_of_the_table_s_own_types_are_not_copied() {
    let long: StringArray = (0..1_000).map(|n| Some(format!("message number {n}"))).collect();
    let given = batch(&initial("Syslog"), vec![("SyslogMessage", array(long.clone()))]);
    let (built, _) = take(&initial("Syslog"), &given).expect("taken");
    let kept = built.column_by_name("SyslogMessage").expect("there").as_string::<i32>();
    assert_eq!(kept.values().as_ptr(), long.values().as_ptr());
    assert_eq!(texts(&built, COMPUTER), vec![Some(String::new()); 1_000]);
    assert_eq!(texts(&built, TYPE), vec![Some("Syslog".to_owned()); 1_000]);
    assert_eq!(texts(&built, TENANT_ID), vec![Some("t".to_owned()); 1_000]);
}

#[test]
fn a_few_rows_of_many_do_not_keep_the_others_in_memory() {
    let long: StringArray = (0..100_000).map(|n| Some(format!("message number {n}"))).collect();
    let given = batch(&initial("Syslog"), vec![("SyslogMessage", array(long.slice(500, 3)))]);
    let (built, _) = take(&initial("Syslog"), &given).expect("taken");
    assert!(built.get_array_memory_size() < 10_000, "{}", built.get_array_memory_size());
    let expected = some(["message number 500", "message number 501", "message number 502"]);
    assert_eq!(texts(&built, "SyslogMessage"), expected);
}

#[test]
fn every_kind_of_text_is_text() {
    let values = ["a", "b", "a"];
    for text in [
        array(StringArray::from(values.to_vec())),
        array(LargeStringArray::from(values.to_vec())),
        array(StringViewArray::from(values.to_vec())),
        array(values.into_iter().collect::<DictionaryArray<Int32Type>>()),
    ] {
        assert_eq!(texts(&taken("My_CL", vec![("A", text)]), "A"), some(values));
    }
}

#[test]
fn times_of_any_unit_and_zone_become_utc_microseconds() {
    let micros = |column: ArrayRef| {
        let built = taken("My_CL", vec![("At", column)]);
        let kept = built.column_by_name("At").expect("At");
        kept.as_primitive::<TimestampMicrosecondType>().value(0)
    };
    assert_eq!(micros(array(TimestampSecondArray::from(vec![-5]))), -5_000_000);
    assert_eq!(micros(array(TimestampMillisecondArray::from(vec![5]))), 5_000);
    let zoned = TimestampMicrosecondArray::from(vec![7]).with_timezone("+05:00");
    assert_eq!(micros(array(zoned)), 7);
    assert_eq!(micros(array(TimestampNanosecondArray::from(vec![-1]))), -1);
    assert_eq!(micros(array(Date32Array::from(vec![2]))), 2 * 86_400_000_000);
    assert_eq!(micros(array(Date64Array::from(vec![86_400_000]))), 86_400_000_000);
    for far in [i64::MIN, i64::MAX, -62_135_596_801, 253_402_207_201] {
        let message =
            refusal("My_CL", vec![("At", array(TimestampSecondArray::from(vec![0, far])))]);
        assert!(message.contains("years 1 to 9999. record=`1`"), "{message}");
    }
    let first = array(TimestampSecondArray::from(vec![-62_135_596_800, 253_402_207_199]));
    taken("My_CL", vec![("At", first)]);
}

#[test]
fn spans_become_ticks_or_are_refused() {
    let ticks = |column: ArrayRef| {
        let built = taken("My_CL", vec![("Span", column)]);
        let kept = built.column_by_name("Span").expect("Span");
        kept.as_primitive::<arrow::datatypes::Int64Type>().value(0)
    };
    assert_eq!(ticks(array(DurationSecondArray::from(vec![3]))), 30_000_000);
    assert_eq!(ticks(array(DurationNanosecondArray::from(vec![-250]))), -2);
    assert_eq!(ticks(array(Time32MillisecondArray::from(vec![1]))), 10_000);
    let endless = array(DurationSecondArray::from(vec![0, i64::MAX]));
    assert!(refusal("My_CL", vec![("Span", endless)]).contains("64-bit ticks. record=`1`"));
}

#[test]
fn numbers_fit_without_loss_or_not_at_all() {
    let longs = |values: &[i64]| array(Int64Array::from(values.to_vec()));
    let message = refusal("Perf", vec![("SampleCount", longs(&[1, 1 << 31, 2, 1 << 40]))]);
    assert_eq!(
        message,
        "record refused: column is int, and the value is long and does not fit into it. \
         record=`1`, type=`Perf`, column=`SampleCount`"
    );
    assert_eq!(taken("Perf", vec![("SampleCount", longs(&[1, 2]))]).num_rows(), 2);
    assert!(refusal("Perf", vec![("CounterValue", longs(&[(1 << 53) + 1]))]).contains("is real"));
    taken("Perf", vec![("CounterValue", longs(&[1 << 53, -(1 << 53)]))]);
    taken("Perf", vec![("CounterValue", array(UInt8Array::from(vec![1])))]);
    taken("Perf", vec![("CounterValue", array(Float32Array::from(vec![0.5])))]);
    let large = array(UInt64Array::from(vec![1, u64::MAX]));
    assert!(refusal("My_CL", vec![("N", large)]).contains("larger than a long holds. record=`1`"));
    assert!(refusal("Perf", vec![("InstanceName", longs(&[1]))]).contains("is string"));
}

#[test]
fn guids_and_decimals_are_checked_and_dynamic_is_canonical() {
    let schema = initial("My_CL").with_columns([
        Column { name: "Id".into(), column_type: ColumnType::Guid },
        Column { name: "Sum".into(), column_type: ColumnType::Decimal },
        Column { name: "Bag".into(), column_type: ColumnType::Dynamic },
    ]);
    let take = |column: &str, values: &[&str]| {
        let column = (column, array(StringArray::from(values.to_vec())));
        take(&schema, &batch(&schema, vec![column])).map(|(built, _)| built)
    };
    let id = "6F9619FF-8B86-D011-B42D-00CF4FC964FF";
    let lower = id.to_ascii_lowercase();
    let built = take("Id", &[id, &lower]).expect("guids");
    assert_eq!(texts(&built, "Id"), some([&lower, &lower]));
    let message = take("Id", &[id, "none"]).expect_err("refused").to_string();
    assert!(message.contains("column is guid, and the value is string"), "{message}");
    assert!(message.contains("record=`1`"), "{message}");
    let built = take("Sum", &["-1.50", "3"]).expect("decimals");
    assert_eq!(texts(&built, "Sum"), some(["-1.50", "3"]));
    assert!(take("Sum", &["1", "1e5"]).is_err());
    let built = take("Bag", &[r#"{ "b": 1, "a": [ ] }"#, "null"]).expect("JSON");
    assert_eq!(texts(&built, "Bag"), some([r#"{"a":[],"b":1}"#, "null"]));
    let message = take("Bag", &["1", "{"]).expect_err("refused").to_string();
    assert!(message.contains("is not JSON") && message.contains("record=`1`"), "{message}");
    let deep = "[".repeat(65) + &"]".repeat(65);
    assert!(take("Bag", &[&deep]).expect_err("deep").to_string().contains("nested deeper"));
}

#[test]
fn nested_columns_and_binary_guids_are_taken() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    let built = taken("My_CL", vec![("L", array(list))]);
    assert_eq!(texts(&built, "L"), [Some("[1,null]".into()), None, Some("[]".into())]);
    let id = uuid::Uuid::from_u128(7);
    let binary = FixedSizeBinaryArray::try_from_iter([id.as_bytes()].into_iter()).expect("ids");
    let built = taken("My_CL", vec![("Id", array(binary))]);
    assert_eq!(texts(&built, "Id"), some([id.to_string().as_str()]));
    let sum = Decimal128Array::from(vec![-1_250]).with_precision_and_scale(10, 2).expect("ok");
    assert_eq!(texts(&taken("My_CL", vec![("Sum", array(sum))]), "Sum"), some(["-12.50"]));
    let message = refusal("My_CL", vec![("B", array(BinaryArray::from(vec![b"x".as_slice()])))]);
    assert!(message.contains("is Binary, which no table holds"), "{message}");
}

#[test]
fn what_a_batch_lacks_or_has_twice_is_told() {
    let schema = initial("My_CL");
    let rows = |columns: Vec<(&str, ArrayRef)>| {
        let rows = RecordBatch::try_from_iter(columns).expect("rows");
        let (producer, table) = ("p".to_owned(), schema.name().clone());
        RowBatch { producer, sequence: 1, table, rows }
    };
    let told = |batch: &RowBatch| take(&schema, batch).expect_err("refused").to_string();
    let time = |values: Vec<Option<i64>>| array(TimestampSecondArray::from(values));
    let one = || array(StringArray::from(vec!["x"]));
    assert!(told(&rows(vec![("A", one())])).contains("is missing"));
    let gap = rows(vec![(TIME_GENERATED, time(vec![Some(1), None]))]);
    assert!(told(&gap).contains("has no value. record=`1`"));
    let twice = rows(vec![(TIME_GENERATED, time(vec![Some(1)])), ("A", one()), ("A", one())]);
    assert!(told(&twice).contains("is there twice"));
    let text = rows(vec![(TIME_GENERATED, one())]);
    assert!(told(&text).contains("column is datetime, and the value is string"));
    for own in OWN_COLUMNS.into_iter().filter(|own| ![TIME_GENERATED, COMPUTER].contains(own)) {
        let batch = rows(vec![(TIME_GENERATED, time(vec![Some(1)])), (own, one())]);
        assert!(told(&batch).contains("fills this column itself"), "{own}");
    }
    let mut nameless = rows(vec![(TIME_GENERATED, time(vec![Some(1)]))]);
    nameless.producer.clear();
    assert!(told(&nameless).contains("producer has not"));
    let none = rows(vec![(TIME_GENERATED, time(vec![]))]);
    assert!(Columns::read(&none).expect("taken").is_none());
}

#[test]
fn the_first_row_at_fault_is_told() {
    let early = array(Int64Array::from(vec![Some(1), Some(1 << 40), None]));
    let late = array(StringArray::from(vec![None, None, Some("high")]));
    let message = refusal("Perf", vec![("CounterValue", late), ("SampleCount", early)]);
    assert!(message.contains("record=`1`, type=`Perf`, column=`SampleCount`"), "{message}");
}

#[test]
fn sizes_are_limited_before_anything_is_copied() {
    let long = "x".repeat(FIELD_BYTES_MAX + 1);
    let text = array(StringArray::from(vec!["short", &long]));
    let message = refusal("My_CL", vec![("A", text)]);
    assert!(message.contains("longer than 1048576 bytes. record=`1`"), "{message}");
    // A dictionary and views of one text stand for a hundred gigabytes.
    let text = "x".repeat(FIELD_BYTES_MAX);
    let values: ArrayRef = array(StringArray::from(vec![text.as_str()]));
    let keys = Int32Array::from(vec![0; 100_000]);
    let dictionary = DictionaryArray::new(keys, Arc::clone(&values));
    let view = StringViewArray::from(vec![text.as_str()]);
    let (views, buffers) = (vec![view.views()[0]; 100_000], view.data_buffers().to_vec());
    let views = StringViewArray::new(views.into(), buffers, None);
    for many in [array(dictionary), array(views)] {
        let message = refusal("My_CL", vec![("A", many)]);
        assert!(message.contains("more than 67108864 bytes"), "{message}");
    }
    let half = array(StringArray::from(vec!["x".repeat(FIELD_BYTES_MAX).as_str(); 40]));
    let message = refusal("My_CL", vec![("A", Arc::clone(&half)), ("B", half)]);
    assert!(message.contains("batch refused: more than 67108864 bytes"), "{message}");
}

#[test]
fn a_full_diagnostics_table_moves_columns_into_a_bag() {
    let table = initial("AzureDiagnostics");
    let more = (table.columns().len()..COLUMNS_MAX - 1)
        .map(|at| Column { name: format!("c{at}_s"), column_type: ColumnType::String });
    let full = table.with_columns(more);
    let columns = vec![
        ("c100_s", array(StringArray::from(vec![Some("kept"), None]))),
        ("jobs_d", array(Float64Array::from(vec![None, Some(4.0)]))),
    ];
    let (built, grown) = take(&full, &batch(&full, columns)).expect("taken");
    assert_eq!(texts(&built, "AdditionalFields"), [None, Some(r#"{"jobs_d":4.0}"#.into())]);
    assert_eq!(texts(&built, "c100_s"), [Some("kept".into()), None]);
    assert_eq!(grown.columns().len(), COLUMNS_MAX);
}

#[test]
fn columns_are_fitted_again_when_the_table_grew_meanwhile() {
    let schema = initial("My_CL");
    let given = batch(&schema, vec![("A", array(Int32Array::from(vec![1])))]);
    let columns = Columns::read(&given).expect("taken").expect("rows");
    let other = Column { name: "A".into(), column_type: ColumnType::Long };
    let grown = Arc::new(schema.with_columns([other]));
    let mut schemas = vec![Arc::clone(&grown), Arc::new(schema)];
    let built = columns.build(
        &stamp(),
        || schemas.pop().expect("asked twice"),
        |_, _| false,
        |_| unreachable!("the table is not full"),
    );
    let built = built.expect("taken");
    let kept = built.column_by_name("A").expect("A");
    assert_eq!(kept.data_type(), &DataType::Int64);
}

/// A column of a test: its values in both forms.
#[derive(Clone, Debug)]
struct Both {
    name: String,
    values: Vec<Option<Value>>,
}

impl Both {
    fn field_and_array(&self) -> (Field, ArrayRef) {
        let kind = self.values.iter().flatten().find_map(ColumnType::of).expect("a value");
        let values = || self.values.iter().map(Option::as_ref);
        macro_rules! of {
            ($array:ident, $variant:ident, $value:ident => $out:expr) => {
                array($array::from_iter(values().map(|value| match value {
                    Some(Value::$variant($value)) => Some($out),
                    _ => None,
                })))
            };
        }
        let array = match kind {
            ColumnType::Bool => of!(BooleanArray, Bool, flag => *flag),
            ColumnType::Int => of!(Int32Array, Int, number => *number),
            ColumnType::Long => of!(Int64Array, Long, number => *number),
            ColumnType::Real => of!(Float64Array, Real, number => *number),
            ColumnType::String => of!(StringViewArray, String, text => text),
            ColumnType::DateTime => {
                of!(TimestampMicrosecondArray, DateTime, at => microseconds(*at))
            }
            ColumnType::TimeSpan => {
                of!(Int64Array, TimeSpan, span => i64::try_from(span.as_nanos() / 100).expect("fits"))
            }
            ColumnType::Guid => {
                of!(StringArray, Guid, id => id.simple().to_string().to_uppercase())
            }
            _ => of!(LargeStringArray, Dynamic, json => json.to_string()),
        };
        let named = HashMap::from([(KQL_TYPE_KEY.to_owned(), kind.to_string())]);
        (Field::new(&self.name, array.data_type().clone(), true).with_metadata(named), array)
    }
}

fn values(kind: u8, rows: usize) -> impl Strategy<Value = Vec<Option<Value>>> {
    let time = (-62_135_596_800_000_000_i64..253_402_207_200_000_000)
        .prop_map(|at| Timestamp::from_microsecond(at).expect("in range").into());
    let value: BoxedStrategy<Value> = match kind {
        0 => any::<bool>().prop_map(Value::from).boxed(),
        1 => any::<i32>().prop_map(Value::from).boxed(),
        2 => (any::<i64>(), 0..64).prop_map(|(number, less)| Value::from(number >> less)).boxed(),
        3 => any::<f64>().prop_map(Value::from).boxed(),
        4 => ".{0,5}|[0-9]{1,3}|[a-f0-9]{32}".prop_map(Value::from).boxed(),
        5 => time.boxed(),
        6 => any::<i64>()
            .prop_map(|nanos| SignedDuration::from_nanos(nanos / 100 * 100).into())
            .boxed(),
        7 => any::<u128>().prop_map(|bits| uuid::Uuid::from_u128(bits).into()).boxed(),
        _ => prop::sample::select(vec![json!({"b": [1, null], "a": "\u{1}"}), json!(1.5)])
            .prop_map(Value::from)
            .boxed(),
    };
    prop::collection::vec(prop::option::of(value), rows)
}

/// Rows of one table in both forms.
fn rows() -> impl Strategy<Value = (TableSchema, Vec<Record>, RowBatch)> {
    let table = prop::sample::select(vec!["Perf", "My_CL", "AzureDiagnostics", "Full"]);
    (table, 1_usize..6).prop_flat_map(|(table, rows)| {
        let name = "[A-Ca-c]|[A-D]_CF|CounterValue|SampleCount|InstanceName|BucketEndTime|Bag|Id|\
                    Sum|Span|TenantId|Type|é|AdditionalFields";
        let column =
            (name, 0_u8..9).prop_flat_map(move |(name, kind)| (Just(name), values(kind, rows)));
        let columns = prop::collection::vec(column, 0..6);
        let times = prop::collection::vec(0_i64..1_000_000_000_000, rows);
        (Just(table), columns, times, prop::collection::vec("[a-c]{0,2}", rows))
            .prop_map(|(table, columns, times, computers)| both(table, columns, &times, &computers))
    })
}

fn both(
    table: &str,
    columns: Vec<(String, Vec<Option<Value>>)>,
    times: &[i64],
    computers: &[String],
) -> (TableSchema, Vec<Record>, RowBatch) {
    let schema = match table {
        // One place is left, and none after that.
        "Full" => {
            let table = initial("AzureDiagnostics");
            let more = (table.columns().len()..COLUMNS_MAX - 2)
                .map(|at| Column { name: format!("c{at}_s"), column_type: ColumnType::String });
            table.with_columns(more)
        }
        "My_CL" => initial(table).with_columns([
            Column { name: "Bag".into(), column_type: ColumnType::Dynamic },
            Column { name: "Id".into(), column_type: ColumnType::Guid },
            Column { name: "Sum".into(), column_type: ColumnType::Decimal },
            Column { name: "Span".into(), column_type: ColumnType::TimeSpan },
        ]),
        table => initial(table),
    };
    let mut seen = BTreeSet::new();
    let columns: Vec<Both> = columns
        .into_iter()
        .filter(|(name, _)| seen.insert(name.clone()))
        .map(|(name, values)| Both { name, values })
        .collect();
    let mut records = Vec::new();
    for (row, (&at, computer)) in times.iter().zip(computers).enumerate() {
        let time = Timestamp::from_microsecond(at).expect("in range");
        let mut record = Record::new(schema.name().clone(), time, computer.as_str());
        for Both { name, values } in &columns {
            if let Some(value) = &values[row] {
                record.fields.insert(name.clone(), value.clone());
            }
        }
        records.push(record);
    }
    let times = array(TimestampMicrosecondArray::from(times.to_vec()));
    let computers = array(StringArray::from(computers.to_vec()));
    let (mut fields, mut arrays): (Vec<_>, Vec<_>) = columns
        .iter()
        .filter(|column| column.values.iter().any(Option::is_some))
        .map(Both::field_and_array)
        .unzip();
    fields.push(Field::new(TIME_GENERATED, times.data_type().clone(), false));
    fields.push(Field::new(COMPUTER, DataType::Utf8, true));
    arrays.extend([times, computers]);
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("rows");
    let (producer, table) = ("p".to_owned(), schema.name().clone());
    (schema, records, RowBatch { producer, sequence: 1, table, rows })
}

/// What `write` makes of records.
fn by_records(
    schema: &TableSchema,
    records: Vec<Record>,
) -> Result<(RecordBatch, TableSchema), Error> {
    let batch = Batch { producer: "p".into(), sequence: 1, records };
    let mut tables = admit::by_table(batch)?;
    let mut rows = tables.remove(schema.name()).expect("rows");
    let schema = admit::fit(schema, &mut rows)?.unwrap_or_else(|| schema.clone());
    Ok((build(&schema, &rows, &stamp())?, schema))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn columns_become_what_their_rows_would_as_records((schema, records, batch) in rows()) {
        match (by_records(&schema, records), take(&schema, &batch)) {
            (Ok((by_records, grown)), Ok((by_columns, grown_too))) => {
                prop_assert_eq!(grown.columns(), grown_too.columns());
                prop_assert_eq!(by_records, by_columns);
            }
            (Err(by_records), Err(by_columns)) => {
                prop_assert_eq!(by_records.to_string(), by_columns.to_string());
            }
            (one, other) => {
                prop_assert!(false, "by records {one:?}, by columns {other:?}");
            }
        }
    }
}
