//! One process maintains the tables, and one that did before does no harm.

use super::gate::Call;
use super::{Place, forced, table};
use crate::{batch, numbers, up_to};
use jiff::SignedDuration;
use oms_core::Clock as _;
use oms_logs::repository::maintain::{CompactOptions, TableSettings};
use oms_logs::{Error, Workspace};
use std::time::Duration;

async fn flushed(workspace: &Workspace, producer: &str, sequence: u64, rows: std::ops::Range<u64>) {
    workspace.write(batch(producer, sequence, rows)).await.expect("written");
    workspace.flush().await.expect("flushed");
}

fn is_elsewhere<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    let error = outcome.expect_err("another one's");
    assert!(matches!(error, Error::MaintainedElsewhere { .. }), "{error}");
}

#[tokio::test]
async fn one_process_maintains_the_tables_until_it_closes_or_is_gone() {
    let place = Place::new(2);
    let (a, b) = (place.open(0).await, place.open(1).await);
    for (sequence, workspace) in [(1, &a), (2, &b), (3, &a), (4, &b)] {
        flushed(workspace, "p", sequence, sequence * 10 - 10..sequence * 10).await;
    }
    assert_eq!(a.compact(&forced()).await.expect("compacted").files_before(), 4, "of both");
    assert_eq!(numbers(&a).await, up_to(40));
    b.refresh().await.expect("looked");
    assert_eq!(numbers(&b).await, up_to(40));
    flushed(&b, "p", 5, 40..50).await;
    is_elsewhere(b.compact(&forced()).await);
    is_elsewhere(b.compact(&CompactOptions::default()).await);
    is_elsewhere(b.vacuum().await);
    let plan = b.plan_retention(place.clock.now()).await.expect("a plan");
    is_elsewhere(plan.apply().await);
    let plan = b.plan_purge(&table("Perf"), "CounterValue == 3").await.expect("a plan");
    assert_eq!(plan.rows, 1);
    is_elsewhere(plan.apply().await);
    a.close().await.expect("closed, and given up");
    assert_eq!(b.compact(&forced()).await.expect("compacted").files_before(), 2);
    // Killed: another one waits until it showed no life for its term.
    drop(b);
    let a = place.open(0).await;
    place.let_owner_pass_away(&a).await;
    a.vacuum().await.expect("it is the owner");
    assert_eq!(numbers(&a).await, up_to(50));
}

/// A former owner wakes in the middle of a rewrite of files that the next one has rewritten since.
#[tokio::test]
async fn a_compaction_of_a_former_owner_is_refused() {
    let place = Place::new(2);
    let ((a, gate), b) = (place.gated(0).await, place.open(1).await);
    for sequence in 1..=4 {
        flushed(&a, "p", sequence, sequence * 10 - 10..sequence * 10).await;
    }
    a.vacuum().await.expect("it is the owner");
    // The property of the table, and then the files.
    a.compact(&forced()).await.expect("compacted");
    flushed(&a, "p", 5, 40..50).await;
    let mut stopped = gate.stop(Call::Put, "_delta_log");
    let options = forced();
    let compaction = a.compact(&options);
    let other = async {
        stopped.reached().await;
        place.let_owner_pass_away(&b).await;
        b.refresh().await.expect("looked");
        assert_eq!(b.compact(&forced()).await.expect("compacted").files_before(), 2);
        assert_eq!(numbers(&b).await, up_to(50));
        stopped.go_on();
    };
    let (compacted, ()) = tokio::join!(compaction, other);
    is_elsewhere(compacted);
    for workspace in [&a, &b] {
        workspace.refresh().await.expect("looked");
        assert_eq!(numbers(workspace).await, up_to(50));
    }
}

/// The Delta library lets two rewrites of the same file pass each other; so the owner itself makes
/// sure that its files are there.
#[tokio::test]
async fn a_compaction_beside_flushes_of_others_takes_each_file_once() {
    let place = Place::new(2);
    let ((a, gate), b) = (place.gated(0).await, place.open(1).await);
    for sequence in 1..=4 {
        flushed(&a, "p", sequence, sequence * 10 - 10..sequence * 10).await;
    }
    a.vacuum().await.expect("it is the owner");
    let mut stopped = gate.stop(Call::Put, "_delta_log/00000000000000000005");
    let options = forced();
    let compaction = a.compact(&options);
    let other = async {
        stopped.reached().await;
        flushed(&b, "q", 1, 40..50).await;
        stopped.go_on();
    };
    let (compacted, ()) = tokio::join!(compaction, other);
    assert_eq!(compacted.expect("compacted after it").files_before(), 4);
    b.refresh().await.expect("looked");
    assert_eq!(numbers(&b).await, up_to(50));
}

