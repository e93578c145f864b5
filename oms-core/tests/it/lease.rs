//! Three processes that want one duty, in a world of skewed clocks, pauses, partitions, crashes
//! and a journal that fails.
//!
//! The auditor: of any two guarded writes, the one of the lower epoch never lands after the one of
//! the higher epoch; and at most one process believes at a time that it owns the duty.

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use oms_core::clock::ManualClock;
use oms_core::journal::{
    Append, Envelope, HistoryId, Journal, JournalError, JournalExt, MemoryJournal,
};
use oms_core::lease::{
    ClaimId, Duty, Effect, Engine, Input, LEASE_KIND, LeaseSettings, Loss, Moment, Outcome,
    RENEWAL_KIND, Standing, View, trim, view,
};
use oms_core::testkit::fault::{FaultCounts, Faults, Faulty};
use oms_core::testkit::seeds::Seeds;
use oms_core::testkit::sim::{Actor, Mishaps, Network, Sim};
use oms_core::testkit::skew::SkewedClock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ACTORS: [Actor; 3] = ["a", "b", "c"];

/// How long things go wrong, and how long they then go right, in seconds.
const CHAOS_SECONDS: u64 = 400;
const CALM_SECONDS: u64 = 100;

/// How many worlds the fixed set has.
const SEEDS: u64 = 30;

/// What is built wrongly.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bug {
    None,
    /// The clocks run at rates that are not what the settings say.
    ClocksBeyondTheBound,
    /// The guard is left out of the write.
    WritesUnguarded,
    /// The journal does not check conditions.
    JournalIgnoresConditions,
    /// A candidate does not wait out the owner's term.
    TakesOverAtOnce,
    /// A holder believes until it is told otherwise.
    BelievesOn,
    /// A holder counts its term from the answer, not from the question.
    CountsFromTheAnswer,
}

#[derive(Clone, Debug)]
enum Message {
    Wake(u64),
    Work,
    Trouble,
    Ask {
        call: Option<u64>,
        ask: Ask,
    },
    Answer {
        call: u64,
        answer: Answer,
    },
    /// A write whose process stopped between its decision and the call.
    Late(Vec<Append>),
    Heal(Actor),
    Restart(Actor),
}

#[derive(Clone, Debug)]
enum Ask {
    Read,
    Append(Vec<Append>),
    Trim(u64),
    Save(oms_core::journal::Snapshot),
}

#[derive(Clone, Debug)]
enum Answer {
    Read(Option<View>),
    Appended(Outcome),
}

struct Process {
    engine: Engine,
    clock: SkewedClock<ManualClock>,
    wake: u64,
    /// What the planted bug believes, by this process's clock.
    believes_until: Duration,
    is_up: bool,
}

/// What a run showed.
#[derive(Debug, Default)]
struct Account {
    epochs: u64,
    confirmations: usize,
    writes: usize,
    calm_writes: usize,
    refused: usize,
    expired: usize,
    believers_max: usize,
    is_out_of_order: bool,
    renewal_histories: usize,
    has_owner: bool,
    mishaps: Mishaps,
    faults: FaultCounts,
}

struct World {
    bug: Bug,
    sim: Sim<Message>,
    duty: Duty,
    settings: LeaseSettings,
    journal: Faulty<MemoryJournal>,
    faults: Arc<Faults>,
    processes: BTreeMap<Actor, Process>,
    writes: u64,
    is_calm: bool,
    account: Account,
}

