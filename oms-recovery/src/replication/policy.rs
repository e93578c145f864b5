//! How an item is replicated.

use crate::error::{Error, Result};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// The longest retention of recovery points.
pub const RETENTION_MAX: SignedDuration = SignedDuration::from_hours(15 * 24);

/// The most recovery points a policy may keep.
pub const RECOVERY_POINTS_MAX: u32 = 10_000;

/// What a replication policy says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicationPolicy {
    /// Its name.
    pub name: String,
    /// How long a recovery point is kept (`recoveryPointHistory`), up to 15 days.
    pub recovery_point_retention: SignedDuration,
    /// How many recovery points are kept (`recoveryPoints`), 1 to 10,000.
    pub recovery_points_max: u32,
    /// How old the newest replicated write may be before health turns to warning
    /// (`recoveryPointThresholdInMinutes`).
    pub recovery_point_threshold: SignedDuration,
    /// How much the primary logs for a replica that is away, in bytes; past it a
    /// resynchronization is required.
    pub outgoing_log_bytes_max: u64,
    /// How much the replica logs before older recovery points are merged away, in bytes.
    pub replica_log_bytes_max: u64,
}

impl Default for ReplicationPolicy {
    /// 24 hours, 288 points, a threshold of 15 minutes, 1 GiB outgoing, 8 GiB at the replica.
    fn default() -> Self {
        Self {
            name: "24-hour-retention-policy".to_owned(),
            recovery_point_retention: SignedDuration::from_hours(24),
            recovery_points_max: 288,
            recovery_point_threshold: SignedDuration::from_mins(15),
            outgoing_log_bytes_max: 1 << 30,
            replica_log_bytes_max: 8 << 30,
        }
    }
}

impl ReplicationPolicy {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the first that does not fit.
    pub fn check(&self) -> Result<()> {
        let refuse = |what, value: String, reason| Err(Error::Invalid { what, value, reason });
        let retention = self.recovery_point_retention;
        if retention.is_negative() || retention > RETENTION_MAX {
            let value = retention.to_string();
            return refuse("recovery_point_retention", value, "not 0 to 15 days");
        }
        if !(1..=RECOVERY_POINTS_MAX).contains(&self.recovery_points_max) {
            let value = self.recovery_points_max.to_string();
            return refuse("recovery_points_max", value, "not 1 to 10000");
        }
        if !self.recovery_point_threshold.is_positive() {
            let value = self.recovery_point_threshold.to_string();
            return refuse("recovery_point_threshold", value, "not positive");
        }
        if self.name.is_empty() || self.name.len() > 200 {
            return refuse("policy name", self.name.clone(), "not 1 to 200 bytes");
        }
        Ok(())
    }
}
