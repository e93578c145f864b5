//! One column while its rows are gathered.

use super::admit::ticks;
use super::batch::{microseconds, write_text};
use crate::schema::ColumnType;
use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Float64Array, Int32Array, Int64Array,
    NullBufferBuilder, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::error::ArrowError;
use oms_core::record::Value;
use std::sync::Arc;

/// Values of one column, in the form that the column keeps.
#[derive(Debug)]
pub(crate) struct ColumnBuffer {
    column_type: ColumnType,
    values: Values,
    nulls: NullBufferBuilder,
}

#[derive(Debug)]
enum Values {
    Bool(BooleanBufferBuilder),
    Int(Vec<i32>),
    /// Also microseconds and ticks.
    Long(Vec<i64>),
    Real(Vec<f64>),
    Text(Texts),
}

/// Texts one after the other, and where each ends.
#[derive(Debug)]
struct Texts {
    text: String,
    /// Begins with 0.
    ends: Vec<i32>,
}

impl Texts {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { text: String::with_capacity(bytes), ends }
    }

    /// Ends the text of a row. One past what an offset holds is told when the column is finished.
    fn end(&mut self) {
        self.ends.push(i32::try_from(self.text.len()).unwrap_or(i32::MAX));
    }
}

impl ColumnBuffer {
    /// An empty column, with room for so many rows and bytes of text.
    pub(crate) fn with_capacity(column_type: ColumnType, rows: usize, bytes: usize) -> Self {
        let values = match column_type {
            ColumnType::Bool => Values::Bool(BooleanBufferBuilder::new(rows)),
            ColumnType::Int => Values::Int(Vec::with_capacity(rows)),
            ColumnType::Long | ColumnType::TimeSpan | ColumnType::DateTime => {
                Values::Long(Vec::with_capacity(rows))
            }
            ColumnType::Real => Values::Real(Vec::with_capacity(rows)),
            ColumnType::String | ColumnType::Guid | ColumnType::Dynamic | ColumnType::Decimal => {
                Values::Text(Texts::with_capacity(rows, bytes))
            }
        };
        Self { column_type, values, nulls: NullBufferBuilder::new(rows) }
    }

    pub(crate) const fn column_type(&self) -> ColumnType {
        self.column_type
    }

    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Bytes of the texts.
    pub(crate) fn text_bytes(&self) -> usize {
        match &self.values {
            Values::Text(texts) => texts.text.len(),
            _ => 0,
        }
    }

    /// Adds a value. One that does not fit becomes null; admission lets none through.
    pub(crate) fn push(&mut self, value: &Value) {
        let is_there = match (&mut self.values, value) {
            (Values::Text(texts), value) => write_text(self.column_type, value, &mut texts.text),
            (Values::Bool(_), Value::Bool(flag)) => return self.push_bool(*flag),
            (Values::Int(_), Value::Int(number)) => return self.push_int(*number),
            (Values::Int(_), Value::Long(number)) => match i32::try_from(*number) {
                Ok(number) => return self.push_int(number),
                Err(_) => false,
            },
            (Values::Long(_), value) => match whole(self.column_type, value) {
                Some(number) => return self.push_long(number),
                None => false,
            },
            (Values::Real(_), Value::Int(number)) => return self.push_real(f64::from(*number)),
            (Values::Real(_), Value::Long(number)) => return self.push_real(*number as f64),
            (Values::Real(_), Value::Real(number)) => return self.push_real(*number),
            _ => false,
        };
        if is_there { self.end_text() } else { self.push_null() }
    }

    pub(crate) fn push_null(&mut self) {
        self.push_nulls(1);
    }

    pub(crate) fn push_nulls(&mut self, count: usize) {
        match &mut self.values {
            Values::Bool(flags) => flags.append_n(count, false),
            Values::Int(numbers) => numbers.resize(numbers.len() + count, 0),
            Values::Long(numbers) => numbers.resize(numbers.len() + count, 0),
            Values::Real(numbers) => numbers.resize(numbers.len() + count, 0.0),
            Values::Text(texts) => (0..count).for_each(|_| texts.end()),
        }
        self.nulls.append_n_nulls(count);
    }

    pub(crate) fn push_bool(&mut self, flag: bool) {
        if let Values::Bool(flags) = &mut self.values {
            flags.append(flag);
            self.nulls.append_non_null();
        }
    }

    pub(crate) fn push_int(&mut self, number: i32) {
        if let Values::Int(numbers) = &mut self.values {
            numbers.push(number);
            self.nulls.append_non_null();
        }
    }

