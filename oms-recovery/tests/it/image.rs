//! What something else than the device does to a disk image: it is replicated or refused by name, and
//! never lost unsaid.

use crate::common::{Timed, primary_site, read_all};
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
use oms_recovery::replication::{DivergenceReason, SiteStores as _, Stamp};
use oms_recovery::{Error, ProtectedItem, ProtectionState, RecoveryVault, ReplicationPolicy};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Also where it wrote what production had written before, whose log is still there.
#[tokio::test]
async fn what_something_else_writes_over_productions_writes_stays() {
    let mut place = Place::new();
    drop(place.protect().await);
    let item = place.item().await;
    item.device().expect("device").write_at(5, b"own").expect("write");
    item.device().expect("device").flush().expect("flush");
    item.replicate().await.expect("replicated");
    drop(item);
    place.write("web1.img", 5, b'X');
    place.write("web1.img", 70_000, b'Y');
    let item = place.item().await;
    assert_eq!(byte(&*item.device().expect("device"), 5), b'X');
    let image = std::fs::read(place.at("web1.img")).expect("read");
    assert_eq!((image[5], image[6], image[70_000]), (b'X', b'w', b'Y'), "nothing undoes it");
    assert_resync(&item, ProtectionState::ResyncRequired).await;
    item.repair_replication().await.expect("repaired");
    item.planned_failover().await.expect("failover");
    let device = item.device().expect("device");
    assert_eq!((byte(&*device, 5), byte(&*device, 70_000)), (b'X', b'Y'));
}

/// A process that ended before it had replicated, and one that only looked after it: from then on the
/// image is known again.
#[tokio::test]
async fn what_something_else_writes_after_a_replay_is_noticed() {
    let mut place = Place::new();
    let item = place.protect().await;
    item.device().expect("device").write_at(5, b"own").expect("write");
    item.device().expect("device").flush().expect("flush");
    drop(item);
    drop(place.item().await);
    place.write("web1.img", 5, b'X');
    place.write("web1.img", 70_000, b'Y');
    let item = place.item().await;
    assert_resync(&item, ProtectionState::ResyncRequired).await;
    item.repair_replication().await.expect("repaired");
    item.planned_failover().await.expect("failover");
    let device = item.device().expect("device");
    assert_eq!((byte(&*device, 5), byte(&*device, 6), byte(&*device, 70_000)), (b'X', b'w', b'Y'));
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

const SIM_BYTES: u64 = 64 << 10;
const ITEM: Uuid = Uuid::from_u128(3);
const LIVES: u64 = 10;

/// A disk that is protected, before its first copy.
fn site() -> Timed {
    let (disk, site) = (SimDisk::default(), primary_site());
    let timed = Timed::new(disk.clone());
    let file = timed.open_image(OpenMode::CreateNew).expect("create");
    file.set_len(SIM_BYTES).and_then(|()| file.sync()).expect("a disk");
    timed.sync_image(&site).expect("a disk");
    disk.create_dir_all(&site.folder).expect("folder");
    let mut mark = MarkFile::open(&disk, &site.folder.join("mark")).expect("mark");
    let (stamp, floor) = (Stamp::default(), Stamp::default());
    mark.set(Mark { item: ITEM, role: Role::Active, epoch: 1, stamp, floor }).expect("set");
    disk.sync_dir(Path::new("")).expect("sync");
    timed
}

fn options(timed: &Timed) -> TrackerOptions {
    TrackerOptions {
        item: ITEM,
        outgoing_log_bytes_max: 1 << 20,
        segment_bytes: 8 << 10,
        clock: Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)),
        entropy: Arc::new(SeededEntropy::new(5)),
        stores: Some(Arc::new(timed.clone())),
    }
}

fn open(timed: &Timed) -> Result<TrackedDevice, Error> {
    let store: Arc<dyn Disk> = Arc::new(timed.clone());
    let image = FileDevice::open(&*store, &primary_site().image)?;
    TrackedDevice::open(Arc::new(image), &store, &primary_site(), options(timed))
}

/// A file system brings the time of a write to the disk when it likes, unless it is told to.
#[test]
fn a_power_failure_takes_back_no_time_that_was_noted() {
    for seed in 0..16 {
        let (entropy, timed) = (SeededEntropy::new(seed), site());
        let device = open(&timed).expect("device");
        device.write_at(0, b"before it is tracked").expect("write");
        device.begin_copy(CopyKind::Initial, 1).expect("copy");
        for round in 0..2 {
            timed.crash(&entropy);
            let device = open(&timed).expect("opens again");
            assert_eq!(
                device.status().divergence,
                None,
                "seed {seed}, round {round}: nobody wrote"
            );
            device.write_at(9, b"own").and_then(|()| device.flush()).expect("write");
            device.check_image().and_then(|()| device.note_image()).expect("noted");
        }
    }
}

