//! The session that plans and runs queries.

use super::codes::{GroupByCodes, ReadCodes};
use super::node::FunctionPlanner;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::optimizer::Optimizer;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;

/// A session over the runtime's caches and memory. If rows must keep their order, they are not
/// dealt out to several threads after they are sorted.
pub(crate) fn session(runtime: Arc<RuntimeEnv>, keeps_order: bool) -> SessionContext {
    // This rule looks through projections by putting their expressions into a copy of the filter,
    // which grows without bound over a chain of columns that use the one before several times.
    let mut rules = Optimizer::new().rules;
    rules.retain(|rule| rule.name() != "eliminate_outer_join");
    rules.push(Arc::new(ReadCodes));
    let config = SessionConfig::new()
        // DataFusion reckons whether a choice can be null in two ways that do not always agree.
        .set_bool("datafusion.execution.skip_physical_aggregate_schema_check", true)
        .set_bool("datafusion.optimizer.enable_round_robin_repartition", !keeps_order);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_optimizer_rules(rules)
        .with_query_planner(Arc::new(Planner))
        .with_physical_optimizer_rule(Arc::new(GroupByCodes))
        .with_physical_optimizer_rule(Arc::new(GiveTurns))
        .build();
    SessionContext::new_with_state(state)
}

/// Has what makes many rows of few give other tasks a turn now and then, among them the query's
/// timeout. DataFusion has only what reads rows do so, and one batch that is read may become millions.
#[derive(Debug)]
struct GiveTurns;

impl PhysicalOptimizerRule for GiveTurns {
    fn name(&self) -> &'static str {
        "give_turns"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wrapped = plan.transform_up(|plan| {
            let name = plan.name();
            if name.ends_with("JoinExec") || name == "UnnestExec" {
                let cooperative: Arc<dyn ExecutionPlan> = Arc::new(CooperativeExec::new(plan));
                return Ok(Transformed::yes(cooperative));
            }
            Ok(Transformed::no(plan))
        })?;
        Ok(wrapped.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planner =
            DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(FunctionPlanner)]);
        planner.create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl ExtensionPlanner for FunctionPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        Ok(Self::plan(node, physical_inputs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int64Array, ListArray, RecordBatch};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::logical_expr::JoinType;
    use datafusion::physical_plan::displayable;

    #[tokio::test]
    async fn what_makes_many_rows_of_few_gives_turns() {
        let session = session(Arc::default(), false);
        let lists = [Some(vec![Some(1), Some(2)])];
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
        let keys = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![1])) as _)]);
        let lists = RecordBatch::try_from_iter([
            ("of", Arc::new(Int64Array::from(vec![1])) as _),
            ("items", Arc::new(lists) as _),
        ]);
        let left = session.read_batch(keys.unwrap()).unwrap();
        let right = session.read_batch(lists.unwrap()).unwrap();
        let joined = left.join(right, JoinType::Inner, &["k"], &["of"], None).unwrap();
        let plan = joined.unnest_columns(&["items"]).unwrap().create_physical_plan().await.unwrap();
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        let lines: Vec<&str> = shown.lines().map(str::trim).collect();
        for name in ["HashJoinExec", "UnnestExec"] {
            let at = lines.iter().position(|line| line.starts_with(name)).unwrap();
            assert!(lines[at - 1].starts_with("CooperativeExec"), "{shown}");
        }
    }
}
