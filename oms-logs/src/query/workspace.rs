//! Queries over a workspace.

use super::{QueryError, QueryOptions, QueryReport, TableSource, run};
use crate::Damage;
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
        let answer = run(self, text, options).await;
        match answer {
            // Which columns a table has is not known if its log is damaged.
            Err(QueryError::Semantic { .. }) => match self.damage_of(text) {
                Some(damage) => Err(QueryError::Damaged(damage)),
                None => answer,
            },
            answer => answer,
        }
    }

    /// The damage of a table that a text names.
    fn damage_of(&self, text: &str) -> Option<Damage> {
        let damages = self.damage().unwrap_or_default();
        damages.into_iter().find(|damage| text.contains(&damage.table))
    }
}
