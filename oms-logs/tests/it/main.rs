//! The log repository from outside.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[cfg(test)]
mod accounting;
mod admission;
#[cfg(test)]
mod bulk;
#[cfg(test)]
mod codes;
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod damage_at_rest;
#[cfg(test)]
mod damage_of_logs;
mod delta;
mod durable;
#[cfg(test)]
mod every_point;
mod flips;
#[cfg(feature = "interop")]
mod interop;
mod load;
#[cfg(test)]
mod maintenance;
#[cfg(test)]
mod maintenance_faults;
mod objects;
#[cfg(test)]
mod overload;
#[cfg(test)]
mod query;
#[cfg(test)]
mod query_bounds;
#[cfg(test)]
mod query_documented;
#[cfg(test)]
mod query_dynamic;
#[cfg(test)]
mod query_functions;
#[cfg(test)]
mod query_geo;
#[cfg(test)]
mod query_language;

mod query_parts;

mod query_patterns;
#[cfg(test)]
mod query_plugins;
#[cfg(test)]
mod query_random;
#[cfg(test)]
mod query_series;

mod query_tabular;
#[cfg(test)]
mod query_text;

mod query_types;
#[cfg(test)]
mod repeated;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod source_agent;
#[cfg(test)]
mod source_live;
#[cfg(test)]
mod source_tail;
#[cfg(test)]
mod spans;
#[cfg(test)]
mod store_faults;
#[cfg(test)]
mod terms;
#[cfg(test)]
mod write_rows;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::prelude::{Expr, SessionContext};
use jiff::{SignedDuration, Timestamp};
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::record::{Batch, Record};
use oms_logs::repository::maintain::MaintenanceSettings;
use oms_logs::workspace::WorkspaceBuilder;
use oms_logs::{Settings, Workspace};
use std::path::Path;
use std::sync::Arc;

/// A workspace that flushes and maintains its tables only when it is told to.
fn quiet(folder: &Path) -> WorkspaceBuilder {
    let settings = Settings {
        flush_age: SignedDuration::from_hours(10_000),
        flush_bytes: u64::MAX,
        maintenance: MaintenanceSettings { is_automatic: false, ..Default::default() },
        ..Settings::default()
    };
    Workspace::builder(folder)
        .clock(Arc::new(ManualClock::new(start())))
        .entropy(Arc::new(SeededEntropy::new(7)))
        .settings(settings)
}

async fn open(folder: &Path) -> Workspace {
    quiet(folder).build().await.expect("a workspace")
}

fn start() -> Timestamp {
    "2026-11-23T00:00:00Z".parse().expect("a time")
}

fn perf(number: u64) -> Record {
    let time = start() + SignedDuration::from_secs(number as i64);
    Record::new("Perf".parse().expect("a name"), time, format!("web-{}", number % 10))
        .with("CounterName", "% Processor Time")
        .with("CounterValue", number as f64)
}

fn batch(producer: &str, sequence: u64, numbers: impl IntoIterator<Item = u64>) -> Batch {
    let records = numbers.into_iter().map(perf).collect();
    Batch { producer: producer.to_owned(), sequence, records }
}

/// Every row of a table that a filter takes.
async fn select(workspace: &Workspace, table: &str, filter: Option<Expr>) -> Vec<RecordBatch> {
    let provider = workspace.table_provider(table).expect("a table");
    let frame = SessionContext::new().read_table(provider).expect("a frame");
    let frame = match filter {
        Some(filter) => frame.filter(filter).expect("a filter"),
        None => frame,
    };
    frame.collect().await.expect("rows")
}

/// The numbers of the `Perf` rows, sorted.
async fn numbers(workspace: &Workspace) -> Vec<u64> {
    numbers_of(&select(workspace, "Perf", None).await)
}

/// Those of some rows.
fn numbers_of(rows: &[RecordBatch]) -> Vec<u64> {
    let mut numbers: Vec<u64> = rows
        .iter()
        .flat_map(|rows| {
            let values = rows.column_by_name("CounterValue").expect("the column");
            values.as_primitive::<Float64Type>().values().to_vec()
        })
        .map(|number| number as u64)
        .collect();
    numbers.sort_unstable();
    numbers
}

fn up_to(end: u64) -> Vec<u64> {
    (0..end).collect()
}
