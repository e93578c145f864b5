//! Fenced, expiring ownership of a named duty.
//!
//! A *duty* is work that one process at a time may do: commit a table, run an engine's shard, be
//! the primary of a replicated machine. Its ownership is kept in the [`Journal`](crate::Journal), so a deployment
//! needs no other service for it. Each new owner gets a higher *epoch*.
//!
//! ```text
//!            no owner, or the owner showed no life for a term
//!  candidate ───────────────────────────────────────────────► holder ── renews ──┐
//!      ▲                                                        │  ▲────────────┘
//!      │            released, superseded, or not renewed        │
//!      └────────────────────── in time ─────────────────────────┘
//! ```
//!
//! # What is certain
//! **Of any two guarded writes, the one of the lower epoch never lands after the one of the higher
//! epoch.** [`Lease::guarded_append`] puts a condition on the history of the duty's ownership into
//! the same append as the write, so the journal itself refuses a former owner, however long it was
//! paused and whatever its clock says. No clock takes part in this.
//!
//! A store outside the journal can refuse a former owner if it remembers the highest
//! [`Lease::epoch`] it has seen and compares.
//!
//! # What depends on clocks
//! **At most one holder believes at a time that it owns the duty**, if every process's *monotonic*
//! clock runs at a rate within [`LeaseSettings::clock_drift_per_mille`] of real time. Wall clocks
//! may show anything: they are written down and never compared.
//! - A holder believes until the term has passed (less a margin) since it *asked* for the
//!   ownership or for its last renewal, not since the answer.
//! - A candidate takes over only after it has itself seen the owner unchanged for the owner's
//!   term plus the drift of both clocks, counted from when it *learned* of the last change. Its
//!   claim is one append with the condition that neither the ownership nor the renewals have
//!   changed since. So a candidate that was paused in between cannot take over from a holder that
//!   has renewed.
//!
//! A clock that stands still while the machine is suspended (`CLOCK_MONOTONIC` on Linux) breaks
//! the assumption: after such a sleep a holder may believe too long. Its guarded writes are refused
//! all the same. Do what must not be done twice by guarded writes, and use the belief only to save
//! useless work.
//!
//! # What is stored
//! Changes of ownership are events of the history `lease/DUTY`, on which guards are conditions; a
//! renewal is no such change. Renewals are events of `lease-renewal/DUTY#VERSION`, and exist so
//! that candidates see the owner alive. After [`LeaseSettings::renewals_max`] of them the owner confirms its
//! ownership (one event in `lease/DUTY`) and they are deleted, so a lease that is renewed every ten
//! seconds for a year leaves 770 events. A snapshot keeps reading short. A write that meets the
//! confirmation is repeated by [`Lease::guarded_append`], because the epoch is the same. Never
//! delete a `lease` history: epochs would begin anew.
//!
//! # How a service uses it
//! One task keeps the lease, another does the duty and stops when it is lost.
//!
//! ```
//! use oms_core::journal::{Append, Envelope, HistoryId, Journal, JournalExt, MemoryJournal};
//! use oms_core::lease::{Duty, LeaseError, LeaseSettings, Leases, Standing};
//! use oms_core::{Clock, SystemClock, SystemEntropy};
//! use std::sync::Arc;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
//! let leases = |journal: &Arc<dyn Journal>| {
//!     let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
//!     Leases::new(Arc::clone(journal), clock, entropy, LeaseSettings::default())
//! };
//! // Two processes want the same duty.
//! let (first, second) = (leases(&journal)?, leases(&journal)?);
//! let duty: Duty = "table/Heartbeat/commit".parse()?;
//! let lease = first.acquire(&duty, "node-1").await?;
//! assert!(matches!(second.acquire(&duty, "node-2").await, Err(LeaseError::Held { .. })));
//!
//! // The owner keeps the lease in the background ...
//! let keeper = tokio::spawn({ let lease = lease.clone(); async move { lease.keep().await } });
//!
//! // ... and does its duty by guarded writes.
//! let table = HistoryId::new("table", "Heartbeat")?;
//! let commit = |expected, file: &str| -> Result<Vec<Append>, LeaseError> {
//!     let event = Envelope::new("file-committed", 1, SystemClock.now(), "node-1", &file)?;
//!     Ok(vec![Append { history: table.clone(), expected, events: vec![event] }])
//! };
//! assert_eq!(lease.guarded_append(commit(0, "1.parquet")?).await?, [1]);
//!
//! // A planned hand-over: the next owner need not wait.
//! let kept_guard = lease.guard()?;
//! lease.release().await?;
//! assert_eq!(keeper.await?, Standing::Released);
//! let next = second.acquire(&duty, "node-2").await?;
//! assert_eq!((lease.epoch(), next.epoch()), (1, 2));
//!
//! // What the former owner still had in hand is refused, here and by the journal.
//! let late = lease.guarded_append(commit(1, "2.parquet")?).await;
//! assert!(matches!(late, Err(LeaseError::Lost { epoch: 1, .. })));
//! let mut forced = commit(1, "2.parquet")?;
//! forced.push(kept_guard);
//! assert!(journal.append(forced).await.is_err());
//! assert_eq!(journal.read_whole(&table).await?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A process that stands by uses [`Leases::contend`], which answers once it owns the duty. Where
//! the work is one long future, end it with the belief:
//!
//! ```text
//! tokio::select! {
//!     standing = lease.keep() => stop, because of `standing`,
//!     outcome = the_work(&lease) => lease.release(),
//! }
//! ```

