use super::*;
use crate::query::dynamic::{of_text, to_json};
use crate::query::{KqlType, QueryOptions, report};
use datafusion::arrow::array::{BooleanArray, Float64Array, Int64Array, StringViewArray};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::Int64Type;
use oms_core::clock::ManualClock;

fn columns() -> Vec<Column> {
    [
        ("t", KqlType::DateTime),
        ("s", KqlType::String),
        ("n", KqlType::Long),
        ("r", KqlType::Real),
        ("b", KqlType::Bool),
        ("d", KqlType::Dynamic),
    ]
    .map(|(name, kql_type)| Column::new(name, kql_type))
    .to_vec()
}

/// The same rows for the engine.
const TABLE: &str = r#"datatable(t: datetime, s: string, n: long, r: real, b: bool, d: dynamic) [
    datetime(2026-11-23T10:00:00Z), "GET /index 200", 3, 1.5, true, dynamic({"a": {"b": [1, "x"]}}),
    datetime(2026-11-23T11:30:00Z), "a;b=1,c", -7, -0.25, false, dynamic([1, 2, 3]),
    datetime(null), "", long(null), real(null), bool(null), dynamic(null)
]"#;

fn rows() -> RecordBatch {
    let time = |text: &str| time::parse_datetime(text);
    let dynamics = [Some(r#"{"a":{"b":[1,"x"]}}"#), Some("[1,2,3]"), None];
    let dynamics: StringViewArray = dynamics.into_iter().collect();
    let times = vec![time("2026-11-23T10:00:00Z"), time("2026-11-23T11:30:00Z"), None];
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(times)),
        Arc::new(StringViewArray::from(vec!["GET /index 200", "a;b=1,c", ""])),
        Arc::new(Int64Array::from(vec![Some(3), Some(-7), None])),
        Arc::new(Float64Array::from(vec![Some(1.5), Some(-0.25), None])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(of_text(&dynamics).unwrap()),
    ];
    RecordBatch::try_new(schema(&columns()), arrays).unwrap()
}

const NOW: &str = "2026-11-24T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn transformed(text: &str) -> Result<(Vec<Column>, RecordBatch), QueryError> {
    let transform = Transform::compile(text, columns(), now())?;
    let rows = transform.run(rows(), now())?;
    Ok((transform.columns().to_vec(), rows))
}

/// Rows in computed form as an answer has them.
fn shown(columns: Vec<Column>, rows: &RecordBatch) -> String {
    let arrays = rows.columns().iter().zip(&columns).map(|(array, column)| match column.kql_type {
        KqlType::Dynamic => Arc::new(to_json(array.as_binary_view())) as ArrayRef,
        _ => Arc::clone(array),
    });
    let named = columns.iter().map(|column| column.name.clone()).zip(arrays);
    let rows = RecordBatch::try_from_iter_with_nullable(
        named.map(|(name, array)| (name, array, true)).collect::<Vec<_>>(),
    );
    let report = report::QueryReport {
        columns,
        batches: vec![rows.unwrap()],
        others: Vec::new(),
        render: None,
        statistics: report::Statistics::default(),
        is_partial: false,
    };
    format!("{:?} {:?}", report.columns, report.rows())
}

/// A transformation makes of the rows what the query makes of the table.
async fn agrees(operators: &str) {
    let (columns, rows) = transformed(&format!("source {operators}"))
        .unwrap_or_else(|error| panic!("{operators}: {error}"));
    let clock = Arc::new(ManualClock::new(now()));
    let text = format!("let source = {TABLE}; source {operators}");
    let report = crate::query::run(&NoTables, &text, &QueryOptions::new(clock)).await;
    let report = report.unwrap_or_else(|error| panic!("{operators}: {error}"));
    let expected = format!("{:?} {:?}", report.columns, report.rows());
    assert_eq!(shown(columns, &rows), expected, "{operators}");
}

#[tokio::test]
async fn a_transformation_answers_as_the_query_does() {
    for operators in [
        "",
        "| where n > 0",
        "| where isnull(n) or s has 'get'",
        "| where s startswith 'GET' and b",
        "| where s !contains 'get'",
        "| where s matches regex '^G'",
        "| where s in ('', 'a;b=1,c')",
        "| extend n = n + 1 | extend n = n * 2, x = strcat(s, '-', tostring(n))",
        "| project t, Code = toint(extract('([0-9]+)$', 1, s))",
        "| project-away s, d | project-rename T = t",
        "| parse s with Method ' ' Path ' ' Code:int",
        "| extend x = d.a.b[1], y = d[2], z = tostring(d.a)",
        "| extend x = parse_json('{\"k\": 5}').k | where x == 5",
        "| extend x = iff(b, 'yes', 'no'), y = case(n > 0, 'up', n < 0, 'down', 'none')",
        "| extend x = t + 1h, y = now() - t, z = bin(t, 1d), w = ago(1d) < t",
        "| extend x = split(s, ';'), y = array_length(d), z = pack('n', n, 's', s)",
        "| extend x = hash_sha256(s), y = tolower(s), z = strlen(s), w = substring(s, 1, 3)",
        "| extend x = columnifexists('q', 'none'), y = columnifexists('s', 'none')",
        "| extend x = binary_and(n, 1), y = round(r, 1), z = todouble(n) / 2, w = -n % 4",
        "| extend x = n between (0 .. 5), y = max_of(n, 2)",
    ] {
        agrees(operators).await;
    }
}

