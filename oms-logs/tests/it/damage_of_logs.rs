//! Bits that flip in Delta logs, and logs that vanish: told by name, other tables go on, and nothing that
//! was acknowledged is lost or there twice.

use super::{batch, numbers, quiet, start, up_to};
use oms_core::ErrorKind;
use oms_core::clock::ManualClock;
use oms_core::record::{Batch, Record};
use oms_logs::query::{QueryError, QueryOptions};
use oms_logs::repository::maintain::CheckOptions;
use oms_logs::{Damage, Error, Workspace};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Commits of the table: enough for a checkpoint, and some behind it.
const COMMITS: u64 = 24;

fn other(sequence: u64) -> Batch {
    let records = vec![Record::new("Other_CL".parse().expect("a name"), start(), "pc")];
    Batch { producer: "other".into(), sequence, records }
}

async fn ask(workspace: &Workspace, text: &str) -> Result<String, QueryError> {
    let options = QueryOptions::new(Arc::new(ManualClock::new(start())));
    workspace.query(text, &options).await.map(|report| report.to_text())
}

async fn others(workspace: &Workspace) -> String {
    ask(workspace, "Other_CL | count").await.expect("the other table")
}

/// A table of many commits, and another one.
async fn filled(folder: &Path) {
    let workspace = quiet(folder).build().await.expect("a workspace");
    for n in 0..COMMITS {
        workspace.write(batch("a", n + 1, n..n + 1)).await.expect("written");
        if n == 0 {
            workspace.write(other(1)).await.expect("written");
        }
        workspace.flush().await.expect("flushed");
    }
    workspace.close().await.expect("closed");
}

fn log_of(folder: &Path) -> PathBuf {
    folder.join("tables/Perf/_delta_log")
}

/// The damage of the table, if it is; else its rows are right.
async fn looked_at(workspace: &Workspace, what: &str) -> Option<Damage> {
    let asked = ask(workspace, "Perf | summarize count(), sum(CounterValue) by CounterName").await;
    let damage = match asked {
        Ok(_) => {
            assert_eq!(numbers(workspace).await, up_to(COMMITS), "{what}");
            None
        }
        Err(QueryError::Damaged(damage)) => Some(damage),
        Err(error) => panic!("{what}: {error}"),
    };
    assert!(others(workspace).await.contains('1'), "{what}");
    if let Some(damage) = &damage {
        let unknown = ask(workspace, "Perf | where Added_d > 1").await;
        assert!(matches!(unknown, Err(QueryError::Damaged(_))), "{damage}: {unknown:?}");
        let all = ask(workspace, "union * | count").await;
        assert!(matches!(all, Err(QueryError::Damaged(_))), "{damage}: {all:?}");
    }
    damage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_any_file_of_a_delta_log_is_told_and_stops_no_other_table() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path()).await;
    let log = log_of(folder.path());
    let names = std::fs::read_dir(&log).expect("a log").map(|it| it.expect("a file").path());
    let files: BTreeSet<PathBuf> = names.filter(|path| path.is_file()).collect();
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let is_kind = |end: &str| files.iter().any(|path| name(path).ends_with(end));
    assert!(is_kind(".checkpoint.parquet") && is_kind(".json") && is_kind("_last_checkpoint"));
    let (mut told, mut passed_over) = (0, 0);
    for file in &files {
        let bytes = std::fs::read(file).expect("a file");
        let version = name(file).get(..20).and_then(|it| it.parse::<u64>().ok());
        // Commits before the checkpoint are not read.
        let is_read = version.is_none_or(|version| version >= 20);
        let step = if is_read { bytes.len() / 5 + 1 } else { bytes.len() };
        for at in (3..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            std::fs::write(file, flipped).expect("damaged");
            let what = format!("{} byte {at}", name(file));
            let workspace = quiet(folder.path()).build().await.expect(&what);
            match looked_at(&workspace, &what).await {
                Some(damage) => {
                    assert_eq!(damage.table, "Perf", "{what}");
                    assert_eq!(damage.file, format!("_delta_log/{}", name(file)), "{what}");
                    let refused = workspace.write(batch("b", 1, 90..91)).await;
                    let Err(Error::Damaged(refused)) = refused else {
                        panic!("{what}: {refused:?}")
                    };
                    assert_eq!(refused, damage);
                    assert_eq!(workspace.damage().expect("open"), [damage]);
                    told += 1;
                }
                None => passed_over += 1,
            }
            let report = workspace.check(&CheckOptions::default()).await.expect("checked");
            let [finding] = report.findings.as_slice() else { panic!("{what}: {report:?}") };
            assert!(finding.damage.file.ends_with(&name(file)), "{what}: {finding:?}");
        }
        std::fs::write(file, bytes).expect("mended");
    }
    assert!(told > 15 && passed_over > 3, "{told} {passed_over}");
    let workspace = quiet(folder.path()).build().await.expect("mended");
    assert_eq!(looked_at(&workspace, "mended").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_end_or_all_of_itself_is_no_shorter_table() {
    for lost in ["the last commit", "two commits", "one in between", "the log", "the table"] {
        let folder = tempfile::tempdir().expect("a folder");
        filled(folder.path()).await;
        let log = log_of(folder.path());
        let remove = |version: u64| {
            std::fs::remove_file(log.join(format!("{version:020}.json"))).expect("removed");
        };
        match lost {
            "the last commit" => remove(COMMITS - 1),
            "two commits" => (COMMITS - 2..COMMITS).for_each(remove),
            "one in between" => remove(COMMITS - 2),
            "the log" => std::fs::remove_dir_all(&log).expect("removed"),
            _ => std::fs::remove_dir_all(log.parent().expect("a table")).expect("removed"),
        }
        let workspace = quiet(folder.path()).build().await.expect(lost);
        let damage = looked_at(&workspace, lost).await.expect(lost);
        assert_eq!((damage.table.as_str(), damage.file.as_str()), ("Perf", "_delta_log"), "{lost}");
        let refused = workspace.write(batch("b", 1, 90..91)).await.expect_err(lost);
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{lost}");
        workspace.write(other(2)).await.expect(lost);
        let flushed = workspace.flush().await;
        assert!(matches!(flushed, Err(Error::Damaged(_))), "{lost}: {flushed:?}");
        assert!(others(&workspace).await.contains('2'), "{lost}");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(std::fs::copy(&path, &to).expect("copied")),
        }
    }
}

