//! `statistics`: jobs by their status, over a week. See `account.json` of 2015-10-31,
//! `Statistics_ListByAutomationAccount`.
//!
//! Counted are compilation jobs by when they were asked for; `$filter` may say another time by
//! `properties/startTime ge …` and `properties/endTime le …`.

use super::filter::{Kind, Order, Property};
use super::request::{Answer, Request};
use crate::Error;
use crate::pull_server::CompilationState;
use http::StatusCode;
use jiff::SignedDuration;
use oms_core::http::respond;
use serde_json::json;

const PROPERTIES: [Property; 2] =
    [("properties/startTime", Kind::Time), ("properties/endTime", Kind::Time)];

/// Over how long jobs are counted where nothing is said.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Every `JobStatus`; jobs of this service come to four of them.
const STATUSES: [&str; 13] = [
    "New",
    "Activating",
    "Running",
    "Completed",
    "Failed",
    "Stopped",
    "Blocked",
    "Suspended",
    "Disconnected",
    "Suspending",
    "Stopping",
    "Resuming",
    "Removing",
];

/// `Statistics_ListByAutomationAccount`
pub(super) async fn list(request: Request) -> Answer {
    let filter = request.filter(&PROPERTIES)?;
    let now = request.server().now();
    let week_ago = now.saturating_sub(WEEK);
    let week_ago = week_ago.map_err(|error| Error::Internal { reason: error.to_string() })?;
    let (mut start, mut end) = (week_ago, now);
    for (order, time) in filter.times(PROPERTIES[0].0) {
        match order {
            Order::AtOrAfter | Order::After => start = time,
            _ => return Err(unfit()),
        }
    }
    for (order, time) in filter.times(PROPERTIES[1].0) {
        match order {
            Order::AtOrBefore | Order::Before => end = time,
            _ => return Err(unfit()),
        }
    }
    let mut jobs = request.server().compilations().await?;
    jobs.retain(|job| job.created >= start && job.created <= end);
    let count = |status: &str| {
        let state = CompilationState::ALL.into_iter().find(|state| state.as_str() == status);
        state.map_or(0, |state| jobs.iter().filter(|job| job.state == state).count())
    };
    let counter = |status: &&str| {
        json!({
            "id": request.id(&["statistics", status]),
            "counterProperty": status, "counterValue": count(status),
            "startTime": start, "endTime": end,
        })
    };
    let value: Vec<_> = STATUSES.iter().map(counter).collect();
    Ok(respond::json(StatusCode::OK, &json!({"value": value})))
}

fn unfit() -> super::request::Refused {
    let name = "but `properties/startTime ge …` and `properties/endTime le …`".to_owned();
    Error::Unsupported { what: "condition in $filter", name }.into()
}
