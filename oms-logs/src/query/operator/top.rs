//! `top-nested`, `top-hitters`, `sample`, `sample-distinct`: some values or rows out of many.

use super::values::Groups;
use crate::query::bind::{BindResult, Binder, Items, Scope, column_name};
use crate::query::bound::{
    Aggregate, AggregateFunction, Column, Expr, JoinKind, OrderKey, Relation, RelationKind,
};
use crate::query::diagnostic::Problem;
use crate::query::plan::TableFunction;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, NamedExpr, TopHitters, TopNested};
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{SortOptions, sort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::{Float64Type, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::ops::RangeInclusive;
use std::sync::Arc;

impl Binder<'_> {
    /// The best values of each level, within the best values of the level before.
    pub(crate) fn top_nested(
        &mut self,
        input: &Arc<Relation>,
        levels: &[TopNested],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut items = Items::of_columns(&input.columns, span);
        let mut names = Items::default();
        for (at, level) in levels.iter().enumerate() {
            let key = self.expr(&level.of.expr, &mut Scope::rows(&input.columns))?;
            let name = match &level.of.name {
                Some(name) => Some(name.text.clone()),
                None => column_name(&level.of.expr),
            };
            names.add_implied(name, "Column", Expr::null(key.kql_type, span));
            items.replace(&key_name(at), key);
            let of = names.items.last().map(|(name, _)| name.clone()).unwrap_or_default();
            let by = level.by.name.as_ref().map(|name| name.text.clone());
            let by = by.unwrap_or_else(|| format!("aggregated_{of}"));
            names.add_implied(Some(by), "Column", Expr::null(KqlType::Long, span));
        }
        let keyed = self.projected(Arc::clone(input), items, span)?;
        let mut best: Option<Arc<Relation>> = None;
        let mut others: Vec<Arc<Relation>> = Vec::new();
        for (at, level) in levels.iter().enumerate() {
            let before = best.clone();
            let groups = self.nested_groups(&keyed, level, at, span)?;
            let within = self.nested_within(before.clone(), groups, at..=at, span)?;
            let top = self.nested_top(within, level, at, span)?;
            if levels.iter().skip(at).any(|level| level.others.is_some()) {
                others.push(self.nested_others(&keyed, before, &top, levels, at, span)?);
            }
            best = Some(top);
        }
        let Some(best) = best else { return Err(self.report(Problem::semantic(span, "no level"))) };
        let order = best.columns.clone();
        let mut all = vec![best];
        for rest in others {
            let mut padded = Items::default();
            for column in &order {
                let expr = if rest.columns.contains(column) {
                    Expr::column(&column.name, column.kql_type, span)
                } else {
                    Expr::null(column.kql_type, span)
                };
                padded.replace(&column.name, expr);
            }
            all.push(self.projected(rest, padded, span)?);
        }
        let all = match (all.len(), all.pop()) {
            (1, Some(only)) => only,
            (_, Some(last)) => {
                all.push(last);
                self.relation(RelationKind::Union(all), order.clone(), span)?
            }
            (_, None) => return Err(self.report(Problem::semantic(span, "no level"))),
        };
        let mut items = Items::default();
        for (column, (name, _)) in order.iter().zip(&names.items) {
            items.replace(name, Expr::column(&column.name, column.kql_type, span));
        }
        self.projected(all, items, span)
    }

    /// The values of a level and of those before, with what they are ranked by.
    fn nested_groups(
        &mut self,
        keyed: &Arc<Relation>,
        level: &TopNested,
        at: usize,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let keys: Vec<Column> = keyed
            .columns
            .iter()
            .filter(|column| (0..=at).any(|key| column.name == key_name(key)))
            .cloned()
            .collect();
        let mut named = Items::default();
        for (number, key) in keys.iter().enumerate() {
            let expr = Expr::column(&key.name, key.kql_type, span);
            named.replace(&format!("$group{number}"), expr);
        }
        self.grouped(Arc::clone(keyed), named, &[(&level.by, value_name(at))], span)
    }

    /// Groups by keys, with the values of expressions of aggregates under their names.
    fn grouped(
        &mut self,
        input: Arc<Relation>,
        keys: Items,
        by: &[(&NamedExpr, String)],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let mut scope = Scope::groups(&input.columns, Vec::new());
        let values = self.exprs(by.iter().map(|(by, _)| &by.expr), &mut scope)?;
        let aggregates = scope.into_aggregates();
        let mut made = keys.columns();
        let mut items = Items::of_columns(&made, span);
        made.extend(aggregates.iter().map(|(name, made)| Column::new(name, made.kql_type)));
        let kind = RelationKind::Aggregate { input, keys: keys.items, aggregates };
        let grouped = self.relation(kind, made, span)?;
        for ((_, name), value) in by.iter().zip(values) {
            items.replace(name, value);
        }
        self.projected(grouped, items, span)
    }

    /// The groups whose values of the levels before are among the best, with what they have of
    /// `levels`.
    fn nested_within(
        &mut self,
        before: Option<Arc<Relation>>,
        groups: Arc<Relation>,
        levels: RangeInclusive<usize>,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let at = *levels.start();
        let (of_groups, joined) = match before {
            Some(before) => {
                let keys = group_keys(&before, &groups, at);
                let columns = groups.columns.clone();
                let joined = self.joined(before, groups, JoinKind::Inner, &keys, span)?;
                (columns, joined)
            }
            None => (groups.columns.clone(), groups),
        };
        let mut items = Items::default();
        for column in &joined.columns {
            if !of_groups.contains(column) {
                items.replace(&column.name, Expr::column(&column.name, column.kql_type, span));
            }
        }
        let renamed = levels.flat_map(|at| {
            [(format!("$group{at}"), key_name(at)), (value_name(at), value_name(at))]
        });
        for (from, to) in renamed {
            if let Some(column) = of_groups.iter().find(|column| column.name == from) {
                items.replace(&to, Expr::column(&column.name, column.kql_type, span));
            }
        }
        self.projected(joined, items, span)
    }

    fn nested_top(
        &mut self,
        input: Arc<Relation>,
        level: &TopNested,
        at: usize,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let count = match &level.count {
            Some(count) => self.row_count(count)?,
            None => usize::MAX,
        };
        let position = |name: &str| input.columns.iter().position(|of| of.name == name);
        let keys = (0..at).filter_map(|key| position(&key_name(key))).collect();
        let Some(order) = position(&value_name(at)) else {
            return Err(self.report(Problem::semantic(span, "no value to rank by")));
        };
        let function = TopPerKey { keys, order, count, ascending: level.ascending };
        let columns = input.columns.clone();
        let kind = RelationKind::Table {
            inputs: vec![input],
            function: Arc::new(function),
            serialized: false,
        };
        self.relation(kind, columns, span)
    }

    /// One row for the values of a level that are not among the best, within each of the levels
    /// before. They are among none of the levels after it either, so that these count them too.
    fn nested_others(
        &mut self,
        keyed: &Arc<Relation>,
        before: Option<Arc<Relation>>,
        top: &Arc<Relation>,
        levels: &[TopNested],
        at: usize,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let of = |side: &Relation, level: usize| {
            side.columns.iter().find(|column| column.name == key_name(level)).cloned()
        };
        let keys = (0..=at).filter_map(|level| Some((of(keyed, level)?, of(top, level)?)));
        let keys: Vec<(Column, Column)> = keys.collect();
        let left = Arc::clone(keyed);
        let rest = self.joined(left, Arc::clone(top), JoinKind::LeftAnti, &keys, span)?;
        let mut named = Items::default();
        for level in 0..at {
            if let Some(column) = of(&rest, level) {
                let expr = Expr::column(&column.name, column.kql_type, span);
                named.replace(&format!("$group{level}"), expr);
            }
        }
        let labelled: Vec<(usize, &TopNested, &ast::Expr)> = levels
            .iter()
            .enumerate()
            .skip(at)
            .filter_map(|(at, level)| Some((at, level, level.others.as_ref()?)))
            .collect();
        let by: Vec<_> =
            labelled.iter().map(|(at, level, _)| (&level.by, value_name(*at))).collect();
        let groups = self.grouped(rest, named, &by, span)?;
        let mut items = Items::of_columns(&groups.columns, span);
        for (level, _, label) in &labelled {
            let label = self.expr(label, &mut Scope::constants())?;
            let kql_type = of(keyed, *level).map_or(KqlType::String, |key| key.kql_type);
            let label = self.fitting(label, kql_type, "others")?;
            items.replace(&format!("$group{level}"), label);
        }
        let groups = self.projected(groups, items, span)?;
        self.nested_within(before, groups, at..=levels.len(), span)
    }

    /// The values that come most often, or have the greatest sums.
    pub(crate) fn top_hitters(
        &mut self,
        input: Arc<Relation>,
        top: &TopHitters,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let count = self.row_count(&top.count)?;
        let mut keys = Items::default();
        let key = self.expr(&top.of.expr, &mut Scope::rows(&input.columns))?;
        let implied = |item: &NamedExpr| match &item.name {
            Some(name) => Some(name.text.clone()),
            None => column_name(&item.expr),
        };
        keys.add_implied(implied(&top.of), "Column", key.clone());
        let key_column = keys.columns();
        let of = key_column.first().map(|column| column.name.clone()).unwrap_or_default();
        let (name, by) = match &top.by {
            Some(by) => {
                let name = implied(by).unwrap_or_default();
                (format!("approximate_sum_{name}"), call("sum", Some(by.expr.clone()), span))
            }
            None => (format!("approximate_count_{of}"), call("count", None, span)),
        };
        let by = NamedExpr { name: None, expr: by };
        let grouped = self.grouped(input, keys, &[(&by, name.clone())], span)?;
        let mut order = vec![OrderKey {
            expr: column_of(&grouped, &name, span),
            ascending: false,
            nulls_first: false,
        }];
        if key.kql_type != KqlType::Dynamic {
            let expr = column_of(&grouped, &of, span);
            order.push(OrderKey { expr, ascending: false, nulls_first: false });
        }
        let columns = grouped.columns.clone();
        let kind = RelationKind::Sort { input: grouped, keys: order, limit: Some(count) };
        self.relation(kind, columns, span)
    }

    /// Some rows, each as likely as any other.
    pub(crate) fn sample(
        &mut self,
        input: Arc<Relation>,
        count: &ast::Expr,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let count = self.row_count(count)?;
        let columns = input.columns.clone();
        let function = Sample { count, seed: self.now.unsigned_abs() };
        let kind = RelationKind::Table {
            inputs: vec![input],
            function: Arc::new(function),
            serialized: false,
        };
        self.relation(kind, columns, span)
    }

    /// Some values out of the different ones.
    pub(crate) fn sample_distinct(
        &mut self,
        input: Arc<Relation>,
        count: &ast::Expr,
        of: &NamedExpr,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let distinct = self.distinct(input, std::slice::from_ref(of), span)?;
        self.take(distinct, count, span)
    }

    /// How many rows there are, by keys that are columns.
    pub(crate) fn counted(
        &mut self,
        input: Arc<Relation>,
        keys: &[Column],
        name: &str,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let rows = Aggregate {
            function: AggregateFunction::Rows,
            argument: Expr::long(1, span),
            filter: None,
            kql_type: KqlType::Long,
        };
        let keys = Items::of_columns(keys, span);
        let mut columns = keys.columns();
        columns.push(Column::new(name, KqlType::Long));
        let aggregates = vec![(name.to_owned(), rows)];
        let kind = RelationKind::Aggregate { input, keys: keys.items, aggregates };
        self.relation(kind, columns, span)
    }
}

fn key_name(level: usize) -> String {
    format!("$nested{level}")
}

fn value_name(level: usize) -> String {
    format!("$value{level}")
}

/// The keys that the levels before and the groups of a level share.
fn group_keys(before: &Relation, groups: &Relation, level: usize) -> Vec<(Column, Column)> {
    let of = |side: &Relation, name: &str| {
        side.columns.iter().find(|column| column.name == name).cloned()
    };
    (0..level)
        .filter_map(|at| Some((of(before, &key_name(at))?, of(groups, &format!("$group{at}"))?)))
        .collect()
}

fn column_of(relation: &Relation, name: &str, span: Span) -> Expr {
    let column = relation.columns.iter().find(|column| column.name == name);
    Expr::column(name, column.map_or(KqlType::Long, |column| column.kql_type), span)
}

/// The call of an aggregate as it would be written.
fn call(name: &str, argument: Option<ast::Expr>, span: Span) -> ast::Expr {
    let name = ast::Name { text: name.to_owned(), span };
    let arguments = argument.into_iter().map(|expr| NamedExpr { name: None, expr }).collect();
    ast::Expr::new(ast::ExprKind::Call { name, arguments }, span)
}

/// The first rows of each key by one column.
#[derive(Debug)]
struct TopPerKey {
    keys: Vec<usize>,
    order: usize,
    count: usize,
    ascending: bool,
}

#[async_trait]
impl TableFunction for TopPerKey {
    fn name(&self) -> &'static str {
        "top_per_key"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        _context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("top takes a table") };
        let order = sortable(input.column(self.order));
        let options = SortOptions { descending: !self.ascending, nulls_first: self.ascending };
        let sorted = sort_to_indices(&order, Some(options), None)?;
        let keys: Vec<_> = self.keys.iter().map(|at| Arc::clone(input.column(*at))).collect();
        let groups = Groups::of(&keys, input.num_rows())?;
        let mut seen = vec![0; groups.firsts.len()];
        let mut kept = Vec::new();
        for row in sorted.values() {
            let group = groups.numbers.get(*row as usize).copied();
            let Some(seen) = group.and_then(|group| seen.get_mut(group)) else { continue };
            if *seen < self.count {
                *seen += 1;
                kept.push(u64::from(*row));
            }
        }
        let made = take_record_batch(input, &UInt64Array::from(kept))?;
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), made.columns().to_vec())?])
    }
}

