//! Columns of a Parquet file that are columns of the table, as they are.

use super::RowTarget;
use super::parquet::{Kind, Parquet, Values};
use crate::ingest::admit::{EXACT, FIELD_BYTES_MAX, OWN_COLUMNS, is_in_range};
use crate::ingest::batch::microseconds;
use crate::schema::{COMPUTER, ColumnType, TIME_GENERATED};
use arrow::array::{
    Array as _, ArrayRef, AsArray as _, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The decoded rows as columns of the table, by their places; none if a value is not what its column
/// holds, so that the rows have to be looked at one by one.
pub(super) fn columns(rows: &Parquet, target: &RowTarget) -> Option<BTreeMap<usize, ArrayRef>> {
    let schema = &target.schema;
    let mut columns = BTreeMap::new();
    for (name, values) in rows.columns() {
        let Values::Array(kind, array) = values else { return None };
        let is_own = OWN_COLUMNS.contains(&name) && ![TIME_GENERATED, COMPUTER].contains(&name);
        if array.null_count() == array.len() {
            continue;
        }
        let place = schema.place(name).filter(|_| !is_own)?;
        let array = as_column(*kind, array, schema.columns().get(place)?.column_type)?;
        // The name stands twice in the file.
        if columns.insert(place, array).is_some() {
            return None;
        }
    }
    let (time, computer) = (schema.place(TIME_GENERATED)?, schema.place(COMPUTER)?);
    let count = rows.left();
    let now = microseconds(target.now);
    let times = match columns.remove(&time) {
        Some(times) if times.null_count() == 0 => times,
        Some(times) => {
            let times = times.as_primitive::<TimestampMicrosecondType>().iter();
            of_times(times.map(|time| time.unwrap_or(now)))
        }
        None => of_times(std::iter::repeat_n(now, count)),
    };
    let given = target.computer.as_str();
    let computers: ArrayRef = match columns.remove(&computer) {
        Some(computers) if computers.null_count() == 0 => computers,
        _ if given.len() > FIELD_BYTES_MAX => return None,
        Some(computers) => {
            let computers = computers.as_string::<i32>().iter();
            Arc::new(StringArray::from_iter_values(computers.map(|text| text.unwrap_or(given))))
        }
        None => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(given, count))),
    };
    columns.insert(time, times);
    columns.insert(computer, computers);
    Some(columns)
}

fn of_times(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
}

/// The values in the form that the column keeps; none if one of them does not fit.
fn as_column(kind: Kind, array: &ArrayRef, column: ColumnType) -> Option<ArrayRef> {
    let numbers = || array.as_primitive::<Int64Type>();
    match (column, kind) {
        (ColumnType::Bool, Kind::Bool)
        | (ColumnType::Long, Kind::Long)
        | (ColumnType::Real, Kind::Real) => Some(Arc::clone(array)),
        (ColumnType::String, Kind::Text) => {
            let longest = array.as_string::<i32>().offsets().lengths().max()?;
            (longest <= FIELD_BYTES_MAX).then(|| Arc::clone(array))
        }
        (ColumnType::Int, Kind::Long) => {
            let range = i64::from(i32::MIN)..=i64::from(i32::MAX);
            let fits = range.contains(&min(numbers())?) && range.contains(&max(numbers())?);
            if fits { cast(array, &DataType::Int32).ok() } else { None }
        }
        (ColumnType::Real, Kind::Long) => {
            let range = -EXACT..=EXACT;
            let fits = range.contains(&min(numbers())?) && range.contains(&max(numbers())?);
            if fits { cast(array, &DataType::Float64).ok() } else { None }
        }
        (ColumnType::DateTime, Kind::Micros) => {
            let times = array.as_primitive::<TimestampMicrosecondType>();
            let first = Timestamp::from_microsecond(min(times)?).ok()?;
            let last = Timestamp::from_microsecond(max(times)?);
            (is_in_range(first) && last.is_ok()).then(|| Arc::clone(array))
        }
        (ColumnType::TimeSpan, Kind::Span) => {
            let ticks: Int64Array = numbers().unary(|nanos| nanos / 100);
            Some(Arc::new(ticks))
        }
        _ => None,
    }
}
