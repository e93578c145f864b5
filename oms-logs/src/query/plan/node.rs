//! Plan nodes for what DataFusion has none: functions of rows that add columns, and functions of
//! whole tables.

use super::held::Held;
use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{
    Expr as DfExpr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, OrderingRequirements, PhysicalExpr,
};
use datafusion::physical_plan::ExecutionPlanProperties;
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Makes columns, a value for each row.
pub(crate) trait RowFunction: Debug + Send + Sync {
    /// Its name in plans.
    fn name(&self) -> &'static str;

    /// Whether a value depends on other rows than its own. If so, all rows come in one batch, in
    /// their order.
    fn needs_all_rows(&self) -> bool {
        false
    }

    /// The columns; `arguments` are in computed form and have `rows` values.
    fn run(&self, arguments: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>>;
}

/// Makes rows of all rows of its inputs.
#[async_trait]
pub(crate) trait TableFunction: Debug + Send + Sync {
    /// Its name in plans.
    fn name(&self) -> &'static str;

    /// The rows; each input comes in one batch, whose columns are in computed form.
    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>>;
}

/// What a node does.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Adds columns made of those columns of the input.
    Rows { function: Arc<dyn RowFunction>, arguments: Vec<String>, added: Vec<FieldRef> },
    /// Makes rows with these columns.
    Table { function: Arc<dyn TableFunction>, schema: DFSchemaRef },
    /// Keeps the order of the sort below.
    InOrder,
}

impl Work {
    fn name(&self) -> &'static str {
        match self {
            Self::Rows { function, .. } => function.name(),
            Self::Table { function, .. } => function.name(),
            Self::InOrder => "in_order",
        }
    }

    /// Whether it must see every row before it makes the first.
    fn needs_all_rows(&self) -> bool {
        match self {
            Self::Rows { function, .. } => function.needs_all_rows(),
            Self::Table { .. } => true,
            Self::InOrder => false,
        }
    }
}

/// A node of a logical plan. Two nodes are equal only if they are one.
#[derive(Clone, Debug)]
pub(super) struct FunctionNode {
    id: usize,
    work: Work,
    inputs: Vec<LogicalPlan>,
    schema: DFSchemaRef,
}

impl FunctionNode {
    pub(super) fn try_new(id: usize, work: Work, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let schema = match (&work, inputs.as_slice()) {
            (Work::Table { schema, .. }, _) => Arc::clone(schema),
            (Work::InOrder, [input]) => Arc::clone(input.schema()),
            (Work::Rows { added, .. }, [input]) => {
                let of_input = input.schema().iter();
                let fields = of_input
                    .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
                    .chain(added.iter().map(|field| (None, Arc::clone(field))))
                    .collect();
                Arc::new(DFSchema::new_with_metadata(fields, Default::default())?)
            }
            _ => return internal_err!("a function of rows has one input"),
        };
        Ok(Self { id, work, inputs, schema })
    }
}

impl PartialEq for FunctionNode {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.inputs == other.inputs
    }
}

impl Eq for FunctionNode {}

impl Hash for FunctionNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
        self.inputs.hash(state);
    }
}

impl PartialOrd for FunctionNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.id.cmp(&other.id) {
            Ordering::Equal => self.inputs.partial_cmp(&other.inputs),
            unequal => Some(unequal),
        }
    }
}

impl UserDefinedLogicalNodeCore for FunctionNode {
    fn name(&self) -> &str {
        self.work.name()
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.inputs.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<DfExpr> {
        Vec::new()
    }

    /// Conditions on columns that only pass through can be checked before.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let added = match &self.work {
            Work::Rows { added, .. } if !self.work.needs_all_rows() => added.len(),
            _ => self.schema.fields().len(),
        };
        self.schema.fields().iter().rev().take(added).map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function: {}", self.work.name())
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<DfExpr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        Self::try_new(self.id, self.work.clone(), inputs)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let arguments = match &self.work {
            Work::Rows { arguments, .. } => arguments,
            Work::InOrder => return Some(vec![output_columns.to_vec()]),
            Work::Table { .. } => return None,
        };
        let of_input = self.inputs.first()?.schema();
        let mut needed: Vec<usize> =
            output_columns.iter().copied().filter(|at| *at < of_input.fields().len()).collect();
        for argument in arguments {
            let at = of_input.fields().iter().position(|field| field.name() == argument)?;
            if !needed.contains(&at) {
                needed.push(at);
            }
        }
        needed.sort_unstable();
        Some(vec![needed])
    }

    fn supports_limit_pushdown(&self) -> bool {
        !self.work.needs_all_rows()
    }
}

/// Plans [`FunctionNode`]s.
#[derive(Debug)]
pub(super) struct FunctionPlanner;

