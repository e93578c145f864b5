//! Groups by columns that are read as codes are those of the text.

use super::{open, start};
use jiff::SignedDuration;
use oms_core::clock::ManualClock;
use oms_core::record::{Batch, Record};
use oms_logs::Workspace;
use oms_logs::query::QueryOptions;
use std::sync::Arc;

/// Groups by columns, and the same by expressions that need each row's text.
const QUERIES: [(&str, &str); 11] = [
    ("summarize n=count() by Computer", "summarize n=count() by Computer=strcat(Computer, '')"),
    ("summarize n=count() by Text", "summarize n=count() by Text=strcat(Text, '')"),
    (
        "summarize n=count(), s=sum(N), a=avg(N), m=max(N) by Text, Computer",
        "summarize n=count(), s=sum(N), a=avg(N), m=max(N) by Text=strcat(Text, ''), \
         Computer=strcat(Computer, '')",
    ),
    (
        "where N % 3 != 1 | summarize n=count() by bin(TimeGenerated, 1m), Computer, N % 2",
        "where N % 3 != 1 | summarize n=count() by bin(TimeGenerated, 1m), \
         Computer=strcat(Computer, ''), N % 2",
    ),
    (
        "where Text has 'twice' | summarize n=count() by Text, Computer",
        "where Text has 'twice' | summarize n=count() by Text=strcat(Text, ''), \
         Computer=strcat(Computer, '')",
    ),
    (
        "extend Host=Computer | project Host, N | summarize n=countif(N > 100) by Host",
        "extend Host=strcat(Computer, '') | project Host, N | summarize n=countif(N > 100) by Host",
    ),
    (
        "summarize arg_max(N, Text) by Computer",
        "summarize arg_max(N, Text) by Computer=strcat(Computer, '')",
    ),
    (
        "summarize d=dcount(Text), u=count_distinct(N % 5) by Computer",
        "summarize d=dcount(Text), u=count_distinct(N % 5) by Computer=strcat(Computer, '')",
    ),
    (
        "summarize d=dcount(Text) by Computer",
        "distinct Text=strcat(Text, ''), Computer=strcat(Computer, '') \
         | summarize d=count() by Computer",
    ),
    (
        "summarize d=count_distinct(Text) by Part=N / 300",
        "distinct Text=strcat(Text, ''), Part=N / 300 | summarize d=count() by Part",
    ),
    ("distinct Text, Computer", "distinct Text=strcat(Text, ''), Computer=strcat(Computer, '')"),
];

fn record(n: u64) -> Record {
    let time = start() + SignedDuration::from_millis(n as i64 * 50);
    let record = Record::new("Lines_CL".parse().expect("a name"), time, format!("pc-{}", n % 7));
    let record = record.with("N", n as i64);
    match n % 11 {
        0 => record,
        1 => record.with("Text", ""),
        2 | 3 => record.with("Text", "Ünïcode, twice"),
        // So many that it is in no dictionary.
        _ if (4_000..6_000).contains(&n) => record.with("Text", format!("line {n}")),
        other => record.with("Text", format!("text {other}")),
    }
}

async fn write(workspace: &Workspace, sequence: u64, numbers: std::ops::Range<u64>) {
    let records = numbers.map(record).collect();
    workspace.write(Batch { producer: "p".into(), sequence, records }).await.expect("written");
}

/// The rows of an answer in an order of their own.
async fn rows(workspace: &Workspace, query: &str) -> Vec<String> {
    let options = QueryOptions::new(Arc::new(ManualClock::new(start())));
    let report = workspace.query(&format!("Lines_CL | {query}"), &options).await.expect(query);
    let mut rows: Vec<String> = report.to_text().lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

async fn compare(workspace: &Workspace, what: &str) {
    for (coded, plain) in QUERIES {
        let (coded_rows, plain_rows) = (rows(workspace, coded).await, rows(workspace, plain).await);
        assert!(plain_rows.len() > 4, "{what}: {plain}: {plain_rows:?}");
        assert_eq!(coded_rows, plain_rows, "{what}: {coded}");
    }
}

#[tokio::test]
async fn groups_of_codes_are_those_of_the_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    write(&workspace, 1, 0..2_000).await;
    compare(&workspace, "fresh").await;
    workspace.flush().await.expect("flushed");
    compare(&workspace, "a file").await;
    write(&workspace, 2, 2_000..4_000).await;
    compare(&workspace, "a file and fresh rows").await;
    workspace.flush().await.expect("flushed");
    // A file whose text has no dictionary, and fresh rows with a column that no file has.
    write(&workspace, 3, 4_000..6_000).await;
    workspace.flush().await.expect("flushed");
    let records = (6_000..7_000).map(|n| record(n).with("More", "x")).collect();
    workspace.write(Batch { producer: "p".into(), sequence: 4, records }).await.expect("written");
    compare(&workspace, "files of different kinds").await;
    let by_more = rows(&workspace, "summarize n=count() by More").await;
    assert!(by_more.iter().any(|row| row.contains("6000")), "{by_more:?}");
}