fn settings() -> LeaseSettings {
    LeaseSettings {
        term_millis: 6_000,
        margin_millis: 300,
        renew_every_millis: 2_000,
        watch_every_millis: 1_000,
        retry_every_millis: 300,
        call_millis_max: 2_500,
        renewals_max: 5,
        clock_drift_per_mille: 10,
    }
}

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let mut sim = Sim::new(seed);
        sim.set_network(Network {
            delay_max: Duration::from_millis(1_200),
            loss_per_mille: 20,
            duplicate_per_mille: 30,
            ..Network::default()
        });
        let faults = Arc::new(Faults::new(seed));
        let journal = Faulty::new(MemoryJournal::default(), Arc::clone(&faults));
        let mut world = Self {
            bug,
            duty: "engine/shard-1".parse().expect("a duty"),
            settings: settings(),
            journal,
            faults,
            processes: BTreeMap::new(),
            writes: 0,
            is_calm: false,
            account: Account::default(),
            sim,
        };
        for actor in ACTORS {
            world.start(actor);
        }
        world.sim.after("world", Duration::from_secs(5), Message::Trouble);
        world
    }

    fn start(&mut self, actor: Actor) {
        let clock = match self.processes.remove(actor) {
            Some(process) => process.clock,
            None => {
                let offset = SignedDuration::from_secs(self.sim.below(200_000) as i64 - 100_000);
                let spread = if self.bug == Bug::ClocksBeyondTheBound { 600_000 } else { 10_000 };
                let rate = self.sim.below(2 * spread + 1) as i32 - spread as i32;
                SkewedClock::new(self.sim.clock(), offset, rate)
            }
        };
        let claim = ClaimId::draw(&*self.sim.entropy());
        let engine = Engine::new(self.duty.clone(), actor, claim, self.settings.clone());
        let believes_until = Duration::ZERO;
        let process = Process { engine, clock, wake: 0, believes_until, is_up: true };
        self.processes.insert(actor, process);
        self.step(actor, Input::Wake);
        self.sim.after(actor, Duration::from_millis(100), Message::Work);
    }

    fn run(mut self) -> Account {
        let begun = self.sim.clock();
        let begun = oms_core::Clock::monotonic(&*begun);
        let elapsed = |world: &Self| oms_core::Clock::monotonic(&*world.sim.clock()) - begun;
        while let Some(delivery) = self.sim.next() {
            let now = elapsed(&self);
            if now > Duration::from_secs(CHAOS_SECONDS + CALM_SECONDS) {
                break;
            }
            if now > Duration::from_secs(CHAOS_SECONDS) && !self.is_calm {
                self.calm();
            }
            self.audit_beliefs();
            match delivery.to {
                "journal" => self.serve(delivery.from, delivery.message),
                "world" => self.trouble(&delivery.message),
                actor => self.deliver(actor, delivery.message),
            }
            self.audit_beliefs();
        }
        self.audit_journal();
        (self.account.mishaps, self.account.faults) = (self.sim.mishaps(), self.faults.counts());
        self.account
    }

    fn deliver(&mut self, actor: Actor, message: Message) {
        match message {
            Message::Wake(wake) if self.process(actor).wake == wake => {
                self.step(actor, Input::Wake);
            }
            Message::Work => self.work(actor),
            Message::Late(appends) => self.ask(actor, None, Ask::Append(appends)),
            Message::Answer { call, answer } => {
                let input = match answer {
                    Answer::Read(view) => Input::Read { call, view: self.spoil_view(view) },
                    Answer::Appended(outcome) => {
                        if outcome == Outcome::Done && self.bug == Bug::CountsFromTheAnswer {
                            self.believe_from_now(actor);
                        }
                        Input::Appended { call, outcome }
                    }
                };
                self.step(actor, input);
            }
            _ => {}
        }
    }

    fn spoil_view(&self, mut view: Option<View>) -> Option<View> {
        let owner = view.as_mut().and_then(|view| view.ownership.owner.as_mut());
        if let Some(owner) = owner
            && self.bug == Bug::TakesOverAtOnce
        {
            owner.term_millis = 0;
        }
        view
    }

    fn believe_from_now(&mut self, actor: Actor) {
        let belief = Duration::from_millis(self.settings.term_millis);
        let process = self.process(actor);
        process.believes_until = oms_core::Clock::monotonic(&process.clock) + belief;
    }

    fn process(&mut self, actor: Actor) -> &mut Process {
        self.processes.get_mut(actor).expect("every actor has a process")
    }

    fn step(&mut self, actor: Actor, input: Input) {
        let process = self.process(actor);
        let now = Moment::of(&process.clock);
        let was_held = matches!(process.engine.standing(), Standing::Held { .. });
        let effects = process.engine.step(now, input);
        match process.engine.standing() {
            Standing::Held { .. } if self.bug == Bug::BelievesOn => {
                self.process(actor).believes_until = Duration::MAX;
            }
            Standing::Lost(loss) if was_held => {
                self.account.expired += usize::from(loss == Loss::Expired);
                // A process that lost its lease becomes a candidate again.
                self.sim.after("world", Duration::from_secs(1), Message::Restart(actor));
                if loss == Loss::Superseded {
                    self.process(actor).believes_until = Duration::ZERO;
                }
            }
            Standing::Released | Standing::Abandoned => {
                self.process(actor).believes_until = Duration::ZERO;
                self.sim.after("world", Duration::from_secs(1), Message::Restart(actor));
            }
            _ => {}
        }
        for effect in effects {
            self.perform(actor, now, effect);
        }
    }

    fn perform(&mut self, actor: Actor, now: Moment, effect: Effect) {
        match effect {
            Effect::Read { call } => self.ask(actor, Some(call), Ask::Read),
            Effect::Append { call, appends } => {
                self.ask(actor, Some(call), Ask::Append(appends));
            }
            Effect::Trim { below } => self.ask(actor, None, Ask::Trim(below)),
            Effect::Save(snapshot) => self.ask(actor, None, Ask::Save(snapshot)),
            Effect::Wake { at } => {
                // The process asks its own clock for the delay; the world counts by its own. What
                // comes too early is asked for again.
                let process = self.process(actor);
                process.wake += 1;
                let (wake, delay) = (process.wake, at.saturating_sub(now.monotonic));
                let delay = delay + Duration::from_millis(1);
                self.sim.after(actor, delay, Message::Wake(wake));
            }
            _ => {}
        }
    }

    fn ask(&mut self, actor: Actor, call: Option<u64>, ask: Ask) {
        self.sim.send(actor, "journal", Message::Ask { call, ask });
    }

    /// The duty: a guarded write that carries its epoch, at once or after a long stop.
    fn work(&mut self, actor: Actor) {
        let process = self.process(actor);
        let now = Moment::of(&process.clock);
        let standing = process.engine.standing();
        if let (Standing::Held { epoch, .. }, Some(guard), true) =
            (standing, process.engine.guard(), process.engine.believes(now.monotonic))
        {
            self.writes += 1;
            let history = HistoryId::new("work", &format!("{actor}-{}", self.writes));
            let event = Envelope::new("work-done", 1, now.wall, actor, &epoch).expect("a number");
            let history = history.expect("a name");
            let write = Append { history, expected: 0, events: vec![event] };
            let is_guarded = self.bug != Bug::WritesUnguarded;
            let appends = is_guarded.then_some(guard).into_iter().chain([write]).collect();
            if self.sim.chance(80) && !self.is_calm {
                let stop = Duration::from_secs(self.sim.below(30));
                self.sim.after(actor, stop, Message::Late(appends));
            } else {
                self.ask(actor, None, Ask::Append(appends));
            }
            if self.sim.chance(5) && !self.is_calm {
                self.step(actor, Input::Release);
            }
        }
        self.sim.after(actor, Duration::from_millis(400), Message::Work);
    }

    fn serve(&mut self, from: Actor, message: Message) {
        let Message::Ask { call, ask } = message else { return };
        let answer = match ask {
            Ask::Read => {
                let seen = view(&self.journal, &self.duty).now_or_never().expect("at once");
                assert!(!matches!(seen, Err(JournalError::Corrupt { .. })), "{seen:?}");
                Some(Answer::Read(seen.ok()))
            }
            Ask::Append(appends) => Some(Answer::Appended(self.append(appends))),
            Ask::Trim(below) => {
                let _ = trim(&self.journal, &self.duty, below).now_or_never().expect("at once");
                None
            }
            Ask::Save(snapshot) => {
                let saved = self.journal.save_snapshot(self.duty.history(), snapshot);
                let _ = saved.now_or_never().expect("at once");
                None
            }
        };
        if let (Some(call), Some(answer)) = (call, answer) {
            self.sim.send("journal", from, Message::Answer { call, answer });
        }
    }

    fn append(&mut self, mut appends: Vec<Append>) -> Outcome {
        if self.bug == Bug::JournalIgnoresConditions {
            appends.retain(|append| !append.events.is_empty());
        }
        let is_work = appends.iter().any(|append| append.history.kind() == "work");
        match self.journal.append(appends).now_or_never().expect("at once") {
            Ok(_) => {
                self.account.calm_writes += usize::from(is_work && self.is_calm);
                Outcome::Done
            }
            Err(JournalError::Conflict { history, .. }) => {
                self.account.refused += usize::from(is_work && history.kind() == LEASE_KIND);
                Outcome::Conflict
            }
            Err(_) => Outcome::Unknown,
        }
    }

    fn trouble(&mut self, message: &Message) {
        match *message {
            Message::Heal(actor) => self.sim.heal(actor, "journal"),
            Message::Restart(actor)
                if !matches!(self.process(actor).engine.standing(), Standing::Held { .. }) =>
            {
                self.sim.crash(actor);
                self.start(actor);
            }
            Message::Trouble if !self.is_calm => {
                let actor = ACTORS[self.sim.below(3) as usize];
                let span = Duration::from_millis(500 + self.sim.below(15_000));
                match self.sim.below(6) {
                    0 | 1 => self.sim.pause(actor, span),
                    2 => {
                        self.sim.partition(actor, "journal");
                        self.sim.after("world", span, Message::Heal(actor));
                    }
                    3 => {
                        self.sim.crash(actor);
                        self.process(actor).is_up = false;
                        self.sim.after("world", span, Message::Restart(actor));
                        // A dead process believes nothing.
                        let claim = ClaimId::draw(&*self.sim.entropy());
                        let settings = self.settings.clone();
                        let duty = self.duty.clone();
                        self.process(actor).engine = Engine::new(duty, actor, claim, settings);
                        self.process(actor).believes_until = Duration::ZERO;
                    }
                    4 => {
                        self.faults.set_before(self.sim.below(300) as u16);
                        self.faults.set_after(self.sim.below(300) as u16);
                    }
                    _ => {
                        self.faults.set_before(0);
                        self.faults.set_after(0);
                    }
                }
                let next = Duration::from_millis(1_000 + self.sim.below(7_000));
                self.sim.after("world", next, Message::Trouble);
            }
            _ => {}
        }
    }

    fn calm(&mut self) {
        self.is_calm = true;
        self.sim.set_network(Network::default());
        self.faults.set_before(0);
        self.faults.set_after(0);
        for actor in ACTORS {
            self.sim.heal(actor, "journal");
            if !self.process(actor).is_up {
                self.sim.crash(actor);
                self.start(actor);
            }
        }
    }

    fn audit_beliefs(&mut self) {
        let bug = self.bug;
        let is_believer = |process: &&Process| {
            let now = oms_core::Clock::monotonic(&process.clock);
            process.engine.believes(now)
                || matches!(bug, Bug::BelievesOn | Bug::CountsFromTheAnswer)
                    && now < process.believes_until
        };
        let believers = self.processes.values().filter(is_believer).count();
        self.account.believers_max = self.account.believers_max.max(believers);
    }

    fn audit_journal(&mut self) {
        let journal = self.journal.inner();
        let events = journal.read_all(0, usize::MAX).now_or_never().expect("at once");
        let events = events.expect("read");
        let of_work = events.iter().filter(|event| event.envelope.kind == "work-done");
        let epochs: Vec<u64> =
            of_work.map(|event| event.envelope.decode().expect("a number")).collect();
        self.account.writes = epochs.len();
        self.account.is_out_of_order = !epochs.is_sorted();
        let confirmed = |event: &&_| {
            let event: &oms_core::journal::Event = event;
            event.envelope.kind == "lease-confirmed"
        };
        self.account.confirmations = events.iter().filter(confirmed).count();
        let seen = view(journal, &self.duty).now_or_never().expect("at once").expect("a lease");
        self.account.epochs = seen.ownership.epoch;
        self.account.has_owner = seen.ownership.owner.is_some();
        let renewals = journal.list_whole(RENEWAL_KIND).now_or_never().expect("at once");
        self.account.renewal_histories = renewals.expect("list").len();
    }
}

