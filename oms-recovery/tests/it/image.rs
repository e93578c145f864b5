//! What something else than the device does to a disk image: it is replicated or refused by name, and
//! never lost unsaid.

use crate::common::primary_site;
use oms_core::clock::ManualClock;
use oms_core::disk::{Disk, OpenMode};
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::seeds::Seeds;
use oms_core::{Entropy as _, EntropyExt as _};
use oms_recovery::machine::disk::{BlockDevice, FileDevice};
use oms_recovery::replication::mark::{Mark, MarkFile, Role};
use oms_recovery::replication::tracker::{TrackedDevice, TrackerOptions};
use oms_recovery::replication::transfer::CopyKind;
use oms_recovery::replication::{DivergenceReason, ImageState, Site, SiteStores, Stamp};
use oms_recovery::{Error, ProtectedItem, ProtectionState, RecoveryVault, ReplicationPolicy};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

const BYTES: usize = 1 << 20;

/// A protected disk in files of this computer.
struct Place {
    dir: tempfile::TempDir,
    writes: u64,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("web1.img"), vec![1; BYTES]).expect("a disk");
        Self { dir, writes: 0 }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A process that opens the vault.
    fn vault(&self) -> RecoveryVault {
        RecoveryVault::builder(self.at("vault")).build().expect("a vault")
    }

    async fn protect(&self) -> Arc<ProtectedItem> {
        let policy = ReplicationPolicy::default();
        let (image, replica) = (self.at("web1.img"), self.at("replica"));
        let item = self.vault().enable_protection("web1", &image, &replica, policy).await;
        let item = item.expect("protected");
        item.replicate().await.expect("replicated");
        item
    }

    async fn item(&self) -> Arc<ProtectedItem> {
        self.vault().item("web1").await.expect("open")
    }

    /// Something else writes to an image; its time is another one whatever the clock's tick is.
    fn write(&mut self, image: &str, offset: usize, byte: u8) {
        self.writes += 1;
        let mut bytes = std::fs::read(self.at(image)).expect("read");
        bytes[offset] = byte;
        std::fs::write(self.at(image), bytes).expect("write");
        let file = std::fs::File::options().write(true).open(self.at(image)).expect("open");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + self.writes);
        file.set_modified(time).expect("a time");
    }

    fn set_len(&self, image: &str, bytes: usize) {
        let file = std::fs::File::options().write(true).open(self.at(image)).expect("open");
        file.set_len(bytes as u64).expect("length");
    }
}

fn byte(device: &dyn BlockDevice, offset: usize) -> u8 {
    let mut bytes = [0];
    device.read_at(offset as u64, &mut bytes).expect("read");
    bytes[0]
}

async fn assert_resync(item: &ProtectedItem, wanted: ProtectionState) {
    let error = item.replicate().await.expect_err("something else wrote");
    let reason = DivergenceReason::ImageChanged;
    assert!(
        matches!(&error, Error::ResyncRequired { reason: found, .. } if *found == reason),
        "{error}"
    );
    let status = item.status().await;
    assert_eq!(status.item.state, wanted);
    let failure = status.item.failure.expect("told");
    assert!(failure.contains("something else"), "{failure}");
}

#[tokio::test]
async fn what_something_else_writes_is_noticed_and_repaired() {
    let mut place = Place::new();
    drop(place.protect().await);
    place.item().await.replicate().await.expect("nothing happened");
    place.write("web1.img", 70_000, 42);
    // By the next process, and by one that is there already.
    let item = place.item().await;
    assert_resync(&item, ProtectionState::ResyncRequired).await;
    item.repair_replication().await.expect("repaired");
    item.device().expect("device").write_at(5, b"own").expect("write");
    item.device().expect("device").flush().expect("flush");
    item.replicate().await.expect("its own writes are no others");
    place.write("web1.img", 200_000, 43);
    assert_resync(&item, ProtectionState::ResyncRequired).await;
    item.repair_replication().await.expect("repaired");
    item.planned_failover().await.expect("failover");
    let device = item.device().expect("device");
    assert_eq!((byte(&*device, 70_000), byte(&*device, 200_000)), (42, 43));
    assert_eq!(byte(&*device, 5), b'o');
}

