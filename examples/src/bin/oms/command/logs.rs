//! `oms logs`: records in, answers out.

mod check;

mod custom;

mod keep;

mod rules;

use super::{Output, absolute};
use crate::progress::{Counted, Done, Line};
use crate::suite::Suite;
use crate::tour::account::{bytes, counted};
use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use oms_core::record::RecordType;
use oms_core::{Clock, SystemClock};
use oms_logs::RowBatch;
use oms_logs::arrow::array::RecordBatch;
use oms_logs::arrow::compute::concat_batches;
use oms_logs::ingest::rows::{ColumnReader, RowFormat, RowTarget, RowsRead};
use oms_logs::query::{QueryReport, TimeInterval};
use oms_logs::workspace::{LoadFailure, LoadFile, LoadOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use tokio::sync::{Mutex, MutexGuard, mpsc};

/// The producer of ingested rows. One for all files: the repository remembers each for ever.
const PRODUCER: &str = "oms-ingest";

/// One command ingests at a time, so that the producer's sequences have no gaps.
static INGESTING: Mutex<()> = Mutex::const_new(());

/// Rows of one batch.
const BATCH_ROWS: usize = 1_000;

/// A file of so many bytes is loaded past the repository's log: that takes less, and more memory.
const LOAD_BYTES_MIN: u64 = 8 << 20;

/// How many refused rows are told one by one.
const REFUSED_TOLD_MAX: usize = 20;

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Logs {
    /// Writes the rows of files into a table, or their records through a data collection rule or into a
    /// custom table whose columns are named by what they hold.
    Ingest {
        /// The table; custom ones end in _CL.
        #[arg(long, required_unless_present_any = ["rule", "log_type"])]
        table: Option<String>,
        /// The custom table without its _CL, in whose columns' names a suffix tells the type: _s, _b, _d,
        /// _t, _g. Files hold one JSON object a line, or an array of them.
        #[arg(long, conflicts_with_all = ["table", "rule", "format"])]
        log_type: Option<String>,
        /// The property that is TimeGenerated, if it is of the last two days.
        #[arg(long, requires = "log_type")]
        time_property: Option<String>,
        /// The data collection rule, by its name or immutable id. Files hold one JSON object a line,
        /// or an array of them.
        #[arg(long, requires = "stream", conflicts_with_all = ["table", "format"])]
        rule: Option<String>,
        /// The stream of the rule, such as Custom-Access.
        #[arg(long, requires = "rule")]
        stream: Option<String>,
        /// What the files hold: by default what a name's ending says (.csv, .parquet), or NDJSON.
        #[arg(long, value_enum)]
        format: Option<Format>,
        /// Files to read.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Asks in the Kusto query language.
    Query {
        /// How the answer is printed.
        #[arg(long, value_enum, default_value_t = Answer::Table)]
        format: Answer,
        /// The time it looks at, in ISO 8601: PT1H for the last hour, 2026-11-30/2026-12-01, or an
        /// instant and a duration in either order.
        #[arg(long, value_name = "ISO8601")]
        timespan: Option<String>,
        /// The query, such as 'Perf | summarize count() by CounterName'.
        kql: String,
    },
    /// Lists tables with their rows, bytes and place.
    Tables,
    /// Data collection rules: which streams of records are taken, and what is made of them.
    #[command(subcommand)]
    Rule(rules::Rule),
    /// Shows and sets how long tables keep their rows.
    Retention(keep::Retention),
    /// Removes chosen rows of a table for good.
    Purge(keep::Purge),
    /// Writes a table's rows, or a query's answer of any length, into a file.
    Export(keep::Export),
    /// Removes what is past its retention, puts small files together, and frees disk space; a
    /// process that serves does all of this by itself.
    Maintain(keep::Maintain),
    /// Looks for damage at rest, in the tables' logs and data files; ends with 1 if there is any.
    Check(check::Check),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Plain lines, into the column RawData of a custom table.
    Lines,
    /// Comma-separated values with a row of names first (RFC 4180).
    Csv,
    /// Apache Parquet.
    Parquet,
    /// Logs of Internet Information Services, in the W3C format.
    Iis,
}

impl Format {
    /// What a file of that name holds, if nothing else was said.
    fn of(path: &Path) -> Self {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "csv" => Self::Csv,
            "parquet" => Self::Parquet,
            _ => Self::Ndjson,
        }
    }

    const fn of_rows(self) -> RowFormat {
        match self {
            Self::Ndjson => RowFormat::Ndjson,
            Self::Lines => RowFormat::Lines,
            Self::Csv => RowFormat::Csv,
            Self::Parquet => RowFormat::Parquet,
            Self::Iis => RowFormat::IisW3c,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// An aligned table.
    Table,
    /// One JSON document: columns and rows.
    Json,
    /// Comma-separated values (RFC 4180).
    Csv,
    /// Not supported yet.
    Parquet,
}

impl Logs {
    pub(super) const fn puts_damage_aside(&self) -> bool {
        matches!(self, Self::Check(check::Check { quarantine: true, .. }))
    }

    pub(super) fn absolute(&mut self) -> Result<()> {
        match self {
            Self::Ingest { files, .. } => absolute(files),
            Self::Export(export) => absolute([Self::export_path(export)]),
            Self::Rule(rules::Rule::Put { file, .. }) => absolute([file]),
            Self::Rule(_) => Ok(()),
            Self::Query { .. } | Self::Tables | Self::Retention(_) => Ok(()),
            Self::Purge(_) | Self::Maintain(_) | Self::Check(_) => Ok(()),
        }
    }

    pub(super) async fn run(&self, suite: &Suite) -> Result<Output> {
        match self {
            Self::Ingest { rule: Some(rule), stream, files, .. } => {
                let stream = stream.as_deref().unwrap_or_default();
                rules::ingest(suite, rule, stream, files).await
            }
            Self::Ingest { log_type: Some(log_type), time_property, files, .. } => {
                custom::ingest(suite, log_type, time_property.as_deref(), files).await
            }
            Self::Ingest { table, format, files, .. } => {
                ingest(suite, table.as_deref().unwrap_or_default(), *format, files).await
            }
            Self::Rule(command) => rules::run(suite, command).await,
            Self::Query { format, timespan, kql } => {
                query(suite, *format, timespan.as_deref(), kql).await
            }
            Self::Tables => tables(suite),
            Self::Retention(command) => keep::retention(suite, command).await,
            Self::Purge(command) => keep::purge(suite, command).await,
            Self::Export(command) => keep::export(suite, command).await,
            Self::Maintain(command) => keep::maintain(suite, command).await,
            Self::Check(command) => check::check(suite, command).await,
        }
    }
}

fn tables(suite: &Suite) -> Result<Output> {
    let mut text = String::new();
    let mut rows = Vec::new();
    for table in suite.logs()?.tables() {
        let place = table.location;
        let size = bytes(table.bytes);
        text.push_str(&format!("{:<24} {:>10} rows {size:>10}  {place}\n", table.name, table.rows));
        rows.push(json!({
            "name": table.name, "rows": table.rows, "bytes": table.bytes, "location": place,
        }));
    }
    if rows.is_empty() {
        text.push_str("no table has rows yet\n");
    }
    Ok(Output::new(text, json!(rows)))
}

async fn query(suite: &Suite, format: Answer, timespan: Option<&str>, kql: &str) -> Result<Output> {
    if format == Answer::Parquet {
        bail!("answers in Parquet are not supported in this version");
    }
    let interval: Option<TimeInterval> = timespan.map(str::parse).transpose()?;
    let report = suite.ask_within(kql, interval.as_ref()).await?;
    let text = match format {
        Answer::Table | Answer::Parquet => report.to_text(),
        Answer::Json => format!("{:#}\n", as_json(&report)),
        Answer::Csv => as_csv(&report),
    };
    Ok(Output::new(text, as_json(&report)))
}

fn as_json(report: &QueryReport) -> serde_json::Value {
    let column = |column: &oms_logs::query::Column| json!({"name": column.name, "type": column.kql_type.to_string()});
    let columns: Vec<_> = report.columns.iter().map(column).collect();
    json!({"columns": columns, "rows": report.rows(), "is_partial": report.is_partial})
}

fn as_csv(report: &QueryReport) -> String {
    let quote = |text: &str| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let cell = |value: &serde_json::Value| match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => quote(text),
        other => quote(&other.to_string()),
    };
    let mut text = String::new();
    let names: Vec<String> = report.columns.iter().map(|column| quote(&column.name)).collect();
    text.push_str(&names.join(","));
    text.push_str("\r\n");
    for row in report.rows() {
        let cells: Vec<String> = row.iter().map(cell).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// What became of the rows of some files.
#[derive(Debug, Default)]
struct Ingested {
    accepted: u64,
    refused: u64,
    /// Those that the repository has counted itself.
    refused_by_loads: u64,
    reasons: Vec<String>,
    /// What ended it early.
    failure: Option<String>,
}

impl Ingested {
    fn refuse(&mut self, file: &Path, line: u64, reason: impl std::fmt::Display) {
        self.refused += 1;
        if self.reasons.len() < REFUSED_TOLD_MAX {
            self.reasons.push(format!("{}:{line}: {reason}", file.display()));
        }
    }
}

async fn ingest(
    suite: &Suite,
    table: &str,
    format: Option<Format>,
    files: &[PathBuf],
) -> Result<Output> {
    let record_type: RecordType = table.parse()?;
    // Before the first row is sent: a name that is wrong should not leave half of it behind.
    let mut opened = Vec::with_capacity(files.len());
    for path in files {
        opened.push(File::open(path).with_context(|| format!("file {}", path.display()))?);
    }
    let begin = SystemClock.monotonic();
    let (table, _turn) = (record_type, INGESTING.lock().await);
    let mut sender = Sender { suite, table, _turn, ingested: Ingested::default() };
    let total = files.iter().filter_map(|path| path.metadata().ok()).map(|it| it.len()).sum();
    let read = Counted::default();
    let shown = read.clone();
    let shown_line =
        Line::start("ingest", move || Done { bytes: shown.bytes(), total: Some(total) });
    for (path, file) in files.iter().zip(opened) {
        let is_large = file.metadata().is_ok_and(|it| it.len() >= LOAD_BYTES_MIN);
        let file = CountedFile { file, read: read.clone() };
        let format = format.unwrap_or_else(|| Format::of(path));
        let done = match is_large {
            true => sender.load_file(path, file, format).await,
            false => sender.send_file(path, file, format).await,
        };
        if let Err(error) = done {
            // What was accepted before it is told all the same.
            sender.ingested.failure = Some(format!("file {}: {error:#}", path.display()));
            break;
        }
    }
    drop(shown_line);
    let seconds = (SystemClock.monotonic() - begin).as_secs_f64();
    let Sender { table, ingested, .. } = sender;
    let refused_here = ingested.refused - ingested.refused_by_loads;
    if refused_here > 0 {
        let reason = ingested.reasons.first().map_or("", String::as_str);
        let reason = format!("rows of files, such as {reason}");
        suite.logs()?.note_refused(table.as_str(), &reason, refused_here)?;
    }
    let mut output = summary(&ingested, table.as_str(), seconds);
    if let Some(hidden) = keep::hidden(suite, &table)? {
        output.text.push_str(&hidden);
    }
    Ok(output)
}

fn summary(ingested: &Ingested, table: &str, seconds: f64) -> Output {
    let Ingested { accepted, refused, reasons, failure, .. } = ingested;
    let mut text =
        format!("{} accepted into {table} in {seconds:.2} s\n", counted(*accepted, "row"));
    if *refused > 0 {
        text.push_str(&format!("{} refused:\n", counted(*refused, "row")));
        for reason in reasons {
            text.push_str(&format!("  {reason}\n"));
        }
        let untold = refused - reasons.len() as u64;
        if untold > 0 {
            text.push_str(&format!("  and {untold} more\n"));
        }
    }
    if let Some(failure) = failure {
        text.push_str(&format!("stopped there. {failure}\n"));
    }
    let json = json!({
        "table": table, "accepted": accepted, "refused": refused, "reasons": reasons,
        "failure": failure, "seconds": seconds,
    });
    let output = Output::new(text, json);
    if *refused > 0 || failure.is_some() { output.failed() } else { output }
}

/// A file whose bytes are counted as they are read.
struct CountedFile {
    file: File,
    read: Counted,
}

impl Read for CountedFile {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(into)?;
        self.read.add(count as u64);
        Ok(count)
    }
}

/// Reads a file's rows, a batch at a time, until nobody wants more.
fn read_rows(
    input: CountedFile,
    format: RowFormat,
    target: RowTarget,
    batches: &mpsc::Sender<RowsRead>,
) -> Result<()> {
    let mut rows = match format {
        // It is read from its end.
        RowFormat::Parquet => ColumnReader::open(format, input.file, target)?,
        _ => ColumnReader::new(format, BufReader::with_capacity(1 << 20, input), target)?,
    };
    while let Some(batch) = rows.next_rows(BATCH_ROWS)? {
        if batches.blocking_send(batch).is_err() {
            break;
        }
    }
    Ok(())
}

/// Sends rows in batches, leaving out those that the repository refuses.
struct Sender<'a> {
    suite: &'a Suite,
    table: RecordType,
    _turn: MutexGuard<'static, ()>,
    ingested: Ingested,
}

impl Sender<'_> {
    /// Loads a file past the repository's log.
    async fn load_file(&mut self, path: &Path, file: CountedFile, format: Format) -> Result<()> {
        let format = format.of_rows();
        let input = match format {
            RowFormat::Parquet => LoadFile::file(path, file.file),
            _ => LoadFile::text(path, BufReader::with_capacity(1 << 20, file)),
        };
        let computer = self.suite.computer().to_owned();
        let options = LoadOptions { format, computer, ..LoadOptions::default() };
        let report = self.suite.logs()?.load(&self.table, vec![input], &options).await?;
        self.ingested.accepted += report.accepted;
        self.ingested.refused_by_loads += report.refused;
        let told = report.refused_rows.len() as u64;
        for row in report.refused_rows {
            self.ingested.refuse(path, row.number, row.reason);
        }
        self.ingested.refused += report.refused.saturating_sub(told);
        match report.failure {
            None => Ok(()),
            Some(LoadFailure::Read { source, .. }) => Err(source.into()),
            Some(failure) => Err(failure.into()),
        }
    }

    /// Sends a file's rows while a thread of its own reads those after them.
    async fn send_file(&mut self, path: &Path, file: CountedFile, format: Format) -> Result<()> {
        let (batches, read) = mpsc::channel(2);
        let format = format.of_rows();
        let target = RowTarget {
            schema: self.suite.logs()?.table_schema(&self.table),
            computer: self.suite.computer().to_owned(),
            now: SystemClock.now(),
        };
        let reading = oms_core::task::blocking(move || read_rows(file, format, target, &batches));
        let sending = async {
            let mut read = read;
            while let Some(RowsRead { rows, numbers, refused, .. }) = read.recv().await {
                for (number, reason) in refused {
                    self.ingested.refuse(path, number, reason);
                }
                self.send(path, rows, numbers).await?;
            }
            Ok::<(), anyhow::Error>(())
        };
        // If sending fails, its end of the channel goes, and the reader stops.
        let (read, sent) = tokio::join!(reading, sending);
        sent?;
        read
    }

    async fn send(
        &mut self,
        file: &Path,
        mut rows: RecordBatch,
        mut numbers: Vec<u64>,
    ) -> Result<()> {
        let logs = self.suite.logs()?;
        while !numbers.is_empty() {
            let batch = RowBatch {
                producer: PRODUCER.to_owned(),
                sequence: logs.last_sequence(PRODUCER)? + 1,
                table: self.table.clone(),
                rows: rows.clone(),
            };
            match logs.write_rows(batch).await {
                Ok(()) => {
                    self.ingested.accepted += numbers.len() as u64;
                    return Ok(());
                }
                // What the reader took is refused if another writer let the table grow otherwise
                // meanwhile. A refused batch was not written at all: the same sequence goes on
                // without the row.
                Err(oms_logs::Error::Record { index, column, reason, .. })
                    if index < numbers.len() =>
                {
                    let why = format!("{reason} (column {column})");
                    self.ingested.refuse(file, numbers.remove(index), why);
                    let after = rows.slice(index + 1, numbers.len() - index);
                    rows = concat_batches(&rows.schema(), [&rows.slice(0, index), &after])?;
                }
                Err(oms_logs::Error::Busy { .. }) => {
                    logs.flush().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
