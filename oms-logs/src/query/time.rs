//! `datetime` and `timespan`: 64-bit counts of ticks.
//!
//! A tick is 100 ns. A `datetime` counts ticks since 0001-01-01T00:00:00Z and reaches to the last
//! tick of the year 9999. Stored columns hold microseconds since 1970; a tick below a microsecond
//! is truncated (towards the past) when a value is stored, never within a query.

use std::fmt::Write;

/// Ticks in a microsecond.
pub const TICKS_PER_MICROSECOND: i64 = 10;
/// Ticks in a millisecond.
pub const TICKS_PER_MILLISECOND: i64 = 10_000;
/// Ticks in a second.
pub const TICKS_PER_SECOND: i64 = 10_000_000;
/// Ticks in a minute.
pub const TICKS_PER_MINUTE: i64 = 60 * TICKS_PER_SECOND;
/// Ticks in an hour.
pub const TICKS_PER_HOUR: i64 = 60 * TICKS_PER_MINUTE;
/// Ticks in a day.
pub const TICKS_PER_DAY: i64 = 24 * TICKS_PER_HOUR;
/// 1970-01-01 as a `datetime`.
pub const UNIX_EPOCH_TICKS: i64 = 719_162 * TICKS_PER_DAY;
/// The last `datetime`: 9999-12-31T23:59:59.9999999Z.
pub const DATETIME_TICKS_MAX: i64 = 3_652_059 * TICKS_PER_DAY - 1;

/// The `datetime` of a count of microseconds since 1970, or `None` outside the years 1 to 9999.
#[must_use]
pub fn ticks_of_micros(micros: i64) -> Option<i64> {
    micros
        .checked_mul(TICKS_PER_MICROSECOND)
        .and_then(|ticks| ticks.checked_add(UNIX_EPOCH_TICKS))
        .and_then(in_range)
}

/// Microseconds since 1970, rounded down, and the ticks that were cut off: 0 to 9.
#[must_use]
pub const fn micros_of_ticks(ticks: i64) -> (i64, i64) {
    let since = ticks - UNIX_EPOCH_TICKS;
    (since.div_euclid(TICKS_PER_MICROSECOND), since.rem_euclid(TICKS_PER_MICROSECOND))
}

/// The `datetime` of an instant.
#[must_use]
pub fn ticks_of_timestamp(at: jiff::Timestamp) -> i64 {
    let ticks = i64::try_from(at.as_nanosecond().div_euclid(100)).unwrap_or(i64::MAX);
    ticks.saturating_add(UNIX_EPOCH_TICKS).clamp(0, DATETIME_TICKS_MAX)
}

