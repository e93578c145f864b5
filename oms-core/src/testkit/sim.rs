//! A seeded world in which engines run.
//!
//! Engines are pure, so the simulation needs no runtime of its own: it is a queue of messages and
//! timers in the order of simulated time. A test takes the next delivery, hands it to the actor it
//! is for, and sends what the actor answers. The same seed gives the same run.
//!
//! ```
//! use oms_core::testkit::sim::{Network, Sim};
//! use std::time::Duration;
//!
//! let mut sim: Sim<u32> = Sim::new(7);
//! sim.set_network(Network { loss_per_mille: 300, ..Network::default() });
//! for number in 0..100 {
//!     sim.send("node", "server", number);
//! }
//! sim.after("server", Duration::from_secs(60), 1_000);
//! let mut arrived = 0;
//! while let Some(delivery) = sim.next() {
//!     arrived += u32::from(delivery.message < 1_000);
//! }
//! assert!((50..90).contains(&arrived), "about three in ten are lost, {arrived} arrived");
//! ```

use crate::clock::{Clock, ManualClock};
use crate::entropy::{EntropyExt, SeededEntropy};
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::fmt::{self, Debug, Write as _};
use std::sync::Arc;
use std::time::Duration;

/// The name of an actor.
pub type Actor = &'static str;

/// How messages travel.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// The shortest delay.
    pub delay_min: Duration,
    /// The longest delay. Messages overtake each other between the two.
    pub delay_max: Duration,
    /// How many of a thousand messages are lost.
    pub loss_per_mille: u16,
    /// How many of a thousand messages arrive twice.
    pub duplicate_per_mille: u16,
}

impl Default for Network {
    /// 1 to 20 ms, nothing lost, nothing doubled.
    fn default() -> Self {
        Self {
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_millis(20),
            loss_per_mille: 0,
            duplicate_per_mille: 0,
        }
    }
}

/// A message or timer that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery<M> {
    /// When.
    pub at: Timestamp,
    /// Who sent it; a timer comes from the actor itself.
    pub from: Actor,
    /// Whom it is for.
    pub to: Actor,
    /// What.
    pub message: M,
}

super::tally::tally! {
    /// How often what went wrong in a world.
    Mishaps {
        /// Messages that the network lost.
        lost,
        /// Messages that were sent and came twice.
        doubled,
        /// Messages that came after one that was sent later on the same way.
        overtaken,
        /// Messages that a partition lost.
        cut,
        /// Deliveries that a pause put off.
        paused,
        /// Lives of actors that ended.
        crashes,
        /// Timers and messages under way that were gone with a life.
        dropped,
    }
}

#[derive(Debug)]
struct Queued<M> {
    due: Duration,
    order: u64,
    from: Actor,
    to: Actor,
    /// The receiver's life it was sent to; a crash begins another.
    life: u64,
    message: M,
}

impl<M> PartialEq for Queued<M> {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}

impl<M> Eq for Queued<M> {}

impl<M> PartialOrd for Queued<M> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<M> Ord for Queued<M> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

/// The world: one clock, one source of randomness, one network.
#[derive(Debug)]
pub struct Sim<M> {
    seed: u64,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    /// The world's own draws, apart from those of its actors.
    chance: SeededEntropy,
    network: Network,
    queue: BinaryHeap<Reverse<Queued<M>>>,
    order: u64,
    lives: HashMap<Actor, u64>,
    paused_until: HashMap<Actor, Duration>,
    /// Cut ways, from an actor to another.
    partitions: BTreeSet<(Actor, Actor)>,
    /// The latest message that came on each way, by its number.
    latest: HashMap<(Actor, Actor), u64>,
    mishaps: Mishaps,
    trace: u64,
}

/// How much of a message counts in the trace, in bytes of its `Debug`.
const TRACED_BYTES_MAX: usize = 1_000;

/// A checksum of text (FNV-1a) that wants to hear no more than so much.
struct Traced {
    sum: u64,
    left: usize,
}

