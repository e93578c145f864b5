//! The log part: collect, ask while fresh, flush to Delta, ask again.

use super::Tour;
use super::account::{Teller, bytes};
use anyhow::{Context, Result, ensure};
use jiff::tz::TimeZone;
use oms_core::{Clock, RecordSink, SystemClock};
use oms_logs::query::QueryReport;
use oms_logs::repository::maintain::TableSettings;
use oms_logs::source::Agent;
use oms_logs::source::custom_log::CustomLog;
use oms_logs::source::syslog::SyslogFile;
use oms_logs::source::tail::StartAt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Rates need two samples; a second apart is enough to see this machine work.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);

/// The system's log files, and the table of each: the first that exists is read from its start.
const LOG_FILES: [(&str, &str); 3] = [
    ("/var/log/syslog", "Syslog"),
    ("/var/log/messages", "Syslog"),
    ("/var/log/dpkg.log", "DpkgLog_CL"),
];

pub(super) async fn show(tour: &Tour, teller: &mut Teller) -> Result<String> {
    let logs = tour.suite.logs()?;
    let before = count(tour, "Perf").await?;
    let mut written = 0;
    let mut failures = Vec::new();
    for sample in 0..2 {
        if sample > 0 {
            tokio::time::sleep(BETWEEN_SAMPLES).await;
        }
        let report = tour.suite.collect().await?.context("no agent")?;
        ensure!(report.delivery.is_none(), "the agent could not deliver: {:?}", report.delivery);
        written += report.written_records;
        failures.extend(report.failures);
    }
    for failure in &failures {
        teller.lack(format!("{} could not be read: {}", failure.source, failure.error));
    }
    teller.say(format!("the agent wrote {written} records of this machine, each durable first"));
    let file_rows = read_log_file(tour, teller).await?;

    let fresh = count(tour, "Perf").await?;
    let perf = fresh - before;
    ensure!(perf > 0, "no performance counter arrived");
    let begin = SystemClock.monotonic();
    let by_object = "Perf | summarize Samples = count(), Counters = dcount(CounterName) \
                     by ObjectName | sort by Samples desc";
    let asked = ask(tour, by_object).await?;
    let milliseconds = (SystemClock.monotonic() - begin).as_secs_f64() * 1e3;
    teller.say(format!("asked while it is in memory ({milliseconds:.0} ms): {by_object}"));
    tell_table(teller, &asked);

    let flushed = logs.flush().await?;
    ensure!(count(tour, "Perf").await? == fresh, "a flush changed the number of rows");
    let tables = logs.tables();
    let size: u64 = tables.iter().map(|table| table.bytes).sum();
    teller.say(format!(
        "flushed {} rows into Delta tables, {} in all, and asked again: the same rows",
        flushed.rows(),
        bytes(size)
    ));
    let chart = "Perf | where CounterName == '% Processor Time' and InstanceName == '_Total' \
                 | summarize avg(CounterValue) by bin(TimeGenerated, 1m), Computer | render timechart";
    let asked = ask(tour, chart).await?;
    ensure!(asked.render.is_some(), "the query's chart got lost");
    let heartbeat =
        ask(tour, "Heartbeat | summarize arg_max(TimeGenerated, OSName) by Computer").await?;
    ensure!(!heartbeat.rows().is_empty(), "no heartbeat");
    tell_table(teller, &heartbeat);
    let place = tables.first().and_then(|table| table.location.parent()).map(Path::to_owned);
    if let Some(place) = place {
        teller.say(format!("other engines read them: {}", place.display()));
    }
    Ok(format!(
        "{} rows of {} tables ({}), {perf} counters and {file_rows} log lines of this run",
        tables.iter().map(|table| table.rows).sum::<u64>(),
        tables.len(),
        bytes(size)
    ))
}

/// Reads the first of the system's log files that is there, by an agent of this run's own, so
/// that each run sees it from its start.
async fn read_log_file(tour: &Tour, teller: &mut Teller) -> Result<u64> {
    let Some((path, table)) = LOG_FILES.iter().find(|(path, _)| Path::new(path).exists()) else {
        teller.lack("this machine has no log file that is text; none was read");
        return Ok(0);
    };
    // A log file may be older than a table keeps by default, and each of its lines is to be seen.
    tour.suite.logs()?.set_table_settings(&table.parse()?, TableSettings::longest()).await?;
    let before = count(tour, table).await?;
    let sink = Arc::clone(tour.suite.logs()?) as Arc<dyn RecordSink>;
    let state = tour.folder.join("agent");
    std::fs::create_dir_all(&state)?;
    let builder = Agent::builder(sink).state_dir(state);
    let agent = match table.strip_suffix("_CL") {
        None => builder.source(SyslogFile::new(*path, StartAt::Beginning, TimeZone::system())),
        Some(name) => builder.source(CustomLog::new(name, *path, StartAt::Beginning)?),
    }
    .build()?;
    let mut written = 0;
    loop {
        let report = agent.collect_once().await?;
        written += report.written_records as u64;
        if report.written_records == 0 && report.pending_batches == 0 {
            break;
        }
    }
    let arrived = count(tour, table).await? - before;
    let of_agent = count_of_agent(written, arrived)?;
    teller.say(format!("{of_agent} lines of {path} are in the table {table}"));
    Ok(of_agent)
}

/// The agent adds an Operation record of its own now and then, never a line.
fn count_of_agent(written: u64, arrived: u64) -> Result<u64> {
    ensure!(arrived <= written, "{arrived} lines arrived of {written} written");
    ensure!(written == 0 || arrived > 0, "none of {written} lines arrived");
    Ok(arrived)
}

pub(super) async fn ask(tour: &Tour, query: &str) -> Result<QueryReport> {
    tour.suite.ask(query).await.with_context(|| format!("query {query}"))
}

/// How many rows a table has; none if it is not there yet.
pub(super) async fn count(tour: &Tour, table: &str) -> Result<u64> {
    if !tour.suite.logs()?.table_names().iter().any(|name| name == table) {
        return Ok(0);
    }
    let report = ask(tour, &format!("{table} | count")).await?;
    let first = report.rows().into_iter().next().and_then(|row| row.into_iter().next());
    first.and_then(|value| value.as_u64()).context("count is not a number")
}

pub(super) fn tell_table(teller: &mut Teller, report: &QueryReport) {
    for line in report.to_text().lines() {
        teller.say(format!("  {line}"));
    }
}
