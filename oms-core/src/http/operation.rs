//! Long-running operations, as clients of Azure Resource Manager poll them.
//!
//! A call that takes long answers 202 with two addresses: `Azure-AsyncOperation` says how it
//! stands, `Location` answers 202 until it is done and then what the call came to. Both are read
//! from the journal, so a poll survives a restart of the server.

use super::{Access, ArmError, Call, Response, Route, respond};
use crate::auth::Principal;
use crate::entropy::Entropy;
use crate::id::ParseIdError;
use crate::journal::{Event, HistoryId, Journal, JournalError, JournalExt};
use crate::lifecycle::{IllegalTransition, Lifecycle};
use crate::resource::ResourceId;
use crate::{Clock, ErrorKind};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

crate::uuid_id! {
    /// Names a long-running operation.
    OperationId, "operation id"
}

/// The most operations that are kept, running and ended ones together.
pub const OPERATIONS_MAX: usize = 10_000;

/// How long the result of an ended operation is kept.
pub const RESULT_RETENTION: SignedDuration = SignedDuration::from_hours(24);

/// The largest result, in bytes of JSON text.
const RESULT_BYTES_MAX: usize = 256 * 1024;

/// Histories of operations, by [`OperationId`].
const KIND: &str = "arm-operation";

const ASYNC_OPERATION: HeaderName = HeaderName::from_static("azure-asyncoperation");

/// Where an operation is in its life.
///
/// ```text
///  Running ─Succeed─► Succeeded
///     ├────Fail─────► Failed
///     └────Cancel───► Canceled
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OperationState {
    /// Its service works on it; clients read `InProgress`.
    Running,
    /// It is done.
    Succeeded,
    /// It could not be done.
    Failed,
    /// It was called off.
    Canceled,
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum OperationEvent {
    /// It is done.
    Succeed,
    /// It could not be done.
    Fail,
    /// It was called off.
    Cancel,
}

impl Lifecycle for OperationState {
    type Event = OperationEvent;

    fn next(self, event: OperationEvent) -> Result<Self, IllegalTransition<Self, OperationEvent>> {
        match (self, event) {
            (Self::Running, OperationEvent::Succeed) => Ok(Self::Succeeded),
            (Self::Running, OperationEvent::Fail) => Ok(Self::Failed),
            (Self::Running, OperationEvent::Cancel) => Ok(Self::Canceled),
            (state, event) => Err(IllegalTransition { state, event }),
        }
    }
}

impl OperationState {
    /// The word that clients read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "InProgress",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Canceled => "Canceled",
        }
    }
}

/// Why an operation failed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct OperationFailure {
    /// The ARM error code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// The HTTP status that `Location` answers, 400 to 599.
    pub status: u16,
}

/// A long-running operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Its identifier.
    pub id: OperationId,
    /// What it does, such as `testFailover`.
    pub name: String,
    /// Below which path it is polled: whoever may read there may poll.
    pub scope: ResourceId,
    /// Who began it.
    pub by: Principal,
    /// Where it is in its life.
    pub state: OperationState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What it came to; null if there is nothing to say.
    pub result: Value,
    /// Why it failed.
    pub failure: Option<OperationFailure>,
}

/// Why an operation was not begun, ended or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// There is no such operation, or its result has expired.
    #[error("operation is not there, or its result has expired. operation=`{operation}`")]
    NotFound {
        /// Its identifier.
        operation: String,
    },
    /// It has ended.
    #[error("operation has ended. operation=`{operation}`, state=`{state:?}`")]
    Ended {
        /// Its identifier.
        operation: OperationId,
        /// How it ended.
        state: OperationState,
    },
    /// Too many operations run.
    #[error("too many operations are running. limit=`{OPERATIONS_MAX}`")]
    TooMany,
    /// Its result is larger than what is kept.
    #[error("result is too large. bytes=`{bytes}`, limit=`{RESULT_BYTES_MAX}`")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A stored history says what cannot be.
    #[error("history of an operation is damaged. operation=`{operation}`, reason=`{reason}`")]
    Corrupt {
        /// Its identifier.
        operation: String,
        /// What cannot be.
        reason: String,
    },
    /// A stored identifier cannot be read.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// The journal did not do what it was asked.
    #[error("operations cannot use their journal")]
    Journal(#[from] JournalError),
}

