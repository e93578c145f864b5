//! Operation records: what Azure Backup's diagnostics tables say about jobs and items.

use super::{JOB_HISTORY, JobEnd, JobEvent, JobOperation, JobOutcome};
use crate::item::{ITEM_HISTORY, ItemEvent};
use jiff::Timestamp;
use oms_core::Record;
use oms_core::journal::{Event, JournalEvent as _};
use oms_core::projection::MappingError;

/// The version of the tables' schema.
const SCHEMA_VERSION: &str = "V2";

/// The name that Azure Backup gives to files and folders of a computer.
const MANAGEMENT_TYPE: &str = "MAB";

/// The records that an event of this crate's histories makes: `AddonAzureBackupJobs` when a job
/// ends, `CoreAzureBackup` when a protected item changes; none for other events.
///
/// `computer` is the computer that is backed up.
///
/// # Errors
/// [`MappingError::Poisoned`] if an event of these histories is not one that this version knows.
pub fn records(event: &Event, computer: &str) -> Result<Vec<Record>, MappingError> {
    let record = match event.history.kind() {
        JOB_HISTORY => job_record(event, JobEvent::open(&event.envelope)?, computer),
        ITEM_HISTORY => item_record(event, ItemEvent::open(&event.envelope)?, computer),
        _ => None,
    };
    Ok(record.into_iter().collect())
}

/// The container and the id in a history's key.
fn parts(event: &Event) -> Option<(&str, &str)> {
    event.history.key().rsplit_once('/')
}

fn job_record(event: &Event, of_job: JobEvent, computer: &str) -> Option<Record> {
    let JobEvent::Ended { end, state, operation, queued } = of_job else { return None };
    let (container, job) = parts(event)?;
    let time = event.envelope.time;
    let seconds = time.duration_since(queued).as_secs_f64().max(0.0);
    let code = match &end {
        JobEnd::Done(_) => "Success",
        JobEnd::Failed { code, .. } => code,
        JobEnd::Cancelled => "UserCancelled",
    };
    let mut record = Record::new("AddonAzureBackupJobs".parse().ok()?, time, computer)
        .with("Category", "AddonAzureBackupJobs")
        .with("OperationName", "Job")
        .with("SchemaVersion", SCHEMA_VERSION)
        .with("State", "Active")
        .with("JobUniqueId", job)
        .with("JobOperation", operation.name())
        .with("JobStatus", state.name())
        .with("JobFailureCode", code)
        .with("JobStartDateTime", queued)
        .with("JobDurationInSecs", seconds)
        .with("AdHocOrScheduledJob", "AdHoc")
        .with("BackupManagementType", MANAGEMENT_TYPE)
        .with("ProtectedContainerUniqueId", container)
        .with("VaultName", container);
    if let JobEnd::Done(JobOutcome { transferred_bytes, .. }) = &end {
        record = record.with("DataTransferredInMB", *transferred_bytes as f64 / 1_048_576.0);
    }
    if let JobEnd::Failed { reason, .. } = &end {
        record = record.with("ExtendedProperties", serde_json::json!({ "Reason": reason }));
    }
    Some(with_operation(record, &operation))
}

fn with_operation(record: Record, operation: &JobOperation) -> Record {
    match operation {
        JobOperation::Backup { item, name } => record
            .with("BackupItemUniqueId", item.to_string())
            .with("BackupItemFriendlyName", name.as_str()),
        JobOperation::Restore { point, point_time, target, .. } => record
            .with("RecoveryJobRPDateTime", *point_time)
            .with("RecoveryJobRPLocation", point.to_string())
            .with("RecoveryJobDestination", target.to_string_lossy().as_ref())
            .with("RecoveryLocationType", "AlternateLocation"),
    }
}

fn item_record(event: &Event, of_item: ItemEvent, computer: &str) -> Option<Record> {
    let (container, item) = parts(event)?;
    let time: Timestamp = event.envelope.time;
    let (name, state, point) = match of_item {
        ItemEvent::Enabled { options } => {
            (options.name, crate::item::ProtectionState::IrPending, None)
        }
        ItemEvent::Changed { name, state, point, .. } => (name, state, point),
    };
    let mut record = Record::new("CoreAzureBackup".parse().ok()?, time, computer)
        .with("Category", "CoreAzureBackup")
        .with("OperationName", "BackupItem")
        .with("SchemaVersion", SCHEMA_VERSION)
        .with("State", "Active")
        .with("BackupItemUniqueId", item)
        .with("BackupItemFriendlyName", name)
        .with("BackupItemType", "FileFolder")
        .with("BackupItemProtectionState", state.name())
        .with("BackupManagementType", MANAGEMENT_TYPE)
        .with("ProtectedContainerUniqueId", container)
        .with("ProtectedContainerFriendlyName", computer)
        .with("VaultName", container);
    if let Some(point) = point {
        record = record
            .with("LatestRecoveryPointTime", time)
            .with("LatestRecoveryPointLocation", point.to_string());
    }
    Some(record)
}
