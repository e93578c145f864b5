//! Due instants of a schedule.

use super::{
    FoldPolicy, Frequency, GapPolicy, MisfirePolicy, MonthlyOccurrence, Schedule, ScheduleError,
};
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp, ToSpan};
use std::collections::VecDeque;

/// How many empty periods in a row end a rule: a 29 February that meets no leap year, or a day
/// that no month of the rule has, is never due again. Eight centuries of months hold every pattern
/// of the calendar, which repeats after four.
const EMPTY_PERIODS_MAX: u32 = 12 * 800;

/// The most instants that [`Rule::due`] answers or counts at once, and the largest `count_max` of
/// [`MisfirePolicy::All`].
pub const DUE_COUNT_MAX: usize = 10_000;

/// What [`Rule::due`] answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DueReport {
    /// Act on these, in order: at most [`DUE_COUNT_MAX`].
    pub due: Vec<Timestamp>,
    /// How many instants passed and are not acted on. With `due` it is at most [`DUE_COUNT_MAX`]:
    /// what passed before those is neither answered nor counted.
    pub left_out: usize,
    /// When to ask again: the first due instant later than both `since` and `now`; none if the
    /// schedule has ended.
    pub next: Option<Timestamp>,
}

/// A checked schedule in its zone.
#[derive(Clone, Debug)]
pub struct Rule {
    start: DateTime,
    /// What elapsed time counts from: the start, or the end of the gap that it is in, whether or
    /// not it is due there.
    first: Timestamp,
    zone: TimeZone,
    expiry: Timestamp,
    gap: GapPolicy,
    fold: FoldPolicy,
    misfire: MisfirePolicy,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    Once,
    Elapsed(SignedDuration),
    Days(i64),
    Weeks { interval: i64, days: Vec<Weekday> },
    Months { interval: i64, days: Vec<i8>, occurrences: Vec<MonthlyOccurrence> },
}

impl Rule {
    pub(super) fn new(schedule: &Schedule, zone: TimeZone) -> Result<Self, ScheduleError> {
        if let MisfirePolicy::All { count_max } = schedule.misfire
            && !(1..=DUE_COUNT_MAX).contains(&(count_max as usize))
        {
            let (field, value) = ("misfire count", i64::from(count_max));
            return Err(ScheduleError::Range { field, value, range: "1 to 10000" });
        }
        let (gap, fold) = (GapPolicy::FirstValid, schedule.fold);
        let [first, _] = instants(&zone, schedule.start, gap, fold);
        let value = i64::from(schedule.start.year());
        let range = "-9999 to 9999 in UTC";
        let first = first.ok_or(ScheduleError::Range { field: "start year", value, range })?;
        Ok(Self {
            start: schedule.start,
            first,
            zone,
            expiry: schedule.expiry.unwrap_or(Timestamp::MAX),
            gap: schedule.gap,
            fold: schedule.fold,
            misfire: schedule.misfire,
            step: Step::new(&schedule.frequency, schedule.start.date())?,
        })
    }

