//! The bound tree as a DataFusion plan.
//!
//! Stored columns stay in their stored form for as long as they are only passed on: microsecond
//! timestamps, text that may be null. Only where an expression needs the language's form is it
//! made: ticks, text that is never null. So a filter on a stored column is one that the table's
//! files can be pruned by.

mod codes;

mod expand;

mod expression;

mod held;

mod node;

mod session;

pub(crate) use held::Held;
pub(crate) use node::{RowFunction, TableFunction};
pub(crate) use session::session;

use super::bound::{
    Aggregate, AggregateFunction, Column, Expr, JoinKind, OrderKey, Relation, RelationKind,
};
use super::function;
use super::syntax::Span;
use super::types::KqlType;
use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Column as DfColumn, DFSchema, NullEquality, Result, TableReference};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::context::ExecutionProps;
use datafusion::functions_aggregate as aggregates;
use datafusion::logical_expr::expr::{NullTreatment, Sort};
use datafusion::logical_expr::{
    AggregateUDF, Expr as DfExpr, ExprFunctionExt, ExprSchemable as _, Extension, JoinType,
    LogicalPlan, LogicalPlanBuilder, Union, lit,
};
use datafusion::scalar::ScalarValue;
use expression::{Lowering, column};
use node::{FunctionNode, Work};
use std::collections::HashMap;
use std::sync::Arc;

/// The plan of a query; strings of its answer are never null, and dynamic values are JSON text.
pub(super) fn plan(relation: &Relation) -> Result<LogicalPlan> {
    let mut planner = Planner { keeps_order: relation.needs_order(), ..Planner::default() };
    let input = planner.lower(relation)?;
    let lowering = input.lowering();
    let items = relation.columns.iter().map(|column| {
        let expr = Expr::column(&column.name, column.kql_type, Span::default());
        let expr = match column.kql_type {
            KqlType::String => lowering.orderable(&expr),
            KqlType::Dynamic if *lowering.data_type(&column.name)?.0 == DataType::BinaryView => {
                lowering.stored(&expr).map(|value| function::json_of_dynamic().call(vec![value]))
            }
            _ => lowering.stored(&expr),
        };
        Ok(expr?.alias(&column.name))
    });
    let items = items.collect::<Result<Vec<_>>>()?;
    LogicalPlanBuilder::from(input.plan).project(items)?.build()
}

/// The plan of rows in computed form, over the rows that [`RelationKind::Given`] stands for.
pub(super) fn plan_computed(
    relation: &Relation,
    given: Option<&RecordBatch>,
) -> Result<LogicalPlan> {
    let mut planner =
        Planner { made: 0, given: given.cloned(), keeps_order: relation.needs_order() };
    let plan = planner.computed(relation)?.plan;
    let items = relation.columns.iter().zip(plan.schema().columns());
    let items: Vec<DfExpr> = items.map(|(of, made)| DfExpr::Column(made).alias(&of.name)).collect();
    LogicalPlanBuilder::from(plan).project(items)?.build()
}

/// The Arrow schema of columns in computed form.
pub(super) fn computed_schema(columns: &[Column]) -> Schema {
    Schema::new(columns.iter().map(field).collect::<Vec<_>>())
}

/// An expression over a batch of columns in computed form.
pub(super) fn physical(
    expr: &Expr,
    columns: &[Column],
) -> Result<Arc<dyn datafusion::physical_expr::PhysicalExpr>> {
    let schema = DFSchema::try_from(computed_schema(columns))?;
    let names = HashMap::new();
    let lowered = Lowering { schema: &schema, names: &names }.computed(expr)?;
    datafusion::physical_expr::create_physical_expr(
        &lowered,
        &schema,
        &ExecutionProps::new(),
        &Default::default(),
    )
}

/// The value of an expression of constants.
pub(super) fn evaluate(expr: &Expr) -> Result<ScalarValue> {
    let schema = DFSchema::empty();
    let names = HashMap::new();
    let lowered = Lowering { schema: &schema, names: &names }.computed(expr)?;
    let physical = datafusion::physical_expr::create_physical_expr(
        &lowered,
        &schema,
        &ExecutionProps::new(),
        &Default::default(),
    )?;
    let one_row = RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &one_row)?;
    let array = physical.evaluate(&batch)?.into_array(1)?;
    ScalarValue::try_from_array(&array, 0)
}

