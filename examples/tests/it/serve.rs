//! A served data directory.

use crate::support::{Place, Server, read, text};
use std::fs;
use std::net::TcpListener;

fn get(url: &str) -> (u16, String) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.get(url).call().expect("an answer");
    (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
}

#[test]
fn commands_go_through_the_process_that_serves_and_a_stop_loses_nothing() {
    let place = Place::new();
    let server = place.serve();
    assert_eq!(get(&format!("{}/healthz", server.url)), (200, "ok\n".to_owned()));
    assert_eq!(get(&server.url).0, 200);
    assert_eq!(get(&format!("{}/none", server.url)).0, 404);
    let node = "6F9619FF-8B86-D011-B42D-00CF4FC964FF";
    let reports = format!("{}/PSDSCPullServer.svc/Nodes(AgentId='{node}')/Reports()", server.url);
    assert!((400..500).contains(&get(&reports).0), "a stranger gets no reports");

    fs::write(place.path("rows"), "{\"CounterName\":\"through the socket\"}\n").expect("rows");
    place.good(&["logs", "ingest", "--table", "Perf", "rows"]);
    let query = "Perf | where CounterName == 'through the socket' | count";
    assert_eq!(place.good(&["logs", "query", "--format", "csv", query]), "Count\r\n1\r\n");
    let wrong = place.bad(&["logs", "query", "Perf | wher x"]);
    assert!(wrong.contains("where"), "errors come through the socket: {wrong}");

    let tour = place.bad(&["tour"]);
    assert!(tour.contains("in use") && tour.contains(&server.child.id().to_string()), "{tour}");
    let second = place.bad(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(second.contains("in use"), "{second}");
    assert!(server.stop(), "it ends well");
    // Nobody serves any more: the same command opens the directory itself.
    assert_eq!(place.good(&["logs", "query", "--format", "csv", query]), "Count\r\n1\r\n");
}

#[test]
fn a_killed_server_leaves_a_directory_that_opens() {
    let place = Place::new();
    let mut server = place.serve();
    fs::write(place.path("rows"), "{\"CounterName\":\"kept\"}\n").expect("rows");
    place.good(&["logs", "ingest", "--table", "Perf", "rows"]);
    server.child.kill().expect("kill -9");
    server.child.wait().expect("its end");
    let query = "Perf | where CounterName == 'kept' | count";
    assert_eq!(place.good(&["logs", "query", "--format", "csv", query]), "Count\r\n1\r\n");
    // The dead process's socket makes way.
    assert!(place.serve().stop());
}

#[test]
fn a_node_pulls_from_a_served_directory() {
    let place = Place::new();
    let motd = place.path("motd");
    let document = format!(
        "instance of MSFT_FileDirectoryConfiguration as $m {{ ResourceID = \"[File]m\"; \
         ModuleName = \"PSDesiredStateConfiguration\"; DestinationPath = \"{}\"; \
         Contents = \"pulled\"; Ensure = \"Present\"; }};\n\
         instance of OMI_ConfigurationDocument {{ Version = \"2.0.0\"; Name = \"G\"; }};\n",
        motd.display()
    );
    fs::write(place.path("Web.mof"), document).expect("a document");
    fs::write(place.path("key"), "a registration key\n").expect("a key");
    let listen = ["dsc", "serve", "--listen", "127.0.0.1:0", "--registration-key-file", "key"];
    let server = Server::start(place.oms(&listen));
    place.good(&["dsc", "publish", "Web.mof"]);
    let url = format!("{}/PSDSCPullServer.svc", server.url);
    let pull = |key: &'static str| {
        let server = ["dsc", "pull", "--server", &url, "--configuration", "Web"];
        place.run(&[&server[..], &["--registration-key", key, "--state", key]].concat())
    };
    assert!(!pull("wrong").status.success(), "a wrong key registers nobody");
    assert!(!motd.exists());
    assert!(pull("a registration key").status.success());
    assert_eq!(read(&motd), "pulled");
    let nodes = place.good(&["dsc", "nodes"]);
    assert!(nodes.contains("Compliant"), "{nodes}");
    manage_the_node(&place, nodes.split_whitespace().next().expect("an id"));

    // What was changed by hand is reported by default, and corrected if that was chosen. The state of
    // the node is in the data directory, also while that is served.
    fs::write(&motd, "drift").expect("written");
    let server_url = ["dsc", "pull", "--server", &url];
    let node = ["--configuration", "Web", "--registration-key-file", "key"];
    let pull = |more: &[&str]| place.run(&[&server_url[..], &node, more].concat());
    assert!(pull(&[]).status.success(), "a new node applies its configuration");
    assert_eq!(read(&motd), "pulled");
    assert!(place.data().join("node/lcm.db").exists());
    fs::write(&motd, "drift").expect("written");
    let preview = pull(&["--what-if"]);
    assert!(String::from_utf8_lossy(&preview.stdout).contains("would be changed"), "{preview:?}");
    assert!(!pull(&["--mode", "ApplyAndMonitor"]).status.success());
    assert_eq!(read(&motd), "drift");
    assert!(pull(&["--mode", "ApplyAndAutoCorrect"]).status.success());
    assert_eq!(read(&motd), "pulled");
    assert!(server.stop());
}

