//! What may enter a table, for rows that come as Arrow columns.
//!
//! The rules are those of [`admit`](super::admit), and a null is a column that its row does not
//! have. What differs is the cost: a column is checked as a whole, and its buffers go into the
//! table as they are where the table keeps them so.
//!
//! ```text
//!  Arrow type                                      type        goes also into
//!  Boolean                                         bool        dynamic
//!  Int8…Int32, UInt8, UInt16                       int         long, real, decimal, dynamic
//!  UInt32, Int64, UInt64                           long        int, real if all values fit; decimal, dynamic
//!  Float16…Float64                                 real        dynamic
//!  Utf8, LargeUtf8, Utf8View, a dictionary of one  string      guid, decimal if all are one; dynamic as JSON
//!  Timestamp of any unit and zone, Date32, Date64  datetime    dynamic
//!  Duration, Time32, Time64                        timespan    dynamic
//!  FixedSizeBinary(16)                             guid        string, dynamic
//!  Decimal32…Decimal256                            decimal     string, dynamic
//!  List, Struct, Map                               dynamic
//! ```
//!
//! A field's metadata may name its type under [`KQL_TYPE_KEY`](crate::schema::KQL_TYPE_KEY), as
//! those of a table's own schema do: text of type `guid`, `dynamic` or `decimal`, whole numbers of
//! type `timespan`. Text that is said to be a `string` becomes a JSON string in a `dynamic` column;
//! text of which nothing is said has to be JSON there.

mod fit;
mod source;
mod text;

#[cfg(test)]
mod tests;