/// A process is killed anywhere while it writes and notes, the next one too, and then power fails: what
/// the first one wrote of the note and did not sync may come back, or go.
#[test]
fn notes_of_killed_processes_are_no_writes_of_others() {
    let write = |timed: &Timed, offset: u64, operations: u64| {
        timed.disk.fail_after(operations, io::ErrorKind::Other);
        let mut is_flushed = false;
        let worked = open(timed).and_then(|device| {
            device.write_at(offset, b"own").and_then(|()| device.flush())?;
            is_flushed = true;
            device.check_image().and_then(|()| device.note_image())
        });
        // A device that cannot note the image opens nevertheless.
        let is_through = worked.is_ok() && !timed.disk.is_broken();
        timed.disk.kill();
        (is_flushed, is_through)
    };
    let mut worlds = 0;
    for first in 0..200 {
        let mut is_first_through = false;
        for second in 0..200 {
            let timed = site();
            open(&timed).and_then(|device| device.begin_copy(CopyKind::Initial, 1)).expect("copy");
            assert_eq!(write(&timed, 0, u64::MAX), (true, true), "written and noted");
            let (is_flushed, is_through) = write(&timed, 1_000, first);
            is_first_through = is_through;
            let (is_also_flushed, is_through) = write(&timed, 2_000, second);
            timed.crash(&SeededEntropy::new(first << 32 | second));
            let context = format!("killed after {first} operations, the next after {second}");
            let device = open(&timed).expect("opens");
            assert_eq!(device.status().divergence, None, "{context}: nobody wrote");
            let image = timed.image();
            for (offset, is_flushed) in [(0, true), (1_000, is_flushed), (2_000, is_also_flushed)] {
                let found = &image[offset..offset + 3];
                assert!(found == b"own" || !is_flushed, "{context}: the write at {offset} is lost");
            }
            worlds += 1;
            if is_through {
                break;
            }
        }
        if is_first_through {
            assert!(worlds > 500, "only {worlds}");
            return;
        }
    }
    panic!("it never comes to its end");
}

/// A disk image that takes no write for a while.
#[derive(Debug)]
struct Refusing {
    image: FileDevice,
    refuses: AtomicBool,
}

impl BlockDevice for Refusing {
    fn len(&self) -> u64 {
        self.image.len()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.image.read_at(offset, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        match self.refuses.load(Ordering::SeqCst) {
            true => Err(Error::ReadOnly),
            false => self.image.write_at(offset, bytes),
        }
    }

    fn flush(&self) -> Result<(), Error> {
        self.image.flush()
    }
}

/// What the log has, the replica gets: the next process brings it into the image.
#[test]
fn an_image_that_missed_a_write_is_not_noted() {
    let timed = site();
    let store: Arc<dyn Disk> = Arc::new(timed.clone());
    let image = FileDevice::open(&*store, &primary_site().image).expect("image");
    let image = Arc::new(Refusing { image, refuses: AtomicBool::new(false) });
    let below = Arc::<Refusing>::clone(&image);
    let device =
        TrackedDevice::open(below, &store, &primary_site(), options(&timed)).expect("device");
    device.begin_copy(CopyKind::Initial, 1).expect("copy");
    image.refuses.store(true, Ordering::SeqCst);
    device.write_at(7, b"own").and_then(|()| device.flush()).expect_err("refused");
    device.check_image().and_then(|()| device.note_image()).expect("as if nothing were");
    drop((device, image));
    let device = open(&timed).expect("opens again");
    let mut found = [0; 3];
    device.read_at(7, &mut found).expect("read");
    assert_eq!((&found, device.status().divergence), (b"own", None));
}

/// What the next device that opens must find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Must {
    /// Nobody else wrote.
    BeJoined,
    /// Something else wrote, and nobody has opened the site since.
    Notice,
    /// Something else wrote; whoever opened the site may have made durable that it is diverged.
    BeDiverged,
    /// A copy was being begun.
    BeEither,
}

