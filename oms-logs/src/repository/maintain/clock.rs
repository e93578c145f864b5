//! Whether the clock may be believed when rows are to be removed.
//!
//! A clock that is behind removes nothing early. One that is ahead does: a battery that is empty, a
//! wrong time server, and a year of rows is gone. So a run whose clock is further from the last run
//! than it should be is put off, and the clock is believed when it went on evenly for a day. A
//! computer that was off for a month loses a day by that, and no row.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a clock that jumped has to go on before it is believed.
const SETTLES_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// When maintenance ran, as it is kept in the workspace's folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) format: u32,
    /// When retention ran last.
    pub(super) retained: Option<Timestamp>,
    /// When the clock was first found to have jumped.
    pub(super) doubted: Option<Timestamp>,
    /// When the folders were vacuumed last.
    pub(super) vacuumed: Option<Timestamp>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { format: 1, retained: None, doubted: None, vacuumed: None }
    }
}

impl Progress {
    /// The time from which a jump is measured: that of the last run; before there was one, when the
    /// newest row came.
    pub(super) fn last(&self, newest_received: Option<Timestamp>, now: Timestamp) -> Timestamp {
        self.retained.or(newest_received).unwrap_or(now)
    }

    /// Judges a clock that says `now`; none if it is believed, else since when it is in doubt.
    pub(super) fn doubt(
        &self,
        newest_received: Option<Timestamp>,
        now: Timestamp,
        jump_max: SignedDuration,
    ) -> Option<Timestamp> {
        let jump = now.duration_since(self.last(newest_received, now));
        if jump <= jump_max {
            return None;
        }
        let Some(since) = self.doubted else { return Some(now) };
        let settled = now.duration_since(since);
        if settled.is_negative() || settled > SETTLES_AFTER + jump_max {
            // It jumped again.
            return Some(now);
        }
        (settled < SETTLES_AFTER).then_some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn day(number: i32) -> Timestamp {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        start + DAY * number
    }

    /// Runs at these days; answers on which of them the clock was believed.
    fn believed(days: &[i32]) -> Vec<i32> {
        let mut progress = Progress::default();
        let mut found = Vec::new();
        for number in days {
            let now = day(*number);
            progress.doubted = progress.doubt(Some(day(0)), now, DAY * 7);
            if progress.doubted.is_none() {
                progress.retained = Some(now);
                found.push(*number);
            }
        }
        found
    }

    #[test]
    fn a_clock_that_goes_on_evenly_is_believed() {
        assert_eq!(believed(&[0, 1, 2, 9, 16]), [0, 1, 2, 9, 16]);
    }

    #[test]
    fn a_clock_that_jumps_ahead_and_back_removes_nothing() {
        assert_eq!(believed(&[0, 1, 400, 2, 3, 500, 4]), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_computer_that_was_off_is_believed_a_day_later() {
        assert_eq!(believed(&[0, 100, 101, 102]), [0, 101, 102]);
        assert_eq!(believed(&[100, 101]), [101], "also if retention never ran before");
    }

    #[test]
    fn each_jump_is_doubted_anew() {
        assert_eq!(believed(&[0, 100, 200, 300, 301]), [0, 301]);
        assert_eq!(believed(&[0, 400, 300, 301]), [0, 301]);
    }

    #[test]
    fn a_clock_that_was_wrong_for_long_recovers() {
        // Believed while ahead; back at the right time it removes less, so it is believed at once.
        assert_eq!(believed(&[0, 400, 401, 5, 6]), [0, 401, 5, 6]);
    }
}
