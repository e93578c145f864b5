//! Columns are what records would become.

use super::compare::{difference, difference_of};
use super::*;
use crate::ingest::admit;
use crate::schema::{Column, ColumnType};
use ::parquet::arrow::ArrowWriter;
use arrow::array::{
    ArrayRef, BooleanArray, DurationNanosecondArray, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use proptest::prelude::*;
use std::io::Cursor;
use std::sync::Arc;

/// A custom table that has columns of every type.
fn target() -> RowTarget {
    let typed = ColumnType::ALL.map(|kind| Column { name: format!("a_{kind}"), column_type: kind });
    let table = "T_CL".parse().expect("a name");
    RowTarget {
        schema: TableSchema::initial(&table).with_columns(typed),
        computer: "here".into(),
        now: "2026-01-02T00:00:00.123456789Z".parse().expect("a time"),
    }
}

fn check_format(format: RowFormat, text: &[u8], target: &RowTarget, max: usize, buffer: usize) {
    if let Some(difference) = difference(format, text, target, max, buffer) {
        panic!("{difference}\n{}", String::from_utf8_lossy(text));
    }
}

fn check(text: &str) {
    for max in [1, 3, 10_000] {
        check_format(RowFormat::Ndjson, text.as_bytes(), &target(), max, 1 << 16);
    }
}

#[test]
fn values_of_every_type_and_kind() {
    let values = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "7",
        "2147483647",
        "2147483648",
        "9007199254740992",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "1.0",
        "-0.0",
        "0.1",
        "1e3",
        "1e400",
        "123456789.123456789123456789",
        "01",
        "1.",
        "\"\"",
        "\"a\"",
        "\"ä €\"",
        "\"a\\\"b\\\\c\\n\"",
        "\"\\u00e4\\ud83d\\ude00\"",
        "\"\\ud800\"",
        "\"\\x\"",
        "\"a\tb\"",
        "\"1\"",
        "\" 1 \"",
        "\"1.5\"",
        "\"true\"",
        "\"2026-01-15T00:00:00Z\"",
        "\"2026-01-15T01:02:03.123456789Z\"",
        "\"2026-01-15 01:02:03.5\"",
        "\"2026-02-30T00:00:00Z\"",
        "\"1969-12-31T23:59:59.9999999Z\"",
        "\"0001-01-01T00:00:00Z\"",
        "\"0000-01-01T00:00:00Z\"",
        "\"9999-12-31T23:59:59Z\"",
        "\"9998-12-31T23:59:59.999999Z\"",
        "\"2026-01-15T24:00:00Z\"",
        "\"2026-01-15T00:00:00.Z\"",
        "\"2026-01-15T00:00:00+01:00\"",
        "\"2026-01-15T00:00:00z\"",
        "\"2026-1-5\"",
        "\"00:00:01\"",
        "\"1.02:03:04.5\"",
        "\"6f9619ff-8b86-d011-b42d-00cf4fc964ff\"",
        "\"6F9619FF-8B86-D011-B42D-00CF4FC964FF\"",
        "\"6f9619ff8b86d011b42d00cf4fc964ff\"",
        "\"-12.50\"",
        "\"1e5\"",
        "[1, {\"b\":2,\"a\":[]}]",
        "{\"z\":1,\"a\":null}",
        "{}",
        "[",
        "nul",
        "\"open",
    ];
    let columns = ColumnType::ALL.map(|kind| format!("a_{kind}"));
    let special = ["TimeGenerated", "Computer", "Type", "TenantId", "_TimeReceived", "_BilledSize"];
    let names = columns.iter().map(String::as_str).chain(special);
    let mut text = String::new();
    for name in names.chain(["New", "1x", "type", "A_long"]) {
        for value in values {
            text.push_str(&format!("{{\"{name}\":{value}}}\n"));
        }
    }
    // The keys are known now.
    let again = text.clone();
    check(&(text + &again));
}

