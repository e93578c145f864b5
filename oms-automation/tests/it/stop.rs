//! Ending jobs with all that they started.

use crate::host::{Host, PATIENCE, completed, is_alive, settings};
use jiff::{SignedDuration, Timestamp};
use oms_automation::job::{JobId, JobState};
use oms_automation::runbook::RunbookKind;
use oms_automation::{AutomationAccount, AutomationSettings, Error, StreamQuery};
use oms_core::clock::{Clock, ManualClock};
use oms_core::journal::{Journal, MemoryJournal};
use std::sync::Arc;
use std::time::Duration;

/// Leaves a grandchild in a session of its own with an empty environment, which ignores SIGTERM and
/// holds no pipe, and says its process id.
pub(crate) const DAEMON: &str = "\
setsid env -i /usr/bin/python3 -c '
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.chdir(\"/\")
print(\"daemon\", os.getpid(), flush=True)
null = os.open(\"/dev/null\", os.O_RDWR)
for number in range(3): os.dup2(null, number)
time.sleep(1000)
'
";

/// Waits until the daemon has said its process id.
pub(crate) async fn daemon_pid(account: &AutomationAccount, job: JobId) -> u32 {
    let found = async {
        loop {
            let records = account.streams(job, StreamQuery::default()).await.expect("streams");
            let line = records.iter().find_map(|record| record.text.strip_prefix("daemon "));
            if let Some(line) = line {
                return line.parse().expect("a process id");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the daemon says its id")
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_the_whole_tree() {
    let host = Host::new().await;
    let text = format!("{DAEMON}\necho waiting; trap '' TERM; while true; do sleep 1000; done");
    host.publish("Daemon", RunbookKind::Bash, &text).await;
    let job = host.start("Daemon", &[]).await;
    let daemon = daemon_pid(&host.account, job.id).await;
    host.says(job.id, "waiting").await;
    assert!(is_alive(daemon));
    let stopping = host.account.stop_job(job.id, "no longer needed").await.expect("stopping");
    assert_eq!(stopping.state, JobState::Stopping);
    host.account.stop_job(job.id, "again").await.expect("to ask again changes nothing");
    let job = host.wait(job.id).await;
    assert_eq!(job.state, JobState::Stopped);
    assert_eq!(job.stop_reason.as_deref(), Some("no longer needed"));
    assert!(!is_alive(daemon), "the daemon is gone before the job is Stopped");
    assert!(job.streams.expect("kept").records >= 2);
    let late = host.account.stop_job(job.id, "late").await.expect_err("it has ended");
    assert!(matches!(late, Error::JobState { state: JobState::Stopped, .. }), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_runbook_leaves_in_the_background_ends_with_it() {
    let host = Host::new().await;
    // The substitution ends when the daemon has let go of its output, so it is up by then.
    let (job, output) = host.bash(&format!("said=$({DAEMON})\necho \"$said\"")).await;
    completed(&job);
    let daemon = output.strip_prefix("daemon ").expect("it was up").parse().expect("an id");
    assert!(!is_alive(daemon));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runbook_may_clean_up_on_sigterm() {
    let host =
        Host::with(AutomationSettings { stop_grace: SignedDuration::from_secs(60), ..settings() })
            .await;
    let text = "trap 'echo cleaned; exit 0' TERM; echo ready; while true; do sleep 0.05; done";
    host.publish("Polite", RunbookKind::Bash, text).await;
    let job = host.start("Polite", &[]).await;
    host.says(job.id, "ready").await;
    host.account.stop_job(job.id, "please").await.expect("stopping");
    let job = host.wait(job.id).await;
    assert_eq!(job.state, JobState::Stopped);
    assert_eq!(host.account.output(job.id, 99).await.expect("output"), "ready\ncleaned");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_stopped_at_its_time_limit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let account = AutomationAccount::builder(folder.path())
        .journal(Arc::clone(&journal))
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .settings(settings())
        .build()
        .await
        .expect("opens");
    let host = Host { account, journal, folder };
    host.publish("Long", RunbookKind::Bash, "echo up; sleep 1000").await;
    let job = host.start("Long", &[]).await;
    host.says(job.id, "up").await;
    clock.advance(Duration::from_secs(3 * 3600 - 1));
    assert_eq!(host.account.job(job.id).await.expect("there").state, JobState::Running);
    clock.advance(Duration::from_secs(1));
    let job = host.wait(job.id).await;
    assert_eq!(job.state, JobState::Stopped);
    let reason = job.stop_reason.expect("why");
    assert_eq!(reason, "the time limit of 10800 seconds was reached");
}