/// What a node gets by its tags, and in its turn.
fn give_by_rule_and_in_rings(place: &Place, node: &str) {
    let tagged = place.good(&["dsc", "tag", node, "role=web", "ring=canary"]);
    assert!(tagged.contains("has ring=canary role=web"), "{tagged}");
    let rule = ["dsc", "rule", "set", "site", "--tag", "role=web", "Site.web-2"];
    assert!(place.good(&rule).contains("tag.role -eq 'web'  ->  Site.web-2  (1 nodes;"));
    assert!(place.good(&["dsc", "nodes"]).contains("Site.web-2"));
    let wrong = place.bad(&["dsc", "rule", "set", "x", "--when", "host -eq a", "Web"]);
    assert!(wrong.contains("column 1: `host` is nothing known of a node"), "{wrong}");
    assert!(place.good(&["dsc", "rule", "list"]).contains("site"));
    place.good(&["dsc", "rule", "remove", "site"]);
    assert!(place.good(&["dsc", "rule", "list"]).contains("no rule"));

    let rings =
        "rings:\n- {name: canary, when: tag.ring -eq canary}\n- {name: all, percent: 100}\n";
    fs::write(place.path("rings.yaml"), rings).expect("rings");
    let new = "Site/Site.web-2.mof";
    let begin = ["dsc", "rollout", "begin", "--name", "Web", "--rings", "rings.yaml", new];
    let begun = place.good(&begin);
    assert!(
        begun.contains("Web: running") && begun.contains(" 1 nodes, 0 of 1 succeeded"),
        "{begun}"
    );
    assert!(place.bad(&["dsc", "publish", "--name", "Web", new]).contains("has not ended"));
    assert!(place.bad(&["dsc", "rollout", "resume", "Web"]).contains("it is running"));
    assert!(place.good(&["dsc", "rollout", "status"]).contains("0 in flight"));
    assert!(place.good(&["dsc", "rollout", "abort", "Web"]).contains("Web: aborted"));
    fs::write(place.path("rings.yaml"), "rings:\n- {name: all}\n").expect("rings");
    let wrong = place.bad(&begin);
    assert!(wrong.contains("ring `all` needs either `when` or `percent`"), "{wrong}");
}

/// Everything that an operator does with a node, by what `oms dsc nodes` calls it.
fn manage_the_node(place: &Place, node: &str) {
    let listed: serde_json::Value =
        serde_json::from_str(&place.good(&["--json", "dsc", "nodes"])).expect("JSON");
    assert!(listed[0].get("agent_id").is_none(), "an AgentId is a secret: {listed}");
    let secret = place.good(&["dsc", "nodes", "--show-agent-ids"]);
    let secret = secret.split_whitespace().last().expect("an AgentId").to_owned();
    assert_eq!(secret.len(), 36);
    let reports = place.good(&["dsc", "report", node]);
    let job = reports.split_whitespace().next().expect("a run").to_owned();
    assert!(reports.contains("Compliant"), "{reports}");
    let report = place.good(&["dsc", "report", node, "--job", &job]);
    assert!(report.contains("ok   [File]m"), "{report}");
    assert!(place.good(&["dsc", "diff", node]).contains("Web: "));

    // A source is compiled, its documents published, and one of them assigned.
    let source = "configuration: Site\nnodes: {web-1: {}, web-2: {}}\nresources:\n\
                  - {type: nxFile, name: m, properties: {DestinationPath: /tmp/m, Contents: x}}\n";
    fs::write(place.path("site.yaml"), source).expect("a source");
    place.good(&["dsc", "compile", "site.yaml"]);
    let checksum = read(&place.path("Site/Site.web-2.mof.checksum"));
    let published = place.good(&["dsc", "publish", "Site/Site.web-1.mof", "Site/Site.web-2.mof"]);
    assert!(published.contains(&checksum), "{published}");
    assert!(place.good(&["dsc", "assign", node, "Site.web-2"]).contains("has Site.web-2"));
    assert!(place.good(&["dsc", "nodes"]).contains("Pending"));
    assert!(place.good(&["dsc", "assign", node, "--none"]).contains("registered for: Web"));
    assert!(place.bad(&["dsc", "assign", "nobody", "Web"]).contains("nobody"));
    give_by_rule_and_in_rings(place, node);
    assert!(place.good(&["dsc", "remove", node]).contains("was removed"));
    assert!(place.good(&["dsc", "nodes"]).contains("no node"));
    fs::write(place.path("site.yaml"), source.replace("Contents", "Content")).expect("a source");
    let why = place.bad(&["dsc", "compile", "site.yaml"]);
    assert!(why.contains("site.yaml:4:") && why.contains("did you mean `Contents`?"), "{why}");
}

