//! `partition`: a pipeline over the rows of each key by themselves.

use super::per_part::PerPart;
use crate::query::bind::{BindResult, Binder, Failed, Scope};
use crate::query::bound::{Comparison, Expr, ExprKind, OrderKey, Relation, RelationKind};
use crate::query::diagnostic::Problem;
use crate::query::function::operator;
use crate::query::limits::{PARTITION_TABLES_MAX, PARTITIONS_MAX};
use crate::query::syntax::Span;
use crate::query::syntax::ast::{self, Partition};
use crate::query::types::KqlType;
use std::sync::Arc;

impl Binder<'_> {
    /// The rows that the operators make of each key's rows, one key after the other.
    pub(crate) fn partition(
        &mut self,
        input: Arc<Relation>,
        partition: &Partition,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let key = self.expr(&partition.key, &mut Scope::rows(&input.columns))?;
        let at = match &key.kind {
            ExprKind::Column(name) => input.columns.iter().position(|of| of.name == *name),
            _ => None,
        };
        let Some(at) = at.filter(|_| key.kql_type != KqlType::Dynamic) else {
            let message = "`partition` goes by a column that is not dynamic";
            return Err(self.report(Problem::semantic(partition.key.span, message)));
        };
        let native = match partition.strategy.as_ref().map(|strategy| strategy.text.as_str()) {
            None | Some("legacy") => false,
            Some("native" | "shuffle") => true,
            Some(other) => {
                let message = format!("`{other}` is not a strategy of `partition`");
                let problem = Problem::semantic(partition.key.span, message);
                return Err(self.report(problem.near(other, ["legacy", "native", "shuffle"])));
            }
        };
        if let Some(table) = &partition.table {
            return self.partition_tables(&input, at, table, span);
        }
        let of_input = input.columns.clone();
        let Some(part) = self.part(&of_input, &partition.operators, span)? else {
            return self.partition_rows(&input, at, &partition.operators, span);
        };
        let (columns, serialized) = (part.body.columns.clone(), part.body.is_serialized());
        let most = Some(if native { PARTITIONS_MAX } else { PARTITION_TABLES_MAX });
        let per_part = PerPart {
            operator: "partition",
            key: at,
            given: of_input,
            body: part.body,
            most,
            carried: None,
        };
        let function = Arc::new(per_part);
        let kind = RelationKind::Table { inputs: vec![input], function, serialized };
        self.relation(kind, columns, span)
    }

    /// The parts by the values of the key, for operators of which a value depends on the part: it
    /// is known before the rest is bound.
    fn partition_rows(
        &mut self,
        input: &Arc<Relation>,
        key: usize,
        operators: &[ast::Operator],
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let column = input.columns.get(key).cloned().ok_or(Failed)?;
        self.partition_of(input, key, span, |binder, value| {
            let of_key = Expr::column(&column.name, column.kql_type, span);
            let null = value.as_constant().is_none_or(datafusion::scalar::ScalarValue::is_null);
            let of_part = if null {
                Expr::new(ExprKind::IsNull(Box::new(of_key)), KqlType::Bool, span)
            } else {
                binder.checked(operator::compare(Comparison::Equal, of_key, value, span))?
            };
            let part = binder.filtered(Arc::clone(input), of_part, span)?;
            binder.operators(part, operators)
        })
    }

    /// The rows of a table for each key, which `toscalar` of the key's column stands for in it.
    fn partition_tables(
        &mut self,
        input: &Arc<Relation>,
        key: usize,
        table: &ast::Expr,
        span: Span,
    ) -> BindResult<Arc<Relation>> {
        let name = input.columns.get(key).map(|column| column.name.clone()).ok_or(Failed)?;
        self.partition_of(input, key, span, |binder, value| {
            binder.with_value(&name, value, |binder| binder.table(table))
        })
    }

    /// What is made for each value of the key, one after the other.
    fn partition_of(
        &mut self,
        input: &Arc<Relation>,
        key: usize,
        span: Span,
        mut make: impl FnMut(&mut Self, Expr) -> BindResult<Arc<Relation>>,
    ) -> BindResult<Arc<Relation>> {
        let Some(column) = input.columns.get(key).cloned() else { return Err(Failed) };
        let of_key = Expr::column(&column.name, column.kql_type, span);
        let keys = vec![(column.name.clone(), of_key.clone())];
        let kind =
            RelationKind::Aggregate { input: Arc::clone(input), keys, aggregates: Vec::new() };
        let distinct = self.relation(kind, vec![column.clone()], span)?;
        let keys = vec![OrderKey { expr: of_key, ascending: true, nulls_first: true }];
        let limit = Some(PARTITION_TABLES_MAX + 1);
        let kind = RelationKind::Sort { input: distinct, keys, limit };
        let sorted = self.relation(kind, vec![column.clone()], span)?;
        let rows = self.rows_of(&sorted, span)?;
        if rows.num_rows() > PARTITION_TABLES_MAX {
            let message = format!(
                "`partition` makes too many tables. partition_tables_max=`{PARTITION_TABLES_MAX}`"
            );
            return Err(self.report(Problem::semantic(span, message)));
        }
        let mut values = self.values_in(&rows, column.kql_type, span)?;
        let is_empty = values.is_empty();
        if is_empty {
            values.push(Expr::null(column.kql_type, span));
        }
        let others = std::mem::take(&mut self.others);
        let tables = values.into_iter().map(|value| Ok((String::new(), make(self, value)?)));
        let tables = tables.collect::<BindResult<Vec<_>>>();
        self.others = others;
        let made = self.union_of(tables?, false, None, span)?;
        if !is_empty {
            return Ok(made);
        }
        // There is no key: the table of none only tells the columns.
        let columns = made.columns.clone();
        self.relation(RelationKind::Limit { input: made, count: 0 }, columns, span)
    }
}
