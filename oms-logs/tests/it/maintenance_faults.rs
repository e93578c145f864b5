//! Maintenance through an object store that fails, and in the middle of which the process ends.
//!
//! The auditor's invariant: every query finds each acknowledged row that is neither past its
//! retention nor purged exactly once, and no other one.

use crate::repeated::{self, Store, Trace};
use crate::{batch, numbers_of, select, start};
use datafusion::prelude::SessionContext;
use jiff::SignedDuration;
use oms_core::EntropyExt as _;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::record::RecordType;
use oms_core::testkit::fault::Faults;
use oms_core::testkit::seeds::Seeds;
use oms_logs::repository::maintain::{
    CompactOptions, MaintenanceSettings, TablePlan, TableSettings,
};
use oms_logs::{Settings, Workspace};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const DAY_SECONDS: u64 = 86_400;
const INTERACTIVE_DAYS: u64 = 4;
const TOTAL_DAYS: u64 = 5;

/// What came to pass in all runs, so that a run in which nothing fails does not pass for a test.
#[derive(Debug, Default)]
struct Counts {
    compacted: AtomicU64,
    removed: AtomicU64,
    purged: AtomicU64,
    failed: AtomicU64,
    deleted: AtomicU64,
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

struct World<'a> {
    seed: u64,
    chance: SeededEntropy,
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    store: Store,
    faults: Arc<Faults>,
    /// What came to pass.
    results: RefCell<Vec<String>>,
    workspace: Option<Workspace>,
    counts: &'a Counts,
    today: u64,
    sequence: u64,
    /// Acknowledged rows that nobody purged.
    rows: BTreeSet<u64>,
}

fn perf() -> RecordType {
    "Perf".parse().expect("a name")
}

impl World<'_> {
    fn set_faults(&self) {
        self.faults.set_before(40);
        self.faults.set_after(80);
        self.faults.set_torn(40);
        self.faults.set_late(40);
    }

    async fn open(&self) -> Result<Workspace, oms_logs::Error> {
        let settings = Settings {
            flush_age: SignedDuration::from_hours(10_000_000),
            flush_bytes: u64::MAX,
            maintenance: MaintenanceSettings {
                is_automatic: false,
                removed_files_kept: SignedDuration::from_hours(24),
                shortening_wait: SignedDuration::ZERO,
                ..MaintenanceSettings::default()
            },
            ..Settings::default()
        };
        self.store.builder(self.folder.path(), &self.faults).settings(settings).build().await
    }

    fn workspace(&self) -> &Workspace {
        self.workspace.as_ref().expect("open")
    }

    /// Ends the process, and starts another one.
    async fn restart(&mut self) {
        self.workspace = None;
        self.set_faults();
        self.workspace = match self.open().await {
            Ok(workspace) => Some(workspace),
            Err(_) => {
                self.faults.calm();
                Some(self.open().await.expect("a workspace"))
            }
        };
        self.set_faults();
    }

    async fn write(&mut self) {
        self.sequence += 1;
        let day = self.today - self.chance.below(INTERACTIVE_DAYS);
        let from = day * DAY_SECONDS + self.sequence * 20;
        let rows = from..from + 1 + self.chance.below(6);
        while self.workspace().write(batch("a", self.sequence, rows.clone())).await.is_err() {
            self.faults.calm();
        }
        self.rows.extend(rows);
        self.set_faults();
    }

    fn failed<T, E>(&self, result: Result<T, E>) -> Option<T> {
        add(&self.counts.failed, u64::from(result.is_err()));
        self.note(format!("done {}", result.is_ok()));
        result.ok()
    }

    fn note(&self, result: String) {
        self.results.borrow_mut().push(result);
    }

    async fn compact(&self) {
        let options = CompactOptions { is_forced: true, ..CompactOptions::default() };
        let report = self.failed(self.workspace().compact(&options).await);
        let files = report.map_or(0, |report| report.files_before() as u64);
        self.note(format!("compacted {files}"));
        add(&self.counts.compacted, files);
    }

    async fn retain(&self) {
        let now = oms_core::Clock::now(&*self.clock);
        let plan = self.workspace().plan_retention(now).await.expect("it is open");
        let report = self.failed(plan.trusting_the_clock().apply().await);
        let rows = report.iter().flat_map(|report| &report.tables).map(|table| table.rows).sum();
        self.note(format!("removed {rows}"));
        add(&self.counts.removed, rows);
    }

    async fn purge(&mut self) {
        let rest = self.chance.below(7);
        let condition = format!("tolong(CounterValue) % 7 == {rest}");
        let rows_before = self.rows.len();
        self.rows.retain(|row| row % 7 != rest);
        // A purge that failed is done again until it is done.
        loop {
            let plan = self.failed(self.workspace().plan_purge(&perf(), &condition).await);
            if let Some(plan) = plan
                && self.failed(plan.apply().await).is_some()
            {
                break;
            }
            self.faults.calm();
        }
        self.set_faults();
        add(&self.counts.purged, (rows_before - self.rows.len()) as u64);
    }

    async fn vacuum(&self) {
        let report = self.failed(self.workspace().vacuum().await);
        let files = report.iter().flat_map(|report| &report.tables).map(|table| table.files);
        let files = files.sum::<usize>();
        self.note(format!("deleted {files}"));
        add(&self.counts.deleted, files as u64);
    }

    /// Lets days pass.
    async fn pass(&mut self, days: u64) {
        self.today += days;
        self.clock.set(start() + SignedDuration::from_hours(24 * self.today as i64));
        self.retain().await;
    }

    async fn step(&mut self) {
        self.faults.next_turn();
        match self.chance.below(12) {
            0..=3 => self.write().await,
            4 | 5 => {
                let flushed = self.workspace().flush().await;
                self.failed(flushed);
            }
            6 | 7 => self.compact().await,
            8 => {
                let days = 1 + self.chance.below(2);
                self.pass(days).await;
            }
            9 => self.vacuum().await,
            10 if self.chance.below(2) == 0 && !self.rows.is_empty() => self.purge().await,
            _ => self.restart().await,
        }
        self.audit().await;
    }

    async fn audit(&self) {
        let (seed, today) = (self.seed, self.today);
        let is_there = |days: u64| move |row: &&u64| **row / DAY_SECONDS + days >= today;
        let found = numbers_of(&select(self.workspace(), "Perf", None).await);
        let expected: Vec<u64> =
            self.rows.iter().filter(is_there(INTERACTIVE_DAYS)).copied().collect();
        assert_eq!(found, expected, "seed {seed}");
        let total = self.workspace().table_snapshot_total("Perf").expect("a table");
        let frame = SessionContext::new().read_table(Arc::new(total)).expect("a frame");
        let found: BTreeSet<u64> =
            numbers_of(&frame.collect().await.expect("rows")).into_iter().collect();
        assert!(found.is_subset(&self.rows), "seed {seed}: rows that are gone");
        let kept: BTreeSet<u64> = self.rows.iter().filter(is_there(TOTAL_DAYS)).copied().collect();
        assert!(kept.is_subset(&found), "seed {seed}: removed early");
    }
}

