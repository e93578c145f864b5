//! The log under crashes, damage and full disks.

use super::frame::{Encoded, Entry, Header, Section, header_frame};
use super::{FOLDER, Open, Wal, WalError, open, quarantine_path, segment_path};
use crate::Error;
use crate::ingest::producer::{Producers, Verdict};
use crate::workspace::LogDamage;
use oms_core::disk::OpenMode;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::crash::{crash_at_every_operation, kill_at_every_operation};
use oms_core::testkit::disk::{Forgotten, Losses, SimDisk};
use oms_core::testkit::seeds::Seeds;
use oms_core::{Entropy, EntropyExt as _, ErrorKind};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

const SEGMENT_BYTES: u64 = 600;
const SEEDS: u64 = 400;

fn entry(producer: &str, sequence: u64, bytes: usize) -> Entry {
    let ipc = vec![sequence as u8; bytes].into();
    let sections = vec![Section { table: "Perf".into(), ipc }];
    Entry { producer: producer.into(), sequence, sections }
}

fn opening(disk: &SimDisk, seed: u64) -> Open {
    Open {
        disk: Arc::new(disk.clone()),
        entropy: Arc::new(SeededEntropy::new(seed)),
        segment_bytes_max: SEGMENT_BYTES,
        spare_bytes_min: u64::MAX,
        floor: 0,
        quarantine: false,
    }
}

/// What a log holds, by log sequence.
type Held = BTreeMap<u64, Entry>;

/// Opens the log; answers what it holds and its damage.
fn reopen_as(opening: Open) -> Result<(Wal, Held, Vec<LogDamage>), Error> {
    let mut held = BTreeMap::new();
    let (wal, damages) = open(opening, |lsn, entry| {
        assert!(held.insert(lsn, entry).is_none(), "log sequence {lsn} is read twice");
        Ok(())
    })?;
    Ok((wal, held, damages))
}

fn reopen(disk: &SimDisk, seed: u64, floor: u64) -> Result<(Wal, Held), Error> {
    let (wal, held, damages) = reopen_as(Open { floor, ..opening(disk, seed) })?;
    assert_eq!(damages, []);
    Ok((wal, held))
}

fn append(wal: &mut Wal, group: &[Entry]) -> Result<u64, WalError> {
    let encoded: Vec<Encoded> = group.iter().map(Entry::encoded).collect();
    wal.append(encoded.iter())
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
        let first = append(wal, &group)?;
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
    let seeds = Seeds::of("wal::simulation::what_is_acknowledged_survives", 0..SEEDS);
    crash_worlds(&seeds, u64::MAX);
}

#[test]
fn what_is_acknowledged_survives_any_crash_in_segments_that_are_used_again() {
    let name = "wal::simulation::what_is_acknowledged_survives_any_crash_in_segments";
    crash_worlds(&Seeds::of(name, 0..SEEDS), 0);
}

fn crash_worlds(seeds: &Seeds, spare_bytes_min: u64) {
    let mut losses = Losses::default();
    seeds.run(|seed| losses += live_and_crash(seed, spare_bytes_min, None));
    let never = losses.never();
    assert!(never.is_empty() || !seeds.is_fixed(), "never seen: {never:?}");
}

/// Planted bugs: each falls to some seed of the fixed set.
#[test]
fn forgotten_syncs_are_found() {
    for (spare_bytes_min, forgotten) in
        [(u64::MAX, Forgotten::Files), (u64::MAX, Forgotten::Folders), (0, Forgotten::Files)]
    {
        let is_found = |seed| {
            let run = || live_and_crash(seed, spare_bytes_min, Some(forgotten));
            catch_unwind(AssertUnwindSafe(run)).is_err()
        };
        assert!((0..SEEDS).any(is_found), "{forgotten:?} gets past the auditor");
    }
}

