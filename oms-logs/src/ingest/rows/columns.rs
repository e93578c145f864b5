//! Rows of files as columns.

use super::csv::Csv;
use super::gathered::Gathered;
use super::parquet::Parquet;
use super::regular::Regular;
use super::w3c::W3c;
use super::window::Window;
use super::{
    ROW_BYTES_MAX, Row, RowFormat, RowReader, RowTarget, SAMPLE_ROWS, Source as _, json, lines,
    sample, whole,
};
use crate::schema::TableSchema;
use arrow::array::{ArrayRef, RecordBatch};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader};

/// Bytes of rows after which a batch ends.
const BATCH_BYTES_MAX: usize = 32 << 20;

/// Some rows of a file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RowsRead {
    /// The rows, with those columns of the table that one of them has a value for, in the table's
    /// order and in the types of [`TableSchema::arrow`]. `TimeGenerated` and `Computer` are always
    /// there and have a value in each row; the columns that the workspace fills are never there.
    pub rows: RecordBatch,
    /// The number of each of these rows in the file, as [`Row::number`].
    pub numbers: Vec<u64>,
    /// The rows that the table does not take, each with its number and the reason.
    pub refused: Vec<(u64, String)>,
}

/// The rows of a file, as Arrow columns: what [`RowReader`] reads and a table takes, several times as
/// fast where the rows are alike.
///
/// A row is read and refused exactly as its record is read by [`RowReader`] and admitted by
/// [`Workspace::write`](crate::Workspace::write). A column that a custom table does not have is
/// added to [`ColumnReader::schema`] by the first row that has a value for it.
///
/// # Example
/// ```
/// use oms_logs::ingest::rows::{ColumnReader, RowFormat, RowTarget};
/// use oms_logs::schema::TableSchema;
///
/// let table = "Visits_CL".parse()?;
/// let target = RowTarget {
///     schema: TableSchema::initial(&table),
///     computer: "web-1".into(),
///     now: "2026-01-02T00:00:00Z".parse()?,
/// };
/// let file = "{\"Path\":\"/\",\"Seconds\":0.5}\n{\"Path\":7}\n{\"Path\":\"/a\",\"Seconds\":1.5}\n";
/// let mut reader = ColumnReader::new(RowFormat::Ndjson, file.as_bytes(), target)?;
/// let read = reader.next_rows(1_000)?.expect("rows");
/// assert_eq!((read.rows.num_rows(), read.rows.num_columns()), (2, 4));
/// assert_eq!((read.numbers, read.refused[0].0), (vec![1, 3], 2));
/// assert!(reader.next_rows(1_000)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ColumnReader {
    feed: Feed,
    gathered: Gathered,
    /// An error that came after rows that were not told yet.
    failure: Option<io::Error>,
    has_ended: bool,
}

/// Where rows come from.
#[derive(Debug)]
enum Feed {
    Json(Box<JsonFeed>),
    Csv(Box<CsvFeed>),
    W3c(Box<W3cFeed>),
    Parquet(Box<ParquetFeed>),
    Records(RowReader),
}

impl ColumnReader {
    /// The rows of a file.
    ///
    /// # Errors
    /// Those of [`RowReader::open`]; [`io::ErrorKind::InvalidData`] for a table that has no
    /// `TimeGenerated` or `Computer`.
    pub fn open(format: RowFormat, file: File, target: RowTarget) -> io::Result<Self> {
        match format {
            RowFormat::Parquet => {
                let gathered = Gathered::new(target.clone())?;
                let rows = Parquet::open(file, target)?;
                let feed = ParquetFeed { rows, whole: None, at: 0 };
                Ok(Self::over(Feed::Parquet(Box::new(feed)), gathered))
            }
            _ => Self::new(format, BufReader::with_capacity(1 << 20, file), target),
        }
    }

    /// The rows of a text.
    ///
    /// # Errors
    /// Those of [`RowReader::new`]; [`io::ErrorKind::InvalidData`] for a table that has no
    /// `TimeGenerated` or `Computer`.
    pub fn new<R>(format: RowFormat, input: R, target: RowTarget) -> io::Result<Self>
    where
        R: BufRead + Send + 'static,
    {
        let gathered = Gathered::new(target.clone())?;
        let feed = match format {
            RowFormat::Ndjson => {
                let takes_defaults = gathered.takes_defaults();
                let feed = JsonFeed::new(Box::new(input), target.schema, takes_defaults);
                Feed::Json(Box::new(feed))
            }
            RowFormat::Csv => {
                let is_regular = gathered.takes_defaults();
                let csv = Csv::new(Box::new(input) as Box<dyn BufRead + Send>, target)?;
                Feed::Csv(Box::new(CsvFeed { csv, is_regular }))
            }
            RowFormat::IisW3c => {
                let is_regular = gathered.takes_defaults();
                let log = W3c::new(Box::new(input) as Box<dyn BufRead + Send>, target);
                Feed::W3c(Box::new(W3cFeed { log, is_regular }))
            }
            _ => Feed::Records(RowReader::new(format, input, target)?),
        };
        Ok(Self::over(feed, gathered))
    }