impl fmt::Write for Traced {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes().take(self.left) {
            self.sum = (self.sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.left = self.left.saturating_sub(text.len());
        if self.left == 0 { Err(fmt::Error) } else { Ok(()) }
    }
}

impl<M: Clone + Debug> Sim<M> {
    /// A world that begins at 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let start = Timestamp::from_second(1_767_225_600).expect("a second within range");
        Self {
            seed,
            clock: Arc::new(ManualClock::new(start)),
            entropy: Arc::new(SeededEntropy::new(seed)),
            chance: SeededEntropy::new(seed ^ 0x5eed_5eed_5eed_5eed),
            network: Network::default(),
            queue: BinaryHeap::new(),
            order: 0,
            lives: HashMap::new(),
            paused_until: HashMap::new(),
            partitions: BTreeSet::new(),
            latest: HashMap::new(),
            mishaps: Mishaps::default(),
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// A checksum of every delivery so far: when, from whom, to whom, and how its message begins.
    /// Two runs of one seed have the same, or the seed does not repeat what it did.
    #[must_use]
    pub const fn trace(&self) -> u64 {
        self.trace
    }

    /// How often what went wrong so far: a simulation that is to say something about a fault has seen
    /// it.
    #[must_use]
    pub const fn mishaps(&self) -> Mishaps {
        self.mishaps
    }

    /// The seed, for the message of a failed assertion.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The world's clock.
    #[must_use]
    pub fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }

    /// The randomness that actors draw from.
    #[must_use]
    pub fn entropy(&self) -> Arc<SeededEntropy> {
        Arc::clone(&self.entropy)
    }

    /// Changes how messages travel from now on.
    pub const fn set_network(&mut self, network: Network) {
        self.network = network;
    }

    /// True in `per_mille` of a thousand calls.
    pub fn chance(&mut self, per_mille: u16) -> bool {
        self.chance.below(1000) < u64::from(per_mille)
    }

    /// A number in `0..end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.chance.below(end)
    }

    /// Sends a message; the network may delay, lose or double it. It arrives only if the way is open
    /// both now and when it is due: a partition loses what is sent while it lasts, however late that
    /// would have arrived, and what it finds under way.
    pub fn send(&mut self, from: Actor, to: Actor, message: M) {
        let (loss, double) = (self.network.loss_per_mille, self.network.duplicate_per_mille);
        if self.chance(loss) {
            self.mishaps.lost += 1;
            return;
        }
        if self.is_cut(from, to) {
            self.mishaps.cut += 1;
            return;
        }
        if self.chance(double) {
            self.mishaps.doubled += 1;
            let delay = self.delay();
            self.enqueue(from, to, delay, message.clone());
        }
        let delay = self.delay();
        self.enqueue(from, to, delay, message);
    }

    /// Wakes an actor later, unless it crashes before.
    pub fn after(&mut self, actor: Actor, delay: Duration, message: M) {
        self.enqueue(actor, actor, delay, message);
    }

    /// Loses every message between the two, in both directions, until [`Sim::heal`]: those that are
    /// sent from now on, and those under way that are due before it ends.
    pub fn partition(&mut self, a: Actor, b: Actor) {
        self.partition_one_way(a, b);
        self.partition_one_way(b, a);
    }

    /// Loses every message from one to the other, as [`Sim::partition`] does; answers still come back.
    pub fn partition_one_way(&mut self, from: Actor, to: Actor) {
        self.partitions.insert((from, to));
    }

    /// Ends a partition, whether it was of one way or of both. What was sent in the meantime is lost
    /// all the same; what was sent before it and is not due yet arrives.
    pub fn heal(&mut self, a: Actor, b: Actor) {
        self.partitions.remove(&(a, b));
        self.partitions.remove(&(b, a));
    }

    /// Whether messages from one to the other are lost: for calls that a test makes directly, without
    /// sending a message.
    #[must_use]
    pub fn is_cut(&self, from: Actor, to: Actor) -> bool {
        from != to && self.partitions.contains(&(from, to))
    }

    /// Ends every partition and pause, and lets the network lose, double and reorder no more: what
    /// has to happen in the end happens from here on.
    pub fn calm(&mut self) {
        self.partitions.clear();
        self.paused_until.clear();
        self.network = Network::default();
    }

    /// Holds back everything for an actor, as a stopped process or a long collection does.
    pub fn pause(&mut self, actor: Actor, pause: Duration) {
        self.paused_until.insert(actor, self.clock.monotonic() + pause);
    }

    /// Ends an actor's life: its timers and what is under way to it are gone. The test drops the
    /// actor's state and makes it anew from what is durable.
    pub fn crash(&mut self, actor: Actor) {
        *self.lives.entry(actor).or_default() += 1;
        self.mishaps.crashes += 1;
        self.paused_until.remove(actor);
    }