fn live_and_crash(seed: u64, spare_bytes_min: u64, flaw: Option<Forgotten>) -> Losses {
    let chance = SeededEntropy::new(seed);
    let disk = SimDisk::default();
    flaw.into_iter().for_each(|flaw| disk.forget(flaw));
    let mut next = BTreeMap::new();
    let mut life = Life::default();
    for round in 0..6 {
        let mut opening = opening(&disk, seed.wrapping_mul(100) + round);
        (opening.floor, opening.spare_bytes_min) = (life.removed_through, spare_bytes_min);
        let (mut wal, held, damages) = reopen_as(opening)
            .unwrap_or_else(|error| panic!("seed {seed} round {round}: {error:?}"));
        assert_eq!(damages, [], "seed {seed} round {round}");
        audit(seed, &wal, &held, &life, &mut next);
        if chance.below(3) > 0 {
            disk.fail_after(chance.below(120), io::ErrorKind::Other);
        }
        life.run(&mut wal, &chance, &mut next);
        drop(wal);
        disk.crash(&chance);
    }
    disk.losses()
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
        append(&mut wal, &group).expect("written");
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
        let payload = Header { salt, first, previous_end, producers: Some(producers) }.encode();
        header_frame(&payload)
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
    append(&mut wal, &[entry("a", 1, 50)]).expect("written");
    let used: usize = disk.contents().values().map(Vec::len).sum();
    disk.set_capacity(Some(used as u64 + 20));
    for _ in 0..3 {
        let error = Error::from(append(&mut wal, &[entry("a", 2, 50)]).expect_err("full"));
        assert_eq!(error.kind(), ErrorKind::LimitExceeded { retry_after: None });
    }
    disk.set_capacity(None);
    assert_eq!(append(&mut wal, &[entry("a", 2, 50)]).expect("room"), 2);
    drop(wal);
    disk.crash(&SeededEntropy::new(3));
    let (_, held) = reopen(&disk, 2, 0).expect("recovered");
    assert_eq!(held.keys().copied().collect::<Vec<_>>(), [1, 2]);
}

/// What is kept to be used again is given up where there is no room.
#[test]
fn a_full_disk_gets_the_room_of_spare_segments() {
    let disk = SimDisk::default();
    let open = Open { spare_bytes_min: 0, segment_bytes_max: 4_000, ..opening(&disk, 1) };
    let (mut wal, _, _) = reopen_as(open).expect("a new log");
    for sequence in 1..=3 {
        append(&mut wal, &[entry("a", sequence, 400)]).expect("written");
    }
    for _ in 0..2 {
        let through = wal.rotate().expect("rotated");
        wal.remove_through(through).expect("removed");
        append(&mut wal, &[entry("b", through, 40)]).expect("written");
    }
    let through = wal.rotate().expect("rotated");
    wal.remove_through(through).expect("removed");
    let spares = || {
        let names = disk.contents().into_keys();
        names.filter(|path| path.extension().is_some_and(|it| it == "spare")).count()
    };
    assert_eq!(spares(), 1, "{:?}", disk.contents().keys());
    let used: usize = disk.contents().values().map(Vec::len).sum();
    disk.set_capacity(Some(used as u64));
    append(&mut wal, &[entry("c", 1, 2 * used)]).expect_err("full");
    assert_eq!(spares(), 0);
    disk.set_capacity(None);
    append(&mut wal, &[entry("c", 1, 2 * used)]).expect("room");
}

