//! Machines and what is known of their protection.

pub mod disable;

pub mod disk;

pub mod ended;

pub mod extent_map;

pub mod protected;

pub(crate) mod site;

mod unheard;

use crate::error::{self, Error};
use crate::failover::SourceOperations;
use crate::recovery_point::{PointChoice, PointId, RecoveryPoint};
use crate::replication::state::ActiveLocation;
use crate::replication::{
    DivergenceReason, ProtectionEvent, ProtectionState, ReplicationPolicy, Site, Stamp,
    TestFailoverEvent, TestFailoverState,
};
use jiff::Timestamp;
use oms_core::Lifecycle;
use oms_core::journal::{BodyShape, Event, JournalEvent};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kind of an item's history in the journal; its key is the item's name.
pub const HISTORY_KIND: &str = "replication-protected-item";

/// The longest name of an item, in bytes.
pub const NAME_BYTES_MAX: usize = 200;

oms_core::uuid_id! {
    /// One protection of one machine, from enable to disable.
    ItemId, "replication protected item id"
}

/// A computer, physical or virtual.
///
/// This version protects machines of one disk; the wire format has room for more and refuses them
/// by name.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The length of its disk, in bytes.
    pub disk_bytes: u64,
}

/// The prefix of writes that a failover uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ChosenPoint {
    /// Every write up to here.
    pub stamp: Stamp,
    /// The recovery point exactly there, if there is one.
    pub id: Option<PointId>,
    /// When that was taken.
    pub time: Option<Timestamp>,
}

impl ChosenPoint {
    pub(crate) fn new(stamp: Stamp, point: Option<RecoveryPoint>) -> Self {
        Self { stamp, id: point.map(|it| it.id), time: point.map(|it| it.time) }
    }
}

/// What happened to an item. Its history keeps it as a [`StoredEvent`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "snake_case")]
#[non_exhaustive]
pub enum ItemEvent {
    /// Protection was asked for.
    EnableRequested {
        /// Which machine.
        machine: Machine,
        /// Where it runs.
        primary: Site,
        /// Where it is replicated to.
        recovery: Site,
        /// How.
        policy: ReplicationPolicy,
    },
    /// The replica is there and writes are tracked.
    TrackingStarted,
    /// The replica could not be made.
    EnableFailed {
        /// Why.
        reason: String,
    },
    /// The replica is a whole disk.
    CopyCompleted {
        /// As of here.
        stamp: Stamp,
    },
    /// A copy stopped.
    CopyFailed {
        /// Why.
        reason: String,
    },
    /// Writes went past the log.
    Diverged {
        /// Why.
        reason: DivergenceReason,
    },
    /// A resynchronization begins.
    RepairStarted,
    /// A test failover begins.
    TestFailoverStarted {
        /// On this prefix.
        point: ChosenPoint,
    },
    /// A test failover is over.
    TestFailoverCleanupStarted {
        /// What the operator noted.
        comments: String,
    },
    /// Nothing of the test failover is left.
    TestFailoverCleanedUp {
        /// Whether the drill had a disk to use.
        is_success: bool,
    },
    /// A failover without loss begins.
    PlannedFailoverStarted,
    /// A failover begins, the source may be lost.
    UnplannedFailoverStarted {
        /// On this point.
        choice: PointChoice,
        /// What is tried at the source.
        source_operations: SourceOperations,
    },
    /// Production is at the other site.
    FailoverCompleted {
        /// What is refused below.
        epoch: u64,
        /// The prefix it runs on.
        point: ChosenPoint,
    },
    /// Production stays where it was.
    FailoverFailed {
        /// Why.
        reason: String,
    },
    /// Production starts again from another prefix.
    PointChanged {
        /// What is refused below.
        epoch: u64,
        /// The prefix it runs on.
        point: ChosenPoint,
    },
    /// The failover is kept, and every recovery point is deleted.
    Committed,
    /// Replication in the other direction begins.
    ReverseReplicationStarted,
    /// Protection ends.
    Disabled,
}

