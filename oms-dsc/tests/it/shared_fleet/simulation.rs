//! Two servers on one journal, whose clocks disagree, nodes that speak to either, and a network, disks and a
//! journal that fail: requests are lost, doubled and late, and repeated to the other server when no answer
//! comes; servers end at any step and start again; nodes rotate their certificates, fall silent, are set up
//! anew, and two of them are one image that was copied; an operator tags, asks for rotations, takes nodes out
//! and makes and revokes registration keys; and somebody who has seen it all sends it again.
//!
//! Auditor: it reckons from the journal what each node is. Whatever a server answers is right at some moment
//! between the request and the answer, whichever server was told before: who is no node, or shows a void
//! certificate, is refused, and nobody else is. Each signature registers one node once, by a key that is good
//! then; the same bytes again are refused, whatever became of the answer to the first, and change nothing,
//! since real nodes sign anew when they try again. A certificate that was good when it was written vouches for
//! each new one, and no more than two are good at a time. What was acknowledged is in the journal, and a
//! report on the disk, once. No node counts as silent that was answered lately, and every one that was not
//! does. Who goes with a revoked key is gone.

mod audit;

mod computer;

mod flawed;

mod known;

mod mischief;

use super::asks;
use crate::registration_key::agent;
use crate::support::{KEY, cells, start};
use audit::{Arrival, Book, Counts};
use computer::{Computer, identity};
use flawed::{Flaw, Fuse, Way};
use jiff::{SignedDuration, Timestamp};
use known::{Known, ended, job};
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::journal::MemoryJournal;
use oms_core::secret::KeyRing;
use oms_core::testkit::disk::{Forgotten, SimDisk};
use oms_core::testkit::fault::{Faults, Faulty};
use oms_core::testkit::seeds::Seeds;
use oms_core::testkit::sim::{Actor, Mishaps, Network, Sim};
use oms_core::testkit::skew::SkewedClock;
use oms_core::{Clock, Disk, Entropy, Secret};
use oms_dsc::protocol::{AgentId, JobId, Operation, Reply, Request};
use oms_dsc::pull_server::RegistrationKeyId;
use oms_dsc::{Error, PullServer};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WORLD: Actor = "world";
const SERVERS: [Actor; 2] = ["first", "second"];
const SEEDS: u64 = 16;
const HOURS: u64 = 30;

/// A computer's name, the number of its node, and whether it shows its certificate. The last two are copies of
/// one image.
const COMPUTERS: [(Actor, u128, bool); 4] =
    [("web", 1, true), ("db", 2, false), ("twin-a", 3, true), ("twin-b", 3, true)];

/// Nobody's number.
const STRANGER: u128 = 9;

/// How far a server's clock may be off, in seconds, and how much it gains in a million.
const OFF_MAX: u64 = 100;
const RATE_MAX: u64 = 200;

/// How far a wrong one is off.
const WRONG: SignedDuration = SignedDuration::from_mins(15);

/// The most steps of a server to the journal and back until it ends.
const STEPS_MAX: u64 = 24;

