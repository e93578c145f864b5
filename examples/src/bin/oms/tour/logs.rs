//! The log part: collect, ask while fresh, flush to Delta, ask again.

use super::Tour;
use super::account::{Teller, bytes};
use anyhow::{Context, Result, ensure};
use jiff::tz::TimeZone;
use oms_core::{Clock, RecordSink, SystemClock};
use oms_logs::query::QueryReport;
use oms_logs::repository::maintain::TableSettings;
use oms_logs::source::Agent;
use oms_logs::source::agent::AgentBuilder;
use oms_logs::source::custom_log::CustomLog;
use oms_logs::source::journald::JournalFile;
use oms_logs::source::syslog::SyslogFile;
use oms_logs::source::tail::StartAt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// Rates need two samples; a second apart is enough to see this machine work.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);

/// The system's log files below the root, and the table of each.
const SYSTEM_LOGS: [&str; 2] = ["var/log/syslog", "var/log/messages"];
const PACKAGE_LOG: &str = "var/log/dpkg.log";

/// The program that reads the system's journal.
const JOURNALCTL: &str = "journalctl";

/// How many of the journal's newest entries are read.
const JOURNAL_ENTRIES: &str = "10000";

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
    let place =
        tables.first().and_then(|table| Path::new(&table.location).parent()).map(Path::to_owned);
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

/// A log of the system's.
#[derive(Debug, PartialEq)]
enum SystemLog {
    /// Lines of syslog.
    Syslog(PathBuf),
    /// What the systemd journal held, in its export format.
    Journal(PathBuf),
    /// The log of installed packages.
    Packages(PathBuf),
}

impl SystemLog {
    /// The first that is there below `root`. The journal is exported into `folder` first, if it has
    /// entries that this user may read.
    fn find(root: &Path, journalctl: &Path, folder: &Path) -> Result<Option<Self>> {
        let syslog = SYSTEM_LOGS.iter().map(|path| root.join(path)).find(|path| path.exists());
        if let Some(path) = syslog {
            return Ok(Some(Self::Syslog(path)));
        }
        let exported = folder.join("journal.export");
        if export_journal(journalctl, &exported)? {
            return Ok(Some(Self::Journal(exported)));
        }
        let packages = root.join(PACKAGE_LOG);
        Ok(packages.exists().then_some(Self::Packages(packages)))
    }

    const fn table(&self) -> &'static str {
        match self {
            Self::Syslog(_) | Self::Journal(_) => "Syslog",
            Self::Packages(_) => "DpkgLog_CL",
        }
    }

    /// Has an agent read it.
    fn add_to(&self, agent: AgentBuilder) -> Result<AgentBuilder> {
        let start = StartAt::Beginning;
        Ok(match self {
            Self::Syslog(path) => agent.source(SyslogFile::new(path, start, TimeZone::system())),
            Self::Journal(path) => agent.source(JournalFile::new(path, start)),
            Self::Packages(path) => agent.source(CustomLog::new("DpkgLog", path, start)?),
        })
    }

    fn shown(&self) -> String {
        match self {
            Self::Syslog(path) | Self::Packages(path) => format!("lines of {}", path.display()),
            Self::Journal(_) => "entries of the systemd journal".to_owned(),
        }
    }
}

/// Writes the journal's newest entries into a file; whether there are any.
fn export_journal(journalctl: &Path, into: &Path) -> Result<bool> {
    let file = File::create(into).with_context(|| format!("file {}", into.display()))?;
    let mut command = std::process::Command::new(journalctl);
    command.args(["--no-pager", "--quiet", "--output=export", "--lines", JOURNAL_ENTRIES]);
    let status = command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null()).status();
    // Without the program, or without leave to read the journal, there is none for us.
    let is_read = status.is_ok_and(|status| status.success());
    Ok(is_read && into.metadata()?.len() > 0)
}

/// Reads the first of the system's logs that is there, by an agent of this run's own, so that each
/// run sees it from its start.
async fn read_log_file(tour: &Tour, teller: &mut Teller) -> Result<u64> {
    let folder = tour.folder.clone();
    let find = move || SystemLog::find(Path::new("/"), Path::new(JOURNALCTL), &folder);
    let Some(log) = oms_core::task::blocking(find).await? else {
        teller.lack("this machine has no log that can be read: none was");
        return Ok(0);
    };
    let table = log.table();
    // A log file may be older than a table keeps by default, and each of its lines is to be seen.
    tour.suite.logs()?.set_table_settings(&table.parse()?, TableSettings::longest()).await?;
    let before = count(tour, table).await?;
    let sink = Arc::clone(tour.suite.logs()?) as Arc<dyn RecordSink>;
    let state = tour.folder.join("agent");
    std::fs::create_dir_all(&state)?;
    let agent = log.add_to(Agent::builder(sink).state_dir(state))?.build()?;
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
    let now = before + arrived;
    teller.say(format!(
        "{of_agent} {} came into the table {table}, which has {now} now",
        log.shown()
    ));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A program of that text in a folder.
    fn program(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("journalctl");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    #[test]
    fn the_journal_is_read_where_there_is_no_syslog_and_before_the_log_of_packages() {
        let place = tempfile::tempdir().expect("a folder");
        let (root, folder) = (place.path(), place.path().join("run"));
        fs::create_dir_all(root.join("var/log")).expect("folders");
        fs::create_dir(&folder).expect("a folder");
        let find = |program: &Path| SystemLog::find(root, program, &folder).expect("a look");
        assert_eq!(find(Path::new("/no/journalctl")), None);

        let packages = root.join(PACKAGE_LOG);
        fs::write(&packages, "2026-01-01 startup\n").expect("a log");
        let of_packages = Some(SystemLog::Packages(packages));
        assert_eq!(find(Path::new("/no/journalctl")), of_packages);
        assert_eq!(find(&program(root, "exit 0")), of_packages, "a journal without entries");
        assert_eq!(find(&program(root, "echo half; exit 1")), of_packages, "one that is not ours");

        let text = "__CURSOR=c\\n__REALTIME_TIMESTAMP=1767225600000000\\nMESSAGE=started\\n\\n";
        let said =
            program(root, &format!("case \"$*\" in *output=export*) printf '{text}';; esac"));
        let found = find(&said).expect("the journal");
        assert_eq!(found, SystemLog::Journal(folder.join("journal.export")));
        assert_eq!(found.table(), "Syslog");
        assert!(fs::read_to_string(folder.join("journal.export")).expect("it").contains("started"));

        let syslog = root.join("var/log/messages");
        fs::write(&syslog, "").expect("a log");
        assert_eq!(find(&said), Some(SystemLog::Syslog(syslog)));
    }
}
