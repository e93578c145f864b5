//! Bits that flip at rest while a repository is written, queried, maintained and opened again.

use crate::bulk::lines;
use crate::{batch, quiet, start};
use jiff::SignedDuration;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::seeds::Seeds;
use oms_core::{EntropyExt as _, ErrorKind};
use oms_logs::arrow::array::AsArray as _;
use oms_logs::arrow::datatypes::Float64Type;
use oms_logs::query::{QueryError, QueryOptions};
use oms_logs::repository::maintain::{CheckOptions, CompactOptions, MaintenanceSettings};
use oms_logs::workspace::{LoadFile, LoadOptions};
use oms_logs::{Damage, Error, Settings, Workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What a run met.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    flips: u64,
    /// Damaged data files that a query told of.
    data: u64,
    /// Damaged files of the Delta log that a query told of.
    logs: u64,
    /// Damaged segments that opening told of.
    segments: u64,
    /// Rows of files that were put aside.
    lost: u64,
}

/// A repository of one table, on which bits flip.
struct World {
    seed: u64,
    chance: SeededEntropy,
    folder: tempfile::TempDir,
    workspace: Option<Workspace>,
    /// Rows that were acknowledged, without those that were told to be lost.
    rows: BTreeSet<u64>,
    next: u64,
    sequence: u64,
    /// The files on which a bit flipped, as they were before.
    flipped: BTreeMap<PathBuf, Vec<u8>>,
    met: Met,
    /// What was done, for a failure to tell.
    story: Vec<String>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut world = Self {
            seed,
            chance: SeededEntropy::new(seed),
            folder: tempfile::tempdir().expect("a folder"),
            workspace: None,
            rows: BTreeSet::new(),
            next: 0,
            sequence: 0,
            flipped: BTreeMap::new(),
            met: Met::default(),
            story: Vec::new(),
        };
        world.reopen().await;
        world
    }

    fn workspace(&self) -> &Workspace {
        self.workspace.as_ref().expect("it is open")
    }

    fn take(&mut self, count: u64) -> std::ops::Range<u64> {
        self.next += count;
        self.next - count..self.next
    }

    /// Opens the folder again. Damage of the write-ahead log is told there by its segment, and mended
    /// as from a copy.
    async fn reopen(&mut self) {
        self.workspace = None;
        self.story.push("open".to_owned());
        let settings = Settings {
            flush_age: SignedDuration::from_hours(10_000),
            flush_bytes: u64::MAX,
            segment_bytes_max: 3_000,
            maintenance: MaintenanceSettings { is_automatic: false, ..Default::default() },
            ..Settings::default()
        };
        loop {
            let entropy = Arc::new(SeededEntropy::new(self.chance.number()));
            let builder = quiet(self.folder.path()).entropy(entropy).settings(settings.clone());
            match builder.build().await {
                Ok(workspace) => {
                    self.workspace = Some(workspace);
                    return;
                }
                Err(error) => {
                    let text = error.to_string();
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "seed {}: {text}", self.seed);
                    self.met.segments += 1;
                    self.mend(&text, |path| text.contains(&*name_of(path)));
                }
            }
        }
    }

    /// Flips one bit of a file of the table or of the log. The last segment is left out: damage of its
    /// last group looks like a write that a crash cut off.
    fn flip(&mut self) {
        let mut files = Vec::new();
        walk(&self.folder.path().join("tables/Perf"), &mut files);
        let mut segments = Vec::new();
        walk(&self.folder.path().join("wal"), &mut segments);
        segments.retain(|path| path.extension().is_some_and(|it| it == "wal"));
        segments.sort();
        segments.pop();
        // Half of the flips are in the log, if it has more than one segment.
        if !segments.is_empty() && self.chance.below(2) == 0 {
            files = segments;
        }
        files.retain(|path| !self.flipped.contains_key(path));
        files.sort();
        if files.is_empty() {
            return;
        }
        let path = files.swap_remove(self.chance.below(files.len() as u64) as usize);
        let whole = fs::read(&path).expect("a file");
        if whole.is_empty() {
            return;
        }
        let mut bytes = whole.clone();
        let bit = self.chance.below(bytes.len() as u64 * 8) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).expect("flipped");
        self.story.push(format!("flip bit {bit} of {}", path.display()));
        self.flipped.insert(path, whole);
        self.met.flips += 1;
    }

    /// Brings flipped files back, as from a copy. What is told is one of them.
    fn mend(&mut self, told: &str, is_told: impl Fn(&Path) -> bool) {
        let paths: Vec<PathBuf> =
            self.flipped.keys().filter(|path| is_told(path)).cloned().collect();
        assert!(!paths.is_empty(), "seed {}: no bit of it flipped: {told}", self.seed);
        self.story.push(format!("told and mended: {told}"));
        for path in paths {
            let whole = self.flipped.remove(&path).expect("it is one of them");
            // Nothing brings back what maintenance has removed meanwhile.
            if path.exists() {
                fs::write(path, whole).expect("mended");
            }
        }
    }

    /// Auditor: a query answers all acknowledged rows once and nothing else, or names a file on which a
    /// bit flipped; and the rows of a file that is put aside are told to be lost, and are all that is.
    async fn audit(&mut self) {
        loop {
            match self.ask().await {
                Ok(rows) => {
                    let all: Vec<u64> = self.rows.iter().copied().collect();
                    let (seed, story) = (self.seed, self.story.join("\n"));
                    assert_eq!(rows, all, "seed {seed}: lost, twice or invented:\n{story}");
                    return;
                }
                Err(damage) if damage.file.ends_with(".parquet") && !is_checkpoint(&damage) => {
                    self.met.data += 1;
                    if self.chance.below(2) == 0 {
                        self.put_aside(&damage).await;
                    } else {
                        self.mend_named(&damage);
                    }
                }
                Err(damage) => {
                    self.met.logs += 1;
                    self.mend_named(&damage);
                    self.reopen().await;
                }
            }
        }
    }

    fn mend_named(&mut self, damage: &Damage) {
        self.mend(&damage.to_string(), |path| path.ends_with(&damage.file));
    }

    async fn put_aside(&mut self, damage: &Damage) {
        let options =
            CheckOptions { reads_data: true, quarantines: true, ..CheckOptions::default() };
        let report = self.workspace().check(&options).await.expect("checked");
        let mut aside = 0;
        for finding in &report.findings {
            assert!(
                self.flipped.keys().any(|path| path.ends_with(&finding.damage.file)),
                "seed {}: no bit of it flipped: {finding:?}",
                self.seed
            );
            aside += u64::from(finding.is_aside && finding.damage.file == damage.file);
        }
        if aside == 0 {
            // The Delta log is damaged too: its files come back first.
            assert!(report.findings.len() > 1, "seed {}: {report:?}", self.seed);
            return self.mend_all().await;
        }
        let lost = report.rows_lost();
        self.story.push(format!("put aside, {lost} rows: {:?}", report.findings));
        let rows: BTreeSet<u64> = match self.ask().await {
            Ok(rows) => rows.into_iter().collect(),
            // Something else is damaged: what is lost is not seen before it is mended.
            Err(_) => {
                self.mend_all().await;
                self.ask().await.expect("mended").into_iter().collect()
            }
        };
        let (seed, story) = (self.seed, self.story.join("\n"));
        let invented: Vec<_> = rows.difference(&self.rows).collect();
        assert!(invented.is_empty(), "seed {seed}: {invented:?}:\n{story}");
        assert_eq!((self.rows.len() - rows.len()) as u64, lost, "seed {seed}:\n{story}");
        self.rows = rows;
        self.met.lost += lost;
    }

    async fn mend_all(&mut self) {
        self.story.push("mend everything".to_owned());
        if !self.flipped.is_empty() {
            self.mend("everything", |_path| true);
        }
        self.reopen().await;
    }

    /// The rows of the table, or its damage.
    async fn ask(&self) -> Result<Vec<u64>, Damage> {
        let options = QueryOptions::new(Arc::new(ManualClock::new(start())));
        // Every column is read.
        let query = "Perf | where isnotempty(tostring(pack_all())) | project CounterValue";
        let report = match self.workspace().query(query, &options).await {
            Err(QueryError::Damaged(damage)) => return Err(damage),
            answered => answered.expect("nothing but damage fails a query"),
        };
        let numbers = report.batches.iter().flat_map(|rows| {
            let values = rows.column(0).as_primitive::<Float64Type>();
            values.values().iter().map(|number| *number as u64).collect::<Vec<_>>()
        });
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    async fn load(&mut self, rows: std::ops::Range<u64>) {
        let file = LoadFile::text("f", Cursor::new(lines(rows.clone())));
        let table = "Perf".parse().expect("a name");
        let loaded = self.workspace().load(&table, vec![file], &LoadOptions::default()).await;
        let failure = match &loaded {
            Ok(report) => report.failure.as_ref().map(|failure| failure.kind()),
            Err(error) => Some(error.kind()),
        };
        self.story.push(format!("load {rows:?}: {failure:?}"));
        let Some(failure) = failure else { return self.rows.extend(rows) };
        assert_eq!(failure, ErrorKind::Corrupt, "seed {}: {loaded:?}", self.seed);
        // Its commit was made or not: the table's log could not be looked into.
        self.mend_all().await;
        let seen = self.ask().await.expect("mended");
        self.rows.extend(seen.into_iter().filter(|row| rows.contains(row)));
    }

    async fn turn(&mut self) {
        match self.chance.below(12) {
            0..=3 => {
                let count = 1 + self.chance.below(20);
                let (rows, sequence) = (self.take(count), self.sequence + 1);
                let batch = batch("a", sequence, rows.clone());
                let written = self.workspace().write(batch).await;
                self.story.push(format!("write {rows:?}: {written:?}"));
                // Rows wait for a table whose log is damaged. One that was damaged when it was opened
                // takes none: nobody knows its columns.
                if written.is_ok() {
                    self.sequence = sequence;
                    self.rows.extend(rows);
                }
                self.expect_damage_at_most("write", written);
            }
            4 | 5 => {
                let flushed = self.workspace().flush().await.map(drop);
                self.story.push(format!("flush: {flushed:?}"));
                self.expect_damage_at_most("flush", flushed);
            }
            6 => {
                let count = 1 + self.chance.below(20);
                let rows = self.take(count);
                self.load(rows).await;
            }
            7 => {
                let options = CompactOptions { is_forced: true, ..CompactOptions::default() };
                let compacted = self.workspace().compact(&options).await.map(drop);
                self.story.push(format!("compact: {compacted:?}"));
                self.expect_damage_at_most("compaction", compacted);
            }
            8 => self.reopen().await,
            9 | 10 => self.flip(),
            _ => self.audit().await,
        }
    }

    fn expect_damage_at_most(&self, what: &str, outcome: Result<(), Error>) {
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "seed {}: {what}: {error}", self.seed);
            assert!(!self.flipped.is_empty(), "seed {}: {what}: {error}", self.seed);
        }
    }
}