oms_core::journal_event!(ItemEvent, format 1, whole, {
    Self::EnableRequested { .. } => "enable-requested",
    Self::TrackingStarted => "tracking-started",
    Self::EnableFailed { .. } => "enable-failed",
    Self::CopyCompleted { .. } => "copy-completed",
    Self::CopyFailed { .. } => "copy-failed",
    Self::Diverged { .. } => "diverged",
    Self::RepairStarted => "repair-started",
    Self::TestFailoverStarted { .. } => "test-failover-started",
    Self::TestFailoverCleanupStarted { .. } => "test-failover-cleanup-started",
    Self::TestFailoverCleanedUp { .. } => "test-failover-cleaned-up",
    Self::PlannedFailoverStarted => "planned-failover-started",
    Self::UnplannedFailoverStarted { .. } => "unplanned-failover-started",
    Self::FailoverCompleted { .. } => "failover-completed",
    Self::FailoverFailed { .. } => "failover-failed",
    Self::PointChanged { .. } => "point-changed",
    Self::Committed => "committed",
    Self::ReverseReplicationStarted => "reverse-replication-started",
    Self::Disabled => "disabled",
});

impl ItemEvent {
    const fn protection(&self) -> Option<ProtectionEvent> {
        use ProtectionEvent as E;
        Some(match self {
            Self::EnableRequested { .. } => E::Enable,
            Self::TrackingStarted => E::PrerequisitesMet,
            Self::EnableFailed { .. } => E::PrerequisitesFailed,
            Self::CopyCompleted { .. } => E::CopyCompleted,
            Self::CopyFailed { .. } => E::CopyFailed,
            Self::Diverged { .. } => E::Diverged,
            Self::RepairStarted => E::RepairReplication,
            Self::PlannedFailoverStarted => E::PlannedFailover,
            Self::UnplannedFailoverStarted { .. } => E::UnplannedFailover,
            Self::FailoverCompleted { .. } => E::FailoverCompleted,
            Self::FailoverFailed { .. } => E::FailoverFailed,
            Self::PointChanged { .. } => E::ChangePoint,
            Self::Committed => E::Commit,
            Self::ReverseReplicationStarted => E::ReverseReplicate,
            Self::Disabled => E::Disable,
            Self::TestFailoverStarted { .. }
            | Self::TestFailoverCleanupStarted { .. }
            | Self::TestFailoverCleanedUp { .. } => return None,
        })
    }

    /// What was asked for, in plain words; for what was not, what happened.
    const fn operation(&self) -> &'static str {
        match self {
            Self::EnableRequested { .. } => "protection",
            Self::TrackingStarted => "the beginning of replication",
            Self::EnableFailed { .. } => "the end of a beginning",
            Self::CopyCompleted { .. } => "the end of a copy",
            Self::CopyFailed { .. } => "the failure of a copy",
            Self::Diverged { .. } => "a divergence",
            Self::RepairStarted => "repair",
            Self::TestFailoverStarted { .. } => "test failover",
            Self::TestFailoverCleanupStarted { .. } => "cleanup of a test failover",
            Self::TestFailoverCleanedUp { .. } => "the end of a cleanup",
            Self::PlannedFailoverStarted => "planned failover",
            Self::UnplannedFailoverStarted { .. } => "unplanned failover",
            Self::FailoverCompleted { .. } => "the end of a failover",
            Self::FailoverFailed { .. } => "the failure of a failover",
            Self::PointChanged { .. } => "change of the recovery point",
            Self::Committed => "commit",
            Self::ReverseReplicationStarted => "reprotect",
            Self::Disabled => "disabling the protection",
        }
    }

    const fn test(&self) -> Option<TestFailoverEvent> {
        match self {
            Self::TestFailoverStarted { .. } => Some(TestFailoverEvent::Start),
            Self::TestFailoverCleanupStarted { .. } => Some(TestFailoverEvent::Cleanup),
            Self::TestFailoverCleanedUp { .. } => Some(TestFailoverEvent::CleanedUp),
            _ => None,
        }
    }
}