/// One disk, the processes that open it one after the other, and something else that writes to it.
struct World {
    entropy: SeededEntropy,
    timed: Timed,
    /// What is on the disk.
    model: Vec<u8>,
    /// What is there instead if the last write was taken, which was answered with an error.
    instead: Option<Vec<u8>>,
    /// Whether the site has a note and nothing has happened since.
    is_noted: bool,
    must: Must,
    noticed: usize,
    failed: usize,
    taken_up: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let timed = site();
        open(&timed).and_then(|device| device.begin_copy(CopyKind::Initial, 1)).expect("copy");
        Self {
            entropy: SeededEntropy::new(seed),
            model: timed.image(),
            timed,
            instead: None,
            is_noted: true,
            must: Must::BeJoined,
            noticed: 0,
            failed: 0,
            taken_up: 0,
        }
    }

    /// Whether one of `of` times comes up.
    fn chance(&self, of: u64) -> bool {
        self.entropy.below(of) == 0
    }

    /// One process, whose storage fails somewhere; power fails or does not.
    fn live(&mut self) {
        if !self.chance(4) {
            // Often while it is being opened.
            let most = if self.chance(2) { 40 } else { 150 };
            self.timed.disk.fail_after(self.entropy.below(most), io::ErrorKind::Other);
        }
        let opened = open(&self.timed);
        match opened {
            Ok(device) => self.work(&device),
            Err(_) if self.must == Must::Notice => self.must = Must::BeDiverged,
            Err(_) => {}
        }
        if self.chance(2) {
            self.timed.crash(&self.entropy);
            self.failed += 1;
        }
        self.timed.disk.kill();
        if self.is_noted && self.must == Must::BeJoined && self.chance(2) {
            self.intrude();
        }
    }

    /// Something else writes, and lets nobody lose it.
    fn intrude(&mut self) {
        let at = self.entropy.below(SIM_BYTES);
        let byte = !self.model[at as usize];
        let file = self.timed.open_image(OpenMode::Write).expect("open");
        file.write_at(at, &[byte]).expect("write");
        self.timed.sync_image(&primary_site()).expect("sync");
        self.model[at as usize] = byte;
        self.must = Must::Notice;
        self.noticed += 1;
        if self.chance(3) {
            self.timed.crash(&self.entropy);
        }
    }

    fn work(&mut self, device: &TrackedDevice) {
        self.audit(device);
        // A device that cannot note the image opens nevertheless.
        self.is_noted = !self.timed.disk.is_broken();
        if device.status().divergence.is_some() {
            self.must = Must::BeEither;
            if device.begin_copy(CopyKind::Resync, 1).is_err() {
                return;
            }
        }
        self.must = Must::BeJoined;
        for _ in 0..self.entropy.below(5) {
            let mut bytes = vec![0; 1 + self.entropy.below(3_000) as usize];
            self.entropy.fill(&mut bytes);
            let offset = self.entropy.below(SIM_BYTES - bytes.len() as u64);
            let mut next = self.model.clone();
            next[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
            self.is_noted = false;
            if device.write_at(offset, &bytes).and_then(|()| device.flush()).is_err() {
                self.instead = Some(next);
                return;
            }
            self.model = next;
            // As an item does when its replica has everything.
            if self.chance(2) {
                self.is_noted = device.check_image().and_then(|()| device.note_image()).is_ok();
            }
        }
    }

    /// The auditor of a device that was just opened: it has every write that was flushed, and what
    /// something else wrote, which it has noticed.
    fn audit(&mut self, device: &TrackedDevice) {
        let changed = Some(DivergenceReason::ImageChanged);
        let reason = device.status().divergence;
        match self.must {
            Must::BeJoined => assert_eq!(reason, None, "nobody else wrote"),
            Must::Notice => assert_eq!(reason, changed, "something else wrote"),
            Must::BeDiverged => assert!(reason.is_some(), "something else wrote"),
            Must::BeEither => {}
        }
        let found = self.timed.image();
        if let Some(instead) = self.instead.take().filter(|instead| *instead == found) {
            self.model = instead;
            self.taken_up += 1;
        }
        let differs = found.iter().zip(&self.model).position(|(found, model)| found != model);
        assert_eq!(differs, None, "the first byte that is another one");
    }
}

/// Production writes, storage or power fails at any operation, something else writes or does not: what it
/// wrote is told and stays if the image was noted before, and what production wrote never is told, and is
/// there if it was flushed.
#[test]
fn a_power_failure_is_nobodys_write_and_a_write_is_no_power_failure() {
    let (mut noticed, mut failed, mut taken_up, mut worlds) = (0_usize, 0, 0, 0_usize);
    let seeds = Seeds::of("image::a_power_failure_is_nobodys_write", 0..200);
    seeds.run(|seed| {
        worlds += 1;
        let mut world = World::new(seed);
        for _ in 0..LIVES {
            world.live();
        }
        let device = open(&world.timed).expect("opens when nothing fails");
        world.audit(&device);
        assert!(read_all(&device) == world.model, "what is read is what is there");
        noticed += world.noticed;
        failed += world.failed;
        taken_up += world.taken_up;
    });
    let is_hard = noticed > worlds / 4 && failed > worlds && taken_up > worlds / 20;
    assert!(
        is_hard || !seeds.is_fixed(),
        "too easy: noticed {noticed}, failed {failed}, taken up {taken_up}"
    );
}