fn name_of(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().expect("a file").to_string_lossy()
}

fn is_checkpoint(damage: &Damage) -> bool {
    damage.file.starts_with("_")
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

async fn run(seed: u64) -> Met {
    let mut world = World::new(seed).await;
    for _ in 0..60 {
        world.turn().await;
    }
    world.audit().await;
    world.mend_all().await;
    world.workspace().flush().await.expect("flushed");
    world.audit().await;
    let options = CheckOptions { reads_data: true, ..CheckOptions::default() };
    let report = world.workspace().check(&options).await.expect("checked");
    assert_eq!(report.findings, [], "seed {seed}");
    world.met
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_never_answered_wrong() {
    let all = Mutex::new(Met::default());
    let seeds = Seeds::of("flips::a_flipped_bit", 0..24);
    seeds
        .run_async(async |seed| {
            let met = run(seed).await;
            let mut all = all.lock().expect("a sum");
            all.flips += met.flips;
            all.data += met.data;
            all.logs += met.logs;
            all.segments += met.segments;
            all.lost += met.lost;
        })
        .await;
    if seeds.is_fixed() {
        let met = all.into_inner().expect("a sum");
        let enough = met.flips > 100 && met.data > 10 && met.logs > 10 && met.segments > 10;
        assert!(enough && met.lost > 10, "{met:?}");
    }
}
