//! The nodes of a fleet, as the journal has them.
//!
//! ```text
//!  request of a node ──► its place in memory ──► what the journal has beyond ──► decision
//!                        (none: the journal)                                       │
//!  other server ──► journal ◄──────────────── an event, on condition of the version ┘
//! ```
//!
//! Several servers may share a journal. What decides about a request (is it a node, with which
//! certificate, with which tags) is read up to the end of the node's history each time, so that a node
//! is one on every server as soon as one of them has answered its registration, and a certificate that
//! one server holds void is void on all. Memory spares the events before, and nothing else.

use super::node::{NODE_HISTORY, NODES_MAX, Node, NodeEvent};
use crate::Error;
use crate::protocol::{AgentId, Checksum};
use jiff::{SignedDuration, Timestamp};
use oms_core::Clock;
use oms_core::journal::{
    Append, Event, Head, HistoryId, Journal, JournalError, JournalEvent as _, JournalExt, READ_MAX,
    Snapshot,
};
use serde::Deserialize as _;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Mutex;

/// How often a change is tried again when another process changed the same node first.
const ATTEMPTS_MAX: usize = 8;

/// A node's state is kept as a snapshot after each so many events.
const SNAPSHOT_EVENTS: u64 = 64;

/// A place for one node; empty after an append of which nobody knows whether it took effect.
type Slot = Arc<Mutex<Option<Node>>>;

/// Every node of a journal.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    opened: Timestamp,
    slots: RwLock<HashMap<AgentId, Slot>>,
    /// In no journal: what was said before the server's start may be old.
    running: RwLock<HashMap<AgentId, BTreeMap<String, Checksum>>>,
}

impl Nodes {
    /// Reads every node.
    pub(super) async fn open(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let opened = clock.now();
        let (slots, running) = (RwLock::default(), RwLock::default());
        let nodes = Self { journal, clock, opened, slots, running };
        // Also to find at once what cannot be read.
        nodes.list().await?;
        Ok(nodes)
    }

    /// How long nothing has been heard of a node. A server that was down heard of nobody, so the time
    /// begins anew when it starts.
    pub(super) fn silence(&self, node: &Node) -> SignedDuration {
        let since = node.last_heard.map_or(self.opened, |heard| heard.max(self.opened));
        self.clock.now().duration_since(since)
    }

