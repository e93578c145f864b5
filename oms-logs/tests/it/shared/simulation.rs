//! Three processes on a store that fails, in the middle of whose work any of them ends.
//!
//! The auditor's invariant: every acknowledged record is in the table exactly once with all that it
//! had, wherever it was acknowledged, and nothing else is.

use super::{Place, forced, table};
use jiff::Timestamp;
use object_store::ObjectStore;
use oms_core::EntropyExt as _;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::record::{Batch, Record, Value};
use oms_core::testkit::fault::{Faults, Faulty};
use oms_core::testkit::seeds::Seeds;
use oms_logs::query::QueryOptions;
use oms_logs::{Error, Workspace};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const WRITERS: usize = 3;
const TABLE: &str = "Race_CL";

/// Names that records have beside their number; some differ in letter case alone.
const NAMES: [&str; 5] = ["Level", "level", "State", "Code", "CODE"];

/// What came to pass in all runs, so that one in which nothing happens does not pass for a test.
#[derive(Debug, Default)]
struct Counts {
    failed: AtomicU64,
    compacted: AtomicU64,
    vacuumed: AtomicU64,
    bagged: AtomicU64,
    changed_hands: AtomicU64,
    /// Batches that a process was refused whose place was taken.
    replaced: AtomicU64,
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

struct World<'a> {
    seed: u64,
    /// Whether the logs of the processes are in the store.
    is_diskless: bool,
    /// Processes that go on after their place was taken.
    former: Vec<Workspace>,
    /// Batches that they were given.
    late: u64,
    chance: SeededEntropy,
    place: Place,
    faults: Arc<Faults>,
    processes: [Option<Workspace>; WRITERS],
    sequences: [u64; WRITERS],
    counts: &'a Counts,
    owner: Option<usize>,
    /// What each record has beside its number.
    sent: BTreeMap<u64, (String, Value)>,
}

