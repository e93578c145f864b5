//! Damage at rest: told, and put aside.

use crate::command::Output;
use crate::suite::Suite;
use crate::tour::account::{bytes, counted};
use anyhow::Result;
use clap::Args;
use oms_logs::repository::maintain::{CheckOptions, CheckReport, Finding};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Check {
    /// The table; all of them without one.
    table: Option<String>,
    /// Reads every byte of the data files, in place of their footers alone.
    #[arg(long)]
    read_data: bool,
    /// Puts damaged data files aside, and damaged segments of the write-ahead log, so that the rest can
    /// be read. What they held is lost unless they are mended.
    #[arg(long)]
    pub(super) quarantine: bool,
}

pub(super) async fn check(suite: &Suite, command: &Check) -> Result<Output> {
    let options = CheckOptions {
        table: command.table.as_deref().map(str::parse).transpose()?,
        reads_data: command.read_data,
        quarantines: command.quarantine,
    };
    let logs = suite.logs()?;
    let report = logs.check(&options).await?;
    let damage = logs.log_damage()?;
    let mut text = String::new();
    for found in &damage {
        let (path, offset, reason) = (&found.path, found.offset, &found.reason);
        text.push_str(&format!("{path} at byte {offset}: {reason}; moved to {}\n", found.moved_to));
    }
    report.findings.iter().for_each(|finding| text.push_str(&told(finding)));
    text.push_str(&summary(&report, command));
    let log: Vec<_> = damage
        .iter()
        .map(|found| {
            json!({
                "file": found.path, "offset": found.offset, "reason": found.reason,
                "movedTo": found.moved_to, "batchesMissing": found.batches_missing,
            })
        })
        .collect();
    let json = json!({
        "findings": report.findings.iter().map(as_json).collect::<Vec<_>>(), "log": log,
        "tables": report.tables, "files": report.files, "logFiles": report.log_files,
        "filesWithoutChecksums": report.files_without_checksums, "bytes": report.bytes,
        "rowsLost": report.rows_lost(),
    });
    let output = Output::new(text, json);
    match report.findings.is_empty() && damage.is_empty() {
        true => Ok(output),
        false => Ok(output.failed()),
    }
}

fn told(finding: &Finding) -> String {
    let damage = &finding.damage;
    let mut text =
        format!("{}: {} at byte {}: {}", damage.table, damage.file, damage.offset, damage.reason);
    if let Some(rows) = finding.rows {
        text.push_str(&format!("; {}", counted(rows, "row")));
    }
    if finding.is_aside {
        text.push_str(" put aside");
    }
    if let Some(kept) = &finding.kept {
        text.push_str(&format!(", kept as {kept}"));
    }
    text.push('\n');
    text
}

fn summary(report: &CheckReport, command: &Check) -> String {
    let mut text = format!(
        "{}, {} and {} of their logs looked at",
        counted(report.tables, "table"),
        counted(report.files, "data file"),
        counted(report.log_files, "file")
    );
    if command.read_data {
        text.push_str(&format!(", {} read", bytes(report.bytes)));
    }
    text.push_str(&format!(": {} damaged\n", report.findings.len()));
    if !command.read_data {
        text.push_str("of data files, their footers alone: --read-data reads every byte\n");
    }
    if report.files_without_checksums > 0 {
        let count = report.files_without_checksums;
        text.push_str(&format!("{count} data files have no checksums\n"));
    }
    if report.rows_lost() > 0 {
        text.push_str(&format!("{} lost\n", counted(report.rows_lost(), "row")));
    }
    text
}

fn as_json(finding: &Finding) -> serde_json::Value {
    let damage = &finding.damage;
    json!({
        "table": damage.table, "file": damage.file, "offset": damage.offset,
        "reason": damage.reason, "rows": finding.rows, "isAside": finding.is_aside,
        "kept": finding.kept,
    })
}
