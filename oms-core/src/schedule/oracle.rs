//! The rule against a brute-force reading of its definition, in every zone that is built in.

use super::{
    DUE_COUNT_MAX, DayOfWeek, FoldPolicy, Frequency, GapPolicy, MisfirePolicy, MonthlyOccurrence,
    Rule, Schedule, ZoneName,
};
use jiff::civil::{Date, DateTime, Weekday, date};
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// The fewest schedules that each zone is tried with. There are hundreds of zones, so each gets one
/// of so many cases of other properties: `.ci/soak` asks for more of both.
const SCHEDULES_PER_ZONE_MIN: u32 = 4;
const CASES_PER_SCHEDULE: u32 = 64;

/// The cases of each zone, if a property has so many.
fn cases_per_zone(cases: u32) -> u32 {
    (cases / CASES_PER_SCHEDULE).max(SCHEDULES_PER_ZONE_MIN)
}

/// The settings for one of many zones, which each get schedules of their own from a seed that is given.
pub(super) fn config_of_zone(index: usize, cases: u32) -> Config {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng_seed = match config.rng_seed {
        RngSeed::Fixed(seed) => RngSeed::Fixed(seed.wrapping_add(index as u64)),
        RngSeed::Random => RngSeed::Random,
    };
    Config { rng_seed, ..config }
}

#[test]
fn each_zone_gets_schedules_of_its_own() {
    let first = |index| {
        let config = config_of_zone(index, 1);
        assert_eq!((config.cases, config.failure_persistence.is_none()), (1, true));
        let mut runner = TestRunner::new(config);
        format!("{:?}", any::<[u64; 4]>().new_tree(&mut runner).expect("drawn").current())
    };
    let drawn: std::collections::BTreeSet<String> = (0..100).map(first).collect();
    assert_eq!(drawn.len(), 100);
}

#[test]
fn a_soak_tries_more_schedules_in_each_zone() {
    assert_eq!([1, 256, 5_000].map(cases_per_zone), [4, 4, 78]);
}

/// How many instants of minutes and hours, which have millions in forty years, are compared.
const ELAPSED_COUNT: usize = 1_500;

pub(super) fn zone(name: &str) -> ZoneName {
    let Ok(zone) = name.parse();
    zone
}

