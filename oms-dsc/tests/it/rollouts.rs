//! A new version of a configuration, given to one ring of nodes after the other.

mod simulation;

use crate::support::{KEY, World, cells};
use oms_core::journal::Journal;
use oms_core::testkit::disk::SimDisk;
use oms_core::{Clock, ErrorKind, Secret};
use oms_dsc::protocol::{AgentId, Checksum, Operation, Reply, Request, RequestHeaders, auth};
use oms_dsc::pull_server::{FailureReason, RolloutPlan, RolloutState, RolloutStatus};
use oms_dsc::{Error, PullServer};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

fn agent(number: u128) -> AgentId {
    AgentId(Uuid::from_u128(number + 1))
}

fn document(value: &str) -> String {
    cells("Web", &[("a", value)])
}

fn checksum(value: &str) -> Checksum {
    Checksum::of(document(value).as_bytes())
}

/// What a computer sends to become a node of `Web`.
fn registration(agent_id: AgentId, clock: &dyn Clock) -> Request {
    let body = json!({
        "AgentInformation": {"LCMVersion": "2.0", "NodeName": format!("pc-{agent_id}"), "IPAddress": ""},
        "ConfigurationNames": ["Web"],
        "RegistrationInformation": {
            "CertificateInformation": {"Thumbprint": "AB", "Version": 3},
            "RegistrationMessageType": "ConfigurationRepository",
        },
    });
    let (body, date) = (body.to_string().into_bytes(), auth::x_ms_date(clock.now()));
    let headers = RequestHeaders {
        authorization: Some(auth::authorization(&Secret::from(KEY), &date, &body)),
        x_ms_date: Some(date),
        ..RequestHeaders::default()
    };
    Request { headers, ..Request::new(Operation::RegisterDscAgent { agent_id }, body) }
}

/// What a node that has this version asks.
fn ask(agent_id: AgentId, has: Checksum) -> Request {
    let status = json!({"ClientStatus": [{"Checksum": has, "ChecksumAlgorithm": "SHA-256"}]});
    Request::new(Operation::GetDscAction { agent_id }, status.to_string())
}

fn fetch(agent_id: AgentId) -> Request {
    let configuration_name = "Web".to_owned();
    Request::new(Operation::GetConfiguration { agent_id, configuration_name }, "")
}

/// The end of a run.
fn report(agent_id: AgentId, job: u128, is_good: bool, clock: &dyn Clock) -> Request {
    let status = if is_good { "Success" } else { "Failure" };
    let body = json!({
        "JobId": Uuid::from_u128(job), "OperationType": "Consistency", "Status": status,
        "EndTime": clock.now(),
    });
    Request::new(Operation::SendReport { agent_id }, body.to_string())
}

fn received(reply: &Reply) -> Option<Checksum> {
    let header = reply.headers.iter().find(|(name, _)| *name == "Checksum");
    header.and_then(|(_, value)| value.parse().ok())
}

/// A fleet that asks and reports without a network.
struct Fleet {
    world: World,
    server: Arc<PullServer>,
    jobs: u128,
}

impl Fleet {
    /// Nodes that run version `1`.
    async fn of(nodes: u128) -> Self {
        let world = World::new(71);
        let server = world.start_server().await;
        server.publish("Web", document("1").as_bytes()).await.expect("published");
        for number in 0..nodes {
            let reply = server.answer(registration(agent(number), &*world.clock)).await;
            assert_eq!(reply.status, 204);
        }
        Self { world, server, jobs: 0 }
    }

    async fn tag(&self, number: u128, value: &str) {
        let tags = [("ring".parse().expect("a name"), Some(value.to_owned()))].into();
        self.server.tag(agent(number), &tags).await.expect("tagged");
    }

    async fn begin(&self, value: &str, plan: &str) -> Result<RolloutStatus, Error> {
        let plan = RolloutPlan::parse("plan", plan.as_bytes())?;
        self.server.begin_rollout("Web", document(value).as_bytes(), plan).await
    }

    /// The version that a node gets when it asks and says that it has `has`.
    async fn gets(&self, number: u128, has: &str) -> Checksum {
        let action = self.server.answer(ask(agent(number), checksum(has))).await;
        assert_eq!(action.status, 200);
        let fetched = self.server.answer(fetch(agent(number))).await;
        let received = received(&fetched).expect("a document");
        let is_same = received == checksum(has);
        let action: serde_json::Value = serde_json::from_slice(&action.body).expect("JSON");
        assert_eq!(action["NodeStatus"], if is_same { "Ok" } else { "GetConfiguration" });
        received
    }