#[derive(Clone, Debug)]
enum Event {
    /// To a server.
    Ask {
        computer: usize,
        call: u64,
        request: Box<Request>,
    },
    Boot,
    /// To a computer.
    Run,
    Sleep,
    Answer {
        call: u64,
        reply: Reply,
    },
    GiveUp {
        call: u64,
    },
    /// To the world.
    Operate,
    Attack,
    Race,
    Maintain(usize),
    Kill(usize),
    Pause(usize),
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Tally {
    trace: u64,
    answered: u64,
    refused: u64,
    /// Registrations that came again as they were.
    replayed: u64,
    /// Registrations that a node signed anew though the first was kept.
    signed_anew: u64,
    /// Reports that were kept before and acknowledged again.
    told_again: u64,
    attacks: u64,
    races: u64,
    boots: u64,
    /// Servers that ended in the middle of something.
    ended: u64,
    keys: u64,
    dropped: u64,
    faults: u64,
    counts: Counts,
    mishaps: Mishaps,
}

struct World {
    sim: Sim<Event>,
    clock: Arc<ManualClock>,
    clocks: [Arc<SkewedClock<ManualClock>>; 2],
    entropy: Arc<SeededEntropy>,
    faults: Arc<Faults>,
    fuses: [Arc<Fuse>; 2],
    journal: Arc<MemoryJournal>,
    ring: Arc<KeyRing>,
    flaw: Option<Flaw>,
    disks: [SimDisk; 2],
    servers: [Option<Arc<PullServer>>; 2],
    opened: [Timestamp; 2],
    computers: Vec<Computer>,
    /// What nodes may sign with; the first is good for ever.
    keys: Vec<(Option<RegistrationKeyId>, Secret)>,
    calls: u64,
    thumbprints: u64,
    jobs: u128,
    is_calm: bool,
    /// Registrations that somebody has seen.
    seen: Vec<Request>,
    /// Reports that a server acknowledged, and whether it has the end of the run.
    acknowledged: BTreeMap<(usize, AgentId, JobId), bool>,
    book: Book,
    tally: Tally,
}

impl World {
    fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let mut sim = Sim::new(seed);
        sim.set_network(Network {
            delay_max: Duration::from_secs(20),
            loss_per_mille: 100,
            duplicate_per_mille: 100,
            ..Network::default()
        });
        let (clock, entropy) = (sim.clock(), sim.entropy());
        let mut server_clock = || {
            let off = sim.below(2 * OFF_MAX + 1) as i64 - OFF_MAX as i64;
            let rate = sim.below(2 * RATE_MAX + 1) as i32 - RATE_MAX as i32;
            let off = SignedDuration::from_secs(off);
            Arc::new(SkewedClock::new(Arc::clone(&clock), off, rate))
        };
        let clocks = [server_clock(), server_clock()];
        let drawn = Arc::clone(&entropy) as Arc<dyn Entropy>;
        let ring = KeyRing::open_folder(Arc::new(SimDisk::default()), drawn, "dsc", false);
        let faults = Arc::new(Faults::new(seed));
        let mut world = Self {
            book: Book::new(seed, Arc::clone(&clock), Arc::clone(&faults)),
            opened: [clock.now(); 2],
            sim,
            clock,
            clocks,
            entropy,
            faults,
            fuses: Default::default(),
            journal: Arc::default(),
            ring: Arc::new(ring.expect("it is begun")),
            flaw,
            disks: Default::default(),
            servers: [None, None],
            computers: Vec::new(),
            keys: vec![(None, Secret::from(KEY))],
            calls: 0,
            thumbprints: 0,
            jobs: 0,
            is_calm: false,
            seen: Vec::new(),
            acknowledged: BTreeMap::new(),
            tally: Tally::default(),
        };
        if flaw == Some(Flaw::ForgetsSyncs) {
            world.disks[1].forget(Forgotten::Files);
        }
        for _ in COMPUTERS {
            let certificate = world.thumbprint();
            world.computers.push(Computer { certificate, ..Computer::default() });
        }
        world
    }

    fn seed(&self) -> u64 {
        self.sim.seed()
    }

    fn thumbprint(&mut self) -> String {
        self.thumbprints += 1;
        format!("{:040X}", self.thumbprints)
    }

    /// A server that opens. One of the two is wrong, if any: what it does must show in what the other one
    /// says, too.
    fn opening(&self, index: usize) -> impl Future<Output = Result<PullServer, Error>> + use<> {
        let (flaw, fuse) = (self.flaw.filter(|_| index == 1), Arc::clone(&self.fuses[index]));
        let way = Way { inner: Arc::clone(&self.journal), flaw, fuse };
        let clock = Arc::clone(&self.clocks[index]);
        let clock: Arc<dyn Clock> = match flaw {
            Some(Flaw::ClockIsWrong) => Arc::new(SkewedClock::new(clock, WRONG, 0)),
            _ => clock,
        };
        PullServer::builder("unused")
            .disk(Arc::new(self.disks[index].clone()) as Arc<dyn Disk>)
            .journal(Arc::new(Faulty::new(way, Arc::clone(&self.faults))))
            .clock(clock)
            .entropy(Arc::clone(&self.entropy) as Arc<dyn Entropy>)
            .registration_key(Secret::from(KEY))
            .key_ring(Arc::clone(&self.ring))
            .build()
    }

