//! Times in syslog messages.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::FUTURE_MAX;

/// How many years back a time without a year may be: 29 February stands eight years apart around a
/// century that is no leap year.
const YEARS_BACK_MAX: i16 = 8;

/// How far ahead of now the second pass of a repeated hour may be and still be meant.
const FOLD_AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);

/// The longest time in ISO form, in characters.
const ISO_LENGTH_MAX: usize = 40;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Takes a time in RFC 3339 form off the beginning of `text`, with the space behind it. A time
/// without offset is in `zone`.
pub(super) fn iso<'a>(text: &'a str, zone: &TimeZone) -> Option<(Timestamp, &'a str)> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let is_iso = (19..=ISO_LENGTH_MAX).contains(&word.len())
        && word.as_bytes()[10] == b'T'
        && word.bytes().all(|b| b.is_ascii_digit() || b"-:.TZ+".contains(&b));
    if !is_iso {
        return None;
    }
    if let Ok(time) = word.parse::<Timestamp>() {
        return Some((time, rest));
    }
    let time = in_zone(word.parse::<DateTime>().ok()?, zone, None)?;
    Some((time, rest))
}

/// Takes a time in the form `Nov 24 15:00:00` off the beginning of `text`, with the space behind
/// it. A year may stand before the hour and a fraction behind the second. Without a year it is the
/// latest such time that is not more than [`FUTURE_MAX`] after `now`.
pub(super) fn traditional<'a>(
    text: &'a str,
    now: Timestamp,
    zone: &TimeZone,
) -> Option<(Timestamp, &'a str)> {
    // Routers mark an unsynchronised clock.
    let text = text.trim_start_matches(['*', '.']);
    let month = MONTHS.iter().position(|month| text.starts_with(month))?;
    let month = i8::try_from(month + 1).ok()?;
    let rest = text[3..].strip_prefix(' ')?;
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let (day, rest) = rest.split_once(' ')?;
    let day = number(day, 1, 2)?;
    let (mut clock, mut rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut year = None;
    if let Some(stated) = number(clock, 4, 4) {
        year = Some(stated);
        (clock, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    }
    // Some senders end the time with a colon.
    let clock = clock.strip_suffix(':').unwrap_or(clock);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.split(':').map(|part| number(part, 2, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    let nanosecond = nanoseconds(fraction)?;
    let at = |year: i16| {
        let [day, hour, minute] = [day, hour, minute].map(|n| i8::try_from(n).ok());
        // A leap second is the last second of its minute.
        let second = i8::try_from(second.min(if second == 60 { 59 } else { second })).ok()?;
        DateTime::new(year, month, day?, hour?, minute?, second, nanosecond).ok()
    };
    let time = match year {
        Some(year) => in_zone(at(year)?, zone, None)?,
        None => latest(at, now, zone)?,
    };
    Some((time, rest))
}

/// The latest of the same day and time in several years that is not after `now` by too much.
fn latest(
    at: impl Fn(i16) -> Option<DateTime>,
    now: Timestamp,
    zone: &TimeZone,
) -> Option<Timestamp> {
    let limit = now.checked_add(FUTURE_MAX).unwrap_or(Timestamp::MAX);
    let this_year = zone.to_datetime(now).year();
    (this_year.saturating_sub(YEARS_BACK_MAX)..=this_year.saturating_add(1))
        .rev()
        .filter_map(|year| in_zone(at(year)?, zone, Some(now)))
        .find(|time| *time <= limit)
}

/// The instant of a civil time. Of an hour that a zone repeats, the second pass is meant if it has
/// come by `now`; a time that a zone leaves out is moved forward by as much.
fn in_zone(at: DateTime, zone: &TimeZone, now: Option<Timestamp>) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(at);
    if let (AmbiguousOffset::Fold { after, .. }, Some(now)) = (ambiguous.offset(), now) {
        let second_pass = after.to_timestamp(at).ok()?;
        if second_pass.duration_since(now) <= FOLD_AHEAD_MAX {
            return Some(second_pass);
        }
    }
    ambiguous.compatible().ok()
}

/// Reads an unsigned number of so many digits.
fn number(text: &str, digits_min: usize, digits_max: usize) -> Option<i16> {
    let fits = (digits_min..=digits_max).contains(&text.len());
    (fits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Reads the digits behind a decimal point as nanoseconds.
fn nanoseconds(fraction: &str) -> Option<i32> {
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, now: &str, zone: &str, expect: Option<&str>) {
        let zone = TimeZone::get(zone).expect("a zone");
        let now = now.parse().expect("a time");
        let time = iso(text, &zone).or_else(|| traditional(text, now, &zone));
        assert_eq!(time.map(|(time, _)| time.to_string()).as_deref(), expect, "{text} at {now}");
    }

    #[test]
    fn times_without_a_year_are_the_latest_that_can_be_meant() {
        let now = "2026-11-24T15:00:00Z";
        check("Nov 24 14:59:59 h", now, "UTC", Some("2026-11-24T14:59:59Z"));
        check("Nov  4 14:59:59 h", now, "UTC", Some("2026-11-04T14:59:59Z"));
        check("Nov 24 16:00:00 h", now, "UTC", Some("2026-11-24T16:00:00Z"));
        check("Nov 26 16:00:00 h", now, "UTC", Some("2025-11-26T16:00:00Z"));
        check("Dec 31 23:59:59 h", "2027-01-01T00:00:03Z", "UTC", Some("2026-12-31T23:59:59Z"));
        check("Jan  1 00:00:03 h", "2026-12-31T23:59:59Z", "UTC", Some("2027-01-01T00:00:03Z"));
        check("Feb 29 12:00:00 h", now, "UTC", Some("2024-02-29T12:00:00Z"));
    }

    #[test]
    fn times_without_an_offset_are_in_the_zone() {
        let now = "2026-11-24T15:00:00Z";
        check("Nov 24 16:00:00 h", now, "Europe/Berlin", Some("2026-11-24T15:00:00Z"));
        check("2026-07-01T16:00:00 h", now, "Europe/Berlin", Some("2026-07-01T14:00:00Z"));
        check("2026-07-01T16:00:00.5+05:30 h", now, "UTC", Some("2026-07-01T10:30:00.5Z"));
        // New York repeats 01:30 on 1 November 2026, at 05:30Z and at 06:30Z.
        let zone = "America/New_York";
        check("Nov  1 01:30:00 h", "2026-11-01T05:31:00Z", zone, Some("2026-11-01T05:30:00Z"));
        check("Nov  1 01:30:00 h", "2026-11-01T06:31:00Z", zone, Some("2026-11-01T06:30:00Z"));
        // And leaves out 02:30 on 8 March.
        check("Mar  8 02:30:00 h", now, zone, Some("2026-03-08T07:30:00Z"));
    }

    #[test]
    fn variations_are_read() {
        let now = "2026-11-24T15:00:00Z";
        check("*Nov 24 2025 10:00:00.123: %SYS", now, "UTC", Some("2025-11-24T10:00:00.123Z"));
        check("Nov 24 10:00:60 h", now, "UTC", Some("2026-11-24T10:00:59Z"));
    }

    #[test]
    fn other_texts_are_no_times() {
        let now = "2026-11-24T15:00:00Z";
        for text in [
            "",
            "Nov",
            "Nov 24",
            "Nov 31 10:00:00 h",
            "Nov 24 25:00:00 h",
            "Nov 24 10:00 h",
            "Nov 24 10:00:00:00 h",
            "Nov 24 10:00:61 h",
            "November 24 10:00:00 h",
            "2026-11-24 15:00:00 h",
            "2026-13-24T15:00:00Z h",
            "2026-11-24T15:00:00Z[Europe/Berlin] h",
            "ääääääääääääääääääää",
        ] {
            check(text, now, "UTC", None);
        }
    }
}
