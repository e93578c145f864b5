//! Functions that make arrays and bags.

use super::super::arguments::Args;
use super::super::kernel::call;
use super::super::{Call, Function, Naming, Parameter, coerce, kernel, special, to_dynamic};
use crate::query::bound::{Column, Expr, ExprKind};
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{Dynamics, ITEMS_MAX, View, Writer};
use crate::query::function::string_too_long;
use crate::query::limits::STRING_BYTES_MAX;
use crate::query::syntax::Span;
use crate::query::time;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("pack_array", Naming::Default, &[Parameter::AsDynamic], KqlType::Dynamic, pack_array)
        .repeated(),
    special("bag_pack", Naming::Default, bag_pack),
    special("pack", Naming::Default, bag_pack),
    special("pack_dictionary", Naming::Default, bag_pack),
    special("bag_pack_columns", Naming::Default, bag_pack_columns),
    special("range", Naming::Default, range),
    kernel(
        "repeat",
        Naming::NameAndFirstArgument,
        &[Parameter::AsDynamic, Parameter::Long],
        KqlType::Dynamic,
        repeat,
    ),
    kernel("zip", Naming::Default, &[Parameter::Dynamic], KqlType::Dynamic, zip).repeated(),
    kernel(
        "strcat_array",
        Naming::Default,
        &[Parameter::Dynamic, Parameter::Text],
        KqlType::String,
        strcat_array,
    ),
    kernel(
        "array_strcat",
        Naming::Default,
        &[Parameter::Dynamic, Parameter::Text],
        KqlType::String,
        strcat_array,
    ),
];

/// Every argument from the `from`th on, as dynamic values.
pub(super) fn dynamics(args: &Args<'_>, from: usize) -> DfResult<Vec<Dynamics>> {
    (from..args.len()).map(|at| args.dynamic(at)).collect()
}

fn pack_array(args: &Args<'_>) -> DfResult<ArrayRef> {
    let values = dynamics(args, 0)?;
    args.make_dynamic(|row, writer| {
        writer.array(|parts| {
            for value in &values {
                parts.item(|writer| writer.raw(value.bytes(row).unwrap_or_default()));
            }
        });
    })
}

/// `bag_pack(key, value, …)`
fn bag_pack(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, usize::MAX)?;
    if !arguments.len().is_multiple_of(2) {
        return Err(call.problem(format!("`{}` takes pairs of a key and a value", call.name)));
    }
    let arguments = arguments.into_iter().enumerate().map(|(at, argument)| {
        let parameter = if at % 2 == 0 { Parameter::Text } else { Parameter::AsDynamic };
        coerce(argument, parameter, call.name)
    });
    let arguments = arguments.collect::<Result<_, _>>()?;
    Ok(self::call("bag_pack", pack_pairs, arguments, KqlType::Dynamic, call.span))
}

fn pack_pairs(args: &Args<'_>) -> DfResult<ArrayRef> {
    pack_bag(args, false)
}

fn pack_present_pairs(args: &Args<'_>) -> DfResult<ArrayRef> {
    pack_bag(args, true)
}

/// A bag of pairs of a key and a value; of pairs with one key the last counts.
fn pack_bag(args: &Args<'_>, only_present: bool) -> DfResult<ArrayRef> {
    let pairs = args.len() / 2;
    let keys = (0..pairs).map(|at| args.text(2 * at)).collect::<DfResult<Vec<_>>>()?;
    let values = (0..pairs).map(|at| args.dynamic(2 * at + 1)).collect::<DfResult<Vec<_>>>()?;
    args.make_dynamic(|row, writer| {
        writer.bag(|parts| {
            for (at, (key, value)) in keys.iter().zip(&values).enumerate() {
                let key = key.get(row);
                let again = keys.get(at + 1..).unwrap_or_default();
                let absent = only_present && matches!(value.get(row), View::Null | View::Text(""));
                if !absent && !again.iter().any(|later| later.get(row) == key) {
                    parts.member(key, |writer| writer.raw(value.bytes(row).unwrap_or_default()));
                }
            }
        });
    })
}

/// A bag of columns by their names; without null and empty values if `only_present`.
pub(crate) fn bag_of_columns(columns: &[Column], only_present: bool, span: Span) -> Expr {
    let arguments = columns.iter().flat_map(|column| {
        let value = Expr::column(column.name.clone(), column.kql_type, span);
        [Expr::text(column.name.as_str(), span), to_dynamic(value)]
    });
    let arguments = arguments.collect();
    if only_present {
        return call("pack_present", pack_present_pairs, arguments, KqlType::Dynamic, span);
    }
    call("bag_pack", pack_pairs, arguments, KqlType::Dynamic, span)
}

/// `pack_all([ignore_null_empty])` over the columns of a row.
pub(crate) fn pack_all(
    columns: &[Column],
    arguments: &[Expr],
    span: Span,
) -> Result<Expr, Problem> {
    let only_present = match arguments {
        [] => false,
        [
            Expr {
                kind: ExprKind::Constant(datafusion::scalar::ScalarValue::Boolean(value)), ..
            },
        ] => value.unwrap_or(false),
        _ => return Err(Problem::semantic(span, "`pack_all` takes a constant bool")),
    };
    Ok(bag_of_columns(columns, only_present, span))
}

