//! The log under crashes, damage and full disks.

use super::frame::{HEADER_MAGIC, Header, frame};
use super::{Entry, FOLDER, Section, Wal, open, segment_path};
use crate::Error;
use crate::ingest::producer::{Producers, Verdict};
use oms_core::disk::OpenMode;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::seeds::Seeds;
use oms_core::{EntropyExt as _, ErrorKind};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

const SEGMENT_BYTES: u64 = 600;

fn entry(producer: &str, sequence: u64, bytes: usize) -> Entry {
    let ipc = vec![sequence as u8; bytes].into();
    let sections = vec![Section { table: "Perf".into(), ipc }];
    Entry { producer: producer.into(), sequence, sections }
}

/// Opens the log; answers what it holds, by log sequence.
fn reopen(disk: &SimDisk, seed: u64, floor: u64) -> Result<(Wal, BTreeMap<u64, Entry>), Error> {
    let mut held = BTreeMap::new();
    let disk = Arc::new(disk.clone());
    let wal =
        open(disk, Arc::new(SeededEntropy::new(seed)), SEGMENT_BYTES, floor, |lsn, entry| {
            assert!(held.insert(lsn, entry).is_none(), "log sequence {lsn} is read twice");
            Ok(())
        })?;
    Ok((wal, held))
}

/// One life of a log until it is stopped: what was acknowledged and what was tried.
#[derive(Default)]
struct Life {
    /// With the log sequence of each.
    acknowledged: BTreeMap<(String, u64), (u64, Entry)>,
    tried: BTreeSet<(String, u64)>,
    removed_through: u64,
}

impl Life {
    /// Writes, rotates and removes until the disk refuses, a few times.
    fn run(&mut self, wal: &mut Wal, chance: &SeededEntropy, next: &mut BTreeMap<String, u64>) {
        let mut failures = 0;
        for _ in 0..60 {
            let failed = match chance.below(10) {
                0 => wal.rotate().is_err(),
                1 => {
                    let through = wal.last().saturating_sub(chance.below(6));
                    // What is removed is flushed; from then on it is the tables that hold it.
                    self.removed_through = self.removed_through.max(through);
                    wal.remove_through(through).is_err()
                }
                _ => self.append(wal, chance, next).is_err(),
            };
            failures += u32::from(failed);
            if failures == 3 {
                return;
            }
        }
    }

    fn append(
        &mut self,
        wal: &mut Wal,
        chance: &SeededEntropy,
        next: &mut BTreeMap<String, u64>,
    ) -> Result<(), Error> {
        let mut group = Vec::new();
        for producer in ["a", "b", "c"].iter().take(1 + chance.below(3) as usize) {
            let sequence = *next.get(*producer).unwrap_or(&1);
            group.push(entry(producer, sequence, chance.below(200) as usize));
        }
        for entry in &group {
            self.tried.insert((entry.producer.clone(), entry.sequence));
        }
        let first = wal.append(group.iter())?;
        for (lsn, entry) in (first..).zip(group) {
            let producers = wal.producers();
            producers.lock().expect("not poisoned").insert(&entry.producer, entry.sequence);
            next.insert(entry.producer.clone(), entry.sequence + 1);
            self.acknowledged.insert((entry.producer.clone(), entry.sequence), (lsn, entry));
        }
        Ok(())
    }
}

/// Auditor: after any crash, each acknowledged batch that was not flushed is in the log once, each
/// batch that was flushed or acknowledged is remembered, and nothing is in the log that nobody
/// wrote.
#[test]
fn what_is_acknowledged_survives_any_crash() {
    Seeds::of("wal::simulation::what_is_acknowledged_survives", 0..400).run(live_and_crash);
}

fn live_and_crash(seed: u64) {
    let chance = SeededEntropy::new(seed);
    let disk = SimDisk::default();
    let mut next = BTreeMap::new();
    let mut life = Life::default();
    for round in 0..6 {
        let (mut wal, held) = reopen(&disk, seed.wrapping_mul(100) + round, life.removed_through)
            .unwrap_or_else(|error| panic!("seed {seed} round {round}: {error:?}"));
        audit(seed, &wal, &held, &life, &mut next);
        if chance.below(3) > 0 {
            disk.fail_after(chance.below(120), io::ErrorKind::Other);
        }
        life.run(&mut wal, &chance, &mut next);
        drop(wal);
        disk.crash(&chance);
    }
}

