//! A restore that was interrupted goes on: what is right stays, the rest is written, and nothing
//! unfinished is left.

use crate::common::*;
use oms_backup::Error;
use oms_backup::operation::{Control, CopyOption, RestoreOptions, RestoreReport};
use oms_backup::vault::{Open, Vault};
use oms_core::Entropy;
use oms_core::entropy::SeededEntropy;
use std::collections::BTreeMap;
use std::env;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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

/// All below a folder but itself.
fn inside(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = describe(root);
    entries.remove(Path::new(""));
    entries
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
    chmod(&target.join("many"), 0o755);
    std::fs::write(target.join("many/7"), b"77").expect("write");
    std::fs::remove_file(target.join("many/8")).expect("removed");
    std::fs::remove_file(target.join("many/9")).expect("removed");
    std::os::unix::fs::symlink("8", target.join("many/9")).expect("a link");
    std::fs::write(target.join("many/.oms-restore-0123456789abcdef"), b"half").expect("write");
    std::fs::write(target.join(".oms-restore-00000000000000ff"), b"half").expect("write");
    write(&target.join("mine/.oms-restore-00000000000000ff"), b"in a folder that is not restored");
    write(&target.join("many/.oms-restore-letter"), b"no such name");
    chmod(&target.join("many"), 0o555);

    let plan = vault.plan_restore(&options(&source, &target, CopyOption::FailOnConflict));
    assert!(matches!(plan.expect_err("in the way"), Error::Conflict { .. }));
    let report = resume(&vault, &source, &target);
    assert_eq!(report.leftovers, 2, "{report:?}");
    assert!(report.kept > 400 && report.files >= 4, "{report:?}");
    assert_eq!(inode("text/zeros"), untouched, "what is right is not written again");
    std::fs::remove_dir_all(target.join("mine")).expect("not touched");
    chmod(&target.join("many"), 0o755);
    std::fs::remove_file(target.join("many/.oms-restore-letter")).expect("not touched");
    chmod(&target.join("many"), 0o555);
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

/// Somebody presses Ctrl-C when so many temporary names have been drawn, one for each file.
#[derive(Debug)]
struct Interrupting {
    entropy: SeededEntropy,
    left: AtomicI64,
    control: Control,
}

impl Entropy for Interrupting {
    fn fill(&self, bytes: &mut [u8]) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.control.cancel();
        }
        self.entropy.fill(bytes);
    }
}

/// Restores until it is interrupted after some files.
fn interrupted(place: &Path, source: &Path, target: &Path) {
    let control = Control::default();
    let (entropy, left) = (SeededEntropy::new(1), AtomicI64::new(20));
    let interrupting = Interrupting { entropy, left, control: control.clone() };
    let vault = Vault::new(local(place)).entropy(Arc::new(interrupting));
    let vault = vault.open(&passphrase()).expect("the vault opens");
    let plan = vault.plan_restore(&options(source, target, CopyOption::FailOnConflict));
    let ended = plan.expect("a plan").run(&control);
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert_eq!(leftovers(target), Vec::<PathBuf>::new());
}

/// Not even a folder into which its owner may not write keeps its owner from going on.
#[test]
fn an_ordinary_user_goes_on_in_read_only_folders() {
    as_user(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let (source, target) = (at("source"), at("target"));
        for number in 0..40 {
            write(&source.join(format!("album/photos/{number}")), &random(number, 3_000));
        }
        write(&source.join("letters/a"), b"dear");
        chmod(&source.join("album/photos"), 0o555);
        chmod(&source.join("album"), 0o555);
        backup(&create(local(&at("vault"))), &source);
        interrupted(&at("vault"), &source, &target);
        let vault = open(local(&at("vault")));
        let report = resume(&vault, &source, &target);
        assert!(report.kept > 0 && report.files > 0, "{report:?}");
        assert_same(&inside(&source), &inside(&target));

        // After its end, too; and in a folder that was closed to everybody.
        chmod(&target.join("album/photos"), 0o755);
        std::fs::remove_file(target.join("album/photos/7")).expect("removed");
        chmod(&target.join("album/photos"), 0o555);
        chmod(&target.join("letters"), 0o000);
        assert_eq!(resume(&vault, &source, &target).files, 1);
        assert_same(&inside(&source), &inside(&target));
        for root in [source, target] {
            // So that it can be removed.
            chmod(&root.join("album"), 0o755);
            chmod(&root.join("album/photos"), 0o755);
        }
    });
}

