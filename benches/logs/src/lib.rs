//! What the programs share: the workspace in a folder, and rows as batches of it.

use anyhow::{Context, Result, bail};
use oms_core::record::RecordType;
use oms_core::{Clock, SystemClock};
use oms_logs::ingest::rows::{RowFormat, RowTarget};
use oms_logs::repository::maintain::TableSettings;
use oms_logs::workspace::{LoadFile, LoadOptions};
use oms_logs::{Error, RowBatch, Settings, Workspace};
use std::path::Path;
use std::sync::Arc;

/// The arguments after the program's name, so many of them.
pub fn arguments<const N: usize>(usage: &str) -> Result<[String; N]> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    given.try_into().map_err(|_| anyhow::anyhow!("usage: {usage}"))
}

/// The workspace in a folder.
pub async fn open(folder: &str) -> Result<Arc<Workspace>> {
    // The bench kit's rows are of one day of the past.
    let settings = Settings { table_settings: TableSettings::longest(), ..Settings::default() };
    let workspace = Workspace::builder(folder).settings(settings).build().await;
    Ok(Arc::new(workspace.context("the workspace")?))
}

/// What rows become columns of.
pub fn target(workspace: &Workspace, table: &RecordType) -> RowTarget {
    RowTarget {
        schema: workspace.table_schema(table),
        computer: "bench".to_owned(),
        now: SystemClock.now(),
    }
}

/// Writes a batch, and flushes first if too much waits.
pub async fn write(workspace: &Workspace, batch: RowBatch) -> Result<()> {
    loop {
        match workspace.write_rows(batch.clone()).await {
            Err(Error::Busy { .. }) => drop(workspace.flush().await?),
            outcome => return Ok(outcome?),
        }
    }
}

/// Loads every row of some files; answers how many. A row that is refused ends it.
pub async fn load<'a>(
    workspace: &Workspace,
    table: &RecordType,
    format: RowFormat,
    files: impl IntoIterator<Item = &'a Path>,
) -> Result<u64> {
    let open = |path: &Path| LoadFile::open(path).with_context(|| path.display().to_string());
    let files: Result<Vec<LoadFile>> = files.into_iter().map(open).collect();
    let options = LoadOptions { format, computer: "bench".to_owned(), ..LoadOptions::default() };
    let report = workspace.load(table, files?, &options).await?;
    if let Some(failure) = report.failure {
        return Err(failure.into());
    }
    if let Some(row) = report.refused_rows.first() {
        bail!("{}:{}: {}", row.file.display(), row.number, row.reason);
    }
    Ok(report.accepted)
}
