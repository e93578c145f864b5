//! Who owns a duty, folded from its history.

use super::Duty;
use crate::journal::{Envelope, Event, HistoryId, JournalError, Snapshot};
use crate::lifecycle::{IllegalTransition, Lifecycle};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::time::Duration;

/// The kind of the histories that hold who owns which duty.
pub const LEASE_KIND: &str = "lease";

/// The kind of the histories that hold an owner's renewals.
pub const RENEWAL_KIND: &str = "lease-renewal";

/// Version of the bodies written here.
const FORMAT: u16 = 1;

crate::uuid_id! {
    /// One candidate's wish for a duty, by which it knows its own events again.
    ClaimId, "claim id"
}

/// Whether a duty has an owner.
///
/// ```text
///          Acquired              ┌─ Confirmed (the owner goes on)
///   Free ────────────► Held ◄────┤
///     ▲                 │        └─ TakenOver (another owner; the epoch rises)
///     └─────────────────┘
///          Released
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a duty has an owner or it has none")]
pub enum LeaseState {
    /// Nobody owns it; whoever claims it first does.
    Free,
    /// It has an owner, who may be alive, paused or gone.
    Held,
}

/// What happens to the ownership of a duty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the state table is closed")]
pub enum LeaseEvent {
    /// A free duty got an owner: `lease-acquired`.
    Acquired,
    /// The owner goes on, and its renewals until now can be forgotten: `lease-confirmed`.
    Confirmed,
    /// A candidate waited out the owner's term: `lease-taken-over`.
    TakenOver,
    /// The owner let go: `lease-released`.
    Released,
}

impl LeaseEvent {
    /// Every event, in the order of a lease's life.
    pub const ALL: [Self; 4] =
        crate::every_variant!(LeaseEvent { Acquired, Confirmed, TakenOver, Released });

    /// Its name in the journal.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Acquired => "lease-acquired",
            Self::Confirmed => "lease-confirmed",
            Self::TakenOver => "lease-taken-over",
            Self::Released => "lease-released",
        }
    }
}

impl Lifecycle for LeaseState {
    type Event = LeaseEvent;

    fn next(self, event: LeaseEvent) -> Result<Self, IllegalTransition<Self, LeaseEvent>> {
        match (self, event) {
            (Self::Free, LeaseEvent::Acquired) => Ok(Self::Held),
            (Self::Held, LeaseEvent::Confirmed | LeaseEvent::TakenOver) => Ok(Self::Held),
            (Self::Held, LeaseEvent::Released) => Ok(Self::Free),
            (state, event) => Err(IllegalTransition { state, event }),
        }
    }
}

/// The body of every event of a `lease` history.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Body {
    epoch: u64,
    /// Of an acquired or taken over lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<Claim>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Claim {
    id: ClaimId,
    term_millis: u64,
}

/// The body of every event of a `lease-renewal` history.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct RenewalBody {
    epoch: u64,
}

/// Who owns a duty.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Owner {
    /// The name it gave itself.
    pub holder: String,
    /// Its claim.
    pub claim: ClaimId,
    /// How long it may believe in its ownership after it asked for it, in milliseconds.
    pub term_millis: u64,
    /// When it became the owner, by its own clock.
    pub since: Timestamp,
}

impl Owner {
    /// How long it may believe in its ownership after it asked for it.
    #[must_use]
    pub const fn term(&self) -> Duration {
        Duration::from_millis(self.term_millis)
    }
}

/// The ownership of one duty after so many events of its history.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ownership {
    /// How many events its history holds.
    pub version: u64,
    /// The epoch of the last owner; 0 before the first. It rises with each owner.
    pub epoch: u64,
    /// The owner, unless the duty is free.
    pub owner: Option<Owner>,
}

impl Ownership {
    /// Whether there is an owner.
    #[must_use]
    pub const fn state(&self) -> LeaseState {
        if self.owner.is_some() { LeaseState::Held } else { LeaseState::Free }
    }

