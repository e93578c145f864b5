//! Power failures and full disks, at every write.

use crate::common::*;
use oms_backup::operation::Control;
use oms_backup::vault::{Open, Vault, WriteSettings};
use oms_backup::{Error, operation::BackupOptions};
use oms_core::disk::{Disk, DiskError, DiskFile, DiskLock, OpenMode};
use oms_core::entropy::SeededEntropy;
use oms_core::testkit::disk::SimDisk;
use oms_core::testkit::seeds::Seeds;
use oms_core::{EntropyExt as _, ErrorKind};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A disk that loses power after a number of changing operations: from then on nothing works.
#[derive(Clone, Debug)]
struct Fragile {
    disk: SimDisk,
    left: Arc<AtomicI64>,
}

impl Fragile {
    fn step(&self, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        let source = io::Error::other("no power");
        Err(DiskError { operation, path: path.to_owned(), source })
    }
}

impl Disk for Fragile {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn DiskFile>, DiskError> {
        if mode != OpenMode::Read {
            self.step("open", path)?;
        }
        let (file, fragile) = (self.disk.open(path, mode)?, self.clone());
        Ok(Box::new(FragileFile { file, fragile }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.step("rename", from)?;
        self.disk.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.step("rename", from)?;
        self.disk.rename_new(from, to)
    }

    fn lock(&self, path: &Path) -> Result<DiskLock, DiskError> {
        self.step("lock", path)?;
        self.disk.lock(path)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.step("remove", path)?;
        self.disk.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.step("create folder", path)?;
        self.disk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        self.disk.list(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.step("sync folder", path)?;
        self.disk.sync_dir(path)
    }
}

#[derive(Debug)]
struct FragileFile {
    file: Box<dyn DiskFile>,
    fragile: Fragile,
}

impl DiskFile for FragileFile {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        self.file.read_at(offset, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let stepped = self.fragile.step("write", Path::new(""));
        if stepped.is_err() {
            // The write that power fails in may have reached the device in part.
            let _ = self.file.write_at(offset, bytes);
        }
        stepped?;
        self.file.write_at(offset, bytes)
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.fragile.step("set length", Path::new(""))?;
        self.file.set_len(len)
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.fragile.step("sync", Path::new(""))?;
        self.file.sync()
    }
}

fn small_options(source: &Path) -> BackupOptions {
    let write = WriteSettings { workers: 1, pack_bytes: 1 << 20, ..WriteSettings::default() };
    BackupOptions { write, ..options(source) }
}

fn run(vault: &Vault<Open>, source: &Path) -> Result<(), Error> {
    vault.plan_backup(&small_options(source))?.run(&Control::default())?;
    Ok(())
}

/// The auditor: every recovery point listed verifies to the last byte and restores exactly what
/// was backed up, and every point acknowledged before is listed.
fn audit(disk: &SimDisk, acknowledged: usize, states: &[(&Path, usize)], context: &str) {
    let vault = Vault::new(Arc::new(disk.clone())).open(&passphrase());
    let vault = vault.unwrap_or_else(|error| panic!("{context}: {error}"));
    let report = verify(&vault, true);
    assert!(report.is_clean(), "{context}: {:?}", report.findings);
    let points = vault.points().unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(points.len() >= acknowledged, "{context}: an acknowledged point is lost");
    for (point, (source, files)) in points.iter().zip(states) {
        let summary = point.snapshot.summary.expect("a summary");
        assert_eq!(summary.total_files_processed, *files as u64, "{context}");
        let target = tempfile::tempdir().expect("a folder");
        let target = target.path().join("target");
        let original = Path::new(&point.snapshot.paths[0]);
        let restored = restore(&vault, &point.id.to_string(), original, &target);
        assert!(restored.failures.is_empty(), "{context}: {:?}", restored.failures);
        assert_same(&describe(source), &describe(&target));
    }
}

#[test]
fn power_may_fail_at_any_write_of_a_backup() {
    let folder = tempfile::tempdir().expect("a folder");
    // Two states of one source; the second is backed up when power fails.
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    write(&first.join("a"), &random(1, 100_000));
    write(&first.join("b/c"), &text(2, 10_000));
    write(&second.join("a"), &random(1, 100_000));
    write(&second.join("b/c"), &text(3, 20_000));
    write(&second.join("d"), &random(4, 1_300_000));
    let states = [(first.as_path(), 2), (second.as_path(), 3)];
    let mut power = 0;
    loop {
        let seed = 1_000 + power as u64;
        let disk = SimDisk::default();
        let before = Vault::new(Arc::new(disk.clone())).kdf(KDF).create(&passphrase());
        run(&before.expect("a vault"), &first).expect("the first point");
        let fragile = Fragile { disk: disk.clone(), left: Arc::new(AtomicI64::new(power)) };
        let result = run(&open(Arc::new(fragile)), &second);
        let is_acknowledged = result.is_ok();
        disk.crash(&SeededEntropy::new(seed));
        let context = format!("power failed after {power} writes, seed {seed}");
        audit(&disk, 1 + usize::from(is_acknowledged), &states, &context);

        // Whatever was left does not keep the next backup from working.
        let again = open(Arc::new(disk.clone()));
        run(&again, &second).unwrap_or_else(|error| panic!("{context}: {error}"));
        let report = verify(&again, true);
        assert!(report.is_clean(), "{context}: {:?}", report.findings);
        if is_acknowledged {
            assert!(power > 20, "there are more writes than {power} in a backup");
            return;
        }
        power += 1;
    }
}

/// A backup goes by what a killed one left, down to the making of the vault, and then power fails.
#[test]
fn what_a_killed_backup_wrote_is_durable_before_it_is_relied_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    write(&source.join("a"), &random(1, 60_000));
    write(&source.join("b/c"), &text(2, 10_000));
    let attempt = |disk: Arc<dyn Disk>| {
        let vault = match Vault::new(Arc::clone(&disk)).open(&passphrase()) {
            Err(Error::VaultNotFound) => Vault::new(disk).kdf(KDF).create(&passphrase()),
            opened => opened,
        };
        run(&vault?, &source)
    };
    for power in 0.. {
        let mut is_done = false;
        for seed in 0..4 {
            let disk = SimDisk::default();
            let left = Arc::new(AtomicI64::new(power));
            is_done = attempt(Arc::new(Fragile { disk: disk.clone(), left })).is_ok();
            disk.kill();
            let context = format!("killed after {power} writes, seed {seed}");
            attempt(Arc::new(disk.clone())).unwrap_or_else(|error| panic!("{context}: {error}"));
            disk.crash(&SeededEntropy::new(seed));
            let listed = open(Arc::new(disk.clone())).points().expect("a list").len();
            audit(&disk, 1, &vec![(source.as_path(), 2); listed], &context);
        }
        if is_done {
            assert!(power > 20, "there are more writes than {power}");
            break;
        }
    }
}

#[test]
fn power_may_fail_at_any_write_of_a_creation() {
    let mut power = 0;
    loop {
        let disk = SimDisk::default();
        let fragile = Fragile { disk: disk.clone(), left: Arc::new(AtomicI64::new(power)) };
        let created = Vault::new(Arc::new(fragile)).kdf(KDF).create(&passphrase());
        let is_acknowledged = created.is_ok();
        disk.crash(&SeededEntropy::new(power as u64));
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        match Vault::new(Arc::clone(&shared)).open(&passphrase()) {
            Ok(_) => {}
            Err(error) => {
                assert!(!is_acknowledged, "power {power}: an acknowledged vault is lost: {error}");
                let again = Vault::new(Arc::clone(&shared)).kdf(KDF).create(&passphrase());
                again.unwrap_or_else(|error| panic!("power {power}: {error}"));
                open(shared);
            }
        }
        if is_acknowledged {
            return;
        }
        power += 1;
    }
}

#[test]
fn power_may_fail_again_and_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    write(&source.join("a"), &random(7, 200_000));
    write(&source.join("b/c"), &text(8, 40_000));
    Seeds::of("crash::power_may_fail_again_and_again", 0..6).run(|seed| {
        let entropy = SeededEntropy::new(seed);
        let disk = SimDisk::default();
        let vault = Vault::new(Arc::new(disk.clone())).kdf(KDF).create(&passphrase());
        drop(vault.expect("a vault"));
        let (mut acknowledged, mut states) = (0, Vec::new());
        for _ in 0..8 {
            let left = Arc::new(AtomicI64::new(entropy.below(45) as i64));
            let fragile = Fragile { disk: disk.clone(), left };
            if let Ok(vault) = Vault::new(Arc::new(fragile)).open(&passphrase()) {
                acknowledged += usize::from(run(&vault, &source).is_ok());
            }
            disk.crash(&entropy);
            let listed = open(Arc::new(disk.clone())).points().expect("a list").len();
            states.resize(listed, (source.as_path(), 2));
            audit(&disk, acknowledged, &states, &format!("seed {seed}"));
            acknowledged = listed;
        }
    });
}

#[test]
fn a_full_disk_is_named_and_harms_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    write(&first.join("a"), &random(1, 100_000));
    write(&second.join("a"), &random(2, 5_000_000));
    let disk = SimDisk::default();
    let vault = Vault::new(Arc::new(disk.clone())).kdf(KDF).create(&passphrase());
    let vault = vault.expect("a vault");
    run(&vault, &first).expect("it fits");
    disk.set_capacity(Some(1_000_000));
    let error = run(&vault, &second).expect_err("it does not fit");
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded { retry_after: None });
    assert!(error.to_string().contains("no space left in the vault"), "{error}");
    audit(&disk, 1, &[(first.as_path(), 1)], "full");
    disk.set_capacity(None);
    run(&vault, &second).expect("there is room again");
}
