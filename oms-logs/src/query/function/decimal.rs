//! Conversion, arithmetic and comparison of decimals.

use super::arguments::{Args, Column};
use super::kernel::{KernelFn, call};
use crate::query::bound::Expr;
use crate::query::decimal::Decimal;
use crate::query::syntax::Span;
use crate::query::syntax::ast::BinaryOperator;
use crate::query::types::KqlType;
use datafusion::arrow::array::{ArrayRef, StringViewArray};
use datafusion::common::{Result, exec_err};
use std::cmp::Ordering;

/// A column of decimals.
#[derive(Debug)]
pub(super) struct Decimals(Column<StringViewArray>);

impl Decimals {
    pub(super) fn read(args: &Args<'_>, at: usize) -> Result<Self> {
        args.text(at).map(Self)
    }

    pub(super) fn get(&self, row: usize) -> Option<Decimal> {
        self.0.get(row).parse().ok()
    }
}

pub(super) fn make(args: &Args<'_>, mut each: impl FnMut(usize) -> Option<Decimal>) -> ArrayRef {
    args.make_text(|row| each(row).map(|decimal| decimal.to_string()))
}

/// The value as a decimal; itself if it is one.
pub(super) fn cast(expr: Expr) -> Expr {
    if expr.kql_type == KqlType::Decimal {
        return expr;
    }
    let span = expr.span;
    call("todecimal", to_decimal, vec![expr], KqlType::Decimal, span)
}

pub(super) fn to_decimal(args: &Args<'_>) -> Result<ArrayRef> {
    Ok(match args.kql_type(0)? {
        KqlType::Bool => {
            let value = args.bool(0)?;
            make(args, |row| value.get(row).map(|value| Decimal::of_long(i64::from(value))))
        }
        KqlType::Int | KqlType::Long | KqlType::DateTime | KqlType::TimeSpan => {
            let value = args.long(0)?;
            make(args, |row| value.get(row).map(Decimal::of_long))
        }
        KqlType::Real => {
            let value = args.real(0)?;
            make(args, |row| Decimal::of_real(value.get(row)?))
        }
        KqlType::String | KqlType::Decimal => {
            let value = Decimals::read(args, 0)?;
            make(args, |row| value.get(row))
        }
        KqlType::Dynamic => {
            let value = super::dynamic_text::Dynamic::read(args, 0)?;
            make(args, |row| super::dynamic_text::text_of(&value.get(row)).parse().ok())
        }
        KqlType::Guid => return exec_err!("todecimal does not take guid"),
    })
}

/// `+ - * / %` of two decimals; division by zero is null.
pub(super) fn arithmetic(operator: BinaryOperator, left: Expr, right: Expr, span: Span) -> Expr {
    let (name, kernel): (_, KernelFn) = match operator {
        BinaryOperator::Subtract => {
            ("decimal_subtract", |args| each_pair(args, |a, b| a.add(b.negate())))
        }
        BinaryOperator::Multiply => ("decimal_multiply", |args| each_pair(args, Decimal::multiply)),
        BinaryOperator::Divide => ("decimal_divide", |args| each_pair(args, Decimal::divide)),
        BinaryOperator::Modulo => ("decimal_modulo", |args| each_pair(args, Decimal::modulo)),
        _ => ("decimal_add", |args| each_pair(args, Decimal::add)),
    };
    call(name, kernel, vec![cast(left), cast(right)], KqlType::Decimal, span)
}

pub(super) fn negate(value: Expr, span: Span) -> Expr {
    let kernel: KernelFn = |args| {
        let value = Decimals::read(args, 0)?;
        Ok(make(args, |row| value.get(row).map(Decimal::negate)))
    };
    call("decimal_negate", kernel, vec![value], KqlType::Decimal, span)
}

/// Without its sign.
pub(super) fn absolute(value: Expr, span: Span) -> Expr {
    let kernel: KernelFn = |args| {
        let value = Decimals::read(args, 0)?;
        Ok(make(args, |row| value.get(row).map(Decimal::absolute)))
    };
    call("decimal_absolute", kernel, vec![value], KqlType::Decimal, span)
}

fn each_pair(args: &Args<'_>, f: impl Fn(Decimal, Decimal) -> Option<Decimal>) -> Result<ArrayRef> {
    let (left, right) = (Decimals::read(args, 0)?, Decimals::read(args, 1)?);
    Ok(make(args, |row| f(left.get(row)?, right.get(row)?)))
}

/// The kernel of a decimal to a text by whose order decimals sort.
pub(crate) fn order_key(args: &Args<'_>) -> Result<ArrayRef> {
    let value = Decimals::read(args, 0)?;
    Ok(args.make_text(|row| value.get(row).map(Decimal::order_key)))
}

/// The order of two decimals as they stand in columns.
pub(super) fn order(left: &str, right: &str) -> Option<Ordering> {
    let (left, right): (Decimal, Decimal) = (left.parse().ok()?, right.parse().ok()?);
    Some(left.cmp(&right))
}
