//! What the programs share: the workspace in a folder, and rows as batches of it.

use anyhow::{Context, Result};
use oms_core::record::{Batch, Record, RecordType};
use oms_core::{Clock, SystemClock};
use oms_logs::ingest::rows::{RowFormat, RowReader, RowTarget};
use oms_logs::{Error, Workspace};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Records of one batch when a file is loaded.
const BATCH_RECORDS: usize = 10_000;

/// The arguments after the program's name, so many of them.
pub fn arguments<const N: usize>(usage: &str) -> Result<[String; N]> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    given.try_into().map_err(|_| anyhow::anyhow!("usage: {usage}"))
}

/// The workspace in a folder.
pub async fn open(folder: &str) -> Result<Arc<Workspace>> {
    Ok(Arc::new(Workspace::builder(folder).build().await.context("the workspace")?))
}

/// What rows become records of.
pub fn target(workspace: &Workspace, table: &RecordType) -> RowTarget {
    RowTarget {
        schema: workspace.table_schema(table),
        computer: "bench".to_owned(),
        now: SystemClock.now(),
    }
}

/// Writes a batch, and flushes first if too much waits.
pub async fn write(workspace: &Workspace, batch: Batch) -> Result<()> {
    loop {
        match workspace.write(batch.clone()).await {
            Err(Error::Busy { .. }) => drop(workspace.flush().await?),
            outcome => return Ok(outcome?),
        }
    }
}

/// Writes every row of some files while a thread of its own reads those that follow; answers how
/// many. A row that is refused ends it.
pub async fn load<'a>(
    workspace: &Workspace,
    table: &RecordType,
    format: RowFormat,
    files: impl IntoIterator<Item = &'a Path>,
) -> Result<u64> {
    let (mut count, producer) = (0, "bench".to_owned());
    for path in files {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let target = target(workspace, table);
        let (batches, mut read) = mpsc::channel::<Vec<Record>>(2);
        let reading = tokio::task::spawn_blocking(move || -> Result<()> {
            let mut rows = RowReader::open(format, file, target)?;
            loop {
                let batch: Result<Vec<Record>> = rows
                    .by_ref()
                    .take(BATCH_RECORDS)
                    .map(|row| row?.record.map_err(|reason| anyhow::anyhow!(reason)))
                    .collect();
                let batch = batch?;
                if batch.is_empty() || batches.blocking_send(batch).is_err() {
                    return Ok(());
                }
            }
        });
        while let Some(records) = read.recv().await {
            count += records.len() as u64;
            let sequence = workspace.last_sequence(&producer)? + 1;
            write(workspace, Batch { producer: producer.clone(), sequence, records }).await?;
        }
        reading.await??;
    }
    Ok(count)
}
