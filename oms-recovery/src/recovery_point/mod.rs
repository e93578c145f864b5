//! Recovery points: exact prefixes of the writes, at the replica.

pub mod log;

pub mod consistency;

pub mod prune;

pub mod view;

pub use consistency::{Consistency, Quiescer};
pub use log::RecoveryLog;
pub use view::PointView;

use crate::replication::Stamp;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

oms_core::uuid_id! {
    /// One recovery point.
    PointId, "recovery point id"
}

/// The disk as of one place in the order of its writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    /// Its identity.
    pub id: PointId,
    /// When it was taken, by the primary's clock, to the microsecond.
    pub time: Timestamp,
    /// What it promises.
    pub consistency: Consistency,
    /// Its place; every write up to here and none after is in it.
    pub stamp: Stamp,
}

/// Which recovery point an operation uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PointChoice {
    /// Every write that the replica holds (`Latest`), with or without a recovery point there.
    Latest,
    /// The newest recovery point (`LatestProcessed`).
    LatestProcessed,
    /// The newest application-consistent recovery point (`LatestApplicationConsistent`).
    LatestApplicationConsistent,
    /// The newest crash-consistent recovery point (`LatestCrashConsistent`).
    LatestCrashConsistent,
    /// This one (`Custom`).
    Point(PointId),
}
