//! Every flipped bit is found and named.

use crate::common::*;
use oms_backup::Error;
use oms_backup::vault::Vault;
use oms_core::{ErrorKind, Secret};
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Fixture {
    folder: tempfile::TempDir,
    source: PathBuf,
    vault: PathBuf,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, vault) = (folder.path().join("source"), folder.path().join("vault"));
    write(&source.join("a"), &text(1, 100_000));
    write(&source.join("b/c"), &random(2, 200_000));
    backup(&create(local(&vault)), &source);
    Fixture { folder, source, vault }
}

/// Every file in a folder of the vault.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("a file");
    bytes[at] ^= 4;
    std::fs::write(path, bytes).expect("written");
}

/// Places that lie in each part of a file.
fn places(path: &Path) -> Vec<usize> {
    let length = std::fs::metadata(path).expect("a file").len() as usize;
    vec![0, 15, 16, length / 3, length / 2, length - 40, length - 5, length - 1]
}

fn name(vault: &Path, path: &Path) -> String {
    path.strip_prefix(vault).expect("inside").display().to_string()
}

#[test]
fn a_flipped_bit_in_a_pack_index_or_snapshot_is_found_and_named() {
    let Fixture { folder: _folder, source: _, vault } = fixture();
    for part in ["data", "index", "snapshots"] {
        for path in files(&vault.join(part)) {
            for at in places(&path) {
                flip(&path, at);
                let report = verify(&open(local(&vault)), true);
                let named = name(&vault, &path);
                let found = report.findings.listed.iter().any(|finding| finding.path == named);
                assert!(found, "{named} at {at}: {:?}", report.findings.listed);
                flip(&path, at);
            }
        }
    }
    assert!(verify(&open(local(&vault)), true).is_clean());
}

#[test]
fn a_flipped_bit_in_the_key_or_configuration_is_named_when_the_vault_opens() {
    let Fixture { folder: _folder, source: _, vault } = fixture();
    for path in [files(&vault.join("keys")), vec![vault.join("config")]].concat() {
        for at in places(&path) {
            flip(&path, at);
            let error = Vault::new(local(&vault)).open(&passphrase()).expect_err("damaged");
            let Error::Corrupt { path: named, .. } = &error else { panic!("{error:?}") };
            assert_eq!(*named, name(&vault, &path));
            flip(&path, at);
        }
    }
}

#[test]
fn a_second_damaged_key_file_is_found_by_verification() {
    let Fixture { folder: _folder, source: _, vault } = fixture();
    let other = vault.join("keys").join("0".repeat(64));
    std::fs::copy(&files(&vault.join("keys"))[0], &other).expect("copied");
    let report = verify(&open(local(&vault)), false);
    assert_eq!(report.findings.listed[0].path, name(&vault, &other));
}

#[test]
fn a_wrong_passphrase_is_told_from_damage() {
    let Fixture { folder: _folder, source: _, vault } = fixture();
    let error = Vault::new(local(&vault)).open(&Secret::from("wrong")).expect_err("wrong");
    assert!(matches!(error, Error::WrongPassphrase { keys: 1 }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let empty = Vault::new(local(&vault)).open(&Secret::from("")).expect_err("empty");
    assert!(matches!(empty, Error::EmptyPassphrase));
}

#[test]
fn truncated_and_missing_packs_are_found_without_reading_data() {
    let Fixture { folder: _folder, source: _, vault } = fixture();
    for path in files(&vault.join("data")) {
        let bytes = std::fs::read(&path).expect("a pack");
        for end in [0, 3, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..end]).expect("cut");
            let report = verify(&open(local(&vault)), false);
            assert!(report.findings.listed.iter().any(|f| f.path == name(&vault, &path)));
        }
        std::fs::remove_file(&path).expect("removed");
        let report = verify(&open(local(&vault)), false);
        let finding = report.findings.listed.iter().find(|f| f.path == name(&vault, &path));
        assert!(finding.expect("found").reason.contains("missing"));
        std::fs::write(&path, &bytes).expect("back");
    }
}

#[test]
fn a_missing_index_names_the_files_that_are_lost() {
    let Fixture { folder: _folder, source: _, vault } = fixture();
    for path in files(&vault.join("index")) {
        std::fs::remove_file(path).expect("removed");
    }
    let report = verify(&open(local(&vault)), false);
    assert!(!report.is_clean());
    assert_eq!(report.orphan_packs, 2);
}

#[test]
fn a_restore_from_a_damaged_pack_restores_the_rest_and_names_the_file() {
    let Fixture { folder, source, vault } = fixture();
    // The data pack is the larger one; the damage is in the blob of the larger file.
    let packs = files(&vault.join("data"));
    let largest = packs.iter().max_by_key(|path| path.metadata().expect("it").len());
    flip(largest.expect("a pack"), 150_000);
    let target = folder.path().join("target");
    let report = restore(&open(local(&vault)), "latest", &source, &target);
    assert_eq!(report.failures.total, 1);
    assert_eq!(report.failures.listed[0].path, Path::new("b/c"));
    assert!(!target.join("b/c").exists(), "no half file under its name");
    assert_eq!(std::fs::read(target.join("a")).expect("it"), text(1, 100_000));
    let left: Vec<_> = std::fs::read_dir(target.join("b")).expect("it").collect();
    assert!(left.is_empty(), "nothing half-written is left: {left:?}");
}

#[test]
fn places_that_are_no_vault_or_are_one_already_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = local(folder.path());
    let error = Vault::new(Arc::clone(&disk)).open(&passphrase()).expect_err("empty");
    assert!(matches!(error, Error::VaultNotFound));
    create(Arc::clone(&disk));
    let error = Vault::new(disk).create(&passphrase()).expect_err("there is one");
    assert!(matches!(error, Error::VaultExists));
    let Fixture { folder: _folder, source: _, vault } = fixture();
    std::fs::remove_file(vault.join("config")).expect("removed");
    let error = Vault::new(local(&vault)).create(&passphrase()).expect_err("has data");
    assert!(error.to_string().contains("has data"), "{error}");
}
