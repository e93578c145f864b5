//! Queries over in-memory tables, with answers computed by hand.

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Schema};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use jiff::Timestamp;
use oms_core::ErrorKind;
use oms_core::clock::ManualClock;
use oms_logs::query::{self, QueryError, QueryOptions, QueryReport, TableSource};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Tables(BTreeMap<String, Arc<dyn TableProvider>>);

impl TableSource for Tables {
    fn table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.0.get(name).cloned()
    }

    fn table_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn times(texts: &[&str]) -> ArrayRef {
    let micros: Vec<i64> = texts.iter().map(|text| at(text).as_microsecond()).collect();
    Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC"))
}

fn table(columns: Vec<(Field, ArrayRef)>) -> Arc<dyn TableProvider> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("a batch");
    // Two partitions, so that partial results are merged.
    let cut = batch.num_rows() / 2;
    let parts = vec![vec![batch.slice(0, cut)], vec![batch.slice(cut, batch.num_rows() - cut)]];
    Arc::new(MemTable::try_new(batch.schema(), parts).expect("a table"))
}

fn column(name: &str, array: ArrayRef) -> (Field, ArrayRef) {
    (Field::new(name, array.data_type().clone(), true), array)
}

fn marked(name: &str, kql_type: &str, array: ArrayRef) -> (Field, ArrayRef) {
    let metadata = [("oms.kql_type".to_owned(), kql_type.to_owned())].into();
    (Field::new(name, array.data_type().clone(), true).with_metadata(metadata), array)
}

/// Six samples of two computers, and five messages.
pub(crate) fn tables() -> Tables {
    let perf = table(vec![
        column(
            "TimeGenerated",
            times(&[
                "2024-05-01T10:00:00Z",
                "2024-05-01T10:01:00Z",
                "2024-05-01T10:05:00Z",
                "2024-05-01T10:06:00Z",
                "2024-05-01T11:00:00Z",
                "2024-05-01T11:59:59.999999Z",
            ]),
        ),
        column(
            "Computer",
            Arc::new(StringArray::from(vec!["web1", "web2", "web1", "web2", "web1", "web1"])),
        ),
        column("CounterName", {
            let names = vec![
                Some("% Used"),
                Some("% Used"),
                Some("% Used"),
                Some("Free"),
                None,
                Some("Free"),
            ];
            Arc::new(names.into_iter().collect::<DictionaryArray<Int32Type>>())
        }),
        column(
            "CounterValue",
            Arc::new(Float64Array::from(vec![
                Some(10.0),
                Some(30.0),
                Some(20.0),
                Some(5.5),
                None,
                Some(7.0),
            ])),
        ),
        column(
            "Core",
            Arc::new(Int32Array::from(vec![Some(0), Some(1), Some(2), None, Some(-3), Some(7)])),
        ),
        marked(
            "Took",
            "timespan",
            Arc::new(Int64Array::from(vec![10_000_000, 5, 0, -1, 864_000_000_000, 1])),
        ),
    ]);
    let syslog = table(vec![
        column(
            "TimeGenerated",
            times(&[
                "2024-05-01T10:00:30Z",
                "2024-05-01T10:02:00Z",
                "2024-05-01T10:03:00Z",
                "2024-05-01T12:00:00Z",
                "2024-05-02T00:00:00Z",
            ]),
        ),
        column(
            "Computer",
            Arc::new(StringViewArray::from(vec!["web1", "db1", "web1", "WEB1", "db1"])),
        ),
        column(
            "SyslogMessage",
            Arc::new(StringArray::from(vec![
                Some("Accepted publickey for root"),
                Some("Failed password for admin"),
                None,
                Some("disk_full on /dev/sda1"),
                Some(""),
            ])),
        ),
        column(
            "ProcessID",
            Arc::new(Int64Array::from(vec![100, 200, 300, 9_007_199_254_740_993, 0])),
        ),
        column(
            "Remote",
            Arc::new(BooleanArray::from(vec![
                Some(true),
                Some(false),
                None,
                Some(true),
                Some(false),
            ])),
        ),
        marked(
            "Details",
            "dynamic",
            Arc::new(StringArray::from(vec![
                Some("{\"a\":[1,\"x\"]}"),
                None,
                Some("3"),
                Some("\"t\""),
                Some("[]"),
            ])),
        ),
    ]);
    Tables([("Perf".to_owned(), perf), ("Syslog".to_owned(), syslog)].into())
}