/// A runbook runs as the same user and can reach the socket; without the token it gets nothing.
#[test]
fn a_runbook_commands_nothing_through_the_socket() {
    let place = Place::new();
    let server = place.serve();
    let socket = place.data().join("oms.sock");
    let script = format!(
        "import socket\n\
         s = socket.socket(socket.AF_UNIX)\n\
         s.connect({socket:?})\n\
         s.send(b'POST /command HTTP/1.1\\r\\nhost: x\\r\\ncontent-length: 19\\r\\n\\r\\n\
         {{\"Logs\":\"Tables\"}}  ')\n\
         print(s.recv(100).split(b'\\r\\n')[0].decode())\n"
    );
    fs::write(place.path("break_in.py"), script).expect("a script");
    place.good(&["automation", "runbook", "publish", "break_in.py"]);
    let said = place.run(&["automation", "start", "break_in"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let is_kept_out = said.contains("401 Unauthorized") || said.contains("PermissionError");
    assert!(is_kept_out, "{said}");
    assert!(server.stop());
}

#[test]
fn a_port_in_use_and_clear_text_for_others_are_refused_by_name() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let why = place.bad(&["serve", "--listen", &address]);
    assert!(why.contains(&address) && why.contains("another process"), "{why}");
    assert!(!place.data().exists(), "no directory is left behind");
    let why = place.bad(&["serve", "--listen", "0.0.0.0:0"]);
    assert!(why.contains("--tls-cert"), "{why}");
}

#[test]
fn tls_is_served_with_a_certificate() {
    let place = Place::new();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    let made = made.expect("a certificate");
    fs::write(place.path("cert.pem"), made.cert.pem()).expect("written");
    fs::write(place.path("key.pem"), made.signing_key.serialize_pem()).expect("written");
    let options = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let listen = ["serve", "--listen", "127.0.0.1:0", "--services", "dsc"];
    let server = Server::start(place.oms(&[&listen[..], &options].concat()));
    let url = server.url.replace("127.0.0.1", "localhost");
    let root = ureq::tls::Certificate::from_pem(made.cert.pem().as_bytes()).expect("a root");
    let roots = ureq::tls::RootCerts::new_with_certs(&[root]);
    let tls = ureq::tls::TlsConfig::builder().root_certs(roots).build();
    let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
    let answer = agent.get(format!("{url}/healthz")).call().expect("an answer over TLS");
    assert_eq!(answer.status().as_u16(), 200);

    // A node trusts it only if it is told to.
    let admin: serde_json::Value =
        serde_json::from_str(&read(&place.data().join("admin.json"))).expect("JSON");
    let key = admin["dsc_registration_key"].as_str().expect("a key");
    fs::write(place.path("registration"), key).expect("written");
    let address = format!("{url}/PSDSCPullServer.svc");
    let pull = ["dsc", "pull", "--server", &address, "--registration-key-file", "registration"];
    let pull = [&pull[..], &["--configuration", "Web"]].concat();
    let why = place.run(&pull);
    let why = text(&[why.stdout, why.stderr].concat());
    assert!(why.contains("UnknownIssuer"), "{why}");
    let trusting = place.run(&[&pull[..], &["--server-ca", "cert.pem"]].concat());
    let said = text(&[trusting.stdout, trusting.stderr].concat());
    assert!(place.good(&["dsc", "nodes"]).contains("Web"), "it has registered: {said}");
    let why = place.bad(&[&pull[..], &["--server-ca", "key.pem", "--state", "new"]].concat());
    assert!(why.contains("root certificates"), "{why}");
    assert!(!place.path("new").exists(), "nothing is left behind");
    assert!(server.stop());
}
