//! How well an item is replicated.

use super::ReplicationPolicy;
use super::state::ProtectionState;
use super::tracker::Backlog;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How well an item is replicated (`ProtectionHealth`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProtectionHealth {
    /// Nothing is replicated.
    None,
    /// As the policy wants it.
    Normal,
    /// Behind the policy's threshold.
    Warning,
    /// Not replicating.
    Critical,
}

/// Health, and how much an unplanned failover now would lose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Health {
    /// How well.
    pub level: ProtectionHealth,
    /// Age of the oldest write that the replica has not acknowledged: an unplanned failover loses
    /// at most the writes of this span, and those not flushed. None if it is not known.
    pub rpo: Option<SignedDuration>,
    /// When that was calculated.
    pub calculated: Timestamp,
    /// Bytes in the outgoing log.
    pub backlog_bytes: u64,
}

impl Health {
    /// Judges an item; without a backlog if the site that runs production cannot be opened.
    #[must_use]
    pub fn judge(
        state: ProtectionState,
        backlog: Option<Backlog>,
        policy: &ReplicationPolicy,
        now: Timestamp,
    ) -> Self {
        // A clock that went back makes no age negative.
        let age = |since: Timestamp| now.duration_since(since).max(SignedDuration::ZERO);
        let is_protected =
            matches!(state, ProtectionState::Protected | ProtectionState::ReverseProtected);
        let known = backlog.filter(|_| is_protected);
        let rpo = known.map(|backlog| backlog.oldest.map_or(SignedDuration::ZERO, age));
        let level = match rpo {
            Some(rpo) if rpo > policy.recovery_point_threshold => ProtectionHealth::Warning,
            None if is_protected => ProtectionHealth::Critical,
            _ => level(state),
        };
        let backlog_bytes = backlog.map_or(0, |backlog| backlog.bytes);
        Self { level, rpo, calculated: now, backlog_bytes }
    }
}

/// Health as far as the state alone tells it.
pub(crate) const fn level(state: ProtectionState) -> ProtectionHealth {
    use ProtectionState as S;
    match state {
        S::Unprotected | S::Enabling => ProtectionHealth::None,
        S::InitialReplicationFailed
        | S::ResyncRequired
        | S::ReverseResyncRequired
        | S::UnplannedFailoverFailed => ProtectionHealth::Critical,
        _ => ProtectionHealth::Normal,
    }
}
