//! A node and its client certificate: an AgentId that somebody else knows is worth nothing.

use crate::registration_key::registration;
use crate::support::{KEY, World, cells};
use axum::body::Body;
use http::{Request, StatusCode};
use oms_core::auth::{Grants, thumbprint};
use oms_core::http::{Mounted, PeerCertificate, mount};
use oms_core::{Clock as _, Secret};
use oms_dsc::protocol::auth;
use serde_json::json;
use std::sync::Arc;

const OWN: &[u8] = b"the node's certificate";
const OTHER: &[u8] = b"another node's certificate";
const NODE: &str = "/PSDSCPullServer.svc/Nodes(AgentId='91e51a37-b59f-11e5-9c04-14109fd663ae')";

/// Sends a request over a connection on which TLS presented a certificate, or none.
async fn send(
    mounted: &Mounted,
    request: http::request::Builder,
    body: String,
    presented: Option<&[u8]>,
) -> StatusCode {
    answer(mounted, request, body, presented).await.0
}

/// The same, with whether the answer asks for a rotation.
async fn answer(
    mounted: &Mounted,
    request: http::request::Builder,
    body: String,
    presented: Option<&[u8]>,
) -> (StatusCode, bool) {
    let mut request: Request<Body> = request.body(Body::from(body)).expect("a request");
    if let Some(certificate) = presented {
        request.extensions_mut().insert(PeerCertificate(Arc::from(certificate)));
    }
    let response = mounted.handle(request).await;
    let asks = response.headers().get("DSC-certificateRotation").map(|value| value == "True");
    (response.status(), asks.unwrap_or_default())
}

/// A rotation to a certificate of this thumbprint.
async fn rotate(mounted: &Mounted, thumbprint: &str, presented: Option<&[u8]>) -> u16 {
    let certificate = json!({
        "FriendlyName": "DSC-OaaS", "Issuer": "CN=x", "NotAfter": "2027-01-01T00:00:00.0000000Z",
        "NotBefore": "2026-01-01T00:00:00.0000000Z", "Subject": "CN=x", "PublicKey": "eA==",
        "Thumbprint": thumbprint, "Version": 3,
    });
    let body = json!({ "CertificateInformation": certificate }).to_string();
    let request = Request::post(format!("{NODE}/CertificateRotation"))
        .header("Content-Type", "application/json");
    let (status, asks) = answer(mounted, request, body, presented).await;
    assert!(!asks, "an answer to a rotation never asks for one");
    status.as_u16()
}

/// Status of a GetDscAction, and whether its answer asks for a rotation.
async fn act(mounted: &Mounted, presented: Option<&[u8]>) -> (u16, bool) {
    let request = Request::post(format!("{NODE}/GetDscAction"));
    let request = request.header("Content-Type", "application/json");
    let asked = json!({"ClientStatus": [{"Checksum": ""}]}).to_string();
    let (status, asks) = answer(mounted, request, asked, presented).await;
    (status.as_u16(), asks)
}

async fn register(
    world: &World,
    mounted: &Mounted,
    named: &str,
    presented: Option<&[u8]>,
) -> StatusCode {
    let body = registration(&["Web"], named).to_string();
    // Each signature is good once.
    world.clock.advance(std::time::Duration::from_secs(1));
    let date = auth::x_ms_date(world.clock.now());
    let signature = auth::authorization(&Secret::from(KEY), &date, body.as_bytes());
    let request = Request::put(NODE)
        .header("Authorization", signature)
        .header("x-ms-date", date)
        .header("Content-Type", "application/json");
    send(mounted, request, body, presented).await
}

/// The status of each operation of a node.
async fn use_of(mounted: &Mounted, presented: Option<&[u8]>) -> Vec<u16> {
    let post = |path: &str| {
        Request::post(format!("{NODE}/{path}")).header("Content-Type", "application/json")
    };
    let action = post("GetDscAction");
    let asked = json!({"ClientStatus": [{"Checksum": ""}]}).to_string();
    let content = format!("{NODE}/Configurations(ConfigurationName='Web')/ConfigurationContent");
    let module = "/PSDSCPullServer.svc/Modules(ModuleName='x',ModuleVersion='1.0')/ModuleContent";
    let module = Request::get(module).header("AgentId", &NODE[NODE.len() - 38..NODE.len() - 2]);
    let job = json!({"JobId": "91e51a37-b59f-11e5-9c04-14109fd663af"}).to_string();
    let requests = [
        (action, asked),
        (Request::get(content), String::new()),
        (module, String::new()),
        (post("SendReport"), job),
        (Request::get(format!("{NODE}/Reports()")), String::new()),
        (post("CertificateRotation"), "{}".to_owned()),
    ];
    let mut statuses = Vec::new();
    for (request, body) in requests {
        statuses.push(send(mounted, request, body, presented).await.as_u16());
    }
    statuses
}

/// Everything is answered; there is no such module, and a rotation without a certificate is none.
const ANSWERED: [u16; 6] = [200, 200, 404, 200, 200, 400];

/// Rotation has no 401.
const REFUSED: [u16; 6] = [401, 401, 401, 401, 401, 404];

async fn served(world: &World) -> Mounted {
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    let surfaces = vec![oms_dsc::http::surface(server)];
    mount(surfaces, Arc::new(Grants::default())).expect("mounted")
}

