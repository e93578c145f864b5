//! The rule against two libraries that know nothing of it: `croner` (cron patterns) and `rrule`
//! (recurrence rules of RFC 5545), in every zone for which their database has the same offsets.
//!
//! What they cannot express, and is left to the brute-force oracle alone:
//! - croner: an interval other than one day or one week, or one that does not divide the hour, the
//!   day or the year; a start in the middle of a pattern (dropped here by hand); [`FoldPolicy`]
//!   other than the first; [`GapPolicy::Skip`]. Of a gap that ends on another day it runs the
//!   instant only if that day is in the pattern too, and it gives up on gaps of a whole day.
//! - rrule: both a day of the month and a day of the week in one rule (here two rules, united); a
//!   start in a gap or the later half of a fold; a gap's end (RFC 5545, 3.3.5 reads such a time
//!   with the offset before the gap, and the library does not agree with itself), so only
//!   [`GapPolicy::Skip`] is compared; [`FoldPolicy`] other than the first.
//! - both: minutes and hours as elapsed time in a zone whose offset changes, so these are compared
//!   in UTC.

use super::oracle::{bundled_zones, calendar, changes, zone};
use super::{DayOfWeek, FoldPolicy, Frequency, GapPolicy, MonthlyOccurrence, Schedule};
use chrono::{NaiveDate, NaiveDateTime, TimeZone as _};
use croner::{Cron, Direction};
use jiff::civil::{Date, DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rrule::{NWeekday, RRule, RRuleSet};

/// How far a schedule is followed.
const FOLLOWED_YEARS: i16 = 6;

/// The zones of both databases that have the same offsets from 2000 to 2040: seen at each change
/// that ours has, and every ten days.
fn shared_zones() -> Vec<(String, TimeZone, chrono_tz::Tz)> {
    let mut shared = Vec::new();
    let mut differing = Vec::new();
    for (name, ours) in bundled_zones() {
        let Ok(theirs) = name.parse::<chrono_tz::Tz>() else { continue };
        let begin: Timestamp = "2000-01-01T00:00:00Z".parse().expect("an instant");
        let days = (0..1461).map(|step| begin + SignedDuration::from_hours(240 * step));
        let nanosecond = SignedDuration::from_nanos(1);
        let edges = changes(&ours).into_iter().flat_map(|(when, ..)| [when - nanosecond, when]);
        let is_same = |at: Timestamp| {
            let at_theirs = chrono::DateTime::from_timestamp(at.as_second(), 0).expect("in range");
            let offset = theirs.offset_from_utc_datetime(&at_theirs.naive_utc());
            chrono::Offset::fix(&offset).local_minus_utc() == ours.to_offset(at).seconds()
        };
        match edges.chain(days).all(is_same) {
            true => shared.push((name, ours, theirs)),
            false => differing.push(name),
        }
    }
    assert!(shared.len() > 540, "{} shared, differing: {differing:?}", shared.len());
    shared
}

fn naive(local: DateTime) -> NaiveDateTime {
    let (year, month, day) = (i32::from(local.year()), local.month() as u32, local.day() as u32);
    let date = NaiveDate::from_ymd_opt(year, month, day).expect("a date");
    date.and_hms_opt(local.hour() as u32, local.minute() as u32, 0).expect("a time")
}

fn instant(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("in range")
}

fn start() -> impl Strategy<Value = DateTime> {
    let minute_of_day = prop_oneof![0i32..240, 0i32..1440];
    (0i32..12_000, minute_of_day)
        .prop_map(|(day, minute)| (date(2000, 1, 1) + day.days()).at(0, 0, 0, 0) + minute.minutes())
}

fn end(start: DateTime) -> Timestamp {
    let end = start + FOLLOWED_YEARS.years();
    jiff::tz::Offset::UTC.to_timestamp(end).expect("in range")
}

/// Numbers from `from`, `every` apart, in a cycle of `length`, as a list for a pattern.
fn cycle(from: u32, every: u32, length: u32) -> Option<String> {
    length.is_multiple_of(every).then(|| {
        let numbers = (0..length / every).map(|step| (from + step * every) % length);
        numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
    })
}

const fn cron_day(day: DayOfWeek) -> u8 {
    match day {
        DayOfWeek::Sunday => 0,
        _ => day as u8 + 1,
    }
}

/// The pattern of a schedule, if there is one.
fn pattern(schedule: &Schedule) -> Option<String> {
    let (at, list) = (schedule.start, |items: Vec<String>| items.join(","));
    let (minute, hour) = (at.minute() as u32, at.hour() as u32);
    Some(match &schedule.frequency {
        Frequency::Minute { interval } => format!("{} * * * *", cycle(minute, *interval, 60)?),
        Frequency::Hour { interval } => format!("{minute} {} * * *", cycle(hour, *interval, 24)?),
        Frequency::Day { interval: 1 } => format!("{minute} {hour} * * *"),
        Frequency::Week { interval: 1, days } if !days.is_empty() => {
            let days = days.iter().map(|day| cron_day(*day).to_string()).collect();
            format!("{minute} {hour} * * {}", list(days))
        }
        Frequency::Month { interval, days, occurrences } => {
            let months = cycle(at.month() as u32 - 1, *interval, 12)?;
            let months = months
                .split(',')
                .map(|month| (month.parse::<u32>().expect("a number") + 1).to_string());
            let mut days: Vec<String> = days
                .iter()
                .map(|day| if *day == -1 { "L".to_owned() } else { day.to_string() })
                .collect();
            if days.is_empty() && occurrences.is_empty() {
                days.push(at.day().to_string());
            }
            let weekdays =
                occurrences.iter().map(|MonthlyOccurrence { occurrence, day }| match occurrence {
                    -1 => format!("{}#L", cron_day(*day)),
                    which => format!("{}#{which}", cron_day(*day)),
                });
            let star =
                |items: Vec<String>| if items.is_empty() { "*".to_owned() } else { list(items) };
            let (days, weekdays) = (star(days), star(weekdays.collect()));
            format!("{minute} {hour} {days} {} {weekdays}", list(months.collect()))
        }
        _ => return None,
    })
}

/// What croner makes of a pattern after a start.
fn by_croner(pattern: &str, schedule: &Schedule, zone: chrono_tz::Tz) -> Vec<Timestamp> {
    let cron: Cron = pattern.parse().expect("a pattern");
    let start = naive(schedule.start);
    // A day early, because the start may be in a gap; what is before it is dropped by its clock.
    let begin = zone.from_utc_datetime(&(start - chrono::Duration::days(2)));
    let end = end(schedule.start);
    let due = cron.iter_from(begin, Direction::Forward).skip_while(|due| due.naive_local() < start);
    due.map(|due| instant(due.timestamp())).take_while(|due| *due < end).collect()
}

fn followed(schedule: &Schedule, zone: &TimeZone) -> Vec<Timestamp> {
    let rule = schedule.compile_in(zone.clone()).expect("a schedule");
    let end = end(schedule.start);
    rule.iter().take_while(|due| *due < end).collect()
}

/// Whether a gap of the zone ends on another day than it begins.
fn has_gap_over_midnight(zone: &TimeZone) -> bool {
    changes(zone).iter().any(|(when, before, after)| {
        let (first, end): (Date, Date) =
            (before.to_datetime(*when).date(), after.to_datetime(*when).date());
        first != end
    })
}

/// The end of a zone's gap of a day or longer, such as 2011-12-30 in Samoa.
fn missing_day(zone: &TimeZone) -> Option<Timestamp> {
    let mut gaps = changes(zone).into_iter();
    gaps.find(|(_, before, after)| after.seconds() - before.seconds() >= 86_400).map(|gap| gap.0)
}

/// The zone's gaps of more than an hour that begin at midnight, such as 2016-10-22 in Casey.
fn midnight_gaps(zone: &TimeZone) -> Vec<Timestamp> {
    let gaps = changes(zone).into_iter().filter(|(when, before, after)| {
        let is_long = (3_601..86_400).contains(&(after.seconds() - before.seconds()));
        is_long && before.to_datetime(*when).time() == jiff::civil::Time::midnight()
    });
    gaps.map(|gap| gap.0).collect()
}

fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second() - from.as_second()
}