fn log_bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder.join("wal")).expect("a log");
    files.map(|file| file.expect("a file").metadata().expect("it").len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_rows_wait_for_a_damaged_table_and_the_log_does_not_grow() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path()).await;
    let workspace = quiet(folder.path()).build().await.expect("a workspace");
    workspace.write(batch("a", COMMITS + 1, COMMITS..COMMITS + 3)).await.expect("written");
    workspace.write(batch("a", COMMITS + 2, COMMITS + 3..COMMITS + 5)).await.expect("written");
    drop(workspace);
    let (log, kept) = (log_of(folder.path()), folder.path().join("kept"));
    copy(&log, &kept);
    let last = log.join(format!("{:020}.json", COMMITS - 1));
    let mut bytes = std::fs::read(&last).expect("a commit");
    bytes[40] ^= 1;
    std::fs::write(&last, &bytes).expect("damaged");
    for round in 0..3 {
        let workspace = quiet(folder.path()).build().await.expect("a workspace");
        for n in 0..40 {
            workspace.write(other(2 + round * 40 + n)).await.expect("the other table");
        }
        let flushed = workspace.flush().await;
        assert!(matches!(flushed, Err(Error::Damaged(_))), "{flushed:?}");
        assert!(workspace.damage().expect("open").len() == 1);
        // What others wrote is not in the log any more.
        assert!(log_bytes(folder.path()) < 8_000, "{}", log_bytes(folder.path()));
        assert!(folder.path().join("wal/held/Perf.held").exists());
        assert!(others(&workspace).await.contains(&(1 + (round + 1) * 40).to_string()));
        let plan = workspace.plan_purge(&"Other_CL".parse().expect("a name"), "true").await;
        assert_eq!(plan.expect("of the other table").rows, 1 + (round + 1) * 40);
        let compacted = workspace.compact(&Default::default()).await;
        assert!(matches!(compacted, Err(Error::Damaged(_))), "{compacted:?}");
        drop(workspace);
    }
    // It is mended while it is open.
    let workspace = quiet(folder.path()).build().await.expect("a workspace");
    copy(&kept, &log);
    workspace.flush().await.expect("flushed");
    assert_eq!(workspace.damage().expect("open"), []);
    assert_eq!(numbers(&workspace).await, up_to(COMMITS + 5));
    assert!(!folder.path().join("wal/held/Perf.held").exists());
    workspace.write(batch("a", COMMITS + 3, COMMITS + 5..COMMITS + 6)).await.expect("written");
    drop(workspace);
    let workspace = quiet(folder.path()).build().await.expect("a workspace");
    assert_eq!(numbers(&workspace).await, up_to(COMMITS + 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_data_files_are_put_aside_and_the_rest_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path()).await;
    let day = folder.path().join("tables/Perf/TimeGeneratedDay=2026-11-23");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&day).expect("a day").map(|it| it.expect("a file").path()).collect();
    files.sort();
    let mut bytes = std::fs::read(&files[3]).expect("a file");
    bytes[30] ^= 1;
    std::fs::write(&files[3], bytes).expect("damaged");
    std::fs::remove_file(&files[5]).expect("removed");
    let workspace = quiet(folder.path()).build().await.expect("a workspace");
    let footers = workspace.check(&CheckOptions::default()).await.expect("checked");
    assert_eq!((footers.findings.len(), footers.files), (1, COMMITS as usize + 1), "{footers:?}");
    let mut options = CheckOptions { reads_data: true, ..CheckOptions::default() };
    let all = workspace.check(&options).await.expect("checked");
    assert_eq!((all.findings.len(), all.rows_lost(), all.files_without_checksums), (2, 0, 0));
    assert!(ask(&workspace, "Perf | summarize sum(CounterValue)").await.is_err());
    options.quarantines = true;
    let aside = workspace.check(&options).await.expect("put aside");
    assert_eq!((aside.findings.len(), aside.rows_lost()), (2, 2), "{aside:?}");
    let kept: Vec<&String> = aside.findings.iter().filter_map(|it| it.kept.as_ref()).collect();
    let [kept] = kept.as_slice() else { panic!("{aside:?}") };
    let kept = folder.path().join("tables/Perf").join(kept);
    let note = std::fs::read_to_string(format!("{}.json", kept.display())).expect("a note");
    assert!(kept.exists() && note.contains("checksum"), "{note}");
    let rest = numbers(&workspace).await;
    assert_eq!(rest.len() as u64, COMMITS - 2);
    let again = workspace.check(&options).await.expect("checked");
    assert_eq!((again.findings.len(), again.files), (0, COMMITS as usize - 1), "{again:?}");
    workspace.vacuum().await.expect("vacuumed");
    drop(workspace);
    let workspace = quiet(folder.path()).build().await.expect("a workspace");
    assert_eq!(numbers(&workspace).await, rest);
    assert!(kept.exists());
}

