//! `oms recovery`: replicate a disk, fail it over and back.

mod kept;

mod point;

use self::kept::{Release, SiteName};
use self::point::Point;
use super::{Output, absolute};
use crate::progress::{Done, Line};
use crate::suite::Suite;
use crate::tour::account::bytes;
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use oms_recovery::machine::disable::DisableReport;
use oms_recovery::machine::protected::{ItemStatus, ReplicationReport};
use oms_recovery::recovery_point::{Consistency, PointChoice, RecoveryPoint};
use oms_recovery::replication::TestFailoverState;
use oms_recovery::{
    Error, ProtectedItem, ProtectionState, RecoveryVault, ReplicationPolicy, SourceOperations,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

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
    /// Sends the replica what it lacks, and goes on with a copy that was interrupted.
    Replicate {
        /// The machine's name.
        name: String,
    },
    /// Takes a recovery point of what the replica holds.
    Point {
        /// The machine's name.
        name: String,
    },
    /// Lists the recovery points that can be failed over to, or changed to, oldest first.
    Points {
        /// The machine's name.
        name: String,
    },
    /// Shows a recovery point as a raw image, while replication goes on.
    TestFailover {
        /// The machine's name.
        name: String,
        /// The image to write.
        #[arg(long)]
        to: PathBuf,
        /// Which point, as of `failover`.
        #[arg(long, default_value = "latest-processed")]
        point: Point,
    },
    /// Ends a test failover.
    Cleanup {
        /// The machine's name.
        name: String,
        /// How it went.
        #[arg(long, default_value = "")]
        comments: String,
    },
    /// Moves production to the replica: without loss, or as of a recovery point.
    Failover {
        /// The machine's name.
        name: String,
        /// The source is lost: do not wait for it.
        #[arg(long)]
        unplanned: bool,
        /// As of which point, if unplanned: `latest` is every write that the replica holds, and the default;
        /// `latest-processed` the newest recovery point, `latest-application-consistent` and
        /// `latest-crash-consistent` the newest one of that kind; a time, such as `2026-12-02T16:40:00Z`, is the
        /// newest one taken until then; or a point's id.
        #[arg(long, requires = "unplanned")]
        point: Option<Point>,
    },
    /// Starts production again from another recovery point, while a failover is not committed. What it wrote
    /// since the failover is dropped.
    ChangePoint {
        /// The machine's name.
        name: String,
        /// Which point, as of `failover`.
        #[arg(long)]
        point: Point,
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
    /// Brings a replica that has fallen out of step up to date again, by comparing. So it does with what
    /// something else than the tracked device wrote to the image.
    Repair {
        /// The machine's name.
        name: String,
    },
    /// Ends protection; production goes on where it is. Tells what it could not remove; of one that has ended,
    /// what is still there.
    Disable {
        /// The machine's name.
        name: String,
    },
    /// Tells what ended protections of a machine kept at its sites.
    Kept {
        /// The machine's name.
        name: String,
    },
    /// Brings what an ended protection kept to the disk's image, and removes its files. Without --confirm it
    /// only says what that would do.
    Merge {
        /// The machine's name.
        name: String,
        /// At which site; may be left out if only one has something.
        #[arg(long)]
        site: Option<SiteName>,
        /// The machine's name once more: do it.
        #[arg(long)]
        confirm: Option<String>,
    },
    /// Removes what an ended protection kept; the disk's image stays without it. Without --confirm it only
    /// says what that would do.
    Discard {
        /// The machine's name.
        name: String,
        /// At which site; may be left out if only one has something.
        #[arg(long)]
        site: Option<SiteName>,
        /// The machine's name once more: do it.
        #[arg(long)]
        confirm: Option<String>,
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
            Self::Protect { name, disk, replica } => protect(vault, name, disk, replica).await,
            Self::Status { name: Some(name) } => {
                told(&*vault.item(name).await?, String::new()).await
            }
            Self::Status { name: None } => statuses(suite).await,
            Self::Points { name } => points(&*vault.item(name).await?).await,
            Self::TestFailover { name, to, point } => test_failover(suite, name, to, *point).await,
            Self::Disable { name } => disable(vault, name).await,
            Self::Kept { name } => kept::tell(suite, name).await,
            Self::Merge { name, site, confirm } => {
                kept::release(suite, name, *site, confirm.as_deref(), Release::Merge).await
            }
            Self::Discard { name, site, confirm } => {
                kept::release(suite, name, *site, confirm.as_deref(), Release::Discard).await
            }
            Self::Plan => bail!("recovery plans are not supported in this version"),
            Self::Point { name }
            | Self::Cleanup { name, .. }
            | Self::Failover { name, .. }
            | Self::ChangePoint { name, .. }
            | Self::Commit { name }
            | Self::Reprotect { name }
            | Self::Failback { name }
            | Self::Replicate { name }
            | Self::Repair { name } => {
                let item = vault.item(name).await?;
                let done = self.step(name, &item).await?;
                // A commit makes another item of it.
                told(&*vault.item(name).await?, done).await
            }
        }
    }

    /// Takes a protected machine a step further, and says in a line what came of it.
    async fn step(&self, name: &str, item: &ProtectedItem) -> Result<String> {
        Ok(match self {
            Self::Point { .. } => {
                item.replicate().await?;
                let point = item.take_recovery_point(Consistency::CrashConsistent).await?;
                format!("recovery point {:?} at {}", point.id, point.time)
            }
            Self::Cleanup { comments, .. } => {
                item.cleanup_test_failover(comments).await?;
                format!("the test failover of {name} has ended")
            }
            Self::Failover { unplanned: false, .. } => {
                item.planned_failover().await?;
                format!("{name} runs at the recovery site{UNCOMMITTED}{name}")
            }
            Self::Failover { point, .. } => {
                let choice = point.unwrap_or(Point::Choice(PointChoice::Latest));
                let choice = choice.choose(item).await?;
                let source = SourceOperations::NotRequired;
                let chosen = item.unplanned_failover(choice, source).await?;
                let at = point::describe(chosen);
                format!("{name} runs at the recovery site {at}{UNCOMMITTED}{name}")
            }
            Self::ChangePoint { point, .. } => {
                let chosen = item.change_point(point.choose(item).await?).await?;
                format!("{name} runs {}{UNCOMMITTED}{name}", point::describe(chosen))
            }
            Self::Commit { .. } => {
                item.commit().await?;
                "committed".to_owned()
            }
            Self::Failback { .. } => {
                item.failback().await?;
                format!("{name} runs at the primary site{UNCOMMITTED}{name}")
            }
            Self::Reprotect { .. } => {
                let sent = copied(item, item.reprotect()).await?;
                format!("{name} is protected in the other direction; {sent} sent")
            }
            Self::Repair { .. } => {
                let sent = copied(item, item.repair_replication()).await?;
                format!("the replica of {name} is up to date; {sent} sent")
            }
            Self::Replicate { .. } => {
                let sent = copied(item, item.replicate()).await?;
                format!("the replica of {name} is up to date; {sent} sent")
            }
            other => bail!("not a step of a protected machine: {other:?}"),
        })
    }
}

