//! A column as a table's column of another type.

use super::source::{Source, canonical, first_where, whole};
use super::{Checked, Refusal, text};
use crate::ingest::admit::{EXACT, is_decimal, misfit};
use crate::ingest::batch::{json, write_canonical};
use crate::schema::ColumnType;
use arrow::array::{Array, ArrayRef, AsArray as _, StringBuilder};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use jiff::{SignedDuration, Timestamp};
use oms_core::record::Value;
use std::sync::Arc;

/// The column as one of type `column`, without loss.
pub(super) fn fit(column: ColumnType, source: &Source) -> Checked<ArrayRef> {
    let refuse = |row| Refusal { row, reason: misfit(column, source.kind.as_str()) };
    let cast_to = || {
        cast(&source.array, &column.arrow())
            .map_err(|error| Refusal { row: source.first, reason: error.to_string() })
    };
    match (column, source.kind) {
        (column, kind) if column == kind => Ok(Arc::clone(&source.array)),
        (ColumnType::Long | ColumnType::Real, ColumnType::Int)
        | (ColumnType::Decimal, ColumnType::Int | ColumnType::Long) => cast_to(),
        (ColumnType::Int, ColumnType::Long) => {
            whole(&source.array, &column.arrow(), || refuse(0).reason)
        }
        (ColumnType::Real, ColumnType::Long) => {
            let numbers = source.array.as_primitive::<Int64Type>();
            let is_exact = |number| (-EXACT..=EXACT).contains(&number);
            if min(numbers).is_none_or(is_exact) && max(numbers).is_none_or(is_exact) {
                return cast_to();
            }
            Err(refuse(first_where(numbers, |number| !is_exact(number))))
        }
        (ColumnType::String, ColumnType::Guid | ColumnType::Decimal) => {
            Ok(Arc::clone(&source.array))
        }
        (ColumnType::Guid, ColumnType::String) => {
            text::guids(&source.array, "").map_err(|refusal| refuse(refusal.row))
        }
        (ColumnType::Decimal, ColumnType::String) => {
            text::check(&source.array, |text| match is_decimal(text) {
                true => Ok(()),
                false => Err(misfit(column, source.kind.as_str())),
            })?;
            Ok(Arc::clone(&source.array))
        }
        (ColumnType::Dynamic, ColumnType::String) if source.is_untyped => {
            Ok(canonical(&source.array)?.0)
        }
        (ColumnType::Dynamic, _) => dynamics(source),
        _ => Err(refuse(source.first)),
    }
}

/// Any values as JSON texts.
fn dynamics(source: &Source) -> Checked<ArrayRef> {
    let rows = source.array.len();
    let mut builder = StringBuilder::with_capacity(rows, rows * 16);
    let mut text = String::new();
    for row in 0..rows {
        match value(source, None, row).map_err(|reason| Refusal { row, reason })? {
            Some(value) => {
                text.clear();
                write_canonical(&json(&value), &mut text);
                builder.append_value(&text);
            }
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// The value of one row, as a record for a column of type `column` has it.
pub(super) fn value(
    source: &Source,
    column: Option<ColumnType>,
    row: usize,
) -> Result<Option<Value>, String> {
    let array = &source.array;
    if array.is_null(row) {
        return Ok(None);
    }
    let text = || array.as_string::<i32>().value(row);
    Ok(Some(match source.kind {
        ColumnType::Bool => array.as_boolean().value(row).into(),
        ColumnType::Int => array.as_primitive::<Int32Type>().value(row).into(),
        ColumnType::Long => array.as_primitive::<Int64Type>().value(row).into(),
        ColumnType::Real => array.as_primitive::<Float64Type>().value(row).into(),
        ColumnType::DateTime => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            Timestamp::from_microsecond(micros).map_err(|error| error.to_string())?.into()
        }
        ColumnType::TimeSpan => {
            let ticks = array.as_primitive::<Int64Type>().value(row);
            let seconds = ticks / TICKS_OF_SECOND;
            let nanoseconds = (ticks % TICKS_OF_SECOND) as i32 * 100;
            SignedDuration::new(seconds, nanoseconds).into()
        }
        ColumnType::Guid => {
            uuid::Uuid::parse_str(text()).map_err(|error| error.to_string())?.into()
        }
        ColumnType::Dynamic => parse(text())?,
        ColumnType::String if source.is_untyped && column == Some(ColumnType::Dynamic) => {
            parse(text())?
        }
        ColumnType::String | ColumnType::Decimal => text().into(),
    }))
}

const TICKS_OF_SECOND: i64 = 10_000_000;

fn parse(text: &str) -> Result<Value, String> {
    let json = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    Ok(Value::Dynamic(json))
}
