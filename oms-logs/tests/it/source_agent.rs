//! The agent: what is collected arrives once, whatever fails on the way.

use async_trait::async_trait;
use futures::FutureExt;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use oms_core::ErrorKind;
use oms_core::clock::ManualClock;
use oms_core::entropy::{EntropyExt, SeededEntropy};
use oms_core::record::{Batch, Record, RecordSink, SinkError, Value};
use oms_core::testkit::disk::{Forgotten, Losses, SimDisk};
use oms_core::testkit::fault::{FaultCounts, Faults, Faulty};
use oms_core::testkit::seeds::Seeds;
use oms_logs::source::custom_log::CustomLog;
use oms_logs::source::syslog::SyslogFile;
use oms_logs::source::tail::StartAt;
use oms_logs::source::{
    Agent, AgentSettings, Collected, DataSource, FIELD_BYTES_MAX, Moment, SourceError,
};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A log repository that keeps the contract of [`RecordSink`], loses answers, and fails a test that
/// breaks the contract of a producer.
#[derive(Debug)]
struct ModelSink {
    entropy: SeededEntropy,
    state: Mutex<Vec<Batch>>,
    /// How many of a thousand writes fail, half of them after they took effect.
    failures_per_mille: Mutex<u64>,
    /// A text that no record may have.
    poison: &'static str,
}

impl ModelSink {
    fn new(seed: u64, failures_per_mille: u64) -> Arc<Self> {
        Arc::new(Self {
            entropy: SeededEntropy::new(seed),
            state: Mutex::default(),
            failures_per_mille: Mutex::new(failures_per_mille),
            poison: "poison",
        })
    }

    fn fail(&self, per_mille: u64) {
        *self.failures_per_mille.lock().expect("not poisoned") = per_mille;
    }

    fn records(&self) -> Vec<Record> {
        let batches = self.state.lock().expect("not poisoned");
        batches.iter().flat_map(|batch| batch.records.clone()).collect()
    }

    /// The texts of one column of the records of one type.
    fn texts(&self, record_type: &str, column: &str) -> Vec<String> {
        let text = |record: Record| match record.fields.get(column) {
            Some(Value::String(text)) => text.clone(),
            other => panic!("{column}: {other:?}"),
        };
        let is_wanted = |record: &Record| record.record_type.as_str() == record_type;
        self.records().into_iter().filter(is_wanted).map(text).collect()
    }
}

#[async_trait]
impl RecordSink for ModelSink {
    async fn write(&self, batch: Batch) -> Result<(), SinkError> {
        let failures = *self.failures_per_mille.lock().expect("not poisoned");
        let unavailable = || SinkError::Unavailable { reason: "as the seed says".to_owned() };
        let draw = self.entropy.below(1000);
        if draw < failures / 4 {
            return Err(SinkError::Busy { retry_after_ms: 5 });
        }
        if draw < failures / 2 {
            return Err(unavailable());
        }
        if batch.records.iter().any(|record| {
            record.record_type.as_str() != "Operation"
                && format!("{record:?}").contains(self.poison)
        }) {
            let Batch { producer, sequence, .. } = batch;
            return Err(SinkError::Refused { producer, sequence, reason: "poison".to_owned() });
        }
        let mut batches = self.state.lock().expect("not poisoned");
        let next = batches.len() as u64 + 1;
        if batch.sequence < next {
            let written = &batches[batch.sequence as usize - 1];
            assert_eq!(*written, batch, "a repeated sequence has the same records");
        } else {
            assert_eq!(batch.sequence, next, "sequences have no gaps");
            assert!(batches.last().is_none_or(|last| last.producer == batch.producer));
            batches.push(batch);
        }
        if draw < failures { Err(unavailable()) } else { Ok(()) }
    }
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opened");
    file.write_all(text.as_bytes()).expect("written");
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-11-24T15:00:00Z".parse().expect("a time")))
}