/// A commit behind a log that cannot be read would be made, and nobody could tell what it removed.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_data_files_of_a_damaged_log_stay_until_it_is_mended() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path()).await;
    let day = folder.path().join("tables/Perf/TimeGeneratedDay=2026-11-23");
    let data = std::fs::read_dir(&day).expect("a day").next().expect("a file").expect("one").path();
    let mut bytes = std::fs::read(&data).expect("a file");
    bytes[30] ^= 1;
    std::fs::write(&data, bytes).expect("damaged");
    // One of many commits, which a checkpoint has made needless for most readers.
    let commit = log_of(folder.path()).join("00000000000000000001.json");
    let whole = std::fs::read(&commit).expect("a commit");
    let mut flipped = whole.clone();
    flipped[60] ^= 4;
    std::fs::write(&commit, flipped).expect("damaged");
    let workspace = quiet(folder.path()).build().await.expect("a workspace");
    let options = CheckOptions { reads_data: true, quarantines: true, ..CheckOptions::default() };
    let report = workspace.check(&options).await.expect("checked");
    let aside: Vec<bool> = report.findings.iter().map(|finding| finding.is_aside).collect();
    assert_eq!((aside, report.rows_lost()), (vec![false, false], 0), "{report:?}");
    assert!(!folder.path().join("tables/Perf/_oms/quarantine").exists());
    drop(workspace);
    std::fs::write(&commit, whole).expect("mended");
    let workspace = quiet(folder.path()).build().await.expect("a workspace");
    let report = workspace.check(&options).await.expect("checked");
    assert_eq!((report.findings.len(), report.rows_lost()), (1, 1), "{report:?}");
    assert_eq!(numbers(&workspace).await.len() as u64, COMMITS - 1);
}
