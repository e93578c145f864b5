//! The time that a query looks at, as the query API and its clients write it.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use std::fmt::Display;
use std::str::FromStr;

/// The longest text read, in bytes.
const TEXT_BYTES_MAX: usize = 200;

/// The `timespan` of the query API, in ISO 8601: a duration that ends now, or an interval.
///
/// ```text
///  PT1H                                       the last hour
///  2026-11-30/2026-12-01T06:00Z               from one instant to another
///  2026-11-30T12:00:00+01:00/P1D              so long, from an instant on
///  P1M/2026-12-01                             so long, up to an instant
/// ```
/// An instant without an offset is in UTC; one without a time is the begin of its day. Months and
/// years have their length in the calendar.
///
/// # Example
/// ```
/// let interval: oms_logs::query::TimeInterval = "2026-11-30/PT6H".parse()?;
/// let (start, end) = interval.range("2026-12-01T00:00Z".parse()?)?;
/// assert_eq!(end.duration_since(start).as_hours(), 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TimeInterval {
    text: String,
    ends: Ends,
}

#[derive(Clone, Debug)]
enum Ends {
    Last(Span),
    Between(Timestamp, Timestamp),
    From(Timestamp, Span),
    Until(Span, Timestamp),
}

/// Why a text is no interval of time.
#[derive(Debug, thiserror::Error)]
#[error("not an interval of time in ISO 8601. value=`{text}`, reason=`{reason}`")]
pub struct TimeIntervalError {
    /// The text, at most 200 bytes of it.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl TimeInterval {
    /// Where it begins and ends, the end not included, for a query whose `now()` is `now`: as
    /// [`QueryOptions::timespan`](super::QueryOptions::timespan) takes it.
    ///
    /// # Errors
    /// [`TimeIntervalError`] if it ends before it begins, or beyond the years that there are.
    pub fn range(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), TimeIntervalError> {
        let outside = |error: jiff::Error| refuse(&self.text, error);
        let before = |end: Timestamp, span: &Span| {
            let start = end.to_zoned_datetime(TimeZone::UTC).checked_sub(span);
            start.map(|start| start.timestamp()).map_err(outside)
        };
        let (start, end) = match &self.ends {
            Ends::Last(span) => (before(now, span)?, now),
            Ends::Between(start, end) => (*start, *end),
            Ends::From(start, span) => {
                let end =
                    start.to_zoned_datetime(TimeZone::UTC).checked_add(span).map_err(outside)?;
                (*start, end.timestamp())
            }
            Ends::Until(span, end) => (before(*end, span)?, *end),
        };
        if end < start {
            return Err(refuse(&self.text, "it ends before it begins"));
        }
        if start.to_zoned_datetime(TimeZone::UTC).year() < 1 {
            return Err(refuse(&self.text, "it begins before the year 1"));
        }
        Ok((start, end))
    }
}

impl FromStr for TimeInterval {
    type Err = TimeIntervalError;

    fn from_str(text: &str) -> Result<Self, TimeIntervalError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(refuse(text, format!("longer than {TEXT_BYTES_MAX} bytes")));
        }
        let refused = |reason: String| refuse(text, reason);
        let ends = match text.split_once('/') {
            None => Ends::Last(span(text).map_err(refused)?),
            Some((first, second)) => match (is_span(first), is_span(second)) {
                (true, true) => return Err(refuse(text, "two durations and no instant")),
                (true, false) => {
                    Ends::Until(span(first).map_err(refused)?, instant(second).map_err(refused)?)
                }
                (false, true) => {
                    Ends::From(instant(first).map_err(refused)?, span(second).map_err(refused)?)
                }
                (false, false) => Ends::Between(
                    instant(first).map_err(refused)?,
                    instant(second).map_err(refused)?,
                ),
            },
        };
        Ok(Self { text: text.to_owned(), ends })
    }
}

fn refuse(text: &str, reason: impl Display) -> TimeIntervalError {
    let shown = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    TimeIntervalError { text: shown.to_owned(), reason: reason.to_string() }
}

fn is_span(text: &str) -> bool {
    text.starts_with(['P', 'p', '-', '+'])
}

/// A duration: `P1DT2H`. One that is negative or in words is none.
fn span(text: &str) -> Result<Span, String> {
    if !text.starts_with(['P', 'p']) {
        return Err(format!("`{text}` is no duration such as PT1H or P7D"));
    }
    text.parse().map_err(|error: jiff::Error| format!("`{text}` is no duration: {error}"))
}

fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse() {
        return Ok(instant);
    }
    let in_utc = text.parse().and_then(|civil: DateTime| civil.to_zoned_datetime(TimeZone::UTC));
    in_utc
        .map(|zoned| zoned.timestamp())
        .map_err(|error| format!("`{text}` is no instant: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: &str = "2026-03-31T12:00:00Z";

    fn range(text: &str) -> Result<String, TimeIntervalError> {
        let (start, end) = text.parse::<TimeInterval>()?.range(NOW.parse().expect("a time"))?;
        Ok(format!("{start} {end}"))
    }

    #[test]
    fn every_form_of_the_query_api_is_read() {
        for (text, expect) in [
            ("PT1H", "2026-03-31T11:00:00Z 2026-03-31T12:00:00Z"),
            ("P1DT12H", "2026-03-30T00:00:00Z 2026-03-31T12:00:00Z"),
            ("P2W", "2026-03-17T12:00:00Z 2026-03-31T12:00:00Z"),
            ("P1M", "2026-02-28T12:00:00Z 2026-03-31T12:00:00Z"),
            ("PT0.5S", "2026-03-31T11:59:59.5Z 2026-03-31T12:00:00Z"),
            ("2026-01-01/2026-01-02T06:00Z", "2026-01-01T00:00:00Z 2026-01-02T06:00:00Z"),
            ("2026-01-01T00:00:00+01:00/P1D", "2025-12-31T23:00:00Z 2026-01-01T23:00:00Z"),
            ("P1Y/2026-01-01T00:00:00.000Z", "2025-01-01T00:00:00Z 2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(range(text).expect("an interval"), expect, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "no duration"),
            ("1 hour", "no duration"),
            ("-PT1H", "no duration"),
            ("P", "no duration"),
            ("P1D/P1D", "two durations"),
            ("2026-01-02/2026-01-01", "ends before it begins"),
            ("2026-02-30/P1D", "no instant"),
            ("yesterday/P1D", "no instant"),
            ("P9999Y", "before the year 1"),
            ("2026-01-01/P9999Y", "9999"),
        ] {
            let error = range(text).expect_err(text).to_string();
            assert!(error.contains(reason) && error.contains(&format!("`{text}`")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_interval_or_refused(text in "[-+PTYMWDHS0-9.:/Z ]{0,40}|.*") {
            let _ = range(&text);
        }
    }
}
