//! Which rows of a table a condition of the language takes.

use super::diagnostic::Problem;
use super::syntax::ast::{ExprKind, OperatorKind, Statement};
use super::{
    QueryError, QueryOptions, TableSource, analyze, context, failure, parsed, plan, refused, run,
};
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use std::sync::Arc;

/// What the rows are called in the text of the query: no table has such a name, so that a condition
/// which asks for the table itself gets all of it.
const ROWS: &str = "the rows of a selection";

/// A condition, such as `Computer == 'x' and TimeGenerated < ago(30d)`.
#[derive(Clone, Debug)]
pub(crate) struct Condition(String);

/// Rows, and the tables that a condition may look into.
#[derive(Debug)]
struct Rows<'a> {
    rows: Arc<dyn TableProvider>,
    others: &'a dyn TableSource,
}

impl TableSource for Rows<'_> {
    fn table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        match name {
            ROWS => Some(Arc::clone(&self.rows)),
            other => self.others.table(other),
        }
    }

    fn table_names(&self) -> Vec<String> {
        self.others.table_names()
    }
}

impl Condition {
    /// Reads a condition: one expression, and nothing behind it.
    ///
    /// # Errors
    /// [`QueryError`] for what is wrong with the text. Its lines count from 1.
    pub(crate) fn parse(text: &str) -> Result<Self, QueryError> {
        let condition = Self(text.to_owned());
        let asked = condition.filter();
        let query = parsed(&asked)?;
        let is_one = match query.statements.as_slice() {
            [Statement::Ask(expr)] => match &expr.kind {
                ExprKind::Pipeline(pipeline) => matches!(
                    pipeline.operators.as_slice(),
                    [operator] if matches!(operator.kind, OperatorKind::Where(_))
                ),
                _ => false,
            },
            _ => false,
        };
        if is_one {
            return Ok(condition);
        }
        let problem = Problem::syntax(super::syntax::Span::default(), "expected one condition");
        Err(refused(&asked, vec![problem]))
    }

    /// The rows that it takes. The condition has the first line, so that places in it are right;
    /// a comment in it ends with its line.
    fn filter(&self) -> String {
        format!("['{ROWS}'] | where ({}\n)", self.0)
    }

    /// How many of the rows it takes.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(crate) async fn count(
        &self,
        rows: Arc<dyn TableProvider>,
        others: &dyn TableSource,
        options: &QueryOptions,
    ) -> Result<u64, QueryError> {
        let source = Rows { rows, others };
        let report = run(&source, &format!("{} | count", self.filter()), options).await?;
        let count = report.rows().first().and_then(|row| row.first()?.as_u64());
        Ok(count.unwrap_or(0))
    }

    /// Whether it takes a row, for each in their order: batches of one column that is never null.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(crate) async fn mask(
        &self,
        rows: Arc<dyn TableProvider>,
        others: &dyn TableSource,
        options: &QueryOptions,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let source = Rows { rows, others };
        let text = format!("['{ROWS}'] | project Taken = coalesce(tobool(({}\n)), false)", self.0);
        let failed = |error| failure(error, options);
        let bound = analyze(&source, &text, options).await?;
        let Some((_, relation)) = bound.tables.first() else {
            return Err(refused(&text, Vec::new()));
        };
        let logical = plan::plan(relation).map_err(failed)?;
        let session = context(&source, options, true).map_err(failed)?;
        // One thread reads all, so that rows stay in their order.
        let config = session.copied_config().with_target_partitions(1);
        let state = SessionStateBuilder::new_from_existing(session.state()).with_config(config);
        let session = SessionContext::new_with_state(state.build());
        let frame = session.execute_logical_plan(logical).await.map_err(failed)?;
        frame.execute_stream().await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_one_expression() {
        for good in ["true", "A == 'x' and B < ago(30d) // old ones", "(A)\nor (B)", "A has \")\""]
        {
            assert!(Condition::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A ==",
            "true) | where (false",
            "true) | take 1 | where (true",
            "true); print (1",
            "true // )",
        ] {
            let is_comment_in_the_end = bad == "true // )";
            assert_eq!(Condition::parse(bad).is_ok(), is_comment_in_the_end, "{bad}");
        }
    }
}
