//! The journal's file: it lasts, it is refused when it is not sound, it has one owner.

use jiff::Timestamp;
use oms_core::ErrorKind;
use oms_core::id::CorrelationId;
use oms_core::journal::{
    Envelope, Event, HistoryId, Journal, JournalError, JournalExt, Snapshot, SqliteJournal,
};
use rusqlite::Connection;
use serde_json::json;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal.sqlite");
    (directory, path)
}

fn job(key: &str) -> HistoryId {
    HistoryId::new("job", key).expect("a name")
}

fn envelope(body: &str) -> Envelope {
    Envelope::new("noted", 1, Timestamp::UNIX_EPOCH, "test", &body).expect("text is JSON")
}

fn bodies(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.envelope.decode().expect("a text")).collect()
}

/// What a process of its own does with the journal at [`PATH_VARIABLE`].
const ROLE_VARIABLE: &str = "OMS_FILES_ROLE";
const PATH_VARIABLE: &str = "OMS_FILES_JOURNAL";

/// Not a test of its own: the process that tests below start. It says what came of it.
#[tokio::test]
async fn child() {
    let (Ok(role), Ok(path)) = (env::var(ROLE_VARIABLE), env::var(PATH_VARIABLE)) else { return };
    let journal = match SqliteJournal::open(path) {
        Ok(journal) => journal,
        Err(error) => return println!("said refused {error}"),
    };
    if role == "append" {
        return println!("said appended");
    }
    let mut count = 0;
    let error = loop {
        match journal.append_to(&job("1"), count, vec![envelope(&"x".repeat(1000))]).await {
            Ok(version) => count = version,
            Err(error) => break error,
        }
        assert!(count < 10_000, "nothing limits it");
    };
    println!("said {count} {:?} {error}", error.kind());
}

/// Runs the process above, with `limit` of its files in blocks of the shell's `ulimit`.
fn run_child(role: &str, path: &Path, limit: Option<u32>) -> String {
    // A write past the limit is an error then, and no signal.
    let limit = limit.map_or_else(String::new, |limit| format!("trap '' XFSZ; ulimit -f {limit};"));
    let output = Command::new("sh")
        .args(["-c", &format!("{limit} exec \"$0\" --exact files::child --nocapture")])
        .arg(env::current_exe().expect("this test"))
        .env(ROLE_VARIABLE, role)
        .env(PATH_VARIABLE, path)
        .output()
        .expect("start the child");
    let text = String::from_utf8(output.stdout).expect("text");
    let said = text.lines().find_map(|line| line.split_once("said "));
    let Some((_, said)) = said else { panic!("{text}{}", String::from_utf8_lossy(&output.stderr)) };
    said.to_owned()
}

/// A journal with three events, one of them large, and a snapshot.
async fn fill(path: &Path) {
    let journal = SqliteJournal::open(path).expect("open");
    let large = envelope(&"x".repeat(20_000));
    journal.append_to(&job("1"), 0, vec![envelope("a"), large]).await.expect("append");
    journal.append_to(&job("2"), 0, vec![envelope("b")]).await.expect("append");
    let snapshot = Snapshot { version: 2, format: 1, body: json!("state") };
    journal.save_snapshot(&job("1"), snapshot).await.expect("save");
}

fn reason(outcome: Result<SqliteJournal, JournalError>) -> String {
    match outcome {
        Err(JournalError::Corrupt { reason }) => reason,
        other => panic!("expected a damaged journal, got {other:?}"),
    }
}

