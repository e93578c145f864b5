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
use oms_core::Lifecycle;
use oms_core::journal::{Event, JournalEvent as _};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Why an AgentId alone is not enough.
const OTHER_CERTIFICATE: &str = "client certificate is not the node's";

/// The kind of a node's history; its key is the AgentId in lower case.
pub const NODE_HISTORY: &str = "dsc-node";

/// The most nodes of one server.
pub const NODES_MAX: usize = 100_000;

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
    /// It called, after silence or after so long that the journal would take it for silent.
    Heard,
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
    Self::Heard => "dsc-node-heard",
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
            Self::Heard => NodeTransition::Hear,
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
    /// When this server heard of it last, or the journal if that is later: there it is every
    /// registration, every report, and else a call now and then.
    pub last_heard: Option<Timestamp>,
    /// The last of those times that the journal has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heard_kept: Option<Timestamp>,
    /// Its last finished run.
    pub last_report: Option<Arc<ReportSummary>>,
    /// Since when it may be two machines with one AgentId, and why, until an operator dismisses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_suspected: Option<(Timestamp, CloneSuspicion)>,
    #[serde(default, skip_serializing_if = "Sightings::is_empty")]
    sightings: Sightings,
    reported: VecDeque<(JobId, Checksum)>,
    signatures: VecDeque<(Timestamp, String)>,
    pub(super) version: u64,
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
            heard_kept: None,
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
    fn is_vouched_for(&self, presented: Option<&str>) -> bool {
        match presented {
            Some(presented) => {
                self.certificate.is_named(presented) || self.is_next(Some(presented))
            }
            None => !self.is_bound,
        }
    }

    /// # Errors
    /// [`Error::Unauthenticated`] if it may not.
    pub(super) fn check_vouched_for(&self, presented: Option<&str>) -> Result<(), Error> {
        match self.is_vouched_for(presented) {
            true => Ok(()),
            false => Err(Error::Unauthenticated { reason: OTHER_CERTIFICATE }),
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

    fn heard(&mut self, time: Timestamp) {
        self.last_heard = self.last_heard.max(Some(time));
        self.heard_kept = Some(time);
    }

    /// Whether a call of the node is to be kept in the journal: for other servers, and this one after a
    /// restart, not to take it for silent. One that reports is hardly ever to.
    pub(super) fn should_keep_call(&self, now: Timestamp, limit: SignedDuration) -> bool {
        let is_old = |kept: Timestamp| now.duration_since(kept) >= limit / 2;
        self.state == NodeState::Unresponsive || self.heard_kept.is_none_or(is_old)
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

    pub(super) fn apply(&mut self, time: Timestamp, event: NodeEvent) -> Result<(), Error> {
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
                self.registers_with(*certificate, is_presented);
                self.agent = agent;
                self.registration_key = registration_key;
                // Only a configuration repository's message names configurations; the others
                // leave them as they are.
                if let Some(names) = configuration_names {
                    self.registered_names = names;
                }
                self.registered = Some(time);
                self.heard(time);
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
                self.heard(time);
            }
            NodeEvent::Heard => self.heard(time),
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
            NodeEvent::CertificateRotated { certificate } => self.rotates_to(certificate),
            NodeEvent::CertificatePresented => {
                if let Some(next) = self.next_certificate.take() {
                    self.certificate = *next;
                }
            }
            NodeEvent::Removed => self.forget(),
        }
        Ok(())
    }

    /// What it registers with is presented, or never was: another than the one it had ends a
    /// rotation.
    fn registers_with(&mut self, certificate: CertificateInformation, is_presented: bool) {
        if !self.certificate.is_named(&certificate.thumbprint) {
            self.next_certificate = None;
            self.rotation_requested = None;
        }
        self.certificate = certificate;
        self.is_bound = is_presented;
    }

    /// Nobody presents one to whom TLS is of no use: then there is nothing to wait for.
    fn rotates_to(&mut self, certificate: Box<CertificateInformation>) {
        self.rotation_requested = None;
        match self.is_bound {
            true => self.next_certificate = Some(certificate),
            false => self.certificate = *certificate,
        }
    }

    /// All but what keeps an old registration from being sent again.
    fn forget(&mut self) {
        let signatures = std::mem::take(&mut self.signatures);
        let (agent_id, version) = (self.agent_id, self.version);
        *self = Self { state: self.state, signatures, version, ..Self::new(agent_id) };
    }

    pub(super) fn replay(&mut self, event: &Event) -> Result<(), Error> {
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