/// A target that a restore made is nobody else's business until it has its own metadata, which comes
/// also where another run has to bring it.
#[test]
fn a_target_that_was_made_has_its_metadata_after_an_interruption() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (source, target) = (at("source"), at("above/target"));
    for number in 0..40 {
        write(&source.join(format!("{number}")), &random(number, 3_000));
    }
    chmod(&source, 0o750);
    backup(&create(local(&at("vault"))), &source);
    filetime::set_file_mtime(&source, filetime::FileTime::from_unix_time(1_000_000_000, 5))
        .expect("a time");
    backup(&open(local(&at("vault"))), &source);
    interrupted(&at("vault"), &source, &target);
    let mode = std::fs::metadata(&target).expect("metadata").mode();
    assert_eq!(mode & 0o077, 0, "nobody else is let in before it is known who may be: {mode:o}");
    let vault = open(local(&at("vault")));
    resume(&vault, &source, &target);
    assert_same(&describe(&source), &describe(&target));
    // One that somebody made, for oneself alone as well, keeps what they gave it.
    let own = at("own");
    std::fs::create_dir(&own).expect("a folder");
    chmod(&own, 0o700);
    resume(&vault, &source, &own);
    assert_eq!(std::fs::metadata(&own).expect("metadata").mode() & 0o7777, 0o700);
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).is_ok()
}

/// What is there stays, but what only an interrupted restore made does not stay as it left it.
#[test]
fn folders_of_an_interrupted_restore_are_finished_where_what_is_there_is_skipped() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (source, target) = (at("source"), at("target"));
    for number in 0..40 {
        write(&source.join(format!("album/photos/{number}")), &random(number, 3_000));
    }
    write(&source.join("a letter/dear"), b"dear");
    write(&source.join("theirs/note"), b"note");
    for (name, mode) in [("album/photos", 0o550), ("album", 0o755), ("a letter", 0o750)] {
        chmod(&source.join(name), mode);
    }
    let time = filetime::FileTime::from_unix_time(1_000_000_000, 5);
    filetime::set_file_mtime(source.join("album"), time).expect("a time");
    let vault = create(local(&at("vault")));
    backup(&vault, &source);
    // Somebody made this one, and a person's own mode is no mark.
    std::fs::create_dir_all(target.join("theirs")).expect("a folder");
    chmod(&target.join("theirs"), 0o700);
    interrupted(&at("vault"), &source, &target);
    let left = target.join("album/photos/.oms-restore-0123456789abcdef");
    write(&left, b"half");

    let plan = vault.plan_restore(&options(&source, &target, CopyOption::Skip)).expect("a plan");
    let report = plan.run(&Control::default()).expect("restored");
    assert!(report.skipped > 0 && report.files > 0, "{report:?}");
    assert_eq!(report.leftovers, 1, "{report:?}");
    let theirs = std::fs::metadata(target.join("theirs")).expect("metadata");
    assert_eq!(theirs.mode() & 0o7777, 0o700);
    for root in [&source, &target] {
        std::fs::remove_dir_all(root.join("theirs")).expect("removed");
    }
    assert_same(&inside(&source), &inside(&target));
    for root in [&source, &target] {
        // So that it can be removed by an ordinary user, too.
        chmod(&root.join("album/photos"), 0o755);
    }
}

/// A list that lets somebody else read and write, as `system.posix_acl_access` has it.
fn access_list(user: u32) -> Vec<u8> {
    access_list_of(0o7, user)
}

