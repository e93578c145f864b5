//! Custom logs: the lines of any text file.

use super::tail::{LineTail, StartAt};
use super::{Collected, DataSource, Moment, SOURCE_SYSTEM, SourceError, decode_position};
use oms_core::Record;
use oms_core::record::RecordType;
use std::path::PathBuf;

/// A text file each of whose lines becomes a record of a custom table.
///
/// The text of a line is the column `RawData`; the time is the time of collection.
#[derive(Debug)]
pub struct CustomLog {
    name: String,
    table: RecordType,
    tail: LineTail,
}

impl CustomLog {
    /// Collects from a file into the table `{log}_CL`.
    ///
    /// # Errors
    /// [`SourceError::Setting`] if that is not the name of a table.
    pub fn new(log: &str, path: impl Into<PathBuf>, start: StartAt) -> Result<Self, SourceError> {
        let reason = "not a letter, then letters, digits and underscores, at most 60 characters";
        let refused = || SourceError::setting("custom log", log, reason);
        if !log.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(refused());
        }
        let table = format!("{log}_CL").parse().map_err(|_not_a_name| refused())?;
        let path = path.into();
        let name = format!("custom_log:{log}:{}", path.display());
        Ok(Self { name, table, tail: LineTail::new(path, start) })
    }
}

impl DataSource for CustomLog {
    fn name(&self) -> &str {
        &self.name
    }

    fn collect(&mut self, at: &Moment<'_>) -> Result<Collected, SourceError> {
        let lines = self.tail.collect()?;
        let record = |text: String| {
            Record::new(self.table.clone(), at.now, at.computer)
                .with("RawData", text)
                .with("SourceSystem", SOURCE_SYSTEM)
        };
        let records = lines.lines.into_iter().map(|line| record(line.text)).collect();
        Ok(Collected { records, more: lines.more, notes: lines.notes })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_tables_are_logs() {
        assert!(CustomLog::new("MyApp", "/x", StartAt::Beginning).is_ok());
        for bad in ["my app", "", "1x", "_x", &"x".repeat(61)] {
            assert!(CustomLog::new(bad, "/x", StartAt::Beginning).is_err(), "{bad}");
        }
    }
}