use crate::Error;
use crate::ingest::admit::{
    BATCH_BYTES_MAX, OWN_COLUMNS, Rows, check_batch, misfit, new_column, refused, refused_batch,
    same_but_for_case,
};
use crate::ingest::batch::{Stamp, build, compact, microseconds};
use crate::schema::{
    COMPUTER, Column, ColumnType, TENANT_ID, TIME_GENERATED, TIME_RECEIVED, TYPE, TableSchema,
};
use arrow::array::{
    Array, ArrayRef, AsArray as _, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{Field, Schema, TimestampMicrosecondType};
use jiff::Timestamp;
use oms_core::record::{Record, RecordType};
use source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows of one table of one producer, as Arrow columns.
///
/// Columns are found by their names. `TimeGenerated` has to be there and has no nulls; `Computer`
/// may be missing or null, which is an empty text; every other column may have nulls, and a column
/// of nulls alone is as good as none.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a caller fills it in")]
pub struct RowBatch {
    /// Who sends, the same after a restart: 1 to 200 characters.
    pub producer: String,
    /// The producer's count of batches, from 1 and without gaps, shared with the batches that it
    /// sends as records. A batch that was written already is accepted and not written again.
    pub sequence: u64,
    /// The table.
    pub table: RecordType,
    /// The rows: at most [`BATCH_RECORDS_MAX`](super::admit::BATCH_RECORDS_MAX) of at most
    /// [`BATCH_BYTES_MAX`] in all. None are accepted too.
    pub rows: RecordBatch,
}

/// Why a column is refused: the first row at fault, and what is wrong with it.
#[derive(Debug)]
struct Refusal {
    row: usize,
    reason: String,
}

type Checked<T> = Result<T, Refusal>;

/// The columns of a batch, checked by themselves and in the form in which tables keep them.
#[derive(Debug)]
pub(crate) struct Columns {
    table: RecordType,
    rows: usize,
    times: ArrayRef,
    computers: ArrayRef,
    /// By the row of their first value and then by name: the order in which a table would come to
    /// know them from records.
    others: Vec<Source>,
}

/// What a table does to take columns.
enum Fit {
    /// The columns as the table keeps them, by name, and the schema that it needs for them if it
    /// is not the one it has.
    Whole(Option<TableSchema>, BTreeMap<String, ArrayRef>),
    /// Some have to go into `AdditionalFields`, row by row.
    Overflow,
}

impl Columns {
    /// Checks what does not need a table; none for a batch without rows.
    pub(crate) fn read(batch: &RowBatch) -> Result<Option<Self>, Error> {
        let RowBatch { producer, table, rows: batch, .. } = batch;
        check_batch(producer, batch.num_rows())?;
        let mut refusals = Refusals::new(table);
        let (mut sources, mut names) = (Vec::new(), BTreeSet::new());
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if !names.insert(field.name().as_str()) {
                let reason = "is there twice".to_owned();
                return Err(refused(0, table, field.name(), reason));
            }
            match Source::read(field, array) {
                Ok(source) => sources.extend(source),
                Err(refusal) => refusals.add(field.name(), refusal),
            }
        }
        let rows = batch.num_rows();
        if rows == 0 {
            return refusals.finish(None);
        }
        let mut take = |name: &str| {
            let at = sources.iter().position(|source: &Source| source.name == name);
            at.map(|at| sources.swap_remove(at))
        };
        let (times, computers) = (take(TIME_GENERATED), take(COMPUTER));
        let counted = sources.iter().map(Source::bytes).sum::<usize>()
            + computers.as_ref().map_or(0, |source| source.text_bytes)
            + rows * size_of::<i64>();
        if refusals.is_empty() && counted > BATCH_BYTES_MAX {
            return Err(refused_batch(producer, format!("more than {BATCH_BYTES_MAX} bytes")));
        }
        let times = refusals.or_empty(TIME_GENERATED, times_of(times));
        let computers = refusals.or_empty(COMPUTER, computers_of(computers, rows));
        sources.sort_by(|a, b| (a.first, &a.name).cmp(&(b.first, &b.name)));
        let table = table.clone();
        refusals.finish(Some(Self { table, rows, times, computers, others: sources }))
    }

    /// Brings the columns into a table's batch. `grow` replaces the schema it is given by another
    /// and answers whether that was still the table's; with `false` the next `schema` is asked.
    pub(crate) fn build(
        &self,
        stamp: &Stamp,
        mut schema: impl FnMut() -> Arc<TableSchema>,
        mut grow: impl FnMut(&Arc<TableSchema>, Arc<TableSchema>) -> bool,
        by_records: impl FnOnce(&mut Rows) -> Result<Arc<TableSchema>, Error>,
    ) -> Result<RecordBatch, Error> {
        loop {
            let known = schema();
            match self.fit(&known)? {
                Fit::Whole(None, arrays) => return self.whole(&known, arrays, stamp),
                Fit::Whole(Some(grown), arrays) => {
                    let grown = Arc::new(grown);
                    if grow(&known, Arc::clone(&grown)) {
                        return self.whole(&grown, arrays, stamp);
                    }
                }
                Fit::Overflow => {
                    let mut rows = self.records(&known)?;
                    let schema = by_records(&mut rows)?;
                    return build(&schema, &rows, stamp);
                }
            }
        }
    }

    /// Fits the columns to a table.
    fn fit(&self, schema: &TableSchema) -> Result<Fit, Error> {
        let mut refusals = Refusals::new(&self.table);
        let (mut added, mut arrays) = (Vec::<Column>::new(), BTreeMap::new());
        for source in &self.others {
            let name = source.name.as_str();
            let mut refuse = |row, reason| refusals.add(name, Refusal { row, reason });
            if OWN_COLUMNS.contains(&name) {
                refuse(source.first, "the workspace fills this column itself".to_owned());
                continue;
            }
            let column_type = match schema.column(name) {
                Some(column) => column.column_type,
                None => match new_column(schema, added.len(), name, source.kind) {
                    Ok(Some(column)) => match same_but_for_case(schema, &added, name) {
                        Some(other) => {
                            let reason = format!("differs from column {other} in case alone");
                            refuse(source.first, reason);
                            continue;
                        }
                        None => {
                            added.push(column);
                            source.kind
                        }
                    },
                    Ok(None) => return Ok(Fit::Overflow),
                    Err(reason) => {
                        refuse(source.first, reason);
                        continue;
                    }
                },
            };
            match fit::fit(column_type, source) {
                Ok(array) => drop(arrays.insert(name.to_owned(), compact(array))),
                Err(refusal) => refuse(refusal.row, refusal.reason),
            }
        }
        let grown = (!added.is_empty()).then(|| schema.with_columns(added));
        refusals.finish(Fit::Whole(grown, arrays))
    }

    fn whole(
        &self,
        schema: &TableSchema,
        mut arrays: BTreeMap<String, ArrayRef>,
        stamp: &Stamp,
    ) -> Result<RecordBatch, Error> {
        let (mut fields, mut columns) = (Vec::<Arc<Field>>::new(), Vec::<ArrayRef>::new());
        for (column, field) in schema.columns().iter().zip(schema.arrow().fields()) {
            columns.push(match column.name.as_str() {
                TENANT_ID => repeated(&stamp.tenant_id, self.rows),
                TYPE => repeated(schema.name().as_str(), self.rows),
                COMPUTER => compact(Arc::clone(&self.computers)),
                TIME_GENERATED => compact(Arc::clone(&self.times)),
                TIME_RECEIVED => {
                    let received = vec![microseconds(stamp.received); self.rows];
                    Arc::new(TimestampMicrosecondArray::from(received).with_timezone("UTC"))
                }
                name => match arrays.remove(name) {
                    Some(array) => array,
                    None => continue,
                },
            });
            fields.push(Arc::clone(field));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(Error::arrow("build"))
    }

    /// The rows as records.
    fn records(&self, schema: &TableSchema) -> Result<Rows, Error> {
        let times = self.times.as_primitive::<TimestampMicrosecondType>();
        let computers = self.computers.as_string::<i32>();
        let mut rows = Rows::default();
        for row in 0..self.rows {
            let time = Timestamp::from_microsecond(times.value(row)).unwrap_or_default();
            let mut record = Record::new(self.table.clone(), time, computers.value(row));
            for source in &self.others {
                let column = schema.column(&source.name).map(|column| column.column_type);
                let value = fit::value(source, column, row)
                    .map_err(|reason| refused(row, &self.table, &source.name, reason))?;
                if let Some(value) = value {
                    record.fields.insert(source.name.clone(), value);
                }
            }
            rows.records.push((row, record));
        }
        Ok(rows)
    }
}

/// The refusals of a batch, of which the one of the first row is told.
struct Refusals<'a> {
    table: &'a RecordType,
    first: Option<(usize, String, String)>,
}

