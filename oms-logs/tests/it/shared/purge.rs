//! Rows that are to be purged, wherever they are.

use super::{Place, settings, table};
use crate::{batch, numbers};
use jiff::SignedDuration;
use oms_logs::repository::maintain::{MaintenanceSettings, PurgeReport};
use oms_logs::{Error, Settings, Workspace};
use std::time::Duration;

const CONDITION: &str = "tolong(CounterValue) % 10 == 3";

fn is_kept(number: &u64) -> bool {
    number % 10 != 3
}

fn kept(rows: std::ops::Range<u64>) -> Vec<u64> {
    rows.filter(is_kept).collect()
}

async fn purge(workspace: &Workspace) -> Result<PurgeReport, Error> {
    let plan = workspace.plan_purge(&table("Perf"), CONDITION).await.expect("a plan");
    plan.apply().await
}

/// A process that waits for the others.
async fn patient(place: &Place, at: usize) -> Workspace {
    let maintenance = MaintenanceSettings {
        writers_wait: SignedDuration::from_mins(10),
        ..settings().maintenance
    };
    let settings = Settings { maintenance, ..settings() };
    place.writer(at).settings(settings).build().await.expect("a workspace")
}

#[tokio::test]
async fn a_purge_takes_rows_that_wait_in_another_process() {
    let place = Place::new(2);
    let (a, b) = (patient(&place, 0).await, place.open(1).await);
    a.write(batch("a", 1, 0..20)).await.expect("written");
    b.write(batch("b", 1, 20..40)).await.expect("written");
    b.flush().await.expect("flushed");
    b.write(batch("b", 2, 40..60)).await.expect("written");
    let looking = async {
        loop {
            b.refresh().await.expect("looked");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let report = tokio::select! {
        report = purge(&a) => report.expect("purged"),
        () = looking => unreachable!("it looks for ever"),
    };
    assert_eq!(report.rows, 6, "flushed, and in the memory of either");
    assert_eq!(numbers(&a).await, kept(0..60));
    b.refresh().await.expect("looked");
    assert_eq!(numbers(&b).await, kept(0..60));
    drop(b);
    let b = place.open(1).await;
    assert_eq!(numbers(&b).await, kept(0..60), "nor do they come back from its log");
}

#[tokio::test]
async fn a_purge_that_cannot_know_every_row_purges_nothing_and_names_the_writer() {
    let place = Place::new(2);
    let (a, b) = (place.open(0).await, place.open(1).await);
    a.write(batch("a", 1, 0..20)).await.expect("written");
    a.flush().await.expect("flushed");
    b.write(batch("b", 1, 20..40)).await.expect("written");
    let mut ids = b.writers().await.expect("listed");
    let behind = |outcome: Result<PurgeReport, Error>| match outcome {
        Err(Error::WritersBehind { writers, .. }) => writers,
        other => panic!("{other:?}"),
    };
    let [silent] = <[String; 1]>::try_from(behind(purge(&a).await)).expect("one");
    assert_eq!(numbers(&a).await.len(), 20, "nothing is purged");
    // Killed, it still holds them.
    drop(b);
    assert_eq!(behind(purge(&a).await), std::slice::from_ref(&silent));
    ids.retain(|id| id.to_string() == silent);
    let [id] = <[uuid::Uuid; 1]>::try_from(ids).expect("one");
    let b = place.open(1).await;
    b.refresh().await.expect("looked");
    // It goes on and is given up at the same time.
    b.write(batch("b", 2, 40..60)).await.expect("written");
    a.forget_writer(id).await.expect("given up");
    assert_eq!(purge(&a).await.expect("purged").rows, 2);
    let refused = b.flush().await.expect_err("given up");
    assert!(
        matches!(&refused, Error::WriterForgotten { writer } if *writer == silent),
        "{refused}"
    );
    b.refresh().await.expect_err("given up");
    drop(b);
    let refused = place.writer(1).build().await.expect_err("given up");
    assert!(matches!(refused, Error::WriterForgotten { .. }), "{refused}");
    a.refresh().await.expect("looked");
    assert_eq!(numbers(&a).await, kept(0..20), "nothing of it came");
    a.forget_writer(id).await.expect("it is");
    let own = a.writers().await.expect("listed");
    for id in [own[0], uuid::Uuid::from_u128(5)] {
        let refused = a.forget_writer(id).await.expect_err("not to be given up").to_string();
        assert!(refused.contains("setting=`writer`"), "{refused}");
    }
}
