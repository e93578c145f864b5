//! Full disks, damage, former primaries, and replicas that were away for too long.

use crate::common::{
    DISK_BYTES, Sites, World, assert_disk, primary_site, random_disk, recovery_site, scribble,
};
use oms_core::ErrorKind;
use oms_core::clock::ManualClock;
use oms_core::disk::Disk;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::SimDisk;
use oms_recovery::machine::disk::{BlockDevice, FileDevice};
use oms_recovery::recovery_point::{Consistency, PointChoice, RecoveryLog};
use oms_recovery::replication::health::ProtectionHealth;
use oms_recovery::replication::mark::{Mark, MarkFile, Role};
use oms_recovery::replication::primary::{Outcome, PrimaryEnd};
use oms_recovery::replication::replica::Replica;
use oms_recovery::replication::tracker::{TrackedDevice, TrackerOptions};
use oms_recovery::replication::transfer::CopyKind;
use oms_recovery::replication::{DivergenceReason, Stamp};
use oms_recovery::{Error, ProtectionState, ReplicationPolicy, SourceOperations};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

fn small_log() -> ReplicationPolicy {
    ReplicationPolicy { outgoing_log_bytes_max: 512 << 10, ..ReplicationPolicy::default() }
}

#[tokio::test]
async fn a_replica_that_was_away_too_long_needs_a_resync_which_converges() {
    let entropy = SeededEntropy::new(1);
    let mut model = random_disk(&entropy);
    let world = World::new(1, &model);
    let item = world.protect(small_log()).await;
    scribble(&*item.device().expect("device"), &mut model, &entropy, 10);
    let old = item.take_recovery_point(Consistency::CrashConsistent).await.expect("point");
    let then = model.clone();

    // More than the log takes, in one corner of the disk; production does not notice.
    for round in 0..100 {
        let bytes = [round; 8192];
        item.device().expect("device").write_at(4096, &bytes).expect("production goes on");
        model[4096..4096 + 8192].copy_from_slice(&bytes);
        item.device().expect("device").flush().expect("flush");
    }
    let error = item.replicate().await.expect_err("past the log");
    let wanted = DivergenceReason::OutgoingLogFull;
    assert!(matches!(error, Error::ResyncRequired { reason, .. } if reason == wanted), "{error}");
    assert_eq!(item.status().await.item.state, ProtectionState::ResyncRequired);
    let error = item.take_recovery_point(Consistency::CrashConsistent).await.expect_err("state");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    // Old points stay usable.
    let drill = item.test_failover(PointChoice::Latest).await.expect("drill");
    assert_disk(&*drill.device(), &then, "the last whole prefix");
    item.cleanup_test_failover("").await.expect("cleanup");

    let report = item.repair_replication().await.expect("repair");
    assert!(report.copy_bytes < 2 * 65536 + 1000, "only what differs: {report:?}");
    let drill = item.test_failover(PointChoice::Point(old.id)).await.expect("drill");
    assert_disk(&*drill.device(), &then, "an old point after the resync");
    item.cleanup_test_failover("").await.expect("cleanup");
    scribble(&*item.device().expect("device"), &mut model, &entropy, 10);
    item.planned_failover().await.expect("failover");
    assert_disk(&*item.device().expect("device"), &model, "converged");
}

#[tokio::test]
async fn a_half_done_resync_never_shows() {
    let entropy = SeededEntropy::new(2);
    let mut model = random_disk(&entropy);
    let world = World::new(2, &model);
    let item = world.protect(small_log()).await;
    scribble(&*item.device().expect("device"), &mut model, &entropy, 10);
    item.replicate().await.expect("replicate");
    let then = model.clone();
    scribble(&*item.device().expect("device"), &mut model, &entropy, 200);
    item.device().expect("device").flush().expect("flush");
    item.replicate().await.expect_err("past the log");
    // The replica's disk fills up in the middle of the copy.
    let used: usize = world.sites.recovery.contents().values().map(Vec::len).sum();
    world.sites.recovery.set_capacity(Some(used as u64 + (600 << 10)));
    let error = item.repair_replication().await.expect_err("no room");
    assert!(matches!(error, Error::ReplicaRefused { is_full: true, .. }), "{error}");
    assert_eq!(item.status().await.item.state, ProtectionState::Resyncing);
    world.sites.recovery.set_capacity(None);

    // Disaster strikes here: the last whole prefix is there.
    item.unplanned_failover(PointChoice::Latest, SourceOperations::NotRequired)
        .await
        .expect("failover");
    assert_disk(&*item.device().expect("device"), &then, "as if the resync had not begun");
}