    async fn boot(&mut self, index: usize) {
        if self.servers[index].is_some() {
            return;
        }
        let opening = self.opening(index);
        match self.on(index, opening).await {
            Some(Ok(server)) => {
                self.tally.boots += 1;
                self.opened[index] = self.clock.now();
                self.servers[index] = Some(Arc::new(server));
            }
            Some(Err(error)) => {
                assert!(!self.is_calm, "seed {}: {error}", self.seed());
                self.sim.after(SERVERS[index], Duration::from_secs(60), Event::Boot);
            }
            None => {}
        }
    }

    /// What a server's work comes to, unless it ends in the middle of it.
    async fn on<T>(&mut self, index: usize, work: impl Future<Output = T>) -> Option<T> {
        let fuse = Arc::clone(&self.fuses[index]);
        if !self.is_calm && self.sim.chance(20) {
            fuse.light(self.sim.below(STEPS_MAX));
        } else if !self.is_calm && self.sim.chance(20) {
            self.disks[index].fail_after(self.sim.below(8), io::ErrorKind::Other);
        }
        let done = Box::pin(fuse.before_it_burns(work)).await;
        self.ends_if_burnt(index);
        done
    }

    fn ends_if_burnt(&mut self, index: usize) {
        if self.fuses[index].put_out() || self.disks[index].is_broken() {
            self.tally.ended += 1;
            self.ends(index);
        } else {
            // It got through.
            self.disks[index].fail_after(u64::MAX, io::ErrorKind::Other);
        }
    }

    /// A server ends, and starts again within the hour.
    fn ends(&mut self, index: usize) {
        self.kill(index);
        let down = Duration::from_secs(self.sim.below(3_600));
        self.sim.after(SERVERS[index], down, Event::Boot);
    }

    fn kill(&mut self, index: usize) {
        self.servers[index] = None;
        self.sim.crash(SERVERS[index]);
        self.disks[index].crash(&*self.entropy);
    }

    async fn prepare(&mut self) {
        self.is_calm = true;
        self.boot(0).await;
        let server = self.servers[0].clone().expect("it opens");
        server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
        self.boot(1).await;
        self.book.follow(&self.journal, agent(STRANGER)).await;
        self.is_calm = false;
        for (name, _, _) in COMPUTERS {
            for run in 0..HOURS * 6 {
                let at = Duration::from_secs(run * 600 + self.sim.below(600));
                self.sim.after(name, at, Event::Run);
            }
            for _ in 0..3 {
                let at = Duration::from_secs(self.sim.below(HOURS * 3_600));
                self.sim.after(name, at, Event::Sleep);
            }
        }
        let events = [
            (160, (|_| Event::Operate) as fn(usize) -> Event),
            (160, |_| Event::Attack),
            (160, |_| Event::Race),
            (HOURS * 6, Event::Maintain),
            (6, Event::Kill),
            (8, Event::Pause),
        ];
        for (count, event) in events {
            for _ in 0..count {
                let at = Duration::from_secs(self.sim.below(HOURS * 3_600));
                let index = self.sim.below(2) as usize;
                self.sim.after(WORLD, at, event(index));
            }
        }
    }

    async fn handle(&mut self, to: Actor, event: Event) {
        let server = SERVERS.iter().position(|name| *name == to).unwrap_or_default();
        let computer = COMPUTERS.iter().position(|(name, _, _)| *name == to).unwrap_or_default();
        match event {
            Event::Ask { computer, call, request } => {
                if let Some(reply) = self.serve(server, *request).await {
                    let answer = Event::Answer { call, reply };
                    self.sim.send(SERVERS[server], COMPUTERS[computer].0, answer);
                }
            }
            Event::Boot => self.boot(server).await,
            Event::Run => self.run(computer),
            Event::Sleep => {
                let hours = 1 + self.sim.below(4) as i64;
                let until = self.clock.now() + SignedDuration::from_hours(hours);
                self.computers[computer].asleep = Some(until);
            }
            Event::Answer { call, reply } => self.answered(computer, call, &reply),
            Event::GiveUp { call } => self.gives_up(computer, call),
            Event::Operate => self.operate().await,
            Event::Attack => self.attack().await,
            Event::Race => self.race().await,
            Event::Maintain(index) => self.maintain(index).await,
            Event::Kill(index) => self.ends(index),
            Event::Pause(index) => {
                let pause = Duration::from_secs(self.sim.below(600));
                self.sim.pause(SERVERS[index], pause);
            }
        }
    }