#[tokio::test]
async fn reopening_finds_everything() {
    let (_directory, path) = place();
    fill(&path).await;
    let journal = SqliteJournal::open(&path).expect("open");
    let events = journal.read_all(0, 10).await.expect("read");
    assert_eq!(events.iter().map(|event| event.position).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(journal.read_whole(&job("1")).await.expect("read"), events[..2]);
    let snapshot = journal.snapshot(&job("1")).await.expect("snapshot").expect("one");
    assert_eq!((snapshot.version, snapshot.body), (2, json!("state")));
    assert_eq!(journal.wait(0).await.expect("wait"), 3);
    assert!(journal.append_to(&job("1"), 0, vec![envelope("late")]).await.is_err());
    assert_eq!(journal.append_to(&job("1"), 2, vec![envelope("c")]).await.expect("append"), 3);
}

#[tokio::test]
async fn a_position_is_not_reused_after_its_event_was_deleted_and_the_journal_reopened() {
    let (_directory, path) = place();
    fill(&path).await;
    let journal = SqliteJournal::open(&path).expect("open");
    journal.delete(&job("2"), 1).await.expect("delete");
    journal.delete(&job("1"), 2).await.expect("delete");
    drop(journal);
    let journal = SqliteJournal::open(&path).expect("open");
    assert_eq!(journal.wait(2).await.expect("wait"), 3, "the last position given out");
    journal.append_to(&job("1"), 0, vec![envelope("new")]).await.expect("append");
    let events = journal.read_all(0, 10).await.expect("read");
    assert_eq!(events.iter().map(|event| event.position).collect::<Vec<_>>(), [4]);
}

/// A caller that left still gets its append in, because dropping the journal drains the queue.
#[tokio::test]
async fn dropping_the_journal_finishes_what_it_accepted() {
    let (_directory, path) = place();
    let journal = SqliteJournal::open(&path).expect("open");
    let history = job("1");
    for n in 0..20 {
        let mut append = journal.append_to(&history, n, vec![envelope(&n.to_string())]);
        // One poll puts it into the queue.
        let _ = futures::poll!(&mut append);
    }
    drop(journal);
    let journal = SqliteJournal::open(&path).expect("open");
    let events = journal.read_whole(&history).await.expect("read");
    assert_eq!(bodies(&events), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_clean_close_leaves_one_file_and_its_lock() {
    let (directory, path) = place();
    fill(&path).await;
    let entries = fs::read_dir(directory.path()).expect("read");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names, ["journal.sqlite", "journal.sqlite.lock"]);
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, path) = place();
    let journal = SqliteJournal::open(&path).expect("open");
    journal.append_to(&job("1"), 0, vec![envelope("a")]).await.expect("append");
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("{}{suffix}", path.display());
        let mode = fs::metadata(&name).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_second_opener_is_refused_by_the_name_of_the_lock() {
    let (directory, path) = place();
    let first = SqliteJournal::open(&path).expect("open");
    #[cfg(unix)]
    let others = {
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("link");
        [path.clone(), directory.path().join(".").join("journal.sqlite"), link]
    };
    #[cfg(not(unix))]
    let others = [path.clone(), directory.path().join(".").join("journal.sqlite")];
    for other in &others {
        match SqliteJournal::open(other) {
            Err(error @ JournalError::Unavailable { .. }) => {
                assert!(error.to_string().contains("journal.sqlite.lock"), "{error}");
                assert_eq!(error.kind(), ErrorKind::Unavailable);
            }
            outcome => panic!("expected a refusal of {}, got {outcome:?}", other.display()),
        }
    }
    first.append_to(&job("1"), 0, vec![envelope("a")]).await.expect("it is not disturbed");
    drop(first);
    SqliteJournal::open(&others[1]).expect("it is free again");
}

#[tokio::test]
async fn a_second_process_is_refused_by_the_name_of_the_lock() {
    let (_directory, path) = place();
    let journal = SqliteJournal::open(&path).expect("open");
    let said = run_child("append", &path, None);
    assert!(said.starts_with("refused") && said.contains("journal.sqlite.lock"), "{said}");
    journal.append_to(&job("1"), 0, vec![envelope("a")]).await.expect("it is not disturbed");
    drop(journal);
    assert_eq!(run_child("append", &path, None), "appended");
}

/// Where the file may not grow, what was acknowledged is kept, and what was not has an error; with
/// room again it goes on.
#[tokio::test]
async fn a_file_that_may_not_grow_loses_nothing() {
    let (_directory, path) = place();
    fill(&path).await;
    SqliteJournal::open(&path).expect("open").delete(&job("1"), 2).await.expect("delete");
    for limit in [200, 500] {
        let before = SqliteJournal::open(&path).expect("open");
        let held = before.read_whole(&job("1")).await.expect("read").len() as u64;
        before.delete(&job("1"), held).await.expect("begin anew");
        drop(before);
        let said = run_child("fill", &path, Some(limit));
        let (count, error) = said.split_once(' ').expect("a count and an error");
        let count: u64 = count.parse().expect("a count");
        assert!(error.starts_with("Unavailable") || error.starts_with("LimitExceeded"), "{said}");
        let journal = SqliteJournal::open(&path).expect("open where there is room");
        let events = journal.read_whole(&job("1")).await.expect("read");
        // The one that failed may have been written: its effect is unknown.
        let found = events.len() as u64;
        assert!(found == count || found == count + 1, "{count} acknowledged, {found} found");
        assert!(count > 0, "{said}");
        let body = "x".repeat(1000);
        assert!(bodies(&events).iter().all(|found| *found == body));
        assert_eq!(bodies(&journal.read_whole(&job("2")).await.expect("read")), ["b"]);
        let version = journal.append_to(&job("1"), found, vec![envelope(&body)]).await;
        assert_eq!(version.expect("it goes on"), found + 1);
    }
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let (directory, _path) = place();
    let error = SqliteJournal::open(directory.path().join("none/journal.sqlite"))
        .expect_err("no such directory");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("none"), "{error}");
}

#[tokio::test]
async fn what_is_no_journal_is_damaged_and_left_as_it_is() {
    let (_directory, path) = place();
    fs::write(&path, b"").expect("write");
    assert!(reason(SqliteJournal::open(&path)).contains("is empty"));
    let garbage = b"this is a text about journals ".repeat(1000);
    fs::write(&path, &garbage).expect("write");
    assert!(reason(SqliteJournal::open(&path)).contains("not a database"));
    assert_eq!(fs::read(&path).expect("read"), garbage);

    fs::remove_file(&path).expect("remove");
    let foreign = Connection::open(&path).expect("open");
    foreign.execute_batch("CREATE TABLE event (position INTEGER)").expect("create");
    foreign.close().expect("close");
    let before = fs::read(&path).expect("read");
    assert!(reason(SqliteJournal::open(&path)).contains("application id"));
    assert_eq!(fs::read(&path).expect("read"), before);
}

#[tokio::test]
async fn a_torn_file_is_damaged() {
    let (_directory, path) = place();
    fill(&path).await;
    let whole = fs::read(&path).expect("read");
    for length in [1, 50, 99, 4096, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("write");
        let reason = reason(SqliteJournal::open(&path));
        assert!(!reason.is_empty(), "{length}");
    }
    fs::write(&path, &whole).expect("write");
    SqliteJournal::open(&path).expect("it was whole");
}

/// Every single damaged byte is either refused, or without effect on what is read.
#[tokio::test]
async fn a_damaged_byte_never_changes_an_event() {
    let (_directory, path) = place();
    fill(&path).await;
    let whole = fs::read(&path).expect("read");
    let journal = SqliteJournal::open(&path).expect("open");
    let expected = journal.read_all(0, 100).await.expect("read");
    drop(journal);
    let (mut refused_at_open, mut refused_at_read, mut harmless) = (0, 0, 0);
    for at in (0..whole.len()).step_by(211) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x5a;
        fs::write(&path, &damaged).expect("write");
        let Ok(journal) = SqliteJournal::open(&path) else {
            refused_at_open += 1;
            continue;
        };
        match journal.read_all(0, 100).await {
            Ok(events) => {
                assert_eq!(events, expected, "byte {at}");
                harmless += 1;
            }
            Err(JournalError::Corrupt { .. }) => refused_at_read += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(refused_at_open > 0 && refused_at_read > 0 && harmless > 0);
}

#[tokio::test]
async fn a_log_without_its_journal_is_not_replayed_into_a_new_one() {
    let (_directory, path) = place();
    let wal = path.with_file_name("journal.sqlite-wal");
    fs::write(&wal, b"left over").expect("write");
    assert!(reason(SqliteJournal::open(&path)).contains("journal.sqlite-wal"));
    assert!(!path.exists());
    fs::remove_file(&wal).expect("remove");
    SqliteJournal::open(&path).expect("open");
}

#[tokio::test]
async fn a_draft_that_a_crash_left_is_begun_again() {
    let (_directory, path) = place();
    let draft = path.with_file_name("journal.sqlite.new");
    fs::write(&draft, b"half a file").expect("write");
    fill(&path).await;
    assert!(!draft.exists());
}

#[tokio::test]
async fn a_newer_format_is_refused_with_both_numbers() {
    let (_directory, path) = place();
    fill(&path).await;
    let set = |version: i32| {
        let connection = Connection::open(&path).expect("open");
        connection.pragma_update(None, "user_version", version).expect("set");
    };
    set(7);
    match SqliteJournal::open(&path) {
        Err(error @ JournalError::Newer { found: 7, known: 2 }) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
        other => panic!("expected a newer format, got {other:?}"),
    }
    for none in [0, -1] {
        set(none);
        assert!(reason(SqliteJournal::open(&path)).contains("no such format"));
    }
    set(2);
    SqliteJournal::open(&path).expect("open");
}

/// Every page of a history, from any version on and of any length, is what `events` say.
async fn assert_pages(journal: &SqliteJournal, history: &HistoryId, events: &[Event]) {
    let events: Vec<_> = events.iter().filter(|event| event.history == *history).cloned().collect();
    for after in 0..=events.len() + 1 {
        for limit in [0, 1, 2, 7, 64, events.len() + 1] {
            let expected: Vec<_> = events.iter().skip(after).take(limit).cloned().collect();
            let found = journal.read(history, after as u64, limit).await.expect("read");
            assert_eq!(found, expected, "{history}: {limit} after {after}");
        }
    }
}

/// A journal whose histories lie across each other, and one of which was deleted.
async fn fill_across(path: &Path) -> Vec<Event> {
    let journal = SqliteJournal::open(path).expect("open");
    let mut versions = [0_u64; 4];
    for turn in 0..260_usize {
        // Some often, some seldom, and several at a time.
        let n = [0, 1, 0, 2, 0, 1, 3][turn % 7];
        let events = vec![envelope(&format!("{turn}{}", "x".repeat(900))); 1 + turn % 3 / 2];
        let version = journal.append_to(&job(&n.to_string()), versions[n], events).await;
        versions[n] = version.expect("append");
    }
    let snapshot = Snapshot { version: 9, format: 1, body: json!("state") };
    journal.save_snapshot(&job("1"), snapshot).await.expect("save");
    journal.append_to(&job("gone"), 0, vec![envelope("g")]).await.expect("append");
    journal.delete(&job("gone"), 1).await.expect("delete");
    journal.read_all(0, 1000).await.expect("read")
}

#[tokio::test]
async fn histories_that_lie_across_each_other_are_read_from_anywhere() {
    let (_directory, path) = place();
    let events = fill_across(&path).await;
    let journal = SqliteJournal::open(&path).expect("open");
    for n in ["0", "1", "2", "3"] {
        assert_pages(&journal, &job(n), &events).await;
    }
    let count = events.iter().filter(|event| event.history == job("0")).count() as u64;
    journal.delete(&job("0"), count).await.expect("delete");
    let rest: Vec<_> = events.into_iter().filter(|event| event.history != job("0")).collect();
    assert_eq!(journal.read_all(0, 1000).await.expect("read"), rest);
    assert_eq!(journal.read_whole(&job("0")).await.expect("read"), []);
    assert_pages(&journal, &job("1"), &rest).await;
}

/// Makes a journal one of format 1, as the version that wrote that would have it.
fn make_format_1(path: &Path) {
    let fixture = include_str!("../fixtures/journal-v1.sql");
    // All but what it holds.
    let is_table = |line: &&str| !line.starts_with("INSERT") && !line.starts_with("--");
    let tables: Vec<_> = fixture.lines().filter(is_table).collect();
    let set_aside = "
        PRAGMA foreign_keys = OFF;
        ALTER TABLE snapshot RENAME TO snapshot_2;
        ALTER TABLE event RENAME TO event_2;
        ALTER TABLE history RENAME TO history_2;";
    let carry_over = "
        INSERT INTO history SELECT id, kind, key, version FROM history_2;
        INSERT INTO event SELECT position, history, version, kind, format, time, actor,
            correlation, body, checksum FROM event_2 ORDER BY position;
        INSERT INTO snapshot SELECT * FROM snapshot_2;
        UPDATE sqlite_sequence SET seq = max(seq, (SELECT last FROM sequence));
        DROP TABLE snapshot_2; DROP TABLE event_2; DROP TABLE history_2; DROP TABLE sequence;
        VACUUM;";
    let connection = Connection::open(path).expect("open");
    for statements in [set_aside, &tables.join("\n"), carry_over] {
        connection.execute_batch(statements).expect("change");
    }
    connection.close().expect("close");
}

#[tokio::test]
async fn a_long_journal_of_format_1_is_migrated_when_it_is_opened() {
    let (_directory, path) = place();
    let events = fill_across(&path).await;
    make_format_1(&path);
    let old = fs::read(&path).expect("read");

    // Where there is no room for it, it stays as it is.
    let said = run_child("append", &path, Some(200));
    assert!(said.starts_with("refused"), "{said}");
    let format = |path: &Path| {
        let connection = Connection::open(path).expect("open");
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
    };
    assert_eq!(format(&path), Ok(1));
    fs::write(path.with_file_name("copy.sqlite"), &old).expect("write");

    for path in [path.clone(), path.with_file_name("copy.sqlite")] {
        let journal = SqliteJournal::open(&path).expect("open where there is room");
        assert_eq!(journal.read_all(0, 1000).await.expect("read"), events);
        for n in ["0", "1", "2", "3"] {
            assert_pages(&journal, &job(n), &events).await;
        }
        let snapshot = journal.snapshot(&job("1")).await.expect("snapshot").expect("one");
        assert_eq!(snapshot.version, 9);
        let last = events[events.len() - 1].position + 1;
        assert_eq!(journal.wait(last - 1).await.expect("wait"), last, "it was of the deleted one");
        for n in ["0", "1", "2", "3"] {
            let count = events.iter().filter(|event| event.history == job(n)).count() as u64;
            let version = journal.append_to(&job(n), count, vec![envelope("on")]).await;
            assert_eq!(version.expect("append"), count + 1);
        }
        let longer = journal.read_all(0, 1000).await.expect("read");
        assert_pages(&journal, &job("0"), &longer).await;
        drop(journal);
        assert_eq!(format(&path), Ok(2));
        let journal = SqliteJournal::open(&path).expect("open");
        assert_eq!(journal.read_all(0, 1000).await.expect("read"), longer);
    }
}

/// What leads from event to event is looked at with every step: it leads to the right one, or the
/// history is refused by name and stays as it is. Other histories are not disturbed.
#[tokio::test]
async fn a_history_whose_events_do_not_hang_together_is_damaged() {
    let (_directory, path) = place();
    let events = fill_across(&path).await;
    let whole = fs::read(&path).expect("read");
    let count = |n: &str| events.iter().filter(|event| event.history == job(n)).count() as u64;
    let (of_0, of_1) = (count("0"), count("1"));
    let history = "history = (SELECT id FROM history WHERE key = '0')";
    for damage in [
        format!("UPDATE event SET back = back + 1 WHERE {history} AND version = 50"),
        format!("UPDATE event SET back = 0 WHERE {history} AND version = 50"),
        format!("UPDATE event SET back = position WHERE {history} AND version = 50"),
        format!("UPDATE event SET version = 49 WHERE {history} AND version = 50"),
        format!("UPDATE event SET history = 2 WHERE {history} AND version = 50"),
        format!("DELETE FROM event WHERE {history} AND version = 50"),
        "UPDATE history SET last = last - 1 WHERE key = '0'".to_owned(),
        "UPDATE history SET last = 0 WHERE key = '0'".to_owned(),
        "UPDATE history SET version = version - 1 WHERE key = '0'".to_owned(),
        "UPDATE history SET last = (SELECT last FROM history WHERE key = '1') WHERE key = '0'"
            .to_owned(),
    ] {
        fs::write(&path, &whole).expect("write");
        let foreign = Connection::open(&path).expect("open");
        assert_eq!(foreign.execute(&damage, []), Ok(1), "{damage}");
        let query = "SELECT count(*) FROM event";
        let rows: i64 = foreign.query_row(query, [], |row| row.get(0)).expect("a count");
        let of_0 = if damage.contains("version - 1") { of_0 - 1 } else { of_0 };
        let journal = SqliteJournal::open(&path).expect("open");
        let corrupt = |error: JournalError| match error {
            JournalError::Corrupt { reason } => assert!(reason.contains("position"), "{reason}"),
            other => panic!("{damage}: {other}"),
        };
        corrupt(journal.read_whole(&job("0")).await.expect_err("it is damaged"));
        corrupt(journal.delete(&job("0"), of_0).await.expect_err("it is damaged"));
        if damage.contains("UPDATE history") {
            let event = vec![envelope("on")];
            corrupt(journal.append_to(&job("0"), of_0, event).await.expect_err("it is damaged"));
        }
        assert_pages(&journal, &job("1"), &events).await;
        journal.append_to(&job("1"), of_1, vec![envelope("on")]).await.expect("append");
        let left: i64 = foreign.query_row(query, [], |row| row.get(0)).expect("a count");
        assert_eq!(left, rows + 1, "{damage}");
    }
}

/// The skips are walked only where they save steps.
#[tokio::test]
async fn a_skip_that_leads_astray_is_damage_to_whoever_takes_it() {
    let (_directory, path) = place();
    fill_across(&path).await;
    let foreign = Connection::open(&path).expect("open");
    let id = "(SELECT id FROM history WHERE key = '0')";
    let damage = format!("UPDATE event SET skip = back WHERE history = {id} AND version = 96");
    assert_eq!(foreign.execute(&damage, []), Ok(1));
    foreign.close().expect("close");
    let journal = SqliteJournal::open(&path).expect("open");
    let astray = journal.read(&job("0"), 10, 1).await.expect_err("through 96 to 64");
    assert!(matches!(&astray, JournalError::Corrupt { .. }), "{astray}");
    assert!(astray.to_string().contains("event 64"), "{astray}");
    assert_eq!(journal.read(&job("0"), 90, 10).await.expect("by no such skip").len(), 10);
}

#[tokio::test]
async fn without_its_sequence_it_is_damaged() {
    let (_directory, path) = place();
    fill(&path).await;
    let foreign = Connection::open(&path).expect("open");
    foreign.execute("DELETE FROM sequence", []).expect("delete");
    foreign.close().expect("close");
    assert!(!reason(SqliteJournal::open(&path)).is_empty());
}

/// The journal in format 1, as version 0.1 wrote it.
#[tokio::test]
async fn format_1_is_still_read() {
    let (_directory, path) = place();
    let connection = Connection::open(&path).expect("open");
    connection.execute_batch(include_str!("../fixtures/journal-v1.sql")).expect("load");
    connection.close().expect("close");

    let journal = SqliteJournal::open(&path).expect("open");
    assert_eq!(journal.read_all(0, 100).await.expect("read"), format_1_events());
    for key in ["42", "ключ/1"] {
        assert_pages(&journal, &job(key), &format_1_events()).await;
    }
    let heads = journal.list_whole("job").await.expect("list");
    assert_eq!(heads.iter().map(|head| head.version).collect::<Vec<_>>(), [3, 1]);
    let snapshot = journal.snapshot(&job("42")).await.expect("snapshot").expect("one");
    assert_eq!(snapshot, Snapshot { version: 2, format: 1, body: json!({ "state": "running" }) });
    // Position 5 belonged to a history that was deleted.
    assert_eq!(journal.wait(4).await.expect("wait"), 5);
    assert_eq!(journal.append_to(&job("42"), 3, vec![envelope("on")]).await.expect("append"), 4);
    let added = journal.read_all(5, 10).await.expect("read");
    assert_eq!(added.iter().map(|event| event.position).collect::<Vec<_>>(), [6]);
}

fn format_1_events() -> Vec<Event> {
    let time = |text: &str| text.parse::<Timestamp>().expect("a time");
    let correlation: CorrelationId = "6f9619ff-8b86-d011-b42d-00cf4fc964ff".parse().expect("an id");
    let event = |position, history, version, kind: &str, at, body| Event {
        position,
        history,
        version,
        envelope: Envelope {
            kind: kind.to_owned(),
            format: 1,
            time: time(at),
            actor: "DOMAIN\\Jürgen".to_owned(),
            correlation: (version == 1).then_some(correlation),
            body,
        },
    };
    let queued = json!({ "runbook": "hello.py", "arguments": ["日本", null, 0.1, u64::MAX] });
    vec![
        event(1, job("42"), 1, "job-queued", "2026-01-02T03:04:05.123456789Z", queued),
        event(2, job("42"), 2, "job-started", "2026-01-02T03:04:06Z", json!(null)),
        event(3, job("ключ/1"), 1, "job-queued", "-009999-01-02T01:59:59Z", json!({})),
        event(4, job("42"), 3, "job-completed", "9999-12-30T22:00:00.999999999Z", json!([true])),
    ]
}
