//! A replica under any sequence of messages: it answers, and what it says that it holds durably is
//! there when it is opened again after a loss of power. Blocks of a copy that it took and did not yet
//! call durable may be there too; once it is open, they are durable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_core::Disk;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::SimDisk;
use oms_recovery::machine::disk::{BlockDevice, FileDevice};
use oms_recovery::recovery_point::RecoveryLog;
use oms_recovery::replication::mark::{Mark, MarkFile, Role};
use oms_recovery::replication::replica::Replica;
use oms_recovery::replication::transfer::{ReplicaStatus, decode};
use oms_recovery::replication::{Site, Stamp};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const DISK_BYTES: usize = 3 << 16;

fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes =
        [&b"OMSR"[..], &[1, kind, 0, 0], &(payload.len() as u32).to_le_bytes()].concat();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), payload);
    bytes.extend(crc.to_le_bytes());
    bytes.extend(payload);
    bytes
}

fn open(disk: &Arc<dyn Disk>) -> Replica {
    let site = Site { location: String::new(), image: "disk".into(), folder: "r".into() };
    let base = FileDevice::open(&**disk, Path::new("disk")).expect("an image");
    let entropy = SeededEntropy::new(4);
    let log = RecoveryLog::open(Arc::new(base), disk, &site, Uuid::nil(), 4096, &entropy);
    Replica::new(Uuid::nil(), log.expect("its own log opens"))
}

fuzz_target!(|data: &[u8]| {
    let sim = SimDisk::default();
    fuzz::put(&sim, "disk", &vec![0; DISK_BYTES]);
    sim.create_dir_all(Path::new("r")).expect("a folder");
    let (kind, rest) = fuzz::choose(data);
    let role = if kind & 1 == 0 { Role::EmptyReplica } else { Role::Replica };
    let (stamp, floor) = (Stamp::default(), Stamp::default());
    let mut mark = MarkFile::open(&sim, Path::new("r/mark")).expect("a mark");
    mark.set(Mark { item: Uuid::nil(), role, epoch: 1, stamp, floor }).expect("set");
    drop(mark);
    sim.sync_dir(Path::new("")).expect("synced");
    let sim = Arc::new(sim);
    let disk: Arc<dyn Disk> = sim.clone();
    let mut replica = open(&disk);
    for (kind, payload) in fuzz::pieces(rest).take(12) {
        if let Some(answer) = replica.handle(&message(kind % 10, payload)) {
            decode(&answer).expect("an answer reads");
        }
    }
    let (mut told, taken) = (replica.status(), replica.log().copy().copied());
    if let Some(stamp) = replica.log().latest_whole() {
        let view = replica.log().view(stamp).expect("a whole prefix can be seen");
        view.read_at(0, &mut vec![0; DISK_BYTES]).expect("and read");
    }
    drop(replica);
    for seed in [7, 8] {
        sim.crash(&SeededEntropy::new(seed + data.len() as u64));
        let again = open(&disk).status();
        let place = |it: &ReplicaStatus| (it.epoch, it.last, it.is_whole);
        assert_eq!(place(&again), place(&told));
        match (again.copy, told.copy, taken) {
            (None, None, None) => {}
            (Some(again), Some(told), Some(taken)) => {
                assert_eq!((again.begin, taken.begin), (told.begin, told.begin));
                let possible = told.next_block..=taken.received_block;
                assert!(possible.contains(&again.next_block), "{again:?}, not in {possible:?}");
            }
            others => panic!("a copy came or went: {others:?}"),
        }
        told = again;
    }
});
