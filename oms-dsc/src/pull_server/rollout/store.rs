//! Roll-outs in the journal: one history a configuration, kept in memory as what its events made of it.

use super::engine::Input;
use super::{
    Counts, FailureReason, Outcome, Ring, Rollout, RolloutEvent, RolloutPlan, RolloutState,
};
use crate::Error;
use crate::protocol::{AgentId, Checksum, ConfigurationName};
use crate::pull_server::PullServer;
use crate::pull_server::node::Node;
use crate::report::ReportSummary;
use jiff::{SignedDuration, Timestamp};
use oms_core::Lifecycle as _;
use oms_core::journal::{
    Append, Envelope, HistoryId, Journal, JournalError, JournalEvent as _, JournalExt, READ_MAX,
    Snapshot,
};
use serde::{Deserialize as _, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The kind of a roll-out's history; its key is the configuration's name in lower case.
pub const ROLLOUT_HISTORY: &str = "dsc-rollout";

/// The most roll-outs that run or are stopped at a time.
pub const ROLLOUTS_MAX: usize = 64;

/// The most failed nodes that a status lists.
const FAILURES_LISTED_MAX: usize = 100;

/// How often a change is tried again when another process changed the same roll-out first.
const ATTEMPTS_MAX: usize = 8;

/// Who changes it: the server itself, or its operator.
const ACTOR: &str = "local";

/// A roll-out's state is kept as a snapshot after about each so many events.
const SNAPSHOT_EVENTS: u64 = 4_096;

/// Where the roll-out of a configuration stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Of which configuration.
    pub configuration_name: ConfigurationName,
    /// Where it stands.
    pub state: RolloutState,
    /// The version that was published when it began.
    pub old: Checksum,
    /// The new version.
    pub new: Checksum,
    /// When it began.
    pub begun: Timestamp,
    /// Its rings, in order.
    pub rings: Vec<RingStatus>,
    /// Since when the newest open ring has as many successes as it needs.
    pub satisfied: Option<Timestamp>,
    /// The ring whose failures stopped it.
    pub stopped_by: Option<String>,
    /// Nodes that failed, at most 100.
    pub failures: Vec<RolloutFailure>,
}

/// Where a ring stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RingStatus {
    /// What is asked of it.
    pub ring: Ring,
    /// Whether its nodes get the new version.
    pub is_open: bool,
    /// How many nodes are in it now.
    pub nodes: usize,
    /// How many were given the new version and neither succeeded nor failed since.
    pub in_flight: u32,
    /// How many succeeded.
    pub succeeded: u32,
    /// How many failed.
    pub failed: u32,
}

/// A node that failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutFailure {
    /// Its handle, see [`Node::handle`].
    pub node: String,
    /// The name of its computer; empty if it is no node any more.
    pub node_name: String,
    /// The index of its ring.
    pub ring: usize,
    /// How it failed.
    pub why: FailureReason,
}

/// The roll-out of one configuration.
#[derive(Debug)]
struct Slot {
    name: ConfigurationName,
    current: RwLock<Rollout>,
    /// Since when nodes that were given the new version say that they have it. In no journal: after a start
    /// of the server they say it again.
    confirmed: RwLock<HashMap<AgentId, Timestamp>>,
    /// Whether the journal may hold more than is known.
    is_stale: AtomicBool,
    /// Held while it changes.
    changing: tokio::sync::Mutex<()>,
}

impl Slot {
    fn new(name: ConfigurationName) -> Self {
        let (current, confirmed) = (RwLock::default(), RwLock::default());
        let (is_stale, changing) = (AtomicBool::new(true), tokio::sync::Mutex::new(()));
        Self { name, current, confirmed, is_stale, changing }
    }

    fn read<T>(&self, read: impl FnOnce(&Rollout) -> T) -> T {
        read(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Rollout) -> T) -> T {
        write(&mut self.current.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_active(&self) -> bool {
        self.read(|rollout| rollout.state.is_active())
    }

    fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Acquire)
    }

    fn set_stale(&self, is_stale: bool) {
        self.is_stale.store(is_stale, Ordering::Release);
    }