fn audit(
    seed: u64,
    wal: &Wal,
    held: &BTreeMap<u64, Entry>,
    life: &Life,
    next: &mut BTreeMap<String, u64>,
) {
    let mut found = BTreeSet::new();
    for (lsn, entry) in held {
        let id = (entry.producer.clone(), entry.sequence);
        assert!(life.tried.contains(&id), "seed {seed}: {id:?} was never written");
        if let Some((first_lsn, acknowledged)) = life.acknowledged.get(&id) {
            assert_eq!((first_lsn, acknowledged), (lsn, entry), "seed {seed}");
        }
        assert!(found.insert(id.clone()), "seed {seed}: {id:?} is there twice");
    }
    let producers = wal.producers();
    let producers = producers.lock().expect("not poisoned");
    for (id, (lsn, _)) in &life.acknowledged {
        let is_there = found.contains(id) || *lsn <= life.removed_through;
        assert!(is_there, "seed {seed}: {id:?} was acknowledged and is lost");
        let verdict = producers.verdict(&id.0, id.1);
        assert_eq!(verdict, Verdict::Repeat, "seed {seed}: {id:?}");
    }
    // A batch that failed and is there all the same was written: its sender goes on after it.
    for (producer, sequence) in found {
        let known = next.entry(producer).or_insert(1);
        *known = (*known).max(sequence + 1);
    }
}

fn small_log(disk: &SimDisk, groups: u64) {
    let (mut wal, _) = reopen(disk, 1, 0).expect("a new log");
    for sequence in 1..=groups {
        let group = [entry("a", sequence, 20), entry("b", sequence, 3)];
        wal.append(group.iter()).expect("written");
    }
}

/// Auditor: damage to one bit is either reported by segment, or it is in the last group, where a
/// crash would look the same, and then everything before is there.
#[test]
fn one_flipped_bit_never_passes_for_data() {
    let intact = SimDisk::default();
    small_log(&intact, 12);
    let (_, all) = reopen(&intact, 2, 0).expect("intact");
    assert_eq!(all.len(), 24);
    let (mut reported, mut cut) = (0, 0);
    let disk = SimDisk::default();
    small_log(&disk, 12);
    for (path, bytes) in disk.contents() {
        for at in 0..bytes.len() {
            let disk = SimDisk::default();
            small_log(&disk, 12);
            disk.flip_bit(&path, at, (at % 8) as u8);
            match reopen(&disk, 2, 0) {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                    assert!(error.to_string().contains(".wal"), "{error}");
                    reported += 1;
                }
                Ok((_, held)) => {
                    assert_eq!(held.len(), 22, "{} {at}", path.display());
                    assert!(held.iter().all(|(lsn, entry)| all.get(lsn) == Some(entry)));
                    cut += 1;
                }
            }
        }
    }
    assert!(reported > 10 * cut, "{reported} {cut}");
}

#[test]
fn damage_is_named_by_segment_and_offset() {
    let disk = SimDisk::default();
    small_log(&disk, 3);
    let bytes = &disk.contents()[&segment_path(1)];
    let second = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, four)| *four == b"OMSg")
        .map(|(at, _)| at)
        .nth(1)
        .expect("a second group");
    disk.flip_bit(&segment_path(1), second + 20, 3);
    let error = reopen(&disk, 2, 0).expect_err("damaged").to_string();
    assert_eq!(
        error,
        format!(
            "corrupt file: a group's checksum does not match. path=`wal/000000000001.wal`, \
             offset=`{second}`"
        )
    );
}

#[test]
fn a_missing_segment_is_reported() {
    let disk = SimDisk::default();
    small_log(&disk, 20);
    assert!(disk.contents().len() > 2);
    oms_core::Disk::remove(&disk, &segment_path(2)).expect("removed");
    let error = reopen(&disk, 2, 0).expect_err("damaged").to_string();
    assert!(error.contains("the segment before it is missing"), "{error}");
}

