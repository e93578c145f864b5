//! Journals as earlier versions wrote them are read by this one.

use crate::common::*;
use oms_backup::item::{ItemEvent, ProtectionContainer, ProtectionState};
use oms_backup::job::{JobEnd, JobEvent, JobState, records};
use oms_core::journal::Journal;
use oms_core::testkit::Fixture;
use oms_core::testkit::disk::SimDisk;
use std::path::Path;
use std::sync::Arc;

fn fixtures() -> Vec<Fixture> {
    Fixture::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events"))
}

#[test]
fn every_event_is_kept_and_read() {
    let fixtures = fixtures();
    Fixture::check::<ItemEvent>(&fixtures);
    Fixture::check::<JobEvent>(&fixtures);
}

#[tokio::test(flavor = "multi_thread")]
async fn format_1_comes_to_the_same_state() {
    let journal: Arc<dyn Journal> = Arc::new(fixtures()[0].journal().await);
    let disk = Arc::new(SimDisk::default());
    drop(create(Arc::clone(&disk) as _));
    let builder = ProtectionContainer::builder(disk, Arc::clone(&journal)).name("pc");
    let container = builder.open(&passphrase()).await.expect("it opens");
    let mut items: Vec<_> = container.items().await;
    items.sort_by(|a, b| a.options.name.cmp(&b.options.name));
    let found: Vec<_> = items
        .iter()
        .map(|item| (item.options.name.as_str(), item.state, item.latest.is_some()))
        .collect();
    let expected = [
        ("documents", ProtectionState::Protected, true),
        ("stopped", ProtectionState::ProtectionStopped, false),
    ];
    assert_eq!(found, expected);
    assert!(items[0].options.one_file_system);
    let mut jobs = container.jobs().await.expect("jobs");
    jobs.sort_by_key(|job| job.queued);
    let states: Vec<_> = jobs.iter().map(|job| job.state).collect();
    use JobState as S;
    let expected = [
        S::Completed,
        S::CompletedWithWarnings,
        S::Completed,
        S::Failed,
        S::Completed,
        S::Cancelled,
    ];
    assert_eq!(states, expected);
    assert_eq!(jobs[0].outcome().map(|outcome| outcome.bytes), Some(100_000));
    assert!(matches!(&jobs[3].end, Some(JobEnd::Failed { code, .. }) if code == "AlreadyExists"));
    let events = journal.read_all(0, 1000).await.expect("events");
    assert_eq!(events.len(), fixtures()[0].events().len(), "nothing was interrupted");
    let rows = events.iter().map(|event| records(event, "pc").expect("mapped").len());
    assert_eq!(rows.sum::<usize>(), 14, "six ends of jobs, eight changes of items");
}