pub(crate) fn options() -> QueryOptions {
    QueryOptions::new(Arc::new(ManualClock::new(at("2024-05-01T12:00:00Z"))))
}

pub(crate) async fn ask(text: &str) -> QueryReport {
    match query::run(&tables(), text, &options()).await {
        Ok(report) => report,
        Err(error) => panic!("{text}: {error:?}"),
    }
}

pub(crate) async fn refuse(text: &str) -> QueryError {
    query::run(&tables(), text, &options()).await.expect_err(text)
}

/// Columns as `name:type`, and rows.
pub(crate) async fn check(text: &str, columns: &str, rows: Json) {
    let report = ask(text).await;
    let found: Vec<String> = report
        .columns
        .iter()
        .map(|column| format!("{}:{}", column.name, column.kql_type))
        .collect();
    assert_eq!(found.join(" "), columns, "{text}");
    assert_eq!(json!(report.rows()), rows, "{text}");
    assert_eq!(report.statistics.rows_returned, report.rows().len());
}

/// One row of one column for each row, in any order.
async fn check_set(text: &str, mut expect: Vec<Json>) {
    let mut found: Vec<Json> = ask(text)
        .await
        .rows()
        .into_iter()
        .map(|row| row.into_iter().next().unwrap_or_default())
        .collect();
    found.sort_by_key(ToString::to_string);
    expect.sort_by_key(ToString::to_string);
    assert_eq!(found, expect, "{text}");
}

#[tokio::test]
async fn a_dashboard_query() {
    check(
        "Perf
         | where TimeGenerated >= ago(2h) and CounterName == '% Used'
         | summarize avg(CounterValue), Samples = count() by bin(TimeGenerated, 5m), Computer
         | sort by TimeGenerated asc, Computer asc",
        "TimeGenerated:datetime Computer:string avg_CounterValue:real Samples:long",
        json!([
            ["2024-05-01T10:00:00Z", "web1", 10.0, 1],
            ["2024-05-01T10:00:00Z", "web2", 30.0, 1],
            ["2024-05-01T10:05:00Z", "web1", 20.0, 1],
        ]),
    )
    .await;
}

#[tokio::test]
async fn null_text_is_the_empty_string() {
    check_set("Syslog | where SyslogMessage == '' | project ProcessID", vec![json!(300), json!(0)])
        .await;
    check_set(
        "Syslog | where isempty(SyslogMessage) | project ProcessID",
        vec![json!(300), json!(0)],
    )
    .await;
    check_set(
        "Syslog | where SyslogMessage != 'x' and not(SyslogMessage == 'y') | count",
        vec![json!(5)],
    )
    .await;
    check_set("Syslog | where isnull(SyslogMessage) | count", vec![json!(0)]).await;
    check(
        "Syslog | where ProcessID == 300 | project SyslogMessage, n = strlen(SyslogMessage), t = strcat('<', SyslogMessage, '>')",
        "SyslogMessage:string n:long t:string",
        json!([["", 0, "<>"]]),
    )
    .await;
    check(
        "Syslog | summarize n = count() by SyslogMessage | where SyslogMessage == '' | project n",
        "n:long",
        json!([[2]]),
    )
    .await;
    check(
        "Perf | where CounterName !in ('% Used', 'Free') | project Core",
        "Core:int",
        json!([[-3]]),
    )
    .await;
    check("Syslog | summarize dcount(SyslogMessage)", "dcount_SyslogMessage:long", json!([[4]]))
        .await;
}

