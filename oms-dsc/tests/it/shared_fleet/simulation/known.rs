//! What is known of one node and of one key, and what requests say.

use super::audit::RESOURCE;
use jiff::Timestamp;
use oms_dsc::protocol::{AgentId, Checksum, JobId, Operation, Request};
use oms_dsc::pull_server::{ConfigurationPattern, Node, NodeEvent, NodeState, RegistrationKeyId};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one node, at one position of the journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    pub(super) is_registered: bool,
    pub(super) certificate: String,
    pub(super) is_bound: bool,
    pub(super) next: Option<String>,
    pub(super) is_asked: bool,
    pub(super) is_suspected: bool,
    pub(super) is_silent: bool,
    pub(super) key: Option<RegistrationKeyId>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) node_name: String,
    pub(super) is_in_state: Option<bool>,
    /// What it registered with since it was last taken out.
    signatures: BTreeSet<String>,
    pub(super) reported: BTreeSet<(JobId, Checksum)>,
}

impl Known {
    /// Whether a request with this certificate may be its own.
    pub(super) fn is_vouched_for(&self, presented: Option<&str>) -> bool {
        let is_named = |presented: &str| {
            self.certificate == presented || self.next.as_deref() == Some(presented)
        };
        self.is_registered && presented.map_or(!self.is_bound, is_named)
    }

    /// Whether that registration is what it is by.
    pub(super) fn stands(&self, registration: &Registration) -> bool {
        self.is_registered
            && self.certificate == registration.named
            && self.is_bound == registration.is_presented
            && self.key == registration.key
            && self.signatures.contains(&registration.signature)
    }

    pub(super) fn apply(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Registered {
                agent,
                certificate,
                signature,
                is_presented,
                registration_key,
                ..
            } => {
                if self.certificate != certificate.thumbprint {
                    (self.next, self.is_asked) = (None, false);
                }
                self.is_registered = true;
                self.certificate = certificate.thumbprint;
                self.is_bound = is_presented;
                self.key = registration_key;
                self.node_name = agent.node_name;
                self.signatures.insert(signature);
            }
            NodeEvent::Tagged { tags } => {
                self.tags =
                    tags.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
            }
            NodeEvent::Reported { summary, message } => {
                self.reported.insert((summary.job_id, message));
                let found = summary.resources.iter().find(|r| r.resource_id == RESOURCE);
                self.is_in_state = found.map(|resource| resource.in_desired_state);
                self.is_silent = false;
            }
            NodeEvent::RotationRequested => (self.is_asked, self.next) = (true, None),
            NodeEvent::CertificateRotated { certificate } => {
                self.is_asked = false;
                match self.is_bound {
                    true => self.next = Some(certificate.thumbprint),
                    false => self.certificate = certificate.thumbprint,
                }
            }
            NodeEvent::CertificatePresented => {
                self.certificate = self.next.take().unwrap_or_default();
            }
            NodeEvent::CloneSuspected { .. } => self.is_suspected = true,
            NodeEvent::CloneDismissed => self.is_suspected = false,
            NodeEvent::Heard => self.is_silent = false,
            NodeEvent::FellSilent { .. } => self.is_silent = true,
            NodeEvent::Removed => *self = Self::default(),
            _ => {}
        }
    }

    /// Where it differs from what a server says of it.
    pub(super) fn differs(&self, node: &Node) -> Option<String> {
        let tags: BTreeMap<String, String> =
            node.tags.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let said = (
            node.certificate.thumbprint.as_str(),
            node.next_certificate.as_ref().map(|next| next.thumbprint.as_str()),
            node.is_bound,
            node.rotation_requested.is_some(),
            node.clone_suspected.is_some(),
            node.state == NodeState::Unresponsive,
            node.registration_key,
            &tags,
        );
        let known = (
            self.certificate.as_str(),
            self.next.as_deref(),
            self.is_bound,
            self.is_asked,
            self.is_suspected,
            self.is_silent,
            self.key,
            &self.tags,
        );
        (said != known).then(|| format!("it says {said:?}, and the journal {known:?}"))
    }
}

/// A registration key; the one that servers are given is none of the journal and never ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Key {
    pub(super) is_revoked: bool,
    pub(super) removes_nodes: bool,
    /// Whether it is for other configurations than those of this world's nodes.
    pub(super) is_foreign: bool,
    expires: Option<Timestamp>,
}

impl Key {
    pub(super) fn new(scope: &[ConfigurationPattern], expires: Option<Timestamp>) -> Self {
        let web = "Web".parse().expect("a name");
        let is_foreign = !scope.is_empty() && !scope.iter().any(|pattern| pattern.covers(&web));
        Self { is_foreign, expires, ..Self::default() }
    }

    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// What a registration says, as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    pub(super) agent_id: AgentId,
    pub(super) signature: String,
    pub(super) date: Timestamp,
    pub(super) named: String,
    pub(super) is_presented: bool,
    /// What signed it; none for the key that servers are given.
    pub(super) key: Option<RegistrationKeyId>,
}

impl Registration {
    pub(super) fn of(agent_id: AgentId, request: &Request, key: Option<RegistrationKeyId>) -> Self {
        let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        let named = &body["RegistrationInformation"]["CertificateInformation"]["Thumbprint"];
        let date = request.headers.x_ms_date.as_deref().expect("it is dated");
        Self {
            agent_id,
            signature: Self::signature(request).expect("it is signed"),
            date: date.parse().expect("a date"),
            named: named.as_str().expect("a thumbprint").to_owned(),
            is_presented: request.headers.certificate_thumbprint.is_some(),
            key,
        }
    }

    /// What a request is signed with, if it is.
    pub(super) fn signature(request: &Request) -> Option<String> {
        let header = request.headers.authorization.as_deref()?;
        Some(header.trim_start_matches("Shared ").to_owned())
    }
}

/// The thumbprint that a rotation gives.
pub(super) fn given(request: &Request) -> String {
    let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    let given = body["CertificateInformation"]["Thumbprint"].as_str();
    given.expect("a thumbprint").to_owned()
}

/// The run that a report tells of.
pub(super) fn job(request: &Request) -> JobId {
    let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    body["JobId"].as_str().expect("a JobId").parse().expect("a JobId")
}

/// The run whose end a report tells, with the checksum of the message; none of any other request.
pub(super) fn ended(request: &Request) -> Option<(JobId, Checksum)> {
    if !matches!(request.operation, Operation::SendReport { .. }) {
        return None;
    }
    let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    body.get("EndTime").is_some().then(|| (job(request), Checksum::of(&request.body)))
}
