//! Queries over a workspace.

use super::{QueryError, QueryOptions, QueryReport, TableSource, run};
use crate::Workspace;
use datafusion::catalog::TableProvider;
use datafusion::execution::runtime_env::RuntimeEnv;
use std::sync::Arc;

impl TableSource for Workspace {
    fn table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.table_provider(name)
    }

    fn table_names(&self) -> Vec<String> {
        Self::table_names(self)
    }

    fn runtime(&self) -> Option<Arc<RuntimeEnv>> {
        Self::runtime(self)
    }
}

impl Workspace {
    /// Asks in the Kusto query language. A query sees every row that was acknowledged before it.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn query(
        &self,
        text: &str,
        options: &QueryOptions,
    ) -> Result<QueryReport, QueryError> {
        run(self, text, options).await
    }
}
