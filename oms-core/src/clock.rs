//! Time, as a dependency.

use jiff::{SignedDuration, Timestamp};
use std::fmt::Debug;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Where an engine reads the time from.
pub trait Clock: Debug + Send + Sync {
    /// The current instant. It may jump, also backwards.
    fn now(&self) -> Timestamp;

    /// Time since some fixed origin in this process. It never goes backwards; use it for durations.
    fn monotonic(&self) -> Duration;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[expect(clippy::disallowed_methods, reason = "the one place that reads the real clock")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        ORIGIN.get_or_init(Instant::now).elapsed()
    }
}

/// Measures how long something takes, for metrics. No decision rests on it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    begin: Duration,
}

impl Stopwatch {
    /// Begins to measure, by the operating system's clock.
    #[must_use]
    pub fn start() -> Self {
        Self { begin: SystemClock.monotonic() }
    }

    /// Seconds since it was started.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        SystemClock.monotonic().saturating_sub(self.begin).as_secs_f64()
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub const fn new(start: Timestamp) -> Self {
        Self { state: Mutex::new((start, Duration::ZERO)) }
    }

    /// Moves both readings forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let step = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        state.0 = state.0.checked_add(step).unwrap_or(Timestamp::MAX);
        state.1 = state.1.saturating_add(by);
    }

    /// Sets the wall clock alone, as an administrator or a time service does.
    pub fn set(&self, now: Timestamp) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_can_jump_back_and_durations_do_not() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        clock.advance(Duration::from_secs(5));
        clock.set(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
    }

    #[test]
    fn the_system_clock_moves_forward() {
        let before = SystemClock.monotonic();
        assert!(SystemClock.monotonic() >= before);
        assert!(SystemClock.now() > Timestamp::UNIX_EPOCH);
    }
}

/// The clock of a test whose runtime's time is paused: it shows what timers wait for.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct PausedClock(tokio::time::Instant);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "this is a clock")]
impl PausedClock {
    pub(crate) fn new() -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self(tokio::time::Instant::now()))
    }
}

#[cfg(test)]
impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}
