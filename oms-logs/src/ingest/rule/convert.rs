//! JSON records as a stream's declared columns.

use super::TEXT_BYTES_MAX;
use crate::query::dynamic::of_text;
use crate::query::{Column, KqlType, time, transform_schema};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringViewArray, StringViewBuilder,
};
use arrow::error::ArrowError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many fields that are not declared are told by name; the others are counted together.
const UNKNOWN_TOLD_MAX: usize = 10;

/// Records as columns in computed form, and what they lost on the way.
#[derive(Debug)]
pub(crate) struct Converted {
    pub(crate) rows: RecordBatch,
    /// What was left out or changed, with the count of records.
    pub(crate) changes: BTreeMap<String, u64>,
}

/// Brings records into the declared columns.
///
/// # Errors
/// The place of a record that is no object, and why.
pub(crate) fn convert(
    stream: &str,
    columns: &[Column],
    records: &[Value],
) -> Result<Converted, (usize, String)> {
    let mut objects = Vec::with_capacity(records.len());
    for (index, record) in records.iter().enumerate() {
        let object = record.as_object();
        objects.push(object.ok_or_else(|| (index, "is not an object".to_owned()))?);
    }
    let mut changes = unknown(stream, columns, &objects);
    let mut arrays = Vec::with_capacity(columns.len());
    for column in columns {
        let values = objects.iter().map(|object| object.get(&column.name));
        let mut losses = Losses::default();
        let array = array(column.kql_type, values, &mut losses);
        arrays.push(array.map_err(|error| (0, error.to_string()))?);
        let Losses { misfits, cut } = losses;
        let name = &column.name;
        if misfits > 0 {
            let reason = format!("a value of `{name}` is no {} and became null", column.kql_type);
            changes.insert(reason, misfits);
        }
        if cut > 0 {
            changes.insert(format!("a text of `{name}` was cut to {TEXT_BYTES_MAX} bytes"), cut);
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(records.len()));
    let rows = RecordBatch::try_new_with_options(transform_schema(columns), arrays, &options);
    Ok(Converted { rows: rows.map_err(|error| (0, error.to_string()))?, changes })
}

/// The fields that the stream does not declare.
fn unknown(
    stream: &str,
    columns: &[Column],
    objects: &[&Map<String, Value>],
) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::<&str, u64>::new();
    let declared: std::collections::HashSet<&str> =
        columns.iter().map(|column| column.name.as_str()).collect();
    for name in objects.iter().flat_map(|object| object.keys()) {
        if !declared.contains(name.as_str()) {
            *counts.entry(name).or_default() += 1;
        }
    }
    let mut changes = BTreeMap::new();
    for (at, (name, count)) in counts.into_iter().enumerate() {
        let reason = match at < UNKNOWN_TOLD_MAX {
            true => {
                let name: String = name.chars().take(100).collect();
                format!("field `{name}` is not declared by stream {stream} and was left out")
            }
            false => format!("more fields are not declared by stream {stream} and were left out"),
        };
        *changes.entry(reason).or_default() += count;
    }
    changes
}

#[derive(Debug, Default)]
struct Losses {
    misfits: u64,
    cut: u64,
}

impl Losses {
    /// The values that can be brought into another form; the others are null.
    fn each<T>(
        &mut self,
        value: Option<&Value>,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = value.filter(|value| !value.is_null())?;
        let converted = convert(value);
        self.misfits += u64::from(converted.is_none());
        converted
    }
}

fn array<'v>(
    kql_type: KqlType,
    values: impl ExactSizeIterator<Item = Option<&'v Value>>,
    losses: &mut Losses,
) -> Result<ArrayRef, ArrowError> {
    Ok(match kql_type {
        KqlType::Bool => {
            Arc::new(values.map(|value| losses.each(value, flag)).collect::<BooleanArray>())
        }
        KqlType::Int => {
            let int = |value: &Value| whole(value).and_then(|number| i32::try_from(number).ok());
            Arc::new(values.map(|value| losses.each(value, int)).collect::<Int32Array>())
        }
        KqlType::Long => {
            Arc::new(values.map(|value| losses.each(value, whole)).collect::<Int64Array>())
        }
        KqlType::Real => {
            Arc::new(values.map(|value| losses.each(value, real)).collect::<Float64Array>())
        }
        KqlType::DateTime => {
            let ticks = |value: &Value| time::parse_datetime(value.as_str()?);
            Arc::new(values.map(|value| losses.each(value, ticks)).collect::<Int64Array>())
        }
        KqlType::TimeSpan => {
            let ticks = |value: &Value| time::parse_timespan(value.as_str()?);
            Arc::new(values.map(|value| losses.each(value, ticks)).collect::<Int64Array>())
        }
        KqlType::Dynamic => {
            let texts = values.map(|value| value.filter(|it| !it.is_null()).map(Value::to_string));
            let texts: StringViewArray = texts.collect();
            Arc::new(of_text(&texts).map_err(|error| ArrowError::ExternalError(Box::new(error)))?)
        }
        KqlType::Guid => {
            let guid = |value: &Value| uuid::Uuid::parse_str(value.as_str()?).ok();
            let texts = values
                .map(|value| losses.each(value, guid).map(|id| id.as_hyphenated().to_string()));
            Arc::new(texts.collect::<StringViewArray>())
        }
        KqlType::Decimal => {
            let decimal = |value: &Value| {
                let text = text_of(value);
                crate::ingest::admit::is_decimal(&text).then_some(text)
            };
            let texts = values.map(|value| losses.each(value, decimal));
            Arc::new(texts.collect::<StringViewArray>())
        }
        KqlType::String => {
            let mut builder = StringViewBuilder::with_capacity(values.len());
            for value in values {
                match value {
                    None | Some(Value::Null) => builder.append_value(""),
                    Some(Value::String(text)) => builder.append_value(cut(text, losses)),
                    Some(other) => builder.append_value(cut(&other.to_string(), losses)),
                }
            }
            Arc::new(builder.finish())
        }
    })
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The text, or as much of it as is taken.
fn cut<'t>(text: &'t str, losses: &mut Losses) -> &'t str {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    losses.cut += 1;
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        other => match whole(other) {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
    }
}

/// A whole number that a `long` holds.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| whole_real(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| whole_real(text.parse().ok()?))
        }
        _ => None,
    }
}

/// Beyond 2^53 a real is not known to the last digit, and so is no whole number.
fn whole_real(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

fn real(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