    fn slot(&self, agent_id: AgentId) -> Option<Slot> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(&agent_id).map(Arc::clone)
    }

    /// The place of a node that some server may have made. Who is none takes no place.
    async fn find(&self, agent_id: AgentId) -> Result<Slot, Error> {
        if let Some(slot) = self.slot(agent_id) {
            return Ok(slot);
        }
        let node = self.load(agent_id).await?;
        if node.version == 0 {
            return Err(not_found(agent_id));
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let place = || Arc::new(Mutex::new(Some(node)));
        Ok(Arc::clone(slots.entry(agent_id).or_insert_with(place)))
    }

    async fn load(&self, agent_id: AgentId) -> Result<Node, Error> {
        let history = history(agent_id)?;
        let mut node = Node::new(agent_id);
        if let Some(snapshot) = self.journal.snapshot(&history).await?
            && snapshot.format == 1
            && let Ok(kept) = Node::deserialize(&snapshot.body)
        {
            node = kept;
        }
        let events = self.journal.read(&history, node.version, READ_MAX).await?;
        self.replay(node, events).await
    }

    /// The node after these events and all that follow.
    async fn replay(&self, mut node: Node, mut events: Vec<Event>) -> Result<Node, Error> {
        while let Some(last) = events.last() {
            let history = last.history.clone();
            for event in &events {
                node.replay(event)?;
            }
            events = self.journal.read(&history, node.version, READ_MAX).await?;
        }
        Ok(node)
    }

    /// The node of a place up to the end of its history. The place is empty then, unless the journal
    /// could not be asked.
    async fn current(&self, agent_id: AgentId, place: &mut Option<Node>) -> Result<Node, Error> {
        let Some(node) = place.take() else { return self.load(agent_id).await };
        match self.journal.read(&history(agent_id)?, node.version, READ_MAX).await {
            Ok(events) => self.replay(node, events).await,
            Err(error) => {
                *place = Some(node);
                Err(error.into())
            }
        }
    }

    /// A registered node.
    pub(super) async fn registered(&self, agent_id: AgentId) -> Result<Node, Error> {
        self.look(agent_id, |_node| Ok(())).await
    }

    /// Whether a node in memory is such, as it was read last; not if it cannot be read now.
    pub(super) async fn is_such(
        &self,
        agent_id: AgentId,
        is_such: impl FnOnce(&Node) -> bool,
    ) -> bool {
        let Some(slot) = self.slot(agent_id) else { return false };
        let mut place = slot.lock().await;
        // Another request may have left it empty.
        if place.is_none() {
            *place = self.load(agent_id).await.ok();
        }
        place.as_ref().is_some_and(is_such)
    }

    /// A registered node that a request comes from. It counts as heard of if `is_heard`, and if the
    /// client certificate of the request, if any, may be its own.
    pub(super) async fn calling(
        &self,
        agent_id: AgentId,
        presented: Option<&str>,
        is_heard: bool,
    ) -> Result<Node, Error> {
        let heard = self.clock.now();
        let look = |node: &mut Node| {
            node.check_vouched_for(presented)?;
            if is_heard {
                node.last_heard = Some(heard);
            }
            Ok(())
        };
        self.look(agent_id, look).await
    }

    /// Keeps in mind what a node said that it has, by the key of each name.
    pub(super) fn note(&self, agent_id: AgentId, has: BTreeMap<String, Checksum>) {
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        running.insert(agent_id, has);
    }

    /// What a node said that it has when it asked last.
    pub(super) fn running(&self, agent_id: AgentId) -> BTreeMap<String, Checksum> {
        let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
        running.get(&agent_id).cloned().unwrap_or_default()
    }

    /// Forgets what a node said, which is no longer one.
    pub(super) fn forget(&self, agent_id: AgentId) {
        self.running.write().unwrap_or_else(PoisonError::into_inner).remove(&agent_id);
    }

    /// The node as `look` leaves it, if it is registered.
    async fn look(
        &self,
        agent_id: AgentId,
        look: impl FnOnce(&mut Node) -> Result<(), Error>,
    ) -> Result<Node, Error> {
        let slot = self.find(agent_id).await?;
        let mut place = slot.lock().await;
        let node = self.current(agent_id, &mut place).await?;
        let node = place.insert(node);
        if !node.is_registered() {
            return Err(not_found(agent_id));
        }
        look(node)?;
        Ok(node.clone())
    }

    /// Every registered node, in order of identity. Of those that did not change only the version is
    /// read.
    pub(super) async fn list(&self) -> Result<Vec<Node>, Error> {
        let mut nodes = Vec::new();
        for Head { history, version } in self.journal.list_whole(NODE_HISTORY).await? {
            let agent_id = history.key().parse()?;
            let slot = match self.find(agent_id).await {
                // Deleted since it was listed.
                Err(Error::NotFound { .. }) => continue,
                found => found?,
            };
            let mut place = slot.lock().await;
            let node = match place.take() {
                Some(node) if node.version >= version => node,
                known => {
                    *place = known;
                    self.current(agent_id, &mut place).await?
                }
            };
            let node = place.insert(node);
            if node.is_registered() {
                nodes.push(node.clone());
            }
        }
        nodes.sort_by_key(|node| node.agent_id);
        Ok(nodes)
    }

    /// Makes room for a node that registers for the first time.
    pub(super) fn admit(&self, agent_id: AgentId) -> Result<(), Error> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= NODES_MAX && !slots.contains_key(&agent_id) {
            return Err(Error::LimitExceeded { what: "nodes", limit: NODES_MAX });
        }
        let place = || Arc::new(Mutex::new(Some(Node::new(agent_id))));
        slots.entry(agent_id).or_insert_with(place);
        Ok(())
    }

    /// Appends what `decide` makes of the node as it is; nothing if that is none.
    pub(super) async fn change(
        &self,
        agent_id: AgentId,
        actor: &str,
        decide: impl Fn(&Node) -> Result<Option<NodeEvent>, Error> + Send,
    ) -> Result<Node, Error> {
        self.change_with(agent_id, actor, &[], decide).await
    }

    /// The same, together with other appends and conditions: all or none.
    ///
    /// # Errors
    /// [`JournalError::Conflict`] names one of the others that does not hold; those of `decide`.
    pub(super) async fn change_with(
        &self,
        agent_id: AgentId,
        actor: &str,
        others: &[Append],
        decide: impl Fn(&Node) -> Result<Option<NodeEvent>, Error> + Send,
    ) -> Result<Node, Error> {
        let own = history(agent_id)?;
        let slot = self.find(agent_id).await?;
        let mut place = slot.lock().await;
        // What the append says of the version is worth as much as a read before it.
        let mut is_current = false;
        for _ in 0..ATTEMPTS_MAX {
            let node = match place.take() {
                Some(node) if !is_current => node,
                known => {
                    *place = known;
                    is_current = true;
                    self.current(agent_id, &mut place).await?
                }
            };
            match decide(&node) {
                Ok(Some(event)) => match self.append(&node, actor, event, others).await {
                    Ok(changed) => return Ok(place.insert(changed).clone()),
                    // Another process was first: read what it did and decide anew.
                    Err(Error::Journal(JournalError::Conflict { history, .. }))
                        if history == own =>
                    {
                        *place = Some(node);
                        is_current = true;
                    }
                    Err(error) => return Err(error),
                },
                outcome if is_current => {
                    let node = place.insert(node).clone();
                    return outcome.map(|_nothing| node);
                }
                // Nothing is written that would tell whether this is the end of its history.
                Ok(None) | Err(_) => {
                    *place = Some(node);
                    is_current = true;
                }
            }
        }
        Err(Error::Internal { reason: format!("node {agent_id} changes too fast") })
    }

    async fn append(
        &self,
        node: &Node,
        actor: &str,
        event: NodeEvent,
        others: &[Append],
    ) -> Result<Node, Error> {
        let now = self.clock.now();
        let envelope = event.seal(now, actor)?;
        let mut changed = node.clone();
        changed.apply(now, event)?;
        let history = history(node.agent_id)?;
        let own =
            Append { history: history.clone(), expected: node.version, events: vec![envelope] };
        let appends = [&[own], others].concat();
        self.journal.append(appends).await?;
        changed.version = node.version + 1;
        if changed.version.is_multiple_of(SNAPSHOT_EVENTS)
            && let Ok(body) = serde_json::to_value(&changed)
        {
            let snapshot = Snapshot { version: changed.version, format: 1, body };
            // Without a snapshot the next start reads a longer history, and nothing else.
            if let Err(error) = self.journal.save_snapshot(&history, snapshot).await {
                tracing::warn!(%error, "snapshot of a node not kept");
            }
        }
        Ok(changed)
    }
}