#[tokio::test]
async fn nulls_of_other_types() {
    check_set("Perf | where CounterValue != 10 | count", vec![json!(5)]).await;
    check_set("Perf | where CounterValue == 10 | count", vec![json!(1)]).await;
    check_set("Perf | where not(CounterValue == 10) | count", vec![json!(5)]).await;
    check_set("Perf | where CounterValue > 6 | count", vec![json!(4)]).await;
    check_set("Perf | where not(CounterValue > 6) | count", vec![json!(1)]).await;
    check_set("Perf | where isnull(Core) or Core < 0 | project Core", vec![json!(null), json!(-3)])
        .await;
    check(
        "print a = int(null) == int(null), b = int(null) == 1, c = int(null) != 1, d = int(null) > 1",
        "a:bool b:bool c:bool d:bool",
        json!([[null, false, true, null]]),
    )
    .await;
    check(
        "Perf | sort by CounterValue | project CounterValue",
        "CounterValue:real",
        json!([[30.0], [20.0], [10.0], [7.0], [5.5], [null]]),
    )
    .await;
    check(
        "Perf | top 2 by CounterValue asc | project CounterValue",
        "CounterValue:real",
        json!([[null], [5.5]]),
    )
    .await;
    check(
        "Perf | top 1 by CounterValue asc nulls last | project CounterValue",
        "CounterValue:real",
        json!([[5.5]]),
    )
    .await;
}

#[tokio::test]
async fn aggregates() {
    check(
        "Perf | summarize count(), countif(Core > 0), sum(Core), avg(Core), min(CounterValue), max(CounterValue), dcount(Computer), sumif(Core, Computer == 'web1')",
        "count_:long countif_:long sum_Core:long avg_Core:real min_CounterValue:real max_CounterValue:real dcount_Computer:long sumif_Core:long",
        json!([[6, 3, 7, 1.4, 5.5, 30.0, 2, 6]]),
    )
    .await;
    check(
        "Perf | where false | summarize count(), sum(Core), avg(Core), max(CounterValue), dcount(Computer)",
        "count_:long sum_Core:long avg_Core:real max_CounterValue:real dcount_Computer:long",
        json!([[0, 0, "NaN", null, 0]]),
    )
    .await;
    check(
        "Perf | where false | summarize count() by Computer",
        "Computer:string count_:long",
        json!([]),
    )
    .await;
    check(
        "Perf | summarize arg_max(TimeGenerated, CounterValue, Core) by Computer | sort by Computer asc",
        "Computer:string TimeGenerated:datetime CounterValue:real Core:int",
        json!([
            ["web1", "2024-05-01T11:59:59.999999Z", 7.0, 7],
            ["web2", "2024-05-01T10:06:00Z", 5.5, null],
        ]),
    )
    .await;
    check(
        "Perf | project Computer, Core, CounterValue | summarize arg_min(CounterValue, *) by Computer | sort by Computer asc",
        "Computer:string CounterValue:real Core:int",
        json!([["web1", 7.0, 7], ["web2", 5.5, null]]),
    )
    .await;
    check(
        "Perf | summarize percentile(CounterValue, 50), percentiles(Core, 5, 99.9), round(stdev(Core), 3)",
        "percentile_CounterValue_50:real percentile_Core_5:long percentile_Core_99_9:long stdev_Core:real",
        json!([[10.0, -3, 7, 3.647]]),
    )
    .await;
    check(
        "Perf | summarize max(TimeGenerated) - min(TimeGenerated), n = count() * 2",
        "Column1:timespan n:long",
        json!([["01:59:59.9999990", 12]]),
    )
    .await;
    check(
        "Perf | distinct Computer | sort by Computer asc",
        "Computer:string",
        json!([["web1"], ["web2"]]),
    )
    .await;
    check("Perf | summarize by Computer | count", "Count:long", json!([[2]])).await;
    check(
        "Perf | summarize take_any(Computer), sum(Took) by Core | where Core == 7",
        "Core:int Computer:string sum_Took:timespan",
        json!([[7, "web1", "00:00:00.0000001"]]),
    )
    .await;
}