    /// A `long`, the microseconds of a `datetime` or the ticks of a `timespan`.
    pub(crate) fn push_long(&mut self, number: i64) {
        if let Values::Long(numbers) = &mut self.values {
            numbers.push(number);
            self.nulls.append_non_null();
        }
    }

    pub(crate) fn push_real(&mut self, number: f64) {
        if let Values::Real(numbers) = &mut self.values {
            numbers.push(number);
            self.nulls.append_non_null();
        }
    }

    pub(crate) fn push_text(&mut self, text: &str) {
        if let Values::Text(texts) = &mut self.values {
            texts.text.push_str(text);
            self.end_text();
        }
    }

    /// Where the text of the next row is written, until [`ColumnBuffer::end_text`] or
    /// [`ColumnBuffer::truncate`]; none if the column is not kept as text.
    pub(crate) fn text(&mut self) -> Option<&mut String> {
        match &mut self.values {
            Values::Text(texts) => Some(&mut texts.text),
            _ => None,
        }
    }

    pub(crate) fn end_text(&mut self) {
        if let Values::Text(texts) = &mut self.values {
            texts.end();
            self.nulls.append_non_null();
        }
    }

    /// Forgets the rows past so many, and a text that was not ended.
    pub(crate) fn truncate(&mut self, rows: usize) {
        if rows > self.len() {
            return;
        }
        match &mut self.values {
            Values::Bool(flags) => flags.truncate(rows),
            Values::Int(numbers) => numbers.truncate(rows),
            Values::Long(numbers) => numbers.truncate(rows),
            Values::Real(numbers) => numbers.truncate(rows),
            Values::Text(texts) => {
                texts.ends.truncate(rows + 1);
                let end = texts.ends.last().and_then(|end| usize::try_from(*end).ok());
                texts.text.truncate(end.unwrap_or(0));
            }
        }
        self.nulls.truncate(rows);
    }

    /// The rows as an array.
    ///
    /// # Errors
    /// Texts of more bytes than a 32-bit offset counts.
    pub(crate) fn finish(self) -> Result<ArrayRef, ArrowError> {
        let Self { column_type, values, mut nulls } = self;
        let nulls = nulls.finish();
        Ok(match values {
            Values::Bool(mut flags) => Arc::new(BooleanArray::new(flags.finish(), nulls)),
            Values::Int(numbers) => Arc::new(Int32Array::try_new(numbers.into(), nulls)?),
            Values::Long(numbers) if column_type == ColumnType::DateTime => {
                let times = TimestampMicrosecondArray::try_new(numbers.into(), nulls)?;
                Arc::new(times.with_timezone("UTC"))
            }
            Values::Long(numbers) => Arc::new(Int64Array::try_new(numbers.into(), nulls)?),
            Values::Real(numbers) => Arc::new(Float64Array::try_new(numbers.into(), nulls)?),
            Values::Text(Texts { text, ends }) => {
                if i32::try_from(text.len()).is_err() {
                    return Err(ArrowError::OffsetOverflowError(text.len()));
                }
                let ends = OffsetBuffer::new(ends.into());
                Arc::new(StringArray::try_new(ends, Buffer::from_vec(text.into_bytes()), nulls)?)
            }
        })
    }
}

/// What a column of 64-bit numbers keeps of a value.
fn whole(column: ColumnType, value: &Value) -> Option<i64> {
    match (column, value) {
        (ColumnType::Long, Value::Int(number)) => Some(i64::from(*number)),
        (ColumnType::Long, Value::Long(number)) => Some(*number),
        (ColumnType::TimeSpan, Value::TimeSpan(span)) => ticks(span.as_nanos()),
        (ColumnType::DateTime, Value::DateTime(time)) => Some(microseconds(*time)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array as _, AsArray as _};

    #[test]
    fn a_text_that_is_not_ended_is_forgotten() {
        let mut column = ColumnBuffer::with_capacity(ColumnType::String, 0, 0);
        column.push_text("one");
        column.text().expect("a text").push_str("half");
        column.truncate(1);
        column.push_null();
        column.push_text("ä");
        let array = column.finish().expect("a column");
        let texts: Vec<_> = array.as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("one"), None, Some("ä")]);
    }

    #[test]
    fn rows_are_forgotten_in_every_type() {
        for column_type in ColumnType::ALL {
            let mut column = ColumnBuffer::with_capacity(column_type, 4, 4);
            column.push_nulls(3);
            column.push(&Value::Bool(true));
            column.truncate(9);
            assert_eq!(column.len(), 4, "{column_type}");
            column.truncate(1);
            let array = column.finish().expect("a column");
            assert_eq!((array.len(), array.null_count()), (1, 1), "{column_type}");
            assert_eq!(*array.data_type(), column_type.arrow());
        }
    }
}
