//! Retention, compaction, vacuum and purge.

use crate::{batch, numbers, quiet, select, start, up_to};
use bytes::Bytes;
use datafusion::arrow::array::{AsArray as _, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::prelude::SessionContext;
use deltalake_core::table::builder::DeltaTableBuilder;
use jiff::{SignedDuration, Timestamp};
use oms_core::clock::ManualClock;
use oms_core::record::{Batch, Record, RecordType};
use oms_logs::query::{ExportFormat, ExportOptions, QueryOptions};
use oms_logs::repository::maintain::{
    CompactOptions, MaintenanceSettings, TablePlan, TableSettings,
};
use oms_logs::{Error, Settings, Workspace};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use url::Url;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A workspace whose clock the test sets, and which maintains only when it is told to.
struct Place {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    workspace: Workspace,
}

fn settings(maintenance: &MaintenanceSettings) -> Settings {
    Settings {
        flush_age: SignedDuration::from_hours(10_000_000),
        flush_bytes: u64::MAX,
        maintenance: MaintenanceSettings { is_automatic: false, ..maintenance.clone() },
        ..Settings::default()
    }
}

fn small_files() -> MaintenanceSettings {
    MaintenanceSettings { compaction_bytes: 64 << 10, ..Default::default() }
}

impl Place {
    async fn new(maintenance: MaintenanceSettings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(start()));
        let workspace = Self::build(&folder, &clock, maintenance).await;
        Self { folder, clock, workspace }
    }

    async fn build(
        folder: &tempfile::TempDir,
        clock: &Arc<ManualClock>,
        maintenance: MaintenanceSettings,
    ) -> Workspace {
        let builder = quiet(folder.path()).settings(settings(&maintenance));
        builder.clock(Arc::<ManualClock>::clone(clock)).build().await.expect("a workspace")
    }

    async fn write(&self, sequence: u64, numbers: impl IntoIterator<Item = u64>) {
        self.workspace.write(batch("a", sequence, numbers)).await.expect("written");
    }

    async fn flush(&self) {
        self.workspace.flush().await.expect("flushed");
    }

    /// The rows that are there, whatever queries see.
    fn rows(&self) -> u64 {
        let tables = self.workspace.tables();
        tables.iter().find(|table| table.name == "Perf").map_or(0, |table| table.rows)
    }

    fn data_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for day in std::fs::read_dir(self.folder.path().join("tables/Perf")).expect("the table") {
            let day = day.expect("an entry").path();
            if day.to_string_lossy().contains("TimeGeneratedDay=") {
                let files = std::fs::read_dir(day).expect("a day");
                found.extend(files.map(|file| file.expect("an entry").path()));
            }
        }
        found
    }

    async fn settle(&self, settings: TableSettings) -> Result<(), Error> {
        self.workspace.set_table_settings(&perf_table(), settings).await
    }

    async fn retain(&self, now: Timestamp) -> u64 {
        let plan = self.workspace.plan_retention(now).await.expect("a plan");
        let planned = plan.rows();
        let report = plan.trusting_the_clock().apply().await.expect("applied");
        let removed = report.tables.iter().map(|table| table.rows).sum();
        assert_eq!(planned, removed);
        removed
    }
}

fn perf_table() -> RecordType {
    "Perf".parse().expect("a name")
}

