//! Where a replicated item stands: the transition table of replication between two sites of ours.
//!
//! The scenario is symmetric: either site can be the primary of the other, by the same code, so a
//! failback is a planned failover of the reversed replication.

use oms_core::lifecycle::{IllegalTransition, Lifecycle};
use serde::{Deserialize, Serialize};

/// The side that runs production.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ActiveLocation {
    /// The site that was protected.
    Primary,
    /// The site it was replicated to.
    Recovery,
}

/// The state of a replicated item.
///
/// ```text
///  Unprotected ──Enable──► Enabling ──PrerequisitesMet──► InitialReplication ◄─────────────┐
///       ▲                     │ PrerequisitesFailed          │        │ CopyFailed         │
///       └── Disable (from     ▼                              │        ▼                    │
///        all but …Progress)  Unprotected       CopyCompleted │  InitialReplicationFailed   │
///                                                            ▼        └─RepairReplication──┤
///   ResyncRequired ◄──────────Diverged────────────────── Protected                         │
///     │      ▲                                            │  │  ▲                          │
///     │      └ CopyFailed, Diverged ── Resyncing ─CopyCompleted──┘                         │
///     └──RepairReplication──────────────► ▲               │  │                             │
///                                                         │  └ UnplannedFailover (also     │
///           ┌─────────────PlannedFailover─────────────────┘    from the resync states)     │
///           ▼                                                  ▼                           │
///  PlannedFailoverInProgress ─FailoverFailed─► Protected   UnplannedFailoverInProgress     │
///           │ FailoverCompleted                                │ FailoverCompleted         │
///           ▼                                                  ▼  (Failed: …FailoverFailed)│
///  PlannedFailoverCommitRequired ⟲ ChangePoint ⟳ UnplannedFailoverCommitPending            │
///           │ Commit                                           │ Commit                    │
///           ▼                                                  ▼                           │
///  PlannedFailoverCommitted                      UnplannedFailoverCommitted                │
///           └──────────────┬──ReverseReplicate─────────────────┘                           │
///                          ▼                                                               │
///                     Reprotecting ◄──RepairReplication── ReverseResyncRequired            │
///                          │ CopyCompleted   └─CopyFailed, Diverged─►▲                     │
///                          ▼                                         │                     │
///                   ReverseProtected ──────────────Diverged──────────┘                     │
///                          │ PlannedFailover ▲                                             │
///                          ▼                 │ FailoverFailed                              │
///                   FailbackInProgress ──────┘                                             │
///                          │ FailoverCompleted                                             │
///                          ▼                                                               │
///               FailbackCommitRequired ──Commit──► FailedBack ──ReverseReplicate───────────┘
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProtectionState {
    /// Nothing is replicated.
    Unprotected,
    /// The replica is being made.
    Enabling,
    /// Writes are tracked and every block is being copied.
    InitialReplication,
    /// The copy stopped; repair it.
    InitialReplicationFailed,
    /// Replicated; recovery points can be taken.
    Protected,
    /// Writes were made that are in no log; earlier recovery points stay usable.
    ResyncRequired,
    /// Blocks that differ are being copied; earlier recovery points stay usable.
    Resyncing,
    /// The source is quiesced and the last writes drain.
    PlannedFailoverInProgress,
    /// Production runs at the recovery site with nothing lost; other points can be chosen still.
    PlannedFailoverCommitRequired,
    /// As above, for good.
    PlannedFailoverCommitted,
    /// The recovery site takes over.
    UnplannedFailoverInProgress,
    /// It could not; production stays where it was.
    UnplannedFailoverFailed,
    /// Production runs at the recovery site as of a point; other points can be chosen still.
    UnplannedFailoverCommitPending,
    /// As above, for good.
    UnplannedFailoverCommitted,
    /// Writes at the recovery site are tracked and blocks that differ are being copied back.
    Reprotecting,
    /// The recovery site is replicated to the primary site.
    ReverseProtected,
    /// As `ResyncRequired`, in the reverse direction.
    ReverseResyncRequired,
    /// The recovery site is quiesced and the last writes drain.
    FailbackInProgress,
    /// Production runs at the primary site again; other points can be chosen still.
    FailbackCommitRequired,
    /// As above, for good.
    FailedBack,
}

