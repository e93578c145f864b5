//! Parts of dynamic values, JSON text and back.

use super::super::arguments::Args;
use super::super::kernel::call;
use super::super::{Call, Function, Naming, Parameter, coerce, kernel, of_dynamic, special};
use super::path::Path;
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{Dynamics, View, json_text, of_text, reader, select, select_of_text};
use crate::query::syntax::Span;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;
use std::collections::HashSet;
use std::sync::Arc;

const NAMING: Naming = Naming::FirstArgument;

pub(super) const FUNCTIONS: &[Function] = &[
    special("parse_json", NAMING, bind_parse),
    special("parsejson", NAMING, bind_parse),
    special("todynamic", NAMING, bind_parse),
    special("toobject", NAMING, bind_parse),
    kernel(
        "dynamic_to_json",
        Naming::Default,
        &[Parameter::AsDynamic],
        KqlType::String,
        canonical_json,
    ),
    special("extract_json", Naming::Default, bind_extract),
    special("extractjson", Naming::Default, bind_extract),
    kernel(
        "treepath",
        Naming::PrefixAndFirstArgument("tree"),
        &[Parameter::Dynamic],
        KqlType::Dynamic,
        tree_path,
    ),
];

/// Binds `value.name` and `value[index]`.
pub(crate) fn part(value: Expr, index: Expr, span: Span) -> Result<Expr, Problem> {
    if value.kql_type != KqlType::Dynamic {
        let message = format!("a {} has no parts; only dynamic values have", value.kql_type);
        return Err(Problem::semantic(span, message));
    }
    match index.kql_type {
        KqlType::String => Ok(call("member", member, vec![value, index], KqlType::Dynamic, span)),
        KqlType::Int | KqlType::Long => {
            let index = coerce(index, Parameter::Long, "[]")?;
            Ok(call("item", item, vec![value, index], KqlType::Dynamic, span))
        }
        KqlType::Dynamic => Ok(call("part", any_part, vec![value, index], KqlType::Dynamic, span)),
        other => {
            let message = format!("an index is a string or a whole number, not {other}");
            Err(Problem::semantic(index.span, message))
        }
    }
}

fn member(args: &Args<'_>) -> DfResult<ArrayRef> {
    let key = args.text(1)?;
    if let Some(texts) = args.stored_dynamic(0)? {
        return select_of_text(&texts, |row, text, out| reader::member(text, key.get(row), out));
    }
    let value = args.dynamic(0)?;
    select(&value, args.rows, |row, bytes| View::of(bytes).as_bag()?.get(key.get(row)))
}

fn item(args: &Args<'_>) -> DfResult<ArrayRef> {
    let index = args.long(1)?;
    if let Some(texts) = args.stored_dynamic(0)? {
        return select_of_text(&texts, |row, text, out| {
            index.get(row).is_some_and(|index| reader::item(text, index, out))
        });
    }
    let value = args.dynamic(0)?;
    select(&value, args.rows, |row, bytes| View::of(bytes).as_array()?.at(index.get(row)?))
}

fn any_part(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (value, index) = (args.dynamic(0)?, args.dynamic(1)?);
    select(&value, args.rows, |row, bytes| match (View::of(bytes), index.get(row)) {
        (View::Bag(members), View::Text(key)) => members.get(key),
        (View::Array(items), View::Long(index)) => items.at(index),
        _ => None,
    })
}

fn bind_parse(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, 1)?;
    let argument = arguments.into_iter().next();
    let argument = argument.ok_or_else(|| call.problem("one argument is missing"))?;
    if argument.kql_type != KqlType::String {
        return Ok(super::super::to_dynamic(argument));
    }
    let arguments = vec![argument];
    Ok(self::call("parse_json", parse, arguments, KqlType::Dynamic, call.span))
}

/// JSON text as a value; text that is not JSON is a string, and empty text is null.
fn parse(args: &Args<'_>) -> DfResult<ArrayRef> {
    Ok(Arc::new(of_text(&args.texts(0)?)?))
}