    /// A server answers, if it runs and does not end before, and the auditor hears it.
    async fn serve(&mut self, index: usize, request: Request) -> Option<Reply> {
        let server = self.servers[index].clone()?;
        let agent_id = identity(&request);
        let arrival = self.book.arrives(agent_id, &request, self.clocks[index].now());
        let is_replay = self.book.is_used(&request);
        let known = self.book.of(agent_id);
        let is_known = ended(&request).is_some_and(|report| known.reported.contains(&report));
        let asked = request.clone();
        let reply = self.on(index, async move { server.answer(asked).await }).await;
        let states = self.book.follow(&self.journal, agent_id).await;
        let reply = reply?;
        self.check(&arrival, &request, &reply, &states);
        self.book.check_unchanged(&arrival, &request, &reply);
        self.check_stored(index, &request, &reply).await;
        self.tally.replayed += u64::from(is_replay && reply.status == 401);
        self.tally.told_again += u64::from(is_known && reply.status == 200);
        Some(reply)
    }

    fn check(&mut self, arrival: &Arrival, request: &Request, reply: &Reply, states: &[Known]) {
        let seed = self.seed();
        let can_fail = !self.is_calm;
        assert!(can_fail || reply.status < 500, "seed {seed}: {reply:?} to {request:?}");
        self.book.check(arrival, request, reply, states);
        match reply.is_success() {
            true => self.tally.answered += 1,
            false => self.tally.refused += 1,
        }
    }

    /// A report that is acknowledged is there to read.
    async fn check_stored(&mut self, index: usize, request: &Request, reply: &Reply) {
        if !matches!(request.operation, Operation::SendReport { .. }) || reply.status != 200 {
            return;
        }
        let key = (index, identity(request), job(request));
        *self.acknowledged.entry(key).or_default() |= ended(request).is_some();
        let has_end = self.acknowledged[&key];
        if self.servers[index].is_some() {
            self.check_report(key, has_end).await;
        }
    }

    async fn check_report(&self, key: (usize, AgentId, JobId), has_end: bool) {
        let (index, agent_id, job_id) = key;
        let server = self.servers[index].as_ref().expect("it runs");
        let report = server.report(agent_id, job_id).await;
        let is_there = report.as_ref().is_ok_and(|found| found.end_time.is_some() || !has_end);
        let seed = self.seed();
        assert!(is_there, "seed {seed}: an acknowledged report is gone: {key:?}, {report:?}");
    }

    /// What each server that runs says of each node is what the journal says.
    async fn compare(&mut self) {
        let seed = self.seed();
        for (index, server) in self.servers.iter().enumerate() {
            let Some(server) = server else { continue };
            let registered = self.book.registered();
            for number in 1..4 {
                let (agent_id, name) = (agent(number), SERVERS[index]);
                match (server.node(agent_id).await, registered.get(&agent_id)) {
                    (Ok(node), Some(known)) => {
                        let differs = known.differs(&node);
                        assert_eq!(differs, None, "seed {seed}: of {number}, {name}");
                    }
                    (Err(Error::NotFound { .. }), None) => {}
                    (Err(Error::Journal(_)), _) if !self.is_calm => {}
                    (said, known) => panic!("seed {seed}: {name}: {said:?} of {known:?}"),
                }
            }
            if let Ok(listed) = server.nodes().await {
                let listed: Vec<AgentId> = listed.iter().map(|node| node.agent_id).collect();
                let known: Vec<AgentId> = registered.into_keys().collect();
                assert_eq!(listed, known, "seed {seed}: {}", SERVERS[index]);
            }
        }
    }

    /// Everything that is under way happens.
    async fn settle(&mut self) {
        while let Some(delivery) = self.sim.next() {
            self.handle(delivery.to, delivery.message).await;
        }
    }

    /// No more faults: what has to happen in the end happens from here on.
    async fn calm(&mut self) {
        self.sim.calm();
        self.is_calm = true;
        self.faults.calm();
        // One goes on with what it has in memory, the other one reads it all.
        self.kill(0);
        self.boot(0).await;
        self.boot(1).await;
        self.compare().await;
        for (key, has_end) in &self.acknowledged {
            self.check_report(*key, *has_end).await;
        }
    }

