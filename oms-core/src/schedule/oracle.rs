//! The rule against a brute-force reading of its definition.

use super::{
    DayOfWeek, FoldPolicy, Frequency, GapPolicy, MisfirePolicy, MonthlyOccurrence, Schedule,
    ZoneName,
};
use jiff::civil::{Date, DateTime, Weekday, date};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

fn zone(name: &str) -> ZoneName {
    let Ok(zone) = name.parse();
    zone
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn local(text: &str) -> DateTime {
    text.parse().expect("a local time")
}

/// Changes of offset from 2000 to 2040: when, from what, to what.
fn changes(zone: &TimeZone) -> Vec<(Timestamp, Offset, Offset)> {
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

fn once(start: DateTime, zone: ZoneName, gap: GapPolicy, fold: FoldPolicy) -> Vec<Timestamp> {
    let schedule = Schedule { gap, fold, ..Schedule::new(start, zone) };
    schedule.compile().expect("a schedule").iter().collect()
}

/// Around every change of every zone, each local quarter of an hour gives what the definition of
/// the policies gives.
#[test]
fn every_zone_and_change_of_offset() {
    let (mut zones, mut gaps, mut folds) = (0, 0, 0);
    for name in jiff::tz::db().available() {
        let Ok(time_zone) = TimeZone::get(name.as_str()) else { continue };
        let changes = changes(&time_zone);
        zones += 1;
        for (index, (when, before, after)) in changes.iter().enumerate() {
            let near = &changes[index.saturating_sub(1)..(index + 2).min(changes.len())];
            let early = before.to_datetime(*when).min(after.to_datetime(*when));
            for quarter in -3..14 {
                let local = early.checked_add((15 * quarter).minutes()).expect("in range");
                let (shown, gap_end) = instants(&time_zone, near, local);
                let start = || zone(name.as_str());
                let skip = once(local, start(), GapPolicy::Skip, FoldPolicy::Both);
                assert_eq!(skip, shown, "{name:?} {local}");
                let first = once(local, start(), GapPolicy::FirstValid, FoldPolicy::First);
                let last = once(local, start(), GapPolicy::FirstValid, FoldPolicy::Last);
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
    assert!(zones > 300 && gaps > 10_000 && folds > 10_000, "{zones} {gaps} {folds}");
}

/// Whether a date belongs to a rule, as the documentation of [`Frequency`] says.
fn is_wanted(frequency: &Frequency, start: Date, day: Date) -> bool {
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

fn weekday() -> impl Strategy<Value = DayOfWeek> {
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

fn frequency() -> impl Strategy<Value = Frequency> {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Over forty years a rule is due on exactly the days of its definition, and asking in the
    /// middle gives the same as counting from the start.
    #[test]
    fn rules_are_due_on_the_days_of_their_definition(
        frequency in frequency(),
        start_day in 0i32..2000,
        hour in 0i8..24,
        name in prop::sample::select(vec![
            "Europe/Zurich", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe",
            "America/St_Johns", "Pacific/Apia", "UTC",
        ]),
        probe in 0usize..1000,
    ) {
        let first = date(2000, 1, 1) + start_day.days();
        let start = first.at(hour, 30, 0, 0);
        let schedule = Schedule { frequency, ..Schedule::new(start, zone(name)) };
        let rule = schedule.compile().expect("a schedule");
        let time_zone = schedule.zone.time_zone().expect("a zone");
        let end = date(2040, 1, 1);
        let mut expected = Vec::new();
        let mut day = first;
        while day < end {
            if is_wanted(&schedule.frequency, first, day) {
                let ambiguous = time_zone.to_ambiguous_timestamp(day.at(hour, 30, 0, 0));
                // Gaps have a test of their own; here the days count.
                if !matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. }) {
                    expected.push(ambiguous.earlier().expect("in range"));
                }
            }
            day = day.tomorrow().expect("in range");
        }
        let skipping = Schedule { gap: GapPolicy::Skip, ..schedule.clone() };
        let skipping = skipping.compile().expect("a schedule");
        let limit = time_zone.to_ambiguous_timestamp(end.at(0, 0, 0, 0)).earlier().expect("in range");
        let due: Vec<_> = skipping.iter().take_while(|due| *due < limit).collect();
        prop_assert_eq!(&due, &expected);
        if let Some(middle) = due.get(probe % due.len().max(1)) {
            let next = skipping.next_after(*middle);
            let counted = skipping.iter().find(|due| due > middle);
            prop_assert_eq!(next, counted);
        }
        prop_assert_eq!(rule.next_after(Timestamp::MIN), rule.iter().next());
    }

    /// Minutes and hours are exact.
    #[test]
    fn minutes_and_hours_are_elapsed_time(interval in 1u32..100, count in 0usize..200) {
        let mut schedule = Schedule::new(local("2026-03-28T23:15:00"), zone("Europe/Zurich"));
        schedule.frequency = Frequency::Minute { interval };
        let rule = schedule.compile().expect("a schedule");
        let due = rule.iter().nth(count).expect("for ever");
        let elapsed = due.duration_since(at("2026-03-28T22:15:00Z"));
        prop_assert_eq!(elapsed.as_secs(), i64::from(interval) * 60 * count as i64);
        prop_assert_eq!(rule.next_after(due), rule.iter().nth(count + 1));
    }
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
    let missed = |misfire, now: &str| {
        let schedule = Schedule { misfire, ..schedule.clone() };
        let rule = schedule.compile().expect("a schedule");
        let due = rule.missed(at("2026-01-01T00:00:00Z"), at(now));
        due.into_iter().map(|at| at.to_string()).collect::<Vec<_>>()
    };
    let late = "2026-01-01T05:20:00Z";
    let none: [&str; 0] = [];
    assert_eq!(missed(MisfirePolicy::Skip, late), none);
    assert_eq!(missed(MisfirePolicy::Skip, "2026-01-01T05:00:00Z"), ["2026-01-01T05:00:00Z"]);
    assert_eq!(missed(MisfirePolicy::default(), late), ["2026-01-01T05:00:00Z"]);
    assert_eq!(missed(MisfirePolicy::Once { deadline_seconds: 600 }, late), none);
    assert_eq!(
        missed(MisfirePolicy::All { count_max: 2 }, late),
        ["2026-01-01T04:00:00Z", "2026-01-01T05:00:00Z"]
    );
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
    let sixth = MonthlyOccurrence { occurrence: 6, day: DayOfWeek::Monday };
    assert!(error(month(vec![], vec![sixth])).contains("monthly occurrence"));
}