/// The value as JSON with keys in order.
fn canonical_json(args: &Args<'_>) -> DfResult<ArrayRef> {
    fn write(value: View<'_>, out: &mut String) {
        match value {
            View::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write(View::of(item), out);
                }
                out.push(']');
            }
            View::Bag(members) => {
                let mut sorted: Vec<_> = members.iter().collect();
                sorted.sort_unstable_by_key(|(key, _)| *key);
                out.push('{');
                for (at, (key, value)) in sorted.into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    json_text(View::Text(key), out);
                    out.push(':');
                    write(View::of(value), out);
                }
                out.push('}');
            }
            other => json_text(other, out),
        }
    }
    let value = args.dynamic(0)?;
    Ok(args.make_text(|row| {
        let mut text = String::new();
        if !value.is_null(row) {
            write(value.get(row), &mut text);
        }
        Some(text)
    }))
}

/// `extract_json(path, text[, type])`: the value at a path as a string, or in the type.
fn bind_extract(call: &Call<'_>, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, 3)?;
    let wanted = match arguments.len() {
        3 => {
            let name = arguments.pop();
            let name = name.as_ref().and_then(Expr::as_text).and_then(KqlType::of_name);
            name.ok_or_else(|| call.problem(format!("`{}` takes a type third", call.name)))?
        }
        _ => KqlType::String,
    };
    let value = match arguments.pop() {
        Some(value) if value.kql_type == KqlType::String => {
            bind_parse(&Call { name: call.name, span: call.span, now: call.now }, vec![value])?
        }
        Some(value) => coerce(value, Parameter::Dynamic, call.name)?,
        None => return Err(call.problem("an argument is missing")),
    };
    let path = arguments.pop().ok_or_else(|| call.problem("an argument is missing"))?;
    let path = coerce(path, Parameter::Text, call.name)?;
    if let Some(text) = path.as_text()
        && Path::parse(text).is_none()
    {
        return Err(Problem::semantic(path.span, format!("`{text}` is not a JSON path")));
    }
    let arguments = vec![value, path];
    let found = self::call("extract_json", at_path, arguments, KqlType::Dynamic, call.span);
    Ok(of_dynamic(found, wanted))
}

fn at_path(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (value, path) = (args.dynamic(0)?, args.text(1)?);
    let constant = if path.is_single() && args.rows > 0 { Path::parse(path.get(0)) } else { None };
    select(&value, args.rows, |row, bytes| match &constant {
        Some(path) => path.find(bytes),
        None => Path::parse(path.get(row))?.find(bytes),
    })
}

/// The paths of all parts, each before those of its own parts.
/// Paths, each once, in the order in which they come.
#[derive(Default)]
struct Paths {
    all: Vec<String>,
    known: HashSet<String>,
}

impl Paths {
    fn add(&mut self, path: &str) {
        if self.known.insert(path.to_owned()) {
            self.all.push(path.to_owned());
        }
    }
}

fn tree_path(args: &Args<'_>) -> DfResult<ArrayRef> {
    // All items of an array share the path of its first.
    fn collect(value: View<'_>, prefix: &str, found: &mut Paths, bytes: &mut usize) {
        let mut each = |path: String, part: &[u8]| {
            *bytes += path.len();
            if *bytes <= crate::query::dynamic::BYTES_MAX {
                found.add(&path);
                collect(View::of(part), &path, found, bytes);
            }
        };
        match value {
            View::Array(items) => items.iter().for_each(|item| each(format!("{prefix}[0]"), item)),
            View::Bag(members) => {
                members.iter().for_each(|(key, value)| each(format!("{prefix}['{key}']"), value))
            }
            _ => {}
        }
    }
    let value: Dynamics = args.dynamic(0)?;
    args.make_dynamic(|row, writer| {
        let mut found = Paths::default();
        match value.get(row) {
            container @ (View::Array(_) | View::Bag(_)) => {
                collect(container, "", &mut found, &mut 0);
                writer.array(|parts| found.all.iter().for_each(|p| parts.item(|w| w.text(p))));
            }
            _ => writer.null(),
        }
    })
}
