//! How a run ended, out of what its report says.

use crate::protocol::{JobId, StatusReport};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most resources that a summary lists; the counts cover all.
pub const RESOURCES_SUMMARISED_MAX: usize = 500;

/// The longest text that a summary keeps of one field, in characters.
const TEXT_CHARS_MAX: usize = 1_000;

/// The largest summary, in bytes of JSON text: it is the body of a journal event.
const SUMMARY_BYTES_MAX: usize = 256 << 10;

/// How a run ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Compliance {
    /// Everything is in the desired state.
    Compliant,
    /// Something is not.
    NotCompliant,
    /// The run failed.
    Failed,
}

impl Compliance {
    /// Its name in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compliant => "Compliant",
            Self::NotCompliant => "NotCompliant",
            Self::Failed => "Failed",
        }
    }
}

/// A finished run, condensed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportSummary {
    /// The run.
    pub job_id: JobId,
    /// How it ended.
    pub compliance: Compliance,
    /// `Initial`, `Consistency`, `ReadOnly`.
    pub operation_type: String,
    /// `Pull`, `Push`.
    pub refresh_mode: Option<String>,
    /// `ApplyAndMonitor`, `ApplyAndAutoCorrect`, `ApplyOnly`.
    pub configuration_mode: Option<String>,
    /// The computer's name.
    pub node_name: Option<String>,
    /// Its addresses.
    pub ip_address: Option<String>,
    /// When the run began.
    pub start_time: Option<Timestamp>,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// How many resources the configuration has.
    pub resource_count: u64,
    /// At most [`RESOURCES_SUMMARISED_MAX`], those out of the desired state first.
    pub resources: Vec<ResourceSummary>,
    /// Why the run failed.
    pub error: Option<String>,
}

/// One resource of a finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceSummary {
    /// `[File]motd`
    pub resource_id: String,
    /// The friendly type name: `File`.
    pub resource_name: String,
    /// Whether it is in the desired state.
    pub in_desired_state: bool,
    /// `ModuleName`
    pub module_name: Option<String>,
    /// `ModuleVersion`
    pub module_version: Option<String>,
    /// `ConfigurationName`
    pub configuration_name: Option<String>,
    /// How long it took, in seconds.
    pub duration_seconds: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
}

impl ReportSummary {
    /// Condenses a merged report. None if the run has not ended, or is not about a
    /// configuration: applying a metaconfiguration says nothing about compliance. Status data
    /// that is cut off or no JSON counts as absent.
    #[must_use]
    pub fn of(report: &StatusReport) -> Option<Self> {
        let operation_type = report.operation_type.clone().unwrap_or_default();
        let is_about_itself = operation_type.eq_ignore_ascii_case("LocalConfigurationManager");
        if is_about_itself || (report.status.is_none() && report.end_time.is_none()) {
            return None;
        }
        let data = status_data(report);
        let resources = |key: &str, in_desired_state| {
            listed(&data, key)
                .into_iter()
                .map(move |value| ResourceSummary::of(value, in_desired_state))
                .collect::<Vec<_>>()
        };
        let mut listed = resources(DIFFERENT, false);
        let different = listed.len();
        listed.append(&mut resources(IN_DESIRED_STATE, true));
        let status = report.status.clone().or_else(|| text(&data, "Status"));
        let error = text(&data, "Error").filter(|error| !error.is_empty());
        let has_failed = match &status {
            Some(status) => status.eq_ignore_ascii_case("Failure"),
            None => error.is_some() || report.errors.as_ref().is_some_and(|e| !e.is_empty()),
        };
        let compliance = match (has_failed, different) {
            (true, _) => Compliance::Failed,
            (false, 0) => Compliance::Compliant,
            (false, _) => Compliance::NotCompliant,
        };
        let time = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
        let count = text(&data, "NumberOfResources").and_then(|count| count.trim().parse().ok());
        let resource_count = count.unwrap_or(listed.len() as u64);
        listed.truncate(RESOURCES_SUMMARISED_MAX);
        let metaconfiguration = data.get("MetaConfiguration");
        let mut summary = Self {
            job_id: report.job().ok()?,
            compliance,
            operation_type: clip(&operation_type),
            refresh_mode: report.refresh_mode.as_deref().map(clip),
            configuration_mode: metaconfiguration.and_then(|m| text(m, "ConfigurationMode")),
            node_name: report
                .node_name
                .clone()
                .or_else(|| text(&data, "HostName"))
                .as_deref()
                .map(clip),
            ip_address: report.ip_address.as_deref().map(clip),
            start_time: time(&report.start_time),
            end_time: time(&report.end_time),
            resource_count,
            resources: listed,
            error,
        };
        while !summary.resources.is_empty()
            && serde_json::to_vec(&summary).is_ok_and(|text| text.len() > SUMMARY_BYTES_MAX)
        {
            summary.resources.truncate(summary.resources.len() / 2);
        }
        Some(summary)
    }
}

