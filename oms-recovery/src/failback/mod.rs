//! Bringing production back: reverse the replication, fail over the other way, complete.

pub mod reprotect;

pub mod complete;
