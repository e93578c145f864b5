//! Statements back to text.

use super::{TopLevel, list, tables};
use crate::query::syntax::ast::{
    Function, Parameter, ParameterKind, Pattern, Query, Statement, TypedName,
};
use std::fmt::{self, Display, Formatter};

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, statement) in self.statements.iter().enumerate() {
            if at > 0 {
                f.write_str(";\n")?;
            }
            statement.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Let(made) => write!(f, "let {} = {}", made.name, TopLevel(&made.value)),
            Self::Set(name, None) => write!(f, "set {name}"),
            Self::Set(name, Some(value)) => write!(f, "set {name} = {value}"),
            Self::Parameters(parameters) => {
                f.write_str("declare query_parameters (")?;
                list(f, parameters, |f, parameter| parameter.fmt(f))?;
                f.write_str(")")
            }
            Self::Pattern(pattern) => pattern.fmt(f),
            Self::Restrict(allowed) => {
                f.write_str("restrict access to (")?;
                tables(f, allowed)?;
                f.write_str(")")
            }
            Self::Ask(expr) => TopLevel(expr).fmt(f),
        }
    }
}

impl Display for TypedName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.kql_type)
    }
}

impl Display for Parameter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        match &self.kind {
            ParameterKind::Scalar { kql_type, default: None } => kql_type.fmt(f),
            ParameterKind::Scalar { kql_type, default: Some(value) } => {
                write!(f, "{kql_type}={value}")
            }
            ParameterKind::Table { open: true, .. } => f.write_str("(*)"),
            ParameterKind::Table { columns, .. } => {
                f.write_str("(")?;
                list(f, columns, |f, column| column.fmt(f))?;
                f.write_str(")")
            }
        }
    }
}

impl Display for Function {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.view { "view (" } else { "(" })?;
        list(f, &self.parameters, |f, parameter| parameter.fmt(f))?;
        write!(f, ") {{ {} }}", self.body)
    }
}

impl Display for Pattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "declare pattern {}", self.name)?;
        if self.parameters.is_empty() && self.cases.is_empty() {
            return Ok(());
        }
        f.write_str(" = (")?;
        list(f, &self.parameters, |f, parameter| parameter.fmt(f))?;
        f.write_str(")")?;
        if let Some(path) = &self.path {
            write!(f, "[{path}]")?;
        }
        f.write_str(" { ")?;
        for case in &self.cases {
            f.write_str("(")?;
            list(f, &case.arguments, |f, argument| argument.fmt(f))?;
            f.write_str(")")?;
            if let Some(path) = &case.path {
                write!(f, ".[{path}]")?;
            }
            write!(f, " = {{ {} }}; ", case.body)?;
        }
        f.write_str("}")
    }
}