#[tokio::test]
async fn a_node_that_presents_a_certificate_is_bound_to_it() {
    let world = World::new(1);
    let mut mounted = served(&world).await;
    let named = thumbprint(OWN).to_lowercase();
    let refused = register(&world, &mounted, &named, Some(OTHER)).await;
    assert_eq!(refused, StatusCode::UNAUTHORIZED, "it names one and presents another");
    let registered = register(&world, &mounted, &named, Some(OWN)).await;
    assert_eq!(registered, StatusCode::NO_CONTENT);
    for _start in 0..2 {
        assert_eq!(use_of(&mounted, Some(OWN)).await, ANSWERED);
        assert_eq!(use_of(&mounted, Some(OTHER)).await, REFUSED, "that of another node");
        assert_eq!(use_of(&mounted, None).await, REFUSED, "the AgentId alone");
        drop(mounted);
        world.stop_server();
        mounted = served(&world).await;
    }
}

#[tokio::test]
async fn a_node_that_presented_none_may_go_on_without_and_not_with_another() {
    let world = World::new(2);
    let mounted = served(&world).await;
    let registered = register(&world, &mounted, &thumbprint(OWN), None).await;
    assert_eq!(registered, StatusCode::NO_CONTENT);
    assert_eq!(use_of(&mounted, None).await, ANSWERED);
    assert_eq!(use_of(&mounted, Some(OWN)).await, ANSWERED);
    assert_eq!(use_of(&mounted, Some(OTHER)).await, REFUSED);
}

#[tokio::test]
async fn both_certificates_are_good_until_the_new_one_is_presented() {
    let world = World::new(3);
    let mut mounted = served(&world).await;
    register(&world, &mounted, &thumbprint(OWN), Some(OWN)).await;
    assert_eq!(rotate(&mounted, &thumbprint(OTHER), None).await, 404, "the AgentId alone");
    assert_eq!(rotate(&mounted, &thumbprint(OTHER), Some(OTHER)).await, 404);
    for bad in ["", "AB", &"g".repeat(40)] {
        assert_eq!(rotate(&mounted, bad, Some(OWN)).await, 400, "{bad}");
    }
    assert_eq!(rotate(&mounted, &thumbprint(OTHER), Some(OWN)).await, 201);
    assert_eq!(rotate(&mounted, &thumbprint(OTHER), Some(OWN)).await, 201, "a repeat");
    assert_eq!(rotate(&mounted, &thumbprint(b"a third"), Some(OWN)).await, 409);
    for _start in 0..2 {
        assert_eq!(act(&mounted, Some(OWN)).await, (200, false));
        assert_eq!(act(&mounted, Some(b"a third")).await.0, 401);
        drop(mounted);
        world.stop_server();
        mounted = served(&world).await;
    }
    assert_eq!(act(&mounted, Some(OTHER)).await, (200, false));
    for _start in 0..2 {
        assert_eq!(act(&mounted, Some(OWN)).await.0, 401, "the old one is void");
        assert_eq!(use_of(&mounted, Some(OTHER)).await, ANSWERED);
        drop(mounted);
        world.stop_server();
        mounted = served(&world).await;
    }
    assert_eq!(rotate(&mounted, &thumbprint(OTHER), Some(OTHER)).await, 201, "a late repeat");
    assert_eq!(rotate(&mounted, &thumbprint(b"a third"), Some(OTHER)).await, 201, "the next");
}

#[tokio::test]
async fn a_node_is_asked_until_it_rotates_and_a_stuck_rotation_can_begin_anew() {
    let world = World::new(4);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[]).as_bytes()).await.expect("published");
    let mounted =
        mount(vec![oms_dsc::http::surface(Arc::clone(&server))], Arc::new(Grants::default()));
    let mounted = mounted.expect("mounted");
    register(&world, &mounted, &thumbprint(OWN), Some(OWN)).await;
    let agent_id = server.nodes().await.expect("nodes")[0].agent_id;
    assert_eq!(act(&mounted, Some(OWN)).await, (200, false));
    server.request_rotation(agent_id).await.expect("asked");
    let asked = server.request_rotation(agent_id).await.expect("asked already");
    assert_eq!(asked.rotation_requested, Some(world.clock.now()));
    assert_eq!(act(&mounted, Some(OWN)).await, (200, true));
    assert_eq!(act(&mounted, Some(OTHER)).await, (401, false), "strangers hear nothing of it");
    assert_eq!(rotate(&mounted, &thumbprint(OTHER), Some(OWN)).await, 201);
    assert_eq!(act(&mounted, Some(OWN)).await, (200, false));
    // The node lost the new key before it presented the certificate.
    assert_eq!(rotate(&mounted, &thumbprint(b"a third"), Some(OWN)).await, 409);
    server.request_rotation(agent_id).await.expect("asked again");
    assert_eq!(act(&mounted, Some(OTHER)).await.0, 401, "the lost one is void");
    assert_eq!(rotate(&mounted, &thumbprint(b"a third"), Some(OWN)).await, 201);
    assert_eq!(act(&mounted, Some(b"a third")).await, (200, false));
    // It ends on 2027-01-01.
    let days = 365 - 30 - 1;
    world.clock.advance(std::time::Duration::from_secs(86_400 * days));
    assert_eq!(act(&mounted, Some(b"a third")).await, (200, false));
    world.clock.advance(std::time::Duration::from_secs(86_400 * 2));
    assert_eq!(act(&mounted, Some(b"a third")).await, (200, true));
}

#[tokio::test]
async fn a_node_that_presents_none_has_its_new_certificate_at_once() {
    let world = World::new(5);
    let mounted = served(&world).await;
    register(&world, &mounted, &thumbprint(OWN), None).await;
    assert_eq!(rotate(&mounted, &thumbprint(OTHER), None).await, 201);
    assert_eq!(rotate(&mounted, &thumbprint(b"a third"), None).await, 201, "nothing is open");
    assert_eq!(act(&mounted, Some(OTHER)).await.0, 401);
    assert_eq!(act(&mounted, Some(b"a third")).await.0, 200);
    assert_eq!(act(&mounted, None).await.0, 200);
}
