//! The pull server over HTTP: any sequence of requests of a registered node is answered, never with
//! 500, and never with content to somebody else.
#![no_main]

use axum::body::Body;
use http::{Method, Request};
use libfuzzer_sys::fuzz_target;
use oms_core::auth::Grants;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::http::mount;
use oms_core::journal::MemoryJournal;
use oms_core::testkit::disk::SimDisk;
use oms_dsc::PullServer;
use oms_dsc::http::surface;
use oms_dsc::protocol::{ConfigurationName, auth};
use oms_dsc::pull_server::ConfigurationPattern;
use std::sync::Arc;

const AGENT: &str = "91e51a37-b59f-11e5-9c04-14109fd663ae";
const DATE: &str = "1970-01-01T00:00:00.0000000Z";
const DOCUMENT: &str = r#"instance of OMI_ConfigurationDocument { Version = "2.0.0"; };"#;
const PATHS: [(Method, &str); 9] = [
    (Method::PUT, "Nodes(AgentId='ID')"),
    (Method::POST, "Nodes(AgentId='ID')/GetDscAction"),
    (Method::POST, "Nodes(AgentId='ID')/SendReport"),
    (Method::GET, "Nodes(AgentId='ID')/Configurations(ConfigurationName='a')/ConfigurationContent"),
    (Method::GET, "Nodes(AgentId='ID')/Reports"),
    (Method::POST, "Action(ConfigurationId='ID')/GetAction"),
    (Method::POST, "Node(ConfigurationId='ID')/SendStatusReport"),
    (Method::POST, "Nodes(AgentId='ID')/CertificateRotation"),
    (Method::POST, "Nodes(AgentId='ID')/GetResourceState"),
];

async fn serve(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(pattern) = text.parse::<ConfigurationPattern>()
    {
        assert_eq!(pattern.as_str(), text);
        let name: ConfigurationName = text.parse().expect("of the same characters");
        assert!(pattern.covers(&name), "a name covers itself");
    }
    let key = oms_core::Secret::from("a key");
    let server = PullServer::builder("")
        .journal(Arc::new(MemoryJournal::default()))
        .disk(Arc::new(SimDisk::default()))
        .clock(Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)))
        .entropy(Arc::new(SeededEntropy::new(1)))
        .registration_key(key.clone())
        .build()
        .await
        .expect("a server");
    server.publish("a", DOCUMENT.as_bytes()).await.expect("published");
    let mounted = mount(vec![surface(Arc::new(server))], Arc::new(Grants::default()));
    let mounted = mounted.expect("mounts");
    for (kind, body) in fuzz::pieces(data).take(8) {
        let (method, path) = PATHS[usize::from(kind) % PATHS.len()].clone();
        let path = path.replace("ID", AGENT);
        let mut request = Request::builder()
            .method(method.clone())
            .uri(format!("/PSDSCPullServer.svc/{path}"))
            .header("ProtocolVersion", "2.0")
            .header("x-ms-date", DATE);
        if method == Method::PUT {
            request = request.header("authorization", auth::authorization(&key, DATE, body));
        }
        let request = request.body(Body::from(body.to_vec())).expect("a request");
        let status = mounted.handle(request).await.status();
        assert!(status != 500 && status != 503, "{path}: {status}");
    }
}

fuzz_target!(|data: &[u8]| fuzz::block_on(serve(data)));
