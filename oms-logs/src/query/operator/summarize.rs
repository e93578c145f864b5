//! `summarize`: groups and their aggregates.

use crate::query::bind::{
    BindResult, Binder, Failed, Items, Scope, column_name, literal_text, percentile_name,
};
use crate::query::bound::{Aggregate, AggregateFunction, Column, Expr, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::function::aggregate::{Maker, constant_real};
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, NamedExpr};
use crate::query::types::KqlType;
use std::sync::Arc;

impl Binder<'_> {
    /// The keys' columns, then the aggregates'. Without keys there is one row, also of no rows.
    pub(crate) fn summarize(
        &mut self,
        input: Arc<Relation>,
        aggregates: &[NamedExpr],
        keys: &[NamedExpr],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut columns = Items::default();
        let mut failed = false;
        let mut bound_keys = Vec::new();
        for key in keys {
            let Ok(expr) = self.expr(&key.expr, &mut Scope::rows(&input.columns)) else {
                failed = true;
                continue;
            };
            let column =
                Expr::column(format!("$key{}", bound_keys.len()), expr.kql_type, expr.span);
            bound_keys.push((format!("$key{}", bound_keys.len()), expr));
            match &key.name {
                Some(name) => failed |= self.checked(columns.add_named(name, column)).is_err(),
                None => columns.add_implied(column_name(&key.expr), "Column", column),
            }
        }
        let mut scope = Scope::groups(&input.columns, Vec::new());
        for item in aggregates {
            let several = match &item.expr.kind {
                ast::ExprKind::Call { name, arguments } => match name.text.as_str() {
                    "arg_max" | "arg_min" => Some(self.row_selector(
                        &input,
                        item,
                        name,
                        arguments,
                        keys,
                        &mut scope,
                        &mut columns,
                    )),
                    "percentiles" => {
                        Some(self.percentiles(&input, item, arguments, &mut scope, &mut columns))
                    }
                    _ => None,
                },
                _ => None,
            };
            if let Some(result) = several {
                failed |= result.is_err();
                continue;
            }
            let Ok(expr) = self.expr(&item.expr, &mut scope) else {
                failed = true;
                continue;
            };
            match &item.name {
                Some(name) => failed |= self.checked(columns.add_named(name, expr)).is_err(),
                None => columns.add_implied(column_name(&item.expr), "Column", expr),
            }
        }
        if failed {
            return Err(Failed);
        }
        let mut aggregates = scope.into_aggregates();
        if bound_keys.is_empty() && aggregates.is_empty() {
            // `summarize 1`: one row all the same.
            let rows = Aggregate {
                function: AggregateFunction::Rows,
                argument: Expr::long(1, span),
                filter: None,
                kql_type: KqlType::Long,
            };
            aggregates.push(("$aggregate0".to_owned(), rows));
        }
        let grouped = bound_keys
            .iter()
            .map(|(name, key)| Column::new(name, key.kql_type))
            .chain(aggregates.iter().map(|(name, made)| Column::new(name, made.kql_type)))
            .collect();
        let kind = RelationKind::Aggregate { input, keys: bound_keys, aggregates };
        let grouped = self.relation(kind, grouped, span)?;
        self.projected(grouped, columns, span)
    }

    /// `arg_max(order, columns…)`: the order's extreme and, of its row, the columns. `*` is every
    /// column that is no key and not the order.
    #[expect(clippy::too_many_arguments, reason = "the state of one summarize")]
    fn row_selector(
        &mut self,
        input: &Relation,
        item: &NamedExpr,
        name: &ast::Name,
        arguments: &[NamedExpr],
        keys: &[NamedExpr],
        scope: &mut Scope<'_>,
        columns: &mut Items,
    ) -> BindResult<()> {
        if item.name.is_some() && arguments.len() > 1 {
            let what = "a name for several columns";
            return Err(self.report(Problem::unsupported(item.expr.span, what)));
        }
        let Some((first, rest)) = arguments.split_first() else {
            let message = format!("`{}` takes an expression and columns", name.text);
            return Err(self.report(Problem::semantic(name.span, message)));
        };
        let span = item.expr.span;
        let greatest = name.text == "arg_max";
        let order = self.expr(&first.expr, &mut Scope::rows(&input.columns))?;
        let order_name = column_name(&first.expr);
        let mut chosen = vec![(order_name.clone(), order.clone())];
        for argument in rest {
            if !matches!(argument.expr.kind, ast::ExprKind::Star(_)) {
                let expr = self.expr(&argument.expr, &mut Scope::rows(&input.columns))?;
                chosen.push((column_name(&argument.expr), expr));
                continue;
            }
            for column in &input.columns {
                let is_key = keys.iter().any(|key| {
                    matches!(&key.expr.kind, ast::ExprKind::Name(name) if *name == column.name)
                });
                if !is_key && order_name.as_ref() != Some(&column.name) {
                    let expr = Expr::column(column.name.clone(), column.kql_type, span);
                    chosen.push((Some(column.name.clone()), expr));
                }
            }
        }
        let first = scope.aggregate_count();
        let mut maker = Maker { name: &name.text, span, first, aggregates: Vec::new() };
        for (at, (implied, expr)) in chosen.into_iter().enumerate() {
            let kql_type = expr.kql_type;
            let function = AggregateFunction::ValueAt { order: Box::new(order.clone()), greatest };
            let value = maker.raw(function, expr, None, kql_type);
            match &item.name {
                Some(name) if at == 0 => self.checked(columns.add_named(name, value))?,
                _ => columns.add_implied(implied, "Column", value),
            }
        }
        scope.add_aggregates(maker.aggregates);
        Ok(())
    }

    /// `percentiles(value, 50, 95)`: one column for each.
    fn percentiles(
        &mut self,
        input: &Relation,
        item: &NamedExpr,
        arguments: &[NamedExpr],
        scope: &mut Scope<'_>,
        columns: &mut Items,
    ) -> BindResult<()> {
        let span = item.expr.span;
        let Some((value, percents)) = arguments.split_first() else {
            let message = "`percentiles` takes a value and numbers";
            return Err(self.report(Problem::semantic(span, message)));
        };
        if let Some(name) = item.name.as_ref().filter(|_| percents.len() > 1) {
            return Err(self.report(Problem::unsupported(name.span, "a name for several columns")));
        }
        let argument = self.expr(&value.expr, &mut Scope::rows(&input.columns))?;
        let base = column_name(&value.expr).unwrap_or_default();
        let first = scope.aggregate_count();
        let mut maker = Maker { name: "percentiles", span, first, aggregates: Vec::new() };
        for percent in percents {
            let bound = self.expr(&percent.expr, &mut Scope::constants())?;
            let Some(number) = constant_real(&bound) else {
                let message = "expected a constant number";
                return Err(self.report(Problem::semantic(percent.expr.span, message)));
            };
            let made = maker.percentile(argument.clone(), number);
            let made = self.checked(made)?;
            match &item.name {
                Some(name) => self.checked(columns.add_named(name, made))?,
                None => {
                    let mut text = literal_text(&percent.expr);
                    if text.is_empty() {
                        text = number.to_string();
                    }
                    columns.add_implied(Some(percentile_name(&base, &text)), "Column", made);
                }
            }
        }
        scope.add_aggregates(maker.aggregates);
        Ok(())
    }

    /// One row of each group of equal keys, all columns kept.
    pub(crate) fn one_row_per(
        &mut self,
        input: Arc<Relation>,
        keys: &[String],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let column = |column: &Column| Expr::column(column.name.clone(), column.kql_type, span);
        let (mut bound_keys, mut aggregates) = (Vec::new(), Vec::new());
        for of_input in &input.columns {
            if keys.contains(&of_input.name) {
                bound_keys.push((of_input.name.clone(), column(of_input)));
            } else {
                let aggregate = Aggregate {
                    function: AggregateFunction::RowValue,
                    argument: column(of_input),
                    filter: None,
                    kql_type: of_input.kql_type,
                };
                aggregates.push((of_input.name.clone(), aggregate));
            }
        }
        let order = input.columns.clone();
        let made = bound_keys
            .iter()
            .map(|(name, key)| Column::new(name, key.kql_type))
            .chain(aggregates.iter().map(|(name, made)| Column::new(name, made.kql_type)))
            .collect();
        let kind = RelationKind::Aggregate { input, keys: bound_keys, aggregates };
        let grouped = self.relation(kind, made, span)?;
        self.projected(grouped, Items::of_columns(&order, span), span)
    }
}
