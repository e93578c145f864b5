//! The whole conversation over HTTP on the loopback interface, with files on a real disk.

use crate::support::{KEY, files};
use oms_core::auth::Grants;
use oms_core::journal::{Journal, SqliteJournal};
use oms_core::{Clock, Secret, SystemClock};
use oms_dsc::node::{ConfigurationMode, HttpOptions, HttpTransport, ResourceOutcome, Transport};
use oms_dsc::protocol::{AgentId, Operation, Request};
use oms_dsc::pull_server::NodeState;
use oms_dsc::resource::{FileResource, Registry};
use oms_dsc::{Lcm, Metaconfiguration, PullServer};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A pull server that listens.
struct Serving {
    server: Arc<PullServer>,
    url: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Serving {
    async fn start(directory: &Path, address: &str) -> Self {
        let server = PullServer::builder(directory).registration_key(Secret::from(KEY)).build();
        let server = Arc::new(server.await.expect("the server opens"));
        let surface = oms_dsc::http::surface(Arc::clone(&server));
        let mounted = oms_core::http::mount(vec![surface], Arc::new(Grants::default()));
        let listener = TcpListener::bind(address).await.expect("an address");
        let url = format!("http://{}/PSDSCPullServer.svc", listener.local_addr().expect("bound"));
        let (stop, stopped) = oneshot::channel::<()>();
        let mounted = Arc::new(mounted.expect("mounts"));
        let task = tokio::spawn(oms_core::http::serve(listener, mounted, async {
            let _ = stopped.await;
        }));
        Self { server, url, stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.task.await.expect("no panic").expect("ends well");
    }
}

struct Computer {
    folder: tempfile::TempDir,
    journal: Arc<dyn Journal>,
}

impl Computer {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("etc")).expect("a folder");
        let journal = SqliteJournal::open(folder.path().join("lcm.db")).expect("a journal");
        Self { folder, journal: Arc::new(journal) }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join("etc").join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }

    async fn lcm(&self, url: &str) -> Lcm {
        let mut settings = Metaconfiguration::new(url, Secret::from(KEY));
        settings.configuration_names = vec!["Web".to_owned()];
        settings.configuration_mode = ConfigurationMode::ApplyAndAutoCorrect;
        settings.node_name = "web-1".to_owned();
        let resource = FileResource::within(self.folder.path().join("etc")).expect("a root");
        Lcm::builder(self.folder.path().join("lcm"), settings)
            .journal(Arc::clone(&self.journal))
            .resources(Registry::new().with(Arc::new(resource)))
            .build()
            .await
            .expect("the node opens")
    }
}

