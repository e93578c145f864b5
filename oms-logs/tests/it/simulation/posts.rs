//! A sender whose records grow a custom table, past all of its columns: what of them was acknowledged,
//! and whether the table has it.
//!
//! The auditor's invariant: each acknowledged record is there once, with its value in one column of its
//! property or in the bag.

use crate::{quiet, select};
use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::sim::Sim;
use oms_logs::Workspace;
use oms_logs::ingest::custom::CustomBatch;
use oms_logs::schema::COLUMNS_MAX;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

const TABLE: &str = "Posts_CL";

/// Columns that the first record has if it is wide, so that few are left.
const WIDE: u64 = 470;

/// Properties of the records after it, each of which may come to have three columns.
const PROPERTIES: u64 = 8;

/// What a record has beside its number.
#[derive(Clone, Debug)]
struct Sent {
    property: String,
    value: Value,
}

/// Sends one batch after the other, each again until it is acknowledged.
#[derive(Debug, Default)]
pub(super) struct Posts {
    sequence: u64,
    is_wide: bool,
    /// The batch under way, and the numbers of its records.
    pending: Option<(CustomBatch, Vec<u64>)>,
    sent: BTreeMap<u64, Sent>,
    acknowledged: BTreeSet<u64>,
    /// Rows whose value was found in the bag.
    bagged: u64,
}

impl Posts {
    /// Those of a table that is nearly full with the first record.
    fn wide() -> Self {
        Self { is_wide: true, ..Self::default() }
    }

    fn draw<M: Clone + Debug>(&mut self, sim: &mut Sim<M>) -> (CustomBatch, Vec<u64>) {
        self.sequence += 1;
        let (mut records, mut numbers) = (Vec::new(), Vec::new());
        for _ in 0..1 + sim.below(3) {
            let number = self.sent.len() as u64;
            let property = format!("p{}", sim.below(PROPERTIES));
            let value = match sim.below(4) {
                0 => json!(number),
                1 => json!(format!("t{number}")),
                2 => json!(number.is_multiple_of(2)),
                _ => json!(number.to_string()),
            };
            let mut record = serde_json::Map::new();
            record.insert("id".to_owned(), number.into());
            record.insert(property.clone(), value.clone());
            if number == 0 && self.is_wide {
                record.extend((0..WIDE).map(|at| (format!("w{at}"), json!(at))));
            }
            self.sent.insert(number, Sent { property, value });
            records.push(Value::Object(record));
            numbers.push(number);
        }
        let batch = CustomBatch {
            producer: "posts".to_owned(),
            sequence: self.sequence,
            table: TABLE.parse().expect("a name"),
            records: Value::Array(records).to_string().into(),
            time_property: None,
            resource_id: None,
        };
        (batch, numbers)
    }

    /// Sends the batch that is not acknowledged, or the next; whether it is acknowledged now.
    pub(super) async fn send<M: Clone + Debug>(
        &mut self,
        sim: &mut Sim<M>,
        workspace: &Workspace,
    ) -> bool {
        let (batch, numbers) = match self.pending.take() {
            Some(pending) => pending,
            None => self.draw(sim),
        };
        let is_written = workspace.ingest_custom(batch.clone()).await.is_ok();
        if is_written {
            self.acknowledged.extend(numbers);
        } else {
            self.pending = Some((batch, numbers));
        }
        is_written
    }

    pub(super) const fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    pub(super) async fn audit(&mut self, seed: u64, workspace: &Workspace) {
        if workspace.tables().iter().all(|table| table.name != TABLE) {
            assert!(self.acknowledged.is_empty(), "seed {seed}: every post is lost");
            return;
        }
        let mut seen = BTreeSet::new();
        for rows in select(workspace, TABLE, None).await {
            assert!(rows.num_columns() <= COLUMNS_MAX, "seed {seed}: too many columns");
            let ids = rows.column_by_name("id_d").expect("each has one");
            for row in 0..rows.num_rows() {
                let number = ids.as_primitive::<Float64Type>().value(row) as u64;
                assert!(seen.insert(number), "seed {seed}: post {number} is there twice");
                let sent = self.sent.get(&number).unwrap_or_else(|| {
                    panic!("seed {seed}: a row that nobody posted: {number}");
                });
                let names = rows.schema();
                let names = names.fields().iter().map(|field| field.name().clone());
                let mut found: Vec<(String, Value)> = names
                    .zip(rows.columns())
                    .filter(|(name, _)| name.starts_with('p'))
                    .filter_map(|(name, column)| Some((name, value(column, row)?)))
                    .collect();
                let bag = rows.column_by_name("AdditionalFields");
                if let Some(Value::String(bag)) = bag.and_then(|bag| value(bag, row)) {
                    let bag: serde_json::Map<String, Value> =
                        serde_json::from_str(&bag).expect("an object");
                    let of_property = bag.into_iter().filter(|(name, _)| name.starts_with('p'));
                    found.extend(of_property.inspect(|_| self.bagged += 1));
                }
                let is_whole = match found.as_slice() {
                    [(column, value)] => {
                        column.starts_with(&format!("{}_", sent.property))
                            && says(value, &sent.value)
                    }
                    _ => false,
                };
                assert!(is_whole, "seed {seed}: {sent:?} of post {number} became {found:?}");
            }
        }
        let lost: Vec<_> = self.acknowledged.difference(&seen).collect();
        assert!(lost.is_empty(), "seed {seed}: acknowledged and lost posts: {lost:?}");
    }
}

/// What a column holds; none if that is null.
fn value(column: &ArrayRef, row: usize) -> Option<Value> {
    column.is_valid(row).then(|| match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        _ => column.as_string::<i32>().value(row).into(),
    })
}

/// Whether a stored value is what was sent; a text of digits may have become a number.
fn says(stored: &Value, sent: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::String(text) => text.parse::<f64>().ok(),
        other => other.as_f64(),
    };
    stored == sent || number(stored).is_some() && number(stored) == number(sent)
}

/// A table comes to its last column and beyond it while its process is killed and its power fails.
#[tokio::test]
async fn a_table_fills_up_through_crashes() {
    for seed in 0..2 {
        let mut sim = Sim::<()>::new(seed);
        let (folder, disk) = (tempfile::tempdir().expect("a folder"), SimDisk::default());
        let open = async || {
            let builder = quiet(folder.path()).log_disk(Arc::new(disk.clone()));
            builder.build().await.expect("a workspace")
        };
        let (mut posts, mut workspace) = (Posts::wide(), open().await);
        for round in 0..10 {
            for _ in 0..4 {
                assert!(posts.send(&mut sim, &workspace).await, "nothing fails here");
            }
            match round % 3 {
                0 => drop(workspace.flush().await.expect("flushed")),
                1 => {
                    drop(workspace);
                    disk.crash(&*sim.entropy());
                    workspace = open().await;
                    posts.audit(seed, &workspace).await;
                }
                _ => {}
            }
        }
        posts.audit(seed, &workspace).await;
        let columns = workspace.table_schema(&TABLE.parse().expect("a name")).columns().len();
        assert_eq!((columns, posts.bagged > 0), (COLUMNS_MAX, true), "seed {seed}");
    }
}
