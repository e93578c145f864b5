//! What the columns of a file are: those of the table, and for the rest what the first rows show.

use super::text;
use crate::schema::{ColumnType, TableSchema};
use oms_core::record::{Record, Value};
use std::collections::HashMap;

/// The type that each column's values become. A column that is not there keeps its values as they
/// are.
#[derive(Debug)]
pub(super) struct Columns {
    types: HashMap<String, ColumnType>,
}

/// What was seen of one column.
#[derive(Debug, Default)]
struct Seen {
    has_real: bool,
    has_long: bool,
    has_other: bool,
}

impl Columns {
    pub(super) fn new<'a>(schema: &TableSchema, records: impl Iterator<Item = &'a Record>) -> Self {
        let mut seen: HashMap<&str, Seen> = HashMap::new();
        for record in records {
            for (name, value) in &record.fields {
                let of_column = seen.entry(name).or_default();
                match value {
                    Value::Long(_) | Value::Int(_) => of_column.has_long = true,
                    Value::Real(_) => of_column.has_real = true,
                    _ => of_column.has_other = true,
                }
            }
        }
        let mut types: HashMap<String, ColumnType> = schema
            .columns()
            .iter()
            .map(|column| (column.name.clone(), column.column_type))
            .collect();
        for (name, seen) in seen {
            // Whole numbers beside fractions: the column is of fractions.
            if seen.has_real && seen.has_long && !seen.has_other && !types.contains_key(name) {
                types.insert(name.to_owned(), ColumnType::Real);
            }
        }
        Self { types }
    }

    /// Makes the values of text, and whole numbers beside fractions, what their columns hold.
    pub(super) fn convert(&self, mut record: Record) -> Result<Record, String> {
        for (name, value) in &mut record.fields {
            let Some(column) = self.types.get(name) else { continue };
            match (column, &*value) {
                // A string is a dynamic value as it is.
                (
                    ColumnType::String | ColumnType::Decimal | ColumnType::Dynamic,
                    Value::String(_),
                ) => {}
                (_, Value::String(given)) => {
                    let made = text::value(*column, given);
                    *value = made.ok_or_else(|| text::misfit(name, *column, given))?;
                }
                (ColumnType::Real, Value::Long(number)) => {
                    // One that a double does not hold stays, and the table refuses it.
                    let real = *number as f64;
                    if real as i64 == *number {
                        *value = Value::Real(real);
                    }
                }
                _ => {}
            }
        }
        Ok(record)
    }
}

/// Which type a column of text has, by some of its texts: the narrowest that fits all of them.
pub(super) fn guess<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> ColumnType {
    let mut given = texts.filter(|text| !text.trim().is_empty()).peekable();
    if given.peek().is_none() {
        return ColumnType::String;
    }
    let fits = |column: &ColumnType| given.clone().all(|text| text::looks_like(*column, text));
    text::GUESSES.into_iter().find(fits).unwrap_or(ColumnType::String)
}
