//! A damaged SQLite journal: it is refused by name, or every event that it still gives is one that
//! was appended, in its place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_core::journal::{Envelope, Event, HistoryId, Journal, JournalExt, Snapshot, SqliteJournal};
use std::sync::OnceLock;

struct Template {
    bytes: Vec<u8>,
    events: Vec<Event>,
}

fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path).expect("a journal");
        let events = fuzz::block_on(async {
            for key in ["a", "b"] {
                let history = HistoryId::new("job", key).expect("a name");
                for version in 0..6_u64 {
                    let body = serde_json::json!({ "key": key, "version": version });
                    let time = jiff::Timestamp::UNIX_EPOCH;
                    let event = Envelope::new("queued", 1, time, "me", &body).expect("a body");
                    journal.append_to(&history, version, vec![event]).await.expect("appended");
                }
                let snapshot = Snapshot { version: 3, format: 1, body: serde_json::json!([key]) };
                journal.save_snapshot(&history, snapshot).await.expect("kept");
            }
            journal.read_all(0, 100).await.expect("events")
        });
        drop(journal);
        Template { bytes: std::fs::read(&path).expect("a file"), events }
    })
}

async fn read(journal: &SqliteJournal) {
    let known = &template().events;
    if let Ok(events) = journal.read_all(0, 100).await {
        assert!(events.iter().all(|event| known.contains(event)), "{events:?}");
    }
    for key in ["a", "b"] {
        let history = HistoryId::new("job", key).expect("a name");
        if let Ok(events) = journal.read(&history, 0, 100).await {
            assert!(events.iter().all(|event| known.contains(event)), "{events:?}");
        }
        if let Ok(Some(snapshot)) = journal.snapshot(&history).await {
            assert_eq!(snapshot.body, serde_json::json!([key]));
        }
    }
    let _ = journal.list("job", None, 10).await;
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = template().bytes.clone();
    // Each five bytes: where (three), what is changed (one), how (one).
    for edit in data.chunks_exact(5).take(16) {
        let at = usize::from(edit[0]) << 16 | usize::from(edit[1]) << 8 | usize::from(edit[2]);
        let at = at % bytes.len();
        match edit[4] % 4 {
            0 => bytes[at] = edit[3],
            1 => bytes[at] ^= 1 << (edit[3] % 8),
            2 => bytes[at] = bytes[at].wrapping_add(edit[3]),
            _ => bytes.truncate(at.max(1)),
        }
    }
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.expect("a folder");
    let path = folder.path().join("journal.db");
    std::fs::write(&path, &bytes).expect("written");
    if let Ok(journal) = SqliteJournal::open(&path) {
        fuzz::block_on(read(&journal));
    }
});
