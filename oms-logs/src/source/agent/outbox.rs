//! Which batch goes next, and when: the agent's decisions, without its I/O.

use oms_core::{Entropy, EntropyExt};
use std::collections::VecDeque;
use std::time::Duration;

/// The most collections in one round, so that a round ends however fast a log grows.
pub(super) const COLLECTIONS_PER_ROUND_MAX: usize = 64;

/// The delay after the first failed delivery. Each further failure doubles it.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest delay.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Input {
    /// A round begins; what an interrupted round had under way is forgotten.
    Begin,
    /// A batch was stored.
    Spooled { sequence: u64, bytes: u64 },
    /// The collection is over.
    Collected { more: bool },
    /// The sink has it durably.
    Acknowledged { sequence: u64 },
    /// The sink will never take it.
    Refused { sequence: u64 },
    /// A refused batch was put aside and another stored in its place.
    Replaced { sequence: u64 },
    /// The sink cannot take it now.
    Deferred { sequence: u64, retry_after: Option<Duration> },
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    /// Collect from the data sources, and store what they gave.
    Collect,
    /// Hand the stored batch to the sink.
    Send { sequence: u64 },
    /// Remove the stored batch.
    Forget { sequence: u64 },
    /// Put the stored batch aside and store a notice of that in its place: sequences have no gaps.
    Replace { sequence: u64 },
}

/// The batches between the spool and the sink, in order and one at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    /// The last sequence that the sink has.
    acknowledged: u64,
    /// The sizes of the stored batches behind it.
    pending: VecDeque<u64>,
    sending: bool,
    wants_collection: bool,
    collections: usize,
    /// Not before this may a batch be sent.
    blocked_until: Option<Duration>,
    failures: u32,
    /// The sequence that holds a notice in place of a refused batch.
    replaced: Option<u64>,
    /// Whether the last round left a collection out because the spool was full.
    full: bool,
    batches_max: usize,
    bytes_max: u64,
}

impl Outbox {
    pub(super) fn new(
        acknowledged: u64,
        pending: impl IntoIterator<Item = u64>,
        batches_max: usize,
        bytes_max: u64,
    ) -> Self {
        let pending = pending.into_iter().collect();
        Self { acknowledged, pending, batches_max, bytes_max, ..Self::default() }
    }

