//! What the running process tells: metrics, spans, its configuration, progress.

use crate::support::{Place, Server, read, text};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A sample: its name, labels and value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Families of Prometheus' text format, version 0.0.4: kind, help and samples by name.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    samples: Vec<Sample>,
}

/// Reads the text format strictly: a family is one block, TYPE before samples, each series once, a
/// histogram whole.
fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut current, mut help) = (String::new(), None);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').expect("a name and words");
            help = Some((name.to_owned(), words.to_owned()));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let words = help.take().filter(|(of, _)| of == name).unwrap_or_default().1;
            current = name.to_owned();
            let family = Family { kind: kind.to_owned(), help: words, samples: Vec::new() };
            assert!(families.insert(current.clone(), family).is_none(), "{name} twice");
        } else {
            let sample = sample(line);
            let family = families.get_mut(&current).expect("a sample before its type");
            let stem = match family.kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| sample.0.strip_suffix(end))
                    .expect("a part of a histogram"),
                _ => sample.0.as_str(),
            };
            assert_eq!(stem, current, "{line}");
            let is_new = !family.samples.iter().any(|it| it.0 == sample.0 && it.1 == sample.1);
            assert!(is_new, "twice: {line}");
            family.samples.push(sample);
        }
    }
    families.iter().for_each(|(name, family)| check_family(name, family));
    families
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a name");
    let (name, mut rest) = line.split_at(end);
    let is_name = |name: &str| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
            && name.starts_with(|c: char| !c.is_ascii_digit())
    };
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        let mut inner = inner;
        loop {
            let (label, after) = inner.split_once("=\"").expect("a label");
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let (mut value, mut characters) = (String::new(), after.char_indices());
            let end = loop {
                match characters.next().expect("the end of a value") {
                    (_, '\\') => match characters.next().expect("an escaped character").1 {
                        'n' => value.push('\n'),
                        c @ ('"' | '\\') => value.push(c),
                        other => panic!("no such escape `{other}`: {line}"),
                    },
                    (at, '"') => break at,
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{label} twice: {line}");
            inner = &after[end + 1..];
            match inner.strip_prefix(',') {
                Some(more) => inner = more,
                None => break,
            }
        }
        rest = inner.strip_prefix('}').expect("the end of the labels");
    }
    let value = rest.strip_prefix(' ').expect("one blank");
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        value => value.parse().expect("a number"),
    };
    (name.to_owned(), labels, value)
}

fn check_family(name: &str, family: &Family) {
    let is_right = match family.kind.as_str() {
        "counter" => name.ends_with("_total"),
        "histogram" => name.ends_with("_seconds"),
        _ => !name.ends_with("_total"),
    };
    assert!(is_right, "{name} is a {}", family.kind);
    if family.kind != "histogram" {
        return;
    }
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for (part, labels, value) in &family.samples {
        let mut labels = labels.clone();
        let bound = labels.remove("le");
        let of = series.entry(labels).or_default();
        if part.ends_with("_bucket") {
            let bound = bound.expect("a bucket's bound");
            let bound = bound.replace("+Inf", "inf").parse().expect("a number");
            of.push((bound, *value));
        } else if part.ends_with("_count") {
            let (last, all) = of.last().expect("buckets before the count");
            assert_eq!((*last, all), (f64::INFINITY, value), "{name}");
        }
    }
    for buckets in series.values() {
        let is_sorted = buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
        assert!(is_sorted, "{name}: {buckets:?}");
    }
}

fn scrape(place: &Place, server: &Server) -> String {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let url = format!("{}/metrics", server.url);
    let refused = agent.get(&url).call().expect("an answer");
    assert_eq!(refused.status().as_u16(), 401, "metrics are not for strangers");
    let token = read(&place.data().join("metrics.token"));
    let answer = agent.get(&url).header("authorization", format!("Bearer {token}")).call();
    let mut answer = answer.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    let content = answer.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(content.starts_with("text/plain; version=0.0.4"), "{content}");
    answer.body_mut().read_to_string().expect("text")
}

/// An AgentId, which is a secret.
const NODE: &str = "6F9619FF-8B86-D011-B42D-00CF4FC964FF";

