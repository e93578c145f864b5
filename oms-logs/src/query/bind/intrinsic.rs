//! Functions that depend on more than their arguments' values: on columns, tables or chance.

use super::expression::constant;
use super::{BindResult, Binder, Scope};
use crate::query::bound::{Expr, ExprKind};
use crate::query::diagnostic::Problem;
use crate::query::dynamic::Value;
use crate::query::function::{self, Call, Parameter, coerce};
use crate::query::syntax::Span;
use crate::query::syntax::ast;
use crate::query::types::KqlType;

/// The column that holds when a record came in.
const INGESTION_TIME: &str = "_TimeReceived";

impl Binder<'_> {
    /// Binds the call if the function is such a one.
    pub(super) fn intrinsic(
        &mut self,
        name: &ast::Name,
        arguments: &[ast::NamedExpr],
        span: Span,
        scope: &mut Scope<'_>,
    ) -> Option<BindResult<Expr>> {
        Some(match name.text.as_str() {
            "rand" => self.random(name, arguments, span, scope, KqlType::Real),
            "new_guid" => self.random(name, arguments, span, scope, KqlType::Guid),
            "ingestion_time" => self.ingestion_time(arguments, span, scope),
            "column_names_of" => self.column_names_of(arguments, span),
            "bin_auto" => self.bin_auto(arguments, span, scope),
            "iscolumnexists" => self.is_column(arguments, span, scope),
            "typeof" => self.type_of(arguments, span),
            "estimate_data_size" => self.data_size(arguments, span, scope),
            _ => return None,
        })
    }

    fn random(
        &mut self,
        name: &ast::Name,
        arguments: &[ast::NamedExpr],
        span: Span,
        scope: &mut Scope<'_>,
        kql_type: KqlType,
    ) -> BindResult<Expr> {
        let mut bound = self.exprs(arguments.iter().map(|argument| &argument.expr), scope)?;
        let call = Call { name: &name.text, span, now: self.now };
        let most = usize::from(kql_type == KqlType::Real);
        self.checked(call.arity(bound.len(), 0, most))?;
        let below = match bound.pop() {
            Some(below) => {
                Some(Box::new(self.checked(coerce(below, Parameter::Long, &name.text))?))
            }
            None => None,
        };
        // Each call draws from a sequence of its own.
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        Ok(Expr::new(ExprKind::Random { seed: self.seed, below }, kql_type, span))
    }

    /// Null for rows that were not ingested.
    fn ingestion_time(
        &mut self,
        arguments: &[ast::NamedExpr],
        span: Span,
        scope: &Scope<'_>,
    ) -> BindResult<Expr> {
        let call = Call { name: "ingestion_time", span, now: self.now };
        self.checked(call.arity(arguments.len(), 0, 0))?;
        let known = scope
            .columns()
            .iter()
            .any(|column| column.name == INGESTION_TIME && column.kql_type == KqlType::DateTime);
        Ok(if known {
            Expr::column(INGESTION_TIME, KqlType::DateTime, span)
        } else {
            Expr::null(KqlType::DateTime, span)
        })
    }

    fn column_names_of(&mut self, arguments: &[ast::NamedExpr], span: Span) -> BindResult<Expr> {
        let [argument] = arguments else {
            let message = "`column_names_of` takes one table";
            return Err(self.report(Problem::semantic(span, message)));
        };
        let table = self.table(&argument.expr)?;
        let names = table.columns.iter().map(|column| Value::Text(column.name.clone()));
        Ok(constant(&ast::Literal::Dynamic(Value::Array(names.collect())), span))
    }

    /// `bin` or `bin_at` with what the query sets.
    fn bin_auto(
        &mut self,
        arguments: &[ast::NamedExpr],
        span: Span,
        scope: &mut Scope<'_>,
    ) -> BindResult<Expr> {
        let mut bound = self.exprs(arguments.iter().map(|argument| &argument.expr), scope)?;
        let call = Call { name: "bin_auto", span, now: self.now };
        self.checked(call.arity(bound.len(), 1, 1))?;
        let Some(size) = self.bin_size.clone() else {
            let message = "`bin_auto` needs `set query_bin_auto_size` before the query";
            return Err(self.report(Problem::semantic(span, message)));
        };
        bound.push(size);
        bound.extend(self.bin_at.clone());
        let name = if bound.len() > 2 { "bin_at" } else { "bin" };
        match function::find(name) {
            Some(function) => self.checked(function.bind(&Call { name, ..call }, bound)),
            None => Err(self.report(Problem::unsupported(span, "bin_auto()"))),
        }
    }

    fn is_column(
        &mut self,
        arguments: &[ast::NamedExpr],
        span: Span,
        scope: &Scope<'_>,
    ) -> BindResult<Expr> {
        let name = match arguments {
            [argument] => Some(self.expr(&argument.expr, &mut Scope::constants())?),
            _ => None,
        };
        match name.as_ref().and_then(Expr::as_text) {
            Some(name) => {
                let known = scope.columns().iter().any(|column| column.name == name);
                Ok(Expr::bool(known, span))
            }
            None => {
                let message = "`iscolumnexists` takes a column's name as a string";
                Err(self.report(Problem::semantic(span, message)))
            }
        }
    }

    /// A type by its name, for functions that take one.
    fn type_of(&mut self, arguments: &[ast::NamedExpr], span: Span) -> BindResult<Expr> {
        let name = match arguments {
            [ast::NamedExpr { expr: ast::Expr { kind: ast::ExprKind::Name(name), .. }, .. }] => {
                KqlType::of_name(name)
            }
            _ => None,
        };
        match name {
            Some(kql_type) => Ok(Expr::text(kql_type.name(), span)),
            None => Err(self.report(Problem::semantic(span, "`typeof` takes the name of a type"))),
        }
    }

    /// `*` stands for all columns.
    fn data_size(
        &mut self,
        arguments: &[ast::NamedExpr],
        span: Span,
        scope: &mut Scope<'_>,
    ) -> BindResult<Expr> {
        let mut bound = Vec::new();
        for argument in arguments {
            match &argument.expr.kind {
                ast::ExprKind::Star(star) if star == "*" => {
                    let columns = scope.columns().iter();
                    bound.extend(columns.map(|c| Expr::column(c.name.as_str(), c.kql_type, span)));
                }
                _ => bound.push(self.expr(&argument.expr, scope)?),
            }
        }
        let call = Call { name: "estimate_data_size", span, now: self.now };
        match function::find(call.name) {
            Some(function) => self.checked(function.bind(&call, bound)),
            None => Err(self.report(Problem::unsupported(span, "estimate_data_size()"))),
        }
    }
}
