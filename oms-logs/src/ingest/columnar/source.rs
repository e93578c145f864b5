//! One Arrow column, checked by itself and brought into the form in which tables keep its type.

use super::text::{self, check_lengths, rewrite};
use super::{Checked, Refusal};
use crate::ingest::admit::{DYNAMIC_DEPTH_MAX, YEAR_1, is_decimal, json_size};
use crate::ingest::batch::{microseconds, write_canonical};
use crate::schema::{ColumnType, KQL_TYPE_KEY};
use arrow::array::{
    Array, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;
use jiff::Timestamp;
use std::fmt::Write as _;
use std::sync::Arc;

/// Rows of a nested column that are turned into text at a time.
const NESTED_ROWS: usize = 256;

/// A column that has a value.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) kind: ColumnType,
    /// Text whose field does not say what it is.
    pub(super) is_untyped: bool,
    /// Of type [`ColumnType::arrow`].
    pub(super) array: ArrayRef,
    /// The row of the first value.
    pub(super) first: usize,
    /// Bytes of its values, if they are texts.
    pub(super) text_bytes: usize,
}

impl Source {
    /// Reads a column; none if it has no value.
    pub(super) fn read(field: &Field, array: &ArrayRef) -> Checked<Option<Self>> {
        if array.logical_null_count() == array.len() {
            return Ok(None);
        }
        let nulls = array.logical_nulls();
        let first = nulls.and_then(|nulls| nulls.iter().position(|is_valid| is_valid)).unwrap_or(0);
        let named = field.metadata().get(KQL_TYPE_KEY).and_then(|name| name.parse().ok());
        let read = Reader { array, named, first }.read()?;
        let (kind, is_untyped) = (read.kind, read.is_untyped);
        let text_bytes = match kind.arrow() {
            DataType::Utf8 => check_lengths(&read.array)?,
            _ => 0,
        };
        let mut source = Self {
            name: field.name().clone(),
            kind,
            is_untyped,
            array: read.array,
            first,
            text_bytes,
        };
        match kind {
            ColumnType::Guid => source.array = text::guids(&source.array, "a guid")?,
            ColumnType::Dynamic => {
                let (array, bytes) = canonical(&source.array)?;
                (source.array, source.text_bytes) = (array, bytes);
            }
            ColumnType::Decimal => text::check(&source.array, |text| match is_decimal(text) {
                true => Ok(()),
                false => Err("is not a decimal number".to_owned()),
            })?,
            _ => {}
        }
        Ok(Some(source))
    }

    /// What the column counts towards the size of its batch.
    pub(super) fn bytes(&self) -> usize {
        let count = self.array.len() - self.array.null_count();
        let values = match self.kind {
            ColumnType::String | ColumnType::Dynamic | ColumnType::Decimal => self.text_bytes,
            _ => count * size_of::<u128>(),
        };
        values + count * self.name.len()
    }
}

struct Read {
    kind: ColumnType,
    is_untyped: bool,
    array: ArrayRef,
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    array: &'a ArrayRef,
    /// The type that the field's metadata names.
    named: Option<ColumnType>,
    first: usize,
}