/// The count itself if it is a `datetime`.
#[must_use]
pub fn in_range(ticks: i64) -> Option<i64> {
    (0..=DATETIME_TICKS_MAX).contains(&ticks).then_some(ticks)
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a calendar date has three parts")]
pub struct Date {
    /// 1 to 9999.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
}

/// The calendar day of a `datetime`. Years are counted from March, so that the leap day is last.
#[must_use]
pub const fn date_of(ticks: i64) -> Date {
    let days = ticks.div_euclid(TICKS_PER_DAY) + 306;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    Date { year, month, day }
}

/// The start of a calendar day, or `None` if there is no such day in the years 1 to 9999.
#[must_use]
pub fn ticks_of_date(date: Date) -> Option<i64> {
    let Date { year, month, day } = date;
    if !(1..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=days_in_month(year, month)).contains(&day)
    {
        return None;
    }
    let from_march_year = if month <= 2 { year - 1 } else { year };
    let era = from_march_year.div_euclid(400);
    let year_of_era = from_march_year.rem_euclid(400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    Some((era * 146_097 + of_era - 306) * TICKS_PER_DAY)
}

/// The days of a month.
#[must_use]
pub const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The first day of the month that lies `months` after that of `date`.
#[must_use]
pub const fn add_months(date: Date, months: i64) -> Date {
    let count = date.year * 12 + (date.month - 1) + months;
    Date { year: count.div_euclid(12), month: count.rem_euclid(12) + 1, day: 1 }
}

/// The ticks of a unit of time, by its names in the language.
#[must_use]
pub fn unit_ticks(unit: &str) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a day of ticks is far below 2^53")]
    let ticks = |ticks: i64| Some(ticks as f64);
    match unit {
        "d" | "day" | "days" => ticks(TICKS_PER_DAY),
        "h" | "hr" | "hrs" | "hour" | "hours" => ticks(TICKS_PER_HOUR),
        "m" | "min" | "minute" | "minutes" => ticks(TICKS_PER_MINUTE),
        "s" | "sec" | "second" | "seconds" => ticks(TICKS_PER_SECOND),
        "ms" | "milli" | "millis" | "millisec" | "millisecond" | "milliseconds" => {
            ticks(TICKS_PER_MILLISECOND)
        }
        "micro" | "micros" | "microsec" | "microsecond" | "microseconds" => {
            ticks(TICKS_PER_MICROSECOND)
        }
        "nano" | "nanos" | "nanosec" | "nanosecond" | "nanoseconds" => Some(0.01),
        "tick" | "ticks" => ticks(1),
        _ => None,
    }
}

/// A decimal number times a unit, in ticks; exact for whole numbers.
#[must_use]
pub fn scale(digits: &str, unit: f64) -> Option<i64> {
    if let Ok(whole) = digits.parse::<i64>()
        && unit >= 1.0
    {
        #[expect(clippy::cast_possible_truncation, reason = "a unit is a whole number here")]
        return whole.checked_mul(unit as i64);
    }
    real_to_ticks(digits.parse::<f64>().ok()? * unit)
}

/// A count of ticks rounded to the nearest, or `None` if it does not fit or is not a number.
#[must_use]
pub fn real_to_ticks(ticks: f64) -> Option<i64> {
    let rounded = ticks.round();
    #[expect(clippy::cast_possible_truncation, reason = "the range was compared")]
    ((-9.2e18..9.2e18).contains(&rounded)).then_some(rounded as i64)
}

/// Digits of a fraction of a second, in ticks; digits past the seventh are cut off.
fn fraction(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let first: String = digits.chars().chain("0000000".chars()).take(7).collect();
    first.parse().ok()
}

fn number(text: &str, digits_max: usize) -> Option<i64> {
    let valid = (1..=digits_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if valid { text.parse().ok() } else { None }
}

/// `hh:mm[:ss[.fffffff]]` in ticks.
fn parse_clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let hours = number(parts.next()?, 2)?;
    let minutes = number(parts.next()?, 2)?;
    let seconds = parts.next().unwrap_or("0");
    if parts.next().is_some() {
        return None;
    }
    let (seconds, ticks) = match seconds.split_once('.') {
        Some((seconds, digits)) => (number(seconds, 2)?, fraction(digits)?),
        None => (number(seconds, 2)?, 0),
    };
    (hours < 24 && minutes < 60 && seconds < 60).then(|| {
        hours * TICKS_PER_HOUR + minutes * TICKS_PER_MINUTE + seconds * TICKS_PER_SECOND + ticks
    })
}

/// A clock of 24 hours, or of 12 with `AM` or `PM` after it.
fn parse_day_time(text: &str) -> Option<i64> {
    let half = text.len().checked_sub(2).and_then(|at| text.split_at_checked(at));
    let (clock, after_noon) = match half {
        Some((clock, half)) if half.eq_ignore_ascii_case("am") => (clock, false),
        Some((clock, half)) if half.eq_ignore_ascii_case("pm") => (clock, true),
        _ => return parse_clock(text),
    };
    let ticks = parse_clock(clock.trim_end())?;
    let hour = ticks / TICKS_PER_HOUR;
    let of_hour = ticks % TICKS_PER_HOUR;
    let hour = hour % 12 + if after_noon { 12 } else { 0 };
    (1..=12).contains(&(ticks / TICKS_PER_HOUR)).then_some(hour * TICKS_PER_HOUR + of_hour)
}

/// A `datetime` from text: ISO 8601 with `-` in the date (`T` or a blank before the time, an offset
/// or `Z` after it), month-day-year, or the forms of RFC 822 and RFC 850 (`8 Nov 2014 15:05:02 GMT`).
/// Without an offset it is UTC.
#[must_use]
pub fn parse_datetime(text: &str) -> Option<i64> {
    let text = text.trim();
    let end_of_date = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let (date, rest) = text.split_at_checked(end_of_date)?;
    let Some(date) = parse_date(date) else { return parse_named_date(text) };
    let day = ticks_of_date(date)?;
    let rest = rest.trim_start_matches(['T', 't', ' ']).trim_end();
    if rest.is_empty() {
        return (end_of_date == text.len()).then_some(day);
    }
    at_clock(day, rest)
}

/// The day at a clock's time, which may have an offset from UTC after it.
fn at_clock(day: i64, text: &str) -> Option<i64> {
    let (clock, offset) = split_offset(text)?;
    in_range(day.checked_add(parse_day_time(clock.trim_end())?)?.checked_sub(offset)?)
}

fn parse_date(text: &str) -> Option<Date> {
    let parts: Vec<&str> = text.split(['-', '/']).collect();
    let date = |year, month, day| {
        Some(Date { year: number(year, 4)?, month: number(month, 2)?, day: number(day, 2)? })
    };
    match parts.as_slice() {
        [year] if year.len() == 4 => date(year, "1", "1"),
        [year, month] if year.len() == 4 => date(year, month, "1"),
        [year, month, day] if year.len() == 4 => date(year, month, day),
        [month, day, year] if year.len() == 4 => date(year, month, day),
        _ => None,
    }
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// `[weekday, ]day month year[ clock[ GMT]]`, with blanks or hyphens in the date.
fn parse_named_date(text: &str) -> Option<i64> {
    let text = match text.split_once(',') {
        Some((weekday, rest)) if weekday.bytes().all(|b| b.is_ascii_alphabetic()) => rest.trim(),
        Some(_) => return None,
        None => text,
    };
    let mut parts = text.splitn(4, [' ', '-']);
    let day = number(parts.next()?, 2)?;
    let name = parts.next()?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|month| name.get(..3) == Some(*month))?;
    let month = i64::try_from(month).ok()? + 1;
    let year_text = parts.next()?;
    let year = match (number(year_text, 4)?, year_text.len()) {
        (year, 4) => year,
        (year, 2) if year < 50 => 2000 + year,
        (year, 2) => 1900 + year,
        _ => return None,
    };
    let day = ticks_of_date(Date { year, month, day })?;
    match parts.next().map(str::trim) {
        Some(rest) if !rest.is_empty() => at_clock(day, rest),
        _ => Some(day),
    }
}

/// The clock and the offset from UTC in ticks.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    let zulu = ["Z", "z", "GMT", "UTC"].into_iter().find_map(|zone| text.strip_suffix(zone));
    if let Some(clock) = zulu {
        return Some((clock, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, 0)) };
    let (clock, offset) = text.split_at_checked(at)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let digits = offset.get(1..)?;
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 => digits.split_at_checked(2)?,
        None => (digits, "0"),
    };
    let ticks = number(hours, 2)? * TICKS_PER_HOUR + number(minutes, 2)? * TICKS_PER_MINUTE;
    Some((clock, sign * ticks))
}

