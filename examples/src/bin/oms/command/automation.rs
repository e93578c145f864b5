//! `oms automation`: runbooks and their jobs.

use super::{Output, absolute};
use crate::suite::Suite;
use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use oms_automation::job::{Job, JobState};
use oms_automation::runbook::{LogSwitches, RunbookKind, RunbookName};
use oms_automation::stream::StreamRecord;
use oms_automation::{JobOptions, RunbookOptions, StreamQuery};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How many jobs are listed.
const JOBS_LISTED_MAX: usize = 1_000;

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Automation {
    /// Publishes and lists runbooks.
    #[command(subcommand)]
    Runbook(RunbookCommand),
    /// Runs a runbook and tells what it wrote. Ctrl-C ends its job; where another process serves the
    /// data directory, the job is that process's and goes on.
    Start {
        /// Its name.
        runbook: String,
        /// A parameter, as NAME=VALUE. The program gets the values in the order of the names, where
        /// digits compare as numbers, or in that of the parameters which the runbook declares.
        #[arg(long = "parameter", value_name = "NAME=VALUE")]
        parameters: Vec<String>,
        /// A name for the job: starting under the same name again starts nothing.
        #[arg(long)]
        name: Option<String>,
    },
    /// Lists jobs, or tells one.
    Job {
        /// A job's id.
        id: Option<String>,
    },
    /// Not supported yet.
    Schedule,
    /// Not supported yet.
    Webhook,
    /// Not supported yet.
    Worker,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum RunbookCommand {
    /// Makes a file the published version of a runbook.
    Publish {
        /// The runbook's name; the file's by default.
        #[arg(long)]
        name: Option<String>,
        /// Its language; from the file's ending by default.
        #[arg(long, value_enum)]
        kind: Option<Kind>,
        /// The script.
        file: PathBuf,
    },
    /// Lists runbooks.
    List,
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Python 3.
    Python3,
    /// Bash.
    Bash,
}

impl Automation {
    pub(super) fn absolute(&mut self) -> Result<()> {
        match self {
            Self::Runbook(RunbookCommand::Publish { file, .. }) => absolute([file]),
            _ => Ok(()),
        }
    }

    pub(super) async fn run(&self, suite: &Suite) -> Result<Output> {
        match self {
            Self::Runbook(RunbookCommand::Publish { name, kind, file }) => {
                publish(suite, name.as_deref(), *kind, file).await
            }
            Self::Runbook(RunbookCommand::List) => runbooks(suite).await,
            Self::Start { runbook, parameters, name } => {
                start(suite, runbook, parameters, name.clone()).await
            }
            Self::Job { id: Some(id) } => {
                tell(suite, suite.automation()?.job(id.parse()?).await?).await
            }
            Self::Job { id: None } => jobs(suite).await,
            Self::Schedule => bail!("schedules are not supported in this version"),
            Self::Webhook => bail!("webhooks are not supported in this version"),
            Self::Worker => bail!("hybrid workers are not supported in this version"),
        }
    }
}

async fn publish(
    suite: &Suite,
    name: Option<&str>,
    kind: Option<Kind>,
    file: &Path,
) -> Result<Output> {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let kind = match (kind, ending) {
        (Some(Kind::Python3), _) | (None, "py") => RunbookKind::Python3,
        (Some(Kind::Bash), _) | (None, "sh") => RunbookKind::Bash,
        (None, _) => bail!("language is not clear from the file's ending; give --kind"),
    };
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let name: RunbookName = name.or(stem).context("the file has no name that is text")?.parse()?;
    let text = std::fs::read(file).with_context(|| format!("file {}", file.display()))?;
    let account = suite.automation()?;
    let options = RunbookOptions {
        name: name.clone(),
        kind,
        description: String::new(),
        logs: LogSwitches { verbose: true, progress: true, debug: true },
    };
    let is_new = match account.create_runbook(options).await {
        Ok(_) => true,
        Err(oms_automation::Error::RunbookExists { .. }) => {
            let found = account.runbook(&name).await?.kind;
            if found != kind {
                bail!(
                    "runbook is there in another language; take another name. runbook=`{name}`, \
                     language=`{found}`"
                );
            }
            false
        }
        Err(error) => return Err(error.into()),
    };
    if let Err(error) = account.save_draft(&name, &text, Vec::new()).await {
        // A refused text leaves nothing behind that was not there.
        if is_new {
            account.delete_runbook(&name).await?;
        }
        return Err(error.into());
    }
    let runbook = account.publish(&name).await?;
    let version = runbook.published.map_or(0, |published| published.number);
    let text = format!("runbook {name} published, version {version}\n");
    Ok(Output::new(text, json!({"name": name.to_string(), "version": version})))
}

async fn runbooks(suite: &Suite) -> Result<Output> {
    let mut text = String::new();
    let mut rows = Vec::new();
    for runbook in suite.automation()?.runbooks().await? {
        let (name, state) = (runbook.name.to_string(), format!("{:?}", runbook.state));
        text.push_str(&format!("{name:<32} {:<8} {state}\n", runbook.kind.to_string()));
        rows.push(json!({"name": name, "kind": runbook.kind.to_string(), "state": state}));
    }
    if rows.is_empty() {
        text.push_str("no runbook yet\n");
    }
    Ok(Output::new(text, json!(rows)))
}

async fn start(
    suite: &Suite,
    runbook: &str,
    parameters: &[String],
    name: Option<String>,
) -> Result<Output> {
    let split = |parameter: &String| {
        let (name, value) = parameter.split_once('=')?;
        Some((name.to_owned(), serde_json::Value::from(value)))
    };
    let given: Option<Vec<_>> = parameters.iter().map(split).collect();
    let mut parameters = BTreeMap::new();
    for (name, value) in given.context("a parameter is not of the form NAME=VALUE")? {
        if parameters.contains_key(&name) {
            bail!("parameter is given twice. name=`{name}`");
        }
        parameters.insert(name, value);
    }
    let options = JobOptions { name, parameters, started_by: "local".to_owned() };
    let account = suite.automation()?;
    let job = account.start_job(&runbook.parse()?, options).await?;
    let job = account.wait(job.id).await?;
    tell(suite, job).await
}

async fn tell(suite: &Suite, job: Job) -> Result<Output> {
    let mut text = format!("job {} of {}: {:?}\n", job.id, job.label.runbook, job.state);
    if let Some(exception) = &job.exception {
        text.push_str(&format!("{exception}\n"));
    }
    let streams = streams(suite, &job).await?;
    for record in &streams {
        text.push_str(&format!("{:<8} {}\n", record.stream_type.to_string(), record.text));
    }
    let rows: Vec<_> = streams
        .iter()
        .map(|record| {
            json!({
                "sequence": record.sequence, "time": record.time,
                "stream": record.stream_type.to_string(), "text": record.text,
            })
        })
        .collect();
    let json = json!({
        "id": job.id.to_string(), "runbook": job.label.runbook.to_string(),
        "state": format!("{:?}", job.state), "exception": job.exception, "streams": rows,
    });
    let output = Output::new(text, json);
    let has_failed = matches!(job.state, JobState::Failed | JobState::Stopped);
    Ok(if has_failed { output.failed() } else { output })
}

/// Everything that a job said.
async fn streams(suite: &Suite, job: &Job) -> Result<Vec<StreamRecord>> {
    let mut all: Vec<StreamRecord> = Vec::new();
    loop {
        let after = all.last().map_or(0, |record| record.sequence);
        let query = StreamQuery { after, ..StreamQuery::default() };
        let page = suite.automation()?.streams(job.id, query).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

async fn jobs(suite: &Suite) -> Result<Output> {
    let mut jobs = suite.automation()?.jobs(None, JOBS_LISTED_MAX).await?;
    jobs.sort_by_key(|job| job.creation_time);
    let mut text = String::new();
    for job in &jobs {
        text.push_str(&format!(
            "{}  {}  {:<10} {}\n",
            job.id,
            job.creation_time,
            format!("{:?}", job.state),
            job.label.runbook
        ));
    }
    if jobs.is_empty() {
        text.push_str("no job yet\n");
    }
    let row = |job: &Job| {
        json!({
            "id": job.id.to_string(), "runbook": job.label.runbook.to_string(),
            "state": format!("{:?}", job.state), "created": job.creation_time, "ended": job.end_time,
        })
    };
    Ok(Output::new(text, json!(jobs.iter().map(row).collect::<Vec<_>>())))
}