impl ResourceSummary {
    fn of(value: &Value, in_desired_state: bool) -> Self {
        Self {
            resource_id: text(value, "ResourceId").unwrap_or_default(),
            resource_name: text(value, "ResourceName").unwrap_or_default(),
            in_desired_state,
            module_name: text(value, "ModuleName"),
            module_version: text(value, "ModuleVersion"),
            configuration_name: text(value, "ConfigurationName"),
            duration_seconds: text(value, "DurationInSeconds").and_then(|t| t.trim().parse().ok()),
            error: text(value, "Error").filter(|error| !error.is_empty()),
        }
    }
}

/// Whether a finished run says that a resource is in the desired state; none if it does not name it.
pub(crate) fn resource_state(report: &StatusReport, id: &str) -> Option<bool> {
    let data = status_data(report);
    let has = |key: &str| {
        let is_it = |value: &Value| {
            text(value, "ResourceId").is_some_and(|found| found.eq_ignore_ascii_case(id))
        };
        listed(&data, key).into_iter().any(is_it)
    };
    if has(DIFFERENT) {
        return Some(false);
    }
    has(IN_DESIRED_STATE).then_some(true)
}

pub(crate) const DIFFERENT: &str = "ResourcesNotInDesiredState";
pub(crate) const IN_DESIRED_STATE: &str = "ResourcesInDesiredState";

/// What a report says of its run; nothing if that is cut off or no JSON.
pub(crate) fn status_data(report: &StatusReport) -> Value {
    let text = report.status_data.clone().unwrap_or_default().concat();
    serde_json::from_str(&text).unwrap_or_default()
}

/// The resources under a key: clients write one alone without a list.
pub(crate) fn listed<'a>(data: &'a Value, key: &str) -> Vec<&'a Value> {
    match data.get(key) {
        Some(Value::Array(values)) => values.iter().collect(),
        Some(value @ Value::Object(_)) => vec![value],
        _ => Vec::new(),
    }
}

/// A scalar field as text; clients write every scalar as a string.
pub(crate) fn text(value: &Value, key: &str) -> Option<String> {
    match value.get(key)? {
        Value::String(text) => Some(clip(text)),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn clip(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(json: Value) -> Option<ReportSummary> {
        let mut json = json;
        json["JobId"] = "dd30a93d-6291-11e6-9c21-80e6500eb60d".into();
        ReportSummary::of(&crate::report::read(json.to_string().as_bytes()).expect("a report"))
    }

    #[test]
    fn compliance() {
        let check = |json, expect: Option<Compliance>| {
            assert_eq!(summary(json).map(|summary| summary.compliance), expect);
        };
        let end = "2016-08-14T19:42:11.2270000-07:00";
        check(serde_json::json!({"OperationType": "Initial"}), None);
        let meta = "LocalConfigurationManager";
        check(serde_json::json!({"OperationType": meta, "Status": "Success"}), None);
        check(serde_json::json!({"Status": "Success"}), Some(Compliance::Compliant));
        check(serde_json::json!({"Status": "Failure"}), Some(Compliance::Failed));
        check(serde_json::json!({"EndTime": end}), Some(Compliance::Compliant));
        check(serde_json::json!({"EndTime": end, "Errors": ["x"]}), Some(Compliance::Failed));
        let data = r#"{"Status":"Success","ResourcesNotInDesiredState":{"ResourceId":"[F]a"}}"#;
        let split = [&data[..30], &data[30..]];
        let json = serde_json::json!({"EndTime": end, "StatusData": split});
        check(json, Some(Compliance::NotCompliant));
        let cut = serde_json::json!({"Status": "Success", "StatusData": [&data[..30]]});
        check(cut, Some(Compliance::Compliant));
    }
}
