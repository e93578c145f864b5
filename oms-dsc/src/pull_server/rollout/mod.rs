//! A new version of a configuration, given to one ring of nodes after the other.
//!
//! ```text
//!  begin ─► ring 1 open ─► enough nodes succeeded, for long enough ─► ring 2 open ─► … ─► completed: published
//!                │
//!                └─► more nodes failed than may ─► stopped ─► resume, or abort: the old version again
//! ```
//!
//! A node asks with `GetDscAction`. If its ring is open and may have one more node, that it is given the new
//! version is in the journal before it is answered; every other node is told of the old one. Reports do not
//! say which version was applied, so a success is a good run that ended after the node had said that it has
//! the new version; a failure is every other run that was reported after it was given, so that none is missed.

mod engine;

mod plan;

mod state;

mod store;

pub use plan::{RINGS_MAX, ROLLOUT_PLAN_BYTES_MAX, Ring, RolloutPlan};
pub use state::{RolloutState, RolloutTransition};
pub(super) use store::Rollouts;
pub use store::{ROLLOUT_HISTORY, ROLLOUTS_MAX, RingStatus, RolloutFailure, RolloutStatus};

use super::content::PublishedConfiguration;
use crate::Error;
use crate::protocol::{AgentId, Checksum, JobId};
use jiff::Timestamp;
use oms_core::Lifecycle;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What can happen to a roll-out, with its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum RolloutEvent {
    /// An operator began it; its first ring is open.
    Begun {
        /// The published version, which nodes get back if it is aborted.
        old: PublishedConfiguration,
        /// The new version.
        new: PublishedConfiguration,
        /// Its rings.
        plan: RolloutPlan,
    },
    /// A node is given the new version from now on.
    Offered {
        /// Which.
        agent_id: AgentId,
        /// The index of its ring.
        ring: usize,
    },
    /// A node that has the new version had a good run.
    Succeeded {
        /// Which.
        agent_id: AgentId,
        /// The run.
        job_id: JobId,
    },
    /// A node that was given the new version failed.
    Failed {
        /// Which.
        agent_id: AgentId,
        /// How.
        why: FailureReason,
    },
    /// A node that was given the new version is none of the configuration any more.
    Left {
        /// Which.
        agent_id: AgentId,
    },
    /// A ring opened: the one before it passed, or an operator did not wait for that.
    RingOpened {
        /// Its index.
        ring: usize,
    },
    /// The failures of a ring passed their bound.
    Stopped {
        /// The index of the ring.
        ring: usize,
        /// How many of its nodes had failed.
        failures: u32,
    },
    /// An operator let it go on; nodes that had failed are in flight again.
    Resumed,
    /// The last ring passed; the new version is published with this event.
    Completed,
    /// An operator took it back.
    Aborted,
}

oms_core::journal_event!(RolloutEvent, format 1, whole, {
    Self::Begun { .. } => "dsc-rollout-begun",
    Self::Offered { .. } => "dsc-rollout-offered",
    Self::Succeeded { .. } => "dsc-rollout-succeeded",
    Self::Failed { .. } => "dsc-rollout-failed",
    Self::Left { .. } => "dsc-rollout-left",
    Self::RingOpened { .. } => "dsc-rollout-ring-opened",
    Self::Stopped { .. } => "dsc-rollout-stopped",
    Self::Resumed => "dsc-rollout-resumed",
    Self::Completed => "dsc-rollout-completed",
    Self::Aborted => "dsc-rollout-aborted",
});

impl RolloutEvent {
    const fn transition(&self) -> RolloutTransition {
        match self {
            Self::Begun { .. } => RolloutTransition::Begin,
            Self::Offered { .. } => RolloutTransition::Offer,
            Self::Succeeded { .. } | Self::Failed { .. } => RolloutTransition::Decide,
            Self::Left { .. } => RolloutTransition::Leave,
            Self::RingOpened { .. } => RolloutTransition::OpenRing,
            Self::Stopped { .. } => RolloutTransition::Stop,
            Self::Resumed => RolloutTransition::Resume,
            Self::Completed => RolloutTransition::Complete,
            Self::Aborted => RolloutTransition::Abort,
        }
    }
}

/// How a node failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum FailureReason {
    /// Its run failed.
    RunFailed,
    /// Its run left something out of the desired state.
    NotCompliant,
    /// It did not succeed in time.
    Overdue,
}

