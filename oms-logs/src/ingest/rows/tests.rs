//! Every format on right and wrong rows.

use super::*;
use ::parquet::arrow::ArrowWriter;
use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, Float32Array, Int64Array, ListArray, StringArray,
    StructArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type};
use arrow::record_batch::RecordBatch;
use oms_core::record::RecordType;
use proptest::prelude::*;
use serde_json::json;
use std::io::Seek as _;
use std::sync::Arc;

fn target(table: &str) -> RowTarget {
    let table: RecordType = table.parse().expect("a name");
    let now = "2026-01-02T00:00:00Z".parse().expect("a time");
    RowTarget { schema: TableSchema::initial(&table), computer: "here".into(), now }
}

fn read(format: RowFormat, table: &str, text: &str) -> Vec<(u64, Result<Record, String>)> {
    let input = io::Cursor::new(text.as_bytes().to_vec());
    let rows = RowReader::new(format, input, target(table)).expect("it begins well");
    rows.map(|row| row.expect("it reads on")).map(|row| (row.number, row.record)).collect()
}

fn records(format: RowFormat, table: &str, text: &str) -> Vec<Record> {
    let rows = read(format, table, text);
    rows.into_iter()
        .map(|(number, record)| record.unwrap_or_else(|e| panic!("{number}: {e}")))
        .collect()
}

#[test]
fn json_lines_become_records_and_wrong_ones_say_why() {
    let text = "\u{feff}{\"TimeGenerated\":\"2026-01-02T03:04:05Z\",\"Computer\":\"pc\",\"A\":1,\"B\":1.5,\"C\":\"x\",\"D\":null,\"E\":[1]}\n\
        \n{\n[1]\n{\"TimeGenerated\":\"soup\"}\n{\"TimeGenerated\":7}\n{\"A\":2.5,\"Type\":\"T_CL\"}\n";
    let rows = read(RowFormat::Ndjson, "T_CL", text);
    let first = rows[0].1.as_ref().expect("a record");
    assert_eq!((rows[0].0, first.computer.as_str(), first.fields.len()), (1, "pc", 4));
    assert_eq!(first.time.to_string(), "2026-01-02T03:04:05Z");
    assert_eq!(first.fields["E"], Value::Dynamic(json!([1])));
    // There are fractions in the column.
    assert_eq!(first.fields["A"], Value::Real(1.0));
    let wrong: Vec<u64> = rows.iter().filter(|row| row.1.is_err()).map(|row| row.0).collect();
    assert_eq!(wrong, [3, 4, 5, 6]);
    let last = rows[5].1.as_ref().expect("a record");
    assert_eq!((last.computer.as_str(), last.fields.len()), ("here", 1), "its type is the table's");
}

