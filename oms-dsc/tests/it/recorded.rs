//! Conversations as requests and their answers, replayed against a server of ours.
//!
//! The one of this repository was written by hand and by another program, which signed and summed
//! what is signed and summed in it: MS-DSCPM v10.0, 3.8 (RegisterDscAgent), 3.9 (GetDscAction), 3.6
//! (GetConfiguration), 3.10 (SendReport).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use oms_core::auth::Grants;
use oms_core::clock::ManualClock;
use oms_core::http::Mounted;
use oms_core::journal::MemoryJournal;
use oms_core::testkit::disk::SimDisk;
use oms_core::{Clock, Secret};
use oms_dsc::PullServer;
use oms_dsc::protocol::{AgentId, Checksum, auth};
use oms_dsc::pull_server::NodeState;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A conversation that is being replayed: each request is answered by a server of ours, as of the
/// time it was sent at, and the answer compared with the one that is written there.
pub(crate) struct Replay {
    conversation: Value,
    /// Where the conversation lies; the paths in it start there.
    folder: PathBuf,
    server: Arc<PullServer>,
    mounted: Mounted,
    clock: Arc<ManualClock>,
    key: Secret,
    documents: BTreeMap<Checksum, Vec<u8>>,
    known: HashSet<String>,
    differences: Vec<String>,
}

impl Replay {
    /// `documents` are what clients may have, of which the conversation tells the checksum alone.
    pub(crate) async fn new(
        conversation: Value,
        folder: &Path,
        documents: BTreeMap<Checksum, Vec<u8>>,
    ) -> Self {
        let key = conversation["registration_key"].as_str().unwrap_or("a key of our own");
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let server = PullServer::builder("unused")
            .disk(Arc::new(SimDisk::default()))
            .journal(Arc::new(MemoryJournal::default()))
            .clock(Arc::clone(&clock) as Arc<dyn Clock>)
            .registration_key(Secret::from(key))
            .build()
            .await;
        let server = Arc::new(server.expect("opens"));
        let surface = oms_dsc::http::surface(Arc::clone(&server));
        let mounted = oms_core::http::mount(vec![surface], Arc::new(Grants::default()));
        let (mounted, key) = (mounted.expect("mounts"), Secret::from(key));
        let (folder, known, differences) = (folder.to_owned(), HashSet::new(), Vec::new());
        Self { conversation, folder, server, mounted, clock, key, documents, known, differences }
    }

    /// The bytes of an answer that are no text: in it, or in a file.
    fn content(&self, response: &Value) -> Option<Vec<u8>> {
        if let Some(name) = response["body_file"].as_str() {
            return Some(fs::read(self.folder.join(name)).expect("a body"));
        }
        response["body_b64"].as_str().map(|b64| STANDARD.decode(b64).expect("b64"))
    }

    /// Publishes what the captured server had: what it handed out, and what clients had the
    /// newest of.
    async fn publish(&mut self) {
        let exchanges = self.conversation["exchanges"].as_array().expect("exchanges").clone();
        for exchange in &exchanges {
            let (line, response) = (text(&exchange["request"]["line"]), &exchange["response"]);
            let content = self.content(response);
            if let (Some(name), Some(content)) = (between(&line, "ModuleName='"), &content) {
                let version = between(&line, "ModuleVersion='").expect("a version");
                let version = version.parse().expect("a version");
                self.server.publish_module(&name, version, content).await.expect("a module");
            } else if let (true, Some(content)) = (line.contains("/ConfigurationContent"), &content)
            {
                let name = between(&line, "ConfigurationName='");
                let name = name.or_else(|| between(&line, "ConfigurationId='")).expect("a name");
                self.server.publish(&name, content).await.expect("a configuration");
            }
            let body: Value = serde_json::from_str(&text(&response["body"])).unwrap_or_default();
            for detail in body["Details"].as_array().unwrap_or(&Vec::new()) {
                let asked: Value =
                    serde_json::from_str(&text(&exchange["request"]["body"])).unwrap_or_default();
                let has = text(&asked["ClientStatus"][0]["Checksum"]).parse();
                let document = has.ok().and_then(|has: Checksum| self.documents.get(&has));
                if let ("Ok", Some(document)) = (&*text(&detail["Status"]), document) {
                    let name = text(&detail["ConfigurationName"]);
                    self.server.publish(&name, document).await.expect("a configuration");
                }
            }
        }
    }

