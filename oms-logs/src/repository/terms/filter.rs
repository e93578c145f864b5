//! A filter of one block: which hashes may be in it.

use super::take;
use bytes::{Buf as _, Bytes};

/// Lines that a filter begins with; it is folded until it is about half full.
const LINES_LOG2_MAX: u8 = 11;

/// Bytes of a line: those of a line of the processor's cache.
const LINE_BYTES: usize = 64;

/// Words of a line.
const LINE_WORDS: usize = 8;

/// Bits that a hash sets, all in one line.
const BITS: u32 = 4;

/// A filter is folded while no more than so many of 100 bits are set after it.
const FILL_PERCENT_MAX: usize = 55;

/// A filter with more than so many of 100 bits set answers too often that a term may be there.
const USEFUL_PERCENT_MAX: usize = 75;

/// A Bloom filter of lines: a hash chooses a line by its low bits and four bits in it by others, so
/// that folding the upper half of the lines over the lower one keeps what is in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    words: Vec<u64>,
}

/// The lines' count less one, as a mask.
const fn mask(words: usize) -> usize {
    words / LINE_WORDS - 1
}

/// The word of a line and the bit in it, for each of a hash's bits.
fn places(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..BITS).map(move |nth| {
        let bit = (hash >> (28 + 9 * nth)) as usize % (LINE_BYTES * 8);
        (bit / 64, 1 << (bit % 64))
    })
}

impl Filter {
    pub(super) fn new() -> Self {
        Self { words: vec![0; LINE_WORDS << LINES_LOG2_MAX] }
    }

    pub(super) fn insert(&mut self, hash: u64) {
        let line = (hash as usize & mask(self.words.len())) * LINE_WORDS;
        if let Some(line) = self.words.get_mut(line..line + LINE_WORDS) {
            for (word, bit) in places(hash) {
                line[word] |= bit;
            }
        }
    }

    pub(super) fn may_have(&self, hash: u64) -> bool {
        let line = (hash as usize & mask(self.words.len())) * LINE_WORDS;
        let line = self.words.get(line..line + LINE_WORDS).unwrap_or_default();
        places(hash).all(|(word, bit)| line.get(word).is_none_or(|word| word & bit != 0))
    }

    /// As small as it gets without being too full; none if it is of no use.
    pub(super) fn shrunk(mut self) -> Option<Self> {
        let set =
            |words: &[u64]| words.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        if set(&self.words) * 100 > self.words.len() * 64 * USEFUL_PERCENT_MAX {
            return None;
        }
        while self.words.len() > LINE_WORDS {
            let (lower, upper) = self.words.split_at(self.words.len() / 2);
            let folded: Vec<u64> = lower.iter().zip(upper).map(|(low, high)| low | high).collect();
            if set(&folded) * 100 > folded.len() * 64 * FILL_PERCENT_MAX {
                break;
            }
            self.words = folded;
        }
        Some(self)
    }

    /// The logarithm of the count of lines.
    pub(super) const fn log2(&self) -> u8 {
        (self.words.len() / LINE_WORDS).trailing_zeros() as u8
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }

    pub(super) fn read(log2: u8, from: &mut Bytes) -> Result<Self, String> {
        if log2 > LINES_LOG2_MAX {
            return Err(format!("a filter has 2^{log2} lines"));
        }
        let mut bytes = take(from, LINE_BYTES << log2)?;
        let mut words = Vec::with_capacity(LINE_WORDS << log2);
        while bytes.has_remaining() {
            words.push(bytes.get_u64_le());
        }
        Ok(Self { words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_in_is_there_also_when_folded(hashes in prop::collection::vec(any::<u64>(), 0..3_000)) {
            let mut filter = Filter::new();
            hashes.iter().for_each(|hash| filter.insert(*hash));
            let filter = filter.shrunk().expect("of use");
            prop_assert!(hashes.iter().all(|hash| filter.may_have(*hash)));
            let mut bytes = Vec::new();
            filter.write(&mut bytes);
            let read = Filter::read(filter.log2(), &mut bytes.into());
            prop_assert_eq!(read, Ok(filter));
        }
    }

    #[test]
    fn few_others_are_taken_for_there() {
        let hash =
            |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17).wrapping_mul(n | 1);
        let mut filter = Filter::new();
        (1..6_000).for_each(|n| filter.insert(hash(n)));
        let filter = filter.shrunk().expect("of use");
        let wrong = (1_000_000..1_010_000).filter(|n| filter.may_have(hash(*n))).count();
        assert!(wrong < 1_500, "{wrong} of 10,000");
    }

    #[test]
    fn one_that_is_full_is_of_no_use() {
        let mut filter = Filter::new();
        filter.words.fill(u64::MAX);
        assert_eq!(filter.shrunk(), None);
        assert_eq!(Filter::new().shrunk().map(|filter| filter.log2()), Some(0));
    }
}
