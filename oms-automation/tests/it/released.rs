//! Journals as earlier versions wrote them are read by this one.

use crate::host::{name, open, settings};
use oms_automation::AutomationSettings;
use oms_automation::job::{JobRecorded, JobState as S};
use oms_automation::runbook::{RunbookRecorded, RunbookState};
use oms_core::journal::Journal;
use oms_core::testkit::Fixture;
use std::path::Path;
use std::sync::Arc;

fn fixtures() -> Vec<Fixture> {
    Fixture::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events"))
}

#[test]
fn every_event_is_kept_and_read() {
    let fixtures = fixtures();
    Fixture::check::<RunbookRecorded>(&fixtures);
    Fixture::check::<JobRecorded>(&fixtures);
}

#[tokio::test(flavor = "multi_thread")]
async fn format_1_comes_to_the_same_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal: Arc<dyn Journal> = Arc::new(fixtures()[0].journal().await);
    let settings = AutomationSettings { account: "ops".to_owned(), ..settings() };
    let account = open(folder.path(), Arc::clone(&journal), settings).await;
    let runbooks = account.runbooks().await.expect("runbooks");
    let found: Vec<_> = runbooks.iter().map(|it| (it.name.as_str(), it.state)).collect();
    assert_eq!(found, [("Greet", RunbookState::Published), ("Sleep", RunbookState::Edit)]);
    let greet = account.runbook(&name("greet")).await.expect("a runbook").published;
    let greet = greet.expect("published");
    assert_eq!((greet.number, greet.content.parameters[0].name.as_str()), (1, "who"));
    let mut jobs = account.jobs(None, 100).await.expect("jobs");
    jobs.sort_by_key(|job| job.creation_time);
    let states: Vec<_> = jobs.iter().map(|job| job.state).collect();
    assert_eq!(states, [S::Completed, S::Failed, S::Stopped, S::Stopped]);
    let [done, failed, running, queued] = &jobs[..] else { panic!("{jobs:?}") };
    assert!(done.isolation.is_some() && done.streams.is_some_and(|streams| streams.records == 1));
    assert_eq!((failed.exit_code, done.task.arguments[0].name.as_str()), (Some(1), "who"));
    assert_eq!(running.stop_reason.as_deref(), Some("no longer needed"));
    assert_eq!((queued.stop_reason.as_deref(), queued.start_time), (Some("not needed"), None));
    account.shutdown().await;
    let events = journal.read_all(0, 1000).await.expect("events");
    let rows = events.iter().map(|event| account.records(event, "pc").expect("mapped").len());
    assert_eq!(rows.sum::<usize>(), 14, "states, and what of the streams is not there any more");
}