#[test]
fn rows_of_every_shape() {
    let rows = [
        "{}",
        "{ }",
        "  {\"a_long\":1}\t\r",
        "{\"a_long\":1}{\"a_long\":2}",
        "{\"a_long\":1} x",
        "{\"a_long\":1,\"a_string\":\"x\"}",
        "{\"a_string\":\"x\",\"a_long\":1}",
        "{\"a_long\" : 1 ,\t\"a_string\" :\"x\"}",
        "{\"a_long\":1,\"a_long\":2}",
        "{\"a_long\":1,\"a_long\":\"x\"}",
        "{\"a_long\":null,\"a_long\":5}",
        "{\"Computer\":\"a\",\"Computer\":\"b\"}",
        "{\"TimeGenerated\":\"2026-01-01T00:00:00Z\",\"TimeGenerated\":\"2026-01-02T00:00:00Z\"}",
        "{\"a_string\":\"half\",\"a_long\":\"soup\"}",
        "{\"a_lo\\u006eg\":4}",
        "{\"a_long\":1,}",
        "{\"a_long\":}",
        "{\"a_long\" 1}",
        "{\"a_long\"",
        "{\"Type\":\"T_CL\",\"a_long\":3}",
        "{\"Type\":\"T_C\",\"a_long\":3}",
        "{\"Type\":\"T_CL2\"}",
        "",
        " \t\u{c}",
        "[]",
        "7",
        "{\"é\":1}",
        "{\"New\":1}",
        "{\"New\":2.5}",
        "{\"new\":2.5}",
        "{\"New\":\"3\"}",
    ];
    let once = rows.join("\n");
    check(&format!("{once}\n{once}"));
    check(&format!("\u{feff}{once}\n{once}\n"));
    let bad = [once.as_bytes(), b"\n{\"a_string\":\"\xff\"}\n", once.as_bytes()].concat();
    check_format(RowFormat::Ndjson, &bad, &target(), 100, 1 << 16);
}

#[test]
fn columns_that_come_after_the_sample_keep_the_type_of_their_first_value() {
    let mut text = "{\"Early\":1}\n".to_owned();
    text.push_str(&"{\"a_long\":1}\n\n".repeat(SAMPLE_ROWS - 2));
    text.push_str("{\"Early\":1.5}\n{\"Early\":2,\"Late\":1}\n{\"Late\":1.5}\n{\"Late\":\"2\"}\n");
    text.push_str(
        "{\"Early\":\"4.5\",\"a_real\":9007199254740994}\n{\"Early\":9007199254740994}\n",
    );
    check(&text);
}

#[test]
fn long_rows_and_long_defaults() {
    for length in [ROW_BYTES_MAX - 20, ROW_BYTES_MAX - 15, ROW_BYTES_MAX, 3 * ROW_BYTES_MAX] {
        let long = "x".repeat(length);
        check_format(
            RowFormat::Ndjson,
            format!("{{\"a_long\":1}}\n{{\"a_string\":\"{long}\"}}\n{{\"a_long\":2}}\n").as_bytes(),
            &target(),
            100,
            1 << 20,
        );
    }
    let computer = "x".repeat(admit::FIELD_BYTES_MAX + 1);
    let text = b"{\"a_long\":1}\n{\"a_long\":1,\"Computer\":\"c\"}\n{\"a_long\":1}\n";
    check_format(RowFormat::Ndjson, text, &RowTarget { computer, ..target() }, 100, 1 << 20);
}

#[test]
fn logs_of_web_servers_become_the_same() {
    let text = "2026-01-01 10:00:00\n#Fields: date time s-ip cs-method s-port sc-status time-taken s-computername X-New\n\
        2026-01-01 10:00:00 10.0.0.1 GET 443 200 15 WEB1 a\n\
        2026-01-01 10:00:00 - - - - - - -\n\
        2026-01-01 10:00:00 10.0.0.1 GET 70000 200 15 WEB1 a\n\
        2026-01-01 10:00:00 10.0.0.1 GET 3000000000 200 15 WEB1 a\n\
        2026-01-01 10:00:00 10.0.0.1 GET port 200 15 WEB1 a\n\
        2026-13-01 10:00:00 10.0.0.1 GET 443 200 15 WEB1 a\n\
        2026-01-01 10:00:00 10.0.0.1 GET 443 200 15 WEB1\n\
        2026-01-01 10:00:00 10.0.0.1 GET 443 200 15 WEB1 a b\n\
        #Date: 2026-01-02 00:00:00\n#Fields: time cs-method cs-method sc-status\n\
        10:00:00 GET PUT 404\n- GET PUT 404\n\
        #Fields: time TenantId\n10:00:00 t\n10:00:00 -\n#Fields: time Type\n10:00:00 W3CIISLog\n\
        #Fields: time TimeGenerated\n10:00:00 11:00:00\n#Fields:\n10:00:00\n";
    for table in ["W3CIISLog", "T_CL"] {
        let table = table.parse().expect("a name");
        let target = RowTarget { schema: TableSchema::initial(&table), ..target() };
        for text in [text.to_owned(), text.repeat(2)] {
            check_format(RowFormat::IisW3c, text.as_bytes(), &target, 3, 1 << 16);
        }
    }
    check_format(RowFormat::IisW3c, text.as_bytes(), &target(), 100, 1 << 16);
}

