//! Records of files into a custom table, in columns that are named by what they hold.

use super::rules::{Records, read_records};
use super::{INGESTING, PRODUCER, REFUSED_TOLD_MAX};
use crate::command::Output;
use crate::suite::Suite;
use crate::tour::account::counted;
use anyhow::{Context, Result, bail};
use oms_core::record::RecordType;
use oms_core::task::blocking;
use oms_logs::ingest::custom::CustomBatch;
use oms_logs::{Error, Workspace};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Where the records go.
struct Target<'a> {
    logs: &'a Workspace,
    table: RecordType,
    time_property: Option<&'a str>,
}

/// What became of the records of some files.
#[derive(Debug, Default)]
struct Taken {
    records: u64,
    refused: u64,
    reasons: Vec<String>,
    changes: BTreeMap<String, u64>,
}

impl Taken {
    fn refuse(&mut self, file: &Path, number: u64, reason: &str) {
        self.refused += 1;
        if self.reasons.len() < REFUSED_TOLD_MAX {
            self.reasons.push(format!("{}:{number}: {reason}", file.display()));
        }
    }
}

pub(super) async fn ingest(
    suite: &Suite,
    log_type: &str,
    time_property: Option<&str>,
    files: &[PathBuf],
) -> Result<Output> {
    let table: RecordType = format!("{log_type}_CL").parse()?;
    let target = Target { logs: suite.logs()?, table, time_property };
    let mut opened = Vec::with_capacity(files.len());
    for path in files {
        opened.push(File::open(path).with_context(|| format!("file {}", path.display()))?);
    }
    let _turn = INGESTING.lock().await;
    let mut taken = Taken::default();
    for (path, file) in files.iter().zip(opened) {
        let (batches, mut read) = mpsc::channel::<Result<Records, (u64, String)>>(2);
        let reading = blocking(move || read_records(file, &batches));
        let sending = async {
            while let Some(records) = read.recv().await {
                match records {
                    Ok(records) => target.send(path, records, &mut taken).await?,
                    Err((number, reason)) => {
                        let told = format!("records of files: {reason}");
                        target.logs.note_refused(target.table.as_str(), &told, 1)?;
                        taken.refuse(path, number, &reason);
                    }
                }
            }
            Ok::<(), anyhow::Error>(())
        };
        let (read, done) = tokio::join!(reading, sending);
        done?;
        read.with_context(|| format!("file {}", path.display()))?;
    }
    Ok(summary(&taken, target.table.as_str()))
}

impl Target<'_> {
    /// Sends records, without those that the table refuses.
    async fn send(&self, file: &Path, mut records: Records, taken: &mut Taken) -> Result<()> {
        while !records.is_empty() {
            let values: Vec<&Value> = records.iter().map(|(_, record)| record).collect();
            let batch = CustomBatch {
                producer: PRODUCER.to_owned(),
                sequence: self.logs.last_sequence(PRODUCER)? + 1,
                table: self.table.clone(),
                records: serde_json::to_vec(&values)?.into(),
                time_property: self.time_property.map(str::to_owned),
                resource_id: None,
            };
            match self.logs.ingest_custom(batch).await {
                Ok(report) => {
                    taken.records += report.records;
                    for (what, count) in report.changes {
                        *taken.changes.entry(what).or_default() += count;
                    }
                    return Ok(());
                }
                Err(Error::Busy { .. }) => drop(self.logs.flush().await?),
                // A refused batch was not written at all: the same sequence goes on without the
                // record.
                Err(Error::Record { index, column, reason, .. }) if index < records.len() => {
                    let (number, _) = records.remove(index);
                    taken.refuse(file, number, &format!("{reason} (property {column})"));
                }
                Err(error) => bail!(error),
            }
        }
        Ok(())
    }
}

fn summary(taken: &Taken, table: &str) -> Output {
    let Taken { records, refused, reasons, changes } = taken;
    let mut text = format!("{} accepted into {table}\n", counted(*records, "record"));
    for (what, count) in changes {
        text.push_str(&format!("  {count}: {what}\n"));
    }
    if *refused > 0 {
        text.push_str(&format!("{} refused:\n", counted(*refused, "record")));
        for reason in reasons {
            text.push_str(&format!("  {reason}\n"));
        }
        let untold = refused - reasons.len() as u64;
        if untold > 0 {
            text.push_str(&format!("  and {untold} more\n"));
        }
    }
    let json = json!({
        "table": table, "records": records, "changes": changes, "refused": refused,
        "reasons": reasons,
    });
    let output = Output::new(text, json);
    if *refused > 0 { output.failed() } else { output }
}
