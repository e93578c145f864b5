//! Apache Parquet files. Columns are found by their names; lists, structs and maps become `dynamic`.

use super::{Row, RowTarget, Source, invalid, place};
use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use arrow::json::LineDelimitedWriter;
use jiff::{SignedDuration, Timestamp};
use oms_core::record::{Record, Value};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// A Parquet file.
pub(super) struct Parquet {
    reader: ParquetRecordBatchReader,
    columns: Vec<Column>,
    rows: usize,
    at: usize,
    number: u64,
    target: RowTarget,
}

/// Some rows of one column.
struct Column {
    name: String,
    values: Values,
}

pub(super) enum Values {
    Array(Kind, ArrayRef),
    Json(Vec<Option<serde_json::Value>>),
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Bool,
    Long,
    Real,
    Text,
    Micros,
    /// Nanoseconds.
    Span,
}

impl Parquet {
    pub(super) fn open(file: File, target: RowTarget) -> io::Result<Self> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        for field in builder.schema().fields() {
            if kept_as(field.data_type()).is_none() {
                let (name, found) = (field.name(), field.data_type());
                return Err(invalid(format!("column {name} is {found}, which no table holds")));
            }
        }
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(damaged)?;
        Ok(Self { reader, columns: Vec::new(), rows: 0, at: 0, number: 0, target })
    }

    /// Decodes the next rows if none are left; whether there are any.
    pub(super) fn fill_if_empty(&mut self) -> io::Result<bool> {
        while self.at == self.rows {
            if !self.fill()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Decodes the next rows; whether there are any.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(batch) = self.reader.next() else { return Ok(false) };
        let batch = batch.map_err(damaged)?;
        let fields = batch.schema();
        let columns = fields.fields().iter().zip(batch.columns());
        let columns: io::Result<Vec<Column>> = columns
            .map(|(field, array)| {
                let name = field.name().clone();
                let values = values(field, array)
                    .map_err(|error| invalid(format!("column {name}: {error}")))?;
                Ok(Column { name, values })
            })
            .collect();
        (self.columns, self.rows, self.at) = (columns?, batch.num_rows(), 0);
        Ok(true)
    }

    /// The decoded columns.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&str, &Values)> {
        self.columns.iter().map(|column| (column.name.as_str(), &column.values))
    }

    /// How many decoded rows were not taken yet.
    pub(super) const fn left(&self) -> usize {
        self.rows - self.at
    }

    /// Takes so many of them; answers the number of the first.
    pub(super) fn take(&mut self, rows: usize) -> u64 {
        let first = self.number + 1;
        self.at += rows;
        self.number += rows as u64;
        first
    }

    fn record(&self) -> Result<Record, String> {
        let RowTarget { schema, computer, now } = &self.target;
        let mut record = Record::new(schema.name().clone(), *now, computer.as_str());
        for Column { name, values } in &self.columns {
            if let Some(value) = values.get(self.at)? {
                place(&mut record, name, value)?;
            }
        }
        Ok(record)
    }
}

impl Source for Parquet {
    fn next_row(&mut self) -> io::Result<Option<Row>> {
        if !self.fill_if_empty()? {
            return Ok(None);
        }
        let record = self.record();
        Ok(Some(Row { number: self.take(1), record }))
    }
}

/// As what a column is decoded; none for types that no table holds. Null is none of these.
fn kept_as(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Boolean => DataType::Boolean,
        whole if whole.is_integer() => DataType::Int64,
        real if real.is_floating() => DataType::Float64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Nanosecond),
        DataType::Duration(_) => DataType::Duration(TimeUnit::Nanosecond),
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => DataType::Utf8,
        DataType::Dictionary(_, of) => return kept_as(of),
        nested @ (DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::Struct(_)
        | DataType::Map(..)) => nested.clone(),
        _ => return None,
    })
}

fn values(field: &Arc<Field>, array: &ArrayRef) -> Result<Values, String> {
    let Some(kept) = kept_as(field.data_type()) else {
        return Err("its type is held by no table".to_owned());
    };
    if kept.is_nested() {
        return Ok(Values::Json(json(field, array)?));
    }
    // A value that does not fit is an error, not a null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast =
        |to: &DataType| cast_with_options(array, to, &options).map_err(|error| error.to_string());
    let (kind, array) = match &kept {
        DataType::Boolean => (Kind::Bool, cast(&kept)?),
        DataType::Int64 => (Kind::Long, cast(&kept)?),
        DataType::Float64 => (Kind::Real, cast(&kept)?),
        // With a time zone the instants stay; without, they are read as UTC.
        DataType::Timestamp(unit, _) => {
            (Kind::Micros, cast(&DataType::Timestamp(*unit, Some("UTC".into())))?)
        }
        DataType::Time64(_) | DataType::Duration(_) => {
            let nanos = cast_with_options(&cast(&kept)?, &DataType::Int64, &options);
            (Kind::Span, nanos.map_err(|error| error.to_string())?)
        }
        _ => (Kind::Text, cast(&DataType::Utf8)?),
    };
    Ok(Values::Array(kind, array))
}

/// The values of a nested column, as JSON.
fn json(field: &Arc<Field>, array: &ArrayRef) -> Result<Vec<Option<serde_json::Value>>, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let schema = Arc::new(arrow::datatypes::Schema::new(vec![Arc::clone(field)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::clone(array)]).map_err(|e| told(&e))?;
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(&batch).map_err(|e| told(&e))?;
    writer.finish().map_err(|e| told(&e))?;
    let text = writer.into_inner();
    let lines = serde_json::Deserializer::from_slice(&text).into_iter();
    let mut values = Vec::with_capacity(array.len());
    for line in lines {
        let mut line: serde_json::Map<String, serde_json::Value> = line.map_err(|e| told(&e))?;
        // A null is left out.
        values.push(line.remove(field.name()).filter(|value| !value.is_null()));
    }
    match values.len() == array.len() {
        true => Ok(values),
        false => Err(format!("{} values in place of {}", values.len(), array.len())),
    }
}

impl Values {
    fn get(&self, at: usize) -> Result<Option<Value>, String> {
        let (kind, array) = match self {
            Self::Json(values) => {
                return Ok(values.get(at).cloned().flatten().map(Value::Dynamic));
            }
            Self::Array(_, array) if array.is_null(at) => return Ok(None),
            Self::Array(kind, array) => (kind, array),
        };
        Ok(Some(match kind {
            Kind::Bool => array.as_boolean().value(at).into(),
            Kind::Long => array.as_primitive::<Int64Type>().value(at).into(),
            Kind::Real => array.as_primitive::<Float64Type>().value(at).into(),
            Kind::Text => array.as_string::<i32>().value(at).into(),
            Kind::Span => {
                let nanos = array.as_primitive::<Int64Type>().value(at);
                SignedDuration::from_nanos(nanos).into()
            }
            Kind::Micros => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(at);
                let time = Timestamp::from_microsecond(micros);
                time.map_err(|_out| format!("time is out of range: {micros} µs"))?.into()
            }
        }))
    }
}

fn damaged(error: impl std::error::Error) -> io::Error {
    invalid(error.to_string())
}