    /// Every due instant, in order, each once.
    #[must_use]
    pub fn iter(&self) -> Due<'_> {
        Due::new(self, 0)
    }

    /// The first due instant later than `after`.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let period = self.period_before(after);
        Due::new(self, period).find(|due| *due > after)
    }

    /// What to act on at `now`, if everything up to `since` has been dealt with: of the instants in
    /// (`since`, `now`] those that are at most `lateness` late are on time and all count, and the
    /// earlier ones are missed and count as the misfire policy says.
    ///
    /// An engine keeps the latest instant it dealt with durably and passes it as `since`, so that a
    /// restart neither repeats nor forgets one. A clock that was set back before `since` makes
    /// nothing due again.
    #[must_use]
    pub fn due(&self, since: Timestamp, now: Timestamp, lateness: SignedDuration) -> DueReport {
        let next = self.next_after(now.max(since));
        let passed = self.latest(since, now);
        let is_missed =
            |due: &&Timestamp| now.duration_since(**due) > lateness.max(SignedDuration::ZERO);
        let missed = passed.iter().take_while(is_missed).count();
        let left_out = match self.misfire {
            MisfirePolicy::Skip => missed,
            // An instant that is on time makes up for those before it.
            MisfirePolicy::Once { .. } if missed < passed.len() => missed,
            MisfirePolicy::Once { deadline_seconds } => {
                let deadline = i64::try_from(deadline_seconds).unwrap_or(i64::MAX);
                let deadline = SignedDuration::from_secs(deadline);
                let is_late = |due: &Timestamp| now.duration_since(*due) > deadline;
                if passed.last().is_some_and(is_late) { missed } else { missed.saturating_sub(1) }
            }
            MisfirePolicy::All { count_max } => missed.saturating_sub(count_max as usize),
        };
        let due = passed[left_out..].to_vec();
        DueReport { due, left_out, next }
    }

    /// The latest [`DUE_COUNT_MAX`] instants in (`since`, `now`], in order.
    fn latest(&self, since: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        if now <= since {
            return Vec::new();
        }
        let (first, last) = (self.period_before(since), self.period_before(now));
        let mut back = DUE_COUNT_MAX as i64;
        loop {
            let begin = last.saturating_sub(back).max(first);
            let mut latest = VecDeque::new();
            let passed = Due::new(self, begin).skip_while(|due| *due <= since);
            for due in passed.take_while(|due| *due <= now) {
                if latest.len() == DUE_COUNT_MAX {
                    latest.pop_front();
                }
                latest.push_back(due);
            }
            if latest.len() == DUE_COUNT_MAX || begin == first {
                return latest.into();
            }
            back = back.saturating_mul(4);
        }
    }

    fn instants(&self, local: DateTime) -> [Option<Timestamp>; 2] {
        instants(&self.zone, local, self.gap, self.fold)
    }

    /// A period that certainly begins before `after`, near it.
    fn period_before(&self, after: Timestamp) -> i64 {
        let elapsed = after.duration_since(self.first);
        // Offsets differ by less than two days over a zone's history; two periods cover the rest.
        let days = elapsed.as_secs().div_euclid(86_400) - 2;
        let periods = match &self.step {
            Step::Once => 0,
            Step::Elapsed(every) => {
                let periods = elapsed.as_nanos() / every.as_nanos().max(1);
                i64::try_from(periods).unwrap_or(i64::MAX)
            }
            Step::Days(interval) => days / interval,
            Step::Weeks { interval, .. } => days / (7 * interval),
            Step::Months { interval, .. } => days / (31 * interval),
        };
        (periods - 2).max(0)
    }

    /// The instants of one period, sorted. `None` when time has run out.
    fn period(&self, index: i64) -> Option<Vec<Timestamp>> {
        if let Step::Elapsed(every) = &self.step {
            let offset = every.as_nanos().checked_mul(i128::from(index))?;
            let offset = SignedDuration::try_from_nanos_i128(offset)?;
            let due = self.first.checked_add(offset).ok()?;
            return Some(match index {
                0 => self.instants(self.start)[0].into_iter().collect(),
                _ => vec![due],
            });
        }
        let dates = self.step.dates(self.start.date(), index)?;
        let locals = dates.into_iter().map(|date| self.local(date));
        let locals = locals.filter(|local| *local >= self.start);
        let mut instants: Vec<_> = locals.flat_map(|at| self.instants(at)).flatten().collect();
        instants.sort_unstable();
        instants.dedup();
        Some(instants)
    }

    fn local(&self, date: Date) -> DateTime {
        let time: Time = self.start.time();
        date.to_datetime(time)
    }
}

/// The instants of one local time: none or one in a gap, one or two in a fold.
fn instants(
    zone: &TimeZone,
    local: DateTime,
    gap: GapPolicy,
    fold: FoldPolicy,
) -> [Option<Timestamp>; 2] {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => [ambiguous.compatible().ok(), None],
        AmbiguousOffset::Gap { before, .. } => match gap {
            GapPolicy::Skip => [None, None],
            // The time before the gap continued is after it; the gap's end is the transition.
            GapPolicy::FirstValid => {
                let inside = before.to_timestamp(local).ok();
                [inside.and_then(|inside| transition_at_or_before(zone, inside)), None]
            }
        },
        AmbiguousOffset::Fold { .. } => {
            let (first, last) = (ambiguous.earlier().ok(), ambiguous.later().ok());
            match fold {
                FoldPolicy::First => [first, None],
                FoldPolicy::Last => [last, None],
                FoldPolicy::Both => [first, last],
            }
        }
    }
}

fn transition_at_or_before(zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let just_after = at.checked_add(1.nanosecond()).ok()?;
    zone.preceding(just_after).next().map(|transition| transition.timestamp())
}

