//! What the kit does not measure, each a part by itself on a folder that is empty at first:
//!
//! - `logs_life fresh FOLDER`: how long after its acknowledgement a record is seen by a query.
//! - `logs_life busy FOLDER SECONDS`: rows a second of two writers at full rate, how long queries take
//!   meanwhile, how often writers are told to come back, and the peak of memory.
//! - `logs_life fill FOLDER MIB`: leaves about so much in the write-ahead log, and ends as a killed
//!   process does; `logs_life open FOLDER` then says how long opening takes.
//! - `logs_life days FOLDER DAYS ROWS`: the same query of one day beside one day and beside so many.

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use oms_core::SystemClock;
use oms_core::record::{Batch, Record, RecordType};
use oms_logs::query::QueryOptions;
use oms_logs::repository::maintain::TableSettings;
use oms_logs::{Error, Settings, Workspace};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TABLE: &str = "Lines_CL";

/// Rows of a batch.
const BATCH: u64 = 1_000;

fn table() -> Result<RecordType> {
    TABLE.parse().context("the table's name")
}

fn record(time: Timestamp, number: u64) -> Result<Record> {
    let text = format!("session {number} opened for user root by (uid=0), port {}", number % 4_096);
    let computer = format!("web-{}", number % 500);
    Ok(Record::new(table()?, time, computer).with("N", number as i64).with("Text", text))
}

fn batch(producer: &str, sequence: u64, time: Timestamp) -> Result<Batch> {
    let from = sequence * BATCH;
    let records = (from..from + BATCH).map(|number| record(time, number));
    let records = records.collect::<Result<Vec<_>>>()?;
    Ok(Batch { producer: producer.to_owned(), sequence, records })
}

/// The first number of an answer.
async fn ask(workspace: &Workspace, query: &str) -> Result<i64> {
    let report = workspace.query(query, &QueryOptions::new(Arc::new(SystemClock))).await?;
    let rows = report.rows();
    rows.first().and_then(|row| row.first()?.as_i64()).context("an answer without a number")
}

fn ms(mut taken: Vec<Duration>, share: f64) -> f64 {
    taken.sort_unstable();
    let at = ((taken.len().max(1) - 1) as f64 * share) as usize;
    taken.get(at).map_or(0.0, |taken| taken.as_secs_f64() * 1e3)
}

/// The most memory that the process had, in MiB.
fn peak_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("VmHWM")?;
    let kib = line.split_whitespace().nth(1).context("VmHWM")?;
    Ok(kib.parse::<u64>()? / 1024)
}

/// A query right after each acknowledgement. It has to find the record, and its time is an upper
/// bound on how long that takes.
async fn fresh(folder: &str) -> Result<()> {
    let workspace = logs::open(folder).await?;
    let (mut seen, mut asked) = (Vec::new(), Vec::new());
    for number in 1..=500 {
        let batch = Batch {
            producer: "bench".to_owned(),
            sequence: number,
            records: vec![record(Timestamp::now(), number)?],
        };
        workspace.write(batch).await?;
        let acknowledged = Instant::now();
        let rows = workspace.table_snapshot(TABLE).map_or(0, |snapshot| snapshot.rows());
        seen.push(acknowledged.elapsed());
        if rows != number {
            bail!("{rows} of {number} acknowledged rows are in the view");
        }
        let found = ask(&workspace, &format!("{TABLE} | where N == {number} | count")).await?;
        asked.push(acknowledged.elapsed());
        if found != 1 {
            bail!("record {number} was acknowledged and not found");
        }
    }
    let figures = json!({
        "view_p50_ms": ms(seen.clone(), 0.5), "view_p99_ms": ms(seen, 0.99),
        "query_p50_ms": ms(asked.clone(), 0.5), "query_p99_ms": ms(asked, 0.99),
    });
    workspace.close().await?;
    println!("{figures}");
    Ok(())
}

