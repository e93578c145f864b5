//! The whole way there and back, compared byte by byte with a model.

use crate::common::{
    DISK_BYTES, World, assert_disk, primary_site, random_disk, read_all, recovery_site, scribble,
};
use oms_core::disk::{Disk as _, OpenMode};
use oms_core::entropy::SeededEntropy;
use oms_recovery::machine::disk::BlockDevice;
use oms_recovery::recovery_point::{Consistency, PointChoice, Quiescer};
use oms_recovery::{Error, ProtectionState, ReplicationPolicy, SourceOperations};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

#[tokio::test]
async fn there_and_back_again() {
    let entropy = SeededEntropy::new(1);
    let mut model = random_disk(&entropy);
    let world = World::new(1, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    assert_eq!(item.status().await.item.state, ProtectionState::Protected);

    // Points, each compared with what the disk was then.
    let mut points = vec![(item.recovery_points().await[0], model.clone())];
    for _ in 0..4 {
        scribble(&*item.device().expect("device"), &mut model, &entropy, 30);
        world.clock.advance(Duration::from_secs(300));
        let point = item.take_recovery_point(Consistency::CrashConsistent).await.expect("point");
        points.push((point, model.clone()));
        scribble(&*item.device().expect("device"), &mut model, &entropy, 5);
    }
    assert_eq!(item.recovery_points().await.len(), 5);
    for (point, then) in &points {
        let drill = item.test_failover(PointChoice::Point(point.id)).await.expect("drill");
        assert_disk(&*drill.device(), then, "drill");
        drill.device().write_at(0, b"the drill's own").expect("write");
        drill.device().flush().expect("flush");
        let error = item.planned_failover().await.expect_err("a drill is running");
        assert!(matches!(error, Error::IllegalState { .. }), "{error}");
        item.cleanup_test_failover("fine").await.expect("cleanup");
    }
    assert_disk(&*item.device().expect("device"), &model, "drills changed nothing");

    // There, without loss.
    let old = item.device().expect("device");
    item.planned_failover().await.expect("planned failover");
    assert!(matches!(old.write_at(0, b"late"), Err(Error::Fenced { epoch: 2 })));
    assert_disk(&*item.device().expect("device"), &model, "planned failover");
    scribble(&*item.device().expect("device"), &mut model, &entropy, 30);
    item.device().expect("device").flush().expect("flush");
    item.commit().await.expect("commit");
    assert_disk(&*item.device().expect("device"), &model, "commit");
    assert!(item.recovery_points().await.is_empty());
    scribble(&*item.device().expect("device"), &mut model, &entropy, 3);

    // And back.
    let report = item.reprotect().await.expect("reprotect");
    assert!(report.copy_bytes < DISK_BYTES, "only what differs is sent: {report:?}");
    assert_eq!(item.status().await.item.state, ProtectionState::ReverseProtected);
    scribble(&*item.device().expect("device"), &mut model, &entropy, 30);
    let drill = item.test_failover(PointChoice::Latest).await.expect("drill in reverse");
    assert_eq!(read_all(&*drill.device()).len(), model.len());
    item.cleanup_test_failover("fine").await.expect("cleanup");
    item.failback().await.expect("failback");
    assert_disk(&*item.device().expect("device"), &model, "failback");
    scribble(&*item.device().expect("device"), &mut model, &entropy, 10);
    item.commit().await.expect("complete");
    assert_disk(&*item.device().expect("device"), &model, "complete");
    assert_eq!(item.status().await.item.state, ProtectionState::FailedBack);

    // And protected once more.
    item.reprotect().await.expect("reprotect");
    assert_eq!(item.status().await.item.state, ProtectionState::Protected);
    scribble(&*item.device().expect("device"), &mut model, &entropy, 10);
    item.planned_failover().await.expect("again");
    assert_disk(&*item.device().expect("device"), &model, "again");
}

#[tokio::test]
async fn an_unplanned_failover_can_choose_and_choose_again() {
    let entropy = SeededEntropy::new(2);
    let mut model = random_disk(&entropy);
    let world = World::new(2, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    scribble(&*item.device().expect("device"), &mut model, &entropy, 20);
    let good = item.take_recovery_point(Consistency::CrashConsistent).await.expect("point");
    let then = model.clone();
    scribble(&*item.device().expect("device"), &mut model, &entropy, 20);
    item.replicate().await.expect("replicate");
    let replicated = model.clone();
    scribble(&*item.device().expect("device"), &mut model, &entropy, 20);

    item.unplanned_failover(PointChoice::Latest, SourceOperations::NotRequired)
        .await
        .expect("failover");
    assert_disk(&*item.device().expect("device"), &replicated, "latest");
    let before = item.device().expect("device");
    before.write_at(7, b"dropped with the change of point").expect("write");
    item.change_point(PointChoice::Point(good.id)).await.expect("change point");
    assert_disk(&*item.device().expect("device"), &then, "chosen point");
    assert!(matches!(before.write_at(7, b"x"), Err(Error::Fenced { .. })));
    item.commit().await.expect("commit");
    assert_disk(&*item.device().expect("device"), &then, "committed");
    let error = item.change_point(PointChoice::Latest).await.expect_err("irrevocable");
    assert!(matches!(error, Error::IllegalState { .. }), "{error}");
}

#[tokio::test]
async fn an_unplanned_failover_gets_the_last_writes_of_a_source_that_answers() {
    let entropy = SeededEntropy::new(3);
    let mut model = random_disk(&entropy);
    let world = World::new(3, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    scribble(&*item.device().expect("device"), &mut model, &entropy, 20);
    item.unplanned_failover(PointChoice::Latest, SourceOperations::Required)
        .await
        .expect("failover");
    assert_disk(&*item.device().expect("device"), &model, "everything");
}

#[tokio::test]
async fn a_missing_point_leaves_production_where_it_was() {
    let entropy = SeededEntropy::new(4);
    let mut model = random_disk(&entropy);
    let world = World::new(4, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    let choice = PointChoice::LatestApplicationConsistent;
    let error = item
        .unplanned_failover(choice, SourceOperations::Required)
        .await
        .expect_err("there is none");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!(item.status().await.item.state, ProtectionState::UnplannedFailoverFailed);
    scribble(&*item.device().expect("device"), &mut model, &entropy, 5);
    item.repair_replication().await.expect("repair");
    item.planned_failover().await.expect("planned");
    assert_disk(&*item.device().expect("device"), &model, "nothing lost");
}

#[derive(Debug, Default)]
struct Recorder {
    calls: Mutex<Vec<&'static str>>,
    fails: bool,
}

impl Quiescer for Recorder {
    fn freeze(&self) -> Result<(), Error> {
        self.calls.lock().expect("lock").push("freeze");
        match self.fails {
            true => Err(Error::Quiesce { reason: "no such device".to_owned() }),
            false => Ok(()),
        }
    }

    fn thaw(&self) -> Result<(), Error> {
        self.calls.lock().expect("lock").push("thaw");
        Ok(())
    }
}

#[tokio::test]
async fn application_consistent_points_freeze_and_thaw() {
    let world = World::new(5, &random_disk(&SeededEntropy::new(5)));
    let item = world.protect(ReplicationPolicy::default()).await;
    let wanted = Consistency::ApplicationConsistent;
    let error = item.take_recovery_point(wanted).await.expect_err("no quiescer");
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let recorder = Arc::new(Recorder::default());
    item.set_quiescer(Arc::<Recorder>::clone(&recorder)).await;
    let point = item.take_recovery_point(wanted).await.expect("point");
    assert_eq!(*recorder.calls.lock().expect("lock"), ["freeze", "thaw"]);
    assert_eq!(item.recovery_points().await.last(), Some(&point));

    let broken = Arc::new(Recorder { fails: true, ..Recorder::default() });
    item.set_quiescer(Arc::<Recorder>::clone(&broken)).await;
    let error = item.take_recovery_point(wanted).await.expect_err("freeze fails");
    assert!(matches!(error, Error::Quiesce { .. }), "{error}");
    assert_eq!(*broken.calls.lock().expect("lock"), ["freeze", "thaw"]);
    assert_eq!(item.recovery_points().await.last(), Some(&point));
}

#[tokio::test]
async fn old_points_are_merged_away_and_the_rest_stays_exact() {
    let entropy = SeededEntropy::new(6);
    let mut model = random_disk(&entropy);
    let world = World::new(6, &model);
    let policy = ReplicationPolicy { recovery_points_max: 3, ..ReplicationPolicy::default() };
    let item = world.protect(policy).await;
    let first = item.recovery_points().await[0];
    let first_disk = model.clone();
    // A point in use is never pruned.
    let drill = item.test_failover(PointChoice::Point(first.id)).await.expect("drill");
    let mut points = Vec::new();
    for _ in 0..8 {
        scribble(&*item.device().expect("device"), &mut model, &entropy, 20);
        let point = item.take_recovery_point(Consistency::CrashConsistent).await.expect("point");
        points.push((point, model.clone()));
    }
    assert_eq!(item.recovery_points().await.len(), 9);
    assert_disk(&*drill.device(), &first_disk, "pinned");
    item.cleanup_test_failover("").await.expect("cleanup");
    item.replicate().await.expect("replicate");
    let kept = item.recovery_points().await;
    assert_eq!(kept.len(), 3);
    for (point, then) in &points[5..] {
        let drill = item.test_failover(PointChoice::Point(point.id)).await.expect("drill");
        assert_disk(&*drill.device(), then, "after pruning");
        item.cleanup_test_failover("").await.expect("cleanup");
    }
    let error = item.test_failover(PointChoice::Point(first.id)).await.expect_err("pruned");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn disabled_protection_leaves_the_disk_and_can_be_enabled_again() {
    let entropy = SeededEntropy::new(7);
    let mut model = random_disk(&entropy);
    let world = World::new(7, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    scribble(&*item.device().expect("device"), &mut model, &entropy, 5);
    item.disable_protection().await.expect("disable");
    assert_disk(&*item.device().expect("device"), &model, "goes on");
    scribble(&*item.device().expect("device"), &mut model, &entropy, 5);
    item.device().expect("device").flush().expect("flush");
    let error = world.vault().item("web1").await.expect_err("gone");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let item = world.protect(ReplicationPolicy::default()).await;
    item.planned_failover().await.expect("failover");
    assert_disk(&*item.device().expect("device"), &model, "the new replica");
}

#[tokio::test]
async fn what_is_in_the_way_is_refused() {
    let world = World::new(8, &random_disk(&SeededEntropy::new(8)));
    let _item = world.protect(ReplicationPolicy::default()).await;
    let vault = world.vault();
    let enable = async |name: &str, policy| {
        vault.enable_protection_at(name, primary_site(), recovery_site(), policy).await
    };
    let error = enable("web1", ReplicationPolicy::default()).await.expect_err("same name");
    assert!(matches!(error, Error::AlreadyExists { what: "protected item", .. }), "{error}");
    let image = world.sites.primary.open("web2.img".as_ref(), OpenMode::CreateNew).expect("create");
    image.write_at(0, &[2; 4096]).expect("write");
    let mut web2 = primary_site();
    (web2.image, web2.folder) = ("web2.img".into(), "web2.img.replication".into());
    let policy = ReplicationPolicy::default();
    let error = vault.enable_protection_at("web2", web2, recovery_site(), policy).await;
    let error = error.expect_err("same replica");
    assert!(matches!(error, Error::AlreadyExists { what: "replica", .. }), "{error}");
    let policy = ReplicationPolicy { recovery_points_max: 0, ..ReplicationPolicy::default() };
    let error = enable("web2", policy).await.expect_err("bad policy");
    assert!(error.to_string().contains("recovery_points_max"), "{error}");
    for name in ["", &"x".repeat(201)] {
        let error = enable(name, ReplicationPolicy::default()).await.expect_err("bad name");
        assert!(matches!(error, Error::Invalid { what: "machine name", .. }), "{error}");
    }
    let other = oms_recovery::replication::Site {
        location: "recovery".to_owned(),
        image: "other.img".into(),
        folder: "other".into(),
    };
    let policy = ReplicationPolicy::default();
    let again = vault.enable_protection_at("web2", primary_site(), other.clone(), policy.clone());
    let error = again.await.expect_err("protected already").to_string();
    assert!(error.contains("protection of this disk") && error.contains("web1"), "{error}");
    // What web1 writes to is no disk of another machine.
    let replica = vault.enable_protection_at("web2", recovery_site(), other, policy);
    let error = replica.await.expect_err("a replica").to_string();
    assert!(error.contains("protection of this disk") && error.contains("web1"), "{error}");
}

#[tokio::test]
async fn a_disk_is_protected_once_whatever_it_is_called() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("disk.img"), vec![7; 1 << 20]).expect("a disk");
    let vault = oms_recovery::RecoveryVault::builder(at("vault")).build().expect("a vault");
    let protect = async |name: &str, disk: &str| {
        let policy = ReplicationPolicy::default();
        vault.enable_protection(name, &at(disk), &at(&format!("{name}.replica")), policy).await
    };
    let web1 = protect("web1", "disk.img").await.expect("protected");
    web1.replicate().await.expect("replicated");
    std::fs::create_dir(at("sub")).expect("a folder");
    std::fs::hard_link(at("disk.img"), at("hard.img")).expect("a link");
    #[cfg(unix)]
    std::os::unix::fs::symlink(at("disk.img"), at("soft.img")).expect("a link");
    for disk in ["disk.img", "sub/../disk.img", "hard.img", "soft.img", "web1.replica/disk.img"] {
        let error = protect("web2", disk).await.expect_err(disk).to_string();
        assert!(error.contains("protection of this disk") && error.contains("web1"), "{error}");
    }
    let error = protect("web2", "sub").await.expect_err("a folder").to_string();
    assert!(error.contains("is a folder"), "{error}");
    // Nothing of that is in the way of a disk of its own, nor of the first one.
    std::fs::write(at("other.img"), vec![8; 1 << 20]).expect("a disk");
    protect("web2", "other.img").await.expect("protected");
    web1.disable_protection().await.expect("ended");
    protect("web3", "hard.img").await.expect("nobody's any more");
}