fn days(interactive: u32, total: u32) -> TableSettings {
    TableSettings {
        plan: TablePlan::Analytics,
        interactive_retention_days: interactive,
        total_retention_days: total,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// The number of rows that the Delta library finds, with the statistics of their files.
async fn delta_rows(folder: &Path) -> usize {
    let url = Url::from_directory_path(folder.join("tables/Perf")).expect("an absolute path");
    let table = DeltaTableBuilder::from_url(url).expect("a table").load().await.expect("loaded");
    let snapshot = table.snapshot().expect("a snapshot");
    snapshot.log_data().iter().map(|file| file.num_records().expect("statistics")).sum()
}

#[tokio::test]
async fn settings_are_checked_and_survive() {
    let place = Place::new(MaintenanceSettings::default()).await;
    assert_eq!(place.workspace.table_settings(&perf_table()).expect("open"), days(30, 30));
    for (wrong, name) in [
        (days(3, 30), "interactive_retention_days"),
        (days(731, 731), "interactive_retention_days"),
        (days(30, 29), "total_retention_days"),
        (days(30, 4_384), "total_retention_days"),
        (TableSettings { plan: TablePlan::Basic, ..days(31, 31) }, "interactive_retention_days"),
        (
            TableSettings { plan: TablePlan::Auxiliary, ..days(29, 31) },
            "interactive_retention_days",
        ),
    ] {
        let error = place.settle(wrong).await.expect_err("out of range");
        assert!(matches!(&error, Error::Setting { setting, .. } if *setting == name), "{error}");
    }
    assert_eq!(place.workspace.table_settings(&perf_table()).expect("open"), days(30, 30));
    for right in
        [days(4, 4), days(730, 4_383), TableSettings { plan: TablePlan::Basic, ..days(30, 4_383) }]
    {
        place.settle(right).await.expect("in range");
    }
    let Place { folder, clock, workspace } = place;
    drop(workspace);
    let again = Place::build(&folder, &clock, MaintenanceSettings::default()).await;
    let kept = again.table_settings(&perf_table()).expect("open");
    assert_eq!((kept.plan, kept.total_retention_days), (TablePlan::Basic, 4_383));
}

#[tokio::test]
async fn settings_that_are_damaged_are_refused_by_name() {
    let place = Place::new(MaintenanceSettings::default()).await;
    place.settle(days(10, 20)).await.expect("set");
    let Place { folder, workspace, .. } = place;
    drop(workspace);
    let file = folder.path().join("tables.json");
    let text = std::fs::read_to_string(&file).expect("the document");
    for wrong in [text.replace("10", "9999"), text.replace('}', ""), String::new()] {
        std::fs::write(&file, wrong).expect("written");
        let error = quiet(folder.path()).build().await.expect_err("damaged");
        let is_named = matches!(&error, Error::Corrupt { path, .. } if path == "tables.json");
        assert!(is_named, "{error}");
    }
}

#[tokio::test]
async fn interactive_retention_hides_days_and_total_retention_removes_them() {
    let at_once = SignedDuration::ZERO;
    let maintenance = MaintenanceSettings { shortening_wait: at_once, ..Default::default() };
    let place = Place::new(maintenance).await;
    let day = 86_400;
    place.settle(days(4, 6)).await.expect("set");
    // Both ends of the first day, and the second day.
    place.write(1, [0, day - 1, day]).await;
    place.flush().await;
    place.write(2, [day - 2, day + 1]).await;

    place.clock.set(at("2026-11-27T23:59:59Z"));
    assert_eq!(numbers(&place.workspace).await.len(), 5, "the last day that is retained stays");
    place.clock.set(at("2026-11-28T00:00:00Z"));
    assert_eq!(numbers(&place.workspace).await, [day, day + 1], "flushed or not");
    let snapshot = place.workspace.table_snapshot_total("Perf").expect("a table");
    let frame = SessionContext::new().read_table(Arc::new(snapshot));
    assert_eq!(frame.expect("a frame").count().await.expect("counted"), 5);

    assert_eq!(place.retain(at("2026-11-29T23:59:59Z")).await, 0, "the last day stays");
    let plan = place.workspace.plan_retention(at("2026-11-30T00:00:00Z")).await.expect("a plan");
    let planned = &plan.tables[0];
    assert_eq!(planned.first_day.to_string(), "2026-11-24");
    assert_eq!((planned.days.len(), planned.days[0].rows, planned.days[0].files), (1, 2, 1));
    assert_eq!(place.rows(), 5, "a plan removes nothing");
    plan.apply().await.expect("applied");
    assert_eq!(place.rows(), 3, "what is not flushed stays");
    place.flush().await;
    assert_eq!(place.retain(at("2026-11-30T00:00:00Z")).await, 1, "and goes when it is");
    assert_eq!(place.rows(), 2);
    assert_eq!(delta_rows(place.folder.path()).await, 2);
    place.clock.set(at("2026-11-28T00:00:00Z"));
    assert_eq!(numbers(&place.workspace).await, [day, day + 1]);
    place.settle(days(730, 730)).await.expect("set");
    assert_eq!(numbers(&place.workspace).await, [day, day + 1], "what is gone is gone");
}

#[tokio::test]
async fn a_shortened_retention_waits_and_a_longer_one_counts_at_once() {
    let place = Place::new(MaintenanceSettings::default()).await;
    place.settle(days(30, 30)).await.expect("set");
    place.write(1, [0]).await;
    place.flush().await;
    place.clock.set(start() + DAY * 10);
    place.settle(days(4, 5)).await.expect("set");
    assert_eq!(numbers(&place.workspace).await, [] as [u64; 0], "queries follow at once");
    assert_eq!(place.retain(start() + DAY * 20).await, 0, "it waits");
    place.settle(days(4, 4)).await.expect("shortened again");
    let plan = place.workspace.plan_retention(start() + DAY * 20).await.expect("a plan");
    assert_eq!(plan.rows(), 0, "shortening again waits no less");
    place.settle(days(30, 30)).await.expect("set");
    assert_eq!(numbers(&place.workspace).await, [0], "nothing was lost");
    place.settle(days(4, 5)).await.expect("set");
    let late = place.workspace.plan_retention(start() + DAY * 41).await.expect("a plan");
    place.settle(days(60, 60)).await.expect("set");
    let report = late.trusting_the_clock().apply().await.expect("applied");
    assert_eq!(report.tables.len(), 0, "a plan does not remove what is kept since");
    place.settle(days(4, 5)).await.expect("set");
    assert_eq!(place.retain(start() + DAY * 71).await, 1, "60 days counted until the wait ended");
}

#[tokio::test]
async fn a_clock_that_jumps_removes_nothing() {
    let place = Place::new(MaintenanceSettings::default()).await;
    place.write(1, [0]).await;
    place.flush().await;
    let plan = place.workspace.plan_retention(start() + DAY * 400).await.expect("a plan");
    assert_eq!((plan.rows(), plan.clock_jumped_from), (1, Some(start())));
    let error = plan.clone().apply().await.expect_err("the clock jumped");
    assert!(matches!(error, Error::ClockJump { .. }), "{error}");
    assert_eq!(place.rows(), 1);
    let back = place.workspace.plan_retention(start() - DAY * 400).await.expect("a plan");
    assert_eq!((back.rows(), back.clock_jumped_from), (0, None), "an early clock removes nothing");
    // Day by day it goes on, and is believed.
    for day in 1..31 {
        let plan = place.workspace.plan_retention(start() + DAY * day).await.expect("a plan");
        assert_eq!((plan.rows(), plan.clock_jumped_from), (0, None), "day {day}");
        plan.apply().await.expect("applied");
    }
    let plan = place.workspace.plan_retention(start() + DAY * 31).await.expect("a plan");
    assert_eq!(plan.apply().await.expect("applied").tables[0].rows, 1);
}

#[tokio::test]
async fn small_files_become_one_and_no_row_changes() {
    let place = Place::new(MaintenanceSettings::default()).await;
    for sequence in 1..=9 {
        place.write(sequence, (0..20).map(|n| n * 9 + sequence - 1)).await;
        place.flush().await;
    }
    place.write(10, [180]).await;
    let before = place.workspace.table_provider("Perf").expect("a table");
    let report = place.workspace.compact(&CompactOptions::default()).await.expect("compacted");
    let done = &report.done[0];
    assert_eq!((done.files_before, done.files, done.rows), (9, 1, 180));
    assert!(done.bytes < done.bytes_before, "{done:?}");
    assert_eq!(numbers(&place.workspace).await, up_to(181), "fresh rows are there once too");
    let context = SessionContext::new();
    let running = context.read_table(before).expect("a frame").count().await;
    assert_eq!(running.expect("the old files are on disk"), 181);
    assert_eq!(delta_rows(place.folder.path()).await, 180);
    // Sorted by time, so that the file prunes.
    let late = select(&place.workspace, "Perf", None).await;
    let file = late.iter().find(|rows| rows.num_rows() > 1).expect("rows of the file");
    let times = file.column_by_name("TimeGenerated").expect("times");
    let times = times.as_primitive::<TimestampMicrosecondType>();
    assert!(times.values().is_sorted());
    let again = place.workspace.compact(&CompactOptions::default()).await.expect("compacted");
    assert_eq!(again.done, [], "one file is one file");
    place.flush().await;
    assert_eq!(numbers(&place.workspace).await, up_to(181));
    let Place { folder, clock, workspace } = place;
    drop(workspace);
    let again = Place::build(&folder, &clock, MaintenanceSettings::default()).await;
    assert_eq!(numbers(&again).await, up_to(181));
    again.write(batch("a", 9, [999])).await.expect("a repeat");
    again.flush().await.expect("flushed");
    assert_eq!(numbers(&again).await, up_to(181), "the log's transaction is still known");
}

#[tokio::test]
async fn columns_and_statistics_of_compacted_files_are_those_of_their_rows() {
    let place = Place::new(MaintenanceSettings::default()).await;
    let table: RecordType = "Grow_CL".parse().expect("a name");
    let record = |number: i64| Record::new(table.clone(), start() + DAY * number as i32, "pc");
    for (sequence, record) in [
        (1, record(0).with("A", 1_i64)),
        (2, record(0).with("B", "two")),
        (3, record(0).with("A", -3_i64).with("C", f64::NAN)),
        (4, record(0).with("C", 2.5).with("B", "x".repeat(100))),
        (5, record(1).with("A", 7_i64)),
    ] {
        let batch = Batch { producer: "p".into(), sequence, records: vec![record] };
        place.workspace.write(batch).await.expect("written");
        place.flush().await;
    }
    let options = CompactOptions { is_forced: true, table: Some(table.clone()) };
    let report = place.workspace.compact(&options).await.expect("compacted");
    assert_eq!((report.done.len(), report.files_before()), (1, 4), "days stay apart");
    place.clock.set(start() + DAY);
    let options = QueryOptions::new(Arc::<ManualClock>::clone(&place.clock));
    for (filter, count) in [
        ("A < 0", 1),
        ("A >= 1", 2),
        ("B startswith 'xx'", 1),
        ("B == 'two'", 1),
        ("C > 2", 1),
        ("isnull(A)", 2),
        ("isnan(C)", 1),
    ] {
        let text = format!("Grow_CL | where {filter} | count");
        let report = place.workspace.query(&text, &options).await.expect("an answer");
        assert_eq!(report.rows()[0][0], count, "{filter}");
    }
}

#[tokio::test]
async fn files_of_bounded_size_are_written() {
    let place = Place::new(small_files()).await;
    for sequence in 1..=16 {
        let from = sequence * 1_000;
        place.write(sequence, (0..300).map(|n| from + n * 7_919 % 997)).await;
        place.flush().await;
    }
    let before = place.rows();
    let options = CompactOptions { is_forced: true, ..CompactOptions::default() };
    let report = place.workspace.compact(&options).await.expect("compacted");
    assert!(report.done.len() > 1, "they do not fit into one file: {report:?}");
    assert!(report.done.iter().any(|done| done.files < done.files_before), "{report:?}");
    assert!(report.done.iter().all(|done| done.bytes_before <= 64 << 10), "{report:?}");
    assert_eq!((place.rows(), delta_rows(place.folder.path()).await as u64), (before, before));
}

#[tokio::test]
async fn vacuum_waits_for_readers_and_leaves_what_is_needed() {
    let place = Place::new(MaintenanceSettings::default()).await;
    for sequence in 1..=8 {
        place.write(sequence, [sequence - 1]).await;
        place.flush().await;
    }
    place.workspace.compact(&CompactOptions::default()).await.expect("compacted");
    let other = place.folder.path().join("tables/Perf/notes.parquet");
    std::fs::write(&other, "not ours").expect("written");
    assert_eq!(place.data_files().len(), 9);
    place.clock.set(start() + DAY * 7 - SignedDuration::from_secs(1));
    place.workspace.vacuum().await.expect("vacuumed");
    assert_eq!(place.data_files().len(), 9, "they were removed less than 7 days ago");
    place.clock.set(start() + DAY * 7);
    let report = place.workspace.vacuum().await.expect("vacuumed");
    assert_eq!(report.tables[0].files, 8);
    assert_eq!(place.data_files().len(), 1);
    assert!(other.exists(), "what is in no day's folder is not the table's");
    assert_eq!(numbers(&place.workspace).await, up_to(8));
}

#[tokio::test]
async fn leftovers_of_a_killed_process_go_when_they_are_old() {
    let place = Place::new(MaintenanceSettings::default()).await;
    place.write(1, [0]).await;
    place.flush().await;
    let day = place.folder.path().join("tables/Perf/TimeGeneratedDay=2026-11-23");
    let leftovers = [day.join("part-x.zstd.parquet"), day.join("part-y.zstd.parquet#7")];
    for path in &leftovers {
        std::fs::write(path, "half a file").expect("written");
    }
    // They are as old as this test, by the clock of the file system.
    let now = Timestamp::try_from(
        leftovers[0].metadata().and_then(|it| it.modified()).expect("its time"),
    )
    .expect("a time");
    place.clock.set(now + DAY * 6);
    place.workspace.vacuum().await.expect("vacuumed");
    assert!(leftovers.iter().all(|path| path.exists()), "someone may be writing them");
    place.clock.set(now + DAY * 8);
    place.workspace.vacuum().await.expect("vacuumed");
    assert!(leftovers.iter().all(|path| !path.exists()));
    assert_eq!(place.data_files().len(), 1);
}

async fn purge(place: &Place, condition: &str) -> oms_logs::repository::maintain::PurgeReport {
    let plan = place.workspace.plan_purge(&perf_table(), condition).await.expect("a plan");
    let planned = plan.rows;
    let report = plan.apply().await.expect("purged");
    assert_eq!(report.rows, planned);
    report
}

#[tokio::test]
async fn purged_rows_are_gone_from_tables_files_and_log() {
    let place = Place::new(MaintenanceSettings::default()).await;
    place.write(1, 0..30).await;
    place.flush().await;
    place.write(2, 30..40).await;
    place.flush().await;
    // These are in the log alone.
    place.write(3, 40..50).await;
    place.write(4, [86_400]).await;
    let before = place.data_files();
    let plan = place.workspace.plan_purge(&perf_table(), "Computer == 'web-3'").await;
    let plan = plan.expect("a plan");
    assert_eq!((plan.rows, plan.files), (5, 3));
    assert_eq!(place.rows(), 51, "a plan removes nothing");
    let report = plan.apply().await.expect("purged");
    assert_eq!((report.rows, report.files), (5, 3));
    assert!(report.deleted_bytes > 0);
    let left: Vec<u64> = (0..50).filter(|n| n % 10 != 3).chain([86_400]).collect();
    assert_eq!(numbers(&place.workspace).await, left);
    assert_eq!(delta_rows(place.folder.path()).await, 46);
    assert!(before.iter().all(|path| !path.exists()), "the old files are deleted at once");
    let text = "Operation | where OperationCategory == 'Purge' | project OperationStatus, Detail";
    let options = QueryOptions::new(Arc::<ManualClock>::clone(&place.clock));
    let told = place.workspace.query(text, &options).await.expect("an answer").rows();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0][0], "Succeeded");
    assert_eq!(told[0][1], "5 rows of Perf were purged from 3 files");

    let Place { folder, clock, workspace } = place;
    drop(workspace);
    let again = Place::build(&folder, &clock, MaintenanceSettings::default()).await;
    assert_eq!(numbers(&again).await, left, "the log does not bring them back");
}

