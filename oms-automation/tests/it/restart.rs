//! What survives the end of the process.

use crate::host::{Host, completed, is_alive, name, open, publish, says, settings, wait};
use oms_automation::job::{JobId, JobState};
use oms_automation::runbook::{LogSwitches, RunbookKind};
use oms_automation::{AutomationAccount, AutomationSettings, Error, JobOptions};
use oms_core::journal::{Journal, MemoryJournal};
use oms_core::testkit::fault::{Faults, Faulty};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_what_runs_and_keeps_what_waits() {
    let Host { account, journal, folder } =
        Host::with(AutomationSettings { concurrency: 1, ..settings() }).await;
    let logs = LogSwitches::default();
    publish(&account, "Sleep", RunbookKind::Bash, "echo up; sleep 1000", vec![], logs).await;
    publish(&account, "Quick", RunbookKind::Bash, "echo quick", vec![], logs).await;
    let running =
        account.start_job(&name("Sleep"), JobOptions::default()).await.expect("starts").id;
    says(&account, running, "up").await;
    let waiting =
        account.start_job(&name("Quick"), JobOptions::default()).await.expect("starts").id;
    account.shutdown().await;
    let job = account.job(running).await.expect("there");
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.exception.as_deref(), Some("the worker was shut down while the job ran"));
    assert_eq!(account.job(waiting).await.expect("there").state, JobState::New);
    let late = account.start_job(&name("Quick"), JobOptions::default()).await;
    assert!(matches!(late, Err(Error::ShutDown)));
    drop(account);

    let account = open(folder.path(), journal, settings()).await;
    completed(&wait(&account, waiting).await);
    assert_eq!(account.output(waiting, 99).await.expect("output"), "quick");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_has_an_account_at_a_time() {
    let host = Host::new().await;
    let second = AutomationAccount::builder(host.folder.path())
        .journal(Arc::clone(&host.journal))
        .settings(settings())
        .build()
        .await;
    assert!(matches!(second, Err(Error::InUse { .. })));
}

/// An account whose process dies takes its jobs' processes along as far as it can: those are killed
/// when the runtime drops them, and the next life records them.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_account_leaves_no_process() {
    let Host { account, journal, folder } = Host::new().await;
    let logs = LogSwitches::default();
    let text = "echo $$; sleep 1000";
    publish(&account, "Sleep", RunbookKind::Bash, text, vec![], logs).await;
    let job = account.start_job(&name("Sleep"), JobOptions::default()).await.expect("starts").id;
    let pid = loop {
        if let Ok(pid) = account.output(job, 99).await.expect("output").parse::<u32>() {
            break pid;
        }
        tokio::task::yield_now().await;
    };
    drop(account);
    while is_alive(pid) {
        tokio::task::yield_now().await;
    }
    let account = reopened(folder.path(), journal).await;
    let job = wait(&account, job).await;
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.exception.as_deref(), Some("the worker was restarted while the job ran"));
    assert_eq!(job.streams.expect("recovered").records, 1);
}

