//! Randomness, as a dependency.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// Where ids, nonces, keys and jitter come from.
pub trait Entropy: Debug + Send + Sync {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// Conveniences on every [`Entropy`].
pub trait EntropyExt: Entropy {
    /// A random number of 64 bits.
    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number in `0..end`, or 0 if `end` is 0. The bias is below 2⁻³² for ends below 2³².
    fn below(&self, end: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }

    /// A random UUID, version 4. See RFC 9562, 5.4.
    fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

impl<T: Entropy + ?Sized> EntropyExt for T {}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// If the operating system cannot give random bytes: a key drawn from anything else would be
    /// worth nothing, so there is no way on.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system's generator")]
    #[expect(clippy::panic, reason = "no safe way on without randomness")]
    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            panic!("the operating system gave no random bytes: {error}");
        }
    }
}

/// A repeatable generator for simulations and tests (SplitMix64). Never for keys.
#[derive(Debug)]
pub struct SeededEntropy {
    state: Mutex<u64>,
}

impl SeededEntropy {
    /// The generator that gives the same bytes for the same `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_another_seed_differs() {
        let draw = |seed| SeededEntropy::new(seed).number();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    /// First outputs of the published SplitMix64 reference for seed 1234567.
    #[test]
    fn matches_the_reference_generator() {
        let entropy = SeededEntropy::new(1_234_567);
        assert_eq!(entropy.number(), 6_457_827_717_110_365_317);
        assert_eq!(entropy.number(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_stays_below() {
        let entropy = SeededEntropy::new(1);
        assert!((0..1000).all(|_| entropy.below(3) < 3));
        assert_eq!(entropy.below(0), 0);
    }

    #[test]
    fn uuids_are_version_four() {
        assert_eq!(SystemEntropy.uuid().get_version_num(), 4);
    }
}
