//! A protection can be ended whatever became of its sites, and what could not be removed is told.

use crate::common::{World, assert_disk, primary_site, random_disk, recovery_site};
use oms_core::Disk as _;
use oms_core::entropy::SeededEntropy;
use oms_recovery::machine::disk::BlockDevice as _;
use oms_recovery::recovery_point::PointChoice;
use oms_recovery::{Error, ProtectionState, RecoveryVault, ReplicationPolicy, SourceOperations};
use std::path::Path;

async fn enable(world: &World) -> std::sync::Arc<oms_recovery::ProtectedItem> {
    let policy = ReplicationPolicy::default();
    let vault = world.vault();
    let item = vault.enable_protection_at("web1", primary_site(), recovery_site(), policy).await;
    item.expect("enabled")
}

#[tokio::test]
async fn a_first_copy_that_cannot_finish_is_no_hindrance() {
    let model = random_disk(&SeededEntropy::new(1));
    // Its target is full, or gone.
    for is_full in [true, false] {
        let world = World::new(1, &model);
        let item = enable(&world).await;
        match is_full {
            true => world.sites.recovery.set_capacity(Some(1 << 20)),
            false => *world.sites.lost.lock().expect("lock") = Some("recovery"),
        }
        item.replicate().await.expect_err("it cannot be copied");
        let status = item.status().await;
        assert_eq!(status.item.state, ProtectionState::InitialReplication);
        assert!(status.allowed_operations.contains(&"DisableProtection"), "{status:?}");
        let report = item.disable_protection().await.expect("ended");
        assert_eq!(report.disk.as_deref(), Some("primary/disk.img"));
        assert_disk(&*item.device().expect("device"), &model, "goes on");
        item.device().expect("device").write_at(0, b"mine again").expect("write");
        let (left, gone) = (report.left.join("\n"), !is_full);
        assert_eq!(left.contains("recovery/replication"), gone, "{left}");
        assert_eq!(left.contains("recovery/disk.img"), gone, "{left}");
        *world.sites.lost.lock().expect("lock") = None;
        world.sites.recovery.set_capacity(None);
        let names = world.sites.recovery.list(Path::new("")).expect("a list");
        assert_eq!(names.contains(&"disk.img".to_owned()), gone, "{names:?}");
        let error = world.vault().item("web1").await.expect_err("gone");
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        if !gone {
            let item = world.protect(ReplicationPolicy::default()).await;
            item.planned_failover().await.expect("the disk is protected again");
        }
    }
}

#[tokio::test]
async fn a_lost_replica_is_told_and_can_be_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("web1.img"), vec![7; 1 << 20]).expect("a disk");
    let vault = || RecoveryVault::builder(at("vault")).build().expect("a vault");
    let policy = ReplicationPolicy::default();
    let protect = async || {
        let (image, replica) = (at("web1.img"), at("replica"));
        let item = vault().enable_protection("web1", &image, &replica, policy.clone()).await;
        item.expect("protected").replicate().await.expect("replicated");
    };
    protect().await;
    std::fs::remove_dir_all(at("replica")).expect("lost");
    let item = vault().item("web1").await.expect("open");
    let status = item.status().await;
    let problems = status.problems.join("\n");
    assert!(problems.contains("the replica") && problems.contains("disable"), "{problems}");
    assert_eq!(format!("{:?}", status.health.level), "Warning");
    item.replicate().await.expect_err("there is no replica");
    let report = item.disable_protection().await.expect("ended");
    assert_eq!(report.left, Vec::<String>::new(), "nothing is there to be left");
    drop(item);
    let names = |name: &str| {
        let entries = std::fs::read_dir(at(name)).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name()).collect::<Vec<_>>()
    };
    assert!(!at("web1.img.replication").exists(), "{:?}", names("."));
    assert_eq!(std::fs::read(at("web1.img")).expect("read"), vec![7; 1 << 20]);
    protect().await;
    // An end that reaches everything leaves nothing.
    let item = vault().item("web1").await.expect("open");
    item.test_failover(PointChoice::Latest).await.expect("a drill ends with it");
    assert_eq!(item.disable_protection().await.expect("ended").left, Vec::<String>::new());
    assert_eq!(names("replica"), Vec::<std::ffi::OsString>::new());
    assert!(!at("web1.img.replication").exists());
    assert!(at("web1.img").exists());
}