/// As [`access_list`], with what the owner may do.
fn access_list_of(owner: u16, user: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(1, owner, NOBODY), (2, 6, user), (4, 4, NOBODY), (0x10, 6, NOBODY), (0x20, 4, NOBODY)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&rights.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    list
}

/// The right content is not enough: whoever owns a file, or is let write to it, could change it after.
#[test]
fn what_others_have_rights_in_is_written_afresh() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    let names = ["right", "listed", "noted", "writable", "theirs", "group's"];
    for name in names {
        write(&source.join(name), name.as_bytes());
        chmod(&source.join(name), 0o644);
    }
    chmod(&source.join("right"), 0o664);
    chmod(&source.join("group's"), 0o664);
    let has_notes = set_attribute(&source.join("right"), "user.note", b"its own");
    let vault = create(local(&folder.path().join("vault")));
    backup(&vault, &source);
    resume(&vault, &source, &target);
    let inode = |name: &str| std::fs::metadata(target.join(name)).expect("metadata").ino();
    let before = names.map(inode);

    // Not every file system has attributes, and only the superuser gives files away.
    let list = access_list(USER);
    let is_listed = set_attribute(&target.join("listed"), "system.posix_acl_access", &list);
    set_attribute(&target.join("noted"), "user.note", b"another's");
    chmod(&target.join("writable"), 0o666);
    let still_open = ["theirs", "group's", "writable"]
        .map(|name| std::fs::OpenOptions::new().write(true).open(target.join(name)).expect("open"));
    if is_root() {
        std::os::unix::fs::chown(target.join("theirs"), Some(USER), None).expect("given away");
        std::os::unix::fs::chown(target.join("group's"), None, Some(USER)).expect("given away");
    }
    let is_afresh = [false, is_listed, has_notes, true, is_root(), is_root()];
    let report = resume(&vault, &source, &target);
    for ((name, before), is_afresh) in names.iter().zip(before).zip(is_afresh) {
        assert_eq!(inode(name) != before, is_afresh, "{name}");
    }
    let written = is_afresh.iter().filter(|it| **it).count() as u64;
    assert_eq!((report.files, report.kept), (written, 6 - written), "{report:?}");
    for file in still_open.iter().skip(if is_root() { 0 } else { 2 }) {
        file.write_all_at(b"forged", 0).expect("it is open");
    }
    assert_same(&inside(&source), &inside(&target));
}

/// What a folder of the target hands down lets nobody do what the recovery point does not, and is in no
/// later restore's way.
#[test]
fn access_lists_of_the_target_are_not_handed_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (source, target) = (at("source"), at("target"));
    for name in ["letter", "album/photo"] {
        write(&source.join(name), name.as_bytes());
        chmod(&source.join(name), 0o664);
    }
    let (pipe, mode) = (source.join("pipe"), rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a pipe");
    chmod(&pipe, 0o664);
    chmod(&source.join("album"), 0o775);
    // Lists of the recovery point come back, if the file system has any.
    let (list, another) = (access_list(USER), access_list(USER + 1));
    write(&source.join("listed/letter"), b"dear");
    let has_lists = ["system.posix_acl_access", "system.posix_acl_default"]
        .map(|name| set_attribute(&source.join("listed"), name, &another));
    let vault = create(local(&at("vault")));
    backup(&vault, &source);
    std::fs::create_dir(&target).expect("a folder");
    let is_handed_down = set_attribute(&target, "system.posix_acl_default", &list);
    assert_eq!(has_lists, [is_handed_down; 2]);

    let report = resume(&vault, &source, &target);
    assert!(report.warnings.is_empty(), "{report:?}");
    assert_same(&inside(&source), &inside(&target));
    for name in ["system.posix_acl_access", "system.posix_acl_default"] {
        set_attribute(&target.join("album"), name, &list);
    }
    let report = resume(&vault, &source, &target);
    assert_eq!((report.files, report.kept), (0, 3), "{report:?}");
    assert_same(&inside(&source), &inside(&target));
}