    /// Answers the server, and each answer that is another one.
    pub(crate) async fn run(mut self) -> (Arc<PullServer>, Vec<String>) {
        self.publish().await;
        let exchanges = self.conversation["exchanges"].as_array().expect("exchanges").clone();
        for exchange in exchanges {
            let (request, response) = (&exchange["request"], &exchange["response"]);
            if response.is_null() {
                continue;
            }
            let seconds = exchange["time"].as_f64().expect("a time");
            self.clock.set(Timestamp::from_microsecond((seconds * 1e6) as i64).expect("a time"));
            let line = text(&request["line"]);
            if let Some(agent) = between(&line, "AgentId='") {
                let is_registration = line.starts_with("PUT");
                if self.known.insert(agent.to_lowercase()) && !is_registration {
                    self.register_before(&agent).await;
                }
            }
            self.exchange(request, response).await;
        }
        (self.server, self.differences)
    }

    /// A node that was registered before the capture began.
    async fn register_before(&self, agent: &str) {
        let body = r#"{"AgentInformation":{},"ConfigurationNames":[],"RegistrationInformation":
            {"CertificateInformation":{},"RegistrationMessageType":"ConfigurationRepository"}}"#;
        let request = http::Request::put(format!("/PSDSCPullServer.svc/Nodes(AgentId='{agent}')"));
        let request = self.sign(request, body.as_bytes());
        let request = request.body(axum::body::Body::from(body)).expect("a request");
        assert_eq!(self.mounted.handle(request).await.status(), 204);
    }

    fn sign(&self, request: http::request::Builder, body: &[u8]) -> http::request::Builder {
        let date = auth::x_ms_date(self.clock.now());
        let authorization = auth::authorization(&self.key, &date, body);
        request.header("x-ms-date", date).header("authorization", authorization)
    }

    async fn exchange(&mut self, request: &Value, response: &Value) {
        let line = text(&request["line"]);
        let mut words = line.split(' ');
        let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
        // One of the captured servers stood at the root.
        let path = match path.to_lowercase().starts_with("/psdscpullserver.svc") {
            true => path.to_owned(),
            false => format!("/PSDSCPullServer.svc{path}"),
        };
        let mut body = text(&request["body"]).into_bytes();
        if request["body_complete"] != true {
            // The capture lost the end of it; the run it is about is in its beginning.
            let job = between(&text(&request["body"]), "\"JobId\":\"").expect("a job");
            body = format!("{{\"JobId\":\"{}\"}}", job.trim_end_matches('"')).into_bytes();
        }
        let resigns = self.conversation["registration_key"].is_null() && method == "PUT";
        let mut builder = http::Request::builder().method(method).uri(path);
        for header in request["headers"].as_array().expect("headers") {
            let (name, value) = (text(&header[0]), text(&header[1]));
            let is_signature = ["authorization", "x-ms-date"].contains(&&*name.to_lowercase());
            if !(resigns && is_signature) {
                builder = builder.header(name, value);
            }
        }
        if resigns {
            builder = self.sign(builder, &body);
        }
        let request = builder.body(axum::body::Body::from(body)).expect("a request");
        let answer = self.mounted.handle(request).await;
        self.compare(&line, answer, response).await;
    }

    async fn compare(&mut self, line: &str, answer: oms_core::http::Response, response: &Value) {
        const COMPARED: [&str; 9] = [
            "cache-control",
            "content-type",
            "protocolversion",
            "prefer",
            "checksum",
            "checksumalgorithm",
            "x-content-type-options",
            "dataserviceversion",
            "content-length",
        ];
        let content = self.content(response);
        let mut differ = |what: &str, found: String, expected: String| {
            self.differences.push(format!("{line}\n  {what}: {found}\n  captured: {expected}"));
        };
        let (parts, body) = answer.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 26).await.expect("a body");
        let expected_status = text(&response["line"]);
        if !expected_status.contains(&format!(" {} ", parts.status.as_u16())) {
            differ("status", parts.status.to_string(), expected_status);
        }
        for header in response["headers"].as_array().expect("headers") {
            let (name, value) = (text(&header[0]).to_lowercase(), text(&header[1]));
            if !COMPARED.contains(&&*name) {
                continue;
            }
            let found = match &*name {
                "content-length" => bytes.len().to_string(),
                _ => parts
                    .headers
                    .get(&name)
                    .map_or("absent".into(), |v| v.to_str().expect("text").to_owned()),
            };
            let is_error = parts.status.as_u16() >= 400 && name == "content-length";
            if found != value && !is_error {
                differ(&name, found, value);
            }
        }
        if response["body_complete"] != true {
            return;
        }
        if let Some(content) = content {
            if bytes != content {
                differ("content", format!("{} bytes", bytes.len()), "other bytes".into());
            }
            return;
        }
        let expected = text(&response["body"]);
        let found = String::from_utf8_lossy(&bytes).into_owned();
        let as_json = |text: &str| {
            let mut value: Value = serde_json::from_str(text).unwrap_or_default();
            // What went wrong inside of another server is its own.
            if let Some(error) = value.get_mut("odata.error").and_then(Value::as_object_mut) {
                error.remove("innererror");
            }
            value
        };
        if found != expected && (as_json(&found) != as_json(&expected) || expected.is_empty()) {
            differ("body", found, expected);
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What stands behind `start`, up to the next quote.
fn between(text: &str, start: &str) -> Option<String> {
    let (_, rest) = text.split_once(start)?;
    rest.split(['\'', '"']).next().map(str::to_owned)
}

/// The conversation of this repository, and its folder.
fn ours() -> (Value, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conversations");
    let text = fs::read_to_string(folder.join("register-pull-report.json")).expect("it is there");
    (serde_json::from_str(&text).expect("JSON"), folder)
}

#[tokio::test]
async fn a_node_registers_pulls_and_reports_as_it_is_written() {
    let (conversation, folder) = ours();
    let (server, differences) =
        Replay::new(conversation, &folder, BTreeMap::new()).await.run().await;
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let agent = AgentId("6F2C1D3A-8B4E-4F60-9A17-52D0C3E4B5A6".parse().expect("an id"));
    let node = server.node(agent).await.expect("known");
    assert_eq!((node.state, node.agent.node_name.as_str()), (NodeState::Compliant, "WEB-01"));
    // The two reports of the run are one.
    let reports = server.reports(agent).await.expect("reports");
    assert_eq!(reports.len(), 1, "{reports:?}");
    let told = [&reports[0].node_name, &reports[0].status, &reports[0].end_time];
    let told = told.map(|told| told.as_deref().expect("told"));
    assert_eq!(told, ["WEB-01", "Success", "2026-03-09T09:15:38.0000000+01:00"]);
}

/// What is written otherwise is answered otherwise, and told.
#[tokio::test]
async fn an_answer_that_is_another_one_is_told() {
    // Both registrations, the start, the action, the document, the end, the action.
    for (place, value, told) in [
        ("/exchanges/0/request/headers/2/1", json!("Shared AAAA"), "status: 401"),
        ("/exchanges/0/request/headers/1/1", json!("2026-03-09T08:15:30.1234568Z"), "status: 401"),
        ("/exchanges/0/time", json!(1_773_044_130 + 301), "status: 401"),
        ("/exchanges/1/response/line", json!("HTTP/1.1 200 OK"), "status: 204"),
        ("/exchanges/2/response/body", json!("{\"value\":\"Saved\"}"), "body: "),
        ("/exchanges/3/request/body", json!("{\"ClientStatus\":1}"), "status: 400"),
        ("/exchanges/4/response/headers/5/1", json!("00"), "checksumalgorithm: SHA-256"),
        ("/exchanges/4/response/headers/4/1", json!("00"), "checksum: C65A0671B4D98B37"),
        ("/exchanges/6/response/body", json!("{\"NodeStatus\":\"Retry\"}"), "body: "),
    ] {
        let (mut conversation, folder) = ours();
        *conversation.pointer_mut(place).expect(place) = value;
        let (_, differences) =
            Replay::new(conversation, &folder, BTreeMap::new()).await.run().await;
        let first = differences.first().map_or("", String::as_str);
        assert!(first.contains(told), "{place}: {first}");
    }
}
