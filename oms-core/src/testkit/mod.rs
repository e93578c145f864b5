//! Simulation, fault injection and conformance suites.
//!
//! - [`sim`]: a seeded world of actors, messages, timers, partitions, pauses and crashes.
//!   [`Sim::mishaps`](sim::Sim::mishaps), [`SimDisk::losses`](disk::SimDisk::losses) and
//!   [`Faults::counts`](fault::Faults::counts) tell what of it was seen: a fault that never happens
//!   proves nothing.
//! - [`skew`]: clocks that disagree.
//! - [`seeds`]: which seeds a simulation runs: a fixed set, one again, or fresh ones for a while.
//! - [`disk`]: a disk in memory that loses what was not synced, and the suite of every
//!   [`Disk`](crate::Disk).
//! - [`crash`]: programs that end at any of their operations, by power failure or alone.
//! - [`fault`]: a wrapper that makes a seam fail before or after its effect.
//! - [`Fixture`]: journals as earlier versions wrote them, read by every later one.
//! - [`journal`]: the suite of every [`Journal`](crate::Journal).
//! - [`sink`], [`action`] and [`key`]: the suites of every [`RecordSink`](crate::RecordSink),
//!   [`Action`](crate::Action) and [`KeyProvider`](crate::secret::KeyProvider).
//! - [`clock`], [`entropy`] and [`authorizer`]: the suites of every [`Clock`](crate::Clock),
//!   [`Entropy`](crate::Entropy) and [`Authorizer`](crate::auth::Authorizer).
//! - [`guard`]: the suite of every [`ResourceGuard`](crate::resource::ResourceGuard).
//! - `authenticator` (with feature `http`): the suite of every `http::Authenticator`.
//! - `object_store` (feature `testkit-object-store`): an object store that fails, and a suite.
//! - `routes` (with feature `http`): walks over every route of mounted surfaces.

#![expect(clippy::expect_used, reason = "a test suite fails by panicking")]

mod tally;

pub mod sim;

pub mod seeds;
pub mod skew;

pub mod disk;

pub mod crash;

pub mod fault;

pub mod journal;

pub mod sink;

pub mod action;

pub mod key;

#[cfg(feature = "http")]
pub mod authenticator;
pub mod authorizer;
pub mod clock;
pub mod entropy;
pub mod guard;

mod fixtures;
#[cfg(feature = "testkit-object-store")]
pub mod object_store;

pub use fixtures::Fixture;
#[cfg(test)]
pub(crate) use fixtures::{released, released_ring};
#[cfg(feature = "http")]
pub mod routes;
