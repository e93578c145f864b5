//! What is known of a query's data and surroundings.

use super::arguments::Args;
use super::{Call, Function, Naming, Parameter, coerce, kernel, special};
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;
use datafusion::scalar::ScalarValue;

const PLAIN: Naming = Naming::Default;

pub(super) const FUNCTIONS: &[Function] = &[
    kernel("estimate_data_size", PLAIN, &[Parameter::Any], KqlType::Long, data_size).repeated(),
    special("assert", PLAIN, assert),
];

/// The bytes of a row's values: of their texts, or of their types.
fn data_size(args: &Args<'_>) -> DfResult<ArrayRef> {
    let mut sizes = vec![0_i64; args.rows];
    for at in 0..args.len() {
        let fixed = match args.kql_type(at)? {
            KqlType::Bool => 1,
            KqlType::Int => 4,
            KqlType::Long | KqlType::Real | KqlType::DateTime | KqlType::TimeSpan => 8,
            KqlType::Guid | KqlType::Decimal => 16,
            KqlType::Dynamic => {
                let value = args.dynamic(at)?;
                for (row, size) in sizes.iter_mut().enumerate() {
                    let bytes = value.bytes(row).map_or(0, <[u8]>::len);
                    *size += i64::try_from(bytes).unwrap_or(i64::MAX);
                }
                0
            }
            KqlType::String => {
                let text = args.text(at)?;
                for (row, size) in sizes.iter_mut().enumerate() {
                    *size += i64::try_from(text.get(row).len()).unwrap_or(i64::MAX);
                }
                0
            }
        };
        sizes.iter_mut().for_each(|size| *size += fixed);
    }
    Ok(args.make_long(|row| sizes.get(row).copied()))
}

/// `assert(condition, message)` of constants: true, or an error with the message.
fn assert(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, 2)?;
    let [condition, message] =
        <[Expr; 2]>::try_from(arguments).map_err(|_| call.problem("two arguments"))?;
    let condition = coerce(condition, Parameter::Bool, call.name)?;
    let Some(message) = message.as_text() else {
        return Err(Problem::semantic(message.span, "`assert` takes a constant message"));
    };
    match condition.as_constant() {
        Some(ScalarValue::Boolean(Some(true))) => Ok(condition),
        Some(_) => Err(call.problem(format!("assertion failed: {message}"))),
        None => Err(Problem::semantic(condition.span, "`assert` takes a constant condition")),
    }
}