/// The order with every number that is not a number as the one that is least in Arrow's order: it
/// stands next to null then, which is least too.
fn sortable(order: &ArrayRef) -> ArrayRef {
    let Some(reals) = order.as_primitive_opt::<Float64Type>() else { return Arc::clone(order) };
    let least = |value: f64| if value.is_nan() { -f64::NAN } else { value };
    Arc::new(reals.unary::<_, Float64Type>(least))
}

/// Rows by chance.
#[derive(Debug)]
struct Sample {
    count: usize,
    seed: u64,
}

#[async_trait]
impl TableFunction for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        _context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(input) = inputs.first() else { return exec_err!("sample takes a table") };
        let chosen = chosen(input.num_rows() as u64, self.count, self.seed);
        let made = take_record_batch(input, &UInt64Array::from(chosen))?;
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), made.columns().to_vec())?])
    }
}

/// So many numbers below `of`, in order.
fn chosen(of: u64, count: usize, seed: u64) -> Vec<u64> {
    let mut kept: Vec<u64> = Vec::new();
    let mut state = seed | 1;
    for row in 0..of {
        if kept.len() < count {
            kept.push(row);
            continue;
        }
        // Xorshift: chance good enough for a sample, and the same for the same seed.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let place = usize::try_from(state % (row + 1)).unwrap_or(usize::MAX);
        if let Some(slot) = kept.get_mut(place) {
            *slot = row;
        }
    }
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_different_rows() {
        let rows = chosen(1000, 10, 42);
        assert_eq!(rows.len(), 10);
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "{rows:?}");
        assert_eq!(chosen(3, 10, 42), [0, 1, 2]);
        assert!(chosen(3, 0, 42).is_empty());
    }
}
