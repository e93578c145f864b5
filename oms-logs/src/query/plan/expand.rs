//! Rows of items, and numbers of rows.

use super::expression::column;
use super::{Planned, Planner};
use crate::query::bound::{Column, ExpandOptions, Expansion, Expr, OrderKey};
use crate::query::function::expand;
use crate::query::syntax::Span;
use datafusion::common::{Column as DfColumn, Result};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr as DfExpr, ExprFunctionExt, LogicalPlanBuilder, lit};
use std::collections::HashMap;

impl Planner {
    /// Dynamic values become lists, and DataFusion makes rows of lists side by side.
    pub(super) fn expand(
        &mut self,
        input: Planned,
        columns: &[Column],
        items: &[Expansion],
        options: &ExpandOptions,
    ) -> Result<Planned> {
        let lowering = input.lowering();
        let mut made = Vec::new();
        for of in columns {
            let value = Expr::column(&of.name, of.kql_type, Span::default());
            made.push((of.name.clone(), lowering.stored(&value)?));
        }
        let values =
            items.iter().map(|item| lowering.computed(&item.value)).collect::<Result<Vec<_>>>()?;
        let mut lists = Vec::new();
        for (item, value) in items.iter().zip(&values) {
            let items = expand::items(item.kql_type, options.members_as_arrays, options.limit);
            lists.push((item.name.clone(), items.call(vec![value.clone()])));
        }
        if let Some(name) = &options.index {
            lists.push((name.clone(), expand::index(options.limit).call(values.clone())));
        }
        if let Some(name) = &options.live {
            lists.push((name.clone(), expand::live(options.limit).call(values)));
        }
        let names: Vec<String> = lists.iter().map(|(name, _)| name.clone()).collect();
        made.extend(lists);
        let Planned { plan, names: planned } = self.project(input.plan, made)?;
        let unnested = names
            .iter()
            .map(|name| DfColumn::new_unqualified(planned.get(name).unwrap_or(name)))
            .collect();
        let plan = LogicalPlanBuilder::from(plan)
            .unnest_columns_with_options(unnested, Default::default())?
            .build()?;
        Ok(Planned { plan, names: planned })
    }

    /// The input's columns and the number of each row among those with equal `parts`, in the order
    /// of the keys.
    pub(super) fn number(
        &mut self,
        input: Planned,
        name: &str,
        parts: &[String],
        keys: &[OrderKey],
    ) -> Result<Planned> {
        let lowering = input.lowering();
        let orders = keys.iter().map(|key| lowering.sort_key(key));
        let orders = orders.collect::<Result<Vec<_>>>()?;
        let (input, orders) = self.with_columns(input, orders)?;
        let planned = |name: &String| column(input.names.get(name).unwrap_or(name));
        let sorts = orders
            .into_iter()
            .zip(keys)
            .map(|(order, key)| Sort::new(order, key.ascending, key.nulls_first))
            .collect::<Vec<_>>();
        let number = row_number().partition_by(parts.iter().map(planned).collect());
        let number = if sorts.is_empty() { number } else { number.order_by(sorts) };
        let number = number.build()?;
        let before: Vec<DfExpr> =
            input.plan.schema().columns().into_iter().map(DfExpr::Column).collect();
        let plan = LogicalPlanBuilder::from(input.plan).window(vec![number])?.build()?;
        // The window function's column is the last one.
        let made = plan.schema().columns().pop().map_or_else(|| lit(0_i64), DfExpr::Column);
        let fresh = self.fresh();
        let whole = datafusion::logical_expr::cast(made, arrow::datatypes::DataType::Int64);
        let items = before.into_iter().chain([whole.alias(&fresh)]);
        let plan = LogicalPlanBuilder::from(plan).project(items)?.build()?;
        let mut names: HashMap<String, String> = input.names;
        names.insert(name.to_owned(), fresh);
        Ok(Planned { plan, names })
    }
}
