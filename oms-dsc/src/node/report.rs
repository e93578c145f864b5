//! A run as the messages that a pull server takes.

use super::engine::RunReport;
use super::metaconfiguration::Metaconfiguration;
use super::state::LcmState;
use super::work::{ResourceOutcome, ResourceStatus};
use crate::protocol::{AgentId, JobId, StatusReport};
use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::{Map, Value, json};

const LCM_VERSION: &str = "2.0";
const REPORT_FORMAT_VERSION: &str = "2.0";

/// An instant as reports write it, in UTC: `2016-08-15T21:25:51.2030000+00:00`.
fn time(time: Timestamp) -> String {
    format!("{:.7}", time.display_with_offset(Offset::UTC))
}

fn braces(job_id: JobId) -> String {
    format!("{{{}}}", job_id.to_string().to_uppercase())
}

/// The message at the start of a run.
pub(super) fn start_report(
    settings: &Metaconfiguration,
    job_id: JobId,
    operation_type: &str,
    now: Timestamp,
) -> StatusReport {
    let data = json!({
        "StartDate": time(now),
        "JobID": braces(job_id),
        "Type": operation_type,
        "HostName": settings.node_name,
        "LCMVersion": LCM_VERSION,
    });
    StatusReport {
        job_id: Some(job_id.to_string()),
        operation_type: Some(operation_type.to_owned()),
        node_name: Some(settings.node_name.clone()),
        lcm_version: Some(LCM_VERSION.to_owned()),
        report_format_version: Some(REPORT_FORMAT_VERSION.to_owned()),
        start_time: Some(time(now)),
        errors: Some(Vec::new()),
        status_data: Some(vec![data.to_string()]),
        ..StatusReport::default()
    }
}

/// The message at the end of a run.
pub(super) fn end_report(
    settings: &Metaconfiguration,
    agent_id: AgentId,
    operation_type: &str,
    state: LcmState,
    version: Option<String>,
    run: &RunReport,
) -> StatusReport {
    let status = if run.is_success { "Success" } else { "Failure" };
    let (good, bad): (Vec<_>, Vec<_>) =
        run.resources.iter().partition(|resource| resource.is_in_desired_state());
    let rows = |resources: Vec<&ResourceStatus>| -> Vec<Value> {
        resources.into_iter().map(resource_row).collect()
    };
    let data = json!({
        "StartDate": time(run.started),
        "JobID": braces(run.job_id),
        "Type": operation_type,
        "Status": status,
        "HostName": settings.node_name,
        "LCMVersion": LCM_VERSION,
        "DurationInSeconds": seconds(run.ended.duration_since(run.started).as_secs_f64()),
        "NumberOfResources": run.resources.len().to_string(),
        "RebootRequested": "False",
        "Mode": "Pull",
        "Error": if run.is_success { String::new() } else { run.errors.join("; ") },
        "MetaConfiguration": {
            "AgentId": agent_id.to_string().to_uppercase(),
            "ConfigurationMode": settings.configuration_mode.as_str(),
            "RefreshMode": "Pull",
            "RefreshFrequencyMins": settings.refresh_frequency_minutes.to_string(),
            "ConfigurationModeFrequencyMins":
                settings.configuration_mode_frequency_minutes.to_string(),
            "LCMState": state.wire_name(),
        },
        "ResourcesInDesiredState": rows(good),
        "ResourcesNotInDesiredState": rows(bad),
    });
    StatusReport {
        job_id: Some(run.job_id.to_string()),
        operation_type: Some(operation_type.to_owned()),
        refresh_mode: Some("Pull".to_owned()),
        status: Some(status.to_owned()),
        node_name: Some(settings.node_name.clone()),
        lcm_version: Some(LCM_VERSION.to_owned()),
        report_format_version: Some(REPORT_FORMAT_VERSION.to_owned()),
        configuration_version: version,
        start_time: Some(time(run.started)),
        end_time: Some(time(run.ended)),
        reboot_requested: Some("False".to_owned()),
        errors: Some(run.errors.iter().map(|error| error_row(error)).collect()),
        status_data: Some(vec![data.to_string()]),
        ..StatusReport::default()
    }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3}")
}

fn error_row(message: &str) -> String {
    json!({
        "Locale": "en-US",
        "ErrorCode": "",
        "ErrorMessage": message,
        "ResourceId": "",
        "ErrorSource": "DSCEngine",
        "Errors": "",
    })
    .to_string()
}

/// All scalars are strings, as real clients write them.
fn resource_row(resource: &ResourceStatus) -> Value {
    let mut row = Map::new();
    let mut add = |name: &str, value: &str| row.insert(name.to_owned(), value.into());
    add("ResourceId", &resource.resource_id);
    add("ResourceName", &resource.type_name);
    add("InstanceName", &resource.instance_name);
    add("StartDate", &time(resource.started));
    add("DurationInSeconds", &seconds(resource.duration_seconds));
    add("RebootRequested", "False");
    add("InDesiredState", if resource.is_in_desired_state() { "True" } else { "False" });
    for (name, value) in [
        ("SourceInfo", &resource.source_info),
        ("ModuleName", &resource.module_name),
        ("ModuleVersion", &resource.module_version),
        ("ConfigurationName", &resource.configuration_name),
    ] {
        if let Some(value) = value {
            add(name, value);
        }
    }
    if let Some(error) = &resource.error {
        add("Error", error);
    } else if resource.outcome == ResourceOutcome::Different {
        // Readers of reports show this text; an error it is not.
        let differences: Vec<String> =
            resource.differences.iter().map(ToString::to_string).collect();
        add("Differences", &differences.join("; "));
    }
    Value::Object(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_seven_digits_and_an_offset() {
        let instant: Timestamp = "2016-08-15T21:25:51.203Z".parse().expect("a time");
        assert_eq!(time(instant), "2016-08-15T21:25:51.2030000+00:00");
    }
}
