//! `oms backup`: vaults in restic's format that their operator owns.

use super::{Interrupted, Output, absolute};
use crate::data::read_secret;
use crate::progress::{Done, Line};
use crate::serve::Signals;
use crate::tour::account::{bytes, counted};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use oms_backup::operation::{
    BackupOptions, Control, CopyOption, RestoreOptions, VerifyOptions, exclude_file_patterns,
};
use oms_backup::vault::{Open, Vault};
use oms_core::{Clock, LocalDisk, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
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
    /// Backs files and folders up. Ends with 0 if everything is in the recovery point, with 3 if there is
    /// one and something is missing from it, with 1 if there is none.
    Run {
        #[command(flatten)]
        vault: VaultArgs,
        #[command(flatten)]
        what: What,
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
        /// Replace what is there: go on with a restore that was interrupted. Files whose content is right,
        /// which is verified, stay.
        #[arg(long)]
        overwrite: bool,
    },
}

/// What is backed up.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct What {
    /// What to back up.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Leave out what fits a pattern, as for restic: `*.tmp`, `/var/cache`, `**/target`; `!keep.tmp` takes
    /// one back.
    #[arg(short, long = "exclude", value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave out what fits the patterns of a file, one a line.
    #[arg(long = "exclude-file", value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out the content of folders with a CACHEDIR.TAG.
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out what lies on other file systems.
    #[arg(short = 'x', long)]
    one_file_system: bool,
    /// Back up the vault itself, too, where it lies in what is backed up.
    #[arg(long)]
    include_vault: bool,
}

impl What {
    fn options(&self) -> Result<BackupOptions> {
        let mut excludes = self.exclude.clone();
        for file in &self.exclude_file {
            let named = || format!("exclude file {}", file.display());
            let bytes = std::fs::read(file).with_context(named)?;
            let patterns = exclude_file_patterns(&bytes, |name| std::env::var(name).ok());
            excludes.extend(patterns.with_context(named)?);
        }
        Ok(BackupOptions {
            paths: self.paths.clone(),
            excludes,
            exclude_caches: self.exclude_caches,
            one_file_system: self.one_file_system,
            include_own_vault: self.include_vault,
            ..BackupOptions::default()
        })
    }
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
            Self::Run { what, .. } => absolute(what.paths.iter_mut().chain(&mut what.exclude_file)),
            Self::Restore { to, .. } => absolute([to]),
            Self::Vault(_) | Self::Points { .. } | Self::Check { .. } | Self::Prune { .. } => {
                Ok(())
            }
        }
    }

    /// Vaults block on their disk, so the work has a thread of its own. A signal that asks the process to
    /// end lets it put its lock away and what is unfinished.
    pub(super) async fn run(&self) -> Result<Output> {
        let text = serde_json::to_value(self)?;
        let command: Self = serde_json::from_value(text)?;
        let control = Control::default();
        let watched = control.clone();
        let mut work = tokio::task::spawn_blocking(move || command.run_blocking(&watched));
        let mut signals = Signals::listen()?;
        let signal = tokio::select! {
            output = &mut work => return output?,
            signal = signals.number() => signal,
        };
        control.cancel();
        tokio::select! {
            output = &mut work => match output? {
                Err(error) if is_cancelled(&error) => {
                    Err(Interrupted { signal, what: self.interrupted() }.into())
                }
                // It was done already.
                output => output,
            },
            () = signals.next() => {
                // The work's thread may hang in a call; nothing that was acknowledged hangs on it.
                crate::tell("ended at once by a second signal; the vault's lock goes stale by itself");
                std::process::exit(Interrupted::status(signal).into());
            }
        }
    }

    /// What a signal left of it.
    const fn interrupted(&self) -> &'static str {
        match self {
            Self::Run { .. } => "no recovery point was made, and the vault is not locked",
            Self::Restore { .. } => {
                "the files that were restored are whole; `--overwrite` goes on with the others"
            }
            _ => "the vault is not locked",
        }
    }

    fn run_blocking(&self, control: &Control) -> Result<Output> {
        match self {
            Self::Vault(VaultCommand::Create { vault }) => create(vault),
            Self::Run { vault, what } => back_up(&vault.open()?, &what.options()?, control),
            Self::Points { vault } => points(&vault.open()?),
            Self::Check { vault, read_data } => check(&vault.open()?, *read_data, control),
            Self::Prune { .. } => bail!("prune is not supported in this version"),
            Self::Restore { vault, point, to, overwrite } => {
                restore(&vault.open()?, point, to, *overwrite, control)
            }
        }
    }
}

