//! Server and node without HTTP between them.

use crate::module::Zip;
use crate::support::{KEY, World, cells, start};
use async_trait::async_trait;
use oms_core::journal::{Journal, JournalExt};
use oms_core::projection::MappingError;
use oms_core::record::Value;
use oms_core::{Clock, ErrorKind, Secret};
use oms_dsc::node::{ConfigurationMode, LcmState, ResourceOutcome, RunReport, Transport};
use oms_dsc::protocol::{AgentId, Operation, Reply, Request, RequestHeaders, auth, v1};
use oms_dsc::pull_server::NodeState;
use oms_dsc::{Error, Lcm, PullServer};
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

fn agent() -> AgentId {
    "91e51a37-b59f-11e5-9c04-14109fd663ae".parse().expect("an id")
}

fn registration(names: Option<&[&str]>, message_type: &str) -> Vec<u8> {
    let mut body = json!({
        "AgentInformation": {"LCMVersion": "2.0", "NodeName": "pc", "IPAddress": "10.0.0.1;"},
        "RegistrationInformation": {
            "CertificateInformation": {"Thumbprint": "AB", "Version": 3},
            "RegistrationMessageType": message_type,
        },
    });
    if let Some(names) = names {
        body["ConfigurationNames"] = json!(names);
    }
    body.to_string().into_bytes()
}

fn signed(body: Vec<u8>, clock: &dyn Clock) -> Request {
    let date = auth::x_ms_date(clock.now());
    let headers = RequestHeaders {
        authorization: Some(auth::authorization(&Secret::from(KEY), &date, &body)),
        x_ms_date: Some(date),
        ..RequestHeaders::default()
    };
    let operation = Operation::RegisterDscAgent { agent_id: agent() };
    Request { headers, ..Request::new(operation, body) }
}

async fn ask(server: &PullServer, operation: Operation, body: &str) -> (u16, serde_json::Value) {
    let mut request = Request::new(operation, body.to_owned());
    request.base = "http://pull/svc".to_owned();
    let reply = server.answer(request).await;
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
}

async fn action(server: &PullServer, client_status: serde_json::Value) -> (u16, serde_json::Value) {
    let operation = Operation::GetDscAction { agent_id: agent() };
    ask(server, operation, &json!({ "ClientStatus": client_status }).to_string()).await
}

fn outcomes(report: &RunReport) -> Vec<(&str, ResourceOutcome)> {
    report.resources.iter().map(|r| (r.instance_name(), r.outcome)).collect()
}

trait Named {
    fn instance_name(&self) -> &str;
}

impl Named for oms_dsc::node::ResourceStatus {
    fn instance_name(&self) -> &str {
        &self.instance_name
    }
}

#[tokio::test]
async fn a_node_registers_pulls_applies_and_stays_in_its_state() {
    let world = World::new(1);
    let server = world.start_server().await;
    let published = server.publish("Web", cells("Web", &[("a", "1"), ("b", "2")]).as_bytes()).await;
    let first = published.expect("published");
    let mut node = world.start_node(&["Web"]).await;

    let run = node.run().await.expect("a run");
    assert!(run.is_success && run.is_compliant && run.is_new, "{run:?}");
    assert_eq!(
        outcomes(&run),
        [("a", ResourceOutcome::Corrected), ("b", ResourceOutcome::Corrected)]
    );
    assert_eq!(world.cell.values()["b"], "2");

    // The second run has nothing to do.
    let run = node.run().await.expect("a run");
    assert!(run.is_success && run.is_compliant && !run.is_new, "{run:?}");
    assert!(run.resources.iter().all(|r| r.outcome == ResourceOutcome::InDesiredState));

    // Drift is found and corrected, by a node that was restarted.
    world.cell.0.lock().expect("cells").insert("b".into(), "drifted".into());
    drop(node);
    let mut node = world.start_node(&["Web"]).await;
    let run = node.run().await.expect("a run");
    assert_eq!(run.resources[1].differences[0].found, "drifted");
    assert_eq!(world.cell.values()["b"], "2");

    // A changed configuration is pulled again.
    let second = server.publish("Web", cells("Web", &[("a", "9")]).as_bytes()).await;
    assert_ne!(second.expect("published").checksum, first.checksum);
    let run = node.run().await.expect("a run");
    assert!(run.is_new && run.is_compliant, "{run:?}");
    assert_eq!(world.cell.values()["a"], "9");

    let record = node.record().await.expect("a record");
    assert_eq!(record.state, LcmState::Idle);
    let agent_id = record.agent_id.expect("an id");
    let seen = server.node(agent_id).await.expect("known");
    assert_eq!((seen.state, seen.agent.node_name.as_str()), (NodeState::Compliant, "node-a"));
    assert_eq!(server.reports(agent_id).await.expect("reports").len(), 4);
    assert_eq!(node.reports_waiting().await.expect("a number"), 0);
}

