//! Which recovery points are kept.

use super::RecoveryPoint;
use crate::replication::{ReplicationPolicy, Stamp};
use jiff::Timestamp;

/// What a decision to prune is made from.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The points there are, oldest first.
    pub points: &'a [RecoveryPoint],
    /// The last whole prefix.
    pub latest: Stamp,
    /// Bytes in the log.
    pub log_bytes: u64,
    /// The oldest prefix that is in use, which stays whatever the policy says.
    pub pinned: Option<Stamp>,
}

/// The oldest prefix to keep: everything before it is merged into the base.
///
/// A point older than the retention goes, then the oldest over the allowed count. If the log is
/// over its bound, the older half of what is left goes too, so that repeated calls bring it down;
/// the last prefix always stays.
#[must_use]
pub fn floor(kept: Kept<'_>, policy: &ReplicationPolicy, now: Timestamp) -> Stamp {
    let oldest = now.checked_sub(policy.recovery_point_retention).unwrap_or(Timestamp::MIN);
    let young = kept.points.partition_point(|point| point.time < oldest);
    let over = kept.points.len().saturating_sub(policy.recovery_points_max as usize);
    let mut left = &kept.points[young.max(over)..];
    if kept.log_bytes > policy.replica_log_bytes_max {
        left = &left[left.len().div_ceil(2)..];
    }
    let floor = left.first().map_or(kept.latest, |point| point.stamp);
    floor.min(kept.pinned.unwrap_or(floor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery_point::{Consistency, PointId};
    use jiff::SignedDuration;
    use uuid::Uuid;

    fn at(sequence: u64) -> Stamp {
        Stamp { epoch: 1, sequence }
    }

    fn hourly(count: u64) -> Vec<RecoveryPoint> {
        let point = |hour: u64| RecoveryPoint {
            id: PointId(Uuid::from_u128(hour.into())),
            time: Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour as i64),
            consistency: Consistency::CrashConsistent,
            stamp: at(hour),
        };
        (1..=count).map(point).collect()
    }

    #[test]
    fn age_count_bytes_and_pins_decide() {
        let points = hourly(48);
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(48);
        let day = ReplicationPolicy::default();
        let kept = Kept { points: &points, latest: at(50), log_bytes: 0, pinned: None };
        assert_eq!(floor(kept, &day, now), at(24));
        assert_eq!(floor(Kept { pinned: Some(at(20)), ..kept }, &day, now), at(20));
        assert_eq!(floor(Kept { log_bytes: u64::MAX, ..kept }, &day, now), at(37));
        let three = ReplicationPolicy { recovery_points_max: 3, ..day.clone() };
        assert_eq!(floor(kept, &three, now), at(46));
        let none = Kept { points: &[], ..kept };
        assert_eq!(floor(none, &day, now), at(50));
    }

    #[test]
    fn a_clock_that_jumped_back_removes_nothing() {
        let points = hourly(3);
        let kept = Kept { points: &points, latest: at(3), log_bytes: 0, pinned: None };
        assert_eq!(floor(kept, &ReplicationPolicy::default(), Timestamp::UNIX_EPOCH), at(1));
    }
}
