//! A process that is killed while it appends loses nothing that it acknowledged.

use jiff::Timestamp;
use oms_core::entropy::SeededEntropy;
use oms_core::journal::{Append, Envelope, HistoryId, Journal, JournalExt, SqliteJournal};
use oms_core::{EntropyExt, SystemEntropy};
use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the child finds the journal; without it, the child's test has nothing to do.
const PATH_VARIABLE: &str = "OMS_CRASH_JOURNAL";

const KILLS: usize = 20;
const WRITERS: u64 = 4;

/// Each append of a writer goes to its own history and to one that pairs it with itself.
fn histories(writer: u64) -> [HistoryId; 2] {
    let name = |kind| HistoryId::new(kind, &writer.to_string()).expect("a name");
    [name("left"), name("right")]
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Appends numbers to its histories until it is killed, and says before and after each.
async fn write_on(journal: &SqliteJournal, writer: u64) {
    let [left, right] = histories(writer);
    let mut version = journal.read_whole(&left).await.expect("read").len() as u64;
    loop {
        say(&format!("submitted {writer} {version}"));
        let event = Envelope::new("n", 1, Timestamp::UNIX_EPOCH, "child", &version).expect("JSON");
        let append = |history: &HistoryId| Append {
            history: history.clone(),
            expected: version,
            events: vec![event.clone()],
        };
        let appends = vec![append(&left), append(&right)];
        journal.append(appends).await.expect("append");
        say(&format!("acknowledged {writer} {version}"));
        version += 1;
    }
}

/// Not a test of its own: the process that the test below kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(path) = env::var_os(PATH_VARIABLE) else { return };
    let journal = SqliteJournal::open(path).expect("open");
    futures::future::join_all((0..WRITERS).map(|writer| write_on(&journal, writer))).await;
}

/// What a child said of each writer: how many appends it submitted and had acknowledged, counted
/// from the journal's beginning.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    submitted: u64,
    acknowledged: u64,
}

/// Starts a child, kills it when it has submitted for the `moment`th time, and collects what it
/// said until then.
fn kill_one(path: &Path, moment: u64, said: &mut BTreeMap<u64, Said>) {
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "crash::child", "--nocapture"])
        .env(PATH_VARIABLE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the child");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut submissions = 0;
    // After the kill, what is in the pipe is still to be read.
    while let Some(Ok(line)) = lines.next() {
        let words: Vec<_> = line.split(' ').collect();
        let [verb @ ("submitted" | "acknowledged"), writer, version] = words.as_slice() else {
            continue;
        };
        let (Ok(writer), Ok(version)) = (writer.parse(), version.parse::<u64>()) else { continue };
        let of_writer: &mut Said = said.entry(writer).or_default();
        if *verb == "acknowledged" {
            of_writer.acknowledged = version + 1;
            continue;
        }
        of_writer.submitted = version + 1;
        submissions += 1;
        if submissions == moment {
            child.kill().expect("kill");
        }
    }
    let status = child.wait().expect("the child ends");
    assert!(!status.success() && submissions >= moment, "the child ended by itself: {status}");
}

/// Every acknowledged event is there once and in order, and of the others at most those that were
/// submitted; both histories of an append hold it or neither does.
async fn audit(path: &Path, said: &BTreeMap<u64, Said>) -> u64 {
    let journal = SqliteJournal::open(path).expect("open after a kill");
    let mut in_doubt = 0;
    let mut total = 0;
    for (writer, said) in said {
        let [left, right] = histories(*writer);
        let left = journal.read_whole(&left).await.expect("read");
        let right = journal.read_whole(&right).await.expect("read");
        let count = left.len() as u64;
        assert!(
            (said.acknowledged..=said.submitted).contains(&count),
            "writer {writer} has {count} events and said {said:?}"
        );
        for events in [&left, &right] {
            let numbers: Vec<u64> =
                events.iter().map(|event| event.envelope.decode().expect("a number")).collect();
            assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "writer {writer}");
            assert!(events.iter().map(|event| event.version).eq(1..=count));
        }
        in_doubt += said.submitted - said.acknowledged;
        total += 2 * count;
    }
    let mut position = 0;
    let mut seen = 0;
    loop {
        let page = journal.read_all(position, 1000).await.expect("read");
        for event in &page {
            assert!(event.position > position);
            position = event.position;
        }
        seen += page.len() as u64;
        if page.is_empty() {
            break;
        }
    }
    assert_eq!(seen, total);
    if seen > 0 {
        assert_eq!(journal.wait(0).await.expect("wait"), position);
    }
    in_doubt
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let seed = env::var("OMS_SEED")
        .map_or_else(|_unset| SystemEntropy.number(), |seed| seed.parse().expect("a number"));
    eprintln!("OMS_SEED={seed}");
    let entropy = SeededEntropy::new(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal.sqlite");
    let mut said = BTreeMap::new();
    let mut in_doubt = 0;
    for _ in 0..KILLS {
        kill_one(&path, 1 + entropy.below(80), &mut said);
        in_doubt += audit(&path, &said).await;
        // What was in doubt is decided now: the next child goes on from what the journal holds.
        let journal = SqliteJournal::open(&path).expect("open");
        for (writer, said) in &mut said {
            let count = journal.read_whole(&histories(*writer)[0]).await.expect("read").len();
            *said = Said { submitted: count as u64, acknowledged: count as u64 };
        }
    }
    assert!(in_doubt > 0, "no kill came between a submission and its acknowledgement");
}