impl OperationError {
    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Ended { .. } => ErrorKind::PreconditionFailed,
            Self::TooMany => {
                ErrorKind::LimitExceeded { retry_after: Some(SignedDuration::from_secs(10)) }
            }
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Id(_) => ErrorKind::Invalid,
            Self::Journal(error) => error.kind(),
        }
    }

    /// The error as clients read it.
    #[must_use]
    pub fn arm(&self) -> ArmError {
        let code = match self {
            Self::NotFound { .. } => "OperationNotFound",
            Self::Ended { .. } => "OperationEnded",
            Self::TooMany => "TooManyRequests",
            Self::TooLarge { .. } => "ResultTooLarge",
            Self::Corrupt { .. } | Self::Id(_) | Self::Journal(_) => "InternalServerError",
        };
        ArmError::new(self.kind(), code, self.to_string())
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "camelCase")]
enum Change {
    Begun { name: String, scope: ResourceId, by: Principal },
    Succeeded { result: Value },
    Failed { failure: OperationFailure },
    Canceled,
}

crate::journal_event!(Change, format 1, whole, {
    Self::Begun { .. } => "operation-begun",
    Self::Succeeded { .. } => "operation-succeeded",
    Self::Failed { .. } => "operation-failed",
    Self::Canceled => "operation-canceled",
});

/// Keeps long-running operations in the journal, and answers those who poll.
pub struct Operations {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    retry_after_seconds: u32,
    /// When each that is kept ended.
    kept: Mutex<BTreeMap<OperationId, Option<Timestamp>>>,
    beginning: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").field("kept", &self.kept().len()).finish_non_exhaustive()
    }
}