/// A `timespan` from text: `[-][d.]hh:mm[:ss[.fffffff]]`, a number with a unit (`5m`), or a bare
/// number of days.
#[must_use]
pub fn parse_timespan(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    // With more bits than a count of ticks has, for the least one has no positive counterpart.
    let ticks = if text.contains(':') {
        let colon = text.find(':')?;
        let (days, clock) = match text.find('.') {
            Some(dot) if dot < colon => (number(text.get(..dot)?, 8)?, text.get(dot + 1..)?),
            _ => (0, text),
        };
        i128::from(days) * i128::from(TICKS_PER_DAY) + i128::from(parse_clock(clock)?)
    } else {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (digits, unit) = text.split_at_checked(digits)?;
        let unit = unit.trim();
        scale(digits, unit_ticks(if unit.is_empty() { "d" } else { unit })?)?.into()
    };
    i64::try_from(if negative { -ticks } else { ticks }).ok()
}

/// `yyyy-MM-ddTHH:mm:ss[.fffffff]Z`. All seven digits of the fraction are written if `full`; else
/// trailing zeros are left out.
#[must_use]
pub fn format_datetime(ticks: i64, full: bool) -> String {
    let Date { year, month, day } = date_of(ticks);
    let of_day = ticks.rem_euclid(TICKS_PER_DAY);
    let mut text = format!("{year:04}-{month:02}-{day:02}T");
    write_clock(&mut text, of_day);
    write_fraction(&mut text, of_day % TICKS_PER_SECOND, full, !full);
    text.push('Z');
    text
}

/// `[-][d.]hh:mm:ss[.fffffff]`: days and fraction only where they are not zero, the fraction with
/// all seven digits.
#[must_use]
pub fn format_timespan(ticks: i64) -> String {
    let mut text = String::new();
    if ticks < 0 {
        text.push('-');
    }
    let all = i128::from(ticks).abs();
    let (days, of_day) = (all / i128::from(TICKS_PER_DAY), all % i128::from(TICKS_PER_DAY));
    if days > 0 {
        let _ = write!(text, "{days}.");
    }
    let of_day = i64::try_from(of_day).unwrap_or_default();
    write_clock(&mut text, of_day);
    write_fraction(&mut text, of_day % TICKS_PER_SECOND, false, false);
    text
}

