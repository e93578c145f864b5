//! Syslog: messages as they are sent and as they stand in log files, and the files themselves.
//!
//! ```text
//!  <34>1 2026-11-24T15:00:00Z host app 7 - - text     RFC 5424 ─┐
//!  <34>Nov 24 15:00:00 host app[7]: text              RFC 3164 ─┤
//!  2026-11-24T15:00:00.12+00:00 host app[7]: text     log file ─┼─► Message ─► Syslog record
//!  Nov 24 15:00:00 host app[7]: text                  log file ─┤
//!  anything else                                      raw ──────┘
//! ```

mod file;
mod parse;
mod time;

pub use file::SyslogFile;
pub use parse::{Form, Message};

use super::{Moment, Notes, SOURCE_SYSTEM, SourceError, cut_to_field};
use jiff::SignedDuration;
use oms_core::Record;

/// How far ahead of the collector's clock a sender's clock may be and still be believed.
pub const FUTURE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// What part of a system a message is from, 0 to 23. See RFC 5424, 6.2.1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Facility(u8);

impl Facility {
    const NAMES: [&str; 24] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron",
        "authpriv", "ftp", "ntp", "audit", "alert", "at", "local0", "local1", "local2", "local3",
        "local4", "local5", "local6", "local7",
    ];

    /// The facility of a number, if there is one.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (usize::from(number) < Self::NAMES.len()).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The name in the column `Facility`.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[usize::from(self.0)]
    }
}

/// How bad a message is, from 0 (worst) to 7. See RFC 5424, 6.2.1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Severity(u8);

impl Severity {
    const NAMES: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];

    /// The severity of a number, if there is one.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (usize::from(number) < Self::NAMES.len()).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The name in the column `SeverityLevel`.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[usize::from(self.0)]
    }
}

/// Makes the record of a message, and counts what had to be changed.
///
/// `Computer` and `HostName` are the sender if the message names it, else the collector. The time is
/// the sender's, unless it is missing or more than [`FUTURE_MAX`] ahead; then it is `at.now`.
/// Structured data stands in front of the text, except `timeQuality`, which describes the sender's
/// clock.
///
/// # Errors
/// [`SourceError::Internal`].
pub fn record(
    message: &Message,
    at: &Moment<'_>,
    notes: &mut Notes,
) -> Result<Record, SourceError> {
    notes.unparsed += u64::from(message.form == Form::Raw);
    let mut text = message.text_with_data();
    notes.truncated += u64::from(cut_to_field(&mut text));
    let limit = at.now.checked_add(FUTURE_MAX).unwrap_or(jiff::Timestamp::MAX);
    let time = message.time.filter(|time| *time <= limit).unwrap_or(at.now);
    let host = message.host.as_deref().unwrap_or(at.computer);
    let mut record = Record::new("Syslog".parse()?, time, host)
        .with("HostName", host)
        .with("CollectorHostName", at.computer)
        .with("SourceSystem", SOURCE_SYSTEM)
        .with("EventTime", message.time.unwrap_or(at.now))
        .with("SyslogMessage", text);
    if let Some(facility) = message.facility {
        record = record.with("Facility", facility.name());
    }
    if let Some(severity) = message.severity {
        record = record.with("SeverityLevel", severity.name());
    }
    if let Some(process) = &message.process {
        record = record.with("ProcessName", process.as_str());
    }
    if let Some(id) = message.process_id.as_deref().and_then(|id| id.parse::<i32>().ok()) {
        record = record.with("ProcessID", id);
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use oms_core::id::SourceId;
    use oms_core::record::Value;
    use std::time::Duration;

    fn moment(now: &str) -> Moment<'static> {
        Moment {
            now: now.parse().expect("a time"),
            monotonic: Duration::ZERO,
            computer: "collector",
            source: SourceId(uuid::Uuid::nil()),
        }
    }

    #[test]
    fn a_message_becomes_a_record() {
        let at = moment("2026-11-24T15:00:01Z");
        let line = "<34>Nov 24 15:00:00 web1 sshd[4123]: Accepted publickey for root";
        let mut notes = Notes::default();
        let message = Message::parse(line, at.now, &TimeZone::UTC);
        let record = record(&message, &at, &mut notes).expect("a record");
        assert_eq!(record.computer, "web1");
        assert_eq!(record.time.to_string(), "2026-11-24T15:00:00Z");
        let text = |column: &str| match record.fields.get(column) {
            Some(Value::String(text)) => text.as_str(),
            other => panic!("{column}: {other:?}"),
        };
        assert_eq!(text("Facility"), "auth");
        assert_eq!(text("SeverityLevel"), "crit");
        assert_eq!(text("ProcessName"), "sshd");
        assert_eq!(text("CollectorHostName"), "collector");
        assert_eq!(text("SyslogMessage"), "Accepted publickey for root");
        assert_eq!(record.fields.get("ProcessID"), Some(&Value::Int(4123)));
        assert_eq!(notes, Notes::default());
    }

    #[test]
    fn a_clock_that_is_far_ahead_is_not_believed() {
        let at = moment("2026-11-24T15:00:00Z");
        let message = Message::parse("2031-01-01T00:00:00Z h a: b", at.now, &TimeZone::UTC);
        let record = record(&message, &at, &mut Notes::default()).expect("a record");
        assert_eq!(record.time, at.now);
        assert_eq!(record.fields["EventTime"], Value::DateTime(message.time.expect("a time")));
    }

    #[test]
    fn what_has_no_form_is_kept_as_it_is() {
        let at = moment("2026-11-24T15:00:00Z");
        let mut notes = Notes::default();
        let message =
            Message::parse("    at com.example.Main(Main.java:7)", at.now, &TimeZone::UTC);
        let record = record(&message, &at, &mut notes).expect("a record");
        let text = Value::from("    at com.example.Main(Main.java:7)");
        assert_eq!(record.fields["SyslogMessage"], text);
        assert_eq!((record.computer.as_str(), notes.unparsed), ("collector", 1));
    }
}