    fn history(&self) -> Result<HistoryId, Error> {
        Ok(HistoryId::new(ROLLOUT_HISTORY, &self.name.key())?)
    }

    /// Keeps in mind whether a node says that it has the new version.
    fn confirm(&self, agent_id: AgentId, has: Option<Checksum>, now: Timestamp) {
        let is_new = self.read(|rollout| {
            let new = rollout.begun.as_ref().map(|begun| begun.new.checksum);
            has.is_some() && has == new && rollout.members.contains_key(&agent_id)
        });
        let mut confirmed = self.confirmed.write().unwrap_or_else(PoisonError::into_inner);
        match is_new {
            true => drop(confirmed.entry(agent_id).or_insert(now)),
            false => drop(confirmed.remove(&agent_id)),
        }
    }

    /// Whether a run that ended then was one with the new version, as far as can be known: it ended after
    /// the node had said that it has it. The node's clock may be off by `window`, as when it registers; runs
    /// are farther apart, so that the one before does not count.
    fn is_confirmed(
        &self,
        agent_id: AgentId,
        ended: Option<Timestamp>,
        window: SignedDuration,
    ) -> bool {
        let confirmed = self.confirmed.read().unwrap_or_else(PoisonError::into_inner);
        confirmed.get(&agent_id).is_some_and(|confirmed| {
            ended.is_none_or(|ended| ended.duration_since(*confirmed) >= -window)
        })
    }
}

/// Every roll-out of one server.
#[derive(Debug)]
pub(in crate::pull_server) struct Rollouts {
    journal: Arc<dyn Journal>,
    slots: RwLock<HashMap<String, Arc<Slot>>>,
    /// Held by what publishes, and alone by what begins a roll-out: its old version is the published one.
    pub(in crate::pull_server) publishing: tokio::sync::RwLock<()>,
}

impl Rollouts {
    /// Reads every roll-out. What they published is to be read after them, so that none is over here whose
    /// version is not.
    pub(in crate::pull_server) async fn open(journal: Arc<dyn Journal>) -> Result<Self, Error> {
        let (slots, publishing) = (RwLock::default(), tokio::sync::RwLock::default());
        let rollouts = Self { journal, slots, publishing };
        for head in rollouts.journal.list_whole(ROLLOUT_HISTORY).await? {
            let slot = rollouts.slot(&head.history.key().parse()?);
            rollouts.catch_up(&slot).await?;
            slot.set_stale(false);
        }
        Ok(rollouts)
    }

    fn slot(&self, name: &ConfigurationName) -> Arc<Slot> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Slot::new(name.clone()));
        Arc::clone(slots.entry(name.key()).or_insert_with(new))
    }

    fn find(&self, name: &ConfigurationName) -> Option<Arc<Slot>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(&name.key()).map(Arc::clone)
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Arc<Slot>> = slots.values().map(Arc::clone).collect();
        all.sort_by_key(|slot| slot.name.key());
        all
    }

    /// Whether a roll-out decides which version of a configuration nodes get.
    pub(in crate::pull_server) fn is_active(&self, name: &ConfigurationName) -> bool {
        self.find(name).is_some_and(|slot| slot.is_active())
    }

    /// The version of a configuration that a node gets now, if a roll-out decides that; the one that it
    /// would get if it asked, if `is_asking`.
    pub(in crate::pull_server) fn version_for(
        &self,
        name: &ConfigurationName,
        node: &Node,
        is_asking: bool,
    ) -> Option<Checksum> {
        self.find(name)?.read(|rollout| {
            let version = rollout.version_for(node.agent_id)?;
            let begun = rollout.begun.as_ref().filter(|_| is_asking);
            let offered = begun.filter(|begun| rollout.may_offer(begun.plan.ring_of(name, node)));
            Some(offered.map_or(version, |begun| begun.new.checksum))
        })
    }

    /// Reads the events that are not known yet.
    async fn catch_up(&self, slot: &Slot) -> Result<(), Error> {
        let history = slot.history()?;
        if slot.read(|rollout| rollout.version) == 0
            && let Some(snapshot) = self.journal.snapshot(&history).await?
            && snapshot.format == 1
            && let Ok(kept) = Rollout::deserialize(&snapshot.body)
        {
            slot.write(|rollout| *rollout = kept);
        }
        loop {
            let version = slot.read(|rollout| rollout.version);
            let events = self.journal.read(&history, version, READ_MAX).await?;
            if events.is_empty() {
                return Ok(());
            }
            for event in events {
                let opened = RolloutEvent::open(&event.envelope)?;
                let time = event.envelope.time;
                slot.write(|rollout| {
                    rollout.apply(time, opened)?;
                    rollout.version = event.version;
                    Ok(())
                })
                .map_err(|error: Error| Error::Corrupt {
                    what: history.to_string(),
                    reason: format!("event {}: {error}", event.version),
                })?;
            }
        }
    }

    async fn keep_snapshot(&self, slot: &Slot, before: u64) {
        let version = slot.read(|rollout| rollout.version);
        if before / SNAPSHOT_EVENTS == version / SNAPSHOT_EVENTS {
            return;
        }
        let (Ok(history), Ok(body)) =
            (slot.history(), slot.read(|rollout| serde_json::to_value(rollout)))
        else {
            return;
        };
        // Without a snapshot the next start reads a longer history, and nothing else.
        let kept = self.journal.save_snapshot(&history, Snapshot { version, format: 1, body });
        if let Err(error) = kept.await {
            tracing::warn!(%error, "snapshot of a roll-out not kept");
        }
    }
}

