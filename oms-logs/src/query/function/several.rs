//! Kernels that make several columns at once.
//!
//! Such a kernel makes an array of its parts; each column takes one of them. The kernel is the same
//! expression in all, and so runs once.

use super::arguments::Args;
use super::kernel::{KernelFn, call};
use super::{Call, Parameter, Several, coerce, of_dynamic};
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{View, select};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;

/// A kernel that makes several columns.
#[derive(Debug)]
pub(super) struct SeveralKernel {
    pub(super) name: &'static str,
    /// What each column's name ends in, and its type.
    columns: &'static [(&'static str, KqlType)],
    parameters: &'static [Parameter],
    required: usize,
    /// Whether the last parameter repeats.
    repeats: bool,
    run: KernelFn,
}

impl SeveralKernel {
    pub(super) const fn new(
        name: &'static str,
        columns: &'static [(&'static str, KqlType)],
        parameters: &'static [Parameter],
        required: usize,
        run: KernelFn,
    ) -> Self {
        Self { name, columns, parameters, required, repeats: false, run }
    }

    /// The same kernel, whose last parameter repeats.
    pub(super) const fn repeated(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// All columns of a call, called like the function, its first argument and what they are.
    pub(super) fn bind(
        &self,
        call: &Call<'_>,
        arguments: Vec<Expr>,
        names: &[Option<String>],
    ) -> Result<Several, Problem> {
        let most = if self.repeats { usize::MAX } else { self.parameters.len() };
        call.arity(arguments.len(), self.required, most)?;
        let arguments = arguments
            .into_iter()
            .enumerate()
            .map(|(at, argument)| {
                let parameter = self.parameters.get(at).or(self.parameters.last());
                coerce(argument, parameter.copied().unwrap_or(Parameter::Any), self.name)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let all = self::call(self.name, self.run, arguments, KqlType::Dynamic, call.span);
        let first = names.first().and_then(Option::as_deref).unwrap_or_default();
        let column = |(at, (ending, kql_type)): (i64, &(&str, KqlType))| {
            let arguments = vec![all.clone(), Expr::long(at, call.span)];
            let part = self::call("part_of_several", part, arguments, KqlType::Dynamic, call.span);
            (format!("{}_{first}_{ending}", self.name), of_dynamic(part, *kql_type))
        };
        Ok(Several { columns: (0..).zip(self.columns).map(column).collect() })
    }
}

/// One part of each row's parts.
fn part(args: &Args<'_>) -> DfResult<ArrayRef> {
    let (parts, at) = (args.dynamic(0)?, args.long(1)?);
    select(&parts, args.rows, |row, bytes| View::of(bytes).as_array()?.at(at.get(row)?))
}