    const fn over(feed: Feed, gathered: Gathered) -> Self {
        Self { feed, gathered, failure: None, has_ended: false }
    }

    /// The table's columns, with those that rows have added so far.
    #[must_use]
    pub const fn schema(&self) -> &TableSchema {
        &self.gathered.target().schema
    }

    /// The next rows, at most `max` of them, those that are refused included, and fewer if they are
    /// long; none at the end of the file. `max` of 0 is taken for 1.
    ///
    /// # Errors
    /// The file's. It cannot be read further then; what was read before has been told.
    pub fn next_rows(&mut self, max: usize) -> io::Result<Option<RowsRead>> {
        self.next_rows_within(max, &mut { BATCH_BYTES_MAX })
    }

    /// The next rows, until they have so many bytes, about; takes what they have from `bytes`.
    ///
    /// # Errors
    /// Those of [`ColumnReader::next_rows`].
    pub(crate) fn next_rows_within(
        &mut self,
        rows: usize,
        bytes: &mut usize,
    ) -> io::Result<Option<RowsRead>> {
        let max = Room { rows: rows.max(1), bytes: (*bytes).max(1) };
        if let Some(failure) = self.failure.take() {
            self.has_ended = true;
            return Err(failure);
        }
        if self.has_ended {
            return Ok(None);
        }
        let gathered = match &mut self.feed {
            Feed::Json(feed) => feed.gather(max, &mut self.gathered),
            Feed::Parquet(feed) => match feed.gather(max, &mut self.gathered) {
                Ok(Some(read)) => {
                    *bytes = bytes.saturating_sub(2 * read.rows.get_array_memory_size());
                    return Ok(Some(read));
                }
                gathered => gathered.map(drop),
            },
            Feed::Csv(feed) => feed.gather(max, &mut self.gathered),
            Feed::W3c(feed) => feed.gather(max, &mut self.gathered),
            Feed::Records(rows) => gather_records(rows, max, &mut self.gathered),
        };
        let is_empty = self.gathered.len() == 0;
        match gathered {
            Err(error) if is_empty => {
                self.has_ended = true;
                return Err(error);
            }
            Err(error) => self.failure = Some(error),
            Ok(()) => self.has_ended = is_empty,
        }
        *bytes = bytes.saturating_sub(self.gathered.bytes());
        if is_empty { Ok(None) } else { self.gathered.finish().map(Some) }
    }
}

/// How many rows, and bytes of them, a batch has at most. The last row may pass the bytes.
#[derive(Clone, Copy, Debug)]
struct Room {
    rows: usize,
    bytes: usize,
}

impl Room {
    fn is_left(self, gathered: &Gathered) -> bool {
        gathered.len() < self.rows && gathered.bytes() < self.bytes
    }
}

fn gather_records(rows: &mut RowReader, max: Room, into: &mut Gathered) -> io::Result<()> {
    while max.is_left(into) {
        let Some(Row { number, record }) = rows.next().transpose()? else { break };
        into.push_converted(number, record);
    }
    Ok(())
}

/// Comma-separated values.
struct CsvFeed {
    csv: Csv<Box<dyn BufRead + Send>>,
    /// Whether no row is refused for the defaults.
    is_regular: bool,
}

impl std::fmt::Debug for CsvFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CsvFeed").field("is_regular", &self.is_regular).finish_non_exhaustive()
    }
}

impl CsvFeed {
    fn gather(&mut self, max: Room, into: &mut Gathered) -> io::Result<()> {
        while max.is_left(into) {
            let Some((number, cells)) = self.csv.next_cells()? else { break };
            let begun = match &cells {
                Ok(cells) if self.is_regular => self.csv.begin_row(cells, into),
                _ => None,
            };
            if let Some(bytes) = begun {
                into.end_row(number, bytes);
                continue;
            }
            into.roll_back();
            into.push(number, cells.and_then(|cells| self.csv.record(&cells)));
        }
        Ok(())
    }
}

/// The log of a web server.
struct W3cFeed {
    log: W3c<Box<dyn BufRead + Send>>,
    /// Whether no row is refused for the defaults.
    is_regular: bool,
}

impl std::fmt::Debug for W3cFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("W3cFeed").field("is_regular", &self.is_regular).finish_non_exhaustive()
    }
}

