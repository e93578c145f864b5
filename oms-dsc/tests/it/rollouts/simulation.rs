//! A fleet, a server and a network between them that lose, double and delay what they are told, while an
//! operator rolls versions out, some of which fail on every node.
//!
//! Auditor: whoever receives a new version was given it in the journal before; nobody is given one while the
//! roll-out is stopped, before its ring opened, or past a bound of its ring; who counts as succeeded had the
//! version; and once the faults end, every node comes to the version that the last roll-out came to.

use super::{agent, ask, checksum, document, fetch, received, registration, report};
use crate::support::{KEY, start};
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::journal::{HistoryId, Journal, JournalEvent as _, MemoryJournal, READ_MAX};
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::fault::{Faults, Faulty};
use oms_core::testkit::seeds::Seeds;
use oms_core::testkit::sim::{Actor, Mishaps, Network, Sim};
use oms_core::{Clock, Entropy, Secret};
use oms_dsc::PullServer;
use oms_dsc::protocol::{AgentId, Checksum, Operation, Reply, Request};
use oms_dsc::pull_server::{ROLLOUT_HISTORY, RolloutEvent, RolloutPlan, RolloutState};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SERVER: Actor = "server";
const WORLD: Actor = "world";
const NODES: [Actor; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const SEEDS: u64 = 24;
const HOURS: u64 = 48;

const PLAN: &str = "rings:
  - {name: few, percent: 30, inFlightMax: 2, failuresMax: 0, soakMinutes: 60, patienceMinutes: 240}
  - {name: all, percent: 100, inFlightMax: 3, failuresMax: 1, successesMin: 2, patienceMinutes: 240}";

/// The same without the bounds that the auditor goes by.
const UNBOUNDED: &str = "rings:
  - {name: few, percent: 30, failuresMax: 9, soakMinutes: 60, patienceMinutes: 240}
  - {name: all, percent: 100, failuresMax: 9, successesMin: 2, patienceMinutes: 240}";

/// A computer: what it runs, and what it has not told yet.
#[derive(Clone, Debug, Default)]
struct Computer {
    has: Option<Checksum>,
    /// What it ever applied.
    applied: BTreeSet<Checksum>,
    unsent: Vec<Request>,
    call: u64,
    jobs: u128,
}

#[derive(Clone, Debug)]
enum Event {
    Ask { node: usize, call: u64, request: Box<Request> },
    Answer { call: u64, operation: &'static str, reply: Reply },
    Run(usize),
    Operate,
    Maintain,
    Kill,
    Boot,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Tally {
    trace: u64,
    begun: u64,
    offered: u64,
    succeeded: u64,
    failed: u64,
    opened: u64,
    stopped: u64,
    resumed: u64,
    completed: u64,
    aborted: u64,
    received: u64,
    boots: u64,
    faults: u64,
    mishaps: Mishaps,
}

struct World {
    sim: Sim<Event>,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    faults: Arc<Faults>,
    journal: Arc<Faulty<MemoryJournal>>,
    disk: SimDisk,
    server: Option<Arc<PullServer>>,
    computers: Vec<Computer>,
    versions: u64,
    /// The versions that no node can apply.
    bad: BTreeSet<Checksum>,
    is_calm: bool,
    plan: RolloutPlan,
    /// What was read of the roll-outs' history.
    log: Vec<RolloutEvent>,
    tally: Tally,
}

impl World {
    fn new(seed: u64, plan: &str) -> Self {
        let mut sim = Sim::new(seed);
        sim.set_network(Network {
            delay_max: Duration::from_secs(600),
            loss_per_mille: 100,
            duplicate_per_mille: 100,
            ..Network::default()
        });
        let faults = Arc::new(Faults::new(seed));
        let journal = Arc::new(Faulty::new(MemoryJournal::default(), Arc::clone(&faults)));
        Self {
            clock: sim.clock(),
            entropy: sim.entropy(),
            sim,
            faults,
            journal,
            disk: SimDisk::default(),
            server: None,
            computers: vec![Computer::default(); NODES.len()],
            versions: 1,
            bad: BTreeSet::new(),
            is_calm: false,
            plan: RolloutPlan::parse("plan", plan.as_bytes()).expect("a plan"),
            log: Vec::new(),
            tally: Tally::default(),
        }
    }

    async fn boot(&mut self) {
        if self.server.is_some() {
            return;
        }
        let server = PullServer::builder("unused")
            .disk(Arc::new(self.disk.clone()))
            .journal(Arc::clone(&self.journal) as Arc<dyn Journal>)
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .entropy(Arc::clone(&self.entropy) as Arc<dyn Entropy>)
            .registration_key(Secret::from(KEY))
            .build()
            .await;
        match server {
            Ok(server) => self.server = Some(Arc::new(server)),
            Err(_) => self.sim.after(SERVER, Duration::from_secs(60), Event::Boot),
        }
        self.tally.boots += 1;
    }

    fn kill(&mut self) {
        self.server = None;
        self.sim.crash(SERVER);
        self.disk.crash(&*self.entropy);
    }

    async fn prepare(&mut self) {
        self.boot().await;
        let server = self.server.clone().expect("it opens");
        server.publish("Web", document("1").as_bytes()).await.expect("published");
        for (node, computer) in self.computers.iter_mut().enumerate() {
            let reply = server.answer(registration(agent(node as u128), &*self.clock)).await;
            assert_eq!(reply.status, 204);
            computer.has = Some(checksum("1"));
        }
        for (node, name) in NODES.into_iter().enumerate() {
            // Runs of a node are never closer than its intervals allow.
            for run in 0..HOURS * 60 / 40 {
                let at = Duration::from_secs(run * 40 * 60 + self.sim.below(20 * 60));
                self.sim.after(name, at, Event::Run(node));
            }
        }
        for minute in (0..HOURS * 60).step_by(30) {
            self.sim.after(WORLD, Duration::from_secs(minute * 60), Event::Maintain);
        }
        for _ in 0..30 {
            let at = Duration::from_secs(self.sim.below(HOURS * 3_600));
            self.sim.after(WORLD, at, Event::Operate);
        }
        for _ in 0..12 {
            let at = Duration::from_secs(self.sim.below(HOURS * 3_600));
            self.sim.after(WORLD, at, Event::Kill);
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Run(node) => self.run(node),
            Event::Ask { node, call, request } => self.serve(node, call, *request).await,
            Event::Answer { call, operation, reply } => self.answered(call, operation, &reply),
            Event::Operate => self.operate().await,
            Event::Maintain => {
                if let Some(server) = self.server.clone() {
                    // What it did not come to, it does the next time.
                    let _ = server.maintain().await;
                }
            }
            Event::Kill => {
                self.kill();
                let down = Duration::from_secs(self.sim.below(3_600));
                self.sim.after(SERVER, down, Event::Boot);
            }
            Event::Boot => self.boot().await,
        }
    }

    /// A run begins: what was not told is told, and then it asks.
    fn run(&mut self, node: usize) {
        for report in self.computers[node].unsent.clone() {
            self.send(node, report);
        }
        let has = self.computers[node].has.expect("it was prepared");
        self.send(node, ask(agent(node as u128), has));
    }

    /// Only the answer to what was sent last, other than a report, counts.
    fn send(&mut self, node: usize, request: Request) {
        self.computers[node].call += 1;
        let call = self.computers[node].call * NODES.len() as u64 + node as u64;
        self.sim.send(NODES[node], SERVER, Event::Ask { node, call, request: Box::new(request) });
    }

    async fn serve(&mut self, node: usize, call: u64, request: Request) {
        let Some(server) = self.server.clone() else { return };
        let reply = server.answer(request.clone()).await;
        if matches!(request.operation, Operation::GetConfiguration { .. }) && reply.status == 200 {
            self.check_received(node, received(&reply).expect("content")).await;
        }
        if matches!(request.operation, Operation::SendReport { .. }) && reply.status == 200 {
            self.computers[node].unsent.retain(|unsent| unsent.body != request.body);
            return;
        }
        let operation = request.operation.name();
        self.sim.send(SERVER, NODES[node], Event::Answer { call, operation, reply });
    }

    fn answered(&mut self, call: u64, operation: &str, reply: &Reply) {
        let node = (call % NODES.len() as u64) as usize;
        if reply.status != 200 || self.computers[node].call != call / NODES.len() as u64 {
            return;
        }
        if operation == "GetDscAction" {
            let action: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
            match action["NodeStatus"].as_str() {
                Some("GetConfiguration") => self.send(node, fetch(agent(node as u128))),
                _ => self.ends(node, true),
            }
        } else if let Some(version) = received(reply) {
            let is_good = !self.bad.contains(&version);
            // Some computers say that they have what they could not apply.
            if is_good || node.is_multiple_of(2) {
                self.computers[node].has = Some(version);
            }
            self.computers[node].applied.insert(version);
            self.ends(node, is_good);
        }
    }

    fn ends(&mut self, node: usize, is_good: bool) {
        let is_good = is_good && !self.bad.contains(&self.computers[node].has.expect("one"));
        // Now and then a run fails whatever the version is.
        let is_good = is_good && (self.is_calm || !self.sim.chance(20));
        self.computers[node].jobs += 1;
        let job = self.computers[node].jobs * NODES.len() as u128 + node as u128 + 1;
        let report = report(agent(node as u128), job, is_good, &*self.clock);
        self.computers[node].unsent.push(report.clone());
        self.send(node, report);
    }

    async fn operate(&mut self) {
        let Some(server) = self.server.clone() else { return };
        let name = "Web".parse().expect("a name");
        let state = server.rollout(&name).await.map(|rollout| rollout.state);
        // What the journal does not take is refused, and the operator tries again another time.
        match (state, self.sim.below(4)) {
            (Ok(RolloutState::Stopped), 0 | 1) => drop(server.resume_rollout(&name).await),
            (Ok(RolloutState::Stopped), _) => drop(server.abort_rollout(&name).await),
            (Ok(RolloutState::Running), 0) => drop(server.abort_rollout(&name).await),
            (Ok(RolloutState::Running), _) => {}
            _ => {
                self.versions += 1;
                let value = self.versions.to_string();
                if self.sim.chance(400) {
                    self.bad.insert(checksum(&value));
                }
                let plan = self.plan.clone();
                drop(server.begin_rollout("Web", document(&value).as_bytes(), plan).await);
            }
        }
    }

    /// Every event of the roll-outs; what was read before is not read again.
    async fn read_on(&mut self) -> &[RolloutEvent] {
        let history = HistoryId::new(ROLLOUT_HISTORY, "web").expect("a history");
        let after = self.log.len() as u64;
        let new = self.journal.inner().read(&history, after, READ_MAX).await.expect("events");
        let new = new.iter().map(|event| RolloutEvent::open(&event.envelope).expect("known"));
        self.log.extend(new);
        &self.log
    }

    /// Whoever receives a version that is not published was given it before.
    async fn check_received(&mut self, node: usize, version: Checksum) {
        let seed = self.sim.seed();
        let (mut published, mut new, mut given) = (checksum("1"), None, BTreeSet::new());
        for event in self.read_on().await {
            match event {
                RolloutEvent::Begun { new: begun, .. } => {
                    (new, given) = (Some(begun.checksum), BTreeSet::new());
                }
                RolloutEvent::Offered { agent_id, .. } => drop(given.insert(*agent_id)),
                RolloutEvent::Completed => published = new.take().expect("it had begun"),
                RolloutEvent::Aborted => new = None,
                _ => {}
            }
        }
        let is_given = given.contains(&agent(node as u128));
        self.tally.received += u64::from(new.is_some() && is_given);
        let expected = new.filter(|_| is_given).unwrap_or(published);
        assert_eq!(version, expected, "seed {seed}: {} received another version", NODES[node]);
    }

    /// Everything that is under way happens.
    async fn settle(&mut self) {
        while let Some(delivery) = self.sim.next() {
            self.handle(delivery.message).await;
        }
    }
}

/// What the events say, reckoned again: each is allowed where it stands.
#[derive(Debug, Default)]
struct Audit {
    is_running: bool,
    is_bad: bool,
    ring: usize,
    new: Option<Checksum>,
    /// Ring and outcome of each node that was given the version: none while it is in flight.
    nodes: BTreeMap<AgentId, (usize, Option<bool>)>,
    /// Nodes of each ring that were given it, since it began or went on.
    given: [usize; 2],
    /// Whether the operator opens rings without waiting.
    is_forced: bool,
}

impl Audit {
    const FAILURES_MAX: [usize; 2] = [0, 1];
    const IN_FLIGHT_MAX: [usize; 2] = [2, 3];

    fn count(&self, ring: usize, outcome: Option<bool>) -> usize {
        self.nodes.values().filter(|node| **node == (ring, outcome)).count()
    }

    fn follow(&mut self, seed: u64, world: &World, event: &RolloutEvent) {
        match event {
            RolloutEvent::Begun { new, .. } => {
                let is_bad = world.bad.contains(&new.checksum);
                let new = Some(new.checksum);
                let is_forced = self.is_forced;
                *self = Self { is_running: true, is_bad, new, is_forced, ..Self::default() };
            }
            RolloutEvent::Offered { agent_id, ring } => {
                assert!(self.is_running, "seed {seed}: an offer while it is stopped");
                assert!(*ring <= self.ring, "seed {seed}: an offer before the ring opened");
                for ring in 0..2 {
                    let failed = self.count(ring, Some(false));
                    assert!(failed <= Self::FAILURES_MAX[ring], "seed {seed}: past the bound");
                }
                let in_flight = self.count(*ring, None);
                assert!(in_flight < Self::IN_FLIGHT_MAX[*ring], "seed {seed}: too many in flight");
                self.nodes.insert(*agent_id, (*ring, None));
                self.given[*ring] += 1;
                let most = Self::FAILURES_MAX[*ring] + Self::IN_FLIGHT_MAX[*ring];
                assert!(
                    !self.is_bad || self.given[*ring] <= most,
                    "seed {seed}: a bad version came to more than {most} nodes"
                );
            }
            RolloutEvent::Succeeded { agent_id, .. } => {
                assert!(!self.is_bad, "seed {seed}: a bad version succeeded");
                let index = NODES.iter().zip(0..).find(|(_, number)| agent(*number) == *agent_id);
                let (_, number) = index.expect("a node");
                let had = &world.computers[number as usize].applied;
                assert!(had.contains(&self.new.expect("begun")), "seed {seed}: it never had it");
                self.nodes.entry(*agent_id).and_modify(|node| node.1 = Some(true));
            }
            RolloutEvent::Failed { agent_id, .. } => {
                self.nodes.entry(*agent_id).and_modify(|node| node.1 = Some(false));
            }
            RolloutEvent::Left { agent_id } => drop(self.nodes.remove(agent_id)),
            RolloutEvent::RingOpened { ring } => {
                assert_eq!((self.is_running, *ring), (true, self.ring + 1), "seed {seed}");
                let succeeded = self.count(self.ring, Some(true));
                assert!(succeeded > 0 || self.is_forced, "seed {seed}: nobody succeeded");
                self.ring = *ring;
            }
            RolloutEvent::Stopped { ring, failures } => {
                assert_eq!(self.count(*ring, Some(false)), *failures as usize, "seed {seed}");
                self.is_running = false;
            }
            RolloutEvent::Resumed => {
                self.is_running = true;
                self.given = [0; 2];
                for (ring, outcome) in self.nodes.values_mut() {
                    *outcome = outcome.filter(|is_good| *is_good);
                    self.given[*ring] += usize::from(outcome.is_none());
                }
            }
            _ => self.is_running = false,
        }
    }
}

async fn run(seed: u64, plan: &str) -> Tally {
    let mut world = World::new(seed, plan);
    world.prepare().await;
    world.faults.set_before(20);
    world.faults.set_after(20);
    world.settle().await;

    world.sim.calm();
    world.is_calm = true;
    world.faults.set_before(0);
    world.faults.set_after(0);
    world.kill();
    world.boot().await;
    let server = world.server.clone().expect("it opens");
    let name = "Web".parse().expect("a name");
    let by_itself = world.read_on().await.len();
    let Ok(last) = server.rollout(&name).await else { return world.tally };
    let last = match last.state {
        RolloutState::Running | RolloutState::Stopped if seed.is_multiple_of(2) => {
            server.abort_rollout(&name).await.expect("it is taken back")
        }
        RolloutState::Running | RolloutState::Stopped => {
            if last.state == RolloutState::Stopped {
                server.resume_rollout(&name).await.expect("it goes on");
            }
            let mut now = server.rollout(&name).await.expect("it is there");
            for _ in 0..2 {
                // What goes on may find that it is at its end.
                if now.state == RolloutState::Running {
                    now = server.advance_rollout(&name).await.expect("a ring opens");
                }
            }
            now
        }
        _ => last,
    };
    let expected = match last.state {
        RolloutState::Completed => last.new,
        state => {
            assert_eq!(state, RolloutState::Aborted, "seed {seed}");
            last.old
        }
    };
    assert_eq!(server.configurations()[0].checksum, expected, "seed {seed}");
    for _ in 0..3 {
        for node in 0..NODES.len() {
            world.clock.advance(Duration::from_secs(600));
            world.run(node);
            world.settle().await;
        }
    }
    for (node, computer) in world.computers.iter().enumerate() {
        // Odd ones do not say that they have what they could not apply.
        let is_there = computer.has == Some(expected)
            || (world.bad.contains(&expected) && computer.applied.contains(&expected));
        assert!(is_there, "seed {seed}: {} has {:?}", NODES[node], computer.has);
    }
    let before = server.rollouts().await.expect("told");
    world.kill();
    world.boot().await;
    let server = world.server.clone().expect("it opens");
    assert_eq!(server.rollouts().await.expect("told"), before, "seed {seed}");

    let (mut tally, mut audit) = (world.tally, Audit::default());
    let events = world.read_on().await.to_vec();
    for (index, event) in events.into_iter().enumerate() {
        audit.is_forced = index >= by_itself;
        audit.follow(seed, &world, &event);
        let count = match event {
            RolloutEvent::Begun { .. } => &mut tally.begun,
            RolloutEvent::Offered { .. } => &mut tally.offered,
            RolloutEvent::Succeeded { .. } => &mut tally.succeeded,
            RolloutEvent::Failed { .. } => &mut tally.failed,
            RolloutEvent::RingOpened { .. } => &mut tally.opened,
            RolloutEvent::Stopped { .. } => &mut tally.stopped,
            RolloutEvent::Resumed => &mut tally.resumed,
            RolloutEvent::Completed => &mut tally.completed,
            RolloutEvent::Aborted => &mut tally.aborted,
            _ => continue,
        };
        *count += 1;
    }
    assert!(world.clock.now() > start());
    (tally.trace, tally.mishaps) = (world.sim.trace(), world.sim.mishaps());
    tally.faults = world.faults.count();
    tally
}

#[tokio::test]
async fn a_rollout_never_passes_its_bound() {
    let seeds = Seeds::of("rollouts::simulation::a_rollout_never_passes_its_bound", 0..SEEDS);
    let total = Mutex::new(Vec::new());
    seeds
        .run_async(|seed| {
            let total = &total;
            async move {
                let tally = run(seed, PLAN).await;
                total.lock().expect("not poisoned").push(tally);
            }
        })
        .await;
    let all = total.into_inner().expect("not poisoned");
    let least = |count: fn(&Tally) -> u64| all.iter().map(count).sum::<u64>();
    if seeds.is_fixed() {
        let often = [
            least(|tally| tally.begun),
            least(|tally| tally.offered),
            least(|tally| tally.succeeded),
            least(|tally| tally.failed),
            least(|tally| tally.received),
            least(|tally| tally.boots),
            least(|tally| tally.faults),
        ];
        assert!(often.iter().all(|count| *count > SEEDS), "too little happened: {all:?}");
        let seldom = [
            least(|tally| tally.opened),
            least(|tally| tally.stopped),
            least(|tally| tally.resumed),
            least(|tally| tally.completed),
            least(|tally| tally.aborted),
        ];
        assert!(seldom.iter().all(|count| *count >= 5), "too little happened: {all:?}");
        let mut mishaps = Mishaps::default();
        all.iter().for_each(|tally| mishaps += tally.mishaps);
        let never = mishaps.never();
        assert!(never.iter().all(|kind| ["cut", "paused"].contains(kind)), "never seen: {never:?}");
    }
}

/// What would come of roll-outs that keep no bound.
#[test]
fn an_offer_past_the_bound_is_found() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let is_found = |seed| {
        let run = || runtime.block_on(run(seed, UNBOUNDED));
        let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
        Some(panic.downcast_ref::<String>().is_some_and(|text| text.contains("in flight")))
    };
    assert!((0..SEEDS).filter_map(is_found).any(|is_found| is_found), "it gets past the auditor");
}

/// The run to look at when a seed fails: it does the same again.
#[tokio::test]
async fn one_seed_repeats_its_run() {
    let first = run(5, PLAN).await;
    assert_eq!(first, run(5, PLAN).await);
    assert_ne!(first.trace, run(6, PLAN).await.trace);
}