#[test]
fn removing_keeps_producers_and_the_last_segment() {
    let disk = SimDisk::default();
    let (mut wal, _) = reopen(&disk, 1, 0).expect("a new log");
    for sequence in 1..=20 {
        append(&mut wal, &[entry("a", sequence, 50)]).expect("written");
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
    assert_eq!(append(&mut wal, &[entry("a", 1, 5)]).expect("written"), 71);
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
    append(&mut wal, &[long]).expect("written");
    drop(wal);
    let end = disk.contents()[&segment_path(2)].len();
    disk.flip_bit(&segment_path(2), end - 1, 0);
    let (_, held) = reopen(&disk, 10, 0).expect("a torn tail");
    assert_eq!(held.len(), 2);
}

/// Randomness that repeats itself, so that every segment has the same salt.
#[derive(Debug)]
struct Constant;

impl Entropy for Constant {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// Auditor: wherever a segment that is used again stops, its old groups stay in the past, even
/// where chance gave both uses the same salt.
#[test]
fn old_groups_never_pass_for_new_ones() {
    let constant = |disk: &SimDisk| Open {
        entropy: Arc::new(Constant),
        segment_bytes_max: 1 << 20,
        spare_bytes_min: 0,
        ..opening(disk, 1)
    };
    let mut stale = 0;
    for groups in 0..6 {
        let disk = SimDisk::default();
        let (mut wal, _, _) = reopen_as(constant(&disk)).expect("a new log");
        // The groups of both uses have the same length, and so begin at the same places.
        for sequence in 1..=6 {
            append(&mut wal, &[entry("a", sequence, 40)]).expect("written");
        }
        // The next segment takes its own file; the one after that takes this one.
        for _ in 0..2 {
            let through = wal.rotate().expect("rotated");
            wal.remove_through(through).expect("removed");
            append(&mut wal, &[entry("b", through, 40)]).expect("written");
        }
        for sequence in 0..groups {
            append(&mut wal, &[entry("c", sequence + 1, 40)]).expect("written");
        }
        let active = wal.active.as_ref().expect("it is written to");
        let (path, length) = (segment_path(active.index), active.len as usize);
        let files = disk.contents();
        stale += usize::from(files[&path].len() > length);
        let expected: Vec<u64> = (8..=8 + groups).collect();
        for torn in [false, true] {
            let disk = SimDisk::default();
            oms_core::Disk::create_dir_all(&disk, Path::new(FOLDER)).expect("a folder");
            for (path, bytes) in &files {
                let file = oms_core::Disk::open(&disk, path, OpenMode::CreateNew);
                file.expect("a file").write_at(0, bytes).expect("written");
            }
            if torn {
                disk.flip_bit(&path, length - 1, 0);
            }
            let (_, held, _) = reopen_as(constant(&disk)).expect("no damage");
            let lsns: Vec<u64> = held.into_keys().collect();
            assert_eq!(lsns, expected[..expected.len() - usize::from(torn)], "{groups} {torn}");
        }
    }
    assert!(stale >= 3, "only {stale} segments have old groups behind the new ones");
}

/// Auditor: whatever the next process found in the log of a killed one is there once after a power
/// failure, and the log is not damaged.
#[test]
fn what_a_killed_process_wrote_is_durable_before_the_log_goes_on() {
    let work = |disk: &SimDisk, (): &()| {
        let write = || -> Result<(), Error> {
            let (mut wal, held, _) = reopen_as(opening(disk, 1))?;
            for sequence in held.len() as u64 + 1..=8 {
                append(&mut wal, &[entry("a", sequence, 200)])?;
            }
            Ok(())
        };
        write().is_ok()
    };
    let audit = |disk: &SimDisk, ()| {
        let (_, held) = reopen(disk, 2, 0).expect("no damage");
        let sequences: Vec<u64> = held.into_values().map(|entry| entry.sequence).collect();
        assert_eq!(sequences, (1..=8).collect::<Vec<u64>>());
    };
    let operations = kill_at_every_operation(12, |_disk| (), work, audit);
    assert!(operations > 20, "{operations}");
}

/// Auditor: a damaged segment is moved aside, wherever power fails meanwhile, and then the log opens
/// without damage; what was moved is not lost.
#[test]
fn power_may_fail_at_any_operation_of_moving_damage_aside() {
    let prepare = |disk: &SimDisk| {
        small_log(disk, 12);
        disk.flip_bit(&segment_path(2), 4, 0);
    };
    let move_aside = |disk: &SimDisk, seed| -> Result<(), Error> {
        let (mut wal, _, _) = reopen_as(Open { quarantine: true, ..opening(disk, seed) })?;
        let through = wal.rotate()?;
        Ok(wal.remove_through(through)?)
    };
    let work = |disk: &SimDisk, (): &()| move_aside(disk, 3).is_ok();
    let audit = |disk: &SimDisk, (), _is_done: bool| {
        move_aside(disk, 4).expect("moved");
        assert!(disk.contents().contains_key(&quarantine_path(2)), "it is kept");
        reopen(disk, 5, 0).expect("no damage any more");
    };
    let operations = crash_at_every_operation(12, prepare, work, audit);
    assert!(operations > 20, "{operations}");
}

/// Auditor: wherever power fails while segments are written, removed and used again, each entry
/// that was acknowledged and not removed is there once.
#[test]
fn power_may_fail_at_any_operation_of_a_log_that_uses_segments_again() {
    let again = |disk: &SimDisk| Open { spare_bytes_min: 0, ..opening(disk, 3) };
    let live = |disk: &SimDisk, life: &mut Life| -> Result<(), Error> {
        let (mut wal, _, _) = reopen_as(again(disk))?;
        let mut sequence = 0;
        for _ in 0..4 {
            for _ in 0..3 {
                sequence += 1;
                let entry = entry("a", sequence, 60);
                life.tried.insert(("a".to_owned(), sequence));
                let lsn = append(&mut wal, std::slice::from_ref(&entry))?;
                life.acknowledged.insert(("a".to_owned(), sequence), (lsn, entry));
                wal.producers().lock().expect("not poisoned").insert("a", sequence);
            }
            life.removed_through = wal.last() - 1;
            wal.rotate()?;
            wal.remove_through(life.removed_through)?;
        }
        Ok(())
    };
    let work = |disk: &SimDisk, life: &Mutex<Life>| {
        live(disk, &mut life.lock().expect("not poisoned")).is_ok()
    };
    let look = |disk: &SimDisk, life: Mutex<Life>, _is_done: bool| {
        let life = life.into_inner().expect("not poisoned");
        let (wal, held, damages) = reopen_as(again(disk)).expect("no damage");
        assert_eq!(damages, []);
        audit(0, &wal, &held, &life, &mut BTreeMap::new());
    };
    let operations = crash_at_every_operation(6, |_| Mutex::new(Life::default()), work, look);
    assert!(operations > 60, "{operations}");
}

/// A first attempt to remove a segment may have done so without an answer.
#[test]
fn a_removal_whose_answer_is_lost_is_done() {
    let disk = SimDisk::default();
    let (mut wal, _) = reopen(&disk, 1, 0).expect("a new log");
    append(&mut wal, &[entry("a", 1, 50)]).expect("written");
    let through = wal.rotate().expect("rotated");
    // The removal is let through, and the sync of the folder is not.
    disk.fail_after(1, io::ErrorKind::Other);
    wal.remove_through(through).expect_err("not synced");
    disk.crash(&SeededEntropy::new(1));
    wal.remove_through(through).expect("gone");
    assert_eq!(disk.contents().len(), 1);
}

/// Auditor: with one bit flipped anywhere, a log that is opened all the same holds every entry but
/// those of the group or, in a header, the segment where it is; the damage is named, and the
/// segment is moved aside, not removed.
#[test]
fn damage_is_told_and_the_rest_stays_readable() {
    let disk = SimDisk::default();
    small_log(&disk, 12);
    let intact = disk.contents();
    let (_, all) = reopen(&disk, 2, 0).expect("intact");
    let (mut in_groups, mut in_headers) = (0, 0);
    for (path, bytes) in &intact {
        for at in 0..bytes.len() {
            let disk = SimDisk::default();
            small_log(&disk, 12);
            disk.flip_bit(path, at, (at % 8) as u8);
            if reopen(&disk, 2, 0).is_ok() {
                continue; // In the last group, where a crash would look the same.
            }
            let open = Open { quarantine: true, ..opening(&disk, 3) };
            let (mut wal, held, damages) = reopen_as(open).expect("opened all the same");
            let [damage] = damages.as_slice() else { panic!("{path:?} {at}: {damages:?}") };
            assert_eq!(Path::new(&damage.path), path);
            assert!(held.iter().all(|(lsn, entry)| all.get(lsn) == Some(entry)), "{at}");
            let lost = (all.len() - held.len()) as u64;
            match damage.batches_missing {
                Some(missing) => assert_eq!(missing, lost, "{path:?} {at}"),
                None => assert_eq!(Some(path), intact.keys().next_back(), "{at}"),
            }
            match damage.offset {
                0 => in_headers += 1,
                _ => {
                    assert_eq!(lost, 2, "{path:?} {at}");
                    in_groups += 1;
                }
            }
            let through = wal.rotate().expect("rotated");
            wal.remove_through(through).expect("removed");
            let left = disk.contents();
            assert!(left.contains_key(Path::new(&damage.moved_to)), "{left:?}");
            assert_eq!(left.len(), 2, "{left:?}");
            drop(wal);
            let last = held.into_keys().next_back();
            let (wal, held) = reopen(&disk, 4, 0).expect("no damage any more");
            assert!(held.is_empty() && Some(wal.last()) >= last, "{} {last:?}", wal.last());
        }
    }
    assert!(in_groups > 100 && in_headers > 100, "{in_groups} {in_headers}");
}

#[test]
fn a_missing_segment_is_told_and_the_rest_stays_readable() {
    let disk = SimDisk::default();
    small_log(&disk, 20);
    let (_, all) = reopen(&disk, 2, 0).expect("intact");
    oms_core::Disk::remove(&disk, &segment_path(2)).expect("removed");
    for seed in 3..5 {
        // Until what was read is in the tables, the damage is told again.
        let open = Open { quarantine: true, ..opening(&disk, seed) };
        let (_, held, damages) = reopen_as(open).expect("opened all the same");
        let [damage] = damages.as_slice() else { panic!("{damages:?}") };
        assert!(damage.reason.contains("before it is missing"), "{damage:?}");
        assert_eq!(damage.batches_missing, Some((all.len() - held.len()) as u64));
        assert!(!held.is_empty());
    }
}
