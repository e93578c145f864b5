//! Journals in processes of their own: the test program, started again in one of these roles.

use super::*;
use oms_core::journal::{JournalError, JournalExt};
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

/// What the process does; without it, the child's test has nothing to do.
const ROLE_VARIABLE: &str = "OMS_INTEROP_ROLE";

/// Which schema it uses.
const SCHEMA_VARIABLE: &str = "OMS_INTEROP_SCHEMA";

const EVENTS: u64 = 60;

/// Not a test of its own: the process that the tests below start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let (Ok(role), Ok(schema)) = (env::var(ROLE_VARIABLE), env::var(SCHEMA_VARIABLE)) else {
        return;
    };
    let journal = PostgresJournal::connect(&url(), &PostgresSettings { schema }).await;
    let journal = journal.expect("open");
    match role.as_str() {
        "wait" => wait(&journal).await,
        writer => write(&journal, writer).await,
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "said {line}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Says when it waits, and what came.
async fn wait(journal: &PostgresJournal) {
    let mut position = 0;
    for _ in 0..10 {
        let mut wait = journal.wait(position);
        assert!(futures::poll!(&mut wait).is_pending());
        say("waiting");
        position = within(wait).await.expect("wait");
        let events = journal.read_all(position - 1, 10).await.expect("read");
        say(&bodies(&events).join(","));
    }
}

/// Appends to a history of its own, and to one that all share.
async fn write(journal: &PostgresJournal, writer: &str) {
    let mut shared = 0;
    for n in 0..EVENTS {
        let own = vec![envelope(n)];
        journal.append_to(&history("own", writer), n, own).await.expect("append");
        loop {
            let event = vec![envelope(format!("{writer} {n}"))];
            match journal.append_to(&history("shared", "1"), shared, event).await {
                Ok(version) => {
                    shared = version;
                    break;
                }
                Err(JournalError::Conflict { actual, .. }) => {
                    assert!(actual > shared);
                    shared = actual;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn start(role: &str, place: &Place) -> Child {
    Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "interop::processes::child", "--nocapture"])
        .env(ROLE_VARIABLE, role)
        .env(SCHEMA_VARIABLE, &place.schema)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the child")
}

/// Three processes write, this one reads all the time: every position comes in order, and of two
/// that write at one version one wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_write_at_once_keep_one_order() {
    const WRITERS: u64 = 3;
    let place = Place::new();
    let journal = place.open().await;
    let mut children: Vec<_> =
        (0..WRITERS).map(|writer| start(&writer.to_string(), &place)).collect();
    let count = (WRITERS * EVENTS * 2) as usize;
    let seen = within(poll_all(&journal, count)).await;
    for child in &mut children {
        let mut errors = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut errors).expect("read");
        assert!(child.wait().expect("the child ends").success(), "{errors}");
    }
    assert_nothing_was_missed(&journal, &seen).await;
    let mut shared = bodies(&journal.read_whole(&history("shared", "1")).await.expect("read"));
    for writer in 0..WRITERS {
        let own = journal.read_whole(&history("own", writer)).await.expect("read");
        assert_eq!(bodies(&own), (0..EVENTS).map(|n| n.to_string()).collect::<Vec<_>>());
        let prefix = format!("{writer} ");
        let in_order: Vec<_> = shared.iter().filter(|body| body.starts_with(&prefix)).collect();
        let expected: Vec<_> = (0..EVENTS).map(|n| format!("{writer} {n}")).collect();
        assert_eq!(in_order, expected.iter().collect::<Vec<_>>());
    }
    shared.sort();
    shared.dedup();
    assert_eq!(shared.len() as u64, WRITERS * EVENTS);
}

/// A reader in another process is woken by what this one appends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_in_another_process_is_woken() {
    let place = Place::new();
    let journal = place.open().await;
    let mut child = start("wait", &place);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = move || {
        tokio::task::block_in_place(|| {
            let said = lines.by_ref().map_while(Result::ok);
            said.filter_map(|line| line.strip_prefix("said ").map(str::to_owned)).next()
        })
    };
    for n in 0..10 {
        assert_eq!(next().as_deref(), Some("waiting"));
        journal.append_to(&job("1"), n, vec![envelope(n)]).await.expect("append");
        assert_eq!(next(), Some(n.to_string()));
    }
    assert!(child.wait().expect("the child ends").success());
}
