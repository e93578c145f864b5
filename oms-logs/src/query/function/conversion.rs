//! Conversions between types. What cannot be converted is null.

use super::arguments::Args;
use super::kernel::{KernelFn, call};
use super::{Call, Function, Naming, Parameter, decimal, kernel, special};
use crate::query::bound::Expr;
use crate::query::decimal::Decimal;
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{View, json_text};
use crate::query::time;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;
use std::sync::Arc;

pub(super) const FUNCTIONS: &[Function] = &[
    special("tostring", Naming::FirstArgument, bind_to_text),
    kernel("tobool", Naming::FirstArgument, &[Parameter::Any], KqlType::Bool, to_bool),
    kernel("toboolean", Naming::FirstArgument, &[Parameter::Any], KqlType::Bool, to_bool),
    kernel("toint", Naming::FirstArgument, &[Parameter::Any], KqlType::Int, to_int),
    kernel("tolong", Naming::FirstArgument, &[Parameter::Any], KqlType::Long, to_long),
    kernel("toreal", Naming::FirstArgument, &[Parameter::Any], KqlType::Real, to_real),
    kernel("todouble", Naming::FirstArgument, &[Parameter::Any], KqlType::Real, to_real),
    kernel("todatetime", Naming::FirstArgument, &[Parameter::Any], KqlType::DateTime, to_datetime),
    kernel("totimespan", Naming::FirstArgument, &[Parameter::Any], KqlType::TimeSpan, to_timespan),
    kernel("totime", Naming::FirstArgument, &[Parameter::Any], KqlType::TimeSpan, to_timespan),
    kernel("toguid", Naming::FirstArgument, &[Parameter::Any], KqlType::Guid, to_guid),
    special("todecimal", Naming::FirstArgument, |call, arguments| {
        let value = only(call, arguments)?;
        match value.kql_type {
            KqlType::Guid => Err(call.problem("`todecimal` does not take guid")),
            _ => Ok(decimal::cast(value)),
        }
    }),
    special("tohex", Naming::FirstArgument, bind_to_hex),
    special("gettype", Naming::PrefixAndFirstArgument("type"), get_type),
];

/// The value as text; a string stays what it is, and null is the empty string.
pub(crate) fn to_text(expr: Expr) -> Expr {
    if expr.kql_type == KqlType::String {
        return expr;
    }
    let span = expr.span;
    call("tostring", text_of, vec![expr], KqlType::String, span)
}

/// The value as a dynamic one, which keeps its type.
pub(crate) fn to_dynamic(expr: Expr) -> Expr {
    if expr.kql_type == KqlType::Dynamic {
        return expr;
    }
    let span = expr.span;
    call("pack_value", dynamic_of_any, vec![expr], KqlType::Dynamic, span)
}

fn dynamic_of_any(args: &Args<'_>) -> Result<ArrayRef> {
    Ok(Arc::new(args.as_dynamic(0)?.array().clone()))
}

/// The dynamic value in another type, or null if it has no counterpart there.
pub(crate) fn of_dynamic(expr: Expr, kql_type: KqlType) -> Expr {
    let (name, kernel): (_, KernelFn) = match kql_type {
        KqlType::Bool => ("tobool", to_bool),
        KqlType::Int => ("toint", to_int),
        KqlType::Long => ("tolong", to_long),
        KqlType::Real => ("toreal", to_real),
        KqlType::DateTime => ("todatetime", to_datetime),
        KqlType::TimeSpan => ("totimespan", to_timespan),
        KqlType::Guid => ("toguid", to_guid),
        KqlType::Decimal => return decimal::cast(expr),
        KqlType::String => return to_text(expr),
        KqlType::Dynamic => return expr,
    };
    let span = expr.span;
    call(name, kernel, vec![expr], kql_type, span)
}

fn only(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, 1)?;
    let [argument] = <[Expr; 1]>::try_from(arguments).map_err(|_| call.problem("one argument"))?;
    Ok(argument)
}

fn bind_to_text(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    only(call, arguments).map(to_text)
}

/// The value in another type, null if it has no counterpart there.
pub(super) fn convert(value: Expr, kql_type: KqlType) -> Result<Expr, Problem> {
    let (name, kernel): (_, KernelFn) = match kql_type {
        _ if value.kql_type == kql_type => return Ok(value),
        KqlType::String => return Ok(to_text(value)),
        KqlType::Decimal => return Ok(decimal::cast(value)),
        KqlType::Bool => ("tobool", to_bool),
        KqlType::Int => ("toint", to_int),
        KqlType::Long => ("tolong", to_long),
        KqlType::Real => ("toreal", to_real),
        KqlType::DateTime => ("todatetime", to_datetime),
        KqlType::TimeSpan => ("totimespan", to_timespan),
        KqlType::Guid => ("toguid", to_guid),
        KqlType::Dynamic => return Ok(to_dynamic(value)),
    };
    let span = value.span;
    Ok(call(name, kernel, vec![value], kql_type, span))
}

