//! The timeline of the user analytics: the periods it is cut into, and what lies in each.

use crate::query::operator::effort::Effort;
use crate::query::time::{Date, TICKS_PER_DAY, date_of, ticks_of_date};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// How long a period is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Period {
    /// In the timeline's unit, from where the timeline starts.
    Width(i64),
    /// From Sunday on.
    Week,
    /// Months of the calendar; twelve are a year.
    Months(i64),
}

impl Period {
    /// The period of a name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        match name {
            "week" => Some(Self::Week),
            "month" => Some(Self::Months(1)),
            "year" => Some(Self::Months(12)),
            _ => None,
        }
    }

    /// The number of the period that an instant is in.
    fn place(self, time: i64) -> i64 {
        match self {
            Self::Width(width) => time.div_euclid(width),
            // The first day of the calendar is a Monday.
            Self::Week => (time.div_euclid(TICKS_PER_DAY) + 1).div_euclid(7),
            Self::Months(months) => {
                let date = date_of(time);
                (date.year * 12 + date.month - 1).div_euclid(months)
            }
        }
    }

    /// The first instant of a period; those beyond the calendar start where it ends.
    fn start(self, place: i64) -> i64 {
        match self {
            Self::Width(width) => place.saturating_mul(width),
            Self::Week => place.saturating_mul(7).saturating_sub(1).saturating_mul(TICKS_PER_DAY),
            Self::Months(months) => {
                let month = place.saturating_mul(months);
                let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
                let end = if year < 1 { i64::MIN } else { i64::MAX };
                ticks_of_date(Date { year, month, day: 1 }).unwrap_or(end)
            }
        }
    }

    /// The first instant of the period that an instant is in.
    pub(super) fn floor(self, time: i64) -> i64 {
        self.start(self.place(time))
    }
}

/// Periods side by side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    period: Period,
    /// Where the first period of a given width starts.
    start: i64,
    /// The number of the first period of the calendar.
    first: i64,
    pub(super) count: i64,
}

impl Windows {
    /// The periods from the one that an instant is in to that of another.
    pub(super) fn between(period: Period, start: i64, end: i64) -> Self {
        let (first, count) = match period {
            Period::Width(width) => {
                let length = i128::from(end) - i128::from(start);
                (0, length.div_euclid(i128::from(width)) + 1)
            }
            Period::Week | Period::Months(_) => {
                let (first, last) = (period.place(start), period.place(end));
                (first, i128::from(last) - i128::from(first) + 1)
            }
        };
        let count = i64::try_from(count.max(0)).unwrap_or(i64::MAX);
        Self { period, start, first, count }
    }

    /// No periods.
    pub(super) const fn none(period: Period) -> Self {
        Self { period, start: 0, first: 0, count: 0 }
    }

    /// The first instant of a window and that after the last.
    pub(super) fn bounds(self, at: i64) -> (i64, i64) {
        match self.period {
            Period::Width(width) => {
                let start = self.start.saturating_add(width.saturating_mul(at));
                (start, start.saturating_add(width))
            }
            period => {
                let place = self.first.saturating_add(at);
                (period.start(place), period.start(place.saturating_add(1)))
            }
        }
    }

    /// The window that an instant is in.
    pub(super) fn place(self, time: i64) -> i64 {
        match self.period {
            Period::Width(width) => time.saturating_sub(self.start).div_euclid(width),
            period => period.place(time).saturating_sub(self.first),
        }
    }

    /// The window to look at after an empty one: that of the next event, if there is one.
    pub(super) fn skip(self, at: i64, next: Option<&(i64, u64)>) -> i64 {
        next.map_or(self.count, |(time, _)| self.place(*time).max(at + 1))
    }
}

/// The events between two instants that only ever move on, and how often each id is among them.
#[derive(Debug, Default)]
pub(super) struct Sliding {
    from: usize,
    to: usize,
    pub(super) counts: HashMap<u64, usize>,
}

impl Sliding {
    /// Moves to the events from one instant up to another, which is not included.
    pub(super) async fn slide(
        &mut self,
        events: &[(i64, u64)],
        (from, to): (i64, i64),
        effort: &mut Effort,
    ) {
        while let Some((_, id)) = events.get(self.to).filter(|(time, _)| *time < to) {
            *self.counts.entry(*id).or_insert(0) += 1;
            self.to += 1;
            effort.step().await;
        }
        while let Some((_, id)) = events.get(self.from).filter(|(time, _)| *time < from) {
            if self.from >= self.to {
                break;
            }
            if let Entry::Occupied(mut entry) = self.counts.entry(*id) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
            self.from += 1;
            effort.step().await;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.to.saturating_sub(self.from)
    }

    pub(super) fn distinct(&self) -> usize {
        self.counts.len()
    }

    /// The first event after these.
    pub(super) fn next<'e>(&self, events: &'e [(i64, u64)]) -> Option<&'e (i64, u64)> {
        events.get(self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::time::parse_datetime;

    #[test]
    fn periods_of_the_calendar() {
        let at = |text| parse_datetime(text).unwrap();
        for (name, start, end, count, second) in [
            ("week", "2019-11-03", "2019-11-09T23:00:00", 1, "2019-11-10"),
            ("week", "2019-11-02", "2019-11-03", 2, "2019-11-03"),
            ("month", "2019-01-31", "2020-02-01", 14, "2019-02-01"),
            ("year", "2019-12-31", "2020-01-01", 2, "2020-01-01"),
        ] {
            let period = Period::of_name(name).unwrap();
            let windows = Windows::between(period, at(start), at(end));
            assert_eq!((windows.count, windows.bounds(1).0), (count, at(second)), "{name} {start}");
            assert_eq!(windows.place(at(second)), 1);
            assert!((windows.bounds(0).0..windows.bounds(0).1).contains(&at(start)));
        }
        assert_eq!(Period::of_name("day"), None);
        // Nothing lies beyond the calendar.
        let year = Windows::between(Period::Months(12), at("9999-01-01"), at("9999-12-31"));
        assert_eq!((year.count, year.bounds(0).1), (1, i64::MAX));
    }
}
