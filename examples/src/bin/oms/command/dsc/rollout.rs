//! Roll-outs: a new version of a configuration, one ring of nodes after the other.

use super::{Output, read, shown, stem};
use crate::command::absolute;
use crate::suite::Suite;
use anyhow::Result;
use clap::Subcommand;
use oms_dsc::pull_server::{RingStatus, RolloutPlan, RolloutStatus};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Rollout {
    /// Begins to give a new version to the nodes of the first ring.
    Begin {
        /// The configuration's name; that of the file by default.
        #[arg(long)]
        name: Option<String>,
        /// The rings, in YAML or JSON: a name, `when` or `percent`, and what is asked of each.
        #[arg(long, value_name = "FILE")]
        rings: PathBuf,
        /// The new version, in MOF.
        file: PathBuf,
    },
    /// Shows where roll-outs stand: every one, or that of a configuration.
    Status {
        /// The configuration.
        configuration: Option<String>,
    },
    /// Lets a roll-out that stopped go on; nodes that failed get another try.
    Resume {
        /// The configuration.
        configuration: String,
    },
    /// Opens the next ring without waiting; behind the last one, publishes the new version.
    Advance {
        /// The configuration.
        configuration: String,
    },
    /// Gives every node the old version again.
    Abort {
        /// The configuration.
        configuration: String,
    },
}

impl Rollout {
    pub(super) fn absolute(&mut self) -> Result<()> {
        match self {
            Self::Begin { rings, file, .. } => absolute([rings, file]),
            _ => Ok(()),
        }
    }

    pub(super) async fn run(&self, suite: &Suite) -> Result<Output> {
        let server = suite.dsc()?;
        let status = match self {
            Self::Begin { name, rings, file } => {
                let plan = RolloutPlan::parse(&rings.display().to_string(), &read(rings)?);
                let name = match name {
                    Some(name) => name,
                    None => stem(file)?,
                };
                let plan = plan.map_err(shown)?;
                server.begin_rollout(name, &read(file)?, plan).await.map_err(shown)?
            }
            Self::Status { configuration: None } => {
                let all = server.rollouts().await?;
                let mut text: String = all.iter().map(told).collect();
                if all.is_empty() {
                    text.push_str("there was no roll-out yet\n");
                }
                return Ok(Output::new(text, json!(all)));
            }
            Self::Status { configuration: Some(name) } => server.rollout(&name.parse()?).await?,
            Self::Resume { configuration } => {
                server.resume_rollout(&configuration.parse()?).await?
            }
            Self::Advance { configuration } => {
                server.advance_rollout(&configuration.parse()?).await?
            }
            Self::Abort { configuration } => server.abort_rollout(&configuration.parse()?).await?,
        };
        Ok(Output::new(told(&status), json!(status)))
    }
}

fn told(status: &RolloutStatus) -> String {
    let state = format!("{:?}", status.state).to_lowercase();
    let mut text = format!("{}: {state}\n", status.configuration_name);
    text.push_str(&format!("  {} -> {}\n", status.old, status.new));
    for RingStatus { ring, is_open, nodes, in_flight, succeeded, failed } in &status.rings {
        text.push_str(&format!(
            "  {:5} {:16} {nodes} nodes, {succeeded} of {} succeeded, {in_flight} in flight, {failed} \
             failed of {} that may\n",
            if *is_open { "open" } else { "" },
            ring.name.as_str(),
            ring.successes_min,
            ring.failures_max
        ));
    }
    if let Some(ring) = &status.stopped_by {
        text.push_str(&format!("  stopped by the failures of {ring}: resume or abort it\n"));
    }
    for failure in &status.failures {
        text.push_str(&format!("  {} {} {:?}\n", failure.node, failure.node_name, failure.why));
    }
    text
}
