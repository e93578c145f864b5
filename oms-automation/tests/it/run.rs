//! What a runbook gets and says.

use crate::host::{Host, completed, name, open, publish, settings, texts};
use oms_automation::job::JobState;
use oms_automation::runbook::{LogSwitches, ParameterDefinition, RunbookKind};
use oms_automation::stream::{StreamLimits, StreamType};
use oms_automation::{AutomationSettings, Error, JobOptions, StreamQuery};
use oms_core::action::{Action, ActionError, ActionOutcome};
use oms_core::projection::Projection;
use oms_core::record::{Batch, Record, RecordSink, SinkError, Value as Field};
use oms_core::{ErrorKind, SystemClock};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const ECHO_PYTHON: &str = "\
import json, os, sys
for argument in sys.argv[1:]:
    print(json.dumps(argument))
print(open(os.environ['OMS_PARAMETERS_FILE']).read())
";

const AWKWARD: &str = "it's \"quoted\"\nsecond line\t$HOME `id` \\ ünï→😀; rm -rf *";

#[tokio::test(flavor = "multi_thread")]
async fn a_python_runbook_gets_its_parameters_exactly() {
    let host = Host::new().await;
    host.publish("Echo", RunbookKind::Python3, ECHO_PYTHON).await;
    let parameters = [
        ("[PARAMETER 2]", json!({"list": [1, null, "x"], "ü": true})),
        ("[PARAMETER 1]", json!(AWKWARD)),
        ("[PARAMETER 10]", json!(-1.5)),
        ("[PARAMETER 3]", json!("")),
        ("[PARAMETER 4]", json!("-c")),
    ];
    let job = host.run("echo", &parameters).await;
    completed(&job);
    let output = host.account.output(job.id, 1 << 20).await.expect("output");
    let lines: Vec<serde_json::Value> =
        output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let object = "{\"list\":[1,null,\"x\"],\"ü\":true}";
    assert_eq!(lines[..5], [json!(AWKWARD), json!(object), json!(""), json!("-c"), json!("-1.5")]);
    assert_eq!(lines[5]["[PARAMETER 2]"], json!({"list": [1, null, "x"], "ü": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bash_runbook_gets_declared_parameters_in_their_order() {
    let host = Host::new().await;
    let declared = |name: &str, is_mandatory, default_value| ParameterDefinition {
        name: name.to_owned(),
        is_mandatory,
        default_value,
        ..ParameterDefinition::default()
    };
    let parameters = vec![declared("Zone", true, None), declared("Count", false, Some(json!(3)))];
    let text = "printf '%s|' \"$#\" \"$1\" \"$2\"; echo";
    let logs = LogSwitches::default();
    publish(&host.account, "Zoned", RunbookKind::Bash, text, parameters, logs).await;
    let job = host.run("Zoned", &[("zone", json!(AWKWARD.replace('\n', " ")))]).await;
    completed(&job);
    let output = host.account.output(job.id, 1 << 20).await.expect("output");
    assert_eq!(output, format!("2|{}|3|", AWKWARD.replace('\n', " ")));

    let refused = host.account.start_job(&name("Zoned"), JobOptions::default()).await;
    let error = refused.expect_err("the zone is missing");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("parameter=`Zone`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn six_streams_keep_their_order() {
    let host = Host::new().await;
    let text = "\
print('one')
print('WARNING: two')
print('Verbose: three')
print('debug: four')
print('PROGRESS: 50')
print('ERROR: six')
print('sev\\u00e9n correct-horse-battery')
";
    let all = LogSwitches { verbose: true, progress: true, debug: true };
    publish(&host.account, "All", RunbookKind::Python3, text, vec![], all).await;
    let job = host.run("All", &[]).await;
    completed(&job);
    let records = host.records(job.id).await;
    let said: Vec<_> =
        records.iter().map(|r| (r.sequence, r.stream_type, r.text.as_str())).collect();
    assert_eq!(
        said,
        [
            (1, StreamType::Output, "one"),
            (2, StreamType::Warning, "WARNING: two"),
            (3, StreamType::Verbose, "Verbose: three"),
            (4, StreamType::Debug, "debug: four"),
            (5, StreamType::Progress, "PROGRESS: 50"),
            (6, StreamType::Error, "ERROR: six"),
            (7, StreamType::Output, "sevén ***"),
        ]
    );
    assert_eq!(job.streams.expect("counted").records, 7);
    let query = StreamQuery { after: 2, limit: 1, stream_type: Some(StreamType::Error) };
    let page = host.account.streams(job.id, query).await.expect("a page");
    assert_eq!(page[0].text, "ERROR: six");

    host.publish("Some", RunbookKind::Python3, text).await;
    let job = host.run("Some", &[]).await;
    let kept: Vec<_> = host.records(job.id).await.iter().map(|r| r.stream_type).collect();
    use StreamType as T;
    assert_eq!(kept, [T::Output, T::Warning, T::Error, T::Output]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_runbook_says_why() {
    let host = Host::new().await;
    let (job, output) =
        host.one(RunbookKind::Python3, "print('before')\nraise ValueError('no disk')").await;
    assert_eq!((job.state, job.exit_code), (JobState::Failed, Some(1)));
    let exception = job.exception.expect("why");
    assert!(exception.starts_with("the runbook ended with exit code 1: "), "{exception}");
    assert!(exception.ends_with("ValueError: no disk"), "{exception}");
    assert_eq!(output, "before");
    let records = host.records(job.id).await;
    assert!(texts(&records, StreamType::Error).contains(&"ValueError: no disk"));

    let (job, _) = host.bash("exit 7").await;
    assert_eq!((job.state, job.exit_code), (JobState::Failed, Some(7)));
    let (job, _) = host.bash("kill -9 $$").await;
    assert_eq!(job.exception.as_deref(), Some("the runbook was ended by signal 9"));
    let (job, _) = host.bash("echo oops >&2; echo 'ERROR: handled'").await;
    completed(&job);
    let records = host.records(job.id).await;
    assert_eq!(texts(&records, StreamType::Error).len(), 2, "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_bounded_and_does_not_hold_the_runbook_up() {
    let streams = StreamLimits { records_max: 100, bytes_max: 1_000, record_bytes_max: 50 };
    let host = Host::with(AutomationSettings { streams, ..settings() }).await;
    let text = "\
import sys
sys.stderr.write('e' * 5_000_000)
sys.stderr.write('\\nsecond\\n')
for n in range(200_000):
    print('line', n)
";
    let (job, _) = host.one(RunbookKind::Python3, text).await;
    completed(&job);
    let records = host.records(job.id).await;
    assert!(records.len() <= 101, "{}", records.len());
    assert!(texts(&records, StreamType::Warning)[0].contains("limit"));
    let long = texts(&records, StreamType::Error).into_iter().find(|text| text.starts_with("ee"));
    if let Some(long) = long {
        assert_eq!(long.len(), 50);
    }
    let summary = job.streams.expect("counted");
    assert!(summary.discarded_records > 199_000, "{summary:?}");
    assert!(summary.bytes < 1_200, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_starts_once_a_key() {
    let host = Host::new().await;
    host.publish("Note", RunbookKind::Bash, "echo ran \"$1\"").await;
    let action: &dyn Action = &host.account;
    let parameters = || BTreeMap::from([("what".to_owned(), json!("this"))]);
    let first = action.start("alert-1", "note", parameters()).await.expect("started");
    let again = action.start("alert-1", "note", BTreeMap::new()).await.expect("the same");
    assert_eq!(first, again);
    host.wait(first.into()).await;
    let output = "ran this".to_owned();
    assert_eq!(
        action.outcome(first).await.expect("an outcome"),
        ActionOutcome::Succeeded { output }
    );
    action.cancel(first).await.expect("ended jobs stay as they are");
    assert_eq!(host.account.jobs(None, 10).await.expect("a list").len(), 1);

    let (left, right) = tokio::join!(
        action.start("alert-2", "note", parameters()),
        action.start("alert-2", "note", parameters()),
    );
    assert_eq!(left.expect("started"), right.expect("started"));
    assert_eq!(host.account.jobs(None, 10).await.expect("a list").len(), 2);

    let missing = action.start("k", "nothing", BTreeMap::new()).await.expect_err("no runbook");
    assert!(matches!(missing, ActionError::NotFound { .. }), "{missing}");
    let odd = action.start("k", "../etc", BTreeMap::new()).await.expect_err("no such name");
    assert!(matches!(odd, ActionError::NotFound { .. }), "{odd}");
    let long = BTreeMap::from([("x".to_owned(), json!("\0"))]);
    let refused = action.start("k", "note", long).await.expect_err("a NUL");
    assert!(matches!(refused, ActionError::Refused { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_python_only_python_runbooks_fail() {
    let tools = tempfile::tempdir().expect("a temporary folder");
    for tool in ["bash", "prlimit", "setsid", "setpriv"] {
        std::os::unix::fs::symlink(format!("/usr/bin/{tool}"), tools.path().join(tool))
            .expect("a link");
    }
    let search_path = vec![tools.path().to_owned()];
    let host = Host::with(AutomationSettings { search_path, ..settings() }).await;
    let (job, _) = host.one(RunbookKind::Python3, "print(1)").await;
    assert_eq!(job.state, JobState::Failed);
    let exception = job.exception.expect("why");
    assert!(exception.contains("Python3 runbooks need `python3`"), "{exception}");
    assert!(exception.contains(&tools.path().display().to_string()), "{exception}");
    let (job, output) = host.bash("echo fine").await;
    completed(&job);
    assert_eq!(output, "fine");

    std::fs::remove_file(tools.path().join("prlimit")).expect("removed");
    let (job, _) = host.bash("echo never").await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.exception.expect("why").contains("`prlimit`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_jobs_than_may_are_open() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let journal = Arc::new(oms_core::journal::MemoryJournal::default());
    let limits = AutomationSettings { open_jobs_max: 3, concurrency: 1, ..settings() };
    let account = open(folder.path(), journal, limits).await;
    let logs = LogSwitches::default();
    let text = "echo up; sleep 1000";
    publish(&account, "Sleep", RunbookKind::Bash, text, vec![], logs).await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(account.start_job(&name("Sleep"), JobOptions::default()).await.expect("room").id);
    }
    let full = account.start_job(&name("Sleep"), JobOptions::default()).await;
    assert!(matches!(full, Err(Error::QueueFull { limit: 3 })));
    for job in jobs {
        account.stop_job(job, "enough").await.expect("stopping");
        assert_eq!(crate::host::wait(&account, job).await.state, JobState::Stopped);
    }
    // The worker gives the last place back right after it read the job's end.
    let freed = async {
        while account.start_job(&name("Sleep"), JobOptions::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::host::PATIENCE, freed).await.expect("a place again");
    account.shutdown().await;
}

#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Record>>);

#[async_trait::async_trait]
impl RecordSink for Kept {
    async fn write(&self, batch: Batch) -> Result<(), SinkError> {
        self.0.lock().expect("not poisoned").extend(batch.records);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_their_streams_become_azure_diagnostics() {
    let host = Host::new().await;
    host.publish("Report", RunbookKind::Bash, "echo hello; echo 'WARNING: low'; exit 3").await;
    let job = host.run("report", &[]).await;
    let sink = Arc::new(Kept::default());
    let account = Arc::new(host.account);
    let mapped = Arc::clone(&account);
    let projection = Projection::new(
        "automation",
        Arc::clone(&host.journal),
        Arc::clone(&sink) as Arc<dyn RecordSink>,
        Arc::new(SystemClock),
        Arc::new(move |event| mapped.records(event, "pc")),
    );
    projection.catch_up().await.expect("projected");
    let rows = sink.0.lock().expect("not poisoned");
    let text = |row: &Record, column: &str| match &row.fields[column] {
        Field::String(text) => text.clone(),
        other => panic!("{column} is {other:?}"),
    };
    let shown: Vec<_> = rows
        .iter()
        .map(|row| [text(row, "Category"), text(row, "ResultType"), text(row, "ResultDescription")])
        .collect();
    let shown: Vec<String> = shown.iter().map(|row| row.join("|")).collect();
    assert_eq!(shown[0], "JobLogs|Created|The job was created");
    assert!(shown[1].starts_with("JobLogs|Started|The job was started; isolation: landlock"));
    assert_eq!(
        shown[2..],
        [
            "JobLogs|Failed|the runbook ended with exit code 3",
            "JobStreams|In Progress|hello",
            "JobStreams|In Progress|WARNING: low",
        ]
    );
    assert!(rows.iter().all(|row| {
        row.record_type.as_str() == "AzureDiagnostics"
            && row.fields["JobId_g"] == Field::Guid(job.id.0)
            && text(row, "RunbookName_s") == "Report"
            && text(row, "Caller_s") == "tester"
            && text(row, "ResourceProvider") == "MICROSOFT.AUTOMATION"
    }));
    assert_eq!(text(&rows[4], "StreamType_s"), "Warning");
}