/// An event's body in the journal: the event, and what a reader of this event alone wants to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// The vault's name.
    pub vault: String,
    /// The item.
    pub item: ItemId,
    /// The state that followed.
    pub state: ProtectionState,
    /// The state of the test failover that followed.
    pub test: TestFailoverState,
    /// The policy's name.
    pub policy: String,
    /// When a test failover was last cleaned up after success.
    pub last_successful_test_failover: Option<Timestamp>,
    /// What happened.
    pub event: ItemEvent,
}

impl JournalEvent for StoredEvent {
    const KINDS: &'static [&'static str] = ItemEvent::KINDS;
    const FORMAT: u16 = ItemEvent::FORMAT;
    const SHAPE: BodyShape = BodyShape::Whole;

    fn kind(&self) -> &'static str {
        self.event.kind()
    }
}

/// A machine's protection, as its history tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicationProtectedItem {
    /// Its identity.
    pub id: ItemId,
    /// How many events its history holds.
    pub version: u64,
    /// Where it stands.
    pub state: ProtectionState,
    /// Where its test failover stands.
    pub test: TestFailoverState,
    /// The machine.
    pub machine: Machine,
    /// Where it was protected.
    pub primary: Site,
    /// Where it is replicated to.
    pub recovery: Site,
    /// How.
    pub policy: ReplicationPolicy,
    /// How often production has moved, from 1.
    pub epoch: u64,
    /// The prefix that production runs on since a failover that is not committed.
    pub point: Option<ChosenPoint>,
    /// The prefix of the running test failover.
    pub test_point: Option<ChosenPoint>,
    /// Whether the replica ever was a whole disk.
    pub has_been_whole: bool,
    /// Why the last operation failed, until one succeeds.
    pub failure: Option<String>,
    /// When a test failover was last cleaned up after success.
    pub last_successful_test_failover: Option<Timestamp>,
    /// When production last moved.
    pub last_successful_failover: Option<Timestamp>,
}

impl ReplicationProtectedItem {
    /// Replays a history; none if the item is not protected now.
    ///
    /// # Errors
    /// [`Error::Journal`] for events that are not of this format or cannot follow each other.
    pub fn replay(events: &[Event]) -> error::Result<Option<Self>> {
        let mut item = None;
        for event in events {
            Self::follow(&mut item, &StoredEvent::open(&event.envelope)?, event)?;
        }
        Ok(item)
    }

    /// The protections of a history that have ended, oldest first: each as it was before its end, and when
    /// that was.
    ///
    /// # Errors
    /// As [`replay`](Self::replay).
    pub fn ended(events: &[Event]) -> error::Result<Vec<(Self, Timestamp)>> {
        let (mut item, mut ended) = (None, Vec::new());
        for event in events {
            let last = Self::follow(&mut item, &StoredEvent::open(&event.envelope)?, event)?;
            ended.extend(last.map(|last| (last, event.envelope.time)));
        }
        Ok(ended)
    }

    /// What an item is after one event more; answers a protection that it ends, as it was before.
    pub(crate) fn follow(
        item: &mut Option<Self>,
        stored: &StoredEvent,
        event: &Event,
    ) -> error::Result<Option<Self>> {
        let damaged = |reason: &dyn fmt::Display| Error::Journal(event.corrupt(reason));
        let mut next = match (&stored.event, item.take()) {
            (ItemEvent::EnableRequested { .. }, _) => {
                Self::requested(stored.item, event.version, &stored.event)
                    .ok_or_else(|| damaged(&"is no request"))?
            }
            (_, Some(item)) => item,
            (_, None) => return Err(damaged(&"comes before protection was enabled")),
        };
        let is_end = matches!(stored.event, ItemEvent::Disabled | ItemEvent::EnableFailed { .. });
        let last = is_end.then(|| next.clone());
        if !matches!(stored.event, ItemEvent::EnableRequested { .. }) {
            next.apply(&stored.event, event.envelope.time).map_err(|error| damaged(&error))?;
        }
        next.version = event.version;
        if (next.state, next.test) != (stored.state, stored.test) {
            return Err(damaged(&"state differs from the one that was stored"));
        }
        *item = (next.state != ProtectionState::Unprotected).then_some(next);
        Ok(last)
    }