/// What the folders of a target hand down may leave out even the owner of what is made in them. Nor is it
/// in the way of going on where a restore was killed before it made that good.
#[test]
fn an_ordinary_user_restores_where_owners_are_handed_down_no_rights() {
    as_user(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let source = at("source");
        for number in 0..40 {
            write(&source.join(format!("album/photos/{number}")), &random(number, 3_000));
        }
        write(&source.join("letter"), b"dear");
        chmod(&source, 0o750);
        let vault = create(local(&at("vault")));
        backup(&vault, &source);
        let strict = at("strict");
        std::fs::create_dir(&strict).expect("a folder");
        let list = access_list_of(0, USER + 1);
        let is_handed_down = set_attribute(&strict, "system.posix_acl_default", &list);
        assert!(is_handed_down, "the file system of {} has no access lists", strict.display());
        std::fs::create_dir(strict.join("theirs")).expect("a folder");
        assert_eq!(std::fs::metadata(strict.join("theirs")).expect("metadata").mode() & 0o700, 0);

        let target = strict.join("above/target");
        resume(&vault, &source, &target);
        assert_same(&describe(&source), &describe(&target));

        for (name, copy) in [("over", CopyOption::Overwrite), ("beside", CopyOption::Skip)] {
            let target = strict.join(name);
            interrupted(&at("vault"), &source, &target);
            // As they are made.
            for folder in ["album/photos", "album", ""] {
                chmod(&target.join(folder), 0o1000);
            }
            let plan = vault.plan_restore(&options(&source, &target, copy)).expect("a plan");
            let report = plan.run(&Control::default()).expect("restored");
            assert!(report.failures.is_empty() && report.warnings.is_empty(), "{report:?}");
            assert_same(&describe(&source), &describe(&target));
        }
    });
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
    let wanted = describe(&source);
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
        assert_same(&wanted, &describe(&target));
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

/// Only the superuser gives files and folders to others.
#[cfg(feature = "interop")]
mod interop {
    use super::*;

    const SUPERUSER: &str = "only the superuser can run this test: it gives files away";

    #[test]
    fn an_ordinary_user_takes_no_file_of_another_for_their_own() {
        assert!(is_root(), "{SUPERUSER}");
        let folder = as_user(|| tempfile::tempdir().expect("a folder"));
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        let place = folder.path().join("vault");
        as_user(|| {
            for name in ["letter", "list", "notes"] {
                write(&source.join(name), b"dear");
                chmod(&source.join(name), 0o664);
            }
            let vault = create(local(&place));
            backup(&vault, &source);
            resume(&vault, &source, &target);
        });
        std::os::unix::fs::chown(target.join("letter"), Some(0), Some(0)).expect("given away");
        std::os::unix::fs::chown(target.join("list"), None, Some(0)).expect("given away");
        let report = as_user(|| resume(&open(local(&place)), &source, &target));
        assert_eq!((report.files, report.kept), (2, 1), "{report:?}");
        assert_same(&inside(&source), &inside(&target));
    }

    /// Files in a folder that hands its group down have that group, also those that are made there.
    #[test]
    fn an_ordinary_user_keeps_files_of_the_group_that_a_folder_hands_down() {
        assert!(is_root(), "{SUPERUSER}");
        let folder = as_user(|| tempfile::tempdir().expect("a folder"));
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        let place = folder.path().join("vault");
        as_user(|| {
            write(&source.join("letter"), b"dear");
            chmod(&source.join("letter"), 0o664);
            backup(&create(local(&place)), &source);
            std::fs::create_dir(&target).expect("a folder");
        });
        std::os::unix::fs::chown(&target, None, Some(USER + 1)).expect("given away");
        chmod(&target, 0o2775);
        let resume = || as_user(|| resume(&open(local(&place)), &source, &target));
        assert_eq!(resume().files, 1);
        let group = std::fs::metadata(target.join("letter")).expect("metadata").gid();
        assert_eq!(group, USER + 1);
        let report = resume();
        assert_eq!((report.files, report.kept), (0, 1), "{report:?}");
    }
}
