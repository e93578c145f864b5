//! Rows of files as records: JSON lines, CSV, IIS logs, Parquet, plain lines.
//!
//! ```text
//!  file ─┬► RowReader ─► Row { number, record or why not } ─► Batch ─► Workspace::write
//!        │     │ text becomes what the table's columns hold;
//!        │     │ columns it lacks take a type from the first rows
//!        └► ColumnReader ─► RowsRead { Arrow columns, refused rows }   the same, and faster
//! ```
//!
//! A row that cannot be read is told with its number, and the rows after it are read all the same.
//! Only a file that cannot be read further ends the rows with an error. A whole number beyond 64 bits,
//! in JSON, is a `real`.
//!
//! # Example
//! ```
//! use oms_logs::ingest::rows::{RowFormat, RowReader, RowTarget};
//! use oms_logs::schema::TableSchema;
//!
//! let table = "Visits_CL".parse()?;
//! let target = RowTarget {
//!     schema: TableSchema::initial(&table),
//!     computer: "web-1".into(),
//!     now: "2026-01-02T00:00:00Z".parse()?,
//! };
//! let file = "TimeGenerated,Path,Seconds\n2026-01-01 10:00:00,/,1\n2026-01-01 10:00:01,/a,0.5\n";
//! let rows = RowReader::new(RowFormat::Csv, file.as_bytes(), target)?;
//! let records: Vec<_> = rows.map(|row| row.unwrap().record.unwrap()).collect();
//! assert_eq!(records[0].time.to_string(), "2026-01-01T10:00:00Z");
//! assert_eq!(records[0].fields["Seconds"], 1.0.into()); // As the row after it has a fraction.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::schema::{TIME_GENERATED, TYPE, TableSchema};
use jiff::Timestamp;
use oms_core::record::{Record, Value};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

mod columns;
#[cfg(any(test, feature = "testkit"))]
pub(crate) mod compare;
mod csv;
mod gathered;
mod json;
mod lines;
mod nested;
mod parquet;
mod regular;
mod sample;
mod text;
mod w3c;
mod whole;
mod window;

pub use columns::{ColumnReader, RowsRead};

/// The most bytes of one row in a file, except in Parquet.
pub const ROW_BYTES_MAX: usize = 1 << 20;

/// From how many rows a column that the table does not have takes its type.
pub const SAMPLE_ROWS: usize = 1_000;

/// How the rows of a file are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RowFormat {
    /// One JSON object a line (NDJSON).
    Ndjson,
    /// Comma-separated values with a row of names first (RFC 4180).
    Csv,
    /// The log of Internet Information Services: W3C Extended Log File Format
    /// (W3C Working Draft WD-logfile-960323) with the fields that IIS writes.
    IisW3c,
    /// Plain lines, into the column `RawData`.
    Lines,
    /// Apache Parquet.
    Parquet,
}

/// What rows become records of.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a caller fills it in")]
pub struct RowTarget {
    /// The table.
    pub schema: TableSchema,
    /// `Computer` of a row that names none.
    pub computer: String,
    /// `TimeGenerated` of a row that names none.
    pub now: Timestamp,
}

/// One row of a file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// The line that it begins at, from 1; in Parquet its place among the rows, from 1.
    pub number: u64,
    /// The record, or why it is none.
    pub record: Result<Record, String>,
}

/// What is read row by row. Columns have the types that the file gives them.
trait Source: Send {
    fn next_row(&mut self) -> io::Result<Option<Row>>;
}

/// The rows of a file. It ends with an error if the file cannot be read further.
pub struct RowReader {
    source: Box<dyn Source>,
    sampled: VecDeque<Row>,
    columns: sample::Columns,
    has_ended: bool,
}

impl std::fmt::Debug for RowReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowReader").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl RowReader {
    /// The rows of a file.
    ///
    /// # Errors
    /// The file's; [`io::ErrorKind::InvalidData`] if it begins otherwise than its format does.
    pub fn open(format: RowFormat, file: File, target: RowTarget) -> io::Result<Self> {
        match format {
            RowFormat::Parquet => {
                let source = parquet::Parquet::open(file, target.clone())?;
                Self::over(Box::new(source), &target.schema)
            }
            _ => Self::new(format, BufReader::with_capacity(1 << 20, file), target),
        }
    }

    /// The rows of a text.
    ///
    /// # Errors
    /// Those of reading; [`io::ErrorKind::InvalidData`] if it begins otherwise than its format
    /// does; [`io::ErrorKind::Unsupported`] for [`RowFormat::Parquet`], which is no text.
    pub fn new<R>(format: RowFormat, input: R, target: RowTarget) -> io::Result<Self>
    where
        R: BufRead + Send + 'static,
    {
        let schema = target.schema.clone();
        let source: Box<dyn Source> = match format {
            RowFormat::Ndjson => Box::new(json::Json::new(input, target)),
            RowFormat::Csv => Box::new(csv::Csv::new(input, target)?),
            RowFormat::IisW3c => Box::new(w3c::W3c::new(input, target)),
            RowFormat::Lines => Box::new(lines::Plain::new(input, target)),
            RowFormat::Parquet => {
                let reason = "Parquet is read from a file, not from a stream";
                return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
            }
        };
        Self::over(source, &schema)
    }

    fn over(mut source: Box<dyn Source>, schema: &TableSchema) -> io::Result<Self> {
        let mut sampled = VecDeque::new();
        while sampled.len() < SAMPLE_ROWS {
            // An error in the middle comes after the rows before it.
            match source.next_row() {
                Ok(Some(row)) => sampled.push_back(row),
                Ok(None) => break,
                Err(error) if sampled.is_empty() => return Err(error),
                Err(error) => {
                    source = Box::new(Broken(Some(error)));
                    break;
                }
            }
        }
        let records = sampled.iter().filter_map(|row| row.record.as_ref().ok());
        let columns = sample::Columns::new(schema, records);
        Ok(Self { source, sampled, columns, has_ended: false })
    }
}

impl Iterator for RowReader {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let row = match self.sampled.pop_front() {
            Some(row) => Ok(Some(row)),
            None => self.source.next_row(),
        };
        match row {
            Ok(Some(Row { number, record })) => {
                let record = record.and_then(|record| self.columns.convert(record));
                Some(Ok(Row { number, record }))
            }
            Ok(None) => {
                self.has_ended = true;
                None
            }
            Err(error) => {
                self.has_ended = true;
                Some(Err(error))
            }
        }
    }
}

/// Tells an error that came while the first rows were looked at.
struct Broken(Option<io::Error>);

impl Source for Broken {
    fn next_row(&mut self) -> io::Result<Option<Row>> {
        self.0.take().map_or(Ok(None), Err)
    }
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// Puts one column's value where a record has it.
fn place(record: &mut Record, name: &str, value: Value) -> Result<(), String> {
    match (name, value) {
        (TIME_GENERATED, Value::DateTime(time)) => record.time = time,
        (TIME_GENERATED, Value::String(text)) => {
            record.time = text::datetime(&text)
                .ok_or_else(|| format!("{TIME_GENERATED} is no time: {}", text::short(&text)))?;
        }
        (TIME_GENERATED, _) => return Err(format!("{TIME_GENERATED} is no time")),
        (crate::schema::COMPUTER, Value::String(text)) => record.computer = text,
        (TYPE, Value::String(text)) if text == record.record_type.as_str() => {}
        (_, value) => drop(record.fields.insert(name.to_owned(), value)),
    }
    Ok(())
}

#[cfg(test)]
mod same;
#[cfg(test)]
mod tests;
