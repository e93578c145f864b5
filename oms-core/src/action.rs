//! Starting something by name and awaiting its outcome.

use crate::ErrorKind;
use crate::id::ActionId;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// What became of an action.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ActionOutcome {
    /// It has not ended.
    Pending,
    /// It did what it should.
    Succeeded {
        /// What it printed or returned, bounded by the action's own limit.
        output: String,
    },
    /// It ended without doing what it should.
    Failed {
        /// Why.
        reason: String,
    },
    /// It was cancelled before its end.
    Cancelled,
}

impl ActionOutcome {
    /// Whether it will not change any more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Pending)
    }
}

/// Why an action could not be started, watched or cancelled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActionError {
    /// No action of that name or id.
    #[error("no such action. name=`{name}`")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// The action refuses these parameters.
    #[error("parameters refused. name=`{name}`, reason=`{reason}`")]
    Refused {
        /// The action.
        name: String,
        /// Which parameter, and why.
        reason: String,
    },
    /// Its service cannot answer now.
    #[error("action service is unavailable. reason=`{reason}`")]
    Unavailable {
        /// What failed.
        reason: String,
    },
}

impl ActionError {
    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Refused { .. } => ErrorKind::Invalid,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Something that can be started by name, such as a runbook: what an alert or a recovery plan
/// calls without knowing the service behind it.
#[async_trait]
pub trait Action: Debug + Send + Sync {
    /// Starts `name`. The same `key` always answers the same id and never starts twice, also after
    /// a restart of either side.
    ///
    /// # Errors
    /// [`ActionError`]; the caller may call again with the same key.
    async fn start(
        &self,
        key: &str,
        name: &str,
        parameters: BTreeMap<String, serde_json::Value>,
    ) -> Result<ActionId, ActionError>;

    /// What became of it. Survives a restart.
    ///
    /// # Errors
    /// [`ActionError::NotFound`] or [`ActionError::Unavailable`].
    async fn outcome(&self, id: ActionId) -> Result<ActionOutcome, ActionError>;

    /// Asks it to end. An action that has ended stays as it is.
    ///
    /// # Errors
    /// [`ActionError::NotFound`] or [`ActionError::Unavailable`].
    async fn cancel(&self, id: ActionId) -> Result<(), ActionError>;
}
