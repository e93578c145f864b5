//! Registered nodes: one history each, kept in memory as what their events made of them.

use super::name::TagName;
use super::registration_key::RegistrationKeyId;
use super::sighting::{CloneSuspicion, Sightings};
use super::state::{NodeState, NodeTransition};
use crate::Error;
use crate::protocol::{
    AgentId, AgentInformation, CertificateInformation, Checksum, ConfigurationName, JobId,
    RegistrationMessageType,
};
use crate::report::{Compliance, ReportSummary};
use jiff::{SignedDuration, Timestamp};
use oms_core::journal::{
    Append, Event, HistoryId, Journal, JournalError, JournalEvent as _, JournalExt, READ_MAX,
    Snapshot,
};
use oms_core::{Clock, Lifecycle};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Mutex;

/// Why an AgentId alone is not enough.
const OTHER_CERTIFICATE: &str = "client certificate is not the node's";

/// The kind of a node's history; its key is the AgentId in lower case.
pub const NODE_HISTORY: &str = "dsc-node";

/// The most nodes of one server.
pub const NODES_MAX: usize = 100_000;

/// How often a change is tried again when another process changed the same node first.
const ATTEMPTS_MAX: usize = 8;

/// A node's state is kept as a snapshot after each so many events.
const SNAPSHOT_EVENTS: u64 = 64;

/// The most reported messages and signatures that a node remembers to notice repeats.
const REMEMBERED_MAX: usize = 64;

/// What can happen to a node, with its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NodeEvent {
    /// It registered.
    Registered {
        /// What it wants of this server.
        message_type: RegistrationMessageType,
        /// Its computer.
        agent: AgentInformation,
        /// Its certificate.
        certificate: Box<CertificateInformation>,
        /// The configurations it wants; none in messages that do not name any.
        configuration_names: Option<Vec<ConfigurationName>>,
        /// `x-ms-date` of the message.
        signed: Timestamp,
        /// Its signature, so that it is refused if it comes again, also after a restart.
        signature: String,
        /// Whether TLS presented the certificate with the message.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_presented: bool,
        /// Which of the keys that are kept signed it; none if it was one given at the server's start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        registration_key: Option<RegistrationKeyId>,
    },
    /// An operator gave it configurations, in place of those it registered for.
    Assigned {
        /// Which; none gives back what the node registered for.
        configuration_names: Vec<ConfigurationName>,
    },
    /// An operator set its tags, in place of those that it had.
    Tagged {
        /// All of them.
        tags: BTreeMap<TagName, String>,
    },
    /// A run ended.
    Reported {
        /// How.
        summary: Arc<ReportSummary>,
        /// Checksum of the message that told, so that a repeat is noticed.
        message: Checksum,
    },
    /// It was not heard of for too long.
    FellSilent {
        /// When it was heard of last.
        last_heard: Timestamp,
    },
    /// An operator asked it to rotate its certificate; a rotation that it began before is void.
    RotationRequested,
    /// It gave a new certificate.
    CertificateRotated {
        /// Which.
        certificate: Box<CertificateInformation>,
    },
    /// TLS presented the new certificate: the old one is void.
    CertificatePresented,
    /// It may be two machines with one AgentId.
    CloneSuspected {
        /// The name of the computer that was seen last.
        node_name: String,
        /// Why.
        suspicion: CloneSuspicion,
    },
    /// An operator found that it is one machine.
    CloneDismissed,
    /// An operator took it out.
    Removed,
}

oms_core::journal_event!(NodeEvent, format 1, whole, {
    Self::Registered { .. } => "dsc-node-registered",
    Self::Assigned { .. } => "dsc-node-assigned",
    Self::Tagged { .. } => "dsc-node-tagged",
    Self::Reported { .. } => "dsc-node-reported",
    Self::FellSilent { .. } => "dsc-node-fell-silent",
    Self::RotationRequested => "dsc-node-rotation-requested",
    Self::CertificateRotated { .. } => "dsc-node-certificate-rotated",
    Self::CertificatePresented => "dsc-node-certificate-presented",
    Self::CloneSuspected { .. } => "dsc-node-clone-suspected",
    Self::CloneDismissed => "dsc-node-clone-dismissed",
    Self::Removed => "dsc-node-removed",
});

