//! Files that are loaded past the log.

use crate::crash::give_up_after;
use crate::every_point::points::{After, Points};
use crate::every_point::{enumerate, open_at};
use crate::repeated::Store;
use crate::{batch, numbers, open, select, start, up_to};
use jiff::SignedDuration;
use oms_core::EntropyExt as _;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::fault::Faults;
use oms_core::testkit::seeds::Seeds;
use oms_logs::arrow::array::{Array as _, AsArray as _};
use oms_logs::arrow::compute::cast;
use oms_logs::arrow::datatypes::DataType;
use oms_logs::ingest::rows::RowFormat;
use oms_logs::workspace::{LoadFailure, LoadFile, LoadOptions, LoadReport};
use oms_logs::{Error, Workspace};
use std::collections::BTreeSet;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

/// `Perf` rows as JSON lines.
pub(crate) fn lines(numbers: impl IntoIterator<Item = u64>) -> String {
    let line = |number: u64| {
        let time = start() + SignedDuration::from_secs(number as i64 * 600);
        format!(
            "{{\"TimeGenerated\":\"{time}\",\"Computer\":\"web-{}\",\"CounterName\":\"% Processor Time\",\
             \"CounterValue\":{number}}}\n",
            number % 10
        )
    };
    numbers.into_iter().map(line).collect()
}

fn file(name: &str, text: impl Into<String>) -> LoadFile {
    LoadFile::text(name, Cursor::new(text.into()))
}

async fn load(workspace: &Workspace, table: &str, files: Vec<LoadFile>) -> LoadReport {
    try_load(workspace, table, files).await.expect("a report")
}

async fn try_load(
    workspace: &Workspace,
    table: &str,
    files: Vec<LoadFile>,
) -> Result<LoadReport, Error> {
    let options =
        LoadOptions { step_rows_max: 10, computer: "here".into(), ..LoadOptions::default() };
    let table = table.parse().expect("a name");
    workspace.load(&table, files, &options).await
}

#[tokio::test]
async fn rows_of_files_are_in_the_table_and_refused_ones_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let wrong = "{\"CounterValue\":\"high\"}\n{\"Nothing\":1}\nsoup\n";
    let files = vec![
        file("one", lines(0..333)),
        file("two", format!("{}{wrong}{}", lines(333..400), lines(400..500))),
        file("three", ""),
    ];
    let report = load(&workspace, "Perf", files).await;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    assert_eq!((report.accepted, report.refused), (500, 3));
    let told: Vec<_> =
        report.refused_rows.iter().map(|row| (row.file.to_string_lossy(), row.number)).collect();
    assert_eq!(told, [("two".into(), 68), ("two".into(), 69), ("two".into(), 70)]);
    assert!(report.refused_rows[0].reason.contains("CounterValue"), "{:?}", report.refused_rows);
    assert_eq!(numbers(&workspace).await, up_to(500));
    let table = &workspace.tables()[0];
    assert_eq!((table.rows, table.name.as_str()), (500, "Perf"));
    assert!(report.data_files > 50 && report.bytes > 0);
    let snapshot = workspace.table_snapshot("Perf").expect("a table");
    assert_eq!(snapshot.delta_version(), report.delta_version);
    assert_eq!(workspace.tell_refused().await.expect("told"), 1);
    let id = workspace.id().expect("open").to_string();
    for rows in select(&workspace, "Perf", None).await {
        let column = |name: &str| rows.column_by_name(name).expect("a column");
        assert_eq!(column("_TimeReceived").null_count(), 0);
        let tenants = cast(column("TenantId"), &DataType::Utf8).expect("text");
        assert!(tenants.as_string::<i32>().iter().all(|tenant| tenant == Some(id.as_str())));
    }
    workspace.close().await.expect("closed");
    // Nothing of it is in the log.
    std::fs::remove_dir_all(folder.path().join("wal")).expect("no log");
    assert_eq!(numbers(&open(folder.path()).await).await, up_to(500));
}