    async fn reports(&mut self, number: u128, is_good: bool) {
        self.jobs += 1;
        let report = report(agent(number), self.jobs, is_good, &*self.world.clock);
        assert_eq!(self.server.answer(report).await.status, 200);
    }

    /// A run that takes the new version and ends well, and the next one, which tells that.
    async fn succeeds(&mut self, number: u128, value: &str) {
        assert_eq!(self.gets(number, "1").await, checksum(value));
        self.reports(number, true).await;
        assert_eq!(self.gets(number, value).await, checksum(value));
        self.reports(number, true).await;
    }

    async fn status(&self) -> RolloutStatus {
        self.server.rollout(&"Web".parse().expect("a name")).await.expect("a roll-out")
    }

    async fn later(&self, minutes: u64) {
        self.world.clock.advance(Duration::from_secs(60 * minutes));
        self.server.maintain().await.expect("maintained");
    }
}

const PLAN: &str = "rings:
  - {name: canary, when: tag.ring -eq canary, successesMin: 1, soakMinutes: 30}
  - {name: everyone, percent: 100, failuresMax: 1, inFlightMax: 2, successesMin: 2, soakMinutes: 0}";

#[tokio::test]
async fn rings_get_the_new_version_in_their_order_and_then_it_is_published() {
    let mut fleet = Fleet::of(4).await;
    fleet.tag(0, "canary").await;
    let status = fleet.begin("2", PLAN).await.expect("it begins");
    assert_eq!(
        (status.state, status.rings[0].nodes, status.rings[1].nodes),
        (RolloutState::Running, 1, 3)
    );
    assert_eq!((status.old, status.new), (checksum("1"), checksum("2")));

    // What a node would get is told, and the question is no offer.
    let diff = fleet.server.diff(agent(0)).await.expect("a diff").remove(0);
    assert_eq!((diff.published, fleet.status().await.rings[0].in_flight), (Some(checksum("2")), 0));
    assert_eq!(fleet.gets(1, "1").await, checksum("1"));
    assert_eq!(fleet.gets(0, "1").await, checksum("2"));
    // A good run before the node said that it has the version may be of the old one.
    fleet.reports(0, true).await;
    assert_eq!(fleet.status().await.rings[0].in_flight, 1);
    assert_eq!(fleet.gets(0, "2").await, checksum("2"));
    fleet.reports(0, true).await;
    let canary = fleet.status().await;
    assert_eq!((canary.rings[0].succeeded, canary.satisfied.is_some()), (1, true));

    fleet.later(29).await;
    assert_eq!(fleet.gets(1, "1").await, checksum("1"));
    fleet.later(1).await;
    assert!(fleet.status().await.rings[1].is_open);
    assert_eq!(fleet.gets(1, "1").await, checksum("2"));
    assert_eq!(fleet.gets(2, "1").await, checksum("2"));
    assert_eq!(fleet.gets(3, "1").await, checksum("1"), "two are in flight");
    fleet.succeeds(1, "2").await;
    fleet.succeeds(2, "2").await;
    let completed = fleet.status().await;
    assert_eq!(completed.state, RolloutState::Completed);
    assert_eq!(fleet.server.configurations()[0].checksum, checksum("2"));
    assert_eq!(fleet.gets(3, "1").await, checksum("2"));

    // A server that opens the journal now knows the same, and the next roll-out begins from there.
    fleet.server = fleet.world.start_server().await;
    assert_eq!(fleet.status().await, completed);
    assert_eq!(fleet.server.configurations()[0].checksum, checksum("2"));
    let next = fleet.begin("3", PLAN).await.expect("it begins");
    assert_eq!((next.old, next.rings[1].succeeded), (checksum("2"), 0));
}

