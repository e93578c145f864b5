//! Two servers on one journal and one disk, which compile the same jobs and are killed, while the journal
//! fails before and after it has written and the disk fails at any operation.
//!
//! Auditor: of what a version of a source is compiled to, everything is published or nothing, and that
//! together with the end of its job; a job that failed published nothing; every published document is
//! whole on the disk; and once the faults end, every job has ended.

use super::{job, name};
use crate::support::start;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::journal::{Journal, JournalEvent as _, MemoryJournal, READ_MAX};
use oms_core::resource::Preconditions;
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::fault::{Faults, Faulty};
use oms_core::testkit::seeds::Seeds;
use oms_core::{Clock, Entropy, EntropyExt as _};
use oms_dsc::authoring::{CompileOptions, Source};
use oms_dsc::configuration::Schemas;
use oms_dsc::protocol::Checksum;
use oms_dsc::pull_server::{
    COMPILATION_HISTORY, CONFIGURATION_HISTORY, CompilationEvent, CompilationName,
    ConfigurationEvent, SourceAbout,
};
use oms_dsc::{Error, PullServer};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SEEDS: u64 = 12;
const STEPS: usize = 120;
const NODES: usize = 4;

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Tally {
    completed: u64,
    failed: u64,
    taken_up: u64,
    given_up: u64,
    kills: u64,
    errors: u64,
    faults: u64,
}

struct World {
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    faults: Arc<Faults>,
    journal: Arc<Faulty<MemoryJournal>>,
    disk: SimDisk,
    servers: [Option<Arc<PullServer>>; 2],
    /// What each document is of: the version of the source, and whether it compiles.
    versions: BTreeMap<Checksum, u64>,
    schemas: Schemas,
    /// The version that a job was begun with, by its source.
    sources: BTreeMap<Checksum, u64>,
    begun: Vec<CompilationName>,
    number: u64,
    tally: Tally,
}

/// A source of so many nodes, each of whose documents has the number. Every fifth is wrong for its last node.
fn source(number: u64) -> String {
    let node = |index: usize| match number.is_multiple_of(5) && index + 1 == NODES {
        true => format!("n{index}: {{path: 7}}"),
        false => format!("n{index}: {{path: /etc/motd}}"),
    };
    let nodes: Vec<String> = (0..NODES).map(node).collect();
    format!(
        "configuration: Web\nnodes: {{{}}}\nresources:\n- {{type: nxFile, name: motd, properties: \
         {{DestinationPath: \"[node('path')]\", Contents: version {number}}}}}\n",
        nodes.join(", ")
    )
}

impl World {
    fn new(seed: u64) -> Self {
        let faults = Arc::new(Faults::new(seed));
        Self {
            clock: Arc::new(ManualClock::new(start())),
            entropy: Arc::new(SeededEntropy::new(seed)),
            journal: Arc::new(Faulty::new(MemoryJournal::default(), Arc::clone(&faults))),
            faults,
            disk: SimDisk::default(),
            servers: [None, None],
            versions: BTreeMap::new(),
            schemas: Schemas::standard().expect("schemas"),
            sources: BTreeMap::new(),
            begun: Vec::new(),
            number: 0,
            tally: Tally::default(),
        }
    }

    fn below(&self, limit: u64) -> u64 {
        self.entropy.below(limit)
    }

    async fn server(&mut self, index: usize) -> Result<Arc<PullServer>, Error> {
        if let Some(server) = &self.servers[index] {
            return Ok(Arc::clone(server));
        }
        let server = PullServer::builder("unused")
            .disk(Arc::new(self.disk.clone()))
            .journal(Arc::clone(&self.journal) as Arc<dyn Journal>)
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .entropy(Arc::clone(&self.entropy) as Arc<dyn Entropy>)
            .build()
            .await?;
        let server = Arc::new(server);
        self.servers[index] = Some(Arc::clone(&server));
        Ok(server)
    }

    /// Both machines lose power: what was not synced may be gone.
    fn kill(&mut self) {
        self.servers = [None, None];
        self.disk.crash(&*self.entropy);
        self.tally.kills += 1;
    }

    async fn step(&mut self) -> Result<(), Error> {
        self.clock.advance(Duration::from_secs(self.below(300)));
        let index = self.below(2) as usize;
        match self.below(10) {
            0 => {
                self.kill();
                Ok(())
            }
            1 => {
                self.disk.fail_after(self.below(40), io::ErrorKind::Other);
                Ok(())
            }
            2 | 3 => self.put(index).await,
            4 | 5 => self.begin(index).await,
            6 => self.server(index).await?.maintain().await.map(drop),
            7 => self.both().await,
            _ => {
                let server = self.server(index).await?;
                match self.begun.last().cloned() {
                    Some(name) => server.run_compilation(&name).await.map(drop),
                    None => Ok(()),
                }
            }
        }
    }

    async fn put(&mut self, index: usize) -> Result<(), Error> {
        self.number += 1;
        let (number, text) = (self.number, source(self.number));
        self.sources.insert(Checksum::of(text.as_bytes()), number);
        let source = Source::read("Web", text.as_bytes()).expect("it reads");
        if let Ok(compiled) = source.compile(&self.schemas, &CompileOptions::default()) {
            self.versions.extend(compiled.into_iter().map(|one| (one.checksum, number)));
        }
        let server = self.server(index).await?;
        let (about, any) = (SourceAbout::default(), Preconditions::default());
        server.put_source(&name("Web"), text.as_bytes(), &about, &any, "me").await.map(drop)
    }

