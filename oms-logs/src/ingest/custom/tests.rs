use super::*;
use crate::Error;
use crate::schema::{ADDITIONAL_FIELDS, COLUMNS_MAX, COMPUTER, Column, ColumnType, TableSchema};
use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const RECEIVED: &str = "2026-11-23T12:00:00Z";

fn received() -> Timestamp {
    RECEIVED.parse().expect("a time")
}

fn post(records: impl Into<Bytes>) -> Post {
    Post {
        table: "App_CL".parse().expect("a name"),
        records: records.into(),
        time_property: None,
        resource_id: None,
    }
}

/// A table that grows.
struct Table(TableSchema);

impl Table {
    fn new() -> Self {
        Self(TableSchema::initial(&"App_CL".parse().expect("a name")))
    }

    /// One with so many columns.
    fn of(columns: usize) -> Self {
        let Self(initial) = Self::new();
        let more = (initial.columns().len()..columns)
            .map(|at| Column { name: format!("filler{at}_s"), column_type: ColumnType::String });
        Self(initial.with_columns(more))
    }

    fn with(columns: &[(&str, ColumnType)]) -> Self {
        let more = columns
            .iter()
            .map(|&(name, column_type)| Column { name: name.to_owned(), column_type });
        Self(Self::new().0.with_columns(more))
    }

    fn try_take(&mut self, post: &Post) -> Result<(Vec<Value>, BTreeMap<String, u64>), Error> {
        let Taken { rows, grown, changes } = post.read(&self.0, received())?;
        if let Some(grown) = grown {
            self.0 = grown;
        }
        assert_eq!(post.count().expect("they are records"), rows.num_rows());
        Ok((shown(&rows), changes))
    }

    fn take(&mut self, records: &Value) -> Vec<Value> {
        self.try_take(&post(records.to_string())).expect("taken").0
    }

    fn refusal(&mut self, records: &Value) -> String {
        self.try_take(&post(records.to_string())).expect_err("refused").to_string()
    }
}

/// Rows as JSON, without what each has of itself.
fn shown(rows: &RecordBatch) -> Vec<Value> {
    let mut shown = vec![serde_json::Map::new(); rows.num_rows()];
    for (field, array) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        if ["TimeGenerated", "SourceSystem"].contains(&field.name().as_str()) {
            assert_eq!(array.null_count(), 0);
            continue;
        }
        for (row, shown) in shown.iter_mut().enumerate().filter(|(row, _)| array.is_valid(*row)) {
            let value = match array.data_type() {
                DataType::Boolean => array.as_boolean().value(row).into(),
                DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
                DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
                DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
                DataType::Timestamp(..) => {
                    let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                    Timestamp::from_microsecond(micros).expect("in range").to_string().into()
                }
                _ if field.name() == ADDITIONAL_FIELDS => {
                    serde_json::from_str(array.as_string::<i32>().value(row)).expect("JSON")
                }
                _ => array.as_string::<i32>().value(row).into(),
            };
            if field.name() != COMPUTER || value != json!("") {
                shown.insert(field.name().clone(), value);
            }
        }
    }
    shown.into_iter().map(Value::Object).collect()
}

/// The record of the documentation's sample.
#[test]
fn a_suffix_says_what_a_value_is() {
    let records = json!([{
        "StringValue": "MyString1",
        "NumberValue": 42,
        "BooleanValue": true,
        "DateValue": "2019-09-12T20:00:00.625Z",
        "GUIDValue": "9909ED01A74C48748ABFD2678E3AE23D",
        "NullValue": null,
        "List": [1, {"a": "b"}],
    }]);
    let expected = json!({
        "StringValue_s": "MyString1",
        "NumberValue_d": 42.0,
        "BooleanValue_b": true,
        "DateValue_t": "2019-09-12T20:00:00.625Z",
        "GUIDValue_g": "9909ed01-a74c-4874-8abf-d2678e3ae23d",
        "List_s": r#"[1,{"a":"b"}]"#,
    });
    let mut table = Table::new();
    // One record without an array around it, too.
    for records in [&records, &records[0]] {
        assert_eq!(table.take(records)[0], expected);
    }
    let kinds = ["StringValue_s", "BooleanValue_b", "NumberValue_d", "DateValue_t", "GUIDValue_g"]
        .map(|name| table.0.column(name).expect(name).column_type);
    assert_eq!(kinds, super::super::super::schema::infer::SUFFIXES.map(|(kind, _)| kind));
    assert!(table.0.column("NullValue_s").is_none());
}