    /// The next message or timer that is due, moving the clock to it; none when nothing is left.
    #[expect(clippy::should_implement_trait, reason = "an iterator would borrow the world")]
    pub fn next(&mut self) -> Option<Delivery<M>> {
        while let Some(Reverse(mut queued)) = self.queue.pop() {
            if self.life(queued.to) != queued.life {
                self.mishaps.dropped += 1;
                continue;
            }
            if self.is_cut(queued.from, queued.to) {
                self.mishaps.cut += 1;
                continue;
            }
            let now = self.clock.monotonic();
            let pause = self.paused_until.get(queued.to).copied();
            if let Some(until) = pause.filter(|until| *until > queued.due.max(now)) {
                queued.due = until;
                self.mishaps.paused += 1;
                self.queue.push(Reverse(queued));
                continue;
            }
            self.clock.advance(queued.due.saturating_sub(now));
            let Queued { from, to, message, order, .. } = queued;
            if from != to {
                let latest = self.latest.entry((from, to)).or_default();
                self.mishaps.overtaken += u64::from(order < *latest);
                *latest = order.max(*latest);
            }
            let delivery = Delivery { at: self.clock.now(), from, to, message };
            let mut traced = Traced { sum: self.trace, left: TRACED_BYTES_MAX };
            // It fails where the rest does not count.
            let _ = write!(traced, "{delivery:?}");
            self.trace = traced.sum;
            return Some(delivery);
        }
        None
    }

    fn life(&self, actor: Actor) -> u64 {
        self.lives.get(actor).copied().unwrap_or_default()
    }

    fn delay(&mut self) -> Duration {
        let spread = self.network.delay_max.saturating_sub(self.network.delay_min);
        let nanos = u64::try_from(spread.as_nanos()).unwrap_or(u64::MAX);
        self.network.delay_min + Duration::from_nanos(self.chance.below(nanos.saturating_add(1)))
    }

