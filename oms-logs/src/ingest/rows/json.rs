//! JSON lines.

use super::lines::Lines;
use super::{Row, RowTarget, Source, place};
use oms_core::record::{Record, Value};
use std::io::{self, BufRead};

/// JSON objects, one a line.
#[derive(Debug)]
pub(super) struct Json<R> {
    lines: Lines<R>,
    target: RowTarget,
}

impl<R: BufRead> Json<R> {
    pub(super) const fn new(input: R, target: RowTarget) -> Self {
        Self { lines: Lines::new(input), target }
    }
}

/// The record of one line.
pub(super) fn record(target: &RowTarget, line: &[u8]) -> Result<Record, String> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let RowTarget { schema, computer, now } = target;
    let mut record = Record::new(schema.name().clone(), *now, computer.as_str());
    for (name, value) in object {
        if let Some(value) = value_of(value) {
            place(&mut record, &name, value)?;
        }
    }
    Ok(record)
}

impl<R: BufRead + Send> Source for Json<R> {
    fn next_row(&mut self) -> io::Result<Option<Row>> {
        let Some((number, line)) = self.lines.next_line()? else { return Ok(None) };
        let record = line.and_then(|line| record(&self.target, &line));
        Ok(Some(Row { number, record }))
    }
}

/// A JSON value in the type that it has by itself; none for null.
fn value_of(value: serde_json::Value) -> Option<Value> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(long) => Value::Long(long),
            None => Value::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(text),
        other => Value::Dynamic(other),
    })
}