/// One life of the agent after another over one log and one state.
struct World {
    seed: u64,
    entropy: SeededEntropy,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    disk: SimDisk,
    faults: Arc<Faults>,
    sink: Arc<ModelSink>,
    /// Every line that was written, in order.
    lines: Vec<String>,
    /// The beginning of a line that has no end yet.
    unfinished: String,
    rotations: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            entropy: SeededEntropy::new(seed),
            clock: clock(),
            folder: tempfile::tempdir().expect("a folder"),
            disk: SimDisk::default(),
            faults: Arc::new(Faults::new(seed)),
            sink: ModelSink::new(seed, 400),
            lines: Vec::new(),
            unfinished: String::new(),
            rotations: 0,
        }
    }

    fn chance(&self, per_mille: u64) -> bool {
        self.entropy.below(1000) < per_mille
    }

    /// How many of a thousand operations on the agent's state fail, before and after their effect.
    fn fail(&self, per_mille: u16) {
        self.faults.set_before(per_mille / 2);
        self.faults.set_after(per_mille / 2);
    }

    fn write(&mut self) {
        let mut text = String::new();
        for _ in 0..self.entropy.below(6) {
            self.unfinished += &format!("line {} of {}", self.lines.len(), self.seed);
            let whole = std::mem::take(&mut self.unfinished);
            let new = whole.rsplit('\u{1}').next().unwrap_or_default();
            text += new;
            text += "\n";
            self.lines.push(whole.replace('\u{1}', ""));
        }
        if self.chance(300) {
            // The mark tells what of the unfinished line is in the file already.
            text += "begun ";
            self.unfinished += "begun \u{1}";
        }
        append(&self.folder.path().join("log"), &text);
    }

    fn rotate(&mut self) {
        let name = |n: u32| match n {
            0 => "log".to_owned(),
            n => format!("log.{n}"),
        };
        for n in (0..=self.rotations).rev() {
            let _ = std::fs::rename(
                self.folder.path().join(name(n)),
                self.folder.path().join(name(n + 1)),
            );
        }
        self.rotations += 1;
        if !self.unfinished.is_empty() {
            // A line without an end is a line when its file does not grow any more.
            let whole = std::mem::take(&mut self.unfinished).replace('\u{1}', "");
            self.lines.push(whole.trim_end().to_owned());
        }
    }

    fn build(&self) -> Result<Agent, SourceError> {
        let log = self.folder.path().join("log");
        Agent::builder(Arc::<ModelSink>::clone(&self.sink))
            .state_disk(Arc::new(Faulty::new(self.disk.clone(), Arc::clone(&self.faults))))
            .clock(Arc::<ManualClock>::clone(&self.clock))
            .entropy(Arc::new(SeededEntropy::new(self.entropy.number())))
            .settings(AgentSettings { spool_batches_max: 4, ..AgentSettings::default() })
            .computer("pc")
            .source(CustomLog::new("Sim", log, StartAt::Beginning)?)
            .build()
    }

    /// The first life stores where the log begins: files that were rotated before that are no
    /// concern of the agent.
    fn enrol(&self) {
        append(&self.folder.path().join("log"), "");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let agent = self.build().expect("built");
        runtime.block_on(agent.collect_once()).expect("a round");
    }

    /// One process, from its start to its death.
    fn live(&mut self, steps: u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        self.fail(if self.chance(200) { 200 } else { 0 });
        let Ok(agent) = self.build() else { return };
        for _ in 0..steps {
            self.clock.advance(Duration::from_secs(self.entropy.below(400)));
            match self.entropy.below(10) {
                0..5 => self.write(),
                5 => self.rotate(),
                6 => {
                    self.disk.fail_next(1 + self.entropy.below(4), std::io::ErrorKind::StorageFull)
                }
                7 => {
                    // The caller gives up waiting while the work goes on.
                    let _guard = runtime.enter();
                    let _ = agent.collect_once().now_or_never();
                }
                _ => {
                    let _ = runtime.block_on(agent.collect_once());
                }
            }
        }
    }

    /// Nothing fails any more, and everything is collected.
    fn settle(&mut self) {
        self.rotate();
        self.fail(0);
        self.sink.fail(0);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        append(&self.folder.path().join("log"), "");
        let agent = self.build().expect("built");
        for _ in 0..self.rotations * 2 + 4 {
            self.clock.advance(Duration::from_secs(600));
            let report = runtime.block_on(agent.collect_once()).expect("a round");
            assert_eq!(report.notes.gaps, 0, "seed {}", self.seed);
        }
    }
}