#[test]
fn numbers_that_no_log_reaches_are_refused() {
    let header = |first| {
        let (salt, previous_end, producers) = (0, 0, Producers::default());
        let payload = Header { salt, first, previous_end, producers }.encode();
        frame(HEADER_MAGIC, 0, &payload)
    };
    for (index, first, reason) in
        [(u64::MAX, 1, "so many segments"), (1, u64::MAX, "so many entries")]
    {
        let disk = SimDisk::default();
        oms_core::Disk::create_dir_all(&disk, Path::new(FOLDER)).expect("a folder");
        let file = oms_core::Disk::open(&disk, &segment_path(index), OpenMode::CreateNew);
        file.expect("a file").write_at(0, &header(first)).expect("written");
        let error = reopen(&disk, 2, 0).expect_err("damaged").to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_full_disk_refuses_and_the_log_goes_on_when_there_is_room() {
    let disk = SimDisk::default();
    let (mut wal, _) = reopen(&disk, 1, 0).expect("a new log");
    wal.append([entry("a", 1, 50)].iter()).expect("written");
    let used: usize = disk.contents().values().map(Vec::len).sum();
    disk.set_capacity(Some(used as u64 + 20));
    for _ in 0..3 {
        let error = Error::from(wal.append([entry("a", 2, 50)].iter()).expect_err("full"));
        assert_eq!(error.kind(), ErrorKind::LimitExceeded { retry_after: None });
    }
    disk.set_capacity(None);
    assert_eq!(wal.append([entry("a", 2, 50)].iter()).expect("room"), 2);
    drop(wal);
    disk.crash(&SeededEntropy::new(3));
    let (_, held) = reopen(&disk, 2, 0).expect("recovered");
    assert_eq!(held.keys().copied().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn removing_keeps_producers_and_the_last_segment() {
    let disk = SimDisk::default();
    let (mut wal, _) = reopen(&disk, 1, 0).expect("a new log");
    for sequence in 1..=20 {
        wal.append([entry("a", sequence, 50)].iter()).expect("written");
        wal.producers().lock().expect("not poisoned").insert("a", sequence);
    }
    let through = wal.rotate().expect("rotated");
    assert_eq!(through, 20);
    wal.remove_through(through).expect("removed");
    assert_eq!(disk.contents().len(), 1);
    drop(wal);
    let (wal, held) = reopen(&disk, 2, 0).expect("recovered");
    assert!(held.is_empty());
    assert_eq!(wal.last(), 20);
    let runs: Vec<_> = wal
        .producers()
        .lock()
        .expect("not poisoned")
        .iter()
        .map(|(name, runs)| (name.to_owned(), runs.to_vec()))
        .collect();
    assert_eq!(runs, [("a".to_owned(), vec![(1, 20)])]);
}

#[test]
fn log_sequences_start_after_what_the_tables_hold() {
    let (mut wal, _) = reopen(&SimDisk::default(), 1, 70).expect("a new log");
    assert_eq!(wal.append([entry("a", 1, 5)].iter()).expect("written"), 71);
}

proptest! {
    #[test]
    fn any_segment_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let disk = SimDisk::default();
        small_log(&disk, 1);
        let file = oms_core::Disk::open(&disk, &segment_path(1), OpenMode::Write);
        let file = file.expect("a segment");
        file.write_at(0, &bytes).expect("written");
        let _ = reopen(&disk, 2, 0);
    }

    #[test]
    fn what_follows_the_last_group_is_cut(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let disk = SimDisk::default();
        small_log(&disk, 2);
        let end = disk.contents()[&segment_path(1)].len() as u64;
        let file = oms_core::Disk::open(&disk, &segment_path(1), OpenMode::Write);
        file.expect("a segment").write_at(end, &tail).expect("written");
        let (_, held) = reopen(&disk, 2, 0).expect("recovered");
        prop_assert_eq!(held.len(), 4);
        prop_assert_eq!(disk.contents()[&segment_path(1)].len() as u64, end);
    }
}

/// A sender can put the bytes of a group into a record; they never pass for a group.
#[test]
fn a_group_inside_a_torn_record_is_not_damage() {
    let disk = SimDisk::default();
    small_log(&disk, 1);
    let forged = disk.contents()[&segment_path(1)].clone();
    let (mut wal, _) = reopen(&disk, 9, 0).expect("recovered");
    let sections = vec![Section { table: "Perf".into(), ipc: forged.into() }];
    let long = Entry { producer: "evil".into(), sequence: 1, sections };
    wal.append([long].iter()).expect("written");
    drop(wal);
    let end = disk.contents()[&segment_path(2)].len();
    disk.flip_bit(&segment_path(2), end - 1, 0);
    let (_, held) = reopen(&disk, 10, 0).expect("a torn tail");
    assert_eq!(held.len(), 2);
}
