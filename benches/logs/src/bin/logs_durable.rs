//! `logs_durable NDJSON FOLDER BATCHES ROWS WRITERS`: appends batches of JSON rows, each acknowledged
//! when it is durable, and prints `{"rows_s", "p50_ms", "p99_ms"}`. The time has the parsing in it.

use anyhow::{Context, Result, bail};
use oms_logs::arrow::array::RecordBatch;
use oms_logs::ingest::rows::{ColumnReader, RowFormat, RowTarget};
use oms_logs::{RowBatch, Workspace};
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The texts of the batches, in order; the file starts over when it ends.
fn texts(file: &str, batches: usize, rows: usize) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
    let mut lines = text.lines().cycle();
    let mut batch =
        || -> String { lines.by_ref().take(rows).flat_map(|line| [line, "\n"]).collect() };
    Ok((0..batches).map(|_| batch()).collect())
}

fn parse(text: String, rows: usize, target: RowTarget) -> Result<RecordBatch> {
    let mut reader = ColumnReader::new(RowFormat::Ndjson, Cursor::new(text), target)?;
    let read = reader.next_rows(rows)?.context("a text without rows")?;
    match read.refused.first() {
        Some((number, reason)) => bail!("{number}: {reason}"),
        None => Ok(read.rows),
    }
}

async fn write_all(
    workspace: Arc<Workspace>,
    texts: Arc<Vec<String>>,
    next: Arc<AtomicUsize>,
    rows: usize,
    producer: String,
) -> Result<Vec<Duration>> {
    let (table, mut taken, mut sequence) = ("Syslog".parse()?, Vec::new(), 0);
    while let Some(text) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
        let begin = Instant::now();
        let rows = parse(text.clone(), rows, logs::target(&workspace, &table))?;
        sequence += 1;
        let batch = RowBatch { producer: producer.clone(), sequence, table: table.clone(), rows };
        logs::write(&workspace, batch).await?;
        taken.push(begin.elapsed());
    }
    Ok(taken)
}

#[tokio::main]
async fn main() -> Result<()> {
    let [file, folder, batches, rows, writers] =
        logs::arguments("logs_durable NDJSON FOLDER BATCHES ROWS WRITERS")?;
    let (batches, rows, writers): (usize, usize, usize) =
        (batches.parse()?, rows.parse()?, writers.parse()?);
    let texts = Arc::new(texts(&file, batches, rows)?);
    let workspace = logs::open(&folder).await?;
    let (next, begin) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let writing: Vec<_> = (0..writers)
        .map(|writer| {
            let (workspace, texts, next) =
                (Arc::clone(&workspace), Arc::clone(&texts), Arc::clone(&next));
            tokio::spawn(write_all(workspace, texts, next, rows, format!("bench-{writer}")))
        })
        .collect();
    let mut taken = Vec::new();
    for writer in writing {
        taken.extend(writer.await??);
    }
    let seconds = begin.elapsed().as_secs_f64();
    taken.sort_unstable();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let figures = serde_json::json!({
        "rows_s": (batches * rows) as f64 / seconds, "p50_ms": at(0.5), "p99_ms": at(0.99),
    });
    workspace.close().await?;
    println!("{figures}");
    Ok(())
}
