//! What a record counts for: the columns `_BilledSize` and `_IsBillable`.
//!
//! The size of a record is the length of its columns' values as text, in bytes, without `Type`,
//! `_ResourceId`, `_SubscriptionId`, `_ItemId`, `_TimeReceived`, `_IsBillable` and `_BilledSize`.
//! Text counts with its UTF-8 bytes, `dynamic` as JSON; `true` is 4 and `false` 5; `int`, `long` and
//! `timespan` count with the digits and the sign of their number, `datetime` with the 28 characters
//! of `2026-11-23T00:00:00.0000000Z`, and `real` with 8, whatever its digits. A value that is null
//! counts nothing. Records of `AzureActivity`, `Heartbeat`, `Operation` and `Usage` are free.
//!
//! Both follow from the other columns, so they are not in the log, and are reckoned where fresh rows
//! are read and where they become files.

use crate::Error;
use crate::schema::{BILLED_SIZE, IS_BILLABLE, ITEM_ID, TIME_RECEIVED, TYPE};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, Schema};
use std::sync::Arc;

/// Columns that do not count.
const UNCOUNTED: [&str; 7] =
    [TYPE, "_ResourceId", "_SubscriptionId", ITEM_ID, TIME_RECEIVED, IS_BILLABLE, BILLED_SIZE];

/// Tables whose records are free.
const FREE: [&str; 4] = ["AzureActivity", "Heartbeat", "Operation", "Usage"];

/// `2026-11-23T00:00:00.0000000Z`
const DATETIME_CHARACTERS: u64 = 28;

/// What a `real` counts.
const REAL_BYTES: u64 = 8;

/// The rows with those of the two columns that `schema` has.
///
/// # Errors
/// [`Error::Arrow`].
pub(crate) fn billed(rows: RecordBatch, schema: &Schema) -> Result<RecordBatch, Error> {
    let mut fields = rows.schema_ref().fields().to_vec();
    let mut arrays = rows.columns().to_vec();
    for name in [IS_BILLABLE, BILLED_SIZE] {
        let wanted = schema.field_with_name(name).ok();
        let wanted = wanted.filter(|_| rows.column_by_name(name).is_none());
        if let (Some(wanted), Some(array)) = (wanted, reckon(name, &rows)) {
            fields.push(Arc::new(wanted.clone().with_data_type(array.data_type().clone())));
            arrays.push(array);
        }
    }
    if arrays.len() == rows.num_columns() {
        return Ok(rows);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(Error::arrow("bill"))
}

/// The value of a column that follows from the others; none for other columns.
fn reckon(column: &str, rows: &RecordBatch) -> Option<ArrayRef> {
    match column {
        BILLED_SIZE => Some(Arc::new(sizes(rows))),
        IS_BILLABLE => Some(Arc::new(billable(rows)?)),
        _ => None,
    }
}

/// Whether records of a table are billed.
pub(crate) fn is_billable(table: &str) -> bool {
    !FREE.contains(&table)
}

fn billable(rows: &RecordBatch) -> Option<StringArray> {
    let types = rows.column_by_name(TYPE)?.as_string_opt::<i32>()?;
    let text =
        |table: Option<&str>| table.map(|table| if is_billable(table) { "True" } else { "False" });
    Some(types.iter().map(text).collect())
}

fn sizes(rows: &RecordBatch) -> Float64Array {
    let mut sizes = vec![0_u64; rows.num_rows()];
    for (field, array) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        if !UNCOUNTED.contains(&field.name().as_str()) {
            add(array, &mut sizes);
        }
    }
    sizes.into_iter().map(|size| Some(size as f64)).collect()
}

fn add(array: &ArrayRef, sizes: &mut [u64]) {
    let mut count = |length: &dyn Fn(usize) -> u64| {
        for (row, size) in sizes.iter_mut().enumerate() {
            if array.is_valid(row) {
                *size += length(row);
            }
        }
    };
    match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            count(&|row| u64::from(texts.value_length(row).unsigned_abs()));
        }
        DataType::Boolean => {
            let flags = array.as_boolean();
            count(&|row| if flags.value(row) { 4 } else { 5 });
        }
        DataType::Int32 => {
            let numbers = array.as_primitive::<Int32Type>();
            count(&|row| digits(i64::from(numbers.value(row))));
        }
        DataType::Int64 => {
            let numbers = array.as_primitive::<Int64Type>();
            count(&|row| digits(numbers.value(row)));
        }
        DataType::Float64 => count(&|_| REAL_BYTES),
        DataType::Timestamp(_, _) => count(&|_| DATETIME_CHARACTERS),
        // A form of text that tables do not keep.
        _ => {
            if let Ok(texts) = cast(array, &DataType::Utf8) {
                add(&texts, sizes);
            }
        }
    }
}

fn digits(number: i64) -> u64 {
    let digits = number.unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
    u64::from(digits) + u64::from(number.is_negative())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Int32Array, Int64Array, TimestampMicrosecondArray};

    #[test]
    fn records_count_for_the_length_of_their_text() {
        let rows = RecordBatch::try_from_iter([
            ("Text", Arc::new(StringArray::from(vec![Some("äb"), None, Some("")])) as ArrayRef),
            ("Flag", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
            ("Int", Arc::new(Int32Array::from(vec![Some(0), Some(-10), None]))),
            ("Long", Arc::new(Int64Array::from(vec![Some(9), Some(i64::MIN), None]))),
            ("Real", Arc::new(Float64Array::from(vec![Some(0.5), None, None]))),
            ("Time", Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None, None]))),
            (TYPE, Arc::new(StringArray::from(vec!["Perf", "Usage", "My_CL"]))),
            ("_ResourceId", Arc::new(StringArray::from(vec!["/a", "/b", "/c"]))),
            (TIME_RECEIVED, Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3]))),
        ])
        .expect("rows");
        let sizes = reckon(BILLED_SIZE, &rows).expect("a column");
        let sizes = sizes.as_primitive::<arrow::datatypes::Float64Type>();
        assert_eq!(sizes.values(), &[3.0 + 4.0 + 1.0 + 1.0 + 8.0 + 28.0, 5.0 + 3.0 + 20.0, 0.0]);
        let billable = reckon(IS_BILLABLE, &rows).expect("a column");
        let billable: Vec<_> = billable.as_string::<i32>().iter().flatten().collect();
        assert_eq!(billable, ["True", "False", "True"]);
        assert!(reckon("Text", &rows).is_none());
    }
}
