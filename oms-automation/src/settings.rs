//! What an account is set to, and what its calls are asked.

use crate::Error;
use crate::executor::joined;
use crate::runbook::{LogSwitches, RunbookKind, RunbookName};
use crate::stream::{StreamLimits, StreamType};
use crate::worker::IsolationSettings;
use jiff::SignedDuration;
use oms_core::id::ParseIdError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// How many jobs one account may be set to run at a time.
pub const CONCURRENCY_MAX: usize = 1_000;

/// An account's name: letters, digits and hyphens, at most 50.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountName(String);

impl AccountName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refuse = |reason| Err(ParseIdError::new("automation account name", text, reason));
        if !(1..=50).contains(&text.len()) {
            return refuse("not 1 to 50 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return refuse("has a character other than letters, digits and hyphen");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AccountName {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<AccountName> for String {
    fn from(name: AccountName) -> Self {
        name.0
    }
}

/// What an account is set to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct AutomationSettings {
    /// The account's name. Jobs and runbooks are kept under it.
    pub account: String,
    /// How many jobs run at a time, 1 to 1,000.
    pub concurrency: usize,
    /// How many jobs may be open, waiting or running; a start past it is refused.
    pub open_jobs_max: usize,
    /// How long a job may run before it is stopped; none for no limit.
    pub time_limit: Option<SignedDuration>,
    /// How long a job that is stopped may take to end by itself, after SIGTERM.
    pub stop_grace: SignedDuration,
    /// Where interpreters and the tools of isolation are looked for, and the jobs' `PATH`.
    pub search_path: Vec<PathBuf>,
    /// How much of a job's streams is kept.
    pub streams: StreamLimits,
    /// What jobs are kept away from.
    pub isolation: IsolationSettings,
}

impl Default for AutomationSettings {
    /// Account `automation`, 4 jobs at a time, 10,000 open, 3 hours as in Azure's own sandboxes,
    /// 2 seconds of grace, the system's usual search path, isolation on.
    fn default() -> Self {
        let search_path =
            ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        Self {
            account: "automation".to_owned(),
            concurrency: 4,
            open_jobs_max: 10_000,
            time_limit: Some(SignedDuration::from_hours(3)),
            stop_grace: SignedDuration::from_secs(2),
            search_path: search_path.map(PathBuf::from).to_vec(),
            streams: StreamLimits::default(),
            isolation: IsolationSettings::default(),
        }
    }
}

/// A runbook to be created.
#[derive(Clone, Debug)]
pub struct RunbookOptions {
    /// Its name.
    pub name: RunbookName,
    /// Its language.
    pub kind: RunbookKind,
    /// What it is for.
    pub description: String,
    /// Which of its streams are kept beside Output, Error and Warning.
    pub logs: LogSwitches,
}

/// A job to be started.
#[derive(Clone, Debug, Default)]
pub struct JobOptions {
    /// The job's name, 1 to 512 bytes: a second start under it answers the first job. None draws
    /// one.
    pub name: Option<String>,
    /// The program's arguments by parameter name.
    pub parameters: BTreeMap<String, Value>,
    /// Who starts it, for the record.
    pub started_by: String,
}

/// Which of a job's records are read.
#[derive(Clone, Copy, Debug)]
pub struct StreamQuery {
    /// Only those after this sequence.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
    /// Only of this stream; none for all.
    pub stream_type: Option<StreamType>,
}

impl Default for StreamQuery {
    /// The first 1,000 records of all streams.
    fn default() -> Self {
        Self { after: 0, limit: 1_000, stream_type: None }
    }
}

/// Checks the bounds of settings.
pub(crate) fn check_settings(settings: &AutomationSettings) -> Result<(), Error> {
    let refuse = |name, reason: &str| Err(Error::Setting { name, reason: reason.to_owned() });
    if !(1..=CONCURRENCY_MAX).contains(&settings.concurrency) {
        return refuse("concurrency", "not 1 to 1000");
    }
    if settings.time_limit.is_some_and(|limit| limit <= SignedDuration::ZERO) {
        return refuse("time_limit", "not positive");
    }
    if settings.stop_grace.is_negative() {
        return refuse("stop_grace", "negative");
    }
    if !(1..=1 << 20).contains(&settings.streams.record_bytes_max) {
        return refuse("streams.record_bytes_max", "not 1 to 1048576");
    }
    if settings.search_path.iter().any(|folder| !folder.is_absolute()) {
        return refuse("search_path", &format!("not absolute: {}", joined(&settings.search_path)));
    }
    Ok(())
}
