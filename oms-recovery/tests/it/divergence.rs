//! Power failures at every step of production leaving its outgoing log behind.

use crate::common::{primary_site, recovery_site};
use oms_core::clock::ManualClock;
use oms_core::disk::{Disk, OpenMode};
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::{Forgotten, SimDisk};
use oms_core::testkit::seeds::Seeds;
use oms_recovery::machine::disk::{BlockDevice, FileDevice};
use oms_recovery::recovery_point::RecoveryLog;
use oms_recovery::replication::Stamp;
use oms_recovery::replication::mark::{Mark, MarkFile, Role};
use oms_recovery::replication::primary::PrimaryEnd;
use oms_recovery::replication::replica::Replica;
use oms_recovery::replication::tracker::{TrackedDevice, TrackerOptions};
use oms_recovery::replication::transfer::{CopyKind, Message, decode};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const DISK_BYTES: u64 = 256 << 10;
const WRITE_BYTES: usize = 3_000;
const LOG_BYTES_MAX: u64 = 24_000;
const ITEM: Uuid = Uuid::from_u128(9);

fn open_device(disk: &SimDisk, seed: u64) -> oms_recovery::error::Result<Arc<TrackedDevice>> {
    let store: Arc<dyn Disk> = Arc::new(disk.clone());
    let image = FileDevice::open(&*store, Path::new("disk.img"))?;
    let options = TrackerOptions {
        item: ITEM,
        outgoing_log_bytes_max: LOG_BYTES_MAX,
        segment_bytes: 8 << 10,
        clock: Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)),
        entropy: Arc::new(SeededEntropy::new(seed)),
        stores: None,
    };
    TrackedDevice::open(Arc::new(image), &store, &primary_site(), options).map(Arc::new)
}

fn sites() -> [SimDisk; 2] {
    let disks = [SimDisk::default(), SimDisk::default()];
    let file = disks[0].open(Path::new("disk.img"), OpenMode::CreateNew).expect("create");
    file.set_len(DISK_BYTES).expect("length");
    file.sync().expect("sync");
    let sites = [(primary_site(), Role::Active), (recovery_site(), Role::EmptyReplica)];
    for (disk, (site, role)) in disks.iter().zip(sites) {
        disk.create_dir_all(&site.folder).expect("folder");
        let mut mark = MarkFile::open(disk, &site.folder.join("mark")).expect("mark");
        let (stamp, floor) = (Stamp::default(), Stamp::default());
        mark.set(Mark { item: ITEM, role, epoch: 1, stamp, floor }).expect("set");
        disk.sync_dir(Path::new("")).expect("sync");
    }
    disks
}

fn open_replica(disk: &SimDisk) -> Replica {
    let store: Arc<dyn Disk> = Arc::new(disk.clone());
    let base = FileDevice::open_or_create(&*store, Path::new("disk.img"), DISK_BYTES);
    let base = Arc::new(base.expect("image"));
    let entropy = SeededEntropy::new(3);
    let log = RecoveryLog::open(base, &store, &recovery_site(), ITEM, 8 << 10, &entropy);
    Replica::new(ITEM, log.expect("log"))
}

/// Carries messages both ways until none is left; failures of the primary are left to its writes.
fn carry(end: &mut PrimaryEnd, replica: &mut Replica) {
    for _ in 0..50 {
        let messages = end.poll().unwrap_or_default();
        if messages.is_empty() {
            return;
        }
        for message in messages {
            if let Some(answer) = replica.handle(&message) {
                let _ = end.receive(&answer);
            }
        }
    }
}

/// What production was told is durable, and whether the device left its log.
struct Life {
    flushed: Vec<(u64, Vec<u8>)>,
    has_diverged: bool,
    has_failed: bool,
}

/// Writes and flushes past what the outgoing log takes. The replica has the first writes only, and
/// hears of the device again after a failure: an acknowledgement must not remove what the image
/// has not got.
fn live(disks: &[SimDisk; 2], power: u64, is_copied: bool, entropy: &SeededEntropy) -> Life {
    let device = open_device(&disks[0], 1).expect("device");
    device.begin_copy(CopyKind::Initial, 1).expect("copy");
    let mut end = PrimaryEnd::new(ITEM, Arc::clone(&device));
    let mut replica = open_replica(&disks[1]);
    if is_copied {
        carry(&mut end, &mut replica);
    }
    let mut life = Life { flushed: Vec::new(), has_diverged: false, has_failed: false };
    disks[0].fail_after(power, io::ErrorKind::Other);
    for slot in 0..20 {
        let offset = slot * 8_192;
        let mut bytes = vec![0; WRITE_BYTES];
        oms_core::Entropy::fill(entropy, &mut bytes);
        let written = device.write_at(offset, &bytes).and_then(|()| device.flush());
        life.has_diverged = device.status().divergence.is_some();
        if written.is_err() {
            life.has_failed = true;
            carry(&mut end, &mut replica);
            return life;
        }
        life.flushed.push((offset, bytes));
        if slot == 1 && is_copied {
            carry(&mut end, &mut replica);
        }
    }
    life
}

