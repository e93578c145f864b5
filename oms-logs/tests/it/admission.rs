//! What is refused, and by which name.

use crate::{batch, numbers, open, select, start, up_to};
use datafusion::arrow::array::AsArray;
use oms_core::record::{Batch, Record, RecordSink, SinkError};
use oms_logs::schema::{COLUMNS_MAX, ColumnType, TableSchema};
use serde_json::json;
use std::path::Path;

#[tokio::test]
async fn a_wrong_column_type_refuses_the_whole_batch_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let mut wrong = batch("a", 1, 0..3);
    wrong.records[2].fields.insert("CounterValue".into(), "high".into());
    let sink: &dyn RecordSink = &workspace;
    let error = sink.write(wrong).await.expect_err("refused");
    let SinkError::Refused { producer, sequence: 1, reason } = &error else {
        panic!("{error}");
    };
    assert_eq!(producer, "a");
    assert!(reason.contains("record=`2`") && reason.contains("column=`CounterValue`"), "{reason}");
    assert!(workspace.tables().is_empty());
    sink.write(batch("a", 1, 0..3)).await.expect("the mended batch has the same sequence");
    assert_eq!(numbers(&workspace).await, up_to(3));
}

#[tokio::test]
async fn custom_tables_grow_in_memory_in_files_and_across_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = || Record::new("Door_CL".parse().expect("a name"), start(), "gate");
    let send = async |workspace: &oms_logs::Workspace, sequence, record| {
        let batch = Batch { producer: "door".into(), sequence, records: vec![record] };
        workspace.write(batch).await
    };
    let workspace = open(folder.path()).await;
    send(&workspace, 1, record().with("Open_b", true)).await.expect("written");
    workspace.flush().await.expect("flushed");
    send(&workspace, 2, record().with("Tag", json!({"z": 1, "a": [2]}))).await.expect("written");
    drop(workspace);

    let workspace = open(folder.path()).await;
    let error = send(&workspace, 3, record().with("Tag", 5_i64)).await;
    assert!(error.is_ok(), "dynamic takes anything");
    let error = send(&workspace, 4, record().with("Open_b", "yes")).await.expect_err("refused");
    assert!(error.to_string().contains("column=`Open_b`"), "{error}");
    workspace.flush().await.expect("flushed");
    let snapshot = workspace.table_snapshot("Door_CL").expect("the table");
    let kind = |name| snapshot.table_schema().column(name).map(|column| column.column_type);
    assert_eq!(kind("Open_b"), Some(ColumnType::Bool));
    assert_eq!(kind("Tag"), Some(ColumnType::Dynamic));
    let mut tags: Vec<Option<String>> = Vec::new();
    for rows in select(&workspace, "Door_CL", None).await {
        let tag = rows.schema().index_of("Tag").expect("the column");
        assert_eq!(ColumnType::of_field(rows.schema().field(tag)), Some(ColumnType::Dynamic));
        let column = rows.column(tag).as_string::<i32>();
        tags.extend(column.iter().map(|tag| tag.map(str::to_owned)));
    }
    tags.sort();
    assert_eq!(tags, [None, Some("5".into()), Some(r#"{"a":[2],"z":1}"#.into())]);
}

/// Past 500 columns nothing is lost, in memory, in files and after a restart.
#[tokio::test]
async fn a_full_custom_table_keeps_the_rest_in_a_bag() {
    const WIDE: usize = 600;
    let folder = tempfile::tempdir().expect("a folder");
    let mut record = Record::new("Wide_CL".parse().expect("a name"), start(), "pc");
    for number in 0..WIDE {
        record = record.with(format!("c{number:03}"), number as f64);
    }
    let workspace = open(folder.path()).await;
    for sequence in 1..=2 {
        let batch = Batch { producer: "wide".into(), sequence, records: vec![record.clone()] };
        workspace.write(batch).await.expect("written");
        workspace.flush().await.expect("flushed");
    }
    drop(workspace);
    let workspace = open(folder.path()).await;
    let snapshot = workspace.table_snapshot("Wide_CL").expect("the table");
    let columns = snapshot.table_schema().columns();
    assert_eq!(columns.len(), COLUMNS_MAX);
    let own = columns.iter().filter(|column| column.name.starts_with('c')).count();
    let rows = select(&workspace, "Wide_CL", None).await;
    let mut seen = 0;
    for rows in &rows {
        let bags = rows.column_by_name("AdditionalFields").expect("the bag").as_string::<i32>();
        for bag in bags.iter().flatten() {
            let bag: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(bag).expect("an object");
            assert_eq!(own + bag.len(), WIDE);
            assert_eq!(bag[&format!("c{:03}", WIDE - 1)], 599.0);
            seen += 1;
        }
    }
    assert_eq!(seen, 2);
}

#[tokio::test]
async fn standard_tables_are_there_without_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    for name in TableSchema::standard_names() {
        let rows: usize = select(&workspace, name, None).await.iter().map(|b| b.num_rows()).sum();
        assert_eq!(rows, 0, "{name}");
    }
    assert!(workspace.table_provider("Nothing_CL").is_none());
    assert!(workspace.table_provider("../etc").is_none());
    assert!(workspace.table_names().is_empty());
}

#[tokio::test]
async fn a_batch_of_several_tables_is_one_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let mut mixed = batch("a", 1, 0..2);
    mixed.records.push(
        Record::new("Heartbeat".parse().expect("a name"), start(), "pc").with("OSType", "Linux"),
    );
    workspace.write(mixed).await.expect("written");
    assert_eq!(workspace.table_names(), ["Heartbeat", "Perf"]);
    workspace.flush().await.expect("flushed");
    let reports = workspace.tables();
    assert_eq!(reports.iter().map(|table| table.rows).collect::<Vec<_>>(), [1, 2]);
    assert!(reports.iter().all(|table| table.bytes > 0 && Path::new(&table.location).is_dir()));
}
