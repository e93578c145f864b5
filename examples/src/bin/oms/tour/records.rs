//! The last part: the services' own records, asked for in the query language.

use super::Tour;
use super::account::Teller;
use super::logs::{ask, tell_table};
use anyhow::{Result, ensure};

/// A service, and the query that finds its records of this run.
fn queries(tour: &Tour) -> Vec<(&'static str, String)> {
    let run = tour.run;
    let since = format!("where TimeGenerated >= datetime({})", tour.begin);
    vec![
        (
            "Log Analytics",
            format!(
                "LAQueryLogs | {since} | summarize Records = count() by RequestClientApp, \
                 ResponseCode"
            ),
        ),
        (
            "Automation",
            format!(
                "AzureDiagnostics | where ResourceProvider == 'MICROSOFT.AUTOMATION' and Category \
                 == 'JobLogs' and RunbookName_s endswith '-{run}' | summarize Records = count() by \
                 ResultType | sort by ResultType asc"
            ),
        ),
        (
            "DSC",
            format!(
                "AzureDiagnostics | {since} | where Category == 'DscNodeStatus' \
                 | summarize Records = count() by OperationName"
            ),
        ),
        (
            "Backup",
            format!(
                "AddonAzureBackupJobs | {since} | summarize Records = count() by JobOperation, \
                 JobStatus"
            ),
        ),
        (
            "Site Recovery",
            format!(
                "AzureDiagnostics | where Category startswith 'AzureSiteRecovery' and name_s == \
                 'tour-{run}' | summarize Records = count() by Category"
            ),
        ),
    ]
}

pub(super) async fn show(tour: &Tour, teller: &mut Teller) -> Result<String> {
    tour.suite.send_records().await?;
    let mut total = 0;
    for (service, query) in queries(tour) {
        let report = ask(tour, &query).await?;
        let last = report.columns.len().saturating_sub(1);
        let counts = report.rows().into_iter().filter_map(|row| row.get(last)?.as_u64());
        let count: u64 = counts.sum();
        ensure!(count > 0, "{service} recorded nothing: {query}");
        teller.say(format!("{service}: {count} records"));
        tell_table(teller, &report);
        total += count;
    }
    Ok(format!("{total} records of five services answered in KQL"))
}