#[tokio::test]
async fn loads_writes_and_flushes_go_on_side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut next = 0;
    let mut take = |count: u64| {
        next += count;
        next - count..next
    };
    for round in 1..=3 {
        let workspace = open(folder.path()).await;
        let (written, loaded) = (take(7), take(95));
        workspace.write(batch("a", 2 * round - 1, written)).await.expect("written");
        let files = || vec![file("one", lines(loaded.clone()))];
        let (report, flushed) = tokio::join!(load(&workspace, "Perf", files()), workspace.flush());
        assert!(report.failure.is_none(), "{:?}", report.failure);
        flushed.expect("flushed");
        workspace.write(batch("a", 2 * round, take(5))).await.expect("written");
        assert_eq!(numbers(&workspace).await, up_to(round * 107));
        // Fresh rows are still in the log when the folder is opened again.
        drop(workspace);
    }
    let workspace = open(folder.path()).await;
    assert_eq!(numbers(&workspace).await, up_to(next));
    workspace.flush().await.expect("flushed");
    assert_eq!(numbers(&workspace).await, up_to(next));
}

#[tokio::test]
async fn a_custom_table_grows_from_file_to_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let files = vec![
        file("one", "{\"A\":1}\n{\"A\":2,\"B\":\"x\"}\n"),
        // A row of the second file is refused for what the first one made of the column.
        file("two", "{\"A\":\"3\",\"C\":true}\n{\"A\":0.5}\n"),
    ];
    let report = load(&workspace, "Grown_CL", files).await;
    assert_eq!((report.accepted, report.refused), (3, 1), "{report:?}");
    workspace.close().await.expect("closed");
    let workspace = open(folder.path()).await;
    let schema = workspace.table_schema(&"Grown_CL".parse().expect("a name"));
    for (name, kind) in [("A", "long"), ("B", "string"), ("C", "bool")] {
        assert_eq!(schema.column(name).expect(name).column_type.as_str(), kind);
    }
    let rows = select(&workspace, "Grown_CL", None).await;
    assert_eq!(rows.iter().map(|rows| rows.num_rows()).sum::<usize>(), 3);
}

#[tokio::test]
async fn a_file_that_breaks_off_tells_what_was_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let broken = BufReader::new(Cursor::new(lines(0..25)).chain(Failing));
    let files = vec![LoadFile::text("broken", broken), file("after", lines(25..30))];
    let report = load(&workspace, "Perf", files).await;
    let Some(LoadFailure::Read { file, .. }) = &report.failure else { panic!("{report:?}") };
    assert_eq!((file.as_path(), report.accepted), (Path::new("broken"), 25));
    assert_eq!(numbers(&workspace).await, up_to(25));
    let options = LoadOptions { format: RowFormat::Parquet, ..LoadOptions::default() };
    let name = "Perf".parse().expect("a name");
    let report = workspace.load(&name, vec![file_of("text")], &options).await.expect("a report");
    assert!(matches!(report.failure, Some(LoadFailure::Read { .. })), "{report:?}");
}

fn file_of(text: &str) -> LoadFile {
    file("text", text)
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("no more"))
    }
}

/// Text that comes as it is sent.
struct Sent(mpsc::Receiver<String>);

impl Read for Sent {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Ok(text) = self.0.recv() else { return Ok(0) };
        into[..text.len()].copy_from_slice(text.as_bytes());
        Ok(text.len())
    }
}

#[tokio::test]
async fn a_workspace_that_is_closed_takes_no_more_of_a_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    let (text, sent) = mpsc::channel();
    let files = vec![LoadFile::text("slow", BufReader::new(Sent(sent)))];
    let closing = async {
        text.send(lines(0..5)).expect("it reads");
        workspace.close().await.expect("closed");
        text.send(lines(5..10)).expect("it reads");
        drop(text);
    };
    let (report, ()) = tokio::join!(load(&workspace, "Perf", files), closing);
    let Some(LoadFailure::Table { source: Error::Closed }) = &report.failure else {
        panic!("{report:?}")
    };
    assert_eq!(report.accepted, 0);
    // The folder is given up.
    assert_eq!(open(folder.path()).await.tables(), []);
}