/// What can happen to a replicated item.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProtectionEvent {
    /// Protection was asked for.
    Enable,
    /// The replica is there and writes are tracked.
    PrerequisitesMet,
    /// The replica could not be made.
    PrerequisitesFailed,
    /// Every block that had to be copied is.
    CopyCompleted,
    /// The copy stopped.
    CopyFailed,
    /// Writes went past the log.
    Diverged,
    /// Copy what differs.
    RepairReplication,
    /// Move production without loss.
    PlannedFailover,
    /// Move production, the source may be lost.
    UnplannedFailover,
    /// Production runs at the other site.
    FailoverCompleted,
    /// Production stays where it was.
    FailoverFailed,
    /// Start again from another point.
    ChangePoint,
    /// Keep it: delete all recovery points.
    Commit,
    /// Replicate in the other direction.
    ReverseReplicate,
    /// Stop protecting.
    Disable,
}

impl ProtectionEvent {
    /// Every event.
    pub const ALL: [Self; 15] = oms_core::every_variant!(ProtectionEvent {
        Enable,
        PrerequisitesMet,
        PrerequisitesFailed,
        CopyCompleted,
        CopyFailed,
        Diverged,
        RepairReplication,
        PlannedFailover,
        UnplannedFailover,
        FailoverCompleted,
        FailoverFailed,
        ChangePoint,
        Commit,
        ReverseReplicate,
        Disable
    });
}

impl Lifecycle for ProtectionState {
    type Event = ProtectionEvent;

    fn next(
        self,
        event: ProtectionEvent,
    ) -> Result<Self, IllegalTransition<Self, ProtectionEvent>> {
        use ProtectionEvent as E;
        Ok(match (self, event) {
            (Self::Unprotected, E::Enable) => Self::Enabling,
            (Self::Enabling, E::PrerequisitesMet) => Self::InitialReplication,
            (Self::Enabling, E::PrerequisitesFailed) => Self::Unprotected,
            (Self::InitialReplication, E::CopyCompleted) => Self::Protected,
            (Self::InitialReplication, E::CopyFailed) => Self::InitialReplicationFailed,
            (Self::InitialReplicationFailed, E::RepairReplication) => Self::InitialReplication,
            (Self::Protected, E::Diverged) => Self::ResyncRequired,
            (Self::ResyncRequired, E::RepairReplication) => Self::Resyncing,
            (Self::Resyncing, E::CopyCompleted) => Self::Protected,
            (Self::Resyncing, E::CopyFailed | E::Diverged) => Self::ResyncRequired,

            (Self::Protected, E::PlannedFailover) => Self::PlannedFailoverInProgress,
            (Self::PlannedFailoverInProgress, E::FailoverCompleted) => {
                Self::PlannedFailoverCommitRequired
            }
            (Self::PlannedFailoverInProgress, E::FailoverFailed) => Self::Protected,
            (
                Self::Protected
                | Self::ResyncRequired
                | Self::Resyncing
                | Self::UnplannedFailoverFailed,
                E::UnplannedFailover,
            ) => Self::UnplannedFailoverInProgress,
            (Self::UnplannedFailoverInProgress, E::FailoverCompleted) => {
                Self::UnplannedFailoverCommitPending
            }
            (Self::UnplannedFailoverInProgress, E::FailoverFailed) => Self::UnplannedFailoverFailed,
            (Self::UnplannedFailoverFailed, E::RepairReplication) => Self::Resyncing,
            (
                Self::PlannedFailoverCommitRequired
                | Self::UnplannedFailoverCommitPending
                | Self::FailbackCommitRequired,
                E::ChangePoint,
            ) => self,
            (Self::PlannedFailoverCommitRequired, E::Commit) => Self::PlannedFailoverCommitted,
            (Self::UnplannedFailoverCommitPending, E::Commit) => Self::UnplannedFailoverCommitted,

            (
                Self::PlannedFailoverCommitted | Self::UnplannedFailoverCommitted,
                E::ReverseReplicate,
            )
            | (Self::ReverseResyncRequired, E::RepairReplication) => Self::Reprotecting,
            (Self::Reprotecting, E::CopyCompleted) => Self::ReverseProtected,
            (Self::Reprotecting, E::CopyFailed | E::Diverged)
            | (Self::ReverseProtected, E::Diverged) => Self::ReverseResyncRequired,
            (Self::ReverseProtected, E::PlannedFailover) => Self::FailbackInProgress,
            (Self::FailbackInProgress, E::FailoverCompleted) => Self::FailbackCommitRequired,
            (Self::FailbackInProgress, E::FailoverFailed) => Self::ReverseProtected,
            (Self::FailbackCommitRequired, E::Commit) => Self::FailedBack,
            (Self::FailedBack, E::ReverseReplicate) => Self::InitialReplication,

            (state, E::Disable) if state.can_be_disabled() => Self::Unprotected,
            (state, event) => return Err(IllegalTransition { state, event }),
        })
    }
}

