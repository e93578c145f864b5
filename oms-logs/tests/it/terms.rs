//! The index of terms changes which rows are read, and never which are found.

use super::{open, quiet, start};
use datafusion::physical_plan::displayable;
use datafusion::prelude::{Expr, SessionContext, ident, lit};
use jiff::SignedDuration;
use oms_core::clock::ManualClock;
use oms_core::record::{Batch, Record};
use oms_logs::Workspace;
use oms_logs::query::QueryOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of more than two blocks.
const ROWS: u64 = 20_000;

const QUERIES: [&str; 12] = [
    "Lines_CL | where Text has 'XQ7731ERR' | count",
    "Lines_CL | where Text has 'xq7731err' and N > 10000 | project N",
    "Lines_CL | where Text has 'XQ7731' | count",
    "Lines_CL | where Text hasprefix 'xq7731' | count",
    "Lines_CL | where Text contains 'Q7731' | count",
    "Lines_CL | where Text startswith 'session 12345 opened' | project N, Text",
    "Lines_CL | where Text endswith 'code XQ7731ERR' | count",
    "Lines_CL | where Text == 'session 12345 opened for user'  | project N",
    "Lines_CL | where Text in ('session 12345 opened for user', 'nothing') | project N",
    "Lines_CL | where Text has_any ('xq7731err', 'Ünïcode') | count",
    "Lines_CL | where Text has_all ('ünïcode', 'STRASSE') or N == 3 | project N | sort by N asc",
    "Lines_CL | where Text !has 'session' | count",
];

fn record(n: u64) -> Record {
    let text = match n {
        9_000 | 15_000 => format!("session {n} failed with code XQ7731ERR"),
        16_000 => "session ÜNÏCODE in the Strasse".to_owned(),
        17_000 => String::new(),
        _ => format!("session {n} opened for user"),
    };
    let time = start() + SignedDuration::from_millis(n as i64 * 3);
    let record = Record::new("Lines_CL".parse().expect("a name"), time, "pc").with("N", n as i64);
    if n == 18_000 { record } else { record.with("Text", text) }
}

async fn filled(folder: &Path) -> Workspace {
    let workspace = open(folder).await;
    let records = (0..ROWS).map(record).collect();
    workspace.write(Batch { producer: "p".into(), sequence: 1, records }).await.expect("written");
    workspace
}

async fn answers(workspace: &Workspace) -> Vec<String> {
    let mut answers = Vec::new();
    for query in QUERIES {
        let options = QueryOptions::new(Arc::new(ManualClock::new(start())));
        let report = workspace.query(query, &options).await.expect(query);
        answers.push(report.to_text());
    }
    answers
}

/// The data files below a folder.
fn data_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(data_files(&path));
        } else if path.to_string_lossy().ends_with(".zstd.parquet") {
            found.push(path);
        }
    }
    found
}

async fn plan_of(workspace: &Workspace, filter: Expr) -> String {
    let provider = workspace.table_provider("Lines_CL").expect("a table");
    let frame = SessionContext::new().read_table(provider).expect("a frame");
    let plan = frame.filter(filter).expect("a filter").create_physical_plan().await;
    displayable(plan.expect("a plan").as_ref()).indent(true).to_string()
}

#[tokio::test]
async fn files_answer_as_fresh_rows_do_also_with_a_damaged_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = filled(folder.path()).await;
    let fresh = answers(&workspace).await;
    workspace.flush().await.expect("flushed");
    assert_eq!(answers(&workspace).await, fresh);
    assert!(fresh[0].contains('2') && fresh[7].contains("12345"), "{fresh:?}");
    workspace.close().await.expect("closed");
    let files = data_files(folder.path());
    assert!(!files.is_empty());
    for path in files {
        let mut bytes = std::fs::read(&path).expect("a file");
        let at = bytes.windows(8).position(|eight| eight == b"OMSterm1").expect("an index");
        bytes[at + 40] ^= 1;
        std::fs::write(&path, bytes).expect("damaged");
    }
    let workspace = quiet(folder.path()).build().await.expect("a workspace");
    assert_eq!(answers(&workspace).await, fresh);
}

#[tokio::test]
async fn a_file_without_a_term_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = filled(folder.path()).await;
    workspace.flush().await.expect("flushed");
    let absent = plan_of(&workspace, ident("Text").ilike(lit("% nowhere to be seen"))).await;
    assert!(absent.contains("EmptyExec") && !absent.contains(".parquet"), "{absent}");
    let present = plan_of(&workspace, ident("Text").ilike(lit("%code xq7731err"))).await;
    assert!(present.contains(".parquet"), "{present}");
}
