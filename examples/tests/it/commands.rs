//! Each service by its commands.

use crate::support::{Place, text};
use oms_core::{Clock, SystemClock};
use std::fs;

#[test]
fn rows_go_in_and_answers_come_out_and_a_bad_row_is_named() {
    let place = Place::new();
    let rows = "{\"CounterName\":\"a\",\"CounterValue\":1}\nsoup\n\
                {\"CounterName\":\"b\",\"CounterValue\":\"x\"}\n\
                {\"CounterName\":\"a\",\"CounterValue\":2.5}\n";
    fs::write(place.path("rows"), rows).expect("rows");
    let output = place.run(&["logs", "ingest", "--table", "Perf", "rows"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "two rows were refused");
    assert!(said.contains("2 rows accepted into Perf"), "{said}");
    assert!(said.contains("rows:2: ") && said.contains("rows:3: "), "{said}");
    let query = "Perf | summarize n = count(), s = sum(CounterValue) by CounterName";
    let csv = place.good(&["logs", "query", "--format", "csv", query]);
    assert_eq!(csv, "CounterName,n,s\r\na,2,3.5\r\n");
    assert!(place.good(&["logs", "tables"]).contains("Perf"));
    // What a file holds is said by its name, or by --format.
    fs::write(place.path("rows.csv"), "Counter_s,Value_d\na,1.5\n").expect("rows");
    for format in [&[][..], &["--format", "csv"]] {
        place.good(&[&["logs", "ingest", "--table", "C_CL"], format, &["rows.csv"]].concat());
    }
    let output =
        place.run(&["logs", "ingest", "--table", "C_CL", "--format", "ndjson", "rows.csv"]);
    assert!(!output.status.success(), "it is no JSON");
    let sum = place.good(&["logs", "query", "--format", "csv", "C_CL | summarize sum(Value_d)"]);
    assert_eq!(sum, "sum_Value_d\r\n3.0\r\n");
    let unknown = place.bad(&["logs", "export", "Nope_CL", "--output", "nope.parquet"]);
    assert!(unknown.contains("no table `Nope_CL`"), "{unknown}");
    let wrong = place.bad(&["logs", "query", "Perf | wher x"]);
    assert!(wrong.contains("where"), "{wrong}");
}

#[test]
fn a_custom_tables_columns_are_named_by_what_they_hold() {
    let place = Place::new();
    let lines =
        "{\"Level\": 3, \"Host\": \"a\"}\n\nsoup\n{\"TimeGenerated\": 1}\n{\"Level\": \"4\"}\n";
    fs::write(place.path("lines"), lines).expect("rows");
    let long = "x".repeat(40_000);
    fs::write(place.path("array"), format!("[{{\"Level\": true, \"Text\": \"{long}\"}}]"))
        .expect("rows");
    let output = place.run(&["logs", "ingest", "--log-type", "App", "lines", "array"]);
    assert!(!output.status.success(), "two are refused");
    let told = text(&output.stdout);
    assert!(told.starts_with("3 records accepted into App_CL\n"), "{told}");
    assert!(told.contains("1: a text of `Text` was cut to 32768 bytes"), "{told}");
    assert!(told.contains("lines:3: is not JSON"), "{told}");
    assert!(told.contains("lines:4: the name is reserved (property TimeGenerated)"), "{told}");
    let query = "App_CL | summarize sum(Level_d), countif(Level_b), countif(Host_s == 'a')";
    let answer = place.good(&["logs", "query", "--format", "csv", query]);
    assert!(answer.ends_with("\r\n7.0,1,1\r\n"), "{answer}");
    let both = place.bad(&["logs", "ingest", "--log-type", "App", "--table", "App_CL", "lines"]);
    assert!(both.contains("--table"), "{both}");
}

#[test]
fn records_go_through_a_rule_and_what_it_leaves_out_is_told() {
    let place = Place::new();
    let rule = include_str!("access.rule.json");
    fs::write(place.path("access.json"), rule).expect("a rule");
    let put = place.good(&["logs", "rule", "put", "access.json"]);
    assert!(put.starts_with("rule access is created: dcr-"), "{put}");
    fs::write(place.path("wrong.json"), rule.replace("source |", "source | take 1 |"))
        .expect("a rule");
    let output = place.run(&["logs", "rule", "put", "--name", "wrong", "wrong.json"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "{said}");
    let problem = "properties.dataFlows[0].transformKql: 1:10: `take` cannot be used";
    assert!(said.contains(problem), "{said}");
    let list = place.good(&["logs", "rule", "list"]);
    assert!(list.contains("access") && list.contains("Custom-Access"), "{list}");
    assert!(place.good(&["logs", "rule", "show", "access"]).contains("streamDeclarations"));

    let now = SystemClock.now();
    let record = |line: &str, code: u32| {
        format!("{{\"time\":\"{now}\",\"Line\":\"{line}\",\"Code\":{code},\"More\":1}}")
    };
    let lines = format!("{}\n3\n{}\nsoup\n", record("7 a", 500), record("8 b", 200));
    fs::write(place.path("lines"), lines).expect("records");
    fs::write(place.path("array"), format!("[{}]", record("9 c", 404))).expect("records");
    let ingest = ["logs", "ingest", "--rule", "access", "--stream", "Custom-Access"];
    let output = place.run(&[&ingest[..], &["lines", "array"]].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "two records were refused: {said}");
    for part in [
        "3 records of Custom-Access taken through access: 2 rows written, 1 filtered away",
        "3: field `More` is not declared by stream Custom-Access and was left out",
        "2 records refused:",
        "lines:2: is not an object",
        "lines:4: is not JSON",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let query = "Failures_CL | sort by Number asc | project Number, Code";
    let answer = place.good(&["logs", "query", "--format", "csv", query]);
    assert_eq!(answer, "Number,Code\r\n7,500\r\n9,404\r\n");
    let missing = place.bad(&["logs", "ingest", "--rule", "none", "--stream", "Custom-A", "array"]);
    assert!(missing.contains("no such data collection rule"), "{missing}");
    assert!(place.bad(&["logs", "ingest", "--rule", "access", "array"]).contains("--stream"));
    assert!(place.bad(&["logs", "ingest", "array"]).contains("--table"));
    assert!(place.good(&["logs", "rule", "delete", "access"]).contains("is removed"));
    assert!(place.good(&["logs", "rule", "list"]).contains("there are no"));
}

#[test]
fn files_of_other_formats_go_in_and_one_that_breaks_off_tells_what_was_accepted() {
    let place = Place::new();
    let file = |name: &str, text: &str| fs::write(place.path(name), text).expect("a file");
    // Rows of long ago, past the 30 days that tables have by themselves.
    for table in ["T_CL", "W3CIISLog"] {
        place.good(&["logs", "retention", table, "--interactive", "730", "--total", "730"]);
    }
    file("rows.csv", "TimeGenerated,User Name,N\n2026-01-01 10:00:00,\"a,b\",1\n,c,2.5\n");
    let said = place.good(&["logs", "ingest", "--table", "T_CL", "--format", "csv", "rows.csv"]);
    assert!(said.contains("2 rows accepted into T_CL"), "{said}");
    let answer = place.good(&["logs", "query", "--format", "csv", "T_CL | summarize sum(N)"]);
    assert_eq!(answer, "sum_N\r\n3.5\r\n");

    file("web.log", "#Fields: date time cs-method sc-status\n2026-01-01 10:00:00 GET 200\n");
    let iis = ["logs", "ingest", "--table", "W3CIISLog", "--format", "iis", "web.log"];
    assert!(place.good(&iis).contains("1 row accepted"));
    let query = "W3CIISLog | project TimeGenerated, csMethod, scStatus";
    let answer = place.good(&["logs", "query", "--format", "csv", query]);
    assert!(answer.ends_with("2026-01-01T10:00:00Z,GET,200\r\n"), "{answer}");

    // The quote is never closed.
    file("broken.csv", &format!("N\n1\n2\n\"{}", "x\n".repeat(4 << 20)));
    let output = place.run(&["logs", "ingest", "--table", "T_CL", "--format", "csv", "broken.csv"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("2 rows accepted"), "{said}");
    assert!(said.contains("broken.csv: line 4: a row is longer than"), "{said}");
}

#[test]
fn a_large_file_is_loaded_and_a_bad_row_of_it_is_named() {
    let place = Place::new();
    let path = "x".repeat(400);
    let row = format!("{{\"CounterName\":\"a\",\"CounterValue\":1,\"CounterPath\":\"{path}\"}}\n");
    let half = (4 << 20) / row.len() + 1;
    fs::write(
        place.path("rows"),
        [row.repeat(half).as_str(), "soup\n", &row.repeat(half)].concat(),
    )
    .expect("rows");
    let output = place.run(&["logs", "ingest", "--table", "Perf", "rows"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "a row was refused");
    assert!(said.contains(&format!("{} rows accepted into Perf", 2 * half)), "{said}");
    assert!(
        said.contains("1 row refused") && said.contains(&format!("rows:{}: ", half + 1)),
        "{said}"
    );
    let query = "Perf | summarize n = count()";
    let answer = place.good(&["logs", "query", "--format", "csv", query]);
    assert_eq!(answer, format!("n\r\n{}\r\n", 2 * half));
}

#[test]
fn tables_keep_their_rows_for_as_long_as_they_are_told() {
    let place = Place::new();
    fs::write(place.path("rows"), "{\"N\":1,\"S\":\"a,b\"}\n{\"N\":2}\n{\"N\":3}\n").expect("rows");
    place.good(&["logs", "ingest", "--table", "T_CL", "rows"]);
    let listed = place.good(&["logs", "retention"]);
    assert!(listed.contains("T_CL") && listed.contains("30 days,    30 in all"), "{listed}");
    let set = place.good(&["logs", "retention", "T_CL", "--interactive", "90"]);
    assert!(set.contains("90 days,    90 in all"), "{set}");
    let basic = place.good(&["logs", "retention", "T_CL", "--plan", "basic", "--total", "100"]);
    assert!(basic.contains("Basic") && basic.contains("30 days,   100 in all"), "{basic}");
    let wrong = place.bad(&["logs", "retention", "T_CL", "--total", "5000"]);
    assert!(wrong.contains("total_retention_days") && wrong.contains("4383"), "{wrong}");

    let export = ["logs", "export", "T_CL | project N, S | sort by N asc", "--format", "csv"];
    place.good(&[&export[..], &["--output", "t.csv"]].concat());
    assert_eq!(
        fs::read_to_string(place.path("t.csv")).expect("a file"),
        "N,S\r\n1,\"a,b\"\r\n2,\r\n3,\r\n"
    );
    let again = place.bad(&[&export[..], &["--output", "t.csv"]].concat());
    assert!(again.contains("is there already"), "{again}");
    let wrong = place.bad(&["logs", "export", "Nothing_CL", "--output", "n.csv"]);
    assert!(wrong.contains("Nothing_CL"), "{wrong}");
    assert!(!place.path("n.csv").exists() && !place.path("n.csv.part").exists());

    let purge = ["logs", "purge", "T_CL", "N == 2"];
    let planned = place.good(&purge);
    assert!(planned.contains("1 row of T_CL would be removed from 1 file"), "{planned}");
    assert!(place.good(&[&purge[..], &["--yes"]].concat()).contains("1 row of T_CL removed"));
    let answer = place.good(&["logs", "query", "--format", "csv", "T_CL | summarize sum(N)"]);
    assert_eq!(answer, "sum_N\r\n4\r\n");
    let wrong = place.bad(&["logs", "purge", "T_CL", "N =="]);
    assert!(wrong.contains("syntax"), "{wrong}");
    let kept = place.good(&["logs", "maintain", "--force"]);
    assert!(
        kept.contains("no row is past its retention") && kept.contains("0 rows removed"),
        "{kept}"
    );
}

#[test]
fn a_document_is_printed_as_its_tree_or_its_faults_by_line_and_column() {
    let place = Place::new();
    fs::write(place.path("good.mof"), "instance of A { B = {1, 2}; };\n").expect("a document");
    let tree = place.good(&["dsc", "parse", "good.mof"]);
    assert!(serde_json::from_str::<serde_json::Value>(&tree).is_ok(), "{tree}");
    fs::write(place.path("bad.mof"), "instance of A {\n  B = ;\n};\n").expect("a document");
    let why = place.bad(&["dsc", "parse", "bad.mof"]);
    assert!(why.contains("bad.mof:2:"), "{why}");
    assert!(!place.data().exists(), "parsing makes no data directory");
}

#[test]
fn a_document_is_tested_applied_and_tested_again() {
    let place = Place::new();
    let motd = place.path("motd");
    let document = format!(
        "instance of MSFT_FileDirectoryConfiguration as $m {{ ResourceID = \"[File]m\"; \
         ModuleName = \"PSDesiredStateConfiguration\"; DestinationPath = \"{}\"; \
         Contents = \"hello\"; Ensure = \"Present\"; }};\n\
         instance of OMI_ConfigurationDocument {{ Version = \"2.0.0\"; Name = \"G\"; }};\n",
        motd.display()
    );
    fs::write(place.path("g.mof"), document).expect("a document");
    assert!(!place.run(&["dsc", "test", "g.mof"]).status.success());
    assert!(!motd.exists(), "a test changes nothing");
    place.good(&["dsc", "apply", "g.mof"]);
    assert_eq!(fs::read_to_string(&motd).expect("made"), "hello");
    place.good(&["dsc", "test", "g.mof"]);
    assert!(place.good(&["dsc", "get", "g.mof"]).contains("[File]m"));
}

#[test]
fn a_folder_goes_into_a_vault_and_back() {
    let place = Place::new();
    fs::create_dir(place.path("source")).expect("a folder");
    fs::write(place.path("source/file"), "bytes").expect("a file");
    fs::write(place.path("pass"), "secret\n").expect("a passphrase");
    let with = |arguments: &[&str]| {
        let mut all = vec!["backup"];
        all.extend_from_slice(arguments);
        all.extend_from_slice(&["--vault", "vault", "--passphrase-file", "pass"]);
        all.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>()
    };
    let good = |arguments: &[&str]| {
        let all = with(arguments);
        place.good(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    good(&["vault", "create"]);
    good(&["run", "source"]);
    assert!(good(&["points"]).contains("source"));
    assert!(good(&["check", "--read-data"]).contains("no damage"));
    good(&["restore", "--to", "target"]);
    let restored = place
        .path("target")
        .join(place.path("source/file").strip_prefix("/").expect("a whole path"));
    assert_eq!(fs::read_to_string(restored).expect("restored"), "bytes");
    let coded = |arguments: &[&str]| {
        let all = with(arguments);
        let output = place.run(&all.iter().map(String::as_str).collect::<Vec<_>>());
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    // A restore into what is there says how it goes on; the vault is not backed up into itself; and what
    // is missing is told by a status of its own.
    let (code, why) = coded(&["restore", "--to", "target"]);
    assert!(code == Some(1) && why.contains("--overwrite"), "{why}");
    let (code, said) = coded(&["restore", "--overwrite", "--to", "target"]);
    assert!(code == Some(0) && said.contains("1 files were there already and are right"), "{said}");
    let (code, said) = coded(&["run", "."]);
    assert!(code == Some(0) && said.contains("left out, it is the vault itself: "), "{said}");
    fs::write(place.path("patterns"), "# mine\n*.tmp\n").expect("patterns");
    fs::write(place.path("source/x.tmp"), "x").expect("a file");
    let patterns = ["run", "source", "no-such", "--exclude-file", "patterns", "-e", "*.o"];
    let (code, said) = coded(&patterns);
    assert!(code == Some(3) && said.contains("no-such: not there, so not backed up"), "{said}");
    assert!(said.contains("1 files and folders excluded"), "{said}");
    let (code, why) = coded(&["run", "no-such"]);
    assert!(code == Some(1) && why.contains("no-such"), "{why}");
    let (code, why) = coded(&["run", "source", "--exclude", "[a"]);
    assert!(code == Some(1) && why.contains("[a"), "{why}");
    // Damage is told once.
    let pack = fs::read_dir(place.path("vault/data")).expect("packs").flatten();
    let mut packs = pack.filter_map(|it| fs::read_dir(it.path()).ok()?.flatten().next());
    fs::remove_file(packs.next().expect("a pack").path()).expect("removed");
    let (code, said) = coded(&["check"]);
    assert!(code == Some(1), "{said}");
    assert_eq!(said.matches("it is missing, but an index names it").count(), 1, "{said}");
    fs::write(place.path("pass"), "wrong\n").expect("a passphrase");
    let all = with(&["points"]);
    let why = place.bad(&all.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(why.contains("passphrase"), "{why}");
}

#[test]
fn a_runbook_is_published_and_run_and_its_job_is_asked_for_in_kql() {
    let place = Place::new();
    fs::write(place.path("hello.sh"), "echo \"hello $1\"\n").expect("a script");
    place.good(&["automation", "runbook", "publish", "hello.sh"]);
    let twice = ["automation", "start", "hello", "--parameter", "who=you", "--parameter", "who=me"];
    let refused = place.bad(&twice);
    assert!(refused.contains("given twice"), "{refused}");
    let said = place.good(&["automation", "start", "hello", "--parameter", "who=you"]);
    assert!(said.contains("Completed") && said.contains("hello you"), "{said}");
    assert!(place.good(&["automation", "job"]).contains("Completed"));
    let query = "AzureDiagnostics | where Category == 'JobLogs' | summarize count() by ResultType";
    let rows = place.good(&["logs", "query", query]);
    assert!(rows.contains("Completed"), "{rows}");
    fs::write(place.path("bad.sh"), "exit 3\n").expect("a script");
    place.good(&["automation", "runbook", "publish", "bad.sh"]);
    assert!(!place.run(&["automation", "start", "bad"]).status.success());
}

#[test]
fn a_disk_is_protected_and_failed_over_by_commands() {
    let place = Place::new();
    fs::write(place.path("disk.img"), vec![7; 1 << 20]).expect("a disk");
    let disk = ["--disk", "disk.img", "--replica", "replica"];
    place.good(&[&["recovery", "protect", "m"][..], &disk].concat());
    place.good(&["recovery", "point", "m"]);
    fs::write(place.path("there.img"), "mine").expect("a file");
    let why = place.bad(&["recovery", "test-failover", "m", "--to", "there.img"]);
    assert!(why.contains("there.img") && why.contains("no test failover was begun"), "{why}");
    let status = place.good(&["recovery", "status", "m"]);
    assert!(
        status.contains("now possible: failover, failover --unplanned, disable, test-failover")
    );
    let why = place.bad(&["recovery", "test-failover", "m", "--to", "no/such/folder/drill.img"]);
    assert!(why.contains("goes on, end it: oms recovery cleanup m"), "{why}");
    let status = place.good(&["recovery", "status", "m"]);
    assert!(status.contains("is running; end it: oms recovery cleanup m"), "{status}");
    assert!(status.contains("now possible: cleanup\n"), "{status}");
    place.good(&["recovery", "cleanup", "m"]);
    place.good(&["recovery", "test-failover", "m", "--to", "drill.img"]);
    assert_eq!(fs::read(place.path("drill.img")).expect("the drill"), vec![7; 1 << 20]);
    place.good(&["recovery", "cleanup", "m"]);
    let moved = place.good(&["recovery", "failover", "m"]);
    assert!(moved.contains("as it was until the failover is committed: oms recovery commit m"));
    let why = place.bad(&["recovery", "disable", "m"]);
    assert!(why.contains("before a commit") && why.contains("oms recovery commit m"), "{why}");
    place.good(&["recovery", "commit", "m"]);
    let status = place.good(&["recovery", "status", "m"]);
    assert!(status.contains("Recovery"), "{status}");
    assert!(place.bad(&["recovery", "status", "nobody"]).contains("nobody"));
}

#[test]
fn a_copy_that_was_interrupted_goes_on_by_command() {
    let place = Place::new();
    fs::write(place.path("disk.img"), vec![7; 1 << 20]).expect("a disk");
    let disk = ["--disk", "disk.img", "--replica", "replica"];
    place.good(&[&["recovery", "protect", "m"][..], &disk].concat());
    place.good(&["recovery", "failover", "m"]);
    place.good(&["recovery", "commit", "m"]);
    fs::rename(place.path("replica"), place.path("away")).expect("out of reach");
    place.bad(&["recovery", "reprotect", "m"]);
    let _ = fs::remove_dir_all(place.path("replica"));
    fs::rename(place.path("away"), place.path("replica")).expect("back");
    let status = place.good(&["recovery", "status", "m"]);
    assert!(status.contains("Reprotecting") && status.contains("not complete"), "{status}");
    assert!(status.contains("now possible: replicate"), "{status}");
    let done = place.good(&["recovery", "replicate", "m"]);
    assert!(done.contains("ReverseProtected"), "{done}");
    place.good(&["recovery", "failback", "m"]);
}

#[test]
fn a_disk_of_another_length_is_noticed_and_protection_ends_by_command() {
    let place = Place::new();
    fs::write(place.path("disk.img"), vec![7; 1 << 20]).expect("a disk");
    let disk = ["--disk", "disk.img", "--replica", "replica"];
    let said = place.good(&[&["recovery", "protect", "m"][..], &disk].concat());
    assert!(said.contains("only writes through its tracked device are replicated"), "{said}");
    fs::write(place.path("disk.img"), vec![7; 2 << 20]).expect("behind its back");
    let why = place.bad(&["recovery", "point", "m"]);
    assert!(why.contains("disk.img") && why.contains("changed its length"), "{why}");
    let status = place.good(&["recovery", "status", "m"]);
    assert!(status.contains("Critical") && status.contains("not replicated now: "), "{status}");
    fs::write(place.path("disk.img"), vec![8; 1 << 20]).expect("its length, and other bytes");
    let why = place.bad(&["recovery", "point", "m"]);
    assert!(why.contains("something else than the protected device has written"), "{why}");
    let status = place.good(&["recovery", "status", "m"]);
    assert!(status.contains("ResyncRequired") && status.contains("repair"), "{status}");
    place.good(&["recovery", "repair", "m"]);
    place.good(&["recovery", "point", "m"]);
    place.good(&["recovery", "test-failover", "m", "--to", "drill.img"]);
    assert_eq!(fs::read(place.path("drill.img")).expect("the drill"), vec![8; 1 << 20]);
    place.good(&["recovery", "cleanup", "m"]);
    fs::remove_dir_all(place.path("replica")).expect("lost");
    let status = place.good(&["recovery", "status", "m"]);
    assert!(status.contains("the replica: ") && status.contains("disable"), "{status}");
    let ended = place.good(&["recovery", "disable", "m"]);
    assert!(ended.contains("its disk is ") && !ended.contains("left behind"), "{ended}");
    assert!(place.bad(&["recovery", "status", "m"]).contains("not found"));
}

#[test]
fn a_failover_goes_to_a_chosen_point_and_then_to_another_one() {
    let place = Place::new();
    fs::write(place.path("disk.img"), vec![7; 1 << 20]).expect("a disk");
    let disk = ["--disk", "disk.img", "--replica", "replica"];
    place.good(&[&["recovery", "protect", "m"][..], &disk].concat());
    fs::write(place.path("disk.img"), vec![8; 1 << 20]).expect("behind its back");
    place.bad(&["recovery", "point", "m"]);
    place.good(&["recovery", "repair", "m"]);
    let points = place.good(&["recovery", "points", "m"]);
    let points: Vec<&str> = points.lines().collect();
    let [first, .., last] = &points[..] else { panic!("{points:?}") };
    let time = first.split_whitespace().next().expect("a time");
    let id = last.split_whitespace().last().expect("an id");
    place.good(&["recovery", "test-failover", "m", "--to", "drill.img", "--point", time]);
    assert_eq!(fs::read(place.path("drill.img")).expect("the drill"), vec![7; 1 << 20]);
    place.good(&["recovery", "cleanup", "m"]);
    let why = place.bad(&["recovery", "failover", "m", "--point", "latest"]);
    assert!(why.contains("--unplanned"), "{why}");
    let failover = ["recovery", "failover", "m", "--unplanned", "--point"];
    let why = place.bad(&[&failover[..], &["newest"]].concat());
    assert!(why.contains("latest-application-consistent"), "{why}");
    let why = place.bad(&[&failover[..], &["2001-01-01T00:00:00Z"]].concat());
    assert!(why.contains(&format!("the oldest is of {time}")), "{why}");
    let moved = place.good(&[&failover[..], &[time]].concat());
    assert!(moved.contains(&format!("as of the recovery point of {time}")), "{moved}");
    assert!(moved.contains("now possible: commit, change-point\n"), "{moved}");
    let changed = place.good(&["recovery", "change-point", "m", "--point", id]);
    assert!(changed.contains("m runs as of the recovery point of "), "{changed}");
    place.good(&["recovery", "commit", "m"]);
    assert_eq!(fs::read(place.path("replica/disk.img")).expect("a disk"), vec![8; 1 << 20]);
    place.bad(&["recovery", "change-point", "m", "--point", "latest"]);
}

#[test]
fn what_an_ended_protection_kept_is_told_merged_and_discarded_by_commands() {
    let place = Place::new();
    fs::write(place.path("disk.img"), vec![7; 1 << 20]).expect("a disk");
    let disk = ["--disk", "disk.img", "--replica", "replica"];
    place.good(&[&["recovery", "protect", "m"][..], &disk].concat());
    assert!(place.good(&["recovery", "kept", "m"]).contains("no ended protection of m"));
    place.good(&["recovery", "failover", "m", "--unplanned"]);
    let log = place.path("replica/replication/log");
    fs::rename(&log, place.path("away")).expect("out of reach");
    fs::write(&log, "in its place").expect("a file");
    let ended = place.good(&["recovery", "disable", "m"]);
    assert!(ended.contains("oms recovery kept m"), "{ended}");
    fs::remove_file(&log).expect("removed");
    fs::rename(place.path("away"), &log).expect("back");
    let again = place.good(&["recovery", "disable", "m"]);
    assert!(again.contains("are one disk") && again.contains("oms recovery kept m"), "{again}");

    let kept = place.good(&["recovery", "kept", "m"]);
    for command in ["merge m --site primary", "discard m --site primary", "merge m --site recovery"]
    {
        assert!(kept.contains(&format!("oms recovery {command}\n")), "{kept}");
    }
    assert!(!kept.contains("discard m --site recovery"), "{kept}");
    let why = place.bad(&["recovery", "merge", "m"]);
    assert!(why.contains("--site primary") && why.contains("--site recovery"), "{why}");
    let merge = ["recovery", "merge", "m", "--site", "recovery"];
    let planned = place.good(&merge);
    assert!(planned.contains("nothing was done") && planned.contains("--confirm m"), "{planned}");
    let why = place.bad(&[&merge[..], &["--confirm", "n"]].concat());
    assert!(why.contains("is not the name of the machine"), "{why}");
    assert!(log.exists());
    place.good(&[&merge[..], &["--confirm", "m"]].concat());
    assert!(!place.path("replica/replication").exists());
    assert_eq!(fs::read(place.path("replica/disk.img")).expect("a disk"), vec![7; 1 << 20]);
    place.good(&["recovery", "discard", "m", "--confirm", "m"]);
    assert!(!place.path("disk.img.replication").exists());
    let ended = place.good(&["recovery", "disable", "m"]);
    assert!(ended.contains("its disk is ") && !ended.contains("keep it"), "{ended}");
    assert!(place.bad(&["recovery", "disable", "nobody"]).contains("nobody"));
}

#[test]
fn a_refused_runbook_leaves_nothing_behind() {
    let place = Place::new();
    fs::write(place.path("bin.py"), b"print(1)\xff").expect("a file");
    let why = place.bad(&["automation", "runbook", "publish", "bin.py"]);
    assert!(why.contains("not UTF-8 at byte 8"), "{why}");
    assert_eq!(place.good(&["automation", "runbook", "list"]), "no runbook yet\n");
    // One that was there stays as it was.
    fs::write(place.path("good.py"), "print(1)").expect("a file");
    let name = ["--name", "bin"];
    place.good(&[&["automation", "runbook", "publish", "good.py"][..], &name].concat());
    place.bad(&["automation", "runbook", "publish", "bin.py"]);
    assert!(place.good(&["automation", "runbook", "list"]).contains("Published"));
}

#[test]
fn a_query_looks_at_the_time_that_it_is_told() {
    let place = Place::new();
    let then = SystemClock.now().as_second() - 2 * 24 * 3600;
    let then = jiff::Timestamp::from_second(then).expect("a time");
    let rows = format!("{{\"TimeGenerated\":\"{then}\",\"N\":1}}\n{{\"N\":2}}\n");
    fs::write(place.path("rows"), rows).expect("rows");
    place.good(&["logs", "ingest", "--table", "T_CL", "rows"]);
    let asked = |timespan: &str| {
        let query = ["logs", "query", "--format", "csv", "--timespan", timespan];
        place.good(&[&query[..], &["T_CL | summarize sum(N)"]].concat())
    };
    assert_eq!(asked("PT1H"), "sum_N\r\n2\r\n");
    assert_eq!(asked("P3D"), "sum_N\r\n3\r\n");
    assert_eq!(asked(&format!("{then}/PT1H")), "sum_N\r\n1\r\n");
    // The end is not in it.
    assert_eq!(asked(&format!("PT1H/{then}")), "sum_N\r\n0\r\n");
    let why = place.bad(&["logs", "query", "--timespan", "an hour", "print 1"]);
    assert!(why.contains("an hour") && why.contains("ISO 8601"), "{why}");
}

#[test]
fn what_is_not_there_says_so_by_name() {
    let place = Place::new();
    for (arguments, name) in [
        (&["automation", "schedule"][..], "schedules"),
        (&["automation", "webhook"], "webhooks"),
        (&["recovery", "plan"], "recovery plans"),
        (&["logs", "query", "--format", "parquet", "print 1"], "Parquet"),
    ] {
        let why = place.bad(arguments);
        assert!(why.contains(name) && why.contains("not supported"), "{why}");
    }
}
