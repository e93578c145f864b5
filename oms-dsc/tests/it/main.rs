//! Whole paths through the crate.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

mod mof;

mod configuration;

mod schema;

mod credential;

mod authoring;

mod module;

mod values;

mod file;

mod pull;

mod lcm;

mod released;

mod simulation;

#[cfg(feature = "http")]
mod certificate;

#[cfg(all(feature = "http", feature = "client"))]
mod conversation;

#[cfg(all(test, feature = "interop"))]
mod interop;
