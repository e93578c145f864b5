//! Nodes, a server and a network that fail in every way we know, many times over.
//!
//! Auditor: a report that the server answered with 200 is there for ever after; a node whose run
//! ended well has exactly one published version of its configuration, whole; and once the faults
//! end, every node comes to the newest version with nothing left to report.

use crate::support::{Cell, KEY, cells, start};
use async_trait::async_trait;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::journal::{Journal, MemoryJournal};
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::fault::{Faults, Faulty};
use oms_core::testkit::seeds::Seeds;
use oms_core::testkit::sim::Sim;
use oms_core::{Clock, Entropy, EntropyExt, Secret};
use oms_dsc::configuration::ResourceInstance;
use oms_dsc::node::{ConfigurationMode, LcmState, Metaconfiguration, RunReport, Transport};
use oms_dsc::protocol::{AgentId, Checksum, JobId, Operation, Reply, Request};
use oms_dsc::pull_server::NodeState;
use oms_dsc::resource::{Difference, Registry, Resource};
use oms_dsc::{Error, Lcm, PullServer, report};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

const NODES: [&str; 2] = ["node-a", "node-b"];
const SEEDS: u64 = 16;
const STEPS: usize = 120;

/// Chances that all parts of one world share, so that they can be ended together.
#[derive(Debug)]
struct Chances {
    draws: SeededEntropy,
    /// How many of a thousand messages are lost, in each direction.
    loss: AtomicU16,
    /// How many of a thousand requests arrive twice, the second time perhaps much later.
    duplicate: AtomicU16,
    /// How many of a thousand points in a node's run are its last.
    crash: AtomicU16,
    /// How many of a thousand sets fail.
    refusal: AtomicU16,
}

impl Chances {
    fn strikes(&self, per_mille: &AtomicU16) -> bool {
        self.draws.below(1000) < u64::from(per_mille.load(Ordering::Relaxed))
    }

    fn end(&self) {
        for chance in [&self.loss, &self.duplicate, &self.crash, &self.refusal] {
            chance.store(0, Ordering::Relaxed);
        }
    }
}

/// The end of a node's process: whoever comes here never goes on.
async fn end_here(chances: &Chances, ended: &Notify) {
    if chances.strikes(&chances.crash) {
        ended.notify_one();
        std::future::pending::<()>().await;
    }
}

/// A network that loses, doubles and delays, and the auditor's ear on it.
#[derive(Debug)]
struct Network {
    chances: Arc<Chances>,
    server: Mutex<Option<Arc<PullServer>>>,
    delayed: Mutex<Vec<Request>>,
    acknowledged: Mutex<Vec<(AgentId, JobId, Option<String>)>>,
}

impl Network {
    async fn deliver(&self, request: Request) -> Result<Reply, Error> {
        let server = self.server.lock().expect("not poisoned").clone();
        let operation = request.operation.name();
        let Some(server) = server else {
            return Err(Error::Unreachable { operation, reason: "down".into() });
        };
        let reply = server.answer(request.clone()).await;
        if let (Operation::SendReport { agent_id }, 200) = (&request.operation, reply.status) {
            let report = report::read(&request.body).expect("the server took it");
            let job_id = report.job().expect("the server took it");
            let mut acknowledged = self.acknowledged.lock().expect("not poisoned");
            acknowledged.push((*agent_id, job_id, report.status));
        }
        Ok(reply)
    }
}

#[derive(Clone, Debug)]
struct Way {
    network: Arc<Network>,
    ended: Arc<Notify>,
}

