//! Which bytes of a disk come from where.

use crate::replication::Stamp;
use std::collections::BTreeMap;

/// Where an extent's bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// All zeros.
    Zeros,
    /// In a segment of a log.
    Segment {
        /// The segment's number.
        number: u64,
        /// Position in the segment's file, in bytes.
        at: u64,
    },
}

impl Source {
    /// The source of the bytes `skip` further on.
    const fn skipped(self, skip: u64) -> Self {
        match self {
            Self::Zeros => Self::Zeros,
            Self::Segment { number, at } => Self::Segment { number, at: at + skip },
        }
    }
}

/// One run of bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extent {
    /// How many bytes.
    pub length: u64,
    /// Which write they are of; the higher wins.
    pub rank: Stamp,
    /// Where they are.
    pub source: Source,
}

/// The extents of a disk that differ from what lies below.
///
/// An extent hides the parts of others that have a lower or the same rank, whatever the order of
/// insertion: blocks copied during a resynchronization carry the rank at which it began and so
/// never hide a write that came after.
#[derive(Clone, Debug, Default)]
pub struct ExtentMap {
    extents: BTreeMap<u64, Extent>,
}

impl ExtentMap {
    /// Adds `length` bytes at `start`.
    pub fn insert(&mut self, start: u64, length: u64, rank: Stamp, source: Source) {
        let end = start + length;
        let new = Extent { length, rank, source };
        let mut filled = start;
        for (old_start, old) in self.take_overlapping(start, end) {
            let old_end = old_start + old.length;
            self.put(old_start, old, old_start, start.min(old_end));
            self.put(old_start, old, end.max(old_start), old_end);
            if old.rank > rank {
                let (keep_start, keep_end) = (old_start.max(start), old_end.min(end));
                self.put(old_start, old, keep_start, keep_end);
                self.put(start, new, filled, keep_start);
                filled = keep_end;
            }
        }
        self.put(start, new, filled, end);
    }

    /// The extents that touch `start..end`, cut to it, in order.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, Extent)> + '_ {
        let before = self.extents.range(..start).next_back().map(|(at, _)| *at);
        let from = before.unwrap_or(start);
        self.extents.range(from..end.max(from)).filter_map(move |(at, extent)| {
            let (cut_start, cut_end) = ((*at).max(start), (at + extent.length).min(end));
            (cut_start < cut_end).then(|| (cut_start, cut(*at, *extent, cut_start, cut_end)))
        })
    }

    /// Every extent, in order of the disk.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Extent)> + '_ {
        self.extents.iter().map(|(start, extent)| (*start, *extent))
    }

    /// How many extents.
    #[must_use]
    pub fn len(&self) -> usize {
        self.extents.len()
    }

    /// Whether nothing differs from what lies below.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    fn take_overlapping(&mut self, start: u64, end: u64) -> Vec<(u64, Extent)> {
        let before = self.extents.range(..start).next_back();
        let from = before.filter(|(at, old)| *at + old.length > start).map_or(start, |(at, _)| *at);
        let starts: Vec<u64> = self.extents.range(from..end.max(from)).map(|(at, _)| *at).collect();
        starts.into_iter().filter_map(|at| self.extents.remove_entry(&at)).collect()
    }

    /// Puts the part `from..to` of an extent that begins at `start`, if there is any.
    fn put(&mut self, start: u64, extent: Extent, from: u64, to: u64) {
        if from < to {
            self.extents.insert(from, cut(start, extent, from, to));
        }
    }
}

/// The part `from..to` of an extent that begins at `start`.
const fn cut(start: u64, extent: Extent, from: u64, to: u64) -> Extent {
    Extent { length: to - from, rank: extent.rank, source: extent.source.skipped(from - start) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DISK: usize = 64;

    proptest! {
        /// Byte by byte, the highest rank wins, and of equal ranks the later insertion.
        #[test]
        fn agrees_with_a_byte_map(
            writes in proptest::collection::vec((0..DISK, 1..20_usize, 0..6_u64), 0..40),
        ) {
            let mut map = ExtentMap::default();
            let mut model: Vec<Option<(Stamp, u64, u64)>> = vec![None; DISK];
            for (number, (start, length, rank)) in writes.into_iter().enumerate() {
                let length = length.min(DISK - start);
                let rank = Stamp { epoch: 1, sequence: rank };
                let source = Source::Segment { number: number as u64, at: 1000 };
                map.insert(start as u64, length as u64, rank, source);
                for (skip, byte) in model[start..start + length].iter_mut().enumerate() {
                    if byte.is_none_or(|(old, ..)| old <= rank) {
                        *byte = Some((rank, number as u64, 1000 + skip as u64));
                    }
                }
            }
            let mut seen: Vec<Option<(Stamp, u64, u64)>> = vec![None; DISK];
            for (start, extent) in map.overlapping(0, DISK as u64) {
                let Source::Segment { number, at } = extent.source else { unreachable!() };
                for skip in 0..extent.length {
                    let byte = &mut seen[(start + skip) as usize];
                    prop_assert!(byte.is_none(), "extents overlap");
                    *byte = Some((extent.rank, number, at + skip));
                }
            }
            prop_assert_eq!(seen, model);
        }
    }
}