    /// Whatever became of a computer, it comes to be a node in the end, on both servers.
    async fn recovers(&mut self, computer: usize) {
        let seed = self.seed();
        let this = &mut self.computers[computer];
        (this.key, this.asleep) = (0, None);
        for _ in 0..12 {
            self.clock.advance(Duration::from_secs(600));
            self.run(computer);
            self.settle().await;
        }
        let this = &self.computers[computer];
        assert!(this.pending.is_none(), "seed {seed}: {this:?}");
        if !this.is_registered {
            self.run(computer);
            self.settle().await;
        }
        let this = self.computers[computer].clone();
        assert!(this.is_registered, "seed {seed}: {this:?}");
        for index in 0..2 {
            let mut request = asks(COMPUTERS[computer].1);
            request.headers.certificate_thumbprint = self.presents(computer);
            let reply = self.serve(index, request).await.expect("it runs");
            assert_eq!(reply.status, 200, "seed {seed}: {this:?} is lost");
        }
    }

    /// Both fall silent, and either server knows it of both.
    async fn falls_silent(&mut self) {
        self.clock.advance(Duration::from_secs(3 * 3_600));
        for index in 0..2 {
            self.maintain(index).await;
            let silent: BTreeSet<AgentId> = self.book.registered().into_keys().collect();
            let known = self.book.registered().into_values().all(|known| known.is_silent);
            assert!(known && silent.len() >= 2, "seed {}: {silent:?}", self.seed());
        }
        self.compare().await;
    }
}

async fn run(seed: u64, flaw: Option<Flaw>) -> Tally {
    let mut world = World::new(seed, flaw);
    world.prepare().await;
    world.faults.set_before(20);
    world.faults.set_after(20);
    world.settle().await;

    world.calm().await;
    for computer in 0..2 {
        world.recovers(computer).await;
    }
    world.compare().await;
    world.falls_silent().await;
    assert!(world.clock.now() > start());
    let (trace, mishaps) = (world.sim.trace(), world.sim.mishaps());
    let (counts, faults) = (world.book.tally, world.faults.count());
    Tally { trace, mishaps, counts, faults, ..world.tally }
}

#[tokio::test]
async fn what_one_server_was_told_holds_on_both() {
    let name = "shared_fleet::simulation::what_one_server_was_told";
    let seeds = Seeds::of(name, 0..SEEDS);
    let total = Mutex::new(Tally::default());
    seeds
        .run_async(|seed| {
            let total = &total;
            async move {
                let tally = run(seed, None).await;
                let mut total = total.lock().expect("not poisoned");
                total.add(&tally);
            }
        })
        .await;
    let total = total.into_inner().expect("not poisoned");
    if seeds.is_fixed() {
        let own = [
            total.answered / 20,
            total.refused,
            total.replayed,
            total.signed_anew,
            total.told_again,
            total.attacks,
            total.races,
            total.boots,
            total.ended,
            total.keys,
            total.dropped,
            total.faults,
        ];
        let counts = own.into_iter().chain(total.counts.all());
        assert!(counts.min() > Some(SEEDS / 2), "too little happened: {total:?}");
        let never = total.mishaps.never();
        assert!(never.iter().all(|kind| *kind == "cut"), "never seen: {never:?}");
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.replayed += other.replayed;
        self.signed_anew += other.signed_anew;
        self.told_again += other.told_again;
        self.attacks += other.attacks;
        self.races += other.races;
        self.boots += other.boots;
        self.ended += other.ended;
        self.keys += other.keys;
        self.dropped += other.dropped;
        self.faults += other.faults;
        self.counts.add(&other.counts);
        self.mishaps += other.mishaps;
    }
}

/// Planted bugs: each falls to some seed of the fixed set, and for what it is.
#[test]
fn planted_bugs_are_found() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for (flaw, told) in Flaw::ALL {
        let is_found = |seed| {
            let run = || runtime.block_on(run(seed, Some(flaw)));
            let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else { return false };
            panic.downcast_ref::<String>().is_some_and(|text| text.contains(told))
        };
        assert!((0..SEEDS).any(is_found), "{flaw:?} gets past the auditor");
    }
}

/// The run to look at when a seed fails: it does the same again.
#[tokio::test]
async fn one_seed_repeats_its_run() {
    let first = run(5, None).await;
    assert_eq!(first, run(5, None).await);
    assert_ne!(first.trace, run(6, None).await.trace);
}
