//! Recurrence in a time zone.
//!
//! A [`Schedule`] says when something is due: from a local start, at a frequency, until an expiry.
//! Its due instants are computed from the rule and the start alone, never from the last run, so
//! they neither drift nor depend on when somebody asked.
//!
//! Two local times a year are special. In a *gap* (clocks go forward) a local time does not exist;
//! [`GapPolicy`] says what becomes of an occurrence there. In a *fold* (clocks go back) it exists
//! twice; [`FoldPolicy`] says which counts. Minutes and hours are exact durations from the start (or from
//! the end of the gap that it is in) and know neither.
//!
//! ```
//! use oms_core::schedule::{Frequency, Schedule};
//!
//! let mut schedule = Schedule::new("2026-03-27T02:30:00".parse()?, "Europe/Zurich".parse()?);
//! schedule.frequency = Frequency::Day { interval: 1 };
//! let rule = schedule.compile()?;
//! let due: Vec<String> = rule.iter().take(3).map(|at| at.to_string()).collect();
//! // On 29 March the clock goes from 02:00 to 03:00: the first instant that exists is 03:00.
//! assert_eq!(due, ["2026-03-27T01:30:00Z", "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An engine asks [`Rule::due`] what to act on since the instant that it dealt with last and has
//! kept, such as the last event of the schedule's history. What was missed while it was down
//! follows the [`MisfirePolicy`].
//!
//! ```
//! use jiff::{SignedDuration, Timestamp};
//! use oms_core::schedule::{Frequency, MisfirePolicy, Schedule};
//!
//! let mut schedule = Schedule::new("2026-01-01T00:00:00".parse()?, "UTC".parse()?);
//! schedule.frequency = Frequency::Hour { interval: 1 };
//! schedule.misfire = MisfirePolicy::All { count_max: 2 };
//! let (since, now) = ("2026-01-01T00:00:00Z".parse()?, "2026-01-01T05:00:01Z".parse()?);
//! let report = schedule.compile()?.due(since, now, SignedDuration::from_secs(10));
//! // 05:00 is on time, 03:00 and 04:00 are made up for, 01:00 and 02:00 are left out.
//! let due: Vec<String> = report.due.iter().map(Timestamp::to_string).collect();
//! assert_eq!(due, ["2026-01-01T03:00:00Z", "2026-01-01T04:00:00Z", "2026-01-01T05:00:00Z"]);
//! assert_eq!(report.left_out, 2);
//! assert_eq!(report.next, Some("2026-01-01T06:00:00Z".parse()?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod rule;

mod zone;

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod foreign;

pub use rule::{DUE_COUNT_MAX, Due, DueReport, Rule};
pub use zone::ZoneName;

use crate::ErrorKind;
use jiff::Timestamp;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// How often.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Frequency {
    /// At the start alone.
    OneTime,
    /// Every so many minutes of elapsed time.
    Minute {
        /// At least 1.
        interval: u32,
    },
    /// Every so many hours of elapsed time.
    Hour {
        /// At least 1.
        interval: u32,
    },
    /// Every so many days, at the start's time of day.
    Day {
        /// At least 1.
        interval: u32,
    },
    /// Every so many weeks, on some days of the week. Weeks begin on Monday.
    Week {
        /// At least 1.
        interval: u32,
        /// On these days; if there is none, on the start's.
        days: Vec<DayOfWeek>,
    },
    /// Every so many months, on some days of the month. A day that a month does not have is left
    /// out; the last day is asked for by its own name, -1.
    Month {
        /// At least 1.
        interval: u32,
        /// 1 to 31, or -1 for the last day.
        days: Vec<i8>,
        /// Such as the second Tuesday. If there is neither a day nor one of these, the start's
        /// day of the month counts.
        occurrences: Vec<MonthlyOccurrence>,
    },
}

/// A day of the week, in the spelling of Azure Resource Manager.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "there are seven")]
#[expect(missing_docs, reason = "they are what they say")]
pub enum DayOfWeek {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl From<DayOfWeek> for Weekday {
    fn from(day: DayOfWeek) -> Self {
        match day {
            DayOfWeek::Monday => Self::Monday,
            DayOfWeek::Tuesday => Self::Tuesday,
            DayOfWeek::Wednesday => Self::Wednesday,
            DayOfWeek::Thursday => Self::Thursday,
            DayOfWeek::Friday => Self::Friday,
            DayOfWeek::Saturday => Self::Saturday,
            DayOfWeek::Sunday => Self::Sunday,
        }
    }
}

/// One day of the week in a month.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct MonthlyOccurrence {
    /// Which one: 1 to 5, or -1 for the last.
    pub occurrence: i8,
    /// Of which day of the week.
    pub day: DayOfWeek,
}

/// What becomes of an occurrence whose local time does not exist.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum GapPolicy {
    /// It is due at the first instant after the gap.
    #[default]
    FirstValid,
    /// It is left out.
    Skip,
}

/// Which of two instants with the same local time counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FoldPolicy {
    /// The earlier.
    #[default]
    First,
    /// The later.
    Last,
    /// Both.
    Both,
}

/// What happens to instants that passed while nobody was there to act on them. An instant that is
/// acted on a little late, as [`Rule::due`] is told, is not one of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MisfirePolicy {
    /// They are left out.
    Skip,
    /// The latest of them counts, if it is not older than the deadline and no later one is on time.
    Once {
        /// In seconds.
        deadline_seconds: u64,
    },
    /// The latest so many of them count.
    All {
        /// 1 to [`DUE_COUNT_MAX`].
        count_max: u32,
    },
}

impl Default for MisfirePolicy {
    /// The latest one, up to an hour late.
    fn default() -> Self {
        Self::Once { deadline_seconds: 3600 }
    }
}

/// When something is due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The first local time that can be due.
    pub start: DateTime,
    /// The zone of `start` and of every occurrence.
    pub zone: ZoneName,
    /// How often.
    pub frequency: Frequency,
    /// The last instant that can be due; none for ever.
    pub expiry: Option<Timestamp>,
    /// About local times that do not exist.
    pub gap: GapPolicy,
    /// About local times that exist twice.
    pub fold: FoldPolicy,
    /// About instants that were missed.
    pub misfire: MisfirePolicy,
}

impl Schedule {
    /// A schedule that is due once, at `start`.
    #[must_use]
    pub fn new(start: DateTime, zone: ZoneName) -> Self {
        Self {
            start,
            zone,
            frequency: Frequency::OneTime,
            expiry: None,
            gap: GapPolicy::default(),
            fold: FoldPolicy::default(),
            misfire: MisfirePolicy::default(),
        }
    }

    /// Checks the schedule and finds its zone.
    ///
    /// # Errors
    /// [`ScheduleError`] names the field that is wrong.
    pub fn compile(&self) -> Result<Rule, ScheduleError> {
        self.compile_in(self.zone.time_zone()?)
    }

    /// Checks the schedule and takes `zone` for its zone: that of the same name in a database of
    /// the caller's.
    ///
    /// # Errors
    /// [`ScheduleError`] names the field that is wrong.
    pub fn compile_in(&self, zone: TimeZone) -> Result<Rule, ScheduleError> {
        Rule::new(self, zone)
    }
}

/// Why a schedule cannot be computed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A field is out of its range.
    #[error("schedule field is out of range. field=`{field}`, value=`{value}`, range=`{range}`")]
    Range {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: i64,
        /// What it may hold.
        range: &'static str,
    },
    /// The time zone is not known here.
    #[error("time zone is not known. zone=`{zone}`")]
    Zone {
        /// Its name.
        zone: String,
    },
}

impl ScheduleError {
    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
