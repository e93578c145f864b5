//! Which recovery point a command means.

use anyhow::{Result, bail};
use jiff::Timestamp;
use oms_recovery::ProtectedItem;
use oms_recovery::machine::ChosenPoint;
use oms_recovery::recovery_point::{PointChoice, PointId, RecoveryPoint};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A choice as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Point {
    /// As the library knows it.
    Choice(PointChoice),
    /// The newest one that was taken until then.
    Until(Timestamp),
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self::Choice(match text {
            "latest" => PointChoice::Latest,
            "latest-processed" => PointChoice::LatestProcessed,
            "latest-application-consistent" | "latest-app-consistent" => {
                PointChoice::LatestApplicationConsistent
            }
            "latest-crash-consistent" => PointChoice::LatestCrashConsistent,
            _ => match (text.parse::<PointId>(), text.parse::<Timestamp>()) {
                (Ok(id), _) => PointChoice::Point(id),
                (_, Ok(time)) => return Ok(Self::Until(time)),
                _ => return Err(format!("none of {CHOICES}")),
            },
        }))
    }
}

const CHOICES: &str = "latest, latest-processed, latest-application-consistent, \
                       latest-crash-consistent, a time such as 2026-12-02T16:40:00Z, or a point's id";

impl Point {
    /// The choice among the points that an item has now.
    pub(super) async fn choose(self, item: &ProtectedItem) -> Result<PointChoice> {
        let time = match self {
            Self::Choice(choice) => return Ok(choice),
            Self::Until(time) => time,
        };
        let points = item.recovery_points().await;
        let Some(point) = newest(&points, time) else {
            match points.first() {
                Some(oldest) => bail!(
                    "no recovery point was taken until {time}, or none is kept; the oldest is of {}",
                    oldest.time
                ),
                None => bail!("there are no recovery points, or their site cannot be opened"),
            }
        };
        Ok(PointChoice::Point(point.id))
    }
}

fn newest(points: &[RecoveryPoint], until: Timestamp) -> Option<&RecoveryPoint> {
    points.iter().filter(|point| point.time <= until).max_by_key(|point| point.stamp)
}

/// A point that was chosen, for people.
pub(super) fn describe(point: ChosenPoint) -> String {
    match point.time {
        Some(time) => format!("as of the recovery point of {time}"),
        None => "as of the last write that the replica held".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_recovery::recovery_point::Consistency;
    use oms_recovery::replication::Stamp;

    #[test]
    fn a_choice_is_a_name_a_time_or_an_id() {
        let parse = |text: &str| text.parse::<Point>();
        assert_eq!(parse("latest"), Ok(Point::Choice(PointChoice::Latest)));
        let app = Ok(Point::Choice(PointChoice::LatestApplicationConsistent));
        assert_eq!(parse("latest-app-consistent"), app);
        let id = "5a0f4c0e-0d55-4c1f-9c1c-2f6f1a1b7d21";
        let point = Ok(Point::Choice(PointChoice::Point(id.parse().expect("an id"))));
        assert_eq!(parse(id), point);
        let time = "2026-12-02T16:40:00Z".parse().expect("a time");
        assert_eq!(parse("2026-12-02T17:40:00+01:00"), Ok(Point::Until(time)));
        for text in ["", "newest", "2026-12-02", "Latest", "16:40"] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("latest-processed"), "{error}");
        }
    }

    #[test]
    fn a_time_means_the_newest_point_until_then() {
        let point = |sequence: u64, time: &str| RecoveryPoint {
            id: PointId::draw(&oms_core::SystemEntropy),
            time: time.parse().expect("a time"),
            consistency: Consistency::CrashConsistent,
            stamp: Stamp { epoch: 1, sequence },
        };
        let points = [point(1, "2026-12-02T16:00:00Z"), point(9, "2026-12-02T17:00:00Z")];
        let at = |time: &str| {
            newest(&points, time.parse().expect("a time")).map(|point| point.stamp.sequence)
        };
        assert_eq!(at("2026-12-02T15:59:59Z"), None);
        assert_eq!(at("2026-12-02T16:00:00Z"), Some(1));
        assert_eq!(at("2026-12-02T16:59:59Z"), Some(1));
        assert_eq!(at("2027-01-01T00:00:00Z"), Some(9));
    }
}
