//! An item's events as records of Log Analytics.

use crate::machine::{HISTORY_KIND, ItemEvent, StoredEvent};
use crate::replication::health::ProtectionHealth;
use crate::replication::state::ActiveLocation;
use crate::replication::{ProtectionState, TestFailoverState};
use oms_core::journal::{Event, JournalEvent as _};
use oms_core::projection::MappingError;
use oms_core::record::{Record, RecordType};

/// The replication provider's name in the records: our own, between two sites of ours.
pub const PROVIDER_NAME: &str = "OmsSiteToSite";

/// The records of one journal event: rows of `AzureDiagnostics` with the categories
/// `AzureSiteRecoveryJobs` (for an event that starts or ends a job) and
/// `AzureSiteRecoveryReplicatedItems` (for every event), in the columns that published Site
/// Recovery queries use. None for events of other histories.
///
/// See "Monitor Site Recovery with Azure Monitor Logs".
///
/// # Errors
/// [`MappingError::Poisoned`] if an event of an item is not one that this version knows.
pub fn records(event: &Event, computer: &str) -> Result<Vec<Record>, MappingError> {
    if event.history.kind() != HISTORY_KIND {
        return Ok(Vec::new());
    }
    let stored = StoredEvent::open(&event.envelope)?;
    let Ok(table) = "AzureDiagnostics".parse::<RecordType>() else { return Ok(Vec::new()) };
    let row = |category: &str| {
        let mut row = Record::new(table.clone(), event.envelope.time, computer)
            .with("Category", category)
            .with("ResourceProvider", "MICROSOFT.RECOVERYSERVICES")
            .with("ResourceType", "VAULTS")
            .with("Resource", stored.vault.to_uppercase())
            .with("replicationProviderName_s", PROVIDER_NAME);
        if let Some(correlation) = event.envelope.correlation {
            row = row.with("CorrelationId", correlation.to_string());
        }
        row
    };
    let name = event.history.key();
    let mut records = Vec::new();
    if let Some((operation, result, level)) = job(&stored) {
        let mut row = row("AzureSiteRecoveryJobs")
            .with("OperationName", operation)
            .with("ResultType", result)
            .with("Level", level)
            .with("affectedResourceName_s", name)
            .with("affectedResourceType_s", "ReplicationProtectedItem")
            .with("affectedResourceId_s", stored.item.to_string());
        if let Some(reason) = failure(&stored.event) {
            row = row.with("ResultDescription", reason);
        }
        records.push(row);
    }
    records.push(replicated_item(row("AzureSiteRecoveryReplicatedItems"), name, &stored));
    Ok(records)
}

fn replicated_item(row: Record, name: &str, stored: &StoredEvent) -> Record {
    let active = match stored.state.active_location() {
        ActiveLocation::Primary => "Primary",
        ActiveLocation::Recovery => "Recovery",
    };
    let mut row = row
        .with("OperationName", "AzureSiteRecoveryReplicatedItems")
        .with("id_s", stored.item.to_string())
        .with("name_s", name)
        .with("protectionState_s", stored.state.wire_name())
        .with("protectionStateDescription_s", stored.state.description())
        .with("replicationHealth_s", health(stored.state))
        .with("failoverHealth_s", failover_health(stored))
        .with("testFailoverState_s", test_state(stored.test))
        .with("activeLocation_s", active)
        .with("policyName_s", stored.policy.clone());
    if let Some(time) = stored.last_successful_test_failover {
        row = row.with("lastSuccessfulTestFailoverTime_t", time);
    }
    if let Some(reason) = failure(&stored.event) {
        row = row.with("replicationHealthErrors_s", reason);
    }
    row
}

/// The job that an event starts or ends: operation, result and level.
fn job(stored: &StoredEvent) -> Option<(&'static str, &'static str, &'static str)> {
    const STARTED: (&str, &str) = ("InProgress", "Informational");
    const DONE: (&str, &str) = ("Succeeded", "Informational");
    const FAILED: (&str, &str) = ("Failed", "Error");
    use ProtectionState as S;
    let (operation, (result, level)) = match &stored.event {
        ItemEvent::EnableRequested { .. } => ("Enable replication", STARTED),
        ItemEvent::TrackingStarted => ("Enable replication", DONE),
        ItemEvent::EnableFailed { .. } => ("Enable replication", FAILED),
        ItemEvent::CopyCompleted { .. } => match stored.state {
            S::ReverseProtected => ("Reprotect", DONE),
            _ => ("Finalize protection", DONE),
        },
        ItemEvent::CopyFailed { .. } => ("Finalize protection", FAILED),
        ItemEvent::Diverged { .. } => return None,
        ItemEvent::RepairStarted => ("Resynchronize", STARTED),
        ItemEvent::TestFailoverStarted { .. } => ("Test failover", DONE),
        ItemEvent::TestFailoverCleanupStarted { .. } => ("Test failover cleanup", STARTED),
        ItemEvent::TestFailoverCleanedUp { is_success: true } => ("Test failover cleanup", DONE),
        ItemEvent::TestFailoverCleanedUp { is_success: false } => ("Test failover", FAILED),
        ItemEvent::PlannedFailoverStarted => ("Planned failover", STARTED),
        ItemEvent::UnplannedFailoverStarted { .. } => ("Unplanned failover", STARTED),
        ItemEvent::FailoverCompleted { .. } => (failover_name(stored.state), DONE),
        ItemEvent::FailoverFailed { .. } => (failover_name(stored.state), FAILED),
        ItemEvent::PointChanged { .. } => ("Change recovery point", DONE),
        ItemEvent::Committed => ("Commit", DONE),
        ItemEvent::ReverseReplicationStarted => ("Reprotect", STARTED),
        ItemEvent::Disabled => ("Disable replication", DONE),
    };
    Some((operation, result, level))
}

/// Which failover led to this state.
const fn failover_name(state: ProtectionState) -> &'static str {
    use ProtectionState as S;
    match state {
        S::UnplannedFailoverCommitPending | S::UnplannedFailoverFailed => "Unplanned failover",
        _ => "Planned failover",
    }
}

fn failure(event: &ItemEvent) -> Option<String> {
    match event {
        ItemEvent::EnableFailed { reason }
        | ItemEvent::CopyFailed { reason }
        | ItemEvent::FailoverFailed { reason } => Some(reason.clone()),
        ItemEvent::Diverged { reason } => Some(format!("resynchronization required: {reason:?}")),
        _ => None,
    }
}

const fn health(state: ProtectionState) -> &'static str {
    match crate::replication::health::level(state) {
        ProtectionHealth::None => "None",
        ProtectionHealth::Normal => "Normal",
        ProtectionHealth::Warning => "Warning",
        ProtectionHealth::Critical => "Critical",
    }
}

/// A drill within the item's protection makes it ready; until then that is unproven.
const fn failover_health(stored: &StoredEvent) -> &'static str {
    match stored.last_successful_test_failover {
        Some(_) => "Normal",
        None => "Warning",
    }
}

const fn test_state(test: TestFailoverState) -> &'static str {
    match test {
        TestFailoverState::None => "None",
        TestFailoverState::Running => "WaitingForCleanup",
        TestFailoverState::MarkedForDeletion => "MarkedForDeletion",
    }
}