#[tokio::test]
async fn it_stops_by_itself_and_an_abort_gives_the_old_version_back() {
    let mut fleet = Fleet::of(4).await;
    fleet.tag(0, "canary").await;
    fleet.begin("2", PLAN).await.expect("it begins");
    fleet.succeeds(0, "2").await;
    fleet.later(30).await;
    assert_eq!(fleet.gets(1, "1").await, checksum("2"));
    fleet.reports(1, false).await;
    assert_eq!(fleet.status().await.state, RolloutState::Running, "one may fail");
    assert_eq!(fleet.gets(2, "1").await, checksum("2"));
    fleet.reports(2, false).await;
    let stopped = fleet.status().await;
    assert_eq!((stopped.state, stopped.rings[1].failed), (RolloutState::Stopped, 2));
    assert_eq!(stopped.stopped_by.as_deref(), Some("everyone"));
    assert_eq!(stopped.failures[0].why, FailureReason::RunFailed);
    assert_eq!(fleet.gets(3, "1").await, checksum("1"));
    assert_eq!(fleet.gets(1, "1").await, checksum("2"), "who was given it keeps it");

    fleet.server = fleet.world.start_server().await;
    assert_eq!(fleet.status().await, stopped);
    let name = "Web".parse().expect("a name");
    let resumed = fleet.server.resume_rollout(&name).await.expect("it goes on");
    assert_eq!((resumed.state, resumed.rings[1].in_flight), (RolloutState::Running, 2));
    fleet.later(181).await;
    let overdue = fleet.status().await;
    assert_eq!(
        (overdue.state, overdue.failures[0].why),
        (RolloutState::Stopped, FailureReason::Overdue)
    );

    let aborted = fleet.server.abort_rollout(&name).await.expect("it is taken back");
    assert_eq!(aborted.state, RolloutState::Aborted);
    assert_eq!(fleet.gets(0, "2").await, checksum("1"));
    assert_eq!(fleet.gets(2, "2").await, checksum("1"));
    fleet.server = fleet.world.start_server().await;
    assert_eq!(fleet.gets(1, "2").await, checksum("1"));
}

#[tokio::test]
async fn what_cannot_be_now_is_refused_by_name() {
    let fleet = Fleet::of(1).await;
    let name = "Web".parse().expect("a name");
    let kind = |error: Error| error.kind();
    assert_eq!(fleet.server.rollout(&name).await.map_err(kind), Err(ErrorKind::NotFound));
    assert_eq!(fleet.server.abort_rollout(&name).await.map_err(kind), Err(ErrorKind::NotFound));
    assert_eq!(fleet.begin("1", PLAN).await.map_err(kind), Err(ErrorKind::Invalid));
    assert_eq!(fleet.begin("2", "rings: []").await.map_err(kind), Err(ErrorKind::Invalid));
    let plan = RolloutPlan::parse("plan", PLAN.as_bytes()).expect("a plan");
    let unpublished = fleet.server.begin_rollout("New", document("1").as_bytes(), plan).await;
    assert_eq!(unpublished.map_err(kind), Err(ErrorKind::NotFound));
    fleet.begin("2", PLAN).await.expect("it begins");
    let twice = fleet.begin("3", PLAN).await.expect_err("one at a time").to_string();
    assert!(twice.contains("name=`Web`, reason=`it is running`"), "{twice}");
    let resumed = fleet.server.resume_rollout(&name).await.map_err(kind);
    assert_eq!(resumed, Err(ErrorKind::PreconditionFailed));
    let published = fleet.server.publish("web", document("3").as_bytes()).await;
    assert_eq!(published.map_err(kind), Err(ErrorKind::PreconditionFailed));
    fleet.server.publish("Other", document("3").as_bytes()).await.expect("published");
    // An operator need not wait.
    fleet.server.advance_rollout(&name).await.expect("the second ring");
    let completed = fleet.server.advance_rollout(&name).await.expect("behind the last one");
    assert_eq!(completed.state, RolloutState::Completed);
    let aborted = fleet.server.abort_rollout(&name).await.map_err(kind);
    assert_eq!(aborted, Err(ErrorKind::PreconditionFailed));
    fleet.server.publish("Web", document("3").as_bytes()).await.expect("published");
    assert_eq!(fleet.gets(0, "1").await, checksum("3"));
}

