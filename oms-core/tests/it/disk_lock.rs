//! A lock outlasts no process.

use oms_core::disk::{Disk, LocalDisk};
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the child finds the folder; without it, the child's test has nothing to do.
const FOLDER_VARIABLE: &str = "OMS_LOCK_FOLDER";

const LOCKED: &str = "the child holds the lock";

/// Not a test of its own: the process that the test below kills.
#[test]
fn child() {
    let Some(folder) = env::var_os(FOLDER_VARIABLE) else { return };
    let disk = LocalDisk::new(folder).expect("a disk");
    let _lock = disk.lock(Path::new("lock")).expect("it is free");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{LOCKED}").and_then(|()| out.flush()).expect("the parent listens");
    // Until it is killed, or the parent is gone.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_killed_holder_lets_go_of_its_lock() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = LocalDisk::new(folder.path()).expect("a disk");
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "disk_lock::child", "--nocapture"])
        .env(FOLDER_VARIABLE, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the child");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let has_locked = lines.any(|line| line.expect("text").contains(LOCKED));
    assert!(has_locked, "the child says so");
    let error = disk.lock(Path::new("lock")).expect_err("the child holds it");
    assert!(error.is_locked(), "{error:?}");
    child.kill().expect("kill");
    child.wait().expect("it ends");
    drop(disk.lock(Path::new("lock")).expect("its holder is gone"));
}
