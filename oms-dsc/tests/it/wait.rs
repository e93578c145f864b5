//! Nodes that wait for a resource of other nodes, as the pull server knows it of their reports.

use crate::support::{Direct, World, cells};
use async_trait::async_trait;
use oms_core::clock::ManualClock;
use oms_core::journal::MemoryJournal;
use oms_core::testkit::disk::SimDisk;
use oms_core::{Clock, Entropy};
use oms_dsc::configuration::Configuration;
use oms_dsc::node::{RunReport, Transport, WaitForResource};
use oms_dsc::protocol::{
    AgentId, GetResourceStateRequest, NODE_NAMES_MAX, Operation, Reply, Request,
};
use oms_dsc::resource::Resource as _;
use oms_dsc::{Error, Lcm};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A document of a node that waits, and then fills a cell.
fn waits(class: &str, properties: &str) -> String {
    let cell = "Name = \"after\"; Value = \"1\"; DependsOn = {\"[Wait]w\"};";
    format!(
        "instance of MSFT_{class} {{ ResourceID = \"[Wait]w\"; ResourceName = \"[Cell]base\"; {properties} }};
         instance of Test_Cell {{ ResourceID = \"[Cell]after\"; {cell} }};
         instance of OMI_ConfigurationDocument {{ Version = \"2.0.0\"; Name = \"Waits\"; }};"
    )
}

/// A further node of a world, with a disk and a journal of its own.
async fn node(world: &World, name: &str, configuration: &str) -> Lcm {
    through(world, name, configuration, Arc::new(world.direct.clone())).await
}

async fn through(
    world: &World,
    name: &str,
    configuration: &str,
    transport: Arc<dyn Transport>,
) -> Lcm {
    let mut settings = world.settings(&[configuration]);
    settings.node_name = name.to_owned();
    Lcm::builder("unused", settings)
        .disk(Arc::new(SimDisk::default()))
        .journal(Arc::new(MemoryJournal::default()))
        .transport(transport)
        .clock(Arc::clone(&world.clock) as Arc<dyn Clock>)
        .entropy(Arc::clone(&world.entropy) as Arc<dyn Entropy>)
        .resources(world.cell.registry())
        .build()
        .await
        .expect("the node opens")
}

/// The error of the resource that waits.
fn error(report: &RunReport) -> String {
    let wait = report.resources.iter().find(|status| status.resource_id == "[Wait]w");
    wait.and_then(|wait| wait.error.clone()).unwrap_or_default()
}

async fn publish(server: &oms_dsc::PullServer, name: &str, document: &str) {
    server.publish(name, document.as_bytes()).await.expect("published");
}

#[tokio::test]
async fn a_node_waits_until_the_others_have_reported() {
    let world = World::new(1);
    let server = world.start_server().await;
    publish(&server, "Base", &cells("Base", &[("base", "1")])).await;
    publish(&server, "Broken", &cells("Broken", &[("base", "impossible")])).await;
    publish(&server, "Waits", &waits("WaitForAll", "NodeName = {\"a\", \"B\", \"b\"};")).await;
    let mut waiting = node(&world, "w", "Waits").await;

    let report = waiting.run().await.expect("a run");
    assert!(!report.is_success);
    let why = "[Cell]base on a is on a node that the server does not know, desired is in the desired \
               state; [Cell]base on B is on a node";
    assert!(error(&report).contains(why), "{}", error(&report));
    assert!(!world.cell.values().contains_key("after"), "what depends on it is not done");

    let mut first = node(&world, "A", "Base").await;
    assert!(first.run().await.expect("a run").is_success);
    let mut second = node(&world, "b", "Broken").await;
    assert!(!second.run().await.expect("a run").is_success);
    let told = error(&waiting.run().await.expect("a run"));
    assert!(told.contains("[Cell]base on B is not in the desired state"), "{told}");
    assert!(!told.contains("on a is"), "what is there is not told: {told}");

    // A preview asks once, and tells the same.
    let preview = waiting.preview().await.expect("a preview");
    let differences = &preview.resources[0].differences;
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].property, "[Cell]base on B");

    publish(&server, "Broken", &cells("Broken", &[("base", "2")])).await;
    assert!(second.run().await.expect("a run").is_success);
    let report = waiting.run().await.expect("a run");
    assert!(report.is_success && report.is_compliant, "{report:?}");
    assert_eq!(world.cell.values().get("after").map(String::as_str), Some("1"));
}

#[tokio::test]
async fn some_or_any_of_the_nodes_are_enough() {
    let world = World::new(2);
    let server = world.start_server().await;
    publish(&server, "Base", &cells("Base", &[("base", "1")])).await;
    publish(&server, "Other", &cells("Other", &[("other", "1")])).await;
    let names = "NodeName = {\"a\", \"b\", \"c\"};";
    publish(&server, "Waits", &waits("WaitForAny", names)).await;
    let some = waits("WaitForSome", &format!("{names} NodeCount = 2;"));
    publish(&server, "Some", &some).await;
    let (mut any, mut some) =
        (node(&world, "any", "Waits").await, node(&world, "some", "Some").await);
    // One that says nothing of the resource is no answer.
    node(&world, "c", "Other").await.run().await.expect("a run");
    let told = error(&any.run().await.expect("a run"));
    assert!(told.contains("[Cell]base on c is not reported yet"), "{told}");
    node(&world, "a", "Base").await.run().await.expect("a run");
    assert!(any.run().await.expect("a run").is_success);
    let told = error(&some.run().await.expect("a run"));
    assert!(told.contains("[Cell]base on b is on a node that the server does not know"), "{told}");
    node(&world, "b", "Base").await.run().await.expect("a run");
    assert!(some.run().await.expect("a run").is_success);
    // Of two computers of one name nobody knows which is meant.
    node(&world, "B", "Base").await.run().await.expect("a run");
    let told = error(&some.run().await.expect("a run"));
    assert!(told.contains("[Cell]base on b is on a name that several nodes have"), "{told}");
}

/// A large configuration, of which the server's summary does not list every resource.
#[tokio::test]
async fn a_resource_beyond_the_summary_is_found_in_the_report() {
    let world = World::new(3);
    let server = world.start_server().await;
    let names: Vec<String> = (0..600).map(|index| format!("c{index}")).collect();
    let mut all: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
    all.push(("base", "1"));
    publish(&server, "Base", &cells("Base", &all)).await;
    publish(&server, "Waits", &waits("WaitForAll", "NodeName = \"a\";")).await;
    node(&world, "a", "Base").await.run().await.expect("a run");
    let known = server.nodes().await.expect("nodes")[0].last_report.clone().expect("a report");
    assert!(known.resources.iter().all(|resource| resource.resource_id != "[Cell]base"));
    let report = node(&world, "w", "Waits").await.run().await.expect("a run");
    assert!(report.is_success, "{report:?}");
}

/// Answers with what it has, and counts how often it is asked.
#[derive(Clone, Debug, Default)]
struct Counted {
    direct: Direct,
    asked: Arc<AtomicU64>,
    /// How many of the first are lost.
    lost: u64,
    refused: Option<u16>,
    last: Arc<Mutex<Option<GetResourceStateRequest>>>,
}

#[async_trait]
impl Transport for Counted {
    async fn exchange(&self, request: &Request) -> Result<Reply, Error> {
        if let Operation::GetResourceState { .. } = request.operation {
            let asked = self.asked.fetch_add(1, Ordering::SeqCst);
            let body = serde_json::from_slice(&request.body).expect("JSON");
            *self.last.lock().expect("not poisoned") = Some(body);
            if asked < self.lost {
                let operation = request.operation.name();
                return Err(Error::Unreachable { operation, reason: "lost".into() });
            }
            if let Some(status) = self.refused {
                return Ok(Reply { status, headers: Vec::new(), body: bytes() });
            }
        }
        self.direct.exchange(request).await
    }
}

/// The time of the runtime, which stands still but for sleeps.
#[expect(clippy::disallowed_methods, reason = "it is the runtime's clock that is paused")]
fn paused_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

fn bytes() -> bytes::Bytes {
    bytes::Bytes::new()
}

#[tokio::test(start_paused = true)]
async fn it_is_asked_again_as_often_as_it_may() {
    let world = World::new(4);
    let server = world.start_server().await;
    let retries = "NodeName = \"a\"; RetryIntervalSec = 60; RetryCount = 3;";
    publish(&server, "Waits", &waits("WaitForAll", retries)).await;
    let transport = Counted { direct: world.direct.clone(), ..Counted::default() };
    let mut waiting = through(&world, "w", "Waits", Arc::new(transport.clone())).await;
    let began = paused_now();
    let report = waiting.run().await.expect("a run");
    assert!(error(&report).contains("still different after it was set"), "{}", error(&report));
    // The test, the set and three times more, and the test behind it.
    assert_eq!(transport.asked.load(Ordering::SeqCst), 6);
    assert_eq!(began.elapsed(), Duration::from_secs(180));
    let last = transport.last.lock().expect("not poisoned").clone().expect("asked");
    assert_eq!((&*last.resource_id, &*last.node_names), ("[Cell]base", &["a".to_owned()][..]));

    // One that is there in the meantime ends the wait, also if the server cannot be reached for a while.
    publish(&server, "Base", &cells("Base", &[("base", "1")])).await;
    let agent_id = waiting.record().await.expect("a record").agent_id.expect("it registered");
    let lossy = Counted { direct: world.direct.clone(), lost: 2, ..Counted::default() };
    let wait = WaitForResource::new(Arc::new(lossy.clone()), agent_id);
    let document = waits("WaitForAll", retries);
    let document = Configuration::parse("Waits", document.as_bytes()).expect("valid");
    let mut other = node(&world, "a", "Base").await;
    let later = async {
        tokio::time::sleep(Duration::from_secs(130)).await;
        other.run().await.expect("a run");
    };
    let began = paused_now();
    let (set, ()) = tokio::join!(wait.set(&document.resources[0]), later);
    set.expect("it is there");
    assert_eq!((began.elapsed().as_secs(), lossy.asked.load(Ordering::SeqCst)), (180, 4));
    assert!(!format!("{wait:?}").contains(&agent_id.to_string()));
}

/// Takes its time for each answer.
#[derive(Clone, Debug)]
struct Slow {
    counted: Counted,
    clock: Arc<ManualClock>,
    takes: Duration,
}

#[async_trait]
impl Transport for Slow {
    async fn exchange(&self, request: &Request) -> Result<Reply, Error> {
        self.clock.advance(self.takes);
        self.counted.exchange(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_after_a_day_however_it_passed() {
    let world = World::new(7);
    let server = world.start_server().await;
    publish(&server, "Base", &cells("Base", &[])).await;
    let mut known = node(&world, "a", "Base").await;
    known.run().await.expect("a run");
    let agent_id = known.record().await.expect("a record").agent_id.expect("it registered");
    let document = waits("WaitForAll", "NodeName = \"a\"; RetryCount = 1000;");
    let document = Configuration::parse("Waits", document.as_bytes()).expect("valid");
    // Pauses of a second are not what takes long.
    for (hours, asks) in [(10, 3), (24, 1), (6, 4)] {
        for lost in [0, u64::MAX] {
            let counted = Counted { direct: world.direct.clone(), lost, ..Counted::default() };
            let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
            let takes = Duration::from_secs(hours * 3_600);
            let slow = Slow { counted: counted.clone(), clock: Arc::clone(&clock), takes };
            let wait = WaitForResource::new(Arc::new(slow), agent_id).clock(clock);
            let set = wait.set(&document.resources[0]).await;
            assert_eq!(counted.asked.load(Ordering::SeqCst), asks, "{hours} hours");
            // That nobody answered is told; what is missing the test behind it tells.
            assert_eq!(set.is_err(), lost > 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_offer_it_is_told_by_name_and_at_once() {
    let world = World::new(5);
    world.start_server().await;
    let document = waits("WaitForAll", "NodeName = \"a\"; RetryCount = 100;");
    let document = Configuration::parse("Waits", document.as_bytes()).expect("valid");
    for status in [404, 405, 501] {
        let refused = Some(status);
        let transport = Counted { direct: world.direct.clone(), refused, ..Counted::default() };
        let wait = WaitForResource::new(Arc::new(transport.clone()), agent_id(1));
        let error = wait.set(&document.resources[0]).await.expect_err("not offered").to_string();
        let why = "operation of this pull server is not supported. name=`GetResourceState, without";
        assert!(error.contains(why), "{error}");
        assert_eq!(transport.asked.load(Ordering::SeqCst), 1);
    }
    // Asking again mends none of these.
    for status in [401, 403, 413] {
        let refused = Some(status);
        let transport = Counted { direct: world.direct.clone(), refused, ..Counted::default() };
        let wait = WaitForResource::new(Arc::new(transport.clone()), agent_id(1));
        let error = wait.set(&document.resources[0]).await.expect_err("refused").to_string();
        assert!(error.contains(&format!("status=`{status}`")), "{error}");
        assert_eq!(transport.asked.load(Ordering::SeqCst), 1);
    }
    // Only registered nodes are told.
    let stranger = WaitForResource::new(Arc::new(world.direct.clone()), agent_id(2));
    let error = stranger.test(&document.resources[0]).await.expect_err("a stranger").to_string();
    assert!(error.contains("status=`401`"), "{error}");
}

fn agent_id(number: u128) -> AgentId {
    AgentId(uuid::Uuid::from_u128(number))
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_refused_by_name() {
    let world = World::new(6);
    let server = world.start_server().await;
    let wait = WaitForResource::new(Arc::new(world.direct.clone()), agent_id(1));
    let many: Vec<String> = (0..=NODE_NAMES_MAX).map(|index| format!("\"n{index}\"")).collect();
    let many = format!("NodeName = {{{}}};", many.join(","));
    for (class, properties, why) in [
        ("WaitForAll", "", "[Wait]w has NodeName: neither a name nor names"),
        ("WaitForAll", "NodeName = {};", "[Wait]w has NodeName"),
        ("WaitForAll", "NodeName = {1};", "[Wait]w has NodeName"),
        ("WaitForAll", &many, "[Wait]w has NodeName"),
        ("WaitForAll", "NodeName = \"a\"; NodeCount = 1;", "only WaitForSome has one"),
        ("WaitForSome", "NodeName = \"a\";", "[Wait]w has NodeCount: missing"),
        (
            "WaitForSome",
            "NodeName = \"a\"; NodeCount = 2;",
            "not a number from 1 to that of the nodes",
        ),
        (
            "WaitForSome",
            "NodeName = \"a\"; NodeCount = 0;",
            "not a number from 1 to that of the nodes",
        ),
        ("WaitForAny", "NodeName = \"a\"; RetryCount = \"x\";", "[Wait]w has RetryCount: a string"),
        (
            "WaitForAny",
            "NodeName = \"a\"; RetryCount = 1441; RetryIntervalSec = 60;",
            "more than a day",
        ),
        ("WaitForAny", "NodeName = \"a\"; Other = 1;", "name=`Other of [Wait]w`"),
    ] {
        let document = waits(class, properties);
        let document = Configuration::parse("Waits", document.as_bytes()).expect("valid");
        let error = wait.test(&document.resources[0]).await.expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
    let named = waits("WaitForAll", "NodeName = \"a\";").replace("[Cell]base", "base");
    let named = Configuration::parse("Waits", named.as_bytes()).expect("valid");
    let error = wait.test(&named.resources[0]).await.expect_err("no id").to_string();
    assert!(error.contains("not an id such as [File]motd"), "{error}");

    // The server bounds what it is asked too.
    publish(&server, "Base", &cells("Base", &[])).await;
    let mut known = node(&world, "a", "Base").await;
    known.run().await.expect("a run");
    let agent_id = known.record().await.expect("a record").agent_id.expect("it registered");
    let node_names = (0..=NODE_NAMES_MAX).map(|index| index.to_string()).collect();
    let asked = GetResourceStateRequest { resource_id: "[Cell]base".into(), node_names };
    for (body, status) in [(serde_json::to_vec(&asked).expect("JSON"), 413), (b"{".to_vec(), 400)] {
        let request = Request::new(Operation::GetResourceState { agent_id }, body);
        assert_eq!(server.answer(request).await.status, status);
    }
}