#[tokio::test]
async fn who_is_no_node_of_it_any_more_is_not_waited_for() {
    let mut fleet = Fleet::of(3).await;
    let plan =
        "rings: [{name: all, percent: 100, inFlightMax: 2, successesMin: 2, soakMinutes: 0}]";
    fleet.begin("2", plan).await.expect("it begins");
    assert_eq!(fleet.gets(0, "1").await, checksum("2"));
    assert_eq!(fleet.gets(1, "1").await, checksum("2"));
    fleet.server.remove_node(agent(0)).await.expect("removed");
    fleet.server.assign(agent(1), &["Other"]).await.expect("assigned");
    fleet.later(1).await;
    assert_eq!(fleet.status().await.rings[0].in_flight, 0);
    fleet.succeeds(2, "2").await;
    assert_eq!(
        (fleet.status().await.rings[0].succeeded, fleet.status().await.rings[0].nodes),
        (1, 1)
    );
}

/// Another server on the journal of a fleet, with both versions on a disk of its own.
async fn another_server(fleet: &Fleet) -> Arc<PullServer> {
    let clock = Arc::clone(&fleet.world.clock) as Arc<dyn Clock>;
    let other = PullServer::builder("unused")
        .disk(Arc::new(SimDisk::default()))
        .journal(Arc::clone(&fleet.world.server_journal) as Arc<dyn Journal>)
        .clock(clock);
    let other = Arc::new(other.build().await.expect("it opens"));
    for (name, value) in [("Web", "1"), ("Other", "2")] {
        other.publish(name, document(value).as_bytes()).await.expect("published");
    }
    other
}

/// Two servers on one journal: neither passes a bound that the other has come to.
#[tokio::test]
async fn two_servers_keep_one_bound() {
    let mut fleet = Fleet::of(6).await;
    let other = another_server(&fleet).await;
    let plan =
        "rings: [{name: all, percent: 100, inFlightMax: 2, failuresMax: 1, successesMin: 2}]";
    fleet.begin("2", plan).await.expect("it begins");
    let first = Arc::clone(&fleet.server);
    // One that does not know of the roll-out gives out the old version.
    fleet.server = Arc::clone(&other);
    assert_eq!(fleet.gets(0, "1").await, checksum("1"));
    other.refresh().await.expect("refreshed");
    assert_eq!(fleet.gets(0, "1").await, checksum("2"));
    fleet.server = Arc::clone(&first);
    assert_eq!(fleet.gets(1, "1").await, checksum("2"));
    fleet.server = Arc::clone(&other);
    assert_eq!(fleet.gets(2, "1").await, checksum("1"), "two are in flight");
    fleet.reports(0, false).await;
    fleet.server = Arc::clone(&first);
    fleet.reports(1, false).await;
    assert_eq!(fleet.status().await.state, RolloutState::Stopped);
    fleet.server = Arc::clone(&other);
    assert_eq!(fleet.gets(3, "1").await, checksum("1"));
    other.refresh().await.expect("refreshed");
    assert_eq!(other.rollouts().await.expect("told"), first.rollouts().await.expect("told"));
}

/// A failure counts also where nobody had heard of the roll-out.
#[tokio::test]
async fn a_report_to_a_server_that_did_not_begin_the_rollout_counts() {
    let mut fleet = Fleet::of(3).await;
    let other = another_server(&fleet).await;
    let first = Arc::clone(&fleet.server);
    fleet.begin("2", "rings: [{name: all, percent: 100, successesMin: 2}]").await.expect("begun");
    assert_eq!(fleet.gets(0, "1").await, checksum("2"));
    fleet.server = other;
    fleet.reports(0, false).await;
    assert_eq!(fleet.status().await.state, RolloutState::Stopped);
    fleet.server = first;
    assert_eq!(fleet.gets(1, "1").await, checksum("1"), "it is stopped everywhere");
}

/// Where a roll-out is known to be over, its version is known to be published.
#[tokio::test]
async fn a_rollout_that_completed_elsewhere_leaves_no_old_version() {
    let mut fleet = Fleet::of(2).await;
    let other = another_server(&fleet).await;
    fleet.begin("2", "rings: [{name: all, percent: 100, successesMin: 2}]").await.expect("begun");
    other.refresh().await.expect("refreshed");
    for number in [0, 1] {
        fleet.succeeds(number, "2").await;
    }
    fleet.later(24 * 60).await;
    assert_eq!(fleet.status().await.state, RolloutState::Completed);
    fleet.server = other;
    fleet.reports(0, true).await;
    assert_eq!(fleet.status().await.state, RolloutState::Completed);
    assert_eq!(fleet.gets(1, "1").await, checksum("2"));
}