/// Each line becomes exactly one record, in the order of the lines.
fn audit(world: &World) {
    let got = world.sink.texts("Sim_CL", "RawData");
    let want: Vec<String> = world.lines.iter().map(|line| line.trim_end().to_owned()).collect();
    let got: Vec<String> = got.iter().map(|line| line.trim_end().to_owned()).collect();
    assert_eq!(got, want, "seed {}", world.seed);
}

fn simulate(seed: u64) -> (usize, Losses, FaultCounts) {
    let mut world = World::new(seed);
    world.enrol();
    for _ in 0..6 {
        let steps = 1 + world.entropy.below(12) as u32;
        if world.chance(400) {
            let kind = if world.chance(500) { Forgotten::Files } else { Forgotten::Folders };
            world.disk.fail_from_sync(kind, world.entropy.below(6));
        }
        world.live(steps);
        world.disk.crash(&world.entropy);
    }
    world.settle();
    audit(&world);
    (world.lines.len(), world.disk.losses(), world.faults.counts())
}

#[test]
fn every_line_becomes_one_record_through_crashes() {
    let (mut lines, mut losses, mut faults) = (0, Losses::default(), FaultCounts::default());
    let seeds = Seeds::of("source_agent::every_line_becomes_one_record", 0..150);
    seeds.run(|seed| {
        let (of_seed, lost, failed) = simulate(seed);
        lines += of_seed;
        losses += lost;
        faults += failed;
    });
    if seeds.is_fixed() {
        assert!(lines > 1_000, "the simulation did little: {lines} lines");
        // One file is made durable after the other, so no two writes change places.
        assert_eq!(losses.never(), ["reordered"], "{losses:?}");
        assert!(faults.before > 0 && faults.after > 0, "{faults:?}");
    }
}

#[tokio::test]
async fn a_batch_is_sent_again_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("syslog");
    append(&log, "Nov 24 14:59:00 pc app[1]: one\n");
    let sink = ModelSink::new(1, 0);
    let clock = clock();
    let build = || {
        Agent::builder(Arc::<ModelSink>::clone(&sink))
            .state_dir(folder.path().join("state"))
            .clock(Arc::<ManualClock>::clone(&clock))
            .computer("pc")
            .source(SyslogFile::new(&log, StartAt::Beginning, TimeZone::UTC))
            .build()
    };
    sink.fail(1000);
    let agent = build().expect("built");
    let id = agent.connected_source().id;
    let report = agent.collect_once().await.expect("a round");
    assert_eq!(
        (report.collected_records, report.written_batches, report.pending_batches),
        (1, 0, 1)
    );
    assert!(report.delivery.is_some());

    // The agent dies, the log grows, time passes.
    drop(agent);
    append(&log, "Nov 24 15:00:00 pc app[1]: two\n");
    clock.advance(Duration::from_secs(3600));
    sink.fail(0);
    let agent = build().expect("built");
    assert_eq!(agent.connected_source().id, id, "it is the same source");
    let report = agent.collect_once().await.expect("a round");
    assert_eq!(
        (report.collected_records, report.written_batches, report.pending_batches),
        (1, 2, 0)
    );
    assert_eq!(sink.texts("Syslog", "SyslogMessage"), ["one", "two"]);
    let report = agent.collect_once().await.expect("a round");
    assert_eq!((report.written_batches, report.pending_batches), (0, 0), "nothing happened");
}

