//! `logs_ingest NDJSON TABLE FOLDER`: brings a file of JSON lines into a table, durable and flushed.

use anyhow::Result;
use oms_logs::ingest::rows::RowFormat;
use std::path::Path;

#[tokio::main]
async fn main() -> Result<()> {
    let [file, table, folder] = logs::arguments("logs_ingest NDJSON TABLE FOLDER")?;
    let workspace = logs::open(&folder).await?;
    let files = [Path::new(&file)];
    let rows = logs::load(&workspace, &table.parse()?, RowFormat::Ndjson, files).await?;
    workspace.close().await?;
    println!("{rows} rows");
    Ok(())
}