impl NodeEvent {
    fn transition(&self) -> NodeTransition {
        match self {
            Self::Registered { .. } => NodeTransition::Register,
            Self::Assigned { .. } => NodeTransition::Assign,
            Self::Tagged { .. } => NodeTransition::Tag,
            Self::Reported { summary, .. } => match summary.compliance {
                Compliance::Compliant => NodeTransition::ReportCompliant,
                Compliance::NotCompliant => NodeTransition::ReportNotCompliant,
                Compliance::Failed => NodeTransition::ReportFailed,
            },
            Self::FellSilent { .. } => NodeTransition::FallSilent,
            Self::RotationRequested
            | Self::CertificateRotated { .. }
            | Self::CertificatePresented => NodeTransition::Rotate,
            Self::CloneSuspected { .. } => NodeTransition::SuspectClone,
            Self::CloneDismissed => NodeTransition::DismissClone,
            Self::Removed => NodeTransition::Remove,
        }
    }
}

/// A node, as its events made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its identity.
    pub agent_id: AgentId,
    /// Where it stands.
    pub state: NodeState,
    /// Its computer.
    pub agent: AgentInformation,
    /// The certificate it registered with last.
    pub certificate: CertificateInformation,
    /// Whether TLS presented that certificate then: it must with every request since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_bound: bool,
    /// The certificate that is to take its place, given and not presented yet: until then both are
    /// good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_certificate: Option<Box<CertificateInformation>>,
    /// When an operator asked it to rotate its certificate, until it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_requested: Option<Timestamp>,
    /// Which of the keys that are kept it registered with last; none if it was one given at the
    /// server's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_key: Option<RegistrationKeyId>,
    /// What it registered for.
    pub registered_names: Vec<ConfigurationName>,
    /// What an operator assigned instead; empty if nothing.
    pub assigned_names: Vec<ConfigurationName>,
    /// What an operator says of it, for rules and rings to go by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<TagName, String>,
    /// When it registered last.
    pub registered: Option<Timestamp>,
    /// When it was heard of last; after the server's start, when it last registered or reported.
    pub last_heard: Option<Timestamp>,
    /// Its last finished run.
    pub last_report: Option<Arc<ReportSummary>>,
    /// Since when it may be two machines with one AgentId, and why, until an operator dismisses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_suspected: Option<(Timestamp, CloneSuspicion)>,
    #[serde(default, skip_serializing_if = "Sightings::is_empty")]
    sightings: Sightings,
    reported: VecDeque<(JobId, Checksum)>,
    signatures: VecDeque<(Timestamp, String)>,
    version: u64,
}

impl Node {
    pub(super) fn new(agent_id: AgentId) -> Self {
        Self {
            agent_id,
            state: NodeState::New,
            agent: AgentInformation::default(),
            certificate: CertificateInformation::default(),
            is_bound: false,
            next_certificate: None,
            rotation_requested: None,
            registration_key: None,
            registered_names: Vec::new(),
            assigned_names: Vec::new(),
            tags: BTreeMap::new(),
            registered: None,
            last_heard: None,
            last_report: None,
            clone_suspected: None,
            sightings: Sightings::default(),
            reported: VecDeque::new(),
            signatures: VecDeque::new(),
            version: 0,
        }
    }

    /// What it is called where its AgentId, which is a secret, is not to be seen: ten hexadecimal
    /// digits, the same ever after. Two of a million nodes have the same about once.
    #[must_use]
    pub fn handle(&self) -> String {
        let text = format!("handle of the node {}", self.agent_id);
        Checksum::of(text.as_bytes()).to_string().to_lowercase().chars().take(10).collect()
    }

    /// Whether it is registered and was not taken out.
    #[must_use]
    pub const fn is_registered(&self) -> bool {
        !matches!(self.state, NodeState::New | NodeState::Removed)
    }

    /// Whether a request that comes with this client certificate, if any, may be the node's.
    pub(super) fn is_vouched_for(&self, presented: Option<&str>) -> bool {
        match presented {
            Some(presented) => {
                self.certificate.is_named(presented) || self.is_next(Some(presented))
            }
            None => !self.is_bound,
        }
    }

    /// Whether that is the certificate which is to take the place of the one it has.
    pub(super) fn is_next(&self, presented: Option<&str>) -> bool {
        let next = self.next_certificate.as_ref().zip(presented);
        next.is_some_and(|(next, presented)| next.is_named(presented))
    }