#[tokio::test]
async fn two_agents_do_not_share_a_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let build =
        || Agent::builder(ModelSink::new(1, 0)).state_dir(folder.path()).computer("pc").build();
    let first = build().expect("built");
    let error = build().expect_err("in use");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    drop(first);
    build().expect("free again");
}

#[tokio::test]
async fn a_refused_batch_is_put_aside_and_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("app.log");
    append(&log, "poison\n");
    let sink = ModelSink::new(1, 0);
    let agent = Agent::builder(Arc::<ModelSink>::clone(&sink))
        .state_dir(folder.path().join("state"))
        .computer("pc")
        .source(CustomLog::new("App", &log, StartAt::Beginning).expect("a log"))
        .build()
        .expect("built");
    let report = agent.collect_once().await.expect("a round");
    assert_eq!((report.written_batches, report.pending_batches), (1, 0));
    append(&log, "wine\n");
    agent.collect_once().await.expect("a round");
    assert_eq!(sink.texts("App_CL", "RawData"), ["wine"]);
    let details = sink.texts("Operation", "Detail");
    assert!(details[0].starts_with("batch 1 was refused and put aside: "), "{details:?}");
    let kept = std::fs::read_to_string(folder.path().join("state/refused/00000000000000000001"));
    assert!(kept.expect("kept").contains("poison"));
}

#[tokio::test]
async fn what_is_cut_or_replaced_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("app.log");
    std::fs::write(&log, [b"x".repeat(FIELD_BYTES_MAX + 1), b"\na\xff\nb\n".to_vec()].concat())
        .expect("written");
    let sink = ModelSink::new(1, 0);
    let agent = Agent::builder(Arc::<ModelSink>::clone(&sink))
        .state_dir(folder.path().join("state"))
        .computer("pc")
        .source(CustomLog::new("App", &log, StartAt::Beginning).expect("a log"))
        .build()
        .expect("built");
    agent.collect_once().await.expect("a round");
    let lengths = sink.texts("App_CL", "RawData").iter().map(String::len).collect::<Vec<_>>();
    assert_eq!(lengths, [FIELD_BYTES_MAX, "a\u{fffd}".len(), 1]);
    let details = sink.texts("Operation", "Detail");
    assert!(details[0].ends_with("1 texts longer than 32768 bytes were cut"), "{details:?}");
    assert!(details[1].contains("1 texts were not UTF-8"), "{details:?}");
    assert_eq!(details.len(), 2, "{details:?}");
    agent.collect_once().await.expect("a round");
    assert_eq!(sink.texts("Operation", "Detail").len(), 2, "once");
}

/// Fails while it is told to.
#[derive(Debug)]
struct Flaky(Arc<AtomicBool>);

impl DataSource for Flaky {
    fn name(&self) -> &str {
        "flaky"
    }

    fn collect(&mut self, _at: &Moment<'_>) -> Result<Collected, SourceError> {
        if self.0.load(Ordering::Relaxed) {
            let (name, value) = ("flaky", "on".to_owned());
            return Err(SourceError::Setting { name, value, reason: "as it was told" });
        }
        Ok(Collected::default())
    }
}

#[tokio::test]
async fn a_failing_data_source_is_told_of_once_and_does_not_stop_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("app.log");
    let sink = ModelSink::new(1, 0);
    let fails = Arc::new(AtomicBool::new(true));
    let agent = Agent::builder(Arc::<ModelSink>::clone(&sink))
        .state_dir(folder.path().join("state"))
        .computer("pc")
        .source(Flaky(Arc::clone(&fails)))
        .source(CustomLog::new("App", &log, StartAt::Beginning).expect("a log"))
        .build()
        .expect("built");
    for n in 0..3 {
        append(&log, &format!("{n}\n"));
        let report = agent.collect_once().await.expect("a round");
        assert_eq!(report.failures[0].source, "flaky");
    }
    fails.store(false, Ordering::Relaxed);
    assert!(agent.collect_once().await.expect("a round").failures.is_empty());
    assert_eq!(sink.texts("App_CL", "RawData"), ["0", "1", "2"]);
    assert_eq!(sink.texts("Operation", "OperationStatus"), ["Error", "Succeeded"]);
    let details = sink.texts("Operation", "Detail");
    assert!(details[0].contains("as it was told"), "{details:?}");
    assert_eq!(details[1], "data source `flaky` works again");
}