/// What was sent by a copy, whose progress is shown.
async fn copied(
    item: &ProtectedItem,
    copy: impl Future<Output = Result<ReplicationReport, Error>>,
) -> Result<String> {
    let line = copying(item);
    let report = copy.await?;
    drop(line);
    Ok(bytes(report.copy_bytes + report.frame_bytes))
}

async fn protect(vault: &RecoveryVault, name: &str, disk: &Path, replica: &Path) -> Result<Output> {
    let policy = ReplicationPolicy::default();
    let item = vault.enable_protection(name, disk, replica, policy).await?;
    let sent = copied(&item, item.replicate()).await?;
    let line = format!(
        "{name} is protected; {sent} sent to the replica\nonly writes through its tracked \
         device are replicated: what else writes to {} is noticed by the next command, and \
         then brought over by: oms recovery repair {name}",
        disk.display()
    );
    told(&item, line).await
}

/// Ends a protection, or tells again of one that has ended.
async fn disable(vault: &RecoveryVault, name: &str) -> Result<Output> {
    let report = match vault.item(name).await {
        Ok(item) => {
            let is_uncommitted = item.status().await.item.state.is_uncommitted();
            match item.disable_protection().await {
                Err(error @ Error::IllegalState { .. }) if is_uncommitted => {
                    bail!("{error}; first: oms recovery commit {name}")
                }
                disabled => disabled?,
            }
        }
        Err(error @ Error::NotFound { .. }) => {
            let protections = vault.ended_protections(name).await?;
            protections.last().ok_or(error)?.report()
        }
        Err(error) => return Err(error.into()),
    };
    Ok(ended(name, report))
}

fn ended(name: &str, report: DisableReport) -> Output {
    let mut text = format!("{name} is not protected any more\n");
    if let Some(disk) = &report.disk {
        text.push_str(&format!("its disk is {disk}\n"));
    }
    for left in &report.left {
        text.push_str(&format!("left behind: {left}\n"));
    }
    for kept in &report.kept {
        text.push_str(&format!("keep it until the disk has everything: {kept}\n"));
    }
    if !report.left.is_empty() || !report.kept.is_empty() {
        text.push_str(&format!("once it can be reached, see: oms recovery kept {name}\n"));
    }
    let DisableReport { disk, left, kept } = report;
    let state = "Unprotected";
    let data = json!({"name": name, "state": state, "disk": disk, "left": left, "kept": kept});
    Output::new(text, data)
}

/// What a failover leaves to be done.
const UNCOMMITTED: &str = ", on a copy-on-write disk; the image at that site is as it was until the \
                           failover is committed: oms recovery commit ";

