//! The Delta tables, read by the Delta library alone.

use crate::{batch, numbers, open, select, start, up_to};
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{Expr, SessionContext, ident, lit};
use datafusion::scalar::ScalarValue;
use deltalake_core::table::builder::DeltaTableBuilder;
use jiff::SignedDuration;
use oms_core::record::{Batch, Record};
use std::path::Path;
use url::Url;

/// What a reader without this crate finds in a table: its rows and its partition values.
async fn read_delta(folder: &Path) -> (Vec<RecordBatch>, Vec<String>) {
    let url = Url::from_directory_path(folder).expect("an absolute path");
    let table = DeltaTableBuilder::from_url(url).expect("a table").load().await.expect("loaded");
    let snapshot = table.snapshot().expect("a snapshot");
    let (mut rows, mut days) = (Vec::new(), Vec::new());
    for file in snapshot.log_data().iter() {
        let path = folder.join(file.path().as_ref());
        let data = std::fs::File::open(&path).expect("a data file");
        assert_eq!(data.metadata().expect("its size").len(), file.size() as u64);
        let reader = ParquetRecordBatchReaderBuilder::try_new(data).expect("Parquet");
        let batches: Vec<_> = reader.build().expect("a reader").map(|b| b.expect("rows")).collect();
        let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(file.num_records(), Some(count));
        rows.extend(batches);
        days.extend(file.partition_values_map().into_values().flatten());
    }
    days.sort();
    (rows, days)
}

#[tokio::test]
async fn a_delta_reader_finds_the_rows_by_day() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("with space");
    let workspace = open(&path).await;
    workspace.write(batch("a", 1, (0..48).map(|hour| hour * 3_600))).await.expect("written");
    workspace.flush().await.expect("flushed");
    workspace.write(batch("a", 2, [90_000])).await.expect("written");
    let closed = workspace.close().await.expect("closed");
    assert_eq!((closed.tables[0].files, closed.tables[0].delta_version), (1, 1));

    let (rows, days) = read_delta(&path.join("tables/Perf")).await;
    assert_eq!(days, ["2026-11-23", "2026-11-24", "2026-11-24"]);
    let mut values: Vec<f64> = rows
        .iter()
        .flat_map(|rows| {
            let values = rows.column_by_name("CounterValue").expect("the column");
            values.as_primitive::<Float64Type>().values().to_vec()
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let mut expected: Vec<f64> = (0..48).map(|hour| f64::from(hour * 3_600)).collect();
    expected.push(90_000.0);
    expected.sort_by(f64::total_cmp);
    assert_eq!(values, expected);
}

#[tokio::test]
async fn files_are_sorted_by_time_and_keep_types() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    workspace.write(batch("a", 1, [7, 3, 5])).await.expect("written");
    workspace.write(batch("b", 1, [4, 9])).await.expect("written");
    workspace.close().await.expect("closed");
    let (rows, _) = read_delta(&folder.path().join("tables/Perf")).await;
    let values = rows[0].column_by_name("CounterValue").expect("the column");
    assert_eq!(values.as_primitive::<Float64Type>().values(), &[3.0, 4.0, 5.0, 7.0, 9.0]);
    let url = Url::from_directory_path(folder.path().join("tables/Perf")).expect("a path");
    let table = DeltaTableBuilder::from_url(url).expect("a table").load().await.expect("loaded");
    let schema = serde_json::to_value(table.snapshot().expect("a snapshot").schema().as_ref());
    let schema = schema.expect("JSON");
    let fields = schema["fields"].as_array().expect("fields");
    let field = |name: &str| fields.iter().find(|field| field["name"] == name).expect("a field");
    assert_eq!(field("TimeGenerated")["type"], "timestamp");
    assert_eq!(field("TimeGenerated")["metadata"]["oms.kql_type"], "datetime");
    assert_eq!(field("TimeGeneratedDay")["type"], "date");
    assert_eq!(field("SampleCount")["type"], "integer");
}

#[tokio::test]
async fn checkpoints_keep_rows_and_transactions() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    for sequence in 1..=23 {
        workspace.write(batch("a", sequence, [sequence - 1])).await.expect("written");
        workspace.flush().await.expect("flushed");
    }
    drop(workspace);
    let log = folder.path().join("tables/Perf/_delta_log");
    let has_checkpoint = std::fs::read_dir(log)
        .expect("the log")
        .any(|entry| entry.expect("an entry").file_name().to_string_lossy().contains("checkpoint"));
    assert!(has_checkpoint);
    let workspace = open(folder.path()).await;
    assert_eq!(numbers(&workspace).await, up_to(23));
    workspace.write(batch("a", 23, [999])).await.expect("a repeat");
    workspace.write(batch("a", 24, [23])).await.expect("written");
    workspace.flush().await.expect("flushed");
    assert_eq!(numbers(&workspace).await, up_to(24));
}

