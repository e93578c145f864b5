use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn every_line_has_an_answer() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_kql_eval"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let cases = concat!(
        "{\"id\": \"a\", \"query\": \"print x = dynamic([1, 'b']), t = 90m\"}\n\n",
        "{\"id\": 2, \"query\": \"print nothing\", \"area\": \"x\"}\n",
        "{\"id\": 3}\n",
        "{\"id\": 4, \"query\": \"range x from 1 to 2 step 1 | sort by x asc\"}\n",
    );
    process.stdin.take().expect("piped").write_all(cases.as_bytes()).expect("read");
    let output = process.wait_with_output().expect("ended");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    let answers: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), 4, "{text}");
    assert_eq!(
        answers[0],
        serde_json::json!({
            "id": "a",
            "columns": [{"name": "x", "type": "dynamic"}, {"name": "t", "type": "timespan"}],
            "rows": [[[1, "b"], "01:30:00"]],
        })
    );
    assert!(
        answers[1]["error"].as_str().is_some_and(|error| error.contains("no column `nothing`"))
    );
    assert!(answers[2]["error"].is_string());
    assert_eq!(answers[3]["rows"], serde_json::json!([[1], [2]]));
}

#[test]
fn it_says_what_it_takes() {
    let run = |argument: &str| {
        let mut process = Command::new(env!("CARGO_BIN_EXE_kql_eval"));
        process.arg(argument).stdin(Stdio::null()).output().expect("started")
    };
    let help = run("--help");
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).contains("Usage: kql_eval < CASES > ANSWERS"));
    let other = run("--tables");
    assert!(!other.status.success() && other.stdout.is_empty());
    assert!(String::from_utf8_lossy(&other.stderr).contains("no such argument: --tables"));
}