#[expect(clippy::needless_pass_by_value, reason = "as all functions that bind themselves")]
fn bag_pack_columns(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, usize::MAX)?;
    let columns = arguments.iter().map(|argument| match &argument.kind {
        ExprKind::Column(name) => Ok(Column::new(name, argument.kql_type)),
        _ => Err(Problem::semantic(argument.span, "`bag_pack_columns` takes columns")),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(bag_of_columns(&columns, false, call.span))
}

/// `range(start, stop[, step])` as an array, of at most [`ITEMS_MAX`] items.
fn range(call: &Call<'_>, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
    use KqlType as T;
    call.arity(arguments.len(), 2, 3)?;
    let is_time = |at: usize| {
        let given = arguments.get(at).map(|argument| argument.kql_type);
        matches!(given, Some(T::DateTime | T::TimeSpan))
    };
    let (time, real) = (is_time(0), arguments.iter().any(|a| a.kql_type == T::Real));
    if arguments.len() == 2 {
        let step = if time { time::TICKS_PER_HOUR } else { 1 };
        let kql_type = if time { T::TimeSpan } else { T::Long };
        arguments.push(Expr { kql_type, ..Expr::long(step, call.span) });
    }
    let first = arguments.first().map_or(T::Long, |argument| argument.kql_type);
    let parameters = match first {
        T::DateTime => [Parameter::DateTime, Parameter::DateTime, Parameter::TimeSpan],
        T::TimeSpan => [Parameter::TimeSpan; 3],
        _ if real => [Parameter::Real; 3],
        _ => [Parameter::Long; 3],
    };
    let arguments = arguments.into_iter().zip(parameters);
    let arguments = arguments.map(|(argument, parameter)| coerce(argument, parameter, call.name));
    let arguments = arguments.collect::<Result<_, _>>()?;
    Ok(self::call("range", range_of, arguments, T::Dynamic, call.span))
}

fn range_of(args: &Args<'_>) -> DfResult<ArrayRef> {
    let kql_type = args.kql_type(0)?;
    if kql_type == KqlType::Real {
        let (first, last, step) = (args.real(0)?, args.real(1)?, args.real(2)?);
        return args.make_dynamic(|row, writer| {
            match (first.get(row), last.get(row), step.get(row)) {
                (Some(first), Some(last), Some(step)) if step != 0.0 && step.is_finite() => {
                    writer.array(|parts| {
                        let mut at = 0.0;
                        let mut value = first;
                        let mut count = 0;
                        while count < ITEMS_MAX
                            && if step > 0.0 { value <= last } else { value >= last }
                        {
                            parts.item(|writer| writer.real(value));
                            count += 1;
                            at += 1.0;
                            value = first + at * step;
                        }
                    });
                }
                _ => writer.null(),
            }
        });
    }
    let (first, last, step) = (args.long(0)?, args.long(1)?, args.long(2)?);
    let write = |writer: &mut Writer<'_>, value: i64| match kql_type {
        KqlType::DateTime => writer.datetime(value),
        KqlType::TimeSpan => writer.timespan(value),
        _ => writer.long(value),
    };
    args.make_dynamic(|row, writer| match (first.get(row), last.get(row), step.get(row)) {
        (Some(first), Some(last), Some(step)) if step != 0 => writer.array(|parts| {
            let within = |value: &i64| if step > 0 { *value <= last } else { *value >= last };
            let values = std::iter::successors(Some(first), |value| value.checked_add(step));
            for value in values.take_while(within).take(ITEMS_MAX) {
                parts.item(|writer| write(writer, value));
            }
        }),
        _ => writer.null(),
    })
}

fn repeat(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (value, count) = (args.dynamic(0)?, args.long(1)?);
    args.make_dynamic(|row, writer| {
        match count.get(row).and_then(|count| usize::try_from(count).ok()) {
            Some(count) => writer.array(|parts| {
                let bytes = value.bytes(row).unwrap_or_default();
                let most = crate::query::dynamic::BYTES_MAX;
                for _ in 0..count.min(ITEMS_MAX) {
                    if parts.len() > most {
                        break;
                    }
                    parts.item(|writer| writer.raw(bytes));
                }
            }),
            None => writer.null(),
        }
    })
}

/// An array of the arrays of the items of one place; a shorter array gives nulls.
fn zip(args: &Args<'_>) -> DfResult<ArrayRef> {
    let arrays = dynamics(args, 0)?;
    args.make_dynamic(|row, writer| {
        let items: Vec<_> = arrays.iter().map(|array| array.get(row).as_array()).collect();
        let Some(longest) = items.iter().flatten().map(|items| items.len()).max() else {
            return writer.null();
        };
        writer.array(|parts| {
            for at in 0..longest {
                parts.item(|writer| {
                    writer.array(|parts| {
                        for items in &items {
                            let bytes = items.and_then(|items| items.get(at));
                            parts.item(|writer| writer.raw(bytes.unwrap_or_default()));
                        }
                    });
                });
            }
        });
    })
}

/// The items as text with a delimiter between them; a null item is empty text.
fn strcat_array(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (array, delimiter) = (args.dynamic(0)?, args.text(1)?);
    args.try_text(|row| {
        let mut text = String::new();
        if let View::Array(items) = array.get(row) {
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push_str(delimiter.get(row));
                }
                text.push_str(&super::super::text_of_dynamic(View::of(item)));
                if text.len() > STRING_BYTES_MAX {
                    return Err(string_too_long("strcat_array"));
                }
            }
        }
        Ok(Some(text))
    })
}
