//! What nodes report: kept as it came, merged by run, condensed to compliance.
//!
//! A run sends two or more messages with one `JobId`. Each is stored, durable before it is
//! acknowledged; [`merge`] makes one report of them, and [`ReportSummary::of`] says how the run
//! ended.

mod record;

mod store;

mod summary;

pub use record::records;
pub(crate) use store::ReportStore;
pub use store::SEGMENT_BYTES_MAX;
pub(crate) use summary::resource_state;
pub use summary::{Compliance, RESOURCES_SUMMARISED_MAX, ReportSummary, ResourceSummary};
#[cfg(feature = "http")]
pub(crate) use summary::{DIFFERENT, IN_DESIRED_STATE, listed, status_data, text};

use crate::Error;
use crate::protocol::StatusReport;
use jiff::Timestamp;

/// The largest message, in bytes.
pub const REPORT_BYTES_MAX: usize = 8 << 20;

/// Reads a message and checks what every report has.
///
/// # Errors
/// [`Error::Invalid`] if it is empty, no JSON, or a date in it is none; [`Error::Name`] if its
/// `JobId` is not a UUID; [`Error::TooLarge`].
pub fn read(body: &[u8]) -> Result<StatusReport, Error> {
    let report = decoded(body)?;
    report.job()?;
    for time in [&report.start_time, &report.end_time].into_iter().flatten() {
        if time.parse::<Timestamp>().is_err() {
            let reason = format!("`{}` is not a date", time.chars().take(40).collect::<String>());
            return Err(Error::Invalid { what: "report", reason });
        }
    }
    Ok(report)
}

/// A message whose values nobody has looked at.
pub(crate) fn decoded(body: &[u8]) -> Result<StatusReport, Error> {
    if body.len() > REPORT_BYTES_MAX {
        let (actual, limit) = (body.len(), REPORT_BYTES_MAX);
        return Err(Error::TooLarge { what: "report", actual, limit });
    }
    crate::protocol::decode("report", body)
}

/// Adds a later message of the same run: what it says replaces what was said, and what it leaves
/// out or empty stays.
pub fn merge(earlier: &mut StatusReport, later: StatusReport) {
    fn newer<T>(place: &mut Option<T>, value: Option<T>, is_empty: impl Fn(&T) -> bool) {
        if let Some(value) = value.filter(|value| place.is_none() || !is_empty(value)) {
            *place = Some(value);
        }
    }
    let no_text = String::is_empty;
    newer(&mut earlier.job_id, later.job_id, no_text);
    newer(&mut earlier.operation_type, later.operation_type, no_text);
    newer(&mut earlier.refresh_mode, later.refresh_mode, no_text);
    newer(&mut earlier.status, later.status, no_text);
    newer(&mut earlier.node_name, later.node_name, no_text);
    newer(&mut earlier.ip_address, later.ip_address, no_text);
    newer(&mut earlier.lcm_version, later.lcm_version, no_text);
    newer(&mut earlier.report_format_version, later.report_format_version, no_text);
    newer(&mut earlier.configuration_version, later.configuration_version, no_text);
    newer(&mut earlier.start_time, later.start_time, no_text);
    newer(&mut earlier.end_time, later.end_time, no_text);
    newer(&mut earlier.reboot_requested, later.reboot_requested, no_text);
    newer(&mut earlier.errors, later.errors, Vec::is_empty);
    newer(&mut earlier.status_data, later.status_data, Vec::is_empty);
    newer(&mut earlier.additional_data, later.additional_data, Vec::is_empty);
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "dd30a93d-6291-11e6-9c21-80e6500eb60d";

    #[test]
    fn messages_of_one_run_become_one_report() {
        let start = format!(
            r#"{{"JobId":"{JOB}","OperationType":"Initial","NodeName":"pc","Errors":["e"],
               "StartTime":"2016-08-14T19:42:11.2270000-07:00","StatusData":["{{}}"]}}"#
        );
        let end = format!(
            r#"{{"JobId":"{JOB}","Status":"Success","Errors":[],"RebootRequested":false,
               "EndTime":"2016-08-15T02:42:12.123456789+00:00","StatusData":"[1]"}}
"#
        );
        let mut report = read(start.as_bytes()).expect("a start");
        merge(&mut report, read(end.as_bytes()).expect("an end"));
        assert_eq!(report.operation_type.as_deref(), Some("Initial"));
        assert_eq!(report.status.as_deref(), Some("Success"));
        assert_eq!(report.reboot_requested.as_deref(), Some("False"));
        assert_eq!(report.errors, Some(vec!["e".to_owned()]));
        assert_eq!(report.status_data, Some(vec!["[1]".to_owned()]));
    }

    #[test]
    fn what_is_not_a_report_is_refused() {
        for (body, reason) in [
            ("", "EOF"),
            ("{}", "there is no JobId"),
            (r#"{"JobId":"x"}"#, "not a UUID"),
            (r#"{"JobId":"dd30a93d-6291-11e6-9c21-80e6500eb60d","StartTime":"x"}"#, "not a date"),
            (r#"{"JobId":["x"]}"#, "did not match"),
        ] {
            let error = read(body.as_bytes()).expect_err(reason);
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
