//! Journals as earlier versions wrote them, kept as files and read by every later version.

use crate::journal::{Append, Envelope, Event, HistoryId, Journal, JournalEvent, MemoryJournal};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A journal that an earlier version wrote, or today's: a file of one event a line, in the order in
/// which they were written.
///
/// A file that was written once is never changed: a new kind or format adds a file. So an event that
/// no longer decodes, or decodes to something that no longer folds, is found before it is released.
///
/// ```
/// use oms_core::journal::{Envelope, HistoryId, Journal, JournalEvent, JournalExt, MemoryJournal};
/// use oms_core::testkit::Fixture;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum DoorEvent {
///     Opened { by: String },
/// }
/// oms_core::journal_event!(DoorEvent, format 1, whole, {
///     Self::Opened { .. } => "door-opened",
/// });
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// // Once: what a journal holds becomes the text of a file.
/// let journal = MemoryJournal::default();
/// let opened = DoorEvent::Opened { by: "me".into() }.seal("2026-01-01T00:00:00Z".parse()?, "me")?;
/// journal.append_to(&HistoryId::new("door", "front")?, 0, vec![opened]).await?;
/// let dir = tempfile::tempdir()?;
/// let text = Fixture::lines(&journal.read_all(0, 100).await?);
/// std::fs::write(dir.path().join("format-1.jsonl"), text)?;
///
/// // From then on, in a test: each event is read, and the whole is what recovery makes of it.
/// let fixtures = Fixture::all(dir.path());
/// assert_eq!(Fixture::check::<DoorEvent>(&fixtures), 1);
/// let recovered = fixtures[0].journal().await;
/// assert_eq!(recovered.list_whole("door").await?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Fixture {
    path: PathBuf,
    events: Vec<Event>,
}

/// One line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    history: String,
    #[serde(flatten)]
    envelope: Envelope,
}

impl Fixture {
    /// Reads every `*.jsonl` file of `dir`, in order of their names.
    ///
    /// # Panics
    /// If there is none; naming file and line, if a line is not an event.
    #[must_use]
    pub fn all(dir: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(dir).unwrap_or_else(|error| fail(dir, &error.to_string()));
        let mut paths: Vec<_> =
            entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        paths.sort();
        assert!(!paths.is_empty(), "no fixture in {}", dir.display());
        paths.into_iter().map(Self::read).collect()
    }

    fn read(path: PathBuf) -> Self {
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| fail(&path, &error.to_string()));
        let (mut events, mut versions) = (Vec::new(), BTreeMap::new());
        for (line, position) in text.lines().zip(1..) {
            let at = |reason: &str| format!("line {position}: {reason}");
            let Line { history, envelope } = serde_json::from_str(line)
                .unwrap_or_else(|error| fail(&path, &at(&error.to_string())));
            let history: HistoryId = history
                .parse()
                .unwrap_or_else(|_bad| fail(&path, &at("its history has no such name")));
            let version: &mut u64 = versions.entry(history.clone()).or_default();
            *version += 1;
            events.push(Event { position, history, version: *version, envelope });
        }
        Self { path, events }
    }

    /// The text of a new file that holds these events.
    ///
    /// # Panics
    /// If an event has no JSON form.
    #[must_use]
    pub fn lines(events: &[Event]) -> String {
        let line = |event: &Event| {
            let (history, envelope) = (event.history.to_string(), event.envelope.clone());
            serde_json::to_string(&Line { history, envelope }).expect("JSON") + "\n"
        };
        events.iter().map(line).collect()
    }

    /// The file's name without its ending.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    /// Its events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events of one history, such as `job/42`.
    #[must_use]
    pub fn history(&self, history: &str) -> Vec<Event> {
        let is_of = |event: &&Event| event.history.to_string() == history;
        self.events.iter().filter(is_of).cloned().collect()
    }

    /// A journal that holds its events, for the service's own recovery.
    ///
    /// # Panics
    /// If the journal does not take them.
    pub async fn journal(&self) -> MemoryJournal {
        let journal = MemoryJournal::default();
        for Event { history, version, envelope, .. } in self.events.iter().cloned() {
            let append = Append { history, expected: version - 1, events: vec![envelope] };
            journal.append(vec![append]).await.expect("the journal takes an event");
        }
        journal
    }

    /// Opens every event of the enum `E` in the files; answers how many there were.
    ///
    /// # Panics
    /// Naming file and line, if an event is not opened, or if the event of the current format makes
    /// another body today than the one that was stored; naming the kind, if a kind of the enum is in
    /// no file in its current format.
    pub fn check<E: JournalEvent>(fixtures: &[Self]) -> usize {
        let (mut count, mut seen) = (0, BTreeSet::new());
        for Self { path, events } in fixtures {
            let own = |event: &&Event| E::KINDS.contains(&event.envelope.kind.as_str());
            for Event { position, envelope, .. } in events.iter().filter(own) {
                if let Err(reason) = open::<E>(envelope) {
                    fail(path, &format!("line {position}: {reason}"));
                }
                count += 1;
                if envelope.format == E::FORMAT {
                    seen.insert(envelope.kind.as_str());
                }
            }
        }
        let missing: Vec<_> = E::KINDS.iter().filter(|kind| !seen.contains(*kind)).collect();
        let format = E::FORMAT;
        assert!(missing.is_empty(), "no fixture holds {missing:?} in format {format}");
        count
    }
}