#[test]
fn comma_separated_values_become_the_same() {
    let names = ColumnType::ALL.map(|kind| format!("a_{kind}")).join(",");
    let plain = "true,1,2,2.5,text,2026-01-01 10:00:00,1.02:03:04,\
        6F9619FF-8B86-D011-B42D-00CF4FC964FF";
    let good = format!("{plain},\"{{\"\"b\"\":1, \"\"a\"\":[2]}}\",-1.50");
    let bad = ["maybe", "3000000000", "2.5", "x", "", "soon", "x", "x", "{", "1e5"];
    let mut text = format!("TimeGenerated,Computer,Type,TenantId,New,Other,{names}\n");
    for row in 0..SAMPLE_ROWS + 3 {
        let row = format!("2026-01-01T00:00:{:02}Z,pc,T_CL,,{row},", row % 60);
        text.push_str(&format!("{row},{good}\n{row},{plain},,\n"));
    }
    for (at, bad) in bad.iter().enumerate() {
        let mut cells: Vec<&str> = vec![""; ColumnType::ALL.len()];
        cells[at] = bad;
        text.push_str(&format!(",,,,1,,{}\n", cells.join(",")));
    }
    text.push_str(&format!("soup,,,,,,{good}\n,,T,,,,{good}\n,,,t,,,{good}\n,,,,x,,{good}\n"));
    text.push_str(&format!(",,,,,late,{good}\n,,,,,later,{good}\n1,2\n"));
    for max in [7, 10_000] {
        check_format(RowFormat::Csv, text.as_bytes(), &target(), max, 1 << 16);
    }
    let computer = "x".repeat(admit::FIELD_BYTES_MAX + 1);
    let target = RowTarget { computer, ..target() };
    check_format(RowFormat::Csv, b"a_long\n1\n2\n", &target, 10, 1 << 16);
}

/// A Parquet file of columns that fit, of some that do not in one row of many, and of new ones.
fn parquet(rows: i64, bad: Option<i64>) -> File {
    let texts = |at: &dyn Fn(i64) -> Option<String>| -> ArrayRef {
        Arc::new(StringArray::from_iter((0..rows).map(at)))
    };
    let whole = |at: &dyn Fn(i64) -> Option<i64>| -> ArrayRef {
        Arc::new(Int64Array::from_iter((0..rows).map(at)))
    };
    let is_bad = |row: i64| bad == Some(row);
    let times = (0..rows).map(|row| if is_bad(row) { i64::MIN / 2 } else { row * 1_000_000 });
    let columns = [
        ("TimeGenerated", Arc::new(TimestampMicrosecondArray::from_iter_values(times)) as ArrayRef),
        ("Computer", texts(&|row| (row % 3 > 0).then(|| format!("pc-{row}")))),
        ("a_long", whole(&Some)),
        ("a_int", whole(&|row| Some(if is_bad(row - 1) { i64::MAX } else { row }))),
        ("a_real", whole(&|row| Some(if is_bad(row - 2) { i64::MAX } else { row }))),
        ("a_string", texts(&|row| (row % 2 > 0).then(|| format!("text {row}")))),
        (
            "a_timespan",
            Arc::new(DurationNanosecondArray::from_iter_values((0..rows).map(|row| row * -77))),
        ),
        ("a_bool", Arc::new(BooleanArray::from_iter((0..rows).map(|row| Some(row % 2 > 0))))),
        ("a_guid", texts(&|_row| None)),
        ("New", whole(&|row| (row > 9_000).then_some(row))),
        ("TenantId", texts(&|row| is_bad(row - 3).then(|| "t".to_owned()))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut file = tempfile::tempfile().expect("a file");
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("writes");
    writer.close().expect("closes");
    file
}

#[test]
fn parquet_becomes_the_same_whole_or_row_by_row() {
    for (rows, bad) in [(20_000, None), (20_000, Some(100)), (10, None), (10, Some(5)), (0, None)] {
        for max in [7_000, 20_000] {
            let file = || parquet(rows, bad);
            let records = RowReader::open(RowFormat::Parquet, file(), target());
            let columns = ColumnReader::open(RowFormat::Parquet, file(), target());
            let difference = difference_of(records, columns, &target(), max);
            assert_eq!(difference, None, "{rows} {bad:?} {max}");
        }
    }
    let mut reader =
        ColumnReader::open(RowFormat::Parquet, parquet(10, None), target()).expect("opens");
    let read = reader.next_rows(4).expect("reads").expect("rows");
    assert_eq!((read.rows.num_rows(), read.numbers), (4, vec![1, 2, 3, 4]));
}

#[test]
fn an_error_of_the_input_comes_after_the_rows_before_it() {
    #[derive(Debug)]
    struct Failing;
    impl io::Read for Failing {
        fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no more"))
        }
    }
    for rows in ["{\"a_long\":1}\n{\"a_long\":2}\n", "{\"New\":1}\n{\"a_long\":2}\n"] {
        let input = BufReader::new(io::Read::chain(Cursor::new(rows), Failing));
        let mut reader = ColumnReader::new(RowFormat::Ndjson, input, target()).expect("begins");
        let read = reader.next_rows(100).expect("rows first").expect("rows");
        assert_eq!(read.numbers, [1, 2]);
        assert_eq!(reader.next_rows(100).expect_err("then the error").to_string(), "no more");
        assert!(reader.next_rows(100).expect("the end").is_none());
    }
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<i64>().prop_map(|number| number.to_string()),
        4 => (-1000..1000_i64).prop_map(|number| number.to_string()),
        4 => any::<f64>().prop_map(|number| serde_json::json!(number).to_string()),
        4 => any::<String>().prop_map(|text| serde_json::json!(text).to_string()),
        4 => "[a-z \\\\\"\u{e4}\u{1F600}]{0,20}".prop_map(|text| serde_json::json!(text).to_string()),
        2 => (0..4_000_000_000_000_000_i64)
            .prop_map(|micros| Timestamp::from_microsecond(micros).expect("a time"))
            .prop_map(|time| format!("\"{time}\"")),
        1 => any::<u128>().prop_map(|bits| format!("\"{}\"", uuid::Uuid::from_u128(bits))),
        1 => prop::sample::select(vec!["true", "false", "null", "[1,{\"a\":\"b\"}]", "{\"b\":[{\"d\": 1.50,\"c\":[]}] , \"a\":null}", "{\"a\":1,\"a\":2}", "[\"\\n\"]", "\"soup\"", "tru"])
            .prop_map(str::to_owned),
    ]
}

