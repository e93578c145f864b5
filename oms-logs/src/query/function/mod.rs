//! The functions of the language, one file per family.
//!
//! Most are *kernels*: they read typed argument columns row by row and make one column. Those whose
//! type depends on their arguments, or that are other expressions in disguise, bind themselves.

pub(crate) mod aggregate;

mod arguments;

mod binary;

mod budget;

#[cfg(test)]
mod calls;

mod conditional;

mod conversion;

mod datetime;

mod datetime_format;

mod decimal;

pub(crate) mod distinct;

mod distribution;

pub(crate) mod dynamic;

mod dynamic_text;

mod encoding;

pub(crate) mod expand;

pub(crate) mod gather;

pub(crate) mod geo;

mod hash;

mod ip;

mod kernel;

pub(crate) mod known;

mod math;

mod metadata;

pub(crate) mod operator;

mod one_group;

mod parse;

mod parse_xml;

mod pattern;

mod percentile;

mod punycode;

mod random;

mod runs;

mod series;

mod several;

mod string;

mod text_match;

mod text_search;

mod time_zone;

mod units;

pub(crate) mod value_at;

pub(crate) use arguments::Args;
pub(crate) use budget::{Exceeded, exceeded};
pub(crate) use conversion::{of_dynamic, text_of_dynamic, to_dynamic, to_text};
pub(crate) use decimal::order_key as decimal_order_key;
pub(crate) use kernel::{
    KernelFn, call, hold, json_of_dynamic, never_null, never_null_argument, never_null_of, udf,
};
pub(crate) use pattern::{BadPattern, check as check_pattern};
pub(crate) use percentile::percentile;
pub(crate) use random::random;
pub(crate) use string::{StringTooLong, string_too_long};
pub(crate) use text_match::{computed_list_kernel, kernel as text_kernel, list_kernel};

use super::bound::{Expr, ExprKind};
use super::diagnostic::Problem;
use super::syntax::Span;
use super::types::KqlType;
use std::collections::HashMap;
use std::sync::LazyLock;

/// A scalar function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// How the column of an unnamed call is called.
    pub(crate) naming: Naming,
    body: Body,
}

/// How the column of an unnamed call is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Naming {
    /// `Column1`
    Default,
    /// Like the first argument.
    FirstArgument,
    /// The function's name, `_`, and the first argument's name.
    NameAndFirstArgument,
    /// This, `_`, and the first argument's name.
    PrefixAndFirstArgument(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Kernel(Kernel),
    Special(fn(&Call<'_>, Vec<Expr>) -> Result<Expr, Problem>),
    Several(SeveralFn),
}

/// Binds a call that makes several columns; it is given the names that the arguments imply.
type SeveralFn = fn(&Call<'_>, Vec<Expr>, &[Option<String>]) -> Result<Several, Problem>;

/// Several columns of one call, each with the name it has where the query gives none; where the name
/// is empty it is numbered. As an operand the call is its first column.
#[derive(Clone, Debug)]
pub(crate) struct Several {
    pub(crate) columns: Vec<(String, Expr)>,
}

/// A function over typed columns.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    parameters: &'static [Parameter],
    /// How many arguments must be given.
    required: usize,
    /// Whether the last parameter repeats.
    repeats: bool,
    /// Which argument is a regular expression.
    pattern: Option<usize>,
    returns: KqlType,
    run: KernelFn,
}

/// What an argument can be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Parameter {
    /// Any type, as it is.
    Any,
    /// Any type, as text.
    Text,
    /// `int` or `long`, as a long.
    Long,
    /// Any number, as a real.
    Real,
    DateTime,
    TimeSpan,
    Bool,
    /// A dynamic value.
    Dynamic,
    /// Any type, as a dynamic value.
    AsDynamic,
}

/// Where and under what circumstances a function is called.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) name: &'a str,
    pub(crate) span: Span,
    /// The query's current time, in ticks.
    pub(crate) now: i64,
}

