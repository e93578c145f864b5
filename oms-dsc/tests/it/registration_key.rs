//! Registration keys that are made and revoked while servers run.

use crate::support::{KEY, World, cells};
use async_trait::async_trait;
use oms_core::journal::{
    Append, Envelope, Event, Head, HistoryId, Journal, JournalError, JournalEvent as _,
    JournalExt as _, MemoryJournal, Snapshot,
};
use oms_core::{Clock as _, ErrorKind, Secret};
use oms_dsc::PullServer;
use oms_dsc::protocol::{AgentId, Operation, Reply, Request, RequestHeaders, auth};
use oms_dsc::pull_server::{
    NewRegistrationKey, NodeState, REGISTRATION_KEY_HISTORY, RegistrationKeyEvent,
    RegistrationKeyId, RegistrationKeyState, RevokeOptions,
};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) fn agent(number: u128) -> AgentId {
    AgentId(uuid::Uuid::from_u128(number))
}

/// A registration for configurations, by a node with a certificate.
pub(crate) fn registration(names: &[&str], thumbprint: &str) -> serde_json::Value {
    json!({
        "AgentInformation": {"LCMVersion": "2.0", "NodeName": "pc", "IPAddress": "10.0.0.1;"},
        "ConfigurationNames": names,
        "RegistrationInformation": {
            "CertificateInformation": {"Thumbprint": thumbprint, "Version": 3},
            "RegistrationMessageType": "ConfigurationRepository",
        },
    })
}

/// The same, signed with a key.
pub(crate) fn signed(world: &World, agent_id: AgentId, names: &[&str], key: &Secret) -> Request {
    signed_body(world, agent_id, &registration(names, "AB"), key)
}

/// Any body as a registration.
pub(crate) fn signed_body(
    world: &World,
    agent_id: AgentId,
    body: &serde_json::Value,
    key: &Secret,
) -> Request {
    signed_text(world, agent_id, body.to_string(), key)
}

/// Any text as a registration.
pub(crate) fn signed_text(world: &World, agent_id: AgentId, body: String, key: &Secret) -> Request {
    // Each signature is good once.
    world.clock.advance(Duration::from_secs(1));
    let date = auth::x_ms_date(world.clock.now());
    let headers = RequestHeaders {
        authorization: Some(auth::authorization(key, &date, body.as_bytes())),
        x_ms_date: Some(date),
        ..RequestHeaders::default()
    };
    Request { headers, ..Request::new(Operation::RegisterDscAgent { agent_id }, body) }
}

pub(crate) fn said(reply: &Reply) -> String {
    format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body))
}

async fn register(
    world: &World,
    server: &PullServer,
    number: u128,
    names: &[&str],
    key: &Secret,
) -> Reply {
    server.answer(signed(world, agent(number), names, key)).await
}

fn scoped(patterns: &[&str]) -> NewRegistrationKey {
    let configurations = patterns.iter().map(|text| text.parse().expect("a pattern")).collect();
    NewRegistrationKey { configurations, ..NewRegistrationKey::default() }
}

#[tokio::test]
async fn a_key_is_good_for_its_configurations_until_it_ends() {
    let world = World::new(1);
    let mut server = world.start_server().await;
    let new = NewRegistrationKey {
        expires: Some(world.clock.now() + Duration::from_secs(3_600)),
        description: "the web servers".to_owned(),
        ..scoped(&["Web", "Site.*"])
    };
    let (made, key) = server.make_registration_key(new).await.expect("made");
    assert_eq!((made.state, made.removes_nodes), (RegistrationKeyState::Active, false));
    assert_ne!(key, Secret::from(KEY));
    for _start in 0..2 {
        assert_eq!(register(&world, &server, 1, &["web", "SITE.a"], &key).await.status, 204);
        assert_eq!(register(&world, &server, 2, &[], &key).await.status, 204);
        let refused = register(&world, &server, 3, &["Web", "Secret"], &key).await;
        assert!(said(&refused).starts_with("401"), "{}", said(&refused));
        assert!(said(&refused).contains("key is not for a configuration that is named"));
        assert_eq!(server.node(agent(3)).await.expect_err("unknown").kind(), ErrorKind::NotFound);
        let node = server.node(agent(1)).await.expect("known");
        assert_eq!(node.registration_key, Some(made.id));
        // The key of the start is good for anything, and no key that is kept.
        assert_eq!(register(&world, &server, 4, &["Secret"], &KEY.into()).await.status, 204);
        let node = server.node(agent(4)).await.expect("known");
        assert_eq!(node.registration_key, None);
        server = world.start_server().await;
    }
    assert_eq!(server.registration_keys().await.expect("keys"), [made]);
    world.clock.advance(Duration::from_secs(3_600));
    let refused = register(&world, &server, 1, &["Web"], &key).await;
    assert!(said(&refused).contains("registration key has expired"), "{}", said(&refused));
    assert!(server.node(agent(1)).await.is_ok(), "who registered stays");
    let journal = world.server_journal.read_all(0, 1_000).await.expect("events");
    let clear = key.expose_text().expect("text");
    assert!(!journal.iter().any(|event| event.envelope.body.to_string().contains(clear)));
}