impl Reader<'_> {
    fn read(self) -> Checked<Read> {
        let plain = |kind, array| Ok(Read { kind, is_untyped: false, array });
        match self.array.data_type() {
            DataType::Boolean => plain(ColumnType::Bool, Arc::clone(self.array)),
            DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => {
                plain(ColumnType::Int, self.cast(&DataType::Int32)?)
            }
            DataType::Int32 => plain(ColumnType::Int, Arc::clone(self.array)),
            DataType::Int64 if self.named == Some(ColumnType::TimeSpan) => {
                plain(ColumnType::TimeSpan, Arc::clone(self.array))
            }
            DataType::UInt32 | DataType::Int64 => {
                plain(ColumnType::Long, self.cast(&DataType::Int64)?)
            }
            DataType::UInt64 => plain(
                ColumnType::Long,
                whole(self.array, &DataType::Int64, || "is larger than a long holds".to_owned())?,
            ),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                plain(ColumnType::Real, self.cast(&DataType::Float64)?)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => self.text(),
            DataType::Dictionary(_, values) => match values.as_ref() {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => self.text(),
                values if values.is_nested() || matches!(values, DataType::Dictionary(..)) => {
                    Err(self.held_by_no_table())
                }
                values => Reader { array: &self.cast(values)?, ..self }.read(),
            },
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
                plain(ColumnType::DateTime, self.times()?)
            }
            DataType::Duration(_) | DataType::Time32(_) | DataType::Time64(_) => {
                plain(ColumnType::TimeSpan, self.spans()?)
            }
            DataType::FixedSizeBinary(16) => plain(ColumnType::Guid, self.guids()),
            DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => plain(ColumnType::Decimal, self.cast(&DataType::Utf8)?),
            DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(..)
            | DataType::Struct(_)
            | DataType::Map(..) => plain(ColumnType::Dynamic, self.nested()?),
            _ => Err(self.held_by_no_table()),
        }
    }

    fn held_by_no_table(self) -> Refusal {
        let reason = format!("is {}, which no table holds", self.array.data_type());
        Refusal { row: self.first, reason }
    }

    fn failed(self, error: &ArrowError) -> Refusal {
        Refusal { row: self.first, reason: error.to_string() }
    }

    fn cast(self, to: &DataType) -> Checked<ArrayRef> {
        cast(self.array, to).map_err(|error| self.failed(&error))
    }

    fn text(self) -> Checked<Read> {
        text::check_total(self.array, self.first)?;
        let kind = self.named.filter(|named| named.arrow() == DataType::Utf8);
        Ok(Read {
            kind: kind.unwrap_or(ColumnType::String),
            is_untyped: kind.is_none(),
            array: self.cast(&DataType::Utf8)?,
        })
    }

    /// Microseconds, finer digits cut off.
    fn times(self) -> Checked<ArrayRef> {
        const MICROS: i64 = 1_000_000;
        const DAY: i64 = 86_400 * MICROS;
        let (up, down) = match self.array.data_type() {
            DataType::Date32 => (DAY, 1),
            DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => (1_000, 1),
            DataType::Timestamp(TimeUnit::Second, _) => (MICROS, 1),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => (1, 1_000),
            _ => (1, 1),
        };
        let numbers = self.numbers()?;
        let (least, most) = (YEAR_1 * MICROS / up, microseconds(Timestamp::MAX) / up);
        // What is divided is within the years of nanoseconds, 1677 to 2262.
        let is_within = |number: i64| down > 1 || (least..=most).contains(&number);
        if !(min(&numbers).is_none_or(is_within) && max(&numbers).is_none_or(is_within)) {
            let row = first_where(&numbers, |number| !is_within(number));
            return Err(Refusal { row, reason: "time is outside the years 1 to 9999".to_owned() });
        }
        let micros: Int64Array = match (up, down) {
            (1, 1) => numbers,
            (1, down) => numbers.unary(|number| number.div_euclid(down)),
            (up, _) => numbers.unary(|number| number.wrapping_mul(up)),
        };
        let (_, values, nulls) = micros.into_parts();
        Ok(Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone("UTC")))
    }

    /// Ticks of 100 nanoseconds, finer digits cut off.
    fn spans(self) -> Checked<ArrayRef> {
        let (DataType::Duration(unit) | DataType::Time32(unit) | DataType::Time64(unit)) =
            self.array.data_type()
        else {
            return Err(self.held_by_no_table());
        };
        let numbers = self.numbers()?;
        let up = match unit {
            TimeUnit::Second => 10_000_000,
            TimeUnit::Millisecond => 10_000,
            TimeUnit::Microsecond => 10,
            TimeUnit::Nanosecond => {
                return Ok(Arc::new(numbers.unary::<_, Int64Type>(|number| number / 100)));
            }
        };
        let ticks = numbers.unary_opt::<_, Int64Type>(|number| number.checked_mul(up));
        if ticks.null_count() > numbers.null_count() {
            let row = first_where(&numbers, |number| number.checked_mul(up).is_none());
            let reason = "timespan does not fit into 64-bit ticks".to_owned();
            return Err(Refusal { row, reason });
        }
        Ok(Arc::new(ticks))
    }

    /// The numbers under dates, times and durations.
    fn numbers(self) -> Checked<Int64Array> {
        let whole = match self.array.data_type() {
            DataType::Date32 | DataType::Time32(_) => self.cast(&DataType::Int32)?,
            _ => Arc::clone(self.array),
        };
        let long = cast(&whole, &DataType::Int64).map_err(|error| self.failed(&error))?;
        Ok(long.as_primitive::<Int64Type>().clone())
    }

    fn guids(self) -> ArrayRef {
        let values = self.array.as_fixed_size_binary();
        let mut builder = StringBuilder::with_capacity(values.len(), values.len() * 36);
        for value in values {
            match value.and_then(|bytes| uuid::Uuid::from_slice(bytes).ok()) {
                Some(id) => {
                    builder.append_value(id.as_hyphenated().encode_lower(&mut [0; 36]));
                }
                None => builder.append_null(),
            }
        }
        Arc::new(builder.finish())
    }

    /// The values of a nested column, as JSON.
    fn nested(self) -> Checked<ArrayRef> {
        const NAME: &str = "v";
        let field = Field::new(NAME, self.array.data_type().clone(), true);
        let schema = Arc::new(Schema::new(vec![field]));
        let mut builder = StringBuilder::with_capacity(self.array.len(), self.array.len() * 32);
        let mut bytes = 0;
        for from in (0..self.array.len()).step_by(NESTED_ROWS) {
            let rows = self.array.slice(from, NESTED_ROWS.min(self.array.len() - from));
            let text = lines(&schema, rows).map_err(|error| self.failed(&error))?;
            bytes += text.len();
            text::check_bytes(bytes, self.first)?;
            let lines = serde_json::Deserializer::from_slice(&text).into_iter();
            for (at, line) in lines.enumerate() {
                let line: serde_json::Value = line.map_err(|error| Refusal {
                    row: from + at,
                    reason: format!("does not become JSON: {error}"),
                })?;
                // A null is left out.
                match line.get(NAME) {
                    Some(value) => {
                        let _ = write!(builder, "{value}");
                        builder.append_value("");
                    }
                    None => builder.append_null(),
                }
            }
        }
        Ok(Arc::new(builder.finish()))
    }
}

