//! Simulation, fault injection and conformance suites.
//!
//! - [`sim`]: a seeded world of actors, messages, timers, partitions, pauses and crashes.
//! - [`disk`]: a disk in memory that loses what was not synced, and the suite of every
//!   [`Disk`](crate::Disk).
//! - [`fault`]: a wrapper that makes a seam fail before or after its effect.
//! - [`journal`]: the suite of every [`Journal`](crate::Journal).
//! - `routes` (with feature `http`): walks over every route of mounted surfaces.

#![expect(clippy::expect_used, reason = "a test suite fails by panicking")]

pub mod sim;

pub mod disk;

pub mod fault;

pub mod journal;

#[cfg(feature = "http")]
pub mod routes;