#[test]
fn every_listed_function_is_known_to_the_engine_or_named_as_missing() {
    let missing = ["geo_location", "parse_cef_dictionary"];
    for name in missing {
        let error = transformed(&format!("source | extend x = {name}(s)")).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    for text in [
        "source | extend x = base64_encodestring(s), y = base64_decodestring('YQ==')",
        "source | extend x = startofweek(t), y = endofmonth(t), z = week_of_year(t)",
        "source | extend x = datetime_add('day', 1, t), y = datetime_diff('hour', t, now())",
        "source | extend x = datetime_part('year', t), y = make_datetime(2026, 1, 2)",
        "source | extend x = make_timespan(1, 2), y = totimespan('1.00:00:00'), z = toguid(s)",
        "source | extend x = array_concat(d, d), y = pack_array(n, s), z = zip(d, d)",
        "source | extend x = parse_xml(s), y = replace('a', 'b', s), z = indexof(s, 'a')",
        "source | extend x = exp2(r), y = exp10(r), z = pow(r, 2), w = log2(r), v = sign(n)",
        "source | extend x = isnan(r), y = isinf(r), z = isfinite(r), w = ceiling(r)",
        "source | extend x = countof(s, 'a'), y = extract_all('(a)', s), z = gettype(d)",
        "source | extend x = hourofday(t), y = dayofweek(t), z = getmonth(t), w = getyear(t)",
        "source | extend x = strcat_delim('-', s, s), y = toupper(s), z = isnotempty(s)",
        "source | extend x = binary_not(n), y = binary_shift_left(n, 1), z = min_of(n, 1)",
    ] {
        transformed(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn what_is_not_of_one_row_is_refused_by_name_and_place() {
    for (text, message, line, column) in [
        ("source\n| summarize count() by s", "`summarize` cannot", 2, 3),
        ("source | sort by n", "`sort` cannot", 1, 10),
        ("source | take 1", "`take` cannot", 1, 10),
        ("source | join source on n", "`join` cannot", 1, 10),
        ("source | mv-expand d", "`mv-expand` cannot", 1, 10),
        ("source | parse-where s with 'a' x", "`parse-where` cannot", 1, 10),
        ("source | extend x = rand()", "`rand()` cannot", 1, 21),
        ("source | where s hasprefix 'a'", "`hasprefix` cannot", 1, 16),
        ("source | where s in~ ('a')", "`in~` cannot", 1, 16),
        ("source | where s has_any ('a')", "`has_any` cannot", 1, 16),
        ("source | where s in (source)", "", 1, 1),
        ("datatable(a: int) [1]", "`datatable` cannot", 1, 1),
        ("range x from 1 to 3 step 1", "`range` cannot", 1, 1),
        ("Perf | where n > 1", "no table `Perf`", 1, 1),
        ("source | where nope > 1", "`nope`", 1, 16),
        ("let source = print x = 1; source", "`source` stands", 1, 5),
        ("let f = (T: (n: long)) { T }; f(source)", "takes values, not tables", 1, 10),
        ("source; source", "is one query", 1, 1),
        ("set truncationmaxsize=1; source", "`set` cannot", 1, 1),
        (
            "source | parse s with * 'a' c1 'a' c2 'a' c3 'a' c4 'a' c5 'a' c6 'a' c7 'a' c8 'a' c9 'a' c10 'a' c11",
            "more than 10",
            1,
            10,
        ),
        ("source | where", "", 1, 1),
    ] {
        let error = transformed(text).expect_err(text);
        let found = error.diagnostics().iter().find(|it| it.message.contains(message));
        let found = found.unwrap_or_else(|| panic!("{text}: {:?}", error.diagnostics()));
        if !message.is_empty()
            && !["range", "`set`", "`datatable`"].iter().any(|it| message.contains(it))
        {
            assert_eq!((found.line, found.column), (line, column), "{text}: {found}");
        }
    }
}

#[test]
fn the_time_of_a_run_is_the_one_that_counts() {
    let text = "let limit = ago(1h); source | where t > limit | project t, at = now()";
    let transform = Transform::compile(text, columns(), now()).unwrap();
    assert_eq!(transform.run(rows(), now()).unwrap().num_rows(), 0);
    let then: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let kept = transform.run(rows(), then).unwrap();
    assert_eq!(kept.num_rows(), 1);
    let at = kept.column(1).as_primitive::<Int64Type>();
    assert_eq!(at.value(0), time::ticks_of_timestamp(then));
}

#[test]
fn print_makes_one_row_of_each() {
    let (_, rows) =
        transformed("print t = datetime(2026-11-23), x = 1 | extend y = x + 1").unwrap();
    assert_eq!(rows.num_rows(), 3);
    assert_eq!(rows.num_columns(), 3);
}

#[test]
fn user_functions_of_values_are_taken() {
    let text = "let twice = (x: long) { x * 2 }; source | extend n = twice(n) | where n == 6";
    assert_eq!(transformed(text).unwrap().1.num_rows(), 1);
}

/// Text that doubles ends with an error and not with the memory.
#[test]
fn rows_that_grow_without_bound_are_refused() {
    let mut text = "source | extend s = strcat(s, 'x')".to_owned();
    for _ in 0..24 {
        text.push_str(" | extend s = strcat(s, s)");
    }
    let error = transformed(&text).expect_err("too long");
    assert_eq!(error.kind(), oms_core::ErrorKind::TooLarge, "{error}");
    let rows = rows();
    let many: Vec<RecordBatch> = (0..200).map(|_| rows.clone()).collect();
    let many = concat_batches(rows.schema_ref(), &many).unwrap();
    let text =
        format!("source | extend s = strcat(s, 'x') {}", "| extend s = strcat(s, s) ".repeat(18));
    let transform = Transform::compile(&text, columns(), now()).unwrap();
    let error = transform.run(many, now()).expect_err("too much");
    assert_eq!(error.kind(), oms_core::ErrorKind::TooLarge, "{error}");
}