/// Wherever a load is given up, no row of it is there twice, and what comes after it is not lost.
#[tokio::test]
async fn a_load_that_is_given_up_anywhere_repeats_nothing() {
    let mut folder = tempfile::tempdir().expect("a folder");
    let mut workspace = open(folder.path()).await;
    let (mut acknowledged, mut possible) = (BTreeSet::new(), BTreeSet::new());
    let (mut next, mut given_up) = (0, 0);
    // How many polls a load takes is the machine's to say: every one of the first, and then fewer.
    let places = std::iter::successors(Some(0), |polls| Some(polls + 1 + polls / 40)).take(200);
    for (round, polls) in places.enumerate() {
        // The files of all of them would be many.
        if round % 8 == 7 {
            let fresh = tempfile::tempdir().expect("a folder");
            workspace = open(fresh.path()).await;
            folder = fresh;
            (acknowledged, possible) = (BTreeSet::new(), BTreeSet::new());
        }
        let rows = next..next + 25;
        next += 26;
        let loading = load(&workspace, "Perf", vec![file("f", lines(rows.clone()))]);
        let loaded = give_up_after(polls, loading).await;
        match &loaded {
            Some(report) => {
                assert_eq!(report.accepted, 25, "{report:?}");
                acknowledged.extend(rows);
            }
            None => possible.extend(rows),
        }
        workspace.write(batch("a", round as u64 + 1, [next - 1])).await.expect("written");
        acknowledged.insert(next - 1);
        audit(0, &workspace, &acknowledged, &possible).await;
        if round % 4 == 0 {
            drop(workspace);
            workspace = open(folder.path()).await;
            audit(0, &workspace, &acknowledged, &possible).await;
        }
        workspace.flush().await.expect("flushed");
        audit(0, &workspace, &acknowledged, &possible).await;
        given_up += usize::from(loaded.is_none());
        if loaded.is_some() && given_up > 5 {
            return;
        }
    }
    panic!("a load never comes to its end");
}

#[tokio::test]
async fn a_table_that_cannot_be_written_ends_a_load_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    assert_eq!(load(&workspace, "Perf", vec![file("one", lines(0..50))]).await.accepted, 50);
    // Ten days later.
    let blocked = folder.path().join("tables/Perf/TimeGeneratedDay=2026-12-03");
    std::fs::write(&blocked, "in the way").expect("a file where the folder belongs");
    let files = || vec![file("two", lines(50..60)), file("three", lines(1_440..1_460))];
    let report = load(&workspace, "Perf", files()).await;
    let Some(LoadFailure::Table { source }) = &report.failure else { panic!("{report:?}") };
    assert!(source.to_string().contains("table=`Perf`"), "{source}");
    // The step before it is in the table.
    assert_eq!((report.accepted, report.refused), (10, 0));
    assert_eq!(numbers(&workspace).await, up_to(60));
    std::fs::remove_file(blocked).expect("out of the way");
    let report = load(&workspace, "Perf", vec![file("three", lines(1_440..1_460))]).await;
    assert!(report.failure.is_none() && report.accepted == 20, "{report:?}");
    assert_eq!(
        numbers(&workspace).await,
        up_to(60).into_iter().chain(1_440..1_460).collect::<Vec<_>>()
    );
}

/// Auditor: whatever the object store refuses, tears, delays or does without answering, every
/// accepted row is there once, and no row is there twice.
#[tokio::test]
async fn a_failing_object_store_repeats_nothing() {
    let seeds = Seeds::of("bulk::a_failing_object_store", 0..6);
    seeds.run_async(async |seed| drop(run(seed).await)).await;
}

/// A seed has the same answers again. How many steps a load has begun when one fails, the threads
/// decide, and so which of the faults are met; nothing else depends on it.
#[tokio::test]
async fn a_seed_repeats_its_answers() {
    let mut runs: Vec<Vec<String>> = Vec::new();
    for seed in 0..4 {
        let answers = run(seed).await;
        assert_eq!(answers, run(seed).await, "seed {seed}");
        let failed = answers.iter().filter(|answer| answer.contains("failed")).count();
        assert!((3..24).contains(&failed), "seed {seed}: {answers:?}");
        assert!(!runs.contains(&answers), "seed {seed} is no other");
        runs.push(answers);
    }
}