#[tokio::test]
async fn text_operators() {
    for (condition, expect) in [
        ("SyslogMessage has 'PUBLICKEY'", vec![100]),
        ("SyslogMessage has 'public'", vec![]),
        ("SyslogMessage contains 'PUBLIC'", vec![100]),
        ("SyslogMessage contains_cs 'PUBLIC'", vec![]),
        ("SyslogMessage has 'disk'", vec![9_007_199_254_740_993]),
        ("SyslogMessage startswith 'failed'", vec![200]),
        ("SyslogMessage startswith_cs 'Failed'", vec![200]),
        ("SyslogMessage startswith_cs 'failed'", vec![]),
        ("SyslogMessage endswith 'ROOT'", vec![100]),
        ("SyslogMessage matches regex @'sda\\d$'", vec![9_007_199_254_740_993]),
        ("SyslogMessage has_any ('nothing', 'admin')", vec![200]),
        ("SyslogMessage has_all ('for', 'ROOT')", vec![100]),
        ("SyslogMessage !has 'for' and ProcessID > 0", vec![300, 9_007_199_254_740_993]),
        ("Computer == 'web1'", vec![100, 300]),
        ("Computer =~ 'web1'", vec![100, 300, 9_007_199_254_740_993]),
        ("Computer !~ 'WEB1'", vec![200, 0]),
        ("Computer in~ ('WEB1')", vec![100, 300, 9_007_199_254_740_993]),
        ("Computer in (dynamic(['db1', 'x']))", vec![200, 0]),
        ("ProcessID in (100, 200.0)", vec![100, 200]),
        ("ProcessID between (100 .. 200)", vec![100, 200]),
        ("Remote", vec![100, 9_007_199_254_740_993]),
        ("not(Remote)", vec![200, 0]),
    ] {
        let text = format!("Syslog | where {condition} | project ProcessID");
        check_set(&text, expect.into_iter().map(|id: i64| json!(id)).collect()).await;
    }
}

#[tokio::test]
async fn ticks_survive_within_a_query() {
    check(
        "print a = datetime(0001-01-01), b = datetime(9999-12-31 23:59:59.9999999), c = endofday(datetime(2024-02-29)), d = datetime(2024-01-01) + 1tick, e = datetime(0001-01-01) - 1tick",
        "a:datetime b:datetime c:datetime d:datetime e:datetime",
        json!([[
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.9999999Z",
            "2024-02-29T23:59:59.9999999Z",
            "2024-01-01T00:00:00.0000001Z",
            null,
        ]]),
    )
    .await;
    // Stored microseconds against bounds with a tick more or less.
    for (condition, expect) in [
        ("TimeGenerated == datetime(2024-05-01 10:01:00)", 1),
        ("TimeGenerated == datetime(2024-05-01 10:01:00.0000001)", 0),
        ("TimeGenerated != datetime(2024-05-01 10:01:00.0000001)", 6),
        ("TimeGenerated < datetime(2024-05-01 10:01:00)", 1),
        ("TimeGenerated < datetime(2024-05-01 10:01:00.0000001)", 2),
        ("TimeGenerated <= datetime(2024-05-01 10:00:59.9999999)", 1),
        ("TimeGenerated > datetime(2024-05-01 11:59:59.9999989)", 1),
        ("TimeGenerated >= datetime(2024-05-01 11:59:59.9999991)", 0),
        ("datetime(2024-05-01 10:01:00.0000001) > TimeGenerated", 2),
        ("TimeGenerated in (datetime(2024-05-01 10:00), datetime(2024-05-01 10:01:00.0000001))", 1),
        ("TimeGenerated between (datetime(2024-05-01 10:01) .. datetime(2024-05-01 10:05))", 2),
        ("TimeGenerated between (datetime(2024-05-01 10:01) .. 4m)", 2),
        ("bin(TimeGenerated, 1h) == datetime(2024-05-01 11:00)", 2),
        ("TimeGenerated + 1tick > datetime(2024-05-01 11:59:59.999999)", 1),
    ] {
        check_set(&format!("Perf | where {condition} | count"), vec![json!(expect)]).await;
    }
    check(
        "union Perf, (print TimeGenerated = datetime(2030-01-01 00:00:00.0000001)) | top 1 by TimeGenerated | project TimeGenerated",
        "TimeGenerated:datetime",
        json!([["2030-01-01T00:00:00.0000001Z"]]),
    )
    .await;
}

