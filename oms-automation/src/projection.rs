//! What happens here as records of the log repository.
//!
//! The rows are those that Azure Automation sends to Log Analytics: table `AzureDiagnostics`,
//! categories `JobLogs` and `JobStreams`.

use crate::account::AutomationAccount;
use crate::job::{self, JOB_HISTORY, JobId, JobRecorded};
use crate::stream::StreamRecord;
use oms_core::journal::{Event, JournalEvent as _};
use oms_core::projection::MappingError;
use oms_core::record::{Record, RecordType};

/// The most `JobStreams` rows of one job; a last one says how many more are in its streams.
pub const JOB_STREAM_ROWS_MAX: usize = 10_000;

/// The most characters of a row's `ResultDescription`; the repository takes no longer column.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 30_000;

/// The `JobLogs` row of an event of a job; none for other histories and for the states that Azure
/// does not report. `computer` is where this process runs.
///
/// # Errors
/// [`MappingError::Poisoned`] if an event of a job is not one that this version knows.
pub fn records(event: &Event, computer: &str) -> Result<Vec<Record>, MappingError> {
    let Some((job, recorded)) = job_event(event)? else { return Ok(Vec::new()) };
    let (result, description) = match &recorded {
        JobRecorded::Queued { .. } => ("Created", "The job was created".to_owned()),
        JobRecorded::Running { isolation, .. } => {
            ("Started", format!("The job was started; isolation: {isolation}"))
        }
        JobRecorded::Completed { .. } => ("Completed", "The job is completed".to_owned()),
        JobRecorded::Failed { exception, .. } => ("Failed", exception.clone()),
        JobRecorded::Stopped { reason, .. } => {
            ("Stopped", format!("The job was stopped: {reason}"))
        }
        JobRecorded::Activating { .. } | JobRecorded::Stopping { .. } => return Ok(Vec::new()),
    };
    let row = row(event, job, &recorded, computer, "JobLogs");
    let row = row.map(|row| described(row.with("ResultType", result), &description));
    Ok(row.into_iter().collect())
}

impl AutomationAccount {
    /// The rows of an event of this account's jobs, with the `JobStreams` rows of a job that ended.
    /// They are on disk before the end is recorded, so the same event always gives the same rows. It
    /// reads a file.
    ///
    /// # Errors
    /// [`MappingError::Poisoned`] if an event of a job is not one that this version knows.
    pub fn records(&self, event: &Event, computer: &str) -> Result<Vec<Record>, MappingError> {
        let mut rows = records(event, computer)?;
        let Some((job, recorded)) = job_event(event)? else { return Ok(rows) };
        let streams = match &recorded {
            JobRecorded::Completed { streams, .. } => Some(*streams),
            JobRecorded::Failed { streams, .. } | JobRecorded::Stopped { streams, .. } => *streams,
            _ => None,
        };
        let Some(streams) = streams.filter(|_| recorded.label().account == *self.name()) else {
            return Ok(rows);
        };
        let kept = self.stored_streams().read(job, 0, JOB_STREAM_ROWS_MAX, |_| true);
        let kept = kept.unwrap_or_else(|error| {
            tracing::error!(%job, error = %error.describe(), "job streams are unreadable");
            Vec::new()
        });
        let more = streams.records.saturating_sub(kept.len() as u64);
        let of_stream = |record: &StreamRecord| {
            let mut row = row(event, job, &recorded, computer, "JobStreams")?;
            row.time = record.time;
            let row = row
                .with("StreamType_s", record.stream_type.to_string())
                .with("ResultType", "In Progress");
            Some(described(row, &record.text))
        };
        rows.extend(kept.iter().filter_map(of_stream));
        if more > 0 {
            let text = format!("{more} more records are in the streams of this job");
            let last = row(event, job, &recorded, computer, "JobStreams").map(|row| {
                let row = row.with("StreamType_s", "Warning").with("ResultType", "In Progress");
                described(row, &text)
            });
            rows.extend(last);
        }
        Ok(rows)
    }
}

fn job_event(event: &Event) -> Result<Option<(JobId, JobRecorded)>, MappingError> {
    if event.history.kind() != JOB_HISTORY {
        return Ok(None);
    }
    let recorded = JobRecorded::open(&event.envelope)?;
    let job = job::job_of(&recorded.label().account, &event.history);
    Ok(job.map(|job| (job, recorded)))
}

fn row(
    event: &Event,
    job: JobId,
    recorded: &JobRecorded,
    computer: &str,
    category: &str,
) -> Option<Record> {
    let table: RecordType = "AzureDiagnostics".parse().ok()?;
    let label = recorded.label();
    let row = Record::new(table, event.envelope.time, computer)
        .with("ResourceProvider", "MICROSOFT.AUTOMATION")
        .with("ResourceType", "AUTOMATIONACCOUNTS")
        .with("Resource", label.account.as_str().to_ascii_uppercase())
        .with("OperationName", "Job")
        .with("SourceSystem", "Azure")
        .with("Category", category)
        .with("RunbookName_s", label.runbook.as_str())
        .with("Caller_s", label.started_by.as_str())
        .with("JobId_g", job.0);
    let correlation = event.envelope.correlation.map_or(job.0, |correlation| correlation.0);
    Some(row.with("CorrelationId", correlation.to_string()))
}

fn described(row: Record, text: &str) -> Record {
    let end = text.char_indices().nth(DESCRIPTION_CHARACTERS_MAX).map_or(text.len(), |(at, _)| at);
    row.with("ResultDescription", &text[..end])
}
