//! `mv-apply`: operators over the rows that each row becomes.
//!
//! The operators are bound over a stand-in for those rows. Then the tree they became is rewritten to
//! work on the rows of all rows at once: every relation in it also carries the number of the row it
//! came from and that row's columns, groups and numbers rows by that number, and so keeps the rows of
//! one row apart. One more row for each, which no operator sees, stands for those that became none.
//! Where an operator has no such form, all of them are run over each row's rows by themselves.

use super::expand::Expanded;
use super::per_part::{Along, Part, PerPart};
use crate::query::bind::{BindResult, Binder, Items};
use crate::query::bound::{
    Aggregate, AggregateFunction, Column, Comparison, ExpandOptions, Expansion, Expr, ExprKind,
    JoinKind, OrderKey, Relation, RelationKind,
};
use crate::query::diagnostic::Problem;
use crate::query::function;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{Expand, Operator};
use crate::query::types::KqlType;
use std::sync::Arc;

/// The rows of all rows, and what they carry.
struct Carried {
    base: Arc<Relation>,
    /// The number of the row that a row came from.
    row: Column,
    /// Whether operators see a row.
    live: Column,
    /// The columns of the row that a row came from.
    source: Vec<Column>,
    span: Span,
}

impl Carried {
    fn value(&self, column: &Column) -> Expr {
        Expr::column(column.name.clone(), column.kql_type, self.span)
    }

    fn hidden(&self) -> impl Iterator<Item = &Column> {
        [&self.row, &self.live].into_iter().chain(&self.source)
    }

    /// Items of a projection that pass on what is carried.
    fn hidden_items(&self) -> impl Iterator<Item = (String, Expr)> {
        self.hidden().map(|column| (column.name.clone(), self.value(column)))
    }

    fn columns(&self, visible: &[Column]) -> Vec<Column> {
        visible.iter().chain(self.hidden()).cloned().collect()
    }

    fn or_dead(&self, condition: Expr) -> Expr {
        let live = Box::new(self.value(&self.live));
        let dead = Expr::new(ExprKind::Not(live), KqlType::Bool, self.span);
        Expr::new(ExprKind::Or(vec![condition, dead]), KqlType::Bool, self.span)
    }
}

/// Whether a relation is part of another.
fn contains(relation: &Arc<Relation>, part: &Arc<Relation>) -> bool {
    Arc::ptr_eq(relation, part)
        || relation.kind.inputs().into_iter().any(|input| contains(input, part))
}

/// Whether operators can work on the rows of all rows at once, over what stands for those rows.
fn can_carry(relation: &Arc<Relation>, given: &Arc<Relation>) -> bool {
    if Arc::ptr_eq(relation, given) {
        return true;
    }
    match &relation.kind {
        RelationKind::Filter { input, .. }
        | RelationKind::Project { input, .. }
        | RelationKind::Sort { input, .. }
        | RelationKind::Limit { input, .. }
        | RelationKind::Aggregate { input, .. }
        | RelationKind::Number { input, .. }
        | RelationKind::Expand { input, .. }
        | RelationKind::Named { input, .. }
        | RelationKind::Serialized(input) => can_carry(input, given),
        RelationKind::Append { input, function, .. } => {
            !function.needs_all_rows() && can_carry(input, given)
        }
        RelationKind::Union(inputs) => inputs.iter().all(|input| can_carry(input, given)),
        RelationKind::Join { left, right, kind, .. } => {
            let of_left = matches!(
                kind,
                JoinKind::Inner | JoinKind::LeftOuter | JoinKind::LeftSemi | JoinKind::LeftAnti
            );
            of_left && !contains(right, given) && can_carry(left, given)
        }
        _ => false,
    }
}

