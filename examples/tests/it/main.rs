//! The `oms` program, as its user runs it.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[cfg(test)]
mod commands;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod serve;
#[cfg(test)]
mod support;
