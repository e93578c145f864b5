//! What goes wrong around the tour, and what it says.

use crate::support::{Place, read, text};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How often the killed tour is looked at, 20 ms apart.
const LOOKS_MAX: u32 = 6_000;

#[test]
fn a_tour_is_verified_and_its_records_stay() {
    let place = Place::new();
    let told = place.good(&["tour", "--json"]);
    let account: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(account["verified"], true, "{told}");
    let parts = account["parts"].as_array().expect("parts");
    assert_eq!(parts.len(), 6);
    let query = "Heartbeat | count";
    assert_ne!(place.good(&["logs", "query", "--format", "csv", query]), "Count\r\n0\r\n");
}

/// Kills a tour in the middle; the next one says so, starts clean and is verified.
#[test]
fn a_killed_tour_is_noticed_and_run_again() {
    let place = Place::new();
    let mut tour = place.oms(&["tour"]).stdout(Stdio::null()).spawn().expect("the program starts");
    let progress = place.data().join("tour/progress.json");
    for look in 0.. {
        if read(&progress).contains("Backup") {
            break;
        }
        assert!(look < LOOKS_MAX, "it did not come to the part on backup");
        assert!(tour.try_wait().expect("its state").is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    tour.kill().expect("kill -9");
    tour.wait().expect("its end");
    let told = place.good(&["tour"]);
    assert!(told.contains("Run 1 was interrupted in the part on Backup"), "{told}");
    assert!(told.contains("This is run 2"), "{told}");
    assert!(!place.data().join("tour/run-1").exists(), "its working files are gone");
}

/// Kills a tour whose disk is protected; the next one ends that protection, whose disk is gone.
#[test]
fn a_tour_killed_with_a_protected_disk_leaves_none() {
    let place = Place::new();
    let mut tour = place.oms(&["tour"]).stdout(Stdio::piped()).spawn().expect("the program starts");
    let told = BufReader::new(tour.stdout.take().expect("its output"));
    let is_protected = |line: std::io::Result<String>| line.expect("text").contains(" sent, in ");
    assert!(told.lines().any(is_protected), "it did not come to the disk");
    tour.kill().expect("kill -9");
    tour.wait().expect("its end");
    let left = place.good(&["recovery", "status"]);
    assert!(left.contains("tour-1"), "{left}");
    let told = place.good(&["tour"]);
    assert!(told.contains("Run 1 was interrupted in the part on Site Recovery"), "{told}");
    let left = place.good(&["recovery", "status"]);
    assert!(!left.contains("tour-"), "{left}");
}

#[test]
fn without_python_the_bash_runbooks_run_and_the_account_says_so() {
    let place = Place::new();
    let programs = place.path("programs");
    fs::create_dir(&programs).expect("a folder");
    for entry in fs::read_dir("/usr/bin").expect("programs") {
        let name = entry.expect("a program").file_name();
        if !name.to_string_lossy().starts_with("python") {
            symlink(Path::new("/usr/bin").join(&name), programs.join(&name)).expect("a link");
        }
    }
    let programs = programs.to_str().expect("text");
    let told = place.good(&["tour", "--search-path", programs]);
    assert!(told.contains("there is no python3 here"), "{told}");
    assert!(told.contains("partial") && told.contains("Bash"), "{told}");
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let place = Place::new();
    fs::write(place.path("file"), "no folder").expect("a file");
    let nowhere = place.path("file/data");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_oms"));
    let output = command.arg("--data").arg(&nowhere).arg("tour").output().expect("it starts");
    let why = text(&output.stderr);
    assert!(!output.status.success() && why.contains("cannot be written"), "{why}");
    assert!(why.contains("file/data"), "{why}");

    fs::create_dir(place.data()).expect("a folder");
    fs::write(place.data().join("format"), "99\n").expect("a format");
    let why = place.bad(&["tour"]);
    assert!(why.contains("newer format") && why.contains("99"), "{why}");
}

/// A user who may not write there; root, who may write anywhere, becomes one first.
#[test]
fn a_directory_of_somebody_else_is_refused_by_name() {
    let place = Place::new();
    // Others may pass to the program and the directory, and write neither.
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    };
    open(&place.path(""), 0o755);
    let program = place.path("oms");
    if fs::hard_link(env!("CARGO_BIN_EXE_oms"), &program).is_err() {
        fs::copy(env!("CARGO_BIN_EXE_oms"), &program).expect("a copy");
    }
    let data = place.data();
    fs::create_dir(&data).expect("a folder");
    open(&data, 0o555);
    let run = |arguments: &[&str]| {
        let id = std::process::Command::new("id").arg("-u").output().expect("id");
        let mut command = match text(&id.stdout).trim() {
            "0" => {
                let mut command = std::process::Command::new("setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
                command.arg(&program);
                command
            }
            _ => std::process::Command::new(&program),
        };
        let output = command.arg("--data").arg(&data).args(arguments).current_dir("/").output();
        let output = output.expect("it starts");
        assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
        text(&output.stderr)
    };
    for arguments in [&["tour"][..], &["serve", "--listen", "127.0.0.1:0"], &["logs", "tables"]] {
        let why = run(arguments);
        assert!(why.contains("cannot be written") && why.contains("ermission denied"), "{why}");
        assert!(why.contains(&data.display().to_string()), "{why}");
    }
    assert_eq!(fs::read_dir(&data).expect("the folder").count(), 0, "nothing was left in it");

    // One that holds data, and has come to belong to somebody else.
    open(&data, 0o755);
    place.good(&["logs", "tables"]);
    open(&data, 0o555);
    let why = run(&["logs", "tables"]);
    assert!(why.contains(&data.display().to_string()) && why.contains("ermission denied"), "{why}");
    open(&data, 0o755);
}

/// Another process has the directory and takes no commands: the tour, say, or a command under way.
#[test]
fn a_directory_in_use_names_the_process_that_uses_it() {
    let place = Place::new();
    place.good(&["logs", "tables"]);
    let disk = oms_core::LocalDisk::new(place.data()).expect("the directory");
    let held = oms_core::Disk::lock(&disk, Path::new("lock")).expect("the lock");
    fs::write(place.data().join("lock"), "4242\n").expect("the holder's number");
    for arguments in [&["tour"][..], &["serve", "--listen", "127.0.0.1:0"], &["logs", "tables"]] {
        let why = place.bad(arguments);
        assert!(why.contains("in use") && why.contains("4242"), "{arguments:?}: {why}");
        assert!(why.contains(&place.data().display().to_string()), "{why}");
    }
    drop(held);
    place.good(&["logs", "tables"]);
}

/// Commands on a directory that nothing serves take turns.
#[test]
fn commands_at_once_take_turns() {
    let place = Place::new();
    place.good(&["logs", "tables"]);
    let arguments = ["logs", "query", "--format", "csv", "print x = 1"];
    let start = || place.oms(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let both = [start(), start()].map(|child| child.expect("the program starts"));
    for child in both {
        let output = child.wait_with_output().expect("its end");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "x\r\n1\r\n");
    }
}
