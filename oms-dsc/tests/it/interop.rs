//! Captured conversations of real clients and documents written by others.
//!
//! `OMS_CONFORMANCE_DIR` names a folder with `golden/*.json` (conversations) and `mof/*.mof`. They
//! are not part of this repository; without the variable there is nothing to compare with, and the
//! tests say so.

#[cfg(target_os = "linux")]
mod package;

mod openssl;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use oms_core::auth::Grants;
use oms_core::clock::ManualClock;
use oms_core::http::Mounted;
use oms_core::journal::MemoryJournal;
use oms_core::testkit::disk::SimDisk;
use oms_core::{Clock, Secret};
use oms_dsc::protocol::{Checksum, auth};
use oms_dsc::{PullServer, configuration::Configuration, mof};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[expect(clippy::print_stderr, reason = "says what is missing")]
fn folder(name: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("OMS_CONFORMANCE_DIR") else {
        eprintln!("OMS_CONFORMANCE_DIR is not set: there are no captured {name} to compare with");
        return None;
    };
    Some(Path::new(&root).join(name))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    assert!(!files.is_empty(), "no .{extension} in {folder:?}");
    files
}

#[test]
fn every_document_is_read_and_printed_back() {
    let (mut read, mut configurations, mut wrong) = (0, 0, Vec::new());
    let Some(folder) = folder("mof") else { return };
    let files = files(&folder, "mof");
    for path in &files {
        let bytes = fs::read(path).expect("a document");
        let parsed = mof::parse(&bytes);
        if let Some(first) = parsed.diagnostics.first() {
            wrong.push(format!("{}:{first}", path.display()));
            continue;
        }
        let printed = parsed.document.to_string();
        let again = mof::parse(printed.as_bytes()).into_result().expect("what was printed");
        assert_eq!(again.without_positions(), parsed.document.clone().without_positions());
        read += 1;
        configurations += usize::from(Configuration::from_document(&parsed.document).is_ok());
    }
    println!("{read} of {} documents read, {configurations} are configurations", files.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A conversation that is being replayed.
struct Replay {
    conversation: Value,
    server: Arc<PullServer>,
    mounted: Mounted,
    clock: Arc<ManualClock>,
    key: Secret,
    documents: BTreeMap<Checksum, Vec<u8>>,
    known: HashSet<String>,
    differences: Vec<String>,
}

impl Replay {
    async fn new(path: &Path, documents: BTreeMap<Checksum, Vec<u8>>) -> Self {
        let text = fs::read_to_string(path).expect("a conversation");
        let conversation: Value = serde_json::from_str(&text).expect("JSON");
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
        let (known, differences) = (HashSet::new(), Vec::new());
        Self { conversation, server, mounted, clock, key, documents, known, differences }
    }

    /// Publishes what the captured server had: what it handed out, and what clients had the
    /// newest of.
    async fn publish(&mut self) {
        let exchanges = self.conversation["exchanges"].as_array().expect("exchanges").clone();
        for exchange in &exchanges {
            let (line, response) = (text(&exchange["request"]["line"]), &exchange["response"]);
            let content =
                response["body_b64"].as_str().map(|b64| STANDARD.decode(b64).expect("b64"));
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

    async fn run(mut self) -> Vec<String> {
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
        self.differences
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
        if let Some(b64) = response["body_b64"].as_str() {
            if bytes != STANDARD.decode(b64).expect("b64") {
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

#[tokio::test]
async fn captured_conversations_get_the_captured_answers() {
    let Some(golden) = folder("golden") else { return };
    let mut documents = BTreeMap::new();
    for path in files(&golden, "mof") {
        let bytes = fs::read(path).expect("a document");
        documents.insert(Checksum::of(&bytes), bytes);
    }
    let (mut equal, mut wrong) = (0, Vec::new());
    let conversations = files(&golden, "json");
    for path in &conversations {
        let differences = Replay::new(path, documents.clone()).await.run().await;
        equal += usize::from(differences.is_empty());
        wrong.extend(differences.into_iter().map(|difference| format!("{path:?}\n{difference}")));
    }
    println!("{equal} of {} conversations answered as captured", conversations.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