#[test]
fn a_former_owner_never_writes_after_the_next_and_one_believes_at_a_time() {
    let mut sum = Account::default();
    let seeds = Seeds::of("lease::a_former_owner_never_writes", 0..SEEDS);
    seeds.run(|seed| {
        let account = World::new(seed, Bug::None).run();
        assert!(!account.is_out_of_order, "{account:?}");
        assert!(account.believers_max <= 1, "{account:?}");
        // Once nothing goes wrong, the duty is done.
        assert!(account.has_owner && account.calm_writes > 50, "{account:?}");
        assert!(account.renewal_histories <= 3, "{account:?}");
        sum.epochs += account.epochs;
        sum.refused += account.refused;
        sum.confirmations += account.confirmations;
        sum.expired += account.expired;
        sum.writes += account.writes;
        sum.mishaps += account.mishaps;
        sum.faults += account.faults;
    });
    if seeds.is_fixed() {
        // The worlds are hard enough to mean something.
        assert!(sum.epochs > 5 * SEEDS && sum.refused > SEEDS as usize, "{sum:?}");
        assert!(sum.confirmations > SEEDS as usize && sum.expired > SEEDS as usize, "{sum:?}");
        assert!(sum.mishaps.never().is_empty(), "never seen: {:?}", sum.mishaps.never());
        assert!(sum.faults.before > SEEDS && sum.faults.after > SEEDS, "{sum:?}");
    }
}

