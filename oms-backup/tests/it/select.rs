//! What of the given paths is backed up: not what is excluded, not the vault itself, and what is there
//! also when something else is missing.

use crate::common::*;
use oms_backup::Error;
use oms_backup::item::source::SourceWarningKind;
use oms_backup::operation::{BackupOptions, Control};
use oms_backup::vault::{Open, Vault};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn run(vault: &Vault<Open>, options: &BackupOptions) -> oms_backup::operation::BackupReport {
    vault.plan_backup(options).expect("a plan").run(&Control::default()).expect("a point")
}

/// What is below the restored source, folders with a slash at their end.
fn names(vault: &Vault<Open>, point: &str, source: &Path) -> BTreeSet<String> {
    let target = tempfile::tempdir().expect("a folder");
    let report = restore(vault, point, source, target.path());
    assert!(report.failures.is_empty(), "{report:?}");
    let (mut found, mut waiting) = (BTreeSet::new(), vec![target.path().to_owned()]);
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(target.path()).expect("below").display().to_string();
            match path.is_dir() {
                true => {
                    found.insert(format!("{name}/"));
                    waiting.push(path);
                }
                false => {
                    found.insert(name);
                }
            }
        }
    }
    found
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn the_vault_itself_is_left_out_whatever_it_is_called() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    write(&home.join("letter"), b"dear");
    // A folder that only looks like a vault is somebody's.
    for name in ["config", "keys/k", "snapshots/s", "data/d", "index/i"] {
        write(&home.join("lookalike").join(name), b"mine");
    }
    let place = home.join("backups/vault");
    let vault = create(local(&place));
    let mut options = options(&home);
    let first = run(&vault, &options);
    assert_eq!(first.own_vaults, std::slice::from_ref(&place));
    let wanted =
        texts(&["backups/", "letter", "lookalike/", "lookalike/config", "lookalike/keys/k"]);
    let found = names(&vault, &first.point.to_string(), &home);
    assert!(wanted.iter().all(|name| found.contains(name)), "{found:?}");
    assert!(!found.iter().any(|name| name.starts_with("backups/vault")), "{found:?}");
    assert!(!first.is_partial && first.warnings.is_empty(), "it is left out on purpose");
    // So a backup is not of the last one.
    let second = run(&vault, &options);
    assert_eq!((second.summary.files_new, second.summary.data_blobs), (0, 0), "{second:?}");
    // By another name, too, as through a mount: what tells is in it.
    let moved = home.join("elsewhere");
    std::fs::rename(&place, &moved).expect("moved");
    let vault = open(local(&moved));
    assert_eq!(run(&vault, &options).own_vaults, std::slice::from_ref(&moved));
    options.paths = vec![moved.clone()];
    let plan = vault.plan_backup(&options).expect("a plan");
    let error = plan.run(&Control::default()).expect_err("nothing else").to_string();
    assert!(error.contains("is the vault itself") && error.contains("elsewhere"), "{error}");
    options.paths = vec![home.clone()];
    options.include_own_vault = true;
    let point = run(&vault, &options).point.to_string();
    assert!(names(&vault, &point, &home).contains("elsewhere/config"), "it was asked for");
    // Another vault is a folder like any other.
    let other = create(local(&folder.path().join("other")));
    options.include_own_vault = false;
    let report = run(&other, &options);
    assert!(report.own_vaults.is_empty(), "{report:?}");
}

/// What was the vault once, or is a second one, is lost with its disk like any other folder.
#[test]
fn a_copy_of_the_vault_is_backed_up_and_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    write(&home.join("letter"), b"dear");
    let place = home.join("vault");
    let vault = create(local(&place));
    let options = options(&home);
    run(&vault, &options);
    let (moved, kept) = (home.join("vault-moved"), home.join("vault-old"));
    copy(&place, &kept);
    let report = run(&vault, &options);
    assert_eq!(report.own_vaults, std::slice::from_ref(&place));
    assert!(!report.is_partial, "all is there");
    let [warning] = report.warnings.listed.as_slice() else { panic!("{report:?}") };
    assert_eq!((warning.kind, &warning.path), (SourceWarningKind::VaultCopy, &kept));
    let told = "a copy of the vault, backed up: it can be left out by an exclude pattern";
    assert_eq!(warning.to_string(), format!("{}: {told}", kept.display()));
    let target = folder.path().join("target");
    restore(&vault, "latest", &home, &target);
    let copied = open(local(&target.join("vault-old")));
    assert!(verify(&copied, true).is_clean());
    assert_eq!(copied.points().expect("a list").len(), 1);
    // Which of two is the vault itself, is what is written to.
    std::fs::rename(&place, &moved).expect("moved");
    let report = run(&open(local(&kept)), &options);
    assert_eq!(report.own_vaults, [kept]);
    assert_eq!(report.warnings.listed[0].path, moved);
    let all = BackupOptions { include_own_vault: true, ..options };
    assert!(run(&open(local(&moved)), &all).warnings.is_empty(), "it was asked for");
}