impl ProtectionState {
    /// Every state.
    pub const ALL: [Self; 20] = oms_core::every_variant!(ProtectionState {
        Unprotected,
        Enabling,
        InitialReplication,
        InitialReplicationFailed,
        Protected,
        ResyncRequired,
        Resyncing,
        PlannedFailoverInProgress,
        PlannedFailoverCommitRequired,
        PlannedFailoverCommitted,
        UnplannedFailoverInProgress,
        UnplannedFailoverFailed,
        UnplannedFailoverCommitPending,
        UnplannedFailoverCommitted,
        Reprotecting,
        ReverseProtected,
        ReverseResyncRequired,
        FailbackInProgress,
        FailbackCommitRequired,
        FailedBack
    });

    /// Whether protection can be ended: always, once it has begun and while production is not moving. A
    /// copy that goes on, or never ends, is no hindrance. Of a failover that is not committed the disk is
    /// an overlay on recovery points: there it is ended only if that disk is lost.
    #[must_use]
    pub const fn can_be_disabled(self) -> bool {
        !matches!(self, Self::Unprotected | Self::Enabling) && !self.is_moving()
    }

    /// Which site runs production.
    #[must_use]
    pub const fn active_location(self) -> ActiveLocation {
        match self {
            Self::PlannedFailoverCommitRequired
            | Self::PlannedFailoverCommitted
            | Self::UnplannedFailoverCommitPending
            | Self::UnplannedFailoverCommitted
            | Self::Reprotecting
            | Self::ReverseProtected
            | Self::ReverseResyncRequired
            | Self::FailbackInProgress => ActiveLocation::Recovery,
            _ => ActiveLocation::Primary,
        }
    }

    /// Whether the other site holds recovery points of this one and none of them is in production.
    #[must_use]
    pub const fn allows_test_failover(self) -> bool {
        matches!(self, Self::Protected | Self::ResyncRequired | Self::ReverseProtected)
    }

    /// Whether the site that does not run production holds a replica.
    #[must_use]
    pub const fn has_replica(self) -> bool {
        matches!(
            self,
            Self::InitialReplication
                | Self::InitialReplicationFailed
                | Self::Protected
                | Self::ResyncRequired
                | Self::Resyncing
                | Self::PlannedFailoverInProgress
                | Self::UnplannedFailoverInProgress
                | Self::UnplannedFailoverFailed
                | Self::Reprotecting
                | Self::ReverseProtected
                | Self::ReverseResyncRequired
                | Self::FailbackInProgress
        )
    }

    /// Whether an operation is moving production; without one, it was interrupted.
    pub(crate) const fn is_moving(self) -> bool {
        matches!(
            self,
            Self::PlannedFailoverInProgress
                | Self::FailbackInProgress
                | Self::UnplannedFailoverInProgress
        )
    }

    /// Whether production runs on an overlay over a recovery point.
    #[must_use]
    pub const fn is_uncommitted(self) -> bool {
        matches!(
            self,
            Self::PlannedFailoverCommitRequired
                | Self::UnplannedFailoverCommitPending
                | Self::FailbackCommitRequired
        )
    }

    /// Whether writes go to an outgoing log.
    #[must_use]
    pub const fn is_replicating(self) -> bool {
        matches!(
            self,
            Self::InitialReplication
                | Self::Protected
                | Self::Resyncing
                | Self::PlannedFailoverInProgress
                | Self::Reprotecting
                | Self::ReverseProtected
                | Self::FailbackInProgress
        )
    }

