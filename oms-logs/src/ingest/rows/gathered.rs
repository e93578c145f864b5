//! Rows while they become columns.

use super::{RowTarget, RowsRead, invalid, sample};
use crate::Error;
use crate::ingest::admit::{Rows, check_record, fit};
use crate::ingest::batch::microseconds;
use crate::ingest::column::ColumnBuffer;
use crate::schema::{COMPUTER, ColumnType, TIME_GENERATED};
use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use oms_core::record::Record;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What a value costs beside its text, in bytes, also where a row has none.
const VALUE_BYTES: usize = 8;

/// The rows of a batch, as columns, and those that were refused.
#[derive(Debug)]
pub(super) struct Gathered {
    /// With the columns that rows have added so far.
    target: RowTarget,
    conversions: sample::Columns,
    /// By place in the schema; none for a column that no row had a value for.
    buffers: Vec<Option<ColumnBuffer>>,
    /// The places that have a buffer.
    used: Vec<usize>,
    /// How many bytes of text each place had in the batch before.
    room: Vec<usize>,
    rows_before: usize,
    time: usize,
    computer: usize,
    numbers: Vec<u64>,
    refused: Vec<(u64, String)>,
    bytes: usize,
}

impl Gathered {
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the table has not the columns that each row has.
    pub(super) fn new(target: RowTarget) -> io::Result<Self> {
        let columns = target.schema.columns();
        let place = |name: &str, column_type| {
            let found = columns.iter().position(|column| column.name == name);
            let found =
                found.filter(|at| columns.get(*at).map(|c| c.column_type) == Some(column_type));
            let table = target.schema.name();
            found.ok_or_else(|| {
                invalid(format!("table {table} has no column {name} of {column_type}"))
            })
        };
        let time = place(TIME_GENERATED, ColumnType::DateTime)?;
        let computer = place(COMPUTER, ColumnType::String)?;
        let conversions = sample::Columns::new(&target.schema, std::iter::empty());
        let mut gathered = Self {
            conversions,
            buffers: Vec::new(),
            used: Vec::new(),
            room: Vec::new(),
            rows_before: 0,
            time,
            computer,
            numbers: Vec::new(),
            refused: Vec::new(),
            bytes: 0,
            target,
        };
        gathered.use_each_row_has();
        Ok(gathered)
    }

    fn use_each_row_has(&mut self) {
        self.buffer(self.time);
        self.buffer(self.computer);
    }

    pub(super) const fn target(&self) -> &RowTarget {
        &self.target
    }

    /// Whether the table takes a row that has nothing but the defaults.
    pub(super) fn takes_defaults(&self) -> bool {
        let RowTarget { schema, computer, now } = &self.target;
        check_record(0, &Record::new(schema.name().clone(), *now, computer.as_str())).is_ok()
    }

    /// What values become from here on, as the first rows have it.
    pub(super) fn set_conversions(&mut self, conversions: sample::Columns) {
        self.conversions = conversions;
    }

    /// Rows and refusals.
    pub(super) fn len(&self) -> usize {
        self.numbers.len() + self.refused.len()
    }

    /// Rows, without the one that is begun.
    pub(super) fn rows(&self) -> usize {
        self.numbers.len()
    }

    /// About how many bytes the batch has, and had in the file.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether rows without `TimeGenerated` or `Computer` take the default at this place.
    pub(super) const fn has_default(&self, place: usize) -> bool {
        place == self.time || place == self.computer
    }

    /// The column at a place of the schema; the rows before have no value in a new one.
    pub(super) fn buffer(&mut self, place: usize) -> Option<&mut ColumnBuffer> {
        if self.buffers.len() <= place {
            self.buffers.resize_with(self.target.schema.columns().len(), || None);
        }
        let slot = self.buffers.get_mut(place)?;
        if slot.is_none() {
            let column_type = self.target.schema.columns().get(place)?.column_type;
            let room = self.room.get(place).copied().unwrap_or(0);
            let mut buffer = ColumnBuffer::with_capacity(column_type, self.rows_before, room);
            buffer.push_nulls(self.numbers.len());
            *slot = Some(buffer);
            self.used.push(place);
        }
        slot.as_mut()
    }

    /// Ends the row that is begun: columns without a value get null, or the row's default.
    pub(super) fn end_row(&mut self, number: u64, bytes: usize) {
        let rows = self.numbers.len();
        for place in &self.used {
            let Some(Some(buffer)) = self.buffers.get_mut(*place) else { continue };
            if buffer.len() > rows {
                continue;
            }
            if *place == self.time {
                buffer.push_long(microseconds(self.target.now));
            } else if *place == self.computer {
                buffer.push_text(&self.target.computer);
            } else {
                buffer.push_null();
            }
        }
        self.numbers.push(number);
        self.bytes += bytes + self.used.len() * VALUE_BYTES;
    }