#[tokio::test]
async fn a_revoked_key_registers_nobody_and_its_nodes_go_if_that_is_wanted() {
    let world = World::new(2);
    let server = world.start_server().await;
    let made = server.make_registration_key(scoped(&[])).await.expect("made");
    let (id, key) = (made.0.id, made.1);
    let (_, other) = server.make_registration_key(scoped(&["*"])).await.expect("made");
    for number in 1..=3 {
        assert_eq!(register(&world, &server, number, &["Web"], &key).await.status, 204);
    }
    assert_eq!(register(&world, &server, 2, &["Web"], &other).await.status, 204);
    let keep = RevokeOptions::default();
    let done = server.revoke_registration_key(id, keep).await.expect("revoked");
    assert_eq!((done.key.state, done.nodes_removed), (RegistrationKeyState::Revoked, 0));
    assert_eq!(done.key.revoked, Some(world.clock.now()));
    let refused = register(&world, &server, 1, &["Web"], &key).await;
    assert!(said(&refused).contains("signature does not match"), "{}", said(&refused));
    assert_eq!(server.nodes().await.expect("nodes").len(), 3);

    // Those that registered with it last go, and one of another key stays.
    let take = RevokeOptions { removes_nodes: true };
    let done = server.revoke_registration_key(id, take).await.expect("revoked again");
    assert_eq!(done.nodes_removed, 2);
    let left = server.nodes().await.expect("nodes");
    assert_eq!(left.iter().map(|node| node.agent_id).collect::<Vec<_>>(), [agent(2)]);
    assert_eq!(server.revoke_registration_key(id, take).await.expect("done").nodes_removed, 0);
    assert_eq!(register(&world, &server, 1, &["Web"], &other).await.status, 204, "it may return");
    let server = world.start_server().await;
    assert_eq!(register(&world, &server, 3, &["Web"], &key).await.status, 401);
    let unknown = RegistrationKeyId(uuid::Uuid::nil());
    let error = server.revoke_registration_key(unknown, keep).await.expect_err("unknown");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn short_used_and_expired_keys_are_refused() {
    let world = World::new(3);
    let server = world.start_server().await;
    let given = |key: &str| NewRegistrationKey { key: Some(key.into()), ..Default::default() };
    let now = world.clock.now();
    let expired = NewRegistrationKey { expires: Some(now), ..Default::default() };
    let twice = "91E51A37-B59F-11E5-9C04-14109FD663AE";
    let (_, kept) = server.make_registration_key(given(twice)).await.expect("made");
    assert_eq!(kept, Secret::from(twice));
    for (new, reason) in [
        (given("fifteen bytes.."), "fewer than 16 bytes"),
        (given(twice), "in use already"),
        (given(KEY), "in use already"),
        (given(&"x".repeat(4_097)), "too large"),
        (expired, "expired already"),
        (scoped(&["a"; 65]), "too large"),
    ] {
        let error = server.make_registration_key(new).await.expect_err(reason);
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(register(&world, &server, 1, &["Web"], &kept).await.status, 204);
}

#[tokio::test]
async fn servers_on_one_journal_know_each_others_keys_at_once() {
    let world = World::new(4);
    let first = world.start_server().await;
    let (other, key) = first.make_registration_key(scoped(&[])).await.expect("made");
    // Both have the ring of one place.
    let second = world.start_server().await;
    let (made, newer) = first.make_registration_key(scoped(&[])).await.expect("made");
    assert_eq!(register(&world, &second, 1, &["Web"], &newer).await.status, 204);
    assert_eq!(register(&world, &second, 2, &["Web"], &key).await.status, 204);
    let take = RevokeOptions { removes_nodes: true };
    // The node registered on the other server.
    let revoked = first.revoke_registration_key(made.id, take).await.expect("revoked");
    assert_eq!(revoked.nodes_removed, 1);
    assert_eq!(register(&world, &second, 3, &["Web"], &newer).await.status, 401);
    let done = second.maintain().await.expect("maintained");
    assert_eq!(done.nodes_removed, 0);
    let left = second.nodes().await.expect("nodes");
    assert_eq!(left[0].registration_key, Some(other.id));
}

/// A journal in which another server is first at the moment when something of a node is to be written.
#[derive(Debug)]
pub(crate) struct Meanwhile {
    inner: Arc<MemoryJournal>,
    first: Mutex<Option<Append>>,
}

impl Meanwhile {
    /// The same journal, in which `event` is then written to a history after its version `expected`.
    pub(crate) fn new(
        inner: &Arc<MemoryJournal>,
        history: HistoryId,
        expected: u64,
        event: Envelope,
    ) -> Arc<Self> {
        let first = Mutex::new(Some(Append { history, expected, events: vec![event] }));
        Arc::new(Self { inner: Arc::clone(inner), first })
    }
}

#[async_trait]
impl Journal for Meanwhile {
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<u64>, JournalError> {
        if appends.iter().any(|append| append.history.kind() == "dsc-node") {
            let first = self.first.lock().expect("not poisoned").take();
            if let Some(first) = first {
                self.inner.append(vec![first]).await?;
            }
        }
        self.inner.append(appends).await
    }

    async fn read(
        &self,
        history: &HistoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, JournalError> {
        self.inner.read(history, after, limit).await
    }

    async fn read_all(&self, after: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.inner.read_all(after, limit).await
    }

    async fn wait(&self, after: u64) -> Result<u64, JournalError> {
        self.inner.wait(after).await
    }

    async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, JournalError> {
        self.inner.list(kind, after, limit).await
    }

    async fn save_snapshot(
        &self,
        history: &HistoryId,
        snapshot: Snapshot,
    ) -> Result<(), JournalError> {
        self.inner.save_snapshot(history, snapshot).await
    }

    async fn snapshot(&self, history: &HistoryId) -> Result<Option<Snapshot>, JournalError> {
        self.inner.snapshot(history).await
    }

    async fn delete(&self, history: &HistoryId, expected: u64) -> Result<(), JournalError> {
        self.inner.delete(history, expected).await
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_while_a_node_registers_registers_nobody() {
    let world = World::new(5);
    let server = world.start_server().await;
    let (made, key) = server.make_registration_key(scoped(&[])).await.expect("made");
    let history = HistoryId::new(REGISTRATION_KEY_HISTORY, &made.id.to_string()).expect("a name");
    let revoked = RegistrationKeyEvent::Revoked { removes_nodes: false };
    let event = revoked.seal(world.clock.now(), "another server").expect("sealed");
    let journal = Meanwhile::new(&world.server_journal, history, 1, event);
    let server = world.open_server(journal).await.expect("opens");
    let refused = register(&world, &server, 1, &["Web"], &key).await;
    assert!(said(&refused).contains("signature does not match"), "{}", said(&refused));
    assert_eq!(world.server_journal.list_whole("dsc-node").await.expect("heads"), []);
}

#[tokio::test]
async fn keys_without_their_ring_are_told_when_a_server_opens() {
    let mut world = World::new(6);
    let server = world.start_server().await;
    server.make_registration_key(scoped(&[])).await.expect("made");
    world.server_disk = oms_core::testkit::disk::SimDisk::default();
    let journal = Arc::clone(&world.server_journal) as Arc<dyn Journal>;
    let error = world.open_server(journal).await.expect_err("nothing opens its keys");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
}

#[tokio::test]
async fn a_node_of_our_own_registers_with_a_key_that_is_kept() {
    let world = World::new(7);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    let (made, key) = server.make_registration_key(scoped(&["Web"])).await.expect("made");
    let mut settings = world.settings(&["Web"]);
    settings.registration_key = key;
    let transport = Arc::new(world.direct.clone());
    let mut node = world.open_node(settings, transport).await.expect("opens");
    assert!(node.run().await.expect("a run").is_compliant);
    let known = server.nodes().await.expect("nodes").remove(0);
    assert_eq!((known.registration_key, known.state), (Some(made.id), NodeState::Compliant));
}
