//! Runbooks as actions that an alert or a recovery plan starts.

use crate::Error;
use crate::account::AutomationAccount;
use crate::job::JobState;
use crate::runbook::RunbookName;
use crate::settings::JobOptions;
use async_trait::async_trait;
use oms_core::action::{Action, ActionError, ActionOutcome};
use oms_core::id::{ActionId, ParseIdError};
use serde_json::Value;
use std::collections::BTreeMap;

/// The most bytes of output that an action's outcome carries.
pub const OUTCOME_BYTES_MAX: usize = 64 << 10;

#[async_trait]
impl Action for AutomationAccount {
    async fn start(
        &self,
        key: &str,
        name: &str,
        parameters: BTreeMap<String, Value>,
    ) -> Result<ActionId, ActionError> {
        let refuse = |error: Error| action_error(name, &error);
        let runbook: RunbookName = name.parse().map_err(|error: ParseIdError| {
            // No runbook can have such a name.
            ActionError::NotFound { name: error.value }
        })?;
        let started_by = "action".to_owned();
        let options = JobOptions { name: Some(key.to_owned()), parameters, started_by };
        Ok(self.start_job(&runbook, options).await.map_err(refuse)?.id.into())
    }

    async fn outcome(&self, id: ActionId) -> Result<ActionOutcome, ActionError> {
        let refuse = |error: Error| action_error(&id.to_string(), &error);
        let job = self.job(id.into()).await.map_err(refuse)?;
        Ok(match job.state {
            JobState::Completed => {
                let output = self.output(job.id, OUTCOME_BYTES_MAX).await.map_err(refuse)?;
                ActionOutcome::Succeeded { output }
            }
            JobState::Failed => ActionOutcome::Failed { reason: job.exception.unwrap_or_default() },
            JobState::Stopped | JobState::Removing => ActionOutcome::Cancelled,
            _ => ActionOutcome::Pending,
        })
    }

    async fn cancel(&self, id: ActionId) -> Result<(), ActionError> {
        match self.stop_job(id.into(), "cancelled by its caller").await {
            Ok(_) | Err(Error::JobState { .. }) => Ok(()),
            Err(error) => Err(action_error(&id.to_string(), &error)),
        }
    }
}

fn action_error(name: &str, error: &Error) -> ActionError {
    let name = name.to_owned();
    match error {
        Error::RunbookNotFound { .. } | Error::JobNotFound { .. } => ActionError::NotFound { name },
        Error::Id(_)
        | Error::Parameter { .. }
        | Error::NotPublished { .. }
        | Error::TooLarge { .. } => ActionError::Refused { name, reason: error.describe() },
        _ => ActionError::Unavailable { reason: error.describe() },
    }
}
