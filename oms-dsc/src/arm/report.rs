//! `nodes/{nodeId}/reports`. See `dscNode.json` of 2018-01-15, `NodeReports_*`.
//!
//! A report is what a node's messages about one run say together; its content is that as it came, in the
//! spelling of \[MS-DSCPM\] 2.2.3. Listed are the newest 500.

use super::filter::{Kind, Property, Value};
use super::node::named;
use super::request::{Answer, Request};
use crate::Error;
use crate::protocol::StatusReport;
use crate::pull_server::Node;
use crate::report::{DIFFERENT, IN_DESIRED_STATE, ReportSummary, listed, status_data, text};
use http::StatusCode;
use jiff::Timestamp;
use oms_core::http::respond;
use serde_json::{Value as Json, json};
use std::net::IpAddr;

const PROPERTIES: [Property; 4] = [
    ("properties/type", Kind::OneOf),
    ("properties/startTime", Kind::Time),
    ("properties/endTime", Kind::Time),
    ("properties/lastModifiedTime", Kind::Time),
];

/// A date that clients can read, or none.
fn time(text: Option<&String>) -> Option<Timestamp> {
    text.and_then(|text| text.trim().parse().ok())
}

fn flag(value: &Json, key: &str) -> Option<bool> {
    text(value, key).map(|text| text.eq_ignore_ascii_case("true"))
}

fn number(value: &Json, key: &str) -> Option<i64> {
    text(value, key).and_then(|text| text.trim().parse().ok())
}

/// `DscReportResource`
fn report_resource(value: &Json, status: &str) -> Json {
    let error = text(value, "Error").filter(|error| !error.is_empty());
    let depends = match value.get("DependsOn") {
        Some(Json::Array(ids)) => ids.iter().filter_map(Json::as_str).collect(),
        Some(Json::String(id)) => vec![id.as_str()],
        _ => Vec::new(),
    };
    let depends: Vec<Json> = depends.into_iter().map(|id| json!({"resourceId": id})).collect();
    let seconds = text(value, "DurationInSeconds").and_then(|text| text.trim().parse::<f64>().ok());
    json!({
        "resourceId": text(value, "ResourceId"),
        "sourceInfo": text(value, "SourceInfo"),
        "dependsOn": depends,
        "moduleName": text(value, "ModuleName"),
        "moduleVersion": text(value, "ModuleVersion"),
        "resourceName": text(value, "ResourceName"),
        "status": if error.is_some() { "Failed" } else { status },
        "error": error,
        "durationInSeconds": seconds,
        "startDate": time(text(value, "StartDate").as_ref()),
    })
}

/// `DscReportError`, if it is in JSON; else its text is the message.
fn report_error(error: &String) -> Json {
    let read: Json = serde_json::from_str(error).unwrap_or_default();
    if !read.is_object() {
        return json!({"errorMessage": error});
    }
    json!({
        "errorSource": text(&read, "ErrorSource"),
        "resourceId": text(&read, "ResourceId"),
        "errorCode": text(&read, "ErrorCode"),
        "errorMessage": text(&read, "ErrorMessage"),
        "locale": text(&read, "Locale"),
        "errorDetails": text(&read, "ErrorDetails"),
    })
}

/// `DscMetaConfiguration`
fn metaconfiguration(data: &Json) -> Option<Json> {
    let settings = data.get("MetaConfiguration").filter(|settings| settings.is_object())?;
    Some(json!({
        "configurationMode": text(settings, "ConfigurationMode"),
        "configurationModeFrequencyMins": number(settings, "ConfigurationModeFrequencyMins"),
        "refreshFrequencyMins": number(settings, "RefreshFrequencyMins"),
        "rebootNodeIfNeeded": flag(settings, "RebootNodeIfNeeded"),
        "actionAfterReboot": text(settings, "ActionAfterReboot"),
        "allowModuleOverwrite": flag(settings, "AllowModuleOverwrite"),
        "certificateId": text(settings, "CertificateID"),
    }))
}