/// The real nearest to a decimal.
pub(super) fn real_of_decimal(value: Expr) -> Expr {
    let span = value.span;
    call("toreal", to_real, vec![value], KqlType::Real, span)
}

/// `tohex(value[, digits])`: an int has eight digits where it is negative, a long sixteen.
fn bind_to_hex(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, 2)?;
    for argument in &arguments {
        if !matches!(argument.kql_type, KqlType::Int | KqlType::Long) {
            let message = format!("`tohex` takes int or long, not {}", argument.kql_type);
            return Err(Problem::semantic(argument.span, message));
        }
    }
    Ok(self::call("tohex", to_hex, arguments, KqlType::String, call.span))
}

fn to_hex(args: &Args<'_>) -> Result<ArrayRef> {
    let value = args.long(0)?;
    let digits = if args.len() > 1 { Some(args.long(1)?) } else { None };
    let bits = if args.kql_type(0)? == KqlType::Int { u64::from(u32::MAX) } else { u64::MAX };
    Ok(args.make_text(|row| {
        let value = value.get(row)?.cast_unsigned() & bits;
        let width = match &digits {
            Some(digits) => usize::try_from(digits.get(row)?.clamp(0, 16)).unwrap_or(0),
            None => 0,
        };
        Some(format!("{value:0width$x}"))
    }))
}

fn get_type(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, 1)?;
    let kql_type = arguments.first().map_or(KqlType::String, |argument| argument.kql_type);
    if kql_type == KqlType::Dynamic {
        return Ok(self::call("gettype", type_of, arguments, KqlType::String, call.span));
    }
    Ok(Expr::text(kql_type.name(), call.span))
}

fn type_of(args: &Args<'_>) -> Result<ArrayRef> {
    let value = args.dynamic(0)?;
    Ok(args.make_text(|row| Some(value.get(row).type_name())))
}

/// A number with the digits that are needed to read the same number back, and at least one decimal.
/// Where several numbers of as many digits would do, the engine writes the largest.
pub(super) fn format_real(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    let text = format!("{value:?}");
    let mantissa = text.find('e').unwrap_or(text.len());
    // With fewer digits there is no choice.
    if !value.is_finite() || mantissa < 16 {
        return text;
    }
    let (mantissa, exponent) = text.split_at(mantissa);
    let Some((rest, last)) = mantissa.split_at_checked(mantissa.len() - 1) else {
        return text;
    };
    let first = last.bytes().next().unwrap_or(b'9');
    let same = |digit: &u8| {
        let text = format!("{rest}{}{exponent}", char::from(*digit));
        text.parse() == Ok(value)
    };
    let digit = (first..=b'9').take_while(same).last().unwrap_or(first);
    format!("{rest}{}{exponent}", char::from(digit))
}

fn text_of(args: &Args<'_>) -> Result<ArrayRef> {
    Ok(match args.kql_type(0)? {
        KqlType::Bool => {
            let value = args.bool(0)?;
            args.make_text(|row| {
                Some(value.get(row).map_or("", |v| if v { "True" } else { "False" }))
            })
        }
        KqlType::Int | KqlType::Long => {
            let value = args.long(0)?;
            args.make_text(|row| Some(value.get(row).map(|v| v.to_string()).unwrap_or_default()))
        }
        KqlType::Real => {
            let value = args.real(0)?;
            args.make_text(|row| Some(value.get(row).map(format_real).unwrap_or_default()))
        }
        KqlType::DateTime => {
            let value = args.long(0)?;
            args.make_text(|row| {
                Some(value.get(row).map(|t| time::format_datetime(t, true)).unwrap_or_default())
            })
        }
        KqlType::TimeSpan => {
            let value = args.long(0)?;
            args.make_text(|row| {
                Some(value.get(row).map(time::format_timespan).unwrap_or_default())
            })
        }
        KqlType::Dynamic => {
            let value = args.dynamic(0)?;
            args.make_text(|row| Some(text_of_dynamic(value.get(row))))
        }
        KqlType::String | KqlType::Guid | KqlType::Decimal => {
            let value = args.text(0)?;
            args.make_text(|row| Some(value.get(row)))
        }
    })
}

/// What a dynamic value is among scalars.
enum Scalar {
    None,
    Bool(bool),
    Long(i64),
    Real(f64),
    Text(String),
}