/// A plan and what the relation's columns are called in it.
struct Planned {
    plan: LogicalPlan,
    names: HashMap<String, String>,
}

impl Planned {
    /// A plan whose columns have the relation's names.
    fn plain(plan: LogicalPlan) -> Self {
        Self { plan, names: HashMap::new() }
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering { schema: self.plan.schema(), names: &self.names }
    }
}

/// Gives every computed column a name of its own. Two equal steps, such as `extend x = x + 1`
/// twice, would otherwise be equal plan nodes, and DataFusion 55's projection merging drops one of
/// two equal neighbours.
#[derive(Debug, Default)]
struct Planner {
    made: usize,
    given: Option<RecordBatch>,
    /// Whether a function goes by the order of rows.
    keeps_order: bool,
}

impl Planner {
    fn fresh(&mut self) -> String {
        self.made += 1;
        format!("#{}", self.made)
    }

    /// The expressions under fresh names, and the names by those of the relation.
    fn named(
        &mut self,
        items: impl IntoIterator<Item = (String, DfExpr)>,
    ) -> (Vec<DfExpr>, HashMap<String, String>) {
        let mut names = HashMap::new();
        let exprs = items.into_iter().map(|(name, expr)| {
            let fresh = self.fresh();
            names.insert(name, fresh.clone());
            expr.alias(fresh)
        });
        (exprs.collect(), names)
    }

    fn project(
        &mut self,
        input: LogicalPlan,
        items: impl IntoIterator<Item = (String, DfExpr)>,
    ) -> Result<Planned> {
        let (exprs, names) = self.named(items);
        let plan = LogicalPlanBuilder::from(input).project(exprs)?.build()?;
        Ok(Planned { plan, names })
    }

    fn lower(&mut self, relation: &Relation) -> Result<Planned> {
        match &relation.kind {
            RelationKind::Scan { table, provider } => {
                let source = provider_as_source(Arc::clone(provider));
                let name = TableReference::bare(table.as_str());
                let scan = LogicalPlanBuilder::scan(name, source, None)?.build()?;
                readable(scan, &relation.columns).map(Planned::plain)
            }
            RelationKind::Rows(rows) => {
                in_memory(rows_batch(&relation.columns, rows)?).map(Planned::plain)
            }
            RelationKind::Range { first, step, count } => {
                let batch = range_batch(&relation.columns, *first, *step, *count)?;
                in_memory(batch).map(Planned::plain)
            }
            RelationKind::Filter { input, predicate } => {
                let input = self.lower(input)?;
                let predicate = input.lowering().filter(predicate)?;
                let plan = LogicalPlanBuilder::from(input.plan).filter(predicate)?.build()?;
                Ok(Planned { plan, names: input.names })
            }
            RelationKind::Project { input, items } => {
                let input = self.lower(input)?;
                let lowering = input.lowering();
                let items = items
                    .iter()
                    .map(|(name, expr)| Ok((name.clone(), lowering.stored(expr)?)))
                    .collect::<Result<Vec<_>>>()?;
                self.project(input.plan, items)
            }
            RelationKind::Aggregate { input, keys, aggregates } => {
                let input = self.lower(input)?;
                self.aggregate(input, keys, aggregates)
            }
            RelationKind::Sort { input, limit: Some(0), .. } => self.limit(input, 0),
            RelationKind::Sort { input, keys, limit } => {
                let input = self.lower(input)?;
                let sorted = self.sort(input, keys, *limit)?;
                if !self.keeps_order {
                    return Ok(sorted);
                }
                let plan = self.node(Work::InOrder, vec![sorted.plan])?;
                Ok(Planned { plan, names: sorted.names })
            }
            RelationKind::Limit { input, count } => self.limit(input, *count),
            RelationKind::Expand { input, items, options } => {
                let columns = &input.columns;
                let input = self.lower(input)?;
                self.expand(input, columns, items, options)
            }
            RelationKind::Number { input, column, parts, keys } => {
                let input = self.lower(input)?;
                self.number(input, column, parts, keys)
            }
            RelationKind::Union(inputs) => self.union(inputs, &relation.columns),
            RelationKind::Join { left, right, kind, keys } => self.join(left, right, *kind, keys),
            RelationKind::Named { input, .. } | RelationKind::Serialized(input) => {
                self.lower(input)
            }
            RelationKind::Given => {
                let schema = Arc::new(computed_schema(&relation.columns));
                let rows = self.given.clone().unwrap_or_else(|| RecordBatch::new_empty(schema));
                in_memory(rows).map(Planned::plain)
            }
            RelationKind::Append { input, function, arguments, added } => {
                let input = self.lower(input)?;
                self.append(input, function, arguments, added)
            }
            RelationKind::Table { inputs, function, .. } => {
                let inputs = inputs
                    .iter()
                    .map(|input| self.computed(input).map(|input| input.plan))
                    .collect::<Result<Vec<_>>>()?;
                let schema = Arc::new(DFSchema::try_from(computed_schema(&relation.columns))?);
                let work = Work::Table { function: Arc::clone(function), schema };
                self.node(work, inputs).map(Planned::plain)
            }
        }
    }

