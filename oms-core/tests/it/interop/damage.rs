//! What is refused by name: a newer schema, damage, a full disk, a setup that does not fit.

use super::*;
use oms_core::ErrorKind;
use oms_core::journal::{Append, JournalError, JournalExt, Snapshot};

async fn filled() -> (Place, PostgresJournal, Client) {
    let place = Place::new();
    let journal = place.open().await;
    journal.append_to(&job("1"), 0, vec![envelope("a"), envelope("b")]).await.expect("append");
    journal.append_to(&job("2"), 0, vec![envelope("c")]).await.expect("append");
    let snapshot = Snapshot { version: 2, format: 1, body: "state".into() };
    journal.save_snapshot(&job("1"), snapshot).await.expect("save");
    let beside = place.beside().await;
    (place, journal, beside)
}

fn reason(outcome: Result<impl std::fmt::Debug, JournalError>) -> String {
    match outcome {
        Err(JournalError::Corrupt { reason }) => reason,
        other => panic!("expected damage, got {other:?}"),
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_both_numbers() {
    let (place, journal, beside) = filled().await;
    beside.batch_execute("UPDATE log SET format = 7").await.expect("set");
    match PostgresJournal::connect(&place.url, &place.settings()).await {
        Err(error @ JournalError::Newer { found: 7, known: 1 }) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
        other => panic!("expected a newer format, got {other:?}"),
    }
    // One that was open before no longer writes either.
    let appended = journal.append_to(&job("2"), 1, vec![envelope("d")]).await;
    assert!(matches!(appended, Err(JournalError::Newer { found: 7, known: 1 })), "{appended:?}");
    beside.batch_execute("UPDATE log SET format = 0").await.expect("set");
    let opened = PostgresJournal::connect(&place.url, &place.settings()).await;
    assert!(reason(opened).contains("no such format"));
    beside.batch_execute("UPDATE log SET format = 1").await.expect("set");
    assert_eq!(journal.append_to(&job("2"), 1, vec![envelope("d")]).await.expect("append"), 2);
}

#[tokio::test]
async fn tables_that_are_not_the_journals_are_damage() {
    for change in [
        "DROP TABLE event",
        "ALTER TABLE event DROP COLUMN checksum",
        "ALTER TABLE history ALTER COLUMN version TYPE text",
        "DELETE FROM log",
        "DROP TABLE snapshot",
    ] {
        let (place, _journal, beside) = filled().await;
        beside.batch_execute(change).await.expect("change");
        let opened = PostgresJournal::connect(&place.url, &place.settings()).await;
        assert!(!reason(opened).is_empty(), "{change}");
    }
}

/// Each column of an event is under its checksum, or is missed where it is gone.
#[tokio::test]
async fn a_changed_row_is_damage_and_the_others_are_read() {
    for change in [
        "body = '\"x\"'",
        "kind = 'other'",
        "kind = 'a\\b'",
        "actor = 'other'",
        "time = '1970-01-01T00:00:01Z'",
        "time = 'soon'",
        "format = 2",
        "format = -1",
        "correlation = 'x'",
        "version = 9",
        "checksum = '\\x00'",
        "history = 99",
    ] {
        let (_place, journal, beside) = filled().await;
        let update = format!("UPDATE event SET {change} WHERE position = 2");
        assert_eq!(beside.execute(&update, &[]).await.expect("update"), 1);
        assert!(!reason(journal.read_all(0, 10).await).is_empty(), "{change}");
        if change != "history = 99" {
            assert!(!reason(journal.read(&job("1"), 1, 10).await).is_empty(), "{change}");
        }
        let events = journal.read_whole(&job("2")).await.expect("read");
        assert_eq!(bodies(&events), ["c"], "{change}");
    }
    let (_place, journal, beside) = filled().await;
    beside.batch_execute("DELETE FROM event WHERE position = 1").await.expect("delete");
    assert!(reason(journal.read_whole(&job("1")).await).contains("version 1"));
    beside.batch_execute("UPDATE snapshot SET version = 1").await.expect("update");
    assert!(reason(journal.snapshot(&job("1")).await).contains("snapshot"));
    beside.batch_execute("DELETE FROM history").await.expect("delete");
    assert!(reason(journal.read_all(0, 10).await).contains("history"));
    // A history without its row begins anew, and does not meet the old events.
    beside.batch_execute("UPDATE log SET head = 1, histories = 0").await.expect("update");
    let appended = journal.append_to(&job("1"), 0, vec![envelope("x")]).await;
    assert!(reason(appended).contains("23505"));
}

/// A full disk refuses the request that does not fit, and its neighbours stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_named_and_spares_the_others() {
    let (place, journal, beside) = filled().await;
    let poison = "
        CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER poison BEFORE INSERT ON event FOR EACH ROW
            WHEN (NEW.kind = 'large') EXECUTE FUNCTION poison();";
    beside.batch_execute(poison).await.expect("create");
    let large = Envelope { kind: "large".to_owned(), ..envelope("x") };
    let other = place.beside().await;
    other.batch_execute("BEGIN; SELECT head FROM log FOR UPDATE").await.expect("lock");
    // While the lock is held, all of them come into one group.
    let append = |key: u64| {
        let event = if key == 4 { large.clone() } else { envelope(key) };
        let history = job(format!("new-{key}"));
        let journal = &journal;
        async move { journal.append_to(&history, 0, vec![event]).await }
    };
    let let_go = async {
        tokio::task::yield_now().await;
        other.batch_execute("COMMIT").await.expect("let go");
    };
    let appends = futures::future::join_all((0..8).map(append));
    let (outcomes, ()) = within(futures::future::join(appends, let_go)).await;
    for (key, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(version) => assert_eq!((key != 4, version), (true, 1)),
            Err(error) => {
                assert!(matches!(error, JournalError::Full), "{error}");
                assert_eq!(key, 4);
            }
        }
    }
    let pair =
        |key: &str, event: Envelope| Append { history: job(key), expected: 0, events: vec![event] };
    let both = vec![pair("left", envelope("small")), pair("right", large)];
    assert!(matches!(journal.append(both).await, Err(JournalError::Full)));
    assert_eq!(journal.read_whole(&job("left")).await.expect("read"), []);
    assert_eq!(journal.read_whole(&job("1")).await.expect("read").len(), 2);
    assert_eq!(journal.list_whole("job").await.expect("list").len(), 9);
}