#[tokio::test]
async fn a_node_registers_pulls_applies_and_reports_over_http() {
    let data = tempfile::tempdir().expect("a folder");
    let computer = Computer::new();
    let serving = Serving::start(data.path(), "127.0.0.1:0").await;
    let document = |motd: &str| {
        let (motd_path, issue_path) = (computer.path("motd"), computer.path("sub/issue"));
        files("Web", &[("motd", &motd_path, motd), ("issue", &issue_path, "ü\n")])
    };
    let published = serving.server.publish("Web", document("one").as_bytes()).await;
    published.expect("published");

    let mut lcm = computer.lcm(&serving.url).await;
    let run = lcm.run().await.expect("a run");
    assert!(run.is_success && run.is_compliant, "{run:?}");
    assert_eq!((computer.read("motd"), computer.read("sub/issue")), ("one".into(), "ü\n".into()));
    let run = lcm.run().await.expect("a run");
    assert!(run.resources.iter().all(|r| r.outcome == ResourceOutcome::InDesiredState), "{run:?}");

    fs::write(computer.path("motd"), "drift").expect("written");
    let run = lcm.run().await.expect("a run");
    assert_eq!(run.resources[0].outcome, ResourceOutcome::Corrected, "{run:?}");
    assert_eq!(computer.read("motd"), "one");

    // The server goes away and comes back at the same address with what it knew.
    let (address, url) = (serving.url.replace("http://", ""), serving.url.clone());
    let address = address.split('/').next().expect("an address").to_owned();
    serving.stop().await;
    assert!(lcm.run().await.expect("a run").errors[0].contains("not reachable"));
    assert_eq!(lcm.reports_waiting().await.expect("a number"), 2);
    let serving = Serving::start(data.path(), &address).await;
    serving.server.publish("Web", document("two").as_bytes()).await.expect("published");
    drop(lcm);
    let mut lcm = computer.lcm(&url).await;
    let run = lcm.run().await.expect("a run");
    assert!(run.is_new && run.is_compliant && run.errors.is_empty(), "{run:?}");
    assert_eq!(computer.read("motd"), "two");
    assert_eq!(lcm.reports_waiting().await.expect("a number"), 0);

    let agent_id = lcm.record().await.expect("a record").agent_id.expect("an id");
    let node = serving.server.node(agent_id).await.expect("known");
    assert_eq!((node.state, node.agent.node_name.as_str()), (NodeState::Compliant, "web-1"));
    let reports = serving.server.reports(agent_id).await.expect("reports");
    assert_eq!(reports.len(), 5);
    let transport = HttpTransport::new(&url, &HttpOptions::default()).expect("an address");
    let list = Request::new(Operation::GetReports { agent_id, job_id: None }, "");
    let listed = transport.exchange(&list).await.expect("an answer");
    let listed: serde_json::Value = serde_json::from_slice(&listed.body).expect("JSON");
    assert_eq!(listed["value"].as_array().map(Vec::len), Some(5));
    let job_id = reports[0].job_id.as_deref().expect("a job").parse().expect("an id");
    let one = Request::new(Operation::GetReports { agent_id, job_id: Some(job_id) }, "");
    let one = transport.exchange(&one).await.expect("an answer");
    let one: serde_json::Value = serde_json::from_slice(&one.body).expect("JSON");
    assert_eq!((&one["Status"], &one["NodeName"]), (&"Success".into(), &"web-1".into()));
    serving.stop().await;
}

#[tokio::test]
async fn every_route_is_closed_to_strangers() {
    let data = tempfile::tempdir().expect("a folder");
    let serving = Serving::start(data.path(), "127.0.0.1:0").await;
    let transport = HttpTransport::new(&serving.url, &HttpOptions::default()).expect("an address");
    let agent_id = AgentId(uuid::Uuid::from_u128(1));
    let name = || "../../etc/passwd".to_owned();
    for (operation, expect) in [
        (Operation::RegisterDscAgent { agent_id }, 401),
        (Operation::GetDscAction { agent_id }, 401),
        (Operation::GetConfiguration { agent_id, configuration_name: name() }, 401),
        (Operation::GetModule { module_name: name(), module_version: String::new() }, 401),
        (Operation::SendReport { agent_id }, 401),
        (Operation::GetReports { agent_id, job_id: None }, 401),
        (Operation::CertificateRotation { agent_id }, 404),
    ] {
        let reply = transport.exchange(&Request::new(operation.clone(), "{}")).await;
        assert_eq!(reply.expect("an answer").status, expect, "{operation:?}");
    }
    serving.stop().await;
}