#[tokio::test]
async fn a_full_replica_refuses_and_takes_up_again() {
    let entropy = SeededEntropy::new(3);
    let mut model = random_disk(&entropy);
    let world = World::new(3, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    let point = item.recovery_points().await[0];
    let then = model.clone();
    world.sites.recovery.set_capacity(Some(0));
    scribble(&*item.device().expect("device"), &mut model, &entropy, 20);
    let error = item.replicate().await.expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded { retry_after: None }, "{error}");
    assert!(error.kind().is_retryable());
    assert_eq!(item.status().await.item.state, ProtectionState::Protected);
    world.sites.recovery.set_capacity(None);
    let drill = item.test_failover(PointChoice::Point(point.id)).await.expect("drill");
    assert_disk(&*drill.device(), &then, "the point taken before");
    item.cleanup_test_failover("").await.expect("cleanup");
    item.planned_failover().await.expect("failover");
    assert_disk(&*item.device().expect("device"), &model, "nothing lost");
}

#[tokio::test]
async fn a_full_primary_goes_on_writing_its_disk() {
    let entropy = SeededEntropy::new(4);
    let mut model = random_disk(&entropy);
    let world = World::new(4, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    world.sites.primary.set_capacity(Some(0));
    scribble(&*item.device().expect("device"), &mut model, &entropy, 20);
    item.device().expect("device").flush().expect("production goes on");
    assert_disk(&*item.device().expect("device"), &model, "production goes on");
    let error = item.replicate().await.expect_err("past the log");
    let wanted = DivergenceReason::OutgoingLogFailed;
    assert!(matches!(error, Error::ResyncRequired { reason, .. } if reason == wanted), "{error}");
    // That it diverged is durable: a restart does not forget it.
    world.sites.primary.crash(&*world.entropy);
    world.sites.primary.set_capacity(None);
    let item = world.vault().item("web1").await.expect("open");
    assert_disk(&*item.device().expect("device"), &model, "flushed writes");
    item.repair_replication().await.expect("repair");
    item.planned_failover().await.expect("failover");
    assert_disk(&*item.device().expect("device"), &model, "converged");
}

#[tokio::test]
async fn a_flipped_bit_in_the_replica_s_log_is_named() {
    let entropy = SeededEntropy::new(5);
    let mut model = random_disk(&entropy);
    let world = World::new(5, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    scribble(&*item.device().expect("device"), &mut model, &entropy, 20);
    item.replicate().await.expect("replicate");
    let mut logs = world.sites.recovery.contents().into_iter();
    let (path, bytes) = logs.rfind(|(path, _)| path.starts_with("replication/log")).expect("a log");
    world.sites.recovery.flip_bit(&path, bytes.len() / 2, 3);
    let error = item.test_failover(PointChoice::Latest).await.expect_err("damage");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    drop(item);
    // Production does not wait for its replica.
    let item = world.vault().item("web1").await.expect("open");
    assert_disk(&*item.device().expect("device"), &model, "production");
    let error = item.test_failover(PointChoice::Latest).await.expect_err("damage");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

fn without_drill(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let contents = disk.contents().into_iter();
    contents.filter(|(path, _)| !path.starts_with("replication/test")).collect()
}

#[tokio::test]
async fn a_drill_changes_nothing_but_its_own_files() {
    let entropy = SeededEntropy::new(6);
    let mut model = random_disk(&entropy);
    let world = World::new(6, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    scribble(&*item.device().expect("device"), &mut model, &entropy, 10);
    item.replicate().await.expect("replicate");
    let Sites { primary, recovery, .. } = &world.sites;
    let before = (without_drill(primary), without_drill(recovery));
    let drill = item.test_failover(PointChoice::Latest).await.expect("drill");
    let mut own = model.clone();
    scribble(&*drill.device(), &mut own, &entropy, 50);
    drill.device().flush().expect("flush");
    assert_disk(&*drill.device(), &own, "the drill's disk");
    assert!(before == (without_drill(primary), without_drill(recovery)), "during the drill");
    item.cleanup_test_failover("").await.expect("cleanup");
    assert!(before == (primary.contents(), recovery.contents()), "after the drill");
}

#[tokio::test]
async fn an_interrupted_initial_copy_goes_on_where_it_was() {
    let entropy = SeededEntropy::new(7);
    let model = random_disk(&entropy);
    let world = World::new(7, &model);
    let vault = world.vault();
    let policy = ReplicationPolicy::default();
    let item = vault
        .enable_protection_at("web1", primary_site(), recovery_site(), policy)
        .await
        .expect("enable");
    item.device().expect("device").write_at(9, b"written before the copy").expect("write");
    world.sites.fuse.blow_after(60);
    item.replicate().await.expect_err("the fuse");
    world.sites.fuse.heal();
    drop((item, vault));
    world.sites.primary.crash(&*world.entropy);
    world.sites.recovery.crash(&*world.entropy);
    let item = world.vault().item("web1").await.expect("open");
    assert_eq!(item.status().await.item.state, ProtectionState::InitialReplication);
    item.replicate().await.expect("replicate");
    let drill = item.test_failover(PointChoice::Latest).await.expect("drill");
    let bytes = crate::common::read_all(&*item.device().expect("device"));
    assert_disk(&*drill.device(), &bytes, "the whole disk");
}

/// A primary and a replica without a vault, in different epochs.
#[test]
fn frames_of_a_former_primary_are_refused_and_it_is_fenced_for_good() {
    let world = World::new(8, &random_disk(&SeededEntropy::new(8)));
    let id = Uuid::from_u128(8);
    let disks: [Arc<dyn Disk>; 2] =
        [Arc::new(world.sites.primary.clone()), Arc::new(world.sites.recovery.clone())];
    let sites = [primary_site(), recovery_site()];
    for (index, (role, epoch)) in
        [(Role::Active, 1), (Role::EmptyReplica, 2)].into_iter().enumerate()
    {
        disks[index].create_dir_all(&sites[index].folder).expect("folder");
        let path = sites[index].folder.join("mark");
        let mut mark = MarkFile::open(&*disks[index], &path).expect("mark");
        let (stamp, floor) = (Stamp::default(), Stamp::default());
        mark.set(Mark { item: id, role, epoch, stamp, floor }).expect("set");
    }
    let options = TrackerOptions {
        item: id,
        outgoing_log_bytes_max: 1 << 20,
        segment_bytes: 64 << 10,
        clock: Arc::<ManualClock>::clone(&world.clock),
        entropy: Arc::<SeededEntropy>::clone(&world.entropy),
        stores: None,
    };
    let open = || {
        let image = FileDevice::open(&*disks[0], Path::new("disk.img")).expect("image");
        TrackedDevice::open(Arc::new(image), &disks[0], &sites[0], options.clone())
    };
    let device = Arc::new(open().expect("device"));
    device.begin_copy(CopyKind::Initial, 1).expect("copy");
    let base = FileDevice::open_or_create(&*disks[1], Path::new("disk.img"), DISK_BYTES);
    let log = RecoveryLog::open(
        Arc::new(base.expect("image")),
        &disks[1],
        &sites[1],
        id,
        64 << 10,
        &*world.entropy,
    );
    let mut replica = Replica::new(id, log.expect("log"));

    let mut end = PrimaryEnd::new(id, Arc::clone(&device));
    for message in end.poll().expect("poll") {
        end.receive(&replica.handle(&message).expect("an answer")).expect("receive");
    }
    assert_eq!(end.outcome(0), Some(Outcome::Fenced { epoch: 2 }));
    assert!(matches!(device.write_at(0, b"x"), Err(Error::Fenced { epoch: 2 })));
    assert!(end.poll().expect("poll").is_empty());
    assert_eq!(replica.log().last(), Stamp::default());
    drop((device, end));
    assert!(matches!(open(), Err(Error::Fenced { epoch: 2 })), "also after a restart");
}

#[tokio::test]
async fn a_lost_primary_is_failed_over_from_by_a_new_process() {
    let entropy = SeededEntropy::new(9);
    let mut model = random_disk(&entropy);
    let world = World::new(9, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    scribble(&*item.device().expect("device"), &mut model, &entropy, 10);
    item.replicate().await.expect("replicate");
    drop(item);
    *world.sites.lost.lock().expect("lock") = Some("primary");
    let item = world.vault().item("web1").await.expect("open without the primary");
    let error = item.device().expect_err("production is lost");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    item.unplanned_failover(PointChoice::Latest, SourceOperations::Required)
        .await
        .expect("failover");
    assert_disk(&*item.device().expect("device"), &model, "all that was replicated");
    item.commit().await.expect("commit");
    let error = item.reprotect().await.expect_err("the primary is still away");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    scribble(&*item.device().expect("device"), &mut model, &entropy, 10);

    // It comes back, with what it had, and takes the changes.
    *world.sites.lost.lock().expect("lock") = None;
    let report = item.replicate().await.expect("reprotect goes on");
    assert!(report.copy_bytes < DISK_BYTES / 2, "{report:?}");
    item.failback().await.expect("failback");
    assert_disk(&*item.device().expect("device"), &model, "nothing lost");
}

#[tokio::test]
async fn production_does_not_wait_for_a_lost_recovery_site() {
    let entropy = SeededEntropy::new(10);
    let mut model = random_disk(&entropy);
    let world = World::new(10, &model);
    drop(world.protect(ReplicationPolicy::default()).await);
    *world.sites.lost.lock().expect("lock") = Some("recovery");
    let item = world.vault().item("web1").await.expect("open without the replica");
    scribble(&*item.device().expect("device"), &mut model, &entropy, 10);
    item.device().expect("device").flush().expect("flush");
    world.clock.advance(std::time::Duration::from_secs(3600));
    let error = item.replicate().await.expect_err("away");
    assert!(error.kind().is_retryable(), "{error}");
    let health = item.status().await.health;
    assert_eq!(health.level, ProtectionHealth::Warning);
    assert_eq!(health.rpo.map(|rpo| rpo.as_secs()), Some(3600));
    *world.sites.lost.lock().expect("lock") = None;
    item.replicate().await.expect("back");
    assert_eq!(item.status().await.health.level, ProtectionHealth::Normal);
    item.planned_failover().await.expect("failover");
    assert_disk(&*item.device().expect("device"), &model, "nothing lost");
}

/// What could not be removed while its site was away is removed when it is back, without a restart,
/// and the machine is not kept from a failover by it.
#[tokio::test]
async fn a_drill_that_could_not_be_cleaned_up_is_cleaned_up_later() {
    let entropy = SeededEntropy::new(11);
    let world = World::new(11, &random_disk(&entropy));
    let item = world.protect(ReplicationPolicy::default()).await;
    let drill = item.test_failover(PointChoice::Latest).await.expect("drill");
    drill.device().write_at(0, b"drill").expect("write");
    *world.sites.lost.lock().expect("lock") = Some("recovery");
    let error = item.cleanup_test_failover("").await.expect_err("away");
    assert!(error.kind().is_retryable(), "{error}");
    assert!(item.running_test_failover().await.is_none(), "it is over");
    let error = item.planned_failover().await.expect_err("its disk is still there");
    assert!(matches!(error, Error::IllegalState { .. }), "{error}");
    drop((drill, item));
    let item = world.vault().item("web1").await.expect("open without the replica");
    item.device().expect("device").write_at(0, b"production").expect("it does not wait");
    item.cleanup_test_failover("").await.expect_err("away");
    *world.sites.lost.lock().expect("lock") = None;
    item.cleanup_test_failover("").await.expect("cleanup");
    item.planned_failover().await.expect("failover");
}

/// A planned failover of a machine whose writes went past the log says so and changes its state, also
/// where nobody has tried to replicate since.
#[tokio::test]
async fn what_needs_the_log_says_that_a_resynchronization_is_required() {
    let entropy = SeededEntropy::new(12);
    for is_planned in [true, false] {
        let mut model = random_disk(&entropy);
        let world = World::new(12, &model);
        let item = world.protect(small_log()).await;
        scribble(&*item.device().expect("device"), &mut model, &entropy, 200);
        item.device().expect("device").flush().expect("flush");
        let error = match is_planned {
            true => item.planned_failover().await.map(drop),
            false => item.take_recovery_point(Consistency::CrashConsistent).await.map(drop),
        };
        let error = error.expect_err("past the log");
        assert!(matches!(error, Error::ResyncRequired { .. }), "{error}");
        assert_eq!(item.status().await.item.state, ProtectionState::ResyncRequired);
        scribble(&*item.device().expect("device"), &mut model, &entropy, 1);
        item.repair_replication().await.expect("repair");
        item.planned_failover().await.expect("failover");
        assert_disk(&*item.device().expect("device"), &model, "converged");
    }
}

/// Auditor: an operation whose event is in the journal, though the answer was lost, is done, and those
/// after it are not refused.
#[tokio::test]
async fn a_lost_answer_of_the_journal_stops_no_operation() {
    let world = World::new(1, &random_disk(&SeededEntropy::new(1)));
    let item = world.protect(ReplicationPolicy::default()).await;
    world.faults.set_after(500);
    for round in 0..10 {
        let begun = item.test_failover(PointChoice::Latest).await;
        begun.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let ended = item.cleanup_test_failover("").await;
        ended.unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    item.planned_failover().await.expect("moved");
    item.commit().await.expect("committed");
    item.reprotect().await.expect("the other way");
    item.failback().await.expect("back");
    assert!(world.faults.counts().after > 10, "{:?}", world.faults.counts());
}
