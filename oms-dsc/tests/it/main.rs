//! Whole paths through the crate.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

#[cfg(target_os = "linux")]
mod system;

#[cfg(target_os = "linux")]
mod system_scripts;

mod mof;

mod configuration;

mod schema;

mod credential;

mod recipient_key;

mod authoring;

mod module;

mod values;

mod file;

#[cfg(target_os = "linux")]
mod service;

#[cfg(target_os = "linux")]
mod archive;

#[cfg(target_os = "linux")]
mod command_resource;

#[cfg(target_os = "linux")]
mod killed;

mod clone;

mod compilation;

mod pull;

mod registration_key;

mod replay;

mod lcm;

mod telemetry;

mod rules;

mod rollouts;

mod released;

mod wait;

mod shared_fleet;

mod simulation;

#[cfg(all(feature = "http", feature = "client"))]
mod arm;

#[cfg(feature = "http")]
mod certificate;

#[cfg(all(feature = "http", feature = "client"))]
mod conversation;

#[cfg(feature = "http")]
mod recorded;

#[cfg(feature = "interop")]
mod interop;
