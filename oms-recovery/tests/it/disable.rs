//! A protection can be ended whatever became of its sites, and what could not be removed is told.

use crate::common::{
    DISK_BYTES, World, assert_disk, primary_site, random_disk, recovery_site, scribble,
};
use oms_core::disk::{Disk as _, OpenMode};
use oms_core::entropy::SeededEntropy;
use oms_recovery::machine::disk::BlockDevice as _;
use oms_recovery::recovery_point::PointChoice;
use oms_recovery::replication::SiteStores as _;
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
    let kept = report.kept.join("\n");
    assert!(kept.contains("recovery/replication") && kept.contains("recovery/disk.img"), "{kept}");
    assert_eq!((report.disk, report.left), (None, Vec::new()));
    *world.sites.lost.lock().expect("lock") = None;
    let names = world.sites.recovery.list(Path::new("")).expect("a list");
    assert!(names.contains(&"disk.img".to_owned()), "{names:?}");
}

/// Makes an image longer, so that its site does not open.
fn grow_image(disk: &oms_core::testkit::disk::SimDisk) {
    let image = disk.open(Path::new("disk.img"), OpenMode::Write).expect("an image");
    image.set_len(DISK_BYTES + 512).expect("a length");
}

/// The disk that production was moved to may still be called a replica.
#[tokio::test]
async fn a_failover_that_could_not_be_completed_keeps_the_files_of_both_sites() {
    let entropy = SeededEntropy::new(6);
    let mut model = random_disk(&entropy);
    for is_failback in [false, true] {
        let world = World::new(6, &model);
        let item = world.protect(ReplicationPolicy::default()).await;
        let moved_to = match is_failback {
            true => {
                item.planned_failover().await.expect("failover");
                item.commit().await.expect("commit");
                item.reprotect().await.expect("reprotect");
                &world.sites.primary
            }
            false => &world.sites.recovery,
        };
        scribble(&*item.device().expect("device"), &mut model, &entropy, 5);
        item.replicate().await.expect("replicate");
        grow_image(moved_to);
        let moved = match is_failback {
            true => item.failback().await.map(drop),
            false => item.planned_failover().await.map(drop),
        };
        moved.expect_err("the site does not open");
        assert!(item.status().await.item.state.is_uncommitted());
        let files = || (world.sites.primary.contents(), world.sites.recovery.contents());
        let before = files();
        let report = item.disable_protection().await.expect("ended");
        assert!(before == files(), "a file was removed: {report:?}");
        assert_eq!((report.disk, report.left), (None, Vec::new()));
        let [primary, recovery] = &report.kept[..] else { panic!("{:?}", report.kept) };
        let (disk, former) = if is_failback { (primary, recovery) } else { (recovery, primary) };
        assert!(disk.contains("which are one disk: ") && disk.contains("its length"), "{disk}");
        assert!(former.contains("were production's before the failover: "), "{former}");
    }
}