/// The keys by which rows are in order, over the relation's own columns.
fn order_of(relation: &Relation) -> Vec<OrderKey> {
    match &relation.kind {
        RelationKind::Sort { keys, .. } => keys.clone(),
        RelationKind::Filter { input, .. }
        | RelationKind::Named { input, .. }
        | RelationKind::Serialized(input) => order_of(input),
        RelationKind::Project { input, items } => {
            let passed = |key: OrderKey| {
                let ExprKind::Column(of) = &key.expr.kind else { return None };
                let same = |(_, item): &&(String, Expr)| matches!(&item.kind, ExprKind::Column(name) if name == of);
                let (name, item) = items.iter().find(same)?;
                let expr = Expr::column(name, item.kql_type, item.span);
                Some(OrderKey { expr, ..key })
            };
            // A key that is gone leaves the order of those before it.
            order_of(input).into_iter().map_while(passed).collect()
        }
        _ => Vec::new(),
    }
}

impl Binder<'_> {
    /// The input's columns, then those that the operators made.
    pub(crate) fn apply(
        &mut self,
        input: Arc<Relation>,
        expand: &Expand,
        operators: &[Operator],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let before = input.columns.clone();
        let (carried, visible) = self.carried(input, expand, span)?;
        let Some(part) = self.part(&visible, operators, span)? else {
            let what = "a sub-query over a row's own rows within mv-apply";
            return Err(self.report(Problem::unsupported(span, what)));
        };
        let visible = part.body.columns.clone();
        let made = if can_carry(&part.body, &part.given) {
            self.carry(&part.body, &part.given, &carried)?
        } else {
            self.each_apart(part, &carried)?
        };
        let predicate = carried.value(&carried.live);
        let columns = made.columns.clone();
        let made = self.relation(RelationKind::Filter { input: made, predicate }, columns, span)?;
        let mut items = Items::default();
        for (column, source) in before.iter().zip(&carried.source) {
            let in_place = expand.items.iter().any(|item| {
                let name = item.item.name.as_ref().map(|name| name.text.clone());
                name.or_else(|| crate::query::bind::column_name(&item.item.expr))
                    .is_some_and(|name| name == column.name)
            });
            // A column whose items took its place shows what the operators made of them, and goes
            // if they dropped them.
            let replaced = visible.iter().find(|other| in_place && other.name == column.name);
            match replaced {
                Some(made) => items.replace(&column.name, carried.value(made)),
                None if in_place => {}
                None => items.replace(&column.name, carried.value(source)),
            }
        }
        for column in visible.iter().filter(|c| !before.iter().any(|known| known.name == c.name)) {
            items.replace(&column.name, carried.value(column));
        }
        self.projected(made, items, span)
    }

    /// Numbers the rows, expands them, and keeps their columns; and the columns that operators see.
    fn carried(
        &mut self,
        input: Arc<Relation>,
        expand: &Expand,
        span: Span,
    ) -> BindResult<(Carried, Vec<Column>)> {
        // Where the operator stands tells the columns of one from those of one around it.
        let at = span.start;
        let hidden = |name: &str, kql_type| Column::new(format!("$apply{at}.{name}"), kql_type);
        let (row, live) = (hidden("row", KqlType::Long), hidden("live", KqlType::Bool));
        let copies: Vec<Column> =
            input.columns.iter().map(|c| hidden(&format!("of.{}", c.name), c.kql_type)).collect();
        let (before, mut columns) = (input.columns.clone(), input.columns.clone());
        columns.push(row.clone());
        let (column, parts, keys) = (row.name.clone(), Vec::new(), Vec::new());
        let kind = RelationKind::Number { input, column, parts, keys };
        let numbered = self.relation(kind, columns, span)?;
        let expanded = self.expanded(numbered, expand, Some(live.name.clone()), span)?;
        let Expanded { relation, mut items } = expanded;
        items.items.retain(|(name, _)| *name != row.name);
        let visible = items.columns();
        for column in [&row, &live] {
            let value = Expr::column(column.name.clone(), column.kql_type, span);
            items.replace(&column.name, value);
        }
        for (copy, column) in copies.iter().zip(&before) {
            let value = Expr::column(column.name.clone(), column.kql_type, span);
            items.replace(&copy.name, value);
        }
        let base = self.projected(relation, items, span)?;
        Ok((Carried { base, row, live, source: copies, span }, visible))
    }

    /// Runs the operators over each row's rows by themselves.
    fn each_apart(&mut self, part: Part, carried: &Carried) -> BindResult<Arc<Relation>> {
        let columns = carried.columns(&part.body.columns);
        let given = part.given.columns.clone();
        let along = Along { live: given.len() + 1, columns: carried.hidden().count() };
        let (key, serialized) = (given.len(), part.body.is_serialized());
        let (body, carried_along) = (part.body, Some(along));
        let function =
            PerPart { operator: "mv-apply", key, given, body, most: None, carried: carried_along };
        let (inputs, function) = (vec![Arc::clone(&carried.base)], Arc::new(function));
        let kind = RelationKind::Table { inputs, function, serialized };
        let mut items = Items::of_columns(&columns, carried.span);
        // Operators can make rows of none.
        items.replace(&carried.live.name, Expr::bool(true, carried.span));
        let made = self.relation(kind, columns, carried.span)?;
        self.projected(made, items, carried.span)
    }

    /// The relation over the rows of all rows instead of the stand-in.
    fn carry(
        &mut self,
        relation: &Arc<Relation>,
        given: &Arc<Relation>,
        carried: &Carried,
    ) -> BindResult<Arc<Relation>> {
        if Arc::ptr_eq(relation, given) {
            return Ok(Arc::clone(&carried.base));
        }
        let span = carried.span;
        let columns = carried.columns(&relation.columns);
        let kind = match &relation.kind {
            RelationKind::Filter { input, predicate } => RelationKind::Filter {
                input: self.carry(input, given, carried)?,
                predicate: carried.or_dead(predicate.clone()),
            },
            RelationKind::Project { input, items } => RelationKind::Project {
                input: self.carry(input, given, carried)?,
                items: items.iter().cloned().chain(carried.hidden_items()).collect(),
            },
            RelationKind::Sort { input, keys, limit: None } => RelationKind::Sort {
                input: self.carry(input, given, carried)?,
                keys: keys.clone(),
                limit: None,
            },
            RelationKind::Sort { input, keys, limit: Some(count) } => {
                let input = self.carry(input, given, carried)?;
                return self.first_rows(input, keys.clone(), *count, &relation.columns, carried);
            }
            RelationKind::Limit { input, count } => {
                let order = order_of(input);
                let input = self.carry(input, given, carried)?;
                return self.first_rows(input, order, *count, &relation.columns, carried);
            }
            RelationKind::Aggregate { input, keys, aggregates } => {
                let input = self.carry(input, given, carried)?;
                return self.carry_groups(input, keys, aggregates, &relation.columns, carried);
            }
            RelationKind::Number { input, column, parts, keys } => RelationKind::Number {
                input: self.carry(input, given, carried)?,
                column: column.clone(),
                parts: parts
                    .iter()
                    .chain([&carried.row.name, &carried.live.name])
                    .cloned()
                    .collect(),
                keys: keys.clone(),
            },
            RelationKind::Expand { input, items, options } => {
                let input = self.carry(input, given, carried)?;
                return self.carry_expansion(input, items, options, &relation.columns, carried);
            }
            RelationKind::Append { input, function, arguments, added } => {
                let input = self.carry(input, given, carried)?;
                let columns = input.columns.iter().chain(added).cloned().collect();
                let (function, arguments) = (Arc::clone(function), arguments.clone());
                let kind =
                    RelationKind::Append { input, function, arguments, added: added.clone() };
                return self.relation(kind, columns, span);
            }
            RelationKind::Union(inputs) => {
                let inputs = inputs.iter().map(|input| self.carry(input, given, carried));
                RelationKind::Union(inputs.collect::<BindResult<_>>()?)
            }
            RelationKind::Named { input, name } => RelationKind::Named {
                input: self.carry(input, given, carried)?,
                name: name.clone(),
            },
            RelationKind::Serialized(input) => {
                RelationKind::Serialized(self.carry(input, given, carried)?)
            }
            // The other table is the same for every row.
            RelationKind::Join { left, right, kind, keys } => {
                let left = self.carry(left, given, carried)?;
                let (right, keys) = (Arc::clone(right), keys.clone());
                RelationKind::Join { left, right, kind: *kind, keys }
            }
            // Those that `can_carry` does not know.
            _ => {
                let what = "this operator within mv-apply";
                return Err(self.report(Problem::unsupported(span, what)));
            }
        };
        self.relation(kind, columns, span)
    }

    /// An expansion of the rows that operators see; the others stay single, because null stays one row.
    fn carry_expansion(
        &mut self,
        input: Arc<Relation>,
        items: &[Expansion],
        options: &ExpandOptions,
        visible: &[Column],
        carried: &Carried,
    ) -> BindResult<Arc<Relation>> {
        let span = carried.span;
        let items = items.iter().cloned().map(|mut item| {
            let branches = vec![(carried.value(&carried.live), item.value)];
            let otherwise = Box::new(Expr::null(KqlType::Dynamic, span));
            item.value = Expr::new(ExprKind::Case { branches, otherwise }, KqlType::Dynamic, span);
            item
        });
        let items: Vec<_> = items.collect();
        // An expansion's columns follow those of its input.
        let count = items.len() + options.index.iter().chain(&options.live).count();
        let more = visible.iter().rev().take(count).rev();
        let columns = input.columns.iter().chain(more).cloned().collect();
        let kind = RelationKind::Expand { input, items, options: options.clone() };
        self.relation(kind, columns, span)
    }

    /// The first rows of each row's rows.
    fn first_rows(
        &mut self,
        input: Arc<Relation>,
        keys: Vec<OrderKey>,
        count: usize,
        visible: &[Column],
        carried: &Carried,
    ) -> BindResult<Arc<Relation>> {
        let span = carried.span;
        let number = Column::new("$number", KqlType::Long);
        let mut columns = input.columns.clone();
        columns.push(number.clone());
        let parts = vec![carried.row.name.clone(), carried.live.name.clone()];
        let kind = RelationKind::Number { input, column: number.name.clone(), parts, keys };
        let numbered = self.relation(kind, columns.clone(), span)?;
        let count = Expr::long(i64::try_from(count).unwrap_or(i64::MAX), span);
        let first = function::operator::compare(
            Comparison::LessOrEqual,
            carried.value(&number),
            count,
            span,
        );
        let predicate = carried.or_dead(self.checked(first)?);
        let kind = RelationKind::Filter { input: numbered, predicate };
        let filtered = self.relation(kind, columns, span)?;
        self.projected(filtered, Items::of_columns(&carried.columns(visible), span), span)
    }

    /// Groups within each row's rows. Without keys there is one for each row, also of none.
    fn carry_groups(
        &mut self,
        input: Arc<Relation>,
        keys: &[(String, Expr)],
        aggregates: &[(String, Aggregate)],
        visible: &[Column],
        carried: &Carried,
    ) -> BindResult<Arc<Relation>> {
        let span = carried.span;
        let single = keys.is_empty();
        let mut group_keys = vec![(carried.row.name.clone(), carried.value(&carried.row))];
        if !single {
            group_keys.push((carried.live.name.clone(), carried.value(&carried.live)));
        }
        group_keys.extend(keys.iter().cloned());
        let mut made: Vec<(String, Aggregate)> = aggregates.to_vec();
        for (_, aggregate) in &mut made {
            let live = carried.value(&carried.live);
            let filter = match aggregate.filter.take() {
                Some(filter) => Expr::new(ExprKind::And(vec![live, filter]), KqlType::Bool, span),
                None => live,
            };
            aggregate.filter = Some(filter);
        }
        made.extend(carried.source.iter().map(|column| {
            let aggregate = Aggregate {
                function: AggregateFunction::RowValue,
                argument: carried.value(column),
                filter: None,
                kql_type: column.kql_type,
            };
            (column.name.clone(), aggregate)
        }));
        let columns = group_keys.iter().map(|(name, key)| Column::new(name, key.kql_type));
        let columns = columns.chain(made.iter().map(|(name, a)| Column::new(name, a.kql_type)));
        let columns = columns.collect();
        let kind = RelationKind::Aggregate { input, keys: group_keys, aggregates: made };
        let grouped = self.relation(kind, columns, span)?;
        let mut items = Items::of_columns(visible, span);
        for (name, value) in carried.hidden_items() {
            let is_live = name == carried.live.name;
            items.replace(&name, if single && is_live { Expr::bool(true, span) } else { value });
        }
        self.projected(grouped, items, span)
    }
}
