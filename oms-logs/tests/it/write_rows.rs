//! Rows that are Arrow columns already.

use crate::{batch, numbers, open, select, start, up_to};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use datafusion::arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::Int32Type;
use jiff::SignedDuration;
use oms_core::record::{Batch, Record};
use oms_logs::ingest::admit::BATCH_RECORDS_MAX;
use oms_logs::{Error, RowBatch, Workspace};
use std::ops::Range;
use std::sync::Arc;

fn row_batch(sequence: u64, table: &str, columns: Vec<(&str, ArrayRef)>) -> RowBatch {
    let rows = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    );
    let table = table.parse().expect("a name");
    RowBatch { producer: "a".into(), sequence, table, rows: rows.expect("rows") }
}

/// The rows of [`crate::perf`].
fn perf(sequence: u64, numbers: Range<u64>) -> RowBatch {
    let millis = start().as_millisecond();
    let times = numbers.clone().map(|number| millis + number as i64 * 1_000);
    let computers: DictionaryArray<Int32Type> = numbers
        .clone()
        .map(|number| format!("web-{}", number % 10))
        .collect::<Vec<_>>()
        .iter()
        .map(String::as_str)
        .collect();
    let names = StringArray::from_iter_values(numbers.clone().map(|_| "% Processor Time"));
    let values = Int64Array::from_iter_values(numbers.map(|number| number as i64));
    row_batch(
        sequence,
        "Perf",
        vec![
            ("CounterValue", Arc::new(values)),
            ("CounterName", Arc::new(names)),
            ("Computer", Arc::new(computers)),
            ("TimeGenerated", Arc::new(TimestampMillisecondArray::from_iter_values(times))),
        ],
    )
}

/// The rows of a table by time: the parts of a table come in any order.
async fn table(workspace: &Workspace, name: &str) -> RecordBatch {
    let batches = select(workspace, name, None).await;
    let rows = concat_batches(&batches[0].schema(), &batches).expect("one batch");
    let times = rows.column_by_name("TimeGenerated").expect("there");
    let order = sort_to_indices(times, None, None).expect("an order");
    take_record_batch(&rows, &order).expect("sorted")
}

#[tokio::test]
async fn rows_and_records_make_the_same_table() {
    let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("two"));
    let (by_records, by_rows) = (open(one.path()).await, open(other.path()).await);
    for round in 0..3 {
        by_records.write(batch("a", round + 1, round * 7..round * 7 + 7)).await.expect("written");
        by_rows.write_rows(perf(round + 1, round * 7..round * 7 + 7)).await.expect("written");
        assert_eq!(table(&by_records, "Perf").await, table(&by_rows, "Perf").await);
        if round == 1 {
            by_rows.flush().await.expect("flushed");
            by_records.flush().await.expect("flushed");
        }
    }
    drop(by_rows);
    let by_rows = open(other.path()).await;
    assert_eq!(table(&by_records, "Perf").await.num_rows(), 21);
    assert_eq!(table(&by_records, "Perf").await, table(&by_rows, "Perf").await);
}

#[tokio::test]
async fn a_producer_counts_rows_and_records_as_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    workspace.write(batch("a", 1, 0..3)).await.expect("written");
    workspace.write_rows(perf(1, 50..60)).await.expect("a repeat");
    workspace.write_rows(perf(2, 3..5)).await.expect("written");
    workspace.write(batch("a", 2, 70..80)).await.expect("a repeat");
    workspace.write_rows(perf(3, 5..5)).await.expect("an empty batch");
    assert_eq!(workspace.last_sequence("a").expect("open"), 3);
    drop(workspace);
    let workspace = open(folder.path()).await;
    workspace.write_rows(perf(2, 90..95)).await.expect("a repeat");
    assert_eq!(numbers(&workspace).await, up_to(5));
}

#[tokio::test]
async fn a_custom_table_grows_by_columns_and_keeps_them_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let first = start().as_millisecond();
    let times = vec![first, first + 1];
    let time = || Arc::new(TimestampMillisecondArray::from(times.clone())) as ArrayRef;
    let columns = vec![
        ("TimeGenerated", time()),
        ("Seconds", Arc::new(Float64Array::from(vec![Some(0.5), None])) as ArrayRef),
        ("Nothing", Arc::new(StringArray::from(vec![None::<&str>, None])) as ArrayRef),
    ];
    workspace.write_rows(row_batch(1, "My_CL", columns)).await.expect("written");
    let number = Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    let wrong = vec![("TimeGenerated", time()), ("SECONDS", number)];
    let error = workspace.write_rows(row_batch(2, "My_CL", wrong)).await.expect_err("refused");
    assert!(error.to_string().contains("in case alone"), "{error}");
    drop(workspace);
    let workspace = open(folder.path()).await;
    let schema = workspace.table_schema(&"My_CL".parse().expect("a name"));
    assert!(schema.column("Seconds").is_some() && schema.column("Nothing").is_none());
    let rows = table(&workspace, "My_CL").await;
    assert_eq!(rows.column_by_name("Seconds").expect("there").null_count(), 1);
    assert_eq!(rows.column_by_name("Type").expect("there").as_string::<i32>().value(1), "My_CL");
}

/// A million rows with a bad one in the middle: its place is told, and without it everything is
/// taken.
#[tokio::test]
async fn one_bad_row_of_a_million_is_named_and_the_others_are_written() {
    const ROWS: usize = 1_000_000;
    const BAD: usize = 567_890;
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let times = TimestampMillisecondArray::from_iter_values(0..ROWS as i64);
    let counts = Int64Array::from_iter_values((0..ROWS).map(|row| match row {
        BAD => i64::MAX,
        row => row as i64,
    }));
    let all = row_batch(
        1,
        "Perf",
        vec![("TimeGenerated", Arc::new(times)), ("SampleCount", Arc::new(counts))],
    );
    let (mut sequence, mut refused) = (0, Vec::new());
    let mut left = Vec::from([(0, ROWS)]);
    while let Some((from, end)) = left.pop() {
        let count = (end - from).min(BATCH_RECORDS_MAX);
        let rows = all.rows.slice(from, count);
        match workspace.write_rows(RowBatch { sequence: sequence + 1, rows, ..all.clone() }).await {
            Ok(()) => {
                sequence += 1;
                left.extend((from + count < end).then_some((from + count, end)));
            }
            Err(Error::Record { index, column, .. }) => {
                refused.push((from + index, column));
                left.push((from + index + 1, end));
                left.extend((index > 0).then_some((from, from + index)));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, [(BAD, "SampleCount".to_owned())]);
    assert_eq!(workspace.tables()[0].rows, ROWS as u64 - 1);
}

/// As the same records are: the first row at fault is told in both forms.
#[tokio::test]
async fn a_bad_record_among_many_is_named_and_the_others_are_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let mut records: Vec<Record> = (0..2_000).map(crate::perf).collect();
    records[1_234].fields.insert("CounterValue".into(), "high".into());
    records[1_234].time += SignedDuration::from_secs(1);
    let send = |records| Batch { producer: "a".into(), sequence: 1, records };
    let error = workspace.write(send(records.clone())).await.expect_err("refused");
    let Error::Record { index, .. } = error else { panic!("{error}") };
    records.remove(index);
    workspace.write(send(records)).await.expect("written");
    let expected: Vec<u64> = (0..2_000).filter(|number| *number != 1_234).collect();
    assert_eq!(numbers(&workspace).await, expected);
}
