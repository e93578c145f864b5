//! Simulation, fault injection and conformance suites.
//!
//! - [`sim`]: a seeded world of actors, messages, timers, partitions, pauses and crashes.
//! - [`disk`]: a disk in memory that loses what was not synced, and the suite of every
//!   [`Disk`](crate::Disk).
//! - [`fault`]: a wrapper that makes a seam fail before or after its effect.
//! - [`replay_fixtures`]: events as released versions wrote them, read by every later one.
//! - [`journal`]: the suite of every [`Journal`](crate::Journal).

#![expect(clippy::expect_used, reason = "a test suite fails by panicking")]

pub mod sim;

pub mod disk;

pub mod fault;

pub mod journal;

mod fixtures;

pub use fixtures::replay_fixtures;