fn write_clock(text: &mut String, of_day: i64) {
    let (hours, minutes) = (of_day / TICKS_PER_HOUR, of_day / TICKS_PER_MINUTE % 60);
    let _ = write!(text, "{hours:02}:{minutes:02}:{:02}", of_day / TICKS_PER_SECOND % 60);
}

fn write_fraction(text: &mut String, ticks: i64, always: bool, trim: bool) {
    if ticks != 0 || always {
        let digits = format!("{ticks:07}");
        let _ = write!(text, ".{}", if trim { digits.trim_end_matches('0') } else { &digits });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datetimes_survive_text() {
        let check = |text: &str, expect: Option<&str>| {
            let found = parse_datetime(text).map(|ticks| format_datetime(ticks, false));
            assert_eq!(found.as_deref(), expect, "{text}");
        };
        check("0001-01-01", Some("0001-01-01T00:00:00Z"));
        check("1970-01-01 00:00:00", Some("1970-01-01T00:00:00Z"));
        check("2020-02-29T12:34:56.1234567Z", Some("2020-02-29T12:34:56.1234567Z"));
        check("9999-12-31 23:59:59.9999999", Some("9999-12-31T23:59:59.9999999Z"));
        check("2020-01-01T01:30+02:00", Some("2019-12-31T23:30:00Z"));
        check("12-25-2022", Some("2022-12-25T00:00:00Z"));
        check("12/25/2022 3:04:05 PM", Some("2022-12-25T15:04:05Z"));
        check("2022-12-25 12:30 am", Some("2022-12-25T00:30:00Z"));
        check("Sat, 8 Nov 14 15:05:02 GMT", Some("2014-11-08T15:05:02Z"));
        check("Saturday, 08-Nov-14 15:05", Some("2014-11-08T15:05:00Z"));
        check("8 November 1999", Some("1999-11-08T00:00:00Z"));
        check("2014-11-08T15:05:25 GMT", Some("2014-11-08T15:05:25Z"));
        check("2020-01-01T01:30+0530", Some("2019-12-31T20:00:00Z"));
        for bad in [
            "",
            "2021-02-29",
            "2020-13-01",
            "0001-01-01T00:00+01:00",
            "x",
            "2020-01-01T25:00",
            "8 Nix 2020",
            "2020-01-01 13:00 PM",
            "1, 2",
        ] {
            check(bad, None);
        }
        assert_eq!(parse_datetime("1970-01-01"), Some(UNIX_EPOCH_TICKS));
    }

    #[test]
    fn every_day_of_the_calendar_survives() {
        let mut expect = 0;
        for year in 1..=9999 {
            for month in 1..=12 {
                let first = Date { year, month, day: 1 };
                assert_eq!(ticks_of_date(first), Some(expect));
                let days = days_in_month(year, month);
                assert_eq!(date_of(expect + days * TICKS_PER_DAY - 1), Date { day: days, ..first });
                expect += days * TICKS_PER_DAY;
            }
        }
        assert_eq!(expect - 1, DATETIME_TICKS_MAX);
    }

    #[test]
    fn timespans_survive_text() {
        for text in ["00:00:00", "1.02:03:04.5000000", "-1.00:00:00", "23:59:59.9999999"] {
            assert_eq!(parse_timespan(text).map(format_timespan).as_deref(), Some(text));
        }
        for least_or_most in [i64::MIN, i64::MAX] {
            assert_eq!(parse_timespan(&format_timespan(least_or_most)), Some(least_or_most));
        }
        assert_eq!(parse_timespan("10675199.02:48:05.4775808"), None);
        assert_eq!(parse_timespan("5m"), Some(5 * TICKS_PER_MINUTE));
        assert_eq!(parse_timespan("2"), Some(2 * TICKS_PER_DAY));
        assert_eq!(parse_timespan("1x"), None);
        assert_eq!(format_timespan(i64::MIN), "-10675199.02:48:05.4775808");
    }

    #[test]
    fn storage_truncates_towards_the_past() {
        assert_eq!(micros_of_ticks(UNIX_EPOCH_TICKS - 1), (-1, 9));
        assert_eq!(ticks_of_micros(-1), Some(UNIX_EPOCH_TICKS - 10));
        assert_eq!(ticks_of_micros(i64::MAX), None);
    }
}
