//! A restore that was interrupted goes on: what is right stays, the rest is written, and nothing
//! unfinished is left.

use crate::common::*;
use oms_backup::Error;
use oms_backup::operation::{Control, CopyOption, RestoreOptions, RestoreReport};
use oms_backup::vault::{Open, Vault};
use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn options(source: &Path, target: &Path, copy: CopyOption) -> RestoreOptions {
    RestoreOptions { path: Some(source.to_owned()), copy, ..RestoreOptions::latest(target) }
}

fn resume(vault: &Vault<Open>, source: &Path, target: &Path) -> RestoreReport {
    let plan = vault.plan_restore(&options(source, target, CopyOption::Overwrite)).expect("a plan");
    let report = plan.run(&Control::default()).expect("restored");
    assert!(report.failures.is_empty(), "{report:?}");
    report
}

fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let is_left = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".oms-restore-"))
    };
    describe(folder).into_keys().filter(is_left).collect()
}

#[test]
fn what_is_right_is_kept_and_the_rest_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    make_nasty_tree(&source, 3_000_000);
    let vault = create(local(&folder.path().join("vault")));
    backup(&vault, &source);
    let first = resume(&vault, &source, &target);
    assert_eq!(first.kept, 0);
    assert_same(&describe(&source), &describe(&target));
    let inode = |name: &str| std::fs::metadata(target.join(name)).expect("metadata").ino();
    let untouched = inode("text/zeros");

    // Of the same length and time, shorter, longer, of another kind, gone, and unfinished.
    let large = target.join("random/large");
    let mut bytes = std::fs::read(&large).expect("read");
    bytes[2_000_000] ^= 1;
    std::fs::write(&large, bytes).expect("write");
    let time = filetime::FileTime::from_last_modification_time(
        &std::fs::metadata(source.join("random/large")).expect("metadata"),
    );
    filetime::set_file_mtime(&large, time).expect("a time");
    std::fs::write(target.join("one byte"), b"").expect("write");
    rustix::fs::chmod(target.join("many"), rustix::fs::Mode::RWXU).expect("a mode");
    std::fs::write(target.join("many/7"), b"77").expect("write");
    std::fs::remove_file(target.join("many/8")).expect("removed");
    std::fs::remove_file(target.join("many/9")).expect("removed");
    std::os::unix::fs::symlink("8", target.join("many/9")).expect("a link");
    std::fs::write(target.join("many/.oms-restore-0123456789abcdef"), b"half").expect("write");
    std::fs::write(target.join(".oms-restore-00000000000000ff"), b"half").expect("write");
    write(&target.join("mine/.oms-restore-00000000000000ff"), b"in a folder that is not restored");
    write(&target.join("many/.oms-restore-letter"), b"no such name");

    let plan = vault.plan_restore(&options(&source, &target, CopyOption::FailOnConflict));
    assert!(matches!(plan.expect_err("in the way"), Error::Conflict { .. }));
    let report = resume(&vault, &source, &target);
    assert_eq!(report.leftovers, 2, "{report:?}");
    assert!(report.kept > 400 && report.files >= 4, "{report:?}");
    assert_eq!(inode("text/zeros"), untouched, "what is right is not written again");
    std::fs::remove_dir_all(target.join("mine")).expect("not touched");
    std::fs::remove_file(target.join("many/.oms-restore-letter")).expect("not touched");
    // The folder that something was removed from by the test is not the backup's business.
    for name in ["many", ""] {
        let meta = std::fs::metadata(source.join(name)).expect("metadata");
        let time = filetime::FileTime::from_last_modification_time(&meta);
        filetime::set_file_mtime(target.join(name), time).expect("a time");
    }
    assert_same(&describe(&source), &describe(&target));
}

/// A file that another restore is writing is no leftover.
#[test]
fn an_unfinished_file_of_a_restore_that_goes_on_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    write(&source.join("a"), b"a");
    let vault = create(local(&folder.path().join("vault")));
    backup(&vault, &source);
    write(&target.join(".oms-restore-0123456789abcdef"), b"half");
    let other = std::fs::File::open(target.join(".oms-restore-0123456789abcdef")).expect("open");
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).expect("its own");
    assert_eq!(resume(&vault, &source, &target).leftovers, 0);
    drop(other);
    assert_eq!(resume(&vault, &source, &target).leftovers, 1);
}

const KILLED: &str = "OMS_TEST_KILLED_RESTORE";

/// Not a test of its own: the process that is killed.
#[test]
fn restores_until_it_is_killed() {
    let Ok(place) = env::var(KILLED) else { return };
    let place = PathBuf::from(place);
    let vault = open(local(&place.join("vault")));
    let options = options(&place.join("source"), &place.join("target"), CopyOption::Overwrite);
    vault.plan_restore(&options).expect("a plan").run(&Control::default()).expect("restored");
}

#[test]
fn a_killed_restore_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    for number in 0..120 {
        write(&source.join(format!("d{}/f{number}", number % 7)), &random(number, 30_000));
    }
    write(&source.join("large"), &random(1_000, 6_000_000));
    let vault = create(local(&folder.path().join("vault")));
    backup(&vault, &source);
    // A target that is there already keeps its own metadata, as ever.
    let inside = |root: &Path| {
        let mut entries = describe(root);
        entries.remove(Path::new(""));
        entries
    };
    let wanted = inside(&source);
    let (mut killed, mut resumed) = (0, 0);
    for round in 0..15 {
        let mut child = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", "resume::restores_until_it_is_killed", "--test-threads=1"])
            .env(KILLED, folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        // The moment is where the restore is, not when: so many files are there, or one unfinished.
        let files = 1 + round * 17 % 110;
        let is_far = |target: &Path| target.is_dir() && count(target) >= files;
        let is_ended = loop {
            match child.try_wait().expect("its state") {
                Some(_) => break true,
                None if is_far(&target) => break false,
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        if !is_ended {
            child.kill().expect("killed");
            child.wait().expect("its end");
            killed += 1;
        }
        let report = resume(&vault, &source, &target);
        resumed += u64::from(report.kept > 0);
        assert_eq!(leftovers(&target), Vec::<PathBuf>::new(), "round {round}: {report:?}");
        assert_same(&wanted, &inside(&target));
        std::fs::remove_dir_all(&target).expect("removed");
    }
    assert!(killed > 3 && resumed > 3, "too easy: killed {killed}, resumed {resumed}");
}

/// How many files there are, whatever goes on meanwhile.
fn count(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}
