//! The Delta tables, read by the Python packages `deltalake` and `duckdb`.
//!
//! `OMS_INTEROP_PYTHON` names a Python that has it.

use crate::{batch, open, start};
use jiff::SignedDuration;
use oms_core::record::{Batch, Record};
use oms_logs::repository::maintain::CompactOptions;
use std::process::Command;

/// It ends without the interpreter's own end: pyarrow's threads, which may still be starting then,
/// bring the process down now and then ("terminate called without an active exception").
const SCRIPT: &str = r#"
import os, sys
from deltalake import DeltaTable
table = DeltaTable(sys.argv[1])
rows = table.to_pyarrow_table()
values = sorted(rows.column("CounterValue").to_pylist())
days = sorted({str(day) for day in rows.column("TimeGeneratedDay").to_pylist()})
print(table.version(), len(values), int(sum(values)), ",".join(days))
if len(sys.argv) > 2:
    print(DeltaTable(sys.argv[2]).to_pyarrow_table().sort_by("B").select(["A", "B"]).to_pylist())
sys.stdout.flush()
os._exit(0)
"#;

#[tokio::test]
async fn python_reads_what_was_flushed() {
    let python = std::env::var("OMS_INTEROP_PYTHON")
        .expect("OMS_INTEROP_PYTHON names a Python that has the package deltalake");
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    workspace.write(batch("a", 1, 0..100)).await.expect("written");
    workspace.flush().await.expect("flushed");
    workspace.write(batch("a", 2, [100_000])).await.expect("written");
    let record = || Record::new("Grow_CL".parse().expect("a name"), start(), "pc");
    for (sequence, record) in [(3, record().with("A", 1_i64)), (4, record().with("B", "two"))] {
        let records = vec![record];
        let batch = Batch { producer: "a".into(), sequence, records };
        workspace.write(batch).await.expect("written");
        workspace.flush().await.expect("flushed");
    }
    workspace.close().await.expect("closed");
    let tables = folder.path().join("tables");
    let output = Command::new(&python)
        .args(["-c", SCRIPT])
        .args([tables.join("Perf"), tables.join("Grow_CL")])
        .output()
        .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{python} failed: {errors}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1 101 104950 2026-11-23,2026-11-24\n[{'A': None, 'B': 'two'}, {'A': 1, 'B': None}]\n"
    );
}

/// What maintenance leaves: compacted files, days that are gone, and purged rows.
#[tokio::test]
async fn python_reads_a_maintained_table() {
    let python = std::env::var("OMS_INTEROP_PYTHON")
        .expect("OMS_INTEROP_PYTHON names a Python that has the package deltalake");
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    for sequence in 1..=25 {
        let numbers = [sequence, 86_400 * sequence];
        workspace.write(batch("a", sequence, numbers)).await.expect("written");
        workspace.flush().await.expect("flushed");
    }
    let options = CompactOptions { is_forced: true, ..CompactOptions::default() };
    workspace.compact(&options).await.expect("compacted");
    let now = start() + SignedDuration::from_hours(24 * 32);
    let plan = workspace.plan_retention(now).await.expect("a plan").trusting_the_clock();
    // The days of 0 and 1 are gone, with 1 to 25 and 86,400.
    assert_eq!(plan.apply().await.expect("applied").tables[0].rows, 26);
    let table = "Perf".parse().expect("a name");
    let plan = workspace.plan_purge(&table, "CounterValue == 172800").await.expect("a plan");
    assert_eq!(plan.apply().await.expect("purged").rows, 1);
    workspace.close().await.expect("closed");
    let output = Command::new(&python)
        .args(["-c", SCRIPT])
        .arg(folder.path().join("tables/Perf"))
        .output()
        .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{python} failed: {errors}");
    let said = String::from_utf8_lossy(&output.stdout);
    let sum: u64 = (3..=25).map(|day| day * 86_400).sum();
    assert!(said.contains(&format!(" 23 {sum} 2026-11-26,")), "{said}");
}

const DUCKDB: &str = r#"
import os, sys
import duckdb
from deltalake import DeltaTable
files = DeltaTable(sys.argv[1]).file_uris()
perf = duckdb.read_parquet(files, union_by_name=True)
rows = perf.aggregate("Computer, count(*), sum(CounterValue)::bigint").order("Computer").limit(2)
print(rows.fetchall())
sys.stdout.flush()
os._exit(0)
"#;

/// As the README shows it, while the workspace is open.
#[tokio::test]
async fn duckdb_reads_the_files_of_a_table_that_is_open() {
    let python = std::env::var("OMS_INTEROP_PYTHON")
        .expect("OMS_INTEROP_PYTHON names a Python that has the packages deltalake and duckdb");
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = open(folder.path()).await;
    for sequence in 1..=3 {
        let numbers = (sequence - 1) * 10..sequence * 10;
        workspace.write(batch("a", sequence, numbers)).await.expect("written");
        workspace.flush().await.expect("flushed");
    }
    let output = Command::new(&python)
        .args(["-c", DUCKDB])
        .arg(folder.path().join("tables/Perf"))
        .output()
        .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{python} failed: {errors}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "[('web-0', 3, 30), ('web-1', 3, 33)]\n");
}