#[tokio::test]
async fn replayed_late_and_altered_registrations_are_refused() {
    let world = World::new(2);
    let server = world.start_server().await;
    let request = signed(registration(Some(&["Web"]), "ConfigurationRepository"), &*world.clock);
    let mut altered = request.clone();
    altered.body = registration(Some(&["Other"]), "ConfigurationRepository").into();
    assert_eq!(server.answer(altered).await.status, 401);
    let mut unsigned = request.clone();
    unsigned.headers = RequestHeaders::default();
    assert_eq!(server.answer(unsigned).await.status, 401);
    assert_eq!(server.node(agent()).await.expect_err("unknown").kind(), ErrorKind::NotFound);

    let reply = server.answer(request.clone()).await;
    assert_eq!((reply.status, reply.header("ProtocolVersion")), (204, Some("2.0")));
    assert_eq!(server.answer(request.clone()).await.status, 401, "a replay");
    // Nor under another agent's name, nor after a restart, nor after the node was taken out.
    let mut other = request.clone();
    other.operation = Operation::RegisterDscAgent { agent_id: AgentId(uuid::Uuid::nil()) };
    assert_eq!(server.answer(other).await.status, 401);
    server.remove_node(agent()).await.expect("removed");
    let server = world.start_server().await;
    assert_eq!(server.answer(request).await.status, 401, "a replay after a restart");

    let late = signed(registration(None, "ReportServer"), &*world.clock);
    world.clock.advance(std::time::Duration::from_secs(301));
    assert_eq!(server.answer(late).await.status, 401);
    let fresh = signed(registration(None, "ReportServer"), &*world.clock);
    assert_eq!(server.answer(fresh).await.status, 204);
}

#[tokio::test]
async fn only_a_configuration_repository_message_changes_the_names() {
    let world = World::new(3);
    let server = world.start_server().await;
    for (names, message_type) in [
        (Some(&["Web"][..]), "ConfigurationRepository"),
        (None, "ResourceRepository"),
        (None, "ReportServer"),
        (None, "ConfigurationRepository"),
    ] {
        let request = signed(registration(names, message_type), &*world.clock);
        assert_eq!(server.answer(request).await.status, 204, "{message_type}");
        let node = server.node(agent()).await.expect("known");
        assert_eq!(node.registered_names[0].as_str(), "Web");
        world.clock.advance(std::time::Duration::from_secs(1));
    }
}

