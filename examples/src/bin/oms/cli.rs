//! The command line.

use crate::command::{Command, Dsc, Output};
use crate::data::{DataDir, OpenError};
use crate::suite::{Suite, Wanted};
use crate::{admin, serve, socket, tour};
use anyhow::Result;
use clap::{Parser, Subcommand};
use oms_core::SystemEntropy;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// An operations management suite: logs, runbooks, desired state, backup and site recovery.
#[derive(Debug, Parser)]
#[command(name = "oms", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The directory that holds everything.
    #[arg(long, global = true, env = "OMS_DATA", default_value = "oms-data")]
    data: PathBuf,
    /// Folders in which runbooks' interpreters are looked for, separated by colons.
    #[arg(long, global = true, env = "OMS_SEARCH_PATH", value_delimiter = ':')]
    search_path: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows every service at work on this machine, and ends.
    Tour(tour::Options),
    /// Runs the services until it is asked to end.
    Serve(serve::Options),
    #[command(flatten)]
    Command(Command),
}

impl Cli {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        // A serving process has another working directory, so paths are made whole here.
        let root = std::path::absolute(&self.data)?;
        match self.verb {
            Verb::Tour(options) => tour::run(&root, &options, &self.search_path, self.json).await,
            Verb::Serve(options) => serve::run(&root, options, &self.search_path).await,
            Verb::Command(Command::Dsc(Dsc::Serve(options))) => {
                serve::run(&root, options.into_serve()?, &self.search_path).await
            }
            Verb::Command(command) => {
                let output = execute(&root, command.absolute()?, &self.search_path).await?;
                match self.json {
                    true => println!("{}", serde_json::to_string_pretty(&output.json)?),
                    false => print!("{}", output.text),
                }
                Ok(if output.is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
        }
    }
}

/// Runs a command here, or in the process that serves the directory.
async fn execute(root: &Path, command: Command, search_path: &[PathBuf]) -> Result<Output> {
    if !command.needs_data() {
        return command.run_alone().await;
    }
    let data = match DataDir::open(root) {
        Ok(data) => data,
        Err(OpenError::InUse { holder, .. }) => {
            return socket::send(root, &holder, &command).await;
        }
        Err(error) => return Err(error.into()),
    };
    let admin = admin::Admin::load_or_create(data.root(), &SystemEntropy)?;
    let suite = Suite::open(data, &admin, Wanted::new(&command.services(), search_path)).await?;
    let output = command.run(&suite).await;
    if let Err(error) = suite.close().await {
        // Everything acknowledged is durable without it; the command's own outcome counts.
        tracing::warn!(error = format!("{error:#}"), "the data directory was not closed well");
    }
    output
}