#[test]
fn what_is_excluded_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    for name in
        ["a.tmp", "keep.tmp", "b", "target/x", "src/target/y", "src/c", "cache/CACHEDIR.TAG"]
    {
        write(&home.join(name), name.as_bytes());
    }
    write(&home.join("cache/big"), b"big");
    let tag = b"Signature: 8a477f597d28d172789f06886806bc55 and more";
    write(&home.join("real/CACHEDIR.TAG"), tag);
    write(&home.join("real/deep/big"), b"big");
    let vault = create(local(&folder.path().join("vault")));
    let excludes = texts(&["*.tmp", "!keep.tmp", "target", "/not/here"]);
    let options =
        BackupOptions { excludes: excludes.clone(), exclude_caches: true, ..options(&home) };
    let report = run(&vault, &options);
    let found = names(&vault, &report.point.to_string(), &home);
    let wanted = [
        "b",
        "cache/",
        "cache/CACHEDIR.TAG",
        "cache/big",
        "keep.tmp",
        "real/",
        "real/CACHEDIR.TAG",
        "src/",
        "src/c",
    ];
    assert_eq!(found, wanted.iter().map(ToString::to_string).collect());
    assert_eq!((report.excluded, report.is_partial), (4, false), "a.tmp, two targets, real/deep");
    let point = vault.point("latest").expect("a point");
    assert_eq!(point.snapshot.excludes, excludes, "as restic tells it");

    let all = BackupOptions { excludes: texts(&["home"]), ..options.clone() };
    let error = vault.plan_backup(&all).expect("a plan").run(&Control::default());
    assert!(error.expect_err("nothing").to_string().contains("is excluded"));
    let wrong = BackupOptions { excludes: texts(&["[a"]), ..options };
    let error = vault.plan_backup(&wrong).expect_err("no pattern");
    assert!(matches!(error, Error::Invalid { what: "exclude pattern", .. }), "{error}");
}

#[test]
fn one_missing_source_does_not_keep_the_others_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    write(&at("a/file"), b"a");
    write(&at("b/file"), b"b");
    let vault = create(local(&at("vault")));
    let paths: Vec<PathBuf> = ["a", "b", "gone"].map(at).to_vec();
    write(&at("gone/file"), b"here for now");
    let options = BackupOptions { paths, ..options(&at("a")) };
    let whole = run(&vault, &options);
    assert!(!whole.is_partial);
    std::fs::remove_dir_all(at("gone")).expect("removed");
    let plan = vault.plan_backup(&options).expect("a plan");
    assert_eq!(plan.missing().len(), 1);
    assert_eq!(plan.paths(), [at("a"), at("b")]);
    assert_eq!(plan.parent().map(|it| it.id), Some(whole.point), "the others have not changed");
    let report = plan.run(&Control::default()).expect("a point");
    assert!(report.is_partial);
    let warning = &report.warnings.listed[0];
    assert_eq!((warning.kind, &warning.path), (SourceWarningKind::Missing, &at("gone")));
    assert!(warning.to_string().contains("not there, so not backed up"), "{warning}");
    let found = names(&vault, &report.point.to_string(), folder.path());
    assert!(found.contains("a/file") && found.contains("b/file"), "{found:?}");
    let none = BackupOptions { paths: vec![at("no"), at("nothing")], ..options };
    let error = vault.plan_backup(&none).expect_err("nothing is there");
    assert!(matches!(error, Error::Source { .. }), "{error}");
}

/// `/a.d` comes after `/a/b` as a path and before it as text.
#[test]
fn the_last_point_is_found_whatever_the_paths_are_called() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let names = ["a.d", "a/b", "gone", "gone"];
    names.iter().for_each(|name| write(&at(name).join("file"), name.as_bytes()));
    let vault = create(local(&at("vault")));
    let options = BackupOptions { paths: names.map(at).to_vec(), ..options(&at("a")) };
    let whole = run(&vault, &options);
    std::fs::remove_dir_all(at("gone")).expect("removed");
    let partial = run(&vault, &options);
    assert_eq!(partial.parent, Some(whole.point));
    assert_eq!(run(&vault, &options).parent, Some(partial.point));
}

#[test]
fn a_vault_takes_no_folder_that_is_somebodys() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("home/letter"), b"dear");
    let home = folder.path().join("home");
    let error = Vault::new(local(&home)).kdf(KDF).create(&passphrase()).expect_err("not empty");
    let told = error.to_string();
    assert!(told.contains("holds other files") && told.contains("letter"), "{told}");
    assert_eq!(std::fs::read_dir(&home).expect("a folder").count(), 1, "nothing was made");
    create(local(&folder.path().join("new")));
    std::fs::create_dir_all(folder.path().join("disk/lost+found")).expect("a new file system");
    create(local(&folder.path().join("disk")));
}
