//! An account in a temporary folder, with the few calls that tests repeat.

use oms_automation::job::{Job, JobId, JobState};
use oms_automation::runbook::{LogSwitches, ParameterDefinition, RunbookKind, RunbookName};
use oms_automation::stream::{StreamRecord, StreamType};
use oms_automation::{
    AutomationAccount, AutomationSettings, JobOptions, RunbookOptions, StreamQuery,
};
use oms_core::Secret;
use oms_core::journal::{Journal, MemoryJournal};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// How long a test waits for what should come at once, before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    pub(crate) account: AutomationAccount,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) folder: TempDir,
}

pub(crate) fn name(text: &str) -> RunbookName {
    text.parse().expect("a runbook's name")
}

/// Small enough for a test, and on.
pub(crate) fn settings() -> AutomationSettings {
    AutomationSettings {
        stop_grace: jiff::SignedDuration::from_millis(300),
        ..AutomationSettings::default()
    }
}

pub(crate) async fn open(
    folder: &Path,
    journal: Arc<dyn Journal>,
    settings: AutomationSettings,
) -> AutomationAccount {
    AutomationAccount::builder(folder)
        .journal(journal)
        .settings(settings)
        .redact([Secret::from("correct-horse-battery")])
        .build()
        .await
        .expect("the account opens")
}

impl Host {
    pub(crate) async fn new() -> Self {
        Self::with(settings()).await
    }

    pub(crate) async fn with(settings: AutomationSettings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let account = open(folder.path(), Arc::clone(&journal), settings).await;
        Self { account, journal, folder }
    }

    pub(crate) async fn publish(&self, runbook: &str, kind: RunbookKind, text: &str) {
        publish(&self.account, runbook, kind, text, vec![], LogSwitches::default()).await;
    }

    pub(crate) async fn start(&self, runbook: &str, parameters: &[(&str, Value)]) -> Job {
        let parameters = parameters.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        let options = JobOptions { parameters, started_by: "tester".to_owned(), name: None };
        self.account.start_job(&name(runbook), options).await.expect("the job starts")
    }

    pub(crate) async fn run(&self, runbook: &str, parameters: &[(&str, Value)]) -> Job {
        let job = self.start(runbook, parameters).await;
        self.wait(job.id).await
    }

    /// Publishes a Bash runbook, runs it, and answers its job and its output.
    pub(crate) async fn bash(&self, text: &str) -> (Job, String) {
        self.one(RunbookKind::Bash, text).await
    }

    pub(crate) async fn one(&self, kind: RunbookKind, text: &str) -> (Job, String) {
        let count = self.account.runbooks().await.expect("a list").len();
        let runbook = format!("runbook-{count}");
        self.publish(&runbook, kind, text).await;
        let job = self.run(&runbook, &[]).await;
        let output = self.account.output(job.id, 1 << 20).await.expect("output");
        (job, output)
    }

    pub(crate) async fn wait(&self, job: JobId) -> Job {
        wait(&self.account, job).await
    }

    pub(crate) async fn records(&self, job: JobId) -> Vec<StreamRecord> {
        let query = StreamQuery { limit: usize::MAX, ..StreamQuery::default() };
        self.account.streams(job, query).await.expect("streams")
    }

    /// Waits until a running job has printed a line.
    pub(crate) async fn says(&self, job: JobId, line: &str) {
        says(&self.account, job, line).await;
    }
}

pub(crate) async fn publish(
    account: &AutomationAccount,
    runbook: &str,
    kind: RunbookKind,
    text: &str,
    parameters: Vec<ParameterDefinition>,
    logs: LogSwitches,
) {
    let name = name(runbook);
    let options = RunbookOptions { name: name.clone(), kind, description: String::new(), logs };
    account.create_runbook(options).await.expect("created");
    account.save_draft(&name, text.as_bytes(), parameters).await.expect("saved");
    account.publish(&name).await.expect("published");
}

pub(crate) async fn wait(account: &AutomationAccount, job: JobId) -> Job {
    let ended = tokio::time::timeout(PATIENCE, account.wait(job)).await;
    ended.expect("the job ends in time").expect("the job is there")
}

pub(crate) async fn says(account: &AutomationAccount, job: JobId, line: &str) {
    let said = async {
        loop {
            let query = StreamQuery { limit: usize::MAX, ..StreamQuery::default() };
            let records = account.streams(job, query).await.expect("streams");
            if records.iter().any(|record| record.text == line) {
                return;
            }
            let state = account.job(job).await.expect("the job").state;
            assert!(!state.is_final(), "ended as {state:?} without saying {line}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.expect("the job says it in time");
}

pub(crate) fn texts(records: &[StreamRecord], stream_type: StreamType) -> Vec<&str> {
    let of_type = records.iter().filter(|record| record.stream_type == stream_type);
    of_type.map(|record| record.text.as_str()).collect()
}

pub(crate) fn completed(job: &Job) {
    assert_eq!(job.state, JobState::Completed, "{:?}", job.exception);
}

/// Whether a process of that id is there and has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}