/// The addresses of a report, those of IP version 4 and those of version 6.
fn addresses(report: &StatusReport) -> (Vec<String>, Vec<String>) {
    let all = report.ip_address.as_deref().unwrap_or_default();
    let all = all.split([';', ',']).map(str::trim).filter(|text| !text.is_empty());
    all.map(str::to_owned).partition(|text| {
        // A zone behind `%` is one of version 6.
        text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4())
    })
}

/// `DscNodeReport`
fn resource(request: &Request, node: &Node, report: &StatusReport) -> Json {
    let data = status_data(report);
    let summary = ReportSummary::of(report);
    let status = summary.as_ref().map_or("InProgress", |summary| summary.compliance.as_str());
    let mut resources = Vec::new();
    for (key, status) in [(DIFFERENT, "NotCompliant"), (IN_DESIRED_STATE, "Compliant")] {
        resources.extend(listed(&data, key).into_iter().map(|one| report_resource(one, status)));
    }
    let errors = report.errors.as_deref().unwrap_or_default();
    let (version_4, version_6) = addresses(report);
    let id = report.job().map(|id| id.to_string()).unwrap_or_default();
    let ended = time(report.end_time.as_ref());
    let number_of = number(&data, "NumberOfResources");
    json!({
        "id": request.id(&["nodes", &node.handle(), "reports", &id]),
        "reportId": id,
        "type": report.operation_type,
        "status": status,
        "refreshMode": report.refresh_mode,
        "rebootRequested": report.reboot_requested,
        "reportFormatVersion": report.report_format_version,
        "configurationVersion": report.configuration_version,
        "startTime": time(report.start_time.as_ref()),
        "endTime": ended,
        "lastModifiedTime": ended.or(time(report.start_time.as_ref())),
        "hostName": report.node_name.clone().or_else(|| text(&data, "HostName")),
        "iPV4Addresses": version_4,
        "iPV6Addresses": version_6,
        "numberOfResources": number_of.unwrap_or(i64::try_from(resources.len()).unwrap_or(0)),
        "resources": resources,
        "errors": errors.iter().map(report_error).collect::<Vec<_>>(),
        "rawErrors": (!errors.is_empty()).then(|| errors.join("\n")),
        "metaConfiguration": metaconfiguration(&data),
    })
}

/// `NodeReports_ListByNode`
pub(super) async fn list(request: Request) -> Answer {
    let filter = request.filter(&PROPERTIES)?;
    let node = named(&request).await?;
    let reports = request.server().reports(node.agent_id).await?;
    // They are the newest first.
    let keyed = reports.into_iter().enumerate().map(|(index, report)| {
        let id = report.job_id.clone().unwrap_or_default();
        (format!("{index:06} {id}"), report)
    });
    let page = request.page(keyed.collect(), &filter, |report, property| match property {
        "properties/type" => Value::Text(report.operation_type.clone().unwrap_or_default()),
        "properties/startTime" => Value::Time(time(report.start_time.as_ref())),
        "properties/endTime" => Value::Time(time(report.end_time.as_ref())),
        _ => Value::Time(time(report.end_time.as_ref().or(report.start_time.as_ref()))),
    })?;
    let shown = page.items.iter().map(|report| resource(&request, &node, report)).collect();
    request.list(&page, shown)
}

async fn one(request: &Request) -> Result<(Node, StatusReport), Error> {
    let node = named(request).await?;
    let report = request.server().report(node.agent_id, request.named("reportId")?).await?;
    Ok((node, report))
}

/// `NodeReports_Get`
pub(super) async fn get(request: Request) -> Answer {
    let (node, report) = one(&request).await?;
    Ok(respond::json(StatusCode::OK, &resource(&request, &node, &report)))
}

/// `NodeReports_GetContent`
pub(super) async fn content(request: Request) -> Answer {
    let (_node, report) = one(&request).await?;
    Ok(respond::json(StatusCode::OK, &report))
}
