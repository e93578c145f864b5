//! Values of columns as members of `dynamic` values, and back.

use crate::query::dynamic::{DynamicBuilder, Value, View};
use crate::query::types::KqlType;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use datafusion::common::Result;
use std::sync::Arc;

/// A value of a column in computed form as a member of a `dynamic` value.
pub(super) fn value_of(array: &ArrayRef, kql_type: KqlType, row: usize) -> Value {
    if array.is_null(row) {
        return if kql_type == KqlType::String { Value::Text(String::new()) } else { Value::Null };
    }
    let long = || array.as_primitive::<Int64Type>().value(row);
    let text = || array.as_string_view().value(row);
    match kql_type {
        KqlType::Bool => Value::Bool(array.as_boolean().value(row)),
        KqlType::Int => Value::Long(i64::from(array.as_primitive::<Int32Type>().value(row))),
        KqlType::Long => Value::Long(long()),
        KqlType::Real => Value::Real(array.as_primitive::<Float64Type>().value(row)),
        KqlType::DateTime => Value::DateTime(long()),
        KqlType::TimeSpan => Value::TimeSpan(long()),
        KqlType::Dynamic => Value::from(View::of(array.as_binary_view().value(row))),
        KqlType::Guid => match text().parse() {
            Ok(guid) => Value::Guid(guid),
            Err(_) => Value::Null,
        },
        KqlType::Decimal => Value::Decimal(text().to_owned()),
        KqlType::String => Value::Text(text().to_owned()),
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
pub(super) fn dynamic_column(values: &[Value]) -> Result<ArrayRef> {
    let mut builder = DynamicBuilder::with_capacity(values.len());
    for value in values {
        builder.append(|writer| writer.value(value))?;
    }
    Ok(builder.finish())
}
