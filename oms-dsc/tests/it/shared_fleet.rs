//! Several servers on one journal: what one of them was told holds for all at once.

mod simulation;

use crate::registration_key::{Meanwhile, agent, registration, signed, signed_body};
use crate::support::{KEY, World, cells};
use oms_core::Clock as _;
use oms_core::journal::{HistoryId, Journal as _, JournalEvent as _};
use oms_dsc::protocol::{Operation, Request};
use oms_dsc::pull_server::{NodeEvent, NodeState};
use oms_dsc::{Error, PullServer};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const OLD: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const NEW: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

/// A registration of a node whose client certificate TLS presented.
fn bound(world: &World, number: u128, thumbprint: &str) -> Request {
    let body = registration(&["Web"], thumbprint);
    with(signed_body(world, agent(number), &body, &KEY.into()), thumbprint)
}

fn with(mut request: Request, presented: &str) -> Request {
    request.headers.certificate_thumbprint = Some(presented.to_owned());
    request
}

/// What a node without a certificate asks.
fn asks(number: u128) -> Request {
    let body = json!({"ClientStatus": [{"Checksum": ""}]}).to_string();
    Request::new(Operation::GetDscAction { agent_id: agent(number) }, body)
}

fn rotates(number: u128, to: &str, presented: &str) -> Request {
    let body = json!({"CertificateInformation": {"Thumbprint": to, "Version": 3}}).to_string();
    let operation = Operation::CertificateRotation { agent_id: agent(number) };
    with(Request::new(operation, body), presented)
}

async fn status(server: &PullServer, request: Request) -> u16 {
    server.answer(request).await.status
}

async fn two_servers(seed: u64) -> (World, Arc<PullServer>, Arc<PullServer>) {
    let world = World::new(seed);
    let (first, second) = (world.start_server().await, world.start_server().await);
    first.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    second.refresh().await.expect("refreshed");
    (world, first, second)
}

#[tokio::test]
async fn a_node_of_one_server_is_a_node_of_the_other() {
    let (world, first, second) = two_servers(1).await;
    let request = signed(&world, agent(1), &["Web"], &KEY.into());
    assert_eq!(status(&second, asks(1)).await, 401);
    assert_eq!(status(&first, request).await, 204);
    assert_eq!(status(&second, asks(1)).await, 200);
    assert_eq!(second.nodes().await.expect("nodes"), first.nodes().await.expect("nodes"));

    let tags = BTreeMap::from([("role".parse().expect("a name"), Some("web".to_owned()))]);
    first.tag(agent(1), &tags).await.expect("tagged");
    assert_eq!(second.node(agent(1)).await.expect("known").tags.len(), 1);
    second.assign(agent(1), &["Other"]).await.expect("assigned");
    assert_eq!(first.node(agent(1)).await.expect("known").assigned_names[0].as_str(), "Other");

    first.remove_node(agent(1)).await.expect("removed");
    assert_eq!(status(&second, asks(1)).await, 401, "it was taken out elsewhere");
    assert_eq!(second.nodes().await.expect("nodes"), []);
    let gone = second.assign(agent(1), &["Web"]).await.expect_err("it is gone");
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
}

#[tokio::test]
async fn a_certificate_that_is_void_on_one_server_is_void_on_the_other() {
    let (world, first, second) = two_servers(2).await;
    assert_eq!(status(&first, bound(&world, 1, OLD)).await, 204);
    assert_eq!(status(&second, with(asks(1), OLD)).await, 200);
    assert_eq!(status(&second, with(asks(1), NEW)).await, 401);
    assert_eq!(status(&first, rotates(1, NEW, OLD)).await, 201);
    assert_eq!(status(&second, with(asks(1), OLD)).await, 200, "both are good");
    assert_eq!(status(&second, rotates(1, NEW, OLD)).await, 201, "a repeat elsewhere");
    assert_eq!(status(&second, with(asks(1), NEW)).await, 200, "it is presented");
    for server in [&first, &second] {
        assert_eq!(status(server, with(asks(1), OLD)).await, 401, "the old one is void");
        assert_eq!(status(server, with(asks(1), NEW)).await, 200);
    }
}

#[tokio::test]
async fn what_one_server_asks_for_the_other_tells_the_node() {
    let (world, first, second) = two_servers(3).await;
    assert_eq!(status(&first, bound(&world, 1, OLD)).await, 204);
    let header = "DSC-certificateRotation";
    assert_eq!(second.answer(with(asks(1), OLD)).await.header(header), None);
    first.request_rotation(agent(1)).await.expect("asked");
    assert_eq!(second.answer(with(asks(1), OLD)).await.header(header), Some("True"));
}

#[tokio::test]
async fn a_node_that_is_taken_out_while_its_call_is_kept_is_nobody() {
    let (world, first, _) = two_servers(5).await;
    assert_eq!(status(&first, bound(&world, 1, OLD)).await, 204);
    world.clock.advance(NOW_AND_THEN);
    let history = HistoryId::new("dsc-node", &agent(1).to_string()).expect("a name");
    let removed = NodeEvent::Removed.seal(world.clock.now(), "another server").expect("sealed");
    let journal = Meanwhile::new(&world.server_journal, history, 1, removed);
    let second = world.open_server(journal).await.expect("opens");
    assert_eq!(status(&second, with(asks(1), OLD)).await, 401);
    assert_eq!(heard(&world).await, 0);
}

/// Half of the time that a node may be silent, and a second.
const NOW_AND_THEN: Duration = Duration::from_secs(45 * 60 + 1);

#[tokio::test]
async fn a_node_that_calls_one_server_is_not_silent_on_the_other() {
    let (world, first, second) = two_servers(4).await;
    assert_eq!(status(&first, bound(&world, 1, OLD)).await, 204);
    for _ in 0..4 {
        world.clock.advance(NOW_AND_THEN);
        assert_eq!(status(&first, with(asks(1), OLD)).await, 200);
        assert_eq!(status(&first, with(asks(1), OLD)).await, 200);
        assert_eq!(second.maintain().await.expect("maintained").nodes_silent, 0);
    }
    let history = first.node(agent(1)).await.expect("known");
    assert_eq!((history.state, history.last_heard), (NodeState::Pending, Some(world.clock.now())));
    assert_eq!(heard(&world).await, 4, "one of two calls is kept");

    world.clock.advance(2 * NOW_AND_THEN);
    assert_eq!(second.maintain().await.expect("maintained").nodes_silent, 1);
    assert_eq!(first.node(agent(1)).await.expect("known").state, NodeState::Unresponsive);
    assert_eq!(status(&first, with(asks(1), OLD)).await, 200);
    assert_eq!(second.node(agent(1)).await.expect("known").state, NodeState::Pending);
    assert_eq!(heard(&world).await, 5);
}

/// How many calls the journal has.
async fn heard(world: &World) -> usize {
    let events = world.server_journal.read_all(0, 1_000).await.expect("events");
    let opened = events.iter().filter(|event| event.history.kind() == "dsc-node");
    let opened = opened.map(|event| NodeEvent::open(&event.envelope).expect("an event"));
    opened.filter(|event| *event == NodeEvent::Heard).count()
}
