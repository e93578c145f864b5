//! A run as the messages that a pull server takes.

use super::engine::RunReport;
use super::metaconfiguration::Metaconfiguration;
use super::state::LcmState;
use super::work::{ResourceOutcome, ResourceStatus};
use crate::protocol::{AgentId, JobId, StatusReport};
use crate::resource::Difference;
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
        "RebootRequested": flag(run.reboot_requested),
        "Mode": "Pull",
        "Error": if run.is_success { String::new() } else { run.errors.join("; ") },
        "MetaConfiguration": {
            "AgentId": agent_id.to_string().to_uppercase(),
            "ConfigurationMode": settings.configuration_mode.as_str(),
            "RefreshMode": "Pull",
            "RefreshFrequencyMins": settings.refresh_frequency_minutes.to_string(),
            "ConfigurationModeFrequencyMins":
                settings.configuration_mode_frequency_minutes.to_string(),
            "RebootNodeIfNeeded": flag(settings.reboot_node_if_needed),
            "ActionAfterReboot": settings.action_after_reboot.as_str(),
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
        reboot_requested: Some(flag(run.reboot_requested).to_owned()),
        errors: Some(run.errors.iter().map(|error| error_row(error)).collect()),
        status_data: Some(vec![data.to_string()]),
        ..StatusReport::default()
    }
}

const fn flag(flag: bool) -> &'static str {
    if flag { "True" } else { "False" }
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
    add("RebootRequested", flag(resource.outcome == ResourceOutcome::RebootPending));
    add("InDesiredState", flag(resource.is_in_desired_state()));
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
    }
    if !resource.differences.is_empty() {
        // Readers of reports show this text; an error it is not.
        let shown: Vec<String> = resource.differences.iter().map(ToString::to_string).collect();
        add("Differences", &clip(&shown.join("; ")));
        row.insert("Changes".to_owned(), changes(resource).into());
    }
    Value::Object(row)
}

/// The most properties of one resource that a report tells the change of.
const CHANGES_MAX: usize = 32;

/// The longest value that a report tells, in characters.
const VALUE_CHARS_MAX: usize = 500;

fn clip(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Each property that differed: what it was, what it should be, and what it is after the run.
fn changes(resource: &ResourceStatus) -> Vec<Value> {
    let change = |difference: &Difference| {
        let mut change = json!({
            "Property": difference.property,
            "Before": clip(&difference.found),
            "Desired": clip(&difference.desired),
        });
        if let Some(after) = after(resource, difference) {
            change["After"] = clip(after).into();
        }
        change
    };
    resource.differences.iter().take(CHANGES_MAX).map(change).collect()
}

/// What a property that differed is after the run, as far as that is known.
fn after<'a>(resource: &'a ResourceStatus, difference: &'a Difference) -> Option<&'a str> {
    match resource.outcome {
        ResourceOutcome::Corrected => Some(&difference.desired),
        ResourceOutcome::Different => Some(&difference.found),
        _ => {
            let mut remaining = resource.remaining.iter();
            remaining.find(|left| left.property == difference.property).map(|left| &*left.found)
        }
    }
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
