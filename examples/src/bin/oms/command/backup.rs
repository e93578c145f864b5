//! `oms backup`: vaults in restic's format that their operator owns.

use super::{Output, absolute};
use crate::data::read_secret;
use crate::progress::{Done, Line};
use crate::tour::account::bytes;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use oms_backup::operation::{BackupOptions, Control, RestoreOptions, VerifyOptions};
use oms_backup::vault::{Open, Vault};
use oms_core::{Clock, LocalDisk, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Which vault, and how it opens.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct VaultArgs {
    /// A folder; it is itself a restic repository.
    #[arg(long)]
    vault: PathBuf,
    /// A file that holds the passphrase.
    #[arg(long)]
    passphrase_file: PathBuf,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Backup {
    /// Makes vaults.
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Backs files and folders up.
    Run {
        #[command(flatten)]
        vault: VaultArgs,
        /// What to back up.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Lists recovery points.
    Points {
        #[command(flatten)]
        vault: VaultArgs,
    },
    /// Looks for damage.
    Check {
        #[command(flatten)]
        vault: VaultArgs,
        /// Read, decrypt and hash every stored byte.
        #[arg(long)]
        read_data: bool,
    },
    /// Removes what no recovery point needs: not supported yet.
    Prune {
        #[command(flatten)]
        vault: VaultArgs,
    },
    /// Restores a recovery point.
    Restore {
        #[command(flatten)]
        vault: VaultArgs,
        /// `latest`, an id, or its first digits.
        #[arg(long, default_value = "latest")]
        point: String,
        /// The folder to restore to.
        #[arg(long)]
        to: PathBuf,
    },
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum VaultCommand {
    /// Makes a vault.
    Create {
        #[command(flatten)]
        vault: VaultArgs,
    },
}

impl Backup {
    pub(super) fn absolute(&mut self) -> Result<()> {
        // The vault stays as it was given: it may be an address.
        match self {
            Self::Run { paths, .. } => absolute(paths),
            Self::Restore { to, .. } => absolute([to]),
            Self::Vault(_) | Self::Points { .. } | Self::Check { .. } | Self::Prune { .. } => {
                Ok(())
            }
        }
    }

    /// Vaults block on their disk, so the work has a thread of its own.
    pub(super) async fn run(&self) -> Result<Output> {
        let text = serde_json::to_value(self)?;
        let command: Self = serde_json::from_value(text)?;
        tokio::task::spawn_blocking(move || command.run_blocking()).await?
    }

    fn run_blocking(&self) -> Result<Output> {
        match self {
            Self::Vault(VaultCommand::Create { vault }) => create(vault),
            Self::Run { vault, paths } => back_up(&vault.open()?, paths),
            Self::Points { vault } => points(&vault.open()?),
            Self::Check { vault, read_data } => check(&vault.open()?, *read_data),
            Self::Prune { .. } => bail!("prune is not supported in this version"),
            Self::Restore { vault, point, to } => restore(&vault.open()?, point, to),
        }
    }
}

impl VaultArgs {
    fn locked(&self, must_exist: bool) -> Result<Vault<oms_backup::vault::Locked>> {
        let text = self.vault.to_string_lossy();
        if text.contains("://") || text.starts_with("rest:") {
            bail!("only folders are vaults in this version. vault=`{text}`");
        }
        let path = std::path::absolute(&self.vault)?;
        if must_exist && !path.is_dir() {
            bail!("no such vault. path=`{}`", path.display());
        }
        let disk = LocalDisk::new(&path)?;
        Ok(Vault::new(Arc::new(disk)))
    }

    fn open(&self) -> Result<Vault<Open>> {
        let passphrase = read_secret(&self.passphrase_file)?;
        let named = || format!("vault {}", self.vault.display());
        self.locked(true)?.open(&passphrase).with_context(named)
    }
}

/// Shows how far a run is, until the line is dropped.
fn watched(label: &'static str, control: &Control, total: Option<u64>) -> Line {
    let control = control.clone();
    Line::start(label, move || Done { bytes: control.progress().bytes, total })
}

fn create(args: &VaultArgs) -> Result<Output> {
    let passphrase = read_secret(&args.passphrase_file)?;
    let named = || format!("vault {}", args.vault.display());
    let vault = args.locked(false)?.create(&passphrase).with_context(named)?;
    let (id, path) = (vault.id().to_string(), args.vault.display().to_string());
    let text = format!(
        "vault made in {path}\nid {id}\nrestic opens it too: restic -r {path} --password-file {} \
         snapshots",
        args.passphrase_file.display()
    );
    Ok(Output::new(text, json!({"id": id, "vault": path})))
}

fn back_up(vault: &Vault<Open>, paths: &[PathBuf]) -> Result<Output> {
    let options = BackupOptions { paths: paths.to_vec(), ..Default::default() };
    let begin = SystemClock.monotonic();
    let control = Control::default();
    let line = watched("backup", &control, None);
    let report = vault.plan_backup(&options)?.run(&control)?;
    drop(line);
    let seconds = (SystemClock.monotonic() - begin).as_secs_f64();
    let summary = &report.summary;
    let mut text = format!(
        "recovery point {}\n{} files, {}; {} new in the vault; {seconds:.2} s\n",
        report.point,
        summary.total_files_processed,
        bytes(summary.total_bytes_processed),
        bytes(summary.data_added_packed),
    );
    for warning in &report.warnings.listed {
        text.push_str(&format!("warning: {warning}\n"));
    }
    let json = json!({
        "point": report.point.to_string(),
        "parent": report.parent.map(|parent| parent.to_string()),
        "files": summary.total_files_processed,
        "bytes": summary.total_bytes_processed,
        "bytes_added": summary.data_added_packed,
        "warnings": report.warnings.total,
        "seconds": seconds,
    });
    let output = Output::new(text, json);
    Ok(if report.warnings.total > 0 { output.failed() } else { output })
}

fn points(vault: &Vault<Open>) -> Result<Output> {
    let mut text = String::new();
    let mut rows = Vec::new();
    for point in vault.points()? {
        let (id, time) = (point.id.to_string(), point.snapshot.time);
        let paths = point.snapshot.paths.join(", ");
        text.push_str(&format!("{}  {time}  {}  {paths}\n", &id[..8], point.snapshot.hostname));
        rows.push(json!({
            "id": id, "time": time, "computer": point.snapshot.hostname,
            "paths": point.snapshot.paths, "tags": point.snapshot.tags,
        }));
    }
    if rows.is_empty() {
        text.push_str("no recovery point yet\n");
    }
    Ok(Output::new(text, json!(rows)))
}

fn check(vault: &Vault<Open>, read_data: bool) -> Result<Output> {
    let options = VerifyOptions { read_data, ..Default::default() };
    let control = Control::default();
    let line = watched("check", &control, None);
    let report = vault.plan_verify(&options)?.run(&control)?;
    drop(line);
    let mut text = format!(
        "{} recovery points, {} packs, {} read\n",
        report.points,
        report.packs,
        bytes(report.bytes_read)
    );
    for finding in &report.findings.listed {
        text.push_str(&format!("damage: {finding}\n"));
    }
    text.push_str(if report.is_clean() { "no damage found\n" } else { "the vault is damaged\n" });
    let findings: Vec<String> = report.findings.listed.iter().map(ToString::to_string).collect();
    let json = json!({
        "points": report.points, "packs": report.packs, "bytes_read": report.bytes_read,
        "is_clean": report.is_clean(), "findings": findings,
    });
    let output = Output::new(text, json);
    Ok(if report.is_clean() { output } else { output.failed() })
}

fn restore(vault: &Vault<Open>, point: &str, to: &std::path::Path) -> Result<Output> {
    let options = RestoreOptions { point: point.to_owned(), ..RestoreOptions::latest(to) };
    let begin = SystemClock.monotonic();
    let plan = vault.plan_restore(&options)?;
    let control = Control::default();
    let line = watched("restore", &control, Some(plan.bytes()));
    let report = plan.run(&control)?;
    drop(line);
    let seconds = (SystemClock.monotonic() - begin).as_secs_f64();
    let mut text = format!(
        "{} files, {} restored to {} in {seconds:.2} s\n",
        report.files,
        bytes(report.bytes),
        to.display()
    );
    for warning in &report.warnings.listed {
        text.push_str(&format!("warning: {warning}\n"));
    }
    for failure in &report.failures.listed {
        text.push_str(&format!("not restored: {failure}\n"));
    }
    let json = json!({
        "point": report.point.id.to_string(), "files": report.files, "bytes": report.bytes,
        "warnings": report.warnings.total, "failures": report.failures.total, "seconds": seconds,
    });
    let output = Output::new(text, json);
    Ok(if report.failures.total > 0 { output.failed() } else { output })
}