/// The four submissions of the documentation.
#[test]
fn a_value_goes_into_a_column_that_is_there_if_it_can_be_converted() {
    let mut table = Table::new();
    let first = json!([{"number": 42, "boolean": true, "string": "text"}]);
    let columns = json!({"number_d": 42.0, "boolean_b": true, "string_s": "text"});
    assert_eq!(table.take(&first)[0], columns);
    let quoted = json!([{"number": "42", "boolean": "True", "string": "text"}]);
    assert_eq!(table.take(&quoted), [columns]);
    let numbers = json!([{"number": 42, "boolean": 1, "string": 2}]);
    let new = json!({"number_d": 42.0, "boolean_d": 1.0, "string_d": 2.0});
    assert_eq!(table.take(&numbers), [new]);
    let strings = json!({"number_s": "42", "boolean_s": "True", "string_s": "text"});
    assert_eq!(Table::new().take(&quoted), [strings]);
}

#[test]
fn text_is_converted_only_where_nothing_is_lost() {
    let mut table = Table::new();
    table.take(&json!({"a": 1, "b": true, "c": "2019-09-12T20:00:00Z", "d": "x"}));
    table.take(&json!({"e": "8145d822-13a7-44ad-859c-36f31a84f6dd"}));
    let told = table.take(&json!([
        {"a": "-1.5e3", "b": "FALSE", "c": "2019-09-12T22:00:00+02:00"},
        {"a": "9007199254740993", "b": "yes", "c": "yesterday"},
        {"a": "inf", "b": "", "c": "2019-09-12"},
        {"a": "0x1", "d": "2019-09-12T20:00:00Z", "e": "8145d82213a744ad859c36f31a84f6dd"},
        {"a": " 1", "d": "8145d82213a744ad859c36f31a84f6dd", "e": "none"},
        // Both columns are there: a value stays what it is.
        {"a": "43"},
        {"a": 43},
    ]));
    assert_eq!(
        told,
        [
            json!({"a_d": -1500.0, "b_b": false, "c_t": "2019-09-12T20:00:00Z"}),
            json!({"a_s": "9007199254740993", "b_s": "yes", "c_s": "yesterday"}),
            json!({"a_s": "inf", "b_s": "", "c_s": "2019-09-12"}),
            json!({"a_s": "0x1", "d_s": "2019-09-12T20:00:00Z", "e_g": "8145d822-13a7-44ad-859c-36f31a84f6dd"}),
            json!({"a_s": " 1", "d_s": "8145d82213a744ad859c36f31a84f6dd", "e_s": "none"}),
            json!({"a_s": "43"}),
            json!({"a_d": 43.0}),
        ]
    );
}

/// A column that another way in made has the name, and holds something else.
#[test]
fn a_name_that_is_taken_by_another_type_is_used_for_what_it_holds() {
    let mut table = Table::with(&[
        ("Level_s", ColumnType::Long),
        ("Count_d", ColumnType::Int),
        ("Any_s", ColumnType::Dynamic),
    ]);
    let told = table.take(&json!([
        {"level": "7", "Count": 3, "Any": "x"},
        {"Level": "high", "Count": 0.5},
    ]));
    let first = json!({"Level_s": 7, "Count_d": 3, "Any_s": "\"x\""});
    let second = json!({ADDITIONAL_FIELDS: {"Level_s": "high", "Count_d": 0.5}});
    assert_eq!(told, [first, second]);
    assert!(table.0.column("Level_d").is_none());
}