/// What the workspace answered, a line each.
async fn run(seed: u64) -> Vec<String> {
    let chance = SeededEntropy::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let faults = Arc::new(Faults::by_call(seed));
    let store = Store::new(seed, &Arc::new(ManualClock::new(start())));
    let (mut acknowledged, mut possible) = (BTreeSet::new(), BTreeSet::new());
    let (mut next, mut sequence, mut failed) = (0, 0, 0);
    let mut answers = Vec::new();
    for _ in 0..3 {
        faults.calm();
        let workspace = store.builder(folder.path(), &faults).build().await.expect("a workspace");
        audit(seed, &workspace, &acknowledged, &possible).await;
        for _ in 0..8 {
            // A load is one commit: whether its last steps begin before an earlier one, the threads
            // would decide.
            let count = 1 + chance.below(70);
            let rows = next..next + count;
            next += count;
            set(&faults);
            faults.next_turn();
            match chance.below(3) {
                0 => {
                    sequence += 1;
                    while workspace.write(batch("a", sequence, rows.clone())).await.is_err() {
                        faults.calm();
                    }
                    acknowledged.extend(rows);
                }
                _ => {
                    let files = vec![file("f", lines(rows.clone()))];
                    // A table that does not open takes no row: none of these may be found.
                    let Ok(report) = try_load(&workspace, "Perf", files).await else {
                        answers.push("no table".to_owned());
                        continue;
                    };
                    let outcome = if report.failure.is_some() { "failed" } else { "loaded" };
                    answers.push(format!("{outcome} after {}", report.accepted));
                    failed += u64::from(report.failure.is_some());
                    let accepted = rows.start + report.accepted;
                    acknowledged.extend(rows.start..accepted);
                    possible.extend(accepted..rows.end);
                    assert!(report.failure.is_some() || accepted == rows.end, "seed {seed}");
                }
            }
            if chance.below(2) == 0 {
                set(&faults);
                let flushed = workspace.flush().await;
                answers.push(format!("flushed {}", flushed.is_ok()));
            }
            audit(seed, &workspace, &acknowledged, &possible).await;
        }
    }
    faults.calm();
    let workspace = store.bare(folder.path()).build().await.expect("a workspace");
    workspace.flush().await.expect("flushed");
    audit(seed, &workspace, &acknowledged, &possible).await;
    assert!(failed < 24, "seed {seed}: no load came through");
    answers
}

fn set(faults: &Faults) {
    faults.set_before(40);
    faults.set_after(100);
    faults.set_torn(40);
    faults.set_late(60);
}

async fn audit(
    seed: u64,
    workspace: &Workspace,
    acknowledged: &BTreeSet<u64>,
    possible: &BTreeSet<u64>,
) {
    if acknowledged.is_empty() && possible.is_empty() {
        return;
    }
    let seen = numbers(workspace).await;
    let distinct: BTreeSet<u64> = seen.iter().copied().collect();
    assert_eq!(seen.len(), distinct.len(), "seed {seed}: a row is there twice");
    assert!(distinct.is_superset(acknowledged), "seed {seed}: a row is lost");
    assert!(distinct.difference(acknowledged).all(|row| possible.contains(row)), "seed {seed}");
}

/// Writes, loads and flushes twice; the point strikes somewhere in between. Answers whether it did.
async fn strike(point: u64, after: After) -> bool {
    let (folder, disk) = (tempfile::tempdir().expect("a folder"), SimDisk::default());
    let points = Arc::new(Points::new(point, after));
    let (mut acknowledged, mut possible) = (BTreeSet::new(), BTreeSet::new());
    let opened = open_at(folder.path(), &disk, &points).await.ok();
    if let Some(workspace) = &opened {
        for (sequence, first) in [(1, 0), (2, 30)] {
            let (written, loaded) = (first..first + 3, first + 3..first + 28);
            match workspace.write(batch("a", sequence, written.clone())).await {
                Ok(()) => acknowledged.extend(written),
                Err(_) => possible.extend(written),
            }
            let options = LoadOptions { step_rows_max: 10, ..LoadOptions::default() };
            let (name, files) =
                ("Perf".parse().expect("a name"), vec![file("f", lines(loaded.clone()))]);
            // Without a report nothing was loaded.
            if let Ok(report) = workspace.load(&name, files, &options).await {
                let accepted = loaded.start + report.accepted;
                assert!(report.failure.is_some() || accepted == loaded.end, "point {point}");
                acknowledged.extend(loaded.start..accepted);
                possible.extend(accepted..loaded.end);
            }
            drop(workspace.flush().await);
        }
    }
    let has_struck = points.has_struck();
    points.rest();
    if after == After::Off {
        drop(opened);
        disk.crash(&SeededEntropy::new(point));
    } else if let Some(workspace) = opened {
        audit(point, &workspace, &acknowledged, &possible).await;
    }
    let calm = Arc::new(Points::calm());
    let workspace = open_at(folder.path(), &disk, &calm).await.expect("a workspace");
    audit(point, &workspace, &acknowledged, &possible).await;
    workspace.close().await.expect("closed");
    let workspace = open_at(folder.path(), &SimDisk::default(), &calm).await.expect("no log");
    audit(point, &workspace, &acknowledged, &possible).await;
    has_struck
}

/// Wherever the machine stops, and whichever call fails, no accepted row is lost and none is there
/// twice.
#[tokio::test]
async fn any_point_of_a_load_may_fail() {
    for after in [After::Off, After::GoOn] {
        let points = enumerate(|point| strike(point, after)).await;
        assert!(points > 100, "{points}");
    }
}
