//! What goes in comes out.

use crate::common::*;
use oms_backup::Error;
use oms_backup::item::source::SourceWarningKind;
use oms_backup::operation::{BackupOptions, Control, CopyOption, RestoreOptions};
use oms_core::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

#[test]
fn a_nasty_tree_comes_back_with_all_its_metadata() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    std::fs::create_dir(&source).expect("a folder");
    make_nasty_tree(&source, 50_000_000);
    let before = describe(&source);
    let vault = create(local(&folder.path().join("vault")));
    let report = backup(&vault, &source);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    assert!(verify(&vault, true).is_clean());
    let restored = restore(&vault, "latest", &source, &target);
    assert!(restored.failures.is_empty(), "{:?}", restored.failures);
    assert!(restored.warnings.is_empty(), "{:?}", restored.warnings);
    assert_same(&before, &describe(&target));
    let sparse = std::fs::metadata(target.join("sparse")).expect("it").blocks() * 512;
    assert!(sparse < 5_000_000, "holes are holes again: {sparse}");

    // A second backup reads nothing and adds next to nothing.
    let again = backup(&open(local(&folder.path().join("vault"))), &source);
    assert_eq!(again.parent, Some(report.point));
    assert_eq!(again.summary.data_blobs, 0);
    assert!(again.summary.data_added_packed < 20_000, "{:?}", again.summary);
    // Recently changed files are not trusted, so they are read again; nothing new is in them.
    assert_eq!(again.summary.files_new, 0);
}

#[test]
fn the_whole_path_is_restored_without_a_selection() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("a/b");
    write(&source.join("c"), b"content");
    let vault = create(local(&folder.path().join("vault")));
    backup(&vault, &source);
    let target = folder.path().join("target");
    let plan = vault.plan_restore(&RestoreOptions::latest(&target)).expect("a plan");
    assert_eq!((plan.files(), plan.bytes()), (1, 7));
    plan.run(&Control::default()).expect("restored");
    let inside = source.strip_prefix("/").expect("absolute").join("c");
    assert_eq!(std::fs::read(target.join(inside)).expect("it"), b"content");

    // One file.
    let options = RestoreOptions {
        path: Some(source.join("c")),
        ..RestoreOptions::latest(folder.path().join("single"))
    };
    vault.plan_restore(&options).expect("a plan").run(&Control::default()).expect("restored");
    assert_eq!(std::fs::read(folder.path().join("single/c")).expect("it"), b"content");
    let missing = RestoreOptions { path: Some(source.join("d")), ..options };
    let error = vault.plan_restore(&missing).expect_err("not there");
    assert!(matches!(error, Error::PathNotFound { .. }), "{error}");
}

#[test]
fn a_changed_byte_adds_little_and_both_points_restore() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    let mut content = random(9, 30_000_000);
    write(&source.join("big"), &content);
    write(&source.join("other"), b"same");
    let vault = create(local(&folder.path().join("vault")));
    let first = backup(&vault, &source);
    let old = describe(&source);
    content.splice(100..100, *b"inserted at the head");
    write(&source.join("big"), &content);
    std::fs::remove_file(source.join("other")).expect("removed");
    let second = backup(&vault, &source);
    assert_eq!(second.summary.files_changed, 1);
    assert!(second.summary.data_added < 6_000_000, "{:?}", second.summary);
    for (point, expected) in [(first.point, old), (second.point, describe(&source))] {
        let target = folder.path().join(point.short());
        restore(&vault, &point.short(), &source, &target);
        assert_same(&expected, &describe(&target));
    }
}

#[test]
fn old_files_are_taken_over_without_reading() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    write(&source.join("file"), b"unchanged");
    let disk = local(&folder.path().join("vault"));
    let later = jiff::Timestamp::now_for_tests();
    let clock = std::sync::Arc::new(oms_core::clock::ManualClock::new(later));
    let vault = oms_backup::vault::Vault::new(disk)
        .kdf(KDF)
        .clock(clock)
        .create(&passphrase())
        .expect("a vault");
    backup(&vault, &source);
    let again = backup(&vault, &source);
    assert_eq!(again.summary.files_unmodified, 1);
    assert_eq!(again.summary.dirs_changed + again.summary.dirs_new, 0);
}

/// An hour from now: every file is older than the backup's clock by more than a tick.
trait Later {
    fn now_for_tests() -> jiff::Timestamp;
}

impl Later for jiff::Timestamp {
    fn now_for_tests() -> jiff::Timestamp {
        oms_core::Clock::now(&oms_core::SystemClock) + jiff::SignedDuration::from_hours(1)
    }
}

#[test]
fn what_cannot_be_read_is_reported_and_the_rest_is_backed_up() {
    // The superuser can read everything; the next test fails for everybody.
    as_user(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("source");
        write(&source.join("secret"), b"x");
        write(&source.join("folder/inside"), b"x");
        write(&source.join("open"), b"x");
        let close = |name: &str| {
            let mode = std::fs::Permissions::from_mode(0o0);
            std::fs::set_permissions(source.join(name), mode).expect("closed");
        };
        close("secret");
        close("folder");
        let vault = create(local(&folder.path().join("vault")));
        let report = backup(&vault, &source);
        let kinds: Vec<_> = report.warnings.listed.iter().map(|warning| warning.kind).collect();
        assert_eq!(kinds, [SourceWarningKind::FolderUnreadable, SourceWarningKind::Unreadable]);
        assert_eq!(report.summary.total_files_processed, 1);
        for name in ["secret", "folder"] {
            // So that it can be removed.
            chmod(&source.join(name), 0o700);
        }
    });
}