#[test]
fn clocks_beyond_the_bound_break_the_belief_and_never_the_fence() {
    let mut doubted = 0;
    let seeds = Seeds::of("lease::clocks_beyond_the_bound", 0..SEEDS);
    seeds.run(|seed| {
        let account = World::new(seed, Bug::ClocksBeyondTheBound).run();
        assert!(!account.is_out_of_order, "{account:?}");
        doubted += usize::from(account.believers_max > 1);
    });
    assert!(doubted > 0 || !seeds.is_fixed(), "the assumption is not needed after all");
}

#[test]
fn a_seed_gives_the_same_run() {
    let run = || format!("{:?}", World::new(7, Bug::None).run());
    assert_eq!(run(), run());
}

/// Each planted bug falls to the part of the auditor that names it.
#[test]
fn planted_bugs_are_caught() {
    let is_caught = |bug| {
        (0..SEEDS).any(|seed| {
            let account = World::new(seed, bug).run();
            match bug {
                Bug::WritesUnguarded | Bug::JournalIgnoresConditions => account.is_out_of_order,
                _ => account.believers_max > 1,
            }
        })
    };
    for bug in [
        Bug::WritesUnguarded,
        Bug::JournalIgnoresConditions,
        Bug::TakesOverAtOnce,
        Bug::BelievesOn,
        Bug::CountsFromTheAnswer,
    ] {
        assert!(is_caught(bug), "{bug:?} was not caught");
    }
}