    /// The ownership after one more event.
    ///
    /// # Errors
    /// [`JournalError::UnknownEvent`] if a newer version wrote it; [`JournalError::Corrupt`] if the
    /// history cannot contain it.
    pub fn apply(&mut self, event: &Event) -> Result<(), JournalError> {
        let damaged = |reason: String| JournalError::Corrupt {
            reason: format!("{}, event {}: {reason}", event.history, event.version),
        };
        if event.envelope.format != FORMAT {
            let (kind, format) = (event.envelope.kind.clone(), event.envelope.format);
            return Err(JournalError::UnknownEvent { kind, format });
        }
        let named = LeaseEvent::ALL.into_iter().find(|named| named.kind() == event.envelope.kind);
        let Some(named) = named else {
            return Err(damaged(format!("no lease event is named {}", event.envelope.kind)));
        };
        self.state().next(named).map_err(|illegal| damaged(illegal.to_string()))?;
        if event.version != self.version + 1 {
            return Err(damaged(format!("it does not follow event {}", self.version)));
        }
        let Body { epoch, claim } = event.envelope.decode()?;
        let is_new = matches!(named, LeaseEvent::Acquired | LeaseEvent::TakenOver);
        if epoch != self.epoch + u64::from(is_new) || is_new != claim.is_some() {
            return Err(damaged(format!("epoch {epoch} does not follow {}", self.epoch)));
        }
        (self.version, self.epoch) = (event.version, epoch);
        if let Some(Claim { id, term_millis }) = claim {
            let (holder, since) = (event.envelope.actor.clone(), event.envelope.time);
            self.owner = Some(Owner { holder, claim: id, term_millis, since });
        } else if named == LeaseEvent::Released {
            self.owner = None;
        }
        Ok(())
    }

    /// What is kept so that a long history need not be replayed.
    ///
    /// # Errors
    /// None in practice: it has a JSON form.
    pub fn snapshot(&self) -> Result<Snapshot, JournalError> {
        let body = serde_json::to_value(self).map_err(|source| misfit("lease snapshot", source))?;
        Ok(Snapshot { version: self.version, format: FORMAT, body })
    }

    /// Reads what [`Ownership::snapshot`] made.
    ///
    /// # Errors
    /// [`JournalError::Newer`] and [`JournalError::Body`].
    pub fn from_snapshot(snapshot: Snapshot) -> Result<Self, JournalError> {
        if snapshot.format > FORMAT {
            let (found, known) = (u32::from(snapshot.format), u32::from(FORMAT));
            return Err(JournalError::Newer { found, known });
        }
        let ownership: Self = serde_json::from_value(snapshot.body)
            .map_err(|source| misfit("lease snapshot", source))?;
        if ownership.version != snapshot.version {
            let reason = format!("lease snapshot of {} is of another version", snapshot.version);
            return Err(JournalError::Corrupt { reason });
        }
        Ok(ownership)
    }
}

fn misfit(kind: &str, source: serde_json::Error) -> JournalError {
    JournalError::Body { kind: kind.to_owned(), source }
}

/// What one look at the journal shows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct View {
    /// Who owns the duty.
    pub ownership: Ownership,
    /// How often the owner has renewed since the last event of the ownership.
    pub renewals: u64,
}

/// The events that a holder writes.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) duty: Duty,
    pub(super) holder: String,
    pub(super) claim: ClaimId,
    pub(super) term_millis: u64,
}

impl Writer {
    /// An event of the `lease` history.
    pub(super) fn event(&self, time: Timestamp, event: LeaseEvent, epoch: u64) -> Envelope {
        let is_new = matches!(event, LeaseEvent::Acquired | LeaseEvent::TakenOver);
        let claim = is_new.then_some(Claim { id: self.claim, term_millis: self.term_millis });
        self.envelope(time, event.kind(), &Body { epoch, claim })
    }

    /// An event of a `lease-renewal` history.
    pub(super) fn renewal(&self, time: Timestamp, epoch: u64) -> Envelope {
        self.envelope(time, "lease-renewed", &RenewalBody { epoch })
    }

    fn envelope(&self, time: Timestamp, kind: &str, body: &impl Serialize) -> Envelope {
        Envelope {
            kind: kind.to_owned(),
            format: FORMAT,
            time,
            actor: self.holder.clone(),
            correlation: None,
            // Numbers and a UUID have a JSON form; null would be refused by every reader.
            body: serde_json::to_value(body).unwrap_or_default(),
        }
    }

    pub(super) fn history(&self) -> &HistoryId {
        self.duty.history()
    }
}
