//! What every [`Entropy`] must do. A suite cannot show that bytes are random; it finds generators
//! that are plainly not.

use crate::entropy::{Entropy, EntropyExt};
use std::collections::BTreeSet;

/// The longest request of a case, in bytes: some words and a part of one.
const BYTES_MAX: usize = 70;

/// How many numbers a case draws.
const DRAWS: usize = 4_096;

/// How many threads draw at a time.
const DRAWERS: usize = 4;

/// One requirement: its name and the function that checks it on two generators of which nobody
/// knows that they are the same.
pub type Case = (&'static str, fn(&dyn Entropy, &dyn Entropy));

/// Every byte that is asked for is drawn, however many are.
pub fn every_byte_is_filled(entropy: &dyn Entropy, _other: &dyn Entropy) {
    entropy.fill(&mut []);
    for length in 1..=BYTES_MAX {
        let mut seen = vec![BTreeSet::new(); length];
        for _ in 0..32 {
            let mut bytes = vec![0; length];
            entropy.fill(&mut bytes);
            for (byte, seen) in bytes.iter().zip(&mut seen) {
                seen.insert(*byte);
            }
        }
        let fewest = seen.iter().map(BTreeSet::len).min();
        assert!(fewest > Some(16), "a byte of {length} takes {fewest:?} values in 32 draws");
    }
}

/// Every bit is set about half of the time.
pub fn every_bit_is_drawn(entropy: &dyn Entropy, _other: &dyn Entropy) {
    let mut set = [0_usize; 64];
    for _ in 0..DRAWS {
        let number = entropy.number();
        (0..64).for_each(|bit| set[bit] += usize::from(number >> bit & 1 == 1));
    }
    // Ten times the standard deviation.
    let (least, most) = (DRAWS / 2 - 320, DRAWS / 2 + 320);
    for (bit, count) in set.into_iter().enumerate() {
        assert!((least..=most).contains(&count), "bit {bit} is set {count} times of {DRAWS}");
    }
}

/// Nothing is drawn twice, by one or by many threads: ids and nonces rest on it.
pub fn nothing_is_drawn_twice(entropy: &dyn Entropy, _other: &dyn Entropy) {
    let draw = || (0..DRAWS).map(|_| entropy.uuid()).collect::<Vec<_>>();
    let drawn: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..DRAWERS).map(|_| scope.spawn(draw)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a drawer")).collect()
    });
    let count = drawn.len();
    assert_eq!(drawn.into_iter().collect::<BTreeSet<_>>().len(), count);
}

/// Another generator draws something else: keys of two machines differ.
pub fn another_draws_something_else(entropy: &dyn Entropy, other: &dyn Entropy) {
    let draw = |entropy: &dyn Entropy| (0..DRAWS).map(|_| entropy.uuid()).collect::<BTreeSet<_>>();
    assert!(draw(entropy).is_disjoint(&draw(other)));
}

macro_rules! cases {
    ($($case:ident),+) => {
        /// Every requirement.
        pub const CASES: &[Case] = &[$((stringify!($case), $case)),+];
    };
}
cases!(
    every_byte_is_filled,
    every_bit_is_drawn,
    nothing_is_drawn_twice,
    another_draws_something_else
);

/// Runs every requirement as a test of its own, each on two generators; the factory is told which
/// of the two to make, 1 or 2.
#[macro_export]
macro_rules! entropy_conformance {
    ($make:expr) => {
        $crate::entropy_conformance!(@each $make;
            every_byte_is_filled, every_bit_is_drawn, nothing_is_drawn_twice,
            another_draws_something_else);
    };
    (@each $make:expr; $($case:ident),+) => {
        mod conformance {
            #[allow(unused_imports, reason = "the factory may need no imports")]
            use super::*;
            $(#[test]
            fn $case() {
                $crate::testkit::entropy::$case(&($make)(1), &($make)(2));
            })+
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::entropy::{SeededEntropy, SystemEntropy};

    mod system {
        use super::*;
        crate::entropy_conformance!(|_which| SystemEntropy);
    }

    mod seeded {
        use super::*;
        crate::entropy_conformance!(SeededEntropy::new);
    }
}