#[test]
fn a_full_table_keeps_the_rest_in_its_bag() {
    let mut table = Table::of(COLUMNS_MAX - 2);
    let told = table.take(&json!([
        {"a": "first", "b": 7, "c": true, "d": [1], "id": "8145d82213a744ad859c36f31a84f6dd"},
        {"a": 1, "b": "7", "big": 9_007_199_254_740_993_i64, "at": "2019-09-12T20:00:00Z"},
    ]));
    assert_eq!(table.0.columns().len(), COLUMNS_MAX);
    let first = json!({
        "a_s": "first",
        ADDITIONAL_FIELDS: {
            "b_d": 7, "c_b": true, "d_s": "[1]", "id_g": "8145d822-13a7-44ad-859c-36f31a84f6dd",
        },
    });
    let second = json!({ADDITIONAL_FIELDS: {
        "a_d": 1, "b_s": "7", "big_d": 9_007_199_254_740_992.0, "at_t": "2019-09-12T20:00:00Z",
    }});
    assert_eq!(told, [first, second]);
    // Text still goes into the columns that there are.
    assert_eq!(table.take(&json!({"a": "more"})), [json!({"a_s": "more"})]);
    let mut filled = Table::of(COLUMNS_MAX);
    assert!(filled.refusal(&json!({"a": 1})).contains("has its 500 columns already"));
    assert_eq!(filled.take(&json!({"filler20": "x"})), [json!({"filler20_s": "x"})]);
}