#[tokio::test]
async fn columns_and_names() {
    check(
        "Perf | where Core == 2 | extend Core = Core + 1, Twice = CounterValue * 2 | project Core, Twice, toupper(Computer), strlen(Computer), tostring(Core), Took",
        "Core:long Twice:real Column1:string strlen_Computer:long Core1:string Took:timespan",
        json!([[3, 40.0, "WEB1", 4, "3", "00:00:00"]]),
    )
    .await;
    check(
        "Perf | project-away Time*, C* | top 1 by Took | project-rename Length = Took",
        "Length:timespan",
        json!([["1.00:00:00"]]),
    )
    .await;
    check(
        "Syslog | where ProcessID == 100 | project Details, t = tostring(Details), Remote",
        "Details:dynamic t:string Remote:bool",
        json!([[{"a": [1, "x"]}, "{\"a\":[1,\"x\"]}", true]]),
    )
    .await;
    check(
        "let Limit = 20; let Busy = Perf | where CounterValue >= Limit; Busy | summarize max(CounterValue) by Computer | sort by Computer asc",
        "Computer:string max_CounterValue:real",
        json!([["web1", 20.0], ["web2", 30.0]]),
    )
    .await;
    let columns =
        query::check(&tables(), "Perf | summarize avg(CounterValue) by Computer", &options());
    let names: Vec<String> = columns.expect("a query").into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["Computer", "avg_CounterValue"]);
}

#[tokio::test]
async fn equal_steps_are_each_done() {
    check(
        "print x = 1 | extend x = x + 1 | extend x = x + 1 | extend x = x + 1",
        "x:long",
        json!([[4]]),
    )
    .await;
    check(
        "print a = 1, b = 2, c = 3 | project a = b, b = c, c = a | project a = b, b = c, c = a",
        "a:long b:long c:long",
        json!([[3, 1, 2]]),
    )
    .await;
    check(
        "range x from 1 to 3 step 1 | summarize x = sum(x) | summarize x = sum(x) | extend x = x * 2 | extend x = x * 2",
        "x:long",
        json!([[24]]),
    )
    .await;
}

/// A table that notes what it is asked to filter by.
#[derive(Debug)]
struct Asked {
    table: Arc<dyn TableProvider>,
    filters: std::sync::Mutex<Vec<String>>,
}

#[async_trait]
impl TableProvider for Asked {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let texts = filters.iter().map(ToString::to_string);
        self.filters.lock().expect("no panic elsewhere").extend(texts);
        self.table.scan(state, projection, &[], limit).await
    }
}

#[tokio::test]
async fn filters_reach_the_table_in_its_own_units() {
    for (text, expect) in [
        (
            "Perf | where TimeGenerated > ago(1h) and Computer == 'web1'",
            "TimeGenerated > TimestampMicrosecond(1714561200000000, Some(\"UTC\")) & \
             Computer = Utf8(\"web1\")",
        ),
        (
            "Perf | extend x = CounterValue * 2 | project-rename Host = Computer | where Host in ('web1', 'web2') | where TimeGenerated < datetime(2024-05-01 10:00:00.0000001)",
            "Computer = Utf8(\"web1\") OR Computer = Utf8(\"web2\") & \
             TimeGenerated <= TimestampMicrosecond(1714557600000000, Some(\"UTC\"))",
        ),
        ("Perf | where Core >= 2", "Core >= Int32(2)"),
        ("Perf | where isnotempty(CounterName)", "CAST(CounterName AS Utf8View) != Utf8View(\"\")"),
        ("Perf | where Computer startswith_cs 'we'", "Computer LIKE Utf8(\"we%\")"),
    ] {
        let mut tables = tables();
        let table = tables.0.remove("Perf").expect("a table");
        let asked = Arc::new(Asked { table, filters: Default::default() });
        tables.0.insert("Perf".to_owned(), Arc::<Asked>::clone(&asked) as Arc<dyn TableProvider>);
        query::run(&tables, text, &options()).await.expect(text);
        let found = asked.filters.lock().expect("no panic elsewhere").join(" & ");
        assert_eq!(found, expect, "{text}");
    }
}

#[tokio::test]
async fn tables_are_combined() {
    check(
        "union withsource=Source Perf, Syslog | summarize n = count() by Source | sort by Source asc",
        "Source:string n:long",
        json!([["Perf", 6], ["Syslog", 5]]),
    )
    .await;
    check("union * | count", "Count:long", json!([[11]])).await;
    check(
        "Perf | summarize Samples = count() by Computer | join kind=leftouter (Syslog | summarize Messages = count() by Computer) on Computer | sort by Computer asc",
        "Computer:string Samples:long Computer1:string Messages:long",
        json!([["web1", 4, "web1", 2], ["web2", 2, "", null]]),
    )
    .await;
    check(
        "Syslog | join kind=leftanti Perf on Computer | project Computer | sort by Computer asc",
        "Computer:string",
        json!([["WEB1"], ["db1"], ["db1"]]),
    )
    .await;
    check(
        "Perf | join Syslog on $left.Computer == $right.Computer | count",
        "Count:long",
        json!([[2]]),
    )
    .await;
    check("Perf | join kind=inner Syslog on Computer | count", "Count:long", json!([[8]])).await;
}

