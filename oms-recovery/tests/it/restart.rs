//! Power fails between any two steps; what was acknowledged stays.

use crate::common::{Sites, World, assert_disk, random_disk, scribble};
use oms_core::entropy::SeededEntropy;
use oms_recovery::machine::disk::BlockDevice;
use oms_recovery::recovery_point::{Consistency, PointChoice};
use oms_recovery::{ProtectedItem, ProtectionState, ReplicationPolicy, SourceOperations};
use std::sync::Arc;

/// Both sites lose power; a new process opens the item.
async fn power_loss(world: &World) -> Arc<ProtectedItem> {
    let Sites { primary, recovery, .. } = &world.sites;
    primary.crash(&*world.entropy);
    recovery.crash(&*world.entropy);
    world.vault().item("web1").await.expect("open after a power loss")
}

#[tokio::test]
async fn every_stage_survives_a_power_loss() {
    for seed in 0..12 {
        let entropy = SeededEntropy::new(seed);
        let mut model = random_disk(&entropy);
        let world = World::new(seed, &model);
        let item = world.protect(ReplicationPolicy::default()).await;
        scribble(&*item.device().expect("device"), &mut model, &entropy, 20);
        item.device().expect("device").flush().expect("flush");
        let item = power_loss(&world).await;
        assert_disk(
            &*item.device().expect("device"),
            &model,
            &format!("seed {seed}: flushed writes"),
        );

        let point = item.take_recovery_point(Consistency::CrashConsistent).await.expect("point");
        let drill = item.test_failover(PointChoice::Point(point.id)).await.expect("drill");
        drill.device().write_at(0, b"drill").expect("write");
        drill.device().flush().expect("flush");
        let item = power_loss(&world).await;
        let drill = item.running_test_failover().await.expect("still running");
        let mut bytes = [0; 5];
        drill.device().read_at(0, &mut bytes).expect("read");
        assert_eq!(&bytes, b"drill", "seed {seed}");
        item.cleanup_test_failover("").await.expect("cleanup");

        item.planned_failover().await.expect("failover");
        let item = power_loss(&world).await;
        assert_disk(
            &*item.device().expect("device"),
            &model,
            &format!("seed {seed}: planned failover"),
        );
        scribble(&*item.device().expect("device"), &mut model, &entropy, 10);
        item.device().expect("device").flush().expect("flush");
        let item = power_loss(&world).await;
        assert_disk(
            &*item.device().expect("device"),
            &model,
            &format!("seed {seed}: writes before commit"),
        );
        item.commit().await.expect("commit");
        let item = power_loss(&world).await;
        assert_disk(&*item.device().expect("device"), &model, &format!("seed {seed}: commit"));

        item.reprotect().await.expect("reprotect");
        scribble(&*item.device().expect("device"), &mut model, &entropy, 10);
        item.device().expect("device").flush().expect("flush");
        let item = power_loss(&world).await;
        item.failback().await.expect("failback");
        let item = power_loss(&world).await;
        assert_disk(&*item.device().expect("device"), &model, &format!("seed {seed}: failback"));
        item.commit().await.expect("complete");
        let item = power_loss(&world).await;
        assert_disk(&*item.device().expect("device"), &model, &format!("seed {seed}: complete"));
    }
}

/// Storage fails at the n-th operation of a step, then power is lost: the step is either undone or
/// completed when the item is opened, and the disk is right.
#[tokio::test]
async fn every_step_can_be_interrupted_anywhere() {
    for step in ["planned", "unplanned", "commit", "reprotect"] {
        let mut is_through = false;
        for nth in (0..400).step_by(7) {
            is_through |= interrupt(step, nth).await;
        }
        assert!(is_through, "{step} completes when nothing fails before its end");
    }
}

/// Whether the step completed although storage was to fail at its `nth` operation.
async fn interrupt(step: &str, nth: u64) -> bool {
    let entropy = SeededEntropy::new(nth);
    let mut model = random_disk(&entropy);
    let world = World::new(nth, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    scribble(&*item.device().expect("device"), &mut model, &entropy, 5);
    item.replicate().await.expect("replicate");
    if matches!(step, "commit" | "reprotect") {
        item.planned_failover().await.expect("failover");
        scribble(&*item.device().expect("device"), &mut model, &entropy, 5);
        item.device().expect("device").flush().expect("flush");
    }
    if step == "reprotect" {
        item.commit().await.expect("commit");
    }
    world.sites.fuse.blow_after(nth);
    let done = match step {
        "planned" => item.planned_failover().await.map(drop),
        "unplanned" => {
            item.unplanned_failover(PointChoice::Latest, SourceOperations::Required).await.map(drop)
        }
        "commit" => item.commit().await,
        _ => item.reprotect().await.map(drop),
    };
    world.sites.fuse.heal();
    drop(item);
    let what = format!("{step}, operation {nth}, {done:?}");
    let item = power_loss(&world).await;
    assert_disk(&*item.device().expect("device"), &model, &what);
    // And it can go on from there.
    let state = item.status().await.item.state;
    match state {
        ProtectionState::Reprotecting => drop(item.replicate().await.expect(&what)),
        ProtectionState::ReverseResyncRequired
        | ProtectionState::ResyncRequired
        | ProtectionState::UnplannedFailoverFailed => {
            item.repair_replication().await.expect(&what);
        }
        _ => {}
    }
    scribble(&*item.device().expect("device"), &mut model, &entropy, 2);
    item.device().expect("device").flush().expect("flush");
    assert_disk(&*item.device().expect("device"), &model, &what);
    done.is_ok()
}
