//! The rule against two libraries that know nothing of it: `croner` (cron patterns) and `rrule`
//! (recurrence rules of RFC 5545), in every zone that both databases have. Where one knows of a change of
//! offset that the other does not, what is due near instants at which they differ is left out.
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

use super::oracle::{bundled_zones, calendar, changes, config_of_zone, zone};
use super::zone::WINDOWS;
use super::{DayOfWeek, Frequency, GapPolicy, MonthlyOccurrence, Schedule};
use chrono::{NaiveDate, NaiveDateTime, TimeZone as _};
use croner::{Cron, Direction};
use jiff::civil::{Date, DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rrule::{NWeekday, RRule, RRuleSet};

/// How far a schedule is followed in every zone.
const FOLLOWED_YEARS: i16 = 6;

/// How far it is followed in [`DECADES_ZONES`] and in those that Windows has names for.
const DECADES_YEARS: i16 = 38;

/// Zones whose clocks change in different ways: in summer of the north, of the south, by half an hour, by
/// two, in winter, around Ramadan, at midnight, by offsets of quarters, over the date line, no more.
const DECADES_ZONES: [&str; 24] = [
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Havana",
    "America/Caracas",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Adelaide",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Europe/Dublin",
    "Europe/Istanbul",
    "Europe/Zurich",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
];

/// A zone as both databases have it.
struct Shared {
    name: String,
    ours: TimeZone,
    theirs: chrono_tz::Tz,
    /// Instants at which the two differ.
    apart: Vec<Timestamp>,
}

impl Shared {
    /// Looks at each change of offset that ours has, and every three hours.
    fn new(name: String, ours: TimeZone, theirs: chrono_tz::Tz) -> Self {
        let begin: Timestamp = "2000-01-01T00:00:00Z".parse().expect("an instant");
        let nanosecond = SignedDuration::from_nanos(1);
        let edges = changes(&ours).into_iter().flat_map(|(when, ..)| [when - nanosecond, when]);
        let is_apart = |at: &Timestamp| {
            let at_theirs = chrono::DateTime::from_timestamp(at.as_second(), 0).expect("in range");
            let offset = theirs.offset_from_utc_datetime(&at_theirs.naive_utc());
            chrono::Offset::fix(&offset).local_minus_utc() != ours.to_offset(*at).seconds()
        };
        let every = |hours: i64| {
            (0..41 * 366 * 24 / hours)
                .map(move |step| begin + SignedDuration::from_hours(hours * step))
        };
        let mut apart: Vec<Timestamp> = edges.chain(every(240)).filter(is_apart).collect();
        if !apart.is_empty() {
            apart.extend(every(3).filter(is_apart));
            apart.sort_unstable();
        }
        Self { name, ours, theirs, apart }
    }

    /// Whether the two databases agree from two days before an instant to two days after it.
    fn is_agreed(&self, at: &Timestamp) -> bool {
        let days = SignedDuration::from_hours(48);
        let next = self.apart.partition_point(|apart| *apart < *at - days);
        self.apart.get(next).is_none_or(|apart| *apart > *at + days)
    }
}

/// Every zone of both databases.
fn shared_zones() -> Vec<Shared> {
    let both = bundled_zones().into_iter().filter_map(|(name, ours)| {
        let theirs = name.parse().ok()?;
        Some(Shared::new(name, ours, theirs))
    });
    let shared: Vec<Shared> = both.collect();
    let is_same = |zone: &&Shared| zone.apart.is_empty();
    assert!(shared.len() > 580, "{}", shared.len());
    assert!(shared.iter().filter(is_same).count() > 540);
    shared
}

/// Those of [`DECADES_ZONES`], and each that Windows has a name for, found by that name.
fn zones_of_decades() -> Vec<Shared> {
    let windows = WINDOWS.iter().copied();
    let named = DECADES_ZONES.into_iter().map(|name| (name, name)).chain(windows);
    let found = named.map(|(name, iana)| {
        let ours = zone(name).time_zone().expect("known");
        // The other database lacks none of them.
        Shared::new(name.to_owned(), ours, iana.parse().expect("known"))
    });
    found.collect()
}

/// A schedule that is followed in a zone until an instant.
struct Tried<'z> {
    schedule: Schedule,
    zone: &'z Shared,
    end: Timestamp,
}