    /// The sequence of the next batch that it does not know of.
    pub(super) fn next_sequence(&self) -> u64 {
        self.acknowledged + self.pending.len() as u64 + 1
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// How long until a batch may be sent that is waiting.
    pub(super) fn retry_in(&self, now: Duration) -> Option<Duration> {
        (!self.pending.is_empty()).then_some(self.blocked_until?.saturating_sub(now))
    }

    /// Takes note of what happened and decides what to do. `now` never goes backwards.
    pub(super) fn step(
        &mut self,
        now: Duration,
        entropy: &dyn Entropy,
        input: Input,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let first = self.acknowledged + 1;
        match input {
            Input::Begin => {
                self.sending = false;
                self.wants_collection = true;
                self.collections = 0;
                self.full = false;
            }
            Input::Spooled { sequence, bytes } => {
                if sequence == self.next_sequence() {
                    self.pending.push_back(bytes);
                }
                return effects;
            }
            Input::Collected { more } => self.wants_collection = more,
            // An answer for another batch is from before an interruption.
            Input::Acknowledged { sequence } if sequence == first => {
                self.pending.pop_front();
                self.acknowledged = sequence;
                self.sending = false;
                self.failures = 0;
                self.blocked_until = None;
                effects.push(Effect::Forget { sequence });
            }
            Input::Refused { sequence } if sequence == first => {
                if self.replaced == Some(sequence) {
                    // A sink that refuses even the notice is in trouble of its own.
                    self.defer(now, entropy, None);
                } else {
                    effects.push(Effect::Replace { sequence });
                    return effects;
                }
            }
            Input::Replaced { sequence } if sequence == first => {
                self.replaced = Some(sequence);
                self.sending = false;
            }
            Input::Deferred { sequence, retry_after } if sequence == first => {
                self.defer(now, entropy, retry_after);
            }
            Input::Acknowledged { .. }
            | Input::Refused { .. }
            | Input::Replaced { .. }
            | Input::Deferred { .. } => {}
        }
        effects.extend(self.next(now));
        effects
    }

    fn defer(&mut self, now: Duration, entropy: &dyn Entropy, retry_after: Option<Duration>) {
        self.sending = false;
        let doubled = RETRY_MIN.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
        // Half of the delay is drawn, so that many agents do not come back together.
        let half = doubled / 2;
        let drawn = Duration::from_millis(entropy.below(half.as_millis() as u64 + 1));
        let delay = retry_after.map_or(half + drawn, |after| after.min(RETRY_MAX));
        self.failures = self.failures.saturating_add(1);
        self.blocked_until = Some(now.saturating_add(delay));
    }

    fn next(&mut self, now: Duration) -> Option<Effect> {
        if self.sending {
            return None;
        }
        let blocked = self.blocked_until.is_some_and(|until| now < until);
        if !self.pending.is_empty() && !blocked {
            self.sending = true;
            return Some(Effect::Send { sequence: self.acknowledged + 1 });
        }
        if !self.wants_collection || self.collections >= COLLECTIONS_PER_ROUND_MAX {
            return None;
        }
        self.wants_collection = false;
        let bytes = self.pending.iter().copied().fold(0, u64::saturating_add);
        if self.pending.len() >= self.batches_max || bytes >= self.bytes_max {
            self.full = true;
            return None;
        }
        self.collections += 1;
        Some(Effect::Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;

    const ZERO: Duration = Duration::ZERO;

    fn step(outbox: &mut Outbox, now: u64, input: Input) -> Vec<Effect> {
        outbox.step(Duration::from_secs(now), &SeededEntropy::new(1), input)
    }

    #[test]
    fn what_waits_is_sent_before_more_is_collected() {
        let mut outbox = Outbox::new(4, [10, 10], 100, 1000);
        assert_eq!(outbox.next_sequence(), 7);
        assert_eq!(step(&mut outbox, 0, Input::Begin), [Effect::Send { sequence: 5 }]);
        let ack = |sequence| Input::Acknowledged { sequence };
        assert_eq!(
            step(&mut outbox, 0, ack(5)),
            [Effect::Forget { sequence: 5 }, Effect::Send { sequence: 6 }]
        );
        // A late answer for a batch that is gone changes nothing.
        assert_eq!(step(&mut outbox, 0, ack(5)), []);
        assert_eq!(step(&mut outbox, 0, ack(6)), [Effect::Forget { sequence: 6 }, Effect::Collect]);
        let spooled = Input::Spooled { sequence: 7, bytes: 3 };
        assert_eq!(step(&mut outbox, 0, spooled), []);
        assert_eq!(step(&mut outbox, 0, spooled), [], "told twice");
        let more = Input::Collected { more: true };
        assert_eq!(step(&mut outbox, 0, more), [Effect::Send { sequence: 7 }]);
        assert_eq!(step(&mut outbox, 0, ack(7)), [Effect::Forget { sequence: 7 }, Effect::Collect]);
        assert_eq!(step(&mut outbox, 0, Input::Collected { more: false }), []);
        assert_eq!((outbox.pending(), outbox.next_sequence()), (0, 8));
    }

    #[test]
    fn a_sink_that_is_away_is_left_in_peace_for_longer_and_longer() {
        let mut outbox = Outbox::new(0, [1], 100, 1000);
        let away = Input::Deferred { sequence: 1, retry_after: None };
        let mut now = ZERO;
        let mut delays = Vec::new();
        for _ in 0..12 {
            let effects = outbox.step(now, &SeededEntropy::new(1), Input::Begin);
            assert_eq!(effects, [Effect::Send { sequence: 1 }]);
            // It goes on collecting meanwhile.
            assert_eq!(outbox.step(now, &SeededEntropy::new(1), away), [Effect::Collect]);
            let delay = outbox.retry_in(now).expect("a batch waits");
            delays.push(delay);
            now += delay;
        }
        assert!(delays[0] >= RETRY_MIN / 2 && delays[0] <= RETRY_MIN, "{delays:?}");
        assert!(delays[11] >= RETRY_MAX / 2 && delays[11] <= RETRY_MAX, "{delays:?}");

        let busy = Input::Deferred { sequence: 1, retry_after: Some(Duration::from_secs(7)) };
        outbox.step(now, &SeededEntropy::new(1), busy);
        assert_eq!(outbox.retry_in(now), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_full_spool_stops_collection_and_not_delivery() {
        let mut outbox = Outbox::new(0, [600, 500], 100, 1000);
        step(&mut outbox, 0, Input::Begin);
        let away = Input::Deferred { sequence: 1, retry_after: Some(Duration::from_secs(5)) };
        assert_eq!(step(&mut outbox, 0, away), []);
        assert!(outbox.is_full());
        assert_eq!(step(&mut outbox, 5, Input::Begin), [Effect::Send { sequence: 1 }]);
        assert!(!outbox.is_full());
    }

    #[test]
    fn a_refused_batch_is_replaced_once() {
        let mut outbox = Outbox::new(0, [1], 100, 1000);
        step(&mut outbox, 0, Input::Begin);
        let refused = Input::Refused { sequence: 1 };
        assert_eq!(step(&mut outbox, 0, refused), [Effect::Replace { sequence: 1 }]);
        let replaced = Input::Replaced { sequence: 1 };
        assert_eq!(step(&mut outbox, 0, replaced), [Effect::Send { sequence: 1 }]);
        assert_eq!(step(&mut outbox, 0, refused), [Effect::Collect], "and waits");
        assert!(outbox.retry_in(ZERO).is_some());
    }

    #[test]
    fn a_round_ends_however_fast_a_log_grows() {
        let mut outbox = Outbox::new(0, [], usize::MAX, u64::MAX);
        let mut effects = step(&mut outbox, 0, Input::Begin);
        let mut collections = 0;
        while effects == [Effect::Collect] {
            collections += 1;
            effects = step(&mut outbox, 0, Input::Collected { more: true });
        }
        assert_eq!((effects.len(), collections), (0, COLLECTIONS_PER_ROUND_MAX));
    }
}
