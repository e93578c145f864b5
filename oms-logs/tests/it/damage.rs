//! A write-ahead log with damage, disks that are full, and clocks that jump.

use crate::every_point::points::{Pointed, Points};
use crate::{batch, numbers, quiet, start, up_to};
use jiff::SignedDuration;
use object_store::ObjectStore;
use oms_core::ErrorKind;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::SimDisk;
use oms_logs::workspace::LogDamage;
use oms_logs::{Error, Settings, Workspace};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Segments of about one batch.
fn builder(folder: &Path, disk: &SimDisk) -> oms_logs::workspace::WorkspaceBuilder {
    let settings = Settings {
        flush_age: SignedDuration::from_hours(10_000),
        flush_bytes: u64::MAX,
        segment_bytes_max: 2_000,
        ..Settings::default()
    };
    quiet(folder).settings(settings).log_disk(Arc::new(disk.clone()))
}

/// A log of five batches of two rows, in more than two segments; answers the segments.
async fn written(folder: &Path, disk: &SimDisk) -> Vec<PathBuf> {
    let workspace = builder(folder, disk).build().await.expect("a workspace");
    for sequence in 0..5 {
        let numbers = sequence * 2..sequence * 2 + 2;
        workspace.write(batch("a", sequence + 1, numbers)).await.expect("written");
    }
    let segments: Vec<PathBuf> = disk.contents().into_keys().collect();
    assert!(segments.len() > 3, "{segments:?}");
    segments
}

async fn opened(folder: &Path, disk: &SimDisk) -> (Workspace, Vec<LogDamage>) {
    let workspace = builder(folder, disk).quarantine(true).build().await.expect("all the same");
    let damage = workspace.log_damage().expect("open");
    (workspace, damage)
}

#[tokio::test]
async fn damage_is_an_error_unless_it_is_to_be_put_aside() {
    let (folder, disk) = (tempfile::tempdir().expect("a folder"), SimDisk::default());
    let segments = written(folder.path(), &disk).await;
    disk.flip_bit(&segments[1], disk.contents()[&segments[1]].len() - 10, 2);
    for _ in 0..2 {
        let error = builder(folder.path(), &disk).build().await.expect_err("damaged");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("000000000002.wal"), "{error}");
    }
    let (workspace, damage) = opened(folder.path(), &disk).await;
    let [found] = damage.as_slice() else { panic!("{damage:?}") };
    assert_eq!((found.path.as_str(), found.batches_missing), ("wal/000000000002.wal", Some(1)));
    assert!(found.offset > 0 && found.reason.contains("checksum"), "{found:?}");
    // Everything else is there, in the Delta table, and the damaged bytes are kept.
    let seen = numbers(&workspace).await;
    assert_eq!(seen.len(), 8);
    assert!(disk.contents().contains_key(Path::new(&found.moved_to)), "{found:?}");
    // The missing batch can be sent again, and no other one is taken twice.
    for sequence in 0..5 {
        let numbers = sequence * 2..sequence * 2 + 2;
        workspace.write(batch("a", sequence + 1, numbers)).await.expect("written");
    }
    drop(workspace);
    let workspace = builder(folder.path(), &disk).build().await.expect("no damage any more");
    assert_eq!(workspace.log_damage().expect("open"), []);
    // A later header knows the missing batch as written: it was acknowledged.
    assert_eq!(numbers(&workspace).await, seen);
}

#[tokio::test]
async fn a_lost_header_loses_its_segment_alone() {
    let (folder, disk) = (tempfile::tempdir().expect("a folder"), SimDisk::default());
    let segments = written(folder.path(), &disk).await;
    let last = segments.len() - 1;
    for at in [0, last] {
        let (folder, disk) = (tempfile::tempdir().expect("a folder"), SimDisk::default());
        written(folder.path(), &disk).await;
        disk.flip_bit(&segments[at], 20, 0);
        assert!(builder(folder.path(), &disk).build().await.is_err());
        let (workspace, damage) = opened(folder.path(), &disk).await;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!(damage[0].batches_missing.is_none(), at == last, "{damage:?}");
        let seen = numbers(&workspace).await;
        assert!(seen.len() >= 6 && seen.len() < 10, "{seen:?}");
        workspace.write(batch("b", 1, 100..101)).await.expect("it goes on");
    }
}

#[tokio::test]
async fn a_full_disk_in_a_flush_loses_nothing_and_the_next_flush_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let points = Arc::new(Points::calm());
    let store = Arc::clone(&points);
    let layer = |inner| -> Arc<dyn ObjectStore> { Arc::new(Pointed { inner, points: store }) };
    let workspace = quiet(folder.path()).store_layer(layer).build().await.expect("a workspace");
    workspace.write(batch("a", 1, 0..4)).await.expect("written");
    points.set_full(true);
    for round in 0..3 {
        let error = workspace.flush().await.expect_err("full");
        assert!(matches!(error, Error::File { .. } | Error::Delta { .. }), "{error}");
        let numbers_of = 4 + round..5 + round;
        workspace.write(batch("a", 2 + round, numbers_of)).await.expect("the log has room");
        assert_eq!(numbers(&workspace).await, up_to(5 + round));
    }
    points.set_full(false);
    assert_eq!(workspace.flush().await.expect("flushed").rows(), 7);
    assert_eq!(numbers(&workspace).await, up_to(7));
    drop(workspace);
    assert_eq!(numbers(&crate::open(folder.path()).await).await, up_to(7));
}

/// The clock of the computer is set back between a write, a flush and a restart.
#[tokio::test]
async fn a_clock_that_jumps_back_loses_and_repeats_nothing() {
    let (folder, disk) = (tempfile::tempdir().expect("a folder"), SimDisk::default());
    let clock = Arc::new(ManualClock::new(start()));
    let open = async || {
        let builder = quiet(folder.path()).clock(Arc::<ManualClock>::clone(&clock));
        builder.log_disk(Arc::new(disk.clone())).build().await.expect("a workspace")
    };
    for round in 0..4_u64 {
        let workspace = open().await;
        assert_eq!(numbers(&workspace).await, up_to(round * 4));
        for part in 0..2 {
            let first = round * 4 + part * 2;
            let sequence = round * 2 + part + 1;
            workspace.write(batch("a", sequence, first..first + 2)).await.expect("written");
            clock.set(start() - SignedDuration::from_hours(24 * (1 + (round + part) as i64)));
            if part == 0 {
                workspace.flush().await.expect("flushed");
            }
        }
        assert_eq!(numbers(&workspace).await, up_to(round * 4 + 4));
        drop(workspace);
        disk.crash(&SeededEntropy::new(round));
    }
    assert_eq!(numbers(&open().await).await, up_to(16));
}