impl Tried<'_> {
    fn new(schedule: Schedule, zone: &Shared, years: i16) -> Tried<'_> {
        let end = schedule.start + years.years();
        Tried { schedule, zone, end: jiff::tz::Offset::UTC.to_timestamp(end).expect("in range") }
    }

    fn followed(&self, gap: GapPolicy) -> Vec<Timestamp> {
        let schedule = Schedule { gap, ..self.schedule.clone() };
        let rule = schedule.compile_in(self.zone.ours.clone()).expect("a schedule");
        rule.iter().take_while(|due| *due < self.end).collect()
    }
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
fn by_croner(pattern: &str, tried: &Tried<'_>) -> Vec<Timestamp> {
    let cron: Cron = pattern.parse().expect("a pattern");
    let start = naive(tried.schedule.start);
    // A day early, because the start may be in a gap; what is before it is dropped by its clock.
    let begin = tried.zone.theirs.from_utc_datetime(&(start - chrono::Duration::days(2)));
    let due = cron.iter_from(begin, Direction::Forward).skip_while(|due| due.naive_local() < start);
    due.map(|due| instant(due.timestamp())).take_while(|due| *due < tried.end).collect()
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

/// In how many instants a schedule agrees; `None` if the other library cannot express it.
type Check = fn(&Tried<'_>) -> Result<Option<usize>, TestCaseError>;

/// Runs `check` on so many schedules of each zone; answers how many it compared, and in
/// how many instants.
fn in_zones(zones: &[Shared], cases: u32, years: i16, check: Check) -> (u32, usize) {
    let compared = std::cell::Cell::new((0, 0));
    for (index, shared) in zones.iter().enumerate() {
        let config = Config { max_global_rejects: 10_000, ..config_of_zone(index, cases) };
        // So that a schedule that is followed for decades ends with the years that are looked at.
        let latest_day = i64::from(39 - years) * 365;
        let start = start().prop_map(move |start| {
            let day = (start.date() - date(2000, 1, 1)).get_days();
            date(2000, 1, 1)
                .checked_add((i64::from(day) % latest_day).days())
                .expect("in range")
                .to_datetime(start.time())
        });
        let checked = TestRunner::new(config).run(&(calendar(), start), |(frequency, start)| {
            let schedule = Schedule { frequency, ..Schedule::new(start, zone("UTC")) };
            match check(&Tried::new(schedule, shared, years))? {
                Some(instants) => {
                    let (schedules, before) = compared.get();
                    compared.set((schedules + 1, before + instants));
                    Ok(())
                }
                None => Err(TestCaseError::reject("not expressible")),
            }
        });
        checked.unwrap_or_else(|error| panic!("{}: {error}", shared.name));
    }
    compared.get()
}

/// In every zone some schedules for some years: there are nearly 600.
fn in_every_zone(check: Check) -> (u32, usize) {
    let cases = (Config::default().cases / 80).clamp(3, 20);
    in_zones(&shared_zones(), cases, FOLLOWED_YEARS, check)
}

/// In zones of every sort for decades.
fn for_decades(check: Check) -> (u32, usize) {
    let cases = (Config::default().cases / 80).clamp(3, 20);
    in_zones(&zones_of_decades(), cases, DECADES_YEARS, check)
}

fn croner_agrees(tried: &Tried<'_>) -> Result<Option<usize>, TestCaseError> {
    let (ours, time) = (&tried.zone.ours, tried.schedule.start.time());
    let Some(pattern) = pattern(&tried.schedule) else { return Ok(None) };
    let mut followed = tried.followed(tried.schedule.gap);
    let mut due = by_croner(&pattern, tried);
    if has_gap_over_midnight(ours) {
        followed = tried.followed(GapPolicy::Skip);
        due.retain(|due| ours.to_datetime(*due).time() == time);
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
    due.retain(|due| tried.zone.is_agreed(due));
    followed.retain(|due| tried.zone.is_agreed(due));
    prop_assert_eq!(&due, &followed, "{}", pattern);
    Ok(Some(followed.len()))
}

#[test]
fn croner_agrees_in_every_zone() {
    let (schedules, instants) = in_every_zone(croner_agrees);
    assert!(schedules > 1_500 && instants > 50_000, "{schedules} {instants}");
}

#[test]
fn croner_agrees_for_decades() {
    let (schedules, instants) = for_decades(croner_agrees);
    assert!(schedules > 480 && instants > 150_000, "{schedules} {instants}");
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
fn by_rrule(tried: &Tried<'_>) -> Option<Vec<Timestamp>> {
    let (schedule, end) = (&tried.schedule, tried.end);
    let zone: rrule::Tz = tried.zone.theirs.into();
    let start = zone.from_local_datetime(&naive(schedule.start)).earliest()?;
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

fn rrule_agrees(tried: &Tried<'_>) -> Result<Option<usize>, TestCaseError> {
    let (ours, time) = (&tried.zone.ours, tried.schedule.start.time());
    let Some(mut due) = by_rrule(tried) else { return Ok(None) };
    // It passes over a day whose midnight comes twice, such as 2006-10-01 in Managua.
    let is_compared = |due: &Timestamp| {
        let midnight = ours.to_datetime(*due).date().at(0, 0, 0, 0);
        let offset = ours.to_ambiguous_timestamp(midnight).offset();
        !matches!(offset, jiff::tz::AmbiguousOffset::Fold { .. }) && tried.zone.is_agreed(due)
    };
    due.retain(|due| ours.to_datetime(*due).time() == time && is_compared(due));
    let mut followed = tried.followed(GapPolicy::Skip);
    followed.retain(is_compared);
    prop_assert_eq!(&due, &followed);
    Ok(Some(followed.len()))
}

#[test]
fn rrule_agrees_in_every_zone() {
    let (schedules, instants) = in_every_zone(rrule_agrees);
    assert!(schedules > 1_500 && instants > 50_000, "{schedules} {instants}");
}

#[test]
fn rrule_agrees_for_decades() {
    let (schedules, instants) = for_decades(rrule_agrees);
    assert!(schedules > 480 && instants > 150_000, "{schedules} {instants}");
}

/// Both sorts of zones are compared by themselves, and near what they differ in nothing is.
#[test]
fn what_the_databases_differ_in_is_left_out() {
    let ours = zone("Europe/Zurich").time_zone().expect("known");
    let same = Shared::new("same".to_owned(), ours.clone(), chrono_tz::Europe::Berlin);
    assert!(same.apart.is_empty());
    let other = Shared::new("other".to_owned(), ours, chrono_tz::Africa::Algiers);
    // In winter the two have one offset.
    let is_agreed = |at: &str| other.is_agreed(&at.parse().expect("an instant"));
    assert!(is_agreed("2020-02-01T00:00:00Z") && !is_agreed("2020-07-01T00:00:00Z"));
    assert!(is_agreed("2020-03-26T12:00:00Z") && !is_agreed("2020-03-28T12:00:00Z"));
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
        let utc = Shared {
            name: "UTC".to_owned(),
            ours: TimeZone::UTC,
            theirs: chrono_tz::UTC,
            apart: Vec::new(),
        };
        let tried = Tried::new(schedule, &utc, FOLLOWED_YEARS);
        let due = by_rrule(&tried).expect("expressible");
        prop_assert_eq!(due, tried.followed(GapPolicy::Skip));
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
}