pub(super) fn not_found(agent_id: AgentId) -> Error {
    Error::NotFound { what: "node", name: agent_id.to_string() }
}

fn history(agent_id: AgentId) -> Result<HistoryId, Error> {
    Ok(HistoryId::new(NODE_HISTORY, &agent_id.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{AgentInformation, CertificateInformation, RegistrationMessageType};
    use oms_core::clock::ManualClock;
    use oms_core::journal::MemoryJournal;
    use oms_core::testkit::fault::{Faults, Faulty};

    #[tokio::test]
    async fn a_node_whose_place_a_lost_answer_emptied_is_read_again() {
        let faults = Arc::new(Faults::new(1));
        let journal = Arc::new(Faulty::new(MemoryJournal::default(), Arc::clone(&faults)));
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let nodes = Nodes::open(journal, clock).await.expect("opens");
        let agent_id = AgentId(uuid::Uuid::from_u128(1));
        let registered = NodeEvent::Registered {
            message_type: RegistrationMessageType::ConfigurationRepository,
            agent: AgentInformation::default(),
            certificate: Box::new(CertificateInformation::default()),
            configuration_names: None,
            signed: Timestamp::UNIX_EPOCH,
            signature: "a signature".to_owned(),
            is_presented: false,
            registration_key: None,
        };
        nodes.admit(agent_id).expect("there is room");
        let change = |event: NodeEvent| {
            let decide = move |_: &Node| Ok(Some(event.clone()));
            nodes.change(agent_id, "tests", decide)
        };
        change(registered).await.expect("registered");
        faults.set_after(1_000);
        change(NodeEvent::RotationRequested).await.expect_err("its answer is lost");
        faults.calm();
        let is_asked = |node: &Node| node.rotation_requested.is_some();
        assert!(nodes.is_such(agent_id, is_asked).await);

        faults.set_after(1_000);
        change(NodeEvent::RotationRequested).await.expect_err("its answer is lost");
        faults.set_before(1_000);
        assert!(!nodes.is_such(agent_id, is_asked).await, "it cannot be read");
    }
}
