//! Log files in syslog form.

use super::{Message, record};
use crate::source::tail::{LineTail, StartAt};
use crate::source::{Collected, DataSource, Moment, SourceError, decode_position};
use jiff::tz::TimeZone;
use std::path::PathBuf;

/// A log file that a syslog daemon writes, such as `/var/log/syslog`.
#[derive(Debug)]
pub struct SyslogFile {
    name: String,
    tail: LineTail,
    zone: TimeZone,
}

impl SyslogFile {
    /// Collects from a file. Times that the file states without an offset are in `zone`, which is
    /// the zone of the daemon that writes it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, start: StartAt, zone: TimeZone) -> Self {
        let path = path.into();
        Self { name: format!("syslog:{}", path.display()), tail: LineTail::new(path, start), zone }
    }
}

impl DataSource for SyslogFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn collect(&mut self, at: &Moment<'_>) -> Result<Collected, SourceError> {
        let lines = self.tail.collect()?;
        let mut out = Collected { more: lines.more, notes: lines.notes, ..Collected::default() };
        for line in &lines.lines {
            let message = Message::parse(&line.text, at.now, &self.zone);
            out.records.push(record(&message, at, &mut out.notes)?);
        }
        Ok(out)
    }

    fn position(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self.tail.position()).ok()
    }

    fn resume(&mut self, position: Option<&serde_json::Value>) -> Result<(), SourceError> {
        let position = decode_position(&self.name, position)?;
        self.tail.resume(position);
        Ok(())
    }
}
