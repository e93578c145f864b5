//! `oms serve` with clients and servers that are not ours: Azure's own Python client, a journal in
//! PostgreSQL that several processes share, and tables in S3 that they do.

use crate::support::{Place, Server, text};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

fn variable(name: &str, what: &str) -> String {
    let found = std::env::var(name);
    assert!(found.is_ok(), "{name} names {what}");
    found.unwrap_or_default()
}

#[test]
fn azures_client_lists_what_is_served() {
    let python = variable("OMS_INTEROP_PYTHON", "a Python with the packages of .ci/interop.txt");
    let place = Place::new();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    fs::write(place.path("cert.pem"), made.cert.pem()).expect("written");
    fs::write(place.path("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let options = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let listen = ["serve", "--listen", "127.0.0.1:0", "--services", "dsc,recovery"];
    let server = Server::start(place.oms(&[&listen[..], &options].concat()));
    let output = Command::new(&python)
        .args(["-c", include_str!("interop.py"), &server.url])
        .arg(place.data().join("admin.json"))
        .env("REQUESTS_CA_BUNDLE", place.path("cert.pem"))
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let listed = "Microsoft.Automation/automationAccounts,Microsoft.RecoveryServices/vaults\n";
    assert_eq!(text(&output.stdout), listed);
    assert!(server.stop());
}

/// Azure's own client of the Logs Ingestion API, with a token of the program's own endpoint.
#[test]
fn azures_client_sends_records_through_a_rule() {
    let python = variable("OMS_INTEROP_PYTHON", "a Python with the packages of .ci/interop.txt");
    let place = Place::new();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    fs::write(place.path("cert.pem"), made.cert.pem()).expect("written");
    fs::write(place.path("key.pem"), made.signing_key.serialize_pem()).expect("written");
    fs::write(place.path("rule.json"), include_str!("access.rule.json")).expect("written");
    let put = place.good(&["logs", "rule", "put", "rule.json"]);
    let rule = put.trim().rsplit(' ').next().expect("an immutable id").to_owned();
    let options = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let listen = ["serve", "--listen", "127.0.0.1:0", "--services", "logs"];
    let server = Server::start(place.oms(&[&listen[..], &options].concat()));
    let output = Command::new(&python)
        .args(["-c", include_str!("ingestion.py"), &server.url])
        .arg(place.data().join("admin.json"))
        .arg(&rule)
        .env("REQUESTS_CA_BUNDLE", place.path("cert.pem"))
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected = "404 StreamNotFound\n404 DataCollectionRuleNotFound\n1 400 2\n";
    assert_eq!(text(&output.stdout), expected);
    let query = "Failures_CL | summarize count(), dcount(Number), sum(Number), min(Code)";
    let answer = place.good(&["logs", "query", "--format", "csv", query]);
    // The odd numbers below 20,000.
    assert!(answer.ends_with("\r\n10000,10000,100000000,500\r\n"), "{answer}");
    assert!(server.stop());
}

/// Three senders of the HTTP Data Collector API, as they are published.
#[test]
fn senders_of_the_data_collector_api_fill_a_custom_table() {
    let python = variable("OMS_INTEROP_PYTHON", "a Python with the packages of .ci/interop.txt");
    let place = Place::new();
    place.good(&["logs", "tables"]);
    let admin = fs::read_to_string(place.data().join("admin.json")).expect("credentials");
    let workspace =
        admin.split("\"workspace_id\": \"").nth(1).and_then(|rest| rest.split('"').next());
    let host = format!("{}.ods.opinsights.azure.com", workspace.expect("an id"));
    let made = rcgen::generate_simple_self_signed(vec![host]).expect("a certificate");
    fs::write(place.path("cert.pem"), made.cert.pem()).expect("written");
    fs::write(place.path("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let options = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let listen = ["serve", "--listen", "127.0.0.1:0", "--services", "logs"];
    let server = Server::start(place.oms(&[&listen[..], &options].concat()));
    let port = server.url.rsplit(':').next().expect("a port");
    let output = Command::new(&python)
        .args(["-c", include_str!("collector.py"), port])
        .arg(place.data().join("admin.json"))
        .env("REQUESTS_CA_BUNDLE", place.path("cert.pem"))
        .env("NO_PROXY", "*")
        .output()
        .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected = "200 0\n1000\nAccepted\n403 InvalidAuthorization\nTrue True\n";
    assert_eq!(text(&output.stdout), expected);
    let query = "Interop_CL | summarize count(), sum(Number_d), countif(Even_b), \
                 countif(Number_s == '[1]'), countif(Text_s has 'grüße'), countif(isnotnull(At_t)), \
                 countif(isnotnull(Id_g)) by Sender_s | sort by Sender_s asc";
    let answer = place.good(&["logs", "query", "--format", "csv", query]);
    let rows: Vec<&str> = answer.lines().skip(1).collect();
    let expected = [
        "api,1000,499500.0,500,0,1000,0,0",
        "client,1000,499500.0,500,0,1000,1000,0",
        "wrapper,1000,0.0,500,1000,1000,1000,1000",
    ];
    assert_eq!(rows, expected, "{answer}");
    let told = "Operation | where OperationKey == 'Interop_CL' | project Detail";
    assert!(server.stop(), "what was refused is told when it ends");
    let told = place.good(&["logs", "query", "--format", "csv", told]);
    assert!(told.contains("2 records of Interop_CL were refused"), "{told}");
}

/// Serves some services of a place on a shared journal.
fn start(place: &Place, journal: (&str, &str), services: &str) -> Command {
    let (url, schema) = journal;
    let mut command = place.oms(&["serve", "--listen", "127.0.0.1:0", "--services", services]);
    command.env("OMS_JOURNAL", url).env("OMS_JOURNAL_SCHEMA", schema);
    command
}

/// Two processes share a journal: what one's service does is a record in the other's workspace. A
/// service runs in one of them at a time; when its process is killed another takes it over.
#[test]
fn services_in_several_processes_share_a_journal_in_postgresql() {
    let url = variable("OMS_INTEROP_POSTGRES", "a PostgreSQL server");
    let schema = format!("serve_{}", std::process::id());
    let journal = (url.as_str(), schema.as_str());
    let (first, second, third) = (Place::new(), Place::new(), Place::new());
    let logs = Server::start(start(&first, journal, "logs"));

    // A directory of another owner gets nothing.
    let stranger = Place::new();
    let refused = start(&stranger, journal, "dsc").output().expect("the program starts");
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("`keys`"), "{}", text(&refused.stderr));

    second.join(&first);
    third.join(&first);
    let mut dsc = Server::start(start(&second, journal, "dsc"));
    let document =
        "instance of OMI_ConfigurationDocument { Version = \"2.0.0\"; Name = \"G\"; };\n";
    fs::write(second.path("Web.mof"), document).expect("a document");
    let held = start(&third, journal, "dsc").stderr(Stdio::piped()).spawn().expect("starts");
    second.good(&["dsc", "publish", "Web.mof"]);
    // The other waits for a process that was killed, and this one goes on.
    let output = held.wait_with_output().expect("its end");
    assert!(!output.status.success(), "{}", text(&output.stdout));
    let why = text(&output.stderr);
    assert!(why.contains("runs in another process") && why.contains("`dsc`"), "{why}");

    let key = fs::read_to_string(first.data().join("admin.json")).expect("credentials");
    let key =
        key.split("\"dsc_registration_key\": \"").nth(1).and_then(|rest| rest.split('"').next());
    fs::write(second.path("key"), key.expect("a key")).expect("written");
    let server = format!("{}/PSDSCPullServer.svc", dsc.url);
    let pull = ["dsc", "pull", "--server", &server, "--configuration", "Web", "--state", "node"];
    second.good(&[&pull[..], &["--registration-key-file", "key"]].concat());
    let query = "AzureDiagnostics | where Category == 'DscNodeStatus' | count";
    let none = "Count\r\n0\r\n";
    let is_told = (0..120).any(|_look| {
        std::thread::sleep(Duration::from_millis(500));
        first.good(&["logs", "query", "--format", "csv", query]) != none
    });
    assert!(is_told, "no record of the node's report");

    dsc.child.kill().expect("kill -9");
    dsc.child.wait().expect("its end");
    let takes_over = Server::start(start(&third, journal, "dsc"));
    assert!(third.good(&["dsc", "nodes"]).contains("Compliant"), "the registration is shared");
    assert!(takes_over.stop());
    assert!(logs.stop());
}

#[cfg(test)]
mod s3;

/// One process is told by its configuration, and the other one by its environment.
#[test]
fn two_processes_keep_their_logs_in_one_s3_bucket() {
    let (_s3, endpoint) = s3::start();

    let (a, b) = (Place::new(), Place::new());
    let config = format!(
        "[logs]\nstore = \"s3://bucket/logs\"\nshared = true\nrefresh_seconds = 1\n\
         [logs.store_options]\nregion = \"us-east-1\"\nendpoint = \"{endpoint}\"\n\
         allow_http = \"true\"\naccess_key_id = \"key\"\nsecret_access_key = \"secret\"\n"
    );
    fs::write(a.path("oms.toml"), config).expect("written");
    let configured = ["--config", "oms.toml"];
    fs::write(a.path("rows"), "{\"N\":1}\n{\"N\":2}\n").expect("rows");
    let ingest = ["logs", "ingest", "--table", "Both_CL", "rows"];
    let said = a.good(&[&configured[..], &ingest].concat());
    assert!(said.contains("2 rows accepted"), "{said}");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--services", "logs"];
    let server = Server::start(a.oms(&[&configured[..], &serve].concat()));

    b.join(&a);
    fs::write(b.path("rows"), "{\"N\":3}\n{\"N\":\"four\"}\n").expect("rows");
    let mut other = b.oms(&ingest);
    let told = [
        ("OMS_LOGS_STORE", "s3://bucket/logs"),
        ("OMS_LOGS_SHARED", "true"),
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let output = other.envs(told).output().expect("the program starts");
    let said = text(&output.stdout);
    assert!(said.contains("1 row accepted"), "one is text: {said}{}", text(&output.stderr));

    let query = ["logs", "query", "--format", "csv", "Both_CL | summarize count(), sum(N)"];
    let mut answer = String::new();
    for _ in 0..300 {
        answer = a.good(&query);
        if answer.ends_with("\r\n3,6.0\r\n") || answer.ends_with("\r\n3,6\r\n") {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(answer.contains("\r\n3,6"), "the one that serves looks each second: {answer}");
    assert!(a.good(&["logs", "tables"]).contains("s3://bucket/logs/Both_CL/"));
    assert!(server.stop());
}

/// What it acknowledged and did not flush is in the bucket alone.
#[test]
fn a_process_without_a_disk_loses_nothing_with_its_machine() {
    let (_s3, endpoint) = s3::start();
    let config = format!(
        "[logs]\nstore = \"s3://bucket/logs\"\ndiskless = \"pod-0\"\nflush_age_seconds = 86400\n\
         log_interval_milliseconds = 20\n\
         [logs.store_options]\nregion = \"us-east-1\"\nendpoint = \"{endpoint}\"\n\
         allow_http = \"true\"\naccess_key_id = \"key\"\nsecret_access_key = \"secret\"\n"
    );
    let configured = ["--config", "oms.toml"];
    let serve = ["serve", "--listen", "127.0.0.1:0", "--services", "logs"];
    let ingest = ["logs", "ingest", "--log-type", "Kept", "rows"];
    let (lost, next) = (Place::new(), Place::new());
    for place in [&lost, &next] {
        fs::write(place.path("oms.toml"), &config).expect("written");
    }
    fs::write(lost.path("rows"), "[{\"N\":1},{\"N\":2}]").expect("rows");
    let server = Server::start(lost.oms(&[&configured[..], &serve].concat()));
    let said = lost.good(&[&configured[..], &ingest].concat());
    assert!(said.contains("2 records accepted"), "{said}");
    next.join(&lost);
    next.good(&[&configured[..], &["logs", "tables"]].concat());
    fs::write(lost.path("rows"), "[{\"N\":0}]").expect("rows");
    lost.good(&[&configured[..], &ingest].concat());
    drop(server);
    fs::remove_dir_all(lost.data()).expect("removed");

    // A command beside it takes nobody's place.
    let query = ["logs", "query", "--format", "csv", "Kept_CL | summarize count(), sum(N_d)"];
    let alone = next.good(&[&configured[..], &["logs", "tables"]].concat());
    assert!(!alone.contains("Kept_CL"), "nothing was flushed: {alone}");
    let server = Server::start(next.oms(&[&configured[..], &serve].concat()));
    let answer = next.good(&query);
    assert!(answer.contains("\r\n3,3"), "{answer}");
    fs::write(next.path("rows"), "[{\"N\":4}]").expect("rows");
    next.good(&[&configured[..], &ingest].concat());
    let answer = next.good(&query);
    assert!(answer.contains("\r\n4,7"), "{answer}");
    assert!(server.stop());
}
