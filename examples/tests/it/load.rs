//! Records and reports that come in while the process is told to end, or killed.

use crate::support::{Place, Server};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many things of each kind are acknowledged before the process is told to end.
const ACKNOWLEDGED_BEFORE: usize = 8;

/// How often the acknowledgements are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The most things of each kind that are sent.
const SENT_MAX: usize = 100_000;

/// Sends one row through the command socket; answers whether it was acknowledged.
fn ingest(data: &Path, folder: &Path, name: &str) -> Option<()> {
    let file = folder.join(format!("{name}.json"));
    fs::write(&file, format!("{{\"CounterName\":\"{name}\"}}\n")).ok()?;
    let token = fs::read_to_string(data.join("oms.token")).ok()?;
    let command = format!(
        "{{\"Logs\":{{\"Ingest\":{{\"table\":\"Perf\",\"format\":\"Ndjson\",\"files\":[{file:?}]}}}}}}"
    );
    let mut stream = UnixStream::connect(data.join("oms.sock")).ok()?;
    let request = format!(
        "POST /command HTTP/1.1\r\nhost: oms\r\nauthorization: Bearer {token}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{command}",
        command.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let is_done = answer.starts_with("HTTP/1.1 200") && answer.contains("1 row accepted");
    is_done.then_some(())
}

/// Sends one report; answers whether it was acknowledged.
fn report(agent: &ureq::Agent, node: &str, job: &str) -> Option<()> {
    let body = format!(
        "{{\"JobId\":\"{job}\",\"OperationType\":\"Consistency\",\"ReportFormatVersion\":\"2.0\",\
         \"StartTime\":\"2026-01-02T03:04:05.0000000+00:00\",\"Errors\":[],\"StatusData\":[]}}"
    );
    let request = agent.post(format!("{node}/SendReport"));
    let request = request.header("content-type", "application/json");
    let answer = request.header("protocolversion", "2.0").send(&body).ok()?;
    (answer.status().as_u16() == 200).then_some(())
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(Duration::from_secs(60))).build().into()
}

