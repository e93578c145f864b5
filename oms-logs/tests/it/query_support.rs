//! Tables in memory, and questions to them.

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{Field, Int32Type, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use jiff::Timestamp;
use oms_core::clock::ManualClock;
use oms_logs::query::{self, QueryError, QueryOptions, QueryReport, TableSource};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(crate) struct Tables(pub(crate) BTreeMap<String, Arc<dyn TableProvider>>);

impl TableSource for Tables {
    fn table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.0.get(name).cloned()
    }

    fn table_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

pub(crate) fn times(texts: &[&str]) -> ArrayRef {
    let micros: Vec<i64> = texts.iter().map(|text| at(text).as_microsecond()).collect();
    Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC"))
}

pub(crate) fn table(columns: Vec<(Field, ArrayRef)>) -> Arc<dyn TableProvider> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("a batch");
    // Two partitions, so that partial results are merged.
    let cut = batch.num_rows() / 2;
    let parts = vec![vec![batch.slice(0, cut)], vec![batch.slice(cut, batch.num_rows() - cut)]];
    Arc::new(MemTable::try_new(batch.schema(), parts).expect("a table"))
}

pub(crate) fn column(name: &str, array: ArrayRef) -> (Field, ArrayRef) {
    (Field::new(name, array.data_type().clone(), true), array)
}

pub(crate) fn marked(name: &str, kql_type: &str, array: ArrayRef) -> (Field, ArrayRef) {
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
pub(crate) async fn check_set(text: &str, mut expect: Vec<Json>) {
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
