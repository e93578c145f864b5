//! What is told of what came, from every way in: bytes in `Usage`, what was cut or refused in
//! `Operation`.

use crate::{quiet, start};
use jiff::SignedDuration;
use oms_core::clock::ManualClock;
use oms_core::record::{Batch, Record};
use oms_logs::arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use oms_logs::ingest::custom::CustomBatch;
use oms_logs::ingest::rule::StreamBatch;
use oms_logs::query::QueryOptions;
use oms_logs::source::custom_log::CustomLog;
use oms_logs::source::tail::StartAt;
use oms_logs::source::{Agent, FIELD_BYTES_MAX};
use oms_logs::workspace::{LoadFile, LoadOptions};
use oms_logs::{RowBatch, Workspace};
use serde_json::{Value, json};
use std::io::Cursor;
use std::sync::Arc;

/// A text that every protocol cuts.
fn long() -> String {
    "x".repeat(70_000)
}

async fn ask(workspace: &Workspace, clock: &Arc<ManualClock>, query: &str) -> Vec<Vec<Value>> {
    let options = QueryOptions::new(Arc::<ManualClock>::clone(clock));
    workspace.query(query, &options).await.expect("an answer").rows()
}

/// Records of services and of columns.
async fn write(workspace: &Workspace) {
    let record = |name: &str, value: Value| {
        Record::new("Written_CL".parse().expect("a name"), start(), "pc").with(name, value)
    };
    for (sequence, name) in [(1, "Fine"), (2, "not a column")] {
        let records = vec![record(name, json!(1))];
        let batch = Batch { producer: "service".into(), sequence, records };
        assert_eq!(workspace.write(batch).await.is_ok(), sequence == 1);
    }
    for (sequence, name) in [(1, "Fine"), (2, "not a column")] {
        let times = TimestampMicrosecondArray::from(vec![start().as_microsecond()]);
        let columns = [
            ("TimeGenerated", Arc::new(times) as ArrayRef),
            (name, Arc::new(StringArray::from(vec!["x"]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).expect("rows");
        let table = "Columns_CL".parse().expect("a name");
        let batch = RowBatch { producer: "columns".into(), sequence, table, rows };
        assert_eq!(workspace.write_rows(batch).await.is_ok(), sequence == 1);
    }
}

/// A file with a row that is none.
async fn load(workspace: &Workspace) {
    let file = LoadFile::text("rows", Cursor::new("{\"Fine\":1}\nsoup\n".to_owned()));
    let table = "Loaded_CL".parse().expect("a name");
    let report = workspace.load(&table, vec![file], &LoadOptions::default()).await.expect("loaded");
    assert_eq!((report.accepted, report.refused), (1, 1));
}

/// A stream with a text that is too long, and a batch with a record that is none.
async fn stream(workspace: &Workspace) {
    let rule = json!({"location": "local", "properties": {
        "streamDeclarations": {"Custom-S": {"columns": [
            {"name": "TimeGenerated", "type": "datetime"}, {"name": "Text", "type": "string"},
        ]}},
        "destinations": {"logAnalytics": [{"name": "here", "workspaceResourceId": "/w"}]},
        "dataFlows": [{
            "streams": ["Custom-S"], "destinations": ["here"], "outputStream": "Custom-Streamed_CL",
        }],
    }});
    workspace.put_rule("r", rule).await.expect("a rule");
    let batch = |sequence, records| StreamBatch {
        producer: "stream".into(),
        sequence,
        rule: "r".into(),
        stream: "Custom-S".into(),
        records,
    };
    let fine = json!({"TimeGenerated": start().to_string(), "Text": long()});
    workspace.ingest_stream(batch(1, vec![fine])).await.expect("taken");
    workspace.ingest_stream(batch(2, vec![json!(3)])).await.expect_err("no object");
}

/// The same of a custom table.
async fn post(workspace: &Workspace) {
    let batch = |sequence, records: Value| CustomBatch {
        producer: "post".into(),
        sequence,
        table: "Posted_CL".parse().expect("a name"),
        records: records.to_string().into(),
        time_property: None,
        resource_id: None,
    };
    let report = workspace.ingest_custom(batch(1, json!([{"Text": long()}]))).await.expect("taken");
    assert_eq!((report.records, report.changes.len(), report.is_repeat), (1, 1, false));
    let again = workspace.ingest_custom(batch(1, json!([{"Text": "other"}]))).await;
    assert!(again.expect("a repeat").is_repeat);
    for refused in [json!([{"Text": "a"}, {"TimeGenerated": 1}]), json!([3]), json!(3)] {
        workspace.ingest_custom(batch(2, refused)).await.expect_err("refused");
    }
}

/// An agent whose log has a line that is too long.
async fn follow(workspace: &Arc<Workspace>, folder: &std::path::Path, clock: &Arc<ManualClock>) {
    let log = folder.join("app.log");
    std::fs::write(&log, format!("{}\nshort\n", long())).expect("written");
    let agent = Agent::builder(Arc::<Workspace>::clone(workspace))
        .state_dir(folder.join("agent"))
        .clock(Arc::<ManualClock>::clone(clock))
        .computer("pc")
        .source(CustomLog::new("Followed", log, StartAt::Beginning).expect("a log"))
        .build()
        .expect("an agent");
    assert!(agent.collect_once().await.expect("a round").notes.truncated == 1);
}

#[tokio::test]
async fn what_comes_is_told_from_every_way_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::new(start()));
    let builder = quiet(&folder.path().join("workspace")).clock(Arc::<ManualClock>::clone(&clock));
    let workspace = Arc::new(builder.build().await.expect("a workspace"));
    write(&workspace).await;
    load(&workspace).await;
    stream(&workspace).await;
    post(&workspace).await;
    follow(&workspace, folder.path(), &clock).await;
    workspace.tell_refused().await.expect("told");

    let told = "Operation | where OperationCategory == 'Ingestion' \
                | summarize records = sum(extract(@'^(\\d+)', 1, Detail, typeof(long))) \
                  by OperationKey, OperationStatus | sort by OperationKey asc, OperationStatus asc";
    let expected = json!([
        ["Columns_CL", "Error", 1],
        ["Custom-S", "Error", 1],
        ["Loaded_CL", "Error", 1],
        ["Posted_CL", "Error", 4],
        ["Posted_CL", "Warning", 1],
        ["Streamed_CL", "Warning", 1],
        ["Written_CL", "Error", 1],
    ]);
    assert_eq!(json!(ask(&workspace, &clock, told).await), expected);
    let agent = format!("texts longer than {FIELD_BYTES_MAX} bytes were cut");
    let of_agent = format!("Operation | where Detail has '{agent}' | project OperationCategory");
    assert_eq!(json!(ask(&workspace, &clock, &of_agent).await), json!([["Agent"]]));

    clock.set(start() + SignedDuration::from_hours(2));
    workspace.account_usage().await.expect("told");
    for table in
        ["Written_CL", "Columns_CL", "Loaded_CL", "Streamed_CL", "Posted_CL", "Followed_CL"]
    {
        let counted =
            ask(&workspace, &clock, &format!("{table} | summarize sum(_BilledSize)")).await;
        let usage =
            format!("Usage | where DataType == '{table}' | project round(Quantity * 1e6, 3)");
        assert_eq!(ask(&workspace, &clock, &usage).await, counted, "{table}");
        assert!(counted[0][0].as_f64().is_some_and(|bytes| bytes > 0.0), "{table}: {counted:?}");
    }
}

/// Writers that let one table grow at once, while it is flushed: each value is in its column.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_let_one_table_grow_together() {
    const WRITERS: usize = 4;
    const POSTS: usize = 30;
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::new(start()));
    let builder = quiet(folder.path()).clock(Arc::<ManualClock>::clone(&clock));
    let workspace = Arc::new(builder.build().await.expect("a workspace"));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let workspace = Arc::clone(&workspace);
            tokio::spawn(async move {
                for post in 0..POSTS {
                    // Half of the columns are everyone's, and their types differ.
                    let shared = match writer % 2 {
                        0 => json!(post),
                        _ => json!(post.to_string()),
                    };
                    let record = json!({
                        "Writer": writer, format!("Shared{post}"): shared,
                        format!("Own{writer}x{}", post % 15): post,
                    });
                    let batch = CustomBatch {
                        producer: format!("writer {writer}"),
                        sequence: post as u64 + 1,
                        table: "Grown_CL".parse().expect("a name"),
                        records: record.to_string().into(),
                        time_property: None,
                        resource_id: None,
                    };
                    workspace.ingest_custom(batch).await.expect("taken");
                    if post % 7 == 0 {
                        workspace.flush().await.expect("flushed");
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("it ends");
    }
    for _ in 0..2 {
        let rows = ask(&workspace, &clock, "Grown_CL | summarize count(), dcount(_ItemId)").await;
        assert_eq!(rows, [[json!(WRITERS * POSTS), json!(WRITERS * POSTS)]]);
        for post in 0..POSTS {
            // As text where that came first, and as a number elsewhere.
            let count = format!(
                "Grown_CL | where column_ifexists('Shared{post}_s', '') == '{post}' or \
                 column_ifexists('Shared{post}_d', real(null)) == {post} | count"
            );
            assert_eq!(ask(&workspace, &clock, &count).await, [[json!(WRITERS)]], "{post}");
        }
        workspace.flush().await.expect("flushed");
    }
}