/// Gives each service something to do.
fn work(place: &Place, server: &Server) {
    fs::write(place.path("rows"), "{\"CounterName\":\"a\"}\n{\"CounterName\":\"b\"}\nsoup\n")
        .expect("rows");
    assert!(!place.run(&["logs", "ingest", "--table", "Perf", "rows"]).status.success());
    place.good(&["logs", "query", "Perf | where CounterName == 'a'"]);
    fs::write(place.path("hello.sh"), "echo hello\n").expect("a script");
    place.good(&["automation", "runbook", "publish", "hello.sh"]);
    place.good(&["automation", "start", "hello"]);
    fs::write(place.path("disk.img"), vec![7; 1 << 20]).expect("a disk");
    let disk = ["--disk", "disk.img", "--replica", "replica"];
    place.good(&[&["recovery", "protect", "m"][..], &disk].concat());
    place.good(&["recovery", "failover", "m", "--unplanned"]);
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let reports = format!("{}/PSDSCPullServer.svc/Nodes(AgentId='{NODE}')/Reports()", server.url);
    agent.get(reports).call().expect("an answer");
    agent.get(format!("{}/nowhere", server.url)).call().expect("an answer");
}

#[test]
fn metrics_are_told_in_the_text_format_and_each_is_documented() {
    let place = Place::new();
    let server = place.serve();
    work(&place, &server);
    let families = parse(&scrape(&place, &server));
    let value = |name: &str, labels: &[(&str, &str)]| {
        let stem = families.get(name).or_else(|| families.get(name.trim_end_matches("_count")));
        let family = stem.unwrap_or_else(|| panic!("{name} is not there"));
        let fits = |sample: &&Sample| {
            let has = |label: &(&str, &str)| sample.1.get(label.0).is_some_and(|v| v == label.1);
            sample.0 == name && labels.iter().all(has)
        };
        family.samples.iter().filter(fits).map(|sample| sample.2).sum::<f64>()
    };
    assert!(value("oms_logs_records_total", &[("outcome", "accepted")]) >= 2.0);
    assert!(value("oms_logs_query_seconds_count", &[("outcome", "ok")]) >= 1.0);
    assert!(value("oms_logs_wal_sync_seconds_count", &[]) >= 1.0);
    assert!(value("oms_journal_commit_seconds_count", &[]) >= 1.0);
    assert_eq!(value("oms_automation_jobs_total", &[("state", "Completed")]), 1.0);
    assert!(value("oms_automation_stream_bytes_total", &[]) >= 5.0);
    assert_eq!(value("oms_recovery_failovers_total", &[("kind", "unplanned")]), 1.0);
    assert!(value("oms_recovery_sent_bytes_total", &[("kind", "copy")]) >= f64::from(1 << 20));
    assert_eq!(value("oms_http_requests_total", &[("route", "none"), ("status", "404")]), 1.0);
    assert_eq!(value("oms_dsc_requests_total", &[]), 1.0);
    let undocumented: Vec<&String> =
        families.iter().filter(|(_, family)| family.help.is_empty()).map(|it| it.0).collect();
    assert!(undocumented.is_empty(), "not in ARCHITECTURE.md: {undocumented:?}");
    // Ids, names and queries of callers are no labels.
    let node = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
    let labels = families.values().flat_map(|family| &family.samples).flat_map(|it| it.1.values());
    let stray: Vec<&String> = labels.filter(|value| value.to_lowercase().contains(node)).collect();
    assert!(stray.is_empty(), "{stray:?}");
    assert!(server.stop());
}

#[test]
fn every_documented_metric_has_its_kind_and_unit() {
    let table = include_str!("../../../ARCHITECTURE.md");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| `oms_"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() > 30, "{}", rows.len());
    let names: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names.len(), rows.len(), "a name twice");
    for row in rows {
        let (name, kind, unit) = (row[0].trim_matches('`'), row[1], row[2]);
        let is_right = match kind {
            "counter" => name.ends_with("_total"),
            "histogram" => name.ends_with("_seconds") && unit == "seconds",
            "gauge" => name.ends_with(&format!("_{unit}")),
            _ => false,
        };
        assert!(is_right && row.len() == 5, "{row:?}");
    }
}