/// Every zone of the database that is built in.
pub(super) fn bundled_zones() -> Vec<(String, TimeZone)> {
    let bundled = TimeZoneDatabase::bundled();
    let names = bundled.available().map(|name| name.as_str().to_owned());
    let zones: Vec<_> =
        names.map(|name| (name.clone(), bundled.get(&name).expect("it is there"))).collect();
    assert!(zones.len() > 590, "{}", zones.len());
    zones
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn local(text: &str) -> DateTime {
    text.parse().expect("a local time")
}

/// Changes of offset from 2000 to 2040: when, from what, to what.
pub(super) fn changes(zone: &TimeZone) -> Vec<(Timestamp, Offset, Offset)> {
    let (begin, end) = (at("2000-01-01T00:00:00Z"), at("2040-12-31T00:00:00Z"));
    let mut changes = Vec::new();
    for transition in zone.following(begin) {
        let when = transition.timestamp();
        if when > end {
            break;
        }
        let before = zone.to_offset(when.checked_sub(1.nanosecond()).expect("in range"));
        if before != transition.offset() {
            changes.push((when, before, transition.offset()));
        }
    }
    changes
}

/// Every instant that shows `local` on a clock of the zone, by trying each offset in use nearby;
/// for a gap the instant at which it ends.
fn instants(
    zone: &TimeZone,
    changes: &[(Timestamp, Offset, Offset)],
    local: DateTime,
) -> (Vec<Timestamp>, Option<Timestamp>) {
    let mut offsets = vec![zone.to_offset(Offset::UTC.to_timestamp(local).expect("in range"))];
    offsets.extend(changes.iter().flat_map(|(_, before, after)| [*before, *after]));
    let mut found: Vec<Timestamp> = offsets
        .into_iter()
        .filter_map(|offset| {
            let instant = offset.to_timestamp(local).ok()?;
            (zone.to_offset(instant) == offset).then_some(instant)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    let gap = changes.iter().find(|(when, before, after)| {
        before.to_datetime(*when) <= local && local < after.to_datetime(*when)
    });
    (found, gap.map(|(when, ..)| *when))
}

fn once(time_zone: &TimeZone, start: DateTime, gap: GapPolicy, fold: FoldPolicy) -> Vec<Timestamp> {
    let schedule = Schedule { gap, fold, ..Schedule::new(start, zone("UTC")) };
    schedule.compile_in(time_zone.clone()).expect("a schedule").iter().collect()
}

/// Around every change of every zone, each local quarter of an hour gives what the definition of
/// the policies gives.
#[test]
fn every_zone_and_change_of_offset() {
    let (mut gaps, mut folds) = (0, 0);
    for (name, time_zone) in bundled_zones() {
        let changes = changes(&time_zone);
        for (index, (when, before, after)) in changes.iter().enumerate() {
            let near = &changes[index.saturating_sub(1)..(index + 2).min(changes.len())];
            let early = before.to_datetime(*when).min(after.to_datetime(*when));
            for quarter in -3..14 {
                let local = early.checked_add((15 * quarter).minutes()).expect("in range");
                let (shown, gap_end) = instants(&time_zone, near, local);
                let once = |gap, fold| once(&time_zone, local, gap, fold);
                let skip = once(GapPolicy::Skip, FoldPolicy::Both);
                assert_eq!(skip, shown, "{name:?} {local}");
                let first = once(GapPolicy::FirstValid, FoldPolicy::First);
                let last = once(GapPolicy::FirstValid, FoldPolicy::Last);
                match (shown.as_slice(), gap_end) {
                    ([], Some(end)) => {
                        gaps += 1;
                        assert_eq!((&first, &last), (&vec![end], &vec![end]), "{name:?} {local}");
                    }
                    ([.., _], _) => {
                        folds += u32::from(shown.len() == 2);
                        assert_eq!(first, [shown[0]], "{name:?} {local}");
                        assert_eq!(last, [shown[shown.len() - 1]], "{name:?} {local}");
                    }
                    ([], None) => panic!("{name:?} {local} is neither shown nor in a gap"),
                }
            }
        }
    }
    assert!(gaps > 10_000 && folds > 10_000, "{gaps} {folds}");
}

/// Whether a date belongs to a rule, as the documentation of [`Frequency`] says.
pub(super) fn is_wanted(frequency: &Frequency, start: Date, day: Date) -> bool {
    let days_between = |a: Date, b: Date| i64::from((b - a).get_days());
    let monday = |date: Date| date - i64::from(date.weekday().to_monday_zero_offset()).days();
    match frequency {
        Frequency::OneTime => day == start,
        Frequency::Day { interval } => days_between(start, day) % i64::from(*interval) == 0,
        Frequency::Week { interval, days } => {
            let weeks = days_between(monday(start), monday(day)) / 7;
            let on = |wanted: &DayOfWeek| Weekday::from(*wanted) == day.weekday();
            let is_day = days.iter().any(on) || days.is_empty() && day.weekday() == start.weekday();
            weeks % i64::from(*interval) == 0 && is_day
        }
        Frequency::Month { interval, days, occurrences } => {
            let month = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
            let is_last = day.day() == day.days_in_month();
            let by_day = |wanted: &i8| *wanted == day.day() || *wanted == -1 && is_last;
            let which = (day.day() - 1) / 7 + 1;
            let is_last_of_kind = day.day() + 7 > day.days_in_month();
            let by_weekday = |wanted: &MonthlyOccurrence| {
                Weekday::from(wanted.day) == day.weekday()
                    && (wanted.occurrence == which || wanted.occurrence == -1 && is_last_of_kind)
            };
            let is_plain = days.is_empty() && occurrences.is_empty();
            (month(day) - month(start)) % i64::from(*interval) == 0
                && (days.iter().any(by_day)
                    || occurrences.iter().any(by_weekday)
                    || is_plain && day.day() == start.day())
        }
        Frequency::Minute { .. } | Frequency::Hour { .. } => unreachable!("not of dates"),
    }
}

pub(super) fn weekday() -> impl Strategy<Value = DayOfWeek> {
    use DayOfWeek as D;
    prop::sample::select(vec![
        D::Monday,
        D::Tuesday,
        D::Wednesday,
        D::Thursday,
        D::Friday,
        D::Saturday,
        D::Sunday,
    ])
}

pub(super) fn calendar() -> impl Strategy<Value = Frequency> {
    let day = prop_oneof![Just(-1i8), 1i8..=31];
    let occurrence = (prop_oneof![Just(-1i8), 1i8..=5], weekday())
        .prop_map(|(occurrence, day)| MonthlyOccurrence { occurrence, day });
    prop_oneof![
        Just(Frequency::OneTime),
        (1u32..40).prop_map(|interval| Frequency::Day { interval }),
        (1u32..9, prop::collection::vec(weekday(), 0..4))
            .prop_map(|(interval, days)| Frequency::Week { interval, days }),
        (1u32..14, prop::collection::vec(day, 0..4), prop::collection::vec(occurrence, 0..3))
            .prop_map(|(interval, days, occurrences)| Frequency::Month {
                interval,
                days,
                occurrences
            }),
    ]
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let frequency = prop_oneof![
        5 => calendar(),
        1 => (1u32..3000).prop_map(|interval| Frequency::Minute { interval }),
        1 => (1u32..100).prop_map(|interval| Frequency::Hour { interval }),
    ];
    // Clocks change in the small hours more often than not.
    let minute_of_day = prop_oneof![0i32..240, 0i32..1440];
    let gap = prop_oneof![Just(GapPolicy::FirstValid), Just(GapPolicy::Skip)];
    let fold = prop_oneof![Just(FoldPolicy::First), Just(FoldPolicy::Last), Just(FoldPolicy::Both)];
    let misfire = prop_oneof![
        Just(MisfirePolicy::Skip),
        (0u64..1_000_000).prop_map(|deadline_seconds| MisfirePolicy::Once { deadline_seconds }),
        (1u32..100).prop_map(|count_max| MisfirePolicy::All { count_max }),
    ];
    let expiry = prop::option::weighted(0.2, 0i64..1_262_304_000);
    (frequency, 0i32..14_000, minute_of_day, gap, fold, misfire, expiry).prop_map(
        |(frequency, day, minute, gap, fold, misfire, expiry)| Schedule {
            start: (date(2000, 1, 1) + day.days()).at(0, 0, 0, 0) + minute.minutes(),
            zone: zone("UTC"),
            frequency,
            expiry: expiry
                .map(|after| at("2000-01-01T00:00:00Z") + SignedDuration::from_secs(after)),
            gap,
            fold,
            misfire,
        },
    )
}

/// The instants of one local time under the schedule's policies.
fn chosen(
    schedule: &Schedule,
    zone: &TimeZone,
    changes: &[(Timestamp, Offset, Offset)],
    local: DateTime,
) -> Vec<Timestamp> {
    let reading = Offset::UTC.to_timestamp(local).expect("in range");
    let days = SignedDuration::from_hours(72);
    let begin = changes.partition_point(|(when, ..)| *when < reading - days);
    let end = changes.partition_point(|(when, ..)| *when <= reading + days);
    let (shown, gap_end) = instants(zone, &changes[begin..end], local);
    match (shown.as_slice(), schedule.gap, schedule.fold) {
        ([], GapPolicy::FirstValid, _) => vec![gap_end.expect("in a gap")],
        ([], GapPolicy::Skip, _) => Vec::new(),
        ([first, ..], _, FoldPolicy::First) => vec![*first],
        ([.., last], _, FoldPolicy::Last) => vec![*last],
        (both, _, FoldPolicy::Both) => both.to_vec(),
    }
}

/// Every due instant before 2040, or the first of them: by looking at each day, or by adding up.
fn expected(
    schedule: &Schedule,
    zone: &TimeZone,
    changes: &[(Timestamp, Offset, Offset)],
) -> Vec<Timestamp> {
    let end = at("2040-01-01T00:00:00Z");
    let seconds = match &schedule.frequency {
        Frequency::Minute { interval } => Some(60 * i64::from(*interval)),
        Frequency::Hour { interval } => Some(3600 * i64::from(*interval)),
        _ => None,
    };
    let mut found = Vec::new();
    if let Some(seconds) = seconds {
        let lenient = Schedule { gap: GapPolicy::FirstValid, ..schedule.clone() };
        let first = chosen(&lenient, zone, changes, schedule.start)[0];
        let is_first_due = !chosen(schedule, zone, changes, schedule.start).is_empty();
        for index in i64::from(!is_first_due)..ELAPSED_COUNT as i64 + 1 {
            found.push(first + SignedDuration::from_secs(seconds * index));
        }
    } else {
        let mut day = schedule.start.date();
        while day.year() < 2040 {
            if is_wanted(&schedule.frequency, schedule.start.date(), day) {
                found.extend(chosen(
                    schedule,
                    zone,
                    changes,
                    day.to_datetime(schedule.start.time()),
                ));
            }
            day = day.tomorrow().expect("in range");
        }
        found.sort_unstable();
        found.dedup();
    }
    found.retain(|due| *due < end && schedule.expiry.is_none_or(|expiry| *due <= expiry));
    found
}

/// In every zone, from 2000 to 2040, a schedule is due at exactly the instants of its definition;
/// asking in the middle gives what counting from the start gives; and what passed is answered as
/// the misfire policy says.
#[test]
fn every_zone_is_due_at_the_instants_of_the_definition() {
    for (index, (name, zone)) in bundled_zones().into_iter().enumerate() {
        let changes = changes(&zone);
        let config = config_of_zone(index, cases_per_zone(Config::default().cases));
        let probes = (any::<prop::sample::Index>(), 0i64..4_000_000, 0i64..4_000);
        let checked = TestRunner::new(config).run(&(schedule(), probes), |(schedule, probes)| {
            let expected = expected(&schedule, &zone, &changes);
            let rule = schedule.compile_in(zone.clone()).expect("a schedule");
            let end = at("2040-01-01T00:00:00Z");
            let due: Vec<_> =
                rule.iter().take_while(|due| *due < end).take(expected.len().max(1)).collect();
            prop_assert_eq!(&due, &expected);
            if expected.is_empty() {
                return Ok(());
            }
            let (index, passed, lateness) = probes;
            let index = index.index(expected.len());
            let just_before = expected[index] - 1.nanosecond();
            prop_assert_eq!(rule.next_after(just_before), Some(expected[index]));
            if let Some(next) = expected.get(index + 1) {
                prop_assert_eq!(rule.next_after(expected[index]), Some(*next));
            }
            let (since, now) = (just_before, just_before + SignedDuration::from_secs(passed));
            let now = now.min(*expected.last().expect("not empty"));
            check_due(&schedule, &rule, &expected, since, now, SignedDuration::from_secs(lateness))
        });
        checked.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// What is answered of `expected` between `since` and `now`, by taking one after the other.
fn check_due(
    schedule: &Schedule,
    rule: &Rule,
    expected: &[Timestamp],
    since: Timestamp,
    now: Timestamp,
    lateness: SignedDuration,
) -> Result<(), TestCaseError> {
    let late = |due: &Timestamp| now.duration_since(*due);
    let mut passed: Vec<_> =
        expected.iter().copied().filter(|due| since < *due && *due <= now).collect();
    passed.drain(..passed.len().saturating_sub(DUE_COUNT_MAX));
    let (missed, on_time): (Vec<_>, Vec<_>) =
        passed.iter().copied().partition(|due| late(due) > lateness);
    let mut wanted = match schedule.misfire {
        MisfirePolicy::Skip => Vec::new(),
        MisfirePolicy::Once { deadline_seconds } => {
            let deadline = SignedDuration::from_secs(deadline_seconds as i64);
            let latest = missed.last().filter(|due| late(due) <= deadline);
            latest.filter(|_| on_time.is_empty()).into_iter().copied().collect()
        }
        MisfirePolicy::All { count_max } => {
            missed[missed.len().saturating_sub(count_max as usize)..].to_vec()
        }
    };
    wanted.extend(on_time);
    let report = rule.due(since, now, lateness);
    prop_assert_eq!(report.left_out, passed.len() - wanted.len());
    prop_assert_eq!(report.due, wanted);
    prop_assert_eq!(report.next, rule.next_after(now));
    Ok(())
}

#[test]
fn an_expiry_ends_a_rule_and_is_itself_due() {
    let mut schedule = Schedule::new(local("2026-01-01T00:00:00"), zone("UTC"));
    schedule.frequency = Frequency::Day { interval: 1 };
    schedule.expiry = Some(at("2026-01-03T00:00:00Z"));
    let rule = schedule.compile().expect("a schedule");
    assert_eq!(rule.iter().count(), 3);
    assert_eq!(rule.next_after(at("2026-01-03T00:00:00Z")), None);
}

#[test]
fn a_day_that_never_comes_ends_the_search() {
    let mut schedule = Schedule::new(local("2026-02-01T00:00:00"), zone("UTC"));
    let (days, occurrences) = (vec![30], Vec::new());
    schedule.frequency = Frequency::Month { interval: 12, days, occurrences };
    assert_eq!(schedule.compile().expect("a schedule").iter().next(), None);
}

#[test]
fn missed_instants_follow_their_policy() {
    let mut schedule = Schedule::new(local("2026-01-01T00:00:00"), zone("UTC"));
    schedule.frequency = Frequency::Hour { interval: 1 };
    let report = |misfire, now: &str| {
        let schedule = Schedule { misfire, ..schedule.clone() };
        let rule = schedule.compile().expect("a schedule");
        let since = at("2026-01-01T00:00:00Z");
        let report = rule.due(since, at(now), SignedDuration::from_secs(5));
        assert_eq!(report.next, Some(at("2026-01-01T06:00:00Z")));
        let due: Vec<String> = report.due.iter().map(Timestamp::to_string).collect();
        (due.join(" "), report.left_out)
    };
    let (late, on_time) = ("2026-01-01T05:20:00Z", "2026-01-01T05:00:05Z");
    assert_eq!(report(MisfirePolicy::Skip, late), (String::new(), 5));
    assert_eq!(report(MisfirePolicy::Skip, on_time), ("2026-01-01T05:00:00Z".to_owned(), 4));
    for now in [late, on_time] {
        let once = report(MisfirePolicy::default(), now);
        assert_eq!(once, ("2026-01-01T05:00:00Z".to_owned(), 4), "{now}");
    }
    let in_vain = MisfirePolicy::Once { deadline_seconds: 600 };
    assert_eq!(report(in_vain, late), (String::new(), 5));
    let two = "2026-01-01T04:00:00Z 2026-01-01T05:00:00Z";
    assert_eq!(report(MisfirePolicy::All { count_max: 2 }, late), (two.to_owned(), 3));
    let three = format!("2026-01-01T03:00:00Z {two}");
    assert_eq!(report(MisfirePolicy::All { count_max: 2 }, on_time), (three, 2));
}

#[test]
fn years_of_missed_minutes_are_answered_with_the_latest() {
    let mut schedule = Schedule::new(local("2000-01-01T00:00:00"), zone("UTC"));
    schedule.frequency = Frequency::Minute { interval: 1 };
    let rule = schedule.compile().expect("a schedule");
    let (since, now) = (at("2000-01-01T00:00:00Z"), at("2039-12-31T23:59:30Z"));
    let report = rule.due(since, now, SignedDuration::ZERO);
    assert_eq!(report.due, [at("2039-12-31T23:59:00Z")]);
    assert_eq!(report.left_out, DUE_COUNT_MAX - 1);
    // A clock that was set back makes nothing due again.
    let report = rule.due(now, since, SignedDuration::ZERO);
    assert_eq!((report.due, report.left_out), (vec![], 0));
    assert_eq!(report.next, Some(at("2040-01-01T00:00:00Z")));
}

#[test]
fn minutes_count_from_the_end_of_the_gap_that_the_start_is_in() {
    let mut schedule = Schedule::new(local("2026-03-29T02:30:00"), zone("Europe/Zurich"));
    schedule.frequency = Frequency::Minute { interval: 20 };
    let first = |schedule: &Schedule| schedule.compile().expect("a schedule").iter().next();
    assert_eq!(first(&schedule), Some(at("2026-03-29T01:00:00Z")));
    schedule.gap = GapPolicy::Skip;
    assert_eq!(first(&schedule), Some(at("2026-03-29T01:20:00Z")));
    schedule.start = local("2026-10-25T02:30:00");
    assert_eq!(first(&schedule), Some(at("2026-10-25T00:30:00Z")));
    schedule.fold = FoldPolicy::Last;
    assert_eq!(first(&schedule), Some(at("2026-10-25T01:30:00Z")));
}

#[test]
fn wrong_fields_are_named() {
    let schedule = Schedule::new(local("2026-01-01T00:00:00"), zone("UTC"));
    let error = |frequency| {
        let schedule = Schedule { frequency, ..schedule.clone() };
        schedule.compile().expect_err("refused").to_string()
    };
    assert!(error(Frequency::Day { interval: 0 }).contains("interval"));
    let month = |days, occurrences| Frequency::Month { interval: 1, days, occurrences };
    assert!(error(month(vec![32], vec![])).contains("month day"));
    assert!(error(month(vec![0], vec![])).contains("month day"));
    let misfire = MisfirePolicy::All { count_max: 0 };
    let refused = Schedule { misfire, ..schedule.clone() }.compile().expect_err("refused");
    assert!(refused.to_string().contains("misfire count"));
    let sixth = MonthlyOccurrence { occurrence: 6, day: DayOfWeek::Monday };
    assert!(error(month(vec![], vec![sixth])).contains("monthly occurrence"));
}
