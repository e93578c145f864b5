//! `logs_load PARQUET TABLE FOLDER`: brings a folder of Parquet files into a table.

use anyhow::Result;
use oms_logs::ingest::rows::RowFormat;
use std::path::PathBuf;

#[tokio::main]
async fn main() -> Result<()> {
    let [source, table, folder] = logs::arguments("logs_load PARQUET TABLE FOLDER")?;
    let files: std::io::Result<Vec<PathBuf>> =
        std::fs::read_dir(source)?.map(|entry| Ok(entry?.path())).collect();
    let mut files = files?;
    files.sort();
    let workspace = logs::open(&folder).await?;
    let table = table.parse()?;
    let paths = files.iter().map(PathBuf::as_path);
    let rows = logs::load(&workspace, &table, RowFormat::Parquet, paths).await?;
    workspace.close().await?;
    println!("{rows} rows");
    Ok(())
}