impl World<'_> {
    fn set_faults(&self) {
        self.faults.set_before(25);
        self.faults.set_after(40);
        self.faults.set_torn(25);
        self.faults.set_late(100);
    }

    async fn open(&mut self, at: usize) {
        let before = self.processes[at].take();
        let goes_on = |_: &Workspace| self.is_diskless && self.chance.below(2) == 0;
        self.former.extend(before.filter(goes_on));
        for attempt in 0.. {
            let faults = Arc::clone(&self.faults);
            let layer =
                move |store| -> Arc<dyn ObjectStore> { Arc::new(Faulty::new(store, faults)) };
            let builder = match self.is_diskless {
                true => {
                    // Of a former process nobody needs the folder.
                    self.place.folders[at] = tempfile::tempdir().expect("a folder");
                    self.place.builder(at).diskless(format!("pod-{at}"))
                }
                false => self.place.writer(at),
            };
            let builder = builder.store_layer(layer);
            match builder.build().await {
                Ok(workspace) => {
                    self.processes[at] = Some(workspace);
                    break;
                }
                Err(error) if attempt > 20 => panic!("seed {}: {error:?}", self.seed),
                Err(_) if attempt > 10 => self.faults.calm(),
                Err(_) => {}
            }
        }
        self.set_faults();
    }

    fn process(&self, at: usize) -> &Workspace {
        self.processes[at].as_ref().expect("open")
    }

    fn value(&self, number: u64) -> Value {
        match self.chance.below(6) {
            0 => Value::Int(number as i32),
            1 => Value::Long(number as i64 + (1 << 40)),
            2 => Value::Real(number as f64 + 0.5),
            3 => Value::Bool(number.is_multiple_of(2)),
            4 => Value::Dynamic(json!({ "n": number })),
            _ => Value::String(format!("t{number}")),
        }
    }

    /// Sends a record until it is acknowledged or refused, which the sender takes for an answer.
    async fn write(&mut self, at: usize) {
        let number = self.sequences.iter().sum::<u64>();
        self.sequences[at] += 1;
        let name = NAMES[self.chance.below(NAMES.len() as u64) as usize];
        let value = self.value(number);
        let record = Record::new(table(TABLE), long_after(), "pc").with("Id", number as i64);
        let records = vec![record.with(name, value.clone())];
        let batch = Batch { producer: format!("p{at}"), sequence: self.sequences[at], records };
        loop {
            match self.process(at).write(batch.clone()).await {
                Ok(()) => break drop(self.sent.insert(number, (name.to_owned(), value))),
                Err(error) if error.kind() == oms_core::ErrorKind::Invalid => break,
                Err(_) => self.faults.calm(),
            }
        }
        self.set_faults();
    }

    fn note<T, E>(&self, outcome: Result<T, E>) -> Option<T> {
        add(&self.counts.failed, u64::from(outcome.is_err()));
        outcome.ok()
    }

    fn owns(&mut self, at: usize) {
        add(&self.counts.changed_hands, u64::from(self.owner != Some(at)));
        self.owner = Some(at);
    }

    /// Lets a process whose place was taken do something.
    async fn haunt(&mut self) {
        let at = self.chance.below(self.former.len() as u64) as usize;
        match self.chance.below(4) {
            0 => drop(self.former.swap_remove(at)),
            1 => drop(self.note(self.former[at].flush().await)),
            2 => drop(self.note(self.former[at].refresh().await)),
            _ => {
                self.late += 1;
                let (number, value) = (1_000_000 + self.late, Value::Long(7));
                let record = Record::new(table(TABLE), long_after(), "pc");
                let record = record.with("Id", number as i64).with(NAMES[0], value.clone());
                let producer = format!("late-{number}");
                let batch = Batch { producer, sequence: 1, records: vec![record] };
                match self.former[at].write(batch).await {
                    Ok(()) => drop(self.sent.insert(number, (NAMES[0].to_owned(), value))),
                    Err(Error::WriterReplaced { .. }) => add(&self.counts.replaced, 1),
                    Err(_) => {}
                }
            }
        }
    }

    async fn step(&mut self) {
        if !self.former.is_empty() && self.chance.below(6) == 0 {
            return self.haunt().await;
        }
        let at = self.chance.below(WRITERS as u64) as usize;
        match self.chance.below(20) {
            0 => self.open(at).await,
            1 => {
                if let Some(process) = self.processes[at].take() {
                    drop(process.close().await);
                }
                self.open(at).await;
            }
            2..=4 => drop(self.note(self.process(at).refresh().await)),
            5..=8 => drop(self.note(self.process(at).flush().await)),
            9 => {
                let other = (at + 1) % WRITERS;
                let flushes = [self.process(at).flush(), self.process(other).flush()];
                for flushed in futures::future::join_all(flushes).await {
                    self.note(flushed);
                }
            }
            10 | 11 => {
                let options = forced();
                let at = self.owner.filter(|_| self.chance.below(4) > 0).unwrap_or(at);
                let other = self.process((at + 1) % WRITERS);
                let (compacted, flushed) =
                    tokio::join!(self.process(at).compact(&options), other.flush());
                self.note(flushed);
                if let Ok(report) = compacted {
                    add(&self.counts.compacted, report.files_before() as u64);
                    self.owns(at);
                }
            }
            12 | 14 | 15 => {
                let at = self.owner.filter(|_| self.chance.below(4) > 0).unwrap_or(at);
                let other = self.process((at + 1) % WRITERS);
                let (vacuumed, flushed) = tokio::join!(self.process(at).vacuum(), other.flush());
                self.note(flushed);
                if let Ok(report) = vacuumed {
                    let files: usize = report.tables.iter().map(|table| table.files).sum();
                    add(&self.counts.vacuumed, files as u64);
                    self.owns(at);
                }
            }
            13 => self.place.clock.advance(Duration::from_secs(90 * 60)),
            _ => self.write(at).await,
        }
    }

    /// Every record of the table as one process answers, by number.
    async fn found(&self, at: usize) -> BTreeMap<u64, serde_json::Map<String, Json>> {
        let clock = Arc::<ManualClock>::clone(&self.place.clock);
        let query = format!("{TABLE} | project all = pack_all()");
        let options = QueryOptions::new(clock);
        let answer = self.process(at).query(&query, &options).await;
        let answer = answer.unwrap_or_else(|error| panic!("seed {}: {error:?}", self.seed));
        let mut found = BTreeMap::new();
        for mut row in answer.rows() {
            let Json::Object(row) = row.remove(0) else { panic!("not a bag") };
            let number = row["Id"].as_u64().expect("a number");
            let before = found.insert(number, row);
            assert!(before.is_none(), "seed {}: record {number} is there twice", self.seed);
        }
        found
    }

    async fn audit(&self, at: usize) {
        let found = self.found(at).await;
        let missing: Vec<_> = self.sent.keys().filter(|it| !found.contains_key(it)).collect();
        assert!(missing.is_empty(), "seed {}: {missing:?} are missing", self.seed);
        assert_eq!(found.len(), self.sent.len(), "seed {}", self.seed);
        for (number, (name, value)) in &self.sent {
            let row = &found[number];
            let wanted = match value {
                Value::Int(number) => json!(number),
                Value::Long(number) => json!(number),
                Value::Real(number) => json!(number),
                Value::Bool(flag) => json!(flag),
                Value::Dynamic(json) => json.clone(),
                Value::String(text) => json!(text),
                other => panic!("{other:?}"),
            };
            let same = |found: &Json| match (found.as_f64(), wanted.as_f64()) {
                (Some(found), Some(wanted)) => found == wanted,
                _ => *found == wanted,
            };
            let like = |(column, found): (&String, &Json)| {
                column.eq_ignore_ascii_case(name) && same(found)
            };
            let bagged = row.iter().any(|(column, bag)| {
                column.starts_with("AdditionalFields")
                    && bag.as_object().is_some_and(|bag| bag.iter().any(like))
            });
            let is_there = row.iter().any(like);
            assert!(is_there || bagged, "seed {}: {name} {wanted} in {row:?}", self.seed);
            add(&self.counts.bagged, u64::from(bagged));
        }
    }
}

