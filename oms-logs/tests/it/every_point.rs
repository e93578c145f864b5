//! Faults at every point of the write path, each in turn: no point is left to chance.

pub(crate) mod points;

use crate::{batch, perf, quiet, start};
use datafusion::arrow::array::{
    ArrayRef, AsArray, Float64Array, RecordBatch, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::Float64Type;
use futures::StreamExt as _;
use jiff::SignedDuration;
use object_store::ObjectStore;
use oms_core::entropy::SeededEntropy;
use oms_core::record::{Batch, Record};
use oms_core::testkit::disk::SimDisk;
use oms_logs::{Error, RowBatch, Workspace};
use points::{After, Pointed, Points};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Runs that go on at the same time.
const AT_ONCE: usize = 4;

/// The number of the record that is refused.
const REFUSED: u64 = 666;

pub(crate) async fn open_at(
    folder: &Path,
    disk: &SimDisk,
    points: &Arc<Points>,
) -> Result<Workspace, Error> {
    let (log, store) = (Arc::clone(points), Arc::clone(points));
    let layer = |inner| -> Arc<dyn ObjectStore> { Arc::new(Pointed { inner, points: store }) };
    let log = Pointed { inner: disk.clone(), points: log };
    quiet(folder).log_disk(Arc::new(log)).store_layer(layer).build().await
}

/// What a producer sends.
#[derive(Clone, Debug)]
enum Sent {
    Records(Batch),
    Rows(RowBatch),
}

fn other(number: u64) -> Record {
    let time = start() + SignedDuration::from_secs(number as i64);
    Record::new("My_CL".parse().expect("a name"), time, "pc").with("Number_d", number as f64)
}

fn rows(producer: &str, sequence: u64, numbers: &[u64]) -> RowBatch {
    let micros = start().as_microsecond();
    let times = numbers.iter().map(|number| micros + *number as i64 * 1_000_000);
    let times = TimestampMicrosecondArray::from_iter_values(times);
    let values = Float64Array::from_iter_values(numbers.iter().map(|number| *number as f64));
    let rows = RecordBatch::try_from_iter([
        ("TimeGenerated", Arc::new(times) as ArrayRef),
        ("CounterValue", Arc::new(values) as ArrayRef),
    ]);
    let table = "Perf".parse().expect("a name");
    RowBatch { producer: producer.into(), sequence, table, rows: rows.expect("rows") }
}

/// Batches with their numbers; between some of them is a flush.
fn script() -> Vec<Option<(Sent, Vec<u64>)>> {
    let mut both = batch("b", 1, [10, 11]);
    both.records.push(other(12));
    vec![
        Some((Sent::Records(batch("a", 1, [1, 2, 3])), vec![1, 2, 3])),
        Some((Sent::Records(both), vec![10, 11, 12])),
        None,
        Some((Sent::Rows(rows("a", 2, &[4, 5])), vec![4, 5])),
        Some((Sent::Records(batch("b", 2, [13])), vec![13])),
        None,
        Some((Sent::Rows(rows("c", 1, &[20])), vec![20])),
    ]
}

async fn send(workspace: &Workspace, sent: &Sent) -> Result<(), Error> {
    match sent {
        Sent::Records(batch) => workspace.write(batch.clone()).await,
        Sent::Rows(rows) => workspace.write_rows(rows.clone()).await,
    }
}

/// Opens a workspace and goes through the script; answers the numbers that were acknowledged. What
/// fails is passed over.
async fn run(
    folder: &Path,
    disk: &SimDisk,
    points: &Arc<Points>,
) -> (Option<Workspace>, BTreeSet<u64>) {
    let mut acknowledged = BTreeSet::new();
    let Ok(workspace) = open_at(folder, disk, points).await else { return (None, acknowledged) };
    for step in script() {
        match step {
            Some((sent, numbers)) => {
                if send(&workspace, &sent).await.is_ok() {
                    acknowledged.extend(numbers);
                }
            }
            None => drop(workspace.flush().await),
        }
    }
    let mut wrong = batch("d", 1, [REFUSED]);
    wrong.records.push(perf(REFUSED).with("CounterValue", "high"));
    let refused = workspace.write(wrong).await.expect_err("refused");
    assert!(points.has_struck() || matches!(refused, Error::Record { .. }), "{refused}");
    (Some(workspace), acknowledged)
}

/// How often each number is in the tables.
async fn seen(workspace: &Workspace) -> BTreeMap<u64, u32> {
    let mut seen = BTreeMap::new();
    for (table, column) in [("Perf", "CounterValue"), ("My_CL", "Number_d")] {
        if workspace.table_provider(table).is_none() {
            continue;
        }
        for rows in crate::select(workspace, table, None).await {
            let Some(values) = rows.column_by_name(column) else { continue };
            for value in values.as_primitive::<Float64Type>().iter().flatten() {
                *seen.entry(value as u64).or_default() += 1;
            }
        }
    }
    seen
}

/// The auditor: what was acknowledged is there once, and what was not at most once.
async fn audit(point: u64, workspace: &Workspace, acknowledged: &BTreeSet<u64>) {
    let seen = seen(workspace).await;
    let repeated: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(repeated.is_empty(), "point {point}: there twice: {repeated:?}");
    let lost: Vec<_> = acknowledged.iter().filter(|number| !seen.contains_key(number)).collect();
    assert!(lost.is_empty(), "point {point}: acknowledged and lost: {lost:?}");
    assert!(!seen.contains_key(&REFUSED), "point {point}: a refused batch is there");
}

/// Everything is sent again, and is there once: after that, after a flush, after a restart, and in
/// the Delta tables alone.
async fn settle(point: u64, folder: &Path, disk: &SimDisk, workspace: Workspace) {
    let mut all = BTreeSet::new();
    for (sent, numbers) in script().into_iter().flatten() {
        let sent = send(&workspace, &sent).await;
        sent.unwrap_or_else(|error| panic!("point {point}: {error}"));
        all.extend(numbers);
    }
    audit(point, &workspace, &all).await;
    workspace.close().await.unwrap_or_else(|error| panic!("point {point}: {error}"));
    let points = Arc::new(Points::calm());
    let workspace = open_at(folder, disk, &points).await.expect("a workspace");
    audit(point, &workspace, &all).await;
    drop(workspace);
    let workspace = open_at(folder, &SimDisk::default(), &points).await.expect("without its log");
    audit(point, &workspace, &all).await;
}

/// Answers whether there is such a point.
async fn stop_at(point: u64) -> bool {
    let (folder, disk) = (tempfile::tempdir().expect("a folder"), SimDisk::default());
    let points = Arc::new(Points::new(point, After::Off));
    let (workspace, acknowledged) = run(folder.path(), &disk, &points).await;
    drop(workspace);
    disk.crash(&SeededEntropy::new(point));
    let calm = Arc::new(Points::calm());
    let workspace = open_at(folder.path(), &disk, &calm).await;
    let workspace = workspace.unwrap_or_else(|error| panic!("point {point}: {error}"));
    audit(point, &workspace, &acknowledged).await;
    settle(point, folder.path(), &disk, workspace).await;
    points.has_struck()
}

async fn fail_at(point: u64) -> bool {
    let (folder, disk) = (tempfile::tempdir().expect("a folder"), SimDisk::default());
    let points = Arc::new(Points::new(point, After::GoOn));
    let (workspace, acknowledged) = run(folder.path(), &disk, &points).await;
    let workspace = match workspace {
        Some(workspace) => workspace,
        None => open_at(folder.path(), &disk, &points).await.expect("it failed once"),
    };
    let has_struck = points.has_struck();
    points.rest();
    audit(point, &workspace, &acknowledged).await;
    settle(point, folder.path(), &disk, workspace).await;
    has_struck
}

/// Every point from the first until there is no further one; answers how many.
pub(crate) async fn enumerate<F: Future<Output = bool>>(run: impl Fn(u64) -> F) -> u64 {
    let runs = futures::stream::iter(0..10_000).map(run).buffered(AT_ONCE);
    let struck = runs.take_while(|has_struck| std::future::ready(*has_struck));
    struck.count().await as u64
}

/// The machine stops before, in the middle of, and after each effect.
#[tokio::test]
async fn power_may_fail_at_every_point_of_the_write_path() {
    let points = enumerate(stop_at).await;
    assert!(points > 100, "{points}");
}

/// One call fails, before, in the middle of, or after its effect, and everything goes on.
#[tokio::test]
async fn any_one_call_of_the_write_path_may_fail() {
    let points = enumerate(fail_at).await;
    assert!(points > 100, "{points}");
}
