//! What a local configuration manager does when: kinds of runs, restarts, partial configurations, a
//! preview, and what it reports of a change.

use crate::support::{Cell, World, cells};
use async_trait::async_trait;
use oms_core::journal::Journal;
use oms_core::{Clock, Entropy, ErrorKind};
use oms_dsc::configuration::ResourceInstance;
use oms_dsc::node::{
    ActionAfterReboot, ConfigurationMode, Host, LcmState, Metaconfiguration, PartialConfiguration,
    REBOOTS_MAX, ResourceOutcome, RunKind, RunReport,
};
use oms_dsc::resource::{Difference, Registry, Resource, SetReport};
use oms_dsc::{Error, Lcm};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A cell whose set asks for a restart if its value says so: `reboot 2` is kept after one restart,
/// `reboot always` never comes to be.
#[derive(Clone, Debug, Default)]
struct Booted {
    cell: Cell,
    starts: Arc<AtomicU64>,
    is_stuck: Arc<AtomicBool>,
}

#[async_trait]
impl Host for Booted {
    fn boot_id(&self) -> Result<String, Error> {
        Ok(format!("start {}", self.starts.load(Ordering::SeqCst)))
    }

    async fn restart(&self) -> Result<(), Error> {
        if self.is_stuck.load(Ordering::SeqCst) {
            return Err(Error::Unsupported { what: "operation", name: "restart".into() });
        }
        self.starts.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[async_trait]
impl Resource for Booted {
    fn classes(&self) -> &[&str] {
        &["Test_Cell"]
    }

    async fn get(
        &self,
        instance: &ResourceInstance,
    ) -> Result<BTreeMap<String, serde_json::Value>, Error> {
        self.cell.get(instance).await
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.cell.test(instance).await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        let value = format!("{:?}", instance.property("Value"));
        if value.contains("always") {
            return Ok(SetReport { reboot_required: true });
        }
        self.cell.set(instance).await?;
        Ok(SetReport { reboot_required: value.contains("reboot") })
    }
}

async fn open(world: &World, settings: Metaconfiguration, host: &Booted) -> Lcm {
    Lcm::builder("unused", settings)
        .disk(Arc::new(world.node_disk.clone()))
        .journal(Arc::clone(&world.node_journal) as Arc<dyn Journal>)
        .transport(Arc::new(world.direct.clone()))
        .clock(Arc::clone(&world.clock) as Arc<dyn Clock>)
        .entropy(Arc::clone(&world.entropy) as Arc<dyn Entropy>)
        .resources(Registry::new().with(Arc::new(host.clone())))
        .host(Arc::new(host.clone()))
        .build()
        .await
        .expect("the node opens")
}

fn outcomes(run: &RunReport) -> Vec<(&str, ResourceOutcome)> {
    run.resources.iter().map(|status| (&*status.instance_name, status.outcome)).collect()
}

fn drift(world: &World, value: &str) {
    world.cell.0.lock().expect("not poisoned").insert("a".into(), value.into());
}

#[tokio::test]
async fn each_kind_of_run_does_its_part() {
    let world = World::new(31);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    let mut node = world.start_node(&["Web"]).await;
    // Whatever it is for, the first one registers and applies.
    assert!(node.run_as(RunKind::Consistency).await.expect("a run").is_new);
    let agent_id = node.record().await.expect("a record").agent_id.expect("an id");
    let reports = async || server.reports(agent_id).await.expect("reports").len();
    assert_eq!(reports().await, 1);

    // A refresh looks at nothing that is not new, and has nothing to report then.
    drift(&world, "drifted");
    let run = node.run_as(RunKind::Refresh).await.expect("a run");
    assert!(run.is_success && run.resources.is_empty() && !run.is_new, "{run:?}");
    assert_eq!((world.cell.values()["a"].as_str(), reports().await), ("drifted", 1));

    // A check corrects, and knows nothing of what is new on the server.
    server.publish("Web", cells("Web", &[("a", "2")]).as_bytes()).await.expect("published");
    world.stop_server();
    let run = node.run_as(RunKind::Consistency).await.expect("a run");
    assert!(run.is_compliant && run.errors.is_empty(), "{run:?}");
    assert_eq!(world.cell.values()["a"], "1");

    // Only a refresh says that the server is away.
    let run = node.run_as(RunKind::Refresh).await.expect("a run");
    assert!(run.is_success && run.errors[0].contains("the server is down"), "{run:?}");
    let server = world.start_server().await;
    let run = node.run_as(RunKind::Refresh).await.expect("a run");
    assert!(run.is_new && run.is_compliant, "{run:?}");
    assert_eq!(world.cell.values()["a"], "2");
    let kinds: Vec<_> = server.reports(agent_id).await.expect("reports");
    let kinds: Vec<_> = kinds.iter().map(|report| report.operation_type.as_deref()).collect();
    assert_eq!(kinds.len(), 4, "{kinds:?}");
}

#[tokio::test]
async fn a_report_tells_what_was_before_and_after() {
    let world = World::new(32);
    let server = world.start_server().await;
    let long = "y".repeat(2_000);
    let text = cells("Web", &[("a", "1"), ("b", &long)]);
    server.publish("Web", text.as_bytes()).await.expect("published");
    let mut node = world.start_node(&["Web"]).await;
    node.run().await.expect("a run");
    drift(&world, "0");
    world.clock.advance(std::time::Duration::from_secs(60));
    let run = node.run().await.expect("a run");
    let agent_id = node.record().await.expect("a record").agent_id.expect("an id");
    let report = server.report(agent_id, run.job_id).await.expect("a report");
    let data: serde_json::Value =
        serde_json::from_str(&report.status_data.expect("data").concat()).expect("JSON");
    let row = &data["ResourcesInDesiredState"][0];
    assert_eq!(row["ResourceId"], "[Cell]a");
    assert_eq!(row["Differences"], "Value is 0, desired is 1");
    let change =
        serde_json::json!({"Property": "Value", "Before": "0", "Desired": "1", "After": "1"});
    assert_eq!(row["Changes"], serde_json::json!([change]));
    assert_eq!(data["ResourcesInDesiredState"][1]["Changes"], serde_json::Value::Null);

    // What is long is cut, where the run says that it is.
    world.cell.0.lock().expect("not poisoned").remove("b");
    let run = node.run().await.expect("a run");
    let report = server.report(agent_id, run.job_id).await.expect("a report");
    let data = report.status_data.expect("data").concat();
    assert!(data.contains(&format!("{}…", &long[..500])) && !data.contains(&long[..501]));
}

#[tokio::test]
async fn a_restart_is_asked_for_and_the_rest_done_after_it() {
    let world = World::new(33);
    let server = world.start_server().await;
    let text = cells("Web", &[("a", "1"), ("b", "reboot"), ("c", "3")]);
    server.publish("Web", text.as_bytes()).await.expect("published");
    let host = Booted { cell: world.cell.clone(), ..Booted::default() };
    let mut node = open(&world, world.settings(&["Web"]), &host).await;
    use ResourceOutcome::{Corrected, InDesiredState, RebootPending, Skipped};

    let run = node.run().await.expect("a run");
    assert_eq!(outcomes(&run), [("a", Corrected), ("b", RebootPending), ("c", Skipped)]);
    assert!(run.reboot_requested && run.is_success && !run.is_compliant, "{run:?}");
    let why = run.resources[2].error.as_deref();
    assert_eq!(why, Some("the computer has to restart first, for [Cell]b"));
    assert_eq!(host.starts.load(Ordering::SeqCst), 0, "nobody allowed a restart");
    let record = node.record().await.expect("a record");
    assert_eq!(record.state, LcmState::PendingReboot);
    let agent_id = record.agent_id.expect("an id");
    let report = server.report(agent_id, run.job_id).await.expect("a report");
    assert_eq!(report.reboot_requested.as_deref(), Some("True"));

    // As long as it has not restarted, it waits: also a node whose process ended.
    drop(node);
    world.node_disk.crash(&*world.entropy);
    let mut node = open(&world, world.settings(&["Web"]), &host).await;
    let run = node.run().await.expect("a run");
    assert!(run.resources.is_empty() && run.reboot_requested && !run.is_compliant, "{run:?}");
    assert_eq!(run.errors, ["the computer has yet to restart"]);
    assert!(!world.cell.values().contains_key("c"));

    host.restart().await.expect("restarts");
    let run = node.run_as(RunKind::Consistency).await.expect("a run");
    assert_eq!(outcomes(&run), [("a", InDesiredState), ("b", InDesiredState), ("c", Corrected)]);
    assert!(run.is_compliant && !run.reboot_requested, "{run:?}");
    let report = server.report(agent_id, run.job_id).await.expect("a report");
    assert_eq!(report.operation_type.as_deref(), Some("Reboot"));
    let record = node.record().await.expect("a record");
    assert_eq!((record.state, record.reboots), (LcmState::Idle, 0));
    assert_eq!(record.current, run.configurations);

    // Drift whose correction asks for a restart is gone on with too, and leaves no second version.
    world.cell.0.lock().expect("not poisoned").clear();
    let previous = record.previous;
    assert!(node.run().await.expect("a run").reboot_requested);
    host.restart().await.expect("restarts");
    assert!(node.run().await.expect("a run").is_compliant);
    let record = node.record().await.expect("a record");
    assert_eq!((record.current, record.previous), (run.configurations, previous));
}

#[tokio::test]
async fn restarts_are_done_stopped_after_and_bounded_as_the_settings_say() {
    let world = World::new(34);
    let server = world.start_server().await;
    let text = cells("Web", &[("b", "reboot"), ("c", "3")]);
    server.publish("Web", text.as_bytes()).await.expect("published");
    let host = Booted { cell: world.cell.clone(), ..Booted::default() };
    let mut settings = world.settings(&["Web"]);
    settings.reboot_node_if_needed = true;
    settings.action_after_reboot = ActionAfterReboot::StopConfiguration;
    let mut node = open(&world, settings, &host).await;
    assert!(node.run().await.expect("a run").reboot_requested);
    assert_eq!(host.starts.load(Ordering::SeqCst), 1, "it restarted itself");
    let run = node.run().await.expect("a run");
    assert_eq!(run.errors, ["the computer has restarted; the next run goes on"]);
    assert!(!run.is_compliant && !run.reboot_requested && run.resources.is_empty());
    assert!(node.run().await.expect("a run").is_compliant);

    // One that never has enough of it comes to an end.
    server.publish("Web", cells("Web", &[("b", "always")]).as_bytes()).await.expect("published");
    let mut settings = world.settings(&["Web"]);
    settings.reboot_node_if_needed = true;
    let mut node = open(&world, settings.clone(), &host).await;
    let before = host.starts.load(Ordering::SeqCst);
    for _ in 0..REBOOTS_MAX {
        assert!(node.run().await.expect("a run").is_success);
    }
    let run = node.run().await.expect("a run");
    assert!(!run.is_success && run.errors[0].contains("8 restarts in a row"), "{run:?}");
    let starts = host.starts.load(Ordering::SeqCst) - before;
    assert_eq!(starts, u64::from(REBOOTS_MAX));
    assert!(!node.run().await.expect("a run").is_success, "it does not begin anew by itself");
    // A new configuration is one to restart for again.
    server.publish("Web", cells("Web", &[("b", "2")]).as_bytes()).await.expect("published");
    host.restart().await.expect("restarts");
    assert!(node.run().await.expect("a run").is_compliant);

    // A computer that cannot be restarted is told of.
    server.publish("Web", cells("Web", &[("b", "reboot")]).as_bytes()).await.expect("published");
    host.is_stuck.store(true, Ordering::SeqCst);
    let run = node.run().await.expect("a run");
    assert!(!run.is_success && run.errors[0].contains("restart"), "{run:?}");
}

#[tokio::test]
async fn partial_configurations_have_an_order_and_resources_of_their_own() {
    let world = World::new(35);
    let server = world.start_server().await;
    let publish = async |name: &str, list: &[(&str, &str)]| {
        server.publish(name, cells(name, list).as_bytes()).await.expect("published");
    };
    publish("A-web", &[("w", "1")]).await;
    publish("Z-base", &[("b", "impossible"), ("c", "1")]).await;
    publish("M-other", &[("m", "1")]).await;
    let mut settings = world.settings(&["A-web", "Z-base", "M-other"]);
    settings.partial_configurations = vec![
        PartialConfiguration {
            name: "A-WEB".into(),
            depends_on: vec!["z-base".into()],
            ..PartialConfiguration::default()
        },
        PartialConfiguration { name: "Z-base".into(), ..PartialConfiguration::default() },
    ];
    let transport = Arc::new(world.direct.clone());
    let mut node = world.open_node(settings.clone(), transport).await.expect("opens");
    use ResourceOutcome::{Corrected, Failed, Skipped};
    let run = node.run().await.expect("a run");
    assert_eq!(outcomes(&run), [("m", Corrected), ("b", Failed), ("c", Corrected), ("w", Skipped)]);
    let why = run.resources[3].error.as_deref();
    let expected = "its configuration depends on `Z-base`, of which not all was done";
    assert_eq!(why, Some(expected));
    publish("Z-base", &[("b", "1"), ("c", "1")]).await;
    let run = node.run().await.expect("a run");
    assert!(run.is_compliant, "{run:?}");

    // What is one's alone keeps the others' documents out, and what there was stays.
    settings.partial_configurations[1].exclusive_resources = vec!["Cell".into()];
    publish("M-other", &[("m", "2")]).await;
    let transport = Arc::new(world.direct.clone());
    let mut node = world.open_node(settings.clone(), transport).await.expect("opens");
    let run = node.run().await.expect("a run");
    let expected = "`M-other` has [Cell]m, and resources of that type are for `Z-base` alone";
    assert!(!run.is_success && run.errors[0].contains(expected), "{run:?}");
    assert!(!run.is_new && !run.is_applied, "what is refused is not taken over");
    assert_eq!(world.cell.values()["m"], "1");
    // A type of a module that these resources are not of.
    settings.partial_configurations[1].exclusive_resources =
        vec![r"nx\*".into(), r"nx\Cell".into()];
    let transport = Arc::new(world.direct.clone());
    let mut node = world.open_node(settings, transport).await.expect("opens");
    assert!(node.run().await.expect("a run").is_compliant);
    assert_eq!(world.cell.values()["m"], "2");
}

/// The server gives a node one part without the one that it depends on.
#[tokio::test]
async fn a_part_without_what_it_depends_on_is_skipped() {
    let world = World::new(37);
    let server = world.start_server().await;
    for (name, cell) in [("Web", "w"), ("Base", "b"), ("More", "m")] {
        let text = cells(name, &[(cell, "1")]);
        server.publish(name, text.as_bytes()).await.expect("published");
    }
    let partial = |name: &str, on: &[&str]| PartialConfiguration {
        name: name.into(),
        depends_on: on.iter().map(|on| (*on).to_owned()).collect(),
        ..PartialConfiguration::default()
    };
    let mut settings = world.settings(&[]);
    settings.partial_configurations =
        vec![partial("Base", &[]), partial("Web", &["base"]), partial("More", &["Web"])];
    let transport = Arc::new(world.direct.clone());
    let mut node = world.open_node(settings, transport).await.expect("opens");
    node.run().await.expect("a run");
    let agent_id = node.record().await.expect("a record").agent_id.expect("an id");
    server.assign(agent_id, &["Web", "More"]).await.expect("assigned");
    use ResourceOutcome::{Corrected, Skipped};
    let run = node.run().await.expect("a run");
    assert_eq!(outcomes(&run), [("w", Skipped), ("m", Skipped)]);
    assert!(!run.is_success && world.cell.values().is_empty(), "{run:?}");
    let why = run.resources[0].error.as_deref();
    assert_eq!(why, Some("its configuration depends on `base`, which is not there"));
    server.assign(agent_id, &["Web", "More", "Base"]).await.expect("assigned");
    let run = node.run().await.expect("a run");
    assert_eq!(outcomes(&run), [("b", Corrected), ("w", Corrected), ("m", Corrected)]);
    assert!(run.is_success && run.is_compliant, "{run:?}");
}

#[tokio::test]
async fn a_preview_tells_what_would_be_and_changes_nothing() {
    let world = World::new(36);
    let server = world.start_server().await;
    server.publish("Web", cells("Web", &[("a", "1")]).as_bytes()).await.expect("published");
    let mut node = world.start_node(&["Web"]).await;
    let refused = node.preview().await.expect_err("it has not registered");
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    assert!(server.nodes().await.expect("nodes").is_empty(), "nor does a preview");
    assert!(node.run().await.expect("a run").is_success);

    let text = cells("Web", &[("a", "2"), ("b", "1")]);
    server.publish("Web", text.as_bytes()).await.expect("published");
    let record = node.record().await.expect("a record");
    let events = world.node_journal.read_all(0, 100).await.expect("events").len();
    let run = node.preview().await.expect("a preview");
    use ResourceOutcome::Different;
    assert_eq!(outcomes(&run), [("a", Different), ("b", Different)]);
    assert!(run.is_new && !run.is_applied && !run.is_compliant, "{run:?}");
    assert_eq!(run.resources[0].differences[0], Difference::new("Value", "1", "2"));
    assert_eq!(node.record().await.expect("a record"), record);
    assert_eq!(world.node_journal.read_all(0, 100).await.expect("events").len(), events);
    assert_eq!(world.cell.values()["a"], "1");
    assert_eq!(node.reports_waiting().await.expect("a number"), 0);
    let agent_id = record.agent_id.expect("an id");
    assert_eq!(server.reports(agent_id).await.expect("reports").len(), 1);

    // It is no way around a server that forgot the node.
    server.remove_node(agent_id).await.expect("removed");
    assert_eq!(node.preview().await.expect_err("unknown").kind(), ErrorKind::NotFound);
    assert!(server.nodes().await.expect("nodes").is_empty());
}

#[tokio::test]
async fn modes_are_chosen_by_their_spelling() {
    for mode in ConfigurationMode::ALL {
        assert_eq!(ConfigurationMode::parse(&mode.as_str().to_uppercase()), Some(mode));
    }
    assert_eq!(ConfigurationMode::parse("ApplyAlways"), None);
}
