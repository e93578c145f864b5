//! Two machines with one AgentId are told to the operator.

use crate::registration_key::{agent, signed_body};
use crate::support::{KEY, World};
use oms_core::journal::Journal as _;
use oms_core::record::Value;
use oms_dsc::PullServer;
use oms_dsc::protocol::{Operation, Request};
use oms_dsc::pull_server::{CloneSign, NodeState};
use serde_json::json;
use std::time::Duration;

/// A registration of a machine: its name, certificate and address.
async fn register(world: &World, server: &PullServer, machine: (&str, &str, &str)) {
    let (name, thumbprint, address) = machine;
    let body = json!({
        "AgentInformation": {"LCMVersion": "2.0", "NodeName": name, "IPAddress": address},
        "ConfigurationNames": ["Web"],
        "RegistrationInformation": {
            "CertificateInformation": {"Thumbprint": thumbprint, "Version": 3},
            "RegistrationMessageType": "ConfigurationRepository",
        },
    });
    let request = signed_body(world, agent(1), &body, &KEY.into());
    assert_eq!(server.answer(request).await.status, 204);
}

/// A finished run of a machine.
async fn report(world: &World, server: &PullServer, run: u128, name: &str) {
    world.clock.advance(Duration::from_secs(60));
    let body = json!({
        "JobId": uuid::Uuid::from_u128(run), "OperationType": "Consistency", "Status": "Success",
        "NodeName": name, "EndTime": "2026-01-01T00:00:00.0000000Z", "StatusData": [],
    });
    let operation = Operation::SendReport { agent_id: agent(1) };
    let reply = server.answer(Request::new(operation, body.to_string())).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn machines_that_alternate_are_told_once_and_served_all_the_same() {
    let world = World::new(1);
    let server = world.start_server().await;
    let (one, two) = (("pc", "AA", "10.0.0.1;"), ("pc", "BB", "10.0.0.1;"));
    for machine in [one, two, one] {
        register(&world, &server, machine).await;
        let node = server.node(agent(1)).await.expect("known");
        assert_eq!(node.clone_suspected, None, "it may have had a new certificate, and back");
    }
    register(&world, &server, two).await;
    let node = server.node(agent(1)).await.expect("known");
    let (since, suspicion) = node.clone_suspected.expect("two machines");
    assert_eq!(suspicion.sign, CloneSign::Certificate);
    assert_eq!((suspicion.now.as_str(), suspicion.before.as_str()), ("BB", "AA"));
    register(&world, &server, one).await;
    let server = world.start_server().await;
    let node = server.node(agent(1)).await.expect("known");
    assert_eq!(node.clone_suspected.expect("still").0, since);
    let events = world.server_journal.read_all(0, 1_000).await.expect("events");
    let records: Vec<_> =
        events.iter().flat_map(|event| oms_dsc::records(event, "?").expect("mapped")).collect();
    assert_eq!(records.len(), 1, "{records:?}");
    let column = |name: &str| records[0].fields.get(name).cloned();
    assert_eq!(column("OperationName"), Some(Value::from("DscNodeCloneSuspected")));
    assert_eq!(column("CloneSign_s"), Some(Value::from("Certificate")));

    // The operator looked, and it begins anew.
    let node = server.dismiss_clone(agent(1)).await.expect("dismissed");
    assert_eq!(node.clone_suspected, None);
    for (machine, is_suspected) in [(one, false), (two, false), (one, false), (two, true)] {
        register(&world, &server, machine).await;
        let node = server.node(agent(1)).await.expect("known");
        assert_eq!(node.clone_suspected.is_some(), is_suspected);
    }
}

#[tokio::test]
async fn reports_give_two_machines_away_too() {
    let world = World::new(2);
    let server = world.start_server().await;
    register(&world, &server, ("web-1", "AA", "10.0.0.1;")).await;
    for (run, name) in (1..).zip(["web-1.example.org", "web-2", "WEB-1", "web-1"]) {
        report(&world, &server, run, name).await;
        assert_eq!(server.node(agent(1)).await.expect("known").clone_suspected, None);
    }
    report(&world, &server, 9, "web-2").await;
    let node = server.node(agent(1)).await.expect("known");
    assert_eq!(node.state, NodeState::Compliant);
    let (_, suspicion) = node.clone_suspected.expect("two machines");
    assert_eq!(suspicion.sign, CloneSign::NodeName);
    assert_eq!((suspicion.now.as_str(), suspicion.before.as_str()), ("web-2", "web-1"));
    server.remove_node(agent(1)).await.expect("removed");
    register(&world, &server, ("web-1", "AA", "10.0.0.1;")).await;
    assert_eq!(server.node(agent(1)).await.expect("known").clone_suspected, None);
}