#[async_trait]
impl Transport for Way {
    async fn exchange(&self, request: &Request) -> Result<Reply, Error> {
        let (network, chances) = (&self.network, &self.network.chances);
        let lost = |reason: &str| Error::Unreachable {
            operation: request.operation.name(),
            reason: reason.to_owned(),
        };
        end_here(chances, &self.ended).await;
        // What was doubled long ago may arrive first.
        let late = network.delayed.lock().expect("not poisoned").pop();
        if let Some(late) = late.filter(|_| chances.draws.below(2) == 0) {
            let _ = network.deliver(late).await;
        }
        if chances.strikes(&chances.loss) {
            return Err(lost("the request was lost"));
        }
        if chances.strikes(&chances.duplicate) {
            match chances.draws.below(2) {
                0 => drop(network.deliver(request.clone()).await),
                _ => network.delayed.lock().expect("not poisoned").push(request.clone()),
            }
        }
        let reply = network.deliver(request.clone()).await;
        end_here(chances, &self.ended).await;
        if chances.strikes(&chances.loss) {
            return Err(lost("the answer was lost"));
        }
        reply
    }
}

/// A cell in whose set the process may end, before and after its effect.
#[derive(Clone, Debug)]
struct Fragile {
    cell: Cell,
    chances: Arc<Chances>,
    ended: Arc<Notify>,
}

#[async_trait]
impl Resource for Fragile {
    fn classes(&self) -> &[&str] {
        &["Test_Cell"]
    }

    async fn get(
        &self,
        instance: &ResourceInstance,
    ) -> Result<BTreeMap<String, serde_json::Value>, Error> {
        self.cell.get(instance).await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.cell.test(instance).await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<(), Error> {
        end_here(&self.chances, &self.ended).await;
        if self.chances.strikes(&self.chances.refusal) {
            return Err(Error::Invalid { what: "cell", reason: "not now".into() });
        }
        self.cell.set(instance).await?;
        end_here(&self.chances, &self.ended).await;
        Ok(())
    }
}

/// What of one node outlives its process.
struct Computer {
    name: &'static str,
    disk: SimDisk,
    journal: Arc<dyn Journal>,
    cell: Cell,
    lcm: Option<Lcm>,
}

struct World {
    seed: u64,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    chances: Arc<Chances>,
    faults: Arc<Faults>,
    network: Arc<Network>,
    ended: Arc<Notify>,
    server_disk: SimDisk,
    server_journal: Arc<dyn Journal>,
    computers: Vec<Computer>,
    /// The value of every cell in each published version.
    versions: BTreeMap<Checksum, String>,
    newest: Option<Checksum>,
}

impl World {
    fn new(seed: u64, sim: &Sim<Event>) -> Self {
        let chances = Arc::new(Chances {
            draws: SeededEntropy::new(seed ^ 0xc0de),
            loss: AtomicU16::new(150),
            duplicate: AtomicU16::new(150),
            crash: AtomicU16::new(25),
            refusal: AtomicU16::new(100),
        });
        let faults = Arc::new(Faults::new(seed));
        let journal = || -> Arc<dyn Journal> {
            Arc::new(Faulty::new(MemoryJournal::default(), Arc::clone(&faults)))
        };
        let computer = |name| Computer {
            name,
            disk: SimDisk::default(),
            journal: journal(),
            cell: Cell::default(),
            lcm: None,
        };
        Self {
            seed,
            clock: sim.clock(),
            entropy: sim.entropy(),
            network: Arc::new(Network {
                chances: Arc::clone(&chances),
                server: Mutex::default(),
                delayed: Mutex::default(),
                acknowledged: Mutex::default(),
            }),
            chances,
            ended: Arc::default(),
            server_disk: SimDisk::default(),
            server_journal: journal(),
            computers: NODES.map(computer).into(),
            faults,
            versions: BTreeMap::new(),
            newest: None,
        }
    }

    /// Starts the server, if nothing keeps it from starting.
    async fn start_server(&self) -> Result<Arc<PullServer>, Error> {
        let server = PullServer::builder("unused")
            .disk(Arc::new(self.server_disk.clone()))
            .journal(Arc::clone(&self.server_journal))
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .entropy(Arc::clone(&self.entropy) as Arc<dyn Entropy>)
            .registration_key(Secret::from(KEY))
            .build()
            .await?;
        let server = Arc::new(server);
        *self.network.server.lock().expect("not poisoned") = Some(Arc::clone(&server));
        Ok(server)
    }

