//! `print`, `range`, `datatable`: rows that the query itself brings.

use crate::query::bind::{BindResult, Binder, Failed, Items, Made, Scope};
use crate::query::bound::{Column, Expr, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::function::{self, common_type};
use crate::query::limits::RANGE_ROWS_MAX;
use crate::query::plan;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, Name, NamedExpr};
use crate::query::types::KqlType;
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

impl Binder<'_> {
    /// One row; unnamed columns are `print_0`, `print_1` by their place.
    pub(crate) fn print(&mut self, items: &[NamedExpr], span: Span) -> BindResult<Arc<Relation>> {
        let mut columns = Items::default();
        let mut failed = false;
        for (at, item) in items.iter().enumerate() {
            let Ok(made) = self.item(item, &mut Scope::constants()) else {
                failed = true;
                continue;
            };
            for Made { name, implied, expr } in made {
                match &name {
                    Some(name) => failed |= self.checked(columns.add_named(name, expr)).is_err(),
                    None => {
                        // The name of a `let` is an implied name too.
                        let implied = implied.unwrap_or_else(|| format!("print_{at}"));
                        columns.add_implied(Some(implied), "print_", expr);
                    }
                }
            }
        }
        if failed {
            return Err(Failed);
        }
        let row = columns.items.iter().map(|(_, expr)| self.constant(expr));
        let row = row.collect::<BindResult<Vec<_>>>()?;
        let kind = RelationKind::Rows(vec![row]);
        self.relation(kind, columns.columns(), span)
    }

    /// From the first value by equal steps to the last that is not past the bound.
    pub(crate) fn range(
        &mut self,
        name: &Name,
        parts: [&ast::Expr; 3],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let parts = self.exprs(parts, &mut Scope::constants())?;
        let [first, last, step] = <[Expr; 3]>::try_from(parts).map_err(|_| Failed)?;
        let types = (first.kql_type, last.kql_type, step.kql_type);
        let kql_type = match types {
            (KqlType::DateTime, KqlType::DateTime, KqlType::TimeSpan) => Some(KqlType::DateTime),
            (a, b, c) => common_type([a, b, c])
                .filter(|kql_type| kql_type.is_number() || *kql_type == KqlType::TimeSpan),
        };
        let Some(kql_type) = kql_type else {
            let (a, b, c) = types;
            let message = format!("`range` is not defined from {a} to {b} by {c}");
            return Err(self.report(Problem::semantic(span, message)));
        };
        let columns = vec![Column::new(&name.text, kql_type)];
        if kql_type == KqlType::Real {
            let rows = self.real_range([first, last, step], span)?;
            return self.relation(RelationKind::Rows(rows), columns, span);
        }
        let numbers = (first.as_long(), last.as_long(), step.as_long());
        let (Some(first), Some(last), Some(step)) = numbers else {
            let message = "`range` takes values that are not null";
            return Err(self.report(Problem::semantic(span, message)));
        };
        if step == 0 {
            return Err(self.report(Problem::semantic(span, "the step of `range` is zero")));
        }
        let length = i128::from(last) - i128::from(first);
        let length = if step > 0 { length } else { -length };
        let steps = length.div_euclid(i128::from(step).abs());
        let rows = usize::try_from(steps + 1).unwrap_or(0);
        if steps >= i128::try_from(RANGE_ROWS_MAX).unwrap_or(i128::MAX) {
            let message = format!("`range` makes more than {RANGE_ROWS_MAX} rows");
            return Err(self.report(Problem::semantic(span, message)));
        }
        self.relation(RelationKind::Range { first, step, count: rows }, columns, span)
    }

    fn real_range(&mut self, parts: [Expr; 3], span: Span) -> BindResult<Vec<Vec<ScalarValue>>> {
        let parts = parts.map(|part| function::aggregate::constant_real(&part));
        let [Some(first), Some(last), Some(step)] = parts else {
            let message = "`range` takes values that are not null";
            return Err(self.report(Problem::semantic(span, message)));
        };
        let steps = ((last - first) / step).floor();
        #[expect(clippy::cast_precision_loss, reason = "the bound is small")]
        if steps.is_nan() || steps >= RANGE_ROWS_MAX as f64 || step == 0.0 {
            let message = format!("`range` makes more than {RANGE_ROWS_MAX} rows");
            return Err(self.report(Problem::semantic(span, message)));
        }
        let mut rows = Vec::new();
        let mut at = 0.0;
        while at <= steps {
            rows.push(vec![ScalarValue::Float64(Some(first + at * step))]);
            at += 1.0;
        }
        Ok(rows)
    }

    pub(crate) fn datatable(
        &mut self,
        columns: &[(Name, Name)],
        values: &[ast::Expr],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut bound: Vec<Column> = Vec::new();
        for (name, kind) in columns {
            let Some(kql_type) = KqlType::of_name(&kind.text) else {
                let message = format!("`{}` is not a type", kind.text);
                let types = [
                    "bool", "datetime", "dynamic", "guid", "int", "long", "real", "string",
                    "timespan",
                ];
                return Err(
                    self.report(Problem::semantic(kind.span, message).near(&kind.text, types))
                );
            };
            if bound.iter().any(|column| column.name == name.text) {
                let message = format!("there is a column `{}` already", name.text);
                return Err(self.report(Problem::semantic(name.span, message)));
            }
            bound.push(Column::new(&name.text, kql_type));
        }
        if bound.is_empty() || !values.len().is_multiple_of(bound.len()) {
            let message =
                format!("{} values do not make rows of {} columns", values.len(), bound.len());
            return Err(self.report(Problem::semantic(span, message)));
        }
        let mut rows = Vec::with_capacity(values.len() / bound.len());
        for row in values.chunks(bound.len()) {
            let cells: Vec<_> =
                row.iter().zip(&bound).map(|(value, column)| self.cell(value, column)).collect();
            rows.push(cells.into_iter().collect::<BindResult<Vec<_>>>()?);
        }
        self.relation(RelationKind::Rows(rows), bound, span)
    }

    /// A constant in the column's type.
    fn cell(&mut self, value: &ast::Expr, column: &Column) -> BindResult<ScalarValue> {
        let expr = self.expr(value, &mut Scope::constants())?;
        let span = expr.span;
        let kql_type = column.kql_type;
        let converted = match (expr.kql_type, kql_type) {
            (given, wanted) if given == wanted => expr,
            (KqlType::Long, KqlType::Int) => {
                match expr.as_long().and_then(|value| i32::try_from(value).ok()) {
                    Some(value) => Expr::constant(ScalarValue::Int32(Some(value)), kql_type, span),
                    None => Expr::null(kql_type, span),
                }
            }
            (given, wanted) if given.is_number() && wanted.is_number() => {
                function::cast(expr, wanted)
            }
            (_, KqlType::String) => function::to_text(expr),
            (KqlType::Int | KqlType::Long | KqlType::Real | KqlType::String, KqlType::Decimal) => {
                function::cast(expr, kql_type)
            }
            (_, KqlType::Dynamic) => function::to_dynamic(expr),
            (KqlType::Dynamic, wanted) => function::of_dynamic(expr, wanted),
            (KqlType::String, wanted) => {
                let name = match wanted {
                    KqlType::DateTime => "todatetime",
                    KqlType::TimeSpan => "totimespan",
                    KqlType::Guid => "toguid",
                    KqlType::Bool => "tobool",
                    KqlType::Int => "toint",
                    KqlType::Long => "tolong",
                    _ => "toreal",
                };
                let call = function::Call { name, span, now: 0 };
                match function::find(name) {
                    Some(function) => self.checked(function.bind(&call, vec![expr]))?,
                    None => return Err(Failed),
                }
            }
            (given, wanted) => {
                let message =
                    format!("a {given} does not fit column `{}` of {wanted}", column.name);
                return Err(self.report(Problem::semantic(span, message)));
            }
        };
        self.constant(&converted)
    }

    /// The value of an expression without columns.
    pub(crate) fn constant(&mut self, expr: &Expr) -> BindResult<ScalarValue> {
        if let Some(value) = expr.as_constant() {
            return Ok(value.clone());
        }
        let value = plan::evaluate(expr)
            .map_err(|error| Problem::semantic(expr.span, error.strip_backtrace()));
        self.checked(value)
    }
}
