//! The seams that every OMS crate shares.
//!
//! Five services (`oms-logs`, `oms-automation`, `oms-dsc`, `oms-backup`, `oms-recovery`) stand on
//! this crate and never on each other. Every long-lived thing they keep (a job, a node, a protected
//! item, a replicated machine) is a pure state table whose events go to one journal:
//!
//! ```text
//!            command                        effect
//!               │                              ▲
//!               ▼                              │
//!  Clock ──► engine step(now, input) ──► Lifecycle::next ──► Journal ──► projections
//!  Entropy ─►   (no I/O of its own)       (state table)     (durable)      │
//!                                                                         ▼
//!  bulk bytes ──► Disk / object store                     RecordSink ──► log repository
//! ```
//!
//! The modules are listed below in the order in which data flows through them. [`guide`] leads
//! through them by building a sixth service, of some sixty lines, and is where to begin.
//!
//! # Example
//! ```
//! use oms_core::journal::{Envelope, HistoryId, Journal, JournalExt, MemoryJournal};
//! use oms_core::{Clock, SystemClock};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let journal = MemoryJournal::default();
//! let history = HistoryId::new("job", "42")?;
//! let event = Envelope::new("job-queued", 1, SystemClock.now(), "local", &"hello.py")?;
//! assert_eq!(journal.append_to(&history, 0, vec![event]).await?, 1);
//! assert_eq!(journal.read_whole(&history).await?[0].envelope.kind, "job-queued");
//! # Ok::<(), oms_core::journal::JournalError>(())
//! # }).unwrap();
//! ```
//!
//! # Features
//! - `sqlite` (default): [`journal::SqliteJournal`], the durable default.
//! - `postgres`: `journal::PostgresJournal`, for several processes on one database.
//! - `http`: surfaces and their mounting, see the `http` module.
//! - `testkit`: the seeded simulation, fault injection and conformance suites;
//!   `testkit-object-store`: the same for object stores.
//!
//! # What it is not
//! It holds no Arrow, starts no runtime, reads no clock outside [`clock`] and draws no randomness
//! outside [`entropy`]. A type lives here only if two services need it.

pub mod guide;

pub mod source;

pub mod record;

pub mod action;

pub mod lifecycle;

pub mod journal;

pub mod projection;

pub mod disk;

pub mod lease;

pub mod resource;

pub mod auth;

pub mod schedule;

pub mod clock;

pub mod entropy;

pub mod task;

pub mod id;

pub mod secret;

pub mod error;

#[cfg(feature = "http")]
pub mod http;

#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use action::Action;
pub use clock::{Clock, SystemClock};
pub use disk::{Disk, LocalDisk};
pub use entropy::{Entropy, EntropyExt, SystemEntropy};
pub use error::ErrorKind;
pub use journal::Journal;
pub use lifecycle::{IllegalTransition, Lifecycle};
pub use record::{Record, RecordSink};
pub use secret::Secret;