    async fn server(&self) -> Option<Arc<PullServer>> {
        let running = self.network.server.lock().expect("not poisoned").clone();
        match running {
            Some(server) => Some(server),
            None => self.start_server().await.ok(),
        }
    }

    fn kill_server(&self) {
        *self.network.server.lock().expect("not poisoned") = None;
        self.server_disk.crash(&*self.entropy);
    }

    async fn publish(&mut self, number: usize) {
        let value = format!("version {number}");
        let document = cells("Web", &["a", "b", "c"].map(|name| (name, value.as_str())));
        // Whether or not the answer is good, the version may be out from now on.
        let checksum = Checksum::of(document.as_bytes());
        self.versions.insert(checksum, value);
        if let Some(server) = self.server().await
            && server.publish("Web", document.as_bytes()).await.is_ok()
        {
            self.newest = Some(checksum);
        }
    }

    async fn open_node(&self, computer: &Computer) -> Result<Lcm, Error> {
        let mut settings = Metaconfiguration::new("http://localhost/x", Secret::from(KEY));
        settings.configuration_names = vec!["Web".to_owned()];
        settings.configuration_mode = ConfigurationMode::ApplyAndAutoCorrect;
        settings.node_name = computer.name.to_owned();
        let resource = Fragile {
            cell: computer.cell.clone(),
            chances: Arc::clone(&self.chances),
            ended: Arc::clone(&self.ended),
        };
        let way = Way { network: Arc::clone(&self.network), ended: Arc::clone(&self.ended) };
        Lcm::builder("unused", settings)
            .disk(Arc::new(computer.disk.clone()))
            .journal(Arc::clone(&computer.journal))
            .transport(Arc::new(way))
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .entropy(Arc::clone(&self.entropy) as Arc<dyn Entropy>)
            .resources(Registry::new().with(Arc::new(resource)))
            .build()
            .await
    }

    /// One run of a node, which may end in the middle; the report if it came to its end.
    async fn run_node(&mut self, index: usize) -> Option<RunReport> {
        let mut lcm = match self.computers[index].lcm.take() {
            Some(lcm) => lcm,
            None => self.open_node(&self.computers[index]).await.ok()?,
        };
        let ended = Arc::clone(&self.ended);
        let run = tokio::select! {
            biased;
            run = lcm.run() => run.ok(),
            () = ended.notified() => {
                drop(lcm);
                self.computers[index].disk.crash(&*self.entropy);
                return None;
            }
        };
        self.audit(index, run.as_ref(), &mut lcm).await;
        self.computers[index].lcm = Some(lcm);
        run
    }

    async fn audit(&self, index: usize, run: Option<&RunReport>, lcm: &mut Lcm) {
        let seed = self.seed;
        let Some(run) = run.filter(|run| run.is_success && !run.resources.is_empty()) else {
            return;
        };
        let checksum = run.configurations.values().next().expect("one configuration");
        let expected = &self.versions[checksum];
        let values = self.computers[index].cell.values();
        assert!(
            values.len() == 3 && values.values().all(|value| value == expected),
            "seed {seed}: a mix after a good run: {values:?}, expected {expected}"
        );
        if let Ok(record) = lcm.record().await {
            assert_eq!(record.state, LcmState::Idle, "seed {seed}");
            assert_eq!(record.current, run.configurations, "seed {seed}");
        }
    }