    async fn begin(&mut self, index: usize) -> Result<(), Error> {
        let server = self.server(index).await?;
        let new = job(&format!("job-{}", self.begun.len()), "Web", &[]);
        // Also one whose answer was lost may be there.
        self.begun.push(new.name.clone());
        match server.begin_compilation(new, "me").await {
            Err(Error::NotFound { .. }) => Ok(()),
            begun => begun.map(drop),
        }
    }

    /// Both servers run the same job at once.
    async fn both(&mut self) -> Result<(), Error> {
        let (first, second) = (self.server(0).await?, self.server(1).await?);
        let Some(name) = self.begun.last().cloned() else { return Ok(()) };
        let (one, two) = tokio::join!(first.run_compilation(&name), second.run_compilation(&name));
        one.and(two).map(drop)
    }

    async fn events(&self, kind: &str) -> Vec<oms_core::journal::Event> {
        let mut events = self.journal.inner().read_all(0, READ_MAX).await.expect("events");
        events.retain(|event| event.history.kind() == kind);
        events
    }

    /// What holds at any time.
    async fn audit(&mut self) {
        let mut published: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        for event in self.events(CONFIGURATION_HISTORY).await {
            let opened = ConfigurationEvent::open(&event.envelope).expect("an event");
            let ConfigurationEvent::Published(of) = opened else { panic!("nothing is taken away") };
            let version = self.versions.get(&of.checksum).expect("what was compiled, and no other");
            published.entry(*version).or_default().insert(of.name.key());
        }
        let (mut completed, mut failed) = (BTreeSet::new(), BTreeSet::new());
        let mut of = BTreeMap::new();
        let (mut ended, mut broken, mut starts, mut given_up) = (0, 0, 0, 0);
        for event in self.events(COMPILATION_HISTORY).await {
            match CompilationEvent::open(&event.envelope).expect("an event") {
                CompilationEvent::Created { source, .. } => {
                    of.insert(event.history.clone(), self.sources[&source]);
                }
                CompilationEvent::Started { .. } => starts += u64::from(event.version > 2),
                CompilationEvent::Completed { node_configurations, .. } => {
                    assert_eq!(node_configurations, NODES as u64);
                    completed.insert(of[&event.history]);
                    ended += 1;
                }
                // Nothing is wrong with its source, but servers began with it and left it five times.
                CompilationEvent::Failed { reason, .. } if reason.contains("again and again") => {
                    given_up += 1;
                }
                CompilationEvent::Failed { .. } => {
                    failed.insert(of[&event.history]);
                    broken += 1;
                }
                other => panic!("unknown: {other:?}"),
            }
        }
        (self.tally.completed, self.tally.failed) = (ended, broken);
        (self.tally.taken_up, self.tally.given_up) = (starts, given_up);
        for (version, nodes) in &published {
            assert_eq!(nodes.len(), NODES, "version {version} is published in part: {nodes:?}");
            assert!(completed.contains(version), "version {version} without its job's end");
        }
        let whole: BTreeSet<u64> = published.keys().copied().collect();
        assert_eq!(whole, completed, "every job that completed has published");
        assert!(failed.iter().all(|version| version.is_multiple_of(5)), "{failed:?}");
    }

    /// The faults end: every job comes to its end, and what is published is on the disk.
    async fn calm(&mut self) {
        self.tally.faults = self.faults.count();
        self.faults.calm();
        self.kill();
        for _ in 0..3 {
            self.clock.advance(Duration::from_secs(20 * 60));
            let server = self.server(0).await.expect("opens");
            server.maintain().await.expect("maintained");
        }
        let server = self.server(1).await.expect("opens");
        for job in server.compilations().await.expect("jobs") {
            assert!(job.state.is_ended(), "{job:?}");
        }
        for published in server.configurations() {
            let text = server.content(published.checksum).await.expect("whole");
            assert_eq!(text.len() as u64, published.bytes);
        }
        self.audit().await;
    }
}

async fn simulate(seed: u64) -> Tally {
    let mut world = World::new(seed);
    world.faults.set_before(40);
    world.faults.set_after(60);
    for _ in 0..STEPS {
        if world.step().await.is_err() {
            world.tally.errors += 1;
            // Half of those that see an error end by it.
            if world.below(2) == 0 {
                world.kill();
            }
        }
        world.audit().await;
    }
    world.calm().await;
    world.tally
}

#[tokio::test]
async fn a_job_is_published_whole_or_not_at_all() {
    let seeds = Seeds::of("compilation::simulation::a_job_is_published_whole", 0..SEEDS);
    let total = Mutex::new(Vec::new());
    seeds
        .run_async(|seed| {
            let total = &total;
            async move {
                let tally = simulate(seed).await;
                total.lock().expect("not poisoned").push(tally);
            }
        })
        .await;
    let all = total.into_inner().expect("not poisoned");
    let sum = |count: fn(&Tally) -> u64| all.iter().map(count).sum::<u64>();
    if seeds.is_fixed() {
        let often = [
            ("completed", sum(|tally| tally.completed), 60),
            ("failed", sum(|tally| tally.failed), 20),
            ("taken up", sum(|tally| tally.taken_up), 20),
            ("kills", sum(|tally| tally.kills), 100),
            ("errors", sum(|tally| tally.errors), 100),
            ("faults", sum(|tally| tally.faults), 100),
        ];
        for (what, count, least) in often {
            assert!(count >= least, "{what}: {count}, of {often:?}");
        }
    }
}
