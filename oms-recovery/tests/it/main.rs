//! Replication, failover and failback as a user sees them, under faults.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod disable;
mod divergence;
mod ended;
mod failover;
mod faults;
mod image;
#[cfg(feature = "interop")]
mod interop;
mod journey;
mod released;
mod restart;
mod simulation;
mod spans;
mod states;
mod unheard;
mod vault;
