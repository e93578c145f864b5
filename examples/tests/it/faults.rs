//! What goes wrong around the tour, and what it says.

use crate::support::{Place, read, text};
use std::fs;
use std::os::unix::fs::symlink;
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