fn scalar_of(value: View<'_>) -> Scalar {
    match value {
        View::Bool(value) => Scalar::Bool(value),
        View::Long(value) | View::DateTime(value) | View::TimeSpan(value) => Scalar::Long(value),
        View::Real(value) => Scalar::Real(value),
        View::Decimal(digits) => digits.parse().map_or(Scalar::None, Scalar::Real),
        View::Text(text) => Scalar::Text(text.to_owned()),
        View::Null | View::Guid(_) | View::Array(_) | View::Bag(_) => Scalar::None,
    }
}

/// A dynamic string or typed value without quotes; null as nothing; anything else as JSON.
pub(crate) fn text_of_dynamic(value: View<'_>) -> String {
    match value {
        View::Null => String::new(),
        View::Text(text) | View::Decimal(text) => text.to_owned(),
        View::DateTime(ticks) => time::format_datetime(ticks, true),
        View::TimeSpan(ticks) => time::format_timespan(ticks),
        View::Guid(value) => value.to_string(),
        View::Real(value) => format_real(value),
        other => {
            let mut text = String::new();
            json_text(other, &mut text);
            text
        }
    }
}

fn to_bool(args: &Args<'_>) -> Result<ArrayRef> {
    Ok(match args.kql_type(0)? {
        KqlType::Bool => {
            let value = args.bool(0)?;
            args.make_bool(|row| value.get(row))
        }
        KqlType::Int | KqlType::Long => {
            let value = args.long(0)?;
            args.make_bool(|row| value.get(row).map(|v| v != 0))
        }
        KqlType::Real => {
            let value = args.real(0)?;
            args.make_bool(|row| value.get(row).map(|v| v != 0.0))
        }
        KqlType::String => {
            let value = args.text(0)?;
            args.make_bool(|row| parse_bool(value.get(row)))
        }
        KqlType::Dynamic => {
            let value = args.dynamic(0)?;
            args.make_bool(|row| match scalar_of(value.get(row)) {
                Scalar::None => None,
                Scalar::Bool(value) => Some(value),
                Scalar::Long(value) => Some(value != 0),
                Scalar::Real(value) => Some(value != 0.0),
                Scalar::Text(text) => parse_bool(&text),
            })
        }
        KqlType::DateTime | KqlType::TimeSpan => {
            let value = args.long(0)?;
            args.make_bool(|row| value.get(row).map(|value| value != 0))
        }
        KqlType::Decimal => {
            let value = decimal::Decimals::read(args, 0)?;
            args.make_bool(|row| value.get(row).map(|value| value != Decimal::of_long(0)))
        }
        KqlType::Guid => args.make_bool(|_| None),
    })
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        number => parse_long(number).map(|value| value != 0),
    }
}

/// An integer, decimal or `0x` hexadecimal, with blanks around it.
fn parse_long(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(u64::cast_signed),
        None => text.parse().ok(),
    }
}

/// The real cut off at its decimal point, at most the largest and at least the smallest long.
#[expect(clippy::cast_possible_truncation, reason = "saturates, as the language does")]
fn long_of_real(value: f64) -> Option<i64> {
    (!value.is_nan()).then_some(value as i64)
}

fn long_at(args: &Args<'_>) -> Result<Box<dyn Fn(usize) -> Option<i64>>> {
    Ok(match args.kql_type(0)? {
        KqlType::Bool => {
            let value = args.bool(0)?;
            Box::new(move |row| value.get(row).map(i64::from))
        }
        KqlType::Real => {
            let value = args.real(0)?;
            Box::new(move |row| value.get(row).and_then(long_of_real))
        }
        KqlType::Int | KqlType::Long | KqlType::DateTime | KqlType::TimeSpan => {
            let value = args.long(0)?;
            Box::new(move |row| value.get(row))
        }
        KqlType::String => {
            let value = args.text(0)?;
            Box::new(move |row| parse_long(value.get(row)))
        }
        KqlType::Dynamic => {
            let value = args.dynamic(0)?;
            Box::new(move |row| match scalar_of(value.get(row)) {
                Scalar::None => None,
                Scalar::Bool(value) => Some(i64::from(value)),
                Scalar::Long(value) => Some(value),
                Scalar::Real(value) => long_of_real(value),
                Scalar::Text(text) => parse_long(&text),
            })
        }
        KqlType::Decimal => {
            let value = decimal::Decimals::read(args, 0)?;
            Box::new(move |row| value.get(row).map(Decimal::to_long))
        }
        KqlType::Guid => Box::new(|_| None),
    })
}

fn to_long(args: &Args<'_>) -> Result<ArrayRef> {
    let value = long_at(args)?;
    Ok(args.make_long(value))
}