#[test]
fn text_becomes_what_the_columns_of_the_table_hold() {
    let text = r#"{"RecordId":"x","EndTime":"2026-01-01T00:00:00Z","Quantity":3}"#;
    let record = &records(RowFormat::Ndjson, "Usage", text)[0];
    assert_eq!(record.fields["Quantity"], Value::Real(3.0));
    let end: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    assert_eq!(record.fields["EndTime"], Value::DateTime(end));
    let wrong = read(RowFormat::Ndjson, "Usage", r#"{"EndTime":"soon"}"#).remove(0).1;
    assert_eq!(wrong, Err("column EndTime is datetime, and `soon` is none".into()));
}

#[test]
fn cells_are_quoted_and_columns_take_the_type_of_the_first_rows() {
    let text = "\u{feff}TimeGenerated,User Name,Count,Share,Ok,At,Code,Id\r\n\
        2026-01-01 10:00:00,\"a \"\"b\"\",\nc\",1,1,true,2026-01-01,007,d5dba9a9-4b7f-4e6f-9f2c-0f5a3a7f6b10\r\n\
        2026-01-01T11:00:00+01:00,d,2,0.5,FALSE,2026-01-02 03:04:05,123,d5dba9a9-4b7f-4e6f-9f2c-0f5a3a7f6b11\r\n\
        ,,,,,,,\r\n";
    let records = records(RowFormat::Csv, "T_CL", text);
    let [first, second, empty] = &records[..] else { panic!("three rows") };
    assert_eq!(first.fields["User_Name"], "a \"b\",\nc".into());
    assert_eq!(first.fields["Count"], Value::Long(1));
    assert_eq!(first.fields["Share"], Value::Real(1.0));
    assert_eq!(second.fields["Ok"], Value::Bool(false));
    assert!(matches!(first.fields["At"], Value::DateTime(_)));
    assert_eq!(first.fields["Code"], "007".into(), "a code is no number");
    assert!(matches!(second.fields["Id"], Value::Guid(_)));
    assert_eq!(second.time.to_string(), "2026-01-01T10:00:00Z");
    assert_eq!((empty.fields.len(), empty.time), (0, target("T_CL").now));
}

#[test]
fn wrong_rows_of_comma_separated_values_are_told_and_passed_over() {
    let mut text = "N\n1\n1,2\n".to_owned();
    text.extend((0..SAMPLE_ROWS).map(|n| format!("{n}\n")));
    text.push_str("word\n\"two\nlines\"\n5\n");
    let rows = read(RowFormat::Csv, "T_CL", &text);
    let wrong: Vec<_> =
        rows.iter().filter_map(|(n, row)| Some((*n, row.as_ref().err()?))).collect();
    let at = SAMPLE_ROWS as u64 + 4;
    let expected = [
        (3, "2 cells in place of 1".to_owned()),
        (at, "column N is long, and `word` is none".to_owned()),
        (at + 1, "column N is long, and `two\nlines` is none".to_owned()),
    ];
    assert_eq!(wrong, expected.iter().map(|(n, e)| (*n, e)).collect::<Vec<_>>());
    assert_eq!(rows.last().map(|row| row.0), Some(at + 3));
}

#[test]
fn a_file_that_begins_otherwise_is_refused_as_a_whole() {
    for text in ["", "a,a\n1,2\n", "a,,c\n1,2,3\n", "a b,a_b\n", "a,2nd\n"] {
        let error = RowReader::new(RowFormat::Csv, text.as_bytes(), target("T_CL"));
        assert_eq!(error.expect_err(text).kind(), io::ErrorKind::InvalidData, "{text}");
    }
}

#[test]
fn a_quote_that_is_never_closed_does_not_have_the_file_in_memory() {
    let text = format!("a\n1\n\"{}", "x\n".repeat(8 * ROW_BYTES_MAX));
    let mut rows =
        RowReader::new(RowFormat::Csv, io::Cursor::new(text), target("T_CL")).expect("begins");
    assert!(rows.next().expect("a row").expect("it reads").record.is_ok());
    let error = rows.next().expect("an error").expect_err("no end");
    assert!(error.to_string().contains("row is longer"), "{error}");
    assert!(rows.next().is_none());
}

#[test]
fn a_web_servers_log_changes_its_fields_in_the_middle() {
    let text = "#Software: Microsoft Internet Information Services 10.0\r\n\
        #Version: 1.0\r\n#Date: 2026-01-01 00:00:00\r\n\
        #Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) sc-status time-taken X-Forwarded-For\r\n\
        2026-01-01 10:00:00 10.0.0.1 GET /a q=1 443 - 10.0.0.2 Mozilla/5.0+(X11) 200 15 10.9.9.9\r\n\
        2026-01-01 10:00:00 10.0.0.1 GET /a\r\n\
        #Date: 2026-01-02 00:00:00\r\n#Fields: time s-computername sc-status\r\n\
        11:22:33 WEB1 404\r\n11:22:33 WEB1 four\r\n";
    let rows = read(RowFormat::IisW3c, "W3CIISLog", text);
    let numbers: Vec<u64> = rows.iter().map(|row| row.0).collect();
    assert_eq!(numbers, [5, 6, 9, 10]);
    let first = rows[0].1.as_ref().expect("a record");
    assert_eq!(first.time.to_string(), "2026-01-01T10:00:00Z");
    assert_eq!((first.fields.len(), &first.fields["sPort"]), (10, &Value::Int(443)));
    assert_eq!(first.fields["csUserAgent"], "Mozilla/5.0+(X11)".into());
    assert_eq!(first.fields["TimeTaken"], Value::Long(15));
    assert_eq!(first.fields["X_Forwarded_For_CF"], "10.9.9.9".into());
    assert_eq!(rows[1].1, Err("5 values in place of 13".into()));
    let third = rows[2].1.as_ref().expect("a record");
    assert_eq!(
        (third.time.to_string().as_str(), third.computer.as_str()),
        ("2026-01-02T11:22:33Z", "WEB1")
    );
    assert_eq!(
        rows[3].1.as_ref().map(|record| record.fields["scStatus"].clone()),
        Ok("four".into()),
        "the column is text"
    );
    let early = read(RowFormat::IisW3c, "W3CIISLog", "2026-01-01 10:00:00\n").remove(0).1;
    assert_eq!(early, Err("no #Fields before it".into()));
}

#[test]
fn plain_lines_are_raw_data() {
    let records = records(RowFormat::Lines, "T_CL", "one\r\n\ntwo");
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].fields["RawData"], "one".into());
}

fn parquet_of(columns: Vec<(&str, ArrayRefOf)>) -> File {
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut file = tempfile::tempfile().expect("a file");
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("writes");
    writer.close().expect("closes");
    file.rewind().expect("rewinds");
    file
}

type ArrayRefOf = arrow::array::ArrayRef;