/// A number in the shape of a job's id.
fn job(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// Registers a node by running one; answers its id.
fn register(place: &Place, server: &Server) -> String {
    let admin = fs::read_to_string(place.data().join("admin.json")).expect("credentials");
    let admin: serde_json::Value = serde_json::from_str(&admin).expect("JSON");
    let key = admin["dsc_registration_key"].as_str().expect("a key");
    fs::write(place.path("key"), key).expect("a key");
    let document = format!(
        "instance of MSFT_FileDirectoryConfiguration as $m {{ ResourceID = \"[File]m\"; \
         ModuleName = \"PSDesiredStateConfiguration\"; DestinationPath = \"{}\"; \
         Contents = \"x\"; Ensure = \"Present\"; }};\n\
         instance of OMI_ConfigurationDocument {{ Version = \"2.0.0\"; Name = \"G\"; }};\n",
        place.path("motd").display()
    );
    fs::write(place.path("Web.mof"), document).expect("a document");
    place.good(&["dsc", "publish", "Web.mof"]);
    let url = format!("{}/PSDSCPullServer.svc", server.url);
    let pull = ["dsc", "pull", "--server", &url, "--registration-key-file", "key"];
    place.good(&[&pull[..], &["--configuration", "Web"]].concat());
    let nodes = place.good(&["dsc", "nodes", "--show-agent-ids", "--json"]);
    let nodes: serde_json::Value = serde_json::from_str(&nodes).expect("JSON");
    nodes[0]["agent_id"].as_str().expect("an id").to_owned()
}

/// Sends until the process is gone; answers what was acknowledged. `end` is called in the middle.
fn load(
    place: &Place,
    server: &Server,
    node: &str,
    end: impl FnOnce(),
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (rows, reports) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (data, folder) = (place.data(), place.path("rows"));
    fs::create_dir(&folder).expect("a folder");
    let node = format!("{}/PSDSCPullServer.svc/Nodes(AgentId='{node}')", server.url);
    std::thread::scope(|scope| {
        let send_rows = scope.spawn(|| {
            let names = (0..SENT_MAX).map(|number| format!("row{number}"));
            let taken = names.take_while(|name| {
                let is_taken = ingest(&data, &folder, name).is_some();
                rows.fetch_add(usize::from(is_taken), Ordering::SeqCst);
                is_taken
            });
            taken.collect::<BTreeSet<String>>()
        });
        let send_reports = scope.spawn(|| {
            let agent = agent();
            let taken = (0..SENT_MAX).map(job).take_while(|job| {
                let is_taken = report(&agent, &node, job).is_some();
                reports.fetch_add(usize::from(is_taken), Ordering::SeqCst);
                is_taken
            });
            taken.collect::<BTreeSet<String>>()
        });
        let is_enough = || {
            let least = rows.load(Ordering::SeqCst).min(reports.load(Ordering::SeqCst));
            least >= ACKNOWLEDGED_BEFORE
        };
        while !is_enough() && !send_rows.is_finished() && !send_reports.is_finished() {
            std::thread::sleep(LOOK_EVERY);
        }
        end();
        (send_rows.join().expect("rows"), send_reports.join().expect("reports"))
    })
}

/// Everything that was acknowledged is there once; what was not may be there once.
fn check(place: &Place, node: &str, rows: &BTreeSet<String>, reports: &BTreeSet<String>) {
    assert!(rows.len() >= ACKNOWLEDGED_BEFORE, "{} rows", rows.len());
    assert!(reports.len() >= ACKNOWLEDGED_BEFORE, "{} reports", reports.len());
    let server = place.serve();
    let query = "Perf | where CounterName startswith 'row' | project CounterName";
    let answer = place.good(&["logs", "query", "--format", "csv", query]);
    let found: Vec<&str> = answer.lines().skip(1).collect();
    let once: BTreeSet<String> = found.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found.len(), once.len(), "no row twice");
    assert!(once.is_superset(rows), "every acknowledged row");
    let agent = agent();
    for job in reports {
        let url = format!(
            "{}/PSDSCPullServer.svc/Nodes(AgentId='{node}')/Reports(JobId='{job}')",
            server.url
        );
        let mut answer = agent.get(url).header("protocolversion", "2.0").call().expect("an answer");
        let body = answer.body_mut().read_to_string().expect("text");
        assert_eq!(answer.status().as_u16(), 200, "{body}");
        let text = body.to_lowercase();
        assert!(text.contains(job), "{body}");
        assert_eq!(text.matches("\"jobid\"").count(), 1, "once: {body}");
    }
    assert!(server.stop());
}

#[test]
fn a_stop_under_load_loses_nothing_that_was_acknowledged() {
    let place = Place::new();
    let server = place.serve();
    let node = register(&place, &server);
    let id = server.child.id().to_string();
    let (rows, reports) = load(&place, &server, &node, || {
        let asked = Command::new("kill").args(["-TERM", &id]).status().expect("kill");
        assert!(asked.success());
    });
    assert!(server.ended(), "it ends well");
    check(&place, &node, &rows, &reports);
}

#[test]
fn a_kill_under_load_loses_nothing_that_was_acknowledged() {
    let place = Place::new();
    let server = place.serve();
    let node = register(&place, &server);
    let id = server.child.id().to_string();
    let (rows, reports) = load(&place, &server, &node, || {
        let killed = Command::new("kill").args(["-KILL", &id]).status().expect("kill");
        assert!(killed.success());
    });
    drop(server);
    check(&place, &node, &rows, &reports);
}

/// A request under way holds up a stop; a second signal waits for nothing.
#[test]
fn a_second_signal_ends_the_process_at_once() {
    let place = Place::new();
    let server = place.serve();
    let mut stream = std::net::TcpStream::connect(server.url.trim_start_matches("http://"))
        .expect("a connection");
    // A request whose body never comes is under way until the drain time is over.
    let head = "POST /PSDSCPullServer.svc/Nodes(AgentId='6f9619ff-8b86-d011-b42d-00cf4fc964ff')\
                /SendReport HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("it waits for the body");
    assert_eq!(&answer, b"HTTP/1.1 100");
    let id = server.child.id().to_string();
    let signal = || Command::new("kill").args(["-TERM", &id]).status().expect("kill");
    assert!(signal().success());
    assert_eq!(server.killed(signal), Some(130));
}