impl W3cFeed {
    fn gather(&mut self, max: Room, into: &mut Gathered) -> io::Result<()> {
        while max.is_left(into) {
            let Some((number, line)) = self.log.next_entry()? else { break };
            let begun = match &line {
                Ok(line) if self.is_regular => self.log.begin_row(line, into),
                _ => None,
            };
            if let Some(bytes) = begun {
                into.end_row(number, bytes);
                continue;
            }
            into.roll_back();
            into.push(number, line.and_then(|line| self.log.record(&line)));
        }
        Ok(())
    }
}

/// A Parquet file.
struct ParquetFeed {
    rows: Parquet,
    /// The rows that were decoded last, if they are columns of the table as they are.
    whole: Option<BTreeMap<usize, ArrayRef>>,
    /// How many of them were taken.
    at: usize,
}

impl std::fmt::Debug for ParquetFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetFeed").field("at", &self.at).finish_non_exhaustive()
    }
}

impl ParquetFeed {
    /// Gathers rows one by one as long as it has to; answers rows that are columns already if none
    /// were gathered before them.
    fn gather(&mut self, max: Room, into: &mut Gathered) -> io::Result<Option<RowsRead>> {
        while max.is_left(into) {
            let is_new = self.rows.left() == 0;
            if !self.rows.fill_if_empty()? {
                break;
            }
            if is_new {
                (self.whole, self.at) = (whole::columns(&self.rows, into.target()), 0);
            }
            let Some(columns) = &self.whole else {
                if let Some(Row { number, record }) = self.rows.next_row()? {
                    into.push(number, record);
                }
                continue;
            };
            if into.len() > 0 {
                break;
            }
            let count = self.rows.left().min(max.rows);
            let taken = self.at..self.at + count;
            self.at += count;
            return into.whole(columns, taken, self.rows.take(count)).map(Some);
        }
        Ok(None)
    }
}

/// JSON lines.
#[derive(Debug)]
struct JsonFeed {
    window: Window,
    /// None if a row may be refused for the defaults.
    regular: Option<Regular>,
    /// The table as it was at the beginning.
    schema: TableSchema,
    /// How many rows were read.
    rows: usize,
    has_sampled: bool,
    /// Rows that were looked at for the types of new columns.
    sampled: VecDeque<Row>,
    /// What was met after them.
    failure: Option<io::Error>,
}

impl JsonFeed {
    fn new(input: Box<dyn BufRead + Send>, schema: TableSchema, takes_defaults: bool) -> Self {
        Self {
            window: Window::new(input),
            regular: takes_defaults.then(Regular::default),
            schema,
            rows: 0,
            has_sampled: false,
            sampled: VecDeque::new(),
            failure: None,
        }
    }

    fn gather(&mut self, max: Room, into: &mut Gathered) -> io::Result<()> {
        while max.is_left(into) {
            if let Some(row) = self.sampled.pop_front() {
                into.push(row.number, row.record);
                continue;
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if !self.window.fill()? {
                break;
            }
            let regular = self.regular.as_mut().zip(self.window.text());
            match regular.and_then(|(regular, text)| regular.row(text, into)) {
                Some(length) if length <= ROW_BYTES_MAX => {
                    self.window.take(length);
                    self.rows += 1;
                    into.end_row(self.window.number(), length);
                }
                _ => {
                    into.roll_back();
                    self.record(into);
                }
            }
        }
        Ok(())
    }

    /// Reads a row that is not regular.
    fn record(&mut self, into: &mut Gathered) {
        let Some(row) = self.next_record(into.target()) else { return };
        let is_new = |record: &oms_core::record::Record| {
            record.fields.keys().any(|name| self.schema.column(name).is_none())
        };
        let is_early = !self.has_sampled && self.rows <= SAMPLE_ROWS;
        if is_early && row.record.as_ref().is_ok_and(is_new) {
            self.sample(row, into);
        } else {
            into.push(row.number, row.record);
        }
    }

    /// The next line as a record; none if it is blank.
    fn next_record(&mut self, target: &RowTarget) -> Option<Row> {
        let number = self.window.number() + 1;
        let line = lines::checked(number, self.window.next_line()?)?;
        let record = line.and_then(|line| json::record(target, line));
        self.rows += 1;
        Some(Row { number, record })
    }

    /// Looks at what is left of the first rows, for the types of columns that the table does not
    /// have. No row before this one has such a column.
    fn sample(&mut self, first: Row, into: &mut Gathered) {
        self.has_sampled = true;
        self.sampled.push_back(first);
        while self.rows < SAMPLE_ROWS {
            match self.window.fill() {
                Ok(true) => {
                    let row = self.next_record(into.target());
                    self.sampled.extend(row);
                }
                Ok(false) => break,
                Err(error) => {
                    // It comes after the rows before it.
                    self.failure = Some(error);
                    break;
                }
            }
        }
        let records = self.sampled.iter().filter_map(|row| row.record.as_ref().ok());
        into.set_conversions(sample::Columns::new(&self.schema, records));
    }
}