    fn node(&mut self, work: Work, inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
        self.made += 1;
        let node = FunctionNode::try_new(self.made, work, inputs)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    fn append(
        &mut self,
        input: Planned,
        function: &Arc<dyn RowFunction>,
        arguments: &[Expr],
        added: &[Column],
    ) -> Result<Planned> {
        let lowering = input.lowering();
        let arguments = arguments.iter().map(|argument| lowering.computed(argument));
        let arguments = arguments.collect::<Result<Vec<_>>>()?;
        let (input, arguments) = self.with_columns(input, arguments)?;
        let arguments = arguments.into_iter().map(|argument| match argument {
            DfExpr::Column(column) => column.name,
            other => other.schema_name().to_string(),
        });
        let mut names = input.names;
        let mut fields = Vec::new();
        for of in added {
            let fresh = self.fresh();
            fields.push(Arc::new(field(of).with_name(&fresh)));
            names.insert(of.name.clone(), fresh);
        }
        let work = Work::Rows {
            function: Arc::clone(function),
            arguments: arguments.collect(),
            added: fields,
        };
        let plan = self.node(work, vec![input.plan])?;
        Ok(Planned { plan, names })
    }

    /// The relation's columns, in order and in computed form.
    fn computed(&mut self, relation: &Relation) -> Result<Planned> {
        let input = self.lower(relation)?;
        let lowering = input.lowering();
        let items = relation.columns.iter().map(|of| {
            let expr = Expr::column(&of.name, of.kql_type, Span::default());
            Ok((of.name.clone(), lowering.computed(&expr)?))
        });
        let items = items.collect::<Result<Vec<_>>>()?;
        self.project(input.plan, items)
    }

    fn aggregate(
        &mut self,
        input: Planned,
        keys: &[(String, Expr)],
        made: &[(String, Aggregate)],
    ) -> Result<Planned> {
        let lowering = input.lowering();
        let orders = made.iter().filter_map(|(_, made)| match &made.function {
            AggregateFunction::ValueAt { order, .. } => Some(lowering.sortable(order)),
            _ => None,
        });
        let orders = orders.collect::<Result<Vec<_>>>()?;
        let (input, orders) = self.with_columns(input, orders)?;
        let mut orders = orders.into_iter();
        let lowering = input.lowering();
        let keys = keys
            .iter()
            .map(|(name, key)| Ok((name.clone(), lowering.orderable(key)?)))
            .collect::<Result<Vec<_>>>()?;
        let made = made
            .iter()
            .map(|(name, made)| Ok((name.clone(), aggregate_expr(&lowering, made, &mut orders)?)))
            .collect::<Result<Vec<_>>>()?;
        let (keys, mut names) = self.named(keys);
        let (made, made_names) = self.named(made);
        names.extend(made_names);
        let plan = LogicalPlanBuilder::from(input.plan).aggregate(keys, made)?.build()?;
        Ok(Planned { plan, names })
    }

    fn limit(&mut self, input: &Relation, count: usize) -> Result<Planned> {
        let input = self.lower(input)?;
        let plan = LogicalPlanBuilder::from(input.plan).limit(0, Some(count))?.build()?;
        Ok(Planned { plan, names: input.names })
    }

    fn union(&mut self, inputs: &[Arc<Relation>], columns: &[Column]) -> Result<Planned> {
        let plans = inputs.iter().map(|input| self.lower(input)).collect::<Result<Vec<_>>>()?;
        let same_type = |of: &Column| {
            let types = plans
                .iter()
                .map(|input| Ok(input.lowering().data_type(&of.name)?.0.clone()))
                .collect::<Result<Vec<DataType>>>()?;
            Ok(types.windows(2).all(|pair| pair[0] == pair[1]))
        };
        let same = columns.iter().map(same_type).collect::<Result<Vec<bool>>>()?;
        let fresh: Vec<String> = columns.iter().map(|_| self.fresh()).collect();
        let aligned = plans.iter().map(|input| {
            let lowering = input.lowering();
            let items = columns.iter().zip(&same).zip(&fresh).map(|((of, same), fresh)| {
                let expr = Expr::column(&of.name, of.kql_type, Span::default());
                let lowered = if *same { lowering.stored(&expr) } else { lowering.computed(&expr) };
                Ok(lowered?.alias(fresh))
            });
            let items = items.collect::<Result<Vec<_>>>()?;
            let aligned = LogicalPlanBuilder::from(input.plan.clone()).project(items)?.build()?;
            Ok(Arc::new(aligned))
        });
        let inputs = aligned.collect::<Result<Vec<_>>>()?;
        let plan = match inputs.as_slice() {
            [] => return LogicalPlanBuilder::empty(false).build().map(Planned::plain),
            [only] => LogicalPlan::clone(only),
            // One union of all: planning recurses over unions of unions.
            [first, ..] => {
                let schema = Arc::clone(first.schema());
                LogicalPlan::Union(Union { inputs, schema })
            }
        };
        let names = columns.iter().map(|of| of.name.clone()).zip(fresh).collect();
        Ok(Planned { plan, names })
    }

    fn join(
        &mut self,
        left: &Relation,
        right: &Relation,
        kind: JoinKind,
        keys: &[(String, String)],
    ) -> Result<Planned> {
        let (left_keys, right_keys): (Vec<&str>, Vec<&str>) =
            keys.iter().map(|(left, right)| (left.as_str(), right.as_str())).unzip();
        let left = match kind {
            JoinKind::RightSemi | JoinKind::RightAnti => self.distinct_keys(left, &left_keys)?,
            _ => self.side(left, &left_keys)?,
        };
        let right = match kind {
            JoinKind::LeftSemi | JoinKind::LeftAnti => self.distinct_keys(right, &right_keys)?,
            _ => self.side(right, &right_keys)?,
        };
        let columns = |side: &Planned, keys: Vec<&str>| {
            let name = |key: &str| side.names.get(key).cloned().unwrap_or_else(|| key.to_owned());
            keys.into_iter().map(|key| DfColumn::new_unqualified(name(key))).collect::<Vec<_>>()
        };
        let keys = (columns(&left, left_keys), columns(&right, right_keys));
        let kind = match kind {
            JoinKind::Inner => JoinType::Inner,
            JoinKind::LeftOuter => JoinType::Left,
            JoinKind::RightOuter => JoinType::Right,
            JoinKind::FullOuter => JoinType::Full,
            JoinKind::LeftSemi => JoinType::LeftSemi,
            JoinKind::LeftAnti => JoinType::LeftAnti,
            JoinKind::RightSemi => JoinType::RightSemi,
            JoinKind::RightAnti => JoinType::RightAnti,
        };
        let mut names = left.names;
        names.extend(right.names);
        let plan = LogicalPlanBuilder::from(left.plan)
            .join_detailed(right.plan, kind, keys, None, NullEquality::NullEqualsNull)?
            .build()?;
        Ok(Planned { plan, names })
    }

    /// The input with a column for each expression that is none. DataFusion plans an order by
    /// columns only: of other expressions it loses sight while it rewrites them.
    fn with_columns(
        &mut self,
        input: Planned,
        exprs: Vec<DfExpr>,
    ) -> Result<(Planned, Vec<DfExpr>)> {
        let is_column = |expr: &DfExpr| matches!(expr, DfExpr::Column(_));
        if exprs.iter().all(is_column) {
            return Ok((input, exprs));
        }
        let mut items: Vec<DfExpr> =
            input.plan.schema().columns().into_iter().map(DfExpr::Column).collect();
        let mut columns = Vec::new();
        let mut made: Vec<(DfExpr, DfExpr)> = Vec::new();
        for expr in exprs {
            if is_column(&expr) {
                columns.push(expr);
            } else if let Some((_, same)) = made.iter().find(|(known, _)| *known == expr) {
                columns.push(same.clone());
            } else {
                let fresh = self.fresh();
                columns.push(column(&fresh));
                made.push((expr.clone(), column(&fresh)));
                items.push(expr.alias(fresh));
            }
        }
        let plan = LogicalPlanBuilder::from(input.plan).project(items)?.build()?;
        Ok((Planned { plan, names: input.names }, columns))
    }

    fn sort(&mut self, input: Planned, keys: &[OrderKey], limit: Option<usize>) -> Result<Planned> {
        let lowering = input.lowering();
        let exprs = keys.iter().map(|key| lowering.sort_key(key));
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        let (input, columns) = self.with_columns(input, exprs)?;
        let keys = columns
            .into_iter()
            .zip(keys)
            .map(|(column, key)| Sort::new(column, key.ascending, key.nulls_first));
        let keys: Vec<Sort> = keys.collect();
        let plan = LogicalPlanBuilder::from(input.plan).sort_with_limit(keys, limit)?.build()?;
        Ok(Planned { plan, names: input.names })
    }

    /// One side of a join; keys of both sides are brought to one form.
    fn side(&mut self, relation: &Relation, keys: &[&str]) -> Result<Planned> {
        let input = self.lower(relation)?;
        let lowering = input.lowering();
        let items = relation.columns.iter().map(|of| {
            let expr = Expr::column(&of.name, of.kql_type, Span::default());
            let is_key = keys.contains(&of.name.as_str());
            let lowered = if is_key { lowering.computed(&expr) } else { lowering.stored(&expr) };
            Ok((of.name.clone(), lowered?))
        });
        let items = items.collect::<Result<Vec<_>>>()?;
        self.project(input.plan, items)
    }

    /// The keys of the side of a join whose rows are only looked for. Each once, for DataFusion goes
    /// through all pairs of rows that match, and makes nothing of them in between.
    fn distinct_keys(&mut self, relation: &Relation, keys: &[&str]) -> Result<Planned> {
        let side = self.side(relation, keys)?;
        let name = |key: &str| side.names.get(key).cloned().unwrap_or_else(|| key.to_owned());
        let columns: Vec<DfExpr> = keys.iter().map(|key| column(&name(key))).collect();
        let plan = LogicalPlanBuilder::from(side.plan)
            .aggregate(columns, Vec::<DfExpr>::new())?
            .build()?;
        Ok(Planned { plan, names: side.names })
    }
}

/// Casts the columns whose Arrow type is not one that the language's types are read from.
fn readable(scan: LogicalPlan, columns: &[Column]) -> Result<LogicalPlan> {
    let reads = |of: &Column| -> Result<bool> {
        let field = scan.schema().field_with_unqualified_name(&of.name)?;
        Ok(of.kql_type.reads(field.data_type()))
    };
    let all = columns.iter().map(reads).collect::<Result<Vec<_>>>()?;
    if all.iter().all(|reads| *reads) {
        return Ok(scan);
    }
    let items: Vec<DfExpr> = columns
        .iter()
        .zip(all)
        .map(|(of, reads)| {
            let stored = column(&of.name);
            let utc = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
            let cast = match of.kql_type {
                _ if reads => stored,
                KqlType::DateTime => datafusion::logical_expr::cast(stored, utc),
                other => datafusion::logical_expr::cast(stored, other.computed_type()),
            };
            cast.alias(&of.name)
        })
        .collect();
    LogicalPlanBuilder::from(scan).project(items)?.build()
}

fn in_memory(batch: RecordBatch) -> Result<LogicalPlan> {
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    let source = provider_as_source(Arc::new(table));
    LogicalPlanBuilder::scan(TableReference::bare("rows"), source, None)?.build()
}

fn field(column: &Column) -> Field {
    let nullable = column.kql_type != KqlType::String;
    Field::new(&column.name, column.kql_type.computed_type(), nullable)
}

pub(super) fn rows_batch(columns: &[Column], rows: &[Vec<ScalarValue>]) -> Result<RecordBatch> {
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    if rows.is_empty() {
        return Ok(RecordBatch::new_empty(schema));
    }
    let arrays = (0..columns.len())
        .map(|at| ScalarValue::iter_to_array(rows.iter().filter_map(|row| row.get(at).cloned())))
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
}

fn range_batch(columns: &[Column], first: i64, step: i64, count: usize) -> Result<RecordBatch> {
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let values = std::iter::successors(Some(first), |value| Some(value.wrapping_add(step)));
    let values = values.take(count);
    let array: ArrayRef = match columns.first().map(|column| column.kql_type) {
        Some(KqlType::Int) => {
            Arc::new(values.map(|value| i32::try_from(value).ok()).collect::<Int32Array>())
        }
        _ => Arc::new(values.collect::<Int64Array>()),
    };
    Ok(RecordBatch::try_new(schema, vec![array])?)
}

/// `orders` has the column of each order, in turn.
fn aggregate_expr(
    lowering: &Lowering<'_>,
    made: &Aggregate,
    orders: &mut impl Iterator<Item = DfExpr>,
) -> Result<DfExpr> {
    let argument = &made.argument;
    let call = |function: Arc<AggregateUDF>, argument: DfExpr| function.call(vec![argument]);
    let expr = match &made.function {
        AggregateFunction::Rows => call(aggregates::count::count_udaf(), lit(1_i64)),
        AggregateFunction::Values => {
            call(aggregates::count::count_udaf(), lowering.orderable(argument)?)
        }
        AggregateFunction::DistinctValues => {
            let values = lowering.orderable(argument)?;
            if function::distinct::takes(&values.get_type(lowering.schema)?) {
                function::distinct::distinct_count().call(vec![values])
            } else {
                call(aggregates::count::count_udaf(), values).distinct().build()?
            }
        }
        AggregateFunction::Sum => call(aggregates::sum::sum_udaf(), lowering.computed(argument)?),
        AggregateFunction::Min => {
            call(aggregates::min_max::min_udaf(), lowering.orderable(argument)?)
        }
        AggregateFunction::Max => {
            call(aggregates::min_max::max_udaf(), lowering.orderable(argument)?)
        }
        AggregateFunction::StandardDeviation { sample } => {
            let function = if *sample {
                aggregates::stddev::stddev_udaf()
            } else {
                aggregates::stddev::stddev_pop_udaf()
            };
            call(function, lowering.computed(argument)?)
        }
        AggregateFunction::Variance { sample } => {
            let function = if *sample {
                aggregates::variance::var_samp_udaf()
            } else {
                aggregates::variance::var_pop_udaf()
            };
            call(function, lowering.computed(argument)?)
        }
        AggregateFunction::BitsOfAll => {
            call(aggregates::bit_and_or_xor::bit_and_udaf(), lowering.computed(argument)?)
        }
        AggregateFunction::BitsOfAny => {
            call(aggregates::bit_and_or_xor::bit_or_udaf(), lowering.computed(argument)?)
        }
        AggregateFunction::BitsOfOdd => {
            call(aggregates::bit_and_or_xor::bit_xor_udaf(), lowering.computed(argument)?)
        }
        AggregateFunction::Covariance { sample, other } => {
            let function = if *sample {
                aggregates::covariance::covar_samp_udaf()
            } else {
                aggregates::covariance::covar_pop_udaf()
            };
            function.call(vec![lowering.computed(argument)?, lowering.computed(other)?])
        }
        AggregateFunction::Gather { gather, second } => {
            let mut arguments = vec![lowering.computed(argument)?];
            if let Some(second) = second {
                arguments.push(lowering.computed(second)?);
            }
            function::gather::gather(gather.clone()).call(arguments)
        }
        AggregateFunction::Percentile(percent) => {
            call(Arc::new(function::percentile(*percent)), lowering.computed(argument)?)
        }
        AggregateFunction::ValueAt { order, greatest } => {
            let order = match orders.next() {
                Some(column) => column,
                None => lowering.sortable(order)?,
            };
            let value = lowering.stored(argument)?;
            if function::value_at::takes(&order.get_type(lowering.schema)?) {
                function::value_at::value_at(*greatest).call(vec![order, value])
            } else {
                let order = Sort::new(order, !greatest, false);
                call(aggregates::first_last::first_value_udaf(), value)
                    .order_by(vec![order])
                    .build()?
            }
        }
        AggregateFunction::AnyValue => {
            call(aggregates::first_last::first_value_udaf(), lowering.stored(argument)?)
                .null_treatment(NullTreatment::IgnoreNulls)
                .build()?
        }
        AggregateFunction::RowValue => {
            call(aggregates::first_last::first_value_udaf(), lowering.stored(argument)?)
        }
    };
    match &made.filter {
        Some(filter) => expr.filter(lowering.filter(filter)?).build(),
        None => Ok(expr),
    }
}