/// Until a failover is committed the disk lies on the recovery points, which go with the protection.
#[tokio::test]
async fn an_uncommitted_failover_is_committed_first_unless_its_disk_is_lost() {
    let model = random_disk(&SeededEntropy::new(2));
    let world = World::new(2, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    let none = SourceOperations::NotRequired;
    item.unplanned_failover(PointChoice::Latest, none).await.expect("failover");
    let error = item.disable_protection().await.expect_err("not committed");
    assert!(matches!(error, Error::IllegalState { .. }), "{error}");
    assert_disk(&*item.device().expect("device"), &model, "nothing was removed");
    drop(item);
    *world.sites.lost.lock().expect("lock") = Some("recovery");
    let item = world.vault().item("web1").await.expect("open");
    let report = item.disable_protection().await.expect("ended");
    let left = report.left.join("\n");
    assert!(left.contains("recovery/replication") && left.contains("recovery/disk.img"), "{left}");
    assert_eq!(report.disk, None);
    *world.sites.lost.lock().expect("lock") = None;
    let names = world.sites.recovery.list(Path::new("")).expect("a list");
    assert!(names.contains(&"disk.img".to_owned()), "{names:?}");
}

/// A refused protection leaves nothing behind, and takes no folder that is somebody's.
#[tokio::test]
async fn a_refused_protection_leaves_things_as_they_were() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("web1.img"), vec![7; 1 << 20]).expect("a disk");
    std::fs::create_dir(at("home")).expect("a folder");
    std::fs::write(at("home/letter"), "dear").expect("a file");
    let vault = RecoveryVault::builder(at("vault")).build().expect("a vault");
    let protect = async |name: &str, disk: &str, replica: &str| {
        let policy = ReplicationPolicy::default();
        vault.enable_protection(name, &at(disk), &at(replica), policy).await
    };
    let error = protect("web1", "web1.img", "home").await.expect_err("somebody's folder");
    let error = error.to_string();
    assert!(error.contains("holds other files") && error.contains("letter"), "{error}");
    assert_eq!(std::fs::read_dir(at("home")).expect("a folder").count(), 1);
    let error = protect("web1", "web1.img", "web1.img").await.expect_err("a file");
    assert!(matches!(error, Error::Disk(_)), "{error}");
    assert!(!at("web1.img.replication").exists());
    std::fs::create_dir(at("empty")).expect("a folder");
    let item = protect("web1", "web1.img", "empty").await.expect("an empty folder is fine");
    std::fs::write(at("web2.img"), vec![7; 1 << 20]).expect("a disk");
    for (name, disk) in [("web1", "web2.img"), ("web2", "web1.img"), ("", "web2.img")] {
        protect(name, disk, "new/replica").await.expect_err(name);
        assert!(!at("new/replica").exists(), "{name}: an empty folder is left");
    }
    assert!(!at("web2.img.replication").exists());
    drop(item);
    // Another vault's.
    let other = RecoveryVault::builder(at("other")).build().expect("a vault");
    let policy = ReplicationPolicy::default();
    let error = other.enable_protection("web1", &at("web1.img"), &at("replica3"), policy).await;
    let error = error.expect_err("protected by another vault").to_string();
    assert!(error.contains("another vault"), "{error}");
    assert!(!at("replica3").exists(), "a folder is left");
    assert!(at("web1.img.replication/mark").exists(), "the first protection is unharmed");
    vault.item("web1").await.expect("open").replicate().await.expect("goes on");
}
