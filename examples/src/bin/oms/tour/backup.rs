//! The backup part: a folder into a vault, a change, again, and back byte for byte.

use super::account::{Teller, bytes};
use super::{Tour, tree};
use anyhow::{Context, Result, bail, ensure};
use oms_backup::item::{ItemOptions, ProtectionContainer};
use oms_backup::job::{Job, JobEnd, JobOutcome};
use oms_backup::operation::{Control, RestoreOptions, VerifyOptions};
use oms_core::{Clock, Entropy, EntropyExt, LocalDisk, Secret, SystemClock, SystemEntropy};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Folders of this machine worth a backup: the first that exists is copied, and the copy backed
/// up, so that nothing else changes it meanwhile.
const SOURCES: [&str; 4] =
    ["/usr/share/zoneinfo", "/usr/share/perl5", "/usr/share/doc", "/usr/share"];

/// The most that is copied, in bytes.
const SOURCE_BYTES_MAX: u64 = 32 << 20;

/// A file that has no copy in the vault yet, in bytes.
const NEW_FILE_BYTES: usize = 1 << 20;

/// The folder that the parts on backup and recovery work with.
pub(super) fn folder(tour: &Tour) -> PathBuf {
    tour.folder.join("folder")
}

pub(super) async fn show(tour: &Tour, teller: &mut Teller) -> Result<String> {
    let source = SOURCES.iter().map(Path::new).find(|path| path.is_dir());
    let source = source.context("there is no folder to back up")?;
    let folder = folder(tour);
    let copied = tree::copy(source, &folder, SOURCE_BYTES_MAX)?;
    ensure!(copied.files > 0, "nothing could be copied. path=`{}`", source.display());

    let vault_path = tour.folder.join("vault");
    let passphrase = SystemEntropy.uuid().to_string();
    let password_file = tour.folder.join("passphrase");
    std::fs::write(&password_file, &passphrase)?;
    let disk = Arc::new(LocalDisk::new(&vault_path)?);
    let container = ProtectionContainer::builder(disk, Arc::clone(tour.suite.backup()?))
        .name(tour.name("tour"))
        .create(&Secret::from(passphrase.as_str()))
        .await?;
    let options = ItemOptions {
        name: tour.name("folder"),
        paths: vec![folder.clone()],
        one_file_system: false,
    };
    let item = container.protect(options).await?;

    let begin = SystemClock.monotonic();
    let first = outcome(container.wait(container.backup(item).await?).await?)?;
    let seconds = (SystemClock.monotonic() - begin).as_secs_f64();
    ensure!(first.files == copied.files, "{} of {} files backed up", first.files, copied.files);
    teller.say(format!(
        "{} files of {} backed up, {} as {} in the vault, in {seconds:.2} s",
        first.files,
        source.display(),
        bytes(first.bytes),
        bytes(first.transferred_bytes)
    ));

    let mut noise = vec![0; NEW_FILE_BYTES];
    SystemEntropy.fill(&mut noise);
    std::fs::write(folder.join("new file"), &noise)?;
    let second = outcome(container.wait(container.backup(item).await?).await?)?;
    ensure!(
        second.transferred_bytes < 2 * NEW_FILE_BYTES as u64,
        "a small change took {} bytes",
        second.transferred_bytes
    );
    teller.say(format!(
        "with one new file of {}, the second backup added {}",
        bytes(NEW_FILE_BYTES as u64),
        bytes(second.transferred_bytes)
    ));

    let target = tour.folder.join("restored");
    let mut restore = RestoreOptions::latest(&target);
    restore.path = Some(folder.clone());
    let restored = outcome(container.wait(container.restore(restore).await?).await?)?;
    let compared = tree::compare(&folder, &target)?;
    ensure!(compared.files == restored.files, "{} files restored", restored.files);
    teller.say(format!(
        "restored {} files, {}: contents, modes, owners, times and links are equal",
        compared.files,
        bytes(compared.bytes)
    ));
    let points = container.points().await?.len();
    verify(&container, teller, &vault_path, &password_file).await?;
    Ok(format!(
        "{} in {points} recovery points, {} stored, restored equal",
        bytes(compared.bytes),
        bytes(first.transferred_bytes + second.transferred_bytes)
    ))
}

fn outcome(job: Job) -> Result<JobOutcome> {
    match job.end {
        Some(JobEnd::Done(outcome)) => {
            let warnings = outcome.first_warnings.join("; ");
            ensure!(
                outcome.warnings == 0,
                "{} ended with warnings: {warnings}",
                job.operation.name()
            );
            Ok(outcome)
        }
        Some(JobEnd::Failed { code, reason }) => {
            bail!("{} failed: {reason} ({code})", job.operation.name())
        }
        end => bail!("{} did not end as it should: {end:?}", job.operation.name()),
    }
}

async fn verify(
    container: &ProtectionContainer,
    teller: &mut Teller,
    vault_path: &Path,
    password_file: &Path,
) -> Result<()> {
    let vault = container.vault().clone();
    let report = tokio::task::spawn_blocking(move || {
        let options = VerifyOptions { read_data: true, ..VerifyOptions::default() };
        vault.plan_verify(&options)?.run(&Control::default())
    })
    .await??;
    ensure!(report.is_clean(), "the vault is damaged: {:?}", report.findings.listed.first());
    teller.say(format!("every stored byte read and verified, {}", bytes(report.bytes_read)));
    let mut restic = Command::new("restic");
    restic.arg("-r").arg(vault_path).arg("--password-file").arg(password_file);
    restic.args(["--no-cache", "check", "--read-data"]);
    match restic.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "restic does not accept the vault: {said}");
            teller.say("restic check --read-data accepts the vault");
        }
        Err(_absent) => teller.say("restic is not installed, so it was not asked about the vault"),
    }
    Ok(())
}
