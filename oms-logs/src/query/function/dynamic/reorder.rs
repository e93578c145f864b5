//! `array_sort_asc` and `array_sort_desc`, which sort several arrays by the first.

use super::super::arguments::Args;
use super::super::kernel::call;
use super::super::{Call, Function, Naming, Parameter, Several, coerce, several};
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::dynamic::View;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;
use std::cmp::Ordering;

pub(super) const FUNCTIONS: &[Function] = &[
    several("array_sort_asc", Naming::Default, |call, arguments, names| {
        sorted(call, arguments, names, false)
    }),
    several("array_sort_desc", Naming::Default, |call, arguments, names| {
        sorted(call, arguments, names, true)
    }),
];

/// One column for each array, called like it with `_sorted` after.
fn sorted(
    call: &Call<'_>,
    mut arguments: Vec<Expr>,
    names: &[Option<String>],
    descending: bool,
) -> Result<Several, Problem> {
    call.arity(arguments.len(), 1, usize::MAX)?;
    let nulls_last = match arguments.pop() {
        Some(last) if last.kql_type == KqlType::Bool && !arguments.is_empty() => last,
        Some(last) => {
            arguments.push(last);
            Expr::bool(true, call.span)
        }
        None => return Err(call.problem("one argument is missing")),
    };
    let arrays = arguments.into_iter();
    let arrays = arrays.map(|argument| coerce(argument, Parameter::Dynamic, call.name));
    let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
    let first = arrays.first().cloned().ok_or_else(|| call.problem("an array is missing"))?;
    let columns = arrays.into_iter().enumerate().map(|(at, array)| {
        let (name, kernel): (_, super::super::KernelFn) = if descending {
            ("array_sort_desc", sort_descending)
        } else {
            ("array_sort_asc", sort_ascending)
        };
        let arguments = vec![first.clone(), array, nulls_last.clone()];
        let value = self::call(name, kernel, arguments, KqlType::Dynamic, call.span);
        let of = names.get(at).cloned().flatten();
        (of.map(|of| format!("{of}_sorted")).unwrap_or_default(), value)
    });
    Ok(Several { columns: columns.collect() })
}

fn sort_ascending(args: &Args<'_>) -> DfResult<ArrayRef> {
    sort(args, false)
}

fn sort_descending(args: &Args<'_>) -> DfResult<ArrayRef> {
    sort(args, true)
}

/// Kinds in the order in which they are sorted.
const fn class(value: View<'_>) -> u8 {
    match value {
        View::Long(_) | View::Real(_) | View::Decimal(_) | View::Bool(_) => 0,
        View::DateTime(_) | View::TimeSpan(_) => 1,
        View::Text(_) => 2,
        View::Guid(_) => 3,
        _ => 4,
    }
}

/// The second array in the order of the first; null if they are not equally long.
fn sort(args: &Args<'_>, descending: bool) -> DfResult<ArrayRef> {
    let (by, array, nulls_last) = (args.dynamic(0)?, args.dynamic(1)?, args.bool(2)?);
    args.make_dynamic(|row, writer| {
        let (View::Array(by), View::Array(items)) = (by.get(row), array.get(row)) else {
            return writer.null();
        };
        if by.len() != items.len() {
            return writer.null();
        }
        let nulls_last = nulls_last.get(row).unwrap_or(true);
        let mut places: Vec<(View<'_>, usize)> = by.iter().map(View::of).zip(0..).collect();
        places.sort_by(|(a, _), (b, _)| match (a, b) {
            (View::Null, View::Null) => Ordering::Equal,
            (View::Null, _) if nulls_last => Ordering::Greater,
            (View::Null, _) => Ordering::Less,
            (_, View::Null) if nulls_last => Ordering::Less,
            (_, View::Null) => Ordering::Greater,
            (a, b) => class(*a).cmp(&class(*b)).then_with(|| {
                let order = a.order(*b);
                if descending { order.reverse() } else { order }
            }),
        });
        writer.array(|parts| {
            for (_, at) in &places {
                parts.item(|writer| writer.raw(items.get(*at).unwrap_or_default()));
            }
        });
    })
}
