//! Content-defined chunking: where files are cut into blobs.
//!
//! A gear hash rolls over the last 64 bytes; a cut follows the byte at which its top bits are
//! zero. Below the average size more bits must be zero than above it, which gathers the sizes
//! around the average. Cut points depend only on content, so bytes inserted into a file change
//! the chunk they fall in and rarely more than the next one.
//!
//! The 256 words of the gear table are derived from the repository's sealed configuration, so
//! that the sizes of stored chunks do not tell an outsider which known file they came from.
//! Readers only join chunks: nothing outside this file depends on where the cuts are.

use super::format::Config;
use sha2::{Digest, Sha256};
use std::fmt;

/// The smallest chunk but the last of a file, in bytes. Smaller files are one blob, as in restic.
pub const CHUNK_BYTES_MIN: usize = 512 << 10;

/// The size around which chunks gather, in bytes.
pub const CHUNK_BYTES_AVERAGE: usize = 1 << 20;

/// The largest chunk, in bytes.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;

/// How many bytes the rolling hash remembers.
const WINDOW_BYTES: usize = 64;

/// The top 20 bits: one cut in 2^20 bytes, up to the average size.
const MASK_SMALL: u64 = !(u64::MAX >> 20);

/// The top 19 bits: one cut in 2^19 bytes, above it.
const MASK_LARGE: u64 = !(u64::MAX >> 19);

/// Derived from the configuration; the same for every writer of one repository.
#[derive(Clone)]
pub struct GearTable(Box<[u64; 256]>);

impl fmt::Debug for GearTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GearTable(***)")
    }
}

impl GearTable {
    /// The table of a repository: SHA-256 in counter mode over its id and polynomial.
    #[must_use]
    pub fn derive(config: &Config) -> Self {
        let mut table = Box::new([0; 256]);
        for (counter, words) in table.chunks_exact_mut(4).enumerate() {
            let digest = Sha256::new()
                .chain_update(b"oms-backup gear table 1")
                .chain_update(config.id.as_bytes())
                .chain_update(config.chunker_polynomial.to_le_bytes())
                .chain_update((counter as u64).to_le_bytes())
                .finalize();
            for (word, bytes) in words.iter_mut().zip(digest.chunks_exact(8)) {
                *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            }
        }
        Self(table)
    }
}

/// Finds the cuts of one file, fed in pieces of any size.
#[derive(Debug)]
pub struct Chunker<'a> {
    gear: &'a [u64; 256],
    hash: u64,
    /// Bytes of the current chunk seen so far.
    length: usize,
}

impl<'a> Chunker<'a> {
    /// A chunker at the start of a file.
    #[must_use]
    pub fn new(table: &'a GearTable) -> Self {
        Self { gear: &table.0, hash: 0, length: 0 }
    }

    /// Looks at the next bytes of the file. If a chunk ends within them, answers how many of them
    /// belong to it; the caller then feeds the rest again. Otherwise all of them belong to the
    /// current chunk.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        // The first bytes of a chunk cannot be a cut, and only the last 64 before the minimum
        // are still in the hash when it is reached.
        let skip = (CHUNK_BYTES_MIN - WINDOW_BYTES).saturating_sub(self.length).min(bytes.len());
        let warm = CHUNK_BYTES_MIN.saturating_sub(self.length).min(bytes.len());
        let small = CHUNK_BYTES_AVERAGE.saturating_sub(self.length).min(bytes.len());
        let large = (CHUNK_BYTES_MAX - self.length).min(bytes.len());
        let mut hash = self.hash;
        for byte in &bytes[skip..warm] {
            hash = (hash << 1).wrapping_add(self.gear[usize::from(*byte)]);
        }
        self.hash = hash;
        let cut = self
            .scan(&bytes[warm.min(small)..small], MASK_SMALL)
            .map(|at| warm + at)
            .or_else(|| self.scan(&bytes[small.max(warm)..large], MASK_LARGE).map(|at| small + at))
            .or_else(|| (self.length + large == CHUNK_BYTES_MAX).then_some(large));
        match cut {
            Some(_) => (self.hash, self.length) = (0, 0),
            None => self.length += bytes.len(),
        }
        cut
    }

    /// The number of bytes up to and with the first one at which the hash fits the mask.
    fn scan(&mut self, bytes: &[u8], mask: u64) -> Option<usize> {
        let mut hash = self.hash;
        for (at, byte) in bytes.iter().enumerate() {
            hash = (hash << 1).wrapping_add(self.gear[usize::from(*byte)]);
            if hash & mask == 0 {
                self.hash = hash;
                return Some(at + 1);
            }
        }
        self.hash = hash;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::Entropy as _;
    use oms_core::entropy::SeededEntropy;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn table() -> GearTable {
        GearTable::derive(&Config::draw(&SeededEntropy::new(11)))
    }

    fn random(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        SeededEntropy::new(seed).fill(&mut bytes);
        bytes
    }

    /// Cuts `bytes`, fed in pieces of `piece` bytes.
    fn cut(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let table = table();
        let mut chunker = Chunker::new(&table);
        let (mut chunks, mut chunk) = (Vec::new(), Vec::new());
        for mut fed in bytes.chunks(piece) {
            while let Some(end) = chunker.feed(fed) {
                chunk.extend_from_slice(&fed[..end]);
                chunks.push(std::mem::take(&mut chunk));
                fed = &fed[end..];
            }
            chunk.extend_from_slice(fed);
        }
        if !chunk.is_empty() {
            chunks.push(chunk);
        }
        chunks
    }

    #[test]
    fn sizes_keep_their_bounds_and_gather_around_the_average() {
        let chunks = cut(&random(1, 64 << 20), 256 << 10);
        let (last, others) = chunks.split_last().expect("some");
        assert!(others.iter().all(|c| (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&c.len())));
        assert!(last.len() <= CHUNK_BYTES_MAX);
        let mean = others.iter().map(Vec::len).sum::<usize>() / others.len();
        assert!((900 << 10..1_500 << 10).contains(&mean), "{mean}");
    }

    #[test]
    fn zeros_are_cut_at_the_maximum_or_earlier_but_always_alike() {
        let chunks = cut(&vec![0; 20 << 20], 1 << 20);
        let distinct: HashSet<&Vec<u8>> = chunks.iter().collect();
        assert!(distinct.len() <= 2, "{}", distinct.len());
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let before = random(2, 32 << 20);
        let mut after = before.clone();
        after.splice(5_000_000..5_000_000, *b"inserted");
        let kept: HashSet<Vec<u8>> = cut(&before, 1 << 20).into_iter().collect();
        let changed = cut(&after, 1 << 20).into_iter().filter(|c| !kept.contains(c)).count();
        assert!(changed <= 3, "{changed}");
    }

    #[test]
    fn another_repository_cuts_elsewhere() {
        let bytes = random(3, 8 << 20);
        let other = GearTable::derive(&Config::draw(&SeededEntropy::new(12)));
        let first = Chunker::new(&other).feed(&bytes);
        assert_ne!(first, Chunker::new(&table()).feed(&bytes));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn chunks_join_to_the_input_however_it_is_fed(
            seed: u64,
            length in 0usize..6_000_000,
            piece in 1usize..3_000_000,
        ) {
            // Pieces of a few bytes would only make the test slow.
            let piece = piece.max(length / 1000 + 1);
            let bytes = random(seed, length);
            let chunks = cut(&bytes, piece);
            prop_assert_eq!(&chunks.concat(), &bytes);
            prop_assert_eq!(chunks, cut(&bytes, usize::MAX));
        }
    }
}
