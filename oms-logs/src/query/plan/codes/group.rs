//! The first phase of grouping by codes.

use crate::query::function::distinct::is_distinct_count;
use crate::query::function::never_null_of;
use crate::query::ids::{GroupIds, is_number, is_text};
use datafusion::arrow::array::{ArrayRef, AsArray as _, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, aggregate_expressions};
use datafusion::physical_plan::execution_plan::{EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputOrderMode, PlanProperties,
    SendableRecordBatchStream,
};
use futures::StreamExt as _;
use std::fmt;
use std::sync::Arc;

/// The most groups that are kept at once. The next phase unites what is given away before the end.
const GROUPS_MAX: usize = 1 << 20;

/// Puts [`GroupByCodesExec`] in the place of the first of two phases of grouping, where a key comes
/// as codes and the operator knows all keys and aggregates.
#[derive(Debug)]
pub(in crate::query::plan) struct GroupByCodes;

impl PhysicalOptimizerRule for GroupByCodes {
    fn name(&self) -> &'static str {
        "group_by_codes"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_up(|plan| {
            let of_codes = match plan.downcast_ref::<AggregateExec>() {
                Some(phase) => GroupByCodesExec::of(phase)?,
                None => None,
            };
            Ok(match of_codes {
                Some(of_codes) => Transformed::yes(Arc::new(of_codes) as _),
                None => Transformed::no(plan),
            })
        })?;
        Ok(replaced.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A key of groups: whole numbers, or a column of codes or text.
#[derive(Clone, Debug)]
struct Key {
    expr: Arc<dyn PhysicalExpr>,
    is_text: bool,
}

impl Key {
    /// The key of an expression that DataFusion groups by.
    fn of(expr: &Arc<dyn PhysicalExpr>, input: &SchemaRef) -> Result<Option<Self>> {
        if let Some(column) = never_null_of(expr)
            && is_text(&column.data_type(input)?)
        {
            return Ok(Some(Self { expr: Arc::clone(column), is_text: true }));
        }
        let expr = Arc::clone(expr);
        let data_type = expr.data_type(input)?;
        // Text that can be null has groups of nulls for DataFusion.
        let is_text = is_text(&data_type) && !expr.nullable(input)?;
        Ok((is_text || is_number(&data_type)).then_some(Self { expr, is_text }))
    }
}

/// Groups rows and gives each group's keys and the states of its aggregates: what the first of
/// DataFusion's two phases gives. It may give a group several times, as that one may.
#[derive(Clone, Debug)]
struct GroupByCodesExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<Key>,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    properties: Arc<PlanProperties>,
}

impl GroupByCodesExec {
    /// In the place of a phase, if that is a first one and has keys and aggregates of the kinds that
    /// this knows.
    fn of(phase: &AggregateExec) -> Result<Option<Self>> {
        let is_plain = *phase.mode() == AggregateMode::Partial
            && phase.group_expr().is_single()
            && !phase.group_expr().is_empty()
            && phase.limit_options().is_none()
            && phase.dynamic_expressions_produced().is_empty()
            && *phase.input_order_mode() == InputOrderMode::Linear;
        let aggregates = phase.aggr_expr();
        if !is_plain || !aggregates.iter().all(|made| made.groups_accumulator_supported()) {
            return Ok(None);
        }
        let input = phase.input().schema();
        let keys = phase.group_expr().expr().iter().map(|(expr, _)| Key::of(expr, &input));
        let Some(keys) = keys.collect::<Result<Option<Vec<Key>>>>()? else { return Ok(None) };
        let mode = AggregateMode::Partial;
        let mut arguments = aggregate_expressions(aggregates, &mode, keys.len())?;
        for (made, arguments) in aggregates.iter().zip(&mut arguments) {
            if is_distinct_count(made.fun())
                && let [text] = arguments.as_mut_slice()
                && let Some(column) = never_null_of(text).cloned()
            {
                *text = column;
            }
        }
        let read = keys.iter().map(|key| &key.expr).chain(arguments.iter().flatten());
        let read = read.map(|expr| expr.data_type(&input)).collect::<Result<Vec<_>>>()?;
        if !read.iter().any(|data_type| matches!(data_type, DataType::Dictionary(..))) {
            return Ok(None);
        }
        let properties = PlanProperties::clone(phase.properties());
        Ok(Some(Self {
            input: Arc::clone(phase.input()),
            keys,
            aggregates: aggregates.to_vec(),
            arguments,
            filters: phase.filter_expr().to_vec(),
            properties: Arc::new(properties.with_emission_type(EmissionType::Final)),
        }))
    }

    fn with_input(
        &self,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(Self { input, ..self.clone() })),
            _ => internal_err!("groups have one input"),
        }
    }
}

