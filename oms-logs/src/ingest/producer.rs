//! Which batches of which producers were written.

use std::collections::BTreeMap;

/// The most producers whose batches are remembered.
pub(crate) const PRODUCERS_MAX: usize = 100_000;

/// The most runs of sequences of one producer: how far out of order its batches can arrive.
pub(crate) const RUNS_MAX: usize = 256;

/// What to do with a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It was never written.
    New,
    /// It was written; answer as the first time.
    Repeat,
    /// Too many sequences before it are missing.
    TooManyGaps,
    /// One producer more than can be remembered.
    TooManyProducers,
}

/// The written sequences of every producer, each as sorted runs `first..=last` that do not touch.
///
/// A producer counts from 1 without gaps, but its batches may overtake each other on the way here.
/// So what is kept is not the highest sequence but the set, which is one run as soon as the gaps
/// are filled.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Producers {
    written: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Producers {
    /// What to do with a batch.
    pub(crate) fn verdict(&self, producer: &str, sequence: u64) -> Verdict {
        let Some(runs) = self.written.get(producer) else {
            return if self.written.len() < PRODUCERS_MAX {
                Verdict::New
            } else {
                Verdict::TooManyProducers
            };
        };
        let after = runs.partition_point(|&(first, _)| first <= sequence);
        let before = after.checked_sub(1).and_then(|at| runs.get(at));
        if before.is_some_and(|&(_, last)| sequence <= last) {
            return Verdict::Repeat;
        }
        let touches = before.is_some_and(|&(_, last)| last + 1 == sequence)
            || runs.get(after).is_some_and(|&(first, _)| sequence + 1 == first);
        if touches || runs.len() < RUNS_MAX { Verdict::New } else { Verdict::TooManyGaps }
    }

    /// The highest sequence that was written; 0 if none was.
    pub(crate) fn last(&self, producer: &str) -> u64 {
        let runs = self.written.get(producer);
        runs.and_then(|runs| runs.last()).map_or(0, |&(_, last)| last)
    }

    /// Remembers a batch. One that was remembered before changes nothing.
    pub(crate) fn insert(&mut self, producer: &str, sequence: u64) {
        let runs = match self.written.get_mut(producer) {
            Some(runs) => runs,
            None => self.written.entry(producer.to_owned()).or_default(),
        };
        let after = runs.partition_point(|&(first, _)| first <= sequence);
        let (mut first, mut last) = (sequence, sequence);
        let mut replaced = after..after;
        if let Some(&(before_first, before_last)) = after.checked_sub(1).and_then(|at| runs.get(at))
        {
            if sequence <= before_last {
                return;
            }
            if before_last + 1 == sequence {
                first = before_first;
                replaced.start -= 1;
            }
        }
        if let Some(&(next_first, next_last)) = runs.get(after)
            && sequence.checked_add(1) == Some(next_first)
        {
            last = next_last;
            replaced.end += 1;
        }
        runs.splice(replaced, [(first, last)]);
    }

    /// Remembers the batches `first` to `last`.
    pub(crate) fn insert_run(&mut self, producer: &str, first: u64, last: u64) {
        let runs = self.written.entry(producer.to_owned()).or_default();
        runs.push((first, last));
        runs.sort_unstable();
        let mut united: Vec<(u64, u64)> = Vec::with_capacity(runs.len());
        for &(first, last) in runs.iter() {
            match united.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => united.push((first, last)),
            }
        }
        *runs = united;
    }

    /// Every producer with its runs, by name.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[(u64, u64)])> {
        self.written.iter().map(|(name, runs)| (name.as_str(), runs.as_slice()))
    }

    /// Takes a producer's runs as they were kept; `false` if they are not sorted runs. A group of
    /// batches may pass the limits a little, so they do not count here.
    #[must_use]
    pub(crate) fn restore(&mut self, producer: String, runs: Vec<(u64, u64)>) -> bool {
        let is_sorted = runs.iter().all(|&(first, last)| first <= last)
            && runs.windows(2).all(|pair| match pair {
                [(_, last), (first, _)] => last.checked_add(1).is_some_and(|next| next < *first),
                _ => true,
            });
        let is_taken = is_sorted && !self.written.contains_key(&producer);
        if is_taken {
            self.written.insert(producer, runs);
        }
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn runs_join_when_the_gap_is_filled() {
        let mut producers = Producers::default();
        for sequence in [1, 2, 4, 5, 3] {
            assert_eq!(producers.verdict("a", sequence), Verdict::New);
            producers.insert("a", sequence);
        }
        assert_eq!(producers.iter().next(), Some(("a", &[(1, 5)][..])));
        assert_eq!(producers.verdict("a", 3), Verdict::Repeat);
        assert_eq!(producers.verdict("b", 3), Verdict::New);
    }

    #[test]
    fn gaps_have_a_limit_and_filling_one_is_always_allowed() {
        let mut producers = Producers::default();
        for run in 0..RUNS_MAX as u64 {
            producers.insert("a", 1 + 3 * run);
        }
        assert_eq!(producers.verdict("a", 10_000), Verdict::TooManyGaps);
        assert_eq!(producers.verdict("a", 2), Verdict::New);
        assert_eq!(producers.verdict("a", 3), Verdict::New);
    }

    #[test]
    fn the_largest_sequences_do_not_overflow() {
        let mut producers = Producers::default();
        for sequence in [u64::MAX, u64::MAX - 1, 0] {
            assert_eq!(producers.verdict("a", sequence), Verdict::New);
            producers.insert("a", sequence);
            assert_eq!(producers.verdict("a", sequence), Verdict::Repeat);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(sequences in prop::collection::vec(1u64..60, 0..200)) {
            let (mut producers, mut set) = (Producers::default(), BTreeSet::new());
            for sequence in sequences {
                let is_new = producers.verdict("p", sequence) == Verdict::New;
                prop_assert_eq!(is_new, !set.contains(&sequence));
                producers.insert("p", sequence);
                set.insert(sequence);
            }
            let kept: Vec<u64> = producers
                .iter()
                .flat_map(|(_, runs)| runs.iter().flat_map(|&(first, last)| first..=last))
                .collect();
            prop_assert_eq!(kept, set.into_iter().collect::<Vec<_>>());
            let mut restored = Producers::default();
            for (name, runs) in producers.iter() {
                prop_assert!(restored.restore(name.to_owned(), runs.to_vec()));
            }
            prop_assert_eq!(&restored, &producers);
            let mut added = Producers::default();
            added.insert("p", 7);
            producers.insert("p", 7);
            for (name, runs) in restored.iter() {
                for &(first, last) in runs {
                    added.insert_run(name, first, last);
                }
            }
            prop_assert_eq!(added, producers);
        }
    }
}
