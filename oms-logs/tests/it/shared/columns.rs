//! Columns that two processes give a table at the same time.

use super::{Place, table};
use crate::{select, start};
use datafusion::arrow::array::AsArray;
use oms_core::clock::ManualClock;
use oms_core::record::{Batch, Record, Value};
use oms_logs::ingest::custom::CustomBatch;
use oms_logs::query::QueryOptions;
use oms_logs::schema::ColumnType;
use oms_logs::workspace::{LoadFile, LoadOptions};
use oms_logs::{Error, Workspace};
use serde_json::{Value as Json, json};
use std::io::Cursor;
use std::sync::Arc;

const TABLE: &str = "Grow_CL";

async fn write(
    workspace: &Workspace,
    sequence: u64,
    id: i64,
    fields: &[(&str, Value)],
) -> Result<(), Error> {
    let mut record = Record::new(table(TABLE), start(), "pc").with("Id", id);
    for (name, value) in fields {
        record = record.with(*name, value.clone());
    }
    let batch = Batch { producer: "p".into(), sequence, records: vec![record] };
    workspace.write(batch).await
}

async fn ask(place: &Place, workspace: &Workspace, columns: &str) -> Vec<Vec<Json>> {
    let options = QueryOptions::new(Arc::<ManualClock>::clone(&place.clock));
    let query = format!("{TABLE} | order by Id asc | project {columns}");
    workspace.query(&query, &options).await.expect("answered").rows()
}

/// What both processes, and one that opens the tables later, answer.
async fn everyone_answers(place: &Place, all: [&Workspace; 2], columns: &str, rows: &[Json]) {
    for workspace in all {
        workspace.refresh().await.expect("looked");
        let rows: Vec<Json> = rows.to_vec();
        assert_eq!(json!(ask(place, workspace, columns).await), json!(rows));
    }
    let later = place.open(2).await;
    assert_eq!(json!(ask(place, &later, columns).await), json!(rows.to_vec()), "from the tables");
    later.close().await.expect("closed");
}

#[tokio::test]
async fn a_column_of_two_types_gets_the_one_that_comes_first_and_no_value_is_lost() {
    let place = Place::new(3);
    let (a, b) = (place.open(0).await, place.open(1).await);
    write(&a, 1, 1, &[("Level", 7_i64.into())]).await.expect("acknowledged");
    write(&b, 1, 2, &[("Level", "high".into()), ("Own", true.into())]).await.expect("acknowledged");
    write(&b, 2, 3, &[("Level", "low".into())]).await.expect("acknowledged");
    a.flush().await.expect("flushed");
    b.flush().await.expect("flushed, in the table's columns");
    assert_eq!(
        b.table_schema(&table(TABLE)).column("Level").expect("one").column_type,
        ColumnType::Long
    );
    let rows = [
        json!([1, 7, null, null]),
        json!([2, null, true, {"Level": "high"}]),
        json!([3, null, null, {"Level": "low"}]),
    ];
    let columns = "Id, Level, Own, AdditionalFields";
    everyone_answers(&place, [&a, &b], columns, &rows).await;
    // From here on both do alike.
    for workspace in [&a, &b] {
        let refused = write(workspace, 9, 9, &[("Level", "high".into())]).await;
        let refused = refused.expect_err("it is a long").to_string();
        assert!(refused.contains("column is long"), "{refused}");
        write(workspace, 9, 4, &[("Level", 8_i64.into())]).await.expect("acknowledged");
        workspace.flush().await.expect("flushed");
    }
    a.refresh().await.expect("looked");
    assert_eq!(ask(&place, &a, "Id").await.len(), 5);
}

/// A process learns of the other one's column while its own rows are in its memory or its log alone.
#[tokio::test]
async fn rows_that_are_not_flushed_are_seen_in_the_columns_that_the_table_has() {
    let place = Place::new(3);
    let (a, b) = (place.open(0).await, place.open(1).await);
    // A number that fits goes into the column, and one that does not beside it.
    write(&a, 1, 1, &[("Level", Value::Int(1))]).await.expect("acknowledged");
    write(&b, 1, 2, &[("Level", 2_i64.into())]).await.expect("acknowledged");
    write(&b, 2, 3, &[("Level", (1_i64 << 40).into()), ("level2", 1_i64.into())])
        .await
        .expect("acknowledged");
    a.flush().await.expect("flushed");
    b.refresh().await.expect("looked");
    let rows = [
        json!([1, 1, null, null]),
        json!([2, 2, null, null]),
        json!([3, null, 1, {"Level": 1_i64 << 40}]),
    ];
    let columns = "Id, Level, level2, AdditionalFields";
    assert_eq!(json!(ask(&place, &b, columns).await), json!(rows.to_vec()), "in memory");
    drop(b);
    let b = place.open(1).await;
    assert_eq!(json!(ask(&place, &b, columns).await), json!(rows.to_vec()), "from the log");
    write(&b, 3, 4, &[("Level", 5_i64.into())]).await.expect("acknowledged");
    b.flush().await.expect("flushed");
    write(&b, 4, 5, &[("Level", 6_i64.into())]).await.expect("acknowledged");
    b.flush().await.expect("flushed");
    let rows = [rows.as_slice(), &[json!([4, 5, null, null]), json!([5, 6, null, null])]].concat();
    everyone_answers(&place, [&a, &b], columns, &rows).await;
}

