//! What the machine's disk must be, whatever happened.

use jiff::Timestamp;
use oms_recovery::machine::ChosenPoint;
use std::collections::BTreeMap;

/// What bytes are told apart by.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

#[derive(Debug)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

impl Write {
    fn apply(&self, disk: &mut [u8]) {
        disk[self.offset..self.offset + self.bytes.len()].copy_from_slice(&self.bytes);
    }
}

/// The disk of a machine since production last moved.
#[derive(Debug)]
pub(super) struct Model {
    /// What the machine reads.
    disk: Vec<u8>,
    /// What was there when it was last flushed, and every write since.
    flushed: Vec<u8>,
    unflushed: Vec<Write>,
    /// Whether any of these writes was in no log: after a crash each may be there or not.
    is_loose: bool,
    /// What the disk was after each write, in order.
    trail: Vec<u32>,
    /// The first of these that the replica can show: it holds every write up to there.
    held: usize,
    /// What it was at each time at which a recovery point may have been taken, ever.
    times: BTreeMap<Timestamp, u32>,
    /// The trail of the site that production came from.
    source: Vec<u32>,
}

impl Model {
    pub(super) fn new(disk: Vec<u8>) -> Self {
        Self {
            trail: vec![sum(&disk)],
            flushed: disk.clone(),
            unflushed: Vec::new(),
            is_loose: false,
            held: 0,
            times: BTreeMap::new(),
            source: Vec::new(),
            disk,
        }
    }

    pub(super) fn sum(&self) -> u32 {
        sum(&self.disk)
    }

    pub(super) fn write(&mut self, offset: usize, bytes: Vec<u8>, is_logged: bool) {
        let write = Write { offset, bytes };
        write.apply(&mut self.disk);
        self.unflushed.push(write);
        self.is_loose |= !is_logged;
        self.trail.push(sum(&self.disk));
    }

    pub(super) fn flush(&mut self) {
        self.flushed.clone_from(&self.disk);
        self.unflushed.clear();
        self.is_loose = false;
    }

    /// The replica holds everything.
    pub(super) fn hold(&mut self) {
        self.flush();
        self.held = self.trail.len() - 1;
    }

    /// A recovery point may be taken now.
    pub(super) fn note(&mut self, now: Timestamp) {
        let micros = Timestamp::from_microsecond(now.as_microsecond()).expect("within range");
        let earlier = self.times.insert(micros, sum(&self.disk));
        assert!(earlier.is_none(), "two operations at one time");
    }

    /// Whether the disk found after a crash is one that the machine can be left with: flushed writes
    /// are there, and of the others a first part, or any part of what was in no log. It is the disk
    /// from here on.
    pub(super) fn adopt(&mut self, found: Vec<u8>, is_past_log: bool) -> bool {
        let mut disk = self.flushed.clone();
        self.is_loose |= is_past_log && !self.unflushed.is_empty();
        if self.is_loose {
            let mut may_be: Vec<bool> = disk.iter().zip(&found).map(|(a, b)| a == b).collect();
            for Write { offset, bytes } in &self.unflushed {
                for (at, byte) in (*offset..).zip(bytes) {
                    may_be[at] |= found[at] == *byte;
                }
            }
            if may_be.contains(&false) {
                return false;
            }
        } else {
            let mut writes = self.unflushed.iter();
            while disk != found {
                let Some(write) = writes.next() else { return false };
                write.apply(&mut disk);
            }
            self.unflushed.clear();
            self.flushed.clone_from(&found);
        }
        self.disk = found;
        self.trail.push(sum(&self.disk));
        true
    }

    /// Whether bytes are the disk as of a point of the replica.
    pub(super) fn is_at(&self, point: ChosenPoint, bytes: &[u8]) -> bool {
        is_one(&self.times, &self.trail[self.held..], point, bytes)
    }

    /// Whether bytes are the disk as of a point of the site that production came from.
    pub(super) fn is_of_source(&self, point: ChosenPoint, bytes: &[u8]) -> bool {
        is_one(&self.times, &self.source, point, bytes)
    }

    /// Production runs on this disk from here on.
    pub(super) fn move_to(&mut self, disk: Vec<u8>, has_changed_site: bool) {
        let source = match has_changed_site {
            true => self.trail.split_off(self.held),
            false => std::mem::take(&mut self.source),
        };
        *self = Self { times: std::mem::take(&mut self.times), source, ..Self::new(disk) };
    }
}

fn is_one(
    times: &BTreeMap<Timestamp, u32>,
    trail: &[u32],
    point: ChosenPoint,
    bytes: &[u8],
) -> bool {
    match point.time {
        Some(time) => times.get(&time) == Some(&sum(bytes)),
        None => trail.contains(&sum(bytes)),
    }
}