/// The journey of an operator with commands alone: each is a process of its own, and the disk is used as
/// a file in between.
#[tokio::test]
async fn a_failback_loses_nothing_of_what_was_written_to_the_image() {
    let mut place = Place::new();
    drop(place.protect().await);
    place.item().await.planned_failover().await.expect("failover");
    place.item().await.commit().await.expect("commit");
    place.write("replica/disk.img", 9, 9);
    place.item().await.reprotect().await.expect("reprotect");
    place.write("replica/disk.img", 80_000, 8);
    let item = place.item().await;
    let error = item.failback().await.expect_err("something else wrote");
    assert!(matches!(error, Error::ResyncRequired { .. }), "{error}");
    assert_eq!(item.status().await.item.state, ProtectionState::ReverseResyncRequired);
    drop(item);
    place.item().await.repair_replication().await.expect("repaired");
    let item = place.item().await;
    item.failback().await.expect("failback");
    item.commit().await.expect("commit");
    let image = std::fs::read(place.at("web1.img")).expect("read");
    assert_eq!((image[9], image[80_000]), (9, 8));
}

#[tokio::test]
async fn what_is_written_during_the_first_copy_is_noticed() {
    let mut place = Place::new();
    let policy = ReplicationPolicy::default();
    let (image, replica) = (place.at("web1.img"), place.at("replica"));
    let item = place.vault().enable_protection("web1", &image, &replica, policy).await;
    drop(item.expect("protected, and not copied yet"));
    place.write("web1.img", 3, 3);
    let item = place.item().await;
    item.replicate().await.expect("the copy begins anew");
    assert_eq!(item.status().await.item.state, ProtectionState::Protected);
    item.planned_failover().await.expect("failover");
    assert_eq!(byte(&*item.device().expect("device"), 3), 3);
}

/// A disk has one length: past it nothing is replicated, and short of it something is missing.
#[tokio::test]
async fn another_length_is_refused_by_name_until_it_is_brought_back() {
    let place = Place::new();
    let mut running = Some(place.protect().await);
    for bytes in [BYTES + 4096, BYTES / 2] {
        // By a process that has it open, and by the next one.
        for has_it_open in [true, false] {
            let item = match running.take() {
                Some(item) if has_it_open => item,
                _ => place.item().await,
            };
            place.set_len("web1.img", bytes);
            let status = item.status().await;
            assert_eq!(format!("{:?}", status.health.level), "Critical");
            let problem = status.problems.join("\n");
            for told in ["web1.img", &bytes.to_string(), &BYTES.to_string(), "disable"] {
                assert!(problem.contains(told), "{problem}");
            }
            for error in [
                item.replicate().await.expect_err("replicate"),
                item.planned_failover().await.map(drop).expect_err("failover"),
            ] {
                assert!(matches!(error, Error::Invalid { what: "disk image", .. }), "{error}");
            }
        }
    }
    place.set_len("web1.img", BYTES);
    let item = place.item().await;
    assert_resync(&item, ProtectionState::ResyncRequired).await;
    item.repair_replication().await.expect("repaired");
    assert!(item.status().await.problems.is_empty());
    item.planned_failover().await.expect("failover");
    // What was cut off is zeros in the image, and so at the replica.
    let device = item.device().expect("device");
    assert_eq!((byte(&*device, BYTES - 1), byte(&*device, 0)), (0, 1));
}

#[tokio::test]
async fn another_file_in_the_images_place_is_refused_by_who_has_the_first_one() {
    let place = Place::new();
    let item = place.protect().await;
    std::fs::write(place.at("new.img"), vec![2; BYTES]).expect("write");
    std::fs::rename(place.at("new.img"), place.at("web1.img")).expect("rename");
    let error = item.replicate().await.expect_err("another file");
    assert!(error.to_string().contains("another file has taken its place"), "{error}");
    drop(item);
    let item = place.item().await;
    assert_resync(&item, ProtectionState::ResyncRequired).await;
    item.repair_replication().await.expect("repaired");
    item.planned_failover().await.expect("failover");
    assert_eq!(byte(&*item.device().expect("device"), 0), 2);
}

/// Stores that tell an image's state by all of its bytes.
#[derive(Clone, Debug)]
struct ByContent(SimDisk);

impl SiteStores for ByContent {
    fn open(&self, _location: &str) -> Result<Arc<dyn Disk>, Error> {
        Ok(Arc::new(self.0.clone()))
    }

