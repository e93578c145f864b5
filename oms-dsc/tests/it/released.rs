//! Journals as earlier versions wrote them are read by this one.

use crate::support::World;
use oms_core::disk::{Disk as _, OpenMode};
use oms_core::journal::{Journal as _, MemoryJournal};
use oms_core::testkit::Fixture;
use oms_dsc::node::{LcmEvent, LcmState};
use oms_dsc::pull_server::{
    AssignmentSource, CompilationEvent, CompilationState, ConfigurationEvent, NodeEvent, NodeState,
    PublishedModule, RegistrationKeyEvent, RegistrationKeyState, RolloutEvent, RolloutState,
    RuleEvent, SignatureUsed, SourceEvent,
};
use std::path::Path;
use std::sync::Arc;

fn fixtures() -> Vec<Fixture> {
    Fixture::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events"))
}

/// The journal of one of them.
async fn kept(name: &str) -> Arc<MemoryJournal> {
    let fixture = fixtures().into_iter().find(|fixture| fixture.name() == name);
    Arc::new(fixture.expect("it is there").journal().await)
}

#[test]
fn every_event_is_kept_and_read() {
    let fixtures = fixtures();
    Fixture::check::<NodeEvent>(&fixtures);
    Fixture::check::<LcmEvent>(&fixtures);
    Fixture::check::<ConfigurationEvent>(&fixtures);
    Fixture::check::<PublishedModule>(&fixtures);
    Fixture::check::<RuleEvent>(&fixtures);
    Fixture::check::<RolloutEvent>(&fixtures);
    Fixture::check::<RegistrationKeyEvent>(&fixtures);
    Fixture::check::<SignatureUsed>(&fixtures);
    Fixture::check::<SourceEvent>(&fixtures);
    Fixture::check::<CompilationEvent>(&fixtures);
}

/// A server and a node in one journal, as the first version wrote them.
#[tokio::test]
async fn format_1_comes_to_the_same_state() {
    let mut world = World::new(1);
    let journal = kept("format-1").await;
    (world.server_journal, world.node_journal) = (Arc::clone(&journal), journal);
    let server = world.start_server().await;
    let nodes = server.nodes().await.expect("nodes");
    assert_eq!(nodes.len(), 1);
    let node = &nodes[0];
    assert_eq!((node.state, node.agent.node_name.as_str()), (NodeState::Unresponsive, "node-a"));
    assert_eq!(node.registered_names[0].as_str(), "Web");
    assert_eq!(node.last_report.as_ref().map(|report| report.resource_count), Some(1));
    assert_eq!(server.configurations()[0].name.as_str(), "Web");
    assert_eq!(server.modules()[0].version.to_string(), "1.0");

    let mut lcm = world.start_node(&["Web"]).await;
    let record = lcm.record().await.expect("a record");
    assert_eq!(record.state, LcmState::PendingConfiguration);
    assert_eq!(record.agent_id, Some(node.agent_id));
    assert_eq!(record.current.len(), 1);
    assert!(record.registered.is_some() && record.pending.is_some());
    let events = world.server_journal.read_all(0, 1000).await.expect("events");
    let rows = events.iter().map(|event| oms_dsc::records(event, "pc").expect("mapped").len());
    assert_eq!(rows.sum::<usize>(), 6, "three reports of one resource each");
}

/// A node that waits for a restart, and goes on after it.
#[tokio::test]
async fn a_restart_of_format_1_is_still_awaited() {
    let mut world = World::new(1);
    world.node_journal = kept("reboot-1").await;
    let mut lcm = world.start_node(&["Web"]).await;
    let record = lcm.record().await.expect("a record");
    assert_eq!((record.state, record.reboots), (LcmState::PendingReboot, 1));
    assert_eq!(record.reboot_from.as_deref(), Some("d3b5b1c6-33a0-4e0a-9c5f-1d1f6f1e8a02"));
    assert_eq!((record.current.len(), record.pending.map(|set| set.len())), (0, Some(1)));
}

/// A roll-out in its second ring, and one that completed after another was aborted.
#[tokio::test]
async fn rollouts_of_format_1_stand_where_they_stood() {
    let mut world = World::new(1);
    world.server_journal = kept("rollouts-1").await;
    let server = world.start_server().await;
    let [ended, running] = &server.rollouts().await.expect("told")[..] else {
        panic!("two roll-outs")
    };
    assert_eq!((ended.state, running.state), (RolloutState::Completed, RolloutState::Running));
    let rings: Vec<_> = running.rings.iter().map(|r| (r.is_open, r.succeeded, r.failed)).collect();
    assert_eq!(rings, [(true, 1, 0), (true, 0, 1)]);
    assert_eq!((running.failures.len(), running.satisfied), (1, None));
}

