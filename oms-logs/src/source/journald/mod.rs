//! The systemd journal, in its export format.
//!
//! `journalctl -o export` and `systemd-journal-remote` write this format; see
//! <https://systemd.io/JOURNAL_EXPORT_FORMATS/>. The journal's own binary files are not read:
//! a [`JournalFile`] on one is an error that says so.

mod export;

pub use export::{Entry, Parsed, parse};

use super::syslog::{Facility, Severity};
use super::tail::{FilePosition, Follower, StartAt};
use super::{
    Collected, DataSource, Moment, Notes, SOURCE_SYSTEM, SourceError, cut_to_field, decode_position,
};
use jiff::Timestamp;
use oms_core::Record;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The most entries that one collection takes.
pub const ENTRIES_PER_COLLECT_MAX: usize = 5_000;

/// The most bytes that one collection reads, and so the longest entry.
pub const BYTES_PER_COLLECT_MAX: usize = 8 * 1024 * 1024;

/// The most files, rotated and new, that one collection goes through.
const FILES_PER_COLLECT_MAX: usize = 64;

/// How the journal's own binary files begin.
const BINARY_SIGNATURE: &[u8] = b"LPKSHHRH";

/// A file in the journal's export format that grows, through rotation and restarts.
///
/// ```text
/// journalctl -o export --follow >> /var/log/journal.export
/// ```
///
/// Each entry becomes a `Syslog` record. If the file is written again from its beginning, the
/// entries up to the last one that was collected are left out by their cursor, which is looked for
/// in the first [`BYTES_PER_COLLECT_MAX`].
#[derive(Debug)]
pub struct JournalFile {
    name: String,
    follower: Follower,
    state: State,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// The cursor of the last entry that was collected.
    #[serde(default)]
    cursor: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct JournalPosition {
    file: Option<FilePosition>,
    #[serde(flatten)]
    state: State,
}

impl JournalFile {
    /// Collects from the file at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, start: StartAt) -> Self {
        let path = path.into();
        let name = format!("journald:{}", path.display());
        Self { name, follower: Follower::new(path, start), state: State::default() }
    }

    fn go_to(&mut self, position: JournalPosition) {
        self.follower.resume(position.file);
        self.state = position.state;
    }

    fn here(&self) -> JournalPosition {
        JournalPosition { file: self.follower.position().cloned(), state: self.state.clone() }
    }

    /// How many bytes at the beginning of a file hold entries that were collected before: a file
    /// that was written again begins with what was collected from the last one.
    fn seen(&self, bytes: &[u8]) -> usize {
        let Some(cursor) = &self.state.cursor else { return 0 };
        let line = format!("__CURSOR={cursor}\n");
        let found = bytes.windows(line.len()).position(|window| window == line.as_bytes());
        let Some(at) = found.filter(|&at| at == 0 || bytes[at - 1] == b'\n') else { return 0 };
        at + parse(&bytes[at..], 1, false).used
    }

    fn collect_files(&mut self, at: &Moment<'_>) -> Result<Collected, SourceError> {
        let mut out = Collected::default();
        for _ in 0..FILES_PER_COLLECT_MAX {
            let begins = self.follower.position().is_none_or(|position| position.offset == 0);
            let chunk = self.follower.read(BYTES_PER_COLLECT_MAX)?;
            out.notes.gaps += u64::from(chunk.gap);
            if (begins || chunk.gap) && chunk.bytes.starts_with(BINARY_SIGNATURE) {
                let what =
                    "a binary journal file (convert it with `journalctl --file PATH -o export`)";
                return Err(SourceError::Unsupported {
                    what,
                    path: self.follower.path().to_owned(),
                });
            }
            let room = ENTRIES_PER_COLLECT_MAX.saturating_sub(out.records.len());
            let whole = chunk.last || chunk.bytes.len() >= BYTES_PER_COLLECT_MAX;
            let seen = if begins { self.seen(&chunk.bytes) } else { 0 };
            let parsed = parse(&chunk.bytes[seen..], room, whole);
            for entry in &parsed.entries {
                if let Some(cursor) = entry.text("__CURSOR") {
                    self.state.cursor = Some(cursor);
                }
                out.records.push(entry_record(entry, at, &mut out.notes)?);
            }
            self.follower.consume(seen + parsed.used);
            if chunk.more || out.records.len() >= ENTRIES_PER_COLLECT_MAX {
                out.more = true;
                return Ok(out);
            }
            if !self.follower.advance()? {
                return Ok(out);
            }
        }
        out.more = true;
        Ok(out)
    }
}

impl DataSource for JournalFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn collect(&mut self, at: &Moment<'_>) -> Result<Collected, SourceError> {
        let before = self.here();
        let collected = self.collect_files(at);
        if collected.is_err() {
            self.go_to(before);
        }
        collected
    }

    fn position(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self.here()).ok()
    }

    fn resume(&mut self, position: Option<&serde_json::Value>) -> Result<(), SourceError> {
        let position = decode_position(&self.name, position)?;
        self.go_to(position);
        Ok(())
    }
}