    fn enqueue(&mut self, from: Actor, to: Actor, delay: Duration, message: M) {
        self.order += 1;
        let (due, order, life) = (self.clock.monotonic() + delay, self.order, self.life(to));
        self.queue.push(Reverse(Queued { due, order, from, to, life, message }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(sim: &mut Sim<u32>) -> Vec<(Actor, u32)> {
        std::iter::from_fn(|| sim.next().map(|d| (d.to, d.message))).collect()
    }

    #[test]
    fn a_seed_gives_the_same_run() {
        let run = |seed| {
            let mut sim = Sim::new(seed);
            sim.set_network(Network {
                loss_per_mille: 100,
                duplicate_per_mille: 100,
                ..Network::default()
            });
            for number in 0..200 {
                sim.send("a", "b", number);
            }
            (drain(&mut sim), sim.trace())
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn the_trace_tells_runs_apart_by_time_actor_and_message() {
        let trace = |seconds, actor, message: u32| {
            let mut sim = Sim::new(1);
            sim.after(actor, Duration::from_secs(seconds), message);
            drain(&mut sim);
            sim.trace()
        };
        let traces = [trace(1, "a", 1), trace(2, "a", 1), trace(1, "b", 1), trace(1, "a", 2)];
        assert_eq!(traces.iter().collect::<BTreeSet<_>>().len(), 4);
        assert_eq!(traces[0], trace(1, "a", 1));
    }

    #[test]
    fn messages_overtake_each_other_and_timers_do_not() {
        let mut sim = Sim::new(3);
        for number in 0..50 {
            sim.send("a", "b", number);
        }
        let arrived: Vec<u32> = drain(&mut sim).into_iter().map(|(_, number)| number).collect();
        assert!(!arrived.is_sorted());
        for number in 0..50 {
            sim.after("a", Duration::from_millis(u64::from(number)), number);
        }
        assert!(drain(&mut sim).into_iter().map(|(_, number)| number).is_sorted());
    }

    #[test]
    fn a_crash_drops_timers_and_messages_under_way() {
        let mut sim = Sim::new(4);
        sim.send("a", "b", 1);
        sim.after("b", Duration::from_secs(1), 2);
        sim.crash("b");
        sim.send("a", "b", 3);
        assert_eq!(drain(&mut sim), [("b", 3)]);
    }

    #[test]
    fn a_partition_cuts_both_ways_until_it_heals() {
        let mut sim = Sim::new(5);
        sim.partition("a", "b");
        sim.send("a", "b", 1);
        sim.send("b", "a", 2);
        sim.send("a", "c", 3);
        assert_eq!(drain(&mut sim), [("c", 3)]);
        sim.heal("b", "a");
        sim.send("a", "b", 4);
        assert_eq!(drain(&mut sim), [("b", 4)]);
    }

    #[test]
    fn a_partition_loses_what_is_sent_or_due_while_it_lasts() {
        let mut sim = Sim::new(5);
        let travel = |secs| Network {
            delay_min: Duration::from_secs(secs),
            delay_max: Duration::from_secs(secs),
            ..Network::default()
        };
        for (secs, number) in [(5, 1), (60, 2)] {
            sim.set_network(travel(secs));
            sim.send("a", "b", number);
        }
        sim.partition("a", "b");
        sim.send("a", "b", 3);
        sim.send("b", "a", 4);
        sim.after("c", Duration::from_secs(10), 5);
        assert_eq!(sim.next().map(|due| due.message), Some(5), "what was due before is lost");
        sim.heal("a", "b");
        sim.send("a", "b", 6);
        let arrived: Vec<u32> = drain(&mut sim).into_iter().map(|(_, number)| number).collect();
        assert_eq!(arrived, [2, 6], "what is due after it arrives, but for what was sent in it");
    }

    #[test]
    fn a_partition_of_one_way_lets_answers_through() {
        let mut sim = Sim::new(5);
        sim.send("a", "b", 1);
        sim.partition_one_way("a", "b");
        sim.send("a", "b", 2);
        sim.send("b", "a", 3);
        assert!(sim.is_cut("a", "b") && !sim.is_cut("b", "a") && !sim.is_cut("a", "a"));
        assert_eq!(drain(&mut sim), [("a", 3)]);
        sim.heal("a", "b");
        sim.send("a", "b", 4);
        assert_eq!(drain(&mut sim), [("b", 4)]);
    }

    #[test]
    fn messages_are_lost_doubled_and_delayed_as_often_as_the_network_says() {
        let mut sim = Sim::new(8);
        let delay_max = Duration::from_secs(9);
        sim.set_network(Network {
            loss_per_mille: 200,
            duplicate_per_mille: 100,
            delay_max,
            ..Network::default()
        });
        (0..1000).for_each(|number| sim.send("a", "b", number));
        let start = sim.clock().now();
        let (mut times, mut latest) = (vec![0; 1000], start);
        while let Some(delivery) = sim.next() {
            times[delivery.message as usize] += 1;
            latest = delivery.at;
        }
        let arrived = |count| times.iter().filter(|it| **it == count).count();
        assert!((150..250).contains(&arrived(0)) && (50..120).contains(&arrived(2)), "{times:?}");
        let last = latest.duration_since(start).unsigned_abs();
        assert!(last > delay_max / 2 && last <= delay_max, "{last:?}");
    }

    #[test]
    fn what_goes_wrong_is_counted() {
        let mut sim = Sim::new(10);
        (0..50).for_each(|number| sim.send("a", "b", number));
        drain(&mut sim);
        let quiet = sim.mishaps();
        assert!(quiet.overtaken > 0 && quiet.overtaken < 50, "{quiet:?}");
        assert_eq!(quiet.never(), ["lost", "doubled", "cut", "paused", "crashes", "dropped"]);
        let always = |loss_per_mille, duplicate_per_mille| Network {
            loss_per_mille,
            duplicate_per_mille,
            ..Network::default()
        };
        sim.set_network(always(1000, 0));
        sim.send("a", "b", 1);
        sim.set_network(always(0, 1000));
        sim.send("a", "b", 2);
        sim.set_network(always(0, 0));
        sim.partition("a", "b");
        sim.send("a", "b", 3);
        assert!(drain(&mut sim).is_empty(), "what was under way is cut");
        sim.heal("a", "b");
        sim.pause("b", Duration::from_secs(1));
        sim.send("a", "b", 4);
        assert_eq!(drain(&mut sim).len(), 1);
        sim.after("b", Duration::from_secs(1), 5);
        sim.crash("b");
        drain(&mut sim);
        let overtaken = quiet.overtaken;
        let (lost, doubled, cut, paused) = (1, 1, 3, 1);
        let (crashes, dropped) = (1, 1);
        let all = Mishaps { lost, doubled, overtaken, cut, paused, crashes, dropped };
        assert_eq!(sim.mishaps(), all);
        assert!(all.never().is_empty());
        let mut twice = all;
        twice += all;
        assert_eq!((twice.cut, twice.overtaken), (6, 2 * overtaken));
    }

    #[test]
    fn calm_ends_what_was_wrong_with_the_world() {
        let mut sim = Sim::new(9);
        sim.set_network(Network { loss_per_mille: 1000, ..Network::default() });
        sim.partition_one_way("a", "b");
        sim.pause("b", Duration::from_secs(60));
        sim.calm();
        sim.send("a", "b", 1);
        let before = sim.clock().now();
        let delivery = sim.next().expect("it arrives");
        assert!(delivery.at.duration_since(before).as_secs() < 1);
    }

    #[test]
    fn a_paused_actor_gets_everything_later() {
        let mut sim = Sim::new(6);
        sim.pause("b", Duration::from_secs(5));
        sim.send("a", "b", 1);
        let before = sim.clock().now();
        let delivery = sim.next().expect("it arrives");
        assert_eq!(delivery.at.duration_since(before).as_secs(), 5);
    }
}