#[test]
fn refusals_name_the_record_and_the_property() {
    let mut table = Table::new();
    let cases = [
        (
            json!([{"a": 1}, {"TimeGenerated": "x"}]),
            "the name is reserved. record=`1`",
            "TimeGenerated",
        ),
        (json!([{"tenant": null}]), "the name is reserved. record=`0`", "tenant"),
        (json!([{"a": 1}, {"a": 1}, {"x".repeat(44): 1}]), "longer than 45 bytes", "xxx"),
        (json!([{"Host": 1, "host": 2}]), "twice", "host"),
        (json!([{"": 1}]), "no name", ""),
    ];
    for (records, reason, property) in cases {
        let message = table.refusal(&records);
        assert!(message.contains(reason) && message.contains("type=`App_CL`"), "{message}");
        assert!(message.contains(&format!("column=`{property}")), "{message}");
    }
    let twice = table.try_take(&post(r#"[{"a":1,"a":2}]"#)).expect_err("refused").to_string();
    assert!(twice.contains("twice"), "{twice}");
    for (text, reason) in [
        ("", "neither an array of records nor a record"),
        ("3", "neither an array of records nor a record"),
        ("[{}, 3]", "record 1 is not an object"),
        ("[{\"a\":}]", "line 1 column 7"),
        ("[{}", "line 1 column 3"),
        ("{} {}", "trailing characters"),
        ("[{}]]", "trailing characters"),
    ] {
        let refused = post(text).count().expect_err(text);
        assert!(refused.contains(reason), "{text}: {refused}");
    }
    assert!(post(&b"[{\"a\":\"\xff\"}]"[..]).count().expect_err("no text").contains("byte 7"));
    let many = vec!["{}"; RECORDS_MAX + 1].join(",");
    assert!(post(format!("[{many}]")).count().expect_err("too many").contains("1000000"));
    let wide: serde_json::Map<_, _> =
        (0..=PROPERTIES_MAX).map(|at| (format!("p{at}"), Value::Null)).collect();
    assert!(table.refusal(&Value::Object(wide)).contains("more than 10000 properties"));
    let perf = Post { table: "Perf".parse().expect("a name"), ..post("[]") };
    assert!(perf.check_table().expect_err("no custom table").contains("Perf"));
}

#[test]
fn records_times_columns_have_a_limit() {
    let wide: serde_json::Map<_, _> = (0..600).map(|at| (format!("p{at}"), json!(1))).collect();
    let mut text = format!("[{}", Value::Object(wide));
    text.push_str(&",{\"p\":1}".repeat(CELLS_MAX / 490));
    text.push(']');
    let refused = Table::new().try_take(&post(text)).expect_err("too many").to_string();
    assert!(refused.contains("more than 16000000") && refused.contains("record=`32"), "{refused}");
}

#[test]
fn what_is_cut_or_does_not_fit_a_number_is_told() {
    let long = "ä".repeat(TEXT_BYTES_MAX / 2 + 1);
    let nested = format!("[\"{}\"]", "x".repeat(TEXT_BYTES_MAX));
    let records = format!(
        r#"[{{"a":"{long}","b":{nested},"c":9007199254740993,"d":1e999,"e":1.0000000000000001}},
            {{"a":"\u00e4{long}","c":123456789012345678901234567890}}]"#
    );
    let (rows, changes) = Table::new().try_take(&post(records)).expect("taken");
    assert_eq!(rows[0]["a_s"].as_str().map(str::len), Some(TEXT_BYTES_MAX));
    assert_eq!(rows[1]["a_s"].as_str().map(str::len), Some(TEXT_BYTES_MAX));
    assert_eq!(rows[0]["b_s"].as_str().map(str::len), Some(TEXT_BYTES_MAX));
    assert_eq!(rows[0]["c_d"], 9_007_199_254_740_992.0);
    assert_eq!(rows[0]["d_s"], "1e999");
    assert_eq!(rows[0]["e_d"], 1.0);
    let told: Vec<_> = changes.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    assert_eq!(
        told,
        [
            ("a number of `c` has more digits than a real", 2),
            ("a text of `a` was cut to 32768 bytes", 2),
            ("a text of `b` was cut to 32768 bytes", 1),
        ]
    );
}

#[test]
fn a_property_gives_the_time_if_it_is_not_old() {
    let records = r#"[
        {"at": "2026-11-23T11:00:00Z"}, {"at": "2026-11-21T12:00:00Z"},
        {"at": "2026-11-21T11:59:59Z"}, {"at": 1}, {}, {"at": "2026-12-01T00:00:00Z"}]"#;
    let with_time = Post { time_property: Some("at".to_owned()), ..post(records) };
    let Table(schema) = Table::new();
    let Taken { rows, changes, .. } = with_time.read(&schema, received()).expect("taken");
    let times = rows.column_by_name("TimeGenerated").expect("each has one");
    let times: Vec<String> = times
        .as_primitive::<TimestampMicrosecondType>()
        .values()
        .iter()
        .map(|micros| Timestamp::from_microsecond(*micros).expect("in range").to_string())
        .collect();
    assert_eq!(
        times,
        [
            "2026-11-23T11:00:00Z",
            "2026-11-21T12:00:00Z",
            RECEIVED,
            RECEIVED,
            RECEIVED,
            "2026-12-01T00:00:00Z"
        ]
    );
    assert_eq!(changes.values().collect::<Vec<_>>(), [&2, &1], "{changes:?}");
    // It is a column as any other, too.
    assert_eq!(shown(&rows)[0]["at_t"], "2026-11-23T11:00:00Z");
    let untold = post(records).read(&schema, received()).expect("taken");
    assert!(untold.changes.is_empty());
}

#[test]
fn each_record_has_its_source_resource_and_computer() {
    let with_id = Post {
        resource_id: Some("/subscriptions/s/x".to_owned()),
        ..post(r#"[{"Computer": "web-1"}, {"computer": 5}]"#)
    };
    let Table(schema) = Table::new();
    let rows = with_id.read(&schema, received()).expect("taken").rows;
    let told = shown(&rows);
    let id = "/subscriptions/s/x";
    let first = json!({"Computer": "web-1", "Computer_s": "web-1", "_ResourceId": id});
    assert_eq!(told, [first, json!({"Computer_d": 5.0, "_ResourceId": id})]);
    let source = rows.column_by_name("SourceSystem").expect("each has one");
    assert_eq!(source.as_string::<i32>().value(1), SOURCE_SYSTEM);
}

/// A value of a record, and how a table shows it: a column's suffix and what is there, text first where
/// another column of the property may take it.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1_000_i32..1_000).prop_map(Value::from),
        (-1e9..1e9).prop_map(|real: f64| json!(real)),
        "[a-c\"\\\\ä]{0,3}".prop_map(Value::from),
        (-50..50).prop_map(|number: i32| json!(number.to_string())),
        prop::sample::select(vec![
            json!("true"),
            json!("False"),
            json!("2026-11-23T10:00:00Z"),
            json!("8145d82213a744ad859c36f31a84f6dd"),
            json!([1, null]),
            json!({"a": {"b": []}}),
        ]),
    ]
}

