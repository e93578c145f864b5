//! `oms logs`: records in, answers out.

use super::{Output, absolute};
use crate::progress::{Counted, Done, Line};
use crate::suite::Suite;
use crate::tour::account::bytes;
use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use oms_core::record::{Batch, Record, RecordType, Value};
use oms_core::{Clock, SystemClock};
use oms_logs::query::QueryReport;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use tokio::sync::{Mutex, MutexGuard};

/// The producer of ingested rows. One for all files: the repository remembers each for ever.
const PRODUCER: &str = "oms-ingest";

/// One command ingests at a time, so that the producer's sequences have no gaps.
static INGESTING: Mutex<()> = Mutex::const_new(());

/// Records of one batch.
const BATCH_RECORDS: usize = 1_000;

/// The longest line of an ingested file, in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// How many refused rows are told one by one.
const REFUSED_TOLD_MAX: usize = 20;

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Logs {
    /// Writes the rows of files into a table.
    Ingest {
        /// The table; custom ones end in _CL.
        #[arg(long)]
        table: String,
        /// What the files hold.
        #[arg(long, value_enum, default_value_t = Format::Ndjson)]
        format: Format,
        /// Files to read.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Asks in the Kusto query language.
    Query {
        /// How the answer is printed.
        #[arg(long, value_enum, default_value_t = Answer::Table)]
        format: Answer,
        /// The query, such as 'Perf | summarize count() by CounterName'.
        kql: String,
    },
    /// Lists tables with their rows, bytes and place.
    Tables,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Plain lines, into the column RawData of a custom table.
    Lines,
    /// Not supported yet.
    Csv,
    /// Not supported yet.
    Parquet,
    /// Not supported yet.
    Iis,
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
    pub(super) fn absolute(&mut self) -> Result<()> {
        match self {
            Self::Ingest { files, .. } => absolute(files),
            Self::Query { .. } | Self::Tables => Ok(()),
        }
    }

    pub(super) async fn run(&self, suite: &Suite) -> Result<Output> {
        match self {
            Self::Ingest { table, format, files } => ingest(suite, table, *format, files).await,
            Self::Query { format, kql } => query(suite, *format, kql).await,
            Self::Tables => tables(suite),
        }
    }
}

fn tables(suite: &Suite) -> Result<Output> {
    let mut text = String::new();
    let mut rows = Vec::new();
    for table in suite.logs()?.tables() {
        let place = table.location.display().to_string();
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

async fn query(suite: &Suite, format: Answer, kql: &str) -> Result<Output> {
    if format == Answer::Parquet {
        bail!("answers in Parquet are not supported in this version");
    }
    let report = suite.ask(kql).await?;
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
    reasons: Vec<String>,
}

impl Ingested {
    fn refuse(&mut self, file: &Path, line: u64, reason: impl std::fmt::Display) {
        self.refused += 1;
        if self.reasons.len() < REFUSED_TOLD_MAX {
            self.reasons.push(format!("{}:{line}: {reason}", file.display()));
        }
    }
}

async fn ingest(suite: &Suite, table: &str, format: Format, files: &[PathBuf]) -> Result<Output> {
    let record_type: RecordType = table.parse()?;
    if let Format::Csv | Format::Parquet | Format::Iis = format {
        bail!("format is not supported in this version. format=`{format:?}`");
    }
    // Before the first row is sent: a name that is wrong should not leave half of it behind.
    let mut opened = Vec::with_capacity(files.len());
    for path in files {
        opened.push(File::open(path).with_context(|| format!("file {}", path.display()))?);
    }
    let begin = SystemClock.monotonic();
    let mut sender = Sender { suite, _turn: INGESTING.lock().await, ingested: Ingested::default() };
    let total = files.iter().filter_map(|path| path.metadata().ok()).map(|it| it.len()).sum();
    let read = Counted::default();
    let shown = read.clone();
    let shown_line =
        Line::start("ingest", move || Done { bytes: shown.bytes(), total: Some(total) });
    for (path, file) in files.iter().zip(opened) {
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut batch = Vec::with_capacity(BATCH_RECORDS);
        let mut number = 0;
        while let Some(line) =
            read_line(&mut reader).with_context(|| format!("file {}", path.display()))?
        {
            number += 1;
            read.add(line.len() as u64 + 1);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match record(&record_type, suite.computer(), format, &line) {
                Ok(record) => batch.push((number, record)),
                Err(reason) => sender.ingested.refuse(path, number, reason),
            }
            if batch.len() == BATCH_RECORDS {
                sender.send(path, std::mem::take(&mut batch)).await?;
            }
        }
        sender.send(path, batch).await?;
    }
    drop(shown_line);
    let seconds = (SystemClock.monotonic() - begin).as_secs_f64();
    Ok(summary(&sender.ingested, table, seconds))
}

fn summary(ingested: &Ingested, table: &str, seconds: f64) -> Output {
    let Ingested { accepted, refused, reasons } = ingested;
    let mut text = format!("{accepted} rows accepted into {table} in {seconds:.2} s\n");
    if *refused > 0 {
        text.push_str(&format!("{refused} rows refused:\n"));
        for reason in reasons {
            text.push_str(&format!("  {reason}\n"));
        }
        let untold = refused - reasons.len() as u64;
        if untold > 0 {
            text.push_str(&format!("  and {untold} more\n"));
        }
    }
    let json = json!({
        "table": table, "accepted": accepted, "refused": refused, "reasons": reasons,
        "seconds": seconds,
    });
    let output = Output::new(text, json);
    if *refused > 0 { output.failed() } else { output }
}

/// Reads a line without its break; a longer one than allowed is cut, which then does not parse.
fn read_line(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let count = end.unwrap_or(available.len());
        let room = (LINE_BYTES_MAX + 1).saturating_sub(line.len());
        line.extend_from_slice(&available[..count.min(room)]);
        reader.consume(count + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Sends rows in batches, leaving out those that the repository refuses.
struct Sender<'a> {
    suite: &'a Suite,
    _turn: MutexGuard<'static, ()>,
    ingested: Ingested,
}

impl Sender<'_> {
    async fn send(&mut self, file: &Path, mut rows: Vec<(u64, Record)>) -> Result<()> {
        let logs = self.suite.logs()?;
        while !rows.is_empty() {
            let batch = Batch {
                producer: PRODUCER.to_owned(),
                sequence: logs.last_sequence(PRODUCER)? + 1,
                records: rows.iter().map(|(_, record)| record.clone()).collect(),
            };
            match logs.write(batch).await {
                Ok(()) => {
                    self.ingested.accepted += rows.len() as u64;
                    return Ok(());
                }
                // A refused batch was not written at all: the same sequence goes on without the row.
                Err(oms_logs::Error::Record { index, column, reason, .. })
                    if index < rows.len() =>
                {
                    let (line, _) = rows.remove(index);
                    let why = format!("{reason} (column {column})");
                    self.ingested.refuse(file, line, why);
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

fn record(
    record_type: &RecordType,
    computer: &str,
    format: Format,
    line: &[u8],
) -> Result<Record, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("line is longer than {LINE_BYTES_MAX} bytes"));
    }
    let now = SystemClock.now();
    if format == Format::Lines {
        let text = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
        return Ok(Record::new(record_type.clone(), now, computer).with("RawData", text));
    }
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let mut record = Record::new(record_type.clone(), now, computer);
    for (name, value) in object {
        match (name.as_str(), value) {
            (_, serde_json::Value::Null) => {}
            ("TimeGenerated", serde_json::Value::String(text)) => {
                record.time = text
                    .parse::<Timestamp>()
                    .map_err(|error| format!("TimeGenerated is no time: {error}"))?;
            }
            ("TimeGenerated", other) => return Err(format!("TimeGenerated is no time: {other}")),
            ("Computer", serde_json::Value::String(text)) => record.computer = text,
            ("Type", serde_json::Value::String(text)) if text == record_type.as_str() => {}
            (_, value) => {
                record.fields.insert(name, field(value));
            }
        }
    }
    Ok(record)
}

/// A JSON value in the type that it has by itself; the repository converts to the column's.
fn field(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(long) => Value::Long(long),
            None => Value::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(text),
        other => Value::Dynamic(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_breaks_and_long_ones_are_cut_past_the_bound() {
        let long = vec![b'x'; LINE_BYTES_MAX * 2];
        let text = [b"a\r\n\nb".as_slice(), b"\n", &long, b"\nc"].concat();
        let mut reader = BufReader::new(&text[..]);
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut reader).expect("reads") {
            lines.push(line.len());
        }
        assert_eq!(lines, [2, 0, 1, LINE_BYTES_MAX + 1, 1]);
    }

    #[test]
    fn a_row_of_json_becomes_a_record_and_a_wrong_one_says_why() {
        let table: RecordType = "Perf".parse().expect("a name");
        let row = br#"{"TimeGenerated":"2026-01-02T03:04:05Z","Computer":"pc","A":1,"B":1.5,
            "C":"x","D":null,"E":[1]}"#;
        let made = record(&table, "here", Format::Ndjson, row).expect("a record");
        assert_eq!((made.computer.as_str(), made.fields.len()), ("pc", 4));
        assert_eq!(made.fields["A"], Value::Long(1));
        for wrong in [&b"{"[..], b"[1]", br#"{"TimeGenerated":"soup"}"#, br#"{"TimeGenerated":7}"#]
        {
            assert!(record(&table, "here", Format::Ndjson, wrong).is_err());
        }
    }
}
