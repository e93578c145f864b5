//! Dynamic values that functions over text make and take.

use super::arguments::{Args, Column};
use crate::query::types::KqlType;
use datafusion::arrow::array::{ArrayRef, StringViewArray};
use datafusion::common::Result;
use serde_json::Value as Json;
use std::borrow::Cow;

/// A dynamic column, null where nothing is made.
pub(super) fn make(
    args: &Args<'_>,
    mut each: impl FnMut(usize) -> Option<Json>,
) -> Result<ArrayRef> {
    Ok(args.make_text(|row| each(row).map(|json| json.to_string())))
}

/// A dynamic argument as JSON.
#[derive(Debug)]
pub(super) struct Dynamic(Column<StringViewArray>);

impl Dynamic {
    pub(super) fn read(args: &Args<'_>, at: usize) -> Result<Self> {
        args.text(at).map(Self)
    }

    pub(super) const fn is_single(&self) -> bool {
        self.0.is_single()
    }

    pub(super) fn get(&self, row: usize) -> Json {
        serde_json::from_str(self.0.get(row)).unwrap_or_default()
    }
}

/// The text of a scalar in JSON, as `tostring` makes it.
pub(super) fn text_of(json: &Json) -> String {
    match json {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

enum Part {
    Text(Column<StringViewArray>),
    Dynamic(Dynamic),
}

/// Texts that are given as arguments, as members of dynamic arrays, or both.
pub(super) struct Items {
    parts: Vec<Part>,
    /// The same for all rows.
    constant: Option<Vec<String>>,
}

impl Items {
    /// The arguments from a position on.
    pub(super) fn read(args: &Args<'_>, from: usize) -> Result<Self> {
        let parts = (from..args.len())
            .map(|at| {
                Ok(match args.kql_type(at)? {
                    KqlType::Dynamic => Part::Dynamic(Dynamic::read(args, at)?),
                    _ => Part::Text(args.text(at)?),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let single = parts.iter().all(|part| match part {
            Part::Text(column) => column.is_single(),
            Part::Dynamic(column) => column.is_single(),
        });
        let mut items = Self { parts, constant: None };
        items.constant = single.then(|| items.of_row(0));
        Ok(items)
    }

    pub(super) fn at(&self, row: usize) -> Cow<'_, [String]> {
        match &self.constant {
            Some(items) => Cow::Borrowed(items),
            None => Cow::Owned(self.of_row(row)),
        }
    }

    fn of_row(&self, row: usize) -> Vec<String> {
        let mut items = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(column) => items.push(column.get(row).to_owned()),
                Part::Dynamic(column) => match column.get(row) {
                    Json::Array(members) => items.extend(members.iter().map(text_of)),
                    Json::Null => {}
                    scalar => items.push(text_of(&scalar)),
                },
            }
        }
        items
    }
}