impl PullServer {
    /// Begins to give a new version of a published configuration to one ring of nodes after the other.
    ///
    /// Nodes of a ring that is not open, and those that do not ask by AgentId (protocol version 1), get the
    /// old version until the last ring has passed; then the new one is the published one. It stops by itself
    /// when more nodes of a ring have failed than may ([`Ring::failures_max`]): from then on no further node
    /// is given the new version, and those that were keep it until [`PullServer::resume_rollout`] or
    /// [`PullServer::abort_rollout`]. [`PullServer::maintain`] opens rings as time goes by.
    ///
    /// Of several servers on one journal, each gives out the old version until it knows of the roll-out
    /// ([`PullServer::refresh`]). What a node reports counts on each of them. Those that know of it never
    /// offer past a bound, because an offer that another server's is ahead of is decided anew.
    ///
    /// # Errors
    /// Those of [`PullServer::publish`]; [`Error::NotFound`] if nothing is published under the name yet;
    /// [`Error::IllegalState`] if a roll-out of it runs or is stopped; [`Error::Invalid`] for the version that
    /// is published; [`Error::LimitExceeded`] beyond [`ROLLOUTS_MAX`].
    pub async fn begin_rollout(
        &self,
        name: &str,
        document: &[u8],
        plan: RolloutPlan,
    ) -> Result<RolloutStatus, Error> {
        let new = self.keep_document(name, document).await?;
        let name = new.name.clone();
        let alone = self.rollouts.publishing.write().await;
        let missing =
            || Error::NotFound { what: "published configuration", name: name.to_string() };
        let old = self.library.configuration(&name).ok_or_else(missing)?;
        if old.checksum == new.checksum {
            let reason = "it is the published version already".to_owned();
            return Err(Error::Invalid { what: "new version of a configuration", reason });
        }
        let active = self.rollouts.all().iter().filter(|slot| slot.is_active()).count();
        if active >= ROLLOUTS_MAX {
            return Err(Error::LimitExceeded { what: "roll-outs", limit: ROLLOUTS_MAX });
        }
        let slot = self.rollouts.slot(&name);
        self.change_rollout(&slot, |rollout| {
            let begun =
                RolloutEvent::Begun { old: old.clone(), new: new.clone(), plan: plan.clone() };
            checked(&slot, rollout, begun)
        })
        .await?;
        slot.confirmed.write().unwrap_or_else(PoisonError::into_inner).clear();
        drop(alone);
        self.rollout(&name).await
    }

