//! Dynamic values that functions over text make and take.

use super::arguments::{Args, Column};
use crate::query::dynamic::{Dynamics, Value, View, Writer};
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
    args.make_dynamic(|row, writer| match each(row) {
        Some(json) => write(&json, writer),
        None => writer.null(),
    })
}

/// A dynamic column of values in their own order of members, null where nothing is made.
pub(super) fn make_values(
    args: &Args<'_>,
    mut each: impl FnMut(usize) -> Option<Value>,
) -> Result<ArrayRef> {
    args.make_dynamic(|row, writer| match each(row) {
        Some(value) => writer.value(&value),
        None => writer.null(),
    })
}

/// A dynamic argument as JSON.
#[derive(Debug)]
pub(super) struct Dynamic(Dynamics);

impl Dynamic {
    pub(super) fn read(args: &Args<'_>, at: usize) -> Result<Self> {
        args.dynamic(at).map(Self)
    }

    pub(super) const fn is_single(&self) -> bool {
        self.0.is_single()
    }

    pub(super) fn get(&self, row: usize) -> Json {
        json_of(self.0.get(row))
    }
}

fn write(json: &Json, writer: &mut Writer<'_>) {
    match json {
        Json::Null => writer.null(),
        Json::Bool(value) => writer.bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => writer.long(value),
            (None, value) => writer.real(value.unwrap_or(f64::NAN)),
        },
        Json::String(text) => writer.text(text),
        Json::Array(items) => writer.array(|parts| {
            items.iter().for_each(|item| parts.item(|writer| write(item, writer)));
        }),
        Json::Object(members) => writer.bag(|parts| {
            for (key, value) in members {
                parts.member(key, |writer| write(value, writer));
            }
        }),
    }
}

fn json_of(value: View<'_>) -> Json {
    match value {
        View::Null => Json::Null,
        View::Bool(value) => Json::from(value),
        View::Long(value) => Json::from(value),
        View::Real(value) => Json::from(value),
        View::Array(items) => items.iter().map(|item| json_of(View::of(item))).collect(),
        View::Bag(members) => {
            let members = members.iter();
            let members = members.map(|(key, value)| (key.to_owned(), json_of(View::of(value))));
            Json::Object(members.collect())
        }
        other => Json::from(super::text_of_dynamic(other)),
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