#[tokio::test]
async fn conditions_are_those_of_the_language() {
    let place = Place::new(MaintenanceSettings::default()).await;
    place.write(1, 0..100).await;
    place.clock.set(start() + SignedDuration::from_secs(100));
    assert_eq!(purge(&place, "TimeGenerated < ago(1m) and CounterValue % 2 == 0").await.rows, 20);
    assert_eq!(purge(&place, "CounterValue in (41, 43, 1000)").await.rows, 2);
    assert_eq!(purge(&place, "isempty(InstanceName) and CounterValue > 97").await.rows, 2);
    assert_eq!(
        purge(&place, "CounterValue == toscalar(Perf | summarize max(CounterValue))").await.rows,
        1,
        "of the whole table"
    );
    assert_eq!(purge(&place, "Max > 1").await.rows, 0, "a null is not greater");
    assert_eq!(place.rows(), 75);
    assert_eq!(purge(&place, "true").await.rows, 75);
    assert_eq!(place.rows(), 0);
    for wrong in
        ["", "Computer = 1", "Nothing == 1", "true | take 1", "true) | take 1 | where (true"]
    {
        let error = place.workspace.plan_purge(&perf_table(), wrong).await.expect_err(wrong);
        assert!(matches!(error, Error::Select { .. }), "{wrong}: {error}");
    }
    let unknown = "None_CL".parse().expect("a name");
    let error = place.workspace.plan_purge(&unknown, "true").await.expect_err("no table");
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn a_purge_finds_rows_past_their_interactive_retention() {
    let place = Place::new(MaintenanceSettings::default()).await;
    place.settle(days(4, 100)).await.expect("set");
    place.write(1, 0..10).await;
    place.clock.set(start() + DAY * 50);
    assert_eq!(numbers(&place.workspace).await, [] as [u64; 0]);
    assert_eq!(purge(&place, "CounterValue < 5").await.rows, 5);
    assert_eq!(place.rows(), 5);
}

/// Files in order, each row once: what the rewriting of files keeps.
#[tokio::test]
async fn other_rows_keep_every_value() {
    let place = Place::new(MaintenanceSettings::default()).await;
    place.write(1, 0..10_000).await;
    place.flush().await;
    let before: Vec<RecordBatch> = select(&place.workspace, "Perf", None).await;
    assert_eq!(purge(&place, "CounterValue >= 5000").await.rows, 5_000);
    let after = select(&place.workspace, "Perf", None).await;
    let schema = before[0].schema();
    let all = |batches: &[RecordBatch]| concat_batches(&schema, batches).expect("one batch");
    assert_eq!(all(&before).slice(0, 5_000), all(&after));
}

async fn ask(place: &Place, text: &str) -> Vec<Vec<Json>> {
    let options = QueryOptions::new(Arc::<ManualClock>::clone(&place.clock));
    place.workspace.query(text, &options).await.expect("an answer").rows()
}

#[tokio::test]
async fn records_are_measured_and_usage_is_told_once_an_hour() {
    let mut place = Place::new(MaintenanceSettings::default()).await;
    place.write(1, 0..10).await;
    // TenantId, TimeGenerated, Computer, CounterName, CounterValue.
    let size = 36 + 28 + 5 + 16 + 8;
    let measure = "Perf | summarize min(_BilledSize), max(_BilledSize) by _IsBillable";
    let measured: Vec<Vec<Json>> =
        vec![vec!["True".into(), f64::from(size).into(), f64::from(size).into()]];
    assert_eq!(ask(&place, measure).await, measured, "fresh rows");
    place.flush().await;
    assert_eq!(ask(&place, measure).await, measured, "rows of files");
    let hour = SignedDuration::from_hours(1);
    place.clock.set(start() + hour);
    place.write(2, [10]).await;
    assert_eq!(place.workspace.account_usage().await.expect("told"), 0, "rows may be under way");
    place.clock.set(start() + hour + SignedDuration::from_mins(5));
    assert_eq!(place.workspace.account_usage().await.expect("told"), 1);
    assert_eq!(place.workspace.account_usage().await.expect("told"), 0, "once");
    let Place { folder, clock, workspace } = place;
    drop(workspace);
    let workspace = Place::build(&folder, &clock, MaintenanceSettings::default()).await;
    place = Place { folder, clock, workspace };
    place.clock.set(start() + hour * 50);
    assert_eq!(place.workspace.account_usage().await.expect("told"), 2, "and after a restart");
    assert_eq!(place.workspace.account_usage().await.expect("told"), 0);
    let usage = "Usage | where DataType == 'Perf' | sort by StartTime asc \
                 | project StartTime, EndTime, Quantity, QuantityUnit, IsBillable, Solution";
    let row = |from: &str, to: &str, rows: i32| -> Vec<Json> {
        vec![
            from.into(),
            to.into(),
            (f64::from(rows * size) / 1e6).into(),
            "MBytes".into(),
            true.into(),
            "LogManagement".into(),
        ]
    };
    let expected = vec![
        row("2026-11-23T00:00:00Z", "2026-11-23T01:00:00Z", 10),
        row("2026-11-23T01:00:00Z", "2026-11-23T02:00:00Z", 1),
    ];
    assert_eq!(ask(&place, usage).await, expected);
    let own = "Usage | where DataType == 'Usage' | project IsBillable";
    assert_eq!(ask(&place, own).await, [[Json::from(false)]], "it is free");
}

#[tokio::test]
async fn refused_input_is_told_in_few_rows() {
    let place = Place::new(MaintenanceSettings::default()).await;
    let wrong = |sequence: u64, column: String| Batch {
        producer: "a".into(),
        sequence,
        records: vec![Record::new(perf_table(), start(), "pc").with(column, 1.0); 3],
    };
    for number in 0..100 {
        let refused = place.workspace.write(wrong(1, format!("Column{}", number % 30))).await;
        assert!(matches!(refused, Err(Error::Record { .. })), "{refused:?}");
    }
    let nameless = Batch { producer: String::new(), sequence: 1, records: Vec::new() };
    place.workspace.write(nameless).await.expect_err("refused");
    place.workspace.note_refused("Perf", "line 7 is not JSON", 2).expect("open");
    assert_eq!(place.workspace.tell_refused().await.expect("told"), 21);
    assert_eq!(place.workspace.tell_refused().await.expect("told"), 0);
    let told = "Operation | where OperationCategory == 'Ingestion' and OperationStatus == 'Error' \
                | summarize rows = count(), records = sum(extract(@'^(\\d+)', 1, Detail, typeof(long)))";
    assert_eq!(ask(&place, told).await, [[21.into(), Json::from(302)]]);
    let first = "Operation | where Detail has 'Column0' | project OperationKey, Detail";
    let detail = "12 records of Perf were refused, alone or with others: table Perf has no such column (custom columns of \
                  standard tables end in _CF) (column Column0)";
    assert_eq!(ask(&place, first).await, [["Perf", detail]]);
}

/// Writers, flushes, compactions and queries at the same time: each query finds a prefix of what was
/// written, each row once, and later ones find no less.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_change_under_queries_and_flushes_without_a_trace() {
    const BATCHES: u64 = 60;
    let place = Arc::new(Place::new(MaintenanceSettings::default()).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (place, is_over) = (Arc::clone(&place), Arc::clone(&is_over));
        async move {
            for sequence in 1..=BATCHES {
                place.write(sequence, (sequence - 1) * 5..sequence * 5).await;
                if sequence % 2 == 0 {
                    place.flush().await;
                }
            }
            is_over.store(true, Ordering::SeqCst);
        }
    });
    let compactor = tokio::spawn({
        let (place, is_over) = (Arc::clone(&place), Arc::clone(&is_over));
        async move {
            let options = CompactOptions { is_forced: true, ..CompactOptions::default() };
            let mut files = 0;
            while !is_over.load(Ordering::SeqCst) {
                let report = place.workspace.compact(&options).await.expect("compacted");
                files += report.files_before();
                tokio::task::yield_now().await;
            }
            files
        }
    });
    let mut seen = 0;
    while !is_over.load(Ordering::SeqCst) {
        let found = numbers(&place.workspace).await;
        assert_eq!(found, up_to(found.len() as u64), "each row once, and none left out");
        assert!(found.len() >= seen && found.len() % 5 == 0, "{} after {seen}", found.len());
        seen = found.len();
    }
    writer.await.expect("written");
    assert!(compactor.await.expect("compacted") > 0, "nothing was put together");
    assert_eq!(numbers(&place.workspace).await, up_to(BATCHES * 5));
    place.flush().await;
    assert_eq!(delta_rows(place.folder.path()).await as u64, BATCHES * 5);
}