/// The roll-out of one configuration, as its events made it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rollout {
    state: RolloutState,
    begun: Option<Begun>,
    /// The index of the ring that opened last.
    ring: usize,
    /// Since when it is open.
    opened: Option<Timestamp>,
    /// Since when as many nodes of it have succeeded as have to.
    satisfied: Option<Timestamp>,
    /// Which ring stopped it, and by how many failures.
    stopped: Option<(usize, u32)>,
    /// Every node that was given the new version.
    members: BTreeMap<AgentId, Member>,
    /// For each ring, how many members are where.
    counts: Vec<Counts>,
    version: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Begun {
    old: PublishedConfiguration,
    new: PublishedConfiguration,
    plan: RolloutPlan,
    time: Timestamp,
}

/// A node that was given the new version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Member {
    ring: usize,
    /// Since when it is in flight.
    since: Timestamp,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
enum Outcome {
    InFlight,
    Succeeded,
    Failed(FailureReason),
}

/// How many members of a ring are where.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
struct Counts {
    in_flight: u32,
    succeeded: u32,
    failed: u32,
}

impl Counts {
    const fn of(&mut self, outcome: Outcome) -> &mut u32 {
        match outcome {
            Outcome::InFlight => &mut self.in_flight,
            Outcome::Succeeded => &mut self.succeeded,
            Outcome::Failed(_) => &mut self.failed,
        }
    }
}

impl Rollout {
    /// The version that a node gets, if the roll-out decides that: what was offered stays.
    fn version_for(&self, agent_id: AgentId) -> Option<Checksum> {
        let begun = self.begun.as_ref().filter(|_| self.state.is_active())?;
        let is_member = self.members.contains_key(&agent_id);
        Some(if is_member { begun.new.checksum } else { begun.old.checksum })
    }

    fn apply(&mut self, time: Timestamp, event: RolloutEvent) -> Result<(), Error> {
        let illegal = |reason: String| Error::Internal { reason };
        let next = self.state.next(event.transition());
        self.state = next.map_err(|error| illegal(error.to_string()))?;
        match event {
            RolloutEvent::Begun { old, new, plan } => {
                let counts = vec![Counts::default(); plan.rings().len()];
                let begun = Some(Begun { old, new, plan, time });
                let (state, version) = (self.state, self.version);
                *self =
                    Self { state, begun, counts, opened: Some(time), version, ..Self::default() };
            }
            RolloutEvent::Offered { agent_id, ring } => {
                if ring >= self.counts.len() {
                    return Err(illegal(format!("there is no ring {ring}")));
                }
                self.remove(agent_id);
                self.insert(agent_id, Member { ring, since: time, outcome: Outcome::InFlight });
            }
            RolloutEvent::Succeeded { agent_id, .. } => self.decide(agent_id, Outcome::Succeeded),
            RolloutEvent::Failed { agent_id, why } => self.decide(agent_id, Outcome::Failed(why)),
            RolloutEvent::Left { agent_id } => drop(self.remove(agent_id)),
            RolloutEvent::RingOpened { ring } => {
                (self.ring, self.opened, self.satisfied) = (ring, Some(time), None);
            }
            RolloutEvent::Stopped { ring, failures } => self.stopped = Some((ring, failures)),
            RolloutEvent::Resumed => {
                self.stopped = None;
                for member in self.members.values_mut() {
                    if matches!(member.outcome, Outcome::Failed(_)) {
                        (member.since, member.outcome) = (time, Outcome::InFlight);
                    }
                }
                for counts in &mut self.counts {
                    counts.in_flight += std::mem::take(&mut counts.failed);
                }
            }
            RolloutEvent::Completed | RolloutEvent::Aborted => {}
        }
        self.satisfied = if self.is_satisfied() { self.satisfied.or(Some(time)) } else { None };
        Ok(())
    }

    fn is_satisfied(&self) -> bool {
        let ring = self.begun.as_ref().and_then(|begun| begun.plan.rings().get(self.ring));
        let counts = self.counts.get(self.ring);
        ring.zip(counts).is_some_and(|(ring, counts)| counts.succeeded >= ring.successes_min)
    }

    fn insert(&mut self, agent_id: AgentId, member: Member) {
        if let Some(counts) = self.counts.get_mut(member.ring) {
            *counts.of(member.outcome) += 1;
        }
        self.members.insert(agent_id, member);
    }

    fn remove(&mut self, agent_id: AgentId) -> Option<Member> {
        let member = self.members.remove(&agent_id)?;
        if let Some(counts) = self.counts.get_mut(member.ring) {
            *counts.of(member.outcome) -= 1;
        }
        Some(member)
    }

    fn decide(&mut self, agent_id: AgentId, outcome: Outcome) {
        if let Some(member) = self.remove(agent_id) {
            self.insert(agent_id, Member { outcome, ..member });
        }
    }
}