    /// Lets a roll-out that stopped go on. Nodes that had failed are in flight again: each has as long as it
    /// had, and counts as what its next run comes to.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IllegalState`], [`Error::Journal`].
    pub async fn resume_rollout(&self, name: &ConfigurationName) -> Result<RolloutStatus, Error> {
        self.operate(name, |_rollout| RolloutEvent::Resumed).await
    }

    /// Opens the next ring of a roll-out without waiting for the one before; behind the last one, completes
    /// it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IllegalState`], [`Error::Journal`].
    pub async fn advance_rollout(&self, name: &ConfigurationName) -> Result<RolloutStatus, Error> {
        self.operate(name, Rollout::next_ring).await
    }

    /// Takes a roll-out back: every node gets the old version when it asks next.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IllegalState`], [`Error::Journal`].
    pub async fn abort_rollout(&self, name: &ConfigurationName) -> Result<RolloutStatus, Error> {
        self.operate(name, |_rollout| RolloutEvent::Aborted).await
    }

    async fn operate(
        &self,
        name: &ConfigurationName,
        event: fn(&Rollout) -> RolloutEvent,
    ) -> Result<RolloutStatus, Error> {
        let slot = self.begun(name)?;
        self.change_rollout(&slot, |rollout| checked(&slot, rollout, event(rollout))).await?;
        self.rollout(name).await
    }

    /// The newest roll-out of a configuration.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Journal`].
    pub async fn rollout(&self, name: &ConfigurationName) -> Result<RolloutStatus, Error> {
        let slot = self.begun(name)?;
        let nodes = self.nodes.list().await?;
        self.status(&slot, &nodes).ok_or_else(|| no_rollout(name))
    }

