//! Clocks that disagree.

use crate::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// A clock beside another: its wall clock is off by an amount, and both its readings run at a rate
/// of their own. Its monotonic reading has an origin of its own, as each process's has.
///
/// ```
/// use oms_core::Clock;
/// use oms_core::clock::ManualClock;
/// use oms_core::testkit::skew::SkewedClock;
/// use std::{sync::Arc, time::Duration};
///
/// let world = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
/// let fast = SkewedClock::new(Arc::clone(&world), jiff::SignedDuration::from_hours(-3), 10_000);
/// let before = (fast.now(), fast.monotonic());
/// world.advance(Duration::from_secs(100));
/// assert_eq!(fast.monotonic() - before.1, Duration::from_secs(101));
/// assert_eq!(fast.now().duration_since(before.0).as_secs(), 101);
/// ```
#[derive(Clone, Debug)]
pub struct SkewedClock<C> {
    world: Arc<C>,
    offset: SignedDuration,
    rate_ppm: i32,
}

impl<C: Clock> SkewedClock<C> {
    /// A clock that shows `offset` more than `world` and gains `rate_ppm` millionths of every
    /// second; negative ones lose.
    #[must_use]
    pub const fn new(world: Arc<C>, offset: SignedDuration, rate_ppm: i32) -> Self {
        Self { world, offset, rate_ppm }
    }

    fn elapsed(&self) -> Duration {
        let rate = 1_000_000_i64.saturating_add(i64::from(self.rate_ppm)).max(0);
        let nanos = self.world.monotonic().as_nanos() * u128::from(rate.unsigned_abs());
        Duration::from_nanos(u64::try_from(nanos / 1_000_000).unwrap_or(u64::MAX))
    }
}

impl<C: Clock> Clock for SkewedClock<C> {
    fn now(&self) -> Timestamp {
        let gained = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::MAX)
            - SignedDuration::try_from(self.world.monotonic()).unwrap_or(SignedDuration::MAX);
        self.world.now().saturating_add(self.offset + gained).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        // An origin that depends on the clock: nothing may compare two processes' readings.
        self.elapsed() + self.offset.unsigned_abs()
    }
}
