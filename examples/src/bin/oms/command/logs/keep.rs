//! What keeps tables healthy: retention, purge, export, maintenance.

use super::Logs;
use crate::command::Output;
use crate::suite::Suite;
use crate::tour::account::{bytes, counted};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use oms_core::SystemClock;
use oms_core::disk::{Disk as _, LocalDisk};
use oms_core::record::RecordType;
use oms_logs::query::{ExportFormat, ExportOptions, QueryOptions};
use oms_logs::repository::maintain::{
    CompactOptions, INTERACTIVE_DAYS_FIXED, RetentionPlan, TablePlan, TableSettings,
};
use oms_logs::repository::snapshot::TableSnapshot;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Retention {
    /// The table; all of them are listed without one.
    table: Option<String>,
    /// Days for which queries find a row: 4 to 730, and 30 with the plans Basic and Auxiliary.
    #[arg(long, value_name = "DAYS", requires = "table")]
    interactive: Option<u32>,
    /// Days after which a row is removed, up to 4383. A shorter one waits 30 days.
    #[arg(long, value_name = "DAYS", requires = "table")]
    total: Option<u32>,
    /// What may be done with the rows.
    #[arg(long, value_enum, requires = "table")]
    plan: Option<Plan>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Plan {
    /// The whole language, 4 to 730 days.
    Analytics,
    /// 30 days.
    Basic,
    /// 30 days.
    Auxiliary,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Purge {
    /// The table.
    table: String,
    /// Which rows, such as "Computer == 'x' and TimeGenerated < ago(30d)".
    filter: String,
    /// Removes them for good; without it the plan is printed and nothing is done.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Export {
    /// A table's name, or any query.
    query: String,
    /// The file to write, which must not be there.
    #[arg(long, short)]
    output: PathBuf,
    /// What it holds.
    #[arg(long, value_enum, default_value_t = FileFormat::Parquet)]
    format: FileFormat,
    /// Only rows from this time on, such as 2026-11-23T00:00:00Z.
    #[arg(long)]
    from: Option<Timestamp>,
    /// Only rows before this time.
    #[arg(long)]
    to: Option<Timestamp>,
    /// Rows past the interactive retention too.
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a row of names first (RFC 4180).
    Csv,
    /// One JSON object a line.
    Ndjson,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Maintain {
    /// Prints what retention removes, and does nothing.
    #[arg(long)]
    dry_run: bool,
    /// Puts together what files there are, however few.
    #[arg(long)]
    force: bool,
    /// Removes rows although the clock jumped ahead since retention ran last.
    #[arg(long)]
    trust_clock: bool,
}

impl Logs {
    pub(super) fn export_path(export: &mut Export) -> &mut PathBuf {
        &mut export.output
    }
}

pub(super) async fn retention(suite: &Suite, command: &Retention) -> Result<Output> {
    let logs = suite.logs()?;
    let mut tables = Vec::new();
    match &command.table {
        Some(table) => tables.push(table.parse::<RecordType>()?),
        None => {
            for table in logs.tables() {
                tables.push(table.name.parse()?);
            }
        }
    }
    let is_change =
        command.interactive.is_some() || command.total.is_some() || command.plan.is_some();
    if let (true, Some(table)) = (is_change, tables.first()) {
        let settings = changed(logs.table_settings(table)?, command);
        logs.set_table_settings(table, settings).await?;
    }
    let (mut text, mut rows) = (String::new(), Vec::new());
    for table in tables {
        let settings = logs.table_settings(&table)?;
        let (plan, days) = (settings.plan, settings.interactive_retention_days);
        let total = settings.total_retention_days;
        text.push_str(&format!("{table:<24} {plan:<10} {days:>5} days, {total:>5} in all\n"));
        rows.push(json!({
            "name": table, "plan": plan.as_str(),
            "retentionInDays": days, "totalRetentionInDays": total,
        }));
    }
    if rows.is_empty() {
        text.push_str("no table has rows yet\n");
    }
    Ok(Output::new(text, json!(rows)))
}

fn changed(mut settings: TableSettings, command: &Retention) -> TableSettings {
    if let Some(plan) = command.plan {
        settings.plan = match plan {
            Plan::Analytics => TablePlan::Analytics,
            Plan::Basic => TablePlan::Basic,
            Plan::Auxiliary => TablePlan::Auxiliary,
        };
        if plan != Plan::Analytics {
            settings.interactive_retention_days = INTERACTIVE_DAYS_FIXED;
        }
    }
    if let Some(days) = command.interactive {
        settings.interactive_retention_days = days;
        // Rows that queries find are there.
        settings.total_retention_days = settings.total_retention_days.max(days);
    }
    if let Some(days) = command.total {
        settings.total_retention_days = days;
    }
    settings
}

pub(super) async fn purge(suite: &Suite, command: &Purge) -> Result<Output> {
    let table = command.table.parse::<RecordType>()?;
    let plan = suite.logs()?.plan_purge(&table, &command.filter).await.map_err(explained)?;
    let (rows, files) = (plan.rows, plan.files);
    let planned = json!({"table": table, "rows": rows, "files": files, "bytes": plan.bytes});
    if !command.yes {
        let text = format!(
            "{} of {table} would be removed from {} ({}); --yes removes them\n",
            counted(rows, "row"),
            counted(files, "file"),
            bytes(plan.bytes)
        );
        return Ok(Output::new(text, json!({"planned": planned})));
    }
    let report = plan.apply().await?;
    let text = format!(
        "{} of {table} removed from {}, {} deleted\n",
        counted(report.rows, "row"),
        counted(report.files, "file"),
        bytes(report.deleted_bytes)
    );
    let purged = json!({
        "table": table, "rows": report.rows, "files": report.files,
        "deletedBytes": report.deleted_bytes, "deltaVersion": report.delta_version,
    });
    Ok(Output::new(text, json!({"planned": planned, "purged": purged})))
}

/// The error with what is wrong with the text.
fn explained(error: oms_logs::Error) -> anyhow::Error {
    match error {
        oms_logs::Error::Select { source, .. } => (*source).into(),
        other => other.into(),
    }
}

pub(super) async fn export(suite: &Suite, command: &Export) -> Result<Output> {
    let logs = suite.logs()?;
    let output = &command.output;
    let shown = output.display();
    if output.exists() {
        bail!("file {shown} is there already");
    }
    let mut query = QueryOptions::new(Arc::new(SystemClock));
    if command.from.is_some() || command.to.is_some() {
        let from = command.from.unwrap_or(Timestamp::MIN);
        query.timespan = Some((from, command.to.unwrap_or(Timestamp::MAX)));
    }
    let format = match command.format {
        FileFormat::Parquet => ExportFormat::Parquet,
        FileFormat::Csv => ExportFormat::Csv,
        FileFormat::Ndjson => ExportFormat::Ndjson,
    };
    let options = ExportOptions { format, is_total: command.all, query };
    // A file of the wanted name is a whole one.
    let mut part = output.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let file = File::create(&part).with_context(|| format!("file {}", part.display()))?;
    let exported = async {
        let into = BufWriter::with_capacity(1 << 20, file);
        let (report, into) =
            logs.export(&command.query, &options, into).await.map_err(explained)?;
        let file = into.into_inner().map_err(|error| error.into_error())?;
        file.sync_all()?;
        std::fs::rename(&part, output)?;
        // A file that is reported is there after a power failure.
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
        LocalDisk::new(folder.unwrap_or(Path::new(".")))?.sync_dir(Path::new(""))?;
        anyhow::Ok((report, file.metadata()?.len()))
    };
    match exported.await {
        Ok((report, length)) => {
            let text = format!("{}, {} in {shown}\n", counted(report.rows, "row"), bytes(length));
            let json = json!({
                "rows": report.rows, "bytes": length, "file": shown.to_string(),
                "columns": report.columns,
            });
            Ok(Output::new(text, json))
        }
        Err(error) => {
            // It is not whole, and the error says more than a failure to remove it.
            let _ = std::fs::remove_file(&part);
            Err(error)
        }
    }
}

pub(super) async fn maintain(suite: &Suite, command: &Maintain) -> Result<Output> {
    let logs = suite.logs()?;
    let now = oms_core::Clock::now(&SystemClock);
    if !command.dry_run {
        logs.flush().await?;
    }
    let mut plan = logs.plan_retention(now).await?;
    let (mut text, planned) = told(&plan);
    if command.dry_run {
        return Ok(Output::new(text, json!({"planned": planned})));
    }
    if command.trust_clock {
        plan = plan.trusting_the_clock();
    }
    let removed: u64 = plan.apply().await?.tables.iter().map(|table| table.rows).sum();
    let options = CompactOptions { is_forced: command.force, ..CompactOptions::default() };
    let compacted = logs.compact(&options).await?;
    for done in &compacted.done {
        text.push_str(&format!(
            "{} of {}: {} files became {}, {} became {}\n",
            done.table,
            done.day,
            done.files_before,
            done.files,
            bytes(done.bytes_before),
            bytes(done.bytes)
        ));
    }
    let vacuumed = logs.vacuum().await?;
    logs.account_usage().await?;
    text.push_str(&format!(
        "{} removed, {} compacted, {} freed\n",
        counted(removed, "row"),
        counted(compacted.files_before(), "file"),
        bytes(vacuumed.bytes())
    ));
    let json = json!({
        "planned": planned, "removedRows": removed,
        "compactedFiles": compacted.files_before(), "freedBytes": vacuumed.bytes(),
    });
    Ok(Output::new(text, json))
}

/// What to say of rows that are there and that queries do not find, if there are any.
pub(super) fn hidden(suite: &Suite, table: &RecordType) -> Result<Option<String>> {
    let logs = suite.logs()?;
    let rows = |snapshot: Option<TableSnapshot>| snapshot.map_or(0, |snapshot| snapshot.rows());
    let found = rows(logs.table_snapshot(table.as_str()));
    let hidden = rows(logs.table_snapshot_total(table.as_str())).saturating_sub(found);
    let days = logs.table_settings(table)?.interactive_retention_days;
    Ok((hidden > 0).then(|| {
        format!(
            "table {table} has {} older than {days} days, which queries do not find, and which are \
             removed once they are past its total retention; to keep them: \
             oms logs retention {table} --interactive DAYS --total DAYS\n",
            counted(hidden, "row")
        )
    }))
}

fn told(plan: &RetentionPlan) -> (String, serde_json::Value) {
    let (mut text, mut tables) = (String::new(), Vec::new());
    if let Some(last) = plan.clock_jumped_from {
        text.push_str(&format!("the clock jumped: retention ran last at {last}\n"));
    }
    for table in &plan.tables {
        let rows: u64 = table.days.iter().map(|day| day.rows).sum();
        let (name, days, first) = (&table.table, table.days.len(), table.first_day);
        text.push_str(&format!(
            "{name}: {} of {} before {first} go\n",
            counted(rows, "row"),
            counted(days, "day")
        ));
        tables.push(json!({
            "name": name, "rows": rows, "days": days, "firstDay": first.to_string(),
        }));
    }
    if plan.tables.is_empty() {
        text.push_str("no row is past its retention\n");
    }
    (text, json!(tables))
}