#[tokio::test]
async fn another_writers_commits_are_seen_after_the_next_flush() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    workspace.write(batch("a", 1, 0..4)).await.expect("written");
    workspace.flush().await.expect("flushed");
    let url = Url::from_directory_path(folder.path().join("tables/Perf")).expect("a path");
    let table = DeltaTableBuilder::from_url(url).expect("a table").load().await.expect("loaded");
    let remove: Vec<_> = table
        .snapshot()
        .expect("a snapshot")
        .log_data()
        .iter()
        .map(|file| deltalake_core::kernel::Action::Remove(file.remove_action(true)))
        .collect();
    let state = table.snapshot().expect("a snapshot");
    let operation = deltalake_core::protocol::DeltaOperation::Delete { predicate: None };
    deltalake_core::kernel::transaction::CommitBuilder::default()
        .with_actions(remove)
        .build(Some(state), table.log_store(), operation)
        .await
        .expect("another writer's commit");
    workspace.write(batch("a", 2, 4..6)).await.expect("written");
    workspace.flush().await.expect("flushed");
    assert_eq!(numbers(&workspace).await, [4, 5]);
}

fn after(seconds: i64) -> Expr {
    let time = (start() + SignedDuration::from_secs(seconds)).as_microsecond();
    ident("TimeGenerated")
        .gt_eq(lit(ScalarValue::TimestampMicrosecond(Some(time), Some("UTC".into()))))
}

async fn plan_of(workspace: &oms_logs::Workspace, filter: Expr) -> String {
    let provider = workspace.table_provider("Perf").expect("a table");
    let context = SessionContext::new();
    let frame = context.read_table(provider).expect("a frame").filter(filter).expect("a filter");
    let plan = frame.create_physical_plan().await.expect("a plan");
    displayable(plan.as_ref()).indent(true).to_string()
}

#[tokio::test]
async fn files_and_batches_outside_the_time_are_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    for (sequence, first) in [(1, 0), (2, 1_000), (3, 200_000)] {
        workspace.write(batch("a", sequence, first..first + 3)).await.expect("written");
        workspace.flush().await.expect("flushed");
    }
    workspace.write(batch("a", 4, 300_000..300_002)).await.expect("written");
    let files = |plan: &str| plan.matches(".zstd.parquet").count();
    let all = plan_of(&workspace, after(0)).await;
    assert_eq!(files(&all), 3, "{all}");
    let some = plan_of(&workspace, after(1_000)).await;
    assert_eq!(files(&some), 2, "{some}");
    assert!(some.contains("DataSourceExec: partitions=1, partition_sizes=[1]"), "{some}");
    let fresh = plan_of(&workspace, after(300_000)).await;
    assert_eq!(files(&fresh), 0, "{fresh}");
    let none = plan_of(&workspace, after(400_000)).await;
    assert!(none.contains("EmptyExec"), "{none}");
    let other = plan_of(&workspace, ident("Computer").eq(lit("web-7"))).await;
    assert_eq!(files(&other), 0, "{other}");
    let count = async |seconds| -> usize {
        let rows = select(&workspace, "Perf", Some(after(seconds))).await;
        rows.iter().map(RecordBatch::num_rows).sum()
    };
    assert_eq!((count(0).await, count(1_001).await, count(300_001).await), (11, 7, 1));
}

#[tokio::test]
async fn columns_that_older_files_lack_read_as_null() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let send = async |sequence, record: Record| {
        let batch = Batch { producer: "p".into(), sequence, records: vec![record] };
        workspace.write(batch).await.expect("written");
        workspace.flush().await.expect("flushed");
    };
    let record = || Record::new("Grow_CL".parse().expect("a name"), start(), "pc");
    send(1, record().with("A", 1_i64)).await;
    send(2, record().with("B", "two")).await;
    send(3, record().with("A", 3_i64).with("C", 0.5)).await;
    let (with_b, without_c) = (ident("B").is_not_null(), ident("C").is_null());
    let count = async |filter| -> usize {
        let rows = select(&workspace, "Grow_CL", Some(filter)).await;
        rows.iter().map(RecordBatch::num_rows).sum()
    };
    assert_eq!(count(with_b).await, 1);
    assert_eq!(count(without_c).await, 2);
    assert_eq!(count(ident("A").gt(lit(1_i64))).await, 1);
}