    /// Forgets the row that is begun.
    pub(super) fn roll_back(&mut self) {
        let rows = self.numbers.len();
        for place in &self.used {
            if let Some(Some(buffer)) = self.buffers.get_mut(*place) {
                buffer.truncate(rows);
            }
        }
    }

    /// Takes a record as the file has it.
    pub(super) fn push(&mut self, number: u64, record: Result<Record, String>) {
        let record = record.and_then(|record| self.conversions.convert(record));
        self.push_converted(number, record);
    }

    /// Takes a record whose values are what the columns hold.
    pub(super) fn push_converted(&mut self, number: u64, record: Result<Record, String>) {
        match record.and_then(|record| self.admit(record)) {
            Ok(bytes) => self.end_row(number, bytes),
            Err(reason) => {
                self.bytes += reason.len();
                self.refused.push((number, reason));
            }
        }
    }

    /// Begins a row with a record that the table takes, growing its schema if that is allowed;
    /// answers its size in bytes.
    fn admit(&mut self, record: Record) -> Result<usize, String> {
        let bytes = check_record(0, &record).map_err(|error| reason(&error))?;
        let mut rows = Rows { records: vec![(0, record)] };
        let grown = fit(&self.target.schema, &mut rows).map_err(|error| reason(&error))?;
        if let Some(grown) = grown {
            self.target.schema = grown;
        }
        let Some((_, record)) = rows.records.pop() else { return Ok(bytes) };
        if let Some(buffer) = self.buffer(self.time) {
            buffer.push_long(microseconds(record.time));
        }
        if let Some(buffer) = self.buffer(self.computer) {
            buffer.push_text(&record.computer);
        }
        for (name, value) in &record.fields {
            if let Some(place) = self.target.schema.place(name)
                && let Some(buffer) = self.buffer(place)
            {
                buffer.push(value);
            }
        }
        Ok(bytes)
    }

    /// Rows that are columns already, by place in the schema, beside those gathered so far; the first
    /// has the number `first`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if they are not of one length.
    pub(super) fn whole(
        &self,
        columns: &BTreeMap<usize, ArrayRef>,
        rows: Range<usize>,
        first: u64,
    ) -> io::Result<RowsRead> {
        let fields = self.target.schema.arrow().fields();
        let columns = columns.iter().filter_map(|(place, array)| {
            let array = array.slice(rows.start, rows.len());
            let is_needed = self.has_default(*place) || array.null_count() < array.len();
            fields.get(*place).filter(|_| is_needed).map(|field| (Arc::clone(field), array))
        });
        let (fields, arrays): (Vec<_>, Vec<_>) = columns.unzip();
        let read = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays);
        let read = read.map_err(|error| invalid(error.to_string()))?;
        let numbers = (first..).take(rows.len()).collect();
        Ok(RowsRead { rows: read, numbers, refused: Vec::new() })
    }

    /// The rows so far; a new batch begins.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if Arrow cannot hold them.
    pub(super) fn finish(&mut self) -> io::Result<RowsRead> {
        let broken = |error: arrow::error::ArrowError| invalid(error.to_string());
        let (mut fields, mut arrays) = (Vec::new(), Vec::new());
        let schema = self.target.schema.arrow();
        self.room.resize(schema.fields().len(), 0);
        for (place, slot) in self.buffers.iter_mut().enumerate() {
            let Some(buffer) = slot.take() else { continue };
            if let Some(room) = self.room.get_mut(place) {
                *room = buffer.text_bytes();
            }
            let array = buffer.finish().map_err(broken)?;
            let is_needed = place == self.time || place == self.computer;
            if let Some(field) = schema.fields().get(place)
                && (is_needed || array.null_count() < array.len())
            {
                fields.push(Arc::clone(field));
                arrays.push(array);
            }
        }
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(broken)?;
        let numbers = std::mem::take(&mut self.numbers);
        let refused = std::mem::take(&mut self.refused);
        (self.rows_before, self.bytes) = (numbers.len(), 0);
        self.used.clear();
        self.use_each_row_has();
        Ok(RowsRead { rows, numbers, refused })
    }
}

/// Why a table does not take a record.
fn reason(error: &Error) -> String {
    match error {
        Error::Record { column, reason, .. } => format!("{reason} (column {column})"),
        other => other.to_string(),
    }
}