    async fn check_acknowledged(&self, server: &PullServer) {
        let acknowledged = self.network.acknowledged.lock().expect("not poisoned").clone();
        for (agent_id, job_id, status) in acknowledged {
            let report = server.report(agent_id, job_id).await;
            let report = report.unwrap_or_else(|error| {
                panic!("seed {}: a report is gone after its 200: {error}", self.seed)
            });
            assert!(status.is_none() || report.status == status, "seed {}: {report:?}", self.seed);
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Wake(usize),
    Publish(usize),
    KillServer,
    Drift(usize),
}

fn schedule(sim: &mut Sim<Event>) {
    for step in 0..STEPS {
        let at = Duration::from_secs(sim.below(48 * 3600));
        let event = match sim.below(20) {
            0 | 1 => Event::Publish(step),
            2 => Event::KillServer,
            3 | 4 => Event::Drift(sim.below(2) as usize),
            _ => Event::Wake(sim.below(2) as usize),
        };
        sim.after("world", at, event);
    }
}

async fn run(seed: u64) -> u64 {
    let mut sim = Sim::new(seed);
    schedule(&mut sim);
    let mut world = World::new(seed, &sim);
    world.publish(1_000).await;
    world.faults.set_before(20);
    world.faults.set_after(20);
    while let Some(delivery) = sim.next() {
        if sim.chance(60) {
            let disk = match sim.below(3) {
                0 => &world.server_disk,
                other => &world.computers[other as usize - 1].disk,
            };
            disk.fail_next(1 + sim.below(4), std::io::ErrorKind::Other);
        }
        match delivery.message {
            Event::Wake(index) => {
                world.server().await;
                world.run_node(index).await;
            }
            Event::Publish(number) => world.publish(number).await,
            Event::KillServer => world.kill_server(),
            Event::Drift(index) => {
                let mut values = world.computers[index].cell.0.lock().expect("not poisoned");
                values.insert("b".into(), "drifted".into());
            }
        }
    }
    world.chances.end();
    world.faults.set_before(0);
    world.faults.set_after(0);
    world.server_disk.fail_next(0, std::io::ErrorKind::Other);
    world.kill_server();
    let server = world.start_server().await.expect("the server starts");
    world.publish(2_000).await;
    let newest = world.newest.expect("published");
    for index in 0..world.computers.len() {
        world.computers[index].disk.fail_next(0, std::io::ErrorKind::Other);
        for _ in 0..4 {
            world.clock.advance(Duration::from_secs(1_800));
            world.run_node(index).await;
        }
        let run = world.run_node(index).await.expect("the last run comes to its end");
        assert!(
            run.is_success && run.is_compliant && run.errors.is_empty(),
            "seed {seed}: {run:?}"
        );
        assert_eq!(run.configurations.values().next(), Some(&newest), "seed {seed}");
        let lcm = world.computers[index].lcm.as_mut().expect("it runs");
        assert_eq!(lcm.reports_waiting().await.expect("a number"), 0, "seed {seed}");
        let agent_id = lcm.record().await.expect("a record").agent_id.expect("an id");
        let node = server.node(agent_id).await.expect("known");
        assert_eq!(node.state, NodeState::Compliant, "seed {seed}");
    }
    world.check_acknowledged(&server).await;
    world.kill_server();
    let server = world.start_server().await.expect("the server starts");
    world.check_acknowledged(&server).await;
    assert!(world.clock.now() > start());
    let acknowledged = world.network.acknowledged.lock().expect("not poisoned").len() as u64;
    acknowledged + world.faults.count()
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_no_node_has_a_mix() {
    let seeds = Seeds::of("simulation::nothing_acknowledged_is_lost", 0..SEEDS);
    let happened = AtomicU64::new(0);
    seeds
        .run_async(|seed| {
            let happened = &happened;
            async move {
                happened.fetch_add(run(seed).await, Ordering::Relaxed);
            }
        })
        .await;
    let happened = happened.into_inner();
    let is_hard = happened > SEEDS * 100;
    assert!(!seeds.is_fixed() || is_hard, "too little happened to mean anything: {happened}");
}

/// The run to look at when a seed fails.
#[tokio::test]
async fn one_seed() {
    run(7).await;
}
