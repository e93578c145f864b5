//! The rows of a flow in the form in which a workspace takes them.

use crate::Error;
use crate::query::dynamic::to_json;
use crate::query::{Column, KqlType, time};
use crate::schema::{ColumnType, KQL_TYPE_KEY, TIME_GENERATED};
use arrow::array::{
    Array as _, ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows for a table.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) rows: RecordBatch,
    /// Rows that had no time of their own.
    pub(crate) without_time: u64,
}

/// Rows in computed form as rows of a table, without the text that is empty. Rows that have no
/// `TimeGenerated` get `received`.
///
/// # Errors
/// [`Error::Arrow`].
pub(crate) fn table_rows(
    columns: &[Column],
    rows: &RecordBatch,
    received: Timestamp,
) -> Result<Made, Error> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::<ArrayRef>::new());
    let mut without_time = 0;
    for (column, array) in columns.iter().zip(rows.columns()) {
        let array = match column.name.as_str() {
            TIME_GENERATED => {
                without_time = array.null_count() as u64;
                let received = crate::ingest::batch::microseconds(received);
                times(array, Some(received))
            }
            _ => stored(column.kql_type, array)?,
        };
        let metadata =
            HashMap::from([(KQL_TYPE_KEY.to_owned(), column.kql_type.name().to_owned())]);
        fields.push(
            Field::new(&column.name, array.data_type().clone(), true).with_metadata(metadata),
        );
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let schema = Arc::new(Schema::new(fields));
    let rows = RecordBatch::try_new_with_options(schema, arrays, &options)
        .map_err(Error::arrow("transform"))?;
    Ok(Made { rows, without_time })
}

fn stored(kql_type: KqlType, array: &ArrayRef) -> Result<ArrayRef, Error> {
    Ok(match kql_type {
        KqlType::Bool | KqlType::Int | KqlType::Long | KqlType::Real | KqlType::TimeSpan => {
            Arc::clone(array)
        }
        KqlType::DateTime => times(array, None),
        KqlType::String => {
            let texts = array.as_string_view().iter();
            Arc::new(texts.map(|text| text.filter(|it| !it.is_empty())).collect::<StringArray>())
        }
        KqlType::Guid | KqlType::Decimal => {
            cast(array, &DataType::Utf8).map_err(Error::arrow("transform"))?
        }
        KqlType::Dynamic => {
            let texts = to_json(array.as_binary_view());
            cast(&texts, &ColumnType::Dynamic.arrow()).map_err(Error::arrow("transform"))?
        }
    })
}

/// Ticks as microseconds.
fn times(array: &ArrayRef, otherwise: Option<i64>) -> ArrayRef {
    let ticks = array.as_primitive::<Int64Type>().iter();
    let micros = ticks.map(|ticks| ticks.map(|it| time::micros_of_ticks(it).0).or(otherwise));
    Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
}
