//! Job streams: what a runbook says while it runs.
//!
//! A runbook writes lines, one record each, and needs no library for it:
//!
//! | line | stream |
//! |---|---|
//! | standard output | Output |
//! | standard output, beginning with `WARNING:`, `ERROR:`, `VERBOSE:`, `DEBUG:` or `PROGRESS:` | that one |
//! | standard error | Error |
//!
//! The prefix is in capitals, lower case or capitalized, and stays in the text. It is the convention
//! of Microsoft's hybrid runbook worker for Linux (`PROGRESS:` is ours), so a runbook reads the
//! same there and here. All that goes through standard output keeps its order exactly; between
//! standard output and standard error the order is that of arrival.

mod lines;
mod redact;
mod store;

pub(crate) use lines::{Line, LineSplitter};
pub use redact::{REDACTED, REDACTED_BYTES_MIN, Redactor};
pub use store::{StreamEntry, StreamStore, StreamWriter};

use crate::runbook::LogSwitches;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One of the six streams of a job.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StreamType {
    /// What the runbook returns.
    Output,
    /// What went wrong.
    Error,
    /// What may go wrong.
    Warning,
    /// What it is doing; kept if the runbook's `logVerbose` is on.
    Verbose,
    /// What its author looks at; kept if the runbook's `logDebug` is on.
    Debug,
    /// How far it is; kept if the runbook's `logProgress` is on.
    Progress,
}

impl StreamType {
    /// The stream of a line of standard output.
    #[must_use]
    pub fn of_line(line: &str) -> Self {
        let prefixes = [
            (Self::Warning, ["warning:", "WARNING:", "Warning:"]),
            (Self::Error, ["error:", "ERROR:", "Error:"]),
            (Self::Verbose, ["verbose:", "VERBOSE:", "Verbose:"]),
            (Self::Debug, ["debug:", "DEBUG:", "Debug:"]),
            (Self::Progress, ["progress:", "PROGRESS:", "Progress:"]),
        ];
        let is_of = |spellings: &[&str; 3]| spellings.iter().any(|prefix| line.starts_with(prefix));
        let found = prefixes.iter().find(|(_, spellings)| is_of(spellings));
        found.map_or(Self::Output, |(stream_type, _)| *stream_type)
    }

    /// Whether records of this stream are kept.
    #[must_use]
    pub const fn is_kept(self, logs: LogSwitches) -> bool {
        match self {
            Self::Output | Self::Error | Self::Warning => true,
            Self::Verbose => logs.verbose,
            Self::Debug => logs.debug,
            Self::Progress => logs.progress,
        }
    }
}

impl fmt::Display for StreamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One record of a job's streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Its place among all records of the job, from 1 and without gaps.
    pub sequence: u64,
    /// When it arrived.
    pub time: Timestamp,
    /// Which stream.
    pub stream_type: StreamType,
    /// Its text; bytes that are not UTF-8 became U+FFFD.
    pub text: String,
    /// How many bytes were cut from its end, because it was longer than a record may be.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is in a job's streams.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct StreamSummary {
    /// How many records.
    pub records: u64,
    /// How many bytes of text.
    pub bytes: u64,
    /// How many records were discarded past the limits.
    pub discarded_records: u64,
    /// How many bytes of text were discarded past the limits.
    pub discarded_bytes: u64,
}

/// How much of a job's streams is kept. What is past a limit is read and discarded, so that the
/// runbook is not held up, and one more record, a Warning, says so.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamLimits {
    /// The longest record, in bytes of text; at most 1 MiB.
    pub record_bytes_max: usize,
    /// The most records of one job.
    pub records_max: u64,
    /// The most bytes of text of one job.
    pub bytes_max: u64,
}

impl Default for StreamLimits {
    /// Records of 1 MiB, 100,000 of them, 64 MiB in all.
    fn default() -> Self {
        Self { record_bytes_max: 1 << 20, records_max: 100_000, bytes_max: 64 << 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_choose_the_stream() {
        let cases = [
            ("hello", StreamType::Output),
            ("WARNING: disk", StreamType::Warning),
            ("warning:x", StreamType::Warning),
            ("Error: no", StreamType::Error),
            ("VERBOSE:", StreamType::Verbose),
            ("Debug: x", StreamType::Debug),
            ("progress: 50 %", StreamType::Progress),
            (" WARNING: indented", StreamType::Output),
            ("wArNiNg: odd", StreamType::Output),
            ("WARNING", StreamType::Output),
        ];
        for (line, expected) in cases {
            assert_eq!(StreamType::of_line(line), expected, "{line}");
        }
    }

    #[test]
    fn three_streams_are_always_kept_and_three_on_demand() {
        use StreamType as T;
        let all = [T::Output, T::Error, T::Warning, T::Verbose, T::Debug, T::Progress];
        let kept = |logs| all.into_iter().filter(|s| s.is_kept(logs)).count();
        assert_eq!(kept(LogSwitches::default()), 3);
        assert_eq!(kept(LogSwitches { verbose: true, progress: true, debug: true }), 6);
    }
}