impl Operations {
    /// Reads which operations the journal holds.
    ///
    /// # Errors
    /// [`OperationError::Journal`]; [`OperationError::Corrupt`].
    pub async fn open(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, OperationError> {
        let (kept, beginning) = (Mutex::default(), tokio::sync::Mutex::new(()));
        let this = Self { journal, clock, entropy, retry_after_seconds: 1, kept, beginning };
        let all = this.journal.replay_kind(KIND, None, apply).await?;
        let operations = all.into_iter().filter_map(|replayed| replayed.state);
        this.kept().extend(operations.map(|operation| (operation.id, operation.ended)));
        Ok(this)
    }

    /// How long clients are asked to wait between polls, in seconds; 1 if nothing is said.
    #[must_use]
    pub const fn retry_after_seconds(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = seconds;
        self
    }

    /// Begins an operation that is polled below `scope`. Durable when it is answered.
    ///
    /// # Errors
    /// [`OperationError::TooMany`]; [`OperationError::Journal`].
    pub async fn begin(
        &self,
        name: &str,
        scope: &ResourceId,
        by: &Principal,
    ) -> Result<Operation, OperationError> {
        let _beginning = self.beginning.lock().await;
        if self.kept().len() >= OPERATIONS_MAX {
            self.sweep().await?;
        }
        if self.kept().len() >= OPERATIONS_MAX {
            // The results that are oldest make way for new operations.
            let oldest =
                self.kept().iter().filter_map(|(id, end)| Some((*end.as_ref()?, *id))).min();
            let (_, oldest) = oldest.ok_or(OperationError::TooMany)?;
            self.forget(oldest).await?;
        }
        let id = OperationId::draw(&*self.entropy);
        let (name, scope) = (name.to_owned(), scope.clone());
        let change = Change::Begun { name, scope, by: by.clone() };
        self.append(id, 0, &change, by).await?;
        self.kept().insert(id, None);
        self.get(id).await
    }

    /// Ends an operation with what it came to.
    ///
    /// # Errors
    /// [`OperationError::TooLarge`]; [`OperationError::Ended`]; [`OperationError::NotFound`];
    /// [`OperationError::Journal`].
    pub async fn succeed(
        &self,
        id: OperationId,
        result: Value,
    ) -> Result<Operation, OperationError> {
        let bytes = serde_json::to_string(&result).map_or(usize::MAX, |text| text.len());
        if bytes > RESULT_BYTES_MAX {
            return Err(OperationError::TooLarge { bytes });
        }
        self.end(id, Change::Succeeded { result }).await
    }

    /// Ends an operation that could not be done.
    ///
    /// # Errors
    /// Those of [`Operations::succeed`].
    pub async fn fail(
        &self,
        id: OperationId,
        failure: OperationFailure,
    ) -> Result<Operation, OperationError> {
        self.end(id, Change::Failed { failure }).await
    }

    /// Ends an operation that was called off.
    ///
    /// # Errors
    /// Those of [`Operations::succeed`].
    pub async fn cancel(&self, id: OperationId) -> Result<Operation, OperationError> {
        self.end(id, Change::Canceled).await
    }

    /// An operation as the journal has it.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], also once its result has expired;
    /// [`OperationError::Journal`].
    pub async fn get(&self, id: OperationId) -> Result<Operation, OperationError> {
        let now = self.clock.now();
        match self.read(id).await? {
            Some((operation, _)) if !is_expired(operation.ended, now) => Ok(operation),
            _ => Err(OperationError::NotFound { operation: id.to_string() }),
        }
    }

    /// The operations that have not ended, for a service that starts again and resumes or fails
    /// its own.
    ///
    /// # Errors
    /// [`OperationError::Journal`].
    pub async fn running(&self) -> Result<Vec<Operation>, OperationError> {
        let ids: Vec<OperationId> = {
            let kept = self.kept();
            kept.iter().filter(|(_, ended)| ended.is_none()).map(|(id, _)| *id).collect()
        };
        let mut running = Vec::new();
        for id in ids {
            if let Some((operation, _)) = self.read(id).await?
                && operation.state == OperationState::Running
            {
                running.push(operation);
            }
        }
        Ok(running)
    }

    /// Deletes results that have expired, and answers how many.
    ///
    /// # Errors
    /// [`OperationError::Journal`].
    pub async fn sweep(&self) -> Result<usize, OperationError> {
        let now = self.clock.now();
        let expired: Vec<OperationId> = {
            let kept = self.kept();
            kept.iter().filter(|(_, ended)| is_expired(**ended, now)).map(|(id, _)| *id).collect()
        };
        for id in &expired {
            self.forget(*id).await?;
        }
        Ok(expired.len())
    }

    /// Answers 202 with the addresses to poll. `body` is the resource as it is now, if the call
    /// answers one.
    #[must_use]
    pub fn accepted(&self, call: &Call, operation: &Operation, body: Option<&Value>) -> Response {
        let mut response = match body {
            Some(body) => respond::json(StatusCode::ACCEPTED, body),
            None => respond::empty(StatusCode::ACCEPTED),
        };
        self.address(&mut response, call, operation, true);
        response
    }

    /// The two routes that are polled, below `scope`: a pattern that every scope given to
    /// [`Operations::begin`] fits. `operation` is what a caller needs to be allowed there.
    #[must_use]
    pub fn routes(self: &Arc<Self>, scope: &str, operation: &'static str) -> [Route; 2] {
        let access = Access::Operation { operation };
        let (status, result) = (Arc::clone(self), Arc::clone(self));
        let status = move |call: Call| {
            let operations = Arc::clone(&status);
            async move { operations.answer_status(&call).await }
        };
        let result = move |call: Call| {
            let operations = Arc::clone(&result);
            async move { operations.answer_result(&call).await }
        };
        let scope = scope.trim_end_matches('/');
        let pattern = |last: &str| format!("{scope}/{last}/{{operationId}}");
        [
            Route::new(Method::GET, &pattern("operationStatuses"), access.clone(), status),
            Route::new(Method::GET, &pattern("operationResults"), access, result),
        ]
    }

    async fn answer_status(&self, call: &Call) -> Response {
        let operation = match self.polled(call).await {
            Ok(operation) => operation,
            Err(error) => return error.arm().response(),
        };
        let mut status = serde_json::json!({
            "id": call.parts.uri.path(),
            "name": operation.id,
            "status": operation.state.as_str(),
            "startTime": operation.started,
        });
        if let Some(ended) = operation.ended {
            status["endTime"] = Value::String(ended.to_string());
        }
        if !operation.result.is_null() {
            status["properties"] = operation.result.clone();
        }
        if let Some(failure) = &operation.failure {
            status["error"] = arm_failure(failure).to_value();
        }
        let mut response = respond::json(StatusCode::OK, &status);
        if operation.state == OperationState::Running {
            self.address(&mut response, call, &operation, false);
        }
        response
    }

    async fn answer_result(&self, call: &Call) -> Response {
        let operation = match self.polled(call).await {
            Ok(operation) => operation,
            Err(error) => return error.arm().response(),
        };
        match (operation.state, &operation.failure) {
            (OperationState::Running, _) => self.accepted(call, &operation, None),
            (OperationState::Succeeded, _) if operation.result.is_null() => {
                respond::empty(StatusCode::NO_CONTENT)
            }
            (OperationState::Succeeded, _) => respond::json(StatusCode::OK, &operation.result),
            (OperationState::Failed, Some(failure)) => arm_failure(failure).response(),
            (OperationState::Failed | OperationState::Canceled, _) => {
                let (code, why) = ("OperationCanceled", "the operation was called off");
                ArmError::new(ErrorKind::Conflict, code, why).response()
            }
        }
    }

    /// The operation that a poll names, if it lies below the path that is polled.
    async fn polled(&self, call: &Call) -> Result<Operation, OperationError> {
        let text = call.path.get("operationId").unwrap_or_default();
        let missing = || OperationError::NotFound { operation: text.chars().take(40).collect() };
        let operation = self.get(text.parse().map_err(|_not_an_id| missing())?).await?;
        // The scope's own path, then the kind of address, then the identifier.
        let path = super::path::segments(call.parts.uri.path()).map_err(|_bad| missing())?;
        let levels = path.len().saturating_sub(2);
        let scope: Vec<&str> = operation.scope.segments().collect();
        let is_same = scope.len() == levels
            && scope.iter().zip(&path).all(|(want, found)| want.eq_ignore_ascii_case(found));
        if is_same { Ok(operation) } else { Err(missing()) }
    }

    /// Adds the addresses to poll, with the version that the client asked for.
    fn address(&self, response: &mut Response, call: &Call, operation: &Operation, both: bool) {
        let version = call.api_version().unwrap_or("2024-01-01");
        let version: String =
            version.chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).collect();
        let scope: Vec<String> = operation.scope.segments().map(encode).collect();
        let (base, scope, id) = (call.base_url(), scope.join("/"), operation.id);
        let address = |kind: &str| {
            let text = format!("{base}/{scope}/{kind}/{id}?api-version={version}");
            HeaderValue::from_str(&text).ok()
        };
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_seconds));
        if !both {
            return;
        }
        if let (Some(status), Some(result)) =
            (address("operationStatuses"), address("operationResults"))
        {
            headers.insert(ASYNC_OPERATION, status);
            headers.insert(header::LOCATION, result);
        }
    }

    async fn end(&self, id: OperationId, change: Change) -> Result<Operation, OperationError> {
        let found = self.read(id).await?;
        let (operation, version) =
            found.ok_or_else(|| OperationError::NotFound { operation: id.to_string() })?;
        if operation.state != OperationState::Running {
            return Err(OperationError::Ended { operation: id, state: operation.state });
        }
        self.append(id, version, &change, &operation.by).await?;
        let ended = self.get(id).await?;
        self.kept().insert(id, ended.ended);
        Ok(ended)
    }

    async fn append(
        &self,
        id: OperationId,
        expected: u64,
        change: &Change,
        by: &Principal,
    ) -> Result<(), OperationError> {
        let history = HistoryId::new(KIND, &id.to_string())?;
        let (now, by) = (self.clock.now(), by.to_string());
        self.journal.append_event(&history, expected, change, now, &by).await?;
        Ok(())
    }

    async fn read(&self, id: OperationId) -> Result<Option<(Operation, u64)>, OperationError> {
        let history = HistoryId::new(KIND, &id.to_string())?;
        let replayed = self.journal.replay(&history, None, apply).await?;
        Ok(replayed.state.map(|operation| (operation, replayed.version)))
    }

    async fn forget(&self, id: OperationId) -> Result<(), OperationError> {
        if let Some((_, version)) = self.read(id).await? {
            self.journal.delete(&HistoryId::new(KIND, &id.to_string())?, version).await?;
        }
        self.kept().remove(&id);
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<OperationId, Option<Timestamp>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(
    operation: &mut Option<Operation>,
    change: Change,
    event: &Event,
) -> Result<(), OperationError> {
    let id: OperationId = event.history.key().parse()?;
    let corrupt = |reason: String| OperationError::Corrupt { operation: id.to_string(), reason };
    let at = event.envelope.time;
    let (operation, change) = match (operation.as_mut(), change) {
        (None, Change::Begun { name, scope, by }) => {
            let (state, result) = (OperationState::Running, Value::Null);
            let (started, ended, failure) = (at, None, None);
            *operation =
                Some(Operation { id, name, scope, by, state, started, ended, result, failure });
            return Ok(());
        }
        (Some(operation), change) => (operation, change),
        (None, _) => return Err(corrupt("it ends before it begins".to_owned())),
    };
    let step = match &change {
        Change::Begun { .. } => return Err(corrupt("it begins twice".to_owned())),
        Change::Succeeded { .. } => OperationEvent::Succeed,
        Change::Failed { .. } => OperationEvent::Fail,
        Change::Canceled => OperationEvent::Cancel,
    };
    operation.state = operation.state.next(step).map_err(|illegal| corrupt(illegal.to_string()))?;
    operation.ended = Some(at);
    match change {
        Change::Succeeded { result } => operation.result = result,
        Change::Failed { failure } => operation.failure = Some(failure),
        Change::Begun { .. } | Change::Canceled => {}
    }
    Ok(())
}

fn is_expired(ended: Option<Timestamp>, now: Timestamp) -> bool {
    ended.is_some_and(|ended| now.duration_since(ended) >= RESULT_RETENTION)
}

fn arm_failure(failure: &OperationFailure) -> ArmError {
    let status = StatusCode::from_u16(failure.status).ok();
    let status = status.filter(|status| status.is_client_error() || status.is_server_error());
    ArmError::new(ErrorKind::Internal, &failure.code, &failure.message)
        .status(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}

fn encode(segment: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~')
        .remove(b'(')
        .remove(b')');
    utf8_percent_encode(segment, KEPT).to_string()
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