    /// `protectionState` as the management API spells it. Names that no public document shows are
    /// ours, after the state.
    #[must_use]
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::Unprotected => "Unprotected",
            Self::Enabling => "EnablingProtection",
            Self::InitialReplication => "UnprotectedStatesBegin",
            Self::InitialReplicationFailed => "InitialReplicationFailed",
            Self::Protected => "Protected",
            Self::ResyncRequired => "ResyncRequired",
            Self::Resyncing => "Resyncing",
            Self::PlannedFailoverInProgress => "PlannedFailoverInProgress",
            Self::PlannedFailoverCommitRequired => "PlannedFailoverCommitRequired",
            Self::PlannedFailoverCommitted => "PlannedFailoverStatesBegin",
            Self::UnplannedFailoverInProgress => "UnplannedFailoverInProgress",
            Self::UnplannedFailoverFailed => "UnplannedFailoverFailed",
            Self::UnplannedFailoverCommitPending => "UnplannedFailoverCommitPendingStatesBegin",
            Self::UnplannedFailoverCommitted => "UnplannedFailoverStatesBegin",
            Self::Reprotecting => "Reprotecting",
            Self::ReverseProtected => "ReverseProtected",
            Self::ReverseResyncRequired => "ReverseResyncRequired",
            Self::FailbackInProgress => "FailbackInProgress",
            Self::FailbackCommitRequired => "FailbackCommitRequired",
            Self::FailedBack => "FailedBack",
        }
    }

    /// `protectionStateDescription`.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Unprotected => "Unprotected",
            Self::Enabling => "Enabling protection",
            Self::InitialReplication => "Initial replication in progress",
            Self::InitialReplicationFailed => "Initial replication failed",
            Self::Protected => "Protected",
            Self::ResyncRequired => "Resynchronization required",
            Self::Resyncing => "Resynchronizing",
            Self::PlannedFailoverInProgress => "Planned failover in progress",
            Self::PlannedFailoverCommitRequired => "Planned failover finished",
            Self::PlannedFailoverCommitted => "Planned failover committed",
            Self::UnplannedFailoverInProgress => "Failover in progress",
            Self::UnplannedFailoverFailed => "Failover failed",
            Self::UnplannedFailoverCommitPending => "Failover completed",
            Self::UnplannedFailoverCommitted => "Failover committed",
            Self::Reprotecting => "Reprotecting",
            Self::ReverseProtected => "Protected in the reverse direction",
            Self::ReverseResyncRequired => "Resynchronization required in the reverse direction",
            Self::FailbackInProgress => "Failback in progress",
            Self::FailbackCommitRequired => "Failback finished",
            Self::FailedBack => "Failed back",
        }
    }

    /// `allowedOperations` while test failover stands at `test`, as the management API spells
    /// them, derived from the table.
    #[must_use]
    pub fn allowed_operations(self, test: TestFailoverState) -> Vec<&'static str> {
        use ProtectionEvent as E;
        let is_free = test == TestFailoverState::None;
        let operations = [
            (E::PlannedFailover, "PlannedFailover", is_free),
            (E::UnplannedFailover, "UnplannedFailover", is_free),
            (E::Commit, "Commit", true),
            (E::ChangePoint, "ChangePit", true),
            (E::ReverseReplicate, "ReverseReplicate", true),
            (E::RepairReplication, "RepairReplication", true),
            (E::Disable, "DisableProtection", is_free && !self.is_uncommitted()),
        ];
        let mut allowed: Vec<_> = operations
            .into_iter()
            .filter(|(event, _, is_free)| *is_free && self.next(*event).is_ok())
            .map(|(_, name, _)| name)
            .collect();
        if is_free && self.allows_test_failover() {
            allowed.push("TestFailover");
        }
        if test == TestFailoverState::Running {
            allowed.push("TestFailoverCleanup");
        }
        allowed
    }
}

/// The state of an item's test failover, which stands beside its protection.
///
/// ```text
///  None ──Start──► Running ──Cleanup──► MarkedForDeletion ──CleanedUp──► None
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TestFailoverState {
    /// There is none.
    #[default]
    None,
    /// A copy of a recovery point can be used.
    Running,
    /// Its files are being removed.
    MarkedForDeletion,
}

/// What can happen to a test failover.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TestFailoverEvent {
    /// A drill begins.
    Start,
    /// The drill is over.
    Cleanup,
    /// Nothing of it is left.
    CleanedUp,
}

impl TestFailoverState {
    /// In plain words.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::None => "No test failover is running",
            Self::Running => "A test failover is running",
            Self::MarkedForDeletion => "A test failover is being cleaned up",
        }
    }

    /// Every state.
    pub const ALL: [Self; 3] =
        oms_core::every_variant!(TestFailoverState { None, Running, MarkedForDeletion });
}

impl TestFailoverEvent {
    /// Every event.
    pub const ALL: [Self; 3] =
        oms_core::every_variant!(TestFailoverEvent { Start, Cleanup, CleanedUp });
}

impl Lifecycle for TestFailoverState {
    type Event = TestFailoverEvent;

    fn next(
        self,
        event: TestFailoverEvent,
    ) -> Result<Self, IllegalTransition<Self, TestFailoverEvent>> {
        use TestFailoverEvent as E;
        Ok(match (self, event) {
            (Self::None, E::Start) => Self::Running,
            (Self::Running, E::Cleanup) => Self::MarkedForDeletion,
            (Self::MarkedForDeletion, E::CleanedUp) => Self::None,
            (state, event) => return Err(IllegalTransition { state, event }),
        })
    }
}