    fn image_state(&self, site: &Site) -> Result<Option<ImageState>, Error> {
        let file = self.0.open(&site.image, OpenMode::Read)?;
        let bytes = file.len()?;
        let mut content = vec![0; bytes as usize];
        file.read_at(0, &mut content)?;
        let version = i128::from(digest(&content)) | i128::from(digest(&content[1..])) << 32;
        Ok(Some(ImageState { bytes, file: 1, version }))
    }
}

fn digest(bytes: &[u8]) -> u32 {
    use std::hash::{DefaultHasher, Hasher as _};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish() as u32
}

const SIM_BYTES: u64 = 64 << 10;
const ITEM: Uuid = Uuid::from_u128(3);

fn open(disk: &SimDisk) -> Result<TrackedDevice, Error> {
    let store: Arc<dyn Disk> = Arc::new(disk.clone());
    let image = FileDevice::open(&*store, Path::new("disk.img"))?;
    let options = TrackerOptions {
        item: ITEM,
        outgoing_log_bytes_max: 1 << 20,
        segment_bytes: 8 << 10,
        clock: Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)),
        entropy: Arc::new(SeededEntropy::new(5)),
        stores: Some(Arc::new(ByContent(disk.clone()))),
    };
    TrackedDevice::open(Arc::new(image), &store, &primary_site(), options)
}

/// Production writes, the power fails at any operation, something else writes or does not: what it wrote
/// is told if the image was whole at the replica before, and what production wrote never is.
#[test]
fn a_power_failure_is_nobodys_write_and_a_write_is_no_power_failure() {
    let (mut noticed, mut failed, mut worlds) = (0_usize, 0_usize, 0_usize);
    let seeds = Seeds::of("image::a_power_failure_is_nobodys_write", 0..200);
    seeds.run(|seed| {
        worlds += 1;
        let entropy = SeededEntropy::new(seed);
        let disk = SimDisk::default();
        let site = primary_site();
        let file = disk.open(&site.image, OpenMode::CreateNew).expect("create");
        file.set_len(SIM_BYTES).and_then(|()| file.sync()).expect("a disk");
        disk.create_dir_all(&site.folder).expect("folder");
        let mut mark = MarkFile::open(&disk, &site.folder.join("mark")).expect("mark");
        let (stamp, floor) = (Stamp::default(), Stamp::default());
        mark.set(Mark { item: ITEM, role: Role::Active, epoch: 1, stamp, floor }).expect("set");
        disk.sync_dir(Path::new("")).expect("sync");
        let device = open(&disk).expect("device");
        device.begin_copy(CopyKind::Initial, 1).expect("copy");
        disk.fail_after(entropy.below(60), io::ErrorKind::Other);
        let mut is_noted = true;
        for _ in 0..entropy.below(6) {
            let mut bytes = vec![0; 1 + entropy.below(3_000) as usize];
            entropy.fill(&mut bytes);
            let offset = entropy.below(SIM_BYTES - bytes.len() as u64);
            let written = device.write_at(offset, &bytes).and_then(|()| device.flush());
            is_noted = false;
            if written.is_err() {
                break;
            }
            if entropy.below(2) == 0 {
                is_noted = device.check_image().and_then(|()| device.note_image()).is_ok();
            }
        }
        drop(device);
        if entropy.below(2) == 0 {
            disk.crash(&entropy);
            failed += 1;
        }
        disk.fail_after(u64::MAX, io::ErrorKind::Other);
        let device = open(&disk).expect("opens again");
        let reason = device.status().divergence;
        assert_ne!(reason, Some(DivergenceReason::ImageChanged), "seed {seed}: nobody else wrote");
        device.check_image().and_then(|()| device.note_image()).expect("noted");
        drop(device);
        let file = disk.open(&site.image, OpenMode::Write).expect("open");
        file.write_at(entropy.below(SIM_BYTES - 4), &[7, 7, 7, seed as u8]).expect("write");
        let device = open(&disk).expect("opens again");
        let reason = device.status().divergence;
        assert_eq!(
            reason,
            Some(DivergenceReason::ImageChanged),
            "seed {seed}: something else wrote"
        );
        noticed += usize::from(is_noted);
    });
    let is_hard = noticed > worlds / 8 && failed > worlds / 8;
    assert!(is_hard || !seeds.is_fixed(), "too easy: noticed {noticed}, failed {failed}");
}