    /// Whether it should rotate its certificate: an operator asked for it, or TLS asks it for one
    /// that ends before `ends`.
    pub(super) fn should_rotate(&self, ends: Option<Timestamp>) -> bool {
        let is_ending = self.certificate.ends().zip(ends).is_some_and(|(end, limit)| end < limit);
        let is_due = self.rotation_requested.is_some() || (self.is_bound && is_ending);
        is_due && self.next_certificate.is_none()
    }

    /// Why it may be two machines now, if that was not told before.
    pub(super) fn new_suspicion(&self, now: Timestamp) -> Option<CloneSuspicion> {
        if self.clone_suspected.is_some() {
            return None;
        }
        self.sightings.suspicion(now)
    }

    /// Whether the end of that run was told by that message already.
    pub(super) fn has_reported(&self, job_id: JobId, message: Checksum) -> bool {
        self.reported.contains(&(job_id, message))
    }

    /// Recent signatures of its registrations with their dates.
    pub(super) fn signatures(&self) -> impl Iterator<Item = &(Timestamp, String)> {
        self.signatures.iter()
    }

    fn apply(&mut self, time: Timestamp, event: NodeEvent) -> Result<(), Error> {
        let internal =
            |error: &dyn std::fmt::Display| Error::Internal { reason: error.to_string() };
        self.state = self.state.next(event.transition()).map_err(|error| internal(&error))?;
        match event {
            NodeEvent::Registered {
                agent,
                certificate,
                configuration_names,
                signed,
                signature,
                is_presented,
                registration_key,
                message_type: _,
            } => {
                self.sightings.registered(time, &agent, &certificate);
                // What it registers with is presented, or never was: another than the one it had ends
                // a rotation.
                if !self.certificate.is_named(&certificate.thumbprint) {
                    self.next_certificate = None;
                    self.rotation_requested = None;
                }
                self.agent = agent;
                self.certificate = *certificate;
                self.is_bound = is_presented;
                self.registration_key = registration_key;
                // Only a configuration repository's message names configurations; the others
                // leave them as they are.
                if let Some(names) = configuration_names {
                    self.registered_names = names;
                }
                self.registered = Some(time);
                self.last_heard = Some(time);
                remember(&mut self.signatures, (signed, signature));
            }
            NodeEvent::Assigned { configuration_names } => {
                self.assigned_names = configuration_names;
            }
            NodeEvent::Tagged { tags } => self.tags = tags,
            NodeEvent::Reported { summary, message } => {
                self.sightings.reported(time, &summary);
                remember(&mut self.reported, (summary.job_id, message));
                self.last_report = Some(summary);
                self.last_heard = Some(time);
            }
            NodeEvent::FellSilent { .. } => {}
            NodeEvent::CloneSuspected { suspicion, .. } => {
                self.clone_suspected = Some((time, suspicion));
            }
            NodeEvent::CloneDismissed => {
                self.clone_suspected = None;
                self.sightings = Sightings::default();
            }
            NodeEvent::RotationRequested => {
                self.rotation_requested = Some(time);
                self.next_certificate = None;
            }
            NodeEvent::CertificateRotated { certificate } => {
                self.rotation_requested = None;
                // Nobody presents one to whom TLS is of no use: then there is nothing to wait for.
                match self.is_bound {
                    true => self.next_certificate = Some(certificate),
                    false => self.certificate = *certificate,
                }
            }
            NodeEvent::CertificatePresented => {
                if let Some(next) = self.next_certificate.take() {
                    self.certificate = *next;
                }
            }
            NodeEvent::Removed => {
                let signatures = std::mem::take(&mut self.signatures);
                let (agent_id, version) = (self.agent_id, self.version);
                *self = Self { state: self.state, signatures, version, ..Self::new(agent_id) };
            }
        }
        Ok(())
    }

    fn replay(&mut self, event: &Event) -> Result<(), Error> {
        let opened = NodeEvent::open(&event.envelope)?;
        self.apply(event.envelope.time, opened).map_err(|error| Error::Corrupt {
            what: event.history.to_string(),
            reason: format!("event {}: {error}", event.version),
        })?;
        self.version = event.version;
        Ok(())
    }
}

fn remember<T>(recent: &mut VecDeque<T>, item: T) {
    if recent.len() == REMEMBERED_MAX {
        recent.pop_front();
    }
    recent.push_back(item);
}

