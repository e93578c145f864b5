//! Commands: each does one thing, here or in the process that serves the data directory.

mod automation;
mod backup;
mod dsc;
mod logs;
mod recovery;

pub(crate) use dsc::Dsc;

use crate::suite::{Service, Suite};
use anyhow::{Result, bail};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One command, with everything that it needs.
#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Log Analytics: ingest, query, list tables.
    #[command(subcommand)]
    Logs(logs::Logs),
    /// Automation: runbooks and jobs.
    #[command(subcommand)]
    Automation(automation::Automation),
    /// Desired State Configuration: documents, nodes, this machine's own state.
    #[command(subcommand)]
    Dsc(Dsc),
    /// Backup: vaults in restic's format.
    #[command(subcommand)]
    Backup(backup::Backup),
    /// Site Recovery: replicate a disk, fail it over and back.
    #[command(subcommand)]
    Recovery(recovery::Recovery),
}

/// Where a command runs that does not open the data directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The data directory, for those that keep something below it.
    pub(crate) data: &'a Path,
    /// Whether what it tells on the way is JSON.
    pub(crate) json: bool,
}

/// What a command came to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Output {
    /// In plain words, with a line break at its end.
    pub(crate) text: String,
    /// The same for programs.
    pub(crate) json: serde_json::Value,
    /// Whether everything came out as it should; the process ends with 1 if not.
    pub(crate) is_success: bool,
    /// What the process ends with in place of 1.
    #[serde(default)]
    pub(crate) status: Option<u8>,
}

/// The status of what was done in part, as restic has it.
pub(crate) const PARTIAL: u8 = 3;

/// Why a command ended before it was done. A shell knows it by 128 and the signal's number.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; {what}")]
pub(crate) struct Interrupted {
    pub(crate) signal: u8,
    /// What that means for what was under way.
    pub(crate) what: &'static str,
}

impl Interrupted {
    /// What the process ends with.
    pub(crate) const fn status(signal: u8) -> u8 {
        128 + signal
    }
}

impl Output {
    pub(crate) fn new(text: impl Into<String>, json: serde_json::Value) -> Self {
        let mut text = text.into();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Self { text, json, is_success: true, status: None }
    }

    pub(crate) const fn failed(mut self) -> Self {
        self.is_success = false;
        self
    }

    /// Something was done and something was not.
    pub(crate) const fn partial(mut self) -> Self {
        self.status = Some(PARTIAL);
        self.failed()
    }

    /// It came out so because of a signal.
    pub(crate) const fn interrupted(mut self, signal: u8) -> Self {
        self.status = Some(Interrupted::status(signal));
        self.failed()
    }

    /// What the process ends with.
    pub(crate) const fn code(&self) -> u8 {
        match (self.is_success, self.status) {
            (true, _) => 0,
            (false, Some(status)) => status,
            (false, None) => 1,
        }
    }
}

impl Command {
    /// Whether it works on the data directory, and not on files that it names itself.
    pub(crate) const fn needs_data(&self) -> bool {
        match self {
            Self::Logs(_) | Self::Automation(_) | Self::Recovery(_) => true,
            Self::Dsc(command) => command.needs_data(),
            Self::Backup(_) => false,
        }
    }

    /// Whether it starts jobs and waits for them.
    pub(crate) const fn runs_jobs(&self) -> bool {
        matches!(self, Self::Automation(automation::Automation::Start { .. }))
    }

    /// Whether the log repository is to be opened beside damage in its write-ahead log.
    pub(crate) const fn puts_damage_aside(&self) -> bool {
        matches!(self, Self::Logs(command) if command.puts_damage_aside())
    }

    /// The services that it needs; the log repository takes the records of what it does.
    pub(crate) fn services(&self) -> Vec<Service> {
        let own = match self {
            Self::Logs(_) => return vec![Service::Logs],
            Self::Automation(_) => Service::Automation,
            Self::Dsc(_) => Service::Dsc,
            Self::Backup(_) => Service::Backup,
            Self::Recovery(_) => Service::Recovery,
        };
        vec![Service::Logs, own]
    }

    /// The same command with whole paths.
    pub(crate) fn absolute(mut self) -> Result<Self> {
        match &mut self {
            Self::Logs(command) => command.absolute()?,
            Self::Automation(command) => command.absolute()?,
            Self::Dsc(command) => command.absolute()?,
            Self::Backup(command) => command.absolute()?,
            Self::Recovery(command) => command.absolute()?,
        }
        Ok(self)
    }

    /// Runs it on open services.
    pub(crate) async fn run(&self, suite: &Suite) -> Result<Output> {
        let output = match self {
            Self::Logs(command) => command.run(suite).await,
            Self::Automation(command) => command.run(suite).await,
            Self::Dsc(command) => command.run(suite).await,
            Self::Recovery(command) => command.run(suite).await,
            Self::Backup(_) => bail!("this command works on a vault, not on a data directory"),
        }?;
        // The command is done; what it recorded is sent again by whoever opens the directory next.
        if let Err(error) = suite.send_records().await {
            tracing::warn!(error = format!("{error:#}"), "records wait to be sent");
        }
        Ok(output)
    }

    /// Runs it without a data directory.
    pub(crate) async fn run_alone(&self, place: &Place<'_>) -> Result<Output> {
        match self {
            Self::Dsc(command) => command.run_alone(place).await,
            Self::Backup(command) => command.run().await,
            Self::Logs(_) | Self::Automation(_) | Self::Recovery(_) => {
                bail!("this command needs a data directory")
            }
        }
    }
}

/// Makes paths whole.
fn absolute<'a>(paths: impl IntoIterator<Item = &'a mut PathBuf>) -> Result<()> {
    for path in paths {
        *path = std::path::absolute(&*path)?;
    }
    Ok(())
}