impl<'a> Refusals<'a> {
    const fn new(table: &'a RecordType) -> Self {
        Self { table, first: None }
    }

    const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn add(&mut self, column: &str, Refusal { row, reason }: Refusal) {
        let is_first = self
            .first
            .as_ref()
            .is_none_or(|(first, name, _)| (row, column) < (*first, name.as_str()));
        if is_first {
            self.first = Some((row, column.to_owned(), reason));
        }
    }

    fn or_empty(&mut self, column: &str, checked: Checked<ArrayRef>) -> ArrayRef {
        checked.unwrap_or_else(|refusal| {
            self.add(column, refusal);
            Arc::new(arrow::array::NullArray::new(0))
        })
    }

    fn finish<T>(self, value: T) -> Result<T, Error> {
        match self.first {
            None => Ok(value),
            Some((row, column, reason)) => Err(refused(row, self.table, &column, reason)),
        }
    }
}

fn times_of(source: Option<Source>) -> Checked<ArrayRef> {
    let Some(source) = source else {
        return Err(Refusal { row: 0, reason: "is missing".to_owned() });
    };
    if source.kind != ColumnType::DateTime {
        let reason = misfit(ColumnType::DateTime, source.kind.as_str());
        return Err(Refusal { row: source.first, reason });
    }
    match source.array.nulls().and_then(|nulls| nulls.iter().position(|is_valid| !is_valid)) {
        Some(row) => Err(Refusal { row, reason: "has no value".to_owned() }),
        None => Ok(source.array),
    }
}

fn computers_of(source: Option<Source>, rows: usize) -> Checked<ArrayRef> {
    let Some(source) = source else { return Ok(repeated("", rows)) };
    if source.kind != ColumnType::String {
        let reason = misfit(ColumnType::String, source.kind.as_str());
        return Err(Refusal { row: source.first, reason });
    }
    if source.array.null_count() == 0 {
        return Ok(source.array);
    }
    let texts = source.array.as_string::<i32>().iter();
    Ok(Arc::new(StringArray::from_iter_values(texts.map(Option::unwrap_or_default))))
}

/// One text in each row.
pub(super) fn repeated(text: &str, rows: usize) -> ArrayRef {
    let offsets = OffsetBuffer::from_repeated_length(text.len(), rows);
    let values = Buffer::from_vec(text.as_bytes().repeat(rows));
    Arc::new(StringArray::new(offsets, values, None))
}
