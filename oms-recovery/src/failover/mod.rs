//! Moving production to the other site, for a test or in earnest.

pub mod test;

pub mod planned;

pub mod unplanned;

pub mod commit;

pub mod change_point;

pub use test::TestFailover;

use serde::{Deserialize, Serialize};

/// What an unplanned failover does at the source first (`sourceSiteOperations`).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SourceOperations {
    /// Try to stop it and to get its last writes; go on if that fails.
    Required,
    /// Leave it alone.
    NotRequired,
}