/// A drill whose image cannot be written goes on until somebody ends it, so it is not begun where that
/// is clear from the start.
async fn test_failover(suite: &Suite, name: &str, to: &Path, point: Point) -> Result<Output> {
    if to.symlink_metadata().is_ok() {
        bail!("image is there already, and no test failover was begun. path=`{}`", to.display());
    }
    let item = suite.recovery()?.item(name).await?;
    let drill = item.test_failover(point.choose(&item).await?).await?;
    let written = drill.export_raw(to).await;
    let written = written.with_context(|| {
        let path = to.display();
        format!("image {path} was not written; the test failover goes on, end it: {CLEANUP}{name}")
    })?;
    let line = format!("{} written to {}", bytes(written), to.display());
    told(&item, line).await
}

async fn points(item: &ProtectedItem) -> Result<Output> {
    let points = item.recovery_points().await;
    let mut text = String::new();
    for RecoveryPoint { id, time, consistency, .. } in &points {
        text.push_str(&format!("{time}  {consistency:?}  {id}\n"));
    }
    if points.is_empty() {
        text.push_str("no recovery points, or their site cannot be opened: see `status`\n");
    }
    Ok(Output::new(text, points_json(&points)))
}

fn points_json(points: &[RecoveryPoint]) -> serde_json::Value {
    let rows = points.iter().map(|RecoveryPoint { id, time, consistency, .. }| {
        json!({"time": time, "id": id, "consistency": format!("{consistency:?}")})
    });
    rows.collect()
}

/// How a test failover is ended.
const CLEANUP: &str = "oms recovery cleanup ";

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
    let mut json = as_json(&status);
    json["recovery_points"] = points_json(&points);
    Ok(Output::new(text, json))
}

fn describe(status: &ItemStatus) -> String {
    let rpo = status.health.rpo.map_or("unknown".to_owned(), |rpo| format!("{} s", rpo.as_secs()));
    let name = &status.item.machine.name;
    let mut text = format!(
        "{name}: {:?}, active at the {:?} site, health {:?}, RPO {rpo}\n",
        status.item.state, status.active_location, status.health.level,
    );
    if status.item.test == TestFailoverState::Running {
        text.push_str(&format!("a test failover is running; end it: {CLEANUP}{name}\n"));
    }
    if let Some(failure) = &status.item.failure {
        text.push_str(&format!("the last operation failed: {failure}\n"));
    }
    for problem in &status.problems {
        text.push_str(&format!("not replicated now: {problem}\n"));
    }
    let operations = status.allowed_operations.iter();
    let mut verbs: Vec<&str> =
        operations.filter_map(|operation| verb(operation, status.item.state)).collect();
    if is_copying(status.item.state) {
        text.push_str("the copy to the replica is not complete; go on with it by `replicate`\n");
        verbs.insert(0, "replicate");
    }
    text.push_str(&format!("now possible: {}\n", verbs.join(", ")));
    text
}

/// Whether a copy is under way, or was when a process ended: nothing goes on with it by itself.
const fn is_copying(state: ProtectionState) -> bool {
    use ProtectionState::{InitialReplication, Reprotecting, Resyncing};
    matches!(state, InitialReplication | Resyncing | Reprotecting)
}

/// The command for an operation of the management API; none if there is none.
fn verb(operation: &str, state: ProtectionState) -> Option<&'static str> {
    Some(match operation {
        "PlannedFailover" if state == ProtectionState::ReverseProtected => "failback",
        "PlannedFailover" => "failover",
        "UnplannedFailover" => "failover --unplanned",
        "Commit" => "commit",
        "ChangePit" => "change-point",
        "ReverseReplicate" => "reprotect",
        "RepairReplication" => "repair",
        "DisableProtection" => "disable",
        "TestFailover" => "test-failover",
        "TestFailoverCleanup" => "cleanup",
        _ => return None,
    })
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
        "problems": status.problems,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;
    use crate::command::Command;

    /// Every operation has a verb, which `status` offers, and every verb is a command.
    #[test]
    fn what_is_offered_can_be_typed() {
        for state in ProtectionState::ALL {
            if is_copying(state) {
                assert!(matches!(command(&["recovery", "replicate", "m"]), Command::Recovery(_)));
            }
            for test in TestFailoverState::ALL {
                for operation in state.allowed_operations(test) {
                    let verb = verb(operation, state).expect(operation);
                    let mut line: Vec<&str> =
                        ["recovery"].into_iter().chain(verb.split(' ')).collect();
                    line.push("web1");
                    match verb {
                        "test-failover" => line.extend(["--to", "x.img"]),
                        "change-point" => line.extend(["--point", "latest"]),
                        _ => {}
                    }
                    assert!(matches!(command(&line), Command::Recovery(_)), "{line:?}");
                }
            }
        }
    }
}