async fn busy(folder: &str, seconds: u64) -> Result<()> {
    let workspace = logs::open(folder).await?;
    // The table is there before it is asked.
    workspace.write(batch("bench", 1, Timestamp::now())?).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicU64::new(0));
    let writers = (0..2).map(|writer| {
        let (workspace, is_over) = (Arc::clone(&workspace), Arc::clone(&is_over));
        let refused = Arc::clone(&refused);
        tokio::spawn(async move {
            let (producer, mut sequence) = (format!("bench-{writer}"), 0);
            while !is_over.load(Ordering::Relaxed) {
                sequence += 1;
                let batch = batch(&producer, sequence, Timestamp::now())?;
                while let Err(error) = workspace.write(batch.clone()).await {
                    let Error::Busy { .. } = error else { return Err(error.into()) };
                    refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            anyhow::Ok(sequence * BATCH)
        })
    });
    let writers: Vec<_> = writers.collect();
    let (begin, mut taken) = (Instant::now(), Vec::new());
    while begin.elapsed() < Duration::from_secs(seconds) {
        let asked = Instant::now();
        ask(&workspace, &format!("{TABLE} | where Computer == 'web-7' | count")).await?;
        taken.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut rows = BATCH;
    for writer in writers {
        rows += writer.await??;
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let found = ask(&workspace, &format!("{TABLE} | count")).await?;
    if found != rows as i64 {
        bail!("{found} of {rows} acknowledged rows are found");
    }
    let figures = json!({
        "rows_s": rows as f64 / elapsed, "queries": taken.len(),
        "query_p50_ms": ms(taken.clone(), 0.5), "query_p99_ms": ms(taken, 0.99),
        "told_to_come_back": refused.load(Ordering::Relaxed), "peak_mib": peak_mib()?,
    });
    workspace.close().await?;
    println!("{figures}");
    Ok(())
}

fn log_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

async fn fill(folder: &str, mib: u64) -> Result<()> {
    let settings = Settings {
        memory_bytes_max: u64::MAX,
        flush_bytes: u64::MAX,
        flush_age: SignedDuration::from_hours(1_000),
        table_settings: TableSettings::longest(),
        ..Settings::default()
    };
    let workspace = Workspace::builder(folder).settings(settings).build().await?;
    let mut sequence = 0;
    while log_bytes(&Path::new(folder).join("wal"))? < mib << 20 {
        for _ in 0..100 {
            sequence += 1;
            workspace.write(batch("bench", sequence, Timestamp::now())?).await?;
        }
    }
    println!("{}", json!({"rows": sequence * BATCH}));
    // As a killed process: nothing is flushed or closed.
    std::process::abort();
}

async fn open(folder: &str) -> Result<()> {
    let bytes = log_bytes(&Path::new(folder).join("wal"))?;
    let begin = Instant::now();
    let workspace = logs::open(folder).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let rows = ask(&workspace, &format!("{TABLE} | count")).await?;
    let gib = bytes as f64 / (1_u64 << 30) as f64;
    let figures = json!({
        "rows": rows, "log_gib": gib, "s": seconds, "s_per_gib": seconds / gib,
        "peak_mib": peak_mib()?,
    });
    println!("{figures}");
    // What is waiting is not flushed: the folder opens the same way again.
    std::process::abort();
}

/// The median of a query's times, after a first run.
async fn hot(workspace: &Workspace, query: &str) -> Result<f64> {
    let mut taken = Vec::new();
    for run in 0..22 {
        let begin = Instant::now();
        ask(workspace, query).await?;
        if run > 0 {
            taken.push(begin.elapsed());
        }
    }
    Ok(ms(taken, 0.5))
}

async fn days(folder: &str, days: u64, rows: u64) -> Result<()> {
    let workspace = logs::open(folder).await?;
    let today: Timestamp = "2026-06-15T12:00:00Z".parse()?;
    let query = format!(
        "{TABLE} | where TimeGenerated between (datetime(2026-06-15) .. datetime(2026-06-16)) \
         | where Computer == 'web-7' | count"
    );
    let (mut sequence, mut figures) = (0, serde_json::Map::new());
    for day in 0..days {
        let time = today - SignedDuration::from_hours(24 * day as i64);
        for _ in 0..rows.div_ceil(BATCH) {
            sequence += 1;
            while let Err(error) = workspace.write(batch("bench", sequence, time)?).await {
                let Error::Busy { .. } = error else { return Err(error.into()) };
                workspace.flush().await?;
            }
        }
        workspace.flush().await?;
        if day == 0 || day + 1 == days {
            let name = format!("beside_{}_days_ms", day + 1);
            figures.insert(name, json!(hot(&workspace, &query).await?));
        }
    }
    let all = format!("{TABLE} | where Computer == 'web-7' | count");
    figures.insert("all_days_ms".to_owned(), json!(hot(&workspace, &all).await?));
    workspace.close().await?;
    println!("{}", serde_json::Value::Object(figures));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["fresh", folder] => fresh(folder).await,
        ["busy", folder, seconds] => busy(folder, seconds.parse()?).await,
        ["fill", folder, mib] => fill(folder, mib.parse()?).await,
        ["open", folder] => open(folder).await,
        ["days", folder, count, rows] => days(folder, count.parse()?, rows.parse()?).await,
        _ => bail!("usage: logs_life fresh|busy|fill|open|days FOLDER …, see the source"),
    }
}
