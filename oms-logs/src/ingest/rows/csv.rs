//! Comma-separated values (RFC 4180), with a row of names first.
//!
//! Quoted cells may hold commas, quotes and line breaks; rows end with `\n`, `\r\n` or `\r`. An empty cell
//! is no value. A name's characters that no column can have become underscores.

use super::gathered::Gathered;
use super::{ROW_BYTES_MAX, Row, RowTarget, SAMPLE_ROWS, Source, invalid, place, sample, text};
use crate::ingest::admit::OWN_COLUMNS;
use crate::ingest::batch::microseconds;
use crate::schema::{COMPUTER, ColumnType, TIME_GENERATED, TYPE, TableSchema};
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use oms_core::record::Record;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far the input may be read beyond a row's beginning: a row and what is read ahead.
const AHEAD_BYTES_MAX: u64 = 4 * ROW_BYTES_MAX as u64;

/// A file of comma-separated values.
pub(super) struct Csv<R> {
    reader: Reader<Bounded<R>>,
    names: Vec<String>,
    /// What the table's columns hold; of those that it does not have, what the first rows show.
    types: Vec<ColumnType>,
    ahead: Arc<AtomicU64>,
    /// The number of the row that was read last.
    last: u64,
    /// Rows that were read for the guesses.
    sampled: VecDeque<Cells>,
    /// What was met after them.
    broken: Option<io::Error>,
    target: RowTarget,
}

/// A row as it stands in the file, or why it is none.
pub(super) type Cells = (u64, Result<StringRecord, String>);

/// An input that ends with an error if a row has no end: a quote that is never closed would have the
/// whole file in memory.
struct Bounded<R> {
    input: R,
    ahead: Arc<AtomicU64>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ahead.load(Ordering::Relaxed) > AHEAD_BYTES_MAX {
            return Err(invalid(format!("a row is longer than {ROW_BYTES_MAX} bytes")));
        }
        let count = self.input.read(into)?;
        self.ahead.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: Read + Send> Csv<R> {
    pub(super) fn new(input: R, target: RowTarget) -> io::Result<Self> {
        let ahead = Arc::new(AtomicU64::new(0));
        let bounded = Bounded { input, ahead: Arc::clone(&ahead) };
        // A row of another length is told by us, and the rows after it are read.
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(bounded);
        let headers = reader.headers().map_err(|error| failure(error, 1))?;
        let names = names(headers, &target.schema)?;
        let (types, sampled, broken) = (Vec::new(), VecDeque::new(), None);
        let mut csv = Self { reader, names, types, ahead, last: 1, sampled, broken, target };
        csv.find_types();
        Ok(csv)
    }

    fn find_types(&mut self) {
        while self.sampled.len() < SAMPLE_ROWS {
            match self.read() {
                Ok(Some(cells)) => self.sampled.push_back(cells),
                Ok(None) => break,
                Err(error) => {
                    // It comes after the rows before it.
                    self.broken = Some(error);
                    break;
                }
            }
        }
        let rows = self.sampled.iter().filter_map(|(_, cells)| cells.as_ref().ok());
        let type_of = |(at, name): (usize, &String)| match self.target.schema.column(name) {
            // Of a record they are no columns.
            _ if [TIME_GENERATED, COMPUTER, TYPE].contains(&name.as_str()) => ColumnType::String,
            Some(column) => column.column_type,
            None => sample::guess(rows.clone().filter_map(|row| row.get(at))),
        };
        self.types = self.names.iter().enumerate().map(type_of).collect();
    }

    fn read(&mut self) -> io::Result<Option<Cells>> {
        let Some((line, cells)) = self.read_cells()? else { return Ok(None) };
        // A carriage return by itself ends a row and no line: each row has a number of its own.
        self.last = line.max(self.last + 1);
        Ok(Some((self.last, cells)))
    }

    fn read_cells(&mut self) -> io::Result<Option<Cells>> {
        let mut cells = StringRecord::new();
        let begin = self.reader.position().line();
        self.ahead.store(0, Ordering::Relaxed);
        match self.reader.read_record(&mut cells) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let number = cells.position().map_or(begin, csv::Position::line);
                let count = self.names.len();
                let bytes = cells.as_slice().len();
                let cells = match (cells.len() == count, bytes > ROW_BYTES_MAX) {
                    (true, false) => Ok(cells),
                    (true, true) => Err(format!("row is longer than {ROW_BYTES_MAX} bytes")),
                    (false, _) => Err(format!("{} cells in place of {count}", cells.len())),
                };
                Ok(Some((number, cells)))
            }
            Err(error) => match error.kind() {
                ErrorKind::Utf8 { pos, err } => {
                    let number = pos.as_ref().map_or(begin, csv::Position::line);
                    let reason = format!("cell {} is not UTF-8", err.field() + 1);
                    Ok(Some((number, Err(reason))))
                }
                _ => Err(failure(error, begin)),
            },
        }
    }

    /// The next row's cells.
    pub(super) fn next_cells(&mut self) -> io::Result<Option<Cells>> {
        if let Some(cells) = self.sampled.pop_front() {
            return Ok(Some(cells));
        }
        match self.broken.take() {
            Some(error) => Err(error),
            None => self.read(),
        }
    }

    /// Begins a row with cells that are what columns of the table hold; answers its size in bytes.
    /// None if the record of it has to be looked at.
    pub(super) fn begin_row(&self, cells: &StringRecord, into: &mut Gathered) -> Option<usize> {
        for ((name, column), cell) in self.names.iter().zip(&self.types).zip(cells) {
            if cell.is_empty() {
                continue;
            }
            if name == TYPE && cell == self.target.schema.name().as_str() {
                continue;
            }
            let place = into.target().schema.place(name)?;
            if into.has_default(place) {
                let time = if name == TIME_GENERATED { Some(text::datetime(cell)?) } else { None };
                let buffer = into.buffer(place)?;
                match time {
                    Some(time) => buffer.push_long(microseconds(time)),
                    None => buffer.push_text(cell),
                }
                continue;
            }
            let is_own = OWN_COLUMNS.contains(&name.as_str());
            let buffer = into.buffer(place).filter(|buffer| buffer.column_type() == *column)?;
            match column {
                // Their text is looked at.
                ColumnType::Dynamic | ColumnType::Decimal => return None,
                _ if is_own => return None,
                ColumnType::String => buffer.push_text(cell),
                _ => buffer.push(&text::value(*column, cell)?),
            }
        }
        Some(cells.as_slice().len())
    }

    pub(super) fn record(&self, cells: &StringRecord) -> Result<Record, String> {
        let RowTarget { schema, computer, now } = &self.target;
        let mut record = Record::new(schema.name().clone(), *now, computer.as_str());
        for ((name, column), cell) in self.names.iter().zip(&self.types).zip(cells) {
            if !cell.is_empty() {
                let value = text::value(*column, cell);
                place(&mut record, name, value.ok_or_else(|| text::misfit(name, *column, cell))?)?;
            }
        }
        Ok(record)
    }
}

