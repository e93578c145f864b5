//! The Delta tables, read by the Python packages `deltalake` and `duckdb`, and in an object store that
//! speaks S3, the package `moto`.
//!
//! `OMS_INTEROP_PYTHON` names a Python that has them.

use crate::{batch, numbers, open, quiet, start, up_to};
use jiff::SignedDuration;
use oms_core::entropy::SeededEntropy;
use oms_core::record::{Batch, Record};
use oms_logs::object_store::aws::AmazonS3Builder;
use oms_logs::repository::maintain::{CompactOptions, MaintenanceSettings};
use oms_logs::{Settings, Workspace};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use uuid::Uuid;

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

/// It answers one request after the other: its look whether an object is there, and its put, are not
/// one step. It ends when its input does.
const S3: &str = r#"
import os, sys, threading
import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
application = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, application, threaded=False)
threading.Thread(target=server.serve_forever, daemon=True).start()
boto3.client("s3", region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret",
    endpoint_url=f"http://127.0.0.1:{server.server_port}").create_bucket(Bucket="bucket")
print(server.server_port, flush=True)
sys.stdin.read()
os._exit(0)
"#;

/// A server of S3 with a bucket.
struct S3Server {
    child: Child,
    endpoint: String,
}

impl S3Server {
    fn start(python: &str) -> Self {
        let mut child = Command::new(python)
            .args(["-c", S3])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("OMS_INTEROP_PYTHON starts");
        let mut port = String::new();
        let told = BufReader::new(child.stdout.take().expect("its output")).read_line(&mut port);
        assert!(told.is_ok_and(|bytes| bytes > 0), "{python} has the package moto[server]");
        Self { child, endpoint: format!("http://127.0.0.1:{}", port.trim()) }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn writer(folder: &Path, seed: u64, server: &S3Server) -> Workspace {
    let store = AmazonS3Builder::new()
        .with_bucket_name("bucket")
        .with_region("us-east-1")
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_endpoint(&server.endpoint)
        .with_allow_http(true)
        .build()
        .expect("a store");
    let settings = Settings {
        workspace_id: Some(Uuid::from_u128(1)),
        flush_age: SignedDuration::from_hours(10_000),
        flush_bytes: u64::MAX,
        maintenance: MaintenanceSettings { is_automatic: false, ..Default::default() },
        ..Settings::default()
    };
    let builder = quiet(folder).settings(settings).entropy(Arc::new(SeededEntropy::new(seed)));
    let url = "s3://bucket/logs".parse().expect("a URL");
    builder.object_store(Arc::new(store), url).shared().build().await.expect("a workspace")
}

/// Reads with the S3 client of its own that delta-rs has. DuckDB's is an extension that it would
/// have to download.
const READ_S3: &str = r#"
import os, sys
from deltalake import DeltaTable
table = DeltaTable("s3://bucket/logs/Perf", storage_options={
    "AWS_ENDPOINT_URL": sys.argv[1], "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"})
rows = table.to_pyarrow_table()
values = sorted(int(value) for value in rows.column("CounterValue").to_pylist())
print(values == list(range(len(values))), len(values), len(set(rows.column("_ItemId").to_pylist())))
sys.stdout.flush()
os._exit(0)
"#;

#[tokio::test]
async fn two_writers_share_an_s3_bucket_that_python_reads() {
    let python = std::env::var("OMS_INTEROP_PYTHON")
        .expect("OMS_INTEROP_PYTHON names a Python that has the packages deltalake and moto");
    let server = S3Server::start(&python);
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let a = writer(folders[0].path(), 1, &server).await;
    let b = writer(folders[1].path(), 2, &server).await;
    for round in 0..6 {
        let first = round * 20;
        a.write(batch("a", round + 1, first..first + 10)).await.expect("written");
        b.write(batch("b", round + 1, first + 10..first + 20)).await.expect("written");
        let (one, other) = tokio::join!(a.flush(), b.flush());
        assert_eq!((one.expect("flushed").rows(), other.expect("flushed").rows()), (10, 10));
    }
    let options = CompactOptions { is_forced: true, ..CompactOptions::default() };
    assert_eq!(a.compact(&options).await.expect("compacted").files_before(), 12);
    b.write(batch("b", 7, 120..130)).await.expect("written");
    b.close().await.expect("flushed and closed");
    a.refresh().await.expect("looked");
    assert_eq!(numbers(&a).await, up_to(130));
    let output = Command::new(&python)
        .args(["-c", READ_S3, &server.endpoint])
        .output()
        .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{python} failed: {errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "True 130 130\n");
    a.close().await.expect("closed");
}
