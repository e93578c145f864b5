//! Damage at rest is told by commands, and put aside.

use crate::support::{Place, text};
use std::fs;
use std::path::{Path, PathBuf};

/// The files below a folder whose path has a part in it.
fn files(folder: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path, part)),
            false if path.to_string_lossy().contains(part) => found.push(path),
            false => {}
        }
    }
    found
}

#[test]
fn a_flipped_bit_is_told_by_file_and_put_aside_and_the_rest_is_answered() {
    let place = Place::new();
    for (name, rows) in [("one", "{\"N\":1}\n"), ("two", "{\"N\":2}\n{\"N\":3}\n")] {
        fs::write(place.path(name), rows).expect("rows");
        place.good(&["logs", "ingest", "--table", "T_CL", name]);
    }
    let clean = place.good(&["logs", "check", "T_CL", "--read-data"]);
    assert!(clean.contains(" 0 damaged"), "{clean}");
    assert!(!clean.contains("footers alone"), "{clean}");
    let footers = place.good(&["logs", "check", "T_CL"]);
    assert!(footers.contains("footers alone: --read-data reads every byte"), "{footers}");
    let mut data = files(&place.data().join("logs/tables/T_CL"), ".parquet");
    data.retain(|path| !path.to_string_lossy().contains("_delta_log"));
    data.sort();
    let [first, _] = data.as_slice() else { panic!("{data:?}") };
    let mut bytes = fs::read(first).expect("a file");
    bytes[20] ^= 1;
    fs::write(first, bytes).expect("damaged");
    let name = first.file_name().expect("a name").to_string_lossy().into_owned();
    let why = place.bad(&["logs", "query", "T_CL | summarize sum(N)"]);
    assert!(why.contains("damaged") && why.contains(&name) && why.contains("T_CL"), "{why}");
    let output = place.run(&["logs", "check", "--read-data"]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains(&name) && told.contains("1 damaged") && told.contains("1 row\n"),
        "{told}"
    );
    let output = place.run(&["logs", "check", "T_CL", "--read-data", "--quarantine"]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("put aside, kept as _oms/quarantine/"), "{told}");
    let answer = place.good(&["logs", "query", "--format", "csv", "T_CL | summarize sum(N)"]);
    assert_eq!(answer, "sum_N\r\n5\r\n");
    place.good(&["logs", "check", "--read-data"]);
}

#[test]
fn a_damaged_log_names_the_command_that_opens_it() {
    let place = Place::new();
    fs::write(place.path("rows"), "{\"N\":1}\n").expect("rows");
    place.good(&["logs", "ingest", "--table", "T_CL", "rows"]);
    let mut segments = files(&place.data().join("logs/wal"), ".wal");
    segments.sort();
    let segment = segments.first().expect("a segment");
    let mut bytes = fs::read(segment).expect("a segment");
    bytes[14] ^= 1;
    fs::write(segment, bytes).expect("damaged");
    let why = place.bad(&["logs", "tables"]);
    assert!(why.contains("oms logs check --quarantine"), "{why}");
    let output = place.run(&["logs", "check", "--quarantine"]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}{}", text(&output.stderr));
    assert!(told.contains("wal/") && told.contains("moved to"), "{told}");
    assert!(place.good(&["logs", "tables"]).contains("T_CL"));
}