fn records() -> impl Strategy<Value = Vec<serde_json::Map<String, Value>>> {
    let names = prop::sample::select(vec!["a", "A", "b", "c d", "c_d", "@e", "7", "Computer"]);
    let record = prop::collection::btree_map(names, value(), 0..5);
    let record =
        record.prop_map(|it| it.into_iter().map(|(name, it)| (name.to_owned(), it)).collect());
    prop::collection::vec(record, 1..6)
}

/// What a stored value says of the one that came.
fn says(name: &str, stored: &Value, given: &Value) -> bool {
    let text = match given {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let plain = |text: &str| text.replace('-', "").to_lowercase();
    match name.rsplit_once('_').map(|(_, suffix)| suffix) {
        Some("s") => stored == &json!(text),
        Some("g") => stored.as_str().map(plain) == Some(plain(&text)) && text.len() >= 32,
        Some("b") => stored.to_string().eq_ignore_ascii_case(&text),
        Some("d") => text.parse::<f64>().ok().is_some_and(|real| stored.as_f64() == Some(real)),
        Some("t") => {
            let time = |text: &str| text.parse::<Timestamp>().ok();
            stored.as_str().and_then(time) == time(&text) && time(&text).is_some()
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Every value that is not null is found in exactly one column of its property, or in the bag, as a
    /// table grows and when it is full.
    #[test]
    fn no_value_is_lost(
        posts in prop::collection::vec(records(), 1..5),
        columns in prop::sample::select(vec![0, COLUMNS_MAX - 3, COLUMNS_MAX - 1]),
    ) {
        let mut table = Table::of(columns);
        for given in posts {
            let text = serde_json::to_string(&given).expect("JSON");
            let lower = |name: &String| {
                crate::schema::infer::base_of(name).expect("a name").to_ascii_lowercase()
            };
            let is_twice = given.iter().any(|record| {
                let mut seen = BTreeSet::new();
                record.iter().any(|(name, it)| !it.is_null() && !seen.insert(lower(name)))
            });
            let taken = table.try_take(&post(text));
            if is_twice {
                prop_assert!(taken.is_err());
                continue;
            }
            let (rows, changes) = taken.expect("taken");
            prop_assert!(changes.is_empty());
            prop_assert!(table.0.columns().len() <= COLUMNS_MAX);
            for (record, mut row) in given.iter().zip(rows) {
                let row = row.as_object_mut().expect("an object");
                let bag = row.remove(ADDITIONAL_FIELDS);
                let bag = bag.and_then(|bag| bag.as_object().cloned()).unwrap_or_default();
                row.remove(COMPUTER);
                let mut stored: Vec<(String, Value)> =
                    row.iter().chain(&bag).map(|(name, it)| (name.clone(), it.clone())).collect();
                for (name, it) in record.iter().filter(|(_, it)| !it.is_null()) {
                    let base = lower(name);
                    let at = stored.iter().position(|(column, _)| {
                        column.len() == base.len() + 2
                            && column.to_ascii_lowercase().starts_with(&base)
                    });
                    let at = at.ok_or_else(|| {
                        TestCaseError::fail(format!("`{name}` is not in {stored:?}"))
                    })?;
                    let (column, kept) = stored.swap_remove(at);
                    prop_assert!(says(&column, &kept, it), "{column} {kept} {it}");
                }
                prop_assert!(stored.is_empty(), "{stored:?}");
            }
        }
    }

    #[test]
    fn any_bytes_are_records_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let given = post(bytes);
        if given.count().is_ok() {
            let _ = given.read(&Table::new().0, received());
        }
    }
}