mod state;

mod engine;

mod store;

mod leases;

mod fenced;

pub use engine::{
    Effect, Engine, Input, Loss, Moment, Outcome, RELEASE_TRIES_MAX, Standing, Watched,
};
pub use fenced::Fenced;
pub use leases::{DUTIES_WATCHED_MAX, GUARD_TRIES_MAX, Lease, Leases, TURN_CALLS_MAX};
pub use state::{
    ClaimId, LEASE_KIND, LeaseEvent, LeaseState, Owner, Ownership, RENEWAL_KIND, View,
};
pub use store::{TRIM_MAX, trim, view};

use crate::ErrorKind;
use crate::id::ParseIdError;
use crate::journal::{HistoryId, JournalError};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest name of a duty, in bytes.
pub const DUTY_BYTES_MAX: usize = 400;

/// The longest name of a holder, in bytes.
pub const HOLDER_BYTES_MAX: usize = 256;

/// The shortest term, in milliseconds.
pub const TERM_MILLIS_MIN: u64 = 100;

/// The longest term, in milliseconds: a day.
pub const TERM_MILLIS_MAX: u64 = 86_400_000;

/// The most renewals that are kept at a time.
pub const RENEWALS_MAX: u64 = 100_000;

/// What one process at a time may do.
///
/// 1 to [`DUTY_BYTES_MAX`] bytes without control characters and without `#`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Duty {
    history: HistoryId,
}

impl Duty {
    /// The history of its ownership.
    #[must_use]
    pub const fn history(&self) -> &HistoryId {
        &self.history
    }

    /// The history of the renewals since the ownership's event `version`.
    #[must_use]
    pub fn renewals(&self, version: u64) -> HistoryId {
        self.history.beside(RENEWAL_KIND, &format!("#{version:020}"))
    }
}

impl FromStr for Duty {
    type Err = LeaseError;

    fn from_str(name: &str) -> Result<Self, LeaseError> {
        if name.len() > DUTY_BYTES_MAX {
            return Err(ParseIdError::new("duty", name, "longer than 400 bytes").into());
        }
        if name.contains('#') {
            return Err(ParseIdError::new("duty", name, "has a number sign").into());
        }
        Ok(Self { history: HistoryId::new(LEASE_KIND, name)? })
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.history.key())
    }
}

/// How long leases last and how they are watched.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseSettings {
    /// How long after a renewal others wait before they take over, in milliseconds. It is written
    /// into the claim, so holders of one duty may differ in it.
    pub term_millis: u64,
    /// How much earlier than the term the holder gives up, in milliseconds.
    pub margin_millis: u64,
    /// How often the holder renews, in milliseconds.
    pub renew_every_millis: u64,
    /// How often a candidate looks at the owner, in milliseconds.
    pub watch_every_millis: u64,
    /// How long to wait after the journal failed, in milliseconds.
    pub retry_every_millis: u64,
    /// The longest wait for one answer of the journal, in milliseconds.
    pub call_millis_max: u64,
    /// After how many renewals the owner confirms its ownership and the renewals are deleted: the
    /// default keeps them below a megabyte. 1 to [`RENEWALS_MAX`].
    pub renewals_max: u64,
    /// By how much any process's monotonic clock may run faster or slower than real time, in
    /// thousandths; at most 500.
    pub clock_drift_per_mille: u16,
}