/// A time at which every file that the store has is older than any that is kept: the store has a
/// clock of its own. So a vacuum takes files of commits that are under way.
fn long_after() -> Timestamp {
    "2226-11-23T00:00:00Z".parse().expect("a time")
}

async fn run(seed: u64, is_diskless: bool, counts: &Counts) {
    let clock = Arc::new(ManualClock::new(long_after()));
    let faults = Arc::new(Faults::new(seed));
    let mut world = World {
        seed,
        is_diskless,
        former: Vec::new(),
        late: 0,
        chance: SeededEntropy::new(seed),
        place: Place { clock, entropy: SeededEntropy::new(seed << 8), ..Place::new(WRITERS) },
        faults,
        processes: [None, None, None],
        sequences: [0; WRITERS],
        counts,
        owner: None,
        sent: BTreeMap::new(),
    };
    for at in 0..WRITERS {
        world.open(at).await;
    }
    for _ in 0..100 {
        world.step().await;
    }
    world.faults.calm();
    for at in 0..WRITERS {
        world.process(at).refresh().await.expect("looked");
        world.process(at).flush().await.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    }
    for at in 0..WRITERS {
        world.process(at).refresh().await.expect("looked");
        world.audit(at).await;
    }
    // From the tables alone.
    world.processes = [None, None, None];
    if !is_diskless {
        for folder in &world.place.folders {
            std::fs::remove_dir_all(folder.path().join("wal")).expect("no log");
        }
    }
    world.faults.calm();
    world.processes[0] = Some(world.place.open(0).await);
    world.audit(0).await;
}

async fn simulate(seeds: Seeds, is_diskless: bool, least: [u64; 6]) {
    let counts = Counts::default();
    seeds
        .run_async(|seed| {
            let counts = &counts;
            async move { run(seed, is_diskless, counts).await }
        })
        .await;
    let Counts { failed, compacted, vacuumed, bagged, changed_hands, replaced } = counts;
    let all = [failed, compacted, vacuumed, bagged, changed_hands, replaced];
    let all = all.map(AtomicU64::into_inner);
    if seeds.is_fixed() {
        let is_hard = all.iter().zip(least).all(|(count, least)| *count >= least);
        assert!(is_hard, "too easy: {all:?}");
    }
}

#[tokio::test]
async fn processes_that_fail_on_a_store_that_fails_lose_and_repeat_nothing() {
    let seeds = Seeds::of("shared::simulation", 0..24);
    simulate(seeds, false, [200, 15, 5, 50, 10, 0]).await;
}

#[tokio::test]
async fn processes_without_a_disk_whose_places_are_taken_lose_and_repeat_nothing() {
    let seeds = Seeds::of("shared::diskless", 0..12);
    // Who opens a place anew is another process to the owner of maintenance: there are few vacuums.
    simulate(seeds, true, [40, 4, 0, 12, 4, 4]).await;
}