#[tokio::test]
async fn rows_are_exported_in_each_format() {
    let place = Place::new(MaintenanceSettings::default()).await;
    place.settle(days(4, 100)).await.expect("set");
    place.write(1, [0, 1]).await;
    place.flush().await;
    place.write(2, [86_400 * 9]).await;
    place.clock.set(start() + DAY * 9);
    let export = async |query: &str, format, is_total| {
        let query_options = QueryOptions::new(Arc::<ManualClock>::clone(&place.clock));
        let options = ExportOptions { format, is_total, query: query_options };
        place.workspace.export(query, &options, Vec::new()).await
    };
    let query = "Perf | sort by TimeGenerated asc | project TimeGenerated, CounterValue, Max, \
                 Ago = now() - TimeGenerated, Bag = bag_pack('a', \"x,\\\"y\\\"\"), At = now()";
    let (report, text) = export(query, ExportFormat::Csv, true).await.expect("exported");
    assert_eq!((report.rows, report.columns.len()), (3, 6));
    let text = String::from_utf8(text).expect("text");
    let mut lines = text.split("\r\n");
    assert_eq!(lines.next(), Some("TimeGenerated,CounterValue,Max,Ago,Bag,At"));
    let first = "2026-11-23T00:00:00Z,0.0,,9.00:00:00,\"{\"\"a\"\":\"\"x,\\\"\"y\\\"\"\"\"}\",\
                 2026-12-02T00:00:00Z";
    assert_eq!(lines.next(), Some(first));
    assert_eq!(lines.count(), 3, "two more lines, and the end of the last one");

    let (report, text) = export("Perf", ExportFormat::Ndjson, false).await.expect("exported");
    assert_eq!(report.rows, 1, "the others are past their interactive retention");
    let row: Json = serde_json::from_slice(&text).expect("one line of JSON");
    assert_eq!(row["CounterValue"], 777_600.0);
    assert!(row.get("Max").is_none(), "a null is left out");
    assert_eq!(row["_ItemId"].as_str().map(str::len), Some(36));

    let (report, bytes) = export(query, ExportFormat::Parquet, true).await.expect("exported");
    assert_eq!(report.rows, 3);
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).expect("Parquet");
    let rows = reader.build().expect("a reader").next().expect("rows").expect("rows");
    let micros = |name: &str| {
        let column = rows.column_by_name(name).expect(name);
        column.as_primitive::<TimestampMicrosecondType>().value(0)
    };
    assert_eq!(micros("TimeGenerated"), start().as_microsecond());
    assert_eq!(micros("At"), (start() + DAY * 9).as_microsecond(), "computed times too");
    let several = export("Perf | count; Perf | count", ExportFormat::Csv, true).await;
    let error = several.expect_err("one file has one table");
    assert!(matches!(error, Error::Select { .. }), "{error}");
}
