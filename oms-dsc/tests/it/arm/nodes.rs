//! Nodes, their reports, and how they come to be registered.

use super::{Managed, Said};
use crate::support::cells;
use http::{Method, StatusCode};
use oms_core::Secret;
use oms_dsc::Metaconfiguration;
use oms_dsc::node::ConfigurationMode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

fn assignment(name: &str) -> Value {
    json!({"properties": {"nodeConfiguration": {"name": name}}})
}

#[tokio::test]
async fn a_node_registers_by_the_accounts_key_and_is_managed_by_its_handle() {
    let managed = Managed::new(1).await;
    let server = &managed.server;
    server.publish("Web.pc", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    let information = managed.get("agentRegistrationInformation").await;
    assert_eq!(information.status, StatusCode::OK, "{information:?}");
    assert_eq!(information.body["endpoint"], "http://management.example/PSDSCPullServer.svc");
    assert_eq!(information.headers["cache-control"], "no-store");
    let document = information.body["dscMetaConfiguration"].as_str().expect("a document");
    let mut settings = Metaconfiguration::parse("meta", document.as_bytes()).expect("a meta.mof");
    assert_eq!(settings.registration_key, Secret::from(key(&information, "primary").as_str()));
    assert_eq!(settings.configuration_mode, ConfigurationMode::ApplyAndMonitor);
    settings.configuration_mode = ConfigurationMode::ApplyAndAutoCorrect;
    settings.node_name = "pc-1".to_owned();
    let transport = Arc::new(managed.world.direct.clone());
    let mut node = managed.world.open_node(settings, transport).await.expect("opens");
    node.run().await.expect("a run");

    let agent_id = node.record().await.expect("a record").agent_id.expect("registered");
    let handle = server.node(agent_id).await.expect("known").handle();
    let listed = managed.get("nodes?$inlinecount=allpages").await;
    assert_eq!((listed.names(), &listed.body["totalCount"]), (vec!["pc-1"], &json!(1)));
    let shown = &listed.body["value"][0];
    assert_eq!(shown["properties"]["nodeId"], handle);
    assert!(!listed.text.contains(&agent_id.to_string()), "the AgentId is a secret: {listed:?}");
    assert_eq!(shown["properties"]["nodeConfiguration"]["name"], "");
    assert_eq!(shown["properties"]["registrationTime"], "2026-01-01T00:00:00Z");

    // It is given a configuration, fetches and reports it.
    let path = format!("nodes/{handle}");
    let given = managed.json(Method::PATCH, &path, &assignment("web.PC")).await;
    assert_eq!(given.status, StatusCode::OK, "{given:?}");
    assert_eq!(given.body["properties"]["nodeConfiguration"]["name"], "Web.pc");
    assert_eq!(given.body["properties"]["status"], "Pending");
    managed.world.clock.advance(Duration::from_secs(900));
    assert!(node.run().await.expect("a run").is_success);
    let shown = managed.get(&format!("nodes/{agent_id}")).await;
    assert_eq!(shown.body["properties"]["status"], "Compliant", "named by its AgentId: {shown:?}");
    check_filters(&managed).await;
    check_reports(&managed, &path).await;
    let counted = managed.get("nodeConfigurations/Web.pc").await;
    assert_eq!(counted.body["properties"]["nodeCount"], 1);
    let counts = managed.get("nodecounts/Status").await;
    let expect =
        json!({"value": [{"name": "Compliant", "properties": {"count": 1}}], "totalCount": 1});
    assert_eq!(counts.body, expect);
    let counts = managed.get("nodecounts/nodeconfiguration").await;
    assert_eq!(counts.body["value"][0], json!({"name": "Web.pc", "properties": {"count": 1}}));
    assert_eq!(managed.get("nodecounts/other").await.status, StatusCode::NOT_FOUND);

    let none = managed.json(Method::PATCH, &path, &assignment("")).await;
    assert_eq!(none.body["properties"]["nodeConfiguration"]["name"], "");
    let gone = managed.delete(&path).await;
    assert_eq!((gone.status, &gone.body["name"]), (StatusCode::OK, &json!("pc-1")));
    for below in [path.clone(), format!("{path}/reports"), format!("nodes/{agent_id}")] {
        let said = managed.get(&below).await;
        assert_eq!((said.status, said.code()), (StatusCode::NOT_FOUND, "ResourceNotFound"));
        assert!(!said.text.contains(&agent_id.to_string()), "{said:?}");
    }
}

async fn check_filters(managed: &Managed) {
    for (filter, count) in [
        ("contains(properties/status,'Compliant,NotCompliant')", 1),
        ("properties/status eq 'Failed'", 0),
        ("contains('PC',name) and properties/nodeConfiguration/name eq 'web.pc'", 1),
        ("contains(properties/nodeConfiguration/name,'$$Not$$Configured$$')", 0),
        ("properties/lastSeen lt 2026-01-01T00:00:00Z", 0),
    ] {
        let said = managed.get(&format!("nodes?$filter={}", filter.replace(' ', "%20"))).await;
        assert_eq!(said.names().len(), count, "{filter}");
    }
    let handler = "properties/extensionHandler/any(eh:%20eh/version%20gt%20'2.70')";
    let said = managed.get(&format!("nodes?$filter={handler}")).await;
    assert_eq!((said.status, said.code()), (StatusCode::NOT_IMPLEMENTED, "NotSupported"));
}

async fn check_reports(managed: &Managed, path: &str) {
    let listed = managed.get(&format!("{path}/reports")).await;
    let all = listed.body["value"].as_array().expect("a list");
    let report = all.iter().find(|one| one["status"] == "Compliant").expect("a report");
    assert_eq!((&report["hostName"], &report["numberOfResources"]), (&json!("pc-1"), &json!(1)));
    assert_eq!(report["resources"][0]["resourceId"], "[Cell]a");
    assert_eq!(report["resources"][0]["status"], "Compliant");
    assert_eq!(
        (&report["refreshMode"], &report["rebootRequested"]),
        (&json!("Pull"), &json!("False"))
    );
    let id = report["reportId"].as_str().expect("an id");
    let one = managed.get(&format!("{path}/reports/{id}")).await;
    assert_eq!(&one.body, report);
    let content = managed.get(&format!("{path}/reports/{id}/content")).await;
    assert_eq!((&content.body["JobId"], &content.body["Status"]), (&json!(id), &json!("Success")));
    let late = "reports?$filter=properties/startTime%20ge%202030-01-01T00:00:00Z";
    let none = managed.get(&format!("{path}/{late}")).await;
    assert_eq!(none.body["value"], json!([]));
    for (below, status) in [
        ("reports/00000000-0000-0000-0000-000000000001", StatusCode::NOT_FOUND),
        ("reports/none", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(managed.get(&format!("{path}/{below}")).await.status, status);
    }
}

#[tokio::test]
async fn what_cannot_be_done_to_a_node_is_told() {
    let managed = Managed::new(1).await;
    let mut node = managed.world.start_node(&[]).await;
    node.run().await.expect("a run");
    let agent_id = node.record().await.expect("a record").agent_id.expect("registered");
    let path = format!("nodes/{}", managed.server.node(agent_id).await.expect("known").handle());
    let other = json!({
        "nodeId": "0123456789", "properties": {"nodeConfiguration": {"name": ""}},
    });
    for (body, status, expect) in [
        (assignment("None.pc"), 404, "no such node configuration. name=`None.pc`"),
        (assignment("a/b"), 400, "slash"),
        (json!({"properties": {}}), 400, "missing field `nodeConfiguration`"),
        (other, 400, "another than the path's"),
    ] {
        let said = managed.json(Method::PATCH, &path, &body).await;
        assert_eq!(said.status, status, "{said:?}");
        assert!(said.message().contains(expect), "{expect}: {}", said.message());
    }
    let missing = managed.json(Method::PATCH, "nodes/0123456789", &assignment("")).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

fn key(information: &Said, name: &str) -> String {
    information.body["keys"][name].as_str().expect("a key").to_owned()
}

#[tokio::test]
async fn each_key_is_drawn_anew_by_itself_and_the_old_one_registers_nobody() {
    let managed = Managed::new(1).await;
    let first = managed.get("agentRegistrationInformation").await;
    let (primary, secondary) = (key(&first, "primary"), key(&first, "secondary"));
    assert_ne!(primary, secondary);
    let again = managed.get("agentRegistrationInformation").await;
    assert_eq!(again.body["keys"], first.body["keys"], "they are drawn once");
    let regenerate = |name: &'static str| {
        let path = "agentRegistrationInformation/regenerateKey";
        let body = json!({ "keyName": name });
        let managed = &managed;
        async move { managed.json(Method::POST, path, &body).await }
    };
    let changed = regenerate("Primary").await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_ne!(key(&changed, "primary"), primary);
    assert_eq!(key(&changed, "secondary"), secondary);
    for (key, expect) in [(&primary, 401), (&secondary, 204), (&key(&changed, "primary"), 204)] {
        let agent = crate::registration_key::agent(u128::from(expect != 401) + 1);
        let key = Secret::from(key.as_str());
        let request = crate::registration_key::signed(&managed.world, agent, &[], &key);
        assert_eq!(managed.server.answer(request).await.status, expect);
    }
    let wrong = regenerate("third").await;
    assert!(wrong.message().contains("neither `primary` nor `secondary`"), "{wrong:?}");
    // A restart has them, and another server on the same journal too.
    let other = managed.world.start_server().await;
    let keys = other.account_keys("me").await.expect("keys");
    assert_eq!(keys.primary, Secret::from(key(&changed, "primary").as_str()));
    let journal = format!("{:?}", managed.world.events().await);
    assert!(!journal.contains(&secondary), "they are sealed");
}