/// The auditor: a device that is opened after the power failure has every write that was flushed.
fn audit(disk: &SimDisk, life: &Life, context: &str) {
    let device = open_device(disk, 2).unwrap_or_else(|error| panic!("{context}: {error}"));
    for (offset, bytes) in &life.flushed {
        let mut found = vec![0; bytes.len()];
        device.read_at(*offset, &mut found).expect("read");
        assert!(found == *bytes, "{context}: the flushed write at {offset} is lost");
    }
    device.write_at(DISK_BYTES - 512, &[7; 512]).expect("production goes on");
    device.flush().unwrap_or_else(|error| panic!("{context}: {error}"));
}

/// Every step of one world: how many there were, and how many failed after the divergence began.
fn every_step(seed: u64, is_copied: bool, forgotten: Option<Forgotten>) -> u64 {
    for power in 0..2_000 {
        let disks = sites();
        let entropy = SeededEntropy::new(seed.wrapping_mul(10_000) + power);
        if let Some(forgotten) = forgotten {
            disks[0].forget(forgotten);
        }
        let life = live(&disks, power, is_copied, &entropy);
        disks[0].crash(&entropy);
        audit(&disks[0], &life, &format!("seed {seed}: power failed after {power} operations"));
        if !life.has_failed {
            assert!(life.has_diverged, "seed {seed}: the log takes everything");
            return power;
        }
    }
    panic!("seed {seed}: it never comes to its end");
}

#[test]
fn power_may_fail_at_any_step_of_a_divergence() {
    let seeds = Seeds::of("divergence::power_may_fail_at_any_step", 0..6);
    seeds.run(|seed| {
        for is_copied in [true, false] {
            let steps = every_step(seed, is_copied, None);
            assert!(steps > 50, "seed {seed}: only {steps} steps");
        }
    });
}

/// Carries messages until a copied block arrives; the replica takes that one and does not yet make
/// it durable, and nothing after it arrives.
fn carry_to_first_block(end: &mut PrimaryEnd, replica: &mut Replica) {
    loop {
        for bytes in end.poll().expect("poll") {
            if let Message::Copy { epoch, begin, first_block, block_count, frames, .. } =
                decode(&bytes).expect("message")
            {
                let is_sync = false;
                let copy =
                    Message::Copy { epoch, begin, first_block, block_count, is_sync, frames };
                assert_eq!(replica.handle(&copy.encode()), None, "it need not answer");
                return;
            }
            let answer = replica.handle(&bytes).expect("answer");
            end.receive(&answer).expect("receive");
        }
    }
}

/// A resynchronization leaves out what the replica has already. Blocks of an initial copy that was
/// given up were received, but nothing had made them durable.
#[test]
fn a_replica_has_only_blocks_that_a_power_loss_leaves_it() {
    for seed in 0..8 {
        let disks = sites();
        let device = open_device(&disks[0], 1).expect("device");
        device.write_at(0, &[7; 200_000]).expect("write");
        device.flush().expect("flush");
        device.begin_copy(CopyKind::Initial, 1).expect("copy");
        let mut replica = open_replica(&disks[1]);
        carry_to_first_block(&mut PrimaryEnd::new(ITEM, Arc::clone(&device)), &mut replica);

        device.begin_copy(CopyKind::Resync, 1).expect("resync");
        let mut end = PrimaryEnd::new(ITEM, Arc::clone(&device));
        carry(&mut end, &mut replica);
        let whole = replica.log().latest_whole().expect("whole");

        disks[1].crash(&SeededEntropy::new(seed));
        let replica = open_replica(&disks[1]);
        assert_eq!(replica.log().latest_whole(), Some(whole), "seed {seed}");
        let view = replica.log().view(whole).expect("view");
        let (theirs, ours) = (crate::common::read_all(&view), crate::common::read_all(&*device));
        let differs = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
        assert_eq!(differs, None, "seed {seed}: the first byte that the power loss took");
    }
}

/// Planted bugs: a device that does not sync its log and image, or their names, is found.
#[test]
fn forgotten_syncs_are_found() {
    for forgotten in [Forgotten::Files, Forgotten::Folders] {
        let found = (0..6).any(|seed| {
            let run = || every_step(seed, true, Some(forgotten));
            catch_unwind(AssertUnwindSafe(run)).is_err()
        });
        assert!(found, "{forgotten:?} gets past the auditor");
    }
}