/// A row whose values have the types of their columns.
fn regular() -> impl Strategy<Value = String> {
    (any::<i64>(), any::<i32>(), any::<f32>(), "[ -~\u{e4}]{0,30}", 0..4_000_000_000_000_i64, any::<bool>())
        .prop_map(|(long, int, real, text, millis, flag)| {
            let time = Timestamp::from_millisecond(millis).expect("a time");
            let text = serde_json::json!(text);
            let real = serde_json::json!(real);
            format!(
                "{{\"TimeGenerated\":\"{time}\",\"Computer\":\"pc\",\"a_long\":{long},\"a_int\":{int},\
                 \"a_real\":{real},\"a_string\":{text},\"a_dynamic\":{text},\"a_bool\":{flag}}}"
            )
        })
}

/// A row of some columns in any order.
fn irregular() -> impl Strategy<Value = String> {
    let columns = ColumnType::ALL.map(|kind| format!("a_{kind}"));
    let others = ["TimeGenerated", "Computer", "Type", "New", "Other", "New", "TenantId"];
    let names: Vec<String> = columns.into_iter().chain(others.map(str::to_owned)).collect();
    let member = (prop::sample::select(names), values(), "[ ]{0,1}");
    prop::collection::vec(member, 0..6).prop_map(|members| {
        let members: Vec<String> = members
            .into_iter()
            .map(|(name, value, blank)| format!("{blank}\"{name}\"{blank}:{blank}{value}{blank}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

fn rows() -> impl Strategy<Value = String> {
    let row = prop_oneof![
        6 => regular(),
        3 => irregular(),
        1 => (regular(), any::<prop::sample::Index>(), "[ -~\n\u{e4}]{0,2}").prop_map(
            |(row, at, with)| {
                let at = at.index(row.len());
                let at = (0..=at).rev().find(|at| row.is_char_boundary(*at)).unwrap_or(0);
                format!("{}{with}{}", &row[..at], &row[at..])
            }
        ),
    ];
    prop::collection::vec(row, 0..30).prop_map(|rows| rows.join("\n"))
}

proptest! {
    /// Regular rows, rows in any order, and broken ones, in any batches and buffers.
    #[test]
    fn rows_become_the_same(text in rows(), max in 1..40_usize, buffer in 1..3_000_usize) {
        check_format(RowFormat::Ndjson, text.as_bytes(), &target(), max, buffer);
    }

    #[test]
    fn any_bytes_become_the_same(
        bytes in prop::collection::vec(prop_oneof![
            any::<u8>(), prop::sample::select(b"\"\n,#:{}[] -1ab_long".to_vec()),
        ], 0..300),
        begin in prop::sample::select(vec!["", "a,b\n", "#Fields: date time cs-method\n", "{\"a\":"]),
    ) {
        let text = [begin.as_bytes(), &bytes].concat();
        for format in [RowFormat::Ndjson, RowFormat::Csv, RowFormat::IisW3c, RowFormat::Lines] {
            check_format(format, &text, &target(), 7, 50);
        }
    }
}