fn is_cancelled(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(oms_backup::Error::Cancelled))
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

fn back_up(vault: &Vault<Open>, options: &BackupOptions, control: &Control) -> Result<Output> {
    let begin = SystemClock.monotonic();
    let line = watched("backup", control, None);
    let report = vault.plan_backup(options)?.run(control)?;
    drop(line);
    let seconds = (SystemClock.monotonic() - begin).as_secs_f64();
    let summary = &report.summary;
    let mut text = format!(
        "recovery point {}\n{}, {}; {} new in the vault; {seconds:.2} s\n",
        report.point,
        counted(summary.total_files_processed, "file"),
        bytes(summary.total_bytes_processed),
        bytes(summary.data_added_packed),
    );
    for vault in &report.own_vaults {
        text.push_str(&format!("left out, it is the vault itself: {}\n", vault.display()));
    }
    if report.excluded > 0 {
        text.push_str(&format!("{} files and folders excluded\n", report.excluded));
    }
    for warning in &report.warnings.listed {
        text.push_str(&format!("warning: {warning}\n"));
    }
    if report.is_partial {
        text.push_str("the recovery point is not complete\n");
    }
    let json = json!({
        "point": report.point.to_string(),
        "is_partial": report.is_partial,
        "excluded": report.excluded,
        "own_vaults": report.own_vaults,
        "parent": report.parent.map(|parent| parent.to_string()),
        "files": summary.total_files_processed,
        "bytes": summary.total_bytes_processed,
        "bytes_added": summary.data_added_packed,
        "warnings": report.warnings.total,
        "seconds": seconds,
    });
    let output = Output::new(text, json);
    Ok(if report.is_partial { output.partial() } else { output })
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

fn check(vault: &Vault<Open>, read_data: bool, control: &Control) -> Result<Output> {
    let options = VerifyOptions { read_data, ..Default::default() };
    let line = watched("check", control, None);
    let report = vault.plan_verify(&options)?.run(control)?;
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

fn restore(
    vault: &Vault<Open>,
    point: &str,
    to: &Path,
    overwrite: bool,
    control: &Control,
) -> Result<Output> {
    let copy = if overwrite { CopyOption::Overwrite } else { CopyOption::FailOnConflict };
    let options = RestoreOptions { point: point.to_owned(), copy, ..RestoreOptions::latest(to) };
    let begin = SystemClock.monotonic();
    let plan = match vault.plan_restore(&options) {
        Err(error @ oms_backup::Error::Conflict { .. }) => {
            let cure = "nothing was restored; --overwrite replaces what is there, and so goes on with a \
                        restore that was interrupted";
            return Err(anyhow::Error::new(error).context(cure));
        }
        plan => plan?,
    };
    let line = watched("restore", control, Some(plan.bytes()));
    let report = plan.run(control)?;
    drop(line);
    let seconds = (SystemClock.monotonic() - begin).as_secs_f64();
    let mut text = format!(
        "{}, {} restored to {} in {seconds:.2} s\n",
        counted(report.files, "file"),
        bytes(report.bytes),
        to.display()
    );
    if report.kept > 0 {
        text.push_str(&format!("{} files were there already and are right\n", report.kept));
    }
    if report.leftovers > 0 {
        let count = report.leftovers;
        text.push_str(&format!("{count} unfinished files of an interrupted restore removed\n"));
    }
    for warning in &report.warnings.listed {
        text.push_str(&format!("warning: {warning}\n"));
    }
    for failure in &report.failures.listed {
        text.push_str(&format!("not restored: {failure}\n"));
    }
    let json = json!({
        "point": report.point.id.to_string(), "files": report.files, "bytes": report.bytes,
        "kept": report.kept, "leftovers": report.leftovers,
        "warnings": report.warnings.total, "failures": report.failures.total, "seconds": seconds,
    });
    let output = Output::new(text, json);
    Ok(if report.failures.total > 0 { output.partial() } else { output })
}