impl<R: Read + Send> Source for Csv<R> {
    fn next_row(&mut self) -> io::Result<Option<Row>> {
        let Some((number, cells)) = self.next_cells()? else { return Ok(None) };
        let record = cells.and_then(|cells| self.record(&cells));
        Ok(Some(Row { number, record }))
    }
}

/// The columns' names.
fn names(headers: &StringRecord, schema: &TableSchema) -> io::Result<Vec<String>> {
    let mut taken = BTreeSet::new();
    let mut names = Vec::with_capacity(headers.len());
    for (header, number) in headers.iter().zip(1..) {
        let name: String = header
            .trim()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
            .collect();
        if name.is_empty() {
            return Err(invalid(format!("column {number} of the first row has no name")));
        }
        // Else each row would be refused for it.
        if schema.column(&name).is_none() && !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(invalid(format!("column {name} does not begin with a letter")));
        }
        if !taken.insert(name.clone()) {
            return Err(invalid(format!("two columns of the first row are named {name}")));
        }
        names.push(name);
    }
    match names.is_empty() {
        true => Err(invalid("there is no first row with the columns' names")),
        false => Ok(names),
    }
}

fn failure(error: csv::Error, line: u64) -> io::Error {
    match error.into_kind() {
        ErrorKind::Io(error) => io::Error::new(error.kind(), format!("line {line}: {error}")),
        ErrorKind::Utf8 { err, .. } => {
            invalid(format!("line {line}: cell {} is not UTF-8", err.field() + 1))
        }
        other => invalid(format!("line {line}: {other:?}")),
    }
}