#[test]
fn a_file_whose_reading_fails_is_reported_and_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    write(&source.join("open"), b"x");
    let vault = create(local(&folder.path().join("vault")));
    // Nobody, whatever their rights, can read a process's memory at address 0.
    let paths = vec![source.clone(), PathBuf::from("/proc/self/mem")];
    let plan = vault.plan_backup(&BackupOptions { paths, ..options(&source) }).expect("a plan");
    let report = plan.run(&Control::default()).expect("a point");
    assert_eq!(report.summary.total_files_processed, 1);
    let warning = &report.warnings.listed[0];
    assert_eq!(warning.kind, SourceWarningKind::Unreadable);
    assert!(warning.path.ends_with("mem"), "{warning}");
    assert!(verify(&vault, true).is_clean());
}

#[test]
fn a_file_that_is_longer_than_its_folder_says_is_noted() {
    let folder = tempfile::tempdir().expect("a folder");
    // Its size is said to be 0 and its content is not.
    let Ok(content) = std::fs::read("/proc/self/maps") else { return };
    assert!(!content.is_empty());
    let vault = create(local(&folder.path().join("vault")));
    let plan = vault.plan_backup(&options("/proc/self/maps".as_ref())).expect("a plan");
    let report = plan.run(&Control::default()).expect("a point");
    assert!(report.warnings.listed.iter().any(|w| w.kind == SourceWarningKind::Changed));
}

#[test]
fn existing_files_are_kept_replaced_or_refused_as_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    write(&source.join("dir/file"), b"from the vault");
    write(&source.join("new"), b"from the vault");
    let vault = create(local(&folder.path().join("vault")));
    backup(&vault, &source);
    write(&target.join("dir/file"), b"from before");
    let options = |copy| RestoreOptions {
        path: Some(source.clone()),
        copy,
        ..RestoreOptions::latest(&target)
    };
    let error = vault.plan_restore(&options(CopyOption::FailOnConflict)).expect_err("conflict");
    assert!(matches!(&error, Error::Conflict { path } if path.ends_with("dir/file")), "{error}");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);

    let plan = vault.plan_restore(&options(CopyOption::Skip)).expect("a plan");
    let report = plan.run(&Control::default()).expect("restored");
    assert_eq!((report.files, report.skipped), (1, 1));
    assert_eq!(std::fs::read(target.join("dir/file")).expect("it"), b"from before");

    let plan = vault.plan_restore(&options(CopyOption::Overwrite)).expect("a plan");
    let report = plan.run(&Control::default()).expect("restored");
    assert_eq!((report.files, report.kept), (1, 1), "the other one is right already");
    assert_eq!(std::fs::read(target.join("dir/file")).expect("it"), b"from the vault");
    assert_same(&describe(&source), &{
        let mut after = describe(&target);
        // The target itself was there before and keeps its metadata.
        after.insert(PathBuf::new(), describe(&source)[&PathBuf::new()].clone());
        after
    });
}

#[test]
fn nothing_is_written_through_a_link_out_of_the_target() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    let outside = folder.path().join("outside");
    write(&source.join("dir/file"), b"from the vault");
    write(&source.join("top"), b"from the vault");
    let vault = create(local(&folder.path().join("vault")));
    backup(&vault, &source);
    write(&outside.join("file"), b"precious");
    for copy in [CopyOption::Skip, CopyOption::Overwrite] {
        let _ = std::fs::remove_dir_all(&target);
        std::fs::create_dir(&target).expect("a folder");
        std::os::unix::fs::symlink(&outside, target.join("dir")).expect("a link");
        std::os::unix::fs::symlink(outside.join("file"), target.join("top")).expect("a link");
        let options =
            RestoreOptions { path: Some(source.clone()), copy, ..RestoreOptions::latest(&target) };
        let plan = vault.plan_restore(&options).expect("a plan");
        let report = plan.run(&Control::default()).expect("it ends");
        assert_eq!(std::fs::read(outside.join("file")).expect("it"), b"precious");
        assert_eq!(std::fs::read_dir(&outside).expect("it").count(), 1);
        if copy == CopyOption::Overwrite {
            assert!(report.failures.is_empty(), "{:?}", report.failures);
            assert_eq!(std::fs::read(target.join("dir/file")).expect("it"), b"from the vault");
            assert!(target.join("top").symlink_metadata().expect("it").is_file());
        } else {
            assert_eq!(report.failures.total, 1);
        }
    }
}

#[test]
fn cancelled_backups_leave_no_point() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    write(&source.join("file"), &random(3, 3_000_000));
    let vault = create(local(&folder.path().join("vault")));
    let control = Control::default();
    control.cancel();
    let plan = vault.plan_backup(&options(&source)).expect("a plan");
    assert!(matches!(plan.run(&control), Err(Error::Cancelled)));
    assert!(vault.points().expect("a list").is_empty());
    assert!(std::fs::read_dir(folder.path().join("vault/locks")).expect("it").next().is_none());
}

#[test]
fn wrong_arguments_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let vault = create(local(&folder.path().join("vault")));
    let missing = vault.plan_backup(&options(&folder.path().join("no"))).expect_err("missing");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let tags = vec!["a,b".to_owned()];
    let tagged = BackupOptions { tags, ..options(folder.path()) };
    assert!(vault.plan_backup(&tagged).expect_err("a comma").to_string().contains("tag"));
    assert!(matches!(vault.point("latest"), Err(Error::PointNotFound { .. })));
    assert!(matches!(vault.point("abc"), Err(Error::PointNotFound { .. })));
    assert!(matches!(vault.point(""), Err(Error::PointNotFound { .. })));
}
