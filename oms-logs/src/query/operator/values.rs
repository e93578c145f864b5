//! Values of columns as members of `dynamic` values, and back.

use crate::query::time;
use crate::query::types::KqlType;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use datafusion::common::Result;
use serde_json::Value as Json;
use std::sync::Arc;

/// A value of a column in computed form as a member of a `dynamic` value.
pub(super) fn json_of(array: &ArrayRef, kql_type: KqlType, row: usize) -> Json {
    if array.is_null(row) {
        return if kql_type == KqlType::String { Json::from("") } else { Json::Null };
    }
    match kql_type {
        KqlType::Bool => Json::from(array.as_boolean().value(row)),
        KqlType::Int => Json::from(array.as_primitive::<Int32Type>().value(row)),
        KqlType::Long => Json::from(array.as_primitive::<Int64Type>().value(row)),
        KqlType::Real => {
            let value = array.as_primitive::<Float64Type>().value(row);
            match serde_json::Number::from_f64(value) {
                Some(number) => Json::Number(number),
                None if value.is_nan() => Json::from("NaN"),
                None if value > 0.0 => Json::from("Infinity"),
                None => Json::from("-Infinity"),
            }
        }
        KqlType::DateTime => {
            let ticks = array.as_primitive::<Int64Type>().value(row);
            Json::from(time::in_range(ticks).map(|ticks| time::format_datetime(ticks, true)))
        }
        KqlType::TimeSpan => {
            Json::from(time::format_timespan(array.as_primitive::<Int64Type>().value(row)))
        }
        KqlType::Dynamic => {
            let text = array.as_string_view().value(row);
            serde_json::from_str(text).unwrap_or_else(|_| Json::from(text))
        }
        KqlType::String | KqlType::Guid | KqlType::Decimal => {
            Json::from(array.as_string_view().value(row))
        }
    }
}

/// The values of rows, of which some may be none; text that is never null is empty there.
pub(super) fn take_or_empty(
    array: &ArrayRef,
    rows: &UInt64Array,
    nullable: bool,
) -> Result<ArrayRef> {
    let taken = take(array, rows, None)?;
    if nullable || taken.null_count() == 0 {
        return Ok(taken);
    }
    let text = taken.as_string_view().iter().map(|text| Some(text.unwrap_or_default()));
    Ok(Arc::new(text.collect::<StringViewArray>()))
}

/// A column of `dynamic` values.
pub(super) fn dynamic_column(values: Vec<Option<Json>>) -> Result<ArrayRef> {
    let text = values.into_iter().map(|value| match value {
        None | Some(Json::Null) => None,
        Some(value) => Some(value.to_string()),
    });
    Ok(Arc::new(text.collect::<StringViewArray>()))
}