/// Its log may hold what its image lacks, and the disk that production was moved to is lost.
#[tokio::test]
async fn the_log_of_a_former_primary_stays_while_the_failover_is_not_committed() {
    let entropy = SeededEntropy::new(7);
    let mut model = random_disk(&entropy);
    let world = World::new(7, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    scribble(&*item.device().expect("device"), &mut model, &entropy, 5);
    item.device().expect("device").flush().expect("flush");
    let none = SourceOperations::NotRequired;
    item.unplanned_failover(PointChoice::Latest, none).await.expect("failover");
    drop(item);
    let before = world.sites.primary.contents();
    let outgoing = primary_site().folder.join("outgoing");
    assert!(before.keys().any(|path| path.starts_with(&outgoing)), "{:?}", before.keys());
    *world.sites.lost.lock().expect("lock") = Some("recovery");
    let item = world.vault().item("web1").await.expect("open");
    let report = item.disable_protection().await.expect("ended");
    assert!(before == world.sites.primary.contents(), "a file was removed: {report:?}");
    let told = "primary/disk.img.replication and the image primary/disk.img, which were \
                production's before the failover: ";
    assert!(report.kept[0].starts_with(told), "{:?}", report.kept);
    assert_eq!((report.disk, report.left), (None, Vec::new()));

    // Nor does a new protection of the disk clear it.
    *world.sites.lost.lock().expect("lock") = None;
    let mut elsewhere = recovery_site();
    elsewhere.folder = "other.replication".into();
    elsewhere.image = "other.img".into();
    let protect = async || {
        let policy = ReplicationPolicy::default();
        let (primary, elsewhere) = (primary_site(), elsewhere.clone());
        world.vault().enable_protection_at("web1", primary, elsewhere, policy).await
    };
    let error = protect().await.expect_err("writes are kept").to_string();
    let path = "primary/disk.img.replication/outgoing, which primary/disk.img may lack";
    assert!(error.contains(path), "{error}");
    assert!(before == world.sites.primary.contents(), "a file was removed");
    let store = world.sites.open("primary").expect("the site");
    for name in before.keys().filter(|path| path.starts_with(&outgoing)) {
        store.remove(name).expect("removed by hand");
    }
    protect().await.expect("nothing is in the way");
}

/// The image of a commit that was interrupted is not the disk.
#[tokio::test]
async fn a_commit_that_could_not_be_completed_leaves_one_disk() {
    let model = random_disk(&SeededEntropy::new(8));
    let world = World::new(8, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    let none = SourceOperations::NotRequired;
    item.unplanned_failover(PointChoice::Latest, none).await.expect("failover");
    item.device().expect("device").write_at(3, b"own").expect("write");
    world.sites.fuse.blow_after(0);
    item.commit().await.expect_err("the fuse");
    world.sites.fuse.heal();
    grow_image(&world.sites.recovery);
    assert_eq!(item.status().await.item.state, ProtectionState::UnplannedFailoverCommitted);
    let before = world.sites.recovery.contents();
    let report = item.disable_protection().await.expect("ended");
    assert!(before == world.sites.recovery.contents(), "a file was removed: {report:?}");
    assert_eq!((report.disk, report.left), (None, Vec::new()));
    let [kept] = &report.kept[..] else { panic!("{:?}", report.kept) };
    let told = "recovery/replication and the image recovery/disk.img, which are one disk: ";
    assert!(kept.starts_with(told), "{kept}");
}

/// Only an image that is not there is none.
#[tokio::test]
async fn an_image_that_cannot_be_looked_at_is_told_all_the_same() {
    let model = random_disk(&SeededEntropy::new(9));
    for operations in 0.. {
        let world = World::new(9, &model);
        let item = world.protect(ReplicationPolicy::default()).await;
        for (disk, site) in
            [(&world.sites.primary, primary_site()), (&world.sites.recovery, recovery_site())]
        {
            disk.remove(&site.folder.join("mark")).expect("removed");
        }
        world.sites.fuse.blow_after(operations);
        let report = item.disable_protection().await.expect("ended");
        assert_eq!(report.disk.as_deref(), Some("primary/disk.img"), "after {operations}");
        let left = report.left.join("\n");
        assert!(left.contains("recovery/disk.img"), "after {operations}: {left}");
        if !world.sites.fuse.is_blown() {
            assert!(operations > 4, "nothing failed");
            break;
        }
    }
}

/// Whether the journal takes the end of a protection without telling, before power fails at production's
/// site; its image must have what was flushed until then.
async fn ends_before_power_fails(seed: u64, is_flushed_before: bool) -> bool {
    let entropy = SeededEntropy::new(seed);
    let mut model = random_disk(&entropy);
    let world = World::new(seed, &model);
    let item = world.protect(ReplicationPolicy::default()).await;
    let device = item.device().expect("device");
    if is_flushed_before {
        scribble(&*device, &mut model, &entropy, 20);
        device.flush().expect("flush");
    }
    world.faults.set_before(500);
    world.faults.set_after(1_000);
    let asked = item.disable_protection().await;
    world.faults.calm();
    if asked.is_ok() || world.vault().item("web1").await.is_ok() {
        return false;
    }
    if !is_flushed_before {
        scribble(&*device, &mut model, &entropy, 20);
        device.flush().expect("production goes on");
    }
    world.sites.primary.crash(&entropy);
    let image = world.sites.primary.contents().remove(Path::new("disk.img"));
    assert!(image.expect("an image") == model, "seed {seed}: a flushed write is lost");
    true
}

/// Nobody replays the log of an item that the vault has forgotten.
#[tokio::test]
async fn what_was_flushed_is_in_the_image_before_the_end_is_journalled() {
    for is_flushed_before in [true, false] {
        let mut seed = 0;
        while !ends_before_power_fails(seed, is_flushed_before).await {
            seed += 1;
            assert!(seed < 40, "the journal always tells");
        }
    }
}

/// It has what its image missed in its log.
#[tokio::test]
async fn a_disk_whose_image_missed_a_write_gets_it_at_the_end() {
    let model = random_disk(&SeededEntropy::new(11));
    let mut broken = 0;
    for operations in 0.. {
        let world = World::new(11, &model);
        let item = world.protect(ReplicationPolicy::default()).await;
        let device = item.device().expect("device");
        device.write_at(0, b"own").expect("write");
        world.sites.fuse.blow_after(operations);
        let flushed = device.flush();
        world.sites.fuse.heal();
        if flushed.is_ok() {
            break;
        }
        if !matches!(device.read_at(0, &mut [0]), Err(Error::Broken { .. })) {
            continue;
        }
        broken += 1;
        let report = item.disable_protection().await.expect("ended");
        assert_eq!((report.left, report.kept), (Vec::new(), Vec::new()));
        assert_eq!(report.disk.as_deref(), Some("primary/disk.img"));
        let files = world.sites.primary.contents();
        assert_eq!(files.keys().collect::<Vec<_>>(), [Path::new("disk.img")]);
        assert_eq!(&files[Path::new("disk.img")][..3], b"own");
        device.write_at(0, b"old").expect_err("a handle from before");
        item.device().expect("device").write_at(0, b"new").expect("goes on");
    }
    assert!(broken > 0, "no write failed that the log had");
}

/// What was away when the item was opened, and is back.
#[tokio::test]
async fn a_site_that_is_back_is_looked_for_again() {
    let model = random_disk(&SeededEntropy::new(3));
    let world = World::new(3, &model);
    drop(world.protect(ReplicationPolicy::default()).await);
    *world.sites.lost.lock().expect("lock") = Some("primary");
    let item = world.vault().item("web1").await.expect("open");
    *world.sites.lost.lock().expect("lock") = None;
    let report = item.disable_protection().await.expect("ended");
    assert_eq!(report.disk.as_deref(), Some("primary/disk.img"));
    assert_eq!((report.left, report.kept), (Vec::new(), Vec::new()));
    let files = world.sites.primary.contents().into_keys();
    assert_eq!(files.collect::<Vec<_>>(), [Path::new("disk.img")]);
    assert_disk(&*item.device().expect("device"), &model, "goes on");
}

/// Nobody is told to remove what may be the only copy of a write, nor production's disk.
#[tokio::test]
async fn what_may_hold_writes_of_a_disk_that_is_away_is_to_be_kept() {
    let model = random_disk(&SeededEntropy::new(4));
    for (lost, folder) in [("primary", "disk.img.replication"), ("recovery", "replication")] {
        let world = World::new(4, &model);
        let item = world.protect(ReplicationPolicy::default()).await;
        if lost == "recovery" {
            item.planned_failover().await.expect("failover");
            item.commit().await.expect("commit");
            item.reprotect().await.expect("reprotect");
        }
        item.device().expect("device").write_at(3, b"own").expect("write");
        item.device().expect("device").flush().expect("flush");
        drop(item);
        *world.sites.lost.lock().expect("lock") = Some(lost);
        let item = world.vault().item("web1").await.expect("open");
        let report = item.disable_protection().await.expect("ended");
        let (image, folder) = (format!("{lost}/disk.img"), format!("{lost}/{folder}"));
        assert_eq!((report.disk, report.left), (Some(image.clone()), Vec::new()));
        let [kept] = &report.kept[..] else { panic!("{:?}", report.kept) };
        let told = format!("{folder}, which may hold writes that {image} lacks: ");
        assert!(kept.starts_with(&told) && kept.contains("reach failed"), "{kept}");
    }
}

/// A disk on this computer, whose power failed between the log and the image: the image has not got what
/// was flushed.
struct Missed {
    dir: tempfile::TempDir,
}

impl Missed {
    const BYTES: u64 = 1 << 20;

    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let missed = Self { dir };
        std::fs::write(missed.at("web1.img"), vec![7; 1 << 20]).expect("a disk");
        let (image, replica) = (missed.at("web1.img"), missed.at("replica"));
        let policy = ReplicationPolicy::default();
        let item = missed.vault().enable_protection("web1", &image, &replica, policy).await;
        let item = item.expect("protected");
        item.replicate().await.expect("replicated");
        item.device().expect("device").write_at(5, b"own").expect("write");
        item.device().expect("device").flush().expect("flush");
        drop(item);
        std::fs::write(missed.at("web1.img"), vec![7; 1 << 20]).expect("it is lost");
        missed
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn vault(&self) -> RecoveryVault {
        RecoveryVault::builder(self.at("vault")).build().expect("a vault")
    }

    fn set_len(&self, bytes: u64) {
        let file = std::fs::File::options().write(true).open(self.at("web1.img"));
        file.and_then(|file| file.set_len(bytes)).expect("a length");
    }

    async fn disable(&self) -> oms_recovery::machine::disable::DisableReport {
        let item = self.vault().item("web1").await.expect("open");
        item.disable_protection().await.expect("ended")
    }
}

#[tokio::test]
async fn an_image_that_has_grown_gets_what_was_flushed() {
    for grown in [0, 4096] {
        let missed = Missed::new().await;
        missed.set_len(Missed::BYTES + grown);
        let report = missed.disable().await;
        assert_eq!(report.disk, Some(missed.at("web1.img").display().to_string()));
        assert_eq!((report.left, report.kept), (Vec::new(), Vec::new()));
        let image = std::fs::read(missed.at("web1.img")).expect("read");
        assert_eq!((&image[5..8], image.len() as u64), (&b"own"[..], Missed::BYTES + grown));
        assert!(!missed.at("web1.img.replication").exists());
    }
}

#[tokio::test]
async fn what_cannot_be_brought_to_an_image_stays_with_the_reason() {
    let missed = Missed::new().await;
    missed.set_len(4096);
    let report = missed.disable().await;
    assert_eq!(report.disk, Some(missed.at("web1.img").display().to_string()));
    assert_eq!(report.left, Vec::<String>::new());
    let kept = report.kept.join("\n");
    for told in ["web1.img.replication, which may hold writes", "4096", "has changed its length"] {
        assert!(kept.contains(told), "{kept}");
    }
    let log = std::fs::read_dir(missed.at("web1.img.replication/outgoing")).expect("a folder");
    assert_eq!(log.count(), 1);
    assert!(!missed.at("replica/disk.img").exists(), "nobody needs it");
}

/// Somebody's file beside replication's is nobody else's.
#[tokio::test]
async fn the_end_removes_what_replication_made() {
    let missed = Missed::new().await;
    for folder in ["web1.img.replication", "replica/replication"] {
        std::fs::write(missed.at(folder).join("notes.txt"), "mine").expect("write");
    }
    let report = missed.disable().await;
    assert_eq!((report.left, report.kept), (Vec::new(), Vec::new()));
    for folder in ["web1.img.replication", "replica/replication"] {
        let names = std::fs::read_dir(missed.at(folder)).expect("a folder");
        let names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(names, ["notes.txt"], "{folder}");
    }
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
    // Nor does one of another vault's disk, which takes nobody's file away.
    std::fs::create_dir_all(at("notes/replication")).expect("a folder");
    std::fs::write(at("notes/replication/notes.txt"), "mine").expect("a file");
    let other = RecoveryVault::builder(at("other")).build().expect("a vault");
    let policy = ReplicationPolicy::default();
    let error = other.enable_protection("web1", &at("web1.img"), &at("replica3"), policy).await;
    let error = error.expect_err("protected by another vault").to_string();
    assert!(error.contains("another vault"), "{error}");
    assert!(!at("replica3").exists(), "a folder is left");
    let policy = ReplicationPolicy::default();
    let error = other.enable_protection("web1", &at("web1.img"), &at("notes"), policy).await;
    let error = error.expect_err("protected by another vault").to_string();
    assert!(error.contains("another vault"), "{error}");
    assert!(at("notes/replication/notes.txt").exists());
    assert!(at("web1.img.replication/mark").exists(), "the first protection is unharmed");
    vault.item("web1").await.expect("open").replicate().await.expect("goes on");
}

/// What is in the folders that replication wants for itself would go with it.
#[tokio::test]
async fn a_folder_that_holds_somebodys_files_is_refused_and_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let vault = RecoveryVault::builder(at("vault")).build().expect("a vault");
    let protect = async || {
        let policy = ReplicationPolicy::default();
        vault.enable_protection("web1", &at("web1.img"), &at("replica"), policy).await
    };
    std::fs::write(at("web1.img"), vec![7; 1 << 20]).expect("a disk");
    for place in ["web1.img.replication", "replica/replication"] {
        for name in ["notes.txt", "mark", "image", "log/00.log", "log", "sub/notes.txt"] {
            let file = at(place).join(name);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(&file, "mine").expect("a file");
            let error = protect().await.map(drop).expect_err(name).to_string();
            let first = name.split('/').next().expect("a name");
            assert!(error.contains(&at(place).join(first).display().to_string()), "{error}");
            assert_eq!(std::fs::read_to_string(&file).expect("read"), "mine", "{error}");
            std::fs::remove_dir_all(at(place)).expect("removed");
        }
    }
    assert!(!at("web1.img.replication").exists(), "nothing is made");
    // Empty ones are in nobody's way, nor is a mark that says nothing.
    std::fs::create_dir_all(at("replica/replication/log")).expect("a folder");
    std::fs::write(at("replica/replication/mark"), [0; 1024]).expect("a file");
    protect().await.expect("protected").replicate().await.expect("replicated");
}

/// What was made before it failed goes again.
#[tokio::test]
async fn a_protection_that_cannot_begin_leaves_nothing() {
    let world = World::new(5, &random_disk(&SeededEntropy::new(5)));
    world.sites.recovery.set_capacity(Some(1 << 20));
    let policy = ReplicationPolicy::default();
    let (primary, recovery) = (primary_site(), recovery_site());
    let error = world.vault().enable_protection_at("web1", primary, recovery, policy).await;
    assert!(matches!(error.expect_err("no room"), Error::Disk(_)));
    let files = |disk: &oms_core::testkit::disk::SimDisk| -> Vec<_> {
        disk.contents().into_keys().collect()
    };
    assert_eq!(files(&world.sites.primary), [Path::new("disk.img")]);
    assert_eq!(files(&world.sites.recovery), Vec::<std::path::PathBuf>::new());
    world.sites.recovery.set_capacity(None);
    world.protect(ReplicationPolicy::default()).await;
}
