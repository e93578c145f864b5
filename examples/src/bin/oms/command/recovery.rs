//! `oms recovery`: replicate a disk, fail it over and back.

use super::{Output, absolute};
use crate::progress::{Done, Line};
use crate::suite::Suite;
use crate::tour::account::bytes;
use anyhow::{Result, bail};
use clap::Subcommand;
use oms_recovery::machine::protected::ItemStatus;
use oms_recovery::recovery_point::{Consistency, PointChoice};
use oms_recovery::{ProtectedItem, ReplicationPolicy, SourceOperations};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Recovery {
    /// Protects a raw disk image by a replica in a folder, and copies it.
    Protect {
        /// The machine's name.
        name: String,
        /// Its disk.
        #[arg(long)]
        disk: PathBuf,
        /// The folder of its replica.
        #[arg(long)]
        replica: PathBuf,
    },
    /// Tells every protected machine, or one.
    Status {
        /// The machine's name.
        name: Option<String>,
    },
    /// Takes a recovery point of what the replica holds.
    Point {
        /// The machine's name.
        name: String,
    },
    /// Shows the newest recovery point as a raw image, while replication goes on.
    TestFailover {
        /// The machine's name.
        name: String,
        /// The image to write.
        #[arg(long)]
        to: PathBuf,
    },
    /// Ends a test failover.
    Cleanup {
        /// The machine's name.
        name: String,
        /// How it went.
        #[arg(long, default_value = "")]
        comments: String,
    },
    /// Moves production to the replica: without loss, or as of the last write it holds.
    Failover {
        /// The machine's name.
        name: String,
        /// The source is lost: do not wait for it.
        #[arg(long)]
        unplanned: bool,
    },
    /// Makes a failover final.
    Commit {
        /// The machine's name.
        name: String,
    },
    /// Replicates in the other direction.
    Reprotect {
        /// The machine's name.
        name: String,
    },
    /// Moves production back.
    Failback {
        /// The machine's name.
        name: String,
    },
    /// Not supported yet.
    Plan,
}

impl Recovery {
    pub(super) fn absolute(&mut self) -> Result<()> {
        match self {
            Self::Protect { disk, replica, .. } => absolute([disk, replica]),
            Self::TestFailover { to, .. } => absolute([to]),
            _ => Ok(()),
        }
    }

    pub(super) async fn run(&self, suite: &Suite) -> Result<Output> {
        let vault = suite.recovery()?;
        match self {
            Self::Protect { name, disk, replica } => {
                let policy = ReplicationPolicy::default();
                let item = vault.enable_protection(name, disk, replica, policy).await?;
                let line = copying(&item);
                let report = item.replicate().await?;
                drop(line);
                let sent = bytes(report.copy_bytes + report.frame_bytes);
                told(&item, format!("{name} is protected; {sent} sent to the replica")).await
            }
            Self::Status { name: Some(name) } => {
                told(&*vault.item(name).await?, String::new()).await
            }
            Self::Status { name: None } => statuses(suite).await,
            Self::Point { name } => {
                let item = vault.item(name).await?;
                item.replicate().await?;
                let point = item.take_recovery_point(Consistency::CrashConsistent).await?;
                told(&item, format!("recovery point {:?} at {}", point.id, point.time)).await
            }
            Self::TestFailover { name, to } => {
                let item = vault.item(name).await?;
                let drill = item.test_failover(PointChoice::LatestProcessed).await?;
                let length = bytes(drill.export_raw(to).await?);
                told(&item, format!("{length} written to {}", to.display())).await
            }
            Self::Cleanup { name, comments } => {
                let item = vault.item(name).await?;
                item.cleanup_test_failover(comments).await?;
                told(&item, format!("the test failover of {name} has ended")).await
            }
            Self::Failover { name, unplanned } => {
                let item = vault.item(name).await?;
                match unplanned {
                    true => {
                        let source = SourceOperations::NotRequired;
                        item.unplanned_failover(PointChoice::Latest, source).await?
                    }
                    false => item.planned_failover().await?,
                };
                told(&item, format!("{name} runs at the recovery site; commit to make it final"))
                    .await
            }
            Self::Commit { name } => {
                let item = vault.item(name).await?;
                item.commit().await?;
                told(&*vault.item(name).await?, "committed".to_owned()).await
            }
            Self::Reprotect { name } => {
                let item = vault.item(name).await?;
                let line = copying(&item);
                let report = item.reprotect().await?;
                drop(line);
                let sent = bytes(report.copy_bytes + report.frame_bytes);
                told(&item, format!("{name} is protected in the other direction; {sent} sent"))
                    .await
            }
            Self::Failback { name } => {
                let item = vault.item(name).await?;
                item.failback().await?;
                told(&item, format!("{name} runs at the primary site; commit to make it final"))
                    .await
            }
            Self::Plan => bail!("recovery plans are not supported in this version"),
        }
    }
}

/// Shows how far the copy of a disk is, until the line is dropped.
fn copying(item: &ProtectedItem) -> Option<Line> {
    let device = item.device().ok()?;
    Some(Line::start("copy", move || {
        let (bytes, total) = device.copied_bytes();
        Done { bytes, total: Some(total) }
    }))
}

async fn told(item: &ProtectedItem, line: String) -> Result<Output> {
    let status = item.status().await;
    let mut text = if line.is_empty() { String::new() } else { format!("{line}\n") };
    text.push_str(&describe(&status));
    let points = item.recovery_points().await;
    text.push_str(&format!("{} recovery points\n", points.len()));
    let points: Vec<_> = points.iter().map(|point| json!({"time": point.time})).collect();
    let mut json = as_json(&status);
    json["recovery_points"] = json!(points);
    Ok(Output::new(text, json))
}

fn describe(status: &ItemStatus) -> String {
    let rpo = status.health.rpo.map_or("unknown".to_owned(), |rpo| format!("{} s", rpo.as_secs()));
    format!(
        "{}: {:?}, active at the {:?} site, health {:?}, RPO {rpo}\nnow possible: {}\n",
        status.item.machine.name,
        status.item.state,
        status.active_location,
        status.health.level,
        status.allowed_operations.join(", ")
    )
}

fn as_json(status: &ItemStatus) -> serde_json::Value {
    json!({
        "name": status.item.machine.name,
        "state": format!("{:?}", status.item.state),
        "active_location": format!("{:?}", status.active_location),
        "health": format!("{:?}", status.health.level),
        "rpo_seconds": status.health.rpo.map(|rpo| rpo.as_secs()),
        "allowed_operations": status.allowed_operations,
        "failure": status.item.failure,
    })
}

async fn statuses(suite: &Suite) -> Result<Output> {
    let vault = suite.recovery()?;
    let mut text = String::new();
    let mut rows = Vec::new();
    for item in vault.items().await? {
        text.push_str(&format!("{:<24} {:?}\n", item.machine.name, item.state));
        rows.push(json!({"name": item.machine.name, "state": format!("{:?}", item.state)}));
    }
    if rows.is_empty() {
        text.push_str("no machine is protected yet\n");
    }
    Ok(Output::new(text, json!(rows)))
}