/// A node with tags, and the rules that go by them.
#[tokio::test]
async fn rules_of_format_1_give_what_they_gave() {
    let mut world = World::new(1);
    world.server_journal = kept("rules-1").await;
    let server = world.start_server().await;
    let node = server.nodes().await.expect("nodes").remove(0);
    let tags: Vec<_> = node.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(tags, ["ring=canary", "role=web"]);
    let assignment = server.assignment(&node);
    assert_eq!(assignment.configuration_names[0].as_str(), "Site.Web");
    assert_eq!(assignment.source, AssignmentSource::Rule("web".parse().expect("a name")));
    assert_eq!((server.rules().len(), assignment.overruled.len()), (1, 0));
}

/// The ring that sealed what is in the fixtures.
fn lay_ring(world: &World) {
    let ring = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys");
    for name in ["kek", "ring.json"] {
        let file = world.server_disk.open(Path::new(name), OpenMode::CreateNew).expect("new");
        file.write_at(0, &std::fs::read(ring.join(name)).expect("a file")).expect("written");
    }
}

/// A key that is good, one that was revoked, and the ring that sealed both.
#[tokio::test]
async fn registration_keys_of_format_1_open() {
    let mut world = World::new(1);
    world.server_journal = kept("registration-key-1").await;
    lay_ring(&world);
    let server = world.start_server().await;
    let known = server.registration_keys().await.expect("keys");
    let states = [RegistrationKeyState::Active, RegistrationKeyState::Revoked];
    assert_eq!([known[0].state, known[1].state], states);
    assert_eq!(known[0].description, "the web servers");
    let scope: Vec<_> = known[0].configurations.iter().map(ToString::to_string).collect();
    assert_eq!(scope, ["Web", "Site.*"]);
    assert!(known[0].expires.is_some() && known[1].removes_nodes);
    let node = server.nodes().await.expect("nodes").remove(0);
    assert_eq!(node.registration_key, Some(known[0].id));
}

/// A node whose certificate was rotated, and is rotated again.
#[tokio::test]
async fn a_rotation_of_format_1_is_still_in_progress() {
    let mut world = World::new(1);
    world.server_journal = kept("rotation-1").await;
    let server = world.start_server().await;
    let node = server.nodes().await.expect("nodes").remove(0);
    assert_eq!(node.certificate.thumbprint, "B".repeat(40));
    let next = node.next_certificate.expect("a rotation in progress");
    assert_eq!((next.thumbprint, node.rotation_requested), ("C".repeat(40), None));
}

/// A node that called again after it had been silent.
#[tokio::test]
async fn a_node_of_format_1_is_heard_of_again() {
    let mut world = World::new(1);
    world.server_journal = kept("silence-1").await;
    let server = world.start_server().await;
    let node = server.nodes().await.expect("nodes").remove(0);
    assert_eq!(node.state, NodeState::Pending);
    assert_eq!(node.last_heard, Some("2026-01-01T02:00:00Z".parse().expect("a time")));
}

/// A node that is two machines, which an operator did not believe at first.
#[tokio::test]
async fn a_clone_of_format_1_is_still_suspected() {
    let mut world = World::new(1);
    world.server_journal = kept("two-machines-1").await;
    let server = world.start_server().await;
    let node = server.nodes().await.expect("nodes").remove(0);
    let (since, suspicion) = node.clone_suspected.expect("suspected");
    assert_eq!(since.to_string(), "2026-01-01T00:00:07Z");
    assert_eq!(suspicion.before, "A".repeat(40));
}

/// Sources, one of which was taken away; jobs that completed, failed and wait with a sealed value; and a
/// configuration that was taken away.
#[tokio::test]
async fn compilations_of_format_1_stand_where_they_stood() {
    let mut world = World::new(1);
    world.server_journal = kept("compilations-1").await;
    lay_ring(&world);
    world.clock.advance(std::time::Duration::from_secs(3_600));
    let server = world.start_server().await;
    let sources = server.sources().await.expect("sources");
    let about: Vec<_> = sources.iter().map(|held| (held.name.as_str(), held.version)).collect();
    assert_eq!(about, [("Site", 1), ("Web", 2)]);
    assert_eq!(sources[1].about.description, "the web servers");
    let jobs = server.compilations().await.expect("jobs");
    let states: Vec<_> = jobs.iter().map(|job| (job.name.as_str(), job.state)).collect();
    let expect = [
        ("waits", CompilationState::Running),
        ("bad", CompilationState::Failed),
        ("good", CompilationState::Completed),
    ];
    assert_eq!(states, expect);
    assert_eq!(jobs[0].secure_parameters().collect::<Vec<_>>(), ["password"]);
    assert_eq!(jobs[2].node_configurations, 2);
    let names: Vec<_> = server.configurations().iter().map(|held| held.name.to_string()).collect();
    assert_eq!(names, ["Web.web-1"]);
    // The bytes of its source are not in the journal, and it ends by that name.
    assert_eq!(server.resume_compilations().await.expect("resumed"), 1);
    let ended = server.compilation(&jobs[0].name).await.expect("there");
    assert!(ended.reason.expect("a reason").contains("no such content"));
}