#[test]
fn parquet_columns_become_values_and_nested_ones_dynamic() {
    let at = TimestampNanosecondArray::from(vec![1_767_268_800_000_000_123, 0]);
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let inner: ArrayRefOf = Arc::new(StringArray::from(vec!["v", "w"]));
    let bag = StructArray::from(vec![(Arc::new(Field::new("k", DataType::Utf8, false)), inner)]);
    let decimal =
        Decimal128Array::from(vec![1234, 5]).with_precision_and_scale(10, 2).expect("fits");
    let file = parquet_of(vec![
        ("TimeGenerated", Arc::new(at) as ArrayRefOf),
        ("Computer", Arc::new(StringArray::from(vec![Some("pc"), None]))),
        ("Whole", Arc::new(Int64Array::from(vec![Some(7), None]))),
        ("Part", Arc::new(Float32Array::from(vec![0.5, 1.0]))),
        ("Is", Arc::new(BooleanArray::from(vec![true, false]))),
        ("Day", Arc::new(Date32Array::from(vec![1, 2]))),
        ("List", Arc::new(list)),
        ("Bag", Arc::new(bag)),
        ("Price", Arc::new(decimal)),
    ]);
    let rows = RowReader::open(RowFormat::Parquet, file, target("T_CL")).expect("opens");
    let rows: Vec<Row> = rows.map(|row| row.expect("reads")).collect();
    let first = rows[0].record.as_ref().expect("a record");
    assert_eq!((rows[0].number, first.time.to_string().as_str()), (1, "2026-01-01T12:00:00Z"));
    assert_eq!((first.computer.as_str(), &first.fields["Whole"]), ("pc", &Value::Long(7)));
    assert_eq!(first.fields["Part"], Value::Real(0.5));
    assert_eq!(first.fields["Is"], Value::Bool(true));
    let day: Timestamp = "1970-01-02T00:00:00Z".parse().expect("a day");
    assert_eq!(first.fields["Day"], Value::DateTime(day));
    assert_eq!(first.fields["List"], Value::Dynamic(json!([1, null])));
    assert_eq!(first.fields["Bag"], Value::Dynamic(json!({"k": "v"})));
    assert_eq!(first.fields["Price"], "12.34".into());
    let second = rows[1].record.as_ref().expect("a record");
    assert_eq!((second.computer.as_str(), second.fields.contains_key("Whole")), ("here", false));
    assert!(!second.fields.contains_key("List"));
}

#[test]
fn parquet_that_does_not_fit_is_refused() {
    let huge = parquet_of(vec![("N", Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRefOf)]);
    let error = RowReader::open(RowFormat::Parquet, huge, target("T_CL")).expect_err("too large");
    assert!(error.to_string().starts_with("column N"), "{error}");
    let mut text = tempfile::tempfile().expect("a file");
    io::Write::write_all(&mut text, b"no Parquet").expect("writes");
    let error = RowReader::open(RowFormat::Parquet, text, target("T_CL")).expect_err("no Parquet");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

fn quoted(cell: &str) -> String {
    format!("\"{}\"", cell.replace('"', "\"\""))
}

proptest! {
    /// Whatever cells are written come back.
    #[test]
    fn cells_come_back(rows in prop::collection::vec(("[^\r]{1,12}", "[^\r]{1,12}"), 1..20)) {
        // The first row has the type of text decided, whatever comes.
        let mut text = "A,B\n\"text x\",\"text y\"\n".to_owned();
        rows.iter().for_each(|(a, b)| text.push_str(&format!("{},{}\n", quoted(a), quoted(b))));
        let read = records(RowFormat::Csv, "T_CL", &text);
        prop_assert_eq!(read.len(), rows.len() + 1);
        for (record, (a, b)) in read[1..].iter().zip(&rows) {
            prop_assert_eq!(&record.fields["A"], &Value::from(a.as_str()));
            prop_assert_eq!(&record.fields["B"], &Value::from(b.as_str()));
        }
    }

    /// No bytes make a reader panic, and it always ends.
    #[test]
    fn any_bytes_are_rows_or_errors(
        bytes in prop::collection::vec(prop_oneof![
            any::<u8>(), prop::sample::select(b"\"\n,#:{}[] -1".to_vec()),
        ], 0..300),
        begin in prop::sample::select(vec!["", "a,b\n", "#Fields: date time cs-method\n", "{\"a\":"]),
    ) {
        let text = [begin.as_bytes(), &bytes].concat();
        for format in [RowFormat::Ndjson, RowFormat::Csv, RowFormat::IisW3c, RowFormat::Lines] {
            let Ok(rows) = RowReader::new(format, io::Cursor::new(text.clone()), target("T_CL")) else { continue };
            prop_assert!(rows.count() <= text.len());
        }
    }
}

#[test]
fn a_carriage_return_ends_a_row_of_csv_which_has_a_number_of_its_own() {
    let rows = read(RowFormat::Csv, "T_CL", "A,B\n1,2\r3,4\r\n5,6\n7\n");
    let numbers: Vec<u64> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [2, 3, 4, 5]);
    assert!(rows[3].1.as_ref().is_err_and(|reason| reason.contains("1 cells")), "{rows:?}");
}

#[test]
fn names_of_csv_that_are_no_text_are_told_by_their_cell() {
    let input = io::Cursor::new(b"A,\xff\n1,2\n".to_vec());
    let refused = RowReader::new(RowFormat::Csv, input, target("T_CL")).map(|_| ());
    let refused = refused.expect_err("not UTF-8").to_string();
    assert_eq!(refused, "line 1: cell 2 is not UTF-8");
}
