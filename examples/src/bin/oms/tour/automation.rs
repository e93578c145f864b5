//! The runbook part: publish, run, look at the streams, try to break out, stop.

use super::Tour;
use super::account::Teller;
use anyhow::{Context, Result, ensure};
use oms_automation::job::{Job, JobState};
use oms_automation::runbook::{LogSwitches, RunbookKind};
use oms_automation::stream::StreamType;
use oms_automation::{AutomationAccount, JobOptions, RunbookOptions, StreamQuery};
use std::collections::BTreeSet;
use std::time::Duration;

const PYTHON: &str = r#"
import os, platform, sys

print("PROGRESS: looking at this machine")
print(f"{sys.argv[1]}: {platform.system()} {platform.release()}, {os.cpu_count()} processors")
print("VERBOSE: python", platform.python_version())
print("DEBUG: working in", os.getcwd())
print("WARNING: nothing to worry about")
print("one line of the error stream", file=sys.stderr)
"#;

const BASH: &str = r#"
set -eu
echo "$1: $(ls /usr/bin | wc -l) programs in /usr/bin, up $(cut -d. -f1 /proc/uptime) s"
"#;

/// Tries to read a file of the data directory; says whether it could.
const BREAK_OUT: &str = r#"
if cat "$1" >/dev/null 2>&1; then echo "read it"; else echo "kept out"; fi
echo "mine" > own && cat own
"#;

/// Leaves its session with a grandchild and waits for ever.
const ENDLESS: &str = r#"
setsid sleep 1000 &
echo "PROGRESS: waiting"
echo "waiting"
sleep 1000
"#;

/// How often the endless job is looked at until it is running.
const LOOKS_MAX: u32 = 200;

pub(super) async fn show(tour: &Tour, teller: &mut Teller) -> Result<String> {
    let account = tour.suite.automation()?;
    let mut done = Vec::new();
    if tour.suite.has_program("python3") {
        let job = run(tour, RunbookKind::Python3, "tour-python", PYTHON, &["this machine"]).await?;
        let streams = account.streams(job.id, StreamQuery::default()).await?;
        let kinds: BTreeSet<String> =
            streams.iter().map(|record| record.stream_type.to_string()).collect();
        let is_ordered = streams.windows(2).all(|pair| pair[0].sequence < pair[1].sequence);
        ensure!(kinds.len() == 6 && is_ordered, "streams are not complete: {kinds:?}");
        let said = streams.iter().find(|record| record.stream_type == StreamType::Output);
        teller.say(format!(
            "Python runbook: {} records in six streams, in order; it said \"{}\"",
            streams.len(),
            said.map_or("", |record| &record.text)
        ));
        done.push("Python");
    } else {
        teller.lack("there is no python3 here: the Bash runbooks alone run");
    }
    let job = run(tour, RunbookKind::Bash, "tour-bash", BASH, &["this machine"]).await?;
    teller.say(format!("Bash runbook: it said \"{}\"", account.output(job.id, 500).await?));
    done.push("Bash");

    let secret = tour.suite.root().join("admin.json");
    let secret = secret.to_str().context("the data directory's path is not text")?;
    let job = run(tour, RunbookKind::Bash, "tour-break-out", BREAK_OUT, &[secret]).await?;
    let said = account.output(job.id, 500).await?;
    ensure!(said == "kept out\nmine", "a runbook was not kept out of the data directory: {said}");
    let isolation = job.isolation.map(|applied| applied.to_string()).unwrap_or_default();
    teller.say(format!("a runbook that reads admin.json is kept out ({isolation})"));

    let left = stop(tour, account).await?;
    teller.say("a runbook that waits for ever was stopped with everything it had started");
    ensure!(left == 0, "{left} processes of a stopped job are left");
    Ok(format!("{} runbooks run, one kept out, one stopped", done.join(" and ")))
}

async fn publish(tour: &Tour, kind: RunbookKind, name: &str, text: &str) -> Result<String> {
    let account = tour.suite.automation()?;
    let name = tour.name(name);
    let options = RunbookOptions {
        name: name.parse()?,
        kind,
        description: "made by the tour".to_owned(),
        logs: LogSwitches { verbose: true, progress: true, debug: true },
    };
    account.create_runbook(options).await?;
    account.save_draft(&name.parse()?, text.as_bytes(), Vec::new()).await?;
    account.publish(&name.parse()?).await?;
    Ok(name)
}

async fn run(
    tour: &Tour,
    kind: RunbookKind,
    name: &str,
    text: &str,
    arguments: &[&str],
) -> Result<Job> {
    let account = tour.suite.automation()?;
    let name = publish(tour, kind, name, text).await?;
    let numbered = arguments.iter().enumerate();
    let parameters =
        numbered.map(|(place, value)| (format!("argument{place}"), (*value).into())).collect();
    let options = JobOptions { name: None, parameters, started_by: "tour".to_owned() };
    let job = account.start_job(&name.parse()?, options).await?;
    let job = account.wait(job.id).await?;
    let why = job.exception.clone().unwrap_or_default();
    ensure!(job.state == JobState::Completed, "job of {name} ended {:?}: {why}", job.state);
    Ok(job)
}

/// Starts a job that never ends, stops it, and counts its processes that are left.
async fn stop(tour: &Tour, account: &AutomationAccount) -> Result<usize> {
    let name = publish(tour, RunbookKind::Bash, "tour-endless", ENDLESS).await?;
    let options = JobOptions { started_by: "tour".to_owned(), ..JobOptions::default() };
    let job = account.start_job(&name.parse()?, options).await?;
    for look in 0.. {
        if account.job(job.id).await?.state == JobState::Running && processes_of(&job).len() >= 2 {
            break;
        }
        ensure!(look < LOOKS_MAX, "the endless job did not begin");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    account.stop_job(job.id, "the tour has seen enough").await?;
    let job = account.wait(job.id).await?;
    ensure!(job.state == JobState::Stopped, "a stopped job ended {:?}", job.state);
    Ok(processes_of(&job).len())
}

/// Processes that carry a job's mark in their environment.
fn processes_of(job: &Job) -> Vec<String> {
    let mark = format!("AUTOMATION_JOB_ID={}", job.id);
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let is_of_job = |id: &String| {
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(is_of_job)
        .collect()
}
