//! An account as an action, by the suite of every action.

use crate::host::{PATIENCE, open, publish, settings};
use async_trait::async_trait;
use futures::future::BoxFuture;
use oms_automation::AutomationAccount;
use oms_automation::runbook::{LogSwitches, RunbookKind};
use oms_core::action::{Action, ActionError, ActionOutcome};
use oms_core::id::ActionId;
use oms_core::journal::{Journal, MemoryJournal};
use oms_core::testkit::action::{Call, TestedAction};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::RwLock;

/// An account that can be restarted.
#[derive(Debug)]
struct Restarted {
    account: RwLock<Option<AutomationAccount>>,
    journal: Arc<dyn Journal>,
    folder: TempDir,
}

impl Restarted {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let account = open(folder.path(), Arc::clone(&journal), settings()).await;
        for (name, text) in
            [("Good", "echo done"), ("Bad", "echo no >&2; exit 3"), ("Waits", "sleep 1000")]
        {
            let logs = LogSwitches::default();
            publish(&account, name, RunbookKind::Bash, text, vec![], logs).await;
        }
        Self { account: RwLock::new(Some(account)), journal, folder }
    }
}

#[async_trait]
impl Action for Restarted {
    async fn start(
        &self,
        key: &str,
        name: &str,
        parameters: BTreeMap<String, Value>,
    ) -> Result<ActionId, ActionError> {
        let account = self.account.read().await;
        account.as_ref().expect("it runs").start(key, name, parameters).await
    }

    async fn outcome(&self, id: ActionId) -> Result<ActionOutcome, ActionError> {
        self.account.read().await.as_ref().expect("it runs").outcome(id).await
    }

    async fn cancel(&self, id: ActionId) -> Result<(), ActionError> {
        self.account.read().await.as_ref().expect("it runs").cancel(id).await
    }
}

impl TestedAction for Restarted {
    fn succeeding(&self) -> Call {
        ("Good", BTreeMap::new())
    }

    fn failing(&self) -> Call {
        ("Bad", BTreeMap::new())
    }

    fn waiting(&self) -> Call {
        ("Waits", BTreeMap::new())
    }

    fn settle(&self, id: ActionId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let account = self.account.read().await;
            let ended = account.as_ref().expect("it runs").wait(id.into());
            let ended = tokio::time::timeout(PATIENCE, ended).await;
            ended.expect("it ends in time").expect("it is there");
        })
    }

    fn started(&self) -> BoxFuture<'_, usize> {
        Box::pin(async {
            let jobs = self.journal.list(oms_automation::job::JOB_HISTORY, None, 100).await;
            jobs.expect("a list").len()
        })
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut account = self.account.write().await;
            if let Some(running) = account.take() {
                running.shutdown().await;
            }
            let journal = Arc::clone(&self.journal);
            *account = Some(open(self.folder.path(), journal, settings()).await);
        })
    }
}

oms_core::action_conformance!(|| async { Restarted::new().await });
