//! Journals as earlier versions wrote them are read by this one.

use oms_core::journal::Journal;
use oms_core::testkit::Fixture;
use oms_recovery::machine::StoredEvent;
use oms_recovery::machine::ended::state::StoredRelease;
use oms_recovery::replication::ProtectionState as S;
use oms_recovery::{RecoveryVault, records};
use std::path::Path;
use std::sync::Arc;

fn fixtures() -> Vec<Fixture> {
    Fixture::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events"))
}

#[test]
fn every_event_is_kept_and_read() {
    Fixture::check::<StoredEvent>(&fixtures());
    Fixture::check::<StoredRelease>(&fixtures());
}

#[tokio::test]
async fn format_1_comes_to_the_same_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Arc::new(fixtures()[0].journal().await);
    let vault = RecoveryVault::builder(folder.path()).journal(Arc::clone(&journal) as _).build();
    let items = vault.expect("opens").items().await.expect("items");
    let found: Vec<_> = items
        .iter()
        .map(|item| (item.machine.name.as_str(), item.state, item.epoch, item.failure.is_some()))
        .collect();
    let expected = [
        ("again", S::Protected, 1, false),
        ("back", S::Protected, 3, false),
        ("diverging", S::ResyncRequired, 1, true),
        ("drilled", S::Protected, 1, false),
        ("unplanned", S::UnplannedFailoverCommitPending, 3, false),
    ];
    assert_eq!(found, expected, "`gone` is not protected any more");
    let [_, back, _, drilled, unplanned] = &items[..] else { panic!("{items:?}") };
    assert!(back.last_successful_test_failover.is_some() && back.point.is_none());
    assert!(drilled.test_point.is_some_and(|point| point.stamp.sequence == 4));
    assert!(unplanned.point.is_some_and(|point| point.id.is_some()));
    assert_eq!(unplanned.policy.recovery_points_max, 288);
    assert_eq!(unplanned.recovery.location, "/srv/replicas");

    let events = journal.read_all(0, 1000).await.expect("events");
    let rows = events.iter().map(|event| records(event, "pc").expect("mapped").len());
    assert!(rows.sum::<usize>() > events.len(), "each is a row, and most a job's too");
}
