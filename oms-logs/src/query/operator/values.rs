//! Values of columns as members of `dynamic` values and back, and rows by their values.

use crate::query::dynamic::{DynamicBuilder, Value, View};
use crate::query::types::KqlType;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use datafusion::arrow::row::{Row, RowConverter, SortField};
use datafusion::common::Result;
use std::collections::HashMap;
use std::sync::Arc;

/// Which rows have equal keys.
#[derive(Debug)]
pub(super) struct Groups {
    /// The number of each row's group; groups are numbered in the order in which they come first.
    pub(super) numbers: Vec<usize>,
    /// The first row of each group.
    pub(super) firsts: Vec<u64>,
}

impl Groups {
    /// Groups rows by columns; without columns all rows are one group.
    pub(super) fn of(columns: &[ArrayRef], rows: usize) -> Result<Self> {
        if columns.is_empty() {
            let firsts = if rows > 0 { vec![0] } else { Vec::new() };
            return Ok(Self { numbers: vec![0; rows], firsts });
        }
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
        let keys = RowConverter::new(fields.collect())?.convert_columns(columns)?;
        let mut places: HashMap<Row<'_>, usize> = HashMap::new();
        let (mut numbers, mut firsts) = (Vec::with_capacity(rows), Vec::new());
        for (row, key) in (0_u64..).zip(keys.iter()) {
            let place = *places.entry(key).or_insert(firsts.len());
            if place == firsts.len() {
                firsts.push(row);
            }
            numbers.push(place);
        }
        Ok(Self { numbers, firsts })
    }

    /// The rows of each group, of those that are kept.
    pub(super) fn rows(&self, mut keeps: impl FnMut(usize) -> bool) -> Vec<Vec<u64>> {
        let mut groups = vec![Vec::new(); self.firsts.len()];
        for (row, number) in self.numbers.iter().enumerate().filter(|(row, _)| keeps(*row)) {
            if let Some(group) = groups.get_mut(*number) {
                group.push(row as u64);
            }
        }
        groups
    }
}

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