fn lines(schema: &Arc<Schema>, rows: ArrayRef) -> Result<Vec<u8>, ArrowError> {
    let batch = RecordBatch::try_new(Arc::clone(schema), vec![rows])?;
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(&batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

/// JSON texts in the form in which tables keep them, and their size.
pub(super) fn canonical(texts: &ArrayRef) -> Checked<(ArrayRef, usize)> {
    let mut bytes = 0;
    let array = rewrite(texts, |text, out| {
        let json: serde_json::Value =
            serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
        let Some(size) = json_size(&json, DYNAMIC_DEPTH_MAX) else {
            return Err(format!("nested deeper than {DYNAMIC_DEPTH_MAX}"));
        };
        text::check_field(size)?;
        bytes += size;
        write_canonical(&json, out);
        Ok(())
    })?;
    Ok((array, bytes))
}

/// Casts; a value that does not fit is refused.
pub(super) fn whole(
    array: &ArrayRef,
    to: &DataType,
    reason: impl FnOnce() -> String,
) -> Checked<ArrayRef> {
    let done = cast(array, to).map_err(|error| Refusal { row: 0, reason: error.to_string() })?;
    if done.null_count() == array.null_count() {
        return Ok(done);
    }
    let row = (0..array.len()).find(|&row| array.is_valid(row) && done.is_null(row)).unwrap_or(0);
    Err(Refusal { row, reason: reason() })
}

/// The first row whose value is so.
pub(super) fn first_where(numbers: &Int64Array, is_so: impl Fn(i64) -> bool) -> usize {
    numbers.iter().position(|number| number.is_some_and(&is_so)).unwrap_or(0)
}