#[tokio::test]
async fn names_that_leave_their_place_and_strangers_are_refused() {
    let world = World::new(4);
    let server = world.start_server().await;
    let request = signed(registration(Some(&["../Web"]), "ConfigurationRepository"), &*world.clock);
    assert_eq!(server.answer(request).await.status, 400);
    let bad = signed(b"{}".to_vec(), &*world.clock);
    assert_eq!(server.answer(bad).await.status, 400);
    let text = cells("x", &[]);
    for name in ["../x", "a/b", "..", ""] {
        let error = server.publish(name, text.as_bytes()).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let agent_id = agent();
    let configuration_name = "../Web".to_owned();
    for operation in [
        Operation::GetDscAction { agent_id },
        Operation::SendReport { agent_id },
        Operation::GetReports { agent_id, job_id: None },
        Operation::GetConfiguration { agent_id, configuration_name: "Web".into() },
    ] {
        assert_eq!(ask(&server, operation.clone(), "{}").await.0, 401, "{operation:?}");
    }
    let rotation = Operation::CertificateRotation { agent_id };
    assert_eq!(ask(&server, rotation.clone(), "{}").await.0, 404);
    let request = signed(registration(Some(&["Web"]), "ConfigurationRepository"), &*world.clock);
    assert_eq!(server.answer(request).await.status, 204);
    let operation = Operation::GetConfiguration { agent_id, configuration_name };
    assert_eq!(ask(&server, operation, "").await.0, 400);
    // A node sees its own configurations only.
    server.publish("Secret", text.as_bytes()).await.expect("published");
    let configuration_name = "Secret".to_owned();
    let operation = Operation::GetConfiguration { agent_id, configuration_name };
    assert_eq!(ask(&server, operation, "").await.0, 404);
    let module = Operation::GetModule { module_name: "../x".into(), module_version: String::new() };
    assert_eq!(ask(&server, module, "").await.0, 401, "without an AgentId header");
    let (status, body) = ask(&server, rotation, "{}").await;
    assert_eq!(status, 400);
    let message = body["odata.error"]["message"]["value"].as_str().expect("a message");
    assert!(message.contains("missing field `CertificateInformation`"), "{message}");
}

#[tokio::test]
async fn actions_are_spelled_as_on_the_wire() {
    let world = World::new(5);
    let server = world.start_server().await;
    let request = signed(registration(Some(&["A", "B"]), "ConfigurationRepository"), &*world.clock);
    assert_eq!(server.answer(request).await.status, 204);
    let a = server.publish("A", cells("A", &[]).as_bytes()).await.expect("published");
    server.publish("B", cells("B", &[]).as_bytes()).await.expect("published");
    let unnamed = json!([{"Checksum": "", "ChecksumAlgorithm": "SHA-256"}]);
    let (status, body) = action(&server, unnamed.clone()).await;
    let expected = json!({
        "odata.metadata": "http://pull/svc/$metadata#MSFT.DSCNodeStatus",
        "NodeStatus": "UpdateMetaConfig",
        "Details": [
            {"ConfigurationName": "A", "Status": "UpdateMetaConfig"},
            {"ConfigurationName": "B", "Status": "UpdateMetaConfig"},
        ],
    });
    assert_eq!((status, body), (200, expected));
    let named = json!([
        {"Checksum": a.checksum, "ConfigurationName": "A", "ChecksumAlgorithm": "SHA-256"},
        {"Checksum": null, "ConfigurationName": "b", "ChecksumAlgorithm": "SHA-256"},
    ]);
    let (_, body) = action(&server, named).await;
    assert_eq!(body["NodeStatus"], "GetConfiguration");
    assert_eq!(body["Details"][0]["Status"], "Ok");
    // An operator's assignment stands in for what the node registered for.
    server.assign(agent(), &["A"]).await.expect("assigned");
    let (_, body) = action(&server, unnamed.clone()).await;
    assert_eq!(body["Details"], json!([{"ConfigurationName": "A", "Status": "GetConfiguration"}]));
    server.assign(agent(), &["Unpublished"]).await.expect("assigned");
    assert_eq!(action(&server, unnamed).await.0, 404);
    assert_eq!(action(&server, json!("x")).await.0, 400);
}

#[tokio::test]
async fn version_1_knows_nodes_by_their_configuration_id() {
    let world = World::new(6);
    let server = world.start_server().await;
    let configuration_id = agent().0;
    let get_action = Operation::V1(v1::Operation::GetAction { configuration_id });
    let body = json!({"Checksum": "", "NodeCompliant": "True", "StatusCode": "0"}).to_string();
    let (status, error) = ask(&server, get_action.clone(), &body).await;
    assert_eq!(status, 400);
    let id = configuration_id.to_string().to_uppercase();
    let error = &error["odata.error"];
    assert_eq!(error["code"], "ConfigurationID not found for {0}.");
    assert_eq!(error["message"]["value"], format!("ConfigurationID not found for {id}."));
    let send = Operation::V1(v1::Operation::SendStatusReport { configuration_id });
    let report = json!({"JobId": uuid::Uuid::nil(), "Status": "Success"}).to_string();
    assert_eq!(ask(&server, send.clone(), &report).await.0, 400);

    let published = server.publish(&id, cells("x", &[]).as_bytes()).await.expect("published");
    let (_, answer) = ask(&server, get_action.clone(), &body).await;
    assert_eq!(answer["value"], "GetConfiguration");
    let body = json!({"Checksum": published.checksum}).to_string();
    assert_eq!(ask(&server, get_action, &body).await.1["value"], "Ok");
    let content = Operation::V1(v1::Operation::GetConfiguration { configuration_id });
    let reply = server.answer(Request::new(content, "")).await;
    assert_eq!(reply.header("Checksum"), Some(&*published.checksum.to_string()));
    assert_eq!(reply.header("Prefer"), Some("return-content"));
    assert_eq!(ask(&server, send, &report).await.0, 200);
    let list = Operation::V1(v1::Operation::GetStatusReports { configuration_id, job_id: None });
    let (_, list) = ask(&server, list, "").await;
    assert_eq!(list["value"][0]["Status"], "Success");
}

#[tokio::test]
async fn modules_are_handed_to_registered_nodes() {
    let world = World::new(7);
    let server = world.start_server().await;
    let request = signed(registration(None, "ResourceRepository"), &*world.clock);
    assert_eq!(server.answer(request).await.status, 204);
    for version in ["1.2", "1.10"] {
        let package = Zip::of(&[("nx/version", version.as_bytes())]).finish();
        let version = version.parse().expect("a version");
        server.publish_module("nx", version, &package).await.expect("published");
    }
    let fetch = async |version: &str| {
        let (module_name, module_version) = ("NX".to_owned(), version.to_owned());
        let mut request = Request::new(Operation::GetModule { module_name, module_version }, "");
        request.headers.agent_id = Some(agent().to_string().to_uppercase());
        let reply = server.answer(request).await;
        let package = oms_dsc::module::Package::read(&reply.body);
        let content = package.and_then(|package| package.content(&package.entries()[0]));
        (reply.status, String::from_utf8(content.unwrap_or_default()).expect("text"))
    };
    assert_eq!(fetch("1.2").await, (200, "1.2".to_owned()));
    assert_eq!(fetch("").await, (200, "1.10".to_owned()));
    assert_eq!(fetch("2.0").await.0, 404);
    assert_eq!(fetch("x").await.0, 400);
}

#[tokio::test]
async fn reports_outlive_an_outage_and_a_restart_of_the_server() {
    let world = World::new(8);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    let mut node = world.start_node(&["Web"]).await;
    assert!(node.run().await.expect("a run").is_success);

    world.stop_server();
    world.cell.0.lock().expect("cells").clear();
    for _ in 0..3 {
        let run = node.run().await.expect("a run");
        assert!(run.is_success && run.errors[0].contains("the server is down"), "{run:?}");
        world.clock.advance(std::time::Duration::from_secs(900));
    }
    assert_eq!(world.cell.values()["a"], "1", "what it has is kept without a server");
    assert_eq!(node.reports_waiting().await.expect("a number"), 6);
    drop(server);
    world.server_disk.crash(&*world.entropy);

    let server = world.start_server().await;
    assert!(node.run().await.expect("a run").is_success);
    assert_eq!(node.reports_waiting().await.expect("a number"), 0);
    let agent_id = node.record().await.expect("a record").agent_id.expect("an id");
    let reports = server.reports(agent_id).await.expect("reports");
    assert_eq!(reports.len(), 5);
    assert!(reports.iter().all(|report| report.status.as_deref() == Some("Success")));
}

#[tokio::test]
async fn a_server_that_forgot_the_node_gets_its_registration_again() {
    let world = World::new(9);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    let mut node = world.start_node(&["Web"]).await;
    assert!(node.run().await.expect("a run").is_success);
    let agent_id = node.record().await.expect("a record").agent_id.expect("an id");
    server.remove_node(agent_id).await.expect("removed");
    world.clock.advance(std::time::Duration::from_secs(1));
    let run = node.run().await.expect("a run");
    assert!(run.is_success && run.errors.is_empty(), "{run:?}");
    assert_eq!(server.node(agent_id).await.expect("known again").state, NodeState::Compliant);
}

#[tokio::test]
async fn a_node_follows_what_an_operator_assigns() {
    let world = World::new(10);
    let server = world.start_server().await;
    for (name, cell) in [("A", "a"), ("B", "b"), ("C", "c")] {
        server.publish(name, cells(name, &[(cell, "1")]).as_bytes()).await.expect("published");
    }
    let mut node = world.start_node(&["A"]).await;
    assert!(node.run().await.expect("a run").is_success);
    let agent_id = node.record().await.expect("a record").agent_id.expect("an id");
    server.assign(agent_id, &["B", "C"]).await.expect("assigned");
    assert_eq!(server.node(agent_id).await.expect("known").state, NodeState::Pending);
    let run = node.run().await.expect("a run");
    let names: Vec<&str> = run.configurations.keys().map(|name| name.as_str()).collect();
    assert_eq!((names, run.is_compliant), (vec!["B", "C"], true));
    server.assign(agent_id, &["C"]).await.expect("assigned");
    let run = node.run().await.expect("a run");
    assert_eq!(run.configurations.len(), 1);
    assert_eq!(world.cell.values().len(), 3);
}

#[tokio::test]
async fn modes_decide_what_becomes_of_drift() {
    for (mode, is_applied, is_corrected, is_compliant) in [
        (ConfigurationMode::ApplyOnly, true, false, true),
        (ConfigurationMode::ApplyAndMonitor, true, false, false),
        (ConfigurationMode::ApplyAndAutoCorrect, true, true, true),
        (ConfigurationMode::MonitorOnly, false, false, false),
    ] {
        let world = World::new(11);
        let server = world.start_server().await;
        server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
        let mut settings = world.settings(&["Web"]);
        settings.configuration_mode = mode;
        let transport = Arc::new(world.direct.clone());
        let mut node = world.open_node(settings, transport).await.expect("opens");
        let run = node.run().await.expect("a run");
        assert_eq!((run.is_success, run.is_new, run.is_applied), (true, true, is_applied));
        assert_eq!(world.cell.values().contains_key("a"), is_applied, "{mode:?}");
        world.cell.0.lock().expect("cells").insert("a".into(), "drifted".into());
        let run = node.run().await.expect("a run");
        assert_eq!(run.is_compliant, is_compliant, "{mode:?}");
        assert_eq!(world.cell.values()["a"] == "1", is_corrected, "{mode:?}");
        let agent_id = node.record().await.expect("a record").agent_id.expect("an id");
        let state = server.node(agent_id).await.expect("known").state;
        let expected = if is_compliant { NodeState::Compliant } else { NodeState::NotCompliant };
        assert_eq!(state, expected, "{mode:?}");
    }
}

#[tokio::test]
async fn what_depends_on_a_failure_is_skipped_and_the_rest_is_done() {
    let world = World::new(12);
    let server = world.start_server().await;
    let document = |value: &str| {
        cells("Web", &[("a", value), ("c", "3")])
            + "instance of Test_Cell { ResourceID = \"[Cell]b\"; Name = \"b\"; Value = \"2\"; \
               DependsOn = {\"[Cell]a\"}; };
               instance of Test_Unknown { ResourceID = \"[Unknown]x\"; };"
    };
    server.publish("Web", document("impossible").as_bytes()).await.expect("published");
    let mut node = world.start_node(&["Web"]).await;
    let run = node.run().await.expect("a run");
    assert!(!run.is_success && !run.is_compliant);
    use ResourceOutcome::{Corrected, Failed, Skipped};
    assert_eq!(outcomes(&run), [("a", Failed), ("c", Corrected), ("b", Skipped), ("x", Failed)]);
    let error = run.resources[3].error.as_deref();
    assert_eq!(error, Some("resource class is not supported. name=`Test_Unknown`"));
    let record = node.record().await.expect("a record");
    assert_eq!((record.state, record.current.len()), (LcmState::PendingConfiguration, 0));
    let agent_id = record.agent_id.expect("an id");
    assert_eq!(server.node(agent_id).await.expect("known").state, NodeState::Failed);

    // The pending one is tried again, and a good one takes its place.
    assert!(!node.run().await.expect("a run").is_success);
    server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    assert!(node.run().await.expect("a run").is_success);
    assert_eq!(node.record().await.expect("a record").state, LcmState::Idle);
}

/// Damages what it carries, as a proxy or a disk on the way may.
#[derive(Debug)]
struct Damaging {
    inner: crate::support::Direct,
    is_on: AtomicBool,
}

#[async_trait]
impl Transport for Damaging {
    async fn exchange(&self, request: &Request) -> Result<Reply, Error> {
        let mut reply = self.inner.exchange(request).await?;
        let is_document = matches!(request.operation, Operation::GetConfiguration { .. });
        if is_document && self.is_on.load(Ordering::SeqCst) {
            let mut body = reply.body.to_vec();
            body.truncate(body.len() / 2);
            reply.body = body.into();
        }
        Ok(reply)
    }
}

#[tokio::test]
async fn a_damaged_document_leaves_the_node_as_it_is() {
    let world = World::new(13);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    let transport =
        Arc::new(Damaging { inner: world.direct.clone(), is_on: AtomicBool::new(false) });
    let way = Arc::clone(&transport) as Arc<dyn Transport>;
    let mut node = world.open_node(world.settings(&["Web"]), way).await.expect("opens");
    assert!(node.run().await.expect("a run").is_success);
    server.publish("Web", cells("Web", &[("a", "2")]).as_bytes()).await.expect("published");
    transport.is_on.store(true, Ordering::SeqCst);
    let run = node.run().await.expect("a run");
    assert!(!run.is_success && run.errors[0].contains("its checksum is"), "{run:?}");
    assert_eq!(world.cell.values()["a"], "1");
    transport.is_on.store(false, Ordering::SeqCst);
    assert!(node.run().await.expect("a run").is_success);
    assert_eq!(world.cell.values()["a"], "2");
}

/// Answers up to a request, and never the request itself: there the process ends.
#[derive(Debug)]
struct Ending {
    inner: crate::support::Direct,
    at: fn(&Operation) -> bool,
    reached: Arc<Notify>,
}

#[async_trait]
impl Transport for Ending {
    async fn exchange(&self, request: &Request) -> Result<Reply, Error> {
        if (self.at)(&request.operation) {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
        self.inner.exchange(request).await
    }
}

/// A cell whose first set never ends.
#[derive(Clone, Debug)]
struct Stuck(crate::support::Cell, Arc<Notify>);

#[async_trait]
impl oms_dsc::resource::Resource for Stuck {
    fn classes(&self) -> &[&str] {
        &["Test_Cell"]
    }

    async fn get(
        &self,
        instance: &oms_dsc::configuration::ResourceInstance,
    ) -> Result<std::collections::BTreeMap<String, serde_json::Value>, Error> {
        self.0.get(instance).await
    }

    async fn test(
        &self,
        instance: &oms_dsc::configuration::ResourceInstance,
    ) -> Result<Vec<oms_dsc::resource::Difference>, Error> {
        self.0.test(instance).await
    }

    async fn set(
        &self,
        _: &oms_dsc::configuration::ResourceInstance,
    ) -> Result<oms_dsc::resource::SetReport, Error> {
        self.1.notify_one();
        std::future::pending().await
    }
}

/// Runs until the run waits for what never comes, then ends the process there.
async fn run_into_the_end(mut node: Lcm, reached: &Notify) {
    tokio::select! {
        biased;
        run = node.run() => panic!("the run came to its end: {run:?}"),
        () = reached.notified() => {}
    }
}

#[tokio::test]
async fn a_crash_between_fetching_and_applying_converges() {
    let world = World::new(14);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1"), ("b", "2")]).as_bytes()).await.expect("ok");
    let transport = Ending {
        inner: world.direct.clone(),
        at: |operation| matches!(operation, Operation::GetConfiguration { .. }),
        reached: Arc::default(),
    };
    let reached = Arc::clone(&transport.reached);
    let node = world.open_node(world.settings(&["Web"]), Arc::new(transport)).await.expect("opens");
    run_into_the_end(node, &reached).await;
    world.node_disk.crash(&*world.entropy);

    // Fetched this time, and stuck while applying.
    let stuck = oms_dsc::resource::Registry::new()
        .with(Arc::new(Stuck(world.cell.clone(), Arc::clone(&reached))));
    let node = Lcm::builder("unused", world.settings(&["Web"]))
        .disk(Arc::new(world.node_disk.clone()))
        .journal(Arc::clone(&world.node_journal) as Arc<dyn Journal>)
        .transport(Arc::new(world.direct.clone()))
        .clock(Arc::clone(&world.clock) as Arc<dyn Clock>)
        .resources(stuck)
        .build()
        .await
        .expect("opens");
    run_into_the_end(node, &reached).await;
    world.node_disk.crash(&*world.entropy);

    // What was fetched is applied, although the server is gone.
    world.stop_server();
    let mut node = world.start_node(&["Web"]).await;
    assert_eq!(node.record().await.expect("a record").state, LcmState::Applying);
    let run = node.run().await.expect("a run");
    assert!(run.is_success && run.is_compliant, "{run:?}");
    assert_eq!(world.cell.values().len(), 2);
}

#[tokio::test]
async fn a_damaged_stored_document_is_fetched_again() {
    let world = World::new(15);
    let server = world.start_server().await;
    let text = cells("Web", &[("a", "1")]);
    let published = server.publish("Web", text.as_bytes()).await.expect("published");
    let mut node = world.start_node(&["Web"]).await;
    assert!(node.run().await.expect("a run").is_success);
    let path = std::path::Path::new("configurations").join(published.checksum.to_string());
    world.node_disk.flip_bit(&path, 5, 1);
    let run = node.run().await.expect("a run");
    assert!(run.is_success && run.is_new, "{run:?}");
    assert!(!node.run().await.expect("a run").is_new);
}

#[tokio::test]
async fn silent_nodes_are_noticed_and_old_reports_dropped() {
    let world = World::new(16);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    let mut node = world.start_node(&["Web"]).await;
    assert!(node.run().await.expect("a run").is_success);
    let agent_id = node.record().await.expect("a record").agent_id.expect("an id");
    world.clock.advance(std::time::Duration::from_secs(91 * 60));
    assert_eq!(server.maintain().await.expect("maintained").nodes_silent, 1);
    assert_eq!(server.maintain().await.expect("maintained").nodes_silent, 0);
    assert_eq!(server.node(agent_id).await.expect("known").state, NodeState::Unresponsive);
    assert!(node.run().await.expect("a run").is_success);
    assert_eq!(server.node(agent_id).await.expect("known").state, NodeState::Compliant);
    world.clock.advance(std::time::Duration::from_secs(31 * 86_400));
    assert!(node.run().await.expect("a run").is_success);
    assert_eq!(server.maintain().await.expect("maintained").report_files_dropped, 1);
    assert_eq!(server.reports(agent_id).await.expect("reports").len(), 1);

    // A restart is no contact; but a server that was down cannot tell who was silent.
    let reported = server.node(agent_id).await.expect("known").last_heard;
    world.stop_server();
    drop(server);
    world.clock.advance(std::time::Duration::from_secs(91 * 60));
    let server = world.start_server().await;
    assert_eq!(server.node(agent_id).await.expect("known").last_heard, reported);
    assert_eq!(server.maintain().await.expect("maintained").nodes_silent, 0);
    world.clock.advance(std::time::Duration::from_secs(91 * 60));
    assert_eq!(server.maintain().await.expect("maintained").nodes_silent, 1);
}

#[tokio::test]
async fn a_finished_run_becomes_records_once() {
    let world = World::new(17);
    let server = world.start_server().await;
    let request = signed(registration(Some(&["Web"]), "ConfigurationRepository"), &*world.clock);
    assert_eq!(server.answer(request).await.status, 204);
    let data = json!({
        "NumberOfResources": "2",
        "MetaConfiguration": {"ConfigurationMode": "ApplyAndMonitor"},
        "ResourcesInDesiredState": [{"ResourceId": "[File]a", "ResourceName": "File"}],
        "ResourcesNotInDesiredState": [
            {"ResourceId": "[File]b", "ModuleName": "m", "DurationInSeconds": "0.5", "Error": "e"},
        ],
    });
    let body = json!({
        "JobId": uuid::Uuid::nil(), "OperationType": "Consistency", "Status": "Success",
        "NodeName": "pc", "EndTime": "2026-01-01T00:00:00.0000000-07:00",
        "StatusData": [data.to_string()],
    });
    let operation = Operation::SendReport { agent_id: agent() };
    for _ in 0..3 {
        let (status, answer) = ask(&server, operation.clone(), &body.to_string()).await;
        assert_eq!((status, &answer["value"]), (200, &json!("SavedReport")));
    }
    assert_eq!(ask(&server, operation.clone(), "").await.0, 400);
    let events = world.server_journal.read_all(0, 100).await.expect("events");
    let mapped = events.iter().map(|event| oms_dsc::records(event, "?").expect("mapped"));
    let records: Vec<_> = mapped.flatten().collect();
    let column = |record: usize, name: &str| records[record].fields.get(name).cloned();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record.computer == "pc"));
    assert_eq!(column(0, "OperationName"), Some(Value::from("DscNodeStatusData")));
    assert_eq!(column(0, "NodeComplianceStatus_s"), Some(Value::from("NotCompliant")));
    assert_eq!(column(0, "NumberOfResources_d"), Some(Value::from(2.0)));
    assert_eq!(column(0, "ConfigurationMode_s"), Some(Value::from("ApplyAndMonitor")));
    assert_eq!(column(1, "DscResourceStatus_s"), Some(Value::from("Failed")));
    assert_eq!(column(1, "DscResourceDuration_d"), Some(Value::from(0.5)));
    assert_eq!(column(2, "DscResourceStatus_s"), Some(Value::from("Compliant")));
    assert_eq!(world.server_journal.list_whole("dsc-node").await.expect("heads").len(), 1);
}

#[tokio::test]
async fn an_event_of_a_newer_version_is_told_and_never_skipped() {
    let world = World::new(19);
    let server = world.start_server().await;
    let request = signed(registration(Some(&["Web"]), "ConfigurationRepository"), &*world.clock);
    assert_eq!(server.answer(request).await.status, 204);
    let events = world.server_journal.read_all(0, 100).await.expect("events");
    let mut registrations = events.into_iter().filter(|e| e.envelope.kind == "dsc-node-registered");
    let mut newer = registrations.next().expect("a registration");
    assert_eq!(oms_dsc::records(&newer, "?"), Ok(Vec::new()));
    for (kind, format) in [("dsc-node-registered", 2), ("dsc-node-renamed", 1)] {
        (newer.envelope.kind, newer.envelope.format) = (kind.to_owned(), format);
        let poisoned = oms_dsc::records(&newer, "?").expect_err("it is not known");
        assert!(matches!(poisoned, MappingError::Poisoned { .. }), "{poisoned}");
    }
    let (history, envelopes) = (newer.history, vec![newer.envelope]);
    world.server_journal.append_to(&history, newer.version, envelopes).await.expect("appended");
    let journal = Arc::clone(&world.server_journal) as Arc<dyn Journal>;
    let refused = world.open_server(journal).await.expect_err("its nodes are not known");
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
}

#[tokio::test]
async fn a_node_is_read_back_from_snapshot_and_events() {
    let world = World::new(18);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    let mut node = world.start_node(&["Web"]).await;
    for _ in 0..70 {
        assert!(node.run().await.expect("a run").is_success);
    }
    let agent_id = node.record().await.expect("a record").agent_id.expect("an id");
    let before = server.node(agent_id).await.expect("known");
    let after = world.start_server().await.node(agent_id).await.expect("known");
    assert_eq!(after.last_heard, Some(start()));
    assert_eq!(after, before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a registered node or a stranger sends, the answer is a refusal of the request and
    /// never a failure of the server.
    #[test]
    fn any_body_is_answered(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "\\{\"(JobId|ClientStatus|Status|StatusData)\":[\\[\\]\\{\\}\"a-f0-9,:-]{0,80}\\}"
                .prop_map(String::into_bytes),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let world = World::new(1);
            let server = world.start_server().await;
            let register = registration(Some(&["A", "B"]), "ConfigurationRepository");
            let request = signed(register, &*world.clock);
            prop_assert_eq!(server.answer(request).await.status, 204);
            let agent_id = agent();
            for operation in [
                Operation::GetDscAction { agent_id },
                Operation::SendReport { agent_id },
                Operation::RegisterDscAgent { agent_id },
                Operation::V1(v1::Operation::GetAction { configuration_id: agent_id.0 }),
            ] {
                let reply = server.answer(Request::new(operation, body.clone())).await;
                prop_assert!(reply.status < 500, "{}", reply.status);
            }
            let reply = server.answer(signed(body, &*world.clock)).await;
            prop_assert!(reply.status < 500, "{}", reply.status);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_node_is_found_by_its_handle_and_told_what_would_change() {
    let world = World::new(31);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1"), ("b", "1")]).as_bytes()).await.expect("ok");
    let mut node = world.start_node(&["Web"]).await;
    assert!(node.run().await.expect("a run").is_success);
    let known = server.nodes().await.expect("nodes").remove(0);
    let handle = known.handle();
    assert!(handle.len() == 10 && !known.agent_id.to_string().contains(&handle));
    for name in [&*handle, "NODE-A", &known.agent_id.to_string()] {
        assert_eq!(server.find_node(name).await.expect(name).agent_id, known.agent_id);
    }
    assert_eq!(server.find_node("node-b").await.expect_err("nobody").kind(), ErrorKind::NotFound);

    // It asked before it had anything, and has said nothing since.
    assert_eq!(server.diff(known.agent_id).await.expect("a diff")[0].running, None);
    assert!(node.run().await.expect("a run").is_success);
    let same = server.diff(known.agent_id).await.expect("a diff").remove(0);
    assert!(same.running.is_some() && same.running == same.published);
    assert_eq!((same.changes, same.omitted), (Some(Vec::new()), 0));
    server.publish("Web", cells("Web", &[("a", "2"), ("c", "1")]).as_bytes()).await.expect("ok");
    let changed = server.diff(known.agent_id).await.expect("a diff").remove(0);
    let shown: Vec<String> =
        changed.changes.expect("known").iter().map(ToString::to_string).collect();
    assert_eq!(shown[0], "~ [Cell]a\n    Value: \"1\" -> \"2\"");
    assert!(shown[1] == "- [Cell]b" && shown[2].starts_with("+ [Cell]c"), "{shown:?}");

    server.remove_node(known.agent_id).await.expect("removed");
    assert!(server.find_node(&handle).await.is_err() && server.diff(known.agent_id).await.is_err());
}