    /// The newest roll-out of every configuration that had one, in order of name.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn rollouts(&self) -> Result<Vec<RolloutStatus>, Error> {
        let nodes = self.nodes.list().await?;
        Ok(self.rollouts.all().iter().filter_map(|slot| self.status(slot, &nodes)).collect())
    }

    fn begun(&self, name: &ConfigurationName) -> Result<Arc<Slot>, Error> {
        let slot = self.rollouts.find(name);
        slot.filter(|slot| slot.read(|rollout| rollout.begun.is_some()))
            .ok_or_else(|| no_rollout(name))
    }

    fn status(&self, slot: &Slot, nodes: &[Node]) -> Option<RolloutStatus> {
        let rollout = slot.read(Rollout::clone);
        let begun = rollout.begun.as_ref()?;
        let mut members = vec![0_usize; begun.plan.rings().len()];
        for node in nodes.iter().filter(|node| self.is_assigned(node, &slot.name)) {
            members[begun.plan.ring_of(&slot.name, node)] += 1;
        }
        let is_open = |index| rollout.state.is_active() && index <= rollout.ring;
        let rings = begun.plan.rings().iter().zip(&rollout.counts).zip(members).enumerate();
        let rings = rings.map(|(index, ((ring, counts), nodes))| {
            let Counts { in_flight, succeeded, failed } = *counts;
            let (ring, is_open) = (ring.clone(), is_open(index));
            RingStatus { ring, is_open, nodes, in_flight, succeeded, failed }
        });
        let failures = rollout.members.iter().filter_map(|(agent_id, member)| {
            let Outcome::Failed(why) = member.outcome else { return None };
            let node = nodes.iter().find(|node| node.agent_id == *agent_id);
            let node_name = node.map(|node| node.agent.node_name.clone()).unwrap_or_default();
            let node = Node::new(*agent_id).handle();
            Some(RolloutFailure { node, node_name, ring: member.ring, why })
        });
        let stopped_by = rollout.stopped.and_then(|(ring, _)| begun.plan.rings().get(ring));
        Some(RolloutStatus {
            configuration_name: begun.new.name.clone(),
            state: rollout.state,
            old: begun.old.checksum,
            new: begun.new.checksum,
            begun: begun.time,
            rings: rings.collect(),
            satisfied: rollout.satisfied,
            stopped_by: stopped_by.map(|ring| ring.name.to_string()),
            failures: failures.take(FAILURES_LISTED_MAX).collect(),
        })
    }

    fn is_assigned(&self, node: &Node, name: &ConfigurationName) -> bool {
        self.assigned(node).0.contains(name)
    }

    /// A node asks for a configuration and says what it has of it: it may be given the new version of a
    /// roll-out, which is in the journal when this returns.
    pub(in crate::pull_server) async fn rollout_asked(
        &self,
        node: &Node,
        name: &ConfigurationName,
        has: Option<Checksum>,
    ) -> Result<(), Error> {
        let Some(slot) = self.rollouts.find(name).filter(|slot| slot.is_active()) else {
            return Ok(());
        };
        let ring = slot.read(|rollout| {
            rollout.begun.as_ref().map_or(0, |begun| begun.plan.ring_of(name, node))
        });
        self.drive_rollout(&slot, Input::Asked { agent_id: node.agent_id, ring }).await?;
        slot.confirm(node.agent_id, has, self.clock.now());
        Ok(())
    }

    /// A run of a node ended. Told again it changes nothing.
    pub(in crate::pull_server) async fn rollout_reported(
        &self,
        agent_id: AgentId,
        summary: &ReportSummary,
    ) -> Result<(), Error> {
        let window = SignedDuration::from_secs(self.settings.clock_window_seconds.into());
        // It may be a member of one that another server began.
        self.refresh_rollouts().await?;
        for slot in self.rollouts.all() {
            if !slot.read(|rollout| rollout.members.contains_key(&agent_id)) {
                continue;
            }
            let is_confirmed = slot.is_confirmed(agent_id, summary.end_time, window);
            let (job_id, compliance) = (summary.job_id, summary.compliance);
            let input = Input::Reported { agent_id, job_id, compliance, is_confirmed };
            self.drive_rollout(&slot, input).await?;
        }
        Ok(())
    }

    /// Time went by: rings open, nodes are overdue, and some are no nodes of their configuration any more.
    pub(in crate::pull_server) async fn rollouts_elapsed(
        &self,
        nodes: &[Node],
    ) -> Result<(), Error> {
        for slot in self.rollouts.all().into_iter().filter(|slot| slot.is_active()) {
            let here = nodes.iter().filter(|node| self.is_assigned(node, &slot.name));
            let here: HashSet<AgentId> = here.map(|node| node.agent_id).collect();
            let gone = slot.read(|rollout| {
                let members = rollout.members.keys().copied();
                members.filter(|agent_id| !here.contains(agent_id)).collect()
            });
            self.drive_rollout(&slot, Input::Elapsed { gone }).await?;
        }
        Ok(())
    }

    /// Reads what the journal may hold of a roll-out beyond what is known: the answer to an append was lost,
    /// or another server's came first. What completed it published its version in the same step.
    async fn catch_up_with_rollout(&self, slot: &Slot) -> Result<(), Error> {
        if slot.is_stale() {
            self.library.refresh_configuration(&slot.name).await?;
            self.rollouts.catch_up(slot).await?;
            // It may have completed between the two.
            self.library.refresh_configuration(&slot.name).await?;
            slot.set_stale(false);
        }
        Ok(())
    }

    /// Reads what other servers did with every roll-out.
    pub(in crate::pull_server) async fn refresh_rollouts(&self) -> Result<(), Error> {
        for head in self.rollouts.journal.list_whole(ROLLOUT_HISTORY).await? {
            let slot = self.rollouts.slot(&head.history.key().parse()?);
            let _changing = slot.changing.lock().await;
            if slot.read(|rollout| rollout.version) != head.version {
                slot.set_stale(true);
            }
            self.catch_up_with_rollout(&slot).await?;
        }
        Ok(())
    }

    /// The same, of every roll-out of these configurations.
    pub(in crate::pull_server) async fn catch_up_with_rollouts(
        &self,
        names: &[ConfigurationName],
    ) -> Result<(), Error> {
        for name in names {
            if let Some(slot) = self.rollouts.find(name).filter(|slot| slot.is_stale()) {
                let _changing = slot.changing.lock().await;
                self.catch_up_with_rollout(&slot).await?;
            }
        }
        Ok(())
    }

    /// Does what follows from an input, to its end.
    async fn drive_rollout(&self, slot: &Slot, input: Input) -> Result<(), Error> {
        let now = self.clock.now();
        // Most of what comes in changes nothing, and waits for nobody.
        let is_idle = slot.read(|rollout| {
            rollout.step(now, &input).is_empty() && rollout.step(now, &Input::Settle).is_empty()
        });
        if is_idle && !slot.is_stale() {
            return Ok(());
        }
        self.change_rollout(slot, |rollout| Ok(rollout.step(now, &input))).await
    }

    /// Appends what `decide` makes of a roll-out as it is, and then what follows from that.
    async fn change_rollout(
        &self,
        slot: &Slot,
        decide: impl Fn(&Rollout) -> Result<Vec<RolloutEvent>, Error> + Send + Sync,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let _changing = slot.changing.lock().await;
        let before = slot.read(|rollout| rollout.version);
        self.append_to_rollout(slot, &decide).await?;
        let settle = |rollout: &Rollout| Ok(rollout.step(now, &Input::Settle));
        while self.append_to_rollout(slot, &settle).await? {}
        self.rollouts.keep_snapshot(slot, before).await;
        Ok(())
    }

    /// Whether there was something to append.
    async fn append_to_rollout(
        &self,
        slot: &Slot,
        decide: &(impl Fn(&Rollout) -> Result<Vec<RolloutEvent>, Error> + Send + Sync),
    ) -> Result<bool, Error> {
        for _ in 0..ATTEMPTS_MAX {
            self.catch_up_with_rollout(slot).await?;
            let (events, expected) = slot.read(|rollout| (decide(rollout), rollout.version));
            let events = events?;
            if events.is_empty() {
                return Ok(false);
            }
            let now = self.clock.now();
            let envelopes: Result<Vec<Envelope>, JournalError> =
                events.iter().map(|event| event.seal(now, ACTOR)).collect();
            let append = Append { history: slot.history()?, expected, events: envelopes? };
            // Until the answer is there, nobody knows what the journal holds.
            slot.set_stale(true);
            match self.append_events(slot, append, events.contains(&RolloutEvent::Completed)).await
            {
                Ok(version) => {
                    slot.write(|rollout| {
                        rollout.version = version;
                        events.into_iter().try_for_each(|event| rollout.apply(now, event))
                    })?;
                    slot.set_stale(false);
                    return Ok(true);
                }
                // Another server was first: read again and decide anew.
                Err(Error::Journal(JournalError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        let name = slot.name.to_string();
        let reason = "other servers change it all the time";
        Err(Error::IllegalState { what: "roll-out", name, reason })
    }

    /// What completes a roll-out publishes its version in the same step.
    async fn append_events(
        &self,
        slot: &Slot,
        append: Append,
        is_completed: bool,
    ) -> Result<u64, Error> {
        let new = slot.read(|rollout| rollout.begun.as_ref().map(|begun| begun.new.clone()));
        match new.filter(|_| is_completed) {
            Some(new) => {
                let version = self.library.publish_with(new, ACTOR, Some(append)).await?;
                let reason = || "the adapter answered no version".to_owned();
                version.ok_or_else(|| Error::Internal { reason: reason() })
            }
            None => {
                let Append { history, expected, events } = append;
                Ok(self.rollouts.journal.append_to(&history, expected, events).await?)
            }
        }
    }
}

/// An operator's event, if it can happen now.
fn checked(
    slot: &Slot,
    rollout: &Rollout,
    event: RolloutEvent,
) -> Result<Vec<RolloutEvent>, Error> {
    let reason = match rollout.state {
        RolloutState::New => "none has begun",
        RolloutState::Running => "it is running",
        RolloutState::Stopped => "it has stopped",
        RolloutState::Completed => "it is completed",
        RolloutState::Aborted => "it was aborted",
    };
    match rollout.state.next(event.transition()) {
        Ok(_) => Ok(vec![event]),
        Err(_) => {
            let name = slot.name.to_string();
            Err(Error::IllegalState { what: "roll-out", name, reason })
        }
    }
}

fn no_rollout(name: &ConfigurationName) -> Error {
    Error::NotFound { what: "roll-out", name: name.to_string() }
}