#[tokio::test]
async fn a_timespan_cuts_every_table() {
    let mut options = options();
    options.timespan = Some((at("2024-05-01T10:01:00Z"), at("2024-05-01T11:00:00Z")));
    let count = |text: &'static str| {
        let options = options.clone();
        async move {
            let report = query::run(&tables(), text, &options).await.expect(text);
            report.rows()[0][0].clone()
        }
    };
    assert_eq!(count("Perf | count").await, json!(3));
    assert_eq!(count("union Perf, Syslog | count").await, json!(5));
    assert_eq!(count("print 1 | count").await, json!(1));
}

#[tokio::test]
async fn answers_are_bounded() {
    let mut options = options();
    options.rows_max = 4;
    let report = query::run(&tables(), "Perf", &options).await.expect("an answer");
    assert!(report.is_partial);
    assert_eq!(report.rows().len(), 4);
    options.rows_max = 6;
    assert!(!query::run(&tables(), "Perf", &options).await.expect("an answer").is_partial);
    options.memory_bytes_max = 1000;
    let error =
        query::run(&tables(), "range x from 1 to 100000 step 1 | summarize count() by x", &options)
            .await
            .expect_err("too much memory");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded { retry_after: None });
    let mut options = self::options();
    options.timeout = Duration::ZERO;
    let slow = "range x from 1 to 1000000 step 1 | summarize dcount(x)";
    let error = query::run(&tables(), slow, &options).await.expect_err("no time");
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn render_is_passed_on() {
    let report = ask("Perf | summarize count() by Computer | render PieChart with (title='By computer', legend=hidden)").await;
    let render = report.render.clone().expect("a render");
    assert_eq!(render.visualization, "piechart");
    assert_eq!(render.properties["title"], "By computer");
    assert_eq!(report.rows().len(), 2);
}

#[tokio::test]
async fn answers_print_as_a_table() {
    let report =
        ask("Perf | summarize n = count(), Last = max(TimeGenerated) by Computer | sort by n")
            .await;
    let expect = "\
Computer  n  Last
--------  -  ---------------------------
web1      4  2024-05-01T11:59:59.999999Z
web2      2  2024-05-01T10:06:00Z
";
    assert_eq!(report.to_text(), expect);
}