impl Step {
    fn new(frequency: &Frequency, start: Date) -> Result<Self, ScheduleError> {
        let at_least_one = |interval: u32| match interval {
            0 => Err(ScheduleError::Range { field: "interval", value: 0, range: "1 or more" }),
            _ => Ok(i64::from(interval)),
        };
        Ok(match frequency {
            Frequency::OneTime => Self::Once,
            Frequency::Minute { interval } => {
                Self::Elapsed(SignedDuration::from_secs(60 * at_least_one(*interval)?))
            }
            Frequency::Hour { interval } => {
                Self::Elapsed(SignedDuration::from_secs(3600 * at_least_one(*interval)?))
            }
            Frequency::Day { interval } => Self::Days(at_least_one(*interval)?),
            Frequency::Week { interval, days } => {
                let mut days: Vec<Weekday> = days.iter().map(|day| (*day).into()).collect();
                if days.is_empty() {
                    days.push(start.weekday());
                }
                days.sort_unstable_by_key(|day| day.to_monday_zero_offset());
                days.dedup();
                Self::Weeks { interval: at_least_one(*interval)?, days }
            }
            Frequency::Month { interval, days, occurrences } => {
                check_month(days, occurrences)?;
                let mut days = days.clone();
                days.sort_unstable();
                days.dedup();
                if days.is_empty() && occurrences.is_empty() {
                    days.push(start.day());
                }
                let mut occurrences = occurrences.clone();
                occurrences.sort_unstable_by_key(|wanted| (wanted.occurrence, wanted.day as u8));
                occurrences.dedup();
                Self::Months { interval: at_least_one(*interval)?, days, occurrences }
            }
        })
    }

    /// The local dates of one period, in any order.
    fn dates(&self, start: Date, index: i64) -> Option<Vec<Date>> {
        match self {
            Self::Once => (index == 0).then(|| vec![start]),
            Self::Elapsed(_) => Some(Vec::new()),
            Self::Days(interval) => {
                let days = interval.checked_mul(index)?;
                Some(vec![start.checked_add(Span::new().try_days(days).ok()?).ok()?])
            }
            Self::Weeks { interval, days } => {
                let since_monday = i64::from(start.weekday().to_monday_zero_offset());
                let week =
                    interval.checked_mul(index)?.checked_mul(7)?.checked_sub(since_monday)?;
                let monday = |day: i64| {
                    let days = Span::new().try_days(week.checked_add(day)?).ok()?;
                    start.checked_add(days).ok()
                };
                let wanted = days.iter().map(|day| i64::from(day.to_monday_zero_offset()));
                wanted.map(monday).collect()
            }
            Self::Months { interval, days, occurrences } => {
                let months = interval.checked_mul(index)?;
                let first = start.first_of_month();
                let month = first.checked_add(Span::new().try_months(months).ok()?).ok()?;
                let by_day = days.iter().filter_map(|day| day_of(month, *day));
                let by_weekday = occurrences.iter().filter_map(|wanted| {
                    month.nth_weekday_of_month(wanted.occurrence, wanted.day.into()).ok()
                });
                Some(by_day.chain(by_weekday).collect())
            }
        }
    }
}

/// A day of a month, if the month has it.
fn day_of(month: Date, day: i8) -> Option<Date> {
    match day {
        -1 => Some(month.last_of_month()),
        day if day <= month.days_in_month() => month.with().day(day).build().ok(),
        _ => None,
    }
}

fn check_month(days: &[i8], occurrences: &[MonthlyOccurrence]) -> Result<(), ScheduleError> {
    for day in days {
        if !matches!(day, -1 | 1..=31) {
            let value = i64::from(*day);
            return Err(ScheduleError::Range { field: "month day", value, range: "1 to 31, -1" });
        }
    }
    for MonthlyOccurrence { occurrence, .. } in occurrences {
        if !matches!(occurrence, -1 | 1..=5) {
            let (field, value) = ("monthly occurrence", i64::from(*occurrence));
            return Err(ScheduleError::Range { field, value, range: "1 to 5, -1" });
        }
    }
    Ok(())
}

/// Due instants in order.
#[derive(Clone, Debug)]
pub struct Due<'a> {
    rule: &'a Rule,
    period: i64,
    queued: std::vec::IntoIter<Timestamp>,
    last: Option<Timestamp>,
}

impl<'a> Due<'a> {
    fn new(rule: &'a Rule, period: i64) -> Self {
        Self { rule, period, queued: Vec::new().into_iter(), last: None }
    }
}

impl Iterator for Due<'_> {
    type Item = Timestamp;

    fn next(&mut self) -> Option<Timestamp> {
        for _ in 0..EMPTY_PERIODS_MAX {
            // Two local times in one gap are due at the same instant, which counts once.
            let last = self.last;
            if let Some(due) = self.queued.find(|due| last.is_none_or(|last| *due > last)) {
                if due > self.rule.expiry {
                    return None;
                }
                self.last = Some(due);
                return Some(due);
            }
            self.queued = self.rule.period(self.period)?.into_iter();
            self.period = self.period.checked_add(1)?;
        }
        None
    }
}