impl DisplayAs for GroupByCodesExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(|key| key.expr.to_string()).collect();
        let made: Vec<&str> = self.aggregates.iter().map(|made| made.name()).collect();
        write!(f, "GroupByCodesExec: keys=[{}], aggregates=[{}]", keys.join(", "), made.join(", "))
    }
}

impl ExecutionPlan for GroupByCodesExec {
    fn name(&self) -> &'static str {
        "GroupByCodesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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
        self.with_input(children)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.with_input(children)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let schema = self.schema();
        let consumer = MemoryConsumer::new(format!("GroupByCodesExec[{partition}]"));
        let grouping = Grouping {
            groups: Groups::new(self)?,
            of: self.clone(),
            input,
            reservation: consumer.register(context.memory_pool()),
            rows_max: context.session_config().batch_size(),
            given: None,
            is_done: false,
        };
        let batches = futures::stream::try_unfold(grouping, |mut grouping| async {
            let batch = grouping.next().await?;
            Ok(batch.map(|batch| (batch, grouping)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// One partition's rows on their way into groups.
struct Grouping {
    of: GroupByCodesExec,
    input: SendableRecordBatchStream,
    groups: Groups,
    reservation: MemoryReservation,
    rows_max: usize,
    /// Groups that are given away, in parts.
    given: Option<RecordBatch>,
    is_done: bool,
}

impl Grouping {
    /// Reads until there are groups to give away, which is when there are too many, or no more rows.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(given) = self.given.take() {
                let rows = given.num_rows().min(self.rows_max.max(1));
                if rows < given.num_rows() {
                    self.given = Some(given.slice(rows, given.num_rows() - rows));
                }
                return Ok(Some(given.slice(0, rows)));
            }
            if self.is_done {
                return Ok(None);
            }
            let is_full = match self.input.next().await {
                Some(batch) => {
                    self.groups.add(&batch?, &self.of)?;
                    self.is_full()?
                }
                None => {
                    self.is_done = true;
                    true
                }
            };
            if is_full {
                let full = std::mem::replace(&mut self.groups, Groups::new(&self.of)?);
                let given = full.give(&self.of.schema(), self.of.keys.len())?;
                self.given = Some(given).filter(|given| given.num_rows() > 0);
                self.reservation.free();
            }
        }
    }

    /// Whether the groups take more memory than there is.
    ///
    /// # Errors
    /// There is too little for any group.
    fn is_full(&mut self) -> Result<bool> {
        if self.groups.ids.len() >= GROUPS_MAX {
            return Ok(true);
        }
        match self.reservation.try_resize(self.groups.size()) {
            Ok(()) => Ok(false),
            Err(error) if self.groups.ids.len() == 0 => Err(error),
            Err(_) => Ok(true),
        }
    }
}

/// Groups and the states of their aggregates.
struct Groups {
    ids: GroupIds,
    states: Vec<Box<dyn GroupsAccumulator>>,
    /// The group of each row of a batch.
    of_rows: Vec<usize>,
}

impl Groups {
    fn new(of: &GroupByCodesExec) -> Result<Self> {
        let states = of.aggregates.iter().map(|made| made.create_groups_accumulator());
        Ok(Self {
            ids: GroupIds::new(of.keys.iter().map(|key| key.is_text)),
            states: states.collect::<Result<_>>()?,
            of_rows: Vec::new(),
        })
    }

    fn size(&self) -> usize {
        let states: usize = self.states.iter().map(|state| state.size()).sum();
        self.ids.size() + states + 8 * self.of_rows.capacity()
    }

    fn add(&mut self, batch: &RecordBatch, of: &GroupByCodesExec) -> Result<()> {
        let values =
            |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(batch.num_rows());
        let keys = of.keys.iter().map(|key| values(&key.expr)).collect::<Result<Vec<_>>>()?;
        self.ids.assign(&keys, &mut self.of_rows)?;
        let groups = self.ids.len();
        for ((state, arguments), filter) in
            self.states.iter_mut().zip(&of.arguments).zip(&of.filters)
        {
            let arguments = arguments.iter().map(values).collect::<Result<Vec<ArrayRef>>>()?;
            let filter = filter.as_ref().map(values).transpose()?;
            let filter = filter.as_ref().and_then(|filter| filter.as_boolean_opt());
            state.update_batch(&arguments, &self.of_rows, filter, groups)?;
        }
        Ok(())
    }

    /// All groups, as rows of their keys and states.
    fn give(mut self, schema: &SchemaRef, keys: usize) -> Result<RecordBatch> {
        if self.ids.len() == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(schema)));
        }
        let types = schema.fields().iter().take(keys).map(|field| field.data_type().clone());
        let mut columns = self.ids.values(&types.collect::<Vec<_>>())?;
        for state in &mut self.states {
            columns.extend(state.state(EmitTo::All)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use crate::Workspace;
    use crate::query::function;
    use crate::query::plan::session;
    use crate::query::types::KqlType;
    use datafusion::arrow::array::{AsArray as _, RecordBatch};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::execution::TaskContext;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::functions_aggregate::count::count_udaf;
    use datafusion::logical_expr::{LogicalPlan, ident, lit};
    use datafusion::physical_plan::execution_plan::{
        ChildrenPropertiesMode, ReplaceChildrenOptions,
    };
    use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
    use jiff::{SignedDuration, Timestamp};
    use oms_core::clock::ManualClock;
    use oms_core::record::{Batch, Record};
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    /// Rows of `computers` computers, in a file and fresh.
    async fn filled(folder: &Path, computers: i64) -> Workspace {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let clock = Arc::new(ManualClock::new(now));
        let workspace = Workspace::builder(folder).clock(clock).build().await.unwrap();
        for sequence in 1..=2 {
            let records = (0..4_000).map(|number: i64| {
                let time = now - SignedDuration::from_secs(number);
                let computer = format!("computer-{}", number % computers);
                Record::new("Lines_CL".parse().unwrap(), time, computer).with("N", number)
            });
            let records = records.collect();
            workspace.write(Batch { producer: "p".into(), sequence, records }).await.unwrap();
            if sequence == 1 {
                workspace.flush().await.unwrap();
            }
        }
        workspace
    }

    fn by_computer(workspace: &Workspace) -> LogicalPlan {
        let session = session(Arc::default(), false);
        let frame = session.read_table(workspace.table_provider("Lines_CL").unwrap()).unwrap();
        let key = function::never_null(KqlType::String).call(vec![ident("Computer")]);
        let count = count_udaf().call(vec![lit(1_i64)]);
        frame.aggregate(vec![key], vec![count]).unwrap().into_unoptimized_plan()
    }

    fn counts(batches: &[RecordBatch]) -> BTreeMap<String, i64> {
        let rows = batches.iter().flat_map(|batch| {
            let counts = batch.column(1).as_primitive::<Int64Type>().values().to_vec();
            let texts =
                batch.column(0).as_string_view().iter().map(|text| text.unwrap().to_owned());
            texts.zip(counts).collect::<Vec<_>>()
        });
        rows.collect()
    }

    #[tokio::test]
    async fn a_column_that_is_only_grouped_by_is_read_as_codes() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = filled(folder.path(), 40).await;
        let mut state = session(Arc::default(), false).state();
        state.config_mut().options_mut().execution.target_partitions = 2;
        let plan = state.create_physical_plan(&by_computer(&workspace)).await.unwrap();
        let shown = displayable(plan.as_ref()).indent(true).to_string();
        assert!(shown.contains("GroupByCodesExec") && shown.contains(".parquet"), "{shown}");
        let context = state.task_ctx();
        let counts = counts(&collect(plan, context).await.unwrap());
        assert_eq!(counts.len(), 40);
        assert!(counts.values().all(|count| *count == 200), "{counts:?}");
    }

    /// The operator in a plan.
    fn find(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
        if plan.name() == "GroupByCodesExec" {
            return Some(Arc::clone(plan));
        }
        plan.children().into_iter().find_map(find)
    }

    #[tokio::test]
    async fn groups_beyond_the_memory_are_given_away_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = filled(folder.path(), 2_000).await;
        let mut state = session(Arc::default(), false).state();
        state.config_mut().options_mut().execution.target_partitions = 2;
        state.config_mut().options_mut().set("datafusion.execution.batch_size", "500").unwrap();
        let plan = state.create_physical_plan(&by_computer(&workspace)).await.unwrap();
        let phase = find(&plan).unwrap();
        // Its rows come from memory, so that nothing but the groups takes any of what there is.
        let input = Arc::clone(phase.children()[0]);
        let rows = collect(Arc::clone(&input), state.task_ctx()).await.unwrap();
        let rows = MemorySourceConfig::try_new_exec(&[rows, vec![]], input.schema(), None).unwrap();
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        let phase = phase.replace_children(vec![rows], options).unwrap();

        let runtime = RuntimeEnvBuilder::new().with_memory_limit(150_000, 1.0).build_arc().unwrap();
        let context = Arc::new(TaskContext::default().with_runtime(runtime));
        let given = collect(phase, context).await.unwrap();
        let given_rows: usize = given.iter().map(RecordBatch::num_rows).sum();
        assert!(given_rows > 2_000, "{given_rows}: no group was given twice");
        let mut sums = BTreeMap::new();
        for (computer, count) in given.iter().flat_map(|batch| counts(std::slice::from_ref(batch)))
        {
            *sums.entry(computer).or_insert(0) += count;
        }
        assert_eq!(sums.len(), 2_000);
        assert!(sums.values().all(|count| *count == 4), "{sums:?}");
    }
}