impl Default for LeaseSettings {
    /// A term of 30 seconds, renewed every 10; clocks within one percent.
    fn default() -> Self {
        Self {
            term_millis: 30_000,
            margin_millis: 3_000,
            renew_every_millis: 10_000,
            watch_every_millis: 5_000,
            retry_every_millis: 1_000,
            call_millis_max: 5_000,
            renewals_max: 4096,
            clock_drift_per_mille: 10,
        }
    }
}

impl LeaseSettings {
    /// Checks that the figures fit each other.
    ///
    /// # Errors
    /// [`LeaseError::Settings`] names the one that does not.
    pub fn check(&self) -> Result<(), LeaseError> {
        let belief = self.term_millis.saturating_sub(self.margin_millis);
        let checks = [
            ("term_millis", self.term_millis, TERM_MILLIS_MIN..=TERM_MILLIS_MAX),
            ("margin_millis", self.margin_millis, 0..=self.term_millis / 2),
            ("renew_every_millis", self.renew_every_millis, 1..=belief.saturating_sub(1)),
            ("watch_every_millis", self.watch_every_millis, 1..=TERM_MILLIS_MAX),
            ("retry_every_millis", self.retry_every_millis, 1..=TERM_MILLIS_MAX),
            ("call_millis_max", self.call_millis_max, 1..=TERM_MILLIS_MAX),
            ("renewals_max", self.renewals_max, 1..=RENEWALS_MAX),
            ("clock_drift_per_mille", u64::from(self.clock_drift_per_mille), 0..=500),
        ];
        match checks.into_iter().find(|(_, value, range)| !range.contains(value)) {
            None => Ok(()),
            Some((name, value, range)) => {
                Err(LeaseError::Settings { name, value, min: *range.start(), max: *range.end() })
            }
        }
    }

    /// How long a holder believes after it asked.
    const fn belief(&self) -> Duration {
        Duration::from_millis(self.term_millis.saturating_sub(self.margin_millis))
    }

    /// How long a candidate watches an owner of `term`: a slow clock of the owner's makes its term
    /// longer, a fast one of the candidate's makes its wait shorter.
    fn wait(&self, term: Duration) -> Duration {
        let drift = u128::from(self.clock_drift_per_mille.min(500));
        let nanos = (term.as_nanos() * (1000 + drift)).div_ceil(1000 - drift);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    const fn renew_every(&self) -> Duration {
        Duration::from_millis(self.renew_every_millis)
    }

    const fn watch_every(&self) -> Duration {
        Duration::from_millis(self.watch_every_millis)
    }

    const fn retry_every(&self) -> Duration {
        Duration::from_millis(self.retry_every_millis)
    }

    const fn call_max(&self) -> Duration {
        Duration::from_millis(self.call_millis_max)
    }
}

/// Why a lease was not given or does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Another owns the duty; try again later with the same [`Leases`], which remembers since when
    /// it has seen the owner unchanged.
    #[error("duty has an owner. duty=`{duty}`, holder=`{holder}`, retry after=`{retry_after:#}`")]
    Held {
        /// What was asked for.
        duty: Duty,
        /// Who owns it.
        holder: String,
        /// When a claim can succeed if the owner shows no life.
        retry_after: SignedDuration,
    },
    /// The holder is the owner no more and must stop.
    #[error("lease is lost. duty=`{duty}`, epoch=`{epoch}`, because=`{standing:?}`")]
    Lost {
        /// What it owned.
        duty: Duty,
        /// Its epoch.
        epoch: u64,
        /// Why.
        standing: Standing,
    },
    /// Not a name of a duty or a holder.
    #[error(transparent)]
    Name(#[from] ParseIdError),
    /// Settings that do not fit.
    #[error(
        "lease setting is out of range. name=`{name}`, value=`{value}`, min=`{min}`, max=`{max}`"
    )]
    Settings {
        /// Which one.
        name: &'static str,
        /// What it is.
        value: u64,
        /// The least it may be.
        min: u64,
        /// The most it may be.
        max: u64,
    },
    /// The journal failed, or refused a write for another reason than the lease.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl LeaseError {
    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Held { .. } => ErrorKind::Conflict,
            Self::Lost { .. } => ErrorKind::PreconditionFailed,
            Self::Name(_) | Self::Settings { .. } => ErrorKind::Invalid,
            Self::Journal(error) => error.kind(),
        }
    }
}

#[cfg(test)]
mod tests;
