//! Bits that flip in data files: found, named, and never answered by wrong rows.

use super::{batch, numbers, open, quiet, up_to};
use datafusion::prelude::SessionContext;
use jiff::SignedDuration;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use oms_core::ErrorKind;
use oms_core::clock::ManualClock;
use oms_core::record::{Batch, Record};
use oms_logs::query::{QueryError, QueryOptions};
use oms_logs::repository::maintain::CompactOptions;
use oms_logs::url::Url;
use oms_logs::{Damage, Error, Workspace};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The data files of a table.
fn data_files(folder: &Path, table: &str) -> Vec<PathBuf> {
    let days = std::fs::read_dir(folder.join("tables").join(table)).expect("a table");
    let days = days.map(|day| day.expect("a day").path());
    let days = days.filter(|day| day.to_string_lossy().contains("TimeGeneratedDay="));
    let files = days.flat_map(|day| std::fs::read_dir(day).expect("a day"));
    files.map(|file| file.expect("a file").path()).collect()
}

async fn ask(workspace: &Workspace, text: &str) -> Result<String, QueryError> {
    let options = QueryOptions::new(Arc::new(ManualClock::new(super::start())));
    workspace.query(text, &options).await.map(|report| report.to_text())
}

fn damage_of(error: QueryError) -> Damage {
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    match error {
        QueryError::Damaged(damage) => damage,
        other => panic!("{other:?}"),
    }
}

/// Many rows of two tables, in one file each.
async fn filled(workspace: &Workspace) {
    workspace.write(batch("a", 1, 0..3_000)).await.expect("written");
    let record = |n: i64| {
        let time = super::start() + SignedDuration::from_millis(n);
        let text = format!("session {n} opened for {}", n * 7_919 % 10_007);
        Record::new("Lines_CL".parse().expect("a name"), time, "pc").with("Text", text)
    };
    let records = (0..2_000).map(record).collect();
    workspace.write(Batch { producer: "b".into(), sequence: 1, records }).await.expect("written");
    workspace.flush().await.expect("flushed");
}

const QUERIES: [&str; 4] = [
    "Lines_CL",
    "Lines_CL | where Text has '10006' or Text has 'nowhere'",
    "Lines_CL | summarize count(), max(Text) by bin(TimeGenerated, 1s) | sort by TimeGenerated asc",
    "Lines_CL | top 3 by TimeGenerated desc | project Text",
];

#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_data_file_is_told_and_never_answered_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    filled(&workspace).await;
    let mut right = Vec::new();
    for query in QUERIES {
        right.push(ask(&workspace, query).await.expect(query));
    }
    drop(workspace);
    let [file] = data_files(folder.path(), "Lines_CL").try_into().expect("one file");
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    let bytes = std::fs::read(&file).expect("a file");
    let index = bytes.windows(8).position(|it| it == b"OMSterm1").expect("an index");
    let (mut told, mut same) = (0, 0);
    // Ends of every region, and places between them.
    let places = (0..bytes.len())
        .filter(|at| at % 4_001 == 0 || *at < 4 || at.abs_diff(index) < 2 || bytes.len() - at < 12);
    for at in places {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&file, &flipped).expect("damaged");
        // Nothing of it is in memory.
        let workspace = quiet(folder.path()).build().await.expect("a workspace");
        for (query, right) in QUERIES.iter().zip(&right) {
            match ask(&workspace, query).await {
                Ok(answer) => {
                    assert_eq!(answer, *right, "byte {at}: {query}");
                    same += 1;
                }
                Err(error) => {
                    let damage = damage_of(error);
                    assert_eq!(damage.table, "Lines_CL");
                    assert!(damage.file.ends_with(&name), "{damage}");
                    assert!(damage.offset <= bytes.len() as u64);
                    told += 1;
                }
            }
        }
        assert_eq!(numbers(&workspace).await, up_to(3_000), "the other table");
    }
    assert!(told > 30 && same > 3, "{told} {same}");
}

#[tokio::test]
async fn a_damaged_file_stops_its_compaction_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    for round in 0..3 {
        workspace.write(batch("a", round + 1, round * 10..round * 10 + 10)).await.expect("written");
        let records = vec![Record::new("Other_CL".parse().expect("a name"), super::start(), "pc")];
        let batch = Batch { producer: "b".into(), sequence: round + 1, records };
        workspace.write(batch).await.expect("written");
        workspace.flush().await.expect("flushed");
    }
    let file = data_files(folder.path(), "Perf").remove(0);
    let bytes = std::fs::read(&file).expect("a file");
    let mut flipped = bytes.clone();
    flipped[100] ^= 2;
    std::fs::write(&file, flipped).expect("damaged");
    let options = CompactOptions { is_forced: true, ..CompactOptions::default() };
    let error = workspace.compact(&options).await.expect_err("damaged");
    let Error::Damaged(damage) = &error else { panic!("{error:?}") };
    assert_eq!((damage.table.as_str(), damage.offset), ("Perf", 0));
    assert_eq!(data_files(folder.path(), "Other_CL").len(), 4, "the other table has a new file");
    // Whole rows of whole files come and go as before.
    workspace.write(batch("a", 9, 30..40)).await.expect("written");
    workspace.flush().await.expect("flushed");
    let plan = workspace.plan_purge(&"Perf".parse().expect("a name"), "CounterValue < 5").await;
    assert!(matches!(plan, Err(Error::Damaged(_))), "{plan:?}");
    std::fs::write(&file, bytes).expect("mended");
    assert_eq!(workspace.compact(&options).await.expect("compacted").files_before(), 4);
    assert_eq!(numbers(&workspace).await, up_to(40));
}

#[tokio::test]
async fn damage_in_an_object_store_is_told_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(InMemory::new());
    let url = Url::parse("s3://bucket/logs").expect("a URL");
    let builder = || quiet(folder.path()).object_store(Arc::clone(&store) as _, url.clone());
    let workspace = builder().build().await.expect("a workspace");
    filled(&workspace).await;
    let folder_of_table = ObjectPath::from("logs/Lines_CL/TimeGeneratedDay=2026-11-23");
    let files = store.list_with_delimiter(Some(&folder_of_table)).await.expect("listed").objects;
    let [file] = files.try_into().expect("one file");
    let bytes = store.get(&file.location).await.expect("it").bytes().await.expect("its bytes");
    for at in [5, bytes.len() / 3, bytes.len() - 5, bytes.len() - 300] {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 8;
        store.put(&file.location, flipped.into()).await.expect("damaged");
        let fresh = {
            let provider = workspace.table_provider("Lines_CL").expect("a table");
            // A session of its own has no footer in memory.
            let frame = SessionContext::new().read_table(provider).expect("a frame");
            frame.collect().await
        };
        // What the workspace has in memory of the file is verified against the rest.
        let error = match fresh {
            Ok(rows) => {
                let rows: usize = rows.iter().map(|rows| rows.num_rows()).sum();
                assert_eq!(rows, 2_000, "byte {at}");
                continue;
            }
            Err(error) => error.to_string(),
        };
        assert!(error.contains("Lines_CL") && error.contains("damaged"), "{error}");
    }
    store.put(&file.location, bytes.into()).await.expect("mended");
    let answer = ask(&workspace, "Lines_CL | count").await.expect("an answer");
    assert!(answer.contains("2000"), "{answer}");
}