async fn run(seed: u64, counts: &Counts) -> Trace {
    let clock = Arc::new(ManualClock::new(start() + SignedDuration::from_hours(24 * 10)));
    let mut world = World {
        seed,
        chance: SeededEntropy::new(seed),
        folder: tempfile::tempdir().expect("a folder"),
        store: Store::new(seed, &clock),
        clock,
        faults: Arc::new(Faults::by_call(seed)),
        results: RefCell::default(),
        workspace: None,
        counts,
        today: 10,
        sequence: 0,
        rows: BTreeSet::new(),
    };
    world.restart().await;
    let settings = TableSettings {
        plan: TablePlan::Analytics,
        interactive_retention_days: INTERACTIVE_DAYS as u32,
        total_retention_days: TOTAL_DAYS as u32,
    };
    world.workspace().set_table_settings(&perf(), settings).await.expect("set");
    for _ in 0..60 {
        world.step().await;
    }
    // From the Delta table alone, when everything works again.
    world.faults.calm();
    world.workspace().flush().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    world.retain().await;
    world.compact().await;
    world.audit().await;
    // What was removed is deleted once nobody can be reading it. A purge among the steps deletes most
    // of it before.
    world.pass(2).await;
    world.vacuum().await;
    world.audit().await;
    world.workspace = None;
    std::fs::remove_dir_all(world.folder.path().join("wal")).expect("no log");
    world.workspace = Some(world.open().await.expect("a workspace"));
    world.audit().await;
    let first_day = world.today - TOTAL_DAYS;
    let total = world.workspace().table_snapshot_total("Perf").expect("a table");
    let frame = SessionContext::new().read_table(Arc::new(total)).expect("a frame");
    let found = numbers_of(&frame.collect().await.expect("rows"));
    assert!(found.iter().all(|row| row / DAY_SECONDS >= first_day), "seed {seed}: not removed");
    Trace { results: world.results.take(), faults: world.faults.trace() }
}

/// A seed does the same again.
#[tokio::test]
async fn a_seed_repeats_its_run() {
    let counts = Counts::default();
    repeated::assert_repeated(0..3, async |seed| run(seed, &counts).await).await;
}

#[tokio::test]
async fn maintenance_that_fails_loses_and_doubles_nothing() {
    let counts = Counts::default();
    let seeds = Seeds::of("maintenance_faults::maintenance_that_fails", 0..8);
    let counting = &counts;
    seeds.run_async(|seed| async move { drop(run(seed, counting).await) }).await;
    println!("{counts:?}");
    if seeds.is_fixed() {
        let least = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { compacted, removed, purged, failed, deleted } = &counts;
        let all = [compacted, removed, purged, failed].map(least);
        assert!(all.into_iter().all(|count| count >= 20) && least(deleted) > 0, "{counts:?}");
    }
}