/// The lines of a log in JSON that say that a span ended.
fn spans(log: &str) -> BTreeMap<String, Vec<serde_json::Value>> {
    let mut spans: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("one JSON object a line");
        if line["fields"]["message"] == "close" {
            let name = line["span"]["name"].as_str().expect("a name").to_owned();
            spans.entry(name).or_default().push(line["span"].clone());
        }
    }
    spans
}

#[test]
fn a_job_a_query_and_each_transfer_is_a_span_without_secrets() {
    let place = Place::new();
    let log = place.path("log");
    let mut serve = place.oms(&["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]);
    serve.env(
        "OMS_LOG",
        "oms=info,oms_logs=info,oms_automation=info,oms_recovery=info,oms_dsc=info",
    );
    serve.stderr(fs::File::create(&log).expect("a log"));
    let server = Server::start(serve);
    work(&place, &server);
    let secret = "extend Password = 'hunter2-hunter2'";
    let long = format!("Perf | where CounterName != '{}' | {secret}", "x".repeat(300));
    place.good(&["logs", "query", &long]);
    assert!(server.stop());
    let log = read(&log);
    let spans = spans(&log);
    let one = |name: &str| &spans.get(name).unwrap_or_else(|| panic!("no {name}: {log}"))[0];
    let job = one("job");
    assert!(job["job"].as_str().is_some_and(|id| id.len() == 36), "{job}");
    assert_eq!(job["outcome"], "ok", "{job}");
    assert!(job["stream_bytes"].as_u64().is_some_and(|bytes| bytes >= 5), "{job}");
    assert_eq!(job["exit_code"], 0, "{job}");
    let query = one("query");
    assert_eq!(query["text"], "Perf | where CounterName == 'a'", "{query}");
    assert_eq!((&query["outcome"], &query["rows"]), (&"ok".into(), &1.into()), "{query}");
    let longest = spans["query"].iter().filter_map(|it| it["text"].as_str()).map(str::len).max();
    assert_eq!(longest, Some(200), "a query's text is cut");
    let copy = one("replication");
    assert_eq!((&copy["outcome"], &copy["machine"]), (&"ok".into(), &"m".into()), "{copy}");
    assert!(copy["copy_bytes"].as_u64().is_some_and(|bytes| bytes >= 1 << 20), "{copy}");
    assert!(one("flush")["rows"].as_u64().is_some_and(|rows| rows >= 2));
    assert!(one("dsc_request")["status"].as_u64().is_some_and(|status| status >= 400));
    let admin: serde_json::Value =
        serde_json::from_str(&read(&place.data().join("admin.json"))).expect("JSON");
    for secret in ["client_secret", "workspace_key", "dsc_registration_key", "automation_key"] {
        assert!(!log.contains(admin[secret].as_str().expect("a secret")), "{secret}");
    }
    assert!(one("dsc_request").as_object().is_some_and(|span| span.len() == 4), "no AgentId");
    assert!(log.contains("request refused") && !log.to_uppercase().contains(NODE), "no AgentId");
    assert!(!log.contains("hunter2"), "past the bound nothing of a query is shown");
}

#[test]
fn a_backup_is_a_span_with_what_it_read() {
    let place = Place::new();
    fs::write(place.path("file"), vec![1; 3000]).expect("a file");
    fs::write(place.path("pass"), "secret-passphrase\n").expect("a passphrase");
    let vault = ["--vault", "vault", "--passphrase-file", "pass"];
    place.good(&[&["backup", "vault", "create"][..], &vault].concat());
    for (verb, operation) in [
        (&["run", "file"][..], "backup"),
        (&["check", "--read-data"], "verify"),
        (&["restore", "--to", "target"], "restore"),
    ] {
        let arguments = [&["backup"][..], verb, &vault, &["--log-format", "json"]].concat();
        let output = place.oms(&arguments).env("OMS_LOG", "oms_backup=info").output();
        let log = text(&output.expect("it starts").stderr);
        let spans = spans(&log);
        let span = &spans.get("backup_operation").expect("a span")[0];
        assert_eq!(span["operation"], operation, "{span}");
        assert_eq!(span["outcome"], "ok", "{span}");
        assert!(span["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{span}");
        assert!(!log.contains("secret-passphrase"), "{log}");
    }
}

#[test]
fn flags_are_worth_more_than_the_environment_and_both_more_than_the_file() {
    let place = Place::new();
    let file = "data = \"from-file\"\njournal = \"sqlite\"\n[serve]\nlisten = \"127.0.0.1:1\"\n\
                services = [\"logs\", \"dsc\"]\n[logs]\nflush_bytes = 1000\n";
    fs::write(place.path("oms.toml"), file).expect("a file");
    let shown = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oms"));
        command.current_dir(place.path("")).args([
            "--config",
            "oms.toml",
            "serve",
            "--print-config",
        ]);
        command.args(arguments).envs(variables.iter().copied());
        text(&command.output().expect("it starts").stdout)
    };
    let plain = shown(&[], &[]);
    assert!(plain.contains("data = \"from-file\"") && plain.contains("127.0.0.1:1\""), "{plain}");
    let variables = [("OMS_LISTEN", "127.0.0.1:2"), ("OMS_LOGS_FLUSH_BYTES", "2000")];
    let varied = shown(&[], &variables);
    assert!(varied.contains("127.0.0.1:2\"") && varied.contains("flush_bytes = 2000"), "{varied}");
    let flagged = shown(&["--listen", "127.0.0.1:3", "--services", "backup"], &variables);
    assert!(flagged.contains("127.0.0.1:3\"") && flagged.contains("\"backup\""), "{flagged}");
    assert!(!flagged.contains("\"dsc\""), "{flagged}");
    let journal = shown(&[], &[("OMS_JOURNAL", "postgres://me:hunter2@db/oms")]);
    assert!(journal.contains("@db/oms") && !journal.contains("hunter2"), "{journal}");

    fs::write(place.path("bad.toml"), "[serve]\nlissen = 1\n").expect("a file");
    let why = place.bad(&["--config", "bad.toml", "serve"]);
    assert!(why.contains("bad.toml") && why.contains("line 2") && why.contains("lissen"), "{why}");
    let mut serve = place.oms(&["serve", "--listen", "127.0.0.1:0"]);
    let refused = serve.env("OMS_JOURNAL", "postgres://me:hunter2@db/oms").output();
    let why = text(&refused.expect("it starts").stderr);
    assert!(why.contains("not supported") && !why.contains("hunter2"), "{why}");
    assert!(!place.data().join("journal.db").exists(), "no other journal is begun");
}

#[test]
fn a_subset_is_served_and_the_rest_says_that_it_is_not() {
    let place = Place::new();
    let store = place.path("store");
    fs::write(place.path("oms.toml"), format!("store = {store:?}\n")).expect("a file");
    let arguments = ["--config", "oms.toml", "serve", "--listen", "127.0.0.1:0", "--services"];
    for service in ["logs", "automation", "dsc", "backup", "recovery", "logs,dsc"] {
        let server = Server::start(place.oms(&[&arguments[..], &[service]].concat()));
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let node = "PSDSCPullServer.svc/Nodes(AgentId='6F9619FF-8B86-D011-B42D-00CF4FC964FF')";
        let url = format!("{}/{node}/Reports()", server.url);
        let mut answer = agent.get(url).call().expect("an answer");
        let body = answer.body_mut().read_to_string().expect("text");
        assert_eq!(body.contains("no such path"), !service.contains("dsc"), "{service}: {body}");
        for (command, of) in [
            (&["logs", "tables"][..], "logs"),
            (&["automation", "job"], "automation"),
            (&["dsc", "nodes"], "dsc"),
            (&["recovery", "status"], "recovery"),
        ] {
            match service.contains(of) {
                true => drop(place.good(command)),
                false => {
                    let why = place.bad(command);
                    assert!(why.contains(&format!("service=`{of}`")), "{service}: {why}");
                }
            }
        }
        assert!(server.stop(), "{service}");
    }
    assert!(store.join("logs").is_dir() && !place.data().join("logs").exists());
}

/// A pseudo-terminal of util-linux' `script` stands in for a person.
#[test]
fn progress_is_a_line_on_a_terminal_and_nothing_elsewhere() {
    let place = Place::new();
    fs::write(place.path("big"), vec![3; 8 << 20]).expect("a file");
    fs::write(place.path("pass"), "secret\n").expect("a passphrase");
    let vault = "--vault vault --passphrase-file pass";
    place.good(&["backup", "vault", "create", "--vault", "vault", "--passphrase-file", "pass"]);
    let oms = env!("CARGO_BIN_EXE_oms");
    let on_terminal = |line: &str| {
        let mut script = Command::new("script");
        script.args(["-qefc", &format!("{oms} {line}"), "/dev/null"]);
        let output = script.current_dir(place.path("")).stdin(Stdio::null()).output();
        let output = output.expect("script runs");
        assert!(output.status.success(), "{}", text(&output.stdout));
        text(&output.stdout)
    };
    let told = on_terminal(&format!("backup run {vault} big"));
    assert!(told.contains("\rbackup  ") && told.contains("\x1b[K"), "{told:?}");
    assert!(on_terminal(&format!("backup check --read-data {vault}")).contains("\rcheck  "));
    let told = on_terminal(&format!("backup restore --to target {vault}"));
    assert!(told.contains("\rrestore  [") && told.contains("of 8.0 MiB"), "{told:?}");
    fs::write(place.path("rows"), "{\"CounterName\":\"a\"}\n").expect("rows");
    let told = on_terminal("--data data logs ingest --table Perf rows");
    assert!(told.contains("\ringest  ["), "{told:?}");
    fs::write(place.path("disk.img"), vec![7; 1 << 20]).expect("a disk");
    let told = on_terminal("--data data recovery protect m --disk disk.img --replica replica");
    assert!(told.contains("\rcopy  ["), "{told:?}");
    let told = on_terminal(&format!("backup run --json {vault} big"));
    assert!(!told.contains('\x1b'), "{told:?}");
    let output =
        place.run(&["backup", "run", "--vault", "vault", "--passphrase-file", "pass", "big"]);
    assert_eq!(text(&output.stderr), "", "nothing where nobody looks");
}

/// As in `oms … | head`: who has read enough goes. A server goes on and ends well; what has nothing else to
/// do than to write ends as by SIGPIPE.
#[test]
fn a_reader_that_goes_away_breaks_nothing() {
    let place = Place::new();
    let mut serve = place.oms(&["serve", "--listen", "127.0.0.1:0", "--services", "dsc"]);
    let mut child = serve.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    while !line.starts_with("data in ") {
        line.clear();
        assert!(output.read_line(&mut line).expect("a line") > 0, "it ended by itself");
    }
    drop(output);
    let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(asked.expect("kill").success());
    assert!(child.wait().expect("its end").success(), "it stops as it should");
    assert!(!place.data().join("oms.sock").exists());

    let mut query = place.oms(&["logs", "query", "range x from 1 to 20000 step 1"]);
    let mut child = query.stdout(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("its end").code(), Some(141));
}

/// What a pipe holds can be read only once.
#[test]
fn rows_come_through_a_named_pipe() {
    let place = Place::new();
    let pipe = place.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let writer = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::write(pipe, "{\"a\":1}\n{\"a\":2}\n").expect("written"))
    };
    let said = place.good(&["logs", "ingest", "--table", "Piped_CL", "pipe"]);
    assert!(said.starts_with("2 rows accepted"), "{said}");
    writer.join().expect("no panic");
}

