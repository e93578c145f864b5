//! A process that is killed while it appends loses nothing that it acknowledged.

use async_trait::async_trait;
use jiff::Timestamp;
use oms_core::entropy::SeededEntropy;
use oms_core::journal::{Append, Envelope, HistoryId, Journal, JournalError, JournalExt};
use oms_core::{EntropyExt, SystemEntropy};
use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// How many appends of a child are under way at one time.
const WRITERS: u64 = 4;

/// The most lines a child says before it is killed.
const LINES_MAX: u64 = 60;

/// How often one journal is used, so that the audits do not grow without end.
const ROUNDS: usize = 20;

/// Where the journal is that a child writes and its parent audits.
#[async_trait]
pub(crate) trait Place: Sync {
    /// What the child's environment says of it.
    fn environment(&self) -> Vec<(&'static str, String)>;

    /// Opens it after a child was killed, once nothing of that child is under way any more.
    async fn reopen(&self) -> Box<dyn Journal>;
}

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
async fn write_on(journal: &dyn Journal, writer: u64) {
    let mut version = next(journal, writer).await;
    loop {
        say(&format!("submitted {writer} {version}"));
        append(journal, writer, version).await.expect("append");
        say(&format!("acknowledged {writer} {version}"));
        version += 1;
    }
}

/// Appends number `version` to both histories of a writer.
pub(crate) async fn append(
    journal: &dyn Journal,
    writer: u64,
    version: u64,
) -> Result<(), JournalError> {
    let event = Envelope::new("n", 1, Timestamp::UNIX_EPOCH, "child", &version).expect("JSON");
    let part =
        |history: HistoryId| Append { history, expected: version, events: vec![event.clone()] };
    journal.append(histories(writer).map(part).into()).await.map(|_versions| ())
}

/// How many appends of a writer there are.
pub(crate) async fn next(journal: &dyn Journal, writer: u64) -> u64 {
    journal.read_whole(&histories(writer)[0]).await.expect("read").len() as u64
}

/// What the child's process does until it is killed.
pub(crate) async fn write_until_killed(journal: &dyn Journal) {
    futures::future::join_all((0..WRITERS).map(|writer| write_on(journal, writer))).await;
}

/// What was said of each writer: how many appends it submitted and had acknowledged, counted from
/// the journal's beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    pub(crate) submitted: u64,
    pub(crate) acknowledged: u64,
}

/// Starts the test called `child` in a process, kills it when it has said so many `lines`, and
/// collects what it said until then.
fn kill_one(place: &dyn Place, child: &str, lines: u64, said: &mut BTreeMap<u64, Said>) {
    let mut process = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", child, "--nocapture"])
        .envs(place.environment())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the child");
    let mut output = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let mut count = 0;
    // After the kill, what is in the pipe is still to be read.
    while let Some(Ok(line)) = output.next() {
        let words: Vec<_> = line.split(' ').collect();
        let [verb @ ("submitted" | "acknowledged"), writer, version] = words.as_slice() else {
            continue;
        };
        let (Ok(writer), Ok(version)) = (writer.parse(), version.parse::<u64>()) else { continue };
        let of_writer: &mut Said = said.entry(writer).or_default();
        if *verb == "acknowledged" {
            of_writer.acknowledged = version + 1;
        } else {
            of_writer.submitted = version + 1;
        }
        count += 1;
        if count == lines {
            process.kill().expect("kill");
        }
    }
    let status = process.wait().expect("the child ends");
    assert!(!status.success() && count >= lines, "the child ended by itself: {status}");
}

/// Every acknowledged event is there once and in order, and of the others at most those that were
/// submitted; both histories of an append hold it or neither does. Answers how many appends each
/// writer has.
pub(crate) async fn audit(journal: &dyn Journal, said: &BTreeMap<u64, Said>) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
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
        counts.insert(*writer, count);
    }
    let (mut position, mut seen) = (0, 0);
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
    assert_eq!(seen, 2 * counts.values().sum::<u64>());
    if seen > 0 {
        // Of an append whose answer was lost, its own process hears like any other.
        assert_eq!(journal.wait(position - 1).await.expect("wait"), position);
    }
    counts
}

/// Kills children until so many `kills` came between the submission of an append and its
/// acknowledgement, each at a random moment, and audits after each.
pub(crate) async fn kill_loop<P: Place>(
    kills: usize,
    entropy: &SeededEntropy,
    child: &str,
    new: impl Fn() -> P,
) {
    let (mut counted, mut rounds) = (0, 0);
    while counted < kills {
        let place = new();
        let mut said = BTreeMap::new();
        for _ in 0..ROUNDS.min(kills - counted) {
            rounds += 1;
            assert!(rounds < 3 * kills, "kills come between no submission and acknowledgement");
            kill_one(&place, child, 1 + entropy.below(LINES_MAX), &mut said);
            let in_doubt = said.values().any(|said| said.submitted > said.acknowledged);
            counted += usize::from(in_doubt);
            let counts = audit(&*place.reopen().await, &said).await;
            // What was in doubt is decided now: the next child goes on from what the journal
            // holds.
            let decide = |(writer, count)| (writer, Said { submitted: count, acknowledged: count });
            said = counts.into_iter().map(decide).collect();
        }
    }
}

/// Randomness that `OMS_SEED` repeats.
pub(crate) fn entropy() -> SeededEntropy {
    let seed = env::var("OMS_SEED")
        .map_or_else(|_unset| SystemEntropy.number(), |seed| seed.parse().expect("a number"));
    eprintln!("OMS_SEED={seed}");
    SeededEntropy::new(seed)
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;
    use oms_core::journal::SqliteJournal;
    use std::path::PathBuf;
    use tempfile::TempDir;

    /// Where the child finds the journal; without it, the child's test has nothing to do.
    const PATH_VARIABLE: &str = "OMS_CRASH_JOURNAL";

    const KILLS: usize = 200;

    /// How many children are driven at one time.
    const LANES: usize = 2;

    struct File {
        _directory: TempDir,
        path: PathBuf,
    }

    impl File {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("journal.sqlite");
            Self { _directory: directory, path }
        }
    }

    #[async_trait]
    impl Place for File {
        fn environment(&self) -> Vec<(&'static str, String)> {
            vec![(PATH_VARIABLE, self.path.to_str().expect("text").to_owned())]
        }

        async fn reopen(&self) -> Box<dyn Journal> {
            Box::new(SqliteJournal::open(&self.path).expect("open after a kill"))
        }
    }

    /// Not a test of its own: the process that the test below kills.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn child() {
        let Some(path) = env::var_os(PATH_VARIABLE) else { return };
        let journal = SqliteJournal::open(path).expect("open");
        write_until_killed(&journal).await;
    }

    #[test]
    fn a_killed_process_loses_nothing_that_it_acknowledged() {
        let seeds = entropy();
        std::thread::scope(|scope| {
            for _ in 0..LANES {
                let entropy = SeededEntropy::new(seeds.number());
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build();
                    let lane =
                        kill_loop(KILLS / LANES, &entropy, "crash::sqlite::child", File::new);
                    runtime.expect("a runtime").block_on(lane);
                });
            }
        });
    }
}