impl Call<'_> {
    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::semantic(self.span, message)
    }

    /// Fails unless the count of arguments is within the bounds.
    pub(crate) fn arity(&self, given: usize, least: usize, most: usize) -> Result<(), Problem> {
        if (least..=most).contains(&given) {
            return Ok(());
        }
        let expected = match (least, most) {
            (least, most) if least == most => format!("{least}"),
            (least, usize::MAX) => format!("at least {least}"),
            (least, most) => format!("{least} to {most}"),
        };
        let message = format!("`{}` takes {expected} arguments, not {given}", self.name);
        Err(self.problem(message))
    }
}

const fn kernel(
    name: &'static str,
    naming: Naming,
    parameters: &'static [Parameter],
    returns: KqlType,
    run: KernelFn,
) -> Function {
    let required = parameters.len();
    let kernel = Kernel { parameters, required, repeats: false, pattern: None, returns, run };
    Function { name, naming, body: Body::Kernel(kernel) }
}

const fn special(
    name: &'static str,
    naming: Naming,
    bind: fn(&Call<'_>, Vec<Expr>) -> Result<Expr, Problem>,
) -> Function {
    Function { name, naming, body: Body::Special(bind) }
}

/// A function that makes several columns.
const fn several(name: &'static str, naming: Naming, bind: SeveralFn) -> Function {
    Function { name, naming, body: Body::Several(bind) }
}

impl Function {
    /// The same function, of whose arguments only the first ones must be given.
    const fn optional(mut self, required: usize) -> Self {
        if let Body::Kernel(kernel) = &mut self.body {
            kernel.required = required;
        }
        self
    }

    /// The same function, whose last parameter repeats.
    const fn repeated(mut self) -> Self {
        if let Body::Kernel(kernel) = &mut self.body {
            kernel.repeats = true;
        }
        self
    }

    /// The same function, of whose arguments one is a regular expression.
    const fn with_pattern(mut self, at: usize) -> Self {
        if let Body::Kernel(kernel) = &mut self.body {
            kernel.pattern = Some(at);
        }
        self
    }

    /// Whether a call makes several columns.
    pub(crate) const fn is_several(&self) -> bool {
        matches!(self.body, Body::Several(_))
    }

    /// Binds a call of a function that makes several columns; any other makes one.
    pub(crate) fn bind_several(
        &self,
        call: &Call<'_>,
        arguments: Vec<Expr>,
        names: &[Option<String>],
    ) -> Result<Several, Problem> {
        match self.body {
            Body::Several(bind) => bind(call, arguments, names),
            _ => Ok(Several { columns: vec![(String::new(), self.bind(call, arguments)?)] }),
        }
    }

    /// Binds a call.
    pub(crate) fn bind(&self, call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
        let kernel = match self.body {
            Body::Special(bind) => return bind(call, arguments),
            Body::Several(bind) => {
                let first = bind(call, arguments, &[])?.columns.into_iter().next();
                let first = first.map(|(_, value)| value);
                return first.ok_or_else(|| call.problem("a function makes no column"));
            }
            Body::Kernel(kernel) => kernel,
        };
        let most = if kernel.repeats { usize::MAX } else { kernel.parameters.len() };
        call.arity(arguments.len(), kernel.required, most)?;
        let arguments = arguments
            .into_iter()
            .enumerate()
            .map(|(at, argument)| {
                let parameter = kernel.parameters.get(at).or(kernel.parameters.last());
                coerce(argument, parameter.copied().unwrap_or(Parameter::Any), self.name)
            })
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(at) = kernel.pattern {
            pattern::check(&arguments, at)?;
        }
        Ok(self::call(self.name, kernel.run, arguments, kernel.returns, call.span))
    }
}

/// The argument in the form that the parameter needs.
pub(crate) fn coerce(
    argument: Expr,
    parameter: Parameter,
    function: &str,
) -> Result<Expr, Problem> {
    use KqlType as T;
    let (given, span) = (argument.kql_type, argument.span);
    let expected = match (parameter, given) {
        (Parameter::Any, _)
        | (Parameter::Long, T::Long)
        | (Parameter::Real, T::Real)
        | (Parameter::DateTime, T::DateTime)
        | (Parameter::TimeSpan, T::TimeSpan)
        | (Parameter::Bool, T::Bool)
        | (Parameter::Dynamic | Parameter::AsDynamic, T::Dynamic) => return Ok(argument),
        (Parameter::AsDynamic, _) => return Ok(to_dynamic(argument)),
        (Parameter::Long, T::Dynamic) => return Ok(of_dynamic(argument, T::Long)),
        (Parameter::Real, T::Dynamic) => return Ok(of_dynamic(argument, T::Real)),
        (Parameter::DateTime, T::Dynamic) => return Ok(of_dynamic(argument, T::DateTime)),
        (Parameter::TimeSpan, T::Dynamic) => return Ok(of_dynamic(argument, T::TimeSpan)),
        (Parameter::Bool, T::Dynamic) => return Ok(of_dynamic(argument, T::Bool)),
        (Parameter::Text, _) => return Ok(to_text(argument)),
        (Parameter::Long, T::Int) => return Ok(cast(argument, T::Long)),
        (Parameter::Real, T::Int | T::Long | T::Decimal) => return Ok(cast(argument, T::Real)),
        (Parameter::Long, _) => "int or long",
        (Parameter::Real, _) => "a number",
        (Parameter::DateTime, _) => "datetime",
        (Parameter::TimeSpan, _) => "timespan",
        (Parameter::Bool, _) => "bool",
        (Parameter::Dynamic, _) => "dynamic",
    };
    let message = format!("`{function}` takes {expected} here, not {given}");
    Err(Problem::semantic(span, message))
}

/// The number in another type of number; itself if it has the type.
pub(crate) fn cast(expr: Expr, kql_type: KqlType) -> Expr {
    match (expr.kql_type, kql_type) {
        (from, to) if from == to => return expr,
        (_, KqlType::Decimal) => return decimal::cast(expr),
        (KqlType::Decimal, KqlType::Real) => return conversion::real_of_decimal(expr),
        _ => {}
    }
    let span = expr.span;
    Expr::new(ExprKind::Cast(Box::new(expr)), kql_type, span)
}

/// The one type of several values, or `None` if they have none.
pub(crate) fn common_type(types: impl IntoIterator<Item = KqlType>) -> Option<KqlType> {
    types.into_iter().map(Some).reduce(|a, b| {
        let (a, b) = (a?, b?);
        if a == b {
            return Some(a);
        }
        match (a.is_number(), b.is_number()) {
            _ if (a == KqlType::Decimal && b.is_number())
                || (b == KqlType::Decimal && a.is_number()) =>
            {
                Some(KqlType::Decimal)
            }
            (true, true) if a == KqlType::Real || b == KqlType::Real => Some(KqlType::Real),
            (true, true) => Some(KqlType::Long),
            _ => None,
        }
    })?
}

/// The function of a name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    REGISTRY.get(name).copied()
}

/// The names of every function.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    REGISTRY.keys().copied()
}

static REGISTRY: LazyLock<HashMap<&'static str, &'static Function>> = LazyLock::new(|| {
    [
        binary::FUNCTIONS,
        conditional::FUNCTIONS,
        conversion::FUNCTIONS,
        datetime::FUNCTIONS,
        datetime_format::FUNCTIONS,
        distribution::FUNCTIONS,
        encoding::FUNCTIONS,
        hash::FUNCTIONS,
        ip::FUNCTIONS,
        math::FUNCTIONS,
        metadata::FUNCTIONS,
        parse::FUNCTIONS,
        pattern::FUNCTIONS,
        string::FUNCTIONS,
        text_match::FUNCTIONS,
        time_zone::FUNCTIONS,
        units::FUNCTIONS,
    ]
    .into_iter()
    .chain(dynamic::FUNCTIONS.iter().copied())
    .flatten()
    .chain(geo::functions())
    .chain(series::functions())
    .map(|function| (function.name, function))
    .collect()
});