/// A place for one node; empty after an append of which nobody knows whether it took effect.
type Slot = Arc<Mutex<Option<Node>>>;

/// Every node of one server.
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
        for head in nodes.journal.list_whole(NODE_HISTORY).await? {
            let agent_id = head.history.key().parse()?;
            let node = nodes.load(agent_id).await?;
            nodes.insert(agent_id, node);
        }
        Ok(nodes)
    }

    /// How long nothing has been heard of a node. A server that was down heard of nobody, so the time
    /// begins anew when it starts.
    pub(super) fn silence(&self, node: &Node) -> SignedDuration {
        let since = node.last_heard.map_or(self.opened, |heard| heard.max(self.opened));
        self.clock.now().duration_since(since)
    }

    fn insert(&self, agent_id: AgentId, node: Node) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.insert(agent_id, Arc::new(Mutex::new(Some(node))));
    }

    fn slot(&self, agent_id: AgentId) -> Option<Slot> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(&agent_id).map(Arc::clone)
    }

    fn all(&self) -> Vec<(AgentId, Slot)> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().map(|(agent_id, slot)| (*agent_id, Arc::clone(slot))).collect()
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
        loop {
            let events = self.journal.read(&history, node.version, READ_MAX).await?;
            if events.is_empty() {
                return Ok(node);
            }
            for event in &events {
                node.replay(event)?;
            }
        }
    }

    /// A registered node.
    pub(super) async fn registered(&self, agent_id: AgentId) -> Result<Node, Error> {
        self.look(agent_id, |_node| Ok(())).await
    }

    /// Whether a node in memory is such.
    pub(super) async fn is_such(
        &self,
        agent_id: AgentId,
        is_such: impl FnOnce(&Node) -> bool,
    ) -> bool {
        let Some(slot) = self.slot(agent_id) else { return false };
        slot.lock().await.as_ref().is_some_and(is_such)
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
            if !node.is_vouched_for(presented) {
                return Err(Error::Unauthenticated { reason: OTHER_CERTIFICATE });
            }
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
        let not_found = || Error::NotFound { what: "node", name: agent_id.to_string() };
        let slot = self.slot(agent_id).ok_or_else(not_found)?;
        let mut place = slot.lock().await;
        let node = match place.take() {
            Some(node) => node,
            None => self.load(agent_id).await?,
        };
        let node = place.insert(node);
        if !node.is_registered() {
            return Err(not_found());
        }
        look(node)?;
        Ok(node.clone())
    }

    /// Every registered node, in order of identity.
    pub(super) async fn list(&self) -> Result<Vec<Node>, Error> {
        let mut nodes = Vec::new();
        for (agent_id, _) in self.all() {
            match self.registered(agent_id).await {
                Ok(node) => nodes.push(node),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
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
        let not_found = || Error::NotFound { what: "node", name: agent_id.to_string() };
        let slot = self.slot(agent_id).ok_or_else(not_found)?;
        let mut place = slot.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            let node = match place.take() {
                Some(node) => node,
                None => self.load(agent_id).await?,
            };
            let event = match decide(&node) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(place.insert(node).clone()),
                Err(error) => {
                    *place = Some(node);
                    return Err(error);
                }
            };
            match self.append(&node, actor, event, others).await {
                Ok(changed) => return Ok(place.insert(changed).clone()),
                // Another process was first: read again and decide anew.
                Err(Error::Journal(JournalError::Conflict { history, .. })) if history == own => {}
                Err(error) => return Err(error),
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

fn history(agent_id: AgentId) -> Result<HistoryId, Error> {
    Ok(HistoryId::new(NODE_HISTORY, &agent_id.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_the_first_format_kept_is_read() {
        let body = include_str!("../../tests/fixtures/snapshots/dsc-node-1.json");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let node = Node::deserialize(&body).expect("a node");
        assert_eq!((node.state, node.version), (NodeState::Compliant, 3));
        assert_eq!(node.agent.node_name, "node-a");
        assert_eq!(node.registered_names[0].as_str(), "Web");
        assert_eq!(node.last_report.as_ref().map(|report| report.resource_count), Some(1));
        assert_eq!((node.reported.len(), node.signatures.len()), (1, 2));
        assert_eq!(serde_json::to_value(&node).expect("JSON"), body);
    }
}