/// Ctrl-C while a runbook runs: the job ends with everything that it started.
#[test]
fn an_interrupt_ends_the_job_and_what_it_started() {
    let place = Place::new();
    // Its own folder is the one place that it may write to.
    let script = "sleep 1000 & echo $! $$ > pids.new; mv pids.new pids; wait\n";
    fs::write(place.path("long.sh"), script).expect("a script");
    place.good(&["automation", "runbook", "publish", "long.sh"]);
    let mut start = place.oms(&["automation", "start", "long"]);
    let start = start.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let start = start.expect("the program starts");
    let mut pids = String::new();
    for look in 0.. {
        pids = found_below(&place.data(), "pids").map(|path| read(&path)).unwrap_or_default();
        if !pids.is_empty() {
            break;
        }
        assert!(look < 3_000, "the job did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let asked = Command::new("kill").args(["-INT", &start.id().to_string()]).status();
    assert!(asked.expect("kill").success());
    let ended = start.wait_with_output().expect("its end");
    let told = text(&ended.stdout);
    assert!(ended.status.code() == Some(130) && told.contains("Stopped"), "{told}");
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert_eq!(pids.len(), 2, "{pids:?}");
    for pid in pids {
        assert!(!is_running(pid), "{pid} is left");
    }
    assert!(place.good(&["automation", "job"]).contains("Stopped"));
}

/// Ctrl-C while a folder is backed up, or restored: no lock and no unfinished file is left, and a restore
/// goes on where it was.
#[test]
fn an_interrupted_backup_leaves_no_lock_and_a_restore_goes_on() {
    let place = Place::new();
    fs::create_dir(place.path("source")).expect("a folder");
    let noise =
        |file: u64| (0..4_000_000_u64).map(move |at| (at.wrapping_mul(at ^ file) >> 7) as u8);
    for file in 0..12 {
        let bytes: Vec<u8> = noise(file).collect();
        fs::write(place.path(&format!("source/{file}")), bytes).expect("a file");
    }
    fs::write(place.path("pass"), "secret\n").expect("a passphrase");
    let with = |arguments: &[&'static str]| {
        [&["backup"], arguments, &["--vault", "vault", "--passphrase-file", "pass"]].concat()
    };
    place.good(&with(&["vault", "create"]));
    // As soon as it says by what it makes that it is on its way.
    let interrupt = |arguments: &[&'static str], has_begun: &dyn Fn() -> bool| {
        let mut child = place.oms(&with(arguments)).stdout(Stdio::piped()).spawn().expect("starts");
        while child.try_wait().expect("its state").is_none() && !has_begun() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        child.wait().expect("its end").code()
    };
    let is_in = |name: &str| fs::read_dir(place.path(name)).is_ok_and(|it| it.count() > 0);
    let code = interrupt(&["run", "source"], &|| is_in("vault/locks"));
    assert!(matches!(code, Some(0 | 130)), "{code:?}");
    assert!(!is_in("vault/locks"), "a lock is left");
    place.good(&with(&["run", "source"]));
    let code = interrupt(&["restore", "--to", "target"], &|| place.path("target").exists());
    assert!(matches!(code, Some(0 | 130)), "{code:?}");
    assert!(!is_in("vault/locks"), "a lock is left");
    place.good(&with(&["restore", "--overwrite", "--to", "target"]));
    let below = place.path("source").strip_prefix("/").expect("a whole path").to_owned();
    for file in 0..12 {
        let restored = place.path("target").join(&below).join(file.to_string());
        assert!(fs::read(restored).expect("restored").into_iter().eq(noise(file)), "{file}");
    }
    assert_eq!(fs::read_dir(place.path("target").join(&below)).expect("a folder").count(), 12);
}

/// Nobody listens, or nothing can be written down: a status that shells know, and no panic.
#[test]
fn a_closed_or_full_standard_output_ends_a_command_quietly_or_with_an_error() {
    let place = Place::new();
    place.good(&["recovery", "status"]);
    for arguments in [&["recovery", "status"][..], &["--help"], &["logs", "--help"], &["--version"]]
    {
        let ended = |output: Stdio| {
            let child = place.oms(arguments).stdout(output).stderr(Stdio::piped()).spawn();
            let ended = child.expect("starts").wait_with_output().expect("its end");
            (ended.status.code(), text(&ended.stderr))
        };
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let (code, told) = ended(writer.into());
        assert_eq!((code, told.as_str()), (Some(141), ""), "{arguments:?}");
        let full = fs::File::options().write(true).open("/dev/full").expect("a full device");
        let (code, told) = ended(full.into());
        assert!(code == Some(1) && told.contains("standard output"), "{arguments:?}: {told}");
        assert!(!told.contains("panicked"), "{told}");
    }
}

/// Whether a process has not ended; who inherits it may be late to take note of its end.
fn is_running(pid: &str) -> bool {
    let stat = read(Path::new(&format!("/proc/{pid}/stat")));
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The first file of that name in a folder or below.
fn found_below(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => found_below(&entry.path(), name),
        _ => (entry.file_name() == *name).then(|| entry.path()),
    })
}
