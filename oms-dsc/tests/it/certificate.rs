//! A node and its client certificate: an AgentId that somebody else knows is worth nothing.

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
    let mut request: Request<Body> = request.body(Body::from(body)).expect("a request");
    if let Some(certificate) = presented {
        request.extensions_mut().insert(PeerCertificate(Arc::from(certificate)));
    }
    mounted.handle(request).await.status()
}

async fn register(
    world: &World,
    mounted: &Mounted,
    named: &str,
    presented: Option<&[u8]>,
) -> StatusCode {
    let body = json!({
        "AgentInformation": {"LCMVersion": "2.0", "NodeName": "pc", "IPAddress": "10.0.0.1;"},
        "ConfigurationNames": ["Web"],
        "RegistrationInformation": {
            "CertificateInformation": {"Thumbprint": named, "Version": 3},
            "RegistrationMessageType": "ConfigurationRepository",
        },
    });
    let body = body.to_string();
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

/// Everything is answered; there is no such module, and certificates are not rotated.
const ANSWERED: [u16; 6] = [200, 200, 404, 200, 200, 501];

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