#[tokio::test]
async fn a_full_spool_leaves_lines_in_their_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("app.log");
    let sink = ModelSink::new(1, 1000);
    let clock = clock();
    let agent = Agent::builder(Arc::<ModelSink>::clone(&sink))
        .state_dir(folder.path().join("state"))
        .clock(Arc::<ManualClock>::clone(&clock))
        .settings(AgentSettings { spool_batches_max: 2, ..AgentSettings::default() })
        .computer("pc")
        .source(CustomLog::new("App", &log, StartAt::Beginning).expect("a log"))
        .build()
        .expect("built");
    let mut full = 0;
    for n in 0..5 {
        append(&log, &format!("{n}\n"));
        let report = agent.collect_once().await.expect("a round");
        full += usize::from(report.spool_full);
        assert!(report.pending_batches <= 2);
    }
    assert_eq!(full, 3);
    sink.fail(0);
    clock.advance(Duration::from_secs(600));
    agent.collect_once().await.expect("a round");
    assert_eq!(sink.texts("App_CL", "RawData"), ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_large_log_arrives_in_one_round() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("app.log");
    append(&log, &(0..23_456).map(|n| format!("{n}\n")).collect::<String>());
    let sink = ModelSink::new(1, 0);
    let agent = Agent::builder(Arc::<ModelSink>::clone(&sink))
        .state_dir(folder.path().join("state"))
        .computer("pc")
        .source(CustomLog::new("App", &log, StartAt::Beginning).expect("a log"))
        .build()
        .expect("built");
    let report = agent.collect_once().await.expect("a round");
    assert_eq!((report.written_batches, report.written_records), (5, 23_456));
    let got = sink.texts("App_CL", "RawData");
    assert!(got.iter().enumerate().all(|(n, line)| *line == n.to_string()));
}

/// Tells a test of the first batch.
#[derive(Debug)]
struct Bell(Mutex<Option<tokio::sync::oneshot::Sender<()>>>);

#[async_trait]
impl RecordSink for Bell {
    async fn write(&self, _batch: Batch) -> Result<(), SinkError> {
        if let Some(bell) = self.0.lock().expect("not poisoned").take() {
            let _ = bell.send(());
        }
        Ok(())
    }
}

#[tokio::test]
async fn it_runs_until_it_is_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let (bell, rings) = tokio::sync::oneshot::channel();
    let agent = Agent::builder(Arc::new(Bell(Mutex::new(Some(bell)))))
        .state_dir(folder.path())
        .this_computer()
        .build()
        .expect("built");
    agent.run(async { rings.await.expect("a batch came") }).await;
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let build = |settings: AgentSettings| {
        Agent::builder(ModelSink::new(1, 0))
            .settings(settings)
            .computer("pc")
            .source(Flaky(Arc::default()))
            .build()
    };
    let error = build(AgentSettings::default()).expect_err("no place for the state");
    assert!(error.to_string().contains("name=`state`"), "{error}");
    let interval = SignedDuration::ZERO;
    let error = build(AgentSettings { interval, ..AgentSettings::default() }).expect_err("no time");
    assert!(error.to_string().contains("name=`interval`"), "{error}");
    let twice = Agent::builder(ModelSink::new(1, 0))
        .computer("pc")
        .source(Flaky(Arc::default()))
        .source(Flaky(Arc::default()))
        .build();
    assert!(twice.expect_err("one name").to_string().contains("added twice"));
}