/// Opens an account that was dropped just now: its tasks may hold the folder for a moment.
async fn reopened(folder: &std::path::Path, journal: Arc<dyn Journal>) -> AutomationAccount {
    loop {
        let built = AutomationAccount::builder(folder)
            .journal(Arc::clone(&journal))
            .settings(settings())
            .build()
            .await;
        match built {
            Ok(account) => return account,
            Err(Error::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// After many lives the journal is not read from its beginning, and nothing is lost by that.
#[tokio::test(flavor = "multi_thread")]
async fn many_lives_lose_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let mut jobs: Vec<JobId> = Vec::new();
    for life in 0..5 {
        let account = open(folder.path(), Arc::clone(&journal), settings()).await;
        if life == 0 {
            let logs = LogSwitches::default();
            publish(&account, "Quick", RunbookKind::Bash, "echo $1", vec![], logs).await;
        }
        for number in 0..4 {
            let parameters = [("n".to_owned(), (life * 10 + number).into())].into();
            let options = JobOptions { parameters, ..JobOptions::default() };
            jobs.push(account.start_job(&name("Quick"), options).await.expect("starts").id);
        }
        account.shutdown().await;
    }
    let account = open(folder.path(), journal, settings()).await;
    for job in jobs {
        let job = wait(&account, job).await;
        match job.state {
            JobState::Completed => {
                let output = account.output(job.id, 99).await.expect("output");
                assert_eq!(output, job.task.arguments[0].value.to_string());
            }
            JobState::Failed => assert!(job.exception.expect("why").contains("was shut down")),
            other => panic!("{other:?}"),
        }
    }
}

/// The worker's loop goes on through a journal that fails now and then, before and after the effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_journal_costs_time_and_no_job() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let faults = Arc::new(Faults::new(11));
    let journal = Arc::new(Faulty::new(MemoryJournal::default(), Arc::clone(&faults)));
    let account = open(folder.path(), journal, settings()).await;
    let logs = LogSwitches::default();
    publish(&account, "Quick", RunbookKind::Bash, "echo $1", vec![], logs).await;
    faults.set_before(200);
    faults.set_after(100);
    let mut jobs = Vec::new();
    for number in 0..8 {
        let options = || JobOptions {
            name: Some(format!("quick {number}")),
            parameters: [("n".to_owned(), number.into())].into(),
            started_by: String::new(),
        };
        let job = loop {
            match account.start_job(&name("Quick"), options()).await {
                Ok(job) => break job.id,
                Err(error) => assert!(error.kind().is_retryable(), "{error}"),
            }
        };
        jobs.push(job);
    }
    for (number, job) in jobs.into_iter().enumerate() {
        let job = loop {
            match account.wait(job).await {
                Ok(job) => break job,
                Err(error) => assert!(error.kind().is_retryable(), "{error}"),
            }
        };
        completed(&job);
        let output = loop {
            if let Ok(output) = account.output(job.id, 99).await {
                break output;
            }
        };
        assert_eq!(output, number.to_string());
    }
    assert!(faults.count() > 5, "{}", faults.count());
}

/// Where the process that is to be killed keeps its account, if this is that process.
const VICTIM_FOLDER: &str = "OMS_TEST_VICTIM_FOLDER";

/// Not a test of its own: the process that [`kill_nine_leaves_no_process_and_no_doubt`] kills.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Some(folder) = std::env::var_os(VICTIM_FOLDER) else { return };
    let folder = std::path::PathBuf::from(folder);
    let one = AutomationSettings { concurrency: 1, ..settings() };
    let account = open(&folder.join("account"), durable(&folder), one).await;
    let logs = LogSwitches::default();
    let text = crate::stop::DAEMON.to_owned() + "\necho waiting; sleep 1000";
    publish(&account, "Daemon", RunbookKind::Bash, &text, vec![], logs).await;
    publish(&account, "Quick", RunbookKind::Bash, "echo quick", vec![], logs).await;
    let options = |name: &str| JobOptions { name: Some(name.to_owned()), ..JobOptions::default() };
    let job = account.start_job(&name("Daemon"), options("running")).await.expect("starts").id;
    says(&account, job, "waiting").await;
    crate::stop::daemon_pid(&account, job).await;
    account.start_job(&name("Quick"), options("waiting")).await.expect("starts");
    std::fs::write(folder.join("ready.part"), job.to_string()).expect("written");
    std::fs::rename(folder.join("ready.part"), folder.join("ready")).expect("renamed");
    std::future::pending::<()>().await;
}

fn durable(folder: &std::path::Path) -> Arc<dyn Journal> {
    let journal = oms_core::journal::SqliteJournal::open(folder.join("journal.sqlite"));
    Arc::new(journal.expect("a journal"))
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_leaves_no_process_and_no_doubt() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut victim = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "restart::victim", "--nocapture"])
        .env(VICTIM_FOLDER, folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let ready = async {
        loop {
            match std::fs::read_to_string(folder.path().join("ready")) {
                Ok(job) => return job.parse::<JobId>().expect("an id"),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    };
    let job = tokio::time::timeout(crate::host::PATIENCE, ready).await.expect("in time");
    victim.kill().expect("killed");
    victim.wait().expect("reaped");

    let stream = folder.path().join("account/streams").join(format!("{job}.stream"));
    let said = String::from_utf8_lossy(&std::fs::read(stream).expect("there")).into_owned();
    let digits = said.split_once("\"daemon ").expect("the daemon's id").1;
    let daemon: u32 = digits.split('"').next().expect("digits").parse().expect("an id");
    assert!(is_alive(daemon), "nothing but the next life ends it");

    let account = open(&folder.path().join("account"), durable(folder.path()), settings()).await;
    let ended = wait(&account, job).await;
    assert_eq!(ended.state, JobState::Failed);
    assert_eq!(ended.exception.as_deref(), Some("the worker was restarted while the job ran"));
    assert!(!is_alive(daemon));
    assert!(ended.streams.expect("recovered").records >= 2);
    assert!(!folder.path().join("account/sandbox").join(job.to_string()).exists());
    let named = |key: &str| JobOptions { name: Some(key.to_owned()), ..JobOptions::default() };
    for (runbook, key, state) in
        [("Daemon", "running", JobState::Failed), ("Quick", "waiting", JobState::Completed)]
    {
        let again = account.start_job(&name(runbook), named(key)).await;
        assert_eq!(wait(&account, again.expect("answers the first").id).await.state, state);
    }
    let other = account.start_job(&name("Quick"), named("running")).await.expect_err("Daemon's");
    assert_eq!(other.kind(), oms_core::ErrorKind::AlreadyExists, "{other}");
    assert_eq!(account.jobs(None, 10).await.expect("a list").len(), 2);
}