    /// An item whose protection was just asked for.
    pub(crate) fn requested(id: ItemId, version: u64, event: &ItemEvent) -> Option<Self> {
        let ItemEvent::EnableRequested { machine, primary, recovery, policy } = event else {
            return None;
        };
        Some(Self {
            id,
            version,
            state: ProtectionState::Enabling,
            test: TestFailoverState::None,
            machine: machine.clone(),
            primary: primary.clone(),
            recovery: recovery.clone(),
            policy: policy.clone(),
            epoch: 1,
            point: None,
            test_point: None,
            has_been_whole: false,
            failure: None,
            last_successful_test_failover: None,
            last_successful_failover: None,
        })
    }

    /// Checks an event against the state; changes nothing.
    ///
    /// # Errors
    /// [`Error::IllegalState`] names item, operation and state.
    pub fn check(&self, event: &ItemEvent) -> error::Result<(ProtectionState, TestFailoverState)> {
        let refuse = |state: &str| Error::IllegalState {
            item: self.machine.name.clone(),
            operation: event.operation().to_owned(),
            state: state.to_owned(),
        };
        let is_bound = matches!(
            event,
            ItemEvent::PlannedFailoverStarted | ItemEvent::UnplannedFailoverStarted { .. }
        );
        if is_bound && self.test != TestFailoverState::None {
            return Err(refuse(self.test.description()));
        }
        if matches!(event, ItemEvent::TestFailoverStarted { .. })
            && !self.state.allows_test_failover()
        {
            return Err(refuse(self.state.description()));
        }
        let state = match event.protection() {
            Some(event) => self.state.next(event).map_err(|it| refuse(it.state.description()))?,
            None => self.state,
        };
        let test = match event.test() {
            Some(event) => self.test.next(event).map_err(|it| refuse(it.state.description()))?,
            // A drill goes with the protection, also one whose site is lost.
            None if matches!(event, ItemEvent::Disabled) => TestFailoverState::None,
            None => self.test,
        };
        Ok((state, test))
    }

    /// Takes an event into account.
    ///
    /// # Errors
    /// [`Error::IllegalState`]; nothing changed.
    pub fn apply(&mut self, event: &ItemEvent, time: Timestamp) -> error::Result<()> {
        (self.state, self.test) = self.check(event)?;
        match event {
            ItemEvent::CopyCompleted { .. } => {
                self.has_been_whole = true;
                self.failure = None;
            }
            ItemEvent::CopyFailed { reason }
            | ItemEvent::EnableFailed { reason }
            | ItemEvent::FailoverFailed { reason } => self.failure = Some(reason.clone()),
            ItemEvent::Diverged { reason } => self.failure = Some(reason.to_string()),
            ItemEvent::TestFailoverStarted { point } => self.test_point = Some(*point),
            ItemEvent::TestFailoverCleanedUp { is_success } => {
                self.test_point = None;
                if *is_success {
                    self.last_successful_test_failover = Some(time);
                }
            }
            ItemEvent::FailoverCompleted { epoch, point } => {
                (self.epoch, self.point, self.failure) = (*epoch, Some(*point), None);
                self.last_successful_failover = Some(time);
            }
            ItemEvent::PointChanged { epoch, point } => {
                (self.epoch, self.point) = (*epoch, Some(*point));
            }
            ItemEvent::Committed => self.point = None,
            _ => {}
        }
        Ok(())
    }

    /// The site that runs production.
    #[must_use]
    pub const fn active_site(&self) -> &Site {
        match self.state.active_location() {
            ActiveLocation::Primary => &self.primary,
            ActiveLocation::Recovery => &self.recovery,
        }
    }

    /// The site that does not.
    #[must_use]
    pub const fn passive_site(&self) -> &Site {
        match self.state.active_location() {
            ActiveLocation::Primary => &self.recovery,
            ActiveLocation::Recovery => &self.primary,
        }
    }
}