impl FunctionPlanner {
    /// The physical node, or `None` if the node is not one of this crate.
    pub(super) fn plan(
        node: &dyn UserDefinedLogicalNode,
        inputs: &[Arc<dyn ExecutionPlan>],
    ) -> Option<Arc<dyn ExecutionPlan>> {
        let node = node.as_any().downcast_ref::<FunctionNode>()?;
        let schema = Arc::new(node.schema.as_arrow().clone());
        if let (Work::InOrder, [input]) = (&node.work, inputs) {
            let order = input.output_ordering().cloned().map(OrderingRequirements::from);
            return Some(Arc::new(InOrderExec::new(input, order)));
        }
        Some(Arc::new(FunctionExec::new(node.work.clone(), inputs.to_vec(), schema)))
    }
}

/// Passes sorted rows on, all in one stream. It keeps DataFusion from dropping the sort below for want
/// of an operator that is known to need it, and from moving another one to it that stands above.
#[derive(Debug)]
struct InOrderExec {
    input: Arc<dyn ExecutionPlan>,
    order: Option<OrderingRequirements>,
    properties: Arc<PlanProperties>,
}

impl InOrderExec {
    fn new(input: &Arc<dyn ExecutionPlan>, order: Option<OrderingRequirements>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input: Arc::clone(input), order, properties: Arc::new(properties) }
    }
}

impl DisplayAs for InOrderExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InOrderExec")
    }
}

impl ExecutionPlan for InOrderExec {
    fn name(&self) -> &'static str {
        "InOrderExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.order.clone()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.first() {
            Some(input) => Ok(Arc::new(Self::new(input, self.order.clone()))),
            None => internal_err!("rows in order have one input"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.first() {
            Some(input) => Ok(Arc::new(Self::new(input, self.order.clone()))),
            None => internal_err!("rows in order have one input"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}

/// A node of a physical plan.
#[derive(Debug)]
struct FunctionExec {
    work: Work,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
}

impl FunctionExec {
    fn new(work: Work, inputs: Vec<Arc<dyn ExecutionPlan>>, schema: SchemaRef) -> Self {
        let (partitions, emission) = if work.needs_all_rows() {
            (1, EmissionType::Final)
        } else {
            let of_input = inputs.first().map(|input| input.output_partitioning());
            (of_input.map_or(1, Partitioning::partition_count), EmissionType::Incremental)
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            emission,
            Boundedness::Bounded,
        );
        Self { work, inputs, properties: Arc::new(properties) }
    }
}

impl DisplayAs for FunctionExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionExec: {}", self.work.name())
    }
}

impl ExecutionPlan for FunctionExec {
    fn name(&self) -> &'static str {
        "FunctionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let needed = if self.work.needs_all_rows() {
            Distribution::SinglePartition
        } else {
            Distribution::UnspecifiedDistribution
        };
        InputDistributionRequirements::new(vec![needed; self.inputs.len()])
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![!self.work.needs_all_rows(); self.inputs.len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(self.work.clone(), children, self.schema())))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(self.work.clone(), children, self.schema())))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let inputs = self
            .inputs
            .iter()
            .map(|input| input.execute(partition, Arc::clone(&context)))
            .collect::<Result<Vec<_>>>()?;
        let schema = self.schema();
        let work = self.work.clone();
        if !work.needs_all_rows() {
            let Some(input) = inputs.into_iter().next() else {
                return internal_err!("a function of rows has one input");
            };
            let made = Arc::clone(&schema);
            let batches = input.map(move |batch| add_columns(&work, &batch?, &made));
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)));
        }
        let made = Arc::clone(&schema);
        let batches = futures::stream::once(run_whole(work, inputs, made, context))
            .map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok)))
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// Runs a function that needs all rows.
async fn run_whole(
    work: Work,
    inputs: Vec<SendableRecordBatchStream>,
    schema: SchemaRef,
    context: Arc<TaskContext>,
) -> Result<Vec<RecordBatch>> {
    let reservation = MemoryConsumer::new(work.name()).register(&context.runtime_env().memory_pool);
    let mut tables = Vec::with_capacity(inputs.len());
    for mut input in inputs {
        let mut batches = Vec::new();
        let mut held = Held::default();
        while let Some(batch) = input.next().await {
            let batch = batch?;
            // The rows are held once as they come and once together.
            reservation.try_grow(2 * held.add(&batch))?;
            batches.push(batch);
        }
        tables.push(concat_batches(&input.schema(), &batches)?);
    }
    match &work {
        Work::Table { function, .. } => function.run(tables, &schema, &context).await,
        Work::Rows { .. } | Work::InOrder => match tables.first() {
            Some(table) => Ok(vec![add_columns(&work, table, &schema)?]),
            None => Ok(Vec::new()),
        },
    }
}

fn add_columns(work: &Work, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let Work::Rows { function, arguments, .. } = work else {
        return internal_err!("a function of tables adds no columns");
    };
    let of_input = batch.schema();
    let arguments = arguments
        .iter()
        .map(|name| Ok(Arc::clone(batch.column(of_input.index_of(name)?))))
        .collect::<Result<Vec<_>>>()?;
    let mut columns = batch.columns().to_vec();
    columns.extend(function.run(&arguments, batch.num_rows())?);
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
