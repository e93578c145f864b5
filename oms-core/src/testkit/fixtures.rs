//! Events as released versions wrote them, kept as files and read by every later version.

use crate::journal::{Envelope, JournalEvent};
use std::collections::BTreeSet;
use std::path::Path;

/// Reads every `*.json` file of `dir`, in order of their names: each an array of the envelopes of
/// one history, as a released version wrote them. Hands each file's name and events to `replay`,
/// which folds them as recovery does and says what is wrong with what comes out. Answers how many
/// events there were.
///
/// A file that was written once is never changed: a new format adds files. So an event that no
/// longer decodes, or decodes to something that no longer folds, is found before it is released.
///
/// # Panics
/// Naming the file, if an envelope is not opened, if the envelope that the event makes today is
/// not the one that was stored (in the current format), or if `replay` refuses; naming the kind, if
/// a kind of the enum is in no file.
pub fn replay_fixtures<E: JournalEvent>(
    dir: &Path,
    mut replay: impl FnMut(&str, Vec<(Envelope, E)>) -> Result<(), String>,
) -> usize {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| fail(dir, &error.to_string()));
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let (mut count, mut seen) = (0, BTreeSet::new());
    for path in &paths {
        let bytes = std::fs::read(path).unwrap_or_else(|error| fail(path, &error.to_string()));
        let envelopes: Vec<Envelope> =
            serde_json::from_slice(&bytes).unwrap_or_else(|error| fail(path, &error.to_string()));
        let mut events = Vec::new();
        for envelope in envelopes {
            let event = open::<E>(path, &envelope);
            seen.insert((envelope.kind.clone(), envelope.format));
            events.push((envelope, event));
        }
        count += events.len();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if let Err(reason) = replay(&name, events) {
            fail(path, &reason);
        }
    }
    for kind in E::KINDS {
        if !seen.contains(&((*kind).to_owned(), E::FORMAT)) {
            fail(dir, &format!("no file holds kind `{kind}` in format {}", E::FORMAT));
        }
    }
    count
}

fn open<E: JournalEvent>(path: &Path, envelope: &Envelope) -> E {
    let (kind, format) = (&envelope.kind, envelope.format);
    let event =
        E::open(envelope).unwrap_or_else(|error| fail(path, &format!("{kind}/{format}: {error}")));
    if format == E::FORMAT {
        let sealed = event.seal(envelope.time, &envelope.actor).expect("it was JSON");
        if sealed.body != envelope.body || sealed.kind != *kind {
            fail(path, &format!("`{kind}` is written otherwise today: {}", sealed.body));
        }
    }
    event
}

#[expect(clippy::panic, reason = "a test suite fails by panicking")]
fn fail(path: &Path, reason: &str) -> ! {
    panic!("fixture {}: {reason}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal_event;
    use serde::{Deserialize, Serialize};
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

    fn envelope(kind: &str, format: u16, body: &Value) -> Value {
        let time = "2026-01-01T00:00:00Z";
        json!({"kind": kind, "format": format, "time": time, "actor": "me", "correlation": null,
               "body": body})
    }

    /// What the panic says, or how many events there are.
    fn outcome(files: &[Value]) -> Result<usize, String> {
        let dir = tempfile::tempdir().expect("a folder");
        for (index, events) in files.iter().enumerate() {
            let path = dir.path().join(format!("{index}.json"));
            std::fs::write(path, events.to_string()).expect("written");
        }
        let caught = catch_unwind(|| {
            replay_fixtures::<Door>(dir.path(), |_, events| match events.first() {
                Some((_, Door::Shut)) => Err("shut before it was opened".to_owned()),
                _ => Ok(()),
            })
        });
        caught.map_err(|panic| *panic.downcast::<String>().expect("a message"))
    }

    #[test]
    fn what_no_longer_decodes_folds_or_is_covered_is_found() {
        let opened = || envelope("opened", 1, &json!({"Opened": {"by": "me"}}));
        let shut = || envelope("shut", 1, &json!("Shut"));
        assert_eq!(outcome(&[json!([opened(), shut()]), json!([opened()])]), Ok(3));
        let fails = |files: &[Value], reason: &str| {
            let said = outcome(files).expect_err(reason);
            assert!(said.contains(reason), "{said}");
        };
        fails(&[json!([opened()])], "no file holds kind `shut` in format 1");
        fails(&[json!([shut(), opened()])], "shut before it was opened");
        let foreign = envelope("locked", 1, &json!("Locked"));
        fails(&[json!([opened(), foreign])], "locked/1: event is not known");
        let lossy = envelope("opened", 1, &json!({"Opened": {"by": "me", "at": 1}}));
        fails(&[json!([lossy, shut()])], "`opened` is written otherwise today");
        fails(&[json!({"not": "a list"})], "0.json");
    }
}
