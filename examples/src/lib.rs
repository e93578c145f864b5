//! The `oms` program, programs of single services, and `kql_eval`, which answers Kusto queries of its
//! input. See the README of the workspace, whose programs are compiled and run as tests of this crate.

/// The README's programs.
#[cfg(all(
    doctest,
    feature = "logs",
    feature = "automation",
    feature = "dsc",
    feature = "backup",
    feature = "recovery"
))]
#[doc = include_str!("../../README.md")]
mod readme {}