/// A long is cut to its lower 32 bits, a real to the nearest int, and text must be an int.
fn to_int(args: &Args<'_>) -> Result<ArrayRef> {
    #[expect(clippy::cast_possible_truncation, reason = "the language keeps the lower 32 bits")]
    let lower_bits = |value: i64| Some(value as i32);
    Ok(match args.kql_type(0)? {
        KqlType::String => {
            let value = args.text(0)?;
            args.make_int(|row| parse_long(value.get(row)).and_then(|v| i32::try_from(v).ok()))
        }
        KqlType::Real | KqlType::Decimal => {
            let value = long_at(args)?;
            let (least, most) = (i64::from(i32::MIN), i64::from(i32::MAX));
            args.make_int(|row| value(row).and_then(|v| i32::try_from(v.clamp(least, most)).ok()))
        }
        _ => {
            let value = long_at(args)?;
            args.make_int(|row| value(row).and_then(lower_bits))
        }
    })
}

fn parse_real(text: &str) -> Option<f64> {
    let text = text.trim();
    match text {
        "NaN" | "nan" => return Some(f64::NAN),
        "inf" | "+inf" | "Infinity" | "+Infinity" => return Some(f64::INFINITY),
        "-inf" | "-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let number = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if number { text.parse().ok() } else { None }
}

fn to_real(args: &Args<'_>) -> Result<ArrayRef> {
    Ok(match args.kql_type(0)? {
        KqlType::Real => {
            let value = args.real(0)?;
            args.make_real(|row| value.get(row))
        }
        KqlType::String | KqlType::Decimal => {
            let value = args.text(0)?;
            args.make_real(|row| parse_real(value.get(row)))
        }
        KqlType::Dynamic => {
            let value = args.dynamic(0)?;
            #[expect(clippy::cast_precision_loss, reason = "a real has 53 bits")]
            args.make_real(|row| match scalar_of(value.get(row)) {
                Scalar::None => None,
                Scalar::Bool(value) => Some(f64::from(u8::from(value))),
                Scalar::Long(value) => Some(value as f64),
                Scalar::Real(value) => Some(value),
                Scalar::Text(text) => parse_real(&text),
            })
        }
        _ => {
            let value = long_at(args)?;
            #[expect(clippy::cast_precision_loss, reason = "a real has 53 bits")]
            args.make_real(|row| value(row).map(|v| v as f64))
        }
    })
}

fn to_datetime(args: &Args<'_>) -> Result<ArrayRef> {
    Ok(match args.kql_type(0)? {
        KqlType::DateTime | KqlType::Long | KqlType::Int => {
            let value = args.long(0)?;
            args.make_long(|row| value.get(row).and_then(time::in_range))
        }
        KqlType::String => {
            let value = args.text(0)?;
            args.make_long(|row| time::parse_datetime(value.get(row)))
        }
        KqlType::Dynamic => {
            let value = args.dynamic(0)?;
            args.make_long(|row| match value.get(row) {
                View::DateTime(ticks) => Some(ticks),
                View::Long(ticks) => time::in_range(ticks),
                View::Text(text) => time::parse_datetime(text),
                _ => None,
            })
        }
        KqlType::Real | KqlType::Decimal => {
            let value = long_at(args)?;
            args.make_long(|row| value(row).and_then(time::in_range))
        }
        KqlType::TimeSpan | KqlType::Bool | KqlType::Guid => args.make_long(|_| None),
    })
}

fn to_timespan(args: &Args<'_>) -> Result<ArrayRef> {
    Ok(match args.kql_type(0)? {
        KqlType::TimeSpan | KqlType::Long | KqlType::Int => {
            let value = args.long(0)?;
            args.make_long(|row| value.get(row))
        }
        KqlType::String => {
            let value = args.text(0)?;
            args.make_long(|row| time::parse_timespan(value.get(row)))
        }
        KqlType::Dynamic => {
            let value = args.dynamic(0)?;
            args.make_long(|row| match value.get(row) {
                View::TimeSpan(ticks) | View::Long(ticks) => Some(ticks),
                View::Text(text) => time::parse_timespan(text),
                _ => None,
            })
        }
        KqlType::Real | KqlType::Decimal => {
            let value = long_at(args)?;
            args.make_long(value)
        }
        KqlType::DateTime | KqlType::Bool | KqlType::Guid => args.make_long(|_| None),
    })
}

fn to_guid(args: &Args<'_>) -> Result<ArrayRef> {
    if args.kql_type(0)? == KqlType::Dynamic {
        let value = args.dynamic(0)?;
        return Ok(args.make_text(|row| {
            uuid::Uuid::try_parse(text_of_dynamic(value.get(row)).trim())
                .ok()
                .map(|g| g.to_string())
        }));
    }
    let value = args.text(0)?;
    Ok(args
        .make_text(|row| uuid::Uuid::try_parse(value.get(row).trim()).ok().map(|g| g.to_string())))
}
