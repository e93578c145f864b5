//! `oms tour`: every service at work on this machine, checked as it goes.
//!
//! Each part does one service's real job and verifies the outcome; the last asks the log
//! repository what the services recorded about it. The tour's records stay in the data directory;
//! its working files are below `DIR/tour/` and are removed at its end.

pub(crate) mod account;
mod automation;
mod backup;
mod dsc;
mod image;
mod logs;
mod progress;
mod records;
mod recovery;
mod tree;

use crate::admin::Admin;
use crate::config::Config;
use crate::data::{DataDir, OpenError};
use crate::suite::{Suite, Wanted};
use account::{Part, Teller, Verdict, table};
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use oms_core::{Clock, SystemClock, SystemEntropy};
use progress::Progress;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// How the tour is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leave the working files below DIR/tour/ for a look.
    #[arg(long)]
    keep: bool,
}

/// What every part works with.
pub(crate) struct Tour {
    suite: Arc<Suite>,
    admin: Admin,
    /// This run's own folder.
    folder: PathBuf,
    /// This run's number, from 1.
    run: u64,
    /// When it began.
    begin: Timestamp,
}

impl Tour {
    /// A name that no other run uses.
    fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.run)
    }
}

/// Runs the tour. The exit status is 0 only if every part was done and verified.
pub(crate) async fn run(
    root: &Path,
    options: &Options,
    config: &Config,
    is_json: bool,
) -> Result<ExitCode> {
    let begin = SystemClock.monotonic();
    let data = match DataDir::open(root) {
        Ok(data) => data,
        Err(OpenError::InUse { path, holder }) => bail!(
            "data directory is in use; the tour needs one of its own: stop the process or take \
             --data with another directory. path=`{}`, process=`{holder}`",
            path.display()
        ),
        Err(error) => return Err(error.into()),
    };
    let (mut progress, note) = Progress::begin(&data.folder("tour")?)?;
    let admin = Admin::load_or_create(data.root(), &SystemEntropy)?;
    let suite = Arc::new(Suite::open(data, &admin, Wanted::new(&[], config)).await?);
    if let Err(error) = recovery::end_protections(&suite, progress.run()).await {
        // It keeps nothing of this run from being shown, and is tried again at its end.
        tracing::warn!(error = format!("{error:#}"), "a disk of an earlier run is still protected");
    }
    if !is_json {
        crate::say!("The Operations Management Suite on {}", suite.computer());
        crate::say!("Data in {}. This is run {}.", root.display(), progress.run());
        if let Some(note) = &note {
            crate::say!("{note}");
        }
    }
    let folder = progress.folder().to_owned();
    let run = progress.run();
    let tour = Tour { suite: Arc::clone(&suite), admin, folder, run, begin: SystemClock.now() };
    let parts = take(&tour, &mut progress, is_json).await;
    let ended = recovery::end_protections(&suite, run).await.context("disks of the tour");
    let closed = suite.close().await.and(ended);
    let is_verified = parts.iter().all(|part| part.verdict != Verdict::Failed) && closed.is_ok();
    progress.end(options.keep)?;
    let seconds = (SystemClock.monotonic() - begin).as_secs_f64();
    if is_json {
        let account = serde_json::json!({
            "computer": suite.computer(), "run": tour.run, "note": note, "parts": parts,
            "seconds": seconds, "verified": is_verified,
        });
        crate::say!("{account:#}");
    } else {
        crate::say!("\n{}", table(&parts));
        let partial = parts.iter().filter(|part| part.verdict == Verdict::Partial).count();
        let outcome = match (is_verified, partial) {
            (false, _) => "The tour FAILED".to_owned(),
            (true, 0) => "Every part was verified".to_owned(),
            (true, _) => format!(
                "What was shown was verified; of {} parts, {partial} lack what this machine does not have,",
                parts.len()
            ),
        };
        crate::say!("{outcome} in {seconds:.1} s.");
        if !options.keep {
            crate::say!(
                "Vault, disks and scripts are removed; `oms tour --keep` leaves them for a look."
            );
        }
        crate::say!("Ask on: oms logs query --data {} 'Perf | take 5'", root.display());
    }
    closed?;
    Ok(if is_verified { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Takes the parts in order. A part that fails does not keep the others from being shown.
async fn take(tour: &Tour, progress: &mut Progress, is_json: bool) -> Vec<Part> {
    let mut parts = Vec::new();
    macro_rules! part {
        ($service:literal, $title:literal, $module:ident) => {
            let mut teller = Teller::new($title, is_json);
            let done = match progress.enter($service) {
                Ok(()) => $module::show(tour, &mut teller).await,
                Err(error) => Err(error),
            };
            parts.push(teller.end($service, done));
        };
    }
    part!("Log Analytics", "Log Analytics: this machine's own counters and logs", logs);
    part!("Automation", "Automation: runbooks as isolated processes", automation);
    part!("DSC", "Desired State Configuration: a node pulls, applies, reports", dsc);
    part!("Backup", "Backup: a folder into a vault and back", backup);
    part!("Site Recovery", "Site Recovery: a disk replicated, failed over, failed back", recovery);
    part!("Records", "The loop: what the services recorded about all this", records);
    parts
}