/// Rights, databases and settings that a repeat will not mend.
#[tokio::test]
async fn what_is_not_set_up_is_named() {
    let place = Place::new();
    let beside = connect(&place.url).await;
    let role = format!("{}_role", place.schema);
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'");
    beside.batch_execute(&create).await.expect("create");
    let poor = url().replacen("oms@", &format!("{role}:secret@"), 1);
    let refused = async |url: &str| match PostgresJournal::connect(url, &place.settings()).await {
        Err(error @ JournalError::Setup { .. }) => {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(!error.to_string().contains("secret"), "{error}");
            error.to_string()
        }
        other => panic!("expected a refusal, got {other:?}"),
    };
    assert!(refused(&poor).await.contains("42501"), "no right to make a schema");
    let elsewhere = url().replacen("/postgres", "/none", 1);
    assert!(refused(&elsewhere).await.contains("3D000"), "no such database");

    let latin = format!("{}_latin", place.schema);
    let create = format!("CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    beside.batch_execute(&create).await.expect("create");
    let other = url().replacen("/postgres", &format!("/{latin}"), 1);
    assert!(refused(&other).await.contains("LATIN1"));

    // With the right to use tables that another made, no other right is needed.
    let journal = place.open().await;
    let grant = format!(
        "GRANT USAGE ON SCHEMA {0} TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA {0} TO {role}",
        place.schema
    );
    beside.batch_execute(&grant).await.expect("grant");
    let poor = PostgresJournal::connect(&poor, &place.settings()).await.expect("open");
    assert_eq!(poor.append_to(&job("1"), 0, vec![envelope("a")]).await.expect("append"), 1);
    poor.close().await;
    drop(journal);
    let drop = format!("DROP SCHEMA {} CASCADE; DROP ROLE {role}", place.schema);
    beside.batch_execute(&drop).await.expect("drop");
    beside.batch_execute(&format!("DROP DATABASE {latin}")).await.expect("drop");
}

/// A session whose user is set to commit without a sync is set to wait for it.
#[tokio::test]
async fn a_commit_waits_for_the_disk() {
    let place = Place::new();
    let mut lax = url();
    lax.push_str(if lax.contains('?') { "&" } else { "?" });
    lax.push_str("options=-c%20synchronous_commit%3Doff");
    let journal = PostgresJournal::connect(&lax, &place.settings()).await.expect("open");
    let beside = place.beside().await;
    let watch = "
        CREATE TABLE seen (setting text);
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END
        $$ SET search_path FROM CURRENT;
        CREATE TRIGGER look BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION look();";
    beside.batch_execute(watch).await.expect("create");
    journal.append_to(&job("1"), 0, vec![envelope("a")]).await.expect("append");
    let setting: String = beside.query_one("SELECT * FROM seen", &[]).await.expect("a row").get(0);
    assert_eq!(setting, "on");
}