fn open<E: JournalEvent>(envelope: &Envelope) -> Result<(), String> {
    let (kind, format) = (&envelope.kind, envelope.format);
    let event = E::open(envelope).map_err(|error| format!("{kind}/{format}: {error}"))?;
    if format != E::FORMAT {
        return Ok(());
    }
    let sealed = event.seal(envelope.time, &envelope.actor).expect("it was JSON");
    match sealed.body == envelope.body {
        true => Ok(()),
        false => Err(format!("{kind}/{format} is written otherwise today: {}", sealed.body)),
    }
}

#[expect(clippy::panic, reason = "a test suite fails by panicking")]
fn fail(path: &Path, reason: &str) -> ! {
    panic!("fixture {}: {reason}", path.display())
}

/// The journals of this crate's own histories.
#[cfg(test)]
pub(crate) fn released() -> Vec<Fixture> {
    Fixture::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events"))
}

/// The key ring that opens what they hold sealed.
#[cfg(test)]
pub(crate) fn released_ring() -> crate::secret::KeyRing {
    use crate::disk::{Disk, OpenMode};
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys");
    let disk = super::disk::SimDisk::default();
    for name in ["kek", "ring.json"] {
        let bytes = std::fs::read(dir.join(name)).expect("a key file");
        let file = disk.open(Path::new(name), OpenMode::CreateNew).expect("a file");
        file.write_at(0, &bytes).expect("written");
    }
    let entropy = std::sync::Arc::new(crate::entropy::SeededEntropy::new(1));
    let ring =
        crate::secret::KeyRing::open_folder(std::sync::Arc::new(disk), entropy, "core", true);
    ring.expect("the ring opens")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::JournalExt as _;
    use crate::journal_event;
    use serde_json::{Value, json};
    use std::panic::catch_unwind;

    #[derive(Debug, Serialize, Deserialize)]
    enum Door {
        Opened { by: String },
        Shut,
    }
    journal_event!(Door, format 1, whole, {
        Self::Opened { .. } => "opened",
        Self::Shut => "shut",
    });

    fn line(kind: &str, format: u16, body: &Value) -> String {
        let time = "2026-01-01T00:00:00Z";
        let line = json!({"history": "door/front", "kind": kind, "format": format, "time": time,
                          "actor": "me", "correlation": null, "body": body});
        format!("{line}\n")
    }

    fn write(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (index, text) in files.iter().enumerate() {
            let path = dir.path().join(format!("{index}.jsonl"));
            std::fs::write(path, text).expect("written");
        }
        dir
    }

    /// What the panic says, or how many events there are.
    fn outcome(files: &[&str]) -> Result<usize, String> {
        let dir = write(files);
        let caught = catch_unwind(|| Fixture::check::<Door>(&Fixture::all(dir.path())));
        caught.map_err(|panic| *panic.downcast::<String>().expect("a message"))
    }

    #[test]
    fn what_no_longer_decodes_or_is_not_covered_is_found() {
        let opened = line("opened", 1, &json!({"Opened": {"by": "me"}}));
        let shut = line("shut", 1, &json!("Shut"));
        let locked = line("locked", 1, &json!("of another enum"));
        assert_eq!(outcome(&[&format!("{opened}{shut}{locked}"), &opened]), Ok(3));
        let fails = |files: &[&str], reason: &str| {
            let said = outcome(files).expect_err(reason);
            assert!(said.contains(reason), "{said}");
        };
        fails(&[], "no fixture in");
        fails(&[&opened], "no fixture holds [\"shut\"] in format 1");
        let newer = line("opened", 2, &json!({"Opened": {"by": "me"}}));
        fails(&[&opened, &newer], "1.jsonl: line 1: opened/2: event is not known");
        let lossy = line("opened", 1, &json!({"Opened": {"by": "me", "at": 1}}));
        fails(&[&format!("{shut}{lossy}")], "line 2: opened/1 is written otherwise today");
        fails(&[&shut, "{}"], "1.jsonl: line 1: missing field");
        fails(&[&opened.replace("door/", "")], "line 1: its history has no such name");
    }

    #[tokio::test]
    async fn a_file_becomes_a_journal_and_a_journal_a_file() {
        let text = line("opened", 1, &json!({"Opened": {"by": "me"}}))
            + &line("opened", 1, &json!({"Opened": {"by": "you"}})).replace("front", "back")
            + &line("shut", 1, &json!("Shut"));
        let dir = write(&[&text]);
        let fixtures = Fixture::all(dir.path());
        assert_eq!(fixtures[0].name(), "0");
        let journal = fixtures[0].journal().await;
        let events = journal.read_all(0, 10).await.expect("events");
        assert_eq!(events, fixtures[0].events());
        assert_eq!(events[2].version, 2);
        assert_eq!(fixtures[0].history("door/back"), events[1..2]);
        assert_eq!(journal.list_whole("door").await.expect("heads").len(), 2);
        let again = write(&[&Fixture::lines(&events)]);
        assert_eq!(Fixture::all(again.path())[0].events(), events);
    }
}