/// Answers an effect from the journal, at once.
fn answer(journal: &MemoryJournal, duty: &Duty, effects: Vec<Effect>) -> Input {
    let call = effects.into_iter().find_map(|effect| match effect {
        Effect::Read { call } => {
            let view = view(journal, duty).now_or_never().expect("at once").expect("a lease");
            Some(Input::Read { call, view: Some(view) })
        }
        Effect::Append { call, appends } => {
            let appended = journal.append(appends).now_or_never().expect("at once");
            let outcome = if appended.is_ok() { Outcome::Done } else { Outcome::Conflict };
            Some(Input::Appended { call, outcome })
        }
        _ => None,
    });
    call.expect("a call to the journal")
}

/// An owner renews in the last moment, while a candidate waits for the answer to its last look:
/// whether each believes in the end. A blind claim has no condition on the owner's renewals.
fn claim_after_a_late_renewal(is_blind: bool) -> [bool; 2] {
    let (journal, world) = (MemoryJournal::default(), ManualClock::new(Timestamp::UNIX_EPOCH));
    let duty: Duty = "d".parse().expect("a duty");
    let entropy = oms_core::entropy::SeededEntropy::new(1);
    let engine = |name| Engine::new(duty.clone(), name, ClaimId::draw(&entropy), settings());
    let (mut owner, mut candidate) = (engine("owner"), engine("candidate"));
    let at = |millis: u64| {
        let now = oms_core::Clock::monotonic(&world);
        world.advance(Duration::from_millis(millis) - now);
        Moment::of(&world)
    };
    let looked = answer(&journal, &duty, owner.step(at(0), Input::Wake));
    let claimed = answer(&journal, &duty, owner.step(at(0), looked));
    owner.step(at(0), claimed);
    let looked = answer(&journal, &duty, candidate.step(at(10), Input::Wake));
    candidate.step(at(10), looked);

    let renewal = owner.step(at(5_600), Input::Wake);
    let last_look = answer(&journal, &duty, candidate.step(at(5_640), Input::Wake));
    let renewed = answer(&journal, &duty, renewal);
    owner.step(at(5_660), renewed);
    let mut claim = candidate.step(at(6_140), last_look);
    for effect in &mut claim {
        if let Effect::Append { appends, .. } = effect {
            assert_eq!(appends.len(), 2, "a claim and its condition");
            appends.retain(|append| !is_blind || !append.events.is_empty());
        }
    }
    let claimed = answer(&journal, &duty, claim);
    let now = at(6_150);
    candidate.step(now, claimed);
    [owner.believes(now.monotonic), candidate.believes(now.monotonic)]
}

