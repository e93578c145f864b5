//! When a local configuration manager runs next, and what for.

use super::Metaconfiguration;
use std::time::Duration;

/// What a run is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum RunKind {
    /// It asks the server, and then checks what there is.
    #[default]
    Full,
    /// It asks the server, and applies what is new; what is not new is not looked at.
    Refresh,
    /// It checks what there is, or applies what is pending, without asking the server.
    Consistency,
}

/// The due times of a node's runs, by a clock that never goes backwards.
///
/// Both are due at the start, as after every start of a computer. A time that passed while a run was
/// under way, or while the computer slept, comes once and not as often as it was missed.
///
/// ```
/// use oms_dsc::Metaconfiguration;
/// use oms_dsc::node::{RunKind, Timetable};
/// use std::time::Duration;
///
/// let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
/// let settings = Metaconfiguration::new("https://pull.example", "key".into());
/// let mut times = Timetable::new(&settings, minutes(0));
/// assert_eq!(times.due(minutes(0)), Some(RunKind::Full));
/// assert_eq!(times.due(minutes(0)), None);
/// assert_eq!(times.next(), minutes(15));
/// assert_eq!(times.due(minutes(15)), Some(RunKind::Consistency));
/// assert_eq!(times.due(minutes(100)), Some(RunKind::Full));
/// assert_eq!(times.next(), minutes(105));
/// ```
#[derive(Clone, Debug)]
pub struct Timetable {
    refresh: Series,
    consistency: Series,
}

#[derive(Clone, Debug)]
struct Series {
    every: Duration,
    next: Duration,
}

impl Series {
    const fn new(minutes: u32, start: Duration) -> Self {
        let minutes = if minutes == 0 { 1 } else { minutes };
        Self { every: Duration::from_secs(60 * minutes as u64), next: start }
    }

    /// Whether it is due; if it is, it is not until the next time on its grid that lies ahead.
    fn take(&mut self, now: Duration) -> bool {
        if now < self.next {
            return false;
        }
        let missed = (now - self.next).as_nanos() / self.every.as_nanos();
        let steps = u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1;
        self.next = self.next.saturating_add(self.every.saturating_mul(steps));
        true
    }
}

impl Timetable {
    /// The times of a node that starts at `start`, by [`oms_core::Clock::monotonic`].
    #[must_use]
    pub const fn new(settings: &Metaconfiguration, start: Duration) -> Self {
        Self {
            refresh: Series::new(settings.refresh_frequency_minutes, start),
            consistency: Series::new(settings.configuration_mode_frequency_minutes, start),
        }
    }

    /// What is due, if anything. It counts as done.
    pub fn due(&mut self, now: Duration) -> Option<RunKind> {
        match (self.refresh.take(now), self.consistency.take(now)) {
            (true, true) => Some(RunKind::Full),
            (true, false) => Some(RunKind::Refresh),
            (false, true) => Some(RunKind::Consistency),
            (false, false) => None,
        }
    }

    /// When something is due next.
    #[must_use]
    pub fn next(&self) -> Duration {
        self.refresh.next.min(self.consistency.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However time goes on: what is taken was due, nothing due is left, and what lies ahead is
        /// on the grid of its interval.
        #[test]
        fn every_interval_keeps_its_grid(
            refresh in 0u32..200,
            consistency in 0u32..200,
            steps in proptest::collection::vec(0u64..100_000, 1..30),
        ) {
            let mut settings = Metaconfiguration::new("https://x", "k".into());
            settings.refresh_frequency_minutes = refresh;
            settings.configuration_mode_frequency_minutes = consistency;
            let start = Duration::from_secs(17);
            let mut times = Timetable::new(&settings, start);
            let mut now = start;
            for step in steps {
                let before = times.next();
                let due = times.due(now);
                prop_assert_eq!(due.is_some(), now >= before);
                prop_assert_eq!(times.due(now), None);
                prop_assert!(times.next() > now);
                for (series, minutes) in
                    [(&times.refresh, refresh.max(1)), (&times.consistency, consistency.max(1))]
                {
                    let every = 60 * u64::from(minutes);
                    prop_assert_eq!((series.next - start).as_secs() % every, 0);
                    prop_assert!(series.next <= now + Duration::from_secs(every));
                }
                now += Duration::from_secs(step);
            }
        }
    }
}
