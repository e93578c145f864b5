//! `summarize`: groups and their aggregates.

use crate::query::bind::{
    BindResult, Binder, Failed, Items, Made, Scope, column_name, literal_text, percentile_name,
    unnamed_argument,
};
use crate::query::bound::{Aggregate, AggregateFunction, Column, Expr, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::function;
use crate::query::function::aggregate::{Maker, constant_real};
use crate::query::function::gather::Gather;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, NamedExpr};
use crate::query::types::KqlType;
use std::sync::Arc;

/// The column of a row's place in the order of a sort.
const PLACE: &str = "$place";

fn has_star(arguments: &[NamedExpr]) -> bool {
    arguments.iter().any(|argument| matches!(argument.expr.kind, ast::ExprKind::Star(_)))
}

/// What an argument calls its column: as it is told, or as its expression implies.
fn name_of(argument: &NamedExpr) -> Option<String> {
    argument
        .name
        .as_ref()
        .map_or_else(|| column_name(&argument.expr), |name| Some(name.text.clone()))
}

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
            let Ok(made) = self.aggregate_item(&input, item, keys, &mut scope) else {
                failed = true;
                continue;
            };
            for Made { name, implied, expr } in made {
                match &name {
                    Some(name) => failed |= self.checked(columns.add_named(name, expr)).is_err(),
                    None => columns.add_implied(implied, "Column", expr),
                }
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
        let input = self.in_order(input, &mut aggregates, span)?;
        let kind = RelationKind::Aggregate { input, keys: bound_keys, aggregates };
        let grouped = self.relation(kind, grouped, span)?;
        self.projected(grouped, columns, span)
    }

    /// Lists of sorted rows are in their order, which groups do not keep: the places are a column.
    fn in_order(
        &mut self,
        input: Arc<Relation>,
        aggregates: &mut [(String, Aggregate)],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut seconds: Vec<&mut Option<Box<Expr>>> = aggregates
            .iter_mut()
            .filter_map(|(_, made)| match &mut made.function {
                AggregateFunction::Gather { gather: Gather::List { .. }, second } => Some(second),
                _ => None,
            })
            .collect();
        if seconds.is_empty() {
            return Ok(input);
        }
        let Some(numbered) = self.numbered(&input, span)? else { return Ok(input) };
        for second in &mut seconds {
            let place = Expr::column(PLACE, KqlType::Long, span);
            **second = Some(Box::new(function::to_dynamic(place)));
        }
        Ok(numbered)
    }

    /// The same rows with the place of each in the order of the sort below, if there is one.
    fn numbered(
        &mut self,
        relation: &Arc<Relation>,
        span: Span,
    ) -> BindResult<Option<Arc<Relation>>> {
        let below = match &relation.kind {
            RelationKind::Filter { input, .. }
            | RelationKind::Project { input, .. }
            | RelationKind::Expand { input, .. } => {
                let Some(below) = self.numbered(input, span)? else { return Ok(None) };
                below
            }
            RelationKind::Sort { keys, .. } => {
                let mut columns = relation.columns.clone();
                columns.push(Column::new(PLACE, KqlType::Long));
                let (input, column, keys) = (Arc::clone(relation), PLACE.to_owned(), keys.clone());
                let kind = RelationKind::Number { input, column, parts: Vec::new(), keys };
                return self.relation(kind, columns, span).map(Some);
            }
            _ => return Ok(None),
        };
        let place = Expr::column(PLACE, KqlType::Long, span);
        let mut columns = relation.columns.clone();
        let kind = match &relation.kind {
            RelationKind::Filter { predicate, .. } => {
                RelationKind::Filter { input: below, predicate: predicate.clone() }
            }
            RelationKind::Project { items, .. } => {
                let place = (PLACE.to_owned(), place);
                let items = items.iter().cloned().chain([place]).collect();
                RelationKind::Project { input: below, items }
            }
            RelationKind::Expand { items, options, .. } => {
                let (items, options) = (items.clone(), options.clone());
                RelationKind::Expand { input: below, items, options }
            }
            _ => return Ok(None),
        };
        if !columns.iter().any(|column| column.name == PLACE) {
            columns.push(Column::new(PLACE, KqlType::Long));
        }
        self.relation(kind, columns, span).map(Some)
    }

    /// The columns of an item of `summarize`: one, or those of an aggregate that makes several.
    fn aggregate_item(
        &mut self,
        input: &Relation,
        item: &NamedExpr,
        keys: &[NamedExpr],
        scope: &mut Scope<'_>,
    ) -> BindResult<Vec<Made>> {
        let (names, expr) = match &item.expr.kind {
            ast::ExprKind::Columns(names, call) => (names.clone(), &**call),
            _ => (item.name.iter().cloned().collect(), &item.expr),
        };
        let several = match &expr.kind {
            ast::ExprKind::Call { name, arguments } => match name.text.as_str() {
                "arg_max" | "arg_min" | "argmax" | "argmin" => {
                    Some(self.row_selector(input, expr.span, name, arguments, keys, scope)?)
                }
                "any" | "take_any" if arguments.len() > 1 || has_star(arguments) => {
                    Some(self.any_row(input, expr.span, name, arguments, keys, scope)?)
                }
                "percentiles" | "percentilesw" => {
                    Some(self.percentiles(input, expr.span, name, arguments, scope)?)
                }
                _ => None,
            },
            _ => None,
        };
        let Some(columns) = several else {
            let plain = NamedExpr { name: item.name.clone(), expr: item.expr.clone() };
            return self.item(&plain, scope);
        };
        let mut names = names.into_iter();
        let made = columns.into_iter();
        let made = made.map(|(implied, expr)| Made { name: names.next(), implied, expr });
        let made: Vec<Made> = made.collect();
        match names.next() {
            None => Ok(made),
            Some(extra) => {
                let message = format!("there is no column for the name `{}`", extra.text);
                Err(self.report(Problem::semantic(extra.span, message)))
            }
        }
    }

    /// The columns that arguments stand for: `*` is every column that is no key and not `but`.
    fn chosen(
        &mut self,
        input: &Relation,
        arguments: &[NamedExpr],
        keys: &[NamedExpr],
        but: Option<&String>,
    ) -> BindResult<Vec<(Option<String>, Expr)>> {
        let mut chosen = Vec::new();
        for argument in arguments {
            if !matches!(argument.expr.kind, ast::ExprKind::Star(_)) {
                let expr = self.expr(&argument.expr, &mut Scope::rows(&input.columns))?;
                chosen.push((name_of(argument), expr));
                continue;
            }
            for column in &input.columns {
                let is_key = keys.iter().any(|key| {
                    matches!(&key.expr.kind, ast::ExprKind::Name(name) if *name == column.name)
                });
                if !is_key && but != Some(&column.name) {
                    let span = argument.expr.span;
                    let expr = Expr::column(column.name.clone(), column.kql_type, span);
                    chosen.push((Some(column.name.clone()), expr));
                }
            }
        }
        Ok(chosen)
    }

    /// `take_any(columns…)`: the columns of one row.
    fn any_row(
        &mut self,
        input: &Relation,
        span: Span,
        name: &ast::Name,
        arguments: &[NamedExpr],
        keys: &[NamedExpr],
        scope: &mut Scope<'_>,
    ) -> BindResult<Vec<(Option<String>, Expr)>> {
        let chosen = self.chosen(input, arguments, keys, None)?;
        let first = scope.aggregate_count();
        let mut maker = Maker { name: &name.text, span, first, aggregates: Vec::new() };
        let columns = chosen.into_iter().enumerate().map(|(place, (implied, expr))| {
            let kql_type = expr.kql_type;
            let implied = match name.text.as_str() {
                "any" => implied.map(|implied| format!("any_{implied}")),
                _ => implied,
            };
            let implied = implied.or_else(|| Some(unnamed_argument("any", place)));
            (implied, maker.raw(AggregateFunction::RowValue, expr, None, kql_type))
        });
        let columns = columns.collect();
        scope.add_aggregates(maker.aggregates);
        Ok(columns)
    }

    /// `arg_max(order, columns…)`: the order's extreme and, of its row, the columns. The older
    /// `argmax` calls them after the order: `max_order`, `max_order_column`.
    fn row_selector(
        &mut self,
        input: &Relation,
        span: Span,
        name: &ast::Name,
        arguments: &[NamedExpr],
        keys: &[NamedExpr],
        scope: &mut Scope<'_>,
    ) -> BindResult<Vec<(Option<String>, Expr)>> {
        let Some((first, rest)) = arguments.split_first() else {
            let message = format!("`{}` takes an expression and columns", name.text);
            return Err(self.report(Problem::semantic(name.span, message)));
        };
        let greatest = matches!(name.text.as_str(), "arg_max" | "argmax");
        let is_older = matches!(name.text.as_str(), "argmax" | "argmin");
        let order = self.expr(&first.expr, &mut Scope::rows(&input.columns))?;
        let order_name = name_of(first);
        let prefix = if greatest { "max" } else { "min" };
        let prefix = format!("{prefix}_{}", order_name.clone().unwrap_or_default());
        let called = order_name.clone().unwrap_or_else(|| prefix.clone());
        let mut chosen = vec![(Some(called), order.clone())];
        let others = self.chosen(input, rest, keys, order_name.as_ref())?;
        chosen.extend((1..).zip(others).map(|(place, (implied, expr))| {
            (implied.or_else(|| Some(unnamed_argument(&prefix, place))), expr)
        }));
        if is_older {
            for (place, (implied, _)) in chosen.iter_mut().enumerate() {
                let column = implied.take().unwrap_or_default();
                let name = if place == 0 { prefix.clone() } else { format!("{prefix}_{column}") };
                *implied = Some(name);
            }
        }
        let first = scope.aggregate_count();
        let mut maker = Maker { name: &name.text, span, first, aggregates: Vec::new() };
        let columns = chosen.into_iter().map(|(implied, expr)| {
            let kql_type = expr.kql_type;
            let function = AggregateFunction::ValueAt { order: Box::new(order.clone()), greatest };
            (implied, maker.raw(function, expr, None, kql_type))
        });
        let columns = columns.collect();
        scope.add_aggregates(maker.aggregates);
        Ok(columns)
    }

    /// `percentiles(value, 50, 95)` and `percentilesw(value, weight, 50, 95)`: one column for each.
    fn percentiles(
        &mut self,
        input: &Relation,
        span: Span,
        name: &ast::Name,
        arguments: &[NamedExpr],
        scope: &mut Scope<'_>,
    ) -> BindResult<Vec<(Option<String>, Expr)>> {
        let weighted = name.text == "percentilesw";
        let mut rest = arguments.iter().map(|argument| &argument.expr);
        let mut argument = |binder: &mut Self| match rest.next() {
            Some(expr) => {
                let bound = binder.expr(expr, &mut Scope::rows(&input.columns))?;
                Ok((bound, column_name(expr).unwrap_or_default()))
            }
            None => {
                let message = format!("`{}` takes a value and numbers", name.text);
                Err(binder.report(Problem::semantic(span, message)))
            }
        };
        let (value, base) = argument(self)?;
        let weight = if weighted { Some(argument(self)?.0) } else { None };
        let mut percents = Vec::new();
        for percent in rest {
            let bound = self.expr(percent, &mut Scope::constants())?;
            let Some(number) = constant_real(&bound) else {
                let message = "expected a constant number";
                return Err(self.report(Problem::semantic(percent.span, message)));
            };
            let text = Some(literal_text(percent)).filter(|text| !text.is_empty());
            let text = text.unwrap_or_else(|| number.to_string());
            percents.push((number, Some(percentile_name(&base, &text))));
        }
        let first = scope.aggregate_count();
        let mut maker = Maker { name: &name.text, span, first, aggregates: Vec::new() };
        let (numbers, names): (Vec<f64>, Vec<_>) = percents.into_iter().unzip();
        let made = match weight {
            Some(weight) => maker.weighted(value, weight, &numbers),
            None => {
                let each = numbers.into_iter();
                each.map(|number| maker.percentile(value.clone(), number)).collect()
            }
        };
        let made = self.checked(made)?;
        scope.add_aggregates(maker.aggregates);
        Ok(names.into_iter().zip(made).collect())
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
