//! What the tour did, told as it happens and summed up at the end.

use oms_core::{Clock, SystemClock};
use serde::Serialize;
use std::fmt::{self, Display};
use std::time::Duration;

/// How one service's part ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Everything was done and checked.
    Verified,
    /// It was done and checked, but for a part that this machine lacks a program for.
    Partial,
    /// Something did not come out as it should.
    Failed,
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::Partial => "partial",
            Self::Failed => "FAILED",
        })
    }
}

/// One service's part.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Part {
    pub(crate) service: &'static str,
    /// What was done, with its figures.
    pub(crate) summary: String,
    pub(crate) seconds: f64,
    pub(crate) verdict: Verdict,
    /// Every line of the account.
    pub(crate) lines: Vec<String>,
}

/// Tells one part. Lines are printed at once, unless the account is wanted as JSON.
#[derive(Debug)]
pub(crate) struct Teller {
    is_quiet: bool,
    begin: Duration,
    lines: Vec<String>,
    verdict: Verdict,
}

impl Teller {
    pub(crate) fn new(title: &str, is_quiet: bool) -> Self {
        if !is_quiet {
            crate::say!("\n{title}");
        }
        let begin = SystemClock.monotonic();
        Self { is_quiet, begin, lines: Vec::new(), verdict: Verdict::Verified }
    }

    /// Tells what was done.
    pub(crate) fn say(&mut self, line: impl Into<String>) {
        let line = line.into();
        if !self.is_quiet {
            crate::say!("  {line}");
        }
        self.lines.push(line);
    }

    /// Tells what could not be done here, and why.
    pub(crate) fn lack(&mut self, line: impl Into<String>) {
        self.verdict = Verdict::Partial;
        self.say(line);
    }

    pub(crate) fn end(self, service: &'static str, summary: anyhow::Result<String>) -> Part {
        let seconds = (SystemClock.monotonic() - self.begin).as_secs_f64();
        let (summary, verdict) = match summary {
            Ok(summary) => (summary, self.verdict),
            Err(error) => {
                let why = format!("{error:#}");
                if !self.is_quiet {
                    crate::say!("  FAILED: {why}");
                }
                (why, Verdict::Failed)
            }
        };
        Part { service, summary, seconds, verdict, lines: self.lines }
    }
}

/// The table at the end.
pub(crate) fn table(parts: &[Part]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["service", "what it did here", "seconds", "outcome"]);
    for part in parts {
        let seconds = format!("{:.1}", part.seconds);
        table.add_row([part.service, &part.summary, &seconds, &part.verdict.to_string()]);
    }
    table.to_string()
}

/// `1 row` and `2 rows`.
pub(crate) fn counted<N: Copy + Display + PartialEq + From<u8>>(count: N, one: &str) -> String {
    let s = if count == N::from(1) { "" } else { "s" };
    format!("{count} {one}{s}")
}

/// `1536` as `1.5 KiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_their_unit() {
        let shown: Vec<String> = [0, 1023, 1536, 5 << 30].into_iter().map(bytes).collect();
        assert_eq!(shown, ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
    }

    #[test]
    fn a_failed_part_keeps_its_reason() {
        let mut teller = Teller::new("x", true);
        teller.say("did a thing");
        let part = teller.end("Backup", Err(anyhow::anyhow!("disk on fire")));
        assert_eq!((part.verdict, part.summary.as_str()), (Verdict::Failed, "disk on fire"));
        assert!(table(&[part]).contains("FAILED"));
    }
}