/// Makes the record of an entry. See systemd.journal-fields(7) for the fields.
fn entry_record(entry: &Entry, at: &Moment<'_>, notes: &mut Notes) -> Result<Record, SourceError> {
    let time = ["_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"]
        .into_iter()
        .find_map(|field| entry.text(field)?.parse().ok())
        .and_then(|micros| Timestamp::from_microsecond(micros).ok());
    let host = entry.text("_HOSTNAME").unwrap_or_else(|| at.computer.to_owned());
    let mut text = match entry.value("MESSAGE") {
        Some(message) => {
            notes.lossy += u64::from(std::str::from_utf8(message).is_err());
            String::from_utf8_lossy(message).into_owned()
        }
        None => {
            notes.unparsed += 1;
            entry.all()
        }
    };
    notes.truncated += u64::from(cut_to_field(&mut text));
    let mut record = Record::new("Syslog".parse()?, time.unwrap_or(at.now), host.as_str())
        .with("HostName", host)
        .with("CollectorHostName", at.computer)
        .with("SourceSystem", SOURCE_SYSTEM)
        .with("EventTime", time.unwrap_or(at.now))
        .with("SyslogMessage", text);
    let number = |field| entry.text(field)?.parse::<u8>().ok();
    if let Some(facility) = number("SYSLOG_FACILITY").and_then(Facility::new) {
        record = record.with("Facility", facility.name());
    }
    if let Some(severity) = number("PRIORITY").and_then(Severity::new) {
        record = record.with("SeverityLevel", severity.name());
    }
    let first = |fields: [&str; 2]| fields.into_iter().find_map(|field| entry.text(field));
    if let Some(process) = first(["SYSLOG_IDENTIFIER", "_COMM"]) {
        record = record.with("ProcessName", process);
    }
    if let Some(id) = first(["_PID", "SYSLOG_PID"]).and_then(|id| id.parse::<i32>().ok()) {
        record = record.with("ProcessID", id);
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::id::SourceId;
    use oms_core::record::Value;
    use std::io::Write;
    use std::time::Duration;

    fn moment() -> Moment<'static> {
        Moment {
            now: "2026-11-24T15:00:00Z".parse().expect("a time"),
            monotonic: Duration::ZERO,
            computer: "collector",
            source: SourceId(uuid::Uuid::nil()),
        }
    }

    fn entry(cursor: u32, message: &str) -> Vec<u8> {
        let mut out = format!(
            "__CURSOR=s=1;i={cursor}\n__REALTIME_TIMESTAMP=1795532400000000\nPRIORITY=4\n\
             SYSLOG_FACILITY=3\n_HOSTNAME=web-1\n_PID=77\nSYSLOG_IDENTIFIER=app\nMESSAGE\n"
        )
        .into_bytes();
        out.extend((message.len() as u64).to_le_bytes());
        out.extend(message.as_bytes());
        out.extend(b"\n\n");
        out
    }

    fn messages(collected: &Collected) -> Vec<String> {
        let text = |record: &Record| match &record.fields["SyslogMessage"] {
            Value::String(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        collected.records.iter().map(text).collect()
    }

    #[test]
    fn entries_become_records_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.export");
        let mut bytes = entry(1, "one\nwith two lines");
        let second = entry(2, "two");
        bytes.extend(&second[..30]);
        std::fs::write(&path, &bytes).expect("written");
        let mut journal = JournalFile::new(&path, StartAt::Beginning);
        let first = journal.collect(&moment()).expect("collected");
        assert_eq!(messages(&first), ["one\nwith two lines"]);
        let record = &first.records[0];
        assert_eq!(record.time.to_string(), "2026-11-24T15:00:00Z");
        assert_eq!(record.computer, "web-1");
        assert_eq!(record.fields["Facility"], Value::from("daemon"));
        assert_eq!(record.fields["SeverityLevel"], Value::from("warn"));
        assert_eq!(record.fields["ProcessID"], Value::Int(77));

        // The rest of the second entry comes, and the agent has restarted in between.
        let position = journal.position().expect("a position");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("opened");
        file.write_all(&second[30..]).expect("written");
        let mut journal = JournalFile::new(&path, StartAt::Beginning);
        journal.resume(Some(&position)).expect("resumed");
        assert_eq!(messages(&journal.collect(&moment()).expect("collected")), ["two"]);
        assert_eq!(messages(&journal.collect(&moment()).expect("collected")), [""; 0]);
    }

    #[test]
    fn a_file_that_is_written_again_gives_its_new_entries_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.export");
        std::fs::write(&path, [entry(1, "a"), entry(2, "b")].concat()).expect("written");
        let mut journal = JournalFile::new(&path, StartAt::Beginning);
        assert_eq!(messages(&journal.collect(&moment()).expect("collected")), ["a", "b"]);
        // The older entries have been vacuumed, and the file has another beginning.
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, [entry(2, "b"), entry(3, "c")].concat()).expect("written");
        // The old file is given up once it has not grown between two collections.
        let mut got = Vec::new();
        for _ in 0..3 {
            got.extend(messages(&journal.collect(&moment()).expect("collected")));
        }
        assert_eq!(got, ["c"]);
    }

    #[test]
    fn a_binary_journal_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("system.journal");
        std::fs::write(&path, b"LPKSHHRH\0\0\0\0").expect("written");
        let error = JournalFile::new(&path, StartAt::Beginning).collect(&moment());
        let error = error.expect_err("not the export format");
        assert_eq!(error.kind(), oms_core::ErrorKind::Unsupported);
        assert!(error.to_string().contains("binary journal file"), "{error}");
    }
}
