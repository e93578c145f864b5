//! The operation records of this service.

use super::{ReportSummary, ResourceSummary};
use crate::pull_server::{CloneSuspicion, NODE_HISTORY, NodeEvent};
use oms_core::Record;
use oms_core::journal::{Event, JournalEvent as _};
use oms_core::projection::MappingError;
use oms_core::record::RecordType;

/// The records of one journal event: `AzureDiagnostics` of category `DscNodeStatus`, one
/// `DscNodeStatusData` for a reported run and one `DscResourceStatusData` for each resource that
/// its summary lists; `DscNodeCloneSuspected` for a node that may be two machines. Events of other
/// kinds have none.
///
/// `computer` stands for nodes that did not report their name.
///
/// # Errors
/// [`MappingError::Poisoned`] if an event of a node is not one that this version knows.
pub fn records(event: &Event, computer: &str) -> Result<Vec<Record>, MappingError> {
    if event.history.kind() != NODE_HISTORY {
        return Ok(Vec::new());
    }
    let opened = NodeEvent::open(&event.envelope)?;
    if let NodeEvent::CloneSuspected { node_name, suspicion } = &opened {
        return Ok(clone_record(event, node_name, suspicion).into_iter().collect());
    }
    let NodeEvent::Reported { summary, .. } = opened else { return Ok(Vec::new()) };
    let Ok(record_type) = "AzureDiagnostics".parse::<RecordType>() else { return Ok(Vec::new()) };
    let node_name = summary.node_name.clone().unwrap_or_else(|| computer.to_owned());
    let base = |operation: &str| {
        Record::new(record_type.clone(), event.envelope.time, node_name.clone())
            .with("Category", "DscNodeStatus")
            .with("OperationName", operation)
            .with("ResourceProvider", "MICROSOFT.AUTOMATION")
            .with("NodeName_s", node_name.clone())
            .with("NodeId_g", event.history.key())
            .with("ReportId_g", summary.job_id.0)
    };
    let mut records = vec![node_record(base("DscNodeStatusData"), &summary)];
    let resources = summary.resources.iter();
    records
        .extend(resources.map(|resource| resource_record(base("DscResourceStatusData"), resource)));
    Ok(records)
}

/// A node may be two machines.
fn clone_record(event: &Event, node_name: &str, why: &CloneSuspicion) -> Option<Record> {
    let record_type = "AzureDiagnostics".parse::<RecordType>().ok()?;
    let record = Record::new(record_type, event.envelope.time, node_name.to_owned())
        .with("Category", "DscNodeStatus")
        .with("OperationName", "DscNodeCloneSuspected")
        .with("ResourceProvider", "MICROSOFT.AUTOMATION")
        .with("NodeName_s", node_name.to_owned())
        .with("NodeId_g", event.history.key())
        .with("CloneSign_s", format!("{:?}", why.sign))
        .with("CloneNow_s", why.now.clone())
        .with("CloneBefore_s", why.before.clone());
    Some(record)
}

fn node_record(record: Record, summary: &ReportSummary) -> Record {
    let status = match summary.compliance {
        super::Compliance::Failed => "Failure",
        _ => "Success",
    };
    let mut record = record
        .with("NodeComplianceStatus_s", summary.compliance.as_str())
        .with("DscReportStatus_s", status)
        .with("OperationType_s", summary.operation_type.clone())
        .with("NumberOfResources_d", summary.resource_count as f64);
    for (column, value) in [
        ("ConfigurationMode_s", &summary.configuration_mode),
        ("RefreshMode_s", &summary.refresh_mode),
        ("IPAddress", &summary.ip_address),
        ("ErrorMessage_s", &summary.error),
    ] {
        if let Some(value) = value {
            record = record.with(column, value.clone());
        }
    }
    for (column, value) in
        [("ReportStartTime_t", summary.start_time), ("ReportEndTime_t", summary.end_time)]
    {
        if let Some(value) = value {
            record = record.with(column, value);
        }
    }
    record
}

fn resource_record(record: Record, resource: &ResourceSummary) -> Record {
    let status = match (resource.in_desired_state, &resource.error) {
        (true, _) => "Compliant",
        (false, None) => "NotCompliant",
        (false, Some(_)) => "Failed",
    };
    let mut record = record
        .with("DscResourceId_s", resource.resource_id.clone())
        .with("DscResourceName_s", resource.resource_name.clone())
        .with("DscResourceStatus_s", status);
    for (column, value) in [
        ("DscModuleName_s", &resource.module_name),
        ("DscModuleVersion_s", &resource.module_version),
        ("DscConfigurationName_s", &resource.configuration_name),
        ("ErrorMessage_s", &resource.error),
    ] {
        if let Some(value) = value {
            record = record.with(column, value.clone());
        }
    }
    if let Some(seconds) = resource.duration_seconds {
        record = record.with("DscResourceDuration_d", seconds);
    }
    record
}