#[tokio::test]
async fn paths_are_matched_as_real_clients_write_them() {
    let data = tempfile::tempdir().expect("a folder");
    let server = PullServer::builder(data.path()).registration_key(Secret::from(KEY)).build();
    let server = Arc::new(server.await.expect("the server opens"));
    let surface = oms_dsc::http::surface(server);
    let mounted = oms_core::http::mount(vec![surface], Arc::new(Grants::default())).expect("ok");
    let ask = async |method: &str, path: &str| {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header("host", "pull").body(axum::body::Body::empty());
        mounted.handle(request.expect("a request")).await.status().as_u16()
    };
    let id = "91E51A37-B59F-11E5-9C04-14109FD663AE";
    for (method, path, expect) in [
        ("PUT", format!("/psdscpullserver.SVC//nodes(agentid='{id}')"), 401),
        ("PUT", format!("/PSDSCPullServer.svc/Nodes(AgentId%3D'{id}')"), 401),
        ("PUT", "/PSDSCPullServer.svc/Nodes(AgentId='x')".to_owned(), 401),
        ("GET", format!("/PSDSCPullServer.svc/Nodes(AgentId='{id}')/Reports()"), 401),
        ("GET", format!("/PSDSCPullServer.svc/Nodes(AgentId='{id}')/Reports"), 401),
        ("GET", format!("/PSDSCPullServer.svc/Nodes(AgentId='{id}')/Reports(JobId='x')"), 401),
        ("GET", format!("/PSDSCPullServer.svc/Nodes(AgentId='{id}')/GetDscAction"), 405),
        ("POST", "/PSDSCPullServer.svc/Nodes(AgentId='x')/GetDscAction".to_owned(), 401),
        ("POST", "/PSDSCPullServer.svc/Nodes(AgentId='x')/CertificateRotation".to_owned(), 400),
        ("POST", format!("/PSDSCPullServer.svc/Nodes(AgentId='{id}')/CertificateRotation"), 404),
        ("POST", format!("/PSDSCPullServer.svc/Action(ConfigurationId='{id}')/GetAction"), 400),
        (
            "GET",
            "/PSDSCPullServer.svc/Modules(ModuleVersion='',ModuleName='nx')/ModuleContent".into(),
            401,
        ),
        ("GET", "/PSDSCPullServer.svc/../etc/passwd".to_owned(), 400),
        ("GET", "/PSDSCPullServer.svc/$metadata".to_owned(), 404),
    ] {
        assert_eq!(ask(method, &path).await, expect, "{method} {path}");
    }
}

#[tokio::test]
async fn a_report_outlives_a_server_that_is_killed() {
    let data = tempfile::tempdir().expect("a folder");
    let serving = Serving::start(data.path(), "127.0.0.1:0").await;
    let transport = HttpTransport::new(&serving.url, &HttpOptions::default()).expect("an address");
    let agent_id = AgentId(uuid::Uuid::from_u128(7));
    let body = br#"{"AgentInformation":{"NodeName":"pc"},"RegistrationInformation":
        {"CertificateInformation":{},"RegistrationMessageType":"ReportServer"}}"#;
    let mut register = Request::new(Operation::RegisterDscAgent { agent_id }, &body[..]);
    let date = oms_dsc::protocol::auth::x_ms_date(SystemClock.now());
    let key = Secret::from(KEY);
    register.headers.authorization =
        Some(oms_dsc::protocol::auth::authorization(&key, &date, body));
    register.headers.x_ms_date = Some(date);
    assert_eq!(transport.exchange(&register).await.expect("an answer").status, 204);
    let job = uuid::Uuid::from_u128(8).to_string();
    let report = format!(r#"{{"JobId":"{job}","Status":"Failure","NodeName":"pc"}}"#);
    let send = Request::new(Operation::SendReport { agent_id }, report);
    assert_eq!(transport.exchange(&send).await.expect("an answer").status, 200);
    // Nothing is closed or flushed: what counts is what was synced before the answer. The
    // journal's lock goes with the process that held it, so the copy is what a new one finds.
    let copy = tempfile::tempdir().expect("a folder");
    copy_tree(data.path(), copy.path());
    serving.task.abort();
    let server = PullServer::builder(copy.path()).registration_key(Secret::from(KEY)).build().await;
    let server = server.expect("opens again");
    let report = server.report(agent_id, job.parse().expect("an id")).await.expect("kept");
    assert_eq!(report.status.as_deref(), Some("Failure"));
    assert_eq!(server.node(agent_id).await.expect("known").state, NodeState::Failed);
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            fs::create_dir(&target).expect("a folder");
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}