#[tokio::test]
async fn names_that_differ_in_letter_case_are_one_column() {
    let place = Place::new(3);
    let (a, b) = (place.open(0).await, place.open(1).await);
    write(&a, 1, 1, &[("Level", 1_i64.into())]).await.expect("acknowledged");
    write(&b, 1, 2, &[("level", 2_i64.into()), ("LEVEL2", 1.5.into())])
        .await
        .expect("acknowledged");
    write(&a, 2, 3, &[("Level2", "x".into())]).await.expect("acknowledged");
    a.flush().await.expect("flushed");
    b.flush().await.expect("flushed");
    let rows =
        [json!([1, 1, "", null]), json!([2, 2, "", {"LEVEL2": 1.5}]), json!([3, null, "x", null])];
    everyone_answers(&place, [&a, &b], "Id, Level, Level2, AdditionalFields", &rows).await;
}

/// The columns that each has room for are more than the table has.
#[tokio::test]
async fn a_table_has_its_500_columns_whoever_fills_it() {
    let place = Place::new(3);
    let (a, b) = (place.open(0).await, place.open(1).await);
    let fields = |prefix: &str| -> Vec<(String, Value)> {
        (0..300).map(|at| (format!("{prefix}{at}"), (at as i64).into())).collect()
    };
    for (workspace, id, prefix) in [(&a, 1, "A"), (&b, 2, "B")] {
        let fields = fields(prefix);
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        write(workspace, 1, id, &fields).await.expect("acknowledged");
    }
    a.flush().await.expect("flushed");
    b.flush().await.expect("flushed");
    let schema = b.table_schema(&table(TABLE));
    assert_eq!(schema.columns().len(), 500);
    let rows = select(&b, TABLE, None).await;
    assert_eq!(rows.iter().map(|rows| rows.num_rows()).sum::<usize>(), 2);
    let mut found = 0;
    for rows in &rows {
        for column in rows.columns().iter().zip(rows.schema().fields()) {
            let (array, field) = column;
            found += match field.name().starts_with('B') {
                true => array.len() - array.null_count(),
                false => 0,
            };
        }
        let bags = rows.column_by_name("AdditionalFields").expect("a bag").as_string::<i32>();
        for bag in bags.iter().flatten() {
            let bag: serde_json::Map<String, Json> = serde_json::from_str(bag).expect("an object");
            found += bag.keys().filter(|name| name.starts_with('B')).count();
        }
    }
    assert_eq!(found, 300, "each value of the second one is somewhere, once");
}

/// The columns of these are named by what they hold, so that there is nothing to agree on.
#[tokio::test]
async fn columns_that_are_named_by_what_they_hold_do_not_differ() {
    let place = Place::new(3);
    let (a, b) = (place.open(0).await, place.open(1).await);
    for (workspace, records) in [
        (&a, json!([{"Id": 1, "Level": 7}])),
        (&b, json!([{"Id": 2, "Level": "high"}, {"Id": 3, "Level": true}])),
    ] {
        let batch = CustomBatch {
            producer: "p".into(),
            sequence: 1,
            table: table(TABLE),
            records: records.to_string().into(),
            time_property: None,
            resource_id: None,
        };
        workspace.ingest_custom(batch).await.expect("acknowledged");
    }
    a.flush().await.expect("flushed");
    b.flush().await.expect("flushed");
    a.refresh().await.expect("looked");
    let options = QueryOptions::new(Arc::<ManualClock>::clone(&place.clock));
    let query = format!("{TABLE} | order by Id_d asc | project Id_d, Level_d, Level_s, Level_b");
    let answer = a.query(&query, &options).await.expect("answered");
    let rows = [
        json!([1.0, 7.0, "", null]),
        json!([2.0, null, "high", null]),
        json!([3.0, null, "", true]),
    ];
    assert_eq!(json!(answer.rows()), json!(rows.to_vec()));
}

#[tokio::test]
async fn a_load_into_columns_that_another_one_took_otherwise_ends_by_name() {
    let place = Place::new(2);
    let (a, b) = (place.open(0).await, place.open(1).await);
    write(&b, 1, 1, &[("Level", "high".into())]).await.expect("acknowledged");
    write(&a, 1, 2, &[("Level", 7_i64.into())]).await.expect("acknowledged");
    a.flush().await.expect("flushed");
    let load = async || {
        let file = LoadFile::text("rows", Cursor::new("{\"Id\":3,\"Level\":\"low\"}\n".to_owned()));
        b.load(&table(TABLE), vec![file], &LoadOptions::default()).await.expect("a report")
    };
    let report = load().await;
    let failure = report.failure.expect("a failure").to_string();
    assert!(failure.contains("otherwise since") && report.accepted == 0, "{failure}");
    let report = load().await;
    assert!(report.failure.is_none() && report.refused == 1, "{report:?}");
    assert!(report.refused_rows[0].reason.contains("long"), "{report:?}");
    b.flush().await.expect("flushed");
    let rows = [json!([1, null, {"Level": "high"}]), json!([2, 7, null])];
    assert_eq!(json!(ask(&place, &b, "Id, Level, AdditionalFields").await), json!(rows.to_vec()));
}