#[test]
fn a_claim_fails_if_the_owner_has_renewed_since_the_last_look() {
    assert_eq!(claim_after_a_late_renewal(false), [true, false]);
    assert_eq!(claim_after_a_late_renewal(true), [true, true], "the planted bug shows");
}

/// What is written stays readable: one event of each kind, as this version writes it.
#[test]
fn a_stored_lease_of_format_one_is_read() {
    let journal = MemoryJournal::default();
    let duty: Duty = "table/Heartbeat/commit".parse().expect("a duty");
    let id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff";
    let claim = serde_json::json!({ "id": id, "term_millis": 30_000 });
    let bodies = [
        ("lease-acquired", serde_json::json!({ "epoch": 1, "claim": claim })),
        ("lease-confirmed", serde_json::json!({ "epoch": 1 })),
        ("lease-released", serde_json::json!({ "epoch": 1 })),
        ("lease-acquired", serde_json::json!({ "epoch": 2, "claim": claim })),
        ("lease-taken-over", serde_json::json!({ "epoch": 3, "claim": claim })),
    ];
    let event = |(kind, body): (&str, serde_json::Value)| {
        Envelope::new(kind, 1, Timestamp::UNIX_EPOCH, "node-1", &body).expect("JSON")
    };
    let events = bodies.map(event).to_vec();
    let appended = journal.append_to(duty.history(), 0, events).now_or_never().expect("at once");
    assert_eq!(appended.expect("append"), 5);
    let seen = view(&journal, &duty).now_or_never().expect("at once").expect("a lease");
    let owner = seen.ownership.owner.expect("an owner");
    assert_eq!((seen.ownership.epoch, owner.holder.as_str()), (3, "node-1"));
    assert_eq!((owner.claim.to_string().as_str(), owner.term_millis), (id, 30_000));
}