/// Files that no commit names are of a process that was killed, or of one that is about to commit
/// them.
#[tokio::test]
async fn a_vacuum_takes_no_rows_of_a_commit_under_way() {
    let place = Place::new(2);
    let (a, (b, gate)) = (place.open(0).await, place.gated(1).await);
    flushed(&a, "p", 1, 0..10).await;
    b.refresh().await.expect("looked");
    b.write(batch("q", 1, 10..20)).await.expect("written");
    let mut stopped = gate.stop(Call::Put, "_delta_log");
    let other = async {
        stopped.reached().await;
        // For a hundred years, so that its files are older than any that is kept.
        place.clock.advance(Duration::from_secs(100 * 366 * 86_400));
        let vacuumed = a.vacuum().await.expect("vacuumed");
        assert_eq!(vacuumed.tables[0].files, 1, "what the other one wrote");
        stopped.go_on();
    };
    let (flushed, ()) = tokio::join!(b.flush(), other);
    assert_eq!(flushed.expect("flushed").rows(), 10, "they are written again");
    let query = "Perf | count";
    for workspace in [&a, &b] {
        workspace.refresh().await.expect("looked");
        let rows = workspace.table_snapshot_total("Perf").expect("a table");
        assert_eq!(rows.rows(), 20, "{query}");
        let frame = datafusion::prelude::SessionContext::new()
            .read_table(std::sync::Arc::new(rows))
            .expect("a frame");
        let found = frame.collect().await.expect("every file is there");
        assert_eq!(crate::numbers_of(&found), up_to(20));
    }
}

/// A former owner wakes in the middle of a vacuum: what it found was nobody's, and stays so.
#[tokio::test]
async fn a_vacuum_of_a_former_owner_deletes_what_nobody_needs() {
    let place = Place::new(2);
    let ((a, gate), b) = (place.gated(0).await, place.open(1).await);
    for sequence in 1..=3 {
        flushed(&a, "p", sequence, sequence * 10 - 10..sequence * 10).await;
    }
    a.compact(&forced()).await.expect("compacted");
    place.clock.advance(Duration::from_secs(8 * 86_400));
    let mut stopped = gate.stop(Call::Delete, ".parquet");
    let other = async {
        stopped.reached().await;
        place.let_owner_pass_away(&b).await;
        b.write(batch("q", 1, 30..40)).await.expect("written");
        b.flush().await.expect("flushed");
        b.compact(&forced()).await.expect("compacted");
        b.vacuum().await.expect("vacuumed");
        stopped.go_on();
    };
    let (vacuumed, ()) = tokio::join!(a.vacuum(), other);
    assert_eq!(vacuumed.expect("vacuumed").tables[0].files, 3);
    for workspace in [&a, &b] {
        workspace.refresh().await.expect("looked");
        assert_eq!(numbers(workspace).await, up_to(40));
    }
}

/// Settings that keep rows longer are acknowledged while an owner is about to remove them.
#[tokio::test]
async fn retention_that_was_begun_by_other_settings_removes_nothing() {
    let place = Place::new(2);
    let ((a, gate), b) = (place.gated(0).await, place.open(1).await);
    flushed(&a, "p", 1, 0..10).await;
    a.vacuum().await.expect("it is the owner");
    let now = place.clock.now() + SignedDuration::from_hours(24 * 40);
    let plan = async || a.plan_retention(now).await.expect("a plan").trusting_the_clock();
    let mut stopped = gate.stop(Call::Put, "_delta_log/00000000000000000002");
    let removal = plan().await.apply();
    let other = async {
        stopped.reached().await;
        let longer = TableSettings { total_retention_days: 60, ..TableSettings::default() };
        b.set_table_settings(&table("Perf"), longer).await.expect("acknowledged");
        stopped.go_on();
    };
    let (removed, ()) = tokio::join!(removal, other);
    assert_eq!(removed.expect("nothing").tables, []);
    for workspace in [&a, &b] {
        workspace.refresh().await.expect("looked");
        assert_eq!(numbers(workspace).await, up_to(10));
    }
    assert_eq!(plan().await.rows(), 0);
    let shorter = TableSettings::default();
    b.set_table_settings(&table("Perf"), shorter).await.expect("acknowledged");
    a.refresh().await.expect("looked");
    assert_eq!(plan().await.apply().await.expect("removed").tables[0].rows, 10);
}
