//! Comparison of dynamic values with others.

use super::super::arguments::Args;
use super::super::kernel::{KernelFn, call};
use super::super::{of_dynamic, operator, to_dynamic, to_text};
use super::set::Element;
use crate::query::bound::{Comparison, Expr};
use crate::query::diagnostic::Problem;
use crate::query::dynamic::View;
use crate::query::syntax::Span;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;
use std::cmp::Ordering;

/// Binds a comparison of which a side is dynamic. That side is taken in the other's type; numbers
/// are compared as they are, and two dynamic values by kind and value.
pub(in super::super) fn compared(
    comparison: Comparison,
    left: Expr,
    right: Expr,
    span: Span,
) -> Result<Expr, Problem> {
    let other = if left.kql_type == KqlType::Dynamic { right.kql_type } else { left.kql_type };
    match other {
        KqlType::Dynamic | KqlType::Int | KqlType::Long | KqlType::Real | KqlType::Decimal => {
            let (name, kernel): (_, KernelFn) = match comparison {
                Comparison::Equal => {
                    ("dynamic_equal", |args| of_order(args, Some(false), Ordering::is_eq))
                }
                Comparison::NotEqual => {
                    ("dynamic_not_equal", |args| of_order(args, Some(true), Ordering::is_ne))
                }
                Comparison::Less => ("dynamic_less", |args| of_order(args, None, Ordering::is_lt)),
                Comparison::LessOrEqual => {
                    ("dynamic_less_or_equal", |args| of_order(args, None, Ordering::is_le))
                }
                Comparison::Greater => {
                    ("dynamic_greater", |args| of_order(args, None, Ordering::is_gt))
                }
                Comparison::GreaterOrEqual => {
                    ("dynamic_greater_or_equal", |args| of_order(args, None, Ordering::is_ge))
                }
            };
            let arguments = vec![to_dynamic(left), to_dynamic(right)];
            Ok(call(name, kernel, arguments, KqlType::Bool, span))
        }
        KqlType::Guid => operator::compare(comparison, to_text(left), to_text(right), span),
        other => {
            let typed = |side: Expr| {
                if side.kql_type == KqlType::Dynamic { of_dynamic(side, other) } else { side }
            };
            operator::compare(comparison, typed(left), typed(right), span)
        }
    }
}

/// `one_null` is the answer for one null; for two it is null. Text that is a number counts as one
/// beside a number.
fn of_order(
    args: &Args<'_>,
    one_null: Option<bool>,
    accept: fn(Ordering) -> bool,
) -> DfResult<ArrayRef> {
    let (left, right) = (args.dynamic(0)?, args.dynamic(1)?);
    Ok(args.make_bool(|row| match (left.get(row), right.get(row)) {
        (View::Null, View::Null) => None,
        (View::Null, _) | (_, View::Null) => one_null,
        (View::Text(text), number @ (View::Long(_) | View::Real(_))) => {
            Some(accept(number_of(text)?.order(number)))
        }
        (number @ (View::Long(_) | View::Real(_)), View::Text(text)) => {
            Some(accept(number.order(number_of(text)?)))
        }
        (left, right) => Some(accept(left.order(right))),
    }))
}

fn number_of(text: &str) -> Option<View<'_>> {
    let text = text.trim();
    text.parse().map(View::Long).or_else(|_| text.parse().map(View::Real)).ok()
}

/// Binds `value in (array)` for an array that is computed.
pub(crate) fn is_in_array(value: Expr, array: Expr, span: Span) -> Expr {
    call("in_array", in_array, vec![to_dynamic(value), array], KqlType::Bool, span)
}

fn in_array(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (value, array) = (args.dynamic(0)?, args.dynamic(1)?);
    Ok(args.make_bool(|row| {
        let Some(value) = value.bytes(row).map(Element) else { return Some(false) };
        Some(match array.get(row) {
            View::Array(items) => items.iter().any(|item| Element(item) == value),
            View::Null => false,
            _ => array.bytes(row).map(Element) == Some(value),
        })
    }))
}