/// Runs `check` on schedules of every shared zone; answers how many it compared.
fn in_every_zone(
    check: impl Fn(&Schedule, &TimeZone, chrono_tz::Tz) -> Result<bool, TestCaseError>,
) -> u32 {
    let compared = std::cell::Cell::new(0);
    for (name, ours, theirs) in shared_zones() {
        let config = Config {
            // There are nearly 600 zones.
            cases: (Config::default().cases / 80).clamp(3, 20),
            failure_persistence: None,
            max_global_rejects: 10_000,
            ..Config::default()
        };
        let checked = TestRunner::new(config).run(&(calendar(), start()), |(frequency, start)| {
            let schedule = Schedule { frequency, ..Schedule::new(start, zone("UTC")) };
            if check(&schedule, &ours, theirs)? {
                compared.set(compared.get() + 1);
                Ok(())
            } else {
                Err(TestCaseError::reject("not expressible"))
            }
        });
        checked.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    compared.get()
}

#[test]
fn croner_agrees_in_every_zone() {
    let compared = in_every_zone(|schedule, ours, theirs| {
        let Some(pattern) = pattern(schedule) else { return Ok(false) };
        let mut followed = followed(schedule, ours);
        let mut due = by_croner(&pattern, schedule, theirs);
        if has_gap_over_midnight(ours) {
            let skipping = Schedule { gap: GapPolicy::Skip, ..schedule.clone() };
            followed = self::followed(&skipping, ours);
            let is_on_time =
                |due: &Timestamp| ours.to_datetime(*due).time() == schedule.start.time();
            due.retain(is_on_time);
        }
        // From a start before a day that is missing it does not come past it.
        let starts_before = |gap: &Timestamp| followed.first().is_some_and(|first| first < gap);
        if let Some(gap) = missing_day(ours).filter(starts_before) {
            due.retain(|due| *due < gap);
            followed.retain(|due| *due < gap);
        }
        // It loses days after a gap of several hours that begins at midnight.
        for gap in midnight_gaps(ours) {
            let is_near = |due: &Timestamp| (0..31 * 86_400).contains(&seconds_between(gap, *due));
            due.retain(|due| !is_near(due));
            followed.retain(|due| !is_near(due));
        }
        prop_assert_eq!(due, followed, "{}", pattern);
        Ok(true)
    });
    assert!(compared > 1_500, "{compared}");
}

#[test]
fn croner_agrees_about_minutes_and_hours() {
    let config = Config { cases: 100, failure_persistence: None, ..Config::default() };
    let minutes = prop::sample::select(vec![1u32, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30]);
    let hours = prop::sample::select(vec![1u32, 2, 3, 4, 6, 8, 12]);
    let frequency = prop_oneof![
        minutes.prop_map(|interval| Frequency::Minute { interval }),
        hours.prop_map(|interval| Frequency::Hour { interval }),
    ];
    let checked = TestRunner::new(config).run(&(frequency, start()), |(frequency, start)| {
        let schedule = Schedule { frequency, ..Schedule::new(start, zone("UTC")) };
        let pattern = pattern(&schedule).expect("expressible");
        let cron: Cron = pattern.parse().expect("a pattern");
        let begin = chrono_tz::UTC.from_utc_datetime(&naive(start));
        let due = cron.iter_from(begin, Direction::Forward).take(200);
        let due: Vec<_> = due.map(|due| instant(due.timestamp())).collect();
        let rule = schedule.compile().expect("a schedule");
        prop_assert_eq!(due, rule.iter().take(200).collect::<Vec<_>>(), "{}", pattern);
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
}

const fn rrule_day(day: DayOfWeek) -> rrule::Weekday {
    match day {
        DayOfWeek::Monday => rrule::Weekday::Mon,
        DayOfWeek::Tuesday => rrule::Weekday::Tue,
        DayOfWeek::Wednesday => rrule::Weekday::Wed,
        DayOfWeek::Thursday => rrule::Weekday::Thu,
        DayOfWeek::Friday => rrule::Weekday::Fri,
        DayOfWeek::Saturday => rrule::Weekday::Sat,
        DayOfWeek::Sunday => rrule::Weekday::Sun,
    }
}

/// The recurrence rules of a schedule, whose union it is.
fn rules(schedule: &Schedule) -> Option<Vec<RRule<rrule::Unvalidated>>> {
    let every = |frequency, interval: u32| {
        RRule::new(frequency).interval(u16::try_from(interval).expect("small"))
    };
    Some(match &schedule.frequency {
        Frequency::OneTime => vec![every(rrule::Frequency::Daily, 1).count(1)],
        Frequency::Minute { interval } => vec![every(rrule::Frequency::Minutely, *interval)],
        Frequency::Hour { interval } => vec![every(rrule::Frequency::Hourly, *interval)],
        Frequency::Day { interval } => vec![every(rrule::Frequency::Daily, *interval)],
        Frequency::Week { interval, days } => {
            let rule = every(rrule::Frequency::Weekly, *interval).week_start(rrule::Weekday::Mon);
            let days = days.iter().map(|day| NWeekday::Every(rrule_day(*day))).collect();
            vec![rule.by_weekday(days)]
        }
        Frequency::Month { interval, days, occurrences } => {
            let month = || every(rrule::Frequency::Monthly, *interval);
            let mut rules = Vec::new();
            if !days.is_empty() {
                rules.push(month().by_month_day(days.clone()));
            }
            if !occurrences.is_empty() {
                let wanted = occurrences.iter().map(|MonthlyOccurrence { occurrence, day }| {
                    NWeekday::Nth(i16::from(*occurrence), rrule_day(*day))
                });
                rules.push(month().by_weekday(wanted.collect()));
            }
            if rules.is_empty() {
                rules.push(month().by_month_day(vec![schedule.start.day()]));
            }
            rules
        }
    })
}

/// What rrule makes of the rules; none if the start is not a time that it can begin at.
fn by_rrule(schedule: &Schedule, zone: chrono_tz::Tz) -> Option<Vec<Timestamp>> {
    let zone: rrule::Tz = zone.into();
    let start = zone.from_local_datetime(&naive(schedule.start)).earliest()?;
    let end = end(schedule.start);
    let until = rrule::Tz::UTC.timestamp_opt(end.as_second() - 1, 0).single().expect("in range");
    let mut set = RRuleSet::new(start);
    for rule in rules(schedule)? {
        let rule =
            if matches!(schedule.frequency, Frequency::OneTime) { rule } else { rule.until(until) };
        set = set.rrule(rule.validate(start).expect("a rule"));
    }
    let mut due: Vec<_> =
        set.all_unchecked().into_iter().map(|due| instant(due.timestamp())).collect();
    due.sort_unstable();
    due.dedup();
    Some(due)
}

#[test]
fn rrule_agrees_in_every_zone() {
    let compared = in_every_zone(|schedule, ours, theirs| {
        let (gap, fold) = (GapPolicy::Skip, FoldPolicy::First);
        let schedule = Schedule { gap, fold, ..schedule.clone() };
        let Some(mut due) = by_rrule(&schedule, theirs) else { return Ok(false) };
        // It passes over a day whose midnight comes twice, such as 2006-10-01 in Managua.
        let begins_once = |due: &Timestamp| {
            let midnight = ours.to_datetime(*due).date().at(0, 0, 0, 0);
            let offset = ours.to_ambiguous_timestamp(midnight).offset();
            !matches!(offset, jiff::tz::AmbiguousOffset::Fold { .. })
        };
        let time = schedule.start.time();
        due.retain(|due| ours.to_datetime(*due).time() == time && begins_once(due));
        let mut followed = followed(&schedule, ours);
        followed.retain(begins_once);
        prop_assert_eq!(due, followed);
        Ok(true)
    });
    assert!(compared > 1_500, "{compared}");
}

#[test]
fn rrule_agrees_about_minutes_and_hours() {
    let config = Config { cases: 100, failure_persistence: None, ..Config::default() };
    let frequency = prop_oneof![
        (2_000u32..60_000).prop_map(|interval| Frequency::Minute { interval }),
        (40u32..3_000).prop_map(|interval| Frequency::Hour { interval }),
    ];
    let checked = TestRunner::new(config).run(&(frequency, start()), |(frequency, start)| {
        let schedule = Schedule { frequency, ..Schedule::new(start, zone("UTC")) };
        let due = by_rrule(&schedule, chrono_tz::UTC).expect("expressible");
        prop_assert_eq!(due, followed(&schedule, &TimeZone::UTC));
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
}
