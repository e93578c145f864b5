//! The answer of a query, and its forms for people and for the wire.

use super::bound::Column;
use super::render::Render;
use super::time;
use super::types::KqlType;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use serde_json::Value as Json;
use std::time::Duration;

/// What running a query cost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// The rows of the answer.
    pub rows_returned: usize,
    /// The bytes of the answer in memory.
    pub bytes_returned: usize,
    /// From the text to the last row.
    pub elapsed: Duration,
}

/// The answer of a query.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueryReport {
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Its rows. A `datetime` column that was passed on from storage is a microsecond timestamp,
    /// and one that was computed is an Int64 count of ticks (100 ns since 0001-01-01), which loses
    /// nothing; `timespan` is an Int64 count of ticks; `guid`, `decimal` and `dynamic` (as JSON)
    /// are text. Strings are never null.
    pub batches: Vec<RecordBatch>,
    /// The tables after the first, of a query that has several: `fork`, `facet`, several queries
    /// in one text.
    pub others: Vec<ResultTable>,
    /// How it wants to be shown, if the query says.
    pub render: Option<Render>,
    /// What it cost.
    pub statistics: Statistics,
    /// Whether rows were left out because the answer reached its bound on rows or bytes.
    pub is_partial: bool,
}

/// One of several tables of an answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResultTable {
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Its rows, as in [`QueryReport::batches`].
    pub batches: Vec<RecordBatch>,
}

impl ResultTable {
    /// The rows, as [`QueryReport::rows`] gives them.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<Json>> {
        json_rows(&self.columns, &self.batches)
    }
}

impl QueryReport {
    /// The rows as the query API writes cells: `bool` as true or false, `int` and `long` as numbers,
    /// `real` as a number or `"NaN"`, `"Infinity"`, `"-Infinity"`, `datetime` as ISO 8601 UTC text,
    /// `timespan` as `[-][d.]hh:mm:ss[.fffffff]`, `dynamic` as the JSON value, other types as text.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<Json>> {
        json_rows(&self.columns, &self.batches)
    }

    /// The rows as an aligned table with a heading, for people. Cells longer than
    /// [`Self::CELL_CHARACTERS_MAX`] are cut.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut table = vec![self.columns.iter().map(|column| column.name.clone()).collect()];
        table.extend(self.rows().iter().map(|row| row.iter().map(cell_text).collect::<Vec<_>>()));
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let cells = table.iter().filter_map(|row| row.get(at));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let rule = widths.iter().map(|width| "-".repeat(*width)).collect();
        table.insert(1, rule);
        let mut text = String::new();
        for (at, row) in table.iter().enumerate() {
            let cells =
                row.iter().zip(&widths).zip(&self.columns).map(|((cell, width), column)| {
                    // Numbers stand on the right, but not their headings' rule.
                    if at > 1 && column.kql_type.is_number() {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// The longest cell of [`Self::to_text`], in characters.
    pub const CELL_CHARACTERS_MAX: usize = 120;
}

/// Rows as the query API writes cells.
pub(super) fn json_rows(columns: &[Column], batches: &[RecordBatch]) -> Vec<Vec<Json>> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        let columns: Vec<Cells> = columns
            .iter()
            .zip(batch.columns())
            .map(|(column, array)| Cells::new(column.kql_type, array))
            .collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|cells| cells.json(row)).collect::<Vec<_>>()),
        );
    }
    rows
}

fn cell_text(value: &Json) -> String {
    let text = match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut plain: String = text
        .chars()
        .take(QueryReport::CELL_CHARACTERS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(QueryReport::CELL_CHARACTERS_MAX).is_some() {
        plain.push('…');
    }
    plain
}

/// One column of a batch, ready to be read.
struct Cells {
    kql_type: KqlType,
    array: ArrayRef,
}

impl Cells {
    fn new(kql_type: KqlType, array: &ArrayRef) -> Self {
        let wanted = match (kql_type.computed_type(), array.data_type()) {
            (_, DataType::Timestamp(unit, _)) => DataType::Timestamp(*unit, None),
            (DataType::BinaryView, _) => DataType::Utf8View,
            (wanted, _) => wanted,
        };
        // The plan made the column in a form of its type, so the cast cannot fail.
        let array = cast(array, &wanted)
            .unwrap_or_else(|_| arrow::array::new_null_array(&wanted, array.len()));
        Self { kql_type, array }
    }

    fn long(&self, row: usize) -> i64 {
        self.array.as_primitive::<Int64Type>().value(row)
    }

    fn text(&self, row: usize) -> &str {
        let array: &StringViewArray = self.array.as_string_view();
        array.value(row)
    }

    fn json(&self, row: usize) -> Json {
        if self.array.is_null(row) {
            return if self.kql_type == KqlType::String { Json::from("") } else { Json::Null };
        }
        match self.kql_type {
            KqlType::Bool => Json::from(self.array.as_boolean().value(row)),
            KqlType::Int => Json::from(self.array.as_primitive::<Int32Type>().value(row)),
            KqlType::Long => Json::from(self.long(row)),
            KqlType::Real => json_of_real(self.array.as_primitive::<Float64Type>().value(row)),
            KqlType::DateTime => {
                let ticks = match self.array.as_primitive_opt::<TimestampMicrosecondType>() {
                    Some(micros) => time::ticks_of_micros(micros.value(row)),
                    None => time::in_range(self.long(row)),
                };
                Json::from(ticks.map(|ticks| time::format_datetime(ticks, false)))
            }
            KqlType::TimeSpan => Json::from(time::format_timespan(self.long(row))),
            KqlType::Dynamic => {
                let text = self.text(row);
                serde_json::from_str(text).unwrap_or_else(|_| Json::from(text))
            }
            KqlType::String | KqlType::Guid | KqlType::Decimal => Json::from(self.text(row)),
        }
    }
}

fn json_of_real(value: f64) -> Json {
    if value.is_nan() {
        return Json::from("NaN");
    }
    match serde_json::Number::from_f64(value) {
        Some(number) => Json::Number(number),
        None if value > 0.0 => Json::from("Infinity"),
        None => Json::from("-Infinity"),
    }
}