#[tokio::test]
async fn mistakes_name_their_place() {
    for (text, expect) in [
        ("Prf | count", "1:1: no table `Prf`; did you mean `Perf`?"),
        ("Perf | where Compuetr == 'x'", "1:14: no column `Compuetr`; did you mean `Computer`?"),
        (
            "Perf | extend a = tolowr(Computer)",
            "1:19: no function `tolowr`; did you mean `tolower`?",
        ),
        ("Perf | where Computer > 1", "1:14: string and long cannot be compared"),
        ("Perf | where CounterValue", "1:14: expected a bool, found real"),
        ("Perf | extend x = Computer + 1", "1:19: `+` is not defined for string and long"),
        ("Perf | where count() > 1", "1:14: `count` is an aggregate; its place is in `summarize`"),
        ("Perf | summarize Core", "1:18: column `Core` must stand in an aggregate here"),
        ("Perf | project a = Core, a = Core", "1:26: there is a column `a` already"),
        ("Perf | take 'x'", "1:13: expected a constant count of rows"),
        (
            "Perf\n| take 5\n| extend y = substring(Computer)",
            "3:14: `substring` takes 2 to 3 arguments, not 1",
        ),
        ("datatable(a:int)[1, 2, 3] | where b == 1", "1:35: no column `b`; did you mean `a`?"),
        ("datatable(a:int, b:int)[1]", "1:24: 1 values do not make rows of 2 columns"),
        (
            "Perf | join kind=iner Syslog on Computer",
            "1:18: `iner` is not a kind of join; did you mean `inner`?",
        ),
        ("print bin('a', 1)", "1:7: `bin` is not defined for string and long"),
    ] {
        let error = refuse(text).await;
        assert_eq!(error.diagnostics()[0].to_string(), expect, "{text}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
    }
    let error = refuse("Perf | extend a = xx, b = yy | where zz > 1").await;
    assert_eq!(error.diagnostics().len(), 2);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    for (text, name, column) in [
        ("Perf | summarize max(dynamic(1))", "max of dynamic values", 18),
        ("Perf | assert-schema (a:long)", "assert-schema", 8),
        ("Perf | evaluate python(typeof(*), 'x')", "plugin python", 17),
        ("alias database x = y; Perf", "alias statement", 1),
    ] {
        match refuse(text).await {
            QueryError::Unsupported { name: found, line: 1, column: at, .. } => {
                assert_eq!((found.as_str(), at), (name, column), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn hostile_queries_are_refused() {
    let long = format!("Perf | where Computer == '{}'", "x".repeat(1024 * 1024));
    assert_eq!(refuse(&long).await.kind(), ErrorKind::TooLarge);
    let deep = format!("print {}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert_eq!(refuse(&deep).await.kind(), ErrorKind::Invalid);
    // Each table doubles the one before.
    let mut bomb = "let t0 = Perf;".to_owned();
    for level in 1..40 {
        bomb.push_str(&format!("let t{level} = union t{0}, t{0};", level - 1));
    }
    bomb.push_str("t39 | count");
    assert_eq!(refuse(&bomb).await.kind(), ErrorKind::Invalid);
    assert_eq!(refuse("range x from 1 to 1000000000 step 1").await.kind(), ErrorKind::Invalid);
    assert_eq!(refuse("Perf | where Computer matches regex '('").await.kind(), ErrorKind::Invalid);
    // Each step's expression is deep and is built on the one before.
    let step = format!("| extend Core = Core{}", " + 1".repeat(60));
    assert_eq!(
        refuse(&format!("Perf {} | count", step.repeat(95))).await.kind(),
        ErrorKind::Invalid
    );
    // Text that doubles at each step.
    let growth = "| extend Computer = strcat(Computer, Computer)".repeat(60);
    assert_eq!(
        refuse(&format!("Perf {growth} | summarize max(strlen(Computer))")).await.kind(),
        ErrorKind::TooLarge
    );
    let growth = "print x = strrep('a', 1000000) | extend y = replace_string(x, 'a', x)";
    assert_eq!(refuse(growth).await.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn the_deepest_and_longest_queries_run() {
    let sum = format!("Perf | extend y = Core{} | count", " + 1".repeat(60));
    check_set(&sum, vec![json!(6)]).await;
    let nested = format!("Perf | extend y = {}Core{} | count", "abs(".repeat(60), ")".repeat(60));
    check_set(&nested, vec![json!(6)]).await;
    let pipes: String =
        (0..47).map(|n| format!("| extend c{n} = Core + {n} | where c{n} != 1000")).collect();
    check_set(&format!("Perf {pipes} | count"), vec![json!(6)]).await;
    let chain = "| extend Core = Core + 1".repeat(50);
    check_set(&format!("Perf {chain} | where Core > 0 | summarize max(Core)"), vec![json!(57)])
        .await;
    // Each use of a column is a use of the one before, thirty times.
    let doubled = "| extend Core = Core + Core - Core * 2 + 1".repeat(16);
    check_set(&format!("Perf {doubled} | where Core == 1 | count"), vec![json!(5)]).await;
    let wide: Vec<String> = (0..2000).map(|n| format!("Core == {n}")).collect();
    check_set(&format!("Perf | where {} | count", wide.join(" or ")), vec![json!(4)]).await;
}

#[test]
fn types_of_storage_are_read() {
    let unreadable = table(vec![column(
        "x",
        Arc::new(arrow::array::BinaryArray::from(vec![&b"a"[..], &b"b"[..]])),
    )]);
    let tables = Tables([("T".to_owned(), unreadable)].into());
    let error = query::check(&tables, "T", &options()).expect_err("binary");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(DataType::Binary.to_string(), "Binary");
}
